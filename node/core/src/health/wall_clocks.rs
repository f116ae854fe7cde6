//! What the nodes' wall clocks show, as far as this node has been told: the time that a majority of them have reached, and
//! whether this node's own is one of those to be believed.
//!
//! *A time that a majority has reached*, and not a mean: with a minority of clocks wrong, however far and in whatever direction, it
//! is never later than the latest right clock shows, and never earlier than the earliest one as long as all right ones are
//! heard. A clock that is not heard counts as one that has reached nothing. So a node that has just started waits a while for
//! all of them: a group whose log time begins with the clock of the minority would end all times to live when it is led back.

use crate::clock::{Nanos, Now};
use kvorum_protocol::NodeId;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// A clock that differs by more than this from those of a majority is wrong. Clocks that are kept by NTP differ by milliseconds, and
/// what is heard is late by less than a second unless the network stands still.
pub const OFF_MS: i64 = 2_000;
/// A wrong clock is right again once it differs by less than this.
const RIGHT_MS: i64 = 1_000;
/// What a peer said holds for this long, in milliseconds.
const HOLDS_MS: u64 = 10_000;
/// For so long a node waits for the clocks of all others before a majority of them will do, in milliseconds: less than a leader waits
/// that knows no log time.
const ALL_WAIT_MS: u64 = 1_500;
/// Of what a peer said lately the earliest to arrive counts: so many are kept.
const HEARD_MAX: usize = 8;

/// Clocks of a cluster's nodes, as one of them sees them.
#[derive(Debug, Default)]
pub struct WallClocks {
    peers: BTreeMap<NodeId, VecDeque<Heard>>,
    off: bool,
    /// When this node judged first.
    began: Option<Nanos>,
    /// All have been heard, or were waited for.
    is_ready: bool,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Nanos,
    /// What the clock is ahead of this node's monotonic one, in milliseconds; less by as much as the message took.
    ahead_ms: i128,
}

/// What a node makes of the clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judgement {
    /// The Unix time that a majority of clocks have reached, in milliseconds; `None` if no majority is heard.
    pub agreed_ms: Option<u64>,
    /// What this node's clock is ahead of that, in milliseconds; 0 if it is not known.
    pub ahead_ms: i64,
    /// A majority of the nodes have clocks that differ from this node's, all in the same direction.
    pub off: bool,
    /// That has just begun, or has just ended.
    pub off_changed: bool,
}

impl WallClocks {
    /// A peer says what its wall clock shows.
    pub fn hear(&mut self, peer: NodeId, wall_ms: u64, now: Nanos) {
        let heard = self.peers.entry(peer).or_default();
        if heard.len() == HEARD_MAX {
            heard.pop_front();
        }
        heard.push_back(Heard { at: now, ahead_ms: i128::from(wall_ms) - monotonic_ms(now) });
    }

