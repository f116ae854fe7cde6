//! The journal: one stream of synced writes per disk, for all shards of a node.
//!
//! Appends of any number of shards become durable together, with one write and one sync per round. The journal's files
//! are a ring; before one is used again, the segments it covers are synced, so the journal is only ever needed for what
//! is not durable in the segments themselves. [`replay()`] writes it back at a start.
//!
//! The bytes of its files, and why no crash loses what was acknowledged, are in `docs/LOG_FORMAT.md`.
//!
//! Order at a start: [`replay()`], then `Journal::start` (`node/src/runtime/journal_threads.rs`) with what it returned, then
//! open each shard's log with what [`Replayed::durable`] says of it.

mod error;
mod frame;
mod queue;
mod replay;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use queue::{DurableEnds, SubmissionQueue};
pub use replay::{IDENTITY_FILE, Replayed, decode_identity, replay, replay_cached, replay_or_give_up};
pub use sync::{BackgroundSync, InlineSync, SyncJob};
pub use writer::JournalWriter;

use crate::log::{Chunk, Position};
use kvorum_protocol::ShardId;
use kvorum_protocol::limits::SHARDS_MAX;
use std::sync::Arc;
use std::time::Duration;

/// Is told when a submission is durable.
pub trait PersistListener: Send + Sync {
    /// Everything in the submission of this token is durable. Called in the order of submission for each shard, on a
    /// thread of the journal or one that answers requests: must not block.
    fn persisted(&self, token: u64);
}

/// What a shard's replica asks of the journal.
pub trait ShardJournal: Send + Sync {
    /// Hands over a shard's appends. Never blocks. The listener is told once they are durable, in the order of submission
    /// for each shard; never after a failure, and never if the journal has been stopped.
    fn submit(&self, submission: Submission);
    /// Up to where a shard's log is durable; `None` if the journal does not know. For a shard that restarts alone.
    fn durable(&self, shard: ShardId) -> Option<Position>;
}

/// What one shard wants to be durable.
#[derive(Clone)]
pub struct Submission {
    /// From [`crate::log::ShardLog::take_appended`], in order.
    pub chunks: Vec<Chunk>,
    /// Given back with the completion; the journal gives it no meaning.
    pub token: u64,
    /// Whom to tell.
    pub listener: Arc<dyn PersistListener>,
}

impl Submission {
    /// How many bytes were appended.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length())).sum()
    }
}

/// The journal's sizes and bounds. All bytes are multiples of what they must be in the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Files in the ring, at least 2; one more may exist for a moment after a crash.
    pub files: u32,
    /// Size of each, a multiple of 4096.
    pub file_bytes: u32,
    /// Most bytes that one write takes; submissions beyond wait for the next round.
    pub frame_bytes_max: u32,
    /// A contiguous append larger than this is not written into the journal: its segment is synced instead.
    pub bypass_bytes: u32,
    /// Most shards that may use the journal; each file begins with 24 bytes for each.
    pub shards_max: u32,
    /// With durability `memory`: how often segments are synced.
    pub memory_sync_interval: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            files: 4,
            file_bytes: 64 * 1024 * 1024,
            frame_bytes_max: 8 * 1024 * 1024,
            bypass_bytes: 2 * 1024 * 1024,
            // And the group that replicates the ring map.
            shards_max: SHARDS_MAX as u32 + 1,
            memory_sync_interval: Duration::from_secs(1),
        }
    }
}
