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

    /// Plans what was popped for later. Of what is put off to one moment, in whatever steps, the order stays: bytes of one connection
    /// don't overtake each other.
    pub(super) fn put_off(&mut self, until: Moment, number: u64, event: Event) {
        self.heap.push(Reverse(Planned { at: until, number, event }));
    }

    /// What comes next: when, its number, and what.
    pub(super) fn pop(&mut self) -> Option<(Moment, u64, Event)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.number, planned.event))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_off_twice_stays_before_what_was_planned_later() {
        let mut queue = Queue::new();
        let at = |ms| Moment::default().after_ms(ms);
        queue.push(at(1), "first");
        queue.push(at(6), "second");
        let (_, first, event) = queue.pop().expect("it is due");
        queue.put_off(at(5), first, event);
        let (_, first, event) = queue.pop().expect("it is due again");
        assert_eq!(event, "first");
        let (_, second, other) = queue.pop().expect("it is due");
        queue.put_off(at(9), second, other);
        queue.put_off(at(9), first, event);
        assert_eq!([queue.pop().map(|next| next.2), queue.pop().map(|next| next.2)], [Some("first"), Some("second")]);
    }
}
