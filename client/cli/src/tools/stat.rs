//! `--stat`: what the cluster does, a line at a time, out of what its nodes say of themselves (STATUS).
//!
//! Writes are those that took effect: the growth of each shard's version, which replicas share, so that a change of leader loses
//! none. What STATUS does not tell is not here: reads are counted in the metrics of each node's HTTP door only.

use super::Bench;
use crate::args::Pace;
use crate::console::complain;
use crate::exit::Exit;
use crate::live::thousands;
use crate::output::{Cell, Output};
use crate::run::{Emit, Failure};
use crate::text::{duration, size};
use kvorum_client::{NodeId, NodeStatus, ShardId, ShardRole, Topology};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Lines for people between two heads.
const LINES_PER_HEAD: u64 = 20;

/// The columns, as programs get them; and their heads and widths for people, who go without those that have no head.
const COLUMNS: [(&str, &str, usize); 11] = [
    ("elapsed_ms", "elapsed", 8),
    ("nodes_up", "nodes", 6),
    ("shards_led", "led", 7),
    ("keys", "keys", 13),
    ("writes_per_second", "writes/s", 9),
    ("syncs_per_second", "syncs/s", 8),
    ("cpu_percent", "cpu", 6),
    ("memory_bytes", "memory", 10),
    ("clients", "clients", 8),
    ("overloaded_per_second", "refused/s", 10),
    ("lag", "lag", 5),
];

/// The totals of a moment.
#[derive(Clone, PartialEq, Debug)]
struct Sample {
    at: Duration,
    nodes: usize,
    nodes_up: usize,
    shards: usize,
    led: usize,
    keys: Option<u64>,
    memory_bytes: u64,
    clients: u64,
    /// Entries that the slowest replica is behind.
    lag: u64,
    versions: BTreeMap<ShardId, u64>,
    /// Per node, which process it is, and what that has counted: rounds of the journal, refusals, CPU time in microseconds.
    counts: BTreeMap<NodeId, (u32, [u64; 3])>,
}

/// Prints a line per sample until ctrl-c, the number of samples, or the time ends it.
///
/// # Errors
/// No sample could be taken at all.
pub(super) async fn stat(bench: Bench<'_>, pace: Pace, emit: Emit<'_>) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut last: Option<Sample> = None;
    let (mut lines, mut failed) = (0, None);
    let mut ticks = tokio::time::interval(pace.every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        while lines < pace.samples {
            ticks.tick().await;
            match take(&bench, began).await {
                Ok(sample) => {
                    // The first one has nothing to compare with.
                    let Some(before) = last.replace(sample.clone()) else { continue };
                    lines += 1;
                    if !say(&bench, &sample.since(&before), lines, emit) {
                        return;
                    }
                }
                Err(error) => {
                    lines += 1;
                    complain(&bench.printer.render_error(&error, true));
                    failed = Some(error);
                }
            }
        }
    };
    let end = tokio::time::sleep(pace.lasts.min(Duration::from_secs(365 * 86_400)));
    tokio::select! {
        () = watching => {}
        () = end => {}
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
    match failed {
        Some(error) => Ok(Exit::of(&error)),
        None => Ok(Exit::Ok),
    }
}

async fn take(bench: &Bench<'_>, began: Instant) -> Result<Sample, kvorum_client::Error> {
    let client = bench.client.within(bench.deadline);
    let statuses = client.status().await?;
    let topology = client.topology().await?;
    Ok(Sample::of(began.elapsed(), &topology, &statuses))
}

/// Prints a line. Returns whether more is wanted.
fn say(bench: &Bench<'_>, row: &[Cell], line: u64, emit: Emit<'_>) -> bool {
    if !bench.is_for_people() {
        return emit(Output::Table { columns: &NAMES, rows: vec![row.to_vec()] });
    }
    let columns = bench.printer.width.map_or(usize::MAX, usize::from);
    let head = (line % LINES_PER_HEAD == 1).then(|| bench.printer.dim(&head(columns)) + "\n");
    emit(Output::Text(head.unwrap_or_default() + &shown(row, columns) + "\n"))
}

const NAMES: [&str; COLUMNS.len()] = {
    let mut names = [""; COLUMNS.len()];
    let mut at = 0;
    while at < COLUMNS.len() {
        names[at] = COLUMNS[at].0;
        at += 1;
    }
    names
};

/// So many of the first columns fit.
fn fitting(columns: usize) -> usize {
    let mut used = 0;
    COLUMNS
        .iter()
        .take_while(|(_, _, width)| {
            used += width;
            used <= columns
        })
        .count()
}

fn head(columns: usize) -> String {
    COLUMNS.iter().take(fitting(columns)).map(|(_, head, width)| format!("{head:>width$}")).collect()
}

fn shown(row: &[Cell], columns: usize) -> String {
    let cells = row.iter().zip(COLUMNS).take(fitting(columns));
    cells.map(|(cell, (_, _, width))| format!("{:>width$}", cell.shown)).collect()
}

