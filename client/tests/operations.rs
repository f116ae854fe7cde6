//! What each operation sends and returns, against a fake cluster.

#![allow(clippy::unwrap_used)] // what can't be unwrapped here has failed the test

mod fake;

use fake::{FakeCluster, Step, is_topology};
use kvorum_client::limits::ONCE_NAME_BYTES_MAX;
use kvorum_client::{
    Ack, AtomicResult, Awaited, Client, ClusterId, Condition, Error, ErrorCode, LogIndex, Outcome, Receipt, Term,
    Version, WriteOp, WriteStatus,
};
use kvorum_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{ReadMode, RequestBody};
use std::time::Duration;
use uuid::Uuid;

async fn start(nodes: usize, shards: u16) -> (FakeCluster, Client) {
    let cluster = FakeCluster::start(nodes, shards).await;
    let client = Client::connect(&cluster.url()).await.unwrap();
    (cluster, client)
}

#[tokio::test]
async fn values_come_back_as_they_were_put() {
    let (_cluster, client) = start(3, 8).await;
    assert_eq!(client.get("k").await.unwrap(), None);
    let written = client.put("k", "v").ttl(Duration::from_secs(60)).await.unwrap();
    assert_eq!((written.status, written.ack), (WriteStatus::Applied, Ack::Committed));
    let entry = client.get("k").await.unwrap().unwrap();
    assert_eq!((&entry.key[..], &entry.value[..], entry.version), (&b"k"[..], &b"v"[..], written.version));
    assert_eq!(entry.expires_at_ms, Some(4_000_000_060_000));
    let kept = client.put("k", "v").keep_ttl().return_existed().await.unwrap();
    assert_eq!(kept.existed, Some(true));
    assert_eq!(client.get("k").await.unwrap().unwrap().expires_at_ms, Some(4_000_000_060_000));
    assert!(client.persist("k").await.unwrap().is_applied());
    assert_eq!(client.get("k").stale().await.unwrap().unwrap().expires_at_ms, None);
    assert!(client.expire("k", Duration::from_millis(5)).await.unwrap().is_applied());
    let deleted = client.delete("k").return_previous().await.unwrap();
    assert_eq!(deleted.previous.unwrap().value, "v");
    assert_eq!(client.delete("k").await.unwrap().status, WriteStatus::Missing);
    let created = client.put("k", "v").keep_ttl().return_existed().await.unwrap();
    assert_eq!((created.existed, created.previous), (Some(false), None));
    assert_eq!(client.get("k").await.unwrap().unwrap().expires_at_ms, None, "there was none to keep");
    assert!(client.put("k", "v").if_absent().return_existed().await.unwrap().into_result().existed.unwrap());
    assert_eq!(client.put("k", "v").await.unwrap().existed, None, "nobody asked");
    let misplaced = client.write(WriteOp::delete("k").keep_ttl()).await;
    assert!(matches!(misplaced, Err(Error::InvalidArgument(_))), "{misplaced:?}");
}

#[tokio::test]
async fn conditions_decide() {
    let (_cluster, client) = start(1, 1).await;
    let first = client.put("k", "1").if_absent().await.unwrap();
    let second = client.put("k", "2").if_absent().await.unwrap();
    assert_eq!((second.is_applied(), second.version()), (false, first.version()));
    assert_eq!(second.into_result().status, WriteStatus::ConditionFailed);
    assert!(client.put("k", "3").if_version(first.version()).await.unwrap().is_applied());
    assert!(!client.delete("k").if_version(first.version()).await.unwrap().is_applied());
    let seen = client.get("k").await.unwrap().unwrap().version;
    assert!(!client.put("k", "4").if_absent_or_version(first.version()).await.unwrap().is_applied());
    assert!(client.put("k", "4").if_absent_or_version(seen).await.unwrap().is_applied());
    assert!(client.put("fresh", "1").if_absent_or_version(seen).await.unwrap().is_applied(), "there is no such key");
    assert!(client.put("k", "4").if_present().await.unwrap().is_applied());
    assert_eq!(client.put("new", "1").if_present().await.unwrap().version(), Version(0));
    let stock = client.incr("stock", -1).if_present().await.unwrap();
    assert_eq!(stock.into_result().number, None, "there is none to take from");
}

