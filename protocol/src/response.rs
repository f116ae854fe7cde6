//! Responses: what a node answers.
//!
//! ```text
//! kind:  u8
//! id:    u32   the request's; 0 for a frame that was not asked for
//! epoch: u64   of the ring map that the node holds
//! flags: u8    bit 0: another node answered, this one forwarded
//! fields of the kind
//! ```

use crate::auth::AuthView;
use crate::codec::{DecodeError, Reader, Writer, announce_last};
use crate::error::ServerError;
use crate::frame;
use crate::limits::{
    AUTH_BYTES_MAX, AUTH_NAME_BYTES_MAX, BATCH_OPERATIONS_MAX, DECIMAL_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX,
    NODES_MAX, PING_BYTES_MAX, REPLICAS_MAX, SCAN_ENTRIES_MAX, VALUE_BYTES_MAX,
};
use crate::log_level::LogLevelView;
use crate::monitor::MonitorView;
use crate::plan::ClusterPlan;
use crate::request::ScanCursor;
use crate::slow::SlowLogView;
use crate::status::NodeStatus;
use crate::token::Authority;
use crate::topology::{Topology, decode_durability, encode_durability};
use crate::transaction::TransactionResult;
use crate::types::{Ack, ClusterId, Durability, Entry, Epoch, NodeId, Receipt, RequestId, ShardId, Version};
use bytes::{BufMut, Bytes, BytesMut};

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const PONG: u8 = 0x02;
    pub(super) const TOPOLOGY: u8 = 0x03;
    pub(super) const STATUS: u8 = 0x04;
    pub(super) const EXPLANATION: u8 = 0x05;
    pub(super) const DONE: u8 = 0x06;
    pub(super) const PLAN: u8 = 0x07;
    pub(super) const AUTHORITY: u8 = 0x08;
    pub(super) const CHALLENGE: u8 = 0x09;
    pub(super) const AUTHENTICATED: u8 = 0x0a;
    pub(super) const AUTH_VIEW: u8 = 0x0b;
    pub(super) const SLOW_LOG: u8 = 0x0c;
    pub(super) const MONITOR: u8 = 0x0d;
    pub(super) const LOG_LEVEL: u8 = 0x0e;
    pub(super) const VALUE: u8 = 0x10;
    pub(super) const VALUES: u8 = 0x11;
    pub(super) const PAGE: u8 = 0x12;
    pub(super) const WRITTEN: u8 = 0x20;
    pub(super) const BATCH: u8 = 0x21;
    pub(super) const ATOMIC: u8 = 0x22;
    pub(super) const AWAITED: u8 = 0x23;
    pub(super) const TRANSACTION: u8 = 0x24;
    pub(super) const ERROR: u8 = 0x7f;
}

const FLAG_FORWARDED: u8 = 1;

/// One response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The request it answers; 0 for a pushed frame.
    pub id: RequestId,
    /// The epoch of the ring map that the answering node holds. A higher one than the client's: ask for TOPOLOGY.
    pub epoch: Epoch,
    /// Another node answered and this one passed it on: the client's idea of the leader is old.
    pub forwarded: bool,
    /// The answer.
    pub body: ResponseBody,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponseBody {
    /// To HELLO.
    Hello(HelloReply),
    /// To PING: its bytes.
    Pong(Bytes),
    /// To TOPOLOGY, and pushed.
    Topology(Topology),
    /// To STATUS: one node, or as many as could be reached.
    Status(Vec<NodeStatus>),
    /// To EXPLAIN.
    Explanation(Explanation),
    /// To an admin command.
    Done,
    /// To the admin command that asks what the cluster does.
    Plan(Box<ClusterPlan>),
    /// The cluster's authority.
    Authority(Authority),
    /// To AUTH by a password: what the client is to answer, of at most [`AUTH_BYTES_MAX`] bytes.
    Challenge(Bytes),
    /// To AUTH, once it is known who the client is; and to the admin command that asks.
    Authenticated {
        /// The user; empty for somebody whom nobody has asked.
        user: String,
        /// What proves that the node knows the password, of at most [`AUTH_BYTES_MAX`] bytes; else empty.
        proof: Bytes,
    },
    /// To the admin command that asks who may do what.
    AuthView(Box<AuthView>),
    /// To the admin command that asks which operations took long.
    SlowLog(Box<SlowLogView>),
    /// To the admin command that watches requests.
    Monitor(Box<MonitorView>),
    /// To the admin command about how much a node logs.
    LogLevel(LogLevelView),
    /// To GET: the entry, if there is one.
    Value(Option<Entry>),
    /// To MULTI-GET: a result per key, in the order asked.
    Values(Vec<Result<Option<Entry>, ServerError>>),
    /// To SCAN.
    Page(ScanPage),
    /// To a write.
    Written(WriteResult),
    /// To a BATCH: a result per write, in the order asked.
    Batch(Vec<Result<WriteResult, ServerError>>),
    /// To an ATOMIC.
    Atomic(AtomicResult),
    /// To a TRANSACTION.
    Transaction(TransactionResult),
    /// To an AWAIT.
    Awaited(Awaited),
    /// To any request: it failed.
    Error(ServerError),
}

