//! The machine's clocks.

use kvorum_core::clock::{Clock, Nanos, Now};
use std::time::{SystemTime, UNIX_EPOCH};

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
    Now { monotonic: monotonic(), wall_ms, agreed_ms: None }
}
