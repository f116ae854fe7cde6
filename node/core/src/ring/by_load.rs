//! Who leads which shard, by what leading costs: one hand-over at a time from the node that is loaded most. Pure.
//!
//! It takes the place of balance by counts once shards cost something, and as soon as each one's cost is known. What a shard costs
//! stays with it. So a shard that costs more than all others together has its node for itself, and no hand-over can help more.

use super::decide::Seen;
use super::{NodeSlot, NodeState, RingMap, RingNode, ShardGroup};
use kvorum_protocol::report::ShardLoad;
use kvorum_protocol::{NodeId, ShardId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Below so many microseconds per second on the node that is loaded most, load is no reason for anything.
const LOADED_MIN: u64 = 50_000;
/// A node is overloaded above so many hundredths of the mean.
const OVERLOADED_PERCENT: u64 = 120;
/// The node that takes a shard stays below so many hundredths of the mean, or below what is left to the one that gives it: it must not
/// be the next to give it away.
const TAKER_PERCENT: u64 = 110;
/// A hand-over lowers the load of the node that is loaded most by so many hundredths at least.
const GAIN_PERCENT: u64 = 10;
/// A shard is handed over for its load once it was led for this long, in milliseconds: its cost is known then, and it rests as long.
const RESTS_MS: u32 = 60_000;
/// A node takes leaderships after it was heard for this long, in milliseconds.
const STEADY_MS: u64 = 30_000;

/// What leadership by load asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Balance {
    /// Too little is known, or too little is done: counts decide.
    Unknown,
    /// A node is away for a while, or a shard has another leader since a moment ago: this is no time to judge by.
    Waits,
    /// No hand-over would help.
    Even,
    /// This node should lead this shard.
    Lead {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeSlot,
    },
}

/// The next hand-over for the sake of load, if any. Cost: O(shards × replicas).
pub(super) fn balance(ring: &RingMap, seen: &Seen) -> Balance {
    let groups = || ring.group_ids().zip(ring.groups()).filter(|(shard, _)| *shard != ShardId::META);
    let wanted = |group: &ShardGroup| group.replicas.first().map(|held| held.node);
    let mut of_nodes: BTreeMap<NodeSlot, u64> =
        ring.nodes.iter().filter(|node| may_lead(node)).map(|node| (node.slot, 0)).collect();
    let mut is_known = true;
    for (shard, group) in groups() {
        match (wanted(group).and_then(|slot| of_nodes.get_mut(&slot)), seen.loads.get(&shard)) {
            (Some(sum), Some(load)) => *sum += u64::from(load.micros_per_second),
            _ => is_known = false,
        }
    }
    let Some((&heaviest, &most)) = of_nodes.iter().max_by_key(|(slot, load)| (**load, Reverse(**slot))) else {
        return Balance::Unknown;
    };
    if most < LOADED_MIN {
        return Balance::Unknown;
    }
    if !is_known || of_nodes.len() < ring.nodes.len() {
        return Balance::Waits;
    }
    let total: u64 = of_nodes.values().sum();
    let above_mean = |load: u64, percent: u64| load * 100 * of_nodes.len() as u64 > total * percent;
    if !above_mean(most, OVERLOADED_PERCENT) {
        return Balance::Even;
    }
    let mut best: Option<(u64, Reverse<NodeSlot>, ShardId, NodeSlot)> = None;
    for (shard, group) in groups().filter(|(_, group)| wanted(group) == Some(heaviest) && !group.is_moving()) {
        let Some(ShardLoad { micros_per_second, led_ms, .. }) = seen.loads.get(&shard).copied() else { continue };
        if led_ms < RESTS_MS {
            continue;
        }
        let cost = u64::from(micros_per_second);
        for held in group.replicas.iter().skip(1) {
            let Some(load) = of_nodes.get(&held.node) else { continue };
            let is_well = || seen.well_node_of(ring, shard, *held).is_some_and(|node| takes(seen, node));
            let gain = most - (most - cost).max(load + cost).min(most);
            let is_too_much = above_mean(load + cost, TAKER_PERCENT) && load + cost > most - cost;
            if is_too_much || gain * 100 < most * GAIN_PERCENT || !is_well() {
                continue;
            }
            let found = (gain, Reverse(held.node), shard, held.node);
            if best.is_none_or(|best| (found.0, found.1) > (best.0, best.1)) {
                best = Some(found);
            }
        }
    }
    best.map_or(Balance::Even, |(_, _, shard, node)| Balance::Lead { shard, node })
}

fn may_lead(node: &RingNode) -> bool {
    node.state == NodeState::Up && !node.down
}

fn takes(seen: &Seen, node: NodeId) -> bool {
    let is_steady = node == seen.me || seen.steady.get(&node).is_some_and(|ms| *ms >= STEADY_MS);
    is_steady && !seen.planned.contains(&node)
}

#[cfg(test)]
mod tests {
    use super::super::elastic_tests::{cluster, node, seen};
    use super::*;
    use proptest::prelude::*;

