//! What stands between a [`Shard`] and its node: it takes what the inbox holds, lets the shard work, and carries out what
//! it asks for. Knows neither the actor library nor a clock; an actor hosts it in a node, the simulator in a simulation.

use super::ShardHandle;
use super::inbox::{Drained, Inbox, QueueBudget, QueueUse, QueuedRequest, ShardCommand, Waker};
use super::offering::Offering;
use super::transfer::{Reception, ReceptionSinks};
use super::upkeep::{Job, Keeper, Upkeep, UpkeepCounts, UpkeepOptions};
use super::{
    AppliedEntry, Effects, Operation, ReplicaStatus, Shard, ShardConfig, ShardError, ShardReply, ShardRequest, Tally,
    Ticket,
};
use crate::clock::{Clock, Nanos, Now};
use crate::consensus::{ConsensusError, Role};
use crate::disk::Disk;
use crate::health::pressure::Pressure;
use crate::journal::{ShardJournal, Submission};
use crate::limits::{LARGE_WORK_BYTES, LARGE_WORK_LINGER_MS};
use crate::log::{LogError, LogOptions, Recovered, ShardLog};
use crate::measure::ShardCounts;
use crate::measure::heat::Heat;
use crate::seeded::{Bug, planted};
use crate::session::reply::{Answer, ReplyTo};
use crate::snapshot::limits::BYTES_PER_SECOND_DEFAULT;
use crate::snapshot::{Intake, OffersFull, PullBudget, SnapshotSource};
use bytes::Bytes;
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::snapshot::{SnapshotId, SnapshotMessage};
use kvorum_protocol::{ClientId, LogIndex, Mutation, ReplicaId, ShardId, TransactionOperation};
use parking_lot::Mutex;
use slab::Slab;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// A log that has grown by less than this since its last checkpoint gets none when its replica stops: the next start reads
/// it in no time.
const STOP_CHECKPOINT_BYTES: u64 = 1 << 20;

/// What a shard's replica needs of the node.
pub trait ShardOutlet: Send + Sync + 'static {
    /// Sends consensus messages to the nodes that hold their receivers. May drop them.
    fn send(&self, shard: ShardId, messages: Vec<RaftMessage>);
    /// Sends messages about snapshots to the nodes that hold their receivers. May drop them, and does unless it is
    /// overridden.
    fn send_snapshot(&self, shard: ShardId, messages: Vec<SnapshotMessage>) {
        let _ = (shard, messages);
    }
    /// Whether [`ShardOutlet::offer_snapshot`] would succeed. To be asked before a snapshot is made. A node that offers
    /// no snapshots has no room.
    fn has_room_for_snapshot(&self, shard: ShardId, to: ReplicaId) -> bool {
        let _ = (shard, to);
        false
    }
    /// Offers a snapshot of the shard that `from`, the replica here, has made for `to`. How it ends comes as
    /// [`ShardCommand::SnapshotEnded`].
    ///
    /// # Errors
    /// If the node has too many under way already.
    fn offer_snapshot(
        &self,
        shard: ShardId,
        from: ReplicaId,
        to: ReplicaId,
        source: Arc<dyn SnapshotSource>,
    ) -> Result<(), OffersFull> {
        let _ = (shard, from, to, source);
        Err(OffersFull)
    }
    /// What the node may pull of snapshots, for all its replicas together. One that says nothing of it has a replica of its own.
    fn pull_budget(&self) -> Arc<PullBudget> {
        Arc::new(PullBudget::new(BYTES_PER_SECOND_DEFAULT))
    }
    /// Whether a replica of the shard should lead, or may be handed leadership, as far as its node's condition goes. It
    /// should where nothing is known of its node.
    fn is_fit(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let _ = (shard, replica);
        true
    }
    /// Whether who leads the shard since `since` may bring about what the ring map wants since its epoch `change`: that map is in
    /// force, and was the newest at some moment after `since`.
    fn may_follow(&self, shard: ShardId, change: u64, since: Nanos) -> bool {
        let _ = (shard, change, since);
        true
    }
    /// From how many nanoseconds on it is of interest where the time of a request went; `u64::MAX` where nobody asks.
    fn slower_than_ns(&self) -> u64 {
        u64::MAX
    }
    /// A replica has been opened and takes requests.
    fn opened(&self, handle: Arc<ShardHandle>) {
        let _ = handle;
    }
    /// The replica's leader, term or readiness to serve has changed.
    fn changed(&self, shard: ShardId, status: ReplicaStatus) {
        let _ = (shard, status);
    }
}

