//! The command `run`.

use super::campaign::{Campaign, Finished};
use super::failure::Failure;
use super::totals::{DETERMINISM, Totals};
use super::{Outcome, RunArguments, check_bug};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvorum_sim::run::Violation;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Most failing plans that one command shrinks and writes down. A hundred seeds that fail alike teach no more than a few.
const FAILURES_SHOWN_MAX: usize = 5;
/// Where there is no terminal, a line tells how far it is this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs the plans of many seeds.
pub(super) fn run(arguments: &RunArguments) -> Outcome {
    check_bug(arguments.bug.as_ref())?;
    let campaign = Campaign {
        seeds: arguments.seeds.clone(),
        jobs: arguments.jobs.count(),
        operations_percent: arguments.scale.ops_scale,
        bug: arguments.bug.clone(),
        twice: arguments.twice,
    };
    let began = Instant::now();
    let mut progress = Progress::new(arguments.seeds.end - arguments.seeds.start);
    let mut totals = Totals::default();
    let mut hashes: Vec<(u64, u64)> = Vec::new();
    let mut problem = None;
    campaign.run(|finished| {
        hashes.push((finished.seed, finished.run.trace_hash));
        if let Some(property) = totals.add(&finished) {
            if totals.failures.len() <= FAILURES_SHOWN_MAX {
                match describe(arguments, &campaign, finished, property) {
                    Ok(text) => progress.say(&text),
                    Err(error) => problem = problem.take().or(Some(error)),
                }
            } else {
                progress.say(&format!("seed {} failed: {property}\n", finished.seed));
            }
        }
        progress.step(&totals);
        campaign.seeds.end
    });
    progress.end();
    let wall = began.elapsed();
    if arguments.json {
        println!("{}", totals.to_json(wall, campaign.jobs));
    } else {
        print!("{}", totals.to_text(wall, campaign.jobs));
    }
    if let Some(path) = &arguments.hashes {
        write_hashes(path, hashes)?;
    }
    problem.map_or(Ok(totals.failures.is_empty()), Err)
}

/// Shrinks and saves what failed. Returns what to tell of it.
fn describe(
    arguments: &RunArguments,
    campaign: &Campaign,
    finished: Finished,
    property: &'static str,
) -> Result<String, String> {
    let Finished { seed, run, second_hash, .. } = finished;
    let plan = campaign.plan(seed);
    let (first, shrinks) = match run.violation {
        Some(violation) => (violation, !arguments.no_shrink),
        // That two runs differ says nothing about one run, which is what shrinking looks at.
        None => {
            let detail = format!("trace hash {:016x}, then {:016x}", run.trace_hash, second_hash.unwrap_or_default());
            (Violation { property: DETERMINISM, detail, at_ms: 0 }, false)
        }
    };
    debug_assert_eq!(first.property, property);
    let failure = Failure::new(seed, plan, first, arguments.bug.as_deref(), shrinks.then_some(arguments.shrink_runs));
    let path = failure
        .save(&arguments.failures)
        .map_err(|error| format!("can't write to {}: {error}", arguments.failures.display()))?;
    Ok(failure.to_text(&path))
}

/// One line per seed, seeds in order.
fn write_hashes(path: &Path, mut hashes: Vec<(u64, u64)>) -> Result<(), String> {
    hashes.sort_unstable();
    let mut text = String::new();
    for (seed, hash) in hashes {
        writeln!(text, "{seed} {hash:016x}").expect("writing to memory works");
    }
    std::fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// Tells how far it is: a bar on a terminal, a line now and then elsewhere. On the standard error, so that the summary
/// stands alone on the standard output.
struct Progress {
    bar: Option<ProgressBar>,
    seeds: u64,
    last_line: Instant,
}

impl Progress {
    fn new(seeds: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {msg}, {eta} left");
            ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr())
                .with_style(style.expect("the template is well formed"))
        });
        Self { bar, seeds, last_line: Instant::now() }
    }

    fn step(&mut self, totals: &Totals) {
        let failed = format!("{} failed", totals.failures.len());
        match &self.bar {
            Some(bar) => {
                bar.set_message(failed);
                bar.set_position(totals.seeds);
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                eprintln!("{} of {} seeds, {failed}", totals.seeds, self.seeds);
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| {
                let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
                let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
                eprintln!("{style}{first}{style:#}\n{rest}");
            }),
            None => eprintln!("{text}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
