//! The map of a cluster of which an operator has given nodes up, with groups that have lost their quorum for good. Only
//! `kvorum recover` makes such a map: nothing that runs by itself does.
//!
//! Its epoch is far above every epoch that could have been agreed on before. So whoever returns with an older map is a stranger,
//! and nodes that meet know from the two epochs alone that an operator has been at work in between.

use super::moves::push_bounded;
use super::{FIRST_REPLICAS_MAX, Holder, NodeSlot, REMOVED_NODES_MAX, RETIRED_FOLDERS_MAX, RingMap, ShardGroup};
use kvorum_protocol::{FolderId, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// By so much each recovery raises the epoch.
pub const RECOVERY_EPOCHS: u64 = 1 << 32;
/// So many replica ids are left out by each recovery: a newer map than any that is left may have given some of them.
pub(super) const RECOVERY_REPLICAS_SKIPPED: u64 = 1 << 20;

/// What is lost, and what goes on from what is left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Nodes that are gone for good.
    pub gone: BTreeSet<NodeId>,
    /// The data folders of all others.
    pub folders: BTreeMap<NodeId, FolderId>,
    /// No replica id up to this one is given.
    pub replicas_made: u64,
    /// Groups without a quorum, each with the node on which it goes on alone.
    pub alone: BTreeMap<ShardId, NodeId>,
    /// Replicas on nodes that are left, and that can't be trusted.
    pub unsound: BTreeSet<(ShardId, NodeId)>,
}

impl RingMap {
    /// How often the cluster was recovered.
    pub fn recoveries(&self) -> u64 {
        self.epoch / RECOVERY_EPOCHS
    }

    /// The map after a loss. Nodes that are gone are removed, and their folders retired. A group that goes on alone has a fresh
    /// replica on its node, the first of its list, and fresh ones on the other nodes that held it, which join it later. Other groups
    /// keep what is left of them, with fresh replicas in place of those that can't be trusted.
    pub fn after_loss(&self, loss: &Loss) -> Self {
        let mut next = self.clone();
        next.epoch += RECOVERY_EPOCHS;
        next.replicas_made =
            loss.replicas_made.max(self.replicas_made).max(FIRST_REPLICAS_MAX) + RECOVERY_REPLICAS_SKIPPED;
        for gone in next.nodes.extract_if(.., |node| loss.gone.contains(&NodeId(node.id))).collect::<Vec<_>>() {
            push_bounded(&mut next.removed, gone.id, REMOVED_NODES_MAX);
            gone.disk
                .into_iter()
                .for_each(|folder| push_bounded(&mut next.retired_folders, folder, RETIRED_FOLDERS_MAX));
        }
        for at in 0..next.nodes.len() {
            let Some(folder) = loss.folders.get(&NodeId(next.nodes[at].id)) else { continue };
            let before = next.nodes[at].disk.replace(*folder).filter(|before| before != folder);
            before.into_iter().for_each(|before| push_bounded(&mut next.retired_folders, before, RETIRED_FOLDERS_MAX));
        }
        for shard in self.group_ids() {
            next.lose(shard, loss);
        }
        next
    }

