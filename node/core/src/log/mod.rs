//! The shard log: memory-mapped, append-only segment files, one directory per shard.
//!
//! The log is the database: the record that consensus replicated is the record a read returns. [`ShardLog`] is the one
//! writer of a shard; any number of readers share its [`LogView`]. Durability is the journal's ([`crate::journal`]):
//! the log copies records into mappings and hands the appended ranges over as [`Chunk`]s.
//!
//! The bytes of every file, and why no crash loses what was acknowledged, are in `docs/LOG_FORMAT.md`. A change here
//! that moves a byte edits that document in the same commit.
//!
//! Nothing in this module reads a clock or draws a random number; files are reached through [`crate::disk::Disk`]
//! only, so that the simulator can stand in for the medium. The `unsafe` of mappings is in [`crate::disk::map`].

mod compaction;
mod data;
mod entries;
mod error;
pub mod inspect;
mod manifest;
mod oldest_key;
pub mod once;
pub mod operations;
mod record;
mod recovery;
pub mod remembered;
mod scrub;
mod sealed;
mod segment;
pub mod session_section;
mod shard_log;
pub mod source;
mod state;
#[cfg(test)]
mod tests;

pub use compaction::{Compacted, Compaction, Moved, Verdict};
pub use data::{DataSegment, DataWriter};
pub use error::{Damage, LogError, Unsupported};
pub use manifest::{Base, BaseError};
pub use oldest_key::KeyLook;
pub use recovery::Recovered;
pub use scrub::{SegmentPlace, scrub};
pub use sealed::{KeyAndValue, OpenedHead, Sealed, SealedValue};
pub use segment::{Chunk, LogView, Segment};
pub use shard_log::{Checkpoint, ENTRY_OVERHEAD_BYTES, LogOptions, SealingProgress, SegmentUse, ShardLog, erase};
pub use source::{InlineSource, PreparedSegment, SegmentSource};
pub use state::{HardState, Membership, Position};

/// Every bound of the log.
pub mod limits {
    use kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX;

    /// Size of a shard's first segment: small, so that 64 empty shards cost 16 MiB.
    pub const SEGMENT_BYTES_FIRST: u32 = 256 * 1024;
    /// Segments double up to this size. Only a record that does not fit makes a larger one.
    pub const SEGMENT_BYTES_MAX: u32 = 64 * 1024 * 1024;
    /// Segment sizes are multiples of this: the page size, and the block size of every file system we know.
    pub const SEGMENT_BYTES_UNIT: u32 = 4096;
    /// No segment file is larger: one entry of the largest size, or the ordinary largest segment.
    pub const SEGMENT_BYTES_LIMIT: u32 = 128 * 1024 * 1024;
    /// Payload bytes of the newest entries that a shard keeps in memory.
    pub const RECENT_BYTES_MAX: usize = 1024 * 1024;
    /// Entries that a shard keeps in memory, whatever their size: bounds the overhead of tiny ones.
    pub const RECENT_ENTRIES_MAX: usize = 4096;
    /// A payload up to this size is copied for the recent entries, so that a small entry of a quiet shard does not keep
    /// the whole network buffer alive that it was cut from.
    pub const RECENT_COPY_BYTES_MAX: usize = 16 * 1024;
    /// A data segment is synced after so many bytes at the latest, while it is written.
    pub const DATA_SYNC_BYTES: u32 = 4 * 1024 * 1024;
    /// What is read at once of a segment that is checked again.
    pub const SCRUB_WINDOW_BYTES: u32 = 256 * 1024;
    /// How far ahead of the write position pages are made present.
    pub const PREFAULT_BYTES: u32 = 256 * 1024;
    /// A log with less room than this in its active segment may need the next one at once: more than what a turn appends that takes no
    /// large work.
    pub const SEGMENT_AHEAD_BYTES: u32 = 512 * 1024;

    /// What a shard keeps free in its active segment when the disk has no room for the next one: for what an election
    /// writes, and half of it for removals. At most a quarter of the segment.
    pub const RESERVE_BYTES: u32 = 64 * 1024;
    /// What a replica that votes, or comes to lead, writes at most: hard states and an empty entry.
    pub const VOTE_BYTES: u32 = 512;

    const _: () = assert!(VOTE_BYTES * 2 <= SEGMENT_BYTES_UNIT / 4, "the reserve of the smallest segment is for some");
    const _: () = assert!(RESERVE_BYTES <= SEGMENT_BYTES_FIRST / 4);
    const _: () = assert!(RAFT_ENTRY_BYTES_MAX < SEGMENT_BYTES_MAX as usize, "the largest entry fits a segment");
    const _: () = assert!(SEGMENT_BYTES_MAX <= SEGMENT_BYTES_LIMIT);
    const _: () = assert!(SEGMENT_BYTES_FIRST.is_multiple_of(SEGMENT_BYTES_UNIT));
    const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_UNIT));
}
