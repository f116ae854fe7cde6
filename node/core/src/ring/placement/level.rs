//! Moves replicas from nodes above their share to nodes below it.
//!
//! A placement without its balance is a flow from shards to nodes, and evening it out is to push flow along augmenting
//! paths (Ford and Fulkerson, 1956; the shortest first, Edmonds and Karp, 1972). Here a path leads over nodes: each hands a
//! replica to the next, of which only the first ends with one less and only the last with one more. Nearly all paths
//! have one step. Longer ones are for nodes that hold the same shards or are in the same zones.
//!
//! A shard may move at two steps of a path, and lose no zone by the two together. Suppose that it did. Then its replica at
//! the first of the two could have gone where the second one ends, and the path would not be a shortest one.

use super::shares::FairShares;
use super::table::Table;
use std::cmp::Reverse;
use std::collections::VecDeque;

/// Moves as few replicas as it can, until each node has its share, rounded down or up, or nothing more can be moved
/// without giving up a zone.
///
/// Ends because each path brings some node closer to its share and none further away.
pub(super) fn level(table: &mut Table<'_>, shares: &FairShares) {
    let is_over = |table: &Table<'_>, node| table.load(node) > shares.most(node);
    let could_give = |table: &Table<'_>, node| table.load(node) > shares.least(node);
    let could_take = |table: &Table<'_>, node| table.load(node) < shares.most(node);
    let is_under = |table: &Table<'_>, node| table.load(node) < shares.least(node);
    // The first kind mends two nodes at once.
    loop {
        let steps = push_all(table, is_over, is_under)
            + push_all(table, is_over, could_take)
            + push_all(table, could_give, is_under);
        if steps == 0 {
            return;
        }
    }
}

/// Pushes replicas from nodes that give to nodes that take, while there is a way; how often it did. First by moves that
/// cost nothing.
fn push_all(
    table: &mut Table<'_>,
    gives: impl Fn(&Table<'_>, u16) -> bool,
    takes: impl Fn(&Table<'_>, u16) -> bool,
) -> usize {
    let mut steps = 0;
    while let Some((shard, from, to)) = free_move(table, |node| gives(table, node), |node| takes(table, node)) {
        table.replace(shard, from, to);
        steps += 1;
    }
    while let Some(path) = shortest_path(table, |node| gives(table, node), |node| takes(table, node)) {
        // All are chosen before any is made: that no two of them are in each other's way is true of the table as it is now.
        let chosen: Vec<usize> = path.windows(2).map(|pair| cheapest(table, pair[0], pair[1])).collect();
        for (pair, shard) in path.windows(2).zip(chosen).rev() {
            let before = table.zones_of(shard);
            table.replace(shard, pair[0], pair[1]);
            assert!(table.zones_of(shard) >= before, "levelling costs no zone");
        }
        steps += 1;
    }
    steps
}

/// A move of a replica that was placed just now, or back to where it was: there is nothing to copy.
fn free_move(table: &Table<'_>, gives: impl Fn(u16) -> bool, takes: impl Fn(u16) -> bool) -> Option<(usize, u16, u16)> {
    let givers = table.sites().receivers().filter(|&from| gives(from));
    let mut candidates = givers.flat_map(|from| table.changed(from).map(move |shard| (shard, from)));
    candidates.find_map(|(shard, from)| {
        let is_free = |to: u16| !table.was_on(shard, from) || table.was_on(shard, to);
        let takers =
            table.sites().receivers().filter(|&to| takes(to) && is_free(to) && table.may_move(shard, from, to));
        let to = takers.min_by_key(|&to| table.weighted_load(to))?;
        Some((shard, from, to))
    })
}

/// The shard to move from one node to the next on a path: of those that may move rather one that was placed just now, then
/// one that comes back to where it was, as neither costs anything; then one that `from` didn't lead.
fn cheapest(table: &Table<'_>, from: u16, to: u16) -> usize {
    let shards = table.movable(from, to);
    let cheapest = shards.min_by_key(|&shard| {
        let led = table.leader_before(shard) == Some(from);
        (table.was_on(shard, from), !table.was_on(shard, to), led)
    });
    cheapest.expect("a path has a step only where a shard may move")
}

/// A shortest way from a node that gives to one that takes, as the nodes on it. Begins at those with most for their
/// weight, and looks at those with least first.
fn shortest_path(table: &Table<'_>, gives: impl Fn(u16) -> bool, takes: impl Fn(u16) -> bool) -> Option<Vec<u16>> {
    let (mut sources, mut unseen): (Vec<u16>, Vec<u16>) = table.sites().receivers().partition(|&node| gives(node));
    if sources.is_empty() || !unseen.iter().any(|&node| takes(node)) {
        return None;
    }
    sources.sort_by_key(|&node| Reverse(table.weighted_load(node)));
    unseen.sort_by_key(|&node| (!takes(node), table.weighted_load(node)));
    let mut came_from: Vec<Option<u16>> = vec![None; table.sites().count()];
    let mut queue = VecDeque::from(sources);
    while let Some(from) = queue.pop_front() {
        let mut left = Vec::with_capacity(unseen.len());
        for to in unseen {
            if table.movable(from, to).next().is_none() {
                left.push(to);
                continue;
            }
            came_from[usize::from(to)] = Some(from);
            if takes(to) {
                return Some(unwind(&came_from, to));
            }
            queue.push_back(to);
        }
        unseen = left;
    }
    None
}

/// The way to a node, from its beginning.
fn unwind(came_from: &[Option<u16>], end: u16) -> Vec<u16> {
    let mut path: Vec<u16> = std::iter::successors(Some(end), |&node| came_from[usize::from(node)]).collect();
    path.reverse();
    path
}
