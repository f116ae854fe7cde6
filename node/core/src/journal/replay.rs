//! From the journal's files back into the segments. Runs once, before any shard's log is opened.

use super::error::JournalError;
use super::frame::{self, ChunkHeader, FRAME_ALIGNMENT, FramePlace, FrameSeed};
use crate::disk::Disk;
use crate::disk::map::MappingWriter;
use crate::folder::mirrored::{self, DecodeFailure, KeptError};
use crate::formats::FormatError;
use crate::log::{Position, Segment};
use crate::seeded::{Bug, planted};
use kvorum_protocol::ShardId;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the metadata file that holds the journal's identity: eight bytes and their CRC-32. Kept twice.
pub const IDENTITY_FILE: &str = "journal";

/// What replay found and did.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The end of what is durable, for each shard that the journal knows. A shard's log must reach it.
    pub durable: BTreeMap<ShardId, Position>,
    /// Rounds that were written back.
    pub rounds: u64,
    /// Chunks that were written back.
    pub chunks: u64,
    /// Chunks whose segment is gone or lives another life.
    pub skipped_chunks: u64,
    /// The newest round; 0 if there is none.
    pub(super) newest_round: u64,
    /// The files that hold rounds which the newest one needs.
    pub(super) live_files: BTreeSet<u32>,
    /// Where each shard's log ended.
    pub(super) marks: BTreeMap<ShardId, ChunkHeader>,
    pub(super) identity: Option<u64>,
}

impl Replayed {
    /// The newest round; 0 if there is none.
    pub fn newest_round(&self) -> u64 {
        self.newest_round
    }
}

/// Writes every needed round's chunks into their segments and syncs those. May be repeated: a crash during it does no
/// harm. Begins by making the disk forget what the system has cached, so that everything read from here on is on the medium.
/// Reads each journal file once; blocks.
///
/// # Errors
/// `RoundMissing`, `RoundTwice`, `RoundMeaningless`, `Identity`: the journal is damaged. `Unsupported`: another program has
/// written it. `Disk`: the medium failed.
pub fn replay(disk: &dyn Disk) -> Result<Replayed, JournalError> {
    if !disk.list_journal_files()?.is_empty() {
        // Without a journal (durability `memory`) the page cache is all that was ever promised, and must be kept.
        disk.forget_cached()?;
    }
    replay_cached(disk)
}

/// As [`replay()`], but believes what the system has cached: for a start after a clean stop, when every sync has succeeded
/// and the last process has said so on the disk. Files that are still cached needn't be read again.
///
/// # Errors
/// As [`replay()`].
pub fn replay_cached(disk: &dyn Disk) -> Result<Replayed, JournalError> {
    let files = disk.list_journal_files()?;
    let identity = read_identity(disk)?;
    let Some(identity) = identity else {
        return if files.is_empty() { Ok(Replayed::default()) } else { Err(JournalError::Identity) };
    };
    let seed = FrameSeed::new(identity);
    let needed = needed_frames(disk, &seed, &files)?;
    let mut replayer = Replayer { disk, targets: BTreeMap::new(), replayed: Replayed::default() };
    for (at, found) in (1..).zip(&needed) {
        if at > 1 && at == needed.len() && planted(Bug::NewestRoundNotReplayed) {
            break;
        }
        replayer.apply_frame(&seed, found)?;
    }
    let mut replayed = replayer.finish()?;
    replayed.newest_round = needed.last().map_or(0, |newest| newest.place.round);
    replayed.live_files = needed.iter().map(|found| found.file).collect();
    replayed.identity = Some(identity);
    Ok(replayed)
}

