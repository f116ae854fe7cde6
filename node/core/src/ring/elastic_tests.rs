//! Nodes join and leave, and the map comes to rest: the decisions of `meta`'s leader one after the other, with groups that settle
//! whenever they are asked to.

use super::decide::{Change, DiskOfNode, MapDecision, Presence, Seen, decide};
use super::rebalance::{self, Step};
use super::tests::nodes;
use super::verbs::{NewNode, Verb, VerbRefusal, admit};
use super::*;
use crate::limits::{MOVES_OF_REMOVAL_MAX, MOVES_OF_REPAIR_MAX};
use kvorum_protocol::report::DiskRoom;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

pub(super) fn folder(number: u128) -> FolderId {
    FolderId(Uuid::from_u128(1_000 + number))
}

/// A cluster whose folders are named, with so many nodes and shards of three replicas.
pub(crate) fn cluster(count: u128, shards: u16) -> RingMap {
    let cluster = ClusterId(Uuid::from_u128(99));
    let map = RingMap::initial(cluster, Durability::Fsync, nodes(count), shards, 3).unwrap();
    (1..=count).fold(map, |map, number| map.with_folder(node(number), folder(number)).unwrap())
}

fn new_node(number: u128) -> NewNode {
    NewNode {
        id: node(number),
        name: format!("node-{number}"),
        zone: String::new(),
        client: format!("127.0.0.1:{}", 7400 + number),
        peer: format!("127.0.0.1:{}", 8400 + number),
        folder: folder(number),
        levels: Levels::OWN,
    }
}

/// All of the map's nodes are there and well, but for those that are away.
pub(super) fn seen(ring: &RingMap, away: &[u128]) -> Seen {
    let me = ring.nodes.iter().find(|known| !away.contains(&known.id.as_u128())).expect("somebody leads");
    let presence = |known: &RingNode| Presence {
        folder: known.disk.expect("it is named"),
        remembered: known.disk,
        connected_ms: 60_000,
        levels: Levels::OWN,
    };
    let others = ring.nodes.iter().filter(|known| known.id != me.id && !away.contains(&known.id.as_u128()));
    Seen {
        me: NodeId(me.id),
        folder: me.disk.expect("it is named"),
        levels: Levels::OWN,
        peers: others.map(|known| (NodeId(known.id), presence(known))).collect(),
        faulty: BTreeSet::new(),
        settled: BTreeSet::new(),
        silent: away.iter().map(|number| (node(*number), 1_000)).collect(),
        steady: BTreeMap::new(),
        drained: BTreeMap::new(),
        tokens: BTreeMap::new(),
        moving: BTreeMap::new(),
        idle: BTreeMap::new(),
        declined: BTreeMap::new(),
        planned: BTreeSet::new(),
        disks: BTreeMap::new(),
        loads: BTreeMap::new(),
        places: true,
        clients: BTreeMap::new(),
        peer_addresses: BTreeMap::new(),
        data_keys: BTreeMap::new(),
    }
}

/// Every group that is asked says that it is settled.
pub(super) fn all_settled(ring: &RingMap) -> BTreeSet<(ShardId, u64)> {
    let moving = ring.group_ids().zip(ring.groups()).filter(|(_, group)| group.is_moving());
    moving.map(|(shard, group)| (shard, group.since)).collect()
}

/// Decides until nothing is left to do. Returns the map, and how many replicas have moved.
pub(super) fn come_to_rest(mut ring: RingMap, away: &[u128]) -> (RingMap, usize) {
    let mut moved = 0;
    for _ in 0..2_000 {
        let settled = all_settled(&ring);
        let next = match decide(&ring, &Seen { settled, ..seen(&ring, away) }) {
            MapDecision::Change(next, change) => {
                if let Change::Steps(steps) = &change {
                    check_load(&next);
                    moved += steps.iter().filter(|step| matches!(step, Step::Move { .. } | Step::Grow { .. })).count();
                }
                *next
            }
            MapDecision::Rest | MapDecision::Wait(..) | MapDecision::Blocked(_) => return (ring, moved),
        };
        assert_eq!(next.epoch, ring.epoch + 1);
        assert_eq!(RingMap::from_bytes(&next.to_bytes()).unwrap(), next, "it can be stored");
        ring = next;
    }
    panic!("it does not come to rest: {ring:?}");
}

/// No node takes part in more moves than it may.
fn check_load(ring: &RingMap) {
    let most = MOVES_OF_REPAIR_MAX.max(MOVES_OF_REMOVAL_MAX);
    for known in &ring.nodes {
        let moving = || ring.groups().filter(|group| group.is_moving());
        let out = moving().filter(|group| group.leaving.iter().any(|held| held.node == known.slot)).count();
        let into = moving().filter(|group| group.newcomer().is_some_and(|held| held.node == known.slot)).count();
        assert!(out <= most && into <= most, "{} gives {out} and takes {into} at a time", known.name);
    }
}

pub(super) fn held(ring: &RingMap, number: u128) -> usize {
    ring.held_by(node(number)).into_iter().filter(|(shard, _)| *shard != ShardId::META).count()
}

