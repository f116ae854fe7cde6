//! What a node tells the others of itself once a second, for whoever leads `meta`.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{NAME_BYTES_MAX, NODES_MAX, SHARDS_MAX};
use crate::types::{NodeId, ReplicaId, ShardId};
use bytes::{BufMut, Bytes, BytesMut};

/// A node's report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeReport {
    /// The epoch of the ring map that the node has in force; 0 if it knows none that was agreed on.
    pub epoch: u64,
    /// Replicas of the node that can't be used any more, and wait to be replaced.
    pub faulty: Vec<(ShardId, ReplicaId)>,
    /// Groups that the node leads and that have followed a change of the map to its end, with the epoch of that change.
    pub settled: Vec<(ShardId, u64)>,
    /// The nodes that it is connected with.
    pub hears: Vec<NodeId>,
    /// What it has of its disk, if it has looked.
    pub disk: Option<DiskRoom>,
    /// Bytes that copies of all its replicas would take, about.
    pub held_bytes: u64,
    /// `host:port` where its peers reach it, as it says itself.
    pub peer_address: String,
    /// What the shards cost that the node leads, each at most once.
    pub loads: Vec<ShardLoad>,
    /// Replicas that are coming to the node by a move, with a number that changes while they take something in. `None` from a program
    /// that does not tell.
    pub coming: Option<Vec<(ShardId, u64)>>,
    /// What a newer version has added.
    pub more: Bytes,
}

/// What a shard costs the node that leads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardLoad {
    /// The shard.
    pub shard: ShardId,
    /// Microseconds of processor time per second, over about the last minute.
    pub micros_per_second: u32,
    /// For how many milliseconds the node has led it; `u32::MAX` for that long and longer.
    pub led_ms: u32,
}

/// A node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskRoom {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
}

impl DiskRoom {
    /// How many bytes may still be written until only so many hundredths of it are free, or so many bytes if that is less.
    pub fn room_above(self, percent: u64, bytes: u64) -> u64 {
        let kept = u128::from(self.total_bytes) * u128::from(percent) / 100;
        self.free_bytes.saturating_sub(bytes.min(u64::try_from(kept).unwrap_or(u64::MAX)))
    }
}

impl NodeReport {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.epoch);
        let faulty = self.faulty.iter().map(|(shard, replica)| (*shard, replica.0));
        put_pairs(out, faulty.collect());
        put_pairs(out, self.settled.clone());
        out.count(self.hears.len());
        self.hears.iter().for_each(|node| out.uuid(node.0));
        out.option(self.disk, |out, disk| {
            out.put_u64_le(disk.free_bytes);
            out.put_u64_le(disk.total_bytes);
        });
        out.put_u64_le(self.held_bytes);
        out.text(&self.peer_address, NAME_BYTES_MAX);
        out.count(self.loads.len());
        for load in &self.loads {
            out.put_u16_le(load.shard.0);
            out.put_u32_le(load.micros_per_second);
            out.put_u32_le(load.led_ms);
        }
        if let Some(coming) = &self.coming {
            put_pairs(out, coming.clone());
            out.put_slice(&self.more);
        }
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
        let disk =
            reader.option("disk", |reader| Ok(DiskRoom { free_bytes: reader.u64()?, total_bytes: reader.u64()? }))?;
        let held_bytes = reader.u64()?;
        let peer_address = reader.text("peer address", NAME_BYTES_MAX)?;
        let count = reader.count("loads", SHARDS_MAX + 1, 10)?;
        let load = |_| {
            Ok(ShardLoad { shard: ShardId(reader.u16()?), micros_per_second: reader.u32()?, led_ms: reader.u32()? })
        };
        let loads = (0..count).map(load).collect::<Result<_, DecodeError>>()?;
        let told = !reader.is_empty();
        let coming = told.then(|| {
            let count = reader.count("replicas that come", SHARDS_MAX + 1, 10)?;
            (0..count).map(|_| Ok((ShardId(reader.u16()?), reader.u64()?))).collect::<Result<_, DecodeError>>()
        });
        let coming = coming.transpose()?;
        let more = reader.rest();
        Ok(Self { epoch, faulty, settled, hears, disk, held_bytes, peer_address, loads, coming, more })
    }
}

fn put_pairs(out: &mut BytesMut, pairs: Vec<(ShardId, u64)>) {
    out.count(pairs.len());
    for (shard, number) in pairs {
        out.put_u16_le(shard.0);
        out.put_u64_le(number);
    }
}
