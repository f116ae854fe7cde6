//! A session: what a node does with the requests of one connection, or of one peer that forwards.
//!
//! The session is a value that its owner drives: [`Session::handle`] for a request, [`Session::collect`] when its sink
//! has answers. It never waits. Reads of a shard that this node leads are answered inside `handle`, from the shared
//! state, under the lease; everything else becomes a request to a shard's actor or to another node and is remembered
//! until its answers have come.
//!
//! Requests of one session keep their order per key: writes go to their shard's queue in order, and a GET of a key that
//! has an unanswered write follows it through the same queue. So does a GET in a shard that has answered a write of this
//! session early and not applied it yet. A stale GET promises no order, and never waits.

mod admin;
mod audited;
mod caller;
mod held;
mod large;
mod many;
mod of_node;
mod offload;
mod outcome;
mod pending;
mod read;
pub mod reply;
mod timed;
mod watched;

use crate::clock::Nanos;
use crate::cost;
use crate::limits::{DEADLINE_DEFAULT_MS, LARGE_WORK_BYTES};
use crate::measure::EntryStamps;
use crate::measure::meter::{self, Door, Finished, Meter, ReadPath, ReadSource};
use crate::measure::slow::About;
use crate::routing::router::{PassedOn, Route, Router};
use crate::seeded::{Bug, planted};
use crate::session::reply::{Answer, Reply, ReplySink};
use crate::shard::inbox::QueuedRequest;
use crate::shard::{Operation, ShardReply};
use crate::store::{PREFETCH_KEYS, prefetch_keys};
pub use admin::NodeAdmin;
use audited::Audited;
use bytes::{Bytes, BytesMut};
use caller::Caller;
use hashbrown::HashMap;
use held::{HeldParts, UnansweredWrites};
use kvorum_protocol::hash::{hash_tag, hash64, position_of_tag, ring_position, shard_of_position};
use kvorum_protocol::{
    Ack, AdminCommand, AtomicRequest, ClientId, ErrorCode, Mutation, Outcome, ReadMode, Receipt, Request, RequestBody,
    RequestId, ResponseBody, ServerError, ShardId, Term, TransactionRequest, Version, WriteId,
};
use large::LargeQueue;
pub use offload::{Inline, Offload};
use pending::{Awaiting, Keys, Pending, Writes, WrittenKey};
use read::{LargeRead, ReadAt, ReadNow, ReadPlan, What};
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use timed::{Told, Traces};

/// What sessions share.
pub struct SessionContext {
    /// The routing table.
    pub router: Arc<Router>,
    /// For STATUS, for handing leadership over and for stopping the node.
    pub admin: Arc<dyn NodeAdmin>,
    /// Where large values are read.
    pub offload: Arc<dyn Offload>,
    /// Whether fault hooks may be used.
    pub fault_hooks: bool,
    /// Takes down what was answered.
    pub meter: Arc<dyn Meter>,
}

/// An answer, ready to be encoded.
#[derive(Debug)]
pub struct Answered<Origin> {
    /// Whose it is.
    pub origin: Origin,
    /// Another node answered.
    pub forwarded: bool,
    /// Where the answer to a GET came from.
    pub source: Option<ReadSource>,
    /// The answer.
    pub body: ResponseBody,
}

/// What all parts of a request have in common.
#[derive(Clone, Copy, Debug)]
struct Job<Origin> {
    client: ClientId,
    origin: Origin,
    operation: meter::OperationKind,
    began: Nanos,
    deadline: Nanos,
    deadline_ms: u32,
    passed_on: Option<PassedOnAs>,
    /// It is not passed on.
    redirects: bool,
    /// Its trace is recorded.
    traced: bool,
}

/// As what a peer has passed a request on.
#[derive(Clone, Copy, Debug)]
pub struct PassedOnAs {
    /// The term in which this node is believed to lead.
    pub term: Term,
    /// It is a read that keeps its place behind the writes that were passed on before it.
    pub in_order: bool,
}

