//! Every key is overwritten several times, on two clusters in turn: one that compacts and one that does not.

use super::nodes::{Nodes, Shape};
use super::options::{OverwriteOptions, Place};
use super::watch::{disk_bytes, written_bytes};
use super::{KEY_BYTES, StorageError, Table, plan, spread};
use crate::limits::NODES;
use crate::options::Plan;
use crate::run::Progress;
use crate::stop::{self, Stopped};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Ports that one cluster uses.
const CLUSTER_PORTS: u16 = 25;
/// A cluster is quiet when it has written less than this in [`QUIET_FOR`].
const QUIET_BYTES: u64 = 1 << 20;
const QUIET_FOR: Duration = Duration::from_secs(3);
/// A cluster that is not quiet by then is left as it is.
const QUIET_LIMIT: Duration = Duration::from_secs(120);
const MEBIBYTE: f64 = (1 << 20) as f64;

struct Side {
    name: String,
    nodes: Nodes,
    written_before: u64,
    writes: u64,
    per_second: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// MiB of all nodes' files at the ends of its turns.
    files: Vec<f64>,
    files_most: f64,
    /// Requests that did not work, by the name of the error.
    refused: BTreeMap<String, u64>,
}

pub(super) fn measure(
    place: &Place,
    options: &OverwriteOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Table, StorageError> {
    let keys = (u64::from(options.data_mb) * (1 << 20) / options.value_size.max(1) as u64) as u32;
    let mut sides = [
        Side::new(place, options, keys, format!("compaction at {} MiB/s", options.rate_mb), options.rate_mb, 0)?,
        Side::new(place, options, keys, "no compaction".to_owned(), 0, CLUSTER_PORTS)?,
    ];
    progress(format!("{keys} keys are written to both clusters"));
    let wanted = u64::from(options.times) * u64::from(keys);
    for turn in 0..options.turns_max {
        for side in &mut sides {
            side.take_turn(options, keys, progress)?;
        }
        progress(format!("turn {turn}: {:.1} of {} times", sides[0].writes as f64 / f64::from(keys), options.times));
        if sides[0].writes >= wanted {
            break;
        }
    }
    let title = format!(
        "overwrite: {} MiB in {keys} values of {} B, 3 nodes, {} shards, {} connections × {}, turns of {:.0} s",
        options.data_mb,
        options.value_size,
        options.shards,
        options.connections,
        options.pipeline,
        options.phase.as_secs_f64(),
    );
    let head = [
        "cluster",
        "durable PUT/s",
        "p50, ms",
        "p99, ms",
        "overwritten, times",
        "written per user byte and replica",
        "files per live byte, end",
        "files per live byte, most",
    ];
    let mut table = Table::new(title, &head);
    for side in &mut sides {
        side.report(options, keys, &mut table)?;
    }
    let ratio = |values: fn(&Side) -> &Vec<f64>| super::median(values(&sides[0])) / super::median(values(&sides[1]));
    let (throughput, p99) = (ratio(|side| &side.per_second), ratio(|side| &side.p99_ms));
    table.notes.push(format!("With compaction against without: throughput {throughput:.2}×, p99 {p99:.2}×."));
    table.notes.push(
        "A user byte is one of a key or a value; \"written\" is what the kernel counts for the processes, journal and \
         compaction included. A live byte is a user byte of a key's last value; \"files\" includes what is allocated ahead, \
         and the journal."
            .into(),
    );
    Ok(table)
}

impl Side {
    fn new(
        place: &Place,
        options: &OverwriteOptions,
        keys: u32,
        name: String,
        rate_mb: u32,
        port_offset: u16,
    ) -> Result<Self, StorageError> {
        let environment = [("KVORUM_COMPACTION_RATE_MB", rate_mb.to_string())];
        let shape =
            Shape { nodes: NODES, shards: options.shards, port_offset, environment: &environment, secure: false };
        let nodes = Nodes::start_filled(place, &shape, keys, options.value_size)?;
        let written_before = settle(&nodes)?;
        Ok(Self {
            name,
            nodes,
            written_before,
            writes: 0,
            per_second: Vec::new(),
            p50_ms: Vec::new(),
            p99_ms: Vec::new(),
            files: Vec::new(),
            files_most: 0.0,
            refused: BTreeMap::new(),
        })
    }

    fn take_turn(
        &mut self,
        options: &OverwriteOptions,
        keys: u32,
        progress: &mut dyn FnMut(String),
    ) -> Result<(), StorageError> {
        let load = Plan {
            connections: options.connections,
            pipeline: options.pipeline,
            duration: options.phase,
            ..plan(&self.nodes.addresses(), keys, options.value_size)
        };
        let folders = self.folders();
        let mut most: f64 = 0.0;
        let report = crate::run(&load, |_: Progress| most = most.max(mebibytes(&folders)))?;
        let writes = report.writes.unwrap_or(report.latency);
        self.writes += writes.count;
        self.per_second.push(report.operations_per_second);
        self.p50_ms.push(writes.p50_us / 1000.0);
        self.p99_ms.push(writes.p99_us / 1000.0);
        let refused = report.errors.into_iter().chain([("Overloaded".to_owned(), report.overloaded)]);
        for (error, count) in refused.filter(|(_, count)| *count > 0) {
            *self.refused.entry(error).or_default() += count;
        }
        self.files_most = self.files_most.max(most);
        self.files.push(mebibytes(&folders));
        progress(format!(
            "{}: {:.0}/s, p99 {:.1} ms, files {most:.0} MiB",
            self.name,
            report.operations_per_second,
            writes.p99_us / 1000.0
        ));
        // What it has left to do must not disturb the other one.
        settle(&self.nodes)?;
        Ok(())
    }

    fn folders(&self) -> Vec<PathBuf> {
        (1..=NODES).map(|node| self.nodes.data_dir(node)).collect()
    }

    fn report(&mut self, options: &OverwriteOptions, keys: u32, table: &mut Table) -> Result<(), StorageError> {
        let written = settle(&self.nodes)?.saturating_sub(self.written_before);
        let record = (KEY_BYTES + options.value_size) as u64;
        let per_byte = written as f64 / (self.writes * record).max(1) as f64 / NODES as f64;
        let live = u64::from(keys) as f64 * record as f64 / MEBIBYTE * NODES as f64;
        let at_end = mebibytes(&self.folders());
        table.row(vec![
            self.name.clone(),
            spread(&self.per_second, 0),
            spread(&self.p50_ms, 1),
            spread(&self.p99_ms, 1),
            format!("{:.1}", self.writes as f64 / f64::from(keys)),
            format!("{per_byte:.2}"),
            format!("{:.2}", at_end / live),
            format!("{:.2}", self.files_most / live),
        ]);
        let files = self.files.iter().map(|files| format!("{:.2}", files / live)).collect::<Vec<_>>().join(", ");
        table.notes.push(format!("Files per live byte at the end of each turn, {}: {files}.", self.name));
        for (error, count) in &self.refused {
            table.notes.push(format!("{}: {count} requests were refused or failed: {error}.", self.name));
        }
        Ok(())
    }
}

/// Waits until a cluster writes nothing any more, or for [`QUIET_LIMIT`]; returns what it has written since it started.
///
/// # Errors
/// A signal has come.
fn settle(nodes: &Nodes) -> Result<u64, Stopped> {
    let began = Instant::now();
    let written = || {
        rustix::fs::sync();
        nodes.processes().into_iter().map(written_bytes).sum::<u64>()
    };
    let mut last = written();
    loop {
        stop::sleep(QUIET_FOR)?;
        let now = written();
        if now.saturating_sub(last) < QUIET_BYTES || began.elapsed() > QUIET_LIMIT {
            return Ok(now);
        }
        last = now;
    }
}

fn mebibytes(folders: &[PathBuf]) -> f64 {
    folders.iter().map(|folder| disk_bytes(folder)).sum::<u64>() as f64 / MEBIBYTE
}
