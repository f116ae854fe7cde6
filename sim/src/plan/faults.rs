//! What goes wrong in a plan, and when: bursts of faults close together, with quiet spells between in which a cluster finds
//! its feet again.
//!
//! Long because each scenario is a few lines, and one table names them all.
//!
//! A burst is made of scenarios: a few faults each whose order and distance is what reveals a kind of bug. Who leads when a
//! plan runs is not known when it is drawn, so scenarios that are aimed at a leader make one first, by handing it the shard.

use super::draw::{CLOCK_RATE_PPM_MAX, FAULTS_MIN, clock_rate, clocks_wrong_max, pick, wall_offset};
use super::{Fault, FaultKind, HeldUp, Options};
use kvorum_protocol::ShardId;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand_chacha::ChaCha8Rng;

/// Nothing goes wrong before the cluster has had the time to elect its first leaders, in milliseconds.
const FIRST_AT_MS: u64 = 1_500;
/// Most faults of a plan; more would leave no quiet.
const FAULTS_MAX: usize = 60;
/// More failures than a supervisor puts up with; some hit nothing, since a replica that recovers takes its time.
const PANICS_WITHOUT_END: u32 = 14;
/// Most scenarios of one burst.
const BURST_MAX: usize = 4;
/// How many of the plans have but one or two scenarios, again and again: nothing else gets in their way.
const FOCUS_SHARE: f64 = 0.25;
/// The shortest election timeout, in milliseconds.
const ELECTION_MS: u64 = 500;
/// How often a leader says that it is there.
const HEARTBEAT_MS: u64 = 100;
/// How long a follower with a fast clock refuses votes at least, less than a tick of it.
const REFUSAL_MS: u64 = 400;
/// A follower's turn is held up for less than this.
const HELD_MS_MAX: u64 = 180;

/// Faults that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scenario {
    /// One process dies.
    Kill,
    /// One dies, and another one as soon as it is back.
    KillInTurn,
    /// One machine loses power.
    PowerLoss,
    /// All of them do.
    PowerLossEverywhere,
    /// A process dies in the middle of writing.
    CrashPoint,
    /// Several do, one of them while it recovers from the first.
    CrashWhileRecovering,
    /// Stopped in good order.
    Restart,
    /// A process stands still.
    Pause,
    /// A leader stands still, another one is elected, and the first one goes on.
    PausedLeader,
    /// A shard's turn is held up in the middle.
    HeldTurn,
    /// So is one of a leader that is cut off, for longer than its lease lasts.
    HeldLeader,
    /// So is one of the follower that a leader's lease rests on, and then they lose each other.
    HeldFollower,
    /// Leadership is handed over.
    Transfers,
    /// It is handed over and the old or new leader stands still, or is cut off.
    TransferAndPause,
    /// A shard's actor panics.
    Panic,
    /// Actors of a shard panic on several nodes.
    PanicsEverywhere,
    /// Actors of one node panic again and again, until their supervisor gives up.
    PanicsWithoutEnd,
    /// Nobody reaches a node.
    Isolate,
    /// Clients still reach a leader whose followers don't hear from it.
    LeaderCutOff,
    /// Messages pass in one direction only.
    OneWay,
    /// Messages to and from a leader are held back.
    CloggedLeader,
    /// A sync fails; what it was to sync is lost at the power loss that follows.
    FailedSync,
    /// A write fails.
    FailedWrite,
    /// Files can't be read when a node starts.
    FailedReads,
    /// A node misses so much that entries can't help it any more, and something happens while it is given a snapshot.
    Lagging,
    /// A node misses much, and leadership moves while it is given a snapshot.
    Overtaken,
    /// A node starts again and has to read all records.
    LostHints,
    /// No room.
    Full,
    /// A sync takes long.
    Stall,
    /// The clock of a leader slows down, and another one's goes fast.
    SlowLeader,
    /// Wall clocks jump, and leadership moves between them.
    WallJumps,
    /// Every connection breaks, with answers on it.
    DropClients,
    /// The unlucky node's files are damaged, and it reads them again.
    Damage,
    /// The unlucky node comes back with an empty disk.
    Wipe,
    /// A node makes a ring map up.
    MadeUpMap,
    /// A node is gone for so long that it is given up, and comes back at any step of what follows.
    Gone,
    /// Machines join, nodes are removed, and something happens while replicas move.
    Resize,
}

