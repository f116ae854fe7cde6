//! What a node counts of its replicas.

use super::heat::Heat;
use super::{Count, Durations};
use kvorum_protocol::ShardId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a shard's inbox did not take a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedFor {
    /// What waits has waited for too long.
    Slow,
    /// The shard's queue is full, or the client's share of it.
    ShardFull,
    /// The node's queues are full.
    NodeFull,
}

impl RefusedFor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slow, Self::ShardFull, Self::NodeFull];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::ShardFull => "shard_full",
            Self::NodeFull => "node_full",
        }
    }
}

/// What was counted of one shard's replica on this node since the process began, over all incarnations. Its host is the only writer,
/// where nothing else is said.
#[derive(Debug, Default)]
pub struct ShardCounts {
    /// Requests that were not taken, by [`RefusedFor`]. Several writers.
    refused: [Count; RefusedFor::ALL.len()],
    /// From when a request came in until a turn took it.
    pub queue_wait: Durations,
    /// From when this leader proposed an entry until it had applied it.
    pub commit: Durations,
    /// How long turns kept their thread. The actor is the writer.
    pub turn: Durations,
    /// Entries that this leader proposed and applied.
    pub entries: Count,
    /// Requests that were answered with them.
    pub entry_requests: Count,
    /// How often this replica stood for election.
    pub elections: Count,
    /// How often it came to know another leader.
    pub leader_changes: Count,
    /// Snapshots of it that another replica has installed.
    pub snapshots_sent: Count,
    /// Those that did not get that far.
    pub snapshots_failed: Count,
    /// Snapshots that it has installed.
    pub snapshots_received: Count,
    /// Compactions.
    pub compactions: Count,
    /// Bytes that they wrote.
    pub compacted_bytes: Count,
    /// How often damage was found in its files. Its supervisor is the writer.
    pub damage: Count,
    /// Which keys are asked for most. Any thread.
    pub heat: Heat,
}

impl ShardCounts {
    /// A request was not taken.
    pub fn note_refused(&self, why: RefusedFor) {
        self.refused[why as usize].add_shared(1);
    }

    /// How many were not taken for this reason.
    pub fn refused(&self, why: RefusedFor) -> u64 {
        self.refused[why as usize].get()
    }
}

/// The counts of all replicas that a node has had. They outlive the replicas, so that a sum over them never goes back.
#[derive(Debug, Default)]
pub struct ReplicaCounts {
    shards: Mutex<BTreeMap<ShardId, Arc<ShardCounts>>>,
    /// Bytes of cold data that were checked again. The scrubber is the writer.
    pub scrubbed_bytes: Count,
}

impl ReplicaCounts {
    /// Those of a shard's replica.
    pub fn of(&self, shard: ShardId) -> Arc<ShardCounts> {
        Arc::clone(self.shards.lock().entry(shard).or_default())
    }

    /// All of them.
    pub fn all(&self) -> Vec<(ShardId, Arc<ShardCounts>)> {
        self.shards.lock().iter().map(|(shard, counts)| (*shard, Arc::clone(counts))).collect()
    }

    /// Requests that were not taken for this reason.
    pub fn refused(&self, why: RefusedFor) -> u64 {
        self.shards.lock().values().map(|counts| counts.refused(why)).sum()
    }
}
