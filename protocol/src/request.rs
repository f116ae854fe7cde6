//! Requests: what a client asks of a node.
//!
//! ```text
//! operation: u8
//! id:        u32   the reply carries it back; not 0
//! deadline:  u32   milliseconds that the client still waits; 0 means the node's default
//! fields of the operation
//! ```

use crate::admin::AdminCommand;
use crate::codec::{DecodeError, Reader, Writer};
use crate::frame;
use crate::limits::{
    BATCH_OPERATIONS_MAX, DEADLINE_MS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PING_BYTES_MAX, SCAN_ENTRIES_MAX, TTL_MS_MAX,
    VALUE_BYTES_MAX,
};
use crate::types::{Ack, ClientId, ClusterId, LogIndex, Receipt, RequestId, ShardId, Term, Version};
use crate::write_id::{WriteId, check_sequence, decode_write_id, encode_write_id};
use bytes::{BufMut, Bytes, BytesMut};

/// The newest protocol version this crate speaks.
pub const PROTOCOL_VERSION: u16 = 3;

/// Feature bits of HELLO.
pub mod feature {
    /// The node pushes a TOPOLOGY frame with request id 0 when the ring map or a leader changes.
    pub const TOPOLOGY_PUSH: u64 = 1;
    /// Both sides may send long messages in parts, see [`crate::part`].
    pub const PARTS: u64 = 2;
    /// Every feature that this crate knows.
    pub const ALL: u64 = TOPOLOGY_PUSH | PARTS;
}

pub(crate) mod operation {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const PING: u8 = 0x02;
    pub(crate) const TOPOLOGY: u8 = 0x03;
    pub(crate) const STATUS: u8 = 0x04;
    pub(crate) const EXPLAIN: u8 = 0x05;
    pub(crate) const GET: u8 = 0x10;
    pub(crate) const MULTI_GET: u8 = 0x11;
    pub(crate) const SCAN: u8 = 0x12;
    pub(crate) const WRITE: u8 = 0x20;
    pub(crate) const BATCH: u8 = 0x21;
    pub(crate) const ATOMIC: u8 = 0x22;
    pub(crate) const AWAIT: u8 = 0x23;
    pub(crate) const ADMIN: u8 = 0x30;
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The reply carries it back. Unique among the connection's unanswered requests, not 0.
    pub id: RequestId,
    /// Milliseconds that the client still waits, at most [`DEADLINE_MS_MAX`]; 0 means the node's default.
    pub deadline_ms: u32,
    /// What is asked.
    pub body: RequestBody,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestBody {
    /// Opens the connection; must come first.
    Hello(Hello),
    /// Answered with the same bytes, at most [`PING_BYTES_MAX`].
    Ping(Bytes),
    /// The ring map, with the leaders that the node knows.
    Topology,
    /// How a node, or every node, is doing.
    Status(StatusScope),
    /// Where a key lives and how it is stored.
    Explain(Bytes),
    /// One key's value.
    Get {
        /// The key.
        key: Bytes,
        /// How fresh the answer must be.
        mode: ReadMode,
    },
    /// The values of up to [`BATCH_OPERATIONS_MAX`] keys, a result each.
    MultiGet {
        /// The keys.
        keys: Vec<Bytes>,
        /// How fresh the answers must be.
        mode: ReadMode,
    },
    /// A page of one shard's keys.
    Scan(ScanRequest),
    /// One write.
    Write {
        /// Who writes; see [`WriteId`].
        id: WriteId,
        /// When to answer.
        ack: Ack,
        /// What to write.
        mutation: Mutation,
    },
    /// Up to [`BATCH_OPERATIONS_MAX`] independent writes, an outcome each. Write number i has the sequence number
    /// `id.sequence + i`.
    Batch {
        /// Who writes; the sequence number of the first write.
        id: WriteId,
        /// When to answer.
        ack: Ack,
        /// What to write.
        mutations: Vec<Mutation>,
    },
    /// Checks and writes in one shard, all or nothing.
    Atomic(AtomicRequest),
    /// What became of a write that was answered when it was merely accepted; waits until that is known.
    Await {
        /// The write.
        receipt: Receipt,
        /// How long to wait for it, in milliseconds; at most [`DEADLINE_MS_MAX`].
        wait_ms: u32,
    },
    /// An operator's command.
    Admin(AdminCommand),
}

/// The first request of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest protocol version the client speaks.
    pub version_min: u16,
    /// Newest protocol version the client speaks.
    pub version_max: u16,
    /// Features the client asks for, see [`feature`]; unknown bits are ignored.
    pub features: u64,
    /// The cluster the client means, if it knows; another one is refused.
    pub cluster: Option<ClusterId>,
    /// The client instance: a random UUID made once per instance and kept over reconnects.
    pub client: ClientId,
    /// What the client calls itself, for the operator's eyes.
    pub name: String,
}

