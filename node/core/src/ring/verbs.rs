//! What an operator may ask of the cluster, and when it is refused. Pure: the leader of `meta` asks, and proposes what comes out.
//!
//! Each verb is idempotent. Whoever asks again hears that it is done, or that it is under way, which the map itself says.

use super::PlacementError;
use super::address::is_address;
use super::decide::Seen;
use super::rebalance::{self, Standing};
use super::tokens;
use super::{FREE_AFTER_BALANCE, FREE_AFTER_REPAIR, MoveError, NodeSlot, NodeState, RingMap, RingNode};
use crate::seeded::{Bug, planted};
use kvorum_protocol::limits::{
    ABSENCE_MS_MAX, MOVE_RATE_MB_MAX, NAME_BYTES_MAX, NODE_WEIGHT_MAX, NODES_MAX, TOKENS_MAX,
};
use kvorum_protocol::peer::Levels;
pub use kvorum_protocol::{ClusterVerb as Verb, NewNode};
use kvorum_protocol::{NodeId, ShardId};
use std::collections::BTreeSet;

/// Whoever asks for a drain again after this time, in milliseconds, wants it to begin anew; before that he has not heard yet.
const DRAIN_AGAIN_MS: u64 = 10_000;

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
    /// The disks of the others have no room for what the node holds.
    #[error(
        "the others' disks have no room: the node holds {} MiB, and they could take {} MiB; add a node or a disk",
        needed >> 20, has >> 20
    )]
    NoRoom {
        /// Bytes that the node holds.
        needed: u64,
        /// Bytes that the others can take.
        has: u64,
    },
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
    /// Without the node a shard, or the ring map, would have no majority.
    #[error(
        "without the node, {} would have no majority: {} would have to be there; wait for the others, or UNDRAIN them",
        group_name(*shard),
        if *voters == 1 { "its only replica".to_owned() } else { format!("{needed} of {voters} replicas") }
    )]
    CostsQuorum {
        /// Its shard.
        shard: ShardId,
        /// How many replicas are a majority.
        needed: usize,
        /// Of so many.
        voters: usize,
    },
    /// The node is being removed.
    #[error("node {0} is being removed: KEEP it first")]
    Removing(NodeId),
    /// A node can't take another one's place.
    #[error("node {node} can't take its place: {why}")]
    NoHeir {
        /// The one that should.
        node: NodeId,
        /// Why it can't.
        why: &'static str,
    },
    /// Some nodes don't speak a higher level, or don't say whether they do.
    #[error("no node may be away or run an older version: {}", .0.join(", "))]
    OlderNodes(Vec<String>),
    /// The cluster knows no such token.
    #[error("the token is not known: it is of another cluster, its time is over, or it was never made")]
    UnknownToken,
    /// Another node has joined by it.
    #[error("the token was used by another node, or by this one with another folder: make another one")]
    TokenUsed,
    /// The cluster knows as many tokens as it may.
    #[error("the cluster knows {TOKENS_MAX} tokens, which is the most: wait until the time of some is over")]
    TooManyTokens,
    /// Some nodes have no key-encryption key, or another one.
    #[error("every node must be there, with the encryption.key of the node that leads the ring map's group: {}", .0.join(", "))]
    KeysDiffer(Vec<String>),
    /// It can't be done with the keys as they are.
    #[error("{0}")]
    Keys(String),
    /// A number is out of its range.
    #[error("{what} must be {least} to {most}, and {value} is not")]
    OutOfRange {
        /// Which.
        what: &'static str,
        /// What it is.
        value: u64,
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
}

fn group_name(shard: ShardId) -> String {
    if shard == ShardId::META { "the ring map's group".to_owned() } else { format!("shard {shard}") }
}

