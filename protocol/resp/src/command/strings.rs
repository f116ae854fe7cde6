//! Commands of values that are strings.

use super::args::Args;
use super::deadline::{Deadline, milliseconds};
use super::{Command, CommandError};
use crate::limits::VALUE_BYTES_MAX;
use crate::number::decimal::Decimal;
use crate::number::parse_integer;
use crate::request::Arguments;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// SET, SETNX, SETEX, PSETEX and GETSET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// What is set.
    pub key: &'a [u8],
    /// To what.
    pub value: &'a [u8],
    /// Whether it is set at all.
    pub condition: SetCondition<'a>,
    /// When it expires.
    pub expiry: SetExpiry,
    /// What the client is told.
    pub reply: SetReply,
}

/// When SET sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition<'a> {
    /// In any case.
    #[default]
    Always,
    /// NX: if the key is missing.
    IfAbsent,
    /// XX: if the key is there.
    IfPresent,
    /// IFEQ: if the key has this value.
    IfEqual(&'a [u8]),
}

/// What SET makes of the key's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetExpiry {
    /// It has none.
    #[default]
    Never,
    /// KEEPTTL: it stays.
    Keep,
    /// It is this, which is above 0.
    At(Deadline),
}

/// What SET answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetReply {
    /// OK, or null if nothing was set.
    #[default]
    OkOrNull,
    /// The value before, or null, whether or not something was set.
    OldValue,
    /// 1, or 0 if nothing was set.
    OneOrZero,
}

/// What GETEX makes of the key's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GetExpiry {
    /// It stays.
    #[default]
    Keep,
    /// PERSIST: it has none.
    Remove,
    /// It is this, which is above 0. A time that has passed removes the key.
    At(Deadline),
}

/// What LCS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LcsForm {
    /// The common subsequence.
    Text,
    /// Its length.
    Length,
    /// Where its parts lie in both values.
    Indexes {
        /// Shorter parts are left out.
        bytes_min: u64,
        /// Each part with its length.
        with_lengths: bool,
    },
}

/// The part of a value whose bits are counted. Negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
    /// The numbers are those of bits, not of bytes.
    pub in_bits: bool,
}

/// The part of a value in which a bit is looked for. Negative numbers count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitSearch {
    /// The first.
    pub start: i64,
    /// The last. Without it the part ends with the value, and bits that are 0 follow.
    pub end: Option<i64>,
    /// The numbers are those of bits, not of bytes.
    pub in_bits: bool,
}

/// Keys and their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs<'a>(Arguments<'a>);

impl<'a> Pairs<'a> {
    pub(super) fn new(arguments: Arguments<'a>) -> Self {
        debug_assert!(arguments.len().is_multiple_of(2));
        Self(arguments)
    }

    /// Those that are left, without taking them.
    pub fn rest(&self) -> Self {
        *self
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.len() / 2;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

pub(crate) fn get(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Get(args.key(1)?))
}

pub(crate) fn strlen(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::StrLen(args.key(1)?))
}

pub(crate) fn getdel(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::GetDel(args.key(1)?))
}

pub(crate) fn append(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Append { key: args.key(1)?, value: args.at(2) })
}

pub(crate) fn delifeq(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::DelIfEqual { key: args.key(1)?, value: args.at(2) })
}

/// An expiry that an option of SET or GETEX gives, before its number is read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ExpiryOption {
    word: &'static str,
    /// Where its number is.
    number: usize,
}

/// The options of time, at argument `at`, if it is one of them. One excludes the others; the same one again replaces the first.
fn expiry_option(args: Args<'_>, at: usize, before: Option<ExpiryOption>) -> Option<ExpiryOption> {
    let word = ["ex", "px", "exat", "pxat"].into_iter().find(|word| args.is(at, word))?;
    let is_allowed = before.is_none_or(|before| before.word == word) && at + 1 < args.len();
    is_allowed.then_some(ExpiryOption { word, number: at + 1 })
}

fn deadline(args: Args<'_>, option: ExpiryOption) -> Result<Deadline, CommandError> {
    let in_seconds = matches!(option.word, "ex" | "exat");
    let time = positive_milliseconds(args, option.number, in_seconds)?;
    Ok(if option.word.ends_with("at") { Deadline::At(time) } else { Deadline::After(time) })
}

