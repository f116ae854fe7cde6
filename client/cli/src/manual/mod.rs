//! What the program says about itself outside of a session: completions for shells, its manual page, and docs/CLI.md. All come from
//! the same tables as help: the options of [`Args`], the commands, and the chapters here.

mod chapters;
// Only its own test writes it.
#[cfg(test)]
mod markdown;
mod page;

use crate::args::{self, Args};
use crate::console;
use crate::exit::Exit;
use crate::written;
use clap::{Arg, ValueEnum};
use clap_complete::Shell;
use std::fs;
use std::path::Path;

/// The file of the manual page.
const PAGE: &str = "kvorum-cli.1";

/// Does what `completions SHELL` and `man DIR` ask for; `None` if neither is asked for.
///
/// # Errors
/// What is wrong with the words behind it.
pub(crate) fn write(args: &Args) -> Option<Result<Exit, String>> {
    if let Some(shell) = args.completions {
        return Some(Ok(complete(shell)));
    }
    let words: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
    let (name, rest) = words.split_first()?;
    match (name.to_ascii_lowercase().as_str(), rest) {
        ("completions", [shell]) => {
            let known = || Shell::value_variants().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let unknown = || format!("there is no shell {shell}; there are {}", known());
            Some(Shell::from_str(shell, true).map(complete).map_err(|_| unknown()))
        }
        ("completions", _) => Some(Err("completions takes one shell: kvorum-cli completions bash".to_owned())),
        ("man", [folder]) => {
            Some(write_page(Path::new(&args.command[1])).map_err(|problem| format!("{folder}: {problem}")))
        }
        ("man", _) => Some(Err("man takes one folder: kvorum-cli man /usr/local/share/man/man1".to_owned())),
        _ => None,
    }
}

fn complete(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::for_completion(), "kvorum-cli", &mut script);
    written(console::print(&script))
}

fn write_page(folder: &Path) -> std::io::Result<Exit> {
    fs::create_dir_all(folder)?;
    let file = folder.join(PAGE);
    fs::write(&file, page::page()?)?;
    Ok(written(console::print(format!("{}\n", file.display()).as_bytes())))
}

/// How an option is typed: its short and long name, and what follows.
fn usage(option: &Arg) -> String {
    let names =
        [option.get_short().map(|short| format!("-{short}")), option.get_long().map(|long| format!("--{long}"))];
    let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let value = option.get_action().takes_values().then(|| option.get_value_names()).flatten();
    value.iter().flat_map(|names| names.iter()).fold(names, |usage, name| format!("{usage} {name}"))
}

/// What an option means, with its default.
fn help(option: &Arg) -> String {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    let help = if help.ends_with('.') { help } else { help + "." };
    let has_default = option.get_action().takes_values() && !option.get_default_values().is_empty();
    let default: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if has_default { format!("{help} By default {}.", default.join(", ")) } else { help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_program_says() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CLI.md");
        let text = markdown::document();
        if std::env::var_os("KVORUM_BLESS").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, expected, "docs/CLI.md is written by KVORUM_BLESS=1 cargo test -p kvorum-cli the_document");
    }

    #[test]
    fn the_page_has_every_option_and_command() {
        let text = String::from_utf8(page::page().unwrap()).unwrap();
        let plain = text.replace("\\-", "-");
        for option in <Args as clap::CommandFactory>::command().get_arguments().filter(|option| !option.is_hide_set()) {
            let Some(long) = option.get_long() else { continue };
            assert!(plain.contains(&format!("--{long}")), "{long}");
        }
        for command in crate::commands::COMMANDS {
            assert!(plain.contains(command.help), "{}", command.name);
        }
        for heading in ["NAME", "SYNOPSIS", "OPTIONS", "COMMANDS", "\"EXIT CODES\"", "ENVIRONMENT", "EXAMPLES"] {
            assert!(text.contains(&format!(".SH {heading}")), "{heading}");
        }
    }
}
