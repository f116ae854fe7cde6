//! The two ends against each other, over a network in memory that loses, doubles, delays and reorders. Time is simulated.

use super::limits::{
    BURST_MS, BYTES_PER_SECOND_DEFAULT, GIVE_UP_MS, OFFER_FORGET_MS, OFFER_IDLE_MS, OFFER_REPEAT_MS, OFFERS_HELD_MAX,
    OFFERS_MAX,
};
use super::*;
use crate::clock::Nanos;
use crate::log::operations::OperationsBuilder;
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotMessage, SnapshotPart};
use kvorum_protocol::{ReplicaId, Version};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const SHARD: ShardId = ShardId(3);
const LEADER: ReplicaId = ReplicaId(1);
const FOLLOWER: ReplicaId = ReplicaId(2);
const TICK_MS: u64 = 50;

/// A record as it is stored.
pub(super) fn stored_record(version: u64, value_bytes: usize) -> Vec<u8> {
    let mut builder = OperationsBuilder::new(0, Version(version - 1));
    builder.push_record(&version.to_be_bytes(), Some(&vec![version as u8; value_bytes]), None);
    let payload = builder.finish();
    // Between the entry's header and its session section, which is empty.
    payload[24..payload.len() - 8].to_vec()
}

struct MemorySource {
    last: (Term, LogIndex),
    header: Bytes,
    records: Vec<Bytes>,
    /// Bytes that were read.
    read: Mutex<usize>,
    fails_at: Option<u64>,
}

impl MemorySource {
    fn new(index: u64, header_bytes: usize, value_bytes: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let records = (1..).zip(value_bytes).map(|(version, bytes)| stored_record(version, bytes).into()).collect();
        let header = (0..header_bytes).map(|at| at as u8).collect();
        let last = (Term(4), LogIndex(index));
        Arc::new(Self { last, header, records, read: Mutex::default(), fails_at: None })
    }
}

impl SnapshotSource for MemorySource {
    fn last(&self) -> (Term, LogIndex) {
        self.last
    }

    fn header_bytes(&self) -> u32 {
        self.header.len() as u32
    }

    fn read_header(&self, at: u32, bytes_max: u32) -> Bytes {
        self.header.slice(at as usize..self.header.len().min((at + bytes_max) as usize))
    }

    fn records(&self) -> u64 {
        self.records.len() as u64
    }

    fn read(&self, at: u64, count_max: u32, bytes_max: u32) -> Result<Run, SnapshotError> {
        if self.fails_at.is_some_and(|fails_at| at >= fails_at) {
            return Err(SnapshotError::Count);
        }
        let mut run = Vec::new();
        let mut count = 0;
        for record in self.records[at as usize..].iter().take(count_max as usize) {
            if count > 0 && run.len() + record.len() > bytes_max as usize {
                break;
            }
            run.extend_from_slice(record);
            count += 1;
        }
        *self.read.lock() += run.len();
        Ok(Run { bytes: run.into(), count })
    }
}

/// What sinks were given.
#[derive(Default)]
struct Taken {
    opened: Vec<SnapshotId>,
    headers: Vec<Bytes>,
    records: Vec<Bytes>,
    finished: u32,
    /// How often `finish` is to say that it is not done.
    pending: u32,
}

#[derive(Clone, Default)]
struct MemorySinks(Arc<Mutex<Taken>>);

impl SnapshotSinks for MemorySinks {
    fn open(&self, shard: ShardId, id: SnapshotId) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        assert_eq!(shard, SHARD);
        let mut taken = self.0.lock();
        taken.opened.push(id);
        taken.headers.clear();
        taken.records.clear();
        Ok(Box::new(self.clone()))
    }
}

impl SnapshotSink for MemorySinks {
    fn header(&mut self, whole: Bytes) -> Result<(), SnapshotError> {
        self.0.lock().headers.push(whole);
        Ok(())
    }

    fn records(&mut self, bytes: Bytes, count: u32) -> Result<(), SnapshotError> {
        let records: Vec<_> = StoredRecords::new(&bytes, count).collect::<Result<_, _>>()?;
        self.0.lock().records.extend(records.into_iter().map(|(_, stored)| Bytes::copy_from_slice(stored)));
        Ok(())
    }

