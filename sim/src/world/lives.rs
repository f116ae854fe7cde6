//! Whether keys with a time to live live as long as they should, by true time.
//!
//! The checker lets such a key vanish at any moment, since no answer tells log time. Here true time is compared: a key may be gone
//! once its time to live may be over by the fastest clock, and must be once it is over by the slowest.

use super::log_times::Apart;
use super::queue::Moment;
use crate::plan::{FaultKind, Plan};
use bytes::Bytes;
use kvorum_protocol::Version;
use std::collections::BTreeMap;

/// Most that a clock's rate is off, and log time's with it, in percent; rounded up for what log time is led back to wall clocks by.
const RATE_PERCENT: u64 = 6;
/// By so much a life may be shorter than it should be, in milliseconds: what log time loses when leadership passes on may be made up
/// for while the key lives.
const EARLY_MS: u64 = 1_500;
/// By so much it may be longer, besides the time for which nobody served.
const LATE_MS: u64 = 5_000;
/// A node that was down may be noticed, and led without, for so long besides.
const OUTAGE_MS: u64 = 3_000;

/// What was done to each key, and when.
#[derive(Debug, Default)]
pub(super) struct Lives {
    keys: BTreeMap<Bytes, Vec<Event>>,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) began: Moment,
    /// `None`: it may take effect at any time, or never.
    pub(super) ended: Option<Moment>,
    pub(super) what: What,
}

/// What it came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A key got a time to live, and with it this version.
    Stored { span: Span, version: Version },
    /// Any other write that took effect, or may have.
    Written,
    /// A read found this version.
    Found(Version),
    /// A read found nothing.
    Missed,
}

/// How long a key lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Span {
    /// For so many milliseconds from when the leader has decided it.
    For(u64),
    /// Until a right wall clock shows what it does at this moment, or so little longer that nobody sees it.
    Until(Moment),
}

/// What was seen of the log time by which a key lives.
pub(super) struct SeenOfLogTime<'a> {
    /// What it has made up for between two moments, in milliseconds.
    pub(super) made_up_ms: &'a dyn Fn(&[u8], Moment, Moment) -> u64,
    /// How far it was away from true time at the most.
    pub(super) apart: &'a dyn Fn(&[u8]) -> Apart,
}

impl Lives {
    pub(super) fn note(&mut self, key: &Bytes, event: Event) {
        self.keys.entry(key.clone()).or_default().push(event);
    }

    /// The first life that was too short or too long. Reads that began before `settled` don't count as too late: perhaps there was
    /// nobody who could have removed the key. A life may be shorter by what log time has made up for while it lasted; one that lasts
    /// until a time of the clock, by what log time is away from that.
    pub(super) fn broken(&self, plan: &Plan, settled: Moment, log_time: &SeenOfLogTime<'_>) -> Option<String> {
        if !most_clocks_are_right(plan) {
            // Whoever starts all over has to believe them.
            return None;
        }
        let late_ms = LATE_MS + outages_ms(plan);
        self.keys.iter().find_map(|(key, events)| {
            let apart = (log_time.apart)(key);
            let lives = events.iter().filter_map(|life| match life.what {
                What::Stored { span, version } => Some((life, span, version)),
                _ => None,
            });
            let mut lives = lives.filter_map(|(life, span, version)| {
                // No read that is over by then can have found it gone, if nobody else has written.
                let least = |ended: Moment| match span {
                    Span::For(ttl_ms) => {
                        let least_ms = (ttl_ms * 100 / (100 + RATE_PERCENT)).saturating_sub(EARLY_MS);
                        let made_up_ms = (log_time.made_up_ms)(key, life.began, ended);
                        life.began.after_ms(least_ms.saturating_sub(made_up_ms))
                    }
                    Span::Until(at) => Moment(0).after_ms(at.ms().saturating_sub(apart.ahead_ms + EARLY_MS)),
                };
                let most = |stored: Moment| match span {
                    Span::For(ttl_ms) => stored.after_ms(ttl_ms * (100 + RATE_PERCENT) / 100 + late_ms),
                    Span::Until(at) => stored.max(at).after_ms(apart.behind_ms + late_ms),
                };
                let broken = early(events, life, &least)
                    .map(|ended| format!("gone within {} ms", ended.ms() - life.began.ms()))
                    .or_else(|| {
                        let began = late(events, version, most(life.ended?), settled)?;
                        Some(format!("still there {} ms later", began.ms() - life.began.ms()))
                    })?;
                let span = match span {
                    Span::For(ttl_ms) => format!("for {ttl_ms} ms"),
                    Span::Until(at) => format!("until {} ms", at.ms()),
                };
                Some(format!("stored at {} ms {span}, and {broken}", life.began.ms()))
            });
            lives.next().map(|what| format!("{}: {what}", key.escape_ascii()))
        })
    }
}

