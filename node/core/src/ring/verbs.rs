//! What an operator may ask of the cluster, and when it is refused. Pure: the leader of `meta` asks, and proposes what comes out.
//!
//! Each verb is idempotent. Whoever asks again hears that it is done, or that it is under way, which the map itself says.

use super::PlacementError;
use super::address::is_address;
use super::decide::Seen;
use super::rebalance::{self, Standing};
use super::{MoveError, NodeSlot, NodeState, RingMap, RingNode};
pub use kvorum_protocol::NewNode;
use kvorum_protocol::limits::{NAME_BYTES_MAX, NODES_MAX};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{NodeId, ShardId};
use std::collections::BTreeSet;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A node joins the cluster.
    Join(Box<NewNode>),
    /// A node gives all it holds to others and leaves for good. It may be dead.
    Remove {
        /// The node.
        node: NodeId,
        /// Replicas may stand in fewer zones than now.
        accept_fewer_zones: bool,
    },
    /// A node that is being removed stays.
    Keep(NodeId),
}

/// Why it is not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerbRefusal {
    /// There is no such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeId),
    /// It was removed, and does not return.
    #[error("node {0} was removed: a node that joins again does so with an empty folder, under an id of its own")]
    Removed(NodeId),
    /// The rest of the cluster can't hold what the node holds.
    #[error("without the node there is no room for its replicas: {0}")]
    NoPlacement(PlacementError),
    /// Replicas would stand in fewer zones.
    #[error(
        "replicas would stand in {after} zones instead of {before}: say that you accept fewer zones, or add a node"
    )]
    FewerZones {
        /// Zones over which a shard is spread now, at most.
        before: usize,
        /// Without the node.
        after: usize,
    },
    /// A group has too few replicas that are there and well to move any.
    #[error("shard {0} has no majority: bring the nodes back that are away, or recover the shard first")]
    NoQuorum(ShardId),
    /// The node's program and the cluster have no level in common.
    #[error("the node speaks {levels}, the cluster is at level {cluster}")]
    Level {
        /// The node's.
        levels: Levels,
        /// The cluster's.
        cluster: u16,
    },
    /// A name, an address or a folder is another node's, or none.
    #[error("{what} {value:?} can't be used: {why}")]
    Unusable {
        /// What.
        what: &'static str,
        /// Which.
        value: String,
        /// Why.
        why: &'static str,
    },
    /// The cluster has as many nodes as it may have.
    #[error("the cluster has {NODES_MAX} nodes, which is the most")]
    TooManyNodes,
}

/// The map in which what is asked is done, or begun; `None` if it is so already.
///
/// # Errors
/// Why it is refused. Nothing has changed then.
pub fn admit(ring: &RingMap, seen: &Seen, verb: &Verb) -> Result<Option<RingMap>, VerbRefusal> {
    match verb {
        Verb::Join(node) => join(ring, node),
        Verb::Remove { node, accept_fewer_zones } => remove(ring, seen, *node, *accept_fewer_zones),
        Verb::Keep(node) => {
            known(ring, *node)?;
            changed(ring.with_state(*node, NodeState::Up))
        }
    }
}

fn known(ring: &RingMap, node: NodeId) -> Result<&RingNode, VerbRefusal> {
    let found = ring.nodes.iter().find(|known| known.id == node.0);
    found.ok_or(if ring.was_removed(node) { VerbRefusal::Removed(node) } else { VerbRefusal::UnknownNode(node) })
}

fn changed(result: Result<RingMap, MoveError>) -> Result<Option<RingMap>, VerbRefusal> {
    // What else could be wrong was looked at before.
    Ok(result.ok())
}

fn join(ring: &RingMap, new: &NewNode) -> Result<Option<RingMap>, VerbRefusal> {
    if ring.was_removed(new.id) {
        return Err(VerbRefusal::Removed(new.id));
    }
    let unusable = |what, value: &str, why| Err(VerbRefusal::Unusable { what, value: value.to_owned(), why });
    if ring.has_node(new.id) {
        // Asked again. With another folder it has lost its disk, and is replaced as any other node that did.
        return Ok(None);
    }
    if !new.levels.speaks(ring.level) {
        return Err(VerbRefusal::Level { levels: new.levels, cluster: ring.level });
    }
    if ring.nodes.len() >= NODES_MAX {
        return Err(VerbRefusal::TooManyNodes);
    }
    if new.name.is_empty() || new.name.len() > NAME_BYTES_MAX || new.zone.len() > NAME_BYTES_MAX {
        return unusable("the name", &new.name, "a name has 1 to 255 bytes");
    }
    if ring.nodes.iter().any(|known| known.name == new.name) {
        return unusable("the name", &new.name, "it is another node's");
    }
    for (what, address) in [("the client address", &new.client), ("the peer address", &new.peer)] {
        if !is_address(address) {
            return unusable(what, address, "it is not HOST:PORT");
        }
        if ring.nodes.iter().any(|known| known.client == *address || known.peer == *address) {
            return unusable(what, address, "it is another node's");
        }
    }
    let folder = new.folder.to_string();
    if ring.is_retired(new.folder) {
        return unusable("the data folder", &folder, "it was replaced, and never returns");
    }
    if ring.nodes.iter().any(|known| known.disk == Some(new.folder)) {
        return unusable("the data folder", &folder, "it is another node's");
    }
    let mut next = ring.next_epoch();
    next.nodes.push(RingNode {
        slot: NodeSlot(next.slots_made),
        zone: new.zone.clone(),
        client: new.client.clone(),
        peer: new.peer.clone(),
        disk: Some(new.folder),
        ..RingNode::new(new.id.0, &*new.name)
    });
    next.slots_made += 1;
    Ok(Some(next))
}

fn remove(ring: &RingMap, seen: &Seen, node: NodeId, accept_fewer_zones: bool) -> Result<Option<RingMap>, VerbRefusal> {
    if ring.was_removed(node) {
        return Ok(None);
    }
    if known(ring, node)?.state == NodeState::Removing {
        return Ok(None);
    }
    let next = ring.with_state(node, NodeState::Removing).map_err(|_| VerbRefusal::UnknownNode(node))?;
    // Whether there is a place at all. That a node is away for a moment is no reason to refuse: the moves wait for it.
    let standing = |known: &RingNode| {
        let up = known.state == NodeState::Up;
        Standing { eligible: up, may_receive: up }
    };
    let standings: Vec<Standing> = next.nodes.iter().map(standing).collect();
    rebalance::wanted(&next, &standings).map_err(VerbRefusal::NoPlacement)?;
    let (before, after) = (zones(ring), zones(&next));
    if after < before && !accept_fewer_zones {
        return Err(VerbRefusal::FewerZones { before, after });
    }
    match ring.held_by(node).into_iter().find(|(shard, _)| !seen.has_quorum(ring, *shard)) {
        Some((shard, _)) => Err(VerbRefusal::NoQuorum(shard)),
        None => Ok(Some(next)),
    }
}

/// Over how many zones the replicas of a shard can be spread.
fn zones(ring: &RingMap) -> usize {
    let up = ring.nodes.iter().filter(|node| node.state == NodeState::Up);
    let zones: BTreeSet<&str> = up.map(RingNode::zone).collect();
    zones.len().min(ring.replication_factor.into())
}
