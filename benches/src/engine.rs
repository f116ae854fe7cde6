//! One connection's state machine, without its socket and its protocol: what to send, and what the answers mean.

use crate::keys::KeySpace;
use crate::limits::{DRAIN, ERROR_PAUSE_MAX, ERROR_PAUSE_MIN, HOUSEKEEPING, OUTPUT_BYTES_MAX, REPLY_GRACE};
use crate::options::{Replicated, Route};
use crate::recorder::Recorder;
use crate::routes::{Router, Routes};
use crate::wire::{Answer, Outcome, Protocol, Refusal, Value};
use crate::work::{Kind, Operation, Work};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::{Ack, DecodeError, ErrorCode, NodeId, ReadMode};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Values are windows of a block that is this much longer than a value, so that they differ at no cost.
const VALUE_BLOCK_EXTRA: usize = 4096;

/// Why a connection can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("connecting: {0}")]
    Connect(std::io::ErrorKind),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("reading or writing: {0}")]
    Io(std::io::ErrorKind),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server did not answer in time")]
    Silent,
    #[error("the server refused: {0}")]
    Refused(ErrorCode),
    #[error("the server sent bytes that are not a reply: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the server sent an answer that nothing was asked for")]
    Unexpected,
}

/// When a phase begins to count and when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) begin: Instant,
    pub(crate) measure_from: Instant,
    pub(crate) stop_at: Instant,
}

/// What all connections of a phase share.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) pipeline: usize,
    pub(crate) value_bytes: usize,
    pub(crate) ack: Ack,
    pub(crate) read_mode: ReadMode,
    /// How writes are replicated where the protocol leaves that to the client.
    pub(crate) replicated: Replicated,
    pub(crate) route: Route,
    pub(crate) timeout: Duration,
    /// Only operations that began within the measured time count: the run ends by their number.
    pub(crate) by_operations: bool,
    /// Set by the run to end the phase before its time.
    pub(crate) halt: AtomicBool,
}

/// What a connection is given before its phase begins.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) settings: Arc<Settings>,
    pub(crate) keys: Arc<KeySpace>,
    pub(crate) router: Arc<Router>,
    pub(crate) work: Work,
    pub(crate) random: StdRng,
    /// None: a closed loop, the next request is due when one was answered.
    pub(crate) pace: Option<Pace>,
}

/// When a connection's requests are due in an open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The first one, after the schedule's beginning.
    pub(crate) offset: Duration,
    pub(crate) every: Duration,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    operation: Operation,
    /// Latency counts from here: in an open loop it is before the request could be sent, if the server was slow.
    due_at: Instant,
    sent_at: Instant,
    /// Of a read-modify-write: the read was answered.
    is_read: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine<P> {
    protocol: P,
    settings: Arc<Settings>,
    schedule: Schedule,
    router: Arc<Router>,
    routes: Arc<Routes>,
    routes_generation: u64,
    node: Option<NodeId>,
    node_position: Option<usize>,
    work: Work,
    work_is_done: bool,
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Slots whose read was answered and whose write is due.
    half_done: Vec<u32>,
    paused_until: Option<Instant>,
    pace: Option<Duration>,
    /// When the next request is due, in an open loop.
    next_due: Instant,
    values: Bytes,
    random: StdRng,
}

