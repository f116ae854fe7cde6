//! Compaction: what is still of use in segments full of garbage moves into data segments.
//!
//! The log plans it and installs it; in between it runs on any thread, next to a log that goes on being written and an
//! index that goes on changing. It decides nothing itself: the store, which knows the index, says what becomes of each
//! record.

use super::data::{self, DataSegment, DataWriter};
use super::error::{Damage, LogError};
use super::operations::{Operations, Record};
use super::record::{HEADER_BYTES, RecordKind};
use super::sealed;
use super::segment::{Chunk, SEGMENT_HEADER_BYTES, Segment};
use super::state::Position;
use crate::disk::DATA_SEGMENT;
use crate::sealing::ShardKeys;
use bytes::Bytes;
use kvorum_protocol::Version;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What becomes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is its key's newest, and moves.
    Keep {
        /// Where its key stands in the index.
        order: u64,
    },
    /// Its key is gone, and older records of the key may lie in segments that stay: that it is gone must be remembered.
    KeepTombstone,
    /// Nothing needs it.
    Drop,
}

/// A record that was copied. The index must be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Where its key stands in the index.
    pub order: u64,
    /// Where it was.
    pub from: Position,
    /// Where it is as well.
    pub to: Position,
}

/// A segment to be emptied.
pub(super) struct Victim {
    pub(super) segment: Arc<Segment>,
    /// Where the payloads of the entries that count begin, if not all of the segment's entries do.
    pub(super) effective: Option<BTreeSet<u32>>,
}

/// A compaction that has been planned.
pub struct Compaction {
    pub(super) victims: Vec<Victim>,
    /// No record outside of the victims, of those that are older than the log's retained part, has a lower version.
    pub(super) lowest_elsewhere: Option<Version>,
    pub(super) writer: DataWriter,
    /// What records are sealed with.
    pub(super) keys: Arc<ShardKeys>,
    /// The part of the log from this segment on stays as it is.
    pub(super) retire_before: u32,
    /// About what will be copied.
    pub(super) live_bytes: u64,
}

/// A compaction that has run. Its data segments are durable, and belong to nothing until a checkpoint takes them in.
#[derive(Debug)]
pub struct Compacted {
    pub(super) victims: Vec<u32>,
    pub(super) data: Vec<DataSegment>,
    pub(super) retire_before: u32,
    /// The records that were copied.
    pub moved: Vec<Moved>,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

impl Compaction {
    /// How many segments it empties.
    pub fn victims(&self) -> usize {
        self.victims.len()
    }

