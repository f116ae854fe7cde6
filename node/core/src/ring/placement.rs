//! Which nodes hold which shard: a pure function, so that every node, a simulator and an operator get the same answer.
//!
//! Balanced (no node holds more than its fair share rounded up, as far as zones allow), spread over zones, with the
//! first replicas (who should lead) balanced too, and moving as little as it can from a previous placement.

use super::RingNode;
use kvorum_protocol::limits::{REPLICAS_MAX, SHARDS_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// Why there is no placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More replicas than nodes.
    #[error("{replicas} replicas of each shard need as many nodes, there are {nodes}")]
    TooFewNodes {
        /// Replicas wanted.
        replicas: u8,
        /// Nodes there are.
        nodes: usize,
    },
    /// The numbers make no sense.
    #[error("shards must be a power of two up to {SHARDS_MAX}, replicas 1 to {REPLICAS_MAX}, weights at least 1")]
    OutOfRange,
}

/// For each shard the positions of the nodes that hold it, first the one that should lead. `previous` is the placement
/// so far (empty for a new cluster), by positions in the same list of nodes.
///
/// Cost: O(shards × replicas × nodes).
///
/// # Errors
/// See [`PlacementError`].
pub fn place(
    nodes: &[RingNode],
    shards: u16,
    replication_factor: u8,
    previous: &[Vec<u16>],
) -> Result<Vec<Vec<u16>>, PlacementError> {
    let replicas = usize::from(replication_factor);
    let sensible = shards.is_power_of_two()
        && usize::from(shards) <= SHARDS_MAX
        && (1..=REPLICAS_MAX).contains(&replicas)
        && nodes.iter().all(|node| node.weight >= 1);
    if !sensible {
        return Err(PlacementError::OutOfRange);
    }
    if nodes.len() < replicas {
        return Err(PlacementError::TooFewNodes { replicas: replication_factor, nodes: nodes.len() });
    }
    let caps = capacities(nodes, usize::from(shards), replicas);
    let mut load = vec![0_usize; nodes.len()];
    let mut placed: Vec<Vec<u16>> = vec![Vec::new(); usize::from(shards)];
    keep_previous(&mut placed, &mut load, previous, replicas);
    for (shard, holders) in placed.iter_mut().enumerate() {
        while holders.len() < replicas {
            let node = next_node(nodes, holders, &load, &caps, shard);
            load[usize::from(node)] += 1;
            holders.push(node);
        }
    }
    level(nodes, &mut placed, &mut load);
    choose_leaders(nodes, &mut placed);
    Ok(placed)
}

/// How many replicas each node holds at most: its share by weight, rounded up; never more than one per shard.
fn capacities(nodes: &[RingNode], shards: usize, replicas: usize) -> Vec<usize> {
    let total: usize = nodes.iter().map(|node| node.weight as usize).sum();
    nodes.iter().map(|node| (shards * replicas * node.weight as usize).div_ceil(total).min(shards)).collect()
}

/// Every replica stays where it is at first. Nodes that hold more than their share give some up in [`level`], where
/// each step is a single move to the node that needs it most.
fn keep_previous(placed: &mut [Vec<u16>], load: &mut [usize], previous: &[Vec<u16>], replicas: usize) {
    for (now, before) in placed.iter_mut().zip(previous) {
        for &node in before.iter().take(replicas) {
            let at = usize::from(node);
            if at < load.len() && !now.contains(&node) {
                load[at] += 1;
                now.push(node);
            }
        }
    }
}

/// The node that takes the next replica of a shard: one that holds none of it, in a zone that holds none if there is
/// one, with room below its share if there is one, then the least loaded for its weight. Ties turn with the shard, so
/// that a new cluster is dealt out round robin.
fn next_node(nodes: &[RingNode], holders: &[u16], load: &[usize], caps: &[usize], shard: usize) -> u16 {
    let zones: BTreeSet<&str> = holders.iter().map(|&holder| zone(nodes, usize::from(holder))).collect();
    (0..nodes.len())
        .filter(|&node| !holders.contains(&(node as u16)))
        .min_by_key(|&node| {
            let weighted_load = load[node] * 1_000_000 / nodes[node].weight as usize;
            let turn = (node + nodes.len() - shard % nodes.len()) % nodes.len();
            (zones.contains(zone(nodes, node)), load[node] >= caps[node], weighted_load, turn)
        })
        .expect("there are at least as many nodes as replicas") as u16
}

/// A node's zone; one without a name is a zone of its own.
fn zone(nodes: &[RingNode], node: usize) -> &str {
    let RingNode { zone, name, .. } = &nodes[node];
    if zone.is_empty() { name } else { zone }
}