impl fmt::Debug for dyn ShardOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardOutlet")
    }
}

/// What a shard's replica is opened with.
#[derive(Clone)]
pub struct ShardArguments {
    /// How it runs.
    pub config: ShardConfig,
    /// How often it was started before, plus one.
    pub incarnation: u32,
    /// Where its log lies.
    pub disk: Arc<dyn Disk>,
    /// How its log is laid out.
    pub log: LogOptions,
    /// What makes its appends durable.
    pub journal: Arc<dyn ShardJournal>,
    /// The node's bound on waiting requests.
    pub queue_budget: Arc<QueueBudget>,
    /// What the node is short of.
    pub pressure: Arc<Pressure>,
    /// Does the slow part of keeping its files in order.
    pub upkeep: Arc<dyn Upkeep>,
    /// When they are worth it.
    pub upkeep_options: UpkeepOptions,
    /// The node.
    pub outlet: Arc<dyn ShardOutlet>,
    /// Takes down what is counted.
    pub counts: Arc<ShardCounts>,
    /// The node's clocks.
    pub clock: Arc<dyn Clock>,
}

/// How far a turn has come. Whoever takes it may be kept from going on between any two steps, for as long as it pleases the
/// system: a thread is preempted, a machine is suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TurnStep {
    /// It has begun, and nothing is taken.
    Begun,
    /// What had come in is taken.
    Drained,
    /// The clock is read, by which all that was taken is judged.
    Timed,
    /// The shard has worked, and what it asks for waits to be carried out.
    Worked,
    /// It is over.
    Over(TurnEnd),
}

/// How a turn has ended.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TurnEnd {
    /// All is done, and the next turn may follow.
    Done,
    /// A snapshot has taken the place of the replica's files. The host must be dropped without a stop, since what it holds
    /// is not in them. The replica is opened from them at once.
    Reopen {
        /// The last entry whose effects the snapshot holds.
        index: LogIndex,
    },
}

/// What a turn has come to so far.
enum Turn {
    Due,
    Begun { early: Option<Now> },
    Drained { early: Option<Now> },
    Timed(Now),
    Worked(Nanos, Effects),
}

/// A shard's replica at work.
pub struct ShardHost {
    shard: Shard,
    clock: Arc<dyn Clock>,
    turn: Turn,
    id: ShardId,
    handle: Arc<ShardHandle>,
    inbox: Arc<Inbox>,
    journal: Arc<dyn ShardJournal>,
    outlet: Arc<dyn ShardOutlet>,
    disk: Arc<dyn Disk>,
    /// What a turn takes in; empty between turns.
    drained: Drained,
    /// Unanswered requests, by ticket.
    tickets: Slab<Unanswered>,
    intake: Intake,
    /// The handle says that one is on its way.
    was_receiving: bool,
    /// Where the intake leaves what it has received.
    reception: Arc<Reception>,
    upkeep: Arc<dyn Upkeep>,
    keeper: Keeper,
    offering: Offering,
    persisted: u64,
    /// The upkeep that was told last.
    counted: UpkeepCounts,
    /// The keys that had expired when that was told last.
    expired: u64,
    last: ReplicaStatus,
    counts: Arc<ShardCounts>,
    recovered: Recovered,
    /// See [`ShardHost::is_long_turn`].
    long_turns_until: Nanos,
    /// The turn that is under way may take milliseconds.
    is_in_long_turn: bool,
}

/// A request that the shard is working on.
struct Unanswered {
    reply_to: ReplyTo,
    client: ClientId,
    /// What it holds of the inbox's bound.
    bytes: usize,
    queued_at: Nanos,
    /// Its trace is recorded.
    traced: bool,
}

