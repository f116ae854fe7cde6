//! A panic in one shard's actor: that shard is restarted from disk and works again, and requests to other shards of the same
//! node see no error. Too many panics end the node with a clear last line and an exit code of their own.

use crate::common::wire::{get, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, key_in_shard};
use kvorum_client::{Client, NodeId, ShardId, Topology};
use kvorum_protocol::ResponseBody;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// The exit code of a node whose actors failed too often.
const EXIT_RESTART_INTENSITY: i32 = 70;
/// How long a node may take to give up: its restarts are spread over some seconds.
const GIVE_UP_DEADLINE: Duration = Duration::from_secs(30);
/// Panics of one shard while the neighbours are watched; few enough for any policy.
const PANICS: u32 = 3;
/// Longer than a busy machine holds a node up: the neighbour must not change its leader for another reason than the panics.
const ELECTION_TIMEOUT_MS: u32 = 2_000;
/// So often at least the neighbour is written and read around each of them.
const USES: u64 = 20;

async fn cluster() -> TestCluster {
    let environment = vec![("KVORUM_ELECTION_TIMEOUT_MS", ELECTION_TIMEOUT_MS.to_string())];
    TestCluster::start(ClusterOptions { fault_hooks: true, environment, ..ClusterOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicked_shard_comes_back_and_its_neighbours_notice_nothing() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let (node, victim, neighbour) = two_shards_of_one_leader(&topology);
    let number = cluster.number_of(&topology, node);
    let victim_key = key_in_shard("victim", victim, cluster.shards());
    client.put(&victim_key, "before").await.expect("a healthy cluster takes writes");

    let stop = Arc::new(AtomicBool::new(false));
    let neighbour_key = key_in_shard("neighbour", neighbour, cluster.shards());
    let (used, mut uses) = watch::channel(0);
    let using = tokio::spawn(use_without_retry(cluster.address(number), neighbour_key, Arc::clone(&stop), used));
    for round in 1..=PANICS {
        let enough = *uses.borrow() + USES;
        let before = incarnation(&client, node, victim).await.expect("the shard runs");
        client.admin().panic_shard(node, victim).await.expect("fault hooks are on");
        eventually("the shard is restarted", Duration::from_secs(10), async || {
            match incarnation(&client, node, victim).await? {
                now if now > before => Ok(()),
                now => Err(format!("it is still incarnation {now}")),
            }
        })
        .await;
        let value = format!("after {round}");
        client.put(&victim_key, value.clone()).await.expect("the shard takes writes again");
        let entry = client.get(&victim_key).await.expect("and reads").expect("what was written is there");
        assert_eq!(entry.value, value);
        // It ends early if a use fails; what then comes of it is told below.
        if uses.wait_for(|uses| *uses >= enough).await.is_err() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    using.await.expect("requests to the neighbour see no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_panics_end_the_node() {
    let mut cluster = cluster().await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let (node, victim, _) = two_shards_of_one_leader(&topology);
    let number = cluster.number_of(&topology, node);
    let alone = cluster.client_of([number]).await;
    eventually("panics without end make the node give up", GIVE_UP_DEADLINE, async || {
        // Refused while the shard is being restarted, and at last because there is no node any more.
        let _ = alone.admin().panic_shard(node, victim).await;
        if cluster.process(number).is_running() { Err("it still runs") } else { Ok(()) }
    })
    .await;
    let status = cluster.wait_exit(number, Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(EXIT_RESTART_INTENSITY), "{status}");
    let last_line = cluster.log(number).last_line();
    assert!(
        last_line.contains("gave up") && last_line.contains("panic"),
        "the last line should say why the node ended: {last_line:?}"
    );

    for shard in (0..cluster.shards()).map(ShardId) {
        let key = key_in_shard("after", shard, cluster.shards());
        client.put(key, "alive").await.expect("the other two nodes go on");
    }
}

/// A node that leads two shards at least, and two of them.
fn two_shards_of_one_leader(topology: &Topology) -> (NodeId, ShardId, ShardId) {
    let shards_of = |node: NodeId| {
        let shards = (0..topology.shards.len() as u16).map(ShardId);
        shards.filter(move |shard| topology.leader_of(*shard).is_some_and(|leader| leader.id == node))
    };
    let found = topology.nodes.iter().find_map(|node| {
        let mut shards = shards_of(node.id);
        Some((node.id, shards.next()?, shards.next()?))
    });
    found.expect("with more than twice as many shards as nodes, some node leads two")
}

async fn incarnation(client: &Client, node: NodeId, shard: ShardId) -> Result<u32, String> {
    let statuses = client.node_status(node).await.map_err(|error| error.to_string())?;
    let shards = statuses.iter().flat_map(|status| &status.shards);
    let status = shards.into_iter().find(|status| status.shard == shard);
    status.map(|status| status.incarnation).ok_or_else(|| "the shard is not listed".to_owned())
}

/// Writes and reads a key until told to stop, sending each request once; panics at the first error. Returns how often it did.
async fn use_without_retry(address: SocketAddr, key: String, stop: Arc<AtomicBool>, used: watch::Sender<u64>) {
    let mut connection = RawConnection::greet(address, new_client()).await.expect("the node's door is open");
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        sequence += 1;
        let value = sequence.to_string();
        let written = connection.call(put(sequence, key.clone(), value.clone())).await.expect("the door stays open");
        assert!(matches!(written, ResponseBody::Written(_)), "a write to another shard failed: {written:?}");
        match connection.call(get(&key)).await.expect("the door stays open") {
            ResponseBody::Value(Some(entry)) => assert_eq!(entry.value, value),
            other => panic!("a read of another shard failed: {other:?}"),
        }
        used.send_replace(sequence);
    }
}
