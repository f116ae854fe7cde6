//! Single keys.

use super::Api;
use super::call::{check_pages, detach};
use super::entry::{
    EntryEnvelope, EntryJson, IncrBody, PutBody, PutEnvelope, ServedJson, Whole, WrittenEnvelope, WrittenJson,
    from_json, member,
};
use super::idempotency::{IdempotencyKey, REPLAYED};
use super::negotiate::{self, Form, Preconditions, Selected};
use super::openapi::{AckName, Consistency, EntryOrPage};
use super::outflow::Held;
use super::problem::{
    INTERNAL, INVALID_RECEIPT, Problem, ProblemBody, RECEIPT_FORGOTTEN, UNSUPPORTED_MEDIA_TYPE, WRITE_LOST,
};
use super::query::key_of_path;
use super::request::{Asked, WriteOptions, previous_of, status_of_write};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use kvorum_core::disk::lost_pages;
use kvorum_core::measure::meter::{ReadPath, ReadSource};
use kvorum_protocol::{
    Action, Awaited, Condition, Entry, Mutation, Once, ReadMode, RequestBody, ResponseBody, ReturnPrevious, Version,
    WriteId, WriteResult, WriteStatus,
};
use serde::Serialize;
use std::sync::Arc;

const VERSION: HeaderName = HeaderName::from_static("kvorum-version");
const SOURCE: HeaderName = HeaderName::from_static("kvorum-source");
const EXPIRES_AT: HeaderName = HeaderName::from_static("kvorum-expires-at");

/// Holds for no key: no version is as high.
const NEVER: Condition = Condition::IfVersion(Version(u64::MAX));

/// How often a write is tried again whose headers name several versions, if the key has changed since it was looked at.
const LOOKS_MAX: u32 = 8;

