//! What an operation may do to one key: the sequential store that a history is compared with.
//!
//! Expiry. The store decides by a time of its own when a value's time to live is over, and no answer tells that time. So a
//! value that has a time to live may vanish at any moment by itself, and stays away until it is written again; a value that
//! has none never vanishes. Nobody sees the moment itself: it is enough to let the value vanish right before an operation
//! that needs it gone, see [`depends_on_expiry`].

use super::history::{Action, Call, Completion, Condition, ExpireWhen, Found, Operation, Reply, WriteStatus, Written};
use std::collections::HashMap;
use std::rc::Rc;

/// A distinct value that the key has, had, or may have had. States are compared often, so they hold numbers, not bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct ValueId(u32);

/// A key's state, as far as the answers placed so far determine it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct State {
    /// The value; `None` if the key does not exist.
    pub(super) value: Option<ValueId>,
    /// If `version_exact`: the version of the last write. Otherwise a lower bound of it: that write did not tell.
    pub(super) version: u64,
    /// Always true for a missing key, so that states which can't be told apart are equal.
    pub(super) version_exact: bool,
    /// The value has a time to live. Always false for a missing key.
    pub(super) expires: bool,
}

impl State {
    /// The state of a key that was never written.
    pub(super) const ABSENT: Self = Self { value: None, version: 0, version_exact: true, expires: false };

    /// This state after its value's time to live is over, if it has one.
    pub(super) fn expired(self) -> Option<Self> {
        self.expires.then_some(Self { value: None, version_exact: true, expires: false, ..self })
    }

    /// This state with its version pinned down to `version`, if it can have it. A missing key's version is told as 0.
    fn with_version(self, version: u64) -> Option<Self> {
        match (self.value, self.version_exact) {
            (None, _) => (version == 0).then_some(self),
            (Some(_), true) => (version == self.version).then_some(self),
            (Some(_), false) => (version >= self.version).then_some(Self { version, version_exact: true, ..self }),
        }
    }

    /// This state with its version pinned down, if `told` says what it is.
    fn with_told_version(self, told: Option<u64>) -> Option<Self> {
        told.map_or(Some(self), |version| self.with_version(version))
    }

    /// The state after an effective write, which was given version `told`: higher than every one before it.
    fn written(self, value: Option<ValueId>, expires: bool, told: Option<u64>) -> Option<Self> {
        let (version, told_exactly) = match told {
            Some(version) if version <= self.version => return None,
            Some(version) => (version, true),
            None => (self.version + 1, false),
        };
        Some(Self { value, version, version_exact: told_exactly || value.is_none(), expires })
    }
}

/// The store of one key, with every value that it has been seen to take.
#[derive(Default)]
pub(super) struct Model {
    values: Vec<Rc<[u8]>>,
    ids: HashMap<Rc<[u8]>, ValueId>,
}

impl Model {
    /// The state after `operation` takes effect in `state` with the answer it got, or `None` if it can't have. The value
    /// does not expire meanwhile.
    ///
    /// An operation of unknown answer is taken to have had an effect: had it none, it need not be placed at all.
    pub(super) fn step(&mut self, state: State, operation: &Operation) -> Option<State> {
        match (&operation.call, &operation.completion) {
            (call, Completion::Answered { reply, .. }) => self.answered(state, call, reply),
            (Call::Write { condition, action }, _) => {
                let state = self.holding(condition, state)?;
                self.effect(state, action, &Written::default())
            }
            (Call::Together { condition, steps }, _) => {
                let state = self.holding(condition, state)?;
                Some(steps.iter().fold(state, |state, step| self.unseen(state, step)))
            }
            // A get of unknown answer says nothing.
            (Call::Get, _) => Some(state),
        }
    }

    /// The state after a call with this answer. `History::push` excludes one of another kind.
    fn answered(&mut self, state: State, call: &Call, reply: &Reply) -> Option<State> {
        match (call, reply) {
            (Call::Get, Reply::Value(found)) => self.get(state, found.as_ref()),
            (Call::Write { condition, action }, Reply::Written(written)) => {
                self.answered_write(state, condition, action, written)
            }
            (Call::Write { condition, action }, Reply::Refused) => {
                let state = self.holding(condition, state)?;
                let before = state.value.map(|value| self.bytes(value));
                let is_refused = match action {
                    Action::Incr(by) => {
                        before.is_some_and(|before| decimal(before).and_then(|now| now.checked_add(*by)).is_none())
                    }
                    Action::IncrQuarters(_) => before.is_some_and(|before| quarters(before).is_none()),
                    _ => false,
                };
                is_refused.then_some(state)
            }
            (Call::Together { condition, .. }, Reply::Written(written)) => {
                self.failing(condition, state.with_told_version(written.version)?)
            }
            (Call::Together { condition, steps }, Reply::Together(replies)) => {
                let state = self.holding(condition, state)?;
                let mut each = steps.iter().zip(replies);
                each.try_fold(state, |state, (step, reply)| self.answered(state, step, reply))
            }
            _ => None,
        }
    }