/// The node's side of HELLO.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloReply {
    /// The protocol version of this connection from here on.
    pub version: u16,
    /// The features that both sides know.
    pub features: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// What "committed" means in this cluster.
    pub durability: Durability,
    /// The node's program and its version.
    pub program: String,
}

/// What became of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteResult {
    /// Whether it took effect.
    pub status: WriteStatus,
    /// The version: after an effect, the key's new one (for DELETE, the version the removal was given); else the one
    /// the key has, or 0 if there is no such key.
    pub version: Version,
    /// What was waited for.
    pub ack: Ack,
    /// What that is worth.
    pub durability: Durability,
    /// After INCR the new number; after APPEND and SET-RANGE the new length in bytes; after SET-BIT what the bit was.
    pub number: Option<i64>,
    /// After INCR-DECIMAL the new number, as it is stored. An answer has this or `number`.
    pub decimal: Option<Bytes>,
    /// The entry that was there before, if it was asked for and there was one.
    pub previous: Option<Entry>,
    /// Of a write that took effect and is merely accepted: where it stands.
    pub receipt: Option<Receipt>,
    /// Whether the key existed before, if only that was asked for. An answer that is remembered for the sake of retries
    /// doesn't tell.
    pub existed: Option<bool>,
    /// Another request has done it under the same one-shot name, and this is what that one was answered.
    pub replayed: bool,
}

/// Whether a write took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum WriteStatus {
    /// It did.
    Applied,
    /// Its condition did not hold, or what EXPIRE-IF wants of the time to live.
    ConditionFailed,
    /// DELETE, EXPIRE, EXPIRE-IF or PERSIST of a key that does not exist, or PERSIST of one without a time to live. In a
    /// TRANSACTION also a rename or a copy of a key that does not exist.
    Missing,
}

/// What became of an ATOMIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AtomicResult {
    /// All of it took effect: a result per mutation, in order.
    Applied(Vec<WriteResult>),
    /// Nothing did.
    ConditionFailed {
        /// The first check (counted from 0, checks first, then mutations) that did not hold.
        position: u32,
        /// The version that its key has, 0 if there is no such key.
        version: Version,
        /// As [`WriteResult::replayed`].
        replayed: bool,
    },
}

/// What became of a write that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Awaited {
    /// A quorum has it, and it can be read.
    Applied,
    /// A later leader's log does without it. It never takes effect.
    Lost,
    /// The log no longer tells.
    Forgotten,
}

/// A page of a SCAN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanPage {
    /// The keys, with their entries; the values are empty unless they were asked for.
    pub entries: Vec<(Bytes, Entry)>,
    /// Where the next page begins; `None` at the shard's end.
    pub next: Option<ScanCursor>,
}

/// Where a key lives and how it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The key's shard.
    pub shard: ShardId,
    /// The key's position on the ring.
    pub ring_position: u64,
    /// The node that leads the shard, if known.
    pub leader: Option<NodeId>,
    /// The nodes that hold the shard.
    pub replicas: Vec<NodeId>,
    /// How the key is stored on the answering node, if it is there.
    pub stored: Option<StoredEntry>,
    /// How often the answering node's replica was asked for the key lately, per second: an estimate from samples.
    pub reads_per_second: u64,
    /// How often it was told to write it, likewise.
    pub writes_per_second: u64,
}

/// How a key is stored on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredEntry {
    /// The key's version.
    pub version: Version,
    /// The value's length in bytes.
    pub value_bytes: u32,
    /// When it expires, in milliseconds of log time.
    pub expires_at_ms: Option<u64>,
    /// The segment file that holds the record.
    pub segment: u32,
    /// The record's offset in that file, in bytes.
    pub offset: u32,
}

