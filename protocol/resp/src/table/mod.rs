//! The commands: their names, how many arguments they take, which of these are keys, and what clients ask about them.
//!
//! One table says it all: [`commands::COMMANDS`]. A command that has no line there is unknown to clients.

mod arguments;
mod commands;
mod describe;
mod index;
mod keys;
mod subcommands;

pub use describe::{write_docs, write_help, write_info, write_keys, write_list};
pub use keys::{Key, Keys};

use crate::command::{Args, Command, CommandError, Excerpt};
use crate::request::Request;

/// When a command becomes available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// What clients and tools need from the start.
    Start,
    /// More commands of strings and keys, and looking into the server.
    Strings,
    /// What clients ask a cluster.
    Cluster,
    /// Several commands as one.
    Transactions,
    /// Messages from client to client.
    Messages,
}

/// What COMMAND DOCS sorts a command under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Bits of strings.
    Bitmap,
    /// What clients ask a cluster.
    Cluster,
    /// The connection itself.
    Connection,
    /// Keys of any type.
    Generic,
    /// Messages from client to client.
    PubSub,
    /// Scripts and functions.
    Scripting,
    /// The server as a whole.
    Server,
    /// Values that are strings.
    String,
    /// Several commands as one.
    Transactions,
}

impl Group {
    /// As COMMAND DOCS writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bitmap => "bitmap",
            Self::Cluster => "cluster",
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::PubSub => "pubsub",
            Self::Scripting => "scripting",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }
}

/// A set of bits with names, in the order in which COMMAND INFO lists them.
macro_rules! bit_set {
    ($(#[$comment:meta])* $type:ident: $($bit:literal $constant:ident $name:literal $about:literal,)*) => {
        $(#[$comment])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $type(u32);

        impl $type {
            /// None.
            pub const NONE: Self = Self(0);
            $(#[doc = $about] pub const $constant: Self = Self(1 << $bit);)*

            /// All.
            pub const ALL: Self = Self($((1 << $bit))|*);

            /// Those of both sets.
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all of `other` are among these.
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// As COMMAND INFO writes them.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                const ALL: &[(&str, $type)] = &[$(($name, $type::$constant)),*];
                ALL.iter().filter(move |(_, bit)| self.has(*bit)).map(|(name, _)| *name)
            }

            /// The one with a name, in any case.
            pub fn named(wanted: &[u8]) -> Option<Self> {
                const ALL: &[(&str, $type)] = &[$(($name, $type::$constant)),*];
                ALL.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(wanted)).map(|(_, bit)| *bit)
            }
        }
    };
}

bit_set! {
    /// What a command does, and when it is allowed.
    Flags:
    0 WRITE "write" "Changes keys.",
    1 READONLY "readonly" "Reads keys.",
    2 DENYOOM "denyoom" "Needs room on the disk.",
    3 ADMIN "admin" "For operators.",
    12 PUBSUB "pubsub" "About messages from client to client.",
    4 NOSCRIPT "noscript" "Not in scripts.",
    5 BLOCKING "blocking" "May wait.",
    6 LOADING "loading" "Also while the node starts.",
    7 STALE "stale" "Also where the data may be old.",
    8 SKIP_SLOWLOG "skip_slowlog" "Not in the log of slow commands.",
    9 FAST "fast" "Takes about the same time for any value.",
    10 NO_AUTH "no_auth" "Also before the client is authenticated.",
    11 ALLOW_BUSY "allow_busy" "Also while a script runs.",
}

bit_set! {
    /// What access rules name commands by. [`CommandSpec::categories`] adds those that follow from flags.
    Categories:
    0 KEYSPACE "keyspace" "Keys of any type.",
    1 READ "read" "Reads keys.",
    2 WRITE "write" "Changes keys.",
    3 STRING "string" "Strings.",
    4 BITMAP "bitmap" "Bits of strings.",
    13 PUBSUB "pubsub" "Messages from client to client.",
    5 ADMIN "admin" "For operators.",
    6 FAST "fast" "Takes about the same time for any value.",
    7 SLOW "slow" "All that are not fast.",
    8 BLOCKING "blocking" "May wait.",
    9 DANGEROUS "dangerous" "To be used with care.",
    10 CONNECTION "connection" "The connection itself.",
    11 TRANSACTION "transaction" "Several commands as one.",
    12 SCRIPTING "scripting" "Scripts and functions.",
}

bit_set! {
    /// What a command does to a key.
    KeyAccess:
    0 READ "RO" "Reads the value.",
    1 MODIFY "RW" "Changes the value, which may depend on the old one.",
    2 OVERWRITE "OW" "Replaces the value.",
    3 REMOVE "RM" "Removes the key.",
    4 ACCESS "access" "Tells the client of the value.",
    5 UPDATE "update" "The new value is the client's.",
    6 INSERT "insert" "Adds, and changes nothing that was there.",
    7 DELETE "delete" "Removes what was there.",
    8 VARIABLE "variable_flags" "Depends on the arguments.",
}

/// Arguments that are keys: each `step`th from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Number of the first key's argument.
    pub first: u8,
    /// How far the last key is behind the first one; -1 for the last argument.
    pub last: i8,
    /// From one key to the next.
    pub step: u8,
    /// What is done to them.
    pub access: KeyAccess,
}

