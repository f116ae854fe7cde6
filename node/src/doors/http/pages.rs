//! Pages for people.

use super::problem::{KINDS, NOT_FOUND, Problem};
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

/// `GET /problems/{code}`: what a kind of problem means, and what to do.
pub(super) async fn problem(Path(code): Path<String>) -> Result<Response, Problem> {
    // What was asked for is looked up, and never shown: it is somebody's bytes.
    let kind = KINDS.iter().find(|kind| kind.code == code);
    let kind = kind.ok_or_else(|| Problem::new(&NOT_FOUND, "there is no such kind of problem"))?;
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} - Kvorum</title></head>\n<body>\n<main>\n<h1>{title}</h1>\n<p><code>{code}</code>, status {status}</p>\n\
         <h2>What it means</h2>\n<p>{meaning}</p>\n<h2>What to do</h2>\n<p>{remedy}</p>\n</main>\n</body>\n</html>\n",
        title = kind.title,
        code = kind.code,
        status = kind.status,
        meaning = kind.meaning,
        remedy = kind.remedy,
    );
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    Ok(response)
}
