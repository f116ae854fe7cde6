//! A server's process.

use crate::stop;
use crate::storage::StorageError;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a system may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// The last bytes of a log that an error shows.
const LOG_TAIL_BYTES: usize = 2_000;

/// Killed when it is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints goes to a file in `folder`.
    pub(super) fn start(name: &str, program: &Path, arguments: &[&str], folder: &Path) -> Result<Self, StorageError> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(StorageError::system("a log file"))?;
        let errors = file.try_clone().map_err(StorageError::system("a log file"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(StorageError::system(program.display().to_string()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// It has ended.
    fn check(&mut self) -> Result<(), StorageError> {
        if matches!(self.child.try_wait(), Ok(None)) {
            return Ok(());
        }
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        Err(StorageError::Program { program: self.name.clone(), log: String::from_utf8_lossy(tail).into_owned() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `is_so` while all processes run.
///
/// # Errors
/// One of them ended, it took longer than [`START_LIMIT`], or a signal has come.
pub(super) fn wait_until(
    what: &str,
    processes: &mut [Process],
    mut is_so: impl FnMut() -> bool,
) -> Result<(), StorageError> {
    let began = Instant::now();
    while !is_so() {
        processes.iter_mut().try_for_each(Process::check)?;
        if began.elapsed() > START_LIMIT {
            return Err(StorageError::TooLate { what: what.to_owned(), limit: START_LIMIT });
        }
        stop::sleep(LOOK_PAUSE)?;
    }
    Ok(())
}
