//! The command line of `kvorum-bench rolling`.

use crate::options::{OptionError, parse_duration, within};
use crate::storage::options::Place;
use clap::Args;
use kvorum_protocol::limits::{SHARDS_MAX, VALUE_BYTES_MAX};
use std::path::PathBuf;
use std::time::Duration;

/// Most writes that are due per second: their times are kept.
const RATE_MAX: u32 = 100_000;

/// Restarts or upgrades every node in turn under writes that are sent once; starts its own nodes
#[derive(Args, Debug, Clone)]
pub struct RollingOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// The program that the nodes begin with: they are upgraded to `--kvorum`, half of them back, and on again
    #[arg(long, value_name = "KVORUM")]
    pub(super) from: Option<PathBuf>,
    /// How often every node is restarted, one after the other, with the program that it runs
    #[arg(long, short = 'n', default_value_t = 3)]
    pub(super) rounds: u32,
    /// Shards
    #[arg(long, default_value_t = 16)]
    pub(super) shards: u16,
    /// Writes that are due per second in all, whatever the answers do
    #[arg(long, default_value_t = 2000)]
    pub(super) rate: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// How long to write before each step, and after it
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(super) pause: Duration,
    /// How long one step may take
    #[arg(long, default_value = "120s", value_parser = parse_duration)]
    pub(super) limit: Duration,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

impl RollingOptions {
    /// # Errors
    /// The first option that is out of its bounds.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        within("rounds", self.rounds as usize, 0, 10_000)?;
        if self.rounds == 0 && self.from.is_none() {
            return Err(OptionError::new("rounds", "must be 1 or more, or `--from` names another program"));
        }
        within("shards", self.shards.into(), 1, SHARDS_MAX)?;
        if !self.shards.is_power_of_two() {
            return Err(OptionError::new("shards", "must be a power of two"));
        }
        within("rate", self.rate as usize, usize::from(self.shards), RATE_MAX as usize)?;
        within("value-size", self.value_size, 0, VALUE_BYTES_MAX)?;
        within("pause", self.pause.as_millis() as usize, 100, 60_000)?;
        within("limit", self.limit.as_millis() as usize, 1000, 3_600_000)
    }
}
