//! What one node asks another's admin actor, as bytes.
//!
//! The actor's message has one variant that never changes. The questions are in its bytes: a message that an actor can't
//! decode is a failure of that actor in ractor, and a newer node must not fail an older one by asking something new.

use crate::runtime::issuing::IssueRequest;
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_protocol::codec::{DecodeError, Reader, Writer};
use kvorum_protocol::{AuthVerb, ClusterVerb, NodeId, ShardId};

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
    /// Asks whoever leads `meta` for what an operator wants.
    Ask(ClusterVerb),
    /// Asks whoever leads `meta` for the cluster's plan, or for what it would be if something were asked of the cluster.
    Plan(Option<ClusterVerb>),
    /// Asks whoever leads `meta` to change who may do what.
    ChangeAuth(AuthVerb),
    /// What reads found in the node's memory.
    CacheFigures,
    /// What the console of another node shows of this one, beside its status.
    NodeFigures,
    /// Whether the node can sign the certificates of nodes that join.
    CanIssue,
    /// Asks it to sign one.
    Issue(IssueRequest),
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
            Self::Ask(verb) => {
                out.put_u8(3);
                verb.encode(&mut out);
            }
            Self::Plan(verb) => {
                out.put_u8(4);
                out.option(verb.as_ref(), |out, verb| verb.encode(out));
            }
            Self::ChangeAuth(verb) => {
                out.put_u8(5);
                verb.encode(&mut out);
            }
            Self::CacheFigures => out.put_u8(16),
            Self::NodeFigures => out.put_u8(19),
            Self::CanIssue => out.put_u8(17),
            Self::Issue(asked) => {
                out.put_u8(18);
                asked.encode(&mut out);
            }
        }
        out.into()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Bytes::from(bytes));
        let request = match reader.u8()? {
            1 => Self::Status,
            2 => Self::TransferLeadership { shard: ShardId(reader.u16()?), to: reader.node_id()? },
            3 => Self::Ask(ClusterVerb::decode(&mut reader)?),
            4 => Self::Plan(reader.option("verb", ClusterVerb::decode)?),
            5 => Self::ChangeAuth(AuthVerb::decode(&mut reader)?),
            16 => Self::CacheFigures,
            19 => Self::NodeFigures,
            17 => Self::CanIssue,
            18 => Self::Issue(IssueRequest::decode(&mut reader)?),
            value => return Err(DecodeError::UnknownValue { field: "admin request", value: value.into() }),
        };
        reader.finish()?;
        Ok(request)
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
    use kvorum_protocol::TokenId;
    use uuid::Uuid;

    #[test]
    fn requests_and_replies_come_back_and_nothing_shorter_does() {
        let to = NodeId(Uuid::from_u128(7));
        for request in [
            AdminRequest::Status,
            AdminRequest::TransferLeadership { shard: ShardId(3), to },
            AdminRequest::Ask(ClusterVerb::Remove { node: to, accept_fewer_zones: true }),
            AdminRequest::Plan(None),
            AdminRequest::ChangeAuth(AuthVerb::RemoveUser("ada".to_owned())),
            AdminRequest::CacheFigures,
            AdminRequest::NodeFigures,
            AdminRequest::CanIssue,
            AdminRequest::Issue(IssueRequest {
                token: TokenId(Uuid::from_u128(8)),
                node: to,
                signing_request: Bytes::from_static(b"a request"),
            }),
            AdminRequest::Plan(Some(ClusterVerb::Keep(to))),
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
