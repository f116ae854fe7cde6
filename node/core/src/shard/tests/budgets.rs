//! What a request costs, in bytes that are read: what needs no value reads none, and no turn reads without end.

use super::*;
use crate::store::bytes_read;

const VALUE_BYTES: usize = 1024 * 1024;
/// What finding a record may read, however long its value is.
const FINDING_BYTES: usize = 512;

fn large() -> String {
    "v".repeat(VALUE_BYTES)
}

impl Group {
    /// The bytes of records that all replicas read until the request was answered, and its answer.
    fn cost(&mut self, operation: Operation) -> (usize, ShardReply) {
        let before = bytes_read();
        let ticket = self.request(0, operation);
        self.settle();
        (bytes_read() - before, self.replies[&ticket].clone())
    }

    fn conditional(&mut self, condition: Condition, return_previous: ReturnPrevious, action: Action) -> Operation {
        let mutation = Mutation { key: "large".into(), condition, return_previous, action };
        Operation::Write { client: client(), id: self.fresh_id(), ack: Ack::Committed, mutation }
    }

    fn atomic_of(&mut self, checks: usize, version: u64, mutations: Vec<Mutation>) -> Operation {
        let check = AtomicCheck { key: "large".into(), condition: Condition::IfVersion(Version(version)) };
        let request =
            AtomicRequest { id: self.fresh_id(), ack: Ack::Committed, checks: vec![check; checks], mutations };
        Operation::Atomic { client: client(), request }
    }
}

#[test]
fn what_needs_no_value_reads_none() {
    use Condition::{Always, IfAbsent, IfPresent, IfVersion};
    use ReturnPrevious::{Existence, Nothing};
    let mut group = Group::led();
    group.written(0, "large", put(&large()));
    let small = || put("small");
    let ttl = Action::Expire { ttl_ms: 1_000 };
    let requests: Vec<(&str, Operation, &str)> = vec![
        ("IfVersion", group.conditional(IfVersion(Version(99)), Nothing, small()), "ConditionFailed"),
        ("IfAbsent", group.conditional(IfAbsent, Nothing, small()), "ConditionFailed"),
        ("failed DELETE", group.conditional(IfAbsent, Nothing, Action::Delete), "ConditionFailed"),
        ("failed EXPIRE", group.conditional(IfVersion(Version(99)), Nothing, ttl), "ConditionFailed"),
        (
            "failed APPEND",
            group.conditional(IfAbsent, Nothing, Action::Append { value: "x".into() }),
            "ConditionFailed",
        ),
        ("INCR", group.conditional(Always, Nothing, Action::Incr { by: 1 }), "NotAnInteger"),
        ("PERSIST", group.conditional(Always, Nothing, Action::Persist), "Missing"),
        ("existed, failed", group.conditional(IfAbsent, Existence, small()), "existed: Some(true)"),
        ("existed, missing", group.conditional(Always, Existence, Action::Persist), "existed: Some(true)"),
        ("previous", group.conditional(Always, ReturnPrevious::Entry, small()), "TooLarge"),
        ("previous, failed", group.conditional(IfAbsent, ReturnPrevious::Entry, small()), "TooLarge"),
    ];
    for (name, operation, expected) in requests {
        let (read, reply) = group.cost(operation);
        assert!(format!("{reply:?}").contains(expected), "{name}: {reply:?}");
        assert!(read <= FINDING_BYTES, "{name} read {read} bytes");
    }

    let (read, reply) = {
        let atomic = group.atomic_of(100, 99, Vec::new());
        group.cost(atomic)
    };
    assert!(matches!(reply, ShardReply::Atomic(AtomicResult::ConditionFailed { position: 0, .. })), "{reply:?}");
    assert!(read <= FINDING_BYTES, "an ATOMIC that fails read {read} bytes");
    let incr =
        Mutation { key: "n".into(), condition: Always, return_previous: Nothing, action: Action::Incr { by: 1 } };
    let atomic = group.atomic_of(100, 1, vec![incr]);
    let (read, reply) = group.cost(atomic);
    assert!(matches!(reply, ShardReply::Atomic(AtomicResult::Applied(_))), "{reply:?}");
    assert!(read <= 104 * FINDING_BYTES, "100 checks read {read} bytes");

    // The replicas that apply them look at what is replaced.
    let overwrite = group.conditional(IfVersion(Version(1)), Nothing, put(&large()));
    assert!(group.cost(overwrite).0 <= 4 * FINDING_BYTES, "a PUT over a large value");
    let removal = group.conditional(IfPresent, Nothing, Action::Delete);
    assert!(group.cost(removal).0 <= 4 * FINDING_BYTES, "a DELETE of a large value");
}