    /// Takes out of a group what is lost of it.
    fn lose(&mut self, shard: ShardId, loss: &Loss) {
        let slots: BTreeMap<NodeSlot, NodeId> = self.nodes.iter().map(|node| (node.slot, NodeId(node.id))).collect();
        let is_left = |held: &Holder| slots.contains_key(&held.node);
        let is_unsound =
            |held: &Holder| slots.get(&held.node).is_some_and(|node| loss.unsound.contains(&(shard, *node)));
        let alone = loss.alone.get(&shard).and_then(|node| self.slot_of(*node));
        let Some(before) = self.group(shard).cloned() else { return };
        let mut group = before.clone();
        group.replicas.retain(is_left);
        group.leaving.retain(|held| is_left(held) && !is_unsound(held));
        if let Some(alone) = alone {
            // The first should lead: for now it is the only one that can.
            group.replicas.retain(|held| held.node != alone);
            group.replicas.insert(0, Holder { replica: 0, node: alone });
            group.leaving.clear();
        }
        // What was to take its place is lost, so it stays.
        while group.replicas.len() < before.replicas.len() && !group.leaving.is_empty() {
            group.replicas.push(group.leaving.remove(0));
        }
        for held in group.replicas.iter_mut().filter(|held| alone.is_some() || is_unsound(held)) {
            held.replica = self.fresh_replica();
        }
        if (&group.replicas, &group.leaving) == (&before.replicas, &before.leaving) {
            return;
        }
        group.since = self.epoch;
        if alone.is_some() {
            group.survivor = group.replicas.first().map(|held| held.replica);
        }
        if alone.is_some() && group.replicas.len() == 1 {
            group.settled = group.since;
        }
        if let Some(place) = self.group_mut(shard) {
            *place = group;
        }
    }
}

impl ShardGroup {
    /// Whether the group has fewer replicas than it should: only a recovery leaves one like that.
    pub fn is_thin(&self, replication_factor: u8) -> bool {
        self.replicas.len() < usize::from(replication_factor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide::Words;
    use super::super::tests::nodes;
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, ReplicaId};
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn folder(number: u128) -> FolderId {
        FolderId(Uuid::from_u128(1_000 + number))
    }

    fn map(count: u128) -> RingMap {
        let map = RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(count), 8, 3).unwrap();
        (1..=count).fold(map, |map, number| map.with_folder(node(number), folder(number)).unwrap())
    }

    fn loss(gone: &[u128], left: &[u128]) -> Loss {
        Loss {
            gone: gone.iter().map(|number| node(*number)).collect(),
            folders: left.iter().map(|number| (node(*number), folder(*number))).collect(),
            ..Loss::default()
        }
    }

    fn is_sound(map: &RingMap) -> bool {
        RingMap::from_bytes(&map.to_bytes()).is_ok_and(|read| read == *map)
    }

    #[test]
    fn a_group_that_goes_on_alone_has_one_fresh_replica_and_is_settled() {
        let before = map(3);
        let alone = before.group_ids().map(|shard| (shard, node(2))).collect();
        let after = before.after_loss(&Loss { alone, ..loss(&[1, 3], &[2]) });
        assert_eq!((before.recoveries(), after.recoveries(), after.epoch), (0, 1, before.epoch + RECOVERY_EPOCHS));
        assert_eq!(after.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [node(2).0]);
        assert_eq!(after.removed, [node(1).0, node(3).0]);
        assert_eq!(after.retired_folders, [folder(1), folder(3)]);
        assert!(is_sound(&after));
        let mut ids = BTreeSet::new();
        for group in after.groups() {
            assert_eq!((group.replicas.len(), group.is_moving(), group.is_thin(3)), (1, false, true));
            assert!(group.replicas[0].replica > RECOVERY_REPLICAS_SKIPPED);
            assert_eq!(group.survivor, Some(group.replicas[0].replica));
            assert!(ids.insert(group.replicas[0].replica), "ids are given once");
        }
        assert_eq!(after.slots_made, before.slots_made, "slots are never given again");
    }

    #[test]
    fn other_replicas_of_a_group_that_goes_on_alone_begin_anew_and_join_it() {
        let before = map(3);
        let after = before.after_loss(&Loss { alone: [(ShardId(0), node(3))].into(), ..loss(&[1], &[2, 3]) });
        let group = after.group(ShardId(0)).unwrap();
        let holders: Vec<NodeId> = after.holders(ShardId(0)).collect();
        assert_eq!((holders, group.is_moving()), (vec![node(3), node(2)], true));
        assert!(group.replicas.iter().all(|held| held.replica > RECOVERY_REPLICAS_SKIPPED));
        assert!(is_sound(&after));
    }

