//! Plans about one thing: what shows only if sizes, clients and faults fit together, which chance brings about once in thousands.

use super::draw::{SAFETY_MS_MIN, pick};
use super::{Network, Options};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// How many plans are about slow snapshots.
const SLOW_SNAPSHOTS_SHARE: f64 = 0.02;
/// How many are about moves that are taken back.
const TAKEN_BACK_SHARE: f64 = 0.02;
/// How many are about followers that are held up.
const HELD_FOLLOWERS_SHARE: f64 = 0.02;
/// How many are about snapshots that are overtaken by entries.
const OVERTAKEN_SHARE: f64 = 0.02;

/// What a plan is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Theme {
    /// Whatever the swarm has.
    Swarm,
    /// A replica that was away for long is given a state of large values, slowly, while much is written.
    SlowSnapshots,
    /// Replicas move, and back before they are there, while the leader of their group stands still.
    TakenBack,
    /// The follower that a lease rests on is held up while it hears the leader, and others ask for votes.
    HeldFollowers,
    /// A follower is given a snapshot by one leader, slowly, and the entries by the next one meanwhile.
    Overtaken,
}

impl Theme {
    /// Draws it, and fits the sizes to it.
    pub(super) fn draw(options: &mut Options, random: &mut ChaCha8Rng) -> Self {
        let of = random.random_range(0.0..1.0);
        if of < SLOW_SNAPSHOTS_SHARE {
            Self::fit_slow_snapshots(options, random);
            Self::SlowSnapshots
        } else if of < SLOW_SNAPSHOTS_SHARE + TAKEN_BACK_SHARE {
            Self::fit_taken_back(options, random);
            Self::TakenBack
        } else if of < SLOW_SNAPSHOTS_SHARE + TAKEN_BACK_SHARE + HELD_FOLLOWERS_SHARE {
            Self::fit_held_followers(options, random);
            Self::HeldFollowers
        } else if of < SLOW_SNAPSHOTS_SHARE + TAKEN_BACK_SHARE + HELD_FOLLOWERS_SHARE + OVERTAKEN_SHARE {
            Self::fit_overtaken(options, random);
            Self::Overtaken
        } else {
            Self::Swarm
        }
    }

    /// One shard of small segments, so that the state is large in comparison with what is kept of the log.
    fn fit_slow_snapshots(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(3, 0, random);
        options.shards = 1;
        options.disk.segment_bytes_first = 4_096;
        options.disk.segment_bytes_max = 4_096;
        options.snapshots_late_ms = pick(random, &[400, 1_000]);
        options.snapshots_lost_permille = pick(random, &[0, 50, 200]);
        (options.queue_requests_max, options.queue_bytes_max) = (0, 0);
    }

    /// A vote takes less time than clocks at the limits of their rates leave between the end of a refusal that began too soon and that of
    /// the lease.
    fn fit_held_followers(options: &mut Options, random: &mut ChaCha8Rng) {
        // More voters would elect one without the follower.
        options.set_nodes(3, 0, random);
        options.peers = Network { delay_max_us: 300, ..Network::CALM };
        options.disk.sync_max_us = options.disk.sync_min_us + 500;
    }

    /// One shard of small segments: a leader whose disk is full keeps few entries. What is offered and pulled of a snapshot comes late, and
    /// everything else in time.
    fn fit_overtaken(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(3, 0, random);
        options.shards = 1;
        options.disk.segment_bytes_first = 4_096;
        options.disk.segment_bytes_max = 4_096;
        options.disk.sync_max_us = options.disk.sync_min_us + 2_000;
        options.peers = Network { delay_max_us: options.peers.delay_min_us + 2_000, ..options.peers };
        (options.snapshots_lost_permille, options.snapshots_late_ms) = (0, pick(random, &[400, 1_000]));
        (options.queue_requests_max, options.queue_bytes_max) = (0, 0);
    }

    /// Nodes of which none joins later, so that it is known who holds what, and shards enough. A network that gets a move under way within a second.
    fn fit_taken_back(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(5, 0, random);
        options.shards = pick(random, &[4, 8]);
        options.safety_ms = options.safety_ms.max(SAFETY_MS_MIN * 2);
        options.peers = Network { delay_max_us: options.peers.delay_min_us + 2_000, ..options.peers };
        options.disk.sync_max_us = options.disk.sync_min_us + 2_000;
        // What is taken back has begun by then, and is not over.
        (options.snapshots_lost_permille, options.snapshots_late_ms) = (0, 1_000);
    }
}
