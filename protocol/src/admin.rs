//! What operators ask of a node, and of the cluster.

use crate::auth::{AuthVerb, KeyClasses};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{AUTH_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::log_level::LogLevelAsk;
use crate::slow::SlowLogAsk;
use crate::types::{NodeId, ShardId};
use crate::verb::ClusterVerb;
use bytes::{BufMut, Bytes, BytesMut};

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
    /// Have the cluster do something. Answered once that is recorded.
    Ask(ClusterVerb),
    /// Say what the cluster does at the moment and what is to come, or what would come if this were asked of it.
    Plan(Option<ClusterVerb>),
    /// Say which cluster this is and which authority it has, so that a token can be written.
    Authority,
    /// Change who may do what. Answered once that is recorded.
    Auth(Box<AuthVerb>),
    /// Say who may do what.
    ShowAuth,
    /// Say who is asking.
    WhoAmI,
    /// Say whether a user may do something with a key: an error says that it may not, and why.
    CheckAccess {
        /// The user.
        user: String,
        /// What it would do: each of these.
        classes: KeyClasses,
        /// The key, or the prefix of a scan.
        key: Bytes,
    },
    /// Say which operations took long on the asked node, or forget them.
    SlowLog(SlowLogAsk),
    /// Say which requests have come in at the asked node since somebody watches: from a number on, or from now on.
    Monitor(Option<u64>),
    /// Say how much the asked node logs, and change that for a while.
    LogLevel(LogLevelAsk),
    /// Fault hook: panic in a shard's actor. Refused unless the node runs with fault hooks on.
    PanicShard(ShardId),
    /// Fault hook: drop everything to and from all peers, or stop doing so. Refused unless fault hooks are on.
    CutPeers(bool),
    /// Fault hook: the node's wall clock shows so many milliseconds more than its machine's. Refused unless fault hooks are on.
    SkewClock(i64),
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
            Self::Ask(verb) => {
                out.put_u8(3);
                verb.encode(out);
            }
            Self::Plan(verb) => {
                out.put_u8(4);
                out.option(verb.as_ref(), |out, verb| verb.encode(out));
            }
            Self::Authority => out.put_u8(5),
            Self::Auth(verb) => {
                out.put_u8(6);
                verb.encode(out);
            }
            Self::ShowAuth => out.put_u8(7),
            Self::WhoAmI => out.put_u8(8),
            Self::CheckAccess { user, classes, key } => {
                out.put_u8(9);
                out.text(user, AUTH_NAME_BYTES_MAX);
                out.put_u8(classes.0);
                out.bytes(key);
            }
            Self::SlowLog(ask) => {
                out.put_u8(10);
                ask.encode(out);
            }
            Self::Monitor(from) => {
                out.put_u8(11);
                out.option(*from, |out, from| out.put_u64_le(from));
            }
            Self::LogLevel(ask) => {
                out.put_u8(12);
                ask.encode(out);
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
            3 => Self::Ask(ClusterVerb::decode(reader)?),
            4 => Self::Plan(reader.option("verb", ClusterVerb::decode)?),
            5 => Self::Authority,
            6 => Self::Auth(Box::new(AuthVerb::decode(reader)?)),
            7 => Self::ShowAuth,
            8 => Self::WhoAmI,
            9 => Self::CheckAccess {
                user: reader.text("user's name", AUTH_NAME_BYTES_MAX)?,
                classes: KeyClasses::decode(reader.u8()?)?,
                key: reader.bytes("key length", KEY_BYTES_MAX)?,
            },
            10 => Self::SlowLog(SlowLogAsk::decode(reader)?),
            11 => Self::Monitor(reader.option("number of a request", Reader::u64)?),
            12 => Self::LogLevel(LogLevelAsk::decode(reader)?),
            100 => Self::PanicShard(ShardId(reader.u16()?)),
            101 => Self::CutPeers(reader.bool("cut")?),
            102 => Self::SkewClock(reader.i64()?),
            value => return Err(DecodeError::UnknownValue { field: "admin command", value: value.into() }),
        })
    }
}
