//! `kvorum audit verify`: whether an audit log is as it was written.

use crate::audit::chain::{Checked, Checker};
use crate::audit::file::reader;
use crate::cli::say;
use kvorum_protocol::hexadecimal;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the process says by ending, if the log was changed.
const CHANGED: u8 = 1;
/// What the process says by ending, if it could not look.
const CANNOT_CHECK: u8 = 2;

/// The verbs of `kvorum audit`.
#[derive(Debug, clap::Subcommand)]
pub enum AuditVerb {
    /// Check that an audit log is as it was written, and print the hash of its last line
    ///
    /// Ends with 0 if it is, 1 if it was changed, 2 if it can't be read.
    Verify {
        /// The files of one log, the oldest first; - for the standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// The hash of the last line, as somebody has kept it: is it in the log still?
        #[arg(long, value_name = "HASH")]
        kept: Option<String>,
    },
}

impl AuditVerb {
    /// Runs the verb.
    pub fn run(self) -> ExitCode {
        let Self::Verify { files, kept } = self;
        let mut checker = Checker::new(kept.as_deref());
        for path in &files {
            let file = match reader(path) {
                Ok(file) => file,
                Err(error) => {
                    say(format_args!("{}: {error}", path.display()));
                    return ExitCode::from(CANNOT_CHECK);
                }
            };
            if let Err(error) = checker.check(file) {
                say(format_args!("{}: {error}", path.display()));
                return ExitCode::from(if error.is_io() { CANNOT_CHECK } else { CHANGED });
            }
        }
        match checker.finish() {
            Ok((found, last)) => {
                say(told(&found));
                say(format_args!("last: {}", hexadecimal::encode(&last)));
                if kept.is_some() && !found.has_kept {
                    say("the line with the hash that was kept is not there: lines were cut off, or all were made anew");
                    return ExitCode::from(CHANGED);
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                say(error);
                ExitCode::from(CHANGED)
            }
        }
    }
}

fn told(found: &Checked) -> String {
    let times = found.times.as_ref().map_or(String::new(), |(first, last)| format!(", {first} to {last}"));
    let mut text = format!("sound: {} lines{times}", found.lines);
    if found.begins > 1 {
        text.push_str(&format!("; begins anew {} times", found.begins - 1));
    }
    if found.cut_short > 0 {
        text.push_str(&format!("; {} lines were cut short by crashes", found.cut_short));
    }
    text
}
