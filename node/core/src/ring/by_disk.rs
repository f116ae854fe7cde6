//! How much a node takes by the size of its disk. Counting replicas alone fills the small disks first (scylladb/scylladb#23042).
//!
//! Sizes stand in the map, so that a leader of `meta` that has not heard of all disks yet places nothing anew. Pure.

use super::decide::DiskOfNode;
use super::{NodeState, RingMap, RingNode};
use kvorum_protocol::NodeId;
use std::collections::BTreeMap;

/// The size of the median disk: sizes are counted in quarters of it.
pub(super) const MEDIAN: u32 = 4;
/// The largest disk counts as so many times the median at most: losing a node must not cost more than that.
const LARGEST: u32 = 16 * MEDIAN;
/// A quarter of the median, in thousandths of it.
const QUARTER: u128 = 250;
/// A size that is off by so many thousandths of the median is changed: one on the border between two quarters does not flap.
const OFF_MIN: u128 = 375;

impl RingNode {
    /// How much of the ring it takes, in quarters of what a node with the median disk does.
    pub fn share(&self) -> u32 {
        if self.weight == 1 { self.disk_quarters } else { self.weight.saturating_mul(MEDIAN) }
    }
}

/// The map with the sizes of disks as they are; `None` if it has them already, or if a node that is up has not told
/// how large its disk is.
pub(super) fn with_sizes(ring: &RingMap, disks: &BTreeMap<NodeId, DiskOfNode>) -> Option<RingMap> {
    let size = |node: &RingNode| {
        disks.get(&NodeId(node.id)).map(|disk| disk.room.total_bytes).filter(|bytes| (1..u64::MAX).contains(bytes))
    };
    let is_here = |node: &&RingNode| !node.down && node.state != NodeState::Removing;
    let mut sizes = ring.nodes.iter().filter(is_here).map(size).collect::<Option<Vec<u64>>>()?;
    sizes.sort_unstable();
    let median = u128::from(*sizes.get(sizes.len() / 2)?);
    let quarters = |node: &RingNode| -> u32 {
        let Some(bytes) = size(node) else { return node.disk_quarters };
        let thousandths = u128::from(bytes) * 1_000 / median;
        if thousandths.abs_diff(u128::from(node.disk_quarters) * QUARTER) < OFF_MIN {
            return node.disk_quarters;
        }
        u32::try_from((thousandths + QUARTER / 2) / QUARTER).unwrap_or(LARGEST).clamp(1, LARGEST)
    };
    // This is asked ten times a second, and a copy of a large map is not free.
    if ring.nodes.iter().all(|node| quarters(node) == node.disk_quarters) {
        return None;
    }
    let mut next = ring.next_epoch();
    next.nodes.iter_mut().for_each(|node| node.disk_quarters = quarters(node));
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::super::elastic_tests::{cluster, node};
    use super::*;
    use kvorum_protocol::report::DiskRoom;

    const GIB: u64 = 1 << 30;

    fn disks(sizes: &[(u128, u64)]) -> BTreeMap<NodeId, DiskOfNode> {
        let disk = |total_bytes| DiskOfNode { room: DiskRoom { free_bytes: total_bytes, total_bytes }, held_bytes: 0 };
        sizes.iter().map(|(number, gib)| (node(*number), disk(gib * GIB))).collect()
    }

    fn shares(ring: &RingMap) -> Vec<u32> {
        ring.nodes.iter().map(RingNode::share).collect()
    }

    #[test]
    fn a_disk_counts_beside_the_median() {
        let ring = cluster(3, 16);
        assert_eq!(with_sizes(&ring, &disks(&[(1, 100), (2, 100), (3, 100)])), None);
        assert_eq!(with_sizes(&ring, &disks(&[(1, 100), (2, 900)])), None, "one has not told");
        let next = with_sizes(&ring, &disks(&[(1, 50), (2, 100), (3, 400)])).unwrap();
        assert_eq!(shares(&next), [2, 4, 16]);
        assert_eq!(next.epoch, ring.epoch + 1);
        let huge = with_sizes(&ring, &disks(&[(1, 1), (2, 100), (3, 9_000)])).unwrap();
        assert_eq!(shares(&huge), [1, 4, 64], "a share has bounds");
    }

    #[test]
    fn a_size_near_a_border_does_not_flap() {
        let ring = cluster(3, 16);
        assert_eq!(with_sizes(&ring, &disks(&[(1, 130), (2, 100), (3, 70)])), None, "all near the median");
        let next = with_sizes(&ring, &disks(&[(1, 140), (2, 100), (3, 100)])).unwrap();
        assert_eq!(shares(&next), [6, 4, 4]);
        for size in [130, 140, 150, 160, 170] {
            assert_eq!(with_sizes(&next, &disks(&[(1, size), (2, 100), (3, 100)])), None, "{size}");
        }
    }

    #[test]
    fn a_weight_that_was_set_stands() {
        let ring = cluster(3, 16).with_node(node(3), |known| known.weight = 2).unwrap();
        let next = with_sizes(&ring, &disks(&[(1, 50), (2, 100), (3, 800)])).unwrap();
        assert_eq!(shares(&next), [2, 4, 8]);
    }
}
