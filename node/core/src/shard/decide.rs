//! What one mutation does to a key, given the state that the key is in.

use crate::seeded::{Bug, planted};
use crate::store::{ReadError, StoredRecord};
use bytes::Bytes;
use kvorum_protocol::limits::VALUE_BYTES_MAX;
use kvorum_protocol::{Action, Condition, ErrorCode, Mutation, ReturnPrevious, ServerError, TimeToLive, Version};

/// Longest previous value that an answer may hold, in bytes: the answer is kept in the log for the sake of retries.
pub(super) const PREVIOUS_BYTES_MAX: usize = 64 * 1024;
/// Longest decimal form of a 64-bit integer.
const INTEGER_BYTES_MAX: usize = 20;

/// A key's state, as of everything that was proposed before. Its value is read when it is needed, and not before.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) value: Value,
    pub(super) version: Version,
    pub(super) expires_at_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// In memory.
    Here(Bytes),
    /// In the log.
    Stored(StoredRecord),
}

impl State {
    pub(super) fn value_bytes(&self) -> usize {
        match &self.value {
            Value::Here(value) => value.len(),
            Value::Stored(record) => record.value_bytes(),
        }
    }
}

impl Value {
    pub(super) fn read(&self) -> Result<Bytes, ReadError> {
        match self {
            Self::Here(value) => Ok(value.clone()),
            Self::Stored(record) => record.read().map(|found| found.entry.value),
        }
    }
}

/// What a mutation does.
pub(super) enum WriteDecision {
    ConditionFailed,
    Missing,
    Write { value: Option<NewValue>, expires_at_ms: Option<u64>, number: Option<i64> },
}

/// A value that a mutation writes, in terms of the one that is there.
pub(super) enum NewValue {
    Given(Bytes),
    Unchanged,
    Appended(Bytes),
}

/// How long what a mutation writes and returns is, in bytes.
pub(super) struct Size {
    pub(super) written: usize,
    pub(super) previous: usize,
}

impl Size {
    pub(super) fn of(mutation: &Mutation, before: Option<&State>, decision: &WriteDecision) -> Self {
        let there = before.map_or(0, State::value_bytes);
        let written = match decision {
            WriteDecision::ConditionFailed | WriteDecision::Missing => 0,
            WriteDecision::Write { value, .. } => {
                let value = value.as_ref().map_or(0, |value| match value {
                    NewValue::Given(value) => value.len(),
                    NewValue::Unchanged => there,
                    NewValue::Appended(value) => there + value.len(),
                });
                mutation.key.len() + value
            }
        };
        Self { written, previous: if mutation.return_previous == ReturnPrevious::Entry { there } else { 0 } }
    }
}

/// Why a mutation is not decided.
#[derive(Debug)]
pub(super) enum Refusal {
    /// For the client.
    Error(ServerError),
    /// The value that it depends on can't be read.
    Unreadable(ReadError),
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        Self::Error(error)
    }
}

/// Decides one mutation. Pure, but that INCR reads the number that is there.
pub(super) fn decide(mutation: &Mutation, before: Option<&State>, now_ms: u64) -> Result<WriteDecision, Refusal> {
    // The answer to a condition that fails holds it as well.
    if mutation.return_previous == ReturnPrevious::Entry
        && before.is_some_and(|state| state.value_bytes() > PREVIOUS_BYTES_MAX)
    {
        let detail =
            format!("the previous value is over {PREVIOUS_BYTES_MAX} bytes and can't be returned with a write");
        return Err(ServerError::new(ErrorCode::TooLarge, detail).into());
    }
    if !holds(mutation.condition, before) {
        return Ok(WriteDecision::ConditionFailed);
    }
    let keep = before.and_then(|state| state.expires_at_ms);
    let write =
        |value: Option<NewValue>, expires_at_ms, number| Ok(WriteDecision::Write { value, expires_at_ms, number });
    match (&mutation.action, before) {
        (Action::Put { value, ttl }, _) => {
            let expires_at_ms = match ttl {
                TimeToLive::Forever => None,
                TimeToLive::Ms(ms) => Some(now_ms + ms),
                TimeToLive::Keep => keep.filter(|_| !planted(Bug::KeepTtlForgets)),
            };
            write(Some(NewValue::Given(value.clone())), expires_at_ms, None)
        }
        (Action::Incr { by }, _) => {
            let number = add(before, *by)?;
            write(Some(NewValue::Given(number.to_string().into())), keep, Some(number))
        }
        (Action::Append { value }, _) => {
            let length = before.map_or(0, State::value_bytes) + value.len();
            if length > VALUE_BYTES_MAX {
                let detail = format!("the value would be {length} bytes long, the limit is {VALUE_BYTES_MAX}");
                return Err(ServerError::new(ErrorCode::TooLarge, detail).into());
            }
            write(Some(NewValue::Appended(value.clone())), keep, Some(length as i64))
        }
        (Action::Delete | Action::Expire { .. } | Action::Persist, None) => Ok(WriteDecision::Missing),
        (Action::Delete, Some(_)) => write(None, None, None),
        (Action::Expire { ttl_ms }, Some(_)) => write(Some(NewValue::Unchanged), Some(now_ms + ttl_ms), None),
        (Action::Persist, Some(state)) if state.expires_at_ms.is_none() => Ok(WriteDecision::Missing),
        (Action::Persist, Some(_)) => write(Some(NewValue::Unchanged), None, None),
    }
}

pub(super) fn holds(condition: Condition, before: Option<&State>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
        Condition::IfVersion(version) => before.is_some_and(|state| state.version == version),
        Condition::IfAbsentOrVersion(version) => {
            before.is_none_or(|state| state.version == version || planted(Bug::AbsentOrVersionUnchecked))
        }
    }
}

