//! The sequence numbers of one client's writes.

use crate::limits::SEQUENCE_WINDOW_MAX;
use std::collections::VecDeque;

/// Hands out sequence numbers and knows the lowest one that is still unanswered, which each write must name so that the
/// server can forget the replies below it. Amortised constant time to issue one, logarithmic to settle it; at most
/// [`SEQUENCE_WINDOW_MAX`] of them.
#[derive(Debug)]
pub(crate) struct WriteWindow {
    next: u64,
    /// The numbers issued, ascending, and whether each was answered or given up. The front, if any, was not.
    issued: VecDeque<(u64, bool)>,
}

impl WriteWindow {
    pub(crate) fn new() -> Self {
        Self { next: 1, issued: VecDeque::new() }
    }

    /// Whether another write may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.issued.len() < SEQUENCE_WINDOW_MAX
    }

    /// Every write below this number was answered or given up.
    pub(crate) fn first_unanswered(&self) -> u64 {
        self.issued.front().map_or(self.next, |(sequence, _)| *sequence)
    }

    /// A server takes no number below `sequence_min` any more.
    pub(crate) fn raise(&mut self, sequence_min: u64) {
        self.next = self.next.max(sequence_min);
    }

    /// The number of the next write.
    pub(crate) fn issue(&mut self) -> u64 {
        assert!(self.has_room(), "the caller asks has_room first");
        self.next += 1;
        self.issued.push_back((self.next - 1, false));
        self.next - 1
    }

    /// The write was answered or given up; it will not be sent again.
    pub(crate) fn settle(&mut self, sequence: u64) {
        let position = self.issued.binary_search_by_key(&sequence, |(issued, _)| *issued);
        let (_, flag) = &mut self.issued[position.expect("only issued writes are settled, and once")];
        assert!(!*flag, "a write is settled once");
        *flag = true;
        while self.issued.front().is_some_and(|(_, settled)| *settled) {
            self.issued.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_unanswered_write_holds_the_window() {
        let mut window = WriteWindow::new();
        assert_eq!((window.issue(), window.issue(), window.issue()), (1, 2, 3));
        window.settle(2);
        assert_eq!(window.first_unanswered(), 1);
        window.settle(1);
        assert_eq!(window.first_unanswered(), 3);
        window.settle(3);
        assert_eq!(window.first_unanswered(), 4);
        assert_eq!(window.issue(), 4);
        window.raise(100);
        assert_eq!((window.issue(), window.first_unanswered()), (100, 4));
        window.settle(4);
        assert_eq!(window.first_unanswered(), 100);
    }

    #[test]
    fn a_full_window_has_no_room_until_its_first_write_is_answered() {
        let mut window = WriteWindow::new();
        for _ in 0..SEQUENCE_WINDOW_MAX {
            window.issue();
        }
        assert!(!window.has_room());
        window.settle(2);
        assert!(!window.has_room());
        window.settle(1);
        assert!(window.has_room());
        assert_eq!(window.first_unanswered(), 3);
    }
}
