//! A TRANSACTION: operations of one shard that are evaluated in turn, each with its own result, as one entry of its log.
//!
//! Unlike an ATOMIC it goes on past an operation that fails, and it reads. Only a check that does not hold keeps all of it from
//! being done.

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::ServerError;
use crate::limits::BATCH_OPERATIONS_MAX;
use crate::mutation::{Mutation, decode_condition, decode_mutation, encode_condition, encode_mutation};
use crate::request::{AtomicCheck, decode_key};
use crate::response::{WriteResult, decode_entry, encode_entry};
use crate::types::{Ack, Entry, Version};
use crate::write_id::{WriteId, decode_write_id, encode_write_id};
use bytes::{BufMut, Bytes, BytesMut};

/// Checks, then operations in turn, in one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionRequest {
    /// Who writes. Without a one-shot name: what was read would have to be remembered under it.
    pub id: WriteId,
    /// What must hold before anything is done: of a key that was read, its version, or that it was absent.
    pub checks: Vec<AtomicCheck>,
    /// What is done, in order; a later one sees the earlier ones. With the checks at most [`BATCH_OPERATIONS_MAX`].
    pub operations: Vec<TransactionOperation>,
}

/// One operation of a [`TransactionRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionOperation {
    /// Reads a key.
    Read(Bytes),
    /// Writes a key. A condition that does not hold is its result, and nothing else.
    Write(Mutation),
    /// Gives the entry of one key to another, with its time to live, and removes the first. With both the same nothing is written,
    /// and the result is that of a write which has taken effect.
    Rename {
        /// The key that goes. If it does not exist, the result is [`crate::WriteStatus::Missing`].
        from: Bytes,
        /// The key that takes its entry.
        to: Bytes,
        /// Only if `to` does not exist; else the condition did not hold.
        if_absent: bool,
    },
    /// The same, and the first key stays.
    Copy {
        /// The key that is copied.
        from: Bytes,
        /// The key that takes its entry.
        to: Bytes,
        /// Only if `to` does not exist; else the condition did not hold.
        if_absent: bool,
    },
}

/// What became of a TRANSACTION.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionResult {
    /// It was done: a reply per operation, in order.
    Done(Vec<TransactionReply>),
    /// A check did not hold, and nothing was done.
    Aborted {
        /// The first check (counted from 0) that did not hold.
        position: u32,
        /// The version that its key has, 0 if there is no such key.
        version: Version,
    },
}

/// What one operation of a TRANSACTION is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransactionReply {
    /// To a read: the entry, if there is one.
    Value(Option<Entry>),
    /// To a write, a rename (the version is that of the key that took the entry) or a copy.
    Written(WriteResult),
    /// It had no effect. The others are as if it had not been asked for.
    Failed(ServerError),
}

mod operation {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 2;
    pub(super) const RENAME: u8 = 3;
    pub(super) const COPY: u8 = 4;
}

impl TransactionOperation {
    /// The keys that it reads or writes.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let (first, second) = match self {
            Self::Read(key) | Self::Write(Mutation { key, .. }) => (key, None),
            Self::Rename { from, to, .. } | Self::Copy { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether it may write.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Read(_))
    }

    fn encode(&self, out: &mut BytesMut) {
        let mut pair = |code, from: &Bytes, to: &Bytes, if_absent| {
            out.put_u8(code);
            out.bytes(from);
            out.bytes(to);
            out.bool(if_absent);
        };
        match self {
            Self::Rename { from, to, if_absent } => pair(operation::RENAME, from, to, *if_absent),
            Self::Copy { from, to, if_absent } => pair(operation::COPY, from, to, *if_absent),
            Self::Read(key) => {
                out.put_u8(operation::READ);
                out.bytes(key);
            }
            Self::Write(mutation) => {
                out.put_u8(operation::WRITE);
                encode_mutation(out, mutation);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            operation::READ => Self::Read(decode_key(reader)?),
            operation::WRITE => Self::Write(decode_mutation(reader)?),
            code @ (operation::RENAME | operation::COPY) => {
                let (from, to, if_absent) = (decode_key(reader)?, decode_key(reader)?, reader.bool("only if absent")?);
                match code {
                    operation::RENAME => Self::Rename { from, to, if_absent },
                    _ => Self::Copy { from, to, if_absent },
                }
            }
            value => {
                return Err(DecodeError::UnknownValue { field: "operation of a transaction", value: value.into() });
            }
        })
    }
}

