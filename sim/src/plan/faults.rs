//! What goes wrong in a plan, and when: bursts of faults close together, with quiet spells between in which a cluster finds
//! its feet again.
//!
//! A burst is made of scenarios: a few faults each whose order and distance is what reveals a kind of bug. Who leads when a
//! plan runs is not known when it is drawn, so scenarios that are aimed at a leader make one first, by handing it the shard.

mod disks;
mod leases;
mod moves;
mod scenario;

use super::draw::{FAULTS_MIN, clocks_wrong_max, pick};
use super::theme::Theme;
use super::{Fault, FaultKind, Options};
use kvorum_protocol::ShardId;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use scenario::Scenario;

/// Nothing goes wrong before the cluster has had the time to elect its first leaders, in milliseconds.
const FIRST_AT_MS: u64 = 1_500;
/// Every replica is open by then, and nodes have been connected for long enough to be given replicas, in milliseconds.
const SETTLED_AT_MS: u64 = 7_500;
/// Most faults of a plan; more would leave no quiet.
const FAULTS_MAX: usize = 60;
/// Most scenarios of one burst.
const BURST_MAX: usize = 4;
/// How many of the plans have but one or two scenarios, again and again: nothing else gets in their way.
const FOCUS_SHARE: f64 = 0.25;

/// The faults of a plan, in order of time.
pub(super) fn draw(options: &Options, theme: Theme, random: &mut ChaCha8Rng) -> Vec<Fault> {
    let mut draft = Draft::new(options, random);
    match theme {
        Theme::Swarm => draft.swarm(),
        Theme::SlowSnapshots => draft.rounds(Draft::slow_snapshot),
        Theme::TakenBack => draft.rounds(Draft::placed_and_taken_back),
        Theme::HeldFollowers => draft.rounds(Draft::held_follower),
        Theme::Overtaken => draft.rounds(Draft::overtaken_while_quiet),
        Theme::ColdDamage => draft.rounds(Draft::cold_damage),
        Theme::PassedOn => draft.rounds(Draft::handed_on),
        Theme::OldMaps => draft.rounds(Draft::led_by_an_old_map),
        Theme::Lost => draft.lost_for_good(),
    }
    let mut faults = draft.faults;
    faults.iter_mut().for_each(|fault| fault.at_ms = fault.at_ms.min(options.safety_ms - 1));
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

/// The scenarios of a plan: many, or one or two.
fn swarm(options: &Options, random: &mut ChaCha8Rng) -> Vec<Scenario> {
    let survived: Vec<Scenario> = Scenario::ALL.into_iter().filter(|scenario| scenario.is_survived(options)).collect();
    if random.random_bool(FOCUS_SHARE) {
        return (0..random.random_range(1..=2)).map(|_| pick(random, &survived)).collect();
    }
    loop {
        let swarm: Vec<Scenario> = survived.iter().copied().filter(|_| random.random_bool(0.4)).collect();
        if swarm.len() >= 3 {
            return swarm;
        }
    }
}

/// Whose wall clocks may jump: those of a minority of the nodes, unless all are wrong anyhow.
fn jumping(options: &Options, random: &mut ChaCha8Rng) -> Vec<u16> {
    let is_off = |node: &u16| options.wall_offset_ms.get(usize::from(*node)).is_some_and(|offset| *offset != 0);
    let (mut wrong, mut right): (Vec<u16>, Vec<u16>) = (0..options.nodes).partition(is_off);
    if wrong.len() > usize::from(clocks_wrong_max(options.nodes)) {
        return (0..options.nodes).collect();
    }
    while wrong.len() < usize::from(clocks_wrong_max(options.nodes)) {
        wrong.push(right.swap_remove(random.random_range(0..right.len())));
    }
    wrong
}

struct Draft<'a> {
    options: &'a Options,
    random: &'a mut ChaCha8Rng,
    /// The one node whose medium may be damaged. Two of three replicas of every shard keep what they have stored.
    unlucky: u16,
    /// Whose wall clocks may jump.
    jumping: Vec<u16>,
    at_ms: u64,
    faults: Vec<Fault>,
}

impl<'a> Draft<'a> {
    fn new(options: &'a Options, random: &'a mut ChaCha8Rng) -> Self {
        let unlucky = random.random_range(0..options.nodes);
        let jumping = jumping(options, random);
        Self { options, random, unlucky, jumping, at_ms: 0, faults: Vec::new() }
    }
}

