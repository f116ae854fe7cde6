//! The names of a write: under each of them it takes effect once, however often it is sent.

use crate::codec::{DecodeError, Reader, Writer};
use crate::hash::hash64;
use crate::limits::SEQUENCE_MAX;
use crate::mutation::{Mutation, encode_mutation_head};
use crate::types::{Ack, OnceId};
use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// Names a write so that it takes effect once, however often it is sent. The client's identity comes from HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteId {
    /// The write's number, from 1 on, never used for another write by this client.
    pub sequence: u64,
    /// Every write of this client with a lower number has been answered or given up: nothing below it will be retried.
    pub first_unanswered: u64,
    /// This is not the first time this write is sent.
    pub retry: bool,
    /// A name that any other client may use as well.
    pub once: Option<Once>,
}

/// A one-shot name: who sends a write under it that was done under it already gets the first answer again, whoever sent that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Once {
    /// The name.
    pub id: OnceId,
    /// Says what is asked for: under the same id with another digest a write is refused.
    pub digest: u64,
    /// Whether an answer that the write had no effect is remembered, too: its condition did not hold, or there was no such key.
    pub keeps_refusal: bool,
}

impl Once {
    /// The name of write number `number` of a BATCH that has this one: an id of its own, and a digest that covers the write.
    /// `key_hash` is [`hash64`] of its key.
    #[must_use]
    pub fn nth(self, number: u32, key_hash: u64, mutation: &Mutation) -> Self {
        let mut told = BytesMut::new();
        told.put_u64_le(self.digest);
        told.put_u64_le(key_hash);
        told.put_u64_le(hash64(mutation.action.operand()));
        encode_mutation_head(&mut told, mutation);
        Self { id: self.id.plus(number.into()), digest: hash64(&told), ..self }
    }

    fn encode(self, out: &mut BytesMut) {
        out.uuid(self.id.0);
        out.put_u64_le(self.digest);
        out.bool(self.keeps_refusal);
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: OnceId(reader.uuid()?),
            digest: reader.u64()?,
            keeps_refusal: reader.bool("whether a refusal is kept")?,
        })
    }
}

impl OnceId {
    /// The id that is so many further, past the last one from the first on.
    #[must_use]
    pub fn plus(self, number: u64) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().wrapping_add(number.into())))
    }
}

pub(crate) fn encode_write_id(out: &mut BytesMut, id: WriteId, ack: Ack) {
    out.put_u64_le(id.sequence);
    out.put_u64_le(id.first_unanswered);
    out.bool(id.retry);
    out.put_u8(match ack {
        Ack::Committed => 0,
        Ack::Accepted => 1,
    });
    out.option(id.once, |out, once| once.encode(out));
}

pub(crate) fn decode_write_id(reader: &mut Reader) -> Result<(WriteId, Ack), DecodeError> {
    let (sequence, first_unanswered, retry) = (reader.u64()?, reader.u64()?, reader.bool("retry")?);
    if sequence == 0 {
        return Err(DecodeError::UnknownValue { field: "sequence", value: 0 });
    }
    check_sequence(sequence)?;
    if first_unanswered > sequence {
        return Err(DecodeError::OverLimit {
            field: "first unanswered sequence",
            value: first_unanswered,
            limit: sequence,
        });
    }
    let ack = match reader.u8()? {
        0 => Ack::Committed,
        1 => Ack::Accepted,
        value => return Err(DecodeError::UnknownValue { field: "ack", value: value.into() }),
    };
    let once = reader.option("one-shot name", Once::decode)?;
    Ok((WriteId { sequence, first_unanswered, retry, once }, ack))
}

pub(crate) fn check_sequence(sequence: u64) -> Result<(), DecodeError> {
    if sequence > SEQUENCE_MAX {
        return Err(DecodeError::OverLimit { field: "sequence", value: sequence, limit: SEQUENCE_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::{Action, Condition, ReturnPrevious, TimeToLive};

    fn of(action: Action) -> Mutation {
        Mutation { key: "k".into(), condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action }
    }

    fn nth(once: Once, number: u32, action: Action) -> Once {
        let mutation = of(action);
        once.nth(number, hash64(&mutation.key), &mutation)
    }

    #[test]
    fn the_writes_of_a_batch_have_names_of_their_own() {
        let once = Once { id: OnceId(Uuid::from_u128(u128::MAX)), digest: 7, keeps_refusal: true };
        let put = |value: &'static str| Action::Put { value: value.into(), ttl: TimeToLive::Forever };
        assert_eq!(nth(once, 0, put("v")).id, once.id);
        assert_eq!(nth(once, 3, put("v")).id, OnceId(Uuid::from_u128(2)), "past the last one from the first on");
        assert_eq!(nth(once, 0, put("v")).digest, nth(once, 1, put("v")).digest);
        let other_key = once.nth(0, hash64(b"l"), &of(put("v")));
        let other_digest = nth(Once { digest: 8, ..once }, 0, put("v"));
        for other in
            [nth(once, 0, put("w")), nth(once, 0, Action::Append { value: "v".into() }), other_key, other_digest]
        {
            assert_ne!(other.digest, nth(once, 0, put("v")).digest);
        }
    }

    /// docs/PROTOCOL.md says how it is made: another node may take the next copy of a BATCH apart.
    #[test]
    fn the_digest_of_a_write_of_a_batch_is_frozen() {
        let once = Once { id: OnceId(Uuid::from_u128(1)), digest: 7, keeps_refusal: true };
        let mut told = Vec::from(7_u64.to_le_bytes());
        told.extend(hash64(b"k").to_le_bytes());
        told.extend(hash64(b"value").to_le_bytes());
        told.extend([1, 0, 0]);
        told.extend(9_u64.to_le_bytes());
        let put = Action::Put { value: "value".into(), ttl: TimeToLive::Ms(9) };
        assert_eq!(nth(once, 0, put).digest, hash64(&told));
    }
}
