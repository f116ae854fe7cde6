//! Which shard replicas this node holds, who leads which shard, and the way to the others.
//!
//! The router owns no requests: it is the one table that sessions, shard actors and peers share.

mod route;
mod telling;

pub use route::{PASSED_ON_BYTES_MAX, PassedOn, Route};

use crate::audit::AuditDesk;
use crate::auth::AuthGate;
use crate::clock::{Clock, ClusterClock, Nanos};
use crate::consensus::Role;
use crate::health::fitness::{Fitness, Unfit};
use crate::health::wall_clocks::{Judgement, WallClocks};
use crate::limits::{FORWARD_GRACE_MS, FORWARDS_MAX};
use crate::measure::monitor::Monitor;
use crate::measure::slow::SlowLog;
use crate::measure::tracing::Tracing;
use crate::measure::{ForwardEnd, RefusedFor, ReplicaCounts};
use crate::ring::RingMap;
use crate::ring::decide::Words;
use crate::routing::forwards::{Forward, Forwards};
use crate::routing::map_news::MapNews;
use crate::routing::network::{PeerNetwork, SendError};
use crate::routing::peer_table::PeerTable;
use crate::routing::topology_news::TopologyNews;
use crate::seeded::{Bug, planted};
use crate::session::reply::{Answer, ReplySink, ReplyTo};
use crate::shard::ShardHandle;
use crate::shard::host::ShardOutlet;
use crate::shard::inbox::ShardCommand;
use crate::shard::{ReplicaStatus, ShardReply};
use crate::snapshot::limits::BYTES_PER_SECOND_DEFAULT;
use crate::snapshot::{OffersFull, PullBudget, SnapshotOffers, SnapshotSource};
use bytes::Bytes;
use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use kvorum_protocol::peer::{PeerMessage, RaftMessage};
use kvorum_protocol::report::DiskRoom;
use kvorum_protocol::snapshot::SnapshotMessage;
use kvorum_protocol::{
    Epoch, ErrorCode, NodeId, Outcome, ReplicaId, Request, Response, ResponseBody, ServerError, ShardId, Term, Topology,
};
use parking_lot::{Mutex, RwLock};
use route::too_large;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::{debug, info, warn};

/// A session that is to look again when somebody leads, or at this time.
#[derive(Debug)]
struct Awaiting {
    sink: Arc<ReplySink>,
    until: Nanos,
}

/// Its keys come from nobody who could choose them so that they collide: the quick hasher will do.
type Table<K, V> = DashMap<K, V, DefaultHashBuilder>;

/// From this feature level of the cluster on nodes ask which ring map is the newest.
pub const NEWS_LEVEL: u16 = 2;

/// Hears of each new topology. Must not block, nor ask the router.
pub type TopologyListener = Box<dyn Fn(&Arc<TopologyNews>) + Send + Sync>;

/// The node's routing table.
pub struct Router {
    me: NodeId,
    ring: RwLock<Arc<RingMap>>,
    /// The map in force was decided by the `meta` group; else it is only what a new cluster would begin with.
    agreed: AtomicBool,
    /// What peers have sent lately as the ring map, if it is news.
    offered: Mutex<Words>,
    map_news: MapNews,
    peer_table: PeerTable,
    fitness: Fitness,
    /// What there is of this node's disk, if it was looked at.
    disk: Mutex<Option<DiskRoom>>,
    /// Replicas of this node that can't be used any more.
    faulty: Mutex<BTreeMap<ShardId, ReplicaId>>,
    shards: Table<ShardId, Arc<ShardHandle>>,
    /// The newest term of each shard that was heard of, and who leads in it.
    leaders: Table<ShardId, (Term, Option<NodeId>)>,
    topology: RwLock<Arc<TopologyNews>>,
    /// Told of each new topology, in their order.
    topology_listener: OnceLock<TopologyListener>,
    peers: OnceLock<Arc<dyn PeerNetwork>>,
    clock: Arc<ClusterClock>,
    wall_clocks: Mutex<WallClocks>,
    /// What was made of them last.
    judged_clocks: Mutex<Judgement>,
    forwards: Forwards,
    next_forward: AtomicU64,
    /// Sessions that hold requests of a shard until it is known who leads it.
    awaiting: Mutex<BTreeMap<ShardId, Vec<Awaiting>>>,
    held_bytes: AtomicUsize,
    snapshots: Mutex<SnapshotOffers>,
    pull_budget: Arc<PullBudget>,
    counts: ReplicaCounts,
    auth: AuthGate,
    audit: AuditDesk,
    slow: SlowLog,
    monitor: Monitor,
    tracing: Tracing,
}

