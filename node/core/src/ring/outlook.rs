//! What the cluster does, what is to come, and why something does not go on: the same functions that decide say it. Pure.

use super::decide::{self, Change, MapDecision, Seen};
use super::rebalance::{self, Wanted};
use super::sealing;
use super::{
    DECLINED_FOR_MS, FREE_AFTER_BALANCE, FREE_AFTER_REPAIR, Holder, MOVE_IDLE_MAX_MS, NodeSlot, NodeState, RingMap,
    RingNode, ShardGroup,
};
use kvorum_protocol::limits::PLAN_REASONS_MAX;
use kvorum_protocol::{
    ClusterPlan, Epoch, MovePurpose, NodeId, NodeOutlook, NodeStanding, PlanReason, PlannedMove, ShardId,
};

/// A move that takes longer than this is told of, in milliseconds. It may be a large one.
const MOVE_LONG_MS: u64 = 600_000;

/// The plan for a map, as the leader of `meta` sees its cluster.
///
/// Cost: that of a placement, [`super::place`].
pub fn plan(ring: &RingMap, seen: &Seen) -> ClusterPlan {
    let mut reasons = Vec::new();
    let (Wanted(wanted), without_place) = rebalance::wanted_or_part(ring, seen);
    let mut moves = Vec::new();
    let mut leads = 0;
    for (at, (shard, group)) in ring.group_ids().zip(ring.groups()).enumerate() {
        if group.is_moving() {
            moves.push(under_way(ring, shard, group));
            reasons.extend(takes_long(ring, seen, shard, group));
            continue;
        }
        let to_come = to_come(ring, shard, group, &wanted[at]);
        if let Some(planned) = to_come.first()
            && let Some(why) = waits_for(ring, seen, shard, planned)
        {
            reasons.push(reason(planned.purpose == MovePurpose::Repair, why));
        }
        if to_come.is_empty() && group.replicas.first().map(|held| held.node) != wanted[at].first().copied() {
            leads += 1;
        }
        moves.extend(to_come);
    }
    if let Some(why) = &without_place
        && ring.nodes.iter().any(|node| node.state == NodeState::Removing || node.down)
    {
        let of_repair = ring.nodes.iter().any(|node| node.down);
        reasons.insert(0, reason(of_repair, format!("replicas that should move have nowhere to go: {why}")));
    }
    let one = seen.replica_bytes(ring);
    reasons.extend(ring.nodes.iter().filter_map(|node| has_no_room(seen, node, one, &moves)));
    reasons.extend(ring.nodes.iter().filter_map(|node| has_declined(seen, node)));
    if ring.paused {
        let what = "moves are paused; CLUSTER REBALANCE RESUME lets them go on";
        reasons.insert(0, reason(false, what.to_owned()));
    }
    if rebalance::so_many_are_gone(ring, seen) {
        let (down, all) = (ring.nodes.iter().filter(|node| node.down).count(), ring.nodes.len());
        let what = "nothing is made anew by itself; REPAIR ALLOW has it done";
        reasons.insert(0, reason(true, format!("{down} of {all} nodes are down at once: {what}")));
    }
    if let MapDecision::Wait(change, shard) = decide::decide(ring, &Seen { places: false, ..seen.clone() }) {
        reasons.insert(0, reason(true, not_replaced(ring, &change, shard)));
    }
    reasons.truncate(PLAN_REASONS_MAX);
    // Stable: what is under way comes first, and `meta` before the others of its kind.
    moves.sort_by_key(|planned| (!planned.under_way, planned.purpose));
    ClusterPlan {
        epoch: Epoch(ring.epoch),
        level: ring.level,
        next_level: seen.level_of_all(ring).filter(|level| *level > ring.level),
        replication_factor: ring.replication_factor,
        paused: ring.paused,
        rate_mb: ring.rate_mb,
        meta: ring.holders(ShardId::META).collect(),
        nodes: ring.nodes.iter().map(|node| outlook_of(ring, seen, node)).collect(),
        moves,
        leads,
        reasons,
        sealing: sealing::outlook(ring, seen),
    }
}

