//! The journal with its threads.

use super::*;
use bytes::Bytes;
use kvorum_core::disk::RealDisk;
use kvorum_core::disk::memory::{Faults, MemoryDisk};
use kvorum_core::journal::testing::{TokenListener, listener, open_log};
use kvorum_core::journal::{PersistListener, replay};
use kvorum_core::log::{InlineSource, LogOptions, ShardLog};
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, Term};

const OPTIONS: JournalOptions = JournalOptions {
    files: 3,
    file_bytes: 32 * 1024,
    frame_bytes_max: 12 * 1024,
    bypass_bytes: 6 * 1024,
    shards_max: 8,
    memory_sync_interval: Duration::from_millis(1),
};

const SHARD: ShardId = ShardId(0);

fn entry(index: u64, bytes: usize) -> RaftEntry {
    let payload = Bytes::from(vec![index as u8; bytes]);
    RaftEntry { term: Term(1), index: LogIndex(index), kind: RaftEntryKind::Operations, payload }
}

fn entries(log: &ShardLog) -> Vec<RaftEntry> {
    (1..=log.last_index().0).map(|index| log.entry(LogIndex(index)).unwrap()).collect()
}

#[test]
fn the_smallest_file_that_a_configuration_may_ask_for_will_do() {
    let disk = MemoryDisk::new();
    let file_bytes = u32::try_from(crate::config::JOURNAL_FILE_BYTES_MIN).unwrap();
    let options = JournalOptions { file_bytes, files: 2, ..JournalOptions::default() };
    let started = Journal::start(&*disk, options, Durability::Fsync, replay(&*disk).unwrap(), Box::new(|_| {}));
    started.map(drop).unwrap();
}

/// A journal with its threads, and one log.
struct Running {
    disk: Arc<MemoryDisk>,
    journal: Option<Journal>,
    handle: JournalHandle,
    log: ShardLog,
    told: (Arc<TokenListener>, Receiver<u64>),
    fatal: Receiver<JournalError>,
}

impl Running {
    fn start(durability: Durability) -> Self {
        let disk = MemoryDisk::new();
        let (fatal_sender, fatal) = channel();
        let fatal_sender = Mutex::new(fatal_sender);
        let on_fatal = Box::new(move |error| fatal_sender.lock().send(error).unwrap());
        let replayed = replay(&*disk).unwrap();
        let (journal, handle) = Journal::start(&*disk, OPTIONS, durability, replayed, on_fatal).unwrap();
        let log = open_log(&disk, SHARD, None).unwrap();
        Self { disk, journal: Some(journal), handle, log, told: listener(), fatal }
    }

    fn submit(&mut self, token: u64) {
        let next = self.log.last_index().0 + 1;
        self.log.append_entry(&entry(next, 500)).unwrap();
        let listener = Arc::clone(&self.told.0) as Arc<dyn PersistListener>;
        self.handle.submit(Submission { chunks: self.log.take_appended(), token, listener });
    }

    fn stop(&mut self) {
        self.journal.take().unwrap().stop();
    }

    fn told(&self) -> Vec<u64> {
        self.told.1.try_iter().collect()
    }
}

#[test]
fn submissions_complete_in_order_and_are_durable() {
    let mut running = Running::start(Durability::Fsync);
    for token in 1..=50 {
        running.submit(token);
    }
    let told: Vec<_> = running.told.1.iter().take(50).collect();
    assert_eq!(told, (1..=50).collect::<Vec<_>>());
    assert_eq!(running.handle.durable(SHARD), Some(running.log.end()));
    assert_eq!(running.handle.durable(ShardId(1)), None);
    assert!((1..=50).contains(&running.handle.rounds()));

    let disk = running.disk.after_power_loss(|| false);
    let durable: BTreeMap<_, _> = replay(&*disk).unwrap().durable;
    assert_eq!(entries(&open_log(&disk, SHARD, durable.get(&SHARD).copied()).unwrap()), entries(&running.log));
}

#[test]
fn stopping_completes_what_was_submitted() {
    let mut running = Running::start(Durability::Fsync);
    for token in 1..=20 {
        running.submit(token);
    }
    running.stop();
    assert_eq!(running.told(), (1..=20).collect::<Vec<_>>());
    assert_eq!(running.handle.queued_bytes(), 0);
    assert!(running.fatal.try_recv().is_err());
    running.submit(21);
    assert!(running.told().is_empty(), "a stopped journal promises nothing");
}

