//! From a log to the state at its base, and from a state to a base.

use super::transfer::Received;
use super::{Shard, ShardError};
use crate::consensus::SnapshotBase;
use crate::log::{Base, Checkpoint, Compacted, Damage, LogError, Moved, Position, Segment, ShardLog};
use crate::seeded::{Bug, planted};
use crate::store::{CaptureId, CaptureSlice, Captured, IndexDump, Store};
use bytes::Bytes;
use kvorum_protocol::{LogIndex, ReplicaId};
use std::sync::Arc;
use tracing::{info, warn};

/// A line is written for every so many records that a start has to read.
const PROGRESS_RECORDS: u64 = 1_000_000;

/// Where the state of a replica came from when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// The log begins at its first entry.
    Nothing,
    /// The index was read from the disk.
    Hint,
    /// All records of the base were read.
    Scan,
}

/// A state that is being written down. A replica that ends leaves none behind.
#[derive(Debug)]
pub(super) struct CheckpointCapture {
    /// What it stands for.
    of: SnapshotBase,
    /// How much the log had grown when it began.
    grown: u64,
    id: CaptureId,
}

impl CheckpointCapture {
    /// The last entry in the state.
    pub(super) fn base(&self) -> LogIndex {
        self.of.index
    }

    /// How much the log had grown when it began.
    pub(super) fn grown(&self) -> u64 {
        self.grown
    }
}

/// The state at a log's base: empty for a log that has none. Takes the index from the hint if there is one, and reads all
/// records of the base otherwise; then a checkpoint is soon worth it, or the next start would have to do the same.
///
/// # Errors
/// `Damaged` if the base or a record is not what it should be.
pub(super) fn restore(log: &mut ShardLog, order_bits: u32) -> Result<(Store, Restored), ShardError> {
    let Some(base) = log.base() else { return Ok((Store::with_order_bits(log.view(), order_bits), Restored::Nothing)) };
    let shard = log.shard();
    let damaged =
        |_| LogError::Damaged { shard, position: Position { segment: 0, offset: 0 }, damage: Damage::Manifest };
    let at = Position { segment: 0, offset: 0 };
    let closed = |error| LogError::of_seal(shard, at, Damage::Manifest, error);
    let state = base.open_state(log.view().keys()).map_err(closed)?;
    let mut store = Store::restore_with_order_bits(log.view(), &state, order_bits).map_err(damaged)?;
    if let Some(hint) = log.read_hint()? {
        match store.load_index(&hint) {
            Ok(()) => return Ok((store, Restored::Hint)),
            Err(error) => warn!(%shard, %error, "the index on the disk can't be used"),
        }
    }
    info!(%shard, bytes = log.bytes(), "rebuilds the index from its records");
    let mut records = 0;
    log.visit_base_records(&mut |record, at| {
        store.insert_scanned(record, at).map_err(|damage| damage.of_log(shard))?;
        records += 1;
        if records % PROGRESS_RECORDS == 0 {
            info!(%shard, records, "rebuilds the index from its records");
        }
        Ok(())
    })?;
    store.finish_scan();
    log.want_checkpoint();
    info!(%shard, records, keys = store.reader().keys(), "the index is rebuilt");
    Ok((store, Restored::Scan))
}

impl Shard {
    /// Readers find what compaction has copied from now on. What it was copied from stays, too.
    pub(super) fn show_copies(&self, compacted: &Compacted) {
        self.log().show_data(compacted.data());
        if planted(Bug::VictimsLeaveViewEarly) {
            self.log().hide(compacted.victims());
        }
    }

    /// Points the index at some of what compaction has copied, which was shown. Costs a look-up for each.
    ///
    /// # Errors
    /// `Damaged` if a copy is not there.
    pub(super) fn take_over(&mut self, moved: &[Moved]) -> Result<(), ShardError> {
        let shard = self.log().shard();
        for moved in moved {
            let damaged = |_| LogError::Damaged { shard, position: moved.to, damage: Damage::Record };
            self.store.relocate(moved.order, moved.from, moved.to).map_err(damaged)?;
        }
        Ok(())
    }

    /// Goes on in another segment of the log, so that the active one can be emptied once it is synced: see [`ShardLog::roll`].
    ///
    /// # Errors
    /// If the disk has failed.
    pub(super) fn roll_log(&mut self) -> Result<Option<Arc<Segment>>, ShardError> {
        Ok(self.consensus.log_mut().roll()?)
    }

    /// What [`Shard::roll_log`] has returned is synced.
    pub(super) fn note_synced(&mut self) {
        self.consensus.log_mut().note_synced();
    }

    /// A checkpoint is durable.
    pub(super) fn finish_checkpoint(&mut self, checkpoint: &Checkpoint) {
        for &segment in checkpoint.dropped() {
            assert_eq!(self.reader().live_bytes(segment), 0, "segment {segment} still holds records that live");
        }
        self.consensus.log_mut().finish_checkpoint(checkpoint);
    }

    /// Puts a state that has come from elsewhere in place of this one, on the disk. This replica must be opened again.
    ///
    /// # Errors
    /// If the disk fails, or is full: nothing has changed then.
    pub(super) fn install(&mut self, received: Received) -> Result<(), ShardError> {
        Ok(self.consensus.log_mut().install(received.base, &received.data)?)
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.consensus.replica()
    }

    /// Begins to write down the state as of the last applied entry, for a checkpoint or a snapshot; `None` before the first entry.
    pub(super) fn begin_capture(&mut self) -> Option<CheckpointCapture> {
        let of = self.consensus.snapshot_base()?;
        Some(CheckpointCapture { of, grown: self.log().grown(), id: self.store.begin_capture() })
    }

    /// Writes the next slice of it down. Returns the state as of when the capture began, once that is whole; then the capture is over.
    pub(super) fn go_on_capture(
        &mut self,
        capture: &CheckpointCapture,
        slice: CaptureSlice,
    ) -> Option<(Base, IndexDump)> {
        let Captured { mut state, index } = self.store.go_on_capture(capture.id, slice)?;
        let mut of = capture.of.clone();
        if let Some(now) = self.consensus.snapshot_base()
            && planted(Bug::CaptureMixesPositions)
        {
            of = now;
            let mut later = Vec::new();
            self.store.encode_base(&mut later);
            state = Bytes::from(later);
        }
        Some((Base { index: of.index, term: of.term, membership: of.membership, state, sealed: false }, index))
    }
}
