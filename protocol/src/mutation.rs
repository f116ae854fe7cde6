//! One write to one key: what must hold, what it does, what it is answered.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{BATCH_OPERATIONS_MAX, DECIMAL_BYTES_MAX, EXPIRY_MS_MAX, TTL_MS_MAX, VALUE_BYTES_MAX};
use crate::request::decode_key;
use crate::types::Version;
use bytes::{BufMut, Bytes, BytesMut};

/// One write to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutation {
    /// The key: 1 to [`crate::limits::KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// Must hold, or nothing is written.
    pub condition: Condition,
    /// What the reply says of the entry that was there before.
    pub return_previous: ReturnPrevious,
    /// What to do.
    pub action: Action,
}

/// What the reply to a write says of the entry that was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ReturnPrevious {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether the key existed. That takes a look at the index, and reads no value.
    Existence,
    /// The entry, with its value.
    Entry,
}

/// What must hold for a write to take effect.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key does not exist.
    IfAbsent,
    /// The key exists.
    IfPresent,
    /// The key exists with this version.
    IfVersion(Version),
    /// The key does not exist, or exists with this version.
    IfAbsentOrVersion(Version),
    /// The key exists with exactly this value, of at most [`VALUE_BYTES_MAX`] bytes. A value of another length is not read.
    IfEquals(Bytes),
}

/// What a write does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stores a value of at most [`VALUE_BYTES_MAX`] bytes.
    Put {
        /// The value.
        value: Bytes,
        /// How long it lives.
        ttl: TimeToLive,
    },
    /// Removes the key.
    Delete,
    /// Adds to a decimal 64-bit integer; a missing key counts as 0. Keeps the time to live.
    Incr {
        /// What to add.
        by: i64,
    },
    /// Appends bytes; a missing key counts as empty. Keeps the time to live.
    Append {
        /// The bytes.
        value: Bytes,
    },
    /// Sets the time to live of an existing key.
    Expire {
        /// Milliseconds to live, 1 to [`TTL_MS_MAX`].
        ttl_ms: u64,
    },
    /// Takes the time to live off an existing key.
    Persist,
    /// Sets the time to live of an existing key if the one that it has is as `when` wants it; else the condition did not hold.
    ExpireIf {
        /// Milliseconds to live, at most [`TTL_MS_MAX`]. With 0, whose time is over, the key is removed.
        ttl_ms: u64,
        /// What must hold of the time to live that the key has.
        when: ExpireWhen,
    },
    /// Sets the time at which an existing key expires.
    ExpireAt {
        /// In milliseconds since 1970, as [`TimeToLive::Until`].
        at_ms: u64,
        /// What must hold of the time to live that the key has, if anything must.
        when: Option<ExpireWhen>,
    },
    /// Overwrites part of the value; a missing key counts as empty. Zeros fill what lies between the end of the value and the
    /// offset. Keeps the time to live. Answered with the new length.
    SetRange {
        /// Where the bytes begin. With their end past [`VALUE_BYTES_MAX`] the write is refused with `TooLarge`.
        offset: u64,
        /// The bytes, at least one.
        value: Bytes,
    },
    /// Sets one bit of the value; a missing key counts as empty, and zeros fill the value up to the bit. Keeps the time to live.
    /// Answered with what the bit was.
    SetBit {
        /// Which bit: 0 is the highest one of the first byte. In a byte past [`VALUE_BYTES_MAX`] the write is refused with
        /// `TooLarge`.
        offset: u64,
        /// What it becomes.
        bit: bool,
    },
    /// Adds to a decimal number; a missing key counts as 0. Keeps the time to live. Answered with the new number as text.
    IncrDecimal {
        /// What to add: decimal text, with a point and an exponent or without, of at most [`DECIMAL_BYTES_MAX`] bytes.
        by: Bytes,
    },
}

impl Action {
    /// The bytes that it stores or works with; empty for those that have none.
    pub fn operand(&self) -> &[u8] {
        match self {
            Self::Put { value, .. } | Self::Append { value } | Self::SetRange { value, .. } => value,
            Self::IncrDecimal { by } => by,
            Self::Delete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::ExpireIf { .. }
            | Self::ExpireAt { .. }
            | Self::SetBit { .. } => &[],
        }
    }
}

/// What must hold of the time to live that a key has. Not to have one counts as living for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ExpireWhen {
    /// It has none.
    None,
    /// It has one.
    Some,
    /// The new one is longer. A key that lives for ever is left as it is.
    Longer,
    /// The new one is shorter.
    Shorter,
    /// It has one, and the new one is shorter.
    SomeAndShorter,
}

/// How long the value of a PUT lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum TimeToLive {
    /// For ever.
    #[default]
    Forever,
    /// So many milliseconds, 1 to [`TTL_MS_MAX`].
    Ms(u64),
    /// Up to this time, in milliseconds since 1970, at most [`EXPIRY_MS_MAX`]. By the shard's log time it lives for a millisecond at
    /// least, and for [`TTL_MS_MAX`] at most.
    Until(u64),
    /// As long as what is there now. A key that does not exist, or has expired, has no time to live afterwards.
    Keep,
}

