//! What connections may cost a node and each other: memory that is announced and not sent, answers that nobody takes, clients
//! that vanish.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use crate::common::wait::pause_as_advised;
use crate::common::wire::{Received, get, hello, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually, key_in_shard};
use bytes::{Bytes, BytesMut};
use kvorum_client::{ErrorCode, ShardId};
use kvorum_protocol::limits::FRAME_BYTES_MAX;
use kvorum_protocol::{Request, RequestId, ResponseBody, WriteStatus};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};

/// More than all that are needed for a node's memory to be given away, if it were given for a word.
const ANNOUNCERS: usize = 40;
/// Far below the time for which a frame may be on its way.
const SOON: Duration = Duration::from_secs(10);
const DEADLINE_MS: u32 = 20_000;
/// Before a client repeats what was refused.
const PAUSE: Duration = Duration::from_millis(50);
/// Values that are asked for at once, together far more than any lane between nodes holds.
const READS: usize = 200;
const VALUE_BYTES: usize = 1024 * 1024;
/// A node gives a client 30 s to take its answers.
const SLOW_READER_DEADLINE: Duration = Duration::from_secs(60);

async fn one_node() -> TestCluster {
    TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await
}

/// The front of a frame of the largest size.
fn announcement() -> Vec<u8> {
    let mut front = (FRAME_BYTES_MAX as u32).to_le_bytes().to_vec();
    front.extend([0; 5]);
    front
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_announced_and_not_used_is_nobodys() {
    let cluster = one_node().await;
    let mut announcers = Vec::new();
    for _ in 0..ANNOUNCERS {
        let mut connection = RawConnection::greet(cluster.address(1), new_client()).await.unwrap();
        connection.send_bytes(&announcement()).await.unwrap();
        announcers.push(connection);
    }
    let began = Instant::now();
    let mut connection = RawConnection::greet(cluster.address(1), new_client()).await.unwrap();
    let large = connection.send(put(1, "large", vec![7; 300 * 1024]), DEADLINE_MS).await.unwrap();
    let small = connection.send(get("small"), DEADLINE_MS).await.unwrap();
    for _ in 0..2 {
        match connection.receive().await {
            Received::Response(response) if response.id == large => {
                assert!(
                    matches!(response.body, ResponseBody::Written(result) if result.status == WriteStatus::Applied)
                );
            }
            Received::Response(response) => {
                assert_eq!((response.id, response.body), (small, ResponseBody::Value(None)));
            }
            Received::Closed => panic!("the node closed the connection"),
        }
    }
    assert!(began.elapsed() < SOON, "the upload took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn before_hello_nothing_long_is_listened_to() {
    let cluster = one_node().await;
    let mut stranger = RawConnection::open(cluster.address(1)).await.unwrap();
    stranger.send_bytes(&announcement()).await.unwrap();
    assert_eq!(stranger.refusal().await.map(|error| error.code), Some(ErrorCode::TooLarge));
    assert!(matches!(stranger.receive().await, Received::Closed));
}

/// More uploads at once than there is memory for: each becomes whole in its turn.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_past_the_memory_for_them_become_whole_in_turn() {
    let cluster = one_node().await;
    let mut uploads = tokio::task::JoinSet::new();
    for number in 0..12 {
        let address = cluster.address(1);
        uploads.spawn(async move {
            let mut connection = RawConnection::greet(address, new_client()).await.unwrap();
            let value = Bytes::from(vec![number; 15 << 20]);
            // The shard's queue holds a few of them.
            loop {
                match connection.call_within(put(1, vec![number], value.clone()), DEADLINE_MS).await.unwrap() {
                    ResponseBody::Written(_) => return,
                    ResponseBody::Error(error) if error.code == ErrorCode::Overloaded => pause_as_advised(PAUSE).await,
                    other => panic!("{other:?} to a PUT"),
                }
            }
        });
    }
    while let Some(upload) = uploads.join_next().await {
        upload.unwrap();
    }
}

/// A cluster with one large value, and the addresses of a node that leads its shard and of one that does not.
async fn with_large_value() -> (TestCluster, String, SocketAddr, SocketAddr) {
    let cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let key = key_in_shard("large", ShardId(0), 1);
    client.put(key.clone(), vec![7; VALUE_BYTES]).await.unwrap();
    let topology = cluster.settled_topology(&client).await;
    let leader = cluster.leader_of(&topology, ShardId(0));
    let follower = cluster.nodes().find(|node| *node != leader).unwrap();
    let addresses = (cluster.address(leader), cluster.address(follower));
    (cluster, key, addresses.0, addresses.1)
}

/// Asks for a large value many times at once, and takes every answer: values and refusals.
async fn read_many(address: SocketAddr, key: &str) -> (usize, usize) {
    let mut connection = RawConnection::greet(address, new_client()).await.unwrap();
    for _ in 0..READS {
        connection.send(get(key), DEADLINE_MS).await.unwrap();
    }
    let (mut values, mut refused) = (0, 0);
    for _ in 0..READS {
        match connection.receive().await {
            Received::Response(response) => match response.body {
                ResponseBody::Value(Some(entry)) => {
                    assert!(entry.value.len() == VALUE_BYTES);
                    values += 1;
                }
                ResponseBody::Error(error) => {
                    assert_eq!(error.code, ErrorCode::Overloaded, "{error}");
                    refused += 1;
                }
                other => panic!("{other:?} to a GET"),
            },
            Received::Closed => panic!("the node closed the connection"),
        }
    }
    (values, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_large_read_is_answered_through_any_node() {
    let (_cluster, key, leader, follower) = with_large_value().await;
    for (node, address) in [("the leader", leader), ("another node", follower)] {
        let began = Instant::now();
        let (values, refused) = read_many(address, &key).await;
        println!("{node}: {values} values, {refused} refused, {:?}", began.elapsed());
        assert!(values > 0, "{node} answered no value");
        assert!(began.elapsed() < Duration::from_millis(DEADLINE_MS.into()), "{node} was silent until the deadline");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_closed_at_the_leader_and_elsewhere() {
    let (_cluster, key, leader, follower) = with_large_value().await;
    let mut slow = Vec::new();
    for address in [leader, follower] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let (mut connection, local) = greet_over(socket.connect(address).await.unwrap()).await;
        for _ in 0..READS / 2 {
            connection.send(get(&key), DEADLINE_MS).await.unwrap();
        }
        slow.push((connection, address, local));
    }
    for (_connection, address, local) in slow {
        eventually("the node closes", SLOW_READER_DEADLINE, async || match timer_of(address, local)? {
            None => Ok(()),
            Some(_) => Err("it is established".to_owned()),
        })
        .await;
    }
}

/// The system's own question, whether the other end is still there, is what frees the places of clients that vanished.
#[tokio::test(flavor = "multi_thread")]
async fn the_system_asks_after_silent_clients() {
    let cluster = one_node().await;
    let address = cluster.address(1);
    let (_silent, local) = greet_over(TcpStream::connect(address).await.unwrap()).await;
    eventually("a timer runs", SOON, async || match timer_of(address, local)? {
        // 02 is keepalive's.
        Some(timer) if timer.starts_with("02:") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn greet_over(stream: TcpStream) -> (RawConnection, SocketAddr) {
    let local = stream.local_addr().unwrap();
    let mut connection = RawConnection::over(stream).unwrap();
    assert!(matches!(connection.call(hello(new_client(), None)).await, Ok(ResponseBody::Hello(_))));
    (connection, local)
}

/// The timer of a node's socket that is established with a client's, as Linux tells it; `None` if there is no such socket.
fn timer_of(node: SocketAddr, client: SocketAddr) -> Result<Option<String>, String> {
    let [node, client] = [node, client].map(|end| format!("0100007F:{:04X}", end.port()));
    let sockets = std::fs::read_to_string("/proc/net/tcp").map_err(|error| error.to_string())?;
    // The columns: number, local address, remote address, state (01 is established), queues, timer.
    let mut rows = sockets.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1..4).is_some_and(|ends| ends == [&*node, &*client, "01"]));
    Ok(row.map(|row| row[5].to_owned()))
}

/// Reads that follow a write of their key are answered together, more of them than may wait unwritten, and further requests have come
/// in with them. These go on once the answers have left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_back_goes_on_when_many_answers_leave_at_once() {
    const READS: u32 = 3_000;
    let cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let leader = cluster.leader_of(&topology, ShardId(0));
    client.put("key", "v".repeat(4_096)).await.expect("it is stored");
    let mut connection = RawConnection::greet(cluster.address(leader), new_client()).await.expect("the door is open");
    for round in 1..=3_u64 {
        let mut frames = BytesMut::new();
        let ask = |id: u32, body| Request { id: RequestId(id), deadline_ms: 20_000, body };
        ask(1 << 20, put(round, "key", "w".repeat(4_096))).encode(&mut frames);
        (1..=READS).for_each(|id| ask(id, get("key")).encode(&mut frames));
        connection.send_bytes(&frames).await.expect("the connection lasts");
        let mut found = 0;
        for _ in 0..=READS {
            let Received::Response(response) = connection.receive().await else { panic!("the connection lasts") };
            match response.body {
                ResponseBody::Value(entry) => found += u32::from(entry.is_some_and(|entry| entry.value.len() == 4_096)),
                ResponseBody::Written(result) => assert_eq!(result.status, WriteStatus::Applied),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(found, READS);
    }
}
