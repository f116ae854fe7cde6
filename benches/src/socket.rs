//! An open connection: the stream with its buffers, after HELLO where the protocol has one.

use crate::engine::ConnectionError;
use crate::limits::{CONNECT_TIMEOUT, READ_BYTES};
use crate::secure::Stream;
use bytes::BytesMut;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{Hello, HelloReply, NodeId, Request, RequestBody, RequestId, Response, ResponseBody, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const HELLO_ID: RequestId = RequestId(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: Stream,
    /// Bytes that have come and are not yet taken; up to one whole frame and a read.
    pub(crate) input: BytesMut,
    /// Bytes that wait to be sent.
    pub(crate) output: BytesMut,
    /// Who answered HELLO.
    pub(crate) node: NodeId,
}

impl Socket {
    /// Connects and says nothing, until `deadline` or [`CONNECT_TIMEOUT`], whichever comes first. `node` is nil.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub(crate) async fn connect(address: &str, deadline: Instant) -> Result<Self, ConnectionError> {
        let deadline = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let opened = tokio::time::timeout_at(deadline, Self::dial(address));
        opened.await.unwrap_or(Err(ConnectionError::ConnectTimeout))
    }

    /// Connects and says HELLO, until `deadline` or [`CONNECT_TIMEOUT`], whichever comes first.
    ///
    /// # Errors
    /// Whatever went wrong; nothing is left open.
    pub(crate) async fn open(address: &str, hello: &Hello, deadline: Instant) -> Result<Self, ConnectionError> {
        let deadline = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let opened = tokio::time::timeout_at(deadline, async {
            let mut socket = Self::dial(address).await?;
            socket.node = socket.greet(hello).await?.node;
            Ok(socket)
        });
        opened.await.unwrap_or(Err(ConnectionError::ConnectTimeout))
    }

    async fn dial(address: &str) -> Result<Self, ConnectionError> {
        let connect_error = |error: std::io::Error| ConnectionError::Connect(error.kind());
        let stream = Stream::connect(address).await.map_err(connect_error)?;
        let (input, output) = (BytesMut::with_capacity(READ_BYTES), BytesMut::with_capacity(READ_BYTES));
        Ok(Self { stream, input, output, node: NodeId(uuid::Uuid::nil()) })
    }

    /// Sends one request and reads one frame: right only while nothing is in flight and nothing is pushed.
    ///
    /// # Errors
    /// Whatever went wrong; the socket can't be used after it.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<ResponseBody, ConnectionError> {
        request.encode(&mut self.output);
        let io_error = |error: std::io::Error| ConnectionError::Io(error.kind());
        while !self.output.is_empty() {
            self.stream.write_buf(&mut self.output).await.map_err(io_error)?;
        }
        self.stream.flush().await.map_err(io_error)?;
        let body = loop {
            if let Some(body) = frame::decode(&mut self.input, FRAME_BYTES_MAX)? {
                break body;
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await.map_err(io_error)? == 0 {
                return Err(ConnectionError::Closed);
            }
        };
        let response = Response::decode(body)?;
        match response.body {
            ResponseBody::Error(error) => Err(ConnectionError::Refused(error.code)),
            answer if response.id == request.id => Ok(answer),
            _ => Err(ConnectionError::Unexpected),
        }
    }

    async fn greet(&mut self, hello: &Hello) -> Result<HelloReply, ConnectionError> {
        let request = Request { id: HELLO_ID, deadline_ms: 0, body: RequestBody::Hello(hello.clone()) };
        match self.exchange(&request).await? {
            ResponseBody::Hello(reply) => Ok(reply),
            _ => Err(ConnectionError::Unexpected),
        }
    }
}
