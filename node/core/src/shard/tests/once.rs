//! A write takes effect once, and what its client was told of it stays so, however late a copy of it comes.

use super::*;

const INCR: Action = Action::Incr { by: 1 };

fn copy(sequence: u64, retry: bool) -> WriteId {
    WriteId { sequence, first_unanswered: 1, retry, once: None }
}

impl Group {
    /// A request at replica 0, and its answer.
    fn asked(&mut self, operation: Operation) -> ShardReply {
        let ticket = self.request(0, operation);
        self.settle();
        self.replies.remove(&ticket).expect("it is answered")
    }

    fn copy_of(&mut self, id: WriteId, key: &str, action: Action) -> ShardReply {
        self.asked(write(id, Ack::Committed, key, action))
    }

    /// Another client writes, which takes the place of a session.
    fn crowd(&mut self, number: u128) {
        let client = ClientId(Uuid::from_u128(1000 + number));
        let sequence = self.next_sequence + 1_000;
        let operation = Operation::Write {
            client,
            id: copy(sequence, false),
            ack: Ack::Committed,
            mutation: mutation("x", put("y")),
        };
        assert!(matches!(self.asked(operation), ShardReply::Written(_)));
    }
}

/// A group whose shard remembers one client.
fn forgetful() -> Group {
    let mut group = Group::led();
    for position in 0..3 {
        let limits = SessionLimits { sessions: 1, ..SessionLimits::default() };
        group.shard(position).store.limit_sessions(limits);
    }
    group
}

#[test]
fn late_copies_of_a_forgotten_client_have_no_effect_and_it_goes_on_under_higher_numbers() {
    let mut group = forgetful();
    for sequence in [5, 6] {
        assert!(matches!(group.copy_of(copy(sequence, true), "n", INCR), ShardReply::Written(_)));
    }
    group.crowd(1);
    // One late copy must not open the door for the next one.
    for sequence in [5, 6] {
        let ShardReply::Error(error) = group.copy_of(copy(sequence, false), "n", INCR) else {
            panic!("{sequence} is late")
        };
        assert_eq!((error.code, error.outcome), (ErrorCode::SequenceTooLow, Outcome::NotApplied));
        assert!(error.sequence_min.is_some_and(|least| least > 6), "{error:?}");
        let retried = group.copy_of(copy(sequence, true), "n", INCR);
        assert_eq!(error_of(Some(&retried)), (ErrorCode::SessionExpired, Outcome::Unknown));
    }
    assert_eq!(group.value(0, "n").as_deref(), Some("2"));
    let atomic = |id| AtomicRequest { id, ack: Ack::Committed, checks: vec![], mutations: vec![mutation("n", INCR)] };
    let refused = group.asked(Operation::Atomic { client: client(), request: atomic(copy(6, false)) });
    let ShardReply::Error(error) = refused else { panic!("it is late") };
    let least = error.sequence_min.expect("it says where to go on");
    assert!(matches!(group.copy_of(copy(least, false), "n", INCR), ShardReply::Written(_)));
    assert_eq!(group.value(0, "n").as_deref(), Some("3"));
    let late = group.copy_of(copy(5, false), "n", INCR);
    assert_eq!(
        error_of(Some(&late)),
        (ErrorCode::SequenceTooLow, Outcome::NotApplied),
        "its new session knows no better"
    );
    // Another leader knows as much.
    group.advance(4 * TICK_MS);
    group.shard(0).transfer_to(id(1));
    let leader = group.await_leader(&[1]);
    let ticket = group.request(leader, write(copy(6, false), Ack::Committed, "n", INCR));
    group.settle();
    assert_eq!(error_of(group.replies.get(&ticket)).0, ErrorCode::SequenceTooLow);
}

#[test]
fn numbers_that_would_leave_nobody_a_higher_one_are_refused() {
    let mut group = Group::led();
    let highest = crate::store::sequence_max(group.now.wall_ms);
    let refused = group.copy_of(copy(highest + (1 << 30), false), "n", INCR);
    assert_eq!(error_of(Some(&refused)), (ErrorCode::InvalidArgument, Outcome::NotApplied));
    assert!(matches!(group.copy_of(copy(highest - (1 << 30), false), "n", INCR), ShardReply::Written(_)));
}

/// What is refused for what it asks: how it is refused, and what makes it possible afterwards.
fn refusals() -> Vec<(ErrorCode, &'static str, Mutation, Action)> {
    let long = || Action::Put { value: Bytes::from(vec![b'l'; 16 * 1024 * 1024]), ttl: TimeToLive::Forever };
    let previous = |action| Mutation { return_previous: ReturnPrevious::Entry, ..mutation("k", action) };
    vec![
        (ErrorCode::NotAnInteger, "not a number", mutation("k", INCR), put("abc")),
        (ErrorCode::IntegerOverflow, "too high", mutation("k", INCR), put(&i64::MAX.to_string())),
        (ErrorCode::TooLarge, "too long", mutation("k", Action::Append { value: "more".into() }), long()),
        (ErrorCode::TooLarge, "too long to return", previous(put("new")), long()),
    ]
}

