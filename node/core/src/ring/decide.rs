//! What the leader of the `meta` group changes in the ring map next, and when a node may help to found that group. Pure:
//! the node's keeper asks these functions, and so can a simulation.
//!
//! # Why a wiped node can't be counted under its old name
//!
//! A replica may vote and acknowledge only if it remembers every vote and acknowledgement that its id gave before. Ids live
//! in data folders, so the rule is: *an id is opened in one folder only*.
//!
//! - **A shard's replica** is opened anew only by a node whose folder the ring map names. The map is decided by
//!   consensus and names one folder per node. Another folder gets that place in one update with fresh ids for
//!   everything that the node holds ([`RingMap::replace_node`]). So two folders never open the same id.
//! - **A replica of `meta` with an id of the first map** can't wait for a map, since it helps to make it. It is opened
//!   anew only after *every* other first replica of the group has said that it knows no other folder of this node, and that
//!   the map in force there gives this node no other replica of the group ([`may_bootstrap`]). If an earlier folder of this node had given a vote or an acknowledgement, it gave it to a leader,
//!   which is one of those nodes, had met that folder, and had written it down before it took any message from it. It
//!   would have said so.
//! - Independently of what a node believes of itself, its peers drop the consensus messages of a folder that is not the
//!   one which they know (the map's, or while the map names none, the one they met first).
//!
//! This holds as long as nodes forget one at a time. A quorum that is wiped at once has lost what it acknowledged, and no
//! rule brings it back.

use super::rebalance::{self, Step};
use super::sealing::{self, KeysOfNode};
use super::{DOWN_AFTER_MS, FREE_MIN_BYTES, FREE_TIMES_HELD, Holder, NodeState, RingMap, RingNode, UP_AGAIN_AFTER_MS};
use super::{PlacementError, by_disk};
use crate::sealing::KeyEpoch;
use crate::seeded::{Bug, planted};
use kvorum_protocol::peer::Levels;
use kvorum_protocol::report::{DiskRoom, ShardLoad};
use kvorum_protocol::{FolderId, NodeId, ReplicaId, ShardId, TokenId};
use std::collections::{BTreeMap, BTreeSet};

/// A node that comes with another folder is replaced after it has been connected for this long: one that is only started
/// by mistake, and stopped at once, costs nothing.
pub const STRANGER_CONNECTED_MS: u64 = 1_000;

/// A connected peer, as the leader of `meta` sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    /// The data folder that it came with.
    pub folder: FolderId,
    /// The folder that it had when the leader first met it.
    pub remembered: Option<FolderId>,
    /// How long it has been connected.
    pub connected_ms: u64,
    /// What its program speaks.
    pub levels: Levels,
}

impl Presence {
    /// Whether the node came with another folder than it should: the map's, or the remembered one if the map names none.
    pub fn is_stranger(&self, ring: &RingMap, node: NodeId) -> bool {
        let expected = ring.folder_of(node).or(self.remembered);
        expected.is_some_and(|expected| expected != self.folder && !planted(Bug::WipedDiskAdmitted))
    }
}

/// What a node knows of a peer, as it says in its hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KnownOfPeer {
    /// The peer's data folder; `None` if they never met.
    pub folder: Option<FolderId>,
    /// By the map in force, the peer has another replica of `meta` than the first map gave it.
    pub replaced: bool,
}

/// What a node has of its disk, and holds on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskOfNode {
    /// What there is.
    pub room: DiskRoom,
    /// Bytes that copies of all its replicas would take, about.
    pub held_bytes: u64,
}

/// What the leader of `meta` sees of its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The leader's node.
    pub me: NodeId,
    /// Its data folder.
    pub folder: FolderId,
    /// What its program speaks.
    pub levels: Levels,
    /// The peers that are connected.
    pub peers: BTreeMap<NodeId, Presence>,
    /// Replicas that can't be used any more, as their own nodes say, the leader's included.
    pub faulty: BTreeSet<(NodeId, ShardId, ReplicaId)>,
    /// Groups that have followed a change of the map to its end, with the epoch of that change, as their leaders say.
    pub settled: BTreeSet<(ShardId, u64)>,
    /// For how long nodes were not heard, in milliseconds; those that are heard are left out.
    pub silent: BTreeMap<NodeId, u64>,
    /// For how long nodes were heard without a break.
    pub steady: BTreeMap<NodeId, u64>,
    /// For how long nodes have been drained, in milliseconds.
    pub drained: BTreeMap<NodeId, u64>,
    /// For how long tokens have been known, in milliseconds.
    pub tokens: BTreeMap<TokenId, u64>,
    /// For how long groups have been at their moves, in milliseconds.
    pub moving: BTreeMap<ShardId, u64>,
    /// For how long the newcomers of groups that move have taken nothing in, in milliseconds.
    pub idle: BTreeMap<ShardId, u64>,
    /// Nodes that took nothing of a move for so long that it went elsewhere, and how long ago, in milliseconds.
    pub declined: BTreeMap<NodeId, u64>,
    /// Nodes that have said that they stop, and are expected back.
    pub planned: BTreeSet<NodeId>,
    /// The disks of the nodes that have told of them.
    pub disks: BTreeMap<NodeId, DiskOfNode>,
    /// What shards cost those who lead them.
    pub loads: BTreeMap<ShardId, ShardLoad>,
    /// It is time to look where everything should be, which costs more than the rest: see [`super::place`].
    pub places: bool,
    /// Where clients reach nodes, as these say themselves; none of them a stranger.
    pub clients: BTreeMap<NodeId, String>,
    /// Where their peers reach them, likewise.
    pub peer_addresses: BTreeMap<NodeId, String>,
    /// How far nodes are with data keys.
    pub data_keys: BTreeMap<NodeId, KeysOfNode>,
}

