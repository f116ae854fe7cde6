//! A rolling upgrade, as far as the programs' feature levels go: two programs whose levels meet are one cluster, and one that
//! does not speak the cluster's level is told what to start.
//!
//! There is one program yet, so a node of another one is this test binary, started again as a node that says other levels.

use crate::common;
use crate::common::process::Surroundings;
use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_core::folder::mirrored::copy_of;
use kvorum_core::map_keeper::RING_COPY;
use kvorum_core::ring::RingMap;
use kvorum_node::auth::cert::Identity;
use kvorum_node::auth::certificates::NodeCertificates;
use kvorum_node::cli::telemetry::LogFormat;
use kvorum_node::cli::{start, stop, telemetry};
use kvorum_node::folder::{self, DataFolder, Owner};
use kvorum_node::runtime::node;
use kvorum_protocol::ShardId;
use kvorum_protocol::peer::Levels;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const TEST: &str = "levels::programs_of_two_levels_are_one_cluster_and_a_third_is_told_what_to_start";
/// What a node is to be: its lowest and its highest level, and the path of its configuration, with blanks between.
const ORDER: &str = "LEVELS_TEST_NODE";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn programs_of_two_levels_are_one_cluster_and_a_third_is_told_what_to_start() {
    match std::env::var(ORDER) {
        Ok(order) => run_node(&order),
        Err(_) => Runtime::new().expect("a runtime").block_on(upgrade()),
    }
}

async fn upgrade() {
    let mut cluster = TestCluster::laid_out(ClusterOptions::default());
    start_node(&mut cluster, 1, Levels { min: 2, max: 2 });
    start_node(&mut cluster, 2, Levels { min: 2, max: 3 });
    start_node(&mut cluster, 3, Levels { min: 2, max: 3 });
    cluster.wait_ready().await;
    for node in cluster.nodes() {
        eventually("the map names every folder", PATIENCE, async || {
            let ring = ring_of(&cluster, node)?;
            let named = ring.nodes.iter().filter(|node| node.disk.is_some()).count();
            if named == 3 { Ok(()) } else { Err(format!("node {node} knows {named} folders")) }
        })
        .await;
    }

    // The third node's program is exchanged for one that speaks the next level only: too early.
    cluster.kill(3);
    start_node(&mut cluster, 3, Levels { min: 3, max: 3 });
    for (node, said) in [
        (1, "no common version of the protocol"),
        (
            2,
            "no common version of the protocol: it speaks level 3, and the cluster is at level 2: start an older program",
        ),
        (
            3,
            "no common version of the protocol: it speaks level 3, and the cluster is at level 2: start an older program",
        ),
    ] {
        let log = cluster.log(node);
        eventually("each end says why they do not talk", PATIENCE, async || {
            let lines = log.lines();
            let told = lines.iter().any(|line| line.contains(said));
            told.then_some(()).ok_or_else(|| format!("node {node} has not said: {said}"))
        })
        .await;
    }
    let client = cluster.client_of([1, 2]).await;
    for shard in (0..cluster.shards()).map(ShardId) {
        let key = key_in_shard("of-two", shard, cluster.shards());
        eventually("the others serve on", PATIENCE, async || client.put(key.as_str(), "yes").await.map(drop)).await;
    }

    // With the program before it is welcome again, and the level is what all have spoken all the time.
    cluster.kill(3);
    start_node(&mut cluster, 3, Levels { min: 2, max: 3 });
    cluster.wait_ready().await;
    for node in cluster.nodes() {
        assert_eq!(ring_of(&cluster, node).expect("it has a copy of the map").level, 2, "node {node}");
    }
}

/// The ring map that a node has seen last, by its copies. One of them may just be written.
fn ring_of(cluster: &TestCluster, node: usize) -> Result<RingMap, String> {
    let read = |name: &str| {
        let path = cluster.node_dir(node).join(format!("data/{name}.metadata"));
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        RingMap::from_copy(&bytes).map_err(|error| error.to_string())
    };
    read(RING_COPY).or_else(|_| read(&copy_of(RING_COPY)))
}

fn start_node(cluster: &mut TestCluster, node: usize, Levels { min, max }: Levels) {
    let config = common::cluster::config_path(&cluster.node_dir(node));
    let binary = std::env::current_exe().expect("this test has a path");
    let arguments = ["--exact", TEST, "--nocapture"].map(str::to_owned).to_vec();
    let surroundings = Surroundings { instead: Some((binary, arguments)), ..Surroundings::default() };
    cluster.start_node_with(node, &[(ORDER, format!("{min} {max} {config}"))], surroundings);
}

/// Does what `kvorum start` does, and says these levels.
fn run_node(order: &str) {
    let [min, max, config] = order.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let level = |text: &str| text.parse().expect("a level is a number");
    telemetry::start(LogFormat::Text, None).expect("nothing logs yet");
    let mut config = start::load(Some(Path::new(config)), Vec::new()).expect("the configuration is sound");
    config.levels = Levels { min: level(min), max: level(max) };
    let own = Identity { cluster: config.cluster_id, node: config.node_id };
    let certificates = NodeCertificates::load(&config.tls, own).expect("the certificate is sound");
    let owner = Owner {
        cluster: config.cluster_id,
        node: config.node_id,
        shards: config.shards,
        durability: config.durability,
    };
    let boot = folder::boot_id().expect("the machine has a boot id");
    let folder = DataFolder::open(&config.data_dir, owner, &boot).expect("the folder is this node's");
    let stopped = Runtime::new().expect("a runtime").block_on(async {
        let stop = CancellationToken::new();
        stop::with_stdin(stop.clone()).expect("a thread");
        node::run(config, certificates, folder, Arc::default(), stop).await
    });
    stopped.expect("it runs until it is told to stop").folder.stop_clean().expect("the folder can be written");
}
