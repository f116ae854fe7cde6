//! The RESP door of clients that follow slots, of real nodes.

use crate::common;
use crate::common::resp::{Caller, Follower, Reply};
use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_client::ShardId;
use kvorum_protocol::hash::SLOTS;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

/// The node that owns each slot, as a node says. Each has one.
async fn owners(caller: &mut Caller) -> Vec<SocketAddr> {
    let reply = caller.call("CLUSTER SLOTS").await.expect("the node is there");
    let mut owners: Vec<Option<SocketAddr>> = vec![None; usize::from(SLOTS)];
    for range in reply.items() {
        let [first, last, node] = range.items() else { panic!("{range:?}") };
        let address = format!("{}:{}", node.items()[0].text(), node.items()[1].integer());
        let address = address.parse().expect("an address");
        assert_eq!(node.items()[2].text().len(), 40);
        for slot in first.integer()..=last.integer() {
            let before = owners[slot as usize].replace(address);
            assert_eq!(before, None, "slot {slot} has two owners");
        }
    }
    owners.into_iter().map(|owner| owner.expect("each slot has an owner")).collect()
}

fn doors(cluster: &TestCluster) -> Vec<SocketAddr> {
    cluster.nodes().map(|node| cluster.resp_cluster_address(node)).collect()
}

/// Requests that a node has passed on to others.
async fn forwards(cluster: &TestCluster, node: usize) -> u64 {
    let answer = common::http::request(cluster.http_address(node), "GET", "/metrics", &[], "").await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let counted = text.lines().filter(|line| line.starts_with("kvorum_forwards_total"));
    counted
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).expect("a number") as u64)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_answers_for_what_it_leads_and_names_the_others() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut callers = Vec::new();
    for door in doors(&cluster) {
        callers.push(Caller::open(door).await.expect("the door is open"));
    }
    // All agree, once all have heard who leads.
    let agreed = eventually("all nodes name the same owners", DEADLINE, async || {
        let first = owners(&mut callers[0]).await;
        for caller in &mut callers[1..] {
            if owners(caller).await != first {
                return Err("they differ");
            }
        }
        Ok(first)
    })
    .await;
    let before: u64 = forwards(&cluster, 1).await + forwards(&cluster, 2).await + forwards(&cluster, 3).await;
    // Whoever owns a key serves it; the others say who that is.
    for number in 0..50 {
        let key = format!("key-{number}");
        let slot = kvorum_protocol::hash::slot(key.as_bytes());
        for (door, caller) in doors(&cluster).into_iter().zip(&mut callers) {
            let owner = agreed[usize::from(slot)];
            let reply = caller.call(&format!("SET {key} {number}")).await.expect("open");
            if owner == door {
                assert_eq!(reply, Reply::Text("OK".into()));
            } else {
                assert_eq!(reply, Reply::Error(format!("MOVED {slot} {owner}")));
            }
        }
    }
    let caller = &mut callers[0];
    for (command, expected) in [
        ("MSET a 1 b 2", Reply::Error("CROSSSLOT Keys in request don't hash to the same slot".into())),
        ("SELECT 1", Reply::Error("ERR SELECT is not allowed in cluster mode".into())),
        ("CLUSTER KEYSLOT foo", Reply::Integer(12182)),
        ("CLUSTER KEYSLOT {foo}.x", Reply::Integer(12182)),
        ("CLUSTER REPLICAS 1", Reply::Error("ERR Unknown node 1".into())),
        ("CLUSTER COUNTKEYSINSLOT 16384", Reply::Error("ERR Invalid slot".into())),
        ("READONLY", Reply::Text("OK".into())),
    ] {
        assert_eq!(caller.call(command).await.expect("open"), expected, "{command}");
    }
    let myself = caller.call("CLUSTER MYID").await.expect("open").text().to_owned();
    let nodes = caller.call("CLUSTER NODES").await.expect("open").text().to_owned();
    assert_eq!(nodes.lines().count(), 3, "{nodes}");
    let line = nodes.lines().find(|line| line.contains("myself,master")).expect("it is among them");
    assert!(line.starts_with(&myself), "{line}");
    assert!(caller.call("CLUSTER INFO").await.expect("open").text().contains("cluster_state:ok\r\n"));
    assert!(caller.call("INFO cluster").await.expect("open").text().contains("cluster_enabled:1\r\n"));
    assert_eq!(caller.call("CLUSTER SHARDS").await.expect("open").items().len(), 3);
    assert_eq!(caller.call("CLUSTER LINKS").await.expect("open").items().len(), 2);
    assert_eq!(caller.call(&format!("CLUSTER REPLICAS {myself}")).await.expect("open"), Reply::Array(Vec::new()));
    // What nodes lead together is all there is, and a slot's keys are found where they are.
    let slot = kvorum_protocol::hash::slot(b"key-7");
    let (mut found, mut counted, mut keys, mut of_slot) = (0, 0, 0, Vec::new());
    for caller in &mut callers {
        counted += caller.call("DBSIZE").await.expect("open").integer();
        keys += caller.call("KEYS key-*").await.expect("open").items().len();
        let scanned = caller.call("SCAN 0 COUNT 1000 MATCH key-*").await.expect("open");
        found += scanned.items()[1].items().len();
        of_slot.extend(caller.call(&format!("CLUSTER GETKEYSINSLOT {slot} 10")).await.expect("open").items().to_vec());
    }
    assert_eq!((keys, found), (50, 50));
    assert!(counted >= 50, "{counted}");
    assert!(of_slot.contains(&Reply::Text("key-7".into())), "{of_slot:?}");
    let after: u64 = forwards(&cluster, 1).await + forwards(&cluster, 2).await + forwards(&cluster, 3).await;
    assert_eq!(after, before, "nothing was passed on");
    // Each removes what it leads.
    for caller in &mut callers {
        assert_eq!(caller.call("FLUSHALL").await.expect("open"), Reply::Text("OK".into()));
    }
    for caller in &mut callers {
        assert_eq!(caller.call("DBSIZE").await.expect("open"), Reply::Integer(0));
    }
}

