//! The gate that reads pass: whether this replica may answer from what it has applied, without asking anyone.

use crate::clock::Nanos;
use crate::seeded::{Bug, planted};
use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the shard's host, read by every session. A read is linearizable if [`ReadGate::pass`] gave a pass before
/// it and [`ReadGate::still_open`] confirms it afterwards.
#[derive(Debug, Default)]
pub struct ReadGate {
    /// End of the lease in nanoseconds of the monotonic clock; 0 is closed.
    lease_until: AtomicU64,
    /// Grows each time the gate opens or closes, so that a reader which was held up between its two looks can't take
    /// one leadership for another.
    generation: AtomicU64,
}

/// The gate was open at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    generation: u64,
}

impl ReadGate {
    /// The first look: `None` if the lease has run out at `now`, or there is none. `now` may be a while ago: this look only says
    /// which opening of the gate it is, and spares reads that are in vain. That the same one still lasts after the read is what
    /// proves that nobody else has led, and written, before.
    pub fn pass(&self, now: Nanos) -> Option<Pass> {
        let generation = self.generation.load(Ordering::SeqCst);
        let until = self.lease_until.load(Ordering::SeqCst);
        lasts(until, now).then_some(Pass { generation })
    }

    /// The second look, with the time after the read.
    pub fn still_open(&self, pass: Pass, now: Nanos) -> bool {
        let until = self.lease_until.load(Ordering::SeqCst);
        lasts(until, now) && self.generation.load(Ordering::SeqCst) == pass.generation
    }

    /// Sets the lease's end, or closes the gate.
    pub(super) fn set(&self, until: Option<Nanos>) {
        let until = until.map_or(0, |until| until.0);
        let before = self.lease_until.swap(until, Ordering::SeqCst);
        if (before == 0) != (until == 0) {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn lasts(until: u64, now: Nanos) -> bool {
    now.0 < until || until != 0 && planted(Bug::NoLeaseCheck)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_until_the_lease_ends() {
        let gate = ReadGate::default();
        assert_eq!(gate.pass(Nanos(1)), None);
        gate.set(Some(Nanos(10)));
        let pass = gate.pass(Nanos(9)).unwrap();
        assert!(gate.still_open(pass, Nanos(9)));
        assert!(!gate.still_open(pass, Nanos(10)));
        gate.set(Some(Nanos(20)));
        assert!(gate.still_open(pass, Nanos(10)), "a renewed lease is the same leadership");
    }

    #[test]
    fn a_lease_lost_and_won_again_is_another_one() {
        let gate = ReadGate::default();
        gate.set(Some(Nanos(10)));
        let pass = gate.pass(Nanos(1)).unwrap();
        gate.set(None);
        assert!(!gate.still_open(pass, Nanos(2)));
        gate.set(Some(Nanos(30)));
        assert!(!gate.still_open(pass, Nanos(3)));
    }
}
