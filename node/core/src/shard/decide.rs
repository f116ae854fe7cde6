//! What one mutation does to a key, given the state that the key is in.

use super::decimal::{self, NoSum};
use crate::seeded::{Bug, planted};
use crate::store::{ReadError, StoredRecord};
use bytes::Bytes;
use kvorum_protocol::limits::{DECIMAL_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{
    Action, Condition, ErrorCode, ExpireWhen, Mutation, ReturnPrevious, ServerError, TimeToLive, Version,
};

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
    Write { value: Option<NewValue>, expires_at_ms: Option<u64>, number: Option<i64>, decimal: Option<Bytes> },
}

/// A value that a mutation writes, in terms of the one that is there.
pub(super) enum NewValue {
    Given(Bytes),
    Unchanged,
    Appended(Bytes),
    /// With these bytes in it from this offset on, and zeros between its end and them.
    Overwritten {
        offset: usize,
        bytes: Bytes,
    },
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
                    NewValue::Overwritten { offset, bytes } => there.max(offset + bytes.len()),
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

/// Whether the decision depends on a value that is there and may be long: it is best read before, within the entry's bounds.
pub(super) fn depends_on_value(condition: &Condition, action: Option<&Action>, state: &State) -> bool {
    let is_compared = matches!(condition, Condition::IfEquals(value) if value.len() == state.value_bytes());
    is_compared || matches!(action, Some(Action::SetBit { .. }))
}

/// Decides one mutation. Pure, but that it reads the number that is there, and what [`depends_on_value`] tells if that was not
/// read before.
pub(super) fn decide(mutation: &Mutation, before: Option<&State>, now_ms: u64) -> Result<WriteDecision, Refusal> {
    // The answer to a condition that fails holds it as well.
    if mutation.return_previous == ReturnPrevious::Entry
        && before.is_some_and(|state| state.value_bytes() > PREVIOUS_BYTES_MAX)
    {
        let detail =
            format!("the previous value is over {PREVIOUS_BYTES_MAX} bytes and can't be returned with a write");
        return Err(ServerError::new(ErrorCode::TooLarge, detail).into());
    }
    if !holds(&mutation.condition, before)? {
        return Ok(WriteDecision::ConditionFailed);
    }
    let keep = before.and_then(|state| state.expires_at_ms);
    let write = |value: Option<NewValue>, expires_at_ms, number| {
        Ok(WriteDecision::Write { value, expires_at_ms, number, decimal: None })
    };
    match (&mutation.action, before) {
        (Action::Put { value, ttl }, _) => {
            let expires_at_ms = match ttl {
                TimeToLive::Forever => None,
                TimeToLive::Ms(ms) => Some(now_ms + ms),
                TimeToLive::Until(at_ms) if planted(Bug::UntilTakenForDuration) => {
                    Some(within_reach(now_ms.saturating_add(*at_ms), now_ms))
                }
                TimeToLive::Until(at_ms) => Some(within_reach(*at_ms, now_ms)),
                TimeToLive::Keep => keep.filter(|_| !planted(Bug::KeepTtlForgets)),
            };
            write(Some(NewValue::Given(value.clone())), expires_at_ms, None)
        }
        (Action::Incr { by }, _) => {
            let number = add(before, *by)?;
            write(Some(NewValue::Given(number.to_string().into())), keep, Some(number))
        }
        (Action::Append { value }, _) => {
            let length = fitting((before.map_or(0, State::value_bytes) + value.len()) as u64)?;
            write(Some(NewValue::Appended(value.clone())), keep, Some(length as i64))
        }
        (Action::SetRange { offset, value }, _) => {
            let end = fitting(offset.saturating_add(value.len() as u64))?;
            let length = end.max(before.map_or(0, State::value_bytes));
            let bytes = Bytes::clone(value);
            write(Some(NewValue::Overwritten { offset: end - value.len(), bytes }), keep, Some(length as i64))
        }
        (Action::SetBit { offset, bit }, _) => {
            let at = fitting((offset / 8).saturating_add(1))? - 1;
            let mask = 0x80_u8 >> (offset % 8);
            let there = match before.filter(|state| state.value_bytes() > at) {
                Some(state) => state.value.read().map_err(Refusal::Unreadable)?[at],
                None => 0,
            };
            let byte = if *bit { there | mask } else { there & !mask };
            let bytes = Bytes::copy_from_slice(&[byte]);
            let was = i64::from(there & mask != 0);
            write(Some(NewValue::Overwritten { offset: at, bytes }), keep, Some(was))
        }
        (Action::IncrDecimal { by }, _) => {
            let decimal: Bytes = add_decimal(before, by)?.into();
            let value = Some(NewValue::Given(decimal.clone()));
            Ok(WriteDecision::Write { value, expires_at_ms: keep, number: None, decimal: Some(decimal) })
        }
        (
            Action::Delete
            | Action::Expire { .. }
            | Action::ExpireIf { .. }
            | Action::ExpireAt { .. }
            | Action::Persist,
            None,
        ) => Ok(WriteDecision::Missing),
        (Action::ExpireIf { ttl_ms, when }, Some(state)) => {
            let at_ms = now_ms + ttl_ms;
            match (is_wanted(*when, state.expires_at_ms, at_ms), ttl_ms) {
                (false, _) => Ok(WriteDecision::ConditionFailed),
                (true, 0) => write(None, None, None),
                (true, _) => write(Some(NewValue::Unchanged), Some(at_ms), None),
            }
        }
        (Action::ExpireAt { at_ms, when }, Some(state)) => {
            let expires_at_ms = within_reach(*at_ms, now_ms);
            let is_refused = when.is_some_and(|when| !is_wanted(when, state.expires_at_ms, expires_at_ms));
            if is_refused && !planted(Bug::ExpireAtUnconditional) {
                return Ok(WriteDecision::ConditionFailed);
            }
            let is_over = *at_ms <= now_ms && planted(Bug::PastExpiryIgnored);
            write(Some(NewValue::Unchanged), Some(expires_at_ms).filter(|_| !is_over), None)
        }
        (Action::Delete, Some(_)) => write(None, None, None),
        (Action::Expire { ttl_ms }, Some(_)) => write(Some(NewValue::Unchanged), Some(now_ms + ttl_ms), None),
        (Action::Persist, Some(state)) if state.expires_at_ms.is_none() => Ok(WriteDecision::Missing),
        (Action::Persist, Some(_)) => write(Some(NewValue::Unchanged), None, None),
    }
}

/// A time of expiry, or the nearest one that is not over and no longer away than a time to live may be.
fn within_reach(at_ms: u64, now_ms: u64) -> u64 {
    at_ms.clamp(now_ms + 1, now_ms + TTL_MS_MAX)
}

/// Whether a new time of expiry is wanted, by the one that the key has.
fn is_wanted(when: ExpireWhen, has: Option<u64>, at_ms: u64) -> bool {
    match when {
        ExpireWhen::None => has.is_none(),
        ExpireWhen::Some => has.is_some(),
        ExpireWhen::Longer => has.is_some_and(|has| at_ms > has),
        ExpireWhen::Shorter => has.is_none_or(|has| at_ms < has),
        ExpireWhen::SomeAndShorter => has.is_some_and(|has| at_ms < has),
    }
}

pub(super) fn holds(condition: &Condition, before: Option<&State>) -> Result<bool, Refusal> {
    Ok(match condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
        Condition::IfVersion(version) => before.is_some_and(|state| state.version == *version),
        Condition::IfAbsentOrVersion(version) => {
            before.is_none_or(|state| state.version == *version || planted(Bug::AbsentOrVersionUnchecked))
        }
        Condition::IfEquals(value) => match before.filter(|state| state.value_bytes() == value.len()) {
            Some(state) => state.value.read().map_err(Refusal::Unreadable)? == value || planted(Bug::EqualByLength),
            None => false,
        },
    })
}

