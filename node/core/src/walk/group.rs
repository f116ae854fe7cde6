//! Three replicas of one shard under their hosts, and the session of a client of their leader, in one thread.

use super::{Taker, WalkStep};
use crate::clock::{Clock, Nanos, Now};
use crate::cost;
use crate::disk::Disk;
use crate::journal::{ShardJournal, Submission};
use crate::log::{LogOptions, Position, SegmentSource};
use crate::measure::meter::{Door, NoMeter};
use crate::ring::verbs::Verb;
use crate::ring::{RingMap, RingNode};
use crate::routing::router::Router;
use crate::session::reply::ReplyTo;
use crate::session::{Answered, NodeAdmin, Offload, Session, SessionContext};
use crate::shard::ShardHandle;
use crate::shard::host::{ShardArguments, ShardHost, ShardOutlet, TurnEnd};
use crate::shard::inbox::{Inbox, QueueBudget, QueueLimits, Waker};
use crate::shard::upkeep::{DumpPermits, Job, Upkeep, UpkeepOptions};
use crate::shard::{ReplicaPlan, ReplicaStatus};
use kvorum_protocol::peer::RaftMessage;
use kvorum_protocol::{
    AuthVerb, Authority, AuthorityHash, ClientId, ClusterId, Durability, ErrorCode, FolderId, LogLevelAsk,
    LogLevelView, NodeId, Request, RequestBody, RequestId, ResponseBody, ServerError, ShardId, StatusScope,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

const REPLICAS: usize = 3;
const TICK_MS: u64 = 50;
const SHARD: ShardId = ShardId(0);

/// A clock that moves when told to.
struct Hand(Mutex<Now>);

impl Clock for Hand {
    fn now(&self) -> Now {
        *self.0.lock()
    }

    fn monotonic(&self) -> Nanos {
        self.now().monotonic
    }
}

/// What one replica needs of a node: syncs are reported at once, messages and jobs wait for the group.
struct Surroundings {
    router: Arc<Router>,
    messages: Mutex<Vec<RaftMessage>>,
    jobs: Mutex<Vec<(Job, Arc<Inbox>)>>,
    work: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    permits: Arc<DumpPermits>,
}

impl ShardJournal for Surroundings {
    fn submit(&self, submission: Submission) {
        submission.listener.persisted(submission.token);
    }

    fn durable(&self, _shard: ShardId) -> Option<Position> {
        None
    }
}

impl Upkeep for Surroundings {
    fn submit(&self, _shard: ShardId, job: Job, inbox: Arc<Inbox>) {
        self.jobs.lock().push((job, inbox));
    }

    fn permits(&self) -> &Arc<DumpPermits> {
        &self.permits
    }
}

impl ShardOutlet for Surroundings {
    fn send(&self, _shard: ShardId, messages: Vec<RaftMessage>) {
        self.messages.lock().extend(messages);
    }

    fn opened(&self, handle: Arc<ShardHandle>) {
        self.router.opened(handle);
    }

    fn changed(&self, shard: ShardId, status: ReplicaStatus) {
        self.router.changed(shard, status);
    }
}

impl Offload for Surroundings {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self.work.lock().push(work);
    }
}

/// A node answers these elsewhere.
struct Admin;

impl NodeAdmin for Admin {
    fn answer_status(self: Arc<Self>, _scope: StatusScope, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::Unavailable, "there is no node"));
    }

    fn transfer(self: Arc<Self>, _shard: ShardId, _to: NodeId, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::Unavailable, "there is no node"));
    }

    fn ask(self: Arc<Self>, _verb: Verb, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::Unavailable, "there is no node"));
    }

    fn plan(self: Arc<Self>, _verb: Option<Verb>, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::Unavailable, "there is no node"));
    }

    fn change_auth(self: Arc<Self>, _verb: AuthVerb, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::Unavailable, "there is no node"));
    }

    fn authority(&self) -> Authority {
        Authority { cluster: ClusterId(Uuid::nil()), hash: AuthorityHash([0; 32]) }
    }

    fn log_level(&self, _ask: LogLevelAsk) -> Option<LogLevelView> {
        None
    }

    fn stop_node(&self) {}
}

