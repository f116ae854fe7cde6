//! One connection's state machine, without its socket: what to send, and what the replies mean.

use crate::keys::KeySpace;
use crate::limits::{
    DRAIN, ERROR_PAUSE_MAX, ERROR_PAUSE_MIN, HOUSEKEEPING, OUTPUT_BYTES_MAX, REPLY_GRACE, TOPOLOGY_PAUSE,
};
use crate::options::Route;
use crate::recorder::Recorder;
use crate::routes::{Router, Routes};
use crate::sequence::WriteWindow;
use crate::work::{Kind, Operation, Work};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    Ack, Action, Condition, DecodeError, ErrorCode, Mutation, NodeId, ReadMode, Request, RequestBody, RequestId,
    Response, ResponseBody, Retry, ServerError, WriteId, WriteStatus, frame,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The id of TOPOLOGY requests; operations have the ids from 1 on.
const TOPOLOGY_ID: RequestId = RequestId(u32::MAX);
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
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    operation: Operation,
    sent_at: Instant,
    /// A write's sequence number, 0 for a read.
    sequence: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    settings: Arc<Settings>,
    schedule: Schedule,
    keys: Arc<KeySpace>,
    router: Arc<Router>,
    routes: Arc<Routes>,
    routes_generation: u64,
    node: Option<NodeId>,
    node_position: Option<usize>,
    work: Work,
    work_is_done: bool,
    window: WriteWindow,
    /// Slot i holds the request with id i + 1.
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    paused_until: Option<Instant>,
    topology_wanted: bool,
    topology_asked: bool,
    topology_next: Option<Instant>,
    key_scratch: BytesMut,
    values: Bytes,
    random: StdRng,
}