/// The length of a value, if it may be as long.
fn fitting(length: u64) -> Result<usize, Refusal> {
    match usize::try_from(length) {
        Ok(length) if length <= VALUE_BYTES_MAX => Ok(length),
        _ => {
            let detail = format!("the value would be {length} bytes long, the limit is {VALUE_BYTES_MAX}");
            Err(ServerError::new(ErrorCode::TooLarge, detail).into())
        }
    }
}

fn add_decimal(before: Option<&State>, by: &[u8]) -> Result<String, Refusal> {
    let not_a_decimal = || {
        let detail = "the value, or what is to be added, is not a decimal number";
        Refusal::Error(ServerError::new(ErrorCode::NotADecimal, detail))
    };
    let current = match before {
        None => Bytes::from_static(b"0"),
        // No longer value is read to find that it is none.
        Some(state) if state.value_bytes() > DECIMAL_BYTES_MAX => return Err(not_a_decimal()),
        Some(state) => state.value.read().map_err(Refusal::Unreadable)?,
    };
    decimal::add(&current, by).map_err(|why| match why {
        NoSum::NotADecimal => not_a_decimal(),
        NoSum::NotFinite => {
            let detail = "the sum of the decimal numbers is past what 64-bit floating point holds";
            ServerError::new(ErrorCode::IntegerOverflow, detail).into()
        }
    })
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
            Ok(WriteDecision::Write { value, expires_at_ms, number, decimal }) => {
                let there = || before.map_or(Bytes::new(), |state| state.value.read().unwrap());
                let value = value.map(|value| match value {
                    NewValue::Given(value) => value.to_vec(),
                    NewValue::Unchanged => there().to_vec(),
                    NewValue::Appended(value) => [there(), value].concat(),
                    NewValue::Overwritten { offset, bytes } => {
                        let mut value = there().to_vec();
                        value.resize(value.len().max(offset + bytes.len()), 0);
                        value[offset..offset + bytes.len()].copy_from_slice(&bytes);
                        value
                    }
                });
                let value = value.map(|value| String::from_utf8(value).unwrap());
                let decimal = decimal.map_or(String::new(), |decimal| format!(" decimal {decimal:?}"));
                format!("{value:?} until {expires_at_ms:?} number {number:?}{decimal}")
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
    fn a_time_of_expiry_is_kept_as_it_was_given() {
        use Condition::Always;
        let old = entry("old", 5, Some(2000));
        let put = |at_ms| Action::Put { value: "new".into(), ttl: TimeToLive::Until(at_ms) };
        let expire = |at_ms, when| Action::ExpireAt { at_ms, when };
        let until = |at_ms: u64| format!(r#"Some("old") until Some({at_ms}) number None"#);
        assert_eq!(decided(Always, put(1234), None), r#"Some("new") until Some(1234) number None"#);
        assert_eq!(decided(Always, expire(1234, None), Some(&old)), until(1234));
        assert_eq!(decided(Always, expire(999, None), Some(&old)), until(1001), "over by this shard's time");
        assert_eq!(decided(Always, expire(u64::MAX >> 16, None), Some(&old)), until(1000 + TTL_MS_MAX));
        assert_eq!(decided(Always, expire(1999, Some(ExpireWhen::Shorter)), Some(&old)), until(1999));
        assert_eq!(decided(Always, expire(2000, Some(ExpireWhen::Shorter)), Some(&old)), "condition failed");
        assert_eq!(decided(Always, expire(1234, None), None), "missing");
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
            (Condition::IfEquals("old".into()), false, true),
            (Condition::IfEquals("odd".into()), false, false),
            (Condition::IfEquals("older".into()), false, false),
        ] {
            let decided = |before| decided(condition.clone(), put(), before);
            assert_eq!(decided(None) != "condition failed", absent, "{condition:?} absent");
            assert_eq!(decided(Some(&old)) != "condition failed", present, "{condition:?} present");
        }
        let empty = entry("", 5, None);
        assert!(decided(Condition::IfEquals("".into()), put(), Some(&empty)).starts_with("Some"));
        assert_eq!(decided(Condition::IfEquals("".into()), put(), None), "condition failed");
    }

    #[test]
    fn parts_of_a_value_are_overwritten_and_the_gap_is_zeros() {
        let range = |offset, value: &'static str| Action::SetRange { offset, value: value.into() };
        let old = entry("old", 5, Some(2000));
        let decided = |action, before| decided(Condition::Always, action, before);
        assert_eq!(decided(range(1, "LD"), Some(&old)), r#"Some("oLD") until Some(2000) number Some(3)"#);
        assert_eq!(decided(range(2, "der"), Some(&old)), r#"Some("older") until Some(2000) number Some(5)"#);
        assert_eq!(decided(range(4, "x"), Some(&old)), r#"Some("old\0x") until Some(2000) number Some(5)"#);
        assert_eq!(decided(range(1, "x"), None), r#"Some("\0x") until None number Some(2)"#);
        let max = VALUE_BYTES_MAX as u64;
        assert!(decided(range(max - 1, "x"), None).ends_with(&format!("number Some({max})")));
        for offset in [max, max + 1, u64::MAX] {
            assert_eq!(decided(range(offset, "x"), None), "TooLarge", "{offset}");
        }
    }

    #[test]
    fn a_bit_is_set_and_what_it_was_is_answered() {
        let set = |offset, bit| Action::SetBit { offset, bit };
        let decided = |action, before| decided(Condition::Always, action, before);
        let old = entry("A", 5, Some(2000));
        assert_eq!(decided(set(6, true), Some(&old)), r#"Some("C") until Some(2000) number Some(0)"#);
        assert_eq!(decided(set(7, false), Some(&old)), r#"Some("@") until Some(2000) number Some(1)"#);
        assert_eq!(decided(set(7, true), Some(&old)), r#"Some("A") until Some(2000) number Some(1)"#);
        assert_eq!(decided(set(9, true), Some(&old)), r#"Some("A@") until Some(2000) number Some(0)"#);
        assert_eq!(decided(set(15, true), None), r#"Some("\0\u{1}") until None number Some(0)"#);
        let bits = 8 * VALUE_BYTES_MAX as u64;
        assert!(decided(set(bits - 1, false), None).ends_with("number Some(0)"));
        assert_eq!(decided(set(bits, false), None), "TooLarge");
        assert_eq!(decided(set(u64::MAX, true), None), "TooLarge");
    }

    #[test]
    fn decimals_are_added_and_what_is_none_is_refused() {
        let add = |by: &'static str| Action::IncrDecimal { by: by.into() };
        let decided = |action, before: Option<&State>| decided(Condition::Always, action, before);
        let old = entry("10.50", 5, Some(2000));
        assert_eq!(decided(add("0.1"), Some(&old)), r#"Some("10.6") until Some(2000) number None decimal b"10.6""#);
        assert_eq!(decided(add("-3e1"), None), r#"Some("-30") until None number None decimal b"-30""#);
        assert_eq!(decided(add("x"), Some(&old)), "NotADecimal");
        assert_eq!(decided(add("1"), Some(&entry("one", 1, None))), "NotADecimal");
        assert_eq!(decided(add("1"), Some(&entry(&"1".repeat(DECIMAL_BYTES_MAX + 1), 1, None))), "NotADecimal");
        assert_eq!(decided(add("inf"), Some(&old)), "IntegerOverflow");
    }

    #[test]
    fn a_time_to_live_is_set_if_the_one_that_is_there_is_as_wanted() {
        use ExpireWhen::{Longer, None as NoTtl, Shorter, Some as SomeTtl, SomeAndShorter};
        // At 1000 the key lives for 500 ms more, or for ever.
        let limited = entry("v", 5, Some(1500));
        let eternal = entry("v", 5, None);
        let set = |ttl_ms| format!(r#"Some("v") until Some({}) number None"#, 1000 + ttl_ms);
        let failed = "condition failed".to_string();
        let removed = "None until None number None".to_string();
        for (when, ttl_ms, of_limited, of_eternal) in [
            (NoTtl, 7, failed.clone(), set(7)),
            (SomeTtl, 7, set(7), failed.clone()),
            (Longer, 501, set(501), failed.clone()),
            (Longer, 500, failed.clone(), failed.clone()),
            (Shorter, 499, set(499), set(499)),
            (Shorter, 500, failed.clone(), set(500)),
            (SomeAndShorter, 499, set(499), failed.clone()),
            (SomeAndShorter, 501, failed.clone(), failed.clone()),
            (Shorter, 0, removed.clone(), removed.clone()),
            (NoTtl, 0, failed.clone(), removed),
        ] {
            let action = || Action::ExpireIf { ttl_ms, when };
            assert_eq!(decided(Condition::Always, action(), Some(&limited)), of_limited, "{when:?} {ttl_ms}");
            assert_eq!(decided(Condition::Always, action(), Some(&eternal)), of_eternal, "{when:?} {ttl_ms}");
            assert_eq!(decided(Condition::Always, action(), None), "missing", "{when:?} {ttl_ms}");
        }
    }
}