/// The map in which what is asked is done, or begun; `None` if it is so already.
///
/// # Errors
/// Why it is refused. Nothing has changed then.
pub fn admit(ring: &RingMap, seen: &Seen, verb: &Verb) -> Result<Option<RingMap>, VerbRefusal> {
    match verb {
        Verb::Join(node) => join(ring, node),
        Verb::Remove { node, accept_fewer_zones } => remove(ring, seen, *node, *accept_fewer_zones),
        Verb::Keep(node) => match known(ring, *node)?.state {
            NodeState::Removing => changed(ring.with_state(*node, NodeState::Up)),
            NodeState::Up | NodeState::Draining => Ok(None),
        },
        Verb::Drain { node, for_ms } => drain(ring, seen, *node, *for_ms),
        Verb::Undrain(node) => match known(ring, *node)?.state {
            NodeState::Draining => changed(ring.with_state(*node, NodeState::Up)),
            NodeState::Up | NodeState::Removing => Ok(None),
        },
        Verb::Replace { old, new } => replace(ring, seen, *old, *new),
        Verb::Set { node, zone, weight } => set(ring, *node, zone.as_deref(), *weight),
        Verb::Pause(paused) => Ok((ring.paused != *paused).then(|| RingMap { paused: *paused, ..ring.next_epoch() })),
        Verb::Rate(mb) => {
            within("the rate in MiB per second", mb.unwrap_or(1).into(), 1, MOVE_RATE_MB_MAX.into())?;
            Ok((ring.rate_mb != *mb).then(|| RingMap { rate_mb: *mb, ..ring.next_epoch() }))
        }
        Verb::AllowRepair => {
            let mut next = ring.next_epoch();
            next.nodes.iter_mut().filter(|node| node.down).for_each(|node| node.lost = true);
            Ok((next.nodes != ring.nodes).then_some(next))
        }
        Verb::Finalize => finalize(ring, seen),
        Verb::Token(new) => tokens::add(ring, seen, new),
        Verb::JoinByToken { token, key, node } => tokens::join_by(ring, seen, *token, *key, node),
        Verb::Encrypt(_) => Err(VerbRefusal::Keys("there is nothing to plan about keys".to_owned())),
    }
}

pub(super) fn within(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), VerbRefusal> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(VerbRefusal::OutOfRange { what, value, least, most }) }
}

fn known(ring: &RingMap, node: NodeId) -> Result<&RingNode, VerbRefusal> {
    let found = ring.nodes.iter().find(|known| known.id == node.0);
    found.ok_or(if ring.was_removed(node) { VerbRefusal::Removed(node) } else { VerbRefusal::UnknownNode(node) })
}

fn changed(result: Result<RingMap, MoveError>) -> Result<Option<RingMap>, VerbRefusal> {
    // What else could be wrong was looked at before.
    Ok(result.ok())
}

pub(super) fn join(ring: &RingMap, new: &NewNode) -> Result<Option<RingMap>, VerbRefusal> {
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
    admit_going(ring, seen, node, &next, accept_fewer_zones)?;
    Ok(Some(next))
}

/// Whether the cluster can do without a node, as `next` wants it to.
fn admit_going(
    ring: &RingMap,
    seen: &Seen,
    node: NodeId,
    next: &RingMap,
    accept_fewer_zones: bool,
) -> Result<(), VerbRefusal> {
    // Whether there is a place at all. That a node is away for a moment is no reason to refuse: the moves wait for it.
    let standing = |known: &RingNode| Standing::of(known.state != NodeState::Removing);
    let standings: Vec<Standing> = next.nodes.iter().map(standing).collect();
    rebalance::wanted(next, &standings).map_err(VerbRefusal::NoPlacement)?;
    // As the moves will look at it: what a dead node holds is made anew, and repair may use more.
    let is_dead = next.nodes.iter().any(|known| known.id == node.0 && known.down);
    let left_free = if is_dead { FREE_AFTER_REPAIR } else { FREE_AFTER_BALANCE };
    let stays = |other: &&RingNode| other.state != NodeState::Removing;
    let rooms = next.nodes.iter().filter(stays).map(|other| seen.room_on(NodeId(other.id), left_free));
    let has = rooms.fold(0_u64, u64::saturating_add);
    if let Some(needed) = seen.disks.get(&node).map(|disk| disk.held_bytes).filter(|needed| *needed > has) {
        return Err(VerbRefusal::NoRoom { needed, has });
    }
    let (before, after) = (zones(ring), zones(next));
    if after < before && !accept_fewer_zones {
        return Err(VerbRefusal::FewerZones { before, after });
    }
    match ring.held_by(node).into_iter().find(|(shard, _)| !seen.has_quorum(ring, *shard, |_| true)) {
        Some((shard, _)) => Err(VerbRefusal::NoQuorum(shard)),
        None => Ok(()),
    }
}

