//! From the files of a shard to its log. `docs/LOG_FORMAT.md` has the argument; in short:
//!
//! - Everything before the *durable* position was promised. It is there and valid, or the replica is faulty.
//! - Nothing after it was ever promised. The first invalid record there ends the log, whatever follows: without a sync
//!   the system writes pages in any order, so a later page may well have reached the disk before an earlier one.
//! - If no durable position is known, an invalid record ends the log only if nothing valid follows it.
//! - Segments that the manifest lists were synced before it was written. They are taken as they are: a reader verifies
//!   each record.
//! - Nothing is removed or changed before all of it has been read and found sound: what looks like a leftover may be what
//!   a manifest that is gone listed, and the last copy of it.

use super::entries::{EntryPlace, EntryTable};
use super::error::{Damage, LogError};
use super::manifest::Manifest;
use super::operations::first_version;
use super::record::{self, CheckedRecord, HEADER_BYTES, RecordKind};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::state::{HardState, Membership, Position};
use crate::disk::map::MappingWriter;
use crate::disk::{DATA_SEGMENT, Disk};
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::peer::RaftEntryKind;
use kvorum_protocol::{LogIndex, ShardId, Term, Version};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What opening a log found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// There was no log; it was created.
    pub created: bool,
    /// Valid records, superseded ones included.
    pub records: u64,
    /// Bytes of a torn tail that were zeroed.
    pub cut_bytes: u64,
    /// Segments after the end of the log that were removed.
    pub removed_segments: u32,
    /// The shard has a manifest: its log does not begin at its first entry.
    pub from_base: bool,
}

/// What the records of a log add up to.
#[derive(Debug)]
pub(super) struct LogState {
    pub(super) entries: EntryTable,
    pub(super) hard_state: HardState,
    pub(super) membership: Option<Membership>,
    /// Segments that hold entries which were superseded.
    pub(super) stale: BTreeSet<u32>,
    /// Of each segment with records, a version that none of them undercuts.
    pub(super) lowest: BTreeMap<u32, Version>,
}

impl LogState {
    /// What is known before the first record is read.
    pub(super) fn new(recent_bytes_max: usize, manifest: Option<&Manifest>) -> Self {
        let before = manifest.map_or((LogIndex(0), Term(0)), |manifest| manifest.start.before);
        Self {
            entries: EntryTable::new(recent_bytes_max, before),
            // Not as of the manifest: the first hard states that are read may be from when less was committed than lies
            // before the log's first entry now.
            hard_state: HardState::default(),
            membership: None,
            stale: BTreeSet::new(),
            lowest: BTreeMap::new(),
        }
    }

    /// An entry with this payload is in a segment. What a checkpoint says of the segment is known from here on: it is prepared in a turn of the
    /// shard, which must not read a segment for it.
    pub(super) fn note_versions(&mut self, segment: u32, kind: RaftEntryKind, payload: &[u8]) {
        if let Some(first) = first_version(payload).filter(|_| kind == RaftEntryKind::Operations) {
            let lowest = self.lowest.entry(segment).or_insert(first);
            *lowest = first.min(*lowest);
        }
    }

    /// Adds what the manifest says, now that the records have been read. Those were written before it or after it: the
    /// newer hard state counts. The membership of a log that has a manifest is the base's; what changed it since then will
    /// be applied again.
    fn complete(&mut self, manifest: &Manifest) -> Result<(), Damage> {
        let (stored, found) = (manifest.hard_state, self.hard_state);
        self.hard_state = HardState {
            term: stored.term.max(found.term),
            vote: match found.term.cmp(&stored.term) {
                Ordering::Less => stored.vote,
                Ordering::Equal => found.vote.or(stored.vote),
                Ordering::Greater => found.vote,
            },
            commit: stored.commit.max(found.commit).max(manifest.base.index),
        };
        self.membership = Some(manifest.base.membership.clone());
        let reaches = self.hard_state.commit <= self.entries.last();
        if reaches { Ok(()) } else { Err(Damage::EndsEarly) }
    }

