//! The keeper of the ring map on this node.
//!
//! The map is the value of one key of the `meta` group, a shard like the others but for its number. Its leader writes
//! the first map, computed from the configuration, and changes it when a node's data folder becomes known, is another one
//! than before, or a replica can't be used any more ([`crate::ring::keeper`] decides, this module proposes). Every node
//! puts newer maps in force, from its own replica of the group or from its peers, which pass them on; and keeps a copy in
//! its data folder so that a restart needn't wait for the group.

use crate::clock::{self, Nanos};
use crate::kept_twice::{self, KeptError};
use crate::limits::DEADLINE_DEFAULT_MS;
use crate::log::{Disk, DiskError};
use crate::peers::SendError;
use crate::reply::{Reply, ReplySink};
use crate::ring::keeper::{self, Change, Decision, Seen};
use crate::ring::{RING_KEY, RingError, RingMap};
use crate::router::Router;
use crate::shard::Operation;
use crate::shard::inbox::{QueuedRequest, ShardHandle};
use bytes::Bytes;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{Ack, Action, ClientId, Condition, Mutation, NodeId, ShardId, Version, WriteId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};
use uuid::Uuid;

/// The name of the map's copy in the data folder.
pub const RING_COPY: &str = "ring.json";

/// The ring map that this node saw last; `None` if it never saw one.
///
/// # Errors
/// If the disk fails, or all that was written down is damaged.
pub fn read_copy(disk: &dyn Disk) -> Result<Option<RingMap>, KeptError<RingError>> {
    kept_twice::read(disk, RING_COPY, RingMap::from_copy)
}

/// Writes a ring map down for the next start.
///
/// # Errors
/// If the disk fails.
pub fn write_copy(disk: &dyn Disk, ring: &RingMap) -> Result<(), DiskError> {
    kept_twice::write(disk, RING_COPY, &ring.to_copy())
}
/// How often the key is looked at. Local and cheap.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After a proposal the keeper waits this long for the key to change before it proposes again; twice as long after each
/// further one.
const PROPOSE_AGAIN_MIN_MS: u64 = 500;
/// The longest such wait.
const PROPOSE_AGAIN_MAX_MS: u64 = 8_000;
/// How often peers are told of replicas that can't be used.
const REPORT_EVERY_MS: u64 = 1_000;

/// What the keeper is told.
#[derive(Debug)]
pub enum MetaMessage {
    /// Look at the key.
    Look,
}

impl ractor::Message for MetaMessage {}