impl Response {
    /// Appends the response as one frame.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::encode(out, |out| self.encode_body(out));
    }

    /// The response without its frame in two pieces, one after the other: the second is the value of a GET, which is not
    /// copied; of other responses it is empty.
    pub fn encode_pieces(&self) -> [Bytes; 2] {
        let mut out = BytesMut::new();
        let ResponseBody::Value(Some(entry)) = &self.body else {
            self.encode_body(&mut out);
            return [out.freeze(), Bytes::new()];
        };
        let body = ResponseBody::Value(Some(Entry { value: Bytes::new(), ..entry.clone() }));
        Self { id: self.id, epoch: self.epoch, forwarded: self.forwarded, body }.encode_body(&mut out);
        announce_last(&mut out, &entry.value);
        [out.freeze(), entry.value.clone()]
    }

    /// About how many bytes the response takes: those of its values and keys, which alone can make it long.
    pub fn bytes_about(&self) -> usize {
        let entry = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        let written = |result: &WriteResult| entry(&result.previous) + 64;
        match &self.body {
            ResponseBody::Value(value) => entry(value),
            ResponseBody::Values(values) => values.iter().map(|value| 64 + value.as_ref().map_or(0, entry)).sum(),
            ResponseBody::Page(page) => page.entries.iter().map(|(key, entry)| key.len() + entry.value.len()).sum(),
            ResponseBody::Written(result) => written(result),
            ResponseBody::Batch(results) => results.iter().map(|result| result.as_ref().map_or(64, written)).sum(),
            ResponseBody::Atomic(AtomicResult::Applied(results)) => results.iter().map(written).sum(),
            ResponseBody::Transaction(TransactionResult::Done(replies)) => {
                replies.iter().map(|reply| 64 + reply.value_bytes()).sum()
            }
            _ => 0,
        }
    }

    /// Appends the response without its frame, as it travels inside a forwarded reply between nodes.
    pub fn encode_body(&self, out: &mut BytesMut) {
        let header = |out: &mut BytesMut, kind: u8| {
            out.put_u8(kind);
            out.put_u32_le(self.id.0);
            out.put_u64_le(self.epoch.0);
            out.put_u8(if self.forwarded { FLAG_FORWARDED } else { 0 });
        };
        match &self.body {
            ResponseBody::Hello(hello) => {
                header(out, kind::HELLO);
                out.put_u16_le(hello.version);
                out.put_u64_le(hello.features);
                out.uuid(hello.cluster.0);
                out.uuid(hello.node.0);
                encode_durability(out, hello.durability);
                out.text(&hello.program, NAME_BYTES_MAX);
            }
            ResponseBody::Pong(payload) => {
                header(out, kind::PONG);
                out.bytes(payload);
            }
            ResponseBody::Topology(topology) => {
                header(out, kind::TOPOLOGY);
                topology.encode(out);
            }
            ResponseBody::Status(nodes) => {
                header(out, kind::STATUS);
                out.count(nodes.len());
                nodes.iter().for_each(|node| node.encode(out));
            }
            ResponseBody::Explanation(explanation) => {
                header(out, kind::EXPLANATION);
                encode_explanation(out, explanation);
            }
            ResponseBody::Done => header(out, kind::DONE),
            ResponseBody::Authority(authority) => {
                header(out, kind::AUTHORITY);
                authority.encode(out);
            }
            ResponseBody::Plan(plan) => {
                header(out, kind::PLAN);
                plan.encode(out);
            }
            ResponseBody::Challenge(challenge) => {
                header(out, kind::CHALLENGE);
                out.bytes(challenge);
            }
            ResponseBody::Authenticated { user, proof } => {
                header(out, kind::AUTHENTICATED);
                out.text(user, AUTH_NAME_BYTES_MAX);
                out.bytes(proof);
            }
            ResponseBody::SlowLog(view) => {
                header(out, kind::SLOW_LOG);
                view.encode(out);
            }
            ResponseBody::Monitor(view) => {
                header(out, kind::MONITOR);
                view.encode(out);
            }
            ResponseBody::LogLevel(view) => {
                header(out, kind::LOG_LEVEL);
                view.encode(out);
            }
            ResponseBody::AuthView(view) => {
                header(out, kind::AUTH_VIEW);
                view.encode(out);
            }
            ResponseBody::Value(entry) => {
                header(out, kind::VALUE);
                out.option(entry.as_ref(), encode_entry);
            }
            ResponseBody::Values(results) => {
                header(out, kind::VALUES);
                encode_results(out, results, |out, entry| out.option(entry.as_ref(), encode_entry));
            }
            ResponseBody::Page(page) => {
                header(out, kind::PAGE);
                out.option(page.next, |out, next| next.encode(out));
                out.count(page.entries.len());
                for (key, entry) in &page.entries {
                    out.bytes(key);
                    encode_entry(out, entry);
                }
            }
            ResponseBody::Written(result) => {
                header(out, kind::WRITTEN);
                result.encode_answer(out);
            }
            ResponseBody::Batch(results) => {
                header(out, kind::BATCH);
                encode_results(out, results, |out, result| result.encode_answer(out));
            }
            ResponseBody::Atomic(result) => {
                header(out, kind::ATOMIC);
                result.encode_answer(out);
            }
            ResponseBody::Transaction(result) => {
                header(out, kind::TRANSACTION);
                result.encode(out);
            }
            ResponseBody::Awaited(awaited) => {
                header(out, kind::AWAITED);
                out.put_u8(match awaited {
                    Awaited::Applied => 0,
                    Awaited::Lost => 1,
                    Awaited::Forgotten => 2,
                });
            }
            ResponseBody::Error(error) => {
                header(out, kind::ERROR);
                error.encode(out);
            }
        }
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let id = RequestId(reader.u32()?);
        let epoch = Epoch(reader.u64()?);
        let forwarded = match reader.u8()? {
            0 => false,
            FLAG_FORWARDED => true,
            value => return Err(DecodeError::UnknownValue { field: "response flags", value: value.into() }),
        };
        let body = decode_body(kind, &mut reader)?;
        reader.finish()?;
        Ok(Self { id, epoch, forwarded, body })
    }
}

