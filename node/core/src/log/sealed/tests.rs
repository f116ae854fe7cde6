use super::*;
use crate::log::operations::{Operations, OperationsBuilder, RECORD_HEADER_BYTES};
use crate::log::remembered::Remembered;
use crate::log::session_section::SessionRecord;
use crate::sealing::testing::key;
use crate::sealing::{DATA_KEY_BYTES, DataKey, Keyring};
use bytes::Bytes;
use kvorum_protocol::{ClientId, LogIndex, Term};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

fn keys(shard: u16) -> Arc<ShardKeys> {
    let ring = Keyring::with_key(KeyEpoch(1), DataKey::new([7; DATA_KEY_BYTES]));
    Arc::new(ShardKeys::new(ShardId(shard), Arc::new(ring)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sealed(key: &[u8], value: Option<&[u8]>, expires_at_ms: Option<u64>, keys: &ShardKeys) -> BytesMut {
    let mut out = BytesMut::new();
    let record = Unsealed { key, value, version: Version(5), expires_at_ms };
    put_sealed(&mut out, keys, KeyEpoch(1), SealNonce::of_entry(Term(3), LogIndex(9), 2), &record);
    out
}

fn record(bytes: &[u8]) -> Result<Record<'_>, OperationsError> {
    let header = RecordHeader::parse(bytes.first_chunk().unwrap())?;
    assert_eq!(header.record_bytes(), bytes.len());
    header.record(bytes)
}

/// docs/LOG_FORMAT.md describes these bytes; logs on disks hold them.
#[test]
fn bytes_are_frozen() {
    let keys = keys(5);
    assert_eq!(
        hex(&sealed(b"key", Some(b"value"), None, &keys)),
        "58f3a64a23000006005000000000004001000000000300000000000900041540ea23da248ae57d691a1b33110f390fb1137be4aecf32"
    );
    assert_eq!(
        hex(&sealed(b"key", None, None, &keys)),
        "f7ae8df51e000006005400000000004001000000000300000000000900041540ea4c9750034296733a473ee918255c769d"
    );
    let long = sealed(b"key", Some(&[7; 227]), Some(77), &keys);
    assert_eq!(
        hex(&long[..100]),
        "2bd091081101000600580000000000404d0000000000000082c3e9f701000000000300000000000900041540ea1d24f44a4e182de80ea3857952953543d2cbed704a332c65016568c050c9e6378f34f13ea805d21c970562bff1d8d77406c9f18f454ad4"
    );
    let mut builder = OperationsBuilder::new(1234, Version(9));
    builder.seal_at(&keys, Term(3), LogIndex(9));
    let version = builder.push_record(b"a", Some(b"first"), None);
    let client = ClientId(Uuid::from_u128(7));
    let reply = Remembered::Applied(version);
    builder.push_session(&SessionRecord { client, sequence: 3, first_unanswered: 2, reply, once: None });
    assert_eq!(
        hex(&builder.finish()),
        "d2040000000000000a00000000000000010000404c0000009d7740192300000200a00000000000400100000000030000000000090000c50844c5a7040c0bd3a846288f0a33382ea7d7c665a1010000000003000000000009ffff446a446ce5b87a3eb3e30b6a62d0659f5fa464c5fed2e8e17b83e6b907429e9d046a90d9fb5797f81a8bf24b"
    );
}

#[test]
fn whether_a_value_is_sealed_apart_follows_from_either_length() {
    for value_bytes in 0..1000 {
        let stored = value_bytes + seal_bytes(value_bytes);
        assert_eq!(value_bytes_of(stored), Some(value_bytes));
        assert_eq!(seal_bytes(value_bytes) == SEAL_BYTES, value_bytes <= 226);
    }
    let of_no_record: Vec<usize> = (0..1000).filter(|stored| value_bytes_of(*stored).is_none()).collect();
    assert_eq!(of_no_record, (0..30).chain(257..273).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_record_comes_back_and_opens_in_its_place_only(
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(any::<u8>(), 220..235),
        ]),
        expires_at_ms in prop::option::of(1..u64::MAX),
    ) {
        let keys = keys(5);
        let expires_at_ms = expires_at_ms.filter(|_| value.is_some());
        let bytes = sealed(&key, value.as_deref(), expires_at_ms, &keys);
        let found = record(&bytes).unwrap();
        prop_assert_eq!((found.version, found.expires_at_ms, found.bytes()), (Version(5), expires_at_ms, bytes.len()));
        prop_assert_eq!(found.tombstone, value.is_none());
        prop_assert_eq!((found.key, found.value), (&[][..], &[][..]), "nothing is in the clear");
        let (of_key, of_value) = found.open(&keys).unwrap();
        prop_assert_eq!((&*of_key, &*of_value), (&key[..], value.as_deref().unwrap_or_default()));
        prop_assert_eq!(&*found.open_key(&keys).unwrap(), &key[..]);
        let header = RecordHeader::parse(bytes.first_chunk().unwrap()).unwrap();
        let head = header.head(&bytes[..header.head_bytes()]).unwrap();
        let (opened, apart) = header.open_head(&head, &bytes[..header.look_bytes()], &keys).unwrap();
        prop_assert_eq!(opened.key(), &key[..]);
        prop_assert_eq!(header.plain_value_bytes(), of_value.len());
        match apart {
            None => prop_assert_eq!(opened.value(), &*of_value),
            Some(apart) => {
                let stored = &bytes[header.record_bytes() - header.value_bytes()..];
                prop_assert_eq!(apart.open(stored, &keys).unwrap(), of_value.to_vec());
                prop_assert_eq!(apart.value_bytes(), of_value.len());
            }
        }
        let elsewhere = Err(OperationsError::Sealed(SealError::Forged));
        prop_assert_eq!(found.open_key(&self::keys(6)), elsewhere, "of another shard");
        prop_assert_eq!(found.open_key(&ShardKeys::default()), Err(SealError::NoKey(KeyEpoch(1)).into()));
    }

    /// Whoever changes a byte, and mends the checksums, is found by whoever opens the record.
    #[test]
    fn no_byte_can_be_changed_unnoticed(value_bytes in prop_oneof![0_usize..40, 220_usize..260], at in any::<usize>(), bit in 0_u32..8) {
        let keys = keys(5);
        let bytes = sealed(b"a key", Some(&vec![3; value_bytes]), Some(99), &keys);
        let mut flipped = bytes.clone();
        let at = 4 + at % (bytes.len() - 4);
        flipped[at] ^= 1_u8 << bit;
        let Ok(header) = RecordHeader::parse(flipped.first_chunk().unwrap()) else { return Ok(()) };
        if header.record_bytes() != flipped.len() || !header.is_sealed() || header.typed {
            return Ok(());
        }
        prop_assert!(record(&flipped).is_err(), "byte {} bit {}", at, bit);
        if let Some(crc_at) = header.value_crc_at() {
            let crc = checksum(&flipped[header.record_bytes() - header.value_bytes()..]);
            flipped[crc_at as usize..][..4].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = checksum(&flipped[4..header.head_bytes()]);
        flipped[..4].copy_from_slice(&crc.to_le_bytes());
        if flipped != bytes {
            let found = record(&flipped).unwrap();
            prop_assert!(found.open(&keys).is_err(), "byte {} bit {}", at, bit);
        }
    }
}

/// What compaction writes opens, is the same whoever writes it, and never says another thing under a nonce.
#[test]
fn compaction_seals_what_is_plain_or_has_an_older_key() {
    let keys = keys(5);
    let mut builder = OperationsBuilder::new(1, Version(4));
    builder.push_record(b"key", Some(b"value"), Some(9));
    let plain = Operations::parse(builder.finish().into()).unwrap();
    let (_, plain) = plain.records().next().unwrap().unwrap();
    let closed = ShardKeys::default();
    assert_eq!(&*kept(&plain, b"its bytes", &closed).unwrap(), b"its bytes", "nothing is sealed");
    let first = kept(&plain, b"its bytes", &keys).unwrap().into_owned();
    let in_first = record(&first).unwrap();
    assert_eq!(in_first.sealed_with(), Some((KeyEpoch(1), SealNonce::of_version(Version(5)))));
    assert_eq!(in_first.open(&keys).unwrap(), (Cow::from(&b"key"[..]), Cow::from(&b"value"[..])));
    assert_eq!(&*kept(&in_first, &first, &keys).unwrap(), &first[..], "sealed with the key of now");
    keys.ring().insert(KeyEpoch(2), key(2));
    keys.ring().activate(KeyEpoch(2));
    let second = kept(&in_first, &first, &keys).unwrap().into_owned();
    let in_second = record(&second).unwrap();
    assert_eq!(in_second.sealed_with(), Some((KeyEpoch(2), SealNonce::of_version(Version(5)))));
    assert_eq!((in_second.version, in_second.expires_at_ms), (Version(5), Some(9)));
    assert_eq!(second, &*kept(&plain, b"its bytes", &keys).unwrap(), "whichever way it has come");
    let gone = tombstone_of(&in_first, &first, &keys).unwrap();
    assert_eq!(gone, tombstone_of(&plain, b"its bytes", &keys).unwrap());
    let in_gone = record(&gone).unwrap();
    assert!(in_gone.tombstone && in_gone.expires_at_ms.is_none());
    assert_eq!(&*in_gone.open_key(&keys).unwrap(), b"key");
    assert_eq!(in_gone.sealed_with().unwrap().1, SealNonce::of_version(Version(5)).of_tombstone());
    assert_eq!(tombstone_of(&in_gone, &gone, &keys).unwrap(), gone);
    assert_eq!(tombstone_of(&plain, b"its bytes", &closed).unwrap(), encode_tombstone(b"key", Version(5)));
}

#[test]
fn sessions_open_with_their_entry_only() {
    let keys = keys(5);
    let entry = |version| {
        let mut builder = OperationsBuilder::new(1234, Version(version));
        builder.seal_at(&keys, Term(3), LogIndex(9));
        let reply = Remembered::Applied(builder.push_record(b"a", Some(b"first"), None));
        let client = ClientId(Uuid::from_u128(7));
        builder.push_session(&SessionRecord { client, sequence: 3, first_unanswered: 2, reply, once: None });
        builder.finish()
    };
    let payload = entry(9);
    let found = Operations::parse(payload.clone().into()).unwrap();
    assert_eq!(found.sessions(&keys).unwrap().len(), 1);
    assert_eq!(found.sessions_sealed_with().unwrap().1, SealNonce::of_sessions(Term(3), LogIndex(9)));
    assert!(found.sessions(&self::keys(6)).is_err(), "of another shard");
    for at in (0..24).filter(|at| !(16..24).contains(at)) {
        let mut flipped = payload.clone();
        flipped[at] ^= 1;
        let found = Operations::parse(Bytes::from(flipped));
        assert!(found.is_err() || found.is_ok_and(|found| found.sessions(&keys).is_err()), "byte {at}");
    }
    assert!(payload.len() > RECORD_HEADER_BYTES);
}
