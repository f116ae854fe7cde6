//! The command line of the simulator. Here, and only here, it meets threads, clocks, files and terminals.

mod bugs;
mod campaign;
mod failure;
mod flips;
mod replay;
mod run;
mod table;
mod totals;

use clap::{Args, Parser, Subcommand};
use kvorum_sim::flips::{Flip, Stop};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

/// Something that was looked for was found: a failing seed, or a bug that no seed found.
const EXIT_FAILED: u8 = 1;
/// What was asked for can't be done.
const EXIT_USAGE: u8 = 2;

/// Kvorum's deterministic simulator: a cluster, its clients and everything that goes wrong, from one seed.
#[derive(Parser)]
#[command(name = "kvorum-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the plans of many seeds, and shrink those that fail. Exit code 1 if any does.
    Run(RunArguments),
    /// Run one plan, and print its trace and the verdict. Exit code 1 if it fails.
    Replay(ReplayArguments),
    /// Plant each known bug, and count the seeds until a run shows it. Exit code 1 if one is never shown.
    Bugs(BugsArguments),
    /// Flip every byte of a stopped node's files, one at a time, and watch it become whole again. Exit code 1 if it does not.
    Flips(FlipsArguments),
    /// Print the plan of a seed as JSON.
    Plan {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        scale: Scale,
    },
}

#[derive(Args)]
struct Scale {
    /// Operations of the clients, in percent of what the seed draws. Another scale is another run.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    ops_scale: u32,
}

#[derive(Args)]
struct Jobs {
    /// Runs at a time. Each has a thread of its own; by default as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

impl Jobs {
    fn count(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(processors, usize::from)
    }
}

#[derive(Args)]
struct RunArguments {
    /// The seeds: `0..300` ends before 300.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, default_value = "0..300")]
    seeds: Range<u64>,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    scale: Scale,
    /// Run each seed twice, and fail if the traces differ.
    #[arg(long)]
    twice: bool,
    /// Print the summary as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Write a line with seed and trace hash for each seed to this file, to be compared with another build's.
    #[arg(long, value_name = "FILE")]
    hashes: Option<PathBuf>,
    /// Leave failing plans as they are.
    #[arg(long)]
    no_shrink: bool,
    /// Most runs that shrinking one failing plan may take.
    #[arg(long, value_name = "N", default_value_t = 300)]
    shrink_runs: u32,
    /// Where failing plans and their traces are written to.
    #[arg(long, value_name = "FOLDER", default_value = "target/sim-failures")]
    failures: PathBuf,
    /// Plant a bug; see the command `bugs`.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

#[derive(Args)]
struct ReplayArguments {
    /// A seed, or a file with a plan.
    #[arg(value_name = "SEED|FILE.json")]
    plan: String,
    #[command(flatten)]
    scale: Scale,
    /// Print the verdict only.
    #[arg(long, conflicts_with = "trace_from")]
    quiet: bool,
    /// Leave out what happened earlier, in simulated milliseconds.
    #[arg(long, value_name = "MS")]
    trace_from: Option<u64>,
    /// Plant a bug; see the command `bugs`.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

#[derive(Args)]
struct BugsArguments {
    /// Only this bug; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Most seeds for one bug.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds_max: u64,
    #[command(flatten)]
    jobs: Jobs,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct FlipsArguments {
    /// What the cluster is built from.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// How the node was stopped; by default both, one after the other.
    #[arg(long, value_name = "clean|killed", value_parser = parse_stop)]
    stop: Option<Stop>,
    /// Every so-manieth byte that is in use of files of a page and more.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Every so-manieth byte of smaller files.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    small_every: u64,
    /// Beginning with this one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Only files with this in their path.
    #[arg(long, value_name = "PART")]
    file: Option<String>,
    /// Only this flip; may be given more than once.
    #[arg(long, value_name = "FILE:OFFSET:BITS")]
    only: Vec<Flip>,
    #[command(flatten)]
    jobs: Jobs,
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Bugs(arguments) => bugs::run(&arguments),
        Command::Flips(arguments) => flips::run(&arguments),
        Command::Plan { seed, scale } => {
            let plan = kvorum_sim::plan::Plan::draw_scaled(seed, scale.ops_scale);
            println!("{}", replay::plan_text(&plan));
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(problem) => {
            eprintln!("kvorum-sim: {problem}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// What a command comes to: whether nothing failed, or why it can't be done.
type Outcome = Result<bool, String>;

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.replace('_', "").parse::<u64>().map_err(|_| format!("`{text}` is no number"));
    let (from, to) = text.split_once("..").ok_or("two numbers with `..` between")?;
    let seeds = number(from)?..number(to)?;
    if seeds.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(seeds) }
}

fn parse_stop(text: &str) -> Result<Stop, String> {
    match text {
        "clean" => Ok(Stop::Clean),
        "killed" => Ok(Stop::Killed),
        _ => Err("`clean` or `killed`".to_owned()),
    }
}

/// Whether a bug of that name can be planted.
fn check_bug(name: Option<&String>) -> Result<(), String> {
    match name {
        Some(_) if kvorum_sim::bugs::all().is_empty() => Err(NO_BUGS.to_owned()),
        Some(name) if !kvorum_sim::bugs::all().contains(&name.as_str()) => Err(format!("there is no bug `{name}`")),
        _ => Ok(()),
    }
}

const NO_BUGS: &str = "this build has no bugs to plant. One that has them:\n  \
                       cargo run --release -p kvorum-sim --features seeded-bugs -- bugs";

#[cfg(test)]
mod tests;
