//! Elections under load: none should happen on a cluster that is busy and healthy.
//!
//! The peak is that of a closed loop. The open loop after it sends a share of that, whatever the answers do. Terms, which
//! every election begins a new one of, are compared before and after; a term that nobody won counts, too.

use crate::control::Control;
use crate::limits::{CONNECTIONS_MAX, NODES, PIPELINE_MAX};
use crate::options::{OptionError, Plan, parse_duration, within};
use crate::report::{Pretty, Report};
use crate::run::{BenchError, Progress};
use crate::stop;
use crate::storage::nodes::{Nodes, Shape};
use crate::storage::options::{DataOptions, Place};
use crate::storage::{MeasureError, StorageError, Table, median};
use clap::Args;
use kvorum_protocol::limits::SHARDS_MAX;
use kvorum_protocol::{NodeId, NodeInfo, NodeStatus, ShardId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// The pause before each closed loop and before the open one.
const PAUSE: Duration = Duration::from_secs(2);
/// Load before each measured time.
const WARMUP: Duration = Duration::from_secs(1);
/// Requests of the open loop that a connection may have in flight: enough that a stall is not hidden.
const OPEN_PIPELINE: usize = 512;
/// The run is told about this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(OPEN_PIPELINE <= PIPELINE_MAX);

/// How many elections happen under steady load; starts three nodes of its own
#[derive(Args, Debug, Clone)]
pub struct ElectionsOptions {
    #[command(flatten)]
    place: Place,
    /// How long the load lasts
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The load, as a share of the peak; 0.9 is 90 %
    #[arg(long, default_value_t = 0.9)]
    load: f64,
    /// Closed loops that find the peak; it is their median
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each of them measures
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    peak_duration: Duration,
    /// Shards
    #[arg(long, default_value_t = 16)]
    shards: u16,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 50)]
    connections: usize,
    /// Requests that each of them keeps in flight while the peak is looked for
    #[arg(long, short = 'P', default_value_t = 16)]
    pipeline: usize,
    /// The share of reads; the others are durable PUTs
    #[arg(long, default_value_t = 0.0)]
    read_ratio: f64,
    #[command(flatten)]
    data: DataOptions,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

/// Takes about `minutes`, and `rounds × (peak-duration + 3 s)` before; `progress` is told what goes on.
///
/// # Errors
/// The cluster can't be started, loaded or asked for its state. Everything that was started is gone by then.
pub fn elections(options: &ElectionsOptions, progress: &mut (dyn FnMut(String) + Send)) -> Result<Table, MeasureError> {
    options.check()?;
    let shape = Shape { nodes: NODES, shards: options.shards, port_offset: 0, environment: &[], secure: false };
    let nodes = Nodes::start_filled(&options.place, &shape, options.data.keys, options.data.value_size)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StorageError::system("a runtime"))?;
    let mut control = Control::new(nodes.addresses());
    let infos = runtime.block_on(control.topology()).map_err(StorageError::cluster("TOPOLOGY"))?.nodes;
    let mut look = || terms_of_all(&infos, &runtime.block_on(control.statuses(&infos)));

    let closed = Plan {
        read_ratio: options.read_ratio,
        workload: crate::options::Workload::Mixed,
        warmup: WARMUP,
        duration: options.peak_duration,
        ..options.data.plan(&nodes.addresses(), options.connections, options.pipeline)
    };
    let at_start = look()?;
    let mut peaks = Vec::new();
    for _ in 0..options.rounds {
        stop::sleep(PAUSE).map_err(StorageError::from)?;
        let report = crate::run(&closed, |_: Progress| {}).map_err(StorageError::from)?;
        progress(format!("closed loop: {:.0}/s   {}", report.operations_per_second, report.trouble()));
        peaks.push(report.operations_per_second);
    }
    let peak = median(&peaks);
    stop::sleep(PAUSE).map_err(StorageError::from)?;
    let rate = peak * options.load;
    let duration = Duration::from_secs_f64(options.minutes * 60.0);
    let open = Plan { rate: Some(rate), pipeline: OPEN_PIPELINE, duration, ..closed };
    let before = look()?;
    let report = run_told(&open, progress).map_err(StorageError::from)?;
    let after = look()?;
    let phases = [("while the peak was looked for", &at_start, &before), ("under the open loop", &before, &after)];
    let mut table = table(options, &report, peak);
    for (phase, from, to) in phases {
        let (begun, moved) = begun_between(from, to);
        let number = begun.values().sum::<u64>();
        let named: Vec<String> = begun.iter().map(|(shard, terms)| format!("{} of group {}", terms, shard.0)).collect();
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        table.notes.push(format!("Terms that began {phase}: {number}{named}; leaders that changed: {moved}."));
    }
    Ok(table)
}

