//! Servers that speak TLS, and by which certificate a client is known there.
//!
//! A connection is dialled by an address, at the very bottom; who speaks TLS is known at the top, where servers are started. So it is noted
//! here, by port, for the whole process: all servers are started by it, each at ports of its own.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static SECURE: RwLock<Vec<(Range<u16>, TlsConnector)>> = RwLock::new(Vec::new());

/// Where certificates lie.
pub(crate) struct Certificates<'a> {
    /// The authority of the servers.
    pub(crate) authority: &'a Path,
    /// Of the client.
    pub(crate) certificate: &'a Path,
    /// Its key.
    pub(crate) key: &'a Path,
}

/// From now on, connections to these ports speak TLS.
///
/// # Errors
/// A file can't be read, or is none of certificates.
pub(crate) fn speak_tls(ports: Range<u16>, certificates: &Certificates<'_>) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    for authority in read(certificates.authority)? {
        roots.add(authority).map_err(io::Error::other)?;
    }
    let key = PrivateKeyDer::from_pem_file(certificates.key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
    let config = config.with_client_auth_cert(read(certificates.certificate)?, key).map_err(io::Error::other)?;
    let mut secure = SECURE.write().unwrap_or_else(PoisonError::into_inner);
    // Later servers may have the ports of earlier ones, which are gone.
    secure.retain(|(others, _)| *others != ports);
    secure.push((ports, Arc::new(config).into()));
    Ok(())
}

/// From now on, connections to these ports speak no TLS.
pub(crate) fn speak_plain(ports: &Range<u16>) {
    SECURE.write().unwrap_or_else(PoisonError::into_inner).retain(|(others, _)| others != ports);
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

fn connector_of(address: &str) -> Option<(TlsConnector, ServerName<'static>)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let secure = SECURE.read().unwrap_or_else(PoisonError::into_inner);
    let (_, connector) = secure.iter().find(|(ports, _)| ports.contains(&port))?;
    Some((connector.clone(), ServerName::try_from(host.to_owned()).ok()?))
}

/// A connection, whatever it speaks.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to an address.
    ///
    /// # Errors
    /// Nobody listens there, or TLS fails.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match connector_of(address) {
            None => Ok(Self::Plain(stream)),
            Some((connector, name)) => Ok(Self::Tls(Box::new(connector.connect(name, stream).await?))),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
