//! Bringing a replica up by a snapshot: the way of its bytes from the leader's files to the follower's.
//!
//! ```text
//! leader                                           follower
//! SnapshotSource ─► SnapshotOffers ── offer ─────► Intake ─► SnapshotSink
//!                        ▲      └──── chunks ─────►  │
//!                        └──────────── pulls ────────┘
//! ```
//!
//! The follower pulls by number, a few pulls at a time. So flow control, the rate limit (a pull is answered when there is
//! budget for it) and resuming after a lost connection (what did not come is pulled again) are the same thing, and the
//! leader remembers nothing of how far a follower is. Both ends are pure: they are given the time and messages, and return
//! messages. What a snapshot holds is no matter here: a header, and records by number.

mod bucket;
mod budget;
mod intake;
pub mod limits;
mod offers;
mod run;
#[cfg(test)]
mod tests;
mod window;

pub use budget::PullBudget;
pub use intake::{Intake, IntakeEffects};
pub use offers::{EndedOffer, OfferEffects, OffersFull, SnapshotAnswer, SnapshotOffers, SnapshotRead};
pub use run::StoredRecords;

use crate::log::operations::OperationsError;
use crate::log::{BaseError, LogError};
use crate::store::ReadError;
use bytes::Bytes;
use kvorum_protocol::snapshot::SnapshotId;
use kvorum_protocol::{LogIndex, ShardId, Term};
use std::fmt;

/// A snapshot that a leader holds ready: a state of the shard that no longer changes. Dropping it lets go of the files
/// that it pins.
pub trait SnapshotSource: Send + Sync {
    /// The last entry whose effects it holds.
    fn last(&self) -> (Term, LogIndex);
    /// Length of the header, at most [`kvorum_protocol::limits::SNAPSHOT_HEADER_BYTES_MAX`].
    fn header_bytes(&self) -> u32;
    /// The header's bytes from `at` on, at least one and at most `bytes_max`. `at` is within the header.
    fn read_header(&self, at: u32, bytes_max: u32) -> Bytes;
    /// Number of records.
    fn records(&self) -> u64;
    /// The records from number `at` on: at least one, at most `count_max`, and no more bytes than `bytes_max` unless the
    /// first one alone has more. `at` is the number of a record. The same call gives the same records each time. May wait
    /// for the disk.
    ///
    /// # Errors
    /// If a record can't be read; the snapshot is of no use then.
    fn read(&self, at: u64, count_max: u32, bytes_max: u32) -> Result<Run, SnapshotError>;
}

/// Records back to back, each exactly as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The records.
    pub bytes: Bytes,
    /// How many they are.
    pub count: u32,
}

/// Where a follower puts a snapshot. It is called in this order: the header once, all records in their order, then
/// `finish` until it is done. If it is dropped before that, the snapshot has come to nothing.
pub trait SnapshotSink: Send {
    /// The whole header.
    ///
    /// # Errors
    /// If it makes no sense, or can't be written.
    fn header(&mut self, whole: Bytes) -> Result<(), SnapshotError>;
    /// The next `count` records, as [`Run`] holds them. Nobody has looked at them: [`StoredRecords`] takes them apart.
    ///
    /// # Errors
    /// If they are not `count` sound records, or can't be written.
    fn records(&mut self, bytes: Bytes, count: u32) -> Result<(), SnapshotError>;
    /// Makes the snapshot durable and puts it in place, once everything has come. A sink that works beside its caller
    /// says [`Finish::Pending`] and is asked again.
    ///
    /// # Errors
    /// If that fails.
    fn finish(&mut self) -> Result<Finish, SnapshotError>;
}

/// How far a sink is with finishing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The snapshot is durable and in place: the replica has to be opened anew, from its files.
    Done,
    /// Not yet.
    Pending,
}

/// Opens sinks for the snapshots that a node's replicas receive.
pub trait SnapshotSinks: Send + Sync {
    /// Whether there is room for a snapshot at all. While there is none, offers are left unanswered.
    fn has_room(&self) -> bool {
        true
    }

    /// A sink for a snapshot of `shard`. One at a time is open for a shard.
    ///
    /// # Errors
    /// If this node can't take it.
    fn open(&self, shard: ShardId, id: SnapshotId) -> Result<Box<dyn SnapshotSink>, SnapshotError>;
}

/// Why a snapshot came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The shard's files. A full disk costs the snapshot only; see [`LogError`] for the others.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that has come is not sound.
    #[error(transparent)]
    Record(#[from] OperationsError),
    /// A record of the state can't be read: the log of the replica that gives it out is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk counts as full: what is left of it is for those who make room.
    #[error("the disk is full")]
    NoRoom,
    /// A run doesn't hold as many records as it should.
    #[error("a run of records doesn't hold as many as it says")]
    Count,
    /// The header can't be read.
    #[error("the header can't be read: {0}")]
    Header(#[from] BaseError),
}

impl fmt::Debug for dyn SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (term, index) = self.last();
        write!(f, "SnapshotSource({term}, {index}, {} records)", self.records())
    }
}
