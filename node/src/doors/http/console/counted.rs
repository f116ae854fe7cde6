//! What a node has counted since it began, and what the difference of two looks says. Pure, but for the look.

use super::history::{Line, Point};
use crate::runtime::process::ProcessUse;
use crate::runtime::status::Inspector;
use kvorum_core::measure::meter::{Door, Ending, OperationKind, ReadPath};
use kvorum_core::measure::{BUCKETS, DurationsSum, Stage, bucket_end_ns};

/// Counters of a node. They never go back while its process lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    /// Reads of one or several keys that were answered.
    pub(super) gets: u64,
    /// Puts, likewise.
    pub(super) puts: u64,
    /// Other operations on keys, likewise.
    pub(super) others: u64,
    /// Operations on keys that failed.
    pub(super) failed: u64,
    /// How long reads took, failed ones included.
    pub(super) reads: DurationsSum,
    /// How long all took that writes.
    pub(super) writes: DurationsSum,
    /// How long the stages of writes took at their leader, by [`Stage`].
    pub(super) stages: [DurationsSum; Stage::ALL.len()],
    /// From proposing an entry until it was applied.
    pub(super) commit: DurationsSum,
    /// How long rounds of the journal took.
    pub(super) sync: DurationsSum,
    /// Entries that were proposed and applied here.
    pub(super) entries: u64,
    /// Requests that they answered.
    pub(super) entry_requests: u64,
    /// Requests that were refused as overloaded.
    pub(super) shed: u64,
    /// Processor time, in microseconds.
    pub(super) cpu_us: u64,
    /// GETs by [`ReadPath`].
    pub(super) paths: [u64; ReadPath::ALL.len()],
}

/// What an operation on keys is drawn as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Get,
    Put,
    OtherWrite,
    Other,
    /// It concerns no key's value.
    Not,
}

fn drawn(kind: OperationKind) -> Drawn {
    use OperationKind as K;
    match kind {
        K::Get | K::MultiGet => Drawn::Get,
        K::Put => Drawn::Put,
        K::Delete
        | K::Incr
        | K::Append
        | K::Expire
        | K::Persist
        | K::SetRange
        | K::SetBit
        | K::IncrDecimal
        | K::Batch
        | K::Atomic
        | K::Transaction => Drawn::OtherWrite,
        K::Scan => Drawn::Other,
        K::Await | K::Other => Drawn::Not,
    }
}

impl Counted {
    /// Looks at a node's counters: sums over its threads and shards. Some microseconds, and a millisecond or so for thousands of
    /// shards.
    pub(super) fn look(inspector: &Inspector) -> Self {
        let (doors, router) = (inspector.doors(), inspector.router());
        let mut counted = Self {
            shed: router.overloaded(),
            cpu_us: ProcessUse::look().cpu_us,
            sync: inspector.journal().round_durations(),
            paths: ReadPath::ALL.map(|path| doors.reads(path).into_iter().sum()),
            ..Self::default()
        };
        for door in Door::OF_CLIENTS {
            for &kind in OperationKind::ALL {
                let what = drawn(kind);
                if what == Drawn::Not {
                    continue;
                }
                let durations = doors.durations(door, kind);
                let all = durations.count();
                if all == 0 {
                    continue;
                }
                let answered = doors.ended(door, kind, Ending::Answered, all);
                counted.failed += all - answered;
                match what {
                    Drawn::Get => counted.gets += answered,
                    Drawn::Put => counted.puts += answered,
                    Drawn::OtherWrite | Drawn::Other | Drawn::Not => counted.others += answered,
                }
                match what {
                    Drawn::Get => add(&mut counted.reads, &durations),
                    Drawn::Put | Drawn::OtherWrite => add(&mut counted.writes, &durations),
                    Drawn::Other | Drawn::Not => {}
                }
            }
        }
        for (_, counts) in router.counts().all() {
            for (sum, stage) in counted.stages.iter_mut().zip(Stage::ALL) {
                counts.stages.of(stage).add_to(sum);
            }
            counts.commit.add_to(&mut counted.commit);
            counted.entries += counts.entries.get();
            counted.entry_requests += counts.entry_requests.get();
        }
        counted
    }

    /// What was counted since `earlier`.
    pub(super) fn minus(&self, earlier: &Self) -> Self {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let durations = |of: fn(&Self) -> &DurationsSum| difference(of(self), of(earlier));
        Self {
            gets: since(|counted| counted.gets),
            puts: since(|counted| counted.puts),
            others: since(|counted| counted.others),
            failed: since(|counted| counted.failed),
            reads: durations(|counted| &counted.reads),
            writes: durations(|counted| &counted.writes),
            stages: std::array::from_fn(|stage| difference(&self.stages[stage], &earlier.stages[stage])),
            commit: durations(|counted| &counted.commit),
            sync: durations(|counted| &counted.sync),
            entries: since(|counted| counted.entries),
            entry_requests: since(|counted| counted.entry_requests),
            shed: since(|counted| counted.shed),
            cpu_us: since(|counted| counted.cpu_us),
            paths: std::array::from_fn(|path| self.paths[path].saturating_sub(earlier.paths[path])),
        }
    }

