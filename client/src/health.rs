//! What is wrong with a cluster, by its topology and by what its nodes say. Pure.
//!
//! Each thing that should be there is looked for: a node that says nothing of a replica does not hold it. So a cluster of
//! which part is missing is never taken for one that is well.

use crate::status::{NodeStatus, ShardStatus};
use kvorum_protocol::{Epoch, NodeInfo, ShardId, ShardRole, Topology};
use std::time::Duration;

/// A replica that is further behind its group than this many entries is worth a word.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// A sentence per problem; none if every node answers, knows the newest map and all others, and holds every replica that the
/// ring map places on it as a voter, and if every shard has a leader.
///
/// The topology is what one node knows, and that one may be behind: the newest map is that of whoever is ahead.
pub fn problems(topology: &Topology, statuses: &[NodeStatus]) -> Vec<String> {
    let mut problems = Vec::new();
    let newest = statuses.iter().map(|status| status.epoch).fold(topology.epoch, Epoch::max);
    if topology.epoch < newest {
        let old = topology.epoch;
        problems
            .push(format!("the node that was asked gave ring map {old}, and the newest is {newest}: ask another one"));
    }
    for (position, info) in (0..).zip(&topology.nodes) {
        match statuses.iter().find(|status| status.node == info.id) {
            None => problems.push(format!("{} ({}) does not answer", info.name, info.client_address)),
            Some(status) => {
                problems.extend(is_behind(&info.name, status.epoch, newest));
                node_problems(topology, statuses, position, info, status, &mut problems);
            }
        }
    }
    for shard in (0..topology.shards.len() as u16).map(ShardId) {
        if topology.leader_of(shard).is_none() {
            problems.push(format!("shard {shard} has no leader"));
        }
    }
    problems
}

fn is_behind(name: &str, epoch: Epoch, newest: Epoch) -> Option<String> {
    (epoch < newest).then(|| format!("{name} follows ring map {epoch}, and the newest is {newest}"))
}

fn node_problems(
    topology: &Topology,
    statuses: &[NodeStatus],
    position: u16,
    info: &NodeInfo,
    status: &NodeStatus,
    problems: &mut Vec<String>,
) {
    let name = &info.name;
    if status.stranger {
        problems.push(format!("{name} came with another data folder than the ring map names"));
    }
    if status.clock_off {
        let off = clock_difference(status.clock_ahead_ms);
        problems.push(format!("the wall clock of {name} is {off} those of most nodes: set it right"));
    }
    let answering = topology.nodes.iter().filter(|other| statuses.iter().any(|status| status.node == other.id));
    for other in answering.filter(|other| other.id != info.id && !status.peers_up.contains(&other.id)) {
        problems.push(format!("{name} is not connected with {}", other.name));
    }
    for (shard, placed) in (0..).map(ShardId).zip(&topology.shards) {
        let is_reported = status.shards.iter().any(|reported| reported.shard == shard);
        if placed.replicas.contains(&position) && !is_reported {
            problems.push(format!("shard {shard} is missing on {name}"));
        }
    }
    for replica in &status.shards {
        if let Some(what) = replica_problem(statuses, replica) {
            problems.push(format!("{} {what} on {name}", shard_name(replica.shard)));
        }
    }
}

fn replica_problem(statuses: &[NodeStatus], replica: &ShardStatus) -> Option<String> {
    match replica.role {
        ShardRole::Leader | ShardRole::Follower => {}
        ShardRole::Candidate => return Some("asks for votes".to_owned()),
        ShardRole::Learner => return Some("does not vote yet".to_owned()),
        role => return Some(format!("is {role}")),
    }
    let group = statuses.iter().flat_map(|node| &node.shards).filter(|other| other.shard == replica.shard);
    let committed = group.map(|other| other.committed.0).max().unwrap_or(0);
    let lag = committed.saturating_sub(replica.applied.0);
    (lag > LAG_ENTRIES_MAX).then(|| format!("is {lag} entries behind"))
}

/// "3600s ahead of", "2.5s behind".
fn clock_difference(ahead_ms: i64) -> String {
    let by = Duration::from_millis(ahead_ms.unsigned_abs());
    if ahead_ms < 0 { format!("{by:?} behind") } else { format!("{by:?} ahead of") }
}

