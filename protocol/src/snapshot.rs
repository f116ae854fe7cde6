//! Messages that carry a snapshot of a shard from its leader to a replica that can't be brought up by log entries.
//!
//! The receiver pulls: it asks for a part of the snapshot by number, and each answer stands for itself. So a lost, doubled
//! or late message needs nothing but another pull.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{ERROR_TEXT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_HEADER_BYTES_MAX};
use crate::types::{LogIndex, ReplicaId, Term};
use bytes::{BufMut, Bytes, BytesMut};

mod kind {
    pub(super) const OFFER: u8 = 1;
    pub(super) const PULL: u8 = 2;
    pub(super) const CHUNK: u8 = 3;
    pub(super) const END: u8 = 4;
}

/// Which snapshot. The order is the order of age: of two snapshots of a shard the greater one holds at least as much of
/// the log, or is the sender's later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SnapshotId {
    /// The term of the entry at `index`.
    pub term: Term,
    /// The last entry whose effects it holds.
    pub index: LogIndex,
    /// Tells it from the sender's others, also from those before its restart; grows.
    pub nonce: u64,
}

/// One message about a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotMessage {
    /// The sending replica.
    pub from: ReplicaId,
    /// The receiving replica.
    pub to: ReplicaId,
    /// The snapshot.
    pub id: SnapshotId,
    /// What about it.
    pub body: SnapshotBody,
}

/// What a message about a snapshot says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotBody {
    /// From the leader: the snapshot can be pulled. Said again as long as nobody pulls.
    Offer {
        /// Length of the header, in bytes, at most [`SNAPSHOT_HEADER_BYTES_MAX`].
        header_bytes: u32,
        /// Number of records.
        records: u64,
    },
    /// From the follower: send what is there from `at` on. At or past the end it asks for nothing, and says only that the
    /// snapshot is still wanted.
    Pull {
        /// Of which part.
        part: SnapshotPart,
        /// Number of the first byte of the header, or of the first record.
        at: u64,
        /// Most bytes of the header, or records.
        count_max: u32,
        /// Most bytes, unless the first record alone has more.
        bytes_max: u32,
    },
    /// From the leader: an answer to a pull.
    Chunk {
        /// Of which part.
        part: SnapshotPart,
        /// As pulled.
        at: u64,
        /// How many bytes of the header, or records, it holds: at least one, and at most as many as were asked for.
        count: u32,
        /// They: bytes of the header as they are; records back to back, each as it is stored. At most
        /// [`SNAPSHOT_CHUNK_BYTES_MAX`].
        bytes: Bytes,
    },
    /// From the follower: it is done with the snapshot. From the leader: there is no such snapshot any more.
    End {
        /// The follower's files hold the snapshot, or more.
        installed: bool,
        /// For the logs. At most [`ERROR_TEXT_BYTES_MAX`], the rest is cut off.
        reason: String,
    },
}

/// The two parts of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum SnapshotPart {
    /// What is not a record, numbered by byte.
    Header,
    /// The records, numbered from 0.
    Records,
}

impl SnapshotPart {
    fn number(self) -> u8 {
        match self {
            Self::Header => 0,
            Self::Records => 1,
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Header),
            1 => Ok(Self::Records),
            value => Err(DecodeError::UnknownValue { field: "part of a snapshot", value: value.into() }),
        }
    }
}

impl SnapshotMessage {
    /// Appends the message.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.from.0);
        out.put_u64_le(self.to.0);
        out.put_u64_le(self.id.term.0);
        out.put_u64_le(self.id.index.0);
        out.put_u64_le(self.id.nonce);
        match &self.body {
            SnapshotBody::Offer { header_bytes, records } => {
                out.put_u8(kind::OFFER);
                out.put_u32_le(*header_bytes);
                out.put_u64_le(*records);
            }
            SnapshotBody::Pull { part, at, count_max, bytes_max } => {
                out.put_u8(kind::PULL);
                out.put_u8(part.number());
                out.put_u64_le(*at);
                out.put_u32_le(*count_max);
                out.put_u32_le(*bytes_max);
            }
            SnapshotBody::Chunk { part, at, count, bytes } => {
                out.put_u8(kind::CHUNK);
                out.put_u8(part.number());
                out.put_u64_le(*at);
                out.put_u32_le(*count);
                out.bytes(bytes);
            }
            SnapshotBody::End { installed, reason } => {
                out.put_u8(kind::END);
                out.bool(*installed);
                out.text(reason, ERROR_TEXT_BYTES_MAX);
            }
        }
    }

    /// Takes the message off the front.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            from: reader.replica_id("sending replica")?,
            to: reader.replica_id("receiving replica")?,
            id: SnapshotId { term: Term(reader.u64()?), index: LogIndex(reader.u64()?), nonce: reader.u64()? },
            body: match reader.u8()? {
                kind::OFFER => {
                    let header_bytes = reader.u32()?;
                    let (value, limit) = (header_bytes.into(), SNAPSHOT_HEADER_BYTES_MAX.into());
                    if value > limit {
                        return Err(DecodeError::OverLimit { field: "snapshot header", value, limit });
                    }
                    SnapshotBody::Offer { header_bytes, records: reader.u64()? }
                }
                kind::PULL => SnapshotBody::Pull {
                    part: SnapshotPart::from_number(reader.u8()?)?,
                    at: reader.u64()?,
                    count_max: reader.u32()?,
                    bytes_max: reader.u32()?,
                },
                kind::CHUNK => SnapshotBody::Chunk {
                    part: SnapshotPart::from_number(reader.u8()?)?,
                    at: reader.u64()?,
                    count: reader.u32()?,
                    bytes: reader.bytes("snapshot chunk", SNAPSHOT_CHUNK_BYTES_MAX)?,
                },
                kind::END => SnapshotBody::End {
                    installed: reader.bool("installed")?,
                    reason: reader.text("reason", ERROR_TEXT_BYTES_MAX)?,
                },
                value => return Err(DecodeError::UnknownValue { field: "snapshot message kind", value: value.into() }),
            },
        })
    }
}
