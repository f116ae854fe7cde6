//! What operators ask of the cluster: each is decided by the leader of `meta`, and recorded in the ring map.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{ABSENCE_MS_MAX, MOVE_RATE_MB_MAX, NAME_BYTES_MAX, NODE_WEIGHT_MAX};
use crate::peer::Levels;
use crate::token::{NewToken, NodeKey, TokenId};
use crate::types::{FolderId, NodeId};
use bytes::{BufMut, BytesMut};

/// What is asked. Each may be repeated: whoever asks again hears that it is done, or under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterVerb {
    /// A node joins the cluster.
    Join(Box<NewNode>),
    /// A node gives all it holds to others and leaves for good. It may be dead.
    Remove {
        /// The node.
        node: NodeId,
        /// Replicas may stand in fewer zones than now.
        accept_fewer_zones: bool,
    },
    /// A node that is being removed stays.
    Keep(NodeId),
    /// A node will be away for a while: it leads nothing, is given nothing, and what it holds is not made anew.
    Drain {
        /// The node.
        node: NodeId,
        /// For how long, in milliseconds; at most [`ABSENCE_MS_MAX`].
        for_ms: u64,
    },
    /// A node that is drained is as any other again.
    Undrain(NodeId),
    /// A node gives all it holds to one that holds nothing yet, and leaves for good. It may be dead.
    Replace {
        /// The node that leaves.
        old: NodeId,
        /// The one that takes its place.
        new: NodeId,
    },
    /// Changes what is known of a node.
    Set {
        /// The node.
        node: NodeId,
        /// Its failure zone from now on.
        zone: Option<String>,
        /// Its weight from now on: how much it takes, relative to the others; 1 to [`NODE_WEIGHT_MAX`].
        weight: Option<u32>,
    },
    /// No replica moves for balance or removal until that is allowed again. Repair goes on.
    Pause(bool),
    /// How many MiB per second a node sends of snapshots, and takes in; `None` for the default.
    Rate(Option<u32>),
    /// What nodes that are down hold is made anew at once, however many they are.
    AllowRepair,
    /// The cluster goes to the highest level that all its nodes speak. There is no way back.
    Finalize,
    /// A node that has a token may join once.
    Token(Box<NewToken>),
    /// A node joins by a token. Only nodes ask this of each other, and they have seen the proof.
    JoinByToken {
        /// The token.
        token: TokenId,
        /// The key of the node: it alone gets a certificate.
        key: NodeKey,
        /// The node. If its name is empty the cluster gives it one; if its zone is, the token's counts.
        node: Box<NewNode>,
    },
    /// What clients store is sealed from now on, or with another key.
    Encrypt(EncryptVerb),
}

/// What is asked of the keys with which a cluster seals what it stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncryptVerb {
    /// Seal from now on. There is no way back.
    On,
    /// Begin another data key.
    Rotate,
    /// Wrap the data keys with the key-encryption key of now.
    Rewrap,
}

impl EncryptVerb {
    const ALL: [Self; 3] = [Self::On, Self::Rotate, Self::Rewrap];
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

impl ClusterVerb {
    /// Appends the verb: its kind, then its fields.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Join(node) => {
                out.put_u8(1);
                node.encode(out);
            }
            Self::Remove { node, accept_fewer_zones } => {
                out.put_u8(2);
                out.uuid(node.0);
                out.bool(*accept_fewer_zones);
            }
            Self::Keep(node) => {
                out.put_u8(3);
                out.uuid(node.0);
            }
            Self::Drain { node, for_ms } => {
                out.put_u8(4);
                out.uuid(node.0);
                out.put_u64_le(*for_ms);
            }
            Self::Undrain(node) => {
                out.put_u8(5);
                out.uuid(node.0);
            }
            Self::Replace { old, new } => {
                out.put_u8(6);
                out.uuid(old.0);
                out.uuid(new.0);
            }
            Self::Set { node, zone, weight } => {
                out.put_u8(7);
                out.uuid(node.0);
                out.option(zone.as_ref(), |out, zone| out.text(zone, NAME_BYTES_MAX));
                out.option(*weight, |out, weight| out.put_u32_le(weight));
            }
            Self::Pause(paused) => {
                out.put_u8(8);
                out.bool(*paused);
            }
            Self::Rate(mb) => {
                out.put_u8(9);
                out.option(*mb, |out, mb| out.put_u32_le(mb));
            }
            Self::AllowRepair => out.put_u8(10),
            Self::Finalize => out.put_u8(11),
            Self::Token(token) => {
                out.put_u8(12);
                token.encode(out);
            }
            Self::JoinByToken { token, key, node } => {
                out.put_u8(13);
                out.uuid(token.0);
                out.put_slice(&key.0);
                node.encode(out);
            }
            Self::Encrypt(what) => {
                out.put_u8(14);
                out.put_u8(*what as u8);
            }
        }
    }

    /// Reads what [`ClusterVerb::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Join(Box::new(NewNode::decode(reader)?)),
            2 => Self::Remove { node: reader.node_id()?, accept_fewer_zones: reader.bool("accept fewer zones")? },
            3 => Self::Keep(reader.node_id()?),
            4 => Self::Drain {
                node: reader.node_id()?,
                for_ms: within("absence in milliseconds", reader.u64()?, 1, ABSENCE_MS_MAX)?,
            },
            5 => Self::Undrain(reader.node_id()?),
            6 => Self::Replace { old: reader.node_id()?, new: reader.node_id()? },
            7 => Self::Set {
                node: reader.node_id()?,
                zone: reader.option("zone", |reader| reader.text("zone", NAME_BYTES_MAX))?,
                weight: reader
                    .option("weight", |reader| within("weight", reader.u32()?.into(), 1, NODE_WEIGHT_MAX.into()))?
                    .map(|weight| weight as u32),
            },
            8 => Self::Pause(reader.bool("paused")?),
            9 => Self::Rate(
                reader
                    .option("rate", |reader| within("rate", reader.u32()?.into(), 1, MOVE_RATE_MB_MAX.into()))?
                    .map(|mb| mb as u32),
            ),
            10 => Self::AllowRepair,
            11 => Self::Finalize,
            12 => Self::Token(Box::new(NewToken::decode(reader)?)),
            13 => Self::JoinByToken {
                token: reader.token_id()?,
                key: NodeKey(reader.array()?),
                node: Box::new(NewNode::decode(reader)?),
            },
            14 => {
                let value = reader.u8()?;
                let what = EncryptVerb::ALL.get(usize::from(value)).copied();
                let unknown = DecodeError::UnknownValue { field: "what is asked of keys", value: value.into() };
                Self::Encrypt(what.ok_or(unknown)?)
            }
            value => {
                return Err(DecodeError::UnknownValue { field: "what is asked of the cluster", value: value.into() });
            }
        })
    }
}

pub(crate) fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<u64, DecodeError> {
    match value {
        value if value < least => Err(DecodeError::UnknownValue { field, value }),
        value if value > most => Err(DecodeError::OverLimit { field, value, limit: most }),
        value => Ok(value),
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
