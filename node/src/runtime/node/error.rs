//! Why a node ends other than by being told to.

use crate::auth::cert::CertError;
use crate::cli::exit::Exit;
use crate::peers::PeerError;
use kvorum_core::journal::JournalError;
use kvorum_core::ring::{PlacementError, RingError};
use kvorum_core::roster::ProcessEnd;
use kvorum_core::sealing::KeyFailure;
use kvorum_protocol::Durability;
use opentelemetry_otlp::ExporterBuildError;
use std::error::Error;
use std::io;
use std::net::SocketAddr;

/// Why a node ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address can't be listened on.
    #[error("{field} {address}: {source}")]
    Listen {
        /// The configuration field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// An essential part failed, more often than the restart policy allows.
    #[error("{0}")]
    RestartIntensity(#[source] Box<dyn Error + Send + Sync>),
    /// A write or sync failed, or what is on the disk can't be used.
    #[error("disk: {0}")]
    Disk(#[source] Box<dyn Error + Send + Sync>),
    /// The data folder holds what this program does not read.
    #[error("{0}")]
    Unsupported(#[source] Box<dyn Error + Send + Sync>),
    /// The peers can't be started.
    #[error(transparent)]
    Peers(#[from] PeerError),
    /// The configuration leaves no way to place the shards.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The copy of the ring map in the data folder is damaged.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A setting that was fixed when the cluster was created differs.
    #[error("the cluster was created with {field} {found}, the configuration says {expected}")]
    Mismatch {
        /// The configuration field.
        field: &'static str,
        /// What the cluster was created with.
        found: usize,
        /// What the configuration says.
        expected: usize,
    },
    /// The cluster was created with another durability.
    #[error("the cluster was created with durability {found}, the configuration says {expected}")]
    Durability {
        /// What the cluster was created with.
        found: Durability,
        /// What the configuration says.
        expected: Durability,
    },
    /// The cluster goes on without this node.
    #[error(
        "this node was removed from the cluster and holds nothing any more: delete its data folder, or join again with an \
         empty one"
    )]
    Removed,
    /// An operator has recovered the cluster from a loss, and has given this node up.
    #[error(
        "this node was given up when the cluster was recovered with `kvorum recover`: it does not return. Its data folder may \
         hold writes that the cluster has lost"
    )]
    GivenUp,
    /// What the cluster stores is sealed, and this node can't open it.
    #[error("encryption.key: {0}")]
    Keys(#[from] KeyFailure),
    /// The certificates can't be used.
    #[error("tls: {0}")]
    Certificate(#[from] CertError),
    /// Traces can't be sent where they are to go.
    #[error("traces.otlp: {0}")]
    Traces(ExporterBuildError),
    /// The first password can't be read.
    #[error("auth.bootstrap_password_file: {0}")]
    BootstrapPassword(String),
    /// A task that runs as long as the node does has ended.
    #[error("{0} has ended: it panicked")]
    Task(&'static str),
    /// An actor can't be started.
    #[error("can't start an actor: {0}")]
    Spawn(#[from] ractor::SpawnErr),
    /// The threads that hash passwords, or the one that watches the disk, can't be started.
    #[error("can't start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl NodeError {
    /// A failure of the disk, or of a thread that works for it.
    pub(super) fn disk(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Disk(source.into())
    }

    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::RestartIntensity(_) => Exit::RestartIntensity,
            Self::Disk(_) | Self::Ring(_) => Exit::Disk,
            Self::Placement(_)
            | Self::Mismatch { .. }
            | Self::Durability { .. }
            | Self::Unsupported(_)
            | Self::Certificate(_)
            | Self::BootstrapPassword(_)
            | Self::Traces(_)
            | Self::Removed
            | Self::GivenUp
            | Self::Keys(_) => Exit::Config,
            _ => Exit::Failure,
        }
    }
}

impl From<JournalError> for NodeError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unsupported(version) => Self::Unsupported(version.into()),
            other => Self::disk(other),
        }
    }
}

impl From<ProcessEnd> for NodeError {
    fn from(end: ProcessEnd) -> Self {
        match end {
            ProcessEnd::Disk { .. } => Self::disk(end),
            ProcessEnd::Unsupported { .. } => Self::Unsupported(end.into()),
            ProcessEnd::GaveUp { .. } => Self::RestartIntensity(end.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::disk::DiskError;
    use kvorum_core::formats;
    use kvorum_core::log::LogError;
    use kvorum_protocol::ShardId;

    #[test]
    fn another_start_is_for_failures_of_the_disk_and_not_for_files_of_another_program() {
        let shard = ShardId(3);
        let disk = || DiskError::new("sync", "a file", io::ErrorKind::Other.into());
        let version = formats::JOURNAL.check(9).unwrap_err();
        let unsupported = LogError::Unsupported { shard, what: version.into() };
        let failed: [(NodeError, Exit); 4] = [
            (ProcessEnd::Disk { shard, source: LogError::from(disk()).into() }.into(), Exit::Disk),
            (ProcessEnd::Unsupported { shard, source: unsupported.into() }.into(), Exit::Config),
            (JournalError::Disk(disk()).into(), Exit::Disk),
            (JournalError::Unsupported(version).into(), Exit::Config),
        ];
        for (error, exit) in failed {
            assert_eq!(error.exit(), exit, "{error}");
            assert_eq!(Exit::is_permanent(exit.code().into()), exit == Exit::Config);
        }
    }
}
