//! A node: a machine with a disk and clocks, and the process that runs on it. What the process consists of is production
//! code; this module only puts it together, in the order in which `kvorum start` does.
//!
//! Long because a process is one value that hosts everything which production spreads over actors, threads and doors.

use super::clock::NodeClock;
use super::journal::{Journal, LateSync};
use super::moves;
use super::peers::Outbox;
use super::queue::Moment;
use super::replicas::{Ended, Hold, Listening, Replica, panic_text};
use super::storage;
use crate::disk::SimFileSystem;
use crate::plan::Options;
use bytes::BytesMut;
use kvorum_core::clock::Nanos;
use kvorum_core::disk::{Disk, DiskError};
use kvorum_core::folder::known_folders::{KnownFolders, KnownFoldersError};
use kvorum_core::folder::mirrored::KeptError;
use kvorum_core::folder::replica_files::ReplicaFiles;
use kvorum_core::health::disk_watch::{Actions, DiskWatch, Observation};
use kvorum_core::health::pressure::Pressure;
use kvorum_core::health::scrub::{self, Checked, ScrubPass};
use kvorum_core::journal::{self, DurableEnds, JournalError, JournalOptions, JournalWriter, Replayed};
use kvorum_core::limits::DISK_LOOK_EVERY;
use kvorum_core::log::{self, InlineSource, LogError, LogOptions, Recovered, SegmentPlace};
use kvorum_core::map_keeper::{self, MapKeeper, Own};
use kvorum_core::measure::meter::{Door, NoMeter};
use kvorum_core::ring::verbs::Verb;
use kvorum_core::ring::{RingError, RingMap};
use kvorum_core::roster::{Failure, Roster};
use kvorum_core::routing::peer_desk::{PeerDesk, SnapshotReads};
use kvorum_core::routing::router::Router;
use kvorum_core::session::reply::{ReplySink, ReplyTo};
use kvorum_core::session::{Answered, Inline, NodeAdmin, Session, SessionContext};
use kvorum_core::shard::host::TurnEnd;
use kvorum_core::shard::inbox::{Inbox, QueueBudget, QueueLimits};
use kvorum_core::shard::upkeep::{Done, DumpPermits, Job, Slice, Upkeep, UpkeepOptions};
use kvorum_core::shard::{EntryLimits, Held, ORDER_BITS, ReplicaPlan};
use kvorum_core::store::{CaptureSlice, OnceLimits, SessionLimits};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{
    AuthVerb, Authority, AuthorityHash, ClientId, ClusterId, Durability, ErrorCode, FolderId, LogLevelAsk,
    LogLevelView, NodeId, ReplicaId, Request, RequestId, Response, ResponseBody, ServerError, ShardId, StatusScope,
    Topology, frame,
};
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Milliseconds of a tick, and so a tenth of the shortest election timeout: production's defaults.
pub(super) const TICK_MS: u64 = 50;

/// In a short queue a client is light with so many bytes: a request or two.
const LIGHT_BYTES: usize = 512;

/// What is left free of a disk.
pub(super) const HEADROOM_BYTES: u64 = 32 << 10;

/// Small, so that a short run has checkpoints and compactions, and replicas that lag have to be given a snapshot.
pub(super) const UPKEEP: UpkeepOptions = UpkeepOptions {
    checkpoint_bytes: 24 << 10,
    garbage_bytes_min: 24 << 10,
    garbage_percent: 50,
    round_bytes_max: 256 << 10,
    retain_bytes: 8 << 10,
    // So that entries are applied, and processes die, between any two slices.
    slice: Slice { relocations: 3, capture: CaptureSlice { pairs: 5, session_bytes: 150 } },
};

/// A job of a shard's upkeep, and whom to tell of its end.
type SubmittedJob = (ShardId, Job, Arc<Inbox>);

/// Jobs that shards have submitted and that the world has not looked at yet.
#[derive(Default)]
struct Submitted {
    jobs: Mutex<Vec<SubmittedJob>>,
    permits: Arc<DumpPermits>,
}

