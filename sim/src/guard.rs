//! Runs in which the code under test may panic.

use crate::flips::{Flip, Healing, StoppedCluster};
use crate::plan::Plan;
use crate::run::{Run, RunSettings, Violation};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// The last panic on this thread: its message, and where it was.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// This thread is in a run.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a plan. A panic ends the run, and is a violation of the property `panic`; nothing else is told of such a run then.
///
/// Panics within runs are noted and not printed: plans make shards panic on purpose.
pub fn simulate_caught(plan: &Plan, settings: &RunSettings) -> Run {
    caught(|| crate::simulate(plan, settings)).unwrap_or_else(|detail| Run {
        violation: Some(Violation { property: "panic", detail, at_ms: 0 }),
        trace_hash: 0,
        trace: Vec::new(),
        simulated_ms: 0,
        operations: BTreeMap::new(),
        faults: BTreeMap::new(),
        coverage: BTreeMap::new(),
    })
}

/// As [`StoppedCluster::flip`]. A panic is an error, too.
///
/// # Errors
/// What went wrong.
pub fn flip_caught(cluster: &StoppedCluster, flip: &Flip) -> Result<Healing, String> {
    caught(|| cluster.flip(flip)).unwrap_or_else(|panic| Err(format!("panicked: {panic}")))
}

/// Runs something; an error is what it panicked with.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    note_panics();
    RUNS.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    RUNS.set(false);
    ended.map_err(|_| LAST_PANIC.take().unwrap_or_else(|| "a panic that left no message".to_owned()))
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if RUNS.get() {
                LAST_PANIC.set(Some(info.to_string()));
            } else {
                print(info);
            }
        }));
    });
}
