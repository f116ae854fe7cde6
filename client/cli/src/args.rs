//! The command line's own options.

use crate::commands::{self, CLUSTER_VIEWS, COMMANDS, Verb};
use crate::output::Format;
use clap::{Command, CommandFactory, Parser, ValueEnum};
use kvorum_client::Ack;
use kvorum_client::URL_DEFAULT;
use kvorum_client::limits::IN_FLIGHT_DEFAULT;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;

/// Talk to a Kvorum cluster.
///
/// With a COMMAND it runs that; without one it reads commands: from you, if stdin is a terminal, else line by line.
#[derive(Parser, Debug)]
#[command(
    name = "kvorum-cli",
    version,
    after_help = "Long options may also stand behind the COMMAND and its arguments, up to a --.\n\
                  kvorum-cli HELP lists the commands. Exit codes: 0 ok, 1 error of the cluster, or the output can't be \
                  written, 2 usage, 3 unreachable, 4 not found or another version."
)]
pub(crate) struct Args {
    /// The cluster; one address that answers is enough.
    #[arg(short, long, env = "KVORUM_URL", default_value = URL_DEFAULT, value_name = "URL")]
    pub(crate) url: String,
    /// Who you are. The password comes from --password-file or KVORUM_PASSWORD, or is asked for.
    #[arg(long, env = "KVORUM_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The file that holds your password.
    #[arg(long, env = "KVORUM_PASSWORD_FILE", value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<String>,
    /// The file that holds your token, if you have one instead; or KVORUM_TOKEN is it.
    #[arg(long, env = "KVORUM_TOKEN_FILE", value_name = "FILE", conflicts_with = "user")]
    pub(crate) token_file: Option<String>,
    /// Speak TLS, as with an address that begins with kvs://.
    #[arg(long, env = "KVORUM_TLS")]
    pub(crate) tls: bool,
    /// The file with the cluster's authority: TLS is spoken, with nodes that it has signed.
    #[arg(long, env = "KVORUM_CA", value_name = "FILE")]
    pub(crate) ca: Option<String>,
    /// The file with your certificate, if you have one: you are whom it names.
    #[arg(long, env = "KVORUM_CERT", value_name = "FILE", requires_all = ["ca", "key"])]
    pub(crate) cert: Option<String>,
    /// The file with the key of that certificate.
    #[arg(long, env = "KVORUM_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<String>,
    /// The name that nodes' certificates must have; by default that of the host, or that of any node.
    #[arg(long, env = "KVORUM_SERVER_NAME", value_name = "NAME", requires = "ca")]
    pub(crate) server_name: Option<String>,
    /// Print JSON, an object per line; bytes that are not UTF-8 go by key_base64, value_base64, previous_base64.
    #[arg(long, group = "format")]
    pub(crate) json: bool,
    /// Print CSV with a header; key_encoding, value_encoding and previous_encoding say utf8 or base64.
    #[arg(long, group = "format")]
    pub(crate) csv: bool,
    /// Print values as they are, as is done when stdout is no terminal.
    #[arg(long, group = "format")]
    pub(crate) raw: bool,
    /// How long a command may take as a whole (of a SCAN, each page), in milliseconds.
    #[arg(long, default_value_t = 5000, value_name = "MS", value_parser = parse_timeout)]
    pub(crate) timeout: u32,
    /// When a write is answered.
    #[arg(long, value_enum, default_value_t = AckArg::Committed)]
    pub(crate) ack: AckArg,
    /// Read whatever some replica holds; may be old.
    #[arg(long)]
    pub(crate) stale: bool,
    /// Read the command's last argument from stdin.
    #[arg(short = 'x')]
    pub(crate) last_from_stdin: bool,
    /// Run the command so many times.
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = parse_repeat)]
    pub(crate) repeat: u64,
    /// Wait so many seconds between two runs; may be a fraction.
    #[arg(short, long, default_value_t = 0.0, value_name = "S", value_parser = parse_interval)]
    pub(crate) interval: f64,
    /// Run so many commands of a script on stdin at once. Those on one key keep their order, and so does the output.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_pipeline)]
    pub(crate) pipeline: usize,
    /// Answer yes to whatever would be asked.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Show the keys that are asked for most: the same as CLUSTER HOTKEYS.
    #[arg(long)]
    pub(crate) hotkeys: bool,
    /// Print a script that teaches a shell to complete options and commands.
    #[arg(long, value_enum, value_name = "SHELL")]
    pub(crate) completions: Option<clap_complete::Shell>,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum AckArg {
    /// Once a quorum has persisted it.
    Committed,
    /// Once the leader has it in its log; may be lost.
    Accepted,
}