fn drain(ring: &RingMap, seen: &Seen, node: NodeId, for_ms: u64) -> Result<Option<RingMap>, VerbRefusal> {
    within("the absence in milliseconds", for_ms, 1, ABSENCE_MS_MAX)?;
    let before = known(ring, node)?;
    if before.state == NodeState::Removing {
        return Err(VerbRefusal::Removing(node));
    }
    let is_drained = before.state == NodeState::Draining;
    let mut absence_ms = for_ms;
    if is_drained && before.absence_ms.is_some_and(|before_ms| before_ms.abs_diff(for_ms) <= 1) {
        if seen.drained.get(&node).is_none_or(|ms| *ms < DRAIN_AGAIN_MS) {
            return Ok(None);
        }
        // Leaders count from when they see another number.
        absence_ms += u64::from(before.absence_ms == Some(for_ms));
    }
    let is_away = |other: NodeId| {
        let drained = |known: &RingNode| known.id == other.0 && known.state == NodeState::Draining;
        other == node || ring.nodes.iter().any(drained)
    };
    for (shard, _) in ring.held_by(node) {
        if !seen.has_quorum(ring, shard, |other| !is_away(other)) && !planted(Bug::DrainCostsQuorum) {
            let voters = ring.replicas(shard).len();
            return Err(VerbRefusal::CostsQuorum { shard, needed: voters / 2 + 1, voters });
        }
    }
    changed(ring.with_node(node, |known| (known.state, known.absence_ms) = (NodeState::Draining, Some(absence_ms))))
}

fn replace(ring: &RingMap, seen: &Seen, old: NodeId, new: NodeId) -> Result<Option<RingMap>, VerbRefusal> {
    if ring.was_removed(old) {
        return Ok(None);
    }
    known(ring, old)?;
    let heir = known(ring, new)?;
    let slot = heir.slot;
    let begun = |known: &RingNode| known.id == old.0 && known.heir == Some(slot);
    if ring.nodes.iter().any(begun) {
        return Ok(None);
    }
    let no_heir = |why| Err(VerbRefusal::NoHeir { node: new, why });
    if old == new {
        return no_heir("it is the same node");
    }
    if heir.state != NodeState::Up || heir.down {
        return no_heir("it is down, drained or being removed");
    }
    if ring.nodes.iter().any(|known| known.heir == Some(slot)) {
        return no_heir("it takes another node's place");
    }
    let next = ring.with_node(old, |known| {
        (known.state, known.absence_ms, known.heir) = (NodeState::Removing, None, Some(slot));
    });
    let next = next.map_err(|_| VerbRefusal::UnknownNode(old))?;
    admit_going(ring, seen, old, &next, false)?;
    Ok(Some(next))
}

fn set(ring: &RingMap, node: NodeId, zone: Option<&str>, weight: Option<u32>) -> Result<Option<RingMap>, VerbRefusal> {
    known(ring, node)?;
    within("the weight", weight.unwrap_or(1).into(), 1, NODE_WEIGHT_MAX.into())?;
    if let Some(zone) = zone.filter(|zone| zone.len() > NAME_BYTES_MAX) {
        let why = "a zone has at most 255 bytes";
        return Err(VerbRefusal::Unusable { what: "the zone", value: zone.to_owned(), why });
    }
    changed(ring.with_node(node, |known| {
        known.weight = weight.unwrap_or(known.weight);
        zone.iter().for_each(|zone| known.zone = (*zone).to_owned());
    }))
}

fn finalize(ring: &RingMap, seen: &Seen) -> Result<Option<RingMap>, VerbRefusal> {
    if let Some(level) = seen.level_of_all(ring).filter(|level| *level > ring.level) {
        return Ok(Some(ring.with_level(level)));
    }
    // It is done, unless the leader itself could do more than all others.
    if seen.levels.max <= ring.level {
        return Ok(None);
    }
    let speaks_more = |node: NodeId| {
        node == seen.me || seen.peers.get(&node).is_some_and(|presence| presence.levels.max > ring.level)
    };
    let older = ring.nodes.iter().filter(|known| !speaks_more(NodeId(known.id))).map(|known| known.name.clone());
    Err(VerbRefusal::OlderNodes(older.collect()))
}

/// Over how many zones the replicas of a shard can be spread.
fn zones(ring: &RingMap) -> usize {
    let up = ring.nodes.iter().filter(|node| node.state != NodeState::Removing);
    let zones: BTreeSet<&str> = up.map(RingNode::zone).collect();
    zones.len().min(ring.replication_factor.into())
}
