//! Segments as their readers and the journal see them, and the bytes at the front of each.
//!
//! ```text
//!  0  magic       8 bytes "KVSEG\0\0\3"; the last byte is the version ([`formats::SEGMENT`])
//!  8  shard       u16
//! 10  zero        u16
//! 12  number      u32
//! 16  generation  u64   drawn afresh for each file, so that no two lives of a number are alike
//! 24  bytes       u32   size of the file
//! 28  zero        32 bytes
//! 60  crc         u32   CRC-32 of bytes 0..60
//! ```

use super::data;
use super::error::{Damage, LogError};
use super::record::{self, CheckedRecord, SegmentSeed};
use super::state::Position;
use crate::disk::map::{Mapping, MappingWriter};
use crate::disk::{DATA_SEGMENT, Disk, DiskError, OpenedSegment, SegmentFile};
use crate::formats::{self, FormatError};
use crate::sealing::{KeyEpoch, ShardKeys};
use kvorum_protocol::ShardId;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes in front of a segment's first record.
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 64;
const MAGIC: [u8; 8] = formats::SEGMENT.magic(*b"KVSEG\0\0\0");

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(8), "records are 8-aligned");

/// One segment file, mapped. Shared by the shard's log, its readers and the journal; its memory stays until the last of
/// them lets go, even if the file has been removed.
pub struct Segment {
    shard: ShardId,
    number: u32,
    generation: u64,
    seed: SegmentSeed,
    mapping: Arc<Mapping>,
    file: Box<dyn SegmentFile>,
    /// See [`Segment::oldest_key`].
    oldest_key: OnceLock<KeyEpoch>,
}

impl Segment {
    /// Makes a new, empty segment on the disk, durable. Its watermark is just after its header.
    pub(super) fn create(
        disk: &dyn Disk,
        shard: ShardId,
        number: u32,
        bytes: u32,
    ) -> Result<(Self, MappingWriter), DiskError> {
        let generation = disk.fresh_number();
        let header = encode_header(shard, number, generation, bytes);
        let opened = disk.create_segment(shard, number, bytes, &header)?;
        opened.mapping.keep_pages_small();
        let mut writer = opened.mapping.writer().expect("a mapping just made has its writer");
        writer.advance(SEGMENT_HEADER_BYTES);
        Ok((Self::new(shard, number, generation, opened), writer))
    }

    /// A segment found on the disk, and the writer of its mapping, whose watermark is still 0.
    ///
    /// # Errors
    /// If the header is not that of this segment, or of a version that is not read.
    pub(crate) fn from_opened(
        shard: ShardId,
        number: u32,
        opened: OpenedSegment,
    ) -> Result<(Self, MappingWriter), FormatError> {
        let mut writer = opened.mapping.writer().expect("a mapping just made has its writer");
        let segment = writer.tail();
        let bytes = segment.len() as u64;
        let generation = decode_header(shard, number, bytes, segment.first_chunk().ok_or(FormatError::Damaged)?)?;
        Ok((Self::new(shard, number, generation, opened), writer))
    }

    fn new(shard: ShardId, number: u32, generation: u64, opened: OpenedSegment) -> Self {
        let seed = SegmentSeed::new(shard, number, generation);
        Self {
            shard,
            number,
            generation,
            seed,
            mapping: opened.mapping,
            file: opened.file,
            oldest_key: OnceLock::new(),
        }
    }

    /// The shard whose log it is part of.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its number in the shard's log, from 1; with [`DATA_SEGMENT`] set, that of a data segment.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Which life of that number it is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The size of its file.
    pub fn bytes(&self) -> u32 {
        self.mapping.length()
    }

    /// `length` bytes from `offset`; `None` unless all of them are below the written watermark. No checksum is verified,
    /// and pages that are not in memory are read from the disk: may block for milliseconds.
    pub fn read(&self, offset: u32, length: u32) -> Option<&[u8]> {
        self.mapping.read(offset, length)
    }

    /// How many bytes, from the file's first, are written and will not change.
    pub fn written(&self) -> u32 {
        self.mapping.written()
    }

    /// Makes everything written so far survive power loss. Blocks.
    ///
    /// # Errors
    /// Never retry.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()
    }

    /// As [`Segment::sync`], and sees to it that no page was lost.
    ///
    /// # Errors
    /// Never retry.
    pub fn sync_whole(&self) -> Result<(), LogError> {
        self.sync()?;
        if self.has_lost_pages() {
            let position = Position { segment: self.number, offset: 0 };
            return Err(LogError::Damaged { shard: self.shard, position, damage: Damage::Unreadable });
        }
        Ok(())
    }

    /// Asks for bytes of it to be in memory soon: see [`Mapping::read_ahead`].
    pub(crate) fn read_ahead(&self, offset: u32, length: u32) {
        self.mapping.read_ahead(offset, length);
    }

    /// Whether the medium failed to give or take a page of it: see [`Mapping::has_lost_pages`].
    pub(super) fn has_lost_pages(&self) -> bool {
        self.mapping.has_lost_pages()
    }

    /// The record at `offset`, its checksums verified.
    pub(super) fn record(&self, offset: u32) -> Option<CheckedRecord<'_>> {
        record::read(&self.seed, self.mapping.read(0, self.mapping.written())?, offset)
    }

    /// Whether a record of a data segment, whose own checksum is right, was written to this very place. `record` is its
    /// bytes. True for other segments, where the entry's checksum vouches for the place.
    pub fn is_in_place(&self, offset: u32, record: &[u8]) -> bool {
        self.number & DATA_SEGMENT == 0 || data::is_in_place(self, offset, record)
    }

    /// Whether it is a data segment.
    pub fn is_data(&self) -> bool {
        self.number & DATA_SEGMENT != 0
    }

    /// The oldest data key with which one of its records is sealed, epoch 0 for a plain record. `None`: nobody has looked since the segment
    /// was opened, or it had no record then.
    pub fn oldest_key(&self) -> Option<KeyEpoch> {
        self.oldest_key.get().copied()
    }

    /// Somebody has looked. Who looked first is right: what comes later is sealed with newer keys.
    pub(super) fn note_oldest_key(&self, oldest: KeyEpoch) {
        let _ = self.oldest_key.set(oldest);
    }

    pub(super) fn seed(&self) -> &SegmentSeed {
        &self.seed
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({}/{} {:016x})", self.shard, self.number, self.generation)
    }
}

