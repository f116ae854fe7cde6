//! The other nodes of the cluster: one QUIC connection with each, kept up for as long as this node runs.
//!
//! A connection carries four lanes in each direction (consensus messages; forwarded requests; snapshots; large messages, in
//! parts), each one stream of frames, and one control session (see [`crate::runtime::control`]). Messages are sent without waiting and
//! without a promise: what can't be delivered is dropped, and whoever sent it has a timeout or sends again. Within a lane of a
//! connection they keep their order.
//!
//! ```text
//! Peers::send ─► Outbound (bounded) ─► writer ─► QUIC ─► reader ─► PeerHandler::message
//! ```
//!
//! The tree of actors: supervisor → one actor per peer, which owns the tasks of its connection.

mod admission;
mod backoff;
mod close;
mod hello;
mod incoming;
pub mod join;
mod lane;
pub mod limits;
mod link;
mod peer;
mod session;
mod supervisor;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod transport;

pub use close::CloseCode;
pub use session::SessionHost;
pub use tls::TlsError;
pub use transport::BindError;

use crate::auth::cert::{Identity, TlsIdentity};
use join::JoinHost;
use kvorum_core::ring::decide::KnownOfPeer;
use kvorum_core::routing::network::{PeerLink, PeerNetwork, SendError};
use kvorum_core::routing::peer_desk::AdmitError;
use kvorum_protocol::peer::{Levels, PeerHello, PeerMessage, RespAddresses};
use kvorum_protocol::{ClusterId, FolderId, NodeId};
use lane::{Lane, Lingering, Outbound};
use parking_lot::RwLock;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use supervisor::{PeersSupervisor, SupervisorMessage};
use tokio::sync::{Mutex, watch};
use traffic::Traffic;
use transport::Transport;

/// Who this node is, and whom it talks to.
pub struct PeerConfig {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its data folder.
    pub disk: FolderId,
    /// How often a process was started with that folder, this one included.
    pub starts: u64,
    /// `host:port` where clients reach it, for its peers to know. At most 255 bytes.
    pub client: String,
    /// Where clients of Redis reach it.
    pub resp: RespAddresses,
    /// Where it waits for its peers (UDP); port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The other nodes.
    pub peers: Vec<PeerAddress>,
    /// Where some of them may be besides.
    pub seeds: BTreeMap<NodeId, String>,
    /// The certificate that proves who this node is.
    pub tls: TlsIdentity,
    /// What this program speaks: [`Levels::OWN`], but in tests of programs to come.
    pub levels: Levels,
    /// This program and its version, for the peers' logs. At most 255 bytes, the rest is cut off.
    pub program: String,
    /// The UDP payload, in bytes, that the network between the nodes is known to carry on every path, within
    /// 1,200–8,972. `None`: it is discovered, except on loopback addresses, where it is known.
    pub mtu: Option<u16>,
}

/// A peer and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// The peer.
    pub node: NodeId,
    /// `host:port`, resolved again at each dial.
    pub address: String,
}

/// Hears of the peers. Every call comes from a task of the connection and must not block: bytes that are not taken pile
/// up at the peer, not here. For one peer the calls are ordered: `connected`, messages, `disconnected`, `connected`, …;
/// messages of its lanes come in parallel. A panic is a failure of the peer's actor, which is restarted.
pub trait PeerHandler: Send + Sync + 'static {
    /// What this node knows of the peer, for the hello to it.
    fn knows(&self, peer: NodeId) -> KnownOfPeer;
    /// Where other peers say that a node is, if that is news.
    fn rumoured_address(&self, node: NodeId) -> Option<String> {
        let _ = node;
        None
    }
    /// The peer, which is the node that its certificate names, has said this hello. Called once per connection, before
    /// `connected`; may write a small file.
    ///
    /// # Errors
    /// Why it is turned away, for the logs of both.
    fn admit(&self, hello: &PeerHello) -> Result<(), AdmitError>;
    /// The peer is there and can be sent to.
    fn connected(&self, peer: NodeId);
    /// The peer is gone. What was sent and not answered may or may not have reached it.
    fn disconnected(&self, peer: NodeId);
    /// A message has come; never a hello.
    fn message(&self, from: NodeId, message: PeerMessage);
    /// The peer says that this node was removed from the cluster.
    fn removed(&self, by: NodeId, how: Removal);
    /// Whether certificates of that serial number, which is without leading zeros, are not taken.
    fn denies(&self, serial: &[u8]) -> bool {
        let _ = serial;
        false
    }
    /// Whether a node was removed from the cluster, and how: it is told so when it dials.
    fn was_removed(&self, node: NodeId) -> Option<Removal>;
}

