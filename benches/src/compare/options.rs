//! The command line of `kvorum-bench compare`.

use crate::keys::key_bytes_min;
use crate::limits::{CONNECTIONS_MAX, DURATION_MAX, KEYS_MAX, PIPELINE_MAX, THREADS_MAX};
use crate::options::{OptionError, parse_duration, within};
use crate::wire::GRPC_VALUE_BYTES_MAX;
use clap::{Args, ValueEnum};
use kvorum_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Compares Kvorum with other systems, all started here with fresh folders, in turn and side by side
#[derive(Args, Debug, Clone)]
pub struct CompareOptions {
    /// Who takes part, in the order of their turns
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kvorum,redis,redis-batch,etcd,null")]
    pub(super) systems: Vec<System>,
    /// Loads: get, put (durable) or memory (not), with connections and requests in flight on each
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "get:50,get:50x16,put:50,put:200,put:50x16,memory:50,memory:50x16"
    )]
    pub(super) loads: Vec<ComparedLoad>,
    /// Turns of each system under each load
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: u32,
    /// How long to measure in each turn
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration)]
    pub(super) duration: Duration,
    /// How long to load before measuring, in each turn
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(super) warmup: Duration,
    /// How long everybody rests before each turn: disks and processors recover from bursts
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(super) pause: Duration,
    /// After the closed loops of a load: an open loop at this share of the peak of the first system, for all of them; 0 for none
    #[arg(long, default_value_t = 0.0)]
    pub(super) latency_at: f64,
    /// Keys, drawn evenly
    #[arg(long, default_value_t = 100_000)]
    pub(super) keys: u32,
    /// Bytes of a key
    #[arg(long, default_value_t = 16)]
    pub(super) key_size: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// Threads that generate the load
    #[arg(long, default_value_t = 1)]
    pub(super) threads: usize,
    /// Kvorum's shards
    #[arg(long, default_value_t = 16)]
    pub(super) shards: u16,
    /// The program of a Kvorum node [default: `kvorum` beside this program]
    #[arg(long)]
    pub(super) kvorum: Option<PathBuf>,
    /// Redis's server
    #[arg(long, default_value = "redis-server")]
    pub(super) redis: PathBuf,
    /// etcd's server
    #[arg(long, default_value = "etcd")]
    pub(super) etcd: PathBuf,
    /// The folder in which the servers' folders are made [default: the system's for temporary files]
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// The first of the ports that are used, 300 in all
    #[arg(long, default_value_t = 19_600)]
    pub(super) base_port: u16,
    /// Print everything that was measured as JSON
    #[arg(long)]
    pub json: bool,
    /// Write every turn to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw medians and spreads of all systems under each load into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum System {
    /// Three nodes, three replicas, mutual TLS between them
    Kvorum,
    /// GET: one node without persistence. PUT: a node with two replicas, each SET followed by WAIT 1; durable: all three
    /// with an AOF that is always synced
    Redis,
    /// As Redis, with one WAIT 1 after all SETs that a connection sends at once; only where that makes a difference
    RedisBatch,
    /// Three nodes, over gRPC; connections are spread over all of them
    Etcd,
    /// A server that does the same input and output with no store behind it: the ceiling
    Null,
    /// Kvorum's nodes through their HTTP doors; only without pipelining
    KvorumHttp,
    /// Kvorum's nodes through their RESP doors for Redis Cluster's clients
    KvorumResp,
    /// As Kvorum, with all that is stored encrypted
    KvorumSealed,
    /// As Kvorum, with TLS at its doors and an authenticated user
    KvorumTls,
    /// As kvorum-tls, through the HTTP doors
    KvorumTlsHttp,
    /// As kvorum-tls, through the RESP doors for Redis Cluster's clients
    KvorumTlsResp,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvorum => "Kvorum",
            Self::KvorumHttp => "Kvorum, HTTP",
            Self::KvorumResp => "Kvorum, RESP",
            Self::KvorumSealed => "Kvorum, sealed",
            Self::KvorumTls => "Kvorum, TLS",
            Self::KvorumTlsHttp => "Kvorum, HTTPS",
            Self::KvorumTlsResp => "Kvorum, RESP, TLS",
            Self::Redis => "Redis",
            Self::RedisBatch => "Redis, WAIT per batch",
            Self::Etcd => "etcd",
            Self::Null => "null",
        }
    }

    /// Its name on the command line.
    pub(super) fn option(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().to_owned()
    }

    /// Whose servers it uses: two ways to use a system share them.
    pub(super) fn servers(self) -> Self {
        match self {
            Self::KvorumHttp | Self::KvorumResp => Self::Kvorum,
            Self::KvorumTlsHttp | Self::KvorumTlsResp => Self::KvorumTls,
            Self::RedisBatch => Self::Redis,
            own => own,
        }
    }

    /// Whether the system does anything under this load that another one does not.
    pub(super) fn takes_part(self, load: &ComparedLoad) -> bool {
        match self {
            Self::RedisBatch => load.family != Family::Get && load.pipeline > 1,
            Self::KvorumHttp | Self::KvorumTlsHttp => load.pipeline == 1,
            // It has no such mode.
            Self::Etcd => load.family != Family::Memory,
            _ => true,
        }
    }
}

