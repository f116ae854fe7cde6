//! What Prometheus reads (docs/METRICS.md).
//!
//! What is counted by the door itself is counted as it happens. All else is looked up when it is asked for, where STATUS looks it
//! up, too.

mod encode;
mod figures;
mod requests;

pub(super) use requests::{HttpRequests, KEY_ROUTE};

use super::Api;
use super::idempotency::REPLAYED;
use super::problem::Problem;
use super::request::Asked;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;
use utoipa::ToSchema;

/// Counts a request.
pub(super) async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (began, method) = (Instant::now(), request.method().clone());
    let is_incr = method == Method::POST && request.uri().path().ends_with("/incr");
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if response.headers().contains_key(REPLAYED) {
        api.http_requests.note_replayed();
    }
    api.http_requests.note(&method, route.as_ref().map(MatchedPath::as_str), is_incr, response.status(), began);
    response
}

/// What more is told.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = MetricsDetail)]
#[serde(rename_all = "snake_case")]
pub(super) enum Detail {
    /// Figures of each replica.
    Shards,
}

/// `GET /metrics`.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    summary = "Metrics of this node",
    description = "In the text format of Prometheus, version 0.0.4. With detail=shards also figures of each replica.",
    params(("detail" = Option<Detail>, Query, description = "shards: also the figures of each replica")),
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"),
        (status = "default", description = "What went wrong", body = super::problem::ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["detail"])?;
    let by_shard = match asked.query.bytes("detail") {
        None => false,
        Some(detail) if detail[..] == b"shards"[..] => true,
        Some(_) => return Err(Problem::invalid("the parameter detail is \"shards\", or is left out")),
    };
    let text = figures::look_up(&api, by_shard).into_text();
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}
