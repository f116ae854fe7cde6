//! Pages for people.

use super::problem::{KINDS, NOT_FOUND, Problem, ProblemBody};
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

/// Swagger UI, from the package that vendors it.
const BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
const STYLES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
const INDEX: &str = include_str!("docs/index.html");
const PROBLEM: &str = include_str!("docs/problem.html");
const START: &str = include_str!("docs/start.js");
const PAGE_STYLES: &str = include_str!("docs/page.css");
/// Nothing is loaded from elsewhere. The library sets styles on its elements.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// `GET /docs`: the description of this door, to look at and to try.
pub(super) async fn docs() -> Response {
    let mut response = INDEX.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    response
}

/// `GET /docs/{file}`: what that page loads.
pub(super) async fn docs_file(Path(file): Path<String>) -> Result<Response, Problem> {
    let (kind, content, is_compressed): (_, &'static [u8], _) = match file.as_str() {
        "swagger-ui-bundle.js" => ("text/javascript; charset=utf-8", BUNDLE, true),
        "swagger-ui.css" => ("text/css; charset=utf-8", STYLES, true),
        "page.css" => ("text/css; charset=utf-8", PAGE_STYLES.as_bytes(), false),
        "start.js" => ("text/javascript; charset=utf-8", START.as_bytes(), false),
        _ => return Err(Problem::new(&NOT_FOUND, "the page loads no such file")),
    };
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    if is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// `GET /problems/{code}`: what a kind of problem means, and what to do.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "help", operation_id = "problem",
    summary = "What a kind of problem means",
    description = "",
    params(("code" = String, Path, description = "The code of a problem", example = "overloaded")),
    responses(
        (status = 200, description = "A page for people", body = String, content_type = "text/html"),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn problem(Path(code): Path<String>) -> Result<Response, Problem> {
    // What was asked for is looked up, and never shown: it is somebody's bytes.
    let kind = KINDS.iter().find(|kind| kind.code == code);
    let kind = kind.ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such kind of problem"))?;
    let status = kind.status.to_string();
    let members = [
        ("{title}", kind.title),
        ("{code}", kind.code),
        ("{status}", &status),
        ("{meaning}", kind.meaning),
        ("{remedy}", kind.remedy),
    ];
    let page = members.into_iter().fold(PROBLEM.to_owned(), |page, (name, text)| page.replace(name, text));
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'"),
    );
    Ok(response)
}
