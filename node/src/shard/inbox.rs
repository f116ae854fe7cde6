//! The bounded way into a shard's host. Mailboxes of the actor library have no bound, so everything waits here, and the
//! mailbox holds at most one wake-up.

use super::gate::ReadGate;
use super::upkeep::Done;
use super::{Operation, ShardSnapshot};
use crate::clock::Nanos;
use crate::journal::PersistListener;
use crate::limits::{
    NODE_QUEUE_BYTES_MAX, SHARD_COMMANDS_MAX, SHARD_MESSAGES_BYTES_MAX, SHARD_QUEUE_BYTES_MAX,
    SHARD_QUEUE_DELAY_MAX_MS, SHARD_QUEUE_REQUESTS_MAX,
};
use crate::log::LogError;
use crate::reply::ReplyTo;
use crate::snapshot::limits::INBOX_BYTES_MAX as SNAPSHOT_BYTES_MAX;
use crate::store::StoreReader;
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotMessage};
use kvorum_protocol::{ErrorCode, ReplicaId, ServerError, ShardId};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A request on its way to a shard's actor.
#[derive(Debug)]
pub struct QueuedRequest {
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// When it came in.
    pub queued_at: Nanos,
    /// See [`super::ShardRequest`].
    pub deadline: Nanos,
    /// See [`super::ShardRequest`].
    pub operation: Operation,
}

/// What an operator, or the node itself, tells a shard's replica to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardCommand {
    /// Hand leadership to whoever holds most, if this replica leads.
    HandOver,
    /// Hand leadership to this replica.
    TransferTo(ReplicaId),
    /// The replicas that should vote are these; the first of them should lead.
    SetTarget(Vec<ReplicaId>),
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
        Waker(Box::new(wake))
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
    messages: Vec<RaftMessage>,
    messages_bytes: usize,
    snapshots: Vec<SnapshotMessage>,
    snapshots_bytes: usize,
    commands: Vec<ShardCommand>,
    /// What came of the job that is under way; there is one at most.
    upkeep: Option<Result<Done, LogError>>,
    /// The host is gone.
    closed: bool,
}

impl Queues {
    /// Everything, and none of what is not a queue.
    fn take(&mut self) -> Drained {
        let Queues {
            requests,
            requests_bytes,
            messages,
            messages_bytes,
            snapshots,
            snapshots_bytes,
            commands,
            upkeep,
            closed: _,
        } = self;
        (*requests_bytes, *messages_bytes, *snapshots_bytes) = (0, 0, 0);
        Drained {
            requests: std::mem::take(requests),
            messages: std::mem::take(messages),
            snapshots: std::mem::take(snapshots),
            commands: std::mem::take(commands),
            upkeep: upkeep.take(),
            ..Drained::default()
        }
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
    pub(super) tick: bool,
}

/// The memory that the unanswered requests of all shards of a node share.
#[derive(Debug, Default)]
pub struct QueueBudget {
    bytes: AtomicUsize,
}

/// The queues of one incarnation of a shard's host. A restarted one gets new queues, so that syncs and messages meant
/// for the old one reach nobody.
#[derive(Debug)]
pub struct Inbox {
    shard: ShardId,
    waker: Waker,
    queues: Mutex<Queues>,
    persisted: AtomicU64,
    tick: AtomicBool,
    armed: AtomicBool,
    // Requests that wait here or in the shard's backlog.
    waiting_requests: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// When the oldest request that was not begun came in, in nanoseconds of the monotonic clock; 0 if there is none.
    oldest: AtomicU64,
    node_budget: Arc<QueueBudget>,
    overloaded: AtomicU64,
}

impl Inbox {
    pub(super) fn new(shard: ShardId, waker: Waker, node_budget: Arc<QueueBudget>) -> Self {
        Inbox {
            shard,
            waker,
            queues: Mutex::default(),
            persisted: AtomicU64::new(0),
            tick: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            waiting_requests: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            oldest: AtomicU64::new(0),
            node_budget,
            overloaded: AtomicU64::new(0),
        }
    }

