//! The payload of an operation entry: what one batch of writes did to a shard.
//!
//! A leader evaluates conditions, increments and retries when it proposes, and logs what comes of them. So an entry
//! holds records that are final: the record which consensus replicated is the record that a read returns, and applying
//! an entry is pointing the index at its records.
//!
//! ```text
//! header, 24 bytes
//!   0  log time       u64   milliseconds; never goes back within a shard
//!   8  first version  u64   of the first record; record i has first version + i
//!  16  records        u32   in its lower 31 bits; bit 31: the shard's secret follows the header
//!  20  sessions at    u32   offset of the session section, from the payload's start
//! secret, 16 bytes, if there is one: what the order of the shard's index is keyed with
//! records, one behind the other
//!   0  crc            u32   CRC-32 of the rest of the record; without the value, if that has a checksum of its own
//!   4  a number of 96 bits, from the lowest: value length 25, key length 17, tombstone 1, expires 1, version 50, sealed 1,
//!      typed 1; the last one is reserved
//!  16  expires at     u64   log time in milliseconds; only if the record says that it expires
//!      value crc      u32   CRC-32 of the value; only if the value is longer than 256 bytes
//!      key, value; of a sealed record see `sealed`
//! session section: see `session_section`. With bit 30 of the number of records set it is sealed: epoch u16, nonce 12, sealed, tag 16
//! ```
//!
//! Integers are little-endian unless said otherwise.

use super::sealed::{Sealed, Unsealed, put_sealed, value_bytes_of};
use crate::cost;
use crate::log::session_section::{SessionRecord, SessionsBuilder, decode_sessions};
use crate::sealing::{KeyEpoch, SEAL_BYTES, SealError, SealNonce, ShardKeys, TAG_BYTES, decode_front, encode_front};
use crate::seeded::{Bug, planted};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::limits::{BATCH_OPERATIONS_MAX, KEY_BYTES_MAX, RAFT_ENTRY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{DecodeError, LogIndex, Term, Version};
use std::fmt;
use std::sync::Arc;

/// Bytes of a payload's header.
pub(super) const HEADER_BYTES: usize = 24;
/// Bytes in front of a record that does not expire.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Set in the number of records if the secret follows.
const HAS_SECRET: u32 = 1 << 31;
/// Set in the number of records if the session section is sealed.
const SEALED_SESSIONS: u32 = 1 << 30;
const EXPIRY_BYTES: usize = 8;
pub(super) const VALUE_CRC_BYTES: usize = 4;
/// A longer value has a checksum of its own, so that what is asked about its record without the value needn't read it. A
/// shorter one is read in less time than a second checksum takes.
pub const HEAD_VALUE_BYTES_MAX: usize = 256;
const VALUE_LENGTH_BITS: u32 = 25;
const KEY_LENGTH_BITS: u32 = 17;
const VERSION_BITS: u32 = 50;
/// The highest version that a record can have: at a million writes per second into one shard it is reached in 35 years.
pub const VERSION_MAX: u64 = (1 << VERSION_BITS) - 1;

const _: () = assert!(SEAL_BYTES + TAG_BYTES <= SEALED_OVERHEAD_BYTES_MAX);
const _: () = assert!(
    VALUE_BYTES_MAX + SEALED_OVERHEAD_BYTES_MAX < 1 << VALUE_LENGTH_BITS && KEY_BYTES_MAX < 1 << KEY_LENGTH_BITS
);
const _: () = assert!(VALUE_LENGTH_BITS + KEY_LENGTH_BITS + 4 + VERSION_BITS == 96);
/// What may be added to the value of a sealed record: lengths count it.
const SEALED_OVERHEAD_BYTES_MAX: usize = 64;
/// Most records of one entry: a batch of the largest ATOMIC's size on top of a full batch.
pub const RECORDS_MAX: usize = 4 * BATCH_OPERATIONS_MAX;

const _: () = assert!(RECORDS_MAX <= crate::sealing::RECORDS_MAX, "each has a nonce");

/// Why bytes are not an operation entry, or not the record that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperationsError {
    /// The bytes are malformed.
    #[error("malformed operations: {0}")]
    Malformed(#[from] DecodeError),
    /// A record's checksum does not match its bytes.
    #[error("a record's checksum does not match its bytes")]
    BadChecksum,
    /// They are sound, and say something that the format reserves.
    #[error(transparent)]
    Reserved(#[from] Reserved),
    /// They are sound, and do not open.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// What the format has a place for, and this program does not read. `docs/LOG_FORMAT.md` says what each will be for. None of them is
/// taken for something else: whoever meets one was not to be given it, or is too old for what it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// The key holds a collection, or is a part of one.
    #[error("a record has a type, which this program does not read: start a newer program")]
    TypedRecord,
    /// What is remembered is neither an answer nor a one-shot name.
    #[error("a session record is extended in a way that this program does not read: start a newer program")]
    ExtendedSession,
}

/// What the order of a shard's index is keyed with, so that nobody can choose keys that share a place in it. Drawn by the
/// shard's first leader, which logs it before the first record; never sent to a client.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexSecret(pub [u8; Self::BYTES]);

impl IndexSecret {
    /// What it takes where it is stored.
    pub const BYTES: usize = 16;
}

impl fmt::Debug for IndexSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexSecret")
    }
}

