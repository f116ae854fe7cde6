//! Which replicas move next, and which leaderships: the steps from the map as it is to where [`super::place`] wants everything. Pure.
//!
//! The steps are limited, so that moves take their share of disks and network and no more: a group makes one move at a time, and a
//! node takes part in few. Those that empty a node come first, `meta` before all others.

use super::by_load::{self, Balance};
use super::decide::Seen;
use super::placement::{Candidate, PlacementError, meta_replication_factor, place};
use super::{
    DOWN_AFTER_MS, FREE_AFTER_BALANCE, FREE_AFTER_REPAIR, Holder, MOVE_IDLE_FULL_MS, MOVE_IDLE_MAX_MS, NodeSlot,
    NodeState, PLANNED_ABSENCE_MS, RingMap, RingNode, ShardGroup, ZONE_HOLD_FACTOR,
};
use crate::limits::{MAP_STEPS_MAX, MOVES_OF_BALANCE_MAX, MOVES_OF_REMOVAL_MAX, MOVES_OF_REPAIR_MAX};
use kvorum_protocol::{MovePurpose, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// A node that takes replicas has been connected for this long: one that flaps is given nothing.
pub const RECEIVER_CONNECTED_MS: u64 = 5_000;

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A replica moves.
    Move {
        /// Of this shard.
        shard: ShardId,
        /// From this node.
        from: NodeSlot,
        /// To this one.
        to: NodeSlot,
    },
    /// A group has one more replica.
    Grow {
        /// The shard's.
        shard: ShardId,
        /// On this node.
        to: NodeSlot,
    },
    /// A group has one replica less.
    Shrink {
        /// The shard's.
        shard: ShardId,
        /// Of this node.
        from: NodeSlot,
    },
    /// The node to which a replica moves is lost, or takes nothing in: it moves to another one.
    Retarget {
        /// The shard's.
        shard: ShardId,
        /// This one.
        to: NodeSlot,
    },
    /// The node to which a replica moves is lost, or takes nothing in: it stays.
    Restore {
        /// The shard's.
        shard: ShardId,
        /// On this node.
        node: NodeSlot,
    },
    /// Another replica should lead.
    Lead {
        /// This shard.
        shard: ShardId,
        /// The one on this node.
        node: NodeSlot,
    },
}

/// Where everything should be: for each group, `meta` first, the slots of its holders, the one that should lead first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted(pub(super) Vec<Vec<NodeSlot>>);

/// What a placement sees of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It may hold replicas.
    pub eligible: bool,
    /// It may take replicas that it does not hold.
    pub may_receive: bool,
}

/// How each node of the map stands.
pub fn standings(ring: &RingMap, seen: &Seen) -> Vec<Standing> {
    let many = so_many_are_gone(ring, seen);
    let standing = |node: &RingNode| {
        let is_gone = node.lost || !many && is_given_up(ring, seen, node);
        let eligible = node.state != NodeState::Removing && !is_gone;
        let id = NodeId(node.id);
        let steady =
            id == seen.me || seen.peers.get(&id).is_some_and(|peer| peer.connected_ms >= RECEIVER_CONNECTED_MS);
        // A folder that nobody knows yet, or another one than the map names, can't be given anything.
        let has_room = seen.room_on(id, FREE_AFTER_REPAIR) > 0;
        let may_receive = eligible
            && has_room
            && node.state == NodeState::Up
            && !node.down
            && steady
            && node.disk.is_some()
            && !seen.declined.contains_key(&id)
            && seen.is_there(ring, id);
        Standing { eligible, may_receive }
    };
    ring.nodes.iter().map(standing).collect()
}

/// Whether so many nodes are given up at once that they are no dead machines but a broken network, or a building without power. An
/// operator decides then ([`super::verbs::Verb::AllowRepair`]).
pub(super) fn so_many_are_gone(ring: &RingMap, seen: &Seen) -> bool {
    let given_up = ring.nodes.iter().filter(|node| !node.lost && is_given_up(ring, seen, node)).count();
    given_up > (ring.nodes.len() / 3).max(1)
}

/// Whether a node was away for so long that what it holds is made anew.
fn is_given_up(ring: &RingMap, seen: &Seen, node: &RingNode) -> bool {
    // A leader that has just begun to look waits from then on.
    let silent_ms = seen.silent.get(&NodeId(node.id)).copied().unwrap_or(0);
    node.down && given_up_after_ms(ring, seen, node).is_some_and(|ms| silent_ms >= ms)
}

