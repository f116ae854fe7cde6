//! Reading a segment's bytes again from the medium, to find what has rotted before somebody needs it.
//!
//! A sealed segment never changes, so its records can be checked next to everything else. They are read through a file and
//! not through the mapping: what is in memory says nothing of the medium. Costs one window of memory, whatever the size of
//! the segment and of its records.

use super::data::{FRAME_BYTES, frame_bytes};
use super::error::{Damage, LogError};
use super::limits::SCRUB_WINDOW_BYTES;
use super::operations::{RECORD_HEADER_BYTES, RecordHeader};
use super::record::{self, HEADER_BYTES, SegmentSeed, record_bytes};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment};
use super::state::Position;
use crate::disk::{ColdFile, DATA_SEGMENT};
use crate::formats::{FormatError, UnsupportedVersion};
use kvorum_protocol::ShardId;

/// What a segment's file should hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentPlace {
    /// Its shard.
    pub shard: ShardId,
    /// Its number.
    pub number: u32,
    /// Which life of that number it is.
    pub generation: u64,
    /// Where its last record ends.
    pub written: u32,
}

impl SegmentPlace {
    /// What the file of an open segment should hold. The segment is sealed, or a data segment.
    pub fn of(segment: &Segment) -> Self {
        Self {
            shard: segment.shard(),
            number: segment.number(),
            generation: segment.generation(),
            written: segment.written(),
        }
    }
}

/// Reads all of a segment and verifies every checksum in it. `pace` is told of the bytes that were read, and may wait; if
/// it says `false`, the rest is left. Returns how many records there are, or `None` if it was stopped.
///
/// # Errors
/// `Damaged` at the first thing that is not as it was written, or can't be read. `Unsupported` if its version is not read.
pub fn scrub(
    file: &dyn ColdFile,
    place: &SegmentPlace,
    pace: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<u64>, LogError> {
    let seed = SegmentSeed::new(place.shard, place.number, place.generation);
    let mut window = Window { file, end: place.written, from: 0, bytes: Vec::new(), pace };
    let is_data = place.number & DATA_SEGMENT != 0;
    let result = check_header(&mut window, place).and_then(|()| match is_data {
        true => check_data(&mut window, &seed),
        false => check_log(&mut window, &seed),
    });
    match result {
        Ok(records) => Ok(Some(records)),
        Err(End::Stopped) => Ok(None),
        Err(End::Unsupported(version)) => Err(LogError::Unsupported { shard: place.shard, what: version.into() }),
        Err(End::Damaged(offset, damage)) => {
            let position = Position { segment: place.number, offset };
            Err(LogError::Damaged { shard: place.shard, position, damage })
        }
    }
}

/// Why not all of a segment was checked.
enum End {
    Stopped,
    Damaged(u32, Damage),
    Unsupported(UnsupportedVersion),
}

fn check_header(window: &mut Window<'_>, place: &SegmentPlace) -> Result<(), End> {
    let bytes = window.file.bytes();
    let damaged = End::Damaged(0, Damage::SegmentHeader);
    if !(SEGMENT_HEADER_BYTES..=bytes).contains(&place.written) {
        return Err(damaged);
    }
    let header = window.get(0, SEGMENT_HEADER_BYTES)?.first_chunk().expect("as many bytes as were asked for");
    match segment::decode_header(place.shard, place.number, bytes.into(), header) {
        Ok(generation) if generation == place.generation => Ok(()),
        Ok(_) | Err(FormatError::Damaged) => Err(damaged),
        Err(FormatError::Unsupported(version)) => Err(End::Unsupported(version)),
    }
}

fn check_log(window: &mut Window<'_>, seed: &SegmentSeed) -> Result<u64, End> {
    let (mut at, mut records, mut previous) = (SEGMENT_HEADER_BYTES, 0, None);
    while at < window.end {
        let damaged = || End::Damaged(at, Damage::Record);
        let header = window.get(at, HEADER_BYTES)?.first_chunk().expect("as many bytes as were asked for");
        let found = record::read_header(seed, at, header).ok_or_else(damaged)?;
        let follows = previous.is_none_or(|previous| previous == found.header.previous);
        let payload_at = at + HEADER_BYTES;
        let next = at.checked_add(record_bytes(found.payload_length)).ok_or_else(damaged)?;
        let crc = window.crc(payload_at, found.payload_length, crc32fast::Hasher::new())?;
        if !follows || crc != found.payload_crc || !window.zeros(payload_at + found.payload_length, next)? {
            return Err(damaged());
        }
        previous = Some(found.header_crc);
        records += 1;
        at = next;
    }
    Ok(records)
}

fn check_data(window: &mut Window<'_>, seed: &SegmentSeed) -> Result<u64, End> {
    let (mut at, mut records) = (SEGMENT_HEADER_BYTES, 0);
    while at < window.end {
        let damaged = || End::Damaged(at, Damage::Record);
        let front = window.get(at, FRAME_BYTES + RECORD_HEADER_BYTES as u32)?;
        let (frame, record) = front.split_at(FRAME_BYTES as usize);
        let crc = *record.first_chunk().expect("longer than four bytes");
        let header = RecordHeader::parse(record.first_chunk().expect("a record's header")).map_err(|_| damaged())?;
        if seed.place_crc(at, crc).to_le_bytes() != frame {
            return Err(damaged());
        }
        let (record_at, head_bytes) = (at + FRAME_BYTES, header.head_bytes() as u32);
        let next = at.checked_add(frame_bytes(header.record_bytes())).ok_or_else(damaged)?;
        let value_crc = match header.value_crc_at() {
            Some(offset) => window.get(at, FRAME_BYTES + offset + 4)?.last_chunk().copied(),
            None => None,
        };
        if window.crc(record_at + 4, head_bytes - 4, crc32fast::Hasher::new())? != u32::from_le_bytes(crc) {
            return Err(damaged());
        }
        let value_at = record_at + head_bytes;
        if let Some(value_crc) = value_crc
            && window.crc(value_at, next - value_at, crc32fast::Hasher::new())? != u32::from_le_bytes(value_crc)
        {
            return Err(damaged());
        }
        records += 1;
        at = next;
    }
    Ok(records)
}

/// A part of the file in memory, which moves forward.
struct Window<'a> {
    file: &'a dyn ColdFile,
    /// Nothing is read from here on.
    end: u32,
    from: u32,
    bytes: Vec<u8>,
    pace: &'a mut dyn FnMut(u64) -> bool,
}

