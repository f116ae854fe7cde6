//! What operators ask for, but for joining and leaving, which are in [`super::elastic_tests`].

use super::decide::{Change, DiskOfNode, MapDecision, Presence, Seen, decide};
use super::elastic_tests::{all_settled, cluster, come_to_rest, held, node, seen, silent};
use super::outlook::plan;
use super::rebalance::Step;
use super::verbs::{Verb, VerbRefusal, admit};
use super::{DOWN_AFTER_MS, NodeState, REPAIR_HOLD_MS, RingMap};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::report::DiskRoom;
use kvorum_protocol::{MovePurpose, NodeId, NodeStanding, ShardId};

const HOLD: u64 = DOWN_AFTER_MS + REPAIR_HOLD_MS;

/// The map after something was asked for that is not so yet.
#[track_caller]
fn after(ring: &RingMap, seen: &Seen, verb: &Verb) -> RingMap {
    let next = admit(ring, seen, verb).unwrap().expect("it is not so yet");
    assert_eq!(next.epoch, ring.epoch + 1);
    assert_eq!(RingMap::from_bytes(&next.to_bytes()).unwrap(), next, "it can be stored");
    assert_eq!(admit(&next, seen, verb), Ok(None), "it is so by now");
    next
}

fn drain(number: u128) -> Verb {
    Verb::Drain { node: node(number), for_ms: 600_000 }
}

#[test]
fn a_drained_node_keeps_what_it_holds_however_long_it_is_away() {
    let ring = cluster(4, 8);
    let drained = after(&ring, &seen(&ring, &[]), &drain(2));
    assert!(drained.is_draining(node(2)));
    // It went away, and is down; nothing is made anew.
    let MapDecision::Change(down, _) = decide(&drained, &silent(&drained, &[2], HOLD)) else { panic!() };
    let away = |ms| Seen { drained: [(node(2), ms)].into(), ..silent(&down, &[2], HOLD) };
    assert_eq!(decide(&down, &away(599_999)), MapDecision::Rest);
    let outlook = plan(&down, &away(599_000));
    let of_node = outlook.nodes.iter().find(|outlook| outlook.node == node(2)).unwrap();
    assert_eq!((of_node.standing, of_node.down, of_node.ends_in_ms), (NodeStanding::Draining, true, Some(1_000)));
    assert!(outlook.moves.is_empty());

    let MapDecision::Change(over, change) = decide(&down, &away(600_000)) else { panic!() };
    assert_eq!(change, Change::Undrained(vec![node(2)]));
    let MapDecision::Change(_, change) = decide(&over, &silent(&over, &[2], HOLD)) else { panic!() };
    assert!(matches!(&change, Change::Steps(steps) if !steps.is_empty()), "it is given up now: {change:?}");
    let back = after(&down, &seen(&down, &[2]), &Verb::Undrain(node(2)));
    assert_eq!((back.nodes[1].state, back.nodes[1].absence_ms), (NodeState::Up, None));
}

#[test]
fn a_drained_node_is_given_nothing() {
    let ring = cluster(4, 8);
    let drained = after(&ring, &seen(&ring, &[]), &drain(4));
    let gone = silent(&drained, &[2], HOLD);
    let MapDecision::Change(down, _) = decide(&drained, &gone) else { panic!() };
    let MapDecision::Change(next, _) = decide(&down, &gone) else { return };
    assert!(next.groups().all(|group| group.newcomer().is_none_or(|held| next.slot_of(node(4)) != Some(held.node))));
}

#[test]
fn a_drain_that_would_cost_a_majority_is_refused() {
    let ring = cluster(3, 4);
    let drained = after(&ring, &seen(&ring, &[]), &drain(1));
    let Err(VerbRefusal::CostsQuorum { needed: 2, voters: 3, .. }) = admit(&drained, &seen(&drained, &[]), &drain(2))
    else {
        panic!("one of three is drained")
    };
    let Err(refusal) = admit(&ring, &seen(&ring, &[3]), &drain(2)) else { panic!("one of three is away") };
    assert_eq!(
        refusal.to_string(),
        "without the node, the ring map's group would have no majority: 2 of 3 replicas would have to be there; wait for \
         the others, or UNDRAIN them"
    );
    let longer = Verb::Drain { node: node(1), for_ms: 700_000 };
    assert_eq!(after(&drained, &seen(&drained, &[]), &longer).nodes[0].absence_ms, Some(700_000));
    assert!(matches!(
        admit(&ring, &seen(&ring, &[]), &Verb::Drain { node: node(1), for_ms: 0 }),
        Err(VerbRefusal::OutOfRange { .. })
    ));
}