#[test]
fn a_failure_is_reported_once_and_nothing_completes_after_it() {
    for faults in [
        Faults { journal_sync_fails: true, ..Faults::default() },
        Faults { journal_write_fails: true, ..Faults::default() },
    ] {
        let mut running = Running::start(Durability::Fsync);
        running.submit(1);
        assert_eq!(running.told.1.recv(), Ok(1));
        running.disk.set_faults(faults);
        running.submit(2);
        assert!(matches!(running.fatal.recv(), Ok(JournalError::Disk(_))));
        // The fault is gone, but a retry would only seem to succeed.
        running.disk.set_faults(Faults::default());
        running.submit(3);
        running.stop();
        assert!(running.told().is_empty() && running.fatal.try_recv().is_err() && running.handle.has_failed());
    }
}

#[test]
fn a_failed_sync_of_a_segment_is_fatal_too() {
    let mut running = Running::start(Durability::Fsync);
    running.disk.set_faults(Faults { segment_sync_fails: true, ..Faults::default() });
    // Enough for a file to be full and its segments to be synced; whatever is submitted after that is not promised.
    let mut token = 0;
    while !running.handle.has_failed() {
        token += 1;
        running.submit(token);
        // Either it completes, or the failure ends the wait.
        while running.told.1.try_recv().is_err() && !running.handle.has_failed() {
            std::thread::yield_now();
        }
        assert!(token < 1000, "a journal of 96 KiB needs syncs before that");
    }
    assert!(matches!(running.fatal.recv(), Ok(JournalError::Disk(_))));
    running.stop();
    assert!(running.fatal.try_recv().is_err());
}

#[test]
fn in_memory_mode_submissions_complete_at_once_and_segments_are_synced_behind() {
    let mut running = Running::start(Durability::Memory);
    running.submit(1);
    assert_eq!(running.told(), [1], "on the submitting thread");
    running.stop();
    assert!(running.disk.list_journal_files().unwrap().is_empty());
    let disk = running.disk.after_power_loss(|| false);
    assert_eq!(entries(&open_log(&disk, SHARD, None).unwrap()), entries(&running.log));
}

#[test]
fn in_memory_mode_a_failed_sync_is_fatal() {
    let mut running = Running::start(Durability::Memory);
    running.disk.set_faults(Faults { segment_sync_fails: true, ..Faults::default() });
    running.submit(1);
    assert!(matches!(running.fatal.recv(), Ok(JournalError::Disk(_))));
    running.told();
    running.submit(2);
    assert!(running.told().is_empty());
}

#[test]
fn what_was_submitted_is_written_though_the_runtime_ends_before_it_called_the_journal() {
    let mut running = Running::start(Durability::Fsync);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Its task never gets a turn.
    runtime.block_on(async { running.submit(1) });
    drop(runtime);
    assert_eq!(running.told.1.recv(), Ok(1));
    running.stop();
}

#[test]
fn on_a_real_file_system_a_node_starts_again_after_losing_its_segments() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<_> = (1..=40).map(|index| entry(index, 1000 * (index as usize % 9 + 1))).collect();
    let start = || {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).unwrap());
        let replayed = replay(&*disk).unwrap();
        let durable = replayed.durable.get(&ShardId(7)).copied();
        let on_fatal = Box::new(|error| panic!("{error}"));
        let (journal, handle) = Journal::start(&*disk, OPTIONS, Durability::Fsync, replayed, on_fatal).unwrap();
        let options = LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))));
        let (log, _) = ShardLog::open(&disk, ShardId(7), durable, options).unwrap();
        (journal, handle, log)
    };
    let (journal, handle, mut log) = start();
    let (told, receiver) = listener();
    for entry in &expected {
        log.append_entry(entry).unwrap();
        let listener = Arc::clone(&told) as Arc<dyn PersistListener>;
        handle.submit(Submission { chunks: log.take_appended(), token: entry.index.0, listener });
        assert_eq!(receiver.recv(), Ok(entry.index.0));
    }
    // What the newest journal file covers is lost from the segment; what older files covered was synced.
    std::mem::forget(journal);
    let (segment, end) = (log.view().segment(log.end().segment).unwrap(), log.end());
    let last = log.payload_position(LogIndex(40)).unwrap().0.offset - 40;
    let path = folder.path().join("shards/00007").join(format!("{:010}.segment", segment.number()));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let zeros = vec![0; (end.offset - last) as usize];
    drop((log, handle, segment));
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, last.into()).unwrap();

    let (journal, _, log) = start();
    assert_eq!((entries(&log), log.end()), (expected.clone(), end));
    journal.stop();
    drop(log);
    let (_journal, _, log) = start();
    assert_eq!(entries(&log), expected);
}
