//! The client's shared belief about the cluster: a [`RoutingTable`] that all connections feed and all operations ask, and
//! the signal that it changed.

use crate::connection::Observer;
use kvorum_client_core::ConnectionError;
use kvorum_client_core::routing::{Need, RoutingTable, Target};
use kvorum_protocol::{Epoch, NodeId, ServerError, ShardId, Topology};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub(crate) struct Directory {
    origin: Instant,
    table: Mutex<RoutingTable>,
    rng: Mutex<SmallRng>,
    /// The table's epoch, so that replies can be compared with it without taking the lock.
    epoch: AtomicU64,
    has_suspects: AtomicBool,
    /// Counts the table's changes; operations that wait for a leader watch it.
    changes: watch::Sender<u64>,
    /// A reply hinted that the topology is old. Many hints make one refresh.
    pub(crate) refresh_wanted: Notify,
}

impl Directory {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            origin: Instant::now(),
            table: Mutex::default(),
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
            epoch: AtomicU64::new(0),
            has_suspects: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            refresh_wanted: Notify::new(),
        }
    }

    /// The time since this client was made: the only clock that the pure parts ever see.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Draws from the client's source of randomness.
    pub(crate) fn with_rng<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    pub(crate) fn topology(&self) -> Option<Arc<Topology>> {
        self.table.lock().topology().cloned()
    }

    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.table.lock().leader(shard)
    }

    pub(crate) fn route(&self, need: Need) -> Target {
        let now = self.now();
        self.with_rng(|rng| self.table.lock().route(need, now, rng))
    }

    /// Sees every change of the table from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn handle_refusal(&self, need: Need, said_by: NodeId, error: &ServerError) {
        let Some(news) = self.table.lock().handle_refusal(need, said_by, error) else { return };
        if news {
            self.changed();
        }
        self.refresh_wanted.notify_one();
    }

    pub(crate) fn handle_failure(&self, node: NodeId) {
        self.suspect(|table, now| table.handle_failure(node, now));
    }

    /// There is no connection to a node.
    pub(crate) fn handle_unreachable(&self, node: NodeId, error: &ConnectionError) {
        self.suspect(|table, now| table.handle_unreachable(node, error, now));
    }

    /// Whether no node is left that has not failed lately.
    pub(crate) fn is_nobody_trusted(&self) -> bool {
        self.table.lock().is_nobody_trusted(self.now())
    }

    pub(crate) fn handle_answer(&self, node: NodeId) {
        if self.has_suspects.load(Ordering::Relaxed) {
            let mut table = self.table.lock();
            table.handle_answer(node, self.now());
            self.has_suspects.store(table.has_suspects(), Ordering::Relaxed);
        }
    }

    /// A node is about to stop.
    pub(crate) fn handle_leaving(&self, node: NodeId) {
        self.suspect(|table, now| table.handle_leaving(node, now));
    }

    /// Notes something that speaks against a node, and has the topology asked for anew.
    fn suspect(&self, note: impl FnOnce(&mut RoutingTable, Duration)) {
        let mut table = self.table.lock();
        note(&mut table, self.now());
        self.has_suspects.store(table.has_suspects(), Ordering::Relaxed);
        drop(table);
        self.refresh_wanted.notify_one();
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Observer for Directory {
    fn handle_topology(&self, topology: Topology) {
        let mut table = self.table.lock();
        let changed = table.handle_topology(topology);
        self.epoch.store(table.epoch().0, Ordering::Relaxed);
        self.has_suspects.store(table.has_suspects(), Ordering::Relaxed);
        drop(table);
        if changed {
            self.changed();
        }
    }

    fn handle_leaving(&self, node: NodeId) {
        Self::handle_leaving(self, node);
    }

    fn handle_reply(&self, epoch: Epoch, forwarded: bool) {
        if forwarded || epoch.0 > self.epoch.load(Ordering::Relaxed) {
            self.refresh_wanted.notify_one();
        }
    }
}
