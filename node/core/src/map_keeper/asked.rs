//! What an operator asked for last, while he may not have heard yet that it was done.
//!
//! Whoever asks for something asks again, some times a second, until the map in force has it. Some things do not stay in the map: a data
//! key that is on its way becomes the active one, a short drain ends. Asked for once more then, they would be done twice.

use crate::clock::Nanos;
use crate::ring::RingMap;
use crate::ring::verbs::Verb;

/// Who asks again within this time has not heard yet that it was done. He asks ten times a second.
const ASKED_AGAIN_MS: u64 = 1_000;

/// What was asked for last.
#[derive(Debug, Default)]
pub(super) struct LastAsked(Option<Wish>);

#[derive(Debug)]
struct Wish {
    verb: Verb,
    /// The map that was proposed for it.
    map: RingMap,
    /// Since when the group has that map, or has had it.
    done_at: Option<Nanos>,
}

impl LastAsked {
    /// A map was proposed, since this was asked for.
    pub(super) fn handle_proposal(&mut self, verb: &Verb, map: &RingMap) {
        self.0 = Some(Wish { verb: verb.clone(), map: map.clone(), done_at: None });
    }

    /// The group has this map.
    pub(super) fn handle_map(&mut self, stored: Option<&RingMap>, now: Nanos) {
        if let Some(wish) = &mut self.0
            && wish.done_at.is_none()
            && stored == Some(&wish.map)
        {
            wish.done_at = Some(now);
        }
    }

    /// Whether this was done a moment ago, and nothing else that was asked for since.
    pub(super) fn has_done(&self, verb: &Verb, now: Nanos) -> bool {
        let Some(Wish { verb: last, done_at: Some(at), .. }) = &self.0 else { return false };
        last == verb && now.ms_since(*at) < ASKED_AGAIN_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::elastic_tests::cluster;
    use kvorum_protocol::EncryptVerb;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_was_done_a_moment_ago_is_not_done_again() {
        let before = cluster(3, 4);
        let [rotated, other] = [1, 2].map(|more| RingMap { epoch: before.epoch + more, ..before.clone() });
        let rotate = Verb::Encrypt(EncryptVerb::Rotate);
        let mut last = LastAsked::default();
        last.handle_proposal(&rotate, &rotated);
        last.handle_map(Some(&before), Nanos(5 * MS));
        assert!(!last.has_done(&rotate, Nanos(5 * MS)), "it was proposed only");
        last.handle_map(Some(&rotated), Nanos(10 * MS));
        // What the group does next does not undo it.
        last.handle_map(Some(&other), Nanos(100 * MS));
        assert!(last.has_done(&rotate, Nanos(1_009 * MS)) && !last.has_done(&rotate, Nanos(1_010 * MS)));
        assert!(!last.has_done(&Verb::Pause(true), Nanos(100 * MS)));
        last.handle_proposal(&Verb::Pause(true), &other);
        assert!(!last.has_done(&rotate, Nanos(100 * MS)), "something else was asked for since");
    }

    #[test]
    fn a_proposal_that_another_change_came_before_is_not_done() {
        let before = cluster(3, 4);
        let mine = RingMap { epoch: before.epoch + 1, rate_mb: Some(7), ..before.clone() };
        let others = RingMap { epoch: before.epoch + 1, ..before };
        let mut last = LastAsked::default();
        last.handle_proposal(&Verb::Rate(Some(7)), &mine);
        last.handle_map(Some(&others), Nanos(10 * MS));
        assert!(!last.has_done(&Verb::Rate(Some(7)), Nanos(10 * MS)));
    }
}
