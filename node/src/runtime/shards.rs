//! The supervisor of a node's shard replicas: the host of [`kvorum_core::roster`], which decides what runs. It carries out what the
//! roster asks for with actors, and erases and opens on threads that may block.

use crate::runtime::shard_actor::{ShardActor, ShardMessage, SnapshotInstalled};
use crate::runtime::status::Inspector;
use crate::runtime::system_clock;
use crate::runtime::unsynced::UnsyncedLogs;
use kvorum_core::disk::Disk;
use kvorum_core::folder::replica_files::{Readiness, ReplicaFiles, RetireReason, WantedReplica};
use kvorum_core::health::pressure::Pressure;
use kvorum_core::journal::ShardJournal;
use kvorum_core::limits::OPENINGS_MAX;
use kvorum_core::log::{LogError, LogOptions};
use kvorum_core::roster::{Action, Failure, Opened, Opening, ProcessEnd, Roster};
use kvorum_core::routing::router::Router;
use kvorum_core::shard::host::ShardArguments;
use kvorum_core::shard::inbox::{QueueBudget, ShardCommand};
use kvorum_core::shard::upkeep::{Upkeep, UpkeepOptions};
use kvorum_core::shard::{Orders, Remedy, ShardConfig, ShardError};
use kvorum_protocol::ShardId;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RactorErr, SpawnErr, SupervisionEvent};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::warn;

/// A stopping shard is given this long to write its last record.
const STOP_SHARD_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that has been replaced is given this long to end; its files can't be erased before.
const REPLACED_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the supervisor is told.
#[derive(Debug)]
pub enum ShardsMessage {
    /// Run a first replica of `meta`, to found the group.
    Bootstrap(Box<ShardConfig>),
    /// A ring map is in force: run what it asks for, and nothing else.
    Follow(Orders),
    /// Start a replica that has failed.
    Restart(ShardId),
    /// An opening is over.
    Opened(Box<OpeningOver>),
    /// Stop all replicas in good order, then end.
    Stop,
    /// What was to be stopped is, or has had its time: end.
    StopNow,
}

impl ractor::Message for ShardsMessage {}

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
    /// Told which logs were opened.
    pub unsynced: Arc<UnsyncedLogs>,
}

/// The supervisor.
pub struct ShardsSupervisor;

/// The supervisor's state.
pub struct ShardsState {
    arguments: ShardsArguments,
    roster: Roster,
    actors: BTreeMap<ShardId, ActorRef<ShardMessage>>,
    by_actor: HashMap<ActorId, ShardId>,
    queue_budget: Arc<QueueBudget>,
    /// How many may be opened at a time.
    openings: Arc<Semaphore>,
    /// Actors that failed before the supervisor had heard that they run, and why. Emptied when nothing is being opened.
    early_ends: HashMap<ActorId, ActorProcessingErr>,
}

/// An opening that is over.
#[derive(Debug)]
pub struct OpeningOver {
    wanted: WantedReplica,
    outcome: Result<Spawned, SpawnErr>,
}

/// What came of opening a replica.
#[derive(Debug)]
enum Spawned {
    Runs(ActorRef<ShardMessage>),
    NotReady(Readiness),
}

