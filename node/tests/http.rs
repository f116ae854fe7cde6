//! The HTTP door of real nodes: keys of any bytes through every route and node, and what clients see of nodes that die.
//! `.ci/http` runs the examples of docs/HTTP.md besides.

use crate::common::http::{HttpAnswer, request, try_request};
use crate::common::{ClusterOptions, TestCluster, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const JSON: &str = "content-type: application/json";
const RAW: &str = "accept: application/octet-stream";

/// Keys that proxies, frameworks and people have trouble with, and random bytes; `.ci/proxies` sends the same.
fn ugly_keys() -> BTreeSet<Vec<u8>> {
    let key = |line: &str| percent_decode_str(line).collect();
    let lines = include_str!("ugly_keys.txt").lines().filter(|line| !line.starts_with('#'));
    let mut keys: BTreeSet<Vec<u8>> = lines.map(key).collect();
    keys.insert(vec![b'k'; 8_000]);
    keys
}

fn path_of(key: &[u8]) -> String {
    format!("/kv/{}", percent_encode(key, NON_ALPHANUMERIC))
}

fn base64_of(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn assert_holds(answer: &HttpAnswer, value: &[u8], how: &str) {
    assert_eq!((answer.status, &answer.body[..]), (200, value), "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_are_a_key_through_every_route_and_node() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let [first, second, third] = [1, 2, 3].map(|node| cluster.http_address(node));
    let keys = ugly_keys();
    assert_eq!(keys.len(), 200);
    for (key, number) in keys.iter().zip(0..) {
        let value = format!("value {number}");
        let name = String::from_utf8_lossy(key).into_owned();
        let put = request(first, "PUT", &path_of(key), &[], value.clone()).await;
        assert_eq!(put.status, 201, "{name}: {:?}", put.body);
        let by_path = request(second, "GET", &path_of(key), &[RAW], "").await;
        assert_holds(&by_path, value.as_bytes(), &name);
        let target = format!("/kv?key_base64={}", base64_of(key));
        assert_holds(&request(third, "GET", &target, &[RAW], "").await, value.as_bytes(), &name);
        if let Ok(text) = std::str::from_utf8(key) {
            let target = format!("/kv?key={}", percent_encode(text.as_bytes(), NON_ALPHANUMERIC));
            assert_holds(&request(first, "GET", &target, &[RAW], "").await, value.as_bytes(), &name);
        }
        let mapping = request(second, "GET", &format!("/mapping?key_base64={}", base64_of(key)), &[], "").await;
        assert_eq!(mapping.status, 200, "{name}");
    }
    assert_eq!(scanned(third).await, keys, "a scan finds each of them, and nothing else");

    // The same through a batch, which then removes them.
    let operations: Vec<Value> = keys.iter().map(|key| json!({"op": "get", "key_base64": base64_of(key)})).collect();
    let batch = request(first, "POST", "/batch", &[JSON], Value::from(operations).to_string()).await.json();
    for (result, number) in batch["results"].as_array().expect("results").iter().zip(0..) {
        assert_eq!(result["entry"]["value"], format!("value {number}"));
    }
    for (key, number) in keys.iter().zip(0..) {
        let address = cluster.http_address(1 + number % 3);
        assert_eq!(request(address, "DELETE", &path_of(key), &[], "").await.status, 200);
        assert_eq!(request(address, "GET", &path_of(key), &[], "").await.status, 404);
    }
    assert!(scanned(second).await.is_empty());
}

/// The keys of a scan over everything, page by page.
async fn scanned(address: SocketAddr) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut target = "/kv?prefix=&limit=7&keys_only=true".to_owned();
    loop {
        let page = request(address, "GET", &target, &[], "").await.json();
        for entry in page["entries"].as_array().expect("entries") {
            let key = match (&entry["key"], &entry["key_base64"]) {
                (Value::String(text), Value::Null) => text.clone().into_bytes(),
                (Value::Null, Value::String(text)) => URL_SAFE_NO_PAD.decode(text).expect("base64"),
                other => panic!("{other:?}"),
            };
            // Its own marks aside.
            if !key.starts_with(b"ready-") {
                assert!(found.insert(key), "no key comes twice");
            }
        }
        match &page["cursor"] {
            Value::String(cursor) => target = format!("/kv?prefix=&limit=7&keys_only=true&cursor={cursor}"),
            _ => return found,
        }
    }
}

/// A bulk load: results come line by line, in order; what is wrong with one line is told of that one.
#[tokio::test(flavor = "multi_thread")]
async fn operations_line_by_line_have_a_result_each() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let address = cluster.http_address(2);
    let ndjson = ["content-type: application/x-ndjson"];
    let mut body = String::new();
    for number in 0..3_000 {
        let line = match number % 1_000 {
            7 => "{\"op\":\"put\",\"key\":".to_owned(),
            8 => json!({"op": "check", "key": "a", "if_version": 1}).to_string(),
            9 => json!({"op": "get", "key": "no such key"}).to_string(),
            _ => json!({"op": "put", "key": format!("bulk-{number}"), "value": "x".repeat(200)}).to_string(),
        };
        body.push_str(&line);
        body.push_str(if number % 100 == 0 { "\r\n\n" } else { "\n" });
    }
    // The last line need not end.
    let last = json!({"op": "get", "key": "bulk-0"}).to_string();
    body.push_str(&last);
    let answer = request(address, "POST", "/batch", &ndjson, body).await;
    assert_eq!((answer.status, answer.headers["content-type"].as_bytes()), (200, &b"application/x-ndjson"[..]));
    let text = String::from_utf8(answer.body.to_vec()).expect("JSON is UTF-8");
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(results.len(), 3_001);
    for (number, result) in results.iter().enumerate().take(3_000) {
        let expected = match number % 1_000 {
            7 | 8 => 400,
            9 => 404,
            _ => 201,
        };
        assert_eq!(result["status"], expected, "{number}: {result}");
        if expected == 201 {
            assert_eq!(result["written"]["key"], format!("bulk-{number}"));
        }
    }
    assert_eq!(results[3_000]["entry"]["value"], "x".repeat(200));

    // A line without an end is not read for ever: the results end with the reason.
    let answer = request(address, "POST", "/batch", &ndjson, vec![b'x'; 24 << 20]).await;
    let last: Value = serde_json::from_slice(&answer.body).expect("one line");
    assert_eq!((answer.status, last["status"].as_u64()), (200, Some(413)), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_nothing_else_is() {
    let cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let row = |line: &str| -> Option<(String, String)> {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    let documented: BTreeSet<_> = include_str!("../../docs/METRICS.md").lines().filter_map(row).collect();
    // What has not happened yet is absent: a write, and one that fails.
    assert_eq!(request(address, "PUT", "/kv/text", &["content-type: text/plain"], "a").await.status, 201);
    assert_eq!(request(address, "POST", "/kv/text/incr", &[], "").await.status, 422);
    // So is what nobody has looked at.
    eventually("all metrics are there", Duration::from_secs(20), async || {
        let answer = try_request(address, "GET", "/metrics?detail=shards", &[], "").await?;
        let text = String::from_utf8(answer.body.to_vec()).map_err(|error| error.to_string())?;
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let exposed: BTreeSet<_> = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        if exposed == documented {
            return Ok(());
        }
        let differ: Vec<_> = exposed.symmetric_difference(&documented).collect();
        Err(format!("{differ:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_stats_of_the_cluster_are_those_of_all_nodes_that_answer() {
    let mut cluster = TestCluster::start(ClusterOptions { shards: 1, ..ClusterOptions::default() }).await;
    let addresses = [1, 2, 3].map(|node| cluster.http_address(node));
    assert_eq!(request(addresses[0], "PUT", "/kv/k", &[], "v").await.status, 201);
    for (address, times) in addresses.into_iter().zip(1..) {
        for _ in 0..times {
            assert_eq!(request(address, "GET", "/kv/k", &[], "").await.status, 200);
        }
    }
    let stats = async |address, query: &str| {
        let answer = request(address, "GET", &format!("/cache/stats{query}"), &[], "").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json()
    };
    let number = |stats: &Value, name: &str| stats[name].as_u64().expect("a number");
    let mut sums = (0, 0, 0);
    for address in addresses {
        let own = stats(address, "?scope=node").await;
        assert_eq!((&own["scope"], own.get("nodes"), own.get("unanswered")), (&json!("node"), None, None));
        sums.0 += number(&own, "hits");
        sums.1 += number(&own, "misses");
        sums.2 += number(&own["memory"], "index_bytes");
    }
    // Each GET counts where it came in, and those that another node answered, there as well.
    assert!(sums.0 + sums.1 >= 6, "{sums:?}");
    for address in addresses {
        let all = stats(address, "?scope=cluster").await;
        assert_eq!((number(&all, "hits"), number(&all, "misses"), number(&all["memory"], "index_bytes")), sums);
        assert_eq!(all["hit_ratio"].as_f64(), Some(sums.0 as f64 / (sums.0 + sums.1) as f64));
        assert_eq!((&all["scope"], &all["evictions"]), (&json!("cluster"), &json!(0)));
        assert_eq!((&all["nodes"], &all["unanswered"]), (&json!(["node-1", "node-2", "node-3"]), &json!([])));
    }
    assert_eq!(request(addresses[0], "GET", "/cache/stats?scope=all", &[], "").await.status, 400);

    cluster.kill(2);
    let rest = stats(addresses[0], "?scope=cluster").await;
    assert_eq!((&rest["nodes"], &rest["unanswered"]), (&json!(["node-1", "node-3"]), &json!(["node-2"])));
    assert!(number(&rest, "hits") + number(&rest, "misses") < sums.0 + sums.1, "its GETs are not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_in_the_body_is_an_optimistic_lock() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let put = async |version: Value| {
        let body = json!({"value": "v", "version": version}).to_string();
        request(address, "PUT", "/kv/draft", &[JSON], body).await
    };
    assert_eq!(put(json!(0)).await.status, 201, "it asks for a key that does not exist");
    let refused = put(json!(0)).await;
    assert_eq!(refused.status, 412);
    let version = refused.json()["key_version"].clone();
    let written = put(version.clone()).await;
    assert_eq!(written.status, 200);
    let refused = put(version).await;
    assert_eq!((refused.status, &refused.json()["key_version"]), (412, &written.json()["version"]));
    assert_eq!(request(address, "DELETE", "/kv/draft", &[], "").await.status, 200);
    assert_eq!(put(json!(1)).await.status, 201, "there is no key with another version");
    let twice = request(address, "PUT", "/kv/draft?if_version=1", &[JSON], r#"{"value":"v","version":1}"#).await;
    assert_eq!(twice.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_makes_its_key_is_answered_so() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let put = async |target: &str, headers: &[&str], body: &str| {
        request(address, "PUT", target, headers, body.to_owned()).await.status
    };
    let envelope = r#"{"data":{"key":"b","value":"v"}}"#;
    assert_eq!([put("/kv/a", &[], "v").await, put("/kv/a", &[], "v").await], [201, 200]);
    assert_eq!([put("/kv", &[JSON], envelope).await, put("/kv", &[JSON], envelope).await], [201, 200]);
    assert_eq!(put("/kv/c", &[JSON], r#"{"value":"v","version":7}"#).await, 201);
    assert_eq!(put("/kv/c", &["if-match: *"], "v").await, 200);
    assert_eq!(put("/kv/d?if_version=0", &[], "v").await, 201);
    assert_eq!(put("/kv/e", &["if-none-match: *"], "v").await, 201);
    assert_eq!(put("/kv/f?ack=accepted", &[], "v").await, 202, "it may be lost");
    assert_eq!(request(address, "DELETE", "/kv/a", &[], "").await.status, 200);
    assert_eq!(put("/kv/a", &[], "v").await, 201, "it was removed");
    assert_eq!(request(address, "POST", "/kv/counter/incr", &[], "").await.status, 200, "only a put says so");

    let operations = json!([
        {"op": "put", "key": "g", "value": "1"},
        {"op": "put", "key": "g", "value": "2"},
        {"op": "put", "key": "h", "value": "1", "if_version": 0},
        {"op": "append", "key": "i", "value": "1"},
    ]);
    let answer = request(address, "POST", "/batch", &[JSON], operations.to_string()).await.json();
    let results = answer["results"].as_array().expect("results");
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [201, 200, 201, 200]);
    let operations = json!([{"op": "put", "key": "j", "value": "1"}, {"op": "put", "key": "j", "value": "2"}]);
    let answer = request(address, "POST", "/atomic", &[JSON], operations.to_string()).await;
    let results = answer.json()["results"].clone();
    assert_eq!((answer.status, &results[0]["status"], &results[1]["status"]), (200, &json!(201), &json!(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_may_keep_the_time_to_live() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let expiry = async || request(address, "GET", "/kv/k", &[], "").await.json()["expires_at_ms"].clone();
    let put = async |target: &str, headers: &[&str], body: &str| {
        request(address, "PUT", target, headers, body.to_owned()).await.status
    };
    assert_eq!(put("/kv/k?keep_ttl=true", &[], "v").await, 201);
    assert_eq!(expiry().await, Value::Null, "there was none to keep");
    assert_eq!(put("/kv/k?ttl_ms=600000", &[], "v").await, 200);
    let first = expiry().await;
    assert!(first.is_u64(), "{first}");
    assert_eq!(put("/kv/k?keep_ttl=true", &[], "w").await, 200);
    assert_eq!(expiry().await, first);
    assert_eq!(put("/kv?keep_ttl=true", &[JSON], r#"{"data":{"key":"k","value":"x"}}"#).await, 200);
    assert_eq!(expiry().await, first);
    let batch = async |target: &str, operations: Value| {
        request(address, "POST", target, &[JSON], operations.to_string()).await.json()["results"].clone()
    };
    let keeping = json!({"op": "put", "key": "k", "value": "y", "keep_ttl": true});
    let longer = json!({"op": "expire", "key": "k", "ttl_ms": 6_000_000});
    for (target, operations) in [("/batch", json!([longer, keeping])), ("/atomic", json!([longer, keeping]))] {
        let before = expiry().await;
        let results = batch(target, operations).await;
        assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!(200), &json!(200)), "{target}");
        assert!(expiry().await.as_u64() >= before.as_u64() && expiry().await != first, "{target}: it sees the EXPIRE");
    }
    let before = expiry().await;
    assert_eq!(put("/kv/k", &[JSON], r#"{"value":"z","keep_ttl":true}"#).await, 200);
    assert_eq!(put("/kv", &[JSON], r#"{"data":{"key":"k","value":"z","keep_ttl":true}}"#).await, 200);
    assert_eq!(expiry().await, before, "it may stand in the body");
    for (target, body) in [
        ("/kv/k", r#"{"value":"z","keep_ttl":true,"ttl_ms":5}"#),
        ("/kv/k?ttl_ms=5", r#"{"value":"z","keep_ttl":true}"#),
        ("/kv/k?keep_ttl=true", r#"{"value":"z","ttl_ms":5}"#),
    ] {
        assert_eq!(put(target, &[JSON], body).await, 422, "{target} {body}");
    }
    let both = json!({"op": "put", "key": "k", "value": "y", "keep_ttl": true, "ttl_ms": 5});
    assert_eq!(batch("/batch", json!([both])).await[0]["status"], 422);
    assert_eq!(put("/kv/k?keep_ttl=false", &[], "w").await, 200);
    assert_eq!(expiry().await, Value::Null, "a plain PUT takes it off");
}

/// Method, target and body.
type Asked<'a> = (&'a str, &'a str, &'a str);

/// Sends a write under a name. Returns what was answered, and whether it is said to be what an earlier request was answered.
async fn named(
    address: SocketAddr,
    (method, target, body): Asked<'_>,
    key: &str,
    headers: &[&str],
) -> (HttpAnswer, bool) {
    let key = format!("idempotency-key: {key}");
    let headers = [&[key.as_str()], headers].concat();
    let answer = request(address, method, target, &headers, body.to_owned()).await;
    let replayed = answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true");
    (answer, replayed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_key_is_done_once_through_any_node_and_leader() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let addresses = [1, 2, 3].map(|node| cluster.http_address(node));
    let theirs = request(addresses[0], "PUT", "/kv/theirs", &[], "v").await.json()["version"].to_string();
    let matches = format!("if-match: \"1\", \"{theirs}\"");
    let held = format!("if-none-match: \"{theirs}\"");
    let requests: Vec<(Asked<'_>, Vec<&str>, u16)> = vec![
        (("PUT", "/kv/made", "v"), vec![], 201),
        (("PUT", "/kv/theirs", "w"), vec![&*matches], 200),
        (("PUT", "/kv/theirs", "x"), vec![&*held], 200),
        (("PUT", "/kv/theirs", "y"), vec![&*matches], 412),
        (("PUT", "/kv/theirs?if_version=0", "y"), vec![], 412),
        (("PUT", "/kv", r#"{"data":{"key":"enveloped","value":"v"}}"#), vec![JSON], 201),
        (("PUT", "/kv/early?ack=accepted", "v"), vec![], 202),
        (("POST", "/kv/counter/incr", ""), vec![], 200),
        (("DELETE", "/kv/made", ""), vec![], 200),
        (("DELETE", "/kv/made?if_version=7", ""), vec![], 412),
        (("DELETE", "/kv/nobody", ""), vec![], 404),
        (("DELETE", "/kv?key=enveloped", ""), vec![], 200),
        (("POST", "/atomic", r#"[{"op":"incr","key":"{t}a"},{"op":"put","key":"{t}b","value":"v"}]"#), vec![JSON], 200),
        (("POST", "/atomic", r#"[{"op":"put","key":"{t}c","value":"v","if_version":9}]"#), vec![JSON], 412),
        (
            ("POST", "/batch", r#"[{"op":"incr","key":"x"},{"op":"incr","key":"y"},{"op":"delete","key":"z"}]"#),
            vec![JSON],
            200,
        ),
    ];
    let mut first = Vec::new();
    for (number, (what, headers, status)) in requests.iter().enumerate() {
        let (answer, replayed) = named(addresses[number % 3], *what, &format!("key-{number}"), headers).await;
        assert_eq!((answer.status, replayed), (*status, false), "{what:?}: {:?}", answer.body);
        first.push(answer);
    }
    // As they were, byte for byte, but that each says it is a replay.
    let check = async |at: usize| {
        for (number, (what, headers, status)) in requests.iter().enumerate() {
            // Bare or in quotes is the same.
            let key = format!("\"key-{number}\"");
            let (answer, replayed) = named(addresses[(number + at) % 3], *what, &key, headers).await;
            assert_eq!((answer.status, replayed), (*status, true), "{what:?}: {:?}", answer.body);
            if what.1 == "/batch" {
                let (mut now, before) = (answer.json(), first[number].json());
                for result in now["results"].as_array_mut().expect("results") {
                    assert_eq!(result.as_object_mut().expect("a result").remove("replayed"), Some(true.into()));
                }
                assert_eq!(now, before);
            } else {
                assert_eq!(answer.body, first[number].body, "{what:?}");
                assert_eq!(answer.headers.get("etag"), first[number].headers.get("etag"), "{what:?}");
            }
        }
    };
    check(1).await;
    let leader = request(addresses[0], "GET", "/mapping?key=counter", &[], "").await.json()["primary"].clone();
    let leader: usize = leader.as_str().and_then(|name| name.rsplit('-').next()?.parse().ok()).expect("node-<number>");
    cluster.kill(leader);
    cluster.start_node(leader);
    cluster.wait_ready().await;
    check(2).await;
    let number = async |key: &str| request(addresses[1], "GET", &format!("/kv/{key}"), &[RAW], "").await.body;
    for key in ["counter", "{t}a", "x", "y"] {
        assert_eq!(number(key).await, "1", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_write() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let [first, second, _] = [1, 2, 3].map(|node| cluster.http_address(node));
    let put = async |key: &str, target: &str, headers: &[&str], body: &str| {
        named(second, ("PUT", target, body), key, headers).await.0
    };
    assert_eq!(named(first, ("PUT", "/kv/a", "v"), "k", &[]).await.0.status, 201);
    for (headers, body) in [(&[][..], "w"), (&["content-type: text/plain"], "v"), (&["if-match: *"], "v")] {
        let refused = put("k", "/kv/a", headers, body).await;
        let problem = refused.json();
        assert_eq!((refused.status, &problem["code"]), (422, &"idempotency-key-reused".into()), "{problem}");
        assert_eq!(problem["outcome"], "not_applied");
    }
    assert_eq!(put("k", "/kv/b", &[], "v").await.status, 201, "at another address it is another name");
    assert_eq!(put("k", "/kv/a?ttl_ms=60000", &[], "v").await.status, 200);
    for key in ["", "\"\"", "a b", "\"a", &"x".repeat(256)] {
        let refused = put(key, "/kv/a", &[], "v").await;
        assert_eq!((refused.status, &refused.json()["code"]), (400, &"invalid-argument".into()), "{key:?}");
    }
    let twice = put("k", "/kv/a", &["idempotency-key: k"], "v").await;
    assert_eq!(twice.status, 400);

    // In a batch each write is judged by itself, also if it comes line by line.
    let ndjson = "content-type: application/x-ndjson";
    let line = |by: u32, number: usize| format!("{{\"op\":\"incr\",\"key\":\"n{}\",\"by\":{by}}}\n", number % 7);
    let load =
        |by_of_last: u32| (0..3_000).map(|at| line(if at == 2_999 { by_of_last } else { 1 }, at)).collect::<String>();
    let statuses = async |body: String| {
        let (answer, _) = named(first, ("POST", "/batch", &body), "load", &[ndjson]).await;
        let text = String::from_utf8(answer.body.to_vec()).expect("JSON");
        let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let replayed = results.iter().filter(|result| result["replayed"] == true).count();
        let last = results[2_999]["status"].clone();
        (results.len(), replayed, last)
    };
    assert_eq!(statuses(load(1)).await, (3_000, 0, 200.into()));
    assert_eq!(statuses(load(1)).await, (3_000, 3_000, 200.into()));
    assert_eq!(statuses(load(2)).await, (3_000, 2_999, 422.into()));
    let sum = async |key: usize| request(second, "GET", &format!("/kv/n{key}"), &[RAW], "").await.body;
    assert_eq!((sum(0).await, sum(6).await), ("429".into(), "428".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_key_at_once_are_done_once() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let [first, second, third] = [1, 2, 3].map(|node| cluster.http_address(node));
    for round in 0..20 {
        let key = format!("round-{round}");
        let what = ("POST", "/kv/shared/incr", "");
        let send = |address| named(address, what, &key, &[]);
        let (one, two, three) = tokio::join!(send(first), send(second), send(third));
        let answers = [one, two, three];
        assert!(answers.iter().all(|(answer, _)| answer.status == 200), "{answers:?}");
        assert!(answers.iter().all(|(answer, _)| answer.json()["number"] == round + 1), "{answers:?}");
        assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1, "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_an_accepted_write() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let addresses = [1, 2, 3].map(|node| cluster.http_address(node));
    let mut receipt = String::new();
    for number in 0..30 {
        let [writes, reads] = [number % 3, (number + 1) % 3].map(|at| addresses[at]);
        let (path, value) = (format!("/kv/early-{number}"), number.to_string());
        let written = request(writes, "PUT", &format!("{path}?ack=accepted"), &[], value.clone()).await;
        assert_eq!(written.status, 202, "{:?}", written.body);
        receipt = written.json()["write"].as_str().expect("a receipt").to_owned();
        let read = request(reads, "GET", &format!("{path}?after={receipt}"), &[RAW], "").await;
        assert_holds(&read, value.as_bytes(), &receipt);
        let target = format!("/kv?key=early-{number}&after={receipt}&wait_ms=1000");
        assert_holds(&request(writes, "GET", &target, &[RAW], "").await, value.as_bytes(), &receipt);
    }
    let address = addresses[0];
    let put = request(address, "PUT", "/kv?ack=accepted", &[JSON], r#"{"data":{"key":"x","value":"y"}}"#).await;
    assert!(put.json()["write"].is_string(), "{:?}", put.body);
    let batch = request(address, "POST", "/batch?ack=accepted", &[JSON], r#"[{"op":"delete","key":"x"}]"#).await.json();
    assert_eq!(batch["results"][0]["status"], 202);
    assert!(batch["results"][0]["written"]["write"].is_string(), "{batch}");
    assert_eq!(request(address, "PUT", "/kv/x", &[], "y").await.json().get("write"), None, "it is committed");

    let numbers: Vec<u64> = receipt.split('.').map(|number| number.parse().expect("a number")).collect();
    let [shard, term, index] = numbers[..] else { panic!("{receipt}") };
    for (query, status, code) in [
        (format!("after={shard}.{}.{index}", term + 1), 410, "write-lost"),
        (format!("after={shard}.{term}.{}&wait_ms=50", index + 1_000_000), 504, "deadline-exceeded"),
        (format!("after={shard}.{term}.{}&wait_ms=0", index + 1_000_000), 504, "deadline-exceeded"),
        ("after=4000.1.1".to_owned(), 422, "invalid-receipt"),
        ("after=1.2".to_owned(), 400, "invalid-argument"),
        (format!("after={receipt}&wait_ms=600001"), 400, "invalid-argument"),
        (format!("after={receipt}&consistency=stale"), 422, "conflicting-arguments"),
        ("wait_ms=5".to_owned(), 422, "conflicting-arguments"),
    ] {
        let answer = request(address, "GET", &format!("/kv/x?{query}"), &[], "").await;
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &code.into()), "{query}: {problem}");
        assert_eq!(problem.get("outcome"), None, "a read has none: {problem}");
    }
    assert_eq!(request(address, "GET", &format!("/kv?prefix=&after={receipt}"), &[], "").await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_costs_slow_answers_and_a_lost_majority_costs_problems() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let [first, second, _] = [1, 2, 3].map(|node| cluster.http_address(node));
    for address in [first, second] {
        // A cluster serves a moment before each of its nodes has looked at itself again.
        eventually("the node is ready", Duration::from_secs(20), async || {
            let answer = request(address, "GET", "/health/ready", &[], "").await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{} {:?}", answer.status, answer.body)) }
        })
        .await;
    }
    cluster.kill(3);
    // Every shard is asked through both: who waits for a new leader waits, and none fails.
    for number in 0..40 {
        let address = if number % 2 == 0 { first } else { second };
        let path = format!("/kv/counter-{number}/incr");
        let answer = request(address, "POST", &path, &[], "").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.json()["number"], 1, "it took effect once");
    }
    let nodes = request(first, "GET", "/nodes", &[], "").await.json();
    let status = |name: &str| {
        let nodes = nodes["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["name"] == name).expect("the node").clone()["status"].clone()
    };
    assert_eq!((status("node-1"), status("node-3")), ("healthy".into(), "down".into()));
    // A process that is gone says nothing: its silence has to last a moment.
    eventually("the node is seen to be down", Duration::from_secs(20), async || {
        let heartbeat = try_request(first, "POST", "/heartbeat", &[JSON], r#"{"node":"node-3"}"#).await?.json();
        if heartbeat["status"] == "down" { Ok(()) } else { Err(heartbeat.to_string()) }
    })
    .await;

    cluster.kill(2);
    let within = ["kvorum-timeout-ms: 1500"];
    let refused = eventually("requests are refused", Duration::from_secs(20), async || {
        let answer = try_request(first, "GET", "/kv/counter-1", &within, "").await?;
        if answer.status == 200 { Err("it is answered under a lease".to_owned()) } else { Ok(answer) }
    })
    .await;
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert!([503, 504].contains(&refused.status), "{:?}", refused.body);
    let write = request(first, "PUT", "/kv/x", &within, "y").await;
    assert!([503, 504].contains(&write.status), "{:?}", write.body);
    assert!(write.headers.contains_key("retry-after"), "{:?}", write.body);
    let problem = write.json();
    assert!(["not_applied", "unknown"].contains(&problem["outcome"].as_str().expect("an outcome")), "{problem}");
    assert_eq!(request(first, "GET", "/health/live", &[], "").await.status, 200);
    // The trouble of others does not take a node out of service that has caught up once.
    assert_eq!(request(first, "GET", "/health/ready", &[], "").await.status, 200);
    // One that starts into it has not.
    cluster.kill(1);
    cluster.start_node(1);
    let not_ready = eventually("the node answers", Duration::from_secs(20), async || {
        try_request(first, "GET", "/health/ready", &[], "").await
    })
    .await;
    assert_eq!(not_ready.status, 503, "{:?}", not_ready.body);
    assert_eq!(request(first, "GET", "/health", &[], "").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_problems_and_slow_ones_are_cut_off() {
    let cluster = TestCluster::start(ClusterOptions { nodes: 1, shards: 1, ..ClusterOptions::default() }).await;
    let address = cluster.http_address(1);
    let deep = format!("{{\"data\":{}", "[".repeat(100_000));
    let cases: [(&str, &str, &[&str], &str, u16); 23] = [
        ("PUT", "/kv/a", &["sec-fetch-site: cross-site"], "x", 403),
        ("POST", "/kv/a/incr", &["sec-fetch-site: same-site"], "", 403),
        ("GET", "/kv/", &[], "", 400),
        ("GET", "/kv/%zz", &[], "", 400),
        ("GET", "/kv", &[], "", 422),
        ("GET", "/nothing", &[], "", 404),
        ("PATCH", "/kv/a", &[], "", 405),
        ("POST", "/kv/a", &[], "", 405),
        ("PUT", "/kv", &[], "x", 415),
        ("PUT", "/kv", &[JSON], "{", 400),
        ("PUT", "/kv", &[JSON], r#"{"data":{"key":"a","key":"b","value":"c"}}"#, 400),
        ("PUT", "/kv", &[JSON], &deep, 400),
        ("PUT", "/kv/a?ttl_ms=0", &[], "x", 400),
        ("PUT", "/kv/a?ack=maybe", &[], "x", 400),
        ("PUT", "/kv/a?keep_ttl=perhaps", &[], "x", 400),
        ("PUT", "/kv/a?keep_ttl=true&ttl_ms=5", &[], "x", 422),
        ("PUT", "/kv/a?keep_ttl=true", &["kvorum-ttl-ms: 5"], "x", 422),
        ("PUT", "/kv?keep_ttl=true", &[JSON], r#"{"data":{"key":"a","value":"c","ttl_ms":5}}"#, 422),
        ("DELETE", "/kv/a?keep_ttl=true", &[], "", 400),
        ("GET", "/kv/a", &["accept: image/png"], "", 406),
        ("GET", "/kv?prefix=&cursor=zzz", &[], "", 422),
        ("POST", "/batch", &[JSON], "[]", 400),
        ("GET", "/problems/none", &[], "", 404),
    ];
    for (method, target, headers, body, status) in cases {
        // Some of these the node answers without a look at the key.
        let answer = request(address, method, target, headers, body.to_owned()).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{method} {target}: {problem}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {target}");
        assert_eq!(problem["status"], status, "{method} {target}");
        let page = problem["type"].as_str().expect("a type").to_owned();
        assert_eq!(request(address, "GET", &page, &[], "").await.status, 200, "each kind has its page: {page}");
    }
    // A gibibyte is refused before any of it is read.
    let announced = raw_exchange(address, b"PUT /kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n").await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    // Who sends a head byte by byte is cut off, and keeps nobody from being served.
    let began = Instant::now();
    let slow = tokio::spawn(drip(address));
    assert_eq!(request(address, "GET", "/health/live", &[], "").await.status, 200);
    slow.await.expect("the connection ends");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

/// Sends bytes, and reads what comes until the node closes, or for a while.
async fn raw_exchange(address: SocketAddr, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the node listens");
    stream.write_all(bytes).await.expect("the node reads");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut chunk)).await;
        match read.expect("an answer comes").expect("the node answers") {
            0 => break,
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a head a byte at a time until the node closes the connection.
async fn drip(address: SocketAddr) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the node listens");
    let mut chunk = [0; 64];
    for byte in b"GET /kv/a HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        // As slow as a second per byte; an end of the connection is seen at once.
        if let Ok(read) = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut chunk)).await
            && matches!(read, Ok(0) | Err(_))
        {
            return;
        }
    }
}