impl Upkeep for Submitted {
    fn submit(&self, shard: ShardId, job: Job, inbox: Arc<Inbox>) {
        self.jobs.lock().push((shard, job, inbox));
    }

    fn permits(&self) -> &Arc<DumpPermits> {
        &self.permits
    }
}

/// The upkeep of one process, as its thread does it: one job after another. Each job takes two events, so that whatever
/// else happens falls before it, and between its end and the moment at which its shard hears of it.
#[derive(Default)]
pub(super) struct UpkeepQueue {
    submitted: Arc<Submitted>,
    waiting: VecDeque<SubmittedJob>,
    ended: Option<(Arc<Inbox>, Result<Done, LogError>)>,
    planned: bool,
}

impl UpkeepQueue {
    /// Where shards submit their jobs.
    pub(super) fn submissions(&self) -> Arc<dyn Upkeep> {
        Arc::clone(&self.submitted) as _
    }
}

/// Where the answers to peers' requests arrive, by peer.
type DeskSinks = Arc<Mutex<Vec<(NodeId, Arc<ReplySink>)>>>;

/// What became of a node's files. Of two damages the later one in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Medium {
    /// Nothing but crashes.
    Sound,
    /// Replicas may have to be replaced, and none comes back with less than it promised: the journal knows the durable ends of segments
    /// that were damaged, and misses rounds that were.
    Damaged,
    /// What says how far promises go may be gone.
    MayForget,
}

impl Medium {
    /// Nothing was damaged.
    pub(super) fn is_sound(self) -> bool {
        self == Self::Sound
    }
}

/// A machine.
pub(super) struct Node {
    pub(super) id: NodeId,
    /// The data folder's identity; a wiped disk gets another.
    pub(super) folder_id: FolderId,
    pub(super) files: SimFileSystem,
    pub(super) clock: Arc<NodeClock>,
    pub(super) process: Option<Process>,
    /// Processes that have run on it.
    pub(super) processes: u64,
    /// Processes that were started with the folder, as `node/src/folder` counts them.
    pub(super) starts: u64,
    /// The process stands still until then.
    pub(super) paused_until: Option<Moment>,
    /// Syncs that begin before then take until then.
    pub(super) stalled_until: Moment,
    /// What to do if the disk's crash point is reached.
    pub(super) crash: Option<Crash>,
    /// It is to lose power once it has promised what rests on a write that landed elsewhere.
    pub(super) loses_power: Option<LosesPower>,
    /// What became of what it stored.
    pub(super) medium: Medium,
    /// A bit of the journal was turned during this round or after it, and none has begun and ended since: perhaps it was one of the
    /// newest round, and a start would take that for torn.
    pub(super) newest_round_rots: Option<u64>,
    /// The process that has started like that.
    pub(super) started_on_rot: Option<u64>,
    /// The last process has stopped in good order.
    pub(super) stopped_cleanly: bool,
    /// For a machine that is no founder: the map with which it joined.
    pub(super) joined: Option<RingMap>,
    /// Whether it founds the cluster.
    pub(super) founds: bool,
    /// It knows that it was removed, or is lost for good.
    pub(super) gone: bool,
}

/// How a node crashes and comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    pub(super) power: bool,
    pub(super) down_ms: u64,
}

/// When a machine is to lose power.
#[derive(Clone, Copy, Debug)]
pub(super) struct LosesPower {
    pub(super) down_ms: u64,
    /// How many writes had landed elsewhere before.
    pub(super) misdirected: u64,
    /// The round of the one that is meant has ended: it is this one.
    pub(super) round: Option<u64>,
}