#[test]
fn a_drain_counts_who_may_still_vote_in_a_group_that_moves() {
    let ring = cluster(4, 1);
    let group = &ring.shards[0];
    let to = ring.nodes.iter().map(|known| known.slot).find(|slot| group.held().all(|held| held.node != *slot));
    let [leaves, stays] = [0, 1].map(|at| ring.node_at(group.replicas[at].node).unwrap().id.as_u128());
    let moving = ring.move_replica(ShardId(0), group.replicas[0].node, to.unwrap()).unwrap();
    let new = moving.node_at(to.unwrap()).unwrap().id.as_u128();
    for first in [leaves, new] {
        let drained = moving.with_state(node(first), NodeState::Draining).unwrap();
        let refused = admit(&drained, &seen(&drained, &[]), &drain(stays));
        assert!(matches!(refused, Err(VerbRefusal::CostsQuorum { .. })), "{first} of {moving:?}: {refused:?}");
    }
}

#[test]
fn a_drain_that_is_asked_for_again_later_begins_anew() {
    let ring = cluster(4, 8);
    let drained = after(&ring, &seen(&ring, &[]), &drain(2));
    let since = |map: &RingMap, ms| Seen { drained: [(node(2), ms)].into(), ..seen(map, &[]) };
    assert_eq!(admit(&drained, &since(&drained, 9_999), &drain(2)), Ok(None), "he has not heard yet");
    let again = admit(&drained, &since(&drained, 10_000), &drain(2)).unwrap().expect("it begins anew");
    assert_eq!(again.nodes[1].absence_ms, Some(600_001), "leaders see that it is another one");
    assert_eq!(admit(&again, &since(&again, 100), &drain(2)), Ok(None));
    let third = admit(&again, &since(&again, 20_000), &drain(2)).unwrap().expect("once more");
    assert_eq!(third.nodes[1].absence_ms, Some(600_000));
}

#[test]
fn what_a_dead_node_leaves_does_not_wait_for_an_heir_that_can_take_nothing() {
    let ring = cluster(5, 16);
    let replaced = ring.with_node(node(2), |known| {
        (known.state, known.heir) = (NodeState::Removing, Some(ring.slot_of(node(5)).unwrap()));
    });
    let dead = replaced.unwrap().with_node(node(2), |known| known.down = true).unwrap();
    let declined = Seen { declined: [(node(5), 0)].into(), ..silent(&dead, &[2], HOLD) };
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&dead, &declined) else { panic!("it is made anew") };
    let to_heir = |step: &Step| matches!(step, Step::Move { to, .. } if Some(*to) == dead.slot_of(node(5)));
    assert!(steps.iter().any(|step| matches!(step, Step::Move { .. })) && !steps.iter().any(to_heir), "{steps:?}");
    // It has only just come.
    let mut young = silent(&dead, &[2], HOLD);
    young.peers.get_mut(&node(5)).unwrap().connected_ms = 100;
    let moves = |decision: MapDecision| match decision {
        MapDecision::Change(_, Change::Steps(steps)) => {
            steps.into_iter().filter(|step| matches!(step, Step::Move { .. })).count()
        }
        _ => 0,
    };
    assert_eq!(moves(decide(&dead, &young)), 0, "it is waited for");
    let alive = dead.with_node(node(2), |known| known.down = false).unwrap();
    let declined = Seen { declined: [(node(5), 0)].into(), ..seen(&alive, &[]) };
    assert_eq!(moves(decide(&alive, &declined)), 0, "what lives keeps what it holds");
}

