//! One multiplexed, pipelined connection to one node. Requests are encoded straight into a shared buffer; the connection's
//! task writes whatever has gathered there with one call per wake-up, and hands each reply to the caller that waits for
//! its id.

use crate::limits::{
    PROBE_INTERVAL, READ_BUFFER_BYTES, SEED_STAGGER, SILENT_PROBES_MAX, SMALL_REQUEST_BYTES, WRITE_BUFFER_KEPT_BYTES,
};
use crate::login::{Credentials, Greeted};
use crate::outgoing::Outgoing;
use crate::race::first_of;
#[cfg(feature = "tls")]
use crate::tls::{self, Dialler};
use crate::traces;
use bytes::{Bytes, BytesMut};
use futures_util::future::{FutureExt, select_all};
use kvorum_client_core::{CloseReason, ConnectionError};
use kvorum_protocol::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, PART_BYTES_MAX};
use kvorum_protocol::part::Assembler;
use kvorum_protocol::request::{PROTOCOL_VERSION, feature};
use kvorum_protocol::{
    ClientId, ClusterId, DecodeError, Epoch, ErrorCode, Hello, HelloReply, NodeId, Request, RequestBody, RequestId,
    Response, ResponseBody, ServerError, Topology, frame,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

/// What the client tells a node in HELLO, and how long a connection may take to open.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) client: ClientId,
    pub(crate) name: String,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) credentials: Option<Credentials>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Dialler>,
    pub(crate) timeout: Duration,
}

/// Hears what a connection learns beside the replies that were asked for.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A node pushed its topology.
    fn handle_topology(&self, topology: Topology);
    /// A reply came, from a node that holds this epoch; `forwarded` says that another node gave the answer.
    fn handle_reply(&self, epoch: Epoch, forwarded: bool);
    /// A node said that it is about to stop.
    fn handle_leaving(&self, node: NodeId);
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    hello: HelloReply,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    next_id: AtomicU32,
    /// Frames read so far; the probe compares it with what it saw last.
    frames: AtomicU64,
    /// Bytes read so far.
    read_bytes: AtomicU64,
    /// A long reply is under way.
    reply_is_long: AtomicBool,
    /// Bytes written so far.
    written_bytes: AtomicU64,
    /// How far the frames that leave first have been written, see [`Outgoing::push`].
    written_frames: AtomicU64,
    state: Mutex<State>,
    /// Something was put into the outgoing buffer.
    outgoing_ready: Notify,
    /// Requests that were refused for want of room may come again.
    room: Notify,
    /// The handle was dropped.
    stop: Notify,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits for which reply. Bounded by the client's limit on operations in flight.
    pending: HashMap<u32, oneshot::Sender<Result<Response, ConnectionError>>>,
    /// Requests that have not been handed to the kernel. Bounded by [`OUTGOING_BYTES_MAX`](crate::limits::OUTGOING_BYTES_MAX)
    /// and one request more.
    outgoing: Outgoing,
    /// The node is about to stop: it answers what it has, and nothing more is sent to it. The connection ends when all is
    /// answered.
    leaving: bool,
    /// Why the connection ended.
    ended: Option<ConnectionError>,
}

impl Connection {
    /// Connects to `host:port`, whose name is resolved now, and introduces the client.
    pub(crate) async fn open(
        address: &str,
        introduction: &Introduction,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, ConnectionError> {
        let opened = tokio::time::timeout(introduction.timeout, open(address, introduction)).await;
        let timed_out = || ConnectionError::TimedOut { address: address.to_owned(), timeout: introduction.timeout };
        let (stream, buffer, hello) = opened.map_err(|_| timed_out())??;
        let shared = Arc::new(Shared::new(address.to_owned()));
        let end = ConnectionEnd::new(shared.clone());
        match stream {
            NodeStream::Plain(stream) => {
                let (read_half, write_half) = stream.into_split();
                tokio::spawn(run(end, hello.node, read_half, write_half, buffer, observer));
            }
            #[cfg(feature = "tls")]
            NodeStream::Tls(stream) => {
                let (read_half, write_half) = tokio::io::split(stream);
                tokio::spawn(run(end, hello.node, read_half, write_half, buffer, observer));
            }
        }
        tracing::debug!(address, node = %hello.node, "connected");
        Ok(Arc::new(Self { hello, shared }))
    }

    /// To a node that takes parts, and that has answered HELLO over this stream.
    #[cfg(test)]
    pub(crate) fn over(stream: tokio::io::DuplexStream, observer: Arc<dyn Observer>) -> Self {
        let hello = HelloReply {
            version: PROTOCOL_VERSION,
            features: feature::PARTS,
            cluster: ClusterId(uuid::Uuid::nil()),
            node: NodeId(uuid::Uuid::nil()),
            durability: kvorum_protocol::Durability::Fsync,
            program: String::new(),
        };
        let shared = Arc::new(Shared::new("a:1".to_owned()));
        let (read_half, write_half) = tokio::io::split(stream);
        let end = ConnectionEnd::new(shared.clone());
        tokio::spawn(run(end, hello.node, read_half, write_half, BytesMut::new(), observer));
        Self { hello, shared }
    }

    /// The node at the other end.
    pub(crate) fn node(&self) -> NodeId {
        self.hello.node
    }

    /// What the node said in HELLO.
    pub(crate) fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// Where the node was reached.
    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether the connection has ended, or takes nothing more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Bytes that were written to the node so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.shared.written_bytes.load(Ordering::Relaxed)
    }

