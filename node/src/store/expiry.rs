//! Which keys expire when, in log time.

use std::collections::BTreeMap;

/// Hashes of keys by the log time at which a record of theirs expires. Not positions, since compaction moves records. A
/// record that was overwritten in the meantime stays here until then; when its time comes, whoever takes it out looks at
/// what the index has under the hash. 8 bytes per record, and the map.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    due: BTreeMap<u64, Vec<u64>>,
}

impl ExpiryQueue {
    /// A record of a key with this hash expires at `at_ms`.
    pub(super) fn push(&mut self, at_ms: u64, hash: u64) {
        self.due.entry(at_ms).or_default().push(hash);
    }

    /// When the next record expires.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.keys().next().copied()
    }

    /// Takes out up to `limit` hashes of records that have expired by `now_ms`.
    pub(super) fn pop_due(&mut self, now_ms: u64, limit: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(mut first) = self.due.first_entry()
            && *first.key() <= now_ms
        {
            let hashes = first.get_mut();
            let from = hashes.len().saturating_sub(limit - taken.len());
            taken.extend(hashes.drain(from..));
            if hashes.is_empty() {
                first.remove();
            }
        }
        taken
    }

    /// How many records wait for their time.
    pub(super) fn len(&self) -> usize {
        self.due.values().map(Vec::len).sum()
    }

    /// All of them as (time, hash), the next one to expire first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.due.iter().flat_map(|(&at_ms, hashes)| hashes.iter().map(move |&hash| (at_ms, hash)))
    }
}

/// From (time, hash); fast if they come in the order of their times.
impl FromIterator<(u64, u64)> for ExpiryQueue {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(entries: T) -> Self {
        let mut groups: Vec<(u64, Vec<u64>)> = Vec::new();
        let mut queue = ExpiryQueue::default();
        for (at_ms, hash) in entries {
            match groups.last_mut() {
                Some((last_ms, hashes)) if *last_ms == at_ms => hashes.push(hash),
                Some((last_ms, _)) if *last_ms > at_ms => queue.push(at_ms, hash),
                _ => groups.push((at_ms, vec![hash])),
            }
        }
        // A map is built from sorted pairs in one pass, without a search for each.
        let mut due: BTreeMap<u64, Vec<u64>> = groups.into_iter().collect();
        for (at_ms, hashes) in queue.due {
            due.entry(at_ms).or_default().extend(hashes);
        }
        ExpiryQueue { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pops_what_is_due_and_no_more_than_asked() {
        let mut queue = ExpiryQueue::default();
        queue.push(30, 3);
        queue.push(10, 1);
        queue.push(10, 2);
        assert_eq!((queue.next_ms(), queue.len()), (Some(10), 3));
        assert!(queue.pop_due(9, 10).is_empty());
        assert_eq!(queue.pop_due(10, 1).len(), 1);
        assert_eq!(queue.pop_due(29, 10).len(), 1);
        assert_eq!(queue.pop_due(30, 10), [3]);
        assert_eq!((queue.next_ms(), queue.len()), (None, 0));
    }

    #[test]
    fn comes_back_from_its_entries_in_any_order() {
        let sorted = [(10, 1), (10, 2), (20, 3), (30, 4), (30, 5)];
        let queue: ExpiryQueue = sorted.into_iter().collect();
        assert_eq!(queue.iter().collect::<Vec<_>>(), sorted);
        let queue: ExpiryQueue = [(30, 4), (10, 1), (20, 3), (10, 2), (30, 5)].into_iter().collect();
        assert_eq!(queue.iter().collect::<Vec<_>>(), sorted);
    }
}
