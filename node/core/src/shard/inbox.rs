//! The bounded way into a shard's host. Mailboxes of the actor library have no bound, so everything waits here, and the
//! mailbox holds at most one wake-up.

use super::host::ShardOutlet;
use super::shares::{Held, Shares};
use super::upkeep::Done;
use super::{EntryLimits, Expecting, Operation, Returned, ShardReply, Target};
use crate::clock::{Clock, Nanos};
use crate::consensus::Promise;
use crate::journal::PersistListener;
use crate::limits::{
    LIGHT_CLIENT_BYTES, LIGHT_CLIENT_REQUESTS, NODE_QUEUE_BYTES_MAX, SHARD_COMMANDS_MAX, SHARD_MESSAGES_BYTES_MAX,
    SHARD_QUEUE_BYTES_MAX, SHARD_QUEUE_BYTES_RESERVED, SHARD_QUEUE_DELAY_MAX_MS, SHARD_QUEUE_REQUESTS_MAX,
    SHARD_QUEUE_REQUESTS_RESERVED,
};
use crate::log::LogError;
use crate::measure::{RefusedFor, ShardCounts};
use crate::seeded::{Bug, planted};
use crate::session::reply::{Answer, ReplyTo};
use crate::snapshot::limits::INBOX_BYTES_MAX as SNAPSHOT_BYTES_MAX;
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotMessage};
use kvorum_protocol::{ClientId, ErrorCode, ReplicaId, ServerError, ShardId, Term};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How many of a kind the memory is kept for that a turn's queues leave behind.
const KEPT_CAPACITY_MAX: usize = 64;

/// A request on its way to a shard's actor.
#[derive(Debug)]
pub struct QueuedRequest {
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// Who asks, on whichever way, and shares the queue with others that do.
    pub client: ClientId,
    /// When it came in.
    pub queued_at: Nanos,
    /// See [`super::ShardRequest`].
    pub deadline: Nanos,
    /// See [`super::ShardRequest`].
    pub term: Term,
    /// Its trace is recorded: whoever asks wants to know where the time went.
    pub traced: bool,
    /// See [`super::ShardRequest`].
    pub operation: Operation,
}

impl QueuedRequest {
    /// Answers that it was not taken.
    fn give_back(self) {
        let Self { reply_to, term, operation, .. } = self;
        reply_to.answer(Answer::Shard(ShardReply::Returned(Box::new(Returned { operation, term }))));
    }
}

/// What an operator, or the node itself, tells a shard's replica to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardCommand {
    /// Hand leadership to whoever holds most, if this replica leads.
    HandOver,
    /// Hand leadership to this replica.
    TransferTo(ReplicaId),
    /// The replicas that should vote are these; the first of them should lead.
    SetTarget(Target),
    /// A snapshot that this replica offered to that one is over.
    SnapshotEnded {
        /// The replica that was to get it.
        to: ReplicaId,
        /// It has it.
        installed: bool,
    },
    /// Fault hook: panic.
    Panic,
}

/// Called when an inbox that was empty holds something.
pub struct Waker(Box<dyn Fn() + Send + Sync>);

impl Waker {
    /// Calls `wake`, which must not block and may come from any thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(wake))
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

#[derive(Debug, Default)]
struct Queues {
    requests: Vec<QueuedRequest>,
    requests_bytes: usize,
    /// Of the requests that wait here or were taken by a turn and not answered.
    shares: Shares,
    messages: Vec<RaftMessage>,
    messages_bytes: usize,
    snapshots: Vec<SnapshotMessage>,
    snapshots_bytes: usize,
    commands: Vec<ShardCommand>,
    /// What came of the job that is under way; there is one at most.
    upkeep: Option<Result<Done, LogError>>,
    /// What wakes the host.
    expecting: Expecting,
    /// Messages that wait for a sync, in order.
    promises: VecDeque<Promise>,
    /// The last sync that was reported,
    persisted: u64,
    /// and when, if this replica did not merely follow.
    persisted_at: Nanos,
    /// Where promises leave; `None` once the host is gone. An outlet holds on to the inboxes of its shards, so this must end.
    outlet: Option<Arc<dyn ShardOutlet>>,
}

type DuePromises = (Arc<dyn ShardOutlet>, Vec<RaftMessage>);

impl Queues {
    /// The promises that may leave, and where.
    fn take_promises(&mut self) -> Option<DuePromises> {
        let covers_all = planted(Bug::CompletionCoversLaterAppends);
        let due = self.promises.iter().take_while(|promise| promise.token <= self.persisted || covers_all).count();
        if due == 0 {
            return None;
        }
        let messages = self.promises.drain(..due).map(|promise| promise.message).collect();
        Some((Arc::clone(self.outlet.as_ref()?), messages))
    }

