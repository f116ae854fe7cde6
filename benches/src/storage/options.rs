//! The command line of `kvorum-bench-storage`.

use super::plan;
use crate::limits::THREADS_MAX;
use crate::options::{OptionError, Plan, parse_duration, within};
use clap::{Args, Parser, Subcommand};
use kvorum_protocol::limits::VALUE_BYTES_MAX;
use std::path::PathBuf;
use std::time::Duration;

/// Measures restarts, write amplification and the replacement of a node, with nodes of its own.
#[derive(Parser, Debug)]
#[command(name = "kvorum-bench-storage", version)]
pub struct StorageOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print the table as JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub(super) measure: Measure,
}

/// Where and with which program.
#[derive(Args, Debug, Clone)]
pub(crate) struct Place {
    /// The program of a node [default: `kvorum` beside this program]
    #[arg(long, global = true)]
    pub(crate) kvorum: Option<PathBuf>,
    /// The folder in which the nodes' folders are made [default: the system's for temporary files]
    #[arg(long, global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// The first of the ports that are used, 60 in all
    #[arg(long, global = true, default_value_t = 19_400)]
    pub(crate) base_port: u16,
}

/// What is loaded, and with how many threads.
#[derive(Args, Debug, Clone)]
pub(crate) struct DataOptions {
    /// Keys, drawn evenly
    #[arg(long, default_value_t = 100_000)]
    pub(crate) keys: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(crate) value_size: usize,
    /// Threads that generate the load
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl DataOptions {
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        within("keys", self.keys as usize, 1, 10_000_000)?;
        within("value-size", self.value_size, 0, VALUE_BYTES_MAX)?;
        within("threads", self.threads, 1, THREADS_MAX)
    }

    /// A load of this on the nodes at `addresses`.
    pub(crate) fn plan(&self, addresses: &[String], connections: usize, pipeline: usize) -> Plan {
        let threads = self.threads.min(connections);
        Plan { connections, pipeline, threads, ..plan(addresses, self.keys, self.value_size) }
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Measure {
    /// How long one node with many keys takes to answer again, and its memory per key; beside Redis
    Restart(RestartOptions),
    /// Bytes written and kept while every key is overwritten several times, with and without compaction
    Overwrite(OverwriteOptions),
    /// How long a node that lost its data folder takes to be whole again, under load
    Wiped(WipedOptions),
}

#[derive(Args, Debug)]
pub(super) struct RestartOptions {
    /// Keys
    #[arg(long, default_value_t = 10_000_000)]
    pub(super) keys: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// Shards of the node
    #[arg(long, default_value_t = 16)]
    pub(super) shards: u16,
    /// Restarts of each kind
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: u32,
    /// Redis' server, if it is to be measured as well
    #[arg(long)]
    pub(super) redis: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct OverwriteOptions {
    /// MiB of values
    #[arg(long, default_value_t = 256)]
    pub(super) data_mb: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// How often the data is overwritten
    #[arg(long, default_value_t = 5)]
    pub(super) times: u32,
    /// Shards
    #[arg(long, default_value_t = 4)]
    pub(super) shards: u16,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 50)]
    pub(super) connections: usize,
    /// Requests that each connection keeps in flight
    #[arg(long, short = 'P', default_value_t = 16)]
    pub(super) pipeline: usize,
    /// How long one cluster is loaded before the other's turn
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    pub(super) phase: Duration,
    /// Most turns of each cluster
    #[arg(long, default_value_t = 12)]
    pub(super) turns_max: u32,
    /// MiB per second that compaction reads and writes where it is on
    #[arg(long, default_value_t = 64)]
    pub(super) rate_mb: u32,
}

#[derive(Args, Debug)]
pub(super) struct WipedOptions {
    /// Keys that are there before the node is wiped
    #[arg(long, default_value_t = 1_000_000)]
    pub(super) keys: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// Shards
    #[arg(long, default_value_t = 8)]
    pub(super) shards: u16,
    /// Connections that write all the time
    #[arg(long, short = 'c', default_value_t = 50)]
    pub(super) connections: usize,
    /// Requests that each of them keeps in flight
    #[arg(long, short = 'P', default_value_t = 1)]
    pub(super) pipeline: usize,
    /// How long the node may take
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    pub(super) limit: Duration,
}