/// What the keeper needs.
pub struct MetaArguments {
    /// The node's routing table.
    pub router: Arc<Router>,
    /// Where the copy is kept.
    pub disk: Arc<dyn Disk>,
    /// This node's data folder.
    pub folder: Uuid,
    /// The map of a new cluster.
    pub initial: RingMap,
    /// Told whenever a newer map is in force.
    pub changed: Box<dyn Fn(&RingMap) + Send + Sync>,
    /// Opens this node's replica of `meta`, to found the group; `None` once a map is known.
    pub found: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// The keeper.
pub struct MetaKeeper;

/// The keeper's state.
pub struct MetaState {
    arguments: MetaArguments,
    /// The key as this node's replica of the group has it.
    stored: Option<(Version, RingMap)>,
    client: ClientId,
    sequence: u64,
    sink: Arc<ReplySink>,
    /// Nothing is proposed before then.
    propose_at: Nanos,
    propose_again_ms: u64,
    /// What is to be replaced and waits; logged once.
    waits: Option<Change>,
    /// Peers that were not sent the map in force, because too much waited for them.
    unsent: BTreeSet<NodeId>,
    reported_at: Nanos,
}

impl Actor for MetaKeeper {
    type Msg = MetaMessage;
    type State = MetaState;
    type Arguments = MetaArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MetaMessage>,
        arguments: MetaArguments,
    ) -> Result<MetaState, ActorProcessingErr> {
        myself.send_interval(LOOK_EVERY, || MetaMessage::Look);
        Ok(MetaState {
            arguments,
            stored: None,
            client: ClientId(Uuid::new_v4()),
            sequence: 0,
            sink: Arc::default(),
            propose_at: Nanos(0),
            propose_again_ms: PROPOSE_AGAIN_MIN_MS,
            waits: None,
            unsent: BTreeSet::new(),
            reported_at: Nanos(0),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<MetaMessage>,
        MetaMessage::Look: MetaMessage,
        state: &mut MetaState,
    ) -> Result<(), ActorProcessingErr> {
        let now = clock::monotonic();
        // Answers to proposals say nothing that the key doesn't.
        state.sink.take(&mut Vec::<Reply>::new());
        if let Some(ring) = state.arguments.router.take_offered_ring() {
            state.take_map(&ring);
        }
        state.found_if_due();
        if let Some(handle) = state.arguments.router.local(ShardId::META) {
            state.look(&handle);
            if handle.gate.pass(now).is_some() {
                state.lead(&handle, now);
            }
        }
        state.send_unsent();
        state.report_faulty(now);
        Ok(())
    }
}

impl MetaState {
    fn router(&self) -> &Router {
        &self.arguments.router
    }

    /// Reads the key, and puts a newer map in force.
    fn look(&mut self, handle: &ShardHandle) {
        let known = self.stored.as_ref().map(|(version, _)| *version);
        let found = match handle.reader.get(RING_KEY) {
            Ok(Some(found)) if Some(found.entry.version) != known => found.entry,
            Ok(_) => return,
            Err(failure) => {
                error!(error = %failure, "the ring map can't be read");
                return;
            }
        };
        match RingMap::from_bytes(&found.value) {
            Ok(ring) => {
                self.take_map(&ring);
                self.stored = Some((found.version, ring));
                (self.propose_at, self.propose_again_ms) = (Nanos(0), PROPOSE_AGAIN_MIN_MS);
            }
            Err(failure) => error!(error = %failure, "a committed ring map was refused; the one before stays in force"),
        }
    }

    fn take_map(&mut self, ring: &RingMap) {
        if self.router().agreed_ring().is_some_and(|agreed| agreed.epoch >= ring.epoch) {
            return;
        }
        // First the copy: a node that has acted on a map should begin with it next time. It can do without: what it has
        // done is noted with each shard's files.
        if let Err(failure) = write_copy(&*self.arguments.disk, ring) {
            warn!(error = %failure, "the ring map's copy was not written; the next start waits for the meta group");
        }
        if !self.router().set_ring(ring.clone()) {
            return;
        }
        info!(epoch = ring.epoch, nodes = ring.nodes.len(), shards = ring.shards.len(), "the ring map is in force");
        self.arguments.found = None;
        (self.arguments.changed)(ring);
        self.unsent = self.router().peers().map(|peers| peers.up().into_iter().collect()).unwrap_or_default();
    }

    /// Passes the map in force on to the peers that have not been sent it yet. One that is not connected gets it when it is.
    fn send_unsent(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        let router = Arc::clone(&self.arguments.router);
        let (Some(peers), Some(ring)) = (router.peers(), router.agreed_ring()) else { return };
        let message = PeerMessage::Ring(ring.to_bytes().into());
        self.unsent.retain(|peer| peers.send(*peer, &message) == Err(SendError::Full));
    }

    /// Helps to found the `meta` group, if this node may.
    fn found_if_due(&mut self) {
        if self.arguments.found.is_none() {
            return;
        }
        let MetaArguments { router, folder, initial, .. } = &self.arguments;
        if keeper::may_found(initial, router.me(), *folder, &router.peer_table().answers())
            && let Some(found) = self.arguments.found.take()
        {
            info!("no peer has met this node before: founding the meta group");
            found();
        }
    }

    /// What the group's leader does: writes the first map, and changes it when that is due.
    fn lead(&mut self, handle: &ShardHandle, now: Nanos) {
        if now < self.propose_at {
            return;
        }
        let seen = self.seen(now);
        let Some((version, ring)) = &self.stored else {
            let initial = &self.arguments.initial;
            let first = match keeper::decide(initial, &seen) {
                Decision::Change(named, Change::Named(_)) => RingMap { epoch: initial.epoch, ..*named },
                _ => initial.clone(),
            };
            self.propose(handle, now, Condition::IfAbsent, &first);
            return;
        };
        match keeper::decide(ring, &seen) {
            Decision::Rest => self.waits = None,
            Decision::Change(next, change) => {
                let condition = Condition::IfVersion(*version);
                info!(epoch = next.epoch, ?change, "changing the ring map");
                self.waits = None;
                self.propose(handle, now, condition, &next);
            }
            Decision::Wait(change, shard) => {
                if self.waits.as_ref() != Some(&change) {
                    warn!(?change, %shard, "not replaced: the rest of the shard's group is not a quorum that is connected and well");
                    self.waits = Some(change);
                }
            }
        }
    }

    fn seen(&self, now: Nanos) -> Seen {
        let router = self.router();
        let mut faulty = router.peer_table().faulty(now);
        faulty.extend(router.faulty().into_iter().map(|(shard, replica)| (router.me(), shard, replica)));
        Seen { me: router.me(), folder: self.arguments.folder, peers: router.peer_table().presences(now), faulty }
    }

    /// Proposes a map, which takes effect only if the key is as it was looked at. Whether it did shows in the key.
    fn propose(&mut self, handle: &ShardHandle, now: Nanos, condition: Condition, ring: &RingMap) {
        self.propose_at = now.after_ms(self.propose_again_ms);
        self.propose_again_ms = (self.propose_again_ms * 2).min(PROPOSE_AGAIN_MAX_MS);
        self.sequence += 1;
        let mutation = Mutation {
            key: Bytes::from_static(RING_KEY),
            condition,
            return_previous: false,
            action: Action::Put { value: ring.to_bytes().into(), ttl_ms: None },
        };
        let id = WriteId { sequence: self.sequence, first_unanswered: self.sequence, retry: false };
        handle.inbox.request(QueuedRequest {
            reply_to: self.sink.reply_to(0, 0),
            client: self.client,
            queued_at: now,
            deadline: now.after_ms(DEADLINE_DEFAULT_MS.into()),
            operation: Operation::Write { client: self.client, id, ack: Ack::Committed, mutation },
        });
    }

    /// Tells the peers which replicas of this node wait to be replaced: whoever leads `meta` is among them, or is this node.
    fn report_faulty(&mut self, now: Nanos) {
        if now.ms_since(self.reported_at) < REPORT_EVERY_MS {
            return;
        }
        self.reported_at = now;
        let faulty = self.router().faulty();
        if faulty.is_empty() {
            return;
        }
        let Some(peers) = self.router().peers() else { return };
        let message = PeerMessage::Faulty(faulty);
        for peer in peers.up() {
            // Sent again in a second.
            let _ = peers.send(peer, &message);
        }
    }
}
