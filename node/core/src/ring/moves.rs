//! Moves of replicas between nodes, as edits of the ring map, and what becomes of nodes that are to be removed.
//!
//! A move is one edit: a fresh replica takes the place of one that should go, and that one is *leaving* until its group has
//! said that it goes on without it. So a replica is in the map from before it is a member of its group until after it is none,
//! and its node keeps its files as long. An id stands for one life of a log, so the old and the new replica never count as
//! one.

use super::{
    FIRST_REPLICAS_MAX, Holder, NodeSlot, NodeState, REMOVED_NODES_MAX, RETIRED_FOLDERS_MAX, RingMap, RingNode,
    ShardGroup,
};
use crate::seeded::{Bug, planted};
use kvorum_protocol::limits::REPLICAS_MAX;
use kvorum_protocol::{NodeId, ReplicaId, ShardId};
use std::collections::BTreeSet;

/// Why a map can't be changed like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// There is no such node.
    #[error("the ring has no such node")]
    UnknownNode,
    /// There is no such group, or it has no such replica.
    #[error("the group has no such replica")]
    UnknownReplica,
    /// The group is on its way from one membership to another.
    #[error("the group is moving")]
    Moving,
    /// The node holds a replica of the group already.
    #[error("the node holds a replica of the group")]
    Holds,
    /// The group has as many replicas as it may have, or only one.
    #[error("the group would have no replicas, or too many")]
    Size,
    /// The map says so already.
    #[error("the ring map says so already")]
    AlreadyDone,
    /// The node still holds replicas.
    #[error("the node still holds replicas")]
    NotEmpty,
    /// The node is the last one.
    #[error("the last node can't be removed")]
    LastNode,
}

impl RingMap {
    /// The map in which a fresh replica on the node `to` takes the place of the one on the node `from`, which leaves.
    ///
    /// # Errors
    /// `UnknownNode`, `UnknownReplica`, `Moving`, `Holds`.
    pub fn move_replica(&self, shard: ShardId, from: NodeSlot, to: NodeSlot) -> Result<Self, MoveError> {
        let (mut next, fresh) = self.with_fresh_on(to)?;
        let epoch = next.epoch;
        let group = next.still_group(shard)?;
        group.refuse_second_on(to)?;
        let place = group.replicas.iter_mut().find(|held| held.node == from).ok_or(MoveError::UnknownReplica)?;
        let old = std::mem::replace(place, fresh);
        group.leaving.push(old);
        group.since = epoch;
        Ok(next)
    }

    /// The map in which the group has one more replica, on the node `to`.
    ///
    /// # Errors
    /// `UnknownNode`, `UnknownReplica` if there is no such group, `Moving`, `Holds`, `Size`.
    pub fn grow(&self, shard: ShardId, to: NodeSlot) -> Result<Self, MoveError> {
        let (mut next, fresh) = self.with_fresh_on(to)?;
        let epoch = next.epoch;
        let group = next.still_group(shard)?;
        group.refuse_second_on(to)?;
        if group.replicas.len() >= REPLICAS_MAX {
            return Err(MoveError::Size);
        }
        group.replicas.push(fresh);
        group.since = epoch;
        Ok(next)
    }

    /// The map in which the group has one replica less: the one on the node `from` leaves.
    ///
    /// # Errors
    /// `UnknownReplica`, `Moving`, `Size`.
    pub fn shrink(&self, shard: ShardId, from: NodeSlot) -> Result<Self, MoveError> {
        let mut next = self.next_epoch();
        let epoch = next.epoch;
        let group = next.still_group(shard)?;
        let at = group.replicas.iter().position(|held| held.node == from).ok_or(MoveError::UnknownReplica)?;
        if group.replicas.len() == 1 {
            return Err(MoveError::Size);
        }
        let old = group.replicas.remove(at);
        group.leaving.push(old);
        group.since = epoch;
        Ok(next)
    }

    /// The map in which these groups are settled: they are as they should be, and what was leaving is gone. Each comes with the
    /// epoch of the change that its leader has followed; what speaks of an earlier change says nothing. `None` if nothing is new.
    pub fn with_settled(&self, settled: &BTreeSet<(ShardId, u64)>) -> Option<Self> {
        let mut next = self.next_epoch();
        let mut changed = false;
        for &(shard, since) in settled {
            let Some(group) = next.group_mut(shard) else { continue };
            let counts = group.since == since || planted(Bug::SettledOfEarlierMove);
            if counts && group.is_moving() {
                group.leaving.clear();
                group.unsettled.clear();
                group.renewed.clear();
                group.settled = group.since;
                changed = true;
            }
        }
        changed.then_some(next)
    }