#[test]
fn a_node_is_replaced_by_moves_straight_to_its_heir() {
    for dead in [false, true] {
        let ring = cluster(4, 16);
        // Node 4 is fresh: it was in the map for a moment, and moves were paused.
        let empty = {
            let removing = ring.with_state(node(4), NodeState::Removing).unwrap();
            let (rested, _) = rest_but_for(removing, &[]);
            rested.with_state(node(4), NodeState::Up).unwrap()
        };
        assert!(empty.held_by(node(4)).is_empty());
        let away: &[u128] = if dead { &[2] } else { &[] };
        let before = empty.held_by(node(2));
        let verb = Verb::Replace { old: node(2), new: node(4) };
        let replaced = after(&empty, &seen(&empty, away), &verb);
        let (rested, moved) = come_to_rest(replaced, away);
        assert_eq!((moved, rested.has_node(node(2))), (before.len(), false), "each replica moved once");
        let (mut to, mut from): (Vec<ShardId>, Vec<ShardId>) =
            (rested.held_by(node(4)).iter().map(|held| held.0).collect(), before.iter().map(|held| held.0).collect());
        to.sort_unstable();
        from.sort_unstable();
        assert_eq!(to, from);
        assert_eq!(admit(&rested, &seen(&rested, &[]), &verb), Ok(None), "asked once more");
    }
}

/// Lets a node that is removed give all it holds away, and stay in the map.
fn rest_but_for(mut ring: RingMap, away: &[u128]) -> (RingMap, usize) {
    for _ in 0..500 {
        let settled = all_settled(&ring);
        match decide(&ring, &Seen { settled, ..seen(&ring, away) }) {
            MapDecision::Change(_, Change::Removed(_)) => return (ring, 0),
            MapDecision::Change(next, _) => ring = *next,
            other => panic!("{other:?}"),
        }
    }
    panic!("it does not come to rest")
}

#[test]
fn an_heir_that_is_away_is_waited_for() {
    let ring = cluster(4, 8);
    let replaced = after(&ring, &seen(&ring, &[]), &Verb::Replace { old: node(2), new: node(4) });
    let flaps = {
        let mut seen = seen(&replaced, &[]);
        seen.peers.get_mut(&node(4)).unwrap().connected_ms = 10;
        seen
    };
    assert_eq!(decide(&replaced, &flaps), MapDecision::Rest);
    let refused = |old, new| admit(&ring, &seen(&ring, &[]), &Verb::Replace { old: node(old), new: node(new) });
    assert!(matches!(refused(2, 2), Err(VerbRefusal::NoHeir { .. })));
    assert_eq!(refused(2, 9), Err(VerbRefusal::UnknownNode(node(9))));
    let other = Verb::Replace { old: node(3), new: node(4) };
    assert!(matches!(admit(&replaced, &seen(&replaced, &[]), &other), Err(VerbRefusal::NoHeir { .. })));
}

#[test]
fn a_pause_holds_moves_up_and_repair_goes_on() {
    let ring = cluster(4, 8);
    let removing = ring.with_state(node(4), NodeState::Removing).unwrap();
    let paused = after(&removing, &seen(&removing, &[]), &Verb::Pause(true));
    assert_eq!(decide(&paused, &seen(&paused, &[])), MapDecision::Rest);
    let outlook = plan(&paused, &seen(&paused, &[]));
    assert_eq!(outlook.reasons[0].text, "moves are paused; CLUSTER REBALANCE RESUME lets them go on");
    assert_eq!(outlook.moves.len(), paused.held_by(node(4)).len());
    assert!(outlook.moves.iter().all(|one| one.purpose == MovePurpose::Removal && !one.under_way));
    let resumed = after(&paused, &seen(&paused, &[]), &Verb::Pause(false));
    let MapDecision::Change(next, Change::Steps(steps)) = decide(&resumed, &seen(&resumed, &[])) else { panic!() };
    let outlook = plan(&next, &seen(&next, &[]));
    let begun = outlook.moves.iter().filter(|one| one.under_way).count();
    assert_eq!((begun, begun > 0), (steps.len(), true));

    let paused = after(&ring, &seen(&ring, &[]), &Verb::Pause(true));
    let MapDecision::Change(down, _) = decide(&paused, &silent(&paused, &[2], HOLD)) else { panic!() };
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&down, &silent(&down, &[2], HOLD)) else { panic!() };
    assert!(steps.iter().all(|step| matches!(step, Step::Move { .. })), "{steps:?}");
}

