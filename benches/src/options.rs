//! The command line, and the validated plan that it becomes.

use crate::keys::key_bytes_min;
use crate::limits::{
    CONNECTIONS_MAX, DURATION_MAX, KEYS_MAX, OPERATIONS_DURATION, PIPELINE_MAX, RATE_MAX, THREADS_MAX,
};
use clap::{Parser, ValueEnum};
use kvorum_protocol::limits::{DEADLINE_MS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kvorum_protocol::{Ack, ReadMode};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_URL: &str = "kv://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403";
const DEFAULT_PORT: u16 = 7400;

/// Loads a Kvorum cluster, in a closed loop or at a fixed rate, and reports throughput, latency and CPU per operation.
#[derive(Parser, Debug)]
#[command(name = "kvorum-bench", version)]
pub struct Options {
    /// Where to begin: kv://host:port,host:port
    #[arg(long, env = "KVORUM_URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Through which door of the nodes
    #[arg(long, value_enum, default_value_t = BenchProtocol::Binary)]
    pub protocol: BenchProtocol,
    /// What to do
    #[arg(long, value_enum, default_value_t = Workload::Get)]
    pub workload: Workload,
    /// The share of reads in the mixed workload, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    pub read_ratio: f64,
    /// Connections, spread over the nodes
    #[arg(long, short = 'c', default_value_t = 50)]
    pub connections: usize,
    /// Requests that each connection keeps in flight
    #[arg(long, short = 'P', default_value_t = 1)]
    pub pipeline: usize,
    /// Threads that generate the load [default: half of the processors]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Keys in the key space, drawn evenly
    #[arg(long, default_value_t = 100_000)]
    pub keys: u32,
    /// Bytes of a key
    #[arg(long, default_value_t = 16)]
    pub key_size: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
    /// When a write is answered
    #[arg(long, value_enum, default_value_t = AckOption::Committed)]
    pub ack: AckOption,
    /// How fresh a read must be
    #[arg(long, value_enum, default_value_t = ReadModeOption::Linearizable)]
    pub read_mode: ReadModeOption,
    /// Which keys a connection sends to its node
    #[arg(long, value_enum, default_value_t = Route::Leaders)]
    pub route: Route,
    /// How popular keys are; the YCSB workloads have their own
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,
    /// Open loop: send this many operations per second, whatever the answers do; latency counts from when each was due
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long to measure, such as 10s, 500ms or 2m [default: 10s]
    #[arg(long, short = 'd', value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// End after this many measured operations (and after --duration, or 10 minutes, at the latest)
    #[arg(long, short = 'n')]
    pub operations: Option<u64>,
    /// How long to load before measuring
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Deadline of each request
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Write all keys before the run
    #[arg(long)]
    pub fill: bool,
    /// Seed of the drawn keys and values; client ids are always new
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Tell throughput and latency of each second on stderr, even if that is no terminal
    #[arg(long)]
    pub progress: bool,
    /// Write the seconds of the run to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the histogram of latencies to this file, as percentiles in HdrHistogram's text format, in microseconds
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Draw latency by percentile into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Through which door of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchProtocol {
    /// The binary protocol.
    Binary,
    /// HTTP/1.1, 20 ports above the binary door; one request at a time on each connection.
    Http,
    /// Redis's protocol, RESP2, 40 ports above the binary door: the one for clients that know which node leads which slot.
    Resp,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Reads only.
    Get,
    /// Writes only.
    Put,
    /// Both, see `--read-ratio`.
    Mixed,
    /// YCSB's update heavy workload: half reads, half writes; zipfian.
    YcsbA,
    /// YCSB's read mostly workload: 95 % reads, 5 % writes; zipfian.
    YcsbB,
    /// YCSB's read only workload; zipfian.
    YcsbC,
    /// YCSB's read latest workload: 95 % reads, mostly of keys that were inserted last, 5 % inserts.
    YcsbD,
    /// YCSB's read-modify-write workload: half reads, half reads that are followed by a write of the same key; zipfian.
    YcsbF,
}

/// How popular keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Each is as likely as any other.
    Uniform,
    /// The one of rank r is drawn in proportion to 1 / r^0.99.
    Zipfian,
    /// As zipfian; the newest of a shard comes first.
    #[value(skip)]
    Latest,
}

/// Which keys a connection sends to its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Those of the shards that the node leads. A node that leads none is sent any key.
    Leaders,
    /// Any; the node forwards what it does not lead.
    Any,
}

/// `--ack`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AckOption {
    /// Persisted by a quorum and applied.
    Committed,
    /// In the leader's log only.
    Accepted,
}

