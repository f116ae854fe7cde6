//! The follower's side: one replica's way through a snapshot that it is offered.

use super::budget::PullBudget;
use super::limits::{CHUNK_BYTES, GIVE_UP_MS, PULL_AGAIN_MS};
use super::window::Window;
use super::{Finish, SnapshotError, SnapshotSink, SnapshotSinks};
use crate::clock::Nanos;
use crate::log::LogError;
use crate::log::operations::RECORD_HEADER_BYTES;
use crate::seeded::{Bug, planted};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{Receiving, ReplicaId, ShardId};
use std::sync::Arc;
use tracing::{info, warn};

/// What a record is taken to have until one has come, in bytes.
const RECORD_BYTES_GUESS: usize = 1024;

/// Takes in at most one snapshot at a time. Pure: it is told the time and the messages that came, and says what to send.
pub struct Intake {
    shard: ShardId,
    replica: ReplicaId,
    sinks: Arc<dyn SnapshotSinks>,
    budget: Arc<PullBudget>,
    under_way: Option<UnderWay>,
    /// The last snapshot that came to nothing here: its offer, which the leader may repeat, is refused.
    refused: Option<SnapshotId>,
    effects: IntakeEffects,
}

/// What an intake asks for.
#[derive(Debug, Default)]
pub struct IntakeEffects {
    /// To be sent to the leaders that they name.
    pub messages: Vec<SnapshotMessage>,
    /// This snapshot is durable and in place: the replica is to be dropped and opened from its files.
    pub installed: Option<SnapshotId>,
}

struct UnderWay {
    id: SnapshotId,
    leader: ReplicaId,
    sink: Box<dyn SnapshotSink>,
    records: u64,
    stage: Stage,
    began_at: Nanos,
    progress_at: Nanos,
    /// Records that were handed on, and their bytes.
    taken: (u64, u64),
}

enum Stage {
    Header { window: Window, so_far: BytesMut },
    Records { window: Window },
    Finishing { said_at: Nanos },
}

/// How an error of a sink is dealt with.
enum Failed {
    /// The snapshot has come to nothing.
    Snapshot(String),
    /// The replica can't go on.
    Replica(LogError),
}

impl From<SnapshotError> for Failed {
    fn from(error: SnapshotError) -> Self {
        match error {
            // The replica goes on without a snapshot when its disk is full.
            SnapshotError::Log(error) if !matches!(error, LogError::DiskFull(_)) => Self::Replica(error),
            other => Self::Snapshot(other.to_string()),
        }
    }
}

impl Intake {
    /// The intake of one replica, which shares the budget with the others of its node.
    pub fn new(shard: ShardId, replica: ReplicaId, sinks: Arc<dyn SnapshotSinks>, budget: Arc<PullBudget>) -> Self {
        Self { shard, replica, sinks, budget, under_way: None, refused: None, effects: IntakeEffects::default() }
    }

    /// The snapshot that is under way.
    pub fn under_way(&self) -> Option<SnapshotId> {
        self.under_way.as_ref().map(|under_way| under_way.id)
    }

    /// How far the snapshot has come that is under way.
    pub fn progress(&self, now: Nanos) -> Option<Receiving> {
        let under_way = self.under_way.as_ref()?;
        let (records, bytes) = under_way.taken;
        let elapsed_ms = now.ms_since(under_way.began_at);
        Some(Receiving { elapsed_ms, bytes, records, records_total: under_way.records })
    }

    /// A message has come. `holds` says whether the replica holds a snapshot's last entry, or has applied it: then it may have
    /// acknowledged entries behind that one, and must not give its log up for the snapshot.
    ///
    /// # Errors
    /// If the files of the replica failed, so that it can't go on.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        message: SnapshotMessage,
        holds: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<(), LogError> {
        let SnapshotMessage { from, to, id, body } = message;
        if to != self.replica {
            return Ok(());
        }
        let outcome = match body {
            SnapshotBody::Offer { header_bytes, records } => {
                self.handle_offer(now, from, id, header_bytes, records, holds)
            }
            SnapshotBody::Chunk { part, at, count, bytes } => match self.of(from, id) {
                Some(under_way) => under_way.handle_chunk(now, part, at, count, bytes),
                None => Ok(()),
            },
            SnapshotBody::End { reason, .. } => {
                // All of it may be here already; then the leader isn't needed any more.
                let ends = self.of(from, id).is_some_and(|under_way| !under_way.has_all());
                if ends {
                    warn!(shard = %self.shard, leader = %from, %reason, "the leader gave up the snapshot it was sending");
                    self.under_way = None;
                }
                Ok(())
            }
            SnapshotBody::Pull { .. } => Ok(()),
        };
        self.settle(now, outcome, holds)
    }

