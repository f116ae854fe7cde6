//! The certificates that are in force on this node, for its peers and for the doors of clients, and how they are exchanged while the
//! node runs.
//!
//! The three files of `[tls]` are read again every 30 s, on SIGHUP, and when an operator asks. Only a set that belongs together, and is
//! this node's, comes into force. Else the old one stays, and an alarm is on until the files are sound again. Connections that are
//! open stay as they are.

use super::cert::{CertError, Identity, NodeCertificate, TlsIdentity};
use super::user_cert::CertificateView;
use crate::config::TlsConfig;
use kvorum_protocol::request::CLIENT_ALPN;
use kvorum_protocol::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why the certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadTlsError {
    /// A file can't be read.
    #[error("{field}: {path}: {error}")]
    Unreadable {
        /// The configuration field that names it.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("tls: {0}")]
    Unusable(#[from] CertError),
    /// TLS can't be spoken with it.
    #[error("tls: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities are unusable.
    #[error("tls.ca: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// The certificate is another node's.
    #[error(
        "tls.certificate: {path} is the certificate of node {node} in cluster {cluster}, not of this one ({expected})"
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The node that it names.
        node: NodeId,
        /// The cluster that it names.
        cluster: ClusterId,
        /// The node of the configuration.
        expected: NodeId,
    },
}

/// What is spoken at a door over TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DoorKind {
    /// Kvorum's own protocol.
    Binary,
    /// HTTP.
    Http,
    /// RESP, standalone or cluster.
    Resp,
}

static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl DoorKind {
    const ALL: [Self; 3] = [Self::Binary, Self::Http, Self::Resp];

    /// The versions of TLS. Our own clients need no old one.
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Binary => TLS13,
            Self::Http | Self::Resp => rustls::ALL_VERSIONS,
        }
    }

    /// What a client may say that it speaks, the best first. Whoever says something else is sent away: it has come to the wrong door.
    fn protocols(self) -> Vec<Vec<u8>> {
        let protocols: &[&[u8]] = match self {
            Self::Binary => &[CLIENT_ALPN],
            Self::Http => &[b"h2", b"http/1.1"],
            Self::Resp => &[],
        };
        protocols.iter().map(|protocol| protocol.to_vec()).collect()
    }
}

/// A sound set of certificates.
pub struct InForce {
    identity: TlsIdentity,
    doors: [Arc<ServerConfig>; DoorKind::ALL.len()],
    own: CertificateView,
    texts: Texts,
}

impl InForce {
    /// The node's certificate and key, and the authorities.
    pub fn identity(&self) -> &TlsIdentity {
        &self.identity
    }

    /// How a door accepts connections.
    pub fn door(&self, kind: DoorKind) -> Arc<ServerConfig> {
        Arc::clone(&self.doors[kind as usize])
    }

    /// What the node's certificate says.
    pub fn own(&self) -> &CertificateView {
        &self.own
    }
}

/// What stands in the files.
type Texts = [String; 3];

/// The certificates of a running node.
pub struct NodeCertificates {
    files: TlsConfig,
    own: Identity,
    in_force: RwLock<Arc<InForce>>,
    /// Why the files are not in force, if they are not.
    refused: Mutex<Option<String>>,
    exchanged: AtomicU64,
    refusals: AtomicU64,
    changes: watch::Sender<u64>,
}

impl NodeCertificates {
    /// Reads the files of a node that starts.
    ///
    /// # Errors
    /// See [`LoadTlsError`].
    pub fn load(files: &TlsConfig, own: Identity) -> Result<Arc<Self>, LoadTlsError> {
        let in_force = RwLock::new(Arc::new(make(files, own, read(files)?)?));
        let (files, refused, changes) = (files.clone(), Mutex::default(), watch::Sender::new(0));
        let (exchanged, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Self { files, own, in_force, refused, exchanged, refusals, changes }))
    }

    /// Those of a node that has no files, for tests.
    #[cfg(test)]
    pub(crate) fn of(issued: NodeCertificate, own: Identity) -> Arc<Self> {
        let doors = crate::config::TlsDoors::default();
        let [ca, certificate, key] = ["ca.pem", "node.pem", "node.key"].map(PathBuf::from);
        let files = TlsConfig { ca, certificate, key, doors };
        let texts = [issued.authority_pem, issued.certificate_pem, issued.key_pem];
        let in_force = RwLock::new(Arc::new(make(&files, own, texts).expect("they belong together")));
        let (refused, changes) = (Mutex::default(), watch::Sender::new(0));
        let (exchanged, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { files, own, in_force, refused, exchanged, refusals, changes })
    }

    /// Those that are in force.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read())
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.own.cluster
    }

    /// Hears whenever others are in force.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the files can't be used, so that older ones are still in force.
    pub fn is_refused(&self) -> bool {
        self.refused.lock().is_some()
    }

    /// How often others came into force, and how often some were refused.
    pub fn exchanged_and_refused(&self) -> (u64, u64) {
        (self.exchanged.load(Ordering::Relaxed), self.refusals.load(Ordering::Relaxed))
    }

    /// Reads the files again. Returns whether others are in force. Blocks for a moment.
    ///
    /// # Errors
    /// Why they are not used: those that were in force stay.
    pub fn reload(&self) -> Result<bool, LoadTlsError> {
        // One at a time: what was read last is in force last.
        let mut refused = self.refused.lock();
        let made = read(&self.files).and_then(|texts| {
            let is_news = texts != self.in_force.read().texts;
            is_news.then(|| make(&self.files, self.own, texts)).transpose()
        });
        match made {
            Ok(made) => {
                if refused.take().is_some() {
                    tracing::info!("the files of certificates are sound again");
                }
                let Some(made) = made else { return Ok(false) };
                let serial = kvorum_protocol::hexadecimal::encode(&made.own.serial);
                tracing::info!(
                    serial,
                    authorities = made.identity.authorities().len(),
                    "other certificates are in force"
                );
                *self.in_force.write() = Arc::new(made);
                let exchanged = self.exchanged.fetch_add(1, Ordering::Relaxed) + 1;
                self.changes.send_replace(exchanged);
                Ok(true)
            }
            Err(error) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                let text = error.to_string();
                // Every 30 s the same would be said.
                if refused.as_ref() != Some(&text) {
                    tracing::error!(%error, "the certificates were refused; those from before stay in force");
                }
                *refused = Some(text);
                Err(error)
            }
        }
    }

    /// Looks at the files now and then, and at each SIGHUP, until `stop` is cancelled. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The signal can't be listened for.
    pub fn follow(self: Arc<Self>, stop: CancellationToken) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    _ = hangup.recv() => tracing::info!("SIGHUP: reads the certificates again"),
                    () = stop.cancelled() => return,
                }
                let certificates = Arc::clone(&self);
                // It says itself what becomes of it.
                let _ = tokio::task::spawn_blocking(move || certificates.reload().is_ok()).await;
            }
        })
    }
}

