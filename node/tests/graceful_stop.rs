//! Nobody is told that leadership moves. Clients that do not retry ask at a steady rate, and see no error: neither while each
//! node in turn is stopped by SIGTERM and started again, nor while leadership is handed from node to node.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::http::HttpConnection;
use crate::common::wire::{Received, get, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, key_in_shard};
use kvorum_client::RetryPolicy;
use kvorum_client::{Client, ShardId};
use kvorum_protocol::{ErrorCode, Outcome, ResponseBody};
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Pairs of requests that each client begins in a second.
const PAIRS_PER_SECOND: u32 = 50;
/// Clients at each node.
const CLIENTS: usize = 3;
/// Requests that must be answered before and after whatever is done to the cluster.
const ANSWERS: u64 = 300;
/// How long a node may take to stop: hand-over, clients that leave, shards.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn no_client_sees_an_error_while_each_node_stops_and_starts() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut stops = Vec::new();
    for node in cluster.nodes() {
        let mut load = Load::default();
        cluster.nodes().filter(|stays| *stays != node).for_each(|stays| load.ask(&cluster, stays));
        // These are connected to all nodes, the one that stops among them.
        load.ask_by_library(&cluster, node).await;
        load.await_answers(ANSWERS).await;
        let began = Instant::now();
        let process = Pid::from_raw(cluster.process(node).id() as i32).expect("a process has an id");
        kill_process(process, Signal::TERM).expect("the process is a child of ours");
        let status = cluster.wait_exit(node, STOP_DEADLINE).await;
        stops.push(began.elapsed());
        assert!(status.success(), "node {node}: {status}");
        load.await_answers(ANSWERS).await;
        cluster.start_node(node);
        cluster.wait_caught_up(node).await;
        load.await_answers(ANSWERS).await;
        load.assert_no_errors(&format!("node {node} was stopped")).await;
    }
    println!("the nodes took {stops:?} to stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_sees_an_error_while_leadership_is_handed_around() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let mut load = Load::default();
    cluster.nodes().for_each(|node| load.ask(&cluster, node));
    let mut moved = 0;
    for _ in 0..3 {
        for shard in (0..cluster.shards()).map(ShardId) {
            load.await_answers(20).await;
            let topology = cluster.settled_topology(&client).await;
            let from = cluster.leader_of(&topology, shard);
            let to = cluster.id_of(&topology, from % cluster.nodes().count() + 1);
            eventually("the shard is handed over", OPERATION_DEADLINE, async || {
                // It may be under way, or have been moved by the cluster itself.
                let asked = client.admin().transfer_leadership(shard, to).await;
                let topology = cluster.settled_topology(&client).await;
                let leads = topology.leader_of(shard).map(|node| node.id) == Some(to);
                if leads { Ok(()) } else { Err(format!("{asked:?}")) }
            })
            .await;
            moved += 1;
        }
    }
    load.assert_no_errors(&format!("{moved} shards were handed over")).await;
}

/// What a proxy keeps open is not closed under a request that is on its way: the next answer says that it is the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http_is_closed_by_an_answer_that_says_so() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let address = cluster.http_address(2);
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut connection = HttpConnection::open(address).await.expect("the node listens");
        let answer = connection.request("POST", "/kv/visits/incr", &[], "").await.expect("an answer");
        assert_eq!((answer.status, answer.headers.get("connection")), (200, None));
        open.push(connection);
    }
    let process = Pid::from_raw(cluster.process(2).id() as i32).expect("a process has an id");
    kill_process(process, Signal::TERM).expect("the process is a child of ours");
    eventually("the door takes no more connections", STOP_DEADLINE, async || {
        HttpConnection::open(address).await.err().map(|_| ()).ok_or_else(|| "it does".to_owned())
    })
    .await;
    for (number, mut connection) in (6..).zip(open) {
        let answer = connection.request("POST", "/kv/visits/incr", &[], "").await.expect("the last answer");
        assert_eq!((answer.status, answer.json()["number"].as_u64()), (200, Some(number)));
        assert_eq!(answer.headers["connection"], "close");
        assert!(connection.request("GET", "/kv/visits", &[], "").await.is_err(), "it was the last one");
    }
    let status = cluster.wait_exit(2, STOP_DEADLINE).await;
    assert!(status.success(), "{status}");
}

/// A client that does not know what `ShuttingDown` means, and goes on asking, is served by the new leaders for a while; then it hears
/// of a request that it was not begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stays_is_served_until_it_must_go() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let mut connection = RawConnection::greet(cluster.address(1), new_client()).await.expect("the door is open");
    let mut idle = RawConnection::greet(cluster.address(1), new_client()).await.expect("the door is open");
    let process = Pid::from_raw(cluster.process(1).id() as i32).expect("a process has an id");
    kill_process(process, Signal::TERM).expect("the process is a child of ours");
    let (mut told, mut served) = (false, 0);
    'asking: for sequence in 1.. {
        let key = key_in_shard("stays", ShardId((sequence % u64::from(cluster.shards())) as u16), cluster.shards());
        let sent = connection.send(put(sequence, key, "v"), 0).await.expect("the node reads to the end");
        loop {
            let Received::Response(response) = connection.receive().await else {
                panic!("closed without a word after {served} answers")
            };
            match response.body {
                ResponseBody::Error(error) if response.id.0 == 0 => {
                    assert_eq!(error.code, ErrorCode::ShuttingDown);
                    told = true;
                    continue;
                }
                ResponseBody::Written(_) => served += u32::from(told),
                ResponseBody::Error(error) => {
                    assert_eq!((error.code, error.outcome), (ErrorCode::ShuttingDown, Outcome::NotApplied));
                    break 'asking;
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(response.id, sent);
            break;
        }
    }
    assert!(served > 0, "it is served after it was asked to leave");
    let told = idle.refusal().await.map(|error| error.code);
    assert_eq!(told, Some(ErrorCode::ShuttingDown));
    assert!(matches!(idle.receive().await, Received::Closed), "it asked for nothing");
    assert!(cluster.wait_exit(1, STOP_DEADLINE).await.success());
}

