//! What the pages show of the cluster: made anew out of what is known, and compared with what they were told last. Pure.

use super::alarms::{Alarm, OwnState, alarms};
use super::counted::{Counted, mean_us, percentile_us};
use super::heard::{Heard, HeardNode};
use super::history::{Figure, Line, Point};
use crate::runtime::node_figures::NodeFigures;
use kvorum_client::verdict::{ClusterHealth, Verdict};
use kvorum_core::clock::Nanos;
use kvorum_core::measure::Stage;
use kvorum_core::measure::meter::ReadPath;
use kvorum_core::measure::slow::SlowEntry;
use kvorum_core::ring::{NodeState, RingMap};
use kvorum_protocol::{
    ClusterPlan, NodeId, NodeInfo, NodeStanding, ShardId, ShardRole, ShardStatus, SlowStages, Topology,
};
use serde::Serialize;
use serde::ser::{SerializeTuple as _, Serializer};
use std::collections::BTreeMap;

/// How urgent something is, as the pages colour it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Somebody has to act.
    Bad,
    /// It may become bad.
    Risk,
    /// It mends itself.
    Heal,
    /// It is not known.
    Quiet,
    /// It is well.
    Ok,
}

/// The cluster as a whole.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct ClusterView {
    pub(super) id: String,
    pub(super) durability: &'static str,
    pub(super) factor: u8,
    pub(super) epoch: u64,
    pub(super) version: &'static str,
    pub(super) level: u16,
    pub(super) next_level: Option<u16>,
    pub(super) shards: usize,
    /// Once the leader of each shard has told.
    pub(super) keys: Option<u64>,
    /// Of their logs, likewise.
    pub(super) bytes: Option<u64>,
    pub(super) paused: bool,
    pub(super) rate_mb: Option<u32>,
    pub(super) meta_leader: Option<u16>,
}

/// The verdict: the members of `GET /cluster`, and some more.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct VerdictView {
    #[serde(flatten)]
    pub(super) cluster: super::super::operate::ClusterJson,
    pub(super) word: String,
    pub(super) level: Level,
    pub(super) can_lose_when_whole: usize,
    /// This node hears none of the others.
    pub(super) alone: bool,
    /// Somebody speaks for the ring map.
    pub(super) spoken_for: bool,
}

/// One node.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct NodeView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) address: String,
    pub(super) http: Option<String>,
    pub(super) state: &'static str,
    pub(super) down: bool,
    pub(super) level: Level,
    pub(super) word: &'static str,
    pub(super) silent_ms: Option<u64>,
    pub(super) ends_in_ms: Option<u64>,
    pub(super) leads: usize,
    pub(super) holds: usize,
    pub(super) connections: Option<u32>,
    pub(super) version: Option<String>,
    pub(super) uptime_ms: Option<u64>,
    pub(super) disk_free: Option<u64>,
    pub(super) disk_total: Option<u64>,
    pub(super) disk_full: Option<bool>,
    pub(super) index_bytes: Option<u64>,
    pub(super) index_limit: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu: Option<Figure>,
    pub(super) ops: Option<u32>,
    pub(super) failed: Option<u32>,
    pub(super) read_p99_us: Option<u32>,
    pub(super) write_p99_us: Option<u32>,
    pub(super) sync_p99_us: Option<u32>,
    pub(super) rounds_s: Option<Figure>,
    /// How full the fullest queue of a shard is.
    pub(super) queue: Option<f64>,
    pub(super) clock_ahead_ms: Option<i64>,
}

/// One shard, as a list: leader, term, replicas, keys, bytes, lag, writes per second.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ShardRow {
    pub(super) leader: Option<u16>,
    pub(super) term: u64,
    pub(super) replicas: Vec<u16>,
    pub(super) keys: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) lag: Option<u64>,
    pub(super) writes_s: Option<Figure>,
}

impl ShardRow {
    /// Whether the same nodes have the same parts in it.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        (self.leader, self.term, &self.replicas) == (other.leader, other.term, &other.replicas)
    }
}

