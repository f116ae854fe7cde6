//! The command line of `kvorum-bench resize`.

use crate::limits::NODES;
use crate::options::{OptionError, parse_duration, within};
use crate::storage::options::Place;
use clap::Args;
use kvorum_protocol::limits::{SHARDS_MAX, VALUE_BYTES_MAX};
use std::time::Duration;

/// Most nodes: their ports overlap beyond.
const NODES_MAX: usize = 9;
/// Most writers.
const WRITERS_MAX: usize = 4096;

/// What growing and shrinking costs while a cluster is written to: time, moves, latency; starts its own nodes
#[derive(Args, Debug, Clone)]
pub struct ResizeOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// Nodes to go to, one step after the other; the cluster begins with three
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [4, 7, 4, 3])]
    pub(super) to: Vec<usize>,
    /// Before it shrinks for the first time, kill a node for good (SIGKILL), and wait until what it held is made anew
    #[arg(long)]
    pub(super) kill: bool,
    /// How long a node that is down is waited for before it is given up
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(super) hold: Duration,
    /// MiB per second that a node sends of snapshots and takes in [default: the nodes' own]
    #[arg(long)]
    pub(super) rate_mb: Option<u32>,
    /// Loads, each on a cluster of its own: `full` (as much as the writers can), or a share of what they can, such as 0.5
    #[arg(long, value_delimiter = ',', default_values_t = [Pressure::Full, Pressure::Share(0.5)])]
    pub(super) load: Vec<Pressure>,
    /// Writers, each with one write under way; they share one client
    #[arg(long, short = 'c', default_value_t = 64)]
    pub(super) writers: usize,
    /// MiB of values that are there before the first step
    #[arg(long, default_value_t = 256)]
    pub(super) preload_mb: u32,
    /// Bytes of the smallest value
    #[arg(long, default_value_t = 128)]
    pub(super) value_min: usize,
    /// Bytes of the largest value
    #[arg(long, default_value_t = 1024)]
    pub(super) value_max: usize,
    /// Shards
    #[arg(long, default_value_t = 16)]
    pub(super) shards: u16,
    /// How long to measure before each step, and after the last
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(super) around: Duration,
    /// How long one step may take
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub(super) limit: Duration,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// How much is written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Pressure {
    /// A closed loop.
    Full,
    /// An open loop at this share of what the closed loop did.
    Share(f64),
}

impl std::str::FromStr for Pressure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "full" => Ok(Self::Full),
            Ok(share) if share > 0.0 && share <= 2.0 => Ok(Self::Share(share)),
            _ => Err("must be `full`, or a share above 0 and up to 2".to_owned()),
        }
    }
}

impl std::fmt::Display for Pressure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl ResizeOptions {
    /// # Errors
    /// The first option that is out of its bounds.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        self.to.iter().try_for_each(|nodes| within("to", *nodes, NODES, NODES_MAX))?;
        if self.kill && self.shrinks_from().is_none_or(|nodes| nodes <= NODES) {
            return Err(OptionError::new("kill", "needs four nodes or more before the cluster shrinks"));
        }
        within("writers", self.writers, 1, WRITERS_MAX)?;
        within("preload-mb", self.preload_mb as usize, 1, 65_536)?;
        within("value-max", self.value_max, super::load::VALUE_BYTES_MIN, VALUE_BYTES_MAX)?;
        within("value-min", self.value_min, super::load::VALUE_BYTES_MIN, self.value_max)?;
        within("shards", self.shards.into(), 1, SHARDS_MAX)?;
        if !self.shards.is_power_of_two() {
            return Err(OptionError::new("shards", "must be a power of two"));
        }
        within("hold", self.hold.as_secs() as usize, 0, 86_400)?;
        within("around", self.around.as_millis() as usize, 1000, 600_000)?;
        within("limit", self.limit.as_millis() as usize, 1000, 3_600_000)
    }

    /// How many nodes there are before the first step that takes some away, or at the end.
    fn shrinks_from(&self) -> Option<usize> {
        let all: Vec<usize> = [NODES].into_iter().chain(self.to.iter().copied()).collect();
        all.windows(2).find(|pair| pair[1] < pair[0]).map(|pair| pair[0]).or_else(|| all.last().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ResizeOptions,
    }

    fn checked(arguments: &str) -> Result<ResizeOptions, String> {
        let words = std::iter::once("resize").chain(arguments.split_whitespace());
        let options = Line::try_parse_from(words).map_err(|error| error.to_string())?.options;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn its_options_make_sense() {
        let options = checked("").unwrap();
        assert_eq!(options.to, [4, 7, 4, 3]);
        assert_eq!(options.load, [Pressure::Full, Pressure::Share(0.5)]);
        assert_eq!(checked("--load 0.25 --kill").unwrap().load, [Pressure::Share(0.25)]);
        checked("--to 4 --kill").unwrap();
        for (wrong, told) in [
            ("--to 4,10", "to"),
            ("--to 3 --kill", "kill"),
            ("--load none", "load"),
            ("--value-min 2000", "value-min"),
            ("--shards 3", "shards"),
        ] {
            let error = checked(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