impl Router {
    /// A table that knows a ring map and nothing else yet. Forwarded requests are numbered from `first_forward` on, which no
    /// earlier process of this node may have come near: a peer may still answer what that one had passed on, and the
    /// answer must not be taken for another request's. [`crate::disk::Disk::fresh_number`] gives such a number.
    pub fn new(me: NodeId, ring: RingMap, clock: Arc<dyn Clock>, first_forward: u64) -> Arc<Self> {
        let topology = TopologyNews::new(ring.topology(|_| None));
        let auth = AuthGate::default();
        auth.cluster_requires(ring.auth_required);
        Arc::new(Self {
            me,
            ring: RwLock::new(Arc::new(ring)),
            agreed: AtomicBool::new(false),
            offered: Mutex::default(),
            map_news: MapNews::default(),
            peer_table: PeerTable::default(),
            fitness: Fitness::default(),
            disk: Mutex::default(),
            faulty: Mutex::default(),
            shards: Table::default(),
            leaders: Table::default(),
            topology: RwLock::new(topology),
            topology_listener: OnceLock::new(),
            peers: OnceLock::new(),
            clock: Arc::new(ClusterClock::new(clock)),
            wall_clocks: Mutex::default(),
            judged_clocks: Mutex::default(),
            forwards: Forwards::default(),
            next_forward: AtomicU64::new(first_forward),
            awaiting: Mutex::default(),
            held_bytes: AtomicUsize::new(0),
            // The same numbers serve: these are told apart by shard and replica besides.
            snapshots: Mutex::new(SnapshotOffers::new(first_forward, BYTES_PER_SECOND_DEFAULT)),
            pull_budget: Arc::new(PullBudget::new(BYTES_PER_SECOND_DEFAULT)),
            counts: ReplicaCounts::default(),
            auth,
            audit: AuditDesk::default(),
            slow: SlowLog::default(),
            monitor: Monitor::default(),
            tracing: Tracing::default(),
        })
    }

    /// Gives the router its way to other nodes; once.
    pub fn set_peers(&self, peers: Arc<dyn PeerNetwork>) {
        assert!(self.peers.set(peers).is_ok(), "the peers are started once");
    }

    /// What is written down of who did what.
    pub fn audit(&self) -> &AuditDesk {
        &self.audit
    }

    /// The operations that took long.
    pub fn slow(&self) -> &SlowLog {
        &self.slow
    }

