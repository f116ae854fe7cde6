//! One shard replica: consensus, log and state as one value without I/O, clock or randomness of its own.
//!
//! The value is driven by `handle_*` calls and performs nothing but appends into its log's mapping; whatever else is to
//! be done comes out of [`Shard::poll`] as [`Effects`]. A [`host`] carries those out; it is the state of an actor
//! (`node/src/runtime/shard_actor.rs`), the only place where a shard meets the actor library, or of a node of the simulator.

mod awaits;
mod backlog;
mod checkpoint;
mod confirm;
mod decide;
mod decimal;
mod effects;
mod error;
mod evaluate;
mod expecting;
pub mod gate;
mod hand_over;
mod handle;
pub mod host;
mod in_flight;
pub mod inbox;
mod log_time;
mod offering;
mod operation;
mod pins;
mod plan;
mod reconcile;
pub mod remains;
mod room;
mod shares;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod transfer;
pub mod upkeep;

pub use crate::store::ORDER_BITS;
pub use backlog::EntryLimits;
pub use checkpoint::Restored;
pub use effects::Effects;
pub use error::{Remedy, ShardError};
pub use evaluate::ShardReply;
pub use expecting::Expecting;
pub use hand_over::Returned;
pub use handle::ShardHandle;
pub use operation::{Operation, ShardRequest, Ticket};
pub use plan::{FolderStanding, Orders, ReplicaPlan};
pub use reconcile::Target;
pub use shares::Held;
pub use status::ReplicaStatus;
pub use tally::{AppliedEntry, Tally};

use crate::clock::{Clock, Nanos, Now};
use crate::consensus::machine::initial_membership;
use crate::consensus::{Committed, Consensus, ConsensusConfig, ConsensusError, Role, SnapshotBase};
use crate::cost;
use crate::disk::lost_pages;
use crate::health::pressure::Pressure;
use crate::log::{Chunk, Damage, ENTRY_OVERHEAD_BYTES, LogError, Membership, Position, ShardLog};
use crate::seeded::{Bug, planted};
use crate::store::{ApplyError, SessionLimits, Store, StoreReader};
use awaits::Awaits;
use backlog::Backlog;
use confirm::{AsksToRead, Confirmations};
use evaluate::{Evaluation, Overlay, Recalled, ack_of};
use gate::ReadGate;
use hand_over::HandOver;
use in_flight::{InFlight, Waiting};
use kvorum_protocol::peer::{RaftEntryKind, RaftMessage, RaftMessageKind};
use kvorum_protocol::{
    Ack, AtomicResult, Durability, ErrorCode, LogIndex, Outcome, Receipt, ReplicaId, ServerError, ShardId, Term,
    WriteStatus,
};
use log_time::{Began, LogTime};
use pins::Pins;
use reconcile::Settling;
use room::{ENTRY_FRAME_BYTES, Room};
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::{info, warn};

/// Most entries of this leader that are proposed and not yet applied. What arrives while one is on its way makes the next,
/// so batches grow with load and no timer is needed. Measured with 50 clients, 16 shards and three nodes on two cores, in
/// turn: one entry on its way costs 10 to 17 % less CPU per write than two, which only make the batches smaller.
const ENTRIES_IN_FLIGHT_MAX: usize = 1;
/// A preferred leader is given the shard back after another one has led for this long.
const BALANCE_AFTER_MS: u64 = 5_000;
/// A hand-over for balance is not tried more often than this.
const BALANCE_EVERY_MS: u64 = 15_000;
/// A leader whose node is unfit tries to hand over this often: an attempt that fails costs it the lease, and holds requests
/// up.
const STEP_ASIDE_EVERY_MS: u64 = 2_000;
/// While a log has nothing but its reserve, keys expire this often: each time takes a small entry out of it.
const URGENT_EXPIRY_EVERY_MS: u64 = 1_000;
/// So long before keys expire their records are asked for. A medium reads thousands of pages meanwhile.
const EXPIRY_READ_AHEAD_MS: u64 = 5_000;
/// Most places whose records one tick asks for: at a microsecond each, half a millisecond.
const EXPIRY_READ_AHEAD_PLACES: usize = 512;
/// Whoever is to lead, or to vote, must not lack more entries than this.
const LAG_MAX: u64 = 64;

