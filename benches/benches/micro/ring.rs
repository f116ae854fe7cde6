//! From a key to its shard, and from there to the nodes that hold it.

use crate::sample::{key, shuffled};
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_protocol::hash::shard_of;
use kvorum_protocol::{ClusterId, Durability, NodeId, ReplicaId, Term};
use std::hint::black_box;
use uuid::Uuid;

const NODES: u128 = 5;
const SHARDS: u16 = 64;
const REPLICATION_FACTOR: u8 = 3;
/// Looked up in one iteration.
const KEYS: usize = 1024;

pub(crate) fn bench(criterion: &mut Criterion) {
    let map = map();
    let keys: Vec<Bytes> = shuffled(KEYS).map(key).collect();
    let topology = map.topology(|shard| {
        let first = map.replicas(shard).first()?;
        Some((Term(1), map.node_of(shard, ReplicaId(first.replica))?))
    });
    for key in &keys {
        let leader = topology.leader_of(topology.shard_of(key)).unwrap();
        assert_eq!(replicas(&map, key).count(), usize::from(REPLICATION_FACTOR));
        assert_eq!(replicas(&map, key).next(), Some(leader.id));
    }

    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("a key's replicas, in a node's map", |bencher| {
        bencher.iter(|| {
            for node in black_box(&keys).iter().flat_map(|key| replicas(&map, key)) {
                black_box(node);
            }
        });
    });
    group.bench_function("a key's leader, in a client's map", |bencher| {
        bencher.iter(|| {
            for key in black_box(&keys) {
                black_box(topology.leader_of(topology.shard_of(key)));
            }
        });
    });
    group.finish();
}

fn replicas(map: &RingMap, key: &[u8]) -> impl Iterator<Item = NodeId> {
    let shard = shard_of(key, map.shards.len() as u16);
    map.holders(shard)
}

fn map() -> RingMap {
    let node = |number: u128| RingNode {
        client: format!("127.0.0.1:{}", 7400 + number),
        peer: format!("127.0.0.1:{}", 7410 + number),
        ..RingNode::new(Uuid::from_u128(number), format!("node-{number}"))
    };
    let nodes = (1..=NODES).map(node).collect();
    RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes, SHARDS, REPLICATION_FACTOR).unwrap()
}
