//! The one writer of a shard's log.

use super::disk::Disk;
use super::entries::EntryPlace;
use super::error::{Damage, LogError};
use super::limits::{
    PREFAULT_BYTES, RECENT_BYTES_MAX, RESERVE_BYTES, SEGMENT_BYTES_FIRST, SEGMENT_BYTES_LIMIT, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_UNIT, VOTE_BYTES,
};
use super::map::MappingWriter;
use super::record::{self, ALIGNMENT, HEADER_BYTES, Header, RecordKind, SEAL_BYTES, record_bytes};
use super::recovery::{self, LogState, Recovered, RecoveredLog};
use super::segment::{Chunk, LogView, SEGMENT_HEADER_BYTES, Segment};
use super::source::{PreparedSegment, SegmentSource};
use super::state::{HardState, Membership, Position};
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX;
use kvorum_protocol::peer::RaftEntry;
use kvorum_protocol::{LogIndex, ShardId, Term};
use std::sync::Arc;

/// What an entry takes in the log besides its payload, at most.
pub const ENTRY_OVERHEAD_BYTES: u32 = HEADER_BYTES + ALIGNMENT;

/// How a log is laid out. Everything but the source has a default in [`super::limits`].
#[derive(Clone)]
pub struct LogOptions {
    /// Size of the first segment, in bytes; a multiple of 4096.
    pub segment_bytes_first: u32,
    /// Size up to which segments double, in bytes; a multiple of 4096.
    pub segment_bytes_max: u32,
    /// Payload bytes of the newest entries that are kept in memory.
    pub recent_bytes_max: usize,
    /// Where new segments come from; one for all shards of a node.
    pub source: Arc<dyn SegmentSource>,
}

impl LogOptions {
    /// The defaults, with segments from `source`.
    pub fn new(source: Arc<dyn SegmentSource>) -> LogOptions {
        LogOptions {
            segment_bytes_first: SEGMENT_BYTES_FIRST,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            recent_bytes_max: RECENT_BYTES_MAX,
            source,
        }
    }
}

/// A shard's log, open for appending. One value per shard directory at a time.
///
/// Appends copy into a mapping and return at once; nothing is durable before the chunks of
/// [`ShardLog::take_appended`] went through the journal.
pub struct ShardLog {
    shard: ShardId,
    options: LogOptions,
    state: LogState,
    view: Arc<LogView>,
    active: Arc<Segment>,
    writer: MappingWriter,
    /// The header checksum of the last record.
    previous: u32,
    appended: Vec<Chunk>,
}