/// How fresh a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ReadMode {
    /// Sees every write acknowledged before it was sent. The default.
    #[default]
    Linearizable,
    /// Whatever the asked node's replica holds; may be old.
    Stale,
}

/// Whose statuses are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum StatusScope {
    /// The asked node's.
    Node,
    /// Every node's that can be reached.
    Cluster,
}

/// One write to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutation {
    /// The key: 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// Must hold, or nothing is written.
    pub condition: Condition,
    /// What the reply says of the entry that was there before.
    pub return_previous: ReturnPrevious,
    /// What to do.
    pub action: Action,
}

/// What the reply to a write says of the entry that was there before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ReturnPrevious {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether the key existed. That takes a look at the index, and reads no value.
    Existence,
    /// The entry, with its value.
    Entry,
}

/// What must hold for a write to take effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key does not exist.
    IfAbsent,
    /// The key exists.
    IfPresent,
    /// The key exists with this version.
    IfVersion(Version),
    /// The key does not exist, or exists with this version.
    IfAbsentOrVersion(Version),
}

/// What a write does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stores a value of at most [`VALUE_BYTES_MAX`] bytes.
    Put {
        /// The value.
        value: Bytes,
        /// How long it lives.
        ttl: TimeToLive,
    },
    /// Removes the key.
    Delete,
    /// Adds to a decimal 64-bit integer; a missing key counts as 0. Keeps the time to live.
    Incr {
        /// What to add.
        by: i64,
    },
    /// Appends bytes; a missing key counts as empty. Keeps the time to live.
    Append {
        /// The bytes.
        value: Bytes,
    },
    /// Sets the time to live of an existing key.
    Expire {
        /// Milliseconds to live, 1 to [`TTL_MS_MAX`].
        ttl_ms: u64,
    },
    /// Takes the time to live off an existing key.
    Persist,
}

/// How long the value of a PUT lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum TimeToLive {
    /// For ever.
    #[default]
    Forever,
    /// So many milliseconds, 1 to [`TTL_MS_MAX`].
    Ms(u64),
    /// As long as what is there now. A key that does not exist, or has expired, has no time to live afterwards.
    Keep,
}

/// Checks and writes in one shard, all or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtomicRequest {
    /// Who writes.
    pub id: WriteId,
    /// When to answer.
    pub ack: Ack,
    /// What must hold, on keys that need not be written.
    pub checks: Vec<AtomicCheck>,
    /// What is written, in order; a later one sees the earlier ones. If any condition fails, nothing is written.
    pub mutations: Vec<Mutation>,
}

/// One check of an [`AtomicRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtomicCheck {
    /// The key.
    pub key: Bytes,
    /// What must hold.
    pub condition: Condition,
}

/// A place in the order in which a SCAN goes through a shard's keys. For clients it has no meaning; the default is before all
/// keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ScanCursor {
    /// Where in the order.
    pub order: u64,
    /// Of the keys that share that place, those of a higher version are still to come.
    pub version: Version,
}

impl ScanCursor {
    /// Bytes of the encoding.
    pub const BYTES: usize = 16;

    pub(crate) fn encode(self, out: &mut impl BufMut) {
        out.put_u64_le(self.order);
        out.put_u64_le(self.version.0);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { order: reader.u64()?, version: Version(reader.u64()?) })
    }
}

