//! The control plane: which nodes are present, which of them hold replicas of a shard, and what an operator asks them.
//!
//! It runs on `ractor_cluster`, whose sessions live on a stream of each peer connection (see [`crate::peers`]), so they
//! have the peers' mutual TLS and end with the connection. Its queues are unbounded and a call costs hundreds of
//! microseconds: nothing that a client's request waits for may ever come here.
//!
//! One node per process: process groups are global to it.

mod admin;
mod groups;
mod request;
mod supervisor;
#[cfg(test)]
mod tests;

use crate::peers::SessionHost;
use crate::runtime::issuing::IssueRequest;
use admin::AdminMessage;
use kvorum_core::ring::verbs::Verb;
use kvorum_protocol::{AuthVerb, ClusterId, NodeId, ShardId};
use parking_lot::Mutex;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr, pg};
use ractor_cluster::{ClusterBidiStream, NodeServerMessage};
use request::{AdminReply, AdminRequest};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use supervisor::ControlSupervisor;
use tokio::task::JoinSet;

/// How long [`Control::transfer_leadership`] waits for the node to accept the order. The transfer itself takes longer.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// What this node answers to the others' questions. Called on the admin actor, one at a time: must not block. A panic
/// fails that actor, which is restarted.
pub trait AdminHandler: Send + Sync + 'static {
    /// The node's status, in whatever form the one who asks expects; at most 4 MiB.
    fn status(&self) -> Vec<u8>;
    /// What reads found in the node's memory, in whatever form the one who asks expects; at most 1 KiB.
    fn cache_figures(&self) -> Vec<u8>;
    /// What another node's console shows of this one; `None` if that is not kept.
    fn node_figures(&self) -> Option<Vec<u8>>;
    /// Begins to hand the leadership of a shard over to another node.
    ///
    /// # Errors
    /// Why it can't, for the operator to read; at most 1 KiB of it is passed on.
    fn transfer_leadership(&self, shard: ShardId, to: NodeId) -> Result<(), String>;
    /// Has this node's keeper of the ring map do what an operator asks for.
    fn ask(self: Arc<Self>, verb: Verb) -> KeeperAnswer;
    /// Has this node's keeper of the ring map tell the cluster's plan, or what it would be if `verb` were asked of it.
    fn plan(self: Arc<Self>, verb: Option<Verb>) -> KeeperAnswer;
    /// Has this node's keeper of the table of users change it.
    fn change_auth(self: Arc<Self>, verb: AuthVerb) -> KeeperAnswer;
    /// Signs the certificate of a node that joins; without one, says whether this node could.
    fn issue(self: Arc<Self>, asked: Option<IssueRequest>) -> KeeperAnswer;
}

/// An answer of a node's keeper of the ring map, or of its issuer, which takes a moment.
pub type KeeperAnswer = Pin<Box<dyn Future<Output = VerbAnswer> + Send>>;

/// What a node's keeper of the ring map says to what an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VerbAnswer {
    /// The ring map says so; or the plan, encoded, or a certificate, if that was asked for.
    Done(Vec<u8>),
    /// It can't be done; the text says why.
    Refused(String),
    /// It is not done yet, or another node would have to do it: ask again.
    AskAgain,
}

impl VerbAnswer {
    fn into_reply(self) -> AdminReply {
        match self {
            Self::Done(bytes) => AdminReply::Done(bytes),
            Self::Refused(text) => AdminReply::Refused(text),
            Self::AskAgain => AdminReply::AskAgain,
        }
    }
}

/// Why a node did not answer, or answered no.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControlError {
    /// The node is not present: not started, or not connected with this one.
    #[error("node {0} is not present")]
    NotPresent(NodeId),
    /// It did not answer in time. It may still do what it was asked to.
    #[error("node {0} did not answer in time")]
    Timeout(NodeId),
    /// The session or the actor at its other end was lost. It may have done what it was asked to.
    #[error("node {0} was lost before it answered")]
    Lost(NodeId),
    /// It says no.
    #[error("node {node} refused: {reason}")]
    Refused {
        /// The node.
        node: NodeId,
        /// In its words.
        reason: String,
    },
    /// It is not done yet, or another node would have to do it.
    #[error("node {0} is to be asked again")]
    AskAgain(NodeId),
    /// It runs a version that doesn't know the question, or this one doesn't understand its answer.
    #[error("node {0} speaks another version of the control protocol")]
    NotUnderstood(NodeId),
}

/// The control plane of this node. Clones are cheap and mean the same.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: ClusterId,
    node: NodeId,
    handler: Arc<dyn AdminHandler>,
    sessions: Mutex<Option<ActorRef<NodeServerMessage>>>,
    membership: Mutex<Membership>,
}