/// How a shard replica runs.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The shard.
    pub shard: ShardId,
    /// Its consensus.
    pub consensus: ConsensusConfig,
    /// The replicas of a group that starts from nothing.
    pub initial_voters: Vec<ReplicaId>,
    /// The replicas that the group should have.
    pub target: Target,
    /// This replica joins a group that was there before it: with an empty log it knows nobody, and waits for a snapshot.
    pub joins: bool,
    /// What "persisted" means.
    pub durability: Durability,
    /// How much is remembered of clients' writes: the same on all replicas, for as long as the shard exists.
    pub sessions: SessionLimits,
    /// How many bits of a key's hash its place in the index has: [`ORDER_BITS`], or fewer where keys are to share places.
    pub order_bits: u32,
}

/// Says whether the change of the ring map with this epoch may be followed by who leads since then.
pub type MayFollow = Box<dyn Fn(u64, Nanos) -> bool + Send + Sync>;

/// Says of a replica of the group whether its node is fit to lead.
pub type FitToLead = Box<dyn Fn(ReplicaId) -> bool + Send + Sync>;

/// One shard replica.
pub struct Shard {
    config: ShardConfig,
    consensus: Consensus,
    store: Store,
    restored: Restored,
    /// As of the last applied entry.
    membership: Membership,
    gate: Arc<ReadGate>,
    overlay: Overlay,
    backlog: Backlog,
    in_flight: VecDeque<InFlight>,
    confirmations: Confirmations,
    awaits: Awaits,
    replies: Vec<(Ticket, ShardReply)>,
    tally: Tally,
    stopwatch: Option<Arc<dyn Clock>>,
    /// When this replica was last done with applying, by its stopwatch.
    applied_at: Nanos,
    led_term: Option<Term>,
    leader_since: Nanos,
    balanced_at: Nanos,
    stepped_aside_at: Option<Nanos>,
    handing_over: Option<HandOver>,
    campaign_at_once: bool,
    pressure: Arc<Pressure>,
    fitness: FitToLead,
    may_follow: MayFollow,
    /// When it last tried to hand over because its node is unfit.
    withdrew_at: Option<Nanos>,
    /// When keys expired last by an entry out of the log's reserve.
    expired_urgently_at: Option<Nanos>,
    log_time: LogTime,
    settling: Settling,
    pins: Pins,
    ticked_at: Nanos,
    /// What entries that were received, and that the next poll appends, take in the log at most.
    admitted_bytes: u32,
    /// See [`Shard::set_value_bytes_max`].
    value_bytes_max: usize,
}

impl Shard {
    /// Takes over a recovered log, an empty one included. The state at its base is loaded; its committed entries behind
    /// that are applied by the first polls. May read all records of the base: see [`checkpoint::restore`].
    ///
    /// # Errors
    /// If the log can't be appended to, or contradicts itself.
    pub fn new(config: ShardConfig, mut log: ShardLog, now: Nanos) -> Result<Self, ShardError> {
        let is_new = log.membership().is_none() && !config.joins;
        if is_new {
            log.append_membership(&initial_membership(config.initial_voters.clone()))?;
        }
        let (mut store, restored) = checkpoint::restore(&mut log, config.order_bits)?;
        store.limit_sessions(config.sessions);
        log.forget_base_state();
        let consensus = Consensus::new(config.consensus.clone(), log, store.applied(), now)?;
        Ok(Self {
            campaign_at_once: is_new && config.target.voters.first() == Some(&config.consensus.replica),
            config,
            membership: consensus.membership(),
            consensus,
            store,
            restored,
            gate: Arc::default(),
            overlay: Overlay::default(),
            backlog: Backlog::default(),
            in_flight: VecDeque::new(),
            confirmations: Confirmations::default(),
            awaits: Awaits::default(),
            replies: Vec::new(),
            tally: Tally::default(),
            stopwatch: None,
            applied_at: now,
            led_term: None,
            leader_since: now,
            balanced_at: now,
            stepped_aside_at: None,
            handing_over: None,
            pressure: Arc::default(),
            fitness: Box::new(|_| true),
            may_follow: Box::new(|_, _| true),
            withdrew_at: None,
            expired_urgently_at: None,
            log_time: LogTime::default(),
            settling: Settling::default(),
            pins: Pins::default(),
            ticked_at: now,
            admitted_bytes: 0,
            value_bytes_max: usize::MAX,
        })
    }