impl ShardHost {
    /// Opens the shard's log and the replica on top of it. `waker` is called when the inbox has something for
    /// [`ShardHost::turn`]. Reads and syncs files: may block for long.
    ///
    /// # Errors
    /// If the log can't be opened. The caller decides whether trying again helps: not if it is damaged.
    pub fn open(arguments: ShardArguments, waker: Waker) -> Result<Self, ShardError> {
        let ShardArguments {
            config,
            incarnation,
            disk,
            log,
            journal,
            queue_budget,
            pressure,
            upkeep,
            upkeep_options,
            outlet,
            counts,
            clock,
        } = arguments;
        let id = config.shard;
        let replica = config.consensus.replica;
        let (log, recovered) = ShardLog::open(&disk, id, journal.durable(id), log)?;
        debug!(shard = %id, incarnation, records = recovered.records, "opened the log");
        let mut shard = Shard::new(config, log, clock.monotonic())?;
        // The ring map is small, and changing it is how a node that is short of something gets help.
        if id != ShardId::META {
            shard.set_pressure(pressure);
        }
        shard.set_entry_limits(queue_budget.limits().entry);
        shard.set_stopwatch(Arc::clone(&clock));
        let pull_budget = outlet.pull_budget();
        let judge = Arc::clone(&outlet);
        shard.set_fitness(Box::new(move |replica| judge.is_fit(id, replica)));
        let judge = Arc::clone(&outlet);
        shard.set_may_follow(Box::new(move |change, since| judge.may_follow(id, change, since)));
        let inbox =
            Arc::new(Inbox::new(id, waker, queue_budget, Arc::clone(&outlet), Arc::clone(&counts), Arc::clone(&clock)));
        let last = shard.status();
        let handle = Arc::new(ShardHandle {
            shard: id,
            inbox: Arc::clone(&inbox),
            gate: Arc::clone(shard.gate()),
            reader: Arc::clone(shard.reader()),
            incarnation,
            counts: Arc::clone(&counts),
            status: Mutex::new(last),
            receiving: Mutex::default(),
            upkeep: Mutex::default(),
        });
        let reception = Reception::new(shard.log().data_writers(), Arc::clone(shard.pressure()));
        Ok(Self {
            intake: Intake::new(id, replica, Arc::new(ReceptionSinks(Arc::clone(&reception))), pull_budget),
            reception,
            keeper: Keeper::new(upkeep_options.of_replica(id, replica), Arc::clone(upkeep.permits())),
            offering: Offering::new(upkeep_options.slice.capture),
            upkeep,
            shard,
            clock,
            turn: Turn::Due,
            id,
            handle,
            inbox,
            journal,
            outlet,
            disk,
            drained: Drained::default(),
            tickets: Slab::new(),
            persisted: 0,
            was_receiving: false,
            counted: UpkeepCounts::default(),
            expired: 0,
            last,
            counts,
            recovered,
            long_turns_until: Nanos(0),
            is_in_long_turn: false,
        })
    }

    /// What the rest of the node holds of it.
    pub fn handle(&self) -> &Arc<ShardHandle> {
        &self.handle
    }

    /// What opening the log found.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// The replica, for looking at.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// What waits in its inbox, and how many requests it has taken and not answered with how many bytes.
    pub fn queued(&self) -> (QueueUse, usize, usize) {
        let taken_bytes = self.tickets.iter().map(|(_, unanswered)| unanswered.bytes).sum();
        (self.inbox.queued(), self.tickets.len(), taken_bytes)
    }

    /// Whether the turn that is due may take milliseconds: much has come in, or had a moment ago, or the log may have to wait for its
    /// next segment. Its host should not keep others waiting for it.
    pub fn is_long_turn(&mut self) -> bool {
        let now = self.clock.monotonic();
        let waits_for_disk = self.shard.log().may_wait_for_segment();
        if waits_for_disk || self.inbox.holds_large(LARGE_WORK_BYTES) || self.shard.awaits_long_turn() {
            self.long_turns_until = now.after_ms(LARGE_WORK_LINGER_MS);
        }
        now < self.long_turns_until
    }

