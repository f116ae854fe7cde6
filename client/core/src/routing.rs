//! Which node a request goes to. Pure: time and randomness come in as arguments, so that a simulator can host exactly
//! this code.

use crate::error::ConnectionError;
use crate::limits::PAUSE_MAX;
use kvorum_protocol::{Epoch, ErrorCode, NodeId, NodeInfo, Outcome, ServerError, ShardId, Term, Topology};
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a request must go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// To the leader of a shard; any other node will do too, since it forwards.
    Leader(ShardId),
    /// To any node that holds a replica of a shard.
    Replica(ShardId),
    /// To any node.
    Any,
    /// To this node and no other.
    Exactly(NodeId),
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// To this node, at this address.
    Node {
        /// The node.
        id: NodeId,
        /// `host:port` as the topology has it; empty if it is not in the topology.
        address: String,
    },
    /// To whichever node is connected, or else answers first at one of the seeds.
    Seeds,
}

/// What the client believes about the cluster: the newest topology, corrected by what nodes said since, and which nodes
/// did not answer lately.
#[derive(Debug, Default)]
pub struct RoutingTable {
    topology: Option<Arc<Topology>>,
    /// What NOT-LEADER answers said since the topology last spoke of that shard. At most one entry per shard.
    corrections: BTreeMap<ShardId, Option<NodeId>>,
    /// Nodes that have failed and not answered since; avoided for a while each. At most one entry per node of the topology.
    suspects: BTreeMap<NodeId, Suspicion>,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    until: Duration,
    failures: u32,
    /// It said that it is about to stop. That it answers what it has says nothing else.
    leaving: bool,
}

/// How long a node is avoided after one failure; doubles with each further one up to [`SUSPICION_MAX`].
const SUSPICION_FIRST: Duration = Duration::from_millis(50);
/// The longest time that a node is avoided, so that one which comes back is found again soon.
const SUSPICION_MAX: Duration = Duration::from_millis(800);

impl RoutingTable {
    /// The newest topology that was seen.
    pub fn topology(&self) -> Option<&Arc<Topology>> {
        self.topology.as_ref()
    }

    /// The epoch of the topology, 0 if there is none.
    pub fn epoch(&self) -> Epoch {
        self.topology.as_ref().map_or(Epoch(0), |topology| topology.epoch)
    }

    /// Whether any node has failed and not answered since.
    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The shard of a key; `None` before the first topology.
    pub fn shard_of(&self, key: &[u8]) -> Option<ShardId> {
        self.topology.as_ref().map(|topology| topology.shard_of(key))
    }