fn positive_milliseconds(args: Args<'_>, index: usize, in_seconds: bool) -> Result<i64, CommandError> {
    let time = args.integer(index)?;
    let invalid = CommandError::InvalidExpireTime(args.spec.full_name);
    milliseconds(time, in_seconds).filter(|time| *time > 0).ok_or(invalid)
}

pub(crate) fn set(args: Args<'_>) -> Parsed<'_> {
    let (mut condition, mut reply) = (SetCondition::Always, SetReply::OkOrNull);
    let (mut keep, mut expiry) = (false, None);
    let mut at = 3;
    while at < args.len() {
        let wanted = match () {
            () if args.is(at, "nx") => Some(SetCondition::IfAbsent),
            () if args.is(at, "xx") => Some(SetCondition::IfPresent),
            () if args.is(at, "ifeq") && at + 1 < args.len() => {
                at += 1;
                Some(SetCondition::IfEqual(args.at(at)))
            }
            () => None,
        };
        if let Some(wanted) = wanted {
            // Twice the same word is no contradiction.
            if condition != SetCondition::Always && condition != wanted {
                return Err(CommandError::Syntax);
            }
            condition = wanted;
        } else if args.is(at, "get") {
            reply = SetReply::OldValue;
        } else if args.is(at, "keepttl") && expiry.is_none() {
            keep = true;
        } else {
            let option = expiry_option(args, at, expiry).filter(|_| !keep).ok_or(CommandError::Syntax)?;
            at = option.number;
            expiry = Some(option);
        }
        at += 1;
    }
    let expiry = match expiry {
        Some(option) => SetExpiry::At(deadline(args, option)?),
        None if keep => SetExpiry::Keep,
        None => SetExpiry::Never,
    };
    Ok(Command::Set(Set { key: args.key(1)?, value: args.at(2), condition, expiry, reply }))
}

pub(crate) fn setnx(args: Args<'_>) -> Parsed<'_> {
    let (condition, reply) = (SetCondition::IfAbsent, SetReply::OneOrZero);
    Ok(Command::Set(Set { key: args.key(1)?, value: args.at(2), condition, expiry: SetExpiry::Never, reply }))
}

pub(crate) fn getset(args: Args<'_>) -> Parsed<'_> {
    let (condition, reply) = (SetCondition::Always, SetReply::OldValue);
    Ok(Command::Set(Set { key: args.key(1)?, value: args.at(2), condition, expiry: SetExpiry::Never, reply }))
}

pub(crate) fn setex(args: Args<'_>) -> Parsed<'_> {
    set_expiring(args, true)
}

pub(crate) fn psetex(args: Args<'_>) -> Parsed<'_> {
    set_expiring(args, false)
}

fn set_expiring(args: Args<'_>, in_seconds: bool) -> Parsed<'_> {
    let expiry = SetExpiry::At(Deadline::After(positive_milliseconds(args, 2, in_seconds)?));
    let (condition, reply) = (SetCondition::Always, SetReply::OkOrNull);
    Ok(Command::Set(Set { key: args.key(1)?, value: args.at(3), condition, expiry, reply }))
}

pub(crate) fn getex(args: Args<'_>) -> Parsed<'_> {
    let (mut is_persisted, mut expiry) = (false, None);
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "persist") && expiry.is_none() {
            is_persisted = true;
        } else {
            let option = expiry_option(args, at, expiry).filter(|_| !is_persisted).ok_or(CommandError::Syntax)?;
            at = option.number;
            expiry = Some(option);
        }
        at += 1;
    }
    let expiry = match expiry {
        Some(option) => GetExpiry::At(deadline(args, option)?),
        None if is_persisted => GetExpiry::Remove,
        None => GetExpiry::Keep,
    };
    Ok(Command::GetEx { key: args.key(1)?, expiry })
}

pub(crate) fn getrange(args: Args<'_>) -> Parsed<'_> {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    Ok(Command::GetRange { key: args.key(1)?, start, end })
}

pub(crate) fn setrange(args: Args<'_>) -> Parsed<'_> {
    let value = args.at(3);
    let offset = usize::try_from(args.integer(2)?).map_err(|_| CommandError::OffsetOutOfRange)?;
    // Nothing is written behind the end if nothing is written.
    if !value.is_empty() && offset.saturating_add(value.len()) > VALUE_BYTES_MAX {
        return Err(CommandError::StringTooLong);
    }
    Ok(Command::SetRange { key: args.key(1)?, offset, value })
}

pub(crate) fn mget(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::MGet(args.keys(1, 1)?))
}

pub(crate) fn mset(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::MSet(pairs(args)?))
}

pub(crate) fn msetnx(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::MSetNx(pairs(args)?))
}

fn pairs(args: Args<'_>) -> Result<Pairs<'_>, CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(args.wrong_number());
    }
    args.keys(1, 2)?;
    Ok(Pairs::new(args.from(1)))
}

pub(crate) fn incr(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::IncrBy { key: args.key(1)?, by: 1 })
}

pub(crate) fn decr(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::IncrBy { key: args.key(1)?, by: -1 })
}

pub(crate) fn incrby(args: Args<'_>) -> Parsed<'_> {
    let by = args.integer(2)?;
    Ok(Command::IncrBy { key: args.key(1)?, by })
}

pub(crate) fn decrby(args: Args<'_>) -> Parsed<'_> {
    let by = args.integer(2)?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    Ok(Command::IncrBy { key: args.key(1)?, by })
}

pub(crate) fn incrbyfloat(args: Args<'_>) -> Parsed<'_> {
    let by = args.at(2);
    Decimal::parse(by).ok_or(CommandError::NotAFloat)?;
    Ok(Command::IncrByFloat { key: args.key(1)?, by })
}

pub(crate) fn lcs(args: Args<'_>) -> Parsed<'_> {
    let (mut is_length, mut is_indexes, mut with_lengths, mut bytes_min) = (false, false, false, 0);
    let mut at = 3;
    while at < args.len() {
        match () {
            () if args.is(at, "idx") => is_indexes = true,
            () if args.is(at, "len") => is_length = true,
            () if args.is(at, "withmatchlen") => with_lengths = true,
            () if args.is(at, "minmatchlen") && at + 1 < args.len() => {
                at += 1;
                bytes_min = u64::try_from(args.integer(at)?).unwrap_or(0);
            }
            () => return Err(CommandError::Syntax),
        }
        at += 1;
    }
    let form = match (is_length, is_indexes) {
        (true, true) => return Err(CommandError::LcsLengthAndIndexes),
        (true, false) => LcsForm::Length,
        (false, true) => LcsForm::Indexes { bytes_min, with_lengths },
        (false, false) => LcsForm::Text,
    };
    Ok(Command::Lcs { left: args.key(1)?, right: args.key(2)?, form })
}

/// A bit's place: one that the longest value has.
fn bit_offset(args: Args<'_>) -> Result<usize, CommandError> {
    let offset = parse_integer(args.at(2)).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < VALUE_BYTES_MAX).ok_or(CommandError::BitOffset)
}

pub(crate) fn getbit(args: Args<'_>) -> Parsed<'_> {
    let offset = bit_offset(args)?;
    Ok(Command::GetBit { key: args.key(1)?, offset })
}

pub(crate) fn setbit(args: Args<'_>) -> Parsed<'_> {
    let offset = bit_offset(args)?;
    let bit = match args.integer_or(3, CommandError::Bit)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::Bit),
    };
    Ok(Command::SetBit { key: args.key(1)?, offset, bit })
}

pub(crate) fn bitcount(args: Args<'_>) -> Parsed<'_> {
    let range = match args.len() {
        2 => None,
        4 | 5 => {
            let (start, end) = (args.integer(2)?, args.integer(3)?);
            Some(BitRange { start, end, in_bits: is_in_bits(args, 4)? })
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::BitCount { key: args.key(1)?, range })
}

/// Whether the numbers before an argument, which may be missing, are those of bits.
fn is_in_bits(args: Args<'_>, at: usize) -> Result<bool, CommandError> {
    match args.len() > at {
        true if args.is(at, "bit") => Ok(true),
        true if !args.is(at, "byte") => Err(CommandError::Syntax),
        _ => Ok(false),
    }
}

pub(crate) fn bitpos(args: Args<'_>) -> Parsed<'_> {
    let bit = match args.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::BitWanted),
    };
    let range = match args.len() {
        3 => None,
        4 => Some(BitSearch { start: args.integer(3)?, end: None, in_bits: false }),
        5 | 6 => {
            let (start, in_bits) = (args.integer(3)?, is_in_bits(args, 5)?);
            Some(BitSearch { start, end: Some(args.integer(4)?), in_bits })
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::BitPosition { key: args.key(1)?, bit, range })
}
