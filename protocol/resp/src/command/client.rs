//! CLIENT.

use super::args::Args;
use super::connection::{client_name, is_attribute};
use super::error::Excerpt;
use super::{Command, CommandError};
use crate::limits::ATTRIBUTE_BYTES_MAX;
use crate::number::parse_integer;
use crate::request::Arguments;

type Parsed<'a> = Result<Command<'a>, CommandError>;

/// A subcommand of CLIENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCommand<'a> {
    /// The connection's number.
    Id,
    /// About this connection, as verbatim text.
    Info,
    /// About connections, as verbatim text.
    List(ClientListFilter<'a>),
    /// Closes the connection of a client's address; an error if there is none.
    KillAddress(&'a [u8]),
    /// Closes connections, and answers how many.
    Kill(ClientFilter<'a>),
    /// The connection's name, or null.
    GetName,
    /// Names the connection; an empty name takes its name away.
    SetName(&'a [u8]),
    /// Tells which library the client is; an empty text takes that away.
    SetInfo(ClientInfo<'a>),
    /// Switches replies off and on.
    Reply(ClientReply),
    /// No effect.
    NoEvict(bool),
    /// No effect.
    NoTouch(bool),
    /// -1.
    GetRedirection,
}

/// Which connections CLIENT LIST tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientListFilter<'a> {
    /// All.
    All,
    /// Those of a kind.
    Kind(ClientKind),
    /// Those with these numbers.
    Ids(ClientIds<'a>),
}

/// Numbers of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIds<'a>(Arguments<'a>);

impl Iterator for ClientIds<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().and_then(parse_integer)
    }
}

/// Kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Those of clients.
    Normal,
    /// Those of masters, of which there are none.
    Master,
    /// Those of replicas, of which there are none.
    Replica,
    /// Those of clients that have subscribed.
    PubSub,
}

/// What CLIENT KILL closes: connections for which all of this holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFilter<'a> {
    /// The connection's number.
    pub id: Option<i64>,
    /// Its kind.
    pub kind: Option<ClientKind>,
    /// The client's address.
    pub address: Option<&'a [u8]>,
    /// The node's address, as the client reaches it.
    pub local_address: Option<&'a [u8]>,
    /// The user that it is authenticated as. One that does not exist is an error: ``ERR No such user '…'``.
    pub user: Option<&'a [u8]>,
    /// It is open for at least so many seconds.
    pub age_min_s: Option<i64>,
    /// It is not the one that asks.
    pub skips_me: bool,
}

impl ClientFilter<'_> {
    /// All but the one that asks.
    pub const OTHERS: Self =
        Self { id: None, kind: None, address: None, local_address: None, user: None, age_min_s: None, skips_me: true };
}

/// What CLIENT SETINFO tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientInfo<'a> {
    /// The library's name.
    LibraryName(&'a [u8]),
    /// Its version.
    LibraryVersion(&'a [u8]),
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// All from here on.
    On,
    /// None, not even to this.
    Off,
    /// Not the one to the next command, nor to this.
    SkipNext,
}

pub(crate) fn id(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::Id))
}

pub(crate) fn info(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::Info))
}

pub(crate) fn getname(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::GetName))
}

pub(crate) fn getredir(_args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::GetRedirection))
}

pub(crate) fn setname(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::SetName(client_name(args.at(2))?)))
}

pub(crate) fn setinfo(args: Args<'_>) -> Parsed<'_> {
    let value = args.at(3);
    let info = match () {
        () if args.is(2, "lib-name") => ClientInfo::LibraryName(value),
        () if args.is(2, "lib-ver") => ClientInfo::LibraryVersion(value),
        () => return Err(CommandError::SetInfoOption(Excerpt::of(args.at(2)))),
    };
    if value.len() > ATTRIBUTE_BYTES_MAX {
        return Err(CommandError::StringTooLong);
    }
    if !is_attribute(value) {
        return Err(CommandError::SetInfoValue(Excerpt::of(args.at(2))));
    }
    Ok(Command::Client(ClientCommand::SetInfo(info)))
}

pub(crate) fn no_evict(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::NoEvict(args.switch(2)?)))
}

pub(crate) fn no_touch(args: Args<'_>) -> Parsed<'_> {
    Ok(Command::Client(ClientCommand::NoTouch(args.switch(2)?)))
}

pub(crate) fn reply(args: Args<'_>) -> Parsed<'_> {
    let reply = match () {
        () if args.is(2, "on") => ClientReply::On,
        () if args.is(2, "off") => ClientReply::Off,
        () if args.is(2, "skip") => ClientReply::SkipNext,
        () => return Err(CommandError::Syntax),
    };
    Ok(Command::Client(ClientCommand::Reply(reply)))
}

pub(crate) fn list(args: Args<'_>) -> Parsed<'_> {
    let filter = match args.len() {
        2 => ClientListFilter::All,
        4 if args.is(2, "type") => ClientListFilter::Kind(kind(args.at(3))?),
        4.. if args.is(2, "id") => {
            (3..args.len()).try_for_each(|at| args.integer_or(at, CommandError::InvalidClientId).map(|_| ()))?;
            ClientListFilter::Ids(ClientIds(args.from(3)))
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::Client(ClientCommand::List(filter)))
}

fn kind(name: &[u8]) -> Result<ClientKind, CommandError> {
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("normal") => Ok(ClientKind::Normal),
        () if is("master") => Ok(ClientKind::Master),
        () if is("replica") || is("slave") => Ok(ClientKind::Replica),
        () if is("pubsub") => Ok(ClientKind::PubSub),
        () => Err(CommandError::UnknownClientType(Excerpt::of(name))),
    }
}

pub(crate) fn kill(args: Args<'_>) -> Parsed<'_> {
    if args.len() == 3 {
        return Ok(Command::Client(ClientCommand::KillAddress(args.at(2))));
    }
    let mut filter = ClientFilter::OTHERS;
    let mut at = 2;
    while at < args.len() {
        let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
        match () {
            () if args.is(at, "id") => {
                let id = args.integer_or(at + 1, CommandError::ClientIdNotPositive)?;
                filter.id = Some(Some(id).filter(|id| *id > 0).ok_or(CommandError::ClientIdNotPositive)?);
            }
            () if args.is(at, "maxage") => {
                let age = args.integer_or(at + 1, CommandError::MaxAgeNotAnInteger)?;
                filter.age_min_s = Some(Some(age).filter(|age| *age > 0).ok_or(CommandError::MaxAgeNotPositive)?);
            }
            () if args.is(at, "type") => filter.kind = Some(kind(value)?),
            () if args.is(at, "addr") => filter.address = Some(value),
            () if args.is(at, "laddr") => filter.local_address = Some(value),
            () if args.is(at, "user") => filter.user = Some(value),
            () if args.is(at, "skipme") => {
                filter.skips_me = match () {
                    () if args.is(at + 1, "yes") => true,
                    () if args.is(at + 1, "no") => false,
                    () => return Err(CommandError::Syntax),
                };
            }
            () => return Err(CommandError::Syntax),
        }
        at += 2;
    }
    Ok(Command::Client(ClientCommand::Kill(filter)))
}
