//! Which nodes are down: what the leader of `meta` has seen of the others, over time. It forgets that when it does not lead.
//!
//! A node is heard if the leader is connected with it, or if at least half of the nodes that report are: a link that only the leader
//! has lost is no reason to give a node up (partial partitions, cockroachdb/cockroach#84289).

use super::{DECLINED_FOR_MS, Holder, MOVE_IDLE_MAX_MS, NodeSlot, NodeState, RingMap, ShardGroup};
use crate::clock::Nanos;
use crate::snapshot::limits::OFFERS_MAX;
use kvorum_protocol::{NodeId, ShardId, TokenId};
use std::collections::{BTreeMap, BTreeSet};

/// A newcomer that has to begin anew is as good as one that goes on, so often. One whose disk takes no more begins anew for ever.
const BEGUN_ANEW_MAX: u32 = 3;
/// A newcomer is excused for so long at most: what sends to nobody else for so long sends to nobody.
const EXCUSED_MAX_MS: u64 = 3 * MOVE_IDLE_MAX_MS;
/// A newcomer that took something in within this time is at it, in milliseconds: chunks that were lost are pulled again within it.
const AT_IT_MS: u64 = 30_000;

/// What was seen.
#[derive(Debug, Default)]
pub struct NodeWatch {
    of: BTreeMap<NodeId, Sight>,
    /// Since when nodes are drained, and for how long.
    drained: BTreeMap<NodeId, (Nanos, Option<u64>)>,
    /// Since when tokens are known.
    tokens: BTreeMap<TokenId, Nanos>,
    moving: BTreeMap<ShardId, Moving>,
    /// When nodes were last seen to take nothing of a move for too long.
    declined: BTreeMap<NodeId, Nanos>,
}

/// A group's move.
#[derive(Clone, Copy, Debug)]
struct Moving {
    /// The epoch that has begun it.
    of: u64,
    /// When it was first seen.
    since: Nanos,
    /// How far the newcomer has come, if its node tells.
    taken_in: Option<u64>,
    /// When it came further.
    changed_at: Nanos,
    /// It has come further since the move began.
    has_begun: bool,
    /// How often it had to begin anew.
    begun_anew: u32,
}

impl Moving {
    /// The newcomer is so far now.
    fn note(&mut self, taken_in: Option<u64>, now: Nanos) {
        let goes_on = match (self.taken_in, taken_in) {
            // Who does not tell may be at it.
            (_, None) | (None, Some(_)) => true,
            (Some(before), Some(after)) if after < before => {
                self.begun_anew += 1;
                self.begun_anew <= BEGUN_ANEW_MAX
            }
            (Some(before), Some(after)) => after > before,
        };
        if goes_on {
            self.has_begun |= self.taken_in.is_some() && taken_in.is_some();
            (self.taken_in, self.changed_at) = (taken_in, now);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    /// When it was heard last, or when this began.
    heard_at: Nanos,
    /// Since when it is heard without a break; `None` while it is not.
    since: Option<Nanos>,
}

/// What the leader hears at a moment.
#[derive(Debug)]
pub struct Heard<'a> {
    /// The nodes that the leader is connected with.
    pub connected: BTreeSet<NodeId>,
    /// How many of the others are connected with each node.
    pub by: &'a BTreeMap<NodeId, usize>,
    /// How many of the others report.
    pub reports: usize,
    /// How far the replicas are that come to nodes by moves, as these tell: numbers that change while they take something in.
    pub coming: &'a BTreeMap<(ShardId, NodeId), u64>,
}

impl NodeWatch {
    /// Takes a look at all nodes of the map but the leader's own.
    pub fn look(&mut self, now: Nanos, ring: &RingMap, me: NodeId, heard: &Heard<'_>) {
        let others = ring.nodes.iter().map(|node| NodeId(node.id)).filter(|node| *node != me);
        let before = std::mem::take(&mut self.of);
        for node in others {
            // It may have been gone for long, or for a moment: from here on it is known.
            let mut sight = before.get(&node).copied().unwrap_or(Sight { heard_at: now, since: None });
            let by = heard.by.get(&node).copied().unwrap_or(0);
            if heard.connected.contains(&node) || by > 0 && 2 * by >= heard.reports {
                sight = Sight { heard_at: now, since: sight.since.or(Some(now)) };
            } else {
                sight.since = None;
            }
            self.of.insert(node, sight);
        }
        let drained_before = std::mem::take(&mut self.drained);
        for node in ring.nodes.iter().filter(|node| node.state == NodeState::Draining) {
            let id = NodeId(node.id);
            // Whoever announces another absence begins it now.
            let same = drained_before.get(&id).copied().filter(|(_, for_ms)| *for_ms == node.absence_ms);
            self.drained.insert(id, same.unwrap_or((now, node.absence_ms)));
        }
        let tokens_before = std::mem::take(&mut self.tokens);
        let since = |id: TokenId| (id, tokens_before.get(&id).copied().unwrap_or(now));
        self.tokens = ring.tokens.iter().map(|token| since(TokenId(token.id))).collect();
        let moving_before = std::mem::take(&mut self.moving);
        for (shard, group) in ring.group_ids().zip(ring.groups()).filter(|(_, group)| group.is_moving()) {
            let newcomer = taker(ring, group);
            let taken_in = newcomer.and_then(|node| heard.coming.get(&(shard, node)).copied());
            let begun =
                Moving { of: group.since, since: now, taken_in, changed_at: now, has_begun: false, begun_anew: 0 };
            let before = moving_before.get(&shard).copied().filter(|before| before.of == group.since);
            let mut moving = before.unwrap_or(begun);
            moving.note(taken_in, now);
            self.moving.insert(shard, moving);
        }
        self.wait_for_senders(now, ring);
        for (shard, moving) in &self.moving {
            if now.ms_since(moving.changed_at) >= MOVE_IDLE_MAX_MS {
                let newcomer = ring.group(*shard).and_then(|group| taker(ring, group));
                self.declined.extend(newcomer.map(|node| (node, now)));
            }
        }
        self.declined.retain(|_, at| now.ms_since(*at) < DECLINED_FOR_MS);
    }

