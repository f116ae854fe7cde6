//! The REPL in front of the cluster.

use std::io::{self, Read};

/// Runs the REPL until the person at it leaves; blocks. Until the client library has one, waits for the end of stdin.
///
/// # Errors
/// What the system says.
pub(super) fn run(url: &str) -> io::Result<()> {
    crate::cli::say(format_args!("kvorum-cli --url {url} talks to it; ctrl-d stops the cluster"));
    let mut stdin = io::stdin().lock();
    let mut ignored = [0; 256];
    while stdin.read(&mut ignored)? > 0 {}
    Ok(())
}