    /// The host is gone.
    fn is_closed(&self) -> bool {
        self.outlet.is_none()
    }

    /// Hands everything over, and none of what is not a queue, to one that holds nothing: its memory serves for what comes next.
    fn take(&mut self, into: &mut Drained) {
        let Self {
            requests,
            requests_bytes,
            shares,
            messages,
            messages_bytes,
            snapshots,
            snapshots_bytes,
            commands,
            upkeep,
            expecting,
            promises: _,
            persisted,
            persisted_at,
            outlet: _,
        } = self;
        (*requests_bytes, *messages_bytes, *snapshots_bytes) = (0, 0, 0);
        *expecting = Expecting::Anything;
        std::mem::swap(requests, &mut into.requests);
        std::mem::swap(messages, &mut into.messages);
        std::mem::swap(snapshots, &mut into.snapshots);
        std::mem::swap(commands, &mut into.commands);
        into.upkeep = upkeep.take();
        (into.persisted, into.persisted_at) = (*persisted, *persisted_at);
        into.shared_until = shares.shared_until();
    }
}

/// What one wake-up of the host finds.
#[derive(Debug, Default)]
pub(super) struct Drained {
    pub(super) requests: Vec<QueuedRequest>,
    pub(super) messages: Vec<RaftMessage>,
    pub(super) snapshots: Vec<SnapshotMessage>,
    pub(super) commands: Vec<ShardCommand>,
    pub(super) upkeep: Option<Result<Done, LogError>>,
    pub(super) persisted: u64,
    /// When that was reported; 0 if nobody has looked.
    pub(super) persisted_at: Nanos,
    /// See [`Shares::shared_until`].
    pub(super) shared_until: Nanos,
    pub(super) tick: bool,
}

impl Drained {
    /// Empties it, and lets go of the memory that a burst has left.
    pub(super) fn clear(&mut self) {
        fn clear<T>(queue: &mut Vec<T>) {
            queue.clear();
            if queue.capacity() > KEPT_CAPACITY_MAX {
                *queue = Vec::new();
            }
        }
        clear(&mut self.requests);
        clear(&mut self.messages);
        clear(&mut self.snapshots);
        clear(&mut self.commands);
        self.upkeep = None;
    }
}

/// The bounds of a node's queues of requests and consensus messages. The defaults are [`crate::limits`]'; a simulation, whose
/// clients are few, has smaller ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueLimits {
    /// Most unanswered requests of one shard.
    pub requests: usize,
    /// Most bytes of them.
    pub requests_bytes: usize,
    /// So many of these requests are kept for light clients,
    pub reserved_requests: usize,
    /// and so many of these bytes; of the node's bytes the same part.
    pub reserved_bytes: usize,
    /// A client is light while it holds fewer requests of the shard,
    pub light_requests: usize,
    /// and no more bytes.
    pub light_bytes: usize,
    /// Most bytes of unanswered requests of all shards of the node.
    pub node_bytes: usize,
    /// Most bytes of consensus messages that wait for one shard.
    pub messages_bytes: usize,
    /// What an entry holds.
    pub entry: EntryLimits,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            requests: SHARD_QUEUE_REQUESTS_MAX,
            requests_bytes: SHARD_QUEUE_BYTES_MAX,
            reserved_requests: SHARD_QUEUE_REQUESTS_RESERVED,
            reserved_bytes: SHARD_QUEUE_BYTES_RESERVED,
            light_requests: LIGHT_CLIENT_REQUESTS,
            light_bytes: LIGHT_CLIENT_BYTES,
            node_bytes: NODE_QUEUE_BYTES_MAX,
            messages_bytes: SHARD_MESSAGES_BYTES_MAX,
            entry: EntryLimits::default(),
        }
    }
}

