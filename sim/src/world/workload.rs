//! From the acts of a plan to requests, and from answers to a history.

use super::lives::{Event, Lives, Span, What};
use super::queue::Moment;
use super::{client, clock, transactions};
use crate::checker::{self, Call, Completion, Found, History, Reply, Written};
use crate::plan::{self, Act};
use bytes::Bytes;
use kvorum_client_core::session::Sequences;
use kvorum_protocol::{
    Ack, Action, AtomicRequest, AtomicResult, Awaited, Condition, Entry, ExpireWhen, Mutation, Once, OnceId, Outcome,
    ReadMode, RequestBody, ResponseBody, ReturnPrevious, TimeToLive, TransactionRequest, Version, WriteId, WriteResult,
    WriteStatus,
};
use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};
use uuid::Uuid;

/// One request and what it says of each key.
#[derive(Debug)]
pub(super) struct ClientOperation {
    pub(super) body: RequestBody,
    client: u32,
    invoked_at: u64,
    calls: Vec<(Bytes, Call)>,
    /// The answer promises nothing.
    accepted: bool,
    /// Its first copy is held up for so long, in milliseconds, if not 0.
    pub(super) late_ms: u32,
    /// Once it is accepted it is awaited for so long, in milliseconds, if not 0.
    await_ms: u32,
    /// The write that it awaits, if it is an AWAIT; the calls are that write's.
    awaits: Option<AcceptedWrite>,
}

/// A write that was answered when it was merely accepted.
#[derive(Debug)]
struct AcceptedWrite {
    result: WriteResult,
    span: Option<Span>,
}

impl ClientOperation {
    pub(super) fn new(
        body: RequestBody,
        client: u32,
        invoked_at: u64,
        calls: Vec<(Bytes, Call)>,
        accepted: bool,
    ) -> Self {
        Self { body, client, invoked_at, calls, accepted, late_ms: 0, await_ms: 0, awaits: None }
    }

    /// Whether it may have an effect.
    pub(super) fn writes(&self) -> bool {
        client::writes(&self.body)
    }

    /// Whether its client awaits it, once it has this answer.
    pub(super) fn is_awaited(&self, result: &WriteResult) -> bool {
        result.receipt.is_some() && self.await_ms > 0
    }

    /// What its client does once it is answered; itself, if it awaits nothing.
    pub(super) fn then_await(self, result: &WriteResult) -> Self {
        let (Some(receipt), 1..) = (result.receipt, self.await_ms) else { return self };
        let awaits = Some(AcceptedWrite { result: result.clone(), span: span_of(&self.body) });
        let body = RequestBody::Await { receipt, wait_ms: self.await_ms };
        Self { body, accepted: false, await_ms: 0, late_ms: 0, awaits, ..self }
    }

    /// The one-shot name that it is sent under.
    pub(super) fn once(&self) -> Option<Once> {
        match &self.body {
            RequestBody::Write { id, .. } => id.once,
            _ => None,
        }
    }

    /// The key that says where it goes; `None` if any node will do.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match &self.body {
            RequestBody::Batch { .. } | RequestBody::MultiGet { .. } => None,
            _ => self.calls.first().map(|(key, _)| &key[..]),
        }
    }
}

/// The one-shot names that clients use begin with these bits.
const ONCE_IDS: u128 = 0x1dea << 112;

/// Makes requests of a client's acts.
pub(super) struct Maker<'a> {
    pub(super) client: u32,
    pub(super) values: &'a mut u64,
    pub(super) seen: &'a BTreeMap<Vec<u8>, Version>,
    pub(super) sequences: &'a mut Sequences,
}

