//! What one node asks another's admin actor, as bytes.
//!
//! The actor's message has one variant that never changes. The questions are in its bytes: a message that an actor can't
//! decode is a failure of that actor in ractor, and a newer node must not fail an older one by asking something new.

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_core::ring::verbs::Verb;
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::{NewNode, NodeId, ShardId};

/// Longest text of a refusal, in bytes; a longer one is cut.
const REFUSAL_BYTES_MAX: usize = 1024;
/// Largest reply, in bytes: the status of a node with every shard there can be.
pub(super) const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AdminRequest {
    Status,
    TransferLeadership {
        shard: ShardId,
        to: NodeId,
    },
    /// Asks whoever leads `meta` to remove a node.
    Remove {
        node: NodeId,
        accept_fewer_zones: bool,
    },
    /// Asks whoever leads `meta` to keep a node that is being removed.
    Keep(NodeId),
    /// Asks whoever leads `meta` to take a node in.
    Add(Box<NewNode>),
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AdminReply {
    Done(Vec<u8>),
    /// It could be done, in principle, but was not; the text says why.
    Refused(String),
    /// It is not done yet, or another node would have to do it: ask again.
    AskAgain,
    /// The node doesn't know the question.
    NotUnderstood,
}

impl AdminRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Self::Status => out.put_u8(1),
            Self::TransferLeadership { shard, to } => {
                out.put_u8(2);
                out.put_u16_le(shard.0);
                out.uuid(to.0);
            }
            Self::Remove { node, accept_fewer_zones } => {
                out.put_u8(3);
                out.uuid(node.0);
                out.bool(*accept_fewer_zones);
            }
            Self::Keep(node) => {
                out.put_u8(4);
                out.uuid(node.0);
            }
            Self::Add(node) => {
                out.put_u8(5);
                node.encode(&mut out);
            }
        }
        out.into()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::from(bytes));
        let request = match reader.u8()? {
            1 => Self::Status,
            2 => Self::TransferLeadership { shard: ShardId(reader.u16()?), to: reader.node_id()? },
            3 => Self::Remove { node: reader.node_id()?, accept_fewer_zones: reader.bool("accept fewer zones")? },
            4 => Self::Keep(reader.node_id()?),
            5 => Self::Add(Box::new(NewNode::decode(&mut reader)?)),
            value => return Err(DecodeError::UnknownValue { field: "admin request", value: value.into() }),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl AdminRequest {
    pub(super) fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Remove { node, accept_fewer_zones } => {
                Self::Remove { node: *node, accept_fewer_zones: *accept_fewer_zones }
            }
            Verb::Keep(node) => Self::Keep(*node),
            Verb::Join(node) => Self::Add(node.clone()),
        }
    }

    pub(super) fn verb(&self) -> Option<Verb> {
        match self {
            Self::Remove { node, accept_fewer_zones } => {
                Some(Verb::Remove { node: *node, accept_fewer_zones: *accept_fewer_zones })
            }
            Self::Keep(node) => Some(Verb::Keep(*node)),
            Self::Add(node) => Some(Verb::Join(node.clone())),
            Self::Status | Self::TransferLeadership { .. } => None,
        }
    }
}

impl AdminReply {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Self::Done(bytes) => {
                out.put_u8(0);
                out.bytes(&bytes);
            }
            Self::Refused(text) => {
                out.put_u8(1);
                out.text(&text, REFUSAL_BYTES_MAX);
            }
            Self::NotUnderstood => out.put_u8(2),
            Self::AskAgain => out.put_u8(3),
        }
        out.into()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::from(bytes));
        let reply = match reader.u8()? {
            0 => Self::Done(reader.bytes("admin reply", REPLY_BYTES_MAX)?.into()),
            1 => Self::Refused(reader.text("refusal", REFUSAL_BYTES_MAX)?),
            2 => Self::NotUnderstood,
            3 => Self::AskAgain,
            value => return Err(DecodeError::UnknownValue { field: "admin reply", value: value.into() }),
        };
        reader.finish()?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn requests_and_replies_come_back_and_nothing_shorter_does() {
        let to = NodeId(Uuid::from_u128(7));
        for request in [
            AdminRequest::Status,
            AdminRequest::TransferLeadership { shard: ShardId(3), to },
            AdminRequest::Remove { node: to, accept_fewer_zones: true },
            AdminRequest::Keep(to),
        ] {
            let bytes = request.encode();
            assert_eq!(AdminRequest::decode(bytes.clone()), Ok(request));
            (0..bytes.len()).for_each(|end| assert!(AdminRequest::decode(bytes[..end].to_vec()).is_err()));
        }
        for reply in [
            AdminReply::Done(vec![1, 2, 3]),
            AdminReply::Refused("not the leader".into()),
            AdminReply::AskAgain,
            AdminReply::NotUnderstood,
        ] {
            let bytes = reply.clone().encode();
            assert_eq!(AdminReply::decode(bytes.clone()), Ok(reply));
            (0..bytes.len()).for_each(|end| assert!(AdminReply::decode(bytes[..end].to_vec()).is_err()));
        }
    }

    #[test]
    fn an_unknown_question_is_an_error() {
        assert!(AdminRequest::decode(vec![77]).is_err());
    }
}
