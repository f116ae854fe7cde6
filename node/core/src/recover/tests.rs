//! Plans as golden text, and what keeps one from being made.

use super::*;
use crate::ring::{RECOVERY_EPOCHS, RingNode};
use kvorum_protocol::{ClusterId, Durability, NodeId, ShardId};

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn folder(number: u128) -> FolderId {
    FolderId(id(1_000 + number))
}

/// A cluster of `nodes` nodes, four shards and three replicas of each, with all folders known.
fn ring(nodes: u128) -> RingMap {
    let node = |number: u128| RingNode {
        client: format!("node-{number}:7400"),
        peer: format!("node-{number}:7410"),
        ..RingNode::new(id(number), format!("node-{number}"))
    };
    let ring = RingMap::initial(ClusterId(id(99)), Durability::Fsync, (1..=nodes).map(node).collect(), 4, 3).unwrap();
    (1..=nodes).fold(ring, |ring, number| ring.with_folder(NodeId(id(number)), folder(number)).unwrap())
}

/// What a node holds by the map: logs to entry 10 + its number, of which ten are known to be committed.
fn report(ring: &RingMap, number: u128) -> FolderReport {
    let replica = |(shard, replica): (ShardId, ReplicaId)| {
        let voters = ring.replicas(shard).iter().map(|held| held.replica).collect();
        let membership = MembershipReport { voters, ..MembershipReport::default() };
        ReplicaReport {
            shard: shard.0,
            replica: Some(replica.0),
            problem: None,
            reach: Some(ReachReport {
                term: 3,
                last_term: 2,
                last_index: 10 + number as u64,
                committed: 10,
                keys: 7,
                membership,
                membership_committed: None,
            }),
        }
    };
    FolderReport {
        format: RECOVERY_FORMAT,
        cluster: ring.cluster,
        node: id(number),
        folder: folder(number),
        starts: 4,
        distrusted: None,
        ring: Some(ring.clone()),
        replicas: ring.held_by(NodeId(id(number))).into_iter().map(replica).collect(),
    }
}

