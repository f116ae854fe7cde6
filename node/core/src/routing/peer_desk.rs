//! What a node does with the messages of its peers. Driven by its owner, like a session: it
//! starts no task, and waits for the disk only when it meets a peer for the first time.

use crate::clock::Nanos;
use crate::folder::known_folders::KnownFolders;
use crate::health::fitness::Reasons;
use crate::limits::{FORWARD_GRACE_MS, FORWARDS_MAX, MISDEED_LOG_INTERVAL};
use crate::measure::meter::Door;
use crate::rare::RareEach;
use crate::ring::decide::{KnownOfPeer, Presence};
use crate::ring::sealing::KeysOfNode;
use crate::ring::{FIRST_REPLICAS_MAX, RingMap};
use crate::routing::network::{BULK_MESSAGE_BYTES, SendError};
use crate::routing::router::Router;
use crate::seeded::{Bug, planted};
use crate::session::reply::ReplySink;
use crate::session::{Answered, PassedOnAs, Session, SessionContext};
use crate::shard::inbox::ShardCommand;
use crate::snapshot::{EndedOffer, SnapshotAnswer, SnapshotRead};
use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use kvorum_protocol::peer::{Levels, PeerHello, PeerMessage};
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotMessage};
use kvorum_protocol::{
    ClientId, Epoch, ErrorCode, NodeId, Outcome, Request, RequestBody, RequestId, Response, ResponseBody, ServerError,
    ShardId,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// Whoever watches the sinks of peers' sessions: told once per peer, and to call [`PeerDesk::collect`] when one is ready.
pub type Watch = Box<dyn Fn(NodeId, Arc<ReplySink>) + Send + Sync>;

/// Where the reads of snapshots run that peers pull. They may wait for the disk.
pub enum SnapshotReads {
    /// Where they come up.
    Here,
    /// Elsewhere: to be run, and the answer to be given to [`PeerDesk::snapshot_read`]. At most one per offered snapshot
    /// is out at a time.
    Elsewhere(Box<dyn Fn(SnapshotRead) + Send + Sync>),
}

/// Why a peer is turned away.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Its program does not speak the cluster's level.
    #[error(
        "it speaks {levels}, and the cluster is at level {cluster}: start {} program",
        if levels.max < *cluster { "a newer" } else { "an older" }
    )]
    Level {
        /// What it speaks.
        levels: Levels,
        /// The cluster's level.
        cluster: u16,
    },
    /// It is no node of the cluster, as far as this node knows.
    #[error("the ring map of epoch {epoch} has no such node")]
    Unknown {
        /// The map's epoch.
        epoch: u64,
    },
    /// It was removed from the cluster, and does not return.
    #[error("the node was removed: one that joins again does so with an empty folder, under an id of its own")]
    Removed,
    /// Its data folder is not one with which it may come, or can't be written down.
    #[error("{0}")]
    Folder(String),
}

/// Takes the messages of all peers.
pub struct PeerDesk {
    context: Arc<SessionContext>,
    /// A session for the requests that each peer passes on, with the id that the peer gave each.
    sessions: DashMap<NodeId, Arc<Mutex<Session<Passed>>>>,
    /// Answers that found their lane full, of each peer that there are any for.
    held: Mutex<BTreeMap<NodeId, HeldAnswers>>,
    known_folders: KnownFolders,
    watch: Watch,
    snapshot_reads: SnapshotReads,
    /// What the peers were told last of this node's fitness, and when they were last told everything.
    said: Mutex<(Reasons, Nanos)>,
    /// When the peers were last told the time.
    told_time_at: Mutex<Option<Nanos>>,
    /// What peers do that they should not, and of which shard: it may come with every message.
    misdeeds: RareEach<(&'static str, NodeId, ShardId)>,
}

/// Peers are told again this often what this node leads, and whether it should: a message may have found no room.
const SAY_EVERY_MS: u64 = 1_000;

/// How often peers are told what this node's wall clock shows, in milliseconds.
const TELL_TIME_EVERY_MS: u64 = 1_000;

impl PeerDesk {
    /// A desk.
    pub fn new(
        context: Arc<SessionContext>,
        known_folders: KnownFolders,
        watch: Watch,
        snapshot_reads: SnapshotReads,
    ) -> Self {
        Self {
            context,
            sessions: DashMap::new(),
            held: Mutex::default(),
            known_folders,
            watch,
            snapshot_reads,
            said: Mutex::default(),
            told_time_at: Mutex::default(),
            misdeeds: RareEach::default(),
        }
    }

