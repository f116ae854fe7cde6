//! The command `flips`.

use super::{FlipsArguments, Outcome};
use kvorum_sim::flip_caught;
use kvorum_sim::flips::{Flip, Healing, Share, Stop, StoppedCluster};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Most failures that are printed of each cluster.
const FAILURES_SHOWN_MAX: usize = 20;

/// Flips bytes of stopped nodes, and tells how they got over it.
pub(super) fn run(arguments: &FlipsArguments) -> Outcome {
    let mut sound = true;
    for stop in [Stop::Clean, Stop::Killed] {
        if arguments.stop.is_some_and(|wanted| wanted != stop) {
            continue;
        }
        let cluster = StoppedCluster::build(arguments.seed, stop)?;
        let share = Share {
            every: arguments.every,
            small_every: arguments.small_every,
            offset: arguments.offset,
            ..Share::all(arguments.seed)
        };
        let mut flips = cluster.flips(&share);
        if !arguments.only.is_empty() {
            flips = arguments.only.clone();
        }
        if let Some(part) = &arguments.file {
            flips.retain(|flip| flip.path.contains(part));
        }
        let began = Instant::now();
        let results = run_all(&cluster, &flips, arguments.jobs.count());
        println!("stopped: {stop:?}; {} flips in {:.1} s", flips.len(), began.elapsed().as_secs_f64());
        sound &= tell(&flips, &results);
    }
    Ok(sound)
}

type FlipResult = Result<Healing, String>;

fn run_all(cluster: &StoppedCluster, flips: &[Flip], jobs: usize) -> Vec<FlipResult> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(flip) = flips.get(number) else { return };
                    let result = flip_caught(cluster, flip);
                    results.lock().expect("no thread panics while it holds this").insert(number, result);
                }
            });
        }
    });
    results.into_inner().expect("no thread panicked").into_values().collect()
}

/// A line per kind of file, and the first failures. Returns whether there is none.
fn tell(flips: &[Flip], results: &[FlipResult]) -> bool {
    let mut kinds: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for (flip, result) in flips.iter().zip(results) {
        let how = match result {
            Ok(Healing::Itself) => "nothing to replace",
            Ok(Healing::Replicas) => "replicas replaced",
            Ok(Healing::Node) => "node replaced",
            Err(_) => "FAILED",
        };
        *kinds.entry(kind_of(&flip.path)).or_default().entry(how).or_default() += 1;
    }
    for (kind, counts) in kinds {
        let counts: Vec<String> = counts.iter().map(|(how, count)| format!("{how} {count}")).collect();
        println!("  {kind:<28} {}", counts.join(", "));
    }
    let failures = flips.iter().zip(results).filter_map(|(flip, result)| Some((flip, result.as_ref().err()?)));
    let failures: Vec<_> = failures.collect();
    for (flip, error) in failures.iter().take(FAILURES_SHOWN_MAX) {
        println!("  {flip}: {error}");
    }
    failures.is_empty()
}

/// The file's name without numbers.
fn kind_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name: String = name.chars().filter(|character| !character.is_ascii_digit()).collect();
    if name.starts_with('.') { format!("*{name}") } else { name }
}