pub(crate) fn encode_condition(out: &mut BytesMut, condition: &Condition) {
    match condition {
        Condition::Always => out.put_u8(0),
        Condition::IfAbsent => out.put_u8(1),
        Condition::IfPresent => out.put_u8(2),
        Condition::IfVersion(version) => {
            out.put_u8(3);
            out.put_u64_le(version.0);
        }
        Condition::IfAbsentOrVersion(version) => {
            out.put_u8(4);
            out.put_u64_le(version.0);
        }
        Condition::IfEquals(value) => {
            out.put_u8(5);
            out.bytes(value);
        }
    }
}

pub(crate) fn decode_condition(reader: &mut Reader) -> Result<Condition, DecodeError> {
    match reader.u8()? {
        0 => Ok(Condition::Always),
        1 => Ok(Condition::IfAbsent),
        2 => Ok(Condition::IfPresent),
        3 => Ok(Condition::IfVersion(Version(reader.u64()?))),
        4 => Ok(Condition::IfAbsentOrVersion(Version(reader.u64()?))),
        5 => Ok(Condition::IfEquals(reader.bytes("value to compare with", VALUE_BYTES_MAX)?)),
        value => Err(DecodeError::UnknownValue { field: "condition", value: value.into() }),
    }
}

/// The argument of a PUT that keeps the time to live: no time to live is as long.
const KEEP_TTL: u64 = u64::MAX;

const _: () = assert!(TTL_MS_MAX < KEEP_TTL, "no time to live reads as keeping it");

/// Set in the argument of a PUT that says at which time the value expires.
const UNTIL: u64 = 1 << 63;

const _: () = assert!(
    TTL_MS_MAX < UNTIL && EXPIRY_MS_MAX < UNTIL - 1,
    "a time to live is no time, and no time reads as keeping it"
);

/// In the arguments of EXPIRE-IF and EXPIRE-AT, what must hold stands above as many bits of milliseconds.
const WHEN_SHIFT: u32 = 48;

const _: () = assert!(TTL_MS_MAX < 1 << WHEN_SHIFT, "a time to live leaves room for what must hold");
const _: () = assert!(EXPIRY_MS_MAX < 1 << WHEN_SHIFT, "so does a time");

mod action {
    pub(super) const PUT: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const INCR: u8 = 3;
    pub(super) const APPEND: u8 = 4;
    pub(super) const EXPIRE: u8 = 5;
    pub(super) const PERSIST: u8 = 6;
    pub(super) const EXPIRE_IF: u8 = 7;
    pub(super) const SET_RANGE: u8 = 8;
    pub(super) const SET_BIT: u8 = 9;
    pub(super) const INCR_DECIMAL: u8 = 10;
    pub(super) const EXPIRE_AT: u8 = 11;
}

pub(crate) fn encode_mutation(out: &mut BytesMut, mutation: &Mutation) {
    encode_mutation_head(out, mutation);
    out.bytes(&mutation.key);
    match &mutation.action {
        Action::Put { .. } | Action::Append { .. } | Action::SetRange { .. } | Action::IncrDecimal { .. } => {
            out.bytes(mutation.action.operand());
        }
        Action::Delete
        | Action::Incr { .. }
        | Action::Expire { .. }
        | Action::Persist
        | Action::ExpireIf { .. }
        | Action::ExpireAt { .. }
        | Action::SetBit { .. } => {}
    }
}

fn code_of(when: ExpireWhen) -> u64 {
    match when {
        ExpireWhen::None => 1,
        ExpireWhen::Some => 2,
        ExpireWhen::Longer => 3,
        ExpireWhen::Shorter => 4,
        ExpireWhen::SomeAndShorter => 5,
    }
}

fn when_of(code: u64) -> Result<ExpireWhen, DecodeError> {
    match code {
        1 => Ok(ExpireWhen::None),
        2 => Ok(ExpireWhen::Some),
        3 => Ok(ExpireWhen::Longer),
        4 => Ok(ExpireWhen::Shorter),
        5 => Ok(ExpireWhen::SomeAndShorter),
        value => Err(DecodeError::UnknownValue { field: "what must hold of a time to live", value }),
    }
}

