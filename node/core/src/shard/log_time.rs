//! Log time: the time of a shard, by which its keys expire. It is written into every entry, and never falls.
//!
//! A time to live is a duration, so log time must run as time does, whatever wall clocks show. It runs as the *monotonic* clock
//! of whoever leads. What a leader has to know for that is log time at one moment of its own clock: an [`Anchor`]. Every message
//! of a replica that has one says what log time is now, and every other replica keeps it. So an anchor is seldom older than a
//! heartbeat, and log time passes from leader to leader with an error of a message's delay: it loses that much, and gains
//! nothing.
//!
//! Wall clocks come in twice, and only ever as the time that a majority of the nodes' clocks have reached
//! ([`crate::health::wall_clocks`]):
//!
//! * When no replica that is heard has an anchor: all of them have just been started, and nobody knows for how long they were
//!   down. Then log time goes on from there, if that is later than the last entry's time.
//! * To make up, slowly, for what monotonic clocks and delays do to it in the long run: by [`SLEW_PPM`] at most.
//!
//! So a minority of clocks, however far off, moves nothing, and not even a majority ends a running cluster's lives by a jump. What
//! remains: while all nodes are down, or their machines are stopped without their monotonic clocks' knowing, lives last longer by
//! that time if wall clocks can't tell. Log time is behind by as much from then on. The next time that all replicas begin anew, with a
//! majority of clocks, makes up for it at once: what was written in between lives shorter by it (simulator, seed 370).

use crate::clock::{Nanos, Now};
use crate::seeded::{Bug, planted};

/// By how much log time is faster or slower than the leader's monotonic clock while it is led back to the clocks of a majority, in
/// parts per million: 43 s in a day, well over what a quartz is off, and too little for a time to live to notice.
const SLEW_PPM: u128 = 500;
/// A leader without an anchor waits this long for the clocks of a majority before it writes its first entry. Nodes tell each other
/// the time as soon as they are connected, and again each second.
const AGREEMENT_WAIT_MS: u64 = 2_000;
/// What a follower's anchor gives way by, as a part of the time since the anchor before, if its leader says that it is ahead. A
/// clock that is too fast by less than that is kept in step; a message that was late by seconds sets it back by little.
const GIVES_WAY_PART: u128 = 8;

const NANOS_PER_MS: u128 = 1_000_000;

/// What a replica knows of log time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct LogTime {
    anchor: Option<Anchor>,
    /// Since when this replica leads and does not know.
    waits_since: Option<Nanos>,
}

/// Log time at a moment of this node's monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Anchor {
    at: Nanos,
    /// In nanoseconds, so that a rate is kept over short steps.
    time: u128,
}

impl Anchor {
    fn elapsed(&self, now: Nanos) -> u128 {
        now.0.saturating_sub(self.at.0).into()
    }

    fn time_at(&self, now: Nanos) -> u128 {
        self.time + self.elapsed(now)
    }
}

/// How a leader came to its log time; for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Began {
    /// It had an anchor.
    Running,
    /// It took the time that a majority of clocks have reached, or the last entry's, if that is later.
    Agreed,
    /// It knew of no majority, and went on from the last entry's time; from its own clock, if there was none.
    Alone,
}

impl LogTime {
    /// Log time at `now` in milliseconds, if it is known.
    pub(super) fn at(&self, now: Nanos) -> Option<u64> {
        self.anchor.map(|anchor| to_ms(anchor.time_at(now)))
    }

    /// Whether log time is known here.
    pub(super) fn is_known(&self) -> bool {
        self.anchor.is_some()
    }

    /// Another replica of the group says that log time was `time_ms` when its message left. The word of the leader that this replica
    /// follows counts always, that of others as long as nothing is known here.
    pub(super) fn hear(&mut self, now: Nanos, time_ms: u64, from_leader: bool) {
        if time_ms == 0 {
            return;
        }
        let heard = u128::from(time_ms) * NANOS_PER_MS;
        let time = match self.anchor {
            None => heard,
            Some(_) if !from_leader => return,
            Some(anchor) => {
                let known = anchor.time_at(now);
                heard.max(known.saturating_sub(anchor.elapsed(now) / GIVES_WAY_PART))
            }
        };
        *self = Self { anchor: Some(Anchor { at: now, time }), waits_since: None };
    }