#[test]
fn an_operator_lets_many_nodes_be_given_up() {
    let ring = cluster(7, 8);
    let lost = [2, 3, 4];
    let MapDecision::Change(down, _) = decide(&ring, &silent(&ring, &lost, HOLD)) else { panic!() };
    let outlook = plan(&down, &silent(&down, &lost, HOLD));
    assert_eq!(
        (outlook.reasons[0].text.as_str(), outlook.reasons[0].of_repair),
        ("3 of 7 nodes are down at once: nothing is made anew by itself; REPAIR ALLOW has it done", true)
    );
    let allowed = after(&down, &silent(&down, &lost, DOWN_AFTER_MS), &Verb::AllowRepair);
    // Not even the hold is waited for. Only groups that have a majority can do it.
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&allowed, &silent(&allowed, &lost, DOWN_AFTER_MS)) else {
        panic!()
    };
    assert!(!steps.is_empty());
    let back = Seen { steady: lost.map(|number| (node(number), 60_000)).into(), ..seen(&allowed, &[]) };
    let MapDecision::Change(up, _) = decide(&allowed, &back) else { panic!() };
    assert!(up.nodes.iter().all(|known| !known.down && !known.lost), "the next time it is waited for again");
    assert_eq!(admit(&ring, &seen(&ring, &[]), &Verb::AllowRepair), Ok(None), "nobody is down");
}

#[test]
fn zones_and_weights_are_set_and_replicas_follow() {
    let ring = cluster(6, 16);
    let mut map = ring.clone();
    for (number, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
        map = after(&map, &seen(&map, &[]), &Verb::Set { node: node(number), zone: Some(zone.into()), weight: None });
    }
    let (rested, _) = come_to_rest(map, &[]);
    for shard in 0..16 {
        let zones: std::collections::BTreeSet<&str> =
            rested.replicas(ShardId(shard)).iter().map(|held| rested.node_at(held.node).unwrap().zone()).collect();
        assert_eq!(zones.len(), 3, "shard {shard}");
    }
    let heavier = Verb::Set { node: node(1), zone: None, weight: Some(3) };
    let heavy = after(&rested, &seen(&rested, &[]), &heavier);
    let (rested, _) = come_to_rest(heavy, &[]);
    assert!(held(&rested, 1) > held(&rested, 2), "{} and {}", held(&rested, 1), held(&rested, 2));
    let wrong = Verb::Set { node: node(1), zone: None, weight: Some(0) };
    assert!(matches!(admit(&ring, &seen(&ring, &[]), &wrong), Err(VerbRefusal::OutOfRange { .. })));
}

#[test]
fn the_level_rises_when_an_operator_says_so_and_every_node_speaks_it() {
    let ring = RingMap { level: 2, ..cluster(3, 4) };
    let three = Levels { min: 1, max: 3 };
    let of = |levels: [Levels; 3]| {
        let mut seen = seen(&ring, &[]);
        seen.levels = levels[0];
        let set = |(number, levels): (u128, Levels), peer: &mut Presence| {
            assert!(number > 1);
            peer.levels = levels;
        };
        set((2, levels[1]), seen.peers.get_mut(&node(2)).unwrap());
        set((3, levels[2]), seen.peers.get_mut(&node(3)).unwrap());
        seen
    };
    let some = of([three, Levels::OWN, three]);
    assert_eq!(decide(&ring, &some), MapDecision::Rest);
    assert_eq!(plan(&ring, &some).next_level, None);
    let refused = admit(&ring, &some, &Verb::Finalize).unwrap_err();
    assert_eq!(refused.to_string(), "no node may be away or run an older version: node-2");
    let all = of([three, Levels { min: 1, max: 4 }, three]);
    assert_eq!(decide(&ring, &all), MapDecision::Rest, "never by itself: there is no way back");
    assert_eq!(plan(&ring, &all).next_level, Some(3));
    // This program can't read a map of that level.
    let raised = admit(&ring, &all, &Verb::Finalize).unwrap().unwrap();
    assert_eq!((raised.level, raised.epoch), (3, ring.epoch + 1));
    assert_eq!(admit(&raised, &all, &Verb::Finalize), Ok(None));
    let mut away = all.clone();
    away.peers.remove(&node(3));
    assert_eq!(admit(&ring, &away, &Verb::Finalize), Err(VerbRefusal::OlderNodes(vec!["node-3".into()])));
    assert_eq!(admit(&ring, &seen(&ring, &[]), &Verb::Finalize), Ok(None), "there is no higher level");
}

