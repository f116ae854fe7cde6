//! What the cluster does, and what is to come: the leader of `meta` says it, since it decides.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{
    ERROR_TEXT_BYTES_MAX, MOVE_RATE_MB_CALM, MOVE_RATE_MB_DEFAULT, NODES_MAX, PLAN_REASONS_MAX, SHARDS_MAX,
};
use crate::types::{Epoch, NodeId, ShardId};
use bytes::{BufMut, Bytes, BytesMut};

/// The plan. Of a question what would come if something were asked of the cluster, it is the plan from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterPlan {
    /// The epoch of the ring map that it starts from.
    pub epoch: Epoch,
    /// The cluster's feature level.
    pub level: u16,
    /// The level to which the cluster could go now, if that is a higher one: all nodes speak it.
    pub next_level: Option<u16>,
    /// How many replicas each shard should have.
    pub replication_factor: u8,
    /// No replica moves for balance or removal.
    pub paused: bool,
    /// How many MiB per second a node sends of snapshots, if it was told; see [`ClusterPlan::moves_rate_mb`].
    pub rate_mb: Option<u32>,
    /// The nodes that hold the ring map's group and should vote in it.
    pub meta: Vec<NodeId>,
    /// All nodes of the ring map.
    pub nodes: Vec<NodeOutlook>,
    /// The moves that are under way, then those that are to come, in the order in which they should begin.
    pub moves: Vec<PlannedMove>,
    /// How many shards should be led by another one of their nodes, once everything has moved.
    pub leads: u16,
    /// Why something does not go on; at most [`PLAN_REASONS_MAX`].
    pub reasons: Vec<PlanReason>,
    /// With which keys the cluster seals what it stores, if it does, or is about to.
    pub sealing: Option<SealingOutlook>,
}

/// How far a cluster is with sealing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealingOutlook {
    /// The data key that new records are sealed with; 0 for none yet.
    pub active: u16,
    /// The newest data key. It is used once all nodes have it.
    pub newest: u16,
    /// How many data keys are kept.
    pub keys: u16,
    /// The data keys are wrapped with the key-encryption key of the node that answers, and with no older one.
    pub wrapped: bool,
    /// Nodes that have not said yet that they have all keys, wrapped as now, in their folder, and seal with the active one.
    pub waits_for: Vec<NodeId>,
}

/// Why something does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanReason {
    /// A sentence, for people; at most 1 KiB of it is told.
    pub text: String,
    /// What does not go on is a repair: until then, less can be lost than should be.
    pub of_repair: bool,
}

/// How a node stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOutlook {
    /// The node.
    pub node: NodeId,
    /// What the cluster wants of it.
    pub standing: NodeStanding,
    /// The ring map says that it is down.
    pub down: bool,
    /// For how long nobody has heard it, in milliseconds.
    pub silent_ms: Option<u64>,
    /// In how many milliseconds something becomes of that by itself: what a node that is down holds is made anew, or one that is
    /// drained is as any other again.
    pub ends_in_ms: Option<u64>,
}

/// What the cluster wants of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeStanding {
    /// It holds its share.
    Up,
    /// It will be away for a while.
    Draining,
    /// It gives all its replicas to others, and is removed then.
    Removing,
}

/// A move of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedMove {
    /// The shard, or `meta`.
    pub shard: ShardId,
    /// Whose replica goes; `None` if the group grows.
    pub from: Option<NodeId>,
    /// Who takes one; `None` if the group shrinks.
    pub to: Option<NodeId>,
    /// What for.
    pub purpose: MovePurpose,
    /// It has begun.
    pub under_way: bool,
}

/// What a move is for, the more urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum MovePurpose {
    /// A replica is lost with its node.
    Repair,
    /// A node is to be empty.
    Removal,
    /// Nodes are to hold their shares.
    Balance,
}

impl NodeStanding {
    const ALL: [Self; 3] = [Self::Up, Self::Draining, Self::Removing];
}

impl MovePurpose {
    const ALL: [Self; 3] = [Self::Repair, Self::Removal, Self::Balance];
}

impl ClusterPlan {
    /// Whether what this node holds is made anew elsewhere, or is to be.
    pub fn makes_anew(&self, node: NodeId) -> bool {
        self.moves.iter().any(|planned| planned.purpose == MovePurpose::Repair && planned.from == Some(node))
    }

    /// How many MiB per second a node sends while these moves are under way: what it was told, or what nodes keep to by themselves.
    pub fn moves_rate_mb(&self) -> u32 {
        let has_lost = self.nodes.iter().any(|outlook| outlook.down);
        self.rate_mb.unwrap_or(if has_lost { MOVE_RATE_MB_DEFAULT } else { MOVE_RATE_MB_CALM })
    }

