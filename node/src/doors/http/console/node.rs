//! What this process does: its threads, its memory, its configuration and its log.

use super::super::Api;
use super::super::problem::Problem;
use super::super::request::Asked;
use super::no_store;
use crate::runtime::log_ring::{self, LoggedLine};
use crate::runtime::process::{self, ProcessUse};
use crate::runtime::status::Inspector;
use crate::runtime::threads::ThreadsUse;
use axum::extract::{Request, State};
use axum::response::Response;
use kvorum_core::measure::meter::Door;
use kvorum_protocol::ClusterClasses;
use serde::Serialize;
use std::sync::Arc;
use tracing::Level;

/// Lines of the log in an answer, unless the request says how many,
const LINES_DEFAULT: usize = 200;
/// and at most.
const LINES_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
struct NodePage {
    node: Option<u16>,
    started_ms: u64,
    uptime_ms: u64,
    version: &'static str,
    process: u32,
    workers: usize,
    memory: MemoryView,
    disk: DiskView,
    descriptors: (u64, Option<u64>),
    /// Name, how many, processors.
    threads: Vec<(String, u32, Option<f64>)>,
    journal: JournalView,
    /// Name, open connections, requests that wait.
    doors: Vec<(&'static str, u64, u64)>,
    /// Name, value, where it is from; for administrators.
    config: Option<Vec<(&'static str, Option<String>, &'static str)>>,
}

#[derive(Debug, Serialize)]
struct MemoryView {
    resident: u64,
    of_files: u64,
    limit: Option<u64>,
    index: u64,
    index_limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct DiskView {
    free: Option<u64>,
    total: Option<u64>,
    headroom: u64,
    full: bool,
    log_bytes: u64,
    live_bytes: u64,
    folder: String,
}

#[derive(Debug, Serialize)]
struct JournalView {
    rounds: u64,
    bytes: u64,
    queued_bytes: u64,
}

/// `GET /console/node`.
pub(super) async fn node(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let (console, inspector) = (&api.console, &api.inspector);
    let (router, status) = (inspector.router(), inspector.status());
    let usage = ProcessUse::look();
    let (open, limit) = process::descriptors();
    let known = |bytes: u64| Some(bytes).filter(|bytes| *bytes != u64::MAX);
    let figures = console.own_figures();
    let rounded = |threads: ThreadsUse| {
        (threads.name, threads.count, threads.processors.map(|busy| (busy * 1_000.0).round() / 1_000.0))
    };
    let topology = api.topology();
    let page = NodePage {
        node: topology.nodes.iter().position(|known| known.id == router.me()).map(|at| at as u16),
        started_ms: inspector.started_unix_ms(),
        uptime_ms: status.uptime_ms,
        version: env!("CARGO_PKG_VERSION"),
        process: status.process,
        workers: console.config.workers,
        memory: MemoryView {
            resident: usage.resident_bytes,
            of_files: usage.resident_file_bytes,
            limit: process::machine_memory_bytes(),
            index: status.index_bytes,
            index_limit: figures.index_limit_bytes,
        },
        disk: DiskView {
            free: known(status.disk_free_bytes),
            total: figures.disk_total_bytes,
            headroom: console.config.headroom_bytes,
            full: status.disk_full,
            log_bytes: status.shards.iter().map(|shard| shard.log_bytes).sum(),
            live_bytes: status.shards.iter().map(|shard| shard.live_bytes).sum(),
            folder: console.config.data_dir.display().to_string(),
        },
        descriptors: (open, known(limit)),
        threads: console.threads().into_iter().map(rounded).collect(),
        journal: JournalView {
            rounds: inspector.journal().rounds(),
            bytes: inspector.journal().bytes(),
            queued_bytes: inspector.journal().queued_bytes(),
        },
        doors: doors(inspector),
        config: asked.whose.access.may_cluster(ClusterClasses::ADMIN).then(|| console.config.settings.clone()),
    };
    Ok(no_store(&page))
}

fn doors(inspector: &Inspector) -> Vec<(&'static str, u64, u64)> {
    let of = |door: Door| (door.name(), inspector.places().open(door), inspector.doors().waiting(door));
    Door::OF_CLIENTS.map(of).to_vec()
}

#[derive(Debug, Serialize)]
struct LogView {
    /// The oldest line that is kept.
    first: u64,
    /// The number of the next line.
    next: u64,
    /// Lines after the one that was named which are kept no more.
    lost: u64,
    /// Number, time, level, message, fields, module.
    lines: Vec<(u64, u64, &'static str, String, String, &'static str)>,
}

/// `GET /console/log`.
pub(super) async fn log(State(_): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &["after", "limit", "level"])?;
    let after: Option<u64> = asked.query.value("after", "the number of a line")?;
    let limit = asked.query.value("limit", "a number from 1 to 1000")?.unwrap_or(LINES_DEFAULT);
    if !(1..=LINES_MAX).contains(&limit) {
        return Err(Problem::invalid("limit is 1 to 1000"));
    }
    let level = match asked.query.text("level")? {
        None | Some("trace") => Level::TRACE,
        Some("error") => Level::ERROR,
        Some("warn") => Level::WARN,
        Some("info") => Level::INFO,
        Some("debug") => Level::DEBUG,
        Some(_) => return Err(Problem::invalid("level is error, warn, info, debug or trace")),
    };
    let part = log_ring::of_process().part(after, limit, level);
    let line =
        |line: LoggedLine| (line.number, line.at_ms, name_of(line.level), line.message, line.fields, line.target);
    let view = LogView {
        first: part.first,
        next: part.next,
        lost: after.map_or(0, |after| part.first.saturating_sub(after.saturating_add(1))),
        lines: part.lines.into_iter().map(line).collect(),
    };
    Ok(no_store(&view))
}

fn name_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
