//! Where a key lives and how it is stored, and who leads a shard.

use super::Api;
use super::cluster::{find_node, name_of};
use super::entry::Text;
use super::kv::{json_response, unexpected};
use super::problem::{NOT_FOUND, Problem, ProblemBody};
use super::request::Asked;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use kvorum_protocol::{AdminCommand, RequestBody, ResponseBody, ShardId};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How a key is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(super) struct ExplanationJson {
    /// The key, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// Its shard.
    shard: u16,
    /// Its position on the ring: 16 hexadecimal digits after `0x`.
    ring_position: String,
    /// The node that leads the shard; `null` while none is known.
    leader: Option<String>,
    /// The nodes that hold the shard.
    replicas: Vec<String>,
    /// Its version; `null` if there is no such key, and so is what follows.
    version: Option<u64>,
    /// Bytes of its value.
    value_bytes: Option<u32>,
    /// When it expires, in milliseconds of Unix time; `null` if it does not.
    expires_at_ms: Option<u64>,
    /// The file of the answering node's log that holds it.
    segment: Option<u32>,
    /// Where in that file.
    offset: Option<u32>,
    /// How often the answering node was asked for it lately, per second: an estimate from samples.
    reads_per_second: u64,
    /// How often it was written lately, likewise.
    writes_per_second: u64,
}

/// `GET /explain?key=`.
#[utoipa::path(
    get, path = "/explain", tag = "cluster", operation_id = "explain",
    summary = "Where a key lives and how it is stored",
    description = "As the answering node's own replica stores it, which may be a moment behind. A node without one tells of no version.",
    params(
        ("key" = Option<String>, Query, description = "The key, if it is UTF-8", min_length = 1),
        ("key_base64" = Option<String>, Query, description = "The key as base64"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "How it is stored", body = ExplanationJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn explain(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["key", "key_base64"])?;
    let key = asked.query.key()?;
    let reply = api.caller.read(&asked.whose, RequestBody::Explain(key.clone()), asked.within).await?;
    let ResponseBody::Explanation(found) = reply.body else { return Err(unexpected()) };
    let topology = api.topology();
    let name = |node| name_of(&topology, node);
    let Text { plain, base64 } = Text::of(&key);
    let json = ExplanationJson {
        key: plain,
        key_base64: base64,
        shard: found.shard.0,
        ring_position: format!("{:#018x}", found.ring_position),
        leader: found.leader.map(name),
        replicas: found.replicas.into_iter().map(name).collect(),
        version: found.stored.map(|stored| stored.version.0),
        value_bytes: found.stored.map(|stored| stored.value_bytes),
        expires_at_ms: found.stored.and_then(|stored| stored.expires_at_ms),
        segment: found.stored.map(|stored| stored.segment),
        offset: found.stored.map(|stored| stored.offset),
        reads_per_second: found.reads_per_second,
        writes_per_second: found.writes_per_second,
    };
    Ok(json_response(StatusCode::OK, &json))
}

/// A shard that is to be led by another node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HandOver)]
pub(super) struct HandOverJson {
    /// The shard.
    shard: u16,
    /// The node that leads it; `null` if none is known.
    from: Option<String>,
    /// The node that is to.
    to: String,
}

/// `POST /shards/{shard}/leader`.
#[utoipa::path(
    post, path = "/shards/{shard}/leader", tag = "cluster", operation_id = "lead_shard",
    summary = "Have a shard led by another one of its nodes",
    description = "Answered once its leader begins to hand over. May be repeated.",
    params(
        ("shard" = u16, Path, description = "The shard", maximum = 4095),
        ("to" = String, Query, description = "The name or the id of a node that holds a replica", min_length = 1),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 202, description = "It has begun", body = HandOverJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn lead(
    State(api): State<Arc<Api>>,
    Path(shard): Path<String>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["to"])?;
    let topology = api.topology();
    let shard = shard.parse().ok().map(ShardId).filter(|shard| usize::from(shard.0) < topology.shards.len());
    let shard = shard.ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such shard"))?;
    let wanted = asked.query.text("to")?.filter(|to| !to.is_empty());
    let wanted = wanted.ok_or_else(|| Problem::conflicting("the parameter to is missing: it names a node"))?;
    let to = find_node(&api, wanted)?;
    let from = topology.leader_of(shard).map(|leader| leader.name.clone());
    let command = RequestBody::Admin(AdminCommand::TransferLeadership { shard, to: to.id });
    api.caller.read(&asked.whose, command, asked.within).await?;
    Ok(json_response(StatusCode::ACCEPTED, &HandOverJson { shard: shard.0, from, to: to.name }))
}