/// Asks for a page of one shard's keys, in an order of the shard's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanRequest {
    /// The shard; a full scan asks each in turn.
    pub shard: ShardId,
    /// Where to go on: the default to begin, then what the last page said.
    pub cursor: ScanCursor,
    /// Only keys that begin with this.
    pub prefix: Bytes,
    /// Most entries wanted, 1 to [`crate::limits::SCAN_ENTRIES_MAX`].
    pub limit: u32,
    /// Whether the values are wanted too.
    pub values: bool,
    /// How fresh the answer must be.
    pub mode: ReadMode,
}

impl Request {
    /// Appends the request as one frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::encode(out, |out| self.encode_body(out));
    }

    /// The request without its frame in two pieces, one after the other: the second is the value that a single write
    /// stores, which is not copied; of other requests it is empty.
    pub fn encode_pieces(&self) -> [Bytes; 2] {
        let mut out = BytesMut::new();
        let mut without = self.clone();
        let value = match &mut without.body {
            RequestBody::Write {
                mutation: Mutation { action: Action::Put { value, .. } | Action::Append { value }, .. },
                ..
            } => std::mem::take(value),
            _ => {
                self.encode_body(&mut out);
                return [out.freeze(), Bytes::new()];
            }
        };
        without.encode_body(&mut out);
        crate::codec::announce_last(&mut out, &value);
        [out.freeze(), value]
    }

    /// Appends the request without its frame, as it travels inside a forwarded message between nodes.
    pub fn encode_body(&self, out: &mut BytesMut) {
        let header = |out: &mut BytesMut, operation: u8| {
            out.put_u8(operation);
            out.put_u32_le(self.id.0);
            out.put_u32_le(self.deadline_ms);
        };
        match &self.body {
            RequestBody::Hello(hello) => {
                header(out, operation::HELLO);
                out.put_u16_le(hello.version_min);
                out.put_u16_le(hello.version_max);
                out.put_u64_le(hello.features);
                out.option(hello.cluster, |out, cluster| out.uuid(cluster.0));
                out.uuid(hello.client.0);
                out.text(&hello.name, NAME_BYTES_MAX);
            }
            RequestBody::Ping(payload) => {
                header(out, operation::PING);
                out.bytes(payload);
            }
            RequestBody::Topology => header(out, operation::TOPOLOGY),
            RequestBody::Status(scope) => {
                header(out, operation::STATUS);
                out.put_u8(match scope {
                    StatusScope::Node => 0,
                    StatusScope::Cluster => 1,
                });
            }
            RequestBody::Explain(key) => {
                header(out, operation::EXPLAIN);
                out.bytes(key);
            }
            RequestBody::Get { key, mode } => {
                header(out, operation::GET);
                encode_mode(out, *mode);
                out.bytes(key);
            }
            RequestBody::MultiGet { keys, mode } => {
                header(out, operation::MULTI_GET);
                encode_mode(out, *mode);
                out.count(keys.len());
                keys.iter().for_each(|key| out.bytes(key));
            }
            RequestBody::Scan(scan) => {
                header(out, operation::SCAN);
                out.put_u16_le(scan.shard.0);
                scan.cursor.encode(out);
                out.bytes(&scan.prefix);
                out.put_u32_le(scan.limit);
                out.bool(scan.values);
                encode_mode(out, scan.mode);
            }
            RequestBody::Write { id, ack, mutation } => {
                header(out, operation::WRITE);
                encode_write_id(out, *id, *ack);
                encode_mutation(out, mutation);
            }
            RequestBody::Batch { id, ack, mutations } => {
                header(out, operation::BATCH);
                encode_write_id(out, *id, *ack);
                out.count(mutations.len());
                mutations.iter().for_each(|mutation| encode_mutation(out, mutation));
            }
            RequestBody::Atomic(atomic) => {
                header(out, operation::ATOMIC);
                encode_write_id(out, atomic.id, atomic.ack);
                out.count(atomic.checks.len());
                for check in &atomic.checks {
                    encode_condition(out, check.condition);
                    out.bytes(&check.key);
                }
                out.count(atomic.mutations.len());
                atomic.mutations.iter().for_each(|mutation| encode_mutation(out, mutation));
            }
            RequestBody::Await { receipt, wait_ms } => {
                header(out, operation::AWAIT);
                receipt.encode(out);
                out.put_u32_le(*wait_ms);
            }
            RequestBody::Admin(command) => {
                header(out, operation::ADMIN);
                command.encode(out);
            }
        }
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes. Where the id could still be read, [`Request::peek_id`] gives it, so that the
    /// error can be answered.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let operation = reader.u8()?;
        let id = RequestId(reader.u32()?);
        if id.0 == 0 {
            return Err(DecodeError::UnknownValue { field: "request id", value: 0 });
        }
        let deadline_ms = decode_ms(&mut reader, "deadline in milliseconds")?;
        let body = decode_body(operation, &mut reader)?;
        reader.finish()?;
        Ok(Self { id, deadline_ms, body })
    }

    /// The key of a body that seems to be a GET: for what gets ready while the request waits its turn, not for answering it.
    /// Nothing else is looked at.
    pub fn peek_get(body: &[u8]) -> Option<&[u8]> {
        // Operation, id, deadline, mode, length of the key.
        let (front, key) = body.split_at_checked(14)?;
        let (operation, length) = (front[0], u32::from_le_bytes(*front.last_chunk()?));
        let is_get = operation == operation::GET && key.len() == length as usize && key.len() <= KEY_BYTES_MAX;
        is_get.then_some(key)
    }

    /// The request id of a body that may not decode as a whole.
    pub fn peek_id(body: &[u8]) -> Option<RequestId> {
        let id = u32::from_le_bytes(body.get(1..5)?.try_into().ok()?);
        (id != 0).then_some(RequestId(id))
    }
}