    fn finish(&mut self) -> Result<Finish, SnapshotError> {
        let mut taken = self.0.lock();
        if taken.pending > 0 {
            taken.pending -= 1;
            return Ok(Finish::Pending);
        }
        taken.finished += 1;
        Ok(Finish::Done)
    }
}

impl MemorySinks {
    fn assert_holds(&self, source: &MemorySource) {
        let taken = self.0.lock();
        assert_eq!(taken.headers, std::slice::from_ref(&source.header));
        assert!(taken.records == source.records, "{} of {} records", taken.records.len(), source.records.len());
    }
}

/// SplitMix64: a few numbers from a seed that proptest prints.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// A budget that holds nothing back.
fn ample() -> Arc<PullBudget> {
    Arc::new(PullBudget::new(1 << 40))
}

struct Follower {
    intake: Intake,
    sinks: MemorySinks,
    applied: LogIndex,
    installed: Vec<SnapshotId>,
}

impl Follower {
    fn new(replica: ReplicaId) -> Self {
        let sinks = MemorySinks::default();
        let intake = Intake::new(SHARD, replica, Arc::new(sinks.clone()), ample());
        Self { intake, sinks, applied: LogIndex(0), installed: Vec::new() }
    }
}

/// A leader's node, followers, and what travels between them.
struct World {
    now_ms: u64,
    dice: Dice,
    offers: SnapshotOffers,
    followers: BTreeMap<ReplicaId, Follower>,
    /// By arrival, then number.
    travelling: BTreeMap<(u64, u64), SnapshotMessage>,
    sent: u64,
    lost_permille: u64,
    doubled_permille: u64,
    delay_max_ms: u64,
    cut: bool,
    ended: Vec<EndedOffer>,
    chunk_bytes: u64,
    pulls: u64,
}

impl World {
    fn new(seed: u64, bytes_per_second: u64) -> Self {
        Self {
            now_ms: 1_000,
            dice: Dice(seed),
            offers: SnapshotOffers::new(1, bytes_per_second),
            followers: BTreeMap::from([(FOLLOWER, Follower::new(FOLLOWER))]),
            travelling: BTreeMap::new(),
            sent: 0,
            lost_permille: 0,
            doubled_permille: 0,
            delay_max_ms: 0,
            cut: false,
            ended: Vec::new(),
            chunk_bytes: 0,
            pulls: 0,
        }
    }

    fn now(&self) -> Nanos {
        Nanos(0).after_ms(self.now_ms)
    }

    fn follower(&mut self) -> &mut Follower {
        self.followers.get_mut(&FOLLOWER).unwrap()
    }

    fn offer(&mut self, source: &Arc<MemorySource>) -> SnapshotId {
        self.offers.offer(self.now(), SHARD, LEADER, FOLLOWER, Arc::clone(source) as _).unwrap()
    }

    fn send(&mut self, message: SnapshotMessage) {
        match &message.body {
            SnapshotBody::Chunk { bytes, .. } => self.chunk_bytes += bytes.len() as u64,
            SnapshotBody::Pull { .. } => self.pulls += 1,
            _ => {}
        }
        let copies = if self.dice.below(1000) < self.doubled_permille { 2 } else { 1 };
        for _ in 0..copies {
            if self.cut || self.dice.below(1000) < self.lost_permille {
                continue;
            }
            self.sent += 1;
            let at = self.now_ms + self.dice.below(self.delay_max_ms + 1);
            self.travelling.insert((at, self.sent), message.clone());
        }
    }

    /// Lets both ends work until they have nothing more to do.
    fn poll(&mut self) {
        let now = self.now();
        let mut messages = Vec::new();
        loop {
            let effects = self.offers.poll(now);
            if effects.is_empty() {
                break;
            }
            messages.extend(effects.messages.into_iter().map(|(_, message)| message));
            self.ended.extend(effects.ended);
            effects.reads.into_iter().for_each(|read| self.offers.handle_read(read.run()));
        }
        for (replica, follower) in &mut self.followers {
            let effects = follower.intake.poll();
            messages.extend(effects.messages);
            if let Some(id) = effects.installed {
                // The replica is opened anew.
                follower.installed.push(id);
                follower.applied = id.index;
                follower.intake = Intake::new(SHARD, *replica, Arc::new(follower.sinks.clone()), ample());
            }
        }
        messages.into_iter().for_each(|message| self.send(message));
    }

