//! Logs that can't be written: a full partition, a reader that has gone away, one that does not read. They cost log lines,
//! never a node.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::process::Surroundings;
use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_client::ShardId;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const PUTS: usize = 300;
/// Of the 65,536 bytes that a pipe holds; a few log lines fill the rest.
const PIPE_FILLED_BYTES: usize = 65_000;

/// Takes what is written to it, and is full.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has a device that is full")
}

fn stderr_is(stderr: impl Into<Stdio>) -> Surroundings {
    Surroundings { stderr: stderr.into(), ..Surroundings::default() }
}

/// A node of its own, with this for its stderr: it serves, and ends in a clean stop when it is told to.
async fn serves_and_stops(stderr: impl Into<Stdio>, filter: &'static str) {
    let options = ClusterOptions { nodes: 1, shards: 2, ..ClusterOptions::default() };
    let mut cluster = TestCluster::laid_out(options);
    cluster.start_node_with(1, &[("KVORUM_LOG", filter.to_owned())], stderr_is(stderr));
    cluster.wait_ready().await;
    let client = cluster.client().await;
    for number in 0..PUTS {
        client.put(format!("key-{}", number % 7), number.to_string()).await.expect("the node serves");
    }
    terminate(&mut cluster, 1);
    assert_eq!(cluster.wait_exit(1, DEADLINE).await.code(), Some(0));
}

fn terminate(cluster: &mut TestCluster, node: usize) {
    let id = Pid::from_raw(cluster.process(node).id() as i32).expect("a process has an id");
    kill_process(id, Signal::TERM).expect("the process is a child of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_and_stops_although_its_log_is_full() {
    serves_and_stops(full(), "info").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_and_stops_although_nobody_reads_its_log_any_more() {
    let (reader, writer) = std::io::pipe().expect("the system gives a pipe");
    drop(reader);
    serves_and_stops(writer, "info").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_and_stops_although_the_reader_of_its_log_hangs() {
    let (reader, mut writer) = std::io::pipe().expect("the system gives a pipe");
    writer.write_all(&[b'.'; PIPE_FILLED_BYTES]).expect("an empty pipe takes as much");
    serves_and_stops(writer, "trace").await;
    drop(reader);
}

/// What B1 was: three nodes with full logs, and one that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_partition_and_a_lost_node_are_no_more_than_a_lost_node() {
    let mut cluster = TestCluster::laid_out(ClusterOptions::default());
    for node in cluster.nodes() {
        cluster.start_node_with(node, &[], stderr_is(full()));
    }
    cluster.wait_ready().await;
    cluster.kill(2);
    let client = cluster.client_of([1, 3]).await;
    for shard in 0..cluster.shards() {
        let key = key_in_shard("after", ShardId(shard), cluster.shards());
        eventually("the shard takes writes", DEADLINE, async || {
            client.put(key.clone(), "yes").deadline(OPERATION_DEADLINE).await
        })
        .await;
    }
    cluster.start_node_with(2, &[], stderr_is(full()));
    cluster.wait_ready().await;
    for node in cluster.nodes() {
        assert!(cluster.process(node).is_running(), "node {node} has ended");
        terminate(&mut cluster, node);
        assert_eq!(cluster.wait_exit(node, DEADLINE).await.code(), Some(0), "node {node}");
    }
}
