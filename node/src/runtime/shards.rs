//! The supervisor of a node's shard replicas: opens them, restarts the ones that fail, one for one, and gives up when
//! that happens too often ([`kvorum_core::health::restart_policy`]). It follows the ring map: a replica that the map has replaced is stopped,
//! its files are erased, and the one in its place is opened ([`kvorum_core::folder::replica_files`]).
//!
//! Opening a replica may take minutes, if its index has to be read from its records. So it is done beside the supervisor, which
//! restarts others, follows maps and stops meanwhile. One opening of a shard is under way at a time, since two replicas must
//! never work on the same files; what is wanted then is opened when it is over.

use crate::runtime::shard_actor::{ShardActor, ShardMessage};
use crate::runtime::status::Inspector;
use crate::runtime::system_clock;
use kvorum_core::disk::Disk;
use kvorum_core::folder::replica_files::{Readiness, ReplicaFiles, Wanted};
use kvorum_core::health::pressure::Pressure;
use kvorum_core::health::restart_policy::{Decision, GaveUp, RestartPolicy};
use kvorum_core::journal::ShardJournal;
use kvorum_core::limits::{AWAIT_SPACE, OPENINGS_MAX};
use kvorum_core::log::{LogError, LogOptions};
use kvorum_core::routing::router::Router;
use kvorum_core::shard::host::ShardArguments;
use kvorum_core::shard::inbox::{QueueBudget, ShardCommand};
use kvorum_core::shard::upkeep::{Upkeep, UpkeepOptions};
use kvorum_core::shard::{Orders, Place, Remedy, ShardConfig, ShardError};
use kvorum_protocol::{ReplicaId, ShardId, ShardRole};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

/// A stopping shard is given this long to write its last record.
const STOP_SHARD_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that has been replaced is given this long to end; its files can't be erased before.
const REPLACED_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the supervisor is told.
#[derive(Debug)]
pub enum ShardsMessage {
    /// Run a first replica of `meta`, to found the group.
    Found(Box<ShardConfig>),
    /// A ring map is in force: run what it asks for, and nothing else.
    Follow(Orders),
    /// Start a replica that has failed.
    Restart(ShardId),
    /// An opening is over.
    Opened(Box<Opening>),
    /// Stop all replicas in good order, then end.
    Stop,
    /// Whatever is still being opened has had its time: end.
    StopNow,
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

/// A replica that was replaced did not stop, and its files can't be erased.
#[derive(Debug, thiserror::Error)]
#[error("shard {0}: the replica that was replaced did not stop in time")]
struct DidNotStop(ShardId);

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
    /// What the node is short of.
    pub pressure: Arc<Pressure>,
    /// Does the slow part of keeping their files in order.
    pub upkeep: Arc<dyn Upkeep>,
    /// When they are worth it.
    pub upkeep_options: UpkeepOptions,
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
    /// Shards of which a replica is being opened, or waits for its turn.
    opening: BTreeSet<ShardId>,
    /// How many may be opened at a time.
    openings: Arc<Semaphore>,
    /// Actors that failed before the supervisor had heard that they run, and why. Emptied when nothing is being opened.
    early_ends: HashMap<ActorId, ActorProcessingErr>,
    /// What the last map that has a say in this folder asks for, and its epoch.
    ordered: Option<(BTreeSet<ShardId>, u64)>,
    stopping: bool,
}

struct Replica {
    config: ShardConfig,
    /// The epoch of the map that gave it to this node.
    epoch: u64,
    /// It may be opened although it never was here.
    may_begin: bool,
    incarnation: u32,
    actor: Option<ActorRef<ShardMessage>>,
    state: ReplicaState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReplicaState {
    /// It is open, or will be opened when its time comes.
    Runs,
    /// It can't be opened under the map in force; a newer one will tell.
    AwaitsMap,
    /// It can't be used any more, and waits to be replaced.
    Faulty,
}

impl Replica {
    fn new(config: ShardConfig, epoch: u64, may_begin: bool) -> Self {
        Replica { config, epoch, may_begin, incarnation: 0, actor: None, state: ReplicaState::Runs }
    }

