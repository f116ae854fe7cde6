//! How nodes are doing, as they say themselves.

use bytes::Bytes;
use kvorum_protocol::{Durability, Epoch, LogIndex, NodeId, Receiving, ShardId, ShardRole, Term, Version};

/// What one node says of itself. New fields may come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The version of its program.
    pub program_version: String,
    /// Its process id.
    pub process: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// What "committed" means.
    pub durability: Durability,
    /// The port of its HTTP door; 0 if that is off.
    pub http_port: u16,
    /// Open client connections.
    pub connections: u32,
    /// Peers that are connected now.
    pub peers_up: Vec<NodeId>,
    /// The epoch of the ring map that the node follows; 0 if it knows none that was agreed on.
    pub epoch: Epoch,
    /// The ring map names another data folder for this node: what it holds does not count.
    pub stranger: bool,
    /// Resident memory of the process, in bytes, mapped log pages included.
    pub resident_bytes: u64,
    /// CPU time that the process used, in microseconds.
    pub cpu_us: u64,
    /// Journal rounds (one write and one sync each) since the start.
    pub journal_rounds: u64,
    /// Requests answered with `Overloaded` since the start.
    pub overloaded: u64,
    /// Free bytes of the disk; `u64::MAX` before anyone has looked.
    pub disk_free_bytes: u64,
    /// So little of the disk is free that writes which take room are refused.
    pub disk_full: bool,
    /// What its wall clock is ahead of the time that a majority of the nodes' clocks have reached, in milliseconds; 0 if it
    /// has not heard a majority.
    pub clock_ahead_ms: i64,
    /// A majority of the nodes have clocks that differ from this node's by seconds: it hands leadership over.
    pub clock_off: bool,
    /// What the indexes of all its shards take in memory, in bytes.
    pub index_bytes: u64,
    /// The keys that its replicas are asked for most, the hottest first.
    pub hot_keys: Vec<HotKey>,
    /// The state of each of its shard replicas, and of those that it should have.
    pub shards: Vec<ShardStatus>,
}

/// A key that a node is asked for much: figures are estimates from samples of the last seconds. New fields may come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HotKey {
    /// Its shard.
    pub shard: ShardId,
    /// It is written much; else it is read much.
    pub writes: bool,
    /// The key, or its first 128 bytes.
    pub key: Bytes,
    /// Bytes of the whole key.
    pub key_bytes: u32,
    /// Reads or writes per second.
    pub per_second: u64,
    /// Its part of the replica's reads or writes, in thousandths.
    pub share_permille: u16,
}

/// One shard replica's state. New fields may come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// What this replica is.
    pub role: ShardRole,
    /// Its term.
    pub term: Term,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// The last entry in its log.
    pub last_index: LogIndex,
    /// The last entry that it knows a quorum holds.
    pub committed: LogIndex,
    /// The last entry that it has applied.
    pub applied: LogIndex,
    /// The version of its last effective write.
    pub version: Version,
    /// Keys it holds.
    pub keys: u64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Of these, bytes of records that are their keys' newest. What compaction can't give back.
    pub live_bytes: u64,
    /// Compactions that ran since the replica was opened.
    pub compactions: u32,
    /// Bytes that they wrote.
    pub compacted_bytes: u64,
    /// How often its actor was started since the process began.
    pub incarnation: u32,
    /// The snapshot that it takes in at the moment.
    pub receiving: Option<Receiving>,
}

impl From<kvorum_protocol::NodeStatus> for NodeStatus {
    fn from(status: kvorum_protocol::NodeStatus) -> Self {
        Self {
            node: status.node,
            name: status.name,
            program_version: status.program_version,
            process: status.process,
            uptime_ms: status.uptime_ms,
            durability: status.durability,
            http_port: status.http_port,
            connections: status.connections,
            peers_up: status.peers_up,
            epoch: status.epoch,
            stranger: status.stranger,
            resident_bytes: status.resident_bytes,
            cpu_us: status.cpu_us,
            journal_rounds: status.journal_rounds,
            overloaded: status.overloaded,
            disk_free_bytes: status.disk_free_bytes,
            disk_full: status.disk_full,
            clock_ahead_ms: status.clock_ahead_ms,
            clock_off: status.clock_off,
            index_bytes: status.index_bytes,
            hot_keys: status.hot_keys.into_iter().map(HotKey::from_wire).collect(),
            shards: status.shards.into_iter().map(ShardStatus::from_wire).collect(),
        }
    }
}

impl HotKey {
    pub(crate) fn from_wire(hot: kvorum_protocol::HotKey) -> Self {
        let kvorum_protocol::HotKey { shard, writes, key, key_bytes, per_second, share_permille } = hot;
        Self { shard, writes, key, key_bytes, per_second, share_permille }
    }
}

impl ShardStatus {
    pub(crate) fn from_wire(status: kvorum_protocol::ShardStatus) -> Self {
        Self {
            shard: status.shard,
            role: status.role,
            term: status.term,
            leader: status.leader,
            last_index: status.last_index,
            committed: status.committed,
            applied: status.applied,
            version: status.version,
            keys: status.keys,
            log_bytes: status.log_bytes,
            live_bytes: status.live_bytes,
            compactions: status.compactions,
            compacted_bytes: status.compacted_bytes,
            incarnation: status.incarnation,
            receiving: status.receiving,
        }
    }
}