struct Replica {
    host: ShardHost,
    around: Arc<Surroundings>,
    disk: Arc<dyn Disk>,
    woken: Arc<AtomicBool>,
}

/// The group, and a client.
pub struct Group {
    replicas: Vec<Replica>,
    clock: Arc<Hand>,
    session: Session<u64>,
    requests: u32,
    sequence: u64,
    steps: Vec<WalkStep>,
    answers: Vec<ResponseBody>,
}

impl Group {
    /// A group whose first replica leads. Its replicas keep their files on these disks, which must be empty, and have segments from these
    /// sources.
    ///
    /// # Panics
    /// If a disk fails.
    pub fn new(place: impl Fn(usize) -> (Arc<dyn Disk>, Arc<dyn SegmentSource>)) -> Self {
        let wall_ms = 1_700_000_000_000;
        let clock =
            Arc::new(Hand(Mutex::new(Now { monotonic: Nanos(1_000_000_000), wall_ms, agreed_ms: Some(wall_ms) })));
        let ring = ring(1);
        let mut replicas: Vec<Replica> =
            (0..REPLICAS).map(|number| Replica::open(number, &ring, place(number), &clock)).collect();
        // The first replica is the one that should lead.
        replicas.sort_by_key(|replica| replica.host.shard().replica());
        let session = session(&replicas[0].around, Arc::clone(&replicas[0].around.router));
        let (steps, answers) = (Vec::new(), Vec::new());
        let mut group = Self { replicas, clock, session, requests: 0, sequence: 0, steps, answers };
        for _ in 0..40 {
            group.tick();
        }
        assert!(group.leads(), "the replica that should lead does");
        group
    }

    fn leads(&self) -> bool {
        self.replicas[0].host.shard().status().serving
    }

    /// The next number of a write, of which so many follow.
    pub(super) fn next_sequence(&mut self, writes: u64) -> u64 {
        let first = self.sequence + 1;
        self.sequence += writes;
        first
    }

    /// What the leader has done to keep its files in order.
    pub(super) fn upkeep(&self) -> crate::shard::upkeep::UpkeepCounts {
        self.replicas[0].host.upkeep_counts()
    }

    /// Has a client send a request, and all take their steps until it is answered and nothing is left to do.
    pub(super) fn request(&mut self, body: RequestBody) -> (ResponseBody, Vec<WalkStep>) {
        self.settle();
        self.steps.clear();
        self.answers.clear();
        self.requests += 1;
        let request = Request { id: RequestId(self.requests), deadline_ms: 600_000, body };
        let (client, now) = (ClientId(Uuid::from_u128(7)), self.clock.monotonic());
        let Self { session, steps, answers, .. } = self;
        let mut take = |answered: Answered<u64>| answers.push(answered.body);
        step(steps, Taker::Session, || session.handle(client, 1, now, request, &mut take));
        self.settle();
        let answer = self.answers.pop().expect("every request is answered");
        (answer, std::mem::take(&mut self.steps))
    }

    /// Time passes.
    pub(super) fn tick(&mut self) -> Vec<WalkStep> {
        let now = {
            let mut now = self.clock.0.lock();
            now.monotonic = now.monotonic.after_ms(TICK_MS);
            now.wall_ms += TICK_MS;
            *now
        };
        for replica in &self.replicas {
            let router = &replica.around.router;
            let others = (0..REPLICAS).map(node).filter(|other| *other != router.me());
            others.for_each(|other| router.hear_clock(other, now.wall_ms, now.monotonic));
            router.judge_clocks();
            replica.host.handle().inbox.tick();
        }
        self.settle();
        std::mem::take(&mut self.steps)
    }

    fn settle(&mut self) {
        while self.round() {}
    }

