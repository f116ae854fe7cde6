//! Commands of keys, whatever their values are.

use super::args::Args;
use super::deadline::{Deadline, milliseconds};
use super::error::Excerpt;
use super::{Command, CommandError};
use crate::number::parse_cursor;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// When EXPIRE and its like change the expiry. A key without one counts as one that expires after all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireCondition {
    /// In any case.
    #[default]
    Always,
    /// NX: if the key has none.
    IfNone,
    /// XX: if the key has one.
    IfSome,
    /// GT, with or without XX: if the key has one, and an earlier one.
    IfLater,
    /// LT: if the key has none, or a later one.
    IfEarlier,
    /// LT and XX: if the key has one, and a later one.
    IfSomeAndEarlier,
}

/// What the TTL family answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlForm {
    /// In seconds, not in milliseconds: rounded to the nearest one.
    pub in_seconds: bool,
    /// The time of the clock, not how long it is until then.
    pub is_absolute: bool,
}

/// SCAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Where to go on; 0 to begin.
    pub cursor: u64,
    /// Only keys that match.
    pub pattern: Option<&'a [u8]>,
    /// About so many keys, at least 1.
    pub count: u64,
    /// Only keys with such values, in any case of letters: `string`. A type that nobody knows has no keys.
    pub value_type: Option<&'a [u8]>,
}

/// Keys that one page of SCAN looks at if the client doesn't say.
const SCAN_COUNT: u64 = 10;

pub(crate) fn delete(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Delete(args.keys(1, 1)?))
}

pub(crate) fn exists(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Exists(args.keys(1, 1)?))
}

pub(crate) fn touch(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Exists(args.keys(1, 1)?))
}

pub(crate) fn persist(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Persist(args.key(1)?))
}

pub(crate) fn type_of(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Type(args.key(1)?))
}

pub(crate) fn randomkey(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::RandomKey)
}

pub(crate) fn keys(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Keys(args.pattern(1)?))
}

pub(crate) fn expire(args: Args<'_>) -> Parsed<'_> {
    expire_with(args, true, Deadline::After)
}

pub(crate) fn pexpire(args: Args<'_>) -> Parsed<'_> {
    expire_with(args, false, Deadline::After)
}

pub(crate) fn expireat(args: Args<'_>) -> Parsed<'_> {
    expire_with(args, true, Deadline::At)
}

pub(crate) fn pexpireat(args: Args<'_>) -> Parsed<'_> {
    expire_with(args, false, Deadline::At)
}

fn expire_with(args: Args<'_>, in_seconds: bool, deadline: fn(i64) -> Deadline) -> Parsed<'_> {
    let condition = expire_condition(args)?;
    let time = milliseconds(args.integer(2)?, in_seconds);
    let time = time.ok_or(CommandError::InvalidExpireTime(args.spec.full_name))?;
    Ok(Command::Expire { key: args.key(1)?, deadline: deadline(time), condition })
}

fn expire_condition(args: Args<'_>) -> Result<ExpireCondition, CommandError> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for at in 3..args.len() {
        match () {
            () if args.is(at, "nx") => nx = true,
            () if args.is(at, "xx") => xx = true,
            () if args.is(at, "gt") => gt = true,
            () if args.is(at, "lt") => lt = true,
            () => return Err(CommandError::UnsupportedOption(Excerpt::of(args.at(at)))),
        }
    }
    match (nx, xx, gt, lt) {
        (true, false, false, false) => Ok(ExpireCondition::IfNone),
        (true, ..) => Err(CommandError::ExpireOptionsWithNx),
        (_, _, true, true) => Err(CommandError::ExpireOptionsGtLt),
        (_, _, true, false) => Ok(ExpireCondition::IfLater),
        (_, true, _, true) => Ok(ExpireCondition::IfSomeAndEarlier),
        (_, false, _, true) => Ok(ExpireCondition::IfEarlier),
        (_, true, ..) => Ok(ExpireCondition::IfSome),
        (false, false, false, false) => Ok(ExpireCondition::Always),
    }
}

pub(crate) fn ttl(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Ttl { key: args.key(1)?, form: TtlForm { in_seconds: true, is_absolute: false } })
}

pub(crate) fn pttl(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Ttl { key: args.key(1)?, form: TtlForm { in_seconds: false, is_absolute: false } })
}

pub(crate) fn expiretime(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Ttl { key: args.key(1)?, form: TtlForm { in_seconds: true, is_absolute: true } })
}

pub(crate) fn pexpiretime(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Ttl { key: args.key(1)?, form: TtlForm { in_seconds: false, is_absolute: true } })
}

pub(crate) fn rename(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Rename { from: args.key(1)?, to: args.key(2)?, only_if_absent: false })
}

pub(crate) fn renamenx(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Rename { from: args.key(1)?, to: args.key(2)?, only_if_absent: true })
}

pub(crate) fn copy(args: Args<'_>) -> Parsed<'_> {
    let (mut replace, mut database) = (false, None);
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            at += 1;
            database = Some(args.database(at)?);
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    Ok(Command::Copy { from: args.key(1)?, to: args.key(2)?, database, replace })
}

pub(crate) fn scan(args: Args<'_>) -> Parsed<'_> {
    let cursor = parse_cursor(args.at(1)).ok_or(CommandError::InvalidCursor)?;
    let mut scan = Scan { cursor, pattern: None, count: SCAN_COUNT, value_type: None };
    let mut at = 2;
    while at < args.len() {
        let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
        match () {
            () if args.is(at, "count") => {
                let count = u64::try_from(args.integer(at + 1)?).ok();
                scan.count = count.filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
            }
            () if args.is(at, "match") => scan.pattern = Some(args.pattern(at + 1)?),
            () if args.is(at, "type") => scan.value_type = Some(value),
            () => return Err(CommandError::Syntax),
        }
        at += 2;
    }
    Ok(Command::Scan(scan))
}

pub(crate) fn wait(args: Args<'_>) -> Parsed<'_> {
    let replicas = args.integer(1)?;
    Ok(Command::Wait { replicas, timeout_ms: args.timeout_ms(2)? })
}

pub(crate) fn waitaof(args: Args<'_>) -> Parsed<'_> {
    let local = match args.integer(1)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::NotBetween(0, 1)),
    };
    let replicas = u64::try_from(args.integer(2)?).map_err(|_| CommandError::NotPositive)?;
    Ok(Command::WaitAof { local, replicas, timeout_ms: args.timeout_ms(3)? })
}