    /// Log time of the entry that a leader would write now, in milliseconds; `last_ms` is its last entry's, 0 if none has a time.
    /// `None`: it does not know yet how much time has passed, and must write none. To be asked with every tick.
    pub(super) fn lead(&mut self, now: Now, last_ms: u64) -> Option<(u64, Began)> {
        let last = u128::from(last_ms) * NANOS_PER_MS;
        let agreed = now.agreed_ms.map(|ms| u128::from(ms) * NANOS_PER_MS);
        let waited_ms = || self.waits_since.map_or(0, |since| now.monotonic.ms_since(since));
        let (time, began) = match (self.anchor, agreed) {
            (Some(anchor), _) => {
                let time = anchor.time_at(now.monotonic);
                (slewed(time, agreed, anchor.elapsed(now.monotonic)), Began::Running)
            }
            (None, Some(agreed)) => (agreed, Began::Agreed),
            (None, None) if waited_ms() >= AGREEMENT_WAIT_MS => {
                let own = u128::from(now.wall_ms) * NANOS_PER_MS;
                (if last_ms == 0 { own } else { last }, Began::Alone)
            }
            (None, None) => {
                self.waits_since.get_or_insert(now.monotonic);
                return None;
            }
        };
        let mut time = time.max(last);
        if planted(Bug::LogTimeFollowsWall) {
            time = time.max(u128::from(now.wall_ms) * NANOS_PER_MS);
        }
        if planted(Bug::LogTimeAwaitsWall) && last_ms > now.wall_ms {
            time = last;
        }
        *self = Self { anchor: Some(Anchor { at: now.monotonic, time }), waits_since: None };
        if planted(Bug::LogTimeFalls) && now.wall_ms < last_ms {
            return Some((now.wall_ms, began));
        }
        Some((to_ms(time), began))
    }
}

/// `time`, after `elapsed` since it was looked at last, moved towards what a majority of clocks show.
fn slewed(time: u128, agreed: Option<u128>, elapsed: u128) -> u128 {
    let most = elapsed * SLEW_PPM / 1_000_000;
    match agreed {
        Some(agreed) if agreed > time => time + most.min(agreed - time),
        Some(agreed) => time - most.min(time - agreed),
        None => time,
    }
}

