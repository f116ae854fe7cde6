//! Messages between nodes. They travel in frames ([`crate::frame`]) on long-lived QUIC streams, many to a frame.
//!
//! The consensus library's own codec never sees bytes from the network: its messages are encoded here, field by field.

use crate::codec::{DecodeError, Reader, Writer, announce_last};
use crate::limits::{
    AUTH_TABLE_BYTES_MAX, FRAME_BYTES_MAX, NAME_BYTES_MAX, RAFT_ENTRIES_MAX, RAFT_ENTRY_BYTES_MAX, RING_BYTES_MAX,
    SHARDS_MAX,
};
use crate::report::NodeReport;
use crate::snapshot::{SnapshotBody, SnapshotMessage};
use crate::trace::TraceContext;
use crate::types::{ClientId, ClusterId, FolderId, LogIndex, NodeId, ReplicaId, ShardId, Term};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// The feature levels that a program speaks. A level stands for all that nodes of one cluster must agree on: kinds of messages
/// between them, fields of the ring map, kinds of log entries and of records. A node sends nothing of a level above the cluster's,
/// which the ring map says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Levels {
    /// Those of this version.
    pub const OWN: Self = Self { min: 1, max: 2 };

    /// Whether a program with these levels can be part of a cluster of this level.
    pub fn speaks(self, level: u16) -> bool {
        (self.min..=self.max).contains(&level)
    }

    /// The highest level that both speak; `None` if there is none.
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "level {}", self.max)
        } else {
            write!(f, "levels {} to {}", self.min, self.max)
        }
    }
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const RAFT: u8 = 2;
    pub(super) const FORWARD: u8 = 3;
    pub(super) const FORWARD_REPLY: u8 = 4;
    pub(super) const LEADING: u8 = 5;
    pub(super) const RING: u8 = 10;
    pub(super) const REPORT: u8 = 11;
    pub(super) const UNFIT: u8 = 12;
    pub(super) const CLOCK: u8 = 13;
    pub(super) const RETURNED: u8 = 14;
    pub(super) const AUTH_NEWS: u8 = 15;
    pub(super) const AUTH_WANTED: u8 = 16;
    pub(super) const AUTH_TABLE: u8 = 17;
    pub(super) const DATA_KEYS: u8 = 18;
    pub(super) const MAP_ASKED: u8 = 19;
    pub(super) const MAP_IS: u8 = 20;
    pub(super) const TRACE: u8 = 21;
    pub(super) const SNAPSHOT: u8 = 6;
}

/// One message between nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// The first message of each direction.
    Hello(PeerHello),
    /// A consensus message of one shard.
    Raft(ShardId, RaftMessage),
    /// A client's request, passed on to the node that leads its shard.
    Forward {
        /// Ties the reply to it.
        id: u64,
        /// The client's identity.
        client: ClientId,
        /// The term in which the receiver is believed to lead: the request is for a leader of that term, and for no other.
        term: Term,
        /// A read that keeps its place behind the writes that were passed on before it.
        in_order: bool,
        /// The request, as [`crate::Request::encode_body`] wrote it.
        request: Bytes,
    },
    /// The forwarded request with this number, which comes right behind, is part of a trace. Whoever does not know this kind skips it,
    /// and the trace lacks a part.
    Trace {
        /// The forwarded request's.
        id: u64,
        /// The trace, and the span that its parts on the receiver belong to.
        context: TraceContext,
    },
    /// The answer to a forwarded request.
    ForwardReply {
        /// The forwarded request's.
        id: u64,
        /// The response, as [`crate::Response::encode_body`] wrote it.
        response: Bytes,
    },
    /// A forwarded request that was never proposed, and never will be: the receiver does not lead in its term, or does no more.
    Returned {
        /// The forwarded request's.
        id: u64,
        /// The request, as it came.
        request: Bytes,
    },
    /// The sender leads these shards, in these terms: all that it leads, or those that it has just begun to lead.
    Leading(Vec<(ShardId, Term)>),
    /// The ring map that the sender has in force, in its stored form, of at most [`RING_BYTES_MAX`] bytes.
    Ring(Bytes),
    /// The table of users that the sender has in force has this epoch.
    AuthNews {
        /// The epoch.
        epoch: u64,
        /// The sender leads the group that keeps it: this is the newest there is.
        leads: bool,
    },
    /// The sender wants the table.
    AuthWanted,
    /// The table of users that the sender has in force, in its stored form, of at most
    /// [`AUTH_TABLE_BYTES_MAX`] bytes.
    AuthTable(Bytes),
    /// How far the sender is with data keys. Only nodes send it that have a key-encryption key.
    DataKeys {
        /// Tells the sender's key-encryption key from others.
        kek: u64,
        /// The ring map of this epoch is in its folder. It has all data keys of that, and seals as that says.
        epoch: u64,
    },
    /// Which ring map is the newest? Whoever leads the group that keeps it answers, as soon as it has proof that it led after this came.
    MapAsked {
        /// Ties the answer to it.
        number: u64,
    },
    /// The newest ring map, at a moment after the question came.
    MapIs {
        /// The question's.
        number: u64,
        /// The epoch of that map.
        epoch: u64,
    },
    /// What the sender has to say of itself.
    Report(NodeReport),
    /// Why the sender should not lead, a bit per reason; 0 if it may.
    Unfit(u32),
    /// What the sender's wall clock shows: Unix time in milliseconds.
    Clock(u64),
    /// A message about a snapshot of one shard.
    Snapshot(ShardId, SnapshotMessage),
    /// A message of a kind that this version does not know. It is skipped.
    Unknown {
        /// The kind.
        kind: u8,
        /// The rest.
        body: Bytes,
    },
}

