//! The clocks of a node, as what it decides is told them: plain numbers. Nothing that is decided reads a clock itself; the same
//! code runs under a simulated one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Nanoseconds on a clock that never goes back and goes on while the machine is suspended. Only differences mean
/// anything, and only within one node. 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The moment `milliseconds` later.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
    }

    /// In whole milliseconds.
    pub fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Milliseconds since `earlier`, 0 if it is not earlier.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// All clocks at one moment, as a core is told them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For timeouts and leases.
    pub monotonic: Nanos,
    /// Unix time in milliseconds by this node's own clock: may jump, and may be off by any amount.
    pub wall_ms: u64,
    /// Unix time in milliseconds that the clocks of a majority of the nodes have reached; `None` if that is not known.
    pub agreed_ms: Option<u64>,
}

/// Where the parts of a node that are shared with the simulator read their clocks.
pub trait Clock: Send + Sync {
    /// All clocks.
    fn now(&self) -> Now;
    /// The monotonic clock alone.
    fn monotonic(&self) -> Nanos;
}

/// A node's clocks, and what it knows of those of a majority ([`crate::health::wall_clocks`]).
pub struct ClusterClock {
    clocks: Arc<dyn Clock>,
    /// What a majority's wall clocks are ahead of the monotonic clock, in milliseconds.
    agreed_ahead_ms: AtomicI64,
    /// What a fault hook adds to the wall clock.
    skew_ms: AtomicI64,
}

/// No majority is known.
const NOT_AGREED: i64 = i64::MIN;

impl ClusterClock {
    /// Knows of no majority yet.
    pub fn new(clocks: Arc<dyn Clock>) -> Self {
        Self { clocks, agreed_ahead_ms: AtomicI64::new(NOT_AGREED), skew_ms: AtomicI64::new(0) }
    }

    /// Fault hook: the wall clock shows `ms` milliseconds more than the machine's.
    pub fn skew(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::Relaxed);
    }

    /// A majority of clocks had reached `agreed_ms` at `at`; or it is not known any more what they show.
    pub fn set_agreed(&self, agreed_ms: Option<u64>, at: Nanos) {
        let ahead = |agreed: u64| i64::try_from(i128::from(agreed) - i128::from(at.ms())).unwrap_or(NOT_AGREED);
        self.agreed_ahead_ms.store(agreed_ms.map_or(NOT_AGREED, ahead), Ordering::Relaxed);
    }
}

impl Clock for ClusterClock {
    fn now(&self) -> Now {
        let now = self.clocks.now();
        let ahead_ms = self.agreed_ahead_ms.load(Ordering::Relaxed);
        let agreed_ms = (ahead_ms != NOT_AGREED).then(|| now.monotonic.ms().saturating_add_signed(ahead_ms));
        let wall_ms = now.wall_ms.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed));
        Now { agreed_ms, wall_ms, ..now }
    }

    fn monotonic(&self) -> Nanos {
        self.clocks.monotonic()
    }
}
