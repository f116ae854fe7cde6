//! How a cluster is doing, in one word, and what can happen to it without harm. Pure: the CLI, the console and each node say the
//! same of the same cluster.

use crate::status::{NodeStatus, ShardStatus};
use kvorum_protocol::{
    ClusterPlan, MovePurpose, NodeId, NodeInfo, NodeOutlook, NodeStanding, PlannedMove, ShardId, ShardRole, Topology,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Most shards that a sentence names.
const NAMED_MAX: usize = 5;

/// How the cluster is doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Verdict {
    /// Every shard has all its replicas.
    Ok,
    /// Some shard lacks replicas. That mends itself, or the node comes back.
    Healing,
    /// Some shard lacks replicas, and that does not mend itself.
    AtRisk,
    /// Some shard has no leader, or too few replicas to have one.
    Unavailable,
}

impl Verdict {
    /// The word for programs: `ok`, `healing`, `at_risk` or `unavailable`. It never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Healing => "healing",
            Self::AtRisk => "at_risk",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Healing => "HEALING",
            Self::AtRisk => "AT RISK",
            Self::Unavailable => "UNAVAILABLE",
        })
    }
}

/// How a cluster is doing, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterHealth {
    /// In one word.
    pub verdict: Verdict,
    /// In a sentence.
    pub summary: String,
    /// So many nodes, whichever they are, may be lost now, and each shard still has a majority.
    pub can_lose_nodes: usize,
    /// So many zones.
    pub can_lose_zones: usize,
    /// So many nodes once every shard has all its replicas.
    pub can_lose_nodes_when_whole: usize,
    /// What is the matter with nodes and moves, a sentence each.
    pub findings: Vec<String>,
    /// Moves that are under way.
    pub moves_under_way: usize,
    /// Moves that are to come.
    pub moves_to_come: usize,
    /// About how long the moves take, if anything tells.
    pub moves_end_in: Option<Duration>,
    /// What an operator should do.
    pub advice: String,
}

/// What is known of a group's voters.
struct Group {
    shard: ShardId,
    /// How many there should be.
    wanted: usize,
    /// The nodes of those that are there and well.
    well: BTreeSet<NodeId>,
    has_leader: bool,
    /// Nodes that should hold a replica and have none that is well.
    lacks: Vec<NodeId>,
}

impl Group {
    fn majority(&self) -> usize {
        self.wanted / 2 + 1
    }

    fn is_thin(&self) -> bool {
        self.well.len() < self.wanted
    }

    /// How many of its voters may go.
    fn spare(&self) -> usize {
        self.well.len().min(self.wanted).saturating_sub(self.majority())
    }

    /// How many zones may go, the ones that hold most first.
    fn spare_zones(&self, zone: impl Fn(NodeId) -> String) -> usize {
        let mut of_zones: BTreeMap<String, usize> = BTreeMap::new();
        self.well.iter().for_each(|node| *of_zones.entry(zone(*node)).or_default() += 1);
        let mut counts: Vec<usize> = of_zones.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = self.well.len();
        let goes = |count: &&usize| {
            left = left.saturating_sub(**count);
            left >= self.majority()
        };
        counts.iter().take_while(goes).count()
    }
}

