//! The command line of `kvorum-bench failover`.

use crate::options::{OptionError, parse_duration, within};
use crate::storage::options::Place;
use clap::Args;
use kvorum_protocol::limits::{SHARDS_MAX, VALUE_BYTES_MAX};
use std::time::Duration;

/// Most writes that are due per second and shard: their times are kept.
const RATE_MAX: u32 = 10_000;

/// How long a shard takes no writes when its leader is killed, and when it hands over; starts three nodes of its own
#[derive(Args, Debug, Clone)]
pub struct FailoverOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// How often a node is killed (SIGKILL), each in turn
    #[arg(long, short = 'n', default_value_t = 20)]
    pub(super) kills: u32,
    /// How often the leader of a shard is asked to hand over to another node
    #[arg(long, default_value_t = 50)]
    pub(super) hand_overs: u32,
    /// Shards
    #[arg(long, default_value_t = 16)]
    pub(super) shards: u16,
    /// Writes that are due per second on each shard, whatever the answers do
    #[arg(long, default_value_t = 200)]
    pub(super) rate: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub(super) value_size: usize,
    /// How long to write before each kill and around each hand-over
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(super) pause: Duration,
    /// How long the shards may take to be written to again, and a node to be whole again
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(super) limit: Duration,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

impl FailoverOptions {
    /// # Errors
    /// The first option that is out of its bounds.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        within("kills", self.kills as usize, 0, 10_000)?;
        within("hand-overs", self.hand_overs as usize, 0, 10_000)?;
        within("shards", self.shards.into(), 1, SHARDS_MAX)?;
        if !self.shards.is_power_of_two() {
            return Err(OptionError::new("shards", "must be a power of two"));
        }
        within("rate", self.rate as usize, 1, RATE_MAX as usize)?;
        within("value-size", self.value_size, 0, VALUE_BYTES_MAX)?;
        within("pause", self.pause.as_millis() as usize, 100, 60_000)?;
        within("limit", self.limit.as_millis() as usize, 1000, 3_600_000)
    }
}