    /// Tells what a peer does that it should not: at once, and then once in a while, for each peer and shard.
    fn complain(&self, from: NodeId, shard: ShardId, about: &dyn Display, what: &'static str) {
        let now = self.router().clock().monotonic();
        if let Some(times) = self.misdeeds.note((what, from, shard), now, MISDEED_LOG_INTERVAL) {
            warn!(%from, %shard, %about, times, "{what}");
        }
    }

    fn router(&self) -> &Arc<Router> {
        &self.context.router
    }

    /// What this node knows of a peer: the ring map's word, else its own memory.
    pub fn knows(&self, peer: NodeId) -> KnownOfPeer {
        let ring = self.router().ring();
        let replaced = ring.replica_on(ShardId::META, peer).is_none_or(|replica| replica.0 > FIRST_REPLICAS_MAX);
        KnownOfPeer { folder: ring.folder_of(peer).or(self.known_folders.get(peer)), replaced }
    }

    /// A peer says that this node was removed from the cluster.
    pub fn said_removed(&self, by: NodeId) {
        self.router().peer_table().note_said_removed(by);
    }

    /// A peer says that an operator has recovered the cluster from a loss, and has given this node up.
    pub fn said_given_up(&self) {
        self.router().peer_table().note_given_up();
    }

    /// Whether the cluster was ever recovered from a loss, by the map in force. Those who could tell a node that it was removed may
    /// be gone since then: one that says so must be enough.
    pub fn is_recovered(&self) -> bool {
        self.router().ring().recoveries() > 0
    }

    /// Where a peer is by a map that is not in force here.
    pub fn rumoured_address(&self, node: NodeId) -> Option<String> {
        self.router().rumoured_address(node)
    }

    /// Whether certificates of that serial number, which is without leading zeros, are not taken.
    pub fn denies(&self, serial: &[u8]) -> bool {
        self.router().auth().denies(serial)
    }

    /// Whether a node was removed from the cluster, by the map in force.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.router().ring().was_removed(node)
    }

    /// A peer has said hello. One that comes with another data
    /// folder than it should is let in as a stranger: it can forward requests and be told the ring map, and its consensus
    /// messages don't count ([`crate::routing::peer_table::PeerTable::is_stranger`]).
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn admit(&self, hello: &PeerHello) -> Result<(), AdmitError> {
        let (peer, disk) = (hello.node, hello.disk);
        let ring = self.router().ring();
        if ring.is_retired(disk) {
            return Err(AdmitError::Folder(format!(
                "data folder {disk} was replaced and never returns: empty it, and the node is taken in"
            )));
        }
        if let Some(ring) = self.router().agreed_ring().filter(|ring| !ring.has_node(peer)) {
            let removed = ring.was_removed(peer);
            return Err(if removed { AdmitError::Removed } else { AdmitError::Unknown { epoch: ring.epoch } });
        }
        // Who knows no map yet, after its disk was lost, does not know the cluster's level either.
        if let Some(cluster) = self.router().agreed_ring().map(|ring| ring.level)
            && !hello.levels.speaks(cluster)
        {
            return Err(AdmitError::Level { levels: hello.levels, cluster });
        }
        // Two folders of one node: the one that counts stays. If its process is gone, its connection ends soon.
        let newcomer =
            Presence { folder: disk, remembered: self.known_folders.get(peer), connected_ms: 0, levels: hello.levels };
        let table = self.router().peer_table();
        if newcomer.is_stranger(&ring, peer) && table.is_connected(peer) && !table.is_stranger(&ring, peer) {
            return Err(AdmitError::Folder(format!(
                "data folder {disk} is not the one that this node is known with, and that one is connected"
            )));
        }
        let remembered = self.known_folders.meet(hello).map_err(|error| AdmitError::Folder(error.to_string()))?;
        table.met(hello, Some(remembered));
        if table.is_stranger(&ring, peer) {
            warn!(%peer, folder = %disk, "a peer comes with another data folder than it had: it is a stranger until it is replaced");
        }
        Ok(())
    }