    /// Requests as they come in, for whoever watches.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Which requests are traced.
    pub fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// Who may do what.
    pub fn auth(&self) -> &AuthGate {
        &self.auth
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The way to other nodes; `None` before it is open.
    pub fn peers(&self) -> Option<&dyn PeerNetwork> {
        self.peers.get().map(|peers| &**peers)
    }

    /// The node's clocks.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The node's clocks, for others to keep.
    pub fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    /// Fault hook: the wall clock shows so much more than the machine's.
    pub fn skew_clock(&self, ms: i64) {
        self.clock.skew(ms);
    }

    /// A peer has said what its wall clock shows.
    pub fn hear_clock(&self, peer: NodeId, wall_ms: u64, now: Nanos) {
        self.wall_clocks.lock().hear(peer, wall_ms, now);
    }

    /// Looks at what all wall clocks show. From here on shards see what a majority of them has reached.
    pub fn judge_clocks(&self) -> Judgement {
        let (ring, now) = (self.ring(), self.clock.now());
        let nodes = ring.nodes.iter().map(|node| NodeId(node.id));
        let judged = self.wall_clocks.lock().judge(now, self.me, nodes);
        self.clock.set_agreed(judged.agreed_ms, now.monotonic);
        *self.judged_clocks.lock() = judged;
        self.fitness.set(Unfit::ClockOff, judged.off);
        judged
    }

    /// What was made of the wall clocks last.
    pub fn judged_clocks(&self) -> Judgement {
        *self.judged_clocks.lock()
    }

    /// The ring map in force.
    pub fn ring(&self) -> Arc<RingMap> {
        Arc::clone(&self.ring.read())
    }

    /// The ring map in force, if the `meta` group has decided it.
    pub fn agreed_ring(&self) -> Option<Arc<RingMap>> {
        let ring = self.ring.read();
        self.agreed.load(Ordering::Acquire).then(|| Arc::clone(&ring))
    }

    /// Puts a map in force that the `meta` group has decided. Returns whether it was news: an older one is not, nor the
    /// same one again.
    pub fn set_ring(&self, ring: RingMap) -> bool {
        {
            let mut current = self.ring.write();
            if self.agreed.load(Ordering::Acquire) && ring.epoch <= current.epoch {
                return false;
            }
            self.fitness.set(Unfit::Draining, ring.is_draining(self.me));
            self.snapshots.lock().set_rate(ring.snapshot_rate());
            self.pull_budget.set_rate(ring.snapshot_rate());
            self.auth.cluster_requires(ring.auth_required);
            *current = Arc::new(ring);
            self.agreed.store(true, Ordering::Release);
        }
        self.publish_topology();
        true
    }

    /// A peer has sent a ring map. It is kept, if it is news, until others have said the same.
    pub fn offer_ring(&self, from: NodeId, ring: RingMap) {
        let current = self.ring();
        if ring.cluster != current.cluster {
            warn!(%from, cluster = %ring.cluster, "a peer has sent the ring map of another cluster");
            return;
        }
        // Of no others is the word of use.
        if current.has_node(from) || ring.has_node(from) {
            self.offered.lock().hear(from, ring);
        }
    }

    /// The newest map that peers have sent, if it is news, and if enough of them have: see [`Words::of_majority`].
    pub fn take_offered_ring(&self) -> Option<RingMap> {
        let mut offered = self.offered.lock();
        if offered.is_empty() {
            return None;
        }
        let current = self.ring();
        if self.agreed.load(Ordering::Acquire) {
            offered.keep_news(&current);
        }
        offered.of_majority(&current, self.me).cloned()
    }

    /// Where a peer is by a map that is not in force here: see [`Words::address_of`].
    pub fn rumoured_address(&self, node: NodeId) -> Option<String> {
        self.offered.lock().address_of(node)
    }

    /// Which ring map was the newest, and when.
    pub fn map_news(&self) -> &MapNews {
        &self.map_news
    }

    /// What the peers have said.
    pub fn peer_table(&self) -> &PeerTable {
        &self.peer_table
    }

    /// Why this node should not lead.
    pub fn fitness(&self) -> &Fitness {
        &self.fitness
    }

    /// Whether a peer came with another data folder than it should, by the map in force.
    pub fn is_stranger(&self, peer: NodeId) -> bool {
        self.peer_table.is_stranger(&self.ring.read(), peer)
    }

    /// A replica of this node can't be used any more, and waits to be replaced; with `None`, none of that shard is.
    pub fn set_faulty(&self, shard: ShardId, replica: Option<ReplicaId>) {
        let mut faulty = self.faulty.lock();
        match replica {
            Some(replica) => faulty.insert(shard, replica),
            None => faulty.remove(&shard),
        };
    }

    /// The replicas of this node that wait to be replaced.
    pub fn faulty(&self) -> Vec<(ShardId, ReplicaId)> {
        self.faulty.lock().iter().map(|(shard, replica)| (*shard, *replica)).collect()
    }

    /// Has `listener` hear of the topology, now and whenever it changes; once.
    pub fn set_topology_listener(&self, listener: TopologyListener) {
        // Under the lock, so that no change falls between the two.
        let topology = self.topology.write();
        listener(&topology);
        assert!(self.topology_listener.set(listener).is_ok(), "one listener is enough");
    }

    /// The ring map with the leaders that are known now, and its frame.
    pub fn topology_news(&self) -> Arc<TopologyNews> {
        Arc::clone(&self.topology.read())
    }

    /// The ring map with the leaders that are known now.
    pub fn topology_now(&self) -> Arc<Topology> {
        Arc::clone(self.topology.read().topology())
    }

    /// The epoch of the ring map in force. Cheap: it stands in every reply.
    pub fn epoch(&self) -> Epoch {
        self.topology.read().epoch()
    }

    /// The replica of a shard on this node, if it is open.
    pub fn local(&self, shard: ShardId) -> Option<Arc<ShardHandle>> {
        self.shards.get(&shard).map(|handle| Arc::clone(&handle))
    }

    /// Every open replica on this node.
    pub fn all_local(&self) -> Vec<Arc<ShardHandle>> {
        let mut all: Vec<_> = self.shards.iter().map(|handle| Arc::clone(&handle)).collect();
        all.sort_by_key(|handle| handle.shard);
        all
    }

    /// A replica has failed or stopped: requests for it are turned away until it is opened again.
    pub fn closed(&self, shard: ShardId) {
        self.shards.remove(&shard);
        self.snapshots.lock().withdraw(shard);
    }

    /// The snapshots that this node offers.
    pub fn snapshots(&self) -> &Mutex<SnapshotOffers> {
        &self.snapshots
    }

    /// The node that leads a shard, as far as is known.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders.get(&shard).and_then(|known| known.1)
    }