/// One stored record, borrowed from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The key; empty if it is sealed ([`Record::open_key`]).
    pub key: &'a [u8],
    /// The value; empty for a tombstone, and if it is sealed ([`Record::open`]).
    pub value: &'a [u8],
    /// What it has in place of both, if they are sealed.
    pub sealed: Option<Sealed<'a>>,
    /// The version that this write was given.
    pub version: Version,
    /// When it expires, in milliseconds of log time.
    pub expires_at_ms: Option<u64>,
    /// The key was removed.
    pub tombstone: bool,
}

impl Record<'_> {
    /// Bytes of the whole record.
    pub fn bytes(&self) -> usize {
        let (key_bytes, value_bytes) = match self.sealed {
            Some(Sealed { stored, key_bytes }) => (key_bytes as usize, stored.len() - key_bytes as usize),
            None => (self.key.len(), self.value.len()),
        };
        front_bytes(self.expires_at_ms.is_some(), value_bytes) + key_bytes + value_bytes
    }
}

/// All of a stored record but its value, borrowed from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The key; empty if it is sealed ([`RecordHeader::open_head`]).
    pub key: &'a [u8],
    /// The version that this write was given.
    pub version: Version,
    /// When it expires, in milliseconds of log time.
    pub expires_at_ms: Option<u64>,
    /// The key was removed.
    pub tombstone: bool,
    /// CRC-32 of the value, if it has a checksum of its own.
    value_crc: Option<u32>,
}

/// Whether a value of this length has a checksum of its own.
fn is_apart(value_bytes: usize) -> bool {
    value_bytes > HEAD_VALUE_BYTES_MAX
}

/// Bytes in front of a record's key.
fn front_bytes(expires: bool, value_bytes: usize) -> usize {
    let expiry = if expires { EXPIRY_BYTES } else { 0 };
    let value_crc = if is_apart(value_bytes) { VALUE_CRC_BYTES } else { 0 };
    RECORD_HEADER_BYTES + expiry + value_crc
}

/// The fixed front of a record, from which its full length follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    pub(super) crc: u32,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) tombstone: bool,
    pub(super) expires: bool,
    pub(super) version: u64,
    pub(super) sealed: bool,
    pub(super) typed: bool,
}

