//! A record where it lies in the log: its head, which says all but the value, and the value, read when it is needed.

use crate::cost;
use crate::log::operations::{Head, OperationsError, RECORD_HEADER_BYTES, Record, RecordHeader, verify_value};
use crate::log::{Damage, LogError, OpenedHead, Position, SealedValue, Segment};
use crate::sealing::{SealError, ShardKeys};
use bytes::Bytes;
use kvorum_protocol::{Entry, ShardId, Version};
use std::sync::Arc;

/// A shorter value is copied where it is returned: it would keep its whole segment.
const COPIED_VALUE_BYTES: usize = 16 * 1024;

/// Why a record that the index points at can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment is not there, or does not reach that far.
    #[error("the log has no record at segment {0} offset {1}")]
    Missing(u32, u32),
    /// The record is damaged.
    #[error("the record at {position}: {reason}")]
    Damaged {
        /// Where it lies.
        position: Position,
        /// What is wrong with it.
        reason: OperationsError,
    },
    /// The record is sound, and was written for another place.
    #[error("the record at {0} is not the one that was written there")]
    Misplaced(Position),
    /// Its segment was read again from the medium, which does not hold what it should.
    #[error("segment {}, offset {}: {damage}", position.segment, position.offset)]
    Medium {
        /// Where the damage is.
        position: Position,
        /// What it is.
        damage: Damage,
    },
}

impl ReadError {
    /// What it says of the replica's log.
    pub fn of_log(self, shard: ShardId) -> LogError {
        if let Self::Damaged { position, reason } = self {
            return LogError::of_operations(shard, position, Damage::StoredRecord, reason);
        }
        let (position, damage) = match self {
            Self::Missing(segment, offset) => (Position { segment, offset }, Damage::RecordMissing),
            Self::Medium { position, damage } => (position, damage),
            Self::Damaged { position, .. } | Self::Misplaced(position) => (position, Damage::StoredRecord),
        };
        LogError::Damaged { shard, position, damage }
    }
}

/// A key's record, copied out of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Value, version and expiry.
    pub entry: Entry,
    /// Where the record lies.
    pub position: Position,
}

/// A record that the index points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordRef {
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
    /// What it takes in its segment.
    pub(super) bytes: u64,
}

/// A record that a key had when it was looked up. All but its value was read and verified. Its bytes don't change, so that
/// the value may be read later, by another thread, whatever becomes of the key.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    segment: Arc<Segment>,
    position: Position,
    version: Version,
    expires_at_ms: Option<u64>,
    value: ValuePlace,
    text: KeptText,
}

/// Where a value is read from.
#[derive(Clone, Debug)]
enum KeptText {
    /// Where it lies.
    Plain,
    /// It was opened with its key.
    Opened(Bytes),
    /// It is to be opened with this.
    Sealed(SealedValue, Arc<ShardKeys>),
}

/// Where a record's value is, and what it is verified with if it was not verified with the rest.
#[derive(Clone, Copy, Debug)]
struct ValuePlace {
    /// In the record's segment.
    offset: u32,
    length: u32,
    crc: Option<u32>,
}

/// A part of a segment.
struct SegmentSlice {
    segment: Arc<Segment>,
    offset: u32,
    length: u32,
}

impl AsRef<[u8]> for SegmentSlice {
    fn as_ref(&self) -> &[u8] {
        self.segment.read(self.offset, self.length).expect("it was read before, and what is written stays")
    }
}

