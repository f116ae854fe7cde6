//! Figures as Prometheus reads them.

use kvorum_core::measure::{BUCKETS, DurationsSum, bucket_end_ns};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::fmt;

/// Labels, of which the names are known when the program is compiled.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Labels(pub(super) Vec<(&'static str, Cow<'static, str>)>);

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().map(|(name, value)| (*name, value.as_ref())).collect::<Vec<_>>().encode(encoder)
    }
}

/// One metric with all its samples. The name is without `_total`, which the format adds to a counter's.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

#[derive(Clone, Debug)]
pub(super) enum Samples {
    Gauge(Vec<(Labels, f64)>),
    Counter(Vec<(Labels, f64)>),
    Durations(Vec<(Labels, DurationsSum)>),
}

/// Metrics on their way out.
#[derive(Debug, Default)]
pub(super) struct Metrics(pub(super) Vec<Metric>);

impl Metrics {
    /// A figure that may go down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.gauges(name, help, vec![(Labels::default(), value)]);
    }

    /// A figure that only grows.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.counters(name, help, vec![(Labels::default(), value as f64)]);
    }

    /// Figures that may go down.
    pub(super) fn gauges(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.0.push(Metric { name, help, samples: Samples::Gauge(samples) });
    }

    /// Figures that only grow.
    pub(super) fn counters(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) {
        self.0.push(Metric { name, help, samples: Samples::Counter(samples) });
    }

    /// Histograms.
    pub(super) fn durations(&mut self, name: &'static str, help: &'static str, samples: Vec<(Labels, DurationsSum)>) {
        self.0.push(Metric { name, help, samples: Samples::Durations(samples) });
    }

    /// In the text format, version 0.0.4.
    pub(super) fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

/// Samples that differ in one label.
pub(super) fn by<V>(
    label: &'static str,
    values: impl IntoIterator<Item = (impl Into<Cow<'static, str>>, V)>,
) -> Vec<(Labels, V)> {
    values.into_iter().map(|(value, sample)| (Labels(vec![(label, value.into())]), sample)).collect()
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A metric without samples would be a heading without a text.
        for Metric { name, help, samples } in self.0.iter().filter(|metric| !metric.samples.is_empty()) {
            let of_kind = match samples {
                Samples::Gauge(_) => MetricType::Gauge,
                Samples::Counter(_) => MetricType::Counter,
                Samples::Durations(_) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, of_kind)?;
            match samples {
                Samples::Gauge(samples) => {
                    for (labels, value) in samples {
                        ConstGauge::new(*value).encode(metric.encode_family(labels)?)?;
                    }
                }
                Samples::Counter(samples) => {
                    for (labels, value) in samples {
                        ConstCounter::new(*value).encode(metric.encode_family(labels)?)?;
                    }
                }
                Samples::Durations(samples) => {
                    for (labels, durations) in samples {
                        let end = |bucket| bucket_end_ns(bucket).map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
                        let buckets: [(f64, u64); BUCKETS] =
                            std::array::from_fn(|bucket| (end(bucket), durations.buckets[bucket]));
                        metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(
                            durations.sum_ns as f64 / 1e9,
                            durations.count(),
                            &buckets,
                            None,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Samples {
    fn is_empty(&self) -> bool {
        match self {
            Self::Gauge(samples) | Self::Counter(samples) => samples.is_empty(),
            Self::Durations(samples) => samples.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::measure::Durations;

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let durations = Durations::default();
        durations.note(10_000);
        durations.note(60_000_000_000);
        let mut metrics = Metrics::default();
        metrics.counters("kvorum_things", "Things", by("kind", [("a", 1.0), ("b", 2.0)]));
        metrics.gauge("kvorum_level", "Level", 0.5);
        metrics.gauges("kvorum_none", "None", Vec::new());
        metrics.durations("kvorum_time_seconds", "Time", by("door", [("x", DurationsSum::of([&durations]))]));
        let text = metrics.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "# HELP kvorum_things_total Things",
                "# TYPE kvorum_things_total counter",
                "kvorum_things_total{kind=\"a\"} 1.0",
                "kvorum_things_total{kind=\"b\"} 2.0",
            ]
        );
        assert!(text.contains("kvorum_level 0.5\n") && !text.contains("kvorum_none"), "{text}");
        for line in [
            "kvorum_time_seconds_bucket{le=\"8.192e-06\",door=\"x\"} 0",
            "kvorum_time_seconds_bucket{le=\"+Inf\",door=\"x\"} 2",
            "kvorum_time_seconds_count{door=\"x\"} 2",
        ] {
            let reordered = line.replace("{le=\"8.192e-06\",door=\"x\"}", "{door=\"x\",le=\"8.192e-06\"}");
            let reordered = reordered.replace("{le=\"+Inf\",door=\"x\"}", "{door=\"x\",le=\"+Inf\"}");
            assert!(lines.contains(&line) || lines.contains(&&*reordered), "{line} is not in {text}");
        }
    }
}