/// One part of a request: what one shard is asked.
enum Part {
    Read { what: What, mode: ReadMode, in_order: bool },
    Write { id: WriteId, ack: Ack, mutation: Mutation },
    Atomic(AtomicRequest),
    Transaction(TransactionRequest),
    Await { receipt: Receipt, wait_ms: u32 },
}

/// The requests of one connection or peer. `Origin` is how its owner tells requests apart.
pub struct Session<Origin> {
    context: Arc<SessionContext>,
    sink: Arc<ReplySink>,
    pending: Slab<Pending<Origin>>,
    writes: UnansweredWrites,
    /// What waits until it is known who leads.
    held: HeldParts<Origin>,
    /// What goes back to the peer that has passed it on.
    returned: Vec<(Origin, RequestBody)>,
    next_number: u64,
    /// Whoever asks turns to the leader himself.
    redirects: bool,
    /// The newest version, per shard of this node, of writes that were answered when they were merely accepted. It goes once the
    /// shard has applied it.
    accepted: HashMap<ShardId, Version>,
    /// Where the keys that were fetched ahead stand in their index's order: of the GETs that come next, in their order.
    ahead: VecDeque<Option<u64>>,
    /// Whose its requests are.
    caller: Caller,
    audited: Audited,
    /// Which way its requests come in. What a peer has passed on goes no further.
    door: Door,
    /// The newest time that a read has looked at: requests that are answered at once need not look again.
    read_until: Option<Nanos>,
    /// Where the answer to a GET came from that was given at once. Not part of that answer, which is long and moves often.
    read_from: Option<ReadSource>,
    /// The shard that was read at once.
    read_of: Option<ShardId>,
    /// GETs so far, which tells those of one moment apart.
    gets: u64,
    traces: Traces,
    replies: Vec<Reply>,
    /// When the answers came that are being taken.
    collected_at: Nanos,
    /// Work that takes milliseconds, one piece of this session at a time.
    large: LargeQueue,
    /// Large reads that were confirmed among the answers that are being taken.
    confirmed: Vec<(usize, u32, LargeRead)>,
}

impl<Origin> Drop for Session<Origin> {
    fn drop(&mut self) {
        self.sink.close();
        if !self.pending.is_empty() {
            self.context.meter.abandoned(self.door, self.pending.len());
        }
    }
}

impl<Origin: Copy> Session<Origin> {
    /// A session of a connection to this door.
    pub fn new(context: Arc<SessionContext>, door: Door) -> Self {
        let large = LargeQueue::new(Arc::clone(&context.offload));
        let caller = Caller::new(context.router.auth(), door);
        Self {
            context,
            sink: Arc::default(),
            pending: Slab::new(),
            writes: UnansweredWrites::default(),
            held: HeldParts::new(),
            returned: Vec::new(),
            next_number: 0,
            redirects: false,
            accepted: HashMap::new(),
            ahead: VecDeque::new(),
            caller,
            audited: Audited::default(),
            door,
            read_until: None,
            read_from: None,
            read_of: None,
            gets: 0,
            traces: Traces::default(),
            replies: Vec::new(),
            collected_at: Nanos(0),
            large,
            confirmed: Vec::new(),
        }
    }

    /// Where its answers arrive.
    pub fn sink(&self) -> &Arc<ReplySink> {
        &self.sink
    }

    /// Unanswered requests.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Whether a new session would do the same with whatever comes next: nothing is unanswered, and all that was answered is applied, as
    /// far as is known.
    pub fn remembers_nothing(&self) -> bool {
        let Self { pending, held, returned, accepted, .. } = self;
        pending.is_empty() && held.is_empty() && returned.is_empty() && accepted.is_empty()
    }

    /// Whether requests from here on are not passed on: for a shard that another node leads they are answered `NotLeader`, with that
    /// node, and have no effect.
    pub fn redirect(&mut self, redirects: bool) {
        self.redirects = redirects;
    }