/// Who is at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerHello {
    /// What the sender speaks.
    pub levels: Levels,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender; must be the node that its certificate names.
    pub node: NodeId,
    /// The sender's data folder.
    pub disk: FolderId,
    /// How often a process was started with that folder, this one included.
    pub starts: u64,
    /// Drawn at random by the sender's process: two of them may have the same folder, or copies of it.
    pub process: u64,
    /// The data folder with which the sender knows the receiver; `None` if it has never met it. Another one than the
    /// receiver's own tells the receiver that it has forgotten something.
    pub knows: Option<FolderId>,
    /// By the ring map in force at the sender, the receiver has another replica of `meta` than the first map gave it: the first
    /// one is over, and must not be opened in any folder.
    pub replaced: bool,
    /// `host:port` where clients reach the sender.
    pub client: String,
    /// Where the sender speaks RESP.
    pub resp: RespAddresses,
    /// The sender's program and its version.
    pub program: String,
    /// What a newer version has added.
    pub more: Bytes,
}

/// Where clients of Redis reach a node. Each is `host:port`, or `:port` at the host where other clients reach it, or empty if that
/// door is closed; at most [`NAME_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RespAddresses {
    /// The door that answers for the whole cluster.
    pub standalone: String,
    /// The door of clients that follow slots.
    pub cluster: String,
}

macro_rules! raft_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The kinds of consensus message that travel between nodes.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum RaftMessageKind {
            $($(#[$doc])* $name = $number,)*
        }
        impl RaftMessageKind {
            fn from_number(number: u8) -> Result<Self, DecodeError> {
                match number {
                    $($number => Ok(RaftMessageKind::$name),)*
                    value => Err(DecodeError::UnknownValue { field: "raft message kind", value: value.into() }),
                }
            }
        }
    };
}

raft_kinds! {
    /// Entries for a follower.
    Append = 1,
    /// A follower's answer to entries.
    AppendResponse = 2,
    /// Asks for a vote.
    RequestVote = 3,
    /// A vote, given or refused.
    RequestVoteResponse = 4,
    /// Asks whether a vote would be given.
    RequestPreVote = 5,
    /// Would it.
    RequestPreVoteResponse = 6,
    /// The leader is alive.
    Heartbeat = 7,
    /// A follower's answer to a heartbeat.
    HeartbeatResponse = 8,
    /// Campaign now: the leader hands over.
    TimeoutNow = 9,
}

/// One consensus message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftMessage {
    /// What it is.
    pub kind: RaftMessageKind,
    /// The sending replica.
    pub from: ReplicaId,
    /// The receiving replica.
    pub to: ReplicaId,
    /// The sender's term.
    pub term: Term,
    /// Term of the entry at `index`.
    pub log_term: Term,
    /// The entry before `entries`, or what the kind makes of it.
    pub index: LogIndex,
    /// The sender's commit position.
    pub commit: LogIndex,
    /// The term of the entry at `commit`.
    pub commit_term: Term,
    /// A refusal.
    pub reject: bool,
    /// With a refusal: where to try instead.
    pub reject_hint: LogIndex,
    /// How much the sender wants to lead.
    pub priority: i64,
    /// On a leader's message: when it was sent, on the leader's own clock, in nanoseconds. On a follower's answer: the
    /// value of the message it answers. Only the leader gives it a meaning (its lease), the follower repeats it.
    pub lease_stamp: u64,
    /// Log time of the shard in milliseconds when the message was sent, as far as the sender knows; 0 if it does not.
    pub log_time_ms: u64,
    /// Opaque to the codec: a read index request's tag, or the reason of a campaign.
    pub context: Bytes,
    /// Entries, at most [`RAFT_ENTRIES_MAX`].
    pub entries: Vec<RaftEntry>,
}

