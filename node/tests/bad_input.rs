//! Bad input: each kind gets a typed error or a closed connection, and the node goes on serving others.

use crate::common::cluster::config_path;
use crate::common::ports::free_base_port;
use crate::common::process::{Log, NodeProcess, run_well};
use crate::common::wire::{Received, get, hello, new_client, put};
use crate::common::{ClusterOptions, RawConnection, TestCluster, eventually};
use bytes::{BufMut, Bytes, BytesMut};
use kvorum_client::{Client, ClusterId, ErrorCode, NodeId, Outcome, ShardId};
use kvorum_protocol::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{
    Ack, AdminCommand, AtomicRequest, Hello, ReadMode, Request, RequestBody, RequestId, ResponseBody, ScanCursor,
    ScanRequest, WriteId, frame,
};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::time::Duration;

/// The exit code of a process whose data folder another one uses.
const EXIT_IN_USE: i32 = 75;
/// Connections that the node under test accepts.
const CONNECTIONS_MAX: usize = 24;
/// What a node may have more in memory after it was told to expect a frame of 4 GiB by many connections.
const MEMORY_SLACK_BYTES: u64 = 64 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(20);

/// One node that everything bad is sent to, and one well-behaved client that must not notice.
struct Scenario {
    cluster: TestCluster,
    witness: Client,
}

impl Scenario {
    async fn start() -> Self {
        let environment = vec![("KVORUM_CONNECTIONS_MAX", CONNECTIONS_MAX.to_string())];
        let options = ClusterOptions { nodes: 1, shards: 4, environment, ..ClusterOptions::default() };
        let cluster = TestCluster::start(options).await;
        let witness = cluster.client().await;
        Self { cluster, witness }
    }

    async fn open(&self) -> RawConnection {
        // The last case's connections may still be counted.
        let address = self.cluster.address(1);
        eventually("the door is open", DEADLINE, async || RawConnection::open(address).await).await
    }

    async fn greet(&self) -> RawConnection {
        let address = self.cluster.address(1);
        eventually("the node greets", DEADLINE, async || RawConnection::greet(address, new_client()).await).await
    }

    /// Sends one bad request to a fresh connection and returns the code of its refusal; the connection must then be closed,
    /// or go on working.
    async fn refused(&self, body: RequestBody) -> ErrorCode {
        let mut connection = self.greet().await;
        let refusal = match connection.call(body).await.expect("a refusal is answered") {
            ResponseBody::Error(error) => error.code,
            other => panic!("a bad request was answered with {other:?}"),
        };
        match connection.call(RequestBody::Ping(Bytes::from_static(b"still here"))).await {
            Ok(ResponseBody::Pong(_)) | Err(_) => refusal,
            Ok(other) => panic!("a ping after a refusal was answered with {other:?}"),
        }
    }

