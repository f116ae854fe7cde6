//! What a node does with the messages of its peers. Driven by its owner, like a session: it
//! starts no task, and waits for the disk only when it meets a peer for the first time.

use crate::clock::Nanos;
use crate::known_disks::KnownDisks;
use crate::peers::PeerNetwork;
use crate::reply::ReplySink;
use crate::ring::RingMap;
use crate::router::Router;
use crate::session::{Answered, Session, SessionContext};
use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{
    ClientId, ErrorCode, NodeId, Request, RequestBody, RequestId, Response, ResponseBody, ServerError,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tracing::{debug, warn};
use uuid::Uuid;

/// Whoever watches the sinks of peers' sessions: told once per peer, and to call [`PeerDesk::collect`] when one is ready.
pub type Watch = Box<dyn Fn(NodeId, Arc<ReplySink>) + Send + Sync>;

/// Takes the messages of all peers.
pub struct PeerDesk {
    context: Arc<SessionContext>,
    /// A session for the requests that each peer passes on, with the id that the peer gave each.
    sessions: DashMap<NodeId, Arc<Mutex<Session<u64>>>>,
    known_disks: KnownDisks,
    watch: Watch,
}

impl PeerDesk {
    /// A desk.
    pub fn new(context: Arc<SessionContext>, known_disks: KnownDisks, watch: Watch) -> Self {
        PeerDesk { context, sessions: DashMap::new(), known_disks, watch }
    }

    fn router(&self) -> &Arc<Router> {
        &self.context.router
    }

    /// The data folder with which this node knows a peer: the ring map's word, else its own memory.
    pub fn knows(&self, peer: NodeId) -> Option<Uuid> {
        self.router().ring().disk_of(peer).or(self.known_disks.get(peer))
    }

    /// A peer comes with the data folder `disk`, and knows this node with the folder `knows`. One that comes with another
    /// folder than it should is let in as a stranger: it can forward requests and be told the ring map, and its consensus
    /// messages don't count ([`crate::peer_table::PeerTable::is_stranger`]).
    ///
    /// # Errors
    /// Why it is turned away.
    pub fn admit(&self, peer: NodeId, disk: Uuid, knows: Option<Uuid>) -> Result<(), String> {
        let ring = self.router().ring();
        if ring.is_retired(disk) {
            return Err(format!(
                "data folder {disk} was replaced and never returns: empty it, and the node is taken in"
            ));
        }
        let remembered = self.known_disks.meet(peer, disk);
        let remembered = remembered.map_err(|error| format!("its data folder can't be written down: {error}"))?;
        let table = self.router().peer_table();
        table.met(peer, disk, Some(remembered), knows);
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
        let leading = router.leading();
        if !leading.is_empty() {
            let _ = peers.send(peer, &PeerMessage::Leading(leading));
        }
        if let Some(ring) = router.agreed_ring() {
            let _ = peers.send(peer, &PeerMessage::Ring(ring.to_bytes().into()));
        }
    }

    /// A peer can't be sent to any more.
    pub fn disconnected(&self, peer: NodeId) {
        debug!(%peer, "a peer can't be sent to any more");
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
                    warn!(%from, %shard, replica = %message.from, "a peer speaks for a replica that it does not hold");
                }
            }
            PeerMessage::Forward { id, client, request } => self.forwarded(from, id, client, request, now),
            PeerMessage::ForwardReply { id, response } => self.router().forward_answered(from, id, response),
            PeerMessage::Leading(shards) => self.router().peer_leads(from, &shards),
            PeerMessage::Ring(map) => match RingMap::from_bytes(&map) {
                Ok(ring) => self.router().offer_ring(ring),
                Err(error) => warn!(%from, %error, "a peer's ring map was refused"),
            },
            PeerMessage::Faulty(replicas) => self.router().peer_table().note_faulty(from, replicas, now),
            PeerMessage::Hello(_) => warn!(%from, "a peer said hello twice"),
        }
    }

    /// Sends the answers that have come for what a peer passed on.
    pub fn collect(&self, peer: NodeId) {
        let session = self.session(peer);
        let mut answers = Vec::new();
        session.lock().collect(&mut |answered| answers.push(answered));
        self.send_answers(peer, answers);
    }

    fn session(&self, peer: NodeId) -> Arc<Mutex<Session<u64>>> {
        let make = || {
            let session = Session::new(Arc::clone(&self.context), false);
            (self.watch)(peer, Arc::clone(session.sink()));
            Arc::new(Mutex::new(session))
        };
        Arc::clone(&self.sessions.entry(peer).or_insert_with(make))
    }

    fn forwarded(&self, from: NodeId, id: u64, client: ClientId, request: Bytes, now: Nanos) {
        let mut answers = Vec::new();
        match Request::decode(request) {
            Ok(request) if may_be_forwarded(&request.body) => {
                let session = self.session(from);
                session.lock().handle(client, id, now, request, &mut |answered| answers.push(answered));
            }
            Ok(_) => answers.push(refused(id, ErrorCode::NotPermitted, "this request is not one that is forwarded")),
            Err(error) => {
                warn!(%from, %error, "a forwarded request can't be read");
                answers.push(refused(id, ErrorCode::Malformed, &error.to_string()));
            }
        }
        self.send_answers(from, answers);
    }

    fn send_answers(&self, peer: NodeId, answers: Vec<Answered<u64>>) {
        let router = self.router();
        let Some(peers) = router.peers() else { return };
        let epoch = router.epoch();
        for Answered { origin, forwarded, body } in answers {
            let mut response = BytesMut::new();
            Response { id: RequestId(1), epoch, forwarded, body }.encode_body(&mut response);
            send(peers, peer, origin, response.freeze());
        }
    }
}

fn may_be_forwarded(body: &RequestBody) -> bool {
    matches!(body, RequestBody::Get { .. } | RequestBody::Write { .. } | RequestBody::Atomic(_) | RequestBody::Scan(_))
}

fn refused(id: u64, code: ErrorCode, detail: &str) -> Answered<u64> {
    let body = ResponseBody::Error(ServerError::new(code, detail));
    Answered { origin: id, forwarded: false, body }
}

fn send(peers: &dyn PeerNetwork, peer: NodeId, id: u64, response: Bytes) {
    // If it can't be sent the asking node gives the request up at its deadline.
    let _ = peers.send(peer, &PeerMessage::ForwardReply { id, response });
}