impl Serialize for ShardRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_tuple(7)?;
        row.serialize_element(&self.leader)?;
        row.serialize_element(&self.term)?;
        row.serialize_element(&self.replicas)?;
        row.serialize_element(&self.keys)?;
        row.serialize_element(&self.bytes)?;
        row.serialize_element(&self.lag)?;
        row.serialize_element(&self.writes_s)?;
        row.end()
    }
}

/// How a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReplicaState {
    /// It votes.
    Well = 0,
    /// It takes in what it lacks.
    CatchesUp = 1,
    /// Its node does not answer.
    Gone = 2,
    /// Nobody has looked.
    Unknown = 3,
    /// Its log is damaged, it has forgotten writes, or its folder is another one.
    Faulty = 4,
    /// The map places it on its node, which does not have it yet.
    Missing = 5,
}

/// A shard that is not well, as a list: number, level, states of the replicas, and the parts that have come.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct IllShard {
    pub(super) shard: u16,
    pub(super) level: Level,
    pub(super) states: Vec<ReplicaState>,
    pub(super) parts: Option<Vec<Option<Figure>>>,
}

impl Serialize for IllShard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_tuple(4)?;
        row.serialize_element(&self.shard)?;
        row.serialize_element(&self.level)?;
        row.serialize_element(&self.states.iter().map(|state| *state as u8).collect::<Vec<_>>())?;
        row.serialize_element(&self.parts)?;
        row.end()
    }
}

/// Microseconds from a node to each other one: −1 without a connection, `None` where it is not known.
pub(super) type RoundTrips = Vec<Option<Vec<Option<i64>>>>;

/// Where the time of the writes of the last minute went.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct WritePath {
    pub(super) p50: [Option<Figure>; Stage::ALL.len()],
    pub(super) p99: [Option<Figure>; Stage::ALL.len()],
    pub(super) p999: [Option<Figure>; Stage::ALL.len()],
}

/// An operation that took long. The key is told by its hash only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct SlowView {
    n: u64,
    at_ms: u64,
    operation: &'static str,
    door: &'static str,
    outcome: &'static str,
    shard: Option<u16>,
    node: Option<u16>,
    took_us: u64,
    /// The stage that took most of it.
    mostly: Option<&'static str>,
    /// By stage, in microseconds.
    stages: Vec<(&'static str, u32)>,
    hash: Option<String>,
    trace: Option<String>,
}

impl SlowView {
    /// What this node, at its place in the topology, keeps of an operation.
    pub(super) fn new(entry: &SlowEntry, node: Option<u16>) -> Self {
        let stages: Vec<_> =
            SlowStages::NAMES.into_iter().zip(entry.stages.all_us()).filter(|(_, us)| *us > 0).collect();
        Self {
            n: entry.number,
            at_ms: entry.at_ms,
            operation: entry.operation.name(),
            door: entry.door.name(),
            outcome: entry.ending.name(),
            shard: entry.about.map(|about| about.shard.0),
            node,
            took_us: entry.took.0 / 1_000,
            mostly: stages.iter().max_by_key(|(_, us)| *us).map(|(name, _)| *name),
            stages,
            hash: entry.about.and_then(|about| about.key_hash).map(|hash| format!("{hash:016x}")),
            trace: entry.trace.map(|trace| trace.to_string()),
        }
    }
}

/// GETs per second of the last minute, by how they were answered.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct ReadPaths {
    pub(super) lease: Figure,
    pub(super) confirmed: Figure,
    pub(super) stale: Figure,
    pub(super) forwarded: Figure,
}

/// All of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Model {
    pub(super) cluster: ClusterView,
    pub(super) verdict: Option<VerdictView>,
    pub(super) nodes: Vec<NodeView>,
    /// How old what is shown of each node is, in milliseconds.
    pub(super) heard_ms: Vec<Option<u64>>,
    pub(super) rtt_us: RoundTrips,
    pub(super) shards: Vec<ShardRow>,
    /// The worst first.
    pub(super) ill: Vec<IllShard>,
    pub(super) paths: Option<WritePath>,
    pub(super) reads: Option<ReadPaths>,
    pub(super) alarms: Vec<Alarm>,
}

