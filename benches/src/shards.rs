//! What more shards cost: the same load on clusters that differ in nothing else, in turn.
//!
//! All shards of a node share one journal, so that the number of its rounds, one write and one sync each, should not grow with
//! them. Both clusters run all the time; the one whose turn it is not does what a cluster without load does.

use crate::compare::{ComparedLoad, Family};
use crate::limits::{CONNECTIONS_MAX, DURATION_MAX, NODES, PIPELINE_MAX};
use crate::options::{OptionError, Plan, parse_duration, within};
use crate::report::{Pretty, Report};
use crate::run::Progress;
use crate::stop;
use crate::storage::nodes::{Nodes, Shape};
use crate::storage::options::{DataOptions, Place};
use crate::storage::{MeasureError, StorageError, Table, median, spread};
use clap::Args;
use kvorum_protocol::limits::SHARDS_MAX;
use std::time::Duration;

/// Ports that one cluster uses.
const CLUSTER_PORTS: u16 = 25;
/// Clusters that find room in the ports of a [`Place`].
const CLUSTERS_MAX: usize = 2;

/// Throughput and journal rounds with one shard and with many; starts clusters of its own
#[derive(Args, Debug, Clone)]
pub struct ShardsOptions {
    #[command(flatten)]
    place: Place,
    /// The numbers of shards, one or two; each has a cluster of its own
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    counts: Vec<u16>,
    /// Loads: durable PUTs, with connections and requests in flight on each
    #[arg(long, value_delimiter = ',', default_value = "put:50x16,put:200")]
    loads: Vec<ComparedLoad>,
    /// Turns of each cluster under each load
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long to measure in each turn
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// How long to load before measuring, in each turn
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
    /// How long everybody rests before each turn
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pause: Duration,
    #[command(flatten)]
    data: DataOptions,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

/// One cluster under one load.
struct Series {
    load: ComparedLoad,
    shards: u16,
    reports: Vec<Report>,
}

/// Takes about `loads × counts × rounds × (pause + warm-up + duration)`; `progress` is told what goes on.
///
/// # Errors
/// A cluster can't be started or reached at all. Trouble during a load is told below the table instead. Everything that was
/// started is gone by then.
pub fn shards(options: &ShardsOptions, progress: &mut dyn FnMut(String)) -> Result<Table, MeasureError> {
    options.check()?;
    let mut clusters = Vec::new();
    for (number, &count) in options.counts.iter().enumerate() {
        let port_offset = number as u16 * CLUSTER_PORTS;
        let shape = Shape { nodes: NODES, shards: count, port_offset, environment: &[], secure: false };
        let nodes = Nodes::start_filled(&options.place, &shape, options.data.keys, options.data.value_size)?;
        progress(format!("a cluster with {count} shard(s) runs"));
        clusters.push(nodes);
    }
    let mut all = Vec::new();
    for &load in &options.loads {
        let new = |&shards: &u16| Series { load, shards, reports: Vec::new() };
        let mut series: Vec<Series> = options.counts.iter().map(new).collect();
        for round in 1..=options.rounds {
            for (nodes, series) in clusters.iter().zip(&mut series) {
                stop::sleep(options.pause).map_err(StorageError::from)?;
                let report = crate::run(&options.plan(&nodes.addresses(), load), |_: Progress| {});
                let report = report.map_err(StorageError::from)?;
                let (rate, rounds) = (report.operations_per_second, rounds_per_second(&report));
                progress(format!(
                    "{load}, round {round}: {} shard(s) {rate:>9.0}/s   {rounds:.0} journal rounds/s and node   {}",
                    series.shards,
                    report.trouble()
                ));
                series.reports.push(report);
            }
        }
        all.extend(series);
    }
    Ok(table(options, &all))
}

impl ShardsOptions {
    fn check(&self) -> Result<(), OptionError> {
        within("counts", self.counts.len(), 1, CLUSTERS_MAX)?;
        for &count in &self.counts {
            within("counts", count.into(), 1, SHARDS_MAX)?;
            if !count.is_power_of_two() {
                return Err(OptionError::new("counts", format!("{count} is no power of two")));
            }
        }
        within("loads", self.loads.len(), 1, 16)?;
        for load in &self.loads {
            if load.family != Family::Durable {
                return Err(OptionError::new("loads", format!("'{load}' is no durable PUT, such as put:50x16")));
            }
            within("loads", load.connections, 1, CONNECTIONS_MAX)?;
            within("loads", load.pipeline, 1, PIPELINE_MAX)?;
        }
        within("rounds", self.rounds as usize, 1, 1000)?;
        within("duration", self.duration.as_millis() as usize, 1, DURATION_MAX.as_millis() as usize)?;
        self.data.check()
    }

