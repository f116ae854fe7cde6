//! How an operation runs: wait for a turn, route, send, wait for the answer, and repeat as [`Attempts`] decides until the
//! deadline. The decisions are pure and stand in `retry` and `routing`; this module performs them.

use crate::builder::Options;
use crate::connection::{Connection, Introduction, Observer, Reply};
use crate::directory::Directory;
use crate::limits::{
    IN_FLIGHT_BYTES_MAX, REFRESH_INTERVAL_MAX, REFRESH_INTERVAL_MIN, REFRESH_TIMEOUT, SMALL_REQUEST_BYTES,
};
use crate::pool::Pool;
use kvorum_client_core::error::{ConnectionError, Error, with_outcome};
use kvorum_client_core::retry::{Attempts, Decision, Failure, Kind, RetryBudget, node_deadline_ms};
use kvorum_client_core::routing::{Need, Target};
use kvorum_client_core::session::Sequences;
use kvorum_protocol::limits::DEADLINE_MS_MAX;
use kvorum_protocol::{ErrorCode, NodeId, Outcome, RequestBody, Response, ResponseBody, Topology, WriteId};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What all clones of a client share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) directory: Arc<Directory>,
    pool: Arc<Pool>,
    sequences: Mutex<Sequences>,
    budget: Mutex<RetryBudget>,
    /// One permit per operation in flight.
    turns: Semaphore,
    /// One permit per KiB of large requests in flight.
    kibibytes: Semaphore,
    closed: AtomicBool,
}

/// One operation, ready to be sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) need: Need,
    pub(crate) kind: Kind,
    pub(crate) body: RequestBody,
    /// About how many bytes the request takes.
    pub(crate) bytes: usize,
    /// When it must have ended, on the directory's clock.
    pub(crate) deadline: Duration,
    /// The number of a write that may get another one.
    pub(crate) sequence: Option<SequenceGuard>,
}

/// The sequence numbers of one write, or of the writes of one batch. They are given back when this is dropped, also
/// when the caller lost interest half-way.
#[derive(Debug)]
pub(crate) struct SequenceGuard {
    core: Arc<Core>,
    pub(crate) first: u64,
    count: u64,
}

impl Drop for SequenceGuard {
    fn drop(&mut self) {
        let mut sequences = self.core.sequences.lock();
        (self.first..self.first + self.count).for_each(|sequence| sequences.finish(sequence));
    }
}

impl SequenceGuard {
    /// The id of the first write, as it stands before its first attempt.
    pub(crate) fn write_id(&self) -> WriteId {
        WriteId { sequence: self.first, first_unanswered: self.first, retry: false, once: None }
    }
}

