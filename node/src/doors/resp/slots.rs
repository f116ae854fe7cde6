//! Who owns which slots, as clients of Redis Cluster see it: each node that speaks to them is a master of the slots that it leads.
//!
//! Such clients want an owner for each of the 16,384 slots at any time. While nobody leads a shard, that is the last leader known,
//! and before the first one the shard's first replica. A node without a door for these clients owns nothing: what it leads is
//! passed on to it by others.

use kvorum_core::clock::Nanos;
use kvorum_core::routing::router::Router;
use kvorum_protocol::hash::{SLOTS, hash64};
use kvorum_protocol::{NodeId, ShardId, Topology};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// So long a shard may be without a leader until its slots count as failed, in milliseconds: more than an election takes.
const FAILED_AFTER_MS: u64 = 2_000;

/// What is known of the owners of slots.
pub(super) struct Slots {
    router: Arc<Router>,
    announce: Option<String>,
    /// This node's port for clients that follow slots; 0 if that door is closed.
    port: AtomicU16,
    last: Mutex<Vec<LastLeader>>,
}

/// What was heard last of a shard's leader.
#[derive(Clone, Copy, Debug, Default)]
struct LastLeader {
    node: Option<NodeId>,
    /// Since when nobody leads.
    lost_at: Option<Nanos>,
}

/// Where a node's door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name or an IP address, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

impl Endpoint {
    /// Of `host:port`.
    fn parse(address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

/// A node, and the slots that it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotNode {
    /// Its identity.
    pub(super) id: NodeId,
    /// Where its clients reach it.
    pub(super) endpoint: Endpoint,
    /// First and last slot of each range, in order.
    pub(super) ranges: Vec<(u16, u16)>,
    /// It is this node.
    pub(super) is_me: bool,
    /// This node is connected with it.
    pub(super) is_up: bool,
}

/// How many slots have a leader, have lost theirs a moment ago, and have lost theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotHealth {
    /// Have one.
    pub(super) led: u32,
    /// Have lost it a moment ago.
    pub(super) lost: u32,
    /// Have lost it, and found none in time.
    pub(super) failed: u32,
}

impl Slots {
    /// Nothing is known yet, and this node's door is closed. `announce`: `host:port` of this node's door, if it was said.
    pub(super) fn new(router: Arc<Router>, announce: Option<String>) -> Self {
        Self { router, announce, port: AtomicU16::new(0), last: Mutex::default() }
    }

