//! The command line's own options.

use crate::Ack;
use crate::cli::output::Format;
use crate::url::URL_DEFAULT;
use clap::{Parser, ValueEnum};
use std::ffi::OsString;

/// Talk to a Kvorum cluster.
///
/// With a COMMAND it runs that; without one it reads commands: from you, if stdin is a terminal, else line by line.
#[derive(Parser, Debug)]
#[command(
    name = "kvorum-cli",
    version,
    after_help = "kvorum-cli HELP lists the commands. Exit codes: 0 ok, 1 error of the cluster, 2 usage, 3 unreachable, \
                  4 not found or another version."
)]
pub(crate) struct Args {
    /// The cluster; one address that answers is enough.
    #[arg(short, long, env = "KVORUM_URL", default_value = URL_DEFAULT, value_name = "URL")]
    pub(crate) url: String,
    /// Print JSON, an object per line; bytes that are not UTF-8 go by key_base64, value_base64, previous_base64.
    #[arg(long, group = "format")]
    pub(crate) json: bool,
    /// Print CSV with a header.
    #[arg(long, group = "format")]
    pub(crate) csv: bool,
    /// Print values as they are, as is done when stdout is no terminal.
    #[arg(long, group = "format")]
    pub(crate) raw: bool,
    /// How long a command may take, in milliseconds.
    #[arg(long, default_value_t = 5000, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
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
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub(crate) repeat: u64,
    /// Wait so many seconds between two runs; may be a fraction.
    #[arg(short, long, default_value_t = 0.0, value_name = "S", value_parser = parse_interval)]
    pub(crate) interval: f64,
    /// Answer yes to whatever would be asked.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print a script that teaches a shell to complete these options.
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
            AckArg::Committed => Ack::Committed,
            AckArg::Accepted => Ack::Accepted,
        }
    }
}

impl Args {
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

fn parse_interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be from 0 to 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_what_looks_like_options() {
        let args = Args::parse_from(["kvorum-cli", "--json", "INCR", "k", "-5", "--stale"]);
        assert_eq!(args.command, ["INCR", "k", "-5", "--stale"]);
        assert!(args.json && !args.stale);
        assert_eq!(args.format(true), Format::Json);
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [&["--json", "--csv"][..], &["--timeout", "0"], &["-i", "-1"], &["--ack", "maybe"]] {
            let error = Args::try_parse_from([&["kvorum-cli"], arguments].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
