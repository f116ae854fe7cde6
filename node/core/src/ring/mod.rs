//! The ring map: which nodes there are and which of them hold which shard. Pure.
//!
//! The map is replicated by the `meta` group as the value of one key, so this module also knows its stored form.

pub mod address;
mod by_disk;
mod by_load;
pub mod decide;
pub mod detect;
mod group;
mod moves;
pub mod outlook;
mod placement;
mod prefix;
pub mod rebalance;
mod recover;
mod replace;
pub mod sealing;
mod tokens;
pub mod verbs;

pub use group::{Holder, NodeSlot, ShardGroup};
pub use moves::MoveError;
pub use placement::{Candidate, PlacementError, least_moves, meta_replication_factor, moves, place};
pub use prefix::MapPrefix;
pub use recover::{Loss, RECOVERY_EPOCHS};
pub use replace::ReplaceError;
pub use tokens::{RingToken, TokenUse};

use crate::folder::checked_json;
use crate::folder::mirrored::DecodeFailure;
use crate::folder::stored_id;
use crate::snapshot::limits::{BYTES_PER_SECOND_CALM, BYTES_PER_SECOND_DEFAULT};
use kvorum_protocol::hash::RING_POSITION;
use kvorum_protocol::limits::{NODES_MAX, REPLICAS_MAX, SHARDS_MAX};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::{
    ClusterId, Durability, Epoch, FolderId, NodeId, NodeInfo, ReplicaId, ShardId, ShardInfo, Term, Topology,
};
use sealing::RingSealing;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The key of the ring map in the `meta` group.
pub const RING_KEY: &[u8] = b"ring";
/// Most voters of the `meta` group.
pub const META_VOTERS_MAX: usize = 5;
/// Replica ids up to this one are those that a group began with; ids that are made later are larger, whatever the group.
/// So it shows in the id alone whether a replica was there when its group was born.
pub const FIRST_REPLICAS_MAX: u64 = REPLICAS_MAX as u64;
/// Most data folders that the map remembers as replaced, the oldest being forgotten first. One that was forgotten and comes
/// back is a stranger like any other: it is given fresh replicas, and what it held is erased.
pub const RETIRED_FOLDERS_MAX: usize = 256;
/// A node that nobody is connected with for this long is down, in milliseconds. Connections end 3 s after the last word, so that is
/// 11 s after a crash.
pub const DOWN_AFTER_MS: u64 = 8_000;
/// A node that was down is up again once it was heard for this long, in milliseconds: one that flaps is given nothing.
pub const UP_AGAIN_AFTER_MS: u64 = 30_000;
/// A move of which the newcomer takes nothing in for this long goes elsewhere, in milliseconds ...
pub const MOVE_IDLE_MAX_MS: u64 = 600_000;
/// ... or for this long, if the disk is full to which it moves.
pub const MOVE_IDLE_FULL_MS: u64 = 30_000;
/// A node that took nothing of a move for [`MOVE_IDLE_MAX_MS`] is given nothing for this long, in milliseconds.
pub const DECLINED_FOR_MS: u64 = 1_800_000;
/// How much longer a node is waited for before what it holds is made anew, in milliseconds, unless the cluster was created with
/// another value: most machines restart within a minute.
pub const REPAIR_HOLD_MS: u64 = 50_000;
/// A zone of several nodes that is down as a whole is waited for so many times as long: half an hour for a hold of 50 s.
pub const ZONE_HOLD_FACTOR: u64 = 36;
/// Moves leave so much of a disk free: so many hundredths of it, or so many bytes if that is less. Repairs may use all the rest.
pub const FREE_AFTER_REPAIR: (u64, u64) = (15, 2 << 30);
/// Other moves leave so much.
pub const FREE_AFTER_BALANCE: (u64, u64) = (25, 4 << 30);
/// No move needs to leave more than these bytes, which are a quarter above the usual headroom ...
pub const FREE_MIN_BYTES: u64 = 1_280 << 20;
/// ... and so many times what the node holds that holds most: a small cluster on a disk full of other things grows little.
pub const FREE_TIMES_HELD: u64 = 4;
/// A node that has said that it stops is waited for this long, in milliseconds.
pub const PLANNED_ABSENCE_MS: u64 = 600_000;
/// Most removed nodes that the map remembers, to say why they are turned away. One that was forgotten is turned away as a node
/// that nobody knows.
pub const REMOVED_NODES_MAX: usize = 256;

