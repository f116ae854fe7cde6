//! Tokens, by which nodes join.

use super::Api;
use super::kv::{json_response, unexpected};
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kvorum_client::TokenWish;
use kvorum_protocol::limits::TOKEN_MS_MAX;
use kvorum_protocol::{AdminCommand, ClusterVerb, RequestBody, ResponseBody};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// A token. Whoever has its text can join: it is a secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenJson {
    /// Its text, for `kvorum join --token`. The cluster does not keep it.
    token: String,
    /// For how long it is good, in milliseconds.
    for_ms: u64,
}

/// `POST /cluster/tokens`.
#[utoipa::path(
    post, path = "/cluster/tokens", tag = "cluster", operation_id = "make_token",
    summary = "Make a token, by which one node may join",
    description = "Good once. The answer is the only place where its secret stands. The cluster knows 64 tokens at most. \
        Sent again, it makes another one.",
    params(
        ("name" = Option<String>, Query, description = "The name of the node that may join; any, if it is left out", max_length = 255),
        ("zone" = Option<String>, Query, description = "The zone that it joins; its own choice, if it is left out", max_length = 255),
        ("for_ms" = Option<u64>, Query, description = "For how long it is good, in milliseconds; an hour by default",
            minimum = 1, maximum = 86400000),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 201, description = "The token", body = TokenJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn make(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["name", "zone", "for_ms"])?;
    let (name, zone) = (asked.query.name("name")?, asked.query.name("zone")?);
    let life = asked.query.value("for_ms", "milliseconds")?.map(Duration::from_millis);
    let wish = TokenWish { name, zone, life: life.unwrap_or(TokenWish::default().life) };
    let for_ms = u64::try_from(wish.life.as_millis()).unwrap_or(u64::MAX);
    if !(1..=TOKEN_MS_MAX).contains(&for_ms) {
        return Err(Problem::invalid("for_ms is 1 to 86400000, which is a day"));
    }
    let body = RequestBody::Admin(AdminCommand::Authority);
    let reply = api.caller.read(&asked.whose, body, asked.within).await?;
    let ResponseBody::Authority(authority) = reply.body else { return Err(unexpected()) };
    let (token, new) = wish.draw(authority);
    let verb = AdminCommand::Ask(ClusterVerb::Token(Box::new(new)));
    api.caller.read(&asked.whose, RequestBody::Admin(verb), asked.within).await?;
    Ok(json_response(StatusCode::CREATED, &TokenJson { token: token.to_string(), for_ms }))
}