    /// What the node is short of.
    pub(super) fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }

    /// Tells it where to look whether its node is short of something. Until then nothing is.
    pub fn set_pressure(&mut self, pressure: Arc<Pressure>) {
        self.pressure = pressure;
    }

    /// Tells it whom to ask which replicas are fit to lead, itself among them. Until then all are.
    pub fn set_fitness(&mut self, fitness: FitToLead) {
        self.fitness = fitness;
    }

    /// Tells it whom to ask whether a map is new enough to be followed. Until then all are.
    pub fn set_may_follow(&mut self, may_follow: MayFollow) {
        self.may_follow = may_follow;
    }

    /// Whether its node has so little room that writes are refused.
    pub(in crate::shard) fn disk_is_full(&self) -> bool {
        self.pressure.disk_is_full()
    }

    /// What other threads read.
    pub fn reader(&self) -> &Arc<StoreReader> {
        self.store.reader()
    }

    /// The gate that linearizable reads pass.
    pub fn gate(&self) -> &Arc<ReadGate> {
        &self.gate
    }

    /// The log.
    pub fn log(&self) -> &ShardLog {
        self.consensus.log()
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the state came from when this replica was opened.
    pub fn restored(&self) -> Restored {
        self.restored
    }

    /// Who replicates the shard as of the last applied entry; nobody, if this replica has just joined.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What a snapshot of the applied state stands for; `None` before the first entry.
    pub fn snapshot_base(&self) -> Option<SnapshotBase> {
        self.consensus.snapshot_base()
    }

    /// Log time at `now` in milliseconds, as far as this replica knows: that of its next entry, if it leads.
    pub fn log_time_ms(&self, now: Nanos) -> Option<u64> {
        self.log_time.at(now)
    }

    /// Entries that it proposes have these bounds from now on, in place of the default ones.
    pub fn set_entry_limits(&mut self, limits: EntryLimits) {
        self.backlog.set_limits(limits);
    }

    /// At most so many bytes of values are read for an entry until this is called again. A request that needs more waits.
    pub fn set_value_bytes_max(&mut self, bytes: usize) {
        self.value_bytes_max = bytes;
    }

    /// Whether a heavy client shares the shard with a light one, until this is called again: see [`shares`].
    pub fn set_shared(&mut self, is_shared: bool) {
        self.backlog.set_shared(is_shared);
    }

    /// A request waits until more bytes of values may be read than [`Shard::set_value_bytes_max`] has said, or a capture of the state has
    /// come to something large.
    pub fn awaits_long_turn(&self) -> bool {
        self.backlog.has_put_back() || self.store.captures_large_next()
    }

    /// Requests that were neither proposed nor answered yet: of each client the oldest.
    pub fn oldest_waiting(&self) -> impl Iterator<Item = Ticket> {
        self.backlog.oldest()
    }

    /// When the entry was proposed for which requests wait: `None` if none wait, or nothing is on its way.
    pub fn waits_since(&self) -> Option<Nanos> {
        self.in_flight.front().filter(|_| !self.backlog.is_empty()).map(|entry| entry.proposed_at)
    }

    /// How far the clients whose requests wait are apart in what they were given, and how far they may be, in bytes.
    pub fn unfairness(&self) -> (u64, u64) {
        self.backlog.unfairness()
    }

    /// The most requests that a client took turns for in the newest entry, and the most that it might while clients share the shard.
    pub fn largest_part(&self) -> (usize, usize) {
        self.backlog.largest_part()
    }

    /// What gets this replica on.
    pub fn expecting(&self) -> Expecting {
        match self.consensus.role() {
            Role::Follower | Role::Learner => return Expecting::Messages,
            Role::Candidate => return Expecting::Anything,
            Role::Leader => {}
        }
        let confirms = self.confirmations.asked.is_some() || !self.confirmations.next_round.is_empty();
        if confirms || !self.may_propose() || !self.log_time.is_known() {
            return Expecting::Anything;
        }
        let index = self.consensus.last_index();
        match self.in_flight.back() {
            Some(last) => match self.consensus.missing_for_quorum(last.index) {
                None | Some(0) => Expecting::Anything,
                Some(missing) => Expecting::Quorum { index: last.index, token: self.consensus.last_token(), missing },
            },
            None if index == self.store.applied() && self.backlog.is_empty() => Expecting::Requests { index },
            None => Expecting::Anything,
        }
    }

    /// What others may know of this replica.
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            role: self.consensus.role(),
            term: self.consensus.term(),
            leader: self.consensus.leader(),
            serving: self.consensus.is_serving(),
            last_index: self.consensus.log().last_index(),
            committed: self.consensus.committed(),
            applied: self.store.applied(),
            version: self.store.version(),
            keys: self.store.reader().keys(),
            log_bytes: self.consensus.log().bytes(),
            proved_at: self.proved_at(),
            settled: self.settled(),
        }
    }

    fn proved_at(&self) -> Nanos {
        let is_asked = self.config.shard == ShardId::META;
        is_asked.then(|| self.consensus.heard_by_majority_at(self.ticked_at)).flatten().unwrap_or_default()
    }

    /// Time has passed: elections, heartbeats, deadlines, expiry, membership, balance.
    pub fn handle_tick(&mut self, now: Now) {
        if std::mem::take(&mut self.campaign_at_once) {
            self.consensus.campaign();
        }
        // A replica that could not write its vote down must not campaign.
        if self.consensus.role() == Role::Leader || self.consensus.log().can_append_vote() {
            self.consensus.handle_tick(now.monotonic);
        }
        if planted(Bug::ExpiryByWallClock) {
            self.store.reader().set_log_time(now.wall_ms);
        }
        self.drop_late(now.monotonic);
        if let Some(time_ms) = self.log_time.at(now.monotonic) {
            self.store.read_ahead_expiring(time_ms.saturating_add(EXPIRY_READ_AHEAD_MS), EXPIRY_READ_AHEAD_PLACES);
        }
        self.follow_pins(now.monotonic);
        self.expire_keys(now);
        self.reconcile(now);
        self.step_aside(now.monotonic);
        self.balance(now.monotonic);
    }

    /// A snapshot that [`Effects::snapshots`] asked for has been installed by its receiver, or has failed.
    pub fn report_snapshot(&mut self, replica: ReplicaId, installed: bool) {
        self.consensus.report_snapshot(replica, installed);
        self.unpin_log(replica, installed);
    }

    /// A consensus message from another replica. A message that breaks the protocol is an error of the peer's, and
    /// leaves this replica as it was. So does one whose entries find no room on the disk: it is dropped, as a network would,
    /// and its leader sends it again. It must not get as far as consensus, which can't do with an append that fails.
    ///
    /// # Errors
    /// `InvalidMessage` for the log; the caller drops the message. `Forgotten`: the replica must end.
    pub fn handle_message(&mut self, now: Nanos, message: RaftMessage) -> Result<(), ConsensusError> {
        if !self.finds_room(&message) {
            return Ok(());
        }
        let (kind, from, term, log_time_ms) = (message.kind, message.from, message.term, message.log_time_ms);
        self.consensus.handle_message(now, message)?;
        if term == self.consensus.term() {
            let of_leader = matches!(kind, RaftMessageKind::Append | RaftMessageKind::Heartbeat);
            self.log_time.hear(now, log_time_ms, of_leader && self.consensus.leader() == Some(from));
        }
        Ok(())
    }

    /// Requests have come in; each will be answered exactly once, by this or a later poll.
    pub fn handle_requests(&mut self, requests: impl IntoIterator<Item = ShardRequest>) {
        for request in requests {
            if self.returns(&request) {
                self.give_back(request.ticket, request.operation, request.term);
            } else if matches!(request.operation, Operation::Confirm) {
                let ShardRequest { ticket, deadline, term, .. } = request;
                self.confirmations.next_round.push(AsksToRead { ticket, deadline, term });
            } else if let Operation::Await { receipt, wait_ms } = request.operation {
                self.begin_await(request, receipt, wait_ms);
            } else {
                self.backlog.push(request);
            }
        }
    }

    /// Everything up to the effects with this token is durable.
    pub fn handle_persisted(&mut self, token: u64) {
        self.consensus.handle_persisted(token);
    }

    /// Ends reads under the lease: this replica will not be driven any more.
    pub fn close_gate(&self) {
        self.gate.set(None);
    }

    /// Writes the commit position down before a graceful stop, so that the next start applies all of it at once.
    ///
    /// # Errors
    /// If the append fails.
    pub fn prepare_stop(&mut self) -> Result<(), ShardError> {
        if !self.consensus.log().can_append_vote() {
            // The next start asks the leader.
            return Ok(());
        }
        Ok(self.consensus.write_commit_position()?)
    }

    /// What was appended and not yet handed out with effects.
    pub fn take_unsubmitted(&mut self) -> Vec<Chunk> {
        self.consensus.log_mut().take_appended()
    }

    /// Does what has become due. To be called after each round of `handle_*` calls.
    ///
    /// # Errors
    /// If this replica can't go on; it must then be dropped and rebuilt from its log.
    pub fn poll(&mut self, now: Now) -> Result<Effects, ShardError> {
        // Whoever met the damage was told so; nobody else is to meet it.
        if let Some(damage) = self.store.reader().damage() {
            return Err(ShardError::Log(damage.of_log(self.config.shard)));
        }
        let mut effects = Effects::default();
        loop {
            self.give_vain_hand_over_up();
            let proposed = self.propose(now)?;
            self.begin_confirmation(now.monotonic);
            self.advance_hand_over(now.monotonic);
            let output = self.consensus.poll(now.monotonic)?;
            self.admitted_bytes = 0;
            effects.messages.extend(output.messages);
            effects.promises.extend(output.promises);
            effects.snapshots.extend(output.snapshots);
            let token = output.persist;
            if let Some(token) = token {
                effects.append = Some((token, Vec::new()));
                if proposed {
                    self.stamp_appended(token);
                }
            }
            for read in output.reads {
                if self.confirmations.asked == Some(read.tag) {
                    self.confirmations.confirmed_at = Some(read.index);
                }
            }
            let applied = !output.committed.is_empty();
            self.apply_timed(output.committed)?;
            // Reads that came while a quorum was asked are due: nobody wakes this replica for them.
            let asks_again = self.finish_confirmation() && !self.confirmations.next_round.is_empty();
            if !proposed && !applied && token.is_none() && !asks_again {
                break;
            }
        }
        self.settle_awaits(now.monotonic);
        self.note_leadership(now.monotonic);
        if let Some((_, chunks)) = &mut effects.append {
            *chunks = self.consensus.log_mut().take_appended();
        }
        effects.replies = std::mem::take(&mut self.replies);
        effects.tally = std::mem::take(&mut self.tally);
        self.stamp(&mut effects, now.monotonic);
        self.cap_commits(&mut effects.messages);
        Ok(effects)
    }

    /// Followers apply nothing that this leader has not applied, or a read there would see what a later one here does
    /// not. A leader whose own disk is the slowest knows of a commit before it may apply it. A lower commit position is
    /// always right; the next message has the rest.
    fn cap_commits(&self, messages: &mut [RaftMessage]) {
        if planted(Bug::CommitToldBeforeApplied) {
            return;
        }
        let of_leader = |kind| matches!(kind, RaftMessageKind::Append | RaftMessageKind::Heartbeat);
        for message in messages.iter_mut().filter(|message| of_leader(message.kind)) {
            message.commit = message.commit.min(self.store.applied());
        }
    }

    /// Says in each message what log time is, as far as this replica knows.
    fn stamp(&self, effects: &mut Effects, now: Nanos) {
        let Some(log_time_ms) = self.log_time.at(now) else { return };
        let promised = effects.promises.iter_mut().map(|promise| &mut promise.message);
        effects.messages.iter_mut().chain(promised).for_each(|message| message.log_time_ms = log_time_ms);
    }

    /// The log time of the next entry; `None` if this leader does not know yet how much time has passed.
    fn next_time_ms(&mut self, now: Now) -> Option<u64> {
        let last_ms = self.overlay.last_time_ms(&self.store);
        let (time_ms, began) = self.log_time.lead(now, last_ms)?;
        let (shard, ahead_ms) = (self.config.shard, time_ms.saturating_sub(last_ms));
        match began {
            Began::Running => {}
            Began::Agreed => info!(%shard, ahead_ms, "nobody knew log time: it goes on as most nodes' wall clocks say"),
            Began::Alone => {
                warn!(%shard, ahead_ms, "nobody knew log time, nor what most wall clocks show: it goes on from the last entry");
            }
        }
        Some(time_ms)
    }

    /// Makes the next entry of the backlog, if there is room for one. Returns whether it did.
    fn propose(&mut self, now: Now) -> Result<bool, ShardError> {
        if self.backlog.is_empty() || self.in_flight.len() >= ENTRIES_IN_FLIGHT_MAX || !self.may_propose() {
            return Ok(false);
        }
        let Some(time_ms) = self.next_time_ms(now) else { return Ok(false) };
        let lost_before = lost_pages();
        let index = LogIndex(self.consensus.last_index().0 + 1);
        let durability = self.config.durability;
        let room = Room::new(self.consensus.log(), &self.pressure);
        let secret = self.store.lacks_secret().then(|| self.consensus.log().fresh_secret());
        let place = Receipt { shard: self.config.shard, term: self.consensus.term(), index };
        let (store, overlay) = (&self.store, &mut self.overlay);
        let mut evaluation = Evaluation::new(store, overlay, room, place, time_ms, durability, secret);
        let limits = self.backlog.limits();
        let requests = self.backlog.len().min(limits.records);
        evaluation.reserve(requests, self.backlog.bytes().min(limits.bytes));
        evaluation.set_value_bytes_max(self.value_bytes_max);
        let mut waiting = Vec::with_capacity(requests);
        let mut accepted = Vec::new();
        self.backlog.begin_entry();
        while evaluation.bytes() < limits.bytes && evaluation.records() < limits.records {
            let Some(request) = self.backlog.pop() else { break };
            if request.deadline <= now.monotonic {
                self.replies.push((request.ticket, ShardReply::Error(late(Outcome::NotApplied))));
                continue;
            }
            let recalled = evaluation.recall(&request.operation);
            recalled.iter().for_each(|recalled| self.tally.note_recalled(&request.operation, recalled));
            match recalled {
                None => {}
                Some(Recalled::Now(reply)) => {
                    self.replies.push((request.ticket, reply));
                    continue;
                }
                Some(Recalled::With(at, reply)) => {
                    let waits = Waiting { ticket: request.ticket, deadline: request.deadline, reply };
                    let earlier = self.in_flight.iter_mut().find(|entry| entry.index == at);
                    earlier.map_or(&mut waiting, |entry| &mut entry.waiting).push(waits);
                    continue;
                }
            }
            if let Err(error) = evaluation.admit_any() {
                self.replies.push((request.ticket, ShardReply::Error(error)));
                continue;
            }
            let before = evaluation.bytes();
            cost::parts(1);
            let (reply, ack) = evaluate(&mut evaluation, &request.operation);
            if evaluation.needs_long_turn() {
                self.backlog.put_back(request);
                break;
            }
            self.tally.note_decided(&request.operation, &reply);
            self.backlog.charge(request.client, evaluation.bytes() - before);
            let takes_effect = match &reply {
                ShardReply::Written(result) => result.status == WriteStatus::Applied,
                ShardReply::Atomic(result) => matches!(result, AtomicResult::Applied(_)),
                _ => false,
            };
            if ack == Ack::Accepted && takes_effect {
                accepted.push((request.ticket, reply));
            } else if answered_too_early(&reply, takes_effect) {
                self.replies.push((request.ticket, reply));
            } else {
                waiting.push(Waiting { ticket: request.ticket, deadline: request.deadline, reply });
            }
        }
        self.backlog.end_entry();
        if evaluation.is_empty() && waiting.is_empty() {
            return Ok(false);
        }
        let (payload, marks) = evaluation.finish();
        // A value that is written anew was verified where it lay, and copied after that. If its page was lost in between, the
        // entry holds zeros under a right checksum.
        if lost_pages() != lost_before
            && let Some(segment) = self.store.reader().log().lossy_segment()
        {
            let (position, damage) = (Position { segment, offset: 0 }, Damage::Unreadable);
            return Err(ShardError::Log(LogError::Damaged { shard: self.config.shard, position, damage }));
        }
        let (at, term) = self.consensus.propose(payload)?;
        assert_eq!((at, term), (index, place.term), "a leader's next entry has the next index");
        self.push_in_flight(InFlight::new(place, marks, waiting, now.monotonic));
        // They leave after the poll that follows has put the entry into the log.
        self.replies.extend(accepted.into_iter().map(|(ticket, reply)| (ticket, reply.with_receipt(place))));
        Ok(true)
    }

    /// The consensus may take a proposal. Once one was evaluated it must not be refused, or the overlay would hold
    /// writes that never happen.
    fn may_propose(&self) -> bool {
        self.consensus.is_serving() && !self.is_handing_over()
    }

    fn apply(&mut self, committed: Vec<Committed>) -> Result<(), ShardError> {
        for entry in committed {
            if entry.kind == RaftEntryKind::Membership {
                self.membership = self.consensus.apply_membership(&entry)?;
                self.consensus.log_mut().set_membership(&self.membership);
            }
            let position = self.consensus.log().payload_position(entry.index);
            let (position, _) = position.expect("a committed entry is in the log");
            self.store.apply(&entry, position).map_err(|error| match error {
                ApplyError::Payload(reason) => ShardError::Entry { index: entry.index, reason },
                ApplyError::Record(damage) => ShardError::Log(damage.of_log(self.config.shard)),
            })?;
            self.consensus.handle_applied(entry.index);
            self.answer(entry.index, entry.term);
        }
        Ok(())
    }

    /// Opens or closes the gate, and gives waiting requests back when leadership is lost.
    fn note_leadership(&mut self, now: Nanos) {
        let leads = self.consensus.role() == Role::Leader;
        let leading_term = leads.then(|| self.consensus.term());
        if leading_term != self.led_term {
            self.led_term = leading_term;
            self.handing_over = None;
            self.leader_since = now;
            if !planted(Bug::OverlayOutlivesLeadership) {
                self.overlay.clear();
            }
            if leads && planted(Bug::SessionsLostWithLeader) {
                self.store.forget_sessions();
            }
        }
        if leads || !planted(Bug::LeaseKeptOverTransfer) {
            self.gate.set(self.consensus.lease_until(now));
        }
        if !leads {
            if planted(Bug::InFlightToldNotApplied) {
                let waiting = self.in_flight.iter_mut().flat_map(|entry| entry.waiting.drain(..));
                self.replies.extend(waiting.map(|waiting| (waiting.ticket, ShardReply::Error(superseded()))));
            }
            self.give_all_back();
        }
    }

    /// Answers what nobody waits for any more.
    fn drop_late(&mut self, now: Nanos) {
        let replies = &mut self.replies;
        let mut in_time = |ticket: Ticket, deadline: Nanos, outcome: Outcome| {
            let keep = deadline > now;
            if !keep {
                replies.push((ticket, ShardReply::Error(late(outcome))));
            }
            keep
        };
        self.backlog.retain(|request| in_time(request.ticket, request.deadline, Outcome::NotApplied));
        let proposed = if planted(Bug::LateWriteToldNotApplied) { Outcome::NotApplied } else { Outcome::Unknown };
        for entry in &mut self.in_flight {
            entry.waiting.retain(|waiting| in_time(waiting.ticket, waiting.deadline, proposed));
        }
        for reads in [&mut self.confirmations.in_round, &mut self.confirmations.next_round] {
            reads.retain(|asked| in_time(asked.ticket, asked.deadline, Outcome::NotApplied));
        }
        self.awaits.retain(|ticket, deadline| in_time(ticket, deadline, Outcome::Unknown));
    }

    /// Moves log time on if a key's time has come and no write does it.
    fn expire_keys(&mut self, now: Now) {
        if !self.in_flight.is_empty() || !self.may_propose() {
            return;
        }
        let Some(time_ms) = self.next_time_ms(now) else { return };
        if self.store.next_expiry_ms().is_none_or(|at| at > time_ms) {
            return;
        }
        let log = self.consensus.log();
        let entry_bytes = ENTRY_OVERHEAD_BYTES + ENTRY_FRAME_BYTES;
        if !log.can_append(entry_bytes) {
            // Out of the reserve, and seldom: a lock must run out, also where there is no room to write.
            let rested = self.expired_urgently_at.is_none_or(|at| now.monotonic.ms_since(at) >= URGENT_EXPIRY_EVERY_MS);
            if !rested || !log.can_append_urgent(entry_bytes) {
                return;
            }
            self.expired_urgently_at = Some(now.monotonic);
        }
        self.propose_at_time(now, time_ms);
    }

    /// Proposes an entry that holds nothing, if the log has room for one.
    fn propose_nothing(&mut self, now: Now) {
        if self.consensus.log().can_append(ENTRY_OVERHEAD_BYTES + ENTRY_FRAME_BYTES)
            && let Some(time_ms) = self.next_time_ms(now)
        {
            self.propose_at_time(now, time_ms);
        }
    }

    /// Proposes an entry that only moves log time on.
    fn propose_at_time(&mut self, now: Now, time_ms: u64) {
        let index = LogIndex(self.consensus.last_index().0 + 1);
        let room = Room::new(self.consensus.log(), &self.pressure);
        let durability = self.config.durability;
        let place = Receipt { shard: self.config.shard, term: self.consensus.term(), index };
        let evaluation = Evaluation::new(&self.store, &mut self.overlay, room, place, time_ms, durability, None);
        let (payload, marks) = evaluation.finish();
        if self.consensus.propose(payload).is_ok() {
            self.push_in_flight(InFlight::new(place, marks, Vec::new(), now.monotonic));
        }
    }
}

