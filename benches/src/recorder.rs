//! What one thread of the fleet measured.

use crate::limits::REASONS_MAX;
use crate::wire::Refusal;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Latencies in nanoseconds are kept up to this one, with three significant digits.
const LATENCY_NS_MAX: u64 = 700 * 1_000_000_000;

/// Counters and histograms of the measured time. One per thread: its connections lock it once per read from a socket,
/// and the live line once per second, so it is hardly ever contended.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    pub(crate) reads: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    /// Reads of keys that do not exist; they count as operations.
    pub(crate) misses: u64,
    /// Answers that another node gave than the one that was asked.
    pub(crate) forwarded: u64,
    /// Errors by name, those apart that are an overload.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) overloaded: u64,
    /// Requests without an answer when their connection was lost or the run ended.
    pub(crate) unanswered: u64,
    /// The longest that one of those had waited.
    pub(crate) unanswered_wait_max: Duration,
    /// Requests that were due in an open loop, and were not sent before the run ended.
    pub(crate) unsent: u64,
    /// Why connections were lost, over the whole run.
    pub(crate) lost: BTreeMap<String, u64>,
    pub(crate) reconnected: u64,
    /// Keys that were written before the run.
    pub(crate) filled: u64,
    pub(crate) last_answer: Option<Instant>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("constants are in range");
        Self {
            reads: histogram(),
            writes: histogram(),
            misses: 0,
            forwarded: 0,
            errors: BTreeMap::new(),
            overloaded: 0,
            unanswered: 0,
            unanswered_wait_max: Duration::ZERO,
            unsent: 0,
            lost: BTreeMap::new(),
            reconnected: 0,
            filled: 0,
            last_answer: None,
        }
    }

    /// Operations that worked.
    pub(crate) fn operations(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }

    pub(crate) fn count_read(&mut self, latency: Duration) {
        self.reads.saturating_record(nanoseconds(latency));
    }

    pub(crate) fn count_write(&mut self, latency: Duration) {
        self.writes.saturating_record(nanoseconds(latency));
    }

    pub(crate) fn count_refusal(&mut self, refusal: Refusal) {
        if refusal.is_overload {
            self.overloaded += 1;
        } else {
            add_reason(&mut self.errors, refusal.name.into_owned(), 1);
        }
    }

    pub(crate) fn count_unanswered(&mut self, waited: Duration) {
        self.unanswered += 1;
        self.unanswered_wait_max = self.unanswered_wait_max.max(waited);
    }

    /// Past [`REASONS_MAX`] different reasons, the rest are counted together.
    pub(crate) fn count_lost(&mut self, reason: String) {
        add_reason(&mut self.lost, reason, 1);
    }

    /// Adds what another thread measured.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.reads.add(&other.reads).expect("all histograms have the same bounds");
        self.writes.add(&other.writes).expect("all histograms have the same bounds");
        self.misses += other.misses;
        self.forwarded += other.forwarded;
        other.errors.iter().for_each(|(name, &count)| add_reason(&mut self.errors, name.clone(), count));
        self.overloaded += other.overloaded;
        self.unanswered += other.unanswered;
        self.unanswered_wait_max = self.unanswered_wait_max.max(other.unanswered_wait_max);
        self.unsent += other.unsent;
        other.lost.iter().for_each(|(reason, &count)| add_reason(&mut self.lost, reason.clone(), count));
        self.reconnected += other.reconnected;
        self.filled += other.filled;
        self.last_answer = self.last_answer.max(other.last_answer);
    }

    /// Reads and writes in one histogram.
    pub(crate) fn all(&self) -> Histogram<u64> {
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("both histograms have the same bounds");
        all
    }
}

fn add_reason(reasons: &mut BTreeMap<String, u64>, reason: String, count: u64) {
    let known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
    *reasons.entry(if known { reason } else { "other reasons".to_owned() }).or_default() += count;
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &'static str, is_overload: bool) -> Refusal {
        Refusal { name: name.into(), is_overload, pause: Duration::ZERO }
    }

    #[test]
    fn merged_recorders_add_up() {
        let mut one = Recorder::new();
        one.count_read(Duration::from_micros(100));
        one.count_refusal(refusal("Overloaded", true));
        let mut other = Recorder::new();
        other.count_write(Duration::from_secs(10_000));
        other.count_refusal(refusal("NotLeader", false));
        other.count_unanswered(Duration::from_secs(3));
        other.count_lost("closed".into());
        one.merge(&other);
        assert_eq!(one.operations(), 2);
        assert_eq!((one.overloaded, one.errors["NotLeader"]), (1, 1));
        assert_eq!((one.unanswered, one.unanswered_wait_max), (1, Duration::from_secs(3)));
        assert_eq!(one.lost["closed"], 1);
        let max = one.all().max();
        assert!(max >= LATENCY_NS_MAX, "a latency over the limit is kept as the limit, not dropped: {max}");
    }

    #[test]
    fn reasons_are_bounded() {
        let mut recorder = Recorder::new();
        (0..1000).for_each(|number| recorder.count_lost(format!("reason {number}")));
        assert!(recorder.lost.len() <= REASONS_MAX + 1);
        assert_eq!(recorder.lost.values().sum::<u64>(), 1000);
    }
}
