//! What a shard's files are, once its log no longer begins at its first entry: the manifest, and the hint beside it.
//!
//! The manifest is authoritative. It names the *base*, a position up to which the shard's state is found in the listed
//! segments and in the manifest itself, and where the part of the log begins that consensus still has. It is replaced as
//! a whole, so after a crash there is the old one or the new one. The hint is the index at exactly that base. It only
//! saves time: a start that finds it missing, damaged or of another manifest reads the listed segments instead.
//!
//! Bytes: `docs/LOG_FORMAT.md`.

use super::state::{HardState, Membership};
use crate::formats::{self, FormatError, UnsupportedVersion};
use crate::sealing::{SealError, ShardKeys};
use crate::seeded::{Bug, planted};
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, Term, Version};

const MANIFEST_MAGIC: [u8; 8] = formats::MANIFEST.magic(*b"KVMAN\0\0\0");
const HINT_MAGIC: [u8; 8] = formats::HINT.magic(*b"KVHNT\0\0\0");
/// Bytes of a hint in front of its body.
const HINT_HEADER_BYTES: usize = 28;
/// Most segments that a manifest lists: with the largest segments, 4 TiB of one shard.
const LISTED_MAX: usize = 65_536;
/// Most bytes of the store's part of a base: what the session table may hold, and its overhead.
const STATE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most bytes of an encoded membership.
const MEMBERSHIP_BYTES_MAX: usize = 1024;

/// A position of a shard's history, and the part of the state at it that is not in records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// The last entry that the state includes.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Who replicates the shard as of that entry.
    pub membership: Membership,
    /// What the store keeps besides its records, encoded by it.
    pub state: Bytes,
    /// The state is sealed as a whole.
    pub sealed: bool,
}

/// Why bytes are not a base that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BaseError {
    /// They are malformed.
    #[error("malformed base: {0}")]
    Malformed(#[from] DecodeError),
    /// They are of a version that is not read.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedVersion),
}

impl Base {
    /// What its state is bound to if it is sealed: the position that it stands for.
    fn bound_to(&self, keys: &ShardKeys) -> Vec<u8> {
        let mut out = b"base".to_vec();
        out.put_u16_le(keys.shard().0);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        out
    }

    /// The base with its state sealed, if keys are in use.
    #[must_use]
    pub fn seal(&self, keys: &ShardKeys) -> Self {
        let Some(epoch) = keys.active().filter(|_| !self.sealed) else { return self.clone() };
        let state = keys.seal_whole(epoch, &self.bound_to(keys), &self.state).into();
        Self { state, sealed: true, membership: self.membership.clone(), ..*self }
    }

    /// Its state in the clear.
    ///
    /// # Errors
    /// If it does not open.
    pub fn open_state(&self, keys: &ShardKeys) -> Result<Bytes, SealError> {
        match self.sealed {
            true => keys.open_whole(&self.bound_to(keys), &self.state).map(Bytes::from),
            false => Ok(self.state.clone()),
        }
    }

    /// Appends the base, with its version in front.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_front(out);
        out.put_slice(&self.state);
    }

    /// As [`Base::encode`], but for the last field, the state itself.
    pub fn encode_front(&self, out: &mut BytesMut) {
        const PLAIN: u16 = formats::BASE.written() as u16;
        out.put_u16_le(if self.sealed { formats::BASE_SEALED as u16 } else { PLAIN });
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        let mut membership = Vec::new();
        self.membership.encode(&mut membership);
        out.bytes(&membership);
        out.count(self.state.len());
    }

    /// Reads what [`Base::encode`] wrote. Whoever keeps the bytes sees to their checksum.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(reader: &mut Reader) -> Result<Self, BaseError> {
        let version = reader.u16()?.into();
        formats::BASE.check(version)?;
        Ok(Self {
            sealed: version == formats::BASE_SEALED,
            index: LogIndex(reader.u64()?),
            term: Term(reader.u64()?),
            membership: Membership::decode(reader.bytes("membership", MEMBERSHIP_BYTES_MAX)?)?,
            state: reader.bytes("state", STATE_BYTES_MAX)?,
        })
    }
}

/// A segment whose records belong to the shard's state and whose entries consensus needs no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    pub(super) number: u32,
    pub(super) generation: u64,
    /// Where its last record ends.
    pub(super) written: u32,
    /// No record in it has a lower version.
    pub(super) lowest: Version,
}

