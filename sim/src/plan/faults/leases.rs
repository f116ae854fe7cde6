//! What leases and leadership must survive: leaders and followers that stand still, are held up, cut off, or wrong about the time.

use super::super::draw::{CLOCK_RATE_PPM_MAX, clock_rate, pick, wall_offset};
use super::super::{FaultKind, HeldUp};
use super::Draft;
use super::moves::Placed;
use kvorum_protocol::ShardId;
use rand::Rng as _;

/// The shortest election timeout, in milliseconds.
const ELECTION_MS: u64 = 500;
/// How often a leader says that it is there.
const HEARTBEAT_MS: u64 = 100;
/// A lease lasts no longer, by a clock that is slow.
const LEASE_MS_MAX: u64 = 400;
/// A follower's turn is held up for less than this: of longer ones no more than two ticks are made up for.
const HELD_MS_MAX: u64 = 150;

impl Draft<'_> {
    pub(super) fn paused_leader(&mut self) {
        let leader = self.make_leader();
        // Longer than a lease, shorter than all patience of its clients.
        let ms = pick(self.random, &[300, 600, 900, 1_200, 2_000, 4_000]) + self.random.random_range(0..300);
        self.now(FaultKind::Pause { node: leader, ms });
    }

    pub(super) fn held_turns(&mut self) {
        for _ in 0..self.random.random_range(1..=3) {
            let (node, shard, before) = (self.node(), self.shard(), self.held_up());
            let most = pick(self.random, &[60, 200, 600, 3_000]);
            let ms = self.random.random_range(10..=most);
            self.now(FaultKind::HoldTurn { node, shard, before, ms, deaf_ms: 0 });
            self.at_ms += self.random.random_range(0..200);
        }
    }

    /// Mostly before its inbox is looked at: whatever comes in meanwhile must be judged by the time at which it is over.
    fn held_up(&mut self) -> HeldUp {
        let drain = HeldUp::Drain;
        pick(self.random, &[drain, drain, drain, drain, HeldUp::Clock, HeldUp::Work, HeldUp::Effects])
    }

    pub(super) fn held_leader(&mut self) {
        let (shard, node, before) = (self.shard(), self.node(), self.held_up());
        self.now(FaultKind::Transfer { shard, to: node });
        self.at_ms += self.random.random_range(100..800);
        // Another leader needs an election timeout and a half, its clients a second to give the old one up, and time to write.
        let ms = self.random.random_range(2_000..5_000);
        self.now(FaultKind::CutFromPeers { node, ms: ms + 300 });
        self.after(5, FaultKind::HoldTurn { node, shard, before, ms, deaf_ms: 0 });
    }

    /// Others ask for votes again and again. The follower that hears the leader is held up each time until a heartbeat has come in, and
    /// hears no other one for as long as a lease lasts: a refusal that began before the heartbeat is over too soon.
    pub(super) fn held_follower(&mut self) {
        for _ in 0..self.random.random_range(1..=2) {
            let (leader, follower, shards) = self.led();
            if self.random.random_bool(0.9) {
                self.now(FaultKind::ClockRate { node: leader, ppm: -CLOCK_RATE_PPM_MAX });
                self.now(FaultKind::ClockRate { node: follower, ppm: CLOCK_RATE_PPM_MAX });
            }
            self.at_ms += self.random.random_range(400..1_000);
            let ms = self.random.random_range(2_000..4_000);
            self.cut_all_but(leader, follower, ms);
            let mut lag_ms = self.random.random_range(0..ELECTION_MS);
            while lag_ms + HELD_MS_MAX + LEASE_MS_MAX < ms {
                let shard = if self.random.random_bool(0.7) { shards[0] } else { pick(self.random, &shards) };
                let (before, ms) = (self.held_up(), self.random.random_range(10..HELD_MS_MAX));
                self.after(lag_ms, FaultKind::HoldTurn { node: follower, shard, before, ms, deaf_ms: LEASE_MS_MAX });
                lag_ms += ms + LEASE_MS_MAX + self.random.random_range(2 * HEARTBEAT_MS..4 * HEARTBEAT_MS);
            }
            self.at_ms += ms + self.random.random_range(500..1_500);
        }
    }

    /// A follower that does not hear the leader asks for votes, again and again. Those that do hear it start again each time they may
    /// have answered it, and hear nothing then for as long as a lease lasts: they must not forget that the leader counts on them.
    fn follower_cut_off(&mut self) {
        let (leader, follower, shards) = self.led();
        self.at_ms += self.random.random_range(300..900);
        let ms = self.random.random_range(1_500..3_000);
        self.now(FaultKind::CutOneWay { from: leader, to: follower, ms });
        self.now(FaultKind::CutOneWay { from: follower, to: leader, ms });
        let others = self.machines_but(&[leader, follower]);
        let mut lag_ms = self.random.random_range(0..ELECTION_MS);
        while lag_ms + LEASE_MS_MAX < ms {
            for node in others.iter().copied() {
                self.after(lag_ms, FaultKind::CutOneWay { from: leader, to: node, ms: LEASE_MS_MAX });
                match self.random.random_bool(0.5) {
                    true => {
                        let down_ms = self.random.random_range(10..60);
                        self.after(lag_ms, FaultKind::Kill { node, down_ms });
                    }
                    // Its connections are still there.
                    false => {
                        let shard = pick(self.random, &shards);
                        self.after(lag_ms, FaultKind::PanicShard { node, shard });
                    }
                }
            }
            lag_ms += LEASE_MS_MAX + self.random.random_range(HEARTBEAT_MS..4 * HEARTBEAT_MS);
        }
    }

    /// Cuts a node off from all machines but one.
    fn cut_all_but(&mut self, node: u16, but: u16, ms: u64) {
        for other in self.machines_but(&[node, but]) {
            self.now(FaultKind::CutOneWay { from: node, to: other, ms });
            self.now(FaultKind::CutOneWay { from: other, to: node, ms });
        }
    }

    /// A leader, a follower of it, and the groups that it leads: that of the ring map and some shards. Mostly nobody writes to the one: who
    /// was cut off from what was written can't be elected. It is one that should lead the group by the first map, since a shard is
    /// soon given back to who should lead it.
    fn led(&mut self) -> (u16, u16, Vec<u16>) {
        let placed = Placed::at_first(self.options);
        let (leader, follower) = (placed.meta[0], pick(self.random, &placed.meta[1..]));
        let leads = |holders: &[u16]| holders[0] == leader && holders.contains(&follower);
        let led = placed.shards.iter().zip(0..).filter(|(holders, _)| leads(holders)).map(|(_, shard)| shard);
        let shards: Vec<u16> = [ShardId::META.0].into_iter().chain(led).collect();
        shards.iter().for_each(|shard| self.now(FaultKind::Transfer { shard: *shard, to: leader }));
        (leader, follower, shards)
    }

    pub(super) fn leader_cut_off(&mut self) {
        let leader = self.make_leader();
        if self.random.random_bool(0.4) {
            return self.follower_cut_off();
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

    pub(super) fn clogged_leader(&mut self) {
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

    pub(super) fn transfers(&mut self) {
        for _ in 0..self.random.random_range(1..=4) {
            let (shard, to) = (self.shard(), self.node());
            self.now(FaultKind::Transfer { shard, to });
            self.at_ms += self.random.random_range(1..400);
        }
    }

    /// A shard is handed on before those who pass requests on to its leader have heard of the hand-over before.
    pub(super) fn handed_on(&mut self) {
        let shard = self.random.random_range(0..self.options.shards);
        let mut to = self.node();
        for _ in 0..self.random.random_range(2..=6) {
            self.now(FaultKind::Transfer { shard, to });
            self.at_ms += self.random.random_range(5..200);
            to = self.other(to);
        }
        self.at_ms += self.random.random_range(200..2_000);
    }

    pub(super) fn transfer_and_pause(&mut self) {
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

    pub(super) fn one_way(&mut self) {
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

    pub(super) fn slow_leader(&mut self) {
        let leader = self.make_leader();
        let (slow, other) = (self.random.random_bool(0.7), self.other(leader));
        let (its, others) = if slow { (-50_000, 50_000) } else { (clock_rate(self.random), clock_rate(self.random)) };
        self.now(FaultKind::ClockRate { node: leader, ppm: its });
        self.now(FaultKind::ClockRate { node: other, ppm: others });
        let ms = self.random.random_range(500..4_000);
        self.after(20, FaultKind::CutFromPeers { node: leader, ms });
    }

    pub(super) fn wall_jumps(&mut self) {
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
}
