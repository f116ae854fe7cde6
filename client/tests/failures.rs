//! What the client does when something goes wrong, against a fake cluster.

#![allow(clippy::unwrap_used)] // what can't be unwrapped here has failed the test

mod fake;

use fake::{FakeCluster, Greeting, Step, error, is_topology};
use kvorum_client::{AuthVerb, Client, ClientBuilder, Error, ErrorCode, LogLevel, LogLevelAsk, Outcome, RetryPolicy};
use kvorum_protocol::{Request, RequestBody, ResponseBody, ServerError, WriteId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn builder(cluster: &FakeCluster) -> ClientBuilder {
    Client::builder().url(&cluster.url()).random_seed(1)
}

async fn start(nodes: usize, shards: u16) -> (FakeCluster, Client) {
    let cluster = FakeCluster::start(nodes, shards).await;
    let client = builder(&cluster).connect().await.unwrap();
    (cluster, client)
}

fn is_operation(request: &Request) -> bool {
    !is_topology(request)
}

/// The ids of all single writes that a node was sent.
fn write_ids(requests: &[Request]) -> Vec<WriteId> {
    let id = |request: &Request| match &request.body {
        RequestBody::Write { id, .. } => Some(*id),
        _ => None,
    };
    requests.iter().filter_map(id).collect()
}

/// Does each of these steps once, then the default.
fn first(steps: Vec<Step>) -> impl FnMut(&Request) -> Step + Send {
    let mut steps = steps.into_iter();
    move |_| steps.next().unwrap_or(Step::Default)
}

#[tokio::test]
async fn answers_that_come_out_of_order_reach_their_callers_over_one_connection() {
    const OPERATIONS: usize = 200;
    let (cluster, client) = start(1, 1).await;
    for number in 0..OPERATIONS {
        client.put(format!("key-{number}"), format!("value-{number}")).await.unwrap();
    }
    let node = &cluster.nodes[0];
    node.script_operations(|_| Step::Hold);
    let reads: Vec<_> = (0..OPERATIONS)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { (number, client.get(format!("key-{number}")).await) })
        })
        .collect();
    // All of them are on their way before any is answered: the connection is pipelined.
    node.wait_for(2 * OPERATIONS, is_operation).await;
    node.release().await;
    for read in reads {
        let (number, entry) = read.await.unwrap();
        assert_eq!(entry.unwrap().unwrap().value, format!("value-{number}"));
    }
    assert_eq!(node.connections(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_opened_again_and_reads_are_repeated() {
    let (cluster, client) = start(1, 1).await;
    client.put("k", "v").await.unwrap();
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::HangUp, Step::HangUp]));
    assert_eq!(client.get("k").await.unwrap().unwrap().value, "v");
    assert_eq!(node.connections(), 3);
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.kill();
    let write = tokio::spawn({
        let client = client.clone();
        async move { client.put("k", "v").await }
    });
    tokio::task::yield_now().await;
    node.restart().await;
    assert!(write.await.unwrap().unwrap().is_applied());
}

#[tokio::test]
async fn a_retried_write_keeps_its_sequence_number_and_takes_effect_once() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::ApplyAndHangUp, Step::HangUp]));
    assert_eq!(client.incr("n", 1).await.unwrap(), 1);
    assert_eq!(client.incr("n", 1).await.unwrap(), 2);
    let ids = write_ids(&node.requests());
    let first_write = |retry| WriteId { sequence: 1, first_unanswered: 1, retry, once: None };
    let second_write = WriteId { sequence: 2, first_unanswered: 2, retry: false, once: None };
    assert_eq!(ids, [first_write(false), first_write(true), first_write(true), second_write]);
}

#[tokio::test]
async fn an_attempt_that_certainly_had_no_effect_does_not_make_a_retry() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![
        Step::Reply(error(ErrorCode::Unavailable)),
        Step::Reply(error(ErrorCode::Overloaded)),
    ]));
    client.put("k", "v").await.unwrap();
    let retries: Vec<_> = write_ids(&node.requests()).iter().map(|id| (id.sequence, id.retry)).collect();
    assert_eq!(retries, [(1, false); 3]);
}

