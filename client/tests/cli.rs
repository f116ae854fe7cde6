//! The program `kvorum-cli` itself, against a fake cluster: what it prints, where, and how it exits.

#![allow(clippy::unwrap_used)] // what can't be unwrapped here has failed the test

mod fake;

use fake::{FakeCluster, Step, error, is_topology};
use kvorum_client::ErrorCode;
use std::process::{Output, Stdio};
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
    assert_eq!(csv.lines().next(), Some("key,status,version,ack,durability"));
    assert_eq!(said(&url, &["EXISTS", "a", "b", "c"], "").await, ok("2\n"));
    let (keys, _, _) = said(&url, &["SCAN"], "").await;
    assert_eq!(keys.lines().count(), 5);
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
    assert!(said(nowhere, &["HELP"], "").await.0.contains("PUT key value"));
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
        requests.filter(|request| matches!(request.body, kvorum_protocol::RequestBody::Admin(_))).count()
    };
    let (_, stderr, code) = said(&url, &["SHUTDOWN", "node-2"], "").await;
    assert_eq!((stderr.as_str(), code), ("error: SHUTDOWN stops a node; say --yes to mean it\n", 2));
    assert_eq!(admin(&cluster), 0);
    assert_eq!(said(&url, &["--yes", "SHUTDOWN", "node-2"], "").await.2, 0);
    assert_eq!(admin(&cluster), 1);
    let (_, stderr, _) = said(&url, &["--yes", "SHUTDOWN", "node-9"], "").await;
    assert_eq!(stderr, "error: there is no node \"node-9\"; there are node-1, node-2\n");
}