pub(super) fn encode_header(
    shard: ShardId,
    number: u32,
    generation: u64,
    bytes: u32,
) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&shard.0.to_le_bytes());
    header[12..16].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&generation.to_le_bytes());
    header[24..28].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The generation, if `header` is that of this segment, whose file has so many bytes. Every version begins with the magic and has
/// a checksum of its first 60 bytes behind them.
///
/// # Errors
/// If it is not, or is of a version that is not read.
pub(super) fn decode_header(
    shard: ShardId,
    number: u32,
    bytes: u64,
    header: &[u8; SEGMENT_HEADER_BYTES as usize],
) -> Result<u64, FormatError> {
    let (content, crc) = header.split_last_chunk::<4>().expect("longer than its checksum");
    let version = formats::version_in(&MAGIC, header.first_chunk().expect("longer than its magic"));
    let version = version.filter(|_| crc32fast::hash(content).to_le_bytes() == *crc).ok_or(FormatError::Damaged)?;
    formats::SEGMENT.check(version)?;
    let generation = u64::from_le_bytes(header[16..24].try_into().expect("eight bytes of a fixed array"));
    let bytes = u32::try_from(bytes).map_err(|_| FormatError::Damaged)?;
    let is_its_own = *header == encode_header(shard, number, generation, bytes);
    if is_its_own { Ok(generation) } else { Err(FormatError::Damaged) }
}

/// A range of a segment that was appended, on its way into the journal. With no bytes it is a *mark*: everything before
/// it is durable already.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Chunk {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Where in the segment it begins.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// How many bytes it has.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The position after its last byte.
    pub fn end(&self) -> Position {
        Position { segment: self.segment.number, offset: self.offset + self.length }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.segment.read(self.offset, self.length).expect("a chunk is made of bytes that were written")
    }
}

/// A shard's log as its readers see it: which segments there are. Cheap to share; a look-up takes an uncontended read
/// lock, and the segment it returns stays readable for as long as the reader holds it.
#[derive(Debug, Default)]
pub struct LogView {
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    /// Of all segments' files.
    bytes: AtomicU64,
    /// What its records are sealed with.
    keys: Arc<ShardKeys>,
}

impl LogView {
    /// A log without segments, whose records are sealed with these keys.
    pub(crate) fn new(keys: Arc<ShardKeys>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// What its records are sealed with.
    pub fn keys(&self) -> &Arc<ShardKeys> {
        &self.keys
    }

    /// The segment of a number.
    pub fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments.read().get(&number).cloned()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn segment_count(&self) -> usize {
        self.segments.read().len()
    }

    /// What their files take on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A segment of which the medium failed to give or take a page, if there is one.
    pub(crate) fn lossy_segment(&self) -> Option<u32> {
        self.segments.read().values().find(|segment| segment.has_lost_pages()).map(|segment| segment.number)
    }

    /// Readers find it no more; those that hold it may go on.
    pub(crate) fn remove(&self, number: u32) {
        if let Some(segment) = self.segments.write().remove(&number) {
            self.bytes.fetch_sub(segment.bytes().into(), Ordering::Relaxed);
        }
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        let bytes = u64::from(segment.bytes());
        let before = self.segments.write().insert(segment.number, segment);
        assert!(before.is_none(), "a number is used once");
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; 64] {
        encode_header(ShardId(1), 2, 99, 4096)
    }

    #[test]
    fn a_header_names_its_own_file_only() {
        let damaged = Err(FormatError::Damaged);
        assert_eq!(decode_header(ShardId(1), 2, 4096, &header()), Ok(99));
        assert_eq!(decode_header(ShardId(2), 2, 4096, &header()), damaged, "shard");
        assert_eq!(decode_header(ShardId(1), 3, 4096, &header()), damaged, "number");
        assert_eq!(decode_header(ShardId(1), 2, 4000, &header()), damaged, "size");
        for byte in 0..64 {
            for bit in 0..8 {
                let mut flipped = header();
                flipped[byte] ^= 1 << bit;
                assert_eq!(decode_header(ShardId(1), 2, 4096, &flipped), damaged, "byte {byte} bit {bit}");
            }
        }
    }

    /// These bytes are in docs/LOG_FORMAT.md; files on disks hold them.
    #[test]
    fn bytes_are_frozen() {
        let mut golden = [0; 64];
        golden[..8].copy_from_slice(b"KVSEG\0\0\x03");
        golden[8..28].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
        golden[60..].copy_from_slice(&[0xb7, 0x77, 0x22, 0x74]);
        assert_eq!(header(), golden, "{:02x?}", header());
    }

    #[test]
    fn the_next_version_is_refused_by_name() {
        let mut next = header();
        next[7] = 4;
        let crc = crc32fast::hash(&next[..60]);
        next[60..].copy_from_slice(&crc.to_le_bytes());
        let refused = decode_header(ShardId(1), 2, 4096, &next).unwrap_err();
        assert!(matches!(refused, FormatError::Unsupported(version) if version.found == 4), "{refused}");
    }
}