    /// Begins a request of `client` at `now`; answers it at once if it can.
    pub fn handle(
        &mut self,
        client: ClientId,
        origin: Origin,
        now: Nanos,
        request: Request,
        out: &mut impl FnMut(Answered<Origin>),
    ) {
        self.handle_as(client, origin, now, None, request, out);
    }

    /// The same of a request that a peer may have passed on. What this node does not answer as its leader comes out of
    /// [`Session::take_returned`].
    pub fn handle_as(
        &mut self,
        client: ClientId,
        origin: Origin,
        now: Nanos,
        passed_on: Option<PassedOnAs>,
        request: Request,
        out: &mut impl FnMut(Answered<Origin>),
    ) {
        let deadline_ms = if request.deadline_ms == 0 { DEADLINE_DEFAULT_MS } else { request.deadline_ms };
        let operation = meter::OperationKind::of(&request.body);
        let traced = self.begin_trace(now);
        let job = Job {
            client,
            origin,
            operation,
            began: now,
            deadline: now.after_ms(deadline_ms.into()),
            deadline_ms,
            passed_on,
            redirects: self.redirects,
            traced,
        };
        (self.read_until, self.read_from, self.read_of) = (None, None, None);
        let refusal = self.refusal(&request.body, now).map(ResponseBody::Error);
        if refusal.is_none() && self.context.router.monitor().is_on(now) {
            self.tell_monitor(&request.body, operation);
        }
        let answered = refusal.or_else(|| self.begin(&job, request.body));
        self.note_begun(answered.as_ref(), self.next_number);
        if let Some(body) = answered {
            let ended = self.read_until.unwrap_or_else(|| self.context.router.clock().monotonic());
            let source = self.read_from;
            let finished = self.tell(&job, &body, ended, source, false);
            if self.is_of_interest(&job, &finished) {
                let about = self.read_of.map(|shard| About { shard, key_hash: None });
                let trace = self.traces.take();
                self.note_times(&job, finished, ended, Told { about, trace, ..Told::default() });
            }
            out(Answered { origin, forwarded: false, source, body });
        }
        if !self.held.is_empty() {
            self.settle_held();
        }
    }

    /// The requests that were passed on and go back.
    pub fn take_returned(&mut self) -> Vec<(Origin, RequestBody)> {
        std::mem::take(&mut self.returned)
    }

