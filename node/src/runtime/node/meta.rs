//! Following the ring map: what a node does about the map that it knows, and the actor that keeps it.

use super::network::{Network, peers_of};
use super::registry::Registry;
use super::shards::Shards;
use super::storage::Storage;
use super::{NodeError, StartContext};
use crate::config::{AuthMode, Config, Member};
use crate::folder::DataFolder;
use crate::runtime::meta::{MetaActor, MetaArguments, MetaMessage};
use crate::runtime::shards::ShardsMessage;
use kvorum_core::auth::AuthTable;
use kvorum_core::auth::keeper::AuthKeeper;
use kvorum_core::disk::Disk;
use kvorum_core::map_keeper::{MapKeeper, Own};
use kvorum_core::ring::{PlacementError, RingMap, RingNode};
use kvorum_core::routing::router::Router;
use kvorum_core::sealing::KeyFailure;
use kvorum_core::shard::{FolderStanding, ReplicaPlan};
use kvorum_protocol::{ClientId, FolderId, ShardId};
use kvorum_scram::{ITERATIONS_DEFAULT, Verifier};
use ractor::{Actor, ActorRef};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::warn;
use uuid::Uuid;

/// What keeps the ring map on a running node.
pub(super) struct Meta {
    actor: ActorRef<MetaMessage>,
}

impl Meta {
    /// Runs the replicas that the last known map asks for, and begins to look for newer maps. Before a map is known to be
    /// agreed on, at most the group that agrees on it runs.
    ///
    /// # Errors
    /// If the disk fails, or the actor can't be started. The shards may have been told to run replicas.
    pub(super) async fn start(
        context: &StartContext<'_>,
        registry: &Registry,
        storage: &Storage,
        folder: &DataFolder,
        network: &Network,
        shards: &Shards,
    ) -> Result<Self, NodeError> {
        let (config, router, initial) = (context.config, &registry.router, &context.initial);
        let plan = ReplicaPlan::new(config.node_id, config.cluster_id, config.tick().as_millis() as u64);
        let follow = follow(plan, folder.disk(), network, &shards.supervisor);
        let follow = if_fixed_agrees(config, &context.fatal, follow);
        let bootstrap = bootstrap(plan, initial, &shards.supervisor);
        let mut may_bootstrap = false;
        if let Some(ring) = &storage.known_ring {
            router.set_ring(ring.clone());
            follow(ring);
        } else if storage.began_meta()? {
            // It helped to found the group, and ended before it had learnt the map.
            bootstrap();
        } else {
            may_bootstrap = !config.joins;
        }
        let own = Own {
            folder: folder.disk(),
            address: config.client_advertise.clone(),
            peer_address: config.peer_advertise.clone(),
            client: ClientId(Uuid::new_v4()),
        };
        let keeper = MapKeeper::new(Arc::clone(router), Arc::clone(&storage.disk), own, initial.clone(), may_bootstrap)
            .with_levels(config.levels)
            .with_keys(Arc::clone(&context.keys));
        let auth = auth_keeper(config, router, &storage.disk)?;
        let logins = Arc::clone(&registry.logins);
        let arguments = MetaArguments {
            keeper,
            auth,
            auth_changed: Box::new(move || logins.note_change()),
            changed: Box::new(follow),
            removed: Box::new(removed(&context.fatal)),
            closed: Box::new(closed(&context.fatal)),
            bootstrap: Box::new(bootstrap),
        };
        let name = Some(format!("node/{}/meta", config.node_id));
        let (actor, _) = Actor::spawn_linked(name, MetaActor, arguments, context.root.clone()).await?;
        registry.inspector.set_meta(actor.clone());
        Ok(Self { actor })
    }

    /// Ends the actor, soon after this returns.
    pub(super) fn stop(&self) {
        self.actor.stop(None);
    }
}

/// The keeper of the table of users, with the last table that this node has seen in force. Once it has seen one, the first password
/// counts no more, and its file need not be there.
///
/// # Errors
/// If the disk fails; `BootstrapPassword`.
pub(super) fn auth_keeper(
    config: &Config,
    router: &Arc<Router>,
    disk: &Arc<dyn Disk>,
) -> Result<AuthKeeper, NodeError> {
    let client = ClientId(Uuid::new_v4());
    let auth = AuthKeeper::new(Arc::clone(router), Arc::clone(disk), client, AuthTable::initial(None));
    let has_table = auth.read_copy().map_err(NodeError::disk)?;
    let first = first_password(config).or_else(|error| if has_table { Ok(None) } else { Err(error) })?;
    Ok(auth.with_initial(AuthTable::initial(first.as_ref())))
}