impl From<AckArg> for Ack {
    fn from(ack: AckArg) -> Self {
        match ack {
            AckArg::Committed => Self::Committed,
            AckArg::Accepted => Self::Accepted,
        }
    }
}

impl Args {
    /// Understands the process's arguments, the program's name first.
    ///
    /// # Errors
    /// What clap says, help included.
    pub(crate) fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let args = Self::try_parse_from(&arguments)?;
        let (front, command) = arguments.split_at(arguments.len() - args.command.len());
        let is_closed = front.last().is_some_and(|last| last == OPTIONS_END);
        let (command, options) = split_options(command, args.last_from_stdin);
        if is_closed || (options.is_empty() && command.len() == args.command.len()) {
            return Ok(args);
        }
        Self::try_parse_from([front, &options, &[OPTIONS_END.into()], &command].concat())
    }

    /// The format that was asked for, or the one that fits where the output goes.
    pub(crate) fn format(&self, stdout_is_terminal: bool) -> Format {
        match (self.json, self.csv, self.raw) {
            (true, ..) => Format::Json,
            (_, true, _) => Format::Csv,
            (_, _, true) => Format::Raw,
            _ if stdout_is_terminal => Format::Human,
            _ => Format::Raw,
        }
    }
}

/// What stands behind it is no option.
const OPTIONS_END: &str = "--";

/// Takes the long options out of a command's words. Arguments that must be there are what they are, whatever they look like: no
/// key or value of a script becomes an option by chance.
fn split_options(words: &[OsString], last_from_stdin: bool) -> (Vec<OsString>, Vec<OsString>) {
    let spec = words.first().and_then(|name| name.to_str()).and_then(commands::find);
    let Some(spec) = spec else { return (words.to_vec(), Vec::new()) };
    let arguments = spec.arguments_min().saturating_sub(usize::from(last_from_stdin));
    let (kept, rest) = words.split_at(words.len().min(1 + arguments));
    let mut program = Args::command();
    program.build();
    let (mut command, mut options) = (kept.to_vec(), Vec::new());
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == OPTIONS_END {
            command.extend(rest.by_ref().cloned());
            break;
        }
        match option(&program, word) {
            None => command.push(word.clone()),
            Some(wants_value) => {
                options.push(word.clone());
                options.extend(rest.by_ref().take(usize::from(wants_value)).cloned());
            }
        }
    }
    (command, options)
}

/// Whether a word is a long option of the program, and if so, whether its value is the next word.
fn option(program: &Command, word: &OsStr) -> Option<bool> {
    let name = word.to_str()?.strip_prefix("--")?;
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    let found = program.get_arguments().find(|argument| argument.get_long() == Some(name))?;
    Some(found.get_action().takes_values() && value.is_none())
}

/// The program as shells should complete it: with its commands, which in truth are arguments.
pub(crate) fn for_completion() -> Command {
    let program = Args::command();
    let options: Vec<_> = program.get_arguments().filter(|argument| argument.get_id() != "command").cloned().collect();
    let name = |name: &'static str, help: &'static str| Command::new(name).about(help);
    let all = || COMMANDS.iter().map(|spec| name(spec.name, spec.help));
    let command = |spec: &commands::CommandSpec| {
        let command = name(spec.name, spec.help);
        match spec.verb {
            Verb::Cluster => command.subcommands(CLUSTER_VIEWS.iter().map(|(view, help)| name(view, help))),
            Verb::Help => command.subcommands(all()),
            _ => command,
        }
        .disable_help_subcommand(true)
        .disable_help_flag(true)
    };
    Command::new("kvorum-cli")
        .version(env!("CARGO_PKG_VERSION"))
        .args(options.into_iter().map(|option| option.global(true)))
        .subcommands(COMMANDS.iter().map(command))
        .disable_help_subcommand(true)
}