impl Maker<'_> {
    /// The requests of an act, each with the sequence numbers that it takes: the first, and how many.
    pub(super) fn operations(
        &mut self,
        act: Act,
        recorder: &mut Recorder,
    ) -> Vec<(ClientOperation, Option<(u64, u64)>)> {
        let plain = |key: Bytes, action| vec![mutation(key, Condition::Always, action)];
        match act {
            Act::Get(key) => vec![self.read(vec![plain_key(key)], recorder)],
            Act::ReadPair(pair) => pair_keys(pair).into_iter().map(|key| self.read(vec![key], recorder)).collect(),
            Act::MultiGet { first, count } => {
                vec![self.read((first..first + count).map(plain_key).collect(), recorder)]
            }
            Act::Put { key, bytes, ttl_ms, accepted, await_ms } => {
                let (value, ttl) = (self.value(bytes), ttl_ms.map_or(TimeToLive::Forever, TimeToLive::Ms));
                let ack = if accepted { Ack::Accepted } else { Ack::Committed };
                let put = plain(plain_key(key), Action::Put { value, ttl });
                let (mut operation, sequences) = self.write(put, ack, recorder);
                operation.await_ms = await_ms;
                vec![(operation, sequences)]
            }
            Act::PutAsking { key, bytes } => {
                let put = Action::Put { value: self.value(bytes), ttl: TimeToLive::Forever };
                let put = asking(mutation(plain_key(key), Condition::Always, put));
                vec![self.write(vec![put], Ack::Committed, recorder)]
            }
            Act::PutKeeping(key) => {
                let put = self.keeping(plain_key(key));
                vec![self.write(vec![put], Ack::Committed, recorder)]
            }
            Act::ExpireAndPut { key, ttl_ms } => {
                let expire = mutation(plain_key(key), Condition::Always, Action::Expire { ttl_ms });
                let both = vec![expire, self.keeping(plain_key(key))];
                vec![self.write(both, Ack::Committed, recorder)]
            }
            Act::CompareAndSet(key) => {
                let key = plain_key(key);
                let (condition, action) = (self.unchanged(&key), self.put());
                vec![self.write(vec![mutation(key, condition, action)], Ack::Committed, recorder)]
            }
            Act::PutIfAbsent(key) => {
                let put = mutation(plain_key(key), Condition::IfAbsent, self.put());
                vec![self.write(vec![put], Ack::Committed, recorder)]
            }
            Act::PutIfAbsentOrSeen(key) => {
                let key = plain_key(key);
                // Of a key that it never saw a client has no version; it may name any.
                let version = self.seen.get(&key[..]).filter(|version| version.0 > 0).copied().unwrap_or(Version(1));
                let put = mutation(key, Condition::IfAbsentOrVersion(version), self.put());
                vec![self.write(vec![put], Ack::Committed, recorder)]
            }
            Act::Delete(key) => vec![self.write(plain(plain_key(key), Action::Delete), Ack::Committed, recorder)],
            Act::Incr(key) => {
                let key = Bytes::from(format!("n{key}"));
                vec![self.write(plain(key, Action::Incr { by: 1 }), Ack::Committed, recorder)]
            }
            Act::IncrOnce { key, id, by } => {
                let incr = plain(format!("n{key}").into(), Action::Incr { by: by.into() });
                let (mut operation, sequences) = self.write(incr, Ack::Committed, recorder);
                if let RequestBody::Write { id: write, .. } = &mut operation.body {
                    let id = OnceId(Uuid::from_u128(ONCE_IDS | u128::from(id)));
                    write.once = Some(Once { id, digest: by.into(), keeps_refusal: true });
                }
                vec![(operation, sequences)]
            }
            Act::IncrFar { key, down, late_ms } => {
                let far = i64::MAX / 2 + 1;
                let incr = Action::Incr { by: if down { -far } else { far } };
                let (mut operation, sequences) =
                    self.write(plain(format!("n{key}").into(), incr), Ack::Committed, recorder);
                operation.late_ms = late_ms;
                vec![(operation, sequences)]
            }
            Act::IncrPlain(key) => {
                vec![self.write(plain(plain_key(key), Action::Incr { by: 1 }), Ack::Committed, recorder)]
            }
            Act::AtomicIncr(pair) => {
                let [first, second] = pair_keys(pair);
                let incr = mutation(first, Condition::Always, Action::Incr { by: 1 });
                let put = mutation(second, Condition::Always, self.put());
                vec![self.atomic(vec![incr, put], recorder)]
            }
            Act::Append(key) => {
                let value = Bytes::from(format!("{},", self.value(0).escape_ascii()));
                let key = Bytes::from(format!("a{key}"));
                vec![self.write(plain(key, Action::Append { value }), Ack::Committed, recorder)]
            }
            Act::Expire { key, ttl_ms } => {
                vec![self.write(plain(plain_key(key), Action::Expire { ttl_ms }), Ack::Committed, recorder)]
            }
            Act::PutUntil { key, in_ms } => {
                let put = Action::Put { value: self.value(0), ttl: TimeToLive::Until(recorder.wall_ms(in_ms)) };
                vec![self.write(plain(plain_key(key), put), Ack::Committed, recorder)]
            }
            Act::ExpireAt { key, in_ms } => {
                let expire = Action::ExpireAt { at_ms: recorder.wall_ms(in_ms), when: None };
                vec![self.write(plain(plain_key(key), expire), Ack::Committed, recorder)]
            }
            Act::ExpireAtIf { key, in_ms, when } => {
                let expire = Action::ExpireAt { at_ms: recorder.wall_ms(in_ms), when: Some(when_of(when)) };
                vec![self.write(plain(text_key(key), expire), Ack::Committed, recorder)]
            }
            Act::Persist(key) => vec![self.write(plain(plain_key(key), Action::Persist), Ack::Committed, recorder)],
            Act::AtomicPair(pair) => {
                let value = self.value(0);
                let put = |key: Bytes| {
                    let condition = self.unchanged(&key);
                    asking(mutation(key, condition, Action::Put { value: value.clone(), ttl: TimeToLive::Forever }))
                };
                let mutations = pair_keys(pair).into_iter().map(put).collect();
                vec![self.atomic(mutations, recorder)]
            }
            Act::Transaction { pair, watch, script } => vec![self.transaction(pair, watch, script, recorder)],
            Act::RenamePair { pair, back } => vec![self.rename(pair, back, recorder)],
            Act::SwapValue { key, from, to } => {
                let value = |value: u8| Bytes::from(format!("value {value}"));
                let condition = from.map_or(Condition::Always, |from| Condition::IfEquals(value(from)));
                let put = |to| Action::Put { value: value(to), ttl: TimeToLive::Forever };
                let write = mutation(format!("e{key}").into(), condition, to.map_or(Action::Delete, put));
                vec![self.write(vec![write], Ack::Committed, recorder)]
            }
            Act::Range { key, offset } => {
                let range = Action::SetRange { offset: offset.into(), value: self.value(0) };
                vec![self.write(plain(text_key(key), range), Ack::Committed, recorder)]
            }
            Act::Bit { key, offset, bit } => {
                let set = Action::SetBit { offset: offset.into(), bit };
                vec![self.write(plain(text_key(key), set), Ack::Committed, recorder)]
            }
            Act::ExpireIf { key, ttl_ms, when } => {
                let expire = plain(text_key(key), Action::ExpireIf { ttl_ms, when: when_of(when) });
                vec![self.write(expire, Ack::Committed, recorder)]
            }
            Act::ReadText(key) => vec![self.read(vec![text_key(key)], recorder)],
            Act::Quarters { key, by } => {
                let by = Bytes::from((f64::from(by) / 4.0).to_string());
                let add = plain(format!("d{key}").into(), Action::IncrDecimal { by });
                vec![self.write(add, Ack::Committed, recorder)]
            }
            Act::Batch { first, count } => {
                let keys = (first..first + count).map(plain_key);
                let puts = keys.map(|key| mutation(key, Condition::Always, self.put()));
                // Every other one asks whether its key existed.
                let puts = puts.zip(0..).map(|(put, number)| if number % 2 == 0 { put } else { asking(put) });
                let mutations: Vec<_> = puts.collect();
                vec![self.write(mutations, Ack::Committed, recorder)]
            }
        }
    }

    pub(super) fn value(&mut self, bytes: u32) -> Bytes {
        *self.values += 1;
        let mut value = format!("{}.{}", self.client, self.values);
        if (value.len() as u32) < bytes {
            value.extend(std::iter::repeat_n('.', bytes as usize - value.len()));
        }
        value.into()
    }

    pub(super) fn put(&mut self) -> Action {
        Action::Put { value: self.value(0), ttl: TimeToLive::Forever }
    }

    /// A put that keeps the time to live. It asks whether there was one to keep: else a key that has no time to live afterwards could have
    /// expired right before.
    fn keeping(&mut self, key: Bytes) -> Mutation {
        let put = Action::Put { value: self.value(0), ttl: TimeToLive::Keep };
        asking(mutation(key, Condition::Always, put))
    }

    /// The key has the version that this client saw last.
    pub(super) fn unchanged(&self, key: &[u8]) -> Condition {
        match self.seen.get(key) {
            Some(version) if version.0 > 0 => Condition::IfVersion(*version),
            _ => Condition::IfAbsent,
        }
    }

    fn read(&self, keys: Vec<Bytes>, recorder: &mut Recorder) -> (ClientOperation, Option<(u64, u64)>) {
        let mode = ReadMode::Linearizable;
        let calls = keys.iter().map(|key| (key.clone(), Call::Get)).collect();
        let body = match <[Bytes; 1]>::try_from(keys) {
            Ok([key]) => RequestBody::Get { key, mode },
            Err(keys) => RequestBody::MultiGet { keys, mode },
        };
        let (client, invoked_at) = (self.client, recorder.tick());
        (ClientOperation::new(body, client, invoked_at, calls, false), None)
    }

    fn write(
        &mut self,
        mutations: Vec<Mutation>,
        ack: Ack,
        recorder: &mut Recorder,
    ) -> (ClientOperation, Option<(u64, u64)>) {
        let count = mutations.len() as u64;
        let first = self.sequences.allocate(count);
        let calls = mutations.iter().map(|mutation| (mutation.key.clone(), call_of(mutation))).collect();
        let id = WriteId { sequence: first, first_unanswered: first, retry: false, once: None };
        let body = match <[Mutation; 1]>::try_from(mutations) {
            Ok([mutation]) => RequestBody::Write { id, ack, mutation },
            Err(mutations) => RequestBody::Batch { id, ack, mutations },
        };
        let (client, invoked_at) = (self.client, recorder.tick());
        (ClientOperation::new(body, client, invoked_at, calls, ack == Ack::Accepted), Some((first, count)))
    }

    fn atomic(&mut self, mutations: Vec<Mutation>, recorder: &mut Recorder) -> (ClientOperation, Option<(u64, u64)>) {
        let first = self.sequences.allocate(1);
        let calls = mutations.iter().map(|mutation| (mutation.key.clone(), call_of(mutation))).collect();
        let id = WriteId { sequence: first, first_unanswered: first, retry: false, once: None };
        let body = RequestBody::Atomic(AtomicRequest { id, ack: Ack::Committed, checks: Vec::new(), mutations });
        let (client, invoked_at) = (self.client, recorder.tick());
        (ClientOperation::new(body, client, invoked_at, calls, false), Some((first, 1)))
    }
}

