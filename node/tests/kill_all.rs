//! `kill -9` of all nodes at once under load, then start: every acknowledged write is there. Twice, because the second
//! recovery begins with what the first one wrote.

use crate::common::workload::survive_the_death_of_all;
use crate::common::{ClusterOptions, TestCluster};

#[tokio::test(flavor = "multi_thread")]
async fn killing_all_nodes_at_once_loses_no_acknowledged_write() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    survive_the_death_of_all(&mut cluster, 2, 2, "kill_all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_value_by_value() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let mut batch = client.batch();
    for number in 0..500 {
        batch = batch.put(format!("key-{number}"), format!("value-{number}"));
    }
    let results = batch.await;
    assert!(results.iter().all(Result::is_ok), "a healthy cluster takes every write: {results:?}");
    cluster.kill_all();
    cluster.nodes().for_each(|node| cluster.start_node(node));
    cluster.wait_ready().await;

    let client = cluster.client().await;
    for (number, written) in results.into_iter().enumerate() {
        let entry = client.get(format!("key-{number}")).await.expect("a healthy cluster answers");
        let entry = entry.unwrap_or_else(|| panic!("key-{number} is gone"));
        assert_eq!(entry.value, format!("value-{number}"));
        assert_eq!(entry.version, written.expect("seen above").version);
    }
}