/// What a change of the map is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The folders of these nodes have become known.
    Named(Vec<NodeId>),
    /// A node came with another folder.
    Node(NodeId),
    /// A replica can't be used any more.
    Replica(NodeId, ShardId, ReplicaId),
    /// Groups go on without the replicas that were leaving.
    Settled(Vec<ShardId>),
    /// Nodes are down, or up again.
    Down(Vec<(NodeId, bool)>),
    /// Nodes that were drained have been away for as long as was said.
    Undrained(Vec<NodeId>),
    /// The time of these tokens is over.
    TokensOver(Vec<TokenId>),
    /// Replicas or leaderships move.
    Steps(Vec<Step>),
    /// A node that was being removed holds nothing any more.
    Removed(NodeId),
    /// Clients or peers reach nodes at other addresses than before.
    Addresses,
    /// Nodes have disks of other sizes, relative to each other, than before.
    Disks,
    /// All nodes have this data key, and it is used from now on.
    DataKey(KeyEpoch),
}

/// What to do about the map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MapDecision {
    /// It is as it should be.
    Rest,
    /// Put this one in its place.
    Change(Box<RingMap>, Change),
    /// Something should be replaced, and the rest of this group is not a quorum that is there and well: what was lost may
    /// be all that is left of the group, so it is kept until an operator decides, or the others come back.
    Wait(Change, ShardId),
    /// Replicas should move, and there is no place for them.
    Blocked(PlacementError),
}

/// Decides on the next change: one at a time, folders first, since replacing rests on them.
pub fn decide(ring: &RingMap, seen: &Seen) -> MapDecision {
    if let Some(change) = name_folders(ring, seen) {
        return change;
    }
    let mut waits = MapDecision::Rest;
    for (node, presence) in &seen.peers {
        if !presence.is_stranger(ring, *node) || presence.connected_ms < STRANGER_CONNECTED_MS {
            continue;
        }
        // A folder that may not be used stays a stranger's: there is nothing to do about it here.
        let Ok(next) = ring.replace_node(*node, presence.folder) else { continue };
        let alone = ring.held_by(*node).into_iter().find(|(shard, _)| !seen.others_are_a_quorum(ring, *shard, *node));
        match alone {
            None => return MapDecision::Change(Box::new(next), Change::Node(*node)),
            Some((shard, _)) => waits = MapDecision::Wait(Change::Node(*node), shard),
        }
    }
    for &(node, shard, replica) in &seen.faulty {
        if ring.node_of(shard, replica) != Some(node) || !seen.is_there(ring, node) {
            continue;
        }
        let Ok(next) = ring.replace_replica(shard, replica) else { continue };
        let change = Change::Replica(node, shard, replica);
        if seen.others_are_a_quorum(ring, shard, node) {
            return MapDecision::Change(Box::new(next), change);
        }
        waits = MapDecision::Wait(change, shard);
    }
    if let Some(next) = ring.with_settled(&seen.settled) {
        let groups = ring.group_ids().zip(ring.groups().zip(next.groups()));
        let settled = groups.filter(|(_, (before, after))| before.settled != after.settled).map(|(shard, _)| shard);
        let settled = Change::Settled(settled.collect());
        return MapDecision::Change(Box::new(next), settled);
    }
    if let Some((next, changed)) = with_news_of_who_is_down(ring, seen) {
        return MapDecision::Change(Box::new(next), Change::Down(changed));
    }
    if let Some((next, back)) = without_absences_that_are_over(ring, seen) {
        return MapDecision::Change(Box::new(next), Change::Undrained(back));
    }
    if let Some((next, old)) = ring.without_old_tokens(seen) {
        return MapDecision::Change(Box::new(next), Change::TokensOver(old));
    }
    if ring.sealing.is_staged() && sealing::behind(ring, seen).is_empty() {
        let change = Change::DataKey(ring.sealing.newest());
        return MapDecision::Change(Box::new(ring.with_newest_key_active()), change);
    }
    if let Some((node, next)) = without_an_empty_node(ring) {
        return MapDecision::Change(Box::new(next), Change::Removed(node));
    }
    // Nothing rests on addresses, so they come late. What waits may wait for long, and does not hold them up.
    if let Some(next) = ring.with_addresses(&seen.clients, &seen.peer_addresses) {
        return MapDecision::Change(Box::new(next), Change::Addresses);
    }
    if let Some(next) = by_disk::with_sizes(ring, &seen.disks) {
        return MapDecision::Change(Box::new(next), Change::Disks);
    }
    if !seen.places {
        return waits;
    }
    let (wanted, without_place) = rebalance::wanted_or_part(ring, seen);
    match (rebalance::next_steps(ring, seen, &wanted), without_place) {
        (Some((next, steps)), _) => MapDecision::Change(Box::new(next), Change::Steps(steps)),
        (None, None) => waits,
        // A cluster that has always been like that has nothing to move.
        (None, Some(_))
            if waits != MapDecision::Rest || ring.nodes.iter().all(|node| node.state != NodeState::Removing) =>
        {
            waits
        }
        (None, Some(why)) => MapDecision::Blocked(why),
    }
}

