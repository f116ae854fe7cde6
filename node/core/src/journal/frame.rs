//! The bytes of one journal round. Pure: the only place that encodes or decodes them.
//!
//! ```text
//!  0  magic         4 bytes "KVJ\x01"; the last byte is the version ([`formats::JOURNAL`])
//!  4  header_crc    u32   CRC-32 of the journal's identity and of bytes 8..48
//!  8  round         u64   grows by one from round to round, over all files, for ever
//! 16  needed_from   u64   replay needs the rounds from this one to the newest
//! 24  body_length   u32
//! 28  body_crc      u32   CRC-32 of the body
//! 32  chunk_count   u32
//! 36  file          u32   number of the file that holds the frame
//! 40  offset        u32   where in the file it begins
//! 44  zero          u32
//! 48  body: chunks, each
//!       shard u16, zero u16, segment u32, generation u64, offset u32, length u32, then length bytes
//!     zeros up to a multiple of 4096
//! ```

use crate::formats::{self, UnsupportedVersion};
use crate::log::Position;
use crate::seeded::{Bug, planted};
use kvorum_protocol::ShardId;

/// Frames begin at multiples of this, so that no write touches a block that holds an earlier round.
pub(super) const FRAME_ALIGNMENT: u32 = 4096;
/// Bytes in front of the body.
pub(super) const HEADER_BYTES: u32 = 48;
/// Bytes in front of each chunk.
pub(super) const CHUNK_HEADER_BYTES: u32 = 24;
const MAGIC: [u8; 4] = formats::JOURNAL.magic(*b"KVJ\0");

/// What a frame with such a body takes in its file.
pub(super) const fn frame_bytes(body: u32) -> u32 {
    (HEADER_BYTES + body).next_multiple_of(FRAME_ALIGNMENT)
}

/// Which bytes of which segment a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkHeader {
    pub(super) shard: ShardId,
    pub(super) segment: u32,
    pub(super) generation: u64,
    pub(super) offset: u32,
    /// 0 makes it a mark: everything before it is durable.
    pub(super) length: u32,
}

impl ChunkHeader {
    pub(super) fn end(&self) -> Position {
        Position { segment: self.segment, offset: self.offset.saturating_add(self.length) }
    }

    /// The mark at the chunk's end.
    pub(super) fn mark(&self) -> Self {
        Self { offset: self.end().offset, length: 0, ..*self }
    }
}

/// The journal's identity, hashed: a frame of another journal is not valid, nor one that a client wrote as a value.
#[derive(Clone, Debug)]
pub(super) struct FrameSeed {
    hasher: crc32fast::Hasher,
}

impl FrameSeed {
    pub(super) fn new(identity: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&identity.to_le_bytes());
        Self { hasher }
    }

    fn header_crc(&self, header: &[u8; HEADER_BYTES as usize]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&header[8..]);
        hasher.finalize()
    }

    /// The checksum in a header of any other version: it covers the version, so that damage to that makes a header no other
    /// version's.
    fn later_header_crc(&self, header: &[u8; HEADER_BYTES as usize]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&header[..4]);
        hasher.update(&header[8..]);
        hasher.finalize()
    }
}

/// Where a frame lies and what it says of its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FramePlace {
    pub(super) round: u64,
    pub(super) needed_from: u64,
    pub(super) file: u32,
    pub(super) offset: u32,
}

/// A frame in the making. Keeps its memory from round to round.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    seed: FrameSeed,
    buffer: Vec<u8>,
    /// Where the frame begins in the buffer: its memory is aligned as its place in the file is, so that it can be written
    /// past the system's cache.
    start: usize,
    chunks: u32,
}

impl FrameBuilder {
    pub(super) fn new(seed: FrameSeed) -> Self {
        let mut builder = Self { seed, buffer: Vec::new(), start: 0, chunks: 0 };
        builder.clear();
        builder
    }

