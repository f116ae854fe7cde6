//! The way to the other nodes: the control plane, the peers, and the door through which their messages come.

use super::registry::Registry;
use super::storage::Storage;
use super::{NodeError, StartContext};
use crate::auth::cert::TlsIdentity;
use crate::config::Config;
use crate::doors::peer::PeerDoor;
use crate::folder::DataFolder;
use crate::peers::{PeerAddress, PeerConfig, Peers};
use crate::runtime::control::{AdminHandler, Control, KeeperAnswer};
use crate::runtime::issuing::{IssueRequest, Issuing};
use crate::runtime::joining::{self, JoinDesk};
use crate::runtime::status::Inspector;
use kvorum_core::folder::known_folders::KnownFolders;
use kvorum_core::ring::RingMap;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::routing::router::Router;
use kvorum_protocol::{AuthVerb, NodeId, ShardId};
use ractor::ActorCell;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A node's connections with its peers.
pub(super) struct Network {
    /// The control plane.
    pub(super) control: Control,
    /// Where the peers' messages come in.
    pub(super) door: Arc<PeerDoor>,
    control_actor: ActorCell,
    peers_actor: ActorCell,
    /// The peers themselves, to follow the ring map.
    pub(super) peers: Peers,
    /// Ends the answers to peers.
    answers: CancellationToken,
}

impl Network {
    /// Listens for peers and begins to connect to them.
    ///
    /// # Errors
    /// If the socket can't be bound, an actor can't be started, or what is known of the peers can't be read. Nothing runs
    /// then.
    pub(super) async fn start(
        context: &StartContext<'_>,
        registry: &Registry,
        storage: &Storage,
        folder: &DataFolder,
    ) -> Result<Self, NodeError> {
        let (config, root) = (context.config, &context.root);
        let known_folders = KnownFolders::open(Arc::clone(&storage.disk)).map_err(NodeError::disk)?;
        let (router, inspector) = (Arc::clone(&registry.router), Arc::clone(&registry.inspector));
        let of_key = config.tls.key.parent().unwrap_or(Path::new("."));
        let issuing = Issuing::new(Arc::clone(&router), of_key.to_owned());
        let admin = Admin { router, inspector, issuing: Arc::clone(&issuing) };
        let (control_actor, control) =
            Control::start(config.cluster_id, config.node_id, Arc::new(admin), Some(root.clone())).await?;
        registry.inspector.set_control(control.clone());
        let answers = CancellationToken::new();
        let door = PeerDoor::new(Arc::clone(&registry.sessions), known_folders, answers.clone());
        let certificates = registry.inspector.certificates();
        let tls = certificates.in_force().identity().clone();
        let peers = peer_config(config, storage.known_ring.as_ref(), folder, tls);
        let started =
            Peers::start(peers, Arc::clone(&door) as _, Some(control.session_host()), Some(root.clone())).await;
        let (peers_actor, peers) = started.inspect_err(|_| control_actor.stop(None))?;
        let (router, inspector) = (Arc::clone(&registry.router), Arc::clone(&registry.inspector));
        peers.serve_joins(JoinDesk::new(router, inspector, control.clone(), issuing));
        registry.router.set_peers(Arc::new(peers.clone()));
        Ok(Self { control, door, control_actor, peers_actor, peers, answers })
    }

    /// Ends the answers to peers, leaves the control plane, and closes all connections. Returns before they are closed.
    pub(super) fn stop(&self) {
        self.answers.cancel();
        self.control_actor.stop(None);
        self.peers_actor.stop(None);
    }
}

/// The other nodes of a map, and where they are.
pub(super) fn peers_of(ring: &RingMap, me: NodeId) -> Vec<PeerAddress> {
    let others = ring.nodes.iter().filter(|node| node.id != me.0);
    others.map(|node| PeerAddress { node: NodeId(node.id), address: node.peer.clone() }).collect()
}

fn peer_config(config: &Config, known: Option<&RingMap>, folder: &DataFolder, tls: TlsIdentity) -> PeerConfig {
    let others = || config.members.iter().filter(|member| member.id != config.node_id);
    let configured = || others().map(|member| PeerAddress { node: member.id, address: member.peer.clone() }).collect();
    PeerConfig {
        node: config.node_id,
        cluster: config.cluster_id,
        disk: folder.disk(),
        starts: folder.starts(),
        client: config.client_advertise.clone(),
        resp: config.resp_addresses(),
        listen: config.peer_listen,
        peers: known.map_or_else(configured, |ring| peers_of(ring, config.node_id)),
        seeds: others().map(|member| (member.id, member.peer.clone())).collect(),
        tls,
        levels: config.levels,
        program: concat!("kvorum ", env!("CARGO_PKG_VERSION")).into(),
        mtu: None,
    }
}

/// What peers may ask of this node over the control plane.
struct Admin {
    router: Arc<Router>,
    inspector: Arc<Inspector>,
    issuing: Arc<Issuing>,
}

impl AdminHandler for Admin {
    fn status(&self) -> Vec<u8> {
        self.inspector.status_bytes().into()
    }

    fn cache_figures(&self) -> Vec<u8> {
        self.inspector.cache_figures().encode()
    }

    fn node_figures(&self) -> Option<Vec<u8>> {
        Some(self.inspector.node_figures()?.encode())
    }

    fn transfer_leadership(&self, shard: ShardId, to: NodeId) -> Result<(), String> {
        self.router.transfer(shard, to).map_err(|error| error.to_string())
    }

    fn ask(self: Arc<Self>, verb: Verb) -> KeeperAnswer {
        Box::pin(async move { self.inspector.ask_here(verb).await })
    }

    fn plan(self: Arc<Self>, verb: Option<Verb>) -> KeeperAnswer {
        Box::pin(async move { self.inspector.plan_here(verb).await })
    }

    fn change_auth(self: Arc<Self>, verb: AuthVerb) -> KeeperAnswer {
        Box::pin(async move { self.inspector.change_auth_here(verb).await })
    }

    fn issue(self: Arc<Self>, asked: Option<IssueRequest>) -> KeeperAnswer {
        let issuing = Arc::clone(&self.issuing);
        Box::pin(joining::blocking(move || match asked {
            Some(asked) => issuing.issue(&asked),
            None => issuing.can_issue(),
        }))
    }
}