    fn deliver(&mut self, message: SnapshotMessage) {
        let now = self.now();
        match self.followers.get_mut(&message.to) {
            Some(follower) => {
                let applied = follower.applied;
                follower.intake.handle_message(now, message, &|id| id.index <= applied).unwrap();
            }
            None => self.offers.handle_message(now, SHARD, message),
        }
    }

    /// A millisecond.
    fn step(&mut self) {
        self.poll();
        while let Some(entry) = self.travelling.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            let message = entry.remove();
            if !self.cut {
                self.deliver(message);
                self.poll();
            }
        }
        self.now_ms += 1;
        if self.now_ms.is_multiple_of(TICK_MS) {
            let now = self.now();
            self.offers.handle_tick(now);
            for follower in self.followers.values_mut() {
                let applied = follower.applied;
                follower.intake.handle_tick(now, &|id| id.index <= applied).unwrap();
            }
        }
    }

    fn run_until(&mut self, what: &str, ms_max: u64, done: impl Fn(&Self) -> bool) {
        let until = self.now_ms + ms_max;
        while !done(self) {
            assert!(self.now_ms < until, "{what}: not within {ms_max} ms");
            self.step();
        }
    }

    fn run_to_the_end(&mut self, ms_max: u64) {
        self.run_until("every offer is over", ms_max, |world| {
            world.ended.len() == world.followers.len() && world.offers_are_over()
        });
    }

    fn offers_are_over(&self) -> bool {
        self.followers.keys().all(|replica| self.ended.iter().any(|ended| ended.to == *replica))
    }
}

#[test]
fn a_snapshot_passes_in_a_moment_where_nothing_is_lost() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    let source = MemorySource::new(100, 700_000, (0..5_000).map(|number| number % 300));
    let id = world.offer(&source);
    world.run_to_the_end(200);
    world.follower().sinks.assert_holds(&source);
    assert_eq!(world.follower().installed, [id]);
    let ended = EndedOffer { shard: SHARD, to: FOLLOWER, installed: true, reason: String::new() };
    assert_eq!(world.ended, [ended]);
    assert_eq!(world.chunk_bytes, 700_000 + *source.read.lock() as u64, "nothing was sent twice");
    assert_eq!(world.offers.sent_bytes(), world.chunk_bytes);
}

#[test]
fn nothing_at_all_is_a_snapshot_too() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    let source = MemorySource::new(100, 0, []);
    world.offer(&source);
    world.run_to_the_end(200);
    world.follower().sinks.assert_holds(&source);
}

#[test]
fn a_lost_connection_resumes_where_it_was() {
    let mut world = World::new(1, 4 * 1024 * 1024);
    let source = MemorySource::new(100, 100, vec![1000; 10_000]);
    world.offer(&source);
    let sinks = world.follower().sinks.clone();
    for part in 1..=3 {
        let so_far = sinks.clone();
        world.run_until("a part is there", 10_000, |_| so_far.0.lock().records.len() > part * 2_500);
        world.cut = true;
        (0..9_000).for_each(|_| world.step());
        world.cut = false;
    }
    world.run_to_the_end(60_000);
    sinks.assert_holds(&source);
    assert_eq!(sinks.0.lock().opened.len(), 1, "it was not started over");
    let whole: usize = source.records.iter().map(Bytes::len).sum();
    let read = *source.read.lock();
    assert!(read < whole + whole / 2, "{read} bytes were read for {whole}");
}

#[test]
fn two_pass_side_by_side_and_a_third_has_to_wait() {
    let mut world = World::new(1, 1024 * 1024);
    let sources: Vec<_> = (0..=OFFERS_MAX).map(|_| MemorySource::new(100, 1_000, vec![1_000; 2_000])).collect();
    let replicas: Vec<_> = (0..=OFFERS_MAX as u64).map(|number| ReplicaId(FOLLOWER.0 + number)).collect();
    world.followers = replicas[..OFFERS_MAX].iter().map(|replica| (*replica, Follower::new(*replica))).collect();
    let now = world.now();
    for (number, replica) in replicas.iter().enumerate() {
        let room = number < OFFERS_MAX;
        assert_eq!(world.offers.has_room(SHARD, *replica), room);
        let offered = world.offers.offer(now, SHARD, LEADER, *replica, Arc::clone(&sources[number]) as _);
        assert_eq!(offered.is_ok(), room, "{offered:?}");
    }
    assert!(world.offers.has_room(SHARD, replicas[0]), "in place of its own");
    let records_of = |world: &World| -> Vec<usize> {
        world.followers.values().map(|follower| follower.sinks.0.lock().records.len()).collect()
    };
    world.run_until("half of it", 10_000, |world| records_of(world).iter().sum::<usize>() > 2_000);
    let so_far = records_of(&world);
    assert!(so_far.iter().all(|records| *records >= 500), "they share the rate: {so_far:?}");
    world.run_to_the_end(10_000);
    for (follower, source) in world.followers.values().zip(&sources) {
        follower.sinks.assert_holds(source);
    }
    assert!(world.offers.has_room(SHARD, replicas[OFFERS_MAX]));
}