#[test]
fn a_plan_of_a_removal_says_what_would_move_and_changes_nothing() {
    let ring = cluster(5, 16);
    let verb = Verb::Remove { node: node(2), accept_fewer_zones: false };
    let next = admit(&ring, &seen(&ring, &[]), &verb).unwrap().unwrap();
    let outlook = plan(&next, &seen(&next, &[]));
    let (_, moved) = come_to_rest(next, &[]);
    let replicas = outlook.moves.iter().filter(|one| one.to.is_some()).count();
    assert_eq!(replicas, moved, "{:?}", outlook.moves);
    assert_eq!(outlook.moves[0].shard, ShardId::META, "it moves first");
    assert!(outlook.reasons.is_empty(), "{:?}", outlook.reasons);
    assert_eq!(plan(&ring, &seen(&ring, &[])).moves, []);
}

#[test]
fn a_plan_says_whose_absence_holds_a_move_up() {
    let ring = cluster(5, 4);
    let removing = ring.with_state(node(2), NodeState::Removing).unwrap();
    let outlook = plan(&removing, &seen(&removing, &[3]));
    let shared: Vec<ShardId> = removing.held_by(node(2)).into_iter().map(|held| held.0).collect();
    let waits = shared.iter().filter(|shard| removing.replica_on(**shard, node(3)).is_some()).count();
    assert_eq!(outlook.reasons.len(), waits);
    assert!(outlook.reasons.iter().all(|reason| reason.text.contains("its replica on node-3 is away")));
}

#[test]
fn a_plan_tells_of_a_move_that_takes_long() {
    let ring = cluster(5, 4);
    let removing = ring.with_state(node(2), NodeState::Removing).unwrap();
    let MapDecision::Change(moving, _) = decide(&removing, &seen(&removing, &[])) else { panic!() };
    let shard = moving.group_ids().zip(moving.groups()).find(|(_, group)| group.is_moving()).unwrap().0;
    let since = |ms| Seen { moving: [(shard, ms)].into(), ..seen(&moving, &[]) };
    assert_eq!(plan(&moving, &since(599_999)).reasons, []);
    let reasons = plan(&moving, &since(12 * 60_000)).reasons;
    assert!(reasons[0].text.contains(" has been moving for 12 min: look at what node-"), "{reasons:?}");
}

/// Every disk has so many MiB, of which so many are free, and holds so much.
fn with_disks(seen: Seen, ring: &RingMap, (total, free, held): (u64, u64, u64)) -> Seen {
    let room = DiskRoom { free_bytes: free << 20, total_bytes: total << 20 };
    let disk = DiskOfNode { room, held_bytes: held << 20 };
    Seen { disks: ring.nodes.iter().map(|known| (NodeId(known.id), disk)).collect(), ..seen }
}

