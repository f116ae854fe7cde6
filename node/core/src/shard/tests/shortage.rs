//! What a group does when a disk is full or the index may not grow.

use super::*;
use crate::disk::memory::Faults;
use kvorum_protocol::Retry;

const FULL: Faults = Faults {
    cold_reads_fail: false,
    segment_sync_fails: false,
    journal_sync_fails: false,
    journal_write_fails: false,
    full: true,
    free_bytes: None,
    operations_left: None,
};

impl Group {
    fn set_full(&self, position: usize, full: bool) {
        self.disks[position].set_faults(if full { FULL } else { Faults::default() });
    }

    /// Sends a write, lets the group work, and returns the answer.
    fn answer(&mut self, position: usize, key: &str, action: Action) -> ShardReply {
        let ticket = self.write(position, key, action);
        self.settle();
        self.replies[&ticket].clone()
    }

    /// Writes large values until one is refused; returns how many were taken, and the refusal.
    fn fill(&mut self, position: usize) -> (usize, ServerError) {
        for number in 0..10_000 {
            match self.answer(position, &format!("filler {number}"), put(&"x".repeat(8_000))) {
                ShardReply::Written(_) => {}
                ShardReply::Error(error) => return (number, error),
                other => panic!("{other:?}"),
            }
        }
        panic!("the log never fills up");
    }

    fn applied(&mut self) -> Vec<LogIndex> {
        (0..3).map(|position| self.shard(position).status().applied).collect()
    }
}

fn is_written(reply: &ShardReply) -> bool {
    matches!(reply, ShardReply::Written(WriteResult { status: WriteStatus::Applied, .. }))
}

fn under(pressure: &Arc<Pressure>) -> Group {
    let mut group = Group::led();
    group.shard(0).set_pressure(Arc::clone(pressure));
    group.written(0, "old", put("1"));
    group
}

#[test]
fn a_leader_on_a_full_disk_refuses_puts_serves_reads_and_removals_and_recovers() {
    let mut group = Group::led();
    group.written(0, "kept", put("v"));
    group.set_full(0, true);
    let (taken, refusal) = group.fill(0);
    assert!(taken > 3, "the active segment is used up first");
    assert_eq!((refusal.code, refusal.outcome), (ErrorCode::DiskFull, Outcome::NotApplied));
    assert_eq!(refusal.retry, Retry::AfterMs(1_000));
    for action in [Action::Append { value: "x".repeat(8_000).into() }, put(&"y".repeat(8_000))] {
        assert!(matches!(group.answer(0, "kept", action), ShardReply::Error(_)));
    }
    assert_eq!(group.value(0, "kept").as_deref(), Some("v"), "a refusal has no effect");
    let read = group.request(0, Operation::Get("kept".into()));
    group.settle();
    assert!(matches!(&group.replies[&read], ShardReply::Value(Some(entry)) if entry.value == "v"));
    for number in 0..taken {
        assert!(is_written(&group.answer(0, &format!("filler {number}"), Action::Delete)), "removal {number}");
    }
    group.advance(20 * TICK_MS);
    assert_eq!(group.leader(), Some(0), "a full disk costs nobody the lead");
    group.set_full(0, false);
    assert!(is_written(&group.answer(0, "kept", put(&"y".repeat(8_000)))));
}

#[test]
fn whoever_is_elected_on_full_disks_can_be_read_from() {
    let mut group = Group::led();
    group.written(0, "kept", put("v"));
    (0..3).for_each(|position| group.set_full(position, true));
    group.fill(0);
    for successor in [1, 2, 0, 1] {
        let leader = group.leader().expect("somebody leads");
        if leader != successor {
            group.shard(leader).transfer_to(id(successor));
            group.advance(20 * TICK_MS);
        }
        let leader = group.leader().expect("somebody leads, whether the hand-over went through or not");
        let read = group.request(leader, Operation::Get("kept".into()));
        group.settle();
        let reply = &group.replies[&read];
        assert!(matches!(reply, ShardReply::Value(Some(entry)) if entry.value == "v"), "replica {leader}: {reply:?}");
    }
}

/// What a leader writes out of its reserve must find room at its followers, however many removals come at once.
#[test]
fn many_removals_at_once_commit_on_full_disks() {
    let mut group = Group::led();
    (0..3).for_each(|position| group.set_full(position, true));
    let (taken, _) = group.fill(0);
    let tickets: Vec<Ticket> =
        (0..200).map(|number| group.write(0, &format!("filler {}", number % taken), Action::Delete)).collect();
    group.settle();
    let replies: Vec<&ShardReply> = tickets.iter().map(|ticket| &group.replies[ticket]).collect();
    let refused = |reply: &&&ShardReply| matches!(reply, ShardReply::Error(error) if error.code == ErrorCode::DiskFull);
    let done = replies.iter().filter(|reply| matches!(reply, ShardReply::Written(_))).count();
    assert_eq!(done + replies.iter().filter(refused).count(), replies.len(), "each is answered");
    assert!(done >= 20, "{done} of them found room");
    let read = group.request(0, Operation::Get("filler 0".into()));
    group.settle();
    assert!(matches!(group.replies[&read], ShardReply::Value(None)), "nothing is stuck");
}

