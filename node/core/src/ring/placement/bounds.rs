//! How much a placement moves, and how little any could.

use super::shares::FairShares;
use super::table::Table;
use super::{Candidate, checked, keep};
use std::collections::BTreeSet;

/// Replicas of `next` on nodes that did not hold their shard in `previous`: copies that have to be made. Of a new
/// cluster these are all.
///
/// Cost: O(shards × replicas²).
pub fn moves(previous: &[Vec<u16>], next: &[Vec<u16>]) -> usize {
    let before = |shard: usize| previous.get(shard).map_or(&[][..], Vec::as_slice);
    let is_new = |shard: usize| move |node: &&u16| !before(shard).contains(node);
    next.iter().enumerate().map(|(shard, holders)| holders.iter().filter(is_new(shard)).count()).sum()
}

/// A number of moves that no placement can do without that has each shard in as many zones as it can be in, and each
/// node at its share, rounded down or up. 0 if there is no placement.
///
/// It is the larger of two bounds. By shard: each replica that it lacks is a move, and so is each zone that it must gain;
/// one move can be both. By node: of what it holds no more than its share stays. The second doesn't count while a node
/// that may not receive holds something, because then shares need not be reached.
///
/// Cost: O(shards × (nodes + replicas²) + nodes²).
pub fn least_moves(nodes: &[Candidate<'_>], shards: u16, replication_factor: u8, previous: &[Vec<u16>]) -> usize {
    let Ok(sites) = checked(nodes, shards, replication_factor) else { return 0 };
    let Ok(kept) = keep(&sites, shards, replication_factor, previous) else { return 0 };
    let replicas = usize::from(replication_factor);
    let all = Table::new(&sites, usize::from(shards), previous);
    let by_shard = (0..kept.shards()).map(|shard| least_of_shard(&all, shard, replicas)).sum();
    let must_stay = (0..sites.count() as u16).any(|node| !sites.receives(node) && kept.load(node) > 0);
    if must_stay {
        by_shard
    } else {
        by_shard.max(least_by_node(&all, &FairShares::new(&sites, &kept, replicas), replicas))
    }
}

/// How many replicas of a shard must move, whatever happens to others. `all` also has replicas that are too many.
fn least_of_shard(all: &Table<'_>, shard: usize, replicas: usize) -> usize {
    let sites = all.sites();
    let holders = all.holders(shard);
    // Of too many any may go, so there is no telling which zones stay.
    let Some(missing) = replicas.checked_sub(holders.len()) else { return 0 };
    let fixed: Vec<u16> = holders.iter().copied().filter(|&node| !sites.receives(node)).collect();
    let fixed_zones: BTreeSet<u16> = fixed.iter().map(|&node| sites.zone(node)).collect();
    let other_zones: BTreeSet<u16> =
        sites.receivers().map(|node| sites.zone(node)).filter(|zone| !fixed_zones.contains(zone)).collect();
    let zones_max = fixed_zones.len() + other_zones.len().min(replicas - fixed.len());
    missing.max(zones_max - all.zones_of(shard).min(zones_max))
}

/// How many replicas must move for each node to have its share: those that can't stay where they are.
fn least_by_node(all: &Table<'_>, shares: &FairShares, replicas: usize) -> usize {
    let total = all.shards() * replicas;
    let receivers = || all.sites().receivers();
    let least: usize = receivers().map(|node| shares.least(node)).sum();
    let at_least: usize = receivers().map(|node| all.load(node).min(shares.least(node))).sum();
    // As many nodes as there are replicas left over have their share rounded up.
    let above = receivers().filter(|&node| all.load(node).min(shares.most(node)) > shares.least(node)).count();
    let staying = at_least + above.min(total - least);
    total - staying
}
