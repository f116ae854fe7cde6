//! Tests of the payload of an operation entry.

use super::*;
use crate::log::remembered::Remembered;
use kvorum_protocol::{Ack, ClientId, Durability, ErrorCode, ServerError, WriteResult, WriteStatus};
use proptest::prelude::*;
use uuid::Uuid;

fn sample() -> (Vec<u8>, Vec<SessionRecord>) {
    let mut builder = OperationsBuilder::new(1234, Version(9));
    assert!(builder.is_empty());
    assert_eq!(builder.push_record(b"a", Some(b"first"), None), Version(10));
    assert_eq!(builder.push_record(b"key of some length", None, None), Version(11));
    assert_eq!(builder.push_record(b"b", Some(b""), Some(5678)), Version(12));
    let client = ClientId(Uuid::from_u128(7));
    let written = WriteResult {
        status: WriteStatus::Applied,
        version: Version(11),
        ack: Ack::Committed,
        durability: Durability::Fsync,
        number: Some(-4),
        decimal: None,
        previous: None,
        receipt: None,
        existed: None,
        replayed: false,
    };
    let refused = ServerError::new(ErrorCode::NotAnInteger, "no");
    let sessions = vec![
        SessionRecord { client, sequence: 3, first_unanswered: 2, reply: Remembered::Applied(Version(10)), once: None },
        SessionRecord { client, sequence: 4, first_unanswered: 2, reply: Remembered::of_write(&written), once: None },
        SessionRecord {
            client,
            sequence: 5,
            first_unanswered: 2,
            reply: Remembered::Refused(Box::new(refused)),
            once: None,
        },
    ];
    sessions.iter().for_each(|session| builder.push_session(session));
    (builder.finish(), sessions)
}

#[test]
fn comes_back_as_it_was_built() {
    let (payload, sessions) = sample();
    let operations = Operations::parse(payload.into()).unwrap();
    assert_eq!(operations.log_time_ms(), 1234);
    assert_eq!(operations.last_version(), Version(12));
    let records: Vec<_> = operations.records().map(|record| record.unwrap().1).collect();
    assert_eq!(records[0].value, b"first");
    assert!(records[1].tombstone);
    assert_eq!(records[2].expires_at_ms, Some(5678));
    assert_eq!(records.iter().map(|record| record.version.0).collect::<Vec<_>>(), [10, 11, 12]);
    assert_eq!(operations.sessions(&ShardKeys::default()).unwrap(), sessions);
}

/// docs/LOG_FORMAT.md describes these bytes; logs on disks hold them.
#[test]
fn bytes_are_frozen() {
    let frozen = concat!(
        "d2040000000000000a0000000000000003000000690000006cb488af05000002",
        "00a00000000000006166697273744fd2ea150000002400b40000000000006b65",
        "79206f6620736f6d65206c656e677468a04b1b160000000200c8000000000000",
        "2e16000000000000620100000000000000000000000000000000000007030000",
        "000006020001020415000000000b00000000000000000001fcffffffffffffff",
        "000302060d0000000e0000ffffffff000002006e6f",
    );
    assert_eq!(hex(&sample().0), frozen);
}