/// The memory that the unanswered requests of all shards of a node share.
#[derive(Debug, Default)]
pub struct QueueBudget {
    limits: QueueLimits,
    bytes: AtomicUsize,
}

impl QueueBudget {
    /// One with these bounds.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, bytes: AtomicUsize::new(0) }
    }

    /// The bounds.
    pub fn limits(&self) -> &QueueLimits {
        &self.limits
    }

    /// What the unanswered requests of the node's shards count for.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What waits for one shard's host: its queues as they are, not the counters that bound them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueUse {
    /// Requests that were not taken by a turn.
    pub requests: usize,
    /// Their bytes.
    pub requests_bytes: usize,
    /// Consensus messages that were not taken by a turn.
    pub messages: usize,
    /// Their bytes, as they count.
    pub messages_bytes: usize,
    /// What the counter of unanswered requests stands at.
    pub counted: usize,
    /// … and that of their bytes.
    pub counted_bytes: usize,
    /// The most that one client holds of either.
    pub largest: Held,
}

/// The queues of one incarnation of a shard's host. A restarted one gets new queues, so that syncs and messages meant
/// for the old one reach nobody.
pub struct Inbox {
    shard: ShardId,
    waker: Waker,
    clock: Arc<dyn Clock>,
    queues: Mutex<Queues>,
    tick: AtomicBool,
    armed: AtomicBool,
    /// When the oldest request that was not begun came in, in nanoseconds of the monotonic clock; 0 if there is none.
    oldest: AtomicU64,
    /// When the entry was proposed for which requests wait; 0 likewise.
    stalled: AtomicU64,
    node_budget: Arc<QueueBudget>,
    counts: Arc<ShardCounts>,
}

