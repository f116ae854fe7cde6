//! What the clients of a plan do, and when: half of it spread over the whole time, half of it close to faults.

use super::draw::{JOURNAL_FILE_BYTES_MIN, pick};
use super::theme::Theme;
use super::{Act, Fault, FaultKind, Options, Step};
use kvorum_protocol::hash::shard_of;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

/// Fewest and most clients.
const CLIENTS: std::ops::RangeInclusive<usize> = 4..=16;
/// Clients where all write one key: few, so that each sends much on its connection.
const CLIENTS_OF_ONE_KEY: usize = 4;
/// Share of plain PUTs that ask whether the key existed.
const ASKING_SHARE: f64 = 0.25;
/// Most keys of one BATCH or MULTI-GET.
const RUN_KEYS_MAX: u32 = 8;
/// A step that is close to a fault is at most so long before it, in milliseconds.
const BEFORE_FAULT_MS: u64 = 300;
/// … or after it: as long as a lease or an election lasts, and then some.
const AFTER_FAULT_MS: u64 = 2_000;

/// A write that was accepted is awaited for so long at most, in milliseconds: over an election and what comes of it.
const AWAIT_MS_MAX: u32 = 4_000;

/// How many of the plans have duels over a counter ([`duel_steps`]).
const DUELS_SHARE: f64 = 0.15;
/// Most of them in one plan.
const DUELS_MAX: u32 = 3;
/// The counters of duels are not those of others.
const FIRST_DUEL_KEY: u32 = 1_000;
/// How long after the write that fills the counter the one that is refused begins, in milliseconds.
const DUEL_LAG_MS: u32 = 150;
/// How long after it the counter is looked at.
const DUEL_MS: u32 = 4_000;

/// A leader that is held up for so long is looked at ([`looking_steps`]), in milliseconds.
const LOOKED_AT_MS_MIN: u64 = 2_000;
/// Most that are, in one plan.
const LOOKED_AT_MAX: usize = 3;
/// Clients that look at one.
const LOOKERS: usize = 3;
/// The keys that they look at are not those of others: the first of so many that lies in the shard.
const LOOKED_AT_KEYS: std::ops::Range<u32> = 2_000..3_000;

/// Another leader is elected while a node is cut off for so long, in milliseconds.
const CUT_MS_MIN: u64 = 1_500;
/// Clients write so soon after it was cut off, in milliseconds: before it knows.
const CUT_LAG_MS: u64 = 400;
/// They have looked for the leader not longer ago than this, in milliseconds.
const BEFORE_CUT_MS: u64 = 1_000;
/// Most nodes that are looked at so, in one plan.
const CUT_MAX: usize = 3;
/// Clients that write to the shards that one may lead.
const LOSERS: u32 = 6;
/// Their keys are not those of others, and each is written once: if the write is lost, nothing hides that.
const FIRST_LOST_KEY: u32 = 4_000;

/// A time that is further away than any time to live may be, in milliseconds: two hundred years.
const FAR_AWAY_MS: i64 = 200 * 365 * 24 * 3_600 * 1_000;

/// Kinds of acts, as the swarm switches them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Put,
    CompareAndSet,
    PutIfAbsent,
    PutIfAbsentOrSeen,
    Delete,
    Incr,
    Refusals,
    Append,
    Expiry,
    Pairs,
    Runs,
}

const KINDS: [Kind; 11] = [
    Kind::Put,
    Kind::CompareAndSet,
    Kind::PutIfAbsent,
    Kind::PutIfAbsentOrSeen,
    Kind::Delete,
    Kind::Incr,
    Kind::Refusals,
    Kind::Append,
    Kind::Expiry,
    Kind::Pairs,
    Kind::Runs,
];

