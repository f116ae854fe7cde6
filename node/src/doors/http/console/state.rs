//! What pages ask for when they begin.

use super::super::Api;
use super::super::problem::Problem;
use super::super::request::Asked;
use super::login::{AuthView, WhoView};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use std::sync::Arc;

/// What only one asker gets.
#[derive(Serialize)]
struct Own {
    who: WhoView,
    auth: AuthView,
}

/// `GET /console/state`: all that a page needs at once.
pub(super) async fn state(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    api.console.look_if_due().await;
    let own = serde_json::to_vec(&Own { who: WhoView::of(&asked.whose), auth: AuthView::of(&api) }).unwrap_or_default();
    let shared = api.console.shared_state();
    // Two objects become one: the brace of the second is a comma.
    let mut body = Vec::with_capacity(own.len() + shared.len());
    body.extend_from_slice(&own[..own.len() - 1]);
    body.push(b',');
    body.extend_from_slice(&shared[1..]);
    Ok(json_of(body.into()))
}

/// What is encoded already.
fn json_of(bytes: Bytes) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `GET /console/history`: the last six hours.
pub(super) async fn history(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let bytes = api.console.memory.lock().history_of_hours();
    Ok(json_of(bytes))
}
