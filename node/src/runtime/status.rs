//! How this node is doing, and asking all nodes the same.

use crate::runtime::control::Control;
use crate::runtime::journal_threads::JournalHandle;
use crate::runtime::system_clock;
use bytes::{Bytes, BytesMut};
use kvorum_core::clock::Nanos;
use kvorum_core::consensus::Role;
use kvorum_core::health::pressure::Pressure;
use kvorum_core::routing::router::Router;
use kvorum_core::session::NodeAdmin;
use kvorum_core::session::reply::{Answer, ReplyTo};
use kvorum_core::shard::ShardHandle;
use kvorum_protocol::{
    Durability, Epoch, ErrorCode, FolderId, NodeId, NodeStatus, ResponseBody, ServerError, ShardId, ShardRole,
    ShardStatus, StatusScope,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long another node may take to say how it is, if the request waits longer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at every part of the node.
pub struct Inspector {
    name: String,
    durability: Durability,
    /// This node's data folder.
    folder: FolderId,
    started: Nanos,
    router: Arc<Router>,
    journal: JournalHandle,
    pressure: Arc<Pressure>,
    connections: Box<dyn Fn() -> usize + Send + Sync>,
    /// Replicas that this node holds and does not run, and why.
    idle: Mutex<BTreeMap<ShardId, ShardRole>>,
    control: OnceLock<Control>,
    stop: CancellationToken,
}

impl NodeAdmin for Inspector {
    fn stop_node(&self) {
        self.stop.cancel();
    }

    fn answer_status(self: Arc<Self>, scope: StatusScope, wait: Duration, reply_to: ReplyTo) {
        let own = self.status();
        let control = self.control.get().cloned();
        match (scope, control) {
            (StatusScope::Node, _) | (StatusScope::Cluster, None) => {
                reply_to.answer(Answer::Body(Box::new(ResponseBody::Status(vec![own]))));
            }
            (StatusScope::Cluster, Some(control)) => {
                tokio::spawn(async move {
                    let mut all = vec![own];
                    all.extend(others(&control, all[0].node, wait.min(STATUS_TIMEOUT)).await);
                    all.sort_by(|a, b| a.name.cmp(&b.name));
                    reply_to.answer(Answer::Body(Box::new(ResponseBody::Status(all))));
                });
            }
        }
    }

    fn transfer(self: Arc<Self>, shard: ShardId, to: NodeId, reply_to: ReplyTo) {
        let leader = self.router.leader(shard).filter(|leader| *leader != self.router.me());
        match (leader, self.control.get().cloned()) {
            (Some(leader), Some(control)) => {
                tokio::spawn(async move {
                    match control.transfer_leadership(leader, shard, to).await {
                        Ok(()) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Done))),
                        Err(failure) => reply_to.fail(ServerError::new(ErrorCode::Unavailable, failure.to_string())),
                    }
                });
            }
            _ => match self.router.transfer(shard, to) {
                Ok(()) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Done))),
                Err(failure) => reply_to.fail(failure),
            },
        }
    }
}