/// The steps of each client, `operations` in all.
pub(super) fn draw(
    options: &Options,
    theme: Theme,
    faults: &[Fault],
    operations: usize,
    random: &mut ChaCha8Rng,
) -> Vec<Vec<Step>> {
    let taste = match theme {
        Theme::SlowSnapshots => Taste::large_writes(),
        Theme::Overtaken => Taste::small_writes(),
        Theme::PassedOn => Taste::one_key(),
        Theme::Swarm | Theme::TakenBack | Theme::HeldFollowers | Theme::ColdDamage | Theme::OldMaps | Theme::Lost => {
            Taste::draw(options, random)
        }
    };
    let count = match theme {
        Theme::PassedOn => CLIENTS_OF_ONE_KEY,
        _ => random.random_range(CLIENTS),
    };
    let count = count.min(operations);
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); count];
    for operation in 0..operations {
        let time = moment(options, faults, random);
        // Each client does something, however few operations there are.
        let client = if operation < count { operation } else { random.random_range(0..count) };
        times[client].push(time);
    }
    let script = |mut times: Vec<u64>| {
        times.sort_unstable();
        let mut before = 0;
        let step = |at: u64| {
            let after_ms = u32::try_from(at - before).expect("a plan is minutes long");
            before = at;
            Step { after_ms, act: taste.act(random) }
        };
        times.into_iter().map(step).collect()
    };
    let mut clients: Vec<Vec<Step>> = times.into_iter().map(script).collect();
    if random.random_bool(DUELS_SHARE) {
        for duel in 0..random.random_range(1..=DUELS_MAX) {
            clients.extend(duel_steps(FIRST_DUEL_KEY + duel, options, random));
        }
    }
    let held = faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::HoldTurn { shard, ms, .. } if ms >= LOOKED_AT_MS_MIN => Some((fault.at_ms, shard, ms)),
        _ => None,
    });
    for (at_ms, shard, ms) in held.take(LOOKED_AT_MAX) {
        clients.extend(looking_steps(at_ms, shard, ms, options, random));
    }
    let cut = faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::CutFromPeers { ms, .. } if ms >= CUT_MS_MIN => Some(fault.at_ms),
        _ => None,
    });
    for (at_ms, number) in cut.take(CUT_MAX).zip(0..) {
        let keys = FIRST_LOST_KEY + number * LOSERS..;
        clients.extend(keys.take(LOSERS as usize).map(|key| losing_steps(at_ms, key, options, random)));
    }
    clients
}

/// The steps of a client that writes when a node has just been cut off, and is content if the leader accepts it. If it was that
/// node, the next leader knows nothing of the write. It awaits what became of it.
fn losing_steps(at_ms: u64, key: u32, options: &Options, random: &mut ChaCha8Rng) -> Vec<Step> {
    // It has learned before who leads: nobody else reaches that node any more.
    let looks_ms = at_ms.saturating_sub(random.random_range(100..BEFORE_CUT_MS)).min(options.safety_ms - 1);
    let writes_ms = (at_ms + random.random_range(1..CUT_LAG_MS)).min(options.safety_ms - 1);
    let put = Act::Put { key, bytes: 16, ttl_ms: None, accepted: true, await_ms: AWAIT_MS_MAX };
    let step = |ms: u64, act| Step { after_ms: u32::try_from(ms).expect("a plan is minutes long"), act };
    vec![step(looks_ms, Act::Get(key)), step(writes_ms - looks_ms, put)]
}

