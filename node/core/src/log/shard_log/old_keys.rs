//! What a log does so that nothing in it stays plain, or sealed with an old data key.

use super::ShardLog;
use crate::log::error::LogError;
use crate::log::oldest_key::KeyLook;
use crate::log::record::RecordKind;
use crate::log::segment::Segment;
use kvorum_protocol::{LogIndex, Term};
use std::sync::Arc;

/// How far a log is with sealing everything with the data key in use.
#[derive(Default)]
pub struct SealingProgress {
    /// Segments that nobody has looked at yet.
    pub unknown: Vec<Arc<Segment>>,
    /// Bytes that were written to segments with something old, and to those that nobody has looked at.
    pub old_bytes: u64,
    /// The active segment holds something old.
    pub active: bool,
    /// A segment that the log keeps for replicas that lag holds something old.
    pub retained: bool,
}

impl ShardLog {
    /// Whether something in the segment is sealed with an older key than the one in use, or is plain; `None`: nobody has looked yet.
    pub(super) fn has_old_key(&self, segment: &Segment) -> Option<bool> {
        let Some(active) = self.view.keys().active() else { return Some(false) };
        segment.oldest_key().map(|oldest| oldest < active)
    }

    /// How far this log is with sealing everything with the data key in use, if entries from `keep_from` on must stay in it. Reads nothing.
    pub fn sealing_progress(&self, keep_from: LogIndex) -> SealingProgress {
        let mut progress = SealingProgress::default();
        if self.view.keys().active().is_none() {
            return progress;
        }
        let retire_before = self.retire_before(keep_from);
        for segment in self.view.segments() {
            let old = self.has_old_key(&segment);
            if old != Some(false) {
                progress.old_bytes += u64::from(segment.written());
            }
            match old {
                None => progress.unknown.push(segment),
                Some(true) if segment.number() == self.active.number() => progress.active = true,
                Some(true) if !segment.is_data() && segment.number() >= retire_before => progress.retained = true,
                Some(_) => {}
            }
        }
        progress
    }

    /// A look at the oldest data keys of these segments, until about so many bytes are read.
    pub fn look_for_keys(&self, segments: Vec<Arc<Segment>>, bytes_max: u64) -> KeyLook {
        let mut bytes = 0;
        let begins = segments.into_iter().take_while(|segment| {
            let taken = bytes < bytes_max;
            bytes += u64::from(segment.written());
            taken
        });
        KeyLook { segments: begins.collect() }
    }

    /// Goes on in another segment, so that the active one can be emptied. No entry is behind its seal that would become durable with it:
    /// whoever calls syncs the segment that this returns, and then says [`ShardLog::note_synced`]. Until then it stays part of the log. `None`
    /// if the disk has no room for another one.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn roll(&mut self) -> Result<Option<Arc<Segment>>, LogError> {
        let next = match self.next_segment(0) {
            Err(LogError::DiskFull(_)) => return Ok(None),
            next => next?,
        };
        self.write(RecordKind::Seal, Term(0), LogIndex(0), &[]);
        let rolled = Arc::clone(&self.active);
        self.activate(next);
        self.unsynced = Some(rolled.number());
        Ok(Some(rolled))
    }

    /// The segment that [`ShardLog::roll`] has left is durable, its seal included.
    pub fn note_synced(&mut self) {
        self.unsynced = None;
    }
}