fn decode_body(operation: u8, reader: &mut Reader) -> Result<RequestBody, DecodeError> {
    Ok(match operation {
        operation::HELLO => RequestBody::Hello(Hello {
            version_min: reader.u16()?,
            version_max: reader.u16()?,
            features: reader.u64()?,
            cluster: reader.option("cluster id", Reader::cluster_id)?,
            client: reader.client_id()?,
            name: reader.text("client name", NAME_BYTES_MAX)?,
        }),
        operation::PING => RequestBody::Ping(reader.bytes("ping payload", PING_BYTES_MAX)?),
        operation::TOPOLOGY => RequestBody::Topology,
        operation::STATUS => RequestBody::Status(match reader.u8()? {
            0 => StatusScope::Node,
            1 => StatusScope::Cluster,
            value => return Err(DecodeError::UnknownValue { field: "status scope", value: value.into() }),
        }),
        operation::EXPLAIN => RequestBody::Explain(decode_key(reader)?),
        operation::GET => {
            let mode = decode_mode(reader)?;
            RequestBody::Get { mode, key: decode_key(reader)? }
        }
        operation::MULTI_GET => {
            let mode = decode_mode(reader)?;
            let count = reader.count("keys", BATCH_OPERATIONS_MAX, 4)?;
            let keys = (0..count).map(|_| decode_key(reader)).collect::<Result<_, _>>()?;
            RequestBody::MultiGet { keys, mode }
        }
        operation::SCAN => RequestBody::Scan(ScanRequest {
            shard: ShardId(reader.u16()?),
            cursor: ScanCursor::decode(reader)?,
            prefix: reader.bytes("prefix", KEY_BYTES_MAX)?,
            limit: decode_limit(reader)?,
            values: reader.bool("values")?,
            mode: decode_mode(reader)?,
        }),
        operation::WRITE => {
            let (id, ack) = decode_write_id(reader)?;
            RequestBody::Write { id, ack, mutation: decode_mutation(reader)? }
        }
        operation::BATCH => {
            let (id, ack) = decode_write_id(reader)?;
            let mutations = decode_mutations(reader)?;
            check_sequence(id.sequence + (mutations.len() as u64).saturating_sub(1))?;
            RequestBody::Batch { id, ack, mutations }
        }
        operation::ATOMIC => {
            let (id, ack) = decode_write_id(reader)?;
            let count = reader.count("checks", BATCH_OPERATIONS_MAX, 5)?;
            let checks = (0..count)
                .map(|_| Ok(AtomicCheck { condition: decode_condition(reader)?, key: decode_key(reader)? }))
                .collect::<Result<_, DecodeError>>()?;
            RequestBody::Atomic(AtomicRequest { id, ack, checks, mutations: decode_mutations(reader)? })
        }
        operation::AWAIT => RequestBody::Await {
            receipt: Receipt::decode(reader)?,
            wait_ms: decode_ms(reader, "wait in milliseconds")?,
        },
        operation::ADMIN => RequestBody::Admin(AdminCommand::decode(reader)?),
        unknown => return Err(DecodeError::UnknownOperation(unknown)),
    })
}

