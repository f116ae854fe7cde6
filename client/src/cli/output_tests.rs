//! Golden texts of every format.

use super::*;
use crate::{Ack, Durability, ErrorCode, ServerError, Version};

const NOW_MS: u64 = 1_000_000;

fn entry(key: &'static str, value: &'static [u8], expires_at_ms: Option<u64>) -> Entry {
    Entry { key: key.into(), value: Bytes::from_static(value), version: Version(12), expires_at_ms }
}

fn written(status: WriteStatus, version: u64) -> WriteResult {
    let durability = Durability::Fsync;
    WriteResult { status, version: Version(version), ack: Ack::Committed, durability, number: None, previous: None }
}

fn outputs() -> Vec<Output> {
    let unavailable = || Error::Server(ServerError::new(ErrorCode::Unavailable, "shard 3 has no leader"));
    vec![
        Output::Entry { key: "greeting".into(), entry: Some(entry("greeting", b"hello world", Some(NOW_MS + 9_300))) },
        Output::Entry { key: "bytes".into(), entry: Some(entry("bytes", b"\xff,\x00", None)) },
        Output::Entry { key: "none".into(), entry: None },
        Output::Written { key: "k".into(), result: written(WriteStatus::Applied, 13) },
        Output::Written {
            key: "k".into(),
            result: WriteResult { number: Some(-5), ..written(WriteStatus::Applied, 14) },
        },
        Output::Written { key: "k".into(), result: written(WriteStatus::ConditionFailed, 13) },
        Output::Written { key: "k".into(), result: written(WriteStatus::Missing, 0) },
        Output::Written {
            key: "k".into(),
            result: WriteResult { previous: Some(entry("k", b"old", None)), ..written(WriteStatus::Applied, 15) },
        },
        Output::Entries(vec![
            ("a".into(), Ok(Some(entry("a", b"1", None)))),
            ("longer key".into(), Ok(None)),
            ("c".into(), Err(unavailable())),
        ]),
        Output::Writes(vec![("a".into(), Ok(written(WriteStatus::Applied, 16))), ("b".into(), Err(unavailable()))]),
        Output::Page { entries: vec![entry("x", b"", None), entry("y \"q\"", b"", None)], values: false },
        Output::Page { entries: vec![entry("x", b"1", None)], values: true },
        Output::Scalar { name: "ttl_ms", cell: Cell::shown(9_300, "9.3 s"), note: String::new() },
        Output::Facts(vec![("shard", Cell::plain(3)), ("log_bytes", Cell::shown(2048, "2.0 KiB"))]),
        Output::Table {
            columns: &["name", "shards_led"],
            rows: vec![vec![Cell::plain("node-1"), Cell::plain(5)], vec![Cell::plain("node-22"), Cell::plain(11)]],
        },
        Output::Note("3 keys".into()),
    ]
}