/// Whether all of a zone is down, of more than one node: that is power or a switch rather than machines, and comes back.
fn is_zone_down(ring: &RingMap, node: &RingNode) -> bool {
    let mut of_zone = ring.nodes.iter().filter(|other| other.zone() == node.zone());
    ring.nodes.iter().any(|other| other.id != node.id && other.zone() == node.zone()) && of_zone.all(|other| other.down)
}

/// After how many milliseconds of silence a node is given up; `None` while it is drained.
pub(super) fn given_up_after_ms(ring: &RingMap, seen: &Seen, node: &RingNode) -> Option<u64> {
    let is_planned = seen.planned.contains(&NodeId(node.id));
    let hold_ms = match () {
        () if is_planned => PLANNED_ABSENCE_MS,
        () if is_zone_down(ring, node) => ring.repair_hold_ms.saturating_mul(ZONE_HOLD_FACTOR),
        () => ring.repair_hold_ms,
    };
    (node.state != NodeState::Draining).then(|| DOWN_AFTER_MS.saturating_add(hold_ms))
}

/// Where everything should be. A move that does not go on goes elsewhere, if there is a place for all that.
///
/// # Errors
/// If there is no placement on the nodes that may hold something.
pub fn wanted_of(ring: &RingMap, seen: &Seen) -> Result<Wanted, PlacementError> {
    let standings = standings(ring, seen);
    let stuck: BTreeSet<u64> =
        ring.group_ids().filter_map(|shard| seen.stuck(ring, shard)).map(|held| held.replica).collect();
    if !stuck.is_empty()
        && let Ok(elsewhere) = place_all(ring, &standings, &stuck)
    {
        return Ok(elsewhere);
    }
    wanted(ring, &standings)
}

/// Where everything should be, given how each node stands.
///
/// # Errors
/// As [`wanted_of`].
pub fn wanted(ring: &RingMap, standings: &[Standing]) -> Result<Wanted, PlacementError> {
    place_all(ring, standings, &BTreeSet::new())
}

/// Where everything should be if these replicas count for nothing.
fn place_all<'a>(ring: &'a RingMap, standings: &[Standing], without: &BTreeSet<u64>) -> Result<Wanted, PlacementError> {
    let position = |slot: NodeSlot| ring.nodes.iter().position(|node| node.slot == slot);
    // What a node leaves to another one counts as that one's. While that one can't take it, it stays.
    let heir = |node: &RingNode| node.heir.and_then(position).filter(|at| standings[*at].eligible);
    let waits_for_heir = |node: &RingNode| heir(node).is_some_and(|at| !standings[at].may_receive);
    let candidate = |(node, standing): (&'a RingNode, &Standing)| Candidate {
        zone: node.zone(),
        weight: node.share(),
        leads: node.weight,
        eligible: standing.eligible || waits_for_heir(node),
        may_receive: standing.may_receive,
    };
    let candidates: Vec<Candidate<'a>> = ring.nodes.iter().zip(standings).map(candidate).collect();
    let of = |group: &ShardGroup| -> Vec<u16> {
        let holds = |at: usize| group.replicas.iter().any(|held| held.node == ring.nodes[at].slot);
        let place = |held: &Holder| {
            let at = position(held.node)?;
            let heir = heir(&ring.nodes[at]).filter(|heir| standings[*heir].may_receive && !holds(*heir));
            Some(heir.unwrap_or(at) as u16)
        };
        group.replicas.iter().filter(|held| !without.contains(&held.replica)).filter_map(place).collect()
    };
    let stay = ring.nodes.iter().filter(|node| node.state != NodeState::Removing).count();
    let of_meta = meta_replication_factor(stay);
    let mut all = match place(&candidates, 1, of_meta, &[of(&ring.meta)]) {
        Ok(placed) => placed,
        // A node is given up, and no other one is left that could take its place: no reason to have fewer voters.
        Err(_) if standings.iter().filter(|standing| standing.eligible).count() < stay => vec![of(&ring.meta)],
        Err(why) => return Err(why),
    };
    let before: Vec<Vec<u16>> = ring.shards.iter().map(of).collect();
    all.extend(place_shards(&candidates, ring, &before)?);
    let slots = |holders: Vec<u16>| holders.into_iter().map(|at| ring.nodes[usize::from(at)].slot).collect();
    Ok(Wanted(all.into_iter().map(slots).collect()))
}

