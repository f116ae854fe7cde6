//! kvorum-bench: see the library. Exit codes: 0 done, 1 nothing worked, 2 usage, 3 unreachable.

use clap::Parser;
use kvorum_benches::run::Progress;
use kvorum_benches::{BenchError, Options, run};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

const NOTHING_WORKED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    let plan = match options.into_plan() {
        Ok(plan) => plan,
        Err(error) => return fail(USAGE, &error),
    };
    let is_terminal = std::io::stderr().is_terminal();
    let report = run(&plan, |progress| {
        if is_terminal {
            show(progress);
        }
    });
    let report = match report {
        Ok(report) => report,
        Err(error @ BenchError::Unreachable { .. }) => return fail(UNREACHABLE, &error),
        Err(error) => return fail(NOTHING_WORKED, &error),
    };
    let text = if json {
        serde_json::to_string_pretty(&report).expect("a report has no keys but texts") + "\n"
    } else {
        report.to_string()
    };
    // A reader that went away, such as `head`, is no reason to panic.
    if std::io::stdout().write_all(text.as_bytes()).is_err() || !report.worked() {
        return ExitCode::from(NOTHING_WORKED);
    }
    ExitCode::SUCCESS
}

/// One line per second on a terminal.
fn show(progress: Progress) {
    match progress {
        Progress::Filling { filled, keys } => eprintln!("  filling   {filled} of {keys} keys"),
        Progress::Measuring { elapsed, operations_per_second, latency, errors } => eprintln!(
            "  {:>4.0} s   {operations_per_second:>9.0}/s   p50 {:>7.0} µs   p99 {:>8.0} µs   {errors} errors",
            elapsed.as_secs_f64(),
            latency.p50_us,
            latency.p99_us,
        ),
        _ => {}
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kvorum-bench: {error}");
    ExitCode::from(code)
}