    /// Takes in a record found at `at`.
    fn apply(&mut self, record: &CheckedRecord<'_>, at: Position) -> Result<(), Damage> {
        let (term, index) = (Term(record.header.term), LogIndex(record.header.index));
        match record.header.kind {
            RecordKind::Operations | RecordKind::MembershipChange => {
                let kind = record.header.kind.entry_kind().expect("both kinds are entries");
                let payload = Position { offset: at.offset + HEADER_BYTES, ..at };
                let place = EntryPlace { term, payload, length: record.payload.len() as u32, kind };
                if index <= self.hard_state.commit || !self.entries.accepts(index, term) {
                    return Err(Damage::Sequence);
                }
                self.entries.put(index, place, None, &mut self.stale);
                self.note_versions(at.segment, kind, record.payload);
            }
            RecordKind::HardState => {
                let state = HardState::decode(term, index, record.payload).ok_or(Damage::Payload)?;
                let falls = state.term < self.hard_state.term || state.commit < self.hard_state.commit;
                if falls || state.commit > self.entries.last() {
                    return Err(Damage::Sequence);
                }
                self.hard_state = state;
            }
            RecordKind::BootstrapMembership => {
                let payload = Bytes::copy_from_slice(record.payload);
                self.membership = Some(Membership::decode(payload).map_err(|_| Damage::Payload)?);
            }
            RecordKind::Seal => {}
        }
        Ok(())
    }
}

/// A log as recovery leaves it: valid from end to end, and durable.
pub(super) struct RecoveredLog {
    pub(super) state: LogState,
    /// The segments that the manifest lists.
    pub(super) listed: Vec<Arc<Segment>>,
    /// The log's segments, oldest first; never empty.
    pub(super) segments: Vec<Arc<Segment>>,
    /// What the first record of each of them names as its predecessor.
    pub(super) starts: BTreeMap<u32, u32>,
    /// The writer of the last segment.
    pub(super) writer: MappingWriter,
    /// The header checksum of the last record.
    pub(super) previous: u32,
    /// The last record is a seal: the next segment was never made, or is lost and was empty.
    pub(super) sealed: bool,
    pub(super) recovered: Recovered,
}

