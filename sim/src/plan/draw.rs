//! Plans from seeds, by swarm testing (Groce and others, 2012): each seed switches a random subset of all that can go wrong
//! on and draws all sizes anew. A fault that hides another one is off in half of the runs.

use super::theme::Theme;
use super::{DiskOptions, Network, Options, Plan, faults, once, steps, transactions};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Fewest operations of a plan that is drawn at full scale.
pub const OPERATIONS_MIN: usize = 1_000;
/// Most operations of a plan that is drawn at full scale.
pub const OPERATIONS_MAX: usize = 2_000;
/// Fewest faults of a plan that is not about one thing.
pub const FAULTS_MIN: usize = 20;
/// Shortest phase of faults, in milliseconds.
pub(super) const SAFETY_MS_MIN: u64 = 30_000;
/// Longest phase of faults.
pub(super) const SAFETY_MS_MAX: u64 = 120_000;
/// Most that a wall clock is off, in milliseconds: ten years.
pub(super) const WALL_OFFSET_MS_MAX: i64 = 10 * 365 * 86_400_000;
/// Most that a clock's rate is off, in parts per million: 5 %.
pub(super) const CLOCK_RATE_PPM_MAX: i32 = 50_000;

/// Smallest file of a journal, in bytes.
pub(super) const JOURNAL_FILE_BYTES_MIN: u32 = 32_768;

impl Plan {
    /// The plan of a seed. Pure: the same on every machine and in every build.
    pub fn draw(seed: u64) -> Self {
        Self::draw_scaled(seed, 100)
    }

    /// The plan of a seed with so many percent of its operations; faults and time stay the same.
    pub fn draw_scaled(seed: u64, operations_percent: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut options = options(&mut random);
        let theme = Theme::draw(&mut options, &mut random);
        let faults = faults::draw(&options, theme, &mut random);
        let operations = random.random_range(OPERATIONS_MIN..=OPERATIONS_MAX);
        let operations = (operations as u64 * u64::from(operations_percent) / 100).max(1) as usize;
        let mut clients = steps::draw(&options, theme, &faults, operations, &mut random);
        clients.extend(once::draw(&mut options, &faults, &mut random));
        clients.extend(transactions::draw(&options, &faults, &mut random));
        options.sealed = sealed(seed);
        Self { seed, options, clients, faults }
    }

    /// How many operations the clients of this plan begin.
    pub fn operations(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }
}

impl Options {
    /// So many founders and other machines, with clocks of their own.
    pub(super) fn set_nodes(&mut self, nodes: u16, spares: u16, random: &mut ChaCha8Rng) {
        (self.nodes, self.spares) = (nodes, spares);
        let drifts = random.random_bool(0.6);
        self.clock_rate_ppm = (0..nodes + spares).map(|_| if drifts { clock_rate(random) } else { 0 }).collect();
        self.wall_offset_ms = wall_offsets(nodes, random);
    }
}

fn options(random: &mut ChaCha8Rng) -> Options {
    let nodes = pick(random, &[3, 3, 3, 4, 5]);
    let spares = pick(random, &[0, 0, 1, 2]);
    let shards = pick(random, &[1, 1, 2, 2, 4, 8]);
    // Most bugs show in half a minute; long runs are for what needs many files, terms or sessions.
    let safety_ms = match random.random_range(0..4) {
        0 => random.random_range(SAFETY_MS_MIN..=SAFETY_MS_MAX),
        _ => random.random_range(SAFETY_MS_MIN..=SAFETY_MS_MIN * 2),
    };
    let drifts = random.random_bool(0.6);
    let clock_rate_ppm = (0..nodes + spares).map(|_| if drifts { clock_rate(random) } else { 0 }).collect();
    let wall_offset_ms = wall_offsets(nodes, random);
    Options {
        nodes,
        spares,
        shards,
        fsync: random.random_bool(0.85),
        window: pick(random, &[1, 1, 2, 4, 8, 16]),
        safety_ms,
        peers: peers(random),
        client_links: client_links(random),
        disk: disk(random),
        clock_rate_ppm,
        wall_offset_ms,
        deadline_ms: pick(random, &[500, 1_000, 2_000, 3_000, 5_000, 5_000, 10_000]),
        snapshots_lost_permille: sometimes(random, &[50, 200, 500]),
        snapshots_late_ms: sometimes(random, &[100, 400, 1_000]),
        loses_hints: random.random_bool(0.4),
        queue_requests_max: sometimes(random, &[4, 16, 64]),
        queue_bytes_max: sometimes(random, &[4_096, 16_384, 65_536]),
        sessions_max: sometimes(random, &[1, 2, 4]),
        session_bytes_max: sometimes(random, &[1_500, 4_000]),
        once_max: 0,
        late_copies_permille: sometimes(random, &[5, 20, 50]),
        repair_hold_ms: pick(random, &[0, 0, 3_000, 50_000]),
        order_bits: sometimes(random, &[1, 2, 4]),
        sealed: 0,
    }
}

