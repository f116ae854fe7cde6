//! The payload of an operation entry: what one batch of writes did to a shard.
//!
//! A leader evaluates conditions, increments and retries when it proposes, and logs what comes of them. So an entry
//! holds records that are final: the record which consensus replicated is the record that a read returns, and applying
//! an entry is pointing the index at its records.
//!
//! ```text
//! header, 32 bytes
//!   0  log time       u64   milliseconds; never goes back within a shard
//!   8  first version  u64   of the first record; record i has first version + i
//!  16  records        u32
//!  20  sessions at    u32   offset of the session section, from the payload's start
//!  24  reserved       u64   0
//! records, each 8-byte aligned
//!   0  crc            u32   CRC-32 of bytes 4.. of the record, padding left out
//!   4  key length     u32
//!   8  value length   u32
//!  12  flags          u32   bit 0: tombstone
//!  16  version        u64
//!  24  expires at     u64   log time in milliseconds, 0 is never
//!  32  key, value, zeros up to the next multiple of 8
//! session section
//!   0  count          u32
//!   then per write, see `SessionRecord`:
//!      client u128 BE, sequence u64, first unanswered u64, kind u8, and by kind:
//!        0  applied, nothing more to say: version u64
//!        1  length u32, a write result as the wire protocol encodes it
//!        2  length u32, an atomic result as the wire protocol encodes it
//! ```
//!
//! Integers are little-endian unless said otherwise.

use crate::seeded::{Bug, planted};
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::{BATCH_OPERATIONS_MAX, KEY_BYTES_MAX, RAFT_ENTRY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{Ack, AtomicResult, ClientId, DecodeError, Durability, Version, WriteResult, WriteStatus};

const HEADER_BYTES: usize = 32;
/// Bytes in front of a record's key.
pub const RECORD_HEADER_BYTES: usize = 32;
const FLAG_TOMBSTONE: u32 = 1;
/// Most records of one entry: a batch of the largest ATOMIC's size on top of a full batch.
pub const RECORDS_MAX: usize = 4 * BATCH_OPERATIONS_MAX;
/// Most bytes of one remembered result.
const RESULT_BYTES_MAX: usize = VALUE_BYTES_MAX + 4096;

/// Why bytes are not an operation entry, or not the record that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperationsError {
    /// The bytes are malformed.
    #[error("malformed operations: {0}")]
    Malformed(#[from] DecodeError),
    /// A record's checksum does not match its bytes.
    #[error("a record's checksum does not match its bytes")]
    BadChecksum,
}

/// One stored record, borrowed from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty for a tombstone.
    pub value: &'a [u8],
    /// The version that this write was given.
    pub version: Version,
    /// When it expires, in milliseconds of log time.
    pub expires_at_ms: Option<u64>,
    /// The key was removed.
    pub tombstone: bool,
}

impl Record<'_> {
    /// Bytes of the whole record, padding left out.
    pub fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.key.len() + self.value.len()
    }
}

/// The fixed front of a record, from which its full length follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    crc: u32,
    key_bytes: u32,
    value_bytes: u32,
    flags: u32,
    version: u64,
    expires_at_ms: u64,
}

