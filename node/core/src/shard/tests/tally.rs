//! What is told to whoever counts.

use super::turn::Node;
use super::*;
use crate::clock::Clock;
use crate::measure::RetryAnswer::{self, *};
use crate::measure::Stage;
use crate::session::reply::ReplySink;
use crate::shard::host::{ShardHost, TurnEnd};
use crate::shard::inbox::{QueuedRequest, Waker};
use kvorum_protocol::{Once, OnceId};
use std::sync::atomic::{AtomicU64, Ordering};

const INCR: Action = Action::Incr { by: 1 };

/// A clock that shows so many nanoseconds more each time that it is looked at.
struct Ticking(AtomicU64, u64);

impl Clock for Ticking {
    fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), ..Now::default() }
    }

    fn monotonic(&self) -> Nanos {
        Nanos(self.0.fetch_add(self.1, Ordering::Relaxed))
    }
}

/// What the retries among these requests, which come together, were answered.
fn counted(group: &mut Group, operations: impl IntoIterator<Item = Operation>) -> Vec<RetryAnswer> {
    group.tallies.clear();
    group.requests(0, operations);
    group.settle();
    group.tallies.drain(..).flat_map(|(_, tally)| tally.retries).collect()
}

#[test]
fn a_write_that_was_sent_again_counts_by_its_answer() {
    let mut group = Group::led();
    let id = |sequence, retry| WriteId { sequence, first_unanswered: 1, retry, once: None };
    let incr = |sequence, retry, key: &str| write(id(sequence, retry), Ack::Committed, key, INCR);
    assert_eq!(counted(&mut group, [incr(101, false, "n")]), [], "it comes for the first time");
    assert_eq!(counted(&mut group, [incr(101, true, "n")]), [Remembered]);
    assert_eq!(counted(&mut group, [incr(102, true, "n")]), [Done], "no earlier copy has come");
    group.written(0, "text", put("abc"));
    // A verdict is an error however often it is told.
    assert_eq!(counted(&mut group, [incr(103, true, "text"), incr(104, false, "text")]), [Refused]);
    assert_eq!(counted(&mut group, [incr(103, true, "text")]), [Refused]);
    let absent = Mutation { condition: Condition::IfAbsent, ..mutation("text", put("def")) };
    let conditional = Operation::Write { client: client(), id: id(105, true), ack: Ack::Committed, mutation: absent };
    assert_eq!(counted(&mut group, [conditional]), [Refused]);
    assert_eq!(counted(&mut group, [incr(106, false, "n"), incr(106, true, "n")]), [OnItsWay]);
    let request = |sequence| AtomicRequest {
        id: id(sequence, true),
        ack: Ack::Committed,
        checks: vec![],
        mutations: vec![mutation("n", INCR)],
    };
    let atomic = |sequence| Operation::Atomic { client: client(), request: request(sequence) };
    assert_eq!(counted(&mut group, [atomic(107)]), [Done]);
    assert_eq!(counted(&mut group, [atomic(107), Operation::Get("n".into())]), [Remembered]);
    // Of one client it remembers the newest only.
    let limits = SessionLimits { sessions: 1, ..SessionLimits::default() };
    (0..3).for_each(|position| group.shard(position).store.limit_sessions(limits));
    let other = ClientId(Uuid::from_u128(8));
    let crowd =
        Operation::Write { client: other, id: id(109, false), ack: Ack::Committed, mutation: mutation("x", INCR) };
    assert_eq!(counted(&mut group, [crowd]), []);
    assert_eq!(
        counted(&mut group, [incr(106, true, "n"), incr(106, false, "n")]),
        [Forgotten],
        "the second is no retry"
    );
}

