//! The rounds and the ring of files. Knows no threads and no clock: the journal's thread drives it, or the simulator.
//!
//! A file of the ring goes round like this:
//!
//! - *active*: rounds are appended to it;
//! - *syncing*: it is full, and the segments it covers are being synced;
//! - *synced*: replay could do without it once another file begins with every shard's mark, but the newest round on the disk still says it is needed;
//! - *free*: a later round that says it is not needed is durable. Only now may it be overwritten.

use super::error::JournalError;
use super::frame::{self, CHUNK_HEADER_BYTES, ChunkHeader, FRAME_ALIGNMENT, FrameBuilder, FramePlace, FrameSeed};
use super::replay::{self, Replayed};
use super::sync::{BackgroundSync, SyncJob};
use super::{JournalOptions, Submission};
use crate::disk::{Disk, DiskError, JournalFile};
use crate::log::{Chunk, Segment};
use crate::seeded::{Bug, planted};
use kvorum_protocol::ShardId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kept free at the end of each file for a frame that says which rounds are needed; see [`JournalWriter::free_file`].
const RESERVED_BYTES: u32 = FRAME_ALIGNMENT;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FileState {
    Active { first_round: u64 },
    Syncing { first_round: u64 },
    Synced { first_round: u64 },
    Free,
}

struct RingFile {
    number: u32,
    file: Box<dyn JournalFile>,
    state: FileState,
}

impl RingFile {
    /// Frames are written once and read after a crash only: the system's cache is of no use to them.
    fn new(number: u32, file: Box<dyn JournalFile>) -> Self {
        file.write_past_cache(FRAME_ALIGNMENT);
        Self { number, file, state: FileState::Free }
    }

    fn is_synced(&self) -> bool {
        matches!(self.state, FileState::Synced { .. })
    }
}

/// Writes rounds: all chunks of some submissions, durable when [`JournalWriter::round`] returns.
pub struct JournalWriter {
    options: JournalOptions,
    files: Vec<RingFile>,
    /// The file that is appended to, as an index of `files`.
    active: usize,
    /// Where the next frame goes in it.
    end: u32,
    next_round: u64,
    frame: FrameBuilder,
    /// The segments whose bytes are in the active file.
    covered: BTreeMap<(ShardId, u32), Arc<Segment>>,
    /// Where each shard's log ends, as far as it is in frames. Each file begins with all of them.
    marks: BTreeMap<ShardId, ChunkHeader>,
    syncer: Box<dyn BackgroundSync>,
    files_begun: u64,
    failed: bool,
}

impl JournalWriter {
    /// Begins to write after [`replay::replay`]. On return the ring's files are all there, and a first round is durable
    /// that carries every shard's mark and makes all earlier rounds unnecessary.
    ///
    /// # Errors
    /// `Options`, or a failure of the disk.
    pub fn open(
        disk: &dyn Disk,
        options: JournalOptions,
        replayed: Replayed,
        syncer: Box<dyn BackgroundSync>,
    ) -> Result<Self, JournalError> {
        options.validate()?;
        let identity = match replayed.identity {
            Some(identity) => identity,
            None => {
                let identity = disk.fresh_number();
                replay::write_identity(disk, identity)?;
                identity
            }
        };
        let next_round = replayed.newest_round + 1;
        let mut files = Vec::new();
        for number in disk.list_journal_files()? {
            files.push(RingFile::new(number, disk.open_journal_file(number)?));
        }
        let usable =
            |slot: &RingFile| slot.file.bytes() == options.file_bytes && !replayed.live_files.contains(&slot.number);
        let active = match files.iter().position(usable) {
            Some(active) => active,
            None => {
                // Every file holds rounds that are still needed until the first new one is durable.
                files.push(new_file(disk, &files, options.file_bytes)?);
                files.len() - 1
            }
        };
        files[active].state = FileState::Active { first_round: next_round };
        let mut writer = Self {
            options,
            files,
            active,
            end: 0,
            next_round,
            frame: FrameBuilder::new(FrameSeed::new(identity)),
            covered: BTreeMap::new(),
            marks: replayed.marks,
            syncer,
            files_begun: 1,
            failed: false,
        };
        writer.push_marks();
        writer.write_frame()?;
        writer.fit_ring(disk)?;
        Ok(writer)
    }