impl RecordHeader {
    /// Reads the first [`RECORD_HEADER_BYTES`] bytes of a record. Lengths mean the same whether or not it is typed or sealed; the
    /// rest of a typed record is refused once its checksum is known to be right ([`RecordHeader::head`]).
    ///
    /// # Errors
    /// `Malformed` if a length is over its limit.
    pub fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, OperationsError> {
        let number = u128::from_le_bytes(*bytes);
        let mut at = 32;
        let mut field = |bits: u32| {
            let value = (number >> at) as u64 & (u64::MAX >> (64 - bits));
            at += bits;
            value
        };
        let header = Self {
            crc: number as u32,
            value_bytes: field(VALUE_LENGTH_BITS) as u32,
            key_bytes: field(KEY_LENGTH_BITS) as u32,
            tombstone: field(1) == 1,
            expires: field(1) == 1,
            version: field(VERSION_BITS),
            sealed: field(1) == 1,
            typed: field(1) == 1,
        };
        let within = |field, value: u32, limit: usize| match value as usize > limit {
            true => Err(DecodeError::OverLimit { field, value: value.into(), limit: limit as u64 }),
            false => Ok(()),
        };
        within("record key length", header.key_bytes, KEY_BYTES_MAX)?;
        let overhead = if header.sealed { SEALED_OVERHEAD_BYTES_MAX } else { 0 };
        within("record value length", header.value_bytes, VALUE_BYTES_MAX + overhead)?;
        if header.sealed && value_bytes_of(header.value_bytes()).is_none() {
            let value = header.value_bytes.into();
            return Err(DecodeError::UnknownValue { field: "length of a sealed record", value }.into());
        }
        Ok(header)
    }

    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        assert!(self.version <= VERSION_MAX, "versions are counted one by one");
        let mut number = u128::from(self.crc);
        let mut at = 32;
        let mut put = |bits: u32, value: u64| {
            number |= u128::from(value) << at;
            at += bits;
        };
        put(VALUE_LENGTH_BITS, self.value_bytes.into());
        put(KEY_LENGTH_BITS, self.key_bytes.into());
        put(1, self.tombstone.into());
        put(1, self.expires.into());
        put(VERSION_BITS, self.version);
        put(1, self.sealed.into());
        put(1, self.typed.into());
        number.to_le_bytes()
    }

    pub(super) fn front_bytes(&self) -> usize {
        front_bytes(self.expires, self.value_bytes())
    }

    /// Whether key and value are sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Bytes of the value, and of what seals it.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes as usize
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> usize {
        self.front_bytes() + self.key_bytes as usize + self.value_bytes()
    }

    /// Where in the record the checksum of its value is, four bytes, if that has one of its own.
    pub fn value_crc_at(&self) -> Option<u32> {
        is_apart(self.value_bytes()).then(|| (self.front_bytes() - VALUE_CRC_BYTES) as u32)
    }

    /// How many bytes of the record, from its first, [`RecordHeader::head`] verifies: all of them but a long value.
    pub fn head_bytes(&self) -> usize {
        if is_apart(self.value_bytes()) { self.front_bytes() + self.key_bytes as usize } else { self.record_bytes() }
    }

    /// What the record says apart from its value. `bytes` are its first [`RecordHeader::head_bytes`] bytes. Verifies their
    /// checksum, which costs about 0.1 ns per byte.
    ///
    /// # Errors
    /// `BadChecksum`; `Reserved` of a sound record that is typed.
    pub fn head<'a>(&self, bytes: &'a [u8]) -> Result<Head<'a>, OperationsError> {
        assert_eq!(bytes.len(), self.head_bytes());
        if checksum(&bytes[4..]) != self.crc && !planted(Bug::RecordChecksumsIgnored) {
            return Err(OperationsError::BadChecksum);
        }
        if self.typed {
            return Err(Reserved::TypedRecord.into());
        }
        let mut front = &bytes[RECORD_HEADER_BYTES..self.front_bytes()];
        let expires_at_ms = self.expires.then(|| front.get_u64_le());
        let value_crc = is_apart(self.value_bytes()).then(|| front.get_u32_le());
        let key_bytes = if self.sealed { 0 } else { self.key_bytes as usize };
        let key = &bytes[self.front_bytes()..][..key_bytes];
        Ok(Head { key, version: Version(self.version), expires_at_ms, tombstone: self.tombstone, value_crc })
    }

    /// The record whose header this is. `bytes` are its [`RecordHeader::record_bytes`] bytes. Verifies the checksums,
    /// which costs about 0.1 ns per byte.
    ///
    /// # Errors
    /// As [`RecordHeader::head`].
    pub fn record<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, OperationsError> {
        assert_eq!(bytes.len(), self.record_bytes());
        let head = self.head(&bytes[..self.head_bytes()])?;
        head.verify(&bytes[self.record_bytes() - self.value_bytes()..])?;
        Ok(self.of_verified(&head, bytes))
    }

    /// As [`RecordHeader::record`], of bytes that were verified, and whose head this is.
    pub(crate) fn of_verified<'a>(&self, head: &Head<'a>, bytes: &'a [u8]) -> Record<'a> {
        let Head { key, version, expires_at_ms, tombstone, .. } = *head;
        let (stored, value) = (&bytes[self.front_bytes()..], &bytes[self.record_bytes() - self.value_bytes()..]);
        let sealed = self.sealed.then_some(Sealed { stored, key_bytes: self.key_bytes });
        let value = if self.sealed { &[] } else { value };
        Record { key, value, sealed, version, expires_at_ms, tombstone }
    }
}