    /// The state after one of several steps whose answer is not known: what can't be done leaves the state as it is.
    fn unseen(&mut self, state: State, step: &Call) -> State {
        let Call::Write { condition, action } = step else { return state };
        let held = self.holding(condition, state);
        held.and_then(|held| self.effect(held, action, &Written::default())).unwrap_or(state)
    }

    /// The bytes of a state's value, for reports.
    pub(super) fn bytes(&self, value: ValueId) -> &[u8] {
        &self.values[value.0 as usize]
    }

    fn get(&mut self, state: State, found: Option<&Found>) -> Option<State> {
        match found {
            None => state.value.is_none().then_some(state),
            Some(found) => {
                let same_value = state.value.is_some_and(|value| self.bytes(value) == found.value);
                let same_expiry = found.expires.is_none_or(|expires| expires == state.expires);
                (same_value && same_expiry).then_some(state)?.with_told_version(found.version)
            }
        }
    }

    fn answered_write(
        &mut self,
        state: State,
        condition: &Condition,
        action: &Action,
        written: &Written,
    ) -> Option<State> {
        if written.existed.is_some_and(|existed| existed != state.value.is_some()) {
            return None;
        }
        match written.status {
            WriteStatus::Applied => {
                let state = self.holding(condition, state)?;
                self.effect(state, action, written)
            }
            WriteStatus::ConditionFailed => {
                let state = state.with_told_version(written.version)?;
                match action {
                    Action::ExpireIf(when) if may_differ(*when, state) => {
                        self.failing(condition, state).or_else(|| self.holding(condition, state))
                    }
                    _ => self.failing(condition, state),
                }
            }
            WriteStatus::Missing => {
                let missed = match action {
                    Action::Delete | Action::Expire | Action::ExpireIf(_) => state.value.is_none(),
                    Action::Persist => !state.expires,
                    Action::Put { .. }
                    | Action::PutKeeping(_)
                    | Action::Incr(_)
                    | Action::Append(_)
                    | Action::SetRange { .. }
                    | Action::SetBit { .. }
                    | Action::IncrQuarters(_) => false,
                };
                self.holding(condition, missed.then_some(state)?)?.with_told_version(written.version)
            }
        }
    }

    /// The state after an effective write, if the write can have an effect and then answers as told.
    fn effect(&mut self, state: State, action: &Action, told: &Written) -> Option<State> {
        let before = state.value.map_or(&[][..], |value| self.bytes(value));
        let (value, expires, answer) = match action {
            Action::Put { value, expires } => (Some(self.intern(value)), *expires, None),
            Action::PutKeeping(value) => (Some(self.intern(value)), state.expires, None),
            Action::Delete => {
                state.value?;
                (None, false, None)
            }
            Action::Incr(by) => {
                let current = if state.value.is_some() { decimal(before)? } else { 0 };
                let sum = current.checked_add(*by)?;
                (Some(self.intern(sum.to_string().as_bytes())), state.expires, Some(sum))
            }
            Action::Append(tail) => {
                let whole = [before, tail].concat();
                let length = i64::try_from(whole.len()).ok()?;
                (Some(self.intern(&whole)), state.expires, Some(length))
            }
            Action::SetRange { offset, bytes } => {
                let mut value = before.to_vec();
                value.resize(value.len().max(offset + bytes.len()), 0);
                value[*offset..offset + bytes.len()].copy_from_slice(bytes);
                let length = i64::try_from(value.len()).ok()?;
                (Some(self.intern(&value)), state.expires, Some(length))
            }
            Action::SetBit { offset, bit } => {
                let (byte, mask) = (offset / 8, 1 << (7 - offset % 8));
                let mut value = before.to_vec();
                value.resize(value.len().max(byte + 1), 0);
                let was = value[byte] & mask != 0;
                value[byte] = if *bit { value[byte] | mask } else { value[byte] & !mask };
                (Some(self.intern(&value)), state.expires, Some(was.into()))
            }
            Action::IncrQuarters(by) => {
                let current = if state.value.is_some() { quarters(before)? } else { 0 };
                let sum = quarters_text(current.checked_add((*by).into())?);
                if told.decimal.as_ref().is_some_and(|decimal| *decimal != sum) {
                    return None;
                }
                (Some(self.intern(&sum)), state.expires, None)
            }
            Action::Expire => (Some(state.value?), true, None),
            Action::ExpireIf(when) => {
                let fits = match when {
                    ExpireWhen::None => !state.expires,
                    ExpireWhen::Some | ExpireWhen::Longer => state.expires,
                    ExpireWhen::Shorter => true,
                };
                (Some(state.value.filter(|_| fits)?), true, None)
            }
            Action::Persist => (state.expires.then_some(state.value)?, false, None),
        };
        if told.number.is_some() && answer.is_some() && told.number != answer {
            return None;
        }
        state.written(value, expires, told.version)
    }

