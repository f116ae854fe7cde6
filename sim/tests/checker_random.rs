//! The checker against histories made by a store that is linearizable by construction, against the same histories with
//! one answer falsified, and against an independent checker (for expiry: see `checker_expiry.rs`).

use kvorum_sim::checker::{
    Action, Call, Completion, Condition, Found, History, Limits, Operation, Reply, Verdict, WriteStatus, Written, check,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// What happens to an operation of the simulated clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Answered,
    /// The caller hears only that it took effect.
    AppliedUnseen,
    /// The request is lost on its way.
    RequestLost,
    /// The answer is lost on its way.
    AnswerLost,
}

/// Where an operation of a client is: each time its client is scheduled it goes one step on.
struct Running {
    operation: Operation,
    fate: Fate,
    took_effect: bool,
}

/// The store that the histories come from: one key, one instant per operation.
#[derive(Default)]
struct Register {
    entry: Option<Entry>,
    writes: u64,
}

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    version: u64,
    expires: bool,
}

impl Register {
    /// The answer; `None` if the call is refused, which has no effect.
    fn apply(&mut self, call: &Call) -> Option<Reply> {
        let Call::Write { condition, action } = call else {
            let found = self.entry.clone().map(|Entry { value, version, expires }| Found {
                value,
                version: Some(version),
                expires: Some(expires),
            });
            return Some(Reply::Value(found));
        };
        let version = self.entry.as_ref().map_or(0, |entry| entry.version);
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => version == 0,
            Condition::IfPresent => version != 0,
            Condition::IfVersion(wanted) => version != 0 && version == *wanted,
            Condition::IfAbsentOrVersion(wanted) => version == 0 || version == *wanted,
            Condition::IfEquals(wanted) => self.entry.as_ref().is_some_and(|entry| entry.value == *wanted),
        };
        let existed = Some(self.entry.is_some());
        let idle = |status| {
            Some(Reply::Written(Written { status, version: Some(version), number: None, decimal: None, existed }))
        };
        if !holds {
            return idle(WriteStatus::ConditionFailed);
        }
        let before = self.entry.as_ref().map(|entry| entry.value.clone());
        let expires_before = self.entry.as_ref().is_some_and(|entry| entry.expires);
        let mut expires = expires_before;
        let (value, number) = match action {
            Action::Put { value, expires: puts_expiry } => {
                expires = *puts_expiry;
                (Some(value.clone()), None)
            }
            Action::PutKeeping(value) => (Some(value.clone()), None),
            Action::Delete | Action::Expire if before.is_none() => return idle(WriteStatus::Missing),
            Action::Persist if !expires_before => return idle(WriteStatus::Missing),
            Action::Delete => (None, None),
            Action::Expire | Action::Persist => {
                expires = *action == Action::Expire;
                (before, None)
            }
            Action::Incr(by) => {
                let current = before.map_or(Some(0), |value| String::from_utf8(value).ok()?.parse::<i64>().ok())?;
                let sum = current.checked_add(*by)?;
                (Some(sum.to_string().into_bytes()), Some(sum))
            }
            Action::Append(tail) => {
                let whole = [before.unwrap_or_default(), tail.clone()].concat();
                let length = whole.len() as i64;
                (Some(whole), Some(length))
            }
            Action::SetRange { offset, bytes } => {
                let mut whole = before.unwrap_or_default();
                whole.extend(std::iter::repeat_n(0, offset.saturating_sub(whole.len())));
                let behind = whole.len().min(offset + bytes.len());
                whole.splice(*offset..behind, bytes.iter().copied());
                let length = whole.len() as i64;
                (Some(whole), Some(length))
            }
            Action::SetBit { .. } | Action::IncrQuarters(_) | Action::ExpireIf(_) => unreachable!("none is drawn"),
        };
        // Versions count the writes of a whole shard, so those of one key have gaps.
        self.writes += 3;
        self.entry = value.map(|value| Entry { value, version: self.writes, expires });
        Some(Reply::Written(Written {
            status: WriteStatus::Applied,
            version: Some(self.writes),
            number,
            decimal: None,
            existed,
        }))
    }
}

/// The client that goes one step on, the call and fate of its next operation if it has none under way, and whether the
/// time to live of the register's value, if it has one, is over.
type Turn = (u32, Call, Fate, bool);

