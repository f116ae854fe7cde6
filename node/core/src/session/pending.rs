//! Requests that wait for answers, and putting the answers of many parts together.

use super::Job;
use super::read::ReadPlan;
use crate::measure::meter::ReadSource;
use crate::measure::slow::About;
use crate::measure::tracing::Trace;
use kvorum_protocol::limits::MULTI_GET_REPLY_BYTES_MAX;
use kvorum_protocol::{
    Ack, AtomicResult, Entry, ErrorCode, Outcome, ResponseBody, ServerError, ShardId, Version, WriteId, WriteResult,
    WriteStatus,
};
use std::collections::HashMap;

/// One unanswered request.
#[derive(Debug)]
pub(super) struct Pending<Origin> {
    pub(super) job: Job<Origin>,
    /// Grows with each request of the session.
    pub(super) number: u64,
    pub(super) work: Awaiting,
    pub(super) writes: Writes,
    /// What it reads, if that is one shard's.
    pub(super) read: Option<About>,
    pub(super) forwarded: bool,
    /// Where the answer to a GET comes from, as far as is known.
    pub(super) source: ReadSource,
    /// Its trace, if that is recorded.
    pub(super) trace: Option<Box<Trace>>,
}

/// What a request writes.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) keys: Keys,
    pub(super) ack: Ack,
    /// It was sent before.
    pub(super) is_retry: bool,
}

/// A key that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenKey {
    pub(super) hash: u64,
    pub(super) shard: ShardId,
}

/// Keys: none or one mostly, which takes no memory of its own.
#[derive(Debug)]
pub(super) enum Keys {
    None,
    One(WrittenKey),
    Many(Vec<WrittenKey>),
}

impl Keys {
    pub(super) fn as_slice(&self) -> &[WrittenKey] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl Writes {
    /// A request that writes nothing.
    pub(super) const NONE: Self = Self { keys: Keys::None, ack: Ack::Committed, is_retry: false };

    pub(super) fn new(id: WriteId, ack: Ack, keys: Keys) -> Self {
        Self { keys, ack, is_retry: id.retry }
    }

    /// The writes that took effect and are merely accepted, of the answer to one of its parts: shard and version of each.
    pub(super) fn each_accepted(keys: &[WrittenKey], body: &ResponseBody, mut note: impl FnMut(ShardId, Version)) {
        let mut note = |key: &WrittenKey, result: &WriteResult| {
            if result.ack == Ack::Accepted && result.status == WriteStatus::Applied {
                note(key.shard, result.version);
            }
        };
        match body {
            ResponseBody::Written(result) => keys.iter().for_each(|key| note(key, result)),
            ResponseBody::Atomic(AtomicResult::Applied(results)) => {
                keys.iter().zip(results).for_each(|(key, result)| note(key, result));
            }
            _ => {}
        }
    }
}

/// What is missing.
#[derive(Debug)]
pub(super) enum Awaiting {
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
    /// Bytes of the values that have come and are kept.
    bytes: usize,
    /// The first part that finds no room, as far as is known: from it on no value is in the reply.
    cut: usize,
    /// What is known of values that are still to be read: part and bytes, in the order of parts.
    expected: Vec<(u32, usize)>,
    plans: HashMap<u32, ReadPlan>,
}

impl<Origin> Pending<Origin> {
    /// What it is about, if that is one shard's: its key, or the first one that it writes.
    pub(super) fn about(&self) -> Option<About> {
        let keys = self.writes.keys.as_slice();
        match keys {
            [first, rest @ ..] if rest.iter().all(|key| key.shard == first.shard) => {
                Some(About { shard: first.shard, key_hash: Some(first.hash) })
            }
            _ => self.read,
        }
    }

    /// Notes a read that waits for confirmation.
    pub(super) fn plan_read(&mut self, part: u32, plan: ReadPlan) {
        match &mut self.work {
            Awaiting::One(slot) => *slot = Some(plan),
            Awaiting::Many(many) => {
                many.plans.insert(part, plan);
            }
        }
    }

    /// The read of this part that waited for confirmation.
    pub(super) fn take_read(&mut self, part: u32) -> Option<ReadPlan> {
        match &mut self.work {
            Awaiting::One(slot) => slot.take(),
            Awaiting::Many(many) => many.plans.remove(&part),
        }
    }

