//! What a run measured, for people and for programs.

use crate::options::{BenchProtocol, Distribution, Plan, Route, Workload};
use crate::recorder::Recorder;
use crate::server_use::NodeUse;
use crate::{files, plot};
use hdrhistogram::Histogram;
use kvorum_protocol::{ReadMode, Topology};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The result of a run. Times are in the units that their names end with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The load that was asked for.
    pub load: LoadReport,
    /// The cluster that answered.
    pub cluster: ClusterReport,
    /// Measured time.
    pub elapsed_seconds: f64,
    /// Operations that worked.
    pub operations: u64,
    /// Operations that worked, per second.
    pub operations_per_second: f64,
    /// Latency of all operations that worked.
    pub latency: Latency,
    /// Latency of reads, if there were any.
    pub reads: Option<Latency>,
    /// Latency of writes, if there were any.
    pub writes: Option<Latency>,
    /// Reads of keys that do not exist (they worked).
    pub misses: u64,
    /// Answers that the asked node had from another one.
    pub forwarded: u64,
    /// Requests answered with `Overloaded`.
    pub overloaded: u64,
    /// Other errors, by name of their code.
    pub errors: BTreeMap<String, u64>,
    /// Requests that were not answered before their connection was lost or the run ended.
    pub unanswered: u64,
    /// The longest that one of those had waited, in microseconds. With a closed loop, a stall shows here or in
    /// `latency.max_us`, never in the number of operations alone.
    pub unanswered_wait_max_us: f64,
    /// Requests that were due in an open loop and were not sent: their latency is missing, so all percentiles flatter.
    pub unsent: u64,
    /// Connections lost over the whole run, by reason.
    pub connections_lost: BTreeMap<String, u64>,
    /// Lost connections that were opened again.
    pub reconnected: u64,
    /// Keys written before the run.
    pub filled: u64,
    /// CPU time of this program per operation, in microseconds.
    pub bench_cpu_us_per_operation: Option<f64>,
    /// CPU time of all servers per operation, in microseconds.
    pub server_cpu_us_per_operation: Option<f64>,
    /// What each server spent; absent if one of them could not be asked or restarted.
    pub servers: Option<Vec<NodeUse>>,
    /// Latencies of all operations that worked, in nanoseconds.
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

/// The load that was asked for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LoadReport {
    protocol: BenchProtocol,
    workload: Workload,
    read_ratio: f64,
    distribution: Distribution,
    rate: Option<f64>,
    connections: usize,
    pipeline: usize,
    threads: usize,
    keys: u32,
    key_bytes: usize,
    value_bytes: usize,
    ack: String,
    read_mode: &'static str,
    route: Route,
    warmup_seconds: f64,
    seed: u64,
}

/// The cluster that answered.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClusterReport {
    nodes: usize,
    shards: usize,
    durability: String,
}

/// Percentiles of some operations, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// How many operations these are.
    pub count: u64,
    /// Half of the operations took at most this long.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The mean.
    pub mean_us: f64,
}

