//! Lines from a terminal that edits them itself. Ctrl-c is a signal there, and reading goes on after it: whoever reads has to watch
//! for both.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

/// Bytes that are read at once. A terminal gives one line at a time, however long.
const READ_BYTES: usize = 4096;

/// What a person has typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Typed {
    Line(String),
    /// Ctrl-c; the terminal has dropped what stood on the line.
    Interrupt,
    /// Ctrl-d.
    End,
}

/// A terminal, and what was read from it and belongs to no line yet.
#[derive(Debug)]
pub(crate) struct Terminal {
    input: File,
    read: Vec<u8>,
}

impl Terminal {
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn new(input: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { input: File::from(input.try_clone_to_owned()?), read: Vec::new() })
    }

    /// The next line, with its end. Must be called within a runtime that takes signals.
    ///
    /// # Errors
    /// What the system says; or the line is not UTF-8.
    pub(crate) async fn read_line(&mut self) -> io::Result<Typed> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let Self { input, read } = self;
        let mut bytes = [0; READ_BYTES];
        loop {
            if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line = read.drain(..=end).collect();
                return Ok(Typed::Line(String::from_utf8(line).map_err(io::Error::other)?));
            }
            // Made anew, since only a new one tells of what is there already.
            let watched = watch(input.as_fd())?;
            tokio::select! {
                biased;
                _ = interrupts.recv() => {
                    read.clear();
                    return Ok(Typed::Interrupt);
                }
                ready = watched.readable() => drop(ready?),
            }
            // There is something, or the end: this does not wait.
            match (&*input).read(&mut bytes)? {
                0 if read.is_empty() => return Ok(Typed::End),
                // Ctrl-d behind something asks for what stands there.
                0 => read.push(b'\n'),
                count => read.extend(&bytes[..count]),
            }
        }
    }
}

#[allow(deprecated, reason = "the borrow keeps the descriptor open, which is what the unsafe successor asks for")]
fn watch(input: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    AsyncFd::with_interest(input, Interest::READABLE)
}

/// A test that presses ctrl-c holds it: the signal reaches every test of the process that listens.
#[cfg(test)]
pub(crate) static CTRL_C: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Has the system send this process what ctrl-c sends. Someone must have taken the signal, or it ends the tests.
#[cfg(test)]
pub(crate) fn press_ctrl_c() {
    let kill = format!("kill -INT {}", std::process::id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn ctrl_c_ends_the_line_and_not_the_reading() {
        let _alone = CTRL_C.lock();
        let (input, mut keys) = io::pipe().unwrap();
        let mut terminal = Terminal::new(input.as_fd()).unwrap();
        runtime().block_on(async {
            // The first one is polled first, and listens when the key is pressed.
            let (typed, ()) = tokio::join!(terminal.read_line(), async { press_ctrl_c() });
            assert_eq!(typed.unwrap(), Typed::Interrupt);
            keys.write_all(b"GET a\nGET b\nGE").unwrap();
            for line in ["GET a\n", "GET b\n"] {
                assert_eq!(terminal.read_line().await.unwrap(), Typed::Line(line.to_owned()));
            }
            let (typed, ()) = tokio::join!(terminal.read_line(), async {
                keys.write_all(b"T c\n").unwrap();
                drop(keys);
            });
            assert_eq!(typed.unwrap(), Typed::Line("GET c\n".to_owned()));
            assert_eq!(terminal.read_line().await.unwrap(), Typed::End);
        });
    }
}
