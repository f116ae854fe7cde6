//! `kvorum recover`: groups that have lost their quorum for good go on from what is left of them. For an operator, with all nodes
//! stopped. No node ever does this by itself.
//!
//! ```text
//! on each machine that is left   kvorum recover inspect data > node-1.json
//! on one of them                 kvorum recover plan *.json --gone node-2,node-3 --out plan.json
//! on each of them again          kvorum recover apply plan.json data --accept-loss
//! ```

mod apply;
mod inspect;
mod planning;

pub use apply::{Applied, apply};
pub use inspect::inspect;

use crate::cli::exit::Exit;
use crate::cli::verify::VerifyError;
use crate::cli::{print, say};
use crate::folder::FolderError;
use crate::kek;
use kvorum_core::disk::DiskError;
use kvorum_core::journal::{JournalError, ShardJournal, Submission};
use kvorum_core::log::{LogError, Position};
use kvorum_core::recover::{PlanRefusal, RecoveryPlan};
use kvorum_core::sealing::{KeyFailure, Keyring};
use kvorum_core::shard::ShardError;
use kvorum_protocol::ShardId;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The steps of a recovery, in their order.
#[derive(Debug, clap::Subcommand)]
pub enum RecoverVerb {
    /// Say what the data folders of stopped nodes hold, and change nothing
    ///
    /// Prints a JSON object per folder, one a line.
    Inspect {
        /// The data folders
        #[arg(value_name = "DIR", required = true)]
        folders: Vec<PathBuf>,
        /// Where the key-encryption key is, as encryption.key says it: needed if the cluster seals what it stores
        #[arg(long, value_name = "SOURCE")]
        key: Option<String>,
    },
    /// Say which groups are lost, from what each would go on, and what may be missing
    Plan {
        /// What `inspect` printed for every node that is left
        #[arg(value_name = "FILE", required = true)]
        reports: Vec<PathBuf>,
        /// The nodes that never come back, by name or id
        #[arg(long, value_name = "NODE", value_delimiter = ',')]
        gone: Vec<String>,
        /// Where to write the plan to
        #[arg(long, value_name = "PLAN")]
        out: Option<PathBuf>,
        /// Begin shards anew with nothing of which no replica is left
        #[arg(long)]
        empty_shards: bool,
        /// Believe that the nodes are gone, although something answers at their addresses
        #[arg(long)]
        ignore_answers: bool,
    },
    /// Carry a plan out in the data folders of stopped nodes
    ///
    /// May be repeated, also after it was interrupted.
    Apply {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: PathBuf,
        /// The data folders
        #[arg(value_name = "DIR", required = true)]
        folders: Vec<PathBuf>,
        /// As for inspect
        #[arg(long, value_name = "SOURCE")]
        key: Option<String>,
        /// Accept that what the plan says may be missing is lost
        #[arg(long)]
        accept_loss: bool,
    },
}

/// Why a step of a recovery is not done.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It is no folder that can be looked at.
    #[error(transparent)]
    Look(#[from] VerifyError),
    /// Its small files can't be used, or its node runs.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Nobody knows whose it is, or how often it was started with.
    #[error("{path}: its {file} is damaged or missing, so it can't take part in a recovery")]
    Unknown {
        /// The folder.
        path: PathBuf,
        /// What is damaged.
        file: &'static str,
    },
    /// The medium failed.
    #[error("{path}: {error}")]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What failed.
        error: DiskError,
    },
    /// The ring map's copy can't be used.
    #[error("{path}: the ring map: {error}")]
    Ring {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The journal can't be read.
    #[error("{path}: the journal: {error}")]
    Journal {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: JournalError,
    },
    /// A replica's files can't be used.
    #[error("{path}: shard {shard}: {error}")]
    Shard {
        /// The folder.
        path: PathBuf,
        /// The shard.
        shard: ShardId,
        /// Why.
        error: Box<ShardError>,
    },
    /// What is sealed can't be opened.
    #[error("{path}: --key: {error}")]
    Keys {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: KeyFailure,
    },
    /// The cluster seals what it stores.
    #[error("{path}: the cluster seals what it stores: say --key SOURCE, where SOURCE is what encryption.key says")]
    KeyMissing {
        /// The folder.
        path: PathBuf,
    },
    /// What the step says can't be written.
    #[error("the output can't be written: {0}")]
    Output(io::Error),
    /// A file that was named can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} is no {what}: {error}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        error: String,
    },
    /// There is no plan.
    #[error(transparent)]
    Refused(#[from] PlanRefusal),
    /// A node that was named as gone is there.
    #[error(
        "{name} was named as gone, and something answers at {address}: stop it, or say --ignore-answers if that is another program"
    )]
    Answers {
        /// The node.
        name: String,
        /// Where.
        address: String,
    },
    /// Nobody has said that the loss is accepted.
    #[error("{plan}: nothing was changed: say --accept-loss once you have read what may be missing")]
    NotAccepted {
        /// The plan.
        plan: PathBuf,
    },
    /// The plan does not speak of the folder.
    #[error("{path}: plan {id} {why}")]
    NotInPlan {
        /// The folder.
        path: PathBuf,
        /// The plan.
        id: String,
        /// What it says of the folder.
        why: &'static str,
    },
    /// The folder is not as it was when the plan was made.
    #[error("{path} has changed since the plan was made ({what}): inspect all folders again, and make another plan")]
    Changed {
        /// The folder.
        path: PathBuf,
        /// What has.
        what: String,
    },
}