    /// The map in which a group that is moving has a fresh replica on the node `to` in place of a newcomer on the node `lost`. The
    /// newcomer may have joined the group, and leaves with the others.
    ///
    /// # Errors
    /// `UnknownNode`, `UnknownReplica` if nothing has come to `lost`, `Holds`, `Size` if too many leave by now.
    pub fn retarget(&self, shard: ShardId, lost: NodeSlot, to: NodeSlot) -> Result<Self, MoveError> {
        let (mut next, fresh) = self.with_fresh_on(to)?;
        let epoch = next.epoch;
        let group = next.group_mut(shard).ok_or(MoveError::UnknownReplica)?;
        group.refuse_second_on(to)?;
        let (at, open) = group.newcomer_on(lost)?;
        if group.leaving.len() >= REPLICAS_MAX {
            return Err(MoveError::Size);
        }
        let newcomer = std::mem::replace(&mut group.replicas[at], fresh);
        group.leaving.push(newcomer);
        group.set_out(epoch, open);
        Ok(next)
    }

    /// The map in which a replica that was to leave the node `node` stays, and a newcomer on the node `lost` leaves instead.
    ///
    /// # Errors
    /// `UnknownReplica` if nothing has come to `lost`, or no replica on `node` leaves.
    pub fn restore(&self, shard: ShardId, lost: NodeSlot, node: NodeSlot) -> Result<Self, MoveError> {
        let mut next = self.next_epoch();
        let epoch = next.epoch;
        let group = next.group_mut(shard).ok_or(MoveError::UnknownReplica)?;
        let (at, open) = group.newcomer_on(lost)?;
        let old = group.leaving.iter_mut().find(|held| held.node == node).ok_or(MoveError::UnknownReplica)?;
        std::mem::swap(&mut group.replicas[at], old);
        group.set_out(epoch, open);
        Ok(next)
    }

    /// The map in which a group has one replica less than it was to have, since the node `lost` of a newcomer is lost: the newcomer,
    /// which may have joined the group, leaves.
    ///
    /// # Errors
    /// `UnknownReplica` if nothing has come to `lost`, `Size` if no other replica is left.
    pub fn withdraw(&self, shard: ShardId, lost: NodeSlot) -> Result<Self, MoveError> {
        let mut next = self.next_epoch();
        let epoch = next.epoch;
        let group = next.group_mut(shard).ok_or(MoveError::UnknownReplica)?;
        let (at, open) = group.newcomer_on(lost)?;
        if group.replicas.len() == 1 || group.leaving.len() >= REPLICAS_MAX {
            return Err(MoveError::Size);
        }
        let newcomer = group.replicas.remove(at);
        group.leaving.push(newcomer);
        group.set_out(epoch, open);
        Ok(next)
    }

    /// The map in which a group's replica on this node should lead. It keeps who holds what.
    ///
    /// # Errors
    /// `UnknownReplica`, `AlreadyDone`.
    pub fn with_leader(&self, shard: ShardId, node: NodeSlot) -> Result<Self, MoveError> {
        let mut next = self.next_epoch();
        let group = next.group_mut(shard).ok_or(MoveError::UnknownReplica)?;
        let at = group.replicas.iter().position(|held| held.node == node).ok_or(MoveError::UnknownReplica)?;
        if at == 0 {
            return Err(MoveError::AlreadyDone);
        }
        group.replicas[..=at].rotate_right(1);
        Ok(next)
    }

    /// The map in which a node is wanted otherwise than before. It has no heir then, and no absence is announced.
    ///
    /// # Errors
    /// `UnknownNode`, `AlreadyDone`.
    pub fn with_state(&self, node: NodeId, state: NodeState) -> Result<Self, MoveError> {
        self.with_node(node, |known| (known.state, known.heir, known.absence_ms) = (state, None, None))
    }

    /// The map in which something else is known of a node.
    ///
    /// # Errors
    /// `UnknownNode`, `AlreadyDone` if nothing is.
    pub fn with_node(&self, node: NodeId, edit: impl FnOnce(&mut RingNode)) -> Result<Self, MoveError> {
        let mut next = self.next_epoch();
        let known = next.nodes.iter_mut().find(|known| known.id == node.0).ok_or(MoveError::UnknownNode)?;
        let before = known.clone();
        edit(known);
        if *known == before { Err(MoveError::AlreadyDone) } else { Ok(next) }
    }