#[test]
fn a_cluster_that_has_always_been_as_it_is_moves_nothing() {
    for count in [1, 2, 3, 4, 5, 7] {
        let cluster_of = |replicas| {
            let id = ClusterId(Uuid::from_u128(99));
            let map = RingMap::initial(id, Durability::Fsync, nodes(count), 16, replicas).unwrap();
            (1..=count).fold(map, |map, number| map.with_folder(node(number), folder(number)).unwrap())
        };
        for replicas in 1..=count.min(3) as u8 {
            let ring = cluster_of(replicas);
            assert_eq!(decide(&ring, &seen(&ring, &[])), MapDecision::Rest, "{count} nodes, {replicas} replicas");
        }
    }
}

#[test]
fn a_node_that_joins_takes_its_share_and_no_more_moves_than_that() {
    let ring = cluster(3, 16);
    let joined = admit(&ring, &seen(&ring, &[]), &Verb::Join(Box::new(new_node(4)))).unwrap().unwrap();
    assert_eq!(joined.nodes[3].slot, NodeSlot(3));
    let again = admit(&joined, &seen(&joined, &[]), &Verb::Join(Box::new(new_node(4))));
    assert_eq!(again, Ok(None), "asked again it is there");
    let (rested, moved) = come_to_rest(joined, &[]);
    assert_eq!([1, 2, 3, 4].map(|number| held(&rested, number)), [12; 4]);
    assert_eq!(moved, 12);
    assert_eq!(rested.meta.replicas.len(), 3);
}

#[test]
fn meta_grows_to_five_and_shrinks_again() {
    let ring = cluster(4, 4);
    let joined = admit(&ring, &seen(&ring, &[]), &Verb::Join(Box::new(new_node(5)))).unwrap().unwrap();
    let (five, _) = come_to_rest(joined, &[]);
    assert_eq!(five.meta.replicas.len(), 5);
    assert_eq!(five.meta.founders, 3, "a first replica that is opened late begins with who was there first");
    let remove = Verb::Remove { node: node(1), accept_fewer_zones: false };
    let removing = admit(&five, &seen(&five, &[]), &remove).unwrap().unwrap();
    let (four, _) = come_to_rest(removing, &[]);
    assert_eq!((four.nodes.len(), four.meta.replicas.len()), (4, 3));
    assert!(four.was_removed(node(1)) && four.is_retired(folder(1)));
}

#[test]
fn a_dead_node_is_removed_as_well() {
    let ring = cluster(4, 8);
    let remove = Verb::Remove { node: node(2), accept_fewer_zones: false };
    let removing = admit(&ring, &seen(&ring, &[2]), &remove).unwrap().unwrap();
    let (rested, moved) = come_to_rest(removing, &[2]);
    assert_eq!(
        (rested.nodes.len(), moved),
        (3, held(&ring, 2) + usize::from(ring.replica_on(ShardId::META, node(2)).is_some()))
    );
    assert!(!rested.has_node(node(2)));
}

/// What node 1 sees when a node was silent for so long.
pub(super) fn silent(ring: &RingMap, lost: &[u128], ms: u64) -> Seen {
    Seen { silent: lost.iter().map(|number| (node(*number), ms)).collect(), ..seen(ring, lost) }
}

#[test]
fn a_node_that_is_silent_is_down_and_what_it_holds_is_made_anew_after_the_hold() {
    let ring = cluster(4, 8);
    assert_eq!(decide(&ring, &silent(&ring, &[2], DOWN_AFTER_MS - 1)), MapDecision::Rest);
    let MapDecision::Change(down, change) = decide(&ring, &silent(&ring, &[2], DOWN_AFTER_MS)) else { panic!() };
    assert_eq!(change, Change::Down(vec![(node(2), true)]));
    let hold = DOWN_AFTER_MS + REPAIR_HOLD_MS;
    assert_eq!(decide(&down, &silent(&down, &[2], hold - 1)), MapDecision::Rest, "it is waited for");
    let planned = Seen { planned: [node(2)].into(), ..silent(&down, &[2], hold) };
    assert_eq!(decide(&down, &planned), MapDecision::Rest, "it has said that it stops");

    let held_before = down.held_by(node(2)).len();
    let mut map = *down;
    for _ in 0..100 {
        let seen = Seen { settled: all_settled(&map), ..silent(&map, &[2], hold) };
        let MapDecision::Change(next, change) = decide(&map, &seen) else { break };
        if let Change::Steps(steps) = &change {
            assert!(steps.len() <= MOVES_OF_REPAIR_MAX, "{steps:?}");
        }
        map = *next;
    }
    assert!(held_before > 0 && map.held_by(node(2)).is_empty());
    assert!(map.has_node(node(2)), "it may come back");
    assert!(map.shards.iter().all(|group| group.replicas.len() == 3 && !group.is_moving()));

    // It is back: up again once it was heard for a while, and given its share.
    let back = |ms| Seen { steady: [(node(2), ms)].into(), ..seen(&map, &[]) };
    assert_eq!(decide(&map, &back(UP_AGAIN_AFTER_MS - 1)), MapDecision::Rest, "one that flaps is given nothing");
    let MapDecision::Change(up, change) = decide(&map, &back(UP_AGAIN_AFTER_MS)) else { panic!() };
    assert_eq!(change, Change::Down(vec![(node(2), false)]));
    assert_eq!(held(&come_to_rest(*up, &[]).0, 2), 6);
}