/// A running process.
pub(super) struct Process {
    /// Tells it from those before it on any machine.
    pub(super) number: u64,
    pub(super) router: Arc<Router>,
    pub(super) desk: PeerDesk,
    pub(super) outbox: Arc<Outbox>,
    /// A data segment that an opening which found damage has removed.
    pub(super) lost_by_opening: Option<String>,
    /// The machine's disk, to look at.
    pub(super) machine: SimFileSystem,
    pub(super) journal: Journal,
    pub(super) roster: Roster,
    /// Replicas whose files were erased since somebody looked.
    pub(super) erased: Vec<(ShardId, ReplicaId)>,
    pub(super) shards: BTreeMap<ShardId, Replica>,
    pub(super) folder: FolderId,
    pub(super) plan: ReplicaPlan,
    pub(super) session_limits: SessionLimits,
    pub(super) keeper: MapKeeper,
    /// When the keeper last looked at the map.
    pub(super) map_looked_at: Nanos,
    /// The map of a new cluster.
    pub(super) initial: RingMap,
    connections: BTreeMap<u64, Connection>,
    context: Arc<SessionContext>,
    /// What clients were told last.
    topology: Arc<Topology>,
    desk_sinks: DeskSinks,
    pub(super) ready: Arc<Mutex<Vec<ShardId>>>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: LogOptions,
    /// See [`Options`].
    pub(super) order_bits: u32,
    pub(super) queue_budget: Arc<QueueBudget>,
    pub(super) upkeep: UpkeepQueue,
    /// The way through the cold data that is under way.
    scrub: Option<ScrubPass>,
    pub(super) pressure: Arc<Pressure>,
    watch: DiskWatch,
    looked_at: Option<Nanos>,
    /// Its journal was damaged: it has given all its replicas up.
    pub(super) lost_memory: Option<JournalError>,
    /// Appends that the journal wrote back at the start.
    pub(super) replayed_chunks: u64,
    /// A collection of answers is planned.
    pub(super) collects: bool,
    /// Its wall clock is off, as far as it knows.
    pub(super) clock_off: bool,
    /// Turns that are to be held up.
    pub(super) holds: Vec<Hold>,
    /// One of them, which goes on once a heartbeat has come in.
    pub(super) listening: Option<Listening>,
    /// It stops, and has asked for successors then.
    pub(super) handed_over_at: Option<Nanos>,
}

struct Connection {
    client: ClientId,
    session: Session<RequestId>,
}

impl Connection {
    fn has_answers(&self) -> bool {
        self.session.unanswered() > 0 && self.session.sink().has_replies()
    }
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Journal(JournalError),
    #[error(transparent)]
    KnownFolders(KnownFoldersError),
    #[error(transparent)]
    Ring(KeptError<RingError>),
    #[error(transparent)]
    Files(#[from] LogError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Nobody administers a node of a simulation through its sessions.
struct NoAdmin;

impl NodeAdmin for NoAdmin {
    fn answer_status(self: Arc<Self>, _scope: StatusScope, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::NotPermitted, "not part of the simulation"));
    }

    fn transfer(self: Arc<Self>, _shard: ShardId, _to: NodeId, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::NotPermitted, "not part of the simulation"));
    }

    fn ask(self: Arc<Self>, _verb: Verb, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::NotPermitted, "not part of the simulation"));
    }

    fn plan(self: Arc<Self>, _verb: Option<Verb>, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::NotPermitted, "not part of the simulation"));
    }

    fn change_auth(self: Arc<Self>, _verb: AuthVerb, _wait: Duration, reply_to: ReplyTo) {
        reply_to.fail(ServerError::new(ErrorCode::NotPermitted, "not part of the simulation"));
    }

    fn authority(&self) -> Authority {
        Authority { cluster: ClusterId(Uuid::nil()), hash: AuthorityHash([0; 32]) }
    }

    fn log_level(&self, _ask: LogLevelAsk) -> Option<LogLevelView> {
        None
    }

    fn stop_node(&self) {}
}