impl Window<'_> {
    /// `length` bytes from `at`, at most a window's worth.
    fn get(&mut self, at: u32, length: u32) -> Result<&[u8], End> {
        assert!(length <= SCRUB_WINDOW_BYTES, "a window holds what is asked for");
        let damaged = |damage| End::Damaged(at, damage);
        let end = at.checked_add(length).filter(|end| *end <= self.end).ok_or(damaged(Damage::Record))?;
        if at < self.from || u64::from(end) > u64::from(self.from) + self.bytes.len() as u64 {
            let bytes = SCRUB_WINDOW_BYTES.min(self.end - at);
            self.bytes.resize(bytes as usize, 0);
            self.from = at;
            if let Err(error) = self.file.read_at(at, &mut self.bytes) {
                tracing::error!(%error, "a segment can't be read");
                return Err(damaged(Damage::Unreadable));
            }
            if !(self.pace)(bytes.into()) {
                return Err(End::Stopped);
            }
        }
        let from = (at - self.from) as usize;
        Ok(&self.bytes[from..from + length as usize])
    }

    /// The checksum of `length` bytes from `at`.
    fn crc(&mut self, at: u32, length: u32, mut hasher: crc32fast::Hasher) -> Result<u32, End> {
        if length > self.end.saturating_sub(at) {
            return Err(End::Damaged(at, Damage::Record));
        }
        let mut done = 0;
        while done < length {
            // No more than what is in memory already, if anything is: records that follow are read with it.
            let here = at + done;
            let left = (self.from + self.bytes.len() as u32).checked_sub(here).filter(|left| *left > 0);
            let step = left.filter(|_| here >= self.from).unwrap_or(SCRUB_WINDOW_BYTES).min(length - done);
            hasher.update(self.get(here, step)?);
            done += step;
        }
        Ok(hasher.finalize())
    }

    /// Whether all bytes from `at` to `end` are zero. They are padding: fewer than eight.
    fn zeros(&mut self, at: u32, end: u32) -> Result<bool, End> {
        Ok(self.get(at, end - at)?.iter().all(|&byte| byte == 0))
    }
}
