//! The program `kvorum-cli` itself, against a fake cluster: what it prints, where, and how it exits.

#![allow(clippy::unwrap_used)] // what can't be unwrapped here has failed the test

#[path = "../../tests/fake/mod.rs"]
mod fake;

use fake::{FakeCluster, Step, error, is_topology};
use kvorum_client::{ErrorCode, ServerError};
use kvorum_protocol::{RequestBody, ResponseBody};
use std::fs::File;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs the program with these arguments and this stdin, which is never a terminal.
async fn run(url: &str, arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvorum-cli"))
        .args(arguments)
        .env("KVORUM_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that does not read its stdin may be gone already.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    child.wait_with_output().await.unwrap()
}

/// What was printed to stdout and stderr, and the exit code.
async fn said(url: &str, arguments: &[&str], stdin: &str) -> (String, String, i32) {
    let output = run(url, arguments, stdin).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn ok(stdout: &str) -> (String, String, i32) {
    (stdout.to_owned(), String::new(), 0)
}

#[tokio::test]
async fn one_command_at_a_time() {
    let cluster = FakeCluster::start(3, 8).await;
    let url = cluster.url();
    assert_eq!(said(&url, &["put", "k", "a value"], "").await, ok("applied\n"));
    assert_eq!(said(&url, &["GET", "k"], "").await, ok("a value"), "a single raw value is exact");
    assert_eq!(said(&url, &["-r", "2", "GET", "k"], "").await, ok("a value\na value\n"));
    assert_eq!(said(&url, &["GET", "none"], "").await, (String::new(), String::new(), 4));
    assert_eq!(said(&url, &["CAS", "k", "99", "x"], "").await.2, 4);
    assert_eq!(said(&url, &["-x", "PUT", "piped"], "one\ntwo\n").await, ok("applied\n"));
    assert_eq!(said(&url, &["--json", "GET", "piped"], "").await.0.matches("one\\ntwo\\n").count(), 1);
    assert_eq!(said(&url, &["INCR", "n", "-5"], "").await, ok("-5\n"));
    let (json, _, code) = said(&url, &["--json", "MGET", "n", "none"], "").await;
    assert_eq!(code, 0);
    assert_eq!(
        json,
        "{\"key\":\"n\",\"value\":\"-5\",\"version\":3,\"expires_at_ms\":null}\n\
         {\"key\":\"none\",\"value\":null,\"version\":0,\"expires_at_ms\":null}\n"
    );
    let (csv, _, _) = said(&url, &["--csv", "MPUT", "a", "1", "b", "2"], "").await;
    let header = "key,status,version,ack,durability,number,previous,previous_version,key_encoding,previous_encoding,error,\
                  outcome,message,write,existed";
    assert_eq!(csv.lines().next(), Some(header));
    assert_eq!(said(&url, &["EXISTS", "a", "b", "c"], "").await, ok("2\n"));
    for (key, existed) in [("a", "true"), ("c", "false")] {
        let (json, _, _) = said(&url, &["--json", "PUT", key, "1", "EXISTED"], "").await;
        assert!(json.contains(&format!("\"existed\":{existed}")), "{json}");
    }
    let lives = async |command: &[&'static str]| said(&url, command, "").await.0;
    lives(&["PUT", "a", "1", "TTL", "1h"]).await;
    lives(&["PUT", "a", "2", "KEEPTTL"]).await;
    assert_ne!(lives(&["TTL", "a"]).await, lives(&["TTL", "b"]).await, "a kept its time to live");
    let (accepted, _, _) = said(&url, &["--json", "--ack", "accepted", "PUT", "a", "3"], "").await;
    let receipt = accepted.split_once("\"write\":\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    assert_eq!(said(&url, &["AWAIT", receipt, "100ms"], "").await, ok("applied\n"));
    assert_eq!(said(&url, &["AWAIT", "0.9.1"], "").await, ("lost\n".to_owned(), String::new(), 1));
    let (keys, _, _) = said(&url, &["SCAN"], "").await;
    assert_eq!(keys.lines().count(), 6);
}

#[tokio::test]
async fn a_script_goes_on_after_a_failure_and_exits_with_the_first_one() {
    let cluster = FakeCluster::start(1, 1).await;
    let script = "# comment\n\nPUT k \"two words\"\nGET none\nFROB\nGET k\nQUIT\nGET k\n";
    let (stdout, stderr, code) = said(&cluster.url(), &[], script).await;
    assert_eq!(stdout, "applied\ntwo words\n");
    assert_eq!(stderr, "error: there is no command FROB; HELP lists all of them\n");
    assert_eq!(code, 4);
}

#[tokio::test]
async fn usage_is_told_without_a_cluster() {
    let nowhere = "kv://127.0.0.1:1";
    let (stdout, stderr, code) = said(nowhere, &["GET"], "").await;
    assert_eq!((stdout.as_str(), stderr.as_str(), code), ("", "error: the key is missing\nusage: GET key\n", 2));
    assert_eq!(said("redis://x", &["GET", "k"], "").await.2, 2);
    assert_eq!(said(nowhere, &["--timeout", "0", "GET", "k"], "").await.2, 2);
    let help = said(nowhere, &["HELP"], "").await.0;
    assert!(help.contains("PUT key value") && !help.contains("SCALE"), "{help}");
    let (_, stderr, code) = said(nowhere, &["NODE", "ADD"], "").await;
    let expected = "error: NODE ADD works in `kvorum dev`; elsewhere use `kvorum add-node`\n";
    assert_eq!((stderr.as_str(), code), (expected, 2));
    for command in [["SCALE", "5"], ["HELP", "SCALE"]] {
        let (_, stderr, code) = said(nowhere, &command, "").await;
        assert!(stderr.starts_with("error: SCALE works in `kvorum dev`; elsewhere use") && code == 2, "{stderr}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (script, _, code) = said(nowhere, &["--completions", shell], "").await;
        assert!(script.contains("kvorum-cli") && code == 0, "{shell}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_exit_code_three() {
    let cluster = FakeCluster::start(1, 1).await;
    cluster.nodes[0].kill();
    let (_, stderr, code) = said(&cluster.url(), &["GET", "k"], "").await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains(&cluster.nodes[0].address), "{stderr}");
}

#[tokio::test]
async fn errors_of_the_cluster_say_what_became_of_the_command() {
    let cluster = FakeCluster::start(1, 1).await;
    let node = &cluster.nodes[0];
    let url = cluster.url();
    node.script(|request| match is_topology(request) {
        true => Step::Default,
        false => Step::Reply(error(ErrorCode::NotPermitted)),
    });
    let (_, stderr, code) = said(&url, &["PUT", "k", "v"], "").await;
    assert_eq!((stderr.as_str(), code), ("error: scripted (NotPermitted)\n", 1));
    node.script(|request| if is_topology(request) { Step::Default } else { Step::Silence });
    let (_, stderr, code) = said(&url, &["--timeout", "80", "INCR", "k"], "").await;
    assert!(stderr.starts_with("outcome unknown: no answer within"), "{stderr}");
    assert!(stderr.ends_with("; retry is unsafe: it may take effect twice\n"), "{stderr}");
    assert_eq!(code, 3);
}

#[tokio::test]
async fn the_cluster_is_shown() {
    let cluster = FakeCluster::start(3, 4).await;
    let url = cluster.url();
    let (nodes, _, _) = said(&url, &["--csv", "CLUSTER", "NODES"], "").await;
    let header = "name,address,state,uptime_ms,leads,replicas,clients,memory_bytes,id";
    assert_eq!(nodes.lines().next(), Some(header));
    let second = format!("node-2,{},up,3723000,1,4,2,67108864,{}", cluster.nodes[1].address, cluster.nodes[1].id);
    assert_eq!(nodes.lines().nth(2), Some(second.as_str()));
    let (shards, _, _) = said(&url, &["CLUSTER", "SHARDS"], "").await;
    assert_eq!(shards.lines().nth(1), Some("1\tnode-2\t1\tnode-2 node-3 node-1\t5\t2048\t0"));
    assert_eq!(said(&url, &["CLUSTER", "CHECK"], "").await.2, 0);
    cluster.set_leader(2, None);
    let (problems, _, code) = said(&url, &["CLUSTER", "CHECK"], "").await;
    assert_eq!((problems.as_str(), code), ("problem\tshard 2 has no leader\n", 1));
    let (status, _, _) = said(&url, &["--json", "STATUS", "node-3"], "").await;
    assert!(status.starts_with("{\"node\":\"node-"), "{status}");
    let (explained, _, code) = said(&url, &["--json", "EXPLAIN", "k"], "").await;
    assert!(explained.contains("\"replicas\":[\"node-"), "{explained}");
    assert_eq!(code, 4);
}

#[tokio::test]
async fn dangerous_commands_want_a_yes() {
    let cluster = FakeCluster::start(2, 1).await;
    let url = cluster.url();
    let admin = |cluster: &FakeCluster| -> usize {
        let requests = cluster.nodes.iter().flat_map(|node| node.operations());
        requests.filter(|request| matches!(request.body, RequestBody::Admin(_))).count()
    };
    let (_, stderr, code) = said(&url, &["SHUTDOWN", "node-2"], "").await;
    assert_eq!((stderr.as_str(), code), ("error: SHUTDOWN stops a node; say --yes to mean it\n", 2));
    assert_eq!(admin(&cluster), 0);
    assert_eq!(said(&url, &["--yes", "SHUTDOWN", "node-2"], "").await.2, 0);
    assert_eq!(admin(&cluster), 1);
    let (_, stderr, _) = said(&url, &["--yes", "SHUTDOWN", "node-9"], "").await;
    assert_eq!(stderr, "error: there is no node \"node-9\"; there are node-1, node-2\n");
}

/// How the program ends whose stdout and stderr go to these, with nothing on stdin.
async fn exit_code(url: &str, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> i32 {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvorum-cli"));
    program.args(arguments).env("KVORUM_URL", url).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    program.kill_on_drop(true).status().await.unwrap().code().unwrap()
}

/// A device that is full.
fn full() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").unwrap())
}

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Stdio::from(writer)
}

#[tokio::test]
async fn outputs_that_can_not_be_written_cost_an_exit_code_and_no_panic() {
    let cluster = FakeCluster::start(1, 1).await;
    let (url, nowhere) = (cluster.url(), "kv://127.0.0.1:1");
    for (arguments, when_closed, when_full) in [
        (&["--completions", "bash"][..], 0, 1),
        (&["HELP"], 0, 1),
        (&["--help"], 0, 1),
        (&["CLUSTER"], 0, 1),
        (&["GET", "none"], 4, 4),
    ] {
        assert_eq!(exit_code(&url, arguments, closed(), Stdio::null()).await, when_closed, "{arguments:?}");
        assert_eq!(exit_code(&url, arguments, full(), Stdio::null()).await, when_full, "{arguments:?}");
        assert_eq!(exit_code(&url, arguments, full(), full()).await, when_full, "{arguments:?}");
    }
    for stderr in [full, closed] {
        assert_eq!(exit_code(nowhere, &["GET", "k"], Stdio::null(), stderr()).await, 3);
        assert_eq!(exit_code(nowhere, &["FROB"], Stdio::null(), stderr()).await, 2);
        assert_eq!(exit_code(nowhere, &["--frob"], Stdio::null(), stderr()).await, 2);
    }
    let (_, stderr, _) = said(&url, &["PUT", "k", "v"], "").await;
    assert_eq!(stderr, "");
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvorum-cli"));
    program.args(["GET", "k"]).env("KVORUM_URL", &url).stdout(full()).stderr(Stdio::piped());
    let output = program.spawn().unwrap().wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error: the output can't be written: No space left on device"), "{told}");
}

#[tokio::test]
async fn a_scan_ends_when_nobody_reads_it_any_more() {
    let cluster = FakeCluster::start(1, 64).await;
    let url = cluster.url();
    let pairs: Vec<String> = (0..512).map(|number| format!("PUT key-{number} v\n")).collect();
    assert_eq!(said(&url, &["--pipeline", "64"], &pairs.concat()).await.2, 0);
    assert_eq!(exit_code(&url, &["SCAN"], closed(), Stdio::null()).await, 0);
    let operations = cluster.nodes[0].operations();
    let pages = operations.iter().filter(|request| matches!(request.body, RequestBody::Scan(_))).count();
    assert!(pages < 32, "{pages} of 64 shards were read");
}

#[tokio::test]
async fn options_stand_before_or_behind_a_command() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    assert_eq!(said(&url, &["PUT", "k", "--json"], "").await, ok("applied\n"), "a value is a value");
    let json = "{\"key\":\"k\",\"value\":\"--json\",\"version\":1,\"expires_at_ms\":null}\n";
    assert_eq!(said(&url, &["GET", "k", "--json", "--timeout", "3000"], "").await, ok(json));
    assert_eq!(said(&url, &["MGET", "k", "--json"], "").await, ok(json));
    let (_, stderr, code) = said(&url, &["GET", "--json", "k"], "").await;
    assert_eq!((stderr.lines().next(), code), (Some("error: k is too much"), 2));
    assert_eq!(said(&url, &["GET", "k", "--timeout", "0"], "").await.2, 2);
}

#[tokio::test]
async fn raw_output_tells_a_missing_key_from_an_error() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    let refused = || ServerError::new(ErrorCode::NotPermitted, "scripted");
    cluster.nodes[0].script_operations(move |request| match &request.body {
        RequestBody::MultiGet { .. } => Step::Reply(ResponseBody::Values(vec![Ok(None), Err(refused())])),
        RequestBody::Batch { .. } => Step::Reply(ResponseBody::Batch(vec![Err(refused())])),
        _ => Step::Default,
    });
    let told = "error: \"b c\": NotPermitted (not applied): scripted\n";
    assert_eq!(said(&url, &["MGET", "a", "b c"], "").await, ("\n\n".to_owned(), told.to_owned(), 1));
    assert_eq!(said(&url, &["MPUT", "b c", "1"], "").await, ("error\n".to_owned(), told.to_owned(), 1));
    let (csv, stderr, _) = said(&url, &["--csv", "MGET", "a", "b"], "").await;
    assert_eq!((csv.lines().count(), stderr.as_str()), (3, ""), "{csv}");
}

#[tokio::test]
async fn what_is_asked_to_be_returned_is_printed() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    assert_eq!(said(&url, &["PUT", "k", "old", "RETURN"], "").await, ok(""), "there was none");
    assert_eq!(said(&url, &["SET", "k", "new", "GET"], "").await, ok("old"), "exact, as GET prints it");
    assert_eq!(said(&url, &[], "PUT k newer RETURN\n").await, ok("new\n"));
    let json = said(&url, &["PUT", "k2", "v", "RETURN", "--json"], "").await.0;
    assert!(json.contains("\"previous\":null,\"previous_version\":0"), "{json}");
}

#[tokio::test]
async fn a_time_to_live_has_one_shape() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    assert_eq!(said(&url, &["PUT", "k", "v"], "").await.2, 0);
    assert_eq!(said(&url, &["TTL", "k"], "").await, ok("never\n"));
    assert_eq!(said(&url, &["TTL", "none"], "").await, (String::new(), String::new(), 4));
    assert_eq!(said(&url, &["TTL", "k", "--json"], "").await.0, "{\"key\":\"k\",\"ttl_ms\":null,\"version\":1}\n");
    let (json, _, code) = said(&url, &["TTL", "none", "--json"], "").await;
    assert_eq!((json.as_str(), code), ("{\"key\":\"none\",\"ttl_ms\":null,\"version\":0}\n", 4));
}

#[tokio::test]
async fn csv_has_one_header_beside_keys_that_are_not_text() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    assert_eq!(said(&url, &[], "PUT a 1\nPUT \"\\xff\" 2\nPUT z 3\n").await.2, 0);
    let (csv, _, _) = said(&url, &["--csv", "SCAN", "VALUES"], "").await;
    let headers = csv.lines().filter(|line| line.starts_with("key")).count();
    assert_eq!((headers, csv.lines().count()), (1, 4), "{csv}");
    assert!(csv.contains("/w==,2,2,,base64,utf8,,"), "{csv}");
}

