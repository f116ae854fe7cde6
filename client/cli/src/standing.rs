//! CLUSTER STATUS, PLAN and VERSION, and ENCRYPTION STATUS: how the cluster stands, what it does and what is to come. Pure.

use crate::cluster::{keys, name};
use crate::output::{Cell, Output};
use crate::text::size;
use kvorum_client::verdict::{self, ClusterHealth, about};
use kvorum_client::{ClusterPlan, MovePurpose, NodeId, NodeStatus, PlannedMove, ShardId, Topology};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// CLUSTER STATUS.
pub(crate) fn overview(topology: &Topology, statuses: &[NodeStatus], plan: Option<&ClusterPlan>) -> Output {
    let health = verdict::verdict(topology, statuses, plan);
    let led = topology.shards.iter().filter(|shard| shard.leader.is_some()).count();
    let keys = keys(topology, statuses);
    let of = |some: usize, all: usize, what| format!("{some} of {all} {what}");
    let totals = [
        of(statuses.len(), topology.nodes.len(), "nodes answer"),
        of(led, topology.shards.len(), "shards are led"),
        format!("keys: {}", keys.shown),
        format!("durability {}", topology.durability),
        format!("epoch {}", topology.epoch),
    ];
    let mut lines = vec![can_lose(&health)];
    lines.extend(health.findings.iter().cloned());
    lines.extend(moves(&health));
    lines.push(format!("next: {}", health.advice));
    lines.push(totals.join(" · "));
    let seconds = health.moves_end_in.map(|time| time.as_secs());
    Output::Report {
        verdict: health.verdict,
        head: health.summary.clone(),
        lines,
        facts: vec![
            ("verdict", Cell::plain(health.verdict.name())),
            ("summary", Cell::plain(health.summary)),
            ("can_lose_nodes", Cell::plain(health.can_lose_nodes)),
            ("can_lose_zones", Cell::plain(health.can_lose_zones)),
            ("findings", Cell::shown(health.findings.clone(), health.findings.join("; "))),
            ("moves_under_way", Cell::plain(health.moves_under_way)),
            ("moves_to_come", Cell::plain(health.moves_to_come)),
            ("moves_end_in_s", Cell::plain(seconds)),
            ("next", Cell::plain(health.advice)),
            ("nodes_up", Cell::plain(statuses.len())),
            ("nodes", Cell::plain(topology.nodes.len())),
            ("shards_led", Cell::plain(led)),
            ("shards", Cell::plain(topology.shards.len())),
            ("keys", keys),
            ("durability", Cell::plain(topology.durability.to_string())),
            ("epoch", Cell::plain(topology.epoch.0)),
            ("cluster", Cell::plain(topology.cluster.to_string())),
        ],
    }
}

/// "can lose 1 more node, whichever it is; 1 zone".
fn can_lose(health: &ClusterHealth) -> String {
    let nodes = |count: usize| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let zones =
        if health.can_lose_zones == 1 { "1 zone".to_owned() } else { format!("{} zones", health.can_lose_zones) };
    let after = match health.can_lose_nodes_when_whole {
        whole if whole > health.can_lose_nodes => format!(" ({} once every shard is whole)", nodes(whole)),
        _ => String::new(),
    };
    format!("can lose {}, or {zones}, and serve on{after}", nodes(health.can_lose_nodes))
}

fn moves(health: &ClusterHealth) -> Option<String> {
    let (begun, to_come) = (health.moves_under_way, health.moves_to_come);
    let ends_in = health.moves_end_in.map(|time| format!("; about {} left", about(time))).unwrap_or_default();
    (begun + to_come > 0).then(|| format!("moves: {begun} under way, {to_come} to come{ends_in}"))
}

/// CLUSTER PLAN, and what a DRYRUN says: the moves, what they come to, and what holds them up.
pub(crate) fn plan(topology: &Topology, statuses: &[NodeStatus], plan: &ClusterPlan) -> Vec<Output> {
    let mut outputs = Vec::new();
    if plan.moves.is_empty() {
        outputs.push(Output::Note("no replica is to move".to_owned()));
    } else {
        outputs.push(moves_table(topology, statuses, plan));
        outputs.extend(summary(topology, statuses, plan).into_iter().map(Output::Note));
    }
    match plan.leads {
        0 => {}
        1 => outputs.push(Output::Note("1 shard is to be led by another node".to_owned())),
        many => outputs.push(Output::Note(format!("{many} shards are to be led by other nodes"))),
    }
    if !plan.reasons.is_empty() {
        let rows = plan.reasons.iter().map(|reason| vec![Cell::plain(reason.text.clone())]).collect();
        outputs.push(Output::Table { columns: &["waits"], rows });
    }
    outputs
}

