//! The session section of an operation entry: what one batch of writes leaves in the memory of the shard's clients.
//!
//! ```text
//! clients        u32   how many, then each as u128 BE
//! writes         u32   how many, then per write, as varints:
//!   client's place in the list * 4 + kind
//!   sequence, as the distance from the client's write before, or from 0
//!   first unanswered, as the distance down from the sequence
//!   by kind:
//!   0  applied, nothing more to say: version, as the distance from the version expected: one more than that of the
//!      kind 0 before, or the first version
//!   1  no varint: length u32, a write result as the wire protocol encodes it
//!   2  no varint: length u32, an atomic result as the wire protocol encodes it
//!   3  no varint: length u32, an error as the wire protocol encodes it. With bit 31 of the length set an extended record:
//!      u8 sub-kind; 7: what is remembered under a one-shot name, of a write or an ATOMIC, see `once`
//! ```
//!
//! A varint is LEB128; a distance is a difference modulo 2^64, zigzag-encoded, so that any number can be written and those
//! that are likely take a byte.
//!
//! Integers are little-endian unless said otherwise.

use super::operations::{OperationsError, RECORDS_MAX, Reserved};
use crate::log::once::OnceRecord;
use crate::log::remembered::{Remembered, decode_transaction, encode_transaction};
use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashMap;
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::{ClientId, DecodeError, Version};

/// Set in the length of a session record of kind 3 that holds no error.
const EXTENDED: u32 = 1 << 31;
/// The kind of a session record that is extended.
const EXTENDED_KIND: u8 = 3;
/// The sub-kind of an extended session record that holds a one-shot name.
const ONCE: u8 = 7;
/// The sub-kind of one that holds what is remembered of a TRANSACTION.
const TRANSACTION: u8 = 8;
/// Most bytes of an extended session record.
const EXTENDED_BYTES_MAX: usize = 1024 * 1024;

/// What the session table remembers of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// Who wrote.
    pub client: ClientId,
    /// The write's number.
    pub sequence: u64,
    /// Nothing below this number will be retried.
    pub first_unanswered: u64,
    /// What was answered.
    pub reply: Remembered,
    /// The one-shot name that it came with, if what was answered under that is remembered; `reply` follows from it then.
    pub once: Option<OnceRecord>,
}

impl SessionRecord {
    /// The kind that says how the rest is encoded.
    fn kind(&self) -> u8 {
        let is_extended = self.once.is_some() || matches!(self.reply, Remembered::Transaction(_));
        if is_extended { EXTENDED_KIND } else { self.reply.kind() }
    }
}

/// Builds the session section.
#[derive(Debug, Default)]
pub(super) struct SessionsBuilder {
    clients: Vec<ClientId>,
    /// Each client's place in `clients`, and the sequence of its last write. Looked up by key only.
    known: HashMap<ClientId, (u64, u64)>,
    writes: BytesMut,
    count: usize,
    expected_version: u64,
}

impl SessionsBuilder {
    /// An empty section of an entry whose first record has this version.
    pub(super) fn new(first_version: Version) -> Self {
        Self { expected_version: first_version.0, ..Self::default() }
    }

    /// Nothing has been added.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the section takes.
    pub(super) fn bytes(&self) -> usize {
        2 * size_of::<u32>() + self.clients.len() * size_of::<ClientId>() + self.writes.len()
    }

