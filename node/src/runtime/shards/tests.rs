//! The supervisor with real actors, over a disk in memory on which one shard's recovery can be held up.

use super::*;
use crate::auth::cert::{ClusterAuthority, Identity};
use crate::auth::certificates::NodeCertificates;
use crate::doors::places::Places;
use crate::runtime::journal_threads::Journal;
use crate::runtime::status::Observed;
use crate::runtime::system_clock::SystemClock;
use crate::runtime::upkeep_thread::UpkeepThread;
use kvorum_core::disk::DiskError;
use kvorum_core::disk::memory::MemoryDisk;
use kvorum_core::folder::replica_files::Noted;
use kvorum_core::journal::{JournalOptions, Replayed};
use kvorum_core::log::{InlineSource, PreparedSegment, SegmentSource};
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_core::shard::ReplicaPlan;
use kvorum_protocol::{Authority, AuthorityHash, ClusterId, Durability, FolderId, NodeId};
use parking_lot::{Condvar, Mutex};
use std::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);
const SLOW: ShardId = ShardId(0);

/// Holds one shard's openings up until it is let go.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    waits: bool,
    open: bool,
}

impl Gate {
    fn wait(&self) {
        let mut state = self.state.lock();
        state.waits = true;
        self.changed.wait_while(&mut state, |state| !state.open);
    }

    fn let_go(&self) {
        self.state.lock().open = true;
        self.changed.notify_all();
    }
}

struct HeldUp {
    inner: InlineSource,
    gate: Arc<Gate>,
}

impl SegmentSource for HeldUp {
    fn prepare(&self, shard: ShardId, number: u32, bytes: u32) {
        self.inner.prepare(shard, number, bytes);
    }
    fn ready(&self, shard: ShardId, number: u32, bytes: u32) -> bool {
        self.inner.ready(shard, number, bytes)
    }
    fn take(&self, shard: ShardId, number: u32, bytes: u32) -> Result<PreparedSegment, DiskError> {
        self.inner.take(shard, number, bytes)
    }
    fn forget(&self, shard: ShardId) {
        if shard == SLOW {
            self.gate.wait();
        }
        self.inner.forget(shard);
    }
}

struct Node {
    router: Arc<Router>,
    ring: RingMap,
    plan: ReplicaPlan,
    folder: FolderId,
    files: ReplicaFiles,
    supervisor: ActorRef<ShardsMessage>,
    arguments: ShardsArguments,
    gate: Arc<Gate>,
    _journal: Journal,
}

impl Drop for Node {
    fn drop(&mut self) {
        // The runtime waits for its blocking threads.
        self.gate.let_go();
    }
}

impl Node {
    async fn start() -> Self {
        let (me, folder) = (NodeId(Uuid::from_u128(1)), FolderId(Uuid::from_u128(1_001)));
        let node = RingNode {
            client: "127.0.0.1:7401".to_owned(),
            peer: "127.0.0.1:7411".to_owned(),
            disk: Some(folder),
            ..RingNode::new(me.0, "node-1")
        };
        let cluster = ClusterId(Uuid::from_u128(9));
        let ring = RingMap::initial(cluster, Durability::Memory, vec![node], 4, 1).unwrap();
        let router = Router::new(me, ring.clone(), Arc::new(SystemClock), 1);
        router.set_ring(ring.clone());
        let disk: Arc<dyn Disk> = MemoryDisk::new();
        let options = JournalOptions::default();
        let (journal, handle) =
            Journal::start(&*disk, options, Durability::Memory, Replayed::default(), Box::new(|_| {})).unwrap();
        let pressure: Arc<Pressure> = Arc::default();
        let issued = ClusterAuthority::create().unwrap().issue(cluster, me, &[]).unwrap();
        let observed = Observed {
            name: "node-1".to_owned(),
            http_port: 0,
            folder,
            authority: Authority { cluster, hash: AuthorityHash([0; 32]) },
            router: Arc::clone(&router),
            journal: handle.clone(),
            pressure: Arc::clone(&pressure),
            places: Places::new(1, 0),
            doors: Arc::default(),
            certificates: NodeCertificates::of(issued, Identity { cluster, node: me }),
            handshakes: Arc::default(),
            audit_tail: Arc::default(),
        };
        let inspector = Inspector::new(observed, CancellationToken::new());
        let gate: Arc<Gate> = Arc::default();
        let source = HeldUp { inner: InlineSource::new(Arc::clone(&disk)), gate: Arc::clone(&gate) };
        let files = ReplicaFiles::new(Arc::clone(&disk), Arc::new(InlineSource::new(Arc::clone(&disk))));
        let arguments = ShardsArguments {
            router: Arc::clone(&router),
            inspector,
            disk: Arc::clone(&disk),
            log: LogOptions::new(Arc::new(source)),
            journal: Arc::new(handle),
            pressure,
            upkeep: Arc::new(UpkeepThread::start(disk, 0, || {}).unwrap()),
            upkeep_options: UpkeepOptions::default(),
            unsynced: Arc::default(),
        };
        let (supervisor, _) = Actor::spawn(None, ShardsSupervisor, arguments.clone()).await.unwrap();
        let plan = ReplicaPlan::new(me, cluster, 50);
        Self { router, ring, plan, folder, files, supervisor, arguments, gate, _journal: journal }
    }