/// The groups this node is in. The lock is held while groups change, so that the admin actor of a restart and a shard
/// that comes or goes at the same moment don't miss each other.
struct Membership {
    admin: Option<ActorCell>,
    shards: BTreeSet<ShardId>,
}

impl Control {
    /// Starts the node server and the admin actor; must be called within a tokio runtime. Pass
    /// [`session_host`](Self::session_host) to [`Peers::start`](crate::peers::Peers::start) to get sessions.
    ///
    /// With a `supervisor` the returned actor is linked to it; the actor fails, with [`kvorum_core::health::restart_policy::GaveUp`], when
    /// its children failed too often. To leave the control plane, stop it.
    ///
    /// # Errors
    /// If an actor can't be started: no loopback interface, or a second node of the same id in this process.
    pub async fn start(
        cluster: ClusterId,
        node: NodeId,
        handler: Arc<dyn AdminHandler>,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorCell, Self), SpawnErr> {
        let membership = Mutex::new(Membership { admin: None, shards: BTreeSet::new() });
        let shared = Arc::new(Shared { cluster, node, handler, sessions: Mutex::new(None), membership });
        let actor = ControlSupervisor { shared: shared.clone() };
        let name = Some(format!("node/{node}/control"));
        let (actor, _) = match supervisor {
            Some(supervisor) => Actor::spawn_linked(name, actor, (), supervisor).await?,
            None => Actor::spawn(name, actor, ()).await?,
        };
        Ok((actor.get_cell(), Self { shared }))
    }

    /// What runs a session on each peer connection.
    pub fn session_host(&self) -> Arc<dyn SessionHost> {
        self.shared.clone()
    }

    /// The nodes that are present, this one included, in the order of their ids.
    pub fn present(&self) -> Vec<NodeId> {
        let cluster = self.shared.cluster;
        groups::members(cluster, &groups::nodes(cluster)).into_keys().collect()
    }

    /// The present nodes that have joined a shard, in the order of their ids.
    pub fn shard_members(&self, shard: ShardId) -> Vec<NodeId> {
        let cluster = self.shared.cluster;
        groups::members(cluster, &groups::shard(cluster, shard)).into_keys().collect()
    }

    /// This node holds a replica of the shard from now on. The other nodes see it shortly after. Who is in already tells nobody anything:
    /// a join is a message to every node.
    pub fn join_shard(&self, shard: ShardId) {
        let mut membership = self.shared.membership.lock();
        if !membership.shards.insert(shard) {
            return;
        }
        if let Some(admin) = &membership.admin {
            pg::join(groups::shard(self.shared.cluster, shard), vec![admin.clone()]);
        }
    }

    /// This node holds no replica of the shard any more.
    pub fn leave_shard(&self, shard: ShardId) {
        let mut membership = self.shared.membership.lock();
        membership.shards.remove(&shard);
        if let Some(admin) = &membership.admin {
            pg::leave(groups::shard(self.shared.cluster, shard), vec![admin.clone()]);
        }
    }

