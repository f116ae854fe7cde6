//! docs/CLI.md. Pure.

use super::chapters::{self, Part};
use super::{help, usage};
use crate::args::Args;
use clap::CommandFactory;
use std::fmt::Write as _;

const HEAD: &str = "# The command line\n\n\
    `kvorum-cli [OPTIONS] [COMMAND [ARGUMENT]...]` talks to a cluster: one command, a script, a bulk load, or a shell. This page is \
    written by the program's own tables, and a test compares the two; `kvorum-cli man DIR` has the same as a manual page.\n\n\
    ## Options\n\nLong options may also stand behind the command and its arguments, up to a `--`.\n\n";

/// The whole document.
pub(super) fn document() -> String {
    let mut out = HEAD.to_owned();
    out += "| option | meaning |\n|---|---|\n";
    for option in Args::command().get_arguments().filter(|option| !option.is_hide_set() && !option.is_positional()) {
        writeln!(out, "| `{}` | {} |", usage(option), cell(&help(option))).expect("writing to a string can't fail");
    }
    for chapter in chapters::all() {
        write!(out, "\n## {}\n", chapter.title).expect("writing to a string can't fail");
        chapter.parts.iter().for_each(|part| add(&mut out, part));
    }
    out
}

fn add(out: &mut String, part: &Part) {
    out.push('\n');
    match part {
        Part::Text(text) => *out += &format!("{}\n", filled(&escaped(text))),
        Part::Heading(title) => *out += &format!("### {title}\n"),
        Part::Code(code) => *out += &format!("```sh\n{code}\n```\n"),
        Part::Terms(terms) => {
            *out += "| | |\n|---|---|\n";
            for (term, meaning) in terms {
                *out += &format!("| `{}` | {} |\n", term.replace('|', "\\|"), cell(meaning));
            }
        }
    }
}

fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|")
}

/// Text that Markdown leaves as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '*' | '_' | '<' | '>' | '#' | '`') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Lines of at most 120 columns.
fn filled(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 120 => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