impl Model {
    /// What is known. `minute`: what was counted here in the last minute, and how many milliseconds that were.
    pub(super) fn of(known: &Known<'_>, minute: Option<(Counted, u64)>, own: OwnState, wall_ms: u64) -> Self {
        let nodes = known.nodes();
        let (shards, ill) = known.shards();
        Self {
            cluster: known.cluster(),
            verdict: known.verdict(),
            heard_ms: known.heard_ms(),
            rtt_us: known.rtt_us(),
            paths: minute.as_ref().and_then(|(counted, _)| WritePath::of(counted)),
            reads: minute.as_ref().and_then(|(counted, past_ms)| ReadPaths::of(counted, *past_ms)),
            alarms: alarms(known, &nodes, (&shards, &ill), own, wall_ms),
            nodes,
            shards,
            ill,
        }
    }
}

impl WritePath {
    /// `None` if nothing was written. A stage that nobody measures is `None`.
    fn of(counted: &Counted) -> Option<Self> {
        mean_us(&counted.stages[Stage::Queue as usize])?;
        let at = |share: f64| counted.stages.each_ref().map(|stage| percentile_us(stage, share).map(Figure));
        Some(Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
    }
}

impl ReadPaths {
    /// `None` if nothing was read.
    fn of(counted: &Counted, past_ms: u64) -> Option<Self> {
        let per_second = |path: ReadPath| Figure(counted.paths[path as usize] as f64 * 1_000.0 / past_ms as f64);
        (counted.paths.iter().sum::<u64>() > 0).then(|| Self {
            lease: per_second(ReadPath::Lease),
            confirmed: per_second(ReadPath::Confirmed),
            stale: per_second(ReadPath::Stale),
            forwarded: per_second(ReadPath::Forwarded),
        })
    }
}

/// What a model is made of.
pub(super) struct Known<'a> {
    pub(super) me: NodeId,
    pub(super) now: Nanos,
    pub(super) topology: &'a Topology,
    pub(super) ring: &'a RingMap,
    pub(super) heard: &'a Heard,
    /// This node's figures.
    pub(super) own: &'a NodeFigures,
    /// This node's newest second.
    pub(super) newest: Point,
    /// The peers that are connected.
    pub(super) up: &'a [NodeId],
    pub(super) meta_leader: Option<NodeId>,
}

