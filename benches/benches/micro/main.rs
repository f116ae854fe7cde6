//! What the parts of a node cost by themselves, by Criterion: `cargo bench -p kvorum-benches -- NAME` runs those whose names
//! hold `NAME`, none runs all of them in less than two minutes.
//!
//! One program for all parts: linking a node takes longer than measuring most of them. Files are real and lie in the system's
//! temporary folder, which `TMPDIR` moves to the disk that is to be measured.

#![allow(clippy::unwrap_used, reason = "what can't be set up can't be measured")]

mod codec;
mod counting;
mod folder;
mod index;
mod journal;
mod log;
mod replica;
mod ring;
mod sample;
mod sealing;

use criterion::Criterion;
use std::time::{Duration, Instant};

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    codec::bench(&mut criterion);
    counting::bench(&mut criterion);
    ring::bench(&mut criterion);
    index::bench(&mut criterion);
    log::bench(&mut criterion);
    journal::bench(&mut criterion);
    replica::bench(&mut criterion);
    sealing::bench(&mut criterion);
    criterion.final_summary();
}

/// How long `iterations` of `step` take on values that are used up after `iterations_max` of them. Making those and doing away
/// with them is not counted.
fn timed<T>(
    iterations: u64,
    iterations_max: u64,
    mut fresh: impl FnMut() -> T,
    mut step: impl FnMut(&mut T),
) -> Duration {
    assert!(iterations_max > 0);
    let (mut left, mut total) = (iterations, Duration::ZERO);
    while left > 0 {
        let stretch = left.min(iterations_max);
        let mut value = fresh();
        let began = Instant::now();
        (0..stretch).for_each(|_| step(&mut value));
        total += began.elapsed();
        left -= stretch;
    }
    total
}