#[tokio::test]
async fn a_write_whose_number_is_too_low_is_sent_again_under_another_one() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    let too_low = || ResponseBody::Error(ServerError::sequence_too_low(50));
    node.script_operations(first(vec![Step::Reply(too_low())]));
    assert_eq!(client.incr("n", 1).await.unwrap(), 1);
    assert_eq!(client.incr("n", 1).await.unwrap(), 2);
    let id = |sequence| WriteId { sequence, first_unanswered: sequence, retry: false, once: None };
    assert_eq!(write_ids(&node.requests()), [id(1), id(50), id(51)]);

    // An earlier copy may have taken effect: another number would be another write.
    node.script_operations(first(vec![Step::ApplyAndHangUp, Step::Reply(too_low())]));
    let failed = client.incr("n", 1).await.unwrap_err();
    assert_eq!((failed.code(), failed.outcome()), (ErrorCode::SequenceTooLow, Outcome::Unknown));
    assert_eq!(client.incr("n", 1).await.unwrap(), 4);
}

#[tokio::test]
async fn writes_of_a_batch_whose_numbers_are_too_low_are_sent_again_under_others() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    let too_low = || Err(ServerError::sequence_too_low(50));
    node.script_operations(first(vec![Step::Reply(ResponseBody::Batch(vec![too_low(), too_low()]))]));
    let results = client.batch().incr("n", 1).incr("n", 1).await;
    let numbers: Vec<_> = results.into_iter().map(|result| result.unwrap().number).collect();
    assert_eq!(numbers, [Some(1), Some(2)]);
    let ids: Vec<_> = node
        .operations()
        .iter()
        .map(|request| match &request.body {
            RequestBody::Batch { id, mutations, .. } => (id.sequence, mutations.len(), id.retry),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [(1, 2, false), (50, 2, false)]);
}

#[tokio::test]
async fn the_lowest_unanswered_sequence_number_travels_along() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::Hold]));
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.put("held", "v").await }
    });
    node.wait_for(1, is_operation).await;
    client.put("a", "v").await.unwrap();
    client.put("b", "v").await.unwrap();
    node.release().await;
    held.await.unwrap().unwrap();
    client.put("c", "v").await.unwrap();
    let ids: Vec<_> = write_ids(&node.requests()).iter().map(|id| (id.sequence, id.first_unanswered)).collect();
    assert_eq!(ids, [(1, 1), (2, 1), (3, 1), (4, 4)]);
}

#[tokio::test]
async fn a_caller_who_loses_interest_holds_nothing_back() {
    let cluster = FakeCluster::start(1, 1).await;
    let client = builder(&cluster).max_in_flight(1).connect().await.unwrap();
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::Silence]));
    let abandoned = tokio::spawn({
        let client = client.clone();
        async move { client.put("k", "v").await }
    });
    node.wait_for(1, is_operation).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    client.put("k", "w").await.unwrap();
    assert_eq!(write_ids(&node.requests())[1], WriteId { sequence: 2, first_unanswered: 2, retry: false, once: None });
}

#[tokio::test]
async fn a_pushed_topology_moves_the_traffic() {
    let (cluster, client) = start(2, 1).await;
    client.put("k", "v").await.unwrap();
    assert_eq!(cluster.nodes[0].operations().len(), 1);
    cluster.set_leader(0, Some(1));
    cluster.nodes[0].push_topology().await;
    // The answer to this comes behind the pushed topology on the same connection.
    client.ping_node(cluster.nodes[0].id).await.unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(write_ids(&cluster.nodes[1].requests()).len(), 1);
}

#[tokio::test]
async fn a_forwarded_answer_and_a_higher_epoch_make_the_client_ask_for_the_topology() {
    let (cluster, client) = start(2, 1).await;
    let node = &cluster.nodes[0];
    let asked = |cluster: &FakeCluster| -> usize {
        cluster.nodes.iter().map(|node| node.requests().iter().filter(|request| is_topology(request)).count()).sum()
    };
    assert_eq!(asked(&cluster), 1);
    cluster.set_leader(0, Some(1));
    node.script_operations(first(vec![Step::Forwarded]));
    client.get("k").await.unwrap();
    wait_until(&client, |topology| topology.shards[0].leader == Some(1)).await;
    cluster.bump_epoch();
    client.get("k").await.unwrap();
    wait_until(&client, |topology| topology.epoch.0 == 2).await;
    assert!(asked(&cluster) <= 5, "{} refreshes for two hints", asked(&cluster));
}

