//! What a node tells the others of itself once a second, for whoever leads `meta`.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{NODES_MAX, SHARDS_MAX};
use crate::types::{NodeId, ReplicaId, ShardId};
use bytes::{BufMut, Bytes, BytesMut};

/// A node's report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeReport {
    /// The epoch of the ring map that the node has in force.
    pub epoch: u64,
    /// Replicas of the node that can't be used any more, and wait to be replaced.
    pub faulty: Vec<(ShardId, ReplicaId)>,
    /// Groups that the node leads and that have followed a change of the map to its end, with the epoch of that change.
    pub settled: Vec<(ShardId, u64)>,
    /// The nodes that it is connected with.
    pub hears: Vec<NodeId>,
    /// What a newer version has added.
    pub more: Bytes,
}

impl NodeReport {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.epoch);
        let faulty = self.faulty.iter().map(|(shard, replica)| (*shard, replica.0));
        put_pairs(out, faulty.collect());
        put_pairs(out, self.settled.clone());
        out.count(self.hears.len());
        self.hears.iter().for_each(|node| out.uuid(node.0));
        out.put_slice(&self.more);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let epoch = reader.u64()?;
        let count = reader.count("faulty replicas", SHARDS_MAX + 1, 10)?;
        let faulty = (0..count).map(|_| Ok((ShardId(reader.u16()?), reader.replica_id("faulty replica")?)));
        let faulty = faulty.collect::<Result<_, DecodeError>>()?;
        let count = reader.count("settled groups", SHARDS_MAX + 1, 10)?;
        let settled = (0..count).map(|_| Ok((ShardId(reader.u16()?), reader.u64()?)));
        let settled = settled.collect::<Result<_, DecodeError>>()?;
        let count = reader.count("nodes that are heard", NODES_MAX, 16)?;
        let hears = (0..count).map(|_| reader.node_id()).collect::<Result<_, DecodeError>>()?;
        Ok(Self { epoch, faulty, settled, hears, more: reader.rest() })
    }
}

fn put_pairs(out: &mut BytesMut, pairs: Vec<(ShardId, u64)>) {
    out.count(pairs.len());
    for (shard, number) in pairs {
        out.put_u16_le(shard.0);
        out.put_u64_le(number);
    }
}
