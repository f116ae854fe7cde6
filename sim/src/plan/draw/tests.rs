use super::*;
use crate::plan::{Fault, FaultKind};
use std::collections::{BTreeMap, BTreeSet};

/// Most clients that duels bring, which do one thing each, those that look at held leaders, and those that write to leaders which are
/// cut off, and those that share one-shot names.
const MORE_CLIENTS_MAX: usize = 12 + 3 * 4 + 3 * 6 + once::CLIENTS + transactions::CLIENTS_MAX;
/// Most operations of all of these: a writer writes five times a second for four, the others read twice;
/// who writes to a leader that is cut off has read before; all that share a name write once.
const MORE_OPERATIONS_MAX: usize =
    12 + 3 * (20 + 3 * 2) + 3 * 6 * 2 + once::NAMES_MAX as usize * once::CLIENTS + transactions::OPERATIONS_MAX;

/// Fewest faults of a plan that is about one thing.
const FAULTS_OF_THEME_MIN: usize = 2;

/// A fault's kind, without its numbers.
fn kind_name(kind: &FaultKind) -> String {
    let text = format!("{kind:?}");
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The node whose medium a fault damages.
fn damaged_node(fault: &Fault) -> Option<u16> {
    match fault.kind {
        FaultKind::FlipBit { node, .. }
        | FaultKind::MisdirectWrite { node, .. }
        | FaultKind::LoseManifests { node }
        | FaultKind::Wipe { node, .. } => Some(node),
        _ => None,
    }
}

#[test]
fn plans_are_within_what_the_design_survives() {
    let mut few = 0;
    for seed in 0..500 {
        let plan = Plan::draw(seed);
        let options = &plan.options;
        assert!((3..=5).contains(&options.nodes) && options.shards.is_power_of_two() && options.shards <= 8);
        assert!((SAFETY_MS_MIN..=SAFETY_MS_MAX).contains(&options.safety_ms));
        assert!(
            (4..=16 + MORE_CLIENTS_MAX).contains(&plan.clients.len()),
            "seed {seed}: {} clients",
            plan.clients.len()
        );
        assert!((OPERATIONS_MIN..=OPERATIONS_MAX + MORE_OPERATIONS_MAX).contains(&plan.operations()));
        few += usize::from(plan.faults.len() < FAULTS_MIN);
        assert!(plan.faults.len() >= FAULTS_OF_THEME_MIN, "seed {seed}: {} faults", plan.faults.len());
        assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms));
        assert!(plan.faults.iter().all(|fault| fault.at_ms < options.safety_ms));
        let damaged: BTreeSet<u16> = plan.faults.iter().filter_map(damaged_node).collect();
        assert!(damaged.len() <= 1, "seed {seed}: the media of {damaged:?} are damaged");
        for client in &plan.clients {
            let last_ms: u64 = client.iter().map(|step| u64::from(step.after_ms)).sum();
            assert!(last_ms < options.safety_ms);
        }
        if !options.fsync {
            let loses_power = |fault: &&Fault| {
                matches!(
                    fault.kind,
                    FaultKind::PowerLoss { .. }
                        | FaultKind::PowerLossEverywhere { .. }
                        | FaultKind::SyncFails { .. }
                        | FaultKind::CrashAtOperation { power: true, .. }
                        | FaultKind::CrashAtJournalFile { power: true, .. }
                )
            };
            assert_eq!(plan.faults.iter().find(loses_power), None, "seed {seed} has no fsync");
        }
    }
    assert!((2..=90).contains(&few), "{few} of 500 plans are about one thing, with few faults");
}

#[test]
fn a_plan_is_its_seeds_alone() {
    assert_eq!(Plan::draw(7), Plan::draw(7));
    assert_ne!(Plan::draw(7).faults, Plan::draw(8).faults);
    let text = serde_json::to_string(&Plan::draw(7)).expect("a plan is plain data");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("written by us"), Plan::draw(7));
    let small = Plan::draw_scaled(7, 10);
    assert_eq!(small.faults, Plan::draw(7).faults);
    assert!(small.operations() <= OPERATIONS_MAX / 10 + MORE_OPERATIONS_MAX);
}

#[test]
fn every_kind_of_fault_is_common_and_missing_often_enough() {
    let mut plans_with: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let kinds: BTreeSet<String> = Plan::draw(seed).faults.iter().map(|fault| kind_name(&fault.kind)).collect();
        kinds.into_iter().for_each(|kind| *plans_with.entry(kind).or_default() += 1);
    }
    assert_eq!(plans_with.len(), 35, "{plans_with:?}");
    // Hand-overs are made to aim at leaders, and kills stand in for much; the others are switched.
    let free = ["Transfer", "Kill", "Pause", "CutFromPeers"];
    for (kind, count) in plans_with {
        assert!(count >= 8, "{kind} is in {count} of 200 plans");
        assert!(count <= 180 || free.contains(&kind.as_str()), "{kind} is in {count} of 200 plans");
    }
}
