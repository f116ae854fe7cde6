//! The cluster's nodes: which one is meant, and what each says that is asked. The views of the cluster: topology and statuses in,
//! outputs out.

use crate::exit::Exit;
use crate::output::{Cell, Output, key_cells};
use crate::run::Emit;
use crate::text::{duration, size};
use futures_util::future::join_all;
use kvorum_client::health;
use kvorum_client::{
    ClusterPlan, Error, Explanation, HotKey, NodeId, NodeInfo, NodeStanding, NodeStatus, ShardId, ShardRole,
    ShardStatus, Topology,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A node's name, or its id if the topology does not have it.
pub(crate) fn name(topology: &Topology, node: NodeId) -> String {
    let known = topology.nodes.iter().find(|info| info.id == node);
    known.map_or_else(|| node.to_string(), |info| info.name.clone())
}

/// Digits of an id's beginning that name a node: as many as CLUSTER NODES shows.
const ID_DIGITS: usize = 8;

/// The node that is meant by its name, its id or at least [`ID_DIGITS`] of its beginning, or its address.
pub(crate) fn find_node(topology: &Topology, wanted: &str) -> Result<NodeId, String> {
    let is_meant = |info: &&NodeInfo| info.name == wanted || info.client_address == wanted;
    if let Some(info) = topology.nodes.iter().find(is_meant) {
        return Ok(info.id);
    }
    let by_id: Vec<_> =
        topology.nodes.iter().filter(|info| info.id.to_string().starts_with(&wanted.to_lowercase())).collect();
    match by_id.as_slice() {
        [info] if wanted.len() >= ID_DIGITS => Ok(info.id),
        _ => {
            let names: Vec<_> = topology.nodes.iter().map(|info| info.name.as_str()).collect();
            Err(format!("there is no node \"{wanted}\"; there are {}", names.join(", ")))
        }
    }
}

/// Nodes that were asked and did not answer, by name.
#[derive(Debug)]
pub(crate) struct SilentNodes(Vec<String>);

/// Asks nodes at once. Gives the answers, each with its node's name, in the order of the nodes.
///
/// # Errors
/// If no node answers: why the last one did not.
pub(crate) async fn ask_each<T, F: Future<Output = Result<T, Error>>>(
    nodes: impl Iterator<Item = &NodeInfo>,
    ask: impl Fn(NodeId) -> F,
) -> Result<(Vec<(String, T)>, SilentNodes), Error> {
    let asked = nodes.map(|node| {
        let answer = ask(node.id);
        async move { (node.name.clone(), answer.await) }
    });
    let (mut answered, mut silent, mut failure) = (Vec::new(), Vec::new(), None);
    for (name, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => answered.push((name, answer)),
            Err(error) => {
                silent.push(name);
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if answered.is_empty() => Err(error),
        _ => Ok((answered, SilentNodes(silent))),
    }
}

impl SilentNodes {
    /// Names them behind what the others have said. The command has failed if there are any.
    pub(crate) fn tell(self, emit: Emit<'_>) -> Exit {
        if self.0.is_empty() {
            return Exit::Ok;
        }
        emit(Output::Note(format!("did not answer: {}", self.0.join(", "))));
        Exit::Failed
    }
}

/// EXPLAIN.
pub(crate) fn explain(topology: &Topology, explanation: &Explanation, now_ms: u64) -> Output {
    let replicas: Vec<_> = explanation.replicas.iter().map(|node| name(topology, *node)).collect();
    let mut facts = vec![
        ("shard", Cell::plain(explanation.shard.0)),
        ("ring_position", Cell::shown(explanation.ring_position, format!("{:#018x}", explanation.ring_position))),
        (
            "leader",
            match explanation.leader {
                Some(leader) => Cell::plain(name(topology, leader)),
                None => Cell::shown(serde_json::Value::Null, "none"),
            },
        ),
        ("replicas", Cell::shown(replicas.clone(), replicas.join(", "))),
    ];
    match explanation.stored {
        None => facts.push(("version", Cell::shown(0, "none: there is no such key"))),
        Some(stored) => {
            let expiry = match stored.expires_at_ms {
                None => "never".to_owned(),
                Some(at) => format!("in {}", duration(Duration::from_millis(at.saturating_sub(now_ms)))),
            };
            facts.push(("version", Cell::plain(stored.version.0)));
            facts.push(("value_bytes", Cell::shown(stored.value_bytes, size(stored.value_bytes.into()))));
            facts.push(("expires_at_ms", Cell::shown(stored.expires_at_ms, expiry)));
            facts.push(("segment", Cell::plain(stored.segment)));
            facts.push(("offset", Cell::plain(stored.offset)));
        }
    }
    // Only the node that was asked knows, and only of keys that stand out.
    for (name, rate) in
        [("reads_per_second", explanation.reads_per_second), ("writes_per_second", explanation.writes_per_second)]
    {
        if rate > 0 {
            facts.push((name, Cell::plain(rate)));
        }
    }
    Output::Facts(facts)
}

/// How many keys there are: the sum over the shards' leaders, which is known once each has told.
pub(crate) fn keys(topology: &Topology, statuses: &[NodeStatus]) -> Cell {
    let leaders: BTreeMap<ShardId, u64> = statuses
        .iter()
        .flat_map(|node| &node.shards)
        .filter(|shard| shard.role == ShardRole::Leader && is_user(shard))
        .map(|shard| (shard.shard, shard.keys))
        .collect();
    let (told, all) = (leaders.len(), topology.shards.len());
    match leaders.values().sum::<u64>() {
        sum if told >= all => Cell::plain(sum),
        _ => Cell::shown(serde_json::Value::Null, format!("unknown: leaders of {told} of {all} shards answer")),
    }
}

/// CLUSTER NODES.
pub(crate) fn nodes(topology: &Topology, statuses: &[NodeStatus], plan: Option<&ClusterPlan>) -> Output {
    let state = |node: NodeId, answers: bool| {
        let outlook = plan.and_then(|plan| plan.nodes.iter().find(|outlook| outlook.node == node));
        match outlook.map(|outlook| (outlook.standing, outlook.down)) {
            Some((NodeStanding::Removing, _)) => "removing",
            Some((NodeStanding::Draining, _)) if answers => "draining",
            Some((NodeStanding::Draining, _)) => "away",
            Some((_, true)) => "down",
            _ if answers => "up",
            _ => "silent",
        }
    };
    let row = |info: &NodeInfo| {
        let status = statuses.iter().find(|status| status.node == info.id);
        let count = |role: fn(&ShardStatus) -> bool| match status {
            Some(status) => Cell::plain(status.shards.iter().filter(|shard| is_user(shard) && role(shard)).count()),
            None => Cell::plain(serde_json::Value::Null),
        };
        let uptime = status.map(|status| status.uptime_ms);
        let memory = status.map(|status| status.resident_bytes);
        let shown = |value: Option<u64>, show: fn(u64) -> String| {
            Cell::shown(value, value.map_or_else(|| "-".to_owned(), show))
        };
        vec![
            Cell::plain(info.name.clone()),
            Cell::plain(info.client_address.clone()),
            Cell::plain(state(info.id, status.is_some())),
            shown(uptime, |ms| duration(Duration::from_millis(ms))),
            count(|shard| shard.role == ShardRole::Leader),
            count(|_| true),
            shown(status.map(|status| status.connections.into()), |count| count.to_string()),
            shown(memory, size),
            short_id(info.id),
        ]
    };
    Output::Table {
        columns: &["name", "address", "state", "uptime_ms", "leads", "replicas", "clients", "memory_bytes", "id"],
        rows: topology.nodes.iter().map(row).collect(),
    }
}

/// A node's id, of which people see as much as [`find_node`] needs: in full it makes lines too long for a terminal.
fn short_id(node: NodeId) -> Cell {
    let id = node.to_string();
    let shown: String = id.chars().take(ID_DIGITS).collect();
    Cell::shown(id, shown)
}

fn is_user(shard: &ShardStatus) -> bool {
    shard.shard != ShardId::META
}

/// CLUSTER SHARDS.
pub(crate) fn shards(topology: &Topology, statuses: &[NodeStatus]) -> Output {
    let row = |(number, info): (u16, &kvorum_client::ShardInfo)| {
        let shard = ShardId(number);
        let replicas: Vec<_> = topology.replicas_of(shard).map(|node| node.name.clone()).collect();
        let reports: Vec<_> =
            statuses.iter().flat_map(|node| &node.shards).filter(|status| status.shard == shard).collect();
        let leader = reports.iter().find(|status| status.role == ShardRole::Leader);
        let slowest = reports.iter().map(|status| status.applied.0).min();
        let lag = leader.zip(slowest).map(|(leader, slowest)| leader.committed.0.saturating_sub(slowest));
        let optional = |value: Option<u64>| Cell::plain(value);
        let log = leader.map(|leader| leader.log_bytes);
        vec![
            Cell::plain(number),
            match topology.leader_of(shard) {
                Some(node) => Cell::plain(node.name.clone()),
                None => Cell::shown(serde_json::Value::Null, "none"),
            },
            Cell::plain(info.term.0),
            Cell::shown(replicas.clone(), replicas.join(" ")),
            optional(leader.map(|leader| leader.keys)),
            Cell::shown(log, log.map_or_else(|| "-".to_owned(), size)),
            optional(lag),
        ]
    };
    Output::Table {
        columns: &["shard", "leader", "term", "replicas", "keys", "log_bytes", "lag"],
        rows: (0..).zip(&topology.shards).map(row).collect(),
    }
}

/// CLUSTER HOTKEYS. A key that several nodes tell of is there once per node: replicas may answer stale reads.
pub(crate) fn hot_keys(topology: &Topology, statuses: &[NodeStatus]) -> Output {
    let mut hot: Vec<_> =
        statuses.iter().flat_map(|status| status.hot_keys.iter().map(move |hot| (status.node, hot))).collect();
    hot.sort_by(|(_, a), (_, b)| b.per_second.cmp(&a.per_second).then_with(|| a.key.cmp(&b.key)));
    if hot.is_empty() {
        return Output::Note("no key stands out: none has 1 % of what its shard is asked".to_owned());
    }
    let row = |(node, hot): (NodeId, &HotKey)| {
        let [key, key_base64, key_bytes] = key_cells(&hot.key, hot.key_bytes.into());
        let share = f64::from(hot.share_permille) / 1000.0;
        vec![
            Cell::plain(if hot.writes { "write" } else { "read" }),
            key,
            Cell::plain(hot.per_second),
            Cell::shown(share, format!("{:.1} %", share * 100.0)),
            Cell::plain(hot.shard.0),
            Cell::plain(name(topology, node)),
            key_base64,
            key_bytes,
        ]
    };
    Output::Table {
        columns: &["operation", "key", "per_second", "share", "shard", "node", "key_base64", "key_bytes"],
        rows: hot.into_iter().map(row).collect(),
    }
}

/// CLUSTER CHECK: a line per problem, or one that there is none. Also how many there are.
pub(crate) fn check(topology: &Topology, statuses: &[NodeStatus]) -> (Output, usize) {
    let problems = health::problems(topology, statuses);
    let count = problems.len();
    let rows = match count {
        0 => {
            vec![vec![Cell::plain("ok"), Cell::plain("every node is up and holds what it should, every shard is led")]]
        }
        _ => problems.into_iter().map(|problem| vec![Cell::plain("problem"), Cell::plain(problem)]).collect(),
    };
    (Output::Table { columns: &["result", "what"], rows }, count)
}

/// STATUS.
pub(crate) fn status(topology: &Topology, node: &NodeStatus) -> Output {
    let role = |wanted: ShardRole| node.shards.iter().filter(|shard| is_user(shard) && shard.role == wanted).count();
    let peers: Vec<_> = node.peers_up.iter().map(|peer| name(topology, *peer)).collect();
    let other_roles: Vec<_> = [ShardRole::Missing, ShardRole::Candidate, ShardRole::Learner, ShardRole::Amnesiac]
        .into_iter()
        .chain([ShardRole::Faulty])
        .filter(|wanted| role(*wanted) > 0)
        .map(|wanted| format!("{} {wanted}", role(wanted)))
        .collect();
    let keys: u64 = node.shards.iter().filter(|shard| is_user(shard)).map(|shard| shard.keys).sum();
    let all_keys: u64 = node.shards.iter().map(|shard| shard.keys).sum();
    let log: u64 = node.shards.iter().map(|shard| shard.log_bytes).sum();
    let live: u64 = node.shards.iter().map(|shard| shard.live_bytes).sum();
    let compactions: u64 = node.shards.iter().map(|shard| u64::from(shard.compactions)).sum();
    let compacted: u64 = node.shards.iter().map(|shard| shard.compacted_bytes).sum();
    let restarts: u64 = node.shards.iter().map(|shard| u64::from(shard.incarnation.saturating_sub(1))).sum();
    Output::Facts(vec![
        ("node", Cell::plain(node.name.clone())),
        ("id", Cell::plain(node.node.to_string())),
        ("version", Cell::plain(node.program_version.clone())),
        ("process", Cell::plain(node.process)),
        ("uptime_ms", Cell::shown(node.uptime_ms, duration(Duration::from_millis(node.uptime_ms)))),
        ("durability", Cell::plain(node.durability.to_string())),
        ("epoch", Cell::plain(node.epoch.0)),
        ("stranger", Cell::plain(node.stranger)),
        ("peers_up", Cell::shown(peers.clone(), if peers.is_empty() { "none".to_owned() } else { peers.join(", ") })),
        ("clients", Cell::plain(node.connections)),
        ("leads", Cell::plain(role(ShardRole::Leader))),
        ("follows", Cell::plain(role(ShardRole::Follower))),
        (
            "other_roles",
            Cell::shown(
                other_roles.clone(),
                if other_roles.is_empty() { "none".into() } else { other_roles.join(", ") },
            ),
        ),
        ("keys", Cell::plain(keys)),
        ("log_bytes", Cell::shown(log, size(log))),
        ("live_bytes", Cell::shown(live, size(live))),
        ("compactions", Cell::plain(compactions)),
        ("compacted_bytes", Cell::shown(compacted, size(compacted))),
        ("memory_bytes", Cell::shown(node.resident_bytes, size(node.resident_bytes))),
        ("cpu_us", Cell::shown(node.cpu_us, duration(Duration::from_micros(node.cpu_us)))),
        (
            "disk_free_bytes",
            match node.disk_free_bytes {
                u64::MAX => Cell::shown(serde_json::Value::Null, "unknown".to_owned()),
                free => Cell::shown(free, size(free)),
            },
        ),
        ("disk_full", Cell::plain(node.disk_full)),
        ("clock_ahead_ms", Cell::plain(node.clock_ahead_ms)),
        ("clock_off", Cell::plain(node.clock_off)),
        ("index_bytes", Cell::shown(node.index_bytes, size(node.index_bytes))),
        // Of all keys that the node holds, those of the ring map's group included: so are the bytes.
        ("index_bytes_per_key", Cell::plain(node.index_bytes / all_keys.max(1))),
        ("journal_rounds", Cell::plain(node.journal_rounds)),
        ("overloaded", Cell::plain(node.overloaded)),
        ("shard_restarts", Cell::plain(restarts)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::{ErrorCode, ServerError};
    use kvorum_protocol::{ClusterId, Durability, Epoch};
    use uuid::Uuid;

    fn node(number: u128) -> NodeInfo {
        let (client_address, zone) = (String::new(), String::new());
        NodeInfo { id: NodeId(Uuid::from_u128(number)), name: format!("node-{number}"), client_address, zone }
    }

    #[test]
    fn a_node_is_named_by_as_much_of_its_id_as_is_shown() {
        let id = |text: &str| NodeId(Uuid::parse_str(text).unwrap());
        let (first, second) = ("a1b2c3d4-0000-0000-0000-000000000001", "a1b2c3d4-0000-0000-0000-000000000002");
        let mut topology = Topology {
            epoch: Epoch(1),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: vec![NodeInfo { id: id(first), ..node(4) }],
            shards: Vec::new(),
        };
        for wanted in ["node-4", first, "a1b2c3d4", "A1B2C3D4-0000"] {
            assert_eq!(find_node(&topology, wanted), Ok(id(first)), "{wanted}");
        }
        for wanted in ["a", "a1b2c3d", "4", "a1b2c3d5"] {
            assert!(find_node(&topology, wanted).is_err(), "{wanted}");
        }
        topology.nodes.push(NodeInfo { id: id(second), ..node(5) });
        assert!(find_node(&topology, "a1b2c3d4").is_err(), "it may be either");
        assert_eq!(find_node(&topology, second), Ok(id(second)));
    }

    /// What comes of it if these nodes answer, each with its number.
    async fn asked(answering: &[u128]) -> (Result<Vec<(String, u128)>, Error>, Vec<Output>, Option<Exit>) {
        let nodes: Vec<NodeInfo> = (1..=3).map(node).collect();
        let answers = ask_each(nodes.iter(), async |id: NodeId| {
            let number = id.0.as_u128();
            let error = || ServerError::new(ErrorCode::Unavailable, format!("{number} is away"));
            answering.contains(&number).then_some(number).ok_or_else(|| Error::Server(error()))
        });
        let mut told = Vec::new();
        match answers.await {
            Err(error) => (Err(error), told, None),
            Ok((answered, silent)) => {
                let exit = silent.tell(&mut |output| {
                    told.push(output);
                    true
                });
                (Ok(answered), told, Some(exit))
            }
        }
    }

    #[tokio::test]
    async fn nodes_that_are_silent_are_named_and_all_of_them_fail() {
        let named = |numbers: &[u128]| numbers.iter().map(|number| (format!("node-{number}"), *number)).collect();
        assert_eq!(asked(&[1, 2, 3]).await, (Ok(named(&[1, 2, 3])), Vec::new(), Some(Exit::Ok)));
        let note = Output::Note("did not answer: node-1, node-3".to_owned());
        assert_eq!(asked(&[2]).await, (Ok(named(&[2])), vec![note], Some(Exit::Failed)));
        let (answers, told, _) = asked(&[]).await;
        assert!(told.is_empty());
        assert!(matches!(&answers, Err(Error::Server(why)) if why.detail == "3 is away"), "{answers:?}");
    }
}
