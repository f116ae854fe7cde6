//! Reading a shard's state from any thread, while its actor goes on writing.

use super::index::{Index, PREFETCH_STEPS};
use super::key_order::order_of;
use super::live::LiveBytes;
use super::stored::{Found, ReadError, RecordRef, Stored, StoredRecord, stored_header};
use crate::cost;
use crate::log::operations::{IndexSecret, Record};
use crate::log::{LogView, Position, Segment};
use crate::sealing::ShardKeys;
use crate::seeded::{Bug, planted};
use crate::store::prefetch::prefetch_bytes;
use kvorum_protocol::Version;
use kvorum_protocol::response::StoredEntry;
use parking_lot::{RwLock, RwLockWriteGuard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Most times that a record is looked up whose segment has gone in between. Each further time takes another compaction
/// that moves the key and ends within the moment between look-up and read.
pub(super) const LOOK_UPS_MAX: usize = 8;

/// How much of a record is fetched ahead, in bytes: all of a small one.
const PREFETCH_BYTES: u32 = 192;
/// How much of a record that is about to expire is read ahead, in bytes: its header, and the key of most.
const READ_AHEAD_BYTES: u32 = 512;
/// How many keys are worth fetching at a time: more at once than a processor waits for, and few enough for its nearest cache.
pub const PREFETCH_KEYS: usize = 16;

/// What a key's record is, for whoever may not be kept long.
#[derive(Clone, Debug)]
pub enum Located {
    /// A small record, read.
    Small(Option<Found>),
    /// A large one: this much is certain, and reading its value takes milliseconds.
    Large(StoredRecord),
}

/// The shared half of a shard's state. Only the shard's own actor changes it.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) index: Index,
    /// What the index's order is keyed with. Set before the first key is in it.
    secret: OnceLock<IndexSecret>,
    pub(super) live: LiveBytes,
    log: Arc<LogView>,
    log_time_ms: AtomicU64,
    /// Of the last effective write.
    version: AtomicU64,
    /// What it takes in memory to know when keys expire.
    expiry_bytes: AtomicU64,
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

/// Fetches into the processor's caches what looking up these keys, given by their places in the order, will read. Without it each look-up
/// waits for memory several times in turn, the next place being found in the one before; here all keys take a step together.
/// Worth it for two keys or more, and for [`PREFETCH_KEYS`] at most. Costs some ten nanoseconds per key.
pub fn prefetch_keys<'a>(keys: impl Iterator<Item = (&'a StoreReader, u64)> + Clone) {
    for step in 0..PREFETCH_STEPS {
        keys.clone().for_each(|(reader, order)| reader.index.prefetch(order, step));
    }
    keys.for_each(|(reader, order)| reader.prefetch_record(order));
}