/// A command, or a subcommand.
#[derive(Debug)]
pub struct CommandSpec {
    /// In lower case; that of a subcommand is `command|subcommand`.
    pub full_name: &'static str,
    /// Arguments, the names among them: exactly so many, or at least `-arity` if it is negative.
    pub arity: i8,
    /// What it does, and when it is allowed.
    pub flags: Flags,
    /// Categories beside those that follow from the flags.
    pub(crate) own_categories: Categories,
    /// Which arguments are keys.
    pub key_specs: &'static [KeySpec],
    /// What COMMAND DOCS sorts it under.
    pub group: Group,
    /// Where it belongs in the order of work.
    pub tier: Tier,
    /// The release of Redis that had it first, or of Valkey where Redis has none.
    pub since: &'static str,
    /// The arguments behind the name, for people.
    pub syntax: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    /// What clients of a cluster need to know: where to send it, and how to join the replies.
    pub tips: &'static [&'static str],
    /// What may follow the name.
    pub subcommands: &'static [Self],
    pub(crate) parse: for<'a> fn(Args<'a>) -> Result<Command<'a>, CommandError>,
}

/// There is one of each name.
impl PartialEq for CommandSpec {
    fn eq(&self, other: &Self) -> bool {
        self.full_name == other.full_name
    }
}

impl Eq for CommandSpec {}

impl CommandSpec {
    /// The name, without that of the command that it belongs to.
    pub fn name(&self) -> &'static str {
        self.full_name.split_once('|').map_or(self.full_name, |(_, name)| name)
    }

    /// All categories.
    pub fn categories(&self) -> Categories {
        const IMPLIED: [(Flags, Categories); 5] = [
            (Flags::WRITE, Categories::WRITE),
            (Flags::READONLY, Categories::READ),
            (Flags::ADMIN, Categories::ADMIN.and(Categories::DANGEROUS)),
            (Flags::FAST, Categories::FAST),
            (Flags::BLOCKING, Categories::BLOCKING),
        ];
        let implied = IMPLIED.iter().filter(|(flag, _)| self.flags.has(*flag));
        let all = implied.fold(self.own_categories, |all, (_, category)| all.and(*category));
        if all.has(Categories::FAST) { all } else { all.and(Categories::SLOW) }
    }

    /// Whether a request of so many arguments, the names among them, is long enough and not too long.
    pub fn takes(&self, arguments: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }

    /// The subcommand of a name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands.iter().find(|subcommand| subcommand.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Every command, in the order of names; without subcommands.
pub fn commands() -> &'static [CommandSpec] {
    &commands::COMMANDS
}

/// The command of a name, in any case. Nothing is allocated.
pub fn command(name: &[u8]) -> Option<&'static CommandSpec> {
    index::find(name)
}

/// The command that `command|subcommand` or a plain name stands for, as clients name it to COMMAND INFO.
pub fn command_of_full_name(name: &[u8]) -> Option<&'static CommandSpec> {
    match memchr::memchr(b'|', name) {
        Some(bar) => command(&name[..bar])?.subcommand(&name[bar + 1..]),
        None => command(name),
    }
}

/// The command or subcommand that a request asks for. MULTI queues what this gives; its arguments are looked at when it runs.
///
/// # Errors
/// There is no such command, or no such subcommand, or it takes more or fewer arguments.
pub fn resolve(request: &Request) -> Result<&'static CommandSpec, CommandError> {
    let Some(found) = command(request.name()) else { return Err(CommandError::unknown_command(request)) };
    let spec = match request.get(1) {
        Some(name) if !found.subcommands.is_empty() => found.subcommand(name).ok_or_else(|| {
            CommandError::UnknownSubcommand { command: found.full_name, subcommand: Excerpt::of(name) }
        })?,
        _ => found,
    };
    if spec.takes(request.len()) { Ok(spec) } else { Err(CommandError::WrongNumberOfArguments(spec.full_name)) }
}

#[cfg(test)]
mod tests;