/// Waits until the client has learned something; bounded by the test's own time.
async fn wait_until(client: &Client, holds: impl Fn(&kvorum_client::Topology) -> bool) {
    let began = Instant::now();
    while !client.cached_topology().is_some_and(|topology| holds(&topology)) {
        assert!(began.elapsed() < Duration::from_secs(10), "the client does not learn the topology");
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_pointer_to_the_leader_is_followed() {
    let (cluster, client) = start(3, 1).await;
    let leader = cluster.nodes[2].id;
    cluster.nodes[0].script_operations(move |_| {
        let error = ServerError::new(ErrorCode::NotLeader, "not me").with_leader(Some(leader));
        Step::Reply(ResponseBody::Error(error))
    });
    client.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(write_ids(&cluster.nodes[0].requests()).len(), 1, "the client learned it the first time");
    let ids = write_ids(&cluster.nodes[2].requests());
    assert_eq!(ids.iter().map(|id| (id.sequence, id.retry)).collect::<Vec<_>>(), [(1, false), (2, false)]);
}

#[tokio::test]
async fn operations_outlive_a_leader_that_dies() {
    let (cluster, client) = start(3, 1).await;
    client.put("k", "v").await.unwrap();
    let elected = Arc::new(AtomicBool::new(false));
    for node in &cluster.nodes[1..] {
        let elected = elected.clone();
        node.script_operations(move |_| match elected.load(Ordering::SeqCst) {
            true => Step::Default,
            false => Step::Reply(error(ErrorCode::Unavailable)),
        });
    }
    cluster.nodes[0].kill();
    let writes: Vec<_> = (0..32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.put(format!("key-{number}"), "v").await })
        })
        .collect();
    // Some of them have been refused by a survivor before there is a new leader.
    let survivors =
        |cluster: &FakeCluster| -> usize { cluster.nodes[1..].iter().map(|node| node.operations().len()).sum() };
    while survivors(&cluster) < 40 {
        tokio::task::yield_now().await;
    }
    elected.store(true, Ordering::SeqCst);
    cluster.set_leader(0, Some(2));
    for node in &cluster.nodes[1..] {
        node.push_topology().await;
    }
    let began = Instant::now();
    for write in writes {
        assert!(write.await.unwrap().unwrap().is_applied());
    }
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_a_read_is_not() {
    let (cluster, client) = start(1, 1).await;
    cluster.nodes[0].script_operations(|_| Step::Silence);
    let deadline = Duration::from_millis(60);
    let began = Instant::now();
    let write = client.put("k", "v").deadline(deadline).await.unwrap_err();
    assert!(began.elapsed() >= deadline && began.elapsed() < deadline * 20, "{:?}", began.elapsed());
    assert!(matches!(write, Error::DeadlineExceeded { attempts: 1, .. }), "{write:?}");
    assert_eq!((write.outcome(), write.is_retryable()), (Outcome::Unknown, false));
    let read = client.get("k").deadline(deadline).await.unwrap_err();
    assert_eq!((read.outcome(), read.is_retryable()), (Outcome::NotApplied, true));
}

#[tokio::test]
async fn the_node_is_told_how_long_the_client_still_waits() {
    let (cluster, client) = start(1, 1).await;
    client.get("k").deadline(Duration::from_millis(500)).await.unwrap();
    let deadline = cluster.nodes[0].operations()[0].deadline_ms;
    assert!((300..500).contains(&deadline), "{deadline}");
}