    /// Appends the plan; between nodes it travels in exactly this form.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.epoch.0);
        out.put_u16_le(self.level);
        out.option(self.next_level, |out, level| out.put_u16_le(level));
        out.put_u8(self.replication_factor);
        out.bool(self.paused);
        out.option(self.rate_mb, |out, mb| out.put_u32_le(mb));
        out.count(self.meta.len());
        self.meta.iter().for_each(|node| out.uuid(node.0));
        out.count(self.nodes.len());
        for node in &self.nodes {
            out.uuid(node.node.0);
            out.put_u8(node.standing as u8);
            out.bool(node.down);
            out.option(node.silent_ms, |out, ms| out.put_u64_le(ms));
            out.option(node.ends_in_ms, |out, ms| out.put_u64_le(ms));
        }
        out.count(self.moves.len());
        for planned in &self.moves {
            out.put_u16_le(planned.shard.0);
            out.option(planned.from, |out, node| out.uuid(node.0));
            out.option(planned.to, |out, node| out.uuid(node.0));
            out.put_u8(planned.purpose as u8);
            out.bool(planned.under_way);
        }
        out.put_u16_le(self.leads);
        out.count(self.reasons.len());
        for reason in &self.reasons {
            out.text(&reason.text, ERROR_TEXT_BYTES_MAX);
            out.bool(reason.of_repair);
        }
        // Of a plain cluster nothing is said: clients of earlier versions read no more.
        if let Some(sealing) = &self.sealing {
            out.put_u16_le(sealing.active);
            out.put_u16_le(sealing.newest);
            out.put_u16_le(sealing.keys);
            out.bool(sealing.wrapped);
            out.count(sealing.waits_for.len());
            sealing.waits_for.iter().for_each(|node| out.uuid(node.0));
        }
    }

    /// Reads a plan that must fill `bytes`.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let plan = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(plan)
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: Epoch(reader.u64()?),
            level: reader.u16()?,
            next_level: reader.option("next level", Reader::u16)?,
            replication_factor: reader.u8()?,
            paused: reader.bool("paused")?,
            rate_mb: reader.option("rate", Reader::u32)?,
            meta: {
                let count = reader.count("nodes of meta", NODES_MAX, 16)?;
                (0..count).map(|_| reader.node_id()).collect::<Result<_, _>>()?
            },
            nodes: {
                let count = reader.count("nodes", NODES_MAX, 20)?;
                (0..count).map(|_| decode_node(reader)).collect::<Result<_, _>>()?
            },
            moves: {
                // One of each group, the ring map's included.
                let count = reader.count("moves", SHARDS_MAX + 1, 6)?;
                (0..count).map(|_| decode_move(reader)).collect::<Result<_, _>>()?
            },
            leads: reader.u16()?,
            reasons: {
                let count = reader.count("reasons", PLAN_REASONS_MAX, 3)?;
                (0..count).map(|_| decode_reason(reader)).collect::<Result<_, _>>()?
            },
            sealing: if reader.remaining() == 0 { None } else { Some(decode_sealing(reader)?) },
        })
    }
}

fn decode_node(reader: &mut Reader) -> Result<NodeOutlook, DecodeError> {
    Ok(NodeOutlook {
        node: reader.node_id()?,
        standing: one_of("what is wanted of a node", reader.u8()?, &NodeStanding::ALL)?,
        down: reader.bool("down")?,
        silent_ms: reader.option("silence", Reader::u64)?,
        ends_in_ms: reader.option("end", Reader::u64)?,
    })
}

fn decode_move(reader: &mut Reader) -> Result<PlannedMove, DecodeError> {
    Ok(PlannedMove {
        shard: ShardId(reader.u16()?),
        from: reader.option("from", Reader::node_id)?,
        to: reader.option("to", Reader::node_id)?,
        purpose: one_of("what a move is for", reader.u8()?, &MovePurpose::ALL)?,
        under_way: reader.bool("under way")?,
    })
}

fn decode_sealing(reader: &mut Reader) -> Result<SealingOutlook, DecodeError> {
    Ok(SealingOutlook {
        active: reader.u16()?,
        newest: reader.u16()?,
        keys: reader.u16()?,
        wrapped: reader.bool("wrapped")?,
        waits_for: {
            let count = reader.count("nodes without a data key", NODES_MAX, 16)?;
            (0..count).map(|_| reader.node_id()).collect::<Result<_, _>>()?
        },
    })
}

fn decode_reason(reader: &mut Reader) -> Result<PlanReason, DecodeError> {
    Ok(PlanReason { text: reader.text("reason", ERROR_TEXT_BYTES_MAX)?, of_repair: reader.bool("of repair")? })
}

fn one_of<T: Copy>(field: &'static str, value: u8, all: &[T]) -> Result<T, DecodeError> {
    all.get(usize::from(value)).copied().ok_or(DecodeError::UnknownValue { field, value: value.into() })
}