#[tokio::test]
async fn who_has_a_receipt_learns_what_became_of_the_write() {
    let (cluster, client) = start(3, 8).await;
    assert_eq!(client.put("k", "v").await.unwrap().receipt, None, "it is committed");
    let accepted = client.put("k", "w").ack(Ack::Accepted).await.unwrap();
    let receipt = accepted.receipt.unwrap();
    let wait = Duration::from_millis(50);
    assert_eq!(client.await_write(receipt, wait).await, Ok(Awaited::Applied));
    assert_eq!(client.await_write(Receipt { term: Term(9), ..receipt }, wait).await, Ok(Awaited::Lost));
    let nobodys = Receipt { index: LogIndex(1 << 40), ..receipt };
    assert_eq!(client.await_write(nobodys, wait).await.unwrap_err().code(), ErrorCode::DeadlineExceeded);
    let all = cluster.nodes.iter().flat_map(|node| node.operations());
    let asked = all.filter(|request| matches!(request.body, RequestBody::Await { .. }));
    assert!(asked.count() > 3, "it asks again until the time is over");
}

#[tokio::test]
async fn numbers_and_appends_return_what_they_made() {
    let (_cluster, client) = start(1, 1).await;
    assert_eq!(client.incr("n", 5).await.unwrap(), 5);
    assert_eq!(client.incr("n", -7).await.unwrap(), -2);
    assert_eq!(client.append("a", "xy").await.unwrap(), 2);
    let error = client.incr("a", 1).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (ErrorCode::NotAnInteger, Outcome::NotApplied));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_write_under_a_name_is_done_once_whoever_sends_it() {
    let (cluster, client) = start(3, 8).await;
    let other = Client::connect(&cluster.url()).await.unwrap();
    assert_eq!(client.incr("n", 5).once("order-17").await, Ok(5));
    assert_eq!(other.incr("n", 5).once("order-17").await, Ok(5));
    let again = other.write(WriteOp::incr("n", 5)).once(b"order-17").await.unwrap().into_result();
    assert_eq!((again.number, again.replayed), (Some(5), true), "as a value it is the same write");
    assert_eq!(client.incr("m", 5).once("order-17").await, Ok(5), "under another key it is another name");
    assert_eq!(client.incr("n", 5).once("order-18").await, Ok(10));
    assert!(!client.put("k", "v").once("order-17").await.unwrap().replayed);
    let reused = client.put("k", "w").once("order-17").await.unwrap_err();
    assert_eq!((reused.code(), reused.outcome()), (ErrorCode::OnceIdReused, Outcome::NotApplied));
    assert!(!reused.is_retryable());
    // A condition that did not hold is an answer.
    let absent = || client.put("k", "mine").if_absent().once("lock-1");
    let refused = absent().await.unwrap().into_result();
    client.delete("k").await.unwrap();
    let still = absent().await.unwrap().into_result();
    assert_eq!((still.status, still.version, still.replayed), (refused.status, refused.version, true));
    assert_eq!(client.append("log", "x").once("line-1").await, Ok(1));
    assert_eq!(other.append("log", "x").once("line-1").await, Ok(1));
}

