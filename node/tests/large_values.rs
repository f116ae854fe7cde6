//! Large values on a connection that small requests share: the small ones pass, and parts that make no sense are cut off.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use crate::common::wire::{Received, get, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster};
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_client::ErrorCode;
use kvorum_protocol::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, PART_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::part::{PART_KIND, Parts};
use kvorum_protocol::request::{PROTOCOL_VERSION, feature};
use kvorum_protocol::{Hello, Request, RequestBody, RequestId, ResponseBody, WriteStatus, frame};
use std::time::Duration;
use tokio::net::TcpSocket;

/// A socket that takes little before its reader does, so that most of a large answer stays with the node.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;
const DEADLINE_MS: u32 = 20_000;

async fn one_node() -> TestCluster {
    TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await
}

async fn connect(cluster: &TestCluster) -> RawConnection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    let mut connection = RawConnection::over(socket.connect(cluster.address(1)).await.unwrap()).unwrap();
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features: feature::PARTS,
        cluster: None,
        client: new_client(),
        name: "large".to_owned(),
    };
    match connection.call(RequestBody::Hello(hello)).await.unwrap() {
        ResponseBody::Hello(reply) => assert_eq!(reply.features, feature::PARTS),
        other => panic!("HELLO was answered with {other:?}"),
    }
    connection
}

