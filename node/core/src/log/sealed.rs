//! Records whose key and value are sealed.
//!
//! ```text
//! what a plain record has as its key and value, in a sealed one; its length of the value counts all that was added
//!   a value of up to 226 bytes
//!     epoch u16, nonce 12, sealed (key, value), tag 16
//!   a longer one, which has a checksum of its own: the key can be opened without it
//!     epoch u16, nonce 12, sealed (key), tag 16
//!     sealed (value), tag 16          under the same nonce with its last bit set
//! ```
//!
//! Sealed with them is what the record says in the clear: shard, version, expiry, flags, lengths. The checksums are outside, and where
//! those of a plain record of the same lengths would be: who only checks, moves or sends a record needs no key.

use super::operations::{
    HEAD_VALUE_BYTES_MAX, Head, OperationsError, Record, RecordHeader, VALUE_CRC_BYTES, checksum, encode_tombstone,
};
use crate::cost;
use crate::sealing::{
    FRONT_BYTES, KeyEpoch, SEAL_BYTES, SealError, SealNonce, ShardKeys, TAG_BYTES, decode_front, encode_front,
};
use crate::seeded::{Bug, planted};
use bytes::{BufMut, BytesMut};
use kvorum_protocol::{ShardId, Version};
use std::borrow::Cow;

/// What sealing adds to a record whose value has a checksum of its own.
pub(super) const SEAL_APART_BYTES: usize = SEAL_BYTES + TAG_BYTES;

/// What sealing adds to a value of this length.
pub(super) fn seal_bytes(value_bytes: usize) -> usize {
    if value_bytes + SEAL_BYTES > HEAD_VALUE_BYTES_MAX { SEAL_APART_BYTES } else { SEAL_BYTES }
}

/// Of the length of a sealed record's value, what is the value itself; `None` if no sealed record has such a length.
pub(super) fn value_bytes_of(stored: usize) -> Option<usize> {
    let seal = if stored > HEAD_VALUE_BYTES_MAX { SEAL_APART_BYTES } else { SEAL_BYTES };
    stored.checked_sub(seal).filter(|value_bytes| seal_bytes(*value_bytes) == seal)
}

/// Which part of a record is sealed.
#[derive(Clone, Copy)]
enum SealedPart {
    Both = 0,
    Key = 1,
    Value = 2,
}

const BOUND_BYTES: usize = 27;

/// What a record says in the clear, to which its texts are bound.
#[derive(Clone, Copy, Debug)]
struct BoundTo {
    shard: ShardId,
    version: Version,
    expires_at_ms: Option<u64>,
    tombstone: bool,
    key_bytes: u32,
    value_bytes: u32,
}

impl BoundTo {
    fn encode(&self, part: SealedPart) -> [u8; BOUND_BYTES] {
        let flags = u8::from(self.tombstone) | u8::from(self.expires_at_ms.is_some()) << 1 | (part as u8) << 2;
        let mut out = [0; BOUND_BYTES];
        let mut rest = &mut out[..];
        rest.put_u16_le(self.shard.0);
        rest.put_u64_le(self.version.0);
        rest.put_u64_le(self.expires_at_ms.unwrap_or(0));
        rest.put_u8(flags);
        rest.put_u32_le(self.key_bytes);
        rest.put_u32_le(self.value_bytes);
        assert!(rest.is_empty(), "all of it is used");
        out
    }
}

/// A record as it is before it is sealed.
pub(super) struct Unsealed<'a> {
    pub(super) key: &'a [u8],
    /// `None`: it was removed.
    pub(super) value: Option<&'a [u8]>,
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
}

