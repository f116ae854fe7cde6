//! Many operations at once: independent ones, and all or nothing.

use super::call::check_pages;
use super::entry::{
    Addend, BatchOperation, BatchResult, BatchResults, EntryJson, Operations, Whole, WrittenJson, condition_of,
    from_json, member,
};
use super::idempotency::IdempotencyKey;
use super::kv::{hold, json_response, mark, unexpected};
use super::negotiate;
use super::openapi::{AckName, Consistency};
use super::outflow::Held;
use super::problem::{Problem, ProblemBody, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE};
use super::request::{Asked, WriteOptions, previous_of, status_of, status_of_write, time_to_live};
use super::whose::Whose;
use super::{Api, address};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kvorum_core::disk::lost_pages;
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{
    Ack, Action, AtomicCheck, AtomicRequest, AtomicResult, Mutation, ReadMode, RequestBody, ResponseBody, WriteId,
    WriteResult, WriteStatus,
};
use std::sync::Arc;
use std::time::Duration;

const NEW: WriteId = WriteId { sequence: 0, first_unanswered: 0, retry: false, once: None };

/// An operation of a batch, read and checked.
pub(super) enum Operation {
    Get(Bytes),
    Check(AtomicCheck),
    Write(Mutation),
}

/// `POST /batch`.
#[utoipa::path(
    post, path = "/batch", tag = "batches", operation_id = "batch",
    summary = "Do many things, each by itself",
    description = "Writes come first, in order; then reads. Each operation has a result and a status of its own. As application/x-ndjson, \
                   an operation per line, of any number: results come line by line while operations are still being sent.",
    params(
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("consistency" = Option<Consistency>, Query, description = "linearizable, the default, or stale"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: each write is done once, however often the batch is sent; reads are done anew"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    request_body(content((Operations = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "A result per operation",
            content((BatchResults = "application/json"), (String = "application/x-ndjson"))),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn batch(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["ack", "consistency"])?;
    let (mode, mut options) = (asked.mode()?, WriteOptions::read(&asked)?);
    options.once = IdempotencyKey::read(&parts)?.map(|named| named.once_of_each());
    let terms = Terms { whose: asked.whose.clone(), within: asked.within, mode, options };
    if negotiate::is_ndjson(asked.headers)? {
        let share = api.inflow.share(address(&parts));
        return Ok(super::bulk::answer(api, terms, body, share));
    }
    if !negotiate::is_json(asked.headers)? {
        return Err(Problem::new(
            &UNSUPPORTED_MEDIA_TYPE,
            "a batch is JSON, or JSON line by line (application/x-ndjson)",
        ));
    }
    let operations = read_operations(&api.read_json(&parts, body).await?, terms.options.ack)?;
    let (results, held) = run(&api, &terms, operations).await?;
    let mut written = results.iter().filter(|result| result.is_of_write()).peekable();
    let replayed = written.peek().is_some() && written.all(|result| result.replayed == Some(true));
    let mut response = json_response(StatusCode::OK, &BatchResults { results });
    mark(&mut response, replayed);
    hold(&mut response, held);
    Ok(response)
}

/// What all operations of a batch have in common.
pub(super) struct Terms {
    pub(super) whose: Whose,
    pub(super) within: Duration,
    pub(super) mode: ReadMode,
    pub(super) options: WriteOptions,
}

/// Does what a batch asks for: a result per operation, in their order. The memory of what was read goes with the answer.
///
/// # Errors
/// What concerns all of them.
pub(super) async fn run(
    api: &Api,
    terms: &Terms,
    operations: Vec<Result<Operation, Problem>>,
) -> Result<(Vec<BatchResult>, Option<Held>), Problem> {
    let mut results: Vec<Option<BatchResult>> = operations.iter().map(|_| None).collect();
    let (mut keys, mut mutations) = (Vec::new(), Vec::new());
    for (at, operation) in operations.into_iter().enumerate() {
        match operation {
            Ok(Operation::Get(key)) => keys.push((at, key)),
            Ok(Operation::Write(mutation)) => mutations.push((at, mutation)),
            Ok(Operation::Check(_)) => {
                results[at] = Some(Problem::invalid("check is for /atomic").into());
            }
            Err(problem) => results[at] = Some(problem.into()),
        }
    }
    // Reads come after the writes of the same batch.
    if !mutations.is_empty() {
        write_all(api, terms, mutations, &mut results).await?;
    }
    let held = if keys.is_empty() { None } else { read_all(api, terms, keys, &mut results).await? };
    Ok((results.into_iter().map(|result| result.unwrap_or_else(|| unexpected().into())).collect(), held))
}

