//! `kvorum-bench compare` with the servers that need no other program.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of 100 ports, of which those of the null server are free. They lie below the ports that Linux gives to outgoing
/// connections (from 32768 on); test processes that run at the same time begin at different ones, and the tests of one are
/// each given their own.
fn free_base_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 80;
    let next = || 12_000 + (start + GIVEN.fetch_add(1, Ordering::Relaxed)) % 80 * 100;
    (0..80).map(|_| next()).find(|&base| ports_are_free(base)).expect("some ports are free")
}

/// Whether no null server listens on those ports.
fn ports_are_free(base: u16) -> bool {
    (60..63).all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, base + offset)).is_ok())
}

/// A folder for the servers' data in memory, if there is one: a disk may take longer for one write than a whole turn does.
fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn compare(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvorum-bench"));
    command.args(["compare", "--base-port", &free_base_port().to_string()]);
    command.args(arguments.split_whitespace()).output().unwrap()
}

#[test]
fn the_null_server_takes_every_load_in_turn() {
    let loads = "get:4,get:4x8,put:4,put:4x8,memory:4x8";
    let options =
        "--systems null --rounds 2 --duration 100ms --warmup 20ms --pause 0s --keys 500 --latency-at 0.3 --json";
    let folder = folder_in_memory();
    let output = compare(&format!("{options} --loads {loads} --dir {}", folder.path().display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let comparison: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let turns = comparison["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 20, "closed loops and open ones");
    let is_open = |turn: &&serde_json::Value| turn["load"]["rate"].is_number();
    assert_eq!(turns.iter().filter(is_open).count(), 10);
    for turn in turns {
        let report = &turn["report"];
        assert!(report["operations"].as_u64().unwrap() > 0, "{turn}");
        for trouble in ["misses", "forwarded", "overloaded", "unanswered"] {
            assert_eq!(report[trouble], 0, "{trouble}: {turn}");
        }
        assert_eq!(report["errors"], serde_json::json!({}), "{turn}");
        assert_eq!(report["connections_lost"], serde_json::json!({}), "{turn}");
        assert!(report["server_cpu_us_per_operation"].as_f64().is_some(), "{turn}");
    }
}

#[test]
fn a_signal_ends_everything_that_was_started() {
    for (signal, progress_before) in [(Signal::TERM, 1), (Signal::INT, 3)] {
        let (base, folder) = (free_base_port(), tempfile::tempdir().unwrap());
        let options = "compare --systems null --loads put:4 --rounds 1000 --duration 200ms --warmup 0s --pause 50ms";
        let mut child = Command::new(env!("CARGO_BIN_EXE_kvorum-bench"))
            .args(options.split_whitespace())
            .args(["--base-port", &base.to_string(), "--dir"])
            .arg(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line tells of the start, the others of turns.
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(told.by_ref().take(progress_before).count(), progress_before);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let last = told.last().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(last, "kvorum-bench: stopped by a signal");
        assert!(ports_are_free(base), "a server is left");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a server's folder is left");
    }
}

#[test]
fn comparisons_go_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, plot) = (folder.path().join("turns.csv"), folder.path().join("medians.svg"));
    let files = format!("--csv {} --plot {}", csv.display(), plot.display());
    let options = "--systems null --loads get:2,put:2 --rounds 2 --duration 50ms --warmup 0s --pause 0s --keys 500";
    let data = folder_in_memory();
    let output = compare(&format!("{options} {files} --dir {}", data.path().display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("GET, 2 connections"),
        "the table is printed all the same"
    );
    let rows = fs::read_to_string(csv).unwrap();
    assert_eq!(rows.lines().count(), 1 + 4, "{rows}");
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.contains("durable PUT, 2 connections") && svg.ends_with("</svg>\n"), "{svg}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let output = compare("--systems redis --loads get:1 --redis /does/not/exist --rounds 1");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Redis") && said.contains("/does/not/exist"), "{said}");
}

#[test]
fn options_out_of_bounds_are_usage_errors() {
    for (arguments, name) in [("--rounds 0", "--rounds"), ("--loads get", "get"), ("--systems mongo", "mongo")] {
        let output = compare(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{arguments}");
    }
}