impl<P: Protocol> Engine<P> {
    pub(crate) fn new(seat: Seat, schedule: Schedule) -> Self {
        let Seat { settings, keys, router, work, mut random, pace } = seat;
        let mut values = vec![0; settings.value_bytes + VALUE_BLOCK_EXTRA];
        random.fill_bytes(&mut values);
        Self {
            protocol: P::new(&settings, &keys, &router),
            schedule,
            routes_generation: router.generation(),
            routes: router.current(),
            router,
            node: None,
            node_position: None,
            work,
            work_is_done: false,
            slots: vec![None; settings.pipeline],
            free: (0..settings.pipeline as u32).rev().collect(),
            half_done: Vec::new(),
            paused_until: None,
            pace: pace.map(|pace| pace.every),
            next_due: schedule.begin + pace.map_or(Duration::ZERO, |pace| pace.offset),
            values: values.into(),
            random,
            settings,
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether the socket can be closed: nothing more to send and nothing to wait for, or no time to wait.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        let sends_no_more = self.work_is_done || now >= self.schedule.stop_at;
        self.settings.halt.load(Ordering::Relaxed)
            || (sends_no_more && self.in_flight() == 0)
            || now >= self.schedule.stop_at + DRAIN
    }

    /// When `send` or `check` has something to do even if no bytes come.
    pub(crate) fn next_wake(&self, now: Instant) -> Instant {
        let housekeeping = now + HOUSEKEEPING;
        self.paused_until.filter(|&until| until > now).map_or(housekeeping, |until| until.min(housekeeping))
    }

    /// The phase is over for this connection: counts what was due and never sent.
    pub(crate) fn handle_end(&self, recorder: &mut Recorder) {
        let Some(every) = self.pace else { return };
        let first = self.next_due.max(self.schedule.measure_from);
        let left = self.schedule.stop_at.saturating_duration_since(first).as_nanos();
        if !self.work_is_done {
            recorder.unsent += left.div_ceil(every.as_nanos().max(1)) as u64;
        }
    }

    /// A new socket to `node` is open.
    pub(crate) fn handle_connected(&mut self, node: NodeId) {
        assert_eq!(self.in_flight(), 0, "what was in flight was given up with the last socket");
        self.node = Some(node);
        self.node_position = self.routes.node_position(node);
        self.paused_until = None;
        self.protocol.handle_connected();
    }

    /// The socket is gone: what was in flight will never be answered. It is not sent again (filling sends its keys
    /// again, as new writes).
    pub(crate) fn handle_disconnected(&mut self, now: Instant, recorder: &mut Recorder) {
        for slot in 0..self.slots.len() {
            let Some(request) = self.slots[slot].take() else { continue };
            self.free.push(slot as u32);
            self.protocol.give_up(slot as u32);
            self.work.failed(request.operation);
            if now >= self.schedule.measure_from {
                recorder.count_unanswered(now - request.due_at);
            }
        }
        self.half_done.clear();
        self.work_is_done = false;
    }

    /// Appends every request that is due to `output`.
    pub(crate) fn send(&mut self, now: Instant, output: &mut BytesMut) {
        self.follow_routes();
        self.protocol.encode_housekeeping(now, output);
        while let Some(slot) = self.half_done.pop() {
            if !self.protocol.has_room() {
                self.half_done.push(slot);
                break;
            }
            let key = self.slots[slot as usize].expect("a slot that is half done is taken").operation.key;
            self.put(slot, key, output);
        }
        if now >= self.schedule.stop_at || self.paused_until.is_some_and(|until| now < until) {
            self.protocol.end_batch(output);
            return;
        }
        self.paused_until = None;
        while output.len() < OUTPUT_BYTES_MAX && self.protocol.has_room() {
            let due_at = if self.pace.is_some() { self.next_due } else { now };
            if due_at > now {
                break;
            }
            let measuring = due_at >= self.schedule.measure_from;
            let Some(slot) = self.free.pop() else { break };
            let Some(operation) = self.work.next(&self.routes, self.node_position, measuring, &mut self.random) else {
                self.free.push(slot);
                self.work_is_done = true;
                break;
            };
            self.issue(slot, operation, due_at, now, output);
            self.next_due += self.pace.unwrap_or_default();
        }
        self.protocol.end_batch(output);
    }

    /// Takes every whole reply off `input`.
    ///
    /// # Errors
    /// The bytes are not a reply to anything in flight: the connection can't be used any more.
    pub(crate) fn receive(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        recorder: &mut Recorder,
    ) -> Result<(), ConnectionError> {
        while let Some(answer) = self.protocol.decode(input)? {
            self.handle_answer(answer, now, recorder)?;
        }
        Ok(())
    }

    /// Notices a server that holds the connection open and says nothing.
    ///
    /// # Errors
    /// `Silent` if a reply is overdue.
    pub(crate) fn check(&self, now: Instant) -> Result<(), ConnectionError> {
        let patience = self.settings.timeout + REPLY_GRACE;
        let overdue = |request: &InFlight| now.duration_since(request.sent_at) > patience;
        if self.slots.iter().flatten().any(overdue) { Err(ConnectionError::Silent) } else { Ok(()) }
    }

    fn issue(&mut self, slot: u32, operation: Operation, due_at: Instant, now: Instant, output: &mut BytesMut) {
        match operation.kind {
            Kind::Get | Kind::ReadModifyWrite => self.protocol.encode_get(slot, operation.key, output),
            Kind::Put | Kind::Insert => self.put(slot, operation.key, output),
        }
        self.slots[slot as usize] = Some(InFlight { operation, due_at, sent_at: now, is_read: false });
    }

    fn put(&mut self, slot: u32, key: u32, output: &mut BytesMut) {
        let start = self.random.random_range(0..=VALUE_BLOCK_EXTRA);
        let value = Value { block: &self.values, start, bytes: self.settings.value_bytes };
        self.protocol.encode_put(slot, key, value, output);
    }

    fn follow_routes(&mut self) {
        let generation = self.router.generation();
        if generation != self.routes_generation {
            self.routes_generation = generation;
            self.routes = self.router.current();
            self.node_position = self.node.and_then(|node| self.routes.node_position(node));
        }
    }

    fn handle_answer(&mut self, answer: Answer, now: Instant, recorder: &mut Recorder) -> Result<(), ConnectionError> {
        let Answer { slot, forwarded, outcome } = answer;
        let request = self.slots.get_mut(slot as usize).and_then(Option::take).ok_or(ConnectionError::Unexpected)?;
        let counts = self.is_measured(request.due_at, now);
        let latency = now.duration_since(request.due_at);
        let operation = request.operation;
        if let (Kind::ReadModifyWrite, false, Outcome::Value { found }) = (operation.kind, request.is_read, &outcome) {
            recorder.misses += u64::from(counts && !found);
            self.slots[slot as usize] = Some(InFlight { sent_at: now, is_read: true, ..request });
            self.half_done.push(slot);
            return Ok(());
        }
        self.free.push(slot);
        match (operation.kind, outcome) {
            (Kind::Get, Outcome::Value { found }) if counts => {
                recorder.misses += u64::from(!found);
                recorder.count_read(latency);
            }
            (Kind::Get, Outcome::Value { .. }) => {}
            (kind, Outcome::Written) if request.is_read || matches!(kind, Kind::Put | Kind::Insert) => {
                self.work.written(operation);
                if let Work::Fill(_) = self.work {
                    recorder.filled += 1;
                }
                if counts {
                    recorder.count_write(latency);
                }
            }
            (_, Outcome::Refused(refusal)) => self.handle_refusal(operation, refusal, now, counts, recorder),
            _ => return Err(ConnectionError::Unexpected),
        }
        if counts {
            recorder.forwarded += u64::from(forwarded);
            recorder.last_answer = Some(now);
        }
        Ok(())
    }

    fn handle_refusal(
        &mut self,
        operation: Operation,
        refusal: Refusal,
        now: Instant,
        counts: bool,
        recorder: &mut Recorder,
    ) {
        let until = now + refusal.pause.clamp(ERROR_PAUSE_MIN, ERROR_PAUSE_MAX);
        if counts {
            recorder.count_refusal(refusal);
        }
        self.work.failed(operation);
        self.work_is_done = false;
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn is_measured(&self, due_at: Instant, now: Instant) -> bool {
        let Schedule { measure_from, stop_at, .. } = self.schedule;
        // Leaving out of an open loop what is answered late would flatter the server.
        let begin = if self.settings.by_operations || self.pace.is_some() { due_at } else { now };
        let end = if self.pace.is_some() { due_at } else { now };
        begin >= measure_from && end < stop_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Draw;
    use crate::wire::Kvorum;
    use crate::work::Load;
    use kvorum_protocol::limits::FRAME_BYTES_MAX;
    use kvorum_protocol::{
        ClusterId, Durability, Entry, Epoch, NodeInfo, Request, RequestBody, RequestId, Response, ResponseBody, Retry,
        ServerError, ShardInfo, Term, Topology, Version, WriteResult, WriteStatus, frame,
    };
    use rand::SeedableRng;
    use uuid::Uuid;

    fn topology(leader: u16, term: u64) -> Topology {
        let node = |number: u128| NodeInfo {
            id: NodeId(Uuid::from_u128(number)),
            name: String::new(),
            client_address: String::new(),
            zone: String::new(),
        };
        Topology {
            epoch: Epoch(1),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: vec![node(1), node(2)],
            shards: vec![ShardInfo { leader: Some(leader), term: Term(term), replicas: vec![0, 1] }],
        }
    }

    /// An engine that only writes, connected to node 1, which measures from `begin` for a minute.
    fn engine(pipeline: usize, value_bytes: usize, begin: Instant) -> Engine<Kvorum> {
        engine_of(pipeline, value_bytes, begin, Kind::Put, None)
    }

    fn engine_of(
        pipeline: usize,
        value_bytes: usize,
        begin: Instant,
        other: Kind,
        pace: Option<Pace>,
    ) -> Engine<Kvorum> {
        let keys = Arc::new(KeySpace::new(100, 16, 1));
        let settings = Settings {
            pipeline,
            value_bytes,
            ack: Ack::Committed,
            read_mode: ReadMode::Linearizable,
            replicated: Replicated::No,
            route: Route::Leaders,
            timeout: Duration::from_secs(1),
            by_operations: false,
            halt: AtomicBool::new(false),
        };
        let seat = Seat {
            settings: Arc::new(settings),
            router: Arc::new(Router::new(topology(0, 1), Arc::clone(&keys))),
            work: Work::Load(Load {
                keys: Arc::clone(&keys),
                draw: Draw::Even,
                read_ratio: if other == Kind::Put { 0.0 } else { 0.5 },
                other,
                route: Route::Leaders,
                budget: None,
            }),
            keys,
            random: StdRng::seed_from_u64(1),
            pace,
        };
        let schedule = Schedule { begin, measure_from: begin, stop_at: begin + Duration::from_secs(60) };
        let mut engine = Engine::new(seat, schedule);
        engine.handle_connected(NodeId(Uuid::from_u128(1)));
        engine
    }

    fn requests(output: &mut BytesMut) -> Vec<Request> {
        std::iter::from_fn(|| frame::decode(output, FRAME_BYTES_MAX).unwrap())
            .map(|body| Request::decode(body).unwrap())
            .collect()
    }

    fn reply(id: RequestId, body: ResponseBody) -> BytesMut {
        let mut bytes = BytesMut::new();
        Response { id, epoch: Epoch(1), forwarded: false, body }.encode(&mut bytes);
        bytes
    }

    fn written() -> ResponseBody {
        ResponseBody::Written(WriteResult {
            status: WriteStatus::Applied,
            version: Version(1),
            ack: Ack::Committed,
            durability: Durability::Fsync,
            number: None,
            decimal: None,
            previous: None,
            receipt: None,
            existed: None,
            replayed: false,
        })
    }

    #[test]
    fn the_pipeline_is_kept_full_and_replies_may_come_in_any_order() {
        let begin = Instant::now();
        let (mut engine, mut recorder, mut output) = (engine(3, 10, begin), Recorder::new(), BytesMut::new());
        engine.send(begin, &mut output);
        let first = requests(&mut output);
        assert_eq!(first.len(), 3);
        let later = begin + Duration::from_millis(7);
        engine.receive(&mut reply(first[1].id, written()), later, &mut recorder).unwrap();
        engine.send(later, &mut output);
        let next = requests(&mut output);
        let RequestBody::Write { id, .. } = next[0].body else { panic!("{next:?}") };
        assert_eq!((next.len(), next[0].id), (1, first[1].id), "the answered request's slot is used again");
        assert_eq!((id.sequence, id.first_unanswered), (4, 1), "write 1 is still unanswered");
        assert_eq!(recorder.writes.len(), 1);
        assert!((6_900_000..7_100_000).contains(&recorder.writes.max()));
    }

    #[test]
    fn an_answer_to_nothing_or_of_the_wrong_kind_ends_the_connection() {
        let begin = Instant::now();
        let value = || ResponseBody::Value(None::<Entry>);
        for (id, body) in [(2, written()), (9, written()), (0, written()), (u32::MAX, written()), (1, value())] {
            let (mut engine, mut output) = (engine(1, 10, begin), BytesMut::new());
            engine.send(begin, &mut output);
            let answer = engine.receive(&mut reply(RequestId(id), body), begin, &mut Recorder::new());
            assert!(matches!(answer, Err(ConnectionError::Unexpected)), "id {id}: {answer:?}");
        }
    }

    #[test]
    fn an_error_pauses_as_long_as_the_server_advises_and_not_longer_than_the_limit() {
        let begin = Instant::now();
        for (retry, pause) in [
            (Retry::AfterMs(40), Duration::from_millis(40)),
            (Retry::AfterMs(u32::MAX - 1), ERROR_PAUSE_MAX),
            (Retry::No, ERROR_PAUSE_MIN),
        ] {
            let (mut engine, mut recorder, mut output) = (engine(1, 10, begin), Recorder::new(), BytesMut::new());
            engine.send(begin, &mut output);
            let id = requests(&mut output)[0].id;
            let error = ServerError::new(ErrorCode::Overloaded, "").with_retry(retry);
            engine.receive(&mut reply(id, ResponseBody::Error(error)), begin, &mut recorder).unwrap();
            engine.send(begin + pause - Duration::from_micros(1), &mut output);
            assert!(output.is_empty(), "{retry:?} is still on");
            engine.send(begin + pause, &mut output);
            assert_eq!(requests(&mut output).len(), 1, "{retry:?} is over");
            assert_eq!(recorder.overloaded, 1);
        }
    }

    #[test]
    fn not_leader_asks_for_the_topology_and_a_pushed_one_is_followed() {
        let begin = Instant::now();
        let (mut engine, mut recorder, mut output) = (engine(1, 10, begin), Recorder::new(), BytesMut::new());
        engine.send(begin, &mut output);
        let id = requests(&mut output)[0].id;
        let error = ResponseBody::Error(ServerError::new(ErrorCode::NotLeader, ""));
        engine.receive(&mut reply(id, error), begin, &mut recorder).unwrap();
        engine.send(begin, &mut output);
        assert_eq!(requests(&mut output)[0].body, RequestBody::Topology);
        assert!(engine.routes.leads(0));
        let pushed = ResponseBody::Topology(topology(1, 2));
        engine.receive(&mut reply(RequestId(0), pushed), begin, &mut recorder).unwrap();
        engine.send(begin, &mut output);
        assert!(engine.routes.leads(1) && !engine.routes.leads(0));
        assert_eq!(recorder.errors["NotLeader"], 1);
    }

    #[test]
    fn output_is_bounded_and_an_overdue_reply_is_noticed() {
        let begin = Instant::now();
        let (mut engine, mut output) = (engine(4096, 100_000, begin), BytesMut::new());
        engine.send(begin, &mut output);
        assert!(output.len() < OUTPUT_BYTES_MAX + 101_000, "{}", output.len());
        let sent = engine.in_flight();
        assert!((10..12).contains(&sent));
        assert!(engine.check(begin + Duration::from_secs(1)).is_ok());
        assert!(matches!(engine.check(begin + Duration::from_secs(3)), Err(ConnectionError::Silent)));
        let mut recorder = Recorder::new();
        engine.handle_disconnected(begin + Duration::from_secs(3), &mut recorder);
        assert_eq!((engine.in_flight(), recorder.unanswered), (0, sent as u64));
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_open_loop_sends_when_it_is_due_and_counts_from_then() {
        let begin = Instant::now();
        let pace = Pace { offset: 2 * MS, every: 10 * MS };
        let (mut engine, mut recorder) = (engine_of(2, 10, begin, Kind::Put, Some(pace)), Recorder::new());
        let mut output = BytesMut::new();
        engine.send(begin + MS, &mut output);
        assert!(output.is_empty(), "nothing is due yet");
        engine.send(begin + 2 * MS, &mut output);
        let first = requests(&mut output);
        assert_eq!(first.len(), 1);
        // Due are now those of 12, 22 and 32 ms; only one has a slot.
        engine.send(begin + 33 * MS, &mut output);
        assert_eq!(requests(&mut output).len(), 1);
        engine.receive(&mut reply(first[0].id, written()), begin + 40 * MS, &mut recorder).unwrap();
        assert!((37_900_000..38_100_000).contains(&recorder.writes.max()), "from 2 to 40 ms");
        engine.send(begin + 40 * MS, &mut output);
        let late = requests(&mut output);
        assert_eq!(late.len(), 1);
        engine.receive(&mut reply(late[0].id, written()), begin + 50 * MS, &mut recorder).unwrap();
        assert!(
            (27_900_000..28_100_000).contains(&recorder.writes.min()),
            "from 22 to 50 ms, though it was sent at 40"
        );
        assert!(engine.check(begin + 33 * MS + Duration::from_secs(1)).is_ok(), "patience counts from sending");
        engine.handle_end(&mut recorder);
        // Those from 32 ms on, until the minute is over.
        assert_eq!(recorder.unsent, (60_000 - 32u64).div_ceil(10));
    }

    #[test]
    fn what_an_open_loop_gets_after_its_time_counts_if_it_was_due_within() {
        let begin = Instant::now();
        let stop = begin + Duration::from_secs(60);
        let pace = Pace { offset: Duration::from_secs(59), every: Duration::from_secs(10) };
        let (mut engine, mut recorder) = (engine_of(1, 10, begin, Kind::Put, Some(pace)), Recorder::new());
        let mut output = BytesMut::new();
        engine.send(stop - Duration::from_secs(1), &mut output);
        let id = requests(&mut output)[0].id;
        engine.receive(&mut reply(id, written()), stop + 100 * MS, &mut recorder).unwrap();
        assert_eq!(recorder.writes.len(), 1);
    }

    #[test]
    fn a_read_modify_write_is_one_operation_of_two_requests() {
        let begin = Instant::now();
        let (mut engine, mut recorder) = (engine_of(1, 10, begin, Kind::ReadModifyWrite, None), Recorder::new());
        let mut output = BytesMut::new();
        let value = || ResponseBody::Value(None::<Entry>);
        let (mut reads, mut writes) = (0, 0);
        for step in 0..100 {
            engine.send(begin + step * MS, &mut output);
            let asked = requests(&mut output).remove(0);
            let answer = match asked.body {
                RequestBody::Get { .. } => value(),
                _ => written(),
            };
            reads += u64::from(answer == value());
            writes += u64::from(answer != value());
            engine.receive(&mut reply(asked.id, answer), begin + (step + 1) * MS, &mut recorder).unwrap();
        }
        assert!(writes > 10 && recorder.writes.len() == writes);
        assert!((recorder.reads.len() + writes).abs_diff(reads) <= 1, "each write was preceded by a read of its own");
        assert!((1_990_000..2_010_000).contains(&recorder.writes.min()), "it takes as long as both");
        // Answering the read with a write's answer is not an answer.
        let asked = loop {
            engine.send(begin, &mut output);
            let asked = requests(&mut output).remove(0);
            if matches!(asked.body, RequestBody::Get { .. }) {
                break asked;
            }
            engine.receive(&mut reply(asked.id, written()), begin, &mut recorder).unwrap();
        };
        let answer = engine.receive(&mut reply(asked.id, written()), begin, &mut recorder);
        assert!(matches!(answer, Err(ConnectionError::Unexpected)));
    }
}
