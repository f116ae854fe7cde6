//! A node's clocks: off true time by a rate that changes and a wall clock that jumps.

use super::queue::Moment;
use kvorum_core::clock::{Clock, Nanos, Now};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What wall clocks show at the beginning, in Unix milliseconds.
pub(super) const WALL_ORIGIN_MS: i64 = 1_700_000_000_000;
const MILLION: i128 = 1_000_000;

/// True time, which the world moves and every node's clock derives from.
#[derive(Clone, Default)]
pub(super) struct TrueTime(Arc<AtomicU64>);

impl TrueTime {
    pub(super) fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, now: Moment) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

/// One machine's clocks.
pub(super) struct NodeClock {
    time: TrueTime,
    state: Mutex<State>,
}

struct State {
    /// At this true time …
    from: Moment,
    /// … the monotonic clock showed this …
    monotonic: u64,
    /// … and the wall clock this, in nanoseconds since the Unix epoch.
    wall: i64,
    /// Parts per million that both are fast.
    rate_ppm: i32,
}

impl State {
    /// What the clock counts in so much true time.
    fn local(&self, nanos: u64) -> u64 {
        let rate = (MILLION as u64).saturating_add_signed(self.rate_ppm.into());
        // The division of wide numbers would be a tenth of a run.
        match nanos.checked_mul(rate) {
            Some(product) => product / MILLION as u64,
            None => (u128::from(nanos) * u128::from(rate) / MILLION as u128) as u64,
        }
    }

    fn advance(&mut self, to: Moment) {
        let passed = self.local(to.0 - self.from.0);
        self.monotonic += passed;
        self.wall += passed as i64;
        self.from = to;
    }
}

impl NodeClock {
    /// A clock whose machine has been up for `uptime_ms`.
    pub(super) fn new(time: TrueTime, uptime_ms: u64, wall_offset_ms: i64, rate_ppm: i32) -> Arc<Self> {
        let wall = (WALL_ORIGIN_MS + wall_offset_ms) * MILLION as i64;
        let state = State { from: time.now(), monotonic: uptime_ms * 1_000_000, wall, rate_ppm };
        Arc::new(Self { time, state: Mutex::new(state) })
    }

    /// The machine starts anew: the monotonic clock begins again.
    pub(super) fn reboot(&self, uptime_ms: u64) {
        let mut state = self.state.lock();
        state.advance(self.time.now());
        state.monotonic = uptime_ms * 1_000_000;
    }

    pub(super) fn jump_wall(&self, ms: i64) {
        let mut state = self.state.lock();
        state.advance(self.time.now());
        state.wall = state.wall.saturating_add(ms.saturating_mul(MILLION as i64));
    }

    pub(super) fn set_rate(&self, ppm: i32) {
        let mut state = self.state.lock();
        state.advance(self.time.now());
        state.rate_ppm = ppm;
    }

    /// How much true time passes while this clock counts `ms`.
    pub(super) fn true_ns(&self, ms: u64) -> u64 {
        let rate = MILLION + i128::from(self.state.lock().rate_ppm);
        (i128::from(ms) * MILLION * MILLION / rate) as u64
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Now {
        let state = self.state.lock();
        let passed = state.local(self.time.now().0 - state.from.0);
        let wall_ms = ((state.wall + passed as i64) / MILLION as i64).max(0) as u64;
        Now { monotonic: Nanos(state.monotonic + passed), wall_ms, agreed_ms: None }
    }

    fn monotonic(&self) -> Nanos {
        self.now().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_a_jump_moves_the_wall_only() {
        let time = TrueTime::default();
        let clock = NodeClock::new(time.clone(), 100, 0, 50_000);
        time.set(Moment(0).after_ms(1000));
        assert_eq!(clock.monotonic(), Nanos(1_150_000_000));
        clock.jump_wall(-5000);
        clock.set_rate(-50_000);
        assert_eq!(clock.now().wall_ms, WALL_ORIGIN_MS as u64 + 1050 - 5000);
        time.set(Moment(0).after_ms(2000));
        assert_eq!(clock.monotonic(), Nanos(2_100_000_000));
        assert_eq!(clock.true_ns(95), 100_000_000);
        clock.reboot(3);
        assert_eq!(clock.monotonic(), Nanos(3_000_000));
    }
}
