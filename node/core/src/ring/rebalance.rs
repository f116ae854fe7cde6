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
use crate::seeded::{Bug, planted};
use kvorum_protocol::{MovePurpose, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// The ring map's group is never made smaller than this, but by an operator's word.
const META_VOTERS_MIN: u8 = 3;

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
        /// From this one.
        lost: NodeSlot,
        /// To this one.
        to: NodeSlot,
    },
    /// The node to which a replica moves is lost, or takes nothing in: it stays.
    Restore {
        /// The shard's.
        shard: ShardId,
        /// It was to go to this node.
        lost: NodeSlot,
        /// On this node.
        node: NodeSlot,
    },
    /// The node on which a group was to have a replica is lost, and no other one can take it: the group has one less.
    Withdraw {
        /// The shard's.
        shard: ShardId,
        /// This node.
        lost: NodeSlot,
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
    /// It may not, and will in a moment: it has only just come.
    pub is_to_come: bool,
}

impl Standing {
    /// A node that may hold everything, or nothing.
    pub fn of(eligible: bool) -> Self {
        Self { eligible, may_receive: eligible, is_to_come: false }
    }
}

/// How each node of the map stands, if repairs alone count: they may use all the room there is.
pub fn standings(ring: &RingMap, seen: &Seen) -> Vec<Standing> {
    standings_that_leave(ring, seen, FREE_AFTER_REPAIR)
}

/// How each node stands if so much of its disk is to be left free.
fn standings_that_leave(ring: &RingMap, seen: &Seen, left_free: (u64, u64)) -> Vec<Standing> {
    let many = so_many_are_gone(ring, seen);
    let load = Load::of(ring);
    let one = seen.replica_bytes(ring);
    let standing = |node: &RingNode| {
        let is_gone = node.lost || !many && is_given_up(ring, seen, node);
        let eligible = node.state != NodeState::Removing && !is_gone;
        let id = NodeId(node.id);
        let steady =
            id == seen.me || seen.peers.get(&id).is_some_and(|peer| peer.connected_ms >= RECEIVER_CONNECTED_MS);
        let has_room = seen.has_room_for(id, left_free, one, load.comes_to(node.slot) + 1);
        let could =
            eligible && has_room && node.state == NodeState::Up && !node.down && !seen.declined.contains_key(&id);
        // A folder that nobody knows yet, or another one than the map names, can't be given anything.
        let may_receive = could && steady && node.disk.is_some() && seen.is_there(ring, id);
        Standing { eligible, may_receive, is_to_come: could && !may_receive }
    };
    ring.nodes.iter().map(standing).collect()
}

/// Whether so many nodes are down at once that they are no dead machines but a broken network, or a building without power. An
/// operator decides then ([`super::verbs::Verb::AllowRepair`]). Those of which he has decided already, and those that said that they
/// would be away, are not counted.
pub(super) fn so_many_are_gone(ring: &RingMap, seen: &Seen) -> bool {
    let is_planned = |node: &RingNode| seen.planned.contains(&NodeId(node.id)) && !is_given_up(ring, seen, node);
    let is_expected = |node: &RingNode| node.lost || node.state != NodeState::Up || is_planned(node);
    let down = ring.nodes.iter().filter(|node| node.down && !is_expected(node)).count();
    down > (ring.nodes.len() / 3).max(1)
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
fn wanted_of(ring: &RingMap, seen: &Seen) -> Result<Wanted, PlacementError> {
    let stuck: BTreeSet<u64> =
        ring.group_ids().filter_map(|shard| seen.stuck(ring, shard)).map(|held| held.replica).collect();
    // Only if there is no other way do replicas go to disks that have no room but for repairs.
    let [roomy, all] = [FREE_AFTER_BALANCE, FREE_AFTER_REPAIR].map(|left| standings_that_leave(ring, seen, left));
    if !stuck.is_empty()
        && let Ok(elsewhere) = place_all(ring, &roomy, &stuck).or_else(|_| place_all(ring, &all, &stuck))
    {
        return Ok(elsewhere);
    }
    wanted(ring, &roomy).or_else(|_| wanted(ring, &all))
}

/// Where everything should be; and if there is no place for all, why: then what has a place does not wait for the rest.
pub fn wanted_or_part(ring: &RingMap, seen: &Seen) -> (Wanted, Option<PlacementError>) {
    match wanted_of(ring, seen) {
        Ok(wanted) => (wanted, None),
        Err(why) => (wanted_in_part(ring, seen), Some(why)),
    }
}

/// Where replicas should be that are lost, while there is no place for all: each shard by itself, if it has one. The others stay as they are.
///
/// Cost: O(shards × nodes).
fn wanted_in_part(ring: &RingMap, seen: &Seen) -> Wanted {
    let standings = standings(ring, seen);
    let Sites { candidates, meta, shards } = sites(ring, &standings, &BTreeSet::new());
    let is_lost = |at: &u16| !candidates[usize::from(*at)].eligible;
    let placed = |before: &Vec<u16>| {
        let placed = if before.iter().any(is_lost) {
            place(&candidates, 1, ring.replication_factor, std::slice::from_ref(before))
                .ok()
                .and_then(|mut all| all.pop())
        } else {
            None
        };
        placed.unwrap_or_else(|| before.clone())
    };
    let of_meta = place_meta(ring, &standings, &candidates, &meta).ok().and_then(|mut all| all.pop());
    let all = std::iter::once(of_meta.unwrap_or(meta)).chain(shards.iter().map(placed));
    Wanted(all.map(|holders| slots_at(ring, holders)).collect())
}

/// Where everything should be, given how each node stands.
///
/// # Errors
/// As [`wanted_of`].
pub fn wanted(ring: &RingMap, standings: &[Standing]) -> Result<Wanted, PlacementError> {
    place_all(ring, standings, &BTreeSet::new())
}

/// What a placement begins with.
struct Sites<'a> {
    candidates: Vec<Candidate<'a>>,
    /// Where the replicas of the ring map's group are, by positions of nodes.
    meta: Vec<u16>,
    /// Where those of each shard are.
    shards: Vec<Vec<u16>>,
}