fn read(files: &TlsConfig) -> Result<Texts, LoadTlsError> {
    let text = |field, path: &Path| {
        std::fs::read_to_string(path).map_err(|error| LoadTlsError::Unreadable { field, path: path.to_owned(), error })
    };
    Ok([text("tls.ca", &files.ca)?, text("tls.certificate", &files.certificate)?, text("tls.key", &files.key)?])
}

/// Makes sure that the texts belong together and are this node's: a node under a wrong certificate would be turned away by each of its
/// peers, in their logs and not in its own.
fn make(files: &TlsConfig, own: Identity, texts: Texts) -> Result<InForce, LoadTlsError> {
    let [authority_pem, certificate_pem, key_pem] = texts.clone();
    let identity = TlsIdentity::from_pem(&NodeCertificate { authority_pem, certificate_pem, key_pem })?;
    let found = identity.identity();
    if found != own {
        let path = files.certificate.clone();
        let (node, cluster, expected) = (found.node, found.cluster, own.node);
        return Err(LoadTlsError::NotOurs { path, node, cluster, expected });
    }
    identity.check()?;
    let of_own = CertificateView::of(&identity.chain()[0])?;
    let [binary, http, resp] = DoorKind::ALL.map(|kind| door_config(&identity, kind));
    Ok(InForce { doors: [binary?, http?, resp?], own: of_own, identity, texts })
}

/// How a door accepts: the client may show a certificate, and if it does, an authority of the cluster has signed it.
fn door_config(identity: &TlsIdentity, kind: DoorKind) -> Result<Arc<ServerConfig>, LoadTlsError> {
    let mut roots = RootCertStore::empty();
    for authority in identity.authorities() {
        roots.add(authority.clone())?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).allow_unauthenticated().build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(kind.versions())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = kind.protocols();
    // Ours is the better one of two orders, for all are good: a scanner could not tell else.
    config.ignore_client_order = true;
    // A session that is taken up again would bring its certificate along unseen: it may be denied by now, or its authority gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    // Named, not the process default: another dependency may bring a second provider, and then there is none.
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cert::{ClusterAuthority, NODE_CERTIFICATE_FILE};
    use uuid::Uuid;

    fn files(directory: &Path) -> TlsConfig {
        let file = |name: &str| directory.join(name);
        let doors = crate::config::TlsDoors::default();
        TlsConfig { ca: file("ca.pem"), certificate: file(NODE_CERTIFICATE_FILE), key: file("node.key"), doors }
    }

    #[test]
    fn sound_files_come_into_force_and_others_leave_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let own = Identity { cluster: ClusterId(Uuid::from_u128(9)), node: NodeId(Uuid::from_u128(1)) };
        let authority = ClusterAuthority::create().unwrap();
        let issue = |node| authority.issue(own.cluster, node, &[]).unwrap();
        issue(own.node).write(folder.path()).unwrap();
        let certificates = NodeCertificates::load(&files(folder.path()), own).unwrap();
        let changes = certificates.changes();
        let serial = || certificates.in_force().own().serial.clone();
        let first = serial();
        assert!(!certificates.reload().unwrap(), "nothing has changed");

        let next = issue(own.node);
        std::fs::write(folder.path().join("node.pem"), &next.certificate_pem).unwrap();
        let refused = certificates.reload().unwrap_err().to_string();
        assert!(refused.contains("its key do not belong together"), "half-way through being exchanged: {refused}");
        assert!(certificates.is_refused() && !changes.has_changed().unwrap());
        assert_eq!((serial(), certificates.exchanged_and_refused()), (first.clone(), (0, 1)));

        next.write(folder.path()).unwrap();
        assert!(certificates.reload().unwrap());
        assert!(!certificates.is_refused() && changes.has_changed().unwrap());
        assert_ne!(serial(), first);

        issue(NodeId(Uuid::from_u128(2))).write(folder.path()).unwrap();
        assert!(matches!(certificates.reload(), Err(LoadTlsError::NotOurs { .. })));
        std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
        assert!(matches!(certificates.reload(), Err(LoadTlsError::Unreadable { field: "tls.ca", .. })));
        next.write(folder.path()).unwrap();
        assert!(!certificates.reload().unwrap() && !certificates.is_refused(), "those in force are there again");
    }
}
