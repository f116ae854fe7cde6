//! A group of three replicas, and those that join it, in one thread: a network of queues, disks in memory, a clock that
//! moves when told to.
//!
//! Long because the group and the tests of its everyday are one story; what has a subject of its own is in the folder.

mod awaits;
mod budgets;
mod commits;
mod dumps;
mod hand_over;
mod membership;
mod names;
mod offering;
mod once;
mod remains;
mod sealed;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod shortage;
mod slices;
mod tally;
mod time;
mod transaction;
mod turn;
mod wire;

use super::*;
use crate::consensus::Promise;
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::log::{Damage, InlineSource, LogOptions, Position};
use crate::store::ReadError;
use bytes::Bytes;
use kvorum_protocol::peer::RaftMessageKind;
use kvorum_protocol::{Action, AtomicCheck, Condition, ReturnPrevious, TimeToLive, WriteResult};
use kvorum_protocol::{AtomicRequest, ClientId, Mutation, Version, WriteId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const TICK_MS: u64 = 50;
const ELECTION_TICKS: u32 = 10;
const DEADLINE_MS: u64 = 5_000;

struct Replica {
    shard: Shard,
    /// Appends whose sync has not been reported.
    unsynced: Vec<u64>,
    /// Messages that wait for one.
    promises: Vec<Promise>,
}

struct Group {
    disks: Vec<Arc<MemoryDisk>>,
    replicas: Vec<Option<Replica>>,
    network: VecDeque<RaftMessage>,
    /// All that was sent, if somebody wants to know.
    sent: Option<Vec<RaftMessage>>,
    /// Replicas that reach nobody.
    cut: BTreeSet<usize>,
    /// Replicas whose disks hang.
    hanging: BTreeSet<usize>,
    now: Now,
    next_ticket: u64,
    next_sequence: u64,
    replies: BTreeMap<Ticket, ShardReply>,
    /// Who should vote.
    target: Vec<ReplicaId>,
    /// Who asked for a snapshot, and for whom.
    snapshots: Vec<(usize, ReplicaId)>,
    /// What each poll has told, and whose it was.
    tallies: Vec<(usize, Tally)>,
}

fn id(position: usize) -> ReplicaId {
    ReplicaId(position as u64 + 1)
}

fn client() -> ClientId {
    ClientId(Uuid::from_u128(7))
}

/// Those after the first three have joined the group.
fn config(position: usize, target: &[ReplicaId]) -> ShardConfig {
    ShardConfig {
        shard: ShardId(3),
        consensus: ConsensusConfig {
            replica: id(position),
            tick_ms: TICK_MS,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 2,
            seed: 1,
        },
        initial_voters: (0..3).map(id).collect(),
        target: Target { voters: target.to_vec(), since: 1, asks: true },
        joins: position >= 3,
        durability: Durability::Fsync,
        sessions: SessionLimits::default(),
        order_bits: ORDER_BITS,
    }
}

fn open(position: usize, disk: &Arc<MemoryDisk>, target: &[ReplicaId], now: Nanos) -> Replica {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let options = LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))));
    let (log, _) = ShardLog::open(&disk, ShardId(3), None, options).unwrap();
    Replica {
        shard: Shard::new(config(position, target), log, now).unwrap(),
        unsynced: Vec::new(),
        promises: Vec::new(),
    }
}

impl Group {
    fn new() -> Self {
        let disks: Vec<_> = (0..3).map(|_| MemoryDisk::new()).collect();
        let now =
            Now { monotonic: Nanos(1_000_000_000), wall_ms: 1_700_000_000_000, agreed_ms: Some(1_700_000_000_000) };
        let target: Vec<_> = (0..3).map(id).collect();
        let replicas = disks.iter().enumerate();
        let replicas = replicas.map(|(position, disk)| Some(open(position, disk, &target, now.monotonic))).collect();
        Self {
            disks,
            replicas,
            network: VecDeque::new(),
            sent: None,
            cut: BTreeSet::new(),
            hanging: BTreeSet::new(),
            now,
            next_ticket: 0,
            next_sequence: 0,
            replies: BTreeMap::new(),
            target,
            snapshots: Vec::new(),
            tallies: Vec::new(),
        }
    }