    /// Takes what has come in, lets the shard work, and carries out what it asks for.
    ///
    /// # Errors
    /// If the replica can't go on: it must be dropped and opened again.
    ///
    /// # Panics
    /// If it finds itself broken, or was told to. It must be dropped then, too.
    pub fn turn(&mut self) -> Result<TurnEnd, ShardError> {
        loop {
            if let TurnStep::Over(end) = self.step()? {
                return Ok(end);
            }
        }
    }

    /// One step of a turn, or of the next one. Returns which it was.
    ///
    /// The clock is read after the inbox was drained. So the time by which a message or a request is judged is never before it came
    /// in, which the lease's argument rests on ([`crate::consensus::lease`]); and all that is decided later than that time, or
    /// leaves later, is on the safe side: stamps are older than their messages, and refusals last longer.
    ///
    /// # Errors
    /// As [`ShardHost::turn`].
    pub fn step(&mut self) -> Result<TurnStep, ShardError> {
        let step;
        (self.turn, step) = match std::mem::replace(&mut self.turn, Turn::Due) {
            Turn::Due => {
                let too_early = planted(Bug::ClockReadBeforeDrain) || planted(Bug::ConfirmedByPastLease);
                (Turn::Begun { early: too_early.then(|| self.clock.now()) }, TurnStep::Begun)
            }
            Turn::Begun { early } => {
                self.inbox.drain(&mut self.drained);
                (Turn::Drained { early }, TurnStep::Drained)
            }
            Turn::Drained { early } => (Turn::Timed(early.unwrap_or_else(|| self.clock.now())), TurnStep::Timed),
            Turn::Timed(now) => match self.work(now)? {
                ControlFlow::Continue(effects) => (Turn::Worked(now.monotonic, effects), TurnStep::Worked),
                ControlFlow::Break(index) => (Turn::Due, TurnStep::Over(TurnEnd::Reopen { index })),
            },
            Turn::Worked(now, effects) => {
                self.carry_out(now, effects);
                (Turn::Due, TurnStep::Over(TurnEnd::Done))
            }
        };
        Ok(step)
    }

    /// Whether a turn has begun and is not over.
    pub fn is_in_turn(&self) -> bool {
        !matches!(self.turn, Turn::Due)
    }

    /// Hands the shard what was taken, at `now`, and lets it work. Breaks off if a snapshot up to some entry was installed.
    fn work(&mut self, now: Now) -> Result<ControlFlow<LogIndex, Effects>, ShardError> {
        let mut drained = std::mem::take(&mut self.drained);
        let Drained { requests, messages, snapshots, commands, upkeep, persisted, persisted_at, shared_until, tick } =
            &mut drained;
        let (persisted, tick) = (*persisted, *tick);
        self.shard.set_shared(now.monotonic < *shared_until);
        if persisted > self.persisted {
            self.persisted = persisted;
            self.shard.handle_persisted(persisted);
            self.shard.stamp_synced(persisted, *persisted_at);
        }
        // First: once a snapshot is in place the replica must not touch its old log any more.
        if let Some(index) = self.take_in(now.monotonic, snapshots.drain(..), tick)? {
            return Ok(ControlFlow::Break(index));
        }
        for message in messages.drain(..) {
            let from = message.from;
            match self.shard.handle_message(now.monotonic, message) {
                Ok(()) => {}
                Err(error @ ConsensusError::Forgotten { .. }) => return Err(error.into()),
                Err(error) => warn!(shard = %self.id, %from, %error, "dropped a consensus message"),
            }
        }
        if tick {
            self.shard.handle_tick(now);
        }
        if let Some(done) = upkeep.take() {
            let next = self.keeper.handle_done(&mut self.shard, now.monotonic, done)?;
            self.submit(next);
        } else if self.keeper.is_at_work() {
            let next = self.keeper.go_on(&mut self.shard, now.monotonic)?;
            self.submit(next);
        } else if tick {
            let due = self.keeper.handle_tick(&mut self.shard, now.monotonic)?;
            self.submit(due);
        }
        for command in commands.drain(..) {
            self.handle_command(now.monotonic, command);
        }
        let (tickets, counts, leads) = (&mut self.tickets, &*self.counts, self.last.role == Role::Leader);
        self.shard.handle_requests(requests.drain(..).map(|request| {
            let QueuedRequest { reply_to, client, queued_at, deadline, term, traced, operation } = request;
            counts.queue_wait.note(now.monotonic.0.saturating_sub(queued_at.0));
            if leads {
                note_heat(&counts.heat, &operation, queued_at, tickets.len());
            }
            let unanswered = Unanswered { reply_to, client, bytes: operation.bytes(), queued_at, traced };
            ShardRequest { ticket: Ticket(tickets.insert(unanswered) as u64), client, deadline, term, operation }
        }));
        drained.clear();
        self.drained = drained;
        // Whether others are kept waiting for this turn is its host's to decide, which knows that one is awaited.
        self.is_in_long_turn = self.shard.awaits_long_turn() || now.monotonic < self.long_turns_until;
        self.shard.set_value_bytes_max(if self.is_in_long_turn { usize::MAX } else { LARGE_WORK_BYTES });
        let effects = self.shard.poll(now)?;
        self.count(now.monotonic, &effects.tally);
        Ok(ControlFlow::Continue(effects))
    }