    pub(super) fn clear(&mut self) {
        self.buffer.truncate(self.start);
        self.buffer.resize(self.start + HEADER_BYTES as usize, 0);
        self.chunks = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// What the frame takes in its file once a chunk of `length` bytes has been added.
    pub(super) fn bytes_with(&self, length: u32) -> u32 {
        let so_far = (self.buffer.len() - self.start) as u32;
        frame_bytes(so_far - HEADER_BYTES + CHUNK_HEADER_BYTES + length)
    }

    pub(super) fn push(&mut self, chunk: &ChunkHeader, bytes: &[u8]) {
        assert_eq!(chunk.length as usize, bytes.len());
        self.buffer.extend_from_slice(&chunk.shard.0.to_le_bytes());
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&chunk.segment.to_le_bytes());
        self.buffer.extend_from_slice(&chunk.generation.to_le_bytes());
        self.buffer.extend_from_slice(&chunk.offset.to_le_bytes());
        self.buffer.extend_from_slice(&chunk.length.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        self.chunks += 1;
    }

    /// The frame's bytes, checksums and padding included. Their memory is aligned to [`FRAME_ALIGNMENT`].
    pub(super) fn finish(&mut self, place: &FramePlace) -> &[u8] {
        let body = &self.buffer[self.start + HEADER_BYTES as usize..];
        let padded = frame_bytes(body.len() as u32) as usize;
        let mut header = [0; HEADER_BYTES as usize];
        header[0..4].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&place.round.to_le_bytes());
        header[16..24].copy_from_slice(&place.needed_from.to_le_bytes());
        header[24..28].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[28..32].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        header[32..36].copy_from_slice(&self.chunks.to_le_bytes());
        header[36..40].copy_from_slice(&place.file.to_le_bytes());
        header[40..44].copy_from_slice(&place.offset.to_le_bytes());
        let crc = self.seed.header_crc(&header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.buffer[self.start..][..HEADER_BYTES as usize].copy_from_slice(&header);
        self.buffer.resize(self.start + padded, 0);
        self.align();
        &self.buffer[self.start..]
    }

    /// The buffer may have grown, and lie elsewhere than when the frame began. Then the frame is moved, into a buffer with
    /// room for twice as much: that becomes rare.
    fn align(&mut self) {
        let alignment = FRAME_ALIGNMENT as usize;
        if self.buffer[self.start..].as_ptr().align_offset(alignment) == 0 {
            return;
        }
        let frame = &self.buffer[self.start..];
        let mut buffer: Vec<u8> = Vec::with_capacity(2 * frame.len() + alignment);
        let start = buffer.as_ptr().align_offset(alignment);
        buffer.resize(start, 0);
        buffer.extend_from_slice(frame);
        (self.buffer, self.start) = (buffer, start);
    }
}

/// A frame whose checksums match.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) place: FramePlace,
    chunk_count: u32,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What it takes in its file.
    pub(super) fn bytes(&self) -> u32 {
        frame_bytes(self.body.len() as u32)
    }

    /// Its chunks, in the order in which they were submitted; `None` if the body does not hold what it should.
    pub(super) fn chunks(&self) -> Option<Vec<(ChunkHeader, &'a [u8])>> {
        let mut rest = self.body;
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let (header, tail) = rest.split_first_chunk::<{ CHUNK_HEADER_BYTES as usize }>()?;
            let chunk = ChunkHeader {
                shard: ShardId(u16::from_le_bytes([header[0], header[1]])),
                segment: u32_at(header, 4),
                generation: u64_at(header, 8),
                offset: u32_at(header, 16),
                length: u32_at(header, 20),
            };
            let (bytes, after) = tail.split_at_checked(chunk.length as usize)?;
            chunks.push((chunk, bytes));
            rest = after;
        }
        (chunks.len() == self.chunk_count as usize).then_some(chunks)
    }
}

/// Looks whether `bytes` begin with a frame of this journal whose version is not read. To be asked where [`decode`] finds none.
///
/// # Errors
/// If they do.
pub(super) fn check_version(seed: &FrameSeed, bytes: &[u8]) -> Result<(), UnsupportedVersion> {
    let Some(header) = bytes.first_chunk::<{ HEADER_BYTES as usize }>() else { return Ok(()) };
    let version = formats::version_in(&MAGIC, header.first_chunk().expect("longer than its magic"));
    match version.filter(|_| u32_at(header, 4) == seed.later_header_crc(header)) {
        Some(version) => formats::JOURNAL.check(version),
        None => Ok(()),
    }
}

/// The frame at `offset` of a file, whose bytes from there on are `bytes`. `None` if there is no valid one, or one that was to be
/// written elsewhere.
pub(super) fn decode<'a>(seed: &FrameSeed, file: u32, offset: u32, bytes: &'a [u8]) -> Option<Frame<'a>> {
    decode_anywhere(seed, bytes).filter(|frame| frame.place.file == file && frame.place.offset == offset)
}