/// Where the replicas of all shards should be. A cluster that was recovered from a loss may have too few nodes for its replication
/// factor, and shards with fewer replicas. It has as many as it can then, and no shard ever fewer than before.
fn place_shards(
    candidates: &[Candidate<'_>],
    ring: &RingMap,
    before: &[Vec<u16>],
) -> Result<Vec<Vec<u16>>, PlacementError> {
    let shards = ring.shards.len() as u16;
    match place(candidates, shards, ring.replication_factor, before) {
        Err(PlacementError::TooFewNodes { nodes, .. })
            if ring.shards.iter().any(|group| group.is_thin(ring.replication_factor))
                && before.iter().all(|holders| (1..=nodes).contains(&holders.len())) =>
        {
            // Fewer nodes than replicas, which are fewer than 256.
            place(candidates, shards, nodes as u8, before)
        }
        placed => placed,
    }
}

/// The map after the next steps, and these; `None` if nothing is to be done, or nothing more at the moment.
pub fn next_steps(ring: &RingMap, seen: &Seen, wanted: &Wanted) -> Option<(RingMap, Vec<Step>)> {
    let mut moves: Vec<(MovePurpose, Step)> = Vec::new();
    let mut leads = Vec::new();
    for ((shard, group), slots) in ring.group_ids().zip(ring.groups()).zip(&wanted.0) {
        if group.is_moving() {
            let is_stuck = seen.stuck(ring, shard).is_some();
            let newcomer = group.newcomer().map(|held| held.node);
            let lost = newcomer.filter(|slot| (is_stuck || is_lost(ring, *slot)) && !slots.contains(slot));
            if let Some(lost) = lost
                && seen.others_are_well(ring, shard, Some(lost))
            {
                moves.extend(instead_of(shard, group, slots).map(|step| (MovePurpose::Repair, step)));
            }
            continue;
        }
        let gone = group.replicas.iter().map(|held| held.node).find(|slot| !slots.contains(slot));
        let came = slots.iter().copied().find(|slot| group.replicas.iter().all(|held| held.node != *slot));
        let step = match (gone, came) {
            (Some(from), Some(to)) => Step::Move { shard, from, to },
            (None, Some(to)) => Step::Grow { shard, to },
            (Some(from), None) => Step::Shrink { shard, from },
            (None, None) => {
                let first = group.replicas.first().map(|held| held.node);
                let lead = slots.first().copied().filter(|slot| Some(*slot) != first);
                leads.extend(lead.map(|node| Step::Lead { shard, node }));
                continue;
            }
        };
        if seen.others_are_well(ring, shard, gone) {
            moves.push((purpose(ring, gone), step));
        }
    }
    // Stable: `meta` stays before the others of its kind.
    moves.sort_by_key(|(purpose, _)| *purpose);
    let mut load = Load::of(ring);
    // Repair needs the last of the room more than anything else.
    let is_roomy =
        |slot: NodeSlot| ring.node_at(slot).is_none_or(|node| seen.room_on(NodeId(node.id), FREE_AFTER_BALANCE) > 0);
    let may_begin = |step: Step, purpose: MovePurpose| {
        purpose == MovePurpose::Repair || !ring.paused && step.nodes().1.is_none_or(is_roomy)
    };
    let moves = moves.into_iter().filter(|(purpose, step)| may_begin(*step, *purpose) && load.takes(*step, *purpose));
    let moves = moves.map(|(_, step)| step);
    let mut steps: Vec<Step> = moves.take(MAP_STEPS_MAX).collect();
    if steps.is_empty() {
        steps = match by_load::balance(ring, seen) {
            Balance::Unknown => leads.into_iter().take(MAP_STEPS_MAX).collect(),
            Balance::Waits | Balance::Even => Vec::new(),
            Balance::Lead { shard, node } => vec![Step::Lead { shard, node }],
        };
    }
    let mut next = ring.clone();
    steps.retain(|step| match step.take(&next) {
        // All of them are of one epoch.
        Ok(changed) => {
            next = RingMap { epoch: ring.epoch, ..changed };
            true
        }
        Err(_) => false,
    });
    next.epoch = ring.epoch + 1;
    (!steps.is_empty()).then_some((next, steps))
}

impl Step {
    fn take(self, ring: &RingMap) -> Result<RingMap, super::MoveError> {
        match self {
            Self::Move { shard, from, to } => ring.move_replica(shard, from, to),
            Self::Grow { shard, to } => ring.grow(shard, to),
            Self::Shrink { shard, from } => ring.shrink(shard, from),
            Self::Retarget { shard, to } => ring.retarget(shard, to),
            Self::Restore { shard, node } => ring.restore(shard, node),
            Self::Lead { shard, node } => ring.with_leader(shard, node),
        }
    }

    fn nodes(self) -> (Option<NodeSlot>, Option<NodeSlot>) {
        match self {
            Self::Move { from, to, .. } => (Some(from), Some(to)),
            Self::Grow { to, .. } | Self::Retarget { to, .. } => (None, Some(to)),
            Self::Shrink { from, .. } => (Some(from), None),
            Self::Restore { .. } | Self::Lead { .. } => (None, None),
        }
    }
}

/// Whether a node will not finish what it was to take.
fn is_lost(ring: &RingMap, slot: NodeSlot) -> bool {
    ring.node_at(slot).is_none_or(|node| node.down || node.state == NodeState::Removing)
}

/// What becomes of a move whose newcomer is lost.
fn instead_of(shard: ShardId, group: &ShardGroup, slots: &[NodeSlot]) -> Option<Step> {
    let stays = group.leaving.iter().map(|held| held.node).find(|node| slots.contains(node));
    let fresh = || slots.iter().copied().find(|slot| group.held().all(|held| held.node != *slot));
    let restore = stays.map(|node| Step::Restore { shard, node });
    restore.or_else(|| fresh().map(|to| Step::Retarget { shard, to }))
}

/// How many moves of a kind a node takes part in, each way.
fn moves_max(purpose: MovePurpose) -> usize {
    match purpose {
        MovePurpose::Repair => MOVES_OF_REPAIR_MAX,
        MovePurpose::Removal => MOVES_OF_REMOVAL_MAX,
        MovePurpose::Balance => MOVES_OF_BALANCE_MAX,
    }
}

pub(super) fn purpose(ring: &RingMap, gone: Option<NodeSlot>) -> MovePurpose {
    match gone.and_then(|slot| ring.node_at(slot)) {
        Some(node) if node.down => MovePurpose::Repair,
        Some(node) if node.state == NodeState::Removing => MovePurpose::Removal,
        _ => MovePurpose::Balance,
    }
}

/// How many moves each node takes part in.
struct Load {
    out: BTreeMap<NodeSlot, usize>,
    into: BTreeMap<NodeSlot, usize>,
}

impl Load {
    fn of(ring: &RingMap) -> Self {
        let mut load = Self { out: BTreeMap::new(), into: BTreeMap::new() };
        for group in ring.groups().filter(|group| group.is_moving()) {
            group.leaving.iter().for_each(|held| *load.out.entry(held.node).or_default() += 1);
            group.newcomer().iter().for_each(|held| *load.into.entry(held.node).or_default() += 1);
        }
        load
    }

    /// Whether there is room for a step besides those under way; it is one of them then.
    fn takes(&mut self, step: Step, purpose: MovePurpose) -> bool {
        let most = moves_max(purpose);
        let (from, to) = step.nodes();
        let has_room = |counts: &BTreeMap<NodeSlot, usize>, slot: Option<NodeSlot>| {
            slot.is_none_or(|slot| counts.get(&slot).copied().unwrap_or(0) < most)
        };
        let takes = has_room(&self.out, from) && has_room(&self.into, to);
        if takes {
            from.iter().for_each(|slot| *self.out.entry(*slot).or_default() += 1);
            to.iter().for_each(|slot| *self.into.entry(*slot).or_default() += 1);
        }
        takes
    }
}

impl Seen {
    /// The newcomer of a group that moves, if it takes nothing in, and has not for long.
    pub(super) fn stuck(&self, ring: &RingMap, shard: ShardId) -> Option<Holder> {
        let idle_ms = self.idle.get(&shard).copied()?;
        let newcomer = ring.group(shard)?.newcomer()?;
        let node = NodeId(ring.node_at(newcomer.node)?.id);
        let is_full = self.room_on(node, FREE_AFTER_REPAIR) == 0;
        let most_ms = if is_full { MOVE_IDLE_FULL_MS } else { MOVE_IDLE_MAX_MS };
        (idle_ms >= most_ms).then_some(newcomer)
    }

    /// Whether all replicas of a group that should vote are there and well, but for the one on the node `without`.
    pub(super) fn others_are_well(&self, ring: &RingMap, shard: ShardId, without: Option<NodeSlot>) -> bool {
        let mut others = ring.replicas(shard).iter().filter(|held| Some(held.node) != without);
        others.all(|held| self.well_node_of(ring, shard, *held).is_some())
    }
}