fn add(before: Option<&State>, by: i64) -> Result<i64, Refusal> {
    let current = match before {
        None => 0,
        Some(state) => {
            // No longer value is read to find that it is none.
            let is_short = state.value_bytes() <= INTEGER_BYTES_MAX;
            let value = if is_short { state.value.read().map_err(Refusal::Unreadable)? } else { Bytes::new() };
            parse_integer(&value)
                .ok_or_else(|| ServerError::new(ErrorCode::NotAnInteger, "the value is not a decimal 64-bit integer"))?
        }
    };
    let sum = current.checked_add(by).ok_or_else(|| {
        ServerError::new(ErrorCode::IntegerOverflow, format!("{current} + {by} is past the range of a 64-bit integer"))
    });
    Ok(sum?)
}

/// A decimal integer in its one canonical form, as INCR writes it: no sign but `-`, no leading zeros.
fn parse_integer(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, version: u64, expires_at_ms: Option<u64>) -> State {
        let value = Value::Here(Bytes::copy_from_slice(value.as_bytes()));
        State { value, version: Version(version), expires_at_ms }
    }

    fn mutation(condition: Condition, action: Action) -> Mutation {
        Mutation { key: "k".into(), condition, return_previous: ReturnPrevious::Nothing, action }
    }

    /// The decision as text: what is written, until when, and the number that is answered.
    fn decided(condition: Condition, action: Action, before: Option<&State>) -> String {
        match decide(&mutation(condition, action), before, 1000) {
            Err(Refusal::Error(error)) => format!("{}", error.code),
            Err(Refusal::Unreadable(error)) => panic!("{error}"),
            Ok(WriteDecision::ConditionFailed) => "condition failed".into(),
            Ok(WriteDecision::Missing) => "missing".into(),
            Ok(WriteDecision::Write { value, expires_at_ms, number }) => {
                let there = || before.map_or(Bytes::new(), |state| state.value.read().unwrap());
                let value = value.map(|value| match value {
                    NewValue::Given(value) => value.to_vec(),
                    NewValue::Unchanged => there().to_vec(),
                    NewValue::Appended(value) => [there(), value].concat(),
                });
                let value = value.map(|value| String::from_utf8(value).unwrap());
                format!("{value:?} until {expires_at_ms:?} number {number:?}")
            }
        }
    }

    #[test]
    fn actions_do_what_they_say() {
        use Condition::Always;
        let put = |ttl| Action::Put { value: "new".into(), ttl };
        let old = entry("old", 5, Some(2000));
        assert_eq!(decided(Always, put(TimeToLive::Forever), Some(&old)), r#"Some("new") until None number None"#);
        assert_eq!(decided(Always, put(TimeToLive::Ms(10)), None), r#"Some("new") until Some(1010) number None"#);
        let keep = || put(TimeToLive::Keep);
        assert_eq!(decided(Always, keep(), Some(&old)), r#"Some("new") until Some(2000) number None"#);
        assert_eq!(decided(Always, keep(), None), r#"Some("new") until None number None"#);
        assert_eq!(decided(Always, keep(), Some(&entry("old", 5, None))), r#"Some("new") until None number None"#);
        assert_eq!(decided(Always, Action::Delete, Some(&old)), "None until None number None");
        assert_eq!(decided(Always, Action::Delete, None), "missing");
        assert_eq!(
            decided(Always, Action::Append { value: "er".into() }, Some(&old)),
            r#"Some("older") until Some(2000) number Some(5)"#
        );
        assert_eq!(
            decided(Always, Action::Expire { ttl_ms: 7 }, Some(&old)),
            r#"Some("old") until Some(1007) number None"#
        );
        assert_eq!(decided(Always, Action::Persist, Some(&old)), r#"Some("old") until None number None"#);
        assert_eq!(decided(Always, Action::Persist, Some(&entry("old", 5, None))), "missing");
        assert_eq!(decided(Always, Action::Expire { ttl_ms: 7 }, None), "missing");
    }

    #[test]
    fn incr_adds_and_refuses_what_is_no_integer() {
        let incr = |by| Action::Incr { by };
        assert_eq!(decided(Condition::Always, incr(3), None), r#"Some("3") until None number Some(3)"#);
        let five = entry("5", 1, Some(9000));
        assert_eq!(decided(Condition::Always, incr(-7), Some(&five)), r#"Some("-2") until Some(9000) number Some(-2)"#);
        for bad in ["five", "", "+5", "05", " 5", "5.0", "99999999999999999999"] {
            assert_eq!(decided(Condition::Always, incr(1), Some(&entry(bad, 1, None))), "NotAnInteger", "{bad:?}");
        }
        let top = entry(&i64::MAX.to_string(), 1, None);
        assert_eq!(decided(Condition::Always, incr(1), Some(&top)), "IntegerOverflow");
    }

    #[test]
    fn conditions_hold_or_fail() {
        let put = || Action::Put { value: "new".into(), ttl: TimeToLive::Forever };
        let old = entry("old", 5, None);
        for (condition, absent, present) in [
            (Condition::Always, true, true),
            (Condition::IfAbsent, true, false),
            (Condition::IfPresent, false, true),
            (Condition::IfVersion(Version(5)), false, true),
            (Condition::IfVersion(Version(4)), false, false),
            (Condition::IfAbsentOrVersion(Version(5)), true, true),
            (Condition::IfAbsentOrVersion(Version(4)), true, false),
        ] {
            assert_eq!(decided(condition, put(), None) != "condition failed", absent, "{condition:?} absent");
            assert_eq!(decided(condition, put(), Some(&old)) != "condition failed", present, "{condition:?} present");
        }
    }
}