#[tokio::test]
async fn a_script_may_begin_with_a_byte_order_mark() {
    let cluster = FakeCluster::start(1, 1).await;
    assert_eq!(said(&cluster.url(), &[], "\u{feff}PUT k v\r\nGET k\r\n").await, ok("applied\nv\n"));
    let (_, stderr, _) = said(&cluster.url(), &[], "PUT k v\n\u{feff}GET k\n").await;
    assert!(stderr.starts_with("error: there is no command \"\\xef\\xbb\\xbfGET\""), "{stderr}");
}

#[tokio::test]
async fn stdin_that_is_not_there_is_no_empty_value() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    assert_eq!(exit_code(&url, &["-x", "PUT", "k"], Stdio::null(), Stdio::null()).await, 2);
    assert_eq!(cluster.nodes[0].operations().len(), 0);
    assert_eq!(said(&url, &["-x", "PUT", "k"], "").await, ok("applied\n"), "an empty pipe is an empty value");
    assert_eq!(said(&url, &["-x", "SCAN"], "LIMIT").await, ok(""), "never an option");
    assert_eq!(said(&url, &["-r", "0", "GET", "k"], "").await.2, 2);
}

#[tokio::test]
async fn a_pipelined_script_waits_for_no_answer_and_keeps_the_order() {
    let cluster = FakeCluster::start(1, 4).await;
    let (url, node) = (cluster.url(), cluster.nodes[0].clone());
    node.script_operations(|_| Step::Hold);
    let script: String = (0..8).map(|number| format!("INCR key-{number} {number}\n")).collect();
    let running = tokio::spawn(async move { said(&url, &["--pipeline", "8"], &script).await });
    node.wait_for(8, |request| matches!(request.body, RequestBody::Write { .. })).await;
    node.script_operations(|_| Step::Default);
    node.release().await;
    assert_eq!(running.await.unwrap(), ok("0\n1\n2\n3\n4\n5\n6\n7\n"));

    let script = "INCR n\nINCR n\nFROB\nGET n\nEXISTS n none\nSCAN n\nPUT n x RETURN\nGET none\nQUIT\nGET n\n";
    let (stdout, stderr, code) = said(&cluster.url(), &["--pipeline", "8"], script).await;
    assert_eq!(stdout, "1\n2\n2\n1\nn\n2\n");
    assert_eq!((stderr.lines().count(), code), (1, 2), "{stderr}");
}

