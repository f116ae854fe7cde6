//! The actor of one peer: it owns the connection with that node, and makes a new one whenever there is none.
//!
//! Of two nodes the one with the smaller id dials. The other one waits to be dialled, and dials after a while in vain: its own address
//! may be another one than its peer knows, or the way from there may be cut. Or it was removed from the cluster: then nobody dials
//! it, and it hears that when it is turned away. So two nodes may dial each other at once; then the connection that the smaller id
//! has made stays.
//!
//! A node that was started again may dial while its peer holds its former connection for live. The newer one takes that one's
//! place, but not before it has said hello and was admitted. Whoever has the node's certificate gets this far: a machine that
//! was replaced and boots again, say. It must not end the connection of the node that took its place.

use super::backoff::Backoff;
use super::close::{CloseCode, LinkError};
use super::hello::Greeted;
use super::limits::{GOOD_CONNECTION_AGE, GREETINGS_MAX, HANDSHAKE_TIMEOUT, LATE_DIAL_AFTER, REASONS_LOGGED_MAX};
use super::link::{self, Link, LinkEnd};
use super::transport::Transport;
use super::{Shared, Slot};
use crate::auth::cert::Identity;
use quinn::Connection;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Why a peer could not be dialled.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("can't resolve the address: {0}")]
    Resolve(io::Error),
    #[error("the name has no address of the family that this node listens on")]
    NoAddress,
    #[error("can't dial: {0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("no answer in time")]
    Timeout,
}

pub(super) struct PeerActor {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Arc<Slot>,
    pub(super) transport: Arc<Transport>,
}

#[derive(RactorMessage)]
pub(super) enum PeerActorMessage {
    /// Time to dial.
    Dial,
    /// The peer has dialled, and proved who it is.
    Accepted(Connection),
    /// It has said hello on that connection, or was turned away.
    Greeted(Box<Result<(Connection, Greeted), LinkError>>),
    /// An attempt is over.
    Ended { attempt: u64, end: LinkEnd },
}

pub(super) struct PeerState {
    redial: Backoff,
    /// Counts the connections, made or only tried, so that the end of an old one is not taken for the end of the newest.
    attempt: u64,
    /// Counts how often it has dialled.
    dials: u64,
    /// It will be told to dial.
    dial_due: bool,
    /// Dropping it ends the connection, also when this actor dies.
    running: Option<DropGuard>,
    /// Connections that the peer has made and on which hello is being said.
    greetings: usize,
    /// What was logged since the last connection, so that a problem that lasts is a few lines and not one per attempt.
    logged: BTreeSet<String>,
}

impl Actor for PeerActor {
    type Msg = PeerActorMessage;
    type State = PeerState;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Self::Msg>, (): ()) -> Result<PeerState, ActorProcessingErr> {
        if self.dials_first() {
            myself.cast(PeerActorMessage::Dial)?;
        } else {
            myself.send_after(LATE_DIAL_AFTER, || PeerActorMessage::Dial);
        }
        Ok(PeerState {
            redial: Backoff::new(),
            attempt: 0,
            dials: 0,
            dial_due: true,
            running: None,
            greetings: 0,
            logged: BTreeSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut PeerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PeerActorMessage::Dial => {
                state.dial_due = false;
                // The peer may have dialled meanwhile.
                if state.running.is_none() {
                    let (shared, slot, transport) = (self.shared.clone(), self.slot.clone(), self.transport.clone());
                    let attempt = state.dials;
                    state.dials += 1;
                    self.begin(&myself, state, |cancel| dial_and_run(shared, slot, transport, attempt, cancel));
                }
            }
            PeerActorMessage::Accepted(connection) => {
                // One too many is dropped, which closes it, and the peer dials again.
                if state.greetings < GREETINGS_MAX {
                    state.greetings += 1;
                    self.greet(myself, connection);
                }
            }
            PeerActorMessage::Greeted(greeted) => {
                state.greetings -= 1;
                match *greeted {
                    // The same process was dialled from here meanwhile, and did not know that yet.
                    Ok((connection, greeted)) if self.dials_first() && self.slot.serves(greeted.process) => {
                        CloseCode::Replaced.close(&connection, "the one that the smaller id has made stays");
                    }
                    Ok((connection, greeted)) => {
                        let link = self.link(connection);
                        self.begin(&myself, state, |cancel| link::run(link, Some(greeted), cancel));
                    }
                    Err(LinkError::Panicked(text)) => return Err(self.panicked(&text)),
                    Err(error) => self.log(&LinkEnd { error, lived: Duration::ZERO }, &mut state.logged),
                }
            }
            PeerActorMessage::Ended { attempt, end } if attempt == state.attempt => {
                state.running = None;
                self.log(&end, &mut state.logged);
                if let LinkError::Panicked(text) = end.error {
                    return Err(self.panicked(&text));
                }
                if end.lived >= GOOD_CONNECTION_AGE {
                    state.redial = Backoff::new();
                }
                if !std::mem::replace(&mut state.dial_due, true) {
                    let soon = state.redial.next_delay();
                    let delay = if self.dials_first() { soon } else { soon.max(LATE_DIAL_AFTER) };
                    myself.send_after(delay, || PeerActorMessage::Dial);
                }
            }
            PeerActorMessage::Ended { end, .. } => {
                tracing::debug!(peer = %self.slot.node, error = %end.error, "a replaced connection ended");
            }
        }
        Ok(())
    }
}

