//! Several commands as one.

use super::args::Args;
use super::{Command, CommandError};

type Parsed<'a> = Result<Command<'a>, CommandError>;

pub(crate) fn multi(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Multi)
}

pub(crate) fn exec(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Exec)
}

pub(crate) fn discard(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Discard)
}

pub(crate) fn watch(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Watch(args.keys(1, 1)?))
}

pub(crate) fn unwatch(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Unwatch)
}