#[tokio::test]
async fn the_timeout_bounds_a_command_of_several_steps_as_a_whole() {
    let cluster = FakeCluster::start(1, 1).await;
    // The first one is asked for with the connection. Of the others, one that comes long enough after a silence is answered: each
    // step takes the second after which another try is made. The client may ask besides, in the background.
    let (mut connects, mut silent_since) = (true, None::<Instant>);
    cluster.nodes[0].script(move |request| {
        if !is_topology(request) || std::mem::take(&mut connects) {
            return Step::Default;
        }
        match silent_since {
            Some(since) if since.elapsed() > Duration::from_millis(500) => {
                silent_since = None;
                Step::Default
            }
            Some(_) => Step::Silence,
            None => {
                silent_since = Some(Instant::now());
                Step::Silence
            }
        }
    });
    let (_, stderr, code) = said(&cluster.url(), &["--timeout", "1500", "TRANSFER", "0", "node-1"], "").await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.starts_with("error: no answer within ") && stderr.contains(" attempts"), "{stderr}");
}

/// What --pipe reports, as JSON, without how long it took.
fn report(stdout: &str) -> String {
    stdout.split(",\"elapsed_ms\"").next().unwrap().to_owned()
}

fn batches(cluster: &FakeCluster) -> usize {
    let requests = cluster.nodes.iter().flat_map(|node| node.operations());
    requests.filter(|request| matches!(request.body, RequestBody::Batch { .. })).count()
}

