//! How many dumps of indexes a node holds in memory at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most replicas of one node that hold a dump of their index at a time, 16 bytes per key. After a load that reached all shards
/// evenly all of them want a checkpoint at once, and their dumps would take two thirds of what their indexes do. One is being
/// written, and one waits for that.
const DUMPS_MAX: usize = 2;

/// The right of a node's replicas to hold a dump of their index.
#[derive(Debug)]
pub struct DumpPermits {
    left: AtomicUsize,
}

/// Held by a replica for as long as its dump is in memory.
#[derive(Debug)]
pub(super) struct DumpPermit(Arc<DumpPermits>);

impl Default for DumpPermits {
    fn default() -> Self {
        Self { left: AtomicUsize::new(DUMPS_MAX) }
    }
}

impl DumpPermits {
    /// A permit, if one is left.
    pub(super) fn take(self: &Arc<Self>) -> Option<DumpPermit> {
        let one_less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        Some(DumpPermit(Arc::clone(self)))
    }
}

impl Drop for DumpPermit {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_few_and_come_back() {
        let permits: Arc<DumpPermits> = Arc::default();
        let held: Vec<_> = std::iter::from_fn(|| permits.take()).collect();
        assert_eq!(held.len(), DUMPS_MAX);
        drop(held);
        assert!(permits.take().is_some());
    }
}
