//! Which keys a connection sends to its node: those of the shards that the node leads.

use crate::keys::KeySpace;
use kvorum_protocol::hash::{SLOTS, shard_of_slot};
use kvorum_protocol::{NodeId, Topology};
use rand::Rng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A topology and what follows from it. Never changes; the [`Router`] replaces it.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) topology: Topology,
    led: Vec<Led>,
}

/// The keys of the shards that one node leads, as ranges of positions in the [`KeySpace`].
#[derive(Debug, Default)]
struct Led {
    shards: Vec<u16>,
    starts: Vec<u32>,
    /// How many keys the ranges up to and including this one hold.
    ends: Vec<u32>,
}

impl Routes {
    fn new(topology: Topology, keys: &KeySpace) -> Self {
        let mut led: Vec<Led> = topology.nodes.iter().map(|_| Led::default()).collect();
        for (shard, info) in topology.shards.iter().enumerate() {
            let positions = keys.positions_of(shard);
            let Some(led) = info.leader.and_then(|leader| led.get_mut(usize::from(leader))) else { continue };
            if positions.is_empty() {
                continue;
            }
            led.shards.push(shard as u16);
            led.starts.push(positions.start);
            led.ends.push(led.ends.last().copied().unwrap_or(0) + positions.len() as u32);
        }
        Self { topology, led }
    }

    pub(crate) fn node_position(&self, node: NodeId) -> Option<usize> {
        self.topology.nodes.iter().position(|info| info.id == node)
    }

    /// Whether the node leads a shard that has keys.
    pub(crate) fn leads(&self, node: usize) -> bool {
        self.led.get(node).is_some_and(|led| !led.shards.is_empty())
    }

    /// The shards with keys that the node leads.
    pub(crate) fn shards_led(&self, node: usize) -> &[u16] {
        self.led.get(node).map_or(&[], |led| &led.shards)
    }

    /// Whether the node leads the shard of the key at a position.
    pub(crate) fn leads_position(&self, node: usize, position: u32) -> bool {
        let Some(led) = self.led.get(node) else { return false };
        let Some(range) = led.starts.partition_point(|&start| start <= position).checked_sub(1) else { return false };
        let before = if range == 0 { 0 } else { led.ends[range - 1] };
        position - led.starts[range] < led.ends[range] - before
    }

    /// The position of a key drawn evenly from those that the node leads; `None` if it leads none.
    pub(crate) fn draw(&self, node: usize, random: &mut impl Rng) -> Option<u32> {
        let led = self.led.get(node)?;
        let drawn = random.random_range(0..*led.ends.last()?);
        let range = led.ends.partition_point(|&end| end <= drawn);
        let before = if range == 0 { 0 } else { led.ends[range - 1] };
        Some(led.starts[range] + (drawn - before))
    }
}

/// The newest routes, shared by all connections. A connection looks at `generation`, one relaxed load, and takes the lock
/// only when it moved.
#[derive(Debug)]
pub(crate) struct Router {
    keys: Arc<KeySpace>,
    generation: AtomicU64,
    current: Mutex<Arc<Routes>>,
}

