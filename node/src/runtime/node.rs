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
//! The order of starting follows what needs what; stopping goes the other way round. Every child of the root is essential:
//! if one fails for good, the node ends with a clear reason and an exit code of its own, and whoever started it decides.

use crate::auth::cert::TlsIdentity;
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::doors::binary::BinaryDoor;
use crate::doors::blocking_reads::BlockingReads;
use crate::doors::peer::PeerDoor;
use crate::folder::{DataFolder, StartKind};
use crate::peers::{PeerAddress, PeerConfig, PeerError, Peers};
use crate::runtime::control::{AdminHandler, Control};
use crate::runtime::disk_loop::{self, WatchArguments};
use crate::runtime::journal_threads::{Journal, JournalHandle};
use crate::runtime::meta::{MetaActor, MetaArguments};
use crate::runtime::scrub_thread::ScrubThread;
use crate::runtime::segment_thread::SpareSource;
use crate::runtime::shards::{DiskFailed, ShardsArguments, ShardsMessage, ShardsSupervisor};
use crate::runtime::status::{Inspector, machine_memory_bytes};
use crate::runtime::system_clock::{self, SystemClock};
use crate::runtime::upkeep_thread::UpkeepThread;
use kvorum_core::consensus::Role;
use kvorum_core::disk::{Disk, RealDisk};
use kvorum_core::folder::known_folders::KnownDisks;
use kvorum_core::folder::mirrored::KeptError;
use kvorum_core::folder::replica_files::ReplicaFiles;
use kvorum_core::health::fitness::Unfit;
use kvorum_core::health::pressure::Pressure;
use kvorum_core::journal::{self, JournalError, JournalOptions, Replayed};
use kvorum_core::limits::{DRAIN_TIMEOUT, HAND_OVER_AGAIN, STOP_ALONE_TIMEOUT, STOP_TIMEOUT};
use kvorum_core::log::{InlineSource, LogOptions};
use kvorum_core::map_keeper::{self, MapKeeper, Own};
use kvorum_core::ring::{PlacementError, RingError, RingMap, RingNode};
use kvorum_core::routing::router::Router;
use kvorum_core::routing::topology_news::TopologyNews;
use kvorum_core::session::SessionContext;
use kvorum_core::shard::ShardHandle;
use kvorum_core::shard::host::ShardOutlet as _;
use kvorum_core::shard::inbox::ShardCommand;
use kvorum_core::shard::upkeep::UpkeepOptions;
use kvorum_core::shard::{Place, ReplicaPlan};
use kvorum_protocol::{ClientId, NodeId, ReplicaId, ShardId, ShardRole};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

