//! Handshakes of clients: one way for all doors. A handshake has a bounded time and a bounded number of bytes. Each has its
//! connection's place and task already, so none keeps others from being accepted, and there are no more than places.

use super::accepting::linger;
use super::stream::{Bounded, DoorStream};
use crate::auth::certificates::{DoorKind, NodeCertificates};
use crate::auth::user_cert::UserCertificate;
use crate::runtime::system_clock;
use kvorum_core::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_LOG_INTERVAL, HANDSHAKE_TIMEOUT, LINGER_TIMEOUT};
use kvorum_core::measure::meter::Door;
use kvorum_core::rare::RareEach;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The first byte of a client that speaks TLS: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// How a handshake ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HandshakeEnd {
    /// The connection is encrypted.
    Done,
    /// The client does not speak TLS.
    Plain,
    /// It took too long.
    Late,
    /// The client's certificate is not taken.
    Certificate,
    /// The two ends have no version, cipher or protocol in common.
    NothingInCommon,
    /// The client does not trust the node's certificate, or says of something else that it is wrong.
    Alert,
    /// What the client sends is no handshake, or too long.
    Malformed,
    /// The client has gone.
    Gone,
}

impl HandshakeEnd {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Plain,
        Self::Late,
        Self::Certificate,
        Self::NothingInCommon,
        Self::Alert,
        Self::Malformed,
        Self::Gone,
    ];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Plain => "plain",
            Self::Late => "late",
            Self::Certificate => "certificate",
            Self::NothingInCommon => "nothing_in_common",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Gone => "gone",
        }
    }

    fn of(error: &io::Error) -> Self {
        use rustls::Error;
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Self::Certificate,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Self::NothingInCommon,
            Some(Error::AlertReceived(_)) => Self::Alert,
            Some(_) => Self::Malformed,
            None if error.kind() == io::ErrorKind::FileTooLarge => Self::Malformed,
            None => Self::Gone,
        }
    }
}

/// The handshakes of a node so far.
#[derive(Debug, Default)]
pub struct Handshakes {
    by_door: [[AtomicU64; HandshakeEnd::ALL.len()]; Door::OF_CLIENTS.len()],
    told: RareEach<HandshakeEnd>,
}

impl Handshakes {
    /// How many ended so at a door.
    pub fn ended(&self, door: Door, end: HandshakeEnd) -> u64 {
        self.by_door[door as usize][end as usize].load(Ordering::Relaxed)
    }

    /// Counts one, and tells of failures now and then: doors are open to strangers.
    fn note(&self, door: Door, end: HandshakeEnd, from: SocketAddr, why: &dyn std::fmt::Display) {
        self.by_door[door as usize][end as usize].fetch_add(1, Ordering::Relaxed);
        if end == HandshakeEnd::Done {
            return;
        }
        let (door, result) = (door.name(), end.name());
        match self.told.note(end, system_clock::monotonic(), HANDSHAKE_LOG_INTERVAL) {
            Some(times) => tracing::warn!(%from, door, result, times, error = %why, "a TLS handshake failed"),
            None => tracing::debug!(%from, door, result, error = %why, "a TLS handshake failed"),
        }
    }
}

/// How the doors of a node speak TLS. Clones mean the same.
#[derive(Clone)]
pub struct DoorTls {
    certificates: Arc<NodeCertificates>,
    handshakes: Arc<Handshakes>,
}

/// A client whose handshake is over.
pub(super) struct Arrived {
    pub(super) stream: DoorStream,
    /// Who it is, if its certificate says so.
    pub(super) certificate: Option<UserCertificate>,
}

impl Arrived {
    /// A client of a door that does not speak TLS.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { stream: DoorStream::Plain(socket), certificate: None }
    }
}

/// Where a client has come in.
#[derive(Clone, Copy)]
pub(super) struct CameIn<'a> {
    pub(super) door: Door,
    pub(super) from: SocketAddr,
    /// What a client hears that does not speak TLS, in what it speaks instead.
    pub(super) to_plain: &'a [u8],
}

impl DoorTls {
    /// With these certificates.
    pub fn new(certificates: Arc<NodeCertificates>, handshakes: Arc<Handshakes>) -> Self {
        Self { certificates, handshakes }
    }

