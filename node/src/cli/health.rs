//! `kvorum health`: asks a node how it is doing. For containers without `curl`, and for people.

use super::say;
use super::start;
use crate::auth::cert::Identity;
use crate::config::{Config, ConfigErrors};
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer is waited for.
const WITHIN: Duration = Duration::from_secs(4);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Flags of `kvorum health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Ask whether the node takes requests, not how it is doing
    #[arg(long, conflicts_with = "live")]
    ready: bool,
    /// Ask whether the process lives
    #[arg(long)]
    live: bool,
    /// Where the HTTP door is; by default where the configuration says, or 127.0.0.1:7420
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", env = "KVORUM_CONFIG")]
    config: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The configuration does not say where to ask.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The node has no HTTP door.
    #[error("http_listen is off: this node can't be asked")]
    Off,
    /// The node's authority can't be used.
    #[error("tls.ca: {0}")]
    Tls(String),
    /// The process could not be set up.
    #[error("can't set up the process: {0}")]
    Process(io::Error),
    /// The node can't be reached.
    #[error("can't reach the node at {address}: {error}")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The node does not answer as it should.
    #[error("the node at {address} does not answer: {detail}")]
    NoAnswer {
        /// Where it is.
        address: SocketAddr,
        /// What happened.
        detail: String,
    },
}

/// Prints what the node answers. Ends with 0 if it is well, and with 1 if not.
///
/// # Errors
/// There is no answer.
pub fn run(args: HealthArgs) -> Result<ExitCode, HealthError> {
    let config = args.config.as_deref().map(|path| start::load(Some(path), Vec::new())).transpose()?;
    let address = match args.address {
        Some(address) => address,
        None => door_of(config.as_ref())?,
    };
    let tls = config.as_ref().filter(|config| config.tls.doors.http).map(tls_of).transpose()?;
    let path = match (args.ready, args.live) {
        (true, _) => "/health/ready",
        (false, true) => "/health/live",
        (false, false) => "/health",
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HealthError::Process)?;
    let asked = async {
        let late = |_| HealthError::NoAnswer { address, detail: format!("nothing came within {} s", WITHIN.as_secs()) };
        tokio::time::timeout(WITHIN, ask(address, tls, path)).await.map_err(late)?
    };
    let (is_well, text) = runtime.block_on(asked)?;
    say(text);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a node of this configuration is asked from its own machine.
fn door_of(config: Option<&Config>) -> Result<SocketAddr, HealthError> {
    let Some(config) = config else { return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 7420))) };
    let mut address = config.http_listen.ok_or(HealthError::Off)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// How TLS is spoken with the node of this configuration, and the name that its certificate has.
fn tls_of(config: &Config) -> Result<(TlsConnector, ServerName<'static>), HealthError> {
    let unusable = |detail: String| HealthError::Tls(detail);
    let pem = std::fs::read(&config.tls.ca).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem) {
        let authority = authority.map_err(|error| unusable(error.to_string()))?;
        roots.add(authority).map_err(|error| unusable(error.to_string()))?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = Identity { cluster: config.cluster_id, node: config.node_id }.name();
    Ok((Arc::new(tls).into(), ServerName::try_from(name).map_err(|error| unusable(error.to_string()))?))
}

async fn ask(
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    path: &str,
) -> Result<(bool, String), HealthError> {
    let stream = TcpStream::connect(address).await.map_err(|error| HealthError::Unreachable { address, error })?;
    match tls {
        None => ask_on(stream, address, path).await,
        Some((connector, name)) => {
            let begun = connector.connect(name, stream).await;
            let failed = |error: io::Error| HealthError::NoAnswer { address, detail: error.to_string() };
            ask_on(begun.map_err(failed)?, address, path).await
        }
    }
}

async fn ask_on<S>(stream: S, address: SocketAddr, path: &str) -> Result<(bool, String), HealthError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let no_answer = |detail: String| HealthError::NoAnswer { address, detail };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_answer(error.to_string()))?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header(http::header::HOST, address.to_string());
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| no_answer(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| no_answer(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| no_answer(error.to_string()))?.to_bytes();
    Ok((status.is_success(), String::from_utf8_lossy(&body).into_owned()))
}
