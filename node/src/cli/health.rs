//! `kvorum health`: asks a node how it is doing. For containers without `curl`, and for people.

use super::say;
use super::start;
use crate::config::ConfigErrors;
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;

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
    let address = match args.address {
        Some(address) => address,
        None => door_of(args.config.as_deref())?,
    };
    let path = match (args.ready, args.live) {
        (true, _) => "/health/ready",
        (false, true) => "/health/live",
        (false, false) => "/health",
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HealthError::Process)?;
    let asked = async {
        let late = |_| HealthError::NoAnswer { address, detail: format!("nothing came within {} s", WITHIN.as_secs()) };
        tokio::time::timeout(WITHIN, ask(address, path)).await.map_err(late)?
    };
    let (is_well, text) = runtime.block_on(asked)?;
    say(text);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a node of this configuration is asked from its own machine.
fn door_of(config: Option<&std::path::Path>) -> Result<SocketAddr, HealthError> {
    let Some(path) = config else { return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 7420))) };
    let mut address = start::load(Some(path), Vec::new())?.http_listen.ok_or(HealthError::Off)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

async fn ask(address: SocketAddr, path: &str) -> Result<(bool, String), HealthError> {
    let stream = TcpStream::connect(address).await.map_err(|error| HealthError::Unreachable { address, error })?;
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
