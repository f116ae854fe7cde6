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
        };
        let (supervisor, _) = Actor::spawn(None, ShardsSupervisor, arguments).await.unwrap();
        let plan = ReplicaPlan::new(me, cluster, 50);
        Self { router, ring, plan, folder, files, supervisor, gate, _journal: journal }
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
