//! Changes of the ring map after its first placement: which data folder a node has, and fresh replicas in place of ones
//! that were lost. Each gives a new map with the next epoch; the map that it began with stays as it was.
//!
//! What makes a replacement safe is that ids are never used twice, neither a replica's nor a data folder's. A replica that
//! has forgotten something is not repaired under its id, where its forgotten votes and acknowledgements would count for
//! ever, but given up, and another one begins with nothing to remember.

use super::address::is_address;
use super::moves::push_bounded;
use super::{RETIRED_FOLDERS_MAX, RingMap, RingNode};
use crate::seeded::{Bug, planted};
use kvorum_protocol::{FolderId, NodeId, ReplicaId, ShardId};
use std::collections::BTreeMap;

/// Why a map can't be changed like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// There is no such node.
    #[error("the ring has no such node")]
    UnknownNode,
    /// The group has no such replica: it never had, or it was replaced already.
    #[error("the group has no such replica")]
    UnknownReplica,
    /// The map says so already.
    #[error("the ring map says so already")]
    AlreadyDone,
    /// The folder was replaced once. It is out of date, and so are its votes.
    #[error("the data folder was replaced, and never returns")]
    Retired,
    /// The folder belongs to another node: it was copied or moved.
    #[error("the data folder is another node's")]
    OfAnotherNode,
    /// The node has another folder, and what it holds there must be replaced.
    #[error("the node has another data folder")]
    Named,
}

impl RingMap {
    /// The map that names a node's data folder, for a node of which none is known yet. Its replicas stay.
    ///
    /// # Errors
    /// `UnknownNode`, `AlreadyDone`, `Named`, `Retired`, `OfAnotherNode`.
    pub fn with_folder(&self, node: NodeId, disk: FolderId) -> Result<Self, ReplaceError> {
        let at = self.may_have(node, disk)?;
        if self.nodes[at].disk.is_some() {
            return Err(ReplaceError::Named);
        }
        let mut next = self.next_epoch();
        next.nodes[at].disk = Some(disk);
        Ok(next)
    }

    /// The map after a node has come with another data folder: that folder is named, the one before is retired, and the
    /// node holds a fresh replica of every group that it held one of.
    ///
    /// # Errors
    /// `UnknownNode`, `AlreadyDone`, `Retired`, `OfAnotherNode`.
    pub fn replace_node(&self, node: NodeId, new_disk: FolderId) -> Result<Self, ReplaceError> {
        let at = self.may_have(node, new_disk)?;
        let mut next = self.next_epoch();
        if let Some(retired) = next.nodes[at].disk.replace(new_disk) {
            push_bounded(&mut next.retired_folders, retired, RETIRED_FOLDERS_MAX);
        }
        for (shard, replica) in self.held_by(node) {
            next.renew(shard, replica)?;
        }
        Ok(next)
    }

    /// The map in which a fresh replica on the same node takes the place of one that can't be used any more.
    ///
    /// # Errors
    /// `UnknownReplica`.
    pub fn replace_replica(&self, shard: ShardId, old: ReplicaId) -> Result<Self, ReplaceError> {
        let mut next = self.next_epoch();
        next.renew(shard, old)?;
        Ok(next)
    }

    /// The map in which clients and peers reach these nodes at these addresses; `None` if it says so already. What is no address is
    /// left out, and so is one that would be two nodes' at once.
    pub fn with_addresses(&self, clients: &BTreeMap<NodeId, String>, peers: &BTreeMap<NodeId, String>) -> Option<Self> {
        let mut next = self.next_epoch();
        next.take_addresses(clients, |node| &mut node.client);
        next.take_addresses(peers, |node| &mut node.peer);
        (next.nodes != self.nodes).then_some(next)
    }

    /// Takes over one address of each node.
    fn take_addresses(&mut self, said: &BTreeMap<NodeId, String>, of: impl Fn(&mut RingNode) -> &mut String) {
        let before: Vec<String> = self.nodes.iter_mut().map(|node| of(node).clone()).collect();
        let wanted = |node: &RingNode| said.get(&NodeId(node.id)).filter(|address| is_address(address)).cloned();
        let all = self.nodes.iter().zip(&before);
        let mut after: Vec<String> = all.map(|(node, old)| wanted(node).unwrap_or_else(|| old.clone())).collect();
        // Undone one by one: each that is undone may be what another one wanted.
        while let Some(at) = (0..after.len()).find(|at| {
            let same = |(other, address): (usize, &String)| other != *at && *address == after[*at];
            after[*at] != before[*at] && after.iter().enumerate().any(same)
        }) {
            after[at].clone_from(&before[at]);
        }
        self.nodes.iter_mut().zip(after).for_each(|(node, address)| *of(node) = address);
    }

