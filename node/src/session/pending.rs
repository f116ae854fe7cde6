//! Requests that wait for answers, and putting the answers of many parts together.

use super::read::ReadPlan;
use kvorum_protocol::limits::MULTI_GET_REPLY_BYTES_MAX;
use kvorum_protocol::{Entry, ErrorCode, ResponseBody, ServerError, WriteResult};
use std::collections::HashMap;

/// One unanswered request.
#[derive(Debug)]
pub(super) struct Pending<Origin> {
    pub(super) origin: Origin,
    pub(super) work: Work,
    /// Hashes of the keys that it writes.
    pub(super) writes: Vec<u64>,
    pub(super) forwarded: bool,
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
        Many { kind, parts: vec![None; parts], missing: parts, plans: HashMap::new() }
    }

    pub(super) fn put(&mut self, part: u32, body: ResponseBody) {
        let before = self.parts[part as usize].replace(body);
        assert!(before.is_none(), "each part is answered once");
        self.missing -= 1;
    }

    /// The response that the parts make.
    pub(super) fn finish(self) -> ResponseBody {
        assert_eq!(self.missing, 0);
        let parts = self.parts.into_iter().flatten();
        match self.kind {
            ManyKind::Values => {
                let mut left = MULTI_GET_REPLY_BYTES_MAX;
                ResponseBody::Values(parts.map(|part| value_within(part, &mut left)).collect())
            }
            ManyKind::Writes => ResponseBody::Batch(parts.map(written).collect()),
        }
    }
}

/// A part's value, as long as the whole reply stays under its limit.
fn value_within(part: ResponseBody, left: &mut usize) -> Result<Option<Entry>, ServerError> {
    match part {
        ResponseBody::Value(Some(entry)) if entry.value.len() > *left => {
            let detail = format!("the reply would be over {MULTI_GET_REPLY_BYTES_MAX} bytes; ask for this key alone");
            Err(ServerError::new(ErrorCode::TooLarge, detail))
        }
        ResponseBody::Value(entry) => {
            *left -= entry.as_ref().map_or(0, |entry| entry.value.len());
            Ok(entry)
        }
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
    use kvorum_protocol::Version;

    fn value(bytes: usize) -> ResponseBody {
        let entry = Entry { value: Bytes::from(vec![0; bytes]), version: Version(1), expires_at_ms: None };
        ResponseBody::Value(Some(entry))
    }

    #[test]
    fn the_last_part_completes_the_response_in_the_order_asked() {
        let work = Work::Many(Many::new(ManyKind::Values, 3));
        let mut pending = Pending { origin: (), work, writes: vec![], forwarded: false };
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
}