#[tokio::test]
async fn a_load_takes_lines_and_resp_and_names_what_fails() {
    let cluster = FakeCluster::start(3, 8).await;
    let url = cluster.url();
    let input = "# a comment\nPUT a 1\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$3\r\nx y\r\nFROB\nMPUT c 3 d 4\nSETNX a 2\nGET a\nINCR c\n";
    let (stdout, stderr, code) = said(&url, &["--pipe", "--json"], input).await;
    assert_eq!(
        report(&stdout),
        "{\"commands\":7,\"applied\":5,\"not_applied\":1,\"failed\":2,\"outcome_unknown\":0,\"read_bytes\":90"
    );
    assert_eq!(
        stderr,
        "{\"error\":{\"code\":\"Usage\",\"message\":\"line 3: there is no command FROB; HELP lists all of them\"}}\n\
         {\"error\":{\"code\":\"Usage\",\"message\":\"line 6: GET writes no keys, and --pipe takes writes only\"}}\n"
    );
    assert_eq!(code, 2);
    assert_eq!(said(&url, &["MGET", "a", "b", "c", "d"], "").await, ok("1\nx y\n4\n4\n"));
    let (stdout, _, code) = said(&url, &["--pipe"], "").await;
    assert!(stdout.starts_with("commands\t0\napplied\t0\n") && code == 0, "{stdout}");
    let (_, stderr, code) = said(&url, &["--pipe", "GET", "a"], "").await;
    assert_eq!((stderr.as_str(), code), ("error: --pipe is a command of its own; leave the COMMAND out\n", 2));
}