/// A node as the ring map knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RingNode {
    /// Its place in the map, which no other node had or will have.
    pub slot: NodeSlot,
    /// Its identity.
    pub id: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Its failure zone; nodes without one are each a zone of their own.
    #[serde(default)]
    pub zone: String,
    /// `host:port` of its binary door.
    pub client: String,
    /// `host:port` of its peer door.
    pub peer: String,
    /// How much of the ring it takes, relative to the others; at least 1. With 1, it is as much as its disk is large beside theirs.
    pub weight: u32,
    /// The size of its disk, in quarters of the median of all nodes' disks.
    #[serde(default = "median", skip_serializing_if = "is_median")]
    pub disk_quarters: u32,
    /// What the cluster wants of it.
    #[serde(default)]
    pub state: NodeState,
    /// For how long it will be away, in milliseconds, if it is drained. Each leader of `meta` counts from when it sees it: nobody
    /// believes a wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_ms: Option<u64>,
    /// The node that takes its place, if it leaves for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<NodeSlot>,
    /// It is down, and an operator has said that it is not to be waited for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost: bool,
    /// Nobody has heard of it for [`DOWN_AFTER_MS`]. It stays so until it was heard for [`UP_AGAIN_AFTER_MS`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub down: bool,
    /// Its data folder, once it is known. The node holds no shard's replica before that, and none in another folder.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "stored_id::optional")]
    pub disk: Option<FolderId>,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the cluster wants of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It holds its share.
    #[default]
    Up,
    /// It will be away for a while: it leads nothing, is given nothing, and what it holds stays.
    Draining,
    /// It gives all its replicas to others, and is removed once it has none.
    Removing,
}

/// The ring map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RingMap {
    /// Grows with each change.
    pub epoch: u64,
    /// The cluster's feature level: what all its nodes speak, and none of them goes beyond ([`Levels`]). Never falls.
    #[serde(default = "first_level")]
    pub level: u16,
    /// How a key's position on the ring is counted: [`RING_POSITION`].
    #[serde(default = "ring_position")]
    pub ring_position: String,
    /// The cluster.
    pub cluster: Uuid,
    /// What "committed" means: `fsync` or `memory`.
    #[serde(with = "durability_text")]
    pub durability: Durability,
    /// The nodes.
    pub nodes: Vec<RingNode>,
    /// How many slots were given. Never falls.
    pub slots_made: u32,
    /// How many replicas each shard should have.
    pub replication_factor: u8,
    /// A node that is down for so much longer, in milliseconds, is given up: what it holds is made anew on others.
    #[serde(default = "repair_hold_ms")]
    pub repair_hold_ms: u64,
    /// No replica moves for balance or removal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// How many MiB per second a node sends of snapshots, and takes in; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mb: Option<u32>,
    /// The `meta` group.
    pub meta: ShardGroup,
    /// The group of each shard.
    pub shards: Vec<ShardGroup>,
    /// The highest replica id that was made after the first placement; 0 if none was. Never falls.
    #[serde(default)]
    pub replicas_made: u64,
    /// Data folders that were replaced, oldest first; at most [`RETIRED_FOLDERS_MAX`].
    #[serde(default, rename = "retired_disks", with = "stored_id::list")]
    pub retired_folders: Vec<FolderId>,
    /// Nodes that were removed, oldest first; at most [`REMOVED_NODES_MAX`]. None of them returns.
    #[serde(default)]
    pub removed: Vec<Uuid>,
    /// By which nodes may join that have no certificate yet, or have joined a short while ago; at most
    /// [`TOKENS_MAX`](kvorum_protocol::limits::TOKENS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<RingToken>,
    /// Clients must say who they are, at every node that does not insist on another thing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// With which keys nodes seal what they store.
    #[serde(default, skip_serializing_if = "RingSealing::is_plain")]
    pub sealing: RingSealing,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl RingNode {
    /// A node that holds its share, with nothing but its id and name said. [`RingMap::initial`] gives it its slot.
    pub fn new(id: Uuid, name: impl Into<String>) -> Self {
        Self {
            slot: NodeSlot(0),
            id,
            name: name.into(),
            zone: String::new(),
            client: String::new(),
            peer: String::new(),
            weight: 1,
            disk_quarters: by_disk::MEDIAN,
            state: NodeState::Up,
            absence_ms: None,
            heir: None,
            lost: false,
            down: false,
            disk: None,
            unknown: Unknown::new(),
        }
    }

    /// Its failure zone. Who has none is a zone of its own.
    pub fn zone(&self) -> &str {
        if self.zone.is_empty() { &self.name } else { &self.zone }
    }
}