impl Inspector {
    /// Looks at a node that starts now. `stop` stops it.
    pub fn new(
        name: String,
        folder: FolderId,
        router: Arc<Router>,
        journal: JournalHandle,
        pressure: Arc<Pressure>,
        connections: impl Fn() -> usize + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            durability: router.ring().durability,
            folder,
            started: system_clock::monotonic(),
            router,
            journal,
            pressure,
            connections: Box::new(connections),
            idle: Mutex::default(),
            control: OnceLock::new(),
            stop,
        })
    }

    /// Gives it the control plane, to ask other nodes; once.
    pub fn set_control(&self, control: Control) {
        assert!(self.control.set(control).is_ok(), "the control plane is started once");
    }

    /// A replica is held and not run.
    pub fn set_idle(&self, shard: ShardId, role: ShardRole) {
        self.idle.lock().insert(shard, role);
    }

    /// A replica runs, or is not held any more.
    pub fn clear_idle(&self, shard: ShardId) {
        self.idle.lock().remove(&shard);
    }

    /// This node's status.
    pub fn status(&self) -> NodeStatus {
        let usage = process_usage();
        let ring = self.router.ring();
        // What the map places here, then what is known of it.
        let placed = ring.held_by(self.router.me()).into_iter().map(|(shard, _)| (shard, ShardRole::Missing));
        let idle = self.idle.lock().clone();
        let mut shards: BTreeMap<ShardId, ShardStatus> =
            placed.chain(idle).map(|(shard, role)| (shard, idle_status(shard, role))).collect();
        shards.extend(self.router.all_local().iter().map(|handle| (handle.shard, self.shard_status(handle))));
        NodeStatus {
            node: self.router.me(),
            name: self.name.clone(),
            program_version: env!("CARGO_PKG_VERSION").into(),
            process: std::process::id(),
            uptime_ms: system_clock::monotonic().ms_since(self.started),
            durability: self.durability,
            connections: (self.connections)() as u32,
            peers_up: self.router.peers().map(|peers| peers.up()).unwrap_or_default(),
            epoch: self.router.agreed_ring().map_or(Epoch(0), |ring| Epoch(ring.epoch)),
            stranger: ring.folder_of(self.router.me()).is_some_and(|named| named != self.folder),
            resident_bytes: usage.resident_bytes,
            cpu_us: usage.cpu_us,
            journal_rounds: self.journal.rounds(),
            overloaded: self.router.overloaded(),
            disk_free_bytes: self.pressure.disk_free_bytes(),
            disk_full: self.pressure.disk_is_full(),
            clock_ahead_ms: self.router.judged_clocks().ahead_ms,
            clock_off: self.router.judged_clocks().off,
            index_bytes: self.router.all_local().iter().map(|handle| handle.reader.index_bytes()).sum(),
            shards: shards.into_values().collect(),
        }
    }

    /// This node's status as the control plane carries it.
    pub fn status_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.status().encode(&mut out);
        out.freeze()
    }

    fn shard_status(&self, handle: &ShardHandle) -> ShardStatus {
        let (snapshot, upkeep) = (*handle.status.lock(), *handle.upkeep.lock());
        let leader = snapshot.leader.and_then(|replica| self.router.ring().node_of(handle.shard, replica));
        ShardStatus {
            shard: handle.shard,
            role: match snapshot.role {
                Role::Follower => ShardRole::Follower,
                Role::Candidate => ShardRole::Candidate,
                Role::Leader => ShardRole::Leader,
                Role::Learner => ShardRole::Learner,
            },
            term: snapshot.term,
            leader,
            last_index: snapshot.last_index,
            committed: snapshot.committed,
            applied: snapshot.applied,
            version: snapshot.version,
            keys: snapshot.keys,
            log_bytes: snapshot.log_bytes,
            live_bytes: handle.reader.live_bytes_total(),
            compactions: upkeep.compactions,
            compacted_bytes: upkeep.compaction_bytes_written,
            incarnation: handle.incarnation,
        }
    }
}

async fn others(control: &Control, me: NodeId, wait: Duration) -> Vec<NodeStatus> {
    let answers = control.statuses(wait).await;
    let others = answers.into_iter().filter(|(node, _)| *node != me);
    others.filter_map(|(_, bytes)| NodeStatus::from_bytes(bytes.ok()?.into()).ok()).collect()
}

fn idle_status(shard: ShardId, role: ShardRole) -> ShardStatus {
    ShardStatus {
        shard,
        role,
        term: Default::default(),
        leader: None,
        last_index: Default::default(),
        committed: Default::default(),
        applied: Default::default(),
        version: Default::default(),
        keys: 0,
        log_bytes: 0,
        live_bytes: 0,
        compactions: 0,
        compacted_bytes: 0,
        incarnation: 0,
    }
}

struct ProcessUsage {
    resident_bytes: u64,
    cpu_us: u64,
}

/// The memory that this process may use: the machine's, or what its control group is given of it. `None` where the system
/// does not say.
pub(crate) fn machine_memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    });
    // It says "max" where there is no limit.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

/// What the process uses, from `/proc`; zeros where that can't be read.
fn process_usage() -> ProcessUsage {
    let page = rustix::param::page_size() as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident_pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0_u64);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets and may hold anything; count behind it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ProcessUsage { resident_bytes: resident_pages * page, cpu_us: (ticks(11) + ticks(12)) * 1_000_000 / per_second }
}