/// `--read-mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ReadModeOption {
    /// Sees every acknowledged write.
    Linearizable,
    /// Whatever the asked replica holds.
    Stale,
}

/// When a write is answered, where the protocol leaves replication to the client: Redis's WAIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replicated {
    /// As soon as the asked server has it.
    No,
    /// Once a replica has it; each write is waited for by itself.
    Each,
    /// Once a replica has it; the writes that a connection sends at once are waited for together.
    Batch,
}

/// A validated run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `host:port` of the nodes to begin with; at least one.
    pub seeds: Vec<String>,
    /// Through which door of the nodes.
    pub protocol: BenchProtocol,
    /// What to do.
    pub workload: Workload,
    /// The share of reads: 1 for GET, 0 for PUT.
    pub read_ratio: f64,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each connection; in an open loop the most of them.
    pub pipeline: usize,
    /// Open loop: operations per second of all connections.
    pub rate: Option<f64>,
    /// How popular keys are.
    pub distribution: Distribution,
    /// Threads; at most one per connection.
    pub threads: usize,
    /// Keys.
    pub keys: u32,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// When a write is answered.
    pub ack: Ack,
    /// How fresh a read must be.
    pub read_mode: ReadMode,
    /// How writes are replicated where the protocol leaves that to the client.
    pub replicated: Replicated,
    /// Which keys a connection sends to its node.
    pub route: Route,
    /// Longest measured time.
    pub duration: Duration,
    /// Most measured operations.
    pub operations: Option<u64>,
    /// Load before measuring.
    pub warmup: Duration,
    /// Deadline of each request.
    pub timeout: Duration,
    /// Write all keys first.
    pub fill: bool,
    /// Seed of keys and values.
    pub seed: u64,
}

/// An option that makes no sense; the text names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("--{option}: {problem}")]
pub struct OptionError {
    option: &'static str,
    problem: String,
}

impl OptionError {
    pub(crate) fn new(option: &'static str, problem: impl Into<String>) -> Self {
        Self { option, problem: problem.into() }
    }
}

impl Options {
    /// Checks every option against its bounds.
    ///
    /// # Errors
    /// The first option that is out of them.
    pub fn into_plan(self) -> Result<Plan, OptionError> {
        let seeds = parse_url(&self.url).map_err(|problem| OptionError { option: "url", problem })?;
        within("connections", self.connections, 1, CONNECTIONS_MAX)?;
        within("pipeline", self.pipeline, 1, PIPELINE_MAX)?;
        if self.protocol == BenchProtocol::Http && self.pipeline > 1 {
            let problem = "HTTP/1.1 has one request at a time on a connection; open more of them";
            return Err(OptionError { option: "pipeline", problem: problem.into() });
        }
        if self.protocol == BenchProtocol::Resp && self.ack != AckOption::Committed {
            let problem = "RESP answers a write once it is committed";
            return Err(OptionError { option: "ack", problem: problem.into() });
        }
        if self.protocol == BenchProtocol::Resp && self.read_mode != ReadModeOption::Linearizable {
            let problem = "reads over RESP are linearizable here";
            return Err(OptionError { option: "read-mode", problem: problem.into() });
        }
        within("keys", self.keys as usize, 1, KEYS_MAX as usize)?;
        within("key-size", self.key_size, key_bytes_min(self.keys), KEY_BYTES_MAX)?;
        within("value-size", self.value_size, 0, VALUE_BYTES_MAX)?;
        within("timeout", self.timeout.as_millis() as usize, 1, DEADLINE_MS_MAX as usize)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(|| processors.div_ceil(2).min(THREADS_MAX));
        within("threads", threads, 1, THREADS_MAX)?;
        if !(0.0..=1.0).contains(&self.read_ratio) {
            return Err(OptionError { option: "read-ratio", problem: "must be from 0 to 1".into() });
        }
        let is_rate = |rate: f64| rate > 0.0 && rate <= RATE_MAX;
        if !self.rate.is_none_or(is_rate) {
            return Err(OptionError { option: "rate", problem: format!("must be above 0 and at most {RATE_MAX}") });
        }
        if self.workload == Workload::YcsbD {
            within("keys", self.keys as usize, 1, KEYS_MAX as usize / 2)?;
            within("key-size", self.key_size, key_bytes_min(2 * self.keys), KEY_BYTES_MAX)?;
        }
        if self.operations == Some(0) {
            return Err(OptionError { option: "operations", problem: "must be at least 1".into() });
        }
        let usual = if self.operations.is_some() { OPERATIONS_DURATION } else { Duration::from_secs(10) };
        let duration = self.duration.unwrap_or(usual);
        within("duration", duration.as_millis() as usize, 1, DURATION_MAX.as_millis() as usize)?;
        within("warmup", self.warmup.as_millis() as usize, 0, DURATION_MAX.as_millis() as usize)?;
        Ok(Plan {
            seeds,
            protocol: self.protocol,
            workload: self.workload,
            read_ratio: match self.workload {
                Workload::Get | Workload::YcsbC => 1.0,
                Workload::Put => 0.0,
                Workload::Mixed => self.read_ratio,
                Workload::YcsbA | Workload::YcsbF => 0.5,
                Workload::YcsbB | Workload::YcsbD => 0.95,
            },
            rate: self.rate,
            distribution: match self.workload {
                Workload::Get | Workload::Put | Workload::Mixed => self.distribution,
                Workload::YcsbD => Distribution::Latest,
                _ => Distribution::Zipfian,
            },
            connections: self.connections,
            pipeline: self.pipeline,
            threads: threads.min(self.connections),
            keys: self.keys,
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            ack: match self.ack {
                AckOption::Committed => Ack::Committed,
                AckOption::Accepted => Ack::Accepted,
            },
            read_mode: match self.read_mode {
                ReadModeOption::Linearizable => ReadMode::Linearizable,
                ReadModeOption::Stale => ReadMode::Stale,
            },
            replicated: Replicated::No,
            route: self.route,
            duration,
            operations: self.operations,
            warmup: self.warmup,
            timeout: self.timeout,
            fill: self.fill,
            seed: self.seed,
        })
    }
}

