//! Writes that were merely accepted, and what is said of them later.

use super::*;
use crate::shard::awaits::AWAITS_MAX;
use kvorum_protocol::{Awaited, Receipt};

impl Group {
    /// A write that replica 0 accepts, and its receipt.
    fn accepted(&mut self, key: &str) -> Receipt {
        let id = self.fresh_id();
        let ticket = self.request(0, write(id, Ack::Accepted, key, put("v")));
        let Some(ShardReply::Written(result)) = self.replies.get(&ticket) else { panic!("it is in the leader's log") };
        assert_eq!(result.ack, Ack::Accepted);
        result.receipt.expect("it is merely accepted")
    }

    fn awaits(&mut self, position: usize, receipt: Receipt) -> Ticket {
        self.request(position, Operation::Await { receipt, wait_ms: DEADLINE_MS as u32 })
    }

    fn awaited(&self, ticket: Ticket) -> Option<Awaited> {
        match self.replies.get(&ticket)? {
            ShardReply::Awaited(awaited) => Some(*awaited),
            other => panic!("{other:?}"),
        }
    }

    /// Replica 0 accepts a write that nobody else hears of, and another leader takes over.
    fn loses_a_write(&mut self) -> (Receipt, usize) {
        self.cut.insert(0);
        let receipt = self.accepted("k");
        let leader = self.await_leader(&[1, 2]);
        (receipt, leader)
    }
}

#[test]
fn who_awaits_is_told_when_the_write_is_applied_and_not_before() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    let receipt = group.accepted("k");
    let ticket = group.awaits(0, receipt);
    group.settle();
    assert_eq!(group.awaited(ticket), None, "only the leader has it");
    group.hanging.clear();
    group.settle();
    assert_eq!(group.awaited(ticket), Some(Awaited::Applied));
    assert_eq!(group.value(0, "k").as_deref(), Some("v"));
    let later = group.awaits(0, receipt);
    assert_eq!(group.awaited(later), Some(Awaited::Applied), "it is answered at once");
}

#[test]
fn a_write_that_another_leaders_entry_replaced_is_lost() {
    let mut group = Group::led();
    let (receipt, leader) = group.loses_a_write();
    let ticket = group.awaits(leader, receipt);
    group.settle();
    assert_eq!(group.awaited(ticket), Some(Awaited::Lost));
}

#[test]
fn a_lost_write_whose_index_is_not_reached_is_lost_once_a_later_term_is_applied() {
    let mut group = Group::led();
    let (receipt, leader) = group.loses_a_write();
    let beyond = Receipt { index: LogIndex(receipt.index.0 + 100), ..receipt };
    let ticket = group.awaits(leader, beyond);
    group.settle();
    assert_eq!(group.awaited(ticket), Some(Awaited::Lost));
    let of_this_term = Receipt { term: group.shard(leader).status().term, ..beyond };
    let waits = group.awaits(leader, of_this_term);
    group.settle();
    assert_eq!(group.awaited(waits), None, "it may be written yet");
    group.advance(DEADLINE_MS + TICK_MS);
    assert_eq!(error_of(group.replies.get(&waits)), (ErrorCode::DeadlineExceeded, Outcome::Unknown));
}

#[test]
fn who_awaits_at_a_leader_that_is_deposed_goes_on_to_the_next_one() {
    let mut group = Group::led();
    group.cut.insert(0);
    let receipt = group.accepted("k");
    let ticket = group.awaits(0, receipt);
    group.await_leader(&[1, 2]);
    group.cut.clear();
    group.advance(4 * TICK_MS);
    let Some(ShardReply::Returned(returned)) = group.replies.get(&ticket) else { panic!("it leads no more") };
    assert!(matches!(returned.operation, Operation::Await { receipt: back, .. } if back == receipt));
}

#[test]
fn so_many_wait_and_no_more() {
    let mut group = Group::led();
    let receipt = Receipt { index: LogIndex(1 << 40), ..group.accepted("k") };
    let asks = std::iter::repeat_n(Operation::Await { receipt, wait_ms: 1 }, AWAITS_MAX + 1);
    let tickets = group.requests(0, asks);
    let (last, waiting) = tickets.split_last().expect("there are some");
    assert_eq!(error_of(group.replies.get(last)), (ErrorCode::Overloaded, Outcome::NotApplied));
    assert!(waiting.iter().all(|ticket| !group.replies.contains_key(ticket)));
    group.advance(DEADLINE_MS + TICK_MS);
    let late = |ticket| error_of(group.replies.get(ticket)) == (ErrorCode::DeadlineExceeded, Outcome::Unknown);
    assert!(waiting.iter().all(late), "each is answered");
}

/// An earlier copy may stand in a log that this leader has not seen.
#[test]
fn a_write_that_is_sent_again_is_committed_when_it_is_answered() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([0, 1, 2]);
    let id = WriteId { retry: true, ..group.fresh_id() };
    let ticket = group.request(0, write(id, Ack::Accepted, "k", put("v")));
    assert_eq!(group.replies.get(&ticket), None);
    group.hanging.clear();
    group.settle();
    let Some(ShardReply::Written(result)) = group.replies.get(&ticket) else { panic!("it is committed") };
    assert_eq!((result.ack, result.receipt), (Ack::Committed, None));
}

#[test]
fn an_atomic_that_is_accepted_has_its_receipt_with_each_write_and_is_committed_when_it_is_asked_again() {
    let mut group = Group::led();
    let id = group.fresh_id();
    let request = |id| AtomicRequest {
        id,
        ack: Ack::Accepted,
        checks: Vec::new(),
        mutations: vec![mutation("a", put("1")), mutation("b", put("2"))],
    };
    let results = |group: &Group, ticket| match group.replies.get(&ticket) {
        Some(ShardReply::Atomic(AtomicResult::Applied(results))) => results.clone(),
        other => panic!("{other:?}"),
    };
    let ticket = group.request(0, Operation::Atomic { client: client(), request: request(id) });
    let first = results(&group, ticket);
    assert!(first.iter().all(|result| result.receipt.is_some() && result.receipt == first[0].receipt));
    group.settle();
    let again = WriteId { retry: true, ..id };
    let ticket = group.request(0, Operation::Atomic { client: client(), request: request(again) });
    group.settle();
    let again = results(&group, ticket);
    assert!(again.iter().all(|result| (result.ack, result.receipt) == (Ack::Committed, None)));
    assert_eq!(again[0].version, first[0].version);
}
