//! Where a node reads large values: on threads that may block, a few at a time.

use kvorum_core::limits::LARGE_READS_MAX;
use kvorum_core::session::Offload;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// See the module.
#[derive(Debug)]
pub struct BlockingReads {
    turns: Arc<Semaphore>,
}

impl BlockingReads {
    /// Must be used within a tokio runtime.
    #[expect(clippy::new_without_default, reason = "nothing about it is a default")]
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(LARGE_READS_MAX)) }
    }
}

impl Offload for BlockingReads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            // Never closed; if it were, the work would be dropped and its promise answer for it.
            let Ok(_turn) = turns.acquire_owned().await else { return };
            // A panic drops the promise in there, which answers then.
            let _ = tokio::task::spawn_blocking(work).await;
        });
    }
}