    /// A peer can be sent to.
    pub fn connected(&self, peer: NodeId) {
        debug!(%peer, "a peer can be sent to");
        let router = self.router();
        router.peer_table().connected(peer, router.clock().monotonic());
        let Some(peers) = router.peers() else { return };
        // First: a group that has just been started waits for it.
        let _ = peers.send(peer, &PeerMessage::Clock(router.clock().now().wall_ms));
        let leading = router.leading();
        if !leading.is_empty() {
            let _ = peers.send(peer, &PeerMessage::Leading(leading));
        }
        let _ = peers.send(peer, &PeerMessage::Unfit(router.fitness().reasons().0));
    }

    /// A peer can't be sent to any more.
    pub fn disconnected(&self, peer: NodeId) {
        debug!(%peer, "a peer can't be sent to any more");
        // It gives up all that it has asked of this node.
        self.held.lock().remove(&peer);
        self.router().peer_table().disconnected(peer);
        self.router().peer_lost(peer);
    }

    /// A message has come.
    pub fn message(&self, from: NodeId, message: PeerMessage, now: Nanos) {
        match message {
            PeerMessage::Raft(shard, message) => {
                let Some(handle) = self.router().local(shard) else { return };
                if self.router().is_stranger(from) {
                    debug!(%from, %shard, "dropped a stranger's consensus message");
                } else if self.router().is_from(shard, &message, from) {
                    handle.inbox.message(message);
                } else {
                    self.complain(from, shard, &message.from, "a peer speaks for a replica that it does not hold");
                }
            }
            // A stranger's, too: a request rests on nothing that its sender remembers, and is one that any client may send.
            PeerMessage::Forward { id, client, term, in_order, request } => {
                self.forwarded(from, id, client, PassedOnAs { term, in_order }, request, now);
            }
            PeerMessage::Trace { id, context } => self.session(from).lock().foretell(id, context),
            PeerMessage::ForwardReply { id, response } => self.router().forward_answered(from, id, response),
            PeerMessage::Returned { id, request } => self.router().forward_returned(from, id, request),
            PeerMessage::Leading(shards) => self.router().peer_leads(from, &shards),
            PeerMessage::Ring(map) => self.hear_map(from, &map),
            message @ (PeerMessage::AuthNews { .. } | PeerMessage::AuthWanted | PeerMessage::AuthTable(_)) => {
                self.router().auth().hear(from, &message, now);
            }
            PeerMessage::Report(report) => self.router().peer_table().note_report(from, report, now),
            PeerMessage::DataKeys { kek, epoch } => {
                self.router().peer_table().note_data_keys(from, KeysOfNode { kek, epoch });
            }
            PeerMessage::MapAsked { number } => self.router().map_news().hear_question(from, number, now),
            PeerMessage::MapIs { number, epoch } => self.router().map_news().hear_answer(number, epoch),
            PeerMessage::Unfit(reasons) => self.router().peer_table().note_unfit(from, Reasons(reasons)),
            PeerMessage::Clock(wall_ms) => {
                self.router().hear_clock(from, wall_ms, now);
                self.judge_clocks();
            }
            PeerMessage::Snapshot(shard, message) => self.snapshot(from, shard, message, now),
            PeerMessage::Hello(_) => warn!(%from, "a peer said hello twice"),
            PeerMessage::Unknown { kind, .. } => debug!(%from, kind, "skipped a message of a newer version"),
        }
    }

