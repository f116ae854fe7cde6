//! Decides what is due for one replica, and takes in what came of it.

use super::permits::{DumpPermit, DumpPermits};
use super::{Done, Job, JobKind, Leash, Plan, UpkeepOptions, Usage, decide};
use crate::clock::Nanos;
use crate::log::{Checkpoint, Compacted, LogError, SegmentUse};
use crate::seeded::{Bug, planted};
use crate::shard::checkpoint::CheckpointCapture;
use crate::shard::{Shard, ShardError};
use crate::store::CaptureSlice;
use kvorum_protocol::LogIndex;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// The log goes on in another segment no more often, whatever it holds: a leader that has not heard of the key in use yet seals with the one
/// before, and each entry of it makes the active segment one with an old key.
const ROLL_EVERY_MS: u64 = 10_000;
/// How often the files are looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// After this long, what found no room is tried again.
const FULL_RETRY_MS: u64 = 5_000;
/// After this long, whoever found too many checkpoints under way looks again.
const BUSY_RETRY_MS: u64 = 100;
/// Bytes of a slot of the index on the disk.
const SLOT_BYTES: u64 = 16;

/// The keeper of one replica's files. One job at a time is under way.
pub(in crate::shard) struct Keeper {
    options: UpkeepOptions,
    /// Those that the work under way began with: what a checkpoint keeps must be what the compaction before it kept.
    in_use: UpkeepOptions,
    permits: Arc<DumpPermits>,
    leash: Arc<Leash>,
    state: State,
    look_at: Nanos,
    /// The log may go on in another segment from then on, to have the active one emptied.
    roll_at: Nanos,
    counts: UpkeepCounts,
}

/// What was done since the replica was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepCounts {
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// Compactions that ran to their end.
    pub compactions: u32,
    /// Bytes that they read.
    pub compaction_bytes_read: u64,
    /// Bytes that they wrote.
    pub compaction_bytes_written: u64,
    /// As of now: bytes of segments with something that is plain, or sealed with an older data key than the one in use. 0 if nothing is sealed.
    pub old_key_bytes: u64,
}

enum State {
    Resting,
    LookingForKeys,
    Syncing,
    Compacting,
    /// The index is being pointed at the copies, slice by slice: those before that number are done.
    TakingOver(Compacted, usize),
    /// The state is being written down, slice by slice, for a checkpoint that names what was compacted, if anything was.
    Capturing(CheckpointCapture, Option<Compacted>, DumpPermit),
    /// The index points into what was compacted; a checkpoint must name it. There was no room for one, on the disk or in memory.
    Unnamed(Compacted),
    Writing(Arc<Checkpoint>, Option<Compacted>, DumpPermit),
    /// The checkpoint is still held, and its dump with it.
    Removing(#[expect(dead_code, reason = "ends with the state")] DumpPermit),
}

impl Keeper {
    pub(in crate::shard) fn new(options: UpkeepOptions, permits: Arc<DumpPermits>) -> Self {
        let (state, counts) = (State::Resting, UpkeepCounts::default());
        let (look_at, roll_at) = Default::default();
        Self { options, in_use: options, permits, leash: Leash::new(), state, look_at, roll_at, counts }
    }

    pub(in crate::shard) fn counts(&self) -> UpkeepCounts {
        self.counts
    }

    /// Whether nothing is under way.
    pub(in crate::shard) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    /// No job of this replica touches its files from here on.
    pub(in crate::shard) fn let_go(&self) {
        self.leash.cut();
    }

    fn job(&self, work: JobKind) -> Job {
        Job { leash: Arc::clone(&self.leash), work }
    }

    /// What is due, if anything is.
    ///
    /// # Errors
    /// If the replica can't go on.
    pub(in crate::shard) fn handle_tick(&mut self, shard: &mut Shard, now: Nanos) -> Result<Option<Job>, ShardError> {
        if now < self.look_at {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::Resting) {
            State::Resting => {
                self.look_at = now.after_ms(LOOK_EVERY_MS);
                self.look(shard, now)
            }
            State::Unnamed(compacted) => {
                self.look_at = now.after_ms(FULL_RETRY_MS);
                Ok(self.write(shard, now, Some(compacted)))
            }
            busy => {
                self.state = busy;
                Ok(None)
            }
        }
    }

