//! Reading a shard's state from any thread, while its actor goes on writing.

use super::index::Index;
use crate::log::operations::{OperationsError, RECORD_HEADER_BYTES, Record, RecordHeader};
use crate::log::{LogView, Position, Segment};
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::limits::SCAN_PAGE_BYTES;
use kvorum_protocol::response::StoredEntry;
use kvorum_protocol::{Entry, ScanPage, Version};
use parking_lot::{RwLock, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most slots of the index that one page of a scan looks at; bounds how long it holds a worker where few keys match.
const SCAN_SLOTS_MAX: usize = 16 * 1024;

/// Why a record that the index points at can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment or the bytes are not there.
    #[error("the log has no record at segment {0} offset {1}")]
    Missing(u32, u32),
    /// The record is damaged.
    #[error(transparent)]
    Damaged(#[from] OperationsError),
}

/// A key's record, copied out of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Value, version and expiry.
    pub entry: Entry,
    /// Where the record lies.
    pub position: Position,
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
        let record = self.header.record(bytes)?;
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

/// The shared half of a shard's state. Only the shard's own actor changes it.
#[derive(Debug)]
pub struct StoreReader {
    index: Index,
    log: Arc<LogView>,
    log_time_ms: AtomicU64,
    /// An entry that holds an ATOMIC is being applied.
    held_back: AtomicBool,
    /// Held while that lasts; others touch it only then.
    turn: RwLock<()>,
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

impl StoreReader {
    pub(super) fn new(index: Index, log: Arc<LogView>) -> Self {
        StoreReader {
            index,
            log,
            log_time_ms: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
            turn: RwLock::new(()),
        }
    }

    /// How many keys there are. May count keys that have expired and were not yet taken out.
    pub fn keys(&self) -> u64 {
        self.index.keys()
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
            Located::Large(record) => record.read(),
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
        let mut failure = None;
        let located = self.index.find(hash64(key), |position| {
            self.locate_at(position, key, bytes_max, log_time_ms).unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        });
        match (located, failure) {
            (Some(located), _) => Ok(located),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Located::Small(None)),
        }
    }

    /// `None` if the record is another key's.
    fn locate_at(
        &self,
        position: Position,
        key: &[u8],
        bytes_max: usize,
        log_time_ms: u64,
    ) -> Result<Option<Located>, ReadError> {
        let (segment, header) = self.header_at(position)?;
        let missing = ReadError::Missing(position.segment, position.offset);
        let bytes = segment.read(position.offset, header.record_bytes() as u32).ok_or(missing)?;
        if header.record_bytes() > bytes_max && bytes[RECORD_HEADER_BYTES..][..header.key_bytes()] == *key {
            return Ok(Some(Located::Large(LargeRecord { segment, position, header, log_time_ms })));
        }
        let record = header.record(bytes)?;
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
            let mut last_order = None;
            for slot in slots {
                if bytes >= SCAN_PAGE_BYTES && last_order != Some(slot.order) {
                    page.next = Some(slot.order);
                    break;
                }
                last_order = Some(slot.order);
                looked_at += 1;
                self.read_at(slot.position, |record| {
                    let expired = record.expires_at_ms.is_some_and(|at| at <= log_time_ms);
                    if !expired && record.key.starts_with(prefix) {
                        bytes += record.key.len() + if values { record.value.len() } else { 0 };
                        page.entries.push((Bytes::copy_from_slice(record.key), entry_of(record, values)));
                    }
                })?;
            }
        }
        Ok(page)
    }

    /// The record of a key whose hash is known, expired or not.
    fn with_record<T>(
        &self,
        hash: u64,
        key: &[u8],
        mut use_it: impl FnMut(&Record<'_>, Position) -> T,
    ) -> Result<Option<T>, ReadError> {
        let mut failure = None;
        let found = self.index.find(hash, |position| {
            match self.read_at(position, |record| (record.key == key).then(|| use_it(record, position))) {
                Ok(result) => result,
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        match (found, failure) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn read_at<T>(&self, position: Position, use_it: impl FnOnce(&Record<'_>) -> T) -> Result<T, ReadError> {
        let (segment, header) = self.header_at(position)?;
        let missing = ReadError::Missing(position.segment, position.offset);
        let bytes = segment.read(position.offset, header.record_bytes() as u32).ok_or(missing)?;
        Ok(use_it(&header.record(bytes)?))
    }

    fn header_at(&self, position: Position) -> Result<(Arc<Segment>, RecordHeader), ReadError> {
        let missing = ReadError::Missing(position.segment, position.offset);
        let segment = self.log.segment(position.segment).ok_or(missing)?;
        let header = segment.read(position.offset, RECORD_HEADER_BYTES as u32).ok_or(missing)?;
        let header = RecordHeader::parse(header.first_chunk().expect("as many bytes as were asked for"))?;
        Ok((segment, header))
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

    fn position_of(&self, hash: u64, key: &[u8]) -> Option<Position> {
        // A record that can't be read can't be this key's newest: whoever reads it reports the damage.
        self.with_record(hash, key, |_, position| position).ok().flatten()
    }

    pub(super) fn put(&self, hash: u64, key: &[u8], position: Position) {
        self.index.put(hash, self.position_of(hash, key), position);
    }

    pub(super) fn remove(&self, hash: u64, key: &[u8]) {
        if let Some(position) = self.position_of(hash, key) {
            self.index.remove(hash, position);
        }
    }

    pub(super) fn remove_at(&self, hash: u64, position: Position) {
        if planted(Bug::OverwrittenRecordExpires) {
            return self.index.remove(hash, self.index.find(hash, Some).unwrap_or(position));
        }
        self.index.remove(hash, position);
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
