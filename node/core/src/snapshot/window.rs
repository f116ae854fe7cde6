//! What a follower has pulled of one part of a snapshot, and what has come: pulls under way side by side, chunks taken out
//! in order. Bytes of a header and records alike are *units* here.

use super::limits::{
    CHUNK_BYTES, EARLY_BYTES_MAX, OFFER_REPEAT_MS, PULL_AGAIN_DOUBLINGS_MAX, PULL_AGAIN_MS, PULLED_BYTES_MAX, PULLS_MAX,
};
use crate::clock::Nanos;
use bytes::Bytes;
use std::collections::VecDeque;

/// The units from the first that was not taken out on.
#[derive(Debug)]
pub(super) struct Window {
    /// Adjacent stretches, in order.
    stretches: VecDeque<Stretch>,
    /// The first unit behind them.
    next: u64,
    end: u64,
    /// Of the last chunk that came.
    unit_bytes: usize,
    chunk_bytes: usize,
    arrived_at: Nanos,
}

#[derive(Debug)]
struct Stretch {
    at: u64,
    count: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    PullRange,
    Pulled { at: Nanos, tries: u32 },
    Arrived(Bytes),
}

/// Units to pull.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PullRange {
    pub(super) at: u64,
    pub(super) count: u32,
}

impl Window {
    /// A part of `end` units, of which one takes about `unit_bytes`.
    pub(super) fn new(end: u64, unit_bytes: usize) -> Self {
        let chunk_bytes = CHUNK_BYTES as usize;
        Self { stretches: VecDeque::new(), next: 0, end, unit_bytes, chunk_bytes, arrived_at: Nanos(0) }
    }

    /// The units in the part.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Everything was taken out.
    pub(super) fn is_done(&self) -> bool {
        self.stretches.is_empty() && self.next == self.end
    }

    /// A chunk has come. Returns whether it is one that was pulled and has not come before; any other changes nothing.
    pub(super) fn handle_chunk(&mut self, now: Nanos, at: u64, count: u32, bytes: Bytes) -> bool {
        let Some(position) = self.stretches.iter().position(|stretch| stretch.at == at) else { return false };
        let early: usize = self.stretches.iter().map(Stretch::early_bytes).sum();
        let stretch = &mut self.stretches[position];
        let fits = position == 0 || early + bytes.len() <= EARLY_BYTES_MAX;
        if !matches!(stretch.state, State::Pulled { .. }) || count == 0 || count > stretch.count || !fits {
            return false;
        }
        let left = stretch.count - count;
        self.unit_bytes = bytes.len().div_ceil(count as usize).max(1);
        self.chunk_bytes = bytes.len();
        self.arrived_at = now;
        stretch.count = count;
        stretch.state = State::Arrived(bytes);
        if left > 0 {
            let rest = Stretch { at: at + u64::from(count), count: left, state: State::PullRange };
            self.stretches.insert(position + 1, rest);
        }
        true
    }

    /// The next chunk, if it has come.
    pub(super) fn take(&mut self) -> Option<(Bytes, u32)> {
        match self.stretches.front()?.state {
            State::Arrived(_) => {}
            _ => return None,
        }
        let Stretch { count, state, .. } = self.stretches.pop_front()?;
        match state {
            State::Arrived(bytes) => Some((bytes, count)),
            State::PullRange | State::Pulled { .. } => None,
        }
    }

    /// The leader offers the snapshot again, which it does only if it has had no pull for [`OFFER_REPEAT_MS`] and none is
    /// unanswered: what was pulled longer ago than that is lost, or its answer is.
    pub(super) fn note_silence(&mut self, now: Nanos) {
        for stretch in &mut self.stretches {
            if matches!(stretch.state, State::Pulled { at, .. } if now.ms_since(at) >= OFFER_REPEAT_MS) {
                stretch.state = State::PullRange;
            }
        }
    }