/// Clients at work, and what they saw.
#[derive(Default)]
struct Load {
    clients: JoinSet<Vec<String>>,
    answers: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
}

impl Load {
    /// Clients that ask one node, and never again.
    fn ask(&mut self, cluster: &TestCluster, node: usize) {
        for number in 0..CLIENTS {
            let (answers, stops) = (Arc::clone(&self.answers), Arc::clone(&self.stops));
            let (address, shards) = (cluster.address(node), cluster.shards());
            self.clients.spawn(async move {
                let mut connection = RawConnection::greet(address, new_client()).await.expect("the door is open");
                let mut errors = Vec::new();
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / PAIRS_PER_SECOND);
                for sequence in 1.. {
                    if stops.load(Ordering::Relaxed) {
                        break;
                    }
                    ticks.tick().await;
                    let shard = ShardId((sequence % u64::from(shards)) as u16);
                    let key = key_in_shard(&format!("{node}-{number}-"), shard, shards);
                    errors.extend(pair(&mut connection, sequence, &key).await);
                    answers.fetch_add(2, Ordering::Relaxed);
                }
                errors
            });
        }
    }

    /// A client of the library that never tries again of itself: it has no retries to spend.
    async fn ask_by_library(&mut self, cluster: &TestCluster, first: usize) {
        let policy = RetryPolicy::default().with_budget(0, 0, 0).with_attempt_timeout(OPERATION_DEADLINE);
        let url = cluster.url([first]);
        let client = Client::builder().url(&url).retry_policy(policy).deadline(OPERATION_DEADLINE).connect().await;
        let client = client.expect("the node's door is open");
        for number in 0..CLIENTS {
            let (answers, stops) = (Arc::clone(&self.answers), Arc::clone(&self.stops));
            let (client, shards) = (client.clone(), cluster.shards());
            self.clients.spawn(async move {
                let mut errors = Vec::new();
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / PAIRS_PER_SECOND);
                for sequence in 1_u64.. {
                    if stops.load(Ordering::Relaxed) {
                        break;
                    }
                    ticks.tick().await;
                    let shard = ShardId((sequence % u64::from(shards)) as u16);
                    let key = key_in_shard(&format!("library-{first}-{number}-"), shard, shards);
                    let value = sequence.to_string();
                    let written = client.put(&key, value.clone()).await;
                    errors.extend(written.err().map(|error| format!("library: put: {error}")));
                    match client.get(&key).await {
                        Ok(Some(entry)) if entry.value == value => {}
                        other => errors.push(format!("library: get: {other:?}")),
                    }
                    answers.fetch_add(2, Ordering::Relaxed);
                }
                errors
            });
        }
    }

    /// Waits until so many more requests are answered.
    async fn await_answers(&self, more: u64) {
        let goal = self.answers.load(Ordering::Relaxed) + more;
        eventually("requests are answered", Duration::from_secs(20), async || {
            let answers = self.answers.load(Ordering::Relaxed);
            if answers >= goal { Ok(()) } else { Err(format!("{answers} of {goal}")) }
        })
        .await;
    }

    async fn assert_no_errors(mut self, after: &str) {
        self.stops.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            errors.extend(ended.expect("a client does not panic"));
        }
        let answers = self.answers.load(Ordering::Relaxed);
        println!("{after}: {} errors in {answers} requests", errors.len());
        assert!(errors.is_empty(), "{after}: {} errors, such as {:?}", errors.len(), &errors[..errors.len().min(5)]);
    }
}

/// A write and a read behind it, sent together: the read sees the write. Returns what went wrong.
async fn pair(connection: &mut RawConnection, sequence: u64, key: &str) -> Vec<String> {
    let value = sequence.to_string();
    let mut errors = Vec::new();
    let written = connection.send(put(sequence, key.to_owned(), value.clone()), 0).await;
    let read = connection.send(get(key), 0).await;
    let (Ok(_), Ok(read)) = (written, read) else { return vec!["the connection has ended".to_owned()] };
    for _ in 0..2 {
        let Received::Response(response) = connection.receive().await else {
            return vec!["the node closed the connection".to_owned()];
        };
        match response.body {
            ResponseBody::Written(_) => {}
            ResponseBody::Value(Some(entry)) if entry.value == value => {}
            ResponseBody::Error(error) if error.code == ErrorCode::ShuttingDown => panic!("this node stays: {error}"),
            other if response.id == read => errors.push(format!("{key}: get: {other:?}")),
            other => errors.push(format!("{key}: put: {other:?}")),
        }
    }
    errors
}