impl Head<'_> {
    /// The value, if it is the one that was written. A short one was verified with the head.
    ///
    /// # Errors
    /// `BadChecksum`.
    pub fn verify<'v>(&self, value: &'v [u8]) -> Result<&'v [u8], OperationsError> {
        verify_value(self.value_crc, value)
    }

    /// What [`verify_value`] takes.
    pub fn value_crc(&self) -> Option<u32> {
        self.value_crc
    }
}

/// The value, if its own checksum is right, or it has none: then it was verified with the rest of its record.
///
/// # Errors
/// `BadChecksum`.
pub fn verify_value(value_crc: Option<u32>, value: &[u8]) -> Result<&[u8], OperationsError> {
    match value_crc {
        Some(crc) if checksum(value) != crc && !planted(Bug::RecordChecksumsIgnored) => {
            Err(OperationsError::BadChecksum)
        }
        _ => Ok(value),
    }
}

/// A record that says that `key` was removed by the write of `version`.
pub fn encode_tombstone(key: &[u8], version: Version) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(RECORD_HEADER_BYTES + key.len());
    put_record(&mut out, key, None, version, None);
    out.into()
}

fn put_record(out: &mut BytesMut, key: &[u8], value: Option<&[u8]>, version: Version, expires_at_ms: Option<u64>) {
    let start = out.len();
    let header = RecordHeader {
        crc: 0,
        key_bytes: key.len() as u32,
        value_bytes: value.map_or(0, <[u8]>::len) as u32,
        tombstone: value.is_none(),
        expires: expires_at_ms.is_some(),
        version: version.0,
        sealed: false,
        typed: false,
    };
    let value = value.unwrap_or_default();
    out.put_slice(&header.encode());
    expires_at_ms.into_iter().for_each(|at| out.put_u64_le(at));
    if is_apart(value.len()) {
        out.put_u32_le(checksum(value));
    }
    out.put_slice(key);
    out.put_slice(value);
    cost::copied(header.record_bytes());
    let crc = checksum(&out[start + 4..start + header.head_bytes()]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn checksum(bytes: &[u8]) -> u32 {
    cost::hashed(bytes.len());
    crc32fast::hash(bytes)
}

/// The version of an entry's first record, or of the next one if it has none, read from the front of its payload; `None` of an empty one.
pub fn first_version(payload: &[u8]) -> Option<Version> {
    payload.get(8..16)?.first_chunk().map(|version| Version(u64::from_le_bytes(*version)))
}

/// Builds the payload of one entry.
#[derive(Debug)]
pub struct OperationsBuilder {
    out: BytesMut,
    has_secret: bool,
    log_time_ms: u64,
    first_version: Version,
    records: u32,
    sessions: SessionsBuilder,
    seal: Option<EntrySeal>,
}

/// With what an entry is sealed.
#[derive(Debug)]
struct EntrySeal {
    keys: Arc<ShardKeys>,
    epoch: KeyEpoch,
    term: Term,
    index: LogIndex,
}

impl OperationsBuilder {
    /// An empty entry of this log time. Its first record will have the version after `last_version`.
    pub fn new(log_time_ms: u64, last_version: Version) -> Self {
        let mut out = BytesMut::with_capacity(1024);
        out.put_bytes(0, HEADER_BYTES);
        let first_version = Version(last_version.0 + 1);
        let sessions = SessionsBuilder::new(first_version);
        Self { out, has_secret: false, log_time_ms, first_version, records: 0, sessions, seal: None }
    }

    /// What is added from here on is sealed, if the shard's records are now. Consensus gives this term and this index to no other entry:
    /// if it gives others to this one, the payload must be thrown away.
    pub fn seal_at(&mut self, keys: &Arc<ShardKeys>, term: Term, index: LogIndex) {
        let index = if planted(Bug::NonceUsedTwice) { LogIndex(index.0 & !1) } else { index };
        self.seal = keys.active().map(|epoch| EntrySeal { keys: Arc::clone(keys), epoch, term, index });
    }

    /// An empty entry that brings the shard its secret.
    pub fn with_secret(log_time_ms: u64, last_version: Version, secret: IndexSecret) -> Self {
        let mut builder = Self::new(log_time_ms, last_version);
        builder.out.put_slice(&secret.0);
        builder.has_secret = true;
        builder
    }

    /// Makes room for so many bytes of records at once, instead of as they come.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
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
        self.out.len() + self.sessions.bytes()
    }

    /// Records so far.
    pub fn records(&self) -> usize {
        self.records as usize
    }

    /// Nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.sessions.is_empty()
    }

    /// Adds a record; `None` as value is a removal. Returns its version.
    pub fn push_record(&mut self, key: &[u8], value: Option<&[u8]>, expires_at_ms: Option<u64>) -> Version {
        let version = self.next_version();
        match &self.seal {
            None => put_record(&mut self.out, key, value, version, expires_at_ms),
            Some(EntrySeal { keys, epoch, term, index }) => {
                let nonce = SealNonce::of_entry(*term, *index, self.records as usize);
                put_sealed(&mut self.out, keys, *epoch, nonce, &Unsealed { key, value, version, expires_at_ms });
            }
        }
        self.records += 1;
        version
    }

    /// Adds what the session table will remember.
    pub fn push_session(&mut self, record: &SessionRecord) {
        self.sessions.push(record);
    }

    /// The finished payload.
    pub fn finish(mut self) -> Vec<u8> {
        let sessions_at = self.out.len() as u32;
        self.out[0..8].copy_from_slice(&self.log_time_ms.to_le_bytes());
        self.out[8..16].copy_from_slice(&self.first_version.0.to_le_bytes());
        let seal = self.seal.take().filter(|_| !self.sessions.is_empty());
        let has_secret = if self.has_secret { HAS_SECRET } else { 0 };
        let sealed = if seal.is_some() { SEALED_SESSIONS } else { 0 };
        self.out[16..20].copy_from_slice(&(self.records | has_secret | sealed).to_le_bytes());
        self.out[20..24].copy_from_slice(&sessions_at.to_le_bytes());
        match seal {
            None => self.sessions.finish(&mut self.out),
            Some(EntrySeal { keys, epoch, term, index }) => {
                let nonce = SealNonce::of_sessions(term, index);
                self.out.put_slice(&encode_front(epoch, &nonce));
                let mut front = BytesMut::from(&self.out[..HEADER_BYTES]);
                let mut sealed = self.out.split_off(self.out.len());
                self.sessions.finish(&mut sealed);
                front.put_u16_le(keys.shard().0);
                let tag = keys.seal(epoch, &nonce, &front, &mut sealed);
                self.out.unsplit(sealed);
                self.out.put_slice(&tag);
                keys.ring().note_sealed(self.records.into());
            }
        }
        assert!(self.out.len() <= RAFT_ENTRY_BYTES_MAX, "the batch limits keep entries under the limit");
        self.out.into()
    }
}

