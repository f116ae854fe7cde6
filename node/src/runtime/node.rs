//! The node: the root of the actor tree, what it is started with, and how it stops.
//!
//! ```text
//! root ─┬─ journal    one thread, one fsync stream; its failure ends the process
//!       ├─ peers      supervisor of one actor per other node
//!       ├─ shards     supervisor of one actor per shard replica, `meta` included
//!       ├─ meta       keeps the ring map
//!       ├─ control    presence, process groups, admin calls
//!       └─ doors      binary, peer
//! ```
//!
//! A node is made of parts. Each is a struct in a file of its own, which starts its actors, threads and tasks, and owns
//! their stop. The order of starting follows what needs what; stopping goes the other way round. Every child of the root
//! is essential: if one fails for good, the node ends with a clear reason and an exit code of its own, and whoever
//! started it decides.

mod client_doors;
mod error;
mod hand_over;
mod meta;
mod network;
mod registry;
mod root;
mod shards;
mod storage;
#[cfg(test)]
mod tests;
mod timers;

pub use error::NodeError;
pub use storage::{check_fixed, knows_ring};

use crate::auth::certificates::NodeCertificates;
use crate::config::Config;
use crate::folder::DataFolder;
use crate::traces::TraceExport;
use client_doors::ClientDoors;
use hand_over::hand_over;
use kvorum_core::health::fitness::Unfit;
use kvorum_core::ring::RingMap;
use kvorum_core::routing::router::Router;
use kvorum_core::sealing::NodeKeys;
use meta::{Meta, initial_ring};
use network::Network;
use ractor::{Actor, ActorCell};
use registry::Registry;
use root::Root;
use shards::Shards;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::Storage;
use timers::Timers;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Whoever notes failures is given so long to tell of the last ones.
const ROOT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that was told to stop, and has.
#[derive(Debug)]
pub struct StoppedNode {
    /// Its data folder.
    pub folder: DataFolder,
    /// Everything in it is synced.
    pub is_synced: bool,
}

/// Runs a node until `stop` is cancelled and what it has written is synced; gives the folder back.
///
/// # Errors
/// What ended it early.
pub async fn run(
    config: Config,
    certificates: Arc<NodeCertificates>,
    mut folder: DataFolder,
    keys: Arc<NodeKeys>,
    stop: CancellationToken,
) -> Result<StoppedNode, NodeError> {
    let (fatal, mut failed) = mpsc::channel(4);
    let (root, _) = Actor::spawn(Some(format!("node/{}", config.node_id)), Root, fatal.clone()).await?;
    let started = Node::start(
        &config,
        certificates,
        &mut folder,
        keys,
        Outer { root: root.get_cell(), fatal, stop: stop.clone() },
    )
    .await;
    let node = started.inspect_err(|_| root.stop(None))?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(reason) = failed.recv() => Err(reason),
    };
    match ended {
        Ok(()) => {
            info!("stopping: handing leadership over, then asking clients to leave");
            let mut stopping = Box::pin(node.stop());
            let stopped = tokio::select! {
                stopped = &mut stopping => stopped,
                Some(reason) = failed.recv() => {
                    // As below.
                    std::mem::forget(stopping);
                    return Err(reason);
                }
            };
            // By a message: the library hands over before it what the parts' actors have failed with as they stopped.
            let _ = root.drain_and_wait(Some(ROOT_DRAIN_TIMEOUT)).await;
            match failed.try_recv() {
                Ok(reason) => Err(reason),
                Err(_) => stopped.map(|is_synced| StoppedNode { folder, is_synced }),
            }
        }
        // Nothing is tidied up after a failure: recovery verifies what the disk holds. Not even the journal's thread is
        // waited for, which may never come back from a disk that stalls.
        Err(reason) => {
            std::mem::forget(node);
            Err(reason)
        }
    }
}

/// What each part is started with.
struct StartContext<'a> {
    config: &'a Config,
    /// What is sealed, and with which keys.
    keys: Arc<NodeKeys>,
    /// The map of a new cluster.
    initial: RingMap,
    /// The supervisor of the parts' actors.
    root: ActorCell,
    /// Takes what ends the node.
    fatal: mpsc::Sender<NodeError>,
    /// Stops the node.
    stop: CancellationToken,
}

