//! What a shard remembers under one-shot names, as an entry and a checkpoint hold it.
//!
//! ```text
//! id      u128 BE
//! digest  u64
//! kind    u8     1 a write result, 2 an atomic result
//! length  u32
//! result         as the wire protocol encodes it in an answer
//! ```

use crate::log::remembered::Remembered;
use bytes::{Bytes, BytesMut};
use kvorum_protocol::codec::{Reader, Writer};
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{Ack, AtomicResult, DecodeError, OnceId, Receipt, WriteResult, WriteStatus};

/// Bytes of one result in an answer, without a previous entry: rounded up.
const RESULT_BYTES_MAX: usize = 64;
/// Most bytes of an answer: that to the largest ATOMIC.
const ANSWER_BYTES_MAX: usize = 64 + BATCH_OPERATIONS_MAX * RESULT_BYTES_MAX;

/// An answer that is given again to whoever comes with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OnceAnswer {
    /// To a write.
    Write(Box<WriteResult>),
    /// To an ATOMIC.
    Atomic(Box<AtomicResult>),
}

/// A one-shot name that was used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnceRecord {
    /// The name.
    pub id: OnceId,
    /// What was asked for.
    pub digest: u64,
    /// What was answered.
    pub answer: OnceAnswer,
}

impl OnceAnswer {
    /// What an answer counts as for each of its results: more than it takes in memory, and more than its encoded form.
    const RESULT_BYTES: usize = 144;

    /// What the session of the write's client remembers of it.
    pub fn of_session(&self) -> Remembered {
        match self {
            Self::Write(result) => Remembered::of_write(result),
            Self::Atomic(result) => Remembered::of_atomic(result),
        }
    }

    /// The same, as it is given to another request.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        match &mut self {
            Self::Write(result) => result.replayed = true,
            Self::Atomic(result) => match &mut **result {
                AtomicResult::Applied(results) => results.iter_mut().for_each(|result| result.replayed = true),
                AtomicResult::ConditionFailed { replayed, .. } => *replayed = true,
            },
        }
        self
    }

    /// Has it say that it stands at this place of the log, if it is merely accepted.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Receipt) -> Self {
        let stamp = |result: &mut WriteResult| {
            let is_accepted = result.ack == Ack::Accepted && result.status == WriteStatus::Applied;
            result.receipt = is_accepted.then_some(receipt);
        };
        match &mut self {
            Self::Write(result) => stamp(result),
            Self::Atomic(result) => {
                if let AtomicResult::Applied(results) = &mut **result {
                    results.iter_mut().for_each(stamp);
                }
            }
        }
        self
    }

    /// About how many bytes it keeps in memory: a function of the answer alone, as [`Remembered::bytes`].
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write(_) => Self::RESULT_BYTES,
            Self::Atomic(result) => match &**result {
                AtomicResult::Applied(results) => (results.len() + 1) * Self::RESULT_BYTES,
                AtomicResult::ConditionFailed { .. } => Self::RESULT_BYTES,
            },
        }
    }
}

impl OnceRecord {
    /// Appends it.
    pub fn encode(&self, out: &mut impl Writer) {
        let mut result = BytesMut::new();
        let kind = match &self.answer {
            OnceAnswer::Write(write) => {
                write.encode_answer(&mut result);
                1
            }
            OnceAnswer::Atomic(atomic) => {
                atomic.encode_answer(&mut result);
                2
            }
        };
        out.uuid(self.id.0);
        out.put_u64_le(self.digest);
        out.put_u8(kind);
        out.bytes(&result);
    }

    /// Reads what [`OnceRecord::encode`] wrote. Shares no memory with the reader's buffer.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (id, digest, kind) = (OnceId(reader.uuid()?), reader.u64()?, reader.u8()?);
        let bytes = reader.bytes("answer under a one-shot name", ANSWER_BYTES_MAX)?;
        let mut result = Reader::new(Bytes::copy_from_slice(&bytes));
        let answer = match kind {
            1 => OnceAnswer::Write(Box::new(WriteResult::decode_answer(&mut result)?)),
            2 => OnceAnswer::Atomic(Box::new(AtomicResult::decode_answer(&mut result)?)),
            value => {
                return Err(DecodeError::UnknownValue { field: "answer under a one-shot name", value: value.into() });
            }
        };
        result.finish()?;
        Ok(Self { id, digest, answer })
    }
}