    /// The keys that a part writes.
    pub(super) fn keys_of(&self, part: u32) -> &[WrittenKey] {
        match (&self.work, self.writes.keys.as_slice()) {
            (Awaiting::Many(_), keys @ [_, ..]) => std::slice::from_ref(&keys[part as usize]),
            (_, keys) => keys,
        }
    }

    /// A part's answer has come. Returns the response's body if it was the last.
    pub(super) fn complete(&mut self, part: u32, body: ResponseBody, forwarded: bool) -> Option<ResponseBody> {
        self.forwarded |= forwarded;
        match &mut self.work {
            Awaiting::One(_) => Some(body),
            Awaiting::Many(many) => {
                many.put(part, body);
                (many.missing == 0).then(|| std::mem::replace(many, Many::new(many.kind, 0)).finish())
            }
        }
    }
}

impl Many {
    pub(super) fn new(kind: ManyKind, parts: usize) -> Self {
        Self {
            kind,
            parts: vec![None; parts],
            missing: parts,
            bytes: 0,
            cut: parts,
            expected: Vec::new(),
            plans: HashMap::new(),
        }
    }

    /// A part's answer has come. The reply holds the values of the first parts, in the order asked, up to its limit; which
    /// those are does not depend on which come first. A value for which there is no room goes as soon as that is known:
    /// thousands of them would not fit into memory either.
    pub(super) fn put(&mut self, part: u32, body: ResponseBody) {
        let part = part as usize;
        let body = if part >= self.cut { self.without_value(body) } else { body };
        self.bytes += value_bytes(&body);
        let before = self.parts[part].replace(body);
        assert!(before.is_none(), "each part is answered once");
        self.missing -= 1;
        if self.bytes > MULTI_GET_REPLY_BYTES_MAX {
            self.cut_off();
        }
    }

    /// This part finds no room, whatever is still to come. It is better not read at all: a few keys can name gigabytes.
    pub(super) fn refuses(&self, part: u32) -> bool {
        part as usize >= self.cut
    }

    /// Takes the values out from the first one on that is past the limit, given those that have come. More of those before it
    /// may come: then it is cut off earlier.
    fn cut_off(&mut self) {
        let mut bytes = 0;
        let mut fits = |part: &Option<ResponseBody>| {
            let with_it = bytes + part.as_ref().map_or(0, value_bytes);
            if with_it <= MULTI_GET_REPLY_BYTES_MAX {
                bytes = with_it;
            }
            bytes == with_it
        };
        let cut = self.parts.iter().position(|part| !fits(part)).unwrap_or(self.parts.len());
        self.cut_off_from(cut);
    }

    /// Values of so many bytes are still to be read for these parts. Cuts off where there is no room for one of them, or of those
    /// that were expected before.
    pub(super) fn expect(&mut self, values: impl IntoIterator<Item = (u32, usize)>) {
        self.expected.extend(values);
        self.expected.sort_unstable();
        let expected = std::mem::take(&mut self.expected);
        self.cut_off_expected(&expected);
        self.expected = expected;
    }

    fn cut_off_expected(&mut self, values: &[(u32, usize)]) {
        let mut values = values.iter().copied().peekable();
        let mut bytes = 0;
        for at in 0..self.cut {
            let expected = values.next_if(|(part, _)| *part as usize == at).map_or(0, |(_, bytes)| bytes);
            bytes += self.parts[at].as_ref().map_or(expected, value_bytes);
            if bytes > MULTI_GET_REPLY_BYTES_MAX {
                return self.cut_off_from(at);
            }
        }
    }

    /// From this part on no value is in the reply.
    fn cut_off_from(&mut self, cut: usize) {
        self.cut = cut;
        for at in cut..self.parts.len() {
            if let Some(body) = self.parts[at].take() {
                self.parts[at] = Some(self.without_value(body));
            }
        }
        self.bytes = self.parts[..cut].iter().flatten().map(value_bytes).sum();
    }