/// Why a node ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address can't be listened on.
    #[error("{field} {address}: {error}")]
    Listen {
        /// The configuration field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// An essential part failed, more often than the restart policy allows.
    #[error("{0}")]
    RestartIntensity(String),
    /// A write or sync failed, or what is on the disk can't be used.
    #[error("disk: {0}")]
    Disk(String),
    /// The peers can't be started.
    #[error(transparent)]
    Peers(#[from] PeerError),
    /// The configuration leaves no way to place the shards.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The copy of the ring map in the data folder is damaged.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A setting that was fixed when the cluster was created differs.
    #[error("the cluster was created with {field} {found}, the configuration says {expected}")]
    Mismatch {
        /// The configuration field.
        field: &'static str,
        /// What the cluster was created with.
        found: usize,
        /// What the configuration says.
        expected: usize,
    },
    /// A task that runs as long as the node does has ended.
    #[error("{0} has ended: it panicked")]
    Task(&'static str),
    /// An actor can't be started.
    #[error("can't start an actor: {0}")]
    Spawn(#[from] ractor::SpawnErr),
}

impl NodeError {
    /// How the process ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            NodeError::RestartIntensity(_) => Exit::RestartIntensity,
            NodeError::Disk(_) | NodeError::Ring(_) => Exit::Disk,
            NodeError::Placement(_) | NodeError::Mismatch { .. } => Exit::Config,
            _ => Exit::Failure,
        }
    }
}

impl From<JournalError> for NodeError {
    fn from(error: JournalError) -> Self {
        NodeError::Disk(error.to_string())
    }
}

/// Compares a configuration with the cluster that the node knows from before. The data folder's identity holds the rest of what
/// is fixed.
///
/// # Errors
/// `Mismatch`; what keeps the ring map from being read.
pub fn check_fixed(config: &Config, folder: &DataFolder) -> Result<(), NodeError> {
    let disk = RealDisk::open(folder.path()).map_err(|error| NodeError::Disk(error.to_string()))?;
    let found = known_ring(&disk)?.and_then(|ring| Some(ring.shards.first()?.len()));
    let expected = usize::from(config.replication_factor);
    match found {
        Some(found) if found != expected => Err(NodeError::Mismatch { field: "replication_factor", found, expected }),
        _ => Ok(()),
    }
}

/// The ring map that this node has seen last.
fn known_ring(disk: &dyn Disk) -> Result<Option<RingMap>, NodeError> {
    map_keeper::read_copy(disk).map_err(|error| match error {
        KeptError::Disk(error) => NodeError::Disk(error.to_string()),
        KeptError::Damaged(error) => NodeError::Ring(error),
    })
}

/// Runs a node until `stop` is cancelled and everything in the data folder is synced; gives the folder back.
///
/// # Errors
/// What ended it early.
pub async fn run(
    config: Config,
    tls: TlsIdentity,
    mut folder: DataFolder,
    stop: CancellationToken,
) -> Result<DataFolder, NodeError> {
    let (fatal, mut failed) = mpsc::channel(4);
    let (root, _) = Actor::spawn(Some(format!("node/{}", config.node_id)), Root, fatal.clone()).await?;
    let node = Node::start(&config, tls, &mut folder, &root.get_cell(), fatal, stop.clone()).await?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(reason) = failed.recv() => Err(reason),
    };
    match ended {
        Ok(()) => {
            info!("stopping: handing leadership over, then asking clients to leave");
            node.stop(&mut failed).await?;
            root.stop(None);
            Ok(folder)
        }
        // Nothing is tidied up after a failure: recovery verifies what the disk holds. Not even the journal's thread is
        // waited for, which may never come back from a disk that stalls.
        Err(reason) => {
            std::mem::forget(node);
            Err(reason)
        }
    }
}

/// The parts of a running node.
struct Node {
    router: Arc<Router>,
    journal: Journal,
    shards: ActorRef<ShardsMessage>,
    others: Vec<ActorCell>,
    peer_door: Arc<PeerDoor>,
    binary: Arc<BinaryDoor>,
    /// Asks clients to leave.
    drain: CancellationToken,
    /// Ends the doors, and all tasks that go on as long as they do.
    doors: CancellationToken,
    /// Ends the answers to peers.
    answers: CancellationToken,
    scrub: Option<ScrubThread>,
}

