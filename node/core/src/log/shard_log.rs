//! Long because a log is one value: what opens, appends, retires and checkpoints it shares all of its fields.
//!
//! The one writer of a shard's log.

mod alone;
mod old_keys;
mod room;

pub use old_keys::SealingProgress;

use super::compaction::{self, Compacted, Compaction, Victim};
use super::data::{DataSegment, DataWriter};
use super::entries::EntryPlace;
use super::error::{Damage, LogError};
use super::limits::{
    PREFAULT_BYTES, RECENT_BYTES_MAX, RESERVE_BYTES, SEGMENT_AHEAD_BYTES, SEGMENT_BYTES_FIRST, SEGMENT_BYTES_LIMIT,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_UNIT, VOTE_BYTES,
};
use super::manifest::{self, Base, Listed, LogStart, Manifest};
use super::operations::{self, IndexSecret};
use super::record::{self, ALIGNMENT, HEADER_BYTES, Header, RecordKind, SEAL_BYTES, record_bytes};
use super::recovery::{self, LogState, Recovered, RecoveredLog};
use super::segment::{Chunk, LogView, SEGMENT_HEADER_BYTES, Segment};
use super::source::{PreparedSegment, SegmentSource};
use super::state::{HardState, Membership, Position};
use crate::disk::map::MappingWriter;
use crate::disk::{DATA_SEGMENT, Disk, HINT_FILE, MANIFEST_FILE};
use crate::sealing::{Keyring, ShardKeys};
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ShardId, Term, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tracing::warn;

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
    /// What is sealed, and with which keys; one for all shards of a node.
    pub keys: Arc<Keyring>,
}

impl LogOptions {
    /// The defaults, with segments from `source`.
    pub fn new(source: Arc<dyn SegmentSource>) -> Self {
        Self {
            segment_bytes_first: SEGMENT_BYTES_FIRST,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            recent_bytes_max: RECENT_BYTES_MAX,
            source,
            #[cfg(not(test))]
            keys: Arc::default(),
            #[cfg(test)]
            keys: crate::sealing::testing::keyring(),
        }
    }

    fn view(&self, shard: ShardId) -> Arc<LogView> {
        Arc::new(LogView::new(Arc::new(ShardKeys::new(shard, Arc::clone(&self.keys)))))
    }
}

/// A shard's log, open for appending. One value per shard directory at a time.
///
/// Appends copy into a mapping and return at once; nothing is durable before the chunks of
/// [`ShardLog::take_appended`] went through the journal.
pub struct ShardLog {
    shard: ShardId,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    state: LogState,
    /// The newest that is durable; `None` for a log that begins at its first entry.
    manifest: Option<Manifest>,
    /// What the first record of each segment that consensus still needs names as its predecessor.
    starts: BTreeMap<u32, u32>,
    /// The number of the next data segment.
    data_numbers: Arc<AtomicU32>,
    view: Arc<LogView>,
    active: Arc<Segment>,
    writer: MappingWriter,
    /// The header checksum of the last record.
    previous: u32,
    appended: Vec<Chunk>,
    /// Bytes of all records since the newest manifest, or since the log was opened.
    grown: u64,
    /// See [`ShardLog::roll`].
    unsynced: Option<u32>,
}

impl ShardLog {
    /// Opens a shard's log, or creates it if its directory is empty and nothing is known of it.
    ///
    /// `durable` is the end of what the journal knows to be durable ([`crate::journal::Replayed::durable`] at a start of
    /// the node, [`crate::journal::ShardJournal::durable`] when a shard restarts alone), `None` if it knows nothing.
    /// What this returns is durable. The first [`ShardLog::take_appended`] yields a mark that says so: submit it and wait
    /// for it before a vote or an append reply leaves.
    ///
    /// Reads every byte of the part of the log that consensus still needs once; blocks. What the manifest lists is mapped
    /// and not read.
    ///
    /// # Errors
    /// `Damaged` if the replica is faulty; see [`Damage`]. Nothing of use was changed then.
    pub fn open(
        disk: &Arc<dyn Disk>,
        shard: ShardId,
        durable: Option<Position>,
        options: LogOptions,
    ) -> Result<(Self, Recovered), LogError> {
        assert!(options.segment_bytes_first <= options.segment_bytes_max);
        options.source.forget(shard);
        let durable = durable.filter(|_| !planted(Bug::DurablePositionIgnored));
        let manifest = read_manifest(&**disk, shard)?;
        let state = LogState::new(options.recent_bytes_max, manifest.as_ref());
        let (mut log, recovered) = match recovery::recover(&**disk, shard, durable, state, manifest.as_ref())? {
            Some(found) => Self::from_recovered(Arc::clone(disk), shard, options, manifest, found)?,
            None => Self::create(Arc::clone(disk), shard, options)?,
        };
        let offset = log.writer.written();
        log.appended.push(Chunk { segment: Arc::clone(&log.active), offset, length: 0 });
        if recovered.cut_bytes > 0 || recovered.removed_segments > 0 {
            let (bytes, segments) = (recovered.cut_bytes, recovered.removed_segments);
            tracing::info!(%shard, end = %log.end(), bytes, segments, "cut the log's unacknowledged tail");
        }
        Ok((log, recovered))
    }