    /// Where a request that the shard's leader must answer goes.
    pub fn route(&self, shard: ShardId) -> Route {
        match self.leaders.get(&shard).map(|known| *known) {
            Some((term, Some(leader))) if leader == self.me => {
                self.local(shard).map_or(Route::Nowhere, |handle| Route::Local(handle, term))
            }
            Some((term, Some(leader))) => Route::Remote(leader, term),
            Some((_, None)) | None => Route::Nowhere,
        }
    }

    /// Has the session behind a sink look again once somebody else leads the shard, or at `until`.
    pub fn await_leader(&self, shard: ShardId, sink: &Arc<ReplySink>, until: Nanos) {
        let mut awaiting = self.awaiting.lock();
        let of_shard = awaiting.entry(shard).or_default();
        match of_shard.iter_mut().find(|known| Arc::ptr_eq(&known.sink, sink)) {
            Some(known) => known.until = known.until.min(until),
            None => of_shard.push(Awaiting { sink: Arc::clone(sink), until }),
        }
    }

    /// Bytes of the requests that sessions hold until it is known who leads.
    pub fn held_bytes(&self) -> &AtomicUsize {
        &self.held_bytes
    }

    /// Tells the sessions that wait for it that somebody leads.
    fn leader_known(&self, shard: ShardId) {
        let awaiting = self.awaiting.lock().remove(&shard);
        awaiting.into_iter().flatten().for_each(|awaiting| awaiting.sink.nudge());
    }

    /// Tells the sessions that have waited for too long.
    fn nudge_late(&self, now: Nanos) {
        let mut awaiting = self.awaiting.lock();
        if awaiting.is_empty() {
            return;
        }
        awaiting.retain(|_, of_shard| {
            of_shard.extract_if(.., |awaiting| awaiting.until <= now).for_each(|late| late.sink.nudge());
            !of_shard.is_empty()
        });
    }

