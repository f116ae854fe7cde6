//! What a node does about a disk that fills up or stalls, and how much memory its indexes take: decided by
//! [`DiskWatch`], which is pure, and carried out by [`run`].
//!
//! A full disk is no failure: the node refuses what takes room and goes on. A disk that stalls is slow for everybody who
//! writes to this node's leaders; one that does not come back is a failure like any other. A node with a full or slow disk is
//! not fit to lead ([`crate::fitness`]): its shards hand over, and are not given back to it before the disk is well.

use crate::clock::{self, Nanos};
use crate::fitness::{Fitness, Unfit};
use crate::journal::JournalHandle;
use crate::limits::{
    DISK_LOOK_EVERY, DISK_SLOW_MAX, DISK_SLOW_MIN, DISK_STALL_FATAL, DISK_STALL_HAND_OVER, HEADROOM_PERCENT_MAX,
    WATCH_EVERY,
};
use crate::log::Disk;
use crate::pressure::Pressure;
use crate::router::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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
        DiskWatch {
            headroom_bytes: headroom_bytes.min(most),
            full: false,
            slow: false,
            slow_until: Nanos(0),
            slow_for: DISK_SLOW_MIN,
        }
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

/// What the watch needs of a running node.
pub struct WatchArguments {
    /// The node's shards.
    pub router: Arc<Router>,
    /// What is watched.
    pub disk: Arc<dyn Disk>,
    /// Whose syncs are watched.
    pub journal: JournalHandle,
    /// Where shards look.
    pub pressure: Arc<Pressure>,
    /// What is to be left free of the disk, in bytes.
    pub headroom_bytes: u64,
}

/// Watches until `stop`, or until the disk has stalled for too long: then `failed` is called with the reason.
pub async fn run(arguments: WatchArguments, failed: impl FnOnce(String), stop: CancellationToken) {
    let WatchArguments { router, disk, journal, pressure, headroom_bytes } = arguments;
    // A file system that does not say how large it is is taken for a large one.
    let total = ask(&disk, |disk| disk.total_bytes()).await.unwrap_or(u64::MAX);
    let mut watch = DiskWatch::new(headroom_bytes, total);
    let mut looked_at: Option<Nanos> = None;
    // A look may hang with the disk; the stall must be seen all the same.
    let mut looking: Option<tokio::task::JoinHandle<Option<u64>>> = None;
    let mut interval = tokio::time::interval(WATCH_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = clock::monotonic();
        let free_bytes = match looking.take() {
            Some(look) if look.is_finished() => look.await.ok().flatten(),
            unfinished => {
                looking = unfinished;
                None
            }
        };
        let look_is_due = looked_at.is_none_or(|at| now.ms_since(at) >= DISK_LOOK_EVERY.as_millis() as u64);
        if looking.is_none() && look_is_due {
            looked_at = Some(now);
            let disk = Arc::clone(&disk);
            looking = Some(tokio::spawn(async move { ask(&disk, |disk| disk.free_bytes()).await }));
            pressure.set_index_bytes(router.all_local().iter().map(|handle| handle.reader.index_bytes()).sum());
        }
        let actions = watch.observe(Observation { now, free_bytes, stalled_for: journal.stalled_for() });
        if let Some(free) = free_bytes {
            pressure.set_disk(free, actions.full);
        }
        actions.note_fitness(router.fitness());
        if actions.full_changed && actions.full {
            warn!(
                free_bytes,
                "the disk is almost full: this node hands leadership over, and refuses writes of shards that it leads"
            );
        } else if actions.full_changed {
            info!(free_bytes, "there is room on the disk again: writes are taken");
        }
        if actions.end_process {
            failed(format!("a sync has taken over {} s; the disk stalls", DISK_STALL_FATAL.as_secs()));
            return;
        }
        if actions.slow_changed && actions.slow {
            let limit_ms = DISK_STALL_HAND_OVER.as_millis() as u64;
            warn!(limit_ms, "the disk stalls: this node hands leadership over");
        } else if actions.slow_changed {
            info!("the disk has not stalled for a while: this node may lead again");
        }
    }
}

/// Asks the disk off the async workers. `None` if it can't say.
async fn ask<E>(
    disk: &Arc<dyn Disk>,
    question: impl FnOnce(&dyn Disk) -> Result<u64, E> + Send + 'static,
) -> Option<u64>
where
    E: Send + 'static,
{
    let disk = Arc::clone(disk);
    tokio::task::spawn_blocking(move || question(&*disk)).await.ok()?.ok()
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
