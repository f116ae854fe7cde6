//! What Prometheus reads (docs/METRICS.md).
//!
//! What is counted by the door itself is counted as it happens. All else is looked up when it is asked for, where STATUS looks it
//! up, too.

use super::Api;
use super::kv::json_response;
use super::problem::Problem;
use super::request::Asked;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use kvorum_protocol::{NodeStatus, ShardRole};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use utoipa::ToSchema;

/// Upper ends of the buckets of a request's time, in seconds: powers of two from 61 µs to 16 s.
const SECONDS: [f64; 19] = [
    0.000_061_035,
    0.000_122_07,
    0.000_244_14,
    0.000_488_28,
    0.000_976_56,
    0.001_953_125,
    0.003_906_25,
    0.007_812_5,
    0.015_625,
    0.031_25,
    0.062_5,
    0.125,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
];

/// Labels, of which the names are known when the program is compiled.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Labels(Vec<(&'static str, Cow<'static, str>)>);

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().map(|(name, value)| (*name, value.as_ref())).collect::<Vec<_>>().encode(encoder)
    }
}

/// What the door counts.
#[derive(Debug)]
pub(super) struct Counts {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    /// The series of keys that were read, which need not be looked up.
    key_reads: OnceLock<(Counter, Histogram)>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter>::default();
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let durations = Family::new_with_constructor(histogram);
        registry.register("kvorum_http_requests", "Requests of the HTTP door", requests.clone());
        registry.register(
            "kvorum_http_request_duration_seconds",
            "Time to answer a request of the HTTP door",
            durations.clone(),
        );
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { registry, requests, durations, key_reads: OnceLock::new(), hits, misses }
    }
}

impl Counts {
    /// A read was answered: out of memory, under the leader's lease, or not.
    pub(super) fn note_read(&self, is_hit: bool) {
        let counter = if is_hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A key was read, or not.
    pub(super) fn note_key_read(&self, status: StatusCode, began: Instant) {
        let series = |status| self.series(&Method::GET, "/kv/{key}", status);
        if status == StatusCode::OK {
            let (requests, durations) = self.key_reads.get_or_init(|| series(status));
            note(requests, durations, began);
        } else {
            let (requests, durations) = series(status);
            note(&requests, &durations, began);
        }
    }

    fn note_request(&self, method: &Method, endpoint: &str, status: StatusCode, began: Instant) {
        let (requests, durations) = self.series(method, endpoint, status);
        note(&requests, &durations, began);
    }

    fn series(&self, method: &Method, endpoint: &str, status: StatusCode) -> (Counter, Histogram) {
        let mut labels = vec![("method", method_name(method).into()), ("endpoint", endpoint.to_owned().into())];
        let durations = self.durations.get_or_create_owned(&Labels(labels.clone()));
        labels.push(("status", status.as_u16().to_string().into()));
        (self.requests.get_or_create_owned(&Labels(labels)), durations)
    }
}

fn note(requests: &Counter, durations: &Histogram, began: Instant) {
    requests.inc();
    durations.observe(began.elapsed().as_secs_f64());
}

/// Methods that are none of these are one: a client must not make up series.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Counts a request.
pub(super) async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (began, method) = (Instant::now(), request.method().clone());
    let is_incr = method == Method::POST && request.uri().path().ends_with("/incr");
    let endpoint = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/kv/{*key}") if is_incr => "/kv/{key}/incr".to_owned(),
        Some("/kv/{*key}") => "/kv/{key}".to_owned(),
        Some(path) => path.to_owned(),
        None => "other".to_owned(),
    };
    let response = next.run(request).await;
    api.counts.note_request(&method, &endpoint, response.status(), began);
    response
}

/// `GET /metrics`.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    summary = "Metrics of this node",
    description = "In the text format of Prometheus, version 0.0.4.",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"),
        (status = "default", description = "What went wrong", body = super::problem::ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = prometheus_text::encode(&mut text, &api.counts.registry);
    let mut looked_up = Registry::default();
    looked_up.register_collector(Box::new(LookedUp(look_up(&api))));
    let _ = prometheus_text::encode(&mut text, &looked_up);
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// A metric that is looked up when it is asked for.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Gauge,
    Counter,
}

#[derive(Debug)]
struct LookedUp(Vec<Metric>);