/// What maps of all levels have in common.
#[derive(Deserialize)]
struct Levelled {
    #[serde(default = "first_level")]
    level: u16,
}

/// Fields that this version does not know, by name. Fields of replicas are not kept: who adds one raises the level first.
pub type Unknown = serde_json::Map<String, serde_json::Value>;

fn first_level() -> u16 {
    Levels::OWN.min
}

fn repair_hold_ms() -> u64 {
    REPAIR_HOLD_MS
}

fn median() -> u32 {
    by_disk::MEDIAN
}

fn is_median(quarters: &u32) -> bool {
    *quarters == by_disk::MEDIAN
}

fn is_false(value: &bool) -> bool {
    !value
}

fn ring_position() -> String {
    RING_POSITION.to_owned()
}

/// Why a stored ring map can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// It is not the JSON it should be.
    #[error("the stored ring map can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It does not match its checksum.
    #[error(
        "ring.json.metadata and its copy are damaged; name an empty folder, and the node will rejoin with a new disk"
    )]
    Damaged,
    /// It contradicts itself.
    #[error("the stored ring map is invalid: {0}")]
    Invalid(&'static str),
    /// Another program has made it.
    #[error(
        "the cluster is at level {level}, and this program speaks {}: start {} one",
        Levels::OWN,
        if *level > Levels::OWN.max { "a newer" } else { "an older" }
    )]
    Level {
        /// The cluster's.
        level: u16,
    },
}

impl DecodeFailure for RingError {
    fn is_unsupported(&self) -> bool {
        matches!(self, Self::Level { .. })
    }
}

impl RingMap {
    /// The map of a new cluster. Every node computes the same one from the same configuration.
    ///
    /// # Errors
    /// If the nodes can't hold that many replicas.
    pub fn initial(
        cluster: ClusterId,
        durability: Durability,
        mut nodes: Vec<RingNode>,
        shards: u16,
        replication_factor: u8,
    ) -> Result<Self, PlacementError> {
        for (slot, node) in (0..).zip(&mut nodes) {
            node.slot = NodeSlot(slot);
        }
        let candidates: Vec<Candidate<'_>> = nodes.iter().map(founder).collect();
        let placed = place(&candidates, shards, replication_factor, &[])?;
        let meta = place(&candidates, 1, meta_replication_factor(candidates.len()), &[])?;
        let group = |holders: &Vec<u16>| ShardGroup::new(holders.iter().map(|at| nodes[usize::from(*at)].slot), 1);
        Ok(Self {
            // Whoever founds it speaks the newest level. A founder of an older program refuses the map, and says so.
            level: Levels::OWN.max,
            ring_position: ring_position(),
            unknown: Unknown::new(),
            epoch: 1,
            cluster: cluster.0,
            durability,
            slots_made: nodes.len() as u32,
            replication_factor,
            repair_hold_ms: repair_hold_ms(),
            paused: false,
            rate_mb: None,
            meta: group(&meta[0]),
            shards: placed.iter().map(group).collect(),
            nodes,
            replicas_made: 0,
            retired_folders: Vec::new(),
            removed: Vec::new(),
            tokens: Vec::new(),
            auth_required: false,
            sealing: RingSealing::default(),
        })
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a ring map has nothing that JSON can't say")
    }