/// What all clients did and saw, on one clock.
#[derive(Default)]
pub(super) struct Recorder {
    clock: u64,
    history: History,
    /// True time of each moment of the clock.
    times: Vec<Moment>,
    /// True time.
    pub(super) now: Moment,
    lives: Lives,
    keys: BTreeSet<Bytes>,
    /// What was asked for under one-shot names: by name and digest, one operation however often it was sent.
    once: BTreeMap<(OnceId, u64), checker::Operation>,
    /// Answers that no correct node gives.
    pub(super) nonsense: Option<String>,
    /// Every key with a value that it was read with.
    read: BTreeSet<(Bytes, Bytes)>,
    /// Keys of which it is not known what a renaming has done to them.
    unjudged: BTreeSet<Bytes>,
    /// Key and value of writes that a read behind them did not see, and how that was.
    missed: Vec<(Bytes, Bytes, String)>,
}

impl Recorder {
    pub(super) fn tick(&mut self) -> u64 {
        self.times.push(self.now);
        self.clock += 1;
        self.clock
    }

    /// What a right wall clock shows so far ahead of now, in milliseconds since 1970.
    fn wall_ms(&self, in_ms: i64) -> u64 {
        (clock::WALL_ORIGIN_MS + self.now.ms() as i64).saturating_add(in_ms).max(0) as u64
    }