    /// Queues a request. Over the limit it is answered `Overloaded` at once; it has had no effect then.
    pub fn request(&self, request: QueuedRequest) {
        let bytes = request.operation.bytes();
        let requests_before = self.waiting_requests.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // An empty queue takes a request of any size: each is under the frame limit.
        let node_before = self.node_budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let oldest = Nanos(self.oldest.load(Ordering::Relaxed));
        let delayed = oldest.0 != 0 && request.queued_at.ms_since(oldest) > SHARD_QUEUE_DELAY_MAX_MS;
        let full = if delayed {
            Some(format!("requests of shard {} wait over {SHARD_QUEUE_DELAY_MAX_MS} ms", self.shard))
        } else if requests_before >= SHARD_QUEUE_REQUESTS_MAX
            || (bytes_before > 0 && bytes_before + bytes > SHARD_QUEUE_BYTES_MAX)
        {
            Some(format!("the queue of shard {} is full", self.shard))
        } else if node_before > 0 && node_before + bytes > NODE_QUEUE_BYTES_MAX {
            Some("the queues of this node are full".to_owned())
        } else {
            None
        };
        if let Some(detail) = full {
            self.release(1, bytes);
            self.overloaded.fetch_add(1, Ordering::Relaxed);
            request.reply_to.fail(ServerError::new(ErrorCode::Overloaded, detail));
            return;
        }
        let mut queues = self.queues.lock();
        if queues.closed {
            drop(queues);
            self.release(1, bytes);
            request.reply_to.fail(ServerError::new(ErrorCode::Unavailable, "the shard is being restarted"));
            return;
        }
        queues.requests_bytes += bytes;
        queues.requests.push(request);
        drop(queues);
        self.wake();
    }

    /// Queues a consensus message. Over the limit it is dropped, as a network would.
    pub fn message(&self, message: RaftMessage) {
        let bytes = 256 + message.entries.iter().map(|entry| entry.payload.len() + 64).sum::<usize>();
        {
            let mut queues = self.queues.lock();
            if queues.closed {
                return;
            }
            if queues.messages_bytes > 0 && queues.messages_bytes + bytes > SHARD_MESSAGES_BYTES_MAX {
                return;
            }
            queues.messages_bytes += bytes;
            queues.messages.push(message);
        }
        self.wake();
    }

    /// Queues a message about a snapshot. Over the limit it is dropped, as a network would; it is pulled again.
    pub fn snapshot(&self, message: SnapshotMessage) {
        let content = if let SnapshotBody::Chunk { bytes, .. } = &message.body { bytes.len() } else { 0 };
        let bytes = 128 + content;
        {
            let mut queues = self.queues.lock();
            if queues.closed || queues.snapshots_bytes + bytes > SNAPSHOT_BYTES_MAX {
                return;
            }
            queues.snapshots_bytes += bytes;
            queues.snapshots.push(message);
        }
        self.wake();
    }

