//! A replica under its host, step by step: by which time it judges what comes in while its turn is held up.

use super::*;
use crate::clock::Clock;
use crate::consensus::lease::LeaseLength;
use crate::journal::{ShardJournal, Submission};
use crate::shard::host::{ShardArguments, ShardHost, ShardOutlet, TurnEnd, TurnStep};
use crate::shard::inbox::{QueueBudget, QueueLimits, Waker};
use crate::shard::upkeep::{DumpPermits, Job, Upkeep, UpkeepOptions};
use inbox::Inbox;
use parking_lot::Mutex;

/// Everything that a host needs of its node: its clock, and what it has sent.
#[derive(Default)]
pub(super) struct Node {
    now: Mutex<Now>,
    sent: Mutex<Vec<RaftMessage>>,
    permits: Arc<DumpPermits>,
}

impl Clock for Node {
    fn now(&self) -> Now {
        *self.now.lock()
    }

    fn monotonic(&self) -> Nanos {
        self.now().monotonic
    }
}

impl ShardJournal for Node {
    fn submit(&self, submission: Submission) {
        submission.listener.persisted(submission.token);
    }

    fn durable(&self, _shard: ShardId) -> Option<Position> {
        None
    }
}

impl Upkeep for Node {
    fn submit(&self, _shard: ShardId, _job: Job, _inbox: Arc<Inbox>) {}

    fn permits(&self) -> &Arc<DumpPermits> {
        &self.permits
    }
}

impl ShardOutlet for Node {
    fn send(&self, _shard: ShardId, messages: Vec<RaftMessage>) {
        self.sent.lock().extend(messages);
    }
}

impl Node {
    /// What a replica is opened with that begins here, with an empty disk.
    pub(super) fn arguments(self: &Arc<Self>, config: ShardConfig) -> ShardArguments {
        *self.now.lock() =
            Now { monotonic: Nanos(1_000_000_000), agreed_ms: Some(1_700_000_000_000), ..Now::default() };
        let disk: Arc<dyn Disk> = MemoryDisk::new();
        ShardArguments {
            config,
            incarnation: 1,
            log: LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk)))),
            disk,
            journal: Arc::clone(self) as _,
            queue_budget: Arc::new(QueueBudget::new(QueueLimits::default())),
            pressure: Arc::default(),
            upkeep: Arc::clone(self) as _,
            upkeep_options: UpkeepOptions::default(),
            outlet: Arc::clone(self) as _,
            counts: Arc::default(),
            clock: Arc::clone(self) as _,
        }
    }

    /// Time passes.
    pub(super) fn wait(&self, ms: u64) {
        let mut now = self.now.lock();
        now.monotonic = now.monotonic.after_ms(ms);
        now.agreed_ms = now.agreed_ms.map(|agreed| agreed + ms);
    }
}

/// A follower of a group of three, under its host.
struct Follower {
    host: ShardHost,
    node: Arc<Node>,
}

impl Follower {
    /// The second replica, which has just begun.
    fn new() -> Self {
        let node: Arc<Node> = Arc::default();
        let arguments = node.arguments(config(1, &[id(0), id(1), id(2)]));
        let mut follower = Self { host: ShardHost::open(arguments, Waker::new(|| {})).unwrap(), node };
        follower.receive(RaftMessageKind::Heartbeat, id(0), 1);
        assert_eq!(follower.host.turn().unwrap(), TurnEnd::Done);
        assert_eq!(follower.host.shard().status().leader, Some(id(0)));
        follower
    }

    fn now(&self) -> Nanos {
        self.node.monotonic()
    }

    fn wait(&self, ms: u64) {
        self.node.wait(ms);
    }

    fn receive(&self, kind: RaftMessageKind, from: ReplicaId, term: u64) {
        self.host.handle().inbox.message(RaftMessage {
            kind,
            from,
            to: id(1),
            term: Term(term),
            log_term: Term(term),
            index: LogIndex(10),
            commit: LogIndex(0),
            commit_term: Term(0),
            reject: false,
            reject_hint: LogIndex(0),
            priority: 0,
            lease_stamp: self.now().0,
            log_time_ms: 0,
            context: Bytes::new(),
            entries: Vec::new(),
        });
    }

