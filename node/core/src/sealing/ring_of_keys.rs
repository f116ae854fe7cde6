//! The data keys of a node.

use super::{DATA_KEY_BYTES, KeyEpoch};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// A data key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; DATA_KEY_BYTES]);

impl DataKey {
    /// The key of these bytes, which whoever calls has drawn at random.
    pub fn new(bytes: [u8; DATA_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be wrapped.
    pub fn bytes(&self) -> &[u8; DATA_KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

/// The data keys that a node has, and the one that it seals with. Shared by all of its shards.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: RwLock<BTreeMap<KeyEpoch, DataKey>>,
    /// 0: none.
    active: AtomicU16,
    /// Records that were sealed with the active key since this process began.
    sealed: AtomicU64,
}

impl Keyring {
    /// A ring with one key, in use. For tests and simulations.
    pub fn with_key(epoch: KeyEpoch, key: DataKey) -> Self {
        let ring = Self::default();
        ring.insert(epoch, key);
        ring.activate(epoch);
        ring
    }

    /// Adds a key. A key that is there stays.
    ///
    /// # Panics
    /// For epoch 0.
    pub fn insert(&self, epoch: KeyEpoch, key: DataKey) {
        assert_ne!(epoch, KeyEpoch(0), "epoch 0 is plain");
        self.keys.write().entry(epoch).or_insert(key);
    }

    /// Seals with the key of this epoch from now on.
    ///
    /// # Panics
    /// If there is no such key.
    pub fn activate(&self, epoch: KeyEpoch) {
        assert!(self.has(epoch), "a key is there before it is used");
        if self.active.swap(epoch.0, Ordering::AcqRel) != epoch.0 {
            self.sealed.store(0, Ordering::Relaxed);
        }
    }

    /// What is sealed now, with which key: `None` if nothing is.
    pub fn active(&self) -> Option<KeyEpoch> {
        Some(self.active.load(Ordering::Acquire)).filter(|epoch| *epoch != 0).map(KeyEpoch)
    }

    /// Whether the key is here.
    pub fn has(&self, epoch: KeyEpoch) -> bool {
        self.keys.read().contains_key(&epoch)
    }

    /// The epochs whose keys are here.
    pub fn epochs(&self) -> Vec<KeyEpoch> {
        self.keys.read().keys().copied().collect()
    }

    /// A copy of a key.
    pub fn key(&self, epoch: KeyEpoch) -> Option<DataKey> {
        self.keys.read().get(&epoch).cloned()
    }

    /// So many records were sealed with the active key since this process began.
    pub fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }

    pub(crate) fn note_sealed(&self, records: u64) {
        self.sealed.fetch_add(records, Ordering::Relaxed);
    }
}
