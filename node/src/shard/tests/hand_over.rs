//! Hand-overs that nobody takes up, and ones that had better not begin.

use super::*;

#[test]
fn a_hand_over_closes_the_gate_first_and_loses_nothing() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    assert!(group.gate_is_open(0));
    assert!(group.shard(0).hand_over());
    assert!(!group.gate_is_open(0), "before anything has left");
    group.settle();
    let leader = group.leader().expect("a hand-over needs no time-out");
    assert_ne!(leader, 0);
    group.written(leader, "k", put("w"));
    assert!(!group.gate_is_open(0));
}

#[test]
fn a_hand_over_to_the_leader_itself_costs_it_nothing() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    group.shard(0).transfer_to(id(0));
    group.settle();
    assert!(group.gate_is_open(0));
}

#[test]
fn a_hand_over_that_nobody_takes_up_is_given_up_and_the_lease_comes_back() {
    let mut group = Group::led();
    let term = group.shard(0).snapshot().term;
    group.cut.insert(1);
    group.shard(0).transfer_to(id(1));
    assert!(!group.gate_is_open(0));
    group.advance(u64::from(ELECTION_TICKS + 1) * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert_eq!(group.shard(0).snapshot().term, term);
    group.written(0, "k", put("taken after one election timeout"));
    assert!(!group.gate_is_open(0), "`campaign now` may be under way still, and followers would heed it");
    group.advance(u64::from(ELECTION_TICKS + 2) * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert_eq!(group.shard(0).snapshot().term, Term(term.0 + 1), "it has begun a term in which nobody was asked");
    assert!(group.gate_is_open(0));
    // The one that was asked is back, and hears of it only now.
    group.cut.clear();
    group.advance(4 * TICK_MS);
    assert_eq!((group.leader(), group.shard(0).snapshot().term), (Some(0), Term(term.0 + 1)));
}

#[test]
fn leadership_is_not_given_back_to_a_replica_that_has_just_gone() {
    let mut group = Group::led();
    group.shard(0).transfer_to(id(1));
    assert_eq!(group.await_leader(&[1]), 1);
    // It is the preferred one, and goes right before it would be given the shard back.
    group.advance(BALANCE_EVERY_MS - 12 * TICK_MS);
    let term = group.shard(1).snapshot().term;
    assert_eq!(group.leader(), Some(1), "not given back yet");
    group.cut.insert(0);
    group.advance(2 * BALANCE_EVERY_MS);
    assert_eq!((group.leader(), group.shard(1).snapshot().term), (Some(1), term));
    assert!(group.gate_is_open(1), "it has tried nothing that would have cost it the lease");
}