    /// Where a read goes that may be stale and that no replica of this node can answer: any other holder.
    pub fn route_stale(&self, shard: ShardId) -> Route {
        let ring = self.ring();
        let mut holders = ring.holders(shard);
        let may_answer =
            |node: &NodeId| self.peers.get().is_some_and(|peers| peers.is_up(*node)) && !self.is_stranger(*node);
        let up = holders.find(may_answer);
        up.map_or(Route::Nowhere, |node| Route::Remote(node, Term(0)))
    }

    /// How many shards the ring has.
    pub fn shards(&self) -> u16 {
        self.ring.read().shards.len() as u16
    }

    /// Asks this node's replica of a shard, which must lead it, to hand leadership to the one on `to`.
    ///
    /// # Errors
    /// If it does not lead, or `to` holds no replica. Success means that it was asked, not that it has happened.
    pub fn transfer(&self, shard: ShardId, to: NodeId) -> Result<(), ServerError> {
        let replica = self.ring().replica_on(shard, to).ok_or_else(|| {
            ServerError::new(ErrorCode::InvalidArgument, format!("node {to} holds no replica of shard {shard}"))
        })?;
        match (self.leader(shard), self.local(shard)) {
            (Some(leader), Some(handle)) if leader == self.me => {
                let gone = || {
                    ServerError::new(ErrorCode::Unavailable, "the shard is being restarted, or told too much at once")
                };
                handle.inbox.command(ShardCommand::TransferTo(replica)).then_some(()).ok_or_else(gone)
            }
            (leader, _) => {
                let detail = format!("this node does not lead shard {shard}");
                Err(ServerError::new(ErrorCode::NotLeader, detail).with_leader(leader))
            }
        }
    }

    /// A shard's answer as a response's body.
    pub fn body_of(&self, reply: ShardReply) -> ResponseBody {
        match reply {
            ShardReply::Written(result) => ResponseBody::Written(result),
            ShardReply::Atomic(result) => ResponseBody::Atomic(result),
            ShardReply::Transaction(result) => ResponseBody::Transaction(result),
            ShardReply::Value(entry) => ResponseBody::Value(entry),
            ShardReply::Awaited(awaited) => ResponseBody::Awaited(awaited),
            ShardReply::Error(error) => ResponseBody::Error(error),
            ShardReply::MayRead => unreachable!("a confirmation is turned into what was read first"),
            ShardReply::Returned(_) => unreachable!("what came back is sent on"),
        }
    }

    /// What is counted of this node's replicas.
    pub fn counts(&self) -> &ReplicaCounts {
        &self.counts
    }

    /// Requests turned away as `Overloaded` since they could not be passed on.
    pub fn forwards_refused(&self) -> u64 {
        self.counts.forwards(ForwardEnd::Refused)
    }

    /// Requests turned away as `Overloaded` by this node's shards and by the router.
    pub fn overloaded(&self) -> u64 {
        RefusedFor::ALL.into_iter().map(|why| self.counts.refused(why)).sum::<u64>() + self.forwards_refused()
    }

