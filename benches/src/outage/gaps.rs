//! Arithmetic of interruptions: when writes were answered, and for how long none was.

use std::time::{Duration, Instant};

/// A write that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AnsweredAt {
    /// When it was due.
    pub(crate) due: Instant,
    /// When its acknowledgement came.
    pub(crate) at: Instant,
}

/// When the first acknowledgement came of a write that was due at `from` or later. Writes that were due before might have
/// been acknowledged by whoever is gone since.
pub(crate) fn first_after(answers: &[AnsweredAt], from: Instant) -> Option<Instant> {
    answers.iter().filter(|answer| answer.due >= from).map(|answer| answer.at).min()
}

/// The longest time between two acknowledgements that follow each other, where it touches `from` to `to`. Before the first
/// and after the last one, it is counted from `from` and up to `to`: with no acknowledgement at all it is all of that time.
pub(crate) fn longest(answers: &[AnsweredAt], from: Instant, to: Instant) -> Duration {
    assert!(from <= to, "time does not go back");
    let mut times: Vec<Instant> = answers.iter().map(|answer| answer.at).collect();
    times.sort_unstable();
    // The last one up to `from` begins the first gap, the first one from `to` on ends the last.
    let begin = times.iter().rfind(|&&at| at <= from).copied().unwrap_or(from);
    let end = times.iter().find(|&&at| at >= to).copied().unwrap_or(to);
    let within = times.into_iter().filter(|&at| at > from && at < to);
    let mut before = begin;
    let mut longest = Duration::ZERO;
    for at in within.chain([end]) {
        longest = longest.max(at - before);
        before = at;
    }
    longest
}

/// The smallest of `values` that at least this share of them does not exceed (the nearest rank); zero if there is none.
pub(crate) fn percentile(values: &[Duration], share: f64) -> Duration {
    assert!((0.0..=1.0).contains(&share), "a share is from 0 to 1");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// In milliseconds, for a table.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn answers(origin: Instant, due_and_at: &[(u32, u32)]) -> Vec<AnsweredAt> {
        due_and_at.iter().map(|&(due, at)| AnsweredAt { due: origin + due * MS, at: origin + at * MS }).collect()
    }

    #[test]
    fn only_writes_that_were_due_later_end_an_outage() {
        let origin = Instant::now();
        // The second was on its way when the leader died; its answer comes late and proves nothing.
        let seen = answers(origin, &[(0, 5), (8, 15), (20, 210), (30, 205)]);
        assert_eq!(first_after(&seen, origin + 10 * MS), Some(origin + 205 * MS), "they need not come in order");
        assert_eq!(first_after(&seen, origin + 40 * MS), None);
    }

    #[test]
    fn the_longest_gap_is_found_in_any_order_and_across_both_ends() {
        let origin = Instant::now();
        let at = |ms: u32| origin + ms * MS;
        let seen = answers(origin, &[(0, 10), (0, 40), (0, 20), (0, 100)]);
        assert_eq!(longest(&seen, at(12), at(40)), 20 * MS);
        assert_eq!(longest(&seen, at(15), at(18)), 10 * MS, "one gap covers the whole time");
        assert_eq!(longest(&seen, at(30), at(60)), 60 * MS, "the gap reaches beyond the end");
        assert_eq!(longest(&seen, at(20), at(20)), 20 * MS - 20 * MS, "no time, no gap");
    }

    #[test]
    fn silence_counts_as_a_gap() {
        let origin = Instant::now();
        let at = |ms: u32| origin + ms * MS;
        assert_eq!(longest(&[], at(10), at(70)), 60 * MS);
        let seen = answers(origin, &[(0, 30)]);
        assert_eq!(longest(&seen, at(10), at(100)), 70 * MS, "no answer came after the last one");
        assert_eq!(longest(&seen, at(0), at(50)), 30 * MS, "none came before the first one");
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<Duration> = (1..=200).rev().map(|ms| ms * MS).collect();
        assert_eq!(percentile(&values, 0.5), 100 * MS);
        assert_eq!(percentile(&values, 0.99), 198 * MS);
        assert_eq!(percentile(&values, 1.0), 200 * MS);
        assert_eq!(percentile(&values[..20], 0.99), 200 * MS, "of twenty it is the highest");
        assert_eq!(percentile(&values, 0.0), MS);
        assert_eq!(percentile(&[], 0.99), Duration::ZERO);
    }
}