    /// Adds what the session table will remember.
    pub(super) fn push(&mut self, record: &SessionRecord) {
        let SessionRecord { client, sequence, first_unanswered, reply, once } = record;
        let (place, last_sequence) = self.known.entry(*client).or_insert_with(|| {
            self.clients.push(*client);
            (self.clients.len() as u64 - 1, 0)
        });
        put_varint(&mut self.writes, *place * 4 + u64::from(record.kind()));
        put_distance(&mut self.writes, *last_sequence, *sequence);
        put_distance(&mut self.writes, *first_unanswered, *sequence);
        *last_sequence = *sequence;
        match (once, reply) {
            (Some(once), _) => put_extended(&mut self.writes, ONCE, |out| once.encode(out)),
            (None, Remembered::Transaction(result)) => {
                put_extended(&mut self.writes, TRANSACTION, |out| encode_transaction(result.as_deref(), out));
            }
            (None, Remembered::Applied(version)) => {
                put_distance(&mut self.writes, self.expected_version, version.0);
                self.expected_version = version.0.wrapping_add(1);
            }
            (None, result) => result.encode_result(&mut self.writes),
        }
        self.count += 1;
    }

    /// Appends the section.
    pub(super) fn finish(&self, out: &mut BytesMut) {
        out.count(self.clients.len());
        self.clients.iter().for_each(|client| out.uuid(client.0));
        out.count(self.count);
        out.extend_from_slice(&self.writes);
    }
}

/// Reads what [`SessionsBuilder`] wrote.
///
/// # Errors
/// `Malformed`; `Reserved` if a record is extended, and neither a one-shot name nor a transaction.
pub(super) fn decode_sessions(
    reader: &mut Reader,
    first_version: Version,
) -> Result<Vec<SessionRecord>, OperationsError> {
    let count = reader.count("session clients", RECORDS_MAX, size_of::<ClientId>())?;
    let mut clients =
        (0..count).map(|_| Ok((reader.client_id()?, 0))).collect::<Result<Vec<(ClientId, u64)>, DecodeError>>()?;
    let mut expected_version = first_version.0;
    let count = reader.count("session records", RECORDS_MAX, 4)?;
    let mut decode = || {
        let tag = varint(reader)?;
        let place = usize::try_from(tag / 4).ok().and_then(|place| clients.get_mut(place));
        let unknown = DecodeError::UnknownValue { field: "client of a session record", value: tag / 4 };
        let (client, last_sequence) = place.ok_or(unknown)?;
        let sequence = last_sequence.wrapping_add(distance(reader)?);
        *last_sequence = sequence;
        let first_unanswered = sequence.wrapping_sub(distance(reader)?);
        let reply = match (tag % 4) as u8 {
            0 => {
                let version = expected_version.wrapping_add(distance(reader)?);
                expected_version = version.wrapping_add(1);
                Remembered::Applied(Version(version))
            }
            EXTENDED_KIND if is_extended(reader) => {
                let (reply, once) = decode_extended(reader)?;
                return Ok(SessionRecord { client: *client, sequence, first_unanswered, reply, once });
            }
            kind => Remembered::decode_result(kind, reader)?,
        };
        Ok(SessionRecord { client: *client, sequence, first_unanswered, reply, once: None })
    };
    (0..count).map(|_| decode()).collect()
}

/// Whether the length that comes next says that no error follows.
fn is_extended(reader: &Reader) -> bool {
    let length = reader.peek().first_chunk().map(|length| u32::from_le_bytes(*length));
    length.is_some_and(|length| length & EXTENDED != 0)
}

/// Appends an extended record.
fn put_extended(out: &mut BytesMut, kind: u8, encode: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    encode(out);
    let length = (out.len() - start - size_of::<u32>()) as u32;
    out[start..start + size_of::<u32>()].copy_from_slice(&(length | EXTENDED).to_le_bytes());
}

/// Reads an extended record, if its sub-kind is one that is not reserved: what the session remembers, and the one-shot name.
fn decode_extended(reader: &mut Reader) -> Result<(Remembered, Option<OnceRecord>), OperationsError> {
    let length = (reader.u32()? & !EXTENDED) as usize;
    if length > EXTENDED_BYTES_MAX {
        let (value, limit) = (length as u64, EXTENDED_BYTES_MAX as u64);
        return Err(DecodeError::OverLimit { field: "extended session record", value, limit }.into());
    }
    // A copy: what is remembered is kept for long, and would keep all of an entry's payload.
    let mut body = Reader::new(Bytes::copy_from_slice(&reader.take(length)?));
    let decoded = match body.u8()? {
        ONCE => {
            let once = OnceRecord::decode(&mut body)?;
            (once.answer.of_session(), Some(once))
        }
        TRANSACTION => (Remembered::Transaction(decode_transaction(&mut body)?), None),
        _ => return Err(Reserved::ExtendedSession.into()),
    };
    body.finish()?;
    Ok(decoded)
}

