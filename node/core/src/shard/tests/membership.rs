//! Replicas join, vote and leave, and leaders are lost meanwhile.

use super::*;
use crate::log::operations::Operations;
use std::sync::atomic::{AtomicU64, Ordering};

const TICKS_MAX: usize = 200;

impl Group {
    /// Opens another replica, whose disk is empty, or holds what another replica's does: as if a snapshot of that one had
    /// been installed.
    pub(super) fn join(&mut self, like: Option<usize>) -> usize {
        let position = self.replicas.len();
        self.disks.push(like.map_or_else(MemoryDisk::new, |like| self.disks[like].after_kill()));
        self.replicas.push(None);
        self.restart(position);
        position
    }

    pub(super) fn set_target(&mut self, positions: &[usize]) {
        self.target = positions.iter().map(|&position| id(position)).collect();
        let target = Target { voters: self.target.clone(), since: self.now.monotonic.0, asks: true };
        self.replicas.iter_mut().flatten().for_each(|replica| replica.shard.set_target(target.clone()));
    }

    /// Goes on until `done`, which may be in the middle of what a moment brings.
    pub(super) fn go_on_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..TICKS_MAX {
            self.tick();
            loop {
                if done(self) {
                    return;
                }
                if self.round() {
                    break;
                }
            }
        }
        panic!("never came: {what}");
    }

    pub(super) fn membership(&self, position: usize) -> Membership {
        self.replicas[position].as_ref().map_or_else(Membership::default, |up| up.shard.membership().clone())
    }

    pub(super) fn is_joint(&self, position: usize) -> bool {
        !self.membership(position).voters_outgoing.is_empty()
    }

    /// Goes on until the group's leader and all of `positions` agree that these are the voters, and nobody else is in.
    fn await_voters(&mut self, positions: &[usize]) -> usize {
        let expected = members(positions);
        self.go_on_until("the wanted voters", |group| {
            group.leader().is_some_and(|leader| positions.contains(&leader))
                && positions.iter().all(|&position| group.membership(position) == expected)
        });
        self.leader().expect("it was just there")
    }

    /// A group in which replica 3 replaces replica 2, as soon as replica 0 has applied the joint state.
    fn joint() -> Self {
        let mut group = Self::led();
        group.written(0, "k", put("v"));
        group.join(Some(2));
        group.set_target(&[0, 1, 3]);
        group.go_on_until("the joint state", |group| group.is_joint(0));
        group
    }
}

pub(super) fn members(positions: &[usize]) -> Membership {
    Membership { voters: positions.iter().map(|&position| id(position)).collect(), ..Membership::default() }
}

#[test]
fn a_joining_replica_needs_a_snapshot_and_gets_no_entries() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let joining = group.join(None);
    group.set_target(&[0, 1, joining]);
    group.advance(10 * TICK_MS);
    assert_eq!(group.snapshots, [(0, id(joining))], "asked for once");
    let expected = Membership { learners: vec![id(joining)], ..members(&[0, 1, 2]) };
    assert_eq!(group.membership(0), expected);
    let found = group.shard(joining).status();
    assert_eq!((found.role, found.last_index, found.leader), (Role::Learner, LogIndex(0), Some(id(0))));
    assert_eq!(group.membership(joining), Membership::default());
    group.shard(0).report_snapshot(id(joining), false);
    group.advance(10 * TICK_MS);
    assert_eq!(group.snapshots.len(), 2, "asked for again after a failure");
    // Another leader finds out for itself.
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    group.advance(10 * TICK_MS);
    assert_eq!(group.snapshots.last(), Some(&(leader, id(joining))));
    assert_eq!(group.shard(joining).status().last_index, LogIndex(0));
}

#[test]
fn a_joining_replica_that_hears_nothing_does_not_campaign() {
    let mut group = Group::led();
    let joining = group.join(None);
    group.cut.insert(joining);
    group.advance(100 * TICK_MS);
    group.kill(joining);
    group.restart(joining);
    group.advance(100 * TICK_MS);
    let found = group.shard(joining).status();
    assert_eq!((found.role, found.term, found.leader), (Role::Learner, Term(0), None));
}

#[test]
fn a_learner_gets_entries_once_its_snapshot_is_installed() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let joining = group.join(None);
    group.set_target(&[0, 1, joining]);
    group.advance(10 * TICK_MS);
    let base = group.shard(0).snapshot_base().expect("there is something to take a snapshot of");
    assert_eq!((base.index, &base.membership), (group.shard(0).status().applied, &group.membership(0)));
    group.written(0, "k", put("w"));
    group.kill(joining);
    group.disks[joining] = group.disks[0].after_kill();
    group.restart(joining);
    group.shard(0).report_snapshot(id(joining), true);
    group.await_voters(&[0, 1, joining]);
    group.written(0, "k", put("x"));
    group.advance(4 * TICK_MS);
    assert_eq!(group.value(joining, "k").as_deref(), Some("x"));
    assert_eq!(group.snapshots.len(), 1);
}