#[test]
fn a_move_of_which_nothing_is_taken_in_goes_elsewhere_while_there_is_a_place() {
    for (count, idle_ms, is_full, expected) in [
        (5, MOVE_IDLE_MAX_MS, false, true),
        (5, MOVE_IDLE_MAX_MS - 1, false, false),
        (5, MOVE_IDLE_FULL_MS, true, true),
        (5, MOVE_IDLE_FULL_MS - 1, true, false),
        // One is being removed, and the others hold the group: it waits.
        (4, MOVE_IDLE_MAX_MS, false, false),
    ] {
        let ring = cluster(count, 1);
        let group = &ring.shards[0];
        let to = ring.nodes.iter().map(|node| node.slot).find(|slot| group.held().all(|held| held.node != *slot));
        let (from, to) = (group.replicas[0].node, to.unwrap());
        let ring = ring.with_state(NodeId(ring.node_at(from).unwrap().id), NodeState::Removing).unwrap();
        let moving = ring.move_replica(ShardId(0), from, to).unwrap();
        let taker = NodeId(moving.node_at(to).unwrap().id);
        let mut sees = Seen { idle: [(ShardId(0), idle_ms)].into(), ..seen(&moving, &[]) };
        if is_full {
            let room = DiskRoom { free_bytes: 1 << 30, total_bytes: 100 << 30 };
            sees.disks.insert(taker, DiskOfNode { room, held_bytes: 20 << 30 });
        } else if idle_ms >= MOVE_IDLE_MAX_MS {
            sees.declined.insert(taker, 0);
        }
        let next = match decide(&moving, &sees) {
            MapDecision::Change(next, Change::Steps(steps))
                if steps.iter().any(|step| matches!(step, Step::Retarget { .. })) =>
            {
                next
            }
            _ => {
                assert!(!expected, "{count} nodes, {idle_ms} ms");
                continue;
            }
        };
        assert!(expected, "{count} nodes, {idle_ms} ms");
        let group = &next.shards[0];
        assert!(group.replicas.iter().all(|held| held.node != to) && group.leaving.len() == 2, "{group:?}");
        let said: Vec<_> = outlook::plan(&next, &sees).reasons.into_iter().map(|reason| reason.text).collect();
        assert!(is_full || said.iter().any(|text| text.contains("it took nothing of a move for 10 min")), "{said:?}");
    }
}

#[test]
fn a_move_whose_target_is_lost_goes_elsewhere_or_is_taken_back() {
    let hold = DOWN_AFTER_MS + REPAIR_HOLD_MS;
    for (count, elsewhere) in [(5, true), (4, false)] {
        let mut ring = cluster(count, 1);
        if elsewhere {
            // It is on its way because its node is being removed.
            let slot = ring.shards[0].replicas[0].node;
            let from = NodeId(ring.node_at(slot).unwrap().id);
            ring = ring.with_state(from, NodeState::Removing).unwrap();
        }
        let group = &ring.shards[0];
        let to = ring.nodes.iter().map(|node| node.slot).find(|slot| group.held().all(|held| held.node != *slot));
        let (from, to) = (group.replicas[0], to.unwrap());
        let moving = ring.move_replica(ShardId(0), from.node, to).unwrap();
        let lost = moving.node_at(to).unwrap().id.as_u128();
        let mut map = RingMap::from_bytes(&moving.to_bytes()).unwrap();
        // The group does not settle before something is done about it.
        for _ in 0..3 {
            if let MapDecision::Change(next, _) = decide(&map, &silent(&map, &[lost], hold)) {
                map = *next;
            }
        }
        let group = &map.shards[0];
        assert!(group.is_moving() && group.replicas.iter().all(|held| held.node != to), "{group:?}");
        assert!(group.leaving.iter().any(|held| held.node == to), "it may have joined the group: {group:?}");
        assert_eq!(group.replicas.contains(&from), !elsewhere, "{count} nodes: {group:?}");
        assert_eq!(group.leaving.contains(&from), elsewhere, "under its old id: {group:?}");
        assert_eq!(RingMap::from_bytes(&map.to_bytes()).unwrap(), map);
        let settled = map.with_settled(&all_settled(&map)).unwrap();
        assert_eq!(settled.shards[0].held().count(), 3);
    }
}

