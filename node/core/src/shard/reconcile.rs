//! How a group comes to the membership that the ring map wants, step by step, and when its leader may say that it is there.

use super::{BALANCE_EVERY_MS, LAG_MAX, Shard};
use crate::clock::{Nanos, Now};
use crate::consensus::{MembershipChange, Role};
use crate::log::Membership;
use crate::seeded::{Bug, planted};
use kvorum_protocol::{LogIndex, ReplicaId, Term};

/// Who should replicate a shard, by the ring map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Target {
    /// The replicas that should vote; the first of them should lead when it can.
    pub voters: Vec<ReplicaId>,
    /// The epoch of the map that changed who they are last.
    pub since: u64,
    /// The map wants to hear when the group is there.
    pub asks: bool,
}

/// How far a leader is with telling that its group has the membership which the map wants.
///
/// The membership that a leader has applied is not enough: another leader may have changed it, and this one may not know.
/// An entry that it has proposed *since*, and that is committed in its own term, tells that it still led then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Settling {
    /// Nothing to tell.
    #[default]
    No,
    /// The group is there if this leader applies an entry of this term with this index or a later one.
    Awaits(LogIndex, Term),
    /// It is there.
    Yes,
}

impl Shard {
    /// What the map wants of the group has changed. If this replica leads, it brings that about step by step.
    pub fn set_target(&mut self, target: Target) {
        if target.since != self.config.target.since {
            self.settling = Settling::No;
        }
        self.config.target = target;
    }

    /// The change of the map (its `since`) that the group has followed to its end, if this replica leads it and the map asks.
    pub(super) fn settled(&self) -> Option<u64> {
        (self.settling == Settling::Yes && self.config.target.asks).then_some(self.config.target.since)
    }

    /// Takes the next step towards the replicas that the shard should have.
    pub(super) fn reconcile(&mut self, now: Now) {
        if !self.may_propose() || !self.follows_newest() {
            self.settling = Settling::No;
            return;
        }
        match next_step(self.consensus.replica(), &self.membership, &self.config.target.voters, |replica| {
            self.is_well(replica, now.monotonic)
        }) {
            Some(ReconcileStep::Change(change)) => {
                // It is refused while one before it is on its way; another tick comes.
                let _ = self.consensus.propose_membership(&change);
            }
            // It costs the lease for the rest of the term, so it is not tried again at once if it fails.
            Some(ReconcileStep::HandOver(successor))
                if self.stepped_aside_at.is_none_or(|at| now.monotonic.ms_since(at) >= BALANCE_EVERY_MS) =>
            {
                self.stepped_aside_at = Some(now.monotonic);
                let is_fit = |replica| {
                    (self.fitness)(replica)
                        && self.config.target.voters.contains(&replica)
                        && self.is_well(replica, now.monotonic)
                        && self.consensus.would_campaign(replica, now.monotonic)
                };
                let fit = self.consensus.best_successor(is_fit);
                self.transfer_to(fit.unwrap_or(successor));
            }
            Some(ReconcileStep::HandOver(_)) => {}
            None => self.settle(now),
        }
    }

    /// Whether what it knows of the map's wishes is not older than its leadership. What is older may have been done and undone: replicas that
    /// it names may be erased by now.
    fn follows_newest(&self) -> bool {
        (self.may_follow)(self.config.target.since, self.leader_since) || planted(Bug::OldMapFollowed)
    }

    /// Whether a replica holds as good as the whole log, and was heard lately. One that has just gone passes for caught up a
    /// while longer: it would not take over, and could not vote.
    fn is_well(&self, replica: ReplicaId, now: Nanos) -> bool {
        self.consensus.is_caught_up(replica, LAG_MAX)
            && (replica == self.consensus.replica() || self.consensus.was_heard_lately(replica, now))
    }

    /// Finds out whether the group has the membership that the map wants, if the map asks.
    fn settle(&mut self, now: Now) {
        let target = &self.config.target;
        let is_there = self.membership.is_exactly(&target.voters) || planted(Bug::SettledBeforeThere);
        if !target.asks || !is_there || self.consensus.role() != Role::Leader {
            self.settling = Settling::No;
            return;
        }
        if planted(Bug::SettledWithoutProof) {
            self.settling = Settling::Yes;
            return;
        }
        let term = self.consensus.term();
        match self.settling {
            Settling::Yes => {}
            Settling::Awaits(index, of_term) if of_term == term => {
                if self.store.applied() >= index {
                    self.settling = Settling::Yes;
                } else if self.consensus.last_index() < index && self.in_flight.is_empty() {
                    // Nobody writes: an entry of nothing tells.
                    self.propose_nothing(now);
                }
            }
            Settling::No | Settling::Awaits(..) => {
                self.settling = Settling::Awaits(LogIndex(self.consensus.last_index().0 + 1), term);
            }
        }
    }
}

