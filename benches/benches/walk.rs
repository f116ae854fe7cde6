//! How long a worker is held by the largest legal requests, and by what replicas do by themselves: the same walk that
//! `no_request_holds_a_worker_for_long` holds to a bound in a model, by a clock. `cargo bench -p kvorum-benches --features cost --bench walk`
//! takes it several times, and prints the longest step of each input beside the model's. Files are real and lie in the system's temporary
//! folder, which `TMPDIR` moves to the disk that is to be measured; syncs are not waited for.

#![allow(clippy::unwrap_used, reason = "what can't be set up can't be measured")]

use kvorum_core::disk::{Disk, RealDisk};
use kvorum_core::log::SegmentSource;
use kvorum_core::walk::{Group, HEADINGS, Taker, Walked, walk};
use kvorum_node::runtime::segment_thread::SpareSource;
use std::sync::Arc;
use std::time::Duration;

/// How often each input is taken.
const ROUNDS: usize = 5;

// As the node has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let rounds: Vec<Vec<Walked>> = (0..ROUNDS).map(|_| one_round()).collect();
    println!("{HEADINGS}");
    let mut longest = [Duration::ZERO; 2];
    for at in 0..rounds[0].len() {
        // The steps of all rounds as if they were one's: the worst of them are what is printed.
        let steps = rounds.iter().flat_map(|round| round[at].steps.iter().copied()).collect();
        let all = Walked { steps, ..rounds[0][at].clone() };
        println!("{all}");
        for (longest, taker) in longest.iter_mut().zip([Taker::Session, Taker::Shard]) {
            *longest = all.worst(taker).1.max(*longest);
        }
    }
    println!(
        "longest: a session held its worker for {} µs, a shard's turn for {} µs",
        longest[0].as_micros(),
        longest[1].as_micros()
    );
}

fn one_round() -> Vec<Walked> {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let place = |number: usize| {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folders[number].path()).unwrap());
        // As in a node: the next segment is made elsewhere, ahead of time.
        let source: Arc<dyn SegmentSource> = Arc::new(SpareSource::start(Arc::clone(&disk), || {}).unwrap());
        (disk, source)
    };
    walk(&mut Group::new(place))
}
