//! Reading a shard's state from any thread, while its actor goes on writing.

use super::index::{Index, PREFETCH_STEPS, Slot};
use super::live::LiveBytes;
use crate::log::operations::{OperationsError, RECORD_HEADER_BYTES, Record, RecordHeader};
use crate::log::{Damage, LogError, LogView, Position, Segment};
use crate::prefetch::prefetch_bytes;
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::limits::SCAN_PAGE_BYTES;
use kvorum_protocol::response::StoredEntry;
use kvorum_protocol::{Entry, ScanPage, ShardId, Version};
use parking_lot::{RwLock, RwLockWriteGuard};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Most slots of the index that one page of a scan looks at; bounds how long it holds a worker where few keys match.
const SCAN_SLOTS_MAX: usize = 16 * 1024;
/// Most times that a record is looked up whose segment has gone in between. Each further time takes another compaction
/// that moves the key and ends within the moment between look-up and read.
const LOOK_UPS_MAX: usize = 8;

/// How much of a record is fetched ahead, in bytes: all of a small one.
const PREFETCH_BYTES: u32 = 192;
/// How many keys are worth fetching at a time: more at once than a processor waits for, and few enough for its nearest cache.
pub const PREFETCH_KEYS: usize = 16;

/// Why a record that the index points at can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment is not there, or does not reach that far.
    #[error("the log has no record at segment {0} offset {1}")]
    Missing(u32, u32),
    /// The record is damaged.
    #[error("the record at {position}: {reason}")]
    Damaged {
        /// Where it lies.
        position: Position,
        /// What is wrong with it.
        reason: OperationsError,
    },
    /// The record is sound, and was written for another place.
    #[error("the record at {0} is not the one that was written there")]
    Misplaced(Position),
    /// Its segment was read again from the medium, which does not hold what it should.
    #[error("segment {}, offset {}: {damage}", position.segment, position.offset)]
    Medium {
        /// Where the damage is.
        position: Position,
        /// What it is.
        damage: Damage,
    },
}

impl ReadError {
    /// What it says of the replica's log.
    pub fn of_log(self, shard: ShardId) -> LogError {
        let (position, damage) = match self {
            ReadError::Missing(segment, offset) => (Position { segment, offset }, Damage::RecordMissing),
            ReadError::Medium { position, damage } => (position, damage),
            ReadError::Damaged { position, .. } | ReadError::Misplaced(position) => (position, Damage::StoredRecord),
        };
        LogError::Damaged { shard, position, damage }
    }
}

/// A key's record, copied out of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Value, version and expiry.
    pub entry: Entry,
    /// Where the record lies.
    pub position: Position,
}

/// A record that the index points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) version: Version,
    /// What it takes in its segment.
    pub(super) bytes: u64,
}

/// What a key's record is, for whoever may not be kept long.
#[derive(Clone, Debug)]
pub enum Located {
    /// A small record, read.
    Small(Option<Found>),
    /// A large one: this much is certain, and reading it takes milliseconds.
    Large(LargeRecord),
}

/// A large record that a key had when it was looked up. Its bytes don't change, so that it may be read later, by another
/// thread, whatever becomes of the key.
#[derive(Clone, Debug)]
pub struct LargeRecord {
    segment: Arc<Segment>,
    position: Position,
    header: RecordHeader,
    log_time_ms: u64,
}

/// A part of a segment.
struct SegmentSlice {
    segment: Arc<Segment>,
    offset: u32,
    length: u32,
}

impl AsRef<[u8]> for SegmentSlice {
    fn as_ref(&self) -> &[u8] {
        self.segment.read(self.offset, self.length).expect("it was read before, and what is written stays")
    }
}

