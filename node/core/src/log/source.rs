//! Where new segments come from. Making one takes an allocation, two syncs and a mapping, milliseconds in all, so a node's
//! thread makes the next one before it is needed. If it is late, the log makes the segment itself.

use super::limits::PREFAULT_BYTES;
use super::segment::Segment;
use crate::disk::map::MappingWriter;
use crate::disk::{Disk, DiskError};
use kvorum_protocol::ShardId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A new, empty segment, and the right to write it.
#[derive(Debug)]
pub struct PreparedSegment {
    pub(super) segment: Segment,
    pub(super) writer: MappingWriter,
}

impl PreparedSegment {
    /// Makes one. Blocks on the disk.
    ///
    /// # Errors
    /// `Full`, or any other failure of the disk.
    pub fn create(disk: &dyn Disk, shard: ShardId, number: u32, bytes: u32) -> Result<Self, DiskError> {
        let (segment, writer) = Segment::create(disk, shard, number, bytes)?;
        Ok(Self { segment, writer })
    }

    /// Makes its first pages present, so that the first appends need not wait for them.
    pub fn prefault(&mut self) {
        self.writer.prefault(PREFAULT_BYTES, PREFAULT_BYTES);
    }

    fn fits(&self, number: u32, bytes: u32) -> bool {
        self.segment.number() == number && self.segment.bytes() >= bytes
    }
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
    /// Whether the shard's next segment was made ahead, so that nobody waits for the disk who takes it. Never blocks. True where
    /// segments are not made ahead: whoever takes one knows that it waits.
    fn is_made(&self, shard: ShardId) -> bool {
        let _ = shard;
        true
    }
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
pub type Made = Result<PreparedSegment, DiskError>;

impl InlineSource {
    /// Makes segments on `disk`.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, spares: Mutex::default() }
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

/// Makes sure of a spare that fits. Returns the spare to keep, and whether it fits. One that is too small may have been
/// promised to someone: it is given up only where there is room for the larger one beside it.
pub fn make_ready(
    disk: &dyn Disk,
    shard: ShardId,
    number: u32,
    bytes: u32,
    before: Option<Made>,
) -> (Option<Made>, bool) {
    let failed = |failure| (Some(Err(failure)), true);
    match &before {
        Some(Ok(spare)) if spare.fits(number, bytes) => return (before, true),
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
    match PreparedSegment::create(disk, shard, number, bytes) {
        Err(failure) if failure.is_full() => (None, false),
        made => (Some(made), true),
    }
}

/// The spare, if it fits; else a new segment, and the spare is removed.
///
/// # Errors
/// `Full`, or any other failure of the disk.
pub fn take_or_create(disk: &dyn Disk, shard: ShardId, number: u32, bytes: u32, spare: Option<Made>) -> Made {
    if let Some(spare) = spare.transpose()? {
        if spare.fits(number, bytes) {
            return Ok(spare);
        }
        disk.remove_segment(shard, spare.segment.number())?;
    }
    PreparedSegment::create(disk, shard, number, bytes)
}
