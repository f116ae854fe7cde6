//! Whether a log has room for a record, and what it keeps in reserve for whom.

use super::*;

impl ShardLog {
    /// Whether appends of so many bytes together, [`ENTRY_OVERHEAD_BYTES`] for each entry included, find room although the
    /// disk may be full, and leave all of the reserve of [`crate::log::limits::RESERVE_BYTES`]: for hard states, a new leader's
    /// first entry and removals. If so, only a failure of the disk can keep them out. May make the next segment, and block.
    pub fn can_append(&self, bytes: u32) -> bool {
        self.can_append_and_keep(bytes, self.reserve_bytes())
    }

    /// As [`ShardLog::can_append`], but half of the reserve may be used: for what frees space, or waits in the log with
    /// what does.
    pub fn can_append_urgent(&self, bytes: u32) -> bool {
        self.can_append_and_keep(bytes, self.reserve_bytes() / 2)
    }

    /// As [`ShardLog::can_append`], but three quarters of the reserve may be used: for the entry that a leader begins its term
    /// with.
    pub fn can_append_first_of_term(&self, bytes: u32) -> bool {
        self.can_append_and_keep(bytes, self.reserve_bytes() / 4)
    }

    /// As [`ShardLog::can_append`], for what an election makes a replica write: all of the reserve may be used.
    pub fn can_append_vote(&self) -> bool {
        self.can_append_and_keep(VOTE_BYTES, 0)
    }

    fn can_append_and_keep(&self, bytes: u32, kept: u32) -> bool {
        let needed = bytes.saturating_add(kept);
        if needed > SEGMENT_BYTES_LIMIT {
            return false;
        }
        self.has_room(needed)
            || planted(Bug::DiskFullLosesAppend)
            || self
                .next_number()
                .is_ok_and(|number| self.options.source.ready(self.shard, number, self.size_for(needed)))
    }

    /// What is kept free in the active segment while there is no next one; less in a small segment.
    fn reserve_bytes(&self) -> u32 {
        RESERVE_BYTES.min(self.active.bytes() / 4)
    }
}
