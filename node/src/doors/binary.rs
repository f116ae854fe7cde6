//! The binary door: Kvorum's own protocol over TCP (docs/PROTOCOL.md).
//!
//! One task per connection. It reads what the socket has, handles every whole frame, and writes all answers with one
//! call. Long answers leave part by part, while requests go on being read and others answered. It stops reading while too much is unanswered or unwritten, so a client that doesn't take its answers is slowed
//! down by TCP and costs a bounded amount of memory.

use super::accepting::{accept, linger, turn_away};
use super::commons::DoorCommons;
use super::inflow::{Inflow, Share};
use super::outgoing::Outgoing;
use super::places::Places;
use super::stream::{DoorStream, Moved, keep_alive, sleep_until};
use super::tls::{Arrived, CameIn, DoorTls, arrive};
use crate::auth::login::{Challenged, LoginFailure, Logins};
use crate::auth::user_cert::UserCertificate;
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::system_clock;
use bytes::{Buf, Bytes, BytesMut};
use kvorum_core::auth::{LoginError, UserPlace};
use kvorum_core::clock::Nanos;
use kvorum_core::disk::lost_pages;
use kvorum_core::limits::{
    DRAIN_ANSWERS, DRAIN_IDLE, DRAIN_REFUSES, DRAIN_TIMEOUT, FRAME_TIMEOUT, HELLO_FRAME_BYTES_MAX, HELLO_TIMEOUT,
    LARGE_FRAME_BYTES, SESSION_OUTPUT_BYTES, SESSION_READ_BYTES, SESSION_REQUEST_BYTES, SESSION_REQUESTS_MAX,
    SESSION_TURN_BYTES, SESSION_VALUES_BYTES_MAX, WRITE_TIMEOUT,
};
use kvorum_core::measure::meter::Door;
use kvorum_core::routing::topology_news::TopologyNews;
use kvorum_core::session::{Answered, Session, SessionContext};
use kvorum_core::store::PREFETCH_KEYS;
use kvorum_protocol::frame;
use kvorum_protocol::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use kvorum_protocol::part::{Assembler, EARNEST_BYTES};
use kvorum_protocol::request::{PROTOCOL_VERSION, feature};
use kvorum_protocol::trace::TRACE_KIND;
use kvorum_protocol::{
    AuthRequest, ClientId, DecodeError, ErrorCode, Hello, HelloReply, Outcome, Request, RequestBody, RequestId,
    Response, ResponseBody, ServerError, TraceContext,
};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// After so many logins that failed the connection ends.
const LOGINS_REFUSED_MAX: u32 = 3;

/// What the connections of the door share.
pub struct BinaryDoor {
    context: Arc<SessionContext>,
    topology: watch::Receiver<Arc<TopologyNews>>,
    places: Arc<Places>,
    inflow: Arc<Inflow>,
    counts: Arc<DoorCounts>,
    logins: Arc<Logins>,
    /// Unless it is plain.
    tls: Option<DoorTls>,
    /// What a client hears that does not speak TLS.
    to_plain: Bytes,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl BinaryDoor {
    /// A door for connections that find one of the places. It takes no more of them when `drain` is cancelled, and asks those that
    /// are there to leave; it closes when `stop` is.
    pub fn new(
        context: Arc<SessionContext>,
        topology: watch::Receiver<Arc<TopologyNews>>,
        commons: DoorCommons,
        tls: Option<DoorTls>,
    ) -> Arc<Self> {
        let DoorCommons { places, inflow, counts, logins, drain, stop } = commons;
        let mut door =
            Self { context, topology, places, inflow, counts, logins, tls, to_plain: Bytes::new(), drain, stop };
        let mut out = Outgoing::with_capacity(0);
        let speaks_tls = ServerError::new(ErrorCode::Malformed, "this door speaks TLS only: kvs:// instead of kv://");
        encode_error(&mut out, &door, RequestId(0), speaks_tls);
        door.to_plain = out.frames.freeze();
        Arc::new(door)
    }

    fn came_in(&self, from: SocketAddr) -> CameIn<'_> {
        CameIn { door: Door::Binary, from, to_plain: &self.to_plain }
    }