    /// Whether it would vote for the third replica now.
    fn would_vote(&mut self) -> bool {
        self.host.handle().inbox.tick();
        self.receive(RaftMessageKind::RequestPreVote, id(2), 2);
        assert_eq!(self.host.turn().unwrap(), TurnEnd::Done);
        let given = |message: &RaftMessage| message.kind == RaftMessageKind::RequestPreVoteResponse && !message.reject;
        self.node.sent.lock().drain(..).any(|message| given(&message))
    }
}

/// For how many milliseconds after a heartbeat arrived it refuses to vote for another, if it arrives when `step` of its turn
/// is done, and the turn is held up for `before_ms` before that and for `after_ms` behind it.
fn refuses_for(step: TurnStep, before_ms: u64, after_ms: u64) -> u64 {
    let mut follower = Follower::new();
    while follower.host.step().unwrap() != step {}
    follower.wait(before_ms);
    let arrived = follower.now();
    follower.receive(RaftMessageKind::Heartbeat, id(0), 1);
    follower.wait(after_ms);
    assert_eq!(follower.host.turn().unwrap(), TurnEnd::Done);
    // What came in behind the drain is taken by the next turn.
    assert_eq!(follower.host.turn().unwrap(), TurnEnd::Done);
    while !follower.would_vote() {
        follower.wait(1);
        assert!(follower.now().ms_since(arrived) < 10_000, "it never would");
    }
    follower.now().ms_since(arrived)
}

#[test]
fn a_follower_refuses_votes_for_longer_than_a_lease_lasts_however_its_turn_is_held_up() {
    let lease_ms = LeaseLength::new(ELECTION_TICKS, TICK_MS).ms();
    for step in [TurnStep::Begun, TurnStep::Drained, TurnStep::Timed, TurnStep::Worked] {
        for before_ms in (0..400).step_by(29) {
            for after_ms in [0, 30, 149, 1_000] {
                let refused_ms = refuses_for(step, before_ms, after_ms);
                assert!(
                    refused_ms > lease_ms,
                    "{step:?}, {before_ms} ms, {after_ms} ms: {refused_ms} of {lease_ms} ms"
                );
            }
        }
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn a_clock_that_is_read_too_early_ends_the_refusal_too_soon() {
    let _planted = crate::seeded::plant(Some(Bug::ClockReadBeforeDrain));
    let lease_ms = LeaseLength::new(ELECTION_TICKS, TICK_MS).ms();
    assert!((0..200).any(|before_ms| refuses_for(TurnStep::Begun, before_ms, 0) < lease_ms));
}

/// The time of a turn may be long past when somebody acts on what it has decided.
#[test]
fn no_lease_confirms_a_read() {
    let mut group = Group::led();
    group.written(0, "k", put("old"));
    group.advance(4 * TICK_MS);
    assert!(group.gate_is_open(0));
    let then = group.now;
    let mut held_up = group.replicas[0].take();
    let leader = group.await_leader(&[1, 2]);
    group.written(leader, "k", put("new"));
    group.replicas[0] = held_up.take();
    group.next_ticket += 1;
    let ticket = Ticket(group.next_ticket);
    let deadline = group.now.monotonic.after_ms(DEADLINE_MS);
    group.shard(0).handle_requests([ShardRequest {
        ticket,
        client: client(),
        deadline,
        term: Term(0),
        operation: Operation::Confirm,
    }]);
    let effects = group.shard(0).poll(then).unwrap();
    assert!(effects.replies.is_empty(), "it would read {:?}: {:?}", group.value(0, "k"), effects.replies);
    group.network.extend(effects.messages);
    group.advance(4 * TICK_MS);
    assert!(
        matches!(group.replies.get(&ticket), Some(ShardReply::Returned(_))),
        "another leads: {:?}",
        group.replies.get(&ticket)
    );
}