    fn id(&self) -> ReplicaId {
        self.config.consensus.replica
    }
}

impl Replica {
    /// A newer map gives this node the same replica.
    fn follow(&mut self, config: ShardConfig, epoch: u64, place: Place) {
        self.config = config;
        self.epoch = epoch;
        self.may_begin = place == Place::Named;
    }
}

/// An opening that is over.
#[derive(Debug)]
pub struct Opening {
    wanted: Wanted,
    outcome: Result<Opened, SpawnErr>,
}

/// What came of opening a replica.
#[derive(Debug)]
enum Opened {
    Runs(ActorRef<ShardMessage>),
    NotReady(Readiness),
}

async fn open_one(
    files: ReplicaFiles,
    wanted: Wanted,
    mut arguments: ShardArguments,
    supervisor: ActorCell,
    openings: Arc<Semaphore>,
) -> Result<Opened, SpawnErr> {
    // Never closed.
    let _opening = openings.acquire().await;
    let journal = Arc::clone(&arguments.journal);
    let failed = |error: LogError| SpawnErr::StartupFailed(ShardError::Log(error).into());
    let prepared = tokio::task::spawn_blocking(move || {
        let readiness = files.prepare(&wanted)?;
        Ok((readiness, files.journal_of(wanted.shard, &journal)?))
    });
    let (readiness, journal) =
        prepared.await.map_err(|panic| SpawnErr::StartupFailed(panic.into()))?.map_err(failed)?;
    if readiness != Readiness::Open {
        return Ok(Opened::NotReady(readiness));
    }
    arguments.journal = journal;
    let (actor, _) = Actor::spawn_linked(None, ShardActor, arguments, supervisor).await?;
    Ok(Opened::Runs(actor))
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
            opening: BTreeSet::new(),
            openings: Arc::new(Semaphore::new(OPENINGS_MAX)),
            early_ends: HashMap::new(),
            ordered: None,
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
            ShardsMessage::Found(config) if !state.stopping => {
                let shard = config.shard;
                if let Entry::Vacant(vacant) = state.replicas.entry(shard) {
                    vacant.insert(Replica::new(*config, 0, true));
                    state.open(&myself, [shard]);
                }
            }
            ShardsMessage::Follow(orders) if !state.stopping => state.follow(&myself, orders).await?,
            ShardsMessage::Found(_) | ShardsMessage::Follow(_) => {}
            ShardsMessage::Restart(shard) if !state.stopping => state.open(&myself, [shard]),
            ShardsMessage::Restart(_) => {}
            ShardsMessage::Opened(opening) => state.opening_over(&myself, *opening).await?,
            ShardsMessage::Stop => {
                state.stopping = true;
                state.stop_all().await;
                if state.opening.is_empty() {
                    myself.stop(None);
                } else {
                    myself.send_after(STOP_SHARD_TIMEOUT, || ShardsMessage::StopNow);
                }
            }
            ShardsMessage::StopNow => {
                warn!(shards = ?state.opening, "stops while shards are being opened");
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
        let Some(shard) = state.by_actor.remove(&actor.get_id()) else {
            if !state.opening.is_empty() {
                state.early_ends.insert(actor.get_id(), cause);
            }
            return Ok(());
        };
        state.failed(&myself, shard, &cause).await
    }
}

impl ShardsState {
    /// Runs what a map asks for. What it asks for no more is stopped, and erased if the map has a say in this folder.
    async fn follow(&mut self, myself: &ActorRef<ShardsMessage>, orders: Orders) -> Result<(), ActorProcessingErr> {
        let Orders { epoch, place, configs } = orders;
        let asked: BTreeSet<ShardId> = configs.iter().map(|config| config.shard).collect();
        let surplus: Vec<ShardId> = self.replicas.keys().filter(|shard| !asked.contains(shard)).copied().collect();
        for shard in surplus {
            self.stop_one(shard).await?;
            self.replicas.remove(&shard);
            self.not_faulty(shard);
        }
        let mut opening = Vec::new();
        for config in configs {
            let shard = config.shard;
            let other_replica = match self.replicas.get_mut(&shard) {
                Some(replica) if replica.id() == config.consensus.replica => {
                    replica.follow(config, epoch, place);
                    if replica.state == ReplicaState::AwaitsMap {
                        replica.state = ReplicaState::Runs;
                        opening.push(shard);
                    } else {
                        self.tell_target(shard);
                    }
                    continue;
                }
                Some(_) => true,
                None => false,
            };
            if other_replica {
                self.stop_one(shard).await?;
                self.not_faulty(shard);
            }
            let incarnation = self.replicas.get(&shard).map_or(0, |replica| replica.incarnation);
            let replica = Replica::new(config, epoch, place == Place::Named);
            self.replicas.insert(shard, Replica { incarnation, ..replica });
            opening.push(shard);
        }
        self.ordered = (place == Place::Named).then_some((asked, epoch));
        self.erase_surplus(myself).await?;
        self.open(myself, opening);
        Ok(())
    }

