//! Which records expire when, in log time.

use crate::log::Position;
use std::collections::BTreeMap;

/// Records by the log time at which they expire. A record that was overwritten in the meantime stays here until then
/// and is ignored when its time comes, since the index no longer points at it. 16 bytes per record, and the map.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    due: BTreeMap<u64, Vec<(u64, Position)>>,
}

impl ExpiryQueue {
    /// The record at `position`, of a key with this hash, expires at `at_ms`.
    pub(super) fn push(&mut self, at_ms: u64, hash: u64, position: Position) {
        self.due.entry(at_ms).or_default().push((hash, position));
    }

    /// When the next record expires.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.keys().next().copied()
    }

    /// Takes out up to `limit` records that have expired by `now_ms`.
    pub(super) fn pop_due(&mut self, now_ms: u64, limit: usize) -> Vec<(u64, Position)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(mut first) = self.due.first_entry()
            && *first.key() <= now_ms
        {
            let records = first.get_mut();
            let from = records.len().saturating_sub(limit - taken.len());
            taken.extend(records.drain(from..));
            if records.is_empty() {
                first.remove();
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn pops_what_is_due_and_no_more_than_asked() {
        let mut queue = ExpiryQueue::default();
        queue.push(30, 3, at(3));
        queue.push(10, 1, at(1));
        queue.push(10, 2, at(2));
        assert_eq!(queue.next_ms(), Some(10));
        assert_eq!(queue.pop_due(9, 10), []);
        assert_eq!(queue.pop_due(10, 1).len(), 1);
        assert_eq!(queue.pop_due(29, 10).len(), 1);
        assert_eq!(queue.pop_due(30, 10), [(3, at(3))]);
        assert_eq!(queue.next_ms(), None);
    }
}
