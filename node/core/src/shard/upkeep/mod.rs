//! What keeps a shard's files in order while it works: checkpoints and compaction. The host asks what is due, hands the
//! slow part to whoever runs jobs, and takes the result in. One job of a shard is under way at a time.

mod keeper;
mod leash;
mod permits;
mod policy;

pub(super) use keeper::Keeper;
pub use keeper::UpkeepCounts;
pub use leash::Leash;
pub use permits::DumpPermits;
pub use policy::{Plan, Slice, UpkeepOptions, Usage, decide};

use super::inbox::Inbox;
use crate::disk::Disk;
use crate::log::operations::Record;
use crate::log::{Checkpoint, Compacted, Compaction, KeyLook, LogError, Segment, Verdict};
use crate::seeded::{Bug, planted};
use crate::store::{Fate, StoreReader};
use kvorum_protocol::ShardId;
use std::fmt;
use std::sync::Arc;

/// The slow part of keeping a shard's files in order. Runs on any thread.
pub struct Job {
    leash: Arc<Leash>,
    work: JobKind,
}

pub(super) enum JobKind {
    /// Empties segments that are full of garbage.
    Compact {
        /// How, as the log has planned it.
        compaction: Compaction,
        /// Knows what lives.
        reader: Arc<StoreReader>,
    },
    /// Finds out which segments have old data keys.
    LookForKeys(KeyLook),
    /// Makes a segment durable that the log has left for another one.
    Sync(Arc<Segment>),
    /// Writes a manifest and a hint.
    Write(Arc<Checkpoint>),
    /// Removes the files that a checkpoint has replaced.
    Remove(Arc<Checkpoint>),
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// Segments were emptied; `None` if that was cut short.
    Compacted(Option<Compacted>),
    /// Segments were looked at for old data keys.
    LookedForKeys,
    /// The segment is durable.
    Synced,
    /// The checkpoint is durable.
    Written,
    /// The files are gone.
    Removed,
    /// The replica that wanted it is gone.
    Cancelled,
}

/// Runs jobs.
pub trait Upkeep: Send + Sync {
    /// Runs a job of a shard, and then tells its inbox. Never blocks.
    fn submit(&self, shard: ShardId, job: Job, inbox: Arc<Inbox>);
    /// How many of the node's replicas may hold a dump of their index.
    fn permits(&self) -> &Arc<DumpPermits>;
}

impl Job {
    /// Does it. `pace` is told of bytes that were read or written, and may wait a little; if it says `false`, a compaction
    /// stops and leaves nothing.
    ///
    /// # Errors
    /// What the log's files make of it.
    pub fn run(self, disk: &dyn Disk, pace: &mut dyn FnMut(u64) -> bool) -> Result<Done, LogError> {
        let Self { leash, work } = self;
        let Some(_running) = leash.run() else { return Ok(Done::Cancelled) };
        match work {
            JobKind::Compact { compaction, reader } => {
                let mut decide =
                    |record: &Record<'_>, at, lowest_elsewhere| match reader.fate(record, at, lowest_elsewhere) {
                        Fate::Keep { order } => Verdict::Keep { order },
                        Fate::KeepTombstone => Verdict::KeepTombstone,
                        Fate::Drop => Verdict::Drop,
                    };
                let mut pace = |bytes| !leash.is_cut() && pace(bytes) && !leash.is_cut();
                Ok(Done::Compacted(compaction.run(&mut decide, &mut pace)?))
            }
            JobKind::LookForKeys(look) => {
                look.run(&mut |bytes| !leash.is_cut() && pace(bytes) && !leash.is_cut())?;
                Ok(Done::LookedForKeys)
            }
            JobKind::Sync(segment) => {
                segment.sync_whole()?;
                Ok(Done::Synced)
            }
            JobKind::Write(checkpoint) => {
                checkpoint.write(disk)?;
                Ok(Done::Written)
            }
            JobKind::Remove(checkpoint) => {
                if !planted(Bug::ReplacedFilesKept) {
                    checkpoint.remove_dropped(disk)?;
                }
                Ok(Done::Removed)
            }
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.work {
            JobKind::Compact { .. } => "Compact",
            JobKind::LookForKeys(_) => "LookForKeys",
            JobKind::Sync(_) => "Sync",
            JobKind::Write(_) => "Write",
            JobKind::Remove(_) => "Remove",
        })
    }
}