    /// Accepts connections until the door is told to stop.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        accept(listener, &self.drain, |stream, from| self.admit(stream, from)).await;
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let door = Arc::clone(self);
        let Some(place) = self.places.take(Door::Binary, from.ip()) else {
            tokio::spawn(async move { door.refuse(stream, from).await });
            return;
        };
        tokio::spawn(async move {
            if let Some(arrived) = arrive(door.tls.as_ref(), stream, door.came_in(from)).await
                && let Err(error) = Connection::new(&door, arrived, from).run().await
            {
                debug!(%from, %error, "closed a connection");
            }
            drop(place);
        });
    }

    /// Tells a client that there are too many, and closes.
    async fn refuse(&self, stream: TcpStream, from: SocketAddr) {
        let detail = format!("the node has {} connections, as many as it accepts", self.places.max());
        let mut out = Outgoing::with_capacity(0);
        encode_error(&mut out, self, RequestId(0), ServerError::new(ErrorCode::TooManyConnections, detail));
        turn_away(self.tls.as_ref(), stream, self.came_in(from), &out.frames, self.places.to_linger()).await;
    }
}

/// Why a connection ends, other than that the client closed it.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] DecodeError),
    #[error("no HELLO in time")]
    NoHello,
    #[error("HELLO was refused")]
    Refused,
    #[error("the client has said often enough who it is not")]
    NotLetIn,
    #[error("the client may not be here any more")]
    Revoked,
    #[error("a frame was not whole in time")]
    SlowFrame,
    #[error("the client does not take its answers")]
    SlowReader,
    #[error("the medium lost bytes that may be among the answers")]
    LostPages,
}

struct Connection<'a> {
    door: &'a BinaryDoor,
    stream: DoorStream,
    /// Who the client is, if its certificate says so.
    certificate: Option<UserCertificate>,
    session: Session<RequestId>,
    client: Option<ClientId>,
    /// It has still to say who it is.
    is_nobody: bool,
    /// Its place among the connections of its user.
    place: Option<UserPlace>,
    /// A login that waits for the client's proof.
    challenged: Option<Challenged>,
    /// Logins that failed.
    refused_logins: u32,
    pushes: bool,
    /// It says to which traces its requests belong.
    traces: bool,
    input: BytesMut,
    /// How many more frames at the front of `input` were looked at ahead.
    looked_ahead: usize,
    /// When the requests that are being handled were taken up: they count from then.
    now: Nanos,
    assembler: Assembler,
    output: Outgoing,
    /// When the frame at the front of `input` began to come in.
    frame_since: Option<Instant>,
    /// When the first part of the message in `assembler` came in.
    message_since: Option<Instant>,
    /// Of the memory for what has come in and is not whole.
    share: Share,
    /// When a write must have got on; only while something waits that the socket does not take.
    write_by: Option<Instant>,
    /// The client was asked to leave, and may stay until then.
    leaves_by: Option<Instant>,
    /// When a request came last, or its answer left.
    busy_at: Instant,
    /// Whatever comes is refused.
    refuses: bool,
    /// As of the beginning: nothing that was verified before then is answered here.
    lost_pages: u64,
}

impl<'a> Connection<'a> {
    fn new(door: &'a BinaryDoor, arrived: Arrived, from: SocketAddr) -> Self {
        let Arrived { stream, certificate } = arrived;
        let mut session = Session::new(Arc::clone(&door.context), Door::Binary);
        session.comes_from(from.ip());
        Connection {
            door,
            stream,
            certificate,
            is_nobody: session.is_nobody(),
            place: None,
            session,
            client: None,
            challenged: None,
            refused_logins: 0,
            pushes: false,
            traces: false,
            input: BytesMut::with_capacity(SESSION_READ_BYTES),
            looked_ahead: 0,
            now: system_clock::monotonic(),
            assembler: Assembler::new(FRAME_BYTES_MAX),
            output: Outgoing::with_capacity(SESSION_READ_BYTES),
            frame_since: None,
            message_since: None,
            share: door.inflow.share(from.ip()),
            write_by: None,
            leaves_by: None,
            busy_at: Instant::now(),
            refuses: false,
            lost_pages: lost_pages(),
        }
    }