fn decode_ms(reader: &mut Reader, field: &'static str) -> Result<u32, DecodeError> {
    match reader.u32()? {
        ms if ms > DEADLINE_MS_MAX => {
            Err(DecodeError::OverLimit { field, value: ms.into(), limit: DEADLINE_MS_MAX.into() })
        }
        ms => Ok(ms),
    }
}

impl Receipt {
    pub(crate) fn encode(self, out: &mut impl BufMut) {
        out.put_u16_le(self.shard.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.index.0);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let nonzero = |field, value| match value {
            0 => Err(DecodeError::UnknownValue { field, value }),
            value => Ok(value),
        };
        Ok(Self {
            shard: ShardId(reader.u16()?),
            term: Term(nonzero("term of a receipt", reader.u64()?)?),
            index: LogIndex(nonzero("index of a receipt", reader.u64()?)?),
        })
    }
}

fn decode_key(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let key = reader.bytes("key length", KEY_BYTES_MAX)?;
    if key.is_empty() {
        return Err(DecodeError::UnknownValue { field: "key length", value: 0 });
    }
    Ok(key)
}

fn decode_limit(reader: &mut Reader) -> Result<u32, DecodeError> {
    match reader.u32()? {
        0 => Err(DecodeError::UnknownValue { field: "limit of a page", value: 0 }),
        limit if limit > SCAN_ENTRIES_MAX => {
            let (value, limit) = (limit.into(), SCAN_ENTRIES_MAX.into());
            Err(DecodeError::OverLimit { field: "limit of a page", value, limit })
        }
        limit => Ok(limit),
    }
}

fn encode_mode(out: &mut BytesMut, mode: ReadMode) {
    out.put_u8(match mode {
        ReadMode::Linearizable => 0,
        ReadMode::Stale => 1,
    });
}

fn decode_mode(reader: &mut Reader) -> Result<ReadMode, DecodeError> {
    match reader.u8()? {
        0 => Ok(ReadMode::Linearizable),
        1 => Ok(ReadMode::Stale),
        value => Err(DecodeError::UnknownValue { field: "read mode", value: value.into() }),
    }
}

fn encode_condition(out: &mut BytesMut, condition: Condition) {
    match condition {
        Condition::Always => out.put_u8(0),
        Condition::IfAbsent => out.put_u8(1),
        Condition::IfPresent => out.put_u8(2),
        Condition::IfVersion(version) => {
            out.put_u8(3);
            out.put_u64_le(version.0);
        }
        Condition::IfAbsentOrVersion(version) => {
            out.put_u8(4);
            out.put_u64_le(version.0);
        }
    }
}

fn decode_condition(reader: &mut Reader) -> Result<Condition, DecodeError> {
    match reader.u8()? {
        0 => Ok(Condition::Always),
        1 => Ok(Condition::IfAbsent),
        2 => Ok(Condition::IfPresent),
        3 => Ok(Condition::IfVersion(Version(reader.u64()?))),
        4 => Ok(Condition::IfAbsentOrVersion(Version(reader.u64()?))),
        value => Err(DecodeError::UnknownValue { field: "condition", value: value.into() }),
    }
}

/// The argument of a PUT that keeps the time to live: no time to live is as long.
const KEEP_TTL: u64 = u64::MAX;

