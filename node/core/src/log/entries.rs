//! Where each entry of the log is, and the newest entries' payloads.

use super::limits::{RECENT_COPY_BYTES_MAX, RECENT_ENTRIES_MAX};
use super::state::Position;
use bytes::Bytes;
use kvorum_protocol::peer::RaftEntryKind;
use kvorum_protocol::{LogIndex, Term};
use std::collections::{BTreeSet, VecDeque};

/// What is known of one entry without reading it. 24 bytes, one per entry (not per operation: an entry holds a batch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryPlace {
    pub(super) term: Term,
    /// Of the payload's first byte.
    pub(super) payload: Position,
    pub(super) length: u32,
    pub(super) kind: RaftEntryKind,
}

/// The entries from `first` to `last`, without a gap.
#[derive(Debug)]
pub(super) struct EntryTable {
    first: u64,
    /// Of the entry before the first.
    term_before: Term,
    places: VecDeque<EntryPlace>,
    /// Payloads of the newest entries; the last belongs to `last`. Kept in memory of their own, not as slices of the
    /// mapping: a page may leave memory and come back damaged, these can't.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    recent_bytes_max: usize,
}

impl EntryTable {
    /// A table without entries. The next one follows `before`: index 0 and term 0 for a log that begins at the first.
    pub(super) fn new(recent_bytes_max: usize, before: (LogIndex, Term)) -> Self {
        Self {
            first: before.0.0 + 1,
            term_before: before.1,
            places: VecDeque::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            recent_bytes_max,
        }
    }

    /// The entry before the first.
    pub(super) fn before(&self) -> (LogIndex, Term) {
        (LogIndex(self.first - 1), self.term_before)
    }

    /// The entries that lie in segments before `segment` are dropped from the table.
    pub(super) fn drop_before(&mut self, segment: u32) {
        while let Some(front) = self.places.front().filter(|place| place.payload.segment < segment) {
            self.term_before = front.term;
            self.places.pop_front();
            self.first += 1;
        }
        while self.recent.len() > self.places.len() {
            self.recent_bytes -= self.recent.pop_front().map_or(0, |payload| payload.len());
        }
    }

    /// The last entry that lies in a segment before `segment`, or the one before the first.
    pub(super) fn last_before(&self, segment: u32) -> (LogIndex, Term) {
        let count = self.places.partition_point(|place| place.payload.segment < segment);
        match count.checked_sub(1) {
            Some(at) => (LogIndex(self.first + at as u64), self.places[at].term),
            None => self.before(),
        }
    }

    /// The entries that lie in a segment.
    pub(super) fn in_segment(&self, segment: u32) -> impl Iterator<Item = &EntryPlace> {
        let from = self.places.partition_point(|place| place.payload.segment < segment);
        self.places.range(from..).take_while(move |place| place.payload.segment == segment)
    }

    pub(super) fn first(&self) -> LogIndex {
        LogIndex(self.first)
    }

    pub(super) fn last(&self) -> LogIndex {
        LogIndex(self.first + self.places.len() as u64 - 1)
    }

    pub(super) fn get(&self, index: LogIndex) -> Option<&EntryPlace> {
        let at = index.0.checked_sub(self.first)?;
        self.places.get(usize::try_from(at).ok()?)
    }

    /// The payload, if it is one of the newest.
    pub(super) fn recent(&self, index: LogIndex) -> Option<&Bytes> {
        let from_last = self.last().0.checked_sub(index.0)?;
        let at = self.recent.len().checked_sub(usize::try_from(from_last).ok()?.checked_add(1)?)?;
        self.recent.get(at)
    }

    /// Whether an entry may be put at `index`: right after the last, or in place of one that is there, in a term that
    /// is no earlier than that of the entry before it.
    pub(super) fn accepts(&self, index: LogIndex, term: Term) -> bool {
        let in_range = index.0 >= self.first && index.0 <= self.last().0 + 1;
        let before = index.0.checked_sub(1).and_then(|before| self.get(LogIndex(before)));
        in_range && before.map_or(self.term_before, |before| before.term) <= term
    }

