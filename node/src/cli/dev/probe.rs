//! Asks a node for the ring map, over a connection of its own. Smaller than the client library on purpose: it must not
//! retry, route or remember.

use bytes::BytesMut;
use kvorum_client::{Client, Tls};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::request::PROTOCOL_VERSION;
use kvorum_protocol::{
    ClientId, DecodeError, Hello, Request, RequestBody, RequestId, Response, ResponseBody, ServerError, Topology, frame,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// How long to wait between two questions.
pub(super) const PAUSE: Duration = Duration::from_millis(25);
/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer within {} ms", TIMEOUT.as_millis())]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("it closed the connection")]
    Closed,
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Client(#[from] kvorum_client::Error),
    #[error("it answered something else")]
    Unexpected,
}

/// The ring map of the node at an address, with the leaders that it knows of.
///
/// # Errors
/// Whatever keeps it from answering within half a second.
pub(super) async fn topology(address: &str, tls: Option<&Tls>) -> Result<Topology, ProbeError> {
    match tls {
        None => tokio::time::timeout(TIMEOUT, ask(address)).await?,
        Some(tls) => tokio::time::timeout(TIMEOUT, ask_encrypted(address, tls)).await?,
    }
}

/// By the library: this much TLS is not written twice.
async fn ask_encrypted(address: &str, tls: &Tls) -> Result<Topology, ProbeError> {
    let client = Client::builder().seeds([address]).tls(tls.clone()).name("kvorum dev").deadline(TIMEOUT);
    let topology = client.connect().await?.topology().await?;
    Ok(Topology::clone(&topology))
}

async fn ask(address: &str) -> Result<Topology, ProbeError> {
    let mut stream = TcpStream::connect(address).await?;
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features: 0,
        cluster: None,
        client: ClientId(Uuid::new_v4()),
        name: "kvorum dev".to_owned(),
    };
    // Pipelined: one write, two answers.
    let mut buffer = BytesMut::new();
    Request { id: RequestId(1), deadline_ms: 0, body: RequestBody::Hello(hello) }.encode(&mut buffer);
    Request { id: RequestId(2), deadline_ms: 0, body: RequestBody::Topology }.encode(&mut buffer);
    stream.write_all_buf(&mut buffer).await?;
    match receive(&mut stream, &mut buffer).await? {
        ResponseBody::Hello(_) => {}
        _ => return Err(ProbeError::Unexpected),
    }
    match receive(&mut stream, &mut buffer).await? {
        ResponseBody::Topology(topology) => Ok(topology),
        _ => Err(ProbeError::Unexpected),
    }
}

async fn receive(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<ResponseBody, ProbeError> {
    loop {
        if let Some(body) = frame::decode(buffer, FRAME_BYTES_MAX)? {
            return match Response::decode(body)?.body {
                ResponseBody::Error(error) => Err(error.into()),
                body => Ok(body),
            };
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(ProbeError::Closed);
        }
    }
}