#[test]
fn many_nodes_that_are_down_at_once_are_not_given_up() {
    let ring = cluster(7, 8);
    let lost = [2, 3, 4];
    let hold = DOWN_AFTER_MS + REPAIR_HOLD_MS;
    let MapDecision::Change(down, _) = decide(&ring, &silent(&ring, &lost, hold)) else { panic!() };
    assert_eq!(decide(&down, &silent(&down, &lost, hold)), MapDecision::Rest);
    // Two of seven may be.
    let two = &lost[..2];
    let MapDecision::Change(down, _) = decide(&ring, &silent(&ring, two, hold)) else { panic!() };
    assert!(matches!(decide(&down, &silent(&down, two, hold)), MapDecision::Change(..)));
    // A third one is down, and not given up yet: that is many by now.
    let third =
        |seen: Seen| Seen { silent: [(node(2), hold), (node(3), hold), (node(4), DOWN_AFTER_MS)].into(), ..seen };
    let MapDecision::Change(down, _) = decide(&down, &third(seen(&down, &lost))) else { panic!() };
    assert_eq!(decide(&down, &third(seen(&down, &lost))), MapDecision::Rest);
    // It has said that it stops: it is expected back.
    let later = Seen {
        silent: [2, 3, 4].map(|number| (node(number), DOWN_AFTER_MS + PLANNED_ABSENCE_MS)).into(),
        ..seen(&down, &lost)
    };
    let all_planned = Seen { planned: lost.map(node).into(), ..later };
    assert_eq!(decide(&down, &all_planned), MapDecision::Rest, "they have not come back, and are many");
    let planned = Seen { planned: [node(4)].into(), ..third(seen(&down, &lost)) };
    assert!(matches!(decide(&down, &planned), MapDecision::Change(_, Change::Steps(_))));
}

/// Lets the cluster do what it does while these nodes are gone for good. Groups that lack a majority don't settle.
fn rest_without(mut ring: RingMap, lost: &[u128]) -> RingMap {
    let gone = |ring: &RingMap, held: &Holder| lost.contains(&ring.node_at(held.node).unwrap().id.as_u128());
    for _ in 0..500 {
        let sees = silent(&ring, lost, DOWN_AFTER_MS + REPAIR_HOLD_MS);
        let mut settled = all_settled(&ring);
        settled.retain(|(shard, _)| {
            let group = ring.group(*shard).unwrap();
            // Whoever comes has to be there, and a majority must want it.
            group.newcomer().is_none_or(|held| !gone(&ring, &held)) && sees.may_have_quorum(&ring, *shard)
        });
        match decide(&ring, &Seen { settled, ..sees }) {
            MapDecision::Change(next, _) => ring = RingMap::from_bytes(&next.to_bytes()).unwrap(),
            MapDecision::Rest | MapDecision::Wait(..) | MapDecision::Blocked(_) => return ring,
        }
    }
    panic!("it does not come to rest: {ring:?}");
}

/// The numbers of the nodes that hold a group.
fn holders(ring: &RingMap, shard: ShardId) -> Vec<u128> {
    ring.holders(shard).map(|id| id.0.as_u128()).collect()
}

#[test]
fn two_of_five_that_are_lost_at_once_are_made_anew() {
    let ring = cluster(7, 1);
    let of_shard = holders(&ring, ShardId(0));
    // Not the shard's majority, and not who leads.
    let mut lost: Vec<u128> = holders(&ring, ShardId::META).into_iter().filter(|number| *number != 1).collect();
    lost.sort_by_key(|number| of_shard.contains(number));
    lost.truncate(2);
    let rested = rest_without(ring.clone(), &lost);
    assert_eq!(rested.meta.replicas.len(), 5);
    for number in &lost {
        assert!(rested.held_by(node(*number)).is_empty(), "{lost:?}: {rested:?}");
    }
    let removed = lost.iter().fold(ring, |ring, number| ring.with_state(node(*number), NodeState::Removing).unwrap());
    let rested = rest_without(removed, &lost);
    assert!(lost.iter().all(|number| !rested.has_node(node(*number))), "they are removed as well: {rested:?}");
}

#[test]
fn a_live_node_is_removed_although_another_one_is_lost_for_good() {
    let ring = cluster(6, 8);
    let removing = ring.with_state(node(3), NodeState::Removing).unwrap();
    let rested = rest_without(removing, &[2]);
    assert!(!rested.has_node(node(3)) && held(&rested, 2) == 0, "{rested:?}");
    // Five nodes are left with the dead one, and the ring map's group has one replica on each.
    assert_eq!(holders(&rested, ShardId::META).len(), 5);
    assert!(rested.shards.iter().all(|group| group.replicas.len() == 3 && !group.is_moving()));
}

#[test]
fn a_group_that_moves_and_loses_its_newcomer_and_another_one_becomes_whole() {
    let ring = cluster(7, 1);
    let shard = ShardId(0);
    let slots: Vec<NodeSlot> = ring.shards[0].replicas.iter().map(|held| held.node).collect();
    let leaves = NodeId(ring.node_at(slots[0]).unwrap().id);
    let ring = ring.with_state(leaves, NodeState::Removing).unwrap();
    let to = ring.nodes.iter().map(|known| known.slot).find(|slot| !slots.contains(slot)).unwrap();
    let moving = ring.move_replica(shard, slots[0], to).unwrap();
    let number = |slot| moving.node_at(slot).unwrap().id.as_u128();
    let lost = [number(to), number(slots[1])];
    let rested = rest_without(moving.clone(), &lost);
    let group = &rested.shards[0];
    assert!(!group.is_moving() && group.replicas.len() == 3, "{group:?}");
    assert!(holders(&rested, shard).iter().all(|number| !lost.contains(number)), "{group:?}");
}

