//! The checker against a definition of linearizability with expiry that a reader can check: every order of the operations
//! that time allows is tried, on the set of all states that the key may be in. And how long long histories take.

use kvorum_sim::checker::{
    Action, Call, Completion, Condition, Found, History, Limits, Operation, Reply, WriteStatus, Written, check,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

/// A key that exists: its value, its version, and whether it has a time to live.
type Entry = (i64, u64, bool);
/// A key, and the highest version that it had.
type Key = (Option<Entry>, u64);

/// Versions that a write may be given where the history is small.
const VERSION_MAX: u64 = 9;

/// Every key that an operation of this call and answer may leave behind.
fn outcomes(key: Key, operation: &Operation) -> Vec<Key> {
    let (entry, highest) = key;
    let Call::Write { condition, action } = &operation.call else {
        let Completion::Answered { reply: Reply::Value(found), .. } = &operation.completion else { return vec![key] };
        let same = match (found, entry) {
            (None, None) => true,
            (Some(found), Some((value, version, expires))) => {
                found.value == value.to_string().into_bytes()
                    && found.version.is_none_or(|told| told == version)
                    && found.expires.is_none_or(|told| told == expires)
            }
            _ => false,
        };
        return if same { vec![key] } else { Vec::new() };
    };
    let told = match &operation.completion {
        Completion::Answered { reply: Reply::Written(written), .. } => Some(written),
        _ => None,
    };
    let holds = match condition {
        Condition::Always => true,
        Condition::IfAbsent => entry.is_none(),
        Condition::IfPresent => entry.is_some(),
        Condition::IfVersion(wanted) => entry.is_some_and(|(_, version, _)| version == *wanted),
        Condition::IfAbsentOrVersion(wanted) => entry.is_none_or(|(_, version, _)| version == *wanted),
        Condition::IfEquals(wanted) => entry.is_some_and(|(value, ..)| value.to_string().as_bytes() == wanted),
    };
    if told.and_then(|told| told.existed).is_some_and(|existed| existed != entry.is_some()) {
        return Vec::new();
    }
    let idle = |status: WriteStatus| {
        let same = told.is_none_or(|told| {
            told.status == status && told.version.is_none_or(|told| told == entry.map_or(0, |(_, version, _)| version))
        });
        if same { vec![key] } else { Vec::new() }
    };
    if !holds {
        return idle(WriteStatus::ConditionFailed);
    }
    let (value, expires, number) = match (action, entry) {
        (Action::Delete | Action::Expire | Action::Persist, None) => return idle(WriteStatus::Missing),
        (Action::Persist, Some((_, _, false))) => return idle(WriteStatus::Missing),
        (Action::Put { value, expires }, _) => {
            (Some(String::from_utf8_lossy(value).parse().expect("a number")), *expires, None)
        }
        (Action::PutKeeping(value), _) => {
            let value = String::from_utf8_lossy(value).parse().expect("a number");
            (Some(value), entry.is_some_and(|entry| entry.2), None)
        }
        (Action::Delete, Some(_)) => (None, false, None),
        (Action::Incr(by), None) => (Some(*by), false, Some(*by)),
        (Action::Incr(by), Some((value, _, expires))) => (Some(value + by), expires, Some(value + by)),
        (Action::Expire, Some((value, _, _))) => (Some(value), true, None),
        (Action::Persist, Some((value, _, true))) => (Some(value), false, None),
        (Action::Append(_) | Action::SetRange { .. } | Action::SetBit { .. } | Action::IncrQuarters(_), _) => {
            panic!("numbers only")
        }
        (Action::ExpireIf(_), _) => panic!("none is drawn"),
    };
    if told.is_some_and(|told| {
        told.status != WriteStatus::Applied || told.number.is_some() && number.is_some() && told.number != number
    }) {
        return Vec::new();
    }
    (highest + 1..=VERSION_MAX)
        .filter(|version| told.and_then(|told| told.version).is_none_or(|told| told == *version))
        .map(|version| (value.map(|value| (value, version, expires)), version))
        .collect()
}

/// Whether some order of the operations that are left explains their answers, from one of `keys` on.
fn explained(keys: &[Key], left: &[&Operation]) -> bool {
    if keys.is_empty() {
        return false;
    }
    let Some(first_return) = left.iter().filter_map(|operation| operation.returned_at()).min() else { return true };
    let mut keys = keys.to_vec();
    // Any value that has a time to live may vanish now.
    let vanished: Vec<Key> =
        keys.iter().filter(|(entry, _)| entry.is_some_and(|entry| entry.2)).map(|key| (None, key.1)).collect();
    keys.extend(vanished);
    keys.sort_unstable();
    keys.dedup();
    (0..left.len()).any(|position| {
        if left[position].invoked_at > first_return {
            return false;
        }
        let mut rest = left.to_vec();
        let operation = rest.remove(position);
        let mut after: Vec<Key> = keys.iter().flat_map(|key| outcomes(*key, operation)).collect();
        if matches!(operation.completion, Completion::AppliedUnseen { .. }) {
            // It is known to have had an effect, so it was given a new version.
            after =
                keys.iter().flat_map(|key| outcomes(*key, operation).into_iter().filter(|to| to.1 > key.1)).collect();
        }
        after.sort_unstable();
        after.dedup();
        explained(&after, &rest)
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..3u32, any::<bool>())
            .prop_map(|(value, expires)| Action::Put { value: value.to_string().into_bytes(), expires }),
        2 => (1..3u32).prop_map(|value| Action::PutKeeping(value.to_string().into_bytes())),
        1 => Just(Action::Delete),
        2 => Just(Action::Incr(1)),
        2 => Just(Action::Expire),
        2 => Just(Action::Persist),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
        1 => (1..5u64).prop_map(Condition::IfVersion),
        1 => (1..5u64).prop_map(Condition::IfAbsentOrVersion),
    ]
}

fn told_version() -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(0.5, 1..5u64)
}