    /// The node goes on serving others.
    async fn assert_serves(&self, after: &str) {
        self.witness.put("witness", after.to_owned()).await.unwrap_or_else(|error| panic!("after {after}: {error}"));
        let entry = self.witness.get("witness").await.unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert_eq!(entry.expect("just written").value, after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_through_the_client_door_the_node_goes_on() {
    let mut scenario = Scenario::start().await;
    random_bytes(&scenario).await;
    scenario.assert_serves("random bytes").await;
    damaged_frames(&scenario).await;
    scenario.assert_serves("damaged frames").await;
    frames_of_four_gigabytes(&mut scenario).await;
    scenario.assert_serves("a length of 4 GiB").await;
    a_slow_sender(&scenario).await;
    scenario.assert_serves("a slow sender").await;
    too_many_connections(&scenario).await;
    scenario.assert_serves("too many connections").await;
    over_the_limits(&scenario).await;
    scenario.assert_serves("keys and values over the limit").await;
    requests_that_make_no_sense(&scenario).await;
    scenario.assert_serves("requests that make no sense").await;
    refusals_after_which_a_connection_goes_on(&scenario).await;
    scenario.assert_serves("refused requests").await;
    first_requests_that_are_refused(&scenario).await;
    scenario.assert_serves("refused connections").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_told_why_its_connection_ends() {
    let scenario = Scenario::start().await;
    let mut silent = scenario.open().await;
    let error = silent.refusal().await.expect("the node says why");
    assert_eq!((error.code, error.outcome), (ErrorCode::DeadlineExceeded, Outcome::NotApplied));
    assert!(error.detail.contains("HELLO"), "{error}");
    assert_eq!(silent.refusal().await, None, "and closes");
}

async fn random_bytes(scenario: &Scenario) {
    for seed in 0..40 {
        let mut bytes = vec![0; StdRng::seed_from_u64(seed).random_range(1..4096)];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        // A length that the limit allows would make the node wait for the rest, as it should.
        bytes.splice(0..0, u32::MAX.to_le_bytes());
        let mut connection = if seed % 2 == 0 { scenario.open().await } else { scenario.greet().await };
        // The node may close before all is sent.
        let _ = connection.send_bytes(&bytes).await;
        if let Some(error) = connection.refusal().await {
            let expected = [ErrorCode::Malformed, ErrorCode::TooLarge];
            assert!(expected.contains(&error.code), "seed {seed}: {error}");
        }
    }
}

async fn damaged_frames(scenario: &Scenario) {
    let mut whole = BytesMut::new();
    Request { id: RequestId(2), deadline_ms: 0, body: put(1, "damaged", "value") }.encode(&mut whole);
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 1 << (position % 8);
        // What follows completes a frame that was made longer, so that the node need not wait for more.
        damaged.put_bytes(0, 1 << 16);
        let mut connection = scenario.greet().await;
        let _ = connection.send_bytes(&damaged).await;
        let announced = u32::from_le_bytes(*damaged.first_chunk().expect("a frame has a header")) as usize;
        if announced > damaged.len() - frame_header() && announced <= FRAME_BYTES_MAX {
            // The node rightly waits for the rest.
            continue;
        }
        if let Some(error) = connection.refusal().await {
            let expected = if announced > FRAME_BYTES_MAX { ErrorCode::TooLarge } else { ErrorCode::Malformed };
            assert_eq!(error.code, expected, "byte {position}: {error}");
        }
    }
    let entry = scenario.witness.get("damaged").await.expect("the node answers");
    assert_eq!(entry, None, "a damaged frame took effect");
}

fn frame_header() -> usize {
    kvorum_protocol::limits::FRAME_HEADER_BYTES
}

async fn frames_of_four_gigabytes(scenario: &mut Scenario) {
    let before = scenario.cluster.process(1).anonymous_bytes();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_MAX / 2 {
        let mut connection = scenario.greet().await;
        let _ = connection.send_bytes(&[0xff; 8]).await;
        connections.push(connection);
    }
    for connection in &mut connections {
        if let Some(error) = connection.refusal().await {
            assert_eq!(error.code, ErrorCode::TooLarge, "{error}");
        }
    }
    let after = scenario.cluster.process(1).anonymous_bytes();
    assert!(after < before + MEMORY_SLACK_BYTES, "memory went from {before} to {after} bytes");
}

/// Half a frame, then nothing: others are served all the while. Then the rest, one byte at a time: it is answered, unless the
/// node had enough of it.
async fn a_slow_sender(scenario: &Scenario) {
    let mut frame = BytesMut::new();
    Request { id: RequestId(9), deadline_ms: 0, body: RequestBody::Ping(Bytes::from_static(b"slow")) }
        .encode(&mut frame);
    let (first, rest) = frame.split_at(frame.len() / 2);
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX / 2 {
        let mut connection = scenario.greet().await;
        connection.send_bytes(first).await.expect("half a frame is no reason to close");
        slow.push(connection);
    }
    for round in 0..50 {
        scenario.assert_serves(&format!("half a frame, round {round}")).await;
    }
    for mut connection in slow {
        for byte in rest {
            if connection.send_bytes(std::slice::from_ref(byte)).await.is_err() {
                break;
            }
        }
        match connection.receive().await {
            Received::Response(response) => assert_eq!(response.body, ResponseBody::Pong(Bytes::from_static(b"slow"))),
            Received::Closed => {}
        }
    }
}

async fn too_many_connections(scenario: &Scenario) {
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..CONNECTIONS_MAX * 2 {
        let mut connection = scenario.open().await;
        match connection.call(hello(new_client(), None)).await {
            Ok(ResponseBody::Hello(_)) => open.push(connection),
            Ok(ResponseBody::Error(error)) => {
                assert_eq!(error.code, ErrorCode::TooManyConnections, "{error}");
                refused += 1;
            }
            Ok(other) => panic!("HELLO was answered with {other:?}"),
            Err(_) => refused += 1,
        }
    }
    // The witness has connections too.
    assert!(open.len() <= CONNECTIONS_MAX, "{} connections were accepted", open.len());
    assert!(refused >= CONNECTIONS_MAX, "{refused} connections were refused");
    scenario.assert_serves("all connections taken").await;
    drop(open);
    // The door opens again by itself.
    scenario.greet().await;
}

async fn over_the_limits(scenario: &Scenario) {
    let long_key = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    let large_value = Bytes::from(vec![b'v'; VALUE_BYTES_MAX + 1]);
    assert_eq!(scenario.refused(put(1, long_key, "value")).await, ErrorCode::TooLarge);
    assert_eq!(scenario.refused(put(1, "key", large_value)).await, ErrorCode::TooLarge);
    assert_eq!(scenario.refused(put(1, "", "value")).await, ErrorCode::InvalidArgument);

    // The reason arrives although the node reads no more than the length of a frame that is too large: it is sent whole.
    let mut connection = scenario.greet().await;
    let mut frame = BytesMut::new();
    frame.put_u32_le(FRAME_BYTES_MAX as u32 + 1);
    frame.put_bytes(b'f', FRAME_BYTES_MAX + 1 + 4);
    connection.send_bytes(&frame).await.expect("the node takes what it does not want");
    let error = connection.refusal().await.expect("a frame that is too large is answered");
    assert_eq!(error.code, ErrorCode::TooLarge);

    // At the limit it works, and the value comes back whole.
    let key = "k".repeat(KEY_BYTES_MAX);
    let value = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
    let mut connection = scenario.greet().await;
    let written = connection.call(put(1, key.clone(), value.clone())).await.expect("the node answers");
    assert!(matches!(written, ResponseBody::Written(_)), "a write at the limits was refused");
    match connection.call(get(&key)).await.expect("the node answers") {
        ResponseBody::Value(Some(entry)) => assert_eq!(entry.value, value),
        _ => panic!("a value of the largest size can't be read"),
    }
}

async fn requests_that_make_no_sense(scenario: &Scenario) {
    let mut connection = scenario.greet().await;
    let mut unknown = BytesMut::new();
    frame::encode(&mut unknown, |out| {
        out.put_u8(0x7e);
        out.put_u32_le(77);
        out.put_u32_le(0);
    });
    connection.send_bytes(&unknown).await.expect("the connection is open");
    let error = connection.refusal().await.expect("an unknown operation is answered");
    assert_eq!(error.code, ErrorCode::UnknownOperation);

    assert_eq!(scenario.refused(hello(new_client(), None)).await, ErrorCode::HelloExpected, "a second HELLO");
    assert_eq!(
        scenario.refused(RequestBody::Admin(AdminCommand::PanicShard(ShardId(0)))).await,
        ErrorCode::NotPermitted,
        "a fault hook that is switched off"
    );
    assert_eq!(
        scenario.refused(RequestBody::Admin(AdminCommand::SkewClock(1))).await,
        ErrorCode::NotPermitted,
        "a fault hook that is switched off"
    );
    assert_eq!(
        scenario.refused(RequestBody::Admin(AdminCommand::CutPeers(true))).await,
        ErrorCode::NotPermitted,
        "a fault hook that is switched off"
    );
}

/// What docs/PROTOCOL.md says of requests that can be read and not be served.
async fn refusals_after_which_a_connection_goes_on(scenario: &Scenario) {
    let (none, beyond) = (ShardId(scenario.cluster.shards()), u64::MAX / 2);
    let multi_get = |keys: &[&'static str]| RequestBody::MultiGet {
        keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
        mode: ReadMode::Linearizable,
    };
    let scan = |shard: ShardId, limit: u32| {
        let (prefix, mode) = (Bytes::new(), ReadMode::Linearizable);
        RequestBody::Scan(ScanRequest { shard, cursor: ScanCursor::default(), prefix, limit, values: false, mode })
    };
    let id = |sequence| WriteId { sequence, first_unanswered: 0, retry: false, once: None };
    let batch = |sequence: u64, count: usize| {
        let RequestBody::Write { mutation, .. } = put(1, "key", "value") else { unreachable!("a put is a write") };
        RequestBody::Batch { id: id(sequence), ack: Ack::Committed, mutations: vec![mutation; count] }
    };
    let nothing = AtomicRequest { id: id(1), ack: Ack::Committed, checks: Vec::new(), mutations: Vec::new() };
    let transfer =
        |shard| RequestBody::Admin(AdminCommand::TransferLeadership { shard, to: NodeId(uuid::Uuid::new_v4()) });
    let mut connection = scenario.greet().await;
    for (body, code) in [
        (multi_get(&[""]), ErrorCode::InvalidArgument),
        (multi_get(&["key", ""]), ErrorCode::InvalidArgument),
        (scan(ShardId(0), 0), ErrorCode::InvalidArgument),
        (scan(ShardId(0), 4097), ErrorCode::TooLarge),
        (scan(none, 1), ErrorCode::InvalidArgument),
        (put(0, "key", "value"), ErrorCode::InvalidArgument),
        (put(beyond + 1, "key", "value"), ErrorCode::TooLarge),
        (put(beyond, "key", "value"), ErrorCode::InvalidArgument),
        (batch(beyond, 2), ErrorCode::TooLarge),
        (RequestBody::Atomic(nothing), ErrorCode::InvalidArgument),
        (transfer(none), ErrorCode::InvalidArgument),
        (transfer(ShardId(0)), ErrorCode::InvalidArgument),
        (hello(new_client(), None), ErrorCode::HelloExpected),
    ] {
        let text = format!("{body:?}");
        match connection.call(body).await.expect("the connection lasts") {
            ResponseBody::Error(error) => {
                assert_eq!((error.code, error.outcome), (code, Outcome::NotApplied), "{text}");
            }
            other => panic!("{text} was answered with {other:?}"),
        }
    }
    let values = connection.call(multi_get(&[])).await.expect("the connection lasts");
    assert_eq!(values, ResponseBody::Values(Vec::new()));
    let results = connection.call(batch(1, 0)).await.expect("the connection lasts");
    assert_eq!(results, ResponseBody::Batch(Vec::new()));
    // A bool that is neither, and then an id that no answer could carry.
    let mut frame = BytesMut::new();
    Request { id: RequestId(77), deadline_ms: 0, body: scan(ShardId(0), 1) }.encode(&mut frame);
    let body = frame[frame_header()..].to_vec();
    let (mut bool_of_2, mut without_id) = (body.clone(), body);
    let values_at = bool_of_2.len() - 2;
    bool_of_2[values_at] = 2;
    without_id[1..5].fill(0);
    for (body, code) in [(bool_of_2, ErrorCode::InvalidArgument), (without_id, ErrorCode::Malformed)] {
        let mut damaged = BytesMut::new();
        frame::encode(&mut damaged, |out| out.put_slice(&body));
        connection.send_bytes(&damaged).await.expect("the connection lasts");
        assert_eq!(connection.refusal().await.expect("it is answered").code, code);
    }
    assert_eq!(connection.refusal().await, None, "the node has closed the connection");
}

async fn first_requests_that_are_refused(scenario: &Scenario) {
    let elsewhere = Some(ClusterId(uuid::Uuid::new_v4()));
    let future = Hello { version_min: 999, version_max: 1_000, ..hello_fields() };
    let backwards = Hello { version_min: 999, version_max: 1, ..hello_fields() };
    for (first, code) in [
        (hello(new_client(), elsewhere), ErrorCode::WrongCluster),
        (RequestBody::Hello(future), ErrorCode::UnsupportedVersion),
        (RequestBody::Hello(backwards), ErrorCode::UnsupportedVersion),
        (get("key"), ErrorCode::HelloExpected),
    ] {
        let mut connection = scenario.open().await;
        match connection.call(first).await {
            Ok(ResponseBody::Error(error)) => assert_eq!(error.code, code, "{error}"),
            Ok(other) => panic!("{code} was expected, the node answered {other:?}"),
            Err(error) => panic!("{code} was expected, the node closed without a word: {error}"),
        }
    }
}

fn hello_fields() -> Hello {
    match hello(new_client(), None) {
        RequestBody::Hello(fields) => fields,
        other => panic!("{other:?} is no HELLO"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_folder_is_refused() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 4, ..ClusterOptions::default() }).await;
    let config = config_path(&cluster.node_dir(1));
    let port = free_base_port();
    let environment = [
        ("KVORUM_CLIENT_LISTEN", format!("127.0.0.1:{}", port + 1)),
        ("KVORUM_PEER_LISTEN", format!("127.0.0.1:{}", port + 11)),
    ];
    let log = Log::default();
    let second = NodeProcess::spawn(&["start", "--config", &config, "--exit-with-stdin"], &environment, &log);
    let status = second.wait("the second process gives up", DEADLINE).await;
    assert_eq!(status.code(), Some(EXIT_IN_USE), "{status}: {:?}", log.lines());
    assert!(log.last_line().contains("in use"), "the last line should say why it ended: {:?}", log.last_line());
    cluster.client().await.put("key", "value").await.expect("the first process goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_of_another_authority_stays_outside() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    cluster.kill(3);
    let impostor_id = cluster.id_of(&topology, 3);
    let files = ["ca.pem", "node.pem", "node.key"];
    let (own, kept, forged) = (cluster.node_dir(3), cluster.dir().join("kept"), cluster.dir().join("forged"));
    std::fs::create_dir(&kept).expect("the cluster's folder can be written");
    move_files(&files, &own, &kept);
    let text = |path: &std::path::Path| path.to_str().expect("temporary folders have names in UTF-8").to_owned();
    let (cluster_id, node_id) = (topology.cluster.to_string(), impostor_id.to_string());
    run_well(&["cert", "authority", "--dir", &text(&forged)]);
    run_well(&[
        "cert",
        "node",
        "--ca",
        &text(&forged),
        "--out",
        &text(&own),
        "--cluster",
        &cluster_id,
        "--node",
        &node_id,
    ]);
    cluster.start_node(3);

    let impostor = cluster.client_of([3]).await;
    // It has had time to dial its peers, and to be dialled, while these writes went through without it.
    for number in 0..200 {
        client.put(format!("key-{number}"), "value").await.expect("two nodes are a quorum");
    }
    let statuses = impostor.node_status(impostor_id).await.expect("the impostor's own door is open");
    assert!(statuses.iter().all(|status| status.peers_up.is_empty()), "the impostor has peers: {statuses:?}");
    for honest in 1..=2 {
        let id = cluster.id_of(&topology, honest);
        // The connection with the node that was killed ends by itself; none with the impostor takes its place.
        eventually("the honest node has lost the killed one and trusts nobody in its place", DEADLINE, async || {
            let statuses = client.node_status(id).await.map_err(|error| error.to_string())?;
            let trusts = statuses.iter().any(|status| status.peers_up.contains(&impostor_id));
            if trusts { Err(format!("node {honest} lists it as connected")) } else { Ok(()) }
        })
        .await;
    }

    cluster.kill(3);
    files.iter().for_each(|file| std::fs::remove_file(own.join(file)).expect("it was written above"));
    move_files(&files, &kept, &own);
    cluster.start_node(3);
    cluster.wait_caught_up(3).await;
}

fn move_files(files: &[&str], from: &std::path::Path, to: &std::path::Path) {
    for file in files {
        std::fs::rename(from.join(file), to.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}