/// The frame with which `bytes` begin, wherever it was to be written. `None` if there is no valid one.
pub(super) fn decode_anywhere<'a>(seed: &FrameSeed, bytes: &'a [u8]) -> Option<Frame<'a>> {
    let (header, rest) = bytes.split_first_chunk::<{ HEADER_BYTES as usize }>()?;
    if header[0..4] != MAGIC || u32_at(header, 4) != seed.header_crc(header) {
        return None;
    }
    let place = FramePlace {
        round: u64_at(header, 8),
        needed_from: u64_at(header, 16),
        file: u32_at(header, 36),
        offset: u32_at(header, 40),
    };
    let body = rest.get(..u32_at(header, 24) as usize)?;
    if place.needed_from > place.round {
        return None;
    }
    if crc32fast::hash(body) != u32_at(header, 28) && !planted(Bug::FrameChecksumIgnored) {
        return None;
    }
    Some(Frame { place, chunk_count: u32_at(header, 32), body })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the caller's array holds the field"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the caller's array holds the field"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: FramePlace = FramePlace { round: 7, needed_from: 3, file: 2, offset: 8192 };

    fn chunk(length: u32) -> ChunkHeader {
        ChunkHeader { shard: ShardId(5), segment: 2, generation: 77, offset: 64, length }
    }

    fn frame() -> Vec<u8> {
        let mut builder = FrameBuilder::new(FrameSeed::new(1));
        builder.push(&chunk(3), b"abc");
        builder.push(&chunk(3).mark(), b"");
        builder.finish(&PLACE).to_vec()
    }

    /// These bytes are in docs/LOG_FORMAT.md; files on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let mut golden = vec![0; 4096];
        golden[..4].copy_from_slice(b"KVJ\x01");
        golden[4..8].copy_from_slice(&[0xb6, 0xcc, 0x01, 0x4e]);
        golden[8] = 7;
        golden[16] = 3;
        golden[24] = 51;
        golden[28..32].copy_from_slice(&[0x61, 0xcd, 0x06, 0xfb]);
        golden[32] = 2;
        golden[36] = 2;
        golden[41] = 0x20;
        golden[48..75].copy_from_slice(b"\x05\0\0\0\x02\0\0\0\x4d\0\0\0\0\0\0\0\x40\0\0\0\x03\0\0\0abc");
        golden[75..99].copy_from_slice(b"\x05\0\0\0\x02\0\0\0\x4d\0\0\0\0\0\0\0\x43\0\0\0\0\0\0\0");
        assert!(frame() == golden, "{:02x?}", &frame()[..100]);
    }

    #[test]
    fn the_next_version_is_refused_by_name_and_a_flip_makes_none() {
        let seed = FrameSeed::new(1);
        let next_of = |bytes: &[u8]| {
            let mut next = bytes.to_vec();
            next[3] = 2;
            let crc = seed.later_header_crc(next.first_chunk().unwrap());
            next[4..8].copy_from_slice(&crc.to_le_bytes());
            next
        };
        let next = next_of(&frame());
        assert_eq!(&next[..8], b"KVJ\x02\x5c\xc3\xdf\xab", "{:02x?}", &next[..8]);
        assert!(decode(&seed, 2, 8192, &next).is_none());
        let refused = check_version(&seed, &next).unwrap_err().to_string();
        assert_eq!(refused, "the journal has version 2, and this program reads version 1: start a newer program");
        assert_eq!(check_version(&FrameSeed::new(2), &next), Ok(()), "another journal's");
        for byte in 0..HEADER_BYTES as usize {
            for bit in 0..8 {
                let mut damaged = frame();
                damaged[byte] ^= 1 << bit;
                assert_eq!(check_version(&seed, &damaged), Ok(()), "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn frames_lie_in_memory_as_they_do_in_their_files() {
        let mut builder = FrameBuilder::new(FrameSeed::new(1));
        for length in [0, 1, 4000, 5000, 100_000, 3, 1_000_000, 2_000_000, 0] {
            let bytes = vec![7; length];
            builder.push(&chunk(length as u32), &bytes);
            assert_eq!(builder.bytes_with(0), frame_bytes(2 * CHUNK_HEADER_BYTES + length as u32));
            let finished = builder.finish(&PLACE);
            assert_eq!(finished.as_ptr().align_offset(FRAME_ALIGNMENT as usize), 0, "{length} bytes");
            let frame = decode(&FrameSeed::new(1), 2, 8192, finished).unwrap();
            assert_eq!(frame.bytes() as usize, finished.len());
            assert_eq!(frame.chunks().unwrap(), [(chunk(length as u32), &bytes[..])]);
            builder.clear();
        }
    }

    #[test]
    fn chunks_come_back_in_order() {
        let bytes = frame();
        let frame = decode(&FrameSeed::new(1), 2, 8192, &bytes).unwrap();
        assert_eq!((frame.place, frame.bytes()), (PLACE, 4096));
        let mark = ChunkHeader { offset: 67, length: 0, ..chunk(0) };
        assert_eq!(frame.chunks().unwrap(), [(chunk(3), &b"abc"[..]), (mark, &b""[..])]);
    }

    #[test]
    fn a_frame_is_valid_in_its_own_place_only() {
        let bytes = frame();
        assert!(decode(&FrameSeed::new(2), 2, 8192, &bytes).is_none(), "journal");
        assert!(decode(&FrameSeed::new(1), 3, 8192, &bytes).is_none(), "file");
        assert!(decode(&FrameSeed::new(1), 2, 4096, &bytes).is_none(), "offset");
    }

    #[test]
    fn every_flip_and_every_cut_is_seen() {
        let bytes = frame();
        for byte in 0..99 {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 1 << bit;
                assert!(decode(&FrameSeed::new(1), 2, 8192, &damaged).is_none(), "byte {byte} bit {bit}");
            }
            assert!(decode(&FrameSeed::new(1), 2, 8192, &bytes[..byte]).is_none(), "cut at {byte}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..4) {
            let _ = decode(&FrameSeed::new(1), 2, 0, &body).is_none();
            let frame = Frame { place: PLACE, chunk_count: count, body: &body };
            if let Some(chunks) = frame.chunks() {
                prop_assert_eq!(chunks.len(), count as usize);
            }
        }
    }
}