    /// The form in which a node keeps a copy beside its data: a checksum tells when it is damaged.
    pub fn to_copy(&self) -> Vec<u8> {
        checked_json::encode(self)
    }

    /// Reads a node's copy. One without a checksum is from before there was one.
    ///
    /// # Errors
    /// If it is damaged, or as [`RingMap::from_bytes`].
    pub fn from_copy(bytes: &[u8]) -> Result<Self, RingError> {
        let json = checked_json::unseal_or_plain(bytes).ok_or(RingError::Damaged)?;
        Self::from_bytes(json.as_bytes())
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// If it is malformed or contradicts itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RingError> {
        // A map of another level may have another shape.
        let Levelled { level } = serde_json::from_slice(bytes)?;
        if !Levels::OWN.speaks(level) {
            return Err(RingError::Level { level });
        }
        let map: Self = serde_json::from_slice(bytes)?;
        let invalid = |what| Err(RingError::Invalid(what));
        if map.ring_position != RING_POSITION {
            return invalid("how a key's position on the ring is counted");
        }
        if map.nodes.is_empty() || map.nodes.len() > NODES_MAX {
            return invalid("its number of nodes");
        }
        if !map.shards.len().is_power_of_two() || map.shards.len() > SHARDS_MAX {
            return invalid("its number of shards");
        }
        let repeats = |(at, node): (usize, &RingNode)| {
            map.nodes[..at].iter().any(|other| other.slot == node.slot || other.id == node.id)
        };
        if map.nodes.iter().enumerate().any(repeats) || map.nodes.iter().any(|node| node.slot.0 >= map.slots_made) {
            return invalid("a node's slot or id");
        }
        if !(1..=REPLICAS_MAX).contains(&usize::from(map.replication_factor)) {
            return invalid("its replication factor");
        }
        for group in map.groups() {
            let ids_to = map.replicas_made.max(FIRST_REPLICAS_MAX);
            group.check(ids_to, |slot| map.node_at(slot).is_some()).map_err(RingError::Invalid)?;
        }
        if map.removed.len() > REMOVED_NODES_MAX || map.nodes.iter().any(|node| map.removed.contains(&node.id)) {
            return invalid("its removed nodes");
        }
        if map.retired_folders.len() > RETIRED_FOLDERS_MAX {
            return invalid("its number of retired data folders");
        }
        if map.nodes.iter().any(|node| node.disk.is_some_and(|disk| map.retired_folders.contains(&disk))) {
            return invalid("a node with a retired data folder");
        }
        map.check_tokens().map_err(RingError::Invalid)?;
        map.sealing.check().map_err(RingError::Invalid)?;
        Ok(map)
    }

    /// The group of a shard, `meta` included.
    pub fn group(&self, shard: ShardId) -> Option<&ShardGroup> {
        match shard {
            ShardId::META => Some(&self.meta),
            ShardId(number) => self.shards.get(usize::from(number)),
        }
    }

    /// All groups, `meta` first.
    pub fn groups(&self) -> impl Iterator<Item = &ShardGroup> {
        std::iter::once(&self.meta).chain(&self.shards)
    }