impl LargeRecord {
    /// Verifies the record. Its value is not copied: it keeps the segment's mapping. `None` if it had expired.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn read(&self) -> Result<Option<Found>, ReadError> {
        let Position { segment, offset } = self.position;
        let missing = ReadError::Missing(segment, offset);
        let bytes = self.segment.read(offset, self.header.record_bytes() as u32).ok_or(missing)?;
        let record = sound(&self.segment, self.position, &self.header, bytes)?;
        if record.expires_at_ms.is_some_and(|at| at <= self.log_time_ms) {
            return Ok(None);
        }
        let length = record.value.len() as u32;
        let offset = offset + self.header.record_bytes() as u32 - length;
        let value = Bytes::from_owner(SegmentSlice { segment: Arc::clone(&self.segment), offset, length });
        let entry = Entry { value, version: Version(record.version.0), expires_at_ms: record.expires_at_ms };
        Ok(Some(Found { entry, position: self.position }))
    }
}

/// The header of the record at a position of this segment, and all of its bytes. Nothing is verified.
fn stored_bytes(segment: &Segment, position: Position) -> Result<(RecordHeader, &[u8]), ReadError> {
    let missing = ReadError::Missing(position.segment, position.offset);
    let header = segment.read(position.offset, RECORD_HEADER_BYTES as u32).ok_or(missing)?;
    let header = RecordHeader::parse(header.first_chunk().expect("as many bytes as were asked for"))
        .map_err(|reason| ReadError::Damaged { position, reason })?;
    Ok((header, segment.read(position.offset, header.record_bytes() as u32).ok_or(missing)?))
}

/// The record at a position of this segment, if its checksum is right and it was written there.
///
/// # Errors
/// If it is not: the log is damaged.
pub(crate) fn stored_record(segment: &Segment, position: Position) -> Result<Record<'_>, ReadError> {
    let (header, bytes) = stored_bytes(segment, position)?;
    sound(segment, position, &header, bytes)
}

/// The record at a position, whose bytes are these, if its checksum is right and it was written there.
fn sound<'a>(
    segment: &Segment,
    position: Position,
    header: &RecordHeader,
    bytes: &'a [u8],
) -> Result<Record<'a>, ReadError> {
    let record = header.record(bytes).map_err(|reason| ReadError::Damaged { position, reason })?;
    if segment.is_in_place(position.offset, bytes) { Ok(record) } else { Err(ReadError::Misplaced(position)) }
}

/// The shared half of a shard's state. Only the shard's own actor changes it.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) index: Index,
    pub(super) live: LiveBytes,
    log: Arc<LogView>,
    log_time_ms: AtomicU64,
    /// Of the last effective write.
    version: AtomicU64,
    /// An entry that holds an ATOMIC is being applied.
    held_back: AtomicBool,
    /// Held while that lasts; others touch it only then.
    turn: RwLock<()>,
    /// The first record that could not be read.
    damage: OnceLock<ReadError>,
}

/// Until it is dropped, reads that begin wait.
#[derive(Debug)]
pub(super) struct HeldBack<'a> {
    flag: &'a AtomicBool,
    _turn: RwLockWriteGuard<'a, ()>,
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.flag.store(false, Ordering::Release);
    }
}

/// Fetches into the processor's caches what looking up these keys, given by their hashes, will read. Without it each look-up
/// waits for memory several times in turn, the next place being found in the one before; here all keys take a step together.
/// Worth it for two keys or more, and for [`PREFETCH_KEYS`] at most. Costs some ten nanoseconds per key.
pub fn prefetch_keys<'a>(keys: impl Iterator<Item = (&'a StoreReader, u64)> + Clone) {
    for step in 0..PREFETCH_STEPS {
        keys.clone().for_each(|(reader, hash)| reader.index.prefetch(hash, step));
    }
    keys.for_each(|(reader, hash)| reader.prefetch_record(hash));
}

impl StoreReader {
    pub(super) fn new(index: Index, log: Arc<LogView>) -> Self {
        StoreReader {
            index,
            live: LiveBytes::default(),
            log,
            log_time_ms: AtomicU64::new(0),
            version: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
            turn: RwLock::new(()),
            damage: OnceLock::new(),
        }
    }

    /// The first thing that was found to be wrong with the records, by whoever read them: the replica can't be trusted
    /// any more. Its host looks here at each turn.
    pub fn damage(&self) -> Option<ReadError> {
        self.damage.get().copied()
    }