    fn plan(&self, addresses: &[String], load: ComparedLoad) -> Plan {
        let plan = self.data.plan(addresses, load.connections, load.pipeline);
        Plan { duration: self.duration, warmup: self.warmup, ..plan }
    }
}

/// Of one node, on average; not a number if the nodes could not say.
fn rounds_per_second(report: &Report) -> f64 {
    let rounds = |servers: &Vec<_>| servers.iter().map(|node: &crate::server_use::NodeUse| node.journal_rounds).sum();
    let rounds: Option<u64> = report.servers.as_ref().map(rounds);
    per_node_and_second(rounds, report.servers.as_ref().map_or(0, Vec::len), report.elapsed_seconds)
}

fn per_node_and_second(rounds: Option<u64>, nodes: usize, seconds: f64) -> f64 {
    rounds.map_or(f64::NAN, |rounds| rounds as f64 / nodes as f64 / seconds)
}

fn table(options: &ShardsOptions, all: &[Series]) -> Table {
    let title = format!(
        "shards: {NODES} nodes, durability fsync, values of {} B; {} round(s) in turn, each {} s after {} s of load and {} s of \
         rest. Medians (lowest–highest).",
        options.data.value_size,
        options.rounds,
        options.duration.as_secs_f64(),
        options.warmup.as_secs_f64(),
        options.pause.as_secs_f64(),
    );
    let head = [
        "load",
        "shards",
        "operations/s",
        "to the first",
        "journal rounds/s and node",
        "to the first",
        "p50",
        "p99",
        "CPU of the servers per operation, µs",
    ];
    let mut table = Table::new(title, &head);
    for series in all {
        let each = |series: &Series, of: fn(&Report) -> f64| series.reports.iter().map(of).collect::<Vec<f64>>();
        let first = all.iter().find(|other| other.load == series.load).expect("the series itself, if no other");
        let to_first = |of: fn(&Report) -> f64| {
            let ratio = median(&each(series, of)) / median(&each(first, of));
            if std::ptr::eq(first, series) { "—".to_owned() } else { format!("{ratio:.2}") }
        };
        let middle = |of: fn(&Report) -> f64| Pretty(median(&each(series, of))).to_string();
        table.row(vec![
            series.load.to_string(),
            series.shards.to_string(),
            spread(&each(series, |report| report.operations_per_second), 0),
            to_first(|report| report.operations_per_second),
            spread(&each(series, rounds_per_second), 0),
            to_first(rounds_per_second),
            middle(|report| report.latency.p50_us),
            middle(|report| report.latency.p99_us),
            spread(&each(series, |report| report.server_cpu_us_per_operation.unwrap_or(f64::NAN)), 2),
        ]);
    }
    for series in all {
        let troubles: Vec<String> =
            series.reports.iter().map(Report::trouble).filter(|text| !text.is_empty()).collect();
        if !troubles.is_empty() {
            table.notes.push(format!("{}, {} shard(s): {}", series.load, series.shards, troubles.join("; ")));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ShardsOptions,
    }

    fn check(arguments: &str) -> Result<(), String> {
        let words = ["shards"].into_iter().chain(arguments.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.options.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_bad_option_is_named() {
        assert_eq!(check(""), Ok(()));
        for (arguments, name) in [
            ("--counts 1,2,4", "--counts"),
            ("--counts 3", "--counts"),
            ("--counts 0", "--counts"),
            ("--loads get:50", "--loads"),
            ("--loads put:0", "--loads"),
            ("--rounds 0", "--rounds"),
        ] {
            let problem = check(arguments).unwrap_err();
            assert!(problem.contains(name), "{arguments}: {problem}");
        }
    }

    #[test]
    fn rounds_are_those_of_one_node_in_one_second() {
        assert_eq!(per_node_and_second(Some(3000), 3, 2.0), 500.0);
        assert!(per_node_and_second(None, 0, 2.0).is_nan(), "unknown is not zero");
    }
}
