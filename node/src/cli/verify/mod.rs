//! `kvorum verify`: what the files of a stopped node are worth. Looks, and changes nothing.

mod folder;
mod report;
pub(in crate::cli) mod scratch;
mod shard;
#[cfg(test)]
mod tests;

pub use report::{Effect, Finding, JournalReport, OwnerReport, Report, ShardReport, Verdict};

use crate::cli::print;
use crate::kek;
use kvorum_core::sealing::{KeyFailure, Keyring};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What the process says by ending, if it found damage.
const DAMAGED: u8 = 1;
/// What the process says by ending, if it could not look.
pub const CANNOT_CHECK: u8 = 2;

/// Flags of `kvorum verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The data folder of a node that does not run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Opens what is sealed, too: where the key-encryption key is, as encryption.key says it
    #[arg(long, value_name = "SOURCE")]
    key: Option<String>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Why a folder can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing that a node has left.
    #[error("{path} is not the data folder of a node")]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// Its node runs.
    #[error("{path} is in use: stop its node first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// What is sealed can't be opened.
    #[error("--key: {0}")]
    Keys(#[from] KeyFailure),
    /// What was found can't be written.
    #[error("the report can't be written: {0}")]
    Output(io::Error),
    /// It can't be read.
    #[error("{path} can't be read: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Looks at a folder and tells what it found.
///
/// # Errors
/// If it can't look.
pub fn run(args: &VerifyArgs) -> Result<ExitCode, VerifyError> {
    let report = match &args.key {
        None => verify(&args.folder)?,
        Some(source) => verify_with(&args.folder, &kek::of_verify(source, &args.folder)?)?,
    };
    let text = match args.json {
        true => serde_json::to_string(&report).expect("a report has a form in JSON"),
        false => report.to_string(),
    };
    print(text.trim_end()).map_err(VerifyError::Output)?;
    Ok(match report.verdict {
        Verdict::Sound => ExitCode::SUCCESS,
        Verdict::Damaged => ExitCode::from(DAMAGED),
    })
}

/// Looks at a folder. Nobody can start a node with it meanwhile. Reads all that a start may read and all records, each file
/// once or twice.
///
/// # Errors
/// If it can't look.
pub fn verify(path: &Path) -> Result<Report, VerifyError> {
    verify_with(path, &Arc::default())
}

/// As [`verify`]; what is sealed with these keys is opened as well.
///
/// # Errors
/// If it can't look.
pub fn verify_with(path: &Path, keys: &Arc<Keyring>) -> Result<Report, VerifyError> {
    let _locks = hold(path)?;
    folder::look(path, keys)
}

/// Keeps everybody from starting a node with a folder, for as long as the result lives. Others may look at it, too.
///
/// # Errors
/// If it is no data folder, or its node runs.
pub(in crate::cli) fn hold(path: &Path) -> Result<[Option<File>; 2], VerifyError> {
    let ours = ["LOCK", "identity", "shards", "journal"];
    let mut is_ours = false;
    for name in ours {
        // A folder that may not be looked into is no answer to what it is.
        let file = path.join(name);
        is_ours |= match file.try_exists() {
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                return Err(VerifyError::Io { path: file, error });
            }
            exists => exists.unwrap_or(false),
        };
    }
    if !is_ours {
        return Err(VerifyError::NotAFolder { path: path.to_owned() });
    }
    Ok([lock(path, "LOCK")?, lock(path, "lock")?])
}

/// Shares a lock that a node holds alone; `None` if there is no such file.
fn lock(path: &Path, name: &str) -> Result<Option<File>, VerifyError> {
    let file = path.join(name);
    let io = |error| VerifyError::Io { path: file.clone(), error };
    let opened = match File::open(&file) {
        Ok(opened) => opened,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    match opened.try_lock_shared() {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::WouldBlock) => Err(VerifyError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}
