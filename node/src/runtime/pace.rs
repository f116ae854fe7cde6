//! Keeps background work to a rate.

use std::time::{Duration, Instant};

/// The rate is not spread over less than this: a sleep is not worth it.
const SLICE: Duration = Duration::from_millis(5);

/// Counts the bytes of one piece of work, and says when it is ahead of its rate.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    bytes_per_second: u64,
    bytes: u64,
}

impl Pace {
    /// Work that begins now, at no more than `bytes_per_second`; 0 counts as 1.
    pub(crate) fn begin(bytes_per_second: u64) -> Self {
        Self { began: Instant::now(), bytes_per_second: bytes_per_second.max(1), bytes: 0 }
    }

    /// So many more bytes were read or written. Returns until when to wait before going on, if that is worth it.
    pub(crate) fn note(&mut self, bytes: u64) -> Option<Instant> {
        self.bytes += bytes;
        let due = self.began + Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        (due.saturating_duration_since(Instant::now()) >= SLICE).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_only_for_what_is_worth_it_and_counts_all_bytes() {
        let mut pace = Pace::begin(1_000);
        assert_eq!(pace.note(1), None, "a millisecond is not slept off");
        let first = pace.note(9_999).expect("ten seconds are");
        let second = pace.note(5_000).expect("fifteen are");
        assert_eq!(first, pace.began + Duration::from_secs(10));
        assert_eq!(second, pace.began + Duration::from_secs(15));
    }

    #[test]
    fn a_rate_of_nothing_is_the_slowest_there_is() {
        let mut pace = Pace::begin(0);
        assert_eq!(pace.note(7), Some(pace.began + Duration::from_secs(7)));
    }
}