    fn follow(&self, ring: &RingMap) {
        self.supervisor.cast(ShardsMessage::Follow(self.plan.orders(ring, self.folder))).unwrap();
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&Router) -> bool) {
        let began = Instant::now();
        while !holds(&self.router) {
            assert!(began.elapsed() < PATIENCE, "{what}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the slow shard's opening has begun.
    async fn slow_one_begins(&self) {
        self.eventually("the slow shard is opened", |_| self.gate.state.lock().waits).await;
    }
}

fn is_open(router: &Router, shard: ShardId) -> bool {
    router.local(shard).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_opening_keeps_no_other_shard_waiting() {
    let node = Node::start().await;
    node.follow(&node.ring);
    node.slow_one_begins().await;
    node.eventually("the others are opened", |router| (1..4).all(|shard| is_open(router, ShardId(shard)))).await;
    let first = node.router.local(ShardId(1)).unwrap();
    assert!(first.inbox.command(ShardCommand::Panic));
    let restarted = |router: &Router| router.local(ShardId(1)).is_some_and(|now| now.incarnation > first.incarnation);
    node.eventually("one that fails is restarted", restarted).await;
    assert!(!is_open(&node.router, SLOW));
    node.gate.let_go();
    node.eventually("the slow one is opened in the end", |router| is_open(router, SLOW)).await;
    node.supervisor.cast(ShardsMessage::Stop).unwrap();
    node.supervisor.wait(Some(PATIENCE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_replaced_while_it_is_opened_makes_way_for_the_next_one() {
    let node = Node::start().await;
    node.follow(&node.ring);
    node.slow_one_begins().await;
    let old = node.ring.replica_on(SLOW, node.router.me()).unwrap();
    let next = node.ring.replace_replica(SLOW, old).unwrap();
    node.router.set_ring(next.clone());
    node.follow(&next);
    assert!(!is_open(&node.router, SLOW));
    node.gate.let_go();
    let fresh = next.replica_on(SLOW, node.router.me()).unwrap();
    let begun = |router: &Router| is_open(router, SLOW) && node.files.noted(SLOW).unwrap() == Noted::Live(fresh);
    node.eventually("the next one is opened, in files of its own", begun).await;
    node.supervisor.cast(ShardsMessage::Stop).unwrap();
    node.supervisor.wait(Some(PATIENCE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_an_opening_without_end() {
    let node = Node::start().await;
    node.follow(&node.ring);
    node.slow_one_begins().await;
    node.supervisor.cast(ShardsMessage::Stop).unwrap();
    timeout(PATIENCE, node.supervisor.wait(None)).await.expect("in bounded time").unwrap();
}

/// Stands for a shard's actor: ends as it is told to leave, and fails as it stops.
struct StandIn;

impl Actor for StandIn {
    type Msg = ShardMessage;
    type State = bool;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ShardMessage>, (): ()) -> Result<bool, ActorProcessingErr> {
        Ok(false)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        was_told_to_leave: &mut bool,
    ) -> Result<(), ActorProcessingErr> {
        *was_told_to_leave = matches!(message, ShardMessage::Leave);
        myself.stop(None);
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<ShardMessage>,
        was_told_to_leave: &mut bool,
    ) -> Result<(), ActorProcessingErr> {
        let error = DiskError::new("sync", "a file", std::io::ErrorKind::Other.into());
        if *was_told_to_leave { Ok(()) } else { Err(ShardError::Log(LogError::from(error)).into()) }
    }
}

#[tokio::test]
async fn a_replica_that_is_replaced_leaves_and_one_that_has_ended_is_not_waited_for() {
    let node = Node::start().await;
    let mut state = ShardsState::new(node.arguments.clone());
    for has_ended in [false, true] {
        let (actor, ending) = Actor::spawn(None, StandIn, ()).await.unwrap();
        if has_ended {
            actor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
        }
        state.actors.insert(SLOW, actor);
        state.stop_one(SLOW).await.expect("it ends in time");
        timeout(PATIENCE, ending).await.expect("it has ended").unwrap();
        assert!(state.actors.is_empty());
    }
}

/// Notes why the supervisor of shards has failed.
struct NotesFailure;

impl Actor for NotesFailure {
    type Msg = ();
    type State = std::sync::mpsc::Sender<ActorProcessingErr>;
    type Arguments = std::sync::mpsc::Sender<ActorProcessingErr>;

    async fn pre_start(&self, _: ActorRef<()>, told: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
        Ok(told)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        told: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, cause) = event {
            told.send(cause).expect("the test listens");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_while_shards_stop_ends_the_process() {
    let node = Node::start().await;
    let (told, hears) = std::sync::mpsc::channel();
    let (outer, _) = Actor::spawn(None, NotesFailure, told).await.unwrap();
    node.supervisor.link(outer.get_cell());
    node.follow(&node.ring);
    node.slow_one_begins().await;
    node.eventually("the others are opened", |router| (1..4).all(|shard| is_open(router, ShardId(shard)))).await;
    // In place of the one that is still being opened.
    let (actor, _) = Actor::spawn_linked(None, StandIn, (), node.supervisor.get_cell()).await.unwrap();
    let replica = node.ring.replica_on(SLOW, node.router.me()).unwrap();
    let wanted = WantedReplica { shard: SLOW, replica, epoch: node.ring.epoch, may_begin: true };
    let over = OpeningOver { wanted, outcome: Ok(Spawned::Runs(actor)) };
    node.supervisor.cast(ShardsMessage::Opened(Box::new(over))).unwrap();
    node.supervisor.cast(ShardsMessage::Stop).unwrap();
    node.supervisor.wait(Some(PATIENCE)).await.unwrap();
    outer.drain_and_wait(Some(PATIENCE)).await.unwrap();
    let cause = hears.recv().expect("the supervisor has failed");
    assert!(matches!(cause.downcast_ref(), Some(ProcessEnd::Disk { shard: SLOW, .. })), "{cause}");
}
