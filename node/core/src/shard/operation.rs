//! What is asked of a shard.

use crate::clock::Nanos;
use bytes::Bytes;
use kvorum_protocol::{Ack, Action, AtomicRequest, ClientId, Mutation, Receipt, Term, WriteId};

/// Names a request until it is answered. The caller's to choose; unique among its unanswered ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(pub u64);

/// A request to one shard.
#[derive(Clone, Debug)]
pub struct ShardRequest {
    /// Comes back with the reply.
    pub ticket: Ticket,
    /// Who asks, and takes turns with others that do.
    pub client: ClientId,
    /// Past this moment it is not begun any more, and nobody waits for it.
    pub deadline: Nanos,
    /// The term of the leader that it is for; 0 for whoever leads. See [`super::hand_over`].
    pub term: Term,
    /// What is asked.
    pub operation: Operation,
}

/// What is asked of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// One write.
    Write {
        /// Who writes.
        client: ClientId,
        /// Its number.
        id: WriteId,
        /// When to answer.
        ack: Ack,
        /// What to write.
        mutation: Mutation,
    },
    /// Checks and writes, all or nothing.
    Atomic {
        /// Who writes.
        client: ClientId,
        /// What to write.
        request: AtomicRequest,
    },
    /// A read that keeps its place behind the writes that were sent before it.
    Get(Bytes),
    /// Whether this replica still leads, confirmed by a quorum.
    Confirm,
    /// What became of a write that was accepted.
    Await {
        /// The write.
        receipt: Receipt,
        /// How long its client waits, in milliseconds; the request's deadline says so, too.
        wait_ms: u32,
    },
}

impl Operation {
    /// What a request, or a part of it, takes besides keys and values.
    pub(crate) const OVERHEAD_BYTES: usize = 256;

    /// About how many bytes the request keeps in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write { mutation, .. } => Self::mutation_bytes(mutation),
            Self::Atomic { request, .. } => Self::atomic_bytes(request),
            Self::Get(key) => key.len() + Self::OVERHEAD_BYTES,
            Self::Confirm | Self::Await { .. } => Self::OVERHEAD_BYTES,
        }
    }

    /// The same of a write.
    pub(crate) fn mutation_bytes(mutation: &Mutation) -> usize {
        let value = match &mutation.action {
            Action::Put { value, .. } | Action::Append { value } => value.len(),
            _ => 0,
        };
        mutation.key.len() + value + Self::OVERHEAD_BYTES
    }

    /// The same of an ATOMIC.
    pub(crate) fn atomic_bytes(request: &AtomicRequest) -> usize {
        let checks: usize = request.checks.iter().map(|check| check.key.len() + Self::OVERHEAD_BYTES).sum();
        Self::OVERHEAD_BYTES + checks + request.mutations.iter().map(Self::mutation_bytes).sum::<usize>()
    }
}
