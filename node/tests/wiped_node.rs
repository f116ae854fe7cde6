//! A node whose data folder was wiped has forgotten its votes and its log. Under its old name it must not be counted: the
//! others take it for a stranger until the ring map has given it fresh replicas, and it can't help anyone to become leader.
//! A replica whose log is damaged is replaced alone.

mod common;

use common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::{Client, Outcome};
use kvorum_protocol::ShardId;
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any election takes.
const NO_LEADER_FOR: Duration = Duration::from_secs(4);

/// Every group that node 3 holds a replica of, with that replica's id.
fn noted(cluster: &TestCluster) -> BTreeMap<ShardId, u64> {
    let groups = (0..cluster.shards()).map(ShardId).chain([ShardId::META]);
    groups.filter_map(|shard| Some((shard, cluster.noted_replica(3, shard)?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_a_stranger_until_it_has_fresh_replicas() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    client.put("key", "value").await.expect("a healthy cluster takes writes");
    let topology = cluster.settled_topology(&client).await;
    let wiped = cluster.id_of(&topology, 3);
    let before = noted(&cluster);
    assert_eq!(before.len(), usize::from(cluster.shards()) + 1, "it holds a replica of every group");
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.node_dir(3).join("data")).expect("a node that ran has a data folder");

    // One honest node and the wiped one are no quorum, and can't change the ring map either.
    cluster.kill(1);
    cluster.start_node(3);
    eventually("the other one takes it for a stranger", DEADLINE, async || {
        let lines = cluster.log(2).lines();
        let said = lines.iter().any(|line| line.contains("it is a stranger") && line.contains(&wiped.to_string()));
        said.then_some(()).ok_or("node 2 has not said so")
    })
    .await;
    let alone = Client::builder().url(&cluster.url([2])).deadline(NO_LEADER_FOR).connect().await;
    let refused = alone.expect("its door is open").put("key", "minority").await;
    let error = refused.expect_err("no leader may be elected with the wiped node's vote");
    assert_ne!(error.outcome(), Outcome::Applied);
    assert_eq!(noted(&cluster), BTreeMap::new(), "it has opened no replica, not even the ring map's");

    cluster.start_node(1);
    eventually("two honest nodes are a quorum again", DEADLINE, async || client.put("key", "healed").await).await;
    eventually("the map gives it fresh replicas, and it opens them", DEADLINE, async || {
        let after = noted(&cluster);
        if after.keys().ne(before.keys()) {
            return Err(format!("it has opened {after:?}"));
        }
        match after.iter().find(|(shard, replica)| **replica <= before[shard]) {
            None => Ok(()),
            Some((shard, replica)) => Err(format!("shard {shard} still has replica {replica}")),
        }
    })
    .await;
    let newer = client.topology().await.expect("a node answers");
    assert!(newer.epoch > topology.epoch, "{} after {}", newer.epoch, topology.epoch);
    eventually("they are open", DEADLINE, async || {
        let statuses = client.node_status(wiped).await.map_err(|error| error.to_string())?;
        let open = statuses.iter().flat_map(|status| &status.shards).count();
        if open == before.len() { Ok(()) } else { Err(format!("{open} replicas are open")) }
    })
    .await;
    client.put("key", "another value").await.expect("the others never stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_is_replaced_alone() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let before = noted(&cluster);
    cluster.kill(3);
    let damaged = ShardId(1);
    let segment = cluster.node_dir(3).join("data/shards/00001/0000000001.segment");
    let mut bytes = std::fs::read(&segment).expect("every shard has a first segment");
    bytes[..16].fill(0xee);
    std::fs::write(&segment, bytes).expect("the test may write it");
    cluster.start_node(3);
    eventually("the damaged replica has another one in its place", DEADLINE, async || {
        let after = noted(&cluster);
        let changed: Vec<_> = after.iter().filter(|(shard, replica)| before.get(shard) != Some(replica)).collect();
        match changed[..] {
            [(shard, replica)] if *shard == damaged && *replica > before[&damaged] => Ok(()),
            _ => Err(format!("{after:?}")),
        }
    })
    .await;
    for shard in 0..cluster.shards() {
        let key = common::key_in_shard("after", ShardId(shard), cluster.shards());
        client.put(key, "value").await.expect("the shard's other replicas are a quorum, and its neighbours are well");
    }
}