    fn look(&mut self, shard: &mut Shard, now: Nanos) -> Result<Option<Job>, ShardError> {
        self.in_use = if shard.disk_is_full() { self.options.on_a_full_disk() } else { self.options };
        let sealing = shard.log().sealing_progress(self.keep_from(shard));
        self.counts.old_key_bytes = sealing.old_bytes;
        if !sealing.unknown.is_empty() {
            let look = shard.log().look_for_keys(sealing.unknown, self.options.round_bytes_max);
            self.state = State::LookingForKeys;
            return Ok(Some(self.job(JobKind::LookForKeys(look))));
        }
        if sealing.active
            && now >= self.roll_at
            && let Some(left) = shard.roll_log()?
        {
            self.roll_at = now.after_ms(ROLL_EVERY_MS);
            if planted(Bug::RolledSegmentNotSynced) {
                shard.note_synced();
                self.in_use.retain_bytes = 0;
                return Ok(self.look_at_files(shard, now));
            }
            self.state = State::Syncing;
            return Ok(Some(self.job(JobKind::Sync(left))));
        }
        if sealing.retained {
            // Nothing old is kept for replicas that lag: they get a snapshot.
            self.in_use.retain_bytes = 0;
        }
        Ok(self.look_at_files(shard, now))
    }

    fn look_at_files(&mut self, shard: &mut Shard, now: Nanos) -> Option<Job> {
        let (log, reader) = (shard.log(), shard.reader());
        let keep_from = self.keep_from(shard);
        let usage = |segment: SegmentUse| Usage { segment, live_bytes: reader.live_bytes(segment.number) };
        let segments: Vec<Usage> = log.compactable(keep_from).into_iter().map(usage).collect();
        let index_bytes = reader.keys() * SLOT_BYTES;
        match decide(&self.in_use, &segments, reader.live_bytes_total(), log.grown(), index_bytes) {
            Plan::Rest => None,
            Plan::Checkpoint => self.write(shard, now, None),
            Plan::Compact { victims, live_bytes } => {
                let compaction = log.plan_compaction(&victims, keep_from, live_bytes);
                debug!(shard = %log.shard(), victims = compaction.victims(), live_bytes, "compaction begins");
                self.state = State::Compacting;
                Some(self.job(JobKind::Compact { compaction, reader: Arc::clone(reader) }))
            }
        }
    }

    /// Entries from here on stay in the log: the newest, and those that replicas with a snapshot will need.
    fn keep_from(&self, shard: &Shard) -> LogIndex {
        let next = LogIndex(shard.store().applied().0 + 1);
        let retained = shard.log().retained_from(self.in_use.retain_bytes).min(next);
        shard.pinned_from().map_or(retained, |pinned| pinned.min(retained))
    }

    /// A checkpoint of the state as it is now, captured in one go: for a replica that does nothing else any more.
    pub(in crate::shard) fn checkpoint(&self, shard: &mut Shard) -> Option<Checkpoint> {
        let capture = shard.begin_capture()?;
        self.go_on_capture(shard, &capture, None, CaptureSlice::WHOLE)
    }

    /// Writes more of the state down. Returns the checkpoint once that is whole.
    ///
    /// Its base is the entry at which the capture began. What consensus needs behind it stays in the log: only what lies before the base is
    /// retired. Segments that were sealed since the capture began are of the log, too.
    fn go_on_capture(
        &self,
        shard: &mut Shard,
        capture: &CheckpointCapture,
        compacted: Option<&Compacted>,
        slice: CaptureSlice,
    ) -> Option<Checkpoint> {
        let (base, index) = shard.go_on_capture(capture, slice)?;
        let keep_from = self.keep_from(shard);
        let checkpoint = shard.log().prepare_checkpoint(base, keep_from, compacted, index.bytes().clone());
        Some(checkpoint.of_growth(capture.grown()))
    }

    /// Begins a checkpoint of the state as it is now.
    fn write(&mut self, shard: &mut Shard, now: Nanos, compacted: Option<Compacted>) -> Option<Job> {
        let Some(permit) = self.permits.take() else {
            self.look_at = now.after_ms(BUSY_RETRY_MS);
            self.state = compacted.map_or(State::Resting, State::Unnamed);
            return None;
        };
        let capture = shard.begin_capture()?;
        self.go_on_writing(shard, capture, compacted, permit)
    }