    /// A group whose first replica leads and serves.
    fn led() -> Self {
        let mut group = Self::new();
        group.advance(3 * TICK_MS);
        assert_eq!(group.leader(), Some(0), "the preferred replica campaigns at once");
        group
    }

    fn shard(&mut self, position: usize) -> &mut Shard {
        &mut self.replicas[position].as_mut().expect("the replica is up").shard
    }

    fn leader(&self) -> Option<usize> {
        let serves = |replica: &Option<Replica>| replica.as_ref().is_some_and(|up| up.shard.status().serving);
        let leading: Vec<usize> =
            (0..self.replicas.len()).filter(|&position| serves(&self.replicas[position])).collect();
        leading.into_iter().max_by_key(|&position| self.replicas[position].as_ref().map(|up| up.shard.status().term))
    }

    fn hand_over(&mut self, position: usize) -> bool {
        let now = self.now.monotonic;
        self.shard(position).hand_over(now)
    }

    fn gate_is_open(&self, position: usize) -> bool {
        let replica = self.replicas[position].as_ref().expect("the replica is up");
        replica.shard.gate().pass(self.now.monotonic).is_some()
    }

    fn poll(&mut self, position: usize) {
        let now = self.now;
        let Some(replica) = self.replicas[position].as_mut() else { return };
        let effects = replica.shard.poll(now).unwrap();
        self.network.extend(effects.messages);
        self.snapshots.extend(effects.snapshots.into_iter().map(|replica| (position, replica)));
        self.tallies.push((position, effects.tally));
        replica.unsynced.extend(effects.append.map(|(token, _)| token));
        replica.promises.extend(effects.promises);
        for (ticket, reply) in effects.replies {
            assert!(self.replies.insert(ticket, reply).is_none(), "{ticket:?} was answered twice");
        }
    }

    /// Delivers, syncs and polls until nothing is left to do. No time passes.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.round() {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    /// Polls, syncs and delivers once. Returns whether there was nothing to do.
    fn round(&mut self) -> bool {
        let mut idle = true;
        for position in 0..self.replicas.len() {
            self.poll(position);
            let hangs = self.hanging.contains(&position);
            if let Some(replica) = self.replicas[position].as_mut()
                && !hangs
                && let Some(token) = replica.unsynced.drain(..).max()
            {
                idle = false;
                replica.shard.handle_persisted(token);
                self.network.extend(
                    replica.promises.extract_if(.., |promise| promise.token <= token).map(|promise| promise.message),
                );
            }
        }
        while let Some(message) = self.network.pop_front() {
            idle = false;
            if let Some(sent) = &mut self.sent {
                sent.push(message.clone());
            }
            let (from, to) = (message.from.0 as usize - 1, message.to.0 as usize - 1);
            let now = self.now.monotonic;
            if !self.cut.contains(&from)
                && !self.cut.contains(&to)
                && let Some(replica) = self.replicas[to].as_mut()
            {
                replica.shard.handle_message(now, message).unwrap();
            }
        }
        idle
    }

    /// Lets time pass, tick by tick.
    fn advance(&mut self, ms: u64) {
        self.settle();
        for _ in 0..ms / TICK_MS {
            self.tick();
            self.settle();
        }
    }

    fn tick(&mut self) {
        self.now.monotonic = self.now.monotonic.after_ms(TICK_MS);
        self.now.wall_ms += TICK_MS;
        self.now.agreed_ms = self.now.agreed_ms.map(|agreed| agreed + TICK_MS);
        let now = self.now;
        self.replicas.iter_mut().flatten().for_each(|replica| replica.shard.handle_tick(now));
    }

    /// Lets time pass until the group has a serving leader among `positions`.
    fn await_leader(&mut self, positions: &[usize]) -> usize {
        for _ in 0..200 {
            if let Some(leader) = self.leader().filter(|leader| positions.contains(leader)) {
                return leader;
            }
            self.advance(TICK_MS);
        }
        panic!("no leader within 10 s");
    }