impl ShardLog {
    /// Opens a shard's log, or creates it if its directory is empty and nothing is known of it.
    ///
    /// `durable` is the end of what the journal knows to be durable ([`crate::journal::Replayed::durable`] at a start of
    /// the node, [`crate::journal::JournalHandle::durable`] when a shard restarts alone), `None` if it knows nothing.
    /// What this returns is durable. The first [`ShardLog::take_appended`] yields a mark that says so: submit it and wait
    /// for it before a vote or an append reply leaves.
    ///
    /// Reads every byte of the log once; blocks.
    ///
    /// # Errors
    /// `Damaged` if the replica is faulty; see [`Damage`]. Nothing was changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        shard: ShardId,
        durable: Option<Position>,
        options: LogOptions,
    ) -> Result<(ShardLog, Recovered), LogError> {
        assert!(options.segment_bytes_first <= options.segment_bytes_max);
        options.source.forget(shard);
        let durable = durable.filter(|_| !planted(Bug::DurablePositionIgnored));
        let state = LogState::new(options.recent_bytes_max);
        let (mut log, recovered) = match recovery::recover(&**disk, shard, durable, state)? {
            Some(found) => ShardLog::from_recovered(shard, options, found)?,
            None => ShardLog::create(shard, options)?,
        };
        let offset = log.writer.written();
        log.appended.push(Chunk { segment: Arc::clone(&log.active), offset, length: 0 });
        if recovered.cut_bytes > 0 || recovered.removed_segments > 0 {
            let (bytes, segments) = (recovered.cut_bytes, recovered.removed_segments);
            tracing::info!(%shard, end = %log.end(), bytes, segments, "cut the log's unacknowledged tail");
        }
        Ok((log, recovered))
    }

    fn create(shard: ShardId, options: LogOptions) -> Result<(ShardLog, Recovered), LogError> {
        let PreparedSegment { segment, writer } = options.source.take(shard, 1, options.segment_bytes_first)?;
        let active = Arc::new(segment);
        let view = Arc::new(LogView::default());
        view.insert(Arc::clone(&active));
        let state = LogState::new(options.recent_bytes_max);
        let log = ShardLog { shard, options, state, view, active, writer, previous: 0, appended: Vec::new() };
        Ok((log, Recovered { created: true, ..Recovered::default() }))
    }

    fn from_recovered(
        shard: ShardId,
        options: LogOptions,
        found: RecoveredLog,
    ) -> Result<(ShardLog, Recovered), LogError> {
        let view = Arc::new(LogView::default());
        let active = Arc::clone(found.segments.last().expect("a recovered log has segments"));
        for segment in found.segments {
            view.insert(segment);
        }
        let RecoveredLog { state, writer, previous, .. } = found;
        let mut log = ShardLog { shard, options, state, view, active, writer, previous, appended: Vec::new() };
        if found.sealed {
            let next = log.next_segment(0)?;
            log.activate(next);
        }
        Ok((log, found.recovered))
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The newest hard state; all zeros if there is none.
    pub fn hard_state(&self) -> HardState {
        self.state.hard_state
    }

    /// The membership that the replica starts from, if one was appended.
    pub fn membership(&self) -> Option<&Membership> {
        self.state.membership.as_ref()
    }

    /// The index of the first entry, or what it will be.
    pub fn first_index(&self) -> LogIndex {
        self.state.entries.first()
    }

    /// The index of the last entry; `first_index() - 1` if there is none.
    pub fn last_index(&self) -> LogIndex {
        self.state.entries.last()
    }

    /// The term of an entry; `None` if the log does not hold it.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        self.state.entries.get(index).map(|place| place.term)
    }

    /// Where an entry's payload is, and how long; `None` if the log does not hold it.
    pub fn payload_position(&self, index: LogIndex) -> Option<(Position, u32)> {
        self.state.entries.get(index).map(|place| (place.payload, place.length))
    }

    /// The position after the last record.
    pub fn end(&self) -> Position {
        Position { segment: self.active.number(), offset: self.writer.written() }
    }

    /// The log as its readers see it.
    pub fn view(&self) -> Arc<LogView> {
        Arc::clone(&self.view)
    }

    /// What the log's files take on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.view.bytes()
    }

    /// How many segments the log has.
    pub fn segment_count(&self) -> usize {
        self.view.segment_count()
    }

    /// An entry. One of the newest is a look-up and a reference count; an older one is read from its segment without a
    /// copy, but with its checksum, and may wait for the disk.
    ///
    /// # Errors
    /// `NoEntry` if the log does not hold it, `Damaged` if its bytes do not match their checksum any more.
    pub fn entry(&self, index: LogIndex) -> Result<RaftEntry, LogError> {
        let place = *self.state.entries.get(index).ok_or(LogError::NoEntry(index.0))?;
        let payload = match self.state.entries.recent(index) {
            Some(payload) => payload.clone(),
            None => self.stored_payload(index, &place)?,
        };
        Ok(RaftEntry { term: place.term, index, kind: place.kind, payload })
    }

    fn stored_payload(&self, index: LogIndex, place: &EntryPlace) -> Result<Bytes, LogError> {
        let position = Position { offset: place.payload.offset - HEADER_BYTES, ..place.payload };
        let segment = self.view.segment(position.segment).expect("entries are in segments that the log has");
        let sound = segment.record(position.offset).is_some_and(|record| {
            let header = record.header;
            let here = (header.index, Term(header.term), header.kind.entry_kind(), record.payload.len() as u32);
            here == (index.0, place.term, Some(place.kind), place.length)
        });
        if !sound {
            return Err(LogError::Damaged { shard: self.shard, position, damage: Damage::Record });
        }
        Ok(Bytes::from_owner(Chunk { segment, offset: place.payload.offset, length: place.length }))
    }

    /// Appends an entry and returns the position of its payload's first byte. It supersedes an entry of the same index
    /// and all after it.
    ///
    /// # Errors
    /// `TooLarge`, `DiskFull` if another segment is needed and there is no room, or another failure of the disk. Nothing
    /// was appended then.
    ///
    /// # Panics
    /// If the index is past the end of the log or was declared committed, or the term is below its predecessor's.
    pub fn append_entry(&mut self, entry: &RaftEntry) -> Result<Position, LogError> {
        let RaftEntry { term, index, kind, ref payload } = *entry;
        assert!(index > self.state.hard_state.commit, "entry {index} is committed and can't be superseded");
        assert!(self.state.entries.accepts(index, term), "entry {index} of term {term} does not fit the log");
        if payload.len() > RAFT_ENTRY_BYTES_MAX {
            return Err(LogError::TooLarge { bytes: payload.len() });
        }
        let at = self.append(RecordKind::of_entry(kind), term, index, payload)?;
        let at = Position { offset: at.offset + HEADER_BYTES, ..at };
        let place = EntryPlace { term, payload: at, length: payload.len() as u32, kind };
        self.state.entries.put(index, place, Some(payload));
        Ok(at)
    }

    /// Appends term, vote and commit position. Append the entries that `commit` speaks of before it.
    ///
    /// # Errors
    /// `DiskFull` or another failure of the disk. Nothing was appended then.
    ///
    /// # Panics
    /// If the term falls, or `commit` falls or is past the last entry.
    pub fn append_hard_state(&mut self, state: HardState) -> Result<(), LogError> {
        assert!(state.term >= self.state.hard_state.term, "terms never fall");
        assert!(state.commit >= self.state.hard_state.commit, "what is committed stays committed");
        assert!(state.commit <= self.last_index(), "only entries of the log are committed");
        self.append(RecordKind::HardState, state.term, state.commit, &state.encode_payload())?;
        self.state.hard_state = state;
        Ok(())
    }

    /// Appends the membership that the replica starts from; the last one counts.
    ///
    /// # Errors
    /// `DiskFull` or another failure of the disk. Nothing was appended then.
    pub fn append_membership(&mut self, membership: &Membership) -> Result<(), LogError> {
        let mut payload = Vec::new();
        membership.encode(&mut payload);
        self.append(RecordKind::BootstrapMembership, Term(0), LogIndex(0), &payload)?;
        self.state.membership = Some(membership.clone());
        Ok(())
    }

    /// Whether appends of so many bytes together, [`ENTRY_OVERHEAD_BYTES`] for each entry included, find room although the
    /// disk may be full, and leave all of the reserve of [`super::limits::RESERVE_BYTES`]: for hard states, a new leader's
    /// first entry and removals. If so, only a failure of the disk can keep them out. May make the next segment, and block.
    pub fn can_append(&self, bytes: u32) -> bool {
        self.can_append_and_keep(bytes, self.reserve_bytes())
    }

    /// As [`ShardLog::can_append`], but half of the reserve may be used: for what frees space, or waits in the log with
    /// what does.
    pub fn can_append_urgent(&self, bytes: u32) -> bool {
        self.can_append_and_keep(bytes, self.reserve_bytes() / 2)
    }

    /// As [`ShardLog::can_append`], for what an election makes a replica write: all of the reserve may be used.
    pub fn can_append_vote(&self) -> bool {
        self.can_append_and_keep(VOTE_BYTES, 0)
    }

    fn can_append_and_keep(&self, bytes: u32, kept: u32) -> bool {
        let needed = bytes.saturating_add(kept);
        if needed > SEGMENT_BYTES_LIMIT {
            return false;
        }
        self.has_room(needed)
            || self
                .next_number()
                .is_ok_and(|number| self.options.source.ready(self.shard, number, self.size_for(needed)))
    }

    /// What is kept free in the active segment while there is no next one; less in a small segment.
    fn reserve_bytes(&self) -> u32 {
        RESERVE_BYTES.min(self.active.bytes() / 4)
    }

    /// The ranges appended since the last call, in log order, one per segment touched. After [`ShardLog::open`] it begins
    /// with the mark that everything recovered is durable.
    pub fn take_appended(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.appended)
    }

    /// Appends a record and returns the position of its first byte.
    fn append(&mut self, kind: RecordKind, term: Term, index: LogIndex, payload: &[u8]) -> Result<Position, LogError> {
        let bytes = record_bytes(payload.len() as u32);
        if !self.has_room(bytes) {
            // The next segment is durable before the seal that leads to it is written.
            let next = self.next_segment(bytes)?;
            self.write(RecordKind::Seal, Term(0), LogIndex(0), &[]);
            self.activate(next);
        }
        let position = self.end();
        self.write(kind, term, index, payload);
        self.prepare_next(bytes);
        Ok(position)
    }

    fn has_room(&self, bytes: u32) -> bool {
        self.writer.written() + bytes + SEAL_BYTES <= self.active.bytes()
    }

    /// Copies a record into the active segment, which has room for it, and makes it readable.
    fn write(&mut self, kind: RecordKind, term: Term, index: LogIndex, payload: &[u8]) {
        let offset = self.writer.written();
        let length = record_bytes(payload.len() as u32);
        self.writer.prefault(length, PREFAULT_BYTES);
        let header = Header { kind, previous: self.previous, term: term.0, index: index.0 };
        let out = &mut self.writer.tail()[..length as usize];
        self.previous = record::encode(self.active.seed(), offset, &header, payload, out);
        self.writer.advance(length);
        match self.appended.last_mut() {
            Some(chunk) if chunk.segment.number() == self.active.number() => chunk.length += length,
            _ => self.appended.push(Chunk { segment: Arc::clone(&self.active), offset, length }),
        }
    }

    fn next_number(&self) -> Result<u32, LogError> {
        self.active.number().checked_add(1).ok_or(LogError::OutOfSegments)
    }

    /// A segment to follow the active one, with room for a record of `bytes`.
    fn next_segment(&self, bytes: u32) -> Result<PreparedSegment, LogError> {
        Ok(self.options.source.take(self.shard, self.next_number()?, self.size_for(bytes))?)
    }

    /// How large the next segment is to be if it must hold records of `bytes`.
    fn size_for(&self, bytes: u32) -> u32 {
        let needed = (SEGMENT_HEADER_BYTES + bytes + SEAL_BYTES).next_multiple_of(SEGMENT_BYTES_UNIT);
        self.next_segment_bytes().max(needed)
    }

    fn next_segment_bytes(&self) -> u32 {
        self.active.bytes().saturating_mul(2).clamp(self.options.segment_bytes_first, self.options.segment_bytes_max)
    }

    fn activate(&mut self, PreparedSegment { segment, writer }: PreparedSegment) {
        self.active = Arc::new(segment);
        self.writer = writer;
        self.view.insert(Arc::clone(&self.active));
    }

    /// Asks for the next segment when the active one has just become half full.
    fn prepare_next(&self, bytes: u32) {
        let (written, half) = (self.writer.written(), self.active.bytes() / 2);
        let crossed = written >= half && written - bytes < half;
        if let (true, Ok(number)) = (crossed, self.next_number()) {
            self.options.source.prepare(self.shard, number, self.next_segment_bytes());
        }
    }
}

/// Removes a shard's log from the disk, for a replica that was removed or is to start over. The shard's [`ShardLog`] must
/// be gone. Open the new one without a durable position.
///
/// # Errors
/// If the disk fails.
pub fn erase(disk: &dyn Disk, source: &dyn SegmentSource, shard: ShardId) -> Result<(), LogError> {
    source.forget(shard);
    // Newest first: a crash in between leaves a log without a gap, which ends before what the journal knows of it.
    for number in disk.list_segments(shard)?.into_iter().rev() {
        disk.remove_segment(shard, number)?;
    }
    Ok(())
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
