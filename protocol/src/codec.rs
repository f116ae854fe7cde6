//! Bounds-checked reading and writing of little-endian fields. The only two types through which bytes become values.

use crate::token::TokenId;
use crate::types::{ClientId, ClusterId, FolderId, NodeId, ReplicaId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("{0} bytes are left after the last field")]
    TrailingBytes(usize),
    /// A discriminant has no meaning.
    #[error("{value} means nothing as {field}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// A length or count is over its limit.
    #[error("{field} is {value}, the limit is {limit}")]
    OverLimit {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A text is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// The checksum of a frame does not match its bytes.
    #[error("the frame's checksum does not match its bytes")]
    BadChecksum,
    /// The operation code is not known.
    #[error("operation {0:#04x} is not known")]
    UnknownOperation(u8),
}

/// Takes fields off the front of a buffer. Byte strings are slices that share the buffer's memory.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads `bytes` from its front.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// The bytes that are left, which stay.
    pub fn peek(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn need(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.bytes.len() < bytes { Err(DecodeError::Truncated) } else { Ok(()) }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.need(2)?;
        Ok(self.bytes.get_u16_le())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.bytes.get_u32_le())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.need(8)?;
        Ok(self.bytes.get_u64_le())
    }

    /// Eight bytes, two's complement.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.bytes.get_i64_le())
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::UnknownValue { field, value: value.into() }),
        }
    }

    /// Sixteen bytes, most significant first, as RFC 9562 prints them.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.need(16)?;
        Ok(Uuid::from_u128(self.bytes.get_u128()))
    }

    /// A node's identity.
    pub fn node_id(&mut self) -> Result<NodeId, DecodeError> {
        self.uuid().map(NodeId)
    }

    /// A data folder's identity.
    pub fn folder_id(&mut self) -> Result<FolderId, DecodeError> {
        self.uuid().map(FolderId)
    }

    /// A cluster's identity.
    pub fn cluster_id(&mut self) -> Result<ClusterId, DecodeError> {
        self.uuid().map(ClusterId)
    }

    /// A client's identity.
    pub fn client_id(&mut self) -> Result<ClientId, DecodeError> {
        self.uuid().map(ClientId)
    }

    /// A token's identity.
    pub fn token_id(&mut self) -> Result<TokenId, DecodeError> {
        self.uuid().map(TokenId)
    }

    /// As many bytes as the array has.
    pub fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], DecodeError> {
        self.need(BYTES)?;
        let mut array = [0; BYTES];
        self.bytes.copy_to_slice(&mut array);
        Ok(array)
    }

    /// A replica's number, which is not 0.
    pub fn replica_id(&mut self, field: &'static str) -> Result<ReplicaId, DecodeError> {
        match self.u64()? {
            0 => Err(DecodeError::UnknownValue { field, value: 0 }),
            id => Ok(ReplicaId(id)),
        }
    }

    /// Exactly `length` bytes, which the caller has bounded.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that is left.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    /// A four-byte length of at most `limit`, then as many bytes.
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        within(field, length, limit)?;
        self.take(length)
    }

    /// A two-byte length of at most `limit`, then as many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<String, DecodeError> {
        let length = usize::from(self.u16()?);
        within(field, length, limit)?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::NotText(field))
    }

    /// A four-byte count of at most `limit`. Also bounded by the bytes left, given that one element takes at least
    /// `element_bytes_min`, so that a count alone can't make the caller allocate.
    pub fn count(&mut self, field: &'static str, limit: usize, element_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        within(field, count, limit)?;
        self.need(count.saturating_mul(element_bytes_min))?;
        Ok(count)
    }

    /// A presence byte, then the field if it is 1.
    pub fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}

fn within(field: &'static str, value: usize, limit: usize) -> Result<(), DecodeError> {
    if value > limit {
        return Err(DecodeError::OverLimit { field, value: value as u64, limit: limit as u64 });
    }
    Ok(())
}

/// Appends fields to a buffer; the mirror image of [`Reader`].
pub trait Writer: BufMut + Sized {
    /// See [`Reader::bool`].
    fn bool(&mut self, value: bool) {
        self.put_u8(value.into());
    }
    /// See [`Reader::uuid`].
    fn uuid(&mut self, value: Uuid) {
        self.put_u128(value.as_u128());
    }
    /// See [`Reader::bytes`].
    fn bytes(&mut self, value: &[u8]) {
        self.put_u32_le(u32::try_from(value.len()).expect("limits keep byte strings under 4 GiB"));
        self.put_slice(value);
    }
    /// See [`Reader::text`]. A text over `limit` bytes is cut at a character boundary.
    fn text(&mut self, value: &str, limit: usize) {
        let limit = limit.min(u16::MAX.into()).min(value.len());
        let cut = (0..=limit).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        self.put_u16_le(cut as u16);
        self.put_slice(&value.as_bytes()[..cut]);
    }
    /// See [`Reader::count`].
    fn count(&mut self, count: usize) {
        self.put_u32_le(u32::try_from(count).expect("limits keep counts under 2^32"));
    }
    /// See [`Reader::option`].
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// `out` ends with a byte string that was left out, as if it were empty: gives it its length. So a message that ends with
/// a large one is encoded without copying it.
pub(crate) fn announce_last(out: &mut BytesMut, last: &[u8]) {
    let length = u32::try_from(last.len()).expect("limits keep byte strings under 4 GiB");
    let at = out.len() - 4;
    assert_eq!(out[at..], [0; 4], "the message ends with an empty byte string");
    out[at..].copy_from_slice(&length.to_le_bytes());
}

impl Writer for BytesMut {}
impl Writer for Vec<u8> {}
/// Into memory that has room for all of it.
impl Writer for &mut [u8] {}