    /// A read did not see the write of this value that its client had sent before it on the same connection. That is right
    /// only if the write is lost.
    pub(super) fn missed(&mut self, key: Bytes, value: Bytes, how: String) {
        self.missed.push((key, value, how));
    }

    /// A write that was missed by a read behind it, and was not lost.
    pub(super) fn overtaken(&self) -> Option<String> {
        let lasted = |(key, value, how): &(Bytes, Bytes, String)| {
            self.read.contains(&(key.clone(), value.clone())).then(|| format!("{how}, which was not lost"))
        };
        self.missed.iter().find_map(lasted)
    }

    /// What was done to keys, for those that have a time to live.
    pub(super) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Notes what a call came to.
    fn note_life(&mut self, key: &Bytes, span: Option<Span>, invoked_at: u64, completion: &Completion) {
        let at = |clock: u64| self.times[clock as usize - 1];
        let what = match completion {
            Completion::Answered { reply: Reply::Value(Some(found)), .. } => {
                found.version.map_or(What::Written, |version| What::Found(Version(version)))
            }
            Completion::Answered { reply: Reply::Value(None), .. } => What::Missed,
            Completion::Answered { reply: Reply::Written(written), .. } => {
                match (written.status, span, written.version) {
                    (checker::WriteStatus::Applied, Some(span), Some(version)) => {
                        What::Stored { span, version: Version(version) }
                    }
                    (checker::WriteStatus::Applied, ..) => What::Written,
                    (checker::WriteStatus::ConditionFailed | checker::WriteStatus::Missing, ..) => return,
                }
            }
            Completion::Answered { reply: Reply::Together(_) | Reply::Refused, .. } => What::Written,
            Completion::AppliedUnseen { .. } | Completion::Open => What::Written,
        };
        let ended = match completion {
            Completion::Answered { at: ended, .. } | Completion::AppliedUnseen { at: ended } => Some(at(*ended)),
            Completion::Open => None,
        };
        let event = Event { began: at(invoked_at), ended, what };
        self.lives.note(key, event);
    }

