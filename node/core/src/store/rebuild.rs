//! Building the index again from the records of all segments, where there is no hint.
//!
//! The segments may come in any order: of each key the record with the highest version wins, and versions are the order
//! of a shard's effective writes. Tombstones stand in the index meanwhile, so that they win over older records that come
//! after them. Records that have expired do as well.

use super::stored::RecordRef;
use super::{ApplyError, ReadError, Store};
use crate::log::Position;
use crate::log::operations::{Operations, Record};
use bytes::Bytes;

/// A tombstone that was put into the index, and may have been replaced by a newer record since.
#[derive(Debug)]
pub(super) struct ScannedTombstone {
    order: u64,
    place: RecordRef,
}

impl Store {
    /// Takes a record that was found in a segment into the index, unless a newer one of its key is there. The store has
    /// been restored from its base, the log's view has all segments, and the record is of an entry that the base covers:
    /// one that was superseded must not be given to this, whatever its version.
    ///
    /// # Errors
    /// If a record that was scanned before can't be read any more.
    pub fn insert_scanned(&mut self, record: &Record<'_>, position: Position) -> Result<(), ReadError> {
        // The base covers no such version, so the record is of an entry that was never applied.
        if record.version > self.version {
            return Ok(());
        }
        let keys = self.reader.keys_of_log();
        let key = record.open_key(keys).map_err(|reason| ReadError::Damaged { position, reason })?;
        let order = self.reader.order(&key);
        let old = self.reader.place_of(order, &key)?;
        if old.is_some_and(|old| old.version >= record.version) {
            return Ok(());
        }
        self.point_at(order, old, record, position);
        if record.tombstone {
            let bytes = record.bytes() as u64;
            let place = RecordRef { position, version: record.version, expires_at_ms: record.expires_at_ms, bytes };
            self.scanned_tombstones.push(ScannedTombstone { order, place });
        }
        Ok(())
    }

    /// Takes the records of an entry into the index as [`Store::insert_scanned`] does, and nothing else of it: for an
    /// entry up to the base that lies in a segment of the log. `payload_at` is where its payload lies.
    ///
    /// # Errors
    /// If the payload is not what a leader writes, or a record can't be read.
    pub fn apply_records_only(&mut self, payload: Bytes, payload_at: Position) -> Result<(), ApplyError> {
        if payload.is_empty() {
            return Ok(());
        }
        let operations = Operations::parse(payload)?;
        for record in operations.records() {
            let (offset, record) = record?;
            let position = Position { segment: payload_at.segment, offset: payload_at.offset + offset };
            self.insert_scanned(&record, position)?;
        }
        Ok(())
    }

    /// All records have been scanned: takes tombstones, and what has expired, out of the index.
    pub fn finish_scan(&mut self) {
        for ScannedTombstone { order, place } in std::mem::take(&mut self.scanned_tombstones) {
            self.remove(order, place);
        }
        self.drop_expired(usize::MAX);
    }
}