impl Node {
    pub(super) fn new(
        id: NodeId,
        folder_id: FolderId,
        files: SimFileSystem,
        clock: Arc<NodeClock>,
        founds: bool,
    ) -> Self {
        Self {
            id,
            folder_id,
            files,
            clock,
            process: None,
            processes: 0,
            starts: 0,
            paused_until: None,
            stalled_until: Moment(0),
            crash: None,
            loses_power: None,
            medium: Medium::Sound,
            newest_round_rots: None,
            started_on_rot: None,
            stopped_cleanly: false,
            joined: None,
            founds,
            gone: false,
        }
    }

    /// Whether its process may have begun with less than its replicas had promised: nothing tells what lay at the very end of the
    /// journal, or of a log whose manifest is gone, from what never did.
    pub(super) fn may_have_forgotten(&self) -> bool {
        self.medium == Medium::MayForget || (self.number().is_some() && self.number() == self.started_on_rot)
    }

    /// A round of the journal has ended: perhaps it was the one whose write was to land elsewhere.
    fn landed_elsewhere(&self, loses: &LosesPower) -> bool {
        self.files.counts().faults.misdirected_writes > loses.misdirected
    }

    /// A round of the journal has ended. What is promised after one that landed elsewhere rests on it, until the next one ends.
    pub(super) fn note_misdirected(&mut self, round: u64) {
        let Some(mut loses) = self.loses_power.filter(|loses| self.landed_elsewhere(loses)) else { return };
        let is_first = loses.round.is_none();
        loses.round = Some(round);
        self.loses_power = is_first.then_some(loses);
    }

    /// Whether its process may start.
    pub(super) fn is_member(&self) -> bool {
        !self.gone && (self.founds || self.joined.is_some())
    }

