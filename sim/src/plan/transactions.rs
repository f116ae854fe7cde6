//! Clients that send transactions, and the writes that RESP has brought: on few keys of their own, so that they meet.

use super::draw::pick;
use super::steps::{at_a_time, moment};
use super::{Act, Fault, FaultKind, LifeTest, Options, Step};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// How many of the plans have them.
const SHARE: f64 = 0.6;
/// Fewest and most of these clients.
const CLIENTS: std::ops::RangeInclusive<usize> = 2..=4;
/// Fewest and most acts of one.
const ACTS: std::ops::RangeInclusive<usize> = 10..=60;
/// An act follows the one before at once, or so many milliseconds later at most: together they make one entry.
const LAG_MS: u64 = 3;
/// Another leader is elected while a node is cut off for so long, in milliseconds.
const CUT_MS_MIN: u64 = 1_500;
/// Clients write so soon after that, in milliseconds: before the node knows.
const CUT_LAG_MS: u64 = 400;
/// Most nodes that are looked at so, in one plan.
const CUT_MAX: usize = 3;
/// Clients that write to the shards that one may lead.
const LOSERS: u32 = 4;
/// Their pairs are not those of others: if what they wrote is lost, nothing hides that.
const FIRST_LOST_PAIR: u32 = 4_000;
/// Reads both keys.
const READS: u32 = 1 << 7;
/// Writes both keys.
const WRITES: u32 = 4 << 3 | 5 << 7;
/// Most clients that are drawn here, and most steps of all of them together.
#[cfg(test)]
pub(super) const CLIENTS_MAX: usize = *CLIENTS.end() + CUT_MAX * LOSERS as usize;
#[cfg(test)]
pub(super) const OPERATIONS_MAX: usize = *CLIENTS.end() * *ACTS.end() + CUT_MAX * LOSERS as usize * 2;
/// Values that are compared: few, and as long as each other.
const VALUES: u8 = 3;

/// The steps of each of these clients.
pub(super) fn draw(options: &Options, faults: &[Fault], random: &mut ChaCha8Rng) -> Vec<Vec<Step>> {
    if !random.random_bool(SHARE) {
        return Vec::new();
    }
    let keys = pick(random, &[1, 1, 2, 4]);
    let watches_percent = pick(random, &[20, 50, 90]);
    let clients = random.random_range(CLIENTS);
    let bursts: Vec<u64> = (0..random.random_range(ACTS)).map(|_| moment(options, faults, random)).collect();
    let mut drawn = Vec::new();
    for _ in 0..clients {
        let mut times: Vec<u64> = (0..random.random_range(ACTS))
            .map(|_| match random.random_bool(0.5) {
                true => moment(options, faults, random),
                false => pick(random, &bursts) + random.random_range(0..=LAG_MS),
            })
            .map(|at_ms| at_ms.min(options.safety_ms - 1))
            .collect();
        times.sort_unstable();
        let mut before = 0;
        let step = |at_ms: u64| {
            let after_ms = u32::try_from(at_ms - before).expect("a plan is minutes long");
            before = at_ms;
            Step { after_ms, act: act(keys, watches_percent, random) }
        };
        drawn.push(times.into_iter().map(step).collect());
    }
    let cut = faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::CutFromPeers { ms, .. } if ms >= CUT_MS_MIN => Some(fault.at_ms),
        _ => None,
    });
    for (at_ms, number) in cut.take(CUT_MAX).zip(0..) {
        let pairs = FIRST_LOST_PAIR + number * LOSERS..;
        drawn.extend(pairs.take(LOSERS as usize).map(|pair| losing_steps(at_ms, pair, options, random)));
    }
    drawn
}

/// The steps of a client that writes when a node has just been cut off, having found out before who leads. If it was that node, the
/// next leader knows nothing of what it was sent.
fn losing_steps(at_ms: u64, pair: u32, options: &Options, random: &mut ChaCha8Rng) -> Vec<Step> {
    let last_ms = options.safety_ms - 1;
    let looks_ms = at_ms.saturating_sub(random.random_range(100..1_000)).min(last_ms);
    let writes_ms = (at_ms + random.random_range(1..CUT_LAG_MS)).min(last_ms);
    let step = |ms: u64, script| Step {
        after_ms: u32::try_from(ms).expect("a plan is minutes long"),
        act: Act::Transaction { pair, watch: false, script },
    };
    vec![step(looks_ms, READS), step(writes_ms - looks_ms, WRITES)]
}

fn act(keys: u32, watches_percent: u32, random: &mut ChaCha8Rng) -> Act {
    let key = random.random_range(0..keys);
    match random.random_range(0..20) {
        0..10 => {
            let watch = random.random_range(0..100) < watches_percent;
            Act::Transaction { pair: key, watch, script: random.random() }
        }
        10..12 => Act::RenamePair { pair: key, back: random.random_bool(0.5) },
        12..15 => {
            let value =
                |random: &mut ChaCha8Rng, often| random.random_bool(often).then(|| random.random_range(0..VALUES));
            Act::SwapValue { key, from: value(random, 0.7), to: value(random, 0.8) }
        }
        15 => Act::Range { key, offset: random.random_range(0..12) },
        16 => Act::Bit { key, offset: random.random_range(0..100), bit: random.random_bool(0.5) },
        17 => Act::Quarters { key, by: random.random_range(-9..10) },
        18 => {
            let when = pick(random, &[LifeTest::None, LifeTest::Some, LifeTest::Longer, LifeTest::Shorter]);
            let ttl_ms = pick(random, &[200, 5_000, 60_000]);
            match random.random_bool(0.5) {
                true => Act::ExpireIf { key, ttl_ms, when },
                false => Act::ExpireAtIf { key, in_ms: at_a_time(ttl_ms, random), when },
            }
        }
        _ => Act::ReadText(key),
    }
}
