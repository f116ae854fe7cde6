use super::*;
use kvorum_protocol::ShardId;
use proptest::prelude::*;
use std::sync::Arc;

fn keys(shard: u16, fill: u8) -> ShardKeys {
    let ring = Keyring::with_key(KeyEpoch(3), DataKey::new([fill; DATA_KEY_BYTES]));
    ShardKeys::new(ShardId(shard), Arc::new(ring))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nonces_say_where_something_was_written() {
    let nonce = SealNonce::of_entry(Term(0x0102_0304), LogIndex(0x0506_0708_090a), 0x0606);
    assert_eq!(hex(&nonce.0), "0102030405060708090a0c0c");
    assert_eq!(hex(&nonce.of_value().0), "0102030405060708090a0c0d");
    assert_eq!(hex(&nonce.of_tombstone().0), "0102030405060708090a8c0c");
    assert_eq!(hex(&SealNonce::of_sessions(Term(1), LogIndex(2)).0), "00000001000000000002ffff");
    let nonce = SealNonce::of_version(Version(5));
    assert_eq!(hex(&nonce.0), "ffffffff0000000000014000");
    assert_eq!(hex(&nonce.of_value().0), "ffffffff0000000000014001");
    assert_eq!(hex(&nonce.of_tombstone().0), "ffffffff0000000000014002");
}

proptest! {
    /// All nonces of a shard differ unless they are of the same thing.
    #[test]
    fn no_two_things_have_the_same_nonce(
        one in (1_u64..9, 1_u64..9, 0_usize..RECORDS_MAX, 0_u8..6),
        two in (1_u64..9, 1_u64..9, 0_usize..RECORDS_MAX, 0_u8..6),
    ) {
        let nonce = |(term, index, number, kind): (u64, u64, usize, u8)| {
            let record = SealNonce::of_entry(Term(term), LogIndex(index), number);
            let version = SealNonce::of_version(Version(index * 7 + term));
            match kind {
                0 => (record, format!("{term} {index} {number}")),
                1 => (record.of_value(), format!("{term} {index} {number} value")),
                2 => (record.of_tombstone(), format!("{term} {index} {number} tombstone")),
                3 => (SealNonce::of_sessions(Term(term), LogIndex(index)), format!("{term} {index} sessions")),
                4 => (version, format!("version {}", index * 7 + term)),
                _ => (version.of_tombstone(), format!("version {} tombstone", index * 7 + term)),
            }
        };
        let ((one, of_one), (two, of_two)) = (nonce(one), nonce(two));
        prop_assert_eq!(one == two, of_one == of_two, "{} and {}", of_one, of_two);
    }

    #[test]
    fn a_whole_comes_back_and_nothing_else_opens(text in prop::collection::vec(any::<u8>(), 0..200), flip in any::<usize>()) {
        let keys = keys(5, 1);
        let whole = keys.seal_whole(KeyEpoch(3), b"base", &text);
        prop_assert_eq!(whole.len(), text.len() + SEAL_BYTES);
        prop_assert_eq!(&whole, &keys.seal_whole(KeyEpoch(3), b"base", &text), "the same text, the same bytes");
        prop_assert_eq!(keys.open_whole(b"base", &whole), Ok(text));
        prop_assert_eq!(keys.open_whole(b"hint", &whole), Err(SealError::Forged), "for another purpose");
        prop_assert_eq!(self::keys(6, 1).open_whole(b"base", &whole), Err(SealError::Forged), "of another shard");
        prop_assert_eq!(self::keys(5, 2).open_whole(b"base", &whole), Err(SealError::Forged), "of another key");
        let mut flipped = whole.clone();
        flipped[flip % whole.len()] ^= 1 << (flip % 8);
        prop_assert!(keys.open_whole(b"base", &flipped).is_err());
        prop_assert!(keys.open_whole(b"base", &whole[..whole.len() - 1]).is_err());
    }
}

/// Disks hold these bytes.
#[test]
fn bytes_are_frozen() {
    let keys = keys(5, 7);
    let nonce = SealNonce::of_entry(Term(3), LogIndex(9), 0);
    let mut text = *b"a key and a value";
    let tag = keys.seal(KeyEpoch(3), &nonce, b"bound to", &mut text);
    assert_eq!(hex(&text) + &hex(&tag), "c54e46d2ad502e60bd34c59cae52905bb8df947a433d677e8d5d326db19f8fbf7b");
    let whole = keys.seal_whole(KeyEpoch(3), b"bound to", b"a whole");
    assert_eq!(hex(&whole), "03009f376cdef095a3d28212d81e358d51777cb364a3122a8c95b493d97692d743cf4f01f0");
}

#[test]
fn a_key_that_is_not_here_is_named() {
    let (keys, other) = (keys(5, 7), ShardKeys::default());
    let whole = keys.seal_whole(KeyEpoch(3), b"", b"text");
    assert_eq!(other.open_whole(b"", &whole), Err(SealError::NoKey(KeyEpoch(3))));
    assert_eq!(other.active(), None);
    other.ring().insert(KeyEpoch(3), DataKey::new([7; DATA_KEY_BYTES]));
    assert_eq!(other.open_whole(b"", &whole), Err(SealError::Forged), "of another shard");
    assert_eq!(format!("{:?} {other:?}", keys.ring().key(KeyEpoch(3))), "Some(DataKey([redacted])) ShardKeys(0)");
}

#[test]
fn every_epoch_has_a_place() {
    let keys = ShardKeys::default();
    for epoch in [1, 2, 3, 4, 255, 256, u16::MAX] {
        keys.ring().insert(KeyEpoch(epoch), DataKey::new([epoch as u8; DATA_KEY_BYTES]));
        let whole = keys.seal_whole(KeyEpoch(epoch), b"", b"text");
        assert_eq!(keys.open_whole(b"", &whole).unwrap(), b"text");
    }
}