#[test]
fn offers_that_nobody_pulls_hold_no_other_up() {
    let mut world = World::new(1, 1024 * 1024);
    let replicas: Vec<_> = (0..=OFFERS_HELD_MAX as u64).map(|number| ReplicaId(FOLLOWER.0 + number)).collect();
    let offer = |world: &mut World, at: Nanos, number: usize| {
        let source = MemorySource::new(100, 1_000, vec![1_000; 20]);
        world.offers.offer(at, SHARD, LEADER, replicas[number], source as _).is_ok()
    };
    let now = world.now();
    assert_eq!([0, 1, 2].map(|number| offer(&mut world, now, number)), [true, true, false]);
    world.offers.handle_tick(now.after_ms(OFFER_IDLE_MS - 1));
    assert!(!world.offers.has_room(SHARD, replicas[2]));
    let mut at = now;
    for number in 2..OFFERS_HELD_MAX {
        at = at.after_ms(OFFER_IDLE_MS);
        world.offers.handle_tick(at);
        assert!(offer(&mut world, at, number), "the {number} before it are idle");
    }
    world.offers.handle_tick(at.after_ms(OFFER_IDLE_MS));
    assert!(!offer(&mut world, at, OFFERS_HELD_MAX), "each keeps its state");
}

#[test]
fn the_rate_is_kept_and_used() {
    const RATE: u64 = 2 * 1024 * 1024;
    let mut world = World::new(1, RATE);
    world.delay_max_ms = 3;
    let source = MemorySource::new(100, 10, vec![3_000; 8_000]);
    world.offer(&source);
    let begun = world.now_ms;
    world.run_until("enough was sent", 60_000, |world| world.chunk_bytes > 20 * 1024 * 1024);
    let taken_ms = world.now_ms - begun;
    let allowed = RATE * (taken_ms + BURST_MS) / 1_000 + 256 * 1024;
    assert!(world.chunk_bytes <= allowed, "{} bytes in {taken_ms} ms", world.chunk_bytes);
    assert!(world.chunk_bytes >= allowed * 9 / 10, "{} bytes in {taken_ms} ms", world.chunk_bytes);
}

#[test]
fn an_offer_is_repeated_and_then_forgotten() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    world.cut = true;
    world.offer(&MemorySource::new(100, 10, [1]));
    let begun = world.now_ms;
    let mut offers = 0;
    while world.ended.is_empty() {
        let now = world.now();
        world.offers.handle_tick(now);
        let effects = world.offers.poll(now);
        let is_offer = |message: &SnapshotMessage| matches!(message.body, SnapshotBody::Offer { .. });
        offers += effects.messages.iter().filter(|(_, message)| is_offer(message)).count() as u64;
        world.ended.extend(effects.ended);
        world.now_ms += TICK_MS;
    }
    assert_eq!(world.now_ms - TICK_MS - begun, OFFER_FORGET_MS);
    assert_eq!(offers, OFFER_FORGET_MS / OFFER_REPEAT_MS);
    assert!(!world.ended[0].installed && world.offers.has_room(SHARD, FOLLOWER));
}

#[test]
fn a_follower_whose_leader_is_gone_gives_up_and_takes_the_next_offer() {
    let mut world = World::new(1, 1024 * 1024);
    world.offer(&MemorySource::new(100, 10, vec![1_000; 5_000]));
    world.run_until("it has begun", 5_000, |world| world.chunk_bytes > 1_000_000);
    // Its process ends, and it knows nothing of what it offered.
    world.offers = SnapshotOffers::new(1_000, BYTES_PER_SECOND_DEFAULT);
    world.cut = true;
    (0..GIVE_UP_MS + 2 * TICK_MS).for_each(|_| world.step());
    assert_eq!(world.follower().intake.under_way(), None);
    world.cut = false;
    let source = MemorySource::new(90, 10, vec![10; 5]);
    world.offer(&source);
    world.run_to_the_end(1_000);
    world.follower().sinks.assert_holds(&source);
}

