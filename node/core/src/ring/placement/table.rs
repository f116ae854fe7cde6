//! A placement that is being made: who holds what, and what each move would do to a shard's zones.

use super::Candidate;
use std::collections::BTreeMap;

/// What a placement needs to know of the nodes, by position. A zone is the number of the first node that lies in it.
pub(super) struct Sites {
    sites: Vec<Site>,
}

struct Site {
    zone: u16,
    weight: u32,
    leads: u32,
    eligible: bool,
    receives: bool,
}

impl Sites {
    pub(super) fn new(nodes: &[Candidate<'_>]) -> Self {
        let mut zones = BTreeMap::new();
        let sites = (0..).zip(nodes).map(|(position, node)| Site {
            zone: *zones.entry(node.zone).or_insert(position),
            weight: node.weight,
            leads: node.leads,
            eligible: node.eligible,
            receives: node.eligible && node.may_receive,
        });
        Self { sites: sites.collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.sites.len()
    }

    pub(super) fn zone(&self, node: u16) -> u16 {
        self.sites[usize::from(node)].zone
    }

    pub(super) fn weight(&self, node: u16) -> u64 {
        self.sites[usize::from(node)].weight.into()
    }

    /// How much a node leads, relative to the others.
    pub(super) fn leads(&self, node: u16) -> u64 {
        self.sites[usize::from(node)].leads.into()
    }

    /// Whether a node may take what it does not have. If not, what it has stays there.
    pub(super) fn receives(&self, node: u16) -> bool {
        self.sites[usize::from(node)].receives
    }

    /// The nodes that may take what they do not have.
    pub(super) fn receivers(&self) -> impl Iterator<Item = u16> {
        (0..).zip(&self.sites).filter(|(_, site)| site.receives).map(|(position, _)| position)
    }

    fn may_hold(&self, node: u16) -> bool {
        self.sites.get(usize::from(node)).is_some_and(|site| site.eligible)
    }
}

/// How much a node has for its weight, to be compared with others.
pub(super) fn weighted(count: usize, weight: u64) -> u64 {
    ((count as u64) << 32) / weight
}

/// Who holds what. Begins with all that eligible nodes held before.
pub(super) struct Table<'a> {
    sites: &'a Sites,
    previous: &'a [Vec<u16>],
    /// The nodes of each shard.
    holders: Vec<Vec<u16>>,
    /// The shards of each node.
    held: Vec<Vec<u16>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(sites: &'a Sites, shards: usize, previous: &'a [Vec<u16>]) -> Self {
        let (holders, held) = (vec![Vec::new(); shards], vec![Vec::new(); sites.count()]);
        let mut table = Self { sites, previous, holders, held };
        for (shard, before) in previous.iter().enumerate().take(shards) {
            for &node in before {
                if sites.may_hold(node) && !table.holds(shard, node) {
                    table.add(shard, node);
                }
            }
        }
        table
    }

    pub(super) fn sites(&self) -> &'a Sites {
        self.sites
    }

    pub(super) fn shards(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn holders(&self, shard: usize) -> &[u16] {
        &self.holders[shard]
    }

    pub(super) fn holders_mut(&mut self, shard: usize) -> &mut [u16] {
        &mut self.holders[shard]
    }

    pub(super) fn into_holders(self) -> Vec<Vec<u16>> {
        self.holders
    }

    pub(super) fn holds(&self, shard: usize, node: u16) -> bool {
        self.holders[shard].contains(&node)
    }

    /// Who should have led a shard so far, if it still holds it.
    pub(super) fn leader_before(&self, shard: usize) -> Option<u16> {
        let first = *self.previous.get(shard)?.first()?;
        self.holds(shard, first).then_some(first)
    }

    /// Whether a node held a shard before this placement: a replica there costs nothing.
    pub(super) fn was_on(&self, shard: usize, node: u16) -> bool {
        self.previous.get(shard).is_some_and(|before| before.contains(&node))
    }

    /// How many replicas a node holds.
    pub(super) fn load(&self, node: u16) -> usize {
        self.held[usize::from(node)].len()
    }

    pub(super) fn weighted_load(&self, node: u16) -> u64 {
        weighted(self.load(node), self.sites.weight(node))
    }

    /// How many of a shard's replicas are in the zone of a node.
    pub(super) fn in_zone_of(&self, shard: usize, node: u16) -> usize {
        let zone = self.sites.zone(node);
        self.holders[shard].iter().filter(|&&holder| self.sites.zone(holder) == zone).count()
    }

    /// How many zones a shard is in.
    pub(super) fn zones_of(&self, shard: usize) -> usize {
        let holders = &self.holders[shard];
        let is_first = |at: usize| {
            let zone = self.sites.zone(holders[at]);
            holders[..at].iter().all(|&other| self.sites.zone(other) != zone)
        };
        (0..holders.len()).filter(|&at| is_first(at)).count()
    }

    /// Whether a node may give its replica of a shard to another one that has none, without giving up a zone.
    pub(super) fn may_move(&self, shard: usize, from: u16, to: u16) -> bool {
        let is_same_zone = || self.sites.zone(from) == self.sites.zone(to);
        !self.holds(shard, to)
            && (is_same_zone() || self.in_zone_of(shard, to) == 0 || self.in_zone_of(shard, from) > 1)
    }

    /// The shards that a node may give to another one.
    pub(super) fn movable(&self, from: u16, to: u16) -> impl Iterator<Item = usize> {
        self.held_by(from).filter(move |&shard| self.may_move(shard, from, to))
    }

    /// The shards of a node that are not on the same nodes as before.
    pub(super) fn changed(&self, node: u16) -> impl Iterator<Item = usize> {
        self.held_by(node).filter(|&shard| {
            let before = self.previous.get(shard).map_or(&[][..], Vec::as_slice);
            before.len() != self.holders[shard].len() || before.iter().any(|&node| !self.holds(shard, node))
        })
    }

    fn held_by(&self, node: u16) -> impl Iterator<Item = usize> {
        self.held[usize::from(node)].iter().map(|&shard| usize::from(shard))
    }

    pub(super) fn add(&mut self, shard: usize, node: u16) {
        self.holders[shard].push(node);
        self.held[usize::from(node)].push(shard as u16);
    }

    pub(super) fn remove(&mut self, shard: usize, node: u16) {
        self.holders[shard].retain(|&holder| holder != node);
        self.held[usize::from(node)].retain(|&held| usize::from(held) != shard);
    }

    /// Has `to` hold a shard in the place of `from`.
    pub(super) fn replace(&mut self, shard: usize, from: u16, to: u16) {
        let place = self.holders[shard].iter_mut().find(|node| **node == from);
        *place.expect("who gives a replica holds it") = to;
        self.held[usize::from(from)].retain(|&held| usize::from(held) != shard);
        self.held[usize::from(to)].push(shard as u16);
    }
}
