//! What a run leaves in files: its seconds as CSV, and its latencies in HdrHistogram's text format.

use crate::run::Progress;
use hdrhistogram::Histogram;
use std::fmt::Write;

/// Steps of each half of what is left to 100 %, as HdrHistogram's own tools have it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The head of [`csv_row`]'s columns.
pub const CSV_HEAD: &str = "seconds,operations_per_second,p50_us,p90_us,p99_us,p999_us,max_us,errors\n";

/// One measured second as a row with its end; none for anything else.
pub fn csv_row(progress: &Progress) -> Option<String> {
    let Progress::Measuring { elapsed, operations_per_second, latency, errors } = progress else { return None };
    let seconds = elapsed.as_secs_f64();
    let (p50, p90, p99) = (latency.p50_us, latency.p90_us, latency.p99_us);
    let (p999, max) = (latency.p999_us, latency.max_us);
    Some(format!("{seconds:.3},{operations_per_second:.1},{p50:.1},{p90:.1},{p99:.1},{p999:.1},{max:.1},{errors}\n"))
}

/// Percentiles as `HistogramPrinter` writes and its plotters read them; nanoseconds become microseconds.
pub(crate) fn percentiles(nanoseconds: &Histogram<u64>) -> String {
    let microseconds = |nanoseconds: f64| nanoseconds / 1000.0;
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut append = |line: std::fmt::Arguments<'_>| out.write_fmt(line).expect("writing to memory works");
    for value in nanoseconds.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let quantile = value.quantile_iterated_to();
        let us = microseconds(value.value_iterated_to() as f64);
        let total = nanoseconds.count_between(0, value.value_iterated_to());
        if quantile < 1.0 {
            append(format_args!("{us:12.3} {quantile:14.12} {total:10} {:14.2}\n", 1.0 / (1.0 - quantile)));
        } else {
            append(format_args!("{us:12.3} {quantile:14.12} {total:10}\n"));
        }
    }
    let (mean, deviation) = (microseconds(nanoseconds.mean()), microseconds(nanoseconds.stdev()));
    append(format_args!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n"));
    let (max, total) = (microseconds(nanoseconds.max() as f64), nanoseconds.len());
    append(format_args!("#[Max     = {max:12.3}, Total count    = {total:12}]\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;
    use std::time::Duration;

    #[test]
    fn percentiles_rise_to_the_whole() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000u64).for_each(|us| histogram.record(us * 1000).unwrap());
        let text = percentiles(&histogram);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((499.0..502.0).contains(&median[0]) && (499.0..502.0).contains(&median[2]), "{median:?}");
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1000.0]);
        assert!(text.contains("Total count    =         1000"), "{text}");
    }

    #[test]
    fn a_second_is_a_row_with_a_field_for_each_column() {
        let latency = Latency::new(&Histogram::new(3).unwrap());
        let elapsed = Duration::from_millis(1500);
        let second = Progress::Measuring { elapsed, operations_per_second: 7.25, latency, errors: 3 };
        let row = csv_row(&second).unwrap();
        assert_eq!(row.split(',').count(), CSV_HEAD.split(',').count());
        assert!(row.starts_with("1.500,7.2,") && row.ends_with(",3\n"), "{row}");
        assert_eq!(csv_row(&Progress::Filling { filled: 1, keys: 2 }), None);
    }
}