pub(crate) fn within(option: &'static str, value: usize, min: usize, max: usize) -> Result<(), OptionError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(OptionError { option, problem: format!("{value} is not within {min} to {max}") })
}

/// The addresses of `kv://host:port,host:port`, in order.
fn parse_url(url: &str) -> Result<Vec<String>, String> {
    let hosts = url.strip_prefix("kv://").ok_or_else(|| format!("'{url}' does not begin with kv://"))?;
    let address = |host: &str| match host {
        "" => Err(format!("'{url}' has an empty host")),
        // A bracketed IPv6 address has colons of its own.
        host if host.rsplit(']').next().is_some_and(|rest| rest.contains(':')) => Ok(host.to_owned()),
        host => Ok(format!("{host}:{DEFAULT_PORT}")),
    };
    hosts.trim_end_matches('/').split(',').map(address).collect()
}

/// A number with the unit ms, s, m or h; without one it is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("'{text}' is not a duration such as 10s"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("'{unit}' is not one of ms, s, m, h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("'{text}' is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let arguments = ["kvorum-bench", "--url", "kv://a:1,b"].iter().chain(arguments);
        let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
        options.into_plan().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_documented_load() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.seeds, ["a:1", "b:7400"]);
        assert_eq!((plan.connections, plan.pipeline, plan.keys), (50, 1, 100_000));
        assert_eq!((plan.key_bytes, plan.value_bytes, plan.read_ratio), (16, 100, 1.0));
        assert_eq!((plan.duration, plan.warmup), (Duration::from_secs(10), Duration::from_secs(2)));
    }

    #[test]
    fn a_bad_option_is_named() {
        for (arguments, name) in [
            (&["--connections", "0"][..], "--connections"),
            (&["--pipeline", "5000"], "--pipeline"),
            (&["--protocol", "http", "-P", "2"], "--pipeline"),
            (&["--key-size", "5"], "--key-size"),
            (&["--value-size", "16777217"], "--value-size"),
            (&["--read-ratio", "1.5"], "--read-ratio"),
            (&["--duration", "0s"], "--duration"),
            (&["--duration", "10y"], "--duration"),
            (&["--operations", "0"], "--operations"),
            (&["--rate", "0"], "--rate"),
            (&["--rate", "nan"], "--rate"),
            (&["--workload", "ycsb-d", "--keys", "60000000"], "--keys"),
            (&["--timeout", "11m"], "--timeout"),
            (&["--threads", "0"], "--threads"),
        ] {
            let problem = plan(arguments).unwrap_err();
            assert!(problem.contains(name), "{arguments:?}: {problem}");
        }
        assert!(parse_url("http://a").is_err() && parse_url("kv://a,,b").is_err() && parse_url("kv://").is_err());
    }

    #[test]
    fn durations_and_addresses_have_units_and_ports() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("s").is_err() && parse_duration("-1s").is_err());
        assert_eq!(parse_url("kv://[::1]:9,[::1]/").unwrap(), ["[::1]:9", "[::1]:7400"]);
    }
}