impl Inbox {
    pub(super) fn new(
        shard: ShardId,
        waker: Waker,
        node_budget: Arc<QueueBudget>,
        outlet: Arc<dyn ShardOutlet>,
        counts: Arc<ShardCounts>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            shard,
            waker,
            clock,
            queues: Mutex::new(Queues { outlet: Some(outlet), ..Queues::default() }),
            tick: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            oldest: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            node_budget,
            counts,
        }
    }

    /// Queues a request. Past what its client may hold, see [`Shares`], it is answered `Overloaded` at once; it has had no
    /// effect then.
    pub fn request(&self, request: QueuedRequest) {
        let bytes = request.operation.bytes();
        let mut queues = self.queues.lock();
        if queues.is_closed() {
            drop(queues);
            request.give_back();
            return;
        }
        let refused = self.refusal(&queues.shares, &request, bytes).filter(|_| !planted(Bug::QueueUnbounded));
        if let Some((why, detail)) = refused {
            drop(queues);
            self.counts.note_refused(why);
            request.reply_to.fail(ServerError::new(ErrorCode::Overloaded, detail));
            return;
        }
        self.node_budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let held = queues.shares.take(request.client, bytes);
        queues.shares.weigh(self.node_budget.limits.entry.part, request.client, held, request.queued_at);
        let wakes = queues.expecting.note_request(&request.operation);
        queues.requests_bytes += bytes;
        queues.requests.push(request);
        drop(queues);
        if wakes {
            // Goes on in the task of the shard's actor, with `ShardHost::turn`. The answer goes to `reply_to`.
            self.wake();
        }
    }

    /// Why a request is not taken, if it isn't.
    fn refusal(&self, shares: &Shares, request: &QueuedRequest, bytes: usize) -> Option<(RefusedFor, String)> {
        let limits = &self.node_budget.limits;
        let is_light = shares.is_light(limits, request.client, bytes);
        // Who has little to ask waits for the next entry only, however long the queue is.
        let since = if is_light { &self.stalled } else { &self.oldest };
        let since = Nanos(since.load(Ordering::Relaxed));
        if since.0 != 0 && request.queued_at.ms_since(since) > SHARD_QUEUE_DELAY_MAX_MS {
            let detail = format!("requests of shard {} wait over {SHARD_QUEUE_DELAY_MAX_MS} ms", self.shard);
            return Some((RefusedFor::Slow, detail));
        }
        if !shares.has_room(limits, request.client, bytes) {
            let detail = format!("the queue of shard {} is full, or this client's share of it", self.shard);
            return Some((RefusedFor::ShardFull, detail));
        }
        let reserved = if is_light { 0 } else { limits.node_bytes / limits.requests_bytes * limits.reserved_bytes };
        // All shards add to it at once: what they may be over by is what they take at that very moment.
        let node_before = self.node_budget.bytes();
        (node_before > 0 && node_before + bytes > limits.node_bytes - reserved)
            .then(|| (RefusedFor::NodeFull, "the queues of this node are full".to_owned()))
    }

    /// Queues a consensus message. Over the limit it is dropped, as a network would.
    pub fn message(&self, message: RaftMessage) {
        let bytes = 256 + message.entries.iter().map(|entry| entry.payload.len() + 64).sum::<usize>();
        let wakes = {
            let mut queues = self.queues.lock();
            if queues.is_closed() {
                return;
            }
            if queues.messages_bytes > 0 && queues.messages_bytes + bytes > self.node_budget.limits.messages_bytes {
                return;
            }
            queues.messages_bytes += bytes;
            let wakes = queues.expecting.note_message(&message);
            queues.messages.push(message);
            wakes
        };
        if wakes {
            self.wake();
        }
    }

    /// Queues a message about a snapshot. Over the limit it is dropped, as a network would; it is pulled again.
    pub fn snapshot(&self, message: SnapshotMessage) {
        let content = if let SnapshotBody::Chunk { bytes, .. } = &message.body { bytes.len() } else { 0 };
        let bytes = 128 + content;
        {
            let mut queues = self.queues.lock();
            if queues.is_closed() || queues.snapshots_bytes + bytes > SNAPSHOT_BYTES_MAX {
                return;
            }
            queues.snapshots_bytes += bytes;
            queues.snapshots.push(message);
        }
        self.wake();
    }

    /// Queues a command. Returns whether it was taken: not by a host that is gone, nor past [`SHARD_COMMANDS_MAX`]. A target takes the
    /// place of one that waits, and finds room at any time: nobody says it twice.
    pub fn command(&self, command: ShardCommand) -> bool {
        {
            let mut queues = self.queues.lock();
            if queues.is_closed() {
                return false;
            }
            if matches!(command, ShardCommand::SetTarget(_)) {
                queues.commands.retain(|waits| !matches!(waits, ShardCommand::SetTarget(_)));
            } else if queues.commands.len() >= SHARD_COMMANDS_MAX {
                return false;
            }
            queues.commands.push(command);
        }
        self.wake();
        true
    }

    /// A job that keeps the replica's files in order has ended.
    pub fn upkeep_done(&self, done: Result<Done, LogError>) {
        {
            let mut queues = self.queues.lock();
            if queues.is_closed() {
                return;
            }
            queues.upkeep = Some(done);
        }
        self.wake();
    }

    /// A tick is due. Ticks that the host is too busy to take fall together.
    pub fn tick(&self) {
        self.tick.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The host has more to do than its turn took up.
    pub(super) fn nudge(&self) {
        self.wake();
    }

    /// What waits, for looking at.
    pub(super) fn queued(&self) -> QueueUse {
        let queues = self.queues.lock();
        QueueUse {
            requests: queues.requests.len(),
            requests_bytes: queues.requests_bytes,
            messages: queues.messages.len(),
            messages_bytes: queues.messages_bytes,
            counted: queues.shares.total().requests,
            counted_bytes: queues.shares.total().bytes,
            largest: queues.shares.largest(),
        }
    }

    /// Whether the next turn takes in more than about so many bytes, or a piece of a snapshot: that is written to files, and synced.
    pub(super) fn holds_large(&self, bytes_max: usize) -> bool {
        let queues = self.queues.lock();
        queues.messages_bytes + queues.requests_bytes > bytes_max || !queues.snapshots.is_empty()
    }

    /// Takes everything, into one that holds nothing. Clears the mark first: whatever comes in from here on sends another wake-up.
    pub(super) fn drain(&self, into: &mut Drained) {
        self.armed.store(false, Ordering::SeqCst);
        self.queues.lock().take(into);
        into.tick = self.tick.swap(false, Ordering::SeqCst);
    }

    /// The host's turn is over but for what it sends: from here on it is woken by what it expects only, and `promises` leave
    /// as soon as they may.
    pub(super) fn expect(&self, expecting: Expecting, promises: Vec<Promise>) {
        let due = {
            let mut queues = self.queues.lock();
            queues.expecting = expecting;
            queues.promises.extend(promises);
            queues.take_promises()
        };
        self.keep(due);
    }

    fn keep(&self, due: Option<DuePromises>) {
        if let Some((outlet, messages)) = due {
            outlet.send(self.shard, messages);
        }
    }

    /// The oldest request that was not begun came in then, and the entry for which requests wait was proposed then; `None` if
    /// there is none.
    pub(super) fn set_oldest(&self, queued_at: Option<Nanos>, proposed_at: Option<Nanos>) {
        self.oldest.store(queued_at.map_or(0, |at| at.0), Ordering::Relaxed);
        self.stalled.store(proposed_at.map_or(0, |at| at.0), Ordering::Relaxed);
    }

    /// The host is gone: what waits is answered now, and what comes later at once. Not left to the end of this value,
    /// which may wait for those very answers: a session holds on to the replica that it has asked.
    pub(super) fn close(&self) {
        let mut drained = Drained::default();
        {
            let mut queues = self.queues.lock();
            queues.outlet = None;
            queues.promises.clear();
            queues.take(&mut drained);
        }
        self.release(drained.requests.iter().map(|request| (request.client, request.operation.bytes())));
        drained.requests.into_iter().for_each(QueuedRequest::give_back);
    }

    /// Requests of these clients, with so many bytes, are answered.
    pub(super) fn release(&self, answered: impl Iterator<Item = (ClientId, usize)>) {
        let mut queues = self.queues.lock();
        let before = queues.shares.total().bytes;
        answered.for_each(|(client, bytes)| queues.shares.release(client, bytes));
        let released = before - queues.shares.total().bytes;
        drop(queues);
        self.node_budget.bytes.fetch_sub(released, Ordering::Relaxed);
    }

    fn wake(&self) {
        if !self.armed.swap(true, Ordering::SeqCst) {
            (self.waker.0)();
        }
    }
}