    /// All nodes were heard for long, and shards cost so much.
    fn loaded(ring: &RingMap, costs: &[u32]) -> Seen {
        let loads = (0..).map(ShardId).zip(costs);
        let load = |(shard, cost): (ShardId, &u32)| {
            (shard, ShardLoad { shard, micros_per_second: *cost, led_ms: 2 * RESTS_MS })
        };
        let steady = ring.nodes.iter().map(|known| (NodeId(known.id), 2 * STEADY_MS)).collect();
        Seen { loads: loads.map(load).collect(), steady, ..seen(ring, &[]) }
    }

    fn leader(ring: &RingMap, shard: u16) -> NodeSlot {
        ring.replicas(ShardId(shard))[0].node
    }

    fn of_nodes(ring: &RingMap, costs: &[u32]) -> BTreeMap<NodeSlot, u64> {
        let mut sums: BTreeMap<NodeSlot, u64> = ring.nodes.iter().map(|known| (known.slot, 0)).collect();
        for (shard, cost) in (0..).zip(costs) {
            *sums.get_mut(&leader(ring, shard)).unwrap() += u64::from(*cost);
        }
        sums
    }

    /// Hands over until nothing more helps. Returns the map and the number of hand-overs.
    fn come_to_rest(mut ring: RingMap, costs: &[u32]) -> (RingMap, usize) {
        for handed_over in 0..200 {
            match balance(&ring, &loaded(&ring, costs)) {
                Balance::Lead { shard, node } => ring = ring.with_leader(shard, node).unwrap(),
                Balance::Even | Balance::Unknown => return (ring, handed_over),
                other => panic!("{other:?}"),
            }
        }
        panic!("it does not come to rest");
    }

    #[test]
    fn shards_that_cost_are_spread() {
        let ring = cluster(3, 16);
        let first = leader(&ring, 0);
        let costs: Vec<u32> =
            (0..16).map(|shard| if leader(&ring, shard) == first { 150_000 } else { 2_000 }).collect();
        let (rested, handed_over) = come_to_rest(ring.clone(), &costs);
        let sums = of_nodes(&rested, &costs);
        let mean = sums.values().sum::<u64>() / 3;
        assert!(sums.values().all(|sum| sum * 100 <= mean * 120), "{sums:?}");
        assert!((2..=4).contains(&handed_over), "{handed_over}");
    }

    #[test]
    fn one_hot_shard_stays_and_the_others_leave_its_node() {
        let ring = cluster(3, 16);
        let mut costs = vec![20_000; 16];
        costs[0] = 900_000;
        let (rested, _) = come_to_rest(ring.clone(), &costs);
        assert_eq!(leader(&rested, 0), leader(&ring, 0), "it costs the same everywhere");
        let sums = of_nodes(&rested, &costs);
        assert!(sums[&leader(&ring, 0)] <= 1_020_000, "{sums:?}");
    }

    #[test]
    fn idle_shards_are_balanced_by_count() {
        let ring = cluster(3, 16);
        assert_eq!(balance(&ring, &loaded(&ring, &[1_000; 16])), Balance::Unknown);
        assert_eq!(balance(&ring, &seen(&ring, &[])), Balance::Unknown, "nothing is known");
    }

    #[test]
    fn nobody_judges_while_something_is_not_known() {
        let ring = cluster(3, 4);
        let costs = [400_000, 400_000, 10_000, 10_000];
        let first = |ring: RingMap, shard| ring.with_leader(ShardId(shard), NodeSlot(0)).unwrap_or(ring);
        let ring = first(first(ring, 0), 1);
        let all = loaded(&ring, &costs);
        assert!(matches!(balance(&ring, &all), Balance::Lead { .. }), "{:?}", balance(&ring, &all));
        let mut unknown = all.clone();
        unknown.loads.remove(&ShardId(3));
        assert_eq!(balance(&ring, &unknown), Balance::Waits);
        let drained = ring.with_state(node(3), NodeState::Draining).unwrap();
        assert_eq!(balance(&drained, &all), Balance::Waits);
        let mut rested = all.clone();
        rested.loads.values_mut().for_each(|load| load.led_ms = RESTS_MS - 1);
        assert_eq!(balance(&ring, &rested), Balance::Even, "each has just been handed over");
        let flapping = Seen { steady: BTreeMap::new(), ..all.clone() };
        let flapping = Seen { me: node(1), ..flapping };
        assert_eq!(balance(&ring, &flapping), Balance::Even, "node 1 leads both, and the others come and go");
    }

    proptest! {
        #[test]
        fn it_comes_to_rest_and_never_makes_the_most_loaded_worse(
            count in 3u128..9, costs in proptest::collection::vec(0u32..400_000, 32),
        ) {
            let ring = cluster(count, 32);
            let before = of_nodes(&ring, &costs);
            prop_assume!(before.values().max() >= Some(&LOADED_MIN));
            let (rested, handed_over) = come_to_rest(ring, &costs);
            let after = of_nodes(&rested, &costs);
            prop_assert!(after.values().max() <= before.values().max());
            prop_assert!(handed_over <= 32, "{}", handed_over);
        }
    }
}
