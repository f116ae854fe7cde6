//! What is printed, as text.

use super::bugs::Hunt;
use super::campaign::{Campaign, Finished};
use super::failure::{Failure, Size};
use super::totals::Totals;
use super::{Arguments, bugs, parse_seeds, replay};
use clap::CommandFactory as _;
use kvorum_sim::plan::{Fault, FaultKind, Plan};
use kvorum_sim::run::{Run, Violation};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn run(violation: Option<Violation>) -> Run {
    Run {
        violation,
        trace_hash: 0xabc,
        trace: vec!["    1.000000s fault      Kill { node: 0 }".to_owned(), "    2.500000s VIOLATION  lost".to_owned()],
        simulated_ms: 60_000,
        operations: BTreeMap::from([("answered", 1_000), ("unknown", 12)]),
        faults: BTreeMap::from([("kill", 20)]),
        coverage: BTreeMap::from([("elections", 7), ("torn tails cut", 0)]),
    }
}

fn violation() -> Violation {
    Violation { property: "durability", detail: "key x\nis gone".to_owned(), at_ms: 2_500 }
}

fn totals() -> Totals {
    let mut totals = Totals::default();
    for seed in 0..3 {
        let run = run((seed == 1).then(violation));
        totals.add(&Finished { seed, run, took: Duration::from_millis(500), second_hash: Some(0xabc) });
    }
    totals
}

#[test]
fn a_summary_for_people() {
    let expected = "\
RUNS
seeds                                  3
failed                                 1
wall time                              2.0 s with 2 threads
seeds per minute                       90
simulated time                         180 s
simulated seconds per second per core  120
operations                             3036
faults that took effect                60

OPERATIONS  COUNT
answered    3000
unknown     36

FAULTS THAT TOOK EFFECT  COUNT
kill                     60

COVERAGE        COUNT
elections       21
torn tails cut  0  <== NEVER REACHED

FAILED SEED  BROKEN PROPERTY
1            durability
";
    assert_eq!(totals().to_text(Duration::from_secs(2), 2), expected);
}

#[test]
fn a_summary_for_machines() {
    let summary = totals().to_json(Duration::from_secs(2), 2);
    assert_eq!(summary["seeds"], 3);
    assert_eq!(summary["failures"], serde_json::json!([{ "seed": 1, "property": "durability" }]));
    assert_eq!(summary["seeds_per_minute"], 90.0);
    assert_eq!(summary["simulated_seconds_per_second_per_core"], 120.0);
    assert_eq!(summary["operations"]["answered"], 3_000);
}

#[test]
fn two_runs_that_differ_are_a_failure() {
    let mut totals = Totals::default();
    let finished = Finished { seed: 4, run: run(None), took: Duration::ZERO, second_hash: Some(0xabd) };
    assert_eq!(totals.add(&finished), Some("determinism"));
}

#[test]
fn a_failure_tells_all_that_replays_it() {
    let mut plan = Plan::draw(5);
    let size = Size::of(&plan);
    plan.clients = vec![plan.clients[0][..2].to_vec()];
    plan.faults = vec![Fault { at_ms: 1_000, kind: FaultKind::Kill { node: 0, down_ms: 70 } }];
    let failure = Failure {
        seed: 5,
        first: violation(),
        size,
        plan: plan.clone(),
        shrink_runs: Some(213),
        run: run(Some(violation())),
        bug: Some("no-sync".to_owned()),
    };
    let options = serde_json::to_string(&plan.options).expect("plain data");
    let expected = format!(
        "\
seed 5 failed: durability at 2500 ms
  key x
  is gone
plan: 1 faults, 2 operations of 1 clients, shrunk in 213 runs from {size}
options: {options}
faults:
  at 1000 ms: Kill {{ node: 0, down_ms: 70 }}
trace (2 of 2 lines; all are in f/seed-5.trace):
      1.000000s fault      Kill {{ node: 0 }}
      2.500000s VIOLATION  lost
replay it:
  cargo run --release -p kvorum-sim --features seeded-bugs -- replay f/seed-5.json --bug no-sync
"
    );
    assert_eq!(failure.to_text(Path::new("f/seed-5.json")), expected);
    let saved: Plan = serde_json::from_str(&replay::plan_text(&plan)).expect("written by us");
    assert_eq!(saved, plan);
}

#[test]
fn a_table_of_bugs() {
    let hunts = [
        Hunt { bug: "no-sync".to_owned(), found: Some((6, "durability")), seconds: 1.25 },
        Hunt { bug: "no-vote".to_owned(), found: None, seconds: 90.0 },
    ];
    let expected = "\
BUG      FOUND BY    AFTER SEEDS  SECONDS
no-sync  durability  7            1.2
no-vote  NOT FOUND   -            90.0
1 of 2 bugs found
1 of 3 seeds failed without a bug
  seed 1: durability
";
    assert_eq!(bugs::text(&hunts, &totals()), expected);
}

#[test]
fn a_campaign_runs_each_seed_once_and_stops_at_a_bound() {
    let campaign = Campaign { seeds: 10..16, jobs: 3, operations_percent: 1, bug: None, twice: false };
    let mut seeds = Vec::new();
    campaign.run(|finished| {
        seeds.push(finished.seed);
        16
    });
    seeds.sort_unstable();
    assert_eq!(seeds, [10, 11, 12, 13, 14, 15]);
    let mut seeds = Vec::new();
    Campaign { jobs: 1, ..campaign }.run(|finished| {
        seeds.push(finished.seed);
        0
    });
    assert!(seeds.len() <= 3, "{seeds:?} ran after the bound had been lowered");
}

#[test]
fn arguments_are_well_formed() {
    Arguments::command().debug_assert();
    assert_eq!(parse_seeds("0..1_000"), Ok(0..1_000));
    assert!(parse_seeds("5..5").is_err() && parse_seeds("5").is_err() && parse_seeds("a..b").is_err());
}
