//! The supervisor of a node's shard replicas: opens them, restarts the ones that fail, one for one, and gives up when
//! that happens too often ([`crate::supervisor`]).

use crate::clock;
use crate::journal::ShardJournal;
use crate::log::{Disk, LogOptions};
use crate::router::Router;
use crate::shard::actor::{ShardActor, ShardMessage};
use crate::shard::host::ShardArguments;
use crate::shard::inbox::QueueBudget;
use crate::shard::{Remedy, ShardConfig, ShardError};
use crate::snapshot::SnapshotSinks;
use crate::status::Inspector;
use crate::supervisor::{Decision, GaveUp, RestartPolicy};
use kvorum_protocol::{ShardId, ShardRole};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// A stopping shard is given this long to write its last record.
const STOP_SHARD_TIMEOUT: Duration = Duration::from_secs(2);

/// What the supervisor is told.
#[derive(Debug)]
pub enum ShardsMessage {
    /// Run these replicas; those that run already are left alone.
    Run(Vec<ShardConfig>),
    /// Start a replica that has failed.
    Restart(ShardId),
    /// Stop all replicas in good order, then end.
    Stop,
}

impl ractor::Message for ShardsMessage {}

/// A file operation of a shard failed, and with it the process.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard}: {reason}")]
pub struct DiskFailed {
    /// The shard.
    pub shard: ShardId,
    /// What failed.
    pub reason: String,
}

/// What every shard replica of the node needs.
#[derive(Clone)]
pub struct ShardsArguments {
    /// The node's routing table.
    pub router: Arc<Router>,
    /// Where replicas that can't run are noted.
    pub inspector: Arc<Inspector>,
    /// Where the logs lie.
    pub disk: Arc<dyn Disk>,
    /// How they are laid out.
    pub log: LogOptions,
    /// What makes their appends durable.
    pub journal: Arc<dyn ShardJournal>,
    /// Where snapshots are put that they receive.
    pub snapshot_sinks: Arc<dyn SnapshotSinks>,
}

/// The supervisor.
pub struct ShardsSupervisor;

/// The supervisor's state.
pub struct ShardsState {
    arguments: ShardsArguments,
    policy: RestartPolicy<ShardId>,
    replicas: BTreeMap<ShardId, Replica>,
    by_actor: HashMap<ActorId, ShardId>,
    queue_budget: Arc<QueueBudget>,
    stopping: bool,
}

struct Replica {
    config: ShardConfig,
    incarnation: u32,
    actor: Option<ActorRef<ShardMessage>>,
}