    /// Ends when requests may be sent that were `Crowded` before, or when the connection ends.
    pub(crate) fn room(&self) -> Notified<'_> {
        self.shared.room.notified()
    }

    /// Queues a request; the returned future is its reply. Dropping the future forgets the request, and takes it back if
    /// nothing of it has left.
    ///
    /// # Errors
    /// `Crowded` if too much waits to be written to the node, else the connection has ended. The request has not left.
    pub(crate) fn send(&self, deadline_ms: u32, body: RequestBody, bytes: usize) -> Result<Reply, ConnectionError> {
        let id = self.shared.take_id();
        let request = Request { id: RequestId(id), deadline_ms, body };
        let in_parts = bytes > PART_BYTES_MAX && self.hello.features & feature::PARTS != 0;
        if in_parts && !self.shared.state.lock().outgoing.has_room(true) {
            return Err(self.shared.crowded());
        }
        let pieces = in_parts.then(|| request.encode_pieces());
        // A large request is encoded before the lock is taken, so that small ones do not wait for its checksum.
        let trace = if in_parts { None } else { traces::current(&self.hello) };
        let encode = |out: &mut BytesMut| {
            trace.into_iter().for_each(|context| context.encode_frame(out));
            request.encode(out);
        };
        let large = (bytes > SMALL_REQUEST_BYTES && !in_parts).then(|| {
            let mut encoded = BytesMut::with_capacity(bytes + SMALL_REQUEST_BYTES);
            encode(&mut encoded);
            encoded
        });
        let (sender, receiver) = oneshot::channel();
        let (frames_end, ahead) = {
            let mut state = self.shared.state.lock();
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            if state.leaving {
                return Err(self.shared.ended(CloseReason::NodeStopping));
            }
            if !state.outgoing.has_room(in_parts) {
                return Err(self.shared.crowded());
            }
            let ahead = state.outgoing.ahead(in_parts);
            let outgoing = &mut state.outgoing;
            let frames_end = match (pieces, large) {
                (Some(pieces), _) => {
                    outgoing.push_parts(id, &request.body, pieces);
                    None
                }
                (None, Some(encoded)) => outgoing.push(id, &request.body, |out| out.extend_from_slice(&encoded)),
                (None, None) => outgoing.push(id, &request.body, encode),
            };
            state.pending.insert(id, sender);
            (frames_end, ahead)
        };
        self.shared.outgoing_ready.notify_one();
        let is_leaving = frames_end.is_none() || ahead > PART_BYTES_MAX;
        let seen = self.shared.seen(is_leaving);
        Ok(Reply { id, receiver, shared: self.shared.clone(), frames_end, frames_before: seen.frames, seen })
    }

    /// Ends the connection; whoever waits for a reply is told so. Nothing can be sent from here on, and what has not begun to
    /// leave stays.
    pub(crate) fn close(&self) {
        let ended = self.shared.ended(CloseReason::ByClient);
        let outgoing = {
            let mut state = self.shared.state.lock();
            state.ended.get_or_insert(ended);
            std::mem::take(&mut state.outgoing)
        };
        drop(outgoing);
        self.shared.closed.store(true, Ordering::Release);
        self.shared.stop.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The reply to one request, when it comes.
#[derive(Debug)]
pub(crate) struct Reply {
    id: u32,
    receiver: oneshot::Receiver<Result<Response, ConnectionError>>,
    shared: Arc<Shared>,
    /// See [`Outgoing::push`].
    frames_end: Option<u64>,
    /// Frames that had come when the request was queued.
    frames_before: u64,
    seen: LinkProgress,
}

/// What a connection had moved when somebody who waits for a reply looked.
#[derive(Clone, Copy, Debug)]
struct LinkProgress {
    frames: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// Whether the request had not been written then.
    is_leaving: bool,
}

impl Reply {
    /// Whether the node has sent anything since the request was queued.
    pub(crate) fn is_node_heard(&self) -> bool {
        self.shared.frames.load(Ordering::Relaxed) != self.frames_before
    }

    /// Whether there was progress since this was asked last: the request was on its way out and bytes left, or a long reply
    /// is on its way in and bytes came. It need not be the reply to this request, which may come behind that one.
    pub(crate) fn has_moved(&mut self) -> bool {
        let before = self.seen;
        self.seen = self.shared.seen(self.is_leaving());
        let was_leaving = before.is_leaving || self.seen.is_leaving;
        (was_leaving && self.seen.written_bytes != before.written_bytes)
            || (self.shared.reply_is_long.load(Ordering::Relaxed) && self.seen.read_bytes != before.read_bytes)
    }

    fn is_leaving(&self) -> bool {
        match self.frames_end {
            Some(end) => self.shared.written_frames.load(Ordering::Relaxed) < end,
            None => self.shared.state.lock().outgoing.is_queued(self.id),
        }
    }
}

impl Future for Reply {
    type Output = Result<Response, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = ready!(Pin::new(&mut self.receiver).poll(context));
        Poll::Ready(received.unwrap_or_else(|_| Err(self.shared.ended(CloseReason::TaskEnded))))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Only a reply that was not received is still listed.
        if !self.receiver.is_terminated() {
            let has_room_again = {
                let mut state = self.shared.state.lock();
                state.pending.remove(&self.id);
                if self.frames_end.is_none() {
                    state.outgoing.forget(self.id);
                }
                state.outgoing.has_room_again()
            };
            if has_room_again {
                self.shared.room.notify_waiters();
            }
        }
    }
}