    /// A peer has sent a ring map. One that is no news here is not even read.
    fn hear_map(&self, from: NodeId, map: &[u8]) {
        let known = self.router().agreed_ring().map(|ring| ring.epoch);
        match RingMap::from_bytes_if_newer(map, known) {
            Ok(Some(ring)) => self.router().offer_ring(from, ring),
            Ok(None) => {}
            Err(error) => self.complain(from, ShardId::META, &error, "a peer's ring map was refused"),
        }
    }

    /// Tells the peers each second what this node's wall clock shows.
    fn tell_time(&self, now: Nanos) {
        let mut told_at = self.told_time_at.lock();
        if told_at.is_some_and(|at| now.ms_since(at) < TELL_TIME_EVERY_MS) {
            return;
        }
        *told_at = Some(now);
        drop(told_at);
        self.judge_clocks();
        let Some(peers) = self.router().peers() else { return };
        let message = PeerMessage::Clock(self.router().clock().now().wall_ms);
        for peer in peers.up() {
            // The next one comes in a second.
            let _ = peers.send(peer, &message);
        }
    }

    /// Looks at all wall clocks, and says so if this node's own has gone wrong or come right.
    fn judge_clocks(&self) {
        let judged = self.router().judge_clocks();
        let ahead_ms = judged.ahead_ms;
        if judged.off_changed && judged.off {
            warn!(
                ahead_ms,
                "this node's wall clock differs from those of most nodes: it should not lead until that is mended"
            );
        } else if judged.off_changed {
            info!(ahead_ms, "this node's wall clock agrees with those of most nodes again");
        }
    }

    /// The node's tick: tells the peers again what they may have missed, sends answers for which there is room by now, offers
    /// snapshots again and works off what pulls wait.
    pub fn tick(&self, now: Nanos) {
        self.say(now);
        self.tell_time(now);
        self.send_held(now);
        self.router().snapshots().lock().handle_tick(now);
        self.drive_snapshots(now);
    }

    /// Tells the peers what this node leads, each second, and whether it should, also whenever that changes.
    fn say(&self, now: Nanos) {
        let router = self.router();
        let Some(peers) = router.peers() else { return };
        let reasons = router.fitness().reasons();
        let (changed, due) = {
            let mut said = self.said.lock();
            let (changed, due) = (said.0 != reasons, now.ms_since(said.1) >= SAY_EVERY_MS);
            *said = (reasons, if due { now } else { said.1 });
            (changed, due)
        };
        if !changed && !due {
            return;
        }
        if changed {
            info!(%reasons, "whether this node should lead has changed");
        }
        let leading = if due { router.leading() } else { Vec::new() };
        let leading = (!leading.is_empty()).then_some(PeerMessage::Leading(leading));
        for peer in peers.up() {
            // What finds no room is said again.
            let _ = peers.send(peer, &PeerMessage::Unfit(reasons.0));
            let _ = leading.as_ref().map(|leading| peers.send(peer, leading));
        }
    }

    /// A read that was run elsewhere is done.
    pub fn snapshot_read(&self, answer: SnapshotAnswer, now: Nanos) {
        self.router().snapshots().lock().handle_read(answer);
        self.drive_snapshots(now);
    }

    fn snapshot(&self, from: NodeId, shard: ShardId, message: SnapshotMessage, now: Nanos) {
        if self.router().is_stranger(from) {
            return;
        }
        if !self.router().is_snapshot_from(shard, &message, from) {
            let what = "a message about a snapshot is not between replicas of the two nodes";
            self.complain(from, shard, &message.from, what);
            return;
        }
        // An end may be a follower's or a leader's; whom it doesn't concern ignores it.
        let (for_follower, for_leader) = match message.body {
            SnapshotBody::Offer { .. } | SnapshotBody::Chunk { .. } => (Some(message), None),
            SnapshotBody::Pull { .. } => (None, Some(message)),
            SnapshotBody::End { .. } => (Some(message.clone()), Some(message)),
        };
        if let (Some(message), Some(handle)) = (for_follower, self.router().local(shard)) {
            handle.inbox.snapshot(message);
        }
        if let Some(message) = for_leader {
            self.router().snapshots().lock().handle_message(now, shard, message);
            self.drive_snapshots(now);
        }
    }

