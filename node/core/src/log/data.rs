//! Data segments: records without the entries that brought them. Compaction moves live records here, and a snapshot brings
//! them. A data segment is written once, synced, and then named by a manifest; it never changes after that.
//!
//! ```text
//! header of a segment, 64 bytes
//! then frame after frame
//!   0  place_crc  u32   CRC-32 of the place (shard, segment, generation, offset) and of the record's own checksum
//!   4  record, as in an operation entry
//! ```

use super::error::{Damage, LogError};
use super::limits::{DATA_SYNC_BYTES, SEGMENT_BYTES_FIRST, SEGMENT_BYTES_UNIT};
use super::oldest_key::{NO_RECORDS, key_of_bytes};
use super::operations::{RECORD_HEADER_BYTES, Record, RecordHeader};
use super::sealed::SEAL_APART_BYTES;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::state::Position;
use crate::disk::map::MappingWriter;
use crate::disk::{DATA_SEGMENT, Disk, DiskError};
use crate::sealing::KeyEpoch;
use kvorum_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{ShardId, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes in front of a record.
pub(super) const FRAME_BYTES: u32 = 4;
/// The longest record, and a little more.
const RECORD_BYTES_MAX: usize = 2 * RECORD_HEADER_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + SEAL_APART_BYTES;

/// A finished data segment.
#[derive(Clone, Debug)]
pub struct DataSegment {
    pub(super) segment: Arc<Segment>,
    /// No record in it has a lower version.
    pub(super) lowest: Version,
}

impl DataSegment {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
}

/// Writes data segments of one shard, next to its log and on any thread.
pub struct DataWriter {
    disk: Arc<dyn Disk>,
    shard: ShardId,
    numbers: Arc<AtomicU32>,
    bytes_max: u32,
    open: Option<Open>,
    done: Vec<DataSegment>,
}

struct Open {
    segment: Arc<Segment>,
    writer: MappingWriter,
    lowest: Version,
    oldest_key: KeyEpoch,
    unsynced: u32,
}

impl DataWriter {
    pub(super) fn new(disk: Arc<dyn Disk>, shard: ShardId, numbers: Arc<AtomicU32>, bytes_max: u32) -> Self {
        Self { disk, shard, numbers, bytes_max, open: None, done: Vec::new() }
    }

    /// Appends a record, as it stands in an operation entry. `to_come` is about how many bytes
    /// will follow, this record included: a segment is made no larger than they need. If that is not known, segments begin
    /// small and double. Syncs now and then, and may block for that.
    ///
    /// # Errors
    /// `DiskFull`: finished segments and the open one stay as they are, and [`DataWriter::abandon`] removes them. Else a
    /// failure of the disk.
    ///
    /// # Panics
    /// If the bytes are longer than any record.
    pub fn append(&mut self, record: &[u8], version: Version, to_come: Option<u64>) -> Result<Position, LogError> {
        assert!((RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&record.len()), "a record has a header and a bound");
        let bytes = frame_bytes(record.len());
        if self.open.as_ref().is_none_or(|open| open.writer.written() + bytes > open.segment.bytes()) {
            self.close()?;
            self.open = Some(self.make(bytes, to_come)?);
        }
        let open = self.open.as_mut().expect("it was just made");
        let offset = open.writer.written();
        let out = &mut open.writer.tail()[..bytes as usize];
        let crc = record.first_chunk().expect("longer than four bytes");
        let place = open.segment.seed().place_crc(offset, *crc);
        let (head, body) = out.split_at_mut(FRAME_BYTES as usize);
        head.copy_from_slice(&place.to_le_bytes());
        body.copy_from_slice(record);
        open.writer.advance(bytes);
        open.lowest = open.lowest.min(version);
        open.oldest_key = open.oldest_key.min(key_of_bytes(record));
        open.unsynced += bytes;
        if open.unsynced >= DATA_SYNC_BYTES {
            // In slices, so that no sync of the journal waits behind a whole segment's worth of writing.
            open.segment.sync()?;
            open.unsynced = 0;
        }
        Ok(Position { segment: open.segment.number(), offset: offset + FRAME_BYTES })
    }

    fn make(&self, first_bytes: u32, to_come: Option<u64>) -> Result<Open, DiskError> {
        let doubled = || self.done.last().map_or(SEGMENT_BYTES_FIRST, |last| last.segment.bytes().saturating_mul(2));
        let to_come = to_come.unwrap_or_else(|| u64::from(doubled() - SEGMENT_HEADER_BYTES));
        let needed = (SEGMENT_HEADER_BYTES + first_bytes).next_multiple_of(SEGMENT_BYTES_UNIT);
        let to_come = to_come.min(self.bytes_max.into());
        let wanted = (u64::from(SEGMENT_HEADER_BYTES) + to_come).next_multiple_of(SEGMENT_BYTES_UNIT.into());
        let bytes = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.bytes_max).max(needed);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) | DATA_SEGMENT;
        let (segment, writer) = Segment::create(&*self.disk, self.shard, number, bytes)?;
        Ok(Open { segment: Arc::new(segment), writer, lowest: Version(u64::MAX), oldest_key: NO_RECORDS, unsynced: 0 })
    }

    fn close(&mut self) -> Result<(), LogError> {
        if let Some(Open { segment, lowest, oldest_key, .. }) = self.open.take() {
            segment.sync_whole()?;
            segment.note_oldest_key(oldest_key);
            self.done.push(DataSegment { segment, lowest });
        }
        Ok(())
    }

    /// Ends the last segment, and hands out all that were made, whole and durable.
    ///
    /// # Errors
    /// A failure of the disk.
    pub(super) fn close_last(&mut self) -> Result<Vec<Arc<Segment>>, LogError> {
        self.close()?;
        Ok(self.done.iter().map(|made| Arc::clone(&made.segment)).collect())
    }

    /// The segments, whole and durable. They belong to nothing until a manifest names them.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn finish(mut self) -> Result<Vec<DataSegment>, LogError> {
        self.close()?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn abandon(mut self) -> Result<(), LogError> {
        let open = self.open.take().map(|open| open.segment);
        let made = self.done.drain(..).map(|done| done.segment).chain(open);
        made.map(|segment| segment.number()).try_for_each(|number| self.disk.remove_segment(self.shard, number))?;
        Ok(())
    }
}

