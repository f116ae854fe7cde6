//! What a shard asks its host to do.

use super::tally::Tally;
use super::{ShardReply, Ticket};
use crate::consensus::Promise;
use crate::log::Chunk;
use kvorum_protocol::ReplicaId;
use kvorum_protocol::peer::RaftMessage;

/// What a poll asks the caller to do.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be sent to the other replicas.
    pub messages: Vec<RaftMessage>,
    /// To be made durable, then reported with this token to [`super::Shard::handle_persisted`].
    pub append: Option<(u64, Vec<Chunk>)>,
    /// Answers.
    pub replies: Vec<(Ticket, ShardReply)>,
    /// Replicas that need a snapshot now. Each gets nothing else until [`super::Shard::report_snapshot`] was called for it.
    pub snapshots: Vec<ReplicaId>,
    /// To be sent to the other replicas as soon as what they rest on is durable.
    pub promises: Vec<Promise>,
    /// For whoever counts.
    pub tally: Tally,
}
