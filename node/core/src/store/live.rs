//! How much of each segment is still of use.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of records that the index points at, per segment; neither the frames nor the entries around them. Changed by the index's one writer, asked by anyone.
#[derive(Debug, Default)]
pub(super) struct LiveBytes {
    /// Segments without any are left out.
    segments: Mutex<BTreeMap<u32, u64>>,
    total: AtomicU64,
}

impl LiveBytes {
    /// The index has begun to point at a record of so many bytes.
    pub(super) fn add(&self, segment: u32, bytes: u64) {
        *self.segments.lock().entry(segment).or_default() += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The index has stopped pointing at a record of so many bytes.
    pub(super) fn take(&self, segment: u32, bytes: u64) {
        let mut segments = self.segments.lock();
        let live = segments.get_mut(&segment);
        debug_assert!(live.as_ref().is_some_and(|live| **live >= bytes), "segment {segment} has no {bytes} bytes");
        // In production a wrong count makes a bad choice of what to compact; it is not worth a shard.
        let Some(live) = live else { return };
        let taken = bytes.min(*live);
        *live -= taken;
        if *live == 0 {
            segments.remove(&segment);
        }
        self.total.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Of one segment.
    pub(super) fn of(&self, segment: u32) -> u64 {
        self.segments.lock().get(&segment).copied().unwrap_or(0)
    }

    /// Of all segments.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Of each segment that has any, by number.
    pub(super) fn all(&self) -> BTreeMap<u32, u64> {
        self.segments.lock().clone()
    }

    /// Takes these counts over in place of what there was.
    pub(super) fn set(&self, counts: BTreeMap<u32, u64>) {
        self.total.store(counts.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)), Ordering::Relaxed);
        *self.segments.lock() = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_per_segment_and_forgets_the_empty_ones() {
        let live = LiveBytes::default();
        live.add(1, 40);
        live.add(2, 48);
        live.add(1, 8);
        assert_eq!((live.of(1), live.of(2), live.of(3), live.total()), (48, 48, 0, 96));
        live.take(1, 48);
        assert_eq!((live.of(1), live.total()), (0, 48));
        assert_eq!(live.all(), BTreeMap::from([(2, 48)]));
        live.set(BTreeMap::from([(7, 8), (9, 16)]));
        assert_eq!((live.of(2), live.of(9), live.total()), (0, 16, 24));
    }
}
