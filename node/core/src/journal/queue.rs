//! What waits for the next round, and what the rounds so far have made durable. Pure.

use super::Submission;
use crate::log::Position;
use kvorum_protocol::ShardId;
use std::collections::{BTreeMap, VecDeque};

/// Submissions in the order in which they came. Bounded by its users: a shard has a few submissions in flight.
pub struct SubmissionQueue {
    /// Most bytes of one round, as long as it has more than one submission.
    round_bytes_max: u64,
    waiting: VecDeque<Submission>,
}

impl SubmissionQueue {
    /// An empty queue whose rounds take at most `round_bytes_max` bytes, or one submission.
    pub fn new(round_bytes_max: u32) -> Self {
        Self { round_bytes_max: round_bytes_max.into(), waiting: VecDeque::new() }
    }

    /// Queues a submission.
    pub fn push(&mut self, submission: Submission) {
        self.waiting.push_back(submission);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes what makes the next round; nothing if nothing waits.
    pub fn next_round(&mut self) -> Vec<Submission> {
        let mut bytes = 0;
        let fits = |submission: &&Submission| {
            bytes += submission.bytes();
            bytes <= self.round_bytes_max
        };
        let count = self.waiting.iter().take_while(fits).count();
        let count = count.max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}

/// Up to where each shard's log is durable, as far as the journal knows.
#[derive(Debug, Default)]
pub struct DurableEnds(BTreeMap<ShardId, Position>);

impl DurableEnds {
    /// What replay found.
    pub fn new(found: BTreeMap<ShardId, Position>) -> Self {
        Self(found)
    }

    /// Where a shard's durable log ends.
    pub fn get(&self, shard: ShardId) -> Option<Position> {
        self.0.get(&shard).copied()
    }

    /// A round has made these durable.
    pub fn handle_round(&mut self, submissions: &[Submission]) {
        for chunk in submissions.iter().flat_map(|submission| &submission.chunks) {
            self.0.insert(chunk.segment().shard(), chunk.end());
        }
    }
}
