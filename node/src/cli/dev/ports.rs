//! Looks whether the ports of a cluster are free before anything starts, because a node can only say so in its log.

use crate::cli::init::DOORS;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// A port that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("port {} ({door} of {node}, {protocol}) {}", address.port(), reason(error))]
pub struct PortTaken {
    node: String,
    door: &'static str,
    protocol: &'static str,
    address: SocketAddr,
    error: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is in use: does this cluster run already? Otherwise stop what uses it, or name \
                                     another --dir and --base-port"
            .to_owned(),
        _ => format!("cannot be listened on: {error}"),
    }
}

/// Where a node is going to listen.
pub(super) struct Doors {
    pub(super) node: String,
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) http: Option<SocketAddr>,
    pub(super) resp: Option<SocketAddr>,
    pub(super) resp_cluster: Option<SocketAddr>,
}

impl Doors {
    /// Those of a node, as `Shape::doors` has them.
    pub(super) fn new(node: String, [client, peer, http, resp, cluster]: [SocketAddr; DOORS]) -> Self {
        Self { node, client, peer, http: Some(http), resp: Some(resp), resp_cluster: Some(cluster) }
    }
}

/// # Errors
/// The first port that is taken.
pub(super) fn check(doors: impl IntoIterator<Item = Doors>) -> Result<(), PortTaken> {
    for Doors { node, client, peer, http, resp, resp_cluster } in doors {
        let taken = |door, protocol, address, error| PortTaken { node: node.clone(), door, protocol, address, error };
        TcpListener::bind(client).map_err(|error| taken("binary door", "TCP", client, error))?;
        UdpSocket::bind(peer).map_err(|error| taken("peers", "UDP", peer, error))?;
        for (door, address) in [("HTTP door", http), ("RESP door", resp), ("RESP cluster door", resp_cluster)] {
            if let Some(address) = address {
                TcpListener::bind(address).map_err(|error| taken(door, "TCP", address, error))?;
            }
        }
    }
    Ok(())
}
