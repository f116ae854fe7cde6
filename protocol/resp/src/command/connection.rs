//! Commands of the connection itself.

use super::args::Args;
use super::error::Excerpt;
use super::{Command, CommandError};
use crate::limits::ATTRIBUTE_BYTES_MAX;
use crate::reply::RespVersion;
use std::fmt;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// What must not be written down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(pub &'a [u8]);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Who a client says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// A user's name; without one it is `default`.
    pub user: Option<&'a [u8]>,
    /// The password.
    pub password: Secret<'a>,
}

/// HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The version from here on; without one it stays.
    pub version: Option<RespVersion>,
    /// AUTH.
    pub credentials: Option<Credentials<'a>>,
    /// SETNAME; an empty name takes the name away.
    pub client_name: Option<&'a [u8]>,
}

pub(crate) fn auth(args: Args<'_>) -> Parsed<'_> {
    let (user, password) = match args.len() {
        2 => (None, args.at(1)),
        3 => (Some(args.at(1)), args.at(2)),
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::Auth(Credentials { user, password: Secret(password) }))
}

pub(crate) fn hello(args: Args<'_>) -> Parsed<'_> {
    let mut hello = Hello { version: None, credentials: None, client_name: None };
    if args.len() > 1 {
        hello.version = Some(match args.integer_or(1, CommandError::ProtocolNotAnInteger)? {
            2 => RespVersion::Two,
            3 => RespVersion::Three,
            _ => return Err(CommandError::UnsupportedProtocol),
        });
    }
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "auth") && at + 2 < args.len() {
            hello.credentials = Some(Credentials { user: Some(args.at(at + 1)), password: Secret(args.at(at + 2)) });
            at += 3;
        } else if args.is(at, "setname") && at + 1 < args.len() {
            hello.client_name = Some(client_name(args.at(at + 1))?);
            at += 2;
        } else {
            return Err(CommandError::HelloOption(Excerpt::of(args.at(at))));
        }
    }
    Ok(Command::Hello(hello))
}

/// A client's name, or none: printable ASCII without blanks, so that CLIENT LIST can be read.
pub(super) fn client_name(name: &[u8]) -> Result<&[u8], CommandError> {
    if name.len() > ATTRIBUTE_BYTES_MAX {
        return Err(CommandError::StringTooLong);
    }
    if is_attribute(name) { Ok(name) } else { Err(CommandError::ClientName) }
}

/// Whether a text is printable ASCII without blanks.
pub(super) fn is_attribute(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

pub(crate) fn ping(args: Args<'_>) -> Parsed<'_> {
    if args.len() > 2 { Err(args.wrong_number()) } else { Ok(Command::Ping(args.get(1))) }
}

pub(crate) fn echo(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Echo(args.at(1)))
}

pub(crate) fn quit(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Quit)
}

pub(crate) fn reset(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Reset)
}

pub(crate) fn select(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Select(args.database(1)?))
}

pub(crate) fn asking(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Asking)
}

pub(crate) fn readonly(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::ReadOnly)
}

pub(crate) fn readwrite(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::ReadWrite)
}