/// The verifier of the password with which the user `admin` begins, if there is one.
///
/// # Errors
/// `BootstrapPassword`.
fn first_password(config: &Config) -> Result<Option<Verifier>, NodeError> {
    let Some(path) = &config.auth.bootstrap_password_file else { return Ok(config.auth.bootstrap_verifier.clone()) };
    let failed = |why: String| NodeError::BootstrapPassword(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let end = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    if end == 0 {
        return Err(failed("it is empty".to_owned()));
    }
    Ok(Some(Verifier::new(&text[..end], rand::random(), ITERATIONS_DEFAULT)))
}

/// The map of a new cluster.
///
/// # Errors
/// If its shards can't be placed on its members.
pub(super) fn initial_ring(config: &Config) -> Result<RingMap, PlacementError> {
    // One that joins makes no map; until it hears one, these are the nodes that should send it.
    let founds = |member: &&Member| !config.joins || member.id != config.node_id;
    let nodes = config.members.iter().filter(founds).map(|member| RingNode {
        zone: member.zone.clone(),
        client: member.client.clone(),
        peer: member.peer.clone(),
        ..RingNode::new(member.id.0, &*member.name)
    });
    let (shards, replicas) = (config.shards, config.replication_factor);
    let nodes: Vec<RingNode> = nodes.collect();
    let replicas = if config.joins { replicas.min(nodes.len() as u8) } else { replicas };
    let ring = RingMap::initial(config.cluster_id, config.durability, nodes, shards, replicas)?;
    let auth_required = config.auth.mode == AuthMode::Required;
    Ok(RingMap { repair_hold_ms: config.repair_hold.as_millis() as u64, auth_required, ..ring })
}

/// Follows maps of a cluster that was created with what the configuration says. Another one ends the process: a node that joins
/// may have been told the wrong thing.
fn if_fixed_agrees<F: Fn(&RingMap) + Send + Sync + 'static>(
    config: &Config,
    fatal: &mpsc::Sender<NodeError>,
    follow: F,
) -> impl Fn(&RingMap) + Send + Sync + use<F> {
    let (fatal, durability) = (fatal.clone(), config.durability);
    let numbers = [("shards", config.shards.into()), ("replication_factor", config.replication_factor.into())];
    move |ring| {
        let found = [ring.shards.len(), ring.replication_factor.into()];
        let differs = numbers.into_iter().zip(found).find(|((_, expected), found)| expected != found);
        let error = match differs {
            Some(((field, expected), found)) => NodeError::Mismatch { field, found, expected },
            None if ring.durability != durability => {
                NodeError::Durability { found: ring.durability, expected: durability }
            }
            None => return follow(ring),
        };
        // A full channel holds a reason already.
        drop(fatal.try_send(error));
    }
}

/// Ends the process of a node that was removed.
fn removed(fatal: &mpsc::Sender<NodeError>) -> impl Fn(bool) + Send + Sync + use<> {
    let fatal = fatal.clone();
    // A full channel holds a reason already.
    move |given_up| drop(fatal.try_send(if given_up { NodeError::GivenUp } else { NodeError::Removed }))
}

/// Ends the process of a node that can't open what the cluster stores.
fn closed(fatal: &mpsc::Sender<NodeError>) -> impl Fn(KeyFailure) + Send + Sync + use<> {
    let fatal = fatal.clone();
    // A full channel holds a reason already.
    move |failure| drop(fatal.try_send(NodeError::Keys(failure)))
}

/// Has the replicas run that a map gives to this node's folder, and connects with the map's nodes.
fn follow(
    plan: ReplicaPlan,
    folder: FolderId,
    network: &Network,
    shards: &ActorRef<ShardsMessage>,
) -> impl Fn(&RingMap) + Send + Sync + use<> {
    let (control, peers, shards) = (network.control.clone(), network.peers.clone(), shards.clone());
    move |ring| {
        peers.follow(peers_of(ring, plan.node()));
        let orders = plan.orders(ring, folder);
        if orders.place == FolderStanding::Stranger {
            warn!(%folder, "the ring map names another data folder for this node: it holds nothing until it is replaced");
        }
        orders.configs.iter().for_each(|config| control.join_shard(config.shard));
        let _ = shards.cast(ShardsMessage::Follow(orders));
    }
}

/// Opens this node's replica of the `meta` group under the id that the first map gives it, if it gives one.
fn bootstrap(
    plan: ReplicaPlan,
    initial: &RingMap,
    shards: &ActorRef<ShardsMessage>,
) -> impl Fn() + Send + Sync + use<> {
    let config = plan.configs(initial).into_iter().find(|config| config.shard == ShardId::META);
    let shards = shards.clone();
    move || {
        if let Some(config) = config.clone() {
            let _ = shards.cast(ShardsMessage::Bootstrap(Box::new(config)));
        }
    }
}