    fn create(disk: Arc<dyn Disk>, shard: ShardId, options: LogOptions) -> Result<(Self, Recovered), LogError> {
        let PreparedSegment { segment, writer } = options.source.take(shard, 1, options.segment_bytes_first)?;
        let active = Arc::new(segment);
        let view = options.view(shard);
        view.insert(Arc::clone(&active));
        let log = Self {
            shard,
            disk,
            state: LogState::new(options.recent_bytes_max, None),
            options,
            manifest: None,
            starts: BTreeMap::from([(1, 0)]),
            data_numbers: Arc::new(AtomicU32::new(1)),
            view,
            active,
            writer,
            previous: 0,
            appended: Vec::new(),
            grown: 0,
            unsynced: None,
        };
        Ok((log, Recovered { created: true, ..Recovered::default() }))
    }

    fn from_recovered(
        disk: Arc<dyn Disk>,
        shard: ShardId,
        options: LogOptions,
        manifest: Option<Manifest>,
        found: RecoveredLog,
    ) -> Result<(Self, Recovered), LogError> {
        let view = options.view(shard);
        let active = Arc::clone(found.segments.last().expect("a recovered log has segments"));
        let last_data = found.listed.last().map_or(0, |last| last.number());
        for segment in found.listed.into_iter().chain(found.segments) {
            view.insert(segment);
        }
        let RecoveredLog { state, writer, previous, starts, .. } = found;
        // Numbers of removed data segments may be given again; the segments' generations tell them apart.
        let next_data = if last_data & DATA_SEGMENT == 0 { 1 } else { (last_data & !DATA_SEGMENT) + 1 };
        let mut log = Self {
            shard,
            disk,
            options,
            state,
            manifest,
            starts,
            data_numbers: Arc::new(AtomicU32::new(next_data)),
            view,
            active,
            writer,
            previous,
            appended: Vec::new(),
            grown: 0,
            unsynced: None,
        };
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

    /// The membership that the replica starts from: as of its base, or else the one that was appended, if any.
    pub fn membership(&self) -> Option<&Membership> {
        self.state.membership.as_ref()
    }

    /// Replaces the membership in memory: an applied change of it counts from here on. The log holds the change itself.
    pub fn set_membership(&mut self, membership: &Membership) {
        self.state.membership = Some(membership.clone());
    }

    /// The index of the first entry, or what it will be.
    pub fn first_index(&self) -> LogIndex {
        self.state.entries.first()
    }

    /// The entry before the first: index 0 and term 0 if the log holds them all.
    pub fn before_first(&self) -> (LogIndex, Term) {
        self.state.entries.before()
    }

    /// The position up to which the shard's state is found in listed segments, if there is one.
    pub fn base(&self) -> Option<&Base> {
        self.manifest.as_ref().map(|manifest| &manifest.base)
    }

    /// The index of the last entry; `first_index() - 1` if there is none.
    pub fn last_index(&self) -> LogIndex {
        self.state.entries.last()
    }

    /// The term of an entry, or of the one before the first; `None` if the log does not know it.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        let (before, term) = self.before_first();
        if index == before { Some(term) } else { self.state.entries.get(index).map(|place| place.term) }
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

    /// A secret that nobody can guess, for a shard that has none yet.
    pub fn fresh_secret(&self) -> IndexSecret {
        let [low, high] = [(); 2].map(|()| self.disk.fresh_number());
        let mut secret = [0; IndexSecret::BYTES];
        secret[..8].copy_from_slice(&low.to_le_bytes());
        secret[8..].copy_from_slice(&high.to_le_bytes());
        IndexSecret(secret)
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
        self.state.entries.put(index, place, Some(payload), &mut self.state.stale);
        self.state.note_versions(at.segment, kind, payload);
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
            let next = match self.next_segment(bytes) {
                Err(LogError::DiskFull(_)) if planted(Bug::DiskFullLosesAppend) => return Ok(self.end()),
                next => next?,
            };
            self.write(RecordKind::Seal, Term(0), LogIndex(0), &[]);
            self.activate(next);
        }
        let position = self.end();
        self.write(kind, term, index, payload);
        if self.active.has_lost_pages() {
            // What was just written, or something before it, is not on its way to the medium.
            return Err(LogError::Damaged { shard: self.shard, position, damage: Damage::Unreadable });
        }
        self.prepare_next(bytes);
        Ok(position)
    }