#[test]
fn a_replacement_takes_a_voters_place_through_a_joint_state() {
    let mut group = Group::joint();
    let joint = Membership {
        voters_outgoing: members(&[0, 1, 2]).voters,
        learners_next: vec![id(2)],
        auto_leave: true,
        ..members(&[0, 1, 3])
    };
    assert_eq!(group.membership(0), joint);
    let leader = group.await_voters(&[0, 1, 3]);
    assert_eq!(leader, 0, "nobody else need lead");
    // The replaced one is gone, and its absence costs nothing.
    group.kill(2);
    group.cut.insert(1);
    group.written(0, "k", put("w"));
    group.advance(4 * TICK_MS);
    assert_eq!(group.value(3, "k").as_deref(), Some("w"));
    group.cut.clear();
    group.kill(3);
    group.restart(3);
    group.advance(4 * TICK_MS);
    assert_eq!(group.membership(3), members(&[0, 1, 3]), "applied again from its log");
}

#[test]
fn a_replica_whose_log_holds_a_change_knows_durably_that_the_one_before_is_committed() {
    let mut group = Group::joint();
    group.await_voters(&[0, 1, 3]);
    for position in [0, 1, 3] {
        let log = group.shard(position).log();
        let changes: Vec<LogIndex> = (log.first_index().0..=log.last_index().0)
            .map(|index| log.entry(LogIndex(index)).unwrap())
            .filter(|entry| entry.kind == RaftEntryKind::Membership)
            .map(|entry| entry.index)
            .collect();
        assert_eq!(changes.len(), 4, "a learner joins, the joint state, out of it, and the demoted voter leaves");
        assert!(log.hard_state().commit >= changes[2], "replica {position}");
    }
}

#[test]
fn a_leader_brings_about_nothing_that_is_older_than_its_election() {
    let mut group = Group::new();
    let leader = group.await_leader(&[0, 1, 2]);
    let newest = Arc::new(AtomicU64::new(0));
    for replica in group.replicas.iter_mut().flatten() {
        let newest = Arc::clone(&newest);
        let asked = move |_, since: Nanos| newest.load(Ordering::Relaxed) > since.0;
        replica.shard.set_may_follow(Box::new(asked));
    }
    let stays: Vec<usize> = (0..3).filter(|position| *position != (leader + 1) % 3).collect();
    group.set_target(&stays);
    group.advance(50 * TICK_MS);
    assert_eq!(group.membership(leader), members(&[0, 1, 2]), "what the map wants may be done and undone by now");
    newest.store(u64::MAX, Ordering::Relaxed);
    group.await_voters(&stays);
}

#[test]
fn a_group_that_its_leader_calls_settled_needs_nobody_who_left() {
    let mut group = Group::joint();
    let since = group.shard(0).config.target.since;
    assert_eq!(group.shard(0).status().settled, None);
    // Replica 1 hears nothing of the end, so replica 3, which has just begun to vote, is the one that counts.
    group.cut.insert(1);
    group.go_on_until("the word that it is settled", |group| {
        group.replicas[0].as_ref().is_some_and(|up| up.shard.status().settled == Some(since))
    });
    group.kill(2);
    group.kill(0);
    group.cut.clear();
    let leader = group.await_leader(&[1, 3]);
    group.written(leader, "k", put("w"));
}

#[test]
fn a_leader_that_nobody_hears_does_not_call_its_group_settled() {
    let mut group = Group::led();
    group.cut = BTreeSet::from([1, 2]);
    group.set_target(&[0, 1, 2]);
    group.advance(u64::from(ELECTION_TICKS) * TICK_MS);
    assert_eq!(group.shard(0).status().settled, None, "another leader may have changed the group");
    group.cut.clear();
    group.go_on_until("the word that it is settled", |group| {
        group.replicas.iter().flatten().any(|up| up.shard.status().settled.is_some())
    });
}

#[test]
fn a_leader_that_is_lost_in_the_joint_state_is_succeeded_and_the_change_completed() {
    let mut group = Group::joint();
    group.network.clear();
    group.kill(0);
    let leader = group.await_leader(&[1, 2, 3]);
    group.written(leader, "k", put("w"));
    group.go_on_until("the new voters", |group| {
        [1, 3].iter().all(|&position| group.membership(position) == members(&[0, 1, 3]))
    });
    let leader = group.await_leader(&[1, 3]);
    group.written(leader, "k", put("x"));
    group.restart(0);
    group.await_voters(&[0, 1, 3]);
    group.advance(4 * TICK_MS);
    assert_eq!(group.value(0, "k").as_deref(), Some("x"));
}

#[test]
fn a_group_that_restarts_in_the_joint_state_completes_the_change() {
    for stop_at in 0..6 {
        let mut group = Group::joint();
        for _ in 0..stop_at {
            group.round();
        }
        group.network.clear();
        for position in 0..4 {
            group.kill(position);
        }
        for position in 0..4 {
            group.restart(position);
        }
        let leader = group.await_voters(&[0, 1, 3]);
        group.written(leader, "k", put("w"));
    }
}

