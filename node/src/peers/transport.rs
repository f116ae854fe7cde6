//! The QUIC endpoint: one UDP socket on which this node both dials and accepts, tuned for few, busy, long-lived streams.

use super::limits::{
    ACK_DELAY_MAX, CONNECTION_RECEIVE_WINDOW_BYTES, CONTROL_STREAMS_MAX, IDLE_TIMEOUT, INCOMING_HANDSHAKES_MAX,
    INITIAL_RTT, INITIAL_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, LANES, LOOPBACK_MTU_BYTES, MTU_BYTES_MAX, MTU_BYTES_MIN,
    SEND_WINDOW_BYTES, SOCKET_BUFFER_BYTES, STRANGER_RECEIVE_WINDOW_BYTES, STRANGER_STREAMS,
    STREAM_RECEIVE_WINDOW_BYTES, UNACKNOWLEDGED_PACKETS_MAX,
};
use super::tls::{self, TlsError};
use crate::auth::cert::{Identity, TlsIdentity};
use parking_lot::RwLock;
use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connecting, Connection, ConnectionId, ConnectionIdGenerator, Endpoint,
    EndpointConfig, Incoming, MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rand::RngCore;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// What the two ends agree to speak.
pub(super) const ALPN: &[u8] = b"kvorum-peer/1";

/// The endpoint with the two ways it is configured per connection: for loopback and for real networks.
pub(super) struct Transport {
    endpoint: Endpoint,
    mtu: Option<u16>,
    credentials: RwLock<PeerCredentials>,
    loopback: Arc<TransportConfig>,
    network: Arc<TransportConfig>,
}

/// How this node proves who it is, and whom it believes.
struct PeerCredentials {
    client: Arc<quinn::crypto::rustls::QuicClientConfig>,
    server_loopback: Arc<ServerConfig>,
    server_network: Arc<ServerConfig>,
}

impl PeerCredentials {
    fn new(identity: &TlsIdentity, mtu: Option<u16>) -> Result<Self, TlsError> {
        let server_crypto = Arc::new(tls::server(identity)?);
        let server = |transport: TransportConfig| {
            let mut config = ServerConfig::with_crypto(server_crypto.clone());
            config
                .transport_config(Arc::new(of_stranger(transport)))
                .max_incoming(2 * INCOMING_HANDSHAKES_MAX)
                .migration(false);
            Arc::new(config)
        };
        let loopback_mtu = Some(mtu.unwrap_or(LOOPBACK_MTU_BYTES));
        let (server_loopback, server_network) = (server(transport(loopback_mtu)), server(transport(mtu)));
        Ok(Self { client: Arc::new(tls::client(identity)?), server_loopback, server_network })
    }
}

impl Transport {
    /// Binds the socket. `mtu` is the UDP payload in bytes that the network between the nodes is known to carry; without
    /// it discovery starts at [`MTU_BYTES_MIN`]; beyond the limits it is taken for the nearest of them.
    pub(super) fn bind(listen: SocketAddr, identity: &TlsIdentity, mtu: Option<u16>) -> Result<Self, BindError> {
        let mtu = mtu.map(|mtu| mtu.clamp(MTU_BYTES_MIN, MTU_BYTES_MAX));
        let credentials = PeerCredentials::new(identity, mtu)?;
        let loopback = Arc::new(transport(Some(mtu.unwrap_or(LOOPBACK_MTU_BYTES))));
        let network = Arc::new(transport(mtu));
        let payload_max = mtu.unwrap_or(0).max(LOOPBACK_MTU_BYTES);
        let endpoint = Endpoint::new(
            endpoint_config(identity, payload_max),
            Some((*credentials.server_network).clone()),
            socket(listen)?,
            Arc::new(TokioRuntime),
        )?;
        Ok(Self { endpoint, mtu, credentials: RwLock::new(credentials), loopback, network })
    }

    /// Connections from here on are made with this identity. Those that are open stay as they are.
    pub(super) fn renew(&self, identity: &TlsIdentity) -> Result<(), TlsError> {
        *self.credentials.write() = PeerCredentials::new(identity, self.mtu)?;
        Ok(())
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Begins a connection to `address`, where only the node with that identity is accepted.
    pub(super) fn dial(&self, address: SocketAddr, expected: Identity) -> Result<Connecting, quinn::ConnectError> {
        let mut config = ClientConfig::new(self.credentials.read().client.clone());
        let transport = if address.ip().is_loopback() { &self.loopback } else { &self.network };
        config.transport_config(transport.clone());
        self.endpoint.connect_with(config, address, &expected.name())
    }

    /// Begins the handshake of a connection that came in.
    pub(super) fn accept(&self, incoming: Incoming) -> Result<Connecting, quinn::ConnectionError> {
        let loopback = incoming.remote_address().ip().is_loopback();
        let config = {
            let credentials = self.credentials.read();
            Arc::clone(if loopback { &credentials.server_loopback } else { &credentials.server_network })
        };
        incoming.accept_with(config)
    }
}

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The identity is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket can't be opened.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn socket(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    // The kernel silently grants what its own limit allows, and a smaller buffer is slower, not wrong.
    if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)
        .and_then(|()| rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES))
    {
        tracing::debug!(%error, "the UDP socket keeps its small buffers");
    }
    Ok(socket)
}

/// What somebody gets who has dialled, until it is known who that is.
fn of_stranger(mut config: TransportConfig) -> TransportConfig {
    config
        .receive_window(VarInt::from_u32(STRANGER_RECEIVE_WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(STRANGER_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS));
    config
}

/// Gives a peer that has dialled, and proved who it is, what peers have.
pub(super) fn is_peer(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_RECEIVE_WINDOW_BYTES));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(LANES));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(CONTROL_STREAMS_MAX));
}

/// `mtu`: known, and then used from the first packet, or to be discovered.
fn transport(mtu: Option<u16>) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    config
        .max_concurrent_uni_streams(VarInt::from_u32(LANES))
        .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("seconds fit QUIC's milliseconds")))
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(ack_frequency()))
        .congestion_controller_factory(Arc::new(congestion));
    match mtu {
        Some(mtu) => config.initial_mtu(mtu).min_mtu(mtu).mtu_discovery_config(None),
        None => config.initial_mtu(MTU_BYTES_MIN).mtu_discovery_config(Some(MtuDiscoveryConfig::default())),
    };
    config
}

/// An acknowledgement of its own costs as much as a message. Most ride along with the answers that consensus sends anyway.
fn ack_frequency() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_PACKETS_MAX)).max_ack_delay(Some(ACK_DELAY_MAX));
    config
}

/// A node that was killed and is back must be able to say so: a peer that still writes to the old connection gets a
/// stateless reset and redials at once, instead of after its idle timeout. For that, the key of the resets has to be the
/// same before and after, so it is derived from the node's own key.
fn endpoint_config(identity: &TlsIdentity, payload_bytes_max: u16) -> EndpointConfig {
    let node_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, identity.key().secret_der());
    let derived = ring::hmac::sign(&node_key, b"kvorum peer stateless reset");
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config
        .max_udp_payload_size(payload_bytes_max)
        .expect("the limits are within QUIC's")
        .cid_generator(|| Box::new(RandomConnectionIds));
    config
}

/// Quinn's own generator takes the connection ids of a previous process for noise and sends no reset for them.
struct RandomConnectionIds;

const CONNECTION_ID_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