#[tokio::test]
async fn a_load_goes_out_in_batches_and_keeps_the_order_of_each_key() {
    let cluster = FakeCluster::start(3, 8).await;
    let many: String = (0..5000).map(|number| format!("PUT key-{number} {number}\n")).collect();
    let (stdout, stderr, code) = said(&cluster.url(), &["--pipe", "--json"], &many).await;
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(report(&stdout).contains("\"applied\":5000,\"not_applied\":0,\"failed\":0"), "{stdout}");
    assert!(batches(&cluster) < 150, "{} requests for 5000 writes", batches(&cluster));
    let same: String = (0..20).map(|number| format!("PUT same {number}\nAPPEND same -\n")).collect();
    assert_eq!(said(&cluster.url(), &["--pipe"], &same).await.2, 0);
    assert_eq!(said(&cluster.url(), &["GET", "same"], "").await, ok("19-"));
}

#[tokio::test]
async fn a_load_takes_effect_once_also_if_connections_break() {
    let cluster = FakeCluster::start(1, 4).await;
    let mut breaks = 3;
    cluster.nodes[0].script_operations(move |request| match request.body {
        RequestBody::Batch { .. } if breaks > 0 => {
            breaks -= 1;
            Step::ApplyAndHangUp
        }
        _ => Step::Default,
    });
    let input: String = (0..3).flat_map(|_| (0..40).map(|key| format!("INCR key-{key}\n"))).collect();
    let (stdout, stderr, code) = said(&cluster.url(), &["--pipe", "--json"], &input).await;
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(report(&stdout).contains("\"applied\":120,"), "{stdout}");
    let keys: Vec<String> = (0..40).map(|key| format!("key-{key}")).collect();
    let arguments: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(said(&cluster.url(), &arguments, "").await, ok(&"3\n".repeat(40)));
}