    /// Serves the client until one of the two closes. One that is given up is told why, where it can still hear it.
    async fn run(mut self) -> Result<(), ConnectionError> {
        let end = self.serve().await;
        // Here, where nothing else waits for the session's answers any more.
        if self.refuses && end.is_ok() {
            return self.refuse_and_close().await;
        }
        if let Err(error @ (ConnectionError::NoHello | ConnectionError::SlowFrame)) = &end {
            let error = ServerError::new(ErrorCode::DeadlineExceeded, error.to_string());
            encode_error(&mut self.output, self.door, RequestId(0), error.with_outcome(Outcome::NotApplied));
            self.flush().await?;
        }
        end
    }

    async fn serve(&mut self) -> Result<(), ConnectionError> {
        self.stream.socket().set_nodelay(true)?;
        keep_alive(self.stream.socket())?;
        let mut topology = self.door.topology.clone();
        topology.mark_unchanged();
        let mut changed = pin!(next_topology(topology));
        let sink = Arc::clone(self.session.sink());
        let mut ready = pin!(sink.ready());
        let mut drained = pin!(self.door.drain.cancelled());
        let mut stopped = pin!(self.door.stop.cancelled());
        let mut rights = pin!(next_rights(self.door.logins.changes()));
        let hello_by = Instant::now() + HELLO_TIMEOUT;
        loop {
            let takes = self.takes_requests();
            let reads = takes && self.share.covers(self.input.len() + self.assembler.held());
            let deadline = match self.client {
                None => Some(hello_by),
                Some(_) if self.is_nobody => Some(hello_by),
                Some(_) => {
                    let begun = self.frame_since.into_iter().chain(self.message_since).min();
                    begun.map(|since| since + FRAME_TIMEOUT).into_iter().chain(self.share.finish_by()).min()
                }
            };
            let (write_by, close_at) = (self.write_by, self.close_at());
            let writes = write_by.is_some();
            let takes_answers = self.output.long_bytes() < SESSION_VALUES_BYTES_MAX;
            let takes_news = self.pushes && !self.is_nobody && self.output.bytes() < SESSION_OUTPUT_BYTES;
            let input = reads.then_some(&mut self.input);
            let output = writes.then_some(&mut self.output.frames);
            tokio::select! {
                moved = self.stream.exchange(input, output), if reads || writes => match moved? {
                    Moved::Read(0) => return Ok(()),
                    Moved::Read(read) => {
                        self.door.counts.note_received(Door::Binary, read);
                        self.handle_input().await?;
                    }
                    Moved::Written(written) => {
                        self.door.counts.note_sent(Door::Binary, written);
                        self.write_by = None;
                        // What was held back by the bound on answers may go on.
                        if !self.input.is_empty() {
                            self.handle_input().await?;
                        }
                    }
                },
                () = self.share.granted(), if takes && !reads => {}
                () = &mut ready, if takes_answers => {
                    ready.set(sink.ready());
                    // Shards that are about to answer, too, go first: all answers leave with one call.
                    tokio::task::yield_now().await;
                    self.collect();
                    // What was held back by the bound on unanswered requests may go on.
                    self.handle_input().await?;
                }
                // A client that does not take its answers hears the newest only, once it does.
                topology = &mut changed, if takes_news => {
                    let news = Arc::clone(&topology.borrow());
                    changed.set(next_topology(topology));
                    self.output.push_frame(news.frame());
                }
                changes = &mut rights => {
                    rights.set(next_rights(changes));
                    let denied = |shown: &UserCertificate| self.door.context.router.auth().denies(&shown.serial);
                    if !self.session.may_stay() || self.certificate.as_ref().is_some_and(denied) {
                        return self.end_revoked().await;
                    }
                    self.is_nobody = self.session.is_nobody();
                }
                () = sleep_until(deadline), if deadline.is_some() && takes => {
                    return Err(if self.client.is_none() || self.is_nobody { ConnectionError::NoHello } else { ConnectionError::SlowFrame });
                }
                () = sleep_until(write_by), if write_by.is_some() => return Err(ConnectionError::SlowReader),
                () = &mut drained, if self.leaves_by.is_none() => {
                    self.leaves_by = Some(Instant::now() + DRAIN_TIMEOUT);
                    self.busy_at = Instant::now();
                    encode_error(&mut self.output, self.door, RequestId(0), stopping());
                }
                () = sleep_until(close_at), if close_at.is_some() => {
                    self.refuses = true;
                    return Ok(());
                }
                () = &mut stopped => return self.flush().await,
            }
            while self.write_and_has_room().await? {
                // What was held back by the bound on answers may go on, and nothing else would tell.
                self.handle_input().await?;
            }
            if self.output.long_bytes() > 0 || self.assembler.is_under_way() {
                // A long value must not keep the thread from small requests until all of it has passed.
                tokio::task::yield_now().await;
            }
        }
    }