    fn request(&mut self, position: usize, operation: Operation) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let deadline = self.now.monotonic.after_ms(DEADLINE_MS);
        self.shard(position).handle_requests([ShardRequest {
            ticket,
            client: client(),
            deadline,
            term: Term(0),
            operation,
        }]);
        self.poll(position);
        ticket
    }

    /// Requests that come in together, and so into one entry.
    fn requests(&mut self, position: usize, operations: impl IntoIterator<Item = Operation>) -> Vec<Ticket> {
        let deadline = self.now.monotonic.after_ms(DEADLINE_MS);
        let requests: Vec<_> = operations
            .into_iter()
            .map(|operation| {
                self.next_ticket += 1;
                ShardRequest { ticket: Ticket(self.next_ticket), client: client(), deadline, term: Term(0), operation }
            })
            .collect();
        let tickets = requests.iter().map(|request| request.ticket).collect();
        self.shard(position).handle_requests(requests);
        self.poll(position);
        tickets
    }

    fn fresh_id(&mut self) -> WriteId {
        self.next_sequence += 1;
        WriteId { sequence: self.next_sequence, first_unanswered: 1, retry: false, once: None }
    }

    fn write(&mut self, position: usize, key: &str, action: Action) -> Ticket {
        let id = self.fresh_id();
        self.request(position, write(id, Ack::Committed, key, action))
    }

    /// Writes and waits for the answer.
    fn written(&mut self, position: usize, key: &str, action: Action) -> WriteResult {
        let ticket = self.write(position, key, action);
        self.settle();
        match self.replies.get(&ticket) {
            Some(ShardReply::Written(result)) => result.clone(),
            other => panic!("{key}: {other:?}"),
        }
    }

    /// The value that a replica's own state holds.
    fn value(&mut self, position: usize, key: &str) -> Option<String> {
        let found = self.shard(position).reader().get(key.as_bytes()).unwrap();
        found.map(|found| String::from_utf8(found.entry.value.to_vec()).unwrap())
    }

    fn kill(&mut self, position: usize) {
        self.replicas[position] = None;
        self.disks[position] = self.disks[position].after_kill();
    }

    fn restart(&mut self, position: usize) {
        self.replicas[position] = Some(open(position, &self.disks[position], &self.target, self.now.monotonic));
    }
}

fn put(value: &str) -> Action {
    Action::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: TimeToLive::Forever }
}

fn mutation(key: &str, action: Action) -> Mutation {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Mutation { key, condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action }
}

fn write(id: WriteId, ack: Ack, key: &str, action: Action) -> Operation {
    Operation::Write { client: client(), id, ack, mutation: mutation(key, action) }
}

fn error_of(reply: Option<&ShardReply>) -> (ErrorCode, Outcome) {
    match reply {
        Some(ShardReply::Error(error)) => (error.code, error.outcome),
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn a_write_is_answered_once_a_quorum_has_synced_it_and_not_before() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    let ticket = group.write(0, "k", put("v"));
    group.settle();
    assert_eq!(group.replies.get(&ticket), None, "only the leader's disk has it");
    assert_eq!(group.value(0, "k"), None);
    group.hanging = BTreeSet::from([1]);
    group.settle();
    assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Written(_))));
    assert_eq!(group.value(0, "k").as_deref(), Some("v"));
    group.hanging.clear();
    group.advance(4 * TICK_MS);
    for position in 1..3 {
        assert_eq!(group.value(position, "k").as_deref(), Some("v"), "followers learn with the next heartbeat");
    }
}

#[test]
fn an_accepted_write_is_answered_before_any_sync() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0, 1, 2]);
    let id = group.fresh_id();
    let ticket = group.request(0, write(id, Ack::Accepted, "k", put("v")));
    let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("it is in the leader's log") };
    assert_eq!((result.status, result.ack), (WriteStatus::Applied, Ack::Accepted));
    assert_eq!(group.value(0, "k"), None, "it can't be read yet");
}

