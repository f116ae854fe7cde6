//! What is told of a run that failed: the seed, the expanded options, the first property broken, the shortest trace that
//! shows it, and the command that replays it.

use kvorum_sim::plan::Plan;
use kvorum_sim::run::{Run, RunSettings, Violation};
use kvorum_sim::shrink::{Shrunk, shrink};
use kvorum_sim::simulate_caught;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Last lines of the trace that are shown; the file has them all.
const TRACE_LINES_SHOWN: usize = 60;

/// A failed run, made as small as it gets.
pub(super) struct Failure {
    pub(super) seed: u64,
    /// What the seed's own run showed.
    pub(super) first: Violation,
    /// How large its plan was.
    pub(super) size: Size,
    /// The smallest plan that breaks the same property, if it was shrunk.
    pub(super) plan: Plan,
    /// The runs that shrinking took; `None` if it was not asked for.
    pub(super) shrink_runs: Option<u32>,
    /// A run of that plan, with its trace.
    pub(super) run: Run,
    pub(super) bug: Option<String>,
}

/// How much there is in a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    faults: usize,
    operations: usize,
    clients: usize,
}

impl Size {
    pub(super) fn of(plan: &Plan) -> Self {
        Self { faults: plan.faults.len(), operations: plan.operations(), clients: plan.clients.len() }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults, {} operations of {} clients", self.faults, self.operations, self.clients)
    }
}

impl Failure {
    /// Looks into a plan that failed, and makes it small if `shrink_runs_max` is given.
    pub(super) fn new(
        seed: u64,
        plan: Plan,
        first: Violation,
        bug: Option<&str>,
        shrink_runs_max: Option<u32>,
    ) -> Self {
        let size = Size::of(&plan);
        let settings = |keep_trace| RunSettings { bug: bug.map(str::to_owned), keep_trace };
        let breaks_it = |plan: &Plan| {
            let run = simulate_caught(plan, &settings(false));
            run.violation.is_some_and(|violation| violation.property == first.property)
        };
        let shrunk = shrink_runs_max.map(|most| shrink(&plan, most, breaks_it));
        let (plan, shrink_runs) = match shrunk {
            Some(Shrunk { plan, runs }) => (plan, Some(runs)),
            None => (plan, None),
        };
        let run = simulate_caught(&plan, &settings(true));
        Self { seed, first, size, plan, shrink_runs, run, bug: bug.map(str::to_owned) }
    }

    /// Writes plan and trace into a folder. Returns where the plan is.
    pub(super) fn save(&self, folder: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("seed-{}.json", self.seed));
        std::fs::write(&path, super::replay::plan_text(&self.plan) + "\n")?;
        let trace: String = self.run.trace.iter().flat_map(|line| [line, "\n"]).collect();
        std::fs::write(path.with_extension("trace"), trace)?;
        Ok(path)
    }

    /// What people read.
    pub(super) fn to_text(&self, path: &Path) -> String {
        let mut text = String::new();
        self.write(&mut text, path).expect("writing to memory works");
        text
    }

    fn write(&self, text: &mut String, path: &Path) -> fmt::Result {
        let violation = self.run.violation.as_ref().unwrap_or(&self.first);
        writeln!(text, "seed {} failed: {} at {} ms", self.seed, violation.property, violation.at_ms)?;
        for line in violation.detail.lines() {
            writeln!(text, "  {line}")?;
        }
        if self.run.violation.is_none() {
            writeln!(text, "  a second run of the same plan did not fail: runs are not deterministic")?;
        }
        match self.shrink_runs {
            None => writeln!(text, "plan: {}, not shrunk", self.size)?,
            Some(runs) => {
                writeln!(text, "plan: {}, shrunk in {runs} runs from {}", Size::of(&self.plan), self.size)?;
            }
        }
        let options = serde_json::to_string(&self.plan.options).expect("options are plain data");
        writeln!(text, "options: {options}")?;
        writeln!(text, "faults:")?;
        for fault in &self.plan.faults {
            writeln!(text, "  at {} ms: {:?}", fault.at_ms, fault.kind)?;
        }
        let trace = &self.run.trace;
        let shown = &trace[trace.len().saturating_sub(TRACE_LINES_SHOWN)..];
        let trace_path = path.with_extension("trace");
        writeln!(text, "trace ({} of {} lines; all are in {}):", shown.len(), trace.len(), trace_path.display())?;
        for line in shown {
            writeln!(text, "  {line}")?;
        }
        let (features, bug) = match &self.bug {
            Some(bug) => (" --features seeded-bugs", format!(" --bug {bug}")),
            None => ("", String::new()),
        };
        writeln!(text, "replay it:\n  cargo run --release -p kvorum-sim{features} -- replay {}{bug}", path.display())
    }
}
