//! The door for connections that other nodes dial: TLS has checked who signed the certificate, here it is checked whom it
//! names.

use super::admission::{Admission, AdmissionVerdict, Begun};
use super::close::{CloseCode, LinkError};
use super::join::{self, JOIN_ALPN};
use super::limits::{HANDSHAKE_TIMEOUT, REFUSAL_LOG_INTERVAL, RESOLVE_PEERS_EVERY};
use super::peer::DialError;
use super::supervisor::SupervisorMessage;
use super::transport::{Transport, is_peer};
use super::{Removal, Shared};
use crate::auth::user_cert::{CertificateView, Holder};
use crate::runtime::system_clock;
use kvorum_core::rare::Rare;
use kvorum_protocol::NodeId;
use parking_lot::Mutex;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming};
use ractor::ActorRef;
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Accepts connections until the endpoint is closed. [`Admission`] says whose.
pub(super) async fn accept_all(
    shared: Arc<Shared>,
    transport: Arc<Transport>,
    supervisor: ActorRef<SupervisorMessage>,
) {
    let admission = Arc::new(Mutex::new(Admission::default()));
    let _resolving = AbortOnDropHandle::new(tokio::spawn(resolve_peers(shared.clone(), admission.clone())));
    let log = Arc::new(RefusalLog::default());
    while let Some(incoming) = transport.endpoint().accept().await {
        if shared.is_cut() {
            incoming.ignore();
            continue;
        }
        let address = incoming.remote_address();
        let begun = {
            let mut admission = admission.lock();
            let proved = incoming.remote_address_validated();
            match admission.judge(address, proved) {
                AdmissionVerdict::Begin => admission.begin(address, proved),
                AdmissionVerdict::Prove => {
                    // Possible for every address that has not proved itself.
                    let _ = incoming.retry();
                    continue;
                }
                AdmissionVerdict::Refuse => {
                    incoming.refuse();
                    continue;
                }
            }
        };
        let (shared, transport, supervisor, log) = (shared.clone(), transport.clone(), supervisor.clone(), log.clone());
        let open = Open { admission: admission.clone(), begun: Some(begun) };
        tokio::spawn(async move {
            match accept(&shared, &transport, incoming).await {
                // Only a supervisor that is gone takes no message, and then this node is stopping.
                Ok(Accepted::Peer(node, connection)) => {
                    drop(supervisor.cast(SupervisorMessage::Accepted(node, connection)));
                }
                Ok(Accepted::Joiner(connection)) => {
                    // Its handshake is over: what bounds it from here on are the places of those who join.
                    drop(open);
                    if let Err(error) = join::serve(&shared, &connection).await {
                        log.refused(address, &error);
                    }
                }
                Err(error) => log.refused(address, &error),
            }
        });
    }
}

/// A handshake that is open. Dropping it gives its place back, also when its task panics.
struct Open {
    admission: Arc<Mutex<Admission>>,
    begun: Option<Begun>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.admission.lock().end(begun);
        }
    }
}

/// Keeps up with where the peers are, by their names. One that can't be resolved now is where it was.
async fn resolve_peers(shared: Arc<Shared>, admission: Arc<Mutex<Admission>>) {
    loop {
        let slots: Vec<_> = shared.slots.read().values().map(Arc::clone).collect();
        admission.lock().keep_members(|member| slots.iter().any(|slot| slot.node == member));
        for slot in slots {
            if let Ok(Ok(addresses)) = timeout(HANDSHAKE_TIMEOUT, tokio::net::lookup_host(slot.address())).await {
                admission.lock().set_member(slot.node, addresses);
            }
        }
        tokio::time::sleep(RESOLVE_PEERS_EVERY).await;
    }
}

/// Who has dialled.
enum Accepted {
    /// A peer that has proved who it is.
    Peer(NodeId, Connection),
    /// Somebody who says that it is a node which joins by a token.
    Joiner(Connection),
}

async fn accept(shared: &Shared, transport: &Transport, incoming: Incoming) -> Result<Accepted, LinkError> {
    let connecting = transport.accept(incoming)?;
    let connection =
        timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| LinkError::Dial(DialError::Timeout))??;
    if joins(&connection) {
        return Ok(Accepted::Joiner(connection));
    }
    match identify(shared, &connection) {
        Ok(node) => {
            is_peer(&connection);
            Ok(Accepted::Peer(node, connection))
        }
        Err((code, detail)) => {
            code.close(&connection, &detail);
            Err(LinkError::Refused { code, detail })
        }
    }
}

/// Whether the other end wants to join by a token. Everybody else must have a certificate.
fn joins(connection: &Connection) -> bool {
    let agreed = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    agreed.is_some_and(|agreed| agreed.protocol.as_deref() == Some(JOIN_ALPN))
}

/// What the certificate says that the other end has shown.
fn certificate_of(connection: &Connection) -> Result<CertificateView, String> {
    let chain = connection.peer_identity();
    let chain = chain.and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first()).ok_or_else(|| "no certificate".to_owned())?;
    CertificateView::of(certificate).map_err(|error| error.to_string())
}

/// Returns once the certificate of the other end is denied.
pub(super) async fn denied(shared: &Shared, connection: &Connection) {
    let mut changes = shared.rights.subscribe();
    let view = certificate_of(connection);
    loop {
        if view.as_ref().is_ok_and(|view| shared.handler.denies(&view.serial)) {
            return;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The peer at the other end: of this cluster, and known.
fn identify(shared: &Shared, connection: &Connection) -> Result<NodeId, (CloseCode, String)> {
    let unknown = |detail: String| (CloseCode::UnknownNode, detail);
    let view = certificate_of(connection).map_err(unknown)?;
    let Holder::Node(identity) = view.holder else {
        return Err(unknown("the certificate is a user's, and users are no nodes".to_owned()));
    };
    if shared.handler.denies(&view.serial) {
        return Err(unknown(format!("the certificate of node {} is denied", identity.node)));
    }
    let own = &shared.hello;
    if identity.cluster != own.cluster {
        let detail = format!("the certificate is for cluster {}, this is {}", identity.cluster, own.cluster);
        return Err((CloseCode::WrongCluster, detail));
    }
    match shared.handler.was_removed(identity.node) {
        None => {}
        Some(Removal::Asked) => {
            return Err((CloseCode::Removed, format!("node {} was removed from the cluster", identity.node)));
        }
        Some(Removal::GivenUp) => {
            return Err((CloseCode::GivenUp, format!("node {} was given up by `kvorum recover`", identity.node)));
        }
    }
    if shared.slot(identity.node).is_none() {
        return Err(unknown(format!("node {} is not among the peers of node {}", identity.node, own.node)));
    }
    Ok(identity.node)
}

/// Logs refusals, at most one in [`REFUSAL_LOG_INTERVAL`]: the door is open to strangers.
#[derive(Default)]
struct RefusalLog {
    told: Mutex<Rare>,
}

impl RefusalLog {
    fn refused(&self, address: SocketAddr, error: &LinkError) {
        match self.told.lock().note(system_clock::monotonic(), REFUSAL_LOG_INTERVAL) {
            Some(times) => tracing::warn!(%address, %error, times, "connection refused"),
            None => tracing::debug!(%address, %error, "connection refused"),
        }
    }
}