    /// Queues a command. Returns whether it was taken: not by a host that is gone, nor past [`SHARD_COMMANDS_MAX`].
    pub fn command(&self, command: ShardCommand) -> bool {
        {
            let mut queues = self.queues.lock();
            if queues.closed || queues.commands.len() >= SHARD_COMMANDS_MAX {
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
            if queues.closed {
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

    /// Requests answered with `Overloaded` so far.
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// About how many bytes the next turn takes in.
    pub(super) fn bytes(&self) -> usize {
        let queues = self.queues.lock();
        queues.messages_bytes + queues.requests_bytes
    }

    /// Takes everything. Clears the mark first: whatever comes in from here on sends another wake-up.
    pub(super) fn drain(&self) -> Drained {
        self.armed.store(false, Ordering::SeqCst);
        let drained = self.queues.lock().take();
        Drained {
            persisted: self.persisted.load(Ordering::SeqCst),
            tick: self.tick.swap(false, Ordering::SeqCst),
            ..drained
        }
    }

    /// The oldest request that was not begun came in then; `None` if there is none.
    pub(super) fn set_oldest(&self, queued_at: Option<Nanos>) {
        self.oldest.store(queued_at.map_or(0, |at| at.0), Ordering::Relaxed);
    }

    /// The host is gone: what waits is answered now, and what comes later at once. Not left to the end of this value,
    /// which may wait for those very answers: a session holds on to the replica that it has asked.
    pub(super) fn close(&self) {
        let Drained { requests, .. } = {
            let mut queues = self.queues.lock();
            queues.closed = true;
            queues.take()
        };
        // Each is answered as it is dropped.
        let bytes = requests.iter().map(|request| request.operation.bytes()).sum();
        self.release(requests.len(), bytes);
    }

    /// Requests have been proposed or answered.
    pub(super) fn release(&self, requests: usize, bytes: usize) {
        self.waiting_requests.fetch_sub(requests, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.node_budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn wake(&self) {
        if !self.armed.swap(true, Ordering::SeqCst) {
            (self.waker.0)();
        }
    }
}

impl PersistListener for Inbox {
    fn persisted(&self, token: u64) {
        self.persisted.fetch_max(token, Ordering::SeqCst);
        self.wake();
    }
}

impl Drop for Inbox {
    /// A host that failed leaves requests unanswered; they are answered as they are dropped, and count no longer.
    fn drop(&mut self) {
        self.node_budget.bytes.fetch_sub(*self.waiting_bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What the rest of the node holds of one incarnation of a shard replica.
#[derive(Debug)]
pub struct ShardHandle {
    /// The shard.
    pub shard: ShardId,
    /// The way in.
    pub inbox: Arc<Inbox>,
    /// Whether reads may pass.
    pub gate: Arc<ReadGate>,
    /// The state to read.
    pub reader: Arc<StoreReader>,
    /// How often the replica was opened since the process began.
    pub incarnation: u32,
    /// Its state as of its last turn.
    pub snapshot: Mutex<ShardSnapshot>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Answer, ReplySink};
    use crate::shard::ShardReply;
    use kvorum_protocol::snapshot::{SnapshotId, SnapshotPart};
    use kvorum_protocol::{LogIndex, Outcome, Term};

    #[test]
    fn requests_for_a_host_that_is_gone_are_answered_while_others_hold_its_inbox() {
        let budget: Arc<QueueBudget> = Arc::default();
        let inbox = Inbox::new(ShardId(1), Waker::new(|| {}), Arc::clone(&budget));
        let sink: Arc<ReplySink> = Arc::default();
        let get = |slot| QueuedRequest {
            queued_at: Nanos(1),
            reply_to: sink.reply_to(slot, 0),
            deadline: Nanos(u64::MAX),
            operation: Operation::Get("k".into()),
        };
        inbox.request(get(0));
        inbox.close();
        inbox.request(get(1));
        let mut replies = Vec::new();
        sink.take(&mut replies);
        let outcomes: Vec<_> = replies
            .iter()
            .map(|reply| match &reply.answer {
                Answer::Shard(ShardReply::Error(error)) => (reply.slot, error.outcome),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(outcomes, [(0, Outcome::Unknown), (1, Outcome::NotApplied)]);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
        assert!(!inbox.command(ShardCommand::HandOver));
    }

    #[test]
    fn messages_about_snapshots_are_bounded_by_their_bytes() {
        let inbox = Inbox::new(ShardId(1), Waker::new(|| {}), Arc::default());
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
        let queued = |messages: Vec<SnapshotMessage>| {
            messages.iter().filter(|message| **message == chunk(0) || **message == chunk(1)).count()
        };
        (0..4).for_each(|at| inbox.snapshot(chunk(at)));
        assert_eq!(queued(inbox.drain().snapshots), 2);
        inbox.snapshot(chunk(0));
        assert_eq!(queued(inbox.drain().snapshots), 1, "what was taken counts no longer");
        inbox.close();
        inbox.snapshot(chunk(0));
        assert_eq!(queued(inbox.drain().snapshots), 0);
    }
}
