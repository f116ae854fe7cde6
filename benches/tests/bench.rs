//! Whole runs against a cluster in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

mod support;

use kvorum_benches::run::Progress;
use kvorum_benches::{BenchError, Options, Plan, Report, run};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::FakeCluster;

fn plan(url: &str, arguments: &str) -> Plan {
    let options = ["kvorum-bench", "--url", url].into_iter().chain(arguments.split_whitespace());
    clap::Parser::try_parse_from(options).map(Options::into_plan).unwrap().unwrap()
}

fn bench(url: &str, arguments: &str) -> Report {
    run(&plan(url, arguments), |_| {}).unwrap()
}

#[test]
fn filled_keys_are_read_from_their_leaders() {
    let fake = FakeCluster::start(3, 8);
    let report = bench(&fake.url, "--fill --keys 1000 --value-size 10 -c 6 -n 5000 --warmup 0s");
    assert_eq!((report.filled, fake.cluster.keys()), (1000, 1000));
    assert!(fake.cluster.all_values_have(10));
    assert_eq!(report.operations, 5000);
    assert_eq!((report.misses, report.forwarded, report.unanswered), (0, 0, 0));
    assert!(report.errors.is_empty() && report.connections_lost.is_empty());
    assert!((0..3).all(|node| fake.cluster.served_by(node) > 0), "connections are spread over the nodes");
    assert!(report.latency.p50_us > 0.0 && report.latency.p50_us <= report.latency.max_us);
    assert_eq!(report.reads, Some(report.latency));
    assert_eq!(report.writes, None);
}

#[test]
fn pipelined_writes_follow_the_rules_of_sequence_numbers() {
    let fake = FakeCluster::start(3, 4);
    let arguments = "--workload mixed --read-ratio 0.3 --keys 500 -c 5 -P 16 -n 20000 --warmup 0s --threads 2";
    let report = bench(&fake.url, arguments);
    // The fake cluster ends a connection that breaks the rules, and that would be reported.
    assert!(report.connections_lost.is_empty(), "{report}");
    assert_eq!(report.operations, 20_000);
    let (reads, writes) = (report.reads.unwrap().count, report.writes.unwrap().count);
    assert!((5_500..6_500).contains(&reads) && reads + writes == 20_000, "about 30 % read: {reads}");
    assert!(fake.cluster.all_values_have(100) && fake.cluster.keys() > 490);
}

#[test]
fn the_servers_cpu_is_divided_by_the_operations() {
    for status_alone in [false, true] {
        let fake = FakeCluster::start(3, 4);
        fake.cluster.faults.status_alone.store(status_alone, Ordering::Relaxed);
        let report = bench(&fake.url, "-c 3 --keys 100 --duration 300ms --warmup 100ms");
        // The fake's CPU time is its count of operations.
        let servers = report.servers.as_ref().expect("all nodes were asked twice");
        assert_eq!(servers.len(), 3);
        let cpu_us = servers.iter().map(|node| node.cpu_us).sum::<u64>();
        assert!(cpu_us > 0 && cpu_us <= fake.cluster.served());
        let per_operation = report.server_cpu_us_per_operation.expect("operations worked");
        assert!((per_operation - cpu_us as f64 / report.operations as f64).abs() < 1e-9);
        assert!(report.bench_cpu_us_per_operation.expect("operations worked") > 0.0);
        assert!(fake.cluster.served() > report.operations, "warm-up is not measured");
    }
}

#[test]
fn overloaded_is_counted_apart_and_waited_for() {
    let fake = FakeCluster::start(1, 1);
    fake.cluster.faults.overloaded_every.store(10, Ordering::Relaxed);
    let report = bench(&fake.url, "-c 2 --keys 100 -n 200 --warmup 0s --workload put");
    assert_eq!((report.overloaded, report.operations), (20, 180));
    assert!(report.errors.is_empty());
    assert!(report.elapsed_seconds > 0.05, "20 times 10 ms of pause on two connections: {}", report.elapsed_seconds);
}

#[test]
fn connections_follow_leaders_that_move() {
    let fake = FakeCluster::start(3, 8);
    fake.cluster.faults.refuse_others.store(true, Ordering::Relaxed);
    fake.cluster.move_leaders_at.store(1000, Ordering::Relaxed);
    let report = bench(&fake.url, "-c 6 --keys 1000 -n 4000 --warmup 0s");
    let refused = report.errors.get("NotLeader").copied().unwrap_or(0);
    assert!((1..500).contains(&refused), "{report}");
    assert_eq!(report.operations + refused, 4000);
}

#[test]
fn any_route_is_forwarded() {
    let fake = FakeCluster::start(3, 8);
    let report = bench(&fake.url, "-c 3 --keys 1000 -n 3000 --warmup 0s --route any");
    assert!((1500..2500).contains(&report.forwarded), "about two in three: {}", report.forwarded);
}