/// What a record takes in a data segment.
pub(super) fn frame_bytes(record_bytes: usize) -> u32 {
    FRAME_BYTES + record_bytes as u32
}

/// Visits the records of a data segment, in order, all checksums verified.
///
/// # Errors
/// `Damaged` at the first frame that is not valid; and what `visit` returns.
pub(super) fn visit_records(
    segment: &Segment,
    visit: &mut dyn FnMut(&Record<'_>, Position) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let mut at = SEGMENT_HEADER_BYTES;
    while at < segment.written() {
        let (shard, frame) = (segment.shard(), Position { segment: segment.number(), offset: at });
        let damaged = || LogError::Damaged { shard, position: frame, damage: Damage::Record };
        let position = Position { segment: segment.number(), offset: at + FRAME_BYTES };
        let header = header_at(segment, position.offset).ok_or_else(damaged)?;
        let bytes = header.record_bytes();
        let stored = segment.read(position.offset, bytes as u32).ok_or_else(damaged)?;
        if !is_in_place(segment, position.offset, stored) {
            return Err(damaged());
        }
        let record = header.record(stored);
        let record = record.map_err(|error| LogError::of_operations(shard, frame, Damage::Record, error))?;
        visit(&record, position)?;
        at += frame_bytes(bytes);
    }
    Ok(())
}

fn header_at(segment: &Segment, offset: u32) -> Option<RecordHeader> {
    let bytes = segment.read(offset, RECORD_HEADER_BYTES as u32)?;
    RecordHeader::parse(bytes.first_chunk()?).ok()
}

/// Whether a record whose own checksum is right was written to this very place: a write that went astray, or an old one
/// that came back, is valid in itself. `record` is the record's bytes.
pub(super) fn is_in_place(segment: &Segment, offset: u32, record: &[u8]) -> bool {
    let Some(frame) = offset.checked_sub(FRAME_BYTES).and_then(|at| segment.read(at, FRAME_BYTES)) else {
        return false;
    };
    // The record's length is covered by its own checksum.
    let place = record.first_chunk().map(|crc| segment.seed().place_crc(offset - FRAME_BYTES, *crc));
    place.is_some_and(|place| frame == place.to_le_bytes())
}