impl Core {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let directory = Arc::new(Directory::new(options.seed.unwrap_or_else(rand::random)));
        let introduction = Introduction {
            client: options.client,
            name: options.name.clone(),
            cluster: options.cluster,
            credentials: options.credentials.clone(),
            #[cfg(feature = "tls")]
            tls: options.dialler.clone(),
            timeout: options.connect_timeout,
        };
        let core = Arc::new(Self {
            pool: Pool::new(options.seeds.clone(), introduction, directory.clone()),
            sequences: Mutex::default(),
            budget: Mutex::new(RetryBudget::new(options.retry, directory.now())),
            turns: Semaphore::new(options.in_flight_max),
            kibibytes: Semaphore::new(IN_FLIGHT_BYTES_MAX / 1024),
            closed: AtomicBool::new(false),
            directory,
            options,
        });
        tokio::spawn(keep_topology_fresh(Arc::downgrade(&core), core.directory.clone()));
        core
    }

    /// Opens the first connection and learns the topology. A cluster that can't say its topology yet is no error.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<(), Error> {
        self.pool.any().await.map_err(unreachable)?;
        match tokio::time::timeout(REFRESH_TIMEOUT, self.refresh()).await {
            Ok(Err(error)) => tracing::debug!(%error, "connected without a topology"),
            Err(_) => tracing::debug!("connected without a topology: no answer in time"),
            Ok(Ok(())) => {}
        }
        Ok(())
    }

    /// When an operation that begins now must have ended.
    pub(crate) fn deadline(&self, own: Option<Duration>) -> Duration {
        let most = Duration::from_millis(DEADLINE_MS_MAX.into());
        self.directory.now() + own.unwrap_or(self.options.deadline).min(most)
    }

    /// Takes sequence numbers for `count` writes.
    pub(crate) fn sequences(self: &Arc<Self>, count: usize) -> SequenceGuard {
        let first = self.sequences.lock().allocate(count as u64);
        SequenceGuard { core: self.clone(), first, count: count as u64 }
    }

    /// Takes a sequence number that is not below `sequence_min`.
    pub(crate) fn sequence_from(self: &Arc<Self>, sequence_min: u64) -> SequenceGuard {
        self.sequences.lock().raise(sequence_min);
        self.sequences(1)
    }

    /// Runs one operation to its end.
    pub(crate) async fn execute(self: &Arc<Self>, mut call: Call) -> Result<ResponseBody, Error> {
        let _turn = self.turn(&call).await?;
        let now = self.directory.now();
        let mut attempts = Attempts::new(self.options.retry, call.kind, now, call.deadline);
        self.budget.lock().handle_operation();
        loop {
            let failure = match self.attempt(&mut call, &mut attempts).await {
                Ok(body) => return Ok(body),
                Err(End::Failed(failure)) => failure,
                Err(End::Over(error)) => return Err(error),
            };
            let now = self.directory.now();
            match self.directory.with_rng(|rng| attempts.handle_failure(failure, now, rng)) {
                Decision::GiveUp(error) => return Err(error),
                Decision::AtOnce => {}
                Decision::Renumber { sequence_min } if call.sequence.is_some() => {
                    let sequence = self.sequence_from(sequence_min);
                    Sequences::renumber(&mut call.body, sequence.first);
                    call.sequence = Some(sequence);
                }
                Decision::Renumber { .. } => {
                    let detail = "other numbers are asked for writes that have none of their own".to_owned();
                    return Err(Error::Protocol { outcome: Outcome::NotApplied, detail });
                }
                Decision::Pause(pause) => self.pause(pause, call.need, call.deadline, &attempts).await?,
            }
        }
    }

    /// The topology as a node has it now.
    pub(crate) async fn fetch_topology(self: &Arc<Self>, deadline: Duration) -> Result<Arc<Topology>, Error> {
        let call =
            Call { need: Need::Any, kind: Kind::Read, body: RequestBody::Topology, bytes: 0, deadline, sequence: None };
        match self.execute(call).await? {
            ResponseBody::Topology(topology) => {
                self.directory.handle_topology(topology.clone());
                // Any node may have answered, also one that has not heard of a change which this client knows.
                let newer = self.directory.topology().filter(|known| known.epoch > topology.epoch);
                Ok(newer.unwrap_or_else(|| Arc::new(topology)))
            }
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// The topology that is known, or else fetched.
    pub(crate) async fn known_topology(self: &Arc<Self>, deadline: Duration) -> Result<Arc<Topology>, Error> {
        match self.directory.topology() {
            Some(topology) => Ok(topology),
            None => self.fetch_topology(deadline).await,
        }
    }

    /// The node that this client talks to, if it is connected to any.
    pub(crate) fn connected_to(&self) -> Option<(NodeId, String)> {
        self.pool.existing_any().map(|connection| (connection.node(), connection.address().to_owned()))
    }

    pub(crate) fn cluster(&self) -> Option<kvorum_protocol::ClusterId> {
        self.pool.cluster()
    }

    /// Lets operations end for up to `grace`, then ends the rest. Returns whether all had ended.
    pub(crate) async fn close(&self, grace: Duration) -> bool {
        self.closed.store(true, Ordering::Release);
        let all = u32::try_from(self.options.in_flight_max).unwrap_or(u32::MAX);
        // Dropped at the end, and also if the caller waits no longer.
        let _cut_off = CutOff(self);
        tokio::time::timeout(grace, self.turns.acquire_many(all)).await.is_ok()
    }

    /// Waits until the operation may begin.
    async fn turn(&self, call: &Call) -> Result<(SemaphorePermit<'_>, Option<SemaphorePermit<'_>>), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // The common case costs no timer.
        if call.bytes <= SMALL_REQUEST_BYTES
            && let Ok(turn) = self.turns.try_acquire()
        {
            return Ok((turn, None));
        }
        let waited = call.deadline.saturating_sub(self.directory.now());
        let acquire = async {
            let turn = self.turns.acquire().await.map_err(|_| Error::Closed)?;
            if call.bytes <= SMALL_REQUEST_BYTES {
                return Ok((turn, None));
            }
            let kibibytes = call.bytes.min(IN_FLIGHT_BYTES_MAX).div_ceil(1024) as u32;
            let kibibytes = self.kibibytes.acquire_many(kibibytes).await.map_err(|_| Error::Closed)?;
            Ok((turn, Some(kibibytes)))
        };
        let limit = self.options.in_flight_max;
        tokio::time::timeout(waited, acquire).await.unwrap_or(Err(Error::TooManyInFlight { limit, waited }))
    }

    /// Sends the operation once and waits for its answer.
    async fn attempt(self: &Arc<Self>, call: &mut Call, attempts: &mut Attempts) -> Result<ResponseBody, End> {
        let connection = self.connection(call, attempts).await?;
        let reply = match self.send(&connection, call, attempts) {
            Err(End::Failed(Failure::NotSent(ConnectionError::Crowded { .. }))) => {
                Box::pin(self.send_when_there_is_room(&connection, call, attempts)).await?
            }
            sent => sent?,
        };
        attempts.handle_sent();
        let node = connection.node();
        let answer = self.answer(reply, node, call, attempts).await?;
        self.directory.handle_answer(node);
        match answer.body {
            ResponseBody::Error(error) => {
                self.directory.handle_refusal(call.need, node, &error);
                if error.code == ErrorCode::ShuttingDown {
                    self.directory.handle_leaving(node);
                }
                Err(End::Failed(Failure::Answered(error)))
            }
            body => Ok(attempts.handle_answer(body)),
        }
    }

    /// Queues the request on a connection, if there is time left.
    fn send(&self, connection: &Connection, call: &mut Call, attempts: &Attempts) -> Result<Reply, End> {
        let now = self.directory.now();
        // The client may have been closed while the connection was opened.
        if self.turns.is_closed() {
            return Err(End::Over(attempts.stopped(Error::Closed, now)));
        }
        let left = call.deadline.saturating_sub(now);
        if left.is_zero() {
            return Err(End::Over(attempts.deadline_exceeded(now)));
        }
        self.sequences.lock().stamp(&mut call.body, attempts.is_retry());
        let sent = connection.send(node_deadline_ms(left), call.body.clone(), call.bytes);
        sent.map_err(|error| End::Failed(Failure::NotSent(error)))
    }

    /// Waits until the node has taken in more of what it was sent, then queues the request. Another node is tried if this
    /// one takes in nothing for an attempt's time.
    async fn send_when_there_is_room(
        &self,
        connection: &Connection,
        call: &mut Call,
        attempts: &Attempts,
    ) -> Result<Reply, End> {
        let mut written_before = connection.written_bytes();
        loop {
            let mut room = pin!(connection.room());
            // What is made from here on is not missed.
            room.as_mut().enable();
            let crowded = match self.send(connection, call, attempts) {
                Err(crowded @ End::Failed(Failure::NotSent(ConnectionError::Crowded { .. }))) => crowded,
                sent => return sent,
            };
            let left = call.deadline.saturating_sub(self.directory.now());
            let slice = left.min(self.options.retry.attempt_timeout);
            if tokio::time::timeout(slice, room).await.is_ok() {
                continue;
            }
            let written = connection.written_bytes();
            if written == written_before {
                self.directory.handle_failure(connection.node());
                return Err(crowded);
            }
            if self.directory.now() >= call.deadline {
                return Err(crowded);
            }
            written_before = written;
        }
    }

    /// The connection for the next attempt.
    async fn connection(self: &Arc<Self>, call: &Call, attempts: &Attempts) -> Result<Arc<Connection>, End> {
        if self.turns.is_closed() {
            return Err(End::Over(attempts.stopped(Error::Closed, self.directory.now())));
        }
        let target = self.directory.route(call.need);
        let left = call.deadline.saturating_sub(self.directory.now());
        let open = async {
            match &target {
                Target::Node { id, address } => self.pool.node(*id, address.clone()).await,
                Target::Seeds => self.pool.any().await,
            }
        };
        let opened = tokio::time::timeout(left, open).await;
        let Ok(opened) = opened else {
            return Err(End::Over(attempts.deadline_exceeded(self.directory.now())));
        };
        opened.map_err(|error| {
            let is_final = matches!(target, Target::Seeds) || matches!(call.need, Need::Exactly(_));
            if let Some(refusal) = error.refusal().filter(|_| is_final) {
                let refusal = refusal.clone().with_outcome(attempts.outcome());
                return End::Over(Error::Server(refusal));
            }
            match call.need {
                Need::Exactly(_) => End::Over(match unreachable(error) {
                    error @ Error::InvalidArgument(_) => attempts.stopped(error, self.directory.now()),
                    error => with_outcome(error, attempts.outcome()),
                }),
                Need::Leader(_) | Need::Replica(_) | Need::Any if self.directory.is_nobody_trusted() => {
                    End::Failed(Failure::NobodyLeft(error))
                }
                Need::Leader(_) | Need::Replica(_) | Need::Any => End::Failed(Failure::NotSent(error)),
            }
        })
    }

    /// Waits for the answer of one attempt: to the deadline, or until it takes so long that another node is tried.
    async fn answer(
        &self,
        mut reply: Reply,
        node: NodeId,
        call: &Call,
        attempts: &mut Attempts,
    ) -> Result<Response, End> {
        loop {
            let left = call.deadline.saturating_sub(self.directory.now());
            let slice = left.min(self.options.retry.attempt_timeout);
            match tokio::time::timeout(slice, &mut reply).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error @ ConnectionError::Malformed { .. })) => {
                    self.directory.handle_failure(node);
                    return Err(End::Failed(Failure::Lost(error)));
                }
                Ok(Err(error)) => return Err(End::Failed(Failure::Lost(error))),
                Err(_) => {}
            }
            let now = self.directory.now();
            attempts.handle_waiting();
            if now >= call.deadline {
                if !reply.is_node_heard() {
                    self.directory.handle_failure(node);
                }
                return Err(End::Over(attempts.deadline_exceeded(now)));
            }
            // A large request or reply may take longer than an attempt.
            if reply.has_moved() {
                continue;
            }
            // Only a retry that the budget allows is worth more than the answer that may still come.
            let may_go_elsewhere = call.kind != Kind::Command && !matches!(call.need, Need::Exactly(_));
            if may_go_elsewhere && self.budget.lock().withdraw(now).is_ok() {
                self.directory.handle_failure(node);
                return Err(End::Failed(Failure::Unresponsive));
            }
        }
    }

    /// Waits before the next attempt: for the backoff, then for the budget. A change of the shard's leader ends the wait
    /// and costs nothing, since it happens seldom and says where to go.
    pub(crate) async fn pause(
        &self,
        pause: Duration,
        need: Need,
        deadline: Duration,
        attempts: &Attempts,
    ) -> Result<(), Error> {
        let leader = |directory: &Directory| match need {
            Need::Leader(shard) => directory.leader(shard),
            Need::Replica(_) | Need::Any | Need::Exactly(_) => None,
        };
        let mut changes = self.directory.changes();
        let before = leader(&self.directory);
        let mut wait = pause;
        loop {
            let now = self.directory.now();
            let until = (now + wait).min(deadline);
            let changed = async {
                loop {
                    // The sender lives as long as the directory.
                    let _ = changes.changed().await;
                    let leader = leader(&self.directory);
                    if leader.is_some() && leader != before {
                        return;
                    }
                }
            };
            if tokio::time::timeout(until.saturating_sub(now), changed).await.is_ok() {
                return Ok(());
            }
            let now = self.directory.now();
            if now >= deadline {
                return Err(attempts.deadline_exceeded(now));
            }
            match self.budget.lock().withdraw(now) {
                Ok(()) => return Ok(()),
                Err(missing) => wait = missing.max(Duration::from_millis(1)),
            }
        }
    }

    /// Asks a node that answers, or a seed, for the topology.
    async fn refresh(&self) -> Result<(), Error> {
        let opened = match self.directory.route(Need::Any) {
            Target::Node { id, address } => self.pool.node(id, address).await,
            Target::Seeds => self.pool.any().await,
        };
        let connection = opened.map_err(unreachable)?;
        let reply = connection.send(REFRESH_TIMEOUT.as_millis() as u32, RequestBody::Topology, 0);
        let answer = match reply {
            Ok(reply) => reply.await,
            Err(error) => Err(error),
        };
        match answer.map_err(unreachable)?.body {
            ResponseBody::Topology(topology) => {
                self.directory.handle_topology(topology);
                Ok(())
            }
            ResponseBody::Error(error) => Err(Error::Server(error)),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }
}

