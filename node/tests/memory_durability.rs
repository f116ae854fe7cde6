//! Durability `memory`: what a quorum holds in its page caches survives the death of every process, and a replica that may
//! have forgotten (its machine went down without a clean stop) is replaced by one that has nothing to remember.

use crate::common::wire::{get, new_client};
use crate::common::workload::survive_the_death_of_all;
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually};
use kvorum_protocol::limits::REPLICAS_MAX;
use kvorum_protocol::{Durability, ResponseBody, ShardId, ShardRole};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn options() -> ClusterOptions {
    let environment = vec![("KVORUM_DURABILITY", "memory".to_owned())];
    ClusterOptions { environment, ..ClusterOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_all_processes_at_once_loses_no_acknowledged_write() {
    let mut cluster = TestCluster::start(options()).await;
    let written = cluster.client().await.put("key", "value").await.expect("a healthy cluster takes writes");
    assert_eq!(written.durability, Durability::Memory, "the answer says what it is worth");
    survive_the_death_of_all(&mut cluster, 5, 1, "memory_durability").await;
}

/// The loss of the machine is played by the loss of the file that would tell that the machine stayed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_have_forgotten_begins_anew_and_still_forwards() {
    let mut cluster = TestCluster::start(options()).await;
    let client = cluster.client().await;
    client.put("key", "value").await.expect("a healthy cluster takes writes");
    let topology = cluster.settled_topology(&client).await;
    let forgetful = cluster.id_of(&topology, 3);
    cluster.kill(3);
    std::fs::remove_file(cluster.node_dir(3).join("data/run-state")).expect("a node that ran has left it");
    let before = cluster.noted_replica(3, ShardId(0)).expect("it holds a replica of every shard");
    cluster.start_node(3);
    eventually("it forwards to those that remember", DEADLINE, async || forwards(&cluster).await).await;
    let said = "this node has amnesia";
    assert!(cluster.log(3).lines().iter().any(|line| line.contains(said)), "it knows that it may have forgotten");
    for shard in (0..cluster.shards()).map(ShardId).chain([ShardId::META]) {
        eventually("each of its replicas is replaced", DEADLINE, async || match cluster.noted_replica(3, shard) {
            Some(replica) if replica > before.max(REPLICAS_MAX as u64) => Ok(()),
            other => Err(format!("shard {shard} has {other:?}")),
        })
        .await;
    }
    let through_it = cluster.client_of([3]).await;
    let statuses = through_it.node_status(forgetful).await.expect("its door is open");
    let roles: Vec<ShardRole> = statuses.iter().flat_map(|status| &status.shards).map(|shard| shard.role).collect();
    assert!(!roles.contains(&ShardRole::Leader), "it leads nothing that it has not caught up with: {roles:?}");
    client.put("key", "another value").await.expect("two nodes are a quorum");

    // It was given up once, and for good: the next start on the same boot goes on with the fresh replicas.
    let fresh = cluster.noted_replica(3, ShardId(0));
    cluster.kill(3);
    cluster.start_node(3);
    eventually("it forwards again", DEADLINE, async || forwards(&cluster).await).await;
    assert_eq!(cluster.noted_replica(3, ShardId(0)), fresh);
}

/// Whether node 3 has another node answer for it.
async fn forwards(cluster: &TestCluster) -> Result<(), String> {
    let mut door = RawConnection::greet(cluster.address(3), new_client()).await.map_err(|error| error.to_string())?;
    match door.call(get("key")).await {
        Ok(ResponseBody::Value(Some(_))) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
