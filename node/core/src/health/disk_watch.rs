//! What a node does about a disk that fills up or stalls.
//!
//! A full disk is no failure: the node refuses what takes room and goes on. A disk that stalls is slow for everybody who
//! writes to this node's leaders; one that does not come back is a failure like any other. A node with a full or slow disk is
//! not fit to lead ([`crate::health::fitness`]): its shards hand over, and are not given back to it before the disk is well.

use crate::clock::Nanos;
use crate::health::fitness::{Fitness, Unfit};
use crate::limits::{DISK_SLOW_MAX, DISK_SLOW_MIN, DISK_STALL_FATAL, DISK_STALL_HAND_OVER, HEADROOM_PERCENT_MAX};
use std::time::Duration;

/// What there is to be seen at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// When, on the monotonic clock.
    pub now: Nanos,
    /// Free bytes of the disk; `None` if it could not be asked.
    pub free_bytes: Option<u64>,
    /// How long the sync under way has taken so far; zero if there is none.
    pub stalled_for: Duration,
}

/// What to do. Several may be due at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Actions {
    /// Whether the disk counts as full from now on.
    pub full: bool,
    /// It has just become so, or has just ceased to be.
    pub full_changed: bool,
    /// Whether the disk counts as slow from now on.
    pub slow: bool,
    /// It has just become so, or has just ceased to be.
    pub slow_changed: bool,
    /// The process ends.
    pub end_process: bool,
}

/// Decides. One value per disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskWatch {
    headroom_bytes: u64,
    full: bool,
    slow: bool,
    /// It counts as slow until then, if it does not stall again.
    slow_until: Nanos,
    /// For how long a stall makes it count as slow.
    slow_for: Duration,
}

impl DiskWatch {
    /// Watches a file system of `total_bytes` on which `headroom_bytes` are to be left free: for removals, compaction and
    /// the logs of followers. A small one is not kept from being used: [`HEADROOM_PERCENT_MAX`] of it are enough.
    pub fn new(headroom_bytes: u64, total_bytes: u64) -> Self {
        let most = total_bytes / 100 * HEADROOM_PERCENT_MAX;
        Self {
            headroom_bytes: headroom_bytes.min(most),
            full: false,
            slow: false,
            slow_until: Nanos(0),
            slow_for: DISK_SLOW_MIN,
        }
    }

    /// With fewer free bytes than this the disk counts as full.
    pub fn headroom_bytes(&self) -> u64 {
        self.headroom_bytes
    }

    /// Decides on what was seen. Full below the headroom, not full any more a quarter above it, so that a node at the
    /// limit does not change its mind with every write. Slow for [`DISK_SLOW_MIN`] after a stall, and for twice as long each
    /// time that it stalls again soon after: each change of its mind costs elections.
    pub fn observe(&mut self, seen: Observation) -> Actions {
        let (full_before, slow_before) = (self.full, self.slow);
        if let Some(free) = seen.free_bytes {
            let enough = if self.full { self.headroom_bytes + self.headroom_bytes / 4 } else { self.headroom_bytes };
            self.full = free < enough;
        }
        if seen.stalled_for >= DISK_STALL_HAND_OVER {
            if !slow_before {
                let was_slow_lately = self.slow_until != Nanos(0)
                    && Duration::from_millis(seen.now.ms_since(self.slow_until)) < self.slow_for;
                self.slow_for = if was_slow_lately { (2 * self.slow_for).min(DISK_SLOW_MAX) } else { DISK_SLOW_MIN };
            }
            self.slow_until = seen.now.after_ms(self.slow_for.as_millis() as u64);
        }
        self.slow = seen.now < self.slow_until;
        Actions {
            full: self.full,
            full_changed: self.full != full_before,
            slow: self.slow,
            slow_changed: self.slow != slow_before,
            end_process: seen.stalled_for >= DISK_STALL_FATAL,
        }
    }
}

