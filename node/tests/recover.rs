//! Groups that have lost their quorum for good are recovered from what is left, by an operator and with the nodes stopped. All that
//! is left of what was acknowledged is there, and who was given up does not return.

use crate::common::process::{run, run_well};
use crate::common::{ClusterOptions, TestCluster, eventually};
use kvorum_client::{Client, ClusterVerb, EncryptVerb, ShardId, ShardRole, health};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);
const KEYS: u64 = 300;
/// Ids of replicas that began after a recovery are above this.
const RECOVERED_FROM: u64 = 1 << 20;

async fn write_all(client: &Client) {
    for number in 0..KEYS {
        client.put(format!("key-{number}"), format!("{number}")).await.expect("the cluster takes writes");
    }
}

async fn check_all(client: &Client) {
    for number in 0..KEYS {
        let found = client.get(format!("key-{number}")).await.expect("it can be read");
        assert_eq!(found.map(|entry| entry.value), Some(format!("{number}").into()), "key {number}");
    }
}

/// Waits until every shard has so many replicas, and CLUSTER CHECK finds no problem.
async fn wait_whole(client: &Client, nodes: usize, replicas: usize) {
    eventually("the cluster is whole", PATIENCE, async || {
        let topology = client.topology().await.map_err(|error| error.to_string())?;
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let problems = health::problems(&topology, &statuses);
        let thin = topology.shards.iter().filter(|shard| shard.replicas.len() != replicas).count();
        match (topology.nodes.len() == nodes, thin, problems.is_empty()) {
            (true, 0, true) => Ok(()),
            _ => Err(format!("{} nodes, {thin} shards are thin, {problems:?}", topology.nodes.len())),
        }
    })
    .await;
}