/// What a node runs in.
struct Outer {
    root: ActorCell,
    fatal: mpsc::Sender<NodeError>,
    stop: CancellationToken,
}

/// The parts of a running node.
struct Node {
    router: Arc<Router>,
    storage: Storage,
    network: Network,
    shards: Shards,
    meta: Meta,
    timers: Timers,
    doors: ClientDoors,
}

impl Node {
    /// Starts one part after the other. If one of them can't be started, those before it are stopped, the newest first.
    async fn start(
        config: &Config,
        certificates: Arc<NodeCertificates>,
        folder: &mut DataFolder,
        keys: Arc<NodeKeys>,
        Outer { root, fatal, stop }: Outer,
    ) -> Result<Self, NodeError> {
        let listener = ClientDoors::bind(config).await?;
        let context = &StartContext { config, keys, initial: initial_ring(config)?, root, fatal, stop };
        let mut storage = Storage::open(context, folder).await?;
        let registry = Registry::new(context, folder, &storage, &certificates);
        let registry = or_stop(registry, storage.stop()).await?;
        let traces = TraceExport::begin(&registry.router, &config.traces, &config.name).map_err(NodeError::Traces);
        let traces = or_stop(traces, storage.stop()).await?;

        let network = Network::start(context, &registry, &storage, folder).await;
        let network = or_stop(network, storage.stop()).await?;

        let shards = Shards::start(context, &registry, &storage, folder).await;
        let stop_begun = async {
            network.stop();
            storage.stop().await
        };
        let mut shards = or_stop(shards, stop_begun).await?;

        let meta = Meta::start(context, &registry, &storage, folder, &network, &shards).await;
        let stop_begun = async {
            shards.stop().await;
            network.stop();
            storage.stop().await
        };
        let meta = or_stop(meta, stop_begun).await?;

        let timers = Timers::start(context, &registry, &storage, &network, traces);
        let doors = ClientDoors::open(context, &registry, listener);
        let or_off = |address: Option<SocketAddr>| address.map_or("off".to_owned(), |address| address.to_string());
        let (http, resp) = (or_off(config.http_listen), or_off(config.resp_listen));
        let resp_cluster = or_off(config.resp_cluster_listen);
        info!(client = %config.client_listen, peer = %config.peer_listen, http, resp, resp_cluster, "listening");
        Ok(Self { router: registry.router, storage, network, shards, meta, timers, doors })
    }

    /// Hands leadership over, answers what is under way, and syncs. In this order: while leadership moves, clients and peers
    /// ask as ever, and what they ask is held and passed on; then clients are asked to leave, and are served by the new
    /// leaders until they have; only then do the shards end, which vote and acknowledge up to there.
    ///
    /// Returns whether everything in the data folder is synced.
    ///
    /// # Errors
    /// As [`Storage::stop`].
    async fn stop(mut self) -> Result<bool, NodeError> {
        self.router.fitness().set(Unfit::Stopping, true);
        // Nobody is to hand anything back to this node from here on.
        self.network.door.tick();
        hand_over(&self.router).await;
        self.doors.drain().await;
        self.doors.close();
        self.timers.stop().await;
        self.shards.stop().await;
        // Whatever peers have passed on until here is back with them.
        self.network.stop();
        self.meta.stop();
        self.storage.stop().await?;
        // Until here: a disk that stalls while its journal is synced for the last time ends the node as ever.
        self.timers.end_watch();
        Ok(self.storage.is_synced().await)
    }
}

/// Stops what had begun, if the next part has not `started`. Why it has not is what counts, and a failure to stop adds
/// nothing to it.
async fn or_stop<T>(
    started: Result<T, NodeError>,
    begun: impl Future<Output = Result<(), NodeError>>,
) -> Result<T, NodeError> {
    if started.is_err() {
        let _ = begun.await;
    }
    started
}