    /// What is to be pulled now: what never was, and what is overdue. It counts as pulled then. Each piece only if `may`, which is told
    /// about how many bytes it has. Says whether anything was held back.
    pub(super) fn pull(&mut self, now: Nanos, mut may: impl FnMut(u64) -> bool) -> (Vec<PullRange>, bool) {
        let side_by_side = (PULLED_BYTES_MAX / self.chunk_bytes.max(1)).clamp(1, PULLS_MAX);
        let units = (CHUNK_BYTES as usize / self.unit_bytes).max(1) as u64;
        while self.stretches.len() < side_by_side && self.next < self.end {
            let count = units.min(self.end - self.next) as u32;
            self.stretches.push_back(Stretch { at: self.next, count, state: State::PullRange });
            self.next += u64::from(count);
        }
        let (arrived_at, unit_bytes) = (self.arrived_at, self.unit_bytes as u64);
        let mut pulls = Vec::new();
        for stretch in self.stretches.iter_mut().take(side_by_side).filter(|stretch| stretch.is_due(now, arrived_at)) {
            if !may(unit_bytes * u64::from(stretch.count)) {
                return (pulls, true);
            }
            let tries = if let State::Pulled { tries, .. } = stretch.state { tries + 1 } else { 0 };
            stretch.state = State::Pulled { at: now, tries };
            pulls.push(PullRange { at: stretch.at, count: stretch.count });
        }
        (pulls, false)
    }
}

impl Stretch {
    fn early_bytes(&self) -> usize {
        if let State::Arrived(bytes) = &self.state { bytes.len() } else { 0 }
    }

