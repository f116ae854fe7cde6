//! The client's sequence numbers: the name under which each write takes effect once. Pure.

use kvorum_protocol::RequestBody;
use kvorum_protocol::limits::SEQUENCE_MAX;
use std::collections::BTreeSet;

/// Hands out sequence numbers and knows which of them are still under way.
#[derive(Debug)]
pub struct Sequences {
    next: u64,
    /// As many as there are writes in flight, so bounded by the client's limit on those.
    outstanding: BTreeSet<u64>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self { next: 1, outstanding: BTreeSet::new() }
    }
}

impl Sequences {
    /// Takes `count` numbers in a row and returns the first. They are outstanding until [`Sequences::finish`].
    pub fn allocate(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        self.outstanding.extend(first..self.next);
        first
    }

    /// Takes no number below `sequence_min` from now on.
    pub fn raise(&mut self, sequence_min: u64) {
        self.next = self.next.max(sequence_min.min(SEQUENCE_MAX));
    }

    /// A write was answered, or given up: it will not be sent again.
    pub fn finish(&mut self, sequence: u64) {
        self.outstanding.remove(&sequence);
    }

    /// Gives a write of which no copy can take effect any more the number `sequence`.
    pub fn renumber(body: &mut RequestBody, sequence: u64) {
        match body {
            RequestBody::Write { id, .. } | RequestBody::Batch { id, .. } => id.sequence = sequence,
            RequestBody::Atomic(atomic) => atomic.id.sequence = sequence,
            RequestBody::Transaction(transaction) => transaction.id.sequence = sequence,
            _ => {}
        }
    }

    /// Brings a write's id up to date for the attempt that is about to leave. `retry`: an earlier one may have had effect.
    pub fn stamp(&self, body: &mut RequestBody, retry: bool) {
        let id = match body {
            RequestBody::Write { id, .. } | RequestBody::Batch { id, .. } => id,
            RequestBody::Atomic(atomic) => &mut atomic.id,
            RequestBody::Transaction(transaction) => &mut transaction.id,
            _ => return,
        };
        id.retry |= retry;
        id.first_unanswered = self.first_unanswered();
    }

    /// Every lower number has been answered or given up. Never goes back, and never past a write that is under way.
    pub fn first_unanswered(&self) -> u64 {
        self.outstanding.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_outstanding_number_holds_the_rest_back() {
        let mut sequences = Sequences::default();
        assert_eq!(sequences.first_unanswered(), 1);
        let (first, block) = (sequences.allocate(1), sequences.allocate(3));
        assert_eq!((first, block), (1, 2));
        sequences.finish(2);
        sequences.finish(4);
        assert_eq!(sequences.first_unanswered(), 1);
        sequences.finish(1);
        assert_eq!(sequences.first_unanswered(), 3);
        sequences.finish(3);
        assert_eq!(sequences.first_unanswered(), 5);
        assert_eq!(sequences.allocate(1), 5);
        sequences.raise(3);
        assert_eq!(sequences.allocate(1), 6, "numbers never go back");
        sequences.raise(100);
        assert_eq!((sequences.allocate(2), sequences.first_unanswered()), (100, 5));
    }
}
