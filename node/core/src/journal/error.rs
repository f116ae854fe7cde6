//! What can go wrong in the journal. All of it ends the process.

use crate::disk::DiskError;
use crate::formats::UnsupportedVersion;

/// Why the journal can't go on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A write or a sync failed. Never retried: the kernel may have dropped the bytes and marked them clean.
    #[error("the journal can't go on: {0}")]
    Disk(#[from] DiskError),
    /// A round that replay needs is not there although a later one is: what was acknowledged may be lost.
    #[error("journal round {round} is missing or damaged, although round {newest} is there")]
    RoundMissing {
        /// The first round that is missing.
        round: u64,
        /// The newest round.
        newest: u64,
    },
    /// Two valid frames claim the same round.
    #[error("journal round {round} is there twice")]
    RoundTwice {
        /// The round.
        round: u64,
    },
    /// A round matches its checksum but its content has no meaning.
    #[error("journal round {round} has no meaning")]
    RoundMeaningless {
        /// The round.
        round: u64,
    },
    /// Another program has written a round, or a segment that rounds are of. Nothing may be changed: that program goes on with it.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedVersion),
    /// There are journal files, but the file that names their journal is missing or damaged.
    #[error("the journal's identity is missing or damaged")]
    Identity,
    /// The options contradict each other.
    #[error("journal options: {0}")]
    Options(&'static str),
    /// More shards use the journal than its options allow.
    #[error("more than {limit} shards use the journal")]
    TooManyShards {
        /// The limit.
        limit: u32,
    },
    /// The system gave no thread.
    #[error("could not start a thread of the journal: {0}")]
    Thread(std::io::Error),
    /// A thread of the journal panicked.
    #[error("a thread of the journal panicked")]
    Panicked,
    /// The journal failed before; nothing more is written.
    #[error("the journal failed before")]
    Failed,
}

impl JournalError {
    /// Whether its files are damaged: the medium gives them, and what they hold can't be right.
    pub fn is_damage(&self) -> bool {
        self.is_loss() || matches!(self, Self::RoundTwice { .. } | Self::RoundMeaningless { .. })
    }

    /// Whether bytes that are needed are gone. The other damage is checksummed rounds that contradict each other. No medium makes
    /// those, only a mistake in a program, and all nodes may share it: it is no reason to give up what a folder holds.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::RoundMissing { .. } | Self::Identity)
    }
}