    /// When to close the connection of a client that was asked to leave: once it has nothing to wait for, and soon in any case.
    fn close_at(&self) -> Option<Instant> {
        let leaves_by = self.leaves_by?;
        let is_idle = self.session.unanswered() == 0 && self.output.bytes() == 0 && self.input.is_empty();
        Some(if is_idle { leaves_by.min(self.busy_at + DRAIN_IDLE) } else { leaves_by })
    }

    /// The client's time is over: answers what was begun, says of each request that has come since that it never will be, then
    /// closes.
    async fn refuse_and_close(&mut self) -> Result<(), ConnectionError> {
        let sink = Arc::clone(self.session.sink());
        let last = Instant::now() + DRAIN_ANSWERS;
        let mut until = Instant::now() + DRAIN_REFUSES;
        loop {
            self.collect();
            self.handle_input().await?;
            while self.output.bytes() > 0 {
                self.output.refill();
                self.flush().await?;
            }
            let reads = self.share.covers(self.input.len() + self.assembler.held());
            let end = if self.session.unanswered() > 0 { last } else { until.min(last) };
            let nothing = None::<&mut BytesMut>;
            tokio::select! {
                moved = self.stream.exchange(Some(&mut self.input), nothing), if reads => match moved? {
                    Moved::Read(0) => return Ok(()),
                    Moved::Read(read) => self.door.counts.note_received(Door::Binary, read),
                    Moved::Written(_) => {}
                },
                // Whoever has waited for an answer may ask once more.
                () = sink.ready() => until = Instant::now() + DRAIN_REFUSES,
                () = tokio::time::sleep_until(end) => break,
            }
        }
        linger(&mut self.stream).await;
        Ok(())
    }

    /// Whether too little is unanswered and unwritten to stop taking requests.
    fn takes_requests(&self) -> bool {
        (self.refuses || self.session.unanswered() < SESSION_REQUESTS_MAX)
            && self.output.frames.len() < SESSION_OUTPUT_BYTES
            && self.output.long_bytes() < SESSION_VALUES_BYTES_MAX
    }

    /// Writes, and says whether that has made room for requests that were held back.
    async fn write_and_has_room(&mut self) -> Result<bool, ConnectionError> {
        let was_full = self.output.frames.len() >= SESSION_OUTPUT_BYTES;
        self.write().await?;
        Ok(was_full && self.takes_requests() && !self.input.is_empty())
    }

    /// Writes what there is. While long answers wait only what the socket takes at once: the rest is written between
    /// reading requests.
    async fn write(&mut self) -> Result<(), ConnectionError> {
        self.output.refill();
        self.check_pages()?;
        if self.output.long_bytes() == 0 && self.write_by.is_none() {
            self.flush().await?;
        }
        if self.output.frames.is_empty() && !self.stream.holds_output() {
            self.write_by = None;
        } else {
            self.write_by.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
        }
        Ok(())
    }