/// Loads of one family are run against the same servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// Linearizable reads.
    Get,
    /// Writes that a majority (Redis: the node and one of two replicas) has synced when they are answered.
    Durable,
    /// Writes that a majority has in memory when they are answered.
    Memory,
}

/// A closed loop, or an open one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct ComparedLoad {
    pub(crate) family: Family,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    /// Operations per second of an open loop.
    pub(crate) rate: Option<f64>,
}

impl ComparedLoad {
    /// What names it on the command line; its rate is not part of that.
    pub(super) fn option(&self) -> String {
        let family = match self.family {
            Family::Get => "get",
            Family::Durable => "put",
            Family::Memory => "memory",
        };
        match (self.connections, self.pipeline) {
            (connections, 1) => format!("{family}:{connections}"),
            (connections, pipeline) => format!("{family}:{connections}x{pipeline}"),
        }
    }
}

impl FromStr for ComparedLoad {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("'{text}' is not a load such as get:50 or put:50x16");
        let (family, size) = text.split_once(':').ok_or_else(problem)?;
        let family = match family {
            "get" => Family::Get,
            "put" => Family::Durable,
            "memory" => Family::Memory,
            _ => return Err(problem()),
        };
        let (connections, pipeline) = size.split_once('x').unwrap_or((size, "1"));
        let number = |text: &str| text.parse::<usize>().map_err(|_| problem());
        Ok(Self { family, connections: number(connections)?, pipeline: number(pipeline)?, rate: None })
    }
}

impl fmt::Display for ComparedLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.family {
            Family::Get => "GET",
            Family::Durable => "durable PUT",
            Family::Memory => "PUT in memory",
        })?;
        match (self.connections, self.pipeline) {
            (1, 1) => f.write_str(", 1 connection")?,
            (connections, 1) => write!(f, ", {connections} connections")?,
            (connections, pipeline) => write!(f, ", {connections} × {pipeline} pipelined")?,
        }
        self.rate.map_or(Ok(()), |rate| write!(f, ", {rate:.0}/s due"))
    }
}

fn check_load(options: &CompareOptions, load: ComparedLoad) -> Result<(), OptionError> {
    within("loads", load.connections, 1, CONNECTIONS_MAX)?;
    within("loads", load.pipeline, 1, PIPELINE_MAX)?;
    within("threads", options.threads, 1, THREADS_MAX)?;
    within("keys", options.keys as usize, 1, KEYS_MAX as usize)?;
    within("key-size", options.key_size, key_bytes_min(options.keys), KEY_BYTES_MAX)?;
    within("value-size", options.value_size, 0, VALUE_BYTES_MAX)?;
    within("duration", options.duration.as_millis() as usize, 1, DURATION_MAX.as_millis() as usize)
}

impl CompareOptions {
    /// # Errors
    /// The first option that is out of its bounds.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        within("rounds", self.rounds as usize, 1, 1000)?;
        within("base-port", self.base_port.into(), 1024, 65_200)?;
        if !(0.0..=1.0).contains(&self.latency_at) {
            return Err(OptionError::new("latency-at", "must be from 0 to 1"));
        }
        within("systems", self.systems.len(), 1, 16)?;
        within("loads", self.loads.len(), 1, 64)?;
        if self.systems.contains(&System::Etcd) {
            within("value-size", self.value_size, 0, GRPC_VALUE_BYTES_MAX)?;
        }
        // Every bound of a single load holds for each of these, too.
        self.loads.iter().try_for_each(|&load| check_load(self, load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_read_and_told() {
        let told = |text: &str| text.parse::<ComparedLoad>().unwrap().to_string();
        assert_eq!(told("get:50"), "GET, 50 connections");
        assert_eq!(told("put:1"), "durable PUT, 1 connection");
        assert_eq!(told("memory:50x16"), "PUT in memory, 50 × 16 pipelined");
        for text in ["get:50", "put:1", "memory:50x16"] {
            assert_eq!(text.parse::<ComparedLoad>().unwrap().option(), text);
        }
        for wrong in ["", "get", "get:", "get:x", "get:5x", "set:5", "get:-1"] {
            assert!(wrong.parse::<ComparedLoad>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn waiting_per_batch_is_only_another_thing_with_a_pipeline() {
        let differs = |text: &str| System::RedisBatch.takes_part(&text.parse().unwrap());
        assert!(differs("put:50x16") && differs("memory:1x2"));
        assert!(!differs("put:50") && !differs("get:50x16"));
    }

    #[test]
    fn http_takes_part_where_nothing_is_pipelined_and_shares_its_servers() {
        let takes_part = |text: &str| System::KvorumHttp.takes_part(&text.parse().unwrap());
        assert!(takes_part("get:50") && takes_part("put:50") && !takes_part("get:50x16"));
        assert_eq!(System::KvorumHttp.servers(), System::Kvorum);
        assert_eq!(System::KvorumHttp.option(), "kvorum-http");
        assert_eq!(System::KvorumResp.servers(), System::Kvorum);
    }
}