async fn write_all(
    api: &Api,
    terms: &Terms,
    mutations: Vec<(usize, Mutation)>,
    results: &mut [Option<BatchResult>],
) -> Result<(), Problem> {
    let (places, mutations): (Vec<usize>, Vec<Mutation>) = mutations.into_iter().unzip();
    let count = mutations.len() as u64;
    let id = WriteId { once: terms.options.once, ..NEW };
    let body = RequestBody::Batch { id, ack: terms.options.ack, mutations: mutations.clone() };
    let reply = api.caller.write(&terms.whose, body, count, terms.within).await?;
    let ResponseBody::Batch(written) = reply.body else { return Err(unexpected()) };
    for ((at, mutation), result) in places.into_iter().zip(mutations).zip(written) {
        results[at] = Some(match result {
            Ok(result) => written_result(&mutation, &result),
            Err(error) => Problem::from(error).into(),
        });
    }
    Ok(())
}

fn written_result(mutation: &Mutation, result: &WriteResult) -> BatchResult {
    match result.status {
        WriteStatus::Applied => {
            let deleted = mutation.action == Action::Delete;
            let written = WrittenJson::new(&mutation.key, result, deleted);
            let status = status_of_write(&mutation.action, &mutation.condition, result).as_u16();
            let replayed = result.replayed.then_some(true);
            BatchResult { status, entry: None, written: Some(written), problem: None, replayed }
        }
        WriteStatus::Missing => Problem::no_such_key().replayed(result.replayed).into(),
        WriteStatus::ConditionFailed => Problem::condition_failed(result.version).replayed(result.replayed).into(),
    }
}

async fn read_all(
    api: &Api,
    terms: &Terms,
    keys: Vec<(usize, Bytes)>,
    results: &mut [Option<BatchResult>],
) -> Result<Option<Held>, Problem> {
    let (places, keys): (Vec<usize>, Vec<Bytes>) = keys.into_iter().unzip();
    let before = lost_pages();
    let body = RequestBody::MultiGet { keys: keys.clone(), mode: terms.mode };
    let reply = api.caller.read(&terms.whose, body, terms.within).await?;
    let ResponseBody::Values(values) = reply.body else { return Err(unexpected()) };
    let sizes =
        values.iter().map(|value| value.as_ref().ok().and_then(Option::as_ref).map_or(0, |entry| entry.value.len()));
    let held = api.outflow.reserve(sizes.sum(), terms.within).await?;
    for ((at, key), value) in places.into_iter().zip(keys).zip(values) {
        results[at] = Some(match value {
            Ok(Some(entry)) => {
                let entry = EntryJson::new(&key, &entry, true);
                BatchResult { status: 200, entry: Some(entry), written: None, problem: None, replayed: None }
            }
            Ok(None) => Problem::no_such_key().into(),
            Err(error) => Problem::from(error).into(),
        });
    }
    check_pages(before)?;
    Ok(held)
}