    /// Starts the process: replays the journal, opens the journal, then every replica of the ring. Returns what became
    /// of each replica.
    pub(super) fn start(
        &mut self,
        options: &Options,
        ring: &RingMap,
        number: u64,
        seed: u64,
    ) -> Result<Vec<(ShardId, Ended)>, StartError> {
        self.processes += 1;
        self.starts += 1;
        if self.newest_round_rots.take().is_some() {
            self.started_on_rot = Some(number);
        }
        let joined = self.joined.clone();
        let ring = joined.as_ref().unwrap_or(ring);
        let disk = self.files.open_disk()?;
        let clean = std::mem::take(&mut self.stopped_cleanly);
        let copy = map_keeper::read_copy(&*disk).map_err(StartError::Ring)?;
        let (replayed, damage) = journal::replay_or_give_up(&*disk, clean).map_err(StartError::Journal)?;
        let lost_memory = damage.filter(|_| !clean);
        if lost_memory.is_some() {
            // As `node/src/folder` does: the node is as good as wiped, and its replicas are over.
            self.folder_id = FolderId(Uuid::from_u64_pair(disk.fresh_number(), disk.fresh_number()));
            let files = ReplicaFiles::new(Arc::clone(&disk), Arc::new(InlineSource::new(Arc::clone(&disk))));
            files.distrust_all(copy.as_ref().unwrap_or(ring).held_by(self.id))?;
        }
        let (journal, replayed_chunks) = open_journal(&disk, replayed, options, ring.durability, seed)?;
        let known_folders = KnownFolders::open(Arc::clone(&disk)).map_err(StartError::KnownFolders)?;
        let router = Router::new(
            self.id,
            copy.clone().unwrap_or_else(|| ring.clone()),
            Arc::clone(&self.clock) as _,
            disk.fresh_number(),
        );
        let context = Arc::new(SessionContext {
            router: Arc::clone(&router),
            admin: Arc::new(NoAdmin),
            offload: Arc::new(Inline),
            fault_hooks: false,
            meter: NoMeter::shared(),
        });
        let desk_sinks: DeskSinks = Arc::default();
        let watched = Arc::clone(&desk_sinks);
        let watch = move |peer, sink| watched.lock().push((peer, sink));
        // By turns a lane that is nearly always full, one that is now and then, and one that never is.
        let replies_max = [1, 3, usize::MAX][number as usize % 3];
        let outbox = Arc::new(Outbox::new(replies_max));
        router.set_peers(Arc::clone(&outbox) as _);
        let log = LogOptions {
            segment_bytes_first: options.disk.segment_bytes_first,
            segment_bytes_max: options.disk.segment_bytes_max,
            recent_bytes_max: 4096,
            source: Arc::new(InlineSource::new(Arc::clone(&disk))),
            keys: storage::keyring(options, self.processes),
        };
        let plan = ReplicaPlan::new(self.id, ClusterId(ring.cluster), TICK_MS);
        let began_meta = !disk.list_segments(ShardId::META)?.is_empty();
        let keeper = MapKeeper::new(
            Arc::clone(&router),
            Arc::clone(&disk),
            Own {
                folder: self.folder_id,
                address: address_of(ring, self.id),
                peer_address: peer_address_of(ring, self.id),
                client: ClientId(Uuid::from_u64_pair(disk.fresh_number(), disk.fresh_number())),
            },
            ring.clone(),
            copy.is_none() && !began_meta && self.founds,
        );
        let disk_bytes = disk.total_bytes().unwrap_or(u64::MAX);
        let mut process = Process {
            number,
            topology: router.topology_now(),
            desk: PeerDesk::new(Arc::clone(&context), known_folders, Box::new(watch), SnapshotReads::Here),
            router,
            outbox,
            lost_by_opening: None,
            machine: self.files.clone(),
            journal,
            connections: BTreeMap::new(),
            context,
            desk_sinks,
            ready: Arc::default(),
            roster: Roster::default(),
            erased: Vec::new(),
            disk,
            log,
            order_bits: if options.order_bits == 0 { ORDER_BITS } else { options.order_bits },
            queue_budget: Arc::new(QueueBudget::new(queue_limits(options))),
            upkeep: UpkeepQueue::default(),
            scrub: None,
            pressure: Arc::default(),
            watch: DiskWatch::new(HEADROOM_BYTES, disk_bytes),
            looked_at: None,
            replayed_chunks,
            lost_memory,
            collects: false,
            clock_off: false,
            holds: Vec::new(),
            listening: None,
            handed_over_at: None,
            shards: BTreeMap::new(),
            folder: self.folder_id,
            plan,
            session_limits: session_limits(options),
            keeper,
            map_looked_at: Nanos(0),
            initial: ring.clone(),
        };
        let ended = match copy {
            Some(ring) => {
                process.router.set_ring(ring.clone());
                process.follow(&ring, &self.clock)
            }
            // It helped to found the group of the map, and ended before it had learnt the map.
            None if began_meta && self.founds => process.bootstrap_meta(&self.clock),
            // What it was given when it joined.
            None if !self.founds => {
                process.router.set_ring(ring.clone());
                process.follow(ring, &self.clock)
            }
            None => Vec::new(),
        };
        self.process = Some(process);
        Ok(ended)
    }

    /// What was stored is as after the end of the process, or of the machine's power.
    pub(super) fn end_files(&self, power: bool, rng: &mut ChaCha8Rng) {
        if power {
            self.files.power_loss(rng);
        } else {
            self.files.kill();
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.number)
    }
}

/// How much a shard remembers of its clients.
fn session_limits(options: &Options) -> SessionLimits {
    let or = |drawn: u32, production: usize| if drawn == 0 { production } else { drawn as usize };
    let production = SessionLimits::default();
    SessionLimits {
        sessions: or(options.sessions_max, production.sessions),
        bytes: or(options.session_bytes_max, production.bytes),
        once: OnceLimits { ids: or(options.once_max, production.once.ids), ..production.once },
    }
}

/// Where clients reach a node.
pub(super) fn address_of(ring: &RingMap, node: NodeId) -> String {
    ring.nodes.iter().find(|known| known.id == node.0).map(|known| known.client.clone()).unwrap_or_default()
}

/// Where a node's peers reach it, by a map.
fn peer_address_of(ring: &RingMap, node: NodeId) -> String {
    ring.nodes.iter().find(|known| known.id == node.0).map(|known| known.peer.clone()).unwrap_or_default()
}