/// Moves replicas from the most to the least loaded node while that narrows the gap and costs no zone.
fn level(nodes: &[RingNode], placed: &mut [Vec<u16>], load: &mut [usize]) {
    let share = |load: usize, node: usize| load * 1_000_000 / nodes[node].weight as usize;
    for _ in 0..placed.len() * nodes.len() {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|&node| (share(load[node], node), node));
        let pairs = order.iter().rev().flat_map(|&from| order.iter().map(move |&to| (from, to)));
        let step = pairs
            .filter(|&(from, to)| load[from] > 0 && share(load[to] + 1, to) < share(load[from], from))
            .find_map(|(from, to)| Some((movable(nodes, placed, from, to)?, from, to)));
        let Some((shard, from, to)) = step else { return };
        let slot = placed[shard].iter_mut().find(|node| usize::from(**node) == from);
        *slot.expect("the shard was found by its holder") = to as u16;
        load[from] -= 1;
        load[to] += 1;
    }
}

/// A shard whose replica can go from one node to another without giving up a zone.
fn movable(nodes: &[RingNode], placed: &[Vec<u16>], from: usize, to: usize) -> Option<usize> {
    placed.iter().position(|holders| {
        let holds = |node: usize| holders.contains(&(node as u16));
        let zones = |skip: usize, add: Option<usize>| {
            let kept = holders.iter().map(|&holder| usize::from(holder)).filter(|&holder| holder != skip);
            kept.chain(add).map(|node| zone(nodes, node)).collect::<BTreeSet<_>>().len()
        };
        holds(from) && !holds(to) && zones(from, Some(to)) >= zones(usize::MAX, None)
    })
}

/// Puts the holder that should lead first: as evenly as the holders allow.
fn choose_leaders(nodes: &[RingNode], placed: &mut [Vec<u16>]) {
    let mut leads: BTreeMap<u16, usize> = BTreeMap::new();
    for holders in placed.iter_mut() {
        let first = (0..holders.len())
            .min_by_key(|&at| {
                let led = leads.get(&holders[at]).copied().unwrap_or(0);
                (led * 1_000_000 / nodes[usize::from(holders[at])].weight as usize, at)
            })
            .expect("each shard has a holder");
        *leads.entry(holders[first]).or_default() += 1;
        holders[..=first].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::nodes;
    use super::*;
    use proptest::prelude::*;

    fn loads(placed: &[Vec<u16>], nodes: usize) -> Vec<usize> {
        let mut load = vec![0; nodes];
        placed.iter().flatten().for_each(|&node| load[usize::from(node)] += 1);
        load
    }

    #[test]
    fn three_nodes_hold_everything_and_share_the_lead() {
        let placed = place(&nodes(3), 16, 3, &[]).unwrap();
        assert_eq!(loads(&placed, 3), [16, 16, 16]);
        let mut leads: Vec<usize> = loads(&placed.iter().map(|holders| vec![holders[0]]).collect::<Vec<_>>(), 3);
        leads.sort_unstable();
        assert_eq!(leads, [5, 5, 6]);
    }

    #[test]
    fn replicas_spread_over_zones() {
        let mut six = nodes(6);
        for (position, node) in six.iter_mut().enumerate() {
            node.zone = ["a", "b", "c"][position / 2].into();
        }
        for holders in place(&six, 64, 3, &[]).unwrap() {
            let zones: BTreeSet<u16> = holders.iter().map(|holder| holder / 2).collect();
            assert_eq!(zones.len(), 3, "{holders:?}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert_eq!(place(&nodes(2), 8, 3, &[]), Err(PlacementError::TooFewNodes { replicas: 3, nodes: 2 }));
        assert_eq!(place(&nodes(3), 6, 3, &[]), Err(PlacementError::OutOfRange));
        assert_eq!(place(&nodes(3), 8, 0, &[]), Err(PlacementError::OutOfRange));
    }

    proptest! {
        #[test]
        fn balanced_within_one_shard_and_no_node_twice(count in 3_u128..12, bits in 0_u32..8) {
            let placed = place(&nodes(count), 1 << bits, 3, &[]).unwrap();
            for holders in &placed {
                prop_assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), 3);
            }
            let load = loads(&placed, count as usize);
            let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", load);
        }

        #[test]
        fn a_joining_node_takes_its_share_and_little_else_moves(count in 3_u128..10, bits in 2_u32..8) {
            let before = place(&nodes(count), 1 << bits, 3, &[]).unwrap();
            let after = place(&nodes(count + 1), 1 << bits, 3, &before).unwrap();
            let moved: usize = before
                .iter()
                .zip(&after)
                .map(|(before, after)| after.iter().filter(|node| !before.contains(node)).count())
                .sum();
            let share = (3_usize << bits).div_ceil(count as usize + 1);
            prop_assert!(moved <= share + 1, "{} moved, the new node's share is {}", moved, share);
            let load = loads(&after, count as usize + 1);
            prop_assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 1, "{:?}", load);
        }

        #[test]
        fn nothing_moves_when_nothing_changes(count in 3_u128..10, bits in 0_u32..8) {
            let before = place(&nodes(count), 1 << bits, 3, &[]).unwrap();
            let after = place(&nodes(count), 1 << bits, 3, &before).unwrap();
            let sorted = |placed: &[Vec<u16>]| placed
                .iter()
                .map(|holders| holders.iter().copied().collect::<BTreeSet<_>>())
                .collect::<Vec<_>>();
            prop_assert_eq!(sorted(&before), sorted(&after));
        }
    }
}
