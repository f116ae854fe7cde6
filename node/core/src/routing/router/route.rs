//! Where requests go.

use crate::clock::Nanos;
use crate::shard::ShardHandle;
use bytes::Bytes;
use kvorum_protocol::{ClientId, NodeId, ShardId, Term, TraceContext};
use std::sync::Arc;

/// Where a request for a shard goes.
#[derive(Clone, Debug)]
pub enum Route {
    /// A replica on this node, which is believed to lead in this term.
    Local(Arc<ShardHandle>, Term),
    /// Another node, which is.
    Remote(NodeId, Term),
    /// Nobody is known to lead.
    Nowhere,
}

impl Route {
    /// The term of the leader that it leads to.
    pub fn term(&self) -> Option<Term> {
        match self {
            Self::Local(_, term) | Self::Remote(_, term) => Some(*term),
            Self::Nowhere => None,
        }
    }
}

/// A request that another node is to answer.
#[derive(Debug)]
pub struct PassedOn {
    /// The shard that it concerns.
    pub shard: ShardId,
    /// Whose it is.
    pub client: ClientId,
    /// The term of the leader that it is for.
    pub term: Term,
    /// A read that keeps its place behind the writes that were passed on before it.
    pub in_order: bool,
    /// The request, as [`kvorum_protocol::Request::encode_body`] wrote it.
    pub request: Bytes,
    /// Whether it may have an effect.
    pub writes: bool,
    /// Until when an answer is any use.
    pub deadline: Nanos,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}
