//! The ring map. Its group is a shard like the others here, and its keeper is production's: see `kvorum_core::map_keeper`. This
//! module notes what the keepers do, and says how far the replicas have come with the newest map.

use super::World;
use kvorum_core::map_keeper::Looked;
use kvorum_core::ring::decide::Change;
use kvorum_core::ring::rebalance::Step;
use kvorum_core::ring::{NodeState, ShardGroup};
use kvorum_protocol::{NodeId, ReplicaId};

impl World<'_> {
    /// A node's keeper looks at the map, if that is due.
    pub(super) fn look_at_map(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let (Looked { in_force, proposed, waits, removed, .. }, became) = process.look_at_map(&node.clock);
        if waits {
            self.count("replacements that had to wait");
        }
        if let Some((change, epoch)) = proposed {
            self.proposed_epoch = self.proposed_epoch.max(epoch);
            self.trace.note(
                self.time.now(),
                "ring map",
                &[at as u64, epoch],
                format_args!("node {at} proposes epoch {epoch}: {change:?}"),
            );
            match change {
                None
                | Some(
                    Change::Named(_) | Change::Addresses | Change::Disks | Change::Undrained(_) | Change::TokensOver(_),
                ) => {}
                Some(Change::DataKey(_)) => self.count("data keys taken into use"),
                Some(Change::Down(_)) => self.count("nodes found down, or up again"),
                Some(Change::Steps(steps)) => {
                    let instead = |step: &&Step| {
                        matches!(step, Step::Retarget { .. } | Step::Restore { .. } | Step::Withdraw { .. })
                    };
                    let instead = steps.iter().filter(instead).count() as u64;
                    self.count("steps of replicas");
                    self.add("moves whose target was lost", instead);
                }
                Some(Change::Removed(_)) => self.count("nodes removed"),
                Some(Change::Settled(_)) => self.count("groups settled"),
                Some(Change::Node(_)) => self.count("wiped disks replaced"),
                Some(Change::Replica(..)) => self.count("faulty replicas replaced"),
            }
        }
        if let Some(ring) = in_force {
            self.trace.note(
                self.time.now(),
                "ring map",
                &[at as u64, ring.epoch],
                format_args!("epoch {} is in force on node {at}", ring.epoch),
            );
            if ring.epoch > self.proposed_epoch {
                self.violate("ring-map", format!("node {at} follows epoch {}, which nobody has proposed", ring.epoch));
            }
            if ring.epoch > self.ring.epoch || self.ring.epoch == self.initial.epoch {
                self.ring = ring;
            }
        }
        self.look_at_erased(at);
        if removed {
            return self.leave(at);
        }
        if !self.crash_if_reached(at) {
            self.replicas_became(at, became);
        }
    }

    /// What is not as the ring map wants it, if anything isn't: every replica open, in its group, and up to date.
    pub(super) fn unfinished(&self) -> Option<String> {
        let members = self.nodes.iter().enumerate().filter(|(_, node)| self.ring.has_node(node.id) && !node.gone);
        for (at, node) in members {
            let follows = node.process.as_ref().and_then(|process| process.router.agreed_ring()).map(|ring| ring.epoch);
            if follows != Some(self.ring.epoch) {
                return Some(format!("node {at} follows ring map {follows:?} instead of {}", self.ring.epoch));
            }
        }
        if let Some(node) = self.ring.nodes.iter().find(|node| node.state == NodeState::Removing)
            && !self.nothing_can_move()
        {
            return Some(format!("{} is still being removed: {:?}", node.name, self.ring));
        }
        if let Some(node) = self.ring.nodes.iter().find(|node| node.down && !self.is_gone(NodeId(node.id))) {
            return Some(format!("{} is still down by the map", node.name));
        }
        // With too few nodes left, a move whose target is lost has nowhere else to go.
        let is_stranded = |shard, group: &ShardGroup| {
            let nodes = group.held().filter_map(|held| self.ring.node_at(held.node));
            !self.may_be_whole(shard) && nodes.map(|node| NodeId(node.id)).any(|id| self.is_gone(id))
        };
        let mut moving = self.ring.group_ids().zip(self.ring.groups()).filter(|(_, group)| group.is_moving());
        if let Some((shard, group)) = moving.find(|(shard, group)| !is_stranded(*shard, group)) {
            return Some(format!("shard {shard} is still moving: {group:?}"));
        }
        let settled = self.ring.group_ids().zip(self.ring.groups()).filter(|(_, group)| !group.is_moving());
        for (shard, _) in settled {
            let wanted: Vec<ReplicaId> = self.ring.replicas(shard).iter().map(|held| ReplicaId(held.replica)).collect();
            let mut most = None;
            let mut least = None;
            for held in self.ring.replicas(shard) {
                let Some(id) = self.ring.node_of(shard, ReplicaId(held.replica)) else { continue };
                let Some(node) = self.nodes.iter().find(|node| node.id == id) else { continue };
                let of = |id: NodeId| format!("shard {shard}, replica {} on node {id}", held.replica);
                if node.gone {
                    if self.may_be_whole(shard) {
                        return Some(format!("{} is on a machine that is gone, and others could hold it", of(node.id)));
                    }
                    continue;
                }
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
