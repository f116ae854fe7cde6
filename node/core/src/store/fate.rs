//! What compaction does with a record.

use super::reader::StoreReader;
use super::stored::ReadError;
use crate::log::Position;
use crate::log::operations::Record;
use crate::seeded::{Bug, planted};
use kvorum_protocol::Version;

/// What becomes of a record whose segment is compacted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is copied as it is, and the index is then pointed at the copy.
    Keep {
        /// Where its key stands in the index.
        order: u64,
    },
    /// A tombstone of its key and version is copied. The index knows nothing of it; it outlives an older record in another
    /// segment, which would otherwise come back when the index is rebuilt from the segments.
    KeepTombstone,
    /// It is left behind.
    Drop,
}

impl StoreReader {
    /// What compaction does with the record at `at`, of an entry that has been applied. `lowest_version_elsewhere` is the
    /// lowest version of any record in the segments that are *not* being compacted, `None` if there is none. May be
    /// called from any thread while the shard goes on: what is written later only makes more records superfluous, and
    /// its versions are higher.
    ///
    /// Copies no value, but may read older records of the key, from the disk at worst.
    pub fn fate(&self, record: &Record<'_>, at: Position, lowest_version_elsewhere: Option<Version>) -> Fate {
        let key = match record.open_key(self.keys_of_log()) {
            Ok(key) => key,
            Err(reason) => {
                // The host ends this replica before it takes over what is copied.
                self.report_damage(ReadError::Damaged { position: at, reason });
                return Fate::Keep { order: 0 };
            }
        };
        let order = self.order(&key);
        if self.index.points_at(order, at) {
            return Fate::Keep { order };
        }
        if !record.tombstone && record.expires_at_ms.is_none() {
            // Overwritten, or removed by a record that sees to its own fate.
            return Fate::Drop;
        }
        // A record with a version that was not reached yet is of an entry that another leader's superseded. It never
        // counted, and its tombstone would outlive what is written next.
        // If the key's newest can't be read, the damage is noted and the host ends this replica; a tombstone more is no harm.
        let newer = self.place_of(order, &key).ok().flatten();
        if record.version > self.version() || newer.is_some() {
            return Fate::Drop;
        }
        let older_elsewhere = lowest_version_elsewhere.is_some_and(|lowest| lowest < record.version);
        if older_elsewhere && !planted(Bug::TombstoneDroppedEarly) { Fate::KeepTombstone } else { Fate::Drop }
    }
}