/// `GET` and `HEAD /kv/{key}`.
#[utoipa::path(
    get, path = "/kv/{key}", tag = "keys", operation_id = "get_key",
    summary = "Read a key",
    description = "The value as JSON, or its bytes, by the header Accept. A HEAD does the same without a body.",
    params(
        ("key" = String, Path, description = "The key: its bytes, percent-encoded", min_length = 1, example = "user:1"),
        ("consistency" = Option<Consistency>, Query, description = "linearizable, the default, or stale"),
        ("after" = Option<String>, Query, description = "The receipt of a write that the read waits for: 410 if it is lost, 409 if nobody knows", example = "3.7.1204"),
        ("wait_ms" = Option<u32>, Query,
            description = "Milliseconds to wait for that write; 5000 by default", maximum = 600000),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Range" = Option<String>, Header, description = "Bytes of the value, if it is given out as bytes"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The entry",
            content((EntryJson = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "A part of the value",
            content((String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "The client has it"),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    get_asked(&api, &Asked::read(&request, &["consistency", "after", "wait_ms"])?).await
}

/// The same of a head that is taken apart.
pub(super) async fn get_asked(api: &Api, asked: &Asked<'_>) -> Result<Response, Problem> {
    let key = key_of_path(asked.path, "")?;
    let mode = asked.mode()?;
    await_write(api, asked).await?;
    let found = look_up(api, asked, key, mode).await?;
    give_out(api, asked, found, false)
}

/// `GET /kv?key=`.
#[utoipa::path(
    get, path = "/kv", tag = "keys", operation_id = "get_or_scan",
    summary = "Read a key, or keys by prefix",
    description = "With key: the entry in an envelope. With prefix: a page of entries in an order of their own; go on with its cursor until that is null.",
    params(
        ("key" = Option<String>, Query, description = "The key, if it is UTF-8", min_length = 1),
        ("key_base64" = Option<String>, Query, description = "The key as base64"),
        ("consistency" = Option<Consistency>, Query, description = "linearizable, the default, or stale"),
        ("after" = Option<String>, Query, description = "The receipt of a write that the read waits for: 410 if it is lost, 409 if nobody knows", example = "3.7.1204"),
        ("wait_ms" = Option<u32>, Query,
            description = "Milliseconds to wait for that write; 5000 by default", maximum = 600000),
        ("prefix" = Option<String>, Query, description = "What the keys begin with; may be empty"),
        ("prefix_base64" = Option<String>, Query, description = "The same as base64"),
        ("cursor" = Option<String>, Query, description = "What the page before gave out"),
        ("limit" = Option<u32>, Query, description = "Most entries of a page; 100 by default", minimum = 1, maximum = 4096),
        ("keys_only" = Option<bool>, Query, description = "Leave the values out"),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The entry, or a page",
            content((EntryOrPage = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "A part of the value",
            content((String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "The client has it"),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_by_query(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let of_scans = ["prefix", "prefix_base64", "cursor", "limit", "keys_only"];
    let of_keys = ["after", "wait_ms"];
    let asked = Asked::read(&request, &[&["key", "key_base64", "consistency"], &of_scans[..], &of_keys[..]].concat())?;
    let first_of = |names: &[&'static str]| names.iter().copied().find(|name| asked.query.bytes(name).is_some());
    if asked.query.bytes("key").is_none() && asked.query.bytes("key_base64").is_none() {
        if let Some(other) = first_of(&of_keys) {
            return Err(Problem::conflicting(format!("the parameter {other} is for reads of a key")));
        }
        return super::scan::page(&api, &asked).await;
    }
    if let Some(other) = first_of(&of_scans) {
        return Err(Problem::conflicting(format!("the parameter {other} is for scans, which have no key")));
    }
    let key = asked.query.key()?;
    let mode = asked.mode()?;
    await_write(&api, &asked).await?;
    let found = look_up(&api, &asked, key, mode).await?;
    give_out(&api, &asked, found, true)
}

/// A key that was looked up.
struct Found {
    key: Bytes,
    entry: Option<Entry>,
    source: ReadSource,
    held: Option<Held>,
}

impl Found {
    /// What the answer calls its source.
    fn source_name(&self) -> &'static str {
        if self.source.is_hit() { "cache" } else { "database" }
    }
}

/// Waits for the write that a read is to see, if it names one.
async fn await_write(api: &Api, asked: &Asked<'_>) -> Result<(), Problem> {
    let Some((receipt, wait)) = asked.after()? else { return Ok(()) };
    if usize::from(receipt.shard.0) >= api.topology().shards.len() {
        return Err(Problem::new(&INVALID_RECEIPT, format!("there is no shard {}", receipt.shard)));
    }
    let body = RequestBody::Await { receipt, wait_ms: wait.as_millis() as u32 };
    let reply = api.caller.read(&asked.whose, body, wait).await;
    match reply.map_err(|error| Problem::from(error).of_read())?.body {
        ResponseBody::Awaited(Awaited::Applied) => Ok(()),
        ResponseBody::Awaited(Awaited::Lost) => {
            Err(Problem::new(&WRITE_LOST, "a later leader's log does without the write"))
        }
        ResponseBody::Awaited(Awaited::Forgotten) => {
            Err(Problem::new(&RECEIPT_FORGOTTEN, "the entry that the receipt names is no longer in the log"))
        }
        _ => Err(unexpected()),
    }
}

async fn look_up(api: &Api, asked: &Asked<'_>, key: Bytes, mode: ReadMode) -> Result<Found, Problem> {
    let before = lost_pages();
    let body = RequestBody::Get { key: key.clone(), mode };
    let reply = api.caller.read(&asked.whose, body, asked.within).await?;
    let source = reply.source.unwrap_or_default();
    let ResponseBody::Value(entry) = reply.body else { return Err(unexpected()) };
    let bytes = entry.as_ref().map_or(0, |entry| entry.value.len());
    let held = api.outflow.reserve(bytes, asked.within).await?;
    // Values lie in mappings. What leaves later is copied now, and was whole if no page was lost up to here.
    let entry = entry.map(|entry| Entry { value: detach(&entry.value), ..entry });
    check_pages(before)?;
    Ok(Found { key, entry, source, held })
}

fn give_out(api: &Api, asked: &Asked<'_>, found: Found, in_envelope: bool) -> Result<Response, Problem> {
    let form = negotiate::form(asked.headers)?;
    let preconditions = Preconditions::read(asked.headers)?;
    let source = found.source_name();
    let Some(entry) = found.entry else {
        let fails = preconditions.matches.is_some();
        return Err(if fails { Problem::condition_failed(Version(0)) } else { Problem::no_such_key() });
    };
    let length = entry.value.len();
    let selected = negotiate::select(asked.headers, &preconditions, entry.version, length)?;
    let mut response = match (form, selected) {
        (_, Selected::NotModified) => StatusCode::NOT_MODIFIED.into_response(),
        (Form::Json, _) => {
            let (node, path) = (api.name.clone(), found.source.path);
            let tier = if found.source.apart { "disk" } else { "memory" };
            let tier = (path != ReadPath::Forwarded).then_some(tier);
            let served = ServedJson { node, path: path.name(), tier };
            let json = EntryJson::new(&found.key, &entry, true).served(source, served);
            if in_envelope {
                json_response(StatusCode::OK, &EntryEnvelope { data: json })
            } else {
                json_response(StatusCode::OK, &json)
            }
        }
        (Form::Raw(kind), Selected::Part(part)) => {
            let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let mut response = raw(kind, entry.value.slice(part));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            insert(&mut response, CONTENT_RANGE, &range);
            response
        }
        (Form::Raw(kind), Selected::All) => raw(kind, entry.value.clone()),
    };
    // With what the connection adds.
    response.headers_mut().reserve(12);
    insert(&mut response, ETAG, &negotiate::etag(entry.version));
    response.headers_mut().insert(VERSION, entry.version.0.into());
    response.headers_mut().insert(SOURCE, HeaderValue::from_static(source));
    hold(&mut response, found.held);
    if let Some(at) = entry.expires_at_ms {
        insert(&mut response, EXPIRES_AT, &at.to_string());
    }
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    // The client may keep it, and must ask before it uses it again.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// Makes an answer hold on to its memory until it has left.
pub(super) fn hold(response: &mut Response, held: Option<Held>) {
    if let Some(held) = held {
        response.extensions_mut().insert(held);
    }
}

fn raw(kind: &'static str, value: Bytes) -> Response {
    let mut response = Body::from(value).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// `PUT /kv`, with the key in the body.
#[utoipa::path(
    put, path = "/kv", tag = "keys", operation_id = "put_envelope",
    summary = "Write a key that stands in the body",
    description = "",
    params(
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("if_version" = Option<u64>, Query,
            description = "The version that the key must have; 0 if it must not exist", maximum = 4503599627370495_u64),
        ("ttl_ms" = Option<u64>, Query, description = "Milliseconds to live", minimum = 1, maximum = 3153600000000_u64),
        ("keep_ttl" = Option<bool>, Query, description = "Keep the time to live that the key has; not together with ttl_ms"),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: the write is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    request_body(content = PutEnvelope, content_type = "application/json"),
    responses(
        (status = 200, description = "The write is committed; the key existed, or the node had to repeat the write", body = WrittenEnvelope),
        (status = 201, description = "The write is committed, and has made the key", body = WrittenEnvelope),
        (status = 202, description = "The write is accepted, and may be lost", body = WrittenEnvelope),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_envelope(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of_parts(&parts, &WriteOptions::PARAMETERS)?;
    let (mut options, named) = (WriteOptions::read(&asked)?, IdempotencyKey::read(&parts)?);
    if !negotiate::is_json(asked.headers)? {
        return Err(Problem::new(&UNSUPPORTED_MEDIA_TYPE, "PUT /kv takes JSON; PUT /kv/{key} takes any type"));
    }
    let body = api.read_json(&parts, body).await?;
    options.once = named.map(|named| named.once(&body));
    let PutEnvelope { data } = from_json(&body)?;
    let key = member("key", data.key, data.key_base64)?;
    let value = member("value", data.value, data.value_base64)?;
    let ttl = options.ttl(data.ttl_ms.map(|Whole(ms)| ms), data.keep_ttl.unwrap_or(false))?;
    let (status, result) = write(&api, &asked, &options, key.clone(), Action::Put { value, ttl }, None).await?;
    let json = WrittenEnvelope::from(WrittenJson::new(&key, &result, false));
    Ok(written_response(status, &json, Some(result.version), result.replayed))
}

/// `PUT /kv/{key}`.
#[utoipa::path(
    put, path = "/kv/{key}", tag = "keys", operation_id = "put_key",
    summary = "Write a key",
    description = "A body of JSON holds the value; a body of any other type is the value. A version in the body is compared with the version of the key if that exists.",
    params(
        ("key" = String, Path, description = "The key: its bytes, percent-encoded", min_length = 1, example = "user:1"),
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("if_version" = Option<u64>, Query,
            description = "The version that the key must have; 0 if it must not exist", maximum = 4503599627370495_u64),
        ("ttl_ms" = Option<u64>, Query, description = "Milliseconds to live", minimum = 1, maximum = 3153600000000_u64),
        ("keep_ttl" = Option<bool>, Query, description = "Keep the time to live that the key has; not together with ttl_ms"),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: the write is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    request_body(content((PutBody = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, description = "The write is committed; the key existed, or the node had to repeat the write", body = WrittenJson),
        (status = 201, description = "The write is committed, and has made the key", body = WrittenJson),
        (status = 202, description = "The write is accepted, and may be lost", body = WrittenJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of_parts(&parts, &WriteOptions::PARAMETERS)?;
    let (mut options, named) = (WriteOptions::read(&asked)?, IdempotencyKey::read(&parts)?);
    let key = key_of_path(asked.path, "")?;
    let is_json = negotiate::is_json(asked.headers)?;
    let body = if is_json { api.read_json(&parts, body).await? } else { api.read_value(&parts, body).await? };
    options.once = named.map(|named| named.once(&body));
    let (value, ttl, version) = if is_json {
        let PutBody { value, value_base64, version, ttl_ms, keep_ttl } = from_json(&body)?;
        let ttl = options.ttl(ttl_ms.map(|Whole(ms)| ms), keep_ttl.unwrap_or(false))?;
        (member("value", value, value_base64)?, ttl, version.map(|Whole(version)| version))
    } else {
        (body, options.ttl(None, false)?, None)
    };
    let (status, result) = write(&api, &asked, &options, key.clone(), Action::Put { value, ttl }, version).await?;
    let json = WrittenJson::new(&key, &result, false);
    Ok(written_response(status, &json, Some(result.version), result.replayed))
}

/// `DELETE /kv/{key}`.
#[utoipa::path(
    delete, path = "/kv/{key}", tag = "keys", operation_id = "delete_key",
    summary = "Remove a key",
    description = "",
    params(
        ("key" = String, Path, description = "The key: its bytes, percent-encoded", min_length = 1, example = "user:1"),
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("if_version" = Option<u64>, Query,
            description = "The version that the key must have; 0 if it must not exist", maximum = 4503599627370495_u64),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: the write is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The key is removed", body = WrittenJson),
        (status = 202, description = "The removal is accepted, and may be lost", body = WrittenJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["ack", "if_version"])?;
    let key = key_of_path(asked.path, "")?;
    let (status, json, replayed) = remove(&api, &asked, &parts, key).await?;
    Ok(written_response(status, &json, None, replayed))
}

/// `DELETE /kv?key=`.
#[utoipa::path(
    delete, path = "/kv", tag = "keys", operation_id = "delete_by_query",
    summary = "Remove a key that stands in a parameter",
    description = "",
    params(
        ("key" = Option<String>, Query, description = "The key, if it is UTF-8", min_length = 1),
        ("key_base64" = Option<String>, Query, description = "The key as base64"),
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("if_version" = Option<u64>, Query,
            description = "The version that the key must have; 0 if it must not exist", maximum = 4503599627370495_u64),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: the write is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    responses(
        (status = 200, description = "The key is removed", body = WrittenEnvelope),
        (status = 202, description = "The removal is accepted, and may be lost", body = WrittenEnvelope),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete_by_query(
    State(api): State<Arc<Api>>,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["key", "key_base64", "ack", "if_version"])?;
    let key = asked.query.key()?;
    let (status, json, replayed) = remove(&api, &asked, &parts, key).await?;
    Ok(written_response(status, &WrittenEnvelope::from(json), None, replayed))
}

async fn remove(
    api: &Api,
    asked: &Asked<'_>,
    parts: &Parts,
    key: Bytes,
) -> Result<(StatusCode, WrittenJson, bool), Problem> {
    let (mut options, named) = (WriteOptions::read(asked)?, IdempotencyKey::read(parts)?);
    options.once = named.map(|named| named.once(b""));
    let (status, result) = write(api, asked, &options, key.clone(), Action::Delete, None).await?;
    Ok((status, WrittenJson::new(&key, &result, true), result.replayed))
}

/// `POST /kv/{key}/incr`.
#[utoipa::path(
    post, path = "/kv/{key}/incr", tag = "keys", operation_id = "incr_key",
    summary = "Add to a number",
    description = "A key that does not exist counts as 0. Without a body 1 is added.",
    params(
        ("key" = String, Path, description = "The key: its bytes, percent-encoded", min_length = 1, example = "user:1"),
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("if_version" = Option<u64>, Query,
            description = "The version that the key must have; 0 if it must not exist", maximum = 4503599627370495_u64),
        ("If-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have one of them"),
        ("If-None-Match" = Option<String>, Header, description = "Versions in quotes, or *: the key must have none of them"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: the write is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    request_body(content = Option<IncrBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The new number is committed", body = WrittenJson),
        (status = 202, description = "The new number is accepted, and may be lost", body = WrittenJson),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn incr(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if !parts.uri.path().ends_with("/incr") {
        return Err(Problem::method_not_allowed("GET, HEAD, PUT, DELETE"));
    }
    let asked = Asked::of_parts(&parts, &["ack", "if_version"])?;
    let (mut options, named) = (WriteOptions::read(&asked)?, IdempotencyKey::read(&parts)?);
    let key = key_of_path(asked.path, "/incr")?;
    let body = api.read_json(&parts, body).await?;
    options.once = named.map(|named| named.once(&body));
    let sent = if body.is_empty() { None } else { from_json::<Option<IncrBody>>(&body)? };
    let by = sent.map_or(1, |sent| sent.by.0);
    let (status, result) = write(&api, &asked, &options, key.clone(), Action::Incr { by }, None).await?;
    let json = WrittenJson::new(&key, &result, false);
    Ok(written_response(status, &json, Some(result.version), result.replayed))
}

/// Writes under the conditions of the request; `lock` is the version that an existing key must have. Returns what
/// it is answered with, and the result.
async fn write(
    api: &Api,
    asked: &Asked<'_>,
    options: &WriteOptions,
    key: Bytes,
    action: Action,
    lock: Option<u64>,
) -> Result<(StatusCode, WriteResult), Problem> {
    let preconditions = Preconditions::read(asked.headers)?;
    let explicit = [options.if_version.is_some(), lock.is_some(), preconditions != Preconditions::default()];
    if explicit.iter().filter(|is_there| **is_there).count() > 1 {
        return Err(Problem::conflicting("a write has one condition: a header, if_version, or a version in the body"));
    }
    let plain = match (options.if_version, lock) {
        (Some(0), _) => Some(Condition::IfAbsent),
        (Some(version), _) => Some(Condition::IfVersion(Version(version))),
        (None, Some(0)) => Some(Condition::IfAbsent),
        (None, Some(version)) => Some(Condition::IfAbsentOrVersion(Version(version))),
        (None, None) => preconditions.as_condition(),
    };
    for _ in 0..LOOKS_MAX {
        let (condition, is_final) = match &plain {
            Some(condition) => (condition.clone(), true),
            // Only a look at the key tells what the conditions come to.
            None => {
                let found = look_up(api, asked, key.clone(), ReadMode::Linearizable).await?;
                let version = found.entry.map(|entry| entry.version);
                match preconditions.condition_for(version) {
                    Some(condition) => (condition, false),
                    // An earlier request may have written what the look has found: only the shard knows.
                    None if options.once.is_some() => (NEVER, true),
                    None => return Err(Problem::condition_failed(version.unwrap_or(Version(0)))),
                }
            }
        };
        let mut return_previous = previous_of(&action, &condition, options.ack);
        if plain.is_none() && options.once.is_some() && matches!(action, Action::Put { .. }) {
            // A repetition finds another condition, which says nothing of what the first one found.
            return_previous = ReturnPrevious::Existence;
        }
        let mutation =
            Mutation { key: key.clone(), condition: condition.clone(), return_previous, action: action.clone() };
        let once = options.once.map(|once| Once { keeps_refusal: is_final, ..once });
        let id = WriteId { sequence: 0, first_unanswered: 0, retry: false, once };
        let body = RequestBody::Write { id, ack: options.ack, mutation };
        let reply = api.caller.write(&asked.whose, body, 1, asked.within).await?;
        let ResponseBody::Written(result) = reply.body else { return Err(unexpected()) };
        match result.status {
            WriteStatus::Applied => return Ok((status_of_write(&action, &condition, &result), result)),
            WriteStatus::Missing => return Err(Problem::no_such_key().replayed(result.replayed)),
            WriteStatus::ConditionFailed if is_final || result.replayed => {
                return Err(Problem::condition_failed(result.version).replayed(result.replayed));
            }
            // The key has changed since it was looked at.
            WriteStatus::ConditionFailed => {}
        }
    }
    Err(Problem::new(&super::problem::PRECONDITION_FAILED, "the key changes all the time"))
}

/// A JSON answer.
pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn written_response(status: StatusCode, json: &impl Serialize, version: Option<Version>, replayed: bool) -> Response {
    let mut response = json_response(status, json);
    mark(&mut response, replayed);
    if let Some(version) = version {
        insert(&mut response, ETAG, &negotiate::etag(version));
        insert(&mut response, VERSION, &version.0.to_string());
    }
    response
}

/// Says that an answer is what an earlier request was answered, if it is.
pub(super) fn mark(response: &mut Response, replayed: bool) {
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The node answered something else than what was asked.
pub(super) fn unexpected() -> Problem {
    Problem::new(&INTERNAL, "the answer is not one to what was asked")
}