    /// The node that is believed to lead a shard.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        match self.corrections.get(&shard) {
            Some(correction) => *correction,
            None => self.topology.as_ref()?.leader_of(shard).map(|node| node.id),
        }
    }

    /// Where a request goes.
    pub fn route(&self, need: Need, now: Duration, rng: &mut impl Rng) -> Target {
        let Some(topology) = &self.topology else {
            return match need {
                Need::Exactly(id) => Target::Node { id, address: String::new() },
                Need::Leader(_) | Need::Replica(_) | Need::Any => Target::Seeds,
            };
        };
        // All nodes have failed, and none has answered since. Their addresses may be old: every other time the seeds are asked.
        let asks_seeds = || self.suspects.len() >= topology.nodes.len();
        let preferred = match need {
            Need::Exactly(id) => return Target::Node { id, address: address_of(topology, id) },
            Need::Leader(_) | Need::Replica(_) | Need::Any if asks_seeds() && rng.random_bool(0.5) => {
                return Target::Seeds;
            }
            Need::Any => None,
            Need::Leader(shard) => self
                .leader(shard)
                .and_then(|leader| topology.nodes.iter().find(|node| node.id == leader))
                .filter(|leader| self.is_trusted(leader, now))
                .or_else(|| self.pick(topology.replicas_of(shard), now, rng)),
            Need::Replica(shard) => self.pick(topology.replicas_of(shard), now, rng),
        };
        match preferred.or_else(|| self.pick(topology.nodes.iter(), now, rng)) {
            Some(node) => target(node),
            None if topology.nodes.is_empty() => Target::Seeds,
            None => target(&topology.nodes[rng.random_range(0..topology.nodes.len())]),
        }
    }

    /// A topology arrived. Returns whether anything changed. An older epoch is ignored; within one epoch, and across
    /// epochs, a shard's leader of a higher term stays.
    pub fn handle_topology(&mut self, mut new: Topology) -> bool {
        let Some(old) = &self.topology else {
            self.topology = Some(Arc::new(new));
            return true;
        };
        if new.epoch < old.epoch || new.shards.len() != old.shards.len() {
            return false;
        }
        let mut spoken_of = Vec::new();
        for (index, (older, newer)) in old.shards.iter().zip(&mut new.shards).enumerate() {
            let shard = ShardId(index as u16);
            let old_leader = old.leader_of(shard).map(|node| node.id);
            let keep_old = older.term > newer.term || (older.term == newer.term && newer.leader.is_none());
            if keep_old {
                newer.term = older.term;
                newer.leader = old_leader
                    .and_then(|leader| new.nodes.iter().position(|node| node.id == leader))
                    .map(|position| position as u16);
            }
            if newer.term > older.term || (newer.leader.is_some() && older.leader.is_none()) {
                spoken_of.push(shard);
            }
        }
        let changed = new != **old || spoken_of.iter().any(|shard| self.corrections.contains_key(shard));
        spoken_of.iter().for_each(|shard| {
            self.corrections.remove(shard);
        });
        self.suspects.retain(|id, _| new.nodes.iter().any(|node| node.id == *id));
        if changed {
            self.topology = Some(Arc::new(new));
        }
        changed
    }

    /// A node refused a request. If that says something about who leads the shard, it is believed: that another node
    /// does, or that this one knows of no leader (it may be cut off from the others while clients still reach it).
    /// Returns `None` if it says nothing, else whether it was news.
    pub fn handle_refusal(&mut self, need: Need, said_by: NodeId, error: &ServerError) -> Option<bool> {
        let (Need::Leader(shard) | Need::Replica(shard)) = need else { return None };
        let says_so = match error.code {
            ErrorCode::NotLeader => true,
            ErrorCode::Unavailable => error.outcome == Outcome::NotApplied,
            _ => false,
        };
        says_so.then(|| self.handle_not_leader(shard, said_by, error.leader))
    }

    fn handle_not_leader(&mut self, shard: ShardId, said_by: NodeId, leader: Option<NodeId>) -> bool {
        let Some(topology) = &self.topology else { return false };
        if usize::from(shard.0) >= topology.shards.len() {
            return false;
        }
        let before = self.leader(shard);
        let leader = leader.filter(|leader| *leader != said_by);
        // A node that knows nobody only refutes itself.
        if leader.is_none() && before != Some(said_by) {
            return false;
        }
        self.corrections.insert(shard, leader);
        before != leader
    }

    /// A node could not be reached, or did not answer in time.
    pub fn handle_failure(&mut self, node: NodeId, now: Duration) {
        let known = self.topology.as_ref().is_some_and(|topology| topology.nodes.iter().any(|info| info.id == node));
        if !known {
            return;
        }
        let failures = self.suspects.get(&node).map_or(0, |suspicion| suspicion.failures);
        let span = SUSPICION_FIRST.saturating_mul(1 << failures.min(8)).min(SUSPICION_MAX);
        self.suspects.insert(node, Suspicion { until: now + span, failures: failures + 1, leaving: false });
    }

    /// A node could not be reached, or refused the connection. If it asked for a pause, it is avoided that long, and a minute
    /// at most.
    pub fn handle_unreachable(&mut self, node: NodeId, error: &ConnectionError, now: Duration) {
        self.handle_failure(node, now);
        if let (Some(pause), Some(suspicion)) = (error.pause(), self.suspects.get_mut(&node)) {
            suspicion.until = suspicion.until.max(now + pause.min(PAUSE_MAX));
        }
    }

    /// Whether a request has nobody to go to but nodes that have failed lately.
    pub fn is_nobody_trusted(&self, now: Duration) -> bool {
        let nodes = self.topology.as_ref().map_or(&[][..], |topology| &topology.nodes);
        !nodes.iter().any(|node| self.is_trusted(node, now))
    }

    /// A node said that it is about to stop: for a while nothing is sent to it. It may be back soon.
    pub fn handle_leaving(&mut self, node: NodeId, now: Duration) {
        self.handle_failure(node, now);
        if let Some(suspicion) = self.suspects.get_mut(&node) {
            (suspicion.until, suspicion.leaving) = (now + SUSPICION_MAX, true);
        }
    }

    /// A node answered.
    pub fn handle_answer(&mut self, node: NodeId, now: Duration) {
        if self.suspects.get(&node).is_some_and(|suspicion| !suspicion.leaving || suspicion.until <= now) {
            self.suspects.remove(&node);
        }
    }

    /// The term in which a shard's leader is known.
    pub fn term(&self, shard: ShardId) -> Term {
        let topology = self.topology.as_ref();
        topology.and_then(|topology| topology.shards.get(usize::from(shard.0))).map_or(Term(0), |shard| shard.term)
    }

    fn is_trusted(&self, node: &NodeInfo, now: Duration) -> bool {
        self.suspects.get(&node.id).is_none_or(|suspicion| suspicion.until <= now)
    }

    /// One of the trusted nodes, each as likely as the others.
    fn pick<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeInfo>,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<&'a NodeInfo> {
        let trusted: Vec<_> = nodes.filter(|node| self.is_trusted(node, now)).collect();
        (!trusted.is_empty()).then(|| trusted[rng.random_range(0..trusted.len())])
    }
}

