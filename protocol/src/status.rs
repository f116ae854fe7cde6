//! How a node is doing, as STATUS answers it.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{HOT_KEY_BYTES_MAX, HOT_KEYS_MAX, NAME_BYTES_MAX, SHARDS_MAX};
use crate::topology::{decode_durability, encode_durability};
use crate::types::{Durability, Epoch, LogIndex, NodeId, ShardId, Term, Version};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// One node's state.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// What its wall clock is ahead of the time that a majority of the nodes' clocks have reached, in milliseconds; 0 if it has not
    /// heard a majority.
    pub clock_ahead_ms: i64,
    /// A majority of the nodes have clocks that differ from this node's by seconds: it hands leadership over.
    pub clock_off: bool,
    /// What the indexes of all its shards take in memory, in bytes.
    pub index_bytes: u64,
    /// The keys that this node's replicas are asked for most, at most [`HOT_KEYS_MAX`], the hottest first.
    pub hot_keys: Vec<HotKey>,
    /// The state of each of its shard replicas, and of those that it should have.
    pub shards: Vec<ShardStatus>,
}

/// A key that a node is asked for much. Figures are estimates from samples of the last seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HotKey {
    /// Its shard.
    pub shard: ShardId,
    /// It is written much; else it is read much.
    pub writes: bool,
    /// The key, or its first [`HOT_KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// Bytes of the whole key.
    pub key_bytes: u32,
    /// Reads or writes per second.
    pub per_second: u64,
    /// Its part of the replica's reads or writes, in thousandths.
    pub share_permille: u16,
}

/// One shard replica's state.
#[derive(Clone, PartialEq, Eq, Debug)]
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

/// How far a snapshot has come that a replica takes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receiving {
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// Bytes of records that have come.
    pub bytes: u64,
    /// Records that have come.
    pub records: u64,
    /// Records that there are.
    pub records_total: u64,
}

/// What a shard replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ShardRole {
    /// The ring map places it on the node, and it is not open: it waits for a newer map, is being opened, or is about to be
    /// started again.
    Missing,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks to become leader.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log without a vote.
    Learner,
    /// May have forgotten acknowledged writes (an unclean machine restart with durability `memory`): does not vote.
    Amnesiac,
    /// Found damage in its log: does not vote.
    Faulty,
}

impl ShardRole {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Missing, Self::Follower, Self::Candidate, Self::Leader, Self::Learner, Self::Amnesiac, Self::Faulty];
}

impl fmt::Display for ShardRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
            Self::Amnesiac => "amnesiac",
            Self::Faulty => "faulty",
        })
    }
}

impl NodeStatus {
    /// Appends the status; between nodes it travels in exactly this form.
    pub fn encode(&self, out: &mut BytesMut) {
        out.uuid(self.node.0);
        out.text(&self.name, NAME_BYTES_MAX);
        out.text(&self.program_version, NAME_BYTES_MAX);
        out.put_u32_le(self.process);
        out.put_u64_le(self.uptime_ms);
        encode_durability(out, self.durability);
        out.put_u16_le(self.http_port);
        out.put_u32_le(self.connections);
        out.count(self.peers_up.len());
        self.peers_up.iter().for_each(|peer| out.uuid(peer.0));
        out.put_u64_le(self.epoch.0);
        out.bool(self.stranger);
        out.put_u64_le(self.resident_bytes);
        out.put_u64_le(self.cpu_us);
        out.put_u64_le(self.journal_rounds);
        out.put_u64_le(self.overloaded);
        out.put_u64_le(self.disk_free_bytes);
        out.bool(self.disk_full);
        out.put_i64_le(self.clock_ahead_ms);
        out.bool(self.clock_off);
        out.put_u64_le(self.index_bytes);
        out.count(self.hot_keys.len());
        for hot in &self.hot_keys {
            out.put_u16_le(hot.shard.0);
            out.bool(hot.writes);
            out.bytes(&hot.key);
            out.put_u32_le(hot.key_bytes);
            out.put_u64_le(hot.per_second);
            out.put_u16_le(hot.share_permille);
        }
        out.count(self.shards.len());
        for shard in &self.shards {
            out.put_u16_le(shard.shard.0);
            out.put_u8(ShardRole::ALL.iter().position(|role| *role == shard.role).expect("ALL holds every role") as u8);
            out.put_u64_le(shard.term.0);
            out.option(shard.leader, |out, leader| out.uuid(leader.0));
            out.put_u64_le(shard.last_index.0);
            out.put_u64_le(shard.committed.0);
            out.put_u64_le(shard.applied.0);
            out.put_u64_le(shard.version.0);
            out.put_u64_le(shard.keys);
            out.put_u64_le(shard.log_bytes);
            out.put_u64_le(shard.live_bytes);
            out.put_u32_le(shard.compactions);
            out.put_u64_le(shard.compacted_bytes);
            out.put_u32_le(shard.incarnation);
            out.option(shard.receiving, |out, receiving| {
                out.put_u64_le(receiving.elapsed_ms);
                out.put_u64_le(receiving.bytes);
                out.put_u64_le(receiving.records);
                out.put_u64_le(receiving.records_total);
            });
        }
    }

