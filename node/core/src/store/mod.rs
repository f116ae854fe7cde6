//! The state of one shard: what its log, applied up to some entry, amounts to.
//!
//! Everything here follows from the log alone, in log order: the index, the versions, the sessions and the expiry all
//! derive from one position, [`Store::applied`], so they can't disagree. Readers on other threads share a
//! [`StoreReader`].

mod base;
mod capture;
mod dump;
mod expiry;
mod fate;
mod index;
mod key_order;
mod live;
mod once;
pub(crate) mod prefetch;
mod reader;
mod rebuild;
mod replies;
mod scan;
mod sessions;
mod stored;
#[cfg(test)]
mod tests;

pub use capture::{CaptureId, CaptureSlice, Captured};
pub use dump::IndexDump;
pub use fate::Fate;
pub use once::{OnceLimits, OnceMemory};
pub use reader::{Located, PREFETCH_KEYS, StoreReader, prefetch_keys};
pub use sessions::{KnownWrite, SessionLimits, SessionTable, sequence_max};
#[cfg(test)]
pub(crate) use stored::bytes_read;
pub(crate) use stored::stored_record;
pub use stored::{Found, ReadError, StoredRecord};

use crate::consensus::Committed;
use crate::log::operations::{Operations, OperationsError, Record};
use crate::log::remembered::Remembered;
use crate::log::{LogView, Position};
use crate::seeded::{Bug, planted};
use capture::Captures;
use expiry::ExpiryQueue;
use index::Index;
use kvorum_protocol::peer::RaftEntryKind;
use kvorum_protocol::{LogIndex, ScanCursor, Version};
use rebuild::ScannedTombstone;
use std::collections::BTreeMap;
use std::sync::Arc;
use stored::RecordRef;
use xxhash_rust::xxh3::Xxh3;

/// Bits of a key's place in the index.
pub const ORDER_BITS: u32 = u64::BITS;
/// How many expired keys an applied entry takes out of the index at least, if there are as many, and one more for each of its
/// records, so that they don't pile up however many are written. Reads don't depend on it: they compare with log time
/// themselves. Each one costs a look at its record, in the worst case one on the disk.
const EXPIRED_PER_ENTRY: usize = 512;