/// What the group's leader does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ReconcileStep {
    /// Propose this change.
    Change(MembershipChange),
    /// Hand leadership to this voter: the leader itself is to go, and only another one can demote it.
    HandOver(ReplicaId),
}

/// The next step of a group that `leader` leads towards the voters `target`; `None` if it is there, or must wait.
/// `caught_up` says whether a replica holds as good as the whole log and was heard lately.
///
/// One step at a time: unwanted learners leave, missing replicas join as learners, and learners that have caught up
/// become voters in one joint change that makes unwanted voters learners. A voter is not demoted before its replacement
/// votes: each wanted replica that does not vote yet keeps one unwanted voter in place. Those that are silent go first.
pub(super) fn next_step(
    leader: ReplicaId,
    membership: &Membership,
    target: &[ReplicaId],
    caught_up: impl Fn(ReplicaId) -> bool,
) -> Option<ReconcileStep> {
    let Membership { voters, learners, voters_outgoing, .. } = membership;
    // A joint state is left by itself. A target without replicas is no target.
    if !voters_outgoing.is_empty() || target.is_empty() {
        return None;
    }
    if let Some(learner) = learners.iter().find(|learner| !target.contains(learner)) {
        return Some(ReconcileStep::Change(MembershipChange::RemoveLearner(*learner)));
    }
    let missing = target.iter().find(|replica| !voters.contains(replica) && !learners.contains(replica));
    if let Some(replica) = missing {
        return Some(ReconcileStep::Change(MembershipChange::AddLearner(*replica)));
    }
    let (promote, waiting): (Vec<ReplicaId>, Vec<ReplicaId>) =
        learners.iter().copied().partition(|learner| caught_up(*learner) || planted(Bug::HeirNotWhole));
    let unwanted: Vec<ReplicaId> = voters.iter().copied().filter(|voter| !target.contains(voter)).collect();
    let waited_for = if planted(Bug::HeirNotAwaited) { 0 } else { waiting.len() };
    let demotable = unwanted.len().saturating_sub(waited_for);
    if demotable > 0
        && unwanted.contains(&leader)
        && let Some(successor) = target.iter().find(|replica| voters.contains(replica) && caught_up(**replica))
    {
        return Some(ReconcileStep::HandOver(*successor));
    }
    let mut demote: Vec<ReplicaId> = unwanted.into_iter().filter(|voter| *voter != leader).collect();
    demote.sort_by_key(|voter| caught_up(*voter));
    demote.truncate(demotable);
    if promote.is_empty() && demote.is_empty() {
        return None;
    }
    Some(ReconcileStep::Change(MembershipChange::Exchange { promote, demote }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().map(|&id| ReplicaId(id)).collect()
    }

    fn add(id: u64) -> Option<ReconcileStep> {
        Some(ReconcileStep::Change(MembershipChange::AddLearner(ReplicaId(id))))
    }

    fn drop_learner(id: u64) -> Option<ReconcileStep> {
        Some(ReconcileStep::Change(MembershipChange::RemoveLearner(ReplicaId(id))))
    }

    fn exchange(promote: &[u64], demote: &[u64]) -> Option<ReconcileStep> {
        Some(ReconcileStep::Change(MembershipChange::Exchange { promote: ids(promote), demote: ids(demote) }))
    }

    fn hand_over(id: u64) -> Option<ReconcileStep> {
        Some(ReconcileStep::HandOver(ReplicaId(id)))
    }

    /// Replica 1 leads. Of the rest, those in `caught_up` are.
    fn step(voters: &[u64], learners: &[u64], target: &[u64], caught_up: &[u64]) -> Option<ReconcileStep> {
        let membership = Membership { voters: ids(voters), learners: ids(learners), ..Membership::default() };
        next_step(ReplicaId(1), &membership, &ids(target), |replica| caught_up.contains(&replica.0))
    }

    #[test]
    fn each_state_has_its_next_step() {
        for (voters, learners, target, caught_up, expected) in [
            // Nothing to do.
            (&[1, 2, 3][..], &[][..], &[1, 2, 3][..], &[1, 2, 3][..], None),
            (&[1, 2, 3], &[], &[3, 1, 2], &[], None),
            (&[1, 2, 3], &[], &[], &[1, 2, 3], None),
            // A replacement joins, catches up, and takes the place.
            (&[1, 2, 3], &[], &[1, 2, 4], &[1, 2, 3], add(4)),
            (&[1, 2, 3], &[4], &[1, 2, 4], &[1, 2, 3], None),
            (&[1, 2, 3], &[4], &[1, 2, 4], &[1, 2, 3, 4], exchange(&[4], &[3])),
            // Two at a time, one of them slower: one unwanted voter stays, and it is the one that is heard.
            (&[1, 2, 3], &[4], &[1, 4, 5], &[1, 2, 3, 4], add(5)),
            (&[1, 2, 3], &[4, 5], &[1, 4, 5], &[1, 2, 4], exchange(&[4], &[3])),
            (&[1, 2, 3], &[4, 5], &[1, 4, 5], &[1, 3, 4], exchange(&[4], &[2])),
            (&[1, 2, 4], &[5], &[1, 4, 5], &[1, 2, 4, 5], exchange(&[5], &[2])),
            // The group grows and shrinks.
            (&[1, 2, 3], &[4, 5], &[1, 2, 3, 4, 5], &[1, 2, 3, 5], exchange(&[5], &[])),
            (&[1, 2, 3, 4, 5], &[], &[1, 2, 3], &[1, 2, 3], exchange(&[], &[4, 5])),
            // The target changed on the way.
            (&[1, 2, 3], &[4], &[1, 2, 3], &[1, 2, 3, 4], drop_learner(4)),
            (&[1, 2, 3], &[4], &[1, 2, 5], &[1, 2, 3, 4], drop_learner(4)),
            (&[1, 2, 4], &[], &[1, 2, 3], &[1, 2, 4], add(3)),
            // A demoted voter leaves.
            (&[1, 2, 4], &[3], &[1, 2, 4], &[1, 2, 4], drop_learner(3)),
            // The leader is to go: another one demotes it, once its replacement could vote.
            (&[1, 2, 3], &[], &[2, 3, 4], &[1, 2, 3], add(4)),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 2, 3], None),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 3, 4], hand_over(3)),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 4], exchange(&[4], &[])),
            (&[1, 2, 3], &[], &[2, 3], &[1, 2, 3], hand_over(2)),
            (&[1, 2], &[], &[2], &[1], None),
            // All are to go.
            (&[1, 2, 3], &[4, 5, 6], &[4, 5, 6], &[1, 2, 3, 4, 5, 6], exchange(&[4, 5, 6], &[2, 3])),
            (&[1, 4, 5, 6], &[], &[4, 5, 6], &[1, 4, 5, 6], hand_over(4)),
            (&[1], &[2], &[2], &[1, 2], exchange(&[2], &[])),
            (&[1, 2], &[], &[2], &[1, 2], hand_over(2)),
        ] {
            let found = step(voters, learners, target, caught_up);
            assert_eq!(found, expected, "{voters:?} {learners:?} to {target:?}, {caught_up:?} caught up");
        }
    }

    #[test]
    fn a_joint_state_is_waited_for() {
        let membership = Membership {
            voters: ids(&[1, 2, 4]),
            voters_outgoing: ids(&[1, 2, 3]),
            auto_leave: true,
            ..Membership::default()
        };
        assert_eq!(next_step(ReplicaId(1), &membership, &ids(&[1, 2, 5]), |_| true), None);
    }

    /// From anywhere to anywhere else the steps arrive, and on the way there are never fewer voters than both ends have.
    #[test]
    fn steps_arrive_without_thinning_the_group_out() {
        let subsets = |of: std::ops::RangeInclusive<u64>| {
            let all: Vec<u64> = of.collect();
            (1u32..1 << all.len()).map(move |bits| {
                let chosen = all.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
                chosen.map(|(_, id)| *id).collect::<Vec<u64>>()
            })
        };
        for (start, target) in
            subsets(1..=5).flat_map(|start| subsets(1..=5).map(move |target| (start.clone(), target)))
        {
            let mut membership = Membership { voters: ids(&start), ..Membership::default() };
            let mut leader = membership.voters[0];
            let fewest = start.len().min(target.len());
            for round in 0.. {
                assert!(round < 20, "{start:?} to {target:?} does not arrive");
                match next_step(leader, &membership, &ids(&target), |_| true) {
                    None => break,
                    Some(ReconcileStep::HandOver(to)) => leader = to,
                    Some(ReconcileStep::Change(MembershipChange::AddLearner(replica))) => {
                        membership.learners.push(replica);
                    }
                    Some(ReconcileStep::Change(MembershipChange::RemoveLearner(replica))) => {
                        membership.learners.retain(|learner| *learner != replica);
                    }
                    Some(ReconcileStep::Change(MembershipChange::Exchange { promote, demote })) => {
                        assert!(!demote.contains(&leader), "a leader does not demote itself");
                        membership.learners.retain(|learner| !promote.contains(learner));
                        membership.voters.retain(|voter| !demote.contains(voter));
                        membership.voters.extend(promote);
                        membership.learners.extend(demote);
                    }
                }
                assert!(membership.voters.len() >= fewest, "{start:?} to {target:?} is thinned out");
            }
            membership.voters.sort_unstable();
            assert_eq!((membership.voters, membership.learners), (ids(&target), Vec::new()));
        }
    }
}