/// Where the part of the log begins that consensus still has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogStart {
    pub(super) segment: u32,
    /// What the segment's first record names as its predecessor.
    pub(super) previous: u32,
    /// The entry before the first one.
    pub(super) before: (LogIndex, Term),
}

impl Default for LogStart {
    fn default() -> Self {
        Self { segment: 1, previous: 0, before: (LogIndex(0), Term(0)) }
    }
}

/// The authoritative description of a shard's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Manifest {
    /// Grows with each manifest of the shard.
    pub(super) sequence: u64,
    pub(super) base: Base,
    /// As of the moment at which it was written; records in the log may be newer.
    pub(super) hard_state: HardState,
    pub(super) start: LogStart,
    /// In order of their numbers, so log segments first.
    pub(super) listed: Vec<Listed>,
}

impl Manifest {
    pub(super) fn encode(&self, shard: ShardId) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.put_slice(&MANIFEST_MAGIC);
        out.put_u16_le(shard.0);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.hard_state.term.0);
        out.put_u64_le(self.hard_state.vote.map_or(0, |vote| vote.0));
        out.put_u64_le(self.hard_state.commit.0);
        out.put_u32_le(self.start.segment);
        out.put_u32_le(self.start.previous);
        out.put_u64_le(self.start.before.0.0);
        out.put_u64_le(self.start.before.1.0);
        out.count(self.listed.len());
        for listed in &self.listed {
            out.put_u32_le(listed.number);
            out.put_u64_le(listed.generation);
            out.put_u32_le(listed.written);
            out.put_u64_le(listed.lowest.0);
        }
        self.base.encode(&mut out);
        out.put_u32_le(crc32fast::hash(&out));
        out.into()
    }

    /// Reads what [`Manifest::encode`] wrote for this shard. Every version begins with the magic and ends with a checksum of all
    /// before it.
    ///
    /// # Errors
    /// For anything else.
    pub(super) fn decode(shard: ShardId, bytes: Vec<u8>) -> Result<Self, FormatError> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(FormatError::Damaged)?;
        let version = content.first_chunk().and_then(|found| formats::version_in(&MANIFEST_MAGIC, found));
        let version = version.filter(|_| crc32fast::hash(content) == u32::from_le_bytes(*crc));
        formats::MANIFEST.check(version.ok_or(FormatError::Damaged)?)?;
        let content = MANIFEST_MAGIC.len()..content.len();
        let mut reader = Reader::new(Bytes::from(bytes).slice(content));
        let manifest = Self::read(shard, &mut reader).map_err(|error| match error {
            BaseError::Malformed(_) => FormatError::Damaged,
            BaseError::Unsupported(version) => version.into(),
        })?;
        reader.finish().map_err(|_| FormatError::Damaged)?;
        Ok(manifest)
    }

    fn read(shard: ShardId, reader: &mut Reader) -> Result<Self, BaseError> {
        let of_shard = reader.u16()?;
        if of_shard != shard.0 {
            return Err(DecodeError::UnknownValue { field: "shard of a manifest", value: of_shard.into() }.into());
        }
        let sequence = reader.u64()?;
        let term = Term(reader.u64()?);
        let vote = reader.u64()?;
        let commit = LogIndex(reader.u64()?);
        let hard_state = HardState { term, vote: (vote != 0).then_some(ReplicaId(vote)), commit };
        let start = LogStart {
            segment: reader.u32()?,
            previous: reader.u32()?,
            before: (LogIndex(reader.u64()?), Term(reader.u64()?)),
        };
        let count = reader.count("segments", LISTED_MAX, 24)?;
        let listed = (0..count)
            .map(|_| {
                Ok(Listed {
                    number: reader.u32()?,
                    generation: reader.u64()?,
                    written: reader.u32()?,
                    lowest: Version(reader.u64()?),
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { sequence, base: Base::decode(reader)?, hard_state, start, listed })
    }
}

/// What a hint is bound to if it is sealed.
pub(super) fn hint_bound_to(shard: ShardId, sequence: u64) -> Vec<u8> {
    let mut out = b"hint".to_vec();
    out.put_u16_le(shard.0);
    out.put_u64_le(sequence);
    out
}

/// What a hint's file has in front of the index as the store wrote it down, sealed or not. Costs a checksum of that.
pub(super) fn encode_hint_header(shard: ShardId, sequence: u64, body: &[u8], sealed: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(HINT_HEADER_BYTES);
    out.extend_from_slice(&HINT_MAGIC);
    if sealed {
        out[HINT_MAGIC.len() - 1] = formats::HINT_SEALED as u8;
    }
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&shard.0.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// A hint whose checksums match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundHint {
    /// The manifest that it belongs to.
    sequence: u64,
    body: Bytes,
    sealed: bool,
}

impl FoundHint {
    /// The body in the clear.
    ///
    /// # Errors
    /// If it does not open.
    pub(super) fn open(self, keys: &ShardKeys) -> Result<Self, SealError> {
        if !self.sealed {
            return Ok(self);
        }
        let body = keys.open_whole(&hint_bound_to(keys.shard(), self.sequence), &self.body)?;
        Ok(Self { body: body.into(), sealed: false, ..self })
    }

    /// The body, if the hint belongs to the manifest with this sequence number.
    pub(super) fn of_manifest(self, sequence: u64) -> Option<Bytes> {
        let is_its_own = self.sequence == sequence || planted(Bug::HintOfAnotherManifestUsed);
        is_its_own.then_some(self.body)
    }
}

/// Reads a shard's hint. Every version begins with the magic and has a checksum of its first 24 bytes behind them.
///
/// # Errors
/// If it is damaged, another shard's, or of a version that is not read.
pub(super) fn decode_hint(shard: ShardId, bytes: &Bytes) -> Result<FoundHint, FormatError> {
    let (header, body) = bytes.split_first_chunk::<HINT_HEADER_BYTES>().ok_or(FormatError::Damaged)?;
    let crc = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let version = formats::version_in(&HINT_MAGIC, header.first_chunk().expect("longer than its magic"));
    let version = version.filter(|_| crc32fast::hash(&header[..24]) == crc(24)).ok_or(FormatError::Damaged)?;
    formats::HINT.check(version)?;
    let sequence = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
    if header[16..18] != shard.0.to_le_bytes() || crc32fast::hash(body) != crc(20) {
        return Err(FormatError::Damaged);
    }
    Ok(FoundHint { sequence, body: bytes.slice(HINT_HEADER_BYTES..), sealed: version == formats::HINT_SEALED })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::{DATA_KEY_BYTES, DataKey, KeyEpoch, Keyring};
    use std::sync::Arc;

    const SHARD: ShardId = ShardId(5);

    fn manifest() -> Manifest {
        Manifest {
            sequence: 3,
            base: Base {
                index: LogIndex(90),
                term: Term(4),
                membership: Membership { voters: vec![ReplicaId(1), ReplicaId(2)], ..Membership::default() },
                state: Bytes::from_static(b"sessions and all"),
                sealed: false,
            },
            hard_state: HardState { term: Term(6), vote: Some(ReplicaId(2)), commit: LogIndex(95) },
            start: LogStart { segment: 7, previous: 0xaabb_ccdd, before: (LogIndex(80), Term(3)) },
            listed: vec![
                Listed { number: 5, generation: 77, written: 4096, lowest: Version(1000) },
                Listed { number: 1 << 31 | 2, generation: 78, written: 512, lowest: Version(3) },
            ],
        }
    }

    #[test]
    fn a_manifest_comes_back_and_every_damage_is_noticed() {
        let (bytes, damaged) = (manifest().encode(SHARD), Err(FormatError::Damaged));
        assert_eq!(Manifest::decode(SHARD, bytes.clone()), Ok(manifest()));
        assert_eq!(Manifest::decode(ShardId(6), bytes.clone()), damaged, "of another shard");
        for end in 0..bytes.len() {
            assert_eq!(Manifest::decode(SHARD, bytes[..end].to_vec()), damaged, "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Manifest::decode(SHARD, flipped), damaged, "byte {at} bit {bit}");
            }
        }
    }

    fn hint() -> Vec<u8> {
        [&encode_hint_header(SHARD, 3, b"slots", false)[..], b"slots"].concat()
    }

    #[test]
    fn a_hint_is_taken_for_its_own_manifest_only() {
        let bytes = Bytes::from(hint());
        let found = decode_hint(SHARD, &bytes).unwrap();
        assert_eq!(found.clone().of_manifest(3), Some(Bytes::from_static(b"slots")));
        assert_eq!(found.of_manifest(4), None, "stale");
        assert_eq!(decode_hint(ShardId(6), &bytes), Err(FormatError::Damaged), "of another shard");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                assert_eq!(decode_hint(SHARD, &flipped.into()), Err(FormatError::Damaged), "byte {at} bit {bit}");
            }
            assert_eq!(decode_hint(SHARD, &bytes.slice(..at)), Err(FormatError::Damaged), "cut at {at}");
        }
    }

    /// Files on disks hold these bytes; the fuzz targets begin with them.
    #[test]
    fn sealed_bytes_are_frozen() {
        let ring = Keyring::with_key(KeyEpoch(3), DataKey::new([3; DATA_KEY_BYTES]));
        let keys = ShardKeys::new(SHARD, Arc::new(ring));
        let whole = keys.seal_whole(KeyEpoch(3), &hint_bound_to(SHARD, 3), b"slots");
        assert_eq!(hex(&whole), "03005c29ea5b744e8c15892259d91cf00f68538ba9acc97377635ae3a98c5b2b739893");
        let file = [encode_hint_header(SHARD, 3, &whole, true), whole].concat();
        let found = decode_hint(SHARD, &file.into()).unwrap().open(&keys).unwrap();
        assert_eq!(found.of_manifest(3), Some(Bytes::from_static(b"slots")));
    }

    /// These bytes are in docs/LOG_FORMAT.md; files on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let golden = "4b564d414e000003 0500 0300000000000000 0600000000000000 0200000000000000 5f00000000000000 \
            07000000 ddccbbaa 5000000000000000 0300000000000000 02000000 \
            05000000 4d00000000000000 00100000 e803000000000000 \
            02000080 4e00000000000000 00020000 0300000000000000 \
            0100 5a00000000000000 0400000000000000 \
            21000000 02000000 0100000000000000 0200000000000000 00000000 00000000 00000000 00 \
            10000000 73657373696f6e7320616e6420616c6c"
            .replace(' ', "");
        let bytes = manifest().encode(SHARD);
        assert_eq!(hex(&bytes[..bytes.len() - 4]), golden);
        let golden = "4b56484e54000002 0300000000000000 0500 0000 d03574c8 2aae8046 736c6f7473".replace(' ', "");
        assert_eq!(hex(&hint()), golden);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The manifest of today with another number in its magic, or in front of its base.
    fn manifest_of(version: u8, of_base: u8) -> Vec<u8> {
        let mut bytes = manifest().encode(SHARD);
        let end = bytes.len() - 4;
        let mut base = BytesMut::new();
        manifest().base.encode(&mut base);
        bytes[7] = version;
        bytes[end - base.len()] = of_base;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        assert_eq!(Manifest::decode(SHARD, manifest_of(3, 1)), Ok(manifest()), "today's");
        let refused = |bytes| Manifest::decode(SHARD, bytes).unwrap_err().to_string();
        let next = "the manifest has version 4, and this program reads version 3: start a newer program";
        assert_eq!(refused(manifest_of(4, 1)), next);
        let before = "the manifest has version 2, and this program reads version 3: start an older program";
        assert_eq!(refused(manifest_of(2, 1)), before);
        let next = "the base has version 3, and this program reads versions 1 to 2: start a newer program";
        assert_eq!(refused(manifest_of(3, 3)), next);
        let mut hint = hint();
        hint[7] = 4;
        let crc = crc32fast::hash(&hint[..24]);
        hint[24..28].copy_from_slice(&crc.to_le_bytes());
        let refused = decode_hint(SHARD, &hint.into()).unwrap_err().to_string();
        assert_eq!(refused, "the hint has version 4, and this program reads versions 2 to 3: start a newer program");
    }

    /// What a newer version has behind what is known does not matter: its number is looked at first.
    #[test]
    fn a_newer_version_may_hold_anything() {
        let mut bytes = b"KVMAN\0\0\x09 of another shape".to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let refused = Manifest::decode(SHARD, bytes).unwrap_err();
        assert!(matches!(refused, FormatError::Unsupported(version) if version.found == 9), "{refused}");
    }
}
