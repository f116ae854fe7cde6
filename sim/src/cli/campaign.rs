//! Many runs at a time: threads that take the next seed when they are done with one.

use kvorum_sim::plan::Plan;
use kvorum_sim::run::{Run, RunSettings};
use kvorum_sim::simulate_caught;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What became of one seed.
pub(super) struct Finished {
    pub(super) seed: u64,
    pub(super) run: Run,
    /// How long the first run took.
    pub(super) took: Duration,
    /// The trace hash of a second run, where one was asked for.
    pub(super) second_hash: Option<u64>,
}

/// What to run.
pub(super) struct Campaign {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: usize,
    pub(super) operations_percent: u32,
    pub(super) bug: Option<String>,
    pub(super) twice: bool,
}

impl Campaign {
    /// Runs the seeds in order, several at a time, and hands each result to `take` on the caller's thread in the order in
    /// which they come. No seed is begun that is not below the bound which `take` returned last; those under way end.
    pub(super) fn run(&self, mut take: impl FnMut(Finished) -> u64) {
        let next = AtomicU64::new(self.seeds.start);
        let end = AtomicU64::new(self.seeds.end);
        let (results, finished) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                let results = results.clone();
                let (next, end) = (&next, &end);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end.load(Ordering::Relaxed) || results.send(self.run_seed(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            for result in finished {
                end.fetch_min(take(result), Ordering::Relaxed);
            }
        });
    }

    /// The plan that a seed stands for here.
    pub(super) fn plan(&self, seed: u64) -> Plan {
        Plan::draw_scaled(seed, self.operations_percent)
    }

    fn run_seed(&self, seed: u64) -> Finished {
        let plan = self.plan(seed);
        let settings = RunSettings { bug: self.bug.clone(), keep_trace: false };
        let began = Instant::now();
        let run = simulate_caught(&plan, &settings);
        let took = began.elapsed();
        let second_hash = self.twice.then(|| simulate_caught(&plan, &settings).trace_hash);
        Finished { seed, run, took, second_hash }
    }
}
