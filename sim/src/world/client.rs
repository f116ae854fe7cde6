//! A client: the production library's decisions (routing, retries, sequence numbers), performed by events instead of
//! tasks, and a record of what it did and saw.

use super::queue::Moment;
use super::workload::{self, ClientOperation};
use crate::plan::{Act, Options, Step};
use bytes::{Bytes, BytesMut};
use kvorum_client_core::retry::{Attempts, Decision, Failure, Kind, RetryBudget, RetryPolicy, node_deadline_ms};
use kvorum_client_core::routing::{Need, RoutingTable, Target};
use kvorum_client_core::session::Sequences;
use kvorum_client_core::{CloseReason, ConnectionError};
use kvorum_protocol::{
    Ack, Action, Awaited, ClientId, ErrorCode, NodeId, Outcome, Request, RequestBody, RequestId, Response,
    ResponseBody, ServerError, Version, WriteStatus,
};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// A client that hears nothing for this long while it connects gives the attempt up.
const CONNECT_TIMEOUT_MS: u64 = 1_000;

/// Whether a copy of a request may arrive much later than it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Late {
    /// It does not.
    Never,
    /// The first copy of a write may.
    Maybe,
    /// It does, by so many milliseconds.
    By(u32),
}

/// What a client asks the world to do.
#[derive(Debug)]
pub(super) enum Wish {
    /// Open a connection to the node at this position; a failure must be reported after `timeout_ms` at the latest.
    Connect { connection: u64, node: usize, timeout_ms: u64 },
    /// Send these bytes on an open connection.
    Send { connection: u64, bytes: BytesMut, late: Late },
    /// Call [`Client::handle_timer`] with this number.
    Timer { after_ns: u64, number: u64 },
    /// Something for the trace, which keeps lines.
    Tell(String),
    /// Two requests for one key took effect in another order than that in which they were sent on one connection.
    OutOfOrder(String),
    /// An operation has ended.
    Ended { outcome: &'static str },
}

/// What a client has of the world while it does something.
pub(super) struct Context<'a> {
    pub(super) now: Moment,
    /// Keeps what clients do and see.
    pub(super) recorder: &'a mut workload::Recorder,
    /// What it asks the world to do, in order.
    pub(super) wishes: Vec<Wish>,
}

/// A client at work.
pub(super) struct Client {
    number: u32,
    pub(super) id: ClientId,
    rng: ChaCha8Rng,
    routing: RoutingTable,
    budget: RetryBudget,
    policy: RetryPolicy,
    sequences: Sequences,
    nodes: Vec<NodeId>,
    connections: BTreeMap<u64, Connection>,
    /// By node; a client has one connection to each.
    by_node: BTreeMap<usize, u64>,
    running: BTreeMap<u64, Running>,
    requests: BTreeMap<u32, (u64, u64)>,
    timers: BTreeMap<u64, Timer>,
    next: u64,
    script: std::vec::IntoIter<Step>,
    coming: Option<Step>,
    /// The pause before the next step is over.
    may_begin: bool,
    values: u64,
    /// The newest version of each key that it saw.
    seen: BTreeMap<Vec<u8>, Version>,
    /// Of each connection and key, the last write that was answered when it was merely accepted: version and value.
    accepted: BTreeMap<(u64, Bytes), (Version, Bytes)>,
    /// Of each connection and key, the requests that were sent once and are answered: when they were sent, in order, and the
    /// version that they left or saw.
    in_order: BTreeMap<(u64, Bytes), Vec<Answered>>,
    window: u32,
    deadline: Duration,
    /// Operations that ended without an answer.
    pub(super) failures: u64,
    /// Of those, operations on which a leader has pronounced: it forgot what became of them.
    pub(super) verdicts: u64,
    /// The trace keeps lines.
    pub(super) tells: bool,
    pub(super) retries: u64,
    /// Writes that were given another number.
    pub(super) renumbered: u64,
    pub(super) redirects: u64,
    /// Requests that were not applied because nobody led their shard, as far as the node knew.
    pub(super) leaderless: u64,
    pub(super) disk_full: u64,
    pub(super) overloaded: u64,
    /// Accepted writes of which it was told later that they were applied,
    pub(super) awaited_applied: u64,
    /// and that they were lost.
    pub(super) awaited_lost: u64,
    /// Writes under a one-shot name that were given the answer to another one.
    pub(super) replayed: u64,
}