/// Looks at a cluster. `statuses` are those of the nodes that answered. Without a plan nobody speaks for the ring map, so nothing is
/// repaired.
pub fn verdict(topology: &Topology, statuses: &[NodeStatus], plan: Option<&ClusterPlan>) -> ClusterHealth {
    let groups = groups(topology, statuses, plan);
    let zone_of = |node: NodeId| zone_of(topology, node);
    let thin: Vec<&Group> = groups.iter().filter(|group| group.is_thin()).collect();
    let dead: Vec<&Group> =
        groups.iter().filter(|group| !group.has_leader || group.well.len() < group.majority()).collect();
    let is_stuck = plan.is_none_or(|plan| plan.reasons.iter().any(|reason| reason.of_repair));
    let verdict = match () {
        () if !dead.is_empty() => Verdict::Unavailable,
        () if is_stuck && (plan.is_none() || !thin.is_empty()) => Verdict::AtRisk,
        () if !thin.is_empty() => Verdict::Healing,
        () => Verdict::Ok,
    };
    let moves = plan.map_or(&[][..], |plan| &plan.moves);
    let end_in = moves_end_in(statuses, moves);
    let mut findings = node_findings(topology, statuses, plan);
    findings.extend(moves.iter().filter(|one| one.under_way).map(|one| move_finding(topology, statuses, one)));
    findings.extend(plan.iter().flat_map(|plan| &plan.reasons).map(|reason| reason.text.clone()));
    ClusterHealth {
        verdict,
        summary: match verdict {
            Verdict::Unavailable => unavailable(topology, &dead),
            Verdict::AtRisk if thin.is_empty() => {
                "no node speaks for the ring map: nothing is repaired or moved".to_owned()
            }
            Verdict::AtRisk => format!("{}, and repair can't go on", thin_text(&thin)),
            Verdict::Healing => thin_text(&thin),
            Verdict::Ok if topology.shards.len() == 1 => "the shard has all its replicas".to_owned(),
            Verdict::Ok => format!("all {} shards have all their replicas", topology.shards.len()),
        },
        can_lose_nodes: groups.iter().map(Group::spare).min().unwrap_or(0),
        can_lose_zones: groups.iter().map(|group| group.spare_zones(zone_of)).min().unwrap_or(0),
        can_lose_nodes_when_whole: groups.iter().map(|group| group.wanted - group.majority()).min().unwrap_or(0),
        advice: advice(topology, verdict, plan, &dead),
        findings,
        moves_under_way: moves.iter().filter(|one| one.under_way).count(),
        moves_to_come: moves.iter().filter(|one| !one.under_way).count(),
        moves_end_in: end_in,
    }
}

fn groups(topology: &Topology, statuses: &[NodeStatus], plan: Option<&ClusterPlan>) -> Vec<Group> {
    let of = |shard: ShardId, nodes: Vec<NodeId>, led: bool| {
        let replicas = statuses.iter().flat_map(|status| status.shards.iter().map(move |replica| (status, replica)));
        let of_shard: Vec<(&NodeStatus, &ShardStatus)> =
            replicas.filter(|(status, replica)| replica.shard == shard && !status.stranger).collect();
        // Also one that is to leave: it votes until another one does.
        let votes = |role| matches!(role, ShardRole::Leader | ShardRole::Follower | ShardRole::Candidate);
        let well: BTreeSet<NodeId> =
            of_shard.iter().filter(|(_, replica)| votes(replica.role)).map(|(status, _)| status.node).collect();
        let leads = of_shard.iter().any(|(_, replica)| replica.role == ShardRole::Leader);
        Group {
            shard,
            wanted: nodes.len(),
            has_leader: led || leads,
            lacks: nodes.into_iter().filter(|node| !well.contains(node)).collect(),
            well,
        }
    };
    let shards = (0..topology.shards.len() as u16).map(ShardId).map(|shard| {
        let nodes = topology.replicas_of(shard).map(|node| node.id).collect();
        of(shard, nodes, topology.leader_of(shard).is_some())
    });
    // Nobody but the one who speaks for it knows who should hold the map's group.
    let meta = plan.map(|plan| of(ShardId::META, plan.meta.clone(), true));
    meta.into_iter().chain(shards).collect()
}

fn zone_of(topology: &Topology, node: NodeId) -> String {
    match topology.nodes.iter().find(|known| known.id == node) {
        Some(known) if !known.zone.is_empty() => known.zone.clone(),
        // Who has no zone is one by itself.
        Some(known) => known.name.clone(),
        None => node.to_string(),
    }
}

fn name_of(topology: &Topology, node: NodeId) -> String {
    topology.nodes.iter().find(|known| known.id == node).map_or_else(|| node.to_string(), |known| known.name.clone())
}

fn group_name(shard: ShardId) -> String {
    if shard == ShardId::META { "the ring map's group".to_owned() } else { format!("shard {shard}") }
}