    /// Has a client begin to speak TLS. `None`: it does not, and was told so where it can hear it.
    pub(super) async fn accept(&self, socket: TcpStream, came_in: CameIn<'_>) -> Option<Arrived> {
        let CameIn { door, from, .. } = came_in;
        let handshake = async {
            if !speaks_tls(&socket).await? {
                return Ok(Err(socket));
            }
            let acceptor = TlsAcceptor::from(self.certificates.in_force().door(kind(door)));
            acceptor.accept(Bounded::new(socket, HANDSHAKE_BYTES_MAX)).await.map(Ok)
        };
        // In a box, so that what only a handshake needs is gone with it.
        let (end, why): (_, Box<dyn std::fmt::Display + Send>) =
            match timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await {
                Ok(Ok(Ok(stream))) => {
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    match shown.map_or(Ok(None), |shown| UserCertificate::of(shown, self.certificates.cluster())) {
                        Ok(certificate) => {
                            self.handshakes.note(door, HandshakeEnd::Done, from, &"");
                            return Some(Arrived { stream: DoorStream::encrypted(stream), certificate });
                        }
                        Err(error) => (HandshakeEnd::Certificate, Box::new(error)),
                    }
                }
                Ok(Ok(Err(socket))) => {
                    self.handshakes.note(door, HandshakeEnd::Plain, from, &"the client does not speak TLS");
                    tell_plain(socket, came_in.to_plain).await;
                    return None;
                }
                Ok(Err(error)) => (HandshakeEnd::of(&error), Box::new(error)),
                Err(late) => (HandshakeEnd::Late, Box::new(late)),
            };
        self.handshakes.note(door, end, from, &why);
        None
    }
}

fn kind(door: Door) -> DoorKind {
    match door {
        Door::Http => DoorKind::Http,
        Door::Resp => DoorKind::Resp,
        Door::Binary | Door::Peer => DoorKind::Binary,
    }
}

/// Whether a client begins as one that speaks TLS does.
async fn speaks_tls(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 2];
    Ok(match socket.peek(&mut first).await? {
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        1 => first[0] == HANDSHAKE_RECORD,
        // The second byte is the major version. It tells a handshake from a frame of 22 bytes.
        _ => first == [HANDSHAKE_RECORD, 3],
    })
}