/// The map in which those nodes are down that are, and the nodes of which it said something else.
fn with_news_of_who_is_down(ring: &RingMap, seen: &Seen) -> Option<(RingMap, Vec<(NodeId, bool)>)> {
    let mut next = ring.next_epoch();
    let mut changed = Vec::new();
    for node in &mut next.nodes {
        let id = NodeId(node.id);
        let is_lost = seen.silent.get(&id).is_some_and(|ms| *ms >= DOWN_AFTER_MS);
        let is_back = id == seen.me || seen.steady.get(&id).is_some_and(|ms| *ms >= UP_AGAIN_AFTER_MS);
        if if node.down { is_back } else { is_lost } {
            node.down = !node.down;
            node.lost = false;
            changed.push((id, node.down));
        }
    }
    (!changed.is_empty()).then_some((next, changed))
}

/// The map in which nodes are as any others again that were drained for a time which has passed, and these nodes.
fn without_absences_that_are_over(ring: &RingMap, seen: &Seen) -> Option<(RingMap, Vec<NodeId>)> {
    let is_over = |node: &&RingNode| {
        let for_ms = node.absence_ms.unwrap_or(0);
        node.state == NodeState::Draining && seen.drained.get(&NodeId(node.id)).is_some_and(|ms| *ms >= for_ms)
    };
    let over: Vec<NodeId> = ring.nodes.iter().filter(is_over).map(|node| NodeId(node.id)).collect();
    let next = over.iter().try_fold(ring.clone(), |next, node| next.with_state(*node, NodeState::Up)).ok()?;
    (!over.is_empty()).then(|| (RingMap { epoch: ring.epoch + 1, ..next }, over))
}

/// The first node that is to be removed and holds nothing, and the map without it.
fn without_an_empty_node(ring: &RingMap) -> Option<(NodeId, RingMap)> {
    let removing = ring.nodes.iter().filter(|node| node.state == NodeState::Removing);
    let mut removable = removing.map(|node| NodeId(node.id)).filter_map(|id| Some((id, ring.without_node(id).ok()?)));
    removable.next()
}

/// The map that names every folder which is known and not named yet.
fn name_folders(ring: &RingMap, seen: &Seen) -> Option<MapDecision> {
    let known = seen.peers.iter().filter(|(node, presence)| !presence.is_stranger(ring, **node));
    let known = known.map(|(node, presence)| (*node, presence.folder)).chain([(seen.me, seen.folder)]);
    let mut next = ring.clone();
    let mut named = Vec::new();
    for (node, folder) in known {
        if let Ok(changed) = next.with_folder(node, folder) {
            next = changed;
            named.push(node);
        }
    }
    next.epoch = ring.epoch + 1;
    (!named.is_empty()).then(|| MapDecision::Change(Box::new(next), Change::Named(named)))
}

impl Seen {
    /// Whether a node is connected, with the folder that it should have.
    pub(super) fn is_there(&self, ring: &RingMap, node: NodeId) -> bool {
        node == self.me || self.peers.get(&node).is_some_and(|presence| !presence.is_stranger(ring, node))
    }