impl StoreReader {
    pub(super) fn new(index: Index, log: Arc<LogView>) -> Self {
        Self {
            index,
            secret: OnceLock::new(),
            live: LiveBytes::default(),
            log,
            log_time_ms: AtomicU64::new(0),
            version: AtomicU64::new(0),
            expiry_bytes: AtomicU64::new(0),
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
    pub(super) fn noting<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.inspect_err(|damage| self.report_damage(*damage))
    }

    /// What the order is keyed with, if that is settled.
    pub fn secret(&self) -> Option<IndexSecret> {
        self.secret.get().copied()
    }

    /// Settles what the order is keyed with, unless it is. The index must be empty.
    pub(super) fn settle_secret(&self, secret: IndexSecret) {
        // The first one counts.
        let _ = self.secret.set(secret);
    }

    /// Where a key stands in the order of the index. Costs some ten nanoseconds.
    pub fn order(&self, key: &[u8]) -> u64 {
        cost::keyed(key.len());
        let none = IndexSecret::default();
        self.index.order(order_of(self.secret.get().unwrap_or(&none), key))
    }

    /// The log whose records the index points at.
    pub fn log(&self) -> &Arc<LogView> {
        &self.log
    }

    /// What the log's records are sealed with.
    pub fn keys_of_log(&self) -> &Arc<ShardKeys> {
        self.log.keys()
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

    /// What the index takes in memory, in bytes, and what is kept of when keys expire. Costs three loads.
    pub fn index_bytes(&self) -> u64 {
        self.index.bytes() + self.expiry_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_expiry_bytes(&self, bytes: u64) {
        self.expiry_bytes.store(bytes, Ordering::Relaxed);
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

    /// The key's entry, if it exists and has not expired. Copies the value; verifies the record's checksums.
    ///
    /// # Errors
    /// If the record can't be read: the log is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, ReadError> {
        match self.locate(key, None, usize::MAX)? {
            Located::Small(found) => Ok(found),
            Located::Large(record) => self.noting(record.read()).map(Some),
        }
    }

    /// As [`StoreReader::get`], but of a record of more than `bytes_max` bytes the value is not read. `order` is
    /// [`StoreReader::order`] of the key, from whoever has hashed it: one that is wrong costs another look-up, and changes no answer.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn locate(&self, key: &[u8], order: Option<u64>, bytes_max: usize) -> Result<Located, ReadError> {
        self.wait_for_atomic();
        // Time first: if it moves on in between, the answer is as of a moment ago, which the caller's lease covers.
        let log_time_ms = self.log_time_ms();
        let located = |order| {
            self.look_up(order, |position| {
                self.with_key_at(position, key, |stored, segment| {
                    Ok(if stored.has_expired(log_time_ms) {
                        Located::Small(None)
                    } else if stored.bytes() > bytes_max {
                        Located::Large(stored.keep(segment, self.keys_of_log()))
                    } else {
                        Located::Small(Some(Found { entry: stored.entry(self.keys_of_log())?, position }))
                    })
                })
            })
        };
        // What is found is the key's: it was compared. What is not found may be elsewhere.
        if let Some(order) = order
            && let Some(located) = located(order)?
        {
            return Ok(located);
        }
        let right = self.order(key);
        let located = if order == Some(right) { None } else { located(right)? };
        Ok(located.unwrap_or(Located::Small(None)))
    }

    /// The key's record, expired or not. Reads no value of more than a few hundred bytes.
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn find(&self, key: &[u8]) -> Result<Option<StoredRecord>, ReadError> {
        self.wait_for_atomic();
        self.look_up(self.order(key), |position| {
            self.with_key_at(position, key, |stored, segment| Ok(stored.keep(segment, self.keys_of_log())))
        })
    }

    /// How the key is stored, if it is. Reads no value, as [`StoreReader::find`].
    ///
    /// # Errors
    /// As [`StoreReader::get`].
    pub fn explain(&self, key: &[u8]) -> Result<Option<StoredEntry>, ReadError> {
        let log_time_ms = self.log_time_ms();
        let found = self.find(key)?.filter(|found| found.expires_at_ms().is_none_or(|at| at > log_time_ms));
        Ok(found.map(|found| StoredEntry {
            version: found.version(),
            value_bytes: found.value_bytes() as u32,
            expires_at_ms: found.expires_at_ms(),
            segment: found.position().segment,
            offset: found.position().offset,
        }))
    }

    /// What `use_it` makes of the record at a position, with its segment; `None` if the record is another key's.
    fn with_key_at<T>(
        &self,
        position: Position,
        key: &[u8],
        use_it: impl FnOnce(&Stored<'_>, &Arc<Segment>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let segment = self.segment_of(position)?;
        let stored = Stored::at(&segment, position, self.keys_of_log())?;
        if stored.key() == key { use_it(&stored, &segment).map(Some) } else { Ok(None) }
    }

    /// Calls `read` with each position whose key may have this place, until it returns something. If a segment is gone,
    /// compaction has moved the record between look-up and read, and it is looked up again.
    fn look_up<T>(
        &self,
        order: u64,
        mut read: impl FnMut(Position) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut look_ups = 1;
        loop {
            let result = self.look_up_once(order, &mut read);
            if !matches!(result, Err(ReadError::Missing(..))) || look_ups == LOOK_UPS_MAX {
                return self.noting(result);
            }
            look_ups += 1;
        }
    }

    fn look_up_once<T>(
        &self,
        order: u64,
        mut read: impl FnMut(Position) -> Result<Option<T>, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let (mut failure, mut records) = (None, 0);
        let found = self.index.find(order, |position| {
            records += 1;
            read(position).unwrap_or_else(|error| {
                // What is missing is worth another look-up, whatever is wrong with another key of this place.
                failure = failure.filter(|before| matches!(before, ReadError::Missing(..))).or(Some(error));
                None
            })
        });
        // One that is not there costs a search as well.
        cost::records(records.max(1));
        match (found, failure) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn read_at<T>(
        &self,
        position: Position,
        use_it: impl FnOnce(&Stored<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let segment = self.segment_of(position)?;
        use_it(&Stored::at(&segment, position, self.keys_of_log())?)
    }

    pub(super) fn segment_of(&self, position: Position) -> Result<Arc<Segment>, ReadError> {
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
    pub(super) fn wait_for_atomic(&self) {
        if self.held_back.load(Ordering::SeqCst) {
            drop(self.turn.read());
        }
    }

    /// Where a key's record is, expired or not.
    ///
    /// # Errors
    /// If a record that may be the key's can't be read: to go on without it would leave a slot behind that nobody takes
    /// out, and with it a value that was overwritten or removed.
    pub(super) fn place_of(&self, order: u64, key: &[u8]) -> Result<Option<RecordRef>, ReadError> {
        self.look_up(order, |position| self.with_key_at(position, key, |stored, _| Ok(stored.place())))
    }

    /// Points the record's key at `position`, in place of `old`.
    pub(super) fn put(&self, order: u64, old: Option<RecordRef>, record: &Record<'_>, position: Position) {
        self.index.put(order, old.map(|old| old.position), position);
        self.live.add(position.segment, record.bytes() as u64);
        if let Some(old) = old {
            self.live.take(old.position.segment, old.bytes);
        }
    }

    /// Fetches the first record that a key of this place may have.
    fn prefetch_record(&self, order: u64) {
        let Some(position) = self.index.find(order, Some) else { return };
        let Some(segment) = self.log.segment(position.segment) else { return };
        let bytes = segment.written().saturating_sub(position.offset).min(PREFETCH_BYTES);
        segment.read(position.offset, bytes).into_iter().for_each(prefetch_bytes);
    }

    /// Removes the slot that points at `place`, if there is one. Returns whether there was.
    pub(super) fn remove(&self, order: u64, place: RecordRef) -> bool {
        let was_there = self.index.remove(order, place.position);
        if was_there {
            self.live.take(place.position.segment, place.bytes);
        }
        was_there
    }

    /// Asks for what [`StoreReader::remove_expired`] looks at to be in memory soon. Reads none of it.
    pub(super) fn read_ahead(&self, order: u64) {
        for slot in self.index.slots_at(order) {
            if let Ok(segment) = self.segment_of(slot.position) {
                segment.read_ahead(slot.position.offset, READ_AHEAD_BYTES);
            }
        }
    }

    /// Removes the keys at this place in the order whose records expire at `at_ms`, and says where those were. Log time has come that
    /// far. Reads no value, as [`StoreReader::find`].
    pub(super) fn remove_expired(&self, order: u64, at_ms: u64, mut removed: impl FnMut(Position)) {
        for slot in self.index.slots_at(order) {
            cost::records(1);
            let due = self.read_at(slot.position, |stored| {
                let expired = stored.head.expires_at_ms == Some(at_ms) || planted(Bug::OverwrittenRecordExpires);
                Ok(expired.then(|| stored.place()))
            });
            // A record that can't be read stays. The damage is noted, and the host ends this replica.
            if let Ok(Some(place)) = self.noting(due)
                && self.index.remove_at(slot)
            {
                self.live.take(place.position.segment, place.bytes);
                removed(place.position);
            }
        }
    }

    /// Points the key that is at `old` at `new`, where the same record lies: whoever has put it there has verified it, and
    /// here its header is looked at only. Returns whether there was such a key.
    pub(super) fn relocate(&self, order: u64, old: Position, new: Position) -> Result<bool, ReadError> {
        cost::records(1);
        let segment = self.segment_of(new)?;
        let header = stored_header(&segment, new)?;
        let bytes = header.record_bytes() as u64;
        // Only one that was sealed on the way may have had another length.
        let old_bytes = match header.is_sealed() {
            true => stored_header(&*self.segment_of(old)?, old)?.record_bytes() as u64,
            false => bytes,
        };
        let moved = self.index.relocate(order, old, new);
        if !moved && planted(Bug::OverwrittenRecordMovedBack) {
            let key = self.read_at(new, |stored| Ok(stored.key().to_vec()))?;
            if let Some(now) = self.place_of(order, &key)? {
                self.index.put(order, Some(now.position), new);
                self.live.add(new.segment, bytes);
                self.live.take(now.position.segment, now.bytes);
            }
        }
        if moved {
            self.live.add(new.segment, bytes);
            self.live.take(old.segment, old_bytes);
        }
        Ok(moved)
    }

    pub(crate) fn set_log_time(&self, log_time_ms: u64) {
        self.log_time_ms.store(log_time_ms, Ordering::Release);
    }
}
