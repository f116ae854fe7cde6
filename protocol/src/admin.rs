//! What operators ask of a node, and of the cluster.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::NAME_BYTES_MAX;
use crate::peer::Levels;
use crate::types::{FolderId, NodeId, ShardId};
use bytes::{BufMut, BytesMut};

/// An operator's command to the asked node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminCommand {
    /// Hand the leadership of a shard, which the asked node leads, to another node.
    TransferLeadership {
        /// The shard.
        shard: ShardId,
        /// Who should lead it.
        to: NodeId,
    },
    /// Stop the node gracefully: hand over leadership, answer what is under way, sync, exit.
    Shutdown,
    /// Have a node give all it holds to others and leave the cluster for good. Answered once that is recorded.
    RemoveNode {
        /// The node. It may be dead.
        node: NodeId,
        /// Replicas may stand in fewer zones than now.
        accept_fewer_zones: bool,
    },
    /// Have a node stay that is being removed.
    KeepNode(NodeId),
    /// Have a node join the cluster. Answered once that is recorded; it takes its share of the replicas then.
    AddNode(Box<NewNode>),
    /// Fault hook: panic in a shard's actor. Refused unless the node runs with fault hooks on.
    PanicShard(ShardId),
    /// Fault hook: drop everything to and from all peers, or stop doing so. Refused unless fault hooks are on.
    CutPeers(bool),
    /// Fault hook: the node's wall clock shows so many milliseconds more than its machine's. Refused unless fault hooks are on.
    SkewClock(i64),
}

/// A node that joins, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewNode {
    /// Its identity, which no node had before.
    pub id: NodeId,
    /// Its name, which no other node has; at most 255 bytes.
    pub name: String,
    /// Its failure zone; empty for one of its own.
    pub zone: String,
    /// `host:port` of its binary door.
    pub client: String,
    /// `host:port` of its peer door.
    pub peer: String,
    /// Its data folder.
    pub folder: FolderId,
    /// What its program speaks.
    pub levels: Levels,
}

impl AdminCommand {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::TransferLeadership { shard, to } => {
                out.put_u8(1);
                out.put_u16_le(shard.0);
                out.uuid(to.0);
            }
            Self::Shutdown => out.put_u8(2),
            Self::RemoveNode { node, accept_fewer_zones } => {
                out.put_u8(3);
                out.uuid(node.0);
                out.bool(*accept_fewer_zones);
            }
            Self::KeepNode(node) => {
                out.put_u8(4);
                out.uuid(node.0);
            }
            Self::AddNode(node) => {
                out.put_u8(5);
                node.encode(out);
            }
            Self::PanicShard(shard) => {
                out.put_u8(100);
                out.put_u16_le(shard.0);
            }
            Self::CutPeers(cut) => {
                out.put_u8(101);
                out.bool(*cut);
            }
            Self::SkewClock(ms) => {
                out.put_u8(102);
                out.put_i64_le(*ms);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::TransferLeadership { shard: ShardId(reader.u16()?), to: reader.node_id()? },
            2 => Self::Shutdown,
            3 => Self::RemoveNode { node: reader.node_id()?, accept_fewer_zones: reader.bool("accept fewer zones")? },
            4 => Self::KeepNode(reader.node_id()?),
            5 => Self::AddNode(Box::new(NewNode::decode(reader)?)),
            100 => Self::PanicShard(ShardId(reader.u16()?)),
            101 => Self::CutPeers(reader.bool("cut")?),
            102 => Self::SkewClock(reader.i64()?),
            value => return Err(DecodeError::UnknownValue { field: "admin command", value: value.into() }),
        })
    }
}

impl NewNode {
    /// Appends the node: id, name, zone, addresses, data folder, levels.
    pub fn encode(&self, out: &mut BytesMut) {
        out.uuid(self.id.0);
        for text in [&self.name, &self.zone, &self.client, &self.peer] {
            out.text(text, NAME_BYTES_MAX);
        }
        out.uuid(self.folder.0);
        out.put_u16_le(self.levels.min);
        out.put_u16_le(self.levels.max);
    }

    /// Reads what [`NewNode::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.node_id()?,
            name: reader.text("node's name", NAME_BYTES_MAX)?,
            zone: reader.text("node's zone", NAME_BYTES_MAX)?,
            client: reader.text("node's address for clients", NAME_BYTES_MAX)?,
            peer: reader.text("node's address for peers", NAME_BYTES_MAX)?,
            folder: reader.folder_id()?,
            levels: Levels { min: reader.u16()?, max: reader.u16()? },
        })
    }
}