#[test]
fn a_verdict_on_a_retry_is_final_although_the_write_could_be_done_later() {
    for is_atomic in [false, true] {
        for (sequence, (code, what, refused, before)) in (100..).zip(refusals()) {
            // As an ATOMIC may return more, only single writes are too long to return.
            if is_atomic && refused.return_previous == ReturnPrevious::Entry {
                continue;
            }
            let mut group = Group::led();
            let copy_of = |group: &mut Group, retry| {
                let id = copy(sequence, retry);
                let request =
                    AtomicRequest { id, ack: Ack::Committed, checks: Vec::new(), mutations: vec![refused.clone()] };
                group.asked(match is_atomic {
                    true => Operation::Atomic { client: client(), request },
                    false => Operation::Write { client: client(), id, ack: Ack::Committed, mutation: refused.clone() },
                })
            };
            group.written(0, "k", before);
            assert_eq!(error_of(Some(&copy_of(&mut group, true))), (code, Outcome::NotApplied), "{what}");
            group.written(0, "k", put("5"));
            for retry in [false, true] {
                assert_eq!(error_of(Some(&copy_of(&mut group, retry))), (code, Outcome::NotApplied), "{what}, late");
            }
            assert_eq!(group.value(0, "k").as_deref(), Some("5"), "{what}");
        }
    }
}

#[test]
fn a_verdict_on_the_only_copy_takes_no_memory() {
    let mut group = Group::led();
    group.written(0, "k", put("abc"));
    let refused = group.copy_of(copy(100, false), "k", INCR);
    assert_eq!(error_of(Some(&refused)), (ErrorCode::NotAnInteger, Outcome::NotApplied));
    group.written(0, "k", put("5"));
    assert!(matches!(group.copy_of(copy(100, false), "k", INCR), ShardReply::Written(_)), "it was never sent again");
}

#[test]
fn a_verdict_is_remembered_over_a_change_of_leader() {
    let mut group = Group::led();
    group.written(0, "k", put("abc"));
    let refused = group.copy_of(copy(100, true), "k", INCR);
    assert_eq!(error_of(Some(&refused)).0, ErrorCode::NotAnInteger);
    group.written(0, "k", put("5"));
    group.kill(0);
    let leader = group.await_leader(&[1, 2]);
    let ticket = group.request(leader, write(copy(100, false), Ack::Committed, "k", INCR));
    group.settle();
    assert_eq!(error_of(group.replies.get(&ticket)).0, ErrorCode::NotAnInteger);
    assert_eq!(group.value(leader, "k").as_deref(), Some("5"));
}

/// Who asks is told what the write found, also of what is on its way. What is remembered does not tell.
#[test]
fn a_write_is_told_whether_its_key_existed_and_a_retry_is_not() {
    let asking = |key: &str, action| Mutation { return_previous: ReturnPrevious::Existence, ..mutation(key, action) };
    let of = |mutation: Mutation, id| Operation::Write { client: client(), id, ack: Ack::Committed, mutation };
    let existed = |reply: &ShardReply| match reply {
        ShardReply::Written(result) => result.existed,
        other => panic!("{other:?}"),
    };
    let mut group = Group::led();
    // All in one entry.
    let actions = [put("1"), put("2"), Action::Delete, put("3"), INCR];
    let operations: Vec<_> = actions.into_iter().map(|action| of(asking("k", action), group.fresh_id())).collect();
    let tickets = group.requests(0, operations);
    group.settle();
    let told: Vec<_> = tickets.iter().map(|ticket| existed(&group.replies[ticket])).collect();
    assert_eq!(told, [false, true, true, false, true].map(Some));
    let plain = group.fresh_id();
    assert_eq!(existed(&group.asked(of(mutation("k", put("4")), plain))), None, "nobody asked");

    let (first, again) = (copy(900, false), copy(900, true));
    assert_eq!(existed(&group.asked(of(asking("new", put("1")), first))), Some(false));
    assert_eq!(existed(&group.asked(of(asking("new", put("1")), again))), None, "it is not remembered");
    // A copy that is the first to come is no retry to the shard.
    assert_eq!(existed(&group.asked(of(asking("newer", put("1")), copy(901, true)))), Some(false));

    let id = group.fresh_id();
    let mutations = vec![asking("newest", put("1")), asking("newest", put("2"))];
    let request = AtomicRequest { id, ack: Ack::Committed, checks: Vec::new(), mutations };
    let mut atomic = |retry| {
        let request = AtomicRequest { id: WriteId { retry, ..id }, ..request.clone() };
        match group.asked(Operation::Atomic { client: client(), request }) {
            ShardReply::Atomic(AtomicResult::Applied(results)) => {
                results.iter().map(|result| result.existed).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(atomic(false), [Some(false), Some(true)]);
    assert_eq!(atomic(true), [None, None]);
}
