//! What was found, for people and for programs.

use super::load::{Checked, LoadSample};
use crate::storage::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What growing and shrinking cost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ResizeOutcome {
    /// What was measured, and with what.
    pub title: String,
    /// Each load, on a cluster of its own.
    pub loads: Vec<LoadOutcome>,
}

/// What it cost under one load.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LoadOutcome {
    /// What was written.
    pub load: String,
    /// Step by step.
    pub steps: Vec<StepOutcome>,
    /// Writes that were acknowledged, those before the first step included.
    pub acknowledged: u64,
    /// Writes that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Keys that do not hold at the end what was acknowledged last.
    pub lost: u64,
    /// The first of them, in words.
    pub first_lost: Option<String>,
}

/// One step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StepOutcome {
    /// From how many nodes to how many, or what else was done.
    pub step: String,
    /// Seconds until the nodes were those that were wanted, each held its share, and nothing moved.
    pub settled_s: f64,
    /// Seconds until a node that was killed counted as down.
    pub down_s: Option<f64>,
    /// Replicas that were made.
    pub moved: u64,
    /// Replicas that must be made at least.
    pub least: u64,
    /// Snapshots that were taken in.
    pub snapshots: u64,
    /// MiB of snapshots that were sent.
    pub snapshot_mib: f64,
    /// Writes that failed meanwhile.
    pub failed: u64,
    /// Before it, while nothing moved.
    pub before: Figures,
    /// During it.
    pub during: Figures,
    /// After it, while nothing moved.
    pub after: Figures,
}

/// What a load got.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Figures {
    /// Acknowledged writes per second.
    pub per_second: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many processors were taken by others than the nodes and the writers.
    pub others: f64,
}

impl Figures {
    pub(super) fn of(measured: &LoadSample, others: f64) -> Self {
        let ms = |share: f64| measured.latency.value_at_quantile(share) as f64 / 1000.0;
        Self { per_second: measured.per_second(), p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0), others }
    }
}

impl LoadOutcome {
    pub(super) fn new(load: String, steps: Vec<StepOutcome>, checked: Checked) -> Self {
        let Checked { written, failed, lost, first_lost } = checked;
        Self { load, steps, acknowledged: written, failed, lost, first_lost }
    }
}

impl ResizeOutcome {
    /// Whether no write failed, and none that was acknowledged is lost.
    pub fn worked(&self) -> bool {
        self.loads.iter().all(|load| load.failed.is_empty() && load.lost == 0)
    }
}

impl fmt::Display for ResizeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        self.loads.iter().try_for_each(|load| write!(f, "\n{}", load.table()))
    }
}

impl LoadOutcome {
    fn table(&self) -> Table {
        let head = [
            "step",
            "settled after, s",
            "moved / least",
            "snapshots, MiB",
            "failed",
            "writes/s before → during → after",
            "p50, ms",
            "p99, ms",
            "p99 during / before",
            "/ after",
            "max, ms",
            "processors of others",
        ];
        let mut table = Table::new(format!("load: {}", self.load), &head);
        for step in &self.steps {
            let three = |of: fn(&Figures) -> f64, decimals: usize| {
                let [before, during, after] = [&step.before, &step.during, &step.after].map(of);
                format!("{before:.decimals$} → {during:.decimals$} → {after:.decimals$}")
            };
            table.row(vec![
                step.step.clone(),
                format!("{:.1}", step.settled_s),
                format!("{} / {}", step.moved, step.least),
                format!("{} of {:.0}", step.snapshots, step.snapshot_mib),
                step.failed.to_string(),
                three(|figures| figures.per_second, 0),
                three(|figures| figures.p50_ms, 2),
                three(|figures| figures.p99_ms, 2),
                format!("{:.2} ×", step.during.p99_ms / step.before.p99_ms),
                format!("{:.2} ×", step.during.p99_ms / step.after.p99_ms),
                format!("{:.0}", step.during.max_ms),
                three(|figures| figures.others, 2),
            ]);
        }
        for (step, down) in self.steps.iter().filter_map(|step| Some((&step.step, step.down_s?))) {
            table.notes.push(format!("{step}: it counted as down after {down:.1} s."));
        }
        let failed: Vec<String> = self.failed.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
        let failed =
            if failed.is_empty() { "none failed".to_owned() } else { format!("failed: {}", failed.join(", ")) };
        let lost = match &self.first_lost {
            None => "every key holds what was acknowledged last".to_owned(),
            Some(first) => format!("{} KEYS DO NOT HOLD WHAT WAS ACKNOWLEDGED LAST: {first}", self.lost),
        };
        table.notes.push(format!("{} writes were acknowledged; {failed}; {lost}.", self.acknowledged));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_or_a_lost_write_is_no_success() {
        let outcome = |checked| ResizeOutcome {
            title: "Title".to_owned(),
            loads: vec![LoadOutcome::new("full".to_owned(), Vec::new(), checked)],
        };
        assert!(outcome(Checked { written: 7, ..Checked::default() }).worked());
        let failed = Checked { failed: BTreeMap::from([("Timeout (unknown)".to_owned(), 1)]), ..Checked::default() };
        assert!(!outcome(failed).worked());
        let lost = Checked { lost: 1, first_lost: Some("key 3".to_owned()), ..Checked::default() };
        assert!(outcome(lost.clone()).to_string().contains("1 KEYS DO NOT HOLD WHAT WAS ACKNOWLEDGED LAST: key 3"));
        assert!(!outcome(lost).worked());
    }
}