impl Collector for LookedUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { name, help, kind, samples } in &self.0 {
            let of_kind = match kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, of_kind)?;
            for (labels, value) in samples {
                let sample = metric.encode_family(labels)?;
                match kind {
                    Kind::Gauge => ConstGauge::new(*value).encode(sample)?,
                    Kind::Counter => ConstCounter::new(*value).encode(sample)?,
                }
            }
        }
        Ok(())
    }
}

fn look_up(api: &Api) -> Vec<Metric> {
    let (status, topology) = (api.inspector.status(), api.topology());
    let mut metrics = Vec::new();
    let mut add = |name, help, kind, samples| metrics.push(Metric { name, help, kind, samples });
    let one = |value: f64| vec![(Labels(Vec::new()), value)];
    let labelled = |name: &'static str, values: Vec<(Cow<'static, str>, f64)>| -> Vec<(Labels, f64)> {
        values.into_iter().map(|(value, sample)| (Labels(vec![(name, value)]), sample)).collect()
    };
    let sum = |of: fn(&kvorum_protocol::ShardStatus) -> u64| status.shards.iter().map(of).sum::<u64>() as f64;

    let build = vec![
        ("version", status.program_version.clone().into()),
        ("durability", super::entry::durability_name(status.durability).into()),
    ];
    add("kvorum_build_info", "The program", Kind::Gauge, vec![(Labels(build), 1.0)]);
    add("kvorum_uptime_seconds", "Time since the node started", Kind::Gauge, one(status.uptime_ms as f64 / 1000.0));
    add(
        "kvorum_connections",
        "Open connections of clients, through all doors",
        Kind::Gauge,
        one(status.connections.into()),
    );
    add(
        "kvorum_overloaded",
        "Requests that were refused because a queue was full",
        Kind::Counter,
        one(status.overloaded as f64),
    );
    let healthy = super::health::components(api, &status, &topology);
    let healthy = healthy.into_iter().map(|(name, healthy)| (name.into(), f64::from(u8::from(healthy)))).collect();
    add(
        "kvorum_component_healthy",
        "Whether a part of the node is as it should be",
        Kind::Gauge,
        labelled("component", healthy),
    );

    let roles = shards_by_role(&status);
    add("kvorum_shards", "Replicas on this node, by role", Kind::Gauge, labelled("role", roles));
    add("kvorum_cluster_shards", "Shards of the cluster", Kind::Gauge, one(topology.shards.len() as f64));
    let led = topology.shards.iter().filter(|shard| shard.leader.is_some()).count();
    let without = topology.shards.len() - led;
    add("kvorum_shards_without_leader", "Shards of which this node knows no leader", Kind::Gauge, one(without as f64));
    let lag = status.shards.iter().map(|shard| shard.committed.0.saturating_sub(shard.applied.0)).max().unwrap_or(0);
    add(
        "kvorum_replica_lag_entries_max",
        "Most entries that a replica knows committed and has not applied",
        Kind::Gauge,
        one(lag as f64),
    );
    let restarts = sum(|shard| shard.incarnation.saturating_sub(1).into());
    add("kvorum_replica_restarts", "Replicas that were started again after a failure", Kind::Counter, one(restarts));

    let hits = api.counts.hits.load(Ordering::Relaxed) as f64;
    let misses = api.counts.misses.load(Ordering::Relaxed) as f64;
    let reads = labelled("result", vec![("hit".into(), hits), ("miss".into(), misses)]);
    add(
        "kvorum_cache_requests",
        "Reads of the HTTP door that were answered out of this node's memory, or not",
        Kind::Counter,
        reads,
    );
    add("kvorum_keys", "Keys of the replicas on this node", Kind::Gauge, one(sum(|shard| shard.keys)));
    add("kvorum_index_bytes", "Memory of the indexes", Kind::Gauge, one(status.index_bytes as f64));
    add(
        "kvorum_resident_bytes",
        "Resident memory of the process, mapped pages of the log included",
        Kind::Gauge,
        one(status.resident_bytes as f64),
    );

    add(
        "kvorum_journal_rounds",
        "Rounds of the journal: one write and one sync each",
        Kind::Counter,
        one(status.journal_rounds as f64),
    );
    add("kvorum_log_bytes", "Bytes of the logs", Kind::Gauge, one(sum(|shard| shard.log_bytes)));
    add(
        "kvorum_live_bytes",
        "Of these, bytes that compaction can't give back",
        Kind::Gauge,
        one(sum(|shard| shard.live_bytes)),
    );
    add(
        "kvorum_compacted_bytes",
        "Bytes that compaction wrote",
        Kind::Counter,
        one(sum(|shard| shard.compacted_bytes)),
    );
    if status.disk_free_bytes != u64::MAX {
        add("kvorum_disk_free_bytes", "Free bytes of the disk", Kind::Gauge, one(status.disk_free_bytes as f64));
    }
    add(
        "kvorum_disk_full",
        "Whether writes are refused for want of room",
        Kind::Gauge,
        one(f64::from(u8::from(status.disk_full))),
    );
    add(
        "kvorum_clock_ahead_seconds",
        "What this node's wall clock is ahead of most",
        Kind::Gauge,
        one(status.clock_ahead_ms as f64 / 1000.0),
    );

    let me = api.caller.context().router.me();
    let peers = topology.nodes.iter().filter(|node| node.id != me);
    let peers =
        peers.map(|node| (node.name.clone().into(), f64::from(u8::from(status.peers_up.contains(&node.id))))).collect();
    add("kvorum_peer_up", "Whether another node is connected", Kind::Gauge, labelled("peer", peers));
    add("process_cpu_seconds", "Processor time of the process", Kind::Counter, one(status.cpu_us as f64 / 1e6));
    metrics
}