    /// Sends a request on to `node`; the answer comes through `reply_to`, an error if it can't be sent.
    pub fn forward(&self, node: NodeId, passed_on: PassedOn, reply_to: ReplyTo) {
        let PassedOn { shard, client, term, in_order, request, writes, is_retry, deadline, trace } = passed_on;
        let bytes = request.len();
        if bytes > PASSED_ON_BYTES_MAX {
            reply_to.fail(too_large(bytes, is_retry));
            return;
        }
        if self.forwards_open() >= FORWARDS_MAX {
            self.counts.note_forward(ForwardEnd::Refused);
            reply_to.fail(ServerError::new(ErrorCode::Overloaded, "too many requests are being forwarded"));
            return;
        }
        let id = self.next_forward.fetch_add(1, Ordering::Relaxed);
        let deadline = deadline.after_ms(FORWARD_GRACE_MS);
        self.forwards.insert(id, Forward { reply_to, node, shard, term, deadline, writes });
        // It is gone on purpose: another node leads, or will in a moment.
        let is_leaving = || self.peer_table.is_stopping(node);
        if let (Some(context), Some(peers)) = (trace, self.peers.get()) {
            // If it finds no room, the other node's part of the trace is missing.
            let _ = peers.send(node, &PeerMessage::Trace { id, context });
        }
        let message = PeerMessage::Forward { id, client, term, in_order, request };
        let (end, failure) = match self.peers.get().map(|peers| peers.send(node, &message)) {
            Some(Ok(())) => return,
            Some(Err(SendError::Full)) => {
                let detail = "too much waits for the node that leads the shard";
                (ForwardEnd::Refused, ServerError::new(ErrorCode::Overloaded, detail))
            }
            Some(Err(SendError::Disconnected)) if is_leaving() => {
                if let PeerMessage::Forward { request, .. } = message {
                    self.forward_returned(node, id, request);
                }
                return;
            }
            Some(Err(SendError::TooLarge)) => (ForwardEnd::Refused, too_large(bytes, is_retry)),
            Some(Err(SendError::Disconnected | SendError::Unknown)) | None => {
                let detail = format!("node {node}, which leads the shard, can't be reached from here");
                (ForwardEnd::Unreachable, ServerError::new(ErrorCode::Unavailable, detail))
            }
        };
        if let Some(forward) = self.forwards.take(id, |_| true) {
            self.counts.note_forward(end);
            forward.reply_to.fail(failure);
        }
    }

    /// Requests that this node has passed on and that are not answered; more than [`FORWARDS_MAX`] are turned away.
    pub fn forwards_open(&self) -> usize {
        self.forwards.len()
    }

    /// The answer to a forwarded request has come.
    pub fn forward_answered(&self, from: NodeId, id: u64, response: Bytes) {
        let Some(forward) = self.forwards.take(id, |forward| forward.node == from) else { return };
        match Response::decode(response) {
            Ok(response) => {
                self.counts.note_forward(ForwardEnd::Answered);
                forward.reply_to.answer(Answer::Forwarded(Box::new(response.body)));
            }
            Err(error) => {
                self.counts.note_forward(ForwardEnd::Lost);
                debug!(%from, %error, "a peer's answer can't be read");
                forward.reply_to.fail(lost(forward.writes, "the leader's answer can't be read"));
            }
        }
    }

    /// A forwarded request has come back.
    pub fn forward_returned(&self, from: NodeId, id: u64, request: Bytes) {
        let Some(forward) = self.forwards.take(id, |forward| forward.node == from) else { return };
        match Request::decode(request) {
            Ok(request) => {
                self.counts.note_forward(ForwardEnd::Returned);
                forward.reply_to.answer(Answer::Returned(Box::new(request.body), forward.term));
            }
            Err(error) => {
                self.counts.note_forward(ForwardEnd::Lost);
                debug!(%from, %error, "a request that a peer has returned can't be read");
                forward.reply_to.fail(lost(false, "the request can't be read any more"));
            }
        }
    }

    /// Gives up forwarded requests that `node` will not answer any more.
    pub fn peer_lost(&self, node: NodeId) {
        self.give_up(|forward| forward.node == node, "the connection to the shard's leader was lost");
        self.forget_claims(node);
    }

    /// What a node that is gone has said of shards counts no longer, as far as no replica of this node says the same: a claim of a
    /// term that is far ahead would keep out every true one.
    fn forget_claims(&self, node: NodeId) {
        let mut changed = false;
        for (shard, _) in self.led_by(node) {
            let own = self.local(shard).map(|handle| handle.status.lock().term);
            if let Some(mut known) = self.leaders.get_mut(&shard)
                && known.1 == Some(node)
                && own != Some(known.0)
            {
                *known = (own.unwrap_or_default(), None);
                changed = true;
            }
        }
        if changed {
            self.publish_topology();
        }
    }

