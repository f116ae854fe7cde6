//! What this node has done lately, second by second: rings of fixed size, which are the console's only memory of it. Pure.
//!
//! A console that kept its figures in the cluster would be blank when it is needed most. These are in the memory of one process, whether
//! there is a quorum or not.

use super::counted::Counted;
use kvorum_core::clock::Nanos;
use serde::ser::{SerializeSeq as _, Serializer};
use serde::{Serialize, ser::SerializeMap as _};
use std::collections::VecDeque;

/// Seconds that are kept: 15 minutes.
pub(super) const SECONDS: usize = 900;
/// Steps of ten seconds that are kept: 6 hours.
pub(super) const TENS: usize = 2_160;
/// Counters of so many steps of ten seconds are kept, so that a minute can be looked at as a whole.
const MINUTE: usize = 7;
const SECOND_MS: u64 = 1_000;
const TEN_MS: u64 = 10_000;
/// What all rings may take.
const BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!((SECONDS + TENS) * size_of::<Point>() + MINUTE * size_of::<Counted>() <= BYTES_MAX);

macro_rules! lines {
    ($($(#[$about:meta])* $name:ident = $text:literal,)*) => {
        /// What is drawn over time.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Line {
            $($(#[$about])* $name,)*
        }

        impl Line {
            /// All of them, in the order in which a point has them.
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];

            /// What it is called.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

lines! {
    /// Reads of keys per second.
    Get = "get",
    /// Puts per second.
    Put = "put",
    /// Other operations on keys per second.
    Other = "other",
    /// Operations per second that failed; the lines above are without them.
    Failed = "failed",
    /// Microseconds within which half of the reads were answered.
    ReadP50 = "read_p50",
    /// Microseconds within which 99 of 100 were.
    ReadP99 = "read_p99",
    /// The same of writes.
    WriteP50 = "write_p50",
    /// The same of writes.
    WriteP99 = "write_p99",
    /// Microseconds within which 999 of 1000 were.
    WriteP999 = "write_p999",
    /// Microseconds in a shard's queue, on average.
    Queue = "queue",
    /// Microseconds until a write is part of an entry, on average.
    Propose = "propose",
    /// Microseconds of a round of the journal, on average.
    Sync = "sync",
    /// Microseconds that were waited for other nodes after that, on average.
    Quorum = "quorum",
    /// Microseconds of a turn that applied entries, on average.
    Apply = "apply",
    /// Microseconds from proposing an entry until it was applied, on average.
    Commit = "commit",
    /// Microseconds within which 99 of 100 rounds of the journal were done.
    SyncP99 = "sync_p99",
    /// Rounds of the journal per second.
    Rounds = "rounds",
    /// Requests that an entry answers, on average.
    PerEntry = "per_entry",
    /// Requests per second that were refused as overloaded.
    Shed = "shed",
    /// Processors in use.
    Cpu = "cpu",
    /// Operations on keys per second of all nodes that told, failed ones left out.
    AllOps = "all_ops",
    /// Those that failed.
    AllFailed = "all_failed",
    /// Microseconds within which 99 of 100 reads were answered, at the slowest node that told.
    AllReadP99 = "all_read_p99",
    /// The same of writes.
    AllWriteP99 = "all_write_p99",
}

/// One step of every line. What was not measured is not a number; it is never 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point([f32; Line::ALL.len()]);

impl Point {
    /// Nothing was measured.
    pub(super) const UNKNOWN: Self = Self([f32::NAN; Line::ALL.len()]);

    /// Sets a line.
    #[must_use]
    pub(super) fn with(mut self, line: Line, value: Option<f64>) -> Self {
        self.0[line as usize] = value.map_or(f32::NAN, |value| value as f32);
        self
    }

    /// Operations on keys per second; `None` if nothing was measured.
    pub(super) fn operations_s(&self) -> Option<f64> {
        Some(self.get(Line::Get)? + self.get(Line::Put)? + self.get(Line::Other)?)
    }

    /// This node's point with what the others told.
    #[must_use]
    fn and(self, others: &Others) -> Self {
        let slower = |own: Line, other: Option<u32>| {
            let own = self.get(own);
            own.into_iter().chain(other.map(f64::from)).reduce(f64::max)
        };
        let (reads, writes) = (slower(Line::ReadP99, others.read_p99_us), slower(Line::WriteP99, others.write_p99_us));
        self.with(Line::AllOps, self.operations_s().map(|own| own + others.operations_s as f64))
            .with(Line::AllFailed, self.get(Line::Failed).map(|own| own + others.failed_s as f64))
            .with(Line::AllReadP99, reads)
            .with(Line::AllWriteP99, writes)
    }

    /// What was measured.
    pub(super) fn get(&self, line: Line) -> Option<f64> {
        let value = self.0[line as usize];
        (!value.is_nan()).then_some(f64::from(value))
    }
}

/// What the other nodes told of their last second, together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Others {
    /// Operations on keys per second.
    pub(super) operations_s: u64,
    /// Those that failed.
    pub(super) failed_s: u64,
    /// The slowest node's.
    pub(super) read_p99_us: Option<u32>,
    /// The slowest node's.
    pub(super) write_p99_us: Option<u32>,
}

/// A figure as the pages get it: whole from 100 on, else with two digits after the point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Figure(pub(super) f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = if self.0.abs() >= 100.0 { self.0.round() } else { (self.0 * 100.0).round() / 100.0 };
        if digits.fract() == 0.0 && digits.abs() < 9e15 {
            serializer.serialize_i64(digits as i64)
        } else {
            serializer.serialize_f64(digits)
        }
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.0.len()))?;
        for line in Line::ALL {
            all.serialize_element(&self.get(*line).map(Figure))?;
        }
        all.end()
    }
}