#[tokio::test]
async fn a_load_stops_where_the_cluster_gives_no_answer() {
    let cluster = FakeCluster::start(1, 1).await;
    cluster.nodes[0].script_operations(|request| match &request.body {
        RequestBody::Batch { mutations, .. } if mutations.iter().any(|mutation| &mutation.key[..] == b"stuck") => {
            Step::Silence
        }
        _ => Step::Default,
    });
    // The second write to the key waits for the first one, and so does what stands behind it.
    let input = "PUT a 1\nPUT stuck 1\nPUT stuck 2\nPUT b 1\n";
    let (stdout, stderr, code) = said(&cluster.url(), &["--pipe", "--json", "--timeout", "300"], input).await;
    assert_eq!(code, 3, "{stderr}");
    assert!(stdout.contains("\"failed\":2,\"outcome_unknown\":2,"), "{stdout}");
    assert!(stderr.contains("{\"at\":\"line 2\",\"error\":{\"code\":\"DeadlineExceeded\",\"message\":"), "{stderr}");
    assert!(stderr.contains("nothing behind line 2 was sent; tail -n +3 is what is left"), "{stderr}");
}

#[tokio::test]
async fn ctrl_c_ends_a_load_and_names_the_last_line_that_was_sent() {
    let cluster = FakeCluster::start(1, 1).await;
    let node = cluster.nodes[0].clone();
    node.script_operations(|_| Step::Hold);
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvorum-cli"))
        .arg("--pipe")
        .env("KVORUM_URL", cluster.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // stdin stays open: somebody generates the input.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"PUT a 1\nPUT b 1\n").await.unwrap();
    node.wait_for(1, |request| matches!(request.body, RequestBody::Batch { .. })).await;
    let interrupt = format!("kill -INT {}", child.id().unwrap());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().await.unwrap().success());
    node.release().await;
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    drop(input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "error: interrupted; nothing behind line 2 was sent; tail -n +3 is what is left\n");
    assert!(output.stdout.starts_with(b"commands\t2\napplied\t2\n"));
}

