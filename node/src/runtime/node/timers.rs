//! What a node does again and again: it ticks its shards, and looks at its disk.

use super::network::Network;
use super::registry::Registry;
use super::root::{if_panics, spawn_essential};
use super::storage::Storage;
use super::{NodeError, StartContext};
use crate::audit::file::AuditFile;
use crate::auth::certificates::NodeCertificates;
use crate::auth::login::Logins;
use crate::doors::peer::PeerDoor;
use crate::peers::Peers;
use crate::runtime::audit_writer;
use crate::runtime::disk_loop::{self, WatchArguments};
use crate::runtime::system_clock;
use crate::traces::{LAST_WITHIN, TraceExport};
use kvorum_core::routing::router::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a node that stops waits for the last lines of the audit log.
const AUDIT_WITHIN: Duration = Duration::from_secs(2);

/// The periodic tasks of a running node.
pub(super) struct Timers {
    stop: CancellationToken,
    /// Ends the watch of the disk.
    stop_watch: CancellationToken,
    /// Writes the audit log.
    audit: Option<JoinHandle<()>>,
    /// Sends traces.
    traces: Option<JoinHandle<()>>,
}

impl Timers {
    /// Starts the tasks. A disk that stalls for too long is reported as fatal.
    pub(super) fn start(
        context: &StartContext<'_>,
        registry: &Registry,
        storage: &Storage,
        network: &Network,
        traces: Option<TraceExport>,
    ) -> Self {
        let (config, fatal) = (context.config, &context.fatal);
        let (stop, stop_watch) = (CancellationToken::new(), CancellationToken::new());
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
        let panicked = if_panics("the watch of the disk", fatal);
        if let Err(error) = disk_loop::start(watch, on_stall, stop_watch.clone(), panicked) {
            let _ = fatal.try_send(NodeError::Thread(error));
        }
        let ticking = tick(Arc::clone(&registry.router), Arc::clone(&network.door), config.tick(), stop.clone());
        spawn_essential("the ticker", ticking, stop.clone(), fatal.clone());
        match Arc::clone(registry.inspector.certificates()).follow(stop.clone()) {
            Ok(following) => spawn_essential("the files of certificates", following, stop.clone(), fatal.clone()),
            Err(error) => tracing::error!(%error, "certificates are not exchanged while this node runs"),
        }
        let renewing = renew(Arc::clone(registry.inspector.certificates()), network.peers.clone(), stop.clone());
        spawn_essential("the certificate towards peers", renewing, stop.clone(), fatal.clone());
        let denying = deny(Arc::clone(&registry.logins), network.peers.clone(), stop.clone());
        spawn_essential("the denied certificates of peers", denying, stop.clone(), fatal.clone());
        let audit = config.audit.clone().map(|target| {
            let writing = audit_writer::run(
                Arc::clone(&registry.router),
                AuditFile::new(target, config.name.clone()),
                Arc::clone(registry.inspector.audit_tail()),
                stop.clone(),
            );
            tokio::spawn(writing)
        });
        let traces = traces.map(|export| tokio::spawn(export.run(stop.clone())));
        Self { stop, stop_watch, audit, traces }
    }

    /// Ends the tasks, soon after this returns; but for the audit log, which is written to its end. The disk is still watched.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(audit) = self.audit.take() {
            // A disk that stalls must not keep the node from ending.
            let _ = tokio::time::timeout(AUDIT_WITHIN, audit).await;
        }
        if let Some(traces) = self.traces.take() {
            // Nor must a receiver.
            let _ = tokio::time::timeout(LAST_WITHIN, traces).await;
        }
    }

    /// Ends the watch of the disk, soon after this returns.
    pub(super) fn end_watch(&self) {
        self.stop_watch.cancel();
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.end_watch();
    }
}

/// Has connections with peers made with the certificates in force.
async fn renew(certificates: Arc<NodeCertificates>, peers: Peers, stop: CancellationToken) {
    let mut changes = certificates.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
        if let Err(error) = peers.renew(certificates.in_force().identity()) {
            tracing::error!(%error, "peers see the certificate from before");
        }
    }
}

/// Has the connections with peers ended whose certificates are not taken any more.
async fn deny(logins: Arc<Logins>, peers: Peers, stop: CancellationToken) {
    let mut changes = logins.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
        peers.note_rights();
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