#[test]
fn a_header_holds_the_largest_of_everything() {
    let (key, value) = (vec![1; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
    for (value, expires_at_ms) in [(Some(&value[..]), Some(u64::MAX)), (Some(&value[..]), None), (None, None)] {
        let mut out = BytesMut::new();
        put_record(&mut out, &key, value, Version(VERSION_MAX), expires_at_ms);
        let header = RecordHeader::parse(out.first_chunk().unwrap()).unwrap();
        assert_eq!(header.record_bytes(), out.len());
        assert_eq!(header.head(&out[..header.head_bytes()]).unwrap().key, key);
        let record = header.record(&out).unwrap();
        let expected = Record {
            key: &key,
            value: value.unwrap_or_default(),
            sealed: None,
            version: Version(VERSION_MAX),
            expires_at_ms,
            tombstone: value.is_none(),
        };
        assert_eq!((record, record.bytes()), (expected, out.len()));
    }
    for over in [KEY_BYTES_MAX as u128 + 1, (1 << KEY_LENGTH_BITS) - 1] {
        assert!(RecordHeader::parse(&(over << (32 + VALUE_LENGTH_BITS)).to_le_bytes()).is_err());
    }
    assert!(RecordHeader::parse(&((VALUE_BYTES_MAX as u128 + 1) << 32).to_le_bytes()).is_err());
}

/// docs/LOG_FORMAT.md describes these bytes; logs on disks hold them.
#[test]
fn the_secret_lies_between_header_and_records() {
    let secret = IndexSecret(*b"sixteen  secrets");
    let mut builder = OperationsBuilder::with_secret(1234, Version(9), secret);
    assert!(builder.is_empty());
    builder.push_record(b"a", Some(b"first"), None);
    let payload = builder.finish();
    let without = {
        let mut builder = OperationsBuilder::new(1234, Version(9));
        builder.push_record(b"a", Some(b"first"), None);
        builder.finish()
    };
    assert_eq!(payload[16..24], [1, 0, 0, 0x80, 62, 0, 0, 0]);
    assert_eq!((&payload[24..40], &payload[40..]), (&secret.0[..], &without[24..]));
    let operations = Operations::parse(payload.clone().into()).unwrap();
    assert_eq!((operations.secret(), operations.count()), (Some(secret), 1));
    assert_eq!(operations.records().next().unwrap().unwrap().0, 40);
    assert_eq!(Operations::parse(without.into()).unwrap().secret(), None);
    for end in 0..40 {
        assert!(Operations::parse(Bytes::copy_from_slice(&payload[..end])).is_err(), "cut at {end}");
    }
    assert_eq!(format!("{secret:?}"), "IndexSecret", "it does not get into a line of the log");
}

#[test]
fn versions_out_of_range_are_refused() {
    let (payload, _) = sample();
    for version in [0, VERSION_MAX + 1, u64::MAX] {
        let mut payload = payload.clone();
        payload[8..16].copy_from_slice(&version.to_le_bytes());
        assert!(Operations::parse(payload.into()).is_err(), "{version}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(operations) = Operations::parse(bytes.into()) {
            let _ = operations.last_version();
            prop_assert!(operations.records().count() <= RECORDS_MAX);
        }
    }
}

/// A record in whose last byte of numbers these bits are set, with the checksum of that.
fn with_bits(bits: u8, value_bytes: usize) -> BytesMut {
    let mut out = BytesMut::new();
    put_record(&mut out, b"k", Some(&vec![7; value_bytes]), Version(VERSION_MAX), None);
    out[RECORD_HEADER_BYTES - 1] |= bits;
    let head = RecordHeader::parse(out.first_chunk().unwrap()).unwrap().head_bytes();
    let crc = checksum(&out[4..head]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// docs/LOG_FORMAT.md reserves this bit; the next versions write it.
#[test]
fn records_that_are_typed_are_refused_by_name() {
    const SEALED: u8 = 1 << 6;
    const TYPED: u8 = 1 << 7;
    let expected = Reserved::TypedRecord;
    for bits in [TYPED, SEALED | TYPED] {
        for value_bytes in [SEAL_BYTES, HEAD_VALUE_BYTES_MAX, HEAD_VALUE_BYTES_MAX + SEAL_BYTES] {
            let (plain, record) = (with_bits(0, value_bytes), with_bits(bits, value_bytes));
            let header = RecordHeader::parse(record.first_chunk().unwrap()).unwrap();
            assert_eq!(header.record_bytes(), plain.len(), "lengths mean the same");
            assert_eq!(header.record(&record), Err(expected.into()));
            assert_eq!(header.head(&record[..header.head_bytes()]), Err(expected.into()));
            // A bit that flips is damage, and no record of another kind.
            let mut flipped = plain;
            flipped[RECORD_HEADER_BYTES - 1] |= bits;
            let flipped_header = RecordHeader::parse(flipped.first_chunk().unwrap()).unwrap();
            assert_eq!(flipped_header.record(&flipped), Err(OperationsError::BadChecksum));
        }
    }
    assert_eq!(hex(&with_bits(0, 1)), "ef41acf10100000200f0ffffffffff3f6b07");
    assert_eq!(hex(&with_bits(TYPED, 1)), "6f5a99100100000200f0ffffffffffbf6b07");
}

#[test]
fn an_entry_with_a_reserved_record_is_refused_where_that_begins() {
    let mut payload = OperationsBuilder::new(1, Version(VERSION_MAX - 2)).finish();
    let record = with_bits(1 << 7, 3);
    payload[16] = 1;
    payload[20] += record.len() as u8;
    payload.splice(HEADER_BYTES..HEADER_BYTES, record);
    let operations = Operations::parse(payload.into()).unwrap();
    let records: Vec<_> = operations.records().collect();
    assert_eq!(records, [Err(Reserved::TypedRecord.into())]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_truncation_is_an_error() {
    let (payload, _) = sample();
    for end in 1..payload.len() {
        let parsed = Operations::parse(Bytes::copy_from_slice(&payload[..end]));
        let whole = parsed.is_ok_and(|operations| {
            operations.records().all(|record| record.is_ok()) && operations.sessions(&ShardKeys::default()).is_ok()
        });
        assert!(!whole, "cut at {end}");
    }
}

/// What is asked without the value reads no long one, and a long one is bound to its record.
#[test]
fn a_long_value_has_a_checksum_of_its_own() {
    for (value_bytes, apart) in [(HEAD_VALUE_BYTES_MAX, false), (HEAD_VALUE_BYTES_MAX + 1, true)] {
        let mut out = BytesMut::new();
        put_record(&mut out, b"key", Some(&vec![7; value_bytes]), Version(5), Some(9));
        let header = RecordHeader::parse(out.first_chunk().unwrap()).unwrap();
        let front = RECORD_HEADER_BYTES + EXPIRY_BYTES + if apart { VALUE_CRC_BYTES } else { 0 };
        assert_eq!(header.record_bytes(), front + 3 + value_bytes);
        assert_eq!(header.head_bytes(), front + 3 + if apart { 0 } else { value_bytes });
        for position in 0..out.len() {
            let mut damaged = out.clone();
            damaged[position] ^= 0x10;
            let found = RecordHeader::parse(damaged.first_chunk().unwrap());
            let same_length = |header: &RecordHeader| header.record_bytes() == out.len();
            let Some(found) = found.ok().filter(same_length) else { continue };
            assert!(found.record(&damaged).is_err(), "byte {position}");
            let head = found.head(&damaged[..found.head_bytes()]);
            assert_eq!(head.is_err(), position < header.head_bytes(), "byte {position}");
            if let Ok(head) = head {
                assert_eq!((head.key, head.version, head.expires_at_ms), (&b"key"[..], Version(5), Some(9)));
                assert!(head.verify(&damaged[front + 3..]).is_err(), "the value is another one");
            }
        }
    }
}

#[test]
fn every_flip_in_a_record_is_seen() {
    let (payload, _) = sample();
    let record = HEADER_BYTES..HEADER_BYTES + RECORD_HEADER_BYTES + 6;
    for position in record {
        for bit in 0..8 {
            let mut damaged = payload.clone();
            damaged[position] ^= 1 << bit;
            let operations = Operations::parse(damaged.into()).unwrap();
            assert!(operations.records().any(|record| record.is_err()), "byte {position} bit {bit}");
        }
    }
}
