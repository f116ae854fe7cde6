//! The journal as a node runs it: a thread for the rounds, and one that syncs segments.

use kvorum_core::disk::{Disk, DiskError};
use kvorum_core::journal::{
    BackgroundSync, DurableEnds, JournalError, JournalOptions, JournalWriter, Replayed, ShardJournal, Submission,
    SubmissionQueue, SyncJob,
};
use kvorum_core::log::{Position, Segment};
use kvorum_core::measure::{Count, Durations, DurationsSum};
use kvorum_protocol::{Durability, ShardId};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// How often everybody else who is ready on the runtime goes first before the journal's thread is woken. A round that begins with
/// the first submission leaves those of the turns just behind it to the next one, and a round costs two operations of the disk and
/// several context switches, whatever is in it. Measured in docs/history/2026-11.md; an idle runtime passes a yield in a microsecond.
const YIELDS_BEFORE_ROUND: usize = 6;

/// What the journal's thread does until it is stopped.
type ThreadBody = Box<dyn FnOnce(&Shared) -> Result<(), JournalError> + Send>;

/// A running journal. Its threads end when it is stopped or dropped.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How shards reach the journal. Cheap to clone.
#[derive(Clone)]
pub struct JournalHandle {
    shared: Arc<Shared>,
}

struct Shared {
    durability: Durability,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Somebody is about to wake the journal's thread.
    calling: AtomicBool,
    queued_bytes: AtomicU64,
    rounds: AtomicU64,
    /// Bytes that were written.
    bytes: Count,
    /// How long rounds took: a write and a sync each.
    round_durations: Durations,
    last_round_micros: AtomicU64,
    /// When the round under way began, in microseconds since `origin`, plus one; 0 if there is none.
    round_began: AtomicU64,
    origin: Instant,
    durable: Mutex<DurableEnds>,
    failed: AtomicBool,
    on_fatal: Box<dyn Fn(JournalError) + Send + Sync>,
}

struct Queue {
    submissions: SubmissionQueue,
    /// With durability `memory`: segments appended to since they were last synced.
    dirty: BTreeMap<(ShardId, u32), Arc<Segment>>,
    /// The syncer has news.
    synced: bool,
    stopping: bool,
}

/// Reports durable rounds, in order. In a task of the runtime where the shards run, if the journal was started in one: from the
/// journal's thread each report would fetch its shard's inbox from another processor and wake its actor from outside, which
/// costs up to a twentieth of a small write (docs/history/2026-11.md).
enum Reporter {
    Task(mpsc::UnboundedSender<Vec<Submission>>),
    Here,
}

impl Reporter {
    fn new(shared: &Arc<Shared>) -> Self {
        let Ok(runtime) = Handle::try_current() else { return Self::Here };
        // Without a bound of its own: each shard waits for its reports before it submits much more.
        let (rounds, mut durable) = mpsc::unbounded_channel();
        let shared = Arc::clone(shared);
        runtime.spawn(async move {
            while let Some(batch) = durable.recv().await {
                if catch_unwind(AssertUnwindSafe(|| shared.complete(batch))).is_err() {
                    return shared.fail(JournalError::Panicked);
                }
            }
        });
        Self::Task(rounds)
    }

    fn report(&self, shared: &Shared, batch: Vec<Submission>) {
        match self {
            // Goes on in the reporter's task, with `complete`. It only fails when the runtime is gone, and every listener with it.
            Self::Task(rounds) => drop(rounds.send(batch)),
            Self::Here => shared.complete(batch),
        }
    }
}

/// Wakes the journal's thread when it is dropped: also if the runtime ends before its task has run.
struct WakesThreadOnDrop(Arc<Shared>);

impl Drop for WakesThreadOnDrop {
    fn drop(&mut self) {
        // First: whoever submits from here on calls anew.
        self.0.calling.store(false, Ordering::Release);
        self.0.changed.notify_one();
    }
}

