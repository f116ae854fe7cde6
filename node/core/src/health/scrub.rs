//! Reading cold data again, so that rot is found while the other replicas are well, and not when the last of them is read.
//!
//! A thread of the node goes through the segments that don't change any more, slowly, again and again. What it finds is noted where
//! readers note what they find ([`StoreReader::report_damage`]); the replica's host then ends it as one whose log is
//! damaged, and it is replaced. What is decided here needs no thread and no clock, and the simulator hosts it: [`ScrubPass`] and
//! [`check`].

use crate::disk::Disk;
use crate::log::{LogError, LogView, Segment, SegmentPlace, scrub};
use crate::routing::router::Router;
use crate::seeded::{Bug, planted};
use crate::shard::ShardHandle;
use crate::store::{ReadError, StoreReader};
use kvorum_protocol::ShardId;
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::{debug, error, warn};

/// The segments of a log that do not change any more: data segments, and log segments that have a successor.
pub fn cold_segments(log: &LogView) -> Vec<Arc<Segment>> {
    let mut segments = log.segments();
    // Log segments come first, in order.
    let active = segments.iter().rposition(|segment| !segment.is_data());
    active.into_iter().for_each(|active| drop(segments.remove(active)));
    segments
}

/// What came of checking a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// All of it is as it was written.
    Sound,
    /// Not all of it was checked: it is not part of the log any more, or `pace` said so.
    Left,
    /// It is damaged, and the reader has been told.
    Damaged,
}