    /// The map without a node that holds nothing. It never returns, and neither does its data folder.
    ///
    /// # Errors
    /// `UnknownNode`, `NotEmpty`, `LastNode`.
    pub fn without_node(&self, node: NodeId) -> Result<Self, MoveError> {
        let at = self.nodes.iter().position(|known| known.id == node.0).ok_or(MoveError::UnknownNode)?;
        if !self.held_by(node).is_empty() {
            return Err(MoveError::NotEmpty);
        }
        if self.nodes.len() == 1 {
            return Err(MoveError::LastNode);
        }
        let mut next = self.next_epoch();
        let gone = next.nodes.remove(at);
        push_bounded(&mut next.removed, gone.id, REMOVED_NODES_MAX);
        if let Some(folder) = gone.disk {
            push_bounded(&mut next.retired_folders, folder, RETIRED_FOLDERS_MAX);
        }
        Ok(next)
    }

    /// The groups of which a replica is coming to a node by a move.
    pub fn coming_to(&self, node: NodeId) -> impl Iterator<Item = ShardId> {
        let slot = self.slot_of(node);
        let comes = move |group: &ShardGroup| slot.is_some() && group.newcomer().map(|held| held.node) == slot;
        self.group_ids().zip(self.groups()).filter(move |(_, group)| comes(group)).map(|(shard, _)| shard)
    }

    /// Whether a node was removed, as far as the map remembers.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node.0)
    }

    /// A replica id that no group had before.
    pub(super) fn fresh_replica(&mut self) -> u64 {
        self.replicas_made = self.replicas_made.max(FIRST_REPLICAS_MAX) + 1;
        self.replicas_made
    }

    pub(super) fn group_mut(&mut self, shard: ShardId) -> Option<&mut ShardGroup> {
        match shard {
            ShardId::META => Some(&mut self.meta),
            ShardId(number) => self.shards.get_mut(usize::from(number)),
        }
    }

    /// The map of the next epoch, and a fresh replica on the node `to` that no group has yet.
    fn with_fresh_on(&self, to: NodeSlot) -> Result<(Self, Holder), MoveError> {
        self.node_at(to).ok_or(MoveError::UnknownNode)?;
        let mut next = self.next_epoch();
        let replica = next.fresh_replica();
        Ok((next, Holder { replica, node: to }))
    }

    /// A group that may take a change.
    fn still_group(&mut self, shard: ShardId) -> Result<&mut ShardGroup, MoveError> {
        let group = self.group_mut(shard).ok_or(MoveError::UnknownReplica)?;
        if group.is_moving() { Err(MoveError::Moving) } else { Ok(group) }
    }
}

impl ShardGroup {
    /// The position of the newcomer on a node, and all newcomers.
    fn newcomer_on(&self, node: NodeSlot) -> Result<(usize, Vec<Holder>), MoveError> {
        let open: Vec<Holder> = self.newcomers().collect();
        let newcomer = open.iter().find(|held| held.node == node).ok_or(MoveError::UnknownReplica)?;
        let at = self.replicas.iter().position(|held| held == newcomer).ok_or(MoveError::UnknownReplica)?;
        Ok((at, open))
    }

    /// The replica that came with the change that the group is on, if one came.
    pub fn newcomer(&self) -> Option<Holder> {
        let newest = self.replicas.iter().max_by_key(|held| held.replica).copied()?;
        let is_newer = self.leaving.iter().all(|old| old.replica < newest.replica);
        (self.is_moving() && is_newer).then_some(newest)
    }

    /// A node holds one replica of a group at most, those that leave included.
    fn refuse_second_on(&self, node: NodeSlot) -> Result<(), MoveError> {
        if self.held().any(|held| held.node == node) { Err(MoveError::Holds) } else { Ok(()) }
    }

    /// Takes a replica that is over out of those that leave. Returns whether it was one of them.
    pub(super) fn forget_leaving(&mut self, replica: ReplicaId) -> bool {
        let before = self.leaving.len();
        self.leaving.retain(|held| held.replica != replica.0);
        self.leaving.len() < before
    }
}

/// Adds to a list of the newest, and drops the oldest beyond `max`.
pub(super) fn push_bounded<T>(list: &mut Vec<T>, item: T, max: usize) {
    let surplus = (list.len() + 1).saturating_sub(max);
    list.drain(..surplus);
    list.push(item);
}
