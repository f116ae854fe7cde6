//! Requests that wait for answers, and putting the answers of many parts together.

use super::read::ReadPlan;
use kvorum_protocol::limits::MULTI_GET_REPLY_BYTES_MAX;
use kvorum_protocol::{Entry, ErrorCode, Outcome, ResponseBody, ServerError, WriteResult, WriteStatus};
use std::collections::HashMap;

/// One unanswered request.
#[derive(Debug)]
pub(super) struct Pending<Origin> {
    pub(super) origin: Origin,
    pub(super) work: Work,
    /// Hashes of the keys that it writes.
    pub(super) writes: KeyHashes,
    pub(super) forwarded: bool,
}

/// Hashes of keys: of none or one mostly, which takes no memory of its own.
#[derive(Debug)]
pub(super) enum KeyHashes {
    None,
    One(u64),
    Many(Vec<u64>),
}

impl KeyHashes {
    pub(super) fn as_slice(&self) -> &[u64] {
        match self {
            KeyHashes::None => &[],
            KeyHashes::One(hash) => std::slice::from_ref(hash),
            KeyHashes::Many(hashes) => hashes,
        }
    }
}

/// What is missing.
#[derive(Debug)]
pub(super) enum Work {
    /// One answer, which is the response's body. With it, a read that waits for confirmation.
    One(Option<ReadPlan>),
    /// An answer per part.
    Many(Many),
}

/// Which response many answers make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ManyKind {
    Values,
    Writes,
}

/// The parts of a MULTI-GET or BATCH.
#[derive(Debug)]
pub(super) struct Many {
    kind: ManyKind,
    parts: Vec<Option<ResponseBody>>,
    missing: usize,
    /// Bytes of values that the reply has room for.
    room: usize,
    /// A value was refused for want of room.
    full: bool,
    plans: HashMap<u32, ReadPlan>,
}

impl<Origin> Pending<Origin> {
    /// Notes a read that waits for confirmation.
    pub(super) fn plan_read(&mut self, part: u32, plan: ReadPlan) {
        match &mut self.work {
            Work::One(slot) => *slot = Some(plan),
            Work::Many(many) => {
                many.plans.insert(part, plan);
            }
        }
    }

    /// The read of this part that waited for confirmation.
    pub(super) fn take_read(&mut self, part: u32) -> Option<ReadPlan> {
        match &mut self.work {
            Work::One(slot) => slot.take(),
            Work::Many(many) => many.plans.remove(&part),
        }
    }

    /// A part's answer has come. Returns the response's body if it was the last.
    pub(super) fn complete(&mut self, part: u32, body: ResponseBody, forwarded: bool) -> Option<ResponseBody> {
        self.forwarded |= forwarded;
        match &mut self.work {
            Work::One(_) => Some(body),
            Work::Many(many) => {
                many.put(part, body);
                (many.missing == 0).then(|| std::mem::replace(many, Many::new(many.kind, 0)).finish())
            }
        }
    }
}

impl Many {
    pub(super) fn new(kind: ManyKind, parts: usize) -> Self {
        Many {
            kind,
            parts: vec![None; parts],
            missing: parts,
            room: MULTI_GET_REPLY_BYTES_MAX,
            full: false,
            plans: HashMap::new(),
        }
    }

    /// A part's answer has come. A value for which the reply has no room goes at once: thousands of them would not fit
    /// into memory either.
    pub(super) fn put(&mut self, part: u32, body: ResponseBody) {
        let body = match self.kind {
            ManyKind::Values => self.value_within(body),
            ManyKind::Writes => self.written_within(body),
        };
        let before = self.parts[part as usize].replace(body);
        assert!(before.is_none(), "each part is answered once");
        self.missing -= 1;
    }

