//! What stands between a [`Shard`] and its node: it takes what the inbox holds, lets the shard work, and carries out what
//! it asks for. Knows neither the actor library nor a clock; an actor hosts it in a node, the simulator in a simulation.

use super::inbox::{Drained, Inbox, QueueBudget, QueuedRequest, ShardCommand, ShardHandle, Waker};
use super::{Shard, ShardConfig, ShardError, ShardRequest, ShardSnapshot, Ticket};
use crate::clock::{Nanos, Now};
use crate::journal::{ShardJournal, Submission};
use crate::limits::{LARGE_WORK_BYTES, LARGE_WORK_LINGER_MS};
use crate::log::{Disk, LogOptions, Recovered, ShardLog};
use crate::reply::{Answer, ReplyTo};
use kvorum_protocol::ShardId;
use kvorum_protocol::peer::RaftMessage;
use parking_lot::Mutex;
use slab::Slab;
use std::sync::Arc;
use tracing::{debug, warn};

/// What a shard's replica needs of the node.
pub trait ShardOutlet: Send + Sync + 'static {
    /// Sends consensus messages to the nodes that hold their receivers. May drop them.
    fn send(&self, shard: ShardId, messages: Vec<RaftMessage>);
    /// A replica has been opened and takes requests.
    fn opened(&self, handle: Arc<ShardHandle>);
    /// The replica's leader, term or readiness to serve has changed.
    fn changed(&self, shard: ShardId, snapshot: ShardSnapshot);
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
    /// The node.
    pub outlet: Arc<dyn ShardOutlet>,
}

/// A shard's replica at work.
pub struct ShardHost {
    shard: Shard,
    id: ShardId,
    handle: Arc<ShardHandle>,
    inbox: Arc<Inbox>,
    journal: Arc<dyn ShardJournal>,
    outlet: Arc<dyn ShardOutlet>,
    /// Unanswered requests, by ticket.
    tickets: Slab<Unanswered>,
    persisted: u64,
    last: ShardSnapshot,
    recovered: Recovered,
    /// See [`ShardHost::is_long_turn`].
    long_turns_until: Nanos,
}

/// A request that the shard is working on.
struct Unanswered {
    reply_to: ReplyTo,
    /// What it holds of the inbox's bound.
    bytes: usize,
    queued_at: Nanos,
}

impl ShardHost {
    /// Opens the shard's log and the replica on top of it. `waker` is called when the inbox has something for
    /// [`ShardHost::turn`]. Reads and syncs files: may block for long.
    ///
    /// # Errors
    /// If the log can't be opened. The caller decides whether trying again helps: not if it is damaged.
    pub fn open(arguments: ShardArguments, waker: Waker, now: Nanos) -> Result<Self, ShardError> {
        let ShardArguments { config, incarnation, disk, log, journal, queue_budget, outlet } = arguments;
        let id = config.shard;
        let (log, recovered) = ShardLog::open(&disk, id, journal.durable(id), log)?;
        debug!(shard = %id, incarnation, records = recovered.records, "opened the log");
        let shard = Shard::new(config, log, now)?;
        let inbox = Arc::new(Inbox::new(id, waker, queue_budget));
        let last = shard.snapshot();
        let handle = Arc::new(ShardHandle {
            shard: id,
            inbox: Arc::clone(&inbox),
            gate: Arc::clone(shard.gate()),
            reader: Arc::clone(shard.reader()),
            incarnation,
            snapshot: Mutex::new(last),
        });
        Ok(ShardHost {
            shard,
            id,
            handle,
            inbox,
            journal,
            outlet,
            tickets: Slab::new(),
            persisted: 0,
            last,
            recovered,
            long_turns_until: Nanos(0),
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

    /// Whether the turn that is due may take milliseconds: much has come in, or had a moment ago. Its host should not keep
    /// others waiting for it.
    pub fn is_long_turn(&mut self, now: Nanos) -> bool {
        if self.inbox.bytes() > LARGE_WORK_BYTES {
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
    pub fn turn(&mut self, now: Now) -> Result<(), ShardError> {
        let Drained { requests, messages, commands, persisted, tick } = self.inbox.drain();
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
        for command in commands {
            self.handle_command(command);
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

    fn handle_command(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::HandOver => {
                self.shard.hand_over();
            }
            ShardCommand::TransferTo(replica) => self.shard.transfer_to(replica),
            ShardCommand::Panic => panic!("fault hook: shard {} was told to panic", self.id),
        }
    }

    /// Writes down what makes the next start quick. To be called last, in a graceful stop.
    ///
    /// # Errors
    /// If the append fails.
    pub fn stop(&mut self) -> Result<(), ShardError> {
        self.shard.prepare_stop()?;
        let chunks = self.shard.take_unsubmitted();
        // Nobody waits for it: the journal's own stop syncs what it was given.
        self.journal.submit(Submission { chunks, token: 0, listener: Arc::clone(&self.inbox) as _ });
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

impl Drop for ShardHost {
    /// However it ends: nobody may wait for it or read what it left any more. It may have failed in the middle of
    /// an entry.
    fn drop(&mut self) {
        self.shard.close_gate();
        self.inbox.close();
    }
}