impl StoredRecord {
    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it expires, in milliseconds of log time.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }

    /// Where it lies.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Bytes of its value.
    pub fn value_bytes(&self) -> usize {
        match &self.text {
            KeptText::Plain => self.value.length as usize,
            KeptText::Opened(value) => value.len(),
            KeptText::Sealed(sealed, _) => sealed.value_bytes(),
        }
    }

    /// Verifies the value. A long one is not copied: it keeps the segment's mapping.
    ///
    /// # Errors
    /// If it can't be read: the log is damaged. Whoever calls this tells the reader, see [`super::StoreReader::report_damage`].
    pub fn read(&self) -> Result<Found, ReadError> {
        let Position { segment, offset } = self.position;
        let ValuePlace { offset: value_at, length, crc } = self.value;
        if let KeptText::Opened(value) = &self.text {
            let entry = Entry { value: value.clone(), version: self.version, expires_at_ms: self.expires_at_ms };
            return Ok(Found { entry, position: self.position });
        }
        note_read(if crc.is_some() { length as usize } else { 0 });
        let bytes = self.segment.read(value_at, length).ok_or(ReadError::Missing(segment, offset))?;
        verify_value(crc, bytes).map_err(|reason| ReadError::Damaged { position: self.position, reason })?;
        let value = if let KeptText::Sealed(sealed, keys) = &self.text {
            let opened = sealed.open(bytes, keys).map_err(|error| not_opened(self.position, error))?;
            opened.into()
        } else if bytes.len() < COPIED_VALUE_BYTES {
            cost::copied(bytes.len());
            Bytes::copy_from_slice(bytes)
        } else {
            Bytes::from_owner(SegmentSlice { segment: Arc::clone(&self.segment), offset: value_at, length })
        };
        let entry = Entry { value, version: self.version, expires_at_ms: self.expires_at_ms };
        Ok(Found { entry, position: self.position })
    }
}

/// The header of the record at a position of this segment. Nothing is verified.
pub(super) fn stored_header(segment: &Segment, position: Position) -> Result<RecordHeader, ReadError> {
    let missing = ReadError::Missing(position.segment, position.offset);
    let header = segment.read(position.offset, RECORD_HEADER_BYTES as u32).ok_or(missing)?;
    let header = RecordHeader::parse(header.first_chunk().expect("as many bytes as were asked for"));
    header.map_err(|reason| ReadError::Damaged { position, reason })
}

fn not_opened(position: Position, error: SealError) -> ReadError {
    ReadError::Damaged { position, reason: error.into() }
}

/// A record where it lies, whose head is sound.
pub(super) struct Stored<'a> {
    segment: &'a Segment,
    position: Position,
    header: RecordHeader,
    pub(super) head: Head<'a>,
    /// The key of a sealed record, and its value or how to open that.
    opened: Option<(OpenedHead, Option<SealedValue>)>,
}

impl<'a> Stored<'a> {
    /// The record at a position of this segment, if all of it but a long value is as it was written, there. Reads no more
    /// than that.
    ///
    /// # Errors
    /// If it is not: the log is damaged.
    pub(super) fn at(segment: &'a Segment, position: Position, keys: &ShardKeys) -> Result<Self, ReadError> {
        let mut stored = Self::unopened(segment, position)?;
        if stored.header.is_sealed() {
            stored.open(keys)?;
        }
        Ok(stored)
    }

    /// As [`Stored::at`], but of a sealed record nothing is opened.
    fn unopened(segment: &'a Segment, position: Position) -> Result<Self, ReadError> {
        let missing = ReadError::Missing(position.segment, position.offset);
        let damaged = |reason| ReadError::Damaged { position, reason };
        let header = stored_header(segment, position)?;
        note_read(header.head_bytes());
        let bytes = segment.read(position.offset, header.head_bytes() as u32).ok_or(missing)?;
        let head = header.head(bytes).map_err(damaged)?;
        match segment.is_in_place(position.offset, bytes) {
            true => Ok(Stored { segment, position, header, head, opened: None }),
            false => Err(ReadError::Misplaced(position)),
        }
    }