impl RecordHeader {
    /// Reads the first [`RECORD_HEADER_BYTES`] bytes of a record.
    ///
    /// # Errors
    /// `Malformed` if a length is over its limit or a flag is unknown.
    pub fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, OperationsError> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let header = RecordHeader {
            crc: u32_at(0),
            key_bytes: u32_at(4),
            value_bytes: u32_at(8),
            flags: u32_at(12),
            version: u64_at(16),
            expires_at_ms: u64_at(24),
        };
        let over = |field, value: u32, limit: usize| DecodeError::OverLimit {
            field,
            value: value.into(),
            limit: limit as u64,
        };
        if header.key_bytes as usize > KEY_BYTES_MAX {
            return Err(over("record key length", header.key_bytes, KEY_BYTES_MAX).into());
        }
        if header.value_bytes as usize > VALUE_BYTES_MAX {
            return Err(over("record value length", header.value_bytes, VALUE_BYTES_MAX).into());
        }
        if header.flags & !FLAG_TOMBSTONE != 0 {
            return Err(DecodeError::UnknownValue { field: "record flags", value: header.flags.into() }.into());
        }
        Ok(header)
    }

    /// The version that the write was given. Not verified.
    pub fn version(&self) -> Version {
        Version(self.version)
    }

    /// Bytes of the whole record, padding left out.
    pub fn record_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.key_bytes as usize + self.value_bytes as usize
    }

    /// Bytes of the key.
    pub fn key_bytes(&self) -> usize {
        self.key_bytes as usize
    }

    /// The record whose header this is. `bytes` are its [`RecordHeader::record_bytes`] bytes. Verifies the checksum,
    /// which costs about 0.1 ns per byte.
    ///
    /// # Errors
    /// `BadChecksum`.
    pub fn record<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, OperationsError> {
        assert_eq!(bytes.len(), self.record_bytes());
        if crc32fast::hash(&bytes[4..]) != self.crc && !planted(Bug::RecordChecksumsIgnored) {
            return Err(OperationsError::BadChecksum);
        }
        let (key, value) = bytes[RECORD_HEADER_BYTES..].split_at(self.key_bytes as usize);
        Ok(Record {
            key,
            value,
            version: Version(self.version),
            expires_at_ms: (self.expires_at_ms != 0).then_some(self.expires_at_ms),
            tombstone: self.flags & FLAG_TOMBSTONE != 0,
        })
    }
}

/// A record that says that `key` was removed by the write of `version`, padding left out.
pub fn encode_tombstone(key: &[u8], version: Version) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(RECORD_HEADER_BYTES + key.len());
    put_record(&mut out, key, None, version, None);
    out.into()
}

fn put_record(out: &mut BytesMut, key: &[u8], value: Option<&[u8]>, version: Version, expires_at_ms: Option<u64>) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u32_le(key.len() as u32);
    out.put_u32_le(value.map_or(0, <[u8]>::len) as u32);
    out.put_u32_le(if value.is_none() { FLAG_TOMBSTONE } else { 0 });
    out.put_u64_le(version.0);
    out.put_u64_le(expires_at_ms.unwrap_or(0));
    out.put_slice(key);
    out.put_slice(value.unwrap_or_default());
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

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
}

/// A remembered answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// A write that took effect and whose answer holds nothing but this version: by far the most common.
    Applied(Version),
    /// Any other write.
    Write(Box<WriteResult>),
    /// An ATOMIC.
    Atomic(Box<AtomicResult>),
}

impl Remembered {
    /// The shortest form that remembers `result`.
    pub fn of_write(result: &WriteResult) -> Self {
        match result {
            WriteResult { status: WriteStatus::Applied, number: None, previous: None, version, .. } => {
                Remembered::Applied(*version)
            }
            other => Remembered::Write(Box::new(WriteResult { ack: Ack::Committed, ..other.clone() })),
        }
    }

    /// About how many bytes it keeps in memory. A function of the answer alone: replicas that count differently would
    /// forget differently.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 96;
        let of_result = |result: &WriteResult| OVERHEAD + result.previous.as_ref().map_or(0, |entry| entry.value.len());
        OVERHEAD
            + match self {
                Remembered::Applied(_) => 0,
                Remembered::Write(result) => of_result(result),
                Remembered::Atomic(result) => match &**result {
                    AtomicResult::Applied(results) => results.iter().map(of_result).sum(),
                    AtomicResult::ConditionFailed { .. } => 0,
                },
            }
    }

    /// Appends the answer: its kind, then what the kind says; see the session section above.
    pub(crate) fn encode(&self, out: &mut impl Writer) {
        let mut result = BytesMut::new();
        match self {
            Remembered::Applied(version) => {
                out.put_u8(0);
                out.put_u64_le(version.0);
                return;
            }
            Remembered::Write(write) => {
                out.put_u8(1);
                write.encode(&mut result);
            }
            Remembered::Atomic(atomic) => {
                out.put_u8(2);
                atomic.encode(&mut result);
            }
        }
        out.bytes(&result);
    }

    /// Reads what [`Remembered::encode`] wrote. Shares no memory with the reader's buffer: an answer is kept for long, and
    /// would keep all of an entry's payload, or a segment that compaction has removed.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let result = |reader: &mut Reader| {
            let bytes = reader.bytes("remembered result", RESULT_BYTES_MAX)?;
            Ok::<_, DecodeError>(Reader::new(Bytes::copy_from_slice(&bytes)))
        };
        Ok(match reader.u8()? {
            0 => Remembered::Applied(Version(reader.u64()?)),
            1 => Remembered::Write(Box::new(WriteResult::decode(&mut result(reader)?)?)),
            2 => Remembered::Atomic(Box::new(AtomicResult::decode(&mut result(reader)?)?)),
            value => return Err(DecodeError::UnknownValue { field: "remembered kind", value: value.into() }),
        })
    }

    /// The write result that is remembered, if it is one. Once in the table it is committed, whatever was waited for.
    pub fn as_write(&self, durability: Durability) -> Option<WriteResult> {
        match self {
            Remembered::Applied(version) => Some(WriteResult {
                status: WriteStatus::Applied,
                version: *version,
                ack: Ack::Committed,
                durability,
                number: None,
                previous: None,
            }),
            Remembered::Write(result) => Some((**result).clone()),
            Remembered::Atomic(_) => None,
        }
    }
}