    /// The state, if `condition` can hold in it; knowing that it holds may pin the version down.
    fn holding(&self, condition: &Condition, state: State) -> Option<State> {
        match condition {
            Condition::Always => Some(state),
            Condition::IfAbsent => state.value.is_none().then_some(state),
            Condition::IfPresent => state.value.is_some().then_some(state),
            Condition::IfVersion(version) => state.value.and_then(|_| state.with_version(*version)),
            Condition::IfAbsentOrVersion(_) if state.value.is_none() => Some(state),
            Condition::IfAbsentOrVersion(version) => state.with_version(*version),
            Condition::IfEquals(value) => state.value.is_some_and(|there| self.bytes(there) == value).then_some(state),
        }
    }

    /// The state, if `condition` can fail in it.
    fn failing(&self, condition: &Condition, state: State) -> Option<State> {
        let can_fail = match condition {
            Condition::Always => false,
            Condition::IfAbsent => state.value.is_some(),
            Condition::IfPresent => state.value.is_none(),
            Condition::IfVersion(version) => state.value.is_none() || !state.version_exact || state.version != *version,
            Condition::IfAbsentOrVersion(version) => {
                state.value.is_some() && (!state.version_exact || state.version != *version)
            }
            Condition::IfEquals(value) => state.value.is_none_or(|there| self.bytes(there) != value),
        };
        can_fail.then_some(state)
    }

    fn intern(&mut self, value: &[u8]) -> ValueId {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = ValueId(u32::try_from(self.values.len()).expect("the step limit is far below 2^32"));
        let value: Rc<[u8]> = value.into();
        self.values.push(Rc::clone(&value));
        self.ids.insert(value, id);
        id
    }
}

/// Whether what is wanted of the time to live may not be so of a key that is there.
fn may_differ(when: ExpireWhen, state: State) -> bool {
    state.value.is_some()
        && match when {
            ExpireWhen::None => state.expires,
            ExpireWhen::Some => !state.expires,
            // How long it still lives, or what was asked for, is not known here.
            ExpireWhen::Longer => true,
            ExpireWhen::Shorter => state.expires,
        }
}

/// Whether it makes a difference to `operation` that the value of a key has expired before it.
///
/// Where this is false, the operation either can't be explained by a missing key, or leads from there to where it leads from
/// the value, too. So nothing is lost by letting values expire right before operations of which this is true, and nowhere
/// else: an expiry can be moved on past every other operation, or left out when a write makes it invisible.
pub(super) fn depends_on_expiry(operation: &Operation) -> bool {
    let (condition, action) = match &operation.call {
        Call::Get => return matches!(operation.completion, Completion::Answered { reply: Reply::Value(None), .. }),
        Call::Together { .. } => return true,
        Call::Write { condition, action } => (condition, action),
    };
    if let Completion::Answered { reply: Reply::Written(written), .. } = &operation.completion {
        match written.status {
            WriteStatus::Applied if written.existed.is_some() => return written.existed == Some(false),
            WriteStatus::Applied => {}
            WriteStatus::ConditionFailed | WriteStatus::Missing => return written.version.is_none_or(|told| told == 0),
        }
    }
    match (condition, action) {
        (Condition::IfPresent | Condition::IfVersion(_) | Condition::IfEquals(_), _) => false,
        (Condition::IfAbsent | Condition::IfAbsentOrVersion(_), _) => true,
        (Condition::Always, Action::PutKeeping(_) | Action::Incr(_) | Action::Append(_)) => true,
        (Condition::Always, Action::SetRange { .. } | Action::SetBit { .. } | Action::IncrQuarters(_)) => true,
        (Condition::Always, Action::Put { .. } | Action::Delete | Action::Expire | Action::Persist) => false,
        (Condition::Always, Action::ExpireIf(_)) => false,
    }
}

/// The number that a value is, if an incr can add to it.
pub(super) fn decimal(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// How many quarters a decimal number is. Binary floating point holds as many as a simulation counts to.
pub(super) fn quarters(bytes: &[u8]) -> Option<i64> {
    let number: f64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let quarters = number * 4.0;
    (quarters.fract() == 0.0 && quarters.abs() < 1e12).then_some(quarters as i64)
}

/// The text of so many quarters.
fn quarters_text(quarters: i64) -> Vec<u8> {
    (quarters as f64 / 4.0).to_string().into_bytes()
}
