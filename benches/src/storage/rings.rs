//! What the ring map says, as the nodes keep it beside their data: who is where, what moves, and how little could.

use kvorum_core::folder::mirrored::copy_of;
use kvorum_core::map_keeper::RING_COPY;
use kvorum_core::ring::{
    Candidate, FIRST_REPLICAS_MAX, NodeState, RingMap, RingNode, ShardGroup, least_moves, meta_replication_factor,
    moves, place,
};
use std::fs;
use std::path::{Path, PathBuf};

/// The newest map that any of these data folders has. Nodes write while this reads, so there may be none for a moment.
pub(crate) fn newest<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> Option<RingMap> {
    folders.into_iter().filter_map(|folder| read(folder)).max_by_key(|ring| ring.epoch)
}

fn read(folder: &Path) -> Option<RingMap> {
    let read = |name: String| RingMap::from_copy(&fs::read(folder.join(format!("{name}.metadata"))).ok()?).ok();
    read(RING_COPY.to_owned()).or_else(|| read(copy_of(RING_COPY)))
}

/// How many replicas were made since the first placement: every move makes one, also one that is taken back.
pub(crate) fn made(ring: &RingMap) -> u64 {
    ring.replicas_made.max(FIRST_REPLICAS_MAX) - FIRST_REPLICAS_MAX
}

/// Whether these nodes, and no others, are the cluster, each holds its share, and nothing moves.
pub(crate) fn is_settled(ring: &RingMap, names: &[String]) -> bool {
    let known = |node: &RingNode| node.state == NodeState::Up && names.contains(&node.name);
    ring.nodes.len() == names.len() && ring.nodes.iter().all(known) && is_placed(ring, |_| true)
}

/// Whether no replica is on the node of this name, each of the others holds its share, and nothing moves.
pub(crate) fn is_whole_without(ring: &RingMap, name: &str) -> bool {
    let slot = ring.nodes.iter().find(|node| node.name == name).map(|node| node.slot);
    let holds = ring.groups().any(|group| group.held().any(|held| Some(held.node) == slot));
    !holds && is_placed(ring, |node| node.name != name)
}

/// How many replicas must be made at least once `joining` nodes have come and those of these names hold nothing any more.
pub(crate) fn least_made(ring: &RingMap, joining: usize, leaving: &[String]) -> usize {
    // Who has no zone is a zone of its own.
    let zones: Vec<String> = (0..joining).map(|number| format!("joins {number}")).collect();
    let joining = zones.iter().map(|zone| candidate(zone, true));
    let nodes: Vec<Candidate<'_>> =
        ring.nodes.iter().map(|node| candidate(node.zone(), !leaving.contains(&node.name))).chain(joining).collect();
    let of_meta = meta_factor(&nodes);
    let shards = ring.shards.len() as u16;
    least_moves(&nodes, shards, ring.replication_factor, &placement(ring, &ring.shards))
        + least_moves(&nodes, 1, of_meta, &placement(ring, std::slice::from_ref(&ring.meta)))
}

/// Whether nothing moves, and nothing would have to move for the nodes that may hold replicas to have their shares.
fn is_placed(ring: &RingMap, may_hold: impl Fn(&RingNode) -> bool) -> bool {
    let nodes: Vec<Candidate<'_>> = ring.nodes.iter().map(|node| candidate(node.zone(), may_hold(node))).collect();
    let of_meta = meta_factor(&nodes);
    let stays = |groups: &[ShardGroup], factor| {
        let before = placement(ring, groups);
        place(&nodes, groups.len() as u16, factor, &before).is_ok_and(|next| moves(&before, &next) == 0)
    };
    ring.groups().all(|group| !group.is_moving())
        && ring.meta.replicas.len() == usize::from(of_meta)
        && stays(&ring.shards, ring.replication_factor)
        && stays(std::slice::from_ref(&ring.meta), of_meta)
}

fn meta_factor(nodes: &[Candidate<'_>]) -> u8 {
    meta_replication_factor(nodes.iter().filter(|node| node.eligible).count())
}

fn candidate(zone: &str, may_hold: bool) -> Candidate<'_> {
    Candidate { zone, weight: 1, leads: 1, eligible: may_hold, may_receive: may_hold }
}

/// The positions of the nodes that hold each group.
fn placement(ring: &RingMap, groups: &[ShardGroup]) -> Vec<Vec<u16>> {
    let position = |held: &kvorum_core::ring::Holder| {
        ring.nodes.iter().position(|node| node.slot == held.node).map(|position| position as u16)
    };
    groups.iter().map(|group| group.replicas.iter().filter_map(position).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability};
    use uuid::Uuid;

    fn ring(nodes: u128) -> RingMap {
        let nodes = (1..=nodes).map(|number| RingNode::new(Uuid::from_u128(number), format!("node-{number}")));
        RingMap::initial(ClusterId(Uuid::nil()), Durability::Fsync, nodes.collect(), 16, 3).unwrap()
    }

    fn names(nodes: u16) -> Vec<String> {
        (1..=nodes).map(|number| format!("node-{number}")).collect()
    }

    #[test]
    fn a_new_cluster_is_settled_until_a_node_comes() {
        let mut ring = ring(3);
        assert!(is_settled(&ring, &names(3)) && !is_settled(&ring, &names(4)) && !is_settled(&ring, &names(2)));
        assert_eq!(made(&ring), 0);
        let new = RingNode { slot: kvorum_core::ring::NodeSlot(3), ..RingNode::new(Uuid::from_u128(4), "node-4") };
        ring.nodes.push(new);
        ring.slots_made += 1;
        assert!(!is_settled(&ring, &names(4)), "it has not got its share");
    }

    #[test]
    fn what_a_step_needs_at_least() {
        // 48 replicas: 12 of each of four nodes. `meta` stays where it is.
        assert_eq!(least_made(&ring(3), 1, &[]), 12);
        // 6 or 7 of each of seven nodes, and two more of `meta`.
        assert_eq!(least_made(&ring(4), 3, &[]), 20 + 2);
        // Three of four replicas are on the node that goes, and its replica of `meta` if it has one.
        let four = ring(4);
        let meta = four.meta.replicas.iter().filter(|held| held.node.0 == 3).count();
        assert_eq!(least_made(&four, 0, &["node-4".to_owned()]), 12 + meta);
    }
}
