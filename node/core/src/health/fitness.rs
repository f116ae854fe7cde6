//! Whether a node should lead: a set of reasons against it. Whoever watches the machine sets them, the node tells its peers,
//! and leadership goes from a node with reasons to one without.
//!
//! Leading is a matter of what is best, never of safety: an unfit node may vote, be elected, and lead as long as nobody
//! fit can take over.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A reason why a node should not lead. The number is its bit on the wire, and never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Its disk is full, so that it would refuse writes.
    DiskFull = 1,
    /// A sync took long, not long ago.
    DiskSlow = 2,
    /// Its wall clock is far from those of its peers.
    ClockOff = 4,
    /// It is about to stop.
    Stopping = 8,
    /// The ring map says that it will be away for a while.
    Draining = 16,
}

impl Unfit {
    const ALL: [Self; 5] = [Self::DiskFull, Self::DiskSlow, Self::ClockOff, Self::Stopping, Self::Draining];

    fn text(self) -> &'static str {
        match self {
            Self::DiskFull => "its disk is full",
            Self::DiskSlow => "its disk is slow",
            Self::ClockOff => "its wall clock is off",
            Self::Stopping => "it is stopping",
            Self::Draining => "it is drained",
        }
    }
}

/// A set of reasons. A bit that this program does not know is a reason, too: a newer one may have sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reasons(pub u32);

impl Reasons {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is among them.
    pub fn contains(self, reason: Unfit) -> bool {
        self.0 & reason as u32 != 0
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: u32 = Unfit::ALL.iter().map(|reason| *reason as u32).sum();
        let unknown = (self.0 & !known != 0).then_some("it has a reason that this program does not know");
        let texts = Unfit::ALL.iter().filter(|reason| self.contains(**reason)).map(|reason| reason.text());
        let texts: Vec<&str> = texts.chain(unknown).collect();
        f.write_str(if texts.is_empty() { "it is fit" } else { "" })?;
        f.write_str(&texts.join(", "))
    }
}

/// A node's own reasons. Looking at them costs one load.
#[derive(Debug, Default)]
pub struct Fitness(AtomicU32);

impl Fitness {
    /// Says whether `reason` holds from now on. Returns whether that is news.
    pub fn set(&self, reason: Unfit, holds: bool) -> bool {
        let bit = reason as u32;
        let before =
            if holds { self.0.fetch_or(bit, Ordering::Relaxed) } else { self.0.fetch_and(!bit, Ordering::Relaxed) };
        (before & bit != 0) != holds
    }

    /// The reasons that hold now.
    pub fn reasons(&self) -> Reasons {
        Reasons(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go_one_by_one() {
        let fitness = Fitness::default();
        assert!(fitness.reasons().is_empty());
        assert!(fitness.set(Unfit::DiskFull, true) && fitness.set(Unfit::ClockOff, true));
        assert!(!fitness.set(Unfit::DiskFull, true), "no news");
        assert!(fitness.set(Unfit::DiskFull, false));
        let left = fitness.reasons();
        assert!(left.contains(Unfit::ClockOff) && !left.contains(Unfit::DiskFull) && !left.is_empty());
    }

    #[test]
    fn a_reason_that_is_not_known_is_one() {
        assert!(!Reasons(1 << 31).is_empty());
        assert_eq!(
            Reasons(1 << 31 | 1).to_string(),
            "its disk is full, it has a reason that this program does not know"
        );
        assert_eq!(Reasons(0).to_string(), "it is fit");
    }
}
