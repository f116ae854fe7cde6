//! Writes the dashboards and rules into the repository.

use kvorum_monitoring::{RUNBOOKS, files};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("usage: kvorum-monitoring [--runbooks ADDRESS-OF-TROUBLESHOOTING.md] [FOLDER]")]
    Usage,
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvorum-monitoring: {error}");
            ExitCode::from(if matches!(error, WriteError::Usage) { 2 } else { 1 })
        }
    }
}

fn run() -> Result<(), WriteError> {
    // The crate lies two folders below the root.
    let mut root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut runbooks = RUNBOOKS.to_owned();
    let mut given = env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--runbooks" => runbooks = given.next().ok_or(WriteError::Usage)?,
            flag if flag.starts_with('-') => return Err(WriteError::Usage),
            folder => root = PathBuf::from(folder),
        }
    }
    for (path, text) in files(&runbooks) {
        let path = root.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| WriteError::File { path, error })?;
    }
    Ok(())
}