fn decode_body(kind: u8, reader: &mut Reader) -> Result<ResponseBody, DecodeError> {
    Ok(match kind {
        kind::HELLO => ResponseBody::Hello(HelloReply {
            version: reader.u16()?,
            features: reader.u64()?,
            cluster: reader.cluster_id()?,
            node: reader.node_id()?,
            durability: decode_durability(reader)?,
            program: reader.text("program", NAME_BYTES_MAX)?,
        }),
        kind::PONG => ResponseBody::Pong(reader.bytes("pong payload", PING_BYTES_MAX)?),
        kind::TOPOLOGY => ResponseBody::Topology(Topology::decode(reader)?),
        kind::STATUS => {
            let count = reader.count("nodes", NODES_MAX, 80)?;
            ResponseBody::Status((0..count).map(|_| NodeStatus::decode(reader)).collect::<Result<_, _>>()?)
        }
        kind::EXPLANATION => ResponseBody::Explanation(decode_explanation(reader)?),
        kind::DONE => ResponseBody::Done,
        kind::AUTHORITY => ResponseBody::Authority(Authority::decode(reader)?),
        kind::PLAN => ResponseBody::Plan(Box::new(ClusterPlan::decode(reader)?)),
        kind::CHALLENGE => ResponseBody::Challenge(reader.bytes("challenge", AUTH_BYTES_MAX)?),
        kind::AUTHENTICATED => ResponseBody::Authenticated {
            user: reader.text("user's name", AUTH_NAME_BYTES_MAX)?,
            proof: reader.bytes("proof", AUTH_BYTES_MAX)?,
        },
        kind::AUTH_VIEW => ResponseBody::AuthView(Box::new(AuthView::decode(reader)?)),
        kind::SLOW_LOG => ResponseBody::SlowLog(Box::new(SlowLogView::decode(reader)?)),
        kind::MONITOR => ResponseBody::Monitor(Box::new(MonitorView::decode(reader)?)),
        kind::LOG_LEVEL => ResponseBody::LogLevel(LogLevelView::decode(reader)?),
        kind::VALUE => ResponseBody::Value(reader.option("entry", decode_entry)?),
        kind::VALUES => ResponseBody::Values(decode_results(reader, |reader| reader.option("entry", decode_entry))?),
        kind::PAGE => {
            let next = reader.option("next cursor", ScanCursor::decode)?;
            let count = reader.count("entries", SCAN_ENTRIES_MAX as usize, 17)?;
            let entries = (0..count)
                .map(|_| Ok((reader.bytes("key length", KEY_BYTES_MAX)?, decode_entry(reader)?)))
                .collect::<Result<_, DecodeError>>()?;
            ResponseBody::Page(ScanPage { entries, next })
        }
        kind::WRITTEN => ResponseBody::Written(WriteResult::decode_answer(reader)?),
        kind::BATCH => ResponseBody::Batch(decode_results(reader, WriteResult::decode_answer)?),
        kind::ATOMIC => ResponseBody::Atomic(AtomicResult::decode_answer(reader)?),
        kind::TRANSACTION => ResponseBody::Transaction(TransactionResult::decode(reader)?),
        kind::AWAITED => ResponseBody::Awaited(match reader.u8()? {
            0 => Awaited::Applied,
            1 => Awaited::Lost,
            2 => Awaited::Forgotten,
            value => return Err(DecodeError::UnknownValue { field: "awaited", value: value.into() }),
        }),
        kind::ERROR => ResponseBody::Error(ServerError::decode(reader)?),
        value => return Err(DecodeError::UnknownValue { field: "response kind", value: value.into() }),
    })
}

