//! The doors through which clients come.

use super::registry::Registry;
use super::root::spawn_essential;
use super::{NodeError, StartContext};
use crate::doors::binary::BinaryDoor;
use kvorum_core::limits::{DRAIN_TIMEOUT, STOP_ALONE_TIMEOUT};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The open doors of a running node.
pub(super) struct ClientDoors {
    binary: Arc<BinaryDoor>,
    /// Asks clients to leave.
    drain: CancellationToken,
    /// Ends the connections.
    closed: CancellationToken,
}

impl ClientDoors {
    /// Takes the address at which clients will be served, so that a start fails early if another process has it.
    ///
    /// # Errors
    /// `Listen`.
    pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, NodeError> {
        let listen_error = |source| NodeError::Listen { field: "client_listen", address, source };
        TcpListener::bind(address).await.map_err(listen_error)
    }

    /// Begins to serve clients.
    pub(super) fn open(context: &StartContext<'_>, registry: &Registry, listener: TcpListener) -> Self {
        let (drain, closed) = (CancellationToken::new(), CancellationToken::new());
        let binary = BinaryDoor::new(
            Arc::clone(&registry.sessions),
            registry.topology.clone(),
            context.config.connections_max as usize,
            drain.clone(),
            closed.clone(),
        );
        registry.count_connections(&binary);
        let accepting = Arc::clone(&binary).accept(listener);
        spawn_essential("the clients' door", accepting, drain.clone(), context.fatal.clone());
        ClientDoors { binary, drain, closed }
    }

    /// Takes no more clients, asks those that are there to leave, and waits until they have, but not for long.
    pub(super) async fn drain(&self) {
        self.drain.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT + STOP_ALONE_TIMEOUT, self.binary.emptied()).await.is_err() {
            warn!(connections = self.binary.connections(), "some clients did not leave in time");
        }
    }

    /// Ends the connections that are left.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}
