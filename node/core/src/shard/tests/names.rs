//! A write takes effect once under a one-shot name, whoever sends it, and whoever leads.

use super::*;
use kvorum_protocol::{Once, OnceId};

const INCR: Action = Action::Incr { by: 1 };

fn name(number: u128, digest: u64) -> Option<Once> {
    Some(Once { id: OnceId(Uuid::from_u128(number)), digest, keeps_refusal: true })
}

/// A write of a client that writes nothing else.
fn of(client: u128, once: Option<Once>, mutation: Mutation) -> Operation {
    let id = WriteId { sequence: 1, first_unanswered: 1, retry: false, once };
    Operation::Write { client: ClientId(Uuid::from_u128(client)), id, ack: Ack::Committed, mutation }
}

fn again(operation: Operation) -> Operation {
    match operation {
        Operation::Write { client, id, ack, mutation } => {
            Operation::Write { client, id: WriteId { retry: true, ..id }, ack, mutation }
        }
        other => panic!("{other:?}"),
    }
}

impl Group {
    fn told(&mut self, position: usize, operation: Operation) -> ShardReply {
        let ticket = self.request(position, operation);
        self.settle();
        self.replies.remove(&ticket).expect("it is answered")
    }
}

fn replayed(reply: &ShardReply) -> ShardReply {
    match reply.clone() {
        ShardReply::Written(result) => ShardReply::Written(WriteResult { replayed: true, ..result }),
        other => panic!("{other:?}"),
    }
}

fn is_reused(reply: &ShardReply) -> bool {
    error_of(Some(reply)) == (ErrorCode::OnceIdReused, Outcome::NotApplied)
}

#[test]
fn who_comes_with_a_name_that_was_used_is_answered_as_the_first_was() {
    let mut group = Group::led();
    let asking = Mutation { return_previous: ReturnPrevious::Existence, ..mutation("n", INCR) };
    let first = group.told(0, of(11, name(1, 7), asking.clone()));
    let ShardReply::Written(result) = &first else { panic!("{first:?}") };
    assert_eq!((result.number, result.existed, result.replayed), (Some(1), Some(false), false));
    assert_eq!(group.told(0, of(12, name(1, 7), asking.clone())), replayed(&first));
    assert!(is_reused(&group.told(0, of(13, name(1, 8), mutation("n", Action::Incr { by: 5 })))));
    assert_eq!(group.value(0, "n").as_deref(), Some("1"));
    // Its own client is told all of it, too, and not that somebody else did it.
    assert_eq!(group.told(0, again(of(11, name(1, 7), asking.clone()))), first);
    let other = group.told(0, of(14, name(2, 7), asking));
    assert!(matches!(other, ShardReply::Written(WriteResult { number: Some(2), .. })), "another name: {other:?}");
}

#[test]
fn a_repetition_waits_for_the_first_and_has_its_answer() {
    let mut group = Group::led();
    // In one entry, and behind it.
    let both = group.requests(0, [of(11, name(1, 7), mutation("n", INCR)), of(12, name(1, 7), mutation("n", INCR))]);
    let third = group.request(0, of(13, name(1, 7), mutation("n", INCR)));
    let other = group.request(0, of(14, name(1, 8), mutation("n", INCR)));
    assert!(!group.replies.contains_key(&both[1]) && !group.replies.contains_key(&third), "it is not committed");
    group.settle();
    let first = group.replies.remove(&both[0]).expect("it is answered");
    for ticket in [both[1], third] {
        assert_eq!(group.replies.get(&ticket), Some(&replayed(&first)));
    }
    assert!(is_reused(&group.replies[&other]));
    assert_eq!(group.told(0, again(of(15, name(1, 7), mutation("n", INCR)))), replayed(&first));
    assert_eq!(group.value(0, "n").as_deref(), Some("1"));
    // What a retry is told must be in the log before it is: it does not wait in the entry of another one.
    let tickets =
        group.requests(0, [of(21, name(2, 7), mutation("n", INCR)), again(of(22, name(2, 7), mutation("n", INCR)))]);
    group.settle();
    assert_eq!(error_of(group.replies.get(&tickets[1])), (ErrorCode::Unavailable, Outcome::Unknown));
    assert_eq!(
        group.told(0, again(of(22, name(2, 7), mutation("n", INCR)))),
        replayed(&group.replies[&tickets[0]].clone())
    );
    assert_eq!(group.value(0, "n").as_deref(), Some("2"));
}

#[test]
pub(super) fn the_next_leader_knows_the_names_and_so_does_who_starts_again() {
    let mut group = Group::led();
    let first = group.told(0, of(11, name(1, 7), mutation("n", INCR)));
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    assert_eq!(group.told(leader, of(12, name(1, 7), mutation("n", INCR))), replayed(&first));
    group.restart(0);
    group.kill(leader);
    let leader = group.await_leader(&[0, 1, 2]);
    assert_eq!(group.told(leader, of(13, name(1, 7), mutation("n", INCR))), replayed(&first));
    assert!(is_reused(&group.told(leader, again(of(14, name(1, 8), mutation("n", INCR))))));
    assert_eq!(group.value(leader, "n").as_deref(), Some("1"));
}

