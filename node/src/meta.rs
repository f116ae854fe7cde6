//! The keeper of the ring map on this node.
//!
//! The map is the value of one key of the `meta` group, a shard like the others but for its number. Its leader writes
//! the first map, computed from the configuration; every node watches the key, puts newer maps in force, and keeps a
//! copy in its data folder so that a restart needn't wait for the group.

use crate::clock;
use crate::limits::DEADLINE_DEFAULT_MS;
use crate::log::Disk;
use crate::reply::{Reply, ReplySink};
use crate::ring::{RING_KEY, RingMap};
use crate::router::Router;
use crate::shard::Operation;
use crate::shard::inbox::{QueuedRequest, ShardHandle};
use bytes::Bytes;
use kvorum_protocol::{Ack, Action, ClientId, Condition, Mutation, ShardId, Version, WriteId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};
use uuid::Uuid;

/// The name of the map's copy in the data folder.
pub const RING_COPY: &str = "ring.json";
/// How often the key is looked at. Local and cheap.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The first map is proposed at most this often.
const PROPOSE_EVERY_MS: u64 = 2_000;

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
    /// The map of a new cluster.
    pub initial: RingMap,
    /// Told whenever a newer map is in force.
    pub changed: Box<dyn Fn(&RingMap) + Send + Sync>,
}

/// The keeper.
pub struct MetaKeeper;

/// The keeper's state.
pub struct MetaState {
    arguments: MetaArguments,
    seen: Version,
    client: ClientId,
    sequence: u64,
    sink: Arc<ReplySink>,
    proposed_at: clock::Nanos,
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
            seen: Version(0),
            client: ClientId(Uuid::new_v4()),
            sequence: 0,
            sink: Arc::default(),
            proposed_at: clock::Nanos::default(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<MetaMessage>,
        MetaMessage::Look: MetaMessage,
        state: &mut MetaState,
    ) -> Result<(), ActorProcessingErr> {
        // Answers to proposals say nothing that the key doesn't.
        state.sink.take(&mut Vec::<Reply>::new());
        let Some(handle) = state.arguments.router.local(ShardId::META) else { return Ok(()) };
        match handle.reader.get(RING_KEY) {
            Ok(Some(found)) if found.entry.version > state.seen => {
                state.seen = found.entry.version;
                state.take_map(found.entry.value);
            }
            Ok(Some(_)) => {}
            Ok(None) => state.propose_first(&handle),
            Err(failure) => error!(error = %failure, "the ring map can't be read"),
        }
        Ok(())
    }
}

impl MetaState {
    fn take_map(&mut self, bytes: Bytes) {
        let ring = match RingMap::from_bytes(&bytes) {
            Ok(ring) => ring,
            Err(failure) => {
                error!(error = %failure, "a committed ring map was refused; the one before stays in force");
                return;
            }
        };
        if let Err(failure) = self.arguments.disk.write_metadata(RING_COPY, &bytes) {
            warn!(error = %failure, "the ring map's copy was not written; the next start waits for the meta group");
        }
        info!(epoch = ring.epoch, nodes = ring.nodes.len(), shards = ring.shards.len(), "the ring map is in force");
        (self.arguments.changed)(&ring);
        self.arguments.router.set_ring(ring);
    }

    /// If this node leads the meta group of a new cluster, it writes the map that every node computed alike.
    fn propose_first(&mut self, handle: &ShardHandle) {
        let now = clock::monotonic();
        if handle.gate.pass(now).is_none() || now.ms_since(self.proposed_at) < PROPOSE_EVERY_MS {
            return;
        }
        self.proposed_at = now;
        self.sequence += 1;
        let mutation = Mutation {
            key: Bytes::from_static(RING_KEY),
            condition: Condition::IfAbsent,
            return_previous: false,
            action: Action::Put { value: self.arguments.initial.to_bytes().into(), ttl_ms: None },
        };
        let id = WriteId { sequence: self.sequence, first_unanswered: self.sequence, retry: false };
        handle.inbox.request(QueuedRequest {
            reply_to: self.sink.reply_to(0, 0),
            queued_at: now,
            deadline: now.after_ms(DEADLINE_DEFAULT_MS.into()),
            operation: Operation::Write { client: self.client, id, ack: Ack::Committed, mutation },
        });
    }
}
