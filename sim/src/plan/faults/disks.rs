//! What logs and journals must survive: processes that die, machines that lose power, disks that lie, are full or are empty, and
//! replicas that have fallen behind.

use super::super::FaultKind;
use super::super::draw::pick;
use super::Draft;
use rand::Rng as _;

/// More failures than a supervisor puts up with; some hit nothing, since a replica that recovers takes its time.
const PANICS_WITHOUT_END: u32 = 14;
/// Less than the world's disks leave free, and enough for a compaction.
const NEARLY_FULL_BYTES: u32 = 24_576;

impl Draft<'_> {
    pub(super) fn kill(&mut self, in_turn: bool) {
        let (node, down_ms) = (self.node(), self.down_ms());
        self.now(FaultKind::Kill { node, down_ms });
        if in_turn {
            // The second one goes when the first one is just back, and perhaps not yet caught up.
            let back_ms = down_ms + self.random.random_range(0..1_000);
            let (other, other_down_ms) = (self.other(node), self.down_ms());
            self.after(back_ms, FaultKind::Kill { node: other, down_ms: other_down_ms });
        }
    }

    pub(super) fn power_loss(&mut self) {
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

    pub(super) fn power_loss_everywhere(&mut self) {
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

    pub(super) fn crash_points(&mut self, again: bool) {
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

    pub(super) fn panics_everywhere(&mut self) {
        let shard = self.shard();
        for node in 0..self.options.nodes {
            let lag_ms = self.random.random_range(0..300);
            self.after(lag_ms, FaultKind::PanicShard { node, shard });
        }
    }

    /// More of them than a supervisor puts up with, each as soon as the actor is back from the one before.
    pub(super) fn panics_without_end(&mut self) {
        let (node, shard) = (self.node(), self.shard());
        for number in 0..PANICS_WITHOUT_END {
            self.now(FaultKind::PanicShard { node, shard });
            // The supervisor waits twice as long each time, from 10 ms up to 2 s; by a clock that may be slow.
            self.at_ms += (10 << number).min(2_000) * 11 / 10 + self.random.random_range(10..100);
        }
    }

    pub(super) fn failed_sync(&mut self) {
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

    pub(super) fn failed_reads(&mut self) {
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
    pub(super) fn lagging(&mut self) {
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
    pub(super) fn overtaken(&mut self) {
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

    /// A node is out of touch for about two seconds, in which less is written than a log keeps. The disk of another one is nearly full
    /// meanwhile: it drops all entries at its next look, and has room for that. It leads when the node is back, and offers a snapshot.
    /// The third one leads before all of that has come, and has the entries. All is quiet until they have caught up.
    pub(super) fn overtaken_while_quiet(&mut self) {
        let node = self.node();
        let leader = self.other(node);
        let next = (0..self.options.nodes).find(|other| ![node, leader].contains(other)).expect("there are three");
        let ms = self.random.random_range(2_100..2_600);
        self.now(FaultKind::Isolate { node, ms });
        // Files are looked at once a second.
        let (lag_ms, room_bytes) = (self.random.random_range(400..600), NEARLY_FULL_BYTES);
        self.after(lag_ms, FaultKind::DiskFills { node: leader, room_bytes, ms: ms - 450 - lag_ms });
        self.after(ms - 300, FaultKind::Transfer { shard: 0, to: leader });
        self.at_ms += ms + self.random.random_range(200..900);
        self.now(FaultKind::Transfer { shard: 0, to: next });
        self.at_ms += self.random.random_range(3_000..5_000);
    }

    /// One node is out of touch until entries can't help it, and all is quiet while it is given a snapshot.
    pub(super) fn slow_snapshot(&mut self) {
        let (node, ms) = (self.unlucky, self.random.random_range(3_000..7_000));
        let kind = match self.random.random_range(0..3) {
            0 => FaultKind::Kill { node, down_ms: ms },
            1 => FaultKind::Wipe { node, down_ms: ms },
            _ => FaultKind::Isolate { node, ms },
        };
        self.now(kind);
        self.at_ms += ms + self.random.random_range(6_000..9_000);
    }

    /// Full at once, or after some more has been written; perhaps on every node, and perhaps started again meanwhile.
    pub(super) fn full(&mut self) {
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

    pub(super) fn damage(&mut self) {
        let node = self.unlucky;
        if self.options.fsync && self.random.random_bool(0.3) {
            return self.astray_rounds(node);
        }
        let journal = self.random.random_bool(0.5);
        let kind = match self.random.random_range(0..10) {
            0..4 => FaultKind::MisdirectWrite { node, down_ms: 0 },
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

    /// A file is damaged, and its node goes on. The scrubber comes by every few seconds.
    pub(super) fn cold_damage(&mut self) {
        let node = self.unlucky;
        self.now(FaultKind::FlipBit { node, journal: false });
        self.at_ms += self.random.random_range(500..4_000);
    }

    /// Nothing but what lies elsewhere tells a round that was promised from a torn one. Several times: another fault may come between, or
    /// what lies elsewhere destroys a round that is needed.
    fn astray_rounds(&mut self, node: u16) {
        for _ in 0..self.random.random_range(1..=4) {
            let down_ms = self.random.random_range(50..500);
            self.now(FaultKind::MisdirectWrite { node, down_ms });
            self.at_ms += down_ms + self.random.random_range(1_000..3_000);
        }
    }

    /// It is replaced, and has to be given everything anew. At times again and again, in a rhythm that meets what nodes do at
    /// intervals of their own; and while it is gone, it may be asked to lead.
    pub(super) fn wipe(&mut self) {
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
}