    #[test]
    fn a_group_with_a_quorum_keeps_its_replicas_and_those_that_it_did_not_lose_are_untouched() {
        let before = map(5);
        let gone = node(5);
        let after = before.after_loss(&loss(&[5], &[1, 2, 3, 4]));
        assert!(is_sound(&after));
        for (shard, group) in before.group_ids().zip(before.groups()) {
            let now = after.group(shard).unwrap();
            let lost = before.replica_on(shard, gone);
            let left: Vec<Holder> =
                group.replicas.iter().filter(|held| Some(ReplicaId(held.replica)) != lost).copied().collect();
            assert_eq!(now.replicas, left, "shard {shard}");
            assert_eq!(now.since, if lost.is_some() { after.epoch } else { group.since });
            assert_eq!(now.is_moving(), lost.is_some(), "its leader takes the lost one out");
        }
    }

    #[test]
    fn a_replica_that_was_to_leave_stays_if_the_newcomer_is_lost() {
        let before = map(5);
        let shard = ShardId(0);
        let (from, to) = (
            before.group(shard).unwrap().replicas[0].node,
            before.nodes.iter().find(|node| before.group(shard).unwrap().held().all(|held| held.node != node.slot)),
        );
        let to = to.unwrap();
        let moving = before.move_replica(shard, from, to.slot).unwrap();
        let number = moving.nodes.iter().position(|node| node.id == to.id).unwrap() as u128 + 1;
        let left: Vec<u128> = (1..=5).filter(|other| *other != number).collect();
        let after = moving.after_loss(&loss(&[number], &left));
        let group = after.group(shard).unwrap();
        assert_eq!((group.replicas.len(), group.leaving.len()), (3, 0));
        assert!(group.replicas.contains(&before.group(shard).unwrap().replicas[0]), "under its old id");
        assert!(is_sound(&after));
    }

    #[test]
    fn replicas_that_can_not_be_trusted_begin_anew() {
        let before = map(3);
        let unsound = before.group_ids().map(|shard| (shard, node(1))).collect();
        let mut lost = Loss { unsound, ..loss(&[], &[1, 2, 3]) };
        lost.folders.insert(node(1), folder(11));
        let after = before.after_loss(&lost);
        assert_eq!(after.folder_of(node(1)), Some(folder(11)));
        assert_eq!(after.retired_folders, [folder(1)]);
        assert!(after.held_by(node(1)).iter().all(|(_, replica)| replica.0 > RECOVERY_REPLICAS_SKIPPED));
        assert_eq!(after.held_by(node(2)), before.held_by(node(2)));
        assert!(is_sound(&after));
    }

    #[test]
    fn the_one_node_of_a_recovered_group_is_enough_to_pass_the_map_on() {
        let before = map(3);
        let alone = before.group_ids().map(|shard| (shard, node(2))).collect();
        let after = before.after_loss(&Loss { alone, ..loss(&[1, 3], &[2]) });
        let said_by_one = |ring: &RingMap| {
            let mut words = Words::default();
            words.hear(node(2), ring.clone());
            words.of_majority(&before, node(4)).cloned()
        };
        assert_eq!(said_by_one(&after), Some(after.clone()));
        let mut joined = RingMap { slots_made: after.slots_made + 1, ..after.clone() };
        let slot = NodeSlot(after.slots_made);
        joined.nodes.push(super::super::RingNode { slot, ..super::super::RingNode::new(node(5).0, "node-5") });
        assert_eq!(said_by_one(&joined), Some(joined.clone()), "node 5 may know no more than node 4");
        let without = RingMap { epoch: before.epoch + 9, ..after.clone() };
        assert_eq!(said_by_one(&without), None, "no operator has made this one");
        let both = before.after_loss(&loss(&[3], &[1, 2]));
        assert_eq!(said_by_one(&both), None, "another node holds the group, too");
    }
}