    /// Tells a replica that is open who should vote. A full queue holds it up until the next map; the next opening gets it
    /// anyway.
    fn tell_target(&self, shard: ShardId) {
        if let (Some(replica), Some(handle)) = (self.replicas.get(&shard), self.arguments.router.local(shard)) {
            handle.inbox.command(ShardCommand::SetTarget(replica.config.target.clone()));
        }
    }

    /// Erases what lies in the folder of shards that the map gives this node nothing of; of one that is being opened, later.
    async fn erase_surplus(&mut self, myself: &ActorRef<ShardsMessage>) -> Result<(), ActorProcessingErr> {
        let Some((asked, epoch)) = self.ordered.clone() else { return Ok(()) };
        let kept: BTreeSet<ShardId> = asked.union(&self.opening).copied().collect();
        let (files, disk) = (self.files(), Arc::clone(&self.arguments.disk));
        let erased = tokio::task::spawn_blocking(move || -> Result<(), (ShardId, LogError)> {
            let listed = disk.list_shards().map_err(|error| (ShardId::META, LogError::from(error)))?;
            for shard in listed.into_iter().filter(|shard| !kept.contains(shard)) {
                if files.give_up(shard, epoch).map_err(|error| (shard, error))? {
                    info!(%shard, "erased the shard's files: the ring map gives this node no replica of it");
                }
            }
            Ok(())
        });
        match erased.await? {
            Ok(()) => Ok(()),
            Err((shard, error)) => self.failed(myself, shard, &ShardError::Log(error).into()).await,
        }
    }

    /// Ends a replica for good; whatever it still says reaches nobody.
    async fn stop_one(&mut self, shard: ShardId) -> Result<(), ActorProcessingErr> {
        self.by_actor.retain(|_, of| *of != shard);
        self.arguments.router.closed(shard);
        let Some(actor) = self.replicas.get_mut(&shard).and_then(|replica| replica.actor.take()) else { return Ok(()) };
        info!(%shard, "stopping a replica that the ring map does not give this node any more");
        actor.stop_and_wait(None, Some(REPLACED_STOP_TIMEOUT)).await.map_err(|_| DidNotStop(shard).into())
    }

    fn files(&self) -> ReplicaFiles {
        ReplicaFiles::new(Arc::clone(&self.arguments.disk), Arc::clone(&self.arguments.log.source))
    }

    /// Opens replicas side by side: recovery waits for the disk, and there may be many. Each says when it is over.
    fn open(&mut self, myself: &ActorRef<ShardsMessage>, shards: impl IntoIterator<Item = ShardId>) {
        for shard in shards {
            let files = self.files();
            let Some(replica) = self.replicas.get_mut(&shard) else { continue };
            if replica.actor.is_some() || replica.state != ReplicaState::Runs || !self.opening.insert(shard) {
                continue;
            }
            replica.incarnation += 1;
            let arguments = ShardArguments {
                config: replica.config.clone(),
                incarnation: replica.incarnation,
                disk: Arc::clone(&self.arguments.disk),
                log: self.arguments.log.clone(),
                journal: Arc::clone(&self.arguments.journal),
                queue_budget: Arc::clone(&self.queue_budget),
                pressure: Arc::clone(&self.arguments.pressure),
                upkeep: Arc::clone(&self.arguments.upkeep),
                upkeep_options: self.arguments.upkeep_options,
                outlet: Arc::clone(&self.arguments.router) as _,
                clock: self.arguments.router.shared_clock(),
            };
            let wanted = Wanted { shard, replica: replica.id(), epoch: replica.epoch, may_begin: replica.may_begin };
            let openings = Arc::clone(&self.openings);
            let opening = tokio::spawn(open_one(files, wanted, arguments, myself.get_cell(), openings));
            let myself = myself.clone();
            tokio::spawn(async move {
                let outcome = opening.await.unwrap_or_else(|panic| Err(SpawnErr::StartupFailed(panic.into())));
                // A supervisor that is gone has taken its children with it.
                let _ = myself.cast(ShardsMessage::Opened(Box::new(Opening { wanted, outcome })));
            });
        }
    }

