//! The thread that runs the shards' upkeep: one for the node, so that compaction never takes more than its share of the
//! disk, at a rate with a bound.

use crate::runtime::pace::Pace;
use crate::runtime::worker_thread;
use kvorum_core::disk::Disk;
use kvorum_core::shard::inbox::Inbox;
use kvorum_core::shard::upkeep::{DumpPermits, Job, Upkeep};
use kvorum_protocol::ShardId;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Runs jobs one after another on a thread of its own, which ends when this is dropped.
pub struct UpkeepThread {
    shared: Arc<Shared>,
    permits: Arc<DumpPermits>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<VecDeque<(ShardId, Job, Arc<Inbox>)>>,
    filled: Condvar,
    stopping: AtomicBool,
    disk: Arc<dyn Disk>,
    bytes_per_second: u64,
    /// Bytes that compactions read or wrote so far.
    bytes: AtomicU64,
}

impl UpkeepThread {
    /// Starts the thread. Compaction reads and writes at most `bytes_per_second` together. `panicked` is called if the thread panics:
    /// nothing is done from then on.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        disk: Arc<dyn Disk>,
        bytes_per_second: u64,
        panicked: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            stopping: AtomicBool::new(false),
            disk,
            bytes_per_second,
            bytes: AtomicU64::new(0),
        });
        let worker = Arc::clone(&shared);
        let thread = worker_thread::start("upkeep", move || worker.run(), panicked)?;
        Ok(Self { shared, permits: Arc::default(), thread: Some(thread) })
    }

    /// Bytes that were read or written so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Upkeep for UpkeepThread {
    fn submit(&self, shard: ShardId, job: Job, inbox: Arc<Inbox>) {
        // At most one of each shard.
        self.shared.queue.lock().push_back((shard, job, inbox));
        self.shared.filled.notify_one();
    }

    fn permits(&self) -> &Arc<DumpPermits> {
        &self.permits
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The lock makes sure that the thread either sees the mark or waits already.
        drop(self.shared.queue.lock());
        self.shared.filled.notify_all();
        if let Some(thread) = self.thread.take() {
            // It catches every panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn run(&self) {
        while let Some((_, job, inbox)) = self.next() {
            let mut pace = Pace::begin(self.bytes_per_second);
            let done = job.run(&*self.disk, &mut |bytes| {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                pace.note(bytes).into_iter().for_each(|until| self.wait_until(until));
                !self.is_stopping()
            });
            inbox.upkeep_done(done);
        }
    }

    /// Waits; shorter if it is time to stop.
    fn wait_until(&self, until: Instant) {
        let mut queue = self.queue.lock();
        // New jobs wake it as well, and change nothing.
        while !self.is_stopping() && Instant::now() < until {
            self.filled.wait_until(&mut queue, until);
        }
    }

    fn next(&self) -> Option<(ShardId, Job, Arc<Inbox>)> {
        let mut queue = self.queue.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            if let Some(job) = queue.pop_front() {
                return Some(job);
            }
            self.filled.wait(&mut queue);
        }
    }
}
