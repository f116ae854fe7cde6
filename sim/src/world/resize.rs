//! Machines that join the cluster, and nodes that leave it.

use super::node::Crash;
use super::queue::Moment;
use super::{Event, World};
use kvorum_core::map_keeper::Asked;
use kvorum_core::ring::rebalance::{self, Standing};
use kvorum_core::ring::verbs::Verb;
use kvorum_core::ring::{Holder, NodeState, RingNode, ShardGroup};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{NewNode, NodeId};

/// An operator asks again so often.
const ASK_AGAIN_MS: u64 = 250;
/// An operator gives up then.
const PATIENCE_MS: u64 = 20_000;

impl World<'_> {
    /// An operator begins to ask for something.
    pub(super) fn begin_to_ask(&mut self, verb: Verb) {
        let now = self.now();
        // A machine that joins asks by itself, and does not give up.
        let patience_ms = if matches!(verb, Verb::Join(_)) { u64::MAX / 2_000_000 } else { PATIENCE_MS };
        self.queue.push(now, Event::Asks(Box::new(verb), now.after_ms(patience_ms)));
    }

    /// The verb that has a machine join; `None` if it is a founder, runs, or has been part of the cluster.
    pub(super) fn join_of(&self, at: usize) -> Option<Verb> {
        let node = self.nodes.get(at).filter(|_| at >= usize::from(self.plan.options.nodes))?;
        let is_new = node.process.is_none() && !node.left && node.joined.is_none();
        is_new.then(|| {
            Verb::Join(Box::new(NewNode {
                id: node.id,
                name: format!("node-{}", at + 1),
                zone: String::new(),
                client: format!("node-{}:7400", at + 1),
                peer: format!("node-{}:7401", at + 1),
                folder: node.folder_id,
                levels: Levels::OWN,
            }))
        })
    }

    /// Asks every node: the one that speaks for the map answers.
    pub(super) fn ask(&mut self, verb: Box<Verb>, until: Moment) {
        if self.now() >= until {
            return;
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let Some(process) = &mut node.process else { continue };
            let asked = process.ask(&verb, &node.clock);
            match asked {
                Asked::Elsewhere => continue,
                Asked::Soon { proposed } => {
                    if let Some(epoch) = proposed {
                        self.proposed_epoch = self.proposed_epoch.max(epoch);
                        self.flush(at);
                    }
                    break;
                }
                Asked::Done { epoch } => {
                    self.note_verb(at, &verb, format_args!("is in the map of epoch {epoch}"));
                    self.count("verbs done");
                    match &*verb {
                        Verb::Join(new) => self.joined(at, new.id),
                        Verb::Drain { .. } => self.look_at_drained(at),
                        _ => {}
                    }
                    return;
                }
                Asked::Refused(refusal) => {
                    self.note_verb(at, &verb, format_args!("is refused: {refusal}"));
                    return self.count("verbs refused");
                }
            }
        }
        self.queue.push(self.now().after_ms(ASK_AGAIN_MS), Event::Asks(verb, until));
    }

    fn note_verb(&mut self, at: usize, verb: &Verb, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.time.now(), "verb", &[at as u64], format_args!("{verb:?} {what}, says node {at}"));
    }

    /// A machine is in the map, and starts with the map that the node `at` has.
    fn joined(&mut self, at: usize, id: NodeId) {
        let ring = self.nodes[at].process.as_ref().and_then(|process| process.router.agreed_ring());
        let Some(ring) = ring.filter(|ring| ring.has_node(id)) else { return };
        let Some(new) = self.nodes.iter().position(|node| node.id == id) else { return };
        if self.nodes[new].joined.is_none() {
            self.nodes[new].joined = Some((*ring).clone());
            self.queue.push(self.now(), Event::Start(new));
        }
    }

    /// A node was drained, by the map that the node `at` has: all that are may be away at once, and no group stops.
    fn look_at_drained(&mut self, at: usize) {
        let ring = self.nodes[at].process.as_ref().and_then(|process| process.router.agreed_ring());
        let Some(ring) = ring else { return };
        let is_drained = |held: &&Holder| {
            let node = ring.node_at(held.node);
            node.is_some_and(|node| node.state == NodeState::Draining)
        };
        let stops = |group: &ShardGroup| group.replicas.iter().filter(is_drained).count() * 2 >= group.replicas.len();
        let mut groups = ring.group_ids().zip(ring.groups()).filter(|(_, group)| !group.is_moving());
        if let Some((shard, group)) = groups.find(|(_, group)| stops(group)) {
            let detail =
                format!("shard {shard} has {group:?}, and no majority without the drained nodes of {:?}", ring.nodes);
            self.violate("drain", detail);
        }
    }

    /// Looks at what a node has erased because the map gives it to others.
    pub(super) fn look_at_erased(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let (erased, is_sound) = (std::mem::take(&mut process.erased), node.medium.is_sound());
        // A damaged replica takes no part any more, and is over as soon as the map has forgotten it.
        for (shard, replica) in erased.into_iter().filter(|_| is_sound) {
            if let Some((property, detail)) = self.invariants.handle_erased(at, shard, replica) {
                return self.violate(property, detail);
            }
            self.count("replicas erased after a move");
        }
    }

    /// A node has learnt that it was removed: its process ends, and nobody starts it again.
    pub(super) fn leave(&mut self, at: usize) {
        self.count("processes of removed nodes");
        self.nodes[at].left = true;
        self.kill(at, Crash { power: false, down_ms: 0 }, "it was removed");
    }

    /// Whether what nodes hold that are to be removed has no place.
    pub(super) fn nothing_can_move(&self) -> bool {
        let standing = |node: &RingNode| {
            let up = node.state != NodeState::Removing;
            Standing { eligible: up, may_receive: up }
        };
        let standings: Vec<Standing> = self.ring.nodes.iter().map(standing).collect();
        rebalance::wanted(&self.ring, &standings).is_err()
    }
}