impl Known<'_> {
    /// The place of a node in the topology.
    pub(super) fn place_of(&self, node: NodeId) -> Option<u16> {
        self.topology.nodes.iter().position(|known| known.id == node).map(|at| at as u16)
    }

    /// The node told when it was looked at last; before anybody has looked: it is connected.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        match self.heard.looked_at() {
            _ if node == self.me => true,
            Some(_) => self.heard.node(node).is_some_and(|heard| heard.answers),
            None => self.up.contains(&node),
        }
    }

    /// There are other nodes, and this one hears none of them.
    pub(super) fn is_alone(&self) -> bool {
        self.topology.nodes.len() > 1 && self.up.is_empty()
    }

    pub(super) fn cluster(&self) -> ClusterView {
        let leaders = || {
            let of = |shard: u16| self.told_leader(ShardId(shard));
            (0..self.topology.shards.len() as u16).map(of)
        };
        let plan = self.heard.plan();
        ClusterView {
            id: self.topology.cluster.to_string(),
            durability: super::super::entry::durability_name(self.topology.durability),
            factor: self.ring.replication_factor,
            epoch: self.topology.epoch.0,
            version: env!("CARGO_PKG_VERSION"),
            level: self.ring.level,
            next_level: plan.and_then(|plan| plan.next_level),
            shards: self.topology.shards.len(),
            keys: leaders().map(|leader| leader.map(|(keys, _)| keys)).sum(),
            bytes: leaders().map(|leader| leader.map(|(_, bytes)| bytes)).sum(),
            paused: self.ring.paused,
            rate_mb: plan.and_then(|plan| plan.rate_mb),
            meta_leader: self.meta_leader.and_then(|node| self.place_of(node)),
        }
    }

    /// Keys and bytes of a shard, if its leader told of them.
    fn told_leader(&self, shard: ShardId) -> Option<(u64, u64)> {
        let info = self.topology.shards.get(usize::from(shard.0))?;
        let node = self.topology.nodes.get(usize::from(info.leader?))?;
        let heard = self.heard.node(node.id).filter(|heard| heard.answers)?;
        let replica = heard.replica(shard).filter(|replica| replica.role == ShardRole::Leader)?;
        Some((replica.keys, replica.log_bytes))
    }

    pub(super) fn verdict(&self) -> Option<VerdictView> {
        let health: ClusterHealth = self.heard.health()?.clone();
        Some(VerdictView {
            word: health.verdict.to_string(),
            level: match health.verdict {
                Verdict::Ok => Level::Ok,
                Verdict::Healing => Level::Heal,
                Verdict::AtRisk => Level::Risk,
                Verdict::Unavailable => Level::Bad,
            },
            can_lose_when_whole: health.can_lose_nodes_when_whole,
            alone: self.is_alone(),
            spoken_for: self.heard.plan().is_some(),
            cluster: super::super::operate::ClusterJson::new(health, self.topology.epoch),
        })
    }

    pub(super) fn nodes(&self) -> Vec<NodeView> {
        let count = self.topology.nodes.len();
        let (mut leads, mut holds) = (vec![0; count], vec![0; count]);
        let add = |counts: &mut Vec<usize>, at: u16| counts.get_mut(usize::from(at)).into_iter().for_each(|n| *n += 1);
        for shard in &self.topology.shards {
            shard.leader.into_iter().for_each(|at| add(&mut leads, at));
            shard.replicas.iter().for_each(|at| add(&mut holds, *at));
        }
        let of = |(at, info): (usize, &NodeInfo)| self.node(info, (leads[at], holds[at]));
        self.topology.nodes.iter().enumerate().map(of).collect()
    }

    fn node(&self, info: &NodeInfo, (leads, holds): (usize, usize)) -> NodeView {
        let known = self.ring.nodes.iter().find(|known| known.id == info.id.0);
        let outlook = self.heard.plan().and_then(|plan| plan.nodes.iter().find(|outlook| outlook.node == info.id));
        let is_me = info.id == self.me;
        let heard = self.heard.node(info.id);
        let figures = if is_me { Some(self.own) } else { heard.and_then(|heard| heard.figures.as_ref()) };
        let down = outlook.map_or(known.is_some_and(|known| known.down), |outlook| outlook.down);
        let standing = outlook.map_or_else(|| standing_of(known.map(|known| known.state)), |outlook| outlook.standing);
        let (level, word) = level_of(standing, down, self.answers(info.id), heard);
        let status = heard.map(|heard| &heard.status);
        let whole = |value: Option<f64>| value.map(|value| value.round() as u32);
        NodeView {
            id: info.id.to_string(),
            name: info.name.clone(),
            zone: info.zone.clone(),
            address: info.client_address.clone(),
            http: status.and_then(|status| super::super::cluster::http_address(&info.client_address, status.http_port)),
            state: match standing {
                NodeStanding::Up => "up",
                NodeStanding::Draining => "draining",
                NodeStanding::Removing => "removing",
            },
            down,
            level,
            word,
            silent_ms: outlook.and_then(|outlook| outlook.silent_ms),
            ends_in_ms: outlook.and_then(|outlook| outlook.ends_in_ms),
            leads,
            holds,
            connections: status.map(|status| status.connections),
            version: status.map(|status| status.program_version.clone()),
            uptime_ms: status.map(|status| status.uptime_ms),
            disk_free: status.map(|status| status.disk_free_bytes).filter(|free| *free != u64::MAX),
            disk_total: figures.and_then(|figures| figures.disk_total_bytes),
            disk_full: status.map(|status| status.disk_full),
            index_bytes: status.map(|status| status.index_bytes),
            index_limit: figures.and_then(|figures| figures.index_limit_bytes),
            memory_bytes: status.map(|status| status.resident_bytes),
            cpu: match is_me {
                true => self.newest.get(Line::Cpu),
                false => heard.and_then(|heard| heard.cpu),
            }
            .map(Figure),
            ops: match is_me {
                true => whole(self.newest.operations_s()),
                false => figures.map(|figures| figures.operations_s),
            },
            failed: match is_me {
                true => whole(self.newest.get(Line::Failed)),
                false => figures.map(|figures| figures.failed_s),
            },
            read_p99_us: figures.and_then(|figures| figures.read_p99_us),
            write_p99_us: figures.and_then(|figures| figures.write_p99_us),
            sync_p99_us: figures.and_then(|figures| figures.sync_p99_us),
            rounds_s: match is_me {
                true => self.newest.get(Line::Rounds),
                false => heard.and_then(|heard| heard.rounds_s),
            }
            .map(Figure),
            queue: figures.map(|figures| f64::from(figures.queue_permille) / 1_000.0),
            clock_ahead_ms: status.map(|status| status.clock_ahead_ms),
        }
    }

    pub(super) fn heard_ms(&self) -> Vec<Option<u64>> {
        let age = |info: &NodeInfo| match self.heard.node(info.id) {
            _ if info.id == self.me => Some(0),
            Some(heard) => Some(self.now.ms_since(heard.at)),
            None => None,
        };
        self.topology.nodes.iter().map(age).collect()
    }

    pub(super) fn rtt_us(&self) -> RoundTrips {
        let row = |from: &NodeInfo| {
            let links = match from.id == self.me {
                true => &self.own.links,
                false => &self.heard.node(from.id).filter(|heard| heard.answers)?.figures.as_ref()?.links,
            };
            let by_node: BTreeMap<NodeId, Option<u32>> = links.iter().copied().collect();
            let to = |to: &NodeInfo| match by_node.get(&to.id) {
                _ if to.id == from.id => Some(0),
                Some(Some(us)) => Some(i64::from(*us)),
                Some(None) => Some(-1),
                None => None,
            };
            Some(self.topology.nodes.iter().map(to).collect())
        };
        self.topology.nodes.iter().map(row).collect()
    }

    /// Every shard, and those that are not well, the worst first.
    pub(super) fn shards(&self) -> (Vec<ShardRow>, Vec<IllShard>) {
        let nodes: Vec<Teller<'_>> =
            self.topology.nodes.iter().map(|info| (info, self.heard.node(info.id), self.answers(info.id))).collect();
        let is_stuck = self.heard.plan().is_none_or(|plan| plan.reasons.iter().any(|reason| reason.of_repair));
        let leaving = self.leaving(&nodes);
        let (mut rows, mut ill) = (Vec::with_capacity(self.topology.shards.len()), Vec::new());
        for (number, info) in (0..).zip(&self.topology.shards) {
            let shard = ShardId(number);
            let replicas = info.replicas.iter().filter_map(|at| nodes.get(usize::from(*at)));
            let reports: Vec<_> = replicas.clone().filter_map(|node| told(node, shard)).collect();
            let leading = reports.iter().find(|replica| replica.role == ShardRole::Leader);
            let furthest = leading.or_else(|| reports.iter().max_by_key(|replica| replica.applied));
            let slowest = reports.iter().map(|replica| replica.applied.0).min();
            rows.push(ShardRow {
                leader: info.leader,
                term: info.term.0.max(furthest.map_or(0, |replica| replica.term.0)),
                replicas: info.replicas.clone(),
                keys: furthest.map(|replica| replica.keys),
                bytes: furthest.map(|replica| replica.log_bytes),
                lag: leading.zip(slowest).map(|(leader, slowest)| leader.committed.0.saturating_sub(slowest)),
                writes_s: self.heard.writes_s(shard).map(Figure),
            });
            let states: Vec<_> =
                replicas.clone().map(|(_, heard, answers)| self.state_of(shard, *heard, *answers)).collect();
            let well = states.iter().filter(|state| **state == ReplicaState::Well).count();
            let well = well + leaving.get(&shard).copied().unwrap_or(0);
            let has_leader = info.leader.is_some() || leading.is_some();
            let level = match self.heard.looked_at() {
                None if has_leader => continue,
                None => Level::Quiet,
                Some(_) if !has_leader || well < states.len() / 2 + 1 => Level::Bad,
                Some(_) if well >= states.len() && !states.contains(&ReplicaState::CatchesUp) => continue,
                Some(_) if well >= states.len() => Level::Heal,
                Some(_) if is_stuck => Level::Risk,
                Some(_) => Level::Heal,
            };
            let part = |(_, heard, answers): &Teller<'_>| {
                let receiving = heard.filter(|_| *answers)?.replica(shard)?.receiving?;
                Some(Figure(receiving.records as f64 / receiving.records_total.max(1) as f64))
            };
            let parts: Vec<_> = replicas.map(part).collect();
            let parts = parts.iter().any(Option::is_some).then_some(parts);
            ill.push(IllShard { shard: number, level, states, parts });
        }
        ill.sort_by_key(|ill| (ill.level, ill.shard));
        (rows, ill)
    }

    /// How many voters of each shard are on nodes that the map does not place it on: one that is to leave votes until another one does.
    fn leaving(&self, nodes: &[Teller<'_>]) -> BTreeMap<ShardId, usize> {
        let mut leaving = BTreeMap::new();
        for (at, (_, heard, answers)) in (0_u16..).zip(nodes) {
            for replica in heard.filter(|_| *answers).iter().flat_map(|heard| &heard.status.shards) {
                let placed = self.topology.shards.get(usize::from(replica.shard.0));
                if votes(replica.role) && placed.is_some_and(|shard| !shard.replicas.contains(&at)) {
                    *leaving.entry(replica.shard).or_insert(0) += 1;
                }
            }
        }
        leaving
    }

    fn state_of(&self, shard: ShardId, heard: Option<&HeardNode>, answers: bool) -> ReplicaState {
        if self.heard.looked_at().is_none() {
            return ReplicaState::Unknown;
        }
        let Some(heard) = heard.filter(|_| answers) else { return ReplicaState::Gone };
        if heard.status.stranger {
            return ReplicaState::Faulty;
        }
        match heard.replica(shard).map(|replica| replica.role) {
            Some(role) if votes(role) => ReplicaState::Well,
            Some(ShardRole::Learner) => ReplicaState::CatchesUp,
            Some(ShardRole::Faulty | ShardRole::Amnesiac) => ReplicaState::Faulty,
            Some(_) | None => ReplicaState::Missing,
        }
    }

    /// The plan, if somebody speaks for the map.
    pub(super) fn plan(&self) -> Option<&ClusterPlan> {
        self.heard.plan()
    }
}