    fn open(&mut self, keys: &ShardKeys) -> Result<(), ReadError> {
        let Position { segment, offset } = self.position;
        let bytes = self.segment.read(offset, self.header.look_bytes() as u32);
        let bytes = bytes.ok_or(ReadError::Missing(segment, offset))?;
        match self.header.open_head(&self.head, bytes, keys) {
            Ok(opened) => self.opened = Some(opened),
            Err(error) => {
                // What names the key may lie behind what was verified. If that is damaged, no key is missing.
                self.stored_value()?;
                return Err(not_opened(self.position, error));
            }
        }
        Ok(())
    }

    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        self.opened.as_ref().map_or(self.head.key, |(opened, _)| opened.key())
    }

    /// What looking at it reads, in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        self.header.look_bytes()
    }

    /// Bytes of the whole record.
    pub(super) fn bytes(&self) -> usize {
        self.header.record_bytes()
    }

    pub(super) fn place(&self) -> RecordRef {
        let Head { version, expires_at_ms, .. } = self.head;
        RecordRef { position: self.position, version, expires_at_ms, bytes: self.bytes() as u64 }
    }

    pub(super) fn has_expired(&self, log_time_ms: u64) -> bool {
        self.head.expires_at_ms.is_some_and(|at| at <= log_time_ms)
    }

    fn value_place(&self) -> ValuePlace {
        let length = self.header.value_bytes() as u32;
        let offset = self.position.offset + self.bytes() as u32 - length;
        ValuePlace { offset, length, crc: self.head.value_crc() }
    }

    /// What is stored as the value, verified.
    fn stored_value(&self) -> Result<&'a [u8], ReadError> {
        let ValuePlace { offset, length, crc } = self.value_place();
        let Position { segment, offset: at } = self.position;
        note_read(if crc.is_some() { length as usize } else { 0 });
        let value = self.segment.read(offset, length).ok_or(ReadError::Missing(segment, at))?;
        verify_value(crc, value).map_err(|reason| ReadError::Damaged { position: self.position, reason })
    }

    /// The record with a copy of its value.
    pub(super) fn entry(&self, keys: &ShardKeys) -> Result<Entry, ReadError> {
        let value = match &self.opened {
            None => Bytes::copy_from_slice(self.stored_value()?),
            Some((opened, None)) => Bytes::copy_from_slice(opened.value()),
            Some((_, Some(sealed))) => {
                let opened = sealed.open(self.stored_value()?, keys);
                opened.map_err(|error| not_opened(self.position, error))?.into()
            }
        };
        cost::copied(value.len());
        Ok(Entry { value, version: self.head.version, expires_at_ms: self.head.expires_at_ms })
    }

    /// The record for whoever may read its value later. `segment` is the one that it lies in.
    pub(super) fn keep(&self, segment: &Arc<Segment>, keys: &Arc<ShardKeys>) -> StoredRecord {
        let text = match &self.opened {
            None => KeptText::Plain,
            Some((opened, None)) => KeptText::Opened(Bytes::copy_from_slice(opened.value())),
            Some((_, Some(sealed))) => KeptText::Sealed(*sealed, Arc::clone(keys)),
        };
        StoredRecord {
            segment: Arc::clone(segment),
            position: self.position,
            version: self.head.version,
            expires_at_ms: self.head.expires_at_ms,
            value: self.value_place(),
            text,
        }
    }
}

/// The record at a position of this segment, if its checksums are right and it was written there. A sealed one stays so.
///
/// # Errors
/// If it is not: the log is damaged.
pub(crate) fn stored_record(segment: &Segment, position: Position) -> Result<Record<'_>, ReadError> {
    let stored = Stored::unopened(segment, position)?;
    stored.stored_value()?;
    let bytes = segment.read(position.offset, stored.bytes() as u32);
    let bytes = bytes.ok_or(ReadError::Missing(position.segment, position.offset))?;
    Ok(stored.header.of_verified(&stored.head, bytes))
}

#[cfg(test)]
thread_local! {
    static BYTES_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The bytes of records that this thread has read so far.
#[cfg(test)]
pub(crate) fn bytes_read() -> usize {
    BYTES_READ.get()
}

/// Bytes of a record are about to be read.
fn note_read(_bytes: usize) {
    #[cfg(test)]
    BYTES_READ.set(BYTES_READ.get() + _bytes);
}