/// A lock runs out, also where there is no room to write.
#[test]
fn keys_expire_on_full_disks() {
    let mut group = Group::led();
    group.written(0, "lock", Action::Put { value: "held".into(), ttl: TimeToLive::Ms(20 * TICK_MS) });
    (0..3).for_each(|position| group.set_full(position, true));
    group.fill(0);
    assert_eq!(group.value(0, "lock").as_deref(), Some("held"));
    group.advance(50 * TICK_MS);
    assert_eq!(group.value(0, "lock"), None);
}

#[test]
fn removals_end_before_the_room_for_votes_does() {
    let mut group = Group::led();
    group.set_full(0, true);
    let (taken, _) = group.fill(0);
    for number in (0..taken).cycle().take(2_000) {
        // A removal of what is gone waits in the log like any other.
        group.answer(0, &format!("filler {number}"), Action::Delete);
    }
    let ticket = group.write(0, "filler 0", Action::Delete);
    group.settle();
    assert_eq!(error_of(group.replies.get(&ticket)), (ErrorCode::DiskFull, Outcome::NotApplied));
    assert!(group.shard(0).log().can_append_vote());
    assert!(group.hand_over(0));
    group.settle();
    let leader = group.await_leader(&[1, 2]);
    assert!(is_written(&group.answer(leader, "k", put("v"))), "the others go on");
}

