//! What comes from other nodes: consensus messages for the shards, requests that they pass on, and who leads what.

use crate::clock;
use crate::known_disks::KnownDisks;
use crate::peers::{PeerHandler, Peers};
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
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

/// Handles the messages of all peers. Never blocks: the peers' reading tasks call it.
pub struct PeerDoor {
    context: Arc<SessionContext>,
    /// A session for the requests that each peer passes on, with the id that the peer gave each.
    sessions: DashMap<NodeId, Arc<PeerSession>>,
    known_disks: KnownDisks,
    stop: CancellationToken,
}

struct PeerSession {
    session: Mutex<Session<u64>>,
}

impl PeerDoor {
    /// A door that stops answering when `stop` is cancelled.
    pub fn new(context: Arc<SessionContext>, known_disks: KnownDisks, stop: CancellationToken) -> Arc<Self> {
        Arc::new(PeerDoor { context, sessions: DashMap::new(), known_disks, stop })
    }

    fn router(&self) -> &Arc<Router> {
        &self.context.router
    }

    fn session(&self, peer: NodeId) -> Arc<PeerSession> {
        let make = || {
            let session = Session::new(Arc::clone(&self.context), false);
            let sink = Arc::clone(session.sink());
            let made = Arc::new(PeerSession { session: Mutex::new(session) });
            let (pumped, router, stop) = (Arc::clone(&made), Arc::clone(self.router()), self.stop.clone());
            // One task per peer for the life of the node: it sends the answers that come later.
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        () = sink.ready() => {}
                        () = stop.cancelled() => return,
                    }
                    let mut answers = Vec::new();
                    pumped.session.lock().collect(&mut |answered| answers.push(answered));
                    send_answers(&router, peer, answers);
                }
            });
            made
        };
        Arc::clone(&self.sessions.entry(peer).or_insert_with(make))
    }

    fn forwarded(&self, from: NodeId, id: u64, client: ClientId, request: Bytes) {
        let mut answers = Vec::new();
        match Request::decode(request) {
            Ok(request) if may_be_forwarded(&request.body) => {
                let session = self.session(from);
                let now = clock::monotonic();
                session.session.lock().handle(client, id, now, request, &mut |answered| answers.push(answered));
            }
            Ok(_) => answers.push(refused(id, ErrorCode::NotPermitted, "this request is not one that is forwarded")),
            Err(error) => {
                warn!(%from, %error, "a forwarded request can't be read");
                answers.push(refused(id, ErrorCode::Malformed, &error.to_string()));
            }
        }
        send_answers(self.router(), from, answers);
    }
}

impl PeerHandler for PeerDoor {
    fn admit(&self, peer: NodeId, disk: Uuid) -> Result<(), String> {
        self.known_disks.admit(peer, disk)
    }

    fn connected(&self, peer: NodeId) {
        debug!(%peer, "a peer can be sent to");
        let leading = self.router().leading();
        if let Some(peers) = self.router().peers()
            && !leading.is_empty()
        {
            let _ = peers.send(peer, &PeerMessage::Leading(leading));
        }
    }

    fn disconnected(&self, peer: NodeId) {
        debug!(%peer, "a peer can't be sent to any more");
        self.router().peer_lost(peer);
    }

    fn message(&self, from: NodeId, message: PeerMessage) {
        match message {
            PeerMessage::Raft(shard, message) => {
                let Some(handle) = self.router().local(shard) else { return };
                if self.router().is_from(shard, &message, from) {
                    handle.inbox.message(message);
                } else {
                    warn!(%from, %shard, replica = %message.from, "a peer speaks for a replica that it does not hold");
                }
            }
            PeerMessage::Forward { id, client, request } => self.forwarded(from, id, client, request),
            PeerMessage::ForwardReply { id, response } => self.router().forward_answered(from, id, response),
            PeerMessage::Leading(shards) => self.router().peer_leads(from, &shards),
            PeerMessage::Hello(_) => warn!(%from, "a peer said hello twice"),
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

fn send_answers(router: &Router, peer: NodeId, answers: Vec<Answered<u64>>) {
    let Some(peers) = router.peers() else { return };
    let epoch = router.epoch();
    for Answered { origin, forwarded, body } in answers {
        let mut response = BytesMut::new();
        Response { id: RequestId(1), epoch, forwarded, body }.encode_body(&mut response);
        send(peers, peer, origin, response.freeze());
    }
}

fn send(peers: &Peers, peer: NodeId, id: u64, response: Bytes) {
    // If it can't be sent the asking node gives the request up at its deadline.
    let _ = peers.send(peer, &PeerMessage::ForwardReply { id, response });
}