/// The steps of a client each: one writes to a shard whose leader is held up, as soon as there may be another one. Others have
/// read from the first leader, and ask it again when the write is done. It must not answer as of the time when it led.
fn looking_steps(at_ms: u64, shard: u16, ms: u64, options: &Options, random: &mut ChaCha8Rng) -> Vec<Vec<Step>> {
    let name = |key: &u32| format!("k{key}");
    let Some(key) = LOOKED_AT_KEYS.into_iter().find(|key| shard_of(name(key).as_bytes(), options.shards).0 == shard)
    else {
        return Vec::new();
    };
    let last_ms = options.safety_ms - 1;
    let at = |times: &mut dyn Iterator<Item = u64>, act: Act| {
        let mut before = 0;
        let step = |time: u64| {
            let time = time.min(last_ms);
            let after_ms = u32::try_from(time - before).expect("a plan is minutes long");
            before = time;
            Step { after_ms, act }
        };
        times.map(step).collect::<Vec<Step>>()
    };
    // Another leader needs an election timeout at least.
    let writes = (at_ms + LOOKED_AT_MS_MIN / 2..at_ms + ms).step_by(200);
    let put = Act::Put { key, bytes: 16, ttl_ms: None, accepted: false, await_ms: 0 };
    let mut clients = vec![at(&mut { writes }, put)];
    for _ in 0..LOOKERS {
        // Within a second a client asks somebody else.
        let again = at_ms + ms - random.random_range(20..900);
        clients.push(at(&mut [at_ms.saturating_sub(30), again].into_iter(), Act::Get(key)));
    }
    clients
}

/// The steps of a client each: a write is refused for good when it is sent again, since another one fills its counter; then the
/// counter is emptied, and the first copy of the refused write comes. It must have no effect.
fn duel_steps(key: u32, options: &Options, random: &mut ChaCha8Rng) -> [Vec<Step>; 4] {
    let begins_ms = random.random_range(0..options.safety_ms as u32 - DUEL_MS);
    // It is sent again after a second.
    let late_ms = random.random_range(1_050..2_500);
    let emptied_ms = random.random_range(1_010..=late_ms);
    let far = |after_ms: u32, down, late_ms| {
        vec![Step { after_ms: begins_ms + after_ms, act: Act::IncrFar { key, down, late_ms } }]
    };
    let look = vec![Step { after_ms: begins_ms + DUEL_MS, act: Act::Incr(key) }];
    [far(0, false, 0), far(DUEL_LAG_MS, false, late_ms), far(DUEL_LAG_MS + emptied_ms, true, 0), look]
}

/// When a client does something. Most bugs show in what happens right around a fault.
pub(super) fn moment(options: &Options, faults: &[Fault], random: &mut ChaCha8Rng) -> u64 {
    let last_ms = options.safety_ms - 1;
    match faults.choose(random) {
        Some(fault) if random.random_bool(0.5) => {
            let from = fault.at_ms.saturating_sub(BEFORE_FAULT_MS);
            random.random_range(from..=fault.at_ms + AFTER_FAULT_MS).min(last_ms)
        }
        _ => random.random_range(0..=last_ms),
    }
}

/// How far a time of the clock is ahead that a key is to expire at, in milliseconds: mostly as far as a time to live; now and then it is
/// over, or further away than any time to live may be.
pub(super) fn at_a_time(ttl_ms: u64, random: &mut ChaCha8Rng) -> i64 {
    let ahead_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
    match random.random_range(0..20) {
        0..3 => -ahead_ms,
        3 => FAR_AWAY_MS,
        _ => ahead_ms,
    }
}

/// What the clients of one plan like to do.
struct Taste {
    kinds: Vec<Kind>,
    reads_percent: u32,
    /// Plain keys.
    keys: u32,
    /// Counters, lists and pairs: few, so that they meet.
    objects: u32,
    bytes_max: u32,
    ttl_ms_max: u64,
    accepted_percent: u32,
}

impl Taste {
    /// A state that is large, and entries that take as much soon.
    fn large_writes() -> Self {
        Self {
            kinds: vec![Kind::Put],
            reads_percent: 10,
            keys: 100,
            objects: 1,
            bytes_max: 2_500,
            ttl_ms_max: 1,
            accepted_percent: 0,
        }
    }

    /// Few bytes of entries within some seconds: less than a log keeps.
    fn small_writes() -> Self {
        Self {
            kinds: vec![Kind::Put],
            reads_percent: 60,
            keys: 30,
            objects: 1,
            bytes_max: 60,
            ttl_ms_max: 1,
            accepted_percent: 0,
        }
    }

    /// Whatever changes places with something else shows.
    fn one_key() -> Self {
        Self {
            kinds: vec![Kind::Put],
            reads_percent: 20,
            keys: 1,
            objects: 1,
            bytes_max: 16,
            ttl_ms_max: 1,
            accepted_percent: 0,
        }
    }