    fn has_room(&self, bytes: u32) -> bool {
        self.writer.written() + bytes + SEAL_BYTES <= self.active.bytes()
    }

    /// Whether it may soon have to wait until its next segment is made.
    pub fn may_wait_for_segment(&self) -> bool {
        !self.has_room(SEGMENT_AHEAD_BYTES) && !self.options.source.is_made(self.shard)
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
        self.grown += u64::from(length);
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
        self.starts.insert(self.active.number(), self.previous);
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

/// A segment that compaction may empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentUse {
    /// Its number.
    pub number: u32,
    /// What its file takes.
    pub file_bytes: u32,
    /// Entries in it were superseded: it can't stay as it is once consensus has done with it.
    pub stale: bool,
    /// Something in it is plain, or sealed with an older data key than the one in use.
    pub old_key: bool,
}

/// A manifest and a hint on their way to the disk.
#[derive(Debug)]
pub struct Checkpoint {
    shard: ShardId,
    manifest: Manifest,
    index: Bytes,
    /// What both are sealed with.
    keys: Arc<ShardKeys>,
    /// Segments that the manifest has replaced.
    dropped: Vec<u32>,
    /// How much of what the log has grown by lies before its base.
    grown: u64,
}

impl Checkpoint {
    /// Writes it. Blocks; on any thread.
    ///
    /// # Errors
    /// `DiskFull`: the old manifest is in force, and the checkpoint must be given up. Else a failure of the disk.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), LogError> {
        if !self.dropped.is_empty() && planted(Bug::CompactionDropsLive) {
            self.remove_dropped(disk)?;
        }
        let manifest = Manifest { base: self.manifest.base.seal(&self.keys), ..self.manifest.clone() };
        disk.write_shard_file(self.shard, MANIFEST_FILE, &[&manifest.encode(self.shard)])?;
        let bound_to = manifest::hint_bound_to(self.shard, manifest.sequence);
        let sealed = self.keys.active().map(|epoch| self.keys.seal_whole(epoch, &bound_to, &self.index));
        let index = sealed.as_deref().unwrap_or(&self.index);
        let hint = manifest::encode_hint_header(self.shard, manifest.sequence, index, sealed.is_some());
        match disk.write_shard_file(self.shard, HINT_FILE, &[&hint, index]) {
            // The next start scans the segments.
            Err(full) if full.is_full() => {
                tracing::debug!(shard = %self.shard, "no room for a hint");
                Ok(())
            }
            written => Ok(written?),
        }
    }

    /// Removes the files that it has replaced. After [`ShardLog::finish_checkpoint`]; blocks; on any thread.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn remove_dropped(&self, disk: &dyn Disk) -> Result<(), LogError> {
        Ok(self.dropped.iter().try_for_each(|number| disk.remove_segment(self.shard, *number))?)
    }

    /// So much the log had grown when the state was that of its base. What came since counts for the next one.
    #[must_use]
    pub fn of_growth(self, grown: u64) -> Self {
        Self { grown, ..self }
    }

    /// The segments that it replaces.
    pub fn dropped(&self) -> &[u32] {
        &self.dropped
    }

    /// Bytes that it writes.
    pub fn bytes(&self) -> u64 {
        (self.index.len() + self.manifest.base.state.len()) as u64
    }
}

