//! ACL: who may do what. Users are changed by Kvorum's own means.

use super::args::Args;
use super::{Command, CommandError};
use crate::request::Arguments;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// A subcommand of ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclCommand<'a> {
    /// The categories, or the commands of one.
    Categories(Option<&'a [u8]>),
    /// Whether a user may give a command.
    DryRun {
        /// Who.
        user: &'a [u8],
        /// The command's name, and its arguments.
        command: Arguments<'a>,
    },
    /// What a user may do.
    GetUser(&'a [u8]),
    /// What each user may do.
    List,
    /// The users' names.
    Users,
    /// The connection's user.
    WhoAmI,
}

pub(crate) fn cat(args: Args<'_>) -> Parsed<'_> {
    match args.len() {
        2 | 3 => Ok(Command::Acl(AclCommand::Categories(args.get(2)))),
        _ => Err(args.subcommand_syntax()),
    }
}

pub(crate) fn dryrun(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Acl(AclCommand::DryRun { user: args.at(2), command: args.from(3) }))
}

pub(crate) fn getuser(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Acl(AclCommand::GetUser(args.at(2))))
}

pub(crate) fn list(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Acl(AclCommand::List))
}

pub(crate) fn users(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Acl(AclCommand::Users))
}

pub(crate) fn whoami(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Acl(AclCommand::WhoAmI))
}
