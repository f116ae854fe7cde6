//! A token bucket: what may be sent in the long run, and at once.

use crate::clock::Nanos;

/// Bytes that may be sent. It may go below zero, because what is sent is known only afterwards; what follows waits for it.
#[derive(Debug)]
pub(super) struct TokenBucket {
    bytes_per_second: u64,
    burst_bytes: i64,
    level_bytes: i64,
    /// Up to when the level is right, and what is left of a byte then, in bytes times nanoseconds per second.
    filled_at: Nanos,
    remainder: u64,
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket that fills in `burst_ms` milliseconds.
    pub(super) fn new(bytes_per_second: u64, burst_ms: u64) -> Self {
        assert!(bytes_per_second > 0);
        let burst_bytes =
            i64::try_from(u128::from(bytes_per_second) * u128::from(burst_ms) / 1_000).unwrap_or(i64::MAX);
        let burst_bytes = burst_bytes.max(1);
        Self { bytes_per_second, burst_bytes, level_bytes: burst_bytes, filled_at: Nanos(0), remainder: 0 }
    }

    /// From now on so much may be sent per second. What was owed or saved stays.
    pub(super) fn set_rate(&mut self, bytes_per_second: u64, burst_ms: u64) {
        let Self { burst_bytes, .. } = Self::new(bytes_per_second, burst_ms);
        (self.bytes_per_second, self.burst_bytes) = (bytes_per_second, burst_bytes);
        self.level_bytes = self.level_bytes.min(burst_bytes);
    }

    /// Whether anything may be sent now.
    pub(super) fn has_any(&mut self, now: Nanos) -> bool {
        let nanos = u128::from(now.0.saturating_sub(self.filled_at.0));
        let gained = nanos * u128::from(self.bytes_per_second) + u128::from(self.remainder);
        self.filled_at = now.max(self.filled_at);
        self.remainder = (gained % NANOS_PER_SECOND) as u64;
        let gained = i64::try_from(gained / NANOS_PER_SECOND).unwrap_or(i64::MAX);
        self.level_bytes = self.level_bytes.saturating_add(gained).min(self.burst_bytes);
        self.level_bytes > 0
    }

    /// So much is being sent.
    pub(super) fn take(&mut self, bytes: u64) {
        self.level_bytes = self.level_bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So much of what was taken is not sent.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.level_bytes = self.level_bytes.saturating_add(bytes).min(self.burst_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_its_rate_and_once_its_burst() {
        let mut bucket = TokenBucket::new(1_000, 100);
        let mut sent = 0;
        // Looked at 7 times per millisecond, for 10 seconds.
        for step in 0..70_000u64 {
            while bucket.has_any(Nanos(step * 1_000_000 / 7)) {
                bucket.take(1);
                sent += 1;
            }
        }
        assert!((10_090..=10_101).contains(&sent), "{sent}");
    }

    #[test]
    fn another_rate_counts_from_then_on() {
        let mut bucket = TokenBucket::new(1_000, 100);
        assert!(bucket.has_any(Nanos(0)));
        bucket.take(200);
        bucket.set_rate(10, 100);
        assert!(!bucket.has_any(Nanos(9_000_000_000)), "100 are owed, and 90 have come");
        assert!(bucket.has_any(Nanos(10_200_000_000)));
        bucket.take(bucket.level_bytes as u64);
        assert_eq!(bucket.burst_bytes, 1);
    }

    #[test]
    fn a_debt_is_worked_off_and_a_clock_that_stands_gives_nothing() {
        let mut bucket = TokenBucket::new(1_000, 100);
        assert!(bucket.has_any(Nanos(0)));
        bucket.take(1_100);
        assert!(!bucket.has_any(Nanos(999_000_000)) && !bucket.has_any(Nanos(5)));
        assert!(bucket.has_any(Nanos(1_001_000_000)));
        bucket.take(u64::MAX);
        bucket.give_back(u64::MAX);
        assert!(!bucket.has_any(Nanos(1_001_000_000)) || bucket.level_bytes <= bucket.burst_bytes);
    }
}