impl RecoverError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Look(VerifyError::InUse { .. }) => Exit::InUse,
            Self::Folder(error) => error.exit(),
            _ => Exit::Failure,
        }
    }
}

impl RecoverVerb {
    /// Does the step.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn run(self) -> Result<(), RecoverError> {
        match self {
            Self::Inspect { folders, key } => {
                for folder in folders {
                    let report = inspect(&folder, key.as_deref())?;
                    print(serde_json::to_string(&report).expect("a report has a form in JSON"))
                        .map_err(RecoverError::Output)?;
                }
                Ok(())
            }
            Self::Plan { reports, gone, out, empty_shards, ignore_answers } => {
                let plan = planning::plan(&reports, &gone, empty_shards, ignore_answers)?;
                print(plan.to_string().trim_end()).map_err(RecoverError::Output)?;
                match out {
                    Some(out) => planning::write(&plan, &out),
                    None => Ok(()),
                }
            }
            Self::Apply { plan: file, folders, key, accept_loss } => {
                let plan = planning::read(&file)?;
                if !accept_loss {
                    return Err(RecoverError::NotAccepted { plan: file });
                }
                folders.iter().try_for_each(|folder| {
                    say(told(&plan, folder, apply(&plan, folder, key.as_deref())?));
                    Ok(())
                })
            }
        }
    }
}

/// What a folder's records are sealed with. With another key nothing is done.
fn keys(path: &Path, key: Option<&str>) -> Result<Arc<Keyring>, RecoverError> {
    match key {
        None if kek::of_folder(path).is_plain() => Ok(Arc::default()),
        None => Err(RecoverError::KeyMissing { path: path.to_owned() }),
        Some(source) => {
            kek::of_verify(source, path).map_err(|error| RecoverError::Keys { path: path.to_owned(), error })
        }
    }
}

fn told(plan: &RecoveryPlan, folder: &Path, applied: Applied) -> String {
    let folder = folder.display();
    match applied {
        Applied::Before => format!("{folder}: plan {} was applied before: there is nothing to do", plan.id),
        Applied::Now { node, groups } => {
            let epoch = plan.ring.epoch;
            format!(
                "{folder}: {node} follows ring map {epoch}; groups that go on from here: {groups}. Start it with `kvorum start`"
            )
        }
    }
}

/// What the journal knows of each shard's log.
#[derive(Default)]
struct Durable(BTreeMap<ShardId, Position>);

impl ShardJournal for Durable {
    fn submit(&self, _submission: Submission) {
        unreachable!("what is written by a recovery goes past the journal");
    }

    fn durable(&self, shard: ShardId) -> Option<Position> {
        self.0.get(&shard).copied()
    }
}

/// What a failure is of.
struct Place<'a>(&'a Path);

impl Place<'_> {
    fn disk(&self, error: DiskError) -> RecoverError {
        RecoverError::Disk { path: self.0.to_owned(), error }
    }

    fn unknown(&self, file: &'static str) -> RecoverError {
        RecoverError::Unknown { path: self.0.to_owned(), file }
    }

    fn ring(&self, error: impl ToString) -> RecoverError {
        RecoverError::Ring { path: self.0.to_owned(), error: error.to_string() }
    }

    fn journal(&self, error: JournalError) -> RecoverError {
        RecoverError::Journal { path: self.0.to_owned(), error }
    }

    fn shard(&self, shard: ShardId) -> impl Fn(ShardError) -> RecoverError {
        move |error| RecoverError::Shard { path: self.0.to_owned(), shard, error: Box::new(error) }
    }

    fn log(&self, shard: ShardId) -> impl Fn(LogError) -> RecoverError {
        move |error| self.shard(shard)(error.into())
    }

    fn changed(&self, what: impl Into<String>) -> RecoverError {
        RecoverError::Changed { path: self.0.to_owned(), what: what.into() }
    }
}
