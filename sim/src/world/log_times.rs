//! Log time against true time, as whoever leads would write it into the next entry.

use super::queue::Moment;
use kvorum_protocol::ShardId;
use std::collections::BTreeMap;

/// Most that a clock's rate is off, and log time's with it, in percent; rounded up for what log time is led back to wall clocks by.
const RATE_PERCENT: u64 = 6;
/// A leader's log time may be this much behind, in milliseconds: ticks and whole milliseconds.
const BEHIND_MS: u64 = 100;
/// It may be this much ahead: what it knew when it took over was as old as the message that told it.
const AHEAD_MS: u64 = 6_000;

/// What was seen of each shard's log time.
#[derive(Clone, Debug, Default)]
pub(super) struct LogTimes {
    shards: BTreeMap<ShardId, Leadership>,
    /// What new leaders have made up for, and when, in milliseconds.
    made_up: Vec<(ShardId, Moment, u64)>,
    apart: BTreeMap<ShardId, Apart>,
}

/// How far log time was away from true time at the most, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Apart {
    pub(super) ahead_ms: u64,
    pub(super) behind_ms: u64,
}

/// A leader's log time when it was first and last looked at.
#[derive(Clone, Copy, Debug)]
struct Leadership {
    /// Node, process and term.
    leader: (usize, u64, u64),
    first: (Moment, u64),
    last: (Moment, u64),
}

impl LogTimes {
    /// `leader` (a node, its process, and the term) serves `shard`, and would write `time_ms` now. `right_ms` is what right wall clocks
    /// show; `None` if most are wrong. Says what is wrong with it.
    pub(super) fn look(
        &mut self,
        shard: ShardId,
        leader: (usize, u64, u64),
        now: Moment,
        time_ms: u64,
        right_ms: Option<u64>,
    ) -> Option<String> {
        let seen = (now, time_ms);
        let Some(before) = self.shards.get_mut(&shard) else {
            self.shards.insert(shard, Leadership { leader, first: seen, last: seen });
            return None;
        };
        let goes_on = before.leader == leader;
        let (from, from_ms) = if goes_on { before.first } else { before.last };
        let passed_ms = now.ms() - from.ms();
        let drift_ms = passed_ms * RATE_PERCENT / 100;
        let (runs_ms, least_ms) = (time_ms.saturating_sub(from_ms), passed_ms.saturating_sub(drift_ms + BEHIND_MS));
        let ahead = runs_ms > passed_ms + drift_ms + AHEAD_MS;
        // Nobody may have known how much time had passed.
        let is_caught_up = |right_ms: u64| time_ms <= right_ms + right_ms_drift(now) + AHEAD_MS;
        let excused = !goes_on && right_ms.is_none_or(is_caught_up);
        let behind = goes_on && runs_ms < least_ms;
        if (ahead && !excused) || behind {
            let whose = if goes_on { "this leader" } else { "the leader before" };
            return Some(format!("log time is {runs_ms} ms past that of {whose}, {passed_ms} ms ago: {leader:?}"));
        }
        if let Some(right_ms) = right_ms.filter(|_| !goes_on) {
            // Right clocks may all be fast, and have gained since the beginning.
            let most_ms = right_ms + right_ms_drift(now);
            let behind_ms = most_ms.saturating_sub(passed_ms).saturating_sub(from_ms);
            let made_up_ms = runs_ms.saturating_sub(passed_ms).min(behind_ms);
            self.made_up.extend((made_up_ms > 0).then_some((shard, now, made_up_ms)));
        }
        let first = if goes_on { before.first } else { seen };
        *before = Leadership { leader, first, last: seen };
        None
    }

    /// Whoever leads `shard` would write `time_ms` now, when a right wall clock shows `true_ms`.
    pub(super) fn note(&mut self, shard: ShardId, time_ms: u64, true_ms: u64) {
        let apart = self.apart.entry(shard).or_default();
        apart.ahead_ms = apart.ahead_ms.max(time_ms.saturating_sub(true_ms));
        apart.behind_ms = apart.behind_ms.max(true_ms.saturating_sub(time_ms));
    }