fn parse_timeout(text: &str) -> Result<u32, String> {
    whole(text, 1..=600_000)
}

fn parse_repeat(text: &str) -> Result<u64, String> {
    whole(text, 1..=u64::MAX)
}

fn parse_pipeline(text: &str) -> Result<usize, String> {
    whole(text, 1..=IN_FLIGHT_DEFAULT as u64)
}

fn whole<N: TryFrom<u64>>(text: &str, allowed: RangeInclusive<u64>) -> Result<N, String> {
    let number =
        text.parse().ok().filter(|number| allowed.contains(number)).and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number from {} to {}", allowed.start(), allowed.end()))
}

fn parse_interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be from 0 to 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::parse_all(["kvorum-cli"].into_iter().chain(line.split(' ')).map(OsString::from))
    }

    #[test]
    fn the_options_are_consistent() {
        Args::command().debug_assert();
        for_completion().debug_assert();
    }

    #[test]
    fn options_may_stand_on_both_sides_of_a_command() {
        let args = parsed("--json INCR k -5 --stale --timeout 70").unwrap();
        assert_eq!(args.command, ["INCR", "k", "-5"]);
        assert!(args.json && args.stale);
        assert_eq!((args.timeout, args.format(true)), (70, Format::Json));
        let args = parsed("SCAN --csv user: --url=kv://a LIMIT 3").unwrap();
        assert_eq!((args.csv, args.url.as_str()), (true, "kv://a"));
        assert_eq!(args.command, ["SCAN", "user:", "LIMIT", "3"]);
        assert_eq!(parsed("MGET a --json b").unwrap().command, ["MGET", "a", "b"]);
        assert_eq!(parsed("-x PUT k --json").unwrap().command, ["PUT", "k"]);
    }

    #[test]
    fn a_key_or_value_that_looks_like_an_option_is_none() {
        for (line, command) in [
            ("PUT k --json", "PUT k --json"),
            ("GET --timeout", "GET --timeout"),
            ("PUT --yes --stale --raw", "PUT --yes --stale"),
            ("CAS k 0 --json", "CAS k 0 --json"),
            ("MPUT a --csv --raw", "MPUT a --csv"),
            ("-- MGET a --json", "MGET a --json"),
            ("MGET a -- --json --csv", "MGET a --json --csv"),
            ("GET k --unheard-of", "GET k --unheard-of"),
            ("GET k -r", "GET k -r"),
            ("FROB --json", "FROB --json"),
        ] {
            let command: Vec<_> = command.split(' ').collect();
            assert_eq!(parsed(line).unwrap().command, command, "{line}");
        }
        assert!(!parsed("-- MGET a --json").unwrap().json);
    }

    #[test]
    fn options_behind_a_command_are_checked_like_those_before_it() {
        for line in
            ["GET k --timeout 0", "GET k --timeout", "GET k --json --csv", "--json GET k --raw", "GET k --ack=x"]
        {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parsed("GET k --help").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn shells_complete_commands_and_views() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut for_completion(), "kvorum-cli", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["EXPLAIN", "SHARDS", "json", "timeout"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--json --csv", "-i -1", "--ack maybe"] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in
            ["--timeout 0", "--timeout x", "--timeout 600001", "-r 0", "-r -1", "--pipeline 0", "--pipeline 1025"]
        {
            let error = parsed(line).unwrap_err();
            assert!(error.to_string().contains("must be a whole number from 1 to "), "{line}: {error}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