/// Appends the record, sealed.
pub(super) fn put_sealed(
    out: &mut BytesMut,
    keys: &ShardKeys,
    epoch: KeyEpoch,
    nonce: SealNonce,
    record: &Unsealed<'_>,
) {
    let Unsealed { key, value, version, expires_at_ms } = *record;
    let (start, tombstone) = (out.len(), value.is_none());
    let value = value.unwrap_or_default();
    let stored_bytes = value.len() + seal_bytes(value.len());
    let header = RecordHeader {
        crc: 0,
        key_bytes: key.len() as u32,
        value_bytes: stored_bytes as u32,
        tombstone,
        expires: expires_at_ms.is_some(),
        version: version.0,
        sealed: true,
        typed: false,
    };
    let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
    let shard = if planted(Bug::SealedForAnotherShard) { ShardId(keys.shard().0 ^ 1) } else { keys.shard() };
    let bound_to = BoundTo { shard, version, expires_at_ms, tombstone, key_bytes, value_bytes };
    out.reserve(header.record_bytes());
    out.put_slice(&header.encode());
    expires_at_ms.into_iter().for_each(|at| out.put_u64_le(at));
    let value_crc_at = header.value_crc_at().map(|at| start + at as usize);
    if value_crc_at.is_some() {
        out.put_bytes(0, VALUE_CRC_BYTES);
    }
    let stored_at = out.len();
    out.put_slice(&encode_front(epoch, &nonce));
    let mut put = |part, nonce: &SealNonce, texts: [&[u8]; 2]| {
        let at = out.len();
        texts.iter().for_each(|text| out.put_slice(text));
        let tag = keys.seal(epoch, nonce, &bound_to.encode(part), &mut out[at..]);
        out.put_slice(&tag);
    };
    match value_crc_at {
        None => put(SealedPart::Both, &nonce, [key, value]),
        Some(_) => {
            put(SealedPart::Key, &nonce, [key, &[]]);
            put(SealedPart::Value, &nonce.of_value(), [value, &[]]);
        }
    }
    cost::copied(header.record_bytes());
    if let Some(at) = value_crc_at {
        let crc = checksum(&out[stored_at + key.len()..]);
        out[at..at + VALUE_CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = checksum(&out[start + 4..start + header.head_bytes()]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The texts of a record, opened if they were sealed.
pub type KeyAndValue<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// What a sealed record has in place of its key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed<'a> {
    pub(super) stored: &'a [u8],
    pub(super) key_bytes: u32,
}

/// A key that was opened, and its value unless that is sealed apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedHead {
    text: Vec<u8>,
    key_bytes: usize,
}

impl OpenedHead {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.text[..self.key_bytes]
    }

    /// The value, if it was sealed together with the key; else nothing.
    pub fn value(&self) -> &[u8] {
        &self.text[self.key_bytes..]
    }

    /// Key and value, one behind the other, and where the value begins.
    pub fn into_text(self) -> (Vec<u8>, usize) {
        (self.text, self.key_bytes)
    }
}

/// A value that is sealed apart from its key, and how it is opened.
#[derive(Clone, Copy, Debug)]
pub struct SealedValue {
    epoch: KeyEpoch,
    nonce: SealNonce,
    bound_to: BoundTo,
}

impl SealedValue {
    /// Bytes of the value.
    pub fn value_bytes(&self) -> usize {
        self.bound_to.value_bytes as usize
    }

    /// The value. `stored` is what its record has as a value, whose checksum is right.
    ///
    /// # Errors
    /// If it does not open.
    pub fn open(&self, stored: &[u8], keys: &ShardKeys) -> Result<Vec<u8>, SealError> {
        let sealed = stored.get(SEAL_BYTES..).ok_or(SealError::Forged)?;
        keys.open(self.epoch, &self.nonce.of_value(), &self.bound_to.encode(SealedPart::Value), sealed)
    }
}

impl RecordHeader {
    /// How many bytes of the record, from its first, are needed to know its key: [`RecordHeader::head_bytes`], and the rest of
    /// what seals a key that is sealed apart.
    pub fn look_bytes(&self) -> usize {
        let is_apart = self.sealed && self.value_crc_at().is_some();
        self.head_bytes() + if is_apart { SEAL_BYTES } else { 0 }
    }

    /// Bytes of the value itself.
    pub fn plain_value_bytes(&self) -> usize {
        match self.sealed {
            true => value_bytes_of(self.value_bytes()).expect("lengths were looked at when it was parsed"),
            false => self.value_bytes(),
        }
    }

    /// Opens the key of a sealed record. `bytes` are its first [`RecordHeader::look_bytes`] bytes, and `head` what they say.
    /// Returns the key, and how to open its value if that is sealed apart.
    ///
    /// # Errors
    /// If it does not open.
    ///
    /// # Panics
    /// If the record is plain.
    pub fn open_head(
        &self,
        head: &Head<'_>,
        bytes: &[u8],
        keys: &ShardKeys,
    ) -> Result<(OpenedHead, Option<SealedValue>), SealError> {
        assert!(self.sealed, "a plain record has its key in the clear");
        let bound_to = BoundTo {
            shard: keys.shard(),
            version: head.version,
            expires_at_ms: head.expires_at_ms,
            tombstone: head.tombstone,
            key_bytes: self.key_bytes,
            value_bytes: self.plain_value_bytes() as u32,
        };
        let stored = &bytes[self.front_bytes()..];
        open_key(stored, &bound_to, self.value_crc_at().is_some(), keys)
    }
}

fn open_key(
    stored: &[u8],
    bound_to: &BoundTo,
    is_apart: bool,
    keys: &ShardKeys,
) -> Result<(OpenedHead, Option<SealedValue>), SealError> {
    let (epoch, nonce, sealed) = decode_front(stored).ok_or(SealError::Forged)?;
    let key_bytes = bound_to.key_bytes as usize;
    let (part, sealed) = match is_apart {
        true => (SealedPart::Key, sealed.get(..key_bytes + TAG_BYTES).ok_or(SealError::Forged)?),
        false => (SealedPart::Both, sealed),
    };
    let text = keys.open(epoch, &nonce, &bound_to.encode(part), sealed)?;
    let value = is_apart.then_some(SealedValue { epoch, nonce, bound_to: *bound_to });
    Ok((OpenedHead { text, key_bytes }, value))
}

impl<'a> Record<'a> {
    fn bound_to(&self, sealed: &Sealed<'_>, keys: &ShardKeys) -> Result<BoundTo, SealError> {
        let stored_bytes = sealed.stored.len() - sealed.key_bytes as usize;
        Ok(BoundTo {
            shard: keys.shard(),
            version: self.version,
            expires_at_ms: self.expires_at_ms,
            tombstone: self.tombstone,
            key_bytes: sealed.key_bytes,
            value_bytes: value_bytes_of(stored_bytes).ok_or(SealError::Forged)? as u32,
        })
    }

    /// Whether its value is sealed apart from its key.
    fn is_apart(sealed: &Sealed<'_>) -> bool {
        sealed.stored.len() - sealed.key_bytes as usize > HEAD_VALUE_BYTES_MAX
    }

    /// The key. That of a sealed record is opened, and so is a short value with it.
    ///
    /// # Errors
    /// If it does not open.
    pub fn open_key(&self, keys: &ShardKeys) -> Result<Cow<'a, [u8]>, OperationsError> {
        let Some(sealed) = &self.sealed else { return Ok(Cow::Borrowed(self.key)) };
        let bound_to = self.bound_to(sealed, keys)?;
        let (opened, _) = open_key(sealed.stored, &bound_to, Self::is_apart(sealed), keys)?;
        let (mut text, key_bytes) = opened.into_text();
        text.truncate(key_bytes);
        Ok(Cow::Owned(text))
    }

    /// Key and value.
    ///
    /// # Errors
    /// As [`Record::open_key`].
    pub fn open(&self, keys: &ShardKeys) -> Result<KeyAndValue<'a>, OperationsError> {
        let Some(sealed) = &self.sealed else { return Ok((Cow::Borrowed(self.key), Cow::Borrowed(self.value))) };
        let bound_to = self.bound_to(sealed, keys)?;
        let (opened, apart) = open_key(sealed.stored, &bound_to, Self::is_apart(sealed), keys)?;
        let value = match apart {
            Some(apart) => apart.open(&sealed.stored[sealed.key_bytes as usize..], keys)?,
            None => opened.value().to_vec(),
        };
        let (mut text, key_bytes) = opened.into_text();
        text.truncate(key_bytes);
        Ok((Cow::Owned(text), Cow::Owned(value)))
    }

    /// The epoch and the nonce of a sealed record.
    pub fn sealed_with(&self) -> Option<(KeyEpoch, SealNonce)> {
        let (epoch, nonce, _) = decode_front(self.sealed.as_ref()?.stored)?;
        Some((epoch, nonce))
    }
}

