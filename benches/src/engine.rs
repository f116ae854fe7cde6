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

    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule
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
            match self.work.next(&self.routes, self.node_position, measuring) {
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