/// All but the key and the value.
pub(crate) fn encode_mutation_head(out: &mut BytesMut, mutation: &Mutation) {
    let (code, argument) = match &mutation.action {
        Action::Put { ttl: TimeToLive::Forever, .. } => (action::PUT, 0),
        Action::Put { ttl: TimeToLive::Ms(ms), .. } => (action::PUT, *ms),
        Action::Put { ttl: TimeToLive::Until(at_ms), .. } => (action::PUT, UNTIL | at_ms),
        Action::Put { ttl: TimeToLive::Keep, .. } => (action::PUT, KEEP_TTL),
        Action::Delete => (action::DELETE, 0),
        Action::Incr { by } => (action::INCR, by.cast_unsigned()),
        Action::Append { .. } => (action::APPEND, 0),
        Action::Expire { ttl_ms } => (action::EXPIRE, *ttl_ms),
        Action::Persist => (action::PERSIST, 0),
        Action::ExpireIf { ttl_ms, when } => (action::EXPIRE_IF, code_of(*when) << WHEN_SHIFT | ttl_ms),
        Action::ExpireAt { at_ms, when } => (action::EXPIRE_AT, when.map_or(0, code_of) << WHEN_SHIFT | at_ms),
        Action::SetRange { offset, .. } => (action::SET_RANGE, *offset),
        Action::SetBit { offset, bit } => (action::SET_BIT, offset << 1 | u64::from(*bit)),
        Action::IncrDecimal { .. } => (action::INCR_DECIMAL, 0),
    };
    out.put_u8(code);
    encode_condition(out, &mutation.condition);
    out.put_u8(match mutation.return_previous {
        ReturnPrevious::Nothing => 0,
        ReturnPrevious::Existence => 1,
        ReturnPrevious::Entry => 2,
    });
    out.put_u64_le(argument);
}

pub(crate) fn decode_mutation(reader: &mut Reader) -> Result<Mutation, DecodeError> {
    let code = reader.u8()?;
    let condition = decode_condition(reader)?;
    let return_previous = match reader.u8()? {
        0 => ReturnPrevious::Nothing,
        1 => ReturnPrevious::Existence,
        2 => ReturnPrevious::Entry,
        value => return Err(DecodeError::UnknownValue { field: "return previous", value: value.into() }),
    };
    let argument = reader.u64()?;
    let key = decode_key(reader)?;
    let ttl = |argument: u64| {
        if argument > TTL_MS_MAX {
            return Err(DecodeError::OverLimit {
                field: "time to live in milliseconds",
                value: argument,
                limit: TTL_MS_MAX,
            });
        }
        Ok(argument)
    };
    let expiry = |argument: u64| {
        if argument > EXPIRY_MS_MAX {
            let field = "time of expiry in milliseconds";
            return Err(DecodeError::OverLimit { field, value: argument, limit: EXPIRY_MS_MAX });
        }
        Ok(argument)
    };
    let below_when = |argument: u64| argument & ((1 << WHEN_SHIFT) - 1);
    let unused = |argument: u64| match argument {
        0 => Ok(()),
        value => Err(DecodeError::UnknownValue { field: "unused argument", value }),
    };
    let action = match code {
        action::PUT => Action::Put {
            ttl: match argument {
                0 => TimeToLive::Forever,
                KEEP_TTL => TimeToLive::Keep,
                until if until & UNTIL != 0 => TimeToLive::Until(expiry(until & !UNTIL)?),
                ms => TimeToLive::Ms(ttl(ms)?),
            },
            value: reader.bytes("value length", VALUE_BYTES_MAX)?,
        },
        action::DELETE => unused(argument).map(|()| Action::Delete)?,
        action::INCR => Action::Incr { by: argument.cast_signed() },
        action::APPEND => {
            unused(argument)?;
            Action::Append { value: reader.bytes("value length", VALUE_BYTES_MAX)? }
        }
        action::EXPIRE => match ttl(argument)? {
            0 => return Err(DecodeError::UnknownValue { field: "time to live in milliseconds", value: 0 }),
            ttl_ms => Action::Expire { ttl_ms },
        },
        action::PERSIST => unused(argument).map(|()| Action::Persist)?,
        action::EXPIRE_IF => {
            let when = when_of(argument >> WHEN_SHIFT)?;
            Action::ExpireIf { ttl_ms: ttl(below_when(argument))?, when }
        }
        action::EXPIRE_AT => {
            let when = match argument >> WHEN_SHIFT {
                0 => None,
                code => Some(when_of(code)?),
            };
            Action::ExpireAt { at_ms: below_when(argument), when }
        }
        action::SET_RANGE => {
            let value = reader.bytes("value length", VALUE_BYTES_MAX)?;
            if value.is_empty() {
                return Err(DecodeError::UnknownValue { field: "bytes of a range", value: 0 });
            }
            Action::SetRange { offset: argument, value }
        }
        action::SET_BIT => Action::SetBit { offset: argument >> 1, bit: argument & 1 == 1 },
        action::INCR_DECIMAL => {
            unused(argument)?;
            Action::IncrDecimal { by: reader.bytes("length of a decimal number", DECIMAL_BYTES_MAX)? }
        }
        value => return Err(DecodeError::UnknownValue { field: "action", value: value.into() }),
    };
    Ok(Mutation { key, condition, return_previous, action })
}

pub(crate) fn decode_mutations(reader: &mut Reader) -> Result<Vec<Mutation>, DecodeError> {
    let count = reader.count("mutations", BATCH_OPERATIONS_MAX, 15)?;
    (0..count).map(|_| decode_mutation(reader)).collect()
}