/// What a report is made from besides the recorder.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) filled: u64,
    pub(crate) bench_cpu: Duration,
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) servers: Option<Vec<NodeUse>>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, topology: &Topology, recorder: &Recorder, measured: Measured) -> Self {
        let operations = recorder.operations();
        let per_operation = |cpu: Duration| (operations > 0).then(|| cpu.as_secs_f64() * 1e6 / operations as f64);
        let seconds = measured.elapsed.as_secs_f64();
        let some = |histogram: &Histogram<u64>| (!histogram.is_empty()).then(|| Latency::new(histogram));
        Self {
            load: LoadReport::new(plan),
            cluster: ClusterReport {
                nodes: topology.nodes.len(),
                shards: topology.shards.len(),
                durability: topology.durability.to_string(),
            },
            elapsed_seconds: seconds,
            operations,
            operations_per_second: if seconds > 0.0 { operations as f64 / seconds } else { 0.0 },
            latency: Latency::new(&recorder.all()),
            reads: some(&recorder.reads),
            writes: some(&recorder.writes),
            misses: recorder.misses,
            forwarded: recorder.forwarded,
            overloaded: recorder.overloaded,
            errors: recorder.errors.clone(),
            unanswered: recorder.unanswered,
            unanswered_wait_max_us: recorder.unanswered_wait_max.as_secs_f64() * 1e6,
            unsent: recorder.unsent,
            connections_lost: recorder.lost.clone(),
            reconnected: recorder.reconnected,
            filled: measured.filled,
            bench_cpu_us_per_operation: per_operation(measured.bench_cpu),
            server_cpu_us_per_operation: measured.server_cpu.and_then(per_operation),
            servers: measured.servers,
            histogram: recorder.all(),
        }
    }

    /// What did not go well, in one line; empty if all did.
    pub(crate) fn trouble(&self) -> String {
        let counts = [("overloaded", self.overloaded), ("misses", self.misses), ("forwarded", self.forwarded)];
        let counts = counts.into_iter().chain([
            ("reconnected", self.reconnected),
            ("unanswered", self.unanswered),
            ("unsent", self.unsent),
        ]);
        let counts = counts.map(|(what, count)| (what.to_owned(), count));
        let named = self.errors.iter().chain(&self.connections_lost).map(|(name, &count)| (name.clone(), count));
        let told = counts.chain(named).filter(|&(_, count)| count > 0);
        told.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }

    /// Latencies of all operations as percentiles, in HdrHistogram's text format, in microseconds.
    pub fn percentiles(&self) -> String {
        files::percentiles(&self.histogram)
    }

    /// Latency by percentile as an SVG document.
    pub fn plot(&self) -> String {
        let LoadReport { connections, pipeline, .. } = self.load;
        let pace = self.load.rate.map_or("closed loop".to_owned(), |rate| format!("{rate}/s due"));
        let rate = self.operations_per_second;
        let title = format!("Latency: {connections} connections × {pipeline}, {pace}, {rate:.0} operations/s");
        plot::latencies(&title, &[("all operations", &self.histogram)])
    }

    /// Whether anything worked at all.
    pub fn worked(&self) -> bool {
        self.operations > 0
    }
}

impl LoadReport {
    fn new(plan: &Plan) -> Self {
        Self {
            protocol: plan.protocol,
            workload: plan.workload,
            read_ratio: plan.read_ratio,
            distribution: plan.distribution,
            rate: plan.rate,
            connections: plan.connections,
            pipeline: plan.pipeline,
            threads: plan.threads,
            keys: plan.keys,
            key_bytes: plan.key_bytes,
            value_bytes: plan.value_bytes,
            ack: plan.ack.to_string(),
            read_mode: match plan.read_mode {
                ReadMode::Linearizable => "linearizable",
                ReadMode::Stale => "stale",
            },
            route: plan.route,
            warmup_seconds: plan.warmup.as_secs_f64(),
            seed: plan.seed,
        }
    }
}

impl Latency {
    /// From a histogram of nanoseconds; all zero if it is empty.
    pub(crate) fn new(nanoseconds: &Histogram<u64>) -> Self {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let quantile = |quantile: f64| microseconds(nanoseconds.value_at_quantile(quantile));
        Self {
            count: nanoseconds.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: microseconds(nanoseconds.max()),
            mean_us: nanoseconds.mean() / 1000.0,
        }
    }
}

/// A time with the unit that suits it.
pub(crate) struct Pretty(pub(crate) f64);

