//! File descriptors that run out: clients, shards and data past the limit cost connections, never a node.

use crate::common::cluster::config_path;
use crate::common::process::{Log, NodeProcess, Surroundings};
use crate::common::wire::new_client;
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, key_in_shard};
use kvorum_client::ShardId;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
/// Of each node in these tests: little more than it needs itself.
const DESCRIPTORS: u64 = 256;
/// Not one for each of the shards.
const DESCRIPTORS_FEW: u64 = 200;
/// More than the limit.
const CLIENTS: usize = 260;
/// A node serves at least this many of them.
const SERVED_MIN: usize = 64;
/// Fills a first segment with two.
const VALUE_BYTES: usize = 120_000;
/// Of each shard: enough for a few segments.
const ROUNDS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_past_the_limit_do_not_keep_segments_from_being_made() {
    kvorum_node::runtime::descriptors::raise_limit();
    let options = ClusterOptions { descriptors: Some(DESCRIPTORS), ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    let client = cluster.client().await;
    let mut idle = Vec::new();
    for node in cluster.nodes() {
        let before = idle.len();
        for _ in 0..CLIENTS {
            idle.extend(RawConnection::greet(cluster.address(node), new_client()).await);
        }
        let served = idle.len() - before;
        assert!((SERVED_MIN..CLIENTS).contains(&served), "node {node} serves {served} clients");
    }
    let value = "x".repeat(VALUE_BYTES);
    for round in 0..ROUNDS {
        for shard in 0..cluster.shards() {
            let key = key_in_shard(&format!("round-{round}"), ShardId(shard), cluster.shards());
            client.put(key, value.clone()).await.expect("the cluster takes writes");
        }
    }
    for node in cluster.nodes() {
        assert!(cluster.process(node).is_running(), "node {node} has ended: {}", cluster.log(node).last_line());
    }
    // Who leaves makes room for others.
    drop(idle);
    eventually("a client is served again", DEADLINE, async || {
        RawConnection::greet(cluster.address(1), new_client()).await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_holds_more_shards_and_segments_than_it_has_descriptors() {
    let options =
        ClusterOptions { nodes: 1, shards: 256, descriptors: Some(DESCRIPTORS_FEW), ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    // All of them are opened again at once.
    cluster.kill(1);
    cluster.start_node(1);
    cluster.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_can_not_suffice_ends_the_start_with_78_and_what_is_needed() {
    let cluster = TestCluster::laid_out(ClusterOptions { nodes: 1, ..ClusterOptions::default() });
    let config = config_path(&cluster.node_dir(1));
    for descriptors in [16, 100] {
        let log = Log::default();
        let surroundings = Surroundings { descriptors: Some(descriptors), ..Surroundings::default() };
        let node = NodeProcess::spawn_with(&["start", "--config", &config], &[], &log, surroundings);
        assert_eq!(node.wait("the start ends", DEADLINE).await.code(), Some(78), "{}", log.last_line());
        let said = format!("the process may have {descriptors} file descriptors and needs at least 180");
        assert!(log.last_line().contains(&said), "{}", log.last_line());
    }
}