impl PeerActor {
    /// Whether this node dials at once, and the peer only if that takes long.
    fn dials_first(&self) -> bool {
        self.shared.hello.node < self.slot.node
    }

    fn panicked(&self, text: &str) -> ActorProcessingErr {
        format!("the connection with {}: {text}", self.slot.node).into()
    }

    fn link(&self, connection: Connection) -> Link {
        Link { shared: self.shared.clone(), slot: self.slot.clone(), connection, dialled: false }
    }

    /// Has hello said on a connection that the peer has made, beside the one that runs.
    fn greet(&self, myself: ActorRef<PeerActorMessage>, connection: Connection) {
        let link = self.link(connection.clone());
        let greeting = tokio::spawn(async move { link::greet(&link).await });
        tokio::spawn(async move {
            let greeted = greeting.await.unwrap_or_else(|panic| Err(LinkError::Panicked(link::panic_text(panic))));
            let greeted = Box::new(greeted.map(|greeted| (connection, greeted)));
            // An actor that is gone has a successor, to which the peer dials again.
            let _ = myself.cast(PeerActorMessage::Greeted(greeted));
        });
    }

    /// Runs an attempt beside the actor, in place of the one that runs.
    fn begin<F>(
        &self,
        myself: &ActorRef<PeerActorMessage>,
        state: &mut PeerState,
        run: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = LinkEnd> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(cancel.clone()));
        state.attempt += 1;
        state.running = Some(cancel.drop_guard());
        let (attempt, myself) = (state.attempt, myself.clone());
        tokio::spawn(async move {
            let end = running.await.unwrap_or_else(|panic| LinkEnd {
                error: LinkError::Panicked(link::panic_text(panic)),
                lived: Duration::ZERO,
            });
            // An actor that is gone has a successor, which starts from nothing.
            let _ = myself.cast(PeerActorMessage::Ended { attempt, end });
        });
    }

    fn log(&self, end: &LinkEnd, logged: &mut BTreeSet<String>) {
        let (peer, error) = (self.slot.node, &end.error);
        if matches!(error, LinkError::Connection(quinn::ConnectionError::LocallyClosed)) {
            // This node stops; that was said once already.
            tracing::debug!(%peer, "closed the connection");
            return;
        }
        if !end.lived.is_zero() {
            tracing::warn!(%peer, %error, lived = ?end.lived, "peer disconnected");
            logged.clear();
            return;
        }
        if let Some(how) = end.error.says_removed() {
            self.shared.handler.removed(peer, how);
        }
        let text = error.to_string();
        // A peer that stays away fails in a few ways in turn; each is said once.
        if logged.len() < REASONS_LOGGED_MAX && logged.insert(text) {
            tracing::warn!(%peer, address = %self.slot.address(), %error, "no connection with peer");
        } else {
            tracing::debug!(%peer, %error, "no connection with peer yet");
        }
    }
}

async fn dial_and_run(
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    transport: Arc<Transport>,
    attempt: u64,
    cancel: CancellationToken,
) -> LinkEnd {
    let dialling = async {
        // A node that is cut off doesn't get through to anybody.
        let _ = shared.watch_cut().wait_for(|cut| !cut).await;
        dial(&shared, &slot, &transport, attempt).await
    };
    let dialled = tokio::select! {
        dialled = dialling => dialled,
        () = cancel.cancelled() => Err(LinkError::Cancelled),
    };
    match dialled {
        Ok(connection) => link::run(Link { shared, slot, connection, dialled: true }, None, cancel).await,
        Err(error) => LinkEnd { error, lived: Duration::ZERO },
    }
}

/// Resolves the name anew each time: where a node is may change.
async fn dial(shared: &Shared, slot: &Slot, transport: &Transport, attempt: u64) -> Result<Connection, LinkError> {
    let expected = Identity { cluster: shared.hello.cluster, node: slot.node };
    // Where the ring map says it is, where the configuration says, and where others say, in turn: all nodes may have moved at once,
    // and a map that tells so comes into force only once enough peers are met.
    let elsewhere = match attempt % 3 {
        1 => shared.seeds.get(&slot.node).cloned(),
        2 => shared.handler.rumoured_address(slot.node),
        _ => None,
    };
    let address = elsewhere.unwrap_or_else(|| slot.address());
    let attempt = async {
        let address = resolve(&address, shared.local_address).await?;
        let connecting = transport.dial(address, expected).map_err(DialError::Connect)?;
        Ok(connecting.await?)
    };
    timeout(HANDSHAKE_TIMEOUT, attempt).await.unwrap_or(Err(DialError::Timeout.into()))
}

async fn resolve(name: &str, local: SocketAddr) -> Result<SocketAddr, DialError> {
    let mut addresses = tokio::net::lookup_host(name).await.map_err(DialError::Resolve)?;
    addresses.find(|address| address.is_ipv4() == local.is_ipv4()).ok_or(DialError::NoAddress)
}
