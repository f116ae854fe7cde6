//! The shortest way to a key: a GET of its path goes round the routes, and what is counted around them. It is answered, and counted, as
//! it would be there.

use super::Api;
use super::kv::get_asked;
use super::metrics::KEY_ROUTE;
use super::request::Asked;
use super::whose::Whose;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, Request, Uri};
use std::time::Instant;

/// Whether this way is open to a request. With parameters the usual one is.
pub(super) fn takes<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    request.method() == Method::GET
        && uri.query().is_none()
        && uri.path().len() > PREFIX.len()
        && uri.path().starts_with(PREFIX)
}

const PREFIX: &str = "/kv/";

/// Answers such a request.
pub(super) async fn answer(api: &Api, whose: Whose, uri: &Uri, headers: &HeaderMap) -> Response {
    let began = Instant::now();
    let answered = match Asked::of(uri, headers, whose, &[]) {
        Ok(asked) => get_asked(api, &asked).await,
        Err(problem) => Err(problem),
    };
    let response = answered.unwrap_or_else(|problem| problem.into_response());
    api.http_requests.note(&Method::GET, Some(KEY_ROUTE), false, response.status(), began);
    response
}