impl Router {
    /// # Panics
    /// If the topology has another number of shards than the keys were laid out for.
    pub(crate) fn new(topology: Topology, keys: Arc<KeySpace>) -> Self {
        assert_eq!(topology.shards.len(), keys.shards());
        let routes = Arc::new(Routes::new(topology, &keys));
        Self { keys, generation: AtomicU64::new(1), current: Mutex::new(routes) }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> Arc<Routes> {
        Arc::clone(&self.lock())
    }

    /// Takes over what is newer in `offered`: all of it if its epoch is, else the leaders of higher terms. Ignores a
    /// topology of another cluster or shard count, which would be another ring.
    pub(crate) fn offer(&self, offered: &Topology) {
        let mut current = self.lock();
        let held = &current.topology;
        if offered.cluster != held.cluster || offered.shards.len() != held.shards.len() || offered.epoch < held.epoch {
            return;
        }
        let merged = if offered.epoch > held.epoch { offered.clone() } else { with_newer_leaders(held, offered) };
        if merged != *held {
            *current = Arc::new(Routes::new(merged, &self.keys));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Takes over that the node at this address leads the shard of a slot, as that shard's last leader says.
    pub(crate) fn follow(&self, slot: u16, address: &str) {
        let mut current = self.lock();
        let held = &current.topology;
        let shard = usize::from(shard_of_slot(slot % SLOTS, held.shards.len() as u16).0);
        let node = held.nodes.iter().position(|node| node.client_address == address).map(|node| node as u16);
        if node.is_none() || held.shards[shard].leader == node {
            return;
        }
        let mut next = held.clone();
        next.shards[shard].leader = node;
        *current = Arc::new(Routes::new(next, &self.keys));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The routes are replaced whole, so they are sound even if a thread died while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Arc<Routes>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two answers of one epoch differ in their leaders only: of each shard, the higher term is newer.
fn with_newer_leaders(held: &Topology, offered: &Topology) -> Topology {
    let mut merged = held.clone();
    for (shard, offered_shard) in merged.shards.iter_mut().zip(&offered.shards) {
        let newer = offered_shard.term > shard.term || (offered_shard.term == shard.term && shard.leader.is_none());
        let leader = offered_shard.leader.and_then(|leader| {
            let id = offered.nodes.get(usize::from(leader))?.id;
            held.nodes.iter().position(|info| info.id == id)
        });
        if let (true, Some(leader)) = (newer, leader) {
            shard.leader = Some(leader as u16);
            shard.term = offered_shard.term;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, Epoch, NodeInfo, ShardInfo, Term};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn topology(leaders: &[Option<u16>], term: u64) -> Topology {
        let node = |number: u128| NodeInfo {
            id: NodeId(Uuid::from_u128(number)),
            name: format!("node-{number}"),
            client_address: format!("127.0.0.1:{number}"),
            zone: String::new(),
        };
        let shard = |&leader: &Option<u16>| ShardInfo { leader, term: Term(term), replicas: vec![0, 1] };
        Topology {
            epoch: Epoch(1),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: vec![node(1), node(2)],
            shards: leaders.iter().map(shard).collect(),
        }
    }

    fn router(leaders: &[Option<u16>]) -> (Arc<KeySpace>, Router) {
        let keys = Arc::new(KeySpace::new(500, 16, leaders.len() as u16));
        (Arc::clone(&keys), Router::new(topology(leaders, 5), keys))
    }

    #[test]
    fn draws_reach_all_keys_of_the_led_shards_and_no_others() {
        let (keys, router) = router(&[Some(0), Some(1), None, Some(0)]);
        let routes = router.current();
        let mut random = StdRng::seed_from_u64(1);
        let drawn: BTreeSet<u32> = (0..20_000).filter_map(|_| routes.draw(0, &mut random)).collect();
        let expected: BTreeSet<u32> = keys.positions_of(0).chain(keys.positions_of(3)).collect();
        assert_eq!(drawn, expected);
        let led: BTreeSet<u32> = (0..keys.count()).filter(|&position| routes.leads_position(0, position)).collect();
        assert_eq!(led, expected);
        assert_eq!(routes.shards_led(0), [0, 3]);
        assert!(routes.leads(1) && !routes.leads(2));
        assert_eq!(routes.draw(7, &mut random), None);
    }

    #[test]
    fn newer_leaders_are_taken_and_older_ones_are_not() {
        let (_, router) = router(&[Some(0), Some(0)]);
        router.offer(&topology(&[Some(1), Some(1)], 4));
        assert_eq!(router.generation(), 1, "a lower term is old news");
        router.offer(&topology(&[Some(1), None], 6));
        let leaders: Vec<_> = router.current().topology.shards.iter().map(|shard| shard.leader).collect();
        assert_eq!(leaders, [Some(1), Some(0)], "an unknown leader does not replace a known one");
        assert_eq!(router.generation(), 2);
        let mut other_ring = topology(&[Some(1), Some(1), Some(1), Some(1)], 9);
        other_ring.epoch = Epoch(7);
        router.offer(&other_ring);
        assert_eq!(router.generation(), 2, "a ring of another size is another cluster's");
        let mut next = topology(&[None, Some(1)], 1);
        next.epoch = Epoch(2);
        router.offer(&next);
        assert_eq!(router.current().topology, next, "a higher epoch is taken whole");
    }

    #[test]
    fn whoever_is_told_that_a_slot_has_moved_goes_there() {
        let (_, router) = router(&[Some(0), Some(1)]);
        let leaders = || router.current().topology.shards.iter().map(|shard| shard.leader).collect::<Vec<_>>();
        router.follow(SLOTS / 2, "127.0.0.1:1");
        assert_eq!((leaders(), router.generation()), (vec![Some(0), Some(0)], 2));
        router.follow(SLOTS - 1, "127.0.0.1:1");
        router.follow(0, "127.0.0.1:99");
        assert_eq!(router.generation(), 2, "that is known, and that is nobody");
    }
}
