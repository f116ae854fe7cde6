//! The node itself. For now it stands in for the real one: it answers HELLO, PING and TOPOLOGY, with every shard led by
//! one of the members in turn, so that everything around it can be built and tested.

use crate::cert::TlsIdentity;
use crate::config::Config;
use crate::exit::Exit;
use crate::identity::DataFolder;
use bytes::BytesMut;
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    Epoch, ErrorCode, HelloReply, NodeInfo, Request, RequestBody, Response, ResponseBody, ServerError, ShardInfo, Term,
    Topology, frame,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Why a node ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address can't be listened on.
    #[error("{field} {address}: {error}")]
    Listen {
        /// The configuration field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// An actor failed more often than the restart policy allows.
    #[error("{actor} failed too often: {reason}")]
    RestartIntensity {
        /// The actor.
        actor: String,
        /// Its last failure.
        reason: String,
    },
    /// A write or sync failed.
    #[error("disk: {0}")]
    Disk(String),
}

impl NodeError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            NodeError::Listen { .. } => Exit::Failure,
            NodeError::RestartIntensity { .. } => Exit::RestartIntensity,
            NodeError::Disk(_) => Exit::Disk,
        }
    }
}

/// Runs a node until `stop` is cancelled and everything in the data folder is synced; gives the folder back.
///
/// # Errors
/// What ended it early.
pub async fn run(
    config: Config,
    _tls: TlsIdentity,
    folder: DataFolder,
    stop: CancellationToken,
) -> Result<DataFolder, NodeError> {
    let address = config.client_listen;
    let listener = TcpListener::bind(address).await.map_err(|error| NodeError::Listen {
        field: "client_listen",
        address,
        error,
    })?;
    let config = Arc::new(config);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(folder),
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            let config = config.clone();
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &config).await {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        }
    }
}

async fn serve(mut stream: TcpStream, config: &Config) -> io::Result<()> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    while stream.read_buf(&mut input).await? > 0 {
        while let Some(body) = frame::decode(&mut input, FRAME_BYTES_MAX).map_err(invalid)? {
            answer(Request::decode(body).map_err(invalid)?, config).encode(&mut output);
        }
        stream.write_all_buf(&mut output).await?;
    }
    Ok(())
}

fn answer(request: Request, config: &Config) -> Response {
    let body = match request.body {
        RequestBody::Hello(hello) => ResponseBody::Hello(HelloReply {
            version: hello.version_max,
            features: 0,
            cluster: config.cluster_id,
            node: config.node_id,
            durability: config.durability,
            program: concat!("kvorum ", env!("CARGO_PKG_VERSION")).to_owned(),
        }),
        RequestBody::Ping(payload) => ResponseBody::Pong(payload),
        RequestBody::Topology => ResponseBody::Topology(topology(config)),
        _ => ResponseBody::Error(ServerError::new(ErrorCode::UnknownOperation, "not built yet")),
    };
    Response { id: request.id, epoch: Epoch(1), forwarded: false, body }
}

fn topology(config: &Config) -> Topology {
    let members = config.members.len();
    let shard = |shard: u16| ShardInfo {
        leader: Some(shard % members as u16),
        term: Term(1),
        replicas: (0..u16::from(config.replication_factor)).map(|replica| (shard + replica) % members as u16).collect(),
    };
    let node = |member: &crate::config::Member| NodeInfo {
        id: member.id,
        name: member.name.clone(),
        client_address: member.client.clone(),
        zone: member.zone.clone(),
    };
    Topology {
        epoch: Epoch(1),
        cluster: config.cluster_id,
        durability: config.durability,
        nodes: config.members.iter().map(node).collect(),
        shards: (0..config.shards).map(shard).collect(),
    }
}