/// A parsed entry payload.
#[derive(Debug)]
pub struct Operations {
    payload: Bytes,
    log_time_ms: u64,
    first_version: Version,
    secret: Option<IndexSecret>,
    records: u32,
    sessions_at: usize,
    sealed_sessions: bool,
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
        let (has_secret, sealed_sessions) = (records & HAS_SECRET != 0, records & SEALED_SESSIONS != 0);
        let records = records & !(HAS_SECRET | SEALED_SESSIONS);
        let sessions_at = reader.u32()? as usize;
        if !(1..=VERSION_MAX).contains(&first_version.0) {
            return Err(DecodeError::UnknownValue { field: "first version", value: first_version.0 }.into());
        }
        let secret_bytes = if has_secret { IndexSecret::BYTES } else { 0 };
        if sessions_at < HEADER_BYTES + secret_bytes || sessions_at > payload.len() {
            return Err(DecodeError::Truncated.into());
        }
        let secret = has_secret.then(|| *payload[HEADER_BYTES..].first_chunk().expect("sessions begin behind it"));
        let secret = secret.map(IndexSecret);
        if records as usize > RECORDS_MAX {
            let (value, limit) = (records.into(), RECORDS_MAX as u64);
            return Err(DecodeError::OverLimit { field: "records", value, limit }.into());
        }
        Ok(Self { payload, log_time_ms, first_version, secret, records, sessions_at, sealed_sessions })
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

