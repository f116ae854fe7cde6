//! How this node is doing, and asking all nodes the same.

use crate::auth::certificates::NodeCertificates;
use crate::doors::places::Places;
use crate::doors::tls::Handshakes;
use crate::runtime::audit_tail::AuditTail;
use crate::runtime::cache_figures::CacheFigures;
use crate::runtime::control::{Control, VerbAnswer};
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::journal_threads::JournalHandle;
use crate::runtime::log_level;
use crate::runtime::meta::MetaMessage;
use crate::runtime::node_figures::NodeFigures;
use crate::runtime::process::ProcessUse;
use crate::runtime::system_clock;
use bytes::{Bytes, BytesMut};
use kvorum_core::auth::keeper::AuthAsked;
use kvorum_core::clock::Nanos;
use kvorum_core::consensus::Role;
use kvorum_core::health::pressure::Pressure;
use kvorum_core::map_keeper::{Asked, Planned};
use kvorum_core::measure::ShardCounts;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::routing::router::Router;
use kvorum_core::session::NodeAdmin;
use kvorum_core::session::reply::{Answer, ReplyTo};
use kvorum_core::shard::ShardHandle;
use kvorum_protocol::limits::HOT_KEYS_MAX;
use kvorum_protocol::{
    AuthVerb, Authority, ClusterPlan, Durability, Epoch, ErrorCode, FolderId, HotKey, LogLevelAsk, LogLevelView,
    NodeId, NodeStatus, Outcome, ResponseBody, ServerError, ShardId, ShardRole, ShardStatus, StatusScope,
};
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An operator's command is asked again so often until it is done.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long another node may take to say how it is, if the request waits longer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks again and again, a moment apart, until there is an answer. What was done, or why it was refused.
async fn until_answered<F: Future<Output = VerbAnswer>>(mut ask: impl FnMut() -> F) -> Result<Vec<u8>, String> {
    loop {
        match ask().await {
            VerbAnswer::Done(bytes) => return Ok(bytes),
            VerbAnswer::Refused(why) => return Err(why),
            VerbAnswer::AskAgain => tokio::time::sleep(ASK_AGAIN_AFTER).await,
        }
    }
}

/// What is looked at.
pub struct Observed {
    /// The node's name.
    pub name: String,
    /// The port of its HTTP door; 0 if that is off.
    pub http_port: u16,
    /// Its data folder.
    pub folder: FolderId,
    /// Its cluster, and the authority of that.
    pub authority: Authority,
    /// The routing table.
    pub router: Arc<Router>,
    /// The journal.
    pub journal: JournalHandle,
    /// What the node is short of.
    pub pressure: Arc<Pressure>,
    /// The places for connections.
    pub places: Arc<Places>,
    /// What the doors have answered.
    pub doors: Arc<DoorCounts>,
    /// The certificates.
    pub certificates: Arc<NodeCertificates>,
    /// The TLS handshakes of clients.
    pub handshakes: Arc<Handshakes>,
    /// The newest events of the audit log.
    pub audit_tail: Arc<AuditTail>,
}

/// Looks at every part of the node.
pub struct Inspector {
    node: Observed,
    durability: Durability,
    started: Nanos,
    started_unix_ms: u64,
    /// Replicas that this node holds and does not run, and why.
    idle: Mutex<BTreeMap<ShardId, ShardRole>>,
    control: OnceLock<Control>,
    meta: OnceLock<ActorRef<MetaMessage>>,
    /// Tells what consoles of other nodes show of this one.
    figures: OnceLock<FiguresOf>,
    stop: CancellationToken,
}

/// Tells what other nodes' consoles show of this one.
pub type FiguresOf = Box<dyn Fn() -> Option<NodeFigures> + Send + Sync>;

impl NodeAdmin for Inspector {
    fn ask(self: Arc<Self>, verb: Verb, wait: Duration, reply_to: ReplyTo) {
        tokio::spawn(async move { answer_once_done(wait, self.ask_until_done(verb), reply_to).await });
    }