impl Actions {
    /// Notes whether this node should lead.
    pub fn note_fitness(&self, fitness: &Fitness) {
        fitness.set(Unfit::DiskFull, self.full);
        fitness.set(Unfit::DiskSlow, self.slow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn seen(now_ms: u64, free_bytes: Option<u64>, stalled_ms: u64) -> Observation {
        Observation { now: Nanos(1).after_ms(now_ms), free_bytes, stalled_for: Duration::from_millis(stalled_ms) }
    }

    #[test]
    fn a_disk_is_full_below_its_headroom_until_there_is_a_quarter_more() {
        let mut watch = DiskWatch::new(GIB, 1000 * GIB);
        let mut full = |free| {
            let actions = watch.observe(seen(0, Some(free), 0));
            (actions.full, actions.full_changed)
        };
        assert_eq!(full(GIB), (false, false));
        assert_eq!(full(GIB - 1), (true, true));
        assert_eq!(full(GIB), (true, false));
        assert_eq!(full(GIB + GIB / 4 - 1), (true, false));
        assert_eq!(full(GIB + GIB / 4), (false, true));
        assert_eq!(full(GIB), (false, false));
    }

    #[test]
    fn a_disk_that_does_not_answer_is_what_it_was() {
        let mut watch = DiskWatch::new(GIB, 1000 * GIB);
        assert!(watch.observe(seen(0, Some(0), 0)).full);
        let actions = watch.observe(seen(1000, None, 0));
        assert!(actions.full && !actions.full_changed);
    }

    #[test]
    fn the_headroom_of_a_small_disk_is_a_twentieth_of_it_and_may_be_none() {
        let mut small = DiskWatch::new(GIB, 10 * GIB);
        assert!(!small.observe(seen(0, Some(GIB / 2), 0)).full);
        assert!(small.observe(seen(0, Some(GIB / 2 - GIB / 100), 0)).full);
        let mut none = DiskWatch::new(0, 10 * GIB);
        assert!(!none.observe(seen(0, Some(0), 0)).full);
    }

    #[test]
    fn a_stall_makes_a_disk_slow_for_a_while_and_ends_the_process_in_the_end() {
        let mut watch = DiskWatch::new(GIB, u64::MAX);
        let mut act = |now_ms, stalled_ms| {
            let actions = watch.observe(seen(now_ms, Some(u64::MAX), stalled_ms));
            (actions.slow, actions.slow_changed, actions.end_process)
        };
        let min_ms = DISK_SLOW_MIN.as_millis() as u64;
        assert_eq!(act(0, 499), (false, false, false));
        assert_eq!(act(1, 500), (true, true, false));
        assert_eq!(act(1_001, 1_500), (true, false, false));
        assert_eq!(act(1_000 + min_ms, 0), (true, false, false), "counted from the last stall that was seen");
        assert_eq!(act(1_001 + min_ms, 0), (false, true, false));
        assert_eq!(act(4_000_000, 9_999), (true, true, false));
        assert_eq!(act(4_000_001, 10_000), (true, false, true));
    }

    #[test]
    fn a_disk_that_stalls_again_and_again_is_slow_for_longer_each_time_up_to_a_limit() {
        let mut watch = DiskWatch::new(GIB, u64::MAX);
        let mut now_ms = 0;
        let mut spells = Vec::new();
        for _ in 0..6 {
            let began = now_ms;
            assert!(watch.observe(seen(now_ms, None, 600)).slow_changed);
            while watch.observe(seen(now_ms, None, 0)).slow {
                now_ms += 1_000;
            }
            spells.push((now_ms - began) / DISK_SLOW_MIN.as_millis() as u64);
            now_ms += 1_000;
        }
        assert_eq!(spells, [1, 2, 4, 8, 16, 16]);
        now_ms += 2 * DISK_SLOW_MAX.as_millis() as u64;
        assert!(watch.observe(seen(now_ms, None, 600)).slow);
        now_ms += DISK_SLOW_MIN.as_millis() as u64;
        assert!(!watch.observe(seen(now_ms, None, 0)).slow, "forgiven after a long time without one");
    }
}