    /// Carries out what the offered snapshots ask for, as long as they ask for anything.
    fn drive_snapshots(&self, now: Nanos) {
        let offers = self.router().snapshots();
        let mut untold = Vec::new();
        loop {
            let effects = offers.lock().poll(now);
            if effects.is_empty() {
                break;
            }
            for (shard, message) in effects.messages {
                self.send_snapshot(shard, message);
            }
            for ended in effects.ended {
                // A replica that was closed meanwhile asks anew when it leads again.
                if let Some(handle) = self.router().local(ended.shard) {
                    let EndedOffer { to, installed, .. } = ended;
                    if !handle.inbox.command(ShardCommand::SnapshotEnded { to, installed }) {
                        untold.push(ended);
                    }
                }
            }
            for read in effects.reads {
                match &self.snapshot_reads {
                    SnapshotReads::Here => offers.lock().handle_read(read.run()),
                    SnapshotReads::Elsewhere(start) => start(read),
                }
            }
        }
        if !untold.is_empty() {
            let mut offers = offers.lock();
            untold.into_iter().for_each(|ended| offers.handle_untold(ended));
        }
    }

    fn send_snapshot(&self, shard: ShardId, message: SnapshotMessage) {
        let router = self.router();
        let Some(node) = router.ring().node_of(shard, message.to) else { return };
        let message = PeerMessage::Snapshot(shard, message);
        // A message that can't be sent at all is asked for again when the peer is back.
        if let Some(Err(SendError::Full)) = router.peers().map(|peers| peers.send(node, &message))
            && let PeerMessage::Snapshot(shard, message) = message
        {
            router.snapshots().lock().handle_no_room(shard, &message);
        }
    }

    /// Sends the answers that have come for what a peer passed on.
    pub fn collect(&self, peer: NodeId) {
        let session = self.session(peer);
        let mut answers = Vec::new();
        let returned = {
            let mut session = session.lock();
            session.collect(&mut |answered| answers.push(answered));
            session.take_returned()
        };
        self.send_answers(peer, answers);
        self.send_back(peer, returned);
    }

    fn session(&self, peer: NodeId) -> Arc<Mutex<Session<Passed>>> {
        let make = || {
            let session = Session::new(Arc::clone(&self.context), Door::Peer);
            (self.watch)(peer, Arc::clone(session.sink()));
            Arc::new(Mutex::new(session))
        };
        Arc::clone(&self.sessions.entry(peer).or_insert_with(make))
    }

    fn forwarded(&self, from: NodeId, id: u64, client: ClientId, as_what: PassedOnAs, request: Bytes, now: Nanos) {
        let (mut answers, mut returned) = (Vec::new(), Vec::new());
        match Request::decode(request) {
            Ok(request) if may_be_forwarded(&request.body) => {
                let session = self.session(from);
                let passed = Passed { id, until: now.after_ms(u64::from(request.deadline_ms) + FORWARD_GRACE_MS) };
                let mut session = session.lock();
                session.follow_foretold(id);
                session.handle_as(client, passed, now, Some(as_what), request, &mut |answered| answers.push(answered));
                returned = session.take_returned();
            }
            Ok(_) => {
                let passed = Passed { id, until: now.after_ms(FORWARD_GRACE_MS) };
                answers.push(refused(passed, ErrorCode::NotPermitted, "this request is not one that is forwarded"));
            }
            Err(error) => {
                warn!(%from, %error, "a forwarded request can't be read");
                let passed = Passed { id, until: now.after_ms(FORWARD_GRACE_MS) };
                answers.push(refused(passed, ErrorCode::Malformed, &error.to_string()));
            }
        }
        self.send_answers(from, answers);
        self.send_back(from, returned);
    }

    fn send_answers(&self, peer: NodeId, answers: Vec<Answered<Passed>>) {
        let router = self.router();
        self.send_replies(peer, answers.into_iter().map(|answered| Reply::to(answered, router)));
    }

