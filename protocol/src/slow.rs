//! Operations that took long: what a node keeps of them, and how it is asked.

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::ErrorCode;
use crate::limits::SLOW_OPERATIONS_MAX;
use crate::trace::TraceId;
use crate::types::{NodeId, ShardId};
use bytes::{BufMut, BytesMut};

/// Longest name of a door, of an operation and of an ending, in bytes.
const WORD_BYTES_MAX: usize = 32;
/// The fewest bytes that an operation takes.
const SLOW_BYTES_MIN: usize = 64;

/// What is asked of a node about operations that took long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowLogAsk {
    /// The newest ones, at most so many, the newest first.
    Newest(u32),
    /// How many are kept.
    Length,
    /// Forget all of them.
    Forget,
}

impl SlowLogAsk {
    pub(crate) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Newest(count) => {
                out.put_u8(0);
                out.put_u32_le(count);
            }
            Self::Length => out.put_u8(1),
            Self::Forget => out.put_u8(2),
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Newest(reader.u32()?),
            1 => Self::Length,
            2 => Self::Forget,
            value => {
                return Err(DecodeError::UnknownValue { field: "question about slow operations", value: value.into() });
            }
        })
    }
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlowLogView {
    /// How many operations the node keeps.
    pub length: u32,
    /// From how many microseconds on an operation is kept; `None`: none is.
    pub slower_than_us: Option<u64>,
    /// Those that were asked for, the newest first; at most [`SLOW_OPERATIONS_MAX`].
    pub operations: Vec<SlowOperation>,
}

/// An operation that took long. Its key is not told, only the hash of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlowOperation {
    /// Grows by one with each slow operation of the node's process, from 0.
    pub number: u64,
    /// The node that answered it.
    pub node: NodeId,
    /// When it was answered: Unix time in milliseconds, by the node's clock.
    pub at_ms: u64,
    /// Which way it came in, such as `binary`; `peer`: another node has passed it on.
    pub door: String,
    /// What was asked, such as `put`.
    pub operation: String,
    /// How it ended: `ok`, `not_applied` or `unknown`.
    pub outcome: String,
    /// What went wrong.
    pub error: Option<ErrorCode>,
    /// The shard, if it is one.
    pub shard: Option<ShardId>,
    /// The 64-bit hash of the key, or of its first one.
    pub key_hash: Option<u64>,
    /// From when the node took it up until it was answered, in microseconds.
    pub took_us: u64,
    /// Where that time went.
    pub stages: SlowStages,
    /// The trace that it is part of.
    pub trace: Option<TraceId>,
}

/// Where the time of an operation went, in microseconds, in this order. What an operation did not go through is 0: reads mostly, and
/// whatever another node answered. Of one with many parts these are those of the part that was answered last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlowStages {
    /// It waited for its shard to begin an entry.
    pub queue_us: u32,
    /// It was decided, and put into an entry.
    pub propose_us: u32,
    /// The entry waited for the leader's own disk, or until a quorum had it without that.
    pub sync_us: u32,
    /// After that, it waited for a quorum.
    pub quorum_us: u32,
    /// The leader applied it.
    pub apply_us: u32,
    /// The answer waited for its connection.
    pub answer_us: u32,
    /// Another node worked on it, the way there and back included.
    pub remote_us: u32,
}

impl SlowStages {
    /// What they are called where they are shown.
    pub const NAMES: [&str; 7] = ["queue", "propose", "sync", "quorum", "apply", "answer", "remote"];

    /// All of them, in the order of [`SlowStages::NAMES`].
    pub fn all_us(&self) -> [u32; 7] {
        let Self { queue_us, propose_us, sync_us, quorum_us, apply_us, answer_us, remote_us } = *self;
        [queue_us, propose_us, sync_us, quorum_us, apply_us, answer_us, remote_us]
    }

    /// From what [`SlowStages::all_us`] gives.
    pub fn of(all: [u32; 7]) -> Self {
        let [queue_us, propose_us, sync_us, quorum_us, apply_us, answer_us, remote_us] = all;
        Self { queue_us, propose_us, sync_us, quorum_us, apply_us, answer_us, remote_us }
    }
}

impl SlowLogView {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.length);
        out.option(self.slower_than_us, |out, us| out.put_u64_le(us));
        out.count(self.operations.len());
        self.operations.iter().for_each(|operation| operation.encode(out));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let length = reader.u32()?;
        let slower_than_us = reader.option("threshold of slow operations", Reader::u64)?;
        let count = reader.count("slow operations", SLOW_OPERATIONS_MAX, SLOW_BYTES_MIN)?;
        let operations = (0..count).map(|_| SlowOperation::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { length, slower_than_us, operations })
    }
}

impl SlowOperation {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.number);
        out.uuid(self.node.0);
        out.put_u64_le(self.at_ms);
        for word in [&self.door, &self.operation, &self.outcome] {
            out.text(word, WORD_BYTES_MAX);
        }
        out.option(self.error, |out, error| out.put_u16_le(error.number()));
        out.option(self.shard, |out, shard| out.put_u16_le(shard.0));
        out.option(self.key_hash, |out, hash| out.put_u64_le(hash));
        out.put_u64_le(self.took_us);
        self.stages.all_us().into_iter().for_each(|us| out.put_u32_le(us));
        out.option(self.trace, |out, trace| out.put_slice(&trace.0));
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let word = |reader: &mut Reader| reader.text("word about a slow operation", WORD_BYTES_MAX);
        Ok(Self {
            number: reader.u64()?,
            node: reader.node_id()?,
            at_ms: reader.u64()?,
            door: word(reader)?,
            operation: word(reader)?,
            outcome: word(reader)?,
            error: reader.option("error of a slow operation", Reader::u16)?.map(ErrorCode::from_number),
            shard: reader.option("shard of a slow operation", Reader::u16)?.map(ShardId),
            key_hash: reader.option("hash of a key", Reader::u64)?,
            took_us: reader.u64()?,
            stages: {
                let mut all = [0; 7];
                for us in &mut all {
                    *us = reader.u32()?;
                }
                SlowStages::of(all)
            },
            trace: reader.option("trace", Reader::array)?.map(TraceId),
        })
    }
}
