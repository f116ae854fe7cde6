//! Which replicas a node runs, and how.

use super::{ORDER_BITS, ShardConfig, Target};
use crate::consensus::ConsensusConfig;
use crate::limits::{ELECTION_TICKS, HEARTBEAT_TICKS};
use crate::ring::{FIRST_REPLICAS_MAX, RingMap};
use crate::seeded::{Bug, planted};
use crate::store::SessionLimits;
use kvorum_protocol::{ClusterId, FolderId, NodeId, ReplicaId, ShardId};
use std::collections::BTreeSet;

/// Turns a ring map into the replicas that this node runs.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaPlan {
    node: NodeId,
    tick_ms: u64,
    seed: u64,
}

/// What a map makes of this node's data folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FolderStanding {
    /// The map names it: this node is to hold what the map gives it.
    Named,
    /// The map names none for this node: replicas that are there already go on, and none begins.
    Unnamed,
    /// The map names another one for this node: nothing in this folder counts.
    Stranger,
}

/// What a ring map asks of this node.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The map's epoch.
    pub epoch: u64,
    /// What it makes of this node's folder.
    pub place: FolderStanding,
    /// The replicas that the node should run, `meta` included; none in a stranger's folder.
    pub configs: Vec<ShardConfig>,
    /// Shards of these whose replica must lie in the folder already: a recovered group went on from it, and it may be all that is
    /// left of the group. Whatever else lies there must not be erased for it.
    pub survivors: BTreeSet<ShardId>,
}

impl ReplicaPlan {
    /// The plan of a node whose ticks are `tick_ms` milliseconds long.
    pub fn new(node: NodeId, cluster: ClusterId, tick_ms: u64) -> Self {
        // Any number does, as long as the replicas of a group differ, which their ids see to.
        let seed = cluster.0.as_u64_pair().0;
        Self { node, tick_ms, seed }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What a map asks of this node, which has the data folder `folder`.
    pub fn orders(&self, ring: &RingMap, folder: FolderId) -> Orders {
        let place = match ring.folder_of(self.node) {
            Some(named) if named == folder || planted(Bug::WipedDiskAdmitted) => FolderStanding::Named,
            Some(_) => FolderStanding::Stranger,
            None => FolderStanding::Unnamed,
        };
        let configs = if place == FolderStanding::Stranger { Vec::new() } else { self.configs(ring) };
        let survives = |config: &&ShardConfig| {
            ring.group(config.shard).and_then(|group| group.survivor) == Some(config.consensus.replica.0)
        };
        let survivors = configs.iter().filter(survives).map(|config| config.shard).collect();
        Orders { epoch: ring.epoch, place, configs, survivors }
    }

    /// How each of the node's replicas runs, `meta` included.
    pub fn configs(&self, ring: &RingMap) -> Vec<ShardConfig> {
        let held = ring.held_by(self.node);
        // With the ring map's own. It never changes, and is the same for all replicas, which is what the limits rest on.
        let shards = ring.shards.len() + 1;
        held.into_iter()
            .filter_map(|(shard, replica)| {
                let group = ring.group(shard)?;
                if planted(Bug::LeavingErasedUnsettled) && group.leaving.iter().any(|held| held.replica == replica.0) {
                    return None;
                }
                Some(ShardConfig {
                    shard,
                    consensus: ConsensusConfig {
                        replica,
                        tick_ms: self.tick_ms,
                        election_ticks: ELECTION_TICKS,
                        heartbeat_ticks: HEARTBEAT_TICKS,
                        seed: self.seed ^ u64::from(shard.0),
                    },
                    // Every group began with the first ids, and each of its first replicas must begin with the same
                    // membership, even one that is opened after others were replaced, or the group has grown.
                    initial_voters: (1..=u64::from(group.founders)).map(ReplicaId).collect(),
                    target: Target {
                        voters: group.replicas.iter().map(|held| ReplicaId(held.replica)).collect(),
                        since: group.since,
                        asks: group.is_moving(),
                    },
                    joins: replica.0 > FIRST_REPLICAS_MAX,
                    durability: ring.durability,
                    sessions: SessionLimits::of_shards(shards),
                    order_bits: ORDER_BITS,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingNode;
    use kvorum_protocol::Durability;
    use uuid::Uuid;

    #[test]
    fn a_map_with_replaced_replicas_lets_the_fresh_ones_join_and_the_first_ones_begin_as_ever() {
        let node = |number: u128| NodeId(Uuid::from_u128(number));
        let folder = |number: u128| FolderId(Uuid::from_u128(1_000 + number));
        let ring_node = |number: u128| RingNode {
            disk: Some(folder(number)),
            ..RingNode::new(node(number).0, format!("node-{number}"))
        };
        let cluster = ClusterId(Uuid::from_u128(9));
        let nodes = (1..=3).map(ring_node).collect();
        let ring = RingMap::initial(cluster, Durability::Fsync, nodes, 1, 3).unwrap();
        let ring = ring.replace_node(node(3), folder(33)).unwrap();
        let fresh = ring.replica_on(ShardId(0), node(3)).unwrap();
        let orders = |number, folder| ReplicaPlan::new(node(number), cluster, 50).orders(&ring, folder);

        let joining = orders(3, folder(33));
        assert_eq!((joining.place, joining.epoch), (FolderStanding::Named, ring.epoch));
        assert!(joining.configs.iter().all(|config| config.joins && config.consensus.replica.0 > FIRST_REPLICAS_MAX));
        let of_node_1 = orders(1, folder(1));
        let config = of_node_1.configs.iter().find(|config| config.shard == ShardId(0)).unwrap();
        assert!(!config.joins && config.target.voters.contains(&fresh));
        assert_eq!(config.initial_voters, [1, 2, 3].map(ReplicaId));

        let of_node_3 = orders(3, folder(33));
        for config in of_node_1.configs.iter().chain(&of_node_3.configs) {
            assert_eq!(config.sessions, SessionLimits::of_shards(2), "the same on all nodes, in every map");
        }

        let stranger = orders(3, folder(3));
        assert_eq!((stranger.place, stranger.configs.len()), (FolderStanding::Stranger, 0));
        let unnamed = RingMap::initial(cluster, Durability::Fsync, vec![RingNode { disk: None, ..ring_node(1) }], 1, 1);
        let unnamed = ReplicaPlan::new(node(1), cluster, 50).orders(&unnamed.unwrap(), folder(1));
        assert_eq!((unnamed.place, unnamed.configs.len()), (FolderStanding::Unnamed, 2));
    }
}