    /// Copies what is to be kept. `decide` is asked about each record, with its place and the lowest version of any record
    /// that stays elsewhere. `pace` is told of every few thousand bytes that were read or written, and may wait; if it says
    /// `false`, what was written is removed again.
    ///
    /// # Errors
    /// `Damaged` if a record does not match its checksums, `DiskFull`, or a failure of the disk. Nothing has changed then,
    /// but for data segments that belong to nothing.
    pub fn run(
        self,
        decide: &mut dyn FnMut(&Record<'_>, Position, Option<Version>) -> Verdict,
        pace: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Compacted>, LogError> {
        let Self { victims, lowest_elsewhere, mut writer, keys, retire_before, live_bytes } = self;
        let mut copying = Copying { moved: Vec::new(), unpaced: 0, read: 0, written: 0, stopped: false };
        for victim in &victims {
            let segment = &victim.segment;
            let visited = visit_records(segment, victim.effective.as_ref(), &mut |record, from| {
                if copying.stopped {
                    return Ok(());
                }
                let stored = segment.read(from.offset, record.bytes() as u32).expect("it was just read");
                copying.read += stored.len() as u64;
                let to_come = live_bytes.saturating_sub(copying.written).max(data::frame_bytes(stored.len()).into());
                let verdict = decide(record, from, lowest_elsewhere);
                let closed = |error| LogError::of_operations(segment.shard(), from, Damage::StoredRecord, error);
                let bytes = match verdict {
                    Verdict::Keep { order } => {
                        let copy = sealed::kept(record, stored, &keys).map_err(closed)?;
                        let to = writer.append(&copy, record.version, Some(to_come))?;
                        copying.moved.push(Moved { order, from, to });
                        copy.len()
                    }
                    Verdict::KeepTombstone => {
                        let tombstone = sealed::tombstone_of(record, stored, &keys).map_err(closed)?;
                        writer.append(&tombstone, record.version, Some(to_come))?;
                        tombstone.len()
                    }
                    Verdict::Drop => 0,
                };
                copying.note(stored.len() as u64, if bytes > 0 { data::frame_bytes(bytes).into() } else { 0 }, pace);
                Ok(())
            });
            match visited {
                Err(LogError::DiskFull(full)) => {
                    writer.abandon()?;
                    return Err(LogError::DiskFull(full));
                }
                other => other?,
            }
        }
        // The index is to be pointed at the copies without reading them again.
        for segment in writer.close_last()? {
            if copying.stopped {
                break;
            }
            data::visit_records(&segment, &mut |record, _| {
                copying.note(record.bytes() as u64, 0, pace);
                Ok(())
            })?;
        }
        if copying.stopped {
            writer.abandon()?;
            return Ok(None);
        }
        Ok(Some(Compacted {
            victims: victims.iter().map(|victim| victim.segment.number()).collect(),
            data: writer.finish()?,
            retire_before,
            moved: copying.moved,
            bytes_read: copying.read,
            bytes_written: copying.written,
        }))
    }
}

impl Compacted {
    /// The segments that it has emptied.
    pub fn victims(&self) -> &[u32] {
        &self.victims
    }

    /// The segments that hold the copies.
    pub fn data(&self) -> &[DataSegment] {
        &self.data
    }
}

struct Copying {
    moved: Vec<Moved>,
    unpaced: u64,
    read: u64,
    written: u64,
    stopped: bool,
}

impl Copying {
    const PACE_BYTES: u64 = 64 * 1024;

    fn note(&mut self, read: u64, written: u64, pace: &mut dyn FnMut(u64) -> bool) {
        self.written += written;
        self.unpaced += read + written;
        if self.unpaced >= Self::PACE_BYTES {
            self.stopped = !pace(self.unpaced);
            self.unpaced = 0;
        }
    }
}

/// Visits the records of a sealed segment of either kind, in order, all checksums verified. Of a log segment, records of
/// entries that begin elsewhere than in `effective` are left out.
///
/// # Errors
/// `Damaged`, and what `visit` returns.
pub(super) fn visit_records(
    segment: &Arc<Segment>,
    effective: Option<&BTreeSet<u32>>,
    visit: &mut dyn FnMut(&Record<'_>, Position) -> Result<(), LogError>,
) -> Result<(), LogError> {
    if segment.number() & DATA_SEGMENT != 0 {
        return data::visit_records(segment, visit);
    }
    let mut at = SEGMENT_HEADER_BYTES;
    while at < segment.written() {
        let damaged = |damage| LogError::Damaged {
            shard: segment.shard(),
            position: Position { segment: segment.number(), offset: at },
            damage,
        };
        let record = segment.record(at).ok_or_else(|| damaged(Damage::Record))?;
        let payload_at = at + HEADER_BYTES;
        let counts = effective.is_none_or(|offsets| offsets.contains(&payload_at));
        if record.header.kind == RecordKind::Operations && counts && !record.payload.is_empty() {
            visit_entry(segment, payload_at, record.payload.len() as u32, visit)?;
        }
        at += record.bytes();
    }
    Ok(())
}

/// Visits the records of one operation entry whose payload is known to be sound.
pub(super) fn visit_entry(
    segment: &Arc<Segment>,
    payload_at: u32,
    length: u32,
    visit: &mut dyn FnMut(&Record<'_>, Position) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let position = Position { segment: segment.number(), offset: payload_at };
    let meaningless = |error| LogError::of_operations(segment.shard(), position, Damage::Payload, error);
    let chunk = Chunk { segment: Arc::clone(segment), offset: payload_at, length };
    let operations = Operations::parse(Bytes::from_owner(chunk)).map_err(meaningless)?;
    for record in operations.records() {
        let (offset, record) = record.map_err(meaningless)?;
        visit(&record, Position { offset: payload_at + offset, ..position })?;
    }
    Ok(())
}