    /// How many bytes moves may write to a node's disk if so much is to be left free ([`super::FREE_AFTER_REPAIR`]); all there are if
    /// the disk is not known.
    pub(super) fn room_on(&self, node: NodeId, left_free: (u64, u64)) -> u64 {
        self.disks.get(&node).map_or(u64::MAX, |disk| disk.room.room_above(left_free.0, self.left_free_max(left_free)))
    }

    /// The most bytes that moves leave free of any disk.
    pub(super) fn left_free_max(&self, (_, bytes): (u64, u64)) -> u64 {
        let held = self.disks.values().map(|disk| disk.held_bytes).max().unwrap_or(0);
        bytes.min(FREE_MIN_BYTES.saturating_add(held.saturating_mul(FREE_TIMES_HELD)))
    }

    /// The highest level that every node of the map speaks; `None` unless all are there.
    pub(super) fn level_of_all(&self, ring: &RingMap) -> Option<u16> {
        let others = ring.nodes.iter().map(|node| NodeId(node.id)).filter(|node| *node != self.me);
        others
            .map(|node| self.peers.get(&node).map(|presence| presence.levels))
            .try_fold(self.levels.max, |level, levels| levels.map(|levels| level.min(levels.max)))
    }

    /// Whether a group can go on without its replica on a node: the others that are there and well are a majority.
    fn others_are_a_quorum(&self, ring: &RingMap, shard: ShardId, without: NodeId) -> bool {
        self.has_quorum(ring, shard, |node| node != without)
    }

    /// Whether a group's replicas that are there and well are a majority, of those on nodes that `counts` approves of. If the group
    /// moves, they are one of each set of voters that it may have on its way.
    pub(super) fn has_quorum(&self, ring: &RingMap, shard: ShardId, counts: impl Fn(NodeId) -> bool) -> bool {
        let Some(group) = ring.group(shard) else { return false };
        if planted(Bug::MovingCountedAsMoved) {
            return self.is_majority(ring, shard, &group.replicas, &counts);
        }
        group.possible_voters().iter().all(|voters| self.is_majority(ring, shard, voters, &counts))
    }

    /// Whether the group may have a majority that is there and well, as far as the map tells: one that moves has any of several sets
    /// of voters.
    pub(super) fn may_have_quorum(&self, ring: &RingMap, shard: ShardId) -> bool {
        let Some(group) = ring.group(shard) else { return false };
        group.possible_voters().iter().any(|voters| self.is_majority(ring, shard, voters, &|_| true))
    }

    fn is_majority(&self, ring: &RingMap, shard: ShardId, voters: &[Holder], counts: &dyn Fn(NodeId) -> bool) -> bool {
        let well = voters.iter().filter_map(|held| self.well_node_of(ring, shard, *held)).filter(|node| counts(*node));
        well.count() > voters.len() / 2
    }

    /// The node of a replica, if that is there and well.
    pub(super) fn well_node_of(&self, ring: &RingMap, shard: ShardId, held: Holder) -> Option<NodeId> {
        let replica = ReplicaId(held.replica);
        let node = ring.node_of(shard, replica).filter(|node| self.is_there(ring, *node))?;
        (!self.faulty.contains(&(node, shard, replica))).then_some(node)
    }
}

/// So many of the maps that a peer has sent are kept, the last ones. More than one: a wrong map must not take the place of the
/// right one before that, which the peer does not send again soon.
pub const WORDS_MAX: usize = 3;

/// The maps that peers have sent lately, each once, with those who have; the oldest first.
#[derive(Debug, Default)]
pub struct Words {
    all: Vec<(RingMap, BTreeSet<NodeId>)>,
}

impl Words {
    /// A peer has sent a map.
    pub fn hear(&mut self, from: NodeId, map: RingMap) {
        match self.all.iter_mut().find(|(known, _)| *known == map) {
            Some((_, said_by)) => drop(said_by.insert(from)),
            None => self.all.push((map, [from].into())),
        }
        let mut surplus = self.all.iter().filter(|(_, by)| by.contains(&from)).count().saturating_sub(WORDS_MAX);
        for (_, said_by) in &mut self.all {
            if surplus > 0 && said_by.remove(&from) {
                surplus -= 1;
            }
        }
        self.all.retain(|(_, said_by)| !said_by.is_empty());
    }