const HELLO_ID: u32 = 1;
/// Behind those of HELLO and of the login.
const FIRST_ID: u32 = 3;

/// What a node's bytes come by.
enum NodeStream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the first address of a name that answers.
async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host(address).await?.collect();
    first_of(addresses, SEED_STAGGER, TcpStream::connect::<SocketAddr>).await.map_err(|mut failures| {
        let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        failures.pop().unwrap_or_else(none)
    })
}

async fn open(
    address: &str,
    introduction: &Introduction,
) -> Result<(NodeStream, BytesMut, HelloReply), ConnectionError> {
    let failed = |error| ConnectionError::Io { address: address.to_owned(), source: Arc::new(error) };
    let mut stream = connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    #[cfg(feature = "tls")]
    if let Some(dialler) = &introduction.tls {
        let mut stream = Box::new(dialler.begin(address, stream).await.map_err(failed)?);
        let binding = tls::binding(&stream);
        let (buffer, hello) = introduce(address, &mut stream, introduction, binding).await?;
        return Ok((NodeStream::Tls(stream), buffer, hello));
    }
    let (buffer, hello) = introduce(address, &mut stream, introduction, None).await?;
    Ok((NodeStream::Plain(stream), buffer, hello))
}

/// Says hello, and who the client is. `binding`: what both ends see of the channel alone, if TLS is spoken.
async fn introduce<S: AsyncRead + AsyncWrite + Unpin + Send>(
    address: &str,
    stream: &mut S,
    introduction: &Introduction,
    binding: Option<[u8; 32]>,
) -> Result<(BytesMut, HelloReply), ConnectionError> {
    let failed = |error| ConnectionError::Io { address: address.to_owned(), source: Arc::new(error) };
    let malformed = |source| ConnectionError::Malformed { address: address.to_owned(), source };
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features: feature::TOPOLOGY_PUSH | feature::PARTS | feature::AUTH | traces::FEATURE,
        cluster: introduction.cluster,
        client: introduction.client,
        name: introduction.name.clone(),
    };
    let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
    Request { id: RequestId(HELLO_ID), deadline_ms: 0, body: RequestBody::Hello(hello) }.encode(&mut buffer);
    stream.write_all(&buffer).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    buffer.clear();
    let body = loop {
        if let Some(body) = frame::decode(&mut buffer, FRAME_BYTES_MAX).map_err(malformed)? {
            break body;
        }
        if stream.read_buf(&mut buffer).await.map_err(failed)? == 0 {
            return Err(ConnectionError::Closed { address: address.to_owned(), reason: CloseReason::BeforeGreeting });
        }
    };
    match Response::decode(body).map_err(malformed)?.body {
        ResponseBody::Hello(hello) => {
            if let Some(credentials) = &introduction.credentials {
                if hello.features & feature::AUTH == 0 {
                    let detail = "the node is of a version that asks nobody who he is";
                    let source = ServerError::new(ErrorCode::Unauthenticated, detail);
                    return Err(ConnectionError::Refused { address: address.to_owned(), source });
                }
                let mut greeted = Greeted { address, stream, buffer: &mut buffer, binding };
                greeted.log_in(credentials).await?;
            }
            Ok((buffer, hello))
        }
        ResponseBody::Error(source) => Err(ConnectionError::Refused { address: address.to_owned(), source }),
        _ => Err(malformed(DecodeError::UnknownValue { field: "reply to HELLO", value: 0 })),
    }
}

