//! What is going to happen, in order of time. Of two things at one moment the one that was planned first comes first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A moment of true time, in nanoseconds since the run began. Nodes never see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    pub(super) fn after_ns(self, nanos: u64) -> Self {
        Self(self.0 + nanos)
    }

    pub(super) fn after_us(self, micros: u64) -> Self {
        self.after_ns(micros * 1_000)
    }

    pub(super) fn after_ms(self, millis: u64) -> Self {
        self.after_ns(millis * 1_000_000)
    }

    pub(super) fn ms(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// The events to come.
pub(super) struct Queue<Event> {
    heap: BinaryHeap<Reverse<Planned<Event>>>,
    planned: u64,
}

struct Planned<Event> {
    at: Moment,
    number: u64,
    event: Event,
}

impl<Event> Queue<Event> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    pub(super) fn push(&mut self, at: Moment, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, number: self.planned, event }));
    }

    /// Brings what is planned for `from`, and for which `held` says so, forward to `to`; the order among them stays. Looks at all
    /// events.
    pub(super) fn bring_forward(&mut self, from: Moment, to: Moment, held: impl Fn(&Event) -> bool) {
        let mut planned = std::mem::take(&mut self.heap).into_vec();
        for Reverse(one) in &mut planned {
            if one.at == from && held(&one.event) {
                one.at = to;
            }
        }
        self.heap = planned.into();
    }

    pub(super) fn pop(&mut self) -> Option<(Moment, Event)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.event))
    }
}

impl<Event> Ord for Planned<Event> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<Event> PartialOrd for Planned<Event> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Event> PartialEq for Planned<Event> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<Event> Eq for Planned<Event> {}
