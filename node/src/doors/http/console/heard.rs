//! What the nodes of the cluster have told this one, as far as somebody looked. Pure.
//!
//! What a node told stays when it tells no more, and has an age.

use crate::runtime::node_figures::NodeFigures;
use kvorum_client::verdict::{self, ClusterHealth};
use kvorum_core::clock::Nanos;
use kvorum_protocol::{ClusterPlan, NodeId, NodeStatus, ShardId, ShardRole, ShardStatus, Topology, Version};
use std::collections::BTreeMap;

/// Two looks that are nearer to each other, in milliseconds, give no rate.
const RATE_AFTER_MS: u64 = 500;

/// What a look at all nodes has found.
pub(super) struct Found {
    /// The status of each node that answered, this one's among them.
    pub(super) statuses: Vec<NodeStatus>,
    /// The figures of each that told them, this one's among them.
    pub(super) figures: Vec<(NodeId, NodeFigures)>,
    /// The plan, if somebody speaks for the ring map.
    pub(super) plan: Option<ClusterPlan>,
}

/// What one node told last.
pub(super) struct HeardNode {
    /// Its status.
    pub(super) status: NodeStatus,
    /// What consoles show beside it; `None` if its program tells none.
    pub(super) figures: Option<NodeFigures>,
    /// When it told.
    pub(super) at: Nanos,
    /// Processors in use, since it told before.
    pub(super) cpu: Option<f64>,
    /// Rounds of its journal per second, likewise.
    pub(super) rounds_s: Option<f64>,
    /// It was among those that answered the last look.
    pub(super) answers: bool,
}

impl HeardNode {
    /// Its replica of a shard.
    pub(super) fn replica(&self, shard: ShardId) -> Option<&ShardStatus> {
        let shards = &self.status.shards;
        shards.binary_search_by_key(&shard, |replica| replica.shard).ok().map(|at| &shards[at])
    }
}

/// What all nodes told.
#[derive(Default)]
pub(super) struct Heard {
    nodes: BTreeMap<NodeId, HeardNode>,
    /// When the last look ended.
    looked_at: Option<Nanos>,
    plan: Option<ClusterPlan>,
    health: Option<ClusterHealth>,
    /// The newest version of each shard, and when it was told.
    versions: BTreeMap<ShardId, (Version, Nanos)>,
    /// Effective writes per second of each shard.
    writes_s: BTreeMap<ShardId, f64>,
}

impl Heard {
    /// Takes what a look has found.
    pub(super) fn handle_look(&mut self, found: Found, topology: &Topology, now: Nanos) {
        let Found { mut statuses, figures, plan } = found;
        statuses.iter_mut().for_each(|status| status.shards.sort_by_key(|replica| replica.shard));
        self.measure_writes(&statuses, now);
        let of_verdict: Vec<kvorum_client::NodeStatus> = statuses.iter().cloned().map(Into::into).collect();
        self.health = Some(verdict::verdict(topology, &of_verdict, plan.as_ref()));
        self.plan = plan;
        self.looked_at = Some(now);
        self.nodes.retain(|node, _| topology.nodes.iter().any(|known| known.id == *node));
        self.nodes.values_mut().for_each(|heard| heard.answers = false);
        for status in statuses {
            let figures = figures.iter().find(|(node, _)| *node == status.node).map(|(_, figures)| figures.clone());
            let before = self.nodes.remove(&status.node);
            let node = heard_node(status, figures, now, before.as_ref());
            self.nodes.insert(node.status.node, node);
        }
    }

    /// Versions of a shard grow by one with each effective write, whoever leads.
    fn measure_writes(&mut self, statuses: &[NodeStatus], now: Nanos) {
        let leaders = statuses.iter().flat_map(|status| &status.shards);
        for replica in leaders.filter(|replica| replica.role == ShardRole::Leader && replica.shard != ShardId::META) {
            let newest = (replica.version, now);
            let Some((version, at)) = self.versions.insert(replica.shard, newest) else { continue };
            let past_ms = now.ms_since(at);
            if past_ms < RATE_AFTER_MS {
                self.versions.insert(replica.shard, (version, at));
                continue;
            }
            // Of two that lead for a moment the older one may tell last.
            let writes = replica.version.0.saturating_sub(version.0);
            self.writes_s.insert(replica.shard, writes as f64 * 1_000.0 / past_ms as f64);
        }
        let is_led = |shard: &ShardId| self.versions.get(shard).is_some_and(|(_, at)| now.ms_since(*at) < 10_000);
        self.writes_s.retain(|shard, _| is_led(shard));
    }

