//! Requests: what a client asks of a node.
//!
//! ```text
//! operation: u8
//! id:        u32   the reply carries it back; not 0
//! deadline:  u32   milliseconds that the client still waits; 0 means the node's default
//! fields of the operation
//! ```

use crate::admin::AdminCommand;
use crate::auth::AuthRequest;
use crate::codec::{DecodeError, Reader, Writer};
use crate::frame;
use crate::limits::{
    BATCH_OPERATIONS_MAX, DEADLINE_MS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PING_BYTES_MAX, SCAN_ENTRIES_MAX,
};
use crate::mutation::{
    Action, Condition, Mutation, decode_condition, decode_mutation, decode_mutations, encode_condition, encode_mutation,
};
use crate::transaction::TransactionRequest;
use crate::types::{Ack, ClientId, ClusterId, LogIndex, Receipt, RequestId, ShardId, Term, Version};
use crate::write_id::{WriteId, check_sequence, decode_write_id, encode_write_id};
use bytes::{BufMut, Bytes, BytesMut};

/// The newest protocol version this crate speaks.
pub const PROTOCOL_VERSION: u16 = 3;
/// What a client says over TLS that it speaks (ALPN): this protocol.
pub const CLIENT_ALPN: &[u8] = b"kvorum/1";

/// Feature bits of HELLO.
pub mod feature {
    /// The node pushes a TOPOLOGY frame with request id 0 when the ring map or a leader changes.
    pub const TOPOLOGY_PUSH: u64 = 1;
    /// Both sides may send long messages in parts, see [`crate::part`].
    pub const PARTS: u64 = 2;
    /// Before a request the client may say to which trace it belongs, see [`crate::trace`].
    pub const TRACE: u64 = 4;
    /// The node answers AUTH. Without it nobody can say who he is.
    pub const AUTH: u64 = 8;
    /// Every feature that this crate knows.
    pub const ALL: u64 = TOPOLOGY_PUSH | PARTS | TRACE | AUTH;
}

pub(crate) mod operation {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const PING: u8 = 0x02;
    pub(crate) const TOPOLOGY: u8 = 0x03;
    pub(crate) const STATUS: u8 = 0x04;
    pub(crate) const EXPLAIN: u8 = 0x05;
    pub(crate) const AUTH: u8 = 0x06;
    pub(crate) const GET: u8 = 0x10;
    pub(crate) const MULTI_GET: u8 = 0x11;
    pub(crate) const SCAN: u8 = 0x12;
    pub(crate) const WRITE: u8 = 0x20;
    pub(crate) const BATCH: u8 = 0x21;
    pub(crate) const ATOMIC: u8 = 0x22;
    pub(crate) const AWAIT: u8 = 0x23;
    pub(crate) const TRANSACTION: u8 = 0x24;
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
    /// Who the client is.
    Auth(AuthRequest),
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
    /// Checks, then operations of one shard in turn, a reply each, as one entry of its log.
    Transaction(TransactionRequest),
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
                mutation:
                    Mutation {
                        action: Action::Put { value, .. } | Action::Append { value } | Action::SetRange { value, .. },
                        ..
                    },
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
            RequestBody::Auth(auth) => {
                header(out, operation::AUTH);
                auth.encode(out);
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
                    encode_condition(out, &check.condition);
                    out.bytes(&check.key);
                }
                out.count(atomic.mutations.len());
                atomic.mutations.iter().for_each(|mutation| encode_mutation(out, mutation));
            }
            RequestBody::Transaction(transaction) => {
                header(out, operation::TRANSACTION);
                transaction.encode(out);
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
        operation::AUTH => RequestBody::Auth(AuthRequest::decode(reader)?),
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
        operation::TRANSACTION => RequestBody::Transaction(TransactionRequest::decode(reader)?),
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

pub(crate) fn decode_key(reader: &mut Reader) -> Result<Bytes, DecodeError> {
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