    /// Takes down what the shard tells of its work.
    fn count(&mut self, now: Nanos, tally: &Tally) {
        let counts = &self.counts;
        for applied in &tally.applied {
            counts.entries.add(1);
            counts.entry_requests.add(applied.requests as u64);
            counts.commit.note(now.0.saturating_sub(applied.proposed_at.0));
            counts.stages.note_entry(&applied.stamps);
        }
        if let Some(took) = tally.applying {
            counts.apply.note(took.0);
        }
        tally.retries.iter().for_each(|answer| counts.note_retry(*answer));
        let expired = self.shard.store().expired();
        if expired != self.expired {
            counts.expired_keys.add(expired - self.expired);
            self.expired = expired;
        }
    }

    /// Carries out what the shard asks for, at the time by which it was judged.
    fn carry_out(&mut self, now: Nanos, effects: Effects) {
        self.offering.want(effects.snapshots);
        self.offering.go_on(&mut self.shard, &*self.outlet);
        // Before anything that could be confirmed leaves.
        self.inbox.expect(self.shard.expecting(), effects.promises);
        // Messages first: the followers' disks work while ours does. Goes on in the task of a peer's lane; the follower's word
        // comes back into the inbox as a message.
        if !effects.messages.is_empty() {
            self.outlet.send(self.id, effects.messages);
        }
        if let Some((token, chunks)) = effects.append {
            // Goes on in the journal's thread, and comes back into the inbox: `persisted`, with this token. The turn after that
            // hands it to `Shard::handle_persisted`.
            self.journal.submit(Submission { chunks, token, listener: Arc::clone(&self.inbox) as _ });
        }
        if !effects.replies.is_empty() {
            let unanswered = effects.replies.iter().map(|(ticket, _)| &self.tickets[ticket.0 as usize]);
            self.inbox.release(unanswered.map(|unanswered| (unanswered.client, unanswered.bytes)));
        }
        let mut entries = effects.tally.applied.iter().peekable();
        let slower_than_ns = self.outlet.slower_than_ns();
        for (at, (ticket, reply)) in effects.replies.into_iter().enumerate() {
            // Goes on in the task of the connection that asked: `Session::collect`.
            let Unanswered { reply_to, queued_at, traced, .. } = self.tickets.remove(ticket.0 as usize);
            if matches!(reply, ShardReply::MayRead) {
                self.counts.read_confirm.note(now.0.saturating_sub(queued_at.0));
            }
            while entries.next_if(|entry| entry.answers.end <= at).is_some() {}
            let mut stamps = None;
            if let Some(AppliedEntry { stamps: of_entry, .. }) = entries.peek().filter(|of| of.answers.contains(&at)) {
                self.counts.stages.note_queue(of_entry.begun.0.saturating_sub(queued_at.0));
                // Whoever waits for it may find that it took longer, but hardly twice as long.
                let is_slow = of_entry.applied.0.saturating_sub(queued_at.0) >= slower_than_ns / 2;
                stamps = (traced || is_slow).then(|| Box::new(*of_entry));
            }
            reply_to.answer_stamped(Answer::Shard(reply), stamps);
        }
        let oldest = self.shard.oldest_waiting().map(|ticket| self.tickets[ticket.0 as usize].queued_at).min();
        self.inbox.set_oldest(oldest, self.shard.waits_since());
        self.publish();
        if self.keeper.is_at_work()
            || self.offering.is_at_work()
            || (!self.is_in_long_turn && self.shard.awaits_long_turn())
        {
            // Whoever else is ready goes first.
            self.inbox.nudge();
        }
    }

