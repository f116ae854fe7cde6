//! `kvorum recover plan`: reads reports, makes sure as far as it can that those who are gone are gone, and keeps the plan in a file.

use super::RecoverError;
use kvorum_core::recover::{self, FolderReport, GivenUp, RecoveryPlan};
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a node that is gone may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes a plan of what these files say.
///
/// # Errors
/// Why there is none.
pub(super) fn plan(
    files: &[PathBuf],
    gone: &[String],
    empty_shards: bool,
    ignore_answers: bool,
) -> Result<RecoveryPlan, RecoverError> {
    let mut reports = Vec::new();
    for file in files {
        reports.extend(read_reports(file)?);
    }
    let plan = recover::plan(&reports, gone, empty_shards)?;
    if !ignore_answers && let Some(gone) = plan.gone.iter().find(|gone| answers(gone)) {
        return Err(RecoverError::Answers { name: gone.name.clone(), address: gone.client.clone() });
    }
    Ok(plan)
}

fn read_reports(file: &Path) -> Result<Vec<FolderReport>, RecoverError> {
    let text = fs::read(file).map_err(|error| RecoverError::File { path: file.to_owned(), error })?;
    let reports = serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>();
    reports.map_err(|error| content(file, "report of `kvorum recover inspect`", error))
}

fn content(file: &Path, what: &'static str, error: impl ToString) -> RecoverError {
    RecoverError::Content { path: file.to_owned(), what, error: error.to_string() }
}

/// Whether somebody takes connections where the node's clients connect. Its peer door is not tried: it answers nobody without one of the
/// cluster's certificates.
fn answers(gone: &GivenUp) -> bool {
    let addresses = gone.client.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).is_ok())
}

/// Writes a plan to a file.
///
/// # Errors
/// What the system says.
pub(super) fn write(plan: &RecoveryPlan, file: &Path) -> Result<(), RecoverError> {
    let bytes = serde_json::to_vec(plan).expect("a plan has a form in JSON");
    let written = File::create(file).and_then(|mut out| {
        out.write_all(&bytes)?;
        out.sync_all()
    });
    written.map_err(|error| RecoverError::File { path: file.to_owned(), error })
}

/// Reads a plan from a file.
///
/// # Errors
/// If it is none, or was edited.
pub(super) fn read(file: &Path) -> Result<RecoveryPlan, RecoverError> {
    const WHAT: &str = "plan of `kvorum recover plan`";
    let bytes = fs::read(file).map_err(|error| RecoverError::File { path: file.to_owned(), error })?;
    let plan: RecoveryPlan = serde_json::from_slice(&bytes).map_err(|error| content(file, WHAT, error))?;
    if plan.is_whole() { Ok(plan) } else { Err(content(file, WHAT, "it does not match its id")) }
}