/// The bounds of a node's queues.
pub(super) fn queue_limits(options: &Options) -> QueueLimits {
    let or = |drawn: u32, production: usize| if drawn == 0 { production } else { drawn as usize };
    let production = QueueLimits::default();
    let (requests, bytes) = (options.queue_requests_max, options.queue_bytes_max);
    QueueLimits {
        requests: or(requests, production.requests),
        requests_bytes: or(bytes, production.requests_bytes),
        reserved_requests: or(requests, production.requests) / 8,
        reserved_bytes: or(bytes, production.requests_bytes) / 16,
        light_requests: if requests == 0 { production.light_requests } else { 1 },
        light_bytes: if bytes == 0 { production.light_bytes } else { LIGHT_BYTES },
        node_bytes: or(bytes.saturating_mul(2), production.node_bytes),
        messages_bytes: or(bytes, production.messages_bytes),
        // So that clients have to take turns in a short queue.
        entry: EntryLimits {
            records: or(requests.div_ceil(8), production.entry.records),
            part: Held { requests: or(requests.div_ceil(24), production.entry.part.requests), ..production.entry.part },
            ..production.entry
        },
    }
}

fn open_journal(
    disk: &Arc<dyn Disk>,
    replayed: Replayed,
    options: &Options,
    durability: Durability,
    seed: u64,
) -> Result<(Journal, u64), StartError> {
    let (durable, chunks) = (DurableEnds::new(replayed.durable.clone()), replayed.chunks);
    let journal_options = JournalOptions {
        files: options.disk.journal_files,
        file_bytes: options.disk.journal_file_bytes,
        frame_bytes_max: options.disk.journal_file_bytes / 2,
        bypass_bytes: options.disk.journal_file_bytes / 8,
        shards_max: 32,
        ..JournalOptions::default()
    };
    let writer = match durability {
        Durability::Fsync => {
            let late = Box::new(LateSync::new(seed));
            Some(JournalWriter::open(&**disk, journal_options, replayed, late).map_err(StartError::Journal)?)
        }
        Durability::Memory => None,
    };
    Ok((Journal::new(writer, journal_options.frame_bytes_max, durable), chunks))
}