impl Node {
    async fn start(
        config: &Config,
        tls: TlsIdentity,
        folder: &mut DataFolder,
        root: &ActorCell,
        fatal: mpsc::Sender<NodeError>,
        stop: CancellationToken,
    ) -> Result<Self, NodeError> {
        let address = config.client_listen;
        let listen_error = |error| NodeError::Listen { field: "client_listen", address, error };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;

        let disk: Arc<dyn Disk> =
            Arc::new(RealDisk::open(folder.path()).map_err(|error| NodeError::Disk(error.to_string()))?);
        let initial = initial_ring(config)?;
        let known = known_ring(&*disk)?;
        let replayed = replay_journal(config, &disk, folder).await?;
        if folder.start_kind() == StartKind::Amnesiac {
            forget_everything(&disk, known.as_ref().unwrap_or(&initial), config.node_id).await?;
            folder.amnesia_healed().map_err(|error| NodeError::Disk(error.to_string()))?;
        }
        let segments = SpareSource::start(Arc::clone(&disk)).map_err(|error| NodeError::Disk(error.to_string()))?;
        let segments = Arc::new(segments);
        let (journal, handle) = start_journal(config, &disk, replayed, fatal.clone()).await?;
        let known_disks = KnownDisks::open(Arc::clone(&disk)).map_err(|error| NodeError::Disk(error.to_string()))?;
        let router = Router::new(
            config.node_id,
            known.clone().unwrap_or_else(|| initial.clone()),
            Arc::new(SystemClock),
            disk.fresh_number(),
        );

        let topology = topology_of(&router);
        let [drain, doors, answers] = std::array::from_fn(|_| CancellationToken::new());
        let door: Arc<OnceLock<Arc<BinaryDoor>>> = Arc::default();
        let counted = Arc::clone(&door);
        let connections = move || counted.get().map_or(0, |door| door.connections());
        let pressure = Arc::new(Pressure::new(config.index_limit.bytes(machine_memory_bytes())));
        let inspector = Inspector::new(
            config.name.clone(),
            folder.disk(),
            Arc::clone(&router),
            handle.clone(),
            Arc::clone(&pressure),
            connections,
            stop,
        );
        let context = Arc::new(SessionContext {
            router: Arc::clone(&router),
            admin: Arc::clone(&inspector) as _,
            offload: Arc::new(BlockingReads::new()),
            fault_hooks: config.fault_hooks,
        });

        let admin = Arc::new(Admin { router: Arc::clone(&router), inspector: Arc::clone(&inspector) });
        let (control_actor, control) =
            Control::start(config.cluster_id, config.node_id, admin, Some(root.clone())).await?;
        inspector.set_control(control.clone());
        let peer_door = PeerDoor::new(Arc::clone(&context), known_disks, answers.clone());
        let (peers_actor, peers) = Peers::start(
            peer_config(config, folder, tls),
            Arc::clone(&peer_door) as _,
            Some(control.session_host()),
            Some(root.clone()),
        )
        .await?;
        router.set_peers(Arc::new(peers));

        let watch = WatchArguments {
            router: Arc::clone(&router),
            disk: Arc::clone(&disk),
            journal: handle.clone(),
            pressure: Arc::clone(&pressure),
            headroom_bytes: config.disk_headroom_bytes,
        };
        let upkeep = UpkeepThread::start(Arc::clone(&disk), config.compaction_bytes_per_second)
            .map_err(|error| NodeError::Disk(error.to_string()))?;
        let scrub = (config.scrub_bytes_per_second > 0)
            .then(|| ScrubThread::start(Arc::clone(&disk), Arc::clone(&router), config.scrub_bytes_per_second))
            .transpose()
            .map_err(|error| NodeError::Disk(error.to_string()))?;
        let shards_arguments = ShardsArguments {
            router: Arc::clone(&router),
            inspector: Arc::clone(&inspector),
            disk: Arc::clone(&disk),
            log: LogOptions::new(segments),
            journal: Arc::new(handle),
            pressure,
            upkeep: Arc::new(upkeep),
            upkeep_options: upkeep_options(config),
        };
        let name = Some(format!("node/{}/shards", config.node_id));
        let (shards, _) = Actor::spawn_linked(name, ShardsSupervisor, shards_arguments, root.clone()).await?;
        let mut others = vec![control_actor, peers_actor];
        let plan = ReplicaPlan::new(config.node_id, config.cluster_id, config.tick().as_millis() as u64);
        let disk_id = folder.disk();
        if folder.start_kind() == StartKind::Amnesiac {
            // Until they are replaced and opened.
            let held = router.ring().held_by(config.node_id);
            held.iter().for_each(|(shard, _)| inspector.set_idle(*shard, ShardRole::Amnesiac));
        }
        let follow = {
            let (control, shards) = (control.clone(), shards.clone());
            move |ring: &RingMap| {
                let orders = plan.orders(ring, disk_id);
                if orders.place == Place::Stranger {
                    warn!(folder = %disk_id, "the ring map names another data folder for this node: it holds nothing until it is replaced");
                }
                orders.configs.iter().for_each(|config| control.join_shard(config.shard));
                let _ = shards.cast(ShardsMessage::Follow(orders));
            }
        };
        // Before a ring map is known to be agreed on, at most the group that agrees on it runs.
        let found = found_meta(&plan, &initial, &shards);
        let mut may_found = false;
        if let Some(ring) = &known {
            router.set_ring(ring.clone());
            follow(ring);
        } else if began_meta(&disk)? {
            // It helped to found the group, and ended before it had learnt the map.
            found();
        } else {
            may_found = true;
        }
        let own = Own { folder: disk_id, address: config.client_advertise.clone(), client: ClientId(Uuid::new_v4()) };
        let keeper = MapKeeper::new(Arc::clone(&router), disk, own, initial, may_found).with_levels(config.levels);
        let arguments = MetaArguments { keeper, changed: Box::new(follow), found: Box::new(found) };
        let name = Some(format!("node/{}/meta", config.node_id));
        let (meta, _) = Actor::spawn_linked(name, MetaActor, arguments, root.clone()).await?;
        others.push(meta.get_cell());

        let binary = BinaryDoor::new(context, topology, config.connections_max as usize, drain.clone(), doors.clone());
        let _ = door.set(Arc::clone(&binary));
        let stalls = fatal.clone();
        let on_stall = move |reason| {
            // A full channel holds a reason already.
            let _ = stalls.try_send(NodeError::Disk(reason));
        };
        let watching = disk_loop::run(watch, on_stall, doors.clone());
        spawn_essential("the watch of the disk", watching, doors.clone(), fatal.clone());
        let accepting = Arc::clone(&binary).accept(listener);
        spawn_essential("the clients' door", accepting, drain.clone(), fatal.clone());
        spawn_essential(
            "the ticker",
            tick(Arc::clone(&router), Arc::clone(&peer_door), config.tick(), doors.clone()),
            doors.clone(),
            fatal,
        );
        info!(client = %config.client_listen, peer = %config.peer_listen, "listening");
        Ok(Node { router, journal, shards, others, peer_door, binary, drain, doors, answers, scrub })
    }