/// Runs calls on the register. Operations still under way at the end stay open.
fn simulate(turns: Vec<Turn>) -> History {
    let mut register = Register::default();
    let mut clients: Vec<Option<Running>> = (0..32).map(|_| None).collect();
    let mut history = History::default();
    for (now, (client, call, fate, time_is_over)) in (0..).zip(turns) {
        register.entry.take_if(|entry| entry.expires && time_is_over);
        let slot = &mut clients[client as usize];
        let Some(running) = slot else {
            let operation =
                Operation { client, invoked_at: now, key: b"k".to_vec(), call, completion: Completion::Open };
            *slot = Some(Running { operation, fate, took_effect: false });
            continue;
        };
        if !running.took_effect && running.fate != Fate::RequestLost {
            let Some(reply) = register.apply(&running.operation.call) else {
                *slot = None;
                continue;
            };
            let effective = matches!(&reply, Reply::Written(written) if written.status == WriteStatus::Applied);
            running.operation.completion = match running.fate {
                Fate::AnswerLost => Completion::Open,
                Fate::AppliedUnseen if effective => Completion::AppliedUnseen { at: u64::MAX },
                _ => Completion::Answered { at: u64::MAX, reply },
            };
            running.took_effect = true;
            continue;
        }
        let mut operation = slot.take().expect("seen above").operation;
        if let Completion::Answered { at, .. } | Completion::AppliedUnseen { at } = &mut operation.completion {
            *at = now;
        }
        history.push(operation);
    }
    history.extend(
        clients.into_iter().flatten().map(|running| Operation { completion: Completion::Open, ..running.operation }),
    );
    history
}

fn lasting_action() -> impl Strategy<Value = Action> {
    let put = |value: u32| Action::Put { value: value.to_string().into_bytes(), expires: false };
    prop_oneof![
        6 => (0..1000u32).prop_map(put),
        2 => Just(Action::Delete),
        3 => (-3..4i64).prop_map(Action::Incr),
        2 => (0..10u32).prop_map(|value| Action::Append(value.to_string().into_bytes())),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let put = |value: u32| Action::Put { value: value.to_string().into_bytes(), expires: true };
    prop_oneof![
        10 => lasting_action(),
        3 => (0..1000u32).prop_map(put),
        2 => (0..1000u32).prop_map(|value| Action::PutKeeping(value.to_string().into_bytes())),
        1 => Just(Action::Expire),
        1 => Just(Action::Persist),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
        2 => (1..100u64).prop_map(Condition::IfVersion),
        1 => (1..100u64).prop_map(Condition::IfAbsentOrVersion),
    ]
}

fn call(action: impl Strategy<Value = Action>) -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => Just(Call::Get),
        6 => (condition(), action).prop_map(|(condition, action)| Call::Write { condition, action }),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        40 => Just(Fate::Answered),
        1 => Just(Fate::AppliedUnseen),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::AnswerLost),
    ]
}

fn turn(clients: u32) -> impl Strategy<Value = Turn> {
    (0..clients, call(action()), fate(), prop::bool::weighted(0.1))
}

fn turns(clients: u32, most: usize) -> impl Strategy<Value = Vec<Turn>> {
    prop::collection::vec(turn(clients), 1..most)
}

/// The same history from a store that tells no versions.
fn without_versions(history: &History) -> History {
    let mut plain = History::default();
    plain.extend(history.operations().iter().cloned().map(|mut operation| {
        match &mut operation.completion {
            Completion::Answered { reply: Reply::Value(Some(found)), .. } => found.version = None,
            Completion::Answered { reply: Reply::Written(written), .. } => written.version = None,
            _ => {}
        }
        operation
    }));
    plain
}

/// The same history with the answer of operation `index` replaced by a get of `found`.
fn with_read(history: &History, index: usize, found: Found) -> History {
    let mut falsified = History::default();
    falsified.extend(history.operations().iter().cloned().enumerate().map(|(position, mut operation)| {
        if let (true, Completion::Answered { reply, .. }) = (position == index, &mut operation.completion) {
            *reply = Reply::Value(Some(found.clone()));
        }
        operation
    }));
    falsified
}