    /// Handles every whole frame of the input, unless too much is unanswered or unwritten. Lets others go first now and then.
    async fn handle_input(&mut self) -> Result<(), ConnectionError> {
        self.now = system_clock::monotonic();
        let mut done = 0;
        while self.takes_requests() {
            if let Some(error) = self.too_long_before_hello() {
                return self.end_malformed(RequestId(0), error).await;
            }
            if done >= SESSION_TURN_BYTES {
                done = 0;
                tokio::task::yield_now().await;
                self.now = system_clock::monotonic();
            }
            let before = self.output.bytes();
            self.look_ahead();
            let body = match frame::decode(&mut self.input, FRAME_BYTES_MAX) {
                Ok(Some(body)) => body,
                Ok(None) => return self.await_rest().await,
                Err(error) => return self.end_malformed(RequestId(0), error).await,
            };
            done += body.len() + SESSION_REQUEST_BYTES;
            self.frame_since = None;
            let body = match self.assemble(body) {
                Ok(Some(body)) => body,
                Ok(None) => continue,
                Err(error) => return self.end_malformed(RequestId(0), error).await,
            };
            if self.traces && body.first() == Some(&TRACE_KIND) {
                match TraceContext::decode_body(&body) {
                    Ok(context) => context.into_iter().for_each(|context| self.session.follows(context)),
                    Err(error) => return self.end_malformed(RequestId(0), error).await,
                }
                continue;
            }
            let peeked = Request::peek_id(&body);
            match Request::decode(body) {
                Ok(request) => self.handle_request(request).await?,
                Err(DecodeError::UnknownOperation(code)) if peeked.is_some() && self.client.is_some() => {
                    let error =
                        ServerError::new(ErrorCode::UnknownOperation, format!("operation {code:#04x} is not known"));
                    encode_error(&mut self.output, self.door, peeked.unwrap_or_default(), error);
                }
                Err(error @ DecodeError::OverLimit { .. }) if peeked.is_some() && self.client.is_some() => {
                    let error = ServerError::new(ErrorCode::TooLarge, error.to_string());
                    encode_error(&mut self.output, self.door, peeked.unwrap_or_default(), error);
                }
                Err(error @ DecodeError::UnknownValue { .. }) if peeked.is_some() && self.client.is_some() => {
                    let error = ServerError::new(ErrorCode::InvalidArgument, error.to_string());
                    encode_error(&mut self.output, self.door, peeked.unwrap_or_default(), error);
                }
                Err(error) => return self.end_malformed(peeked.unwrap_or_default(), error).await,
            }
            done += self.output.bytes().saturating_sub(before);
            if self.output.frames.len() >= SESSION_OUTPUT_BYTES {
                self.flush().await?;
                self.now = system_clock::monotonic();
            }
        }
        Ok(())
    }

    /// Before each frame: if several have come, has what the GETs among the next ones will read fetched, for all of them together.
    fn look_ahead(&mut self) {
        if self.looked_ahead > 0 {
            self.looked_ahead -= 1;
            return;
        }
        let bodies = || frame::peek_bodies(&self.input).take(PREFETCH_KEYS);
        self.looked_ahead = bodies().count().saturating_sub(1);
        if self.looked_ahead > 0 {
            self.session.prefetch(bodies().filter_map(Request::peek_get));
        }
    }

    /// Whoever has not said HELLO, or not who he is, sends that and nothing longer.
    fn too_long_before_hello(&self) -> Option<DecodeError> {
        if self.client.is_some() && !self.is_nobody {
            return None;
        }
        // What can't be a length is for whoever decodes it.
        let length = frame::peek_length(&self.input, FRAME_BYTES_MAX).ok().flatten()?;
        let (value, limit) = (length as u64, HELLO_FRAME_BYTES_MAX as u64);
        (value > limit).then_some(DecodeError::OverLimit { field: "length of a frame before HELLO", value, limit })
    }

