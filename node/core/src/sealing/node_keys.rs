//! The keys of a node: what wraps data keys, and the data keys that the ring map has brought.

use super::{DATA_KEY_BYTES, DataKey, KeyEpoch, Keyring};
use crate::ring::sealing::{RingSealing, WrappedKey};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// What wraps data keys: a key-encryption key, or a program that has one. May block for seconds.
pub trait KeyWrap: Send + Sync {
    /// Tells this key-encryption key from others.
    fn kek(&self) -> u64;
    /// Whether [`KeyWrap::kek`] stays the same where the key is exchanged: it stands for a program then, which keeps the key to itself.
    fn hides_its_key(&self) -> bool {
        false
    }
    /// Draws a data key.
    ///
    /// # Errors
    /// If there is no randomness.
    fn draw(&self) -> Result<[u8; DATA_KEY_BYTES], KeyFailure>;
    /// Wraps a data key.
    ///
    /// # Errors
    /// If it can't be done.
    fn wrap(&self, epoch: KeyEpoch, key: &DataKey) -> Result<String, KeyFailure>;
    /// Unwraps a data key, be it with the key-encryption key of now or with the one before.
    ///
    /// # Errors
    /// If neither opens it.
    fn unwrap(&self, key: &WrappedKey) -> Result<DataKey, KeyFailure>;
}

/// Why a key can't be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyFailure(pub String);

/// The keys of a node.
#[derive(Default)]
pub struct NodeKeys {
    ring: Arc<Keyring>,
    wrap: Option<Box<dyn KeyWrap>>,
    /// The newest key up to which all are here.
    newest: AtomicU16,
}

impl NodeKeys {
    /// The keys of a node that unwraps with this, if with anything.
    pub fn new(wrap: Option<Box<dyn KeyWrap>>) -> Self {
        Self { wrap, ..Self::default() }
    }

    /// The data keys.
    pub fn ring(&self) -> &Arc<Keyring> {
        &self.ring
    }

    /// What wraps them.
    pub fn wrap(&self) -> Option<&dyn KeyWrap> {
        self.wrap.as_deref()
    }

    /// The newest data key up to which all are here; epoch 0 for none.
    pub fn newest(&self) -> KeyEpoch {
        KeyEpoch(self.newest.load(Ordering::Acquire))
    }

    /// Takes over what a ring map says: unwraps what is new, and seals with the key that is active.
    ///
    /// # Errors
    /// If a key can't be unwrapped. Those before it are here then.
    pub fn follow(&self, sealing: &RingSealing) -> Result<(), KeyFailure> {
        for key in &sealing.keys {
            let epoch = KeyEpoch(key.epoch);
            if !self.ring.has(epoch) {
                let wrap = self.wrap.as_ref().ok_or_else(|| {
                    KeyFailure("the cluster seals what it stores, and this node has no encryption.key".to_owned())
                })?;
                self.ring.insert(epoch, wrap.unwrap(key)?);
            }
            self.newest.fetch_max(key.epoch, Ordering::AcqRel);
        }
        if sealing.active != 0 {
            self.ring.activate(KeyEpoch(sealing.active));
        }
        Ok(())
    }
}
