//! A node's journal: the production writer, its rounds driven by events instead of a thread.

use kvorum_core::clock::Nanos;
use kvorum_core::journal::{
    BackgroundSync, DurableEnds, JournalError, JournalWriter, ShardJournal, Submission, SubmissionQueue, SyncJob,
};
use kvorum_core::log::Position;
use kvorum_protocol::ShardId;
use parking_lot::Mutex;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What shards hand their appends to. With durability `memory` a submission completes at once, as in a node.
pub(super) struct Submissions {
    fsync: bool,
    queue: Mutex<SubmissionQueue>,
    durable: Mutex<DurableEnds>,
}

impl ShardJournal for Submissions {
    fn submit(&self, submission: Submission) {
        if self.fsync {
            self.queue.lock().push(submission);
        } else {
            submission.listener.persisted(submission.token);
        }
    }

    fn durable(&self, shard: ShardId) -> Option<Position> {
        if self.fsync { self.durable.lock().get(shard) } else { None }
    }
}

/// The journal of one process.
pub(super) struct Journal {
    submissions: Arc<Submissions>,
    /// `None` with durability `memory`.
    writer: Option<JournalWriter>,
    round: Option<Round>,
    rounds: u64,
    began: Nanos,
}

/// A round under way.
struct Round {
    batch: Vec<Submission>,
    /// It was written when it began; otherwise it will be when it ends. A crash in between finds all of it or nothing.
    written: bool,
}

impl Journal {
    pub(super) fn new(writer: Option<JournalWriter>, frame_bytes_max: u32, durable: DurableEnds) -> Self {
        let submissions = Submissions {
            fsync: writer.is_some(),
            queue: Mutex::new(SubmissionQueue::new(frame_bytes_max)),
            durable: Mutex::new(durable),
        };
        Self { submissions: Arc::new(submissions), writer, round: None, rounds: 0, began: Nanos(0) }
    }

    pub(super) fn submissions(&self) -> &Arc<Submissions> {
        &self.submissions
    }

    /// Files that were begun after the ring had been through once.
    pub(super) fn files_used_again(&self, ring: u32) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.files_begun().saturating_sub(ring.into()))
    }

    /// Whether a round could begin.
    pub(super) fn is_waiting(&self) -> bool {
        self.round.is_none() && !self.submissions.queue.lock().is_empty()
    }

    /// How long the round under way has taken so far.
    pub(super) fn stalled_for(&self, now: Nanos) -> Duration {
        let since = self.round.as_ref().map(|_| now.ms_since(self.began));
        Duration::from_millis(since.unwrap_or(0))
    }

    /// The number of the round under way, or of the last one.
    pub(super) fn round(&self) -> u64 {
        self.rounds
    }

    /// Begins a round with what waits.
    pub(super) fn begin(&mut self, write_first: bool, now: Nanos) -> Result<(), JournalError> {
        self.began = now;
        let batch = self.submissions.queue.lock().next_round();
        self.round = Some(Round { batch, written: false });
        self.rounds += 1;
        if write_first { self.write() } else { Ok(()) }
    }

    /// Ends the round: everything in it is durable.
    pub(super) fn end(&mut self) -> Result<usize, JournalError> {
        self.write()?;
        let Some(Round { batch, .. }) = self.round.take() else { return Ok(0) };
        self.submissions.durable.lock().handle_round(&batch);
        for submission in &batch {
            submission.listener.persisted(submission.token);
        }
        Ok(batch.len())
    }

    fn write(&mut self) -> Result<(), JournalError> {
        let (Some(writer), Some(round)) = (&mut self.writer, &mut self.round) else { return Ok(()) };
        if !std::mem::replace(&mut round.written, true) {
            writer.round(&round.batch)?;
        }
        Ok(())
    }

    /// A graceful stop: writes what was submitted, and closes.
    pub(super) fn close(mut self) -> Result<(), JournalError> {
        self.end()?;
        while !self.submissions.queue.lock().is_empty() {
            self.begin(true, self.began)?;
            self.end()?;
        }
        self.writer.map_or(Ok(()), JournalWriter::close)
    }
}

/// Syncs the segments of full journal files some rounds later, as a thread beside the journal's would.
pub(super) struct LateSync {
    jobs: VecDeque<SyncJob>,
    /// How likely a job is done when it is looked at: a disk may be far behind.
    done: f64,
    rng: ChaCha8Rng,
}

impl LateSync {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let done = [0.01, 0.1, 0.5][rng.random_range(0..3)];
        Self { jobs: VecDeque::new(), done, rng }
    }
}

impl BackgroundSync for LateSync {
    fn begin(&mut self, job: SyncJob) {
        self.jobs.push_back(job);
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<u32>, JournalError> {
        let due = wait || (!self.jobs.is_empty() && self.rng.random_bool(self.done));
        let job = if due { self.jobs.pop_front() } else { None };
        Ok(job.map(SyncJob::run).transpose()?.into_iter().collect())
    }
}
