//! A TRANSACTION is done in turn, at one moment, and once; new kinds of writes are decided as others are.

use super::*;
use crate::store::bytes_read;
use kvorum_protocol::limits::{TRANSACTION_REMEMBERED_BYTES_MAX, TRANSACTION_REPLY_BYTES_MAX};
use kvorum_protocol::{
    ExpireWhen, TransactionOperation, TransactionReply, TransactionRequest, TransactionResult, limits,
};

fn read(key: &str) -> TransactionOperation {
    TransactionOperation::Read(Bytes::copy_from_slice(key.as_bytes()))
}

fn written(key: &str, action: Action) -> TransactionOperation {
    TransactionOperation::Write(mutation(key, action))
}

fn rename(from: &'static str, to: &'static str, if_absent: bool) -> TransactionOperation {
    TransactionOperation::Rename { from: from.into(), to: to.into(), if_absent }
}

fn copy(from: &'static str, to: &'static str, if_absent: bool) -> TransactionOperation {
    TransactionOperation::Copy { from: from.into(), to: to.into(), if_absent }
}

fn check(key: &'static str, condition: Condition) -> AtomicCheck {
    AtomicCheck { key: key.into(), condition }
}

fn operation(id: WriteId, checks: Vec<AtomicCheck>, operations: Vec<TransactionOperation>) -> Operation {
    Operation::Transaction { client: client(), request: TransactionRequest { id, checks, operations } }
}

impl Group {
    /// What one replica answers.
    fn replied(&mut self, operation: Operation) -> ShardReply {
        let ticket = self.request(0, operation);
        self.settle();
        self.replies.remove(&ticket).expect("it is answered")
    }

