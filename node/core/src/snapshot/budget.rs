//! What a node takes in of snapshots per second, all its replicas together: many nodes that each keep to their rate must not flood
//! the one that they all send to.

use super::bucket::TokenBucket;
use super::limits::BURST_MS;
use crate::clock::Nanos;
use parking_lot::Mutex;

/// A node's budget for pulls. Who pulls asks first; what is asked for then counts.
#[derive(Debug)]
pub struct PullBudget(Mutex<TokenBucket>);

impl PullBudget {
    /// So many bytes per second, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Mutex::new(TokenBucket::new(bytes_per_second, BURST_MS)))
    }

    /// From now on so many bytes per second.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.0.lock().set_rate(bytes_per_second, BURST_MS);
    }

    /// Whether about so many bytes may be pulled now. If so, they count as pulled. The last piece may go over what is left; what
    /// follows waits for it.
    pub(super) fn take(&self, now: Nanos, bytes: u64) -> bool {
        let mut bucket = self.0.lock();
        let may = bucket.has_any(now);
        if may {
            bucket.take(bytes);
        }
        may
    }
}