    /// Gives requests back that were passed on and that this node does not answer as their leader.
    fn send_back(&self, peer: NodeId, returned: Vec<(Passed, RequestBody)>) {
        // Whoever passed it on knows its deadline.
        let whole = |body| Request { id: RequestId(1), deadline_ms: 0, body };
        let replies =
            returned.into_iter().map(|(passed, body)| Reply { passed, content: Content::Returned(whole(body)) });
        self.send_replies(peer, replies);
    }

    fn send_replies(&self, peer: NodeId, replies: impl Iterator<Item = Reply>) {
        let Some(peers) = self.router().peers() else { return };
        for mut reply in replies {
            let mut message = reply.message();
            let mut sent = peers.send(peer, &message);
            if sent == Err(SendError::TooLarge) && reply.shorten() {
                message = reply.message();
                sent = peers.send(peer, &message);
            }
            match sent {
                Err(SendError::Full) if planted(Bug::FullLaneDropsAnswer) => {}
                Err(SendError::Full) => self.held.lock().entry(peer).or_default().hold(reply, is_long(&message)),
                // A peer that is gone has given up what it asked.
                Ok(()) | Err(SendError::TooLarge | SendError::Disconnected | SendError::Unknown) => {}
            }
        }
    }

    /// Whether the answer to what a peer has passed on waits for room in a lane. Looks at all of them: for those who judge this node.
    pub fn holds(&self, peer: NodeId, id: u64) -> bool {
        self.held.lock().get(&peer).is_some_and(|held| held.holds(id))
    }

    /// Sends held answers as far as there is room, of those that somebody waits for.
    fn send_held(&self, now: Nanos) {
        let router = self.router();
        let Some(peers) = router.peers() else { return };
        self.held.lock().retain(|peer, held| {
            held.drop_late(now);
            held.send(&mut |reply| peers.send(*peer, &reply.message()));
            !held.is_empty()
        });
    }
}

/// What a peer has passed on.
#[derive(Clone, Copy, Debug)]
struct Passed {
    /// By which the peer knows it.
    id: u64,
    /// The peer has given it up by then.
    until: Nanos,
}

/// An answer to what a peer has passed on.
#[derive(Debug)]
struct Reply {
    passed: Passed,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Answer(Response),
    /// The request, which goes back.
    Returned(Request),
}

impl Reply {
    fn to(answered: Answered<Passed>, router: &Router) -> Self {
        let Answered { origin, forwarded, source: _, body } = answered;
        let response = Response { id: RequestId(1), epoch: router.epoch(), forwarded, body };
        Self { passed: origin, content: Content::Answer(response) }
    }

    /// Puts an error in the place of an answer that no message between nodes can hold; `false` if it is one already.
    ///
    /// What was read, or goes back, has written nothing. Of any other answer the outcome stays open: the write may be done.
    fn shorten(&mut self) -> bool {
        let outcome = match &self.content {
            Content::Answer(Response { body: ResponseBody::Error(_), .. }) => return false,
            Content::Answer(Response { body: ResponseBody::Value(_) | ResponseBody::Page(_), .. })
            | Content::Returned(_) => Outcome::NotApplied,
            Content::Answer(_) => Outcome::Unknown,
        };
        warn!("an answer is over the limit of a message between nodes");
        let detail = "the answer is too large to be passed on; ask the shard's leader";
        self.tell(ServerError::new(ErrorCode::TooLarge, detail).with_outcome(outcome));
        true
    }

    /// The answer is this error instead.
    fn tell(&mut self, error: ServerError) {
        let body = ResponseBody::Error(error);
        self.content = Content::Answer(Response { id: RequestId(1), epoch: Epoch(0), forwarded: false, body });
    }

    /// As it is sent.
    fn message(&self) -> PeerMessage {
        let (id, mut out) = (self.passed.id, BytesMut::new());
        match &self.content {
            Content::Answer(response) => {
                response.encode_body(&mut out);
                PeerMessage::ForwardReply { id, response: out.freeze() }
            }
            Content::Returned(request) => {
                request.encode_body(&mut out);
                PeerMessage::Returned { id, request: out.freeze() }
            }
        }
    }
}

