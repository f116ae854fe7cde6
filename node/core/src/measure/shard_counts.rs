//! What a node counts of its replicas, and of the way to those of others.

use super::heat::{Heat, RingHeat};
use super::load::{LedLoad, Load};
use super::{Count, Durations, StageDurations};
use crate::clock::Nanos;
use kvorum_protocol::{ShardId, Term};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a shard's inbox did not take a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedFor {
    /// What waits has waited for too long.
    Slow,
    /// The shard's queue is full, or the client's share of it.
    ShardFull,
    /// The node's queues are full.
    NodeFull,
}

impl RefusedFor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slow, Self::ShardFull, Self::NodeFull];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::ShardFull => "shard_full",
            Self::NodeFull => "node_full",
        }
    }
}

/// What a write that was sent again was answered, by the leader of its shard. Sent again means: its client says so, or it has the
/// one-shot name of a write that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryAnswer {
    /// What an earlier copy was answered.
    Remembered,
    /// It was done now.
    Done,
    /// It has no effect now: its condition does not hold, or an error says why.
    Refused,
    /// An earlier copy is being committed. It waits for that one, or is to come again.
    OnItsWay,
    /// Whether an earlier copy took effect is not known any more.
    Forgotten,
}

impl RetryAnswer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Remembered, Self::Done, Self::Refused, Self::OnItsWay, Self::Forgotten];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remembered => "remembered",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::OnItsWay => "on_its_way",
            Self::Forgotten => "forgotten",
        }
    }
}

/// What became of a request that was passed on to another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardEnd {
    /// The other node has answered it, if only with an error.
    Answered,
    /// It came back: the other node does not lead the shard.
    Returned,
    /// It was not sent, for want of room.
    Refused,
    /// It was not sent, since the other node can't be reached.
    Unreachable,
    /// Its answer did not come in time, or can't be read.
    Lost,
}

impl ForwardEnd {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Answered, Self::Returned, Self::Refused, Self::Unreachable, Self::Lost];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Returned => "returned",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
        }
    }
}

/// What was counted of one shard's replica on this node since the process began, over all incarnations. Its host is the only writer,
/// where nothing else is said.
#[derive(Debug, Default)]
pub struct ShardCounts {
    /// Requests that were not taken, by [`RefusedFor`]. Several writers.
    refused: [Count; RefusedFor::ALL.len()],
    /// From when a request came in until a turn took it.
    pub queue_wait: Durations,
    /// From when this leader proposed an entry until it had applied it.
    pub commit: Durations,
    /// From when a session took up a read that its lease did not cover until a quorum had confirmed that this replica leads.
    pub read_confirm: Durations,
    /// How long this replica applied entries, per turn that applied any.
    pub apply: Durations,
    /// How long turns kept their thread. The actor is the writer.
    pub turn: Durations,
    /// Where the time of requests went that waited for entries of this leader.
    pub stages: StageDurations,
    /// Entries that this leader proposed and applied.
    pub entries: Count,
    /// Requests that were answered with them.
    pub entry_requests: Count,
    /// Writes that were sent again, by [`RetryAnswer`].
    retries: [Count; RetryAnswer::ALL.len()],
    /// Keys that this replica has taken out since their time had come.
    pub expired_keys: Count,
    /// How often this replica stood for election.
    pub elections: Count,
    /// How often it came to know another leader.
    pub leader_changes: Count,
    /// Snapshots of it that another replica has installed.
    pub snapshots_sent: Count,
    /// Those that did not get that far.
    pub snapshots_failed: Count,
    /// Snapshots that it has installed.
    pub snapshots_received: Count,
    /// Compactions.
    pub compactions: Count,
    /// Bytes that they wrote.
    pub compacted_bytes: Count,
    /// Bytes that they read.
    pub compaction_read_bytes: Count,
    /// How often damage was found in its files. Its supervisor is the writer.
    pub damage: Count,
    /// Which keys are asked for most. Any thread.
    pub heat: Heat,
    /// How much of a processor it takes where it is led.
    pub load: Load,
}

impl ShardCounts {
    /// Of a shard whose operations are also counted by where they fall on the ring.
    fn on(ring: &Arc<RingHeat>) -> Self {
        Self { heat: Heat::on(Arc::clone(ring)), ..Self::default() }
    }

    /// A request was not taken.
    pub fn note_refused(&self, why: RefusedFor) {
        self.refused[why as usize].add_shared(1);
    }

    /// How many were not taken for this reason.
    pub fn refused(&self, why: RefusedFor) -> u64 {
        self.refused[why as usize].get()
    }

    /// The load of the replica while it leads in `term`: see [`Load::look`].
    pub fn led_load(&self, term: Term, now: Nanos) -> Option<LedLoad> {
        self.load.look(term, self.turn.sum_ns(), now)
    }

    /// A write that was sent again has its answer.
    pub fn note_retry(&self, answer: RetryAnswer) {
        self.retries[answer as usize].add(1);
    }

    /// How many were answered so.
    pub fn retries(&self, answer: RetryAnswer) -> u64 {
        self.retries[answer as usize].get()
    }
}

/// The counts of all replicas that a node has had. They outlive the replicas, so that a sum over them never goes back.
#[derive(Debug, Default)]
pub struct ReplicaCounts {
    shards: Mutex<BTreeMap<ShardId, Arc<ShardCounts>>>,
    /// Where on the ring operations fall. Any thread.
    ring: Arc<RingHeat>,
    /// Bytes of cold data that were checked again. The scrubber is the writer.
    pub scrubbed_bytes: Count,
    /// Requests that were passed on, by [`ForwardEnd`]. Several writers.
    forwards: [Count; ForwardEnd::ALL.len()],
}

impl ReplicaCounts {
    /// Those of a shard's replica.
    pub fn of(&self, shard: ShardId) -> Arc<ShardCounts> {
        let new = || Arc::new(ShardCounts::on(&self.ring));
        Arc::clone(self.shards.lock().entry(shard).or_insert_with(new))
    }

    /// Where on the ring operations fall, of all shards of this node.
    pub fn ring(&self) -> &RingHeat {
        &self.ring
    }

    /// All of them.
    pub fn all(&self) -> Vec<(ShardId, Arc<ShardCounts>)> {
        self.shards.lock().iter().map(|(shard, counts)| (*shard, Arc::clone(counts))).collect()
    }

    /// It is known what became of a request that was to be passed on.
    pub fn note_forward(&self, end: ForwardEnd) {
        self.forwards[end as usize].add_shared(1);
    }

    /// How many ended so.
    pub fn forwards(&self, end: ForwardEnd) -> u64 {
        self.forwards[end as usize].get()
    }

    /// Requests that were not taken for this reason.
    pub fn refused(&self, why: RefusedFor) -> u64 {
        self.shards.lock().values().map(|counts| counts.refused(why)).sum()
    }
}
