//! The REPL in front of the cluster.

use kvorum_cli::{ReplEnd, ReplOptions};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io;

/// Puts the terminal back as it was when this is dropped: a signal may end the REPL while it reads keys one by one.
pub(super) struct TerminalGuard {
    before: Option<Termios>,
}

impl TerminalGuard {
    /// Remembers how the terminal is, if there is one.
    pub(super) fn new() -> Self {
        Self { before: tcgetattr(io::stdin()).ok() }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If the terminal is gone, it needs no care.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Runs the REPL until the person at it leaves, or stdin ends; blocks.
pub(super) fn run(options: ReplOptions) -> ReplEnd {
    kvorum_cli::repl(options)
}