/// One entry of a shard's replicated log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftEntry {
    /// Its term.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// What its payload is.
    pub kind: RaftEntryKind,
    /// At most [`RAFT_ENTRY_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// What an entry's payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RaftEntryKind {
    /// Operations of the shard; empty for a new leader's first entry.
    Operations,
    /// A change of membership (joint consensus).
    Membership,
}

impl RaftEntryKind {
    /// The kind's number on the wire and in the log.
    pub fn number(self) -> u8 {
        match self {
            Self::Operations => 0,
            Self::Membership => 1,
        }
    }

    /// The kind of a number.
    ///
    /// # Errors
    /// `UnknownValue` for any other number.
    pub fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Operations),
            1 => Ok(Self::Membership),
            value => Err(DecodeError::UnknownValue { field: "entry kind", value: value.into() }),
        }
    }
}

impl PeerMessage {
    /// About how many bytes the message takes: those of what it carries, which alone can make it long.
    pub fn bytes_about(&self) -> usize {
        match self {
            Self::Raft(_, message) => message.entries.iter().map(|entry| 32 + entry.payload.len()).sum(),
            Self::Forward { request, .. } => request.len(),
            Self::ForwardReply { response, .. } => response.len(),
            Self::Returned { request, .. } => request.len(),
            Self::Leading(shards) => 10 * shards.len(),
            Self::Ring(map) => map.len(),
            Self::AuthTable(table) => table.len(),
            Self::Report(report) => 10 * (report.faulty.len() + report.settled.len()) + 16 * report.hears.len(),
            Self::Snapshot(_, message) => match &message.body {
                SnapshotBody::Chunk { bytes, .. } => bytes.len(),
                _ => 0,
            },
            Self::Hello(_) | Self::Unfit(_) | Self::Clock(_) | Self::AuthNews { .. } | Self::AuthWanted => 0,
            Self::DataKeys { .. } | Self::MapAsked { .. } | Self::MapIs { .. } | Self::Trace { .. } => 0,
            Self::Unknown { body, .. } => body.len(),
        }
    }

    /// The message without a frame in pieces, one after another. What it carries is not copied.
    pub fn encode_pieces(&self) -> Vec<Bytes> {
        let mut out = BytesMut::new();
        let last = match self {
            Self::Raft(shard, message) => {
                out.put_u8(kind::RAFT);
                out.put_u16_le(shard.0);
                return encode_raft_pieces(out, message);
            }
            Self::Forward { id, client, term, in_order, request } => {
                let (id, client, term, in_order) = (*id, *client, *term, *in_order);
                Self::Forward { id, client, term, in_order, request: Bytes::new() }.encode(&mut out);
                request.clone()
            }
            Self::ForwardReply { id, response } => {
                Self::ForwardReply { id: *id, response: Bytes::new() }.encode(&mut out);
                response.clone()
            }
            Self::Returned { id, request } => {
                Self::Returned { id: *id, request: Bytes::new() }.encode(&mut out);
                request.clone()
            }
            Self::Hello(_)
            | Self::Unknown { .. }
            | Self::Leading(_)
            | Self::Ring(_)
            | Self::AuthNews { .. }
            | Self::AuthWanted
            | Self::AuthTable(_)
            | Self::DataKeys { .. }
            | Self::MapAsked { .. }
            | Self::MapIs { .. }
            | Self::Trace { .. }
            | Self::Report(_)
            | Self::Unfit(_)
            | Self::Clock(_)
            | Self::Snapshot(..) => {
                self.encode(&mut out);
                return vec![out.freeze()];
            }
        };
        announce_last(&mut out, &last);
        vec![out.freeze(), last]
    }

