//! Single bytes of a stopped node's files, flipped. Here a share of them, another one each time. `KVORUM_SIM_FLIPS=all` tries every byte that is in use, as
//! `cargo run --release -p kvorum-sim -- flips` does.

use kvorum_sim::flip_caught;
use kvorum_sim::flips::{Flip, Healing, Share, Stop, StoppedCluster};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

const SEED: u64 = 1;
/// Every so-manieth byte of files of a page and more, and of smaller ones. All of this file must take less than 40 s in a
/// build for tests; these are estimates from the release build's 150 flips per second, and have not been measured.
const EVERY: u64 = 500;
const SMALL_EVERY: u64 = 31;
/// Most failures that are told.
const FAILURES_MAX: usize = 10;

fn share() -> Share {
    match std::env::var("KVORUM_SIM_FLIPS").as_deref() {
        Ok("all") => Share::all(SEED),
        Ok(other) => panic!("KVORUM_SIM_FLIPS is `{other}`, and may be `all`"),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
            let offset = now.as_secs() % EVERY;
            Share { every: EVERY, small_every: SMALL_EVERY, offset, unused_every: 20_011, seed: SEED }
        }
    }
}

/// Tries flips, a few at a time. Returns how often the node got over one in each way, and what failed.
fn try_all(cluster: &StoppedCluster, flips: &[Flip]) -> (BTreeMap<Healing, usize>, Vec<String>) {
    let next = AtomicUsize::new(0);
    let results = Mutex::new((BTreeMap::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(flip) = flips.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    let result = flip_caught(cluster, flip);
                    let (healed, failed) = &mut *results.lock().expect("no thread panics while it holds this");
                    match result {
                        Ok(how) => *healed.entry(how).or_default() += 1,
                        Err(error) => failed.push(format!("{flip}: {error}")),
                    }
                }
            });
        }
    });
    results.into_inner().expect("no thread panicked")
}

fn no_flip_harms(stop: Stop) {
    let (share, began) = (share(), Instant::now());
    let cluster = StoppedCluster::build(SEED, stop).expect("a cluster to begin with");
    let flips = cluster.flips(&share);
    let (healed, mut failed) = try_all(&cluster, &flips);
    println!("{stop:?}, {share:?}: {} flips in {:.1?}: {healed:?}", flips.len(), began.elapsed());
    failed.sort();
    failed.truncate(FAILURES_MAX);
    let word = format!("{stop:?}").to_lowercase();
    assert!(
        failed.is_empty(),
        "{}\n  cargo run --release -p kvorum-sim -- flips --seed {SEED} --stop {word} --only FILE:OFFSET:BITS",
        failed.join("\n")
    );
    // All ways of healing must come up, or this tries nothing.
    for how in [Healing::Itself, Healing::Replicas] {
        assert!(healed.get(&how).is_some_and(|count| *count > 20), "{how:?}: {healed:?}");
    }
    assert_eq!(healed.contains_key(&Healing::Node), stop == Stop::Killed, "only then is the journal needed");
}

#[test]
fn a_node_that_stopped_cleanly_gets_over_every_flip() {
    no_flip_harms(Stop::Clean);
}

#[test]
fn a_node_that_was_killed_gets_over_every_flip() {
    no_flip_harms(Stop::Killed);
}

#[test]
fn nothing_is_answered_or_erased_while_most_nodes_have_lost_their_journals() {
    for stop in [Stop::Clean, Stop::Killed] {
        let cluster = StoppedCluster::build(SEED, stop).expect("a cluster to begin with");
        if let Err(error) = cluster.lose_most_journals() {
            panic!("{stop:?}: {error}");
        }
    }
}