impl Engine {
    pub(crate) fn new(seat: Seat, schedule: Schedule) -> Self {
        let Seat { settings, keys, router, work, mut random } = seat;
        let mut values = vec![0; settings.value_bytes + VALUE_BLOCK_EXTRA];
        random.fill_bytes(&mut values);
        Engine {
            schedule,
            keys,
            routes_generation: router.generation(),
            routes: router.current(),
            router,
            node: None,
            node_position: None,
            work,
            work_is_done: false,
            window: WriteWindow::new(),
            slots: vec![None; settings.pipeline],
            free: (0..settings.pipeline as u32).rev().collect(),
            paused_until: None,
            topology_wanted: false,
            topology_asked: false,
            topology_next: None,
            key_scratch: BytesMut::new(),
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

    /// A new socket to `node` is open.
    pub(crate) fn handle_connected(&mut self, node: NodeId) {
        assert_eq!(self.in_flight(), 0, "what was in flight was given up with the last socket");
        self.node = Some(node);
        self.node_position = self.routes.node_position(node);
        self.topology_asked = false;
        self.paused_until = None;
    }

    /// The socket is gone: what was in flight will never be answered. It is not sent again (filling sends its keys
    /// again, as new writes), so its sequence numbers are given up.
    pub(crate) fn handle_disconnected(&mut self, now: Instant, recorder: &mut Recorder) {
        for slot in 0..self.slots.len() {
            let Some(request) = self.slots[slot].take() else { continue };
            self.free.push(slot as u32);
            self.settle(request);
            self.work.failed(request.operation);
            if now >= self.schedule.measure_from {
                recorder.count_unanswered(now - request.sent_at);
            }
        }
        self.work_is_done = false;
    }

    /// Appends every request that is due to `output`.
    pub(crate) fn send(&mut self, now: Instant, output: &mut BytesMut) {
        self.follow_routes();
        if self.topology_wanted && !self.topology_asked && self.topology_next.is_none_or(|next| next <= now) {
            self.topology_wanted = false;
            self.topology_asked = true;
            self.topology_next = Some(now + TOPOLOGY_PAUSE);
            Request { id: TOPOLOGY_ID, deadline_ms: 0, body: RequestBody::Topology }.encode(output);
        }
        if now >= self.schedule.stop_at || self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let measuring = now >= self.schedule.measure_from;
        while output.len() < OUTPUT_BYTES_MAX && self.window.has_room() {
            let Some(slot) = self.free.pop() else { return };
            match self.work.next(&self.routes, self.node_position, measuring, &mut self.random) {
                Some(operation) => self.issue(slot, operation, now, output),
                None => {
                    self.free.push(slot);
                    self.work_is_done = true;
                    return;
                }
            }
        }
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
        while let Some(body) = frame::decode(input, FRAME_BYTES_MAX)? {
            let response = Response::decode(body)?;
            if response.epoch > self.routes.topology.epoch {
                self.topology_wanted = true;
            }
            match response.id {
                RequestId(0) => self.handle_unasked(response.body)?,
                TOPOLOGY_ID => self.handle_topology(response.body)?,
                id => self.handle_reply(id, response.forwarded, response.body, now, recorder)?,
            }
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

    fn issue(&mut self, slot: u32, operation: Operation, now: Instant, output: &mut BytesMut) {
        let key = self.keys.bytes_of(operation.key, &mut self.key_scratch);
        let (sequence, body) = match operation.kind {
            Kind::Get => (0, RequestBody::Get { key, mode: self.settings.read_mode }),
            Kind::Put => {
                let sequence = self.window.issue();
                let id = WriteId { sequence, first_unanswered: self.window.first_unanswered(), retry: false };
                let start = self.random.random_range(0..=VALUE_BLOCK_EXTRA);
                let value = self.values.slice(start..start + self.settings.value_bytes);
                let mutation = Mutation {
                    key,
                    condition: Condition::Always,
                    return_previous: false,
                    action: Action::Put { value, ttl_ms: None },
                };
                (sequence, RequestBody::Write { id, ack: self.settings.ack, mutation })
            }
        };
        let deadline_ms = self.settings.timeout.as_millis() as u32;
        Request { id: RequestId(slot + 1), deadline_ms, body }.encode(output);
        self.slots[slot as usize] = Some(InFlight { operation, sent_at: now, sequence });
    }

    fn follow_routes(&mut self) {
        let generation = self.router.generation();
        if generation != self.routes_generation {
            self.routes_generation = generation;
            self.routes = self.router.current();
            self.node_position = self.node.and_then(|node| self.routes.node_position(node));
        }
    }

    /// A frame that was not asked for: a pushed topology, or the reason why the server is about to close.
    fn handle_unasked(&mut self, body: ResponseBody) -> Result<(), ConnectionError> {
        match body {
            ResponseBody::Topology(topology) => {
                self.router.offer(&topology);
                Ok(())
            }
            ResponseBody::Error(error) => Err(ConnectionError::Refused(error.code)),
            _ => Err(ConnectionError::Unexpected),
        }
    }

    fn handle_topology(&mut self, body: ResponseBody) -> Result<(), ConnectionError> {
        if !std::mem::take(&mut self.topology_asked) {
            return Err(ConnectionError::Unexpected);
        }
        match body {
            ResponseBody::Topology(topology) => self.router.offer(&topology),
            // It is asked for again when the next reply shows that it is still wanted.
            ResponseBody::Error(_) => {}
            _ => return Err(ConnectionError::Unexpected),
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        id: RequestId,
        forwarded: bool,
        body: ResponseBody,
        now: Instant,
        recorder: &mut Recorder,
    ) -> Result<(), ConnectionError> {
        let slot = id.0 - 1;
        let request = self.slots.get_mut(slot as usize).and_then(Option::take).ok_or(ConnectionError::Unexpected)?;
        self.free.push(slot);
        self.settle(request);
        let counts = self.is_measured(request.sent_at, now);
        if forwarded && self.settings.route == Route::Leaders {
            self.topology_wanted = true;
        }
        let latency = now.duration_since(request.sent_at);
        match (request.operation.kind, body) {
            (Kind::Get, ResponseBody::Value(entry)) if counts => {
                recorder.misses += u64::from(entry.is_none());
                recorder.count_read(latency);
            }
            (Kind::Put, ResponseBody::Written(result)) if result.status == WriteStatus::Applied => {
                if let Work::Fill(_) = self.work {
                    recorder.filled += 1;
                }
                if counts {
                    recorder.count_write(latency);
                }
            }
            (Kind::Get, ResponseBody::Value(_)) => {}
            (_, ResponseBody::Error(error)) => self.handle_error(request.operation, &error, now, counts, recorder),
            _ => return Err(ConnectionError::Unexpected),
        }
        if counts {
            recorder.forwarded += u64::from(forwarded);
            recorder.last_answer = Some(now);
        }
        Ok(())
    }

    fn handle_error(
        &mut self,
        operation: Operation,
        error: &ServerError,
        now: Instant,
        counts: bool,
        recorder: &mut Recorder,
    ) {
        if counts {
            recorder.count_error(error.code);
        }
        self.topology_wanted |= matches!(error.code, ErrorCode::NotLeader | ErrorCode::Unavailable);
        self.work.failed(operation);
        self.work_is_done = false;
        let advised = match error.retry {
            Retry::AfterMs(ms) => Duration::from_millis(ms.into()),
            Retry::No => Duration::ZERO,
        };
        let until = now + advised.clamp(ERROR_PAUSE_MIN, ERROR_PAUSE_MAX);
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn is_measured(&self, sent_at: Instant, now: Instant) -> bool {
        let begin = if self.settings.by_operations { sent_at } else { now };
        begin >= self.schedule.measure_from && now < self.schedule.stop_at
    }

    fn settle(&mut self, request: InFlight) {
        if request.sequence != 0 {
            self.window.settle(request.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Load;
    use kvorum_protocol::{
        ClusterId, Durability, Entry, Epoch, NodeInfo, ShardInfo, Term, Topology, Version, WriteResult,
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
    fn engine(pipeline: usize, value_bytes: usize, begin: Instant) -> Engine {
        let keys = Arc::new(KeySpace::new(100, 16, 1));
        let settings = Settings {
            pipeline,
            value_bytes,
            ack: Ack::Committed,
            read_mode: ReadMode::Linearizable,
            route: Route::Leaders,
            timeout: Duration::from_secs(1),
            by_operations: false,
            halt: AtomicBool::new(false),
        };
        let seat = Seat {
            settings: Arc::new(settings),
            router: Arc::new(Router::new(topology(0, 1), Arc::clone(&keys))),
            work: Work::Load(Load { keys: Arc::clone(&keys), read_ratio: 0.0, route: Route::Leaders, budget: None }),
            keys,
            random: StdRng::seed_from_u64(1),
        };
        let schedule = Schedule { measure_from: begin, stop_at: begin + Duration::from_secs(60) };
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
            previous: None,
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
            let error = ServerError { retry, ..ServerError::new(ErrorCode::Overloaded, "") };
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
        assert_eq!(recorder.errors[&ErrorCode::NotLeader.number()], 1);
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
}