fn moves_table(topology: &Topology, statuses: &[NodeStatus], plan: &ClusterPlan) -> Output {
    let bytes: BTreeMap<ShardId, u64> =
        plan.moves.iter().map(|one| (one.shard, bytes_of(statuses, one.shard))).collect();
    let node = |node: Option<NodeId>| match node {
        Some(node) => Cell::plain(name(topology, node)),
        None => Cell::shown(Value::Null, "-"),
    };
    let row = |one: &PlannedMove| {
        let bytes = bytes[&one.shard];
        vec![
            match one.shard {
                ShardId::META => Cell::plain("meta"),
                ShardId(number) => Cell::plain(number),
            },
            node(one.from),
            node(one.to),
            Cell::plain(match one.purpose {
                MovePurpose::Repair => "repair",
                MovePurpose::Removal => "removal",
                MovePurpose::Balance => "balance",
            }),
            Cell::plain(if one.under_way { "under way" } else { "to come" }),
            if one.to.is_some() { Cell::shown(bytes, size(bytes)) } else { Cell::shown(0, "-") },
        ]
    };
    Output::Table {
        columns: &["shard", "from", "to", "for", "state", "bytes"],
        rows: plan.moves.iter().map(row).collect(),
    }
}

/// What the moves come to, for people: how much that is, how long it takes, and what each node holds before and after.
fn summary(topology: &Topology, statuses: &[NodeStatus], plan: &ClusterPlan) -> Vec<String> {
    let copies = plan.moves.iter().filter(|one| one.to.is_some());
    let bytes: u64 = copies.clone().map(|one| bytes_of(statuses, one.shard)).sum();
    let mut lines = Vec::new();
    if copies.clone().count() > 0 {
        let mut into: BTreeMap<NodeId, u64> = BTreeMap::new();
        for one in copies.clone() {
            *into.entry(one.to.expect("it is a copy")).or_default() += bytes_of(statuses, one.shard);
        }
        let most = into.values().max().copied().unwrap_or(0);
        let (rate, least) = rate_and_time(plan, most);
        let least = about(least);
        let (count, size) = (copies.count(), size(bytes));
        lines.push(format!(
            "{count} replicas, {size}; at {} a second per node {least} at least",
            crate::text::size(rate)
        ));
    }
    let mut counts: BTreeMap<NodeId, (i64, i64)> = BTreeMap::new();
    for node in &topology.nodes {
        let held = (0..topology.shards.len() as u16).map(ShardId);
        let held = held.filter(|shard| topology.replicas_of(*shard).any(|known| known.id == node.id)).count() as i64;
        counts.insert(node.id, (held, held));
    }
    for one in plan.moves.iter().filter(|one| one.shard != ShardId::META) {
        // What is under way stands in the map as if it were done.
        let by = if one.under_way { (1, 0) } else { (0, 1) };
        if let Some(counts) = one.from.and_then(|node| counts.get_mut(&node)) {
            *counts = (counts.0 + by.0, counts.1 - by.1);
        }
        if let Some(counts) = one.to.and_then(|node| counts.get_mut(&node)) {
            *counts = (counts.0 - by.0, counts.1 + by.1);
        }
    }
    let changed = topology.nodes.iter().map(|node| (&node.name, counts[&node.id]));
    let changed = changed.filter(|(_, (before, after))| before != after);
    let changed: Vec<String> = changed.map(|(name, (before, after))| format!("{name} {before} → {after}")).collect();
    if !changed.is_empty() {
        lines.push(format!("replicas held: {}", changed.join(", ")));
    }
    lines
}