fn reason(of_repair: bool, text: String) -> PlanReason {
    PlanReason { text, of_repair }
}

fn id_at(ring: &RingMap, slot: NodeSlot) -> Option<NodeId> {
    ring.node_at(slot).map(|node| NodeId(node.id))
}

fn name(ring: &RingMap, node: NodeId) -> &str {
    ring.nodes.iter().find(|known| known.id == node.0).map_or("a node that is gone", |known| &known.name)
}

fn group_name(shard: ShardId) -> String {
    if shard == ShardId::META { "the ring map's group".to_owned() } else { format!("shard {shard}") }
}

/// The move that a group is on.
fn under_way(ring: &RingMap, shard: ShardId, group: &ShardGroup) -> PlannedMove {
    let from = group.leaving.first().map(|held| held.node);
    PlannedMove {
        shard,
        from: from.and_then(|slot| id_at(ring, slot)),
        to: group.newcomer().and_then(|held| id_at(ring, held.node)),
        purpose: rebalance::purpose(ring, from),
        under_way: true,
    }
}

/// The moves that a group will make, one after the other.
fn to_come(ring: &RingMap, shard: ShardId, group: &ShardGroup, slots: &[NodeSlot]) -> Vec<PlannedMove> {
    let gone = group.replicas.iter().map(|held| held.node).filter(|slot| !slots.contains(slot));
    let came = slots.iter().copied().filter(|slot| group.replicas.iter().all(|held| held.node != *slot));
    let (mut gone, came): (Vec<_>, Vec<_>) = (gone.collect(), came.collect());
    let first = rebalance::gone_first(ring, group, slots);
    gone.sort_by_key(|slot| Some(*slot) != first);
    let step = |at: usize| {
        let from = gone.get(at).copied();
        PlannedMove {
            shard,
            from: from.and_then(|slot| id_at(ring, slot)),
            to: came.get(at).and_then(|slot| id_at(ring, *slot)),
            purpose: rebalance::purpose(ring, from),
            under_way: false,
        }
    };
    (0..gone.len().max(came.len())).map(step).collect()
}

/// Why a group can't begin its move.
fn waits_for(ring: &RingMap, seen: &Seen, shard: ShardId, planned: &PlannedMove) -> Option<String> {
    let from = planned.from.and_then(|node| ring.slot_of(node));
    if seen.may_begin(ring, shard, from, planned.purpose, planned.to.is_some())
        || ring.paused && planned.purpose != MovePurpose::Repair
    {
        return None;
    }
    let of_repair = planned.purpose == MovePurpose::Repair;
    let others = ring.replicas(shard).iter().filter(|held| of_repair || Some(held.node) != from);
    Some(format!("{} waits: {}", group_name(shard), who_is_not_well(ring, seen, shard, others)?))
}

/// Whose replica of these is not there, or not well; nothing if all are.
fn who_is_not_well<'a>(
    ring: &RingMap,
    seen: &Seen,
    shard: ShardId,
    replicas: impl Iterator<Item = &'a Holder>,
) -> Option<String> {
    let away: Vec<&str> = replicas
        .filter(|held| seen.well_node_of(ring, shard, **held).is_none())
        .filter_map(|held| Some(name(ring, id_at(ring, held.node)?)))
        .collect();
    (!away.is_empty()).then(|| format!("its replica on {} is away, or is not well", away.join(" and ")))
}

