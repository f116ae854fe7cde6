//! Ties jobs to the replica that wanted them: once it is gone, or its files are another's, nothing may touch them.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Held by a replica; its jobs hold the other end.
#[derive(Debug, Default)]
pub struct Leash {
    cut: AtomicBool,
    running: Mutex<()>,
}

impl Leash {
    /// A new one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether the replica has let go.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// No job begins any more, and one that runs is waited for. It looks every few milliseconds.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        drop(self.running.lock());
    }

    /// The right to run a job, as long as the guard is held; `None` if the replica has let go.
    pub(super) fn run(&self) -> Option<MutexGuard<'_, ()>> {
        let guard = self.running.lock();
        (!self.is_cut()).then_some(guard)
    }
}