#[test]
fn requests_of_one_batch_see_each_other_in_order() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    let first = group.write(0, "n", Action::Incr { by: 2 });
    let second = group.write(0, "n", Action::Incr { by: 3 });
    let read = group.request(0, Operation::Get("n".into()));
    let third = group.write(0, "n", Action::Delete);
    group.hanging.clear();
    group.settle();
    let number = |ticket| match group.replies.get(&ticket) {
        Some(ShardReply::Written(result)) => result.number,
        other => panic!("{other:?}"),
    };
    assert_eq!((number(first), number(second), number(third)), (Some(2), Some(5), None));
    let Some(ShardReply::Value(Some(entry))) = group.replies.get(&read) else { panic!("the read sees both") };
    assert_eq!(entry.value, "5");
    assert_eq!(group.value(0, "n"), None);
}

#[test]
fn a_leader_that_is_cut_off_stops_reading_before_another_takes_writes() {
    let mut group = Group::led();
    group.written(0, "k", put("old"));
    assert!(group.gate_is_open(0));
    group.cut.insert(0);
    let mut closed_at = None;
    let successor = loop {
        group.advance(TICK_MS);
        if closed_at.is_none() && !group.gate_is_open(0) {
            closed_at = Some(group.now.monotonic);
        }
        if let Some(leader) = group.leader().filter(|leader| *leader != 0) {
            break leader;
        }
    };
    let closed_at = closed_at.expect("the gate closes before anyone else leads");
    assert!(closed_at <= group.now.monotonic);
    group.written(successor, "k", put("new"));
    assert!(!group.gate_is_open(0));
    group.cut.clear();
    group.advance(20 * TICK_MS);
    assert_eq!(group.value(0, "k").as_deref(), Some("new"), "healing needs no help");
}

#[test]
fn a_refusal_of_a_retry_stands_when_an_earlier_copy_comes_late() {
    let mut group = Group::led();
    let first = group.fresh_id();
    let copy = |id| {
        let mutation = Mutation { condition: Condition::IfPresent, ..mutation("k", put("mine")) };
        Operation::Write { client: client(), id, ack: Ack::Committed, mutation }
    };
    let status = |group: &Group, ticket| match group.replies.get(&ticket) {
        Some(ShardReply::Written(result)) => result.status,
        other => panic!("{other:?}"),
    };
    let retry = group.request(0, copy(WriteId { retry: true, ..first }));
    group.settle();
    assert_eq!(status(&group, retry), WriteStatus::ConditionFailed);
    group.written(0, "k", put("other"));
    let late = group.request(0, copy(first));
    group.settle();
    assert_eq!(status(&group, late), WriteStatus::ConditionFailed, "its client was told so");
    assert_eq!(group.value(0, "k").as_deref(), Some("other"));
}

#[test]
fn a_retry_after_the_leaders_death_takes_effect_once() {
    let mut group = Group::led();
    let id = group.fresh_id();
    let incr = || Action::Incr { by: 1 };
    group.request(0, write(id, Ack::Committed, "n", incr()));
    group.settle();
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    let retry = WriteId { retry: true, ..id };
    for _ in 0..2 {
        let ticket = group.request(leader, write(retry, Ack::Committed, "n", incr()));
        group.settle();
        let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("it is remembered") };
        assert_eq!(result.number, Some(1), "the answer is the first one's");
    }
    assert_eq!(group.value(leader, "n").as_deref(), Some("1"));
    group.kill(leader);
    group.restart(0);
    let third = group.await_leader(&[0, 1, 2]);
    let ticket = group.request(third, write(retry, Ack::Committed, "n", incr()));
    group.settle();
    let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("it outlives restarts") };
    assert_eq!(result.number, Some(1));
}

#[test]
fn a_write_that_another_leader_overwrites_is_reported_as_not_applied() {
    let mut group = Group::led();
    group.cut.insert(0);
    let ticket = group.write(0, "k", put("never"));
    group.settle();
    let leader = group.await_leader(&[1, 2]);
    group.written(leader, "k", put("kept"));
    group.cut.clear();
    group.advance(10 * TICK_MS);
    assert_eq!(error_of(group.replies.get(&ticket)), (ErrorCode::Unavailable, Outcome::NotApplied));
    for position in 0..3 {
        assert_eq!(group.value(position, "k").as_deref(), Some("kept"));
    }
}