async fn answer(connection: &mut RawConnection) -> (RequestId, ResponseBody) {
    match connection.receive().await {
        Received::Response(response) => (response.id, response.body),
        Received::Closed => panic!("the node closed the connection"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_pass_large_ones_in_both_directions() {
    let cluster = one_node().await;
    let mut connection = connect(&cluster).await;
    let value: Bytes = (0..VALUE_BYTES_MAX).map(|byte| (byte % 251) as u8).collect();
    let large_id = RequestId(1_000_000);
    let request = Request { id: large_id, deadline_ms: DEADLINE_MS, body: put(1, "large", value.clone()) };
    let mut parts = Parts::new(request.encode_pieces());
    let mut out = BytesMut::new();
    parts.encode_next(&mut out);
    connection.send_bytes(&out).await.unwrap();
    let ping = || RequestBody::Ping(Bytes::from_static(b"small"));
    assert!(matches!(connection.call(ping()).await.unwrap(), ResponseBody::Pong(_)), "the large one has only begun");
    while parts.left() > 0 {
        out.clear();
        parts.encode_next(&mut out);
        connection.send_bytes(&out).await.unwrap();
    }
    match answer(&mut connection).await {
        (id, ResponseBody::Written(result)) => assert_eq!((id, result.status), (large_id, WriteStatus::Applied)),
        other => panic!("the large PUT was answered with {other:?}"),
    }

    let large_id = connection.send(get("large"), DEADLINE_MS).await.unwrap();
    connection.wait_for_a_part().await;
    let small_id = connection.send(ping(), DEADLINE_MS).await.unwrap();
    let (id, body) = answer(&mut connection).await;
    assert_eq!((id, body), (small_id, ResponseBody::Pong(Bytes::from_static(b"small"))));
    match answer(&mut connection).await {
        (id, ResponseBody::Value(Some(entry))) => assert!(id == large_id && entry.value == value),
        (id, _) => panic!("{id:?} was not answered with the value"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_too_many_or_do_not_follow_end_the_connection() {
    let cluster = one_node().await;
    let part = |left: u32, bytes: usize| {
        let mut out = BytesMut::new();
        frame::encode(&mut out, |out| {
            out.put_u8(PART_KIND);
            out.put_u32_le(left);
            out.put_bytes(0x10, bytes);
        });
        out
    };
    let whole = FRAME_BYTES_MAX as u32;
    for (parts, code) in [
        (vec![part(whole, 1)], ErrorCode::TooLarge),
        (vec![part(u32::MAX, 1)], ErrorCode::TooLarge),
        (vec![part(1000, PART_BYTES_MAX + 1)], ErrorCode::TooLarge),
        (vec![part(1000, 10), part(1000, 10)], ErrorCode::Malformed),
        (vec![part(1000, 10), part(0, 1)], ErrorCode::Malformed),
        (vec![part(1000, 0)], ErrorCode::Malformed),
    ] {
        let mut connection = connect(&cluster).await;
        for part in parts {
            connection.send_bytes(&part).await.unwrap();
        }
        assert_eq!(connection.refusal().await.map(|error| error.code), Some(code));
        assert!(matches!(connection.receive().await, Received::Closed));
    }
    let mut stranger = RawConnection::open(cluster.address(1)).await.unwrap();
    stranger.send_bytes(&part(1000, 10)).await.unwrap();
    assert!(stranger.refusal().await.is_some(), "parts come after HELLO");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_key_and_value_pass_and_one_byte_more_does_not() {
    let cluster = one_node().await;
    let client = cluster.client().await;
    let key = vec![b'k'; KEY_BYTES_MAX];
    let value = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
    client.put(&key, value.clone()).await.unwrap();
    assert!(client.get(&key).await.unwrap().unwrap().value == value);
    let mut connection = connect(&cluster).await;
    let too_large =
        [put(1, vec![b'k'; KEY_BYTES_MAX + 1], "value"), put(2, "key", Bytes::from(vec![b'v'; VALUE_BYTES_MAX + 1]))];
    for body in too_large {
        let request = Request { id: RequestId(7), deadline_ms: DEADLINE_MS, body };
        let mut parts = Parts::new(request.encode_pieces());
        let mut out = BytesMut::new();
        while parts.left() > 0 {
            parts.encode_next(&mut out);
        }
        connection.send_bytes(&out).await.unwrap();
        match answer(&mut connection).await {
            (_, ResponseBody::Error(error)) => assert_eq!(error.code, ErrorCode::TooLarge),
            (_, other) => panic!("too much was answered with {other:?}"),
        }
    }
}

/// Keys that were chosen to share one hash, of the kind that anybody can compute, with large values: each page of a scan is a
/// frame that a client takes, and what reads or rewrites values leaves the connection usable.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_of_keys_that_were_chosen_to_collide_are_scanned_in_pages() {
    const KEYS: usize = 9;
    let cluster = one_node().await;
    let client = cluster.client().await;
    let front = [0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe];
    let keys: Vec<Vec<u8>> =
        (0..KEYS as u64).map(|number| [&front[..], &number.to_le_bytes(), &[7; 16]].concat()).collect();
    let value = Bytes::from(vec![b'v'; 4 * 1024 * 1024]);
    for key in &keys {
        client.put(key, value.clone()).await.unwrap();
    }

    let mut scanned = client.scan(front).values(true).try_collect_all().await.unwrap();
    scanned.sort_by(|one, other| one.key.cmp(&other.key));
    assert!(scanned.iter().map(|entry| &entry.key[..]).eq(keys.iter().map(|key| &key[..])));
    assert!(scanned.iter().all(|entry| entry.value == value));
    assert_eq!(client.scan(front).page(1).try_collect_all().await.unwrap().len(), KEYS);

    // Four values fit into a reply; the library asks for each of the others alone.
    let many = client.get_many(&keys).await;
    let read = many.iter().filter(|found| matches!(found, Ok(Some(entry)) if entry.value == value)).count();
    assert_eq!(read, KEYS);

    // Rewrites the value, in a turn of its own, and is seen by what comes behind it on the same connection.
    let expired = client.expire(&keys[0], Duration::from_secs(3_600));
    let (written, found) = tokio::join!(expired, client.get(&keys[0]));
    assert!(written.unwrap().is_applied());
    assert_eq!(found.unwrap().unwrap().value, value);
    let stored = client.explain(&keys[0]).await.unwrap().stored.unwrap();
    assert_eq!((stored.value_bytes as usize, stored.expires_at_ms.is_some()), (value.len(), true));
}