fn run_told(plan: &Plan, progress: &mut (dyn FnMut(String) + Send)) -> Result<Report, BenchError> {
    let mut told = Duration::ZERO;
    crate::run(plan, |second| {
        if let Progress::Measuring { elapsed, operations_per_second, latency, errors } = second
            && elapsed >= told + TOLD_EVERY
        {
            told = elapsed;
            let (at, p99) = (elapsed.as_secs(), Pretty(latency.p99_us));
            progress(format!("{at:>5} s   {operations_per_second:.0}/s   p99 {p99}   {errors} errors"));
        }
    })
}

/// The term and the leader of each group, as the replica with the highest term says.
type Terms = BTreeMap<ShardId, (Term, Option<NodeId>)>;

/// # Errors
/// A node did not answer: it might be the one that knows of a higher term.
fn terms_of_all(nodes: &[NodeInfo], statuses: &[NodeStatus]) -> Result<Terms, StorageError> {
    if let Some(silent) = nodes.iter().find(|node| !statuses.iter().any(|status| status.node == node.id)) {
        return Err(StorageError::cluster("STATUS")(format!("{} did not answer", silent.name)));
    }
    let mut terms = Terms::new();
    for shard in statuses.iter().flat_map(|status| &status.shards) {
        let known = terms.entry(shard.shard).or_insert((shard.term, shard.leader));
        // Of two that are in the same term, one may not have heard of its leader yet.
        if (shard.term, shard.leader.is_some()) > (known.0, known.1.is_some()) {
            *known = (shard.term, shard.leader);
        }
    }
    Ok(terms)
}

/// How many terms each group began, of those that began any, and how many groups have another leader.
fn begun_between(before: &Terms, after: &Terms) -> (BTreeMap<ShardId, u64>, usize) {
    let mut begun = BTreeMap::new();
    let mut moved = 0;
    for (&shard, &(term, leader)) in after {
        let (term_before, leader_before) = before.get(&shard).copied().unwrap_or_default();
        let terms = term.0.saturating_sub(term_before.0);
        if terms > 0 {
            begun.insert(shard, terms);
        }
        moved += usize::from(leader != leader_before);
    }
    (begun, moved)
}

impl ElectionsOptions {
    fn check(&self) -> Result<(), OptionError> {
        if !(self.minutes > 0.0 && self.minutes <= 24.0 * 60.0) {
            return Err(OptionError::new("minutes", "must be above 0 and at most 1440"));
        }
        if !(self.load > 0.0 && self.load <= 10.0) {
            return Err(OptionError::new("load", "must be above 0 and at most 10"));
        }
        if !(0.0..=1.0).contains(&self.read_ratio) {
            return Err(OptionError::new("read-ratio", "must be from 0 to 1"));
        }
        within("rounds", self.rounds as usize, 1, 100)?;
        within("peak-duration", self.peak_duration.as_millis() as usize, 100, 600_000)?;
        within("shards", self.shards.into(), 1, SHARDS_MAX)?;
        if !self.shards.is_power_of_two() {
            return Err(OptionError::new("shards", "must be a power of two"));
        }
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        within("pipeline", self.pipeline, 1, PIPELINE_MAX)?;
        self.data.check()
    }
}

