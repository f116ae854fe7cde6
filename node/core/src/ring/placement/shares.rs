//! How many replicas each node should hold: by weight, as far as a node can use it and zones allow it.

use super::table::{Sites, Table};

/// What each node should hold: its share, rounded down and up. A node that may not receive should hold what it has.
pub(super) struct FairShares {
    least: Vec<usize>,
    most: Vec<usize>,
}

impl FairShares {
    /// Shares what is not on nodes that may not receive among those that may.
    ///
    /// No node holds a shard twice. With zones enough, no zone does either: where its weight would have it hold more
    /// than each shard once, the rest goes to the others. With fewer zones than replicas, each zone holds each shard
    /// at least once, and a zone whose weight would give it less takes from the others. Both are water-filling: who is
    /// at a bound is set aside, and the rest is shared again, until nobody else meets a bound.
    ///
    /// Cost: O(nodes²) at worst, O(nodes) while weights are alike.
    pub(super) fn new(sites: &Sites, table: &Table<'_>, replicas: usize) -> Self {
        let shards = table.shards() as u64;
        let mut zones: Vec<Zone> = (0..sites.count()).map(|_| Zone { weight: 0, room: shards }).collect();
        let mut total = shards * replicas as u64;
        let (mut least, mut most): (Vec<usize>, Vec<usize>) =
            (0..sites.count() as u16).map(|node| (table.load(node), table.load(node))).unzip();
        for node in 0..sites.count() as u16 {
            let zone = &mut zones[usize::from(sites.zone(node))];
            if sites.receives(node) {
                zone.weight += sites.weight(node);
            } else {
                let fixed = table.load(node) as u64;
                zone.room = zone.room.saturating_sub(fixed);
                total -= fixed;
            }
        }
        let rates = rates(sites, &zones, total, shards);
        for node in sites.receivers() {
            let Rate { amount, weight } = rates[usize::from(node)];
            let product = amount * sites.weight(node);
            least[usize::from(node)] = (product / weight) as usize;
            most[usize::from(node)] = product.div_ceil(weight) as usize;
        }
        Self { least, most }
    }

    /// A node's share, rounded down.
    pub(super) fn least(&self, node: u16) -> usize {
        self.least[usize::from(node)]
    }

    /// A node's share, rounded up.
    pub(super) fn most(&self, node: u16) -> usize {
        self.most[usize::from(node)]
    }
}

/// The nodes of a zone that may receive.
struct Zone {
    /// What they weigh together; 0 if there are none, and for numbers that are no zone's.
    weight: u64,
    /// How many shards have no replica in this zone that must stay, at least.
    room: u64,
}

/// Replicas per weight: `amount` for each `weight`.
#[derive(Clone, Copy)]
struct Rate {
    amount: u64,
    weight: u64,
}

impl Rate {
    /// Whether `weight` at this rate is more than `bound`. Doesn't overflow: amounts are below 2¹⁶, weights below 2⁴².
    fn exceeds(self, weight: u64, bound: u64) -> bool {
        self.amount * weight > bound * self.weight
    }
}

/// The rate at which each node that may receive takes replicas, by the node's position.
fn rates(sites: &Sites, zones: &[Zone], total: u64, shards: u64) -> Vec<Rate> {
    let bounds: Vec<(u64, u64)> =
        zones.iter().map(|zone| (zone.weight, if zone.weight == 0 { 0 } else { zone.room })).collect();
    if bounds.iter().map(|(_, room)| room).sum::<u64>() < total {
        return rates_with_floors(sites, zones, total, shards);
    }
    let of_zone = pour(total, &bounds);
    (0..sites.count() as u16).map(|node| of_zone[usize::from(sites.zone(node))]).collect()
}

/// As [`rates`], for fewer zones than replicas.
fn rates_with_floors(sites: &Sites, zones: &[Zone], total: u64, shards: u64) -> Vec<Rate> {
    let mut at_floor = vec![false; zones.len()];
    loop {
        let floors = zones.iter().zip(&at_floor).filter(|(zone, at_floor)| **at_floor && zone.weight > 0);
        let rest = total.saturating_sub(floors.map(|(zone, _)| zone.room).sum());
        let bounds: Vec<(u64, u64)> = (0..sites.count() as u16)
            .map(|node| match sites.receives(node) && !at_floor[usize::from(sites.zone(node))] {
                true => (sites.weight(node), shards),
                false => (0, 0),
            })
            .collect();
        let mut of_node = pour(rest, &bounds);
        let sinking: Vec<usize> = (0..zones.len())
            .filter(|&zone| zones[zone].weight > 0 && !at_floor[zone])
            .filter(|&zone| is_below(sites, zone, &of_node, zones[zone].room))
            .collect();
        if sinking.is_empty() {
            for node in sites.receivers() {
                let zone = usize::from(sites.zone(node));
                if at_floor[zone] {
                    of_node[usize::from(node)] = Rate { amount: zones[zone].room, weight: zones[zone].weight };
                }
            }
            return of_node;
        }
        sinking.into_iter().for_each(|zone| at_floor[zone] = true);
    }
}

/// Whether the nodes of a zone take less than `floor` together.
fn is_below(sites: &Sites, zone: usize, of_node: &[Rate], floor: u64) -> bool {
    // Nodes at their bound have a rate of their own, and take a whole number. All others have one in common.
    let (mut whole, mut common) = (0, None);
    for node in sites.receivers().filter(|&node| usize::from(sites.zone(node)) == zone) {
        let rate = of_node[usize::from(node)];
        match rate.weight == sites.weight(node) {
            true => whole += rate.amount,
            false => common.get_or_insert((rate, 0)).1 += sites.weight(node),
        }
    }
    match common {
        Some((rate, weight)) => whole < floor && rate.amount * weight < (floor - whole) * rate.weight,
        None => whole < floor,
    }
}

/// Shares `total` by weight among parts that each have a bound. `bounds` has weights and bounds; the result has rates: of
/// those at their bound their own, of all others the same. Who weighs nothing gets nothing.
fn pour(total: u64, bounds: &[(u64, u64)]) -> Vec<Rate> {
    let mut is_full = vec![false; bounds.len()];
    loop {
        let parts = || bounds.iter().zip(&is_full);
        let full: u64 = parts().filter(|(_, is_full)| **is_full).map(|((_, bound), _)| bound).sum();
        let weight = parts().filter(|(_, is_full)| !**is_full).map(|((weight, _), _)| weight).sum();
        let common = Rate { amount: total.saturating_sub(full), weight };
        let overflowing: Vec<usize> = (0..bounds.len())
            .filter(|&part| !is_full[part] && common.exceeds(bounds[part].0, bounds[part].1))
            .collect();
        if overflowing.is_empty() {
            return parts()
                .map(|(&(weight, bound), &is_full)| if is_full { Rate { amount: bound, weight } } else { common })
                .collect();
        }
        overflowing.into_iter().for_each(|part| is_full[part] = true);
    }
}