/// What becomes of segments once their entries have been applied, and nobody asks for them as entries any more.
impl ShardLog {
    /// The first segment that must stay part of the log, if entries from `keep_from` on must.
    fn retire_before(&self, keep_from: LogIndex) -> u32 {
        let oldest = *self.starts.keys().next().expect("the active segment has a start");
        let newest = self.unsynced.unwrap_or(self.active.number());
        let first_kept = (oldest..=newest).rev();
        first_kept
            .into_iter()
            .find(|&segment| segment == oldest || self.state.entries.last_before(segment).0 < keep_from)
            .expect("the oldest is found at last")
    }

    /// How many bytes were appended since the newest checkpoint, or since the log was opened.
    pub fn grown(&self) -> u64 {
        self.grown
    }

    /// The newest checkpoint is of no use any more: all of the log counts as grown.
    pub fn want_checkpoint(&mut self) {
        self.grown = self.bytes();
    }

    /// From which entry on the newest sealed segments of at least `bytes`, and the active one, hold the log.
    pub fn retained_from(&self, bytes: u64) -> LogIndex {
        let mut retained = 0;
        let mut from = self.active.number();
        for &number in self.starts.keys().rev().skip(1) {
            if retained >= bytes {
                break;
            }
            retained += self.view.segment(number).map_or(0, |segment| u64::from(segment.written()));
            from = number;
        }
        LogIndex(self.state.entries.last_before(from).0.0 + 1)
    }

    /// Bytes of the sealed segments that hold entries.
    pub fn sealed_bytes(&self) -> u64 {
        let sealed = self.starts.keys().filter(|number| **number != self.active.number());
        sealed.filter_map(|number| self.view.segment(*number)).map(|segment| u64::from(segment.written())).sum()
    }

    /// The segments that compaction may empty, if entries from `keep_from` on must stay in the log.
    pub fn compactable(&self, keep_from: LogIndex) -> Vec<SegmentUse> {
        let retire_before = self.retire_before(keep_from);
        self.view
            .segments()
            .into_iter()
            .filter(|segment| segment.number() & DATA_SEGMENT != 0 || segment.number() < retire_before)
            .map(|segment| SegmentUse {
                number: segment.number(),
                file_bytes: segment.bytes(),
                stale: self.state.stale.contains(&segment.number()),
                old_key: self.has_old_key(&segment) == Some(true),
            })
            .collect()
    }

    /// Plans to empty `victims`, which are [`ShardLog::compactable`] with the same `keep_from`, and every other segment
    /// that can't stay as it is. `live_bytes`: about how much will be copied.
    pub fn plan_compaction(&self, victims: &[u32], keep_from: LogIndex, live_bytes: u64) -> Compaction {
        let retire_before = self.retire_before(keep_from);
        let is_victim = |number: u32| {
            let stale = number < retire_before && self.state.stale.contains(&number);
            victims.contains(&number) || stale
        };
        let may_go = self.compactable(keep_from);
        let stays = may_go.iter().filter(|of| !is_victim(of.number)).filter_map(|of| self.view.segment(of.number));
        Compaction {
            lowest_elsewhere: stays.map(|segment| self.lowest_version(&segment)).min(),
            victims: may_go
                .iter()
                .filter(|of| is_victim(of.number))
                .filter_map(|of| self.view.segment(of.number))
                .map(|segment| Victim { effective: self.effective(segment.number()), segment })
                .collect(),
            writer: self.data_writer(),
            keys: Arc::clone(self.view.keys()),
            retire_before,
            live_bytes,
        }
    }

    /// Where the payloads of a segment's entries begin that were not superseded; `None` if none was.
    fn effective(&self, segment: u32) -> Option<BTreeSet<u32>> {
        let stale = self.state.stale.contains(&segment);
        stale.then(|| self.state.entries.in_segment(segment).map(|place| place.payload.offset).collect())
    }

    /// A version that no record of a segment undercuts. Reads nothing.
    fn lowest_version(&self, segment: &Segment) -> Version {
        let listed = self.manifest.iter().flat_map(|manifest| &manifest.listed);
        let known = listed.clone().find(|listed| listed.number == segment.number());
        let of_log = || self.state.lowest.get(&segment.number()).copied().unwrap_or(Version(u64::MAX));
        known.map_or_else(of_log, |listed| listed.lowest)
    }

    /// Writes data segments of this shard, on any thread.
    pub fn data_writer(&self) -> DataWriter {
        self.data_writers()()
    }