    /// A newcomer is not to blame for having begun with nothing while a node that may send to it is busy sending to others: a node
    /// sends to [`OFFERS_MAX`] at a time.
    fn wait_for_senders(&mut self, now: Nanos, ring: &RingMap) {
        let senders = |shard: ShardId| {
            let group = ring.group(shard);
            let newcomer = group.and_then(ShardGroup::newcomer);
            let held = group.into_iter().flat_map(ShardGroup::held).copied();
            held.filter(move |held: &Holder| Some(*held) != newcomer).map(|held| held.node)
        };
        let mut busy: BTreeMap<NodeSlot, usize> = BTreeMap::new();
        for (shard, _) in
            self.moving.iter().filter(|(_, moving)| moving.has_begun && now.ms_since(moving.changed_at) < AT_IT_MS)
        {
            senders(*shard).for_each(|slot| *busy.entry(slot).or_default() += 1);
        }
        let waits = |moving: &Moving| !moving.has_begun && now.ms_since(moving.since) < EXCUSED_MAX_MS;
        for (shard, moving) in self.moving.iter_mut().filter(|(_, moving)| waits(moving)) {
            if senders(*shard).any(|slot| busy.get(&slot).is_some_and(|count| *count >= OFFERS_MAX)) {
                moving.changed_at = now;
            }
        }
    }

    /// Forgets everything: another node looks now.
    pub fn forget(&mut self) {
        self.of.clear();
        self.drained.clear();
        self.tokens.clear();
        self.moving.clear();
        self.declined.clear();
    }

    /// For how long each node was not heard, in milliseconds; those that are heard are left out.
    pub fn silent(&self, now: Nanos) -> BTreeMap<NodeId, u64> {
        let silent = self.of.iter().filter(|(_, sight)| sight.since.is_none());
        silent.map(|(node, sight)| (*node, now.ms_since(sight.heard_at))).collect()
    }

    /// For how long each node has been drained, in milliseconds.
    pub fn drained(&self, now: Nanos) -> BTreeMap<NodeId, u64> {
        self.drained.iter().map(|(node, (since, _))| (*node, now.ms_since(*since))).collect()
    }

    /// For how long each token has been known, in milliseconds.
    pub fn tokens(&self, now: Nanos) -> BTreeMap<TokenId, u64> {
        self.tokens.iter().map(|(token, since)| (*token, now.ms_since(*since))).collect()
    }

    /// For how long each group that moves has been at this move, in milliseconds.
    pub fn moving(&self, now: Nanos) -> BTreeMap<ShardId, u64> {
        self.moving.iter().map(|(shard, moving)| (*shard, now.ms_since(moving.since))).collect()
    }