/// What a placement begins with if these replicas count for nothing.
fn sites<'a>(ring: &'a RingMap, standings: &[Standing], without: &BTreeSet<u64>) -> Sites<'a> {
    let position = |slot: NodeSlot| ring.nodes.iter().position(|node| node.slot == slot);
    // What a node leaves to another one counts as that one's. While that one can't take it, it stays.
    let heir = |node: &RingNode| node.heir.and_then(position).filter(|at| standings[*at].eligible);
    // What a dead node leaves waits for the heir for a moment only.
    let waits_for_heir = |node: &RingNode| {
        let stands = heir(node).map(|at| standings[at]);
        stands.is_some_and(|heir| !heir.may_receive && (heir.is_to_come || !node.down))
    };
    let candidate = |(node, standing): (&'a RingNode, &Standing)| Candidate {
        zone: node.zone(),
        weight: node.share(),
        leads: node.weight,
        eligible: standing.eligible || waits_for_heir(node),
        may_receive: standing.may_receive,
    };
    let of = |group: &ShardGroup| -> Vec<u16> {
        let holds = |at: usize| group.replicas.iter().any(|held| held.node == ring.nodes[at].slot);
        let place = |held: &Holder| {
            let at = position(held.node)?;
            let heir = heir(&ring.nodes[at]).filter(|heir| standings[*heir].may_receive && !holds(*heir));
            Some(heir.unwrap_or(at) as u16)
        };
        group.replicas.iter().filter(|held| !without.contains(&held.replica)).filter_map(place).collect()
    };
    Sites {
        candidates: ring.nodes.iter().zip(standings).map(candidate).collect(),
        meta: of(&ring.meta),
        shards: ring.shards.iter().map(of).collect(),
    }
}

fn slots_at(ring: &RingMap, holders: Vec<u16>) -> Vec<NodeSlot> {
    holders.into_iter().map(|at| ring.nodes[usize::from(at)].slot).collect()
}

/// Where everything should be if these replicas count for nothing.
fn place_all(ring: &RingMap, standings: &[Standing], without: &BTreeSet<u64>) -> Result<Wanted, PlacementError> {
    let Sites { candidates, meta, shards } = sites(ring, standings, without);
    let mut all = place_meta(ring, standings, &candidates, &meta)?;
    all.extend(place_shards(&candidates, ring, &shards)?);
    Ok(Wanted(all.into_iter().map(|holders| slots_at(ring, holders)).collect()))
}