    /// Every key that was ever written or read.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.keys.iter().cloned().collect()
    }

    /// The history, for the checker.
    pub(super) fn into_history(mut self) -> History {
        self.history.extend(self.once.into_values());
        let unjudged = self.unjudged;
        let judged = self.history.operations().iter().filter(|operation| !unjudged.contains(&operation.key[..]));
        let mut history = History::default();
        history.extend(judged.cloned());
        history
    }

    /// A read that the world itself makes.
    pub(super) fn read_of(&mut self, client: u32, key: Bytes) -> ClientOperation {
        let body = RequestBody::Get { key: key.clone(), mode: ReadMode::Linearizable };
        ClientOperation::new(body, client, self.tick(), vec![(key, Call::Get)], false)
    }

    /// An operation has ended: with an answer, or with what is known of its effect.
    pub(super) fn handle_end(
        &mut self,
        operation: ClientOperation,
        result: Result<ResponseBody, Outcome>,
        seen: &mut BTreeMap<Vec<u8>, Version>,
    ) {
        let at = self.tick();
        let once = operation.once();
        let ClientOperation { body, client, invoked_at, calls, accepted, awaits, .. } = operation;
        self.keys.extend(calls.iter().map(|(key, _)| key.clone()));
        if let Some(AcceptedWrite { result: write, span }) = awaits {
            let completion = match result {
                // What it was told when it was accepted is what it has come to,
                Ok(ResponseBody::Awaited(Awaited::Applied)) => {
                    note_written(seen, &calls[0].0, &write);
                    Some(written(&write, at))
                }
                // or it has come to nothing.
                Ok(ResponseBody::Awaited(Awaited::Lost)) => None,
                Ok(ResponseBody::Awaited(Awaited::Forgotten)) | Err(_) => Some(Completion::Open),
                Ok(other) => {
                    self.nonsense = Some(format!("{other:?} answers {body:?}"));
                    return;
                }
            };
            return self.keep((client, invoked_at), calls, vec![completion], span);
        }
        if let RequestBody::Transaction(request) = &body {
            return self.end_transaction((client, invoked_at), request, calls, result, seen, at);
        }
        let is_read = !client::writes(&body);
        let completions: Vec<Option<Completion>> = match result {
            Err(outcome) => vec![of_outcome(outcome, is_read, at); calls.len()],
            // In the leader's log, which may never be committed.
            Ok(ResponseBody::Written(result)) if accepted && result.ack == Ack::Accepted => {
                vec![Some(Completion::Open)]
            }
            Ok(ResponseBody::Value(entry)) => {
                note_entry(seen, &calls[0].0, entry.as_ref());
                self.read.extend(entry.as_ref().map(|entry| (calls[0].0.clone(), entry.value.clone())));
                vec![Some(value(entry, at))]
            }
            Ok(ResponseBody::Values(values)) => {
                let of = |result| match result {
                    Ok(entry) => Some(value(entry, at)),
                    Err(_) => None,
                };
                values.into_iter().map(of).collect()
            }
            Ok(ResponseBody::Written(result)) => {
                note_written(seen, &calls[0].0, &result);
                vec![Some(written(&result, at))]
            }
            Ok(ResponseBody::Batch(results)) => {
                let of = |result: Result<WriteResult, kvorum_protocol::ServerError>| match result {
                    Ok(result) => Some(written(&result, at)),
                    Err(error) => of_outcome(error.outcome, false, at),
                };
                results.into_iter().map(of).collect()
            }
            Ok(ResponseBody::Atomic(result)) => atomic(&calls, result, seen, at),
            Ok(other) => {
                self.nonsense = Some(format!("{other:?} answers {body:?}"));
                return;
            }
        };
        if completions.len() != calls.len() {
            self.nonsense = Some(format!("{} answers to {body:?}", completions.len()));
            return;
        }
        match once {
            Some(once) => self.keep_once(once, (client, invoked_at), calls, completions),
            None => self.keep((client, invoked_at), calls, completions, span_of(&body)),
        }
    }

    fn end_transaction(
        &mut self,
        (client, invoked_at): (u32, u64),
        request: &TransactionRequest,
        calls: Vec<(Bytes, Call)>,
        result: Result<ResponseBody, Outcome>,
        seen: &mut BTreeMap<Vec<u8>, Version>,
        at: u64,
    ) {
        let (calls, completions) = match result {
            Err(Outcome::Applied | Outcome::Unknown) if transactions::renames(request) => {
                self.unjudged.extend(request.keys().cloned());
                return;
            }
            Err(outcome) => {
                let completion = of_outcome(outcome, !request.writes(), at);
                let completions = vec![completion; calls.len()];
                (calls, completions)
            }
            Ok(ResponseBody::Transaction(result)) => match transactions::judge(request, calls, &result, seen, at) {
                Ok(judged) => (judged.calls, judged.completions),
                Err(nonsense) => {
                    self.nonsense = Some(nonsense);
                    return;
                }
            },
            Ok(other) => {
                self.nonsense = Some(format!("{other:?} answers {request:?}"));
                return;
            }
        };
        self.keep((client, invoked_at), calls, completions, None);
    }

    /// Adds what a call under a one-shot name has come to. All that asked for the same are one operation: it began with the first of
    /// them, was over with the first answer, and every answer is the same.
    fn keep_once(
        &mut self,
        once: Once,
        (client, invoked_at): (u32, u64),
        calls: Vec<(Bytes, Call)>,
        completions: Vec<Option<Completion>>,
    ) {
        for ((key, call), completion) in calls.into_iter().zip(completions) {
            let Some(completion) = completion else { continue };
            let operation = checker::Operation { client, invoked_at, key: key.to_vec(), call, completion };
            let known = match self.once.entry((once.id, once.digest)) {
                btree_map::Entry::Vacant(entry) => {
                    entry.insert(operation);
                    continue;
                }
                btree_map::Entry::Occupied(entry) => entry.into_mut(),
            };
            known.invoked_at = known.invoked_at.min(operation.invoked_at);
            match (&known.completion, operation.completion) {
                (Completion::Answered { reply, .. }, Completion::Answered { reply: other, .. }) if *reply != other => {
                    self.nonsense = Some(format!("{reply:?} and {other:?} answer writes under the name {}", once.id));
                }
                (Completion::Open, completion) => known.completion = completion,
                _ => {}
            }
        }
    }

    /// Adds to the history what the calls that a client made at one time have come to.
    fn keep(
        &mut self,
        (client, invoked_at): (u32, u64),
        calls: Vec<(Bytes, Call)>,
        completions: Vec<Option<Completion>>,
        span: Option<Span>,
    ) {
        for ((key, call), completion) in calls.into_iter().zip(completions) {
            let Some(completion) = completion else { continue };
            self.note_life(&key, span, invoked_at, &completion);
            let key = key.to_vec();
            self.history.push(checker::Operation { client, invoked_at, key, call, completion });
        }
    }
}