    /// For how long the newcomer of each group that moves has taken nothing in, in milliseconds.
    pub fn idle(&self, now: Nanos) -> BTreeMap<ShardId, u64> {
        self.moving.iter().map(|(shard, moving)| (*shard, now.ms_since(moving.changed_at))).collect()
    }

    /// For how long nodes are known that took nothing of a move for too long, in milliseconds.
    pub fn declined(&self, now: Nanos) -> BTreeMap<NodeId, u64> {
        self.declined.iter().map(|(node, at)| (*node, now.ms_since(*at))).collect()
    }

    /// For how long each node was heard without a break, in milliseconds.
    pub fn steady(&self, now: Nanos) -> BTreeMap<NodeId, u64> {
        self.of.iter().filter_map(|(node, sight)| Some((*node, now.ms_since(sight.since?)))).collect()
    }
}

/// The node of a group's newcomer.
fn taker(ring: &RingMap, group: &ShardGroup) -> Option<NodeId> {
    group.newcomer().and_then(|held| ring.node_at(held.node)).map(|node| NodeId(node.id))
}

#[cfg(test)]
mod tests {
    use super::super::tests::nodes;
    use super::*;
    use kvorum_protocol::{ClusterId, Durability};
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn at(ms: u64) -> Nanos {
        Nanos(0).after_ms(ms)
    }

    #[test]
    fn a_node_is_silent_only_if_the_leader_and_most_of_the_others_do_not_hear_it() {
        let ring = RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes(5), 1, 3).unwrap();
        let mut watch = NodeWatch::default();
        let mut look = |ms, connected: &[u128], by: &[(u128, usize)]| {
            let by = by.iter().map(|(number, count)| (node(*number), *count)).collect();
            let heard = Heard {
                connected: connected.iter().copied().map(node).collect(),
                by: &by,
                reports: 3,
                coming: &BTreeMap::new(),
            };
            watch.look(at(ms), &ring, node(1), &heard);
            (watch.silent(at(ms)), watch.steady(at(ms)))
        };
        let (silent, steady) = look(1_000, &[2, 3, 4, 5], &[]);
        assert!(silent.is_empty() && steady.len() == 4, "all but the leader itself");
        let (silent, steady) = look(3_000, &[2, 3], &[(4, 2), (5, 1)]);
        assert_eq!(silent, [(node(5), 2_000)].into(), "one of three hears it, two of three hear node 4");
        assert_eq!((steady[&node(4)], steady.get(&node(5))), (2_000, None));
        let (silent, steady) = look(9_000, &[2, 3, 5], &[]);
        assert_eq!(silent, [(node(4), 6_000)].into());
        assert_eq!(steady[&node(5)], 0, "it begins anew");
    }

