//! The part of a shard's state that is not in its records, as bytes: for manifests and snapshots.
//!
//! ```text
//! applied u64, version u64, log time u64
//! u8 0; or 1 and 16 bytes, the secret of the index's order
//! sessions, see `SessionTable::encode`
//! one-shot names, see `OnceMemory::encode`
//! ```
//!
//! Integers are little-endian unless said otherwise. Whoever keeps the bytes sees to their checksum and their format's
//! version.

use super::once::OnceMemory;
use super::sessions::SessionTable;
use super::{ORDER_BITS, Store};
use crate::log::LogView;
use crate::log::operations::IndexSecret;
use crate::seeded::{Bug, planted};
use bytes::{BufMut, Bytes};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::{DecodeError, LogIndex, Version};
use std::sync::Arc;

impl Store {
    /// Appends everything that the next entry's effects depend on, apart from the records. Replicas that have applied the
    /// same entries write the same bytes. At most a little more than what is remembered of writes, and all of it at once:
    /// [`Store::begin_capture`] does it in slices.
    pub fn encode_base(&self, out: &mut Vec<u8>) {
        self.encode_base_head(out);
        self.sessions.encode(out);
        self.once.encode(out);
    }

    /// All but the sessions and the one-shot names.
    pub(super) fn encode_base_head(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.version.0);
        out.put_u64_le(self.log_time_ms);
        match self.reader.secret() {
            None => out.put_u8(0),
            Some(IndexSecret(secret)) => {
                out.put_u8(1);
                out.put_slice(&if planted(Bug::IndexSecretLost) { IndexSecret::default().0 } else { secret });
            }
        }
    }

    /// The state of a shard of which nothing is left, as of its first entry.
    pub fn emptied(applied: LogIndex) -> Self {
        Self { applied, ..Self::new(Arc::default()) }
    }

    /// Leaves so many versions out, for a shard that may have given them to writes that are lost: no key is ever given one of them
    /// again. A shard without a secret gets this one, since its first write does not bring one any more.
    pub fn skip_versions(&mut self, count: u64, secret: IndexSecret) {
        if self.lacks_secret() {
            self.reader.settle_secret(secret);
        }
        self.version = Version(self.version.0.saturating_add(count));
        self.reader.set_version(self.version);
    }

    /// The state that wrote `base` with [`Store::encode_base`], but with an empty index: [`Store::load_index`] or
    /// [`Store::insert_scanned`] fill it.
    ///
    /// # Errors
    /// If the bytes are anything else. Allocates no more than a small multiple of them.
    pub fn restore(log: Arc<LogView>, base: &[u8]) -> Result<Self, DecodeError> {
        Self::restore_with_order_bits(log, base, ORDER_BITS)
    }

    /// As [`Store::restore`], see [`Store::with_order_bits`].
    pub(crate) fn restore_with_order_bits(log: Arc<LogView>, base: &[u8], bits: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::copy_from_slice(base));
        let mut store = Self::with_order_bits(log, bits);
        store.applied = LogIndex(reader.u64()?);
        store.version = Version(reader.u64()?);
        store.log_time_ms = reader.u64()?;
        if reader.bool("index secret")? {
            let secret = reader.take(IndexSecret::BYTES)?;
            store.reader.settle_secret(IndexSecret(*secret.first_chunk().expect("as many bytes as were asked for")));
        }
        store.sessions = SessionTable::decode(&mut reader)?;
        store.once = OnceMemory::decode(&mut reader)?;
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
