//! Which nodes hold which shard: a pure function, so that every node, a simulator and an operator get the same answer.
//!
//! A placement is made in passes, each of which leaves alone what the ones before it have reached:
//!
//! 1. **keep**: each replica stays where it is, unless its node may hold none.
//! 2. **fill**: missing replicas go to a zone without one first, then to a node with room below its share.
//! 3. **repair zones**: a replica whose zone holds another one moves to a zone that holds none.
//! 4. **level**: replicas move from nodes above their share to nodes below it; no shard loses a zone ([`level`]).
//! 5. **leaders**: the first replica of each shard, who should lead, balanced by weight ([`leaders`]).
//!
//! What a node's share is, with weights and zones, is in [`shares`]. How little could have moved is in [`bounds`].

mod bounds;
mod leaders;
mod level;
mod shares;
mod table;
#[cfg(test)]
mod tests;

pub use bounds::{least_moves, moves};

use super::META_VOTERS_MAX;
use kvorum_protocol::limits::{NODES_MAX, REPLICAS_MAX, SHARDS_MAX};
use shares::FairShares;
use std::cmp::Reverse;
use table::{Sites, Table};

/// A node as a placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its failure zone. Who has none passes the node's name, and the node is a zone of its own.
    pub zone: &'a str,
    /// How much it takes, relative to the others; at least 1.
    pub weight: u32,
    /// How much of what it holds it leads, relative to the others; at least 1. Leading takes no room on a disk.
    pub leads: u32,
    /// Whether it may hold replicas at all. False while it is drained for removal, is down, or joins.
    pub eligible: bool,
    /// Whether it may take replicas, and leaderships, that it does not have yet. If false, what it has stays.
    pub may_receive: bool,
}

/// Why there is no placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More replicas than nodes that may hold them.
    #[error("{replicas} replicas of each shard need as many nodes, there are {nodes}")]
    TooFewNodes {
        /// Replicas wanted.
        replicas: u8,
        /// Nodes there are for the shard that has the fewest: those that may receive, and others that hold it already.
        nodes: usize,
    },
    /// The numbers make no sense.
    #[error(
        "shards must be a power of two up to {SHARDS_MAX}, replicas 1 to {REPLICAS_MAX}, nodes at most {NODES_MAX}, \
         weights at least 1"
    )]
    OutOfRange,
}

/// How many voters the `meta` group wants, given the nodes that may hold one: 5 from five on, else 3 from three on, else 1.
pub fn meta_replication_factor(eligible_nodes: usize) -> u8 {
    match eligible_nodes {
        0..3 => 1,
        3..META_VOTERS_MAX => 3,
        _ => META_VOTERS_MAX as u8,
    }
}

/// For each shard the positions of the nodes that hold it, first the one that should lead. `previous` is the placement
/// so far (empty for a new cluster), by positions in the same list of nodes. The `meta` group is placed as one shard.
///
/// Each shard is in as many zones as it can be: one per replica, else all. That comes before balance. If no node that
/// may not receive holds anything, each node has its share, rounded down or up. A share is by weight, but a zone has
/// one replica of a shard at most where there are zones enough, and one at least where there are not. Replicas on
/// nodes that may not receive stay put, and the others share what is left as well as they can. Only where fewer
/// replicas are wanted than before, some go, and those first.
///
/// Leaders are balanced by weight among those that may receive: no hand-over, nor a row of them, would narrow the gap
/// between two. Who leads goes on doing so where that allows it.
///
/// Nodes are known by position only: other names of nodes and zones change nothing. A placement that was made for the
/// same nodes comes back as it is.
///
/// Cost: O(shards × replicas × nodes) to fill. Each replica that is levelled costs a search, typically of what one node
/// holds, at worst O(nodes × shards × replicas²).
///
/// # Errors
/// See [`PlacementError`].
pub fn place(
    nodes: &[Candidate<'_>],
    shards: u16,
    replication_factor: u8,
    previous: &[Vec<u16>],
) -> Result<Vec<Vec<u16>>, PlacementError> {
    let sites = checked(nodes, shards, replication_factor)?;
    let mut table = keep(&sites, shards, replication_factor, previous)?;
    let shares = FairShares::new(&sites, &table, usize::from(replication_factor));
    fill(&mut table, &shares, usize::from(replication_factor));
    repair_zones(&mut table, &shares);
    level::level(&mut table, &shares);
    leaders::choose(&mut table);
    let placed = table.into_holders();
    assert!(placed.iter().all(|holders| holders.len() == usize::from(replication_factor)), "each replica has a node");
    Ok(placed)
}

/// The nodes, if all numbers make sense.
fn checked(nodes: &[Candidate<'_>], shards: u16, replication_factor: u8) -> Result<Sites, PlacementError> {
    let sensible = shards.is_power_of_two()
        && usize::from(shards) <= SHARDS_MAX
        && (1..=REPLICAS_MAX).contains(&usize::from(replication_factor))
        && nodes.len() <= NODES_MAX
        && nodes.iter().all(|node| node.weight >= 1 && node.leads >= 1);
    if sensible { Ok(Sites::new(nodes)) } else { Err(PlacementError::OutOfRange) }
}

/// What stands on eligible nodes, once it is sure that the rest can be placed.
fn keep<'a>(
    sites: &'a Sites,
    shards: u16,
    replication_factor: u8,
    previous: &'a [Vec<u16>],
) -> Result<Table<'a>, PlacementError> {
    let replicas = usize::from(replication_factor);
    let mut table = Table::new(sites, usize::from(shards), previous);
    for shard in 0..table.shards() {
        while table.holders(shard).len() > replicas {
            give_up_one(&mut table, shard);
        }
    }
    let receivers = sites.receivers().count();
    let nodes_for = |shard| receivers + table.holders(shard).iter().filter(|&&node| !sites.receives(node)).count();
    let fewest = (0..table.shards()).map(nodes_for).min().expect("a power of two is not 0");
    if fewest < replicas {
        return Err(PlacementError::TooFewNodes { replicas: replication_factor, nodes: fewest });
    }
    Ok(table)
}