fn assert_accepted(history: &History) -> Result<(), TestCaseError> {
    let verdict = check(history, Limits::default());
    prop_assert!(verdict.is_linearizable(), "{:?}\n{}", verdict, history);
    Ok(())
}

fn is_rejected(history: &History) -> bool {
    matches!(check(history, Limits::default()), Verdict::NotLinearizable(_))
}

fn answered_gets(history: &History) -> Vec<usize> {
    let operations = history.operations().iter().enumerate();
    operations.filter(|(_, op)| op.call == Call::Get && op.returned_at().is_some()).map(|(index, _)| index).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_register_did_is_linearizable(turns in turns(8, 400)) {
        let history = simulate(turns);
        assert_accepted(&history)?;
        let text = history.to_string();
        prop_assert_eq!(text.parse::<History>().expect("written text is well formed"), history);
    }

    #[test]
    fn also_if_it_tells_no_versions(turns in turns(4, 150)) {
        assert_accepted(&without_versions(&simulate(turns)))?;
    }

    #[test]
    fn a_value_that_nobody_wrote_is_rejected(turns in turns(8, 200), pick in any::<prop::sample::Index>()) {
        let history = simulate(turns);
        let gets = answered_gets(&history);
        prop_assume!(!gets.is_empty());
        let invented = Found { value: b"invented".to_vec(), version: None, expires: None };
        prop_assert!(is_rejected(&with_read(&history, *pick.get(&gets), invented)));
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_rejected(turns in turns(8, 200), pick in any::<prop::sample::Index>()) {
        let history = simulate(turns);
        let gets = answered_gets(&history);
        prop_assume!(!gets.is_empty());
        let get = *pick.get(&gets);
        let called = history.operations()[get].invoked_at;
        // The newest two writes that were answered before the get was called: the older one's value is gone by then.
        let mut writes: Vec<(u64, Vec<u8>)> = history.operations().iter().filter_map(|operation| {
            match (&operation.call, &operation.completion) {
                (
                    Call::Write { action: Action::Put { value, .. }, .. },
                    Completion::Answered { at, reply: Reply::Written(Written { status: WriteStatus::Applied, version, .. }) },
                ) if *at < called => version.map(|version| (version, value.clone())),
                _ => None,
            }
        }).collect();
        writes.sort_unstable();
        prop_assume!(writes.len() >= 2);
        let (version, value) = writes[writes.len() - 2].clone();
        let stale = with_read(&history, get, Found { value, version: Some(version), expires: None });
        prop_assert!(is_rejected(&stale));
    }
}

/// Fifteen thousand turns of 32 clients, always the same.
fn long_turns() -> Vec<Turn> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    // Without expiry: dozens of open operations that each may have made the one key vanish, and sums and tails of what it may
    // have held, are more than a search can try. `checker_expiry.rs` has the long histories with expiry.
    let turn = (0..32u32, call(lasting_action()), fate(), Just(false));
    let strategy = prop::collection::vec(turn, 15_000);
    strategy.new_tree(&mut runner).expect("the strategy rejects nothing").current()
}

#[test]
fn thousands_of_operations_of_dozens_of_clients_are_accepted() {
    let history = simulate(long_turns());
    let open = history.operations().iter().filter(|operation| operation.returned_at().is_none()).count();
    assert!(history.operations().len() > 4_000 && open > 100);
    assert_eq!(check(&history, Limits::default()), Verdict::Linearizable);
}

#[test]
fn the_one_wrong_answer_among_thousands_is_blamed() {
    let answered = long_turns().into_iter().map(|(client, call, _, over)| (client, call, Fate::Answered, over));
    let history = simulate(answered.collect());
    let late = *answered_gets(&history).last().expect("a third of the operations are gets");
    let broken = with_read(&history, late, Found { value: b"invented".to_vec(), version: None, expires: None });
    let Verdict::NotLinearizable(report) = check(&broken, Limits::default()) else { panic!("a broken read passed") };
    assert_eq!(report.culprit, broken.operations()[late]);
}

mod differential {
    //! The same question put to `todc-utils`, an implementation that shares nothing with ours but the literature.

    use super::*;
    use todc_utils::linearizability::{WGLChecker, history::Action as Event, history::History as Events};
    use todc_utils::specifications::Specification;