#[test]
fn a_replica_that_is_made_anew_in_a_group_that_moves_does_not_hide_who_may_vote() {
    let ring = cluster(5, 1);
    let shard = ShardId(0);
    let [a, b, l] = [0, 1, 2].map(|at| ring.shards[0].replicas[at].node);
    let to = ring.nodes.iter().map(|known| known.slot).find(|slot| ![a, b, l].contains(slot)).unwrap();
    let moving = ring.move_replica(shard, l, to).unwrap();
    let number = |slot| moving.node_at(slot).unwrap().id.as_u128();
    let renewed = moving.replace_node(node(number(a)), folder(77)).unwrap();
    assert_eq!(RingMap::from_bytes(&renewed.to_bytes()).unwrap(), renewed);
    let open: Vec<NodeSlot> = renewed.shards[0].newcomers().map(|held| held.node).collect();
    assert_eq!(open, [a, to], "neither may vote yet");
    // Who votes are the one that is gone, B, and the one that leaves: B must not be made anew, nor be drained.
    let faulty = (node(number(b)), shard, renewed.replica_on(shard, node(number(b))).unwrap());
    let sees = Seen { faulty: [faulty].into(), ..seen(&renewed, &[]) };
    assert!(matches!(decide(&renewed, &sees), MapDecision::Wait(Change::Replica(..), _)));
    let drain = Verb::Drain { node: node(number(b)), for_ms: 1_000 };
    assert!(matches!(admit(&renewed, &seen(&renewed, &[]), &drain), Err(VerbRefusal::CostsQuorum { .. })));
    // The one that was made anew comes with another folder once more: the others are a majority.
    let again = renewed.replace_node(node(number(a)), folder(78)).unwrap();
    let stranger = Presence { folder: folder(78), remembered: None, connected_ms: 60_000, levels: Levels::OWN };
    let mut sees = seen(&renewed, &[]);
    if sees.me != node(number(a)) {
        sees.peers.insert(node(number(a)), stranger);
        assert_eq!(decide(&renewed, &sees), MapDecision::Change(Box::new(again), Change::Node(node(number(a)))));
    }
    // The first newcomer is lost: it is not forgotten behind the second one.
    let rested = rest_without(renewed.clone(), &[number(to)]);
    let group = &rested.shards[0];
    assert!(!group.is_moving() && group.unsettled.is_empty() && group.replicas.len() == 3, "{group:?}");
    assert!(!holders(&rested, shard).contains(&number(to)), "{group:?}");
    let settled = renewed.with_settled(&all_settled(&renewed)).unwrap();
    assert_eq!(settled.shards[0].newcomers().count(), 0);
}

#[test]
fn a_live_voter_of_the_map_is_removed_although_a_node_that_holds_none_of_it_is_lost() {
    let ring = cluster(6, 4);
    let other = (1..=6).find(|number| ring.replica_on(ShardId::META, node(*number)).is_none()).unwrap();
    let removed = holders(&ring, ShardId::META).into_iter().find(|number| *number != 1).unwrap();
    let rested = rest_without(ring.with_state(node(removed), NodeState::Removing).unwrap(), &[other]);
    assert!(!rested.has_node(node(removed)) && held(&rested, other) == 0, "{rested:?}");
    assert!(rested.meta.replicas.len() >= 3, "{:?}", rested.meta);
}

#[test]
fn the_group_of_the_map_is_not_thinned_out_by_a_removal_while_others_are_lost() {
    // Two of four would be left, and two ask for one voter.
    let ring = cluster(4, 1);
    let other = (1..=4).find(|number| ring.replica_on(ShardId::META, node(*number)).is_none()).unwrap();
    let removed = holders(&ring, ShardId::META).into_iter().find(|number| *number != 1).unwrap();
    let rested = rest_without(ring.with_state(node(removed), NodeState::Removing).unwrap(), &[other]);
    assert_eq!(rested.meta.replicas.len(), 3);
    // Two of five voters are lost, a third one is to go, and the sixth node can take one place.
    let ring = cluster(6, 1);
    let mut voters = holders(&ring, ShardId::META);
    voters.retain(|number| *number != 1);
    let of_shard = holders(&ring, ShardId(0));
    voters.sort_by_key(|number| of_shard.contains(number));
    let removing = ring.with_state(node(voters[3]), NodeState::Removing).unwrap();
    let rested = rest_without(removing, &voters[..2]);
    assert!(!rested.has_node(node(voters[3])), "{:?}", rested.meta);
    assert_eq!(rested.meta.replicas.len(), 3);
}

#[test]
fn a_move_of_a_voter_of_the_map_ends_although_its_target_is_lost_and_nobody_else_is_there() {
    let ring = cluster(6, 4);
    let other = (1..=6).find(|number| ring.replica_on(ShardId::META, node(*number)).is_none()).unwrap();
    let leaves = holders(&ring, ShardId::META).into_iter().find(|number| *number != 1).unwrap();
    let [from, to] = [leaves, other].map(|number| ring.slot_of(node(number)).unwrap());
    let removing = ring.with_state(node(leaves), NodeState::Removing).unwrap();
    let rested = rest_without(removing.move_replica(ShardId::META, from, to).unwrap(), &[other]);
    assert!(!rested.meta.is_moving() && !rested.has_node(node(leaves)), "{:?}", rested.meta);
}