fn target(node: &NodeInfo) -> Target {
    Target::Node { id: node.id, address: node.client_address.clone() }
}

fn address_of(topology: &Topology, id: NodeId) -> String {
    topology.nodes.iter().find(|node| node.id == id).map(|node| node.client_address.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterId, Durability, ShardInfo};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use uuid::Uuid;

    const SHARD: ShardId = ShardId(0);

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    /// Four nodes, 1 to 4; one shard on the first three.
    fn topology(epoch: u64, term: u64, leader: Option<u16>) -> Topology {
        let info = |number: u128| NodeInfo {
            id: node(number),
            name: format!("node-{number}"),
            client_address: format!("host-{number}:7400"),
            zone: String::new(),
        };
        Topology {
            epoch: Epoch(epoch),
            cluster: ClusterId(Uuid::from_u128(9)),
            durability: Durability::Fsync,
            nodes: (1..=4).map(info).collect(),
            shards: vec![ShardInfo { leader, term: Term(term), replicas: vec![0, 1, 2] }],
        }
    }

    fn table(leader: Option<u16>) -> RoutingTable {
        let mut table = RoutingTable::default();
        assert!(table.handle_topology(topology(1, 1, leader)));
        table
    }

    /// Every node that the table may choose, over many draws.
    fn choices(table: &RoutingTable, need: Need, now: Duration) -> Vec<String> {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seen: Vec<_> = (0..200)
            .map(|_| match table.route(need, now, &mut rng) {
                Target::Node { id, .. } => id.0.as_u128().to_string(),
                Target::Seeds => "seeds".to_owned(),
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }

    #[test]
    fn requests_go_to_the_leader_and_else_to_whoever_is_nearest_to_it() {
        let now = Duration::ZERO;
        assert_eq!(choices(&RoutingTable::default(), Need::Leader(SHARD), now), ["seeds"]);
        assert_eq!(choices(&table(Some(1)), Need::Leader(SHARD), now), ["2"]);
        assert_eq!(choices(&table(None), Need::Leader(SHARD), now), ["1", "2", "3"]);
        assert_eq!(choices(&table(Some(1)), Need::Replica(SHARD), now), ["1", "2", "3"]);
        assert_eq!(choices(&table(Some(1)), Need::Any, now), ["1", "2", "3", "4"]);
        assert_eq!(choices(&table(Some(1)), Need::Exactly(node(4)), now), ["4"]);
    }

    #[test]
    fn nodes_that_fail_are_avoided_for_a_while() {
        let mut table = table(Some(1));
        let now = Duration::from_secs(1);
        table.handle_failure(node(2), now);
        assert_eq!(choices(&table, Need::Leader(SHARD), now), ["1", "3"]);
        assert_eq!(choices(&table, Need::Leader(SHARD), now + SUSPICION_FIRST), ["2"]);
        table.handle_failure(node(1), now);
        table.handle_failure(node(3), now);
        assert_eq!(choices(&table, Need::Leader(SHARD), now), ["4"]);
        table.handle_failure(node(4), now);
        assert_eq!(choices(&table, Need::Leader(SHARD), now), ["1", "2", "3", "4", "seeds"]);
        table.handle_answer(node(2), now);
        assert_eq!(choices(&table, Need::Leader(SHARD), now), ["2"]);
    }

    #[test]
    fn the_seeds_are_asked_while_all_nodes_fail_one_after_the_other_however_slowly() {
        let mut table = table(Some(1));
        for round in 0..3 {
            for number in 1..=4 {
                table.handle_failure(node(number), Duration::from_secs(4 * round + number as u64));
            }
            // All but the last one are trusted again, and none has answered.
            let now = Duration::from_secs(4 * round + 4);
            for need in [Need::Leader(SHARD), Need::Replica(SHARD), Need::Any] {
                assert!(choices(&table, need, now).contains(&"seeds".to_owned()), "{need:?}");
            }
        }
        assert_eq!(choices(&table, Need::Exactly(node(4)), Duration::from_secs(12)), ["4"]);
        table.handle_answer(node(1), Duration::from_secs(12));
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::from_secs(13)), ["2"]);
    }

    #[test]
    fn a_node_that_asks_for_a_pause_when_it_refuses_a_connection_is_left_alone_that_long() {
        let mut table = table(Some(1));
        let source = ServerError::new(ErrorCode::TooManyConnections, "");
        let full = ConnectionError::Refused { address: "host-2:7400".to_owned(), source };
        table.handle_unreachable(node(2), &full, Duration::ZERO);
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::from_millis(999)), ["1", "3"]);
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::from_secs(1)), ["2"]);
        assert!(!table.is_nobody_trusted(Duration::ZERO));
        (1..=4).for_each(|number| table.handle_unreachable(node(number), &full, Duration::ZERO));
        assert!(table.is_nobody_trusted(Duration::from_millis(999)));
        assert!(!table.is_nobody_trusted(Duration::from_secs(1)));
        let gone = ConnectionError::OtherNode { address: "host-2:7400".to_owned() };
        let mut table = self::table(Some(1));
        table.handle_unreachable(node(2), &gone, Duration::ZERO);
        assert_eq!(choices(&table, Need::Leader(SHARD), SUSPICION_FIRST), ["2"]);
    }

    #[test]
    fn a_node_that_is_about_to_stop_is_left_alone_for_a_while_although_it_answers() {
        let mut table = table(Some(1));
        let now = Duration::from_secs(1);
        table.handle_leaving(node(2), now);
        table.handle_answer(node(2), now + SUSPICION_FIRST);
        assert_eq!(choices(&table, Need::Leader(SHARD), now + SUSPICION_MAX / 2), ["1", "3"]);
        assert_eq!(choices(&table, Need::Leader(SHARD), now + SUSPICION_MAX), ["2"], "it may be back");
        table.handle_answer(node(2), now + SUSPICION_MAX);
        assert!(!table.has_suspects());
    }

    #[test]
    fn repeated_failures_are_avoided_longer_up_to_a_bound() {
        let mut table = table(Some(1));
        for _ in 0..30 {
            table.handle_failure(node(2), Duration::ZERO);
        }
        assert_eq!(choices(&table, Need::Leader(SHARD), SUSPICION_MAX / 2), ["1", "3"]);
        assert_eq!(choices(&table, Need::Leader(SHARD), SUSPICION_MAX), ["2"]);
    }

    #[test]
    fn a_node_that_knows_better_is_believed_until_a_newer_term_speaks() {
        let mut table = table(Some(1));
        assert!(table.handle_not_leader(SHARD, node(2), Some(node(3))));
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::ZERO), ["3"]);
        assert!(!table.handle_not_leader(SHARD, node(1), None), "node 1 was not taken for the leader");
        assert!(table.handle_not_leader(SHARD, node(3), None));
        assert_eq!(table.leader(SHARD), None);
        assert!(!table.handle_topology(topology(1, 1, Some(1))), "the same term is no news");
        assert_eq!(table.leader(SHARD), None);
        assert!(table.handle_topology(topology(1, 2, Some(0))));
        assert_eq!(table.leader(SHARD), Some(node(1)));
    }

    #[test]
    fn a_node_that_is_cut_off_from_the_others_refutes_itself() {
        let cut_off = ServerError::new(ErrorCode::Unavailable, "the shard has no leader now");
        let mut table = table(Some(1));
        assert_eq!(table.handle_refusal(Need::Leader(SHARD), node(2), &cut_off), Some(true));
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::ZERO), ["1", "2", "3"]);

        let mut table = self::table(Some(1));
        let busy = ServerError::new(ErrorCode::Unavailable, "being committed").with_outcome(Outcome::Unknown);
        assert_eq!(table.handle_refusal(Need::Leader(SHARD), node(2), &busy), None, "only a leader says that");
        let full = ServerError::new(ErrorCode::Overloaded, "");
        assert_eq!(table.handle_refusal(Need::Leader(SHARD), node(2), &full), None);
        assert_eq!(table.handle_refusal(Need::Exactly(node(2)), node(2), &cut_off), None);
        assert_eq!(choices(&table, Need::Leader(SHARD), Duration::ZERO), ["2"]);
    }

    #[test]
    fn of_two_topologies_the_newer_wins_and_of_two_leaders_the_higher_term() {
        let mut table = table(Some(1));
        assert!(table.handle_topology(topology(2, 5, Some(2))));
        assert!(!table.handle_topology(topology(1, 9, Some(0))), "an older epoch is ignored");
        assert!(!table.handle_topology(topology(2, 4, Some(0))), "an older term is ignored");
        assert!(!table.handle_topology(topology(2, 5, None)), "who knows nobody does not refute");
        assert_eq!(table.leader(SHARD), Some(node(3)));
        assert!(table.handle_topology(topology(3, 4, Some(0))), "the epoch is new");
        assert_eq!((table.epoch(), table.leader(SHARD)), (Epoch(3), Some(node(3))));
        assert!(table.handle_topology(topology(3, 6, None)), "a new term without a leader yet");
        assert_eq!(table.leader(SHARD), None);
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let table = table(None);
        let draw = |seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            (0..50).map(|_| table.route(Need::Any, Duration::ZERO, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