/// Answers to what one peer has passed on, that wait for room in a lane to it. What they hold is not copied: values lie in the
/// log. In the order in which they came, long ones and short ones each, which go by different lanes.
#[derive(Debug, Default)]
struct HeldAnswers {
    short: VecDeque<Reply>,
    long: VecDeque<Reply>,
}

impl HeldAnswers {
    /// Holds an answer. Past the bound what is read, or goes back, gives way to a short answer that says so. The answer to a write
    /// stays what it is: that it was applied must not be lost.
    fn hold(&mut self, mut reply: Reply, is_long: bool) {
        if self.short.len() + self.long.len() < FORWARDS_MAX {
            if is_long { &mut self.long } else { &mut self.short }.push_back(reply);
        } else if self.short.len() < 2 * FORWARDS_MAX {
            let detail = "too many answers wait for the node that passed this on";
            let overloaded = ServerError::new(ErrorCode::Overloaded, detail);
            let instead = match &reply.content {
                Content::Answer(Response { body: ResponseBody::Value(_) | ResponseBody::Page(_), .. })
                | Content::Returned(_) => Some(overloaded),
                // With the values that were there before.
                Content::Answer(_) if is_long => Some(overloaded.with_outcome(Outcome::Unknown)),
                Content::Answer(_) => None,
            };
            if let Some(error) = instead {
                reply.tell(error);
            }
            self.short.push_back(reply);
        } else {
            // It has asked for twice what any node asks for at a time, so it has given the first of these up.
            debug!("dropped an answer that nobody waits for");
        }
    }

    /// Drops the answers that nobody waits for any more. To send them would only make those behind them late, too.
    fn drop_late(&mut self, now: Nanos) {
        for held in [&mut self.short, &mut self.long] {
            held.retain(|reply| now < reply.passed.until);
        }
    }

    /// Sends what there is room for: until a lane is full.
    fn send(&mut self, send: &mut impl FnMut(&Reply) -> Result<(), SendError>) {
        for held in [&mut self.short, &mut self.long] {
            while let Some(first) = held.front_mut() {
                match send(first) {
                    Err(SendError::Full) => break,
                    // The error in its place is sent next.
                    Err(SendError::TooLarge) if first.shorten() => {}
                    _ => drop(held.pop_front()),
                }
            }
        }
    }

    fn holds(&self, id: u64) -> bool {
        self.short.iter().chain(&self.long).any(|reply| reply.passed.id == id)
    }

    fn is_empty(&self) -> bool {
        self.short.is_empty() && self.long.is_empty()
    }
}

/// Whether a reply goes by the lane of long messages.
fn is_long(reply: &PeerMessage) -> bool {
    reply.bytes_about() > BULK_MESSAGE_BYTES
}

fn may_be_forwarded(body: &RequestBody) -> bool {
    matches!(
        body,
        RequestBody::Get { .. }
            | RequestBody::Write { .. }
            | RequestBody::Atomic(_)
            | RequestBody::Transaction(_)
            | RequestBody::Await { .. }
            | RequestBody::Scan(_)
    )
}