    /// Makes any number of [`ShardLog::data_writer`]s, for as long as this log is open.
    pub fn data_writers(&self) -> impl Fn() -> DataWriter + Send + Sync + use<> {
        let (disk, numbers) = (Arc::clone(&self.disk), Arc::clone(&self.data_numbers));
        let (shard, bytes_max) = (self.shard, self.options.segment_bytes_max);
        move || DataWriter::new(Arc::clone(&disk), shard, Arc::clone(&numbers), bytes_max)
    }

    /// Readers find these segments from now on. To be called before the index points into them.
    pub fn show_data(&self, data: &[DataSegment]) {
        data.iter().for_each(|made| self.view.insert(Arc::clone(&made.segment)));
    }

    /// Readers don't find these segments any more; for a seeded bug only.
    pub(crate) fn hide(&self, segments: &[u32]) {
        segments.iter().for_each(|number| self.view.remove(*number));
    }

    /// The number of the manifest after the newest one.
    fn next_sequence(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.sequence) + 1
    }

    /// Prepares a checkpoint at `base`. Everything up to it is applied and durable on this replica. Entries from
    /// `keep_from` on stay in the log, as far as whole segments go. `index` is the index at exactly that base. What was
    /// compacted, if anything, was shown before, and the index points into it.
    pub fn prepare_checkpoint(
        &self,
        base: Base,
        keep_from: LogIndex,
        compacted: Option<&Compacted>,
        index: Bytes,
    ) -> Checkpoint {
        assert!(base.index <= self.last_index(), "the base is in the log");
        let victims = compacted.map_or(&[][..], |compacted| &compacted.victims);
        let mut retire_before = match compacted {
            Some(compacted) => compacted.retire_before,
            None => self.retire_before(keep_from.min(LogIndex(base.index.0 + 1))),
        };
        // What holds superseded entries stays in the log until compaction has emptied it.
        let stale = self.state.stale.iter().find(|number| !victims.contains(number));
        let stale = stale.filter(|_| !planted(Bug::StaleSegmentRetired));
        retire_before = stale.map_or(retire_before, |&stale| retire_before.min(stale));
        retire_before = retire_before.max(*self.starts.keys().next().expect("the active segment has a start"));

        let mut listed: Vec<Listed> = Vec::new();
        for segment in self.view.segments() {
            let number = segment.number();
            let fresh = compacted.and_then(|compacted| {
                compacted.data.iter().find(|made| made.segment.number() == number).map(|made| made.lowest)
            });
            let of_log = number & DATA_SEGMENT == 0;
            if victims.contains(&number) || (of_log && number >= retire_before) {
                continue;
            }
            let lowest = fresh.unwrap_or_else(|| self.lowest_version(&segment));
            listed.push(Listed { number, generation: segment.generation(), written: segment.written(), lowest });
        }
        let start = LogStart {
            segment: retire_before,
            previous: self.starts[&retire_before],
            before: self.state.entries.last_before(retire_before),
        };
        let sequence = self.next_sequence();
        // Entries that are committed and not yet durable here may be lost: the base is what is sure to be there.
        let hard_state = HardState { commit: base.index, ..self.hard_state() };
        Checkpoint {
            shard: self.shard,
            index,
            keys: Arc::clone(self.view.keys()),
            manifest: Manifest { sequence, base, hard_state, start, listed },
            dropped: victims.to_vec(),
            grown: self.grown,
        }
    }

    /// A checkpoint has been written: what it replaced is gone from here on.
    pub fn finish_checkpoint(&mut self, checkpoint: &Checkpoint) {
        let start = checkpoint.manifest.start.segment;
        self.state.entries.drop_before(start);
        self.starts = self.starts.split_off(&start);
        self.state.stale = self.state.stale.split_off(&start);
        self.state.lowest = self.state.lowest.split_off(&start);
        checkpoint.dropped.iter().for_each(|number| self.view.remove(*number));
        self.manifest = Some(checkpoint.manifest.clone());
        self.forget_base_state();
        self.grown = self.grown.saturating_sub(checkpoint.grown);
    }

    /// Nobody asks for the base's own part of the state any more. It may be large, and whoever has the state has it twice.
    pub fn forget_base_state(&mut self) {
        if let Some(manifest) = &mut self.manifest {
            manifest.base.state = Bytes::new();
        }
    }

    /// Replaces everything by a state that came from elsewhere: `data` holds all of its records. This log is of no use
    /// afterwards, and must be opened again. Blocks.
    ///
    /// # Errors
    /// `DiskFull` if there is no room for another segment; nothing has changed then. Else a failure of the disk.
    pub fn install(&mut self, base: Base, data: &[DataSegment]) -> Result<(), LogError> {
        let next = self.next_segment(0)?;
        let known = self.hard_state();
        let hard_state = match base.term > known.term {
            true => HardState { term: base.term, vote: None, commit: base.index },
            false => HardState { commit: base.index, ..known },
        };
        let listed = |made: &DataSegment| Listed {
            number: made.segment.number(),
            generation: made.segment.generation(),
            written: made.segment.written(),
            lowest: made.lowest,
        };
        let manifest = Manifest {
            sequence: self.next_sequence(),
            hard_state,
            start: LogStart { segment: next.segment.number(), previous: 0, before: (base.index, base.term) },
            listed: data.iter().map(listed).collect(),
            base,
        };
        // A checkpoint may have been written of which this log has not heard yet: its hint has the same sequence number.
        self.disk.remove_shard_file(self.shard, HINT_FILE)?;
        self.disk.write_shard_file(self.shard, MANIFEST_FILE, &[&manifest.encode(self.shard)])?;
        Ok(())
    }

    /// The index as of the base, as it was given to [`ShardLog::prepare_checkpoint`]; `None` if there is no base, or
    /// nothing that can be used.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn read_hint(&self) -> Result<Option<Bytes>, LogError> {
        let Some(manifest) = &self.manifest else { return Ok(None) };
        let bytes = self.disk.map_shard_file(self.shard, HINT_FILE)?;
        let hint = bytes.map(|bytes| manifest::decode_hint(self.shard, &bytes));
        if let Some(Err(error)) = &hint {
            warn!(shard = %self.shard, %error, "the index on the disk can't be used");
        }
        let opened = hint.and_then(Result::ok).map(|hint| hint.open(self.view.keys())).transpose();
        let opened = opened.unwrap_or_else(|error| {
            warn!(shard = %self.shard, %error, "the index on the disk can't be used");
            None
        });
        Ok(opened.and_then(|hint| hint.of_manifest(manifest.sequence)))
    }

    /// Visits every record that the state at the base may rest on: those of the listed segments, and of the entries up to
    /// the base that the log still holds. In no particular order of versions. Reads all of it; blocks.
    ///
    /// # Errors
    /// `Damaged` if a record does not match its checksums; and what `visit` returns.
    pub fn visit_base_records(
        &self,
        visit: &mut dyn FnMut(&operations::Record<'_>, Position) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        for listed in &manifest.listed {
            let segment = self.view.segment(listed.number).expect("listed segments are open");
            compaction::visit_records(&segment, None, visit)?;
        }
        for index in self.first_index().0..=manifest.base.index.0 {
            let place = self.state.entries.get(LogIndex(index)).expect("the log reaches to its base");
            if place.kind != RaftEntryKind::Operations || place.length == 0 {
                continue;
            }
            let segment = self.view.segment(place.payload.segment).expect("entries are in segments that the log has");
            compaction::visit_entry(&segment, place.payload.offset, place.length, visit)?;
        }
        Ok(())
    }
}