impl Sample {
    fn of(at: Duration, topology: &Topology, statuses: &[NodeStatus]) -> Self {
        let replicas = || statuses.iter().flat_map(|node| &node.shards).filter(|shard| shard.shard != ShardId::META);
        let mut versions = BTreeMap::new();
        let mut applied: BTreeMap<ShardId, u64> = BTreeMap::new();
        for replica in replicas() {
            let version: &mut u64 = versions.entry(replica.shard).or_default();
            *version = (*version).max(replica.version.0);
            let slowest = applied.entry(replica.shard).or_insert(u64::MAX);
            *slowest = (*slowest).min(replica.applied.0);
        }
        let leaders = || replicas().filter(|replica| replica.role == ShardRole::Leader);
        let count =
            |node: &NodeStatus| (node.node, (node.process, [node.journal_rounds, node.overloaded, node.cpu_us]));
        Self {
            at,
            nodes: topology.nodes.len(),
            nodes_up: statuses.len(),
            shards: topology.shards.len(),
            led: topology.shards.iter().filter(|shard| shard.leader.is_some()).count(),
            keys: crate::cluster::keys(topology, statuses).value.as_u64(),
            memory_bytes: statuses.iter().map(|node| node.resident_bytes).sum(),
            clients: statuses.iter().map(|node| u64::from(node.connections)).sum(),
            lag: leaders().map(|leader| leader.committed.0.saturating_sub(applied[&leader.shard])).max().unwrap_or(0),
            versions,
            counts: statuses.iter().map(count).collect(),
        }
    }

    /// The line of this sample, with what has happened since an earlier one.
    fn since(&self, before: &Self) -> Vec<Cell> {
        let seconds = self.at.saturating_sub(before.at).as_secs_f64().max(1e-3);
        let grown = self.versions.iter().map(|(shard, version)| {
            // Of a shard that nobody told of before, nobody knows when it was written.
            before.versions.get(shard).map_or(0, |earlier| version.saturating_sub(*earlier))
        });
        let writes = (grown.sum::<u64>() as f64 / seconds).round() as u64;
        let of = |which: usize| -> f64 {
            let grown = self.counts.iter().map(|(node, (process, counts))| match before.counts.get(node) {
                Some((same, earlier)) if same == process => counts[which].saturating_sub(earlier[which]),
                _ => 0,
            });
            grown.sum::<u64>() as f64 / seconds
        };
        let per_second = |number: f64| Cell::shown(number.round() as u64, thousands(number.round() as u64));
        let cpu = (of(2) / 1e4).round() as u64;
        vec![
            Cell::shown(self.at.as_millis() as u64, duration(self.at)),
            Cell::shown(self.nodes_up, format!("{}/{}", self.nodes_up, self.nodes)),
            Cell::shown(self.led, format!("{}/{}", self.led, self.shards)),
            self.keys.map_or(Cell::shown(Value::Null, "-"), |keys| Cell::shown(keys, thousands(keys))),
            Cell::shown(writes, thousands(writes)),
            per_second(of(0)),
            Cell::shown(cpu, format!("{cpu} %")),
            Cell::shown(self.memory_bytes, size(self.memory_bytes)),
            Cell::plain(self.clients),
            per_second(of(1)),
            Cell::shown(self.lag, thousands(self.lag)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::Uuid;

    fn sample(at_s: u64, version: u64, process: u32, counts: [u64; 3]) -> Sample {
        Sample {
            at: Duration::from_secs(at_s),
            nodes: 3,
            nodes_up: 2,
            shards: 16,
            led: 16,
            keys: Some(1_234_567),
            memory_bytes: 200 << 20,
            clients: 4,
            lag: 0,
            versions: BTreeMap::from([(ShardId(0), version), (ShardId(1), 7)]),
            counts: BTreeMap::from([(NodeId(Uuid::from_u128(1)), (process, counts))]),
        }
    }

    #[test]
    fn a_line_tells_what_has_happened_since_the_last_one() {
        let now = sample(12, 3_000, 1, [900, 10, 1_500_000]);
        let row = now.since(&sample(10, 1_000, 1, [500, 10, 500_000]));
        assert_eq!(head(80), " elapsed nodes    led         keys writes/s syncs/s   cpu    memory clients");
        assert_eq!(shown(&row, 80), "  12.0 s   2/3  16/16    1,234,567    1,000     200  50 % 200.0 MiB       4");
        assert_eq!(shown(&row, 40), "  12.0 s   2/3  16/16    1,234,567");
        assert_eq!(row.len(), COLUMNS.len());
    }

    #[test]
    fn a_process_that_was_started_again_counts_from_its_start() {
        let row = sample(12, 1_000, 2, [900, 10, 1_500_000]).since(&sample(10, 1_000, 1, [500, 10, 500_000]));
        assert_eq!([4, 5, 6].map(|at: usize| row[at].value.as_u64()), [Some(0); 3]);
    }
}