impl Process {
    /// A tick of the node: of every open replica, and of what was forwarded.
    pub(super) fn tick(&mut self) -> Actions {
        self.router.all_local().iter().for_each(|handle| handle.inbox.tick());
        let now = self.router.clock().monotonic();
        self.router.give_up_late(now);
        self.desk.tick(now);
        self.watch_disk(now)
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether it leads every shard of the ring that it holds a replica of, and may answer for all of them.
    pub(super) fn leads_all(&self) -> bool {
        let serves = |replica: &Replica| replica.host.as_ref().is_some_and(|host| host.shard().status().serving);
        let mut of_ring = self.shards.iter().filter(|(shard, _)| **shard != ShardId::META).peekable();
        of_ring.peek().is_some() && of_ring.all(|(_, replica)| serves(replica))
    }

    /// Looks at the disk, as `disk_watch::run` does.
    fn watch_disk(&mut self, now: Nanos) -> Actions {
        let due = self.looked_at.is_none_or(|at| now.ms_since(at) >= DISK_LOOK_EVERY.as_millis() as u64);
        let free_bytes = due.then(|| self.disk.free_bytes().ok()).flatten();
        if due {
            self.looked_at = Some(now);
        }
        let seen = Observation { now, free_bytes, stalled_for: self.journal.stalled_for(now) };
        let actions = self.watch.observe(seen);
        if let Some(free) = free_bytes {
            self.pressure.set_disk(free, actions.full);
            self.router.note_disk(moves::as_large_disk(free));
        }
        actions.note_fitness(self.router.fitness());
        actions
    }

    /// Whether the next step of the upkeep is to be planned now.
    pub(super) fn plans_upkeep(&mut self) -> bool {
        let submitted = std::mem::take(&mut *self.upkeep.submitted.jobs.lock());
        self.upkeep.waiting.extend(submitted);
        let due = self.upkeep.ended.is_some() || !self.upkeep.waiting.is_empty();
        due && !std::mem::replace(&mut self.upkeep.planned, true)
    }

    /// The next step of the upkeep: a job is run, or its shard is told of its end. Returns what ran, and how it ended.
    pub(super) fn upkeep(&mut self) -> Option<(ShardId, String)> {
        self.upkeep.planned = false;
        if let Some((inbox, ended)) = self.upkeep.ended.take() {
            inbox.upkeep_done(ended);
            return None;
        }
        let (shard, job, inbox) = self.upkeep.waiting.pop_front()?;
        let what = format!("{job:?}");
        let disk = &self.disk;
        match catch_unwind(AssertUnwindSafe(|| job.run(&**disk, &mut |_| true))) {
            Ok(ended) => {
                let how = match &ended {
                    Ok(done) => format!("{what}: {}", name_of(done)),
                    Err(error) => format!("{what}: {error}"),
                };
                self.upkeep.ended = Some((inbox, ended));
                Some((shard, how))
            }
            Err(panic) => Some((shard, panic_text(&*panic))),
        }
    }

    /// Checks the next cold segment. `None` at the end of a pass; the next call begins another.
    pub(super) fn scrub(&mut self) -> Option<(ShardId, Checked)> {
        let pass = self.scrub.get_or_insert_with(|| ScrubPass::new(&self.router));
        let Some((handle, segment)) = pass.next(&self.router) else {
            self.scrub = None;
            return None;
        };
        let checked = scrub::check(&*self.disk, &handle.reader, &segment, &mut |_| true);
        if checked == Checked::Damaged {
            pass.leave_replica();
        }
        Some((handle.shard, checked))
    }

    /// A cold segment of an open replica that is not on the disk as it was written.
    pub(super) fn rotten(&self) -> Option<String> {
        self.shards.iter().find_map(|(shard, replica)| {
            let log = replica.host.as_ref()?.shard().reader().log();
            scrub::cold_segments(log).iter().find_map(|segment| {
                let file = self.disk.open_cold(*shard, segment.number()).ok()??;
                let error = log::scrub(&*file, &SegmentPlace::of(segment), &mut |_| true).err()?;
                Some(format!("{error}, and nobody has noticed"))
            })
        })
    }

    /// The shards that have something to do and no turn planned yet.
    pub(super) fn take_ready(&mut self) -> Vec<ShardId> {
        let mut ready = std::mem::take(&mut *self.ready.lock());
        // Whoever is woken in the middle of a turn has another one after it.
        let is_held_up = |shard: &mut ShardId| self.shards.get(shard).is_some_and(|replica| replica.held_up);
        let later: Vec<ShardId> = ready.extract_if(.., is_held_up).collect();
        ready.retain(|shard| {
            let replica = self.shards.get_mut(shard).filter(|replica| replica.host.is_some());
            replica.is_some_and(|replica| !std::mem::replace(&mut replica.turn_planned, true))
        });
        self.ready.lock().extend(later);
        ready
    }

    /// Requests of clients that are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.connections.values().map(|connection| connection.session.unanswered()).sum()
    }

    /// Whether answers or a newer topology wait to be sent.
    pub(super) fn has_answers(&self) -> bool {
        !Arc::ptr_eq(&self.topology, &self.router.topology_now())
            || self.connections.values().any(Connection::has_answers)
            || self.desk_sinks.lock().iter().any(|(_, sink)| sink.has_replies())
    }

