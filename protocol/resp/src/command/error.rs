//! Why a command is not carried out, in Redis' words.

use crate::limits::{DATABASES, EXCERPT_BYTES_MAX, KEY_BYTES_MAX};
use crate::request::Request;
use std::borrow::Cow;
use std::fmt;

/// A part of what a client sent, short enough to repeat: up to the first zero byte, 128 bytes at most.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Vec<u8>);

impl Excerpt {
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(excerpt(text, EXCERPT_BYTES_MAX).to_vec())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// At most `bytes_max` bytes, up to the first zero byte.
fn excerpt(text: &[u8], bytes_max: usize) -> &[u8] {
    let text = &text[..text.len().min(bytes_max)];
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// Why a command is not carried out. The client is told [`CommandError::text`], and the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No command has this name.
    UnknownCommand {
        /// The name.
        name: Excerpt,
        /// The arguments, each in quotes with a blank behind.
        arguments: Vec<u8>,
    },
    /// The command has no such subcommand.
    UnknownSubcommand {
        /// The command.
        command: &'static str,
        /// What is no subcommand of it.
        subcommand: Excerpt,
    },
    /// Too many arguments for a subcommand whose arity allows them.
    SubcommandSyntax {
        /// The command.
        command: &'static str,
        /// The subcommand, as the client wrote it.
        subcommand: Excerpt,
    },
    /// Too many arguments, or too few, for the command of this full name.
    WrongNumberOfArguments(&'static str),
    /// An option that the command does not have, or that another one excludes.
    Syntax,
    /// An argument is no whole number of 64 bits.
    NotAnInteger,
    /// An argument must not be negative.
    NotPositive,
    /// An argument must be between these.
    NotBetween(i64, i64),
    /// An argument is no decimal number.
    NotAFloat,
    /// The command of this full name can't set this time of expiry.
    InvalidExpireTime(&'static str),
    /// EXPIRE and its like have no such option.
    UnsupportedOption(Excerpt),
    /// NX beside another option of EXPIRE.
    ExpireOptionsWithNx,
    /// GT beside LT.
    ExpireOptionsGtLt,
    /// No cursor of SCAN.
    InvalidCursor,
    /// SETRANGE before the value's begin.
    OffsetOutOfRange,
    /// A bit's place is no number, or behind the longest value.
    BitOffset,
    /// A bit is neither 0 nor 1.
    Bit,
    /// The bit that BITPOS looks for is neither 0 nor 1.
    BitWanted,
    /// DECRBY of the lowest number.
    DecrementOverflow,
    /// LCS with LEN and IDX.
    LcsLengthAndIndexes,
    /// COPY of a key to itself.
    SameObject,
    /// A database that does not exist.
    DatabaseOutOfRange,
    /// A time to wait that is no number.
    TimeoutNotAnInteger,
    /// A time to wait that is negative.
    TimeoutNegative,
    /// HELLO with no number of a version.
    ProtocolNotAnInteger,
    /// HELLO with a version that is neither 2 nor 3.
    UnsupportedProtocol,
    /// HELLO has no such option.
    HelloOption(Excerpt),
    /// A name of a client with blanks or bytes that are no printable ASCII.
    ClientName,
    /// CLIENT SETINFO has no such attribute.
    SetInfoOption(Excerpt),
    /// As [`Self::ClientName`], of this attribute of CLIENT SETINFO.
    SetInfoValue(Excerpt),
    /// No type of clients.
    UnknownClientType(Excerpt),
    /// CLIENT LIST with what is no client's number.
    InvalidClientId,
    /// CLIENT KILL with what is no client's number.
    ClientIdNotPositive,
    /// CLIENT KILL with an age that is no number.
    MaxAgeNotAnInteger,
    /// CLIENT KILL with an age that is not above 0.
    MaxAgeNotPositive,
    /// SLOWLOG GET with a number below -1.
    SlowlogCount,
    /// FUNCTION FLUSH with another option than SYNC or ASYNC.
    FunctionFlushOption,
    /// No slot of a cluster.
    InvalidSlot,
    /// No slot of a cluster, or fewer than no keys.
    InvalidSlotOrCount,
    /// COMMAND GETKEYS of an unknown command.
    GetKeysUnknown,
    /// COMMAND GETKEYS of a command without keys.
    GetKeysNone,
    /// COMMAND GETKEYS with too many or too few arguments.
    GetKeysArity,
    /// A key of no bytes, which Redis would take.
    EmptyKey,
    /// A key of more than [`KEY_BYTES_MAX`] bytes, which Redis would take.
    KeyTooLong,
    /// A value of more than [`crate::limits::VALUE_BYTES_MAX`] bytes.
    StringTooLong,
}

impl CommandError {
    pub(crate) fn unknown_command(request: &Request) -> Self {
        let mut arguments: Vec<u8> = Vec::new();
        for argument in request.every(1, 1) {
            let Some(room) = EXCERPT_BYTES_MAX.checked_sub(arguments.len()).filter(|room| *room > 0) else { break };
            arguments.push(b'\'');
            arguments.extend_from_slice(excerpt(argument, room));
            arguments.extend_from_slice(b"' ");
        }
        Self::UnknownCommand { name: Excerpt::of(request.name()), arguments }
    }

    /// What the client is told: the prefix and the text, without the `-` and the end of the line. Bytes that the client sent
    /// may be in it, ends of lines too; [`crate::ReplyWriter::error`] makes blanks of these.
    pub fn text(&self) -> Cow<'static, [u8]> {
        match self.constant() {
            Some(text) => Cow::Borrowed(text.as_bytes()),
            None => Cow::Owned(self.composed()),
        }
    }

    /// A text that is always the same.
    fn constant(&self) -> Option<&'static str> {
        Some(match self {
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotPositive => "ERR value is out of range, must be positive",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::ExpireOptionsWithNx => "ERR NX and XX, GT or LT options at the same time are not compatible",
            Self::ExpireOptionsGtLt => "ERR GT and LT options at the same time are not compatible",
            Self::InvalidCursor => "ERR invalid cursor",
            Self::OffsetOutOfRange => "ERR offset is out of range",
            Self::BitOffset => "ERR bit offset is not an integer or out of range",
            Self::Bit => "ERR bit is not an integer or out of range",
            Self::BitWanted => "ERR The bit argument must be 1 or 0.",
            Self::DecrementOverflow => "ERR decrement would overflow",
            Self::LcsLengthAndIndexes => "ERR If you want both the length and indexes, please just use IDX.",
            Self::SameObject => "ERR source and destination objects are the same",
            Self::DatabaseOutOfRange => "ERR DB index is out of range",
            Self::TimeoutNotAnInteger => "ERR timeout is not an integer or out of range",
            Self::TimeoutNegative => "ERR timeout is negative",
            Self::ProtocolNotAnInteger => "ERR Protocol version is not an integer or out of range",
            Self::UnsupportedProtocol => "NOPROTO unsupported protocol version",
            Self::ClientName => "ERR Client names cannot contain spaces, newlines or special characters.",
            Self::InvalidClientId => "ERR Invalid client ID",
            Self::ClientIdNotPositive => "ERR client-id should be greater than 0",
            Self::MaxAgeNotAnInteger => "ERR maxage is not an integer or out of range",
            Self::MaxAgeNotPositive => "ERR maxage should be greater than 0",
            Self::SlowlogCount => "ERR count should be greater than or equal to -1",
            Self::FunctionFlushOption => "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
            Self::InvalidSlot => "ERR Invalid slot",
            Self::InvalidSlotOrCount => "ERR Invalid slot or number of keys",
            Self::GetKeysUnknown => "ERR Invalid command specified",
            Self::GetKeysNone => "ERR The command has no key arguments",
            Self::GetKeysArity => "ERR Invalid number of arguments specified for command",
            Self::EmptyKey => "ERR a key of 0 bytes is not supported",
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::UnknownCommand { .. }
            | Self::UnknownSubcommand { .. }
            | Self::SubcommandSyntax { .. }
            | Self::WrongNumberOfArguments(_)
            | Self::NotBetween(..)
            | Self::InvalidExpireTime(_)
            | Self::UnsupportedOption(_)
            | Self::HelloOption(_)
            | Self::SetInfoOption(_)
            | Self::SetInfoValue(_)
            | Self::UnknownClientType(_)
            | Self::KeyTooLong => return None,
        })
    }

    /// A text with something in it.
    fn composed(&self) -> Vec<u8> {
        match self {
            Self::UnknownCommand { name, arguments } => {
                [b"ERR unknown command '", &name.0[..], b"', with args beginning with: ", arguments].concat()
            }
            Self::UnknownSubcommand { command, subcommand } => {
                let help = format!("'. Try {} HELP.", command.to_ascii_uppercase());
                [b"ERR unknown subcommand '", &subcommand.0[..], help.as_bytes()].concat()
            }
            Self::SubcommandSyntax { command, subcommand } => {
                let help = format!("'. Try {} HELP.", command.to_ascii_uppercase());
                let begin = b"ERR unknown subcommand or wrong number of arguments for '";
                [begin, &subcommand.0[..], help.as_bytes()].concat()
            }
            Self::WrongNumberOfArguments(name) => format!("ERR wrong number of arguments for '{name}' command").into(),
            Self::NotBetween(least, most) => {
                format!("ERR value is out of range, value must between {least} and {most}").into()
            }
            Self::InvalidExpireTime(name) => format!("ERR invalid expire time in '{name}' command").into(),
            Self::UnsupportedOption(option) => [b"ERR Unsupported option ", &option.0[..]].concat(),
            Self::HelloOption(option) => [b"ERR Syntax error in HELLO option '", &option.0[..], b"'"].concat(),
            Self::SetInfoOption(option) => [b"ERR Unrecognized option '", &option.0[..], b"'"].concat(),
            Self::SetInfoValue(option) => {
                [b"ERR ", &option.0[..], b" cannot contain spaces, newlines or special characters."].concat()
            }
            Self::UnknownClientType(kind) => [b"ERR Unknown client type '", &kind.0[..], b"'"].concat(),
            Self::KeyTooLong => format!("ERR a key has {KEY_BYTES_MAX} bytes at most").into(),
            constant => constant.constant().unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl std::error::Error for CommandError {}

/// A database's number, if there is such a database.
pub(crate) fn database(number: i64) -> Result<u32, CommandError> {
    let number = u32::try_from(number).ok().filter(|number| *number < DATABASES);
    number.ok_or(CommandError::DatabaseOutOfRange)
}
