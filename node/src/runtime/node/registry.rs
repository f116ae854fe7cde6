//! What all parts of a node share: the router, what the node is short of, and how it is doing.

use super::StartContext;
use super::error::NodeError;
use super::storage::Storage;
use crate::auth::certificates::NodeCertificates;
use crate::auth::login::Logins;
use crate::config::AuthMode;
use crate::doors::blocking_reads::BlockingReads;
use crate::doors::places::Places;
use crate::folder::DataFolder;
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::process::machine_memory_bytes;
use crate::runtime::status::{Inspector, Observed};
use crate::runtime::system_clock::SystemClock;
use kvorum_core::health::pressure::Pressure;
use kvorum_core::routing::router::Router;
use kvorum_core::routing::topology_news::TopologyNews;
use kvorum_core::session::SessionContext;
use kvorum_protocol::Authority;
use std::sync::Arc;
use tokio::sync::watch;

/// The values that parts of a node share. Nothing of it runs, so it has no stop.
pub(super) struct Registry {
    /// Who holds what and who leads it.
    pub(super) router: Arc<Router>,
    /// What the node is short of.
    pub(super) pressure: Arc<Pressure>,
    /// How the node is doing.
    pub(super) inspector: Arc<Inspector>,
    /// What lets clients in.
    pub(super) logins: Arc<Logins>,
    /// What sessions need of the node.
    pub(super) sessions: Arc<SessionContext>,
    /// The ring map with the leaders that are known, now and whenever it changes.
    pub(super) topology: watch::Receiver<Arc<TopologyNews>>,
    /// The places for clients' connections, whose number the status tells.
    pub(super) places: Arc<Places>,
}

impl Registry {
    /// The registry of a node whose storage is open.
    ///
    /// # Errors
    /// If nobody has signed the node's certificate, or the system gives no thread.
    pub(super) fn new(
        context: &StartContext<'_>,
        folder: &DataFolder,
        storage: &Storage,
        certificates: &Arc<NodeCertificates>,
    ) -> Result<Self, NodeError> {
        let config = context.config;
        let ring = storage.known_ring.as_ref().unwrap_or(&context.initial).clone();
        let router = Router::new(config.node_id, ring, Arc::new(SystemClock), storage.disk.fresh_number());
        if config.auth.mode == AuthMode::Required {
            router.auth().require();
        }
        if config.auth.insecure_open {
            router.auth().insist_on_open();
        }
        router.auth().limit_addresses(config.limits.rates);
        router.slow().set_slow_ms(config.slow_ms);
        let logins = Logins::new(Arc::clone(&router)).map_err(NodeError::Thread)?;
        let topology = topology_of(&router);
        let places = Places::new(config.connections_max as usize, config.limits.connections as usize);
        let pressure = Arc::new(Pressure::new(config.index_limit.bytes(machine_memory_bytes())));
        let doors = Arc::<DoorCounts>::default();
        let observed = Observed {
            name: config.name.clone(),
            http_port: config.http_listen.map_or(0, |listen| listen.port()),
            folder: folder.disk(),
            authority: Authority { cluster: config.cluster_id, hash: certificates.in_force().identity().authority()? },
            router: Arc::clone(&router),
            journal: storage.journal.clone(),
            pressure: Arc::clone(&pressure),
            places: Arc::clone(&places),
            doors: Arc::clone(&doors),
            certificates: Arc::clone(certificates),
            handshakes: Arc::default(),
            audit_tail: Arc::default(),
        };
        let inspector = Inspector::new(observed, context.stop.clone());
        let sessions = Arc::new(SessionContext {
            router: Arc::clone(&router),
            admin: Arc::clone(&inspector) as _,
            offload: Arc::new(BlockingReads::new()),
            fault_hooks: config.fault_hooks,
            meter: Arc::clone(&doors) as _,
        });
        Ok(Self { router, pressure, inspector, logins, sessions, topology, places })
    }
}

fn topology_of(router: &Router) -> watch::Receiver<Arc<TopologyNews>> {
    let (sender, receiver) = watch::channel(router.topology_news());
    router.set_topology_listener(Box::new(move |news| drop(sender.send_replace(Arc::clone(news)))));
    receiver
}
