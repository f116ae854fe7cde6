//! How much of a processor a shard takes where it is led: what leadership is balanced by (ring::by_load).
//!
//! Time is counted rather than requests: a scan, or a value of a mebibyte, costs what a thousand small reads do.

use super::Count;
use crate::clock::Nanos;
use kvorum_protocol::Term;
use parking_lot::Mutex;

/// The mean is over about this long, in seconds: an older second weighs less, by e after this time.
const MEAN_OVER_S: f64 = 60.0;
/// Looks that follow each other sooner than this, in milliseconds, see the same.
const LOOK_EVERY_MS: u64 = 1_000;

/// The load of one shard's replica on this node, over all incarnations.
#[derive(Debug, Default)]
pub struct Load {
    reads_ns: Count,
    seen: Mutex<Option<SeenLoad>>,
}

/// A leader's load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedLoad {
    /// Microseconds of processor time per second.
    pub micros_per_second: u32,
    /// For how long this replica has led, in milliseconds. A figure of a few seconds says little.
    pub led_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct SeenLoad {
    term: Term,
    since: Nanos,
    looked_at: Nanos,
    spent_ns: u64,
    /// Nanoseconds per second; too low by what the time before `since` would have weighed.
    mean: f64,
}

impl Load {
    /// Reads took so long, outside of turns. Any thread.
    pub fn note_reads(&self, ns: u64) {
        self.reads_ns.add_shared(ns);
    }

    /// The load of a replica that leads in `term`, whose turns have taken `turns_ns` since the process began. `None` until it was
    /// looked at for [`LOOK_EVERY_MS`] in that term. Look about once a second.
    pub fn look(&self, term: Term, turns_ns: u64, now: Nanos) -> Option<LedLoad> {
        let spent_ns = turns_ns.wrapping_add(self.reads_ns.get());
        let mut slot = self.seen.lock();
        let seen = match &mut *slot {
            Some(seen) if seen.term == term => seen,
            other => {
                *other = Some(SeenLoad { term, since: now, looked_at: now, spent_ns, mean: 0.0 });
                return None;
            }
        };
        let past_ms = now.ms_since(seen.looked_at);
        if past_ms >= LOOK_EVERY_MS {
            let past_s = past_ms as f64 / 1_000.0;
            let rate = spent_ns.saturating_sub(seen.spent_ns) as f64 / past_s;
            seen.mean += weight_of(past_s) * (rate - seen.mean);
            (seen.looked_at, seen.spent_ns) = (now, spent_ns);
        }
        let led_ms = seen.looked_at.ms_since(seen.since);
        let per_second = seen.mean / weight_of(led_ms as f64 / 1_000.0);
        // Of a float, `as` keeps to the bounds.
        (led_ms > 0).then(|| LedLoad { micros_per_second: (per_second / 1_000.0).round() as u32, led_ms })
    }
}

/// What the last so many seconds weigh in the mean.
fn weight_of(seconds: f64) -> f64 {
    1.0 - (-seconds / MEAN_OVER_S).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn it_is_the_mean_of_turns_and_reads_from_the_first_second_on() {
        let load = Load::default();
        let at = |second| Nanos(0).after_ms(second * 1_000);
        assert_eq!(load.look(Term(3), 500 * MS, at(0)), None, "nobody knows what that was spent for");
        for second in 1..=200 {
            load.note_reads(50 * MS);
            let found = load.look(Term(3), (500 + 100 * second) * MS, at(second)).unwrap();
            assert_eq!(found, LedLoad { micros_per_second: 150_000, led_ms: second * 1_000 });
            assert_eq!(load.look(Term(3), 9_000_000 * MS, at(second).after_ms(900)), Some(found), "too soon");
        }
    }

    #[test]
    fn it_follows_within_minutes_and_begins_anew_with_a_term() {
        let load = Load::default();
        let at = |second| Nanos(0).after_ms(second * 1_000);
        for second in 0..=100 {
            load.look(Term(3), 200 * MS * second, at(second));
        }
        let later = |second| load.look(Term(3), 20_000 * MS, at(second)).unwrap().micros_per_second;
        let (after_one, after_sixty, after_300) = (later(101), later(161), later(461));
        assert!((190_000..200_000).contains(&after_one), "{after_one}");
        assert!((60_000..90_000).contains(&after_sixty), "{after_sixty}");
        assert!(after_300 < 2_000, "{after_300}");
        assert_eq!(load.look(Term(4), 20_000 * MS, at(462)), None);
        assert_eq!(load.look(Term(4), 20_100 * MS, at(463)).unwrap().micros_per_second, 100_000);
    }
}
