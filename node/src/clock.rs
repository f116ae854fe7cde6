//! The two clocks of a node, read here and handed to the cores as plain numbers.
//!
//! Cores never read a clock themselves: the same code runs under a simulated one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds on a clock that never goes back and goes on while the machine is suspended. Only differences mean
/// anything, and only within one node. 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The moment `milliseconds` later.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Nanos {
        Nanos(self.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
    }

    /// Milliseconds since `earlier`, 0 if it is not earlier.
    pub fn ms_since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Both clocks at one moment, as a core is told them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For timeouts and leases.
    pub monotonic: Nanos,
    /// Unix time in milliseconds: may jump, so it is only ever a proposal for log time.
    pub wall_ms: u64,
}

/// Where the parts of a node that are shared with the simulator read their clocks.
pub trait Clock: Send + Sync {
    /// Both clocks.
    fn now(&self) -> Now;
    /// The monotonic clock alone.
    fn monotonic(&self) -> Nanos;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        now()
    }

    fn monotonic(&self) -> Nanos {
        monotonic()
    }
}

/// The monotonic clock (`CLOCK_BOOTTIME`: it counts suspend, so a lease can't outlive a sleeping laptop). About 30 ns.
pub fn monotonic() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Nanos(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Both clocks.
pub fn now() -> Now {
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { monotonic: monotonic(), wall_ms }
}