/// A write and an answer that could be one to it.
fn write() -> impl Strategy<Value = (Call, Reply)> {
    let existed = prop::option::weighted(0.3, any::<bool>());
    (condition(), action(), 0..10u32, told_version(), prop::option::weighted(0.5, 1..4i64), existed).prop_map(
        |(condition, action, luck, version, number, existed)| {
            let status = match (luck, &action, &condition) {
                (0..2, Action::Delete | Action::Expire | Action::Persist, _) => WriteStatus::Missing,
                (2..4, _, Condition::IfAbsent | Condition::IfPresent | Condition::IfVersion(_)) => {
                    WriteStatus::ConditionFailed
                }
                _ => WriteStatus::Applied,
            };
            let version = if status != WriteStatus::Applied && luck % 2 == 0 { Some(0) } else { version };
            let number = number.filter(|_| status == WriteStatus::Applied && matches!(action, Action::Incr(_)));
            (
                Call::Write { condition, action },
                Reply::Written(Written { status, version, number, decimal: None, existed }),
            )
        },
    )
}

fn read() -> impl Strategy<Value = (Call, Reply)> {
    let found = (1..4i64, told_version(), prop::option::of(any::<bool>()))
        .prop_map(|(value, version, expires)| Found { value: value.to_string().into_bytes(), version, expires });
    prop::option::weighted(0.6, found).prop_map(|found| (Call::Get, Reply::Value(found)))
}

fn operation() -> impl Strategy<Value = Operation> {
    let call = prop_oneof![5 => write(), 3 => read()];
    (call, 0..16u64, 1..8u64, 0..12u32).prop_map(|((call, reply), invoked_at, length, fate)| {
        let is_write = call != Call::Get;
        let completion = match fate {
            0 if is_write => Completion::Open,
            1 if is_write => Completion::AppliedUnseen { at: invoked_at + length },
            _ => Completion::Answered { at: invoked_at + length, reply },
        };
        Operation { client: 1, invoked_at, key: b"k".to_vec(), call, completion }
    })
}

fn is_accepted(operations: &[Operation]) -> (bool, History) {
    let mut history = History::default();
    history.extend(operations.iter().cloned());
    (check(&history, Limits::default()).is_linearizable(), history)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn small_histories_are_judged_as_defined(operations in prop::collection::vec(operation(), 1..6)) {
        let (accepted, history) = is_accepted(&operations);
        let left: Vec<&Operation> = operations.iter().collect();
        prop_assert_eq!(accepted, explained(&[(None, 0)], &left), "{}", history);
    }
}

#[test]
fn both_verdicts_are_common_among_small_histories() {
    // Else the comparison above would compare little.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(operation(), 1..6);
    let accepted = (0..2_000)
        .filter(|_| is_accepted(&strategy.new_tree(&mut runner).expect("the strategy rejects nothing").current()).0)
        .count();
    assert!((200..1_800).contains(&accepted), "{accepted} of 2000 small histories are linearizable");
}

