//! Which keys expire when, in log time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

/// About what an entry of the queue takes in memory, in bytes: its share of a node of the map that is two thirds full.
const ENTRY_BYTES: u64 = 40;

/// For every record in the index that expires, when it does and its key's place in the order of the index. Not its position,
/// since compaction moves records. A record that is overwritten or removed is taken out, so there is one entry per key that
/// expires, however often it is written.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    /// By time, then order. Counted, since keys may share both.
    due: BTreeMap<(u64, u64), u32>,
    len: usize,
}

impl ExpiryQueue {
    /// The index has begun to point at a record at `order` that expires at `at_ms`.
    pub(super) fn insert(&mut self, at_ms: u64, order: u64) {
        *self.due.entry((at_ms, order)).or_default() += 1;
        self.len += 1;
    }

    /// The index has stopped pointing at such a record. Returns whether it was known.
    pub(super) fn remove(&mut self, at_ms: u64, order: u64) -> bool {
        let Entry::Occupied(mut entry) = self.due.entry((at_ms, order)) else { return false };
        self.len -= 1;
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
        true
    }

    /// When the next record expires.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Takes out the next place at which records have expired by `now_ms`: when they did, where, and how many there are.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, u64, u32)> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now_ms)?;
        let ((at_ms, order), count) = first.remove_entry();
        self.len -= count as usize;
        Some((at_ms, order, count))
    }

    /// The next `limit` places behind `behind`, a time and an order, at which records expire by `until_ms`.
    pub(super) fn places_after(
        &self,
        behind: (u64, u64),
        until_ms: u64,
        limit: usize,
    ) -> impl Iterator<Item = (u64, u64)> {
        let range = (Bound::Excluded(behind), Bound::Included((until_ms, u64::MAX)));
        let is_empty = behind >= (until_ms, u64::MAX);
        (!is_empty).then(|| self.due.range(range)).into_iter().flatten().take(limit).map(|(place, _)| *place)
    }

    /// How many records have expired by `now_ms` and were not given out.
    pub(super) fn due_by(&self, now_ms: u64) -> usize {
        self.due.range(..=(now_ms, u64::MAX)).map(|(_, count)| *count as usize).sum()
    }

    /// How many records wait for their time.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// About what it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.len as u64 * ENTRY_BYTES
    }

    /// The next `limit` places from a (time, order) on at which records expire, with how many do, and where those after them begin.
    #[expect(clippy::type_complexity, reason = "what a walk looks at")]
    pub(super) fn from(&self, from: (u64, u64), limit: usize) -> (Vec<((u64, u64), i64)>, Option<(u64, u64)>) {
        let mut following = self.due.range(from..).map(|(&entry, &count)| (entry, i64::from(count)));
        let entries = following.by_ref().take(limit).collect();
        (entries, following.next().map(|(entry, _)| entry))
    }

    /// All of them as (time, order), the next one to expire first.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.due.iter().flat_map(|(&entry, &count)| std::iter::repeat_n(entry, count as usize))
    }
}

/// From (time, order); fast if they come as [`ExpiryQueue::iter`] gives them.
impl FromIterator<(u64, u64)> for ExpiryQueue {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(entries: T) -> Self {
        let mut counted: Vec<((u64, u64), u32)> = Vec::new();
        let mut queue = Self::default();
        for entry in entries {
            match counted.last_mut() {
                Some((last, count)) if *last == entry => *count += 1,
                Some((last, _)) if *last > entry => queue.insert(entry.0, entry.1),
                _ => counted.push((entry, 1)),
            }
        }
        // A map is built from sorted pairs in one pass, without a search for each.
        let len = queue.len + counted.iter().map(|(_, count)| *count as usize).sum::<usize>();
        let mut due: BTreeMap<(u64, u64), u32> = counted.into_iter().collect();
        for (entry, count) in queue.due {
            *due.entry(entry).or_default() += count;
        }
        Self { due, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_out_what_is_due_and_counts_what_is_left() {
        let mut queue = ExpiryQueue::default();
        for (at_ms, order) in [(30, 3), (10, 1), (10, 2), (10, 2), (20, 5)] {
            queue.insert(at_ms, order);
        }
        assert_eq!((queue.next_ms(), queue.len(), queue.bytes()), (Some(10), 5, 5 * ENTRY_BYTES));
        queue.remove(20, 5);
        queue.remove(20, 5);
        queue.remove(30, 4);
        assert_eq!(queue.len(), 4, "what is not there can't be taken out");
        assert_eq!(queue.pop_due(9), None);
        assert_eq!(queue.pop_due(10), Some((10, 1, 1)));
        assert_eq!(queue.pop_due(29), Some((10, 2, 2)));
        assert_eq!(queue.pop_due(29), None);
        assert_eq!(queue.pop_due(30), Some((30, 3, 1)));
        assert_eq!((queue.next_ms(), queue.len(), queue.bytes()), (None, 0, 0));
    }

    #[test]
    fn places_come_one_after_the_other_and_not_twice() {
        let queue: ExpiryQueue = [(10, 1), (10, 2), (10, 2), (20, 3), (30, 4)].into_iter().collect();
        let after = |behind, until| queue.places_after(behind, until, 2).collect::<Vec<_>>();
        assert_eq!(after((0, 0), 25), [(10, 1), (10, 2)]);
        assert_eq!(after((10, 2), 25), [(20, 3)]);
        assert_eq!(after((20, 3), 25), []);
        assert_eq!(after((20, 3), 30), [(30, 4)]);
        assert_eq!(after((30, u64::MAX), 30), []);
        assert_eq!(after((40, 0), 30), []);
    }

    #[test]
    fn comes_back_from_its_entries_in_any_order() {
        let sorted = [(10, 1), (10, 2), (20, 3), (20, 3), (30, 4), (30, 5)];
        let queue: ExpiryQueue = sorted.into_iter().collect();
        assert_eq!((queue.iter().collect::<Vec<_>>(), queue.len()), (sorted.to_vec(), 6));
        let queue: ExpiryQueue = [(30, 4), (20, 3), (10, 1), (20, 3), (10, 2), (30, 5)].into_iter().collect();
        assert_eq!((queue.iter().collect::<Vec<_>>(), queue.len()), (sorted.to_vec(), 6));
    }
}