    /// Notes that a record can't be read. For those who read the log's segments past this value.
    pub fn report_damage(&self, damage: ReadError) {
        // What was found first is as good a reason.
        let _ = self.damage.set(damage);
    }

    /// Passes a result on, and notes what is wrong.
    fn noting<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.inspect_err(|damage| self.report_damage(*damage))
    }

    /// The log whose records the index points at.
    pub fn log(&self) -> &Arc<LogView> {
        &self.log
    }

    /// How many keys there are. May count keys that have expired and were not yet taken out.
    pub fn keys(&self) -> u64 {
        self.index.keys()
    }

    /// The bytes of records of a segment that the index points at: what compaction would have to copy. The rest of what
    /// the segment holds is garbage, or tombstones. A segment without any may be removed once its tombstones are seen to.
    pub fn live_bytes(&self, segment: u32) -> u64 {
        self.live.of(segment)
    }

    /// [`StoreReader::live_bytes`] of all segments.
    pub fn live_bytes_total(&self) -> u64 {
        self.live.total()
    }

    /// What the index takes in memory, in bytes. Costs two loads.
    pub fn index_bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// The version of the last applied write, or of one shortly before.
    pub fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    pub(super) fn set_version(&self, version: Version) {
        self.version.store(version.0, Ordering::Release);
    }

    /// The log time of the last applied entry, in milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms.load(Ordering::Acquire)
    }

    /// The key's entry, if it exists and has not expired. Copies the value; verifies the record's checksum.
    ///
    /// # Errors
    /// If the record can't be read: the log is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, ReadError> {
        match self.locate(key, usize::MAX)? {
            Located::Small(found) => Ok(found),
            Located::Large(record) => self.noting(record.read()),
        }
    }

    /// As [`StoreReader::get`], but a record of more than `bytes_max` bytes is only found, not read.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn locate(&self, key: &[u8], bytes_max: usize) -> Result<Located, ReadError> {
        self.wait_for_atomic();
        // Time first: if it moves on in between, the answer is as of a moment ago, which the caller's lease covers.
        let log_time_ms = self.log_time_ms();
        let located = self.look_up(hash64(key), |position| self.locate_at(position, key, bytes_max, log_time_ms))?;
        Ok(located.unwrap_or(Located::Small(None)))
    }

    /// `None` if the record is another key's.
    fn locate_at(
        &self,
        position: Position,
        key: &[u8],
        bytes_max: usize,
        log_time_ms: u64,
    ) -> Result<Option<Located>, ReadError> {
        let segment = self.segment_of(position)?;
        let (header, bytes) = stored_bytes(&segment, position)?;
        if header.record_bytes() > bytes_max && header.key(bytes) == key {
            return Ok(Some(Located::Large(LargeRecord { segment, position, header, log_time_ms })));
        }
        let record = sound(&segment, position, &header, bytes)?;
        let expired = record.expires_at_ms.is_some_and(|at| at <= log_time_ms);
        Ok((record.key == key)
            .then(|| Located::Small((!expired).then(|| Found { entry: entry_of(&record, true), position }))))
    }

    /// How the key is stored, if it is.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn explain(&self, key: &[u8]) -> Result<Option<StoredEntry>, ReadError> {
        let found = self.get(key)?;
        Ok(found.map(|Found { entry, position }| StoredEntry {
            version: entry.version,
            value_bytes: entry.value.len() as u32,
            expires_at_ms: entry.expires_at_ms,
            segment: position.segment,
            offset: position.offset,
        }))
    }

    /// A page of keys in hash order, see [`kvorum_protocol::ScanRequest`]. Goes on from bucket to bucket of the index until
    /// the page is full or it has looked at [`SCAN_SLOTS_MAX`] slots; so a page may be short, or empty, and not the last.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn scan(&self, cursor: u64, prefix: &[u8], limit: usize, values: bool) -> Result<ScanPage, ReadError> {
        self.wait_for_atomic();
        let log_time_ms = self.log_time_ms();
        let mut page = ScanPage { entries: Vec::new(), next: Some(cursor) };
        let (mut bytes, mut looked_at) = (0, 0);
        while let Some(from) = page.next
            && page.entries.len() < limit
            && bytes < SCAN_PAGE_BYTES
            && looked_at < SCAN_SLOTS_MAX
        {
            let (slots, next) = self.index.scan(from, limit - page.entries.len());
            page.next = next;
            for group in slots.chunk_by(|one, next| one.order == next.order) {
                if bytes >= SCAN_PAGE_BYTES {
                    page.next = Some(group[0].order);
                    break;
                }
                looked_at += group.len();
                let before = page.entries.len();
                self.push_entries(group, &mut page.entries, |record| {
                    let expired = record.expires_at_ms.is_some_and(|at| at <= log_time_ms);
                    let wanted = !expired && record.key.starts_with(prefix);
                    wanted.then(|| (Bytes::copy_from_slice(record.key), entry_of(record, values)))
                })?;
                bytes += page.entries[before..].iter().map(|(key, entry)| key.len() + entry.value.len()).sum::<usize>();
            }
        }
        Ok(page)
    }

    /// Adds what `entry` makes of the records of a group of slots that share their order. A slot whose segment is gone
    /// was moved by compaction since it was looked up; then the whole group is looked up again.
    fn push_entries(
        &self,
        group: &[Slot],
        entries: &mut Vec<(Bytes, Entry)>,
        entry: impl Fn(&Record<'_>) -> Option<(Bytes, Entry)>,
    ) -> Result<(), ReadError> {
        let before = entries.len();
        let mut slots = Cow::Borrowed(group);
        let mut look_ups = 1;
        loop {
            let result =
                slots.iter().try_for_each(|slot| self.read_at(slot.position, |record| entries.extend(entry(record))));
            if !matches!(result, Err(ReadError::Missing(..))) || look_ups == LOOK_UPS_MAX {
                return self.noting(result);
            }
            look_ups += 1;
            entries.truncate(before);
            slots = Cow::Owned(self.index.slots_at(group[0].order));
        }
    }

    /// The record of a key whose hash is known, expired or not.
    fn with_record<T>(
        &self,
        hash: u64,
        key: &[u8],
        mut use_it: impl FnMut(&Record<'_>, Position) -> T,
    ) -> Result<Option<T>, ReadError> {
        self.look_up(hash, |position| {
            self.read_at(position, |record| (record.key == key).then(|| use_it(record, position)))
        })
    }

    /// Calls `read` with each position whose key may have this hash, until it returns something. If a segment is gone,
    /// compaction has moved the record between look-up and read, and it is looked up again.
    fn look_up<T>(
        &self,
        hash: u64,
        mut read: impl FnMut(Position) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut look_ups = 1;
        loop {
            let result = self.look_up_once(hash, &mut read);
            if !matches!(result, Err(ReadError::Missing(..))) || look_ups == LOOK_UPS_MAX {
                return self.noting(result);
            }
            look_ups += 1;
        }
    }

    fn look_up_once<T>(
        &self,
        hash: u64,
        mut read: impl FnMut(Position) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut failure = None;
        let found = self.index.find(hash, |position| {
            read(position).unwrap_or_else(|error| {
                // What is missing is worth another look-up, whatever is wrong with another key of this hash.
                failure = failure.filter(|before| matches!(before, ReadError::Missing(..))).or(Some(error));
                None
            })
        });
        match (found, failure) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn read_at<T>(&self, position: Position, use_it: impl FnOnce(&Record<'_>) -> T) -> Result<T, ReadError> {
        let segment = self.segment_of(position)?;
        Ok(use_it(&stored_record(&segment, position)?))
    }

    fn segment_of(&self, position: Position) -> Result<Arc<Segment>, ReadError> {
        self.log.segment(position.segment).ok_or(ReadError::Missing(position.segment, position.offset))
    }

    /// Reads that begin from here on wait until the returned value is dropped. A read that sees one write of an ATOMIC
    /// must not be followed by one that misses another. It is enough to look when a read begins: one that began before
    /// the ATOMIC may see either state of its key, and the next one waits.
    pub(super) fn hold_back(&self) -> HeldBack<'_> {
        let turn = self.turn.write();
        self.held_back.store(true, Ordering::SeqCst);
        HeldBack { flag: &self.held_back, _turn: turn }
    }

    /// Waits while an ATOMIC is being applied: microseconds, and as long as applying one entry at most.
    fn wait_for_atomic(&self) {
        if self.held_back.load(Ordering::SeqCst) {
            drop(self.turn.read());
        }
    }

    /// Where a key's record is, expired or not.
    ///
    /// # Errors
    /// If a record that may be the key's can't be read: to go on without it would leave a slot behind that nobody takes
    /// out, and with it a value that was overwritten or removed.
    pub(super) fn place_of(&self, hash: u64, key: &[u8]) -> Result<Option<Place>, ReadError> {
        self.with_record(hash, key, |record, position| Place {
            position,
            version: record.version,
            bytes: record.bytes() as u64,
        })
    }

    /// Points the record's key at `position`, in place of `old`.
    pub(super) fn put(&self, hash: u64, old: Option<Place>, record: &Record<'_>, position: Position) {
        self.index.put(hash, old.map(|old| old.position), position);
        self.live.add(position.segment, record.bytes() as u64);
        if let Some(old) = old {
            self.live.take(old.position.segment, old.bytes);
        }
    }

    /// Fetches the first record that a key of this hash may have.
    fn prefetch_record(&self, hash: u64) {
        let Some(position) = self.index.find(hash, Some) else { return };
        let Some(segment) = self.log.segment(position.segment) else { return };
        let bytes = segment.written().saturating_sub(position.offset).min(PREFETCH_BYTES);
        segment.read(position.offset, bytes).into_iter().for_each(prefetch_bytes);
    }

    /// Removes the slot that points at `place`, if there is one.
    pub(super) fn remove(&self, hash: u64, place: Place) {
        if self.index.remove(hash, place.position) {
            self.live.take(place.position.segment, place.bytes);
        }
    }

    /// Removes keys of this hash whose records have expired by `log_time_ms`.
    pub(super) fn remove_expired(&self, hash: u64, log_time_ms: u64) {
        for slot in self.index.slots_at(self.index.order(hash)) {
            let due = self.read_at(slot.position, |record| {
                let expired = record.expires_at_ms.is_some_and(|at| at <= log_time_ms);
                let place = Place { position: slot.position, version: record.version, bytes: record.bytes() as u64 };
                (expired || planted(Bug::OverwrittenRecordExpires)).then_some(place)
            });
            // A record that can't be read stays. The damage is noted, and the host ends this replica.
            if let Ok(Some(place)) = self.noting(due) {
                self.remove(hash, place);
            }
        }
    }

    /// Points the key that is at `old` at `new`, where the same record lies: whoever has put it there has verified it, and
    /// here its header is looked at only. Returns whether there was such a key.
    pub(super) fn relocate(&self, hash: u64, old: Position, new: Position) -> Result<bool, ReadError> {
        let bytes = stored_bytes(&*self.segment_of(new)?, new)?.0.record_bytes() as u64;
        let moved = self.index.relocate(hash, old, new);
        if !moved && planted(Bug::OverwrittenRecordMovedBack) {
            let key = self.read_at(new, |record| record.key.to_vec())?;
            if let Some(now) = self.place_of(hash, &key)? {
                self.index.put(hash, Some(now.position), new);
                self.live.add(new.segment, bytes);
                self.live.take(now.position.segment, now.bytes);
            }
        }
        if moved {
            self.live.add(new.segment, bytes);
            self.live.take(old.segment, bytes);
        }
        Ok(moved)
    }

    pub(crate) fn set_log_time(&self, log_time_ms: u64) {
        self.log_time_ms.store(log_time_ms, Ordering::Release);
    }
}

fn entry_of(record: &Record<'_>, with_value: bool) -> Entry {
    Entry {
        value: if with_value { Bytes::copy_from_slice(record.value) } else { Bytes::new() },
        version: Version(record.version.0),
        expires_at_ms: record.expires_at_ms,
    }
}