#[test]
fn a_shard_that_has_a_place_is_made_anew_although_another_one_has_none() {
    const ONE: u64 = 1 << 30;
    let mut ring = cluster(5, 2);
    let slots: Vec<NodeSlot> = ring.nodes.iter().map(|known| known.slot).collect();
    for (shard, holders) in [(0, [2, 4, 3]), (1, [0, 1, 3])] {
        for (held, at) in ring.shards[shard].replicas.iter_mut().zip(holders) {
            held.node = slots[at];
        }
    }
    // Only the first two nodes have room, and the fourth one is lost.
    let hold = DOWN_AFTER_MS + REPAIR_HOLD_MS;
    let disk = |number: u128| {
        let free_bytes = if number <= 2 { 60 << 30 } else { FREE_AFTER_REPAIR.1 + ONE / 2 };
        (node(number), DiskOfNode { room: DiskRoom { free_bytes, total_bytes: 100 << 30 }, held_bytes: ONE })
    };
    let sees = |ring: &RingMap| Seen { disks: (1..=5).map(disk).collect(), ..silent(ring, &[4], hold) };
    let MapDecision::Change(down, _) = decide(&ring, &sees(&ring)) else { panic!() };
    let MapDecision::Change(_, Change::Steps(steps)) = decide(&down, &sees(&down)) else { panic!("one has a place") };
    assert!(
        steps.iter().any(|step| matches!(step, Step::Move { shard: ShardId(0), from, .. } if *from == slots[3])),
        "{steps:?}"
    );
    let plan = outlook::plan(&down, &sees(&down));
    assert!(plan.moves.iter().any(|planned| planned.shard == ShardId(0)), "{plan:?}");
    assert!(plan.reasons.iter().any(|reason| reason.text.contains("have nowhere to go")), "{plan:?}");
}

#[test]
fn a_group_does_not_grow_to_a_node_that_is_lost() {
    let ring = cluster(4, 1);
    let joined = admit(&ring, &seen(&ring, &[]), &Verb::Join(Box::new(new_node(5)))).unwrap().unwrap();
    let growing = {
        let mut map = joined;
        while !map.meta.is_moving() {
            let MapDecision::Change(next, _) = decide(&map, &Seen { settled: all_settled(&map), ..seen(&map, &[]) })
            else {
                panic!("the group is to grow")
            };
            map = *next;
        }
        map
    };
    let lost = growing.node_at(growing.meta.newcomer().unwrap().node).unwrap().id.as_u128();
    let rested = rest_without(growing, &[lost]);
    assert!(!rested.meta.is_moving() && rested.meta.leaving.is_empty(), "{:?}", rested.meta);
    assert!(!holders(&rested, ShardId::META).contains(&lost));
}

#[test]
fn a_node_is_given_as_many_replicas_as_its_disk_has_room_for() {
    const ONE: u64 = 1 << 30;
    let ring = cluster(3, 16);
    let mut map = admit(&ring, &seen(&ring, &[]), &Verb::Join(Box::new(new_node(4)))).unwrap().unwrap();
    // Room for two and a half, beside what is left free.
    let free = |map: &RingMap| {
        let whole = map.shards.iter().filter(|group| !group.is_moving());
        let slot = map.slot_of(node(4)).unwrap();
        let there = whole.filter(|group| group.replicas.iter().any(|held| held.node == slot)).count() as u64;
        (FREE_AFTER_BALANCE.1 + 5 * ONE / 2).saturating_sub(there * ONE)
    };
    for _ in 0..200 {
        let room = |free_bytes| DiskRoom { free_bytes, total_bytes: 100 << 30 };
        let disk = |number: u128| {
            let held_bytes = if number == 4 { 0 } else { map.held_by(node(number)).len() as u64 * ONE };
            let free_bytes = if number == 4 { free(&map) } else { 60 << 30 };
            (node(number), DiskOfNode { room: room(free_bytes), held_bytes })
        };
        let sees = Seen { disks: (1..=4).map(disk).collect(), settled: all_settled(&map), ..seen(&map, &[]) };
        match decide(&map, &sees) {
            MapDecision::Change(next, _) => map = *next,
            _ => break,
        }
        assert!(held(&map, 4) <= 2, "it would fill its disk");
    }
    assert_eq!(held(&map, 4), 2);
}

#[test]
fn where_no_other_node_is_left_nothing_is_made_anew_and_no_group_has_fewer_replicas() {
    for count in [3, 5] {
        let ring = cluster(count, 4);
        let hold = DOWN_AFTER_MS + REPAIR_HOLD_MS;
        let MapDecision::Change(down, _) = decide(&ring, &silent(&ring, &[3], hold)) else { panic!() };
        let mut map = *down;
        for _ in 0..50 {
            let seen = Seen { settled: all_settled(&map), ..silent(&map, &[3], hold) };
            let MapDecision::Change(next, _) = decide(&map, &seen) else { break };
            map = *next;
        }
        assert_eq!(map.meta.replicas.len(), ring.meta.replicas.len(), "{count} nodes");
        assert!(map.shards.iter().all(|group| group.replicas.len() == 3));
    }
}