    /// Whether the folder was replaced.
    pub fn is_retired(&self, disk: FolderId) -> bool {
        self.retired_folders.contains(&disk)
    }

    /// The map of the next epoch, in which the cluster is at this level.
    pub fn with_level(&self, level: u16) -> Self {
        Self { level, ..self.next_epoch() }
    }

    pub(super) fn next_epoch(&self) -> Self {
        Self { epoch: self.epoch + 1, ..self.clone() }
    }

    /// The node's position, if it may come with that folder and does not have it yet.
    fn may_have(&self, node: NodeId, disk: FolderId) -> Result<usize, ReplaceError> {
        let at = self.nodes.iter().position(|known| known.id == node.0).ok_or(ReplaceError::UnknownNode)?;
        match self.nodes.iter().position(|known| known.disk == Some(disk)) {
            Some(owner) if owner == at => Err(ReplaceError::AlreadyDone),
            Some(_) => Err(ReplaceError::OfAnotherNode),
            None if self.is_retired(disk) => Err(ReplaceError::Retired),
            None => Ok(at),
        }
    }

    /// Gives a replica a fresh id. Its place among the replicas stays, and with it who should lead. One that was leaving has
    /// nothing left that could go.
    fn renew(&mut self, shard: ShardId, old: ReplicaId) -> Result<(), ReplaceError> {
        let epoch = self.epoch;
        let group = self.group_mut(shard).ok_or(ReplaceError::UnknownReplica)?;
        if group.forget_leaving(old) {
            return Ok(());
        }
        let at = group.replicas.iter().position(|held| held.replica == old.0).ok_or(ReplaceError::UnknownReplica)?;
        let made = self.fresh_replica();
        let fresh = if planted(Bug::ReplicaIdReused) { old.0 } else { made };
        let group = self.group_mut(shard).ok_or(ReplaceError::UnknownReplica)?;
        let open = group.newcomers().collect();
        group.replicas[at].replica = fresh;
        if group.is_moving() {
            group.renewed.push(fresh);
        }
        group.set_out(epoch, open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::nodes;
    use super::super::{FIRST_REPLICAS_MAX, ShardGroup};
    use super::*;
    use kvorum_protocol::{ClusterId, Durability};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn map() -> RingMap {
        RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(4), 8, 3).unwrap()
    }

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn disk(number: u128) -> FolderId {
        FolderId(Uuid::from_u128(1_000 + number))
    }

    #[test]
    fn a_folder_is_named_once_and_for_one_node() {
        let named = map().with_folder(node(1), disk(1)).unwrap();
        assert_eq!((named.epoch, named.folder_of(node(1))), (2, Some(disk(1))));
        assert_eq!(named.shards, map().shards, "naming a folder moves nothing");
        assert_eq!(named.with_folder(node(1), disk(1)), Err(ReplaceError::AlreadyDone));
        assert_eq!(named.with_folder(node(1), disk(2)), Err(ReplaceError::Named));
        assert_eq!(named.with_folder(node(2), disk(1)), Err(ReplaceError::OfAnotherNode));
        assert_eq!(named.with_folder(node(9), disk(9)), Err(ReplaceError::UnknownNode));
        assert_eq!(named.replace_node(node(2), disk(1)), Err(ReplaceError::OfAnotherNode));
    }

    #[test]
    fn a_replaced_node_holds_the_same_groups_under_fresh_ids() {
        let before = map().with_folder(node(2), disk(1)).unwrap();
        let after = before.replace_node(node(2), disk(2)).unwrap();
        assert_eq!((after.epoch, after.folder_of(node(2))), (3, Some(disk(2))));
        assert_eq!(after.retired_folders, [disk(1)]);
        let groups = |map: &RingMap| map.held_by(node(2)).into_iter().map(|(shard, _)| shard).collect::<Vec<_>>();
        assert_eq!(groups(&after), groups(&before));
        for (shard, fresh) in after.held_by(node(2)) {
            assert!(fresh.0 > FIRST_REPLICAS_MAX);
            assert_eq!(before.node_of(shard, fresh), None);
            assert_eq!(after.node_of(shard, before.replica_on(shard, node(2)).unwrap()), None);
        }
        assert_eq!(after.held_by(node(1)), before.held_by(node(1)), "nobody else is touched");
        assert_eq!(after.replace_node(node(2), disk(2)), Err(ReplaceError::AlreadyDone));
        assert_eq!(after.replace_node(node(2), disk(1)), Err(ReplaceError::Retired));
        assert_eq!(RingMap::from_bytes(&after.to_bytes()).unwrap(), after);
    }

    #[test]
    fn a_replica_is_replaced_once() {
        let after = map().replace_replica(ShardId(3), ReplicaId(2)).unwrap();
        assert_eq!(after.replicas(ShardId(3))[1].replica, FIRST_REPLICAS_MAX + 1);
        assert_eq!(after.replicas(ShardId(3))[1].node, map().replicas(ShardId(3))[1].node);
        assert_eq!(after.replace_replica(ShardId(3), ReplicaId(2)), Err(ReplaceError::UnknownReplica));
        assert_eq!(after.replace_replica(ShardId(8), ReplicaId(1)), Err(ReplaceError::UnknownReplica));
        let meta = after.replace_replica(ShardId::META, ReplicaId(1)).unwrap();
        assert_eq!(
            meta.meta.replicas[0].replica,
            FIRST_REPLICAS_MAX + 2,
            "no id is used twice, not even in another group"
        );
    }

    #[test]
    fn retired_folders_are_bounded() {
        let mut map = map();
        for number in 0..RETIRED_FOLDERS_MAX as u128 + 10 {
            map = map.replace_node(node(1), disk(number)).unwrap();
        }
        assert_eq!(map.retired_folders.len(), RETIRED_FOLDERS_MAX);
        assert!(map.is_retired(disk(RETIRED_FOLDERS_MAX as u128 + 8)), "the newest are remembered");
        assert!(RingMap::from_bytes(&map.to_bytes()).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Change {
        Disk(u128, u128),
        Node(u128, u128),
        Replica(u16, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (1..6_u128, 0..12_u128).prop_map(|(node, disk)| Change::Disk(node, disk)),
            (1..6_u128, 0..12_u128).prop_map(|(node, disk)| Change::Node(node, disk)),
            (0..9_u16, 0..3_usize).prop_map(|(shard, at)| Change::Replica(shard, at)),
        ]
    }

    proptest! {
        /// Whatever happens to a map: it stays one that can be stored, only grows its epoch, keeps who holds what, and uses
        /// neither a replica id nor a folder a second time.
        #[test]
        fn ids_and_folders_are_never_used_twice(changes in proptest::collection::vec(change(), 0..40)) {
            let mut map = map();
            let ids = |map: &RingMap| -> BTreeSet<(u16, u64)> {
                let groups = std::iter::once(ShardId::META).chain((0..8).map(ShardId));
                groups.flat_map(|shard| map.replicas(shard).iter().map(move |held| (shard.0, held.replica))).collect()
            };
            let mut ids_seen = ids(&map);
            let mut folders_seen: BTreeSet<(u128, FolderId)> = BTreeSet::new();
            for change in changes {
                let next = match change {
                    Change::Disk(at, folder) => map.with_folder(node(at), disk(folder)),
                    Change::Node(at, folder) => map.replace_node(node(at), disk(folder)),
                    Change::Replica(shard, at) => {
                        let old = map.replicas(ShardId(shard)).get(at).map_or(0, |held| held.replica);
                        map.replace_replica(ShardId(shard), ReplicaId(old))
                    }
                };
                let Ok(next) = next else { continue };
                prop_assert_eq!(next.epoch, map.epoch + 1);
                prop_assert_eq!(&RingMap::from_bytes(&next.to_bytes()).unwrap(), &next);
                for fresh in ids(&next).difference(&ids(&map)) {
                    prop_assert!(ids_seen.insert(*fresh), "{:?} was used before", fresh);
                }
                for (at, known) in (1..).zip(&next.nodes) {
                    if let Some(folder) = known.disk && map.folder_of(node(at)) != known.disk {
                        prop_assert!(folders_seen.insert((at, folder)), "a folder returned");
                    }
                }
                for (before, after) in map.groups().zip(next.groups()) {
                    let holders = |group: &ShardGroup| group.replicas.iter().map(|held| held.node).collect::<Vec<_>>();
                    prop_assert_eq!(holders(before), holders(after));
                }
                map = next;
            }
        }
    }
}