fn shards_by_role(status: &NodeStatus) -> Vec<(Cow<'static, str>, f64)> {
    let roles = [
        ShardRole::Leader,
        ShardRole::Follower,
        ShardRole::Candidate,
        ShardRole::Learner,
        ShardRole::Missing,
        ShardRole::Amnesiac,
        ShardRole::Faulty,
    ];
    let count = |role| status.shards.iter().filter(|shard| shard.role == role).count() as f64;
    roles.into_iter().map(|role| (role.to_string().into(), count(role))).collect()
}

/// Figures of reads.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CacheStats)]
pub(super) struct CacheStats {
    /// Reads of this node's HTTP door that were answered out of its memory.
    hits: u64,
    /// Those for which another node, a quorum or a disk was asked.
    misses: u64,
    /// The share of hits, 0 to 1; `null` before the first read.
    hit_ratio: Option<f64>,
    /// Keys of the replicas on this node.
    keys: u64,
    /// Memory.
    memory: CacheMemory,
    /// Always 0: nothing is evicted.
    evictions: u64,
    /// `null`: there is no such limit.
    capacity_keys: Option<u64>,
    /// What is kept in memory.
    policy: &'static str,
    /// What is counted: this node.
    scope: &'static str,
}

/// Memory, in bytes.
#[derive(Debug, Serialize, ToSchema)]
struct CacheMemory {
    /// Of the indexes.
    index_bytes: u64,
    /// Resident, with the mapped pages of the log.
    resident_bytes: u64,
    /// Of the logs, which are mapped.
    mapped_bytes: u64,
}

/// `GET /cache/stats`.
#[utoipa::path(
    get, path = "/cache/stats", tag = "health", operation_id = "cache_stats",
    summary = "Hits, misses and memory of this node",
    description = "",
    responses((status = 200, description = "Figures since the start", body = CacheStats),
        (status = "default", description = "What went wrong", body = super::problem::ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn cache_stats(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let status = api.inspector.status();
    let (hits, misses) = (api.counts.hits.load(Ordering::Relaxed), api.counts.misses.load(Ordering::Relaxed));
    let all = hits + misses;
    let stats = CacheStats {
        hits,
        misses,
        hit_ratio: (all > 0).then(|| hits as f64 / all as f64),
        keys: status.shards.iter().map(|shard| shard.keys).sum(),
        memory: CacheMemory {
            index_bytes: status.index_bytes,
            resident_bytes: status.resident_bytes,
            mapped_bytes: status.shards.iter().map(|shard| shard.log_bytes).sum(),
        },
        evictions: 0,
        capacity_keys: None,
        policy: "none: the log is the database",
        scope: "node",
    };
    Ok(json_response(StatusCode::OK, &stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_names_that_no_client_chooses() {
        let counts = Counts::default();
        let method = Method::from_bytes(b"BREW").expect("a method");
        counts.note_request(&method, "/kv/{key}", StatusCode::OK, Instant::now());
        let mut text = String::new();
        prometheus_text::encode(&mut text, &counts.registry).expect("text");
        let line = "kvorum_http_requests_total{method=\"other\",endpoint=\"/kv/{key}\",status=\"200\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
