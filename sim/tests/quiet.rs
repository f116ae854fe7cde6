//! Where nothing goes wrong, nobody hears that leadership moves: nodes are stopped in good order and started again, shards are
//! handed over all the time, and no request is answered with an error for it.

use kvorum_sim::plan::{Fault, FaultKind, Network, Plan};
use kvorum_sim::run::RunSettings;
use kvorum_sim::simulate_caught;

const SEEDS: u64 = 16;
/// Leaders are elected by then.
const BEGINS_MS: u64 = 4_000;
const TRANSFER_EVERY_MS: u64 = 450;
/// Long enough for a node to be back, and to hold what it missed.
const RESTART_EVERY_MS: u64 = 9_000;

/// The plan of a seed without anything that goes wrong.
fn quiet(seed: u64, restarts: bool) -> Plan {
    let mut plan = Plan::draw_scaled(seed, 60);
    let options = &mut plan.options;
    (options.peers, options.client_links) = (Network::CALM, Network::CALM);
    options.disk.sync_max_us = options.disk.sync_max_us.min(5_000);
    options.deadline_ms = 5_000;
    (options.queue_requests_max, options.queue_bytes_max, options.late_copies_permille) = (0, 0, 0);
    options.wall_offset_ms.iter_mut().for_each(|offset| *offset = 0);
    plan.clients.iter_mut().filter_map(|steps| steps.first_mut()).for_each(|step| step.after_ms += BEGINS_MS as u32);
    let (nodes, shards) = (u64::from(options.nodes), u64::from(options.shards));
    let at = |every_ms: u64| (0..).map(move |number| (number, BEGINS_MS + number * every_ms));
    let until_ms = options.safety_ms - 1_000;
    let transfers = at(TRANSFER_EVERY_MS).take_while(|(_, at_ms)| *at_ms < until_ms).map(|(number, at_ms)| {
        let (shard, to) = ((number % shards) as u16, ((seed + number / shards) % nodes) as u16);
        Fault { at_ms, kind: FaultKind::Transfer { shard, to } }
    });
    let stops = at(RESTART_EVERY_MS).take_while(|(_, at_ms)| restarts && *at_ms < until_ms).map(|(number, at_ms)| {
        let node = ((seed + number) % nodes) as u16;
        Fault { at_ms: at_ms + 17, kind: FaultKind::Restart { node, down_ms: 700 } }
    });
    plan.faults = transfers.chain(stops).collect();
    plan.faults.sort_by_key(|fault| fault.at_ms);
    plan
}

#[test]
fn nobody_hears_that_leadership_moves() {
    let (mut handed_over, mut stopped) = (0, 0);
    for seed in 0..SEEDS {
        let run = simulate_caught(&quiet(seed, seed % 2 == 1), &RunSettings::default());
        assert_eq!(run.violation, None, "seed {seed}");
        assert_eq!(run.coverage["requests that found no leader"], 0, "seed {seed}");
        handed_over += run.coverage["hand-overs done"];
        stopped += run.coverage["stops that left nothing behind"];
    }
    assert!(handed_over > 10 * SEEDS && stopped > SEEDS, "{handed_over} hand-overs, {stopped} stops");
}
