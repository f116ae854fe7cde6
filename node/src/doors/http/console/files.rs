//! The files of the pages: in the program, compressed, under the hash of what they hold; or in a folder, while somebody works on them.

use super::super::Api;
use super::super::problem::{NOT_FOUND, Problem};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

include!(concat!(env!("OUT_DIR"), "/console_files.rs"));

/// Nothing is loaded from elsewhere, nothing stands in the page itself, and no text becomes markup or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'";
/// What is kept is asked about again each time: a node has the files of its own version.
const KEEP: &str = "no-cache";
/// The largest file of a folder, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const INDEX: &str = "index.html";

/// A file in the program.
struct Embedded {
    /// Below the folder, with `/`.
    path: &'static str,
    raw: &'static [u8],
    gzip: &'static [u8],
    /// In quotes, from the hash of what it holds.
    tag: &'static str,
}

/// Where files come from.
pub(super) struct Files {
    /// Instead of those in the program.
    folder: Option<PathBuf>,
}

impl Files {
    /// From a folder, or else from the program.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    async fn answer(&self, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
        let missing = || Problem::new(&NOT_FOUND, "the console has no such file");
        let kind = kind_of(path).ok_or_else(missing)?;
        let mut response = match &self.folder {
            Some(folder) => read(folder, path).await.ok_or_else(missing)?.into_response(),
            None => embedded(FILES.iter().find(|file| file.path == path).ok_or_else(missing)?, headers),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(KEEP));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }
}

/// A file of the program, unless the client has it.
fn embedded(file: &Embedded, headers: &HeaderMap) -> Response {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let has_it = tags.flat_map(|tags| tags.split(',')).any(|tag| matches!(tag.trim(), "*") || is_tag(tag, file.tag));
    let mut response = match (has_it, takes_gzip(headers)) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => {
            let mut response = file.gzip.into_response();
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        (false, false) => file.raw.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(file.tag));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// Whether a tag that a client has is this one; proxies that compress make it weak.
fn is_tag(theirs: &str, ours: &str) -> bool {
    let theirs = theirs.trim();
    theirs.strip_prefix("W/").unwrap_or(theirs) == ours
}

/// Whether the client takes gzip: a list of codings, each perhaps with a weight.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_gzip && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// What a file is, by the end of its name; `None` for what a console does not have.
fn kind_of(path: &str) -> Option<&'static str> {
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match ending {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "png" => "image/png",
        "ico" => "image/vnd.microsoft.icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// A file of a folder. Nothing above the folder is looked at.
async fn read(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let below = Path::new(path);
    if !below.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let path = folder.join(below);
    let about = tokio::fs::metadata(&path).await.ok()?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return None;
    }
    tokio::fs::read(&path).await.ok()
}

/// `GET /`.
pub(super) async fn index(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    api.console.files.answer(INDEX, request.headers()).await
}

/// `GET /console`: the pages begin at `/`.
pub(super) async fn home() -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    response
}

/// `GET /console/{file}`.
pub(super) async fn file(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let path = request.uri().path().strip_prefix("/console/").unwrap_or_default();
    api.console.files.answer(path, request.headers()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all files together may take: the console is to open at once, also over a slow line.
    const RAW_BYTES_MAX: usize = 180 * 1024;
    const GZIP_BYTES_MAX: usize = 60 * 1024;

    fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_files_are_within_their_budget() {
        let (raw, gzip) = FILES.iter().fold((0, 0), |(raw, gzip), file| (raw + file.raw.len(), gzip + file.gzip.len()));
        println!("{} files, {raw} bytes, {gzip} compressed", FILES.len());
        assert!(raw <= RAW_BYTES_MAX && gzip <= GZIP_BYTES_MAX, "{raw} bytes, {gzip} compressed");
    }

    #[tokio::test]
    async fn every_file_has_a_kind_a_tag_of_its_own_and_comes_compressed_or_not() {
        let files = Files::new(None);
        let mut tags = std::collections::BTreeSet::new();
        for file in FILES {
            assert!(tags.insert((file.tag, file.raw)), "{}", file.path);
            let plain = files.answer(file.path, &HeaderMap::new()).await.expect(file.path);
            assert_eq!(plain.headers().get(CONTENT_ENCODING), None);
            assert_eq!(plain.headers()[ETAG], file.tag);
            let packed =
                files.answer(file.path, &headers(&[(ACCEPT_ENCODING, "br, gzip;q=0.5")])).await.expect("it is");
            assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
            assert_eq!(packed.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            let known = files.answer(file.path, &headers(&[(IF_NONE_MATCH, file.tag)])).await.expect("it is");
            assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(known.headers()[CONTENT_SECURITY_POLICY], POLICY);
        }
        assert!(files.answer("no-such.js", &HeaderMap::new()).await.is_err());
    }

    #[test]
    fn the_policy_is_the_one_that_was_settled() {
        let expected = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
            frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'";
        assert_eq!(POLICY, expected);
        assert!(!POLICY.contains("unsafe"));
    }

    #[test]
    fn codings_are_chosen_by_what_the_client_takes() {
        for (list, takes) in
            [("gzip", true), ("br, GZIP", true), ("*", true), ("gzip;q=0", false), ("br", false), ("x-gzipped", false)]
        {
            assert_eq!(takes_gzip(&headers(&[(ACCEPT_ENCODING, list)])), takes, "{list}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_folder_gives_nothing_that_is_not_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("console")).expect("it can be made");
        std::fs::write(folder.path().join("secret.txt"), "secret").expect("it can be written");
        std::fs::write(folder.path().join("console/app.js"), "export {}").expect("it can be written");
        let files = Files::new(Some(folder.path().join("console")));
        let found = files.answer("app.js", &HeaderMap::new()).await.expect("it is there");
        assert_eq!(found.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        for path in ["../secret.txt", "/etc/hosts.txt", "a/../../secret.txt", "none.js", "", ".", "app"] {
            assert!(files.answer(path, &HeaderMap::new()).await.is_err(), "{path}");
        }
    }
}