/// A request that was sent once, and its answer.
#[derive(Clone, Copy, Debug)]
struct Answered {
    /// Later ones have higher numbers.
    sent: u64,
    writes: bool,
    version: Version,
}

struct Connection {
    node: usize,
    open: bool,
    /// Operations that wait for it to open.
    waiting: Vec<u64>,
}

struct Running {
    operation: ClientOperation,
    attempts: Attempts,
    deadline: Duration,
    /// Which timer counts; older ones are stale.
    timer: u64,
    sequences: Option<(u64, u64)>,
    /// Where it was sent last.
    node: usize,
    /// When it was sent last, in order, and how often it was.
    sent: (u64, u32),
    /// A read that was sent behind an accepted write of its key, on one connection.
    follows: Option<(Version, Bytes)>,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// The next step may begin.
    Step,
    /// The answer takes long.
    Slow(u64),
    /// The pause before the next attempt is over.
    Again(u64),
}

impl Client {
    pub(super) fn new(number: u32, seed: u64, options: &Options, nodes: Vec<NodeId>, script: Vec<Step>) -> Self {
        let policy = RetryPolicy::default();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            number,
            id: ClientId(Uuid::from_u128(rng.random())),
            rng,
            routing: RoutingTable::default(),
            budget: RetryBudget::new(policy, Duration::ZERO),
            policy,
            sequences: Sequences::default(),
            nodes,
            connections: BTreeMap::new(),
            by_node: BTreeMap::new(),
            running: BTreeMap::new(),
            requests: BTreeMap::new(),
            timers: BTreeMap::new(),
            next: 1,
            script: script.into_iter(),
            coming: None,
            may_begin: false,
            values: 0,
            seen: BTreeMap::new(),
            accepted: BTreeMap::new(),
            in_order: BTreeMap::new(),
            window: options.window.max(1),
            deadline: Duration::from_millis(options.deadline_ms.into()),
            failures: 0,
            verdicts: 0,
            tells: false,
            retries: 0,
            renumbered: 0,
            redirects: 0,
            leaderless: 0,
            disk_full: 0,
            overloaded: 0,
            awaited_applied: 0,
            awaited_lost: 0,
            replayed: 0,
        }
    }

    /// How long its operations may take.
    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// All its steps are done and answered or given up.
    pub(super) fn is_done(&self) -> bool {
        self.coming.is_none() && self.running.is_empty()
    }

    /// Begins its script.
    pub(super) fn start(&mut self, context: &mut Context<'_>) {
        self.plan_step(context);
    }

    /// Gives it more to do, after its script.
    pub(super) fn extend(&mut self, steps: Vec<Step>, context: &mut Context<'_>) {
        let rest: Vec<Step> = self.script.by_ref().chain(steps).collect();
        self.script = rest.into_iter();
        if self.coming.is_none() {
            self.plan_step(context);
        }
    }

    /// Reads keys, one operation each, all at once.
    pub(super) fn read_all(&mut self, keys: Vec<Bytes>, context: &mut Context<'_>) {
        for key in keys {
            let operation = context.recorder.read_of(self.number, key);
            self.begin_operation(operation, None, context);
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn timer(&mut self, after: Duration, timer: Timer, context: &mut Context<'_>) -> u64 {
        let number = self.fresh();
        self.timers.insert(number, timer);
        context.wishes.push(Wish::Timer { after_ns: after.as_nanos() as u64, number });
        number
    }

    /// A running operation waits for this timer from now on, and for no other.
    fn wait(&mut self, operation: u64, after: Duration, timer: Timer, context: &mut Context<'_>) {
        let number = self.timer(after, timer, context);
        self.running.get_mut(&operation).expect("only a running operation waits").timer = number;
    }

    fn plan_step(&mut self, context: &mut Context<'_>) {
        self.coming = self.script.next();
        self.may_begin = false;
        if let Some(step) = &self.coming {
            let after = Duration::from_millis(step.after_ms.into());
            self.timer(after, Timer::Step, context);
        }
    }

    /// Begins steps for as long as it may.
    fn begin_steps(&mut self, context: &mut Context<'_>) {
        while self.may_begin && self.running.len() < self.window as usize {
            let Some(Step { act, .. }) = self.coming.take() else { return };
            self.plan_step(context);
            self.begin(act, context);
        }
    }

    fn begin(&mut self, act: Act, context: &mut Context<'_>) {
        let mut make = workload::Maker {
            client: self.number,
            values: &mut self.values,
            seen: &self.seen,
            sequences: &mut self.sequences,
        };
        for (operation, sequences) in make.operations(act, context.recorder) {
            self.begin_operation(operation, sequences, context);
        }
    }

    fn begin_operation(
        &mut self,
        operation: ClientOperation,
        sequences: Option<(u64, u64)>,
        context: &mut Context<'_>,
    ) {
        let number = self.fresh();
        let kind = if operation.writes() { Kind::Write } else { Kind::Read };
        let deadline = since(context.now) + self.deadline;
        let attempts = Attempts::new(self.policy, kind, since(context.now), deadline);
        self.budget.handle_operation();
        self.running.insert(
            number,
            Running { operation, attempts, deadline, timer: 0, sequences, node: 0, sent: (0, 0), follows: None },
        );
        self.attempt(number, context);
    }

    /// Sends an operation to wherever it should go now.
    fn attempt(&mut self, number: u64, context: &mut Context<'_>) {
        let Some(running) = self.running.get(&number) else { return };
        if since(context.now) >= running.deadline {
            let outcome = running.attempts.outcome();
            return self.end(number, Err(outcome), context);
        }
        let need = self.need(&running.operation);
        let node = match self.routing.route(need, since(context.now), &mut self.rng) {
            Target::Node { id, .. } => self.nodes.iter().position(|node| *node == id).unwrap_or(0),
            Target::Seeds => self.rng.random_range(0..self.nodes.len()),
        };
        if let Some(running) = self.running.get_mut(&number) {
            running.node = node;
        }
        match self.by_node.get(&node).copied() {
            Some(connection) if self.connections[&connection].open => self.send(number, connection, context),
            Some(connection) => {
                let waiting = &mut self.connections.get_mut(&connection).expect("both maps agree").waiting;
                waiting.push(number);
            }
            None => {
                // Unique among all clients' connections.
                let connection = self.fresh() << 16 | u64::from(self.number);
                self.connections.insert(connection, Connection { node, open: false, waiting: vec![number] });
                self.by_node.insert(node, connection);
                context.wishes.push(Wish::Connect { connection, node, timeout_ms: CONNECT_TIMEOUT_MS });
            }
        }
    }

    fn need(&self, operation: &ClientOperation) -> Need {
        match operation.key().and_then(|key| self.routing.shard_of(key)) {
            Some(shard) => Need::Leader(shard),
            None => Need::Any,
        }
    }

    fn send(&mut self, number: u64, connection: u64, context: &mut Context<'_>) {
        let request = self.fresh() as u32;
        let Some(running) = self.running.get_mut(&number) else { return };
        let left = running.deadline.saturating_sub(since(context.now));
        let is_retry = running.attempts.is_retry();
        self.sequences.stamp(&mut running.operation.body, is_retry);
        self.retries += u64::from(is_retry);
        let late = match running.operation.late_ms {
            _ if is_retry || !running.operation.writes() => Late::Never,
            0 => Late::Maybe,
            ms => Late::By(ms),
        };
        running.attempts.handle_sent();
        running.sent = (u64::from(request), running.sent.1 + 1);
        if let RequestBody::Get { key, .. } = &running.operation.body {
            running.follows = self.accepted.get(&(connection, key.clone())).cloned();
        }
        let mut bytes = BytesMut::new();
        let body = running.operation.body.clone();
        Request { id: RequestId(request), deadline_ms: node_deadline_ms(left), body }.encode(&mut bytes);
        if self.tells {
            let body = &running.operation.body;
            let text = format!("client {} sends {number} to node {}: {body:?}", self.number, running.node);
            context.wishes.push(Wish::Tell(text));
        }
        self.requests.insert(request, (number, connection));
        context.wishes.push(Wish::Send { connection, bytes, late });
        let slice = left.min(self.policy.attempt_timeout);
        self.wait(number, slice, Timer::Slow(number), context);
    }

    /// A connection has opened.
    pub(super) fn handle_connected(&mut self, connection: u64, context: &mut Context<'_>) {
        let Some(opened) = self.connections.get_mut(&connection) else { return };
        opened.open = true;
        for number in std::mem::take(&mut opened.waiting) {
            self.send(number, connection, context);
        }
    }

    /// A connection has ended, or did not open.
    pub(super) fn handle_closed(&mut self, connection: u64, context: &mut Context<'_>) {
        let Some(closed) = self.connections.remove(&connection) else { return };
        self.by_node.remove(&closed.node);
        self.accepted.retain(|(of, _), _| *of != connection);
        self.in_order.retain(|(of, _), _| *of != connection);
        if !closed.open {
            self.routing.handle_failure(self.nodes[closed.node], since(context.now));
        }
        let lost: Vec<u32> = self.requests.iter().filter(|(_, of)| of.1 == connection).map(|(id, _)| *id).collect();
        let lost: Vec<u64> = lost.into_iter().filter_map(|id| self.requests.remove(&id)).map(|of| of.0).collect();
        let error = ConnectionError::Closed { address: format!("node {}", closed.node), reason: CloseReason::ByNode };
        for number in closed.waiting {
            self.failed(number, Failure::NotSent(error.clone()), context);
        }
        for number in lost {
            self.failed(number, Failure::Lost(error.clone()), context);
        }
    }

    /// A whole response has come.
    pub(super) fn handle_response(&mut self, connection: u64, response: Response, context: &mut Context<'_>) {
        if let ResponseBody::Topology(topology) = response.body {
            self.routing.handle_topology(topology);
            return;
        }
        let Some((number, _)) = self.requests.remove(&response.id.0) else { return };
        if let Some(from) = self.connections.get(&connection) {
            self.routing.handle_answer(self.nodes[from.node], since(context.now));
        }
        match response.body {
            ResponseBody::Error(error) => {
                self.note_refusal(number, &error);
                self.failed(number, Failure::Answered(error), context);
            }
            body => {
                self.look_at_order(number, connection, &body, context);
                self.look_at_versions(number, connection, &body, context);
                self.end(number, Ok(body), context);
            }
        }
    }

    /// A read must not miss the write before it on its connection, even if that is merely accepted. Whether it was lost shows
    /// later: nobody reads it then.
    fn look_at_order(&mut self, number: u64, connection: u64, body: &ResponseBody, context: &mut Context<'_>) {
        let Some(running) = self.running.get(&number) else { return };
        match (&running.operation.body, body) {
            (RequestBody::Write { mutation, .. }, ResponseBody::Written(result))
                if result.ack == Ack::Accepted && result.status == WriteStatus::Applied =>
            {
                if let Action::Put { value, .. } = &mutation.action {
                    self.accepted.insert((connection, mutation.key.clone()), (result.version, value.clone()));
                }
            }
            (RequestBody::Get { key, .. }, ResponseBody::Value(Some(found))) => {
                if let Some((version, value)) = running.follows.as_ref().filter(|(version, _)| found.version < *version)
                {
                    let found = found.version;
                    let text =
                        format!("client {} read version {found} of {key:?} behind its write {version}", self.number);
                    context.recorder.missed(key.clone(), value.clone(), text);
                }
            }
            _ => {}
        }
    }

    /// Requests of one connection for one key take effect in the order in which they were sent: versions grow with it. What was
    /// sent again has no place in it, nor has what may be lost, or what another client may have done under the same name.
    fn look_at_versions(&mut self, number: u64, connection: u64, body: &ResponseBody, context: &mut Context<'_>) {
        let counts = |running: &&Running| running.sent.1 == 1 && running.operation.once().is_none();
        let Some(running) = self.running.get(&number).filter(counts) else { return };
        let (key, writes, version) = match (&running.operation.body, body) {
            (RequestBody::Write { mutation, .. }, ResponseBody::Written(result))
                if result.status == WriteStatus::Applied && result.ack == Ack::Committed =>
            {
                (&mutation.key, true, result.version)
            }
            (RequestBody::Get { key, .. }, ResponseBody::Value(Some(entry))) => (key, false, entry.version),
            _ => return,
        };
        let answered = Answered { sent: running.sent.0, writes, version };
        let all = self.in_order.entry((connection, key.clone())).or_default();
        let breaks = |first: &Answered, second: &Answered| {
            first.writes && (second.version < first.version || (second.writes && second.version == first.version))
        };
        let broken = all.iter().find(|other| match other.sent < answered.sent {
            true => breaks(other, &answered),
            false => breaks(&answered, other),
        });
        if let Some(other) = broken {
            let text = format!("client {}: {key:?} on one connection: {other:?} and {answered:?}", self.number);
            context.wishes.push(Wish::OutOfOrder(text));
        }
        all.push(answered);
    }

    fn note_refusal(&mut self, number: u64, error: &ServerError) {
        let Some(running) = self.running.get(&number) else { return };
        self.redirects += u64::from(error.code == ErrorCode::NotLeader);
        let is_leaderless = matches!(error.code, ErrorCode::NotLeader | ErrorCode::Unavailable);
        self.leaderless += u64::from(is_leaderless && error.outcome == Outcome::NotApplied);
        self.disk_full += u64::from(error.code == ErrorCode::DiskFull);
        self.overloaded += u64::from(error.code == ErrorCode::Overloaded);
        self.routing.handle_refusal(self.need(&running.operation), self.nodes[running.node], error);
    }

    fn failed(&mut self, number: u64, failure: Failure, context: &mut Context<'_>) {
        if self.tells {
            context
                .wishes
                .push(Wish::Tell(format!("client {}: an attempt of {number} failed: {failure:?}", self.number)));
        }
        let Some(running) = self.running.get_mut(&number) else { return };
        match running.attempts.handle_failure(failure, since(context.now), &mut self.rng) {
            Decision::GiveUp(error) => {
                self.verdicts += u64::from(error.code() == ErrorCode::SessionExpired);
                self.end(number, Err(error.outcome()), context);
            }
            Decision::AtOnce => self.attempt(number, context),
            Decision::Renumber { sequence_min } => {
                self.renumber(number, sequence_min);
                self.attempt(number, context);
            }
            Decision::Pause(pause) => {
                self.wait(number, pause, Timer::Again(number), context);
            }
        }
    }

    /// Gives a write another number, as the library does.
    fn renumber(&mut self, number: u64, sequence_min: u64) {
        let Some(running) = self.running.get_mut(&number) else { return };
        let Some((before, count)) = running.sequences else { return };
        (before..before + count).for_each(|sequence| self.sequences.finish(sequence));
        self.sequences.raise(sequence_min);
        let first = self.sequences.allocate(count);
        running.sequences = Some((first, count));
        Sequences::renumber(&mut running.operation.body, first);
        self.renumbered += 1;
    }

    /// A timer has run out.
    pub(super) fn handle_timer(&mut self, number: u64, context: &mut Context<'_>) {
        match self.timers.remove(&number) {
            Some(Timer::Step) => self.may_begin = true,
            Some(Timer::Slow(operation)) => self.handle_slow(operation, number, context),
            Some(Timer::Again(operation)) => self.handle_again(operation, number, context),
            None => {}
        }
        self.begin_steps(context);
    }

    /// An attempt takes long: another node is tried if the budget allows, as in the library.
    fn handle_slow(&mut self, operation: u64, timer: u64, context: &mut Context<'_>) {
        let Some(running) = self.running.get_mut(&operation).filter(|running| running.timer == timer) else { return };
        running.attempts.handle_waiting();
        if since(context.now) >= running.deadline {
            let outcome = running.attempts.outcome();
            self.forget_requests(operation);
            return self.end(operation, Err(outcome), context);
        }
        if self.budget.withdraw(since(context.now)).is_ok() {
            let node = self.nodes[running.node];
            self.routing.handle_failure(node, since(context.now));
            self.forget_requests(operation);
            return self.failed(operation, Failure::Unresponsive, context);
        }
        let slice = running.deadline.saturating_sub(since(context.now)).min(self.policy.attempt_timeout);
        self.wait(operation, slice, Timer::Slow(operation), context);
    }

    fn handle_again(&mut self, operation: u64, timer: u64, context: &mut Context<'_>) {
        let Some(running) = self.running.get(&operation).filter(|running| running.timer == timer) else { return };
        if since(context.now) >= running.deadline {
            let outcome = running.attempts.outcome();
            return self.end(operation, Err(outcome), context);
        }
        match self.budget.withdraw(since(context.now)) {
            Ok(()) => self.attempt(operation, context),
            Err(missing) => {
                self.wait(operation, missing.max(Duration::from_millis(1)), Timer::Again(operation), context);
            }
        }
    }

    fn forget_requests(&mut self, operation: u64) {
        self.requests.retain(|_, (of, _)| *of != operation);
    }

    /// The run is over: what has no answer yet may have had its effect.
    pub(super) fn leave_open(&mut self, recorder: &mut workload::Recorder) {
        for Running { operation, .. } in std::mem::take(&mut self.running).into_values() {
            recorder.handle_end(operation, Err(Outcome::Unknown), &mut self.seen);
        }
    }

    /// Keeps what an operation came to; one that was merely accepted may be awaited first.
    fn settle(&mut self, operation: ClientOperation, result: Result<ResponseBody, Outcome>, context: &mut Context<'_>) {
        match &result {
            Ok(ResponseBody::Awaited(Awaited::Applied)) => self.awaited_applied += 1,
            Ok(ResponseBody::Awaited(Awaited::Lost)) => self.awaited_lost += 1,
            Ok(ResponseBody::Written(written)) => self.replayed += u64::from(written.replayed),
            _ => {}
        }
        if let Ok(ResponseBody::Written(written)) = &result
            && operation.is_awaited(written)
        {
            return self.begin_operation(operation.then_await(written), None, context);
        }
        context.recorder.handle_end(operation, result, &mut self.seen);
    }

    fn end(&mut self, number: u64, result: Result<ResponseBody, Outcome>, context: &mut Context<'_>) {
        let Some(Running { operation, sequences, attempts, .. }) = self.running.remove(&number) else { return };
        let result = result.map(|body| attempts.handle_answer(body));
        // Parts of a batch are not sent again here; what comes later has numbers that are taken.
        if let Ok(ResponseBody::Batch(parts)) = &result {
            let asked = parts.iter().filter_map(|part| part.as_ref().err()?.sequence_min);
            asked.for_each(|sequence_min| self.sequences.raise(sequence_min));
        }
        if let Some((first, count)) = sequences {
            (first..first + count).for_each(|sequence| self.sequences.finish(sequence));
        }
        let outcome = match &result {
            Ok(_) => "answered",
            Err(Outcome::NotApplied) => "refused",
            Err(Outcome::Applied | Outcome::Unknown) => "unknown",
        };
        self.failures += u64::from(result.is_err());
        if self.tells {
            context.wishes.push(Wish::Tell(format!("client {} has its answer to {number}: {result:?}", self.number)));
        }
        context.wishes.push(Wish::Ended { outcome });
        self.settle(operation, result, context);
        self.begin_steps(context);
    }
}

/// The client's clock.
fn since(now: Moment) -> Duration {
    Duration::from_nanos(now.0)
}

/// Whether a request may have an effect.
pub(super) fn writes(body: &RequestBody) -> bool {
    match body {
        RequestBody::Write { .. } | RequestBody::Batch { .. } | RequestBody::Atomic(_) => true,
        RequestBody::Transaction(transaction) => transaction.writes(),
        _ => false,
    }
}