    /// What the lines were since `earlier`, which is so many milliseconds ago.
    pub(super) fn since(&self, earlier: &Self, past_ms: u64) -> Point {
        let by = self.minus(earlier);
        let per_second = |count: u64| Some(count as f64 * 1_000.0 / past_ms.max(1) as f64);
        Point::UNKNOWN
            .with(Line::Get, per_second(by.gets))
            .with(Line::Put, per_second(by.puts))
            .with(Line::Other, per_second(by.others))
            .with(Line::Failed, per_second(by.failed))
            .with(Line::ReadP50, percentile_us(&by.reads, 0.5))
            .with(Line::ReadP99, percentile_us(&by.reads, 0.99))
            .with(Line::WriteP50, percentile_us(&by.writes, 0.5))
            .with(Line::WriteP99, percentile_us(&by.writes, 0.99))
            .with(Line::WriteP999, percentile_us(&by.writes, 0.999))
            .with(Line::Queue, mean_us(&by.stages[Stage::Queue as usize]))
            .with(Line::Propose, mean_us(&by.stages[Stage::Propose as usize]))
            .with(Line::Sync, mean_us(&by.stages[Stage::Sync as usize]))
            .with(Line::Quorum, mean_us(&by.stages[Stage::Quorum as usize]))
            .with(Line::Apply, mean_us(&by.stages[Stage::Apply as usize]))
            .with(Line::Commit, mean_us(&by.commit))
            .with(Line::SyncP99, percentile_us(&by.sync, 0.99))
            .with(Line::Rounds, per_second(by.sync.count()))
            .with(Line::PerEntry, (by.entries > 0).then(|| by.entry_requests as f64 / by.entries as f64))
            .with(Line::Shed, per_second(by.shed))
            .with(Line::Cpu, Some(by.cpu_us as f64 / 1_000.0 / past_ms.max(1) as f64))
    }
}

fn add(sum: &mut DurationsSum, more: &DurationsSum) {
    for (sum, more) in sum.buckets.iter_mut().zip(&more.buckets) {
        *sum += more;
    }
    sum.sum_ns = sum.sum_ns.wrapping_add(more.sum_ns);
}

fn difference(now: &DurationsSum, earlier: &DurationsSum) -> DurationsSum {
    DurationsSum {
        buckets: std::array::from_fn(|bucket| now.buckets[bucket].saturating_sub(earlier.buckets[bucket])),
        sum_ns: now.sum_ns.wrapping_sub(earlier.sum_ns),
    }
}

/// The mean in microseconds; `None` of nothing.
pub(super) fn mean_us(durations: &DurationsSum) -> Option<f64> {
    let count = durations.count();
    (count > 0).then(|| durations.sum_ns as f64 / count as f64 / 1_000.0)
}

/// Microseconds within which this share of the durations was; `None` of nothing.
///
/// Buckets end at powers of two. Within one the value is taken from where it stands among the bucket's, on a logarithmic scale: so it is
/// off by a factor of 2 at most, and by much less where durations are spread. What took longer than the last end counts as that.
pub(super) fn percentile_us(durations: &DurationsSum, share: f64) -> Option<f64> {
    let count = durations.count();
    if count == 0 {
        return None;
    }
    // The rank of the one that is looked for, from 1.
    let rank = (share * count as f64).ceil().clamp(1.0, count as f64);
    let mut below = 0.0;
    for (bucket, many) in durations.buckets.iter().enumerate() {
        let many = *many as f64;
        if below + many >= rank {
            let from = if bucket == 0 { None } else { bucket_end_ns(bucket - 1) };
            let ns = match (from, bucket_end_ns(bucket)) {
                (Some(from), Some(_)) => from as f64 * ((rank - below) / many).exp2(),
                (None, Some(to)) => to as f64 * (rank - below) / many,
                (Some(from), None) => from as f64,
                (None, None) => return None,
            };
            return Some(ns / 1_000.0);
        }
        below += many;
    }
    None
}

const _: () = assert!(BUCKETS > 2, "the first bucket begins at 0, and the last has no end");

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::measure::Durations;

    fn of(all: &[u64]) -> DurationsSum {
        let durations = Durations::default();
        all.iter().for_each(|us| durations.note(us * 1_000));
        DurationsSum::of([&durations])
    }

    #[test]
    fn percentiles_are_within_the_bucket_of_the_true_value() {
        let all: Vec<u64> = (1..=10_000).collect();
        let sum = of(&all);
        for (share, expected) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let found = percentile_us(&sum, share).expect("there are some");
            let factor: f64 = found / expected;
            assert!((0.5..2.0).contains(&factor), "{share}: {found} for {expected}");
        }
        assert_eq!(mean_us(&sum), Some(5_000.5));
    }

    #[test]
    fn percentiles_rise_with_their_share_and_none_is_made_up() {
        let sum = of(&[5, 5, 5, 100, 2_000, 30_000_000]);
        let found: Vec<f64> = [0.01, 0.5, 0.6, 0.8, 1.0].map(|share| percentile_us(&sum, share).expect("some")).into();
        assert!(found.is_sorted(), "{found:?}");
        assert!(found[1] <= 8.192);
        let last = bucket_end_ns(BUCKETS - 2).expect("it has an end") as f64 / 1_000.0;
        assert!((found[4] - last).abs() < 1.0, "what has no end counts as the last end: {found:?}");
        assert_eq!((percentile_us(&of(&[]), 0.5), mean_us(&of(&[]))), (None, None));
    }

    #[test]
    fn a_point_is_what_came_since() {
        let before = Counted { gets: 100, reads: of(&[10, 10]), entries: 5, entry_requests: 9, ..Counted::default() };
        let mut after = Counted { gets: 150, failed: 5, entries: 7, entry_requests: 15, ..before.clone() };
        add(&mut after.reads, &of(&[1_000; 50]));
        let point = after.since(&before, 500);
        assert_eq!((point.get(Line::Get), point.get(Line::Failed)), (Some(100.0), Some(10.0)));
        assert_eq!((point.get(Line::Put), point.get(Line::PerEntry)), (Some(0.0), Some(3.0)));
        let p50 = point.get(Line::ReadP50).expect("reads were answered");
        assert!((500.0..1_100.0).contains(&p50), "{p50}: without those from before");
        assert_eq!((point.get(Line::WriteP50), point.get(Line::Propose)), (None, None));
    }
}