#[test]
fn a_leader_with_one_half_of_a_joint_state_has_neither_lease_nor_leadership() {
    let mut group = Group::joint();
    group.network.clear();
    assert!(group.gate_is_open(0));
    // Replica 3 makes a majority of the new voters, not of the old ones.
    group.cut = BTreeSet::from([1, 2]);
    group.advance(u64::from(ELECTION_TICKS) * TICK_MS);
    assert!(!group.gate_is_open(0));
    group.advance(2 * u64::from(ELECTION_TICKS) * TICK_MS);
    assert_eq!(group.leader(), None);
    group.cut.clear();
    group.await_voters(&[0, 1, 3]);
}

#[test]
fn learners_count_for_neither_lease_nor_quorum() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let joining = group.join(Some(2));
    group.set_target(&[0, 1, 2, joining]);
    group.go_on_until("the learner", |group| group.membership(0).learners == [id(joining)]);
    group.cut = BTreeSet::from([1, 2]);
    let ticket = group.write(0, "k", put("w"));
    group.advance(u64::from(ELECTION_TICKS) * TICK_MS);
    assert!(!group.gate_is_open(0));
    group.advance(u64::from(ELECTION_TICKS) * TICK_MS);
    assert_eq!(group.leader(), None);
    assert!(!matches!(group.replies.get(&ticket), Some(ShardReply::Written(_))));
}

#[test]
fn a_voter_that_was_cut_off_while_it_was_removed_disturbs_nobody() {
    let mut group = Group::joint();
    group.cut.insert(2);
    group.await_voters(&[0, 1, 3]);
    group.advance(50 * TICK_MS);
    let before = group.shard(0).status().term;
    assert_eq!(group.shard(2).status().role, Role::Candidate, "it does not know");
    group.cut.clear();
    group.advance(100 * TICK_MS);
    assert_eq!((group.leader(), group.shard(0).status().term), (Some(0), before));
}

#[test]
fn a_leader_that_is_to_go_hands_over_and_is_removed() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let joining = group.join(Some(2));
    group.set_target(&[1, 2, joining]);
    let leader = group.await_voters(&[1, 2, joining]);
    assert_eq!(leader, 1, "the target's first");
    group.kill(0);
    group.written(leader, "k", put("w"));
}

#[test]
fn a_group_shrinks_to_one_and_grows_again() {
    let mut group = Group::led();
    group.set_target(&[0]);
    group.await_voters(&[0]);
    group.kill(1);
    group.kill(2);
    group.written(0, "k", put("v"));
    let joining = [group.join(Some(0)), group.join(Some(0))];
    group.set_target(&[0, joining[0], joining[1]]);
    group.await_voters(&[0, joining[0], joining[1]]);
    group.kill(0);
    let leader = group.await_leader(&joining);
    assert_eq!(group.value(leader, "k").as_deref(), Some("v"));
}

#[test]
fn one_change_at_a_time() {
    let mut group = Group::led();
    let consensus = |group: &mut Group, change| group.shard(0).consensus.propose_membership(&change);
    let add = |position| crate::consensus::MembershipChange::AddLearner(id(position));
    group.join(None);
    group.join(None);
    consensus(&mut group, add(3)).unwrap();
    assert!(matches!(consensus(&mut group, add(4)), Err(ConsensusError::Refused)), "the one before is not applied");
    group.settle();
    assert!(matches!(consensus(&mut group, add(3)), Err(ConsensusError::Refused)), "it is a member");
    consensus(&mut group, add(4)).unwrap();
    group.settle();
    assert_eq!(group.membership(0).learners, [id(3), id(4)]);
    assert!(matches!(group.shard(1).consensus.propose_membership(&add(3)), Err(ConsensusError::Refused)));
}

#[test]
fn an_entry_that_changes_the_membership_in_no_known_way_is_refused() {
    let mut group = Group::led();
    group.advance(4 * TICK_MS);
    let (now, snapshot) = (group.now, group.shard(1).status());
    let index = LogIndex(snapshot.last_index.0 + 1);
    for payload in [&[9][..], &[1, 0, 0, 0, 0, 0, 0, 0, 0], &[2, 255, 255, 255, 255]] {
        let payload = Bytes::from_static(payload);
        assert!(Operations::parse(payload.clone()).is_err());
        let entry =
            kvorum_protocol::peer::RaftEntry { term: snapshot.term, index, kind: RaftEntryKind::Membership, payload };
        let message = RaftMessage {
            from: id(0),
            to: id(1),
            term: snapshot.term,
            log_term: snapshot.term,
            index: snapshot.last_index,
            entries: vec![entry],
            ..message_of_the_next_term(RaftMessageKind::Append, &snapshot)
        };
        let refused = group.shard(1).handle_message(now.monotonic, message);
        assert!(matches!(refused, Err(ConsensusError::InvalidMessage(_))));
    }
    assert_eq!(group.shard(1).status().last_index, snapshot.last_index);
}