/// Drops a replica too many: one that shares its zone if there is one, rather on a node that may not receive, then where
/// most is held. Of several alike the last goes, as the first one leads.
fn give_up_one(table: &mut Table<'_>, shard: usize) {
    let worst = table.holders(shard).iter().copied().enumerate().max_by_key(|&(at, node)| {
        let shares_zone = table.in_zone_of(shard, node) > 1;
        (shares_zone, !table.sites().receives(node), table.weighted_load(node), at)
    });
    let (_, node) = worst.expect("a shard with too many holders has one");
    table.remove(shard, node);
}

/// Gives each shard the replicas that it lacks.
fn fill(table: &mut Table<'_>, shares: &FairShares, replicas: usize) {
    for shard in 0..table.shards() {
        while table.holders(shard).len() < replicas {
            let node = next_node(table, shares, shard, |_| true);
            table.add(shard, node.expect("there are at least as many nodes as replicas"));
        }
    }
}

/// The node that takes the next replica of a shard: one that holds none of it, in a zone that holds none if there is
/// one, with room below its share if there is one, then the least loaded for its weight. Ties turn with the shard, so
/// that a new cluster is dealt out round robin.
fn next_node(table: &Table<'_>, shares: &FairShares, shard: usize, admits: impl Fn(u16) -> bool) -> Option<u16> {
    let count = table.sites().count();
    table.sites().receivers().filter(|&node| !table.holds(shard, node) && admits(node)).min_by_key(|&node| {
        let turn = (usize::from(node) + count - shard % count) % count;
        let is_full = table.load(node) >= shares.most(node);
        (table.in_zone_of(shard, node) > 0, is_full, table.weighted_load(node), turn)
    })
}

/// Moves replicas that share a zone with another one of their shard to zones that have none, while there are such.
fn repair_zones(table: &mut Table<'_>, shares: &FairShares) {
    for shard in 0..table.shards() {
        while let Some((from, to)) = zone_repair(table, shares, shard) {
            let before = table.zones_of(shard);
            table.replace(shard, from, to);
            assert!(table.zones_of(shard) > before, "a repair gains a zone");
        }
    }
}

/// A move that gains a shard a zone: rather of a replica that was placed just now, which costs nothing, then from where
/// most is held, then of one that didn't lead.
fn zone_repair(table: &Table<'_>, shares: &FairShares, shard: usize) -> Option<(u16, u16)> {
    let spare = table
        .holders(shard)
        .iter()
        .copied()
        .filter(|&node| table.sites().receives(node) && table.in_zone_of(shard, node) > 1);
    let from = spare.min_by_key(|&node| {
        let led = table.leader_before(shard) == Some(node);
        (table.was_on(shard, node), Reverse(table.weighted_load(node)), led)
    })?;
    let to = next_node(table, shares, shard, |node| table.in_zone_of(shard, node) == 0)?;
    Some((from, to))
}