#[tokio::test]
async fn a_blocked_write_says_what_stands_in_its_way() {
    let (cluster, client) = start(1, 1).await;
    cluster.nodes[0].script_operations(|_| Step::Reply(error(ErrorCode::Unavailable)));
    let deadline = Duration::from_millis(300);
    let began = Instant::now();
    let failure = client.put("k", "v").deadline(deadline).await.unwrap_err();
    assert!(began.elapsed() > deadline / 2, "gave up after {:?}", began.elapsed());
    assert_eq!((failure.code(), failure.outcome()), (ErrorCode::Unavailable, Outcome::NotApplied));
    assert!(failure.is_retryable());
    assert!(cluster.nodes[0].operations().len() > 3);
}

#[tokio::test]
async fn once_unknown_an_outcome_stays_unknown() {
    let (cluster, client) = start(1, 1).await;
    let mut calls = 0;
    cluster.nodes[0].script_operations(move |_| {
        calls += 1;
        if calls == 1 { Step::HangUp } else { Step::Reply(error(ErrorCode::Unavailable)) }
    });
    let failure = client.put("k", "v").deadline(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(failure.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    const OPERATIONS: usize = 200;
    let cluster = FakeCluster::start(1, 1).await;
    let policy = RetryPolicy::default().with_budget(10, 10, 1);
    let client = builder(&cluster).retry_policy(policy).deadline(Duration::from_millis(300)).connect().await.unwrap();
    cluster.nodes[0].script_operations(|_| Step::Reply(error(ErrorCode::Overloaded)));
    let operations: Vec<_> = (0..OPERATIONS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("k").await })
        })
        .collect();
    for operation in operations {
        assert_eq!(operation.await.unwrap().unwrap_err().code(), ErrorCode::Overloaded);
    }
    let sent = cluster.nodes[0].operations().len();
    // Each operation once, a tenth of them again, the reserve, and what trickles in meanwhile.
    assert!(sent <= OPERATIONS + OPERATIONS / 10 + 10 + 5, "{sent} requests");
}

#[tokio::test]
async fn operations_over_the_limit_wait_for_their_turn() {
    let cluster = FakeCluster::start(1, 1).await;
    let client = builder(&cluster).max_in_flight(2).connect().await.unwrap();
    let node = &cluster.nodes[0];
    node.script_operations(|_| Step::Hold);
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("k").await })
        })
        .collect();
    node.wait_for(2, is_operation).await;
    let refused = client.get("k").deadline(Duration::from_millis(30)).await.unwrap_err();
    assert!(matches!(refused, Error::TooManyInFlight { limit: 2, .. }), "{refused:?}");
    assert_eq!(node.operations().len(), 2);
    node.release().await;
    node.wait_for(3, is_operation).await;
    node.release().await;
    for read in reads {
        assert_eq!(read.await.unwrap(), Ok(None));
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_passed_by() {
    let cluster = FakeCluster::start(2, 1).await;
    let policy = RetryPolicy::default().with_attempt_timeout(Duration::from_millis(30));
    let client = builder(&cluster).retry_policy(policy).connect().await.unwrap();
    cluster.nodes[0].script(|_| Step::Silence);
    assert!(client.put("k", "v").await.unwrap().is_applied());
    let ids = write_ids(&cluster.nodes[1].requests());
    assert_eq!((ids[0].sequence, ids[0].retry), (1, true), "the silent node may have applied it");
}

#[tokio::test]
async fn bytes_that_are_no_reply_end_the_connection_and_nothing_else() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::Raw(vec![0xff; 64]), Step::Raw(vec![4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])]));
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(node.connections(), 3);
}

#[tokio::test]
async fn only_the_keys_that_failed_are_asked_again() {
    let (cluster, client) = start(1, 4).await;
    client.put("a", "1").await.unwrap();
    let node = &cluster.nodes[0];
    let calls = AtomicUsize::new(0);
    node.script_operations(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Step::Reply(ResponseBody::Values(vec![
            Err(ServerError::new(ErrorCode::Unavailable, "")),
            Ok(None),
            Err(ServerError::new(ErrorCode::Internal, "")),
        ])),
        _ => Step::Default,
    });
    let results = client.get_many(["a", "b", "c"]).await;
    assert_eq!(results[0].as_ref().unwrap().as_ref().unwrap().value, "1");
    assert_eq!(results[1], Ok(None));
    assert_eq!(results[2].as_ref().unwrap_err().code(), ErrorCode::Internal);
    let last = node.operations().pop().unwrap().body;
    assert!(matches!(&last, RequestBody::MultiGet { keys, .. } if keys == &["a"]), "{last:?}");
}

