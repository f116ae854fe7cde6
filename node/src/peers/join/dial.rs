//! The end of the node that joins: reaches a node, checks by the token that it is one of the cluster's, asks, and reads the answer.

use super::pin::PinnedAuthority;
use super::{JOIN_ALPN, binding};
use crate::auth::proof;
use crate::peers::close::describe;
use crate::peers::limits::{HANDSHAKE_TIMEOUT, JOIN_TIMEOUT};
use crate::peers::tls;
use bytes::{Bytes, BytesMut};
use kvorum_protocol::join::PROOF_BYTES;
use kvorum_protocol::limits::{FRAME_HEADER_BYTES, JOIN_REPLY_BYTES_MAX};
use kvorum_protocol::{DecodeError, JoinReply, JoinRequest, JoinToken, NewNode, frame};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, VarInt};
use rustls::client::Resumption;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How much longer the answer is waited for than the other end gives itself.
const ANSWER_TIMEOUT: Duration = JOIN_TIMEOUT.saturating_add(Duration::from_secs(2));
/// Any name: whom the certificate names is checked by the token.
const SERVER_NAME: &str = "join.kvorum";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum JoinDialError {
    /// The address can't be resolved, or the socket can't be opened.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// Whoever is there is no node of the token's cluster. Nothing was sent to it.
    #[error("it is no node of the token's cluster: {0}")]
    Foreign(String),
    /// The connection failed, or was closed.
    #[error("{0}")]
    Connection(String),
    /// What it answers is no answer.
    #[error("its answer can't be read: {0}")]
    Answer(#[from] DecodeError),
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The library could not set the connection up.
    #[error("can't dial: {0}")]
    Setup(String),
}

impl JoinDialError {
    /// Whether asking the same node again may help.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Foreign(_) | Self::Setup(_))
    }
}

/// Asks the node at `address` whether `node` may join by `token`, with the key of `signing_request`.
///
/// # Errors
/// See [`JoinDialError`]. Whether the node has joined is not known then: asking again with the same node and key is answered alike.
pub async fn dial(
    address: &str,
    token: &JoinToken,
    node: NewNode,
    signing_request: Bytes,
) -> Result<JoinReply, JoinDialError> {
    let addresses: Vec<SocketAddr> = timeout(HANDSHAKE_TIMEOUT, tokio::net::lookup_host(address))
        .await
        .map_err(|_| JoinDialError::Timeout)??
        .collect();
    // A name may have addresses of a family that this machine, or the node, does not use.
    let mut last = JoinDialError::NoAddress;
    for address in addresses {
        match connect(address, token, JOIN_ALPN).await {
            Ok((endpoint, connection)) => {
                let asked = timeout(ANSWER_TIMEOUT, ask(&connection, token, node, signing_request)).await;
                connection.close(VarInt::from_u32(0), b"");
                let _ = timeout(HANDSHAKE_TIMEOUT, endpoint.wait_idle()).await;
                return asked.unwrap_or(Err(JoinDialError::Timeout));
            }
            Err(error @ JoinDialError::Foreign(_)) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `alpn`: [`JOIN_ALPN`], but in tests.
pub(super) async fn connect(
    address: SocketAddr,
    token: &JoinToken,
    alpn: &[u8],
) -> Result<(Endpoint, Connection), JoinDialError> {
    let own: SocketAddr = match address.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(own)?;
    let connecting = endpoint
        .connect_with(client(token, alpn)?, address, SERVER_NAME)
        .map_err(|error| JoinDialError::Setup(error.to_string()))?;
    match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Err(_) => Err(JoinDialError::Timeout),
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        // This end found fault with the certificate.
        Ok(Err(ConnectionError::TransportError(error))) => Err(JoinDialError::Foreign(error.reason)),
        Ok(Err(error)) => Err(JoinDialError::Connection(describe(&error))),
    }
}

fn client(token: &JoinToken, alpn: &[u8]) -> Result<ClientConfig, JoinDialError> {
    let setup = |error: String| JoinDialError::Setup(error);
    let provider = tls::provider();
    let verifier = PinnedAuthority { cluster: token.cluster, authority: token.authority, provider: provider.clone() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(config).map_err(|error| setup(error.to_string()))?;
    Ok(ClientConfig::new(Arc::new(crypto)))
}

async fn ask(
    connection: &Connection,
    token: &JoinToken,
    node: NewNode,
    signing_request: Bytes,
) -> Result<JoinReply, JoinDialError> {
    let lost = |error: &dyn std::fmt::Display| match connection.close_reason() {
        Some(closed) => JoinDialError::Connection(describe(&closed)),
        None => JoinDialError::Connection(error.to_string()),
    };
    let unsigned = JoinRequest { token: token.id, node, signing_request, proof: [0; PROOF_BYTES] };
    let binding = binding(connection).map_err(|_| JoinDialError::Setup("the connection gives no keys".to_owned()))?;
    let request = JoinRequest { proof: proof::sign(&unsigned, &token.secret, &binding), ..unsigned };
    let mut out = BytesMut::new();
    frame::encode(&mut out, |out| request.encode(out));
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    send.write_chunk(out.freeze()).await.map_err(|error| lost(&error))?;
    // A stream that the other end has given up says so when it is read.
    let _ = send.finish();
    let read = receive.read_to_end(FRAME_HEADER_BYTES + JOIN_REPLY_BYTES_MAX).await;
    let mut buffer = BytesMut::from(&*read.map_err(|error| lost(&error))?);
    let body = frame::decode(&mut buffer, JOIN_REPLY_BYTES_MAX)?.ok_or(DecodeError::Truncated)?;
    Ok(JoinReply::from_bytes(body)?)
}
