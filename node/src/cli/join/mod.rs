//! `kvorum join`: has this machine join a cluster by a token, and makes the folder of its node.
//!
//! It may be run again after it was interrupted: it goes on as the node that it began with, and is answered as before.

mod folder;

use self::folder::{JoinBegun, Newcomer};
use crate::auth::cert::CertError;
use crate::auth::issuer::SigningRequest;
use crate::cli::exit::Exit;
use crate::cli::init::{self, InitError, PORTS_PER_DOOR};
use crate::cli::say;
use crate::cli::start::{self, StartArgs, StartError};
use crate::config::{ConfigErrors, TlsDoors};
use crate::folder::FolderError;
use crate::peers::join::{JoinDialError, dial};
use kvorum_core::disk::DiskError;
use kvorum_core::ring::RingError;
use kvorum_core::ring::address::{is_address, is_unspecified};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{Admitted, ClusterId, JoinReply, JoinToken, NewNode, ParseTokenError};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long it is tried.
const TRY_FOR: Duration = Duration::from_secs(60);
/// How long until the next try.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Flags of `kvorum join`.
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// Where nodes of the cluster wait for their peers, separated by commas: any one that answers will do
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// The token, as CLUSTER TOKEN prints it. As a variable of the environment it does not show in the list of processes
    #[arg(long, value_name = "TOKEN", env = "KVORUM_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// The node's folder, new or empty: its configuration, its certificate and its data
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Its name; by default the token's, or one that the cluster gives it
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// Its failure zone; by default the token's, or one of its own
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,
    /// Where others reach it: a name or an IP address; by default the address from which this machine reaches the cluster
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// First port: it listens on this (binary door), this + 10 (peers), this + 20 (HTTP), this + 30 and this + 40 (RESP)
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    base_port: u16,
    /// Which of its doors speak TLS, as the other nodes' do: off, all, or a list of client, http, resp and resp_cluster
    #[arg(long, value_name = "DOORS", default_value = "off", value_parser = init::doors)]
    tls: TlsDoors,
    /// Run the node once it has joined
    #[arg(long)]
    run: bool,
}

/// Why the node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is none.
    #[error("--token: {0}")]
    Token(#[from] ParseTokenError),
    /// A flag makes no sense, or a file of the folder can't be read or written.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The folder is another cluster's node.
    #[error("{dir} holds a node of cluster {found}, and the token is of cluster {expected}: name another --data-dir")]
    OfAnotherCluster {
        /// The folder.
        dir: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The token's.
        expected: ClusterId,
    },
    /// The configuration in the folder is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Nobody has answered.
    #[error("{address}: {error}; run it again with the same folder")]
    Unreachable {
        /// Who was asked last.
        address: String,
        /// Why there was no answer.
        error: JoinDialError,
    },
    /// Who has answered is no node of the cluster.
    #[error("{address}: {error}")]
    Foreign {
        /// Who was asked.
        address: String,
        /// What is wrong with it.
        error: JoinDialError,
    },
    /// The cluster does not let the node in.
    #[error("the cluster does not let this node in: {0}")]
    Refused(String),
    /// The cluster could not say in time.
    #[error("{0}; run it again with the same folder")]
    Later(String),
    /// The answer contradicts itself, or the token.
    #[error("the cluster's answer can't be used: {0}")]
    Answer(&'static str),
    /// The ring map of the answer can't be used.
    #[error("the cluster's answer can't be used: {0}")]
    Ring(#[from] RingError),
    /// A certificate or key can't be made, read or written.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The data folder can't be made.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The data folder can't be written to.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system refuses what every process needs.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// It has joined, and did not start or has ended.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl JoinError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Token(_) => Exit::Usage,
            Self::Init(error) => error.exit(),
            Self::Folder(error) => error.exit(),
            Self::Start(error) => error.exit(),
            Self::OfAnotherCluster { .. }
            | Self::Config(_)
            | Self::Foreign { .. }
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::Ring(_) => Exit::Config,
            Self::Cert(_) => Exit::CannotCreate,
            Self::Disk(_) => Exit::Disk,
            Self::Unreachable { .. } | Self::Later(_) | Self::Process { .. } => Exit::Failure,
        }
    }
}