async fn open_one(
    files: ReplicaFiles,
    wanted: WantedReplica,
    mut arguments: ShardArguments,
    supervisor: ActorCell,
    openings: Arc<Semaphore>,
) -> Result<Spawned, SpawnErr> {
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
        return Ok(Spawned::NotReady(readiness));
    }
    arguments.journal = journal;
    let (actor, _) = Actor::spawn_linked(None, ShardActor, arguments, supervisor).await?;
    Ok(Spawned::Runs(actor))
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
        Ok(ShardsState::new(arguments))
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardsMessage>,
        message: ShardsMessage,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        let actions = match message {
            ShardsMessage::Bootstrap(config) => state.roster.bootstrap(*config),
            ShardsMessage::Follow(orders) => state.roster.follow(orders),
            ShardsMessage::Restart(shard) => state.roster.restart(shard),
            ShardsMessage::Opened(opening) => state.opening_over(*opening),
            ShardsMessage::Stop => {
                state.roster.stop();
                state.stop_all().await;
                if state.roster.is_opening() {
                    myself.send_after(STOP_SHARD_TIMEOUT, || ShardsMessage::StopNow);
                }
                Vec::new()
            }
            ShardsMessage::StopNow => {
                if state.roster.is_opening() {
                    let shards: Vec<ShardId> = state.roster.opening().collect();
                    warn!(?shards, "stops while shards are being opened");
                }
                myself.stop(None);
                return Ok(());
            }
        };
        state.perform(&myself, actions).await?;
        if state.roster.is_stopping() && !state.roster.is_opening() {
            // By a message: the library hands over before it what shards have failed with as they stopped.
            let _ = myself.cast(ShardsMessage::StopNow);
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
            SupervisionEvent::ActorTerminated(actor, ..) if !state.roster.is_stopping() => (actor, "it stopped".into()),
            _ => return Ok(()),
        };
        let Some(shard) = state.by_actor.remove(&actor.get_id()) else {
            if state.roster.is_opening() {
                state.early_ends.insert(actor.get_id(), cause);
            }
            return Ok(());
        };
        let failure = failure_of(cause);
        state.count(shard, &failure);
        let actions = state.roster.failed(shard, failure, system_clock::monotonic());
        state.perform(&myself, actions).await
    }
}

/// What an actor that has ended says of its replica.
fn failure_of(cause: ActorProcessingErr) -> Failure {
    if let Some(SnapshotInstalled { index }) = cause.downcast_ref() {
        return Failure::Reopens(*index);
    }
    let error = cause.downcast::<ShardError>();
    error.map_or_else(|cause| Failure::OfNoFile(cause.to_string()), |error| Failure::Replica(*error))
}

impl ShardsState {
    fn new(arguments: ShardsArguments) -> Self {
        Self {
            arguments,
            roster: Roster::default(),
            actors: BTreeMap::new(),
            by_actor: HashMap::new(),
            queue_budget: Arc::default(),
            openings: Arc::new(Semaphore::new(OPENINGS_MAX)),
            early_ends: HashMap::new(),
        }
    }

    /// Carries out what the roster asks for, in its order: a replica that is to be stopped has ended before the next step.
    async fn perform(
        &mut self,
        myself: &ActorRef<ShardsMessage>,
        actions: Vec<Action>,
    ) -> Result<(), ActorProcessingErr> {
        let mut left = VecDeque::from(actions);
        while let Some(action) = left.pop_front() {
            match action {
                Action::Stop { shard, .. } => self.stop_one(shard).await?,
                Action::Close { shard } => {
                    self.arguments.router.closed(shard);
                    self.actors.remove(&shard);
                }
                Action::SetTarget { shard, target } => {
                    if let Some(handle) = self.arguments.router.local(shard) {
                        handle.inbox.command(ShardCommand::SetTarget(target));
                    }
                }
                Action::Open(opening) => self.open(myself, *opening),
                Action::SetUsable { shard } => {
                    self.arguments.router.set_faulty(shard, None);
                    self.arguments.inspector.clear_idle(shard);
                }
                Action::SetUnusable { shard, replica, role, .. } => {
                    self.arguments.inspector.set_idle(shard, role);
                    if replica.is_some() {
                        self.arguments.router.set_faulty(shard, replica);
                    }
                }
                Action::Retire { shard, replica } => {
                    let files = self.files();
                    let retired = move || files.retire(shard, RetireReason::Amnesiac { replica });
                    let written = tokio::task::spawn_blocking(retired).await?;
                    written.map_err(|error| ProcessEnd::Disk { shard, source: error.into() })?;
                }
                Action::EraseSurplus { kept, epoch } => {
                    // What a failure asks for goes before all else.
                    let follows = self.erase_surplus(kept, epoch).await?;
                    follows.into_iter().rev().for_each(|action| left.push_front(action));
                }
                Action::RestartAfter { shard, delay, .. } => {
                    myself.send_after(delay, move || ShardsMessage::Restart(shard));
                }
                Action::EndProcess(end) => return Err(end.into()),
            }
        }
        Ok(())
    }

    async fn erase_surplus(&mut self, kept: BTreeSet<ShardId>, epoch: u64) -> Result<Vec<Action>, ActorProcessingErr> {
        let files = self.files();
        match tokio::task::spawn_blocking(move || files.erase_surplus(&kept, epoch)).await? {
            Ok(()) => Ok(Vec::new()),
            Err((shard, error)) => Ok(self.roster.failed(shard, error.into(), system_clock::monotonic())),
        }
    }

