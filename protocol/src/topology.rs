//! The ring map as clients see it: which nodes there are, which replicas each shard has, and who leads it.

use crate::codec::{DecodeError, Reader, Writer};
use crate::hash;
use crate::limits::{NAME_BYTES_MAX, NODES_MAX, REPLICAS_MAX, SHARDS_MAX};
use crate::types::{ClusterId, Durability, Epoch, NodeId, ShardId, Term};
use bytes::{BufMut, BytesMut};

/// The ring map, with the leaders that the answering node knows of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Grows with each change of nodes or placement. Leaders may change within an epoch.
    pub epoch: Epoch,
    /// The cluster.
    pub cluster: ClusterId,
    /// What "committed" means in this cluster.
    pub durability: Durability,
    /// The nodes, at most [`NODES_MAX`].
    pub nodes: Vec<NodeInfo>,
    /// The shards, in ring order; a power of two of them, at most [`SHARDS_MAX`].
    pub shards: Vec<ShardInfo>,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Its identity.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// `host:port` of its binary door.
    pub client_address: String,
    /// Its failure zone; empty if none was given.
    pub zone: String,
}

/// One shard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardInfo {
    /// The node that leads it, as a position in [`Topology::nodes`], if known.
    pub leader: Option<u16>,
    /// The term of that leader; of two answers, the one with the higher term is newer.
    pub term: Term,
    /// The nodes that hold a replica, as positions in [`Topology::nodes`].
    pub replicas: Vec<u16>,
}

impl Topology {
    /// The shard that a key belongs to.
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        hash::shard_of(key, self.shards.len() as u16)
    }

    /// The node that leads a shard, if that is known.
    pub fn leader_of(&self, shard: ShardId) -> Option<&NodeInfo> {
        let leader = self.shards.get(usize::from(shard.0))?.leader?;
        self.nodes.get(usize::from(leader))
    }

    /// The nodes that hold a replica of a shard.
    pub fn replicas_of(&self, shard: ShardId) -> impl Iterator<Item = &NodeInfo> {
        let replicas = self.shards.get(usize::from(shard.0)).map_or(&[][..], |shard| &shard.replicas);
        replicas.iter().filter_map(|&node| self.nodes.get(usize::from(node)))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.epoch.0);
        out.uuid(self.cluster.0);
        encode_durability(out, self.durability);
        out.count(self.nodes.len());
        for node in &self.nodes {
            out.uuid(node.id.0);
            out.text(&node.name, NAME_BYTES_MAX);
            out.text(&node.client_address, NAME_BYTES_MAX);
            out.text(&node.zone, NAME_BYTES_MAX);
        }
        out.count(self.shards.len());
        for shard in &self.shards {
            out.option(shard.leader, |out, leader| out.put_u16_le(leader));
            out.put_u64_le(shard.term.0);
            out.count(shard.replicas.len());
            shard.replicas.iter().for_each(|&node| out.put_u16_le(node));
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let epoch = Epoch(reader.u64()?);
        let cluster = reader.cluster_id()?;
        let durability = decode_durability(reader)?;
        let nodes_count = reader.count("nodes", NODES_MAX, 22)?;
        let nodes = (0..nodes_count)
            .map(|_| {
                Ok(NodeInfo {
                    id: reader.node_id()?,
                    name: reader.text("node name", NAME_BYTES_MAX)?,
                    client_address: reader.text("client address", NAME_BYTES_MAX)?,
                    zone: reader.text("zone", NAME_BYTES_MAX)?,
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        let node = |reader: &mut Reader| match reader.u16()? {
            index if usize::from(index) < nodes_count => Ok(index),
            value => Err(DecodeError::UnknownValue { field: "node of a shard", value: value.into() }),
        };
        let shards_count = reader.count("shards", SHARDS_MAX, 13)?;
        if !shards_count.is_power_of_two() {
            return Err(DecodeError::UnknownValue { field: "shards", value: shards_count as u64 });
        }
        let shards = (0..shards_count)
            .map(|_| {
                let leader = reader.option("leader", node)?;
                let term = Term(reader.u64()?);
                let count = reader.count("replicas", REPLICAS_MAX, 2)?;
                let replicas = (0..count).map(|_| node(reader)).collect::<Result<_, _>>()?;
                Ok(ShardInfo { leader, term, replicas })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { epoch, cluster, durability, nodes, shards })
    }
}

pub(crate) fn encode_durability(out: &mut BytesMut, durability: Durability) {
    out.put_u8(match durability {
        Durability::Fsync => 0,
        Durability::Memory => 1,
    });
}

pub(crate) fn decode_durability(reader: &mut Reader) -> Result<Durability, DecodeError> {
    match reader.u8()? {
        0 => Ok(Durability::Fsync),
        1 => Ok(Durability::Memory),
        value => Err(DecodeError::UnknownValue { field: "durability", value: value.into() }),
    }
}