    /// Takes a frame: the message that it is, or makes whole. Where HELLO did not agree on parts, a part is an operation that
    /// nobody knows.
    fn assemble(&mut self, body: Bytes) -> Result<Option<Bytes>, DecodeError> {
        if !self.output.uses_parts() {
            return Ok(Some(body));
        }
        if let Some(length) = self.assembler.begins(&body)? {
            let (value, limit) = (length as u64, HELLO_FRAME_BYTES_MAX as u64);
            if (self.client.is_none() || self.is_nobody) && value > limit {
                return Err(DecodeError::OverLimit { field: "length of a message before a login", value, limit });
            }
            self.message_since = Some(Instant::now());
        }
        let message = self.assembler.handle(body)?;
        if !self.assembler.is_under_way() {
            self.message_since = None;
        }
        Ok(message)
    }

    /// The frame at the front is not whole yet.
    async fn await_rest(&mut self) -> Result<(), ConnectionError> {
        if self.input.is_empty() {
            self.frame_since = None;
            return Ok(());
        }
        self.frame_since.get_or_insert_with(Instant::now);
        let Some(length) = frame::peek_length(&self.input, FRAME_BYTES_MAX)? else { return Ok(()) };
        if length > LARGE_FRAME_BYTES {
            // Whoever sends parts has no reason for a long frame among them: together they might exceed the share.
            if self.assembler.is_under_way() {
                let (value, limit) = (length as u64, LARGE_FRAME_BYTES as u64);
                let error = DecodeError::OverLimit { field: "length of a frame between parts", value, limit };
                return self.end_malformed(RequestId(0), error).await;
            }
            if self.input.len() >= EARNEST_BYTES {
                self.input.reserve((length + FRAME_HEADER_BYTES).saturating_sub(self.input.len()));
            }
        }
        Ok(())
    }

    async fn handle_request(&mut self, request: Request) -> Result<(), ConnectionError> {
        if self.leaves_by.is_some() {
            self.busy_at = Instant::now();
        }
        if self.refuses {
            encode_error(&mut self.output, self.door, request.id, stopping());
            return Ok(());
        }
        let Some(client) = self.client else { return self.hello(request).await };
        if let RequestBody::Auth(auth) = &request.body {
            return self.log_in(request.id, auth).await;
        }
        let (door, output, now) = (self.door, &mut self.output, self.now);
        self.session.handle(client, request.id, now, request, &mut |answered| {
            encode_answer(output, door, answered);
        });
        Ok(())
    }

    fn collect(&mut self) {
        if self.leaves_by.is_some() {
            self.busy_at = Instant::now();
        }
        let (door, output) = (self.door, &mut self.output);
        self.session.collect(&mut |answered| encode_answer(output, door, answered));
    }

    /// The first request must be HELLO, and one that fits.
    async fn hello(&mut self, request: Request) -> Result<(), ConnectionError> {
        let ring = self.door.context.router.ring();
        let refusal = match &request.body {
            RequestBody::Hello(hello) => refusal(hello, kvorum_protocol::ClusterId(ring.cluster)),
            _ => Some(ServerError::new(ErrorCode::HelloExpected, "the first request of a connection must be HELLO")),
        };
        let refusal = refusal.or_else(|| self.log_in_by_certificate().err().map(LoginFailure::error));
        match (refusal, request.body) {
            (None, RequestBody::Hello(hello)) => {
                let router = &self.door.context.router;
                // Where nothing is traced nobody need say to what it belongs.
                let known = if router.tracing().is_on() { feature::ALL } else { feature::ALL & !feature::TRACE };
                let features = hello.features & known;
                let reply = HelloReply {
                    version: PROTOCOL_VERSION,
                    features,
                    cluster: kvorum_protocol::ClusterId(ring.cluster),
                    node: self.door.context.router.me(),
                    durability: ring.durability,
                    program: concat!("kvorum ", env!("CARGO_PKG_VERSION")).into(),
                };
                debug!(client = %hello.client, name = hello.name, "a client said hello");
                self.client = Some(hello.client);
                self.pushes = features & feature::TOPOLOGY_PUSH != 0;
                self.traces = features & feature::TRACE != 0;
                self.encode(request.id, false, ResponseBody::Hello(reply));
                if features & feature::PARTS != 0 {
                    self.output.use_parts();
                }
                Ok(())
            }
            (refusal, _) => {
                let refusal = refusal.unwrap_or_else(|| ServerError::new(ErrorCode::HelloExpected, "expected HELLO"));
                encode_error(&mut self.output, self.door, request.id, refusal);
                self.flush().await?;
                linger(&mut self.stream).await;
                Err(ConnectionError::Refused)
            }
        }
    }