    fn draw(options: &Options, random: &mut ChaCha8Rng) -> Self {
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| random.random_bool(0.5)).collect();
        if !kinds.iter().any(|kind| matches!(kind, Kind::Put | Kind::CompareAndSet | Kind::Incr)) {
            kinds.push(Kind::Put);
        }
        // Where the journal is at its smallest, every other plan has it go round and round.
        let presses = options.disk.journal_file_bytes == JOURNAL_FILE_BYTES_MIN && random.random_bool(0.5);
        if presses && !kinds.contains(&Kind::Put) {
            kinds.push(Kind::Put);
        }
        Self {
            kinds,
            reads_percent: if presses { 10 } else { pick(random, &[20, 40, 40, 60]) },
            keys: pick(random, &[1, 3, 10, 30, 100, 300]),
            objects: pick(random, &[1, 2, 5]),
            bytes_max: if presses { 3_000 } else { pick(random, &[16, 64, 64, 500, 2_000]) },
            ttl_ms_max: pick(random, &[50, 500, 2_000, 10_000, 60_000, 60_000]),
            // What only a leader's log has, nobody sends again.
            accepted_percent: pick(random, &[0, 0, 0, 10, 50]),
        }
    }

    fn act(&self, random: &mut ChaCha8Rng) -> Act {
        let kind = pick(random, &self.kinds);
        let (key, object) = (random.random_range(0..self.keys), random.random_range(0..self.objects));
        let reads = random.random_range(0..100) < self.reads_percent;
        let count = random.random_range(2..=RUN_KEYS_MAX);
        match kind {
            Kind::Pairs if reads => Act::ReadPair(object),
            Kind::Runs if reads => Act::MultiGet { first: key, count },
            // Counters and lists are read by what their writes answer.
            _ if reads => Act::Get(key),
            Kind::Put if random.random_bool(ASKING_SHARE) => {
                Act::PutAsking { key, bytes: random.random_range(0..=self.bytes_max) }
            }
            Kind::Put => self.put(key, None, random),
            Kind::CompareAndSet => Act::CompareAndSet(key),
            Kind::PutIfAbsent => Act::PutIfAbsent(key),
            Kind::PutIfAbsentOrSeen => Act::PutIfAbsentOrSeen(key),
            Kind::Delete => Act::Delete(key),
            Kind::Incr => Act::Incr(object),
            Kind::Refusals => match random.random_range(0..3) {
                0 => Act::IncrFar { key: object, down: random.random_bool(0.5), late_ms: 0 },
                1 => Act::IncrPlain(key),
                _ => Act::AtomicIncr(object),
            },
            Kind::Append => Act::Append(object),
            Kind::Pairs => Act::AtomicPair(object),
            Kind::Runs => Act::Batch { first: key, count },
            Kind::Expiry => {
                let ttl_ms = random.random_range(1..=self.ttl_ms_max);
                match random.random_range(0..8) {
                    0 => Act::Expire { key, ttl_ms },
                    1 => Act::Persist(key),
                    2 => Act::PutKeeping(key),
                    3 => Act::ExpireAndPut { key, ttl_ms },
                    4 => Act::PutUntil { key, in_ms: at_a_time(ttl_ms, random) },
                    5 => Act::ExpireAt { key, in_ms: at_a_time(ttl_ms, random) },
                    _ => self.put(key, Some(ttl_ms), random),
                }
            }
        }
    }

    fn put(&self, key: u32, ttl_ms: Option<u64>, random: &mut ChaCha8Rng) -> Act {
        let accepted = random.random_range(0..100) < self.accepted_percent;
        let await_ms = if accepted && random.random_bool(0.7) { random.random_range(1..=AWAIT_MS_MAX) } else { 0 };
        Act::Put { key, bytes: random.random_range(0..=self.bytes_max), ttl_ms, accepted, await_ms }
    }
}