/// What a store of `keys` keys answers to 12 clients whose operations overlap, a tenth of the values expiring. `open` of the
/// operations are never answered, each of which may have had its effect.
fn long_history(seed: u64, operations: u64, keys: usize, open: u64) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut store: Vec<Key> = vec![(None, 0); keys];
    let mut history = History::default();
    for number in 0..operations {
        let index = random.random_range(0..keys);
        let (entry, highest) = store[index];
        let entry = entry.filter(|entry| !(entry.2 && random.random_ratio(1, 20)));
        let value = i64::try_from(number).expect("small");
        let version = highest + 1 + random.random_range(0..5);
        let existed = random.random_bool(0.3).then_some(entry.is_some());
        let written = |number| {
            Reply::Written(Written {
                status: WriteStatus::Applied,
                version: Some(version),
                number,
                decimal: None,
                existed,
            })
        };
        let missing = Reply::Written(Written {
            status: WriteStatus::Missing,
            version: Some(0),
            number: None,
            decimal: None,
            existed,
        });
        let put = |condition, expires| Call::Write {
            condition,
            action: Action::Put { value: value.to_string().into_bytes(), expires },
        };
        let write = |action| Call::Write { condition: Condition::Always, action };
        let (call, reply, after) = match random.random_range(0..10) {
            0..4 => {
                let found = entry.map(|(value, version, expires)| Found {
                    value: value.to_string().into_bytes(),
                    version: Some(version),
                    expires: Some(expires),
                });
                (Call::Get, Reply::Value(found), entry)
            }
            4 | 5 => {
                let expires = random.random_ratio(1, 3);
                if random.random_ratio(1, 4) {
                    let keeping = Action::PutKeeping(value.to_string().into_bytes());
                    let after = (value, version, entry.is_some_and(|entry| entry.2));
                    (write(keeping), written(None), Some(after))
                } else {
                    (put(Condition::Always, expires), written(None), Some((value, version, expires)))
                }
            }
            6 => match entry {
                Some((value, _, true)) => (write(Action::Persist), written(None), Some((value, version, false))),
                Some((_, version, false)) => {
                    let idle = Written {
                        status: WriteStatus::Missing,
                        version: Some(version),
                        number: None,
                        decimal: None,
                        existed,
                    };
                    (write(Action::Persist), Reply::Written(idle), entry)
                }
                None => (write(Action::Persist), missing, None),
            },
            7 => match entry {
                None => (put(Condition::IfAbsent, false), written(None), Some((value, version, false))),
                Some((_, seen, _)) => {
                    (put(Condition::IfVersion(seen), false), written(None), Some((value, version, false)))
                }
            },
            8 => match entry {
                None => (write(Action::Expire), missing, None),
                Some((value, _, _)) => (write(Action::Expire), written(None), Some((value, version, true))),
            },
            _ => match entry {
                None => (write(Action::Delete), missing, None),
                Some(_) => (write(Action::Delete), written(None), None),
            },
        };
        let invoked_at = number * 10 + 1_000 - random.random_range(0..120);
        let at = number * 10 + 1_000 + random.random_range(0..120);
        let is_open = number % (operations / open) == 0;
        let highest = if after == entry { highest } else { version };
        // An operation that was lost on its way has no effect.
        store[index] = if is_open && random.random() { (entry, store[index].1) } else { (after, highest) };
        let completion = if is_open { Completion::Open } else { Completion::Answered { at, reply } };
        history.push(Operation {
            client: u32::try_from(number % 12).expect("small"),
            invoked_at,
            key: format!("k{index}").into_bytes(),
            call,
            completion,
        });
    }
    history
}

#[test]
fn the_history_of_a_simulation_is_judged_in_milliseconds() {
    // The limit is for unoptimised code on a busy machine; it is there for a search that explodes.
    const SLOWEST: Duration = Duration::from_millis(500);
    for (what, operations, keys, open) in [
        ("many keys", 1_500, 20, 30),
        ("few keys", 1_500, 2, 30),
        ("many open operations", 1_500, 20, 300),
        ("one key", 2_000, 1, 200),
    ] {
        let mut slowest = Duration::ZERO;
        for seed in 0..20 {
            let history = long_history(seed, operations, keys, open);
            let began = Instant::now();
            let verdict = check(&history, Limits::default());
            slowest = slowest.max(began.elapsed());
            assert!(verdict.is_linearizable(), "{what}, seed {seed}: {verdict:?}");
        }
        println!("{what}: at most {slowest:?}");
        assert!(slowest < SLOWEST, "{what} took {slowest:?}");
    }
}