/// Dropping this ends what is left of a client.
struct CutOff<'a>(&'a Core);

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.0.turns.close();
        self.0.kibibytes.close();
        self.0.pool.close();
    }
}

/// How an attempt ended, if not with an answer.
enum End {
    /// It failed; another may follow.
    Failed(Failure),
    /// The operation is over.
    Over(Error),
}

/// Refreshes the topology whenever a reply hinted that it is old: one refresh at a time. Refreshes that bring nothing new
/// come ever more seldom, down to one in [`REFRESH_INTERVAL_MAX`]. Ends with the client.
async fn keep_topology_fresh(core: Weak<Core>, directory: Arc<Directory>) {
    let mut interval = REFRESH_INTERVAL_MIN;
    loop {
        directory.refresh_wanted.notified().await;
        let mut changes = directory.changes();
        changes.mark_unchanged();
        match core.upgrade() {
            Some(core) if !core.turns.is_closed() => refresh_once(&core).await,
            _ => return,
        }
        let is_news = changes.has_changed().unwrap_or(false);
        interval = if is_news { REFRESH_INTERVAL_MIN } else { (interval * 2).min(REFRESH_INTERVAL_MAX) };
        tokio::time::sleep(interval).await;
    }
}

async fn refresh_once(core: &Core) {
    match tokio::time::timeout(REFRESH_TIMEOUT, core.refresh()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the topology could not be refreshed"),
        Err(_) => tracing::debug!("the topology could not be refreshed: no answer in time"),
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Wakes the task that keeps the topology fresh, which then finds that there is nothing left to do.
        self.directory.refresh_wanted.notify_one();
    }
}

