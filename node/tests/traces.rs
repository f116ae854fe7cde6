//! Traces, the slow log and MONITOR of real nodes: a receiver of OTLP hears of a request that is passed on, each node keeps what was slow,
//! and tells of what comes in.

use crate::common::cluster::OPERATION_DEADLINE;
use crate::common::http::request;
use crate::common::{ClusterOptions, TestCluster, eventually, key_in_shard};
use kvorum_client::{NodeId, ShardId, SlowOperation};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How long a span may be on its way.
const SPANS_WITHIN: Duration = Duration::from_secs(20);
/// Not to be found in any span.
const SECRET: &str = "a-value-that-nobody-else-sees";
/// A client's span, which is recorded.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// A receiver.
struct Sink(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// What a receiver has heard.
struct Received {
    requests: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    /// Spans, with the nodes that sent them.
    spans: Vec<(String, Span)>,
}

async fn receive() -> (SocketAddr, Received) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (sender, requests) = mpsc::unbounded_channel();
    let server = Server::builder().add_service(TraceServiceServer::new(Sink(sender)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (address, Received { requests, spans: Vec::new() })
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

impl Received {
    /// Waits until spans of a trace amount to what is wanted.
    async fn of_trace(
        &mut self,
        trace: &str,
        enough: impl Fn(&[(String, Span)]) -> bool + Sync,
    ) -> Vec<(String, Span)> {
        let heard = async {
            loop {
                let of_trace: Vec<_> =
                    self.spans.iter().filter(|(_, span)| hex(&span.trace_id) == trace).cloned().collect();
                if enough(&of_trace) {
                    return of_trace;
                }
                let request = self.requests.recv().await.expect("the receiver lives as long as the test");
                for resource in request.resource_spans {
                    let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                    let of = |key: &str| {
                        let found = attributes.iter().find(|attribute| attribute.key == key);
                        text(found.and_then(|found| found.value.as_ref()?.value.as_ref()))
                    };
                    assert_eq!(of("service.name"), "kvorum");
                    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                    self.spans.extend(spans.map(|span| (of("kvorum.node"), span)));
                }
            }
        };
        tokio::time::timeout(SPANS_WITHIN, heard).await.expect("the spans come in time")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn cluster(environment: Vec<(&'static str, String)>) -> TestCluster {
    TestCluster::start(ClusterOptions { shards: 4, environment, ..ClusterOptions::default() }).await
}

/// A key, the node that leads its shard, and another one.
async fn key_and_nodes(cluster: &TestCluster) -> (String, usize, usize) {
    let client = cluster.client().await;
    let topology = cluster.settled_topology(&client).await;
    let leader = topology.leader_of(ShardId(1)).expect("it is settled").name.clone();
    let leader = cluster.nodes().find(|node| leader == format!("node-{node}")).expect("it is one of the nodes");
    let other = cluster.nodes().find(|node| *node != leader).expect("there are three");
    (key_in_shard("traced", ShardId(1), cluster.shards()), leader, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_through_a_node_that_does_not_lead_is_one_trace_over_two_nodes() {
    let (receiver, mut received) = receive().await;
    let cluster = cluster(vec![
        ("KVORUM_TRACES_OTLP", format!("http://{receiver}")),
        ("KVORUM_TRACES_ONE_OF", "0".to_owned()),
        ("KVORUM_SLOW_MS", "0".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
    ])
    .await;
    let (key, leader, other) = key_and_nodes(&cluster).await;
    let address = cluster.http_address(other);
    let unsampled = format!("traceparent: 00-{}-{CLIENT_SPAN}-00", TRACE.replace('0', "1"));
    let put = request(address, "PUT", &format!("/kv/{key}"), &["content-type: text/plain", &unsampled], SECRET).await;
    assert_eq!(put.status, 201, "nothing is told of this one");
    let traceparent = format!("traceparent: 00-{TRACE}-{CLIENT_SPAN}-01");
    let put = request(address, "PUT", &format!("/kv/{key}"), &["content-type: text/plain", &traceparent], SECRET).await;
    assert_eq!(put.status, 200);

    let stages = ["queue", "propose", "sync", "quorum", "apply", "answer"];
    // Of a leader whose own disk was the slowest there is no sync to tell of.
    let all: BTreeSet<&str> =
        ["PUT", "forward"].into_iter().chain(stages.into_iter().filter(|name| *name != "sync")).collect();
    let spans = received
        .of_trace(TRACE, |spans| {
            let names: BTreeSet<&str> = spans.iter().map(|(_, span)| span.name.as_str()).collect();
            spans.iter().filter(|(_, span)| span.name == "PUT").count() == 2 && names.is_superset(&all)
        })
        .await;
    assert!(received.spans.iter().all(|(_, span)| hex(&span.trace_id) == TRACE), "one trace, and no other");
    assert!(spans.len() >= 8, "{spans:#?}");

    let (leader, other) = (format!("node-{leader}"), format!("node-{other}"));
    let one = |node: &String, name: &str| {
        let mut found = spans.iter().filter(|(of, span)| of == node && span.name == name);
        let span = found.next().unwrap_or_else(|| panic!("{node} told of no {name}: {spans:#?}"));
        assert!(found.next().is_none(), "{node} told twice of {name}");
        span.1.clone()
    };
    let (came_in, forward, served) = (one(&other, "PUT"), one(&other, "forward"), one(&leader, "PUT"));
    assert_eq!(hex(&came_in.parent_span_id), CLIENT_SPAN);
    assert_eq!(forward.parent_span_id, came_in.span_id);
    assert_eq!(served.parent_span_id, forward.span_id);
    assert_eq!((came_in.kind(), forward.kind()), (SpanKind::Server, SpanKind::Client));
    let mut at = served.start_time_unix_nano;
    for (node, span) in spans.iter().filter(|(_, span)| stages.contains(&span.name.as_str())) {
        assert_eq!((node, &span.parent_span_id), (&leader, &served.span_id), "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    for name in ["queue", "propose", "quorum", "apply", "answer"] {
        let span = one(&leader, name);
        assert_eq!(span.start_time_unix_nano, at, "{name} begins where the stage before it ends");
        at = span.end_time_unix_nano;
    }
    assert_eq!(at, served.end_time_unix_nano, "the stages are all of the time");
    let attributes: BTreeMap<String, String> = served
        .attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref().and_then(|value| value.value.as_ref()))))
        .collect();
    assert_eq!((attributes["db.system.name"].as_str(), attributes["kvorum.door"].as_str()), ("kvorum", "peer"));
    // The library says to which trace an operation belongs, and goes to the leader itself.
    let client = cluster.client_of([1, 2, 3]).await;
    let trace = TRACE.replace('0', "e");
    let caller = SpanContext::new(
        TraceId::from_hex(&trace).expect("it is one"),
        SpanId::from_hex(CLIENT_SPAN).expect("it is one"),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    client.topology().await.expect("the cluster is up");
    let caller = opentelemetry::Context::new().with_remote_span_context(caller).attach();
    client.put(key.clone(), SECRET).await.expect("the cluster is up");
    drop(caller);
    let spans = received.of_trace(&trace, |spans| spans.iter().any(|(_, span)| span.name == "answer")).await;
    let put = spans.iter().find(|(_, span)| span.name == "PUT").expect("a request is told of before its stages");
    assert_eq!((hex(&put.1.parent_span_id).as_str(), &put.0), (CLIENT_SPAN, &leader));

    let told = format!("{:?}", received.spans);
    assert!(!told.contains(SECRET) && !told.contains(&key), "no span holds a key or a value");

    let metrics = eventually("the traces are counted", SPANS_WITHIN, async || {
        let answer = request(address, "GET", "/metrics", &[], "").await;
        let text = String::from_utf8(answer.body.to_vec()).map_err(|error| error.to_string())?;
        if text.contains("kvorum_traces_total{result=\"sent\"} 1") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(metrics.contains("kvorum_traces_total{result=\"dropped\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_put_is_kept_by_both_nodes_with_where_its_time_went() {
    let cluster = cluster(vec![("KVORUM_SLOW_MS", "1".to_owned())]).await;
    let (key, leader, other) = key_and_nodes(&cluster).await;
    // To copy, check and sync so much three times takes longer than a millisecond on any machine.
    let value = vec![b'v'; 8 << 20];
    let address = cluster.http_address(other);
    let put = request(address, "PUT", &format!("/kv/{key}"), &["content-type: text/plain"], value).await;
    assert_eq!(put.status, 201);

    let client = cluster.client().await;
    let topology = client.topology().await.expect("the cluster is up");
    let id = |node: usize| -> NodeId {
        let name = format!("node-{node}");
        topology.nodes.iter().find(|info| info.name == name).expect("it is a node").id
    };
    let slow = async |node: usize, door: &str| -> SlowOperation {
        let view = client.admin().slow_log(id(node), 1_024).await.expect("the node answers");
        assert_eq!((view.slower_than_us, view.length as usize), (Some(1_000), view.operations.len()));
        let found =
            view.operations.iter().find(|one| one.door == door && one.operation == "put" && one.took_us > 1_000);
        found.unwrap_or_else(|| panic!("{:#?}", view.operations)).clone()
    };
    let (came_in, served) = (slow(other, "http").await, slow(leader, "peer").await);
    assert_eq!((came_in.node, served.node), (id(other), id(leader)));
    assert_eq!((came_in.shard, came_in.key_hash), (served.shard, served.key_hash));
    assert_eq!((served.shard, served.outcome.as_str()), (Some(ShardId(1)), "ok"));
    let stages = served.stages.all_us();
    assert_eq!((stages[6], came_in.stages.remote_us), (0, came_in.took_us as u32));
    let sum: u64 = stages.iter().map(|us| u64::from(*us)).sum();
    // Each is rounded down to a microsecond.
    assert!((served.took_us - 7..=served.took_us).contains(&sum), "{served:#?}");
    assert!(came_in.took_us >= served.took_us, "what a node passes on takes it longer");

    let answer = request(address, "GET", "/slowlog?count=1024", &[], "").await.json();
    let numbers = |log: &serde_json::Value| -> BTreeSet<u64> {
        log["operations"].as_array().expect("a list").iter().filter_map(|one| one["number"].as_u64()).collect()
    };
    assert!(numbers(&answer).contains(&came_in.number), "{answer}");
    assert_eq!(request(address, "GET", "/slowlog?count=1025", &[], "").await.status, 400);
    client.admin().forget_slow_log(id(other)).await.expect("the node answers");
    let answer = request(address, "GET", "/slowlog", &[], "").await.json();
    assert!(!numbers(&answer).contains(&came_in.number), "{answer}");
    assert!(client.close(OPERATION_DEADLINE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_is_told_of_a_request_by_the_node_where_it_came_in() {
    let cluster = cluster(Vec::new()).await;
    let (key, leader, other) = key_and_nodes(&cluster).await;
    let client = cluster.client().await;
    let topology = client.topology().await.expect("the cluster is up");
    let admin = client.admin();
    let id = |node: usize| -> NodeId {
        let name = format!("node-{node}");
        topology.nodes.iter().find(|info| info.name == name).expect("it is a node").id
    };
    let view = async |node: usize, from: Option<u64>| admin.monitor(id(node), from).await.expect("the node answers");
    let put = async |value: &'static str| {
        let address = cluster.http_address(other);
        let answer = request(address, "PUT", &format!("/kv/{key}"), &["content-type: text/plain"], value).await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.status);
    };
    put("nobody watches").await;
    let begun = [view(other, None).await, view(leader, None).await];
    assert!(begun.iter().all(|view| view.requests.is_empty() && view.untold == 0), "{begun:?}");
    put(SECRET).await;
    let here = view(other, Some(begun[0].next)).await;
    let [seen] = &here.requests[..] else { panic!("one request has come in: {here:?}") };
    assert_eq!((seen.door.as_str(), seen.operation.as_str(), seen.keys), ("http", "put", 1));
    assert_eq!(seen.key.as_deref(), Some(key.as_bytes()));
    assert_eq!(seen.bytes as usize, key.len() + SECRET.len());
    assert_eq!((here.next, here.untold), (begun[0].next + 1, 0));
    let there = view(leader, Some(begun[1].next)).await;
    assert!(there.requests.is_empty(), "what was passed on was told of: {there:?}");
    assert!(client.close(OPERATION_DEADLINE).await);
}
