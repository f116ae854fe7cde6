//! Clients that send the same write under one name, of which one may take effect: at once, one after the other, around faults.

use super::draw::pick;
use super::steps::moment;
use super::{Act, Fault, Options, Step};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// How many of the plans have them.
const ONCE_SHARE: f64 = 0.6;
/// How many of those have shards that remember next to nothing.
const FEW_SHARE: f64 = 0.2;
/// Clients that share names.
pub(super) const CLIENTS: usize = 3;
/// Most names of one plan.
pub(super) const NAMES_MAX: u32 = 16;
/// Their counters are not those of others.
const FIRST_KEY: u32 = 5_000;
/// They are few, so that a second effect shows soon.
const KEYS: u32 = 4;
/// How long after the first one another client may use a name, in milliseconds: while the first is on its way; while it is sent
/// again; when the leader is another one.
const LAGS_MS: [u64; 4] = [15, 500, 4_000, 20_000];
/// Share of names under which something else is asked for as well.
const OTHER_SHARE: f64 = 0.3;

/// The steps of each of these clients.
pub(super) fn draw(options: &mut Options, faults: &[Fault], random: &mut ChaCha8Rng) -> Vec<Vec<Step>> {
    if !random.random_bool(ONCE_SHARE) {
        return Vec::new();
    }
    let few = random.random_bool(FEW_SHARE);
    options.once_max = if few { pick(random, &[1, 3]) } else { 0 };
    let mut times: Vec<Vec<(u64, Act)>> = vec![Vec::new(); CLIENTS];
    for name in 0..random.random_range(2..=NAMES_MAX) {
        let (at_ms, key) = (moment(options, faults, random), FIRST_KEY + random.random_range(0..KEYS));
        let (lag_ms, asks_other) = (pick(random, &LAGS_MS), random.random_bool(OTHER_SHARE));
        let first = random.random_range(0..CLIENTS);
        for (number, client) in (0..random.random_range(2..=CLIENTS)).map(|number| (number, (first + number) % CLIENTS))
        {
            let lag_ms = if number == 0 { 0 } else { random.random_range(0..=lag_ms) };
            let by = if asks_other && number == 1 { 1_000 } else { 1 };
            let id = if few { name * CLIENTS as u32 + number as u32 } else { name };
            times[client].push(((at_ms + lag_ms).min(options.safety_ms - 1), Act::IncrOnce { key, id, by }));
        }
    }
    times.into_iter().map(in_order).collect()
}

fn in_order(mut times: Vec<(u64, Act)>) -> Vec<Step> {
    times.sort_by_key(|(at_ms, _)| *at_ms);
    let mut before = 0;
    let step = |(at_ms, act): (u64, Act)| {
        let after_ms = u32::try_from(at_ms - before).expect("a plan is minutes long");
        before = at_ms;
        Step { after_ms, act }
    };
    times.into_iter().map(step).collect()
}