#[test]
fn a_refusal_is_an_answer_if_the_name_keeps_it() {
    let mut group = Group::led();
    let on_absent = Mutation { condition: Condition::IfAbsent, ..mutation("k", put("mine")) };
    assert!(matches!(group.told(0, of(10, None, mutation("k", put("theirs")))), ShardReply::Written(_)));
    let refused = group.told(0, of(11, name(1, 7), on_absent.clone()));
    let looked = Once { keeps_refusal: false, ..name(2, 7).expect("a name") };
    group.told(0, of(12, Some(looked), on_absent.clone()));
    let removed = group.told(0, of(13, name(3, 7), mutation("k", Action::Delete)));
    assert_eq!(group.told(0, of(14, name(1, 7), on_absent.clone())), replayed(&refused));
    let done = group.told(0, of(15, name(2, 7), on_absent));
    assert!(matches!(done, ShardReply::Written(WriteResult { status: WriteStatus::Applied, .. })), "{done:?}");
    assert_eq!(group.told(0, of(16, name(3, 7), mutation("k", Action::Delete))), replayed(&removed));
    assert_eq!(group.value(0, "k").as_deref(), Some("mine"));
    // An error is none.
    assert_eq!(
        error_of(Some(&group.told(0, of(17, name(4, 7), mutation("k", INCR))))),
        (ErrorCode::NotAnInteger, Outcome::NotApplied)
    );
    group.told(0, of(18, None, mutation("k", put("1"))));
    let added = group.told(0, of(19, name(4, 7), mutation("k", INCR)));
    assert!(matches!(added, ShardReply::Written(WriteResult { number: Some(2), replayed: false, .. })), "{added:?}");
}

#[test]
fn an_atomic_has_one_name_and_an_accepted_write_keeps_its_receipt() {
    let mut group = Group::led();
    let atomic = |client: u128, once, by| {
        let id = WriteId { sequence: 1, first_unanswered: 1, retry: false, once };
        let mutations = vec![mutation("a", Action::Incr { by }), mutation("b", INCR)];
        let request = AtomicRequest { id, ack: Ack::Committed, checks: Vec::new(), mutations };
        Operation::Atomic { client: ClientId(Uuid::from_u128(client)), request }
    };
    let first = group.told(0, atomic(11, name(1, 7), 1));
    let ShardReply::Atomic(AtomicResult::Applied(results)) = &first else { panic!("{first:?}") };
    let repeated = group.told(0, atomic(12, name(1, 7), 1));
    let expected = results.iter().map(|result| WriteResult { replayed: true, ..result.clone() }).collect();
    assert_eq!(repeated, ShardReply::Atomic(AtomicResult::Applied(expected)));
    assert!(is_reused(&group.told(0, atomic(13, name(1, 8), 2))));
    assert!(is_reused(&group.told(0, of(14, name(1, 7), mutation("a", INCR)))), "it is no single write");
    assert_eq!((group.value(0, "a").as_deref(), group.value(0, "b").as_deref()), (Some("1"), Some("1")));

    let accepted = |client| match of(client, name(2, 7), mutation("a", INCR)) {
        Operation::Write { client, id, mutation, .. } => Operation::Write { client, id, ack: Ack::Accepted, mutation },
        other => panic!("{other:?}"),
    };
    let early = group.told(0, accepted(21));
    assert!(matches!(&early, ShardReply::Written(result) if result.receipt.is_some()), "{early:?}");
    assert_eq!(group.told(0, accepted(22)), replayed(&early));
}

#[test]
fn a_name_is_forgotten_after_its_time_and_means_nothing_then() {
    let mut group = Group::led();
    let number = |reply: ShardReply| match reply {
        ShardReply::Written(result) => result.number,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(group.told(0, of(11, name(1, 7), mutation("n", INCR)))), Some(1));
    for client in 0..14 {
        group.advance(10_000);
        group.told(0, of(100 + client, None, mutation("other", INCR)));
    }
    assert_eq!(number(group.told(0, of(12, name(1, 8), mutation("n", INCR)))), Some(2));
}

#[test]
fn no_entry_is_returned_under_a_name() {
    let mut group = Group::led();
    let greedy = Mutation { return_previous: ReturnPrevious::Entry, ..mutation("n", INCR) };
    let refused = group.told(0, of(11, name(1, 7), greedy));
    assert_eq!(error_of(Some(&refused)), (ErrorCode::InvalidArgument, Outcome::NotApplied));
    assert_eq!(group.value(0, "n"), None);
}