impl PersistListener for Inbox {
    fn persisted(&self, token: u64) {
        let (due, wakes) = {
            let mut queues = self.queues.lock();
            queues.persisted = queues.persisted.max(token);
            if queues.expecting != Expecting::Messages {
                // Once for each entry of a leader. Nothing is decided by it.
                queues.persisted_at = self.clock.monotonic();
            }
            (queues.take_promises(), queues.expecting.note_persisted(token))
        };
        self.keep(due);
        if wakes {
            self.wake();
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Drop for Inbox {
    /// A host that failed leaves requests unanswered; they are answered as they are dropped, and count no longer.
    fn drop(&mut self) {
        self.node_budget.bytes.fetch_sub(self.queues.get_mut().shares.total().bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::reply::ReplySink;
    use kvorum_protocol::LogIndex;
    use kvorum_protocol::peer::RaftMessageKind;
    use kvorum_protocol::snapshot::{SnapshotId, SnapshotPart};
    use std::ops::Range;

    /// Keeps the messages that are sent.
    #[derive(Default)]
    struct Sent(Mutex<Vec<RaftMessage>>);

    impl ShardOutlet for Sent {
        fn send(&self, _shard: ShardId, messages: Vec<RaftMessage>) {
            self.0.lock().extend(messages);
        }
    }

    /// A clock that stands still.
    struct Hand;

    impl Clock for Hand {
        fn now(&self) -> crate::clock::Now {
            crate::clock::Now::default()
        }

        fn monotonic(&self) -> Nanos {
            Nanos(1)
        }
    }

    fn hand() -> Arc<dyn Clock> {
        Arc::new(Hand)
    }

    #[test]
    fn a_closed_inbox_lets_go_of_its_outlet() {
        // An outlet holds on to the inboxes of its shards: neither would ever be freed.
        let outlet = Arc::<Sent>::default();
        let inbox =
            Inbox::new(ShardId(1), Waker::new(|| {}), Arc::default(), Arc::clone(&outlet) as _, Arc::default(), hand());
        inbox.close();
        assert_eq!(Arc::strong_count(&outlet), 1);
    }

    fn inbox(budget: &Arc<QueueBudget>) -> Inbox {
        Inbox::new(ShardId(1), Waker::new(|| {}), Arc::clone(budget), Arc::<Sent>::default(), Arc::default(), hand())
    }

    #[test]
    fn requests_for_a_host_that_is_gone_are_answered_while_others_hold_its_inbox() {
        let budget: Arc<QueueBudget> = Arc::default();
        let inbox = inbox(&budget);
        let sink: Arc<ReplySink> = Arc::default();
        let get = |slot| QueuedRequest {
            queued_at: Nanos(1),
            reply_to: sink.reply_to(slot, 0),
            client: client(0),
            deadline: Nanos(u64::MAX),
            term: Term(0),
            traced: false,
            operation: Operation::Get("k".into()),
        };
        inbox.request(get(0));
        inbox.close();
        inbox.request(get(1));
        let mut replies = Vec::new();
        sink.take(&mut replies);
        let returned = replies.iter().map(|reply| match &reply.answer {
            Answer::Shard(ShardReply::Returned(returned)) => (reply.slot, returned.term),
            other => panic!("{other:?}"),
        });
        assert_eq!(returned.collect::<Vec<_>>(), [(0, Term(0)), (1, Term(0))]);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
        assert!(!inbox.command(ShardCommand::HandOver));
    }

    #[test]
    fn the_last_target_finds_room_in_an_inbox_that_is_full() {
        let inbox = inbox(&Arc::default());
        let target = |since| Target { since, ..Target::default() };
        assert!(inbox.command(ShardCommand::SetTarget(target(1))));
        while inbox.command(ShardCommand::HandOver) {}
        assert!(inbox.command(ShardCommand::SetTarget(target(2))));
        assert!(inbox.command(ShardCommand::SetTarget(target(3))));
        let mut taken = Drained::default();
        inbox.queues.lock().take(&mut taken);
        let is_last = |command: &ShardCommand| matches!(command, ShardCommand::SetTarget(of) if of.since == 3);
        let is_any = |command: &ShardCommand| matches!(command, ShardCommand::SetTarget(_));
        let count = |is: &dyn Fn(&ShardCommand) -> bool| taken.commands.iter().filter(|command| is(command)).count();
        assert_eq!((count(&is_last), count(&is_any)), (1, 1));
        assert!(taken.commands.len() <= SHARD_COMMANDS_MAX + 1);
        inbox.close();
    }

    fn client(number: u128) -> ClientId {
        ClientId(uuid::Uuid::from_u128(number))
    }

    /// How many of so many small PUTs of a client are refused.
    fn refused(inbox: &Inbox, number: u128, puts: usize) -> usize {
        let sink: Arc<ReplySink> = Arc::default();
        for slot in 0..puts {
            let mutation = kvorum_protocol::Mutation {
                key: format!("{number}:{slot}").into(),
                condition: kvorum_protocol::Condition::Always,
                return_previous: kvorum_protocol::ReturnPrevious::Nothing,
                action: kvorum_protocol::Action::Put { value: "v".into(), ttl: kvorum_protocol::TimeToLive::Forever },
            };
            let id =
                kvorum_protocol::WriteId { sequence: slot as u64 + 1, first_unanswered: 1, retry: false, once: None };
            let ack = kvorum_protocol::Ack::Committed;
            inbox.request(QueuedRequest {
                reply_to: sink.reply_to(slot, 0),
                client: client(number),
                queued_at: Nanos(1),
                deadline: Nanos(u64::MAX),
                term: Term(0),
                traced: false,
                operation: Operation::Write { client: client(number), id, ack, mutation },
            });
        }
        let mut replies = Vec::new();
        sink.take(&mut replies);
        replies.len()
    }

    #[test]
    fn two_clients_with_a_batch_each_keep_nobody_out() {
        use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
        let inbox = inbox(&Arc::default());
        assert_eq!(refused(&inbox, 1, BATCH_OPERATIONS_MAX), 0, "a BATCH alone fits");
        refused(&inbox, 2, BATCH_OPERATIONS_MAX);
        assert_eq!(refused(&inbox, 3, 100), 0);
        // However many there are that want all they can get.
        (4..50).for_each(|number| assert!(refused(&inbox, number, BATCH_OPERATIONS_MAX) > 0));
        (50..80).for_each(|number| assert_eq!(refused(&inbox, number, 1), 0, "client {number}"));
        inbox.close();
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn without_shares_they_would() {
        let _planted = crate::seeded::plant(Some(Bug::QueueSharesIgnored));
        let inbox = inbox(&Arc::default());
        for number in 1..4 {
            refused(&inbox, number, kvorum_protocol::limits::BATCH_OPERATIONS_MAX);
        }
        assert_eq!(refused(&inbox, 4, 100), 100);
        inbox.close();
    }

    #[test]
    fn who_asks_little_is_refused_only_while_nothing_moves() {
        let second = |seconds: u64| Nanos(seconds * 1_000_000_000);
        let inbox = inbox(&Arc::default());
        let puts = |number: u128, at: Nanos| {
            let sink: Arc<ReplySink> = Arc::default();
            inbox.request(QueuedRequest {
                reply_to: sink.reply_to(0, 0),
                client: client(number),
                queued_at: at,
                deadline: Nanos(u64::MAX),
                term: Term(0),
                traced: false,
                operation: Operation::Get("k".into()),
            });
            !sink.has_replies()
        };
        (0..LIGHT_CLIENT_REQUESTS).for_each(|_| assert!(puts(1, second(1))));
        inbox.set_oldest(Some(second(1)), Some(second(5)));
        assert!(!puts(1, second(5)), "its own requests wait for long");
        assert!(puts(2, second(5)), "others' do");
        assert!(!puts(2, second(7)), "no entry was applied for two seconds");
        inbox.close();
    }

    #[test]
    fn messages_about_snapshots_are_bounded_by_their_bytes() {
        let inbox = inbox(&Arc::default());
        let chunk = |at| SnapshotMessage {
            from: ReplicaId(1),
            to: ReplicaId(2),
            id: SnapshotId { term: Term(1), index: LogIndex(1), nonce: 1 },
            body: SnapshotBody::Chunk {
                part: SnapshotPart::Records,
                at,
                count: 1,
                bytes: vec![0; SNAPSHOT_BYTES_MAX / 3].into(),
            },
        };
        let queued = || {
            let messages = drained(&inbox).snapshots;
            messages.iter().filter(|message| **message == chunk(0) || **message == chunk(1)).count()
        };
        (0..4).for_each(|at| inbox.snapshot(chunk(at)));
        assert_eq!(queued(), 2);
        inbox.snapshot(chunk(0));
        assert_eq!(queued(), 1, "what was taken counts no longer");
        inbox.close();
        inbox.snapshot(chunk(0));
        assert_eq!(queued(), 0);
    }

    fn drained(inbox: &Inbox) -> Drained {
        let mut drained = Drained::default();
        inbox.drain(&mut drained);
        drained
    }

    #[test]
    fn what_a_turn_took_in_is_gone_and_a_burst_leaves_no_memory() {
        let inbox = inbox(&Arc::default());
        let mut taken = Drained::default();
        let came = |taken: &mut Drained, indexes: Range<u64>| {
            indexes.clone().for_each(|index| inbox.message(message(RaftMessageKind::Append, index)));
            inbox.drain(taken);
            assert!(taken.messages.iter().map(|message| message.index.0).eq(indexes));
            taken.clear();
        };
        came(&mut taken, 0..2 * KEPT_CAPACITY_MAX as u64);
        assert_eq!(taken.messages.capacity(), 0);
        (0..3).for_each(|index| came(&mut taken, index..index + 2));
        came(&mut taken, 0..0);
    }

    /// An inbox whose wake-ups and messages can be looked at.
    struct Watched {
        inbox: Inbox,
        sent: Arc<Sent>,
        woken: Arc<AtomicUsize>,
    }

    impl Watched {
        fn new() -> Self {
            let (sent, woken) = (Arc::<Sent>::default(), Arc::<AtomicUsize>::default());
            let count = Arc::clone(&woken);
            let waker = Waker::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let inbox = Inbox::new(ShardId(1), waker, Arc::default(), Arc::clone(&sent) as _, Arc::default(), hand());
            Self { inbox, sent, woken }
        }

        /// The host takes a turn, after which it expects that.
        fn turn(&self, expecting: Expecting) {
            drained(&self.inbox);
            self.inbox.expect(expecting, Vec::new());
            self.woken.store(0, Ordering::Relaxed);
        }

        fn is_woken(&self) -> bool {
            self.woken.swap(0, Ordering::Relaxed) > 0
        }

        fn request(&self, sink: &Arc<ReplySink>, operation: Operation) {
            let reply_to = sink.reply_to(0, 0);
            let (client, queued_at, deadline) = (client(0), Nanos(1), Nanos(u64::MAX));
            self.inbox.request(QueuedRequest {
                queued_at,
                client,
                reply_to,
                deadline,
                term: Term(0),
                traced: false,
                operation,
            });
        }
    }

    fn message(kind: RaftMessageKind, index: u64) -> RaftMessage {
        RaftMessage {
            kind,
            from: ReplicaId(2),
            to: ReplicaId(1),
            term: Term(1),
            log_term: Term(0),
            index: LogIndex(index),
            commit: LogIndex(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: LogIndex(0),
            priority: 0,
            lease_stamp: 0,
            log_time_ms: 0,
            context: bytes::Bytes::new(),
            entries: Vec::new(),
        }
    }

    #[test]
    fn a_leader_with_an_entry_on_its_way_is_woken_by_the_confirmation_that_makes_the_quorum() {
        let (watched, sink) = (Watched::new(), Arc::default());
        let quorum = Expecting::Quorum { index: LogIndex(7), token: 3, missing: 2 };
        let accepts = |index| message(RaftMessageKind::AppendResponse, index);
        watched.turn(quorum);
        watched.request(&sink, Operation::Get("k".into()));
        watched.inbox.persisted(2);
        assert!(!watched.is_woken(), "a request waits for the next entry; an older sync says nothing");
        watched.inbox.persisted(3);
        assert!(!watched.is_woken(), "one of two");
        watched.inbox.message(accepts(7));
        assert!(watched.is_woken());
        watched.turn(quorum);
        watched.inbox.message(accepts(7));
        watched.inbox.message(message(RaftMessageKind::HeartbeatResponse, 0));
        assert!(!watched.is_woken());
        watched.inbox.message(accepts(7));
        assert!(watched.is_woken(), "two followers are a quorum without this replica's disk");
        for nudge in [
            accepts(6),
            RaftMessage { reject: true, ..accepts(7) },
            RaftMessage { context: "read".into(), ..message(RaftMessageKind::HeartbeatResponse, 0) },
            message(RaftMessageKind::RequestVote, 9),
        ] {
            watched.turn(quorum);
            watched.inbox.message(nudge.clone());
            assert!(watched.is_woken(), "{nudge:?}");
        }
        watched.turn(quorum);
        watched.request(&sink, Operation::Confirm);
        assert!(watched.is_woken(), "a confirmation has nothing to do with entries");
        watched.turn(quorum);
        watched.inbox.tick();
        assert!(watched.is_woken());
        watched.inbox.close();
    }

    #[test]
    fn a_leader_at_rest_is_woken_by_requests_and_not_by_late_confirmations() {
        let (watched, sink) = (Watched::new(), Arc::default());
        watched.turn(Expecting::Requests { index: LogIndex(7) });
        watched.inbox.message(message(RaftMessageKind::AppendResponse, 7));
        watched.inbox.persisted(9);
        assert!(!watched.is_woken());
        watched.inbox.message(message(RaftMessageKind::AppendResponse, 6));
        assert!(watched.is_woken(), "a follower that lags is sent more");
        watched.turn(Expecting::Requests { index: LogIndex(7) });
        watched.request(&sink, Operation::Get("k".into()));
        assert!(watched.is_woken());
        watched.inbox.close();
    }

    #[test]
    fn promises_leave_when_they_are_durable_and_never_after_the_host_is_gone() {
        let watched = Watched::new();
        let promise = |token| Promise { token, message: message(RaftMessageKind::AppendResponse, token) };
        let sent = || watched.sent.0.lock().drain(..).map(|message| message.index.0).collect::<Vec<_>>();
        watched.inbox.expect(Expecting::Messages, vec![promise(1), promise(1), promise(2)]);
        assert!(sent().is_empty());
        watched.inbox.persisted(1);
        assert_eq!((sent(), watched.is_woken()), (vec![1, 1], false));
        watched.inbox.persisted(3);
        watched.inbox.expect(Expecting::Messages, vec![promise(3)]);
        assert_eq!(sent(), [2, 3], "the sync may come before the turn is over");
        watched.inbox.expect(Expecting::Messages, vec![promise(4)]);
        watched.inbox.close();
        watched.inbox.persisted(4);
        assert!(sent().is_empty());
    }
}
