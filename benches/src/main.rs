//! kvorum-bench: see the library. Exit codes: 0 done, 1 nothing worked, a write failed or was lost while the cluster was resized,
//! one failed while its nodes were restarted, or a signal came, 2 usage, 3 unreachable.

use clap::{Parser, Subcommand};
use kvorum_benches::compare::{CompareError, CompareOptions, compare};
use kvorum_benches::elections::{ElectionsOptions, elections};
use kvorum_benches::failover::{FailoverOptions, failover};
use kvorum_benches::files::{CSV_HEAD, csv_row};
use kvorum_benches::null::{self, NullOptions};
use kvorum_benches::resize::{ResizeOptions, resize};
use kvorum_benches::rolling::{RollingOptions, rolling};
use kvorum_benches::run::Progress;
use kvorum_benches::shards::{ShardsOptions, shards};
use kvorum_benches::stop;
use kvorum_benches::storage::{MeasureError, Table};
use kvorum_benches::{BenchError, Options, run};
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const NOTHING_WORKED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Without a subcommand: loads a Kvorum cluster in a closed loop or at a fixed rate, and reports throughput, latency and CPU per operation
#[derive(Parser, Debug)]
#[command(name = "kvorum-bench", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    load: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Compare(CompareOptions),
    Failover(FailoverOptions),
    Shards(ShardsOptions),
    Elections(ElectionsOptions),
    Resize(ResizeOptions),
    Rolling(RollingOptions),
    #[command(hide = true)]
    NullServer(NullOptions),
}

fn main() -> ExitCode {
    let CommandLine { load, command } = CommandLine::parse();
    // A load starts no servers, and the null server ends with its stdin.
    if !matches!(command, None | Some(Command::NullServer(_)))
        && let Err(error) = stop::on_signals()
    {
        return fail(NOTHING_WORKED, &error);
    }
    match command {
        None => run_load(load),
        Some(Command::Compare(options)) => run_compare(&options),
        Some(Command::Failover(options)) => print_measured(failover(&options, &mut tell), options.json),
        Some(Command::Shards(options)) => print_measured(shards(&options, &mut tell), options.json),
        Some(Command::Elections(options)) => print_measured(elections(&options, &mut tell), options.json),
        Some(Command::Resize(options)) => match resize(&options, &mut tell) {
            Ok(outcome) => print(&outcome, options.json, outcome.worked()),
            Err(error @ MeasureError::Option(_)) => fail(USAGE, &error),
            Err(error) => fail(NOTHING_WORKED, &error),
        },
        Some(Command::Rolling(options)) => match rolling(&options, &mut tell) {
            Ok(outcome) => print(&outcome.table, options.json, outcome.failed == 0),
            Err(error @ MeasureError::Option(_)) => fail(USAGE, &error),
            Err(error) => fail(NOTHING_WORKED, &error),
        },
        Some(Command::NullServer(options)) => match null::serve(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(NOTHING_WORKED, &error),
        },
    }
}

fn print_measured(measured: Result<Table, MeasureError>, json: bool) -> ExitCode {
    match measured {
        Ok(table) => print(&table, json, true),
        Err(error @ MeasureError::Option(_)) => fail(USAGE, &error),
        Err(error) => fail(NOTHING_WORKED, &error),
    }
}

fn run_load(options: Options) -> ExitCode {
    let (json, told) = (options.json, options.progress || std::io::stderr().is_terminal());
    let (csv, hdr, plot) = (options.csv.clone(), options.hdr.clone(), options.plot.clone());
    let plan = match options.into_plan() {
        Ok(plan) => plan,
        Err(error) => return fail(USAGE, &error),
    };
    let mut seconds = CSV_HEAD.to_owned();
    let report = run(&plan, |progress| {
        seconds.extend(csv_row(&progress));
        if told {
            show(progress);
        }
    });
    match report {
        Ok(report) => {
            let files = [(csv, seconds), (hdr, report.percentiles()), (plot, report.plot())];
            print_and_write(&report, json, report.worked(), files)
        }
        Err(error @ BenchError::Unreachable { .. }) => fail(UNREACHABLE, &error),
        Err(error) => fail(NOTHING_WORKED, &error),
    }
}

fn run_compare(options: &CompareOptions) -> ExitCode {
    match compare(options, &mut tell) {
        Ok(comparison) => {
            let files = [(options.csv.clone(), comparison.csv()), (options.plot.clone(), comparison.plot())];
            print_and_write(&comparison, options.json, comparison.worked(), files)
        }
        Err(error @ CompareError::Option(_)) => fail(USAGE, &error),
        Err(error) => fail(NOTHING_WORKED, &error),
    }
}

/// Prints in any case: a file that can't be written must not cost what was measured.
fn print_and_write<T: Serialize + Display>(
    outcome: &T,
    json: bool,
    worked: bool,
    files: impl IntoIterator<Item = (Option<PathBuf>, String)>,
) -> ExitCode {
    let mut exit = print(outcome, json, worked);
    for (path, text) in files.into_iter().filter_map(|(path, text)| Some((path?, text))) {
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("kvorum-bench: {}: {error}", path.display());
            exit = ExitCode::from(NOTHING_WORKED);
        }
    }
    exit
}

fn print<T: Serialize + Display>(outcome: &T, json: bool, worked: bool) -> ExitCode {
    let text = if json {
        serde_json::to_string_pretty(outcome).expect("an outcome has no keys but texts") + "\n"
    } else {
        outcome.to_string()
    };
    // A reader that went away, such as `head`, is no reason to panic.
    if std::io::stdout().write_all(text.as_bytes()).is_err() || !worked {
        return ExitCode::from(NOTHING_WORKED);
    }
    ExitCode::SUCCESS
}

/// What goes on.
fn tell(line: String) {
    eprintln!("  {line}");
}

/// One line per second.
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
