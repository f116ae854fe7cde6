//! The ring map: who decides on changes of it, and what nodes do about a new one.
//!
//! There is no `meta` group in a simulation. The world keeps its map and lets one node speak for the group at a time: one that
//! would hold a replica of it, with the folder that the map names, in touch with a majority of its kind. What that node
//! sees is what its own peer table holds, and the decision is `ring::keeper`'s. The map then travels as it does in
//! production: as a message, from node to node.

use super::node::Ended;
use super::{Event, World};
use kvorum_node::clock::Clock as _;
use kvorum_node::ring::keeper::{self, Change, Decision, Seen};
use kvorum_protocol::{NodeId, ReplicaId, ShardId};

/// How often the map is looked at.
const KEEP_EVERY_MS: u64 = 200;

impl World<'_> {
    /// The node that speaks for `meta` puts the map in force and decides whether it should be another one.
    pub(super) fn keep(&mut self) {
        self.queue.push(self.now().after_ms(KEEP_EVERY_MS), Event::Keep);
        let Some(at) = self.keeper() else { return };
        let (me, folder, now) = (self.nodes[at].id, self.nodes[at].disk_id, self.nodes[at].clock.monotonic());
        self.take_map(at);
        let Some(process) = &self.nodes[at].process else { return };
        let router = &process.router;
        let mut faulty = router.peer_table().faulty(now);
        faulty.extend(router.faulty().into_iter().map(|(shard, replica)| (me, shard, replica)));
        let seen = Seen { me, folder, peers: router.peer_table().presences(now), faulty };
        match keeper::decide(&self.ring, &seen) {
            Decision::Rest => {}
            Decision::Wait(..) => self.count("replacements that had to wait"),
            Decision::Change(next, change) => {
                self.trace.note(
                    self.time.now(),
                    "ring map",
                    &[at as u64, next.epoch],
                    format_args!("epoch {} by node {at}: {change:?}", next.epoch),
                );
                match change {
                    Change::Named(_) => {}
                    Change::Node(_) => self.count("wiped disks replaced"),
                    Change::Replica(..) => self.count("faulty replicas replaced"),
                }
                self.ring = *next;
                self.take_map(at);
            }
        }
    }

    /// The node that speaks for `meta`, if one can.
    fn keeper(&self) -> Option<usize> {
        let of_meta: Vec<usize> = self.ring.replicas(ShardId::META).iter().map(|held| usize::from(held.node)).collect();
        let is_well = |at: usize| {
            let node = &self.nodes[at];
            node.process.is_some()
                && node.paused_until.is_none_or(|until| until <= self.now())
                && self.ring.disk_of(node.id) == Some(node.disk_id)
        };
        let reaches = |one: usize, other: usize| {
            one == other
                || (self.peer_links.session(one, other).is_some()
                    && !self.peer_links.is_cut(one, other)
                    && !self.peer_links.is_cut(other, one))
        };
        let well: Vec<usize> = of_meta.iter().copied().filter(|at| is_well(*at)).collect();
        let speaks = |at: &usize| well.iter().filter(|other| reaches(*at, **other)).count() > of_meta.len() / 2;
        well.iter().copied().find(speaks)
    }

    /// A node learns the map that the world has.
    fn take_map(&mut self, at: usize) {
        let ring = self.ring.clone();
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let ended = process.take_map(&ring, &node.clock);
        self.followed(at, ended);
    }

    /// A node has done what a new map asks for.
    pub(super) fn followed(&mut self, at: usize, ended: Vec<(ShardId, Ended)>) {
        if self.crash_if_reached(at) {
            return;
        }
        for (shard, how) in ended {
            if matches!(how, Ended::Fine) {
                self.check_recovered(at, shard);
            }
            self.shard_ended(at, shard, how);
        }
        self.flush(at);
    }

    /// What is not as the ring map wants it, if anything isn't: every replica open, in its group, and up to date.
    pub(super) fn unfinished(&self) -> Option<String> {
        for number in 0..self.ring.shards.len() as u16 {
            let shard = ShardId(number);
            let wanted: Vec<ReplicaId> = self.ring.replicas(shard).iter().map(|held| ReplicaId(held.replica)).collect();
            let mut most = None;
            let mut least = None;
            for held in self.ring.replicas(shard) {
                let node = &self.nodes[usize::from(held.node)];
                let of = |id: NodeId| format!("shard {shard}, replica {} on node {id}", held.replica);
                let host = node.process.as_ref().and_then(|process| process.shards.get(&shard)?.host.as_ref());
                let Some(host) = host.filter(|host| host.shard().replica().0 == held.replica) else {
                    return Some(format!("{} is not open", of(node.id)));
                };
                let mut voters = host.shard().membership().voters.clone();
                let mut all = wanted.clone();
                voters.sort_unstable();
                all.sort_unstable();
                let membership = host.shard().membership();
                if voters != all || !membership.learners.is_empty() || !membership.voters_outgoing.is_empty() {
                    return Some(format!("{} has {membership:?} instead of {wanted:?}", of(node.id)));
                }
                let applied = host.shard().store().applied().0;
                most = most.max(Some(applied));
                least = Some(least.map_or(applied, |least: u64| least.min(applied)));
            }
            if most > least.map(|least| least + 64) {
                return Some(format!("shard {shard}: replicas stand between entries {least:?} and {most:?}"));
            }
        }
        None
    }
}