    /// Appends the message, without a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => {
                out.put_u8(kind::HELLO);
                out.put_u16_le(hello.levels.min);
                out.put_u16_le(hello.levels.max);
                out.uuid(hello.cluster.0);
                out.uuid(hello.node.0);
                out.uuid(hello.disk.0);
                out.put_u64_le(hello.starts);
                out.put_u64_le(hello.process);
                out.option(hello.knows, |out, folder| out.uuid(folder.0));
                out.bool(hello.replaced);
                out.text(&hello.client, NAME_BYTES_MAX);
                out.text(&hello.resp.standalone, NAME_BYTES_MAX);
                out.text(&hello.resp.cluster, NAME_BYTES_MAX);
                out.text(&hello.program, NAME_BYTES_MAX);
                out.put_slice(&hello.more);
            }
            Self::Raft(shard, message) => {
                out.put_u8(kind::RAFT);
                out.put_u16_le(shard.0);
                encode_raft(out, message);
            }
            Self::Forward { id, client, term, in_order, request } => {
                out.put_u8(kind::FORWARD);
                out.put_u64_le(*id);
                out.uuid(client.0);
                out.put_u64_le(term.0);
                out.bool(*in_order);
                out.bytes(request);
            }
            Self::Trace { id, context } => {
                out.put_u8(kind::TRACE);
                out.put_u64_le(*id);
                context.encode(out);
            }
            Self::ForwardReply { id, response } => {
                out.put_u8(kind::FORWARD_REPLY);
                out.put_u64_le(*id);
                out.bytes(response);
            }
            Self::Returned { id, request } => {
                out.put_u8(kind::RETURNED);
                out.put_u64_le(*id);
                out.bytes(request);
            }
            Self::Leading(shards) => {
                out.put_u8(kind::LEADING);
                out.count(shards.len());
                for (shard, term) in shards {
                    out.put_u16_le(shard.0);
                    out.put_u64_le(term.0);
                }
            }
            Self::Ring(map) => {
                out.put_u8(kind::RING);
                out.bytes(map);
            }
            Self::AuthNews { epoch, leads } => {
                out.put_u8(kind::AUTH_NEWS);
                out.put_u64_le(*epoch);
                out.bool(*leads);
            }
            Self::AuthWanted => out.put_u8(kind::AUTH_WANTED),
            Self::AuthTable(table) => {
                out.put_u8(kind::AUTH_TABLE);
                out.bytes(table);
            }
            Self::DataKeys { kek, epoch } => {
                out.put_u8(kind::DATA_KEYS);
                out.put_u64_le(*kek);
                out.put_u64_le(*epoch);
            }
            Self::MapAsked { number } => {
                out.put_u8(kind::MAP_ASKED);
                out.put_u64_le(*number);
            }
            Self::MapIs { number, epoch } => {
                out.put_u8(kind::MAP_IS);
                out.put_u64_le(*number);
                out.put_u64_le(*epoch);
            }
            Self::Report(report) => {
                out.put_u8(kind::REPORT);
                report.encode(out);
            }
            Self::Unfit(reasons) => {
                out.put_u8(kind::UNFIT);
                out.put_u32_le(*reasons);
            }
            Self::Clock(wall_ms) => {
                out.put_u8(kind::CLOCK);
                out.put_u64_le(*wall_ms);
            }
            Self::Snapshot(shard, message) => {
                out.put_u8(kind::SNAPSHOT);
                out.put_u16_le(shard.0);
                message.encode(out);
            }
            Self::Unknown { kind, body } => {
                out.put_u8(*kind);
                out.put_slice(body);
            }
        }
    }

    /// Reads one message, which must fill `body`. A newer version may have added fields to the end of a hello or a report, and kinds of
    /// messages: they are skipped.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match reader.u8()? {
            kind::HELLO => Self::Hello(PeerHello {
                levels: Levels { min: reader.u16()?, max: reader.u16()? },
                cluster: reader.cluster_id()?,
                node: reader.node_id()?,
                disk: reader.folder_id()?,
                starts: reader.u64()?,
                process: reader.u64()?,
                knows: reader.option("known data folder", Reader::folder_id)?,
                replaced: reader.bool("replaced replica")?,
                client: reader.text("address for clients", NAME_BYTES_MAX)?,
                resp: RespAddresses {
                    standalone: reader.text("RESP address", NAME_BYTES_MAX)?,
                    cluster: reader.text("RESP address of a cluster", NAME_BYTES_MAX)?,
                },
                program: reader.text("program", NAME_BYTES_MAX)?,
                more: reader.rest(),
            }),
            kind::RAFT => Self::Raft(ShardId(reader.u16()?), decode_raft(&mut reader)?),
            kind::FORWARD => Self::Forward {
                id: reader.u64()?,
                client: reader.client_id()?,
                term: Term(reader.u64()?),
                in_order: reader.bool("in order")?,
                request: reader.bytes("forwarded request", FRAME_BYTES_MAX)?,
            },
            kind::TRACE => Self::Trace { id: reader.u64()?, context: TraceContext::decode(&mut reader)? },
            kind::FORWARD_REPLY => {
                Self::ForwardReply { id: reader.u64()?, response: reader.bytes("forwarded response", FRAME_BYTES_MAX)? }
            }
            kind::RETURNED => {
                Self::Returned { id: reader.u64()?, request: reader.bytes("returned request", FRAME_BYTES_MAX)? }
            }
            kind::LEADING => {
                let count = reader.count("shards", SHARDS_MAX + 1, 10)?;
                let leading = (0..count).map(|_| Ok((ShardId(reader.u16()?), Term(reader.u64()?))));
                Self::Leading(leading.collect::<Result<_, DecodeError>>()?)
            }
            kind::RING => Self::Ring(reader.bytes("ring map", RING_BYTES_MAX)?),
            kind::AUTH_NEWS => Self::AuthNews { epoch: reader.u64()?, leads: reader.bool("leads")? },
            kind::AUTH_WANTED => Self::AuthWanted,
            kind::DATA_KEYS => Self::DataKeys { kek: reader.u64()?, epoch: reader.u64()? },
            kind::MAP_ASKED => Self::MapAsked { number: reader.u64()? },
            kind::MAP_IS => Self::MapIs { number: reader.u64()?, epoch: reader.u64()? },
            kind::AUTH_TABLE => Self::AuthTable(reader.bytes("table of users", AUTH_TABLE_BYTES_MAX)?),
            kind::REPORT => Self::Report(NodeReport::decode(&mut reader)?),
            kind::UNFIT => Self::Unfit(reader.u32()?),
            kind::CLOCK => Self::Clock(reader.u64()?),
            kind::SNAPSHOT => Self::Snapshot(ShardId(reader.u16()?), SnapshotMessage::decode(&mut reader)?),
            kind => Self::Unknown { kind, body: reader.rest() },
        };
        reader.finish()?;
        Ok(message)
    }
}