    fn go_on_writing(
        &mut self,
        shard: &mut Shard,
        capture: CheckpointCapture,
        compacted: Option<Compacted>,
        permit: DumpPermit,
    ) -> Option<Job> {
        match self.go_on_capture(shard, &capture, compacted.as_ref(), self.options.slice.capture) {
            Some(checkpoint) => {
                let checkpoint = Arc::new(checkpoint);
                self.state = State::Writing(Arc::clone(&checkpoint), compacted, permit);
                Some(self.job(JobKind::Write(checkpoint)))
            }
            None => {
                self.state = State::Capturing(capture, compacted, permit);
                None
            }
        }
    }

    /// Whether this replica's own turns have something to do: [`Keeper::go_on`].
    pub(in crate::shard) fn is_at_work(&self) -> bool {
        matches!(self.state, State::TakingOver(..) | State::Capturing(..))
    }

    /// Does the next slice of what is to be done in the replica's own turns.
    ///
    /// While a compaction is taken over the index points at some of the copies and, where it has not come to yet, at the records
    /// that they were made of. Both are the same record, durable, and in segments that are shown; so it is all the same
    /// to readers and to the next entry. A record that is overwritten or removed meanwhile is at neither place any more: its
    /// slot has gone, and its copy is garbage from the start. What was replaced leaves the view with the checkpoint that is
    /// prepared after the last slice. If the replica ends before that, no manifest names the copies, and the next start removes them.
    ///
    /// # Errors
    /// If the replica can't go on.
    pub(in crate::shard) fn go_on(&mut self, shard: &mut Shard, now: Nanos) -> Result<Option<Job>, ShardError> {
        match std::mem::replace(&mut self.state, State::Resting) {
            State::TakingOver(compacted, from) => {
                let to = compacted.moved.len().min(from + self.options.slice.relocations.max(1));
                shard.take_over(&compacted.moved[from..to])?;
                if to == compacted.moved.len() {
                    return Ok(self.write(shard, now, Some(compacted)));
                }
                self.state = State::TakingOver(compacted, to + usize::from(planted(Bug::SliceBoundarySkipped)));
                Ok(None)
            }
            State::Capturing(capture, compacted, permit) => Ok(self.go_on_writing(shard, capture, compacted, permit)),
            other => {
                self.state = other;
                Ok(None)
            }
        }
    }

    /// A job has ended. Returns what follows from it.
    ///
    /// # Errors
    /// If the replica can't go on.
    pub(in crate::shard) fn handle_done(
        &mut self,
        shard: &mut Shard,
        now: Nanos,
        done: Result<Done, LogError>,
    ) -> Result<Option<Job>, ShardError> {
        let state = std::mem::replace(&mut self.state, State::Resting);
        let done = match done {
            Ok(done) => done,
            Err(LogError::DiskFull(full)) => {
                warn!(shard = %shard.log().shard(), error = %full, "no room to tidy up; trying again later");
                self.look_at = now.after_ms(FULL_RETRY_MS);
                if let State::Writing(_, Some(compacted), _) = state {
                    self.state = State::Unnamed(compacted);
                }
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        match (done, state) {
            (Done::Compacted(Some(compacted)), State::Compacting) => {
                let id = shard.log().shard();
                let (read, written) = (compacted.bytes_read, compacted.bytes_written);
                info!(shard = %id, read, written, moved = compacted.moved.len(), "compacted");
                self.counts.compactions += 1;
                self.counts.compaction_bytes_read += read;
                self.counts.compaction_bytes_written += written;
                shard.show_copies(&compacted);
                self.state = State::TakingOver(compacted, 0);
                self.go_on(shard, now)
            }
            (Done::LookedForKeys, State::LookingForKeys) => {
                self.look_at = now;
                Ok(None)
            }
            (Done::Synced, State::Syncing) => {
                shard.note_synced();
                self.look_at = now;
                Ok(None)
            }
            (Done::Written, State::Writing(checkpoint, _, permit)) => {
                self.counts.checkpoints += 1;
                shard.finish_checkpoint(&checkpoint);
                self.state = State::Removing(permit);
                Ok(Some(self.job(JobKind::Remove(checkpoint))))
            }
            (Done::Compacted(None) | Done::Removed | Done::Cancelled, _) => Ok(None),
            (done, _) => unreachable!("a job that nobody is waiting for: {done:?}"),
        }
    }
}
