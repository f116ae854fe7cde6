//! The description of this door, for programs: OpenAPI 3.1.

use super::cache::Scope;
use super::entry::EntryEnvelope;
use super::metrics::Detail;
use super::problem::{Problem, ProblemBody};
use super::request::Asked;
use super::scan::PageJson;
use super::{batch, cache, cluster, explain, health, kv, metrics, operate, pages, slow_log, tokens};
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::{OpenApi, ToSchema};

/// The door.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kvorum",
        description = "A sharded, replicated key-value store: linearizable, and synced on a quorum of disks by default. docs/HTTP.md \
                       has examples.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact(name = "Kvorum")
    ),
    servers((url = "/", description = "This node; every node answers for all keys")),
    tags(
        (name = "keys", description = "Single keys"),
        (name = "batches", description = "Many keys at once"),
        (name = "cluster", description = "What the cluster looks like"),
        (name = "health", description = "For probes and people"),
        (name = "help", description = "Explanations")
    ),
    paths(
        kv::get, kv::put, kv::delete, kv::incr, kv::get_by_query, kv::put_envelope, kv::delete_by_query, batch::batch,
        batch::atomic, cluster::mapping, explain::explain, explain::lead, cluster::nodes, cluster::heartbeat, cluster::rebalance,
        cluster::rebalance_progress, operate::cluster, operate::plan, operate::drain, operate::undrain, operate::remove,
        operate::keep, operate::replace, operate::pause, operate::resume, operate::repair, operate::rate, operate::finalize, operate::set, tokens::make, health::health, health::live, health::ready, metrics::metrics,
        cache::cache_stats, slow_log::slow_log, pages::problem, document
    ),
    components(schemas(EntryOrPage, Consistency, AckName, Detail, Scope, ProblemBody))
)]
struct Description;

/// What `GET /kv` answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes two answers, and is neither")]
pub(super) enum EntryOrPage {
    /// To a key.
    Entry(EntryEnvelope),
    /// To a prefix.
    Page(PageJson),
}

/// How fresh a read must be.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Consistency {
    /// It sees every write that was acknowledged before it began.
    Linearizable,
    /// It may lag behind, and never waits.
    Stale,
}

/// When a write is answered.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AckName {
    /// Once a quorum has it.
    Committed,
    /// Once the leader has it. It may be lost.
    Accepted,
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Description::openapi()).unwrap_or_default();
    finish(&mut document);
    document.to_string()
});

/// Base64 of at least one byte, in the alphabet of addresses.
const BASE64_PATTERN: &str = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}(==)?|[A-Za-z0-9_-]{3}=?|[A-Za-z0-9_-]{4})$";
/// The same, or nothing.
const BASE64_OR_EMPTY_PATTERN: &str = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}(==)?|[A-Za-z0-9_-]{3}=?)?$";
/// What `If-Match` and `If-None-Match` take.
const TAGS_PATTERN: &str = "^(\\*|(W/)?\"[0-9]{1,16}\"( *, *(W/)?\"[0-9]{1,16}\")*)$";

/// A receipt: shard, term and index.
const RECEIPT_PATTERN: &str = "^[0-9]{1,4}\\.[1-9][0-9]{0,18}\\.[1-9][0-9]{0,18}$";

/// A key that is bare, or a string in quotes.
const IDEMPOTENCY_KEY_PATTERN: &str = "^([!#-~][!-~]{0,254}|\"[ !#-\\[\\]-~]{1,255}\")$";

/// Says of each operation that takes an Idempotency-Key how a repetition is answered.
fn describe_repetition(operation: &mut Map<String, Value>) {
    let takes_key = |parameters: &Value| {
        let names = parameters.as_array().into_iter().flatten().map(|parameter| &parameter["name"]);
        names.into_iter().any(|name| name == "Idempotency-Key")
    };
    if !operation.get("parameters").is_some_and(takes_key) {
        return;
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    let mut reused = responses.get("default").cloned().unwrap_or_default();
    reused["description"] =
        "The Idempotency-Key was used for something else, or the arguments don't go together".into();
    responses.insert("422".into(), reused);
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.as_str() != "422") {
        let description = "true: an earlier request with the same Idempotency-Key had this answer";
        response["headers"]["Idempotency-Replayed"] =
            json!({"description": description, "schema": {"type": "string", "enum": ["true"]}});
    }
}