    /// A node's status, as its [`AdminHandler::status`] gives it.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status_of(&self, node: NodeId, timeout: Duration) -> Result<Vec<u8>, ControlError> {
        self.ask(node, AdminRequest::Status, timeout).await
    }

    /// The status of every present node, in the order of their ids. All are asked at once; it takes `timeout` at most.
    pub async fn statuses(&self, timeout: Duration) -> Vec<(NodeId, Result<Vec<u8>, ControlError>)> {
        self.ask_all(AdminRequest::Status, timeout).await
    }

    /// What reads found in the memory of every present node, as its [`AdminHandler::cache_figures`] gives it; otherwise as
    /// [`Control::statuses`].
    pub async fn cache_figures(&self, timeout: Duration) -> Vec<(NodeId, Result<Vec<u8>, ControlError>)> {
        self.ask_all(AdminRequest::CacheFigures, timeout).await
    }

    /// What a console shows of every present node, as its [`AdminHandler::node_figures`] gives it; otherwise as [`Control::statuses`].
    pub async fn node_figures(&self, timeout: Duration) -> Vec<(NodeId, Result<Vec<u8>, ControlError>)> {
        self.ask_all(AdminRequest::NodeFigures, timeout).await
    }

    async fn ask_all(&self, request: AdminRequest, timeout: Duration) -> Vec<(NodeId, Result<Vec<u8>, ControlError>)> {
        let mut asked = JoinSet::new();
        for node in self.present() {
            let (control, request) = (self.clone(), request.clone());
            asked.spawn(async move { (node, control.ask(node, request, timeout).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_unstable_by_key(|(node, _)| *node);
        answers
    }

    /// Orders the node `on` to hand the leadership of a shard over to the node `to`. `Ok` says that it has begun.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn transfer_leadership(&self, on: NodeId, shard: ShardId, to: NodeId) -> Result<(), ControlError> {
        self.ask(on, AdminRequest::TransferLeadership { shard, to }, TRANSFER_TIMEOUT).await.map(drop)
    }

    /// Asks the node `on`, which should lead `meta`, for what an operator wants.
    pub async fn ask_verb(&self, on: NodeId, verb: Verb) -> VerbAnswer {
        self.ask_keeper(on, AdminRequest::Ask(verb)).await
    }

    /// Asks the node `on`, which should lead `meta`, for the cluster's plan, or for what it would be if `verb` were asked of it.
    pub async fn ask_plan(&self, on: NodeId, verb: Option<Verb>) -> VerbAnswer {
        self.ask_keeper(on, AdminRequest::Plan(verb)).await
    }

    /// Asks the node `on`, which should lead `meta`, to change who may do what.
    pub async fn change_auth(&self, on: NodeId, verb: AuthVerb) -> VerbAnswer {
        self.ask_keeper(on, AdminRequest::ChangeAuth(verb)).await
    }

    /// Which present nodes can sign the certificates of nodes that join: those whose answer is no error. It takes `timeout` at most.
    pub async fn issuers(&self, timeout: Duration) -> Vec<(NodeId, Result<Vec<u8>, ControlError>)> {
        self.ask_all(AdminRequest::CanIssue, timeout).await
    }

    /// Has the node `on` sign the certificate of a node that joins.
    pub async fn issue(&self, on: NodeId, asked: IssueRequest) -> VerbAnswer {
        self.ask_keeper(on, AdminRequest::Issue(asked)).await
    }

    async fn ask_keeper(&self, on: NodeId, request: AdminRequest) -> VerbAnswer {
        match self.ask(on, request, TRANSFER_TIMEOUT).await {
            Ok(bytes) => VerbAnswer::Done(bytes),
            Err(ControlError::Refused { reason, .. }) => VerbAnswer::Refused(reason),
            // Whatever was lost shows in the map, if it was done.
            Err(_) => VerbAnswer::AskAgain,
        }
    }

    async fn ask(&self, node: NodeId, request: AdminRequest, timeout: Duration) -> Result<Vec<u8>, ControlError> {
        let cluster = self.shared.cluster;
        // Looked up for each question: after a reconnection the actor of the same node is another one.
        let admin =
            groups::members(cluster, &groups::nodes(cluster)).remove(&node).ok_or(ControlError::NotPresent(node))?;
        let called = ActorRef::<AdminMessage>::from(admin)
            .call(|reply| AdminMessage::Ask(request.encode(), reply), Some(timeout))
            .await;
        match called {
            Ok(CallResult::Success(bytes)) => match AdminReply::decode(bytes) {
                Ok(AdminReply::Done(bytes)) => Ok(bytes),
                Ok(AdminReply::Refused(reason)) => Err(ControlError::Refused { node, reason }),
                Ok(AdminReply::AskAgain) => Err(ControlError::AskAgain(node)),
                Ok(AdminReply::NotUnderstood) | Err(_) => Err(ControlError::NotUnderstood(node)),
            },
            Ok(CallResult::Timeout) => Err(ControlError::Timeout(node)),
            Ok(CallResult::SenderError) | Err(_) => Err(ControlError::Lost(node)),
        }
    }
}

impl Shared {
    /// Puts a new admin actor into every group that this node is in.
    fn admin_started(&self, admin: ActorCell) {
        let mut membership = self.membership.lock();
        pg::join(groups::nodes(self.cluster), vec![admin.clone()]);
        for shard in &membership.shards {
            pg::join(groups::shard(self.cluster, *shard), vec![admin.clone()]);
        }
        membership.admin = Some(admin);
    }
}

impl SessionHost for Shared {
    fn attach(&self, peer: NodeId, stream: Box<dyn ClusterBidiStream>, dialled: bool) {
        // Without a node server at the moment the stream is dropped, and the peers come with another one.
        let Some(server) = self.sessions.lock().clone() else { return };
        let message = NodeServerMessage::ConnectionOpenedExternal { stream, is_server: !dialled };
        if server.cast(message).is_err() {
            tracing::debug!(%peer, "no node server to run the control session");
        }
    }
}
