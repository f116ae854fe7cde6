//! TLS towards the nodes: whom the client believes, and how it proves who it is.

use kvorum_client_core::Error;
use kvorum_protocol::request::CLIENT_ALPN;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A name that every node's certificate has.
const NODE_NAME: &str = "node.kvorum";

/// How a client speaks TLS (1.3) with the nodes: `kvs://` instead of `kv://`.
///
/// A node has to prove that one of the cluster's authorities calls it a node, or by the name of the host that was dialled. The
/// certificate of a user is no node's.
#[derive(Clone)]
pub struct Tls {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Tls {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, shows) = (self.authorities.len(), self.identity.is_some());
        write!(f, "Tls({authorities} authorities, shows a certificate: {shows})")
    }
}

fn invalid(detail: impl fmt::Display) -> Error {
    Error::InvalidArgument(detail.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| invalid(format_args!("{}: {error}", path.display())))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| invalid(format_args!("not certificates in PEM: {error}")))?;
    if found.is_empty() { Err(invalid("there is no certificate in PEM")) } else { Ok(found) }
}

impl Tls {
    /// Believes nodes that one of these authorities (PEM) has signed: the cluster's `ca.pem`.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn new(authorities_pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        Ok(Self { authorities: certificates(authorities_pem.as_ref())?, identity: None, server_name: None })
    }

    /// The same with the authorities of a file, which is read now.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn from_file(authorities: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(read(authorities.as_ref())?)
    }

    /// Shows this certificate, in PEM, with its key: the client is the user that it names.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn certificate(mut self, certificate_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_ref());
        let key = key.map_err(|error| invalid(format_args!("not a private key in PEM: {error}")))?;
        self.identity = Some(Arc::new((certificates(certificate_pem.as_ref())?, key)));
        Ok(self)
    }

    /// The same with the files of a certificate and its key, which are read now.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn certificate_files(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        self.certificate(read(certificate.as_ref())?, read(key.as_ref())?)
    }

    /// Wants this name in the nodes' certificates, and no other one.
    ///
    /// # Errors
    /// `InvalidArgument` for what is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, Error> {
        let name = ServerName::try_from(name.to_owned());
        self.server_name = Some(name.map_err(|_| invalid("the server name is neither a DNS name nor an IP address"))?);
        Ok(self)
    }

    /// What dials nodes.
    ///
    /// # Errors
    /// `InvalidArgument` for what does not belong together.
    pub(crate) fn dialler(&self) -> Result<Dialler, Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(invalid)?;
        }
        // Named, not the process default: that is the program's.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chains = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let verifier = NodeVerifier { chains: chains.build().map_err(invalid)?, any_node: self.server_name.is_none() };
        let config = with_provider(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.identity.as_deref() {
            Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(invalid)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![CLIENT_ALPN.to_vec()];
        // Connections are few and long, and nodes take no session up again.
        config.resumption = Resumption::disabled();
        Ok(Dialler { connector: Arc::new(config).into(), server_name: self.server_name.clone() })
    }
}

fn with_provider(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).map_err(invalid)
}

/// Begins to speak TLS on connections.
#[derive(Clone)]
pub(crate) struct Dialler {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

impl Dialler {
    /// Speaks TLS with the node that was dialled at `host:port`.
    pub(crate) async fn begin(&self, address: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let dialled =
            || ServerName::try_from(host.to_owned()).unwrap_or(ServerName::try_from(NODE_NAME).expect("a name"));
        let name = self.server_name.clone().unwrap_or_else(dialled);
        self.connector.connect(name, socket).await.map_err(explained)
    }
}

/// An error in words that say what to do about it, where that is known.
fn explained(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => {
            let text = "the node does not speak TLS at this address: kv:// instead of kvs://";
            io::Error::new(error.kind(), text)
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            io::Error::new(error.kind(), "another authority has signed the node's certificate")
        }
        _ => error,
    }
}

/// What both ends of a connection alone have in common (RFC 9266).
pub(crate) fn binding(stream: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    stream.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// Believes a certificate with the name that was dialled, or of any node of the cluster.
#[derive(Debug)]
struct NodeVerifier {
    chains: Arc<WebPkiServerVerifier>,
    any_node: bool,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name| self.chains.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        match verify(server_name) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_node => verify(&ServerName::try_from(NODE_NAME).expect("it is a name")),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
