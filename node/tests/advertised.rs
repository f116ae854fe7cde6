//! Where clients reach a node is the node's own word. It is in no other node's configuration, and may change.

mod common;

use common::process::Surroundings;
use common::{ClusterOptions, TestCluster, eventually};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_map_takes_advertised_addresses_over_and_follows_them() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    for host in ["localhost", "127.0.0.1"] {
        let mut expected = Vec::new();
        for node in cluster.nodes() {
            let address = format!("{host}:{}", cluster.address(node).port());
            cluster.kill(node);
            let setting = [("KVORUM_CLIENT_ADVERTISE", address.clone())];
            cluster.start_node_with(node, &setting, Surroundings::default());
            expected.push(address);
            eventually("the map has the address", DEADLINE, async || {
                let topology = client.topology().await.map_err(|error| error.to_string())?;
                let known: Vec<&str> = topology.nodes.iter().map(|node| node.client_address.as_str()).collect();
                let is_known = known.starts_with(&expected.iter().map(String::as_str).collect::<Vec<_>>());
                if is_known { Ok(()) } else { Err(format!("{known:?}")) }
            })
            .await;
        }
        client.put("key", host).await.expect("the cluster serves");
    }
}