impl Actor for ShardsSupervisor {
    type Msg = ShardsMessage;
    type State = ShardsState;
    type Arguments = ShardsArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardsMessage>,
        arguments: ShardsArguments,
    ) -> Result<ShardsState, ActorProcessingErr> {
        Ok(ShardsState {
            arguments,
            policy: RestartPolicy::new(),
            replicas: BTreeMap::new(),
            by_actor: HashMap::new(),
            queue_budget: Arc::default(),
            stopping: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardsMessage>,
        message: ShardsMessage,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardsMessage::Run(configs) => {
                let mut fresh = Vec::new();
                for config in configs {
                    let shard = config.shard;
                    if let std::collections::btree_map::Entry::Vacant(entry) = state.replicas.entry(shard) {
                        entry.insert(Replica { config, incarnation: 0, actor: None });
                        fresh.push(shard);
                    }
                }
                state.open(&myself, fresh).await?;
            }
            ShardsMessage::Restart(shard) if !state.stopping => state.open(&myself, vec![shard]).await?,
            ShardsMessage::Restart(_) => {}
            ShardsMessage::Stop => {
                state.stopping = true;
                state.stop_all().await;
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ShardsMessage>,
        event: SupervisionEvent,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, cause) = match event {
            SupervisionEvent::ActorFailed(actor, cause) => (actor, cause),
            SupervisionEvent::ActorTerminated(actor, ..) if !state.stopping => (actor, "it stopped".into()),
            _ => return Ok(()),
        };
        let Some(shard) = state.by_actor.remove(&actor.get_id()) else { return Ok(()) };
        state.failed(&myself, shard, &cause)
    }
}

impl ShardsState {
    /// Opens replicas side by side: recovery waits for the disk, and there may be many.
    async fn open(&mut self, myself: &ActorRef<ShardsMessage>, shards: Vec<ShardId>) -> Result<(), ActorProcessingErr> {
        let mut opening = JoinSet::new();
        for shard in shards {
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            replica.incarnation += 1;
            let arguments = ShardArguments {
                config: replica.config.clone(),
                incarnation: replica.incarnation,
                disk: Arc::clone(&self.arguments.disk),
                log: self.arguments.log.clone(),
                journal: Arc::clone(&self.arguments.journal),
                queue_budget: Arc::clone(&self.queue_budget),
                snapshot_sinks: Arc::clone(&self.arguments.snapshot_sinks),
                outlet: Arc::clone(&self.arguments.router) as _,
            };
            let supervisor = myself.get_cell();
            opening.spawn(async move { (shard, Actor::spawn_linked(None, ShardActor, arguments, supervisor).await) });
        }
        while let Some(opened) = opening.join_next().await {
            match opened? {
                (shard, Ok((actor, _))) => {
                    self.by_actor.insert(actor.get_id(), shard);
                    if let Some(replica) = self.replicas.get_mut(&shard) {
                        replica.actor = Some(actor);
                        if replica.incarnation > 1 {
                            info!(%shard, incarnation = replica.incarnation, "restarted the shard from its log");
                        }
                    }
                }
                (shard, Err(failure)) => self.did_not_open(myself, shard, failure)?,
            }
        }
        Ok(())
    }

    fn did_not_open(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        shard: ShardId,
        failure: ractor::SpawnErr,
    ) -> Result<(), ActorProcessingErr> {
        match failure {
            ractor::SpawnErr::StartupFailed(cause) => self.failed(myself, shard, &cause),
            other => self.restart(myself, shard, other.to_string()),
        }
    }

    fn failed(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        shard: ShardId,
        cause: &ActorProcessingErr,
    ) -> Result<(), ActorProcessingErr> {
        let remedy = cause.downcast_ref::<ShardError>().map_or(Remedy::Restart, ShardError::remedy);
        match remedy {
            Remedy::Reopen => {
                info!(%shard, reason = %cause, "opening the shard anew");
                self.closed(shard);
                Ok(myself.cast(ShardsMessage::Restart(shard))?)
            }
            Remedy::Restart => self.restart(myself, shard, cause.to_string()),
            Remedy::LeaveOut => {
                error!(%shard, error = %cause, "the shard's log is damaged; this replica takes no part until it is replaced");
                self.closed(shard);
                self.arguments.inspector.set_idle(shard, ShardRole::Faulty);
                Ok(())
            }
            Remedy::EndProcess => Err(Box::new(DiskFailed { shard, reason: cause.to_string() })),
        }
    }

    fn closed(&mut self, shard: ShardId) {
        self.arguments.router.closed(shard);
        if let Some(replica) = self.replicas.get_mut(&shard) {
            replica.actor = None;
        }
    }

    fn restart(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        shard: ShardId,
        reason: String,
    ) -> Result<(), ActorProcessingErr> {
        self.closed(shard);
        match self.policy.on_failure(shard, clock::monotonic()) {
            Decision::RestartAfter(delay) => {
                warn!(%shard, %reason, delay_ms = delay.as_millis() as u64, "a shard failed; restarting it");
                myself.send_after(delay, move || ShardsMessage::Restart(shard));
                Ok(())
            }
            Decision::GiveUp => {
                Err(Box::new(GaveUp { supervisor: "shards".into(), child: format!("shard {shard}"), reason }))
            }
        }
    }

    async fn stop_all(&mut self) {
        let mut stopping = JoinSet::new();
        for (shard, replica) in &mut self.replicas {
            let Some(actor) = replica.actor.take() else { continue };
            let shard = *shard;
            stopping.spawn(async move { (shard, actor.stop_and_wait(None, Some(STOP_SHARD_TIMEOUT)).await) });
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Ok((shard, Err(failure))) = stopped {
                warn!(%shard, error = %failure, "a shard did not stop in time");
            }
        }
    }
}