    /// The client is who its certificate says, if it has shown one. Who shows one that is not taken is not taken for nobody.
    fn log_in_by_certificate(&mut self) -> Result<(), LoginFailure> {
        let Some(UserCertificate { user, serial }) = &self.certificate else { return Ok(()) };
        let principal = self.door.logins.by_certificate(user, serial)?;
        self.place = Some(self.door.logins.place(&principal, self.place.take())?);
        self.session.log_in(principal)?;
        self.is_nobody = self.session.is_nobody();
        Ok(())
    }

    /// The client says who it is.
    async fn log_in(&mut self, id: RequestId, auth: &AuthRequest) -> Result<(), ConnectionError> {
        let logins = &self.door.logins;
        // Whom the client says that it is, as far as it has said.
        let said = self.challenged.as_ref().map_or_else(String::new, |challenged| challenged.user().to_owned());
        let known = match auth {
            AuthRequest::Token(token) => logins.by_token(token).map(|principal| (principal, String::new())),
            AuthRequest::Scram(first) => match logins.challenge(first) {
                Ok((challenged, challenge)) => {
                    self.challenged = Some(challenged);
                    self.encode(id, false, ResponseBody::Challenge(challenge.into()));
                    return Ok(());
                }
                Err(failure) => Err(failure),
            },
            AuthRequest::Proof(proof) => match self.challenged.take() {
                Some(challenged) => logins.prove(challenged, proof, self.stream.binding()),
                None => Err(LoginFailure::Malformed),
            },
        };
        let known = known.and_then(|(principal, proof)| {
            let place = logins.place(&principal, self.place.take()).inspect_err(|_| self.session.log_out())?;
            self.session.log_in(principal)?;
            self.place = Some(place);
            Ok(proof)
        });
        match known {
            Ok(proof) => {
                let access = self.session.access();
                (self.is_nobody, self.refused_logins) = (access.is_nobody(), 0);
                let user = access.user().to_owned();
                self.encode(id, false, ResponseBody::Authenticated { user, proof: proof.into() });
                Ok(())
            }
            Err(failure) => {
                debug!(%failure, "a login was refused");
                self.session.note_refused(&said, &failure.to_string());
                self.is_nobody = self.session.is_nobody();
                encode_error(&mut self.output, self.door, id, failure.error());
                self.refused_logins += 1;
                if self.refused_logins < LOGINS_REFUSED_MAX {
                    return Ok(());
                }
                self.flush().await?;
                linger(&mut self.stream).await;
                Err(ConnectionError::NotLetIn)
            }
        }
    }

    /// The client is nobody any more: answers what was begun, which may be the very change that ends it, says so, and closes.
    async fn end_revoked(&mut self) -> Result<(), ConnectionError> {
        let (sink, last) = (Arc::clone(self.session.sink()), Instant::now() + DRAIN_ANSWERS);
        while self.session.unanswered() > 0 {
            tokio::select! {
                () = sink.ready() => self.collect(),
                () = tokio::time::sleep_until(last) => break,
            }
            self.output.refill();
            self.flush().await?;
        }
        encode_error(&mut self.output, self.door, RequestId(0), LoginError::Refused.error());
        self.flush().await?;
        linger(&mut self.stream).await;
        Err(ConnectionError::Revoked)
    }

