//! Which replicas a node runs, and how.

use super::ShardConfig;
use crate::limits::{ELECTION_TICKS, HEARTBEAT_TICKS};
use crate::replica::ConsensusConfig;
use crate::ring::RingMap;
use kvorum_protocol::{ClusterId, NodeId, ReplicaId};

/// Turns a ring map into the replicas that this node runs.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaPlan {
    node: NodeId,
    tick_ms: u64,
    seed: u64,
}

impl ReplicaPlan {
    /// The plan of a node whose ticks are `tick_ms` milliseconds long.
    pub fn new(node: NodeId, cluster: ClusterId, tick_ms: u64) -> Self {
        // Any number does, as long as the replicas of a group differ, which their ids see to.
        let seed = cluster.0.as_u64_pair().0;
        ReplicaPlan { node, tick_ms, seed }
    }

    /// How each of the node's replicas runs, `meta` included.
    pub fn configs(&self, ring: &RingMap) -> Vec<ShardConfig> {
        let held = ring.held_by(self.node);
        held.into_iter()
            .map(|(shard, replica)| ShardConfig {
                shard,
                consensus: ConsensusConfig {
                    replica,
                    tick_ms: self.tick_ms,
                    election_ticks: ELECTION_TICKS,
                    heartbeat_ticks: HEARTBEAT_TICKS,
                    seed: self.seed ^ u64::from(shard.0),
                },
                target: ring.replicas(shard).iter().map(|held| ReplicaId(held.replica)).collect(),
                joins: false,
                durability: ring.durability,
            })
            .collect()
    }
}