/// When a read was over that found nothing although nobody else has written, and the life can't have been over.
fn early(events: &[Event], life: &Event, least: &dyn Fn(Moment) -> Moment) -> Option<Moment> {
    let stored = life.ended?;
    events.iter().filter(|read| read.what == What::Missed && read.began > stored).find_map(|read| {
        let ended = read.ended?;
        let between = |other: &Event| {
            let writes = matches!(other.what, What::Written | What::Stored { .. });
            writes && other.began != life.began && other.ended.is_none_or(|at| at >= life.began) && other.began <= ended
        };
        let too_soon = ended < least(ended) && !events.iter().any(between);
        too_soon.then_some(ended)
    })
}

/// When a read began that found the very value although its life was over at `over`, at the latest.
fn late(events: &[Event], version: Version, over: Moment, settled: Moment) -> Option<Moment> {
    let found = |read: &&Event| read.what == What::Found(version) && read.began >= settled && read.began > over;
    events.iter().find(found).map(|read| read.began)
}

/// Whether a majority of the nodes never have a wall clock that is off by more than its rate.
pub(super) fn most_clocks_are_right(plan: &Plan) -> bool {
    let jumps = |node: u16| {
        let jumped = |kind: &FaultKind| matches!(kind, FaultKind::WallJump { node: of, .. } if *of == node);
        let offset = plan.options.wall_offset_ms.get(usize::from(node)).copied().unwrap_or(0);
        offset != 0 || plan.faults.iter().any(|fault| jumped(&fault.kind))
    };
    let wrong = (0..plan.options.nodes + plan.options.spares).filter(|node| jumps(*node)).count();
    // Of the nodes that stay, a majority may be wrong, whoever the others are.
    let resizes = |kind: &FaultKind| {
        matches!(
            kind,
            FaultKind::Join { .. }
                | FaultKind::Remove { .. }
                | FaultKind::Replace { .. }
                | FaultKind::GoneForGood { .. }
        )
    };
    let wrong_max = if plan.faults.iter().any(|fault| resizes(&fault.kind)) { 0 } else { (plan.options.nodes - 1) / 2 };
    wrong <= usize::from(wrong_max)
}

