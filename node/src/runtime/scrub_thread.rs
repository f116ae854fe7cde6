//! The thread that checks cold data again ([`kvorum_core::health::scrub`]).

use crate::runtime::pace::Pace;
use crate::runtime::worker_thread;
use kvorum_core::disk::Disk;
use kvorum_core::health::scrub::{Checked, ScrubPass, check};
use kvorum_core::limits::SCRUB_PASS_EVERY_MIN;
use kvorum_core::routing::router::Router;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use tracing::info;

/// Checks the cold data of a node's replicas on a thread of its own, which ends when this is dropped.
pub struct ScrubThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    router: Arc<Router>,
    bytes_per_second: u64,
    stopping: Mutex<bool>,
    stopped: Condvar,
    /// Bytes that were read.
    bytes: AtomicU64,
    /// Damaged segments that were found.
    damaged: AtomicU64,
}

impl ScrubThread {
    /// Starts the thread. It reads at most `bytes_per_second`, which is not 0. `panicked` is called if it panics.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        disk: Arc<dyn Disk>,
        router: Arc<Router>,
        bytes_per_second: u64,
        panicked: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            disk,
            router,
            bytes_per_second,
            stopping: Mutex::new(false),
            stopped: Condvar::new(),
            bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        });
        let worker = Arc::clone(&shared);
        let thread = worker_thread::start("scrub", move || worker.run(), panicked)?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for ScrubThread {
    fn drop(&mut self) {
        *self.shared.stopping.lock() = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            // It catches every panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        // Not at the start, when replicas are opened and everybody wants the disk.
        while self.wait_until(Instant::now() + SCRUB_PASS_EVERY_MIN) {
            let before = self.bytes.load(Ordering::Relaxed);
            let began = Instant::now();
            if !self.pass() {
                return;
            }
            let (bytes, seconds) = (self.bytes.load(Ordering::Relaxed) - before, began.elapsed().as_secs());
            if bytes > 0 {
                info!(bytes, seconds, damaged = self.damaged.load(Ordering::Relaxed), "checked all cold data again");
            }
        }
    }

    /// Goes through all replicas once. Returns `false` if it was stopped.
    fn pass(&self) -> bool {
        let mut rate = Pace::begin(self.bytes_per_second);
        let mut running = true;
        let mut pass = ScrubPass::new(&self.router);
        while let Some((handle, segment)) = pass.next(&self.router) {
            let mut pace = |read: u64| {
                self.bytes.fetch_add(read, Ordering::Relaxed);
                self.router.counts().scrubbed_bytes.add(read);
                running = rate.note(read).is_none_or(|until| self.wait_until(until));
                running
            };
            if check(&*self.disk, &handle.reader, &segment, &mut pace) == Checked::Damaged {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                pass.leave_replica();
            }
            if !running || *self.stopping.lock() {
                return false;
            }
        }
        true
    }

    /// Returns whether to go on.
    fn wait_until(&self, until: Instant) -> bool {
        let mut stopping = self.stopping.lock();
        while !*stopping && Instant::now() < until {
            self.stopped.wait_until(&mut stopping, until);
        }
        !*stopping
    }
}