/// Joins, makes the folder, and says how to go on or runs the node.
///
/// # Errors
/// See [`JoinError`].
pub fn run(args: JoinArgs) -> Result<(), JoinError> {
    let token: JoinToken = args.token.parse()?;
    let config = match folder::finished(&args.data_dir, token.cluster)? {
        Some(config) => {
            say(format_args!("{} is a node of cluster {} already", args.data_dir.display(), token.cluster));
            config
        }
        None => join(&args, &token)?,
    };
    if args.run {
        return Ok(start::run(StartArgs::of(config))?);
    }
    say("start it with");
    say(format_args!("  kvorum start --config {}", config.display()));
    Ok(())
}

/// Joins, and returns where the node's configuration is.
fn join(args: &JoinArgs, token: &JoinToken) -> Result<PathBuf, JoinError> {
    let doors = doors(args)?;
    let begun = JoinBegun::open_or_begin(&args.data_dir, token)?;
    let node = NewNode {
        id: begun.node(),
        name: args.name.clone(),
        zone: args.zone.clone(),
        client: doors.client,
        peer: doors.peer,
        folder: begun.folder(),
        levels: Levels::OWN,
    };
    let signing_request = SigningRequest::make(begun.key_pem())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Process { what: "the runtime", error })?;
    let admitted = runtime.block_on(ask(&args.to, token, &node, &signing_request))?;
    drop(runtime);
    let node = Newcomer { begun: &begun, token, listen: doors.listen, base_port: args.base_port, doors: args.tls };
    let (name, config) = folder::write(&args.data_dir, &node, admitted)?;
    say(format_args!("this machine is {name} of cluster {}, in {}", token.cluster, args.data_dir.display()));
    Ok(config)
}

/// Asks one node after the other until one of them lets this node in, or refuses it.
async fn ask(to: &[String], token: &JoinToken, node: &NewNode, signing_request: &[u8]) -> Result<Admitted, JoinError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let mut last = JoinError::Answer("nobody was asked");
        for address in to {
            last = match dial(address, token, node.clone(), signing_request.to_vec().into()).await {
                Ok(JoinReply::Admitted(admitted)) => return Ok(*admitted),
                Ok(JoinReply::Refused(why)) => return Err(JoinError::Refused(why)),
                Ok(JoinReply::Later(why)) => JoinError::Later(why),
                Err(error) if error.may_pass() => JoinError::Unreachable { address: address.clone(), error },
                Err(error) => return Err(JoinError::Foreign { address: address.clone(), error }),
            };
        }
        if began.elapsed() >= TRY_FOR {
            return Err(last);
        }
        if !std::mem::replace(&mut told, true) {
            say(format_args!("not yet: {last}"));
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
}

/// Where the node is reached, and where it listens.
fn doors(args: &JoinArgs) -> Result<init::NewDoors, InitError> {
    let host = match &args.host {
        Some(host) => init::without_brackets(host),
        None => own_address(&args.to).unwrap_or_default(),
    };
    let flag = |flag, value: &str, allowed: &str| {
        let (value, allowed) = (value.to_owned(), allowed.to_owned());
        InitError::Flag { flag, value, allowed }
    };
    let last_port =
        args.base_port.checked_add((init::DOORS as u16 - 1) * PORTS_PER_DOOR).filter(|_| args.base_port > 0);
    if last_port.is_none() {
        return Err(flag(
            "base-port",
            &args.base_port.to_string(),
            "a port, with room for more 10, 20, 30 and 40 above it",
        ));
    }
    let port = |door: u16| args.base_port + door * PORTS_PER_DOOR;
    if !is_address(&init::address(&host, port(0))) || is_unspecified(&host) {
        return Err(flag("host", &host, "a name or an IP address at which others reach this node"));
    }
    let [client, peer] = [0, 1].map(|door| init::address(&host, port(door)));
    let listen = [0, 1, 2, 3, 4].map(|door| SocketAddr::new(init::listen_at(&host), port(door)));
    Ok(init::NewDoors { client, peer, listen })
}

/// The address from which this machine reaches one of the others. Nothing is sent.
fn own_address(to: &[String]) -> Option<String> {
    let of = |address: SocketAddr| -> io::Result<String> {
        let any: SocketAddr = match address.is_ipv4() {
            true => (Ipv4Addr::UNSPECIFIED, 0).into(),
            false => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    let mut addresses = to.iter().filter_map(|address| address.to_socket_addrs().ok()).flatten();
    addresses.find_map(|address| of(address).ok())
}