fn evaluate(evaluation: &mut Evaluation<'_>, operation: &Operation) -> (ShardReply, Ack) {
    match operation {
        Operation::Write { client, id, ack, mutation } => {
            let ack = ack_of(*id, *ack);
            (evaluation.write(*client, *id, ack, mutation), ack)
        }
        Operation::Atomic { client, request } => (evaluation.atomic(*client, request), ack_of(request.id, request.ack)),
        Operation::Transaction { client, request } => (evaluation.transaction(*client, request), Ack::Committed),
        Operation::Get(key) => (evaluation.get(key), Ack::Committed),
        Operation::Confirm | Operation::Await { .. } => unreachable!("what writes nothing never enters the backlog"),
    }
}

/// Seeded bugs: an answer without an effect of its own that doesn't wait for the entry that it rests on.
fn answered_too_early(reply: &ShardReply, takes_effect: bool) -> bool {
    match reply {
        ShardReply::Value(_) => planted(Bug::OrderedReadBeforeCommit),
        ShardReply::Written(_) | ShardReply::Atomic(_) => !takes_effect && planted(Bug::RefusalBeforeCommit),
        ShardReply::Transaction(_) => planted(Bug::TransactionBeforeCommit),
        ShardReply::MayRead | ShardReply::Awaited(_) | ShardReply::Error(_) | ShardReply::Returned(_) => false,
    }
}

fn late(outcome: Outcome) -> ServerError {
    ServerError::new(ErrorCode::DeadlineExceeded, "the deadline passed before the shard could answer")
        .with_outcome(outcome)
}

fn superseded() -> ServerError {
    ServerError::new(ErrorCode::Unavailable, "leadership was lost before the write was committed, and it never will be")
}