    /// Goes on with the snapshot that the replica receives, if it receives one. Returns its last entry once it is installed.
    fn take_in(
        &mut self,
        now: Nanos,
        messages: impl Iterator<Item = SnapshotMessage>,
        tick: bool,
    ) -> Result<Option<LogIndex>, ShardError> {
        let shard = &self.shard;
        let holds =
            |id: SnapshotId| id.index <= shard.store().applied() || shard.log().term_of(id.index) == Some(id.term);
        for message in messages {
            self.intake.handle_message(now, message, &holds)?;
        }
        if tick {
            self.intake.handle_tick(now, &holds)?;
        }
        let receiving = self.intake.progress(now);
        if receiving.is_some() || self.was_receiving {
            self.was_receiving = receiving.is_some();
            *self.handle.receiving.lock() = receiving;
        }
        let effects = self.intake.poll();
        let installed = effects.installed.map(|_| self.install()).transpose()?;
        if !effects.messages.is_empty() {
            self.outlet.send_snapshot(self.id, effects.messages);
        }
        Ok(installed)
    }

    /// Puts the state that has come in place of the replica's own, on the disk.
    fn install(&mut self) -> Result<LogIndex, ShardError> {
        let received = self.reception.take().expect("the intake has just said that it is there");
        // A manifest of the old state must not come after the new one.
        self.keeper.let_go();
        let index = received.base.index;
        self.shard.install(received)?;
        self.counts.snapshots_received.add(1);
        Ok(index)
    }

    fn submit(&self, job: Option<Job>) {
        if let Some(job) = job {
            self.upkeep.submit(self.id, job, Arc::clone(&self.inbox));
        }
    }

    /// What was done to keep its files in order since it was opened.
    pub fn upkeep_counts(&self) -> UpkeepCounts {
        self.keeper.counts()
    }

    fn handle_command(&mut self, now: Nanos, command: ShardCommand) {
        match command {
            ShardCommand::HandOver => {
                self.shard.hand_over(now);
            }
            ShardCommand::TransferTo(replica) => self.shard.transfer_to(replica),
            ShardCommand::SetTarget(target) => self.shard.set_target(target),
            ShardCommand::SnapshotEnded { to, installed } => self.snapshot_ended(to, installed),
            ShardCommand::Panic => panic!("fault hook: shard {} was told to panic", self.id),
        }
    }

    /// A snapshot that this replica offered is over, and its log decides what the other replica needs next.
    fn snapshot_ended(&mut self, to: ReplicaId, installed: bool) {
        info!(shard = %self.id, %to, installed, "a snapshot is over");
        let counts = &self.counts;
        if installed { &counts.snapshots_sent } else { &counts.snapshots_failed }.add(1);
        self.shard.report_snapshot(to, installed);
    }

    /// Writes down what makes the next start quick. To be called last, in a graceful stop.
    ///
    /// # Errors
    /// As [`ShardHost::write_last_record`] and [`ShardHost::last_checkpoint`].
    pub fn stop(&mut self) -> Result<(), ShardError> {
        self.write_last_record()?;
        self.last_checkpoint()
    }