/// How a node came to be no member of the cluster any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It was to be removed, and gave all it held to others.
    Asked,
    /// An operator has recovered the cluster from a loss, and has given it up. Nobody may be left but the node that says so.
    GivenUp,
}

/// Why the peers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The socket or the certificate.
    #[error("can't listen for peers on {listen}: {source}")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: BindError,
    },
    /// The certificate belongs to another node or cluster.
    #[error("the certificate is for {}, this is {}", .certificate.name(), .node.name())]
    ForeignCertificate {
        /// Whom the certificate names.
        certificate: Identity,
        /// Who this node is.
        node: Identity,
    },
    /// A peer is listed twice, or is this node itself.
    #[error("node {0} is listed twice")]
    ListedTwice(NodeId),
    /// The actors can't be started.
    #[error("can't start the actors of the peers: {0}")]
    Spawn(#[from] SpawnErr),
}

/// The peers of this node. Clones are cheap and mean the same.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    transport: Arc<Transport>,
    supervisor: ActorRef<SupervisorMessage>,
}

struct Shared {
    hello: PeerHello,
    local_address: SocketAddr,
    /// Where nodes are by the configuration.
    seeds: BTreeMap<NodeId, String>,
    handler: Arc<dyn PeerHandler>,
    sessions: Option<Arc<dyn SessionHost>>,
    /// The peers that there are by the ring map in force. Who sends holds the lock as long as it takes to find one.
    slots: RwLock<BTreeMap<NodeId, Arc<Slot>>>,
    cut: AtomicBool,
    cut_changes: watch::Sender<bool>,
    /// Told when certificates may be denied that were not.
    rights: watch::Sender<()>,
    /// How many messages the cut has swallowed, in both directions.
    lost_to_cut: AtomicU64,
    /// Who decides whether nodes may join, once that is known.
    joins: OnceLock<Arc<dyn JoinHost>>,
    join_places: join::JoinPlaces,
}

/// What stays of a peer while connections come and go.
struct Slot {
    node: NodeId,
    /// `host:port`, as the ring map has it.
    address: RwLock<String>,
    outbound: [Outbound; Lane::ALL.len()],
    lingering: Lingering,
    up: AtomicBool,
    /// The peer's process, while it is up.
    process: AtomicU64,
    traffic: Traffic,
    /// Held by the connection that is being served.
    turn: Mutex<()>,
}

impl Peers {
    /// Opens the endpoint and begins to connect. Must be called within a tokio runtime.
    ///
    /// `sessions` gets the control stream of each connection. With a `supervisor` the returned actor is linked to it; the
    /// actor fails, with [`kvorum_core::health::restart_policy::GaveUp`], when its children failed too often. To end all connections and
    /// close the endpoint, stop the actor.
    ///
    /// # Errors
    /// If the socket can't be bound, the certificate doesn't fit, or a peer is listed twice.
    pub async fn start(
        config: PeerConfig,
        handler: Arc<dyn PeerHandler>,
        sessions: Option<Arc<dyn SessionHost>>,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorCell, Self), PeerError> {
        let own = Identity { cluster: config.cluster, node: config.node };
        if config.tls.identity() != own {
            return Err(PeerError::ForeignCertificate { certificate: config.tls.identity(), node: own });
        }
        let slots = slots(own.node, config.peers)?;
        let bind_error = |source| PeerError::Bind { listen: config.listen, source };
        let transport = Transport::bind(config.listen, &config.tls, config.mtu).map_err(bind_error)?;
        let local_address = transport.endpoint().local_addr().map_err(|error| bind_error(error.into()))?;
        let shared = Arc::new(Shared {
            hello: PeerHello {
                levels: config.levels,
                cluster: own.cluster,
                node: own.node,
                disk: config.disk,
                starts: config.starts,
                process: rand::random(),
                // Differs from peer to peer; each connection fills it in.
                knows: None,
                replaced: false,
                client: config.client,
                resp: config.resp,
                program: config.program,
                more: bytes::Bytes::new(),
            },
            local_address,
            seeds: config.seeds,
            handler,
            sessions,
            slots: RwLock::new(slots),
            cut: AtomicBool::new(false),
            cut_changes: watch::Sender::new(false),
            rights: watch::Sender::new(()),
            lost_to_cut: AtomicU64::new(0),
            joins: OnceLock::new(),
            join_places: join::JoinPlaces::default(),
        });
        let actor = PeersSupervisor { shared: shared.clone() };
        let (name, transport) = (Some(format!("node/{}/peers", own.node)), Arc::new(transport));
        let (actor, _) = match supervisor {
            Some(supervisor) => Actor::spawn_linked(name, actor, transport.clone(), supervisor).await?,
            None => Actor::spawn(name, actor, transport.clone()).await?,
        };
        Ok((actor.get_cell(), Self { shared, transport, supervisor: actor }))
    }

