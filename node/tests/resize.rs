//! Nodes join a cluster that is written to, and leave it: what they should hold moves, nobody's request fails, and the process of one
//! that left ends by itself. A cluster that can't do without a node says so.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_client::{Client, ErrorCode, ShardId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);
const KEYS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_takes_its_share_and_another_one_leaves() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    write_all(&client).await;
    let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = tokio::spawn(write_on(cluster.client().await, stop.clone(), counted.clone()));

    let new = cluster.add_node();
    eventually("the new node holds its share", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let at =
            topology.nodes.iter().position(|node| node.name == format!("node-{new}")).ok_or("it is no node yet")?;
        let holds = topology.shards.iter().filter(|shard| shard.replicas.contains(&(at as u16))).count();
        if holds == 3 { Ok(()) } else { Err(format!("it holds {holds} of 4 shards")) }
    })
    .await;
    let removed = cluster.id_of(&cluster.settled_topology(&client).await, 1);
    client.admin().remove_node(removed, false).await.expect("three nodes can hold three replicas");
    let status = cluster.wait_exit(1, PATIENCE).await;
    assert_eq!(status.code(), Some(78));

    // Whoever founded the cluster is not needed to start it.
    stop.store(true, Ordering::Relaxed);
    let failed = writing.await.expect("the writer does not panic");
    assert!(failed.is_empty(), "{failed:?}");
    for node in 2..=new {
        cluster.kill(node);
    }
    (2..=new).for_each(|node| cluster.start_node(node));
    cluster.wait_ready().await;
    let client = cluster.client_of(2..=new).await;
    check_all(&client, &counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_for_good_is_given_up_and_one_that_comes_back_is_welcome() {
    let environment = vec![("KVORUM_REPAIR_HOLD_S", "0".to_owned())];
    let options = ClusterOptions { nodes: 4, shards: 4, environment, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    let client = cluster.client_of([1, 2, 3]).await;
    write_all(&client).await;
    let lost = cluster.id_of(&cluster.settled_topology(&client).await, 4);
    let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = tokio::spawn(write_on(cluster.client_of([1, 2, 3]).await, stop.clone(), counted.clone()));
    cluster.kill(4);
    let holds = async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let at = topology.nodes.iter().position(|node| node.id == lost).ok_or("it is no node")?;
        Ok::<_, String>(topology.shards.iter().filter(|shard| shard.replicas.contains(&(at as u16))).count())
    };
    eventually("what it held is made anew on the others", PATIENCE, async || match holds().await? {
        0 => Ok(()),
        shards => Err(format!("it holds {shards} of 4 shards")),
    })
    .await;
    cluster.start_node(4);
    eventually("it has its share again", PATIENCE, async || match holds().await? {
        3 => Ok(()),
        shards => Err(format!("it holds {shards} of 4 shards")),
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let failed = writing.await.expect("the writer does not panic");
    assert!(failed.is_empty(), "{failed:?}");
    check_all(&client, &counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_gives_all_it_holds_to_others_and_ends() {
    let mut cluster = TestCluster::start(ClusterOptions { nodes: 4, shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client_of([1, 2, 3]).await;
    write_all(&client).await;
    let removed = cluster.id_of(&cluster.settled_topology(&client).await, 4);

    let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = tokio::spawn(write_on(cluster.client_of([1, 2, 3]).await, stop.clone(), counted.clone()));
    client.admin().remove_node(removed, false).await.expect("three nodes can hold three replicas");
    client.admin().remove_node(removed, false).await.expect("asked again, it is under way");
    let status = cluster.wait_exit(4, PATIENCE).await;
    assert_eq!(status.code(), Some(78), "it does not start again");
    let log = cluster.log(4).lines().join("\n");
    assert!(log.contains("this node was removed from the cluster"), "{log}");
    stop.store(true, Ordering::Relaxed);
    let failed = writing.await.expect("the writer does not panic");
    assert!(failed.is_empty(), "{failed:?}");

    eventually("the others are three nodes", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let holders = topology.shards.iter().all(|shard| shard.replicas.len() == 3);
        if topology.nodes.len() == 3 && holders { Ok(()) } else { Err(format!("{topology:?}")) }
    })
    .await;
    check_all(&client, &counted).await;

    // Started again it is told that it is none of them, and it ends.
    cluster.start_node(4);
    let status = cluster.wait_exit(4, PATIENCE).await;
    assert_eq!(status.code(), Some(78));

    // Three replicas of each shard need three nodes.
    let topology = cluster.settled_topology(&client).await;
    let refused = client.admin().remove_node(cluster.id_of(&topology, 3), false).await.expect_err("no room");
    assert_eq!(refused.code(), ErrorCode::Refused, "{refused}");
    assert!(refused.to_string().contains("3 replicas of each shard need as many nodes, there are 2"), "{refused}");
    for shard in (0..cluster.shards()).map(ShardId) {
        let key = key_in_shard("after", shard, cluster.shards());
        client.put(key, "yes").deadline(OPERATION_DEADLINE).await.expect("the cluster goes on");
    }
}

/// Counts up until it is told to stop. Returns what failed.
async fn write_on(client: Client, stop: Arc<AtomicBool>, counted: Arc<AtomicU64>) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client.incr("counter", 1).await {
            Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}

async fn write_all(client: &Client) {
    for number in 0..KEYS {
        client.put(format!("before-{number}"), format!("{number}")).await.expect("the cluster takes writes");
    }
}

/// What was written before is there, and what was counted meanwhile was counted once.
async fn check_all(client: &Client, counted: &AtomicU64) {
    for number in 0..KEYS {
        let found = client.get(format!("before-{number}")).await.expect("it can be read");
        assert_eq!(found.map(|entry| entry.value), Some(format!("{number}").into()), "key {number}");
    }
    let sum = client.get("counter").await.expect("it can be read").expect("it was written").value;
    assert_eq!(String::from_utf8_lossy(&sum), counted.load(Ordering::Relaxed).to_string(), "each took effect once");
}