/// Waits until every replica holds all that any had committed when this was called.
async fn wait_caught_up(client: &Client) {
    let mut goal: Option<BTreeMap<ShardId, u64>> = None;
    eventually("every replica catches up", PATIENCE, async || {
        let statuses = client.status().await.map_err(|error| error.to_string())?;
        let shards =
            || statuses.iter().flat_map(|status| &status.shards).filter(|shard| shard.role != ShardRole::Missing);
        let goal = goal.get_or_insert_with(|| {
            let mut committed = BTreeMap::new();
            for shard in shards() {
                let known: &mut u64 = committed.entry(shard.shard).or_default();
                *known = shard.committed.0.max(*known);
            }
            committed
        });
        match shards().find(|shard| goal.get(&shard.shard) > Some(&shard.applied.0)) {
            Some(behind) => Err(format!("a replica of shard {} has applied {}", behind.shard, behind.applied)),
            None => Ok(()),
        }
    })
    .await;
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// `kvorum recover` with a node's folder, as an operator would use it.
struct Recovery {
    dir: PathBuf,
}

impl Recovery {
    fn new(cluster: &TestCluster) -> Self {
        Self { dir: cluster.dir() }
    }

    fn plan_file(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    /// Inspects these nodes' folders. Returns the files with the reports.
    fn inspect(&self, cluster: &TestCluster, nodes: &[usize]) -> Vec<PathBuf> {
        let report = |node: &usize| {
            let data = cluster.node_dir(*node).join("data");
            let file = self.dir.join(format!("node-{node}.json"));
            fs::write(&file, run_well(&["recover", "inspect", text(&data)])).expect("a report can be written");
            file
        };
        nodes.iter().map(report).collect()
    }

    fn plan(&self, reports: &[PathBuf], gone: &str) -> (bool, String) {
        let plan = self.plan_file();
        let mut arguments = vec!["recover", "plan", "--out", text(&plan)];
        if !gone.is_empty() {
            arguments.extend(["--gone", gone]);
        }
        arguments.extend(reports.iter().map(|report| text(report)));
        let (status, said) = run(&arguments);
        (status.success(), said)
    }

    fn apply(&self, cluster: &TestCluster, node: usize, accepts: bool) -> (Option<i32>, String) {
        let (plan, data) = (self.plan_file(), cluster.node_dir(node).join("data"));
        let mut arguments = vec!["recover", "apply", text(&plan), text(&data)];
        if accepts {
            arguments.push("--accept-loss");
        }
        let (status, said) = run(&arguments);
        (status.code(), said)
    }
}

fn noted(cluster: &TestCluster, node: usize) -> BTreeMap<ShardId, u64> {
    let groups = (0..cluster.shards()).map(ShardId).chain([ShardId::META]);
    groups.filter_map(|shard| Some((shard, cluster.noted_replica(node, shard)?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_nodes_is_left_and_the_cluster_grows_whole_again() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 4, ..ClusterOptions::default() }).await;
    write_all(&cluster.client().await).await;
    cluster.wait_caught_up(1).await;
    let recovery = Recovery::new(&cluster);
    let data = cluster.node_dir(1).join("data");
    let (status, said) = run(&["recover", "inspect", text(&data)]);
    assert_eq!((status.code(), said.contains("is in use")), (Some(75), true), "{said}");
    cluster.kill_all();
    let kept = cluster.dir().join("kept");
    fs::rename(cluster.node_dir(2).join("data"), &kept).expect("the folder can be kept aside");
    fs::remove_dir_all(cluster.node_dir(3).join("data")).expect("the folder can be removed");

    let reports = recovery.inspect(&cluster, &[1]);
    let listening = TcpListener::bind(cluster.address(2)).expect("the address is free");
    let (made, said) = recovery.plan(&reports, "node-2,node-3");
    assert!(!made && said.contains("node-2 was named as gone, and something answers"), "{said}");
    drop(listening);
    let (made, said) = recovery.plan(&reports, "node-2");
    assert!(!made && said.contains("nothing is known of node-3"), "{said}");
    let (made, said) = recovery.plan(&reports, "node-2,node-3");
    assert!(made && said.contains("5 groups have lost their quorum; left as they are: 0"), "{said}");

    // A node that was started meanwhile may have changed anything.
    cluster.start_node(1);
    eventually("it is started", PATIENCE, async || {
        let starts = cluster.log(1).lines().iter().filter(|line| line.contains("listening")).count();
        if starts == 2 { Ok(()) } else { Err(format!("{starts} starts")) }
    })
    .await;
    cluster.kill(1);
    let (code, said) = recovery.apply(&cluster, 1, true);
    assert!(code == Some(1) && said.contains("its node was started"), "{said}");
    let (made, said) = recovery.plan(&recovery.inspect(&cluster, &[1]), "node-2,node-3");
    assert!(made, "{said}");
    let (status, said) = run(&["recover", "apply", text(&recovery.plan_file()), text(&kept), "--accept-loss"]);
    assert!(!status.success() && said.contains("has given this node up"), "{said}");

    let (code, said) = recovery.apply(&cluster, 1, false);
    assert!(code == Some(1) && said.contains("--accept-loss"), "{said}");
    let (code, said) = recovery.apply(&cluster, 1, true);
    assert!(code == Some(0) && said.contains("groups that go on from here: 5"), "{said}");
    let (code, said) = recovery.apply(&cluster, 1, true);
    assert!(code == Some(0) && said.contains("was applied before: there is nothing to do"), "{said}");
    assert!(noted(&cluster, 1).values().all(|replica| *replica > RECOVERED_FROM));
    run_well(&["verify", text(&data)]);

    cluster.start_node(1);
    cluster.wait_ready().await;
    let client = cluster.client_of([1]).await;
    check_all(&client).await;
    client.put("after", "the loss").await.expect("it takes writes");

    // Who was given up learns so, and ends.
    fs::rename(&kept, cluster.node_dir(2).join("data")).expect("the folder can be put back");
    cluster.start_node(2);
    let status = cluster.wait_exit(2, PATIENCE).await;
    let last = cluster.log(2).last_line();
    assert!(status.code() == Some(78) && last.contains("given up when the cluster was recovered"), "{status}: {last}");

    // Two at once: the one node that is left is the only one that knows a map.
    let fourth = cluster.add_node();
    cluster.add_node();
    wait_whole(&client, 3, 3).await;
    check_all(&client).await;
    // Nothing rests on the survivor alone any more.
    cluster.kill(1);
    let client = cluster.client_of([fourth, fourth + 1]).await;
    check_all(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_is_recovered_with_its_key_and_touched_with_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = |name: &str, fill: u8| {
        let path = folder.path().join(name);
        fs::write(&path, [fill; 32]).expect("the folder is there");
        format!("file:{}", path.display())
    };
    let (right, wrong) = (key("right", 1), key("wrong", 2));
    let environment = vec![("KVORUM_ENCRYPTION_KEY", right.clone())];
    let mut cluster = TestCluster::start(ClusterOptions { shards: 2, environment, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    eventually("the cluster seals", PATIENCE, async || {
        let asked = client.admin().ask(ClusterVerb::Encrypt(EncryptVerb::On)).await;
        let plan = client.admin().plan(None).await.map_err(|error| error.to_string())?;
        let seals = plan.sealing.is_some_and(|sealing| sealing.active == 1 && sealing.waits_for.is_empty());
        if seals { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
    write_all(&client).await;
    cluster.wait_caught_up(1).await;
    cluster.kill_all();
    for node in [2, 3] {
        fs::remove_dir_all(cluster.node_dir(node).join("data")).expect("the folder can be removed");
    }
    let (data, report, plan) =
        (cluster.node_dir(1).join("data"), cluster.dir().join("node-1.json"), cluster.dir().join("plan.json"));
    let inspect = ["recover", "inspect", text(&data)];
    let (status, said) = run(&inspect);
    assert!(status.code() == Some(1) && said.contains("say --key SOURCE"), "{said}");
    let (status, said) = run(&[&inspect[..], &["--key", &wrong]].concat());
    assert!(status.code() == Some(1) && said.contains("another encryption.key"), "{said}");
    let said = run_well(&[&inspect[..], &["--key", &right]].concat());
    fs::write(&report, said).expect("a report can be written");
    let (status, said) = run(&["recover", "plan", "--out", text(&plan), "--gone", "node-2,node-3", text(&report)]);
    assert!(status.success(), "{said}");
    let apply = ["recover", "apply", text(&plan), text(&data), "--accept-loss"];
    let (status, said) = run(&apply);
    assert!(status.code() == Some(1) && said.contains("say --key SOURCE"), "{said}");
    run_well(&[&apply[..], &["--key", &right]].concat());
    cluster.start_node(1);
    cluster.wait_ready().await;
    let client = cluster.client_of([1]).await;
    check_all(&client).await;
    client.put("after", "the loss").await.expect("it takes writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_nodes_two_are_lost_and_only_what_lost_its_quorum_is_touched() {
    let options = ClusterOptions { nodes: 5, shards: 8, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    let client = cluster.client().await;
    write_all(&client).await;
    wait_caught_up(&client).await;
    let topology = cluster.settled_topology(&client).await;
    let holds = |node: usize, shard: usize| {
        let at = topology.nodes.iter().position(|known| known.name == format!("node-{node}")).expect("it is a node");
        topology.shards[shard].replicas.contains(&(at as u16))
    };
    let lost: Vec<ShardId> =
        (0..8).filter(|shard| holds(4, *shard) && holds(5, *shard)).map(|shard| ShardId(shard as u16)).collect();
    assert!(!lost.is_empty() && lost.len() < 8, "{lost:?}");
    cluster.kill_all();
    for node in [4, 5] {
        fs::remove_dir_all(cluster.node_dir(node).join("data")).expect("the folder can be removed");
    }
    let before: Vec<_> = [1, 2, 3].map(|node| noted(&cluster, node)).into();

    let recovery = Recovery::new(&cluster);
    let reports = recovery.inspect(&cluster, &[1, 2, 3]);
    let (made, said) = recovery.plan(&reports, "node-4,node-5");
    // `meta` has five voters, and three of them are left.
    let counted = format!("left as they are: {}", 9 - lost.len());
    assert!(made && said.contains(&counted), "{said}");
    for node in [1, 2, 3] {
        let (code, said) = recovery.apply(&cluster, node, true);
        assert_eq!(code, Some(0), "{said}");
    }
    for (node, before) in [1, 2, 3].into_iter().zip(&before) {
        for (shard, replica) in noted(&cluster, node) {
            let is_fresh = replica > RECOVERED_FROM;
            assert_eq!(is_fresh, lost.contains(&shard), "shard {shard} of node {node}");
            assert!(is_fresh || before.get(&shard) == Some(&replica), "shard {shard} of node {node} has its id");
        }
    }

    for node in [1, 2, 3] {
        cluster.start_node(node);
    }
    cluster.wait_ready().await;
    let client = cluster.client_of([1, 2, 3]).await;
    wait_whole(&client, 3, 3).await;
    check_all(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_forgotten_keeps_what_only_it_holds() {
    let options = ClusterOptions { nodes: 5, shards: 8, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(options).await;
    let client = cluster.client().await;
    write_all(&client).await;
    wait_caught_up(&client).await;
    cluster.kill_all();
    for node in [4, 5] {
        fs::remove_dir_all(cluster.node_dir(node).join("data")).expect("the folder can be removed");
    }
    let recovery = Recovery::new(&cluster);
    let reports = recovery.inspect(&cluster, &[1, 2, 3]);
    let (made, said) = recovery.plan(&reports, "node-4,node-5");
    assert!(made, "{said}");
    let before = noted(&cluster, 3);
    for node in [1, 2] {
        assert_eq!(recovery.apply(&cluster, node, true).0, Some(0));
    }
    // Node 3 was not recovered. It hears of the new map, and erases nothing for it that the map says is to be there.
    for node in [1, 2, 3] {
        cluster.start_node(node);
    }
    eventually("node 3 follows the new map", PATIENCE, async || {
        let says = |line: &String| line.contains("the ring map is in force") && line.contains("epoch=42949673");
        cluster.log(3).lines().iter().any(says).then_some(()).ok_or("it has not heard of it")
    })
    .await;
    cluster.kill_all_of(&[1, 2, 3]);
    let survives: Vec<ShardId> = said
        .lines()
        .filter(|line| line.split_whitespace().nth(5) == Some("node-3"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok().map(ShardId))
        .collect();
    assert!(!survives.is_empty(), "{said}");
    for shard in &survives {
        assert_eq!(cluster.noted_replica(3, *shard), before.get(shard).copied(), "shard {shard}");
    }

    // Another recovery takes it in.
    let reports = recovery.inspect(&cluster, &[1, 2, 3]);
    let (made, said) = recovery.plan(&reports, "");
    assert!(made, "{said}");
    for node in [1, 2, 3] {
        let (code, said) = recovery.apply(&cluster, node, true);
        assert_eq!(code, Some(0), "{said}");
        cluster.start_node(node);
    }
    cluster.wait_ready().await;
    let client = cluster.client_of([1, 2, 3]).await;
    wait_whole(&client, 3, 3).await;
    check_all(&client).await;
}