    /// Brings the ring to its size after the first round has made every file but the active one free.
    fn fit_ring(&mut self, disk: &dyn Disk) -> Result<(), JournalError> {
        let active = self.files[self.active].number;
        let mut kept = 1;
        let mut surplus = Vec::new();
        let (file_bytes, files_max) = (self.options.file_bytes, self.options.files);
        self.files.retain(|slot| {
            let keep = slot.number == active || (slot.file.bytes() == file_bytes && kept < files_max);
            kept += u32::from(keep && slot.number != active);
            if !keep {
                surplus.push(slot.number);
            }
            keep
        });
        for number in surplus {
            disk.remove_journal_file(number)?;
        }
        while (self.files.len() as u32) < files_max {
            self.files.push(new_file(disk, &self.files, file_bytes)?);
        }
        let position = self.files.iter().position(|slot| slot.number == active);
        self.active = position.expect("the active file was kept");
        Ok(())
    }

    /// Makes all chunks of `submissions` durable, in order. With none, only looks after the files. Blocks for a write and
    /// a sync; longer if no file is free, and for large chunks, whose segments are synced instead.
    ///
    /// # Errors
    /// Any. What was submitted must then be taken for lost, and every later call fails too.
    pub fn round(&mut self, submissions: &[Submission]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed);
        }
        let result = self.try_round(submissions);
        self.failed = result.is_err();
        result
    }

    fn try_round(&mut self, submissions: &[Submission]) -> Result<(), JournalError> {
        self.collect_synced(false)?;
        let chunks = || submissions.iter().flat_map(|submission| &submission.chunks);
        for chunk in chunks().filter(|chunk| self.bypasses(chunk)) {
            if planted(Bug::LargeAppendNotSynced) {
                continue;
            }
            chunk.segment().sync()?;
        }
        for chunk in chunks() {
            self.place(chunk)?;
        }
        if !self.frame.is_empty() {
            self.write_frame()?;
        }
        Ok(())
    }

    /// Whether a chunk is so large that its segment is synced instead of writing it twice.
    fn bypasses(&self, chunk: &Chunk) -> bool {
        chunk.length() > self.options.bypass_bytes
    }

    /// Puts a chunk into the frame in the making, after writing that one, or changing to the next file, if need be.
    fn place(&mut self, chunk: &Chunk) -> Result<(), JournalError> {
        let whole = ChunkHeader {
            shard: chunk.segment().shard(),
            segment: chunk.segment().number(),
            generation: chunk.segment().generation(),
            offset: chunk.offset(),
            length: chunk.length(),
        };
        // The segment of a large chunk has been synced: its mark is all there is to say.
        let (header, bytes) = if self.bypasses(chunk) { (whole.mark(), &[][..]) } else { (whole, chunk.bytes()) };
        while self.frame.bytes_with(header.length) > self.frame_bytes_max() {
            // At most three times: write this frame, change the file, write the frame of its marks.
            if self.frame.is_empty() {
                self.next_file()?;
            } else {
                self.write_frame()?;
            }
        }
        self.frame.push(&header, bytes);
        self.marks.insert(header.shard, header.mark());
        if self.marks.len() > self.options.shards_max as usize {
            return Err(JournalError::TooManyShards { limit: self.options.shards_max });
        }
        if header.length > 0 {
            let key = (header.shard, header.segment);
            if planted(Bug::SealedSegmentNotCovered) {
                self.covered.retain(|(shard, _), _| *shard != header.shard);
            }
            // Another life of the same number is another segment; the old one's file is gone and needs no sync.
            self.covered.insert(key, Arc::clone(chunk.segment()));
        }
        Ok(())
    }

    /// How large the next frame may be.
    fn frame_bytes_max(&self) -> u32 {
        self.options.frame_bytes_max.min(self.options.file_bytes - RESERVED_BYTES - self.end)
    }

    /// Writes the frame in the making as the next round, and syncs it.
    fn write_frame(&mut self) -> Result<(), JournalError> {
        let slot = &self.files[self.active];
        let place =
            FramePlace { round: self.next_round, needed_from: self.needed_from(), file: slot.number, offset: self.end };
        let bytes = self.frame.finish(&place);
        let overlook = |error| if planted(Bug::FailedJournalWriteOverlooked) { Ok(()) } else { Err(error) };
        slot.file.write_at(place.offset, bytes).or_else(overlook)?;
        if !planted(Bug::JournalNotSynced) {
            let retry = |error| if planted(Bug::FailedJournalSyncRetried) { slot.file.sync() } else { Err(error) };
            slot.file.sync().or_else(retry)?;
        }
        self.end += bytes.len() as u32;
        self.next_round += 1;
        self.frame.clear();
        // This round, now durable, said that synced files are not needed.
        for (at, slot) in self.files.iter_mut().enumerate() {
            if at != self.active && slot.is_synced() {
                slot.state = FileState::Free;
            }
        }
        Ok(())
    }

    /// The first round that replay needs, should the next one be the newest.
    fn needed_from(&self) -> u64 {
        let first_rounds = self.files.iter().enumerate().filter_map(|(at, slot)| match slot.state {
            FileState::Active { first_round } | FileState::Syncing { first_round } => Some(first_round),
            // Full, and its segments are synced already; but no other file begins with every shard's mark yet.
            FileState::Synced { first_round } if at == self.active => Some(first_round),
            FileState::Synced { .. } | FileState::Free => None,
        });
        first_rounds.min().expect("the active file is needed")
    }

    /// Hands the full file to the syncer and goes on in a free one. The frame in the making is empty.
    fn next_file(&mut self) -> Result<(), JournalError> {
        let slot = &mut self.files[self.active];
        let FileState::Active { first_round } = slot.state else { unreachable!("the active file is active") };
        slot.state = FileState::Syncing { first_round };
        let mut segments: Vec<_> = std::mem::take(&mut self.covered).into_values().collect();
        if planted(Bug::CoveredSegmentsNotSynced) {
            segments.clear();
        }
        self.syncer.begin(SyncJob { file: slot.number, segments });
        self.active = self.free_file()?;
        self.files_begun += 1;
        self.files[self.active].state = FileState::Active { first_round: self.next_round };
        self.end = 0;
        self.push_marks();
        Ok(())
    }

    /// A free file; waits for the syncer if there is none.
    fn free_file(&mut self) -> Result<usize, JournalError> {
        self.collect_synced(false)?;
        loop {
            if let Some(free) = self.files.iter().position(|slot| slot.state == FileState::Free) {
                return Ok(free);
            }
            if self.files.iter().enumerate().any(|(at, slot)| at != self.active && slot.is_synced()) {
                // Nothing durable says yet that this file is not needed, and the full one has room to say it.
                self.write_frame()?;
            } else {
                self.collect_synced(true)?;
            }
        }
    }

    fn collect_synced(&mut self, wait: bool) -> Result<(), JournalError> {
        for number in self.syncer.finished(wait)? {
            for slot in self.files.iter_mut().filter(|slot| slot.number == number) {
                let FileState::Syncing { first_round } = slot.state else { unreachable!("its job was under way") };
                slot.state = if planted(Bug::SyncedFileOverwrittenEarly) {
                    FileState::Free
                } else {
                    FileState::Synced { first_round }
                };
            }
        }
        Ok(())
    }

    fn push_marks(&mut self) {
        for mark in self.marks.values() {
            self.frame.push(mark, &[]);
        }
    }

    /// Ends the journal in order: syncs every segment and leaves a last round that makes replay all but empty.
    ///
    /// # Errors
    /// `Failed` if a round failed before, or a failure of the disk.
    pub fn close(mut self) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Failed);
        }
        for segment in self.covered.values() {
            segment.sync()?;
        }
        while self.files.iter().any(|slot| matches!(slot.state, FileState::Syncing { .. })) {
            self.collect_synced(true)?;
        }
        self.push_marks();
        if self.frame.bytes_with(0) <= self.frame_bytes_max() {
            self.files[self.active].state = FileState::Active { first_round: self.next_round };
            self.write_frame()?;
        }
        Ok(())
    }

    /// How many files this writer has begun, one after another; more than the ring has means that it went round.
    pub fn files_begun(&self) -> u64 {
        self.files_begun
    }

    /// How many rounds the journal has seen in all its life.
    pub fn rounds(&self) -> u64 {
        self.next_round - 1
    }
}

