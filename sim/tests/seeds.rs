//! The plans of many seeds: as many as `KVORUM_SIM_SEEDS` says, 300 by default. Ten of them run twice.

use kvorum_sim::plan::Plan;
use kvorum_sim::run::RunSettings;
use kvorum_sim::simulate_caught;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const SEEDS_DEFAULT: u64 = 300;
const TWICE: u64 = 10;

/// What is wrong with a seed.
fn problem(seed: u64, twice: bool) -> Option<String> {
    let plan = Plan::draw(seed);
    let run = simulate_caught(&plan, &RunSettings::default());
    if let Some(violation) = run.violation {
        return Some(violation.to_string());
    }
    let again = twice.then(|| simulate_caught(&plan, &RunSettings::default()).trace_hash)?;
    (again != run.trace_hash).then(|| format!("two runs differ: {:016x} and {again:016x}", run.trace_hash))
}

#[test]
fn no_seed_breaks_a_property() {
    let seeds = match std::env::var("KVORUM_SIM_SEEDS") {
        Ok(text) => text.parse().expect("KVORUM_SIM_SEEDS is a number"),
        Err(_) => SEEDS_DEFAULT,
    };
    let next = AtomicU64::new(0);
    let problems = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Some(problem) = problem(seed, seed < TWICE) {
                        problems.lock().expect("no thread panics while it holds this").push((seed, problem));
                    }
                }
            });
        }
    });
    let mut problems = problems.into_inner().expect("no thread panicked");
    problems.sort();
    let told = |(seed, problem): &(u64, String)| {
        format!("seed {seed}: {problem}\n  cargo run --release -p kvorum-sim -- run --seeds {seed}..{}", seed + 1)
    };
    let told: Vec<String> = problems.iter().map(told).collect();
    assert!(told.is_empty(), "{} of {seeds} seeds failed\n{}", told.len(), told.join("\n"));
}