fn gone(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The text without the plan's own id.
fn text(plan: &RecoveryPlan) -> String {
    plan.to_string().replace(&plan.id, "ID")
}

#[test]
fn of_three_nodes_one_is_left() {
    let ring = ring(3);
    let made = plan(&[report(&ring, 2)], &gone(&["node-1", "node-3"]), false).unwrap();
    assert_eq!(text(&made), include_str!("golden/one_of_three.txt"));
    assert!(made.is_whole());
    let read: RecoveryPlan = serde_json::from_str(&serde_json::to_string(&made).unwrap()).unwrap();
    assert_eq!(read, made);
    assert!(!RecoveryPlan { epoch: 1, ..made }.is_whole(), "an edited plan is none");
}

#[test]
fn of_five_nodes_two_are_lost_and_only_groups_without_a_quorum_are_touched() {
    let ring = ring(5);
    let reports: Vec<FolderReport> = [1, 2, 4].map(|number| report(&ring, number)).into();
    let made = plan(&reports, &gone(&["node-3", "node-5"]), false).unwrap();
    assert_eq!(text(&made), include_str!("golden/two_of_five.txt"));
    for (shard, group) in ring.group_ids().zip(ring.groups()) {
        let left = group.replicas.iter().filter(|held| ![2, 4].contains(&held.node.0)).count();
        let is_lost = made.lost.iter().any(|lost| lost.shard == shard.0);
        assert_eq!(is_lost, left <= group.replicas.len() / 2, "shard {shard}");
        if !is_lost {
            let kept = &made.ring.group(shard).unwrap().replicas;
            assert!(kept.iter().all(|held| group.replicas.contains(held)), "under their ids");
        }
    }
    let mut turned = reports;
    turned.reverse();
    assert_eq!(plan(&turned, &gone(&["node-5", "node-3"]), false).unwrap().id, made.id, "the order says nothing");
}

#[test]
fn the_voter_with_the_newest_entry_goes_on_and_the_others_begin_anew() {
    let ring = ring(3);
    let mut reports: Vec<FolderReport> = [1, 2].map(|number| report(&ring, number)).into();
    // Both are left, and both have given their replicas up but node 1 that of shard 2.
    for replica in reports.iter_mut().flat_map(|report| &mut report.replicas) {
        replica.problem = Some("it was given up before".to_owned());
    }
    let second = reports[0].replicas.iter_mut().find(|replica| replica.shard == 2).unwrap();
    second.problem = None;
    // A later term counts for more than a longer log.
    let third = reports[0].replicas.iter_mut().find(|replica| replica.shard == 3).unwrap();
    third.reach.as_mut().unwrap().last_term = 9;
    let made = plan(&reports, &gone(&["node-3"]), false).unwrap();
    let on = |shard: u16| made.lost.iter().find(|lost| lost.shard == shard).unwrap();
    assert_eq!(on(1).node, "node-2", "it has one entry more");
    assert_eq!((&*on(2).node, &on(2).problem), ("node-1", &None), "a sound replica comes first");
    assert_eq!((&*on(3).node, on(3).discarded.clone()), ("node-1", vec![("node-2".to_owned(), 12)]));
    let survivor = made.folders[1].replicas.iter().find(|planned| planned.shard == 1).unwrap();
    assert_eq!((survivor.last_index, survivor.given_up), (Some(12), true));
    let group = made.ring.group(ShardId(1)).unwrap();
    assert_eq!((group.replicas.len(), group.survivor), (2, Some(survivor.replica)));
    assert_eq!(group.replicas[0].replica, survivor.replica, "the one that goes on leads");
}

#[test]
fn nothing_acknowledged_is_missing_if_the_lost_ones_could_not_agree_by_themselves() {
    // Four voters on their way from three to others: two are left.
    let ring = ring(5);
    let holders: Vec<u128> = ring.holders(ShardId(0)).map(|node| node.0.as_u128()).collect();
    let other = (1..=5).find(|number| !holders.contains(number)).unwrap();
    let lost = [holders[2], other];
    let mut reports: Vec<FolderReport> =
        (1..=5).filter(|number| !lost.contains(number)).map(|number| report(&ring, number)).collect();
    for replica in reports.iter_mut().flat_map(|report| &mut report.replicas).filter(|replica| replica.shard == 0) {
        replica.reach.as_mut().unwrap().membership.voters.push(4);
    }
    let made = plan(&reports, &lost.map(|number| format!("node-{number}")), false).unwrap();
    let of_four = made.lost.iter().find(|lost| lost.shard == 0).unwrap();
    assert_eq!((of_four.voters, of_four.voters_left, of_four.may_lack), (4, 2, false));
    assert!(text(&made).contains("nothing that was acknowledged"));
}

#[test]
fn a_joint_membership_needs_both_majorities() {
    let ring = ring(3);
    let mut reports: Vec<FolderReport> = [1, 2].map(|number| report(&ring, number)).into();
    for replica in reports.iter_mut().flat_map(|report| &mut report.replicas).filter(|replica| replica.shard == 0) {
        replica.reach.as_mut().unwrap().membership.voters_outgoing = vec![7, 8, 9];
    }
    let made = plan(&reports, &gone(&["node-3"]), false).unwrap();
    assert_eq!(made.lost.iter().map(|lost| lost.shard).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_shard_of_which_nothing_is_left_begins_empty_if_that_is_said() {
    let ring = ring(5);
    let left: Vec<u128> = (1..=5).filter(|number| ring.replica_on(ShardId(1), NodeId(id(*number))).is_none()).collect();
    let lost: Vec<String> =
        (1..=5).filter(|number| !left.contains(number)).map(|number| format!("node-{number}")).collect();
    let reports: Vec<FolderReport> = left.iter().map(|number| report(&ring, *number)).collect();
    let refused = plan(&reports, &lost, false);
    let none = |error: &PlanRefusal| *error == PlanRefusal::EmptyShards { shards: "1".to_owned(), unread: Vec::new() };
    assert!(refused.as_ref().is_err_and(none), "{refused:?}");
    let made = plan(&reports, &lost, true).unwrap();
    assert_eq!(text(&made), include_str!("golden/empty_shard.txt"));
}

#[test]
fn a_replica_that_can_not_be_read_is_named() {
    let ring = ring(3);
    let mut left = report(&ring, 2);
    let replica = left.replicas.iter_mut().find(|replica| replica.shard == 1).unwrap();
    (replica.problem, replica.reach) = (Some("a manifest is damaged".to_owned()), None);
    let lost = gone(&["node-1", "node-3"]);
    let refused = plan(&[left.clone()], &lost, false).unwrap_err().to_string();
    assert!(refused.ends_with("Of these nothing can be read: shard 1 on node-2 (a manifest is damaged)"), "{refused}");
    let made = plan(&[left], &lost, true).unwrap();
    assert!(made.is_whole());
    let line = "shard 1 on node-2 counts as lost, since nothing of it can be read: a manifest is damaged\n";
    assert!(text(&made).contains(line), "{}", text(&made));
}

#[test]
fn a_plan_knows_its_own_ring_map_from_that_of_another_plan() {
    let ring = ring(5);
    let reports: Vec<FolderReport> = [1, 2, 3].map(|number| report(&ring, number)).into();
    let first = plan(&reports[..2], &gone(&["node-3", "node-4", "node-5"]), true).unwrap();
    let second = plan(&reports, &gone(&["node-4", "node-5"]), false).unwrap();
    assert_eq!(first.ring.epoch, second.ring.epoch);
    let later = |plan: &RecoveryPlan| RingMap { epoch: plan.ring.epoch + 7, ..plan.ring.clone() };
    for (plan, other) in [(&first, &second), (&second, &first)] {
        assert_eq!(plan.standing(None), PlanStanding::Ahead);
        assert_eq!(plan.standing(Some(&ring)), PlanStanding::Ahead);
        assert_eq!(plan.standing(Some(&plan.ring)), PlanStanding::Followed);
        assert_eq!(plan.standing(Some(&later(plan))), PlanStanding::Followed, "its cluster went on");
        assert_eq!(plan.standing(Some(&other.ring)), PlanStanding::Contradicted);
        assert_eq!(plan.standing(Some(&later(other))), PlanStanding::Contradicted);
    }
}

#[test]
fn a_folder_with_amnesia_and_one_that_was_wiped_begin_anew() {
    let ring = ring(3);
    let mut reports: Vec<FolderReport> = [1, 2, 3].map(|number| report(&ring, number)).into();
    reports[0].distrusted = Some("it has amnesia".to_owned());
    reports[1].folder = folder(22);
    reports[1].replicas.clear();
    let made = plan(&reports, &[], false).unwrap();
    assert_eq!((made.lost.len(), made.gone.len()), (5, 0));
    assert!(made.lost.iter().all(|lost| lost.node == "node-3" && lost.voters_left == 1));
    assert_eq!(made.ring.folder_of(NodeId(id(2))), Some(folder(22)));
    assert_eq!(made.ring.retired_folders, [folder(2)]);
    assert_eq!(made.folders.iter().map(|folder| folder.heals).collect::<Vec<_>>(), [true, false, false]);
    assert!(made.ring.groups().all(|group| group.replicas.len() == 3));
}

#[test]
fn a_recovered_cluster_can_be_recovered_again() {
    let ring = ring(3);
    let once = plan(&[report(&ring, 2)], &gone(&["node-1", "node-3"]), false).unwrap().ring;
    let mut damaged = report(&once, 2);
    damaged.replicas[1].problem = Some("it was given up before".to_owned());
    let twice = plan(&[damaged], &[], false).unwrap();
    assert_eq!(twice.ring.epoch, ring.epoch + 2 * RECOVERY_EPOCHS);
    assert!(twice.ring.replicas_made > once.replicas_made);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let ring = ring(3);
    let one = || report(&ring, 1);
    let refused =
        |reports: &[FolderReport], names: &[&str]| plan(reports, &gone(names), false).unwrap_err().to_string();
    let other_cluster = FolderReport { cluster: id(77), ..report(&ring, 2) };
    let newer = RingMap { epoch: ring.epoch + 1, retired_folders: vec![folder(1)], ..ring.clone() };
    let newer =
        RingMap { nodes: newer.nodes.iter().map(|node| RingNode { disk: None, ..node.clone() }).collect(), ..newer };
    let differs = RingMap { repair_hold_ms: 1, ..ring.clone() };
    for (reports, names, expected) in [
        (vec![], &["node-1"][..], "no report was given"),
        (vec![FolderReport { format: 9, ..one() }], &[], "a report is of format 9"),
        (vec![one(), other_cluster], &["node-3"], "the reports are of clusters"),
        (vec![FolderReport { ring: None, ..one() }], &[], "none of the folders knows a ring map"),
        (
            vec![one(), FolderReport { ring: Some(differs), ..report(&ring, 2) }],
            &["node-3"],
            "two folders hold different",
        ),
        (vec![one(), one()], &["node-2", "node-3"], "there are two reports of node-1"),
        (vec![one()], &["node-1", "node-2", "node-3"], "there is a report of node-1, which was named as gone"),
        (vec![one()], &["node-9"], "node-9 is no node of the cluster: it has node-1, node-2, node-3"),
        (vec![one()], &["node-2"], "nothing is known of node-3"),
        (
            vec![one(), FolderReport { ring: Some(newer), ..report(&ring, 2) }],
            &["node-3"],
            "the data folder of node-1 was",
        ),
        (vec![one(), report(&ring, 2)], &["node-3"], "every group has a quorum"),
    ] {
        let refused = refused(&reports, names);
        assert!(refused.starts_with(expected), "{refused}");
    }
}
