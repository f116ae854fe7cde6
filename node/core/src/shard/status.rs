//! What others may know of a replica.

use crate::clock::Nanos;
use crate::consensus::Role;
use kvorum_protocol::{LogIndex, ReplicaId, Term, Version};

/// What others may know of a replica at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader it knows of.
    pub leader: Option<ReplicaId>,
    /// It leads and may answer.
    pub serving: bool,
    /// The last entry of its log.
    pub last_index: LogIndex,
    /// The last entry that it knows a quorum holds.
    pub committed: LogIndex,
    /// The last entry that it has applied.
    pub applied: LogIndex,
    /// The version of its last effective write.
    pub version: Version,
    /// Keys it holds.
    pub keys: u64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// The latest moment at which it has proof that it led: a majority has answered, in its term, something that it sent then. 0 if it does
    /// not lead. Of the ring map's group only.
    pub proved_at: Nanos,
    /// The change of the ring map that the group has followed to its end, if this replica leads and the map asks.
    pub settled: Option<u64>,
}