fn to_ms(nanos: u128) -> u64 {
    u64::try_from(nanos / NANOS_PER_MS).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_700_000_000_000;
    const HOUR_MS: u64 = 3_600_000;
    const YEARS_MS: u64 = 10 * 365 * 24 * HOUR_MS;

    fn now(ms: u64, agreed_ms: Option<u64>) -> Now {
        Now { monotonic: Nanos(7).after_ms(ms), wall_ms: START_MS + ms, agreed_ms }
    }

    /// A leader's log time that began at the start.
    fn led() -> LogTime {
        let mut time = LogTime::default();
        assert_eq!(time.lead(now(0, Some(START_MS)), 0), Some((START_MS, Began::Agreed)));
        time
    }

    #[test]
    fn it_runs_as_the_monotonic_clock_does_whatever_wall_clocks_show() {
        for agreed in [None, Some(0), Some(START_MS - HOUR_MS), Some(START_MS + HOUR_MS), Some(START_MS + YEARS_MS)] {
            let mut time = led();
            let mut last = START_MS;
            for ms in 1..=100_000 {
                let (next, began) = time.lead(now(ms, agreed), last).unwrap();
                assert!(next >= last && began == Began::Running);
                last = next;
            }
            let off_ms = (last - START_MS).abs_diff(100_000);
            assert!(off_ms <= 50, "{agreed:?}: {off_ms} ms in 100 s are more than 500 ppm");
            assert_eq!(off_ms == 0, agreed.is_none(), "{agreed:?}");
        }
    }

    #[test]
    fn it_comes_to_what_a_majority_shows_and_stays_there() {
        let mut time = led();
        let mut last = START_MS;
        for second in 1..=3_600 {
            let ms = second * 1_000;
            (last, _) = time.lead(now(ms, Some(START_MS + ms + 1_000)), last).unwrap();
        }
        assert_eq!(last, START_MS + HOUR_MS + 1_000);
    }

    #[test]
    fn the_last_entry_is_never_later() {
        let mut time = led();
        let last = START_MS + HOUR_MS;
        assert_eq!(time.lead(now(1, Some(START_MS)), last).unwrap().0, last);
        let (later, _) = time.lead(now(60_001, None), last).unwrap();
        assert_eq!(later, last + 60_000, "and it runs on from there");
    }

    #[test]
    fn a_follower_has_its_leaders_time_and_leads_on_from_it() {
        let mut time = LogTime::default();
        assert_eq!(time.at(Nanos(5)), None);
        time.hear(now(0, None).monotonic, START_MS, true);
        assert_eq!(time.at(now(250, None).monotonic), Some(START_MS + 250));
        let (led, began) = time.lead(now(400, Some(START_MS + YEARS_MS)), START_MS + 90).unwrap();
        assert_eq!((led, began), (START_MS + 400, Began::Running), "it does not look at the wall");
    }

    #[test]
    fn a_fast_clock_is_kept_in_step_and_a_late_message_sets_back_by_little() {
        let mut time = LogTime::default();
        time.hear(now(0, None).monotonic, START_MS, true);
        for beat in 1..1_000 {
            // The leader's clock counts 90 ms while this one counts 100.
            time.hear(now(beat * 100, None).monotonic, START_MS + beat * 90, true);
            assert_eq!(time.at(now(beat * 100, None).monotonic), Some(START_MS + beat * 90));
        }
        let mut time = LogTime::default();
        time.hear(now(0, None).monotonic, START_MS, true);
        time.hear(now(5_000, None).monotonic, START_MS + 5_000, true);
        time.hear(now(5_100, None).monotonic, START_MS + 100, true);
        assert_eq!(time.at(now(5_100, None).monotonic), Some(START_MS + 5_100 - 13));
    }

    #[test]
    fn others_count_only_as_long_as_nothing_is_known() {
        let mut time = LogTime::default();
        time.hear(now(0, None).monotonic, 0, true);
        assert_eq!(time.at(Nanos(0)), None, "the other one knows nothing, either");
        time.hear(now(0, None).monotonic, START_MS, false);
        time.hear(now(0, None).monotonic, START_MS + YEARS_MS, false);
        assert_eq!(time.at(now(10, None).monotonic), Some(START_MS + 10));
    }

    #[test]
    fn whoever_knows_nothing_waits_for_a_majority_and_not_for_ever() {
        let last = START_MS + 5;
        let waited = |last| {
            let mut time = LogTime::default();
            assert_eq!(time.lead(now(0, None), last), None);
            assert_eq!(time.lead(now(AGREEMENT_WAIT_MS - 1, None), last), None);
            (time.lead(now(AGREEMENT_WAIT_MS, None), last), time)
        };
        assert_eq!(waited(last).0, Some((last, Began::Alone)));
        assert_eq!(waited(0).0, Some((START_MS + AGREEMENT_WAIT_MS, Began::Alone)), "its own clock");
        let (_, mut time) = waited(last);
        let agreed = Some(START_MS + HOUR_MS);
        let began = time.lead(now(AGREEMENT_WAIT_MS, agreed), last);
        assert_eq!(began, Some((last, Began::Running)), "keys may live by it already");
    }

    #[test]
    fn a_group_that_was_down_goes_on_from_what_a_majority_has_reached() {
        let last = START_MS + 5;
        let began = |agreed| LogTime::default().lead(now(0, Some(agreed)), last);
        assert_eq!(began(START_MS + HOUR_MS), Some((START_MS + HOUR_MS, Began::Agreed)));
        assert_eq!(began(START_MS - HOUR_MS), Some((last, Began::Agreed)), "never back");
    }

    #[test]
    fn no_number_of_an_enemy_overflows() {
        let mut time = LogTime::default();
        time.hear(Nanos(u64::MAX), u64::MAX, true);
        time.hear(Nanos(0), 1, true);
        assert!(time.at(Nanos(u64::MAX)).is_some());
        let far = Now { monotonic: Nanos(u64::MAX), wall_ms: u64::MAX, agreed_ms: Some(u64::MAX) };
        assert_eq!(time.lead(far, u64::MAX).unwrap().0, u64::MAX);
    }
}
