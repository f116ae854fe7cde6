//! How much somebody may ask of this node per second: a bucket that runs full (GCRA, the generic cell rate algorithm of ITU-T I.371),
//! for requests and for bytes.

use crate::clock::Nanos;
use kvorum_protocol::UserLimits;
use std::sync::atomic::{AtomicU64, Ordering};

const SECOND_NS: u64 = 1_000_000_000;

/// When what was asked so far is paid off, in nanoseconds.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes `cost` at `rate` per second. Somebody may be a second behind: so much may come at once.
    ///
    /// # Errors
    /// So many milliseconds are to be waited. Nothing was taken.
    fn take(&self, now: Nanos, cost: u64, rate: u64) -> Result<(), u64> {
        if rate == 0 {
            return Ok(());
        }
        let costs = price(cost, rate);
        let mut wait_ns = 0;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let due = due.max(now.0);
            wait_ns = (due - now.0).saturating_sub(SECOND_NS);
            (wait_ns == 0).then(|| due.saturating_add(costs))
        });
        taken.map(drop).map_err(|_| wait_ns.div_ceil(1_000_000))
    }

    /// Takes `cost`, whatever was taken before: what comes next waits for it.
    fn charge(&self, now: Nanos, cost: u64, rate: u64) {
        if rate > 0 {
            let costs = price(cost, rate);
            let _ = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.max(now.0).saturating_add(costs)));
        }
    }
}

/// How long something is paid for, in nanoseconds.
fn price(cost: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(cost) * u128::from(SECOND_NS) / u128::from(rate)).unwrap_or(u64::MAX)
}

/// What somebody has asked of this node lately.
#[derive(Debug, Default)]
pub struct Spent {
    requests: Bucket,
    bytes: Bucket,
}

impl Spent {
    /// A request of so many bytes has come.
    ///
    /// # Errors
    /// So many milliseconds are to be waited. It is not done, and costs nothing.
    pub fn ask(&self, now: Nanos, bytes: u64, limits: UserLimits) -> Result<(), u64> {
        self.requests.take(now, 1, limits.requests_per_s.into())?;
        self.bytes.take(now, bytes, limits.bytes_per_s)
    }

    /// An answer of so many bytes goes out.
    pub fn answer(&self, now: Nanos, bytes: u64, limits: UserLimits) {
        self.bytes.charge(now, bytes, limits.bytes_per_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Nanos {
        Nanos(SECOND_NS).after_ms(ms)
    }

    fn limits(requests_per_s: u32, bytes_per_s: u64) -> UserLimits {
        UserLimits { requests_per_s, bytes_per_s, connections: 0 }
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_as_much_as_the_rate() {
        let usage = Spent::default();
        let asked = |ms, limits| (0..1_000).take_while(|_| usage.ask(at(ms), 0, limits).is_ok()).count();
        assert_eq!(asked(0, limits(100, 0)), 101);
        assert_eq!(usage.ask(at(0), 0, limits(100, 0)), Err(10));
        assert_eq!(asked(500, limits(100, 0)), 50);
        assert_eq!(asked(60_000, limits(100, 0)), 101, "what was not used is not kept");
        assert_eq!(asked(60_000, limits(0, 0)), 1_000, "no limit");
    }

    #[test]
    fn large_requests_and_answers_are_paid_off() {
        let usage = Spent::default();
        let limits = limits(0, 1_000);
        assert_eq!(usage.ask(at(0), 10_000, limits), Ok(()), "one goes, however large");
        assert_eq!(usage.ask(at(0), 1, limits), Err(9_000));
        assert_eq!(usage.ask(at(9_000), 1, limits), Ok(()));
        usage.answer(at(20_000), 5_000, limits);
        assert_eq!(usage.ask(at(20_000), 1, limits), Err(4_000));
    }

    #[test]
    fn over_a_long_time_no_more_passes_than_the_rate() {
        let usage = Spent::default();
        let passed = (0..60_000).filter(|ms| usage.ask(at(*ms), 100, limits(50, 3_000)).is_ok()).count();
        assert!((1_800..=1_840).contains(&passed), "{passed}");
    }
}
