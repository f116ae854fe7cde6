//! The doors through which clients come.

use super::registry::Registry;
use super::root::spawn_essential;
use super::{NodeError, StartContext};
use crate::config::Config;
use crate::doors::binary::BinaryDoor;
use crate::doors::commons::DoorCommons;
use crate::doors::http::{Api, Console, HttpDoor};
use crate::doors::inflow::Inflow;
use crate::doors::places::Places;
use crate::doors::resp::{RespDoor, RespMode, RespNode, RespOptions};
use crate::doors::tls::DoorTls;
use kvorum_core::limits::{DRAIN_TIMEOUT, STOP_ALONE_TIMEOUT};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Where clients will be served.
pub(super) struct Listeners {
    binary: TcpListener,
    http: Option<TcpListener>,
    resp: Vec<(RespMode, SocketAddr, TcpListener)>,
}

/// The open doors of a running node.
pub(super) struct ClientDoors {
    places: Arc<Places>,
    /// Asks clients to leave.
    drain: CancellationToken,
    /// Ends the connections.
    closed: CancellationToken,
}

impl ClientDoors {
    /// Takes the addresses at which clients will be served, so that a start fails early if another process has one.
    ///
    /// # Errors
    /// `Listen`.
    pub(super) async fn bind(config: &Config) -> Result<Listeners, NodeError> {
        let binary = listen("client_listen", config.client_listen).await?;
        let http = match config.http_listen {
            Some(address) => Some(listen("http_listen", address).await?),
            None => None,
        };
        let mut resp = Vec::new();
        for (mode, field, address) in [
            (RespMode::Standalone, "resp_listen", config.resp_listen),
            (RespMode::Cluster, "resp_cluster_listen", config.resp_cluster_listen),
        ] {
            if let Some(address) = address {
                resp.push((mode, address, listen(field, address).await?));
            }
        }
        Ok(Listeners { binary, http, resp })
    }

    /// Begins to serve clients.
    pub(super) fn open(context: &StartContext<'_>, registry: &Registry, listeners: Listeners) -> Self {
        let (drain, closed) = (CancellationToken::new(), CancellationToken::new());
        let (places, inflow) = (Arc::clone(&registry.places), Inflow::new());
        let commons = DoorCommons {
            places: Arc::clone(&places),
            inflow: Arc::clone(&inflow),
            counts: Arc::clone(registry.inspector.doors()),
            logins: Arc::clone(&registry.logins),
            drain: drain.clone(),
            stop: closed.clone(),
        };
        let inspector = &registry.inspector;
        let tls = DoorTls::new(Arc::clone(inspector.certificates()), Arc::clone(inspector.handshakes()));
        let encrypted = context.config.tls.doors;
        let of = |speaks_tls: bool| speaks_tls.then(|| tls.clone());
        let (sessions, topology) = (Arc::clone(&registry.sessions), registry.topology.clone());
        let binary = BinaryDoor::new(sessions, topology, commons.clone(), of(encrypted.client));
        let accepting = binary.accept(listeners.binary);
        spawn_essential("the clients' door", accepting, drain.clone(), context.fatal.clone());
        if !listeners.resp.is_empty() {
            let node = RespNode::new(
                Arc::clone(&registry.sessions),
                RespOptions {
                    announce: context.config.resp_cluster_announce.clone(),
                    splits_exec: context.config.resp_splits_exec,
                },
                commons,
            );
            let rights = Arc::clone(&node).follow_rights();
            spawn_essential("who may stay at the RESP doors", rights, drain.clone(), context.fatal.clone());
            let following = Arc::clone(&node).follow(registry.topology.clone());
            spawn_essential("the owners of slots", following, drain.clone(), context.fatal.clone());
            for (mode, address, listener) in listeners.resp {
                let speaks_tls = match mode {
                    RespMode::Standalone => encrypted.resp,
                    RespMode::Cluster => encrypted.resp_cluster,
                };
                let resp = RespDoor::new(Arc::clone(&node), mode, address, of(speaks_tls));
                spawn_essential("a RESP door", resp.accept(listener), drain.clone(), context.fatal.clone());
            }
        }
        if let Some(listener) = listeners.http {
            let console = Console::new(Arc::clone(&registry.inspector), context.config);
            let looking = Arc::clone(&console).run(drain.clone());
            spawn_essential("the console's figures", looking, drain.clone(), context.fatal.clone());
            let api = Api::new(
                Arc::clone(&registry.sessions),
                Arc::clone(&registry.inspector),
                Arc::clone(&registry.pressure),
                Arc::clone(&registry.logins),
                inflow,
                console,
                context.config.name.clone(),
            );
            let http = HttpDoor::new(api, Arc::clone(&places), of(encrypted.http), drain.clone(), closed.clone());
            spawn_essential("the HTTP door", http.accept(listener), drain.clone(), context.fatal.clone());
        }
        Self { places, drain, closed }
    }

    /// Takes no more clients, asks those that are there to leave, and waits until they have, but not for long.
    pub(super) async fn drain(&self) {
        self.drain.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT + STOP_ALONE_TIMEOUT, self.places.emptied()).await.is_err() {
            warn!(connections = self.places.taken(), "some clients did not leave in time");
        }
    }

    /// Ends the connections that are left.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen { field, address, source })
}