impl fmt::Display for Pretty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1000.0 => write!(f, "{us:.0} µs"),
            us if us < 1_000_000.0 => write!(f, "{:.2} ms", us / 1e3),
            us => write!(f, "{:.2} s", us / 1e6),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = *self;
        write!(f, "p50 {}   p90 {}   p99 {}", Pretty(p50_us), Pretty(p90_us), Pretty(p99_us))?;
        write!(f, "   p99.9 {}   max {}", Pretty(p999_us), Pretty(max_us))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, cluster) = (&self.load, &self.cluster);
        let workload = match load.workload {
            Workload::Get => format!("{} GET", load.read_mode),
            Workload::Put => format!("PUT, ack {}", load.ack),
            workload => {
                let rest = match workload {
                    Workload::YcsbD => "insert",
                    Workload::YcsbF => "read-modify-write",
                    _ => "PUT",
                };
                format!("{:.0} % {} GET, rest {rest}, ack {}", load.read_ratio * 100.0, load.read_mode, load.ack)
            }
        };
        let pace = load.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} operations/s are due"));
        let over = match load.protocol {
            BenchProtocol::Binary => "",
            BenchProtocol::Http => " over HTTP",
            BenchProtocol::Resp => " over RESP",
        };
        writeln!(
            f,
            "load        {workload}{over}; {} connections × {} in flight; {pace}",
            load.connections, load.pipeline
        )?;
        let drawn = match load.distribution {
            Distribution::Uniform => "evenly",
            Distribution::Zipfian => "zipfian",
            Distribution::Latest => "the latest most",
        };
        let LoadReport { keys, key_bytes, value_bytes, .. } = load;
        writeln!(f, "            {keys} keys of {key_bytes} B, drawn {drawn}; values of {value_bytes} B")?;
        let ClusterReport { nodes, shards, durability } = cluster;
        writeln!(f, "cluster     {nodes} nodes, {shards} shards, durability {durability}")?;
        writeln!(
            f,
            "throughput  {:.0} operations/s ({} in {:.2} s)",
            self.operations_per_second, self.operations, self.elapsed_seconds
        )?;
        writeln!(f, "latency     {}", self.latency)?;
        if let (Some(reads), Some(writes)) = (&self.reads, &self.writes) {
            writeln!(f, "  reads     {reads}")?;
            writeln!(f, "  writes    {writes}")?;
        }
        self.fmt_use(f)?;
        self.fmt_trouble(f)
    }
}

impl Report {
    fn fmt_use(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pretty = |cpu_us: Option<f64>| cpu_us.map_or("unknown".to_owned(), |cpu_us| format!("{cpu_us:.2} µs"));
        let (servers, bench) = (self.server_cpu_us_per_operation, self.bench_cpu_us_per_operation);
        writeln!(f, "CPU         {} per operation in the servers, {} here", pretty(servers), pretty(bench))?;
        let rounds = self.servers.iter().flatten().map(|node| node.journal_rounds).sum::<u64>();
        if let (Some(writes), true) = (&self.servers, rounds > 0) {
            let per_second = rounds as f64 / self.elapsed_seconds.max(f64::MIN_POSITIVE) / writes.len() as f64;
            let entries = writes.iter().map(|node| node.entries).sum::<u64>() as f64 / rounds as f64;
            writeln!(f, "journal     {per_second:.0} rounds/s and node, {entries:.1} entries each")?;
        }
        Ok(())
    }

    /// One line for each thing that did not go well; nothing if all did.
    fn fmt_trouble(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("reads of keys that do not exist (--fill writes them)", self.misses),
            ("answers forwarded by the asked node", self.forwarded),
            ("Overloaded", self.overloaded),
            ("lost connections opened again", self.reconnected),
        ];
        for (what, count) in counts.into_iter().filter(|&(_, count)| count > 0) {
            writeln!(f, "            {count} {what}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "error       {count} × {code}")?;
        }
        for (reason, count) in &self.connections_lost {
            writeln!(f, "lost        {count} × {reason}")?;
        }
        if self.unsent > 0 {
            writeln!(
                f,
                "unsent      {} requests were due and not sent: the servers are too slow for the rate",
                self.unsent
            )?;
        }
        if self.unanswered > 0 {
            let longest = Pretty(self.unanswered_wait_max_us);
            writeln!(f, "unanswered  {} requests, the longest for {longest}", self.unanswered)?;
        }
        Ok(())
    }
}