    fn plan(self: Arc<Self>, verb: Option<Verb>, wait: Duration, reply_to: ReplyTo) {
        tokio::spawn(async move {
            match timeout(wait, self.plan_until_told(verb)).await {
                Ok(Ok(plan)) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Plan(Box::new(plan))))),
                Ok(Err(why)) => reply_to.fail(ServerError::new(ErrorCode::Refused, why)),
                Err(_) => {
                    let what = "no node has spoken for the ring map in time: ask again";
                    reply_to.fail(ServerError::new(ErrorCode::DeadlineExceeded, what));
                }
            }
        });
    }

    fn change_auth(self: Arc<Self>, verb: AuthVerb, wait: Duration, reply_to: ReplyTo) {
        tokio::spawn(async move { answer_once_done(wait, self.change_auth_until_done(verb), reply_to).await });
    }

    fn authority(&self) -> Authority {
        self.node.authority
    }

    fn log_level(&self, ask: LogLevelAsk) -> Option<LogLevelView> {
        Some(log_level::of_process()?.ask(ask))
    }

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
        let leader = self.node.router.leader(shard).filter(|leader| *leader != self.node.router.me());
        match (leader, self.control.get().cloned()) {
            (Some(leader), Some(control)) => {
                tokio::spawn(async move {
                    match control.transfer_leadership(leader, shard, to).await {
                        Ok(()) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Done))),
                        Err(failure) => reply_to.fail(ServerError::new(ErrorCode::Unavailable, failure.to_string())),
                    }
                });
            }
            _ => match self.node.router.transfer(shard, to) {
                Ok(()) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Done))),
                Err(failure) => reply_to.fail(failure),
            },
        }
    }
}

/// Answers once what an operator asked for is done, or refused, or has not been said in time.
async fn answer_once_done(wait: Duration, doing: impl Future<Output = Result<(), String>>, reply_to: ReplyTo) {
    match timeout(wait, doing).await {
        Ok(Ok(())) => reply_to.answer(Answer::Body(Box::new(ResponseBody::Done))),
        Ok(Err(why)) => reply_to.fail(ServerError::new(ErrorCode::Refused, why)),
        Err(_) => reply_to.fail({
            let what = "the cluster has not said in time that it is done: ask again";
            ServerError::new(ErrorCode::DeadlineExceeded, what).with_outcome(Outcome::Unknown)
        }),
    }
}

impl Inspector {
    /// Gives it the keeper of the ring map, to ask for an operator; once.
    pub fn set_meta(&self, meta: ActorRef<MetaMessage>) {
        assert!(self.meta.set(meta).is_ok(), "the keeper of the ring map is started once");
    }

    /// Has this node's keeper of the ring map do what an operator asks for.
    pub async fn ask_here(&self, verb: Verb) -> VerbAnswer {
        match self.keeper(|reply| MetaMessage::Ask(verb, reply)).await {
            Some(Asked::Done { .. }) => VerbAnswer::Done(Vec::new()),
            Some(Asked::Refused(refusal)) => VerbAnswer::Refused(refusal.to_string()),
            Some(Asked::Soon { .. } | Asked::Elsewhere) | None => VerbAnswer::AskAgain,
        }
    }

    /// Has this node's keeper of the ring map tell the cluster's plan, or what it would be if `verb` were asked of it.
    pub async fn plan_here(&self, verb: Option<Verb>) -> VerbAnswer {
        match self.keeper(|reply| MetaMessage::Plan(verb, reply)).await {
            Some(Planned::Is(plan)) => {
                let mut bytes = BytesMut::new();
                plan.encode(&mut bytes);
                VerbAnswer::Done(bytes.into())
            }
            Some(Planned::Refused(refusal)) => VerbAnswer::Refused(refusal.to_string()),
            Some(Planned::Elsewhere) | None => VerbAnswer::AskAgain,
        }
    }

    /// Has this node's keeper of the table of users change it. Done is what the group has committed.
    pub async fn change_auth_here(&self, verb: AuthVerb) -> VerbAnswer {
        match self.keeper(|reply| MetaMessage::ChangeAuth(Box::new(verb), reply)).await {
            Some(AuthAsked::Done) => VerbAnswer::Done(Vec::new()),
            Some(AuthAsked::Refused(refusal)) => VerbAnswer::Refused(refusal.to_string()),
            Some(AuthAsked::Soon | AuthAsked::Elsewhere) | None => VerbAnswer::AskAgain,
        }
    }

    /// Asks whoever leads `meta` to change who may do what, until it is done, or refused.
    async fn change_auth_until_done(&self, verb: AuthVerb) -> Result<(), String> {
        let ask = || async {
            match self.leader_elsewhere() {
                Some((leader, control)) => control.change_auth(leader, verb.clone()).await,
                None => self.change_auth_here(verb.clone()).await,
            }
        };
        until_answered(ask).await.map(drop)
    }