#[test]
fn a_move_waits_while_another_replica_is_away() {
    let ring = cluster(4, 8);
    let remove = Verb::Remove { node: node(4), accept_fewer_zones: false };
    let removing = admit(&ring, &seen(&ring, &[]), &remove).unwrap().unwrap();
    let waiting = come_to_rest(removing, &[2]).0;
    assert!(waiting.has_node(node(4)), "its groups with a replica on node 2 would be thin");
    assert!(!come_to_rest(waiting, &[]).0.has_node(node(4)));
}

#[test]
fn what_is_settled_for_an_earlier_change_says_nothing() {
    let ring = cluster(4, 1);
    let (shard, [a, b, _, d]) = (ShardId(0), [0, 1, 2, 3].map(NodeSlot));
    let free =
        [a, b, NodeSlot(2), d].into_iter().find(|slot| ring.shards[0].held().all(|held| held.node != *slot)).unwrap();
    let from = ring.shards[0].replicas[0].node;
    let moving = ring.move_replica(shard, from, free).unwrap();
    assert_eq!(moving.move_replica(shard, free, from), Err(MoveError::Moving));
    assert_eq!(moving.with_settled(&[(shard, ring.shards[0].since)].into()), None);
    let leaving = moving.shards[0].leaving[0];
    assert_eq!(leaving.node, from, "it is in the map as long as its group may need it");
    assert!(moving.held_by(NodeId(moving.node_at(from).unwrap().id)).contains(&(shard, ReplicaId(leaving.replica))));
    let settled = moving.with_settled(&[(shard, moving.shards[0].since)].into()).unwrap();
    assert!(settled.shards[0].leaving.is_empty() && !settled.shards[0].is_moving());
}

#[test]
fn a_leaving_replica_whose_node_has_lost_its_disk_is_forgotten_and_not_opened_again() {
    let ring = cluster(4, 1);
    let free = (0..4).map(NodeSlot).find(|slot| ring.shards[0].held().all(|held| held.node != *slot)).unwrap();
    let from = ring.shards[0].replicas[1].node;
    let moving = ring.move_replica(ShardId(0), from, free).unwrap();
    let lost = NodeId(moving.node_at(from).unwrap().id);
    let replaced = moving.replace_node(lost, folder(77)).unwrap();
    assert_eq!(replaced.replica_on(ShardId(0), lost), None);
    assert!(replaced.shards[0].is_moving(), "the group is not settled by that");
}

#[test]
fn what_the_cluster_can_not_do_is_refused_with_the_reason() {
    let ring = cluster(3, 4);
    let all = seen(&ring, &[]);
    let remove = |number| Verb::Remove { node: node(number), accept_fewer_zones: false };
    let refused = |verb: &Verb| admit(&ring, &all, verb).unwrap_err().to_string();
    assert_eq!(
        refused(&remove(2)),
        "without the node there is no room for its replicas: 3 replicas of each shard need as many nodes, there are 2"
    );
    assert_eq!(admit(&ring, &all, &remove(9)), Err(VerbRefusal::UnknownNode(node(9))));
    assert_eq!(admit(&ring, &all, &Verb::Keep(node(1))), Ok(None), "it stays");
    for (wrong, said) in [
        (NewNode { name: "node-1".into(), ..new_node(4) }, "the name \"node-1\" can't be used: it is another node's"),
        (NewNode { name: String::new(), ..new_node(4) }, "the name \"\" can't be used: a name has 1 to 255 bytes"),
        (
            NewNode { client: "127.0.0.1:7401".into(), ..new_node(4) },
            "the client address \"127.0.0.1:7401\" can't be used: it is another node's",
        ),
        (
            NewNode { peer: "nowhere".into(), ..new_node(4) },
            "the peer address \"nowhere\" can't be used: it is not HOST:PORT",
        ),
        (
            NewNode { levels: Levels { min: 7, max: 9 }, ..new_node(4) },
            "the node speaks levels 7 to 9, the cluster is at level 2",
        ),
        (
            NewNode { folder: folder(1), ..new_node(4) },
            "the data folder \"00000000-0000-0000-0000-0000000003e9\" can't be used: it is another node's",
        ),
    ] {
        assert_eq!(refused(&Verb::Join(Box::new(wrong))), said);
    }

    let four = cluster(4, 4);
    assert!(matches!(admit(&four, &seen(&four, &[1, 2]), &remove(4)), Err(VerbRefusal::NoQuorum(_))));
    let mut zoned = four.clone();
    zoned.nodes.iter_mut().zip(["a", "b", "b", "c"]).for_each(|(node, zone)| node.zone = zone.to_owned());
    assert_eq!(admit(&zoned, &seen(&zoned, &[]), &remove(4)), Err(VerbRefusal::FewerZones { before: 3, after: 2 }));
    let accepted = Verb::Remove { node: node(4), accept_fewer_zones: true };
    assert!(admit(&zoned, &seen(&zoned, &[]), &accepted).unwrap().is_some());

    let removing = admit(&four, &seen(&four, &[]), &remove(4)).unwrap().unwrap();
    assert_eq!(admit(&removing, &seen(&removing, &[]), &remove(4)), Ok(None), "asked again it is under way");
    let two = admit(&removing, &seen(&removing, &[]), &remove(3));
    assert!(matches!(two, Err(VerbRefusal::NoPlacement(_))), "those under way count: {two:?}");
    let kept = admit(&removing, &seen(&removing, &[]), &Verb::Keep(node(4))).unwrap().unwrap();
    assert_eq!(kept.nodes[3].state, NodeState::Up);
    let gone = come_to_rest(removing, &[]).0;
    assert_eq!(admit(&gone, &seen(&gone, &[]), &remove(4)), Ok(None), "it is done");
    assert_eq!(admit(&gone, &seen(&gone, &[]), &Verb::Keep(node(4))), Err(VerbRefusal::Removed(node(4))));
    assert_eq!(admit(&gone, &seen(&gone, &[]), &Verb::Join(Box::new(new_node(4)))), Err(VerbRefusal::Removed(node(4))));
}