/// What compaction writes of a record that it keeps: its bytes, or the record sealed with the key of now if it is plain or has
/// an older one. The nonce stays, and so does the text under it: all replicas write the same.
///
/// # Errors
/// If it does not open.
pub(super) fn kept<'a>(
    record: &Record<'_>,
    stored: &'a [u8],
    keys: &ShardKeys,
) -> Result<Cow<'a, [u8]>, OperationsError> {
    let Some(epoch) = keys.active() else { return Ok(Cow::Borrowed(stored)) };
    let nonce = match record.sealed_with() {
        Some((now, _)) if now >= epoch => return Ok(Cow::Borrowed(stored)),
        Some((_, nonce)) => nonce,
        None => SealNonce::of_version(record.version),
    };
    let (key, value) = record.open(keys)?;
    let value = (!record.tombstone).then_some(&*value);
    let record = Unsealed { key: &key, value, version: record.version, expires_at_ms: record.expires_at_ms };
    let mut out = BytesMut::new();
    put_sealed(&mut out, keys, epoch, nonce, &record);
    Ok(Cow::Owned(out.into()))
}

/// The tombstone that compaction writes in place of a record, sealed if that is or if records are now.
///
/// # Errors
/// If the record does not open.
pub(super) fn tombstone_of(record: &Record<'_>, stored: &[u8], keys: &ShardKeys) -> Result<Vec<u8>, OperationsError> {
    if record.tombstone {
        return kept(record, stored, keys).map(Cow::into_owned);
    }
    let key = record.open_key(keys)?;
    let sealed_with = record.sealed_with();
    let Some(epoch) = keys.active().or(sealed_with.map(|(epoch, _)| epoch)) else {
        return Ok(encode_tombstone(&key, record.version));
    };
    let nonce = sealed_with.map_or_else(|| SealNonce::of_version(record.version), |(_, nonce)| nonce);
    let tombstone = Unsealed { key: &key, value: None, version: record.version, expires_at_ms: None };
    let mut out = BytesMut::new();
    put_sealed(&mut out, keys, epoch, nonce.of_tombstone(), &tombstone);
    Ok(out.into())
}

const _: () = assert!(FRONT_BYTES + TAG_BYTES == SEAL_BYTES);

#[cfg(test)]
mod tests;