    /// Bytes of values that the reply still has room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// A value found no room. Further ones are better not read at all: a few keys can name gigabytes.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    fn take_room(&mut self, bytes: usize) -> bool {
        let left = self.room.checked_sub(bytes);
        self.full |= left.is_none();
        self.room = left.unwrap_or(self.room);
        left.is_some()
    }

    /// A part's value, as long as the whole reply stays under its limit.
    fn value_within(&mut self, part: ResponseBody) -> ResponseBody {
        match &part {
            ResponseBody::Value(Some(entry)) if !self.take_room(entry.value.len()) => no_room(),
            _ => part,
        }
    }

    /// A write's result, as long as the values before, which some ask for, keep the whole reply under its limit.
    fn written_within(&mut self, part: ResponseBody) -> ResponseBody {
        let ResponseBody::Written(WriteResult { status, previous: Some(previous), .. }) = &part else { return part };
        if self.take_room(previous.value.len()) {
            return part;
        }
        let outcome = if *status == WriteStatus::Applied { Outcome::Applied } else { Outcome::NotApplied };
        let detail = format!("with the value before, the reply would be over {MULTI_GET_REPLY_BYTES_MAX} bytes");
        ResponseBody::Error(ServerError::new(ErrorCode::TooLarge, detail).with_outcome(outcome))
    }

    /// The response that the parts make.
    pub(super) fn finish(self) -> ResponseBody {
        assert_eq!(self.missing, 0);
        let parts = self.parts.into_iter().flatten();
        match self.kind {
            ManyKind::Values => ResponseBody::Values(parts.map(value).collect()),
            ManyKind::Writes => ResponseBody::Batch(parts.map(written).collect()),
        }
    }
}

/// In place of a value for which its reply has no room.
pub(super) fn no_room() -> ResponseBody {
    let detail = format!("the reply would be over {MULTI_GET_REPLY_BYTES_MAX} bytes; ask for this key alone");
    ResponseBody::Error(ServerError::new(ErrorCode::TooLarge, detail))
}

fn value(part: ResponseBody) -> Result<Option<Entry>, ServerError> {
    match part {
        ResponseBody::Value(entry) => Ok(entry),
        other => Err(error_of(other)),
    }
}

fn written(part: ResponseBody) -> Result<WriteResult, ServerError> {
    match part {
        ResponseBody::Written(result) => Ok(result),
        other => Err(error_of(other)),
    }
}

fn error_of(body: ResponseBody) -> ServerError {
    match body {
        ResponseBody::Error(error) => error,
        _ => ServerError::new(ErrorCode::Internal, "another node answered something else than was asked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvorum_protocol::{Ack, Durability, Version};

    fn entry(bytes: usize) -> Entry {
        Entry { value: Bytes::from(vec![0; bytes]), version: Version(1), expires_at_ms: None }
    }

    fn value(bytes: usize) -> ResponseBody {
        ResponseBody::Value(Some(entry(bytes)))
    }

    #[test]
    fn the_last_part_completes_the_response_in_the_order_asked() {
        let work = Work::Many(Many::new(ManyKind::Values, 3));
        let mut pending = Pending { origin: (), work, writes: KeyHashes::None, forwarded: false };
        assert_eq!(pending.complete(2, ResponseBody::Value(None), false), None);
        assert_eq!(pending.complete(0, value(3), true), None);
        let refused = ServerError::new(ErrorCode::Unavailable, "");
        let Some(ResponseBody::Values(values)) = pending.complete(1, ResponseBody::Error(refused.clone()), false)
        else {
            panic!("three parts make three values");
        };
        assert_eq!(values[0].as_ref().unwrap().as_ref().unwrap().value.len(), 3);
        assert_eq!(values[1], Err(refused));
        assert_eq!(values[2], Ok(None));
        assert!(pending.forwarded);
    }

    #[test]
    fn values_past_the_replys_limit_are_refused_one_by_one() {
        let mut many = Many::new(ManyKind::Values, 3);
        many.put(0, value(MULTI_GET_REPLY_BYTES_MAX - 10));
        many.put(1, value(11));
        many.put(2, value(10));
        let ResponseBody::Values(values) = many.finish() else { panic!("values were asked for") };
        assert!(values[0].is_ok() && values[2].is_ok());
        assert_eq!(values[1].as_ref().unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn a_write_whose_previous_value_does_not_fit_says_that_it_was_applied() {
        let written = |bytes| {
            ResponseBody::Written(WriteResult {
                status: WriteStatus::Applied,
                version: Version(2),
                ack: Ack::Committed,
                durability: Durability::Fsync,
                number: None,
                previous: Some(entry(bytes)),
            })
        };
        let mut many = Many::new(ManyKind::Writes, 2);
        many.put(0, written(MULTI_GET_REPLY_BYTES_MAX));
        many.put(1, written(1));
        let ResponseBody::Batch(results) = many.finish() else { panic!("it was a batch") };
        assert!(results[0].is_ok());
        let error = results[1].as_ref().unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::TooLarge, Outcome::Applied));
    }
}
