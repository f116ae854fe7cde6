//! A node's replicas, and the threads that look after their files.

use super::registry::Registry;
use super::root::if_panics;
use super::storage::Storage;
use super::{NodeError, StartContext};
use crate::config::Config;
use crate::folder::{DataFolder, StartKind};
use crate::runtime::scrub_thread::ScrubThread;
use crate::runtime::shards::{ShardsArguments, ShardsMessage, ShardsSupervisor};
use crate::runtime::upkeep_thread::UpkeepThread;
use kvorum_core::limits::STOP_TIMEOUT;
use kvorum_core::log::LogOptions;
use kvorum_core::shard::upkeep::UpkeepOptions;
use kvorum_protocol::ShardRole;
use ractor::{Actor, ActorRef};
use std::sync::Arc;
use tracing::warn;

/// The replicas of a running node.
pub(super) struct Shards {
    /// Told which replicas to run.
    pub(super) supervisor: ActorRef<ShardsMessage>,
    scrub: Option<ScrubThread>,
}

impl Shards {
    /// Starts the supervisor, which opens nothing before it is told to.
    ///
    /// # Errors
    /// If a thread or the actor can't be started. Nothing runs then.
    pub(super) async fn start(
        context: &StartContext<'_>,
        registry: &Registry,
        storage: &Storage,
        folder: &DataFolder,
    ) -> Result<Self, NodeError> {
        let config = context.config;
        let (disk, router) = (&storage.disk, &registry.router);
        let panicked = if_panics("the thread of the upkeep", &context.fatal);
        let upkeep = UpkeepThread::start(Arc::clone(disk), config.compaction_bytes_per_second, panicked);
        let upkeep = Arc::new(upkeep.map_err(NodeError::disk)?);
        let panicked = if_panics("the thread that checks cold data", &context.fatal);
        let scrub = (config.scrub_bytes_per_second > 0)
            .then(|| ScrubThread::start(Arc::clone(disk), Arc::clone(router), config.scrub_bytes_per_second, panicked))
            .transpose()
            .map_err(NodeError::disk)?;
        let arguments = ShardsArguments {
            router: Arc::clone(router),
            inspector: Arc::clone(&registry.inspector),
            disk: Arc::clone(disk),
            log: LogOptions { keys: Arc::clone(context.keys.ring()), ..LogOptions::new(storage.segments()) },
            journal: Arc::new(storage.journal.clone()),
            pressure: Arc::clone(&registry.pressure),
            upkeep,
            upkeep_options: upkeep_options(config),
            unsynced: Arc::clone(&storage.unsynced),
        };
        let name = Some(format!("node/{}/shards", config.node_id));
        let (supervisor, _) = Actor::spawn_linked(name, ShardsSupervisor, arguments, context.root.clone()).await?;
        if folder.start_kind() == StartKind::Amnesiac {
            // Until they are replaced and opened.
            let held = router.ring().held_by(config.node_id);
            held.iter().for_each(|(shard, _)| registry.inspector.set_idle(*shard, ShardRole::Amnesiac));
        }
        Ok(Self { supervisor, scrub })
    }

    /// Ends the replicas, each with its last record and checkpoint, but waits no longer than [`STOP_TIMEOUT`].
    pub(super) async fn stop(&mut self) {
        drop(self.scrub.take());
        let stopping = self.supervisor.cast(ShardsMessage::Stop).is_ok();
        if stopping && self.supervisor.wait(Some(STOP_TIMEOUT)).await.is_err() {
            warn!("the shards did not stop in time");
        }
    }
}

/// Without a rate nothing is garbage enough; checkpoints go on, or a restart would take ever longer.
fn upkeep_options(config: &Config) -> UpkeepOptions {
    let usual = UpkeepOptions::default();
    match config.compaction_bytes_per_second {
        0 => UpkeepOptions { garbage_bytes_min: u64::MAX, ..usual },
        _ => usual,
    }
}
