//! The checkpoint with which a group that has lost its quorum for good goes on from one replica.

use super::*;

impl Checkpoint {
    /// The replica has another id from here on, and is in this term: it has voted for nobody.
    #[must_use]
    pub fn of_term(mut self, term: Term) -> Self {
        let hard_state = &mut self.manifest.hard_state;
        assert!(term > hard_state.term, "a group that goes on alone begins another term");
        *hard_state = HardState { term, vote: None, ..*hard_state };
        self
    }
}