#[tokio::test]
async fn a_batch_repeats_single_writes_under_their_own_numbers() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    let calls = AtomicUsize::new(0);
    node.script_operations(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let unavailable = || Err(ServerError::new(ErrorCode::Unavailable, ""));
            Step::Reply(ResponseBody::Batch(vec![
                unavailable(),
                Err(ServerError::new(ErrorCode::DiskFull, "")),
                unavailable(),
            ]))
        }
        1 => Step::HangUp,
        _ => Step::Default,
    });
    let results = client.batch().incr("a", 1).incr("b", 1).incr("c", 1).deadline(Duration::from_secs(10)).await;
    let numbers: Vec<_> = results.into_iter().map(|result| result.unwrap().number).collect();
    assert_eq!(numbers, [Some(1), Some(1), Some(1)]);
    let ids: Vec<_> = node
        .operations()
        .iter()
        .map(|request| match &request.body {
            RequestBody::Batch { id, mutations, .. } => (id.sequence, mutations.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids[..2], [(1, 3), (1, 3)], "all three failed and are still in a row");
}

#[tokio::test]
async fn a_large_answer_gets_a_request_of_its_own() {
    let (cluster, client) = start(1, 1).await;
    client.put("large", "1").await.unwrap();
    let node = &cluster.nodes[0];
    node.script_operations(first(vec![Step::Reply(ResponseBody::Values(vec![
        Ok(None),
        Err(ServerError::new(ErrorCode::TooLarge, "the reply is full")),
    ]))]));
    let results = client.get_many(["small", "large"]).await;
    assert_eq!(results[1].as_ref().unwrap().as_ref().unwrap().value, "1");
}

#[tokio::test]
async fn a_command_whose_answer_is_lost_is_not_repeated() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(|_| Step::HangUp);
    let failure = client.admin().cut_peers(node.id, true).await.unwrap_err();
    assert_eq!((failure.outcome(), node.operations().len()), (Outcome::Unknown, 1));
    client.admin().shutdown(node.id).await.unwrap();
}

#[tokio::test]
async fn a_batch_whose_writes_may_have_been_applied_does_not_say_that_nothing_was_sent() {
    let cluster = FakeCluster::start(1, 1).await;
    let client = builder(&cluster).max_in_flight(1).connect().await.unwrap();
    let node = &cluster.nodes[0];
    let calls = AtomicUsize::new(0);
    let may_be_there = ServerError::new(ErrorCode::Unavailable, "being committed").with_outcome(Outcome::Unknown);
    let blocker: Arc<parking_lot::Mutex<Option<tokio::task::JoinHandle<_>>>> = Arc::default();
    let (blocking, other) = (blocker.clone(), client.clone());
    node.script_operations(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => {
            // It is next in line, and keeps the only turn from the second round.
            let other = other.clone();
            *blocking.lock() = Some(tokio::spawn(async move { other.get("k").await }));
            Step::Reply(ResponseBody::Batch(vec![Err(may_be_there.clone())]))
        }
        _ => Step::Silence,
    });
    let results = client.batch().incr("a", 1).deadline(Duration::from_millis(200)).await;
    let failure = results.into_iter().next().unwrap().unwrap_err();
    assert_eq!((failure.outcome(), failure.is_retryable()), (Outcome::Unknown, false), "{failure:?}");
    blocker.lock().take().unwrap().abort();
}