    /// Reads a status that must fill `bytes`.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let status = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(status)
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            node: reader.node_id()?,
            name: reader.text("node name", NAME_BYTES_MAX)?,
            program_version: reader.text("program version", NAME_BYTES_MAX)?,
            process: reader.u32()?,
            uptime_ms: reader.u64()?,
            durability: decode_durability(reader)?,
            http_port: reader.u16()?,
            connections: reader.u32()?,
            peers_up: {
                let count = reader.count("peers", crate::limits::NODES_MAX, 16)?;
                (0..count).map(|_| reader.node_id()).collect::<Result<_, _>>()?
            },
            epoch: Epoch(reader.u64()?),
            stranger: reader.bool("stranger")?,
            resident_bytes: reader.u64()?,
            cpu_us: reader.u64()?,
            journal_rounds: reader.u64()?,
            overloaded: reader.u64()?,
            disk_free_bytes: reader.u64()?,
            disk_full: reader.bool("disk full")?,
            clock_ahead_ms: reader.i64()?,
            clock_off: reader.bool("clock off")?,
            index_bytes: reader.u64()?,
            hot_keys: {
                let count = reader.count("hot keys", HOT_KEYS_MAX, 21)?;
                (0..count).map(|_| decode_hot_key(reader)).collect::<Result<_, _>>()?
            },
            shards: {
                // One more than the shards of the ring: the meta group.
                let count = reader.count("shards", SHARDS_MAX + 1, 64)?;
                (0..count).map(|_| decode_shard(reader)).collect::<Result<_, _>>()?
            },
        })
    }
}

fn decode_hot_key(reader: &mut Reader) -> Result<HotKey, DecodeError> {
    Ok(HotKey {
        shard: ShardId(reader.u16()?),
        writes: reader.bool("writes")?,
        key: reader.bytes("length of a hot key", HOT_KEY_BYTES_MAX)?,
        key_bytes: reader.u32()?,
        per_second: reader.u64()?,
        share_permille: reader.u16()?,
    })
}

fn decode_shard(reader: &mut Reader) -> Result<ShardStatus, DecodeError> {
    Ok(ShardStatus {
        shard: ShardId(reader.u16()?),
        role: {
            let value = reader.u8()?;
            *ShardRole::ALL
                .get(usize::from(value))
                .ok_or(DecodeError::UnknownValue { field: "shard role", value: value.into() })?
        },
        term: Term(reader.u64()?),
        leader: reader.option("leader", Reader::node_id)?,
        last_index: LogIndex(reader.u64()?),
        committed: LogIndex(reader.u64()?),
        applied: LogIndex(reader.u64()?),
        version: Version(reader.u64()?),
        keys: reader.u64()?,
        log_bytes: reader.u64()?,
        live_bytes: reader.u64()?,
        compactions: reader.u32()?,
        compacted_bytes: reader.u64()?,
        incarnation: reader.u32()?,
        receiving: reader.option("receiving", |reader| {
            Ok(Receiving {
                elapsed_ms: reader.u64()?,
                bytes: reader.u64()?,
                records: reader.u64()?,
                records_total: reader.u64()?,
            })
        })?,
    })
}
