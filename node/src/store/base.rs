//! The part of a shard's state that is not in its records, as bytes: for manifests and snapshots.
//!
//! ```text
//! applied u64, version u64, log time u64
//! sessions, see `SessionTable::encode`
//! ```
//!
//! Integers are little-endian unless said otherwise. Whoever keeps the bytes sees to their checksum and their format's
//! version.

use super::Store;
use super::sessions::SessionTable;
use crate::log::LogView;
use crate::seeded::{Bug, planted};
use bytes::{BufMut, Bytes};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::{DecodeError, LogIndex, Version};
use std::sync::Arc;

impl Store {
    /// Appends everything that the next entry's effects depend on, apart from the records. Replicas that have applied the
    /// same entries write the same bytes. At most a little more than what is remembered of clients.
    pub fn encode_base(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.version.0);
        out.put_u64_le(self.log_time_ms);
        if !self.sessions.is_empty() && planted(Bug::SessionsMissingFromCheckpoint) {
            SessionTable::default().encode(out);
        } else {
            self.sessions.encode(out);
        }
    }

    /// The state that wrote `base` with [`Store::encode_base`], but with an empty index: [`Store::load_index`] or
    /// [`Store::insert_scanned`] fill it.
    ///
    /// # Errors
    /// If the bytes are anything else. Allocates no more than a small multiple of them.
    pub fn restore(log: Arc<LogView>, base: &[u8]) -> Result<Store, DecodeError> {
        Self::restore_with_hash_bits(log, base, 64)
    }

    pub(super) fn restore_with_hash_bits(log: Arc<LogView>, base: &[u8], bits: u32) -> Result<Store, DecodeError> {
        let mut reader = Reader::new(Bytes::copy_from_slice(base));
        let mut store = Self::with_hash_bits(log, bits);
        store.applied = LogIndex(reader.u64()?);
        store.version = Version(reader.u64()?);
        store.log_time_ms = reader.u64()?;
        store.sessions = SessionTable::decode(&mut reader)?;
        reader.finish()?;
        let last_entry = store.sessions.last_entry();
        if last_entry > store.applied {
            return Err(DecodeError::UnknownValue { field: "entry of the last use", value: last_entry.0 });
        }
        store.reader.set_version(store.version);
        store.reader.set_log_time(store.log_time_ms);
        Ok(store)
    }
}