pub(crate) fn encode_entry(out: &mut BytesMut, entry: &Entry) {
    out.put_u64_le(entry.version.0);
    out.option(entry.expires_at_ms, |out, at| out.put_u64_le(at));
    out.bytes(&entry.value);
}

pub(crate) fn decode_entry(reader: &mut Reader) -> Result<Entry, DecodeError> {
    Ok(Entry {
        version: Version(reader.u64()?),
        expires_at_ms: reader.option("expiry", Reader::u64)?,
        value: reader.bytes("value length", VALUE_BYTES_MAX)?,
    })
}

fn encode_results<T>(
    out: &mut BytesMut,
    results: &[Result<T, ServerError>],
    mut encode: impl FnMut(&mut BytesMut, &T),
) {
    out.count(results.len());
    for result in results {
        out.bool(result.is_ok());
        match result {
            Ok(value) => encode(out, value),
            Err(error) => error.encode(out),
        }
    }
}

fn decode_results<T>(
    reader: &mut Reader,
    mut decode: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<Result<T, ServerError>>, DecodeError> {
    let count = reader.count("results", BATCH_OPERATIONS_MAX, 2)?;
    (0..count)
        .map(|_| if reader.bool("result")? { decode(reader).map(Ok) } else { ServerError::decode(reader).map(Err) })
        .collect()
}

impl WriteResult {
    /// Appends the result as an answer has it, with all that it tells. What is remembered under one-shot names has this form.
    pub fn encode_answer(&self, out: &mut BytesMut) {
        self.encode(out);
        out.option(self.receipt, |out, receipt| receipt.encode(out));
        out.option(self.existed, |out, existed| out.bool(existed));
        out.bool(self.replayed);
    }

    /// Reads what [`WriteResult::encode_answer`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode_answer(reader: &mut Reader) -> Result<Self, DecodeError> {
        let result = Self::decode(reader)?;
        let receipt = reader.option("receipt", Receipt::decode)?;
        let existed = reader.option("existed", |reader| reader.bool("existed"))?;
        let replayed = reader.bool("replayed")?;
        Ok(Self { receipt, existed, replayed, ..result })
    }

    /// Appends the result without its receipt, whether the key existed, and whether it is a replay; the session table of a shard's log
    /// remembers it in exactly this form.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(match self.status {
            WriteStatus::Applied => 0,
            WriteStatus::ConditionFailed => 1,
            WriteStatus::Missing => 2,
        });
        out.put_u64_le(self.version.0);
        out.put_u8(match self.ack {
            Ack::Committed => 0,
            Ack::Accepted => 1,
        });
        encode_durability(out, self.durability);
        match (self.number, &self.decimal) {
            (Some(number), _) => {
                out.put_u8(1);
                out.put_i64_le(number);
            }
            (None, Some(decimal)) => {
                out.put_u8(2);
                out.bytes(decimal);
            }
            (None, None) => out.put_u8(0),
        }
        out.option(self.previous.as_ref(), encode_entry);
    }

    /// Reads a result.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let status = match reader.u8()? {
            0 => WriteStatus::Applied,
            1 => WriteStatus::ConditionFailed,
            2 => WriteStatus::Missing,
            value => return Err(DecodeError::UnknownValue { field: "write status", value: value.into() }),
        };
        let version = Version(reader.u64()?);
        let ack = match reader.u8()? {
            0 => Ack::Committed,
            1 => Ack::Accepted,
            value => return Err(DecodeError::UnknownValue { field: "ack", value: value.into() }),
        };
        let durability = decode_durability(reader)?;
        let (number, decimal) = match reader.u8()? {
            0 => (None, None),
            1 => (Some(reader.i64()?), None),
            2 => (None, Some(reader.bytes("decimal number", DECIMAL_BYTES_MAX)?)),
            value => return Err(DecodeError::UnknownValue { field: "number", value: value.into() }),
        };
        Ok(Self {
            status,
            version,
            ack,
            durability,
            number,
            decimal,
            previous: reader.option("previous entry", decode_entry)?,
            receipt: None,
            existed: None,
            replayed: false,
        })
    }
}

