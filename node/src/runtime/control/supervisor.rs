//! The supervisor of the control plane: the node server, which runs the sessions, and the admin actor.

use super::Shared;
use super::admin::Admin;
use super::groups;
use super::request::REPLY_BYTES_MAX;
use crate::runtime::system_clock;
use kvorum_core::health::restart_policy::{GaveUp, RestartDecision, RestartPolicy};
use kvorum_protocol::{ClusterId, NodeId};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{IncomingEncryptionMode, NodeServer, RactorMessage};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Room for a reply and ractor's own fields around it.
const SESSION_FRAME_BYTES_MAX: usize = REPLY_BYTES_MAX + 64 * 1024;

pub(super) struct ControlSupervisor {
    pub(super) shared: Arc<Shared>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Child {
    Sessions,
    Admin,
}

#[derive(RactorMessage)]
pub(super) enum ControlMessage {
    /// The delay of a restart is over.
    Restart(Child),
}

pub(super) struct ControlState {
    sessions: ActorId,
    admin: ActorId,
    policy: RestartPolicy<Child>,
}

impl Actor for ControlSupervisor {
    type Msg = ControlMessage;
    type State = ControlState;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Self::Msg>, (): ()) -> Result<ControlState, ActorProcessingErr> {
        Ok(ControlState {
            sessions: self.start_sessions(myself.get_cell()).await?,
            admin: self.start_admin(myself.get_cell()).await?,
            policy: RestartPolicy::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        ControlMessage::Restart(child): ControlMessage,
        state: &mut ControlState,
    ) -> Result<(), ActorProcessingErr> {
        let started = match child {
            Child::Sessions => self.start_sessions(myself.get_cell()).await.map(|id| state.sessions = id),
            Child::Admin => self.start_admin(myself.get_cell()).await.map(|id| state.admin = id),
        };
        started.or_else(|error| self.failed(&myself, state, child, &error.to_string()))
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut ControlState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor.get_id(), error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor.get_id(), reason.unwrap_or_else(|| "it stopped".to_owned()))
            }
            _ => return Ok(()),
        };
        let child = if actor == state.sessions {
            Child::Sessions
        } else if actor == state.admin {
            Child::Admin
        } else {
            return Ok(());
        };
        self.failed(&myself, state, child, &reason)
    }
}

impl ControlSupervisor {
    /// The node server numbers its sessions from 0 again after a restart; those of its predecessor are gone with it.
    async fn start_sessions(&self, supervisor: ActorCell) -> Result<ActorId, SpawnErr> {
        let server = node_server(self.shared.cluster, self.shared.node)?;
        let (server, _) = Actor::spawn_linked(None, server, (), supervisor).await?;
        let id = server.get_id();
        *self.shared.sessions.lock() = Some(server);
        Ok(id)
    }

    async fn start_admin(&self, supervisor: ActorCell) -> Result<ActorId, SpawnErr> {
        let admin = Admin { handler: self.shared.handler.clone() };
        let name = groups::admin_name(self.shared.cluster, self.shared.node);
        let (admin, _) = Actor::spawn_linked(Some(name), admin, (), supervisor).await?;
        self.shared.admin_started(admin.get_cell());
        Ok(admin.get_id())
    }

    fn failed(
        &self,
        myself: &ActorRef<ControlMessage>,
        state: &mut ControlState,
        child: Child,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        match state.policy.on_failure(child, system_clock::monotonic()) {
            RestartDecision::RestartAfter(delay) => {
                tracing::error!(?child, reason, ?delay, "an actor of the control plane failed and is restarted");
                myself.send_after(delay, move || ControlMessage::Restart(child));
                Ok(())
            }
            RestartDecision::GiveUp => Err(Box::new(GaveUp {
                supervisor: "the supervisor of the control plane".to_owned(),
                child: format!("{child:?}"),
                source: reason.into(),
            })),
        }
    }
}

fn node_server(cluster: ClusterId, node: NodeId) -> Result<NodeServer, SpawnErr> {
    let server = NodeServer::new(
        0,
        // No secret, and none is needed: whoever reaches a session has shown its certificate (see `closed_door`).
        cluster.to_string(),
        node.to_string(),
        "kvorum".to_owned(),
        Some(IncomingEncryptionMode::Tls(closed_door()?)),
        Some(NodeConnectionMode::Isolated),
    );
    Ok(server
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .with_max_inbound_frame_size(SESSION_FRAME_BYTES_MAX as u64))
}

/// The node server opens a TCP port whether one wants it or not, and what comes in there would be a session without a
/// certificate. So it speaks TLS and has no certificate to show: no handshake on it ever succeeds.
pub(super) fn closed_door() -> Result<TlsAcceptor, SpawnErr> {
    #[derive(Debug)]
    struct NoCertificate;
    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| SpawnErr::StartupFailed(error.into()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    Ok(TlsAcceptor::from(Arc::new(config)))
}
