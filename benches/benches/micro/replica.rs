//! A step of a shard's group: its leader takes writes, both followers append and answer, a quorum commits, and the writes are
//! applied and answered. Three replicas in one thread, messages in a queue; logs are mapped, and every sync is reported at
//! once.

use crate::folder::Folder;
use crate::sample::{key, value};
use crate::timed;
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use kvorum_core::clock::{Nanos, Now};
use kvorum_core::consensus::{ConsensusConfig, Promise};
use kvorum_core::shard::{Operation, Shard, ShardConfig, ShardReply, ShardRequest, Target, Ticket};
use kvorum_core::store::SessionLimits;
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::{
    Ack, Action, ClientId, Condition, Durability, LogIndex, Mutation, ReplicaId, ReturnPrevious, ShardId, Term,
    TimeToLive, WriteId, WriteStatus,
};
use std::collections::VecDeque;
use uuid::Uuid;

const REPLICAS: u64 = 3;
const TICK_MS: u64 = 50;
const DEADLINE_MS: u64 = 5_000;
const SEGMENT_BYTES: u32 = 64 * 1024 * 1024;
/// Writes to one group. Its logs stay below half of their segments, so that the next ones are not made yet.
const WRITES_MAX: u64 = 64 * 1024;
/// Different keys.
const KEYS: usize = 16 * 1024;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_step(criterion, 1);
    bench_step(criterion, 64);
}

fn bench_step(criterion: &mut Criterion, writes: u64) {
    let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
    let led = || Group::led(&keys);
    let mut group = led();
    let before = group.replicas[0].shard.log().last_index();
    group.step(writes);
    let last = LogIndex(before.0 + 1);
    assert!(group.replicas.iter().all(|replica| replica.shard.log().last_index() == last), "one entry, everywhere");
    assert_eq!(group.replicas[0].shard.store().applied(), last);
    drop(group);

    let mut benches = criterion.benchmark_group("replica");
    benches.throughput(Throughput::Elements(writes));
    benches.bench_function(format!("{writes} write(s) in an entry, three replicas"), |bencher| {
        let steps_max = WRITES_MAX / writes;
        bencher.iter_custom(|iterations| timed(iterations, steps_max, led, |group| group.step(writes)));
    });
    benches.finish();
}

struct Replica {
    shard: Shard,
    /// Messages that wait for a sync.
    promises: Vec<Promise>,
    /// The last append whose sync has not been reported.
    unsynced: Option<u64>,
    _folder: Folder,
}

/// The first replica leads it.
struct Group<'a> {
    replicas: Vec<Replica>,
    network: VecDeque<RaftMessage>,
    now: Now,
    /// Steps so far.
    steps: u64,
    /// Writes answered in the step under way.
    answered: u64,
    keys: &'a [Bytes],
    value: Bytes,
}

impl Group<'_> {
    fn led(keys: &[Bytes]) -> Group<'_> {
        let now =
            Now { monotonic: Nanos(1_000_000_000), wall_ms: 1_700_000_000_000, agreed_ms: Some(1_700_000_000_000) };
        let replicas = (1..=REPLICAS).map(|number| Replica::new(ReplicaId(number), now.monotonic)).collect();
        let (network, value) = (VecDeque::new(), value(b'v'));
        let mut group = Group { replicas, network, now, steps: 0, answered: 0, keys, value };
        // The preferred replica of a new group campaigns at once.
        for _ in 0..3 {
            group.settle();
            group.now.monotonic = group.now.monotonic.after_ms(TICK_MS);
            group.now.wall_ms += TICK_MS;
            let now = group.now;
            group.replicas.iter_mut().for_each(|replica| replica.shard.handle_tick(now));
        }
        group.settle();
        assert!(group.replicas[0].shard.status().serving);
        group
    }

    /// So many clients write one key each; ends when all are answered.
    fn step(&mut self, writes: u64) {
        let first = self.steps * writes;
        self.steps += 1;
        let (sequence, deadline) = (self.steps, self.now.monotonic.after_ms(DEADLINE_MS));
        let (keys, value) = (self.keys, &self.value);
        let request = |number: u64| {
            let action = Action::Put { value: value.clone(), ttl: TimeToLive::Forever };
            let key = keys[(first + number) as usize % keys.len()].clone();
            let mutation =
                Mutation { key, condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action };
            let client = ClientId(Uuid::from_u128(number.into()));
            let id = WriteId { sequence, first_unanswered: sequence, retry: false, once: None };
            let operation = Operation::Write { client, id, ack: Ack::Committed, mutation };
            ShardRequest { ticket: Ticket(number), client, deadline, term: Term(0), operation }
        };
        self.answered = 0;
        self.replicas[0].shard.handle_requests((0..writes).map(request));
        self.settle();
        assert_eq!(self.answered, writes);
    }

    /// Polls, syncs and delivers until nothing is left to do.
    fn settle(&mut self) {
        while !self.is_settled() {}
    }

    /// Does all of it once; returns whether there was nothing.
    fn is_settled(&mut self) -> bool {
        let mut idle = true;
        for replica in &mut self.replicas {
            self.answered += replica.poll(self.now, &mut self.network);
            if let Some(token) = replica.unsynced.take() {
                idle = false;
                replica.shard.handle_persisted(token);
            }
            // Everything that they rest on is durable now.
            idle &= replica.promises.is_empty();
            self.network.extend(replica.promises.drain(..).map(|promise| promise.message));
        }
        while let Some(message) = self.network.pop_front() {
            idle = false;
            let to = &mut self.replicas[message.to.0 as usize - 1];
            to.shard.handle_message(self.now.monotonic, message).unwrap();
        }
        idle
    }
}

impl Replica {
    fn new(replica: ReplicaId, now: Nanos) -> Self {
        let folder = Folder::new();
        let shard = ShardId(3);
        let voters: Vec<ReplicaId> = (1..=REPLICAS).map(ReplicaId).collect();
        let consensus = ConsensusConfig { replica, tick_ms: TICK_MS, election_ticks: 10, heartbeat_ticks: 2, seed: 1 };
        let config = ShardConfig {
            shard,
            consensus,
            initial_voters: voters.clone(),
            target: Target { voters, since: 1, asks: false },
            joins: false,
            durability: Durability::Fsync,
            sessions: SessionLimits::default(),
            order_bits: kvorum_core::shard::ORDER_BITS,
        };
        let shard = Shard::new(config, folder.log(shard, SEGMENT_BYTES), now).unwrap();
        Self { shard, promises: Vec::new(), unsynced: None, _folder: folder }
    }

    /// Returns how many writes it has answered.
    fn poll(&mut self, now: Now, network: &mut VecDeque<RaftMessage>) -> u64 {
        let effects = self.shard.poll(now).unwrap();
        network.extend(effects.messages);
        self.promises.extend(effects.promises);
        self.unsynced = effects.append.map(|(token, _)| token).max(self.unsynced);
        for (_, reply) in &effects.replies {
            let ShardReply::Written(result) = reply else { panic!("{reply:?}") };
            assert_eq!(result.status, WriteStatus::Applied);
        }
        effects.replies.len() as u64
    }
}