    /// A register with versions, as `todc-utils` wants it: an operation carries its answer.
    struct Versioned;

    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Key {
        value: Option<u8>,
        version: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Told {
        Read(Option<(u8, u64)>),
        Put {
            value: u8,
            version: u64,
        },
        PutIfAbsent {
            value: u8,
            applied: Option<u64>,
        },
        PutIfVersion {
            value: u8,
            wanted: u64,
            applied: Option<u64>,
        },
        Delete {
            applied: Option<u64>,
        },
        /// Values wrap within a digit, so that few distinct ones exist.
        Incr {
            sum: u8,
            version: u64,
        },
    }

    impl Specification for Versioned {
        type State = Key;
        type Operation = Told;

        fn init() -> Key {
            Key { value: None, version: 0 }
        }

        fn apply(told: &Told, key: &Key) -> (bool, Key) {
            let write = |allowed: bool, value: Option<u8>, version: u64| {
                (allowed && version > key.version, Key { value, version })
            };
            let refuse = |refused: bool| (refused, key.clone());
            match *told {
                Told::Read(seen) => refuse(seen == key.value.map(|value| (value, key.version))),
                Told::Put { value, version } => write(true, Some(value), version),
                Told::PutIfAbsent { value, applied: Some(version) } => write(key.value.is_none(), Some(value), version),
                Told::PutIfAbsent { applied: None, .. } => refuse(key.value.is_some()),
                Told::PutIfVersion { value, wanted, applied: Some(version) } => {
                    write(key.value.is_some() && key.version == wanted, Some(value), version)
                }
                Told::PutIfVersion { wanted, applied: None, .. } => {
                    refuse(key.value.is_none() || key.version != wanted)
                }
                Told::Delete { applied: Some(version) } => write(key.value.is_some(), None, version),
                Told::Delete { applied: None } => refuse(key.value.is_none()),
                Told::Incr { sum, version } => write(key.value.unwrap_or(0) + 1 == sum, Some(sum), version),
            }
        }
    }

    impl Told {
        /// The same operation as ours, answered at `at` or open.
        fn ours(self, client: u32, invoked_at: u64, at: Option<u64>) -> Operation {
            let put = |value: u8, condition| {
                let action = Action::Put { value: value.to_string().into(), expires: false };
                Call::Write { condition, action }
            };
            let written = |status, version, number| {
                Reply::Written(Written { status, version, number, decimal: None, existed: None })
            };
            let outcome = |applied: Option<u64>, refusal| match applied {
                Some(version) => written(WriteStatus::Applied, Some(version), None),
                None => written(refusal, None, None),
            };
            let (call, reply) = match self {
                Self::Read(seen) => {
                    let found = |(value, version): (u8, u64)| Found {
                        value: value.to_string().into(),
                        version: Some(version),
                        expires: None,
                    };
                    (Call::Get, Reply::Value(seen.map(found)))
                }
                Self::Put { value, version } => {
                    (put(value, Condition::Always), written(WriteStatus::Applied, Some(version), None))
                }
                Self::PutIfAbsent { value, applied } => {
                    (put(value, Condition::IfAbsent), outcome(applied, WriteStatus::ConditionFailed))
                }
                Self::PutIfVersion { value, wanted, applied } => {
                    (put(value, Condition::IfVersion(wanted)), outcome(applied, WriteStatus::ConditionFailed))
                }
                Self::Delete { applied } => (
                    Call::Write { condition: Condition::Always, action: Action::Delete },
                    outcome(applied, WriteStatus::Missing),
                ),
                Self::Incr { sum, version } => (
                    Call::Write { condition: Condition::Always, action: Action::Incr(1) },
                    written(WriteStatus::Applied, Some(version), Some(sum.into())),
                ),
            };
            let completion = at.map_or(Completion::Open, |at| Completion::Answered { at, reply });
            Operation { client, invoked_at, key: b"k".to_vec(), call, completion }
        }

        /// What an open write may turn out to have answered had it taken effect: any version, any sum.
        fn possible_effects(self) -> Vec<Self> {
            let versions = 1..=12;
            versions
                .flat_map(|version| match self {
                    Self::Read(_) => vec![],
                    Self::Put { value, .. } => vec![Self::Put { value, version }],
                    Self::PutIfAbsent { value, .. } => vec![Self::PutIfAbsent { value, applied: Some(version) }],
                    Self::PutIfVersion { value, wanted, .. } => {
                        vec![Self::PutIfVersion { value, wanted, applied: Some(version) }]
                    }
                    Self::Delete { .. } => vec![Self::Delete { applied: Some(version) }],
                    Self::Incr { .. } => (1..=9).map(|sum| Self::Incr { sum, version }).collect(),
                })
                .collect()
        }
    }

    fn told() -> impl Strategy<Value = Told> {
        let version = || 1..7u64;
        let applied = || prop::option::weighted(0.7, 1..7u64);
        let value = || 1..4u8;
        prop_oneof![
            3 => prop::option::weighted(0.8, (value(), version())).prop_map(Told::Read),
            3 => (value(), version()).prop_map(|(value, version)| Told::Put { value, version }),
            1 => (value(), applied()).prop_map(|(value, applied)| Told::PutIfAbsent { value, applied }),
            1 => (value(), version(), applied())
                .prop_map(|(value, wanted, applied)| Told::PutIfVersion { value, wanted, applied }),
            1 => applied().prop_map(|applied| Told::Delete { applied }),
            2 => (1..4u8, version()).prop_map(|(sum, version)| Told::Incr { sum, version }),
        ]
    }

    /// An operation with its call and answer times; an operation may be open.
    type Timed = (Told, u64, Option<u64>);

    fn theirs(operations: &[Timed]) -> bool {
        let Some(open) = operations.iter().position(|(_, _, at)| at.is_none()) else {
            return theirs_closed(operations);
        };
        // It never takes effect, or it takes effect somehow and is answered after everything else.
        let mut without = operations.to_vec();
        let (told, invoked_at, _) = without.remove(open);
        if theirs(&without) {
            return true;
        }
        told.possible_effects().into_iter().any(|effect| {
            let mut with = without.clone();
            with.push((effect, invoked_at, Some(1_000)));
            theirs(&with)
        })
    }

    fn theirs_closed(operations: &[Timed]) -> bool {
        if operations.is_empty() {
            return true;
        }
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (process, (_, invoked_at, at)) in operations.iter().enumerate() {
            events.push((*invoked_at, false, process));
            events.push((at.expect("closed"), true, process));
        }
        events.sort_unstable();
        let event = |(_, is_return, process): (u64, bool, usize)| {
            let told = operations[process].0;
            (process, if is_return { Event::Response(told) } else { Event::Call(told) })
        };
        WGLChecker::<Versioned>::is_linearizable(Events::from_actions(events.into_iter().map(event).collect()))
    }

    fn ours(operations: &[Timed]) -> (bool, History) {
        let mut history = History::default();
        history.extend((0..).zip(operations).map(|(client, &(told, from, at))| told.ours(client, from, at)));
        (check(&history, Limits::default()).is_linearizable(), history)
    }

    fn timed(open_weight: u32) -> impl Strategy<Value = Timed> {
        let length = prop_oneof![10 => (1..8u64).prop_map(Some), open_weight => Just(None)];
        (told(), 0..16u64, length).prop_map(|(told, from, length)| (told, from, length.map(|length| from + length)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(4_000) })]

        #[test]
        fn small_histories_are_judged_alike(operations in prop::collection::vec(timed(0), 1..7)) {
            let (verdict, history) = ours(&operations);
            prop_assert_eq!(verdict, theirs(&operations), "{}", history);
        }

        #[test]
        fn also_with_open_operations(operations in prop::collection::vec(timed(2), 1..6)) {
            prop_assume!(operations.iter().filter(|(_, _, at)| at.is_none()).count() <= 2);
            let (verdict, history) = ours(&operations);
            prop_assert_eq!(verdict, theirs(&operations), "{}", history);
        }
    }

    #[test]
    fn both_verdicts_are_common_among_small_histories() {
        // Else the comparison above would compare little.
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = prop::collection::vec(timed(0), 1..7);
        let accepted = (0..2_000)
            .filter(|_| ours(&strategy.new_tree(&mut runner).expect("the strategy rejects nothing").current()).0)
            .count();
        assert!((200..1_800).contains(&accepted), "{accepted} of 2000 small histories are linearizable");
    }
}
