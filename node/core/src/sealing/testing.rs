//! Runs tests of other modules sealed.

use super::{DATA_KEY_BYTES, DataKey, KeyEpoch, Keyring};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static KEYRING: RefCell<Arc<Keyring>> = RefCell::default();
}

/// What logs are sealed with that this thread opens: nothing, outside of [`sealed`].
pub(crate) fn keyring() -> Arc<Keyring> {
    KEYRING.with_borrow(Arc::clone)
}

/// A key for tests.
pub(crate) fn key(epoch: u16) -> DataKey {
    DataKey::new([epoch as u8; DATA_KEY_BYTES])
}

/// Runs a test in which every log is sealed.
pub(crate) fn sealed(test: impl FnOnce()) {
    KEYRING.set(Arc::new(Keyring::with_key(KeyEpoch(1), key(1))));
    test();
    KEYRING.set(Arc::default());
}