/// A move that has not come to its end for long.
fn takes_long(ring: &RingMap, seen: &Seen, shard: ShardId, group: &ShardGroup) -> Option<PlanReason> {
    let ms = seen.moving.get(&shard).copied().filter(|ms| *ms >= MOVE_LONG_MS)?;
    let taker = group.newcomer().and_then(|held| id_at(ring, held.node));
    let away = who_is_not_well(ring, seen, shard, group.replicas.iter());
    // While a voter is away, the group is thin: that is more than a slow move.
    let is_thin = away.is_some();
    let why = away.unwrap_or_else(|| match taker {
        Some(taker) => format!("look at what {} takes in", name(ring, taker)),
        None => "its group does not let go of a replica".to_owned(),
    });
    Some(reason(is_thin, format!("{} has been moving for {} min: {why}", group_name(shard), ms / 60_000)))
}

/// A node that took nothing of a move for too long, and is given nothing for a while.
fn has_declined(seen: &Seen, node: &RingNode) -> Option<PlanReason> {
    let ago_ms = seen.declined.get(&NodeId(node.id))?;
    let again_min = DECLINED_FOR_MS.saturating_sub(*ago_ms).div_ceil(60_000);
    let why = format!("it took nothing of a move for {} min", MOVE_IDLE_MAX_MS / 60_000);
    Some(reason(false, format!("{} is given no replicas for {again_min} min: {why}; look at its log", node.name)))
}

/// A node whose disk is too full for what it is to take, or for anything.
fn has_no_room(seen: &Seen, node: &RingNode, one: u64, moves: &[PlannedMove]) -> Option<PlanReason> {
    let id = NodeId(node.id);
    let room = seen.disks.get(&id).filter(|_| node.state != NodeState::Removing)?.room;
    let waits =
        |planned: &PlannedMove| planned.to == Some(id) && !planned.under_way && planned.purpose != MovePurpose::Repair;
    let has_room = |left_free| seen.has_room_for(id, left_free, one, 1);
    let (what, left_free) = if !has_room(FREE_AFTER_REPAIR) {
        (format!("{} is given no replicas", node.name), FREE_AFTER_REPAIR)
    } else if !has_room(FREE_AFTER_BALANCE) && moves.iter().any(waits) {
        (format!("replicas that should move to {} wait", node.name), FREE_AFTER_BALANCE)
    } else {
        return None;
    };
    let mib = |bytes: u64| bytes >> 20;
    let (free, total, most) = (mib(room.free_bytes), mib(room.total_bytes), mib(seen.left_free_max(left_free)));
    let percent = left_free.0;
    let of_one = if mib(one) > 0 { format!(", and a replica takes {} MiB", mib(one)) } else { String::new() };
    let why =
        format!("its disk has {free} of {total} MiB free, and moves leave {percent} % or {most} MiB free{of_one}");
    Some(reason(false, format!("{what}: {why}; make room or add a node")))
}

/// A group whose lost replica may not be replaced.
fn not_replaced(ring: &RingMap, change: &Change, shard: ShardId) -> String {
    let of = match change {
        Change::Node(node) | Change::Replica(node, ..) => name(ring, *node),
        _ => "a node",
    };
    let why = "the rest of its group is no majority that is there and well";
    format!("{} on {of} is not made anew: {why}; bring the others back, or recover it", group_name(shard))
}

fn outlook_of(ring: &RingMap, seen: &Seen, node: &RingNode) -> NodeOutlook {
    let id = NodeId(node.id);
    let silent_ms = seen.silent.get(&id).copied();
    let drained_ms = seen.drained.get(&id).copied().unwrap_or(0);
    NodeOutlook {
        node: id,
        standing: match node.state {
            NodeState::Up => NodeStanding::Up,
            NodeState::Draining => NodeStanding::Draining,
            NodeState::Removing => NodeStanding::Removing,
        },
        down: node.down,
        silent_ms,
        ends_in_ms: match (node.state, silent_ms) {
            (NodeState::Draining, _) => node.absence_ms.map(|for_ms| for_ms.saturating_sub(drained_ms)),
            (NodeState::Up, Some(silent_ms)) if node.down && !node.lost => {
                let after_ms = rebalance::given_up_after_ms(ring, seen, node);
                after_ms.map(|after_ms| after_ms.saturating_sub(silent_ms))
            }
            _ => None,
        },
    }
}