impl Journal {
    /// Starts the journal after [`kvorum_core::journal::replay()`], whose result it takes.
    ///
    /// With durability `memory` nothing is written into the journal: a submission completes at once, on the submitting
    /// thread, and segments are synced every so often. With `fsync`, submissions complete in the async runtime that this is
    /// called in, or on the journal's thread if there is none.
    ///
    /// `on_fatal` is called once, from a thread of the journal or of the runtime, at the first failure. No submission
    /// completes after it; the process must end.
    ///
    /// # Errors
    /// `Options`, `Thread`, or a failure of the disk.
    pub fn start(
        disk: &dyn Disk,
        options: JournalOptions,
        durability: Durability,
        replayed: Replayed,
        on_fatal: Box<dyn Fn(JournalError) + Send + Sync>,
    ) -> Result<(Self, JournalHandle), JournalError> {
        let shared = Arc::new(Shared {
            durability,
            queue: Mutex::new(Queue {
                submissions: SubmissionQueue::new(options.frame_bytes_max),
                dirty: BTreeMap::new(),
                synced: false,
                stopping: false,
            }),
            changed: Condvar::new(),
            calling: AtomicBool::new(false),
            queued_bytes: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            bytes: Count::default(),
            round_durations: Durations::default(),
            last_round_micros: AtomicU64::new(0),
            round_began: AtomicU64::new(0),
            origin: Instant::now(),
            durable: Mutex::new(DurableEnds::new(replayed.durable.clone())),
            failed: AtomicBool::new(false),
            on_fatal,
        });
        let run: ThreadBody = match durability {
            Durability::Fsync => {
                let waker = Arc::clone(&shared);
                let syncer = ThreadedSync::start(move || waker.note_synced())?;
                let writer = JournalWriter::open(disk, options, replayed, Box::new(syncer))?;
                let reporter = Reporter::new(&shared);
                Box::new(move |shared| shared.run_rounds(writer, &reporter))
            }
            Durability::Memory => Box::new(move |shared| shared.run_background_sync(options.memory_sync_interval)),
        };
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || worker.run(run));
        let thread = Some(thread.map_err(JournalError::Thread)?);
        Ok((Self { shared: Arc::clone(&shared), thread }, JournalHandle { shared }))
    }

    /// Makes what was submitted durable, syncs every segment, and ends the threads; a runtime's task may report the last rounds
    /// a moment later. A failure meanwhile went to `on_fatal`.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // `run` catches every panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl ShardJournal for JournalHandle {
    fn submit(&self, submission: Submission) {
        match self.shared.durability {
            Durability::Fsync => self.shared.enqueue(submission),
            Durability::Memory => self.shared.complete_in_memory(submission),
        }
    }

    fn durable(&self, shard: ShardId) -> Option<Position> {
        match self.shared.durability {
            Durability::Fsync => self.shared.durable.lock().get(shard),
            Durability::Memory => None,
        }
    }
}

impl JournalHandle {
    /// Bytes submitted and not yet durable.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    /// Rounds written since the start.
    pub fn rounds(&self) -> u64 {
        self.shared.rounds.load(Ordering::Relaxed)
    }

    /// Bytes of the submissions that were made durable.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.get()
    }

    /// How long rounds took.
    pub fn round_durations(&self) -> DurationsSum {
        DurationsSum::of([&self.shared.round_durations])
    }

    /// How long the last round took, in microseconds.
    pub fn last_round_micros(&self) -> u64 {
        self.shared.last_round_micros.load(Ordering::Relaxed)
    }

    /// How long the round under way has taken so far; zero if there is none. Shows a disk that stalls while it stalls.
    pub fn stalled_for(&self) -> Duration {
        match self.shared.round_began.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_micros((self.shared.micros() + 1).saturating_sub(began)),
        }
    }

    /// Whether the journal has failed: nothing completes any more.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed()
    }
}