    /// The numbers of all groups, `meta` first.
    pub fn group_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        std::iter::once(ShardId::META).chain((0..self.shards.len() as u16).map(ShardId))
    }

    /// The replicas of a shard that should vote, `meta` included; empty if there is no such shard.
    pub fn replicas(&self, shard: ShardId) -> &[Holder] {
        self.group(shard).map_or(&[], |group| &group.replicas)
    }

    /// The groups that a node holds a replica of, `meta` first, with that replica's id. It may be one that is to go.
    pub fn held_by(&self, node: NodeId) -> Vec<(ShardId, ReplicaId)> {
        let Some(slot) = self.slot_of(node) else { return Vec::new() };
        let held = |group: &ShardGroup| group.held().find(|held| held.node == slot).map(|held| ReplicaId(held.replica));
        self.group_ids().zip(self.groups()).filter_map(|(shard, group)| Some((shard, held(group)?))).collect()
    }

    /// The replica of a shard that a node holds. It may be one that is to go.
    pub fn replica_on(&self, shard: ShardId, node: NodeId) -> Option<ReplicaId> {
        let slot = self.slot_of(node)?;
        self.group(shard)?.held().find(|held| held.node == slot).map(|held| ReplicaId(held.replica))
    }

    /// The node that holds a replica of a shard, which may be one that is to go.
    pub fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        let held = self.group(shard)?.held().find(|held| held.replica == replica.0)?;
        self.node_at(held.node).map(|node| NodeId(node.id))
    }

    /// The nodes that hold a replica of a shard which should vote, the one that should lead first.
    pub fn holders(&self, shard: ShardId) -> impl Iterator<Item = NodeId> {
        self.replicas(shard).iter().filter_map(|held| self.node_at(held.node)).map(|node| NodeId(node.id))
    }

    /// The node with a slot.
    pub fn node_at(&self, slot: NodeSlot) -> Option<&RingNode> {
        self.nodes.iter().find(|node| node.slot == slot)
    }

    /// A node's slot.
    pub fn slot_of(&self, node: NodeId) -> Option<NodeSlot> {
        self.nodes.iter().find(|known| known.id == node.0).map(|known| known.slot)
    }

    /// The data folder of a node; `None` if it is not known yet, or there is no such node.
    pub fn folder_of(&self, node: NodeId) -> Option<FolderId> {
        self.nodes.iter().find(|known| known.id == node.0)?.disk
    }

    /// How many bytes per second a node sends of snapshots at most. Moves do not hurry while no replica is missing. Else snapshots
    /// are for replicas that a node needs to be whole again.
    pub fn snapshot_rate(&self) -> u64 {
        let is_calm = self.groups().any(ShardGroup::is_moving) && !self.nodes.iter().any(|node| node.down);
        match self.rate_mb {
            Some(mb) => u64::from(mb) << 20,
            None if is_calm => BYTES_PER_SECOND_CALM,
            None => BYTES_PER_SECOND_DEFAULT,
        }
    }

    /// Whether a node is drained.
    pub fn is_draining(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|known| known.id == node.0 && known.state == NodeState::Draining)
    }

    /// Whether there is such a node.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|known| known.id == node.0)
    }

    /// The map as clients see it. `leader` says who leads a shard, and in which term.
    pub fn topology(&self, leader: impl Fn(ShardId) -> Option<(Term, NodeId)>) -> Topology {
        let position = |node: NodeId| self.nodes.iter().position(|known| known.id == node.0).map(|at| at as u16);
        Topology {
            epoch: Epoch(self.epoch),
            cluster: ClusterId(self.cluster),
            durability: self.durability,
            nodes: self
                .nodes
                .iter()
                .map(|node| NodeInfo {
                    id: NodeId(node.id),
                    name: node.name.clone(),
                    client_address: node.client.clone(),
                    zone: node.zone.clone(),
                })
                .collect(),
            shards: (0..self.shards.len() as u16)
                .map(|number| {
                    let known = leader(ShardId(number));
                    ShardInfo {
                        leader: known.and_then(|(_, node)| position(node)),
                        term: known.map_or(Term(0), |(term, _)| term),
                        replicas: self.holders(ShardId(number)).filter_map(position).collect(),
                    }
                })
                .collect(),
        }
    }
}

/// A node of a new cluster as a placement sees it.
fn founder(node: &RingNode) -> Candidate<'_> {
    Candidate { zone: node.zone(), weight: node.share(), leads: node.weight, eligible: true, may_receive: true }
}