/// What a retry is told is about another entry than the one that is being made when it comes.
#[test]
fn a_retry_is_never_told_that_an_applied_write_was_not() {
    let mut group = Group::led();
    let id = group.fresh_id();
    let incr = || Action::Incr { by: 1 };
    group.request(0, write(id, Ack::Committed, "n", incr()));
    group.settle();
    group.cut.insert(0);
    let never = write(group.fresh_id(), Ack::Committed, "k", put("never"));
    let again = write(WriteId { retry: true, ..id }, Ack::Committed, "n", incr());
    let tickets = group.requests(0, [never, again]);
    let (lost, retry) = (tickets[0], tickets[1]);
    let leader = group.await_leader(&[1, 2]);
    group.written(leader, "k", put("kept"));
    group.cut.clear();
    group.advance(10 * TICK_MS);
    assert_eq!(error_of(group.replies.get(&lost)).1, Outcome::NotApplied);
    let Some(ShardReply::Written(result)) = group.replies.get(&retry) else { panic!("the first copy was applied") };
    assert_eq!((result.status, result.number), (WriteStatus::Applied, Some(1)));
}

/// Its entry may yet commit although a later one of the same leader is superseded.
#[test]
fn a_retry_of_a_write_that_is_on_its_way_ends_unknown() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0, 1, 2]);
    let id = group.fresh_id();
    let incr = |retry| write(WriteId { retry, ..id }, Ack::Committed, "n", Action::Incr { by: 1 });
    let tickets = group.requests(0, [incr(false), incr(true)]);
    assert_eq!(error_of(group.replies.get(&tickets[1])), (ErrorCode::Unavailable, Outcome::Unknown));
    let later = group.request(0, incr(true));
    group.hanging.clear();
    group.settle();
    for ticket in [tickets[0], later] {
        let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("{ticket:?} is answered") };
        assert_eq!(result.number, Some(1));
    }
}

/// It is decided on writes that may be lost, so it is not said before they are safe, whatever ack was asked for.
#[test]
fn an_accepted_atomic_whose_check_fails_waits_for_what_failed_it() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0, 1, 2]);
    group.write(0, "a", put("1"));
    let check = AtomicCheck { key: "a".into(), condition: Condition::IfAbsent };
    let mutations = vec![mutation("b", put("2"))];
    let request = AtomicRequest { id: group.fresh_id(), ack: Ack::Accepted, checks: vec![check], mutations };
    let ticket = group.request(0, Operation::Atomic { client: client(), request });
    assert_eq!(group.replies.get(&ticket), None);
    group.hanging.clear();
    group.settle();
    assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Atomic(AtomicResult::ConditionFailed { .. }))));
}

#[test]
fn without_a_quorum_a_write_ends_unknown_at_its_deadline() {
    let mut group = Group::led();
    group.cut.insert(0);
    let ticket = group.write(0, "k", put("v"));
    group.kill(1);
    group.advance(DEADLINE_MS + TICK_MS);
    assert_eq!(error_of(group.replies.get(&ticket)), (ErrorCode::DeadlineExceeded, Outcome::Unknown));
    let refused = group.write(0, "k", put("v"));
    let returned = matches!(group.replies.get(&refused), Some(ShardReply::Returned(_)));
    assert!(returned, "the leader has stepped down");
}

#[test]
fn a_key_expires_by_log_time_on_every_replica() {
    let mut group = Group::led();
    group.written(0, "k", Action::Put { value: "v".into(), ttl: TimeToLive::Ms(500) });
    group.advance(400);
    assert_eq!(group.value(0, "k").as_deref(), Some("v"));
    group.advance(400);
    for position in 0..3 {
        assert_eq!(group.value(position, "k"), None, "replica {position}: an empty entry moved log time on");
        assert_eq!(group.shard(position).reader().keys(), 0);
    }
    // Clocks that jump back revive nothing.
    group.now.wall_ms -= 3_600_000;
    group.now.agreed_ms = Some(group.now.wall_ms);
    group.written(0, "other", put("v"));
    assert_eq!(group.value(0, "k"), None);
}

