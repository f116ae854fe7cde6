//! What a request asks for: its arguments, understood.
//!
//! Errors come in the order in which Redis finds them, so that its texts are the ones that a client sees. Only what depends on
//! the value of a key is left to who carries the command out.

pub(crate) mod acl;
mod args;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod connection;
mod deadline;
mod error;
pub(crate) mod introspection;
pub(crate) mod keys;
pub(crate) mod pubsub;
pub(crate) mod server;
pub(crate) mod strings;
pub(crate) mod transactions;

pub use acl::AclCommand;
pub use args::Args;
pub use client::{ClientCommand, ClientFilter, ClientIds, ClientInfo, ClientKind, ClientListFilter, ClientReply};
pub use cluster::ClusterCommand;
pub use connection::{Credentials, Hello, Secret};
pub use deadline::Deadline;
pub use error::{CommandError, Excerpt};
pub use introspection::{CommandFilter, IntrospectionCommand};
pub use keys::{ExpireCondition, Scan, TtlForm};
pub use server::{ConfigCommand, LatencyCommand, ObjectQuestion, SlowlogCommand};
pub use strings::{BitRange, BitSearch, GetExpiry, LcsForm, Pairs, Set, SetCondition, SetExpiry, SetReply};

use crate::request::{Arguments, Request};
use crate::table::CommandSpec;

