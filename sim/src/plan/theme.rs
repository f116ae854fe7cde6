//! Plans about one thing: what shows only if sizes, clients and faults fit together, which chance brings about once in thousands.

use super::draw::{SAFETY_MS_MIN, pick};
use super::{Network, Options};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// How many plans are about each theme. New ones come last: so the plans of other themes stay as they are.
const SHARES: [(Theme, f64); 8] = [
    (Theme::SlowSnapshots, 0.02),
    (Theme::TakenBack, 0.02),
    (Theme::HeldFollowers, 0.02),
    (Theme::Overtaken, 0.02),
    (Theme::ColdDamage, 0.02),
    (Theme::PassedOn, 0.02),
    (Theme::OldMaps, 0.02),
    (Theme::Lost, 0.06),
];

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
    /// Files of one node are damaged, and nobody starts or reads them until the scrubber comes by.
    ColdDamage,
    /// Clients write one key again and again while its shard is handed on and on: their nodes pass writes on to leaders that lead no more.
    PassedOn,
    /// A node that was cut off while another one left comes to lead with the map of before.
    OldMaps,
    /// Machines are lost for good, one after the other, while others come and go.
    Lost,
}

impl Theme {
    /// Draws it, and fits the sizes to it.
    pub(super) fn draw(options: &mut Options, random: &mut ChaCha8Rng) -> Self {
        let of = random.random_range(0.0..1.0);
        let mut end = 0.0;
        let theme = SHARES.into_iter().find_map(|(theme, share)| {
            end += share;
            (of < end).then_some(theme)
        });
        let theme = theme.unwrap_or(Self::Swarm);
        match theme {
            Self::Swarm => {}
            Self::SlowSnapshots => Self::fit_slow_snapshots(options, random),
            Self::TakenBack => Self::fit_taken_back(options, random),
            Self::HeldFollowers => Self::fit_held_followers(options, random),
            Self::Overtaken => Self::fit_overtaken(options, random),
            Self::ColdDamage => Self::fit_cold_damage(options),
            Self::PassedOn => Self::fit_passed_on(options, random),
            Self::OldMaps => Self::fit_old_maps(options, random),
            Self::Lost => Self::fit_lost(options, random),
        }
        theme
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

    /// One shard of small segments: a leader whose disk is full keeps few entries. What is offered and pulled of a snapshot comes late,
    /// and everything else in time. But not so late that the leader offers it once more, and hears that it is not needed.
    fn fit_overtaken(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(3, 0, random);
        options.shards = 1;
        options.safety_ms = options.safety_ms.min(SAFETY_MS_MIN * 2);
        options.disk.segment_bytes_first = 4_096;
        options.disk.segment_bytes_max = 4_096;
        options.disk.sync_max_us = options.disk.sync_min_us + 2_000;
        options.peers = Network::CALM;
        (options.snapshots_lost_permille, options.snapshots_late_ms) = (0, pick(random, &[250, 400]));
        (options.queue_requests_max, options.queue_bytes_max) = (0, 0);
    }

    /// Small segments: many of them don't change any more.
    fn fit_cold_damage(options: &mut Options) {
        options.disk.segment_bytes_first = 4_096;
        options.disk.segment_bytes_max = 4_096;
    }

    /// One shard, and many unanswered writes. A write that is passed on is held up for longer than a hand-over takes. No connection ends
    /// and no write is sent twice: what is sent again has no place in the order.
    fn fit_passed_on(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(3, 0, random);
        options.shards = 1;
        options.window = 16;
        options.deadline_ms = 10_000;
        options.safety_ms = options.safety_ms.min(SAFETY_MS_MIN * 2);
        let delay_max_us = pick(random, &[5_000, 20_000]);
        options.peers = Network { delay_max_us, held_up_permille: 20, ..Network::CALM };
        options.client_links = Network::CALM;
        options.disk.sync_max_us = options.disk.sync_min_us + 2_000;
        (options.queue_requests_max, options.queue_bytes_max) = (0, 0);
        (options.sessions_max, options.session_bytes_max, options.late_copies_permille) = (0, 0, 0);
    }

    /// Nodes of which none joins later, so that there is one that leaves, and groups go without it. Moves that are over within a second or two.
    fn fit_old_maps(options: &mut Options, random: &mut ChaCha8Rng) {
        options.set_nodes(5, 0, random);
        options.shards = pick(random, &[4, 8]);
        options.safety_ms = options.safety_ms.max(SAFETY_MS_MIN * 2);
        options.repair_hold_ms = 50_000;
        options.peers = Network { delay_max_us: options.peers.delay_min_us + 500, ..Network::CALM };
        options.disk.sync_max_us = options.disk.sync_min_us + 500;
        (options.snapshots_lost_permille, options.snapshots_late_ms) = (0, 0);
        (options.queue_requests_max, options.queue_bytes_max) = (0, 0);
    }

    /// More nodes than a shard has replicas, and time for what was lost to be made anew before the next one is lost.
    fn fit_lost(options: &mut Options, random: &mut ChaCha8Rng) {
        let spares = pick(random, &[0, 1, 2]);
        options.set_nodes(5, spares, random);
        options.shards = pick(random, &[1, 2, 4]);
        options.safety_ms = options.safety_ms.max(SAFETY_MS_MIN * 3);
        options.repair_hold_ms = pick(random, &[0, 0, 3_000]);
        options.snapshots_late_ms = options.snapshots_late_ms.min(400);
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