pub(super) fn read_manifest(disk: &dyn Disk, shard: ShardId) -> Result<Option<Manifest>, LogError> {
    let position = Position { segment: 0, offset: 0 };
    let damaged = |damage| LogError::Damaged { shard, position, damage };
    let bytes = match disk.read_shard_file(shard, MANIFEST_FILE) {
        Err(error) if error.is_unreadable() => return Err(damaged(Damage::Unreadable)),
        read => read?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let manifest = Manifest::decode(shard, bytes);
    manifest.map(Some).map_err(|error| LogError::of_format(shard, position, Damage::Manifest, error))
}

/// Removes a shard's log from the disk, for a replica that was removed or is to start over. The shard's [`ShardLog`] must
/// be gone. Open the new one without a durable position.
///
/// # Errors
/// If the disk fails.
pub fn erase(disk: &dyn Disk, source: &dyn SegmentSource, shard: ShardId) -> Result<(), LogError> {
    source.forget(shard);
    // The manifest last: without it, the rest might look like a log that begins at its first entry. Newest first: a crash
    // in between leaves a log without a gap, which ends before what the journal knows of it.
    for number in disk.list_segments(shard)?.into_iter().rev() {
        disk.remove_segment(shard, number)?;
    }
    for name in [HINT_FILE, MANIFEST_FILE] {
        disk.remove_shard_file(shard, name)?;
    }
    Ok(())
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