/// A node, what it told last, and whether it still answers.
type Teller<'a> = (&'a NodeInfo, Option<&'a HeardNode>, bool);

/// What a node that answers tells of a replica that it has.
fn told<'a>(&(_, heard, answers): &Teller<'a>, shard: ShardId) -> Option<&'a ShardStatus> {
    heard.filter(|_| answers)?.replica(shard).filter(|replica| replica.role != ShardRole::Missing)
}

fn votes(role: ShardRole) -> bool {
    matches!(role, ShardRole::Leader | ShardRole::Follower | ShardRole::Candidate)
}

fn standing_of(state: Option<NodeState>) -> NodeStanding {
    match state {
        Some(NodeState::Draining) => NodeStanding::Draining,
        Some(NodeState::Removing) => NodeStanding::Removing,
        Some(NodeState::Up) | None => NodeStanding::Up,
    }
}

/// How a node is, in a word.
fn level_of(standing: NodeStanding, down: bool, answers: bool, heard: Option<&HeardNode>) -> (Level, &'static str) {
    let status = heard.filter(|_| answers).map(|heard| &heard.status);
    let lacks = |role| matches!(role, ShardRole::Faulty | ShardRole::Amnesiac);
    match (standing, answers) {
        (NodeStanding::Removing, _) => (Level::Heal, "Removing"),
        (NodeStanding::Draining, true) => (Level::Heal, "Draining"),
        (NodeStanding::Draining, false) => (Level::Risk, "Away"),
        (NodeStanding::Up, false) if down => (Level::Bad, "Down"),
        (NodeStanding::Up, true) if down => (Level::Heal, "Back"),
        (NodeStanding::Up, false) => (Level::Quiet, "Not heard"),
        (NodeStanding::Up, true) => match status {
            Some(status) if status.disk_full => (Level::Risk, "Disk full"),
            Some(status) if status.clock_off => (Level::Risk, "Clock off"),
            Some(status) if status.stranger || status.shards.iter().any(|shard| lacks(shard.role)) => {
                (Level::Risk, "Degraded")
            }
            _ => (Level::Ok, "Up"),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::heard::tests::{look, node, status, topology};
    use super::*;
    use kvorum_core::ring::{NodeSlot, RingNode};
    use kvorum_protocol::{NodeOutlook, PlanReason, Receiving};

    pub(in super::super) fn plan(topology: &Topology) -> ClusterPlan {
        let outlook = |info: &NodeInfo| NodeOutlook {
            node: info.id,
            standing: NodeStanding::Up,
            down: false,
            silent_ms: None,
            ends_in_ms: None,
        };
        ClusterPlan {
            epoch: topology.epoch,
            level: 1,
            next_level: None,
            replication_factor: 3,
            paused: false,
            rate_mb: None,
            meta: topology.nodes.iter().take(3).map(|info| info.id).collect(),
            nodes: topology.nodes.iter().map(outlook).collect(),
            moves: Vec::new(),
            leads: 0,
            reasons: Vec::new(),
            sealing: None,
        }
    }

    pub(in super::super) struct Scene {
        pub(in super::super) topology: Topology,
        pub(in super::super) ring: RingMap,
        pub(in super::super) heard: Heard,
        pub(in super::super) own: NodeFigures,
        pub(in super::super) up: Vec<NodeId>,
    }

    impl Scene {
        /// Node 1 looks on.
        pub(in super::super) fn new(nodes: u128, shards: u16) -> Self {
            let topology = topology(nodes, shards);
            let up = (2..=nodes).map(node).collect();
            let links = (2..=nodes).map(|number| (node(number), Some(600 + number as u32))).collect();
            let own = NodeFigures { links, ..NodeFigures::default() };
            Self { ring: ring_of(&topology), topology, heard: Heard::default(), own, up }
        }

        pub(in super::super) fn looked(mut self, numbers: &[u128], plan: Option<ClusterPlan>) -> Self {
            let found = super::super::heard::Found { plan, ..look(&self.topology, numbers) };
            self.heard.handle_look(found, &self.topology, Nanos(1));
            self
        }

        pub(in super::super) fn known(&self) -> Known<'_> {
            Known {
                me: node(1),
                now: Nanos(1).after_ms(1_500),
                topology: &self.topology,
                ring: &self.ring,
                heard: &self.heard,
                own: &self.own,
                newest: Point::UNKNOWN,
                up: &self.up,
                meta_leader: Some(node(2)),
            }
        }
    }

    fn ring_of(topology: &Topology) -> RingMap {
        let of = |info: &NodeInfo| RingNode {
            slot: NodeSlot(0),
            id: info.id.0,
            name: info.name.clone(),
            zone: info.zone.clone(),
            client: info.client_address.clone(),
            peer: info.client_address.clone(),
            weight: 1,
            disk_quarters: 4,
            state: NodeState::Up,
            absence_ms: None,
            heir: None,
            lost: false,
            down: false,
            disk: None,
            unknown: serde_json::Map::new(),
        };
        let (nodes, shards) = (topology.nodes.iter().map(of).collect(), topology.shards.len() as u16);
        RingMap::initial(topology.cluster, topology.durability, nodes, shards, 3).expect("there are enough nodes")
    }

    fn words(scene: &Scene) -> Vec<&'static str> {
        scene.known().nodes().iter().map(|node| node.word).collect()
    }

    #[test]
    fn before_anybody_has_looked_nothing_is_made_up() {
        let scene = Scene::new(3, 4);
        let known = scene.known();
        let (rows, ill) = known.shards();
        assert!(ill.is_empty() && known.verdict().is_none());
        assert_eq!((rows[1].keys, rows[1].lag, rows[1].writes_s, rows[1].leader), (None, None, None, Some(1)));
        assert_eq!(known.heard_ms(), [Some(0), None, None]);
        let node = &known.nodes()[1];
        assert_eq!((node.connections, node.disk_free, node.cpu, node.holds), (None, None, None, 4));
        assert_eq!(known.rtt_us(), [Some(vec![Some(0), Some(602), Some(603)]), None, None]);
        assert_eq!(known.cluster().keys, None);
    }

    #[test]
    fn a_whole_cluster_is_well() {
        let scene = Scene::new(3, 4);
        let plan = plan(&scene.topology);
        let scene = scene.looked(&[1, 2, 3], Some(plan));
        let (rows, ill) = scene.known().shards();
        assert_eq!(ill, []);
        assert_eq!(serde_json::to_string(&rows[1]).expect("JSON"), "[1,3,[1,2,0],50,4096,10,null]");
        assert_eq!(words(&scene), ["Up", "Up", "Up"]);
        assert_eq!(scene.known().heard_ms(), [Some(0), Some(1_500), Some(1_500)]);
        let cluster = scene.known().cluster();
        assert_eq!((cluster.keys, cluster.meta_leader, cluster.factor), (Some(200), Some(1), 3));
        let verdict = scene.known().verdict().expect("somebody has looked");
        assert_eq!((verdict.word.as_str(), verdict.level, verdict.spoken_for), ("OK", Level::Ok, true));
    }

    #[test]
    fn a_node_that_is_gone_makes_shards_thin_and_is_not_drawn_as_zero() {
        let mut scene = Scene::new(3, 4);
        scene.topology.shards[2].leader = Some(0);
        let plan = ClusterPlan {
            reasons: vec![PlanReason { text: "there is no other node".to_owned(), of_repair: true }],
            ..plan(&scene.topology)
        };
        let scene = scene.looked(&[1, 2], Some(plan));
        let (_, ill) = scene.known().shards();
        let json = serde_json::to_string(&ill[0]).expect("JSON");
        assert_eq!((ill.len(), json.as_str()), (4, "[0,\"risk\",[0,0,2],null]"));
        assert_eq!(words(&scene), ["Up", "Up", "Not heard"]);
        assert_eq!(scene.known().nodes()[2].connections, None);
        assert_eq!(scene.known().cluster().keys, Some(200), "its leaders told all the same");
    }

    #[test]
    fn without_a_majority_shards_are_bad_and_come_first() {
        let mut scene = Scene::new(3, 2);
        scene.topology.shards[1].leader = None;
        let scene = Scene { up: Vec::new(), ..scene }.looked(&[1], None);
        let (rows, ill) = scene.known().shards();
        assert!(ill.iter().all(|ill| ill.level == Level::Bad));
        assert_eq!(rows[1].leader, None);
        assert_eq!((rows[1].keys, rows[1].lag), (Some(50), None), "this node's replica tells of its keys");
        let verdict = scene.known().verdict().expect("somebody has looked");
        assert_eq!((verdict.level, verdict.alone, verdict.spoken_for), (Level::Bad, true, false));
        let model = Model::of(&scene.known(), None, OwnState::default(), 0);
        let codes: Vec<_> = model.alarms.iter().map(|alarm| alarm.code).collect();
        assert_eq!(codes, ["no_leader", "alone"], "{:?}", model.alarms);
    }

    #[test]
    fn a_replica_that_catches_up_says_how_far_it_is() {
        let mut scene = Scene::new(4, 1);
        let (topology, plan) = (scene.topology.clone(), plan(&scene.topology));
        let mut new = status(&topology, 3);
        let receiving = Receiving { elapsed_ms: 1, bytes: 1, records: 61, records_total: 100 };
        let as_learner = |shard: &mut ShardStatus| {
            (shard.role, shard.receiving) = (ShardRole::Learner, Some(receiving));
        };
        new.shards.iter_mut().for_each(as_learner);
        let statuses = vec![status(&topology, 1), status(&topology, 2), new];
        let found = super::super::heard::Found { statuses, figures: Vec::new(), plan: Some(plan) };
        scene.heard.handle_look(found, &topology, Nanos(1));
        let (_, ill) = scene.known().shards();
        assert_eq!(serde_json::to_string(&ill).expect("JSON"), "[[0,\"heal\",[0,0,1],[null,null,0.61]]]");
    }

    #[test]
    fn four_thousand_shards_are_small() {
        let scene = Scene::new(3, 4_096);
        let plan = plan(&scene.topology);
        let scene = scene.looked(&[1, 2, 3], Some(plan));
        let json = serde_json::to_vec(&scene.known().shards().0).expect("JSON");
        assert!(json.len() < 200 * 1_024, "{} bytes", json.len());
    }
}