/// Bytes per second of each node while the moves of a plan are under way, and how long that takes for so many bytes.
fn rate_and_time(plan: &ClusterPlan, bytes: u64) -> (u64, Duration) {
    let rate = u64::from(plan.moves_rate_mb()) << 20;
    (rate, Duration::from_secs(bytes / rate.max(1)))
}

/// Bytes that a copy of a shard takes, about.
fn bytes_of(statuses: &[NodeStatus], shard: ShardId) -> u64 {
    let replicas = statuses.iter().flat_map(|status| &status.shards).filter(|replica| replica.shard == shard);
    replicas.map(|replica| replica.live_bytes).max().unwrap_or(0)
}

/// ENCRYPTION STATUS.
pub(crate) fn encryption(topology: &Topology, plan: &ClusterPlan) -> Output {
    let Some(sealing) = &plan.sealing else {
        let off = "no: ENCRYPTION ON begins it, once every node has an encryption.key";
        return Output::Facts(vec![("sealed", Cell::shown(false, off.to_owned()))]);
    };
    let waits_for: Vec<String> = sealing.waits_for.iter().map(|node| name(topology, *node)).collect();
    let wrapped = match sealing.wrapped {
        true => "with the encryption.key of now",
        false => "some with an older encryption.key: ENCRYPTION REWRAP wraps them anew",
    };
    let shown = match sealing.active {
        0 => "not yet: the first data key is not with all nodes".to_owned(),
        active if sealing.waits_for.is_empty() => format!("new records, with data key {active}"),
        active => format!("new records, with data key {active}; some nodes do not do so yet"),
    };
    Output::Facts(vec![
        ("sealed", Cell::shown(sealing.active != 0, shown)),
        ("active_key", Cell::plain(sealing.active)),
        ("newest_key", Cell::plain(sealing.newest)),
        ("keys", Cell::plain(sealing.keys)),
        ("wrapped", Cell::shown(sealing.wrapped, wrapped.to_owned())),
        ("waits_for", Cell::shown(waits_for.clone(), waits_for.join(", "))),
    ])
}

/// CLUSTER VERSION.
pub(crate) fn version(topology: &Topology, statuses: &[NodeStatus], plan: &ClusterPlan) -> Output {
    let programs: Vec<String> = topology
        .nodes
        .iter()
        .map(|node| match statuses.iter().find(|status| status.node == node.id) {
            Some(status) => format!("{} {}", node.name, status.program_version),
            None => format!("{} does not answer", node.name),
        })
        .collect();
    let next = match plan.next_level {
        Some(level) => {
            Cell::shown(level, format!("{level}: CLUSTER VERSION FINALIZE goes there, and there is no way back"))
        }
        None => Cell::shown(Value::Null, "none: not all nodes speak a higher level"),
    };
    Output::Facts(vec![
        ("level", Cell::plain(plan.level)),
        ("next_level", next),
        ("programs", Cell::shown(programs.clone(), programs.join("\n"))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::{Epoch, NodeOutlook, NodeStanding};
    use uuid::Uuid;

    /// A plan for two nodes, one of which may be down, at this rate.
    fn plan(down: bool, rate_mb: Option<u32>) -> ClusterPlan {
        let outlook = |number, down| NodeOutlook {
            node: NodeId(Uuid::from_u128(number)),
            standing: NodeStanding::Up,
            down,
            silent_ms: None,
            ends_in_ms: None,
        };
        ClusterPlan {
            epoch: Epoch(4),
            level: 1,
            next_level: None,
            replication_factor: 3,
            paused: false,
            rate_mb,
            meta: Vec::new(),
            nodes: vec![outlook(1, false), outlook(2, down)],
            moves: Vec::new(),
            leads: 0,
            reasons: Vec::new(),
            sealing: None,
        }
    }

    #[test]
    fn moves_take_as_long_as_at_the_rate_that_nodes_keep_to() {
        let at = |down, rate_mb| {
            let (rate, time) = rate_and_time(&plan(down, rate_mb), 1 << 30);
            (rate >> 20, time.as_secs())
        };
        assert_eq!(at(false, None), (16, 64), "nobody is down: moves do not hurry");
        assert_eq!(at(true, None), (64, 16));
        assert_eq!(at(false, Some(128)), (128, 8), "an operator has said so");
        assert_eq!(at(true, Some(8)), (8, 128));
    }
}
