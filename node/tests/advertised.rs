//! Where clients reach a node is the node's own word. It is in no other node's configuration, and may change.

use crate::common::process::Surroundings;
use crate::common::{ClusterOptions, TestCluster, eventually};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_peers_elsewhere_is_found_there() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    // The ids are random: of three nodes that move in turn, one has a peer with a smaller id, which dials, and one with a larger.
    for node in cluster.nodes() {
        let port = free_udp_port();
        let settings = [
            ("KVORUM_PEER_LISTEN", format!("127.0.0.1:{port}")),
            ("KVORUM_PEER_ADVERTISE", format!("localhost:{port}")),
        ];
        cluster.kill(node);
        cluster.start_node_with(node, &settings, Surroundings::default());
        cluster.wait_ready().await;
        client.put("key", port.to_string()).await.expect("the cluster serves");
    }
    // Once more they are started, all at once, where they are now. Each knows that of the others from the ring map alone.
    for node in cluster.nodes() {
        let name = format!("data/{}.metadata", "ring.json");
        let path = cluster.node_dir(node).join(name);
        eventually("each copy of the map names the new addresses", DEADLINE, async || {
            let map = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let named = map.matches("localhost:").count();
            if named == 3 { Ok(()) } else { Err(format!("node {node} knows {named}: {map}")) }
        })
        .await;
    }
}

fn free_udp_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it is bound").port()
}