    /// While other chunks come, the leader is working off pulls, and what was lost is told from what waits its turn by the
    /// silence that follows: nothing new is pulled until the front has come.
    fn is_due(&self, now: Nanos, arrived_at: Nanos) -> bool {
        match self.state {
            State::PullRange => true,
            State::Pulled { at, tries } => {
                now >= at.max(arrived_at).after_ms(PULL_AGAIN_MS << tries.min(PULL_AGAIN_DOUBLINGS_MAX))
            }
            State::Arrived(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeros(count: usize) -> Bytes {
        Bytes::from(vec![0; count])
    }

    fn pull(window: &mut Window, now: Nanos) -> Vec<PullRange> {
        window.pull(now, |_| true).0
    }

    fn at(wanted: &[PullRange]) -> Vec<u64> {
        wanted.iter().map(|wanted| wanted.at).collect()
    }

    #[test]
    fn four_are_under_way_and_taken_out_in_order() {
        let mut window = Window::new(10 * 1024, 1024);
        assert_eq!(at(&pull(&mut window, Nanos(1))), [0, 256, 512, 768]);
        assert_eq!(pull(&mut window, Nanos(1)), []);
        assert!(window.handle_chunk(Nanos(2), 256, 256, zeros(256 * 1024)));
        assert!(window.take().is_none(), "the first is missing");
        assert!(pull(&mut window, Nanos(2)).is_empty(), "what has come early still has its place");
        assert!(window.handle_chunk(Nanos(3), 0, 256, zeros(256 * 1024)));
        assert!(window.take().is_some() && window.take().is_some() && window.take().is_none());
        assert_eq!(at(&pull(&mut window, Nanos(3))), [1024, 1280]);
    }

    #[test]
    fn what_may_not_be_pulled_yet_is_pulled_later() {
        let mut window = Window::new(10 * 1024, 1024);
        let mut left = 600_000u64;
        let mut may = |bytes: u64| {
            let has_any = left > 0;
            left = left.saturating_sub(if has_any { bytes } else { 0 });
            has_any
        };
        let (pulls, is_held_back) = window.pull(Nanos(1), &mut may);
        assert_eq!((at(&pulls), is_held_back), (vec![0, 256, 512], true));
        assert_eq!(window.pull(Nanos(1), &mut may), (vec![], true));
        assert_eq!(window.pull(Nanos(2), |_| true), (vec![PullRange { at: 768, count: 256 }], false));
        assert_eq!(window.pull(Nanos(2), |_| false), (vec![], false), "nothing is wanted");
    }

    #[test]
    fn a_short_chunk_leaves_the_rest_to_be_pulled_and_makes_later_pulls_fit() {
        let mut window = Window::new(10 * 1024, 1024);
        pull(&mut window, Nanos(1));
        assert!(window.handle_chunk(Nanos(2), 0, 64, zeros(256 * 1024)));
        assert_eq!(pull(&mut window, Nanos(2)), [PullRange { at: 64, count: 192 }]);
        window.take().unwrap();
        assert_eq!(pull(&mut window, Nanos(2)), [], "the rest has taken the place");
        assert!(window.handle_chunk(Nanos(2), 64, 192, zeros(256 * 1024)));
        window.take().unwrap();
        assert_eq!(
            pull(&mut window, Nanos(2)),
            [PullRange { at: 1024, count: 191 }],
            "by the size of the last chunk's records"
        );
    }

    #[test]
    fn what_does_not_come_is_pulled_again_less_and_less_often() {
        let mut window = Window::new(10, 1024 * 1024);
        assert_eq!(at(&pull(&mut window, Nanos(0))), [0, 1, 2, 3]);
        let mut again = Vec::new();
        for ms in 1..=70_000 {
            if !pull(&mut window, Nanos(0).after_ms(ms)).is_empty() {
                again.push(ms);
            }
        }
        assert_eq!(again, [1_000, 3_000, 7_000, 15_000, 31_000, 47_000, 63_000]);
    }

    #[test]
    fn what_the_leader_waits_for_is_pulled_at_once() {
        let mut window = Window::new(2, 1024 * 1024);
        assert_eq!(at(&pull(&mut window, Nanos(0))), [0, 1]);
        window.note_silence(Nanos(0).after_ms(OFFER_REPEAT_MS - 1));
        assert_eq!(
            pull(&mut window, Nanos(0).after_ms(OFFER_REPEAT_MS - 1)),
            [],
            "the pull and the offer have met on their way"
        );
        let silent_at = Nanos(0).after_ms(OFFER_REPEAT_MS);
        assert!(window.handle_chunk(silent_at, 1, 1, zeros(8)));
        window.note_silence(silent_at);
        assert_eq!(at(&pull(&mut window, silent_at)), [0], "what has come is not pulled again");
    }

    #[test]
    fn large_chunks_are_pulled_one_at_a_time_and_early_ones_are_bounded() {
        let mut window = Window::new(10, 16 * 1024 * 1024);
        pull(&mut window, Nanos(0));
        assert!(!window.handle_chunk(Nanos(0), 2, 1, zeros(EARLY_BYTES_MAX + 1)), "too much to wait for another");
        assert!(window.handle_chunk(Nanos(0), 0, 1, zeros(EARLY_BYTES_MAX + 1)));
        window.take().unwrap();
        assert!(window.handle_chunk(Nanos(0), 1, 1, zeros(EARLY_BYTES_MAX + 1)));
        window.take().unwrap();
        assert!(window.handle_chunk(Nanos(0), 2, 1, zeros(EARLY_BYTES_MAX + 1)));
        window.take().unwrap();
        assert_eq!(pull(&mut window, Nanos(0)), [], "one is under way");
        assert!(window.handle_chunk(Nanos(0), 3, 1, zeros(EARLY_BYTES_MAX + 1)));
        window.take().unwrap();
        assert_eq!(at(&pull(&mut window, Nanos(0))), [4]);
    }

    #[test]
    fn what_was_not_pulled_changes_nothing() {
        let mut window = Window::new(1_000, 1024);
        pull(&mut window, Nanos(0));
        for (at, count) in [(1, 10), (999, 1), (1_000, 1), (u64::MAX, 1), (0, 0), (0, 257), (256, u32::MAX)] {
            assert!(!window.handle_chunk(Nanos(0), at, count, zeros(8)), "{at} {count}");
        }
        assert!(window.handle_chunk(Nanos(0), 0, 256, zeros(8)));
        assert!(!window.handle_chunk(Nanos(0), 0, 256, zeros(8)), "twice");
        assert!(window.take().is_some());
        assert!(!window.handle_chunk(Nanos(0), 0, 256, zeros(8)), "late");
    }
}