/// How long a key lives by a request: a PUT with a time to live, or one that says when it ends.
fn span_of(body: &RequestBody) -> Option<Span> {
    let RequestBody::Write { mutation: Mutation { action, .. }, .. } = body else { return None };
    match action {
        Action::Put { ttl: TimeToLive::Ms(ms), .. } => Some(Span::For(*ms)),
        Action::Put { ttl: TimeToLive::Until(at_ms), .. } | Action::ExpireAt { at_ms, .. } => {
            // Before the beginning is long over.
            Some(Span::Until(Moment(0).after_ms(at_ms.saturating_sub(clock::WALL_ORIGIN_MS as u64))))
        }
        _ => None,
    }
}

fn when_of(when: plan::LifeTest) -> ExpireWhen {
    match when {
        plan::LifeTest::None => ExpireWhen::None,
        plan::LifeTest::Some => ExpireWhen::Some,
        plan::LifeTest::Longer => ExpireWhen::Longer,
        plan::LifeTest::Shorter => ExpireWhen::Shorter,
    }
}

fn plain_key(number: u32) -> Bytes {
    format!("k{number}").into()
}

fn pair_keys(pair: u32) -> [Bytes; 2] {
    [format!("{{p{pair}}}a").into(), format!("{{p{pair}}}b").into()]
}