#[tokio::test]
async fn latency_is_measured_so_many_times() {
    let cluster = FakeCluster::start(1, 1).await;
    let url = cluster.url();
    let (json, stderr, code) = said(&url, &["--latency", "--json", "-r", "5", "-i", "0"], "").await;
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(json.starts_with("{\"samples\":5,\"errors\":0,") && json.contains("\"p99_us\":"), "{json}");
    let (_, _, code) = said(&url, &["--latency", "-r", "3", "-i", "0", "PUT", "k", "v"], "").await;
    let writes =
        cluster.nodes[0].operations().into_iter().filter(|request| matches!(request.body, RequestBody::Write { .. }));
    assert_eq!((writes.count(), code), (3, 0));
    let (_, stderr, code) = said(&url, &["--latency", "SCAN"], "").await;
    assert!(stderr.starts_with("error: --latency measures PING and commands on single keys") && code == 2, "{stderr}");
    let (_, stderr, code) = said(&url, &["--latency", "PING", "node-9"], "").await;
    assert_eq!((stderr.as_str(), code), ("error: there is no node \"node-9\"; there are node-1\n", 2));
    cluster.nodes[0].script_operations(|_| Step::Reply(error(ErrorCode::NotPermitted)));
    let (raw, stderr, code) = said(&url, &["--latency", "-r", "2", "-i", "0"], "").await;
    assert!(raw.starts_with("samples\t0\nerrors\t2\n"), "{raw}");
    assert_eq!((stderr.as_str(), code), ("error: scripted (NotPermitted)\n", 1));
}