proptest! {
    /// Whoever joins and leaves: the map comes to rest, no slot, replica id or folder is used twice, every group has its number of
    /// replicas on nodes that stay, and nothing moves without need.
    #[test]
    fn any_walk_comes_to_rest(verbs in proptest::collection::vec((any::<bool>(), 1..9_u128), 1..12), bits in 0..4_u32) {
        let mut ring = cluster(4, 1 << bits);
        let mut ids: BTreeSet<(ShardId, u64)> = BTreeSet::new();
        let mut slots: BTreeMap<NodeSlot, Uuid> = BTreeMap::new();
        for (joins, number) in verbs {
            let verb = if joins {
                Verb::Join(Box::new(new_node(number)))
            } else {
                Verb::Remove { node: node(number), accept_fewer_zones: false }
            };
            let Ok(Some(next)) = admit(&ring, &seen(&ring, &[]), &verb) else { continue };
            let before = ring.clone();
            ring = come_to_rest(next, &[]).0;
            for (shard, group) in ring.group_ids().zip(ring.groups()) {
                let known: BTreeSet<u64> = before.group(shard).unwrap().replicas.iter().map(|held| held.replica).collect();
                for held in &group.replicas {
                    prop_assert!(known.contains(&held.replica) || ids.insert((shard, held.replica)), "{held:?} was there before");
                }
                prop_assert!(!group.is_moving());
            }
            for known in &ring.nodes {
                prop_assert_eq!(*slots.entry(known.slot).or_insert(known.id), known.id);
                prop_assert_eq!(known.state, NodeState::Up);
            }
            prop_assert!(ring.shards.iter().all(|group| group.replicas.len() == 3));
            prop_assert_eq!(ring.meta.replicas.len(), usize::from(meta_replication_factor(ring.nodes.len())));
            let standings = rebalance::standings(&ring, &seen(&ring, &[]));
            let wanted = rebalance::wanted(&ring, &standings).unwrap();
            prop_assert_eq!(rebalance::next_steps(&ring, &seen(&ring, &[]), &wanted), None);
        }
    }
}

#[test]
fn a_recovered_cluster_grows_with_its_nodes_and_is_never_thinned_out() {
    let before = cluster(3, 4);
    let alone = before.group_ids().map(|shard| (shard, node(1))).collect();
    let gone = [node(2), node(3)].into();
    let ring = before.after_loss(&Loss { gone, folders: [(node(1), folder(1))].into(), alone, ..Loss::default() });
    assert_eq!(decide(&ring, &seen(&ring, &[])), MapDecision::Rest, "it serves with what there is");
    let join = |ring: &RingMap, number| {
        let verb = Verb::Join(Box::new(new_node(number)));
        come_to_rest(admit(ring, &seen(ring, &[]), &verb).unwrap().unwrap(), &[]).0
    };
    let sizes = |ring: &RingMap| ring.shards.iter().map(|group| group.replicas.len()).collect::<BTreeSet<_>>();
    let two = join(&ring, 4);
    assert_eq!((sizes(&two), two.meta.replicas.len()), ([2].into(), 1), "as many replicas as there are nodes");
    let remove = |number| Verb::Remove { node: node(number), accept_fewer_zones: true };
    let refused = admit(&two, &seen(&two, &[]), &remove(4));
    assert!(matches!(refused, Err(VerbRefusal::NoPlacement(_))), "never fewer: {refused:?}");
    let three = join(&two, 5);
    assert_eq!((sizes(&three), three.meta.replicas.len()), ([3].into(), 3));
    assert!(matches!(admit(&three, &seen(&three, &[]), &remove(4)), Err(VerbRefusal::NoPlacement(_))));
    let back = admit(&three, &seen(&three, &[]), &Verb::Join(Box::new(new_node(2))));
    assert_eq!(back, Err(VerbRefusal::Removed(node(2))), "who was given up does not return");
}