/// Where the ring map's group should be, which is at `before`.
fn place_meta(
    ring: &RingMap,
    standings: &[Standing],
    candidates: &[Candidate<'_>],
    before: &Vec<u16>,
) -> Result<Vec<Vec<u16>>, PlacementError> {
    let stay = ring.nodes.iter().filter(|node| node.state != NodeState::Removing).count();
    let wanted = meta_replication_factor(stay);
    let placed = place(candidates, 1, wanted, std::slice::from_ref(before));
    let left = standings.iter().filter(|standing| standing.eligible).count();
    if placed.is_ok() || left >= stay {
        return placed;
    }
    // A node is given up, and no other one is left that could take its place: no reason to have fewer voters. But the group does not
    // wait for a newcomer that is lost, unless one that leaves could stay instead.
    let is_eligible = |held: &Holder| {
        let at = ring.nodes.iter().position(|node| node.slot == held.node);
        at.is_some_and(|at| standings[at].eligible)
    };
    let mut holders = before.clone();
    if !ring.meta.leaving.iter().any(is_eligible) {
        let lost: Vec<NodeSlot> =
            ring.meta.newcomers().filter(|held| !is_eligible(held)).map(|held| held.node).collect();
        holders.retain(|at| !lost.contains(&ring.nodes[usize::from(*at)].slot));
    }
    let is_removed = |node: &RingNode| node.state == NodeState::Removing;
    let removes = holders.iter().any(|at| is_removed(&ring.nodes[usize::from(*at)]));
    // What is lost stays where it is. What is on nodes that are to be removed goes.
    let mut stays = candidates.to_vec();
    for (candidate, node) in stays.iter_mut().zip(&ring.nodes) {
        candidate.eligible |= !is_removed(node);
    }
    let before = std::slice::from_ref(&holders);
    let kept = place(&stays, 1, wanted, before);
    // A voter that is to go does not go while the others that are alive are no majority of what the group would be.
    let goes = kept.as_ref().is_ok_and(|placed| {
        let voters = &placed[0];
        let alive = voters.iter().filter(|at| standings[usize::from(**at)].eligible).count();
        alive.saturating_sub(1) > voters.len() / 2
    });
    let fewer = meta_replication_factor(left);
    if removes && !goes && fewer >= META_VOTERS_MIN {
        // The group has as many voters then as those ask for that are left.
        return Ok(place(candidates, 1, fewer, before).or(kept).unwrap_or_else(|_| vec![holders]));
    }
    Ok(kept.unwrap_or_else(|_| vec![holders]))
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
            let stuck = seen.stuck(ring, shard);
            let is_over = |held: &Holder| Some(*held) == stuck || is_lost(ring, held.node);
            let lost = group.newcomers().find(|held| is_over(held) && !slots.contains(&held.node));
            // A group without a majority has more need of the nodes that it has lost.
            if let Some(lost) = lost
                && seen.may_have_quorum(ring, shard)
            {
                moves.extend(instead_of(shard, group, lost.node, slots).map(|step| (MovePurpose::Repair, step)));
            }
            continue;
        }
        let gone = gone_first(ring, group, slots);
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
        let purpose = purpose(ring, gone);
        if seen.may_begin(ring, shard, gone, purpose, came.is_some()) {
            moves.push((purpose, step));
        }
    }
    // Stable: `meta` stays before the others of its kind.
    moves.sort_by_key(|(purpose, _)| *purpose);
    let mut load = Load::of(ring);
    let one = seen.replica_bytes(ring);
    // Repair needs the last of the room more than anything else.
    let is_roomy = |load: &Load, slot: NodeSlot, purpose: MovePurpose| {
        let left_free = if purpose == MovePurpose::Repair { FREE_AFTER_REPAIR } else { FREE_AFTER_BALANCE };
        let node = ring.node_at(slot).map(|node| NodeId(node.id));
        node.is_none_or(|node| seen.has_room_for(node, left_free, one, load.comes_to(slot) + 1))
    };
    let mut may_begin = |step: Step, purpose: MovePurpose| {
        (purpose == MovePurpose::Repair || !ring.paused)
            && step.nodes().1.is_none_or(|to| is_roomy(&load, to, purpose))
            && load.takes(step, purpose)
    };
    let moves = moves.into_iter().filter(|(purpose, step)| may_begin(*step, *purpose));
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
            Self::Retarget { shard, lost, to } => ring.retarget(shard, lost, to),
            Self::Restore { shard, lost, node } => ring.restore(shard, lost, node),
            Self::Withdraw { shard, lost } => ring.withdraw(shard, lost),
            Self::Lead { shard, node } => ring.with_leader(shard, node),
        }
    }

    fn nodes(self) -> (Option<NodeSlot>, Option<NodeSlot>) {
        match self {
            Self::Move { from, to, .. } => (Some(from), Some(to)),
            Self::Grow { to, .. } | Self::Retarget { to, .. } => (None, Some(to)),
            Self::Shrink { from, .. } => (Some(from), None),
            Self::Restore { .. } | Self::Withdraw { .. } | Self::Lead { .. } => (None, None),
        }
    }
}

