//! What the ring map must survive: machines that join, nodes that leave or are gone, and replicas that move meanwhile.

use super::super::draw::pick;
use super::super::{FaultKind, Options};
use super::Draft;
use kvorum_core::limits::MOVES_OF_REMOVAL_MAX;
use kvorum_core::ring::{Candidate, meta_replication_factor, place};
use kvorum_protocol::ShardId;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use std::collections::BTreeSet;

impl Draft<'_> {
    /// A node hears but one other, which is too few for it to believe a new ring map, and not the one that leads the map's group. That other
    /// one leads shards, and goes on without a third node, which
    /// leaves. Then it hands over: by the map of its successor the third node is still there.
    pub(super) fn led_by_an_old_map(&mut self) {
        let stale = self.node();
        let leaves = self.other(stale);
        let mut others = self.machines_but(&[stale, leaves]);
        others.shuffle(self.random);
        let (leads, keeps_map) = (others[0], others[1]);
        self.hand_all_to(leads);
        self.now(FaultKind::Transfer { shard: ShardId::META.0, to: keeps_map });
        self.at_ms += self.random.random_range(200..500);
        let ms = self.random.random_range(3_000..5_000);
        for from in self.machines_but(&[stale, leads]) {
            self.now(FaultKind::CutOneWay { from, to: stale, ms });
        }
        let lag_ms = self.random.random_range(20..200);
        self.after(lag_ms, FaultKind::Remove { node: leaves });
        let ends_ms = self.at_ms + ms;
        while self.at_ms < ends_ms {
            self.at_ms += self.random.random_range(300..800);
            self.hand_all_to(stale);
            self.at_ms += self.random.random_range(200..600);
            self.hand_all_to(leads);
        }
        self.at_ms += self.random.random_range(500..2_000);
        self.now(FaultKind::Keep { node: leaves });
        self.at_ms += self.random.random_range(3_000..5_000);
    }

    fn hand_all_to(&mut self, node: u16) {
        for shard in 0..self.options.shards {
            self.now(FaultKind::Transfer { shard, to: node });
        }
    }

    /// Machines are lost for good. The first time all is quiet, or replicas are on their way; then while others are away for a moment, or
    /// one is drained.
    pub(super) fn lost_for_good(&mut self) {
        self.at_ms = super::SETTLED_AT_MS;
        for node in self.options.nodes..self.options.nodes + self.options.spares {
            self.now(FaultKind::Join { node });
        }
        let mut machines = self.machines_but(&[]);
        machines.shuffle(self.random);
        if self.random.random_bool(0.3) {
            let node = machines[machines.len() - 1];
            self.now(FaultKind::Remove { node });
        }
        self.at_ms += self.random.random_range(0..4_000);
        let lost = self.random.random_range(2..=machines.len() - 2);
        for node in &machines[..lost] {
            self.now(FaultKind::GoneForGood { node: *node });
            for _ in 0..self.random.random_range(0..4) {
                let (lag_ms, other) = (self.random.random_range(0..15_000), pick(self.random, &machines));
                let (down_ms, ms) = (self.down_ms(), self.pause_ms());
                let kind = match self.random.random_range(0..6) {
                    0 => FaultKind::Kill { node: other, down_ms },
                    1 => FaultKind::Restart { node: other, down_ms },
                    2 => FaultKind::Pause { node: other, ms },
                    3 => FaultKind::CutFromPeers { node: other, ms },
                    4 => FaultKind::Drain { node: other, ms: self.random.random_range(1_000..20_000) },
                    _ => FaultKind::Transfer { shard: self.shard(), to: other },
                };
                self.after(lag_ms, kind);
            }
            // About as long as it takes to find out and to make a group anew, or less.
            self.at_ms += self.random.random_range(6_000..30_000);
        }
    }

    pub(super) fn gone(&mut self) {
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
    pub(super) fn moved_and_lost(&mut self) {
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

    /// A move is taken back in a cluster that has always had the same nodes.
    pub(super) fn placed_and_taken_back(&mut self) {
        let moves = Placed::at_first(self.options).moves_to_take_back();
        let (roles, shard) = *moves.choose(self.random).expect("such a cluster has one");
        self.take_back(roles, &[shard]);
        // The group's way back takes time as well.
        self.at_ms += self.random.random_range(11_000..14_000);
    }

    /// A move is taken back, whoever holds what.
    fn taken_back(&mut self) {
        let mut machines = self.machines_but(&[]);
        machines.shuffle(self.random);
        let [first, next, leaves, target, keeper, ..] = machines[..] else { return };
        for node in self.options.nodes..self.options.nodes + self.options.spares {
            self.now(FaultKind::Join { node });
        }
        // Who joins has to be there for a while before it is given anything.
        self.at_ms += if self.options.spares > 0 { 7_000 } else { 0 };
        let shards: Vec<u16> = (0..self.options.shards).collect();
        self.take_back(Roles { first, next, leaves, target, keeper }, &shards);
    }

    /// A move is taken back, because its target is to go as well, while the group's leader stands still and another one brings the move
    /// about. Back again, the first one finds that the map wants what it knows, and must not say that all is settled.
    fn take_back(&mut self, roles: Roles, shards: &[u16]) {
        let Roles { first, next, leaves, target, keeper } = roles;
        self.now(FaultKind::Transfer { shard: ShardId::META.0, to: keeper });
        for shard in shards.iter().copied() {
            self.now(FaultKind::Transfer { shard, to: first });
        }
        self.at_ms += self.random.random_range(200..800);
        self.now(FaultKind::Remove { node: leaves });
        // Once a second it is looked where everything should be.
        self.at_ms += self.random.random_range(20..200);
        // A connection outlasts three seconds of silence.
        let ms = self.random.random_range(2_200..2_950);
        self.now(FaultKind::Pause { node: first, ms });
        for node in [next, leaves] {
            self.now(FaultKind::CutOneWay { from: first, to: node, ms: ms + 1_000 });
            self.now(FaultKind::CutOneWay { from: node, to: first, ms: ms + 1_000 });
        }
        // It knows of the move by then, and hears late that it is taken back.
        let lag_ms = self.random.random_range(1_300..1_500);
        self.after(lag_ms, FaultKind::CutOneWay { from: next, to: keeper, ms: 2_500 });
        self.after(lag_ms, FaultKind::CutOneWay { from: keeper, to: next, ms: 2_500 });
        // Another leader is elected, and takes the first step of the move.
        let lag_ms = self.random.random_range(1_500..2_000);
        self.after(lag_ms, FaultKind::Keep { node: leaves });
        self.after(lag_ms, FaultKind::Remove { node: target });
        // Once that has come to something: who holds nothing is removed for good.
        let lag_ms = lag_ms + self.random.random_range(1_800..2_600);
        self.after(lag_ms, FaultKind::Keep { node: target });
    }

    /// One change of who is in the cluster, or several that overlap, and faults at any step of the moves that follow.
    pub(super) fn resize(&mut self) {
        match self.random.random_range(0..10) {
            0..3 => return self.moved_and_lost(),
            3 if self.options.nodes + self.options.spares >= 5 => return self.taken_back(),
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
                7..9 if self.options.spares > 0 => FaultKind::Replace { old: node, new: first_spare },
                7..9 => FaultKind::Replace { old: node, new: self.other(node) },
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
}

/// Who does what when a move is taken back.
#[derive(Clone, Copy, Debug)]
struct Roles {
    /// It leads the group, and stands still.
    first: u16,
    /// It may lead it next.
    next: u16,
    /// It is to go, and holds the replica that moves.
    leaves: u16,
    /// The replica moves to it, until it is to go instead.
    target: u16,
    /// It leads the group of the ring map. `first` hears of the map from it.
    keeper: u16,
}

/// Replicas of each shard.
const REPLICAS: u8 = 3;

/// Who holds the ring map's group, and who each shard: first the one that should lead.
pub(super) struct Placed {
    pub(super) meta: Vec<u16>,
    pub(super) shards: Vec<Vec<u16>>,
}

impl Placed {
    /// In a new cluster.
    pub(super) fn at_first(options: &Options) -> Self {
        let nothing = Self { meta: Vec::new(), shards: Vec::new() };
        nothing.next(options.nodes, options.shards, None)
    }

    /// Once a node is to go.
    fn without(&self, node: u16) -> Self {
        self.next(self.nodes().len() as u16, self.shards.len() as u16, Some(node))
    }

    /// The moves that may be taken back while the group's leader stands still, with their shards. That leader, and the one of the ring map's
    /// group, are those that should lead. Both stay in the latter group: so the first one hears of the map at once.
    fn moves_to_take_back(&self) -> Vec<(Roles, u16)> {
        let mut moves = Vec::new();
        let keeper = self.meta[0];
        for leaves in self.nodes() {
            let after = self.without(leaves);
            // Few replicas leave a node at a time: that of the ring map's group, then those of the first shards.
            let moving = self.shards.iter().zip(&after.shards).zip(0..).filter(|((held, _), _)| held.contains(&leaves));
            let of_meta = self.meta.iter().find(|node| !after.meta.contains(node));
            let at_once = MOVES_OF_REMOVAL_MAX - usize::from(of_meta == Some(&leaves));
            for ((held, then), shard) in moving.take(at_once) {
                let (first, next) = (held[0], held.iter().copied().find(|node| ![held[0], leaves].contains(node)));
                let target = then.iter().copied().find(|node| !held.contains(node));
                let (Some(next), Some(target)) = (next, target) else { continue };
                let hears = self.meta.contains(&first) && after.meta.contains(&first) && after.meta.contains(&keeper);
                // Without it the group of the ring map has a majority.
                let is_spared = !after.meta.contains(&next);
                if hears && is_spared && first != leaves && !held.contains(&keeper) && leaves != keeper {
                    moves.push((Roles { first, next, leaves, target, keeper }, shard));
                }
            }
        }
        moves
    }

    fn nodes(&self) -> BTreeSet<u16> {
        self.shards.iter().flatten().chain(&self.meta).copied().collect()
    }

    fn next(&self, nodes: u16, shards: u16, goes: Option<u16>) -> Self {
        let names: Vec<String> = (0..nodes).map(|node| node.to_string()).collect();
        let candidates = names.iter().zip(0..).map(|(zone, node)| {
            let stays = goes != Some(node);
            Candidate { zone, weight: 1, leads: 1, eligible: stays, may_receive: stays }
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let of_meta = meta_replication_factor(candidates.iter().filter(|node| node.eligible).count());
        let before = if self.meta.is_empty() { Vec::new() } else { vec![self.meta.clone()] };
        let all = place(&candidates, 1, of_meta, &before).and_then(|meta| {
            let shards = place(&candidates, shards, REPLICAS, &self.shards)?;
            Ok(Self { meta: meta.concat(), shards })
        });
        all.expect("there are more nodes than replicas")
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Plan;
    use super::*;

    #[test]
    fn a_cluster_of_five_has_moves_whose_leader_hears_of_the_map_while_nobody_of_its_group_reaches_it() {
        for shards in [4, 8] {
            let options = Options { nodes: 5, spares: 0, shards, ..Plan::draw(0).options };
            let placed = Placed::at_first(&options);
            let moves = placed.moves_to_take_back();
            assert!(!moves.is_empty(), "{shards} shards");
            for (Roles { first, next, leaves, target, keeper }, shard) in moves {
                let holders = &placed.shards[usize::from(shard)];
                assert_eq!((holders[0], placed.meta[0]), (first, keeper));
                assert!(holders.contains(&next) && holders.contains(&leaves) && !holders.contains(&target));
                assert!(!holders.contains(&keeper));
                assert_eq!(BTreeSet::from([first, next, leaves]).len(), 3);
            }
        }
    }
}