async fn tell_plain(socket: TcpStream, text: &[u8]) {
    let mut stream = DoorStream::Plain(socket);
    if matches!(timeout(LINGER_TIMEOUT, stream.write_all(text)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}

/// Has a client begin to speak TLS, where its door does. `None`: it has not, and is gone.
pub(super) async fn arrive(tls: Option<&DoorTls>, socket: TcpStream, came_in: CameIn<'_>) -> Option<Arrived> {
    match tls {
        None => Some(Arrived::plain(socket)),
        Some(tls) => Box::pin(tls.accept(socket, came_in)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Moved;
    use super::*;
    use crate::auth::cert::{ClusterAuthority, Identity};
    use crate::config::{TlsConfig, TlsDoors};
    use bytes::BytesMut;
    use kvorum_protocol::{ClusterId, NodeId};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use uuid::Uuid;

    /// A cluster's authority, and how its node speaks TLS.
    struct OneNode {
        authority: ClusterAuthority,
        cluster: ClusterId,
        tls: DoorTls,
        _folder: tempfile::TempDir,
    }

    impl OneNode {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let own = Identity { cluster: ClusterId(Uuid::new_v4()), node: NodeId(Uuid::new_v4()) };
            let authority = ClusterAuthority::create().unwrap();
            authority.issue(own.cluster, own.node, &["127.0.0.1".to_owned()]).unwrap().write(folder.path()).unwrap();
            let [ca, certificate, key] = ["ca.pem", "node.pem", "node.key"].map(|file| folder.path().join(file));
            let files = TlsConfig { ca, certificate, key, doors: TlsDoors::ALL };
            let tls = DoorTls::new(NodeCertificates::load(&files, own).unwrap(), Arc::default());
            Self { authority, cluster: own.cluster, tls, _folder: folder }
        }

        fn connector(&self, user: Option<(&ClusterAuthority, &str)>) -> TlsConnector {
            let mut roots = RootCertStore::empty();
            let of_node = self.tls.certificates.in_force();
            roots.add(of_node.identity().authorities()[0].clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let config = config.with_root_certificates(roots);
            let config = match user {
                Some((authority, user)) => {
                    let issued = authority.issue_user(self.cluster, user, None).unwrap();
                    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem().as_bytes()).unwrap();
                    let key = PrivateKeyDer::from_pem_slice(issued.key_pem().as_bytes()).unwrap();
                    config.with_client_auth_cert(vec![certificate], key).unwrap()
                }
                None => config.with_no_client_auth(),
            };
            Arc::new(config).into()
        }

        /// A client of the RESP door that shows the certificate of a user, and what has become of it at the other end.
        async fn meet(
            &self,
            user: Option<(&ClusterAuthority, &str)>,
        ) -> (io::Result<TlsStream<TcpStream>>, Option<Arrived>) {
            let (client, server, came_in) = sockets().await;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            tokio::join!(self.connector(user).connect(name, client), self.tls.accept(server, came_in))
        }

        fn ended(&self, end: HandshakeEnd) -> u64 {
            self.tls.handshakes.ended(Door::Resp, end)
        }
    }

    async fn sockets() -> (TcpStream, TcpStream, CameIn<'static>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, from) = listener.accept().await.unwrap();
        (client, server, CameIn { door: Door::Resp, from, to_plain: b"-ERR TLS only\r\n" })
    }

    #[tokio::test]
    async fn a_certificate_says_who_has_come_and_only_one_of_the_cluster() {
        let node = OneNode::new();
        let (client, arrived) = node.meet(Some((&node.authority, "ada"))).await;
        let client = client.unwrap();
        let arrived = arrived.unwrap();
        assert_eq!(arrived.certificate.unwrap().user, "ada");
        let binding = arrived.stream.binding().unwrap();
        let of_client = client.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
        assert_eq!(binding, of_client.unwrap(), "both ends have it in common");
        let (_client, arrived) = node.meet(None).await;
        let arrived = arrived.unwrap();
        assert_eq!(arrived.certificate, None);
        assert_ne!(arrived.stream.binding(), Some(binding), "and nobody else");
        let strange = ClusterAuthority::create().unwrap();
        assert!(node.meet(Some((&strange, "ada"))).await.1.is_none());
        assert_eq!([HandshakeEnd::Done, HandshakeEnd::Certificate].map(|end| node.ended(end)), [2, 1]);
    }

    #[tokio::test]
    async fn who_speaks_no_tls_is_told_and_who_says_too_much_is_not_listened_to() {
        let node = OneNode::new();
        let (mut client, server, came_in) = sockets().await;
        client.write_all(b"PING\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let (arrived, told) = tokio::join!(node.tls.accept(server, came_in), async {
            let mut told = String::new();
            client.read_to_string(&mut told).await.map(|_| told)
        });
        assert!(arrived.is_none());
        assert_eq!(told.unwrap(), "-ERR TLS only\r\n");

        let (mut client, server, came_in) = sockets().await;
        // Records that begin a message of 60,000 bytes, and do not end it.
        let mut records = Vec::new();
        for at in 0..8_u8 {
            records.extend([HANDSHAKE_RECORD, 3, 1, 0x20, 0]);
            let begin = if at == 0 { vec![1, 0, 0xea, 0x60] } else { Vec::new() };
            let rest = 0x2000 - begin.len();
            records.extend(begin);
            records.extend(std::iter::repeat_n(at, rest));
        }
        let sending = async {
            let _ = client.write_all(&records).await;
            client
        };
        let (arrived, _client) = tokio::join!(node.tls.accept(server, came_in), sending);
        assert!(arrived.is_none());

        let (client, server, came_in) = sockets().await;
        drop(client);
        assert!(node.tls.accept(server, came_in).await.is_none());
        let ends = [HandshakeEnd::Plain, HandshakeEnd::Malformed, HandshakeEnd::Gone].map(|end| node.ended(end));
        assert_eq!(ends, [1, 1, 1]);
    }

    const NOTHING: Option<&mut BytesMut> = None;

    #[tokio::test]
    async fn what_was_taken_leaves_though_the_socket_was_full() {
        let (client, arrived) = OneNode::new().meet(None).await;
        let (mut client, mut stream) = (client.unwrap(), arrived.unwrap().stream);
        let mut written = 0;
        let piece = [7; 64 * 1024];
        loop {
            match stream.try_write(&piece) {
                Ok(bytes) => written += bytes,
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(stream.holds_output(), "the last of it waits");
        let reading = tokio::spawn(async move {
            let mut read = vec![0; written];
            client.read_exact(&mut read).await.map(|_| client)
        });
        let mut nothing_more = BytesMut::new();
        while stream.holds_output() {
            assert_eq!(stream.exchange(None, Some(&mut nothing_more)).await.unwrap(), Moved::Written(0));
        }
        let mut client = reading.await.unwrap().expect("all of it has come");

        // The other way round, and the end.
        client.write_all(b"PING").await.unwrap();
        client.flush().await.unwrap();
        let mut input = BytesMut::new();
        assert_eq!(stream.exchange(Some(&mut input), NOTHING).await.unwrap(), Moved::Read(4));
        assert!(!stream.holds_input() && &input[..] == b"PING");
        drop(stream);
        let mut rest = [0];
        assert_eq!(client.read(&mut rest).await.unwrap(), 0, "it is said that this is the end");
    }

    #[tokio::test]
    async fn a_client_that_just_goes_has_ended() {
        let (client, arrived) = OneNode::new().meet(None).await;
        let mut stream = arrived.unwrap().stream;
        drop(client.unwrap().into_inner().0);
        assert_eq!(stream.exchange(Some(&mut BytesMut::new()), NOTHING).await.unwrap(), Moved::Read(0));
    }
}
