//! Where new segments come from. Making one takes an allocation, two syncs and a mapping, milliseconds in all, so a
//! thread makes the next one before it is needed. If it is late, the log makes the segment itself.

use super::disk::{Disk, DiskError};
use super::limits::PREFAULT_BYTES;
use super::map::MappingWriter;
use super::segment::Segment;
use kvorum_protocol::ShardId;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A new, empty segment, and the right to write it.
#[derive(Debug)]
pub struct PreparedSegment {
    pub(super) segment: Segment,
    pub(super) writer: MappingWriter,
}

/// Makes segments for the logs of a node.
pub trait SegmentSource: Send + Sync {
    /// The shard will soon want a segment of this number and size. Never blocks on the disk.
    fn prepare(&self, shard: ShardId, number: u32, bytes: u32);
    /// Whether a segment of this number and at least this size will be there when it is asked for: it is ready, or there is
    /// room and it is made now. If so, only a failure of the disk can keep [`SegmentSource::take`] from giving it, however
    /// full the disk becomes in between. Blocks if it is not ready; costs no more than a look at the free space where that
    /// does not suffice.
    fn ready(&self, shard: ShardId, number: u32, bytes: u32) -> bool;
    /// A new segment of this number and at least this size. Blocks if it is not ready.
    ///
    /// # Errors
    /// `Full`, or any other failure of the disk.
    fn take(&self, shard: ShardId, number: u32, bytes: u32) -> Result<PreparedSegment, DiskError>;
    /// Drops what was prepared for a shard. Called before its directory is looked at: recovery removes empty segments,
    /// and a segment whose name is gone must never be handed out.
    fn forget(&self, shard: ShardId);
}

/// Makes each segment when it is asked for. For the simulator, tests and tools.
pub struct InlineSource {
    disk: Arc<dyn Disk>,
    /// What [`SegmentSource::ready`] has made.
    spares: Mutex<BTreeMap<ShardId, Made>>,
}

/// A segment that was made ahead, or why it was not. A failure is kept for whoever takes the segment: it must not be
/// tried again.
type Made = Result<PreparedSegment, DiskError>;

impl InlineSource {
    /// Makes segments on `disk`.
    pub fn new(disk: Arc<dyn Disk>) -> InlineSource {
        InlineSource { disk, spares: Mutex::default() }
    }
}

impl SegmentSource for InlineSource {
    fn prepare(&self, _shard: ShardId, _number: u32, _bytes: u32) {}

    fn ready(&self, shard: ShardId, number: u32, bytes: u32) -> bool {
        let mut spares = self.spares.lock();
        let (spare, ready) = make_ready(&*self.disk, shard, number, bytes, spares.remove(&shard));
        spare.into_iter().for_each(|spare| drop(spares.insert(shard, spare)));
        ready
    }

    fn take(&self, shard: ShardId, number: u32, bytes: u32) -> Result<PreparedSegment, DiskError> {
        let spare = self.spares.lock().remove(&shard);
        take_or_create(&*self.disk, shard, number, bytes, spare)
    }

    fn forget(&self, shard: ShardId) {
        // Its file is empty and at the end of the log; recovery removes it.
        drop(self.spares.lock().remove(&shard));
    }
}

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
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(disk: Arc<dyn Disk>) -> std::io::Result<SpareSource> {
        let shared = Arc::new(Shared { disk, spares: Mutex::default(), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("segments".into()).spawn(move || worker.run())?;
        Ok(SpareSource { shared, thread: Some(thread) })
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
            // A panic there was reported when it happened; a spare less is no harm.
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
            let made = create(&*self.disk, shard, number, bytes);
            let mut spares = self.spares.lock();
            match made {
                Ok(mut spare) => {
                    spare.writer.prefault(PREFAULT_BYTES, PREFAULT_BYTES);
                    spares.slots.insert(shard, Spare::Made(Ok(spare)));
                }
                Err(error) => {
                    // Whoever needs the segment will try again and report what the disk says then.
                    tracing::debug!(%shard, number, %error, "no segment was prepared");
                    spares.slots.remove(&shard);
                }
            }
            self.changed.notify_all();
        }
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

/// Makes sure of a spare that fits. Returns the spare to keep, and whether it fits. One that is too small may have been
/// promised to someone: it is given up only where there is room for the larger one beside it.
fn make_ready(disk: &dyn Disk, shard: ShardId, number: u32, bytes: u32, before: Option<Made>) -> (Option<Made>, bool) {
    let failed = |failure| (Some(Err(failure)), true);
    match &before {
        Some(Ok(spare)) if fits(spare, number, bytes) => return (before, true),
        // Whoever takes it meets the failure.
        Some(Err(_)) => return (before, true),
        _ => {}
    }
    match disk.free_bytes() {
        Ok(free) if free < u64::from(bytes) => return (before, false),
        Ok(_) => {}
        Err(failure) => return failed(failure),
    }
    if let Some(Ok(spare)) = before
        && let Err(failure) = disk.remove_segment(shard, spare.segment.number())
    {
        return if failure.is_full() { (Some(Ok(spare)), false) } else { failed(failure) };
    }
    match create(disk, shard, number, bytes) {
        Err(failure) if failure.is_full() => (None, false),
        made => (Some(made), true),
    }
}

fn take_or_create(disk: &dyn Disk, shard: ShardId, number: u32, bytes: u32, spare: Option<Made>) -> Made {
    if let Some(spare) = spare.transpose()? {
        if fits(&spare, number, bytes) {
            return Ok(spare);
        }
        disk.remove_segment(shard, spare.segment.number())?;
    }
    create(disk, shard, number, bytes)
}

fn fits(spare: &PreparedSegment, number: u32, bytes: u32) -> bool {
    spare.segment.number() == number && spare.segment.bytes() >= bytes
}

fn create(disk: &dyn Disk, shard: ShardId, number: u32, bytes: u32) -> Result<PreparedSegment, DiskError> {
    let (segment, writer) = Segment::create(disk, shard, number, bytes)?;
    Ok(PreparedSegment { segment, writer })
}