fn unreachable(error: ConnectionError) -> Error {
    match error {
        ConnectionError::Refused { source, .. } => Error::Server(source),
        ConnectionError::UnknownNode(_) => Error::InvalidArgument(error.to_string()),
        source => Error::Unreachable { outcome: Outcome::NotApplied, source },
    }
}

/// A node answered with another kind of reply than the request asks for.
pub(crate) fn unexpected(body: &ResponseBody, kind: Kind) -> Error {
    let name = match body {
        ResponseBody::Hello(_) => "HELLO",
        ResponseBody::Pong(_) => "PONG",
        ResponseBody::Topology(_) => "TOPOLOGY",
        ResponseBody::Status(_) => "STATUS",
        ResponseBody::Explanation(_) => "EXPLANATION",
        ResponseBody::Done => "DONE",
        ResponseBody::Plan(_) => "PLAN",
        ResponseBody::Authority(_) => "AUTHORITY",
        ResponseBody::Challenge(_) => "CHALLENGE",
        ResponseBody::Authenticated { .. } => "AUTHENTICATED",
        ResponseBody::AuthView(_) => "AUTH-VIEW",
        ResponseBody::SlowLog(_) => "SLOW-LOG",
        ResponseBody::Monitor(_) => "MONITOR",
        ResponseBody::LogLevel(_) => "LOG-LEVEL",
        ResponseBody::Value(_) => "VALUE",
        ResponseBody::Values(_) => "VALUES",
        ResponseBody::Page(_) => "PAGE",
        ResponseBody::Written(_) => "WRITTEN",
        ResponseBody::Batch(_) => "BATCH",
        ResponseBody::Atomic(_) => "ATOMIC",
        ResponseBody::Transaction(_) => "TRANSACTION",
        ResponseBody::Awaited(_) => "AWAITED",
        ResponseBody::Error(_) => "ERROR",
    };
    let outcome = if kind == Kind::Read { Outcome::NotApplied } else { Outcome::Unknown };
    Error::Protocol { outcome, detail: format!("{name} does not answer what was asked") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::ClientBuilder;
    use crate::write_op::WriteOp;
    use kvorum_client_core::retry::RetryPolicy;
    use kvorum_protocol::limits::PART_BYTES_MAX;
    use kvorum_protocol::{Ack, Epoch, RequestId};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn an_attempt_is_not_given_up_while_its_bytes_leave() {
        const PARTS: usize = 64;
        const ATTEMPT: Duration = Duration::from_millis(200);
        let policy = RetryPolicy::default().with_attempt_timeout(ATTEMPT);
        let core = Core::new(ClientBuilder::new().retry_policy(policy).validate().unwrap());
        let (ours, mut node) = tokio::io::duplex(PART_BYTES_MAX);
        let connection = Connection::over(ours, core.directory.clone());
        let sequence = core.sequences(1);
        let mutation = WriteOp::put("k", vec![7; PARTS * PART_BYTES_MAX]).checked().unwrap();
        let body = RequestBody::Write { id: sequence.write_id(), ack: Ack::Committed, mutation };
        let now = core.directory.now();
        let deadline = now + Duration::from_secs(60);
        let bytes = PARTS * PART_BYTES_MAX;
        let mut call = Call { need: Need::Any, kind: Kind::Write, body, bytes, deadline, sequence: Some(sequence) };
        let mut attempts = Attempts::new(policy, Kind::Write, now, deadline);
        let reply = core.send(&connection, &mut call, &attempts).ok().expect("there is room");
        attempts.handle_sent();
        let mut answer = pin!(core.answer(reply, connection.node(), &call, &mut attempts));
        // The node takes in a part whenever a tenth of an attempt's time has passed: all of them take several attempts' time.
        let mut buffer = vec![0; 2 * PART_BYTES_MAX];
        let mut taken = 0;
        while taken < bytes {
            let early = tokio::time::timeout(ATTEMPT / 10, &mut answer).await;
            assert!(early.is_err(), "{taken} bytes were taken in");
            taken += node.read(&mut buffer).await.unwrap();
        }
        let response = Response { id: RequestId(3), epoch: Epoch(1), forwarded: false, body: ResponseBody::Done };
        let mut frame = bytes::BytesMut::new();
        response.encode(&mut frame);
        node.write_all(&frame).await.unwrap();
        assert_eq!(answer.await.ok().map(|answer| answer.body), Some(ResponseBody::Done));
    }
}