#[test]
fn a_leader_that_has_forgotten_says_so_at_once() {
    let mut world = World::new(1, 1024 * 1024);
    world.offer(&MemorySource::new(100, 10, vec![1_000; 5_000]));
    world.run_until("it has begun", 5_000, |world| world.chunk_bytes > 1_000_000);
    world.offers.withdraw(SHARD);
    world
        .run_until("the follower has heard it", 3_000, |world| world.followers[&FOLLOWER].intake.under_way().is_none());
    assert!(world.offers.has_room(SHARD, FOLLOWER) && world.ended.is_empty());
}

#[test]
fn a_newer_snapshot_takes_the_place_of_an_older_one_and_not_the_other_way_round() {
    let mut world = World::new(1, 1024 * 1024);
    world.offer(&MemorySource::new(100, 10, vec![1_000; 5_000]));
    world.run_until("it has begun", 5_000, |world| world.chunk_bytes > 1_000_000);
    let newer = MemorySource::new(110, 20, vec![500; 1_000]);
    let id = world.offer(&newer);
    world.step();
    let of_old = SnapshotId { index: LogIndex(100), nonce: id.nonce + 1, ..id };
    let body = SnapshotBody::Offer { header_bytes: 1, records: 1 };
    world.deliver(SnapshotMessage { from: ReplicaId(9), to: FOLLOWER, id: of_old, body });
    assert_eq!(world.follower().intake.under_way(), Some(id));
    world.run_to_the_end(10_000);
    world.follower().sinks.assert_holds(&newer);
    assert!(world.ended.iter().all(|ended| ended.installed), "of the older one nothing is told");
}

#[test]
fn a_replica_that_is_there_already_says_so() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    world.follower().applied = LogIndex(100);
    world.offer(&MemorySource::new(100, 10, vec![10; 10]));
    world.run_to_the_end(200);
    assert!(world.ended[0].installed);
    assert_eq!(world.pulls, 0);
    assert_eq!(world.follower().sinks.0.lock().opened.len(), 0);
}

#[test]
fn a_replica_that_gets_there_by_its_log_keeps_its_log_however_much_of_the_snapshot_has_come() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    world.follower().sinks.0.lock().pending = 50;
    world.offer(&MemorySource::new(100, 10, vec![10; 10]));
    world.run_until("all of it has come", 5_000, |world| world.followers[&FOLLOWER].sinks.0.lock().pending < 50);
    // Entries of another leader: the one that the snapshot ends with, and others that were acknowledged.
    world.follower().applied = LogIndex(100);
    world.run_to_the_end(5_000);
    assert!(world.ended[0].installed, "the leader goes on with entries");
    assert_eq!((world.follower().installed.len(), world.follower().sinks.0.lock().finished), (0, 0));
}

#[test]
fn a_long_finish_is_no_silence() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    let source = MemorySource::new(100, 10, vec![10; 10]);
    // About three minutes of ticks, and as many repeated offers and the like.
    world.follower().sinks.0.lock().pending = 4_000;
    world.offer(&source);
    world.run_until("it is finished", 300_000, |world| !world.followers[&FOLLOWER].installed.is_empty());
    world.run_to_the_end(1_000);
    assert!(world.now_ms > OFFER_FORGET_MS && world.ended[0].installed, "{:?}", world.ended);
    assert_eq!(world.follower().sinks.0.lock().opened.len(), 1);
}

#[test]
fn a_follower_takes_in_no_more_than_its_node_may_and_waits_without_giving_up() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    // Two MiB at 25 kB per second: over a minute, the budget being shared with another replica that takes half.
    let budget = Arc::new(PullBudget::new(50_000));
    let follower = world.follower();
    follower.intake = Intake::new(SHARD, FOLLOWER, Arc::new(follower.sinks.clone()), Arc::clone(&budget));
    let source = MemorySource::new(100, 10, vec![1_000; 2_000]);
    world.offer(&source);
    let begun = world.now_ms;
    let others = std::cell::Cell::new(0);
    world.run_until("it is finished", 300_000, |world| {
        let is_its_turn = others.get() <= 25 * (world.now_ms - begun);
        if is_its_turn && budget.take(Nanos(0).after_ms(world.now_ms), 10_000) {
            others.set(others.get() + 10_000);
        }
        !world.followers[&FOLLOWER].installed.is_empty()
    });
    world.follower().sinks.assert_holds(&source);
    let took_ms = world.now_ms - begun;
    let taken = 2_000_000 + others.get();
    assert!(taken <= 50 * took_ms + 50_000 * BURST_MS / 1_000 + 300_000, "{taken} bytes in {took_ms} ms");
    assert!(took_ms > GIVE_UP_MS, "{took_ms} ms");
}