/// Adds what can't be said beside the types: the form of parameters, and members that exclude each other.
fn finish(document: &mut Value) {
    let methods = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = methods.filter_map(Value::as_object_mut).flat_map(|methods| methods.values_mut());
    for operation in operations.filter_map(Value::as_object_mut) {
        describe_repetition(operation);
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        parameters.into_iter().flatten().for_each(describe_parameter);
    }
    for name in ["PutData", "PutBody", "BatchOperation"] {
        document.pointer_mut(&format!("/components/schemas/{name}")).into_iter().for_each(exclude);
    }
}

/// Says what form a parameter has.
fn describe_parameter(parameter: &mut Value) {
    // There is no null in an address or a header.
    if let Some(kind) =
        parameter["schema"].get("type").and_then(Value::as_array).and_then(|kinds| kinds.first()).cloned()
    {
        parameter["schema"]["type"] = kind;
    }
    let pattern = match parameter["name"].as_str() {
        Some("key_base64") => BASE64_PATTERN,
        Some("prefix_base64") => BASE64_OR_EMPTY_PATTERN,
        Some("If-Match" | "If-None-Match") => TAGS_PATTERN,
        Some("after") => RECEIPT_PATTERN,
        Some("Idempotency-Key") => IDEMPOTENCY_KEY_PATTERN,
        _ => return,
    };
    parameter["schema"] = json!({"type": "string", "pattern": pattern});
}

/// Of a member and its namesake in base64 one is there, in each object of a schema.
fn exclude(schema: &mut Value) {
    for part in ["oneOf", "allOf"] {
        schema.get_mut(part).and_then(Value::as_array_mut).into_iter().flatten().for_each(exclude);
    }
    let Some(members) = schema.get("properties").and_then(Value::as_object) else { return };
    let pairs: Vec<Value> = ["key", "value"]
        .into_iter()
        .filter(|name| members.contains_key(*name))
        .map(|name| {
            let in_base64 = format!("{name}_base64");
            let pattern = if name == "key" { BASE64_PATTERN } else { BASE64_OR_EMPTY_PATTERN };
            let plain =
                if name == "key" { json!({"type": "string", "minLength": 1}) } else { json!({"type": "string"}) };
            json!({"oneOf": [
                {"required": [name], "properties": {name: plain, &in_base64: {"type": "null"}}},
                {"required": [&in_base64], "properties": {
                    name: {"type": "null"}, &in_base64: {"type": "string", "pattern": pattern}
                }},
            ]})
        })
        .collect();
    schema["additionalProperties"] = false.into();
    if !pairs.is_empty() {
        schema["allOf"] = pairs.into();
    }
}

/// `GET /openapi.json`.
#[utoipa::path(
    get, path = "/openapi.json", tag = "help", operation_id = "openapi",
    summary = "This description",
    description = "",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json"),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn document(request: axum::extract::Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    let mut response = DOCUMENT.as_str().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Every address that is described, with its methods.
#[cfg(test)]
pub(super) fn addresses() -> Vec<(String, Vec<http::Method>)> {
    let document = serde_json::to_value(Description::openapi()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let methods = |methods: Value| {
        let named =
            methods.as_object().expect("methods").keys().map(|name| name.to_uppercase().parse().expect("a method"));
        named.collect()
    };
    paths.into_iter().map(|(path, of_path)| (path, methods(of_path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_whole() {
        let document: Value = serde_json::from_str(&DOCUMENT).expect("JSON");
        assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
        let paths = document["paths"].as_object().expect("paths");
        for path in ["/kv", "/kv/{key}", "/kv/{key}/incr", "/batch", "/atomic", "/mapping", "/nodes", "/health/ready"] {
            assert!(paths.contains_key(path), "{path}");
        }
        let mut with_key = 0;
        for operation in paths.values().flat_map(|methods| methods.as_object().expect("methods").values()) {
            let names = operation["parameters"].as_array().into_iter().flatten().map(|parameter| &parameter["name"]);
            if names.into_iter().any(|name| name == "Idempotency-Key") {
                with_key += 1;
                let replayed = &operation["responses"]["200"]["headers"]["Idempotency-Replayed"];
                assert!(replayed.is_object() && operation["responses"]["422"].is_object(), "{operation}");
            }
        }
        assert_eq!(with_key, 7, "all routes that write");
        let text = DOCUMENT.as_str();
        assert!(!text.contains("EntryJson"), "no name that only the code knows");
    }
}