    #[test]
    fn a_move_is_idle_from_when_its_newcomer_took_something_in_last() {
        let ring = RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes(4), 1, 3).unwrap();
        let group = &ring.shards[0];
        let to = ring.nodes.iter().map(|node| node.slot).find(|slot| group.held().all(|held| held.node != *slot));
        let (to, shard) = (to.unwrap(), ShardId(0));
        let ring = ring.move_replica(shard, group.replicas[0].node, to).unwrap();
        let taker = NodeId(ring.node_at(to).unwrap().id);
        let mut watch = NodeWatch::default();
        let mut look = |ms, taken_in: Option<u64>| {
            let coming = taken_in.map(|number| ((shard, taker), number)).into_iter().collect();
            let heard = Heard { connected: BTreeSet::new(), by: &BTreeMap::new(), reports: 0, coming: &coming };
            watch.look(at(ms), &ring, node(1), &heard);
            (watch.idle(at(ms))[&shard], watch.declined(at(ms)).contains_key(&taker))
        };
        assert_eq!(look(1_000, Some(0)), (0, false));
        assert_eq!(look(3_000, Some(0)), (2_000, false));
        assert_eq!(look(4_000, Some(9)), (0, false));
        assert_eq!(look(6_000, None), (0, false), "a program that does not tell may be at it");
        assert_eq!(look(7_000, Some(9)), (0, false));
        assert_eq!(look(7_000 + MOVE_IDLE_MAX_MS, Some(9)), (MOVE_IDLE_MAX_MS, true));
        assert_eq!(look(8_000 + MOVE_IDLE_MAX_MS, Some(10)), (0, true), "it is still given nothing else");
        assert_eq!(look(8_000 + MOVE_IDLE_MAX_MS + DECLINED_FOR_MS, Some(11)), (0, false));
    }

    #[test]
    fn a_newcomer_that_begins_anew_again_and_again_takes_nothing_in() {
        let ring = RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes(4), 1, 3).unwrap();
        let group = &ring.shards[0];
        let to = ring.nodes.iter().map(|node| node.slot).find(|slot| group.held().all(|held| held.node != *slot));
        let ring = ring.move_replica(ShardId(0), group.replicas[0].node, to.unwrap()).unwrap();
        let taker = NodeId(ring.node_at(to.unwrap()).unwrap().id);
        let mut watch = NodeWatch::default();
        let mut look = |ms, taken_in: u64| {
            let coming = [((ShardId(0), taker), taken_in)].into();
            let heard = Heard { connected: BTreeSet::new(), by: &BTreeMap::new(), reports: 0, coming: &coming };
            watch.look(at(ms), &ring, node(1), &heard);
            watch.idle(at(ms))[&ShardId(0)]
        };
        // Its disk has room for a half.
        let mut ms = 1_000;
        for _ in 0..=BEGUN_ANEW_MAX {
            assert_eq!([look(ms, 10), look(ms + 1_000, 500)], [0, 0]);
            ms += 2_000;
        }
        let idle = [look(ms, 10), look(ms + 1_000, 500), look(ms + 2_000, 20), look(ms + 3_000, 501)];
        assert_eq!(idle, [1_000, 2_000, 3_000, 0], "it comes further again only beyond where it was");
    }

    #[test]
    fn a_newcomer_that_waits_for_its_turn_is_not_blamed() {
        // One node holds everything, and all of it moves to others.
        let ring = RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes(4), 4, 1).unwrap();
        let slots: Vec<NodeSlot> = ring.nodes.iter().map(|node| node.slot).collect();
        let mut ring = ring;
        for group in &mut ring.shards {
            group.replicas[0].node = slots[0];
        }
        let moved = |ring: RingMap, shard: u16, to: usize| ring.move_replica(ShardId(shard), slots[0], slots[to]);
        let ring = moved(moved(moved(ring, 0, 1).unwrap(), 1, 2).unwrap(), 2, 3).unwrap();
        let of =
            |shard: u16| NodeId(ring.node_at(ring.shards[usize::from(shard)].newcomer().unwrap().node).unwrap().id);
        let mut watch = NodeWatch::default();
        let mut look = |ms, taken_in: [u64; 3]| {
            let coming = (0..3).zip(taken_in).map(|(shard, number)| ((ShardId(shard), of(shard)), number)).collect();
            let heard = Heard { connected: BTreeSet::new(), by: &BTreeMap::new(), reports: 0, coming: &coming };
            watch.look(at(ms), &ring, node(9), &heard);
            watch.idle(at(ms))[&ShardId(2)]
        };
        look(0, [0; 3]);
        let mut ms = 1_000;
        while ms < 2 * MOVE_IDLE_MAX_MS {
            assert_eq!(look(ms, [ms, ms, 0]), 0, "two others are being sent to");
            ms += 10_000;
        }
        assert_eq!(look(ms, [ms, 1, 0]), 0, "the other one may have paused");
        assert_eq!(look(ms + AT_IT_MS, [ms + 1, 1, 0]), AT_IT_MS);
        assert!(!watch.declined(at(ms)).contains_key(&of(2)));
    }

    #[test]
    fn a_token_ages_from_when_this_leader_sees_it() {
        use super::super::RingToken;
        let mut ring = RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes(3), 1, 3).unwrap();
        let token = |number| -> RingToken {
            let key = "00".repeat(32);
            let text = format!(r#"{{"id":"{}","key":"{key}","for_ms":1000}}"#, Uuid::from_u128(number));
            serde_json::from_str(&text).unwrap()
        };
        let mut watch = NodeWatch::default();
        let mut look = |ms, ring: &RingMap| {
            let heard =
                Heard { connected: BTreeSet::new(), by: &BTreeMap::new(), reports: 0, coming: &BTreeMap::new() };
            watch.look(at(ms), ring, node(1), &heard);
            watch.tokens(at(ms)).into_values().collect::<Vec<_>>()
        };
        ring.tokens = vec![token(1)];
        assert_eq!(look(1_000, &ring), [0]);
        ring.tokens.push(token(2));
        assert_eq!(look(3_000, &ring), [2_000, 0]);
        ring.tokens.remove(0);
        assert_eq!(look(4_000, &ring), [1_000], "one that is gone is forgotten");
    }
}