    /// The first part of [`ShardHost::stop`], which takes no time.
    ///
    /// # Errors
    /// If the append fails.
    pub fn write_last_record(&mut self) -> Result<(), ShardError> {
        self.shard.prepare_stop()?;
        let chunks = self.shard.take_unsubmitted();
        // Nobody waits for it: the journal's own stop syncs what it was given.
        self.journal.submit(Submission { chunks, token: 0, listener: Arc::clone(&self.inbox) as _ });
        Ok(())
    }

    /// The second part of [`ShardHost::stop`]: writes a checkpoint, if it is worth it, so that the next start needn't read and apply what
    /// came after the one before. Writes the whole index down, and syncs files: may block for long.
    ///
    /// # Errors
    /// If the disk fails, but for one that is full.
    pub fn last_checkpoint(&mut self) -> Result<(), ShardError> {
        let worth_it = self.keeper.is_resting() && self.shard.log().grown() >= STOP_CHECKPOINT_BYTES;
        self.keeper.let_go();
        let checkpoint = if worth_it { self.keeper.checkpoint(&mut self.shard) } else { None };
        match checkpoint.map(|checkpoint| checkpoint.write(&*self.disk)) {
            Some(Err(LogError::DiskFull(_))) | None => Ok(()),
            Some(written) => Ok(written?),
        }
    }

    fn publish(&mut self) {
        let upkeep = self.keeper.counts();
        if upkeep != self.counted {
            self.counts.compactions.add(upkeep.compactions.saturating_sub(self.counted.compactions).into());
            let written = upkeep.compaction_bytes_written;
            self.counts.compacted_bytes.add(written.saturating_sub(self.counted.compaction_bytes_written));
            let read = upkeep.compaction_bytes_read;
            self.counts.compaction_read_bytes.add(read.saturating_sub(self.counted.compaction_bytes_read));
            (*self.handle.upkeep.lock(), self.counted) = (upkeep, upkeep);
        }
        let status = self.shard.status();
        if status == self.last {
            return;
        }
        *self.handle.status.lock() = status;
        let visible = |of: &ReplicaStatus| (of.role, of.term, of.leader, of.serving);
        if visible(&status) != visible(&self.last) {
            self.outlet.changed(self.id, status);
        }
        if status.role == Role::Candidate && (self.last.role != Role::Candidate || status.term != self.last.term) {
            self.counts.elections.add(1);
        }
        if status.leader.is_some() && (status.leader, status.term) != (self.last.leader, self.last.term) {
            self.counts.leader_changes.add(1);
        }
        self.last = status;
    }
}

/// Takes down which keys a request is for. `nth` tells requests apart that came at one time.
fn note_heat(heat: &Heat, operation: &Operation, at: Nanos, nth: usize) {
    let note_key = |part: u64, key: &Bytes| heat.note_write(key, at, nth as u64 + part);
    let note = |(part, mutation): (u64, &Mutation)| note_key(part, &mutation.key);
    match operation {
        Operation::Write { mutation, .. } => note((0, mutation)),
        Operation::Atomic { request, .. } => (0..).zip(&request.mutations).for_each(note),
        Operation::Transaction { request, .. } => {
            for (part, operation) in (0..).zip(&request.operations) {
                match operation {
                    TransactionOperation::Read(key) => _ = heat.note_read(key, at, nth as u64 + part),
                    TransactionOperation::Write(mutation) => note((part, mutation)),
                    TransactionOperation::Rename { to, .. } | TransactionOperation::Copy { to, .. } => {
                        note_key(part, to);
                    }
                }
            }
        }
        // The turn's time is counted as a whole.
        Operation::Get(key) => _ = heat.note_read(key, at, nth as u64),
        Operation::Confirm | Operation::Await { .. } => {}
    }
}

impl Drop for ShardHost {
    /// However it ends: nobody may wait for it or read what it left any more. It may have failed in the middle of
    /// an entry.
    fn drop(&mut self) {
        self.shard.close_gate();
        self.inbox.close();
        self.keeper.let_go();
    }
}