/// "shards 3, 9 and 12", or "the ring map and shard 3"; of many the first ones only.
fn group_names(groups: &[&Group]) -> String {
    let numbers: Vec<String> =
        groups.iter().filter(|group| group.shard != ShardId::META).map(|group| group.shard.to_string()).collect();
    let shown = match numbers.len() {
        0 => String::new(),
        1 => format!("shard {}", numbers[0]),
        few if few <= NAMED_MAX => format!("shards {}", numbers.join(", ")),
        many => format!("shards {} and {} more", numbers[..NAMED_MAX].join(", "), many - NAMED_MAX),
    };
    let meta = groups.iter().any(|group| group.shard == ShardId::META).then(|| group_name(ShardId::META));
    let parts: Vec<String> = meta.into_iter().chain(Some(shown).filter(|text| !text.is_empty())).collect();
    parts.join(" and ")
}

/// "2 of 64 shards have 2 of 3 replicas".
fn thin_text(thin: &[&Group]) -> String {
    let fewest = thin.iter().min_by_key(|group| (group.spare(), group.well.len())).expect("there is one");
    let at = format!("{} of {} replicas", fewest.well.len(), fewest.wanted);
    let names = group_names(thin);
    match thin.len() {
        1 => format!("{names} has {at}"),
        _ => format!("{names} have {at} at least"),
    }
}

fn unavailable(topology: &Topology, dead: &[&Group]) -> String {
    let lost: BTreeSet<String> = dead
        .iter()
        .filter(|group| group.well.len() < group.majority())
        .flat_map(|group| &group.lacks)
        .map(|node| name_of(topology, *node))
        .collect();
    let names = group_names(dead);
    let verb = if dead.len() == 1 { "has" } else { "have" };
    match lost.len() {
        0 => format!("{names} {verb} no leader at the moment"),
        _ => format!("{names} {verb} no majority; needs {}", lost.into_iter().collect::<Vec<_>>().join(" or ")),
    }
}

/// What is the matter with nodes.
fn node_findings(topology: &Topology, statuses: &[NodeStatus], plan: Option<&ClusterPlan>) -> Vec<String> {
    let mut findings = Vec::new();
    for info in &topology.nodes {
        let outlook = plan.and_then(|plan| plan.nodes.iter().find(|outlook| outlook.node == info.id));
        let name = match info.zone.is_empty() {
            true => info.name.clone(),
            false => format!("{} (zone {})", info.name, info.zone),
        };
        let answers = statuses.iter().any(|status| status.node == info.id);
        let replicas = topology.shards.iter().filter(|shard| holds(topology, shard, info)).count();
        let ends = |ms: u64| about(Duration::from_millis(ms));
        match outlook {
            Some(outlook) if outlook.standing == NodeStanding::Draining => {
                let left = outlook.ends_in_ms.map(|ms| format!("; that ends in {}", ends(ms))).unwrap_or_default();
                let away = if answers { "" } else { ", and is away" };
                findings.push(format!("{name} is drained{away}{left}"));
            }
            Some(outlook) if outlook.standing == NodeStanding::Removing => {
                findings.push(format!("{name} is being removed: it is to give replicas of {replicas} shards"));
            }
            Some(outlook) if outlook.down && answers => {
                findings.push(format!(
                    "{name} was down and answers again; it counts as up once it has been heard for a while"
                ));
            }
            Some(outlook) if outlook.down => {
                let since = outlook.silent_ms.map(|ms| format!(" for {}", ends(ms))).unwrap_or_default();
                let then = match outlook.ends_in_ms {
                    Some(0) if plan.is_some_and(|plan| plan.makes_anew(info.id)) => {
                        "; what it holds is made anew elsewhere".to_owned()
                    }
                    Some(0) => String::new(),
                    Some(ms) => format!("; unless it comes back, what it holds is made anew in {}", ends(ms)),
                    None => String::new(),
                };
                findings.push(format!("{name} is down{since}: nobody hears it{then}"));
            }
            _ if !answers => findings.push(format!("{name} ({}) does not answer", info.client_address)),
            _ => {}
        }
    }
    findings
}

fn holds(topology: &Topology, shard: &kvorum_protocol::ShardInfo, node: &NodeInfo) -> bool {
    shard.replicas.iter().any(|at| topology.nodes.get(usize::from(*at)).is_some_and(|known| known.id == node.id))
}