#[test]
fn what_can_t_be_read_or_taken_ends_on_both_sides() {
    let mut world = World::new(1, BYTES_PER_SECOND_DEFAULT);
    let unreadable =
        MemorySource { fails_at: Some(300), ..Arc::into_inner(MemorySource::new(100, 10, [9; 999])).unwrap() };
    world.offer(&Arc::new(unreadable));
    world.run_to_the_end(1_000);
    (0..10).for_each(|_| world.step());
    assert!(!world.ended[0].installed && world.follower().intake.under_way().is_none());

    world.ended.clear();
    let mut damaged = Arc::into_inner(MemorySource::new(101, 10, [9; 999])).unwrap();
    damaged.records[500] = vec![7; 48].into();
    world.offer(&Arc::new(damaged));
    world.run_to_the_end(1_000);
    assert!(!world.ended[0].installed && world.ended[0].reason.contains("record"), "{:?}", world.ended);
    assert_eq!(world.follower().sinks.0.lock().finished, 0);
}

#[test]
fn a_chunk_without_room_is_sent_after_the_next_tick() {
    let mut offers = SnapshotOffers::new(1, BYTES_PER_SECOND_DEFAULT);
    let source = MemorySource::new(100, 10, [9; 999]);
    let id = offers.offer(Nanos(0), SHARD, LEADER, FOLLOWER, source).unwrap();
    let pull = |at| {
        let body = SnapshotBody::Pull { part: SnapshotPart::Records, at, count_max: 10, bytes_max: 100_000 };
        SnapshotMessage { from: FOLLOWER, to: LEADER, id, body }
    };
    offers.handle_message(Nanos(0), SHARD, pull(5));
    offers.handle_message(Nanos(0), SHARD, pull(5));
    let read = offers.poll(Nanos(0)).reads.pop().expect("the pull is answered");
    offers.handle_message(Nanos(0), SHARD, pull(5));
    offers.handle_read(read.run());
    let chunk = offers.poll(Nanos(0)).messages.pop().expect("the chunk").1;
    offers.handle_no_room(SHARD, &chunk);
    assert!(offers.poll(Nanos(0)).is_empty(), "not before the tick, and once");
    offers.handle_tick(Nanos(0));
    let read = offers.poll(Nanos(0)).reads.pop().expect("again");
    offers.handle_read(read.run());
    assert_eq!(offers.poll(Nanos(0)).messages, [(SHARD, chunk)]);
}

