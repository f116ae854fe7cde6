//! Where a shard meets the actor library: the only place.
//!
//! The actor opens the log, hosts a [`Shard`] and carries its effects out. If it fails, its state is gone; the
//! supervisor starts a new one, which rebuilds everything from the log and gets an inbox of its own, so that nothing
//! meant for the old one reaches it.

use super::inbox::{Drained, Inbox, QueueBudget, QueuedRequest, ShardHandle};
use super::{Shard, ShardConfig, ShardError, ShardRequest, ShardSnapshot, Ticket};
use crate::clock::{self, Nanos};
use crate::journal::{JournalHandle, Submission};
use crate::log::{Disk, LogOptions, ShardLog};
use crate::reply::{Answer, ReplyTo};
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::{ReplicaId, ShardId};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use slab::Slab;
use std::sync::Arc;
use tracing::{debug, warn};

/// What a shard's actor is told. All that there can be much of comes through the [`Inbox`] instead.
#[derive(Debug)]
pub enum ShardMessage {
    /// The inbox holds something.
    Wake,
    /// Hand leadership to whoever holds most, if this replica leads.
    HandOver,
    /// Hand leadership to this replica.
    TransferTo(ReplicaId),
    /// Fault hook: panic.
    Panic,
}

impl ractor::Message for ShardMessage {}

/// What a shard's actor needs of the node.
pub trait ShardOutlet: Send + Sync + 'static {
    /// Sends consensus messages to the nodes that hold their receivers. May drop them.
    fn send(&self, shard: ShardId, messages: Vec<RaftMessage>);
    /// A replica has been opened and takes requests.
    fn opened(&self, handle: Arc<ShardHandle>);
    /// The replica's leader, term or readiness to serve has changed.
    fn changed(&self, shard: ShardId, snapshot: ShardSnapshot);
}

/// What a shard's actor is started with.
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
    pub journal: JournalHandle,
    /// The node's bound on waiting requests.
    pub queue_budget: Arc<QueueBudget>,
    /// The node.
    pub outlet: Arc<dyn ShardOutlet>,
}

/// The actor.
pub struct ShardActor;

/// The actor's state.
pub struct ShardState {
    shard: Shard,
    id: ShardId,
    handle: Arc<ShardHandle>,
    inbox: Arc<Inbox>,
    journal: JournalHandle,
    outlet: Arc<dyn ShardOutlet>,
    /// Unanswered requests, by ticket.
    tickets: Slab<Unanswered>,
    persisted: u64,
    last: ShardSnapshot,
}

/// A request that the shard is working on.
struct Unanswered {
    reply_to: ReplyTo,
    /// What it holds of the inbox's bound.
    bytes: usize,
    queued_at: Nanos,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> Result<ShardState, ActorProcessingErr> {
        // Recovery reads and syncs files, so it stays off the async workers.
        let state = tokio::task::spawn_blocking(move || ShardState::open(myself, arguments)).await??;
        state.outlet.opened(Arc::clone(&state.handle));
        state.inbox.tick();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Wake => {}
            ShardMessage::HandOver => {
                state.shard.hand_over();
            }
            ShardMessage::TransferTo(replica) => state.shard.transfer_to(replica),
            ShardMessage::Panic => panic!("fault hook: shard {} was told to panic", state.id),
        }
        state.turn()?;
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ShardMessage>,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        state.shard.prepare_stop()?;
        let chunks = state.shard.take_unsubmitted();
        // Nobody waits for it: the journal's own stop syncs what it was given.
        state.journal.submit(Submission { chunks, token: 0, listener: Arc::clone(&state.inbox) as _ });
        Ok(())
    }
}

impl ShardState {
    fn open(actor: ActorRef<ShardMessage>, arguments: ShardArguments) -> Result<Self, ShardError> {
        let ShardArguments { config, incarnation, disk, log, journal, queue_budget, outlet } = arguments;
        let id = config.shard;
        let (log, recovered) = ShardLog::open(&disk, id, journal.durable(id), log)?;
        debug!(shard = %id, incarnation, records = recovered.records, "opened the log");
        let shard = Shard::new(config, log, clock::monotonic())?;
        let inbox = Arc::new(Inbox::new(id, actor.clone(), queue_budget));
        let last = shard.snapshot();
        let handle = Arc::new(ShardHandle {
            shard: id,
            inbox: Arc::clone(&inbox),
            gate: Arc::clone(shard.gate()),
            reader: Arc::clone(shard.reader()),
            incarnation,
            snapshot: Mutex::new(last),
            actor,
        });
        Ok(ShardState { shard, id, handle, inbox, journal, outlet, tickets: Slab::new(), persisted: 0, last })
    }

    /// Takes what has come in, lets the shard work, and carries out what it asks for.
    fn turn(&mut self) -> Result<(), ShardError> {
        let Drained { requests, messages, persisted, tick } = self.inbox.drain();
        let now = clock::now();
        if persisted > self.persisted {
            self.persisted = persisted;
            self.shard.handle_persisted(persisted);
        }
        for message in messages {
            let from = message.from;
            if let Err(error) = self.shard.handle_message(now.monotonic, message) {
                warn!(shard = %self.id, %from, %error, "dropped a consensus message");
            }
        }
        if tick {
            self.shard.handle_tick(now);
        }
        let tickets = &mut self.tickets;
        self.shard.handle_requests(requests.into_iter().map(|request| {
            let QueuedRequest { reply_to, queued_at, deadline, operation } = request;
            let unanswered = Unanswered { reply_to, bytes: operation.bytes(), queued_at };
            ShardRequest { ticket: Ticket(tickets.insert(unanswered) as u64), deadline, operation }
        }));
        let effects = self.shard.poll(now)?;
        // Messages first: the followers' disks work while ours does.
        if !effects.messages.is_empty() {
            self.outlet.send(self.id, effects.messages);
        }
        if let Some((token, chunks)) = effects.append {
            self.journal.submit(Submission { chunks, token, listener: Arc::clone(&self.inbox) as _ });
        }
        for (ticket, reply) in effects.replies {
            let Unanswered { reply_to, bytes, .. } = self.tickets.remove(ticket.0 as usize);
            self.inbox.release(1, bytes);
            reply_to.answer(Answer::Shard(reply));
        }
        let oldest = self.shard.oldest_waiting().map(|ticket| self.tickets[ticket.0 as usize].queued_at);
        self.inbox.set_oldest(oldest);
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let snapshot = self.shard.snapshot();
        if snapshot == self.last {
            return;
        }
        *self.handle.snapshot.lock() = snapshot;
        let visible = |of: &ShardSnapshot| (of.role, of.term, of.leader, of.serving);
        if visible(&snapshot) != visible(&self.last) {
            self.outlet.changed(self.id, snapshot);
        }
        self.last = snapshot;
    }
}

impl Drop for ShardState {
    /// However the actor ends: nobody may wait for it or read what it left any more. It may have failed in the middle of
    /// an entry.
    fn drop(&mut self) {
        self.shard.close_gate();
        self.inbox.close();
    }
}
