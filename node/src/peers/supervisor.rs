//! The supervisor of the peers: one actor per peer beneath it, restarted one for one, and the door they are dialled at.

use super::close::CloseCode;
use super::limits::{LET_GO_AFTER, SHUTDOWN_TIMEOUT};
use super::peer::{PeerActor, PeerActorMessage};
use super::transport::Transport;
use super::{PeerAddress, Shared, Slot, incoming};
use crate::runtime::system_clock;
use kvorum_core::health::restart_policy::{GaveUp, RestartDecision, RestartPolicy};
use kvorum_protocol::NodeId;
use quinn::{Connection, VarInt};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub(super) struct PeersSupervisor {
    pub(super) shared: Arc<Shared>,
}

/// What the supervisor of the peers is told.
#[derive(RactorMessage)]
pub(super) enum SupervisorMessage {
    /// A peer has dialled this node and proved who it is.
    Accepted(NodeId, Connection),
    /// These are the peers from now on.
    Follow(Vec<PeerAddress>),
    /// This one is let go, if it is still none of them.
    LetGo(NodeId),
    /// The delay of a restart is over.
    Restart(NodeId),
    /// The door does not accept any more: it failed.
    DoorEnded,
}

pub(super) struct SupervisorState {
    transport: Arc<Transport>,
    children: BTreeMap<NodeId, ActorRef<PeerActorMessage>>,
    policy: RestartPolicy<NodeId>,
    /// Who the peers are.
    wanted: BTreeSet<NodeId>,
    _door: AbortOnDropHandle<()>,
}

impl Actor for PeersSupervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Arc<Transport>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        transport: Arc<Transport>,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = BTreeMap::new();
        let slots: Vec<Arc<Slot>> = self.shared.slots.read().values().map(Arc::clone).collect();
        for slot in slots {
            children.insert(slot.node, self.spawn(slot, &transport, myself.get_cell()).await?);
        }
        let accepting = incoming::accept_all(self.shared.clone(), transport.clone(), myself.clone());
        let door = tokio::spawn(async move {
            let result = AbortOnDropHandle::new(tokio::spawn(accepting)).await;
            tracing::debug!(?result, "the door for peers is closed");
            let _ = myself.cast(SupervisorMessage::DoorEnded);
        });
        let wanted = children.keys().copied().collect();
        let policy = RestartPolicy::new();
        Ok(SupervisorState { transport, children, policy, wanted, _door: AbortOnDropHandle::new(door) })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Accepted(node, connection) => {
                // Without an actor at the moment, the connection is dropped, which closes it, and the peer redials.
                if let Some(child) = state.children.get(&node) {
                    let _ = child.cast(PeerActorMessage::Accepted(connection));
                }
            }
            SupervisorMessage::Follow(peers) => {
                let (new, gone) = self.follow(state, peers);
                for node in new {
                    self.begin(&myself, state, node).await?;
                }
                for node in gone {
                    myself.send_after(LET_GO_AFTER, move || SupervisorMessage::LetGo(node));
                }
            }
            SupervisorMessage::LetGo(node) if !state.wanted.contains(&node) => {
                if self.shared.slots.write().remove(&node).is_some() {
                    tracing::info!(peer = %node, "a peer is no node of the cluster any more");
                }
                state.children.remove(&node).iter().for_each(|child| child.stop(None));
            }
            SupervisorMessage::LetGo(_) => {}
            SupervisorMessage::Restart(node) => self.begin(&myself, state, node).await?,
            SupervisorMessage::DoorEnded => return Err("the door for peers failed".into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_else(|| "it stopped".to_owned()))
            }
            _ => return Ok(()),
        };
        match state.child_of(actor.get_id()) {
            Some(node) => self.failed(&myself, state, node, &reason),
            None => Ok(()),
        }
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut SupervisorState) -> Result<(), ActorProcessingErr> {
        let endpoint = state.transport.endpoint();
        endpoint.close(VarInt::from_u32(CloseCode::Shutdown as u32), b"");
        // A peer that doesn't hear of it notices by itself, later.
        let _ = timeout(SHUTDOWN_TIMEOUT, endpoint.wait_idle()).await;
        Ok(())
    }
}

impl PeersSupervisor {
    /// Starts the actor of a peer, if it is still one and has none.
    async fn begin(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        state: &mut SupervisorState,
        node: NodeId,
    ) -> Result<(), ActorProcessingErr> {
        let Some(slot) = self.shared.slot(node).filter(|_| !state.children.contains_key(&node)) else { return Ok(()) };
        match self.spawn(slot, &state.transport, myself.get_cell()).await {
            Ok(child) => {
                state.children.insert(node, child);
                Ok(())
            }
            Err(error) => self.failed(myself, state, node, &error.to_string()),
        }
    }

    /// Takes over who the peers are. Returns those that are new, and those that are none any more.
    fn follow(&self, state: &mut SupervisorState, peers: Vec<PeerAddress>) -> (Vec<NodeId>, Vec<NodeId>) {
        let own = self.shared.hello.node;
        let wanted: BTreeMap<NodeId, String> =
            peers.into_iter().filter(|peer| peer.node != own).map(|peer| (peer.node, peer.address)).collect();
        let mut slots = self.shared.slots.write();
        let gone = slots.keys().copied().filter(|node| !wanted.contains_key(node)).collect();
        state.wanted = wanted.keys().copied().collect();
        let mut new = Vec::new();
        for (node, address) in wanted {
            if let Some(slot) = slots.get(&node) {
                *slot.address.write() = address;
            } else {
                slots.insert(node, Arc::new(Slot::new(node, address)));
                new.push(node);
            }
        }
        (new, gone)
    }

    async fn spawn(
        &self,
        slot: Arc<Slot>,
        transport: &Arc<Transport>,
        supervisor: ActorCell,
    ) -> Result<ActorRef<PeerActorMessage>, SpawnErr> {
        let actor = PeerActor { shared: self.shared.clone(), slot, transport: transport.clone() };
        // Without a name: names are registered until an actor is quite gone, and a successor must not wait for that.
        Ok(Actor::spawn_linked(None, actor, (), supervisor).await?.0)
    }

    fn failed(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        state: &mut SupervisorState,
        node: NodeId,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        state.children.remove(&node);
        match state.policy.on_failure(node, system_clock::monotonic()) {
            RestartDecision::RestartAfter(delay) => {
                tracing::error!(peer = %node, reason, ?delay, "the actor of a peer failed and is restarted");
                myself.send_after(delay, move || SupervisorMessage::Restart(node));
                Ok(())
            }
            RestartDecision::GiveUp => Err(Box::new(GaveUp {
                supervisor: "the supervisor of the peers".to_owned(),
                child: format!("the actor of peer {node}"),
                source: reason.into(),
            })),
        }
    }
}

impl SupervisorState {
    fn child_of(&self, actor: ActorId) -> Option<NodeId> {
        self.children.iter().find(|(_, child)| child.get_id() == actor).map(|(node, _)| *node)
    }
}
