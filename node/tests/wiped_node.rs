//! A node whose data folder was wiped has forgotten its votes and its log. Under its old name it must not be counted: the
//! others turn it away, and it can't help anyone to become leader.

mod common;

use common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::{Client, Outcome};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any election takes.
const NO_LEADER_FOR: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_turned_away_and_its_vote_not_counted() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    client.put("key", "value").await.expect("a healthy cluster takes writes");
    let topology = cluster.settled_topology(&client).await;
    let wiped = cluster.id_of(&topology, 3);
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.node_dir(3).join("data")).expect("a node that ran has a data folder");
    cluster.start_node(3);
    eventually("both others turn it away, and say why", DEADLINE, async || {
        for honest in 1..=2 {
            let lines = cluster.log(honest).lines();
            if !lines.iter().any(|line| line.contains("another data folder") && line.contains(&wiped.to_string())) {
                return Err(format!("node {honest} has not said so"));
            }
        }
        Ok(())
    })
    .await;
    client.put("key", "another value").await.expect("two nodes are a quorum");

    // One honest node and the wiped one are none.
    cluster.kill(1);
    let alone = Client::builder().url(&cluster.url([2])).deadline(NO_LEADER_FOR).connect().await;
    let refused = alone.expect("its door is open").put("key", "minority").await;
    let error = refused.expect_err("no leader may be elected with the wiped node's vote");
    assert_ne!(error.outcome(), Outcome::Applied);

    cluster.start_node(1);
    eventually("two honest nodes are a quorum again", DEADLINE, async || client.put("key", "healed").await).await;
}