/// The tick proposes the empty entry that expires the key; the write comes before the poll that appends it.
#[test]
fn a_write_in_the_turn_in_which_a_key_expires_is_the_next_entry() {
    let mut group = Group::led();
    group.written(0, "k", Action::Put { value: "v".into(), ttl: TimeToLive::Ms(100) });
    group.now.monotonic = group.now.monotonic.after_ms(4 * TICK_MS);
    group.now.wall_ms += 4 * TICK_MS;
    let now = group.now;
    group.shard(0).handle_tick(now);
    group.written(0, "other", put("v"));
    assert_eq!(group.value(0, "k"), None);
    assert_eq!(group.value(0, "other").as_deref(), Some("v"));
}

#[test]
fn an_atomic_takes_effect_as_a_whole_or_not_at_all() {
    let mut group = Group::led();
    let version = group.written(0, "a", put("1")).version;
    let request = |group: &mut Group, expected| AtomicRequest {
        id: group.fresh_id(),
        ack: Ack::Committed,
        checks: vec![AtomicCheck { key: "a".into(), condition: Condition::IfVersion(expected) }],
        mutations: vec![mutation("b", put("2")), mutation("a", Action::Incr { by: 4 }), mutation("a", put("x"))],
    };
    let wrong = request(&mut group, Version(99));
    let refused = group.request(0, Operation::Atomic { client: client(), request: wrong });
    let right = request(&mut group, version);
    let done = group.request(0, Operation::Atomic { client: client(), request: right });
    group.settle();
    assert_eq!(
        group.replies.get(&refused),
        Some(&ShardReply::Atomic(AtomicResult::ConditionFailed { position: 0, version, replayed: false }))
    );
    let Some(ShardReply::Atomic(AtomicResult::Applied(results))) = group.replies.get(&done) else {
        panic!("its check holds")
    };
    assert_eq!(results.iter().map(|result| result.number).collect::<Vec<_>>(), [None, Some(5), None]);
    assert_eq!(group.value(0, "a").as_deref(), Some("x"));
    assert_eq!(group.value(0, "b").as_deref(), Some("2"));
}

/// A small request may write and answer far more than it holds itself.
#[test]
fn an_atomic_that_would_write_or_return_too_much_is_refused() {
    let mut group = Group::led();
    let append = || Action::Append { value: "x".into() };
    group.written(0, "large", put(&"v".repeat(2 * 1024 * 1024)));
    group.written(0, "previous", put(&"v".repeat(64 * 1024)));
    for mutated in [
        mutation("large", append()),
        mutation("large", Action::Expire { ttl_ms: 1000 }),
        Mutation { return_previous: ReturnPrevious::Entry, ..mutation("previous", Action::Expire { ttl_ms: 1000 }) },
    ] {
        let mutations = vec![mutated; 1000];
        let request = AtomicRequest { id: group.fresh_id(), ack: Ack::Committed, checks: vec![], mutations };
        let ticket = group.request(0, Operation::Atomic { client: client(), request });
        group.settle();
        assert_eq!(error_of(group.replies.get(&ticket)), (ErrorCode::TooLarge, Outcome::NotApplied));
    }
}

/// Removing is a short record, the value that it returns is remembered with it.
#[test]
fn a_batch_of_writes_that_return_large_values_is_split_into_entries() {
    const KEYS: usize = 600;
    let mut group = Group::led();
    let value = "v".repeat(64 * 1024);
    for number in 0..KEYS {
        group.written(0, &format!("k{number}"), put(&value));
    }
    group.hanging = BTreeSet::from([1, 2]);
    let tickets: Vec<Ticket> = (0..KEYS)
        .map(|number| {
            let (id, key) = (group.fresh_id(), format!("k{number}"));
            let mutation = Mutation { return_previous: ReturnPrevious::Entry, ..mutation(&key, Action::Delete) };
            group.request(0, Operation::Write { client: client(), id, ack: Ack::Committed, mutation })
        })
        .collect();
    group.hanging.clear();
    group.settle();
    for ticket in tickets {
        let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("it was there") };
        assert_eq!(result.previous.as_ref().map(|entry| entry.value.len()), Some(value.len()));
    }
}