/// Recovers a shard's log; `None` if it has no files and nothing of it is known to be durable.
pub(super) fn recover(
    disk: &dyn Disk,
    shard: ShardId,
    durable: Option<Position>,
    state: LogState,
    manifest: Option<&Manifest>,
) -> Result<Option<RecoveredLog>, LogError> {
    let damaged = |position, damage| LogError::Damaged { shard, position, damage };
    let start = |segment| Position { segment, offset: 0 };
    let first = manifest.map_or(1, |manifest| manifest.start.segment);
    // What the journal knows of segments that the manifest has left behind says nothing any more.
    let durable = match manifest {
        Some(_) => durable.map(|durable| durable.max(start(first))),
        None => durable,
    };
    let Sorted { listed, numbers, leftovers } = sort_out(disk, shard, manifest, first)?;
    let has_data = leftovers.iter().any(|number| number & DATA_SEGMENT != 0);
    if manifest.is_none() && has_data && numbers.first() != Some(&1) {
        // A log whose first segment is gone has a manifest, and records here that it listed.
        return Err(damaged(start(0), Damage::Manifest));
    }
    if let Some((_, missing)) = numbers.iter().zip(first..).find(|(number, expected)| *number != expected) {
        return Err(damaged(start(missing), Damage::SegmentMissing));
    }
    let last_known = durable.map_or(0, |durable| durable.segment).max(manifest.map_or(0, |_| first));
    if numbers.last().copied().unwrap_or(0) < last_known {
        return Err(damaged(start(last_known), Damage::SegmentMissing));
    }
    let mut parts = Vec::with_capacity(numbers.len());
    for number in numbers {
        let opened = disk.open_segment(shard, number)?.ok_or(damaged(start(number), Damage::SegmentHeader))?;
        let (segment, writer) = Segment::from_opened(shard, number, opened)
            .map_err(|error| LogError::of_format(shard, start(number), Damage::SegmentHeader, error))?;
        parts.push(Part { segment: Arc::new(segment), writer });
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let recovery = Recovery {
        disk,
        shard,
        durable,
        state,
        parts,
        starts: BTreeMap::new(),
        recovered: Recovered { from_base: manifest.is_some(), ..Recovered::default() },
    };
    let log = recovery.run(manifest, listed)?;
    remove_leftovers(disk, shard, &leftovers)?;
    Ok(Some(log))
}

fn remove_leftovers(disk: &dyn Disk, shard: ShardId, leftovers: &[u32]) -> Result<(), LogError> {
    Ok(leftovers.iter().try_for_each(|number| disk.remove_segment(shard, *number))?)
}

/// The segments of a shard's folder.
struct Sorted {
    /// Those that the manifest lists, open.
    listed: Vec<Arc<Segment>>,
    /// Those of the log.
    numbers: Vec<u32>,
    /// The others. Something that did not come to its end left them, if the rest is sound.
    leftovers: Vec<u32>,
}

/// Opens the segments that the manifest lists, and says which log segments there are from `first` on, and which belong to
/// neither.
fn sort_out(disk: &dyn Disk, shard: ShardId, manifest: Option<&Manifest>, first: u32) -> Result<Sorted, LogError> {
    let listed = manifest.map_or(&[][..], |manifest| &manifest.listed);
    let (mut numbers, mut leftovers) = (Vec::new(), Vec::new());
    for number in disk.list_segments(shard)? {
        if listed.iter().any(|listed| listed.number == number) {
            continue;
        }
        if number & DATA_SEGMENT == 0 && number >= first {
            numbers.push(number);
        } else {
            leftovers.push(number);
        }
    }
    if planted(Bug::RecoveryRemovesFirst) {
        remove_leftovers(disk, shard, &leftovers)?;
        leftovers.clear();
    }
    let open = |listed: &super::manifest::Listed| {
        let position = Position { segment: listed.number, offset: 0 };
        let damaged = |damage| LogError::Damaged { shard, position, damage };
        let opened = disk.open_segment(shard, listed.number)?.ok_or(damaged(Damage::SegmentMissing))?;
        let (segment, mut writer) = Segment::from_opened(shard, listed.number, opened)
            .map_err(|error| LogError::of_format(shard, position, Damage::SegmentHeader, error))?;
        if segment.generation() != listed.generation || listed.written > segment.bytes() {
            return Err(damaged(Damage::SegmentHeader));
        }
        writer.advance(listed.written);
        Ok(Arc::new(segment))
    };
    let listed = listed.iter().map(open).collect::<Result<_, LogError>>()?;
    Ok(Sorted { listed, numbers, leftovers })
}

struct Part {
    segment: Arc<Segment>,
    writer: MappingWriter,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    shard: ShardId,
    durable: Option<Position>,
    state: LogState,
    parts: Vec<Part>,
    starts: BTreeMap<u32, u32>,
    recovered: Recovered,
}

/// How far one segment is valid.
struct Scanned {
    end: u32,
    sealed: bool,
    /// The header checksum of the last record.
    previous: u32,
}

impl Recovery<'_> {
    fn run(mut self, manifest: Option<&Manifest>, listed: Vec<Arc<Segment>>) -> Result<RecoveredLog, LogError> {
        let previous = manifest.map_or(0, |manifest| manifest.start.previous);
        let mut scanned = Scanned { end: 0, sealed: false, previous };
        let mut last = 0;
        for at in 0..self.parts.len() {
            last = at;
            self.starts.insert(self.parts[at].segment.number(), scanned.previous);
            scanned = self.scan(at, scanned.previous)?;
            if !scanned.sealed {
                break;
            }
            self.parts[at].writer.advance(scanned.end);
        }
        let end = Position { segment: self.parts[last].segment.number(), offset: scanned.end };
        if !scanned.sealed {
            self.check_cut(last, end)?;
        }
        if self.durable.is_some_and(|durable| end < durable) && !planted(Bug::DurableDamageCut) {
            return Err(self.damaged(end, Damage::EndsEarly));
        }
        if let Some(manifest) = manifest {
            self.state.complete(manifest).map_err(|damage| self.damaged(end, damage))?;
        }
        // All is sound. From here on something may change.
        if !scanned.sealed {
            self.cut(last, end)?;
        }
        // After kill -9 the page cache is ahead of the disk. What is shown from here on must not be lost by a power
        // failure later: it may be acknowledged without being written again. Clean files cost microseconds.
        for part in &self.parts {
            part.segment.sync()?;
        }
        let writer = self.parts.pop().expect("a log has segments");
        let segments = self.parts.iter().chain([&writer]).map(|part| Arc::clone(&part.segment)).collect();
        Ok(RecoveredLog {
            state: self.state,
            listed,
            segments,
            starts: self.starts,
            writer: writer.writer,
            previous: scanned.previous,
            sealed: scanned.sealed,
            recovered: self.recovered,
        })
    }

    /// Takes in the valid records at the front of a segment.
    fn scan(&mut self, at: usize, mut previous: u32) -> Result<Scanned, LogError> {
        let part = &mut self.parts[at];
        let number = part.segment.number();
        let bytes = part.writer.tail();
        let mut end = SEGMENT_HEADER_BYTES;
        while let Some(record) = record::read(part.segment.seed(), bytes, end) {
            if previous != record.header.previous {
                // Valid for its place, but it continues another history of this place.
                break;
            }
            let position = Position { segment: number, offset: end };
            self.state.apply(&record, position).map_err(|damage| LogError::Damaged {
                shard: self.shard,
                position,
                damage,
            })?;
            self.recovered.records += 1;
            previous = record.header_crc;
            end += record.bytes();
            if record.header.kind == RecordKind::Seal {
                return Ok(Scanned { end, sealed: true, previous });
            }
        }
        Ok(Scanned { end, sealed: false, previous })
    }

    /// The log would end at `end`, in part `last`: may it?
    fn check_cut(&mut self, last: usize, end: Position) -> Result<(), LogError> {
        match self.durable {
            Some(durable) if end < durable && !planted(Bug::DurableDamageCut) => {
                let rest = &self.parts[last].writer.tail()[end.offset as usize..];
                let damage = if used_bytes(rest).is_some() { Damage::Record } else { Damage::EndsEarly };
                Err(self.damaged(end, damage))
            }
            Some(_) => Ok(()),
            None => {
                let mut from = end.offset;
                for part in &mut self.parts[last..] {
                    if record::any_valid(part.segment.seed(), part.writer.tail(), from) {
                        return Err(self.damaged(end, Damage::RecordBeforeOthers));
                    }
                    from = SEGMENT_HEADER_BYTES;
                }
                Ok(())
            }
        }
    }

    /// Ends the log at `end`: the segments after it go, newest first so that a crash in between leaves no gap, and the
    /// rest of the last one becomes zeros, so that nothing of this history is ever taken for part of a later one.
    fn cut(&mut self, last: usize, end: Position) -> Result<(), LogError> {
        while self.parts.len() > last + 1 {
            let part = self.parts.pop().expect("there are more than one");
            self.disk.remove_segment(self.shard, part.segment.number())?;
            self.recovered.removed_segments += 1;
        }
        let writer = &mut self.parts[last].writer;
        let rest = &mut writer.tail()[end.offset as usize..];
        if let Some(torn) = used_bytes(rest) {
            rest[..torn].fill(0);
            self.recovered.cut_bytes += torn as u64;
        }
        writer.advance(end.offset);
        Ok(())
    }

    fn damaged(&self, position: Position, damage: Damage) -> LogError {
        LogError::Damaged { shard: self.shard, position, damage }
    }
}

/// How many bytes from the first up to the last that is not zero, rounded up to whole blocks; `None` if all are zero.
/// Compares block by block from the end, which runs at the speed of memory.
fn used_bytes(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        if bytes[start..end] != ZEROS[..end - start] {
            return Some(end);
        }
        end = start;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_bytes_ends_at_the_last_block_in_use() {
        assert_eq!(used_bytes(&[]), None);
        assert_eq!(used_bytes(&[0; 10_000]), None);
        let mut bytes = vec![0; 10_000];
        bytes[0] = 1;
        assert_eq!(used_bytes(&bytes), Some(10_000 - 2 * 4096));
        bytes[9_999] = 1;
        assert_eq!(used_bytes(&bytes), Some(10_000));
    }
}
