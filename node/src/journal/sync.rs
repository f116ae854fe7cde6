//! Syncing segments beside the rounds, so that journal files become free again.

use super::error::JournalError;
use crate::log::{DiskError, Segment};
use crate::seeded::{Bug, planted};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// The segments that one full journal file covers.
#[derive(Debug)]
pub struct SyncJob {
    pub(super) file: u32,
    pub(super) segments: Vec<Arc<Segment>>,
}

impl SyncJob {
    /// Syncs them. Returns the file that is not needed for them any more.
    ///
    /// # Errors
    /// Of the first sync that failed. Never retry.
    pub fn run(self) -> Result<u32, DiskError> {
        for segment in &self.segments {
            let retry = |error| if planted(Bug::FailedSegmentSyncRetried) { segment.sync() } else { Err(error) };
            segment.sync().or_else(retry)?;
        }
        Ok(self.file)
    }
}

/// Runs sync jobs. At most as many are under way as the journal has files.
pub trait BackgroundSync: Send {
    /// Takes a job; never blocks.
    fn begin(&mut self, job: SyncJob);
    /// The journal files whose jobs are done. With `wait`, blocks until there is at least one; at least one job is then
    /// under way.
    ///
    /// # Errors
    /// If a sync failed. Never retry.
    fn finished(&mut self, wait: bool) -> Result<Vec<u32>, JournalError>;
}

/// Runs each job when it is waited for. For the simulator and tests.
#[derive(Debug, Default)]
pub struct InlineSync {
    jobs: VecDeque<SyncJob>,
}

impl BackgroundSync for InlineSync {
    fn begin(&mut self, job: SyncJob) {
        self.jobs.push_back(job);
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<u32>, JournalError> {
        let job = if wait { self.jobs.pop_front() } else { None };
        Ok(job.map(SyncJob::run).transpose()?.into_iter().collect())
    }
}

/// Runs jobs on a thread, which ends when this is dropped.
pub(super) struct ThreadedSync {
    /// `None` only while dropping.
    jobs: Option<Sender<SyncJob>>,
    done: Receiver<Result<u32, DiskError>>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadedSync {
    /// Starts the thread. `on_done` is called on it after each job, so that a failure is noticed on an idle journal.
    pub(super) fn start(on_done: impl Fn() + Send + 'static) -> Result<ThreadedSync, JournalError> {
        let (jobs, job_queue) = channel::<SyncJob>();
        let (done_queue, done) = channel();
        let run = move || {
            for job in job_queue {
                // The receiver goes last, and with it the need for the answer.
                let _ = done_queue.send(job.run());
                on_done();
            }
        };
        let thread = std::thread::Builder::new().name("journal-sync".into()).spawn(run);
        Ok(ThreadedSync { jobs: Some(jobs), done, thread: Some(thread.map_err(JournalError::Thread)?) })
    }
}

impl BackgroundSync for ThreadedSync {
    fn begin(&mut self, job: SyncJob) {
        if let Some(jobs) = &self.jobs {
            // If the thread is gone, the next `finished` says so.
            let _ = jobs.send(job);
        }
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<u32>, JournalError> {
        let mut files = Vec::new();
        if wait {
            files.push(self.done.recv().map_err(|_| JournalError::Panicked)??);
        }
        while let Ok(done) = self.done.try_recv() {
            files.push(done?);
        }
        Ok(files)
    }
}

impl Drop for ThreadedSync {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, `finished` has reported it, or no one needs it any more.
            let _ = thread.join();
        }
    }
}