/// How a connection ends: dropping this fails everything that still waits. So its task can't end without that, although its
/// runtime may end it anywhere.
struct ConnectionEnd {
    shared: Arc<Shared>,
    error: ConnectionError,
}

impl ConnectionEnd {
    fn new(shared: Arc<Shared>) -> Self {
        let error = shared.ended(CloseReason::TaskEnded);
        Self { shared, error }
    }
}

impl Drop for ConnectionEnd {
    fn drop(&mut self) {
        tracing::debug!(error = %self.error, "connection ended");
        let (pending, outgoing) = {
            let mut state = self.shared.state.lock();
            state.ended.get_or_insert(self.error.clone());
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.outgoing))
        };
        drop(outgoing);
        self.shared.closed.store(true, Ordering::Release);
        self.shared.room.notify_waiters();
        for sender in pending.into_values() {
            // Whoever no longer waits needs no answer.
            let _ = sender.send(Err(self.error.clone()));
        }
    }
}

/// The connection's task: it ends with the connection.
async fn run(
    mut end: ConnectionEnd,
    node: NodeId,
    read_half: impl AsyncRead + Unpin + Send,
    write_half: impl AsyncWrite + Unpin + Send,
    buffer: BytesMut,
    observer: Arc<dyn Observer>,
) {
    let shared = end.shared.clone();
    let ends = [
        read(&shared, node, read_half, buffer, &*observer).boxed(),
        async { shared.failed(write(&shared, write_half).await) }.boxed(),
        probe(&shared).map(|()| shared.ended(CloseReason::Silence)).boxed(),
        shared.stop.notified().map(|()| shared.ended(CloseReason::ByClient)).boxed(),
    ];
    (end.error, ..) = select_all(ends).await;
}