fn rendered(format: Format) -> String {
    let mut printer = Printer::new(format, false, Some(100));
    let bytes: Vec<u8> = outputs().iter().flat_map(|output| printer.render(output, NOW_MS)).collect();
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

#[test]
fn people() {
    assert_eq!(
        rendered(Format::Human),
        r#"hello world
  version 12, expires in 9.3 s
"\xff,\x00"
  version 12
no such key
OK  version 13, committed (fsync)
-5  version 14, committed (fsync)
not written: the condition does not hold  the key has version 13
nothing to change  there is no such key
OK  version 15, committed (fsync)
before: old  version 12
key         value  version  expires
a           1      12       never
longer key  -      -        no such key
c           -      -        Unavailable (not applied): shard 3 has no leader
a  OK  version 16, committed (fsync)
b  Unavailable (not applied): shard 3 has no leader
x
y "q"
key  value  version  expires
x    1      12       never
9.3 s
shard  3
log    2.0 KiB
name     shards led
node-1   5
node-22  11
3 keys
"#
    );
}

#[test]
fn raw() {
    assert_eq!(
        rendered(Format::Raw),
        "hello world
\u{fffd},\0
applied
-5
condition_failed
missing
applied
1


applied
error: Unavailable (not applied): shard 3 has no leader
x
y \"q\"
x\t1
9300
shard\t3
log_bytes\t2048
node-1\t5
node-22\t11
"
    );
}

#[test]
fn a_single_raw_value_is_exact() {
    let mut printer = Printer::new(Format::Raw, false, None);
    printer.exact = true;
    let output = Output::Entry { key: "k".into(), entry: Some(entry("k", b"\x00\xff\n", None)) };
    assert_eq!(printer.render(&output, NOW_MS), b"\x00\xff\n");
}

#[test]
fn json() {
    assert_eq!(
        rendered(Format::Json),
        r#"{"key":"greeting","value":"hello world","version":12,"expires_at_ms":1009300}
{"key":"bytes","value_base64":"/ywA","version":12,"expires_at_ms":null}
{"key":"none","value":null,"version":0,"expires_at_ms":null}
{"key":"k","status":"applied","version":13,"ack":"committed","durability":"fsync"}
{"key":"k","status":"applied","version":14,"ack":"committed","durability":"fsync","number":-5}
{"key":"k","status":"condition_failed","version":13,"ack":"committed","durability":"fsync"}
{"key":"k","status":"missing","version":0,"ack":"committed","durability":"fsync"}
{"key":"k","status":"applied","version":15,"ack":"committed","durability":"fsync","previous":"old","previous_version":12}
{"key":"a","value":"1","version":12,"expires_at_ms":null}
{"key":"longer key","value":null,"version":0,"expires_at_ms":null}
{"key":"c","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"a","status":"applied","version":16,"ack":"committed","durability":"fsync"}
{"key":"b","error":"Unavailable","outcome":"not_applied","message":"Unavailable (not applied): shard 3 has no leader"}
{"key":"x","version":12,"expires_at_ms":null}
{"key":"y \"q\"","version":12,"expires_at_ms":null}
{"key":"x","value":"1","version":12,"expires_at_ms":null}
{"ttl_ms":9300}
{"shard":3,"log_bytes":2048}
{"name":"node-1","shards_led":5}
{"name":"node-22","shards_led":11}
"#
    );
}

#[test]
fn csv() {
    let mut printer = Printer::new(Format::Csv, false, None);
    let mut csv = |output: &Output| String::from_utf8(printer.render(output, NOW_MS)).unwrap();
    let page = |key: &'static str, value| Output::Page { entries: vec![entry(key, value, None)], values: true };
    assert_eq!(csv(&page("x", b"1")), "key,value,version,expires_at_ms\r\nx,1,12,\r\n");
    assert_eq!(csv(&page("y, \"q\"", b"2\n")), "\"y, \"\"q\"\"\",\"2\n\",12,\r\n", "the header comes once");
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let printer = Printer::new(Format::Human, false, None);
    let unavailable = ServerError::new(ErrorCode::Unavailable, "shard 3 has no leader");
    let deadline = |outcome| Error::DeadlineExceeded { outcome, attempts: 2, waited: Duration::from_secs(5) };
    for (error, safe, text) in [
        (
            Error::Server(unavailable.clone()),
            false,
            "error: shard 3 has no leader (Unavailable); nothing was changed, retry is safe\n",
        ),
        (
            Error::Server(unavailable.with_outcome(Outcome::Unknown)),
            false,
            "outcome unknown: shard 3 has no leader (Unavailable); retry is unsafe: it may take effect twice\n",
        ),
        (deadline(Outcome::Unknown), true, "outcome unknown: no answer within 5s and 2 attempts; retry is safe\n"),
        (
            Error::TooLarge { what: "the value's length in bytes", size: 20, limit: 10 },
            true,
            "error: the value's length in bytes is 20, the limit is 10\n",
        ),
    ] {
        assert_eq!(printer.render_error(&error, safe), text);
    }
    let json = Printer::new(Format::Json, false, None).render_error(&deadline(Outcome::Unknown), true);
    assert_eq!(
        json,
        "{\"error\":{\"code\":\"DeadlineExceeded\",\"message\":\"no answer within 5s and 2 attempts (outcome unknown)\",\
         \"outcome\":\"unknown\",\"retryable\":false}}\n"
    );
}

#[test]
fn colours_only_when_wanted() {
    let output = Output::Entry { key: "none".into(), entry: None };
    let coloured = Printer::new(Format::Human, true, None).render(&output, NOW_MS);
    assert_eq!(String::from_utf8(coloured).unwrap(), "\u{1b}[33mno such key\u{1b}[0m\n");
}
