//! What a node does again and again: it ticks its shards, and looks at its disk.

use super::network::Network;
use super::registry::Registry;
use super::root::spawn_essential;
use super::storage::Storage;
use super::{NodeError, StartContext};
use crate::doors::peer::PeerDoor;
use crate::runtime::disk_loop::{self, WatchArguments};
use crate::runtime::system_clock;
use kvorum_core::routing::router::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The periodic tasks of a running node.
pub(super) struct Timers {
    stop: CancellationToken,
}

impl Timers {
    /// Starts the tasks. A disk that stalls for too long is reported as fatal.
    pub(super) fn start(context: &StartContext<'_>, registry: &Registry, storage: &Storage, network: &Network) -> Self {
        let (config, fatal) = (context.config, &context.fatal);
        let stop = CancellationToken::new();
        let watch = WatchArguments {
            router: Arc::clone(&registry.router),
            disk: Arc::clone(&storage.disk),
            journal: storage.journal.clone(),
            pressure: Arc::clone(&registry.pressure),
            headroom_bytes: config.disk_headroom_bytes,
        };
        let stalls = fatal.clone();
        let on_stall = move |stall| {
            // A full channel holds a reason already.
            let _ = stalls.try_send(NodeError::disk(stall));
        };
        let watching = disk_loop::run(watch, on_stall, stop.clone());
        spawn_essential("the watch of the disk", watching, stop.clone(), fatal.clone());
        let ticking = tick(Arc::clone(&registry.router), Arc::clone(&network.door), config.tick(), stop.clone());
        spawn_essential("the ticker", ticking, stop.clone(), fatal.clone());
        Self { stop }
    }

    /// Ends the tasks, soon after this returns.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Ticks every shard of the node, gives up forwarded requests whose time has passed, and goes on with snapshots.
async fn tick(router: Arc<Router>, peers: Arc<PeerDoor>, every: Duration, stop: CancellationToken) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return,
        }
        router.all_local().iter().for_each(|handle| handle.inbox.tick());
        router.give_up_late(system_clock::monotonic());
        peers.tick();
    }
}