/// Why an entry can't be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Its payload is not what a leader writes.
    #[error(transparent)]
    Payload(#[from] OperationsError),
    /// The record that one of its records replaces can't be read: the replica's log is damaged.
    #[error(transparent)]
    Record(#[from] ReadError),
}

/// One shard's state.
#[derive(Debug)]
pub struct Store {
    reader: Arc<StoreReader>,
    sessions: SessionTable,
    once: OnceMemory,
    expiry: ExpiryQueue,
    /// The last place in the queue whose records were read ahead: when they expire, and their order.
    read_ahead_to: (u64, u64),
    captures: Captures,
    version: Version,
    applied: LogIndex,
    log_time_ms: u64,
    /// See [`Store::expired`].
    expired: u64,
    /// While the index is being rebuilt from segments.
    scanned_tombstones: Vec<ScannedTombstone>,
}

impl Store {
    /// The state before the first entry. Records will be read through `log`.
    pub fn new(log: Arc<LogView>) -> Self {
        Self::with_order_bits(log, ORDER_BITS)
    }

    /// A store that only looks at so many bits of a key's hash, so that keys share places.
    pub(crate) fn with_order_bits(log: Arc<LogView>, bits: u32) -> Self {
        Self {
            reader: Arc::new(StoreReader::new(Index::new(bits), log)),
            sessions: SessionTable::default(),
            once: OnceMemory::default(),
            expiry: ExpiryQueue::default(),
            read_ahead_to: (0, 0),
            captures: Captures::default(),
            version: Version(0),
            applied: LogIndex(0),
            log_time_ms: 0,
            expired: 0,
            scanned_tombstones: Vec::new(),
        }
    }

    /// The part that other threads read.
    pub fn reader(&self) -> &Arc<StoreReader> {
        &self.reader
    }

    /// What is remembered of clients' writes.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// What is remembered under one-shot names.
    pub fn once(&self) -> &OnceMemory {
        &self.once
    }

    /// The last entry that has been applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The version of the last effective write.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The shard has no secret to key its index with: the entry that writes its first record is to bring one.
    pub fn lacks_secret(&self) -> bool {
        self.version == Version(0) && self.reader.secret().is_none()
    }

    /// The log time of the last entry, in milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// A hash over all of the state that replicas have in common: keys, values, versions, expiry, their order, sessions, one-shot names, log time. Two
    /// replicas that have applied the same entries have the same. Reads every record: for checks, not for every day.
    ///
    /// # Errors
    /// If a record can't be read.
    pub fn digest(&self) -> Result<u64, ReadError> {
        let mut hasher = Xxh3::new();
        let mut cursor = ScanCursor::default();
        loop {
            let page = self.reader.scan(cursor, &[], 4096, true)?;
            for (key, entry) in &page.entries {
                hasher.update(&(key.len() as u64).to_le_bytes());
                hasher.update(key);
                hasher.update(&(entry.value.len() as u64).to_le_bytes());
                hasher.update(&entry.value);
                hasher.update(&entry.version.0.to_le_bytes());
                hasher.update(&entry.expires_at_ms.unwrap_or(0).to_le_bytes());
            }
            match page.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        hasher.update(&self.reader.secret().unwrap_or_default().0);
        hasher.update(&self.version.0.to_le_bytes());
        hasher.update(&self.log_time_ms.to_le_bytes());
        self.sessions.digest(&mut hasher);
        self.once.digest(&mut hasher);
        Ok(hasher.digest())
    }

    /// What contradicts itself in the state, if anything does: small pages of a scan together hold each key once, as it is
    /// found by itself, and what is kept of when keys expire is what their records say. For checks, not for every day.
    ///
    /// # Errors
    /// If a record can't be read.
    pub fn contradiction(&self) -> Result<Option<String>, ReadError> {
        const PAGE_ENTRIES: usize = 2;
        let (mut cursor, mut met) = (Some(ScanCursor::default()), BTreeMap::new());
        while let Some(from) = cursor {
            let page = self.reader.scan(from, &[], PAGE_ENTRIES, true)?;
            if page.entries.len() > PAGE_ENTRIES {
                return Ok(Some(format!("a page of a scan holds {} keys of {PAGE_ENTRIES}", page.entries.len())));
            }
            for (key, entry) in page.entries {
                if self.reader.get(&key)?.is_none_or(|found| found.entry != entry) {
                    return Ok(Some(format!(
                        "a scan finds another entry of key {} than a look-up",
                        key.escape_ascii()
                    )));
                }
                if met.insert(key.clone(), entry.expires_at_ms).is_some() {
                    return Ok(Some(format!("a scan finds key {} twice", key.escape_ascii())));
                }
            }
            cursor = page.next;
        }
        let expiring = met.values().flatten().count();
        let (expired, kept) = (self.expiry.due_by(self.log_time_ms), self.expiry.len());
        if met.len() + expired != self.reader.keys() as usize {
            let (keys, met) = (self.reader.keys(), met.len());
            return Ok(Some(format!("a scan finds {met} keys of {keys}, of which {expired} have expired")));
        }
        let differs = expiring + expired != kept;
        Ok(differs.then(|| format!("{kept} expiries are kept for {expiring} keys and {expired} that have expired")))
    }

    /// When the next key expires, in milliseconds of log time, if any will.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.expiry.next_ms()
    }

    /// Keys that were taken out since their time had come, by this value. Not part of the state.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Applies the entry after the last one. `payload_at` is where its payload lies in the shard log.
    ///
    /// # Errors
    /// If the payload is not what a leader writes, or a record that it replaces is damaged: this value is of no use then.
    ///
    /// # Panics
    /// If the entry is not the next one, or a scan has not been finished.
    pub fn apply(&mut self, entry: &Committed, payload_at: Position) -> Result<(), ApplyError> {
        assert!(self.scanned_tombstones.is_empty(), "a rebuilt index is finished before it is used");
        assert_eq!(entry.index.0, self.applied.0 + 1, "entries are applied one after another");
        // A change of the membership is consensus' business, and changes nothing here.
        if entry.kind == RaftEntryKind::Operations && !entry.payload.is_empty() {
            let operations = Operations::parse(entry.payload.clone())?;
            self.apply_operations(&operations, entry.index, payload_at)?;
        }
        self.applied = entry.index;
        Ok(())
    }

    /// Points a key at `new`, where compaction has put a copy of the record at `old`, whose key has this place in the order, and
    /// has verified it. Changes nothing and returns `false` if no key is at `old` any more. A segment may be removed once no key
    /// is in it: [`StoreReader::live_bytes`] is 0 then. Reads the copy's header only.
    ///
    /// # Errors
    /// If there is no record at `new`; nothing is changed then.
    pub fn relocate(&mut self, order: u64, old: Position, new: Position) -> Result<bool, ReadError> {
        let moved = self.reader.relocate(order, old, new)?;
        if moved {
            self.captures.note_slot(order, Some(old), Some(new));
        }
        Ok(moved)
    }

    /// Forgets every client; for a seeded bug only.
    pub(crate) fn forget_sessions(&mut self) {
        if self.captures.is_idle() {
            self.sessions = SessionTable::new(self.sessions.limits());
        }
    }

    /// How much is remembered of writes, from now on. All replicas of a shard must agree, and keep to it.
    pub fn limit_sessions(&mut self, limits: SessionLimits) {
        self.sessions.set_limits(limits);
        self.once.set_limits(limits.once);
    }

    fn apply_operations(
        &mut self,
        operations: &Operations,
        index: LogIndex,
        payload_at: Position,
    ) -> Result<(), ApplyError> {
        let reader = Arc::clone(&self.reader);
        let keys = reader.keys_of_log();
        let sessions = operations.sessions(keys)?;
        if let Some(secret) = operations.secret().filter(|_| self.version == Version(0)) {
            reader.settle_secret(secret);
        }
        let is_one = |reply: &Remembered| matches!(reply, Remembered::Atomic(_) | Remembered::Transaction(_));
        let holds_atomic = sessions.iter().any(|session| is_one(&session.reply));
        if holds_atomic {
            // Damage must be met before the first of its writes is shown: reads go on until the host has ended.
            for record in operations.records() {
                let (_, record) = record?;
                let key = record.open_key(keys)?;
                reader.place_of(reader.order(&key), &key)?;
            }
        }
        let _shown_at_once = holds_atomic.then(|| reader.hold_back());
        let mut records = operations.records();
        let mut ahead = Vec::with_capacity(operations.count().min(PREFETCH_KEYS));
        loop {
            for record in records.by_ref().take(PREFETCH_KEYS) {
                let (offset, record) = record?;
                let key = record.open_key(keys)?;
                ahead.push((reader.order(&key), key, offset, record));
            }
            if ahead.is_empty() {
                break;
            }
            if ahead.len() > 1 {
                prefetch_keys(ahead.iter().map(|(order, ..)| (&*reader, *order)));
            }
            for (order, key, offset, record) in ahead.drain(..) {
                let position = Position { segment: payload_at.segment, offset: payload_at.offset + offset };
                self.apply_record(order, &key, &record, position)?;
            }
        }
        self.once.advance(operations.log_time_ms().saturating_sub(self.log_time_ms));
        // Log time moves once the entry's records are in place: a reader must not see the new time with the old value
        // of a key whose life this entry prolonged.
        if operations.log_time_ms() > self.log_time_ms || planted(Bug::LogTimeFalls) {
            self.log_time_ms = operations.log_time_ms();
        }
        self.reader.set_log_time(self.log_time_ms);
        for mut session in sessions {
            if let Some(once) = session.once.take() {
                self.once.remember(once);
            }
            self.sessions.remember(session, index, self.log_time_ms);
        }
        self.version = operations.last_version();
        if operations.first_version() < self.version && planted(Bug::VersionsReused) {
            self.version = operations.first_version();
        }
        self.reader.set_version(self.version);
        self.drop_expired(EXPIRED_PER_ENTRY + operations.count());
        Ok(())
    }

    fn apply_record(
        &mut self,
        order: u64,
        key: &[u8],
        record: &Record<'_>,
        position: Position,
    ) -> Result<(), ReadError> {
        let old = self.reader.place_of(order, key)?;
        if record.tombstone {
            if let Some(old) = old {
                self.remove(order, old);
                self.expires_no_more(order, old);
            }
            return Ok(());
        }
        self.point_at(order, old, record, position);
        Ok(())
    }

    /// Points the record's key at it, in place of `old`.
    fn point_at(&mut self, order: u64, old: Option<RecordRef>, record: &Record<'_>, position: Position) {
        self.reader.put(order, old, record, position);
        self.captures.note_slot(order, old.map(|old| old.position), Some(position));
        if let Some(old) = old {
            self.expires_no_more(order, old);
        }
        if let Some(at_ms) = record.expires_at_ms.filter(|_| !record.tombstone) {
            self.expiry.insert(at_ms, order);
            self.captures.note_expiry(at_ms, order, 1);
        }
    }

    /// Removes the slot that points at `place`, if there is one.
    fn remove(&mut self, order: u64, place: RecordRef) {
        if self.reader.remove(order, place) {
            self.captures.note_slot(order, Some(place.position), None);
        }
    }

    /// The index has stopped pointing at a record.
    fn expires_no_more(&mut self, order: u64, old: RecordRef) {
        if let Some(at_ms) = old.expires_at_ms
            && !planted(Bug::OverwrittenRecordExpires)
            && !planted(Bug::ExpiryOfOverwrittenKept)
            && self.expiry.remove(at_ms, order)
        {
            self.captures.note_expiry(at_ms, order, -1);
        }
    }

    /// Asks for records whose time comes by `until_ms`, up to `limit` places of them, to be in memory by then. Taking them out
    /// looks at each, and one that nobody has read for long would be waited for: hundreds of them for longer than a lease lasts.
    /// The next call goes on from there. Costs a system call for each.
    pub fn read_ahead_expiring(&mut self, until_ms: u64, limit: usize) {
        for place in self.expiry.places_after(self.read_ahead_to, until_ms, limit) {
            self.reader.read_ahead(place.1);
            self.read_ahead_to = place;
        }
    }

    /// Takes about `limit` keys whose time has come out of the index, so that they count no longer.
    fn drop_expired(&mut self, limit: usize) {
        let mut taken = 0;
        while taken < limit
            && let Some((at_ms, order, count)) = self.expiry.pop_due(self.log_time_ms)
        {
            self.captures.note_expiry(at_ms, order, -i64::from(count));
            self.reader.remove_expired(order, at_ms, |removed| {
                self.expired += 1;
                self.captures.note_slot(order, Some(removed), None);
            });
            taken += count as usize;
        }
        self.reader.set_expiry_bytes(self.expiry.bytes());
    }
}