/// As a node starts: replays the journal, or gives it up if what is needed of it is gone, so that a new one can begin in its
/// files. What is lost with it is up to where each shard's log was durable, and what a log may lack that did not come to be
/// synced before the node ended. After a clean stop every log was: nothing is lost. Else **the node must give up all its
/// replicas** before it opens a shard: it no longer knows what they have promised.
///
/// A torn newest round is no damage. Nor is a round of a version that is not read: nothing is given up for it.
///
/// # Errors
/// If the medium failed: what it holds may be sound. `Unsupported`: likewise. `RoundTwice` and `RoundMeaningless`, see [`JournalError::is_loss`].
pub fn replay_or_give_up(
    disk: &dyn Disk,
    after_clean_stop: bool,
) -> Result<(Replayed, Option<JournalError>), JournalError> {
    let replayed = if after_clean_stop { replay_cached(disk) } else { replay(disk) };
    match replayed {
        Ok(replayed) => Ok((replayed, None)),
        // Without an identity the writer draws another, under which no frame of the old journal is valid.
        Err(damage) if damage.is_loss() => Ok((Replayed::default(), Some(damage))),
        Err(error) => Err(error),
    }
}

/// The journal's identity from the content of its file.
///
/// # Errors
/// `Identity`.
pub fn decode_identity(bytes: &[u8]) -> Result<u64, JournalError> {
    let (identity, crc) = bytes.split_first_chunk::<8>().ok_or(JournalError::Identity)?;
    let is_sound = crc == crc32fast::hash(identity).to_le_bytes();
    if is_sound { Ok(u64::from_le_bytes(*identity)) } else { Err(JournalError::Identity) }
}

/// Of the identity.
impl DecodeFailure for JournalError {}

fn read_identity(disk: &dyn Disk) -> Result<Option<u64>, JournalError> {
    mirrored::read(disk, IDENTITY_FILE, decode_identity).map_err(|error| match error {
        KeptError::Disk(error) => error.into(),
        KeptError::Damaged(error) | KeptError::Unsupported(error) => error,
    })
}

pub(super) fn write_identity(disk: &dyn Disk, identity: u64) -> Result<(), JournalError> {
    let mut bytes = identity.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    Ok(mirrored::write(disk, IDENTITY_FILE, &bytes)?)
}

/// A valid frame, where it is, and its size.
#[derive(Clone, Copy)]
struct Found {
    place: FramePlace,
    file: u32,
    offset: u32,
    bytes: u32,
}

impl Found {
    /// It lies where it was written to.
    fn is_in_place(&self) -> bool {
        (self.place.file, self.place.offset) == (self.file, self.offset)
    }
}

/// The frames that the newest round needs, itself included, in order.
///
/// A round is written only after the one before it was synced, so only the newest can be torn, and then it is as if it
/// had never been. Frames before `needed_from` are remains of recycled files.
///
/// A frame that lies elsewhere than it says was misdirected by the medium. It counts as what it says: its round may have been
/// promised. Were it the newest and left out, nothing would tell that from a torn round.
fn needed_frames(disk: &dyn Disk, seed: &FrameSeed, files: &[u32]) -> Result<Vec<Found>, JournalError> {
    let mut frames = BTreeMap::new();
    let mut astray = Vec::new();
    for &file in files {
        let mut offset = 0;
        let bytes = read_file(disk, file)?;
        while (offset as usize) < bytes.len() {
            let Some(frame) = frame::decode_anywhere(seed, &bytes[offset as usize..]) else {
                frame::check_version(seed, &bytes[offset as usize..])?;
                offset += FRAME_ALIGNMENT;
                continue;
            };
            let found = Found { place: frame.place, file, offset, bytes: frame.bytes() };
            if !found.is_in_place() {
                astray.push(found);
                // It may have covered a part of what lies behind it only.
                offset += FRAME_ALIGNMENT;
                continue;
            }
            if frames.insert(found.place.round, found).is_some() {
                return Err(JournalError::RoundTwice { round: found.place.round });
            }
            offset += found.bytes;
        }
    }
    for found in astray.into_iter().filter(|_| !planted(Bug::AstrayRoundOverlooked)) {
        frames.entry(found.place.round).or_insert(found);
    }
    let Some((&newest, last)) = frames.last_key_value() else { return Ok(Vec::new()) };
    let needed: Vec<_> = frames.range(last.place.needed_from..).map(|(_, found)| *found).collect();
    for (round, found) in (last.place.needed_from..).zip(&needed) {
        if found.place.round != round {
            return Err(JournalError::RoundMissing { round, newest });
        }
    }
    Ok(needed)
}