    /// Everyone who has something to do does it. Returns whether anyone had.
    fn round(&mut self) -> bool {
        let mut busy = false;
        let mut messages = Vec::new();
        for replica in &mut self.replicas {
            if replica.woken.swap(false, Ordering::Relaxed) {
                busy = true;
                let taker = if replica.host.is_long_turn() { Taker::Elsewhere } else { Taker::Shard };
                let end = step(&mut self.steps, taker, || replica.host.turn()).expect("the replica goes on");
                assert_eq!(end, TurnEnd::Done, "nobody sends it a snapshot");
            }
            for work in std::mem::take(&mut *replica.around.work.lock()) {
                busy = true;
                step(&mut self.steps, Taker::Elsewhere, work);
            }
            for (job, inbox) in std::mem::take(&mut *replica.around.jobs.lock()) {
                busy = true;
                let done = job.run(&*replica.disk, &mut |_| true);
                inbox.upkeep_done(done);
            }
            messages.append(&mut replica.around.messages.lock());
        }
        for message in messages {
            busy = true;
            self.replicas[message.to.0 as usize - 1].host.handle().inbox.message(message);
        }
        if self.session.sink().has_replies() {
            busy = true;
            let Self { session, steps, answers, .. } = self;
            let mut take = |answered: Answered<u64>| answers.push(answered.body);
            step(steps, Taker::Session, || session.collect(&mut take));
        }
        busy
    }
}

impl Replica {
    fn open(
        number: usize,
        ring: &RingMap,
        (disk, source): (Arc<dyn Disk>, Arc<dyn SegmentSource>),
        clock: &Arc<Hand>,
    ) -> Self {
        let me = node(number);
        let around = Arc::new(Surroundings {
            router: Router::new(me, ring.clone(), Arc::clone(clock) as _, 1),
            messages: Mutex::default(),
            jobs: Mutex::default(),
            work: Mutex::default(),
            permits: Arc::default(),
        });
        let plan = ReplicaPlan::new(me, ClusterId(ring.cluster), TICK_MS);
        let config = plan.configs(ring).into_iter().find(|config| config.shard == SHARD).expect("every node holds it");
        let arguments = ShardArguments {
            config,
            incarnation: 1,
            log: LogOptions::new(source),
            disk: Arc::clone(&disk),
            journal: Arc::clone(&around) as _,
            queue_budget: Arc::new(QueueBudget::new(QueueLimits::default())),
            pressure: Arc::default(),
            upkeep: Arc::clone(&around) as _,
            upkeep_options: UpkeepOptions::default(),
            outlet: Arc::clone(&around) as _,
            counts: Arc::default(),
            clock: around.router.shared_clock(),
        };
        let woken = Arc::new(AtomicBool::new(true));
        let wake = Arc::clone(&woken);
        let waker = Waker::new(move || wake.store(true, Ordering::Relaxed));
        let host = ShardHost::open(arguments, waker).expect("the disk is sound and empty");
        around.opened(Arc::clone(host.handle()));
        Self { host, around, disk, woken }
    }
}

/// A session of a client of a node that holds no shard, in a cluster of so many.
pub(super) fn session_of(shards: u16) -> Session<u64> {
    let clock = Arc::new(Hand(Mutex::default()));
    let router = Router::new(node(0), ring(shards), clock, 1);
    session(
        &Arc::new(Surroundings {
            router: Arc::clone(&router),
            messages: Mutex::default(),
            jobs: Mutex::default(),
            work: Mutex::default(),
            permits: Arc::default(),
        }),
        router,
    )
}

fn session(around: &Arc<Surroundings>, router: Arc<Router>) -> Session<u64> {
    let offload = Arc::clone(around) as _;
    let (admin, meter) = (Arc::new(Admin), NoMeter::shared());
    Session::new(Arc::new(SessionContext { router, admin, offload, fault_hooks: false, meter }), Door::Binary)
}

fn node(number: usize) -> NodeId {
    NodeId(Uuid::from_u128(number as u128 + 1))
}

fn ring(shards: u16) -> RingMap {
    let ring_node = |number: usize| RingNode {
        client: "[2001:db8::1]:7000".into(),
        disk: Some(FolderId(Uuid::from_u128(number as u128 + 101))),
        ..RingNode::new(node(number).0, format!("node-{number}"))
    };
    let nodes = (0..REPLICAS).map(ring_node).collect();
    let cluster = ClusterId(Uuid::from_u128(99));
    RingMap::initial(cluster, Durability::Fsync, nodes, shards, REPLICAS as u8)
        .expect("three nodes hold three replicas")
}

/// Takes a step, and notes what it cost.
pub(super) fn step<T>(steps: &mut Vec<WalkStep>, taker: Taker, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let (result, cost) = cost::of(work);
    steps.push(WalkStep { taker, cost, elapsed: began.elapsed() });
    result
}
