//! docs/PROTOCOL.md shows real bytes and real figures: what stands in it is compared with what the code does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

mod dump;
#[allow(dead_code, reason = "golden.rs uses all of it")]
mod samples;

use kvorum_protocol::{ErrorCode, Outcome, Retry, ServerError, hash, limits};
use samples::families;
use std::path::Path;

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md")).unwrap()
}

#[track_caller]
fn assert_shown(rows: Vec<String>) {
    let document = document();
    let missing: Vec<String> = rows.into_iter().filter(|row| !document.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/PROTOCOL.md lacks\n{}", missing.join("\n"));
}

#[test]
fn the_session_is_the_golden_one() {
    let session = ["hello", "write put", "get"].map(|name| ("requests", name)).into_iter();
    let session = session.chain(["hello", "written", "value"].map(|name| ("responses", name)));
    let families = families();
    let shown = session.map(|(family, name)| {
        let family = families.iter().find(|known| known.name == family).unwrap();
        dump::show(&family.samples.iter().find(|sample| sample.name == name).unwrap().frame())
    });
    assert_shown(shown.collect());
}

#[test]
fn routes_are_real() {
    let keys = ["kvorum", "user:1", "user:2", "{user1}.name", "{user1}.mail", "a{b}c", "{}x", "{open", "x{{a}}"];
    let row = |key: &str| {
        let tag = String::from_utf8_lossy(hash::hash_tag(key.as_bytes())).into_owned();
        let position = hash::ring_position(key.as_bytes());
        let shard = |shards| hash::shard_of(key.as_bytes(), shards);
        format!("| `{key}` | `{tag}` | `{position:016x}` | {} | {} | {} |", shard(1), shard(16), shard(64))
    };
    let mut rows: Vec<String> = keys.into_iter().map(row).collect();
    rows.push(format!("`{:016x}`", hash::hash64(b"")));
    assert_shown(rows);
}

#[test]
fn errors_have_their_numbers_and_advice() {
    let row = |&code: &ErrorCode| {
        let ServerError { outcome, retry, .. } = ServerError::new(code, "");
        let outcome = match outcome {
            Outcome::NotApplied => "NotApplied",
            Outcome::Applied => "Applied",
            Outcome::Unknown => "Unknown",
        };
        let retry = match retry {
            Retry::No => "no".to_owned(),
            Retry::AfterMs(0) => "at once".to_owned(),
            Retry::AfterMs(ms) => format!("{ms} ms"),
        };
        format!("| {} | `{code}` | {outcome} | {retry} |", code.number())
    };
    assert_shown(ErrorCode::ALL.iter().map(row).collect());
}

#[test]
fn limits_are_the_codes() {
    let rows = [
        ("key", limits::KEY_BYTES_MAX as u64, "bytes"),
        ("value", limits::VALUE_BYTES_MAX as u64, "bytes"),
        ("body of a frame between client and node", limits::FRAME_BYTES_MAX as u64, "bytes"),
        ("bytes of a message in one of its parts", limits::PART_BYTES_MAX as u64, "bytes"),
        ("body of a frame between nodes", limits::PEER_FRAME_BYTES_MAX as u64, "bytes"),
        ("keys of a MULTI-GET, mutations of a BATCH", limits::BATCH_OPERATIONS_MAX as u64, ""),
        ("checks and operations of a TRANSACTION, together", limits::BATCH_OPERATIONS_MAX as u64, ""),
        ("values in the answer to a TRANSACTION", limits::TRANSACTION_REPLY_BYTES_MAX as u64, "bytes"),
        ("values in such an answer that is remembered", limits::TRANSACTION_REMEMBERED_BYTES_MAX as u64, "bytes"),
        ("decimal number that is added", limits::DECIMAL_BYTES_MAX as u64, "bytes"),
        ("checks and mutations of an ATOMIC, together", limits::BATCH_OPERATIONS_MAX as u64, ""),
        ("entries of a SCAN page", limits::SCAN_ENTRIES_MAX.into(), ""),
        ("keys and values of a SCAN page", limits::SCAN_PAGE_BYTES as u64, "bytes, but one entry at least"),
        ("values of a MULTI-GET reply", limits::MULTI_GET_REPLY_BYTES_MAX as u64, "bytes"),
        ("PING payload", limits::PING_BYTES_MAX as u64, "bytes"),
        ("detail of an error", limits::ERROR_TEXT_BYTES_MAX as u64, "bytes"),
        ("name, address, zone, program", limits::NAME_BYTES_MAX as u64, "bytes"),
        ("nodes of a cluster", limits::NODES_MAX as u64, ""),
        ("shards of a cluster", limits::SHARDS_MAX as u64, ""),
        ("replicas of a shard", limits::REPLICAS_MAX as u64, ""),
        ("time to live", limits::TTL_MS_MAX, "ms"),
        ("time of expiry", limits::EXPIRY_MS_MAX, "ms"),
        ("deadline", limits::DEADLINE_MS_MAX.into(), "ms"),
        ("entries of a consensus message", limits::RAFT_ENTRIES_MAX as u64, ""),
        ("payload of an entry", limits::RAFT_ENTRY_BYTES_MAX as u64, "bytes"),
        ("chunk of a snapshot", limits::SNAPSHOT_CHUNK_BYTES_MAX as u64, "bytes"),
        ("header of a snapshot", limits::SNAPSHOT_HEADER_BYTES_MAX.into(), "bytes"),
        ("question of a node that joins", limits::JOIN_FRAME_BYTES_MAX as u64, "bytes"),
        ("certificate signing request in it", limits::SIGNING_REQUEST_BYTES_MAX as u64, "bytes"),
        ("life of a token", limits::TOKEN_MS_MAX, "ms"),
        ("tokens of a cluster", limits::TOKENS_MAX as u64, ""),
        ("message of AUTH", limits::AUTH_BYTES_MAX as u64, "bytes"),
        ("name of a user or a role", limits::AUTH_NAME_BYTES_MAX as u64, "bytes"),
        ("users", limits::USERS_MAX as u64, ""),
        ("roles", limits::ROLES_MAX as u64, ""),
        ("roles of a user", limits::ROLES_OF_USER_MAX as u64, ""),
        ("prefixes of a role", limits::GRANTS_MAX as u64, ""),
        ("tokens of users", limits::USER_TOKENS_MAX as u64, ""),
        ("slow operations that a node keeps", limits::SLOW_OPERATIONS_MAX as u64, ""),
        ("watched requests that a node tells at a time", limits::MONITORED_REQUESTS_MAX as u64, ""),
        ("key of one of them", limits::MONITORED_KEY_BYTES_MAX as u64, "bytes"),
        ("filter of a log that a node tells", limits::LOG_FILTER_BYTES_MAX as u64, "bytes"),
        ("time for which a node logs more or less", limits::LOG_LEVEL_MS_MAX, "ms"),
        ("denied certificates", limits::DENIED_SERIALS_MAX as u64, ""),
    ];
    let row =
        |(what, limit, unit): (&str, u64, &str)| format!("| {what} | {limit} {unit}").trim_end().to_owned() + " |";
    assert_shown(rows.into_iter().map(row).collect());
}
