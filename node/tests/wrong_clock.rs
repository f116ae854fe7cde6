//! One node's wall clock goes wrong while clients write: no key with a time to live vanishes early, none outlives it, and the node
//! says what is wrong with it and stops leading.

use crate::common::{ClusterOptions, TestCluster, eventually, let_run};
use kvorum_client::{Client, NodeStatus, ShardRole};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The node whose clock goes wrong.
const WRONG: usize = 1;
const HOUR_MS: i64 = 3_600_000;
const YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
/// For how long it stays wrong each time.
const LASTS: Duration = Duration::from_secs(4);
/// Keys that must live through all of it.
const LONG: Duration = Duration::from_secs(600);
/// Keys that must not.
const SHORT: Duration = Duration::from_secs(2);
/// What a life may be longer by: a tick, an entry and a read, on a busy machine.
const LATE: Duration = Duration::from_secs(2);
const KEYS: usize = 64;
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn keys_live_as_long_as_they_should_whatever_one_nodes_wall_clock_shows() {
    let cluster = TestCluster::start(ClusterOptions { fault_hooks: true, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let admin = cluster.client_of([WRONG]).await;
    let wrong = cluster.id_of(&topology, WRONG);
    for number in 0..KEYS {
        client.put(format!("long {number}"), "here").ttl(LONG).await.expect("a healthy cluster takes writes");
    }
    let load = Load::start(&client);
    for skews in [&[YEARS_MS][..], &[-HOUR_MS], &[HOUR_MS, -HOUR_MS, HOUR_MS, -HOUR_MS]] {
        for skew in skews {
            admin.admin().skew_clock(wrong, *skew).await.expect("fault hooks are on");
            let short = store_short(&client, &format!("{skew}")).await;
            let_run(LASTS / skews.len() as u32).await;
            assert_all_there(&client).await;
            assert_gone(&client, &short).await;
        }
        // The last of them has lasted for long enough to be noticed.
        eventually("the node says that its clock is off", DEADLINE, async || {
            let status = status_of(&client, &topology_name(&topology, wrong)).await?;
            let leads = status.shards.iter().filter(|shard| shard.role == ShardRole::Leader).count();
            let far = status.clock_ahead_ms.abs_diff(0) > 60_000;
            if status.clock_off && far && leads == 0 { Ok(()) } else { Err(format!("{leads} shards led, {status:?}")) }
        })
        .await;
        admin.admin().skew_clock(wrong, 0).await.expect("fault hooks are on");
        let short = store_short(&client, "right again").await;
        assert_all_there(&client).await;
        assert_gone(&client, &short).await;
        eventually("the node says that its clock is right", DEADLINE, async || {
            let status = status_of(&client, &topology_name(&topology, wrong)).await?;
            if status.clock_off { Err(format!("{status:?}")) } else { Ok(()) }
        })
        .await;
    }
    assert!(load.stop().await > 0, "clients wrote meanwhile");
    let log = cluster.log(WRONG).lines().join("\n");
    assert!(log.contains("this node's wall clock differs from those of most nodes"), "{log}");
}

fn topology_name(topology: &kvorum_client::Topology, id: kvorum_client::NodeId) -> String {
    topology.nodes.iter().find(|node| node.id == id).expect("the node is in the topology").name.clone()
}

async fn status_of(client: &Client, name: &str) -> Result<NodeStatus, String> {
    let statuses = client.status().await.map_err(|error| error.to_string())?;
    statuses.into_iter().find(|status| status.name == name).ok_or_else(|| format!("{name} does not answer"))
}

async fn assert_all_there(client: &Client) {
    for number in 0..KEYS {
        let entry = client.get(format!("long {number}")).await.expect("reads work");
        assert!(entry.is_some(), "key {number} is gone, {LONG:?} were not over");
    }
}

/// Keys with a short life, and when each was stored.
async fn store_short(client: &Client, name: &str) -> Vec<(String, Instant)> {
    let mut stored = Vec::new();
    for number in 0..KEYS {
        let key = format!("short {name} {number}");
        client.put(key.clone(), "here").ttl(SHORT).await.expect("writes work");
        stored.push((key, Instant::now()));
    }
    stored
}

/// Each is gone in time.
async fn assert_gone(client: &Client, stored: &[(String, Instant)]) {
    for (key, at) in stored {
        eventually("a key's life is over", DEADLINE, async || {
            // Before: an answer may take long on a busy machine, and tells of then.
            let lived = at.elapsed();
            match client.get(key.as_str()).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(_) => {
                    assert!(lived < SHORT + LATE, "{key} has lived for {lived:?}");
                    Err("it is there".to_owned())
                }
            }
        })
        .await;
    }
}

/// Writes all the time.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let (client, stop, written) = (client.clone(), Arc::clone(&stop), Arc::clone(&written));
            tasks.spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // While shards change hands a write may fail.
                    let put = client.put(format!("load {writer} {}", number % 100), "x").await;
                    written.fetch_add(usize::from(put.is_ok()), Ordering::Relaxed);
                }
            });
        }
        Self { stop, written, tasks }
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a writer does not panic");
        }
        self.written.load(Ordering::Relaxed)
    }
}
