//! The command `bugs`: the simulator proves itself on bugs that are known.

use super::campaign::Campaign;
use super::totals::Totals;
use super::{BugsArguments, NO_BUGS, Outcome, table};
use kvorum_sim::run::RunSettings;
use kvorum_sim::simulate_caught;
use serde_json::json;
use std::time::Instant;

/// What became of one bug.
pub(super) struct Hunt {
    pub(super) bug: String,
    /// The first seed that showed it, and the property that it broke.
    pub(super) found: Option<(u64, &'static str)>,
    pub(super) seconds: f64,
}

/// Plants each bug and looks for it; then runs as many seeds without any.
pub(super) fn run(arguments: &BugsArguments) -> Outcome {
    let all = kvorum_sim::bugs::all();
    if all.is_empty() {
        return Err(NO_BUGS.to_owned());
    }
    if let Some(unknown) = arguments.only.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no bug `{unknown}`; there are:\n  {}", all.join("\n  ")));
    }
    let wanted =
        all.into_iter().filter(|bug| arguments.only.is_empty() || arguments.only.iter().any(|only| only == bug));
    let hunts: Vec<Hunt> = wanted
        .map(|bug| {
            let hunt = hunt(arguments, bug);
            eprintln!("{}", told(&hunt));
            hunt
        })
        .collect();
    // A bug is found only if what found it is silent where there is none.
    let seeds = hunts.iter().map(|hunt| seeds_of(hunt, arguments.seeds_max)).max().unwrap_or(0);
    let mut clean = Totals::default();
    campaign(arguments, seeds, None).run(|finished| {
        clean.add(&finished);
        seeds
    });
    print!("{}", if arguments.json { json_text(&hunts, &clean) } else { text(&hunts, &clean) });
    Ok(hunts.iter().all(|hunt| hunt.found.is_some()) && clean.failures.is_empty())
}

fn campaign(arguments: &BugsArguments, seeds: u64, bug: Option<&str>) -> Campaign {
    let jobs = arguments.jobs.count();
    Campaign { seeds: 0..seeds, jobs, operations_percent: 100, bug: bug.map(str::to_owned), twice: false }
}

fn hunt(arguments: &BugsArguments, bug: &str) -> Hunt {
    let began = Instant::now();
    let mut found: Option<(u64, &'static str)> = None;
    let campaign = campaign(arguments, arguments.seeds_max, Some(bug));
    campaign.run(|finished| {
        // Of seeds that run at the same time a later one may end first.
        let earlier = found.is_none_or(|(seed, _)| finished.seed < seed);
        if let Some(violation) = finished.run.violation.filter(|_| earlier) {
            // A seed that fails without the bug, too, says nothing about it.
            let clean = simulate_caught(&campaign.plan(finished.seed), &RunSettings::default());
            if clean.violation.is_none() {
                found = Some((finished.seed, violation.property));
            }
        }
        found.map_or(arguments.seeds_max, |(seed, _)| seed)
    });
    Hunt { bug: bug.to_owned(), found, seconds: began.elapsed().as_secs_f64() }
}

/// How many seeds it took.
fn seeds_of(hunt: &Hunt, seeds_max: u64) -> u64 {
    hunt.found.map_or(seeds_max, |(seed, _)| seed + 1)
}

fn told(hunt: &Hunt) -> String {
    match hunt.found {
        Some((seed, property)) => format!("{}: {property}, after {} seeds", hunt.bug, seed + 1),
        None => format!("{}: NOT FOUND", hunt.bug),
    }
}

/// The table for people.
pub(super) fn text(hunts: &[Hunt], clean: &Totals) -> String {
    let rows: Vec<Vec<String>> = hunts
        .iter()
        .map(|hunt| {
            let (property, seeds) = match hunt.found {
                Some((seed, property)) => (property, (seed + 1).to_string()),
                None => ("NOT FOUND", "-".to_owned()),
            };
            vec![hunt.bug.clone(), property.to_owned(), seeds, format!("{:.1}", hunt.seconds)]
        })
        .collect();
    let found = hunts.iter().filter(|hunt| hunt.found.is_some()).count();
    let mut text = table::render(&["bug", "found by", "after seeds", "seconds"], &rows);
    text.push_str(&format!("{found} of {} bugs found\n", hunts.len()));
    text.push_str(&format!("{} of {} seeds failed without a bug\n", clean.failures.len(), clean.seeds));
    for (seed, property) in &clean.failures {
        text.push_str(&format!("  seed {seed}: {property}\n"));
    }
    text
}

fn json_text(hunts: &[Hunt], clean: &Totals) -> String {
    let bugs = hunts.iter().map(|hunt| {
        json!({
            "bug": hunt.bug,
            "property": hunt.found.map(|(_, property)| property),
            "seeds": hunt.found.map(|(seed, _)| seed + 1),
            "seconds": hunt.seconds,
        })
    });
    let failures: Vec<_> = clean.failures.keys().collect();
    let clean = json!({ "seeds": clean.seeds, "failed_seeds": failures });
    format!("{}\n", json!({ "bugs": bugs.collect::<Vec<_>>(), "clean": clean }))
}
