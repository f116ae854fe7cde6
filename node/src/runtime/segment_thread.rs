//! The thread that makes each shard's next segment before it is needed.

use crate::runtime::worker_thread;
use kvorum_core::disk::{Disk, DiskError};
use kvorum_core::log::source::{Made, make_ready, take_or_create};
use kvorum_core::log::{PreparedSegment, SegmentSource};
use kvorum_protocol::ShardId;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Prepares one segment ahead for each shard that asks, on a thread of its own, which ends when this is dropped.
pub struct SpareSource {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    spares: Mutex<Spares>,
    changed: Condvar,
}

#[derive(Default)]
struct Spares {
    /// At most one per shard.
    slots: BTreeMap<ShardId, Spare>,
    stopping: bool,
}

enum Spare {
    Wanted {
        number: u32,
        bytes: u32,
    },
    /// The thread is making it: its file may or may not be there.
    Making,
    Made(Made),
}

impl SpareSource {
    /// Starts the thread. `panicked` is called if it panics: each log makes its segments itself from then on.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(disk: Arc<dyn Disk>, panicked: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { disk, spares: Mutex::default(), changed: Condvar::new() });
        let (worker, left) = (Arc::clone(&shared), Arc::clone(&shared));
        let panicked = move || {
            left.give_up();
            panicked();
        };
        let thread = worker_thread::start("segments", move || worker.run(), panicked)?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl SegmentSource for SpareSource {
    fn prepare(&self, shard: ShardId, number: u32, bytes: u32) {
        self.shared.spares.lock().slots.entry(shard).or_insert(Spare::Wanted { number, bytes });
        self.shared.changed.notify_all();
    }

    fn ready(&self, shard: ShardId, number: u32, bytes: u32) -> bool {
        let (spare, ready) = make_ready(&*self.shared.disk, shard, number, bytes, self.shared.withdraw(shard));
        let mut spares = self.shared.spares.lock();
        spare.into_iter().for_each(|made| drop(spares.slots.insert(shard, Spare::Made(made))));
        ready
    }

    fn is_made(&self, shard: ShardId) -> bool {
        matches!(self.shared.spares.lock().slots.get(&shard), Some(Spare::Made(_)))
    }

    fn take(&self, shard: ShardId, number: u32, bytes: u32) -> Result<PreparedSegment, DiskError> {
        take_or_create(&*self.shared.disk, shard, number, bytes, self.shared.withdraw(shard))
    }

    fn forget(&self, shard: ShardId) {
        // Its file is empty and at the end of the log; recovery removes it.
        drop(self.shared.withdraw(shard));
    }
}

impl Drop for SpareSource {
    fn drop(&mut self) {
        self.shared.spares.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It catches every panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Takes a shard's slot away; waits if it is being filled right now.
    fn withdraw(&self, shard: ShardId) -> Option<Made> {
        let mut spares = self.spares.lock();
        while matches!(spares.slots.get(&shard), Some(Spare::Making)) {
            self.changed.wait(&mut spares);
        }
        match spares.slots.remove(&shard) {
            Some(Spare::Made(made)) => Some(made),
            Some(Spare::Wanted { .. } | Spare::Making) | None => None,
        }
    }

    fn run(&self) {
        while let Some((shard, number, bytes)) = self.next_wanted() {
            let mut made = PreparedSegment::create(&*self.disk, shard, number, bytes);
            if let Ok(spare) = &mut made {
                // It may wait for the disk, so nobody else waits for this.
                spare.prefault();
            }
            let mut spares = self.spares.lock();
            match made {
                Ok(spare) => drop(spares.slots.insert(shard, Spare::Made(Ok(spare)))),
                Err(error) => {
                    // Whoever needs the segment will try again and report what the disk says then.
                    tracing::debug!(%shard, number, %error, "no segment was prepared");
                    spares.slots.remove(&shard);
                }
            }
            self.changed.notify_all();
        }
    }

    /// Nobody may wait for what the thread was making.
    fn give_up(&self) {
        self.spares.lock().slots.retain(|_, spare| !matches!(spare, Spare::Making));
        self.changed.notify_all();
    }

    /// Blocks until a shard wants a segment; `None` when it is time to stop.
    fn next_wanted(&self) -> Option<(ShardId, u32, u32)> {
        let mut spares = self.spares.lock();
        loop {
            if spares.stopping {
                return None;
            }
            let wanted = spares.slots.iter_mut().find_map(|(shard, slot)| match *slot {
                Spare::Wanted { number, bytes } => Some((*shard, slot, number, bytes)),
                Spare::Making | Spare::Made(_) => None,
            });
            if let Some((shard, slot, number, bytes)) = wanted {
                *slot = Spare::Making;
                return Some((shard, number, bytes));
            }
            self.changed.wait(&mut spares);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvorum_core::disk::memory::{Faults, MemoryDisk};
    use kvorum_core::log::{ENTRY_OVERHEAD_BYTES, InlineSource, LogOptions, Position, ShardLog, erase};
    use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
    use kvorum_protocol::{LogIndex, Term};

    const SHARD: ShardId = ShardId(3);

    fn options(source: &Arc<dyn SegmentSource>) -> LogOptions {
        LogOptions { segment_bytes_first: 4096, segment_bytes_max: 16384, ..LogOptions::new(Arc::clone(source)) }
    }

    fn spares(disk: &Arc<MemoryDisk>) -> (Arc<dyn Disk>, Arc<dyn SegmentSource>) {
        let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
        let source = Arc::new(SpareSource::start(Arc::clone(&disk), || {}).unwrap());
        (disk, source)
    }

    fn open(disk: &Arc<dyn Disk>, source: &Arc<dyn SegmentSource>, durable: Option<Position>) -> ShardLog {
        ShardLog::open(disk, SHARD, durable, options(source)).unwrap().0
    }

    fn entry(index: u64, bytes: usize) -> RaftEntry {
        let payload = Bytes::from(vec![index as u8; bytes]);
        RaftEntry { term: Term(1), index: LogIndex(index), kind: RaftEntryKind::Operations, payload }
    }

    #[test]
    fn what_was_promised_room_has_it_although_the_disk_fills_up() {
        let memory = MemoryDisk::new();
        let (disk, source) = spares(&memory);
        let mut log = open(&disk, &source, None);
        assert!(log.can_append(5000) && log.can_append(20_000), "the second needs a larger segment");
        memory.set_faults(Faults { full: true, ..Faults::default() });
        assert!(log.can_append(20_000) && !log.can_append(40_000));
        let large = entry(1, 20_000 - ENTRY_OVERHEAD_BYTES as usize);
        log.append_entry(&large).unwrap();
        assert_eq!(log.entry(LogIndex(1)).unwrap(), large);
        memory.set_faults(Faults::default());
        drop(log);
        erase(&*disk, &*source, SHARD).unwrap();
    }

    /// A slot as the thread leaves it if it panics over a segment.
    #[test]
    fn nobody_waits_for_a_thread_that_has_panicked() {
        let disk: Arc<dyn Disk> = MemoryDisk::new();
        let slots = [(SHARD, Spare::Making)].into();
        let spares = Mutex::new(Spares { slots, stopping: false });
        let shared = Arc::new(Shared { disk, spares, changed: Condvar::new() });
        let waiting = Arc::clone(&shared);
        let waits = std::thread::spawn(move || waiting.withdraw(SHARD).is_none());
        shared.give_up();
        assert!(waits.join().unwrap(), "it makes the segment itself");
    }

    #[test]
    fn a_log_knows_whether_it_may_have_to_wait_for_its_next_segment() {
        let (disk, source) = spares(&MemoryDisk::new());
        let log = open(&disk, &source, None);
        assert!(log.may_wait_for_segment(), "it is small, and nobody has made the next one");
        source.prepare(SHARD, log.end().segment + 1, 16384);
        while !source.is_made(SHARD) {
            std::thread::yield_now();
        }
        assert!(!log.may_wait_for_segment());
        source.forget(SHARD);
        assert!(log.may_wait_for_segment());
        let inline: Arc<dyn SegmentSource> = Arc::new(InlineSource::new(Arc::clone(&disk)));
        drop(log);
        assert!(!open(&disk, &inline, None).may_wait_for_segment(), "it makes each as it is asked for");
    }

    #[test]
    fn segments_are_prepared_ahead_and_forgotten_with_their_log() {
        let (disk, source) = spares(&MemoryDisk::new());
        let mut log = open(&disk, &source, None);
        let expected: Vec<_> = (1..=30).map(|index| entry(index, 1000)).collect();
        for entry in &expected {
            log.append_entry(entry).unwrap();
        }
        source.prepare(SHARD, log.end().segment + 1, 16384);
        let end = log.end();
        drop(log);
        // The spare's file goes with recovery; the source must not hand it out after that.
        let mut log = open(&disk, &source, Some(end));
        log.append_entry(&entry(31, 30_000)).unwrap();
        let end = log.end();
        assert!(disk.list_segments(SHARD).unwrap().contains(&end.segment), "the segment in use has a name");
        drop(log);
        let log = open(&disk, &source, Some(end));
        let found: Vec<_> = (1..=30).map(|index| log.entry(LogIndex(index)).unwrap()).collect();
        assert_eq!((found, log.last_index()), (expected, LogIndex(31)));
    }
}