/// Points at equal distances.
#[derive(Debug)]
pub(super) struct Steps {
    step_ms: u64,
    max: usize,
    /// When the last one ended: Unix time in milliseconds.
    to_ms: u64,
    points: VecDeque<Point>,
}

impl Steps {
    fn new(step_ms: u64, max: usize) -> Self {
        Self { step_ms, max, to_ms: 0, points: VecDeque::with_capacity(max) }
    }

    /// When the last one ended: Unix time in milliseconds; 0 if there is none.
    pub(super) fn to_ms(&self) -> u64 {
        self.to_ms
    }

    /// One more point, after as many steps of which nothing is known.
    fn push(&mut self, skipped: u64, point: Point, to_ms: u64) {
        let gap = std::iter::repeat_n(Point::UNKNOWN, skipped.min(self.max as u64) as usize);
        for point in gap.chain([point]) {
            if self.points.len() == self.max {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
        self.to_ms = to_ms;
    }
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct OneLine<'a>(&'a VecDeque<Point>, Line);
        impl Serialize for OneLine<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|point| point.get(self.1).map(Figure)))
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step_ms", &self.step_ms)?;
        map.serialize_entry("to_ms", &self.to_ms)?;
        for line in Line::ALL {
            map.serialize_entry(line.name(), &OneLine(&self.points, *line))?;
        }
        map.end()
    }
}

/// The rings of a node.
#[derive(Debug)]
pub(super) struct History {
    seconds: Steps,
    tens: Steps,
    last: Option<(Nanos, Counted)>,
    /// At the begin of each of the last steps of ten seconds, the oldest first.
    ten_seconds: VecDeque<(Nanos, Counted)>,
}

impl History {
    /// Of a process that begins.
    pub(super) fn new() -> Self {
        Self {
            seconds: Steps::new(SECOND_MS, SECONDS),
            tens: Steps::new(TEN_MS, TENS),
            last: None,
            ten_seconds: VecDeque::with_capacity(MINUTE),
        }
    }

    /// Takes what was counted up to now; about once a second. The first look only begins. `others`: what the other nodes told lately, if
    /// they were asked.
    pub(super) fn take(&mut self, now: Nanos, wall_ms: u64, counted: &Counted, others: Option<&Others>) {
        let whole = |point: Point| others.map_or(point, |others| point.and(others));
        if let Some((before, was)) = &self.last {
            let past_ms = now.ms_since(*before);
            if past_ms == 0 {
                return;
            }
            let point = whole(counted.since(was, past_ms));
            let skipped = (past_ms + SECOND_MS / 2) / SECOND_MS;
            self.seconds.push(skipped.saturating_sub(1), point, wall_ms);
        }
        self.last = Some((now, counted.clone()));
        match self.ten_seconds.back() {
            None => self.ten_seconds.push_back((now, counted.clone())),
            // A tick that comes a moment early is a tick.
            Some((begun, was)) if now.ms_since(*begun) + SECOND_MS / 2 >= TEN_MS => {
                let past_ms = now.ms_since(*begun);
                let point = whole(counted.since(was, past_ms));
                self.tens.push((past_ms / TEN_MS).saturating_sub(1), point, wall_ms);
                if self.ten_seconds.len() == MINUTE {
                    self.ten_seconds.pop_front();
                }
                self.ten_seconds.push_back((now, counted.clone()));
            }
            Some(_) => {}
        }
    }