#[test]
fn a_restarted_replica_neither_votes_nor_campaigns_for_an_election_timeout() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    group.advance(4 * TICK_MS);
    // Replica 1 has acknowledged the lease, forgets it by restarting, and the leader is gone for it and for replica 2.
    group.kill(1);
    group.restart(1);
    group.cut.insert(0);
    let lease_open = group.gate_is_open(0);
    for _ in 0..ELECTION_TICKS - 1 {
        group.advance(TICK_MS);
        assert!(group.leader().is_none_or(|leader| leader == 0), "nobody is elected during the old leader's lease");
    }
    assert!(lease_open && !group.gate_is_open(0));
    group.await_leader(&[1, 2]);
}

#[test]
fn all_replicas_killed_and_restarted_hold_what_was_acknowledged() {
    let mut group = Group::led();
    for number in 0..50 {
        group.written(0, &format!("k{number}"), put(&format!("v{number}")));
    }
    for position in 0..3 {
        group.kill(position);
        group.restart(position);
    }
    let leader = group.await_leader(&[0, 1, 2]);
    for number in 0..50 {
        assert_eq!(group.value(leader, &format!("k{number}")), Some(format!("v{number}")));
    }
    assert_eq!(group.shard(leader).status().version, Version(50));
}

#[test]
fn without_a_lease_a_read_asks_a_quorum() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    // A hand-over to a replica that is gone fails, and costs the leader its lease until it has begun another term.
    group.kill(2);
    group.shard(0).transfer_to(id(2));
    group.advance(u64::from(ELECTION_TICKS + 2) * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert!(!group.gate_is_open(0));
    let ticket = group.request(0, Operation::Confirm);
    assert_eq!(group.replies.get(&ticket), None, "nobody has confirmed yet");
    group.settle();
    assert_eq!(group.replies.get(&ticket), Some(&ShardReply::MayRead));
    group.cut.insert(0);
    let lonely = group.request(0, Operation::Confirm);
    group.advance(3 * u64::from(ELECTION_TICKS) * TICK_MS);
    assert!(matches!(group.replies.get(&lonely), Some(ShardReply::Returned(_))), "it has stepped down by then");
}

/// From replica 2 to replica 1, which stands as `receiver` says; with a log that is ahead of it.
fn message_of_the_next_term(kind: RaftMessageKind, receiver: &ReplicaStatus) -> RaftMessage {
    RaftMessage {
        kind,
        from: id(2),
        to: id(1),
        term: Term(receiver.term.0 + 1),
        log_term: receiver.term,
        index: LogIndex(receiver.last_index.0 + 10),
        commit: LogIndex(0),
        commit_term: Term(0),
        reject: false,
        reject_hint: LogIndex(0),
        priority: 0,
        lease_stamp: 0,
        log_time_ms: 0,
        context: Bytes::new(),
        entries: Vec::new(),
    }
}

/// A follower whose actor was held up hears its leader first and catches its ticks up afterwards. The ticks belong to
/// the time before the message: they must not shorten the time for which it refuses votes, on which the lease rests.
#[test]
fn ticks_that_were_missed_do_not_shorten_the_refusal_to_vote() {
    let mut group = Group::led();
    group.advance(4 * TICK_MS);
    let step = |group: &mut Group, ms: u64| {
        group.now.monotonic = group.now.monotonic.after_ms(ms);
        group.now.wall_ms += ms;
    };
    // Replica 1 misses almost three ticks, then hears a heartbeat.
    step(&mut group, 3 * TICK_MS - 1);
    let now = group.now;
    group.shard(0).handle_tick(now);
    group.settle();
    let heard_at = group.now.monotonic;
    let snapshot = group.shard(1).status();
    let lease_ms = 9 * TICK_MS * 85 / 100;
    while group.now.monotonic.ms_since(heard_at) < lease_ms {
        let now = group.now;
        group.shard(1).handle_tick(now);
        step(&mut group, 1);
    }
    let request = message_of_the_next_term(RaftMessageKind::RequestPreVote, &snapshot);
    let now = group.now;
    group.shard(1).handle_message(now.monotonic, request).unwrap();
    let answers = group.shard(1).poll(now).unwrap().messages;
    assert!(answers.is_empty(), "it would vote while the old leader may hold a lease: {answers:?}");
}