    /// These are the peers from now on: connects with those that are new, and soon ends the connections with those that are none
    /// any more. Until then they may hear that. Returns at once.
    pub fn follow(&self, peers: Vec<PeerAddress>) {
        // A supervisor that is gone takes no message, and then this node is stopping.
        let _ = self.supervisor.cast(SupervisorMessage::Follow(peers));
    }

    /// Sends several messages to one peer, with one lock and at most one wake-up per lane.
    ///
    /// # Errors
    /// See [`SendError`]: of the first message that could not be sent. Those before it, in its lane, have been.
    pub fn send_batch(&self, to: NodeId, messages: &[PeerMessage]) -> Result<(), SendError> {
        let slot = self.shared.slot(to).ok_or(SendError::Unknown)?;
        if self.shared.is_cut() {
            self.shared.lost_to_cut.fetch_add(messages.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        let lanes: Vec<_> = messages.iter().map(|message| slot.lingering.lane(message)).collect();
        for lane in Lane::ALL {
            let with_lanes = messages.iter().zip(&lanes);
            let mut of_lane = with_lanes.filter(|(_, of)| **of == Some(lane)).map(|(message, _)| message).peekable();
            if of_lane.peek().is_some() {
                slot.outbound(lane).push(of_lane)?;
            }
        }
        Ok(())
    }

    /// Lets nodes join from now on, as `host` says; once.
    pub fn serve_joins(&self, host: Arc<dyn JoinHost>) {
        assert!(self.shared.joins.set(host).is_ok(), "one host decides");
    }

    /// Connections from here on are made with this certificate, and accepted from whom its authorities have signed.
    ///
    /// # Errors
    /// It can't be used; then all stays as it was.
    pub fn renew(&self, tls: &TlsIdentity) -> Result<(), TlsError> {
        self.transport.renew(tls)
    }

    /// Ends the connections with peers whose certificates are denied.
    pub fn note_rights(&self) {
        self.shared.rights.send_replace(());
    }

    /// Where this node waits for its peers.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.local_address
    }
}

impl PeerNetwork for Peers {
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError> {
        self.send_batch(to, slice::from_ref(message))
    }

    fn up(&self) -> Vec<NodeId> {
        let slots = self.shared.slots.read();
        slots.values().filter(|slot| slot.up.load(Ordering::Acquire)).map(|slot| slot.node).collect()
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.shared.slot(node).is_some_and(|slot| slot.up.load(Ordering::Acquire))
    }

    fn links(&self) -> Vec<PeerLink> {
        let link = |slot: &Arc<Slot>| {
            let (rtt, sent_bytes, received_bytes) = slot.traffic.now();
            let queued_bytes =
                Lane::ALL.iter().map(|lane| (lane.name(), slot.outbound(*lane).bytes() as u64)).collect();
            PeerLink {
                node: slot.node,
                up: slot.up.load(Ordering::Acquire),
                rtt,
                sent_bytes,
                received_bytes,
                queued_bytes,
            }
        };
        self.shared.slots.read().values().map(link).collect()
    }

    fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Release);
        self.shared.cut_changes.send_replace(cut);
    }
}

impl Shared {
    fn slot(&self, node: NodeId) -> Option<Arc<Slot>> {
        self.slots.read().get(&node).map(Arc::clone)
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    fn watch_cut(&self) -> watch::Receiver<bool> {
        self.cut_changes.subscribe()
    }
}

impl Slot {
    fn new(node: NodeId, address: String) -> Self {
        Self {
            node,
            address: RwLock::new(address),
            outbound: Lane::ALL.map(Outbound::new),
            lingering: Lingering::default(),
            up: AtomicBool::new(false),
            process: AtomicU64::new(0),
            traffic: Traffic::default(),
            turn: Mutex::new(()),
        }
    }

    /// Whether a connection with this process of the peer is up.
    fn serves(&self, process: u64) -> bool {
        self.up.load(Ordering::Acquire) && self.process.load(Ordering::Acquire) == process
    }

    fn address(&self) -> String {
        self.address.read().clone()
    }

    fn outbound(&self, lane: Lane) -> &Outbound {
        &self.outbound[lane as usize]
    }
}

fn slots(own: NodeId, peers: Vec<PeerAddress>) -> Result<BTreeMap<NodeId, Arc<Slot>>, PeerError> {
    let mut slots = BTreeMap::new();
    for PeerAddress { node, address } in peers {
        if node == own || slots.insert(node, Arc::new(Slot::new(node, address))).is_some() {
            return Err(PeerError::ListedTwice(node));
        }
    }
    Ok(slots)
}
