//! What makes a key.

use bytes::Bytes;
use kvorum_client_core::Error;
use kvorum_protocol::limits::KEY_BYTES_MAX;

/// Refuses keys that no node would take, before anything is sent.
pub(crate) fn checked_key(key: &[u8]) -> Result<Bytes, Error> {
    check_key(key)?;
    Ok(Bytes::copy_from_slice(key))
}

/// See [`checked_key`].
pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::InvalidArgument("a key has at least one byte".to_owned()));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::TooLarge { what: "the key's length in bytes", size: key.len(), limit: KEY_BYTES_MAX });
    }
    Ok(())
}
