//! Sealing: what a node stores of its clients' data is encrypted, and no byte of it can be changed unnoticed.
//!
//! A *data key* belongs to an *epoch*: epoch 0 is plain, and every rotation begins the next one. From a data key and a shard follow
//! the keys of that shard: one for records and the answers in entries, and two for what is sealed as a whole (a base, a hint).
//! Whoever calls brings the data keys; nothing here draws a random number.
//!
//! # No nonce is used twice
//!
//! AES-GCM fails if two texts are sealed under one key and one nonce. Consensus gives a term and an index to one entry only, so a record
//! is sealed under term, index and its number in the entry ([`SealNonce::of_entry`]). An entry that consensus refuses is thrown
//! away before it is sent or written. What compaction seals for the first time has its version for a nonce: of one shard's
//! committed records each has its own. A whole is sealed under a nonce that follows from its text (HMAC), so that equal nonces mean equal
//! texts.
//!
//! Bytes: `docs/LOG_FORMAT.md`.

mod node_keys;
mod ring_of_keys;
mod shard_keys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use node_keys::{KeyFailure, KeyWrap, NodeKeys};
pub use ring_of_keys::{DataKey, Keyring};
pub use shard_keys::ShardKeys;

use kvorum_protocol::{LogIndex, Term, Version};
use std::fmt;

/// Bytes of a data key.
pub const DATA_KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;
/// What stands in front of everything that is sealed: epoch and nonce.
pub const FRONT_BYTES: usize = 2 + NONCE_BYTES;
/// What sealing adds.
pub const SEAL_BYTES: usize = FRONT_BYTES + TAG_BYTES;

/// The number of a data key. 0 is none: plain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct KeyEpoch(pub u16);

impl fmt::Display for KeyEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why something can't be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// The key is not here, or not yet.
    #[error("the data key of epoch {0} is not here")]
    NoKey(KeyEpoch),
    /// It was changed, or was sealed elsewhere or for something else.
    #[error("what is sealed does not open: it was changed, or belongs elsewhere")]
    Forged,
}

/// What makes each sealing under one key different from all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SealNonce(pub [u8; NONCE_BYTES]);

/// Number of an entry's session section.
const SESSIONS: u16 = u16::MAX;
/// Set in the number of the tombstone that compaction makes of a record.
const TOMBSTONE: u8 = 0x80;
/// As that, where a version is the nonce.
const TOMBSTONE_OF_VERSION: u8 = 2;
/// Set for a value that is sealed apart from its key.
const VALUE: u8 = 1;
/// Bits of a nonce behind a version.
const VERSION_SHIFT: u32 = 14;
/// Most records of an entry that have a nonce.
pub const RECORDS_MAX: usize = 1 << 14;

impl SealNonce {
    /// Of the record of this number in the entry of this term and index: term u32, index u48, number u16, most significant byte first.
    ///
    /// # Panics
    /// If the numbers are beyond what a cluster can reach.
    pub fn of_entry(term: Term, index: LogIndex, number: usize) -> Self {
        assert!(number < RECORDS_MAX, "an entry has no more records");
        Self::new(term, index, number as u16 * 2)
    }

    /// Of what an entry says of sessions.
    pub fn of_sessions(term: Term, index: LogIndex) -> Self {
        Self::new(term, index, SESSIONS)
    }

    fn new(term: Term, index: LogIndex, number: u16) -> Self {
        assert!(term.0 < u64::from(u32::MAX), "terms are counted one by one");
        assert!(index.0 < 1 << 48, "entries are counted one by one");
        let packed = u128::from(term.0) << 64 | u128::from(index.0) << 16 | u128::from(number);
        Self(*packed.to_be_bytes().last_chunk().expect("of sixteen bytes"))
    }

    /// Of a record that was written plain, and that compaction seals.
    pub fn of_version(version: Version) -> Self {
        let packed = u128::from(u32::MAX) << 64 | u128::from(version.0) << VERSION_SHIFT;
        assert!(version.0 < 1 << (u64::BITS - VERSION_SHIFT), "versions are counted one by one");
        Self(*packed.to_be_bytes().last_chunk().expect("of sixteen bytes"))
    }

    /// Of the value, if that is sealed apart from its key.
    pub fn of_value(mut self) -> Self {
        self.0[NONCE_BYTES - 1] |= VALUE;
        self
    }

    /// Of the tombstone that compaction makes of the record.
    pub fn of_tombstone(mut self) -> Self {
        match self.0.starts_with(&u32::MAX.to_be_bytes()) {
            true => self.0[NONCE_BYTES - 1] |= TOMBSTONE_OF_VERSION,
            false => self.0[NONCE_BYTES - 2] |= TOMBSTONE,
        }
        self
    }
}

/// Epoch and nonce, as they stand in front of what is sealed.
pub(crate) fn encode_front(epoch: KeyEpoch, nonce: &SealNonce) -> [u8; FRONT_BYTES] {
    let mut front = [0; FRONT_BYTES];
    front[..2].copy_from_slice(&epoch.0.to_le_bytes());
    front[2..].copy_from_slice(&nonce.0);
    front
}

/// What stands in front of these bytes, and the rest.
pub(crate) fn decode_front(bytes: &[u8]) -> Option<(KeyEpoch, SealNonce, &[u8])> {
    let (front, rest) = bytes.split_first_chunk::<FRONT_BYTES>()?;
    let epoch = KeyEpoch(u16::from_le_bytes([front[0], front[1]]));
    let nonce = SealNonce(*front[2..].first_chunk().expect("as long as a nonce"));
    Some((epoch, nonce, rest))
}