    /// Forgets what is no news to who knows this map.
    pub fn keep_news(&mut self, known: &RingMap) {
        self.all.retain(|(map, _)| map.epoch > known.epoch);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Where a node's peer door is by the newest map that anybody has sent. Good for nothing but to look there: whoever is met has
    /// to prove which node it is.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        let known = |(map, _): &(RingMap, _)| {
            let found = map.nodes.iter().find(|known| known.id == node.0)?;
            Some((map.epoch, found.peer.clone()))
        };
        self.all.iter().filter_map(known).max().map(|(_, address)| address)
    }

    /// The newest map that enough peers have sent, for a node that knows the map `known`.
    ///
    /// A node learns a map from its own replica of the group, which the log keeps honest, or from its peers: if it holds none, or
    /// if its replica can't follow the group, since it was wiped, replaced or cut off. A single peer's word is not enough. It may
    /// run a program that is broken, and a map with a far epoch would stay, and have every node that takes it erase what it holds.
    /// So one of these must have sent it:
    ///
    /// - A majority of the nodes that hold the group in the known map. Each change of the map was committed by a majority of the
    ///   group. The nodes that hold the group send it to every peer that does not have it: when they learn it or meet the peer, and
    ///   every 10 s while it lags. The others send it to a peer that has lagged for 10 s, or has had no map for 2 s.
    /// - At least two nodes, and a majority of those that hold the group in the new map, or of all its nodes; this one left out.
    ///   Those that the known map names may be gone: nodes are removed, and a node that was wiped knows the first map only.
    ///   After a recovery the group may be on one node. Its word is enough for a node that joins, which has nothing to lose and
    ///   nobody else to ask; for one that was a member before it is not.
    ///
    /// That a peer is a stranger by the map that is known here says nothing: that map may be the one that is out of date.
    pub fn of_majority(&self, known: &RingMap, me: NodeId) -> Option<&RingMap> {
        let needed = if planted(Bug::MapOfOnePeerTaken) { 1 } else { known.meta.replicas.len() / 2 + 1 };
        // A cluster of two has no second one to ask.
        let two = known.nodes.len().saturating_sub(1).clamp(1, 2);
        let is_agreed = |(map, said_by): &&(RingMap, BTreeSet<NodeId>)| {
            let of_new = |nodes: &mut dyn Iterator<Item = NodeId>, needed: usize| {
                let (said, all) = nodes
                    .filter(|node| *node != me)
                    .fold((0, 0), |(said, all), node| (said + usize::from(said_by.contains(&node)), all + 1));
                said >= needed && 2 * said > all
            };
            let joins = !known.has_node(me);
            let of_group = if joins && map.recoveries() > known.recoveries() { 1 } else { two };
            known.holders(ShardId::META).filter(|node| said_by.contains(node)).count() >= needed
                || of_new(&mut map.holders(ShardId::META), of_group)
                || of_new(&mut map.nodes.iter().map(|node| NodeId(node.id)), two)
        };
        self.all.iter().filter(is_agreed).map(|(map, _)| map).max_by_key(|map| map.epoch)
    }
}

/// Whether a node whose folder has never held a replica may open its replica of `meta` under the id that the first map
/// gives it. `answers` holds what each peer that said hello knows of this node. See the module's documentation for why it must
/// be every one.
pub fn may_bootstrap(first: &RingMap, me: NodeId, folder: FolderId, answers: &BTreeMap<NodeId, KnownOfPeer>) -> bool {
    let founders = || first.holders(ShardId::META);
    founders().any(|node| node == me)
        && founders().filter(|node| *node != me).all(|node| answers.contains_key(&node))
        && answers.values().all(|known| !known.replaced && known.folder.is_none_or(|known| known == folder))
}

#[cfg(test)]
mod tests {
    use super::super::RingNode;
    use super::super::tests::nodes;
    use super::*;
    use kvorum_protocol::{ClusterId, Durability};
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn folder(number: u128) -> FolderId {
        FolderId(Uuid::from_u128(1_000 + number))
    }