    /// The bytes make no sense, and where the next frame begins is not known: answer and close.
    async fn end_malformed(&mut self, id: RequestId, error: DecodeError) -> Result<(), ConnectionError> {
        let code = match error {
            DecodeError::OverLimit { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::Malformed,
        };
        encode_error(&mut self.output, self.door, id, ServerError::new(code, error.to_string()));
        self.flush().await?;
        linger(&mut self.stream).await;
        Err(error.into())
    }

    fn encode(&mut self, id: RequestId, forwarded: bool, body: ResponseBody) {
        encode_answer(&mut self.output, self.door, Answered { origin: id, forwarded, source: None, body });
    }

    /// Values are verified when they are read and copied out of their mapping when they are encoded. If a page was lost in
    /// between, in whatever mapping, nobody knows any more what was encoded.
    fn check_pages(&self) -> Result<(), ConnectionError> {
        if lost_pages() == self.lost_pages { Ok(()) } else { Err(ConnectionError::LostPages) }
    }

    /// Writes all that is encoded, and waits until the socket has taken it.
    async fn flush(&mut self) -> Result<(), ConnectionError> {
        self.check_pages()?;
        let frames = &mut self.output.frames;
        if frames.is_empty() {
            return Ok(());
        }
        self.door.counts.note_sent(Door::Binary, frames.len());
        // Almost always the socket takes everything at once, and no timer is needed.
        match self.stream.try_write(frames) {
            Ok(written) => frames.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if !frames.is_empty() || self.stream.holds_output() {
            let stream = &mut self.stream;
            let writing = async {
                stream.write_all(frames).await?;
                stream.flush().await
            };
            timeout(WRITE_TIMEOUT, writing).await.map_err(|_| ConnectionError::SlowReader)??;
        }
        frames.clear();
        self.write_by = None;
        if frames.capacity() > 2 * SESSION_OUTPUT_BYTES {
            *frames = BytesMut::with_capacity(SESSION_READ_BYTES);
        }
        Ok(())
    }
}

fn refusal(hello: &Hello, cluster: kvorum_protocol::ClusterId) -> Option<ServerError> {
    if hello.version_min > PROTOCOL_VERSION || hello.version_max < PROTOCOL_VERSION {
        let detail = format!(
            "this node speaks protocol version {PROTOCOL_VERSION}, the client {} to {}",
            hello.version_min, hello.version_max
        );
        return Some(ServerError::new(ErrorCode::UnsupportedVersion, detail));
    }
    match hello.cluster {
        Some(other) if other != cluster => {
            let detail = format!("this is cluster {cluster}, the client means {other}");
            Some(ServerError::new(ErrorCode::WrongCluster, detail))
        }
        _ => None,
    }
}

/// Waits until the topology is another one than was seen; for ever once there is nobody left to change it.
async fn next_topology(mut topology: watch::Receiver<Arc<TopologyNews>>) -> watch::Receiver<Arc<TopologyNews>> {
    if topology.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    topology.borrow_and_update();
    topology
}

/// Waits until another table of users is in force; for ever once there is nobody left to change it.
async fn next_rights(mut changes: watch::Receiver<u64>) -> watch::Receiver<u64> {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    changes
}

fn encode_answer(output: &mut Outgoing, door: &BinaryDoor, answered: Answered<RequestId>) {
    let Answered { origin, forwarded, source: _, body } = answered;
    output.push(&Response { id: origin, epoch: door.context.router.epoch(), forwarded, body });
}

fn stopping() -> ServerError {
    ServerError::new(ErrorCode::ShuttingDown, "the node is stopping; use another one")
}

fn encode_error(output: &mut Outgoing, door: &BinaryDoor, id: RequestId, error: ServerError) {
    encode_answer(
        output,
        door,
        Answered { origin: id, forwarded: false, source: None, body: ResponseBody::Error(error) },
    );
}