#[test]
fn what_needs_the_value_reads_it_once() {
    let mut group = Group::led();
    group.written(0, "large", put(&large()));
    for action in [Action::Expire { ttl_ms: 60_000 }, Action::Append { value: "x".into() }, Action::Persist] {
        let operation = group.conditional(Condition::Always, ReturnPrevious::Nothing, action.clone());
        let (read, reply) = group.cost(operation);
        assert!(matches!(reply, ShardReply::Written(WriteResult { status: WriteStatus::Applied, .. })), "{reply:?}");
        let once = VALUE_BYTES..=VALUE_BYTES + 1 + 4 * FINDING_BYTES;
        assert!(once.contains(&read), "{action:?} read {read} bytes");
    }
    // An ATOMIC is decided as a whole before any of it is written.
    let expire = Mutation {
        key: "large".into(),
        condition: Condition::Always,
        return_previous: ReturnPrevious::Nothing,
        action: Action::Expire { ttl_ms: 9 },
    };
    let too_much = group.atomic_of(0, 0, vec![expire.clone(); 20]);
    let (read, reply) = group.cost(too_much);
    assert!(matches!(&reply, ShardReply::Error(error) if error.code == ErrorCode::TooLarge), "{reply:?}");
    assert!(read <= VALUE_BYTES + 1 + FINDING_BYTES, "an ATOMIC that is refused read {read} bytes");
    let enough = group.atomic_of(0, 0, vec![expire; 3]);
    let (read, reply) = group.cost(enough);
    assert!(matches!(reply, ShardReply::Atomic(AtomicResult::Applied(_))), "{reply:?}");
    assert!(read <= VALUE_BYTES + 1 + 20 * FINDING_BYTES, "an ATOMIC read {read} bytes");
}

#[test]
fn a_turn_ends_when_it_has_read_enough() {
    const KEYS: usize = 12;
    let mut group = Group::led();
    for key in 0..KEYS {
        group.written(0, &format!("key {key}"), put(&large()));
    }
    let requests: Vec<Operation> = (0..KEYS)
        .map(|key| write(group.fresh_id(), Ack::Committed, &format!("key {key}"), Action::Expire { ttl_ms: 60_000 }))
        .collect();
    let before = bytes_read();
    let tickets = group.requests(0, requests);
    let read = bytes_read() - before;
    assert!(read <= 2 * (VALUE_BYTES + FINDING_BYTES), "a turn read {read} bytes");
    assert!(group.shard(0).oldest_waiting().next().is_some(), "the rest waits for the next");
    group.settle();
    assert!(tickets.iter().all(|ticket| matches!(group.replies[ticket], ShardReply::Written(_))));
}

#[test]
fn a_request_that_reads_much_waits_for_a_long_turn() {
    let mut group = Group::led();
    group.written(0, "large", put(&large()));
    group.shard(0).set_value_bytes_max(VALUE_BYTES / 2);
    let append = write(group.fresh_id(), Ack::Committed, "large", Action::Append { value: "x".into() });
    let requests = [
        write(group.fresh_id(), Ack::Committed, "before", put("v")),
        append,
        Operation::Get("large".into()),
        write(group.fresh_id(), Ack::Committed, "behind", put("v")),
    ];
    let before = bytes_read();
    let tickets = group.requests(0, requests);
    group.settle();
    assert!(bytes_read() - before <= 8 * FINDING_BYTES, "nothing but small records was read");
    let answered = |group: &Group| tickets.iter().filter(|ticket| group.replies.contains_key(ticket)).count();
    assert_eq!((answered(&group), group.shard(0).awaits_long_turn()), (1, true));
    assert_eq!(group.shard(0).oldest_waiting().next(), Some(tickets[1]));
    group.shard(0).set_value_bytes_max(usize::MAX);
    group.settle();
    assert_eq!((answered(&group), group.shard(0).awaits_long_turn()), (4, false));
    assert!(
        matches!(&group.replies[&tickets[1]], ShardReply::Written(result) if result.number == Some(VALUE_BYTES as i64 + 1))
    );
    assert!(
        matches!(&group.replies[&tickets[2]], ShardReply::Value(Some(entry)) if entry.value.len() == VALUE_BYTES + 1)
    );

    // It is answered with all others when leadership is lost, and when it is too late.
    group.shard(0).set_value_bytes_max(VALUE_BYTES / 2);
    let late = group.request(0, Operation::Get("large".into()));
    assert!(group.shard(0).awaits_long_turn());
    group.now.monotonic = group.now.monotonic.after_ms(DEADLINE_MS);
    group.tick();
    group.settle();
    assert_eq!(error_of(group.replies.get(&late)).0, ErrorCode::DeadlineExceeded);
    assert!(!group.shard(0).awaits_long_turn());
}

/// Each of them is cheap, and so are few of them.
#[test]
fn a_turn_ends_after_so_many_look_ups() {
    let mut group = Group::led();
    group.written(0, "key", put("value"));
    let refused = |id| {
        let condition = Condition::IfVersion(Version(99));
        let mutation =
            Mutation { key: "key".into(), condition, return_previous: ReturnPrevious::Nothing, action: Action::Delete };
        Operation::Write { client: client(), id, ack: Ack::Committed, mutation }
    };
    let requests: Vec<_> = (0..8_192).map(|_| refused(group.fresh_id())).collect();
    let tickets = group.requests(0, requests);
    let waiting: usize = group.shard(0).in_flight.iter().map(|entry| entry.waiting.len()).sum();
    assert!((1_024..=4_096).contains(&waiting), "{waiting} requests were decided in one turn");
    group.settle();
    assert!(tickets.iter().all(|ticket| matches!(group.replies[ticket], ShardReply::Written(_))));
}