    fn first() -> RingMap {
        RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(3), 4, 3).unwrap()
    }

    fn named() -> RingMap {
        (1..=3).fold(first(), |map, number| map.with_folder(node(number), folder(number)).unwrap())
    }

    fn presence(number: u128) -> Presence {
        Presence { folder: folder(number), remembered: Some(folder(number)), connected_ms: 60_000, levels: Levels::OWN }
    }

    /// Node 1 leads, and all is well.
    fn seen() -> Seen {
        let peers = [(node(2), presence(2)), (node(3), presence(3))].into();
        Seen {
            me: node(1),
            folder: folder(1),
            levels: Levels::OWN,
            peers,
            faulty: BTreeSet::new(),
            settled: BTreeSet::new(),
            silent: BTreeMap::new(),
            steady: BTreeMap::new(),
            drained: BTreeMap::new(),
            tokens: BTreeMap::new(),
            moving: BTreeMap::new(),
            idle: BTreeMap::new(),
            declined: BTreeMap::new(),
            planned: BTreeSet::new(),
            disks: BTreeMap::new(),
            loads: BTreeMap::new(),
            places: true,
            clients: BTreeMap::new(),
            peer_addresses: BTreeMap::new(),
            data_keys: BTreeMap::new(),
        }
    }

    #[test]
    fn a_map_that_is_as_it_should_be_rests() {
        assert_eq!(decide(&named(), &seen()), MapDecision::Rest);
        let alone = Seen { peers: BTreeMap::new(), ..seen() };
        assert_eq!(decide(&named(), &alone), MapDecision::Rest, "a node that is away is not replaced");
    }

    #[test]
    fn folders_are_named_as_they_become_known() {
        let mut some = seen();
        some.peers.remove(&node(2));
        let MapDecision::Change(next, change) = decide(&first(), &some) else { panic!("folders are to be named") };
        assert_eq!(change, Change::Named(vec![node(3), node(1)]));
        assert_eq!(next.epoch, 2, "however many become known at once");
        assert_eq!([1, 2, 3].map(|number| next.folder_of(node(number))), [Some(folder(1)), None, Some(folder(3))]);
        let MapDecision::Change(all, change) = decide(&next, &seen()) else { panic!("the last one is to be named") };
        assert_eq!((all.epoch, change), (3, Change::Named(vec![node(2)])));
        assert_eq!(decide(&all, &seen()), MapDecision::Rest);
    }

    #[test]
    fn a_stranger_is_replaced_after_a_second() {
        for (map, remembered) in [
            // What the map names counts, whatever is remembered.
            (named(), Some(folder(3))),
            (named(), Some(folder(33))),
            (named(), None),
        ] {
            let mut strange = seen();
            let came = Presence {
                folder: folder(33),
                remembered,
                connected_ms: STRANGER_CONNECTED_MS - 1,
                levels: Levels::OWN,
            };
            strange.peers.insert(node(3), came);
            assert_eq!(decide(&map, &strange), MapDecision::Rest, "it has only just come");
            strange.peers.insert(node(3), Presence { connected_ms: STRANGER_CONNECTED_MS, ..came });
            let MapDecision::Change(next, change) = decide(&map, &strange) else { panic!("it is to be replaced") };
            assert_eq!(change, Change::Node(node(3)));
            assert_eq!(*next, map.replace_node(node(3), folder(33)).unwrap());
            assert_eq!(decide(&next, &strange), MapDecision::Rest, "it is done once");
        }
    }

    #[test]
    fn a_stranger_by_memory_alone_is_replaced_and_not_named() {
        let map = first().with_folder(node(1), folder(1)).unwrap().with_folder(node(2), folder(2)).unwrap();
        let mut strange = seen();
        strange.peers.insert(node(3), Presence { folder: folder(33), ..presence(3) });
        let MapDecision::Change(next, change) = decide(&map, &strange) else { panic!("it is to be replaced") };
        assert_eq!((change, next.folder_of(node(3))), (Change::Node(node(3)), Some(folder(33))));
        assert_ne!(next.held_by(node(3)), map.held_by(node(3)), "it has forgotten what its ids promised");
    }

    #[test]
    fn nothing_is_replaced_where_the_others_are_no_quorum() {
        let mut strange = seen();
        strange.peers.insert(node(3), Presence { folder: folder(33), ..presence(3) });
        strange.peers.remove(&node(2));
        assert_eq!(decide(&named(), &strange), MapDecision::Wait(Change::Node(node(3)), ShardId::META));

        let mut faulty = seen();
        faulty.faulty.insert((node(3), ShardId(2), named().replica_on(ShardId(2), node(3)).unwrap()));
        let other = named().replica_on(ShardId(2), node(2)).unwrap();
        faulty.faulty.insert((node(2), ShardId(2), other));
        assert!(matches!(decide(&named(), &faulty), MapDecision::Wait(Change::Replica(..), ShardId(2))));
        faulty.faulty.remove(&(node(2), ShardId(2), other));
        assert!(matches!(decide(&named(), &faulty), MapDecision::Change(_, Change::Replica(..))));
    }

    #[test]
    fn addresses_follow_what_nodes_say_and_wait_for_nothing() {
        let say = |number: u128, address: &str| (node(number), address.to_owned());
        let as_in_map = (1..=3).map(|number| say(number, &format!("127.0.0.1:{}", 7400 + number))).collect();
        let mut moved = Seen { clients: as_in_map, ..seen() };
        assert_eq!(decide(&named(), &moved), MapDecision::Rest);
        moved.clients.extend([say(1, "a.example:1"), say(3, "127.0.0.1:9999")]);
        let MapDecision::Change(next, change) = decide(&named(), &moved) else { panic!("they are to be written down") };
        let expected = ["a.example:1", "127.0.0.1:7402", "127.0.0.1:9999"];
        assert_eq!(
            (change, next.nodes.iter().map(|node| node.client.as_str()).collect::<Vec<_>>()),
            (Change::Addresses, expected.to_vec())
        );
        assert_eq!((next.epoch, &next.shards), (named().epoch + 1, &named().shards));
        assert_eq!(decide(&next, &moved), MapDecision::Rest);
        // Two nodes exchange theirs; a third one claims what is another one's.
        moved.clients = [say(1, "127.0.0.1:7402"), say(2, "127.0.0.1:7401")].into();
        assert!(matches!(decide(&named(), &moved), MapDecision::Change(_, Change::Addresses)));
        moved.clients = [say(1, "127.0.0.1:7402")].into();
        assert_eq!(decide(&named(), &moved), MapDecision::Rest, "clients would take one node for the other");
        moved.clients = [say(1, "nowhere"), say(2, "")].into();
        assert_eq!(decide(&named(), &moved), MapDecision::Rest, "these are no addresses");
        moved.clients.clear();
        let third = named().nodes[2].peer.clone();
        moved.peer_addresses = [say(1, "a.example:7410"), say(2, "nowhere"), say(3, &named().nodes[1].peer)].into();
        let MapDecision::Change(next, Change::Addresses) = decide(&named(), &moved) else { panic!("node 1 has moved") };
        let peers: Vec<&str> = next.nodes.iter().map(|node| node.peer.as_str()).collect();
        assert_eq!(peers, ["a.example:7410", &named().nodes[1].peer, &third], "that is node 2's");
        moved.peer_addresses.clear();
        // A replacement comes first, and one that waits holds nothing up.
        moved.clients = [say(2, "b.example:2")].into();
        moved.peers.insert(node(3), Presence { folder: folder(33), ..presence(3) });
        assert!(matches!(decide(&named(), &moved), MapDecision::Change(_, Change::Node(_))));
        moved.peers.remove(&node(2));
        assert!(matches!(decide(&named(), &moved), MapDecision::Change(_, Change::Addresses)));
    }

    #[test]
    fn a_map_is_taken_on_the_word_of_a_majority_of_its_group() {
        let five = RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(6), 4, 3).unwrap();
        let next = five.with_folder(node(1), folder(1)).unwrap();
        let far = RingMap { epoch: u64::MAX, ..next.clone() };
        let say = |words: &[(u128, &RingMap)]| -> Option<u64> {
            let mut heard = Words::default();
            words.iter().for_each(|(number, map)| heard.hear(node(*number), (*map).clone()));
            heard.of_majority(&five, node(6)).map(|map| map.epoch)
        };
        assert_eq!(five.meta.replicas.len(), 5);
        assert_eq!(say(&[(1, &next), (2, &next)]), None);
        assert_eq!(say(&[(1, &next), (2, &next), (3, &next)]), Some(next.epoch));
        assert_eq!(say(&[(1, &next), (2, &next), (9, &next)]), None, "node 9 is none of them");
        assert_eq!(say(&[(1, &far), (2, &next), (3, &next), (4, &next)]), Some(next.epoch), "one makes it up");
        assert_eq!(say(&[(1, &far), (2, &far), (3, &next), (4, &next)]), None);
        assert_eq!(
            say(&[(1, &next), (1, &far), (2, &next), (3, &next)]),
            Some(next.epoch),
            "one says something else later"
        );
        assert_eq!(say(&[(1, &next), (1, &next), (1, &next)]), None, "a peer counts once");
        let other = RingMap { epoch: next.epoch, ..five.clone() };
        assert_eq!(say(&[(1, &next), (2, &next), (3, &other)]), None, "the epoch alone is not the map");
    }

    #[test]
    fn a_node_whose_founders_are_gone_takes_the_word_of_those_who_came_after_them() {
        let known = first();
        // Nodes 2 and 3 are gone, and nodes 7 and 8 hold the group with node 1.
        let mut now = RingMap { epoch: 40, ..known.clone() };
        for (node, number) in now.nodes[1..].iter_mut().zip([7, 8]) {
            (node.id, node.slot) = (Uuid::from_u128(number), crate::ring::NodeSlot(number as u32));
        }
        for (held, slot) in now.meta.replicas[1..].iter_mut().zip([7, 8]) {
            held.node = crate::ring::NodeSlot(slot);
        }
        let alone = {
            let meta = crate::ring::ShardGroup { replicas: vec![now.meta.replicas[0]], ..now.meta.clone() };
            RingMap { epoch: u64::MAX, meta, ..now.clone() }
        };
        let say = |me: u128, words: &[(u128, &RingMap)]| {
            let mut heard = Words::default();
            words.iter().for_each(|(number, map)| heard.hear(node(*number), (*map).clone()));
            heard.of_majority(&known, node(me)).map(|map| map.epoch)
        };
        assert_eq!(say(2, &[(1, &now)]), None);
        assert_eq!(say(2, &[(1, &now), (7, &now)]), Some(40));
        assert_eq!(say(8, &[(1, &now), (7, &now)]), Some(40), "it is one of them, and was wiped");
        assert_eq!(say(2, &[(1, &alone)]), None, "one that is broken may make up a group of its own");
        assert_eq!(say(20, &[(1, &alone)]), Some(u64::MAX), "one that joins after a recovery has nobody else to ask");
        assert_eq!(say(20, &[(1, &now)]), None);
        // Of the new group one is wiped, too, and does not know the map; the others that are no part of it do.
        let grown = {
            let more = (11..=13).map(|number| RingNode {
                slot: crate::ring::NodeSlot(number as u32),
                ..RingNode::new(Uuid::from_u128(number), format!("node-{number}"))
            });
            RingMap { nodes: now.nodes.iter().cloned().chain(more).collect(), ..now.clone() }
        };
        assert_eq!(say(8, &[(7, &grown), (11, &grown)]), None);
        assert_eq!(say(8, &[(7, &grown), (11, &grown), (12, &grown)]), Some(40), "three of the five others");
        let mut heard = Words::default();
        (0..10).for_each(|epoch| heard.hear(node(1), RingMap { epoch, ..now.clone() }));
        assert_eq!(heard.all.len(), WORDS_MAX, "the last ones are kept");
        let moved = now.with_node(node(7), |known| known.peer = "elsewhere:7410".to_owned()).unwrap();
        heard.hear(node(3), RingMap { epoch: 50, ..moved });
        assert_eq!(heard.address_of(node(7)).as_deref(), Some("elsewhere:7410"), "by the newest, whoever says so");
        assert_eq!(heard.address_of(node(99)), None);
    }

    #[test]
    fn a_retired_folder_stays_out() {
        let map = named().replace_node(node(3), folder(33)).unwrap();
        assert_eq!(decide(&map, &seen()), MapDecision::Rest, "node 3 is back with the folder that was replaced");
    }

    #[test]
    fn a_faulty_replica_is_replaced_if_its_own_node_says_so() {
        let map = named();
        let replica = map.replica_on(ShardId(1), node(1)).unwrap();
        let mut faulty = seen();
        faulty.faulty.insert((node(1), ShardId(1), replica));
        let MapDecision::Change(next, change) = decide(&map, &faulty) else { panic!("it is to be replaced") };
        assert_eq!(change, Change::Replica(node(1), ShardId(1), replica));
        assert_eq!(*next, map.replace_replica(ShardId(1), replica).unwrap());
        assert_eq!(decide(&next, &faulty), MapDecision::Rest, "the report is out of date");
        faulty.faulty = [(node(2), ShardId(1), replica)].into();
        assert_eq!(decide(&map, &faulty), MapDecision::Rest, "the replica is not on that node");
    }

    #[test]
    fn meta_is_founded_by_nodes_that_nobody_knows_otherwise() {
        type Answers<'a> = &'a [(u128, Option<u128>, bool)];
        let answers = |answers: Answers<'_>| -> BTreeMap<NodeId, KnownOfPeer> {
            let known = |knows: Option<u128>, replaced| KnownOfPeer { folder: knows.map(folder), replaced };
            answers.iter().map(|(number, knows, replaced)| (node(*number), known(*knows, *replaced))).collect()
        };
        let cases: [(Answers<'_>, bool, &str); 6] = [
            (&[(2, None, false), (3, None, false)], true, "nobody has met this node"),
            (&[(2, Some(1), false), (3, None, false)], true, "one has met it with this folder"),
            (&[(2, None, false)], false, "the other one may know better"),
            (&[], false, "nobody has said anything"),
            (&[(2, None, false), (3, Some(11), false)], false, "it had another folder"),
            (
                &[(2, Some(1), true), (3, None, false)],
                false,
                "another folder's replica was replaced by one of this folder",
            ),
        ];
        for (said, expected, why) in cases {
            assert_eq!(may_bootstrap(&first(), node(1), folder(1), &answers(said)), expected, "{why}");
        }
        let four = RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(4), 4, 3).unwrap();
        assert!(
            !may_bootstrap(
                &four,
                node(4),
                folder(4),
                &answers(&[(1, None, false), (2, None, false), (3, None, false)])
            ),
            "it holds none"
        );
        assert!(
            may_bootstrap(&four, node(1), folder(1), &answers(&[(2, None, false), (3, None, false)])),
            "node 4 has no say in it"
        );
        let one = RingMap::initial(ClusterId(Uuid::from_u128(99)), Durability::Fsync, nodes(1), 4, 1).unwrap();
        assert!(may_bootstrap(&one, node(1), folder(1), &BTreeMap::new()), "there is nobody to ask");
    }
}