    /// What the clocks of `me` and of the other `nodes` of the cluster amount to at `now`.
    pub fn judge(&mut self, now: Now, me: NodeId, nodes: impl IntoIterator<Item = NodeId>) -> Judgement {
        let own = i128::from(now.wall_ms) - monotonic_ms(now.monotonic);
        let mut ahead = vec![own];
        let mut count = 1;
        for node in nodes.into_iter().filter(|node| *node != me) {
            count += 1;
            ahead.extend(self.ahead_ms(node, now.monotonic));
        }
        let majority = count / 2 + 1;
        let bound = i128::from(if self.off { RIGHT_MS } else { OFF_MS });
        let others = |differs: &dyn Fn(i128) -> bool| ahead[1..].iter().filter(|of| differs(**of)).count() >= majority;
        // Too few to say anything: what was found stays.
        let hears_enough = ahead.len() > majority;
        let differs = others(&|of| of > own + bound) || others(&|of| of < own - bound);
        let off = if hears_enough { differs } else { self.off };
        let off_changed = std::mem::replace(&mut self.off, off) != off;
        let began = *self.began.get_or_insert(now.monotonic);
        self.is_ready |= ahead.len() == count || now.monotonic.ms_since(began) >= ALL_WAIT_MS;
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        let agreed = ahead.get(majority - 1).copied().filter(|_| self.is_ready);
        Judgement {
            agreed_ms: agreed.map(|ahead| (ahead + monotonic_ms(now.monotonic)).clamp(0, u64::MAX.into()) as u64),
            ahead_ms: agreed.map_or(0, |agreed| (own - agreed).clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            off,
            off_changed,
        }
    }

    fn ahead_ms(&self, peer: NodeId, now: Nanos) -> Option<i128> {
        let fresh = self.peers.get(&peer)?.iter().filter(|heard| now.ms_since(heard.at) <= HOLDS_MS);
        fresh.map(|heard| heard.ahead_ms).max()
    }
}

fn monotonic_ms(at: Nanos) -> i128 {
    i128::from(at.0 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const START_MS: u64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;
    const YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn at(seconds: u64, offset_ms: i64) -> Now {
        Now {
            monotonic: Nanos(3).after_ms(seconds * 1_000),
            wall_ms: (START_MS + seconds * 1_000).saturating_add_signed(offset_ms),
            agreed_ms: None,
        }
    }

    /// What node 0 makes of it if its own clock and those that it hears are off by so much: what a majority of all shows is off by,
    /// and whether its own clock is off.
    fn judged(own: i64, heard: &[i64], nodes: u128) -> (Option<i64>, bool) {
        let mut clocks = WallClocks { is_ready: true, ..WallClocks::default() };
        for (peer, offset) in (1..).zip(heard) {
            clocks.hear(node(peer), at(5, *offset).wall_ms, at(5, 0).monotonic);
        }
        let judged = clocks.judge(at(7, own), node(0), (0..nodes).map(node));
        let off_by = |agreed: u64| agreed as i64 - at(7, 0).wall_ms as i64;
        (judged.agreed_ms.map(off_by), judged.off)
    }

    #[test]
    fn a_minority_moves_nothing() {
        for wrong in [YEARS_MS, HOUR_MS, -HOUR_MS, -YEARS_MS] {
            assert_eq!(judged(0, &[0, wrong], 3), (Some(0), false));
            assert_eq!(judged(wrong, &[0, 0], 3), (Some(0), true), "it is this node's own");
            assert_eq!(judged(0, &[wrong, 0, wrong, 0], 5), (Some(0), false));
            assert_eq!(judged(wrong, &[-wrong, 0, 0, 0], 5), (Some(0), true));
        }
    }

    #[test]
    fn clocks_that_are_not_heard_have_reached_nothing() {
        assert_eq!(judged(0, &[], 3), (None, false));
        assert_eq!(judged(0, &[YEARS_MS], 3), (Some(0), false), "one is as good as the other");
        assert_eq!(judged(0, &[-HOUR_MS], 3), (Some(-HOUR_MS), false));
        assert_eq!(judged(0, &[50, 20], 5), (Some(0), false));
        assert_eq!(judged(0, &[50], 5), (None, false));
    }

    #[test]
    fn a_node_alone_believes_itself() {
        assert_eq!(judged(YEARS_MS, &[], 1), (Some(YEARS_MS), false));
        assert_eq!(judged(0, &[7], 1), (Some(0), false), "a stranger's clock does not count");
    }

    #[test]
    fn a_late_message_and_small_differences_are_nothing() {
        assert_eq!(judged(0, &[OFF_MS, OFF_MS], 3), (Some(OFF_MS), false));
        assert_eq!(judged(0, &[OFF_MS + 1, OFF_MS + 2], 3), (Some(OFF_MS + 1), true));
        assert_eq!(judged(0, &[OFF_MS + 1, -OFF_MS - 1], 3), (Some(0), false), "nobody is more right than it");
        let mut clocks = WallClocks::default();
        for late in [0, 3, 9] {
            (1..3).for_each(|peer| clocks.hear(node(peer), at(10, 0).wall_ms, at(10 + late, 0).monotonic));
        }
        assert!(!clocks.judge(at(20, 0), node(0), (0..3).map(node)).off);
    }

    #[test]
    fn what_was_heard_grows_old_and_a_change_is_told_once() {
        let mut clocks = WallClocks::default();
        let hear = |clocks: &mut WallClocks, second, offset| {
            (1..3).for_each(|peer| clocks.hear(node(peer), at(second, offset).wall_ms, at(second, 0).monotonic));
        };
        let judge = |clocks: &mut WallClocks, second| {
            let judged = clocks.judge(at(second, HOUR_MS), node(0), (0..3).map(node));
            (judged.off, judged.off_changed, judged.ahead_ms)
        };
        hear(&mut clocks, 1, 0);
        assert_eq!(judge(&mut clocks, 1), (true, true, HOUR_MS));
        assert_eq!(judge(&mut clocks, 2), (true, false, HOUR_MS));
        hear(&mut clocks, 3, HOUR_MS - RIGHT_MS - 1);
        assert_eq!(judge(&mut clocks, 3), (true, false, RIGHT_MS + 1));
        hear(&mut clocks, 4, HOUR_MS - RIGHT_MS);
        assert_eq!(judge(&mut clocks, 4), (false, true, RIGHT_MS));
        assert_eq!(
            clocks.judge(at(14, 0), node(0), (0..3).map(node)).agreed_ms,
            Some(at(14, -RIGHT_MS + HOUR_MS).wall_ms)
        );
    }

    #[test]
    fn a_node_that_hears_too_few_is_no_better_than_it_was() {
        let mut clocks = WallClocks::default();
        let hear = |clocks: &mut WallClocks, peer, second| {
            clocks.hear(node(peer), at(second, 0).wall_ms, at(second, 0).monotonic);
        };
        let judge = |clocks: &mut WallClocks, second| clocks.judge(at(second, HOUR_MS), node(0), (0..3).map(node)).off;
        (1..3).for_each(|peer| hear(&mut clocks, peer, 1));
        assert!(judge(&mut clocks, 1));
        hear(&mut clocks, 1, 20);
        assert!(judge(&mut clocks, 21), "the other one has been silent for long");
    }

    /// A minority that is heard first says nothing.
    #[test]
    fn a_node_that_has_just_started_waits_for_all_clocks_and_not_for_long() {
        let wrong = |clocks: &mut WallClocks| {
            clocks.hear(node(1), at(1, -YEARS_MS).wall_ms, at(1, 0).monotonic);
            clocks.hear(node(2), at(1, 0).wall_ms, at(1, 0).monotonic);
        };
        let judge = |clocks: &mut WallClocks, second, offset| {
            clocks.judge(at(second, offset), node(0), (0..5).map(node)).agreed_ms
        };
        let mut clocks = WallClocks::default();
        wrong(&mut clocks);
        assert_eq!(judge(&mut clocks, 1, -YEARS_MS), None);
        (3..5).for_each(|peer| clocks.hear(node(peer), at(2, 0).wall_ms, at(2, 0).monotonic));
        assert_eq!(judge(&mut clocks, 2, -YEARS_MS), Some(at(2, 0).wall_ms));
        let mut clocks = WallClocks::default();
        wrong(&mut clocks);
        assert_eq!(judge(&mut clocks, 1, 0), None);
        assert_eq!(judge(&mut clocks, 3, 0), Some(at(3, -YEARS_MS).wall_ms), "others may be down for ever");
    }

    #[test]
    fn what_nobody_says_any_more_counts_no_longer() {
        let mut clocks = WallClocks::default();
        (1..3).for_each(|peer| clocks.hear(node(peer), at(4, 0).wall_ms, at(4, 0).monotonic));
        assert_eq!(clocks.judge(at(15, 0), node(0), (0..3).map(node)).agreed_ms, None);
    }
}