fn shard_name(shard: ShardId) -> String {
    if shard == ShardId::META { "the meta group".to_owned() } else { format!("shard {shard}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, Epoch, LogIndex, NodeId, ShardInfo, Term, Version};
    use uuid::Uuid;

    pub(crate) fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    pub(crate) fn topology() -> Topology {
        let info = |number: u128| NodeInfo {
            id: node(number),
            name: format!("node-{number}"),
            client_address: format!("127.0.0.1:740{number}"),
            zone: String::new(),
        };
        let shard = |leader| ShardInfo { leader: Some(leader), term: Term(1), replicas: vec![0, 1, 2] };
        Topology {
            epoch: Epoch(4),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: (1..=3).map(info).collect(),
            shards: vec![shard(0), shard(1)],
        }
    }

    pub(crate) fn replica(shard: ShardId, role: ShardRole) -> ShardStatus {
        ShardStatus {
            shard,
            role,
            term: Term(1),
            leader: None,
            last_index: LogIndex(20_000),
            committed: LogIndex(20_000),
            applied: LogIndex(20_000),
            version: Version(1),
            keys: 1,
            log_bytes: 1,
            live_bytes: 1,
            compactions: 0,
            compacted_bytes: 0,
            incarnation: 1,
            receiving: None,
        }
    }

    pub(crate) fn status(number: u128) -> NodeStatus {
        NodeStatus {
            node: node(number),
            name: format!("node-{number}"),
            program_version: String::new(),
            process: 1,
            uptime_ms: 1,
            durability: Durability::Fsync,
            http_port: 0,
            connections: 0,
            peers_up: (1..=3).filter(|other| *other != number).map(node).collect(),
            epoch: Epoch(4),
            stranger: false,
            clock_ahead_ms: 0,
            clock_off: false,
            resident_bytes: 0,
            cpu_us: 0,
            journal_rounds: 0,
            overloaded: 0,
            disk_free_bytes: 0,
            disk_full: false,
            index_bytes: 0,
            hot_keys: Vec::new(),
            shards: [ShardId(0), ShardId(1), ShardId::META]
                .into_iter()
                .map(|shard| replica(shard, ShardRole::Follower))
                .collect(),
        }
    }

    #[track_caller]
    fn assert_problems(change: impl FnOnce(&mut Vec<NodeStatus>), expected: &[&str]) {
        let mut statuses: Vec<NodeStatus> = (1..=3).map(status).collect();
        change(&mut statuses);
        assert_eq!(problems(&topology(), &statuses), expected);
    }

    #[test]
    fn a_cluster_that_is_whole_has_no_problem() {
        assert_problems(|_| {}, &[]);
    }

    #[test]
    fn a_node_that_says_nothing_of_a_replica_does_not_hold_it() {
        assert_problems(|all| all[0].shards.clear(), &["shard 0 is missing on node-1", "shard 1 is missing on node-1"]);
        assert_problems(
            |all| all[2].shards.retain(|replica| replica.shard != ShardId(1)),
            &["shard 1 is missing on node-3"],
        );
    }

    #[test]
    fn what_a_wiped_node_goes_through_is_a_problem_at_each_step() {
        assert_problems(|all| drop(all.remove(0)), &["node-1 (127.0.0.1:7401) does not answer"]);
        let stranger = |all: &mut Vec<NodeStatus>| {
            all[0].stranger = true;
            all[0].shards = vec![replica(ShardId::META, ShardRole::Missing)];
        };
        let expected = [
            "node-1 came with another data folder than the ring map names",
            "shard 0 is missing on node-1",
            "shard 1 is missing on node-1",
            "the meta group is missing on node-1",
        ];
        assert_problems(stranger, &expected);
        assert_problems(|all| all[0].epoch = Epoch(3), &["node-1 follows ring map 3, and the newest is 4"]);
        let learner = |all: &mut Vec<NodeStatus>| all[0].shards[1].role = ShardRole::Learner;
        assert_problems(learner, &["shard 1 does not vote yet on node-1"]);
        let behind = |all: &mut Vec<NodeStatus>| {
            all[0].shards[1].committed = LogIndex(3);
            all[0].shards[1].applied = LogIndex(3);
        };
        assert_problems(behind, &["shard 1 is 19997 entries behind on node-1"]);
    }

    #[test]
    fn the_word_of_a_node_that_is_behind_is_not_the_newest() {
        let ahead = |all: &mut Vec<NodeStatus>| all[1..].iter_mut().for_each(|status| status.epoch = Epoch(5));
        let expected = [
            "the node that was asked gave ring map 4, and the newest is 5: ask another one",
            "node-1 follows ring map 4, and the newest is 5",
        ];
        assert_problems(ahead, &expected);
        let all_ahead = |all: &mut Vec<NodeStatus>| all.iter_mut().for_each(|status| status.epoch = Epoch(5));
        assert_problems(all_ahead, &expected[..1]);
    }

    #[test]
    fn nodes_that_answer_and_have_lost_each_other_are_a_problem() {
        let parted = |all: &mut Vec<NodeStatus>| all[1].peers_up.retain(|peer| *peer != node(3));
        assert_problems(parted, &["node-2 is not connected with node-3"]);
    }
}