/// LEB128: seven bits per byte, the lowest first.
fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint(reader: &mut Reader) -> Result<u64, DecodeError> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(DecodeError::UnknownValue { field: "last byte of a varint", value: byte.into() });
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::OverLimit { field: "bytes of a varint", value: 11, limit: 10 })
}

/// How far it is from one number to another, modulo 2^64: near ones, in either direction, take one byte.
fn put_distance(out: &mut BytesMut, from: u64, to: u64) {
    let distance = to.wrapping_sub(from) as i64;
    put_varint(out, ((distance << 1) ^ (distance >> 63)) as u64);
}

fn distance(reader: &mut Reader) -> Result<u64, DecodeError> {
    let zigzag = varint(reader)?;
    Ok((zigzag >> 1) ^ (zigzag & 1).wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::once::OnceAnswer;
    use crate::log::operations::{HEADER_BYTES, Operations, OperationsBuilder, RECORD_HEADER_BYTES};
    use crate::sealing::ShardKeys;
    use kvorum_protocol::{Ack, AtomicResult, Durability, ErrorCode, OnceId, ServerError, WriteResult, WriteStatus};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_plain_write_takes_few_bytes_to_remember() {
        let client = |number| ClientId(Uuid::from_u128(number));
        let mut builder = OperationsBuilder::new(1234, Version(1 << 40));
        let empty = builder.bytes();
        for write in 0..100_u64 {
            let version = builder.push_record(b"k", Some(b""), None);
            let (client, sequence) = (client(u128::from(write % 10)), (1 << 30) + write / 10);
            let reply = Remembered::Applied(version);
            builder.push_session(&SessionRecord {
                client,
                sequence,
                first_unanswered: sequence - 15,
                reply,
                once: None,
            });
        }
        let records = 100 * (RECORD_HEADER_BYTES + 1);
        // The first write of each client says its whole sequence number, in five bytes.
        assert_eq!(builder.bytes() - empty - records, 10 * (16 + 4) + 100 * 4);
        assert_eq!(builder.bytes(), builder.finish().len());
    }

    proptest! {
        #[test]
        fn whatever_is_remembered_comes_back(
            writes in proptest::collection::vec((0..4_u128, any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..20)
        ) {
            let mut builder = OperationsBuilder::new(0, Version(7));
            let mut expected = Vec::new();
            for (client, sequence, first_unanswered, version, plain) in writes {
                let (client, version) = (ClientId(Uuid::from_u128(client)), Version(version));
                let refused = AtomicResult::ConditionFailed { position: 3, version, replayed: false };
                let reply = if plain { Remembered::Applied(version) } else { Remembered::Atomic(Box::new(refused)) };
                expected.push(SessionRecord { client, sequence, first_unanswered, reply, once: None });
                builder.push_session(expected.last().unwrap());
            }
            let operations = Operations::parse(builder.finish().into()).unwrap();
            prop_assert_eq!(operations.sessions(&ShardKeys::default()).unwrap(), expected);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_sessions(&mut Reader::new(bytes.into()), Version(1));
        }
    }

    /// docs/LOG_FORMAT.md describes these bytes; logs on disks hold them.
    #[test]
    fn a_one_shot_name_is_an_extended_session_record() {
        let result = WriteResult {
            status: WriteStatus::Applied,
            version: Version(10),
            ack: Ack::Committed,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: None,
            receipt: None,
            existed: Some(true),
            replayed: false,
        };
        let answer = OnceAnswer::Write(Box::new(result));
        let once = OnceRecord { id: OnceId(Uuid::from_u128(0xa1)), digest: 7, answer };
        let (client, reply) = (ClientId(Uuid::from_u128(7)), Remembered::Applied(Version(10)));
        let record = SessionRecord { client, sequence: 3, first_unanswered: 2, reply, once: Some(once) };
        let atomic = AtomicResult::ConditionFailed { position: 3, version: Version(4), replayed: false };
        let answer = OnceAnswer::Atomic(Box::new(atomic.clone()));
        let once = OnceRecord { id: OnceId(Uuid::from_u128(0xa2)), digest: 8, answer };
        let reply = Remembered::Atomic(Box::new(atomic));
        let other = SessionRecord { client, sequence: 4, first_unanswered: 2, reply, once: Some(once) };
        let mut builder = OperationsBuilder::new(1, Version(9));
        builder.push_session(&record);
        builder.push_session(&other);
        assert!(!builder.is_empty());
        let payload = builder.finish();
        let operations = Operations::parse(payload.clone().into()).unwrap();
        assert_eq!(operations.sessions(&ShardKeys::default()).unwrap(), [record, other]);
        let frozen = concat!(
            "010000000000000000000000000000000000000702000000",
            "030602",
            "2f000080",
            "07000000000000000000000000000000a1070000000000000001",
            "11000000",
            "000a000000000000000000000000010100",
            "030204",
            "2c000080",
            "07000000000000000000000000000000a2080000000000000002",
            "0e0000000103000000040000000000000000",
        );
        assert_eq!(hex(&payload[HEADER_BYTES..]), frozen);
        for end in HEADER_BYTES..payload.len() {
            let cut = Operations::parse(Bytes::copy_from_slice(&payload[..end])).unwrap();
            assert!(cut.sessions(&ShardKeys::default()).is_err(), "cut at {end}");
        }
    }

    /// docs/LOG_FORMAT.md reserves the other sub-kinds.
    #[test]
    fn an_extended_session_record_is_refused_by_name() {
        let client = ClientId(Uuid::from_u128(7));
        let reply = Remembered::Refused(Box::new(ServerError::new(ErrorCode::NotAnInteger, "no")));
        let mut builder = OperationsBuilder::new(1234, Version(9));
        builder.push_record(b"a", Some(b"first"), None);
        builder.push_session(&SessionRecord { client, sequence: 5, first_unanswered: 2, reply, once: None });
        let mut payload = builder.finish();
        let length = payload.len() - 13 - 4;
        assert_eq!(hex(&payload[length - 3..length + 4]), "030a060d000000", "an error of 13 bytes");
        payload[length + 3] |= 0x80;
        let operations = Operations::parse(payload.into()).unwrap();
        assert_eq!(operations.sessions(&ShardKeys::default()), Err(Reserved::ExtendedSession.into()));
        assert!(operations.records().all(|record| record.is_ok()));
        // Of the other kinds no such length is reserved.
        let mut other = BytesMut::new();
        other.count(1);
        other.uuid(Uuid::from_u128(7));
        other.count(1);
        other.put_slice(&[1, 2, 2, 1, 0, 0, 0x80]);
        let refused = decode_sessions(&mut Reader::new(other.freeze()), Version(1));
        assert!(matches!(refused, Err(OperationsError::Malformed(_))), "{refused:?}");
    }

    #[test]
    fn varints_that_are_too_long_are_refused() {
        let read = |bytes: &[u8]| varint(&mut Reader::new(Bytes::copy_from_slice(bytes)));
        for value in [0, 0x7f, 0x80, u64::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(read(&out), Ok(value));
        }
        assert!(read(&[0xff; 9]).is_err(), "cut");
        assert!(read(&[&[0xff; 9][..], &[2]].concat()).is_err(), "over 64 bits");
        assert!(read(&[0x80; 11]).is_err(), "without an end");
    }
}