/// `POST /atomic`.
#[utoipa::path(
    post, path = "/atomic", tag = "batches", operation_id = "atomic",
    summary = "Write all, or nothing",
    description = "All keys must be in one shard: give them the same {tag}. If a condition fails, nothing is written.",
    params(
        ("ack" = Option<AckName>, Query, description = "When to answer: committed, the default, or accepted"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name of the client's choice: it is done once, however often it is sent"),
        ("Kvorum-Timeout-Ms" = Option<u32>, Header,
            description = "Milliseconds within which an answer is wanted; 5000 by default", minimum = 1, maximum = 600000),
    ),
    request_body(content = Operations, content_type = "application/json"),
    responses(
        (status = 200, description = "All of it is committed", body = BatchResults),
        (status = 202, description = "All of it is accepted, and may be lost", body = BatchResults),
        (status = "default", description = "What went wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn atomic(State(api): State<Arc<Api>>, request: axum::extract::Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of_parts(&parts, &["ack"])?;
    let options = WriteOptions::read(&asked)?;
    if !negotiate::is_json(asked.headers)? {
        return Err(Problem::new(&UNSUPPORTED_MEDIA_TYPE, "an atomic batch is JSON"));
    }
    let named = IdempotencyKey::read(&parts)?;
    let body = api.read_json(&parts, body).await?;
    let id = WriteId { once: named.map(|named| named.once(&body)), ..NEW };
    let (mut checks, mut mutations) = (Vec::new(), Vec::new());
    for operation in read_operations(&body, options.ack)? {
        match operation? {
            Operation::Get(_) => {
                return Err(Problem::conflicting("get is for /batch; an atomic batch writes and checks"));
            }
            Operation::Check(check) => checks.push(check),
            Operation::Write(mutation) => mutations.push(mutation),
        }
    }
    if mutations.is_empty() {
        return Err(Problem::conflicting("an atomic batch writes something"));
    }
    let atomic = AtomicRequest { id, ack: options.ack, checks, mutations: mutations.clone() };
    let reply = api.caller.write(&asked.whose, RequestBody::Atomic(atomic), 1, asked.within).await?;
    let ResponseBody::Atomic(result) = reply.body else { return Err(unexpected()) };
    let replayed = result.is_replayed();
    match result {
        AtomicResult::Applied(written) => {
            let results = mutations.iter().zip(&written);
            // The header says it of all of them.
            let one = |(mutation, result)| BatchResult { replayed: None, ..written_result(mutation, result) };
            let results = results.map(one).collect();
            let ack = written.first().map_or(options.ack, |result| result.ack);
            let mut response = json_response(status_of(ack), &BatchResults { results });
            mark(&mut response, replayed);
            Ok(response)
        }
        AtomicResult::ConditionFailed { version, .. } => Err(Problem::condition_failed(version).replayed(replayed)),
    }
}

/// Reads the operations of a batch; what is wrong with one of them is told of that one.
fn read_operations(body: &[u8], ack: Ack) -> Result<Vec<Result<Operation, Problem>>, Problem> {
    let Operations(operations) = from_json(body)?;
    if operations.is_empty() {
        return Err(Problem::invalid("the batch is empty"));
    }
    if operations.len() > BATCH_OPERATIONS_MAX {
        let detail = format!("the batch has {} operations, the limit is {BATCH_OPERATIONS_MAX}", operations.len());
        return Err(Problem::new(&TOO_LARGE, detail));
    }
    Ok(operations.into_iter().map(|operation| read_operation(operation, ack)).collect())
}

pub(super) fn read_operation(operation: BatchOperation, ack: Ack) -> Result<Operation, Problem> {
    let (key, key_base64, if_version, action) = match operation {
        BatchOperation::Get { key, key_base64 } => return Ok(Operation::Get(read_key(key, key_base64)?)),
        BatchOperation::Check { key, key_base64, if_version } => {
            let (key, condition) = (read_key(key, key_base64)?, condition_of(Some(if_version)));
            return Ok(Operation::Check(AtomicCheck { key, condition }));
        }
        BatchOperation::Put { key, key_base64, value, value_base64, ttl_ms, keep_ttl, if_version } => {
            let value = member("value", value, value_base64)?;
            let ttl = time_to_live(ttl_ms.map(|Whole(ms)| ms), keep_ttl.unwrap_or(false))?;
            (key, key_base64, if_version, Action::Put { value, ttl })
        }
        BatchOperation::Delete { key, key_base64, if_version } => (key, key_base64, if_version, Action::Delete),
        BatchOperation::Incr { key, key_base64, by, if_version } => {
            (key, key_base64, if_version, Action::Incr { by: by.map_or(1, |Addend(by)| by) })
        }
        BatchOperation::Append { key, key_base64, value, value_base64, if_version } => {
            (key, key_base64, if_version, Action::Append { value: member("value", value, value_base64)? })
        }
        BatchOperation::Expire { key, key_base64, ttl_ms, if_version } => {
            (key, key_base64, if_version, Action::Expire { ttl_ms: ttl_ms.0 })
        }
        BatchOperation::Persist { key, key_base64, if_version } => (key, key_base64, if_version, Action::Persist),
    };
    let (key, condition) = (read_key(key, key_base64)?, condition_of(if_version));
    let return_previous = previous_of(&action, &condition, ack);
    Ok(Operation::Write(Mutation { key, condition, return_previous, action }))
}

fn read_key(key: Option<String>, key_base64: Option<String>) -> Result<Bytes, Problem> {
    let key = member("key", key, key_base64)?;
    if key.is_empty() { Err(Problem::invalid("the key is empty")) } else { Ok(key) }
}