    /// The last 15 minutes.
    pub(super) fn seconds(&self) -> &Steps {
        &self.seconds
    }

    /// The last 6 hours.
    pub(super) fn tens(&self) -> &Steps {
        &self.tens
    }

    /// The newest second.
    pub(super) fn newest(&self) -> Point {
        self.seconds.points.back().copied().unwrap_or(Point::UNKNOWN)
    }

    /// What was counted in the last minute, and how many milliseconds that were; `None` right after a start.
    pub(super) fn minute(&self) -> Option<(Counted, u64)> {
        let ((begun, was), (now, counted)) = (self.ten_seconds.front()?, self.last.as_ref()?);
        let past_ms = now.ms_since(*begun);
        (past_ms > 0).then(|| (counted.minus(was), past_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(gets: u64) -> Counted {
        Counted { gets, ..Counted::default() }
    }

    fn gets(steps: &Steps) -> Vec<Option<f64>> {
        steps.points.iter().map(|point| point.get(Line::Get)).collect()
    }

    #[test]
    fn rings_forget_the_oldest_and_take_no_more_room() {
        let mut history = History::new();
        let capacity = (history.seconds.points.capacity(), history.tens.points.capacity());
        for second in 0..30_000_u64 {
            history.take(
                Nanos(1).after_ms(second * 1_000),
                5_000_000 + second * 1_000,
                &counted(second * second),
                None,
            );
        }
        assert_eq!((history.seconds.points.len(), history.tens.points.len()), (SECONDS, TENS));
        assert_eq!((history.seconds.points.capacity(), history.tens.points.capacity()), capacity);
        assert_eq!(history.seconds.to_ms, 5_000_000 + 29_999_000);
        let newest = history.newest().get(Line::Get).expect("it was counted");
        assert!((newest - 59_997.0).abs() < 1.0, "{newest}");
        let (minute, past_ms) = history.minute().expect("a minute has passed");
        assert!((60_000..70_000).contains(&past_ms), "{past_ms}");
        assert!(minute.gets > 3_500_000);
    }

    #[test]
    fn what_was_missed_is_a_gap_and_no_zero() {
        let mut history = History::new();
        history.take(Nanos(1), 0, &counted(0), None);
        history.take(Nanos(1).after_ms(1_000), 1_000, &counted(10), None);
        // Nobody was there for three seconds: the rate is over all of them.
        history.take(Nanos(1).after_ms(4_020), 4_020, &counted(40), None);
        let seen = gets(&history.seconds);
        assert_eq!((seen.len(), seen[0], seen[1], seen[2]), (4, Some(10.0), None, None));
        assert!((seen[3].expect("it was counted") - 9.93).abs() < 0.01);
    }

    #[test]
    fn what_others_told_is_added_and_the_slowest_counts() {
        let mut history = History::new();
        history.take(Nanos(1), 0, &counted(0), None);
        let others = Others { operations_s: 100, failed_s: 2, read_p99_us: Some(900), write_p99_us: None };
        history.take(Nanos(1).after_ms(1_000), 1_000, &counted(10), Some(&others));
        let point = history.newest();
        let seen = [Line::AllOps, Line::AllFailed, Line::AllReadP99, Line::AllWriteP99].map(|line| point.get(line));
        assert_eq!(seen, [Some(110.0), Some(2.0), Some(900.0), None]);
    }

    #[test]
    fn figures_are_short_and_nothing_is_null() {
        let json = |value: f64| serde_json::to_string(&Figure(value)).expect("JSON");
        assert_eq!([0.0, 0.126, 99.5, 100.4, 36_400.0].map(json), ["0", "0.13", "99.5", "100", "36400"]);
        let point = Point::UNKNOWN.with(Line::Put, Some(0.0));
        assert!(serde_json::to_string(&point).expect("JSON").starts_with("[null,0,null,"));
    }

    #[test]
    fn lines_go_out_by_name_and_in_their_order() {
        let mut history = History::new();
        for second in 0..3 {
            history.take(Nanos(1).after_ms(second * 1_000), second * 1_000, &counted(second * 5), None);
        }
        let json = serde_json::to_value(history.seconds()).expect("JSON");
        assert_eq!(json["get"], serde_json::json!([5, 5]));
        assert_eq!(json["read_p99"], serde_json::json!([null, null]));
        assert_eq!(json.as_object().expect("an object").len(), Line::ALL.len() + 2);
    }
}
