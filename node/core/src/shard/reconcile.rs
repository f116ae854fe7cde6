//! Which step brings a group's membership closer to what the ring map wants.

use crate::consensus::MembershipChange;
use crate::log::Membership;
use kvorum_protocol::ReplicaId;

/// What the group's leader does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ReconcileStep {
    /// Propose this change.
    Change(MembershipChange),
    /// Hand leadership to this voter: the leader itself is to go, and only another one can remove it.
    HandOver(ReplicaId),
}

/// The next step of a group that `leader` leads towards the voters `target`; `None` if it is there, or must wait.
/// `caught_up` says whether a replica holds as good as the whole log and was heard lately.
///
/// One step at a time: unwanted learners leave, missing replicas join as learners, and learners that have caught up
/// become voters in one joint change with the removal of unwanted voters. A voter is not removed before its replacement
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
        learners.iter().copied().partition(|learner| caught_up(*learner));
    let unwanted: Vec<ReplicaId> = voters.iter().copied().filter(|voter| !target.contains(voter)).collect();
    let removable = unwanted.len().saturating_sub(waiting.len());
    if removable > 0
        && unwanted.contains(&leader)
        && let Some(successor) = target.iter().find(|replica| voters.contains(replica) && caught_up(**replica))
    {
        return Some(ReconcileStep::HandOver(*successor));
    }
    let mut remove: Vec<ReplicaId> = unwanted.into_iter().filter(|voter| *voter != leader).collect();
    remove.sort_by_key(|voter| caught_up(*voter));
    remove.truncate(removable);
    if promote.is_empty() && remove.is_empty() {
        return None;
    }
    Some(ReconcileStep::Change(MembershipChange::Promote { promote, remove }))
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

    fn promote(promote: &[u64], remove: &[u64]) -> Option<ReconcileStep> {
        Some(ReconcileStep::Change(MembershipChange::Promote { promote: ids(promote), remove: ids(remove) }))
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
            (&[1, 2, 3], &[4], &[1, 2, 4], &[1, 2, 3, 4], promote(&[4], &[3])),
            // Two at a time, one of them slower: one unwanted voter stays, and it is the one that is heard.
            (&[1, 2, 3], &[4], &[1, 4, 5], &[1, 2, 3, 4], add(5)),
            (&[1, 2, 3], &[4, 5], &[1, 4, 5], &[1, 2, 4], promote(&[4], &[3])),
            (&[1, 2, 3], &[4, 5], &[1, 4, 5], &[1, 3, 4], promote(&[4], &[2])),
            (&[1, 2, 4], &[5], &[1, 4, 5], &[1, 2, 4, 5], promote(&[5], &[2])),
            // The group grows and shrinks.
            (&[1, 2, 3], &[4, 5], &[1, 2, 3, 4, 5], &[1, 2, 3, 5], promote(&[5], &[])),
            (&[1, 2, 3, 4, 5], &[], &[1, 2, 3], &[1, 2, 3], promote(&[], &[4, 5])),
            // The target changed on the way.
            (&[1, 2, 3], &[4], &[1, 2, 3], &[1, 2, 3, 4], drop_learner(4)),
            (&[1, 2, 3], &[4], &[1, 2, 5], &[1, 2, 3, 4], drop_learner(4)),
            (&[1, 2, 4], &[], &[1, 2, 3], &[1, 2, 4], add(3)),
            // The leader is to go: another one removes it, once its replacement could vote.
            (&[1, 2, 3], &[], &[2, 3, 4], &[1, 2, 3], add(4)),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 2, 3], None),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 3, 4], hand_over(3)),
            (&[1, 2, 3], &[4], &[2, 3, 4], &[1, 4], promote(&[4], &[])),
            (&[1, 2, 3], &[], &[2, 3], &[1, 2, 3], hand_over(2)),
            (&[1, 2], &[], &[2], &[1], None),
            // All are to go.
            (&[1, 2, 3], &[4, 5, 6], &[4, 5, 6], &[1, 2, 3, 4, 5, 6], promote(&[4, 5, 6], &[2, 3])),
            (&[1, 4, 5, 6], &[], &[4, 5, 6], &[1, 4, 5, 6], hand_over(4)),
            (&[1], &[2], &[2], &[1, 2], promote(&[2], &[])),
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
                    Some(ReconcileStep::Change(MembershipChange::Promote { promote, remove })) => {
                        assert!(!remove.contains(&leader), "a leader does not remove itself");
                        membership.learners.retain(|learner| !promote.contains(learner));
                        membership.voters.retain(|voter| !remove.contains(voter));
                        membership.voters.extend(promote);
                    }
                }
                assert!(membership.voters.len() >= fewest, "{start:?} to {target:?} is thinned out");
            }
            membership.voters.sort_unstable();
            assert_eq!((membership.voters, membership.learners), (ids(&target), Vec::new()));
        }
    }
}