/// "shard 12 moves node-1 → node-4: 61 % of 1.2 GiB".
fn move_finding(topology: &Topology, statuses: &[NodeStatus], planned: &PlannedMove) -> String {
    let name = |node: Option<NodeId>| node.map(|node| name_of(topology, node));
    let way = match (name(planned.from), name(planned.to)) {
        (Some(from), Some(to)) if planned.purpose == MovePurpose::Repair => format!("is made anew on {to}, for {from}"),
        (Some(from), Some(to)) => format!("moves {from} → {to}"),
        (None, Some(to)) => format!("gets one more replica, on {to}"),
        (Some(from), None) => format!("gives up its replica on {from}"),
        (None, None) => "changes".to_owned(),
    };
    let progress = planned.to.and_then(|to| receiving(statuses, planned.shard, to)).map(|receiving| {
        let percent = 100 * receiving.records / receiving.records_total.max(1);
        format!(": {percent} %")
    });
    format!("{} {way}{}", group_name(planned.shard), progress.unwrap_or_default())
}

fn receiving(statuses: &[NodeStatus], shard: ShardId, on: NodeId) -> Option<kvorum_protocol::Receiving> {
    let status = statuses.iter().find(|status| status.node == on)?;
    status.shards.iter().find(|replica| replica.shard == shard)?.receiving
}

/// About how long the moves take: at the rate of those that send something, by what the shards' leaders hold.
fn moves_end_in(statuses: &[NodeStatus], moves: &[PlannedMove]) -> Option<Duration> {
    let (mut left, mut rate) = (0.0, 0.0);
    for planned in moves.iter().filter(|planned| planned.to.is_some()) {
        let replicas = statuses.iter().flat_map(|status| &status.shards).filter(|one| one.shard == planned.shard);
        let bytes = replicas.map(|replica| replica.live_bytes).max().unwrap_or(0) as f64;
        let got = planned.to.filter(|_| planned.under_way).and_then(|to| receiving(statuses, planned.shard, to));
        match got {
            Some(got) => {
                let share = 1.0 - got.records as f64 / got.records_total.max(1) as f64;
                left += bytes * share;
                rate += got.bytes as f64 / (got.elapsed_ms.max(1) as f64 / 1_000.0);
            }
            // It has all of it already, or begins.
            None if planned.under_way => {}
            None => left += bytes,
        }
    }
    (rate > 0.0).then(|| Duration::from_secs_f64((left / rate).min(1e9)))
}

/// What to do about nodes that are waited for no longer, of which nothing is made anew elsewhere; `None` if there are none.
fn given_up(topology: &Topology, plan: &ClusterPlan, stay: usize) -> Option<String> {
    let given_up =
        |outlook: &&NodeOutlook| outlook.down && outlook.ends_in_ms == Some(0) && !plan.makes_anew(outlook.node);
    let names: Vec<_> = plan.nodes.iter().filter(given_up).map(|outlook| name_of(topology, outlook.node)).collect();
    let (place, them) = match names.len() {
        0 => return None,
        1 => ("add a node in its place", "it"),
        _ => ("add nodes in their place", "them"),
    };
    let removed =
        if stay < plan.replication_factor.into() { String::new() } else { format!(", or NODE REMOVE {them}") };
    Some(format!("bring {} back, or {place} (NODE REPLACE){removed}", names.join(" and ")))
}

fn advice(topology: &Topology, verdict: Verdict, plan: Option<&ClusterPlan>, dead: &[&Group]) -> String {
    let text = match verdict {
        Verdict::Ok => match plan.and_then(|plan| plan.next_level) {
            Some(level) => return format!("CLUSTER VERSION FINALIZE when content: all nodes speak level {level}"),
            None if plan.is_some_and(|plan| plan.paused) => "CLUSTER REBALANCE RESUME, once moves may go on",
            None => "nothing to do",
        },
        Verdict::AtRisk if plan.is_none() => "bring the nodes back that are away; CLUSTER CHECK names them",
        Verdict::Healing | Verdict::AtRisk => {
            let goes_on = |outlook: &&NodeOutlook| !outlook.down && outlook.standing != NodeStanding::Removing;
            let stay = plan.map_or(0, |plan| plan.nodes.iter().filter(goes_on).count());
            // Where there are nodes enough, what stands in the way is something else, and is named.
            let is_short = plan.is_some_and(|plan| stay < plan.replication_factor.into());
            let named = plan.filter(|_| verdict == Verdict::Healing || is_short);
            match named.and_then(|plan| given_up(topology, plan, stay)) {
                Some(text) => return text,
                None if verdict == Verdict::Healing => "nothing to do: it mends itself",
                None => "mend what stands in the way, named above",
            }
        }
        Verdict::Unavailable if dead.iter().all(|group| group.well.len() >= group.majority()) => {
            "wait a second: a leader is being elected"
        }
        Verdict::Unavailable => "bring the named nodes back; if they are lost for good, kvorum recover",
    };
    text.to_owned()
}

