//! Who should lead each shard: its first replica.
//!
//! An assignment of shards to holders whose counts are as even as they can be is an optimal semi-matching: one without a
//! path of handed-over shards that evens out the counts of its ends (Harvey, Ladner, Lovász and Tamir, "Semi-matchings
//! for bipartite graphs and load balancing", 2006). Such paths are looked for, the shortest first, until there are none.

use super::table::{Table, weighted};
use std::cmp::Reverse;
use std::collections::VecDeque;

/// Puts the holder that should lead first. It is the one before where that is balanced, by weight. A node that may not
/// receive goes on leading what it led. It comes to lead another shard only if nobody else holds it.
pub(super) fn choose(table: &mut Table<'_>) {
    let mut leaders = Leaders::new(table);
    while leaders.even_out(table) {}
    for (shard, &leader) in leaders.of_shard.iter().enumerate() {
        let holders = table.holders_mut(shard);
        let at = holders.iter().position(|&node| node == leader).expect("a leader holds its shard");
        holders[..=at].rotate_right(1);
    }
}

/// Who leads what.
struct Leaders {
    of_shard: Vec<u16>,
    /// The shards that each node leads.
    led: Vec<Vec<u16>>,
}

impl Leaders {
    /// Those before where they still hold the shard, and for each other shard the holder that leads least.
    fn new(table: &Table<'_>) -> Self {
        let before: Vec<Option<u16>> = (0..table.shards()).map(|shard| table.leader_before(shard)).collect();
        let mut leaders = Self { of_shard: vec![0; table.shards()], led: vec![Vec::new(); table.sites().count()] };
        for (shard, leader) in before.iter().enumerate() {
            leader.iter().for_each(|&leader| leaders.begin(shard, leader));
        }
        for shard in (0..table.shards()).filter(|&shard| before[shard].is_none()) {
            let holders = table.holders(shard).iter().copied();
            // A replica that is new must catch up before it can lead.
            let next = holders.min_by_key(|&node| {
                let led = weighted(leaders.count(node), table.sites().leads(node));
                (!table.sites().receives(node), led, !table.was_on(shard, node))
            });
            leaders.begin(shard, next.expect("each shard has a holder"));
        }
        leaders
    }

    fn count(&self, node: u16) -> usize {
        self.led[usize::from(node)].len()
    }

    fn begin(&mut self, shard: usize, leader: u16) {
        self.of_shard[shard] = leader;
        self.led[usize::from(leader)].push(shard as u16);
    }

    /// Hands shards over along paths from each node, the most loaded first, while that narrows the gap between a path's
    /// ends; whether there was any. Each path lowers the larger of two counts, so they come to an end.
    fn even_out(&mut self, table: &Table<'_>) -> bool {
        let mut sources: Vec<u16> = table.sites().receivers().collect();
        sources.sort_by_key(|&node| Reverse(weighted(self.count(node), table.sites().leads(node))));
        let mut has_moved = false;
        for source in sources {
            while let Some(path) = self.shortest_path(table, source) {
                path.into_iter().for_each(|(shard, leader)| {
                    let before = usize::from(self.of_shard[shard]);
                    self.led[before].retain(|&led| usize::from(led) != shard);
                    self.begin(shard, leader);
                });
                has_moved = true;
            }
        }
        has_moved
    }

    /// Shards and their next leaders: a shortest path from a node to one that leads less for its weight even with one
    /// more. Of several as near, the one that leads least.
    fn shortest_path(&self, table: &Table<'_>, source: u16) -> Option<Vec<(usize, u16)>> {
        let sites = table.sites();
        let leads_less = |node: u16| {
            (self.count(node) as u64 + 1) * sites.leads(source) < self.count(source) as u64 * sites.leads(node)
        };
        // How far a node is, and the shard and node by which it was reached.
        let mut reached: Vec<Option<(usize, usize, u16)>> = vec![None; sites.count()];
        let mut best: Option<(usize, u64, u16)> = None;
        let mut queue = VecDeque::from([(0, source)]);
        while let Some((distance, from)) = queue.pop_front() {
            if best.is_some_and(|(nearest, ..)| nearest <= distance) {
                break;
            }
            for &shard in &self.led[usize::from(from)] {
                for &to in table.holders(usize::from(shard)) {
                    if to == source || !sites.receives(to) || reached[usize::from(to)].is_some() {
                        continue;
                    }
                    reached[usize::from(to)] = Some((distance + 1, usize::from(shard), from));
                    queue.push_back((distance + 1, to));
                    if leads_less(to) {
                        let found = (distance + 1, weighted(self.count(to) + 1, sites.leads(to)), to);
                        best = Some(best.map_or(found, |best| best.min(found)));
                    }
                }
            }
        }
        let (.., end) = best?;
        let steps = std::iter::successors(Some(end), |&node| reached[usize::from(node)].map(|(.., from)| from));
        Some(steps.filter_map(|node| reached[usize::from(node)].map(|(_, shard, _)| (shard, node))).collect())
    }
}