/// Counts in a key of each shard until it is told to stop, and gives for each how many increments were answered, and of how many
/// nobody knows.
async fn count(
    mut client: Follower,
    keys: Vec<String>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> (Vec<(i64, i64)>, usize) {
    let mut counts = vec![(0, 0); keys.len()];
    while !stop.load(Ordering::Relaxed) {
        for (key, (answered, unknown)) in keys.iter().zip(&mut counts) {
            match client.call(key, &format!("INCR {key}")).await {
                Ok(Reply::Integer(value)) => {
                    *answered += 1;
                    assert!((*answered..=*answered + *unknown).contains(&value), "{key}: {value} after {answered}");
                }
                Ok(Reply::Error(text)) if text.starts_with("CLUSTERDOWN ") || text.starts_with("TRYAGAIN ") => {}
                Ok(Reply::Error(text)) if text.starts_with("ERR outcome unknown") => *unknown += 1,
                Ok(other) => panic!("{key}: {other:?}"),
                Err(_) => *unknown += 1,
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    (counts, client.moved)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_follows_moved_survives_handed_over_and_killed_leaders() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let keys: Vec<String> =
        (0..cluster.shards()).map(|shard| key_in_shard("counter", ShardId(shard), cluster.shards())).collect();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let counting =
        tokio::spawn(count(Follower::new(doors(&cluster)), keys.clone(), Arc::clone(&stop), Arc::clone(&done)));
    let rounds = async |more: u64| {
        let goal = done.load(Ordering::Relaxed) + more;
        eventually("increments go on", DEADLINE, async || {
            let now = done.load(Ordering::Relaxed);
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal} rounds")) }
        })
        .await;
    };
    rounds(3).await;
    // Leadership of each shard goes to another node, and all the while each slot has one owner.
    let client = cluster.client().await;
    let mut callers = Vec::new();
    for door in doors(&cluster) {
        callers.push(Caller::open(door).await.expect("the door is open"));
    }
    for shard in (0..cluster.shards()).map(ShardId) {
        let topology = cluster.settled_topology(&client).await;
        let leader = topology.leader_of(shard).expect("settled").id;
        let to = topology.replicas_of(shard).find(|node| node.id != leader).expect("three replicas").id;
        client.admin().transfer_leadership(shard, to).await.expect("it is handed over");
        for caller in &mut callers {
            owners(caller).await;
        }
    }
    rounds(3).await;
    // Then a node is killed that leads something.
    let topology = cluster.settled_topology(&client).await;
    let victim = cluster.leader_of(&topology, ShardId(0));
    cluster.kill(victim);
    let left: Vec<usize> = cluster.nodes().filter(|node| *node != victim).collect();
    for node in &left {
        owners(&mut callers[*node - 1]).await;
    }
    rounds(5).await;
    stop.store(true, Ordering::Relaxed);
    let (counts, moved) = counting.await.expect("no other error came");
    assert!(moved > 0, "it was sent elsewhere");
    let mut client = Follower::new(left.iter().map(|node| cluster.resp_cluster_address(*node)).collect());
    for (key, (answered, unknown)) in keys.iter().zip(counts) {
        let value = client.call(key, &format!("GET {key}")).await.expect("open");
        let value: i64 = value.text().parse().expect("a number");
        assert!(
            (answered..=answered + unknown).contains(&value),
            "{key}: {value}, {answered} answered, {unknown} unknown"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_addresses_are_told() {
    let environment = vec![("KVORUM_RESP_CLUSTER_ANNOUNCE", "redis.example:7777".to_owned())];
    let options = ClusterOptions { nodes: 1, shards: 2, environment, ..ClusterOptions::default() };
    let cluster = TestCluster::start(options).await;
    let mut caller = Caller::open(cluster.resp_cluster_address(1)).await.expect("open");
    let slots = caller.call("CLUSTER SLOTS").await.expect("open");
    let node = &slots.items()[0].items()[2];
    assert_eq!((node.items()[0].text(), node.items()[1].integer()), ("redis.example", 7777));
    let mut standalone = Caller::open(cluster.resp_address(1)).await.expect("open");
    let refused = standalone.call("CLUSTER SLOTS").await.expect("open");
    assert_eq!(refused, Reply::Error("ERR This instance has cluster support disabled".into()));
}