fn refused(passed: Passed, code: ErrorCode, detail: &str) -> Answered<Passed> {
    let body = ResponseBody::Error(ServerError::new(code, detail));
    Answered { origin: passed, forwarded: false, source: None, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: u64) -> Reply {
        let passed = Passed { id, until: Nanos(id) };
        answer(passed, ResponseBody::Value(None))
    }

    fn answer(passed: Passed, body: ResponseBody) -> Reply {
        let response = Response { id: RequestId(1), epoch: Epoch(1), forwarded: false, body };
        Reply { passed, content: Content::Answer(response) }
    }

    /// Sends what fits, `room` answers, and returns whose they are.
    fn sent(held: &mut HeldAnswers, mut room: usize) -> Vec<u64> {
        let mut sent = Vec::new();
        held.send(&mut |reply| {
            room = room.checked_sub(1).ok_or(SendError::Full)?;
            sent.push(reply.passed.id);
            Ok(())
        });
        sent
    }

    #[test]
    fn who_does_not_speak_the_clusters_level_is_told_what_to_start() {
        let text = |min, max, cluster| AdmitError::Level { levels: Levels { min, max }, cluster }.to_string();
        assert_eq!(text(2, 3, 1), "it speaks levels 2 to 3, and the cluster is at level 1: start an older program");
        assert_eq!(text(1, 1, 2), "it speaks level 1, and the cluster is at level 2: start a newer program");
    }

    #[test]
    fn held_answers_leave_in_order_as_there_is_room() {
        let mut held = HeldAnswers::default();
        (1..=3).for_each(|origin| held.hold(reply(origin), true));
        (4..=5).for_each(|origin| held.hold(reply(origin), false));
        assert_eq!(sent(&mut held, 3), [4, 5, 1]);
        assert_eq!(sent(&mut held, 0), [0; 0]);
        assert_eq!(sent(&mut held, 9), [2, 3]);
        assert!(held.is_empty());
    }

    #[test]
    fn what_no_message_can_hold_is_answered_with_an_error_also_if_it_was_held() {
        let mut held = HeldAnswers::default();
        let written = ResponseBody::Atomic(kvorum_protocol::AtomicResult::Applied(Vec::new()));
        held.hold(reply(1), true);
        held.hold(answer(Passed { id: 2, until: Nanos(2) }, written), true);
        let mut told = Vec::new();
        held.send(&mut |reply| {
            let Content::Answer(Response { body: ResponseBody::Error(error), .. }) = &reply.content else {
                return Err(SendError::TooLarge);
            };
            told.push((reply.passed.id, error.code, error.outcome));
            Ok(())
        });
        let too_large = ErrorCode::TooLarge;
        assert_eq!(told, [(1, too_large, Outcome::NotApplied), (2, too_large, Outcome::Unknown)]);
        assert!(held.is_empty());
    }

    #[test]
    fn answers_that_nobody_waits_for_are_not_sent() {
        let mut held = HeldAnswers::default();
        (1..=3).for_each(|origin| held.hold(reply(origin), true));
        (2..=4).for_each(|origin| held.hold(reply(origin), false));
        held.drop_late(Nanos(2));
        assert_eq!(sent(&mut held, 9), [3, 4, 3]);
    }

    #[test]
    fn past_the_bound_a_write_that_was_applied_is_never_called_not_applied() {
        let mut held = HeldAnswers::default();
        (0..FORWARDS_MAX as u64).for_each(|origin| held.hold(reply(origin), true));
        let mut written = |is_long| {
            let body = ResponseBody::Atomic(kvorum_protocol::AtomicResult::Applied(Vec::new()));
            held.hold(answer(Passed { id: 0, until: Nanos(0) }, body), is_long);
            match held.short.pop_back().expect("it was held").content {
                Content::Answer(response) => response.body,
                Content::Returned(request) => panic!("{request:?}"),
            }
        };
        assert!(matches!(written(false), ResponseBody::Atomic(_)));
        assert!(matches!(written(true), ResponseBody::Error(error) if error.outcome == Outcome::Unknown));
    }

    #[test]
    fn past_the_bound_each_answer_has_a_short_one_in_its_place() {
        let mut held = HeldAnswers::default();
        (0..FORWARDS_MAX as u64 + 2).for_each(|origin| held.hold(reply(origin), true));
        assert_eq!((held.long.len(), held.short.len()), (FORWARDS_MAX, 2));
        let overloaded = |held: &Reply| {
            let Content::Answer(response) = &held.content else { return false };
            matches!(&response.body, ResponseBody::Error(error) if error.code == ErrorCode::Overloaded)
        };
        assert!(held.short.iter().all(overloaded));
        assert_eq!(sent(&mut held, usize::MAX).len(), FORWARDS_MAX + 2, "no answer was dropped");
        (0..4 * FORWARDS_MAX as u64).for_each(|origin| held.hold(reply(origin), false));
        assert_eq!(held.short.len(), 2 * FORWARDS_MAX, "what is held is bounded");
    }
}
