//! Spans of time that were measured, and how they are shown: percentiles for programs, a histogram for people. Pure.

use crate::live::thousands;
use crate::output::Cell;
use crate::text::duration;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Longest span that is told apart, in nanoseconds: ten minutes, which is as long as an operation may take.
const LONGEST_NS: u64 = 600_000_000_000;
/// Digits of a span that are kept.
const DIGITS: u8 = 3;
/// The upper ends of the histogram's rows, in microseconds; what is longer has a row of its own.
const ROWS_US: [u64; 18] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000,
];
/// Columns of the longest bar, if the terminal has them.
const BAR_COLUMNS_MAX: usize = 40;
/// Columns of a row without its bar.
const ROW_COLUMNS: usize = 40;
/// Eighths of a column, the emptiest first.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// What was measured. Its memory does not grow with the number of spans.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    histogram: Histogram<u64>,
}

impl Spans {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("the bounds make sense");
        Self { histogram }
    }

    /// Longer ones than ten minutes count as ten minutes.
    pub(crate) fn note(&mut self, span: Duration) {
        self.histogram.saturating_record(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.histogram.max())
    }

    /// The percentiles by name, in microseconds; the first two are the shortest and the mean.
    pub(crate) fn facts(&self) -> Vec<(&'static str, Cell)> {
        if self.count() == 0 {
            return Vec::new();
        }
        let cell = |ns: u64| Cell::shown((ns as f64 / 100.0).round() / 10.0, duration(Duration::from_nanos(ns)));
        let at = |quantile: f64| cell(self.histogram.value_at_quantile(quantile));
        vec![
            ("min_us", cell(self.histogram.min())),
            ("mean_us", cell(self.histogram.mean() as u64)),
            ("p50_us", at(0.5)),
            ("p90_us", at(0.9)),
            ("p99_us", at(0.99)),
            ("p999_us", at(0.999)),
            ("max_us", cell(self.histogram.max())),
        ]
    }

    /// The percentiles in a line.
    pub(crate) fn line(&self) -> String {
        let facts = self.facts().into_iter();
        facts.map(|(name, cell)| format!("{} {}", shown_name(name), cell.shown)).collect::<Vec<_>>().join("  ")
    }

    /// A row per span of lengths, from the first that has something to the last.
    pub(crate) fn rows(&self, columns: usize) -> Vec<String> {
        let mut rows = Vec::new();
        let mut below = 0;
        for (from, to) in [0].into_iter().chain(ROWS_US).zip(ROWS_US.into_iter().map(Some).chain([None])) {
            let upto = to.map_or(self.count(), |to| self.histogram.count_between(0, to * 1000 - 1));
            rows.push((from, to, upto - below));
            below = upto;
        }
        let first = rows.iter().position(|(.., count)| *count > 0);
        let last = rows.iter().rposition(|(.., count)| *count > 0);
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        let most = rows.iter().map(|(.., count)| *count).max().unwrap_or(1);
        let bar_columns = columns.saturating_sub(ROW_COLUMNS).min(BAR_COLUMNS_MAX);
        let label = |from: u64, to: Option<u64>| match to {
            Some(to) => format!("{:>7} to {:<7}", short(from), short(to)),
            None => format!("{:>7} {:<10}", short(from), "and more"),
        };
        let row = |(from, to, count): &(u64, Option<u64>, u64)| {
            let share = *count as f64 * 100.0 / self.count() as f64;
            let bar = bar(*count, most, bar_columns);
            let text = format!("{} {:>10} {share:>5.1} %  {bar}", label(*from, *to), thousands(*count));
            text.trim_end().to_owned()
        };
        rows[first..=last].iter().map(row).collect()
    }
}

/// A percentile's name as people read it.
fn shown_name(name: &str) -> &str {
    if name == "p999_us" { "p99.9" } else { name.trim_end_matches("_us") }
}

/// A round number of microseconds.
fn short(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// A bar as long as this part of `most` is of the columns; what is not nothing shows at least an eighth of one.
fn bar(count: u64, most: u64, columns: usize) -> String {
    let eighths = (count as f64 / most.max(1) as f64 * columns as f64 * 8.0).round() as usize;
    let eighths = if count > 0 && columns > 0 { eighths.max(1) } else { eighths };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of_us: &[(u64, usize)]) -> Spans {
        let mut spans = Spans::new();
        of_us.iter().for_each(|(us, times)| (0..*times).for_each(|_| spans.note(Duration::from_micros(*us))));
        spans
    }

    #[test]
    fn a_histogram_begins_and_ends_where_there_is_something() {
        let spans = spans(&[(150, 900), (300, 2_000), (1_500, 20), (9_000_000, 1)]);
        assert_eq!(
            spans.rows(60)[..5],
            [
                " 100 µs to 200 µs         900  30.8 %  █████████",
                " 200 µs to 500 µs       2,000  68.5 %  ████████████████████",
                " 500 µs to 1 ms             0   0.0 %",
                "   1 ms to 2 ms            20   0.7 %  ▎",
                "   2 ms to 5 ms             0   0.0 %",
            ]
        );
        assert_eq!(spans.rows(60).last().unwrap(), "    5 s and more            1   0.0 %  ▏");
        assert!(spans.rows(30).iter().all(|row| row.chars().count() <= ROW_COLUMNS), "a narrow terminal has no bars");
        assert_eq!(Spans::new().rows(60), Vec::<String>::new());
    }

    #[test]
    fn percentiles_have_names() {
        let spans = spans(&[(100, 98), (2_000, 2)]);
        assert_eq!(
            spans.line(),
            "min 0.10 ms  mean 0.14 ms  p50 0.10 ms  p90 0.10 ms  p99 2.00 ms  p99.9 2.00 ms  max 2.00 ms"
        );
        assert_eq!(Spans::new().line(), "");
    }
}