/// "3 s", "4 min", "2 h".
pub fn about(time: Duration) -> String {
    match time.as_secs() {
        0 => "1 s".to_owned(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::tests::{node, replica, status, topology};
    use kvorum_protocol::{Epoch, PlanReason, Receiving};

    /// Three nodes hold two shards and the ring map; nothing moves.
    fn plan() -> ClusterPlan {
        let outlook = |number| NodeOutlook {
            node: node(number),
            standing: NodeStanding::Up,
            down: false,
            silent_ms: None,
            ends_in_ms: None,
        };
        ClusterPlan {
            epoch: Epoch(4),
            level: 1,
            next_level: None,
            replication_factor: 3,
            paused: false,
            rate_mb: None,
            meta: (1..=3).map(node).collect(),
            nodes: (1..=3).map(outlook).collect(),
            moves: Vec::new(),
            leads: 0,
            reasons: Vec::new(),
            sealing: None,
        }
    }

    fn all() -> Vec<NodeStatus> {
        (1..=3).map(status).collect()
    }

    fn text(health: &ClusterHealth) -> String {
        let mut lines = vec![format!(
            "{}: {} [{} nodes, {} zones, {} when whole]",
            health.verdict,
            health.summary,
            health.can_lose_nodes,
            health.can_lose_zones,
            health.can_lose_nodes_when_whole
        )];
        lines.extend(health.findings.iter().cloned());
        lines.push(health.advice.clone());
        lines.join("\n")
    }

    #[test]
    fn a_whole_cluster_can_lose_a_node() {
        let health = verdict(&topology(), &all(), Some(&plan()));
        assert_eq!(
            text(&health),
            "OK: all 2 shards have all their replicas [1 nodes, 1 zones, 1 when whole]\nnothing to do"
        );
    }

    #[test]
    fn a_node_that_is_down_is_waited_for() {
        let mut plan = plan();
        plan.nodes[2] =
            NodeOutlook { down: true, silent_ms: Some(12_000), ends_in_ms: Some(48_000), ..plan.nodes[2].clone() };
        let health = verdict(&topology(), &all()[..2], Some(&plan));
        assert_eq!(
            text(&health),
            "HEALING: the ring map's group and shards 0, 1 have 2 of 3 replicas at least [0 nodes, 0 zones, 1 when whole]\n\
             node-3 is down for 12 s: nobody hears it; unless it comes back, what it holds is made anew in 48 s\n\
             nothing to do: it mends itself"
        );
        plan.reasons = vec![PlanReason { text: "there is no other node".to_owned(), of_repair: true }];
        let health = verdict(&topology(), &all()[..2], Some(&plan));
        assert_eq!(
            (health.verdict, health.findings.last().map(String::as_str)),
            (Verdict::AtRisk, Some("there is no other node"))
        );
    }

    #[test]
    fn a_node_that_answers_again_is_not_said_to_be_silent() {
        let mut plan = plan();
        plan.nodes[2].down = true;
        let health = verdict(&topology(), &all(), Some(&plan));
        assert_eq!(health.verdict, Verdict::Ok);
        assert_eq!(
            health.findings,
            ["node-3 was down and answers again; it counts as up once it has been heard for a while"]
        );
    }

    #[test]
    fn what_does_not_mend_itself_is_not_said_to() {
        let mut plan = plan();
        plan.nodes[2] =
            NodeOutlook { down: true, silent_ms: Some(90_000), ends_in_ms: Some(0), ..plan.nodes[2].clone() };
        let advice = |plan: &ClusterPlan| verdict(&topology(), &all()[..2], Some(plan)).advice;
        assert_eq!(advice(&plan), "bring node-3 back, or add a node in its place (NODE REPLACE)");
        plan.moves.push(PlannedMove {
            shard: ShardId(0),
            from: Some(node(3)),
            to: Some(node(2)),
            purpose: MovePurpose::Repair,
            under_way: false,
        });
        assert_eq!(advice(&plan), "nothing to do: it mends itself");
        let nowhere = PlanReason { text: "there is no other node".to_owned(), of_repair: true };
        let plan = ClusterPlan { moves: Vec::new(), reasons: vec![nowhere], ..plan };
        let health = verdict(&topology(), &all()[..2], Some(&plan));
        assert_eq!(
            text(&health),
            "AT RISK: the ring map's group and shards 0, 1 have 2 of 3 replicas at least, and repair can't go on [0 nodes, 0 zones, 1 when whole]\n\
             node-3 is down for 90 s: nobody hears it\n\
             there is no other node\n\
             bring node-3 back, or add a node in its place (NODE REPLACE)"
        );
    }

    #[test]
    fn without_a_majority_a_shard_is_unavailable_and_the_nodes_are_named() {
        let mut topology = topology();
        topology.shards[1].leader = None;
        let health = verdict(&topology, &all()[..1], None);
        assert_eq!(
            text(&health),
            "UNAVAILABLE: shards 0, 1 have no majority; needs node-2 or node-3 [0 nodes, 0 zones, 1 when whole]\n\
             node-2 (127.0.0.1:7402) does not answer\nnode-3 (127.0.0.1:7403) does not answer\n\
             bring the named nodes back; if they are lost for good, kvorum recover"
        );
        let health = verdict(&topology, &all(), Some(&plan()));
        assert_eq!(
            (health.verdict, health.summary.as_str()),
            (Verdict::Unavailable, "shard 1 has no leader at the moment")
        );
        assert_eq!(health.advice, "wait a second: a leader is being elected");
    }

    #[test]
    fn nobody_who_speaks_for_the_ring_map_is_a_risk() {
        let health = verdict(&topology(), &all(), None);
        assert_eq!(
            (health.verdict, health.advice.as_str()),
            (Verdict::AtRisk, "bring the nodes back that are away; CLUSTER CHECK names them")
        );
    }

    #[test]
    fn a_move_is_no_harm_and_says_how_far_it_is() {
        let mut topology = topology();
        let mut fourth = topology.nodes[2].clone();
        (fourth.id, fourth.name) = (node(4), "node-4".to_owned());
        topology.nodes.push(fourth);
        topology.shards[0].replicas = vec![0, 1, 3];
        let mut statuses = all();
        let mut new = status(4);
        let mut learner = replica(ShardId(0), ShardRole::Learner);
        learner.receiving = Some(Receiving { elapsed_ms: 2_000, bytes: 1 << 20, records: 25, records_total: 100 });
        new.shards = vec![learner];
        statuses.push(new);
        statuses.iter_mut().flat_map(|status| &mut status.shards).for_each(|shard| shard.live_bytes = 4 << 20);
        let mut plan = plan();
        plan.moves = vec![PlannedMove {
            shard: ShardId(0),
            from: Some(node(3)),
            to: Some(node(4)),
            purpose: MovePurpose::Balance,
            under_way: true,
        }];
        let health = verdict(&topology, &statuses, Some(&plan));
        assert_eq!(
            text(&health),
            "OK: all 2 shards have all their replicas [1 nodes, 1 zones, 1 when whole]\n\
             shard 0 moves node-3 → node-4: 25 %\nnothing to do"
        );
        assert_eq!(
            (health.moves_under_way, health.moves_to_come, health.moves_end_in),
            (1, 0, Some(Duration::from_secs(6)))
        );
    }

    #[test]
    fn zones_are_lost_as_a_whole() {
        let mut topology = topology();
        topology.nodes[0].zone = "a".to_owned();
        topology.nodes[1].zone = "a".to_owned();
        let health = verdict(&topology, &all(), Some(&plan()));
        assert_eq!((health.can_lose_nodes, health.can_lose_zones), (1, 0), "two of three are in zone a");
    }
}