    /// What a node told last.
    pub(super) fn node(&self, node: NodeId) -> Option<&HeardNode> {
        self.nodes.get(&node)
    }

    /// All that told.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &HeardNode> {
        self.nodes.values()
    }

    /// When the last look ended.
    pub(super) fn looked_at(&self) -> Option<Nanos> {
        self.looked_at
    }

    /// The plan, if somebody spoke for the ring map at the last look.
    pub(super) fn plan(&self) -> Option<&ClusterPlan> {
        self.plan.as_ref()
    }

    /// How the cluster stood at the last look.
    pub(super) fn health(&self) -> Option<&ClusterHealth> {
        self.health.as_ref()
    }

    /// Effective writes per second of a shard, by its leader's versions at two looks.
    pub(super) fn writes_s(&self, shard: ShardId) -> Option<f64> {
        self.writes_s.get(&shard).copied()
    }
}

fn heard_node(status: NodeStatus, figures: Option<NodeFigures>, now: Nanos, before: Option<&HeardNode>) -> HeardNode {
    // Counters of another process have nothing to do with each other.
    let before = before.filter(|was| {
        was.status.process == status.process
            && was.status.uptime_ms <= status.uptime_ms
            && now.ms_since(was.at) >= RATE_AFTER_MS
    });
    let rate = |of: fn(&NodeStatus) -> u64| {
        let before = before?;
        let past_ms = status.uptime_ms.saturating_sub(before.status.uptime_ms);
        let more = of(&status).checked_sub(of(&before.status))?;
        (past_ms > 0).then(|| more as f64 * 1_000.0 / past_ms as f64)
    };
    let cpu = rate(|status| status.cpu_us).map(|us| us / 1e6);
    let rounds_s = rate(|status| status.journal_rounds);
    HeardNode { status, figures, at: now, cpu, rounds_s, answers: true }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, Epoch, LogIndex, NodeInfo, ShardInfo, Term};
    use uuid::Uuid;

    pub(in super::super) fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    /// Nodes 1 to `nodes`, in zones a, b and c in turn; each shard has three replicas and is led by the first.
    pub(in super::super) fn topology(nodes: u128, shards: u16) -> Topology {
        let info = |number: u128| NodeInfo {
            id: node(number),
            name: format!("node-{number}"),
            zone: ["c", "a", "b"][(number % 3) as usize].to_owned(),
            client_address: format!("127.0.0.1:{}", 7_400 + number),
        };
        let count = nodes as u16;
        let shard = |shard: u16| ShardInfo {
            leader: Some(shard % count),
            term: Term(3),
            replicas: (0..3.min(count)).map(|nth| (shard + nth) % count).collect(),
        };
        Topology {
            epoch: Epoch(9),
            cluster: ClusterId(Uuid::from_u128(99)),
            durability: Durability::Fsync,
            nodes: (1..=nodes).map(info).collect(),
            shards: (0..shards).map(shard).collect(),
        }
    }

    /// What a node tells that is as the topology says.
    pub(in super::super) fn status(topology: &Topology, number: u128) -> NodeStatus {
        let at = (number - 1) as u16;
        let held = (0..).zip(&topology.shards).filter(|(_, shard)| shard.replicas.contains(&at));
        let replica = |(shard, info): (u16, &ShardInfo)| ShardStatus {
            shard: ShardId(shard),
            role: if info.leader == Some(at) { ShardRole::Leader } else { ShardRole::Follower },
            term: info.term,
            leader: info.leader.map(|leader| topology.nodes[usize::from(leader)].id),
            last_index: LogIndex(100),
            committed: LogIndex(100),
            applied: LogIndex(if info.leader == Some(at) { 100 } else { 90 }),
            version: Version(1_000),
            keys: 50,
            log_bytes: 4_096,
            live_bytes: 2_048,
            compactions: 0,
            compacted_bytes: 0,
            incarnation: 1,
            receiving: None,
        };
        // The first three keep the ring map, and the second of them leads.
        let of_map = ShardInfo { leader: Some(1), term: Term(3), replicas: (0..3).collect() };
        let map = of_map.replicas.contains(&at).then(|| replica((ShardId::META.0, &of_map)));
        NodeStatus {
            node: node(number),
            name: format!("node-{number}"),
            program_version: "0.4.0".to_owned(),
            process: 7,
            uptime_ms: 10_000,
            durability: Durability::Fsync,
            http_port: 7_420,
            connections: 2,
            peers_up: topology.nodes.iter().map(|known| known.id).filter(|id| *id != node(number)).collect(),
            epoch: topology.epoch,
            stranger: false,
            resident_bytes: 1 << 20,
            cpu_us: 1_000_000,
            journal_rounds: 10,
            overloaded: 0,
            disk_free_bytes: 1 << 30,
            disk_full: false,
            clock_ahead_ms: 0,
            clock_off: false,
            index_bytes: 4_096,
            hot_keys: Vec::new(),
            shards: held.map(replica).chain(map).collect(),
        }
    }

    pub(in super::super) fn look(topology: &Topology, numbers: &[u128]) -> Found {
        let statuses = numbers.iter().map(|number| status(topology, *number)).collect();
        Found { statuses, figures: Vec::new(), plan: None }
    }

    #[test]
    fn who_tells_no_more_keeps_what_it_told_and_grows_old() {
        let topology = topology(3, 4);
        let mut heard = Heard::default();
        assert!(heard.node(node(2)).is_none() && heard.health().is_none());
        heard.handle_look(look(&topology, &[1, 2, 3]), &topology, Nanos(1));
        heard.handle_look(look(&topology, &[1, 3]), &topology, Nanos(1).after_ms(2_000));
        let gone = heard.node(node(2)).expect("it told once");
        assert!(!gone.answers && gone.at == Nanos(1));
        assert!(heard.node(node(1)).expect("it tells").answers);
        let mut fewer = topology.clone();
        fewer.nodes.remove(1);
        fewer.shards.clear();
        heard.handle_look(look(&topology, &[1]), &fewer, Nanos(1).after_ms(4_000));
        assert!(heard.node(node(2)).is_none(), "it is no part of the cluster any more");
    }

    #[test]
    fn rates_are_of_one_process_and_two_looks() {
        let topology = topology(3, 4);
        let mut heard = Heard::default();
        heard.handle_look(look(&topology, &[1]), &topology, Nanos(1));
        assert_eq!(heard.node(node(1)).expect("it told").cpu, None);
        let mut next = look(&topology, &[1]);
        (next.statuses[0].uptime_ms, next.statuses[0].cpu_us) = (12_000, 2_000_000);
        heard.handle_look(next, &topology, Nanos(1).after_ms(2_000));
        assert_eq!(heard.node(node(1)).expect("it told").cpu, Some(0.5));
        let mut restarted = look(&topology, &[1]);
        (restarted.statuses[0].process, restarted.statuses[0].uptime_ms) = (8, 13_000);
        heard.handle_look(restarted, &topology, Nanos(1).after_ms(4_000));
        assert_eq!(heard.node(node(1)).expect("it told").cpu, None);
    }

    #[test]
    fn writes_are_counted_by_the_leaders_versions() {
        let topology = topology(3, 2);
        let mut heard = Heard::default();
        heard.handle_look(look(&topology, &[1, 2, 3]), &topology, Nanos(1));
        assert_eq!(heard.writes_s(ShardId(0)), None);
        let mut next = look(&topology, &[1, 2, 3]);
        let leads = |replica: &&mut ShardStatus| replica.shard == ShardId(0) && replica.role == ShardRole::Leader;
        let replicas = next.statuses.iter_mut().flat_map(|status| &mut status.shards);
        replicas.filter(leads).for_each(|replica| replica.version = Version(1_500));
        heard.handle_look(next, &topology, Nanos(1).after_ms(2_000));
        assert_eq!((heard.writes_s(ShardId(0)), heard.writes_s(ShardId(1))), (Some(250.0), Some(0.0)));
        heard.handle_look(look(&topology, &[]), &topology, Nanos(1).after_ms(20_000));
        assert_eq!(heard.writes_s(ShardId(0)), None, "nobody leads it any more, as far as anybody tells");
    }
}