    /// Hands leadership over, answers what is under way, and syncs. In this order: while leadership moves, clients and peers
    /// ask as ever, and what they ask is held and passed on; then clients are asked to leave, and are served by the new
    /// leaders until they have; only then do the shards end, which vote and acknowledge up to there.
    async fn stop(self, failed: &mut mpsc::Receiver<NodeError>) -> Result<(), NodeError> {
        self.router.fitness().set(Unfit::Stopping, true);
        // Nobody is to hand anything back to this node from here on.
        self.peer_door.tick();
        self.hand_over().await;
        self.drain.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT + STOP_ALONE_TIMEOUT, self.binary.emptied()).await.is_err() {
            warn!(connections = self.binary.connections(), "some clients did not leave in time");
        }
        self.doors.cancel();
        drop(self.scrub);
        let stopped = self.shards.cast(ShardsMessage::Stop).is_ok();
        if stopped && self.shards.wait(Some(STOP_TIMEOUT)).await.is_err() {
            warn!("the shards did not stop in time");
        }
        // Whatever peers have passed on until here is back with them.
        self.answers.cancel();
        for actor in self.others {
            actor.stop(None);
        }
        let journal = self.journal;
        let synced = tokio::task::spawn_blocking(move || journal.stop()).await;
        match (synced, failed.try_recv()) {
            (_, Ok(reason)) => Err(reason),
            (Ok(()), Err(_)) => Ok(()),
            (Err(panic), Err(_)) => Err(NodeError::Disk(panic.to_string())),
        }
    }

    /// Hands over every shard that is led here, all at once, and waits until their new leaders are known, but not for long: a
    /// cluster that stops as a whole has nobody to hand over to.
    async fn hand_over(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        let began = tokio::time::Instant::now();
        let mut asked_at = None;
        loop {
            let left = self.to_hand_over();
            if left.is_empty() {
                return info!(took = ?began.elapsed(), "leadership is handed over");
            }
            let somebody_can = left.iter().any(|handle| self.has_fit_peer(handle.shard));
            let until = began + if somebody_can { STOP_TIMEOUT } else { STOP_ALONE_TIMEOUT };
            let now = tokio::time::Instant::now();
            if now >= until {
                let shards: Vec<ShardId> = left.iter().map(|handle| handle.shard).collect();
                let why = if somebody_can { "nobody took over in time" } else { "nobody fit is there to take over" };
                return warn!(?shards, why, "leadership of some shards is not handed over");
            }
            if asked_at.is_none_or(|at| now - at >= HAND_OVER_AGAIN) {
                asked_at = Some(now);
                for handle in &left {
                    handle.inbox.command(ShardCommand::HandOver);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The replicas that lead a shard which others hold, too, and those whose next leader this node does not know yet although
    /// there may be one.
    fn to_hand_over(&self) -> Vec<Arc<ShardHandle>> {
        let ring = self.router.ring();
        let mut all = self.router.all_local();
        all.retain(|handle| {
            let leads = handle.status.lock().role == Role::Leader;
            let awaits = || self.router.leader(handle.shard).is_none() && self.has_fit_peer(handle.shard);
            ring.replicas(handle.shard).len() > 1 && (leads || awaits())
        });
        all
    }

    /// Whether another node that holds a replica of the shard is connected, and fit to lead.
    fn has_fit_peer(&self, shard: ShardId) -> bool {
        let (ring, me) = (self.router.ring(), self.router.me());
        let is_up = |node: NodeId| self.router.peers().is_some_and(|peers| peers.is_up(node));
        ring.replicas(shard).iter().map(|held| ReplicaId(held.replica)).any(|replica| {
            let node = ring.node_of(shard, replica).filter(|node| *node != me);
            node.is_some_and(is_up) && self.router.is_fit(shard, replica)
        })
    }
}

/// The root of the actor tree: notes which child failed, and ends the node.
struct Root;

impl Actor for Root {
    type Msg = ();
    type State = mpsc::Sender<NodeError>;
    type Arguments = mpsc::Sender<NodeError>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        fatal: mpsc::Sender<NodeError>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(fatal)
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        fatal: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, reason) = event {
            // A full channel holds a reason already.
            let _ = fatal.try_send(match reason.downcast_ref::<DiskFailed>() {
                Some(failed) => NodeError::Disk(failed.to_string()),
                None => NodeError::RestartIntensity(reason.to_string()),
            });
        }
        Ok(())
    }
}

/// What peers may ask of this node over the control plane.
struct Admin {
    router: Arc<Router>,
    inspector: Arc<Inspector>,
}

impl AdminHandler for Admin {
    fn status(&self) -> Vec<u8> {
        self.inspector.status_bytes().into()
    }

    fn transfer_leadership(&self, shard: ShardId, to: NodeId) -> Result<(), String> {
        self.router.transfer(shard, to).map_err(|error| error.to_string())
    }
}

/// Writes back what the journal holds for the segments. If it is damaged and was needed, the folder has amnesia from here on.
/// The ring map with the leaders that are known, now and whenever it changes.
fn topology_of(router: &Router) -> watch::Receiver<Arc<TopologyNews>> {
    let (sender, receiver) = watch::channel(router.topology_news());
    router.set_topology_listener(Box::new(move |news| drop(sender.send_replace(Arc::clone(news)))));
    receiver
}

async fn replay_journal(config: &Config, disk: &Arc<dyn Disk>, folder: &mut DataFolder) -> Result<Replayed, NodeError> {
    let (disk, after_clean_stop) = (Arc::clone(disk), folder.start_kind() == StartKind::AfterCleanStop);
    let replayed = tokio::task::spawn_blocking(move || journal::replay_or_give_up(&*disk, after_clean_stop));
    let (replayed, damage) = replayed.await.map_err(|panic| NodeError::Disk(panic.to_string()))??;
    if replayed.chunks > 0 {
        info!(rounds = replayed.rounds, appends = replayed.chunks, "wrote the journal back into the shards' logs");
    }
    match damage {
        None => {}
        Some(damage) if after_clean_stop => {
            error!(error = %damage, "the journal is damaged; nothing is lost, since the node stopped cleanly: begins another");
        }
        // Nobody else holds what this node does; what its files are worth is for an operator to say.
        Some(damage) if config.replication_factor == 1 => return Err(damage.into()),
        Some(damage) => {
            error!(error = %damage, "the journal is damaged: what this node has promised is not known any more");
            folder.lose_memory().map_err(|error| NodeError::Disk(error.to_string()))?;
        }
    }
    Ok(replayed)
}

async fn start_journal(
    config: &Config,
    disk: &Arc<dyn Disk>,
    replayed: Replayed,
    fatal: mpsc::Sender<NodeError>,
) -> Result<(Journal, JournalHandle), NodeError> {
    let options = JournalOptions {
        file_bytes: u32::try_from(config.journal.file_bytes).unwrap_or(u32::MAX),
        files: config.journal.files.into(),
        ..JournalOptions::default()
    };
    let (disk, durability) = (Arc::clone(disk), config.durability);
    let started = tokio::task::spawn_blocking(move || {
        let on_fatal = Box::new(move |error: JournalError| {
            // A full channel holds a reason already.
            let _ = fatal.try_send(error.into());
        });
        Journal::start(&*disk, options, durability, replayed, on_fatal)
    });
    Ok(started.await.map_err(|panic| NodeError::Disk(panic.to_string()))??)
}

/// Writes down for each replica of a folder with amnesia that it is over: none of them may be opened again. Those that take
/// their place erase what is there and begin with nothing. May be repeated.
async fn forget_everything(disk: &Arc<dyn Disk>, ring: &RingMap, me: NodeId) -> Result<(), NodeError> {
    warn!(
        "this node has amnesia (its journal is damaged, or its machine went down without a clean stop and durability is \
         `memory`): what it held does not count any more, and its replicas wait to be replaced"
    );
    let files = ReplicaFiles::new(Arc::clone(disk), Arc::new(InlineSource::new(Arc::clone(disk))));
    let held = ring.held_by(me);
    let noted = tokio::task::spawn_blocking(move || files.forget_all(held));
    let noted = noted.await.map_err(|panic| NodeError::Disk(panic.to_string()))?;
    noted.map_err(|error| NodeError::Disk(error.to_string()))
}

/// Opens this node's replica of the `meta` group under the id that the first map gives it, if it gives one.
fn found_meta(
    plan: &ReplicaPlan,
    initial: &RingMap,
    shards: &ActorRef<ShardsMessage>,
) -> impl Fn() + Send + Sync + use<> {
    let config = plan.configs(initial).into_iter().find(|config| config.shard == ShardId::META);
    let shards = shards.clone();
    move || {
        if let Some(config) = config.clone() {
            let _ = shards.cast(ShardsMessage::Found(Box::new(config)));
        }
    }
}

/// Whether this folder has files of the `meta` group.
fn began_meta(disk: &Arc<dyn Disk>) -> Result<bool, NodeError> {
    let segments = disk.list_segments(ShardId::META).map_err(|error| NodeError::Disk(error.to_string()))?;
    Ok(!segments.is_empty())
}

fn initial_ring(config: &Config) -> Result<RingMap, PlacementError> {
    let nodes = config.members.iter().map(|member| RingNode {
        id: member.id.0,
        name: member.name.clone(),
        zone: member.zone.clone(),
        client: member.client.clone(),
        peer: member.peer.clone(),
        weight: 1,
        disk: None,
        unknown: Default::default(),
    });
    let (shards, replicas) = (config.shards, config.replication_factor);
    RingMap::initial(config.cluster_id, config.durability, nodes.collect(), shards, replicas)
}

fn peer_config(config: &Config, folder: &DataFolder, tls: TlsIdentity) -> PeerConfig {
    let others = config.members.iter().filter(|member| member.id != config.node_id);
    PeerConfig {
        node: config.node_id,
        cluster: config.cluster_id,
        disk: folder.disk(),
        starts: folder.starts(),
        client: config.client_advertise.clone(),
        listen: config.peer_listen,
        peers: others.map(|member| PeerAddress { node: member.id, address: member.peer.clone() }).collect(),
        tls,
        levels: config.levels,
        program: concat!("kvorum ", env!("CARGO_PKG_VERSION")).into(),
        mtu: None,
    }
}

/// Runs a task without which the node would only seem to live. If it ends before `stop`, the node does.
fn spawn_essential(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
    fatal: mpsc::Sender<NodeError>,
) {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        let ended = task.await;
        if ended.is_err() || !stop.is_cancelled() {
            // A full channel holds a reason already.
            let _ = fatal.try_send(NodeError::Task(name));
        }
    });
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

/// Without a rate nothing is garbage enough; checkpoints go on, or a restart would take ever longer.
fn upkeep_options(config: &Config) -> UpkeepOptions {
    let usual = UpkeepOptions::default();
    match config.compaction_bytes_per_second {
        0 => UpkeepOptions { garbage_bytes_min: u64::MAX, ..usual },
        _ => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_essential_task_that_panics_ends_the_node_and_one_that_is_stopped_does_not() {
        let (fatal, mut failed) = mpsc::channel(4);
        let stop = CancellationToken::new();
        spawn_essential("this", async { panic!("a test of what a panic does") }, stop.clone(), fatal.clone());
        assert!(matches!(failed.recv().await, Some(NodeError::Task("this"))));
        stop.cancel();
        spawn_essential("that", async {}, stop, fatal);
        assert!(failed.recv().await.is_none(), "the watcher has gone without a word");
    }
}
