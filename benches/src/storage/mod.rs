//! What storage costs: restarts, write amplification, and a node that lost its disk. Each of these starts nodes of its own in
//! a temporary folder, loads them with the same engine as `kvorum-bench`, and is bounded in time.
//!
//! ```text
//! options ─► restart, overwrite, wiped ─► nodes (processes), watch (/proc, files), redis (a peer), crate::run (load) ─► table
//! ```

pub(crate) mod nodes;
pub(crate) mod options;
mod overwrite;
mod redis;
mod restart;
pub(crate) mod rings;
pub(crate) mod table;
mod watch;
mod wiped;

pub use options::StorageOptions;
pub use table::Table;

use crate::control::Control;
use crate::keys::key_bytes_min;
use crate::options::{BenchProtocol, Distribution, OptionError, Plan, Replicated, Route, Workload};
use crate::run::{BenchError, Progress};
use crate::stop::Stopped;
use kvorum_protocol::{Ack, NodeStatus, ReadMode, ShardId, ShardRole};
use options::Measure;
use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a key.
const KEY_BYTES: usize = 16;
/// Requests in flight on each connection while data is loaded that nothing is measured of.
const LOAD_PIPELINE: usize = 64;
/// Connections that load it.
const LOAD_CONNECTIONS: usize = 32;

/// Entries that a replica may be behind its leader under load and count as caught up.
const LAG_MAX: u64 = 1_000;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// An option makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A cluster could not be started, loaded or asked, or took longer than it may.
    #[error(transparent)]
    Failed(#[from] StorageError),
}

/// Why a measurement ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// The load could not run.
    #[error(transparent)]
    Load(#[from] BenchError),
    /// A program ended with a failure.
    #[error("{program} failed; its last lines: {log}")]
    Program {
        /// Which.
        program: String,
        /// What it wrote last.
        log: String,
    },
    /// The cluster did not do what it was asked.
    #[error("{what}: {reason}")]
    Cluster {
        /// What was asked.
        what: String,
        /// What came of it.
        reason: String,
    },
    /// Something took longer than it may.
    #[error("{what}: not within {limit:?}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A server gave an answer that can't be right. This is worse than any figure.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// A signal has come.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StorageError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }

    pub(crate) fn cluster<E: Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Cluster { what: what.to_owned(), reason: error.to_string() }
    }
}

/// Runs the measurement that `options` asks for; `progress` is told what goes on.
///
/// # Errors
/// Whatever kept it from its end. Everything that it started is gone by then.
pub fn run_storage(options: &StorageOptions, progress: &mut dyn FnMut(String)) -> Result<Table, StorageError> {
    match &options.measure {
        Measure::Restart(restart) => restart::measure(&options.place, restart, progress),
        Measure::Overwrite(overwrite) => overwrite::measure(&options.place, overwrite, progress),
        Measure::Wiped(wiped) => wiped::measure(&options.place, wiped, progress),
    }
}

/// A load on the nodes at `addresses`.
pub(crate) fn plan(addresses: &[String], keys: u32, value_bytes: usize) -> Plan {
    assert!(KEY_BYTES >= key_bytes_min(keys));
    Plan {
        seeds: addresses.to_vec(),
        protocol: BenchProtocol::Binary,
        workload: Workload::Put,
        read_ratio: 0.0,
        connections: LOAD_CONNECTIONS,
        pipeline: LOAD_PIPELINE,
        threads: 1,
        rate: None,
        distribution: Distribution::Uniform,
        keys,
        key_bytes: KEY_BYTES,
        value_bytes,
        ack: Ack::Committed,
        read_mode: ReadMode::Linearizable,
        replicated: Replicated::No,
        route: Route::Leaders,
        duration: Duration::from_secs(1),
        operations: None,
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(20),
        fill: false,
        seed: 1,
    }
}

/// Writes every key once, and a few more for a moment.
pub(crate) fn fill(addresses: &[String], keys: u32, value_bytes: usize) -> Result<(), StorageError> {
    let plan = Plan { fill: true, ..plan(addresses, keys, value_bytes) };
    crate::run(&plan, |_: Progress| {})?;
    Ok(())
}

/// The states of the nodes that answer.
pub(crate) async fn statuses(addresses: &[String]) -> Vec<NodeStatus> {
    let mut statuses: Vec<NodeStatus> = Vec::new();
    for address in addresses {
        let mut control = Control::new(vec![address.clone()]);
        statuses.extend(control.own_status().await);
    }
    statuses
}

/// How many replicas of the node with this process vote and are in step with their leaders.
pub(crate) fn whole_replicas(statuses: &[NodeStatus], process: u32) -> usize {
    let mut committed: HashMap<ShardId, u64> = HashMap::new();
    for shard in statuses.iter().flat_map(|status| &status.shards) {
        let known = committed.entry(shard.shard).or_default();
        *known = shard.committed.0.max(*known);
    }
    let own = statuses.iter().filter(|status| status.process == process).flat_map(|status| &status.shards);
    own.filter(|shard| {
        let votes = matches!(shard.role, ShardRole::Follower | ShardRole::Leader);
        votes && shard.leader.is_some() && shard.applied.0 + LAG_MAX >= committed[&shard.shard]
    })
    .count()
}

/// The middle one; of an even number the upper of both. Zero if there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// `median (lowest–highest)` with so many decimals.
pub(crate) fn spread(values: &[f64], decimals: usize) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(0.0, f64::max);
    match values.len() {
        0 => "—".to_owned(),
        1 => format!("{lowest:.decimals$}"),
        _ => format!("{:.decimals$} ({lowest:.decimals$}–{highest:.decimals$})", median(values)),
    }
}

/// The program beside this one, unless another is named.
pub(crate) fn program(named: Option<&PathBuf>) -> PathBuf {
    let beside = || std::env::current_exe().ok()?.parent().map(|folder| folder.join("kvorum"));
    named.cloned().or_else(beside).unwrap_or_else(|| PathBuf::from("kvorum"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_both_ends_are_told() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0], 1), "2.0 (1.0–3.0)");
        assert_eq!(spread(&[3.0], 0), "3");
        assert_eq!(spread(&[], 0), "—");
    }
}
