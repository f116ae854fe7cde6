//! A connection that speaks the protocol and nothing more: no retries, no routing, and any bytes one likes.

use bytes::{Bytes, BytesMut};
use kvorum_client::{ClientId, ClusterId, ServerError};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::part::Assembler;
use kvorum_protocol::request::PROTOCOL_VERSION;
use kvorum_protocol::{
    Ack, Action, Condition, Hello, HelloReply, Mutation, ReadMode, Request, RequestBody, RequestId, Response,
    ResponseBody, ReturnPrevious, TimeToLive, WriteId, frame,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a node may take to answer or close; nothing that a test sends takes a node this long.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// What came of waiting for a frame.
#[derive(Debug)]
pub(crate) enum Received {
    Response(Response),
    /// The node closed or reset the connection.
    Closed,
}

pub(crate) struct RawConnection {
    stream: TcpStream,
    buffer: BytesMut,
    assembler: Assembler,
    next_id: u32,
}

impl RawConnection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?)
    }

    /// Over a socket that is connected.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::new(), assembler: Assembler::new(FRAME_BYTES_MAX), next_id: 1 })
    }

    /// Opens a connection and says HELLO as `client`.
    pub(crate) async fn greet(address: SocketAddr, client: ClientId) -> io::Result<Self> {
        let mut connection = Self::open(address).await?;
        match connection.call(hello(client, None)).await? {
            ResponseBody::Hello(HelloReply { .. }) => Ok(connection),
            other => Err(io::Error::other(format!("HELLO was answered with {other:?}"))),
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request without waiting for its answer; returns its id.
    pub(crate) async fn send(&mut self, body: RequestBody, deadline_ms: u32) -> io::Result<RequestId> {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let mut frame = BytesMut::new();
        Request { id, deadline_ms, body }.encode(&mut frame);
        self.send_bytes(&frame).await?;
        Ok(id)
    }

    /// The next frame that answers a request.
    ///
    /// # Panics
    /// If the node neither answers nor closes within [`ANSWER_DEADLINE`], or sends what is no response.
    pub(crate) async fn receive(&mut self) -> Received {
        let receive = async {
            loop {
                if let Some(body) = frame::decode(&mut self.buffer, FRAME_BYTES_MAX).expect("a node sends whole frames")
                {
                    let message = self.assembler.handle(body).expect("a node sends parts that follow one another");
                    let Some(body) = message else { continue };
                    let response = Response::decode(body).expect("a node sends valid responses");
                    if response.id.0 != 0 || matches!(response.body, ResponseBody::Error(_)) {
                        return Received::Response(response);
                    }
                } else if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return Received::Closed;
                }
            }
        };
        let received = tokio::time::timeout(ANSWER_DEADLINE, receive).await;
        received.unwrap_or_else(|_| panic!("a node neither answered nor closed within {ANSWER_DEADLINE:?}"))
    }

    /// Waits until a long answer has begun to come in parts.
    pub(crate) async fn wait_for_a_part(&mut self) {
        let part = async {
            while !self.assembler.is_under_way() {
                match frame::decode(&mut self.buffer, FRAME_BYTES_MAX).expect("a node sends whole frames") {
                    Some(body) => assert_eq!(self.assembler.handle(body), Ok(None), "a part was expected"),
                    None => assert_ne!(self.stream.read_buf(&mut self.buffer).await.expect("the node is there"), 0),
                }
            }
        };
        tokio::time::timeout(ANSWER_DEADLINE, part).await.expect("the answer begins in time");
    }

    /// Sends a request and waits for its answer, with nothing else in flight.
    pub(crate) async fn call(&mut self, body: RequestBody) -> io::Result<ResponseBody> {
        self.call_within(body, 0).await
    }

    /// [`RawConnection::call`] with a deadline for the node.
    pub(crate) async fn call_within(&mut self, body: RequestBody, deadline_ms: u32) -> io::Result<ResponseBody> {
        let id = self.send(body, deadline_ms).await?;
        match self.receive().await {
            Received::Response(response) if response.id == id || response.id.0 == 0 => Ok(response.body),
            Received::Response(response) => Err(io::Error::other(format!("{id:?} was answered with {response:?}"))),
            Received::Closed => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// The errors that a node answers until it closes the connection or, if it keeps it open, until the first. `None` if it
    /// closed without a word.
    pub(crate) async fn refusal(&mut self) -> Option<ServerError> {
        match self.receive().await {
            Received::Response(Response { body: ResponseBody::Error(error), .. }) => Some(error),
            Received::Response(response) => panic!("a refusal was expected, the node answered {response:?}"),
            Received::Closed => None,
        }
    }
}

/// The first request of a connection.
pub(crate) fn hello(client: ClientId, cluster: Option<ClusterId>) -> RequestBody {
    let name = "scenario".to_owned();
    RequestBody::Hello(Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features: 0,
        cluster,
        client,
        name,
    })
}

/// A linearizable get.
pub(crate) fn get(key: &str) -> RequestBody {
    RequestBody::Get { key: Bytes::copy_from_slice(key.as_bytes()), mode: ReadMode::Linearizable }
}

/// A write that is acknowledged when it is committed. Only this one is under way.
pub(crate) fn write(sequence: u64, retry: bool, key: impl Into<Bytes>, action: Action) -> RequestBody {
    let mutation =
        Mutation { key: key.into(), condition: Condition::Always, return_previous: ReturnPrevious::Nothing, action };
    let id = WriteId { sequence, first_unanswered: sequence, retry, once: None };
    RequestBody::Write { id, ack: Ack::Committed, mutation }
}

/// A put, as [`write`].
pub(crate) fn put(sequence: u64, key: impl Into<Bytes>, value: impl Into<Bytes>) -> RequestBody {
    write(sequence, false, key, Action::Put { value: value.into(), ttl: TimeToLive::Forever })
}

/// A put while other writes are unanswered, the first of them with number `first_unanswered`.
pub(crate) fn put_among(
    sequence: u64,
    first_unanswered: u64,
    key: impl Into<Bytes>,
    value: impl Into<Bytes>,
) -> RequestBody {
    let mut body = put(sequence, key, value);
    if let RequestBody::Write { id, .. } = &mut body {
        id.first_unanswered = first_unanswered;
    }
    body
}

/// A client identity of its own.
pub(crate) fn new_client() -> ClientId {
    ClientId(uuid::Uuid::new_v4())
}