    /// The shard's secret, if the entry brings it.
    pub fn secret(&self) -> Option<IndexSecret> {
        self.secret
    }

    /// How many records there are, as the header says.
    pub fn count(&self) -> usize {
        self.records as usize
    }

    /// The records with their offsets in the payload, in order. Ends with the first error: `Reserved` for a sound record that is
    /// typed.
    pub fn records(&self) -> impl Iterator<Item = Result<(u32, Record<'_>), OperationsError>> {
        let mut at = HEADER_BYTES + if self.secret.is_some() { IndexSecret::BYTES } else { 0 };
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
                    at += record.bytes();
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
    /// `Malformed`; `Reserved` if one of them is extended, and no one-shot name; `Sealed` if they do not open.
    pub fn sessions(&self, keys: &ShardKeys) -> Result<Vec<SessionRecord>, OperationsError> {
        let section = self.payload.slice(self.sessions_at..);
        let section = if self.sealed_sessions { self.open_sessions(&section, keys)? } else { section };
        let mut reader = Reader::new(section);
        let sessions = decode_sessions(&mut reader, self.first_version)?;
        reader.finish()?;
        Ok(sessions)
    }

    fn open_sessions(&self, section: &[u8], keys: &ShardKeys) -> Result<Bytes, OperationsError> {
        let (epoch, nonce, sealed) = decode_front(section).ok_or(DecodeError::Truncated)?;
        let mut front = BytesMut::from(&self.payload[..HEADER_BYTES]);
        front.put_u16_le(keys.shard().0);
        Ok(keys.open(epoch, &nonce, &front, sealed)?.into())
    }

    /// Epoch and nonce of the session section, if that is sealed.
    pub fn sessions_sealed_with(&self) -> Option<(KeyEpoch, SealNonce)> {
        let section = &self.payload[self.sessions_at..];
        let (epoch, nonce, _) = decode_front(section).filter(|_| self.sealed_sessions)?;
        Some((epoch, nonce))
    }
}

fn record_at(bytes: &[u8], at: usize) -> Result<Record<'_>, OperationsError> {
    let rest = bytes.get(at..).ok_or(DecodeError::Truncated)?;
    let header = RecordHeader::parse(rest.first_chunk().ok_or(DecodeError::Truncated)?)?;
    header.record(rest.get(..header.record_bytes()).ok_or(DecodeError::Truncated)?)
}

#[cfg(test)]
mod tests;
