//! What is asked of a shard.

use crate::clock::Nanos;
use bytes::Bytes;
use kvorum_protocol::{
    Ack, AtomicCheck, AtomicRequest, ClientId, Condition, Mutation, Receipt, Term, TransactionOperation,
    TransactionRequest, WriteId,
};

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
    /// Checks, then reads and writes in turn.
    Transaction {
        /// Who asks.
        client: ClientId,
        /// What is asked.
        request: TransactionRequest,
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
            Self::Transaction { request, .. } => Self::transaction_bytes(request),
            Self::Get(key) => key.len() + Self::OVERHEAD_BYTES,
            Self::Confirm | Self::Await { .. } => Self::OVERHEAD_BYTES,
        }
    }

    /// The same of a write.
    pub(crate) fn mutation_bytes(mutation: &Mutation) -> usize {
        let value = mutation.action.operand().len() + Self::compared_bytes(&mutation.condition);
        mutation.key.len() + value + Self::OVERHEAD_BYTES
    }

    /// The same of an ATOMIC.
    pub(crate) fn atomic_bytes(request: &AtomicRequest) -> usize {
        let checks = Self::check_bytes(&request.checks);
        Self::OVERHEAD_BYTES + checks + request.mutations.iter().map(Self::mutation_bytes).sum::<usize>()
    }

    /// The same of a TRANSACTION.
    pub(crate) fn transaction_bytes(request: &TransactionRequest) -> usize {
        let of_operation = |operation: &TransactionOperation| match operation {
            TransactionOperation::Write(mutation) => Self::mutation_bytes(mutation),
            other => other.keys().map(Bytes::len).sum::<usize>() + Self::OVERHEAD_BYTES,
        };
        let operations: usize = request.operations.iter().map(of_operation).sum();
        Self::OVERHEAD_BYTES + Self::check_bytes(&request.checks) + operations
    }

    fn check_bytes(checks: &[AtomicCheck]) -> usize {
        let bytes = |check: &AtomicCheck| check.key.len() + Self::compared_bytes(&check.condition);
        checks.iter().map(|check| bytes(check) + Self::OVERHEAD_BYTES).sum()
    }

    fn compared_bytes(condition: &Condition) -> usize {
        match condition {
            Condition::IfEquals(value) => value.len(),
            _ => 0,
        }
    }
}
