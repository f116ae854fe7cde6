//! The bytes of one log record. Pure: the only place that encodes or decodes them.
//!
//! ```text
//!  0  header_crc      u32   CRC-32 of the place (shard, segment, generation, offset) and of bytes 4..40
//!  4  payload_crc     u32   CRC-32 of the payload
//!  8  payload_length  u32
//! 12  kind            u8
//! 13  zero            3 bytes
//! 16  previous        u32   header_crc of the record before; 0 for a log's first record
//! 20  zero            u32
//! 24  term            u64
//! 32  index           u64
//! 40  payload, then zeros up to a multiple of 8
//! ```

use crate::cost;
use crate::seeded::{Bug, planted};
use kvorum_protocol::ShardId;
use kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX;
use kvorum_protocol::peer::RaftEntryKind;

/// Bytes in front of each payload. A multiple of 8, and records are 8-aligned, so payloads are too.
pub(super) const HEADER_BYTES: u32 = 40;
pub(super) const ALIGNMENT: u32 = 8;
/// What a seal takes; kept free at the end of each segment so that it can always be sealed.
pub(super) const SEAL_BYTES: u32 = HEADER_BYTES;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordKind {
    /// An entry that holds operations.
    Operations = 1,
    /// An entry that changes the membership.
    MembershipChange = 2,
    /// Term, vote and commit position.
    HardState = 3,
    /// The membership that the replica starts from.
    BootstrapMembership = 4,
    /// The segment ends here and the next one goes on.
    Seal = 5,
}

impl RecordKind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Operations,
            2 => Self::MembershipChange,
            3 => Self::HardState,
            4 => Self::BootstrapMembership,
            5 => Self::Seal,
            _ => return None,
        })
    }

    /// The kind of the record that holds an entry.
    pub(super) fn of_entry(kind: RaftEntryKind) -> Self {
        match kind {
            RaftEntryKind::Operations => Self::Operations,
            RaftEntryKind::Membership => Self::MembershipChange,
        }
    }

    /// The kind of the entry that the record holds, if it holds one.
    pub(super) fn entry_kind(self) -> Option<RaftEntryKind> {
        match self {
            Self::Operations => Some(RaftEntryKind::Operations),
            Self::MembershipChange => Some(RaftEntryKind::Membership),
            Self::HardState | Self::BootstrapMembership | Self::Seal => None,
        }
    }
}

/// The part of a record's place that is the same for a whole segment, already hashed. Because the place is in the
/// checksum, a record that lies in another file, in an earlier life of this file, or at another offset is not valid.
#[derive(Clone)]
pub(super) struct SegmentSeed {
    hasher: crc32fast::Hasher,
}

impl SegmentSeed {
    pub(super) fn new(shard: ShardId, segment: u32, generation: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&shard.0.to_le_bytes());
        hasher.update(&segment.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        Self { hasher }
    }

    /// The checksum in front of a record of a data segment.
    pub(super) fn place_crc(&self, offset: u32, record_crc: [u8; 4]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(&record_crc);
        hasher.finalize()
    }

    fn header_crc(&self, offset: u32, header: &[u8; HEADER_BYTES as usize]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(&header[4..]);
        hasher.finalize()
    }
}

/// What a header says, apart from its checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: RecordKind,
    pub(super) previous: u32,
    pub(super) term: u64,
    pub(super) index: u64,
}

/// A record whose header and payload match their checksums.
#[derive(Debug)]
pub(super) struct CheckedRecord<'a> {
    pub(super) header: Header,
    /// What the next record names as `previous`.
    pub(super) header_crc: u32,
    pub(super) payload: &'a [u8],
}

impl CheckedRecord<'_> {
    /// What it takes in the segment.
    pub(super) fn bytes(&self) -> u32 {
        record_bytes(self.payload.len() as u32)
    }
}

/// What a record with such a payload takes in the segment.
pub(super) fn record_bytes(payload_length: u32) -> u32 {
    (HEADER_BYTES + payload_length).next_multiple_of(ALIGNMENT)
}

/// Writes a record into `out`, which must be exactly as long as [`record_bytes`] says. Returns its header's checksum.
pub(super) fn encode(seed: &SegmentSeed, offset: u32, header: &Header, payload: &[u8], out: &mut [u8]) -> u32 {
    assert_eq!(out.len(), record_bytes(payload.len() as u32) as usize);
    assert!(offset.is_multiple_of(ALIGNMENT));
    cost::hashed(payload.len());
    cost::copied(payload.len());
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes[12] = header.kind as u8;
    bytes[16..20].copy_from_slice(&header.previous.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.term.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.index.to_le_bytes());
    let header_crc = seed.header_crc(offset, &bytes);
    bytes[0..4].copy_from_slice(&header_crc.to_le_bytes());

    let (head, tail) = out.split_at_mut(HEADER_BYTES as usize);
    head.copy_from_slice(&bytes);
    let (body, padding) = tail.split_at_mut(payload.len());
    body.copy_from_slice(payload);
    padding.fill(0);
    header_crc
}

/// A header that matches its checksum, and what it says of the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundHeader {
    pub(super) header: Header,
    /// What the next record names as `previous`.
    pub(super) header_crc: u32,
    pub(super) payload_crc: u32,
    pub(super) payload_length: u32,
}