impl AtomicResult {
    /// Appends the results as [`WriteResult::encode`] does; the session table of a shard's log remembers it in exactly this form.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_as(out, false);
    }

    /// Appends the results as [`WriteResult::encode_answer`] does.
    pub fn encode_answer(&self, out: &mut BytesMut) {
        self.encode_as(out, true);
    }

    fn encode_as(&self, out: &mut BytesMut, is_answer: bool) {
        match self {
            Self::Applied(results) => {
                out.put_u8(0);
                out.count(results.len());
                let encode = if is_answer { WriteResult::encode_answer } else { WriteResult::encode };
                results.iter().for_each(|result| encode(result, out));
            }
            Self::ConditionFailed { position, version, replayed } => {
                out.put_u8(1);
                out.put_u32_le(*position);
                out.put_u64_le(version.0);
                if is_answer {
                    out.bool(*replayed);
                }
            }
        }
    }

    /// Reads a result.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::decode_as(reader, false)
    }

    /// Reads what [`AtomicResult::encode_answer`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode_answer(reader: &mut Reader) -> Result<Self, DecodeError> {
        Self::decode_as(reader, true)
    }

    fn decode_as(reader: &mut Reader, is_answer: bool) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => {
                let count = reader.count("results", BATCH_OPERATIONS_MAX, 13)?;
                let decode = if is_answer { WriteResult::decode_answer } else { WriteResult::decode };
                Self::Applied((0..count).map(|_| decode(reader)).collect::<Result<_, _>>()?)
            }
            1 => Self::ConditionFailed {
                position: reader.u32()?,
                version: Version(reader.u64()?),
                replayed: is_answer && reader.bool("replayed")?,
            },
            value => return Err(DecodeError::UnknownValue { field: "atomic result", value: value.into() }),
        })
    }

    /// Whether it is what another request was answered: see [`WriteResult::replayed`].
    pub fn is_replayed(&self) -> bool {
        match self {
            Self::Applied(results) => results.first().is_some_and(|result| result.replayed),
            Self::ConditionFailed { replayed, .. } => *replayed,
        }
    }
}

fn encode_explanation(out: &mut BytesMut, explanation: &Explanation) {
    out.put_u16_le(explanation.shard.0);
    out.put_u64_le(explanation.ring_position);
    out.option(explanation.leader, |out, leader| out.uuid(leader.0));
    out.count(explanation.replicas.len());
    explanation.replicas.iter().for_each(|replica| out.uuid(replica.0));
    out.option(explanation.stored, |out, stored| {
        out.put_u64_le(stored.version.0);
        out.put_u32_le(stored.value_bytes);
        out.option(stored.expires_at_ms, |out, at| out.put_u64_le(at));
        out.put_u32_le(stored.segment);
        out.put_u32_le(stored.offset);
    });
    out.put_u64_le(explanation.reads_per_second);
    out.put_u64_le(explanation.writes_per_second);
}

fn decode_explanation(reader: &mut Reader) -> Result<Explanation, DecodeError> {
    Ok(Explanation {
        shard: ShardId(reader.u16()?),
        ring_position: reader.u64()?,
        leader: reader.option("leader", Reader::node_id)?,
        replicas: {
            let count = reader.count("replicas", REPLICAS_MAX, 16)?;
            (0..count).map(|_| reader.node_id()).collect::<Result<_, _>>()?
        },
        stored: reader.option("stored", |reader| {
            Ok(StoredEntry {
                version: Version(reader.u64()?),
                value_bytes: reader.u32()?,
                expires_at_ms: reader.option("expiry", Reader::u64)?,
                segment: reader.u32()?,
                offset: reader.u32()?,
            })
        })?,
        reads_per_second: reader.u64()?,
        writes_per_second: reader.u64()?,
    })
}