    /// The answer to a part for whose value there is no room.
    fn without_value(&self, body: ResponseBody) -> ResponseBody {
        match (self.kind, &body) {
            (ManyKind::Values, _) => no_room(),
            (ManyKind::Writes, ResponseBody::Written(WriteResult { status, previous: Some(_), .. })) => {
                let outcome = if *status == WriteStatus::Applied { Outcome::Applied } else { Outcome::NotApplied };
                let detail =
                    format!("with the value before, the reply would be over {MULTI_GET_REPLY_BYTES_MAX} bytes");
                ResponseBody::Error(ServerError::new(ErrorCode::TooLarge, detail).with_outcome(outcome))
            }
            (ManyKind::Writes, _) => body,
        }
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

/// Bytes of the value that a part's answer holds.
pub(super) fn value_bytes(body: &ResponseBody) -> usize {
    match body {
        ResponseBody::Value(Some(entry)) => entry.value.len(),
        ResponseBody::Written(WriteResult { previous: Some(entry), .. }) => entry.value.len(),
        _ => 0,
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
        let work = Awaiting::Many(Many::new(ManyKind::Values, 3));
        let client = kvorum_protocol::ClientId(uuid::Uuid::from_u128(1));
        let (began, deadline) = Default::default();
        let operation = crate::measure::meter::OperationKind::MultiGet;
        let job = Job {
            client,
            origin: (),
            operation,
            began,
            deadline,
            deadline_ms: 0,
            passed_on: None,
            redirects: false,
            traced: false,
        };
        let (writes, source) = (Writes::NONE, ReadSource::default());
        let mut pending = Pending { job, number: 1, work, writes, read: None, forwarded: false, source, trace: None };
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

    /// Which of these values are in the reply, if they come in this order.
    fn kept(sizes: &[usize], order: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut many = Many::new(ManyKind::Values, sizes.len());
        for part in order {
            many.put(part as u32, value(sizes[part]));
            let held: usize = many.parts.iter().flatten().map(value_bytes).sum();
            assert!(held == many.bytes && held <= MULTI_GET_REPLY_BYTES_MAX);
        }
        let ResponseBody::Values(values) = many.finish() else { panic!("values were asked for") };
        let too_large = |error: &ServerError| assert_eq!(error.code, ErrorCode::TooLarge);
        values.iter().map(|value| value.as_ref().inspect_err(|error| too_large(error)).is_ok()).collect()
    }

    #[test]
    fn the_first_values_are_in_the_reply_in_whatever_order_they_come() {
        const MAX: usize = MULTI_GET_REPLY_BYTES_MAX;
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            assert_eq!(kept(&[MAX - 10, 11, 10, 0], order), [true, false, false, false], "{order:?}");
            assert_eq!(kept(&[MAX - 10, 10, 0, 1], order), [true, true, true, false], "{order:?}");
            assert_eq!(kept(&[1, MAX, 1, 1], order), [true, false, false, false], "{order:?}");
            assert_eq!(kept(&[0, 0, MAX, 0], order), [true; 4], "{order:?}");
        }
    }

    #[test]
    fn accepted_writes_are_told_from_others() {
        let result = |version, ack, status| WriteResult {
            status,
            version: Version(version),
            ack,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: None,
            receipt: None,
            existed: None,
            replayed: false,
        };
        let key = |shard| WrittenKey { hash: 0, shard: ShardId(shard) };
        let keys: Vec<WrittenKey> = (1..=4).map(key).collect();
        let mut noted = Vec::new();
        let parts = [
            ResponseBody::Written(result(11, Ack::Accepted, WriteStatus::Applied)),
            ResponseBody::Written(result(12, Ack::Committed, WriteStatus::Applied)),
            ResponseBody::Written(result(13, Ack::Accepted, WriteStatus::Missing)),
            ResponseBody::Written(result(14, Ack::Accepted, WriteStatus::Applied)),
        ];
        for (key, body) in keys.chunks(1).zip(&parts) {
            Writes::each_accepted(key, body, |shard, version| noted.push((shard.0, version.0)));
        }
        assert_eq!(noted, [(1, 11), (4, 14)]);
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
                decimal: None,
                previous: Some(entry(bytes)),
                receipt: None,
                existed: None,
                replayed: false,
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