    /// Time has passed.
    ///
    /// # Errors
    /// As [`Intake::handle_message`].
    pub fn handle_tick(&mut self, now: Nanos, holds: &dyn Fn(SnapshotId) -> bool) -> Result<(), LogError> {
        if let Some(under_way) = &self.under_way
            && now.ms_since(under_way.progress_at) >= GIVE_UP_MS
            && !under_way.has_all()
        {
            warn!(shard = %self.shard, leader = %under_way.leader, "gave up a snapshot that made no progress");
            self.end(false, "no progress");
        }
        self.settle(now, Ok(()), holds)
    }

    /// What is to be done.
    pub fn poll(&mut self) -> IntakeEffects {
        std::mem::take(&mut self.effects)
    }

    fn of(&mut self, leader: ReplicaId, id: SnapshotId) -> Option<&mut UnderWay> {
        self.under_way.as_mut().filter(|under_way| under_way.leader == leader && under_way.id == id)
    }

    fn handle_offer(
        &mut self,
        now: Nanos,
        leader: ReplicaId,
        id: SnapshotId,
        header_bytes: u32,
        records: u64,
        holds: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<(), Failed> {
        if holds(id) {
            // Also how a leader learns it whose follower's word was lost.
            self.say_end(leader, id, true, "");
            return Ok(());
        }
        if let Some(under_way) = self.of(leader, id) {
            under_way.note_silence(now);
            return Ok(());
        }
        // An older one is not refused: the leader goes on offering it, and it is taken up if this one comes to nothing.
        if self.under_way.as_ref().is_some_and(|under_way| under_way.has_all() || id <= under_way.id) {
            return Ok(());
        }
        if self.refused == Some(id) {
            self.say_end(leader, id, false, "refused before");
            return Ok(());
        }
        // It is offered again. To refuse it would have the leader write its state down once more at once.
        if !self.sinks.has_room() {
            return Ok(());
        }
        if self.under_way.is_some() {
            self.end(false, "replaced by a newer one");
        }
        let sink = match self.sinks.open(self.shard, id) {
            Ok(sink) => sink,
            Err(error) => {
                let failed = Failed::from(error);
                if let Failed::Snapshot(reason) = &failed {
                    self.refused = Some(id);
                    self.say_end(leader, id, false, reason);
                    warn!(shard = %self.shard, %leader, %reason, "refused a snapshot");
                    return Ok(());
                }
                return Err(failed);
            }
        };
        info!(shard = %self.shard, %leader, term = %id.term, index = %id.index, records, "takes in a snapshot");
        let stage = Stage::Header { window: Window::new(header_bytes.into(), 1), so_far: BytesMut::new() };
        let (began_at, progress_at, taken) = (now, now, (0, 0));
        let mut under_way = UnderWay { id, leader, sink, records, stage, began_at, progress_at, taken };
        // An empty header is whole already.
        let outcome = under_way.advance(now);
        self.under_way = Some(under_way);
        outcome
    }

    /// Deals with how an input ended, goes on to finishing and pulls what is wanted next.
    fn settle(
        &mut self,
        now: Nanos,
        outcome: Result<(), Failed>,
        holds: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<(), LogError> {
        // Looked at last, whatever has come: entries of another leader may be there by now, and be acknowledged.
        if self.under_way().is_some_and(holds) && !planted(Bug::SnapshotReplacesLog) {
            self.end(true, "the log has overtaken it");
        }
        let finished = match (outcome, &mut self.under_way) {
            (Ok(()), Some(under_way)) => under_way.finish(),
            (outcome, _) => outcome.map(|()| Finish::Pending),
        };
        match finished {
            Ok(Finish::Done) => {
                self.effects.installed = self.under_way();
                self.end(true, "");
            }
            Ok(Finish::Pending) => {}
            Err(Failed::Replica(error)) => {
                self.under_way = None;
                return Err(error);
            }
            Err(Failed::Snapshot(reason)) => {
                warn!(shard = %self.shard, %reason, "a snapshot came to nothing");
                self.refused = self.under_way();
                self.end(false, &reason);
            }
        }
        if let Some(under_way) = &mut self.under_way {
            let (to, id) = (under_way.leader, under_way.id);
            let pulls = under_way.pull(now, &self.budget);
            let from = self.replica;
            self.effects.messages.extend(pulls.into_iter().map(|body| SnapshotMessage { from, to, id, body }));
        }
        Ok(())
    }

    /// The snapshot under way is over, one way or another.
    fn end(&mut self, installed: bool, reason: &str) {
        if let Some(UnderWay { leader, id, .. }) = self.under_way.take() {
            self.say_end(leader, id, installed, reason);
        }
    }

    fn say_end(&mut self, to: ReplicaId, id: SnapshotId, installed: bool, reason: &str) {
        let body = SnapshotBody::End { installed, reason: reason.to_owned() };
        self.effects.messages.push(SnapshotMessage { from: self.replica, to, id, body });
    }
}

impl UnderWay {
    fn has_all(&self) -> bool {
        matches!(self.stage, Stage::Finishing { .. })
    }

    fn handle_chunk(
        &mut self,
        now: Nanos,
        part: SnapshotPart,
        at: u64,
        count: u32,
        bytes: Bytes,
    ) -> Result<(), Failed> {
        let window = match (&mut self.stage, part) {
            (Stage::Header { window, .. }, SnapshotPart::Header) if bytes.len() == count as usize => window,
            (Stage::Records { window }, SnapshotPart::Records)
                if bytes.len() >= RECORD_HEADER_BYTES.saturating_mul(count as usize) =>
            {
                window
            }
            _ => return Ok(()),
        };
        if window.handle_chunk(now, at, count, bytes) { self.advance(now) } else { Ok(()) }
    }

    /// Hands on what has come in order.
    fn advance(&mut self, now: Nanos) -> Result<(), Failed> {
        if let Stage::Header { window, so_far } = &mut self.stage {
            while let Some((bytes, _)) = window.take() {
                so_far.extend_from_slice(&bytes);
                self.progress_at = now;
            }
            if !window.is_done() {
                return Ok(());
            }
            assert_eq!(so_far.len() as u64, window.end(), "a header's units are its bytes");
            self.sink.header(std::mem::take(so_far).freeze())?;
            self.stage = Stage::Records { window: Window::new(self.records, RECORD_BYTES_GUESS) };
        }
        if let Stage::Records { window } = &mut self.stage {
            while let Some((bytes, count)) = window.take() {
                let (records, so_far) = self.taken;
                self.taken = (records + u64::from(count), so_far + bytes.len() as u64);
                self.sink.records(bytes, count)?;
                self.progress_at = now;
            }
            if window.is_done() {
                self.stage = Stage::Finishing { said_at: now };
            }
        }
        Ok(())
    }

    fn note_silence(&mut self, now: Nanos) {
        if let Stage::Header { window, .. } | Stage::Records { window } = &mut self.stage {
            window.note_silence(now);
        }
    }

    fn finish(&mut self) -> Result<Finish, Failed> {
        if self.has_all() { Ok(self.sink.finish()?) } else { Ok(Finish::Pending) }
    }

    fn pull(&mut self, now: Nanos, budget: &PullBudget) -> Vec<SnapshotBody> {
        let pull = |part, at, count_max| SnapshotBody::Pull { part, at, count_max, bytes_max: CHUNK_BYTES };
        let (window, part) = match &mut self.stage {
            Stage::Header { window, .. } => (window, SnapshotPart::Header),
            Stage::Records { window } => (window, SnapshotPart::Records),
            // Finishing may take long, and the leader must not take it for silence.
            Stage::Finishing { said_at } => {
                if now.ms_since(*said_at) < PULL_AGAIN_MS {
                    return Vec::new();
                }
                *said_at = now;
                return vec![pull(SnapshotPart::Records, self.records, 0)];
            }
        };
        let (pulls, is_held_back) = window.pull(now, |bytes| budget.take(now, bytes));
        if is_held_back {
            // It is this node that waits, and it does so for its own sake.
            self.progress_at = now;
        }
        pulls.into_iter().map(|wanted| pull(part, wanted.at, wanted.count)).collect()
    }
}