#[tokio::test]
async fn what_operators_change_may_have_been_changed_if_nobody_answers() {
    let cluster = FakeCluster::start(1, 1).await;
    let client = builder(&cluster).deadline(Duration::from_millis(30)).connect().await.unwrap();
    let node = &cluster.nodes[0];
    node.script_operations(|_| Step::Silence);
    let change = client.admin().change_auth(AuthVerb::RemoveUser("ada".to_owned())).await.unwrap_err();
    assert_eq!(change.outcome(), Outcome::Unknown);
    let set = LogLevelAsk::Set { level: LogLevel::Debug, for_ms: 1000 };
    assert_eq!(client.admin().log_level(node.id, set).await.unwrap_err().outcome(), Outcome::Unknown);
    let shown = client.admin().log_level(node.id, LogLevelAsk::Show).await.unwrap_err();
    assert_eq!(shown.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn a_node_that_is_silent_until_a_short_deadline_is_passed_by_next_time() {
    let (cluster, client) = start(2, 1).await;
    client.get("k").await.unwrap();
    cluster.nodes[0].script(|_| Step::Silence);
    let failure = client.get("k").deadline(Duration::from_millis(30)).await.unwrap_err();
    assert!(matches!(failure, Error::DeadlineExceeded { attempts: 1, .. }), "{failure:?}");
    // Less than after which an attempt is given up.
    assert_eq!(client.get("k").deadline(Duration::from_millis(800)).await, Ok(None));
    assert_eq!(cluster.nodes[1].operations().len(), 1);
}

#[tokio::test]
async fn a_node_that_refuses_for_good_stops_nobody_whom_others_serve() {
    let (cluster, client) = start(3, 4).await;
    let key = cluster.key_of(0);
    client.put(&key, "v").await.unwrap();
    for code in [ErrorCode::WrongCluster, ErrorCode::UnsupportedVersion, ErrorCode::Unauthenticated] {
        cluster.nodes[0].greet(Greeting::Refuse(code));
        cluster.nodes[0].hang_up().await;
        for _ in 0..20 {
            assert_eq!(client.get(&key).await.unwrap().unwrap().value, "v", "{code}");
        }
    }
    // If all of them do, that is said at once.
    for node in &cluster.nodes {
        node.greet(Greeting::Refuse(ErrorCode::Unauthenticated));
        node.hang_up().await;
    }
    let began = Instant::now();
    let failure = client.get(&key).deadline(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(failure.code(), ErrorCode::Unauthenticated, "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_full_node_is_left_alone_for_as_long_as_it_asks() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.greet(Greeting::Pause(20));
    node.hang_up().await;
    let before = node.connections();
    let reader = client.clone();
    let read = tokio::spawn(async move { reader.get("k").deadline(Duration::from_secs(60)).await });
    node.wait_for_connections(before + 1).await;
    node.greet(Greeting::Welcome);
    assert_eq!(read.await.unwrap(), Ok(None));

    node.greet(Greeting::Pause(60_000));
    node.hang_up().await;
    let before = node.connections();
    for _ in 0..50 {
        let failure = client.get("k").deadline(Duration::from_secs(30)).await.unwrap_err();
        assert!(matches!(failure, Error::Unreachable { .. }), "{failure:?}");
    }
    let dialled = node.connections() - before;
    assert!(dialled <= 2, "as itself and as a seed, not {dialled} times");
}

#[tokio::test]
async fn a_write_that_is_dialling_when_the_client_closes_is_not_sent() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.greet(Greeting::Hold);
    node.hang_up().await;
    let connections = node.connections();
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put("k", "v").await });
    node.wait_for_connections(connections + 1).await;
    assert!(!client.close(Duration::ZERO).await);
    node.greet(Greeting::Welcome);
    assert_eq!(write.await.unwrap(), Err(Error::Closed));
    assert_eq!(node.operations(), []);
}

#[tokio::test]
async fn a_close_that_nobody_waits_for_cuts_off_what_is_under_way() {
    let (cluster, client) = start(1, 1).await;
    let node = &cluster.nodes[0];
    node.script_operations(|_| Step::Silence);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put("k", "v").deadline(Duration::from_secs(60)).await });
    node.wait_for(1, is_operation).await;
    let closing = client.close(Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(1), closing).await.is_err());
    let began = Instant::now();
    let failure = write.await.unwrap().unwrap_err();
    assert_eq!(failure.outcome(), Outcome::Unknown);
    assert!(began.elapsed() < Duration::from_secs(30), "{failure:?}");
}

#[tokio::test]
async fn a_limit_of_no_limit_is_one() {
    let (_cluster, client) = start(1, 1).await;
    assert_eq!(client.within(Duration::MAX).get("k").await, Ok(None));
}