#[test]
fn disks_that_are_almost_full_are_given_nothing_and_a_removal_that_would_fill_them_is_refused() {
    let ring = cluster(4, 8);
    let remove = Verb::Remove { node: node(4), accept_fewer_zones: false };
    let full = with_disks(seen(&ring, &[]), &ring, (1_000, 200, 200));
    let refused = admit(&ring, &full, &remove).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the others' disks have no room: the node holds 200 MiB, and they could take 0 MiB; add a node or a disk"
    );
    let roomy = with_disks(seen(&ring, &[]), &ring, (1_000, 600, 200));
    let removing = admit(&ring, &roomy, &remove).unwrap().unwrap();
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&removing, &roomy) else { panic!() };
    assert!(!steps.is_empty());
    // Between the two limits only repairs come.
    let some = with_disks(seen(&removing, &[]), &removing, (1_000, 200, 200));
    assert_eq!(decide(&removing, &some), MapDecision::Rest);
    let said = "its disk has 200 of 1000 MiB free, and moves leave 25 % or 2080 MiB free, and a replica takes 33 MiB; \
                make room or add a node";
    let waiting: Vec<_> = plan(&removing, &some).reasons.into_iter().map(|reason| reason.text).collect();
    assert!(waiting.contains(&format!("replicas that should move to node-1 wait: {said}")), "{waiting:?}");
    let lost = with_disks(silent(&ring, &[4], HOLD), &ring, (1_000, 200, 200));
    let MapDecision::Change(down, _) = decide(&ring, &lost) else { panic!() };
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&down, &lost) else { panic!("a repair has room") };
    assert!(!steps.is_empty());
    let none = with_disks(silent(&down, &[4], HOLD), &down, (1_000, 100, 200));
    assert_eq!(decide(&down, &none), MapDecision::Rest, "no shard ever has fewer replicas for it");
    assert!(plan(&down, &none).reasons[0].text.contains("have nowhere to go"));
    // Of a large disk a few GiB are enough, however small a part of it they are.
    let large = with_disks(seen(&ring, &[]), &ring, (10_000_000, 8_000, 200));
    assert!(admit(&ring, &large, &remove).is_ok());
    // The less is held, the less: it is other things that fill the disk.
    let others = with_disks(seen(&removing, &[]), &removing, (20_000, 1_500, 10));
    assert!(matches!(decide(&removing, &others), MapDecision::Change(_, Change::Steps(_))));
    let other = with_disks(seen(&removing, &[]), &removing, (20_000, 1_300, 10));
    assert!(matches!(decide(&removing, &other), MapDecision::Blocked(_)));
}

#[test]
fn a_zone_that_is_down_as_a_whole_is_waited_for_longer() {
    let mut ring = cluster(6, 8);
    for (number, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
        ring = ring.with_node(node(number), |known| known.zone = zone.to_owned()).unwrap();
    }
    let (ring, _) = come_to_rest(ring, &[]);
    let MapDecision::Change(down, _) = decide(&ring, &silent(&ring, &[5, 6], HOLD)) else { panic!() };
    let zone_hold = DOWN_AFTER_MS + REPAIR_HOLD_MS * 36;
    assert_eq!(decide(&down, &silent(&down, &[5, 6], zone_hold - 1)), MapDecision::Rest);
    assert!(matches!(decide(&down, &silent(&down, &[5, 6], zone_hold)), MapDecision::Change(_, Change::Steps(_))));
    let MapDecision::Change(one, _) = decide(&ring, &silent(&ring, &[5], HOLD)) else { panic!() };
    assert!(matches!(decide(&one, &silent(&one, &[5], HOLD)), MapDecision::Change(_, Change::Steps(_))), "a machine");
}

#[test]
fn moves_do_not_hurry_unless_a_node_is_down_or_an_operator_says_so() {
    const MIB: u64 = 1 << 20;
    let ring = cluster(4, 8);
    assert_eq!(ring.snapshot_rate(), 64 * MIB, "a snapshot is for a replica that lost its log");
    let remove = Verb::Remove { node: node(4), accept_fewer_zones: false };
    let removing = after(&ring, &seen(&ring, &[]), &remove);
    let MapDecision::Change(moving, Change::Steps(_)) = decide(&removing, &seen(&removing, &[])) else { panic!() };
    assert_eq!(moving.snapshot_rate(), 16 * MIB);
    let set = after(&moving, &seen(&moving, &[]), &Verb::Rate(Some(5)));
    assert_eq!(set.snapshot_rate(), 5 * MIB);
    let down = moving.with_node(node(1), |known| known.down = true).unwrap();
    assert_eq!(down.snapshot_rate(), 64 * MIB);
}