/// The header of a record at `offset`; `None` if it is not valid there.
pub(super) fn read_header(seed: &SegmentSeed, offset: u32, bytes: &[u8; HEADER_BYTES as usize]) -> Option<FoundHeader> {
    // The cheap checks first: the search for a later valid record tries every aligned offset.
    let kind = RecordKind::from_number(bytes[12])?;
    let payload_length = u32_at(bytes, 8);
    let zeros = bytes[13..16] == [0; 3] && bytes[20..24] == [0; 4];
    if !zeros || payload_length as usize > RAFT_ENTRY_BYTES_MAX {
        return None;
    }
    let header_crc = u32_at(bytes, 0);
    if header_crc != seed.header_crc(offset, bytes) {
        return None;
    }
    let header = Header { kind, previous: u32_at(bytes, 16), term: u64_at(bytes, 24), index: u64_at(bytes, 32) };
    Some(FoundHeader { header, header_crc, payload_crc: u32_at(bytes, 4), payload_length })
}

/// The record at `offset` of `segment`, which is the segment's bytes from its first one. `None` if there is no valid
/// record: torn, damaged, of another place, or nothing but zeros. Costs one pass over the payload.
pub(super) fn read<'a>(seed: &SegmentSeed, segment: &'a [u8], offset: u32) -> Option<CheckedRecord<'a>> {
    let rest = segment.get(offset as usize..)?;
    let FoundHeader { header, header_crc, payload_crc, payload_length } =
        read_header(seed, offset, rest.first_chunk()?)?;
    let body = rest.get(HEADER_BYTES as usize..record_bytes(payload_length) as usize)?;
    let (payload, padding) = body.split_at(payload_length as usize);
    cost::hashed(payload.len());
    let sound = crc32fast::hash(payload) == payload_crc && padding.iter().all(|&byte| byte == 0);
    if !sound && !planted(Bug::RecordChecksumsIgnored) {
        return None;
    }
    Some(CheckedRecord { header, header_crc, payload })
}

/// Whether a valid record begins anywhere at or after `from`. For deciding what damage means, not for reading.
pub(super) fn any_valid(seed: &SegmentSeed, segment: &[u8], from: u32) -> bool {
    let end = segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u32 + 1);
    (from.next_multiple_of(ALIGNMENT)..end)
        .step_by(ALIGNMENT as usize)
        .any(|offset| read(seed, segment, offset).is_some())
}

fn u32_at(bytes: &[u8; HEADER_BYTES as usize], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes of a fixed array"))
}

fn u64_at(bytes: &[u8; HEADER_BYTES as usize], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes of a fixed array"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { kind: RecordKind::Operations, previous: 0xaabb_ccdd, term: 3, index: 9 };

    fn seed() -> SegmentSeed {
        SegmentSeed::new(ShardId(5), 2, 77)
    }

    fn segment_with(payload: &[u8], offset: u32) -> Vec<u8> {
        let mut segment = vec![0; (offset + record_bytes(payload.len() as u32)) as usize];
        encode(&seed(), offset, &HEADER, payload, &mut segment[offset as usize..]);
        segment
    }

    /// These bytes are in docs/LOG_FORMAT.md; files on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let golden: [u8; 48] = [
            0x3b, 0x70, 0xe7, 0xf9, // header_crc
            0x47, 0xdd, 0xdc, 0x79, // payload_crc
            2, 0, 0, 0, // payload_length
            1, 0, 0, 0, // kind
            0xdd, 0xcc, 0xbb, 0xaa, // previous
            0, 0, 0, 0, //
            3, 0, 0, 0, 0, 0, 0, 0, // term
            9, 0, 0, 0, 0, 0, 0, 0, // index
            b'o', b'k', 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(segment_with(b"ok", 64)[64..], golden, "{:02x?}", &segment_with(b"ok", 64)[64..]);
    }

    #[test]
    fn a_record_is_valid_in_its_own_place_only() {
        let segment = segment_with(b"payload", 64);
        let record = read(&seed(), &segment, 64).unwrap();
        assert_eq!((record.header, record.payload), (HEADER, &b"payload"[..]));
        assert!(read(&SegmentSeed::new(ShardId(6), 2, 77), &segment, 64).is_none(), "shard");
        assert!(read(&SegmentSeed::new(ShardId(5), 3, 77), &segment, 64).is_none(), "segment");
        assert!(read(&SegmentSeed::new(ShardId(5), 2, 78), &segment, 64).is_none(), "generation");
        let mut moved = segment.clone();
        moved.copy_within(64.., 56);
        assert!(read(&seed(), &moved, 56).is_none(), "offset");
    }

    #[test]
    fn every_flip_and_every_cut_is_seen() {
        let segment = segment_with(b"thirteen byte", 64);
        for byte in 64..segment.len() {
            for bit in 0..8 {
                let mut damaged = segment.clone();
                damaged[byte] ^= 1 << bit;
                assert!(read(&seed(), &damaged, 64).is_none(), "byte {byte} bit {bit}");
            }
        }
        for end in 0..segment.len() {
            assert!(read(&seed(), &segment[..end], 64).is_none(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), offset in 0u32..256) {
            prop_assert!(read(&seed(), &bytes, offset).is_none());
            prop_assert!(!any_valid(&seed(), &bytes, offset));
        }

        #[test]
        fn any_payload_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let segment = segment_with(&payload, 64);
            prop_assert_eq!(read(&seed(), &segment, 64).unwrap().payload, &payload[..]);
            prop_assert!(any_valid(&seed(), &segment, 8));
            prop_assert!(!any_valid(&seed(), &segment, 72));
        }
    }
}