#[test]
fn a_write_under_a_used_name_counts_whoever_sends_it() {
    let mut group = Group::led();
    let once = |number| Some(Once { id: OnceId(Uuid::from_u128(number)), digest: 7, keeps_refusal: true });
    let of = |client, retry, once| Operation::Write {
        client: ClientId(Uuid::from_u128(client)),
        id: WriteId { sequence: 1, first_unanswered: 1, retry, once },
        ack: Ack::Committed,
        mutation: mutation("n", INCR),
    };
    assert_eq!(counted(&mut group, [of(11, false, once(1)), of(12, false, once(1))]), [OnItsWay], "it waits");
    assert_eq!(counted(&mut group, [of(13, false, once(1)), of(14, true, once(1))]), [Remembered; 2]);
    assert_eq!(counted(&mut group, [of(15, true, once(2))]), [Done]);
    let other = Some(Once { digest: 8, ..once(1).unwrap() });
    assert_eq!(counted(&mut group, [of(16, false, other), of(17, true, other)]), [Refused], "one says it is a retry");
}

/// Two looks at the stopwatch, however much is applied.
#[test]
fn applying_is_timed_by_the_stopwatch_and_only_where_something_is_applied() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    assert!(group.tallies.drain(..).all(|(_, tally)| tally.applying.is_none()), "there is no stopwatch");
    group.shard(0).set_stopwatch(Arc::new(Ticking(AtomicU64::new(5), 300)));
    let writes: Vec<_> = (0..9).map(|_| write(group.fresh_id(), Ack::Committed, "k", put("v"))).collect();
    group.requests(0, writes);
    group.settle();
    let of_leader: Vec<_> =
        group.tallies.iter().filter(|(position, _)| *position == 0).map(|(_, tally)| tally).collect();
    let (applied, idle): (Vec<&Tally>, _) = of_leader.into_iter().partition(|tally| !tally.applied.is_empty());
    let [Tally { applied: entries, applying, .. }] = applied[..] else { panic!("they are in one entry: {applied:?}") };
    assert_eq!((entries.len(), entries[0].requests, *applying), (1, 9, Some(Nanos(300))));
    assert!(idle.into_iter().all(|tally| tally.applying.is_none()), "there was nothing to apply");
}

/// A host takes down what its shard tells, and how long reads waited for a quorum.
#[test]
fn a_host_counts_expired_keys_and_reads_that_a_quorum_confirmed() {
    let node: Arc<Node> = Arc::default();
    let alone = ShardConfig { initial_voters: vec![id(0)], ..config(0, &[id(0)]) };
    let mut host = ShardHost::open(node.arguments(alone), Waker::new(|| {})).unwrap();
    let counts = Arc::clone(&host.handle().counts);
    let sink = Arc::<ReplySink>::default();
    let pass = |host: &mut ShardHost, ms: u64| {
        node.wait(ms);
        host.handle().inbox.tick();
        (0..4).for_each(|_| assert_eq!(host.turn().unwrap(), TurnEnd::Done));
    };
    (0..20).for_each(|_| pass(&mut host, TICK_MS));
    assert!(host.shard().status().serving, "nobody else could lead");
    let ask = |host: &mut ShardHost, operation| {
        let (queued_at, reply_to) = (node.monotonic(), sink.reply_to(0, 0));
        let deadline = queued_at.after_ms(DEADLINE_MS);
        let request =
            QueuedRequest { reply_to, client: client(), queued_at, deadline, term: Term(0), traced: false, operation };
        host.handle().inbox.request(request);
    };
    let short = Action::Put { value: "v".into(), ttl: TimeToLive::Ms(200) };
    let first = WriteId { sequence: 1, first_unanswered: 1, retry: true, once: None };
    ask(&mut host, write(first, Ack::Committed, "k", short));
    pass(&mut host, TICK_MS);
    assert_eq!((host.shard().status().keys, counts.expired_keys.get(), counts.retries(Done)), (1, 0, 1));
    assert!(counts.apply.count() > 0);
    assert!(Stage::ALL.iter().all(|stage| counts.stages.of(*stage).count() == 1), "one request waited for an entry");
    (0..6).for_each(|_| pass(&mut host, TICK_MS));
    assert_eq!((host.shard().status().keys, counts.expired_keys.get()), (0, 1));

    assert_eq!(counts.read_confirm.count(), 0);
    ask(&mut host, Operation::Confirm);
    pass(&mut host, 30);
    let mut sum = crate::measure::DurationsSum::default();
    counts.read_confirm.add_to(&mut sum);
    assert_eq!((sum.count(), sum.sum_ns), (1, 30_000_000));
}
