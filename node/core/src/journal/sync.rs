//! Syncing segments beside the rounds, so that journal files become free again.

use super::error::JournalError;
use crate::disk::DiskError;
use crate::log::Segment;
use crate::seeded::{Bug, planted};
use std::collections::VecDeque;
use std::sync::Arc;

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