    async fn opening_over(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        opening: Opening,
    ) -> Result<(), ActorProcessingErr> {
        let Opening { wanted: Wanted { shard, replica, epoch, .. }, outcome } = opening;
        self.opening.remove(&shard);
        let held = self.replicas.get(&shard).filter(|held| held.id() == replica && !self.stopping);
        let (is_wanted, is_outdated) = (held.is_some(), held.is_some_and(|held| held.epoch != epoch));
        match outcome {
            Ok(Opened::Runs(actor)) if !is_wanted => {
                self.early_ends.remove(&actor.get_id());
                self.arguments.router.closed(shard);
                info!(%shard, "stopping a replica that was opened too late to be of use");
                let ended = actor.stop_and_wait(None, Some(REPLACED_STOP_TIMEOUT)).await;
                ended.map_err(|_| DidNotStop(shard))?;
            }
            _ if !is_wanted => {}
            Ok(Opened::Runs(actor)) => match self.early_ends.remove(&actor.get_id()) {
                Some(cause) => self.failed(myself, shard, &cause).await?,
                None => self.opened(shard, actor),
            },
            // A newer map came meanwhile.
            Ok(Opened::NotReady(_)) if is_outdated => {}
            Ok(Opened::NotReady(readiness)) => self.not_ready(shard, readiness),
            Err(failure) => self.did_not_open(myself, shard, failure).await?,
        }
        if self.opening.is_empty() {
            self.early_ends.clear();
        }
        if self.stopping {
            if self.opening.is_empty() {
                myself.stop(None);
            }
            return Ok(());
        }
        if !is_wanted {
            self.erase_surplus(myself).await?;
        }
        if !is_wanted || is_outdated {
            self.open(myself, [shard]);
        }
        Ok(())
    }

    fn opened(&mut self, shard: ShardId, actor: ActorRef<ShardMessage>) {
        self.tell_target(shard);
        self.by_actor.insert(actor.get_id(), shard);
        self.not_faulty(shard);
        if let Some(replica) = self.replicas.get_mut(&shard) {
            replica.actor = Some(actor);
            if replica.incarnation > 1 {
                info!(%shard, incarnation = replica.incarnation, "restarted the shard from its log");
            }
        }
    }

    fn not_ready(&mut self, shard: ShardId, readiness: Readiness) {
        if readiness == Readiness::Ended {
            warn!(%shard, "the replica has lost its log, and takes no part until it is replaced");
            self.faulty(shard, ShardRole::Amnesiac);
        } else {
            debug!(%shard, ?readiness, "the replica waits for a newer ring map");
            if let Some(replica) = self.replicas.get_mut(&shard) {
                replica.state = ReplicaState::AwaitsMap;
            }
        }
    }

    /// The replica can't be used any more: status says so, and the leader of `meta` is told.
    fn faulty(&mut self, shard: ShardId, role: ShardRole) {
        self.closed(shard);
        self.arguments.inspector.set_idle(shard, role);
        if let Some(replica) = self.replicas.get_mut(&shard) {
            replica.state = ReplicaState::Faulty;
            self.arguments.router.set_faulty(shard, Some(replica.id()));
        }
    }

    fn not_faulty(&self, shard: ShardId) {
        self.arguments.router.set_faulty(shard, None);
        self.arguments.inspector.clear_idle(shard);
    }

    async fn did_not_open(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        shard: ShardId,
        failure: SpawnErr,
    ) -> Result<(), ActorProcessingErr> {
        match failure {
            SpawnErr::StartupFailed(cause) => self.failed(myself, shard, &cause).await,
            other => self.restart(myself, shard, other.to_string()),
        }
    }

    async fn failed(
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
                self.faulty(shard, ShardRole::Faulty);
                Ok(())
            }
            Remedy::EndLife => {
                error!(%shard, error = %cause, "the shard's log has lost what it promised to keep; the replica waits to be replaced");
                self.faulty(shard, ShardRole::Amnesiac);
                self.end_life(shard).await
            }
            Remedy::AwaitSpace => {
                warn!(%shard, error = %cause, "a shard waits for room on the disk");
                self.closed(shard);
                myself.send_after(AWAIT_SPACE, move || ShardsMessage::Restart(shard));
                Ok(())
            }
            Remedy::EndProcess => Err(Box::new(DiskFailed { shard, reason: cause.to_string() })),
        }
    }

    /// Writes down that the replica is never opened again. Awaited: no other replica's files may take their place meanwhile.
    async fn end_life(&self, shard: ShardId) -> Result<(), ActorProcessingErr> {
        let Some(id) = self.replicas.get(&shard).map(Replica::id) else { return Ok(()) };
        let files = self.files();
        let written = tokio::task::spawn_blocking(move || files.end_life(shard, id)).await?;
        written.map_err(|error| DiskFailed { shard, reason: error.to_string() }.into())
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
        match self.policy.on_failure(shard, system_clock::monotonic()) {
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

#[cfg(test)]
mod tests;