#[tokio::test]
async fn what_the_cluster_does_is_a_line_per_moment() {
    let cluster = FakeCluster::start(3, 4).await;
    let (csv, stderr, code) = said(&cluster.url(), &["--stat", "--csv", "-r", "2", "-i", "0.02"], "").await;
    assert_eq!((stderr.as_str(), code), ("", 0));
    let lines: Vec<_> = csv.lines().collect();
    let header = "elapsed_ms,nodes_up,shards_led,keys,writes_per_second,syncs_per_second,cpu_percent,memory_bytes,clients,\
                  overloaded_per_second,lag";
    assert_eq!((lines.len(), lines[0]), (3, header));
    assert!(lines[1].contains(",3,4,20,0,0,0,201326592,6,0,0"), "{csv}");
    let (raw, _, _) = said(&cluster.url(), &["--stat", "-i", "0.02", "--for", "0.2"], "").await;
    assert!(raw.lines().all(|line| line.split('\t').count() == 11), "{raw}");
    assert_eq!(exit_code(&cluster.url(), &["--stat", "-i", "0.02"], closed(), Stdio::null()).await, 0);
}

#[tokio::test]
async fn the_largest_values_are_found() {
    let cluster = FakeCluster::start(2, 8).await;
    let url = cluster.url();
    let input: String = (0..64)
        .map(|number| format!("PUT user:{number} \"{}\"\nPUT z{number} {}\n", "x".repeat(number), "y".repeat(99)))
        .collect();
    assert_eq!(said(&url, &["--pipe"], &input).await.2, 0);
    let (raw, stderr, code) = said(&url, &["--bigkeys", "--prefix", "user:"], "").await;
    assert_eq!((stderr.as_str(), code, raw.lines().count()), ("", 0, 20));
    assert_eq!(raw.lines().take(2).collect::<Vec<_>>(), ["63\t\tuser:63\t\t7", "62\t\tuser:62\t\t7"]);
    let (json, _, _) = said(&url, &["--bigkeys", "--json"], "").await;
    let first = r#"{"value_bytes":99,"expires_at_ms":null,"key":"z0","key_base64":null,"key_bytes":2}"#;
    assert_eq!(json.lines().next(), Some(first));
}

#[tokio::test]
async fn what_needs_no_cluster_asks_none() {
    let nowhere = "kv://127.0.0.1:1";
    let (json, _, code) = said(nowhere, &["--intrinsic-latency", "0.1", "--json"], "").await;
    assert!(json.starts_with("{\"ran_ms\":") && code == 0, "{json}");
    for shell in ["bash", "zsh", "fish"] {
        let (script, _, code) = said(nowhere, &["completions", shell], "").await;
        assert!(script.contains("--bigkeys") && code == 0, "{shell}");
    }
    let (_, stderr, code) = said(nowhere, &["completions", "tcsh"], "").await;
    assert_eq!(
        (stderr.as_str(), code),
        ("error: there is no shell tcsh; there are bash, elvish, fish, powershell, zsh\n", 2)
    );
    let folder = tempfile::TempDir::new().unwrap();
    let place = folder.path().join("man1");
    let (stdout, _, code) = said(nowhere, &["man", &place.display().to_string()], "").await;
    assert_eq!((stdout, code), (format!("{}\n", place.join("kvorum-cli.1").display()), 0));
    assert!(std::fs::read_to_string(place.join("kvorum-cli.1")).unwrap().contains("kvorum-cli"));
    let (_, stderr, code) = said(nowhere, &["--pipe"], "PUT a 1\n").await;
    assert_eq!(code, 3, "{stderr}");
}