fn encode_raft(out: &mut BytesMut, message: &RaftMessage) {
    encode_raft_header(out, message);
    for entry in &message.entries {
        encode_entry_header(out, entry);
        out.bytes(&entry.payload);
    }
}

fn encode_raft_pieces(mut out: BytesMut, message: &RaftMessage) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    encode_raft_header(&mut out, message);
    for entry in &message.entries {
        encode_entry_header(&mut out, entry);
        out.bytes(&[]);
        announce_last(&mut out, &entry.payload);
        pieces.extend([out.split().freeze(), entry.payload.clone()]);
    }
    pieces.push(out.freeze());
    pieces
}

fn encode_entry_header(out: &mut BytesMut, entry: &RaftEntry) {
    out.put_u64_le(entry.term.0);
    out.put_u64_le(entry.index.0);
    out.put_u8(entry.kind.number());
}

fn encode_raft_header(out: &mut BytesMut, message: &RaftMessage) {
    out.put_u8(message.kind as u8);
    out.put_u64_le(message.from.0);
    out.put_u64_le(message.to.0);
    out.put_u64_le(message.term.0);
    out.put_u64_le(message.log_term.0);
    out.put_u64_le(message.index.0);
    out.put_u64_le(message.commit.0);
    out.put_u64_le(message.commit_term.0);
    out.bool(message.reject);
    out.put_u64_le(message.reject_hint.0);
    out.put_i64_le(message.priority);
    out.put_u64_le(message.lease_stamp);
    out.put_u64_le(message.log_time_ms);
    out.bytes(&message.context);
    out.count(message.entries.len());
}

fn decode_raft(reader: &mut Reader) -> Result<RaftMessage, DecodeError> {
    let kind = RaftMessageKind::from_number(reader.u8()?)?;
    Ok(RaftMessage {
        kind,
        from: reader.replica_id("sending replica")?,
        to: reader.replica_id("receiving replica")?,
        term: Term(reader.u64()?),
        log_term: Term(reader.u64()?),
        index: LogIndex(reader.u64()?),
        commit: LogIndex(reader.u64()?),
        commit_term: Term(reader.u64()?),
        reject: reader.bool("reject")?,
        reject_hint: LogIndex(reader.u64()?),
        priority: reader.i64()?,
        lease_stamp: reader.u64()?,
        log_time_ms: reader.u64()?,
        context: reader.bytes("context", 64)?,
        entries: {
            let count = reader.count("entries", RAFT_ENTRIES_MAX, 21)?;
            (0..count)
                .map(|_| {
                    Ok(RaftEntry {
                        term: Term(reader.u64()?),
                        index: LogIndex(reader.u64()?),
                        kind: RaftEntryKind::from_number(reader.u8()?)?,
                        payload: reader.bytes("entry payload", RAFT_ENTRY_BYTES_MAX)?,
                    })
                })
                .collect::<Result<_, DecodeError>>()?
        },
    })
}