    /// This node's door is open, at this port.
    pub(super) fn open(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Who leads is news.
    pub(super) fn note(&self, topology: &Topology, now: Nanos) {
        let mut last = self.last.lock();
        last.resize(topology.shards.len(), LastLeader::default());
        for (last, shard) in last.iter_mut().zip(&topology.shards) {
            match shard.leader.and_then(|at| topology.nodes.get(usize::from(at))) {
                Some(leader) => *last = LastLeader { node: Some(leader.id), lost_at: None },
                None => _ = last.lost_at.get_or_insert(now),
            }
        }
    }

    /// The shards that this node leads, in order.
    pub(super) fn led(&self) -> Vec<u16> {
        (0..self.router.shards()).filter(|shard| self.leads(ShardId(*shard))).collect()
    }

    /// Whether this node leads a shard.
    pub(super) fn leads(&self, shard: ShardId) -> bool {
        self.router.leader(shard) == Some(self.router.me())
    }

    /// Keys of the shards that this node leads.
    pub(super) fn led_keys(&self) -> u64 {
        let led = self.led().into_iter().filter_map(|shard| self.router.local(ShardId(shard)));
        led.map(|handle| handle.reader.keys()).sum()
    }

    /// Where a node's clients that follow slots reach it; nothing if it has no such door, or has not said so. `asked`: the address at
    /// which the one who asks has reached this node.
    pub(super) fn endpoint(&self, topology: &Topology, node: NodeId, asked: IpAddr) -> Option<Endpoint> {
        if node == self.router.me() {
            let port = self.port.load(Ordering::Relaxed);
            let announced = self.announce.as_deref().and_then(Endpoint::parse);
            return (port != 0).then(|| announced.unwrap_or_else(|| Endpoint { host: asked.to_string(), port }));
        }
        let said = self.router.peer_table().resp(node)?.cluster;
        match said.strip_prefix(':') {
            Some(port) => {
                let known = topology.nodes.iter().find(|known| known.id == node)?;
                let port = port.parse().ok()?;
                Some(Endpoint { port, ..Endpoint::parse(&known.client_address)? })
            }
            None => Endpoint::parse(&said),
        }
    }

    /// The nodes that have a door for clients that follow slots, and the slots that each owns: no two own the same one, and each has
    /// an owner.
    pub(super) fn view(&self, asked: IpAddr) -> Vec<SlotNode> {
        let (topology, me) = (self.router.topology_now(), self.router.me());
        let is_up = |node| self.router.peer_table().is_connected(node);
        let ids = topology.nodes.iter().map(|node| node.id);
        let missing = (!topology.nodes.iter().any(|node| node.id == me)).then_some(me);
        let mut nodes: Vec<SlotNode> = ids
            .chain(missing)
            .filter_map(|id| {
                let endpoint = self.endpoint(&topology, id, asked)?;
                let is_me = id == me;
                Some(SlotNode { id, endpoint, ranges: Vec::new(), is_me, is_up: is_me || is_up(id) })
            })
            .collect();
        let last: Vec<_> = self.last.lock().iter().map(|last| last.node).collect();
        let has_door = |id| nodes.iter().any(|node| node.id == id);
        let owners = owners(&topology, &last, me, has_door);
        give(&mut nodes, &owners);
        nodes
    }

    /// How the slots are doing.
    pub(super) fn health(&self, now: Nanos) -> SlotHealth {
        let last = self.last.lock();
        let mut health = SlotHealth::default();
        for (number, shard) in last.iter().enumerate() {
            let (first, end) = slots_of(number, last.len());
            let slots = u32::from(end - first) + 1;
            match shard.lost_at {
                None => health.led += slots,
                Some(since) if now.ms_since(since) < FAILED_AFTER_MS => health.lost += slots,
                Some(_) => health.failed += slots,
            }
        }
        health
    }
}

/// The owner of each shard, in order.
fn owners(topology: &Topology, last: &[Option<NodeId>], me: NodeId, has_door: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    let id = |at: &u16| topology.nodes.get(usize::from(*at)).map(|node| node.id);
    let of_shard = |(number, shard): (usize, &kvorum_protocol::ShardInfo)| {
        let replicas = || shard.replicas.iter().filter_map(id);
        let known = last.get(number).copied().flatten().filter(|known| replicas().any(|replica| replica == *known));
        let leader = shard.leader.as_ref().and_then(id);
        let mut candidates = leader.into_iter().chain(known).chain(replicas());
        // Whoever asks here finds somebody who leads.
        candidates.find(|candidate| has_door(*candidate)).unwrap_or(me)
    };
    topology.shards.iter().enumerate().map(of_shard).collect()
}

/// Gives the slots of all shards to their owners.
fn give(nodes: &mut [SlotNode], owners: &[NodeId]) {
    for (shard, owner) in owners.iter().enumerate() {
        let Some(node) = nodes.iter_mut().find(|node| node.id == *owner) else { continue };
        let (first, last) = slots_of(shard, owners.len());
        match node.ranges.last_mut() {
            Some(range) if range.1 + 1 == first => range.1 = last,
            _ => node.ranges.push((first, last)),
        }
    }
}

/// First and last slot of a shard, of so many.
fn slots_of(shard: usize, shards: usize) -> (u16, u16) {
    let border = |shard: usize| (shard * usize::from(SLOTS) / shards.max(1)) as u16;
    (border(shard), border(shard + 1) - 1)
}

/// A node's id as such clients know it: 40 hexadecimal digits, always the same.
pub(super) fn id_text(node: NodeId) -> String {
    let bytes = node.0.as_bytes();
    format!("{}{:08x}", node.0.simple(), hash64(bytes) as u32)
}

/// The id of what a node is the master of, which in Redis is a master with its replicas.
pub(super) fn shard_id_text(node: NodeId) -> String {
    let bytes = node.0.as_bytes();
    format!("{:08x}{}", hash64(bytes) as u32, node.0.simple())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, Epoch, NodeInfo, ShardInfo, Term};
    use uuid::Uuid;

    fn id(number: u16) -> NodeId {
        NodeId(Uuid::from_u128(u128::from(number) + 1))
    }