/// A command. Keys and values are slices of the request; [`Request::share`] makes values of their own of them.
///
/// Keys have 1 to [`crate::limits::KEY_BYTES_MAX`] bytes, values at most [`crate::limits::VALUE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// AUTH.
    Auth(Credentials<'a>),
    /// HELLO.
    Hello(Hello<'a>),
    /// PING, with what it is to answer.
    Ping(Option<&'a [u8]>),
    /// ECHO.
    Echo(&'a [u8]),
    /// QUIT.
    Quit,
    /// RESET.
    Reset,
    /// SELECT of a database.
    Select(u32),
    /// ASKING: no effect.
    Asking,
    /// READONLY: no effect.
    ReadOnly,
    /// READWRITE: no effect.
    ReadWrite,
    /// CLIENT.
    Client(ClientCommand<'a>),

    /// GET.
    Get(&'a [u8]),
    /// STRLEN.
    StrLen(&'a [u8]),
    /// GETRANGE and SUBSTR. Negative numbers count from the end; the last byte belongs to the part.
    GetRange {
        /// Of this value.
        key: &'a [u8],
        /// From this byte.
        start: i64,
        /// To this one.
        end: i64,
    },
    /// MGET.
    MGet(Arguments<'a>),
    /// LCS.
    Lcs {
        /// One value.
        left: &'a [u8],
        /// The other value.
        right: &'a [u8],
        /// What is answered.
        form: LcsForm,
    },
    /// GETBIT.
    GetBit {
        /// Of this value.
        key: &'a [u8],
        /// The bit's place; 0 is the highest bit of the first byte.
        offset: usize,
    },
    /// BITCOUNT.
    BitCount {
        /// Of this value.
        key: &'a [u8],
        /// In this part; without it in all of it.
        range: Option<BitRange>,
    },
    /// BITPOS.
    BitPosition {
        /// Of this value.
        key: &'a [u8],
        /// Whether a bit is looked for that is 1.
        bit: bool,
        /// In this part; without it in all of it.
        range: Option<BitSearch>,
    },

    /// SET and its kin.
    Set(Set<'a>),
    /// GETDEL.
    GetDel(&'a [u8]),
    /// GETEX.
    GetEx {
        /// Of this value.
        key: &'a [u8],
        /// What becomes of its expiry.
        expiry: GetExpiry,
    },
    /// APPEND.
    Append {
        /// To this value.
        key: &'a [u8],
        /// These bytes.
        value: &'a [u8],
    },
    /// SETRANGE. Where the value is too short, it is filled up with zeros. Nothing is changed if `value` is empty.
    SetRange {
        /// Of this value.
        key: &'a [u8],
        /// From this byte on.
        offset: usize,
        /// What is put there.
        value: &'a [u8],
    },
    /// MSET.
    MSet(Pairs<'a>),
    /// MSETNX.
    MSetNx(Pairs<'a>),
    /// INCR, DECR, INCRBY and DECRBY.
    IncrBy {
        /// This number.
        key: &'a [u8],
        /// By that.
        by: i64,
    },
    /// INCRBYFLOAT. `by` is a number to [`crate::number::decimal::Decimal::parse`].
    IncrByFloat {
        /// This number.
        key: &'a [u8],
        /// By that.
        by: &'a [u8],
    },
    /// SETBIT.
    SetBit {
        /// Of this value.
        key: &'a [u8],
        /// The bit's place; 0 is the highest bit of the first byte.
        offset: usize,
        /// What it becomes.
        bit: bool,
    },
    /// DELIFEQ: 1 if the key had the value and is removed, else 0.
    DelIfEqual {
        /// This key.
        key: &'a [u8],
        /// If it has this value.
        value: &'a [u8],
    },

    /// DEL and UNLINK.
    Delete(Arguments<'a>),
    /// EXISTS and TOUCH. A key that is named twice counts twice.
    Exists(Arguments<'a>),
    /// EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
    Expire {
        /// This key.
        key: &'a [u8],
        /// Expires then. A time that has passed removes it.
        deadline: Deadline,
        /// If this holds.
        condition: ExpireCondition,
    },
    /// PERSIST.
    Persist(&'a [u8]),
    /// TTL, PTTL, EXPIRETIME and PEXPIRETIME. -2 without the key, -1 without an expiry.
    Ttl {
        /// Of this key.
        key: &'a [u8],
        /// What is answered.
        form: TtlForm,
    },
    /// TYPE.
    Type(&'a [u8]),
    /// RENAME and RENAMENX.
    Rename {
        /// This key.
        from: &'a [u8],
        /// To that.
        to: &'a [u8],
        /// RENAMENX: if that is missing.
        only_if_absent: bool,
    },
    /// COPY. Of the same key in the same database it is [`CommandError::SameObject`].
    Copy {
        /// This key.
        from: &'a [u8],
        /// To that.
        to: &'a [u8],
        /// In this database; without it in the connection's.
        database: Option<u32>,
        /// Even if that is there.
        replace: bool,
    },
    /// RANDOMKEY.
    RandomKey,
    /// KEYS that match a pattern.
    Keys(&'a [u8]),
    /// SCAN.
    Scan(Scan<'a>),
    /// OBJECT.
    Object {
        /// Of this key.
        key: &'a [u8],
        /// What is asked.
        question: ObjectQuestion,
    },
    /// MEMORY USAGE of a key.
    MemoryUsage(&'a [u8]),
    /// WAIT.
    Wait {
        /// For so many replicas.
        replicas: i64,
        /// So long; 0 for ever.
        timeout_ms: u64,
    },
    /// WAITAOF.
    WaitAof {
        /// For the disk of the node.
        local: bool,
        /// For the disks of so many replicas.
        replicas: u64,
        /// So long; 0 for ever.
        timeout_ms: u64,
    },

    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// WATCH.
    Watch(Arguments<'a>),
    /// UNWATCH.
    Unwatch,

    /// PUBLISH.
    Publish {
        /// Through this channel.
        channel: &'a [u8],
        /// What is told.
        message: &'a [u8],
    },

    /// DBSIZE.
    DbSize,
    /// FLUSHALL and FLUSHDB.
    Flush {
        /// FLUSHALL.
        all_databases: bool,
    },
    /// FUNCTION FLUSH: no effect.
    FunctionFlush,
    /// TIME.
    Time,
    /// ROLE.
    Role,
    /// INFO of these sections; of the usual ones if none is named.
    Info(Arguments<'a>),
    /// MONITOR.
    Monitor,
    /// CONFIG.
    Config(ConfigCommand<'a>),
    /// COMMAND.
    Introspection(IntrospectionCommand<'a>),
    /// ACL.
    Acl(AclCommand<'a>),
    /// MODULE LIST: an empty array.
    ModuleList,
    /// SLOWLOG.
    Slowlog(SlowlogCommand),
    /// LATENCY.
    Latency(LatencyCommand<'a>),
    /// CLUSTER.
    Cluster(ClusterCommand<'a>),
    /// The subcommand HELP of this command; [`crate::table::write_help`] writes the reply.
    Help(&'static CommandSpec),
}

impl<'a> Command<'a> {
    /// What a request asks for, once [`crate::table::resolve`] has told its command.
    ///
    /// # Errors
    /// The arguments are none of this command. The connection goes on.
    pub fn parse(spec: &'static CommandSpec, request: &'a Request) -> Result<Self, CommandError> {
        if !spec.takes(request.len()) {
            return Err(CommandError::WrongNumberOfArguments(spec.full_name));
        }
        (spec.parse)(Args { spec, request })
    }
}

#[cfg(test)]
mod tests;
