//! `kvorum-cli`, as a module, since `kvorum dev` puts the same REPL in front.

use std::ffi::OsString;
use std::process::ExitCode;

/// How the REPL runs.
#[derive(Clone, Debug)]
pub struct ReplOptions {
    /// The cluster's address.
    pub url: String,
}

/// Runs `kvorum-cli` with these arguments, the program's name first. Blocks; must not be called on an async worker.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args.into_iter().count();
    ExitCode::from(2)
}

/// Reads commands from the terminal (or from stdin, line by line, when it is none) until the end of input or QUIT. Blocks;
/// must not be called on an async worker, but may be called on a blocking thread of a runtime.
pub fn repl(options: ReplOptions) -> ExitCode {
    let _ = options.url;
    ExitCode::from(2)
}