fn text_key(number: u32) -> Bytes {
    format!("s{number}").into()
}

pub(super) fn mutation(key: Bytes, condition: Condition, action: Action) -> Mutation {
    Mutation { key, condition, return_previous: ReturnPrevious::Nothing, action }
}

/// The same, which asks whether the key existed.
fn asking(mutation: Mutation) -> Mutation {
    Mutation { return_previous: ReturnPrevious::Existence, ..mutation }
}

pub(super) fn condition_of(condition: &Condition) -> checker::Condition {
    match condition {
        Condition::Always => checker::Condition::Always,
        Condition::IfAbsent => checker::Condition::IfAbsent,
        Condition::IfPresent => checker::Condition::IfPresent,
        Condition::IfVersion(version) => checker::Condition::IfVersion(version.0),
        Condition::IfAbsentOrVersion(version) => checker::Condition::IfAbsentOrVersion(version.0),
        Condition::IfEquals(value) => checker::Condition::IfEquals(value.to_vec()),
    }
}

pub(super) fn call_of(mutation: &Mutation) -> Call {
    let condition = condition_of(&mutation.condition);
    let action = match &mutation.action {
        Action::Put { value, ttl: TimeToLive::Keep } => checker::Action::PutKeeping(value.to_vec()),
        Action::Put { value, ttl } => {
            checker::Action::Put { value: value.to_vec(), expires: *ttl != TimeToLive::Forever }
        }
        Action::Delete => checker::Action::Delete,
        Action::Incr { by } => checker::Action::Incr(*by),
        Action::Append { value } => checker::Action::Append(value.to_vec()),
        Action::Expire { .. } | Action::ExpireAt { when: None, .. } => checker::Action::Expire,
        Action::Persist => checker::Action::Persist,
        Action::ExpireIf { when, .. } | Action::ExpireAt { when: Some(when), .. } => {
            checker::Action::ExpireIf(match when {
                ExpireWhen::None => checker::ExpireWhen::None,
                ExpireWhen::Some => checker::ExpireWhen::Some,
                ExpireWhen::Longer => checker::ExpireWhen::Longer,
                ExpireWhen::Shorter | ExpireWhen::SomeAndShorter => checker::ExpireWhen::Shorter,
            })
        }
        Action::SetRange { offset, value } => {
            checker::Action::SetRange { offset: *offset as usize, bytes: value.to_vec() }
        }
        Action::SetBit { offset, bit } => checker::Action::SetBit { offset: *offset as usize, bit: *bit },
        Action::IncrDecimal { by } => {
            let by: f64 = std::str::from_utf8(by).ok().and_then(|by| by.parse().ok()).expect("the world has made it");
            checker::Action::IncrQuarters((by * 4.0) as i32)
        }
    };
    Call::Write { condition, action }
}