/// A third of all plans are sealed, half of them with other keys as time goes on. Of a randomness of its own: what else is drawn stays.
fn sealed(seed: u64) -> u32 {
    pick(&mut ChaCha8Rng::seed_from_u64(!seed), &[0, 0, 0, 0, 1, 2])
}

fn peers(random: &mut ChaCha8Rng) -> Network {
    let delay_min_us = random.random_range(20..=500);
    Network {
        delay_min_us,
        delay_max_us: delay_min_us + pick(random, &[50, 500, 2_000, 2_000, 10_000, 50_000]),
        lost_permille: sometimes(random, &[1, 5, 20, 100]),
        duplicated_permille: sometimes(random, &[5, 20, 100]),
        held_up_permille: sometimes(random, &[1, 5, 20]),
    }
}

/// Answers that get lost make clients send writes again, which is what is to be tested: so a fifth of them may.
fn client_links(random: &mut ChaCha8Rng) -> Network {
    let delay_min_us = random.random_range(20..=300);
    Network {
        delay_min_us,
        delay_max_us: delay_min_us + pick(random, &[50, 500, 2_000, 10_000]),
        lost_permille: sometimes(random, &[2, 10, 50, 200]),
        duplicated_permille: 0,
        held_up_permille: sometimes(random, &[2, 10]),
    }
}

/// Small files, so that a run of a thousand writes goes round the journal's ring and over many segments.
fn disk(random: &mut ChaCha8Rng) -> DiskOptions {
    let sync_min_us = random.random_range(50..=500);
    let segment_bytes_first = pick(random, &[4_096, 8_192, 16_384]);
    DiskOptions {
        sync_min_us,
        sync_max_us: sync_min_us + pick(random, &[500, 2_000, 5_000, 20_000, 100_000]),
        segment_bytes_first,
        segment_bytes_max: segment_bytes_first * pick(random, &[1, 2, 4, 16]),
        journal_files: pick(random, &[2, 2, 3, 4]),
        journal_file_bytes: pick(random, &[JOURNAL_FILE_BYTES_MIN, JOURNAL_FILE_BYTES_MIN, 65_536, 131_072, 262_144]),
    }
}

/// A clock's rate: half of the time right at the limit of what the leases allow for.
pub(super) fn clock_rate(random: &mut ChaCha8Rng) -> i32 {
    match random.random_range(0..4) {
        0 => -CLOCK_RATE_PPM_MAX,
        1 => CLOCK_RATE_PPM_MAX,
        _ => random.random_range(-CLOCK_RATE_PPM_MAX..=CLOCK_RATE_PPM_MAX),
    }
}

/// How far off wall clocks are at the start: none, those of a minority of the nodes, or all.
fn wall_offsets(nodes: u16, random: &mut ChaCha8Rng) -> Vec<i64> {
    let wrong = pick(random, &[0, 0, clocks_wrong_max(nodes), clocks_wrong_max(nodes), nodes]);
    let first = random.random_range(0..nodes);
    (0..nodes).map(|node| if (node + nodes - first) % nodes < wrong { wall_offset(random) } else { 0 }).collect()
}

/// So many nodes are a minority: what their wall clocks show must not matter.
pub(super) fn clocks_wrong_max(nodes: u16) -> u16 {
    (nodes - 1) / 2
}

/// How far off a wall clock is: seconds, up to an hour, a day, or years.
pub(super) fn wall_offset(random: &mut ChaCha8Rng) -> i64 {
    let most = pick(random, &[5_000, 3_600_000, 3_600_000, 86_400_000, WALL_OFFSET_MS_MAX]);
    random.random_range(-most..=most)
}

/// One of `values`, or 0 as often as not.
fn sometimes(random: &mut ChaCha8Rng, values: &[u32]) -> u32 {
    if random.random_bool(0.5) { 0 } else { pick(random, values) }
}

/// One of `values`, each as likely as any other.
pub(super) fn pick<T: Copy>(random: &mut ChaCha8Rng, values: &[T]) -> T {
    *values.choose(random).expect("there is something to pick")
}

#[cfg(test)]
mod tests;