    /// The shards that a node leads, as far as is known, in order.
    fn led_by(&self, node: NodeId) -> Vec<(ShardId, Term)> {
        let led = self.leaders.iter().filter(|entry| entry.1 == Some(node));
        let mut led: Vec<_> = led.map(|entry| (*entry.key(), entry.0)).collect();
        led.sort_unstable();
        led
    }

    /// Gives up forwarded requests whose deadline has passed, and has those looked at that were held for long.
    pub fn give_up_late(&self, now: Nanos) {
        if self.forwards.len() > 0 {
            self.give_up(|forward| forward.deadline <= now, "the shard's leader did not answer in time");
        }
        self.nudge_late(now);
    }

    /// A node does not lead the shard any more. It has had its chance to answer what was forwarded to it: if it was
    /// killed, nothing else would tell before its connection times out.
    fn hurry_forwards(&self, shard: ShardId, former: NodeId) {
        let soon = self.clock.monotonic().after_ms(FORWARD_GRACE_MS);
        self.forwards.hurry(soon, |forward| forward.shard == shard && forward.node == former);
    }

    fn give_up(&self, which: impl Fn(&Forward) -> bool, why: &str) {
        for id in self.forwards.ids(which) {
            if let Some(forward) = self.forwards.take(id, |_| true) {
                self.counts.note_forward(ForwardEnd::Lost);
                forward.reply_to.fail(lost(forward.writes, why));
            }
        }
    }

    /// Another node says that it leads shards. What it holds no replica of it can't lead.
    pub fn peer_leads(&self, node: NodeId, shards: &[(ShardId, Term)]) {
        let ring = self.ring();
        // Whoever has lost its disk can't lead either.
        if self.peer_table.is_stranger(&ring, node) {
            return;
        }
        let mut changed = false;
        for &(shard, term) in shards.iter().filter(|(shard, _)| ring.replica_on(*shard, node).is_some()) {
            changed |= self.learn_leader(shard, term, Some(node));
        }
        if changed {
            self.publish_topology();
        }
    }

    /// The shards that this node leads, in order, for its peers.
    pub fn leading(&self) -> Vec<(ShardId, Term)> {
        self.led_by(self.me)
    }

    /// A replica id's message must come from the node that holds it.
    pub fn is_from(&self, shard: ShardId, message: &RaftMessage, node: NodeId) -> bool {
        self.holds(shard, message.from, node)
    }

    /// A message about a snapshot must come from the node that holds its sender, and be for a replica of this node.
    pub fn is_snapshot_from(&self, shard: ShardId, message: &SnapshotMessage, node: NodeId) -> bool {
        self.holds(shard, message.from, node) && self.holds(shard, message.to, self.me)
    }

    fn holds(&self, shard: ShardId, replica: ReplicaId, node: NodeId) -> bool {
        let ring = self.ring.read();
        let is_leaving =
            || ring.group(shard).is_some_and(|group| group.leaving.iter().any(|held| held.replica == replica.0));
        ring.node_of(shard, replica) == Some(node) && !(is_leaving() && planted(Bug::LeavingNotHeard))
    }

    fn learn_leader(&self, shard: ShardId, term: Term, leader: Option<NodeId>) -> bool {
        let former;
        {
            // Looked at and changed under one lock: the shard's actor and the peers tell in parallel. That nobody leads is
            // kept, too: a leader of an older term that has not noticed yet says each second that it leads.
            let mut known = self.leaders.entry(shard).or_insert((Term(0), None));
            let (known_term, node) = *known;
            if known_term > term || (known_term == term && leader == node) {
                return false;
            }
            *known = (term, leader);
            former = node;
            if leader.is_none() && former.is_none() {
                return false;
            }
        }
        if let Some(former) = former.filter(|former| leader != Some(*former)) {
            self.hurry_forwards(shard, former);
        }
        if leader.is_some() {
            self.leader_known(shard);
        }
        true
    }

