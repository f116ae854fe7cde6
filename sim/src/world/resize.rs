//! Machines that join the cluster, and nodes that leave it.

use super::node::{Crash, Process};
use super::queue::Moment;
use super::{Event, World};
use kvorum_core::health::fitness::Unfit;
use kvorum_core::map_keeper::Asked;
use kvorum_core::ring::rebalance::{self, Standing};
use kvorum_core::ring::verbs::Verb;
use kvorum_core::ring::{NodeState, RingNode, ShardGroup};
use kvorum_core::shard::Shard;
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{NewNode, NodeId, ReplicaId, ShardId};
use std::collections::BTreeSet;

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
        let is_new = node.process.is_none() && !node.gone && node.joined.is_none();
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
        let is_away =
            |shard: ShardId, voter: &ReplicaId| ring.node_of(shard, *voter).is_some_and(|id| ring.is_draining(id));
        // Who votes is known to whoever has applied the group's last change.
        let stops = |shard: ShardId, voters: &[ReplicaId]| {
            voters.iter().filter(|voter| is_away(shard, voter)).count() * 2 >= voters.len().max(1)
        };
        let stopped = self.invariants.newest_memberships().find(|(shard, membership)| {
            let outgoing = &membership.voters_outgoing;
            stops(*shard, &membership.voters) || !outgoing.is_empty() && stops(*shard, outgoing)
        });
        if let Some((shard, membership)) = stopped {
            let detail = format!(
                "shard {shard} has {membership:?}, and no majority without the drained nodes of {:?}",
                ring.nodes
            );
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
        self.nodes[at].gone = true;
        self.kill(at, Crash { power: false, down_ms: 0 }, "it was removed");
    }

    /// A machine is lost for good, if every group has a majority without it: of replicas that are open elsewhere, and whose medium is
    /// sound.
    pub(super) fn lose_for_good(&mut self, at: usize) -> bool {
        // Who has said that it stops is waited for, for longer than a run lasts.
        let stops = |process: &Process| process.router.fitness().reasons().contains(Unfit::Stopping);
        let is_member = self.nodes.get(at).is_some_and(|node| {
            node.process.as_ref().is_some_and(|process| !stops(process)) && self.ring.has_node(node.id)
        });
        if !is_member || !self.ring.group_ids().all(|shard| self.goes_on_without(shard, at)) {
            return false;
        }
        if self.ring.groups().any(ShardGroup::is_moving) {
            self.count("machines lost while replicas moved");
        }
        self.nodes[at].gone = true;
        self.kill(at, Crash { power: false, down_ms: 0 }, "it is lost for good");
        self.nodes[at].files.wipe();
        true
    }

    /// Whether a shard's replicas elsewhere are a majority of each membership that any of its replicas knows.
    fn goes_on_without(&self, shard: ShardId, at: usize) -> bool {
        let open = |other: &usize| {
            let process = self.nodes[*other].process.as_ref()?;
            Some((*other, process.shards.get(&shard)?.host.as_ref()?.shard()))
        };
        let open: Vec<(usize, &Shard)> = (0..self.nodes.len()).filter_map(|other| open(&other)).collect();
        let elsewhere = open.iter().filter(|(other, _)| *other != at && self.nodes[*other].medium.is_sound());
        let left: BTreeSet<ReplicaId> = elsewhere.map(|(_, replica)| replica.replica()).collect();
        let is_enough = |voters: &[ReplicaId]| {
            voters.is_empty() || voters.iter().filter(|voter| left.contains(voter)).count() > voters.len() / 2
        };
        let goes_on = |replica: &Shard| {
            let membership = replica.membership();
            is_enough(&membership.voters) && is_enough(&membership.voters_outgoing)
        };
        !left.is_empty() && open.iter().all(|(_, replica)| goes_on(replica))
    }

    /// Whether a node of the map is lost for good.
    pub(super) fn is_gone(&self, id: NodeId) -> bool {
        self.nodes.iter().any(|node| node.id == id && node.gone)
    }

    /// Whether there are nodes enough for all replicas of a shard.
    pub(super) fn may_be_whole(&self, shard: ShardId) -> bool {
        let stays = |node: &&RingNode| node.state == NodeState::Up && !self.is_gone(NodeId(node.id));
        self.ring.nodes.iter().filter(stays).count() >= self.ring.replicas(shard).len()
    }

    /// So many machines are lost that nothing is made anew by itself: an operator has it done.
    pub(super) fn allow_repair_if_braked(&mut self) {
        let lost = self.ring.nodes.iter().filter(|node| self.is_gone(NodeId(node.id))).count();
        if lost > (self.ring.nodes.len() / 3).max(1) {
            self.begin_to_ask(Verb::AllowRepair);
        }
    }

    /// Whether what nodes hold that are to be removed has no place.
    pub(super) fn nothing_can_move(&self) -> bool {
        let standing =
            |node: &RingNode| Standing::of(node.state != NodeState::Removing && !self.is_gone(NodeId(node.id)));
        let standings: Vec<Standing> = self.ring.nodes.iter().map(standing).collect();
        rebalance::wanted(&self.ring, &standings).is_err()
    }
}