impl TransactionRequest {
    /// All keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.checks.iter().map(|check| &check.key).chain(self.operations.iter().flat_map(TransactionOperation::keys))
    }

    /// Whether it may write.
    pub fn writes(&self) -> bool {
        self.operations.iter().any(TransactionOperation::writes)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        encode_write_id(out, self.id, Ack::Committed);
        out.count(self.checks.len());
        for check in &self.checks {
            encode_condition(out, &check.condition);
            out.bytes(&check.key);
        }
        out.count(self.operations.len());
        self.operations.iter().for_each(|operation| operation.encode(out));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (id, ack) = decode_write_id(reader)?;
        if ack != Ack::Committed {
            return Err(DecodeError::UnknownValue { field: "ack of a transaction", value: 1 });
        }
        if id.once.is_some() {
            return Err(DecodeError::UnknownValue { field: "one-shot name of a transaction", value: 1 });
        }
        let count = reader.count("checks", BATCH_OPERATIONS_MAX, 5)?;
        let checks = (0..count)
            .map(|_| Ok(AtomicCheck { condition: decode_condition(reader)?, key: decode_key(reader)? }))
            .collect::<Result<_, DecodeError>>()?;
        let count = reader.count("operations of a transaction", BATCH_OPERATIONS_MAX, 6)?;
        let operations = (0..count).map(|_| TransactionOperation::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { id, checks, operations })
    }
}

impl TransactionReply {
    /// Bytes of the value in it, or of a decimal number.
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Value(entry) => entry.as_ref().map_or(0, |entry| entry.value.len()),
            Self::Written(result) => {
                let previous = result.previous.as_ref().map_or(0, |entry| entry.value.len());
                previous + result.decimal.as_ref().map_or(0, Bytes::len)
            }
            Self::Failed(_) => 0,
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Failed(error) => {
                out.put_u8(0);
                error.encode(out);
            }
            Self::Value(entry) => {
                out.put_u8(1);
                out.option(entry.as_ref(), encode_entry);
            }
            Self::Written(result) => {
                out.put_u8(2);
                result.encode_answer(out);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Failed(ServerError::decode(reader)?),
            1 => Self::Value(reader.option("entry", decode_entry)?),
            2 => Self::Written(WriteResult::decode_answer(reader)?),
            value => return Err(DecodeError::UnknownValue { field: "reply of a transaction", value: value.into() }),
        })
    }
}

impl TransactionResult {
    /// Bytes of the values in it.
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Done(replies) => replies.iter().map(TransactionReply::value_bytes).sum(),
            Self::Aborted { .. } => 0,
        }
    }

    /// Appends the result; the session table of a shard's log remembers it in exactly this form.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Done(replies) => {
                out.put_u8(0);
                out.count(replies.len());
                replies.iter().for_each(|reply| reply.encode(out));
            }
            Self::Aborted { position, version } => {
                out.put_u8(1);
                out.put_u32_le(*position);
                out.put_u64_le(version.0);
            }
        }
    }

    /// Reads what [`TransactionResult::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => {
                let count = reader.count("replies of a transaction", BATCH_OPERATIONS_MAX, 2)?;
                Self::Done((0..count).map(|_| TransactionReply::decode(reader)).collect::<Result<_, _>>()?)
            }
            1 => Self::Aborted { position: reader.u32()?, version: Version(reader.u64()?) },
            value => return Err(DecodeError::UnknownValue { field: "transaction result", value: value.into() }),
        })
    }
}