/// Builds the payload of one entry.
#[derive(Debug)]
pub struct OperationsBuilder {
    out: BytesMut,
    log_time_ms: u64,
    first_version: Version,
    records: u32,
    sessions: BytesMut,
    session_count: usize,
}

impl OperationsBuilder {
    /// An empty entry of this log time. Its first record will have the version after `last_version`.
    pub fn new(log_time_ms: u64, last_version: Version) -> Self {
        let mut out = BytesMut::with_capacity(1024);
        out.put_bytes(0, HEADER_BYTES);
        OperationsBuilder {
            out,
            log_time_ms,
            first_version: Version(last_version.0 + 1),
            records: 0,
            sessions: BytesMut::new(),
            session_count: 0,
        }
    }

    /// The entry's log time.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// The version that the next record will have.
    pub fn next_version(&self) -> Version {
        Version(self.first_version.0 + u64::from(self.records))
    }

    /// Bytes so far, remembered answers included.
    pub fn bytes(&self) -> usize {
        self.out.len() + self.sessions.len()
    }

    /// Records so far.
    pub fn records(&self) -> usize {
        self.records as usize
    }

    /// Nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.session_count == 0
    }

    /// Adds a record; `None` as value is a removal. Returns its version.
    pub fn push_record(&mut self, key: &[u8], value: Option<&[u8]>, expires_at_ms: Option<u64>) -> Version {
        let version = self.next_version();
        put_record(&mut self.out, key, value, version, expires_at_ms);
        self.out.put_bytes(0, self.out.len().next_multiple_of(8) - self.out.len());
        self.records += 1;
        version
    }

    /// Adds what the session table will remember.
    pub fn push_session(&mut self, record: &SessionRecord) {
        encode_session(&mut self.sessions, record);
        self.session_count += 1;
    }

    /// The finished payload.
    pub fn finish(mut self) -> Vec<u8> {
        let sessions_at = self.out.len() as u32;
        self.out[0..8].copy_from_slice(&self.log_time_ms.to_le_bytes());
        self.out[8..16].copy_from_slice(&self.first_version.0.to_le_bytes());
        self.out[16..20].copy_from_slice(&self.records.to_le_bytes());
        self.out[20..24].copy_from_slice(&sessions_at.to_le_bytes());
        self.out.count(self.session_count);
        self.out.extend_from_slice(&self.sessions);
        assert!(self.out.len() <= RAFT_ENTRY_BYTES_MAX, "the batch limits keep entries under the limit");
        self.out.into()
    }
}

fn encode_session(out: &mut BytesMut, session: &SessionRecord) {
    out.uuid(session.client.0);
    out.put_u64_le(session.sequence);
    out.put_u64_le(session.first_unanswered);
    session.reply.encode(out);
}

/// A parsed entry payload.
#[derive(Debug)]
pub struct Operations {
    payload: Bytes,
    log_time_ms: u64,
    first_version: Version,
    records: u32,
    sessions_at: usize,
}