#[test]
fn lost_connections_are_reported_and_opened_again() {
    let fake = FakeCluster::start(3, 4);
    fake.cluster.faults.close_every.store(100, Ordering::Relaxed);
    let report = bench(&fake.url, "--fill --keys 300 -c 4 -P 4 -n 1000 --warmup 0s --workload put");
    assert_eq!(fake.cluster.keys(), 300, "filling writes the keys of lost connections again");
    assert!(report.connections_lost.values().sum::<u64>() >= 5, "{report}");
    assert!(report.reconnected >= 5 && report.unanswered >= 5);
    assert!(report.operations > 900);
}

#[test]
fn a_server_that_says_nothing_does_not_hold_the_run() {
    let fake = FakeCluster::start(1, 1);
    fake.cluster.faults.silent.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let report = bench(&fake.url, "-c 3 -P 2 --keys 10 --duration 200ms --warmup 0s --timeout 100ms");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(!report.worked());
    assert_eq!(report.unanswered, 6);
    assert!(report.unanswered_wait_max_us >= 200_000.0, "{}", report.unanswered_wait_max_us);
    assert_eq!(report.server_cpu_us_per_operation, None);
}

#[test]
fn bytes_that_are_no_reply_end_the_connection() {
    let fake = FakeCluster::start(1, 1);
    fake.cluster.faults.garbage.store(true, Ordering::Relaxed);
    let report = bench(&fake.url, "-c 1 --keys 10 --duration 200ms --warmup 0s");
    assert!(!report.worked());
    assert!(report.connections_lost.keys().all(|reason| reason.contains("not a reply")), "{report}");
    assert!(report.connections_lost.values().sum::<u64>() > 0);
}

#[test]
fn a_cluster_that_is_not_there_is_an_error() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let error = run(&plan(&format!("kv://{closed}"), "--duration 1s"), |_| {}).unwrap_err();
    assert!(matches!(error, BenchError::Unreachable { .. }), "{error}");
}

#[test]
fn progress_is_told_each_second() {
    let fake = FakeCluster::start(1, 2);
    let mut seen = Vec::new();
    let progress = |progress| {
        if let Progress::Measuring { operations_per_second, errors, .. } = progress {
            seen.push((operations_per_second, errors));
        }
    };
    run(&plan(&fake.url, "-c 2 --keys 10 --duration 1500ms --warmup 0s"), progress).unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|&(per_second, errors)| per_second > 0.0 && errors == 0), "{seen:?}");
}

#[test]
fn a_report_is_json_and_text() {
    let fake = FakeCluster::start(1, 1);
    let report = bench(&fake.url, "-c 1 --keys 10 -n 100 --warmup 0s --workload put --ack accepted");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["operations"], 100);
    assert_eq!(json["load"]["workload"], "put");
    assert_eq!(json["load"]["ack"], "accepted");
    assert_eq!(json["cluster"]["durability"], "fsync");
    assert!(json["latency"]["p999_us"].as_f64().unwrap() > 0.0);
    let text = report.to_string();
    assert!(text.contains("PUT, ack accepted; 1 connections × 1 in flight") && text.contains("throughput"), "{text}");
}

#[test]
fn every_ycsb_workload_reads_what_was_written() {
    for (workload, reads) in [("ycsb-a", 0.5), ("ycsb-b", 0.95), ("ycsb-c", 1.0), ("ycsb-f", 0.5)] {
        let fake = FakeCluster::start(3, 8);
        let arguments = format!("--fill --workload {workload} --keys 1000 -c 6 -n 5000 --warmup 0s");
        let report = bench(&fake.url, &arguments);
        assert_eq!((report.operations, report.misses, report.forwarded), (5000, 0, 0), "{workload}: {report}");
        let read = report.reads.map_or(0, |reads| reads.count) as f64 / 5000.0;
        assert!((read - reads).abs() < 0.05, "{workload}: {read}");
        assert_eq!(fake.cluster.keys(), 1000, "{workload} inserts nothing");
    }
}

#[test]
fn ycsb_d_inserts_and_reads_the_latest() {
    let fake = FakeCluster::start(3, 8);
    let report = bench(&fake.url, "--fill --workload ycsb-d --keys 1000 -c 1 -n 5000 --warmup 0s");
    let inserted = report.writes.unwrap().count as usize;
    assert!((150..350).contains(&inserted), "about 5 %: {inserted}");
    assert_eq!(fake.cluster.keys(), 1000 + inserted, "each insert is of a new key");
    assert_eq!((report.misses, report.forwarded), (0, 0), "one connection reads no key before it is written");
}

#[test]
fn an_open_loop_keeps_its_rate_whatever_the_pipeline_allows() {
    let fake = FakeCluster::start(3, 8);
    let report = bench(&fake.url, "-c 6 -P 8 --keys 100 --rate 1000 --duration 1s --warmup 100ms");
    assert_eq!(report.operations + report.unsent + report.unanswered, 1000, "{report}");
    assert!(report.operations > 500, "{report}");
}

#[test]
fn an_open_loop_tells_what_a_silent_server_kept_it_from_sending() {
    let fake = FakeCluster::start(1, 1);
    fake.cluster.faults.silent.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let report = bench(&fake.url, "-c 2 -P 3 --keys 10 --rate 1000 --duration 300ms --warmup 0s --timeout 5s");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!((report.operations, report.unanswered, report.unsent), (0, 6, 294), "{report}");
}
