//! Whether the ring map in force here was the newest one at some moment.
//!
//! A node that was cut off has an old map. If it comes to lead a shard, it must not bring back the replicas of that map: a later one may
//! have told their nodes that the group goes on without them, and they erase what they have. So a leader follows a map only if that was the
//! newest at a moment after its election. The group settled for every earlier map before that.
//!
//! Nodes ask each second. The leader of the ring map's group answers what came before a moment at which it has proof that it led
//! ([`crate::shard::ReplicaStatus::proved_at`]): the reading of a log by heartbeats of Ongaro's thesis, section 6.4.

use crate::clock::Nanos;
use kvorum_protocol::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Questions that are kept at most, one for each node.
const ASKED_MAX: usize = 4_096;

/// What was asked and answered about the newest map.
#[derive(Default)]
pub struct MapNews(Mutex<News>);

#[derive(Default)]
struct News {
    /// The last question of each node: its number, and when it came.
    asked: BTreeMap<NodeId, (u64, Nanos)>,
    /// The last question of this node: when it was sent.
    asks: Nanos,
    newest: Option<Newest>,
}

/// A map that was the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newest {
    /// At some moment from then on.
    pub from: Nanos,
    /// The map's epoch.
    pub epoch: u64,
}

impl MapNews {
    /// This node asks now. Gives the question's number.
    pub fn ask(&self, now: Nanos) -> u64 {
        self.0.lock().asks = now;
        now.0
    }

    /// A peer asks.
    pub fn hear_question(&self, from: NodeId, number: u64, now: Nanos) {
        let mut news = self.0.lock();
        if news.asked.len() < ASKED_MAX || news.asked.contains_key(&from) {
            news.asked.insert(from, (number, now));
        }
    }

    /// A peer answers a question of this node. What answers no question of this process is nothing.
    pub fn hear_answer(&self, number: u64, epoch: u64) {
        let asks = self.0.lock().asks;
        if number <= asks.0 {
            self.note(Newest { from: Nanos(number), epoch });
        }
    }

    /// It is known which map was the newest at some moment.
    pub fn note(&self, newest: Newest) {
        let mut news = self.0.lock();
        if news.newest.is_none_or(|known| newest.from > known.from && newest.epoch >= known.epoch) {
            news.newest = Some(newest);
        }
    }

    /// The questions that came until then: from whom, and their numbers. They are gone then.
    pub fn take_questions(&self, until: Nanos) -> Vec<(NodeId, u64)> {
        let mut news = self.0.lock();
        let due = news.asked.extract_if(.., |_, (_, came_at)| *came_at <= until);
        due.map(|(node, (number, _))| (node, number)).collect()
    }

    /// Whether a map of this epoch, or a later one, was the newest at some moment after `since`.
    pub fn was_newest(&self, epoch: u64, since: Nanos) -> bool {
        self.0.lock().newest.is_some_and(|newest| newest.from > since && newest.epoch <= epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_question_is_answered_once_the_leader_has_proof_from_after_it() {
        let news = MapNews::default();
        let node = |number| NodeId(Uuid::from_u128(number));
        news.hear_question(node(1), 10, Nanos(100));
        news.hear_question(node(2), 20, Nanos(200));
        news.hear_question(node(1), 11, Nanos(150));
        assert_eq!(news.take_questions(Nanos(149)), []);
        assert_eq!(news.take_questions(Nanos(150)), [(node(1), 11)]);
        assert_eq!(news.take_questions(Nanos(900)), [(node(2), 20)]);
        assert_eq!(news.take_questions(Nanos(900)), []);
    }

    #[test]
    fn a_map_is_the_newest_as_of_when_it_was_asked_for() {
        let news = MapNews::default();
        news.hear_answer(7, 3);
        assert!(!news.was_newest(3, Nanos(0)), "nobody has asked that");
        assert_eq!(news.ask(Nanos(50)), 50);
        news.hear_answer(50, 3);
        assert!(news.was_newest(3, Nanos(49)) && news.was_newest(4, Nanos(49)));
        assert!(!news.was_newest(2, Nanos(49)), "a later one was there");
        assert!(!news.was_newest(3, Nanos(50)), "it may have been decided before that");
        news.ask(Nanos(60));
        news.hear_answer(60, 2);
        assert!(!news.was_newest(2, Nanos(0)), "epochs do not fall");
    }
}