impl Scenario {
    const ALL: [Self; 37] = [
        Self::Gone,
        Self::Resize,
        Self::LostHints,
        Self::Lagging,
        Self::Overtaken,
        Self::Kill,
        Self::KillInTurn,
        Self::PowerLoss,
        Self::PowerLossEverywhere,
        Self::CrashPoint,
        Self::CrashWhileRecovering,
        Self::Restart,
        Self::Pause,
        Self::PausedLeader,
        Self::HeldTurn,
        Self::HeldLeader,
        Self::HeldFollower,
        Self::Transfers,
        Self::TransferAndPause,
        Self::Panic,
        Self::PanicsEverywhere,
        Self::PanicsWithoutEnd,
        Self::Isolate,
        Self::LeaderCutOff,
        Self::OneWay,
        Self::CloggedLeader,
        Self::FailedSync,
        Self::FailedWrite,
        Self::FailedReads,
        Self::Full,
        Self::Stall,
        Self::SlowLeader,
        Self::WallJumps,
        Self::DropClients,
        Self::Damage,
        Self::Wipe,
        Self::MadeUpMap,
    ];

    /// Whether a cluster with these options survives it. What is only in page caches doesn't survive that machines lose
    /// power, nor that a failed sync drops it.
    fn is_survived(self, options: &Options) -> bool {
        options.fsync || !matches!(self, Self::PowerLoss | Self::PowerLossEverywhere | Self::FailedSync)
    }

    /// How often it is drawn in comparison with others that are switched on.
    fn weight(self) -> u32 {
        match self {
            Self::PowerLossEverywhere | Self::PausedLeader | Self::TransferAndPause => 3,
            Self::CrashPoint | Self::CrashWhileRecovering | Self::FailedSync | Self::KillInTurn => 3,
            Self::Resize => 3,
            Self::Wipe | Self::PanicsWithoutEnd | Self::MadeUpMap => 1,
            // Many small things are of use to a start that reads all records only.
            Self::LostHints => 4,
            _ => 2,
        }
    }
}