    /// Fetches into the processor's caches what GETs of these keys will read from shards of this node. Takes the first
    /// [`PREFETCH_KEYS`]; worth it for two or more. The GETs that come next are best those of these keys, in this order: what was
    /// hashed here is not hashed again.
    pub fn prefetch<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.ahead.clear();
        let mut handles = Vec::with_capacity(PREFETCH_KEYS);
        for key in keys.take(PREFETCH_KEYS) {
            let handle = self.context.router.local(self.shard_of(key));
            let order = handle.as_ref().map(|handle| handle.reader.order(key));
            self.ahead.push_back(order);
            handles.extend(handle.zip(order));
        }
        prefetch_keys(handles.iter().map(|(handle, order)| (&*handle.reader, *order)));
    }

    /// Tells the meter of a request that was answered at `ended`.
    fn tell(
        &self,
        job: &Job<Origin>,
        body: &ResponseBody,
        ended: Nanos,
        source: Option<ReadSource>,
        waited: bool,
    ) -> Finished {
        self.charge_answer(body, ended);
        let took = Nanos(ended.0.saturating_sub(job.began.0));
        let finished = Finished { source, waited, ..Finished::new(self.door, job.operation, body, took) };
        self.context.meter.finished(&finished);
        finished
    }

    /// Whether requests for shards led elsewhere are passed on.
    fn forwards(&self) -> bool {
        self.door != Door::Peer
    }

    fn begin(&mut self, job: &Job<Origin>, body: RequestBody) -> Option<ResponseBody> {
        let router = &self.context.router;
        match body {
            RequestBody::Get { key, mode } => self.get(job, key, mode),
            RequestBody::Write { id, ack, mutation } => {
                let key = self.written(&mutation.key);
                let slot = self.remember(job, Awaiting::One(None), Writes::new(id, ack, Keys::One(key)));
                self.send(job, slot, 0, key.shard, Part::Write { id, ack, mutation });
                None
            }
            RequestBody::MultiGet { keys, mode } => self.multi_get(job, keys, mode),
            RequestBody::Batch { id, ack, mutations } => self.batch(job, id, ack, mutations),
            RequestBody::Atomic(atomic) => self.atomic(job, atomic),
            RequestBody::Transaction(transaction) => self.transaction(job, transaction),
            RequestBody::Await { receipt, wait_ms } => {
                let shard = receipt.shard;
                if let Some(refusal) = self.refuse_shard(shard) {
                    return Some(refusal);
                }
                let job = Job { deadline: job.deadline.min(job.began.after_ms(wait_ms.into())), ..*job };
                let slot = self.remember(&job, Awaiting::One(None), Writes::NONE);
                self.send(&job, slot, 0, shard, Part::Await { receipt, wait_ms });
                None
            }
            RequestBody::Scan(scan) => {
                let (shard, mode) = (scan.shard, scan.mode);
                if let Some(refusal) = self.refuse_shard(shard) {
                    return Some(refusal);
                }
                let what = What::Scan(scan);
                // A page may be read once the actor has said that its replica leads: what is read later is no older.
                let at_once = match mode {
                    ReadMode::Stale => {
                        let at = ReadAt { began: job.began, nth: 0 };
                        read::at_once(router, shard, &what, mode, at, LARGE_WORK_BYTES)
                    }
                    ReadMode::Linearizable => None,
                };
                let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
                self.pending[slot].read = Some(About { shard, key_hash: None });
                match at_once {
                    Some((ReadNow::Large(read), _)) => self.read_large(read, slot, 0),
                    _ => self.send(job, slot, 0, shard, Part::Read { what, mode, in_order: false }),
                }
                None
            }
            RequestBody::Ping(payload) => Some(ResponseBody::Pong(payload)),
            RequestBody::Topology => {
                let topology = router.topology_now();
                // A list of replicas is allocated for each shard.
                cost::pairs(2 * topology.shards.len());
                Some(ResponseBody::Topology((*topology).clone()))
            }
            RequestBody::Explain(key) => Some(self.explain(&key)),
            RequestBody::Status(scope) => {
                let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
                // What is known by then is still to reach the client in time.
                let wait = Duration::from_millis(u64::from(job.deadline_ms) * 3 / 4);
                Arc::clone(&self.context.admin).answer_status(scope, wait, self.sink.reply_to(slot, 0));
                None
            }
            RequestBody::Admin(AdminCommand::TransferLeadership { shard, to }) => {
                if let Some(refusal) = self.refuse_shard(shard) {
                    return Some(refusal);
                }
                let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
                Arc::clone(&self.context.admin).transfer(shard, to, self.sink.reply_to(slot, 0));
                None
            }
            RequestBody::Admin(AdminCommand::Ask(verb)) => self.ask(job, verb),
            RequestBody::Admin(AdminCommand::Plan(verb)) => self.plan(job, verb),
            RequestBody::Admin(AdminCommand::Auth(verb)) => self.change_auth(job, *verb),
            RequestBody::Admin(command) => Some(self.admin(command)),
            RequestBody::Auth(_) => {
                Some(error(ErrorCode::InvalidArgument, "whoever asks here has been asked who he is by another node"))
            }
            RequestBody::Hello(_) => {
                Some(error(ErrorCode::HelloExpected, "HELLO comes once, at the beginning of a connection"))
            }
        }
    }

    /// Takes the answers that have come and hands out every request that they complete.
    pub fn collect(&mut self, out: &mut impl FnMut(Answered<Origin>)) {
        let mut replies = std::mem::take(&mut self.replies);
        self.sink.take(&mut replies);
        if !replies.is_empty() {
            // One look at the clock for all that is answered now.
            self.collected_at = self.context.router.clock().monotonic();
        }
        for Reply { slot, part, answer, stamps } in replies.drain(..) {
            self.take_answer(slot, part, answer, stamps, out);
        }
        self.replies = replies;
        if !self.confirmed.is_empty() {
            self.read_confirmed(out);
        }
        if !self.held.is_empty() {
            self.settle_held();
        }
    }

    /// Has the large values read that were confirmed together; of a MULTI-GET only as many as its reply has room for.
    fn read_confirmed(&mut self, out: &mut impl FnMut(Answered<Origin>)) {
        let mut confirmed = std::mem::take(&mut self.confirmed);
        confirmed.sort_by_key(|(slot, part, _)| (*slot, *part));
        let mut confirmed = confirmed.into_iter().peekable();
        while let Some(&(slot, ..)) = confirmed.peek() {
            let of_slot = std::iter::from_fn(|| confirmed.next_if(|(of, ..)| *of == slot));
            let mut reads: Vec<_> = of_slot.map(|(_, part, read)| (part, read)).collect();
            let mut refused = Vec::new();
            if let Awaiting::Many(many) = &mut self.pending[slot].work {
                many.expect(reads.iter().map(|(part, read)| (*part, read.value_bytes())));
                refused = reads.extract_if(.., |(part, _)| many.refuses(*part)).map(|(part, _)| part).collect();
            }
            // First: its slot is freed by the last answer.
            if !reads.is_empty() {
                self.read_all_large(reads, slot);
            }
            for part in refused {
                self.take_answer(slot, part, Answer::Body(Box::new(pending::no_room())), None, out);
            }
        }
    }

    fn take_answer(
        &mut self,
        slot: usize,
        part: u32,
        answer: Answer,
        stamps: Option<Box<EntryStamps>>,
        out: &mut impl FnMut(Answered<Origin>),
    ) {
        cost::parts(1);
        let pending = self.pending.get_mut(slot).expect("a slot is freed by the last answer that it waits for");
        let (body, forwarded) = match answer {
            Answer::Shard(ShardReply::MayRead) => {
                let plan = pending.take_read(part).expect("only a planned read asks for confirmation");
                pending.source.path = ReadPath::Confirmed;
                match plan.read(self.context.router.clock()) {
                    ReadNow::Done(body) => (body, false),
                    ReadNow::Large(read) => {
                        pending.source.apart = true;
                        return self.confirmed.push((slot, part, read));
                    }
                }
            }
            Answer::Shard(ShardReply::Returned(returned)) => {
                let waited = || pending.take_read(part).expect("only a planned read asks for confirmation").what;
                let (what, after) = Part::of_returned(*returned, waited);
                return self.take_back(slot, part, what, after);
            }
            Answer::Returned(body, after) => match Part::of_request(*body) {
                Some(what) => return self.take_back(slot, part, what, after),
                None => (error(ErrorCode::Internal, "another node returned something else than was passed on"), true),
            },
            Answer::Shard(reply) => {
                pending.source.path = ReadPath::Confirmed;
                (self.context.router.body_of(reply), false)
            }
            Answer::Body(body) => (*body, false),
            Answer::Forwarded(body) => {
                pending.source = ReadSource { path: ReadPath::Forwarded, apart: false };
                (*body, true)
            }
        };
        let keys = pending.keys_of(part);
        self.writes.remove(keys);
        if pending.writes.ack == Ack::Accepted && !forwarded {
            Writes::each_accepted(keys, &body, |shard, version| {
                let newest = self.accepted.entry(shard).or_default();
                *newest = version.max(*newest);
            });
        }
        let Some(mut body) = pending.complete(part, body, forwarded) else { return };
        let mut done = self.pending.remove(slot);
        if done.writes.is_retry {
            outcome::speak_of_the_write(&mut body);
        }
        self.note_answered(done.number, &body);
        self.leave_out_keys(&mut body);
        let source = (done.job.operation == meter::OperationKind::Get).then_some(done.source);
        let finished = self.tell(&done.job, &body, self.collected_at, source, true);
        if self.is_of_interest(&done.job, &finished) {
            let (about, trace) = (done.about(), done.trace.take());
            let told = Told { about, stamps, is_forwarded: done.forwarded, trace };
            self.note_times(&done.job, finished, self.collected_at, told);
        }
        out(Answered { origin: done.job.origin, forwarded: done.forwarded, source, body });
    }

    fn remember(&mut self, job: &Job<Origin>, work: Awaiting, writes: Writes) -> usize {
        self.next_number += 1;
        self.context.meter.waits(self.door);
        let (number, source, trace) = (self.next_number, ReadSource::default(), self.traces.take());
        self.pending.insert(Pending { job: *job, number, work, writes, read: None, forwarded: false, source, trace })
    }

    /// Reads a large record elsewhere; the answer comes as if a shard had given it.
    fn read_large(&self, read: LargeRead, slot: usize, part: u32) {
        self.read_all_large(vec![(part, read)], slot);
    }

    fn shard_of(&self, key: &[u8]) -> ShardId {
        cost::hashed(key.len() / 2);
        shard_of_position(ring_position(key), self.context.router.shards())
    }

    fn written(&self, key: &[u8]) -> WrittenKey {
        cost::hashed(key.len() / 2);
        let (hash, tag) = (hash64(key), hash_tag(key));
        // Most keys are their own tag, and a request may name megabytes of keys.
        let position = position_of_tag(tag, if tag.len() == key.len() { hash } else { hash64(tag) });
        WrittenKey { hash, shard: shard_of_position(position, self.context.router.shards()) }
    }

    fn refuse_shard(&self, shard: ShardId) -> Option<ResponseBody> {
        let exists = usize::from(shard.0) < self.context.router.ring().shards.len();
        (!exists).then(|| invalid(format!("there is no shard {shard}")))
    }

    /// Whether a read of this key must take its place in the shard's queue, behind a write that came before it.
    fn follows_a_write(&mut self, shard: ShardId, key: &[u8]) -> bool {
        (!self.writes.is_empty() && self.writes.contains(hash64(key)))
            || (!self.accepted.is_empty() && self.awaits_accepted(shard))
    }

    /// Whether the shard has not applied yet what it accepted from this session.
    fn awaits_accepted(&mut self, shard: ShardId) -> bool {
        let Some(&version) = self.accepted.get(&shard) else { return false };
        let handle = self.context.router.local(shard);
        let awaits = handle.is_some_and(|handle| handle.reader.version() < version);
        if !awaits {
            self.accepted.remove(&shard);
        }
        awaits && !planted(Bug::AcceptedWriteOvertaken)
    }

    fn get(&mut self, job: &Job<Origin>, key: Bytes, mode: ReadMode) -> Option<ResponseBody> {
        let shard = self.shard_of(&key);
        let keeps_place = job.passed_on.is_some_and(|passed_on| passed_on.in_order);
        let in_order = mode != ReadMode::Stale && (keeps_place || self.follows_a_write(shard, &key));
        let what = What::Get { key, order: self.ahead.pop_front().flatten() };
        let router = &self.context.router;
        self.gets += 1;
        let at = ReadAt { began: job.began, nth: self.gets };
        let at_once = || read::at_once(router, shard, &what, mode, at, LARGE_WORK_BYTES);
        let now = if in_order { None } else { at_once() };
        let is_due = mode != ReadMode::Stale && now.as_ref().is_some_and(|(now, _)| read::is_due(router, now));
        let (now, in_order) = if is_due { (None, true) } else { (now, in_order) };
        let path = if mode == ReadMode::Stale { ReadPath::Stale } else { ReadPath::Lease };
        if let Some((ReadNow::Done(body), ended)) = now {
            (self.read_until, self.read_from) = (ended, Some(ReadSource { path, apart: false }));
            self.read_of = Some(shard);
            return Some(body);
        }
        let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
        self.pending[slot].read = what.about(shard);
        if let Some((ReadNow::Large(read), _)) = now {
            self.pending[slot].source = ReadSource { path, apart: true };
            self.read_large(read, slot, 0);
            return None;
        }
        self.send(job, slot, 0, shard, Part::Read { what, mode, in_order });
        None
    }

    fn atomic(&mut self, job: &Job<Origin>, atomic: AtomicRequest) -> Option<ResponseBody> {
        let keys: Vec<_> = atomic.mutations.iter().map(|mutation| self.written(&mutation.key)).collect();
        let checked = atomic.checks.iter().map(|check| self.shard_of(&check.key));
        let mut shards = checked.chain(keys.iter().map(|key| key.shard));
        let Some(shard) = shards.next() else { return Some(invalid("an ATOMIC names at least one key")) };
        if shards.any(|other| other != shard) {
            let detail = "the keys of an ATOMIC must share a shard; give them the same {tag}";
            return Some(error(ErrorCode::CrossShard, detail));
        }
        if atomic.checks.len() + atomic.mutations.len() > kvorum_protocol::limits::BATCH_OPERATIONS_MAX {
            return Some(error(ErrorCode::TooLarge, "an ATOMIC has at most 4096 checks and writes"));
        }
        let slot = self.remember(job, Awaiting::One(None), Writes::new(atomic.id, atomic.ack, Keys::Many(keys)));
        self.send(job, slot, 0, shard, Part::Atomic(atomic));
        None
    }

    /// All keys that it names keep their order: it reads some of them, and what is behind it must not overtake that.
    fn transaction(&mut self, job: &Job<Origin>, transaction: TransactionRequest) -> Option<ResponseBody> {
        let keys: Vec<_> = transaction.keys().map(|key| self.written(key)).collect();
        let Some(shard) = keys.first().map(|key| key.shard) else {
            return Some(invalid("a TRANSACTION names at least one key"));
        };
        if keys.iter().any(|key| key.shard != shard) {
            let detail = "the keys of a TRANSACTION must share a shard; give them the same {tag}";
            return Some(error(ErrorCode::CrossShard, detail));
        }
        if transaction.checks.len() + transaction.operations.len() > kvorum_protocol::limits::BATCH_OPERATIONS_MAX {
            return Some(error(ErrorCode::TooLarge, "a TRANSACTION has at most 4096 checks and operations"));
        }
        if transaction.id.once.is_some() {
            return Some(invalid("a TRANSACTION can't have a one-shot name"));
        }
        let writes = Writes::new(transaction.id, Ack::Committed, Keys::Many(keys));
        let slot = self.remember(job, Awaiting::One(None), writes);
        self.send(job, slot, 0, shard, Part::Transaction(transaction));
        None
    }

    /// Sends one part of a remembered request to whoever can answer it, or holds it until somebody can.
    fn send(&mut self, job: &Job<Origin>, slot: usize, part: u32, shard: ShardId, what: Part) {
        cost::parts(1);
        let route = match &what {
            // Any replica will do, and this node's was asked already.
            Part::Read { mode: ReadMode::Stale, .. } if self.forwards() => self.context.router.route_stale(shard),
            Part::Read { mode: ReadMode::Stale, .. } => Route::Nowhere,
            _ => self.route(job, shard),
        };
        // What is passed on comes in order from one node, which holds what has to wait.
        let term = if self.forwards() { route.term() } else { Some(Term(0)) };
        let may_go = match (&what, term) {
            (Part::Write { .. } | Part::Atomic(_) | Part::Transaction(_), term) => {
                self.writes.add(self.pending[slot].keys_of(part), term)
            }
            (Part::Read { what: What::Get { key, .. }, in_order: true, .. }, Some(term)) => {
                self.writes.may_be_read(hash64(key), term)
            }
            (Part::Read { .. } | Part::Await { .. }, _) => true,
        };
        if may_go {
            self.send_by(job, slot, part, shard, route, what);
        } else {
            self.hold(slot, part, shard, what, Term(0), true);
        }
    }

    /// The way to whoever leads a shard. What was passed on to this node goes no further.
    fn route(&self, job: &Job<Origin>, shard: ShardId) -> Route {
        let router = &self.context.router;
        match job.passed_on {
            Some(PassedOnAs { term, .. }) => {
                router.local(shard).map_or(Route::Nowhere, |handle| Route::Local(handle, term))
            }
            None => router.route(shard),
        }
    }

    /// Sends one part of a remembered request on its way. Exactly one answer will come, or it comes back.
    fn send_by(&mut self, job: &Job<Origin>, slot: usize, part: u32, shard: ShardId, route: Route, what: Part) {
        let router = &self.context.router;
        match route {
            Route::Local(handle, term) => {
                let operation = match what {
                    Part::Read { what: What::Get { key, .. }, in_order: true, .. } => Operation::Get(key),
                    Part::Read { what, .. } => {
                        let at = ReadAt { began: job.began, nth: self.gets };
                        let plan = ReadPlan { handle: Arc::clone(&handle), what, at };
                        self.pending[slot].plan_read(part, plan);
                        Operation::Confirm
                    }
                    Part::Write { id, ack, mutation } => Operation::Write { client: job.client, id, ack, mutation },
                    Part::Atomic(request) => Operation::Atomic { client: job.client, request },
                    Part::Transaction(request) => Operation::Transaction { client: job.client, request },
                    Part::Await { receipt, wait_ms } => Operation::Await { receipt, wait_ms },
                };
                let reply_to = self.sink.reply_to(slot, part);
                let (client, queued_at, deadline, traced) = (job.client, job.began, job.deadline, job.traced);
                handle.inbox.request(QueuedRequest { reply_to, client, queued_at, deadline, term, traced, operation });
            }
            Route::Remote(node, _) if job.redirects => {
                let error = ServerError::new(ErrorCode::NotLeader, format!("another node leads shard {shard}"));
                self.sink.reply_to(slot, part).fail(error.with_leader(Some(node)));
            }
            Route::Remote(node, term) => {
                let writes = matches!(what, Part::Write { .. } | Part::Atomic(_) | Part::Transaction(_));
                let in_order = matches!(what, Part::Read { in_order: true, .. });
                let mut request = BytesMut::new();
                // What is left; 0 would mean the other node's default.
                let left_ms = job.deadline.ms_since(router.clock().monotonic());
                let deadline_ms = u32::try_from(left_ms).unwrap_or(u32::MAX).clamp(1, job.deadline_ms);
                Request { id: RequestId(1), deadline_ms, body: what.into_request() }.encode_body(&mut request);
                let trace = if job.traced { self.trace_forward(slot, node) } else { None };
                let router = &self.context.router;
                let (client, deadline, request) = (job.client, job.deadline, request.freeze());
                let is_retry = self.pending[slot].writes.is_retry;
                let passed_on = PassedOn { shard, client, term, in_order, request, writes, is_retry, deadline, trace };
                router.forward(node, passed_on, self.sink.reply_to(slot, part));
            }
            Route::Nowhere if matches!(what, Part::Read { mode: ReadMode::Stale, .. }) => {
                let detail = format!("no replica of shard {shard} can be reached from here");
                self.sink.reply_to(slot, part).fail(ServerError::new(ErrorCode::Unavailable, detail));
            }
            Route::Nowhere if self.forwards() => self.hold(slot, part, shard, what, Term(0), false),
            Route::Nowhere => self.take_back(slot, part, what, Term(0)),
        }
    }
}

fn late() -> ResponseBody {
    let error = ServerError::new(ErrorCode::DeadlineExceeded, "the deadline passed before the value was read");
    ResponseBody::Error(error.with_outcome(Outcome::NotApplied))
}

fn error(code: ErrorCode, detail: impl Into<String>) -> ResponseBody {
    ResponseBody::Error(ServerError::new(code, detail))
}

fn invalid(detail: impl Into<String>) -> ResponseBody {
    error(ErrorCode::InvalidArgument, detail)
}