    /// How far a shard's log time was away from true time at the most.
    pub(super) fn apart(&self, shard: ShardId) -> Apart {
        self.apart.get(&shard).copied().unwrap_or_default()
    }

    /// What log time was behind and new leaders of the shard have made up for between two moments, in milliseconds. A shard is
    /// behind if its replicas were all down, and it heard no majority of clocks when it began anew; the next time that all of them
    /// begin anew makes up for it at once.
    pub(super) fn made_up_ms(&self, shard: ShardId, from: Moment, to: Moment) -> u64 {
        let within = |(of, at, _): &&(ShardId, Moment, u64)| *of == shard && (from..=to).contains(at);
        self.made_up.iter().filter(within).map(|(_, _, ms)| ms).sum()
    }
}

/// What the fastest clock may have gained since the beginning.
fn right_ms_drift(now: Moment) -> u64 {
    now.ms() * RATE_PERCENT / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: (usize, u64, u64) = (0, 1, 1);
    const OTHER: (usize, u64, u64) = (1, 2, 2);
    const START_MS: u64 = 1_700_000_000_000;

    fn look(times: &mut LogTimes, leader: (usize, u64, u64), at_ms: u64, time_ms: u64, most_are_right: bool) -> bool {
        let right_ms = most_are_right.then_some(START_MS + at_ms);
        times.look(ShardId(0), leader, Moment(0).after_ms(at_ms), START_MS + time_ms, right_ms).is_none()
    }

    #[test]
    fn it_runs_as_true_time_does() {
        let mut times = LogTimes::default();
        for at in 0..100 {
            assert!(look(&mut times, ONE, at * 1_000, at * 950, false));
        }
        assert!(!look(&mut times, ONE, 100_000, 3_600_000, false), "a jump");
        assert!(!look(&mut times, ONE, 110_000, 95_000, false), "it stands still");
    }

    #[test]
    fn how_far_it_was_away_from_true_time_is_known_of_each_shard() {
        let mut times = LogTimes::default();
        for (time_ms, true_ms) in [(1_000, 1_000), (1_300, 1_100), (1_150, 1_200)] {
            times.note(ShardId(0), time_ms, true_ms);
        }
        assert_eq!(times.apart(ShardId(0)), Apart { ahead_ms: 200, behind_ms: 50 });
        assert_eq!(times.apart(ShardId(1)), Apart::default());
    }

    #[test]
    fn what_a_new_leader_makes_up_for_is_what_log_time_was_behind() {
        let mut times = LogTimes::default();
        let at = |ms| Moment(0).after_ms(ms);
        assert!(look(&mut times, ONE, 10_000, 6_000, true), "four seconds behind");
        assert!(look(&mut times, OTHER, 20_000, 20_000, true));
        assert_eq!(times.made_up_ms(ShardId(0), at(10_000), at(20_000)), 4_000);
        assert_eq!(times.made_up_ms(ShardId(0), at(20_001), at(90_000)), 0);
        assert_eq!(times.made_up_ms(ShardId(1), at(0), at(90_000)), 0);
        assert!(look(&mut times, ONE, 30_000, 32_000, true), "what is ahead of all right clocks counts for nothing");
        assert_eq!(times.made_up_ms(ShardId(0), at(20_001), at(90_000)), 1_800);
    }

    #[test]
    fn a_new_leader_may_catch_up_with_right_clocks_and_no_further() {
        let mut times = LogTimes::default();
        assert!(look(&mut times, ONE, 0, 0, true));
        assert!(look(&mut times, OTHER, 30_000, 1_000, true), "it lost time");
        assert!(look(&mut times, ONE, 31_000, 31_000, true), "all of them were down");
        assert!(!look(&mut times, OTHER, 32_000, 3_600_000, true));
        let mut times = LogTimes::default();
        assert!(look(&mut times, ONE, 0, 0, false));
        assert!(look(&mut times, OTHER, 1_000, 3_600_000, false), "most clocks are wrong");
    }
}
