//! With durability `memory`: logs that may hold what a process which was killed has acknowledged, and nobody has synced.
//!
//! What such a process wrote is in the page cache as long as the machine stays up. A log is synced as its recovery ends. A node that
//! stops before must not say that it stopped cleanly: the next start would believe its files although the machine went down.

use kvorum_core::disk::{Disk, DiskError};
use kvorum_protocol::ShardId;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// The shards of which this process has not opened the log that it found. None, unless there was such a process.
#[derive(Debug, Default)]
pub struct UnsyncedLogs {
    shards: Mutex<BTreeSet<ShardId>>,
}

impl UnsyncedLogs {
    /// All logs that the disk holds.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn after_crash(disk: &dyn Disk) -> Result<Self, DiskError> {
        let mut shards = BTreeSet::new();
        for shard in disk.list_shards()? {
            if !disk.list_segments(shard)?.is_empty() {
                shards.insert(shard);
            }
        }
        Ok(Self { shards: Mutex::new(shards) })
    }

    /// The shard's log was opened, and is synced.
    pub fn note_opened(&self, shard: ShardId) {
        self.shards.lock().remove(&shard);
    }

    /// Whether one is left. Those that were erased don't count. Reads directories.
    pub fn any_left(&self, disk: &dyn Disk) -> bool {
        let holds = |shard: &ShardId| disk.list_segments(*shard).map_or(true, |segments| !segments.is_empty());
        self.shards.lock().iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::disk::memory::MemoryDisk;
    use kvorum_core::log::{InlineSource, PreparedSegment, erase};
    use std::sync::Arc;

    #[test]
    fn a_log_counts_until_it_is_opened_or_erased() {
        let disk: Arc<dyn Disk> = MemoryDisk::new();
        assert!(!UnsyncedLogs::after_crash(&*disk).unwrap().any_left(&*disk), "a new folder has none");
        let [opened, erased] = [ShardId(3), ShardId(4)];
        for shard in [opened, erased] {
            PreparedSegment::create(&*disk, shard, 1, 4096).unwrap();
        }
        let unsynced = UnsyncedLogs::after_crash(&*disk).unwrap();
        unsynced.note_opened(opened);
        assert!(unsynced.any_left(&*disk));
        erase(&*disk, &InlineSource::new(Arc::clone(&disk)), erased).unwrap();
        assert!(!unsynced.any_left(&*disk));
        assert!(!UnsyncedLogs::default().any_left(&*disk), "nobody was killed");
    }
}
