//! What the rest of a node holds of a replica.

use super::ReplicaStatus;
use super::gate::ReadGate;
use super::inbox::{Inbox, QueueUse};
use super::upkeep::UpkeepCounts;
use crate::measure::ShardCounts;
use crate::store::StoreReader;
use kvorum_protocol::{Receiving, ShardId};
use parking_lot::Mutex;
use std::sync::Arc;

/// What the rest of the node holds of one incarnation of a shard replica.
#[derive(Debug)]
pub struct ShardHandle {
    /// The shard.
    pub shard: ShardId,
    /// The way in.
    pub inbox: Arc<Inbox>,
    /// Whether reads may pass.
    pub gate: Arc<ReadGate>,
    /// The state to read.
    pub reader: Arc<StoreReader>,
    /// How often the replica was opened since the process began.
    pub incarnation: u32,
    /// What is counted of the shard's replicas on this node.
    pub counts: Arc<ShardCounts>,
    /// What it was as of its last turn.
    pub status: Mutex<ReplicaStatus>,
    /// The snapshot that it takes in.
    pub receiving: Mutex<Option<Receiving>>,
    /// What was done to keep its files in order, as of then.
    pub upkeep: Mutex<UpkeepCounts>,
}

impl ShardHandle {
    /// A number that changes while the replica takes something in: entries, or the bytes of a snapshot.
    pub fn taken_in(&self) -> u64 {
        let received = self.receiving.lock().as_ref().map_or(0, |receiving| receiving.bytes);
        self.status.lock().last_index.0.wrapping_add(received)
    }

    /// What waits for its replica. Takes the lock of its queues.
    pub fn queued(&self) -> QueueUse {
        self.inbox.queued()
    }
}
