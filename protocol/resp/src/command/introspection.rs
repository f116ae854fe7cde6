//! COMMAND.

use super::args::Args;
use super::{Command, CommandError};
use crate::request::Arguments;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// COMMAND and its subcommands. [`crate::table`] writes the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntrospectionCommand<'a> {
    /// How many there are.
    Count,
    /// For programs, about these; about all if none is named.
    Info(Arguments<'a>),
    /// For people, about these; about all if none is named.
    Docs(Arguments<'a>),
    /// Names.
    List(CommandFilter<'a>),
    /// The keys of the command that these arguments are.
    GetKeys {
        /// Its name, and what is behind that.
        command: Arguments<'a>,
        /// Also what is done to them.
        with_access: bool,
    },
}

/// Which commands COMMAND LIST names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFilter<'a> {
    /// All.
    All,
    /// Those of a module: none, for there are no modules.
    Module(&'a [u8]),
    /// Those of a category. None if there is no such category.
    Category(&'a [u8]),
    /// Those whose full names match, in any case.
    Pattern(&'a [u8]),
}

pub(crate) fn count(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::Count))
}

pub(crate) fn info(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::Info(args.from(2))))
}

pub(crate) fn docs(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::Docs(args.from(2))))
}

pub(crate) fn list(args: Args<'_>) -> Parsed<'_> {
    let filter = match args.len() {
        2 => CommandFilter::All,
        5 if args.is(2, "filterby") => match () {
            () if args.is(3, "module") => CommandFilter::Module(args.at(4)),
            () if args.is(3, "aclcat") => CommandFilter::Category(args.at(4)),
            () if args.is(3, "pattern") => CommandFilter::Pattern(args.pattern(4)?),
            () => return Err(CommandError::Syntax),
        },
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::Introspection(IntrospectionCommand::List(filter)))
}

pub(crate) fn getkeys(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::GetKeys { command: args.from(2), with_access: false }))
}

pub(crate) fn getkeysandflags(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Introspection(IntrospectionCommand::GetKeys { command: args.from(2), with_access: true }))
}