    /// Counts damage.
    fn count(&self, shard: ShardId, failure: &Failure) {
        if failure.remedy() == Remedy::LeaveOut {
            self.arguments.router.counts().of(shard).damage.add(1);
        }
    }

    async fn stop_one(&mut self, shard: ShardId) -> Result<(), ActorProcessingErr> {
        self.by_actor.retain(|_, of| *of != shard);
        self.arguments.router.closed(shard);
        let Some(actor) = self.actors.remove(&shard) else { return Ok(()) };
        // One that has ended by itself takes no message, and is not waited for.
        let _ = actor.cast(ShardMessage::Leave);
        actor.wait(Some(REPLACED_STOP_TIMEOUT)).await.map_err(|_| DidNotStop(shard).into())
    }

    fn files(&self) -> ReplicaFiles {
        ReplicaFiles::new(Arc::clone(&self.arguments.disk), Arc::clone(&self.arguments.log.source))
    }

    /// Opens a replica beside all else: recovery waits for the disk, and there may be many. A message says when it is over.
    fn open(&self, myself: &ActorRef<ShardsMessage>, opening: Opening) {
        let Opening { wanted, config, incarnation } = opening;
        let counts = self.arguments.router.counts().of(wanted.shard);
        let arguments = ShardArguments {
            config,
            incarnation,
            disk: Arc::clone(&self.arguments.disk),
            log: self.arguments.log.clone(),
            journal: Arc::clone(&self.arguments.journal),
            queue_budget: Arc::clone(&self.queue_budget),
            pressure: Arc::clone(&self.arguments.pressure),
            upkeep: Arc::clone(&self.arguments.upkeep),
            upkeep_options: self.arguments.upkeep_options,
            outlet: Arc::clone(&self.arguments.router) as _,
            counts,
            clock: self.arguments.router.shared_clock(),
        };
        let openings = Arc::clone(&self.openings);
        let opening = tokio::spawn(open_one(self.files(), wanted, arguments, myself.get_cell(), openings));
        let myself = myself.clone();
        tokio::spawn(async move {
            let outcome = opening.await.unwrap_or_else(|panic| Err(SpawnErr::StartupFailed(panic.into())));
            // A supervisor that is gone has taken its children with it.
            let _ = myself.cast(ShardsMessage::Opened(Box::new(OpeningOver { wanted, outcome })));
        });
    }

    fn opening_over(&mut self, over: OpeningOver) -> Vec<Action> {
        let OpeningOver { wanted, outcome } = over;
        if let Ok(Spawned::Runs(_)) = &outcome {
            self.arguments.unsynced.note_opened(wanted.shard);
        }
        let opened = match outcome {
            Ok(Spawned::Runs(actor)) => match self.early_ends.remove(&actor.get_id()) {
                Some(cause) => Opened::Failed(failure_of(cause)),
                None => {
                    self.by_actor.insert(actor.get_id(), wanted.shard);
                    self.actors.insert(wanted.shard, actor);
                    Opened::Runs
                }
            },
            Ok(Spawned::NotReady(readiness)) => Opened::NotReady(readiness),
            Err(SpawnErr::StartupFailed(cause)) => Opened::Failed(failure_of(cause)),
            Err(other) => Opened::Failed(Failure::OfNoFile(other.to_string())),
        };
        if let Opened::Failed(failure) = &opened {
            self.count(wanted.shard, failure);
        }
        let actions = self.roster.opening_over(&wanted, opened, system_clock::monotonic());
        if !self.roster.is_opening() {
            self.early_ends.clear();
        }
        actions
    }

    async fn stop_all(&mut self) {
        let mut stopping = JoinSet::new();
        for (shard, actor) in std::mem::take(&mut self.actors) {
            stopping.spawn(async move { (shard, actor.stop_and_wait(None, Some(STOP_SHARD_TIMEOUT)).await) });
        }
        while let Some(stopped) = stopping.join_next().await {
            // What else there may be says that it had ended.
            if let Ok((shard, Err(RactorErr::Timeout))) = stopped {
                warn!(%shard, "a shard did not stop in time");
            }
        }
    }
}

#[cfg(test)]
mod tests;