    /// What the keeper answers; `None` if it is not started yet, or ended.
    async fn keeper<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> MetaMessage) -> Option<T> {
        let (reply, asked) = oneshot::channel();
        self.meta.get()?.cast(message(reply)).ok()?;
        asked.await.ok()
    }

    /// The node that leads `meta`, if that is another one, and what reaches it.
    fn leader_elsewhere(&self) -> Option<(NodeId, &Control)> {
        let leader = self.node.router.leader(ShardId::META).filter(|leader| *leader != self.node.router.me())?;
        Some((leader, self.control.get()?))
    }

    /// Asks whoever leads `meta` until it is done, or refused.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn ask_until_done(&self, verb: Verb) -> Result<(), String> {
        let ask = || async {
            match self.leader_elsewhere() {
                Some((leader, control)) => control.ask_verb(leader, verb.clone()).await,
                None => self.ask_here(verb.clone()).await,
            }
        };
        until_answered(ask).await.map(drop)
    }

    /// Asks whoever leads `meta` until it tells the plan, or refuses.
    async fn plan_until_told(&self, verb: Option<Verb>) -> Result<ClusterPlan, String> {
        let ask = || async {
            match self.leader_elsewhere() {
                Some((leader, control)) => control.ask_plan(leader, verb.clone()).await,
                None => self.plan_here(verb.clone()).await,
            }
        };
        let bytes = until_answered(ask).await?;
        ClusterPlan::from_bytes(bytes.into())
            .map_err(|error| format!("the node that leads the ring map's group speaks another version: {error}"))
    }

    /// Looks at a node that starts now. `stop` stops it.
    pub fn new(node: Observed, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            durability: node.router.ring().durability,
            started: system_clock::monotonic(),
            started_unix_ms: node.router.clock().now().wall_ms,
            node,
            idle: Mutex::default(),
            control: OnceLock::new(),
            meta: OnceLock::new(),
            figures: OnceLock::new(),
            stop,
        })
    }

    /// Gives it the control plane, to ask other nodes; once.
    pub fn set_control(&self, control: Control) {
        assert!(self.control.set(control).is_ok(), "the control plane is started once");
    }

    /// Gives it what tells the figures of this node; once.
    pub fn set_figures(&self, figures: FiguresOf) {
        assert!(self.figures.set(figures).is_ok(), "one console keeps the figures");
    }

    /// What other nodes' consoles show of this one; `None` if nobody keeps that.
    pub fn node_figures(&self) -> Option<NodeFigures> {
        self.figures.get()?()
    }

    /// The status of every node that answers, this one among them; waits no longer than this for the others.
    pub async fn statuses(&self, wait: Duration) -> Vec<NodeStatus> {
        let mut all = vec![self.status()];
        if let Some(control) = self.control.get() {
            all.extend(others(control, all[0].node, wait).await);
        }
        all
    }

    /// The figures of every other node that tells them; waits no longer than this.
    pub async fn figures_of_others(&self, wait: Duration) -> Vec<(NodeId, NodeFigures)> {
        let me = self.node.router.me();
        let answers = match self.control.get() {
            Some(control) => control.node_figures(wait).await,
            None => Vec::new(),
        };
        let others = answers.into_iter().filter(|(node, _)| *node != me);
        others.filter_map(|(node, bytes)| Some((node, NodeFigures::decode(bytes.ok()?).ok()?))).collect()
    }

    /// The cluster's plan, if whoever leads `meta` tells it in time.
    pub async fn plan_within(&self, wait: Duration) -> Option<ClusterPlan> {
        timeout(wait, self.plan_until_told(None)).await.ok()?.ok()
    }

    /// A replica is held and not run.
    pub fn set_idle(&self, shard: ShardId, role: ShardRole) {
        self.idle.lock().insert(shard, role);
    }

    /// A replica runs, or is not held any more.
    pub fn clear_idle(&self, shard: ShardId) {
        self.idle.lock().remove(&shard);
    }

    /// When the node started, in milliseconds since 1970.
    pub fn started_unix_ms(&self) -> u64 {
        self.started_unix_ms
    }

    /// The certificates.
    pub fn certificates(&self) -> &Arc<NodeCertificates> {
        &self.node.certificates
    }

    /// The TLS handshakes of clients.
    pub fn handshakes(&self) -> &Arc<Handshakes> {
        &self.node.handshakes
    }

    /// The newest events of the audit log.
    pub fn audit_tail(&self) -> &Arc<AuditTail> {
        &self.node.audit_tail
    }

    /// What the doors have answered.
    pub fn doors(&self) -> &Arc<DoorCounts> {
        &self.node.doors
    }

    /// The places for connections.
    pub fn places(&self) -> &Places {
        &self.node.places
    }

    /// The journal.
    pub fn journal(&self) -> &JournalHandle {
        &self.node.journal
    }

    /// The routing table.
    pub fn router(&self) -> &Router {
        &self.node.router
    }

    /// What the node is short of.
    pub fn pressure(&self) -> &Pressure {
        &self.node.pressure
    }

    /// This node's status.
    pub fn status(&self) -> NodeStatus {
        let usage = ProcessUse::look();
        let ring = self.node.router.ring();
        // What the map places here, then what is known of it.
        let placed = ring.held_by(self.node.router.me()).into_iter().map(|(shard, _)| (shard, ShardRole::Missing));
        let idle = self.idle.lock().clone();
        let mut shards: BTreeMap<ShardId, ShardStatus> =
            placed.chain(idle).map(|(shard, role)| (shard, idle_status(shard, role))).collect();
        shards.extend(self.node.router.all_local().iter().map(|handle| (handle.shard, self.shard_status(handle))));
        NodeStatus {
            node: self.node.router.me(),
            name: self.node.name.clone(),
            program_version: env!("CARGO_PKG_VERSION").into(),
            process: std::process::id(),
            uptime_ms: system_clock::monotonic().ms_since(self.started),
            durability: self.durability,
            http_port: self.node.http_port,
            connections: self.node.places.taken() as u32,
            peers_up: self.node.router.peers().map(|peers| peers.up()).unwrap_or_default(),
            epoch: self.node.router.agreed_ring().map_or(Epoch(0), |ring| Epoch(ring.epoch)),
            stranger: ring.folder_of(self.node.router.me()).is_some_and(|named| named != self.node.folder),
            resident_bytes: usage.resident_bytes,
            cpu_us: usage.cpu_us,
            journal_rounds: self.node.journal.rounds(),
            overloaded: self.node.router.overloaded(),
            disk_free_bytes: self.node.pressure.disk_free_bytes(),
            disk_full: self.node.pressure.disk_is_full(),
            clock_ahead_ms: self.node.router.judged_clocks().ahead_ms,
            clock_off: self.node.router.judged_clocks().off,
            index_bytes: self.node.router.all_local().iter().map(|handle| handle.reader.index_bytes()).sum(),
            hot_keys: self.hot_keys(),
            shards: shards.into_values().collect(),
        }
    }

    /// The hottest keys of all replicas.
    fn hot_keys(&self) -> Vec<HotKey> {
        let now = system_clock::monotonic();
        let of_shard = |(shard, counts): (ShardId, Arc<ShardCounts>)| {
            let hot = |writes| counts.heat.hot(shard, writes, now);
            hot(false).into_iter().chain(hot(true)).collect::<Vec<_>>()
        };
        let all = self.node.router.counts().all().into_iter().filter(|(shard, _)| *shard != ShardId::META);
        let mut hot: Vec<HotKey> = all.flat_map(of_shard).collect();
        hot.sort_by(|a, b| b.per_second.cmp(&a.per_second).then_with(|| a.key.cmp(&b.key)));
        hot.truncate(HOT_KEYS_MAX);
        hot
    }

    /// What reads found in this node's memory.
    pub fn cache_figures(&self) -> CacheFigures {
        let (router, pressure) = (&self.node.router, &self.node.pressure);
        let (hits, misses) = self.node.doors.hits_and_misses();
        let replicas = router.all_local();
        let of_replicas = |figure: fn(&ShardHandle) -> u64| replicas.iter().map(|handle| figure(handle)).sum();
        CacheFigures {
            hits,
            misses,
            keys: of_replicas(|handle| handle.status.lock().keys),
            expired: router.counts().all().iter().map(|(_, counts)| counts.expired_keys.get()).sum(),
            index_bytes: of_replicas(|handle| handle.reader.index_bytes()),
            index_limit_bytes: Some(pressure.index_bytes_max()).filter(|limit| *limit != u64::MAX),
            resident_bytes: ProcessUse::look().resident_bytes,
            mapped_bytes: of_replicas(|handle| handle.status.lock().log_bytes),
        }
    }

    /// The same of each node that answers, this one among them; waits no longer than this for the others.
    pub async fn cache_figures_of_all(&self, wait: Duration) -> Vec<(NodeId, CacheFigures)> {
        let me = self.node.router.me();
        let answers = match self.control.get() {
            Some(control) => control.cache_figures(wait).await,
            None => Vec::new(),
        };
        let others = answers.into_iter().filter(|(node, _)| *node != me);
        let others = others.filter_map(|(node, bytes)| Some((node, CacheFigures::decode(bytes.ok()?).ok()?)));
        others.chain([(me, self.cache_figures())]).collect()
    }

    /// This node's status as the control plane carries it.
    pub fn status_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.status().encode(&mut out);
        out.freeze()
    }

    fn shard_status(&self, handle: &ShardHandle) -> ShardStatus {
        let (snapshot, upkeep) = (*handle.status.lock(), *handle.upkeep.lock());
        let leader = snapshot.leader.and_then(|replica| self.node.router.ring().node_of(handle.shard, replica));
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
            receiving: *handle.receiving.lock(),
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
        receiving: None,
    }
}
