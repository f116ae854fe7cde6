//! Bugs that are planted break what they say. Only those of which that is not plain from their place or from the tests
//! of the rule they break; finding them all is the simulator's business.

use super::*;
use crate::seeded::{Bug, plant};

/// Whether another replica is ever ready to serve while replica 0, cut off, may still answer reads: replica 2 has been
/// alone for a while and replica 1 has just been restarted, `phase` ticks into replica 2's attempts to be elected.
fn another_leads_during_a_lease(phase: u64) -> bool {
    let mut group = Group::led();
    group.advance(4 * TICK_MS);
    group.cut.insert(2);
    group.advance((2 * u64::from(ELECTION_TICKS) + phase) * TICK_MS);
    group.kill(1);
    group.restart(1);
    group.cut = BTreeSet::from([0]);
    (0..ELECTION_TICKS).any(|_| {
        group.advance(TICK_MS);
        group.gate_is_open(0) && group.replicas[2].as_ref().is_some_and(|up| up.shard.status().serving)
    })
}

#[test]
fn a_restarted_replica_that_votes_at_once_ends_a_lease() {
    assert!(!(0..20).any(another_leads_during_a_lease));
    let _planted = plant(Some(Bug::NoSilenceAfterRestart));
    assert!((0..20).any(another_leads_during_a_lease));
}

#[test]
fn without_its_hard_state_a_replica_falls_back_to_an_old_term() {
    let _planted = plant(Some(Bug::HardStateNotWritten));
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let before = group.shard(1).status().term;
    group.kill(1);
    group.restart(1);
    assert!(group.shard(1).status().term < before);
}

#[test]
fn a_leader_is_elected_by_votes_that_are_on_no_disk() {
    let _planted = plant(Some(Bug::VotesBeforeSync));
    let mut group = Group::led();
    group.advance(4 * TICK_MS);
    group.kill(0);
    group.hanging = BTreeSet::from([1, 2]);
    assert!((0..4 * ELECTION_TICKS).any(|_| {
        group.advance(TICK_MS);
        group.replicas.iter().flatten().any(|up| up.shard.status().role == Role::Leader)
    }));
}

#[test]
fn a_follower_applies_what_nobody_else_has_synced() {
    let _planted = plant(Some(Bug::FollowerCommitsReceived));
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0, 2]);
    group.write(0, "k", put("v"));
    group.settle();
    assert_eq!((group.value(0, "k"), group.value(1, "k").as_deref()), (None, Some("v")));
}

#[test]
fn a_start_applies_what_was_never_committed() {
    let _planted = plant(Some(Bug::CommitPositionAhead));
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    group.write(0, "k", put("v"));
    group.settle();
    group.shard(0).prepare_stop().unwrap();
    for position in 0..3 {
        group.kill(position);
    }
    group.restart(0);
    group.settle();
    assert_eq!(group.value(0, "k").as_deref(), Some("v"));
}

#[test]
fn a_leader_decides_on_what_it_once_proposed_and_lost() {
    let _planted = plant(Some(Bug::OverlayOutlivesLeadership));
    let mut group = Group::led();
    group.cut.insert(0);
    group.write(0, "n", Action::Incr { by: 10 });
    let leader = group.await_leader(&[1, 2]);
    group.written(leader, "other", put("v"));
    group.cut.clear();
    group.advance(10 * TICK_MS);
    group.shard(leader).transfer_to(id(0));
    group.await_leader(&[0]);
    assert_eq!(group.written(0, "n", Action::Incr { by: 1 }).number, Some(11));
}

#[test]
fn a_key_that_was_gone_is_back_when_the_wall_clock_is() {
    let _planted = plant(Some(Bug::ExpiryByWallClock));
    let mut group = Group::led();
    group.written(0, "k", Action::Put { value: "v".into(), ttl: TimeToLive::Ms(10_000) });
    group.advance(4 * TICK_MS);
    for (offset_ms, value) in [(20_000, None), (0, Some("v"))] {
        let now = Now { wall_ms: group.now.wall_ms + offset_ms, ..group.now };
        group.shard(1).handle_tick(now);
        assert_eq!(group.value(1, "k").as_deref(), value);
    }
}

