//! What many runs come to.

use super::campaign::Finished;
use super::table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums over runs.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) seeds: u64,
    /// Seeds of failed runs, with the property that was broken.
    pub(super) failures: BTreeMap<u64, &'static str>,
    /// Time that threads spent on these runs.
    busy: Duration,
    simulated_ms: u64,
    operations: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    coverage: BTreeMap<&'static str, u64>,
}

/// The property that two runs of one plan with different traces break.
pub(super) const DETERMINISM: &str = "determinism";

impl Totals {
    /// Adds a run. Returns the property that it broke.
    pub(super) fn add(&mut self, finished: &Finished) -> Option<&'static str> {
        let Finished { seed, run, took, second_hash } = finished;
        self.seeds += 1;
        self.busy += *took;
        self.simulated_ms += run.simulated_ms;
        for (sums, counts) in [
            (&mut self.operations, &run.operations),
            (&mut self.faults, &run.faults),
            (&mut self.coverage, &run.coverage),
        ] {
            counts.iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
        }
        let differs = second_hash.is_some_and(|hash| hash != run.trace_hash);
        let broken = run.violation.as_ref().map(|violation| violation.property);
        let broken = broken.or(differs.then_some(DETERMINISM));
        if let Some(property) = broken {
            self.failures.insert(*seed, property);
        }
        broken
    }

    fn seeds_per_minute(&self, wall: Duration) -> f64 {
        ratio(self.seeds as f64 * 60.0, wall.as_secs_f64())
    }

    fn simulated_per_second(&self) -> f64 {
        ratio(self.simulated_ms as f64 / 1000.0, self.busy.as_secs_f64())
    }

    /// The summary for machines, in one line.
    pub(super) fn to_json(&self, wall: Duration, jobs: usize) -> Value {
        let failures = self.failures.iter().map(|(seed, property)| json!({ "seed": seed, "property": property }));
        json!({
            "seeds": self.seeds,
            "failures": failures.collect::<Vec<_>>(),
            "jobs": jobs,
            "wall_seconds": rounded(wall.as_secs_f64()),
            "seeds_per_minute": rounded(self.seeds_per_minute(wall)),
            "simulated_seconds": self.simulated_ms / 1000,
            "simulated_seconds_per_second_per_core": rounded(self.simulated_per_second()),
            "operations": self.operations,
            "faults": self.faults,
            "coverage": self.coverage,
        })
    }

    /// The summary for people.
    pub(super) fn to_text(&self, wall: Duration, jobs: usize) -> String {
        let total = |counts: &BTreeMap<&'static str, u64>| counts.values().sum::<u64>();
        let runs = vec![
            row("seeds", self.seeds),
            row("failed", self.failures.len()),
            row("wall time", format!("{:.1} s with {jobs} threads", wall.as_secs_f64())),
            row("seeds per minute", format!("{:.0}", self.seeds_per_minute(wall))),
            row("simulated time", format!("{} s", self.simulated_ms / 1000)),
            row("simulated seconds per second per core", format!("{:.0}", self.simulated_per_second())),
            row("operations", total(&self.operations)),
            row("faults that took effect", total(&self.faults)),
        ];
        let mut text = table::render(&["runs", ""], &runs);
        for (title, counts) in
            [("operations", &self.operations), ("faults that took effect", &self.faults), ("coverage", &self.coverage)]
        {
            let rows: Vec<Vec<String>> = counts
                .iter()
                .map(|(name, count)| {
                    let count = if *count == 0 { "0  <== NEVER REACHED".to_owned() } else { count.to_string() };
                    vec![(*name).to_owned(), count]
                })
                .collect();
            text.push('\n');
            text.push_str(&table::render(&[title, "count"], &rows));
        }
        if !self.failures.is_empty() {
            let rows: Vec<Vec<String>> = self.failures.iter().map(|(seed, property)| row(seed, property)).collect();
            text.push('\n');
            text.push_str(&table::render(&["failed seed", "broken property"], &rows));
        }
        text
    }
}

fn row(name: impl ToString, value: impl ToString) -> Vec<String> {
    vec![name.to_string(), value.to_string()]
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
