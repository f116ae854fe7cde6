//! While 32 clients read and write: `kill -9` of each node in turn, leaders included; the node is started again and catches
//! up. No acknowledged write is lost, no read is stale, and every shard takes writes again soon after the kill.
//!
//! The promise is 2 s; `KVORUM_UNAVAILABLE_MS_MAX=2000` demands it. Without it the bound is what a busy machine may need: a
//! test that shares its cores can't judge a time.

mod common;

use common::cluster::OPERATION_DEADLINE;
use common::workload::read_all;
use common::{ClusterOptions, TestCluster, Workload, key_in_shard};
use kvorum_client::{Client, ShardId};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long after a kill a shard may refuse writes, in milliseconds, unless the environment says otherwise.
const UNAVAILABLE_MS_MAX: u64 = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn killing_each_node_in_turn_loses_nothing_and_stops_nobody_for_long() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let workload = Workload::start(&cluster, 1).await;
    let mut shards_led = 0;
    for node in cluster.nodes() {
        workload.wait_acknowledged(300).await;
        let topology = cluster.settled_topology(&client).await;
        shards_led += topology.shards.iter().filter(|shard| leads(&cluster, &topology, shard.leader, node)).count();

        let killed_at = cluster.kill(node);
        assert_every_shard_takes_writes(&cluster, &client, killed_at).await;
        // The others go on without it for a while, so that it has something to catch up with.
        workload.wait_acknowledged(300).await;
        cluster.start_node(node);
        cluster.wait_caught_up(node).await;
    }
    assert!(shards_led > 0, "not one kill hit a leader, so this showed little");

    let recorder = workload.stop().await;
    read_all(&recorder, &client).await;
    recorder.assert_linearizable("kill_each_node");
}

fn leads(cluster: &TestCluster, topology: &kvorum_client::Topology, leader: Option<u16>, node: usize) -> bool {
    leader.is_some_and(|leader| cluster.number_of(topology, topology.nodes[usize::from(leader)].id) == node)
}

/// All shards are tried at once, each by one write that goes on trying until it is acknowledged.
async fn assert_every_shard_takes_writes(cluster: &TestCluster, client: &Client, killed_at: Instant) {
    let demanded = std::env::var("KVORUM_UNAVAILABLE_MS_MAX").ok().and_then(|text| text.parse().ok());
    let unavailable_max = Duration::from_millis(demanded.unwrap_or(UNAVAILABLE_MS_MAX));
    let mut longest = Duration::ZERO;
    let mut writes = JoinSet::new();
    for shard in (0..cluster.shards()).map(ShardId) {
        let put = client.put(key_in_shard("probe", shard, cluster.shards()), "alive").deadline(OPERATION_DEADLINE);
        writes.spawn(async move { (shard, put.await, Instant::now()) });
    }
    while let Some(ended) = writes.join_next().await {
        let (shard, result, at) = ended.expect("a probe does not panic");
        assert!(result.is_ok(), "shard {shard} takes no writes after the kill: {result:?}");
        let took = at - killed_at;
        assert!(took <= unavailable_max, "shard {shard} took no writes for {took:?} after the kill");
        longest = longest.max(took);
    }
    println!("every shard took writes again within {} ms", longest.as_millis());
}