async fn read(
    shared: &Shared,
    node: NodeId,
    mut half: impl AsyncRead + Unpin,
    mut buffer: BytesMut,
    observer: &dyn Observer,
) -> ConnectionError {
    let mut assembler = Assembler::new(FRAME_BYTES_MAX);
    loop {
        let rest = dispatch(shared, node, &mut buffer, &mut assembler, observer)
            .and_then(|()| frame::peek_length(&buffer, FRAME_BYTES_MAX));
        // What is left is less than one frame. Room for all of it is made at once, so that a large one is not moved often.
        match rest {
            Ok(None) => buffer.reserve(READ_BUFFER_BYTES),
            Ok(Some(length)) => buffer.reserve(READ_BUFFER_BYTES.max(FRAME_HEADER_BYTES + length - buffer.len())),
            Err(source) => return ConnectionError::Malformed { address: shared.address.clone(), source },
        }
        let is_long = assembler.is_under_way() || matches!(rest, Ok(Some(length)) if length > PART_BYTES_MAX);
        shared.reply_is_long.store(is_long, Ordering::Relaxed);
        if assembler.is_under_way() {
            // A long reply must not keep the thread from small ones until all of it is there.
            tokio::task::yield_now().await;
        }
        match half.read_buf(&mut buffer).await {
            Ok(0) => return shared.ended(CloseReason::ByNode),
            Ok(bytes) => {
                shared.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => return shared.failed(error),
        }
    }
}

/// Hands out every whole reply in the buffer.
fn dispatch(
    shared: &Shared,
    node: NodeId,
    buffer: &mut BytesMut,
    assembler: &mut Assembler,
    observer: &dyn Observer,
) -> Result<(), DecodeError> {
    while let Some(body) = frame::decode(buffer, FRAME_BYTES_MAX)? {
        shared.frames.fetch_add(1, Ordering::Relaxed);
        let Some(body) = assembler.handle(body)? else { continue };
        let response = Response::decode(body)?;
        if response.id.0 == 0 {
            match response.body {
                ResponseBody::Topology(topology) => observer.handle_topology(topology),
                ResponseBody::Error(error) if error.code == ErrorCode::ShuttingDown => {
                    observer.handle_leaving(node);
                    shared.leave();
                }
                // The connection ends, which says as much.
                _ => {}
            }
            continue;
        }
        observer.handle_reply(response.epoch, response.forwarded);
        let waiting = {
            let mut state = shared.state.lock();
            let waiting = state.pending.remove(&response.id.0);
            if state.leaving && state.pending.is_empty() {
                shared.stop.notify_one();
            }
            waiting
        };
        if let Some(sender) = waiting {
            // Whoever no longer waits needs no answer.
            let _ = sender.send(Ok(response));
        }
    }
    Ok(())
}

async fn write(shared: &Shared, mut half: impl AsyncWrite + Unpin) -> std::io::Error {
    let mut buffer = BytesMut::new();
    loop {
        shared.outgoing_ready.notified().await;
        // Others that are ready to run may add their requests to this write.
        tokio::task::yield_now().await;
        loop {
            let (frames_end, has_room_again) = {
                let mut state = shared.state.lock();
                (state.outgoing.take(&mut buffer), state.outgoing.has_room_again())
            };
            if has_room_again {
                shared.room.notify_waiters();
            }
            if buffer.is_empty() {
                // What was encrypted may still have to leave.
                if let Err(error) = half.flush().await {
                    return error;
                }
                break;
            }
            let mut left = &buffer[..];
            while !left.is_empty() {
                match half.write(left).await {
                    Ok(0) => return std::io::ErrorKind::WriteZero.into(),
                    Ok(bytes) => {
                        left = &left[bytes..];
                        shared.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                    Err(error) => return error,
                }
            }
            shared.written_frames.store(frames_end, Ordering::Relaxed);
            if buffer.len() >= PART_BYTES_MAX {
                // Nor must a long request.
                tokio::task::yield_now().await;
            }
            buffer.clear();
            if buffer.capacity() > WRITE_BUFFER_KEPT_BYTES {
                buffer = BytesMut::new();
            }
        }
    }
}

/// Returns when nothing has come from the node for [`SILENT_PROBES_MAX`] intervals, though it was asked. A connection whose
/// other end vanished without a word would else be believed for as long as TCP keeps sending, which is minutes.
async fn probe(shared: &Shared) {
    let (mut seen, mut silent) = (0, 0);
    while silent < SILENT_PROBES_MAX {
        tokio::time::sleep(PROBE_INTERVAL).await;
        let frames = shared.frames.load(Ordering::Relaxed);
        silent = if frames == seen { silent + 1 } else { 0 };
        seen = frames;
        if silent > 0 {
            let ping =
                Request { id: RequestId(shared.take_id()), deadline_ms: 0, body: RequestBody::Ping(Bytes::new()) };
            // Nobody waits for the reply: that one comes is what counts.
            shared.state.lock().outgoing.push(ping.id.0, &ping.body, |out| ping.encode(out));
            shared.outgoing_ready.notify_one();
        }
    }
}

impl Shared {
    fn new(address: String) -> Self {
        Self {
            address,
            next_id: AtomicU32::new(FIRST_ID),
            frames: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            reply_is_long: AtomicBool::new(false),
            written_bytes: AtomicU64::new(0),
            written_frames: AtomicU64::new(0),
            state: Mutex::default(),
            outgoing_ready: Notify::new(),
            room: Notify::new(),
            stop: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    fn seen(&self, is_leaving: bool) -> LinkProgress {
        LinkProgress {
            frames: self.frames.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            is_leaving,
        }
    }

    /// A request id that is not 0. Ids come round again after 2^32 requests, by which time their first users are gone.
    fn take_id(&self) -> u32 {
        loop {
            match self.next_id.fetch_add(1, Ordering::Relaxed) {
                0 => {}
                id => return id,
            }
        }
    }

    /// Sends nothing more, and ends the connection once all is answered.
    fn leave(&self) {
        let mut state = self.state.lock();
        state.leaving = true;
        self.closed.store(true, Ordering::Release);
        if state.pending.is_empty() {
            self.stop.notify_one();
        }
    }

    fn ended(&self, reason: CloseReason) -> ConnectionError {
        ConnectionError::Closed { address: self.address.clone(), reason }
    }

    fn crowded(&self) -> ConnectionError {
        ConnectionError::Crowded { address: self.address.clone() }
    }

    fn failed(&self, error: std::io::Error) -> ConnectionError {
        ConnectionError::Io { address: self.address.clone(), source: Arc::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::OUTGOING_BYTES_MAX;
    use kvorum_protocol::part::{PART_FRAME_BYTES_MAX, Parts};
    use kvorum_protocol::{
        Ack, Action, Condition, Entry, Mutation, ReadMode, ReturnPrevious, TimeToLive, Version, WriteId,
    };
    use std::pin::pin;
    use tokio::io::DuplexStream;

    struct Nobody;

    impl Observer for Nobody {
        fn handle_topology(&self, _topology: Topology) {}
        fn handle_reply(&self, _epoch: Epoch, _forwarded: bool) {}
        fn handle_leaving(&self, _node: NodeId) {}
    }

    /// A connection of which so many bytes may be on the way, and the node's end of it.
    fn connection(bytes_on_the_way: usize) -> (Connection, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(bytes_on_the_way);
        (Connection::over(ours, Arc::new(Nobody)), theirs)
    }

    fn get() -> RequestBody {
        RequestBody::Get { key: Bytes::from_static(b"k"), mode: ReadMode::Linearizable }
    }

    fn put(bytes: usize) -> RequestBody {
        let action = Action::Put { value: Bytes::from(vec![7; bytes]), ttl: TimeToLive::Forever };
        let key = Bytes::from_static(b"large");
        let mutation = Mutation { key, action, condition: Condition::Always, return_previous: ReturnPrevious::Nothing };
        let id = WriteId { sequence: 1, first_unanswered: 1, retry: false, once: None };
        RequestBody::Write { id, ack: Ack::Committed, mutation }
    }

    /// Lets the connection's task do all that it can.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn take(node: &mut DuplexStream, bytes: usize) {
        node.read_exact(&mut vec![0; bytes]).await.unwrap();
        settle().await;
    }

    #[tokio::test]
    async fn a_large_request_makes_progress_while_its_bytes_leave_and_no_longer() {
        let (connection, mut node) = connection(PART_FRAME_BYTES_MAX);
        let mut reply = connection.send(1000, put(4 * PART_BYTES_MAX), 4 * PART_BYTES_MAX).unwrap();
        settle().await;
        assert!(reply.has_moved(), "as much as may be on the way");
        assert!(!reply.has_moved(), "the node takes nothing in");
        for _ in 0..3 {
            take(&mut node, PART_FRAME_BYTES_MAX).await;
            assert!(reply.has_moved());
        }
        take(&mut node, PART_FRAME_BYTES_MAX).await;
        reply.has_moved();
        let mut other = connection.send(1000, get(), 0).unwrap();
        settle().await;
        assert!(!reply.has_moved(), "bytes leave that are not its own");
        assert!(!other.has_moved(), "it left at once");
        assert!(!other.is_node_heard());
    }

    #[tokio::test]
    async fn a_request_makes_progress_while_a_large_reply_comes_in() {
        let (connection, mut node) = connection(16 * PART_FRAME_BYTES_MAX);
        let mut reply = connection.send(1000, get(), 0).unwrap();
        settle().await;
        assert!(!reply.has_moved() && !reply.is_node_heard());
        let value = Bytes::from(vec![7; 3 * PART_BYTES_MAX]);
        let entry = Entry { value: value.clone(), version: Version(1), expires_at_ms: None };
        let body = ResponseBody::Value(Some(entry));
        let response = Response { id: RequestId(FIRST_ID), epoch: Epoch(1), forwarded: false, body };
        let mut parts = Parts::new(response.encode_pieces());
        let mut left = BytesMut::new();
        parts.encode_next(&mut left);
        node.write_all(&left[..]).await.unwrap();
        settle().await;
        assert!(reply.has_moved() && reply.is_node_heard());
        assert!(!reply.has_moved(), "nothing came since");
        left.clear();
        while parts.left() > 0 {
            parts.encode_next(&mut left);
        }
        // Half a part counts, too.
        let rest = left.split_off(1000);
        node.write_all(&left).await.unwrap();
        settle().await;
        assert!(reply.has_moved());
        node.write_all(&rest).await.unwrap();
        let ResponseBody::Value(Some(entry)) = reply.await.unwrap().body else { panic!("another reply") };
        assert_eq!(entry.value, value);
    }

    #[tokio::test]
    async fn a_node_that_takes_in_too_little_is_sent_no_more_until_there_is_room() {
        let (connection, mut node) = connection(PART_BYTES_MAX);
        let small = || put(PART_BYTES_MAX / 2);
        let mut replies = Vec::new();
        let refused = loop {
            match connection.send(1000, small(), PART_BYTES_MAX / 2) {
                Ok(reply) => replies.push(reply),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, ConnectionError::Crowded { address: "a:1".to_owned() });
        assert!(replies.len() <= 2 * OUTGOING_BYTES_MAX / PART_BYTES_MAX, "{}", replies.len());
        // That nobody waits any longer makes no room: the bytes are there.
        replies.clear();
        assert!(connection.send(1000, small(), PART_BYTES_MAX / 2).is_err());
        let mut room = pin!(connection.room());
        room.as_mut().enable();
        let mut buffer = vec![0; PART_BYTES_MAX];
        loop {
            tokio::select! {
                biased;
                () = &mut room => break,
                read = node.read(&mut buffer) => assert!(read.unwrap() > 0),
            }
        }
        assert!(connection.send(1000, small(), PART_BYTES_MAX / 2).is_ok());
    }

    #[tokio::test]
    async fn large_requests_that_nobody_waits_for_make_room_for_others() {
        let (connection, _node) = connection(1);
        let first = connection.send(1000, put(OUTGOING_BYTES_MAX / 4), OUTGOING_BYTES_MAX / 4).unwrap();
        settle().await;
        let second = connection.send(1000, put(OUTGOING_BYTES_MAX), OUTGOING_BYTES_MAX).unwrap();
        let crowded = connection.send(1000, put(OUTGOING_BYTES_MAX), OUTGOING_BYTES_MAX);
        assert!(matches!(crowded, Err(ConnectionError::Crowded { .. })), "{crowded:?}");
        let mut room = pin!(connection.room());
        room.as_mut().enable();
        drop(second);
        room.await;
        assert!(connection.send(1000, put(OUTGOING_BYTES_MAX), OUTGOING_BYTES_MAX).is_ok());
        drop(first);
    }

    #[tokio::test]
    async fn a_closed_connection_takes_nothing_from_that_moment_on() {
        let (connection, mut node) = connection(1024);
        let reply = connection.send(1000, get(), 0).unwrap();
        connection.close();
        let ended = ConnectionError::Closed { address: "a:1".to_owned(), reason: CloseReason::ByClient };
        assert_eq!(connection.send(1000, get(), 0).map(|_| ()), Err(ended.clone()));
        assert_eq!(reply.await.map(|_| ()), Err(ended));
        let mut sent = Vec::new();
        node.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, [], "what had not begun to leave has stayed");
    }

    #[test]
    fn a_connection_ends_with_its_runtime_and_says_so() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = runtime();
        let (connection, reply, _node) = ended.block_on(async {
            let (connection, node) = connection(1024);
            let reply = connection.send(1000, get(), 0).unwrap();
            (connection, reply, node)
        });
        drop(ended);
        let expected = ConnectionError::Closed { address: "a:1".to_owned(), reason: CloseReason::TaskEnded };
        assert!(connection.is_closed());
        assert_eq!(connection.send(1000, get(), 0).map(|_| ()), Err(expected.clone()));
        assert_eq!(runtime().block_on(reply).map(|_| ()), Err(expected));
    }
}