const _: () = assert!(TTL_MS_MAX < KEEP_TTL, "no time to live reads as keeping it");

mod action {
    pub(super) const PUT: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const INCR: u8 = 3;
    pub(super) const APPEND: u8 = 4;
    pub(super) const EXPIRE: u8 = 5;
    pub(super) const PERSIST: u8 = 6;
}

fn encode_mutation(out: &mut BytesMut, mutation: &Mutation) {
    encode_mutation_head(out, mutation);
    out.bytes(&mutation.key);
    match &mutation.action {
        Action::Put { value, .. } | Action::Append { value } => out.bytes(value),
        Action::Delete | Action::Incr { .. } | Action::Expire { .. } | Action::Persist => {}
    }
}

/// All but the key and the value.
pub(crate) fn encode_mutation_head(out: &mut BytesMut, mutation: &Mutation) {
    let (code, argument) = match &mutation.action {
        Action::Put { ttl: TimeToLive::Forever, .. } => (action::PUT, 0),
        Action::Put { ttl: TimeToLive::Ms(ms), .. } => (action::PUT, *ms),
        Action::Put { ttl: TimeToLive::Keep, .. } => (action::PUT, KEEP_TTL),
        Action::Delete => (action::DELETE, 0),
        Action::Incr { by } => (action::INCR, by.cast_unsigned()),
        Action::Append { .. } => (action::APPEND, 0),
        Action::Expire { ttl_ms } => (action::EXPIRE, *ttl_ms),
        Action::Persist => (action::PERSIST, 0),
    };
    out.put_u8(code);
    encode_condition(out, mutation.condition);
    out.put_u8(match mutation.return_previous {
        ReturnPrevious::Nothing => 0,
        ReturnPrevious::Existence => 1,
        ReturnPrevious::Entry => 2,
    });
    out.put_u64_le(argument);
}

fn decode_mutation(reader: &mut Reader) -> Result<Mutation, DecodeError> {
    let code = reader.u8()?;
    let condition = decode_condition(reader)?;
    let return_previous = match reader.u8()? {
        0 => ReturnPrevious::Nothing,
        1 => ReturnPrevious::Existence,
        2 => ReturnPrevious::Entry,
        value => return Err(DecodeError::UnknownValue { field: "return previous", value: value.into() }),
    };
    let argument = reader.u64()?;
    let key = decode_key(reader)?;
    let ttl = |argument: u64| {
        if argument > TTL_MS_MAX {
            return Err(DecodeError::OverLimit {
                field: "time to live in milliseconds",
                value: argument,
                limit: TTL_MS_MAX,
            });
        }
        Ok(argument)
    };
    let unused = |argument: u64| match argument {
        0 => Ok(()),
        value => Err(DecodeError::UnknownValue { field: "unused argument", value }),
    };
    let action = match code {
        action::PUT => Action::Put {
            ttl: match argument {
                0 => TimeToLive::Forever,
                KEEP_TTL => TimeToLive::Keep,
                ms => TimeToLive::Ms(ttl(ms)?),
            },
            value: reader.bytes("value length", VALUE_BYTES_MAX)?,
        },
        action::DELETE => unused(argument).map(|()| Action::Delete)?,
        action::INCR => Action::Incr { by: argument.cast_signed() },
        action::APPEND => {
            unused(argument)?;
            Action::Append { value: reader.bytes("value length", VALUE_BYTES_MAX)? }
        }
        action::EXPIRE => match ttl(argument)? {
            0 => return Err(DecodeError::UnknownValue { field: "time to live in milliseconds", value: 0 }),
            ttl_ms => Action::Expire { ttl_ms },
        },
        action::PERSIST => unused(argument).map(|()| Action::Persist)?,
        value => return Err(DecodeError::UnknownValue { field: "action", value: value.into() }),
    };
    Ok(Mutation { key, condition, return_previous, action })
}

fn decode_mutations(reader: &mut Reader) -> Result<Vec<Mutation>, DecodeError> {
    let count = reader.count("mutations", BATCH_OPERATIONS_MAX, 15)?;
    (0..count).map(|_| decode_mutation(reader)).collect()
}