impl Shared {
    fn micros(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Queues a submission, and sees to it that the journal's thread is woken once the turns that are due have added theirs.
    fn enqueue(self: &Arc<Self>, submission: Submission) {
        let mut queue = self.queue.lock();
        if queue.stopping || self.has_failed() {
            return;
        }
        self.queued_bytes.fetch_add(submission.bytes(), Ordering::Relaxed);
        queue.submissions.push(submission);
        drop(queue);
        let Ok(runtime) = Handle::try_current() else {
            self.changed.notify_one();
            return;
        };
        if !self.calling.swap(true, Ordering::AcqRel) {
            // Goes on in the journal's thread, with `run_rounds`.
            let wakes = WakesThreadOnDrop(Arc::clone(self));
            runtime.spawn(async move {
                for _ in 0..YIELDS_BEFORE_ROUND {
                    tokio::task::yield_now().await;
                }
                drop(wakes);
            });
        }
    }

    fn complete_in_memory(&self, submission: Submission) {
        let mut queue = self.queue.lock();
        if queue.stopping || self.has_failed() {
            return;
        }
        for chunk in submission.chunks.iter().filter(|chunk| chunk.length() > 0) {
            let segment = chunk.segment();
            queue.dirty.insert((segment.shard(), segment.number()), Arc::clone(segment));
        }
        drop(queue);
        // With durability `memory` nothing leaves the shard's own task.
        submission.listener.persisted(submission.token);
    }

    fn note_synced(&self) {
        self.queue.lock().synced = true;
        self.changed.notify_one();
    }

    /// The first failure ends everything: nothing that is waiting completes, and nothing is accepted any more.
    fn fail(&self, error: JournalError) {
        if self.failed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.queue.lock().submissions.clear();
        self.queued_bytes.store(0, Ordering::Relaxed);
        tracing::error!(%error, "the journal has failed; the node must end and recover from its disk");
        (self.on_fatal)(error);
    }

    fn run(&self, body: impl FnOnce(&Self) -> Result<(), JournalError>) {
        let result = catch_unwind(AssertUnwindSafe(|| body(self)));
        if let Err(error) = result.unwrap_or(Err(JournalError::Panicked)) {
            self.fail(error);
        }
    }

    fn run_rounds(&self, mut writer: JournalWriter, reporter: &Reporter) -> Result<(), JournalError> {
        while let Some(batch) = self.next_batch() {
            let began = self.micros();
            self.round_began.store(began + 1, Ordering::Relaxed);
            writer.round(&batch)?;
            self.round_began.store(0, Ordering::Relaxed);
            if !batch.is_empty() {
                let took = self.micros().saturating_sub(began);
                self.last_round_micros.store(took, Ordering::Relaxed);
                self.round_durations.note(took * 1_000);
                self.bytes.add(batch.iter().map(Submission::bytes).sum());
                self.rounds.fetch_add(1, Ordering::Relaxed);
                self.durable.lock().handle_round(&batch);
                reporter.report(self, batch);
            }
        }
        writer.close()
    }

    /// Blocks until there is something to do: submissions, as many as make a round, or none if only the syncer has news.
    /// `None` once the journal is stopping and everything was taken.
    fn next_batch(&self) -> Option<Vec<Submission>> {
        let mut queue = self.queue.lock();
        while queue.submissions.is_empty() && !queue.synced {
            if queue.stopping {
                return None;
            }
            self.changed.wait(&mut queue);
        }
        queue.synced = false;
        Some(queue.submissions.next_round())
    }

    fn complete(&self, batch: Vec<Submission>) {
        if self.has_failed() {
            return;
        }
        for submission in batch {
            self.queued_bytes.fetch_sub(submission.bytes(), Ordering::Relaxed);
            submission.listener.persisted(submission.token);
        }
    }

    fn run_background_sync(&self, interval: Duration) -> Result<(), JournalError> {
        loop {
            let mut queue = self.queue.lock();
            if !queue.stopping {
                self.changed.wait_for(&mut queue, interval);
            }
            let (dirty, stopping) = (std::mem::take(&mut queue.dirty), queue.stopping);
            drop(queue);
            for segment in dirty.values() {
                segment.sync()?;
            }
            if stopping {
                return Ok(());
            }
        }
    }
}

/// Runs jobs on a thread, which ends when this is dropped.
struct ThreadedSync {
    /// `None` only while dropping.
    jobs: Option<Sender<SyncJob>>,
    done: Receiver<Result<u32, DiskError>>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadedSync {
    /// Starts the thread. `on_done` is called on it after each job, so that a failure is noticed on an idle journal.
    fn start(on_done: impl Fn() + Send + 'static) -> Result<Self, JournalError> {
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
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread.map_err(JournalError::Thread)?) })
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