    /// Puts an entry at `index`, which [`EntryTable::accepts`]; it supersedes what is there and after it. With its
    /// payload, it is remembered as one of the newest. Adds the segments of superseded entries to `stale`.
    pub(super) fn put(
        &mut self,
        index: LogIndex,
        place: EntryPlace,
        payload: Option<&Bytes>,
        stale: &mut BTreeSet<u32>,
    ) {
        assert!(self.accepts(index, place.term), "entry {index} of term {} does not fit the log", place.term);
        while self.last() >= index {
            stale.extend(self.places.pop_back().map(|superseded| superseded.payload.segment));
            self.recent_bytes -= self.recent.pop_back().map_or(0, |payload| payload.len());
        }
        self.places.push_back(place);
        match payload {
            Some(payload) if payload.len() <= self.recent_bytes_max => self.remember(payload),
            // `recent` has no gaps: an entry that is not remembered ends what was.
            _ => {
                self.recent.clear();
                self.recent_bytes = 0;
            }
        }
    }

    fn remember(&mut self, payload: &Bytes) {
        let small = payload.len() <= RECENT_COPY_BYTES_MAX;
        self.recent.push_back(if small { Bytes::copy_from_slice(payload) } else { payload.clone() });
        self.recent_bytes += payload.len();
        while self.recent_bytes > self.recent_bytes_max || self.recent.len() > RECENT_ENTRIES_MAX {
            self.recent_bytes -= self.recent.pop_front().map_or(0, |payload| payload.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(term: u64) -> EntryPlace {
        let payload = Position { segment: 1, offset: 0 };
        EntryPlace { term: Term(term), payload, length: 0, kind: RaftEntryKind::Operations }
    }

    fn table(recent_bytes_max: usize, entries: u64) -> EntryTable {
        let mut table = EntryTable::new(recent_bytes_max, (LogIndex(0), Term(0)));
        for index in 1..=entries {
            table.put(LogIndex(index), place(1), Some(&Bytes::from(index.to_string())), &mut BTreeSet::new());
        }
        table
    }

    fn recent(table: &EntryTable) -> Vec<&Bytes> {
        (1..=table.last().0).filter_map(|index| table.recent(LogIndex(index))).collect()
    }

    #[test]
    fn the_newest_payloads_are_kept_within_their_bytes() {
        assert_eq!(recent(&table(3, 5)), ["3", "4", "5"]);
        assert_eq!(recent(&table(0, 5)), [""; 0]);
        assert_eq!(table(3, 5).recent(LogIndex(0)), None);
        assert_eq!(table(3, 5).recent(LogIndex(6)), None);
    }

    #[test]
    fn a_superseded_entry_takes_its_payload_and_its_successors_along() {
        let mut table = table(100, 5);
        table.put(LogIndex(4), place(2), Some(&Bytes::from("new")), &mut BTreeSet::new());
        assert_eq!(table.last(), LogIndex(4));
        assert_eq!(recent(&table), ["1", "2", "3", "new"]);
        assert_eq!(table.get(LogIndex(4)).unwrap().term, Term(2));
        assert_eq!(table.get(LogIndex(5)), None);
    }

    #[test]
    fn an_entry_too_large_to_keep_leaves_no_gap() {
        let mut table = table(10, 3);
        table.put(LogIndex(4), place(1), Some(&Bytes::from(vec![0; 11])), &mut BTreeSet::new());
        table.put(LogIndex(5), place(1), Some(&Bytes::from("five")), &mut BTreeSet::new());
        assert_eq!(recent(&table), ["five"]);
        assert_eq!(table.recent(LogIndex(4)), None);
    }

    #[test]
    fn gaps_and_falling_terms_are_not_accepted() {
        let mut table = table(0, 3);
        assert!(table.accepts(LogIndex(4), Term(1)) && table.accepts(LogIndex(1), Term(1)));
        assert!(!table.accepts(LogIndex(5), Term(1)) && !table.accepts(LogIndex(0), Term(1)));
        table.put(LogIndex(3), place(7), None, &mut BTreeSet::new());
        assert!(!table.accepts(LogIndex(4), Term(6)));
    }
}