fn table(options: &ElectionsOptions, report: &Report, peak: f64) -> Table {
    let title = format!(
        "elections: {NODES} nodes, {} shards, durability fsync; {} connections, {:.0} % reads, values of {} B, {} min",
        options.shards,
        options.connections,
        options.read_ratio * 100.0,
        options.data.value_size,
        options.minutes
    );
    let head = ["peak, operations/s", "due/s", "done/s", "p50", "p99", "p99.9", "max", "trouble"];
    let mut table = Table::new(title, &head);
    let trouble = report.trouble();
    table.row(vec![
        format!("{peak:.0}"),
        format!("{:.0}", peak * options.load),
        format!("{:.0}", report.operations_per_second),
        Pretty(report.latency.p50_us).to_string(),
        Pretty(report.latency.p99_us).to_string(),
        Pretty(report.latency.p999_us).to_string(),
        Pretty(report.latency.max_us).to_string(),
        if trouble.is_empty() { "none".to_owned() } else { trouble },
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Durability, LogIndex, ShardRole, ShardStatus, Version};
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn status(number: u128, shards: &[(u16, u64, Option<u128>)]) -> NodeStatus {
        let shard = |&(shard, term, leader): &(u16, u64, Option<u128>)| ShardStatus {
            shard: ShardId(shard),
            role: ShardRole::Follower,
            term: Term(term),
            leader: leader.map(node),
            last_index: LogIndex(1),
            committed: LogIndex(1),
            applied: LogIndex(1),
            version: Version(1),
            keys: 0,
            log_bytes: 0,
            live_bytes: 0,
            compactions: 0,
            compacted_bytes: 0,
            incarnation: 1,
            receiving: None,
        };
        NodeStatus {
            node: node(number),
            name: format!("node-{number}"),
            program_version: String::new(),
            process: 1,
            uptime_ms: 1,
            durability: Durability::Fsync,
            http_port: 0,
            connections: 0,
            peers_up: Vec::new(),
            epoch: kvorum_protocol::Epoch(1),
            stranger: false,
            resident_bytes: 0,
            cpu_us: 0,
            journal_rounds: 0,
            overloaded: 0,
            disk_free_bytes: 0,
            disk_full: false,
            clock_ahead_ms: 0,
            clock_off: false,
            index_bytes: 0,
            hot_keys: Vec::new(),
            shards: shards.iter().map(shard).collect(),
        }
    }

    fn info(number: u128) -> NodeInfo {
        NodeInfo {
            id: node(number),
            name: format!("node-{number}"),
            client_address: String::new(),
            zone: String::new(),
        }
    }

    #[test]
    fn the_highest_term_counts_and_every_node_must_answer() {
        let nodes = [info(1), info(2)];
        let first = status(1, &[(0, 3, Some(1)), (1, 7, None)]);
        let second = status(2, &[(0, 4, Some(2)), (1, 7, Some(2))]);
        let terms = terms_of_all(&nodes, &[first.clone(), second]).unwrap();
        assert_eq!(terms[&ShardId(0)], (Term(4), Some(node(2))));
        assert_eq!(terms[&ShardId(1)], (Term(7), Some(node(2))), "who knows the leader is believed");
        let error = terms_of_all(&nodes, &[first]).unwrap_err().to_string();
        assert!(error.contains("node-2"), "{error}");
    }

    #[test]
    fn terms_are_counted_by_group() {
        let nodes = [info(1)];
        let terms = |shards: &[(u16, u64, Option<u128>)]| terms_of_all(&nodes, &[status(1, shards)]).unwrap();
        let before = terms(&[(0, 3, Some(1)), (1, 7, Some(1)), (2, 1, Some(2))]);
        let after = terms(&[(0, 5, Some(2)), (1, 7, Some(1)), (2, 2, Some(2))]);
        let (begun, moved) = begun_between(&before, &after);
        assert_eq!(begun, BTreeMap::from([(ShardId(0), 2), (ShardId(2), 1)]));
        assert_eq!(moved, 1, "a leader that was elected again has not changed");
        assert_eq!(begun_between(&before, &before), (BTreeMap::new(), 0));
    }
}
