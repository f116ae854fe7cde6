//! Is the node alive, is it ready, and how is it doing.

use super::Api;
use super::kv::json_response;
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use axum::extract::State;
use axum::response::Response;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use kvorum_core::health::fitness::Unfit;
use kvorum_protocol::{NodeStatus, ShardRole, Topology};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

/// How good it is. Of several the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Grade {
    /// As it should be.
    Healthy,
    /// It works, and somebody should look.
    Degraded,
    /// It does not work.
    Unavailable,
}

/// How a node is doing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthJson {
    /// The worst of the checks.
    status: Grade,
    /// What was looked at: `api`, `storage`, `consensus`, `cache`, `queue` and `peers`.
    checks: BTreeMap<&'static str, Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Check {
    /// How good it is.
    status: Grade,
    /// What was seen.
    detail: String,
}

/// Whether a node lives, or is ready.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Probe)]
pub(super) struct ProbeJson {
    /// `alive`, `ready` or `not_ready`.
    status: &'static str,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// `GET /health`.
#[utoipa::path(
    get, path = "/health", tag = "health", operation_id = "health",
    summary = "How the node is doing",
    description = "",
    responses(
        (status = 200, description = "It works", body = HealthJson),
        (status = 503, description = "It does not work", body = HealthJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn health(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let health = judge(&api, &api.inspector.status(), &api.topology());
    let is_up = health.status != Grade::Unavailable;
    Ok(uncached(if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health))
}

/// `GET /health/live`. Looks at this process only: whoever restarts it for what others do makes it worse.
#[utoipa::path(
    get, path = "/health/live", tag = "health", operation_id = "live",
    summary = "Whether the process lives",
    description = "Looks at this process only. For liveness probes.",
    responses(
        (status = 200, description = "It lives", body = ProbeJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn live(request: axum::extract::Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    Ok(uncached(StatusCode::OK, &ProbeJson { status: "alive", reason: None }))
}

/// `GET /health/ready`. Once the node has caught up it stays ready until it stops or is drained: the trouble of other nodes is no reason to
/// take this one out of service as well.
#[utoipa::path(
    get, path = "/health/ready", tag = "health", operation_id = "ready",
    summary = "Whether the node takes requests",
    description = "Sticky: once the node has caught up it is ready until it stops or is drained. For readiness probes and load balancers.",
    responses(
        (status = 200, description = "It is ready", body = ProbeJson),
        (status = 503, description = "It is not ready", body = ProbeJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let reason = if is_stopping(&api) {
        Some("the node is stopping")
    } else if api.caller.context().router.fitness().reasons().contains(Unfit::Draining) {
        Some("the node is drained")
    } else if api.was_ready.load(Ordering::Relaxed) {
        None
    } else {
        let lacks = not_caught_up(&api.inspector.status());
        if lacks.is_none() {
            api.was_ready.store(true, Ordering::Relaxed);
        }
        lacks
    };
    let (status, text) =
        if reason.is_none() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    Ok(uncached(status, &ProbeJson { status: text, reason }))
}

fn is_stopping(api: &Api) -> bool {
    api.caller.context().router.fitness().reasons().contains(Unfit::Stopping)
}

/// What the node still lacks after its start.
fn not_caught_up(status: &NodeStatus) -> Option<&'static str> {
    if status.epoch.0 == 0 {
        return Some("the node has not heard of the ring map yet");
    }
    if status.stranger {
        return Some("the ring map names another data folder for this node");
    }
    let opens = |role| matches!(role, ShardRole::Missing | ShardRole::Learner);
    if status.shards.iter().any(|shard| opens(shard.role)) {
        return Some("replicas are being opened or filled");
    }
    if status.shards.iter().any(|shard| shard.leader.is_none() || shard.applied < shard.committed) {
        return Some("shards wait for a leader, or catch up");
    }
    None
}

/// Whether each component is as it should be.
pub(super) fn components(api: &Api, status: &NodeStatus, topology: &Topology) -> Vec<(&'static str, bool)> {
    let checks = judge(api, status, topology).checks.into_iter();
    checks.map(|(name, check)| (name, check.status == Grade::Healthy)).collect()
}

fn graded(bad: bool) -> Grade {
    if bad { Grade::Degraded } else { Grade::Healthy }
}

/// By what troubles the disk, and what the node's replicas are. Those that are being opened or filled are no trouble: a node that has
/// only just started has many.
fn judge_storage(trouble: Option<&str>, free_bytes: u64, roles: impl Iterator<Item = ShardRole>) -> (Grade, String) {
    let lost = roles.filter(|role| matches!(role, ShardRole::Faulty | ShardRole::Amnesiac)).count();
    let mut detail = trouble.map_or_else(|| format!("{} MiB are free", free_bytes >> 20), str::to_owned);
    if lost > 0 {
        detail.push_str(&format!("; replicas that can't be used and wait to be replaced: {lost}"));
    }
    (graded(trouble.is_some() || lost > 0), detail)
}

fn judge(api: &Api, status: &NodeStatus, topology: &Topology) -> HealthJson {
    let router = &api.caller.context().router;
    let reasons = router.fitness().reasons();
    let mut checks = BTreeMap::new();
    let mut check = |name, status, detail: String| checks.insert(name, Check { status, detail });

    let stopping = is_stopping(api);
    let of_api =
        if stopping { "the node is stopping".to_owned() } else { format!("{} connections", status.connections) };
    check("api", if stopping { Grade::Unavailable } else { Grade::Healthy }, of_api);

    let trouble = match (status.disk_full, reasons.contains(Unfit::DiskSlow)) {
        (true, _) => Some("the disk is full: writes are refused"),
        (false, true) => Some("the disk was slow a moment ago"),
        (false, false) => None,
    };
    let roles = status.shards.iter().map(|shard| shard.role);
    let (storage, detail) = judge_storage(trouble, status.disk_free_bytes, roles);
    check("storage", storage, detail);

    let (shards, led) = (topology.shards.len(), topology.shards.iter().filter(|shard| shard.leader.is_some()).count());
    let consensus = match led {
        0 => Grade::Unavailable,
        led if led < shards || reasons.contains(Unfit::ClockOff) => Grade::Degraded,
        _ => Grade::Healthy,
    };
    check("consensus", consensus, format!("{led} of {shards} shards have a leader"));

    let is_short = api.pressure.index_is_full();
    let keys: u64 = status.shards.iter().map(|shard| shard.keys).sum();
    check("cache", graded(is_short), format!("{keys} keys, an index of {} MiB", status.index_bytes >> 20));

    check("queue", Grade::Healthy, format!("{} requests were refused since the start", status.overloaded));

    let (up, all) = (status.peers_up.len(), topology.nodes.len().saturating_sub(1));
    check("peers", graded(up < all), format!("{up} of {all} are connected"));

    let worst = checks.values().map(|check: &Check| check.status).max();
    HealthJson { status: worst.unwrap_or(Grade::Healthy), checks }
}

fn uncached(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = json_response(status, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_cannot_be_used_are_trouble_and_those_that_are_opened_are_not() {
        let judged = |trouble, roles: &[ShardRole]| judge_storage(trouble, 3 << 20, roles.iter().copied());
        let fine =
            [ShardRole::Leader, ShardRole::Follower, ShardRole::Candidate, ShardRole::Missing, ShardRole::Learner];
        assert_eq!(judged(None, &fine), (Grade::Healthy, "3 MiB are free".to_owned()));
        assert_eq!(judged(Some("it is full"), &fine), (Grade::Degraded, "it is full".to_owned()));
        let lost = [ShardRole::Leader, ShardRole::Faulty, ShardRole::Amnesiac];
        let detail = "3 MiB are free; replicas that can't be used and wait to be replaced: 2".to_owned();
        assert_eq!(judged(None, &lost), (Grade::Degraded, detail));
    }
}
