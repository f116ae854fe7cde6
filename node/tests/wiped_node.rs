//! A node whose data folder was wiped has forgotten its votes and its log. Under its old name it must not be counted: the
//! others take it for a stranger until the ring map has given it fresh replicas, and it can't help anyone to become leader.
//! A replica whose log is damaged is replaced alone.

use crate::common;
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, let_run};
use kvorum_client::{Client, ClientId, NodeId, NodeStatus, Outcome, ShardRole, health};
use kvorum_protocol::{AdminCommand, RequestBody, ShardId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);
/// How long a wiped node may take until it holds all its replicas again. It takes 2 s on an idle machine.
const WHOLE_DEADLINE: Duration = Duration::from_secs(30);
/// How often node 1 is wiped in a row. With `KVORUM_WIPES` set, every node is wiped so often instead.
const WIPES: usize = 5;
/// How long a node is left whole before it is wiped again.
const BETWEEN_WIPES: Duration = Duration::from_millis(300);
/// Longer than any election takes.
const NO_LEADER_FOR: Duration = Duration::from_secs(4);

/// Every group that a node holds a replica of, with that replica's id.
fn noted_on(cluster: &TestCluster, node: usize) -> BTreeMap<ShardId, u64> {
    let groups = (0..cluster.shards()).map(ShardId).chain([ShardId::META]);
    groups.filter_map(|shard| Some((shard, cluster.noted_replica(node, shard)?))).collect()
}

fn noted(cluster: &TestCluster) -> BTreeMap<ShardId, u64> {
    noted_on(cluster, 3)
}

fn is_open(role: ShardRole) -> bool {
    !matches!(role, ShardRole::Missing | ShardRole::Amnesiac | ShardRole::Faulty)
}

fn votes(role: ShardRole) -> bool {
    matches!(role, ShardRole::Leader | ShardRole::Follower)
}

fn wipe(cluster: &TestCluster, node: usize) {
    std::fs::remove_dir_all(cluster.node_dir(node).join("data")).expect("a node that ran has a data folder");
}

/// What CLUSTER CHECK goes by.
async fn look(client: &Client) -> Result<(Vec<String>, Vec<NodeStatus>), String> {
    let topology = client.topology().await.map_err(|error| error.to_string())?;
    let statuses = client.status().await.map_err(|error| error.to_string())?;
    Ok((health::problems(&topology, &statuses), statuses))
}

/// Waits until CLUSTER CHECK finds no problem, and looks whether it is right: by then the node that was wiped holds a fresh
/// replica of every group as a voter.
async fn wait_whole(cluster: &TestCluster, client: &Client, node: usize, before: &BTreeMap<ShardId, u64>) {
    let statuses = eventually("the node is whole, and CLUSTER CHECK says so", WHOLE_DEADLINE, async || {
        let (problems, statuses) = look(client).await?;
        if problems.is_empty() { Ok(statuses) } else { Err(problems.join("; ")) }
    })
    .await;
    let after = noted_on(cluster, node);
    assert!(after.keys().eq(before.keys()), "CHECK says ok, and it holds {after:?} of {before:?}");
    for (shard, replica) in &after {
        assert!(*replica > before[shard], "CHECK says ok, and shard {shard} still has replica {replica}");
    }
    let name = format!("node-{node}");
    let status = statuses.iter().find(|status| status.name == name).expect("CHECK has asked every node");
    let voting = status.shards.iter().filter(|shard| votes(shard.role)).count();
    assert_eq!(voting, before.len(), "CHECK says ok, and these vote: {:?}", status.shards);
}

/// Asks a node to hand its leadership of the ring map's group to another one. The answer comes before anything happens.
async fn hand_meta_over(cluster: &TestCluster, from: usize, to: NodeId) {
    let mut door =
        RawConnection::greet(cluster.address(from), ClientId(Uuid::new_v4())).await.expect("its door is open");
    let command = AdminCommand::TransferLeadership { shard: ShardId::META, to };
    door.call(RequestBody::Admin(command)).await.expect("the leader takes the command");
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
    wipe(&cluster, 3);

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
        let open = statuses.iter().flat_map(|status| &status.shards).filter(|shard| is_open(shard.role)).count();
        if open == before.len() { Ok(()) } else { Err(format!("{open} replicas are open")) }
    })
    .await;
    client.put("key", "another value").await.expect("the others never stopped");
}

/// The leader of the ring map's group tries to hand over to a node that is gone by then, and leads on. It must not take that
/// for the end of its say in the map: the node comes back wiped, and only the map makes it whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_fails_does_not_keep_a_wiped_node_out() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let (_, statuses) = look(&client).await.expect("the cluster is healthy");
    let leads_meta = |status: &&NodeStatus| {
        status.shards.iter().any(|shard| shard.shard == ShardId::META && shard.role == ShardRole::Leader)
    };
    let leader = statuses.iter().find(leads_meta).expect("the ring map's group has a leader");
    let topology = cluster.settled_topology(&client).await;
    let leader = cluster.number_of(&topology, leader.node);
    let victim = cluster.nodes().find(|node| *node != leader).expect("there are three");
    let before = noted_on(&cluster, victim);
    cluster.kill(victim);
    hand_meta_over(&cluster, leader, cluster.id_of(&topology, victim)).await;
    wipe(&cluster, victim);
    cluster.start_node(victim);
    wait_whole(&cluster, &client, victim, &before).await;
}

/// The rhythm of wipes meets what nodes do at intervals of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_wiped_again_and_again_is_whole_each_time() {
    let asked: Option<usize> = std::env::var("KVORUM_WIPES").ok().and_then(|text| text.parse().ok());
    let mut cluster = TestCluster::start(ClusterOptions { shards: 16, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let victims = if asked.is_some() { cluster.nodes() } else { 1..=1 };
    for victim in victims {
        for round in 0..asked.unwrap_or(WIPES) {
            client.put(format!("round-{victim}-{round}"), "value").await.expect("a quorum takes writes");
            let before = noted_on(&cluster, victim);
            cluster.kill(victim);
            wipe(&cluster, victim);
            let began = Instant::now();
            cluster.start_node(victim);
            wait_whole(&cluster, &client, victim, &before).await;
            println!("node {victim}, wipe {}: whole after {:.1} s", round + 1, began.elapsed().as_secs_f64());
            let_run(BETWEEN_WIPES).await;
        }
    }
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