#[cfg(test)]
pub(crate) mod elastic_tests;
#[cfg(test)]
mod verb_tests;

mod durability_text {
    use kvorum_protocol::Durability;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Durability, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Durability, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "fsync" => Ok(Durability::Fsync),
            "memory" => Ok(Durability::Memory),
            other => Err(D::Error::custom(format!("durability is `fsync` or `memory`, not `{other}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn nodes(count: u128) -> Vec<RingNode> {
        (1..=count)
            .map(|number| RingNode {
                client: format!("127.0.0.1:{}", 7400 + number),
                peer: format!("127.0.0.1:{}", 7410 + number),
                ..RingNode::new(Uuid::from_u128(number), format!("node-{number}"))
            })
            .collect()
    }

    #[test]
    fn stored_form_comes_back() {
        let cluster = ClusterId(Uuid::from_u128(99));
        let map = RingMap::initial(cluster, Durability::Memory, nodes(4), 8, 3).unwrap();
        assert_eq!(RingMap::from_bytes(&map.to_bytes()).unwrap(), map);
        assert_eq!(map.meta.replicas.len(), 3, "an even number of voters is no better than one less");
        assert!(RingMap::from_bytes(b"{}").is_err());
        let text = String::from_utf8(map.to_bytes()).unwrap().replace("\"node\":1", "\"node\":77");
        assert!(matches!(RingMap::from_bytes(text.as_bytes()), Err(RingError::Invalid(_))));
    }

    #[test]
    fn knows_who_holds_what() {
        let cluster = ClusterId(Uuid::from_u128(99));
        let map = RingMap::initial(cluster, Durability::Fsync, nodes(3), 4, 3).unwrap();
        let first = NodeId(Uuid::from_u128(1));
        assert_eq!(map.held_by(first).len(), 5);
        for (shard, replica) in map.held_by(first) {
            assert_eq!(map.node_of(shard, replica), Some(first));
        }
        assert_eq!(map.held_by(NodeId(Uuid::from_u128(7))), []);
        let topology = map.topology(|shard| (shard == ShardId(2)).then_some((Term(5), first)));
        assert_eq!(topology.leader_of(ShardId(2)).unwrap().name, "node-1");
        assert!(topology.leader_of(ShardId(1)).is_none());
    }

    #[test]
    fn what_a_newer_version_has_added_is_kept_and_a_higher_level_is_refused() {
        let map = RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(3), 4, 3).unwrap();
        let mut newer: serde_json::Value = serde_json::from_slice(&map.to_bytes()).unwrap();
        newer["issuer_epoch"] = 7.into();
        newer["nodes"][1]["labels"] = "ssd".into();
        newer["shards"][0]["replicas"][0]["since"] = 3.into();
        let read = RingMap::from_bytes(newer.to_string().as_bytes()).unwrap();
        let changed = read.with_level(2).with_folder(NodeId(read.nodes[0].id), FolderId(Uuid::from_u128(5))).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&changed.to_bytes()).unwrap();
        assert_eq!((&written["issuer_epoch"], &written["nodes"][1]["labels"]), (&7.into(), &"ssd".into()));
        assert_eq!((map.level, &*map.ring_position), (2, "slot14-xxh3"));

        for (field, value) in [("level", 3.into()), ("ring_position", serde_json::Value::from("xxh3"))] {
            let mut other = newer.clone();
            other[field] = value;
            let refused = RingMap::from_bytes(other.to_string().as_bytes()).unwrap_err();
            assert!(
                matches!((field, &refused), ("level", RingError::Level { level: 3 }) | (_, RingError::Invalid(_))),
                "{refused}"
            );
        }
        let copy = checked_json::seal(r#"{"epoch":9,"level":3,"shards":"of another shape"}"#);
        let refused = RingMap::from_copy(&copy).unwrap_err().to_string();
        assert_eq!(refused, "the cluster is at level 3, and this program speaks levels 1 to 2: start a newer one");
    }
}