#[test]
fn a_follower_on_a_full_disk_catches_up_when_there_is_room_again() {
    let mut group = Group::led();
    group.set_full(2, true);
    let stands_at = |group: &mut Group| group.shard(2).status().last_index;
    for number in 0..120 {
        assert!(is_written(&group.answer(0, &format!("k{number}"), put(&"x".repeat(8_000)))));
    }
    let stuck = stands_at(&mut group);
    group.advance(20 * TICK_MS);
    assert_eq!(stands_at(&mut group), stuck);
    assert!(stuck < group.shard(0).status().last_index, "it has no room for the rest");
    assert_eq!(group.leader(), Some(0), "it hears that its leader lives");
    group.set_full(2, false);
    group.advance(40 * TICK_MS);
    let applied = group.applied();
    assert_eq!((applied[1], applied[2]), (applied[0], applied[0]));
    let digests: Vec<u64> = (0..3).map(|position| group.shard(position).store().digest().unwrap()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn a_replica_without_room_for_a_vote_neither_votes_nor_campaigns() {
    let mut group = Group::led();
    group.set_full(2, true);
    while group.shard(2).log().can_append_vote() {
        let state = group.shard(2).log().hard_state();
        group.shard(2).consensus.log_mut().append_hard_state(state).unwrap();
    }
    let term = group.shard(2).status().term;
    group.cut = BTreeSet::from([0]);
    group.advance(100 * TICK_MS);
    assert_eq!((group.shard(2).status().term, group.shard(2).status().role), (term, Role::Follower));
    assert_eq!(group.leader(), None, "one vote makes no leader");
    group.set_full(2, false);
    group.await_leader(&[1, 2]);
}

#[test]
fn what_the_node_says_of_its_disk_refuses_what_takes_room() {
    let pressure: Arc<Pressure> = Arc::default();
    let mut group = under(&pressure);
    pressure.set_disk(1, true);
    let refused = |reply: ShardReply| match reply {
        ShardReply::Error(error) => assert_eq!(error.code, ErrorCode::DiskFull),
        other => panic!("{other:?}"),
    };
    refused(group.answer(0, "new", put("v")));
    refused(group.answer(0, "old", Action::Incr { by: 1 }));
    refused(group.answer(0, "old", Action::Expire { ttl_ms: 5 }));
    let mut atomic = |mutations| {
        let request = AtomicRequest { id: group.fresh_id(), ack: Ack::Committed, checks: Vec::new(), mutations };
        let ticket = group.request(0, Operation::Atomic { client: client(), request });
        group.settle();
        group.replies[&ticket].clone()
    };
    refused(atomic(vec![mutation("old", Action::Delete), mutation("new", put("v"))]));
    assert!(matches!(atomic(vec![mutation("old", Action::Delete)]), ShardReply::Atomic(AtomicResult::Applied(_))));
    assert_eq!((group.value(0, "old"), group.value(0, "new")), (None, None));
    pressure.set_disk(u64::MAX, false);
    assert!(is_written(&group.answer(0, "new", put("v"))));
}

#[test]
fn a_full_index_refuses_new_keys_only() {
    let pressure = Arc::new(Pressure::new(100));
    let mut group = under(&pressure);
    pressure.set_index_bytes(100);
    let ShardReply::Error(refusal) = group.answer(0, "new", put("v")) else { panic!("it was taken") };
    assert_eq!((refusal.code, refusal.outcome), (ErrorCode::Overloaded, Outcome::NotApplied));
    assert_eq!(refusal.retry, Retry::AfterMs(1_000));
    assert!(is_written(&group.answer(0, "old", put("2"))));
    assert!(is_written(&group.answer(0, "old", Action::Incr { by: 1 })));
    assert_eq!(group.value(0, "old").as_deref(), Some("3"));
    assert!(is_written(&group.answer(0, "old", Action::Delete)));
    assert!(matches!(group.answer(0, "old", put("4")), ShardReply::Error(_)), "it is a new key now");
    pressure.set_index_bytes(99);
    assert!(is_written(&group.answer(0, "old", put("5"))));
}

#[test]
fn an_answer_that_is_remembered_is_given_on_a_full_disk_too() {
    let pressure: Arc<Pressure> = Arc::default();
    let mut group = under(&pressure);
    let id = group.fresh_id();
    group.request(0, write(id, Ack::Committed, "k", put("v")));
    group.settle();
    pressure.set_disk(0, true);
    let again = group.request(0, write(WriteId { retry: true, ..id }, Ack::Committed, "k", put("v")));
    group.settle();
    assert!(is_written(&group.replies[&again]));
}

#[test]
fn a_full_disk_is_nobodys_failure() {
    let full = || LogError::DiskFull(crate::disk::DiskError::Full { operation: "create", path: "x".into() });
    assert_eq!(ShardError::Log(full()).remedy(), Remedy::AwaitSpace);
    assert_eq!(ShardError::Consensus(ConsensusError::Log(full())).remedy(), Remedy::AwaitSpace);
}

impl Group {
    /// Every replica that runs asks `unfit` who is not fit to lead.
    pub(super) fn set_unfit(&mut self, unfit: &Arc<parking_lot::Mutex<BTreeSet<usize>>>) {
        for replica in self.replicas.iter_mut().flatten() {
            let unfit = Arc::clone(unfit);
            replica.shard.set_fitness(Box::new(move |replica| !unfit.lock().contains(&(replica.0 as usize - 1))));
        }
    }
}

#[test]
fn an_unfit_leader_hands_over_to_a_fit_replica_and_leads_again_once_it_is_fit() {
    let unfit: Arc<parking_lot::Mutex<BTreeSet<usize>>> = Arc::default();
    let mut group = Group::led();
    group.set_unfit(&unfit);
    *unfit.lock() = BTreeSet::from([0, 1]);
    group.advance(2 * TICK_MS);
    assert_eq!(group.leader(), Some(2), "at once, and not to the other one that is unfit");
    assert!(is_written(&group.answer(2, "k", put("v"))));
    group.advance(4 * BALANCE_EVERY_MS);
    assert_eq!(group.leader(), Some(2), "the preferred replica is not given the shard back while it is unfit");
    unfit.lock().clear();
    group.advance(BALANCE_AFTER_MS + BALANCE_EVERY_MS);
    assert_eq!(group.leader(), Some(0));
}

#[test]
fn an_unfit_leader_goes_on_while_nobody_fit_can_take_over() {
    let unfit: Arc<parking_lot::Mutex<BTreeSet<usize>>> = Arc::default();
    let mut group = Group::led();
    group.set_unfit(&unfit);
    *unfit.lock() = BTreeSet::from([0, 1, 2]);
    group.advance(100 * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert!(group.gate_is_open(0), "no attempt has cost it the lease");
    // The one that is fit holds nothing of what was written since.
    group.cut.insert(2);
    unfit.lock().remove(&2);
    for number in 0..2 * LAG_MAX {
        group.written(0, &format!("k{number}"), put("v"));
    }
    group.advance(20 * TICK_MS);
    assert_eq!(group.leader(), Some(0));
    assert!(group.gate_is_open(0));
}

#[test]
fn a_node_that_stops_hands_over_to_an_unfit_replica_rather_than_to_nobody() {
    let unfit: Arc<parking_lot::Mutex<BTreeSet<usize>>> = Arc::default();
    let mut group = Group::led();
    group.set_unfit(&unfit);
    *unfit.lock() = BTreeSet::from([0, 1]);
    assert!(group.hand_over(0));
    group.settle();
    assert_eq!(group.leader(), Some(2));
    unfit.lock().insert(2);
    assert!(group.hand_over(2));
    group.settle();
    assert!(group.leader().is_some_and(|leader| leader != 2));
}