/// Replica 1 had asked for pre-votes, then heard its leader and acknowledged a lease. A late refusal of what it had
/// asked carries a higher term; taking that over would forget the leader, and the refusal to vote with it.
#[test]
fn a_late_answer_of_a_higher_term_does_not_end_the_refusal_to_vote() {
    use RaftMessageKind::{
        AppendResponse, HeartbeatResponse, RequestPreVoteResponse, RequestVote, RequestVoteResponse,
    };
    for kind in [RequestPreVoteResponse, RequestVoteResponse, AppendResponse, HeartbeatResponse] {
        let mut group = Group::led();
        group.advance(4 * TICK_MS);
        assert!(group.gate_is_open(0));
        let now = group.now;
        let follower = group.shard(1);
        let snapshot = follower.status();
        let late = RaftMessage { reject: true, ..message_of_the_next_term(kind, &snapshot) };
        follower.handle_message(now.monotonic, late).unwrap();
        let request = message_of_the_next_term(RequestVote, &snapshot);
        follower.handle_message(now.monotonic, request).unwrap();
        follower.poll(now).unwrap();
        let after = group.shard(1).status();
        assert_eq!((after.term, after.leader), (snapshot.term, Some(id(0))), "{kind:?}");
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let mut group = Group::led();
    let (now, snapshot) = (group.now, group.shard(0).status());
    let never_sent = RaftMessage {
        from: id(1),
        to: id(0),
        term: snapshot.term,
        ..message_of_the_next_term(RaftMessageKind::AppendResponse, &snapshot)
    };
    assert!(matches!(group.shard(0).handle_message(now.monotonic, never_sent), Err(ConsensusError::InvalidMessage(_))));
}

#[test]
fn a_replica_that_lacks_what_its_leader_counts_on_has_forgotten_and_ends_for_good() {
    let mut group = Group::led();
    let (now, snapshot) = (group.now, group.shard(1).status());
    let heartbeat = |term: Term, commit: LogIndex| RaftMessage {
        from: id(0),
        to: id(1),
        term,
        commit,
        ..message_of_the_next_term(RaftMessageKind::Heartbeat, &snapshot)
    };
    let beyond = LogIndex(snapshot.last_index.0 + 1);
    group.shard(1).handle_message(now.monotonic, heartbeat(snapshot.term, snapshot.last_index)).unwrap();
    for term in [snapshot.term, Term(snapshot.term.0 + 1)] {
        let error = group.shard(1).handle_message(now.monotonic, heartbeat(term, beyond)).unwrap_err();
        assert!(matches!(error, ConsensusError::Forgotten { acknowledged, last }
            if acknowledged == beyond && last == snapshot.last_index));
        assert_eq!(ShardError::from(error).remedy(), Remedy::EndLife);
    }
}

/// A leader that has met damage ends with its next poll, before it answers or promises anything more, and another one leads.
#[test]
fn a_leader_that_has_met_damage_takes_no_part_any_more() {
    let mut group = Group::led();
    let now = group.now;
    let leader = group.shard(0);
    let position = Position { segment: 1, offset: 64 };
    leader.reader().report_damage(ReadError::Medium { position, damage: Damage::Record });
    let failure = leader.poll(now).unwrap_err();
    assert_eq!(failure.remedy(), Remedy::LeaveOut, "{failure}");
    group.replicas[0] = None;
    group.advance(4 * u64::from(ELECTION_TICKS) * TICK_MS);
    assert!(matches!(group.leader(), Some(1 | 2)));
}