#[test]
fn log_time_follows_a_wall_clock_that_goes_back() {
    let _planted = plant(Some(Bug::LogTimeFalls));
    let mut group = Group::led();
    group.written(0, "a", put("v"));
    let before = group.shard(0).reader().log_time_ms();
    group.now.wall_ms -= 3_600_000;
    group.written(0, "b", put("v"));
    assert!(group.shard(0).reader().log_time_ms() < before);
}

#[test]
fn another_leader_gives_a_version_again() {
    let _planted = plant(Some(Bug::VersionsReused));
    let mut group = Group::led();
    let writes = ["a", "b"].map(|key| write(group.fresh_id(), Ack::Committed, key, put("v")));
    let tickets = group.requests(0, writes);
    group.settle();
    let Some(ShardReply::Written(second)) = group.replies.get(&tickets[1]).cloned() else { panic!("it is committed") };
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    assert_eq!(group.written(leader, "c", put("v")).version, second.version);
}

#[test]
fn a_value_goes_when_the_time_of_its_predecessor_comes() {
    let _planted = plant(Some(Bug::OverwrittenRecordExpires));
    let mut group = Group::led();
    group.written(0, "k", Action::Put { value: "v".into(), ttl: TimeToLive::Ms(100) });
    group.written(0, "k", put("w"));
    group.advance(10 * TICK_MS);
    assert_eq!(group.value(0, "k"), None);
}

#[test]
fn an_atomic_that_fails_leaves_a_write_behind() {
    let _planted = plant(Some(Bug::AtomicHalfApplied));
    let mut group = Group::led();
    let check = AtomicCheck { key: "a".into(), condition: Condition::IfPresent };
    let mutations = vec![mutation("b", put("half"))];
    let request = AtomicRequest { id: group.fresh_id(), ack: Ack::Committed, checks: vec![check], mutations };
    let ticket = group.request(0, Operation::Atomic { client: client(), request });
    group.settle();
    assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Atomic(AtomicResult::ConditionFailed { .. }))));
    assert_eq!(group.value(0, "b").as_deref(), Some("half"));
}

/// A read that keeps its place, and a write that is refused, rest on a write of the same entry.
#[test]
fn answers_leave_before_what_they_rest_on() {
    for bug in [Bug::OrderedReadBeforeCommit, Bug::RefusalBeforeCommit] {
        let _planted = plant(Some(bug));
        let mut group = Group::led();
        group.hanging = BTreeSet::from([0, 1, 2]);
        let absent = Mutation { condition: Condition::IfAbsent, ..mutation("k", put("w")) };
        let (first, second) = (group.fresh_id(), group.fresh_id());
        let refused = Operation::Write { client: client(), id: second, ack: Ack::Committed, mutation: absent };
        let writes = [write(first, Ack::Committed, "k", put("v")), Operation::Get("k".into()), refused];
        let tickets = group.requests(0, writes);
        let answered = tickets.iter().map(|ticket| group.replies.contains_key(ticket)).collect::<Vec<_>>();
        let reads = bug == Bug::OrderedReadBeforeCommit;
        assert_eq!(answered, [false, reads, !reads]);
    }
}

#[test]
fn voters_are_exchanged_without_a_joint_state() {
    let _planted = plant(Some(Bug::SingleStepMembership));
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    group.join(Some(2));
    group.set_target(&[0, 1, 3]);
    group.go_on_until("the new voters", |group| {
        assert!((0..4).all(|position| !group.is_joint(position)));
        group.membership(0) == membership::members(&[0, 1, 3])
    });
}

#[test]
fn a_snapshot_claims_an_entry_that_is_not_applied() {
    let _planted = plant(Some(Bug::SnapshotIndexOffByOne));
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    group.write(0, "k", put("v"));
    group.settle();
    let applied = group.shard(0).status().applied;
    assert_eq!(group.shard(0).snapshot_base().map(|base| base.index), Some(LogIndex(applied.0 + 1)));
}
