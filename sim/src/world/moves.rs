//! What a leader must keep to while replicas move, seen from outside: whom it lets vote, to whom it hands over, and which entries it
//! keeps.

use super::World;
use super::node::{HEADROOM_BYTES, Node};
use crate::plan::FaultKind;
use kvorum_core::consensus::Role;
use kvorum_core::log::Membership;
use kvorum_core::shard::Shard;
use kvorum_protocol::report::DiskRoom;
use kvorum_protocol::{LogIndex, ReplicaId, ShardId};

/// Entries that a replica may lack that takes the lead: what production allows (`LAG_MAX`), and those of one turn.
const LAG_MAX: u64 = 64 + 16;

/// What is free of a disk, as that of a large one: what decides on moves thinks in GiB. All disks are of one size.
pub(super) fn as_large_disk(free_bytes: u64) -> DiskRoom {
    const TOTAL_BYTES: u64 = 1 << 40;
    const SCALE: u64 = (1 << 30) / HEADROOM_BYTES;
    DiskRoom { free_bytes: free_bytes.saturating_mul(SCALE).min(TOTAL_BYTES), total_bytes: TOTAL_BYTES }
}

impl World<'_> {
    /// Looks at a replica after its turn, in which these replicas have come to vote.
    pub(super) fn look_at_moves(
        &self,
        at: usize,
        shard_id: ShardId,
        promoted: &[ReplicaId],
        begins_hand_over: Option<ReplicaId>,
    ) -> Option<(&'static str, String)> {
        let shard = shard_on(&self.nodes[at], shard_id)?;
        if shard.status().role != Role::Leader {
            return None;
        }
        let empty = promoted.iter().find(|id| self.last_of(shard_id, **id) == Some(LogIndex(0)));
        if let Some(id) = empty {
            let detail = format!("node {at} shard {shard_id}: replica {id} votes, and holds nothing");
            return Some(("membership-safety", detail));
        }
        begins_hand_over
            .and_then(|to| self.hands_over_too_soon(at, shard_id, shard, to))
            .or_else(|| self.drops_pinned(at, shard_id, shard))
    }

    /// A leader says of a change of the map (its epoch) that its group is settled, and the group has gone on to this membership.
    pub(super) fn is_settled_elsewhere(
        &self,
        at: usize,
        shard: ShardId,
        elsewhere: Option<(u64, Membership)>,
    ) -> Option<(&'static str, String)> {
        let (since, newest) = elsewhere?;
        // What speaks of an earlier change of the map says nothing.
        let counts = self.ring.group(shard).is_some_and(|group| group.since == since);
        counts.then(|| {
            let detail =
                format!("node {at} says that shard {shard} is settled since epoch {since}, and it has {newest:?}");
            ("no-orphan", detail)
        })
    }

    /// A leader that hands over by itself does so to a replica that holds as good as everything.
    fn hands_over_too_soon(
        &self,
        at: usize,
        shard_id: ShardId,
        shard: &Shard,
        to: ReplicaId,
    ) -> Option<(&'static str, String)> {
        let stops = self.nodes[at].process.as_ref().is_some_and(|process| process.handed_over_at.is_some());
        let holds = |node: usize| shard_on(&self.nodes[node], shard_id).is_some_and(|held| held.replica() == to);
        let asked = self.invariants.asked_to_hand_over(at, shard_id).is_some_and(holds);
        let last = self.last_of(shard_id, to)?;
        let lacks = shard.log().last_index().0.saturating_sub(last.0);
        (lacks > LAG_MAX && !stops && !asked).then(|| {
            ("hand-over", format!("node {at} shard {shard_id} hands over to replica {to}, which lacks {lacks} entries"))
        })
    }

    /// The entries behind a snapshot that is on its way stay, as long as they take less than the state does.
    fn drops_pinned(&self, at: usize, shard_id: ShardId, shard: &Shard) -> Option<(&'static str, String)> {
        let dropped = shard.log().before_first().0;
        let (id, from) = shard.pins().find(|(_, from)| *from <= dropped)?;
        // A full disk keeps nothing for others.
        let full = |kind: &FaultKind| match *kind {
            FaultKind::DiskFull { node, .. } | FaultKind::DiskFills { node, .. } => usize::from(node) == at,
            _ => false,
        };
        if self.plan.faults.iter().any(|fault| full(&fault.kind)) {
            return None;
        }
        // The state may have grown since it was decided what stays.
        let (kept, lives) = (shard.log().sealed_bytes(), shard.reader().live_bytes_total());
        (kept < lives / 2).then(|| {
            let detail = format!(
                "node {at} shard {shard_id} has dropped entry {dropped}, and replica {id} needs those from {from} on: {kept} bytes \
                 are kept, {lives} live"
            );
            ("pinned-log", detail)
        })
    }

    /// The last entry that a replica holds, if it is open.
    fn last_of(&self, shard: ShardId, id: ReplicaId) -> Option<LogIndex> {
        let of =
            |node: &Node| shard_on(node, shard).filter(|held| held.replica() == id).map(|held| held.log().last_index());
        self.nodes.iter().find_map(of)
    }
}

fn shard_on(node: &Node, shard: ShardId) -> Option<&Shard> {
    Some(node.process.as_ref()?.shards.get(&shard)?.host.as_ref()?.shard())
}
