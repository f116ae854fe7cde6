//! What a run is asked for, and what it tells.

use std::collections::BTreeMap;
use std::fmt;

/// How to run a plan.
#[derive(Clone, Debug, Default)]
pub struct RunSettings {
    /// The seeded bug to plant, by its name.
    pub bug: Option<String>,
    /// Keep the trace's lines; without it only their hash is kept.
    pub keep_trace: bool,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The first property that was broken.
    pub violation: Option<Violation>,
    /// A hash over every event of the run. Equal plans give equal hashes, on every machine and in every build.
    pub trace_hash: u64,
    /// One line per event, if asked for.
    pub trace: Vec<String>,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Client operations by how they ended: `answered`, `refused` (certainly no effect), `unknown`.
    pub operations: BTreeMap<&'static str, u64>,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often states were reached that are seldom reached by chance.
    pub coverage: BTreeMap<&'static str, u64>,
}

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which, as a short name: `linearizability`, `durability`, `election-safety`, `progress`, `panic` …
    pub property: &'static str,
    /// What was seen, in as many lines as it takes.
    pub detail: String,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.property, self.at_ms, self.detail)
    }
}
