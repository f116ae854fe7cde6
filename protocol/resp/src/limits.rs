//! Bounds of what a client may send. They are those of Redis, where Kvorum has none of its own.

use kvorum_protocol::limits;

/// Longest line: an inline command, or the line that announces a count or a length.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Most arguments of a command, its name among them.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// Most arguments of a command before the client is authenticated.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;

/// Longest argument before the client is authenticated.
pub const UNAUTHENTICATED_ARGUMENT_BYTES_MAX: usize = 16 << 10;

/// Longest argument of a command that is carried out; what `CONFIG GET proto-max-bulk-len` says.
pub const VALUE_BYTES_MAX: usize = limits::VALUE_BYTES_MAX;

/// Longest argument that is read past, so that the connection survives it. A longer one closes the connection.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 20;

/// Most bytes of all arguments of one command. More closes the connection.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;

/// Longest key.
pub const KEY_BYTES_MAX: usize = limits::KEY_BYTES_MAX;

/// A value of at least so many bytes is not copied into a reply: the reply refers to it.
pub const UNCOPIED_BYTES_MIN: usize = 16 << 10;

/// Longest pattern. Each of its bytes takes sixteen of memory, and time for each key.
pub const PATTERN_BYTES_MAX: usize = 128 << 10;

/// Most names that one COMMAND INFO or COMMAND DOCS asks about: each is answered with a kilobyte or more.
pub const NAMES_MAX: usize = 1024;

/// Longest name of a client, and of its library and version.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;

/// Databases that SELECT knows: 0 to 15.
pub const DATABASES: u32 = 16;

/// Longest text of a client that an error repeats.
pub(crate) const EXCERPT_BYTES_MAX: usize = 128;

const _: () = assert!(KEY_BYTES_MAX < VALUE_BYTES_MAX);
const _: () = assert!(VALUE_BYTES_MAX < ARGUMENT_BYTES_MAX);
const _: () = assert!(ARGUMENT_BYTES_MAX <= COMMAND_BYTES_MAX);
const _: () = assert!(UNAUTHENTICATED_ARGUMENT_BYTES_MAX < VALUE_BYTES_MAX);
// The place of an argument in its command is a `u32`. An argument's line is short: its number has 20 digits at most.
const _: () = assert!(COMMAND_BYTES_MAX + (ARGUMENTS_MAX + 1) * 32 < u32::MAX as usize);