impl Draft<'_> {
    /// Bursts of scenarios.
    fn swarm(&mut self) {
        let (options, swarm) = (self.options, swarm(self.options, self.random));
        let wanted = self.random.random_range(FAULTS_MIN..=FAULTS_MAX);
        let bursts = (options.safety_ms / self.random.random_range(3_000..12_000)).max(4);
        let spacing_ms = (options.safety_ms - FIRST_AT_MS) / bursts;
        // Whatever was drawn short of what is wanted is made up for in more rounds over the same time.
        while self.faults.len() < wanted {
            for burst in 0..bursts {
                if self.faults.len() >= wanted {
                    break;
                }
                let begins_ms = FIRST_AT_MS + burst * spacing_ms + self.random.random_range(0..spacing_ms / 2);
                for _ in 0..self.random.random_range(1..=BURST_MAX) {
                    let lag_ms = self.random.random_range(0..2_000);
                    self.at_ms = begins_ms + lag_ms;
                    let scenario =
                        *swarm.choose_weighted(self.random, |scenario| scenario.weight()).expect("some are on");
                    self.play(scenario);
                }
            }
        }
    }

    /// One scenario after the other, each when the one before is over.
    fn rounds(&mut self, mut play: impl FnMut(&mut Self)) {
        self.at_ms = SETTLED_AT_MS;
        while self.at_ms < self.options.safety_ms {
            play(self);
        }
    }

    fn play(&mut self, scenario: Scenario) {
        match scenario {
            Scenario::Kill | Scenario::KillInTurn => self.kill(scenario == Scenario::KillInTurn),
            Scenario::PowerLoss => self.power_loss(),
            Scenario::PowerLossEverywhere => self.power_loss_everywhere(),
            Scenario::CrashPoint => self.crash_points(false),
            Scenario::CrashWhileRecovering => self.crash_points(true),
            Scenario::Restart => {
                let (node, down_ms) = (self.node(), self.down_ms());
                self.now(FaultKind::Restart { node, down_ms });
            }
            Scenario::Pause => {
                let (node, ms) = (self.node(), self.pause_ms());
                self.now(FaultKind::Pause { node, ms });
            }
            Scenario::PausedLeader => self.paused_leader(),
            Scenario::HeldTurn => self.held_turns(),
            Scenario::HeldLeader => self.held_leader(),
            Scenario::HeldFollower => self.held_follower(),
            Scenario::Transfers => self.transfers(),
            Scenario::TransferAndPause => self.transfer_and_pause(),
            Scenario::Panic => {
                let (node, shard) = (self.node(), self.shard());
                self.now(FaultKind::PanicShard { node, shard });
            }
            Scenario::PanicsEverywhere => self.panics_everywhere(),
            Scenario::PanicsWithoutEnd => self.panics_without_end(),
            Scenario::Isolate => {
                let (node, ms) = (self.node(), self.lasts_ms());
                self.now(FaultKind::Isolate { node, ms });
            }
            Scenario::LeaderCutOff => self.leader_cut_off(),
            Scenario::OneWay => self.one_way(),
            Scenario::CloggedLeader => self.clogged_leader(),
            Scenario::FailedSync => self.failed_sync(),
            Scenario::FailedWrite => {
                let node = self.node();
                self.now(FaultKind::WriteFails { node });
            }
            Scenario::FailedReads => self.failed_reads(),
            Scenario::Lagging => self.lagging(),
            Scenario::Overtaken => self.overtaken(),
            Scenario::LostHints => {
                let (node, shard, down_ms) = (self.node(), self.shard(), self.down_ms());
                self.now(FaultKind::LoseHints { node });
                match self.random.random_bool(0.5) {
                    true => self.after(1, FaultKind::PanicShard { node, shard }),
                    false => self.after(1, FaultKind::Kill { node, down_ms }),
                }
            }
            Scenario::Full => self.full(),
            Scenario::Stall => {
                let node = self.node();
                let ms = pick(self.random, &[100, 300, 600, 1_000, 3_000, 12_000, 60_000]);
                self.now(FaultKind::DiskStalls { node, ms });
            }
            Scenario::SlowLeader => self.slow_leader(),
            Scenario::WallJumps => self.wall_jumps(),
            Scenario::DropClients => self.now(FaultKind::DropClients),
            Scenario::Damage => self.damage(),
            Scenario::Wipe => self.wipe(),
            Scenario::Gone => self.gone(),
            Scenario::Resize => self.resize(),
            Scenario::MadeUpMap => {
                let node = self.node();
                self.now(FaultKind::MadeUpMap { node });
            }
        }
    }

    /// Hands a shard to a node, and goes on when it should lead.
    fn make_leader(&mut self) -> u16 {
        let (shard, to) = (self.shard(), self.node());
        self.now(FaultKind::Transfer { shard, to });
        self.at_ms += self.random.random_range(20..500);
        to
    }

    fn now(&mut self, kind: FaultKind) {
        self.after(0, kind);
    }

    fn after(&mut self, lag_ms: u64, kind: FaultKind) {
        self.faults.push(Fault { at_ms: self.at_ms + lag_ms, kind });
    }

    fn node(&mut self) -> u16 {
        self.random.random_range(0..self.options.nodes)
    }

    /// A founder, or a machine that may have joined.
    fn any(&mut self) -> u16 {
        self.random.random_range(0..self.options.nodes + self.options.spares)
    }

    /// All machines but these.
    fn machines_but(&self, left_out: &[u16]) -> Vec<u16> {
        let machines = 0..self.options.nodes + self.options.spares;
        machines.filter(|node| !left_out.contains(node)).collect()
    }

    fn other(&mut self, than: u16) -> u16 {
        let all = self.options.nodes + if than < self.options.nodes { 0 } else { self.options.spares };
        (than + self.random.random_range(1..all)) % all
    }

    /// A shard of the ring, or the group of the ring map.
    fn shard(&mut self) -> u16 {
        let number = self.random.random_range(0..=self.options.shards);
        if number == self.options.shards { ShardId::META.0 } else { number }
    }

    /// How long a node is down: mostly shorter than an election takes, at times long.
    fn down_ms(&mut self) -> u64 {
        let most = pick(self.random, &[100, 400, 1_000, 3_000, 8_000]);
        self.random.random_range(20..=most)
    }

    /// How long something lasts: mostly about as long as an election takes.
    fn lasts_ms(&mut self) -> u64 {
        let most = pick(self.random, &[300, 1_000, 1_000, 3_000, 3_000, 10_000]);
        self.random.random_range(100..=most)
    }

    fn pause_ms(&mut self) -> u64 {
        let most = pick(self.random, &[300, 1_000, 3_000, 3_000, 30_000]);
        self.random.random_range(100..=most)
    }
}
