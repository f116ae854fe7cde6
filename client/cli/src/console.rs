//! stdout and stderr, written without a panic: either may be closed, or a full device.

use std::io::{self, Write};

/// Writes to stdout at once.
///
/// # Errors
/// What the system says. `BrokenPipe` means that whoever read it has seen enough.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes to stderr. If that can't be written, nobody is left to tell; the exit code still does.
pub(crate) fn complain(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
