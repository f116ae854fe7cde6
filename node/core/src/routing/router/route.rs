//! Where requests go.

use crate::clock::Nanos;
use crate::shard::ShardHandle;
use bytes::Bytes;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{ClientId, ErrorCode, NodeId, Outcome, ServerError, ShardId, Term, TraceContext};
use std::sync::Arc;

/// Most bytes of a request that is passed on: no node reads a longer one.
pub const PASSED_ON_BYTES_MAX: usize = FRAME_BYTES_MAX;

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
    /// It is a write that was sent before: an earlier copy may have an effect.
    pub is_retry: bool,
    /// Until when an answer is any use.
    pub deadline: Nanos,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// The error of a request that is too large to be passed on. No later try from this node changes that.
///
/// An earlier copy of a retry may have taken effect, while this node led the shard itself. So the outcome of a retry stays open.
pub(super) fn too_large(bytes: usize, is_retry: bool) -> ServerError {
    let detail = format!(
        "the request has {bytes} bytes, and this node passes on {PASSED_ON_BYTES_MAX} at most: send it to the node that leads the \
         shard, or send less"
    );
    let outcome = if is_retry { Outcome::Unknown } else { Outcome::NotApplied };
    ServerError::new(ErrorCode::TooLarge, detail).with_outcome(outcome)
}