impl Operations {
    /// Reads the header of a payload, which must not be empty.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(payload: Bytes) -> Result<Self, OperationsError> {
        let mut reader = Reader::new(payload.clone());
        let log_time_ms = reader.u64()?;
        let first_version = Version(reader.u64()?);
        let records = reader.u32()?;
        let sessions_at = reader.u32()? as usize;
        let reserved = reader.u64()?;
        if reserved != 0 {
            return Err(DecodeError::UnknownValue { field: "reserved", value: reserved }.into());
        }
        if sessions_at < HEADER_BYTES || sessions_at > payload.len() {
            return Err(DecodeError::Truncated.into());
        }
        if records as usize > RECORDS_MAX {
            let (value, limit) = (records.into(), RECORDS_MAX as u64);
            return Err(DecodeError::OverLimit { field: "records", value, limit }.into());
        }
        Ok(Operations { payload, log_time_ms, first_version, records, sessions_at })
    }

    /// The entry's log time, in milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// The version of the entry's first record, if it has one.
    pub fn first_version(&self) -> Version {
        self.first_version
    }

    /// The version of the entry's last record, or of the last one before it if it has none.
    pub fn last_version(&self) -> Version {
        Version(self.first_version.0 + u64::from(self.records) - 1)
    }

    /// The records with their offsets in the payload, in order. Ends with the first error.
    pub fn records(&self) -> impl Iterator<Item = Result<(u32, Record<'_>), OperationsError>> {
        let mut at = HEADER_BYTES;
        let mut left = self.records;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            let result = record_at(&self.payload[..self.sessions_at], at);
            match result {
                Ok(record) => {
                    let offset = at as u32;
                    at += (RECORD_HEADER_BYTES + record.key.len() + record.value.len()).next_multiple_of(8);
                    Some(Ok((offset, record)))
                }
                Err(error) => {
                    left = 0;
                    Some(Err(error))
                }
            }
        })
    }

    /// What the session table is to remember, in order.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn sessions(&self) -> Result<Vec<SessionRecord>, OperationsError> {
        let mut reader = Reader::new(self.payload.slice(self.sessions_at..));
        let count = reader.count("session records", RECORDS_MAX, 33)?;
        let sessions = (0..count).map(|_| decode_session(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Ok(sessions)
    }
}

fn record_at(bytes: &[u8], at: usize) -> Result<Record<'_>, OperationsError> {
    let rest = bytes.get(at..).ok_or(DecodeError::Truncated)?;
    let header = RecordHeader::parse(rest.first_chunk().ok_or(DecodeError::Truncated)?)?;
    header.record(rest.get(..header.record_bytes()).ok_or(DecodeError::Truncated)?)
}

fn decode_session(reader: &mut Reader) -> Result<SessionRecord, OperationsError> {
    let client = reader.client_id()?;
    let sequence = reader.u64()?;
    let first_unanswered = reader.u64()?;
    let reply = Remembered::decode(reader)?;
    Ok(SessionRecord { client, sequence, first_unanswered, reply })
}

#[cfg(test)]
mod tests {
    use super::*;
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
            previous: None,
        };
        let sessions = vec![
            SessionRecord { client, sequence: 3, first_unanswered: 2, reply: Remembered::Applied(Version(10)) },
            SessionRecord { client, sequence: 4, first_unanswered: 2, reply: Remembered::of_write(&written) },
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
        assert_eq!(operations.sessions().unwrap(), sessions);
    }

    /// docs/LOG_FORMAT.md describes these bytes; logs on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let hex: String = sample().0.iter().map(|byte| format!("{byte:02x}")).collect();
        let frozen = concat!(
            "d2040000000000000a0000000000000003000000a80000000000000000000000",
            "0178f8a80100000005000000000000000a000000000000000000000000000000",
            "61666972737400005fdd34041200000000000000010000000b00000000000000",
            "00000000000000006b6579206f6620736f6d65206c656e677468000000000000",
            "ba1510ae0100000000000000000000000c000000000000002e16000000000000",
            "6200000000000000020000000000000000000000000000000000000703000000",
            "000000000200000000000000000a000000000000000000000000000000000000",
            "0000000007040000000000000002000000000000000115000000000b00000000",
            "000000000001fcffffffffffffff00",
        );
        assert_eq!(hex, frozen);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let (payload, _) = sample();
        for end in 1..payload.len() {
            let parsed = Operations::parse(Bytes::copy_from_slice(&payload[..end]));
            let whole = parsed.is_ok_and(|operations| {
                operations.records().all(|record| record.is_ok()) && operations.sessions().is_ok()
            });
            assert!(!whole, "cut at {end}");
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
}
