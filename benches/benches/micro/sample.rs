//! What is written: keys of 16 bytes and values of 100, as in all measurements.

use bytes::Bytes;
use kvorum_core::log::operations::OperationsBuilder;
use kvorum_protocol::Version;

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 100;
/// Log time of every entry.
const LOG_TIME_MS: u64 = 1_700_000_000_000;

/// The key of this number.
pub(crate) fn key(number: usize) -> Bytes {
    let key = format!("key-{number:012}");
    assert_eq!(key.len(), KEY_BYTES);
    Bytes::from(key)
}

/// A value that is told from those of other fillings.
pub(crate) fn value(filling: u8) -> Bytes {
    Bytes::from(vec![filling; VALUE_BYTES])
}

/// Numbers from 0 to `count`, a power of two, each once and in no order that a cache could guess.
pub(crate) fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    assert!(count.is_power_of_two());
    // An odd factor permutes what is left of its product.
    (0..count).map(move |position| position.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) & (count - 1))
}

/// The payload of an entry that puts the keys of these numbers.
pub(crate) fn entry(keys: impl IntoIterator<Item = usize>, filling: u8, last_version: Version) -> Bytes {
    let mut builder = OperationsBuilder::new(LOG_TIME_MS, last_version);
    let value = value(filling);
    for number in keys {
        builder.push_record(&key(number), Some(&value), None);
    }
    Bytes::from(builder.finish())
}
