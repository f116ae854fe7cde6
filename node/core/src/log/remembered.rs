//! What a shard remembers of the answers to writes, so that a write which comes again is answered and not done again.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::{TRANSACTION_REMEMBERED_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{
    Ack, AtomicResult, DecodeError, Durability, ServerError, TransactionReply, TransactionResult, Version, WriteResult,
    WriteStatus,
};

/// Most bytes of one remembered result.
const RESULT_BYTES_MAX: usize = VALUE_BYTES_MAX + 4096;

/// A remembered answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// A write that took effect and whose answer holds nothing but this version: by far the most common.
    Applied(Version),
    /// Any other write.
    Write(Box<WriteResult>),
    /// An ATOMIC.
    Atomic(Box<AtomicResult>),
    /// A TRANSACTION; `None` if its answer was too long.
    Transaction(Option<Box<TransactionResult>>),
    /// A write, an ATOMIC or a TRANSACTION that was refused for what it asks: its client was told that it has no effect and will have none.
    Refused(Box<ServerError>),
}

impl Remembered {
    /// What an answer counts as besides what it holds: more than it takes in memory, and more than its encoded form.
    pub const OVERHEAD_BYTES: usize = 96;

    /// The shortest form that remembers `result`. Whether the key existed is left out, which would make it far longer.
    pub fn of_write(result: &WriteResult) -> Self {
        match result {
            WriteResult {
                status: WriteStatus::Applied, number: None, decimal: None, previous: None, version, ..
            } => Self::Applied(*version),
            other => Self::Write(Box::new(bare(other))),
        }
    }

    /// An ATOMIC. Once it is remembered it is committed, whatever was waited for.
    pub fn of_atomic(result: &AtomicResult) -> Self {
        Self::Atomic(Box::new(match result {
            AtomicResult::Applied(results) => AtomicResult::Applied(results.iter().map(bare).collect()),
            AtomicResult::ConditionFailed { position, version, .. } => {
                AtomicResult::ConditionFailed { position: *position, version: *version, replayed: false }
            }
        }))
    }

    /// A TRANSACTION. What it was answered is left out if it holds too many bytes of values.
    pub fn of_transaction(result: &TransactionResult) -> Self {
        let is_short = result.value_bytes() <= TRANSACTION_REMEMBERED_BYTES_MAX;
        Self::Transaction(is_short.then(|| Box::new(result.clone())))
    }

    /// About how many bytes it keeps in memory. A function of the answer alone: replicas that count differently would
    /// forget differently.
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = Remembered::OVERHEAD_BYTES;
        let of_result = |result: &WriteResult| {
            let previous = result.previous.as_ref().map_or(0, |entry| entry.value.len());
            OVERHEAD + previous + result.decimal.as_ref().map_or(0, Bytes::len)
        };
        let of_reply = |reply: &TransactionReply| match reply {
            TransactionReply::Failed(error) => OVERHEAD + error.detail.len(),
            TransactionReply::Value(_) | TransactionReply::Written(_) => OVERHEAD + reply.value_bytes(),
        };
        OVERHEAD
            + match self {
                Self::Applied(_) => 0,
                Self::Write(result) => of_result(result),
                Self::Atomic(result) => match &**result {
                    AtomicResult::Applied(results) => results.iter().map(of_result).sum(),
                    AtomicResult::ConditionFailed { .. } => 0,
                },
                Self::Transaction(result) => match result.as_deref() {
                    Some(TransactionResult::Done(replies)) => replies.iter().map(of_reply).sum(),
                    Some(TransactionResult::Aborted { .. }) | None => 0,
                },
                Self::Refused(error) => error.detail.len(),
            }
    }

    /// The kind that says how the rest is encoded. That of a transaction stands in checkpoints only.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Applied(_) => 0,
            Self::Write(_) => 1,
            Self::Atomic(_) => 2,
            Self::Refused(_) => 3,
            Self::Transaction(_) => 4,
        }
    }

    /// Appends the answer: its kind, then a version u64 for kind 0, a result as in an entry's session section for others.
    pub(crate) fn encode(&self, out: &mut impl Writer) {
        out.put_u8(self.kind());
        match self {
            Self::Applied(version) => out.put_u64_le(version.0),
            _ => self.encode_result(out),
        }
    }

    pub(super) fn encode_result(&self, out: &mut impl Writer) {
        let mut result = BytesMut::new();
        match self {
            Self::Applied(_) => unreachable!("a plain effect has no result"),
            Self::Write(write) => write.encode(&mut result),
            Self::Atomic(atomic) => atomic.encode(&mut result),
            Self::Refused(error) => error.encode(&mut result),
            Self::Transaction(transaction) => encode_transaction(transaction.as_deref(), &mut result),
        }
        out.bytes(&result);
    }

    /// Reads what [`Remembered::encode`] wrote. Shares no memory with the reader's buffer: an answer is kept for long, and
    /// would keep all of an entry's payload, or a segment that compaction has removed.
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::Applied(Version(reader.u64()?))),
            kind => Self::decode_result(kind, reader),
        }
    }

    pub(super) fn decode_result(kind: u8, reader: &mut Reader) -> Result<Self, DecodeError> {
        let bytes = reader.bytes("remembered result", RESULT_BYTES_MAX)?;
        let mut result = Reader::new(Bytes::copy_from_slice(&bytes));
        Ok(match kind {
            1 => Self::Write(Box::new(WriteResult::decode(&mut result)?)),
            2 => Self::Atomic(Box::new(AtomicResult::decode(&mut result)?)),
            3 => Self::Refused(Box::new(ServerError::decode(&mut result)?)),
            4 => Self::Transaction(decode_transaction(&mut result)?),
            value => return Err(DecodeError::UnknownValue { field: "remembered kind", value: value.into() }),
        })
    }

    /// The write result that is remembered, if it is one. Once in the table it is committed, whatever was waited for.
    pub fn as_write(&self, durability: Durability) -> Option<WriteResult> {
        match self {
            Self::Applied(version) => Some(WriteResult {
                status: WriteStatus::Applied,
                version: *version,
                ack: Ack::Committed,
                durability,
                number: None,
                decimal: None,
                previous: None,
                receipt: None,
                existed: None,
                replayed: false,
            }),
            Self::Write(result) => Some((**result).clone()),
            Self::Atomic(_) | Self::Transaction(_) | Self::Refused(_) => None,
        }
    }
}

/// Appends what is remembered of a TRANSACTION: u8 0 if its answer was too long, else u8 1 and the result.
pub(super) fn encode_transaction(result: Option<&TransactionResult>, out: &mut BytesMut) {
    out.option(result, |out, result| result.encode(out));
}

/// Reads what [`encode_transaction`] wrote.
pub(super) fn decode_transaction(reader: &mut Reader) -> Result<Option<Box<TransactionResult>>, DecodeError> {
    reader.option("remembered transaction", |reader| TransactionResult::decode(reader).map(Box::new))
}

/// The result without what is not remembered.
fn bare(result: &WriteResult) -> WriteResult {
    WriteResult { ack: Ack::Committed, receipt: None, existed: None, replayed: false, ..result.clone() }
}