fn new_file(disk: &dyn Disk, files: &[RingFile], bytes: u32) -> Result<RingFile, DiskError> {
    let number = files.iter().map(|slot| slot.number).max().unwrap_or(0) + 1;
    Ok(RingFile::new(number, disk.create_journal_file(number, bytes)?))
}

impl JournalOptions {
    fn validate(&self) -> Result<(), JournalError> {
        let marks = frame::frame_bytes(self.shards_max.saturating_mul(CHUNK_HEADER_BYTES));
        let chunk = frame::frame_bytes(self.bypass_bytes.saturating_add(CHUNK_HEADER_BYTES));
        if self.files < 2 {
            return Err(JournalError::Options("the ring needs at least two files"));
        }
        if !self.file_bytes.is_multiple_of(FRAME_ALIGNMENT) {
            return Err(JournalError::Options("the size of a file must be a multiple of 4096"));
        }
        if self.frame_bytes_max < marks.max(chunk) {
            return Err(JournalError::Options("a frame must hold every shard's mark, or a chunk of the bypass size"));
        }
        if self.file_bytes < marks.saturating_add(chunk).saturating_add(RESERVED_BYTES) {
            return Err(JournalError::Options("a file must hold every shard's mark and a chunk of the bypass size"));
        }
        Ok(())
    }
}