/// The faults of a plan, in order of time.
pub(super) fn draw(options: &Options, random: &mut ChaCha8Rng) -> Vec<Fault> {
    let swarm = swarm(options, random);
    let unlucky = random.random_range(0..options.nodes);
    let jumping = jumping(options, random);
    let mut draft = Draft { options, random, unlucky, jumping, at_ms: 0, faults: Vec::new() };
    let wanted = draft.random.random_range(FAULTS_MIN..=FAULTS_MAX);
    let bursts = (options.safety_ms / draft.random.random_range(3_000..12_000)).max(4);
    let spacing_ms = (options.safety_ms - FIRST_AT_MS) / bursts;
    // Whatever was drawn short of what is wanted is made up for in more rounds over the same time.
    while draft.faults.len() < wanted {
        for burst in 0..bursts {
            if draft.faults.len() >= wanted {
                break;
            }
            let begins_ms = FIRST_AT_MS + burst * spacing_ms + draft.random.random_range(0..spacing_ms / 2);
            for _ in 0..draft.random.random_range(1..=BURST_MAX) {
                let lag_ms = draft.random.random_range(0..2_000);
                draft.at_ms = begins_ms + lag_ms;
                let scenario = *swarm.choose_weighted(draft.random, |scenario| scenario.weight()).expect("some are on");
                draft.play(scenario);
            }
        }
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

impl Draft<'_> {
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

    fn kill(&mut self, in_turn: bool) {
        let (node, down_ms) = (self.node(), self.down_ms());
        self.now(FaultKind::Kill { node, down_ms });
        if in_turn {
            // The second one goes when the first one is just back, and perhaps not yet caught up.
            let back_ms = down_ms + self.random.random_range(0..1_000);
            let (other, other_down_ms) = (self.other(node), self.down_ms());
            self.after(back_ms, FaultKind::Kill { node: other, down_ms: other_down_ms });
        }
    }

    fn power_loss(&mut self) {
        let (node, down_ms) = (self.node(), self.down_ms());
        match self.random.random_range(0..4) {
            // What a killed process had written is in the page cache, and its successor builds on it.
            0 => {
                self.now(FaultKind::Kill { node, down_ms: 50 });
                let lag_ms = self.random.random_range(60..800);
                self.after(lag_ms, FaultKind::PowerLoss { node, down_ms });
            }
            // So does the successor of a shard's actor.
            1 => {
                for shard in 0..self.options.shards {
                    self.now(FaultKind::PanicShard { node, shard });
                }
                let lag_ms = self.random.random_range(20..400);
                self.after(lag_ms, FaultKind::PowerLoss { node, down_ms });
            }
            _ => self.now(FaultKind::PowerLoss { node, down_ms }),
        }
    }

    fn power_loss_everywhere(&mut self) {
        let down_ms = self.down_ms();
        match self.random.random_range(0..3) {
            // Right after a new leader has begun.
            0 => {
                self.make_leader();
            }
            // What killed processes had written is in page caches only.
            1 => {
                for node in 0..self.options.nodes {
                    self.now(FaultKind::Kill { node, down_ms: 50 });
                }
                self.at_ms += self.random.random_range(100..1_500);
            }
            _ => {}
        }
        self.now(FaultKind::PowerLossEverywhere { down_ms });
    }

    fn crash_points(&mut self, again: bool) {
        let node = self.node();
        let down_ms = self.random.random_range(50..500);
        let crash = |draft: &mut Self, node, lag_ms, operations: u32| {
            let operation = draft.random.random_range(1..=operations);
            let power = draft.options.fsync && draft.random.random_bool(0.6);
            let kind = if draft.random.random_bool(0.25) {
                FaultKind::CrashAtJournalFile { node, power, down_ms }
            } else {
                FaultKind::CrashAtOperation { node, operation, power, down_ms }
            };
            draft.after(lag_ms, kind);
        };
        crash(self, node, 0, 80);
        if again {
            // It is armed when the node is back, so the start itself is cut short.
            let lag_ms = down_ms + self.random.random_range(50..2_000);
            crash(self, node, lag_ms, 12);
        } else if self.random.random_bool(0.3) {
            let other = self.other(node);
            crash(self, other, 0, 80);
        }
    }

    fn paused_leader(&mut self) {
        let leader = self.make_leader();
        // Longer than a lease, shorter than all patience of its clients.
        let ms = pick(self.random, &[300, 600, 900, 1_200, 2_000, 4_000]) + self.random.random_range(0..300);
        self.now(FaultKind::Pause { node: leader, ms });
    }

    fn held_turns(&mut self) {
        for _ in 0..self.random.random_range(1..=3) {
            let (node, shard, before) = (self.node(), self.shard(), self.held_up());
            let most = pick(self.random, &[60, 200, 600, 3_000]);
            let ms = self.random.random_range(10..=most);
            self.now(FaultKind::HoldTurn { node, shard, before, ms });
            self.at_ms += self.random.random_range(0..200);
        }
    }

    /// Mostly before its inbox is looked at: whatever comes in meanwhile must be judged by the time at which it is over.
    fn held_up(&mut self) -> HeldUp {
        let drain = HeldUp::Drain;
        pick(self.random, &[drain, drain, drain, drain, HeldUp::Clock, HeldUp::Work, HeldUp::Effects])
    }

    fn held_leader(&mut self) {
        let (shard, node, before) = (self.shard(), self.node(), self.held_up());
        self.now(FaultKind::Transfer { shard, to: node });
        self.at_ms += self.random.random_range(100..800);
        // Another leader needs an election timeout and a half, its clients a second to give the old one up, and time to write.
        let ms = self.random.random_range(2_000..5_000);
        self.now(FaultKind::CutFromPeers { node, ms: ms + 300 });
        self.after(5, FaultKind::HoldTurn { node, shard, before, ms });
    }

    /// Several times, for several shards at once: the others must ask for votes within the few milliseconds by which a lease would be
    /// too long.
    fn held_follower(&mut self) {
        let leader = self.node();
        let follower = self.other(leader);
        let machines = 0..self.options.nodes + self.options.spares;
        let others: Vec<u16> = machines.filter(|node| *node != leader && *node != follower).collect();
        if self.random.random_bool(0.8) {
            self.now(FaultKind::ClockRate { node: leader, ppm: -CLOCK_RATE_PPM_MAX });
            self.now(FaultKind::ClockRate { node: follower, ppm: CLOCK_RATE_PPM_MAX });
        }
        for _ in 0..self.random.random_range(1..=4) {
            let shards = self.led_by(leader);
            self.at_ms += self.random.random_range(400..1_000);
            for node in others.iter().copied() {
                self.after(HELD_MS_MAX, FaultKind::CutOneWay { from: leader, to: node, ms: 1_600 });
                self.after(HELD_MS_MAX, FaultKind::CutOneWay { from: node, to: leader, ms: 1_600 });
            }
            // What the follower has heard last it refuses votes after for nearly as long as a lease lasts: then they are asked for.
            let over_ms = HELD_MS_MAX + self.asks_ms() - REFUSAL_MS - self.random.random_range(0..HEARTBEAT_MS);
            // From one heartbeat to the next, or a bit longer: more is not made up for when its ticks come.
            let (before, ms) = (self.held_up(), self.random.random_range(80..HELD_MS_MAX));
            for shard in shards {
                self.after(over_ms - ms, FaultKind::HoldTurn { node: follower, shard, before, ms });
            }
            // The answer that the lease rests on still arrives.
            let lag_ms = over_ms + self.random.random_range(0..80);
            self.after(lag_ms, FaultKind::CutOneWay { from: leader, to: follower, ms: 1_000 });
            self.after(lag_ms, FaultKind::CutOneWay { from: follower, to: leader, ms: 1_000 });
            self.at_ms += self.random.random_range(2_500..4_000);
        }
    }

    /// Hands the ring map's group and some shards to a node. Mostly nobody writes to the one: who was cut off from what was written
    /// can't be elected.
    fn led_by(&mut self, leader: u16) -> Vec<u16> {
        let mut shards = vec![ShardId::META.0];
        shards.extend((0..self.options.shards).filter(|_| self.random.random_bool(0.4)));
        shards.iter().for_each(|shard| self.now(FaultKind::Transfer { shard: *shard, to: leader }));
        shards
    }

    /// When a voter of three asks for votes that has lost its leader, at first or again: each has a part of the time from one shortest
    /// election timeout to two.
    fn asks_ms(&mut self) -> u64 {
        pick(self.random, &[0, 1, 2]) * ELECTION_MS / 3 + ELECTION_MS
    }

    fn leader_cut_off(&mut self) {
        let leader = self.make_leader();
        if self.random.random_bool(0.4) {
            return self.follower_cut_off(leader);
        }
        let ms = self.lasts_ms();
        self.now(FaultKind::CutFromPeers { node: leader, ms });
        if self.random.random_bool(0.3) {
            // What it took alone is superseded, and leaves the log, before it is started again.
            let (lag_ms, down_ms) = (self.random.random_range(1_500..8_000), self.down_ms());
            return self.after(ms + lag_ms, FaultKind::Kill { node: leader, down_ms });
        }
        if self.random.random_bool(0.4) {
            // Its followers start again while its lease lasts, and must not vote before that is over.
            for node in (0..self.options.nodes).filter(|node| *node != leader) {
                let (lag_ms, down_ms) = (self.random.random_range(0..60), self.random.random_range(10..80));
                self.after(lag_ms, FaultKind::Kill { node, down_ms });
            }
        }
    }

    /// A follower that doesn't hear from the leader asks for votes, and those who do hear from it start again just before: they
    /// must not forget that the leader counts on them.
    fn follower_cut_off(&mut self, leader: u16) {
        self.led_by(leader);
        self.at_ms += self.random.random_range(100..600);
        let follower = self.other(leader);
        let ms = self.random.random_range(1_500..4_000);
        self.now(FaultKind::CutOneWay { from: leader, to: follower, ms });
        self.now(FaultKind::CutOneWay { from: follower, to: leader, ms });
        let machines = 0..self.options.nodes + self.options.spares;
        for node in machines.filter(|node| *node != leader && *node != follower) {
            let mut asks_ms = self.asks_ms();
            for _ in 0..self.random.random_range(1..=3) {
                let (early_ms, down_ms) = (self.random.random_range(50..400), self.random.random_range(10..60));
                self.after(asks_ms - early_ms, FaultKind::Kill { node, down_ms });
                asks_ms += self.asks_ms();
            }
        }
    }

    fn clogged_leader(&mut self) {
        let leader = self.make_leader();
        if self.random.random_bool(0.5) {
            let ms = self.lasts_ms();
            return self.now(FaultKind::Clog { node: leader, ms });
        }
        // Old answers come all at once, and then none: they must not make a lease look fresh.
        let clogged_ms = self.random.random_range(150..800);
        self.now(FaultKind::Clog { node: leader, ms: clogged_ms });
        let lag_ms = clogged_ms + self.random.random_range(0..40);
        let ms = self.random.random_range(500..2_500);
        self.after(lag_ms, FaultKind::CutFromPeers { node: leader, ms });
    }

    fn transfers(&mut self) {
        for _ in 0..self.random.random_range(1..=4) {
            let (shard, to) = (self.shard(), self.node());
            self.now(FaultKind::Transfer { shard, to });
            self.at_ms += self.random.random_range(1..400);
        }
    }

    fn transfer_and_pause(&mut self) {
        let old = self.make_leader();
        let (shard, new) = (self.shard(), self.other(old));
        self.now(FaultKind::Transfer { shard, to: new });
        self.at_ms += pick(self.random, &[0, 1, 5, 20, 60]);
        let node = pick(self.random, &[old, old, new]);
        let ms = self.random.random_range(200..2_000);
        let kind = match self.random.random_range(0..4) {
            0 | 1 => FaultKind::Pause { node, ms },
            2 => FaultKind::Clog { node, ms },
            _ => FaultKind::CutFromPeers { node, ms },
        };
        self.now(kind);
    }

    fn panics_everywhere(&mut self) {
        let shard = self.shard();
        for node in 0..self.options.nodes {
            let lag_ms = self.random.random_range(0..300);
            self.after(lag_ms, FaultKind::PanicShard { node, shard });
        }
    }

    /// More of them than a supervisor puts up with, each as soon as the actor is back from the one before.
    fn panics_without_end(&mut self) {
        let (node, shard) = (self.node(), self.shard());
        for number in 0..PANICS_WITHOUT_END {
            self.now(FaultKind::PanicShard { node, shard });
            // The supervisor waits twice as long each time, from 10 ms up to 2 s; by a clock that may be slow.
            self.at_ms += (10 << number).min(2_000) * 11 / 10 + self.random.random_range(10..100);
        }
    }

    fn one_way(&mut self) {
        let from = self.make_leader();
        let to = self.other(from);
        let ms = self.lasts_ms();
        let (from, to) = if self.random.random() { (from, to) } else { (to, from) };
        self.now(FaultKind::CutOneWay { from, to, ms });
        if self.random.random_bool(0.4) {
            let (from, to) = (self.other(to), to);
            self.now(FaultKind::CutOneWay { from, to, ms });
        }
    }

    fn failed_sync(&mut self) {
        let (node, journal) = (self.node(), self.random.random_bool(0.6));
        self.now(FaultKind::SyncFails { node, journal });
        let lag_ms = pick(self.random, &[20, 200, 1_000, 3_000]) + self.random.random_range(0..200);
        let down_ms = self.down_ms();
        let kind = match self.random.random_range(0..3) {
            0 => FaultKind::PowerLossEverywhere { down_ms },
            _ => FaultKind::PowerLoss { node, down_ms },
        };
        self.after(lag_ms, kind);
    }

    fn failed_reads(&mut self) {
        let node = self.node();
        let count = self.random.random_range(1..=4);
        self.now(FaultKind::ReadsFail { node, count });
        let shard = self.shard();
        let lag_ms = self.random.random_range(0..50);
        // Either reads files again.
        let kind = match self.random.random_bool(0.5) {
            true => FaultKind::PanicShard { node, shard },
            false => FaultKind::Restart { node, down_ms: 100 },
        };
        self.after(lag_ms, kind);
    }

    /// Out of touch for long; and when it is back, the snapshot that it is given is interrupted.
    fn lagging(&mut self) {
        let (node, ms) = (self.node(), self.random.random_range(4_000..15_000));
        let kind = match self.random.random_range(0..4) {
            0 => FaultKind::Pause { node, ms },
            1 => FaultKind::Kill { node, down_ms: ms },
            2 => FaultKind::Isolate { node, ms },
            _ => FaultKind::CutFromPeers { node, ms },
        };
        self.now(kind);
        for _ in 0..self.random.random_range(0..3) {
            let lag_ms = ms + self.random.random_range(0..2_500);
            let (other, shard, down_ms) = (self.other(node), self.shard(), self.random.random_range(50..400));
            let (operation, power) =
                (self.random.random_range(1..20), self.options.fsync && self.random.random_bool(0.5));
            let kind = match self.random.random_range(0..7) {
                0 => FaultKind::Kill { node, down_ms },
                1 => FaultKind::Kill { node: other, down_ms },
                2 => FaultKind::PanicShard { node, shard },
                3 => FaultKind::CutOneWay { from: other, to: node, ms: 700 },
                4 => FaultKind::Transfer { shard, to: other },
                _ => FaultKind::CrashAtOperation { node, operation, power, down_ms },
            };
            self.after(lag_ms, kind);
        }
    }

    /// Out of touch for a while; meanwhile the disk of another node is full, which so keeps few entries for followers. It is back:
    /// who leads offers a snapshot, and the next leader may have the entries.
    fn overtaken(&mut self) {
        let (shard, node) = (self.shard(), self.node());
        let leader = self.other(node);
        let ms = self.random.random_range(1_000..6_000);
        self.now(FaultKind::Isolate { node, ms });
        let (lag_ms, room_bytes) = (self.random.random_range(0..ms), pick(self.random, &[0, 4_096, 16_384]));
        self.after(lag_ms, FaultKind::DiskFills { node: leader, room_bytes, ms: (ms - lag_ms) / 2 });
        // It leads again when it has room, and before the other one is back.
        self.after(ms - 300, FaultKind::Transfer { shard, to: leader });
        self.at_ms += ms;
        for _ in 0..self.random.random_range(1..=4) {
            self.at_ms += self.random.random_range(20..600);
            let to = self.other(node);
            self.now(FaultKind::Transfer { shard, to });
        }
    }

    /// Full at once, or after some more has been written; perhaps on every node, and perhaps started again meanwhile.
    fn full(&mut self) {
        // Long enough, now and then, for leadership to leave the disk, and for a leader that stays to be noticed.
        let lasts_ms = self.lasts_ms();
        let ms = if lasts_ms > 3_000 { 4 * lasts_ms } else { lasts_ms };
        let nodes = if self.random.random_bool(0.3) {
            0..self.options.nodes
        } else {
            let node = self.node();
            node..node + 1
        };
        for node in nodes {
            let room_bytes = pick(self.random, &[0, 4_096, 16_384, 65_536, 200_000]);
            let kind = match self.random.random_bool(0.3) {
                true => FaultKind::DiskFull { node, ms },
                false => FaultKind::DiskFills { node, room_bytes, ms },
            };
            self.now(kind);
            if self.random.random_bool(0.2) {
                let lag_ms = self.random.random_range(0..ms);
                self.after(lag_ms, FaultKind::Kill { node, down_ms: 100 });
            }
        }
    }

    fn slow_leader(&mut self) {
        let leader = self.make_leader();
        let (slow, other) = (self.random.random_bool(0.7), self.other(leader));
        let (its, others) = if slow { (-50_000, 50_000) } else { (clock_rate(self.random), clock_rate(self.random)) };
        self.now(FaultKind::ClockRate { node: leader, ppm: its });
        self.now(FaultKind::ClockRate { node: other, ppm: others });
        let ms = self.random.random_range(500..4_000);
        self.after(20, FaultKind::CutFromPeers { node: leader, ms });
    }

    fn wall_jumps(&mut self) {
        for _ in 0..self.random.random_range(1..=3) {
            let (node, ms) = (pick(self.random, &self.jumping), wall_offset(self.random));
            let leads_first = self.random.random_bool(0.5);
            if leads_first {
                let shard = self.shard();
                self.now(FaultKind::Transfer { shard, to: node });
                self.at_ms += self.random.random_range(50..600);
            }
            self.now(FaultKind::WallJump { node, ms });
            self.at_ms += self.random.random_range(0..300);
            if !leads_first {
                let shard = self.shard();
                self.now(FaultKind::Transfer { shard, to: node });
                self.at_ms += self.random.random_range(0..600);
            }
            if self.random.random_bool(0.4) {
                // It flaps, and is in the end what it was.
                for number in 1..2 * self.random.random_range(1..5) {
                    let back = if number % 2 == 1 { -ms } else { ms };
                    self.at_ms += self.random.random_range(100..2_000);
                    self.now(FaultKind::WallJump { node, ms: back });
                }
            }
        }
    }

    fn damage(&mut self) {
        let node = self.unlucky;
        let journal = self.random.random_bool(0.5);
        let kind = match self.random.random_range(0..10) {
            0..4 => FaultKind::MisdirectWrite { node },
            4..7 => FaultKind::LoseManifests { node },
            _ => FaultKind::FlipBit { node, journal },
        };
        self.now(kind);
        if self.random.random_bool(0.4) {
            // Nothing reads the damaged file soon: the scrubber finds it, or a later start.
            return;
        }
        // A damaged file shows when it is read.
        let down_ms = self.random.random_range(50..1_000);
        let lag_ms = self.random.random_range(5..500);
        let kind = match self.random.random_bool(0.5) && self.options.fsync {
            true => FaultKind::PowerLoss { node, down_ms },
            false => FaultKind::Kill { node, down_ms },
        };
        self.after(lag_ms, kind);
    }

    /// It is replaced, and has to be given everything anew. At times again and again, in a rhythm that meets what nodes do at
    /// intervals of their own; and while it is gone, it may be asked to lead.
    fn wipe(&mut self) {
        let node = self.unlucky;
        let mut down_ms = self.down_ms();
        for again in (0..=pick(self.random, &[0, 0, 1, 2, 4])).rev() {
            self.now(FaultKind::Wipe { node, down_ms });
            if self.random.random_bool(0.5) {
                let (shard, lag_ms) = (self.shard(), self.random.random_range(1..400));
                self.after(lag_ms, FaultKind::Transfer { shard, to: node });
            }
            if again > 0 {
                self.at_ms += self.random.random_range(1_500..6_000);
                down_ms = self.random.random_range(20..400);
            }
        }
    }

    fn gone(&mut self) {
        for node in self.options.nodes..self.options.nodes + self.options.spares {
            self.now(FaultKind::Join { node });
        }
        self.at_ms += self.random.random_range(0..3_000);
        let (node, down_ms) = (self.any(), self.random.random_range(9_000..40_000));
        let kind = match self.random.random_range(0..3) {
            0 => FaultKind::Isolate { node, ms: down_ms },
            _ => FaultKind::Kill { node, down_ms },
        };
        self.now(kind);
        if self.random.random_bool(0.4) {
            let (lag_ms, node, down_ms) = (self.random.random_range(9_000..20_000), self.any(), self.down_ms());
            self.after(lag_ms, FaultKind::Kill { node, down_ms });
        }
    }

    /// A shard's replica moves, and some time after that its leader is lost for good and the others start again: what they know
    /// of who is in their group must be on their disks.
    fn moved_and_lost(&mut self) {
        let (leader, other) = (self.unlucky, self.other(self.unlucky));
        for shard in 0..self.options.shards {
            self.now(FaultKind::Transfer { shard, to: leader });
        }
        for node in self.options.nodes..self.options.nodes + self.options.spares {
            self.now(FaultKind::Join { node });
        }
        self.after(200, FaultKind::Remove { node: other });
        self.at_ms += self.random.random_range(6_000..20_000);
        self.now(FaultKind::Wipe { node: leader, down_ms: 300 });
        for node in (0..self.options.nodes + self.options.spares).filter(|node| *node != leader) {
            let lag_ms = self.random.random_range(0..100);
            self.after(lag_ms, FaultKind::Kill { node, down_ms: 200 });
        }
    }

    /// A move is taken back, because its target is to go as well, while the group's leader stands still and another one brings the move
    /// about. Back again, the first one finds that the map wants what it knows, and must not say that all is settled.
    fn taken_back(&mut self) {
        let mut machines: Vec<u16> = (0..self.options.nodes + self.options.spares).collect();
        machines.shuffle(self.random);
        let [first, next, leaves, target, keeper, ..] = machines[..] else { return };
        for node in self.options.nodes..self.options.nodes + self.options.spares {
            self.now(FaultKind::Join { node });
        }
        // Who joins has to be there for a while before it is given anything.
        self.at_ms += if self.options.spares > 0 { 7_000 } else { 0 };
        self.now(FaultKind::Transfer { shard: ShardId::META.0, to: keeper });
        for shard in 0..self.options.shards {
            self.now(FaultKind::Transfer { shard, to: first });
        }
        self.at_ms += self.random.random_range(200..800);
        self.now(FaultKind::Remove { node: leaves });
        self.at_ms += self.random.random_range(50..900);
        // A connection outlasts three seconds of silence.
        let ms = self.random.random_range(2_000..2_950);
        self.now(FaultKind::Pause { node: first, ms });
        for node in [next, leaves, target] {
            self.now(FaultKind::CutOneWay { from: first, to: node, ms: ms + 1_000 });
            self.now(FaultKind::CutOneWay { from: node, to: first, ms: ms + 1_000 });
        }
        let lag_ms = self.random.random_range(900..1_500);
        self.after(lag_ms, FaultKind::CutOneWay { from: next, to: keeper, ms: 2_000 });
        self.after(lag_ms, FaultKind::CutOneWay { from: keeper, to: next, ms: 2_000 });
        let lag_ms = self.random.random_range(1_000..1_900);
        self.after(lag_ms, FaultKind::Keep { node: leaves });
        self.after(lag_ms, FaultKind::Remove { node: target });
        self.after(8_000, FaultKind::Keep { node: target });
    }

    /// One change of who is in the cluster, or several that overlap, and faults at any step of the moves that follow.
    fn resize(&mut self) {
        match self.random.random_range(0..10) {
            0..3 => return self.moved_and_lost(),
            3..6 if self.options.nodes + self.options.spares >= 5 => return self.taken_back(),
            _ => {}
        }
        let first_spare = self.options.nodes;
        for _ in 0..self.random.random_range(1..=3) {
            let node = self.any();
            let kind = match self.random.random_range(0..10) {
                0..5 if self.options.spares > 0 => {
                    let node = first_spare + self.random.random_range(0..self.options.spares);
                    FaultKind::Join { node }
                }
                0..2 => FaultKind::Keep { node },
                8 if self.options.spares > 0 => FaultKind::Replace { old: node, new: first_spare },
                8 => FaultKind::Replace { old: node, new: self.other(node) },
                9 => FaultKind::Drain { node, ms: self.random.random_range(5_000..20_000) },
                _ => FaultKind::Remove { node },
            };
            self.now(kind);
            self.at_ms += pick(self.random, &[0, 100, 2_000, 6_000]);
        }
        for _ in 0..self.random.random_range(0..=3) {
            let lag_ms = self.random.random_range(0..6_000);
            let (node, shard, down_ms) = (self.any(), self.shard(), self.down_ms());
            let (other, operation) = (self.other(node), self.random.random_range(1..60));
            let power = self.options.fsync && self.random.random_bool(0.5);
            let kind = match self.random.random_range(0..8) {
                0 => FaultKind::Kill { node, down_ms },
                1 => FaultKind::Transfer { shard, to: node },
                2 => FaultKind::PanicShard { node, shard },
                3 => FaultKind::CutOneWay { from: node, to: other, ms: self.lasts_ms() },
                4 => FaultKind::Isolate { node, ms: self.lasts_ms() },
                5 => FaultKind::Pause { node, ms: self.pause_ms() },
                _ => FaultKind::CrashAtOperation { node, operation, power, down_ms },
            };
            self.after(lag_ms, kind);
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