/// For how long, all in all, nodes were down, and log time may have stood still with them.
fn outages_ms(plan: &Plan) -> u64 {
    let down = plan.faults.iter().filter_map(|fault| match fault.kind {
        FaultKind::Kill { down_ms, .. }
        | FaultKind::PowerLoss { down_ms, .. }
        | FaultKind::PowerLossEverywhere { down_ms }
        | FaultKind::CrashAtOperation { down_ms, .. }
        | FaultKind::CrashAtJournalFile { down_ms, .. }
        | FaultKind::Restart { down_ms, .. }
        | FaultKind::MisdirectWrite { down_ms, .. }
        | FaultKind::Wipe { down_ms, .. } => Some(down_ms),
        FaultKind::GoneForGood { .. }
        | FaultKind::PanicShard { .. }
        | FaultKind::SyncFails { .. }
        | FaultKind::WriteFails { .. }
        | FaultKind::ReadsFail { .. }
        | FaultKind::DiskStalls { .. }
        | FaultKind::FlipBit { .. } => Some(0),
        _ => None,
    });
    down.map(|ms| ms + OUTAGE_MS).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: Version = Version(7);

    fn event(from_ms: u64, to_ms: u64, what: What) -> Event {
        Event { began: Moment(0).after_ms(from_ms), ended: Some(Moment(0).after_ms(to_ms)), what }
    }

    fn broken(mut plan: Plan, events: &[Event]) -> Option<String> {
        plan.faults.clear();
        plan.options.wall_offset_ms.clear();
        let mut lives = Lives::default();
        events.iter().for_each(|event| lives.note(&Bytes::from_static(b"k"), *event));
        let log_time =
            SeenOfLogTime { made_up_ms: &|_, _, _| 0, apart: &|_| Apart { ahead_ms: 2_000, behind_ms: 1_000 } };
        lives.broken(&plan, Moment(0).after_ms(50_000), &log_time)
    }

    fn plan() -> Plan {
        Plan::draw_scaled(1, 1)
    }

    #[test]
    fn a_key_must_not_be_gone_before_its_time_unless_somebody_wrote() {
        let stored = event(0, 10, What::Stored { span: Span::For(20_000), version: V });
        let missed = |ms| event(ms, ms + 5, What::Missed);
        assert!(broken(plan(), &[stored, missed(1_000)]).is_some());
        assert!(broken(plan(), &[stored, missed(17_000)]).is_some());
        assert_eq!(broken(plan(), &[stored, missed(18_900)]), None, "a fast clock");
        assert_eq!(broken(plan(), &[stored, event(5, 15, What::Missed)]), None, "perhaps it came first");
        assert_eq!(broken(plan(), &[stored, event(100, 200, What::Written), missed(1_000)]), None);
        let open = Event { ended: None, ..event(500, 0, What::Written) };
        assert_eq!(broken(plan(), &[stored, open, missed(1_000)]), None);
        let later = event(2_000, 2_100, What::Written);
        assert!(broken(plan(), &[stored, missed(1_000), later]).is_some());
    }

    #[test]
    fn a_key_must_be_gone_in_the_end() {
        let stored = event(0, 10, What::Stored { span: Span::For(20_000), version: V });
        let found = |ms, version| event(ms, ms + 5, What::Found(version));
        assert_eq!(broken(plan(), &[stored, found(45_000, V)]), None, "not settled");
        assert!(broken(plan(), &[stored, found(55_000, V)]).is_some());
        assert_eq!(broken(plan(), &[stored, found(55_000, Version(9))]), None, "another value");
        let long = event(0, 10, What::Stored { span: Span::For(47_000), version: V });
        assert_eq!(broken(plan(), &[long, found(54_000, V)]), None, "a slow clock");
    }

    #[test]
    fn a_key_that_lives_until_a_time_of_the_clock_is_gone_then_and_not_before() {
        let until = |ms| event(0, 10, What::Stored { span: Span::Until(Moment(0).after_ms(ms)), version: V });
        let missed = |ms| event(ms, ms + 5, What::Missed);
        assert!(broken(plan(), &[until(20_000), missed(16_000)]).is_some());
        assert_eq!(broken(plan(), &[until(20_000), missed(16_600)]), None, "log time may have been ahead");
        let found = |ms| event(ms, ms + 5, What::Found(V));
        assert!(broken(plan(), &[until(43_000), found(50_000)]).is_some());
        assert_eq!(broken(plan(), &[until(45_000), found(50_000)]), None, "log time may have been behind");
        assert!(broken(plan(), &[until(0), found(50_000)]).is_some(), "it was over when it was stored");
        assert_eq!(broken(plan(), &[until(1 << 43), found(50_000)]), None);
        assert!(broken(plan(), &[until(1 << 43), missed(50_000)]).is_some());
    }

    #[test]
    fn a_plan_with_most_clocks_wrong_says_nothing() {
        let mut plan = plan();
        plan.options.nodes = 3;
        plan.options.wall_offset_ms = vec![0, 5, 0];
        plan.faults.clear();
        assert!(most_clocks_are_right(&plan));
        plan.faults.push(crate::plan::Fault { at_ms: 1, kind: FaultKind::WallJump { node: 1, ms: 9 } });
        assert!(most_clocks_are_right(&plan));
        plan.faults.push(crate::plan::Fault { at_ms: 1, kind: FaultKind::WallJump { node: 2, ms: 9 } });
        assert!(!most_clocks_are_right(&plan));
    }
}