    fn publish_topology(&self) {
        // Made under the lock under which it is put in place, so that of two the one that knows more comes last.
        let mut topology = self.topology.write();
        let leader = |shard| self.leaders.get(&shard).and_then(|known| Some((known.0, known.1?)));
        *topology = TopologyNews::new(self.ring().topology(leader));
        if let Some(listener) = self.topology_listener.get() {
            listener(&topology);
        }
    }
}

impl ShardOutlet for Router {
    fn pull_budget(&self) -> Arc<PullBudget> {
        Arc::clone(&self.pull_budget)
    }

    fn send(&self, shard: ShardId, messages: Vec<RaftMessage>) {
        let Some(peers) = self.peers.get() else { return };
        let ring = self.ring();
        for message in messages {
            // A stranger is not the replica that the message is for, whatever its name.
            if let Some(node) =
                ring.node_of(shard, message.to).filter(|node| !self.peer_table.is_stranger(&ring, *node))
            {
                // A full or closed lane drops it; consensus sends again.
                let _ = peers.send(node, &PeerMessage::Raft(shard, message));
            }
        }
    }

    fn send_snapshot(&self, shard: ShardId, messages: Vec<SnapshotMessage>) {
        let Some(peers) = self.peers.get() else { return };
        let ring = self.ring();
        for message in messages {
            if let Some(node) = ring.node_of(shard, message.to) {
                // What is dropped is asked for again.
                let _ = peers.send(node, &PeerMessage::Snapshot(shard, message));
            }
        }
    }

    fn has_room_for_snapshot(&self, shard: ShardId, to: ReplicaId) -> bool {
        self.snapshots.lock().has_room(shard, to)
    }

    fn offer_snapshot(
        &self,
        shard: ShardId,
        from: ReplicaId,
        to: ReplicaId,
        source: Arc<dyn SnapshotSource>,
    ) -> Result<(), OffersFull> {
        let now = self.clock.monotonic();
        // It leaves with the node's next tick.
        self.snapshots.lock().offer(now, shard, from, to, source).map(drop)
    }

    fn may_follow(&self, shard: ShardId, change: u64, since: Nanos) -> bool {
        let Some(ring) = self.agreed_ring() else { return false };
        let is_that = ring.group(shard).is_some_and(|group| group.since == change);
        is_that && (ring.level < NEWS_LEVEL || self.map_news.was_newest(ring.epoch, since))
    }

    fn is_fit(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let ring = self.ring();
        match ring.node_of(shard, replica) {
            Some(node) if node == self.me => self.fitness.reasons().is_empty(),
            Some(node) => self.peer_table.is_fit(&ring, node),
            None => false,
        }
    }

    fn slower_than_ns(&self) -> u64 {
        self.slow.slower_than_ns()
    }

    fn opened(&self, handle: Arc<ShardHandle>) {
        self.shards.insert(handle.shard, handle);
    }

    fn changed(&self, shard: ShardId, status: ReplicaStatus) {
        let leads = status.role == Role::Leader;
        let leader = match status.leader {
            // A leader that can't answer yet is not announced: requests would only be turned away.
            Some(_) if leads => status.serving.then_some(self.me),
            Some(replica) => self.ring().node_of(shard, replica),
            None => None,
        };
        if self.learn_leader(shard, status.term, leader) {
            self.publish_topology();
        }
        if leads && status.serving {
            info!(%shard, term = %status.term, "leads the shard");
            if let Some(peers) = self.peers.get() {
                for node in peers.up() {
                    let _ = peers.send(node, &PeerMessage::Leading(vec![(shard, status.term)]));
                }
            }
        }
    }
}

/// A forwarded request whose answer will not come.
fn lost(writes: bool, why: &str) -> ServerError {
    let unknown = writes && !planted(Bug::LostForwardToldNotApplied);
    let outcome = if unknown { Outcome::Unknown } else { Outcome::NotApplied };
    ServerError::new(ErrorCode::Unavailable, why).with_outcome(outcome)
}