/// Reads a segment from the medium, as far as the system lets it, and verifies its checksums. `pace` is told of the bytes
/// that were read, and may wait; if it says `false`, the rest is left.
pub fn check(
    disk: &dyn Disk,
    reader: &StoreReader,
    segment: &Arc<Segment>,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Checked {
    let (shard, number) = (segment.shard(), segment.number());
    let file = match disk.open_cold(shard, number) {
        Ok(Some(file)) => file,
        Ok(None) => return Checked::Left,
        Err(error) => {
            warn!(%shard, %error, "a segment can't be opened to check it");
            return Checked::Left;
        }
    };
    let forget = || {
        if let Err(error) = file.forget_cached() {
            debug!(%shard, %error, "what is checked may come from memory");
        }
    };
    forget();
    let result = scrub(&*file, &SegmentPlace::of(segment), pace);
    forget();
    match result {
        Ok(Some(_)) => Checked::Sound,
        Ok(None) => Checked::Left,
        // Compaction removes segments, and another life of the number may have been opened in its place.
        Err(_) if !is_part_of(reader.log(), segment) => Checked::Left,
        Err(LogError::Damaged { position, damage, .. }) => {
            error!(%shard, %position, %damage, "checking cold data again has found damage");
            if !planted(Bug::ScrubbedDamageOverlooked) {
                reader.report_damage(ReadError::Medium { position, damage });
            }
            Checked::Damaged
        }
        Err(error) => {
            warn!(%shard, %error, "a segment can't be checked");
            Checked::Left
        }
    }
}

fn is_part_of(log: &LogView, segment: &Arc<Segment>) -> bool {
    log.segment(segment.number()).is_some_and(|found| Arc::ptr_eq(&found, segment))
}

/// One way through the cold segments of all replicas of a node.
pub struct ScrubPass {
    shards: VecDeque<ShardId>,
    /// The replica whose segments are being checked.
    replica: Option<Arc<ShardHandle>>,
    segments: VecDeque<Arc<Segment>>,
}

impl ScrubPass {
    /// One that begins with the replicas that are open now.
    pub fn new(router: &Router) -> Self {
        let shards = router.all_local().iter().map(|handle| handle.shard).collect();
        Self { shards, replica: None, segments: VecDeque::new() }
    }

    /// The next segment to [`check`], and the replica that it is of; `None` if all are done.
    pub fn next(&mut self, router: &Router) -> Option<(Arc<ShardHandle>, Arc<Segment>)> {
        loop {
            if let (Some(handle), Some(segment)) = (&self.replica, self.segments.pop_front()) {
                return Some((Arc::clone(handle), segment));
            }
            // Looked up only now: a pass takes hours, and the replica may be another one.
            self.replica = router.local(self.shards.pop_front()?);
            self.segments = self.replica.iter().flat_map(|handle| cold_segments(handle.reader.log())).collect();
        }
    }

    /// The replica whose segment came last is damaged, and the rest of it is left.
    pub fn leave_replica(&mut self) {
        self.segments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Committed;
    use crate::disk::memory::MemoryDisk;
    use crate::log::operations::OperationsBuilder;
    use crate::log::{Damage, InlineSource, LogOptions, ShardLog};
    use crate::store::Store;
    use bytes::Bytes;
    use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
    use kvorum_protocol::{LogIndex, Term, Version};

    const SHARD: ShardId = ShardId(3);

    /// A log of several segments and the state that it amounts to.
    fn replica(disk: &Arc<MemoryDisk>) -> (ShardLog, Store) {
        let as_disk: Arc<dyn Disk> = Arc::clone(disk) as _;
        let source = Arc::new(InlineSource::new(Arc::clone(&as_disk)));
        let options = LogOptions { segment_bytes_first: 4096, segment_bytes_max: 4096, ..LogOptions::new(source) };
        let (mut log, _) = ShardLog::open(&as_disk, SHARD, None, options).unwrap();
        let mut store = Store::new(log.view());
        for index in (1..=20).map(LogIndex) {
            let mut operations = OperationsBuilder::new(0, Version(index.0 - 1));
            operations.push_record(format!("key {index}").as_bytes(), Some(&[7; 900]), None);
            let (payload, kind) = (Bytes::from(operations.finish()), RaftEntryKind::Operations);
            let at = log.append_entry(&RaftEntry { term: Term(1), index, kind, payload: payload.clone() }).unwrap();
            store.apply(&Committed { index, term: Term(1), kind, payload }, at).unwrap();
        }
        (log, store)
    }

    #[test]
    fn what_is_cold_is_checked_and_damage_on_the_medium_is_told_to_the_reader() {
        let disk = MemoryDisk::new();
        let (log, store) = replica(&disk);
        let cold = cold_segments(&log.view());
        assert_eq!(cold.len() + 1, log.segment_count());
        assert!(cold.iter().all(|segment| segment.number() < log.end().segment));
        let mut bytes = 0;
        for segment in &cold {
            let mut pace = |read| {
                bytes += read;
                true
            };
            assert_eq!(check(&*disk, store.reader(), segment, &mut pace), Checked::Sound);
        }
        assert_eq!(bytes, cold.iter().map(|segment| u64::from(segment.written())).sum::<u64>());
        assert_eq!(store.reader().damage(), None);

        assert_eq!(check(&*disk, store.reader(), &cold[0], &mut |_| false), Checked::Left);
        disk.edit_segment(SHARD, cold[1].number(), |bytes| bytes[500] ^= 1);
        assert_eq!(check(&*disk, store.reader(), &cold[0], &mut |_| true), Checked::Sound);
        assert_eq!(check(&*disk, store.reader(), &cold[1], &mut |_| true), Checked::Damaged);
        let found = store.reader().damage().unwrap();
        assert!(matches!(found, ReadError::Medium { damage: Damage::Record, position } if position.segment == 2));
        assert!(store.reader().get(b"key 1").unwrap().is_some(), "what is in memory is sound");
    }

    #[test]
    fn what_is_no_part_of_the_log_any_more_is_no_damage_of_it() {
        let disk = MemoryDisk::new();
        let (log, store) = replica(&disk);
        let cold = cold_segments(&log.view());
        log.view().remove(1);
        disk.edit_segment(SHARD, 1, |bytes| bytes[100] ^= 1);
        assert_eq!(check(&*disk, store.reader(), &cold[0], &mut |_| true), Checked::Left);
        disk.remove_segment(SHARD, 1).unwrap();
        assert_eq!(check(&*disk, store.reader(), &cold[0], &mut |_| true), Checked::Left);
        assert_eq!(store.reader().damage(), None);
    }

    #[test]
    fn a_medium_that_can_not_be_read_is_damage() {
        let disk = MemoryDisk::new();
        let (log, store) = replica(&disk);
        let cold = cold_segments(&log.view());
        disk.set_faults(crate::disk::memory::Faults { cold_reads_fail: true, ..Default::default() });
        assert_eq!(check(&*disk, store.reader(), &cold[0], &mut |_| true), Checked::Damaged);
        assert!(matches!(store.reader().damage(), Some(ReadError::Medium { damage: Damage::Unreadable, .. })));
    }
}
