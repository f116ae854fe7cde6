//! What can go wrong in a shard's log, by the decision it asks for.

use super::operations::{OperationsError, Reserved};
use super::state::Position;
use crate::disk::DiskError;
use crate::formats::{FormatError, UnsupportedVersion};
use crate::sealing::{KeyEpoch, SealError};
use kvorum_protocol::ShardId;

/// Why a log could not be opened, read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no room for another segment. Nothing was appended; the log can still be read, and appends work again
    /// once there is room.
    #[error("the disk is full: {0}")]
    DiskFull(DiskError),
    /// A file operation failed. It must not be retried: the process ends and recovery looks at the disk afresh.
    #[error(transparent)]
    Disk(DiskError),
    /// The files of this shard can't be trusted: the replica is *faulty*. It must not vote or lead, and is repaired from
    /// its peers.
    #[error("shard {shard} is damaged at {position}: {damage}")]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// Where.
        position: Position,
        /// What.
        damage: Damage,
    },
    /// The files of this shard are sound, and hold what this program does not read. Nothing of them may be changed or given
    /// up: the process ends, and another program goes on with them.
    #[error("{what}")]
    Unsupported {
        /// The shard.
        shard: ShardId,
        /// What they hold.
        what: Unsupported,
    },
    /// What they hold is sealed with a key that this node has not got yet.
    #[error("shard {shard} is sealed with the data key of epoch {epoch}, which is not here yet")]
    NoKey {
        /// The shard.
        shard: ShardId,
        /// The key's number.
        epoch: KeyEpoch,
    },
    /// An entry's payload is over `RAFT_ENTRY_BYTES_MAX`. Nothing was appended.
    #[error("an entry of {bytes} bytes is over the limit")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The log holds no entry of that index.
    #[error("the log holds no entry {0}")]
    NoEntry(u64),
    /// The log needs more segments than it has numbers for.
    #[error("the log has used up its segment numbers")]
    OutOfSegments,
}

/// What another program has written, and this one does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A file, or a base, of another version.
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    /// Something that the format reserves.
    #[error(transparent)]
    Reserved(#[from] Reserved),
}

impl LogError {
    /// What it means for a shard that something at `position` can't be read; `damage` is what it is if it is damaged.
    pub(crate) fn of_format(shard: ShardId, position: Position, damage: Damage, error: FormatError) -> Self {
        match error {
            FormatError::Damaged => Self::Damaged { shard, position, damage },
            FormatError::Unsupported(version) => Self::Unsupported { shard, what: version.into() },
        }
    }

    /// As [`LogError::of_format`], of what an entry or a record holds.
    pub(crate) fn of_operations(shard: ShardId, position: Position, damage: Damage, error: OperationsError) -> Self {
        match error {
            OperationsError::Reserved(what) => Self::Unsupported { shard, what: what.into() },
            OperationsError::Sealed(error) => Self::of_seal(shard, position, damage, error),
            OperationsError::Malformed(_) | OperationsError::BadChecksum => Self::Damaged { shard, position, damage },
        }
    }

    /// As [`LogError::of_format`], of what does not open.
    pub(crate) fn of_seal(shard: ShardId, position: Position, damage: Damage, error: SealError) -> Self {
        match error {
            SealError::NoKey(epoch) => Self::NoKey { shard, epoch },
            SealError::Forged => Self::Damaged { shard, position, damage },
        }
    }
}

/// What kind of damage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A segment's header does not match its checksum, its name or its size.
    #[error("the segment's header is invalid")]
    SegmentHeader,
    /// The manifest does not match its checksum.
    #[error("the manifest is invalid")]
    Manifest,
    /// A segment that must be there is not.
    #[error("a segment is missing")]
    SegmentMissing,
    /// A record in the durable part of the log does not match its checksum.
    #[error("a durable record is invalid")]
    Record,
    /// Nothing is known to be durable, and a record does not match its checksum although a later one does.
    #[error("a record is invalid although a later one is not")]
    RecordBeforeOthers,
    /// The log ends before the position up to which it was durable.
    #[error("the log ends before what was durable")]
    EndsEarly,
    /// Records match their checksums but contradict each other.
    #[error("the records contradict each other")]
    Sequence,
    /// A record that the index points at does not match its checksums.
    #[error("a stored record is invalid")]
    StoredRecord,
    /// The medium gives an error in place of what was written.
    #[error("the medium can't be read")]
    Unreadable,
    /// The index points at a record that is not there.
    #[error("a stored record is missing")]
    RecordMissing,
    /// A record matches its checksum but its payload has no meaning.
    #[error("a record's payload has no meaning")]
    Payload,
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        if error.is_full() { Self::DiskFull(error) } else { Self::Disk(error) }
    }
}
