//! One plan, in full view.

use super::{Outcome, ReplayArguments, check_bug};
use kvorum_sim::plan::Plan;
use kvorum_sim::run::{Run, RunSettings};
use kvorum_sim::simulate_caught;
use std::io::{BufWriter, Write as _};

/// Runs a plan, and prints its trace and the verdict.
pub(super) fn replay(arguments: &ReplayArguments) -> Outcome {
    check_bug(arguments.bug.as_ref())?;
    let plan = match arguments.plan.parse() {
        Ok(seed) => Plan::draw_scaled(seed, arguments.scale.ops_scale),
        Err(_) => {
            let text =
                std::fs::read_to_string(&arguments.plan).map_err(|error| format!("{}: {error}", arguments.plan))?;
            serde_json::from_str(&text).map_err(|error| format!("{} is no plan: {error}", arguments.plan))?
        }
    };
    let settings = RunSettings { bug: arguments.bug.clone(), keep_trace: !arguments.quiet };
    let run = simulate_caught(&plan, &settings);
    print(&run, arguments.trace_from).map_err(|error| format!("can't write: {error}"))?;
    Ok(run.violation.is_none())
}

/// A plan as JSON.
pub(super) fn plan_text(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).expect("a plan is plain data")
}

fn print(run: &Run, trace_from_ms: Option<u64>) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in run.trace.iter().skip_while(|line| is_before(line, trace_from_ms)) {
        writeln!(out, "{line}")?;
    }
    match &run.violation {
        Some(violation) => writeln!(out, "FAILED: {violation}")?,
        None => writeln!(out, "passed")?,
    }
    writeln!(out, "trace hash {:016x}, {} simulated ms", run.trace_hash, run.simulated_ms)?;
    for (title, counts) in [("operations", &run.operations), ("faults", &run.faults), ("coverage", &run.coverage)] {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "{title}: {}", counts.join(", "))?;
    }
    out.flush()
}

/// Whether a line of a trace tells of a moment before this one. Lines begin with seconds, as in `12.345678s`.
fn is_before(line: &str, from_ms: Option<u64>) -> bool {
    let seconds = line.split_whitespace().next().and_then(|word| word.strip_suffix('s')?.parse::<f64>().ok());
    matches!((seconds, from_ms), (Some(seconds), Some(from_ms)) if seconds * 1000.0 < from_ms as f64)
}