/// Its repetitions have the same number and the same name.
#[tokio::test]
async fn a_write_under_a_name_whose_answer_is_lost_is_sent_again_as_it_was() {
    let (cluster, client) = start(1, 1).await;
    let mut left = 1;
    cluster.nodes[0].script(move |request| match request.body {
        RequestBody::Write { .. } if std::mem::take(&mut left) > 0 => Step::ApplyAndHangUp,
        _ => Step::Default,
    });
    let result = client.put("k", "v").once("order-17").await.unwrap();
    assert!(result.is_applied() && !result.replayed, "it is the client's own");
    let ids = cluster.nodes[0].operations().into_iter().filter_map(|request| match request.body {
        RequestBody::Write { id, .. } => Some(id),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids.len(), 2);
    assert!(ids[0].once.is_some());
    assert_eq!((ids[0].once, ids[0].sequence, ids[1].retry), (ids[1].once, ids[1].sequence, true));
}

#[tokio::test]
async fn requests_go_to_the_leaders() {
    let (cluster, client) = start(3, 16).await;
    for node in 0..3 {
        client.put(cluster.key_of(node), "v").await.unwrap();
        client.get(cluster.key_of(node)).await.unwrap();
    }
    for (index, node) in cluster.nodes.iter().enumerate() {
        let keys: Vec<_> = node.operations().iter().map(|request| key_of(&request.body)).collect();
        assert_eq!(keys, vec![cluster.key_of(index); 2]);
        assert!(node.connections() <= 1);
    }
}

fn key_of(body: &RequestBody) -> String {
    let key = match body {
        RequestBody::Get { key, .. } => key,
        RequestBody::Write { mutation, .. } => &mutation.key,
        other => panic!("{other:?} has no key"),
    };
    String::from_utf8(key.to_vec()).unwrap()
}

#[tokio::test]
async fn what_no_node_would_take_is_not_sent() {
    let (cluster, client) = start(1, 1).await;
    let errors = [
        client.get("").await.unwrap_err(),
        client.put(vec![b'k'; KEY_BYTES_MAX + 1], "v").await.unwrap_err(),
        client.put("k", vec![0; VALUE_BYTES_MAX + 1]).await.unwrap_err(),
        client.put("k", "v").ttl(Duration::ZERO).await.unwrap_err(),
        client.expire("k", Duration::MAX).await.unwrap_err(),
        client.delete("k").ttl(Duration::from_secs(1)).await.unwrap_err(),
        client.delete("k").once("").await.unwrap_err(),
        client.incr("k", 1).once([b'n'; ONCE_NAME_BYTES_MAX + 1]).await.unwrap_err(),
        client.delete("k").return_previous().once("n").await.unwrap_err(),
    ];
    let codes: Vec<_> = errors.iter().map(Error::code).collect();
    use ErrorCode::{InvalidArgument, TooLarge};
    let of_names = [InvalidArgument, TooLarge, InvalidArgument];
    assert_eq!(codes[..6], [InvalidArgument, TooLarge, TooLarge, InvalidArgument, InvalidArgument, InvalidArgument]);
    assert_eq!(codes[6..], of_names);
    assert!(errors.iter().all(|error| error.outcome() == Outcome::NotApplied && !error.is_retryable()));
    assert_eq!(cluster.nodes[0].operations(), []);
}

#[tokio::test]
async fn the_largest_value_makes_the_round_trip() {
    let (_cluster, client) = start(1, 1).await;
    let (key, value) = (vec![b'k'; KEY_BYTES_MAX], vec![7; VALUE_BYTES_MAX]);
    client.put(&key, value.clone()).await.unwrap();
    assert!(client.get(&key).await.unwrap().unwrap().value == value);
}

#[tokio::test]
async fn many_keys_are_read_with_one_request_per_leader() {
    let (cluster, client) = start(3, 16).await;
    let keys: Vec<_> = (0..100).map(|number| format!("key-{number}")).collect();
    for key in &keys[..50] {
        client.put(key, key.clone()).await.unwrap();
    }
    let before: usize = cluster.nodes.iter().map(|node| node.operations().len()).sum();
    let results = client.get_many(keys.iter().map(String::as_str).chain([""])).await;
    let after: usize = cluster.nodes.iter().map(|node| node.operations().len()).sum();
    assert_eq!(after - before, 3);
    assert_eq!(results.len(), 101);
    for (key, result) in keys.iter().zip(&results[..50]) {
        assert_eq!(result.as_ref().unwrap().as_ref().unwrap().value, key.as_bytes());
    }
    assert!(results[50..100].iter().all(|result| *result == Ok(None)));
    assert_eq!(results[100].as_ref().unwrap_err().code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_batch_numbers_its_writes_and_answers_each() {
    let (cluster, client) = start(3, 16).await;
    let mut batch = client.batch();
    for number in 0..60 {
        batch = batch.put(format!("key-{number}"), "v");
    }
    batch.push(WriteOp::put("key-0", "w").if_absent());
    batch.extend([WriteOp::delete("missing"), WriteOp::incr("", 1)]);
    let results = batch.await;
    assert!(results[..60].iter().all(|result| result.as_ref().unwrap().is_applied()));
    assert_eq!(results[60].as_ref().unwrap().status, WriteStatus::ConditionFailed);
    assert_eq!(results[61].as_ref().unwrap().status, WriteStatus::Missing);
    assert_eq!(results[62].as_ref().unwrap_err().code(), ErrorCode::InvalidArgument);
    let mut sequences = Vec::new();
    for node in &cluster.nodes {
        for request in node.operations() {
            let RequestBody::Batch { id, mutations, .. } = request.body else { panic!("{request:?}") };
            assert_eq!((id.first_unanswered, id.retry), (1, false));
            sequences.extend(id.sequence..id.sequence + mutations.len() as u64);
        }
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=62).collect::<Vec<_>>(), "each write has a number of its own");
}

#[tokio::test]
async fn an_atomic_is_all_or_nothing() {
    let (_cluster, client) = start(3, 16).await;
    let write = |amount| {
        let atomic = client.atomic("user").check("{user}.lock", Condition::IfAbsent);
        atomic.incr("{user}.balance", amount).put("{user}.log", "x")
    };
    let AtomicResult::Applied(results) = write(5).await.unwrap() else { panic!() };
    assert_eq!(results[0].number, Some(5));
    let lock = client.put("{user}.lock", "").await.unwrap();
    assert_eq!(write(7).await.unwrap(), AtomicResult::ConditionFailed { position: 0, version: lock.version });
    assert_eq!(client.get("{user}.balance").await.unwrap().unwrap().value, "5");
}

#[tokio::test]
async fn a_scan_walks_every_shard_page_by_page() {
    let (cluster, client) = start(3, 8).await;
    for number in 0..50 {
        client.put(format!("item-{number:02}"), "v").await.unwrap();
        client.put(format!("other-{number:02}"), "v").await.unwrap();
    }
    let mut keys: Vec<_> =
        client.scan("item-").page(3).try_collect_all().await.unwrap().into_iter().map(|entry| entry.key).collect();
    keys.sort();
    let expected: Vec<_> = (0..50).map(|number| format!("item-{number:02}")).collect();
    assert_eq!(keys, expected);
    let some = client.scan("").values(true).limit(7).try_collect_all().await.unwrap();
    assert_eq!(some.len(), 7);
    assert!(some.iter().all(|entry| entry.value == "v"));
    assert!(cluster.nodes.iter().all(|node| !node.operations().is_empty()));
}

#[tokio::test]
async fn a_scan_of_one_tag_asks_one_shard() {
    let (cluster, client) = start(3, 8).await;
    client.put("{tag}.a", "v").await.unwrap();
    assert_eq!(client.scan("{tag}.").try_collect_all().await.unwrap().len(), 1);
    let requests: Vec<_> = cluster.nodes.iter().flat_map(|node| node.operations()).collect();
    let scans = requests.iter().filter(|request| matches!(request.body, RequestBody::Scan(_)));
    assert_eq!(scans.count(), 1);
}

#[tokio::test]
async fn stale_reads_say_so() {
    let (cluster, client) = start(1, 1).await;
    client.get("k").stale().await.unwrap();
    client.get("k").await.unwrap();
    let modes: Vec<_> = cluster.nodes[0].operations().into_iter().map(|request| request.body).collect();
    let key = bytes::Bytes::from_static(b"k");
    assert_eq!(
        modes,
        [
            RequestBody::Get { key: key.clone(), mode: ReadMode::Stale },
            RequestBody::Get { key, mode: ReadMode::Linearizable }
        ]
    );
}

#[tokio::test]
async fn the_cluster_describes_itself() {
    let (cluster, client) = start(3, 8).await;
    let mapping = client.mapping("k").await.unwrap();
    let explanation = client.explain("k").await.unwrap();
    assert_eq!(mapping.shard, explanation.shard);
    assert_eq!(mapping.leader.unwrap().id, explanation.leader.unwrap());
    assert_eq!(client.nodes().await.unwrap(), cluster.topology().nodes);
    assert_eq!(client.status().await.unwrap().len(), 3);
    assert_eq!(client.cluster(), Some(cluster.topology().cluster));
    client.ping_node(cluster.nodes[2].id).await.unwrap();
    client.admin().transfer_leadership(mapping.shard, cluster.nodes[0].id).await.unwrap();
    client.admin().shutdown(cluster.nodes[1].id).await.unwrap();
    let admin = |node: usize| {
        let requests = cluster.nodes[node].operations();
        requests.into_iter().filter(|request| matches!(request.body, RequestBody::Admin(_))).count()
    };
    assert!(admin(1) >= 1);
    let unknown = client.ping_node(kvorum_client::NodeId(Uuid::from_u128(99))).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let cluster = FakeCluster::start(1, 1).await;
    let wrong = ClusterId(Uuid::from_u128(1));
    let error = Client::builder().url(&cluster.url()).cluster_id(wrong).connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::WrongCluster);
}

#[tokio::test]
async fn a_cluster_without_a_topology_can_be_used_through_any_node() {
    let cluster = FakeCluster::start(1, 4).await;
    cluster.nodes[0].script(|request| match is_topology(request) {
        true => Step::Reply(fake::error(ErrorCode::Unavailable)),
        false => Step::Default,
    });
    let client = Client::connect(&cluster.url()).await.unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(client.get("k").await.unwrap().unwrap().value, "v");
    assert_eq!(client.cached_topology(), None);
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_for_each_seed() {
    let cluster = FakeCluster::start(2, 1).await;
    cluster.nodes.iter().for_each(|node| node.kill());
    let error = Client::connect(&cluster.url()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    for node in &cluster.nodes {
        assert!(error.report().contains(&node.address), "{error}");
    }
}

#[tokio::test]
async fn a_closed_client_says_so_and_lets_what_is_under_way_end() {
    let (cluster, client) = start(1, 1).await;
    cluster.nodes[0].script_operations(|_| Step::Hold);
    let under_way = tokio::spawn({
        let client = client.clone();
        async move { client.put("k", "v").await }
    });
    cluster.nodes[0].wait_for(1, |request| !is_topology(request)).await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close(Duration::from_secs(30)).await }
    });
    while client.get("k").deadline(Duration::from_millis(20)).await.unwrap_err() != Error::Closed {
        tokio::task::yield_now().await;
    }
    cluster.nodes[0].release().await;
    assert!(under_way.await.unwrap().unwrap().is_applied());
    assert!(closing.await.unwrap());
}
