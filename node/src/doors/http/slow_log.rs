//! Operations that took long, over HTTP.

use super::Api;
use super::kv::{json_response, unexpected};
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kvorum_protocol::limits::SLOW_OPERATIONS_MAX;
use kvorum_protocol::{AdminCommand, RequestBody, ResponseBody, SlowLogAsk, SlowLogView, SlowOperation};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many are told where nothing is said.
const COUNT_DEFAULT: u32 = 128;

/// Operations that took long on this node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlowLog)]
struct SlowLogJson {
    /// How many this node keeps.
    length: u32,
    /// From how many microseconds on an operation is kept; `null` if none is.
    slower_than_us: Option<u64>,
    /// The newest first.
    operations: Vec<SlowOperationJson>,
}

/// An operation that took long.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlowOperation)]
struct SlowOperationJson {
    /// Grows by one with each slow operation since the node's process began, from 0.
    number: u64,
    /// The node that answered it.
    node: String,
    /// When it was answered, in Unix milliseconds by the node's clock.
    at_ms: u64,
    /// Which way it came in: `binary`, `http`, `resp`, or `peer` if another node has passed it on.
    door: String,
    /// What was asked, such as `put`.
    operation: String,
    /// `ok`, `not_applied` or `unknown`.
    outcome: String,
    /// What went wrong, such as `DeadlineExceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The shard, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u16>,
    /// The hash of the key, or of the first one: 16 hexadecimal digits. Keys are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<String>,
    /// From when the node took it up until it was answered, in microseconds.
    took_us: u64,
    /// Where that time went.
    stages: SlowStagesJson,
    /// The trace that it is part of: 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

/// Where the time went, in microseconds. 0 is what the operation did not go through.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlowStages)]
struct SlowStagesJson {
    /// It waited for its shard to begin an entry.
    queue: u32,
    /// It was decided, and put into an entry.
    propose: u32,
    /// The entry waited for the leader's disk.
    sync: u32,
    /// After that, it waited for a quorum.
    quorum: u32,
    /// The leader applied it.
    apply: u32,
    /// The answer waited for its connection.
    answer: u32,
    /// Another node worked on it.
    remote: u32,
}

impl From<SlowOperation> for SlowOperationJson {
    fn from(operation: SlowOperation) -> Self {
        let SlowOperation {
            number,
            node,
            at_ms,
            door,
            operation,
            outcome,
            error,
            shard,
            key_hash,
            took_us,
            stages,
            trace,
        } = operation;
        let [queue, propose, sync, quorum, apply, answer, remote] = stages.all_us();
        Self {
            number,
            node: node.to_string(),
            at_ms,
            door,
            operation,
            outcome,
            error: error.map(|error| error.to_string()),
            shard: shard.map(|shard| shard.0),
            key_hash: key_hash.map(|hash| format!("{hash:016x}")),
            took_us,
            stages: SlowStagesJson { queue, propose, sync, quorum, apply, answer, remote },
            trace_id: trace.map(|trace| trace.to_string()),
        }
    }
}

/// `GET /slowlog`.
#[utoipa::path(
    get, path = "/slowlog", tag = "health", operation_id = "slow_log",
    summary = "Operations that took long on this node",
    description = "The node keeps the newest 1024 of those that took `slow_ms` or longer, with where their time went. A write that another \
                   node leads is kept there, too, as door `peer`, with the stages of its leader.",
    params(
        ("count" = Option<u32>, Query, description = "At most so many, the newest first; 128 by default", minimum = 0, maximum = 1024),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The newest of them", body = SlowLogJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn slow_log(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["count"])?;
    let count = match asked.query.text("count")? {
        None => COUNT_DEFAULT,
        Some(text) => {
            let count = text.parse::<u32>().ok().filter(|count| *count <= SLOW_OPERATIONS_MAX as u32);
            count.ok_or_else(|| Problem::invalid("the parameter count is a number from 0 to 1024"))?
        }
    };
    let body = RequestBody::Admin(AdminCommand::SlowLog(SlowLogAsk::Newest(count)));
    let reply = api.caller.read(&asked.whose, body, asked.within).await?;
    let ResponseBody::SlowLog(view) = reply.body else { return Err(unexpected()) };
    let SlowLogView { length, slower_than_us, operations } = *view;
    let operations = operations.into_iter().map(SlowOperationJson::from).collect();
    Ok(json_response(StatusCode::OK, &SlowLogJson { length, slower_than_us, operations }))
}
