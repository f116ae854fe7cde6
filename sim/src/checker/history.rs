//! What clients did and saw.

use std::collections::BTreeMap;

/// The operations of all clients, in any order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
}

/// One operation, as the client that called it saw it.
///
/// An operation that is known to have had no effect (refused, or answered with the outcome "not applied") says nothing
/// about the key and does not belong in a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who called; for people, the search does not look at it.
    pub client: u32,
    /// When it was called, on one clock that all clients share and that never goes back. The unit does not matter.
    pub invoked_at: u64,
    /// The key.
    pub key: Vec<u8>,
    /// What was asked.
    pub call: Call,
    /// How it ended.
    pub completion: Completion,
}

/// What was asked of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// The key's value and version.
    Get,
    /// A write, if its condition holds.
    Write {
        /// Must hold, or nothing is written.
        condition: Condition,
        /// What to do.
        action: Action,
    },
    /// Operations in turn, at one instant, if a condition holds: what a transaction does to one of its keys.
    Together {
        /// Must hold, or nothing is done.
        condition: Condition,
        /// What is done, gets and writes. A write whose outcome may stay open has no condition on a version, and is none that the
        /// time which a value has left decides on.
        steps: Vec<Self>,
    },
}

/// What must hold for a write to take effect.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key does not exist.
    IfAbsent,
    /// The key exists.
    IfPresent,
    /// The key exists with this version.
    IfVersion(u64),
    /// The key does not exist, or exists with this version.
    IfAbsentOrVersion(u64),
    /// The key exists with this value.
    IfEquals(Vec<u8>),
}

/// What a write does.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Action {
    /// Stores a value. What time to live the key had ends with the value it had.
    Put {
        /// The value.
        value: Vec<u8>,
        /// It has a time to live.
        expires: bool,
    },
    /// Stores a value. Keeps the time to live.
    PutKeeping(Vec<u8>),
    /// Removes the key.
    Delete,
    /// Adds to a decimal 64-bit integer; a missing key counts as 0. Keeps the time to live.
    Incr(i64),
    /// Appends bytes; a missing key counts as empty. Keeps the time to live.
    Append(Vec<u8>),
    /// Gives an existing key a time to live.
    Expire,
    /// Takes an existing key's time to live away.
    Persist,
    /// Gives an existing key a time to live, depending on the one that it has.
    ExpireIf(ExpireWhen),
    /// Overwrites the value from an offset on; zeros fill a gap. Keeps the time to live.
    SetRange {
        /// Where.
        offset: usize,
        /// With what.
        bytes: Vec<u8>,
    },
    /// Sets a bit of the value, 0 being the highest one of the first byte. Keeps the time to live.
    SetBit {
        /// Which.
        offset: usize,
        /// What it becomes.
        bit: bool,
    },
    /// Adds quarters to a decimal number; a missing key counts as 0. Keeps the time to live.
    IncrQuarters(i32),
}

/// What must hold of the time to live that a key has. No answer tells how long that still is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ExpireWhen {
    /// It has none.
    None,
    /// It has one.
    Some,
    /// The new one is longer; none counts as the longest.
    Longer,
    /// The new one is shorter.
    Shorter,
}

/// How an operation ended, from its caller's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completion {
    /// It was answered.
    Answered {
        /// When; not before the call.
        at: u64,
        /// What.
        reply: Reply,
    },
    /// The write is known to have taken effect; what it answered is not known.
    AppliedUnseen {
        /// When the caller learned of it.
        at: u64,
    },
    /// Nothing is known: it may take effect at any time after the call, or never.
    Open,
}

/// What an operation answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To a get.
    Value(Option<Found>),
    /// To a write. To what is done together: that its condition did not hold.
    Written(Written),
    /// To a write among what is done together: the value that is there is none that it can be done to.
    Refused,
    /// To what was done together: an answer to each.
    Together(Vec<Self>),
}

/// A value that a get found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub value: Vec<u8>,
    /// Its version, where the store told it.
    pub version: Option<u64>,
    /// Whether it has a time to live, where the store told it.
    pub expires: Option<bool>,
}

/// What a write answered. A field that is `None` was not told, and is not checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Whether it took effect.
    pub status: WriteStatus,
    /// After an effect the key's new version, which is higher than every version the key had before. Otherwise the version
    /// that the key has, 0 if there is no such key.
    pub version: Option<u64>,
    /// After an incr the new number, after an append or an overwritten range the new length, after a bit what it was.
    pub number: Option<i64>,
    /// After quarters were added the new number.
    pub decimal: Option<Vec<u8>>,
    /// Whether the key existed before.
    pub existed: Option<bool>,
}

/// Whether a write took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum WriteStatus {
    /// It did.
    #[default]
    Applied,
    /// Its condition did not hold.
    ConditionFailed,
    /// It was a delete, an expire or a persist of a key that does not exist, or a persist of one without a time to live.
    Missing,
}

impl History {
    /// Adds an operation.
    ///
    /// # Panics
    /// If it was answered before it was called, or its answer is not one to its call: the recorder is wrong.
    pub fn push(&mut self, operation: Operation) {
        if let Some(returned_at) = operation.returned_at() {
            assert!(returned_at >= operation.invoked_at, "answered before it was called: {operation}");
        }
        if let Completion::Answered { reply, .. } = &operation.completion {
            assert!(operation.call.may_be_answered(reply), "the answer is of another kind: {operation}");
        }
        self.operations.push(operation);
    }

    /// The operations, in the order they were pushed.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations of each key, keys in order.
    pub(super) fn by_key(&self) -> BTreeMap<&[u8], Vec<&Operation>> {
        let mut keys: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys
    }
}

impl Extend<Operation> for History {
    fn extend<I: IntoIterator<Item = Operation>>(&mut self, operations: I) {
        operations.into_iter().for_each(|operation| self.push(operation));
    }
}

impl Call {
    /// Whether the answer is of its kind.
    fn may_be_answered(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Self::Get, Reply::Value(_)) | (Self::Write { .. }, Reply::Written(_)) => true,
            (Self::Together { .. }, Reply::Written(written)) => written.status == WriteStatus::ConditionFailed,
            (Self::Together { steps, .. }, Reply::Together(replies)) => {
                let fits = |(step, reply): (&Self, &Reply)| match reply {
                    Reply::Refused => matches!(step, Self::Write { .. }),
                    Reply::Together(_) => false,
                    reply => step.may_be_answered(reply),
                };
                steps.len() == replies.len() && steps.iter().zip(replies).all(fits)
            }
            _ => false,
        }
    }
}

impl Operation {
    /// When it returned to its caller; `None` if its outcome is open.
    pub fn returned_at(&self) -> Option<u64> {
        match self.completion {
            Completion::Answered { at, .. } | Completion::AppliedUnseen { at } => Some(at),
            Completion::Open => None,
        }
    }
}