    fn transact(&mut self, checks: Vec<AtomicCheck>, operations: Vec<TransactionOperation>) -> TransactionResult {
        let id = self.fresh_id();
        match self.replied(operation(id, checks, operations)) {
            ShardReply::Transaction(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, operations: Vec<TransactionOperation>) -> Vec<String> {
        match self.transact(Vec::new(), operations) {
            TransactionResult::Done(replies) => replies.iter().map(shown).collect(),
            aborted => panic!("{aborted:?}"),
        }
    }
}

fn shown(reply: &TransactionReply) -> String {
    match reply {
        TransactionReply::Value(None) => "nothing".into(),
        TransactionReply::Value(Some(entry)) => {
            let expires = if entry.expires_at_ms.is_some() { " that expires" } else { "" };
            format!("{}{expires}", entry.value.escape_ascii())
        }
        TransactionReply::Failed(error) => error.code.to_string(),
        TransactionReply::Written(WriteResult { status, number, decimal, previous, .. }) => {
            let number = number.map_or(String::new(), |number| format!(" {number}"));
            let decimal = decimal.as_ref().map_or(String::new(), |decimal| format!(" {}", decimal.escape_ascii()));
            let previous =
                previous.as_ref().map_or(String::new(), |entry| format!(" was {}", entry.value.escape_ascii()));
            format!("{status:?}{number}{decimal}{previous}")
        }
    }
}

#[test]
pub(super) fn operations_are_done_in_turn_and_one_that_fails_does_not_stop_the_others() {
    let mut group = Group::led();
    group.written(0, "text", put("abc"));
    let absent = Mutation { condition: Condition::IfAbsent, ..mutation("n", put("mine")) };
    let swapped = Mutation { return_previous: ReturnPrevious::Entry, ..mutation("n", put("x")) };
    let replies = group.done(vec![
        read("n"),
        written("n", Action::Incr { by: 5 }),
        read("n"),
        written("text", Action::Incr { by: 1 }),
        TransactionOperation::Write(absent),
        written("n", Action::Append { value: "0".into() }),
        written("gone", Action::Delete),
        TransactionOperation::Write(swapped),
        read("n"),
        written("text", Action::Delete),
        read("text"),
    ]);
    let expected = [
        "nothing",
        "Applied 5",
        "5",
        "NotAnInteger",
        "ConditionFailed",
        "Applied 2",
        "Missing",
        "Applied was 50",
        "x",
        "Applied",
        "nothing",
    ];
    assert_eq!(replies, expected);
    assert_eq!((group.value(0, "n").as_deref(), group.value(0, "text")), (Some("x"), None));
}

#[test]
fn all_of_it_is_one_entry_and_versions_are_those_that_it_told() {
    let mut group = Group::led();
    group.written(0, "a", put("1"));
    let before = group.shard(0).status().last_index;
    let result = group.transact(
        vec![],
        vec![written("a", put("2")), read("a"), rename("a", "b", false), read("b"), written("c", put("3"))],
    );
    assert_eq!(group.shard(0).status().last_index.0, before.0 + 1);
    let TransactionResult::Done(replies) = result else { panic!("it has no checks") };
    let version = |at: usize| match &replies[at] {
        TransactionReply::Value(Some(entry)) => entry.version,
        TransactionReply::Written(result) => result.version,
        other => panic!("{other:?}"),
    };
    assert_eq!(version(0), version(1));
    assert_eq!(version(2), version(3));
    assert!(version(0) < version(2) && version(2) < version(4));
    let found = group.shard(0).reader().get(b"b").unwrap().unwrap().entry;
    assert_eq!((found.version, &found.value[..]), (version(2), &b"2"[..]));
}

#[test]
fn checks_see_what_is_on_its_way_and_one_that_fails_keeps_all_from_being_done() {
    let mut group = Group::led();
    let version = group.written(0, "a", put("1")).version;
    let watched = |version| vec![check("b", Condition::IfAbsent), check("a", Condition::IfVersion(version))];
    let (first, second) = (group.fresh_id(), group.fresh_id());
    let write = vec![written("a", put("2")), written("c", Action::Incr { by: 1 })];
    // Both were told of version 1, and come together: the second is decided on what the first has left.
    let tickets = group
        .requests(0, [operation(first, watched(version), write.clone()), operation(second, watched(version), write)]);
    group.settle();
    assert!(matches!(group.replies[&tickets[0]], ShardReply::Transaction(TransactionResult::Done(_))));
    let ShardReply::Transaction(TransactionResult::Aborted { position, version: other }) = &group.replies[&tickets[1]]
    else {
        panic!("{:?}", group.replies[&tickets[1]])
    };
    let (position, other) = (*position, *other);
    assert!(position == 1 && other > version);
    assert_eq!(group.value(0, "c").as_deref(), Some("1"));
    group.written(0, "a", Action::Delete);
    let gone = group.transact(watched(other), vec![written("c", Action::Incr { by: 1 })]);
    assert_eq!(gone, TransactionResult::Aborted { position: 1, version: Version(0) });
    assert_eq!(group.value(0, "c").as_deref(), Some("1"));
}

#[test]
pub(super) fn a_key_is_renamed_and_copied_with_its_time_to_live() {
    let mut group = Group::led();
    group.written(0, "a", Action::Put { value: "v".into(), ttl: TimeToLive::Ms(60_000) });
    group.written(0, "there", put("w"));
    let replies = group.done(vec![
        rename("none", "x", false),
        rename("a", "there", true),
        copy("a", "there", true),
        copy("a", "b", true),
        read("b"),
        rename("a", "a", false),
        rename("a", "a", true),
        copy("none", "none", false),
        rename("a", "there", false),
        read("a"),
        read("there"),
        written("a", put("again")),
        rename("a", "c", true),
        read("c"),
    ]);
    let expected = [
        "Missing",
        "ConditionFailed",
        "ConditionFailed",
        "Applied",
        "v that expires",
        "Applied",
        "ConditionFailed",
        "Missing",
        "Applied",
        "nothing",
        "v that expires",
        "Applied",
        "Applied",
        "again",
    ];
    assert_eq!(replies, expected);
    for position in 0..3 {
        group.advance(4 * TICK_MS);
        let values = ["a", "b", "c", "there"].map(|key| group.value(position, key));
        assert_eq!(values, [None, Some("v".into()), Some("again".into()), Some("v".into())], "replica {position}");
    }
}

#[test]
fn a_copy_of_one_that_was_done_is_answered_the_same_and_has_no_effect() {
    let mut group = Group::led();
    group.written(0, "text", put("abc"));
    let id = group.fresh_id();
    let operations = || vec![written("n", Action::Incr { by: 1 }), read("n"), written("text", Action::Incr { by: 1 })];
    let first = group.replied(operation(id, Vec::new(), operations()));
    group.written(0, "n", Action::Incr { by: 10 });
    for retry in [true, false] {
        let again = operation(WriteId { retry, ..id }, Vec::new(), operations());
        assert_eq!(group.replied(again), first);
    }
    assert_eq!(group.value(0, "n").as_deref(), Some("11"));
    // And when another one leads, which knows it from the log.
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    let ticket = group.request(leader, operation(WriteId { retry: true, ..id }, Vec::new(), operations()));
    group.settle();
    assert_eq!(group.replies[&ticket], first);
    assert_eq!(group.value(leader, "n").as_deref(), Some("11"));
    // Under its number nothing else is done.
    let ticket = group.request(leader, write(WriteId { retry: true, ..id }, Ack::Committed, "n", put("x")));
    group.settle();
    assert_eq!(error_of(group.replies.get(&ticket)).0, ErrorCode::InvalidArgument);
}

#[test]
fn what_a_retry_was_told_is_final_whatever_it_was() {
    let mut group = Group::led();
    let (aborts, fails) = (group.fresh_id(), group.fresh_id());
    let present = || vec![check("k", Condition::IfPresent)];
    let retry = |id| WriteId { retry: true, ..id };
    let aborted = group.replied(operation(retry(aborts), present(), vec![written("n", Action::Incr { by: 1 })]));
    assert!(matches!(aborted, ShardReply::Transaction(TransactionResult::Aborted { .. })));
    group.written(0, "n", put("text"));
    let failed = group.replied(operation(retry(fails), Vec::new(), vec![written("n", Action::Incr { by: 1 })]));
    group.written(0, "k", put("v"));
    group.written(0, "n", put("1"));
    assert_eq!(group.replied(operation(aborts, present(), vec![written("n", Action::Incr { by: 1 })])), aborted);
    assert_eq!(group.replied(operation(fails, Vec::new(), vec![written("n", Action::Incr { by: 1 })])), failed);
    assert_eq!(group.value(0, "n").as_deref(), Some("1"));
}

#[test]
fn what_only_reads_takes_no_place_in_memory_and_sees_what_came_before() {
    let mut group = Group::led();
    group.hanging = BTreeSet::from([1, 2]);
    let (first, second) = (group.fresh_id(), group.fresh_id());
    let tickets = group.requests(
        0,
        [write(first, Ack::Committed, "k", put("v")), operation(second, Vec::new(), vec![read("k"), read("none")])],
    );
    assert!(group.replies.is_empty(), "a read of what is not committed waits for it");
    group.hanging.clear();
    group.settle();
    let ShardReply::Transaction(TransactionResult::Done(replies)) = &group.replies[&tickets[1]] else { panic!() };
    assert_eq!(replies.iter().map(shown).collect::<Vec<_>>(), ["v", "nothing"]);
    group.written(0, "k", put("w"));
    let again = group.replied(operation(WriteId { retry: true, ..second }, Vec::new(), vec![read("k")]));
    let ShardReply::Transaction(TransactionResult::Done(replies)) = &again else { panic!("{again:?}") };
    assert_eq!(replies.iter().map(shown).collect::<Vec<_>>(), ["w"], "it is decided anew");
}

#[test]
fn too_much_is_refused_as_a_whole_before_anything_is_done() {
    let mut group = Group::led();
    let large = "v".repeat(6 * 1024 * 1024);
    group.written(0, "large", put(&large));
    let expire = || written("large", Action::Expire { ttl_ms: 1_000 });
    for operations in [
        vec![written("n", put("1")), read("large"), read("large"), read("large")],
        vec![written("n", put("1")), expire(), expire(), expire()],
        vec![
            written("n", put("1")),
            copy("large", "l2", false),
            copy("large", "l3", false),
            copy("large", "l4", false),
        ],
    ] {
        let before = bytes_read();
        let id = group.fresh_id();
        let reply = group.replied(operation(id, Vec::new(), operations));
        assert_eq!(error_of(Some(&reply)), (ErrorCode::TooLarge, Outcome::NotApplied));
        assert!(bytes_read() - before <= TRANSACTION_REPLY_BYTES_MAX + 4096);
        assert_eq!((group.value(0, "n"), group.value(0, "l2")), (None, None));
    }
    let two = group.transact(Vec::new(), vec![written("n", put("1")), read("large"), read("large")]);
    assert_eq!(two.value_bytes(), 2 * large.len());
}

#[test]
fn an_answer_that_is_too_long_to_be_remembered_is_given_once() {
    let mut group = Group::led();
    let value = "v".repeat(TRANSACTION_REMEMBERED_BYTES_MAX);
    group.written(0, "fits", put(&value));
    group.written(0, "more", put(&format!("{value}v")));
    let incr = || written("n", Action::Incr { by: 1 });
    for (key, remembered) in [("fits", true), ("more", false)] {
        let id = group.fresh_id();
        let first = group.replied(operation(id, Vec::new(), vec![incr(), read(key)]));
        assert!(matches!(&first, ShardReply::Transaction(TransactionResult::Done(replies)) if replies.len() == 2));
        let again = group.replied(operation(WriteId { retry: true, ..id }, Vec::new(), vec![incr(), read(key)]));
        if remembered {
            assert_eq!(again, first);
        } else {
            assert_eq!(error_of(Some(&again)), (ErrorCode::TooLarge, Outcome::Applied));
        }
    }
    assert_eq!(group.value(0, "n").as_deref(), Some("2"), "each was done once");
}

#[test]
fn what_reads_much_waits_for_a_long_turn_and_leaves_nothing_before() {
    let mut group = Group::led();
    let large = "v".repeat(1024 * 1024);
    group.written(0, "large", put(&large));
    group.shard(0).set_value_bytes_max(large.len() / 2);
    let id = group.fresh_id();
    let ticket = group.request(0, operation(id, Vec::new(), vec![written("n", Action::Incr { by: 1 }), read("large")]));
    group.settle();
    assert!(group.shard(0).awaits_long_turn() && !group.replies.contains_key(&ticket));
    group.shard(0).set_value_bytes_max(usize::MAX);
    group.settle();
    assert!(matches!(&group.replies[&ticket], ShardReply::Transaction(TransactionResult::Done(_))));
    assert_eq!(group.value(0, "n").as_deref(), Some("1"));
}

/// As many operations as there may be, each with the longest error or with two records.
#[test]
pub(super) fn the_longest_transactions_are_done_and_remembered() {
    let mut group = Group::led();
    group.written(0, "n", put(&i64::MIN.to_string()));
    let failing = vec![written("n", Action::Incr { by: i64::MIN }); limits::BATCH_OPERATIONS_MAX - 1];
    let renames = (0..limits::BATCH_OPERATIONS_MAX - 1).map(|at| match at % 2 {
        0 => rename("a", "b", false),
        _ => rename("b", "a", false),
    });
    for operations in [failing, renames.collect()] {
        let id = group.fresh_id();
        let operations: Vec<_> = std::iter::once(written("a", put("v"))).chain(operations).collect();
        let first = group.replied(operation(id, Vec::new(), operations.clone()));
        let ShardReply::Transaction(TransactionResult::Done(replies)) = &first else { panic!("{first:?}") };
        assert_eq!(replies.len(), limits::BATCH_OPERATIONS_MAX);
        group.kill(0);
        let leader = group.await_leader(&[1, 2]);
        let ticket = group.request(leader, operation(WriteId { retry: true, ..id }, Vec::new(), operations));
        group.settle();
        assert!(group.replies[&ticket] == first, "another leader remembers it");
        group.restart(0);
        group.advance(10 * TICK_MS);
        group.shard(leader).transfer_to(super::id(0));
        group.await_leader(&[0]);
    }
}

#[test]
fn new_writes_are_decided_on_what_is_on_its_way_and_remembered() {
    let mut group = Group::led();
    let ids: Vec<WriteId> = (0..6).map(|_| group.fresh_id()).collect();
    let equal = Mutation { condition: Condition::IfEquals("10.6".into()), ..mutation("d", put("10.6!")) };
    let different = Mutation { condition: Condition::IfEquals("10.5".into()), ..mutation("d", Action::Delete) };
    let single = |id, mutation| Operation::Write { client: client(), id, ack: Ack::Committed, mutation };
    let writes = [
        write(ids[0], Ack::Committed, "d", Action::IncrDecimal { by: "10.5".into() }),
        write(ids[1], Ack::Committed, "d", Action::IncrDecimal { by: "0.1".into() }),
        single(ids[2], equal),
        single(ids[3], different),
        write(ids[4], Ack::Committed, "d", Action::SetRange { offset: 5, value: "?".into() }),
        write(ids[5], Ack::Committed, "d", Action::SetBit { offset: 7, bit: true }),
    ];
    let tickets = group.requests(0, writes.clone());
    group.settle();
    let told = |reply: &ShardReply| match reply {
        ShardReply::Written(result) => shown(&TransactionReply::Written(result.clone())),
        other => format!("{other:?}"),
    };
    let replies: Vec<_> = tickets.iter().map(|ticket| told(&group.replies[ticket])).collect();
    assert_eq!(replies, ["Applied 10.5", "Applied 10.6", "Applied", "ConditionFailed", "Applied 6", "Applied 1"]);
    assert_eq!(group.value(0, "d").as_deref(), Some("10.6!?"));
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    for (operation, expected) in writes.into_iter().zip(&replies) {
        let Operation::Write { id, mutation, .. } = operation else { unreachable!("they are writes") };
        let ticket = group.request(leader, single(WriteId { retry: true, ..id }, mutation));
        group.settle();
        assert_eq!(told(&group.replies[&ticket]), *expected);
    }
    assert_eq!(group.value(leader, "d").as_deref(), Some("10.6!?"));
}

#[test]
fn a_value_of_another_length_is_not_read_to_be_compared() {
    let mut group = Group::led();
    let large = "v".repeat(1024 * 1024);
    group.written(0, "large", put(&large));
    let cost = |group: &mut Group, value: String, expected| {
        let mutation = Mutation { condition: Condition::IfEquals(value.into()), ..mutation("large", Action::Delete) };
        let operation = Operation::Write { client: client(), id: group.fresh_id(), ack: Ack::Committed, mutation };
        let before = bytes_read();
        let reply = group.replied(operation);
        assert!(matches!(&reply, ShardReply::Written(result) if result.status == expected), "{reply:?}");
        bytes_read() - before
    };
    assert!(cost(&mut group, format!("{large}v"), WriteStatus::ConditionFailed) <= 512);
    let read = cost(&mut group, "w".repeat(large.len()), WriteStatus::ConditionFailed);
    assert!((large.len()..large.len() + 1024).contains(&read), "{read} bytes");
    cost(&mut group, large, WriteStatus::Applied);
}

#[test]
fn a_key_whose_new_time_is_over_is_removed_if_the_old_one_is_as_wanted() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let expire = |ttl_ms, when| Action::ExpireIf { ttl_ms, when };
    assert_eq!(group.written(0, "k", expire(0, ExpireWhen::Some)).status, WriteStatus::ConditionFailed);
    assert_eq!(group.written(0, "k", expire(60_000, ExpireWhen::None)).status, WriteStatus::Applied);
    assert_eq!(group.written(0, "k", expire(90_000, ExpireWhen::Shorter)).status, WriteStatus::ConditionFailed);
    assert_eq!(group.value(0, "k").as_deref(), Some("v"));
    assert_eq!(group.written(0, "k", expire(0, ExpireWhen::SomeAndShorter)).status, WriteStatus::Applied);
    assert_eq!(group.value(0, "k"), None);
    assert_eq!(group.written(0, "k", expire(0, ExpireWhen::Shorter)).status, WriteStatus::Missing);
}
