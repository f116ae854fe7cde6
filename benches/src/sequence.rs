//! The sequence numbers of one client's writes.

use crate::limits::SEQUENCE_WINDOW_MAX;
use std::collections::VecDeque;

/// Hands out sequence numbers and knows the lowest one that is still unanswered, which each write must name so that the
/// server can forget the replies below it. Both in amortised constant time; at most [`SEQUENCE_WINDOW_MAX`] flags.
#[derive(Debug)]
pub(crate) struct WriteWindow {
    first_unanswered: u64,
    /// Whether write number `first_unanswered + i` was answered or given up. The front, if any, was not.
    settled: VecDeque<bool>,
}

impl WriteWindow {
    pub(crate) fn new() -> Self {
        WriteWindow { first_unanswered: 1, settled: VecDeque::new() }
    }

    /// Whether another write may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.settled.len() < SEQUENCE_WINDOW_MAX
    }

    /// Every write below this number was answered or given up.
    pub(crate) fn first_unanswered(&self) -> u64 {
        self.first_unanswered
    }

    /// The number of the next write.
    pub(crate) fn issue(&mut self) -> u64 {
        assert!(self.has_room(), "the caller asks has_room first");
        self.settled.push_back(false);
        self.first_unanswered + self.settled.len() as u64 - 1
    }

    /// The write was answered or given up; it will not be sent again.
    pub(crate) fn settle(&mut self, sequence: u64) {
        let position = sequence.checked_sub(self.first_unanswered).expect("a write is settled once");
        let flag = self.settled.get_mut(position as usize).expect("only issued writes are settled");
        assert!(!*flag, "a write is settled once");
        *flag = true;
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.first_unanswered += 1;
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
