//! What is counted while a node runs, for whoever looks at it: nothing is decided by these figures.
//!
//! A [`Count`] has one writer at a time, so that counting is a load and a store of memory that no other processor writes: about a
//! nanosecond. Whoever reads sums over writers.

mod durations;
pub mod heat;
pub mod load;
pub mod meter;
pub mod monitor;
mod shard_counts;
pub mod slow;
mod stages;
pub mod tracing;

pub use durations::{BUCKETS, Durations, DurationsSum, bucket_end_ns};
pub use shard_counts::{ForwardEnd, RefusedFor, ReplicaCounts, RetryAnswer, ShardCounts};
pub use stages::{EntryStamps, Stage, StageDurations};

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer at a time.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds, as its only writer.
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// Adds, as one of several writers, all of which must use this.
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