/// What an operation without an answer amounts to; `None` if it says nothing.
fn of_outcome(outcome: Outcome, is_read: bool, at: u64) -> Option<Completion> {
    match outcome {
        _ if is_read => None,
        Outcome::NotApplied => None,
        Outcome::Applied => Some(Completion::AppliedUnseen { at }),
        Outcome::Unknown => Some(Completion::Open),
    }
}

fn value(entry: Option<Entry>, at: u64) -> Completion {
    let found = entry.map(|entry| Found {
        value: entry.value.to_vec(),
        version: Some(entry.version.0),
        expires: Some(entry.expires_at_ms.is_some()),
    });
    Completion::Answered { at, reply: Reply::Value(found) }
}

fn written(result: &WriteResult, at: u64) -> Completion {
    Completion::Answered { at, reply: Reply::Written(written_of(result)) }
}

pub(super) fn written_of(result: &WriteResult) -> Written {
    let status = match result.status {
        WriteStatus::Applied => checker::WriteStatus::Applied,
        WriteStatus::ConditionFailed => checker::WriteStatus::ConditionFailed,
        WriteStatus::Missing => checker::WriteStatus::Missing,
    };
    Written {
        status,
        version: Some(result.version.0),
        number: result.number,
        decimal: result.decimal.as_ref().map(|decimal| decimal.to_vec()),
        existed: result.existed,
    }
}

/// An ATOMIC is judged key by key: each of its writes took effect with its answer, or the one whose condition failed
/// tells its key's version.
fn atomic(
    calls: &[(Bytes, Call)],
    result: AtomicResult,
    seen: &mut BTreeMap<Vec<u8>, Version>,
    at: u64,
) -> Vec<Option<Completion>> {
    match result {
        AtomicResult::Applied(results) => {
            let each = calls.iter().zip(&results);
            each.map(|((key, _), result)| {
                note_written(seen, key, result);
                Some(written(result, at))
            })
            .collect()
        }
        AtomicResult::ConditionFailed { position, version, .. } => {
            let status = checker::WriteStatus::ConditionFailed;
            let failed = Written { status, version: Some(version.0), ..Written::default() };
            let mut completions = vec![None; calls.len()];
            if let (Some(slot), Some((key, _))) = (completions.get_mut(position as usize), calls.get(position as usize))
            {
                *slot = Some(Completion::Answered { at, reply: Reply::Written(failed) });
                seen.insert(key.to_vec(), version);
            }
            completions
        }
    }
}

pub(super) fn note_entry(seen: &mut BTreeMap<Vec<u8>, Version>, key: &[u8], entry: Option<&Entry>) {
    seen.insert(key.to_vec(), entry.map_or(Version(0), |entry| entry.version));
}

pub(super) fn note_written(seen: &mut BTreeMap<Vec<u8>, Version>, key: &[u8], result: &WriteResult) {
    seen.insert(key.to_vec(), result.version);
}