fn read_file(disk: &dyn Disk, number: u32) -> Result<Vec<u8>, JournalError> {
    let file = disk.open_journal_file(number)?;
    let mut bytes = vec![0; file.bytes() as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

struct Replayer<'a> {
    disk: &'a dyn Disk,
    /// The segments that chunks speak of; `None` for one that is gone or unreadable.
    targets: BTreeMap<(ShardId, u32), Option<Target>>,
    replayed: Replayed,
}

struct Target {
    segment: Segment,
    writer: MappingWriter,
    written: bool,
}

impl Replayer<'_> {
    fn apply_frame(&mut self, seed: &FrameSeed, found: &Found) -> Result<(), JournalError> {
        let meaningless = JournalError::RoundMeaningless { round: found.place.round };
        let file = self.disk.open_journal_file(found.file)?;
        let mut bytes = vec![0; found.bytes as usize];
        file.read_at(found.offset, &mut bytes)?;
        let frame = frame::decode(seed, found.place.file, found.place.offset, &bytes);
        let Some(chunks) = frame.and_then(|frame| frame.chunks()) else { return Err(meaningless) };
        for (chunk, bytes) in chunks {
            self.replayed.marks.insert(chunk.shard, chunk.mark());
            if bytes.is_empty() {
                continue;
            }
            match self.write(&chunk, bytes)? {
                Some(true) => self.replayed.chunks += 1,
                Some(false) => self.replayed.skipped_chunks += 1,
                None => return Err(meaningless),
            }
        }
        self.replayed.rounds += 1;
        Ok(())
    }

    /// Writes a chunk back. `Some(false)` if its segment is gone or lives another life; `None` if it does not fit.
    fn write(&mut self, chunk: &ChunkHeader, bytes: &[u8]) -> Result<Option<bool>, JournalError> {
        let Some(target) = self.target(chunk.shard, chunk.segment)? else { return Ok(Some(false)) };
        if target.segment.generation() != chunk.generation {
            return Ok(Some(false));
        }
        let range = chunk.offset as usize..chunk.offset as usize + bytes.len();
        let Some(place) = target.writer.tail().get_mut(range) else { return Ok(None) };
        // After kill -9 the segment holds the bytes already; a page that is not stored to stays clean.
        if place != bytes {
            place.copy_from_slice(bytes);
        }
        target.written = true;
        Ok(Some(true))
    }

    fn target(&mut self, shard: ShardId, number: u32) -> Result<Option<&mut Target>, JournalError> {
        if !self.targets.contains_key(&(shard, number)) {
            let opened = self.disk.open_segment(shard, number)?;
            let found = match opened.map(|opened| Segment::from_opened(shard, number, opened)) {
                Some(Ok(found)) => Some(found),
                // What is durable of a damaged segment is missed when its log is opened.
                None | Some(Err(FormatError::Damaged)) => None,
                Some(Err(FormatError::Unsupported(version))) => return Err(version.into()),
            };
            let target = found.map(|(segment, writer)| Target { segment, writer, written: false });
            self.targets.insert((shard, number), target);
        }
        Ok(self.targets.get_mut(&(shard, number)).and_then(Option::as_mut))
    }

    /// Makes what was written back durable, and says up to where each shard's log is.
    fn finish(mut self) -> Result<Replayed, JournalError> {
        let mut marks = std::mem::take(&mut self.replayed.marks);
        for mark in marks.values() {
            self.target(mark.shard, mark.segment)?;
        }
        // A mark in an earlier life of its segment says nothing of this one. If the segment is gone or unreadable, the
        // mark stays: the shard's log will be found to end early.
        marks.retain(|_, mark| {
            let target = self.targets.get(&(mark.shard, mark.segment)).and_then(Option::as_ref);
            target.is_none_or(|target| target.segment.generation() == mark.generation)
        });
        for target in self.targets.values_mut().flatten().filter(|target| target.written) {
            target.writer.advance(target.segment.bytes() - target.writer.written());
            target.segment.sync()?;
        }
        self.replayed.durable = marks.iter().map(|(shard, mark)| (*shard, mark.end())).collect();
        self.replayed.marks = marks;
        Ok(self.replayed)
    }
}