/// Whether a node will not finish what it was to take.
fn is_lost(ring: &RingMap, slot: NodeSlot) -> bool {
    ring.node_at(slot).is_none_or(|node| node.down || node.state == NodeState::Removing)
}

/// Of the replicas that are where they should not be, the one that goes first: one that is dead, so that its group is whole again.
pub(super) fn gone_first(ring: &RingMap, group: &ShardGroup, slots: &[NodeSlot]) -> Option<NodeSlot> {
    let gone = group.replicas.iter().map(|held| held.node).filter(|slot| !slots.contains(slot));
    gone.min_by_key(|slot| ring.node_at(*slot).is_some_and(|node| !node.down))
}

/// What becomes of a move whose newcomer is lost.
fn instead_of(shard: ShardId, group: &ShardGroup, lost: NodeSlot, slots: &[NodeSlot]) -> Option<Step> {
    let stays = group.leaving.iter().map(|held| held.node).find(|node| slots.contains(node));
    let fresh = || slots.iter().copied().find(|slot| group.held().all(|held| held.node != *slot));
    let restore = stays.map(|node| Step::Restore { shard, lost, node });
    let retarget = || fresh().map(|to| Step::Retarget { shard, lost, to });
    let withdraw = || (group.replicas.len() > slots.len()).then_some(Step::Withdraw { shard, lost });
    restore.or_else(retarget).or_else(withdraw)
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

    /// How many replicas come to a node.
    fn comes_to(&self, slot: NodeSlot) -> usize {
        self.into.get(&slot).copied().unwrap_or(0)
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

    /// Whether a group may begin a move, by which its replica on the node `gone` goes, if any, and another one comes, or none.
    ///
    /// What was lost is made anew as soon as the group has a majority: the next one that is lost must not find it as thin. Other moves
    /// wait until all replicas that stay are there and well; those off nodes that are to be removed do not wait for dead ones, if the
    /// others are a majority.
    pub(super) fn may_begin(
        &self,
        ring: &RingMap,
        shard: ShardId,
        gone: Option<NodeSlot>,
        purpose: MovePurpose,
        comes: bool,
    ) -> bool {
        if purpose == MovePurpose::Repair && !planted(Bug::RepairWaitsForAll) {
            return self.has_quorum(ring, shard, |_| true);
        }
        let replicas = ring.replicas(shard);
        let others = || replicas.iter().filter(|held| Some(held.node) != gone);
        let is_well = |held: &&Holder| self.well_node_of(ring, shard, **held).is_some();
        let well = others().filter(is_well).count();
        // One that is dead and has nowhere to go would hold a removal up for ever.
        let is_dead = |held: &Holder| ring.node_at(held.node).is_some_and(|node| node.down);
        let goes_without = comes && purpose == MovePurpose::Removal && well > replicas.len() / 2;
        well == others().count() || goes_without && others().all(|held| is_well(&held) || is_dead(held))
    }

    /// About how many bytes one replica takes: keys are spread evenly over shards, so what a node holds is divided evenly, and the
    /// largest such share counts.
    pub(super) fn replica_bytes(&self, ring: &RingMap) -> u64 {
        let mut counts: BTreeMap<NodeSlot, u64> = BTreeMap::new();
        ring.shards.iter().flat_map(ShardGroup::held).for_each(|held| *counts.entry(held.node).or_default() += 1);
        let of_node = |node: &RingNode| {
            let disk = self.disks.get(&NodeId(node.id))?;
            disk.held_bytes.checked_div(counts.get(&node.slot).copied()?)
        };
        ring.nodes.iter().filter_map(of_node).max().unwrap_or(0)
    }

    /// Whether so many replicas of so many bytes find room on a node's disk, and so much is left free. One that is on its way counts as
    /// a whole, whatever of it is there already.
    pub(super) fn has_room_for(&self, node: NodeId, left_free: (u64, u64), one: u64, replicas: usize) -> bool {
        let room = self.room_on(node, left_free);
        room > 0 && room >= one.saturating_mul(replicas as u64)
    }
}