    /// Collects answers: to peers into the outbox, to clients as frames per connection.
    pub(super) fn collect(&mut self) -> Vec<(u64, BytesMut)> {
        let waiting: Vec<NodeId> = {
            let sinks = self.desk_sinks.lock();
            sinks.iter().filter(|(_, sink)| sink.has_replies()).map(|(peer, _)| *peer).collect()
        };
        waiting.into_iter().for_each(|peer| self.desk.collect(peer));
        let topology = self.router.topology_now();
        let is_news = !Arc::ptr_eq(&self.topology, &topology);
        self.topology = topology;
        let mut frames = Vec::new();
        for (number, connection) in &mut self.connections {
            if !is_news && !connection.has_answers() {
                continue;
            }
            let mut out = BytesMut::new();
            let router = &self.router;
            connection.session.collect(&mut |answered| encode(&mut out, router, answered));
            if is_news {
                encode(&mut out, router, topology_push(&self.topology));
            }
            if !out.is_empty() {
                frames.push((*number, out));
            }
        }
        frames
    }

    /// A client has connected. It is told the topology, as if it had asked.
    pub(super) fn connect(&mut self, connection: u64, client: ClientId) -> BytesMut {
        let session = Session::new(Arc::clone(&self.context), Door::Binary);
        self.connections.insert(connection, Connection { client, session });
        let mut out = BytesMut::new();
        encode(&mut out, &self.router, topology_push(&self.router.topology_now()));
        out
    }

    /// A client's connection is gone.
    pub(super) fn disconnect(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// A client's bytes: whole frames. Returns what is answered at once.
    pub(super) fn handle_frames(&mut self, connection: u64, mut input: BytesMut) -> Result<BytesMut, String> {
        let mut out = BytesMut::new();
        let Some(Connection { client, session }) = self.connections.get_mut(&connection) else { return Ok(out) };
        while let Some(body) = frame::decode(&mut input, FRAME_BYTES_MAX).map_err(|error| error.to_string())? {
            let request = Request::decode(body).map_err(|error| error.to_string())?;
            let (router, now) = (&self.router, self.router.clock().monotonic());
            session.handle(*client, request.id, now, request, &mut |answered| encode(&mut out, router, answered));
        }
        Ok(out)
    }

    /// What opening each replica's log found.
    pub(super) fn recovered(&self) -> Vec<Recovered> {
        self.shards.values().filter_map(|replica| Some(replica.host.as_ref()?.recovered())).collect()
    }

    /// Ends the process in good order.
    pub(super) fn stop(mut self) -> Result<(), String> {
        for replica in self.shards.values_mut() {
            if let Some(mut host) = replica.host.take() {
                if host.is_in_turn() {
                    // It may have been told to panic.
                    let turned = catch_unwind(AssertUnwindSafe(|| host.turn()));
                    let end = turned.map_err(|panic| panic_text(&*panic))?.map_err(|error| error.to_string())?;
                    if let TurnEnd::Reopen { index } = end {
                        return Err(Failure::Reopens(index).to_string());
                    }
                }
                host.stop().map_err(|error| error.to_string())?;
            }
        }
        self.journal.close().map_err(|error| error.to_string())
    }
}

fn name_of(done: &Done) -> &'static str {
    match done {
        Done::Compacted(Some(_)) => "compacted",
        Done::Compacted(None) => "given up",
        Done::LookedForKeys => "looked at",
        Done::Synced => "synced",
        Done::Written => "written",
        Done::Removed => "removed",
        Done::Cancelled => "cancelled",
    }
}

fn topology_push(topology: &Topology) -> Answered<RequestId> {
    Answered { origin: RequestId(0), forwarded: false, source: None, body: ResponseBody::Topology(topology.clone()) }
}

fn encode(out: &mut BytesMut, router: &Router, answered: Answered<RequestId>) {
    let Answered { origin, forwarded, source: _, body } = answered;
    Response { id: origin, epoch: router.epoch(), forwarded, body }.encode(out);
}

impl StartError {
    /// Whether the files are damaged, so that starting again won't help.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_damage(),
            Self::KnownFolders(error) => matches!(error, KnownFoldersError::Malformed),
            Self::Ring(error) => matches!(error, KeptError::Damaged(_)),
            Self::Files(_) | Self::Disk(_) => false,
        }
    }
}