    /// Of three nodes, each shard on all of them.
    fn topology(leaders: &[Option<u16>]) -> Topology {
        let node = |number| NodeInfo {
            id: id(number),
            name: format!("node-{number}"),
            client_address: format!("[::1]:740{number}"),
            zone: String::new(),
        };
        let shard = |(number, leader): (usize, &Option<u16>)| {
            let first = number as u16 % 3;
            ShardInfo { leader: *leader, term: Term(1), replicas: vec![first, (first + 1) % 3, (first + 2) % 3] }
        };
        Topology {
            epoch: Epoch(1),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: (0..3).map(node).collect(),
            shards: leaders.iter().enumerate().map(shard).collect(),
        }
    }

    fn nodes(with_door: &[u16]) -> Vec<SlotNode> {
        let node = |number: &u16| SlotNode {
            id: id(*number),
            endpoint: Endpoint { host: "h".into(), port: 1 },
            ranges: Vec::new(),
            is_me: *number == 0,
            is_up: true,
        };
        with_door.iter().map(node).collect()
    }

    /// The slots of each node, after each slot was seen once.
    fn given(topology: &Topology, last: &[Option<NodeId>], with_door: &[u16]) -> Vec<Vec<(u16, u16)>> {
        let mut nodes = nodes(with_door);
        let owners = owners(topology, last, id(0), |node| with_door.iter().any(|door| id(*door) == node));
        give(&mut nodes, &owners);
        let mut seen = vec![0; usize::from(SLOTS)];
        for (first, last) in nodes.iter().flat_map(|node| &node.ranges) {
            (*first..=*last).for_each(|slot| seen[usize::from(slot)] += 1);
        }
        assert!(seen.iter().all(|times| *times == 1), "each slot has one owner");
        nodes.into_iter().map(|node| node.ranges).collect()
    }

    #[test]
    fn each_slot_has_one_owner_whoever_leads() {
        assert_eq!(
            given(&topology(&[Some(0), Some(0), Some(1), Some(2)]), &[], &[0, 1, 2]),
            [vec![(0, 8191)], vec![(8192, 12287)], vec![(12288, 16383)]]
        );
        // Of those without a leader: the last one, else the first replica.
        let none = topology(&[None, None, None, None]);
        let last = [Some(id(2)), None, None, Some(id(0))];
        assert_eq!(
            given(&none, &last, &[0, 1, 2]),
            [vec![(12288, 16383)], vec![(4096, 8191)], vec![(0, 4095), (8192, 12287)]]
        );
        // Of a leader without a door: another replica that has one.
        assert_eq!(given(&topology(&[Some(1); 2]), &[], &[0, 2]), [vec![(0, 8191)], vec![(8192, 16383)]]);
        for shards in [1, 2, 16, 1024, 4096] {
            let mut leaders = vec![None; shards];
            // As elections come and go.
            for round in 0..7_usize {
                leaders.iter_mut().enumerate().for_each(|(shard, leader)| {
                    *leader = (!(shard * 31 + round).is_multiple_of(5)).then_some(((shard * 7 + round) % 3) as u16);
                });
                given(&topology(&leaders), &vec![Some(id(1)); shards], &[0, 1, 2]);
            }
        }
    }

    #[test]
    fn slots_lie_in_the_shards_of_their_keys() {
        for shards in [1_u16, 4, 4096] {
            for key in ["foo", "bar", "{x}y", "123456789"] {
                let (slot, shard) = (
                    kvorum_protocol::hash::slot(key.as_bytes()),
                    kvorum_protocol::hash::shard_of(key.as_bytes(), shards),
                );
                let (first, last) = slots_of(usize::from(shard.0), usize::from(shards));
                assert!((first..=last).contains(&slot), "{key} of {shards}");
            }
        }
    }

    #[test]
    fn addresses_and_ids_have_their_forms() {
        assert_eq!(Endpoint::parse("[::1]:7400"), Some(Endpoint { host: "::1".into(), port: 7400 }));
        assert_eq!(
            Endpoint::parse("node-1.example:7440"),
            Some(Endpoint { host: "node-1.example".into(), port: 7440 })
        );
        assert_eq!((Endpoint::parse(":7440"), Endpoint::parse("a"), Endpoint::parse("a:b")), (None, None, None));
        assert_eq!(id_text(id(0)).len(), 40);
        assert_ne!(id_text(id(0)), id_text(id(1)));
        assert_eq!(shard_id_text(id(0)).len(), 40);
        assert_ne!(shard_id_text(id(0)), id_text(id(0)));
    }
}