/// Sizes of values: mostly small, some large, a few over a usual chunk.
fn value_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 0usize..200, 5 => 0usize..30_000, 1 => 200_000usize..600_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_arrives_once_and_in_order_whatever_the_network_does(
        seed in any::<u64>(),
        header_bytes in prop_oneof![Just(0usize), 1usize..1_000, 200_000usize..900_000],
        values in proptest::collection::vec(value_bytes(), 0..400),
        (lost_permille, doubled_permille) in (0u64..200, 0u64..300),
        delay_max_ms in 0u64..1_500,
        bytes_per_second in prop_oneof![Just(BYTES_PER_SECOND_DEFAULT), 300_000u64..3_000_000],
        cuts in proptest::collection::vec((0u64..20_000, 0u64..25_000), 0..3),
    ) {
        let mut world = World::new(seed, bytes_per_second);
        (world.lost_permille, world.doubled_permille) = (lost_permille, doubled_permille);
        world.delay_max_ms = delay_max_ms;
        let mut source = MemorySource::new(100, header_bytes, values.iter().copied());
        world.offer(&source);
        let mut cuts = cuts.into_iter();
        let mut cut = cuts.next();
        let mut offered = 1;
        let mut since_ms = world.now_ms;
        while world.follower().installed.is_empty() {
            world.step();
            if let Some((at, lasts)) = cut {
                let passed = world.now_ms - since_ms;
                world.cut = passed >= at && passed < at + lasts;
                if passed >= at + lasts {
                    (cut, since_ms) = (cuts.next(), world.now_ms);
                }
            }
            if world.ended.iter().any(|ended| !ended.installed) {
                // Given up by one of them: the leader's consensus asks for another one.
                world.ended.clear();
                offered += 1;
                prop_assert!(offered < 20, "it must come to an end");
                source = MemorySource::new(100 + offered, header_bytes, values.iter().copied());
                world.offer(&source);
            }
        }
        world.cut = false;
        world.follower().sinks.assert_holds(&source);
        prop_assert_eq!(world.follower().sinks.0.lock().finished, 1);
        // Its word may have been lost.
        world.run_until("the leader knows", 120_000, |world| world.ended.iter().any(|ended| ended.to == FOLLOWER));
        prop_assert!(world.ended.iter().all(|ended| ended.installed));
    }

    #[test]
    fn hostile_messages_neither_panic_nor_corrupt(
        seed in any::<u64>(),
        values in proptest::collection::vec(0usize..3_000, 1..300),
        hostility in 1u64..30,
    ) {
        let mut world = World::new(seed, 500_000);
        let source = MemorySource::new(100, 3_000, values.iter().copied());
        let id = world.offer(&source);
        let mut dice = Dice(!seed);
        for _ in 0..20_000 {
            world.step();
            if dice.below(hostility) == 0 {
                let message = hostile(&mut dice, id);
                world.deliver(message);
            }
            if !world.ended.is_empty() {
                break;
            }
        }
        let follower = world.follower();
        if follower.installed.contains(&id) {
            follower.sinks.assert_holds(&source);
        }
    }
}

/// Anything, often close to what is going on.
fn hostile(dice: &mut Dice, genuine: SnapshotId) -> SnapshotMessage {
    let number = |dice: &mut Dice| match dice.below(4) {
        0 => dice.below(10),
        1 => dice.below(400),
        2 => dice.below(1 << 20),
        _ => u64::MAX - dice.below(3),
    };
    let part = [SnapshotPart::Header, SnapshotPart::Records][dice.below(2) as usize];
    let record = |dice: &mut Dice| stored_record(1 + dice.below(400), dice.below(3_000) as usize);
    // Chunks under the genuine name are such as a sink sees through: no records, or not so many. A sound record in the
    // place of another one would be the leader's word, which a follower can't doubt.
    let (bytes, lies_about): (Bytes, Option<u32>) = match dice.below(4) {
        0 => (vec![1; 8 * dice.below(500) as usize].into(), Some(1 + dice.below(300) as u32)),
        1 => (vec![0; 8 * dice.below(500) as usize].into(), Some(1 + dice.below(300) as u32)),
        2 => ([record(dice), record(dice)].concat().into(), Some(1 + 2 * dice.below(2) as u32)),
        _ => (record(dice).into(), None),
    };
    let body = match (dice.below(8), lies_about) {
        (0, _) => SnapshotBody::Offer { header_bytes: number(dice) as u32 % (1 << 20), records: number(dice) },
        (1..=3, _) => {
            let (count_max, bytes_max) = (number(dice) as u32, number(dice) as u32);
            SnapshotBody::Pull { part, at: number(dice), count_max, bytes_max }
        }
        (4, Some(count)) => SnapshotBody::Chunk { part: SnapshotPart::Records, at: number(dice), count, bytes },
        _ => SnapshotBody::Chunk { part, at: number(dice), count: number(dice) as u32, bytes },
    };
    let is_a_lie =
        matches!(&body, SnapshotBody::Chunk { part: SnapshotPart::Records, count, .. } if Some(*count) == lies_about);
    let may_be_genuine = is_a_lie || !matches!(body, SnapshotBody::Chunk { .. });
    let id = if may_be_genuine && dice.below(2) == 0 {
        genuine
    } else {
        let index = LogIndex(genuine.index.0 - dice.below(2));
        SnapshotId { nonce: genuine.nonce + 1 + dice.below(2), index, ..genuine }
    };
    let (from, to) = if dice.below(3) == 0 { (FOLLOWER, LEADER) } else { (LEADER, FOLLOWER) };
    SnapshotMessage { from, to, id, body }
}
