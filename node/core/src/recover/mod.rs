//! Recovering groups that have lost their quorum for good: what the data folders that are left say, and what to do about it. Pure.
//!
//! ```text
//! kvorum recover inspect   each folder ─► FolderReport
//! kvorum recover plan      all FolderReports, who is gone ─► RecoveryPlan
//! kvorum recover apply     RecoveryPlan, a folder ─► the folder, with the plan's ring map
//! ```
//!
//! Nothing that runs by itself does any of this. A group without a quorum is unavailable, and stays so until its nodes come back
//! or an operator says that they never will.

mod plan;
#[cfg(test)]
mod tests;
mod text;

pub use plan::{
    FolderPlan, GivenUp, GroupLoss, PlanRefusal, PlanStanding, PlannedReplica, RecoveryPlan, UnreadReplica, plan,
};

use crate::folder::stored_id;
use crate::log::Membership;
use crate::ring::RingMap;
use crate::shard::remains::Reach;
use kvorum_protocol::{FolderId, ReplicaId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of reports and plans.
pub const RECOVERY_FORMAT: u32 = 1;

/// What a data folder holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderReport {
    /// [`RECOVERY_FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// The node.
    pub node: Uuid,
    /// The folder.
    #[serde(with = "stored_id")]
    pub folder: FolderId,
    /// How often a process was started with it.
    pub starts: u64,
    /// Why nothing in it can be trusted, if that is so: it has amnesia.
    #[serde(default)]
    pub distrusted: Option<String>,
    /// The newest ring map that it knows; `None` if it knows none.
    pub ring: Option<RingMap>,
    /// The replicas of which it holds files.
    pub replicas: Vec<ReplicaReport>,
}

/// What a replica's files hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The shard; 65535 is `meta`.
    pub shard: u16,
    /// Whose files they are; `None` if that is not known.
    pub replica: Option<u64>,
    /// Why they can't be used, or not be trusted, if that is so.
    #[serde(default)]
    pub problem: Option<String>,
    /// How far they reach; `None` if they can't be read.
    pub reach: Option<ReachReport>,
}

/// How far a replica's files reach.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReachReport {
    /// The newest term that the replica has seen.
    pub term: u64,
    /// The term of its last entry.
    pub last_term: u64,
    /// Its last entry; 0 if it has none.
    pub last_index: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// Keys as of its last entry.
    pub keys: u64,
    /// Who replicates the shard as of its last entry.
    pub membership: MembershipReport,
    /// The same as of the last entry that it knows to be committed, if that is another one.
    #[serde(default)]
    pub membership_committed: Option<MembershipReport>,
}

/// Who replicates a shard.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MembershipReport {
    /// Replicas that vote.
    pub voters: Vec<u64>,
    /// Replicas that only receive.
    pub learners: Vec<u64>,
    /// On the way from some voters to others, those before: a majority of both must agree. Else empty.
    pub voters_outgoing: Vec<u64>,
}

impl From<&Membership> for MembershipReport {
    fn from(membership: &Membership) -> Self {
        let ids = |replicas: &[ReplicaId]| replicas.iter().map(|replica| replica.0).collect();
        Self {
            voters: ids(&membership.voters),
            learners: ids(&membership.learners),
            voters_outgoing: ids(&membership.voters_outgoing),
        }
    }
}

impl From<&Reach> for ReachReport {
    fn from(reach: &Reach) -> Self {
        Self {
            term: reach.term.0,
            last_term: reach.last_term.0,
            last_index: reach.last_index.0,
            committed: reach.committed.0,
            keys: reach.keys,
            membership: (&reach.membership).into(),
            membership_committed: reach.membership_committed.as_ref().map(Into::into),
        }
    }
}

impl MembershipReport {
    /// The halves that must each have a majority.
    fn halves(&self) -> impl Iterator<Item = &[u64]> {
        [&self.voters[..], &self.voters_outgoing[..]].into_iter().filter(|half| !half.is_empty())
    }

    /// Whether these replicas can go on by themselves.
    fn has_quorum(&self, there: impl Fn(u64) -> bool) -> bool {
        !self.voters.is_empty() && self.halves().all(|half| count(half, &there) > half.len() / 2)
    }

    /// Whether those that are not `there` may have agreed on something among themselves.
    fn may_have_agreed(&self, there: impl Fn(u64) -> bool) -> bool {
        self.halves().all(|half| half.len() - count(half, &there) > half.len() / 2)
    }

    fn votes(&self, replica: u64) -> bool {
        self.voters.contains(&replica) || self.voters_outgoing.contains(&replica)
    }
}

fn count(half: &[u64], there: impl Fn(u64) -> bool) -> usize {
    half.iter().filter(|replica| there(**replica)).count()
}
