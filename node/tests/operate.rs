//! What operators ask of a cluster besides joining and removing: a node is drained and comes back, another one takes a node's place,
//! moves are paused, and the cluster says what it does. Under writes that nobody retries, where a plain client must not notice.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::verdict::{Verdict, verdict};
use kvorum_client::{Client, ClusterVerb, ErrorCode, LogLevel, LogLevelAsk, NodeId, NodeStanding, RetryPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leads_nothing_until_that_ends_and_clients_that_do_not_retry_do_not_notice() {
    let cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let drained = cluster.id_of(&cluster.settled_topology(&client).await, 2);
    let (stop, writing) = write_on(&cluster).await;

    client.admin().drain_node(drained, Duration::from_secs(600)).await.expect("two of three stay");
    eventually("it leads nothing", PATIENCE, async || match leads(&client, drained).await? {
        0 => Ok(()),
        shards => Err(format!("it leads {shards} shards")),
    })
    .await;
    let plan = client.admin().plan(None).await.expect("somebody speaks for the ring map");
    let outlook = plan.nodes.iter().find(|outlook| outlook.node == drained).expect("it is a node");
    assert_eq!(outlook.standing, NodeStanding::Draining);
    assert!(outlook.ends_in_ms.is_some_and(|ms| ms <= 600_000), "{outlook:?}");
    // Nobody is known to lead a shard for the moment in which another one takes over.
    eventually("all is well", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let health = verdict(&topology, &statuses, Some(&plan));
        if health.verdict == Verdict::Ok { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;

    // The others have none to spare now.
    let other = cluster.id_of(&cluster.settled_topology(&client).await, 3);
    let refused = client.admin().drain_node(other, Duration::from_secs(600)).await.expect_err("a majority must stay");
    assert_eq!(refused.code(), ErrorCode::Refused, "{refused}");
    assert!(refused.to_string().contains("would have no majority"), "{refused}");

    client.admin().undrain_node(drained).await.expect("it is as any other again");
    eventually("it leads its share again", PATIENCE, async || match leads(&client, drained).await? {
        0 => Err("it leads nothing".to_owned()),
        _ => Ok(()),
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let failed = writing.await.expect("the writer does not panic");
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_logs_more_for_a_while_and_others_do_not() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let asked = cluster.id_of(&cluster.settled_topology(&client).await, 2);
    let said_hello = |node: usize| cluster.log(node).lines().iter().any(|line| line.contains("a client said hello"));
    assert!(!said_hello(2), "that is of no use to an operator, as a rule");

    let set = LogLevelAsk::Set { level: LogLevel::Debug, for_ms: 600_000 };
    let view = client.admin().log_level(asked, set).await.expect("it is within a day");
    assert!(view.filter.contains("kvorum=debug"), "{view:?}");
    assert!(view.left_ms.is_some_and(|ms| ms > 500_000 && ms <= 600_000), "{view:?}");
    eventually("it logs what it did not", PATIENCE, async || {
        // A client connects to one node, and to others as it needs them.
        cluster.client_of([2]).await;
        said_hello(2).then_some(()).ok_or("not yet")
    })
    .await;
    assert!(!said_hello(1) && !said_hello(3), "the others were not asked");

    let view = client.admin().log_level(asked, LogLevelAsk::Reset).await.expect("it is the same node");
    assert_eq!(view.left_ms, None);
    assert!(view.filter.contains("kvorum=info"), "{view:?}");
    let too_long = LogLevelAsk::Set { level: LogLevel::Trace, for_ms: 86_400_001 };
    let refused = client.admin().log_level(asked, too_long).await.expect_err("a day is the most");
    assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_the_place_of_one_that_leaves_once_moves_are_not_paused() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client_of([1, 3]).await;
    let admin = client.admin();
    admin.ask(ClusterVerb::Pause(true)).await.expect("nothing speaks against it");
    let new = cluster.add_node();
    let old = cluster.id_of(&cluster.settled_topology(&client).await, 2);
    let found = eventually("the new node is in the map", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let node = topology.nodes.iter().find(|node| node.name == format!("node-{new}"));
        node.map(|node| node.id).ok_or_else(|| format!("{topology:?}"))
    })
    .await;
    // It is paused: the new node holds nothing, and what is to come is told.
    let dry = admin.plan(Some(ClusterVerb::Replace { old, new: found })).await.expect("it can be done");
    assert!(dry.paused && dry.moves.iter().all(|one| !one.under_way), "{dry:?}");
    admin.replace_node(old, found).await.expect("it can be done");
    admin.ask(ClusterVerb::Pause(false)).await.expect("nothing speaks against it");
    let status = cluster.wait_exit(2, PATIENCE).await;
    assert_eq!(status.code(), Some(78), "it was removed");
    eventually("three nodes hold three replicas of each shard", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let whole = topology.shards.iter().all(|shard| shard.replicas.len() == 3);
        if whole && topology.nodes.len() == 3 { Ok(()) } else { Err(format!("{topology:?}")) }
    })
    .await;
}

async fn leads(client: &Client, node: NodeId) -> Result<usize, String> {
    let topology = client.topology().await.map_err(|error| error.to_string())?;
    Ok(topology
        .shards
        .iter()
        .filter(|shard| shard.leader.is_some_and(|at| topology.nodes[usize::from(at)].id == node))
        .count())
}

/// Writes to every shard until it is told to stop, and repeats nothing. Returns what failed.
async fn write_on(cluster: &TestCluster) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Vec<String>>) {
    let policy = RetryPolicy::default().with_budget(0, 0, 0).with_attempt_timeout(OPERATION_DEADLINE);
    let client = Client::builder().url(&cluster.url(cluster.nodes())).retry_policy(policy).connect().await;
    let client = client.expect("the cluster is ready");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut failed = Vec::new();
        let mut number = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            if let Err(error) = client.put(format!("key-{}", number % 64), number.to_string()).await {
                failed.push(error.to_string());
            }
        }
        failed
    });
    (stop, writing)
}
