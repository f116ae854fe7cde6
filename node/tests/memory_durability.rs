//! Durability `memory`: what a quorum holds in its page caches survives the death of every process, and a replica that may
//! have forgotten (its machine went down without a clean stop) takes no part in its groups.

mod common;

use common::wire::{get, new_client};
use common::workload::survive_the_death_of_all;
use common::{ClusterOptions, RawConnection, TestCluster, eventually};
use kvorum_protocol::{Durability, ResponseBody, ShardRole};
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
async fn a_node_that_may_have_forgotten_does_not_vote_and_still_forwards() {
    let mut cluster = TestCluster::start(options()).await;
    let client = cluster.client().await;
    client.put("key", "value").await.expect("a healthy cluster takes writes");
    let topology = cluster.settled_topology(&client).await;
    let forgetful = cluster.id_of(&topology, 3);
    cluster.kill(3);
    std::fs::remove_file(cluster.node_dir(3).join("data/run-state")).expect("a node that ran has left it");
    // Twice: what was forgotten stays forgotten, however often the node is started on the same boot.
    for _ in 0..2 {
        cluster.start_node(3);
        eventually("it forwards to those that remember", DEADLINE, async || {
            let mut door =
                RawConnection::greet(cluster.address(3), new_client()).await.map_err(|error| error.to_string())?;
            match door.call(get("key")).await {
                Ok(ResponseBody::Value(Some(_))) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let through_it = cluster.client_of([3]).await;
        let statuses = through_it.node_status(forgetful).await.expect("its door is open");
        let roles: Vec<ShardRole> = statuses.iter().flat_map(|status| &status.shards).map(|shard| shard.role).collect();
        assert_eq!(roles.len(), usize::from(cluster.shards()) + 1, "every group, and the one of the ring map");
        assert!(roles.iter().all(|role| *role == ShardRole::Amnesiac), "{roles:?}");
        client.put("key", "another value").await.expect("two nodes are a quorum");
        cluster.kill(3);
    }
}
