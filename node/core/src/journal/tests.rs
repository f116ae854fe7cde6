//! Journal and logs together, over a disk in memory that loses what was not synced.

use super::testing::{listener, open_log};
use super::*;
use crate::disk::Disk;
use crate::disk::memory::{Faults, MemoryDisk};
use crate::folder::mirrored::copy_of;
use crate::log::{Damage, InlineSource, LogError, ShardLog, erase};
use bytes::Bytes;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ShardId, Term};
use proptest::prelude::*;

const OPTIONS: JournalOptions = JournalOptions {
    files: 3,
    file_bytes: 32 * 1024,
    frame_bytes_max: 12 * 1024,
    bypass_bytes: 6 * 1024,
    shards_max: 8,
    memory_sync_interval: Duration::from_millis(1),
};

/// Anything that a crash explains.
#[derive(Debug)]
struct Crashed;

/// A failed disk is a crash; anything else that goes wrong is a bug.
fn crash_or_bug<T, E: std::fmt::Debug>(result: Result<T, E>, is_crash: fn(&E) -> bool) -> Result<T, Crashed> {
    result.map_err(|error| {
        assert!(is_crash(&error), "{error:?}");
        Crashed
    })
}

fn log_crashed(error: &LogError) -> bool {
    matches!(error, LogError::Disk(_))
}

fn journal_crashed(error: &JournalError) -> bool {
    matches!(error, JournalError::Disk(_) | JournalError::Failed)
}

fn as_disk(disk: &Arc<MemoryDisk>) -> Arc<dyn Disk> {
    Arc::clone(disk) as Arc<dyn Disk>
}

fn entry(shard: u16, index: u64, bytes: usize) -> RaftEntry {
    let payload = Bytes::from(vec![(u64::from(shard) * 31 + index) as u8; bytes]);
    RaftEntry { term: Term(1), index: LogIndex(index), kind: RaftEntryKind::Operations, payload }
}

fn entries(log: &ShardLog) -> Vec<RaftEntry> {
    (1..=log.last_index().0).map(|index| log.entry(LogIndex(index)).unwrap()).collect()
}

fn submission(logs: &mut [ShardLog]) -> Submission {
    let chunks = logs.iter_mut().flat_map(ShardLog::take_appended).collect();
    Submission { chunks, token: 0, listener: listener().0 }
}

/// A node without threads: what it promised is what it must still have after any crash.
struct Node {
    writer: JournalWriter,
    logs: Vec<ShardLog>,
}

#[derive(Clone)]
struct History {
    /// All that was ever appended, by shard.
    appended: Vec<Vec<RaftEntry>>,
    /// How many of them were promised, by shard.
    promised: Vec<usize>,
}

impl History {
    fn new(shards: usize) -> Self {
        Self { appended: vec![Vec::new(); shards], promised: vec![0; shards] }
    }
}

impl Node {
    fn start(disk: &Arc<MemoryDisk>, shards: usize) -> Result<Self, Crashed> {
        Self::start_with(disk, shards, Box::new(InlineSync::default()))
    }

    fn start_with(disk: &Arc<MemoryDisk>, shards: usize, syncer: Box<dyn BackgroundSync>) -> Result<Self, Crashed> {
        let replayed = crash_or_bug(replay(&**disk), journal_crashed)?;
        let durable = replayed.durable.clone();
        let writer = JournalWriter::open(&**disk, OPTIONS, replayed, syncer);
        let writer = crash_or_bug(writer, journal_crashed)?;
        let mut logs = Vec::new();
        for shard in (0..shards as u16).map(ShardId) {
            let log = open_log(disk, shard, durable.get(&shard).copied());
            logs.push(crash_or_bug(log, log_crashed)?);
        }
        let mut node = Self { writer, logs };
        node.persist()?;
        Ok(node)
    }

    fn append(&mut self, history: &mut History, shard: usize, bytes: usize) -> Result<(), Crashed> {
        let entry = entry(shard as u16, self.logs[shard].last_index().0 + 1, bytes);
        let kept = entry.index.0 as usize - 1;
        history.appended[shard].truncate(kept);
        history.appended[shard].push(entry.clone());
        crash_or_bug(self.logs[shard].append_entry(&entry), log_crashed).map(drop)
    }

    fn persist(&mut self) -> Result<(), Crashed> {
        crash_or_bug(self.writer.round(&[submission(&mut self.logs)]), journal_crashed)
    }

    /// Everything in the logs may be promised.
    fn promise(&self, history: &mut History) {
        history.promised = self.logs.iter().map(|log| log.last_index().0 as usize).collect();
    }

    /// Appends and persists `rounds` times, in every shard.
    fn fill(&mut self, history: &mut History, rounds: usize, bytes: usize) {
        for _ in 0..rounds {
            for shard in 0..self.logs.len() {
                self.append(history, shard, bytes).unwrap();
            }
            self.persist().unwrap();
            self.promise(history);
        }
    }

    fn check(&self, history: &History) {
        for (shard, log) in self.logs.iter().enumerate() {
            let found = entries(log);
            assert!(found.len() >= history.promised[shard], "shard {shard} lost what it promised");
            assert!(found == history.appended[shard][..found.len()], "shard {shard} shows what was not appended");
        }
    }
}

#[test]
fn replay_restores_what_the_segments_lost() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 3).unwrap(), History::new(3));
    node.fill(&mut history, 5, 300);
    assert_eq!(disk.counts().segment_syncs, 0, "the journal alone makes appends durable");

    let lost = disk.after_power_loss(|| false);
    assert!(lost.segment_bytes(ShardId(0), 1)[64..].iter().all(|byte| *byte == 0));
    let replayed = replay(&*lost).unwrap();
    assert_eq!((replayed.chunks, replayed.skipped_chunks), (15, 0));
    let again = Node::start(&lost, 3).unwrap();
    again.check(&history);
}

#[test]
fn a_replay_may_be_repeated() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 2).unwrap(), History::new(2));
    node.fill(&mut history, 4, 300);
    let lost = disk.after_power_loss(|| false);
    let first = replay(&*lost).unwrap();
    let second = replay(&*lost.after_power_loss(|| false)).unwrap();
    assert_eq!((first.durable, first.rounds), (second.durable, second.rounds));
    Node::start(&lost, 2).unwrap().check(&history);
}

#[test]
fn the_ring_wraps_and_its_files_are_used_again() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 2).unwrap(), History::new(2));
    node.fill(&mut history, 100, 700);
    assert_eq!(disk.list_journal_files().unwrap().len(), 3);
    assert!(disk.counts().journal_writes > 100);
    Node::start(&disk.after_power_loss(|| false), 2).unwrap().check(&history);
}

/// Has all of its jobs done when it is waited for, the one of the file that has just become full included.
#[derive(Default)]
struct SyncAtOnce {
    done: Vec<u32>,
}

impl BackgroundSync for SyncAtOnce {
    fn begin(&mut self, job: SyncJob) {
        self.done.push(job.run().unwrap());
    }

    fn finished(&mut self, wait: bool) -> Result<Vec<u32>, JournalError> {
        Ok(if wait { std::mem::take(&mut self.done) } else { Vec::new() })
    }
}

#[test]
fn the_ring_wraps_when_every_full_file_is_synced_at_once() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start_with(&disk, 2, Box::<SyncAtOnce>::default()).unwrap(), History::new(2));
    for _ in 0..30 {
        node.fill(&mut history, 5, 900);
        Node::start(&disk.after_power_loss(|| false), 2).unwrap().check(&history);
    }
}

#[test]
fn a_quiet_shard_keeps_its_durable_position_while_the_ring_wraps() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 2).unwrap(), History::new(2));
    node.fill(&mut history, 1, 100);
    let quiet = node.logs[0].end();
    for _ in 0..100 {
        node.append(&mut history, 1, 700).unwrap();
        node.persist().unwrap();
    }
    let lost = disk.after_power_loss(|| false);
    assert_eq!(replay(&*lost).unwrap().durable[&ShardId(0)], quiet);
    // So damage to its last record is damage, not a torn tail.
    lost.edit_segment(ShardId(0), 1, |bytes| bytes[quiet.offset as usize - 20] ^= 1);
    let damaged = open_log(&lost, ShardId(0), Some(quiet)).map(drop);
    assert!(matches!(damaged, Err(LogError::Damaged { damage: Damage::Record, .. })));
}

#[test]
fn large_appends_sync_their_segment_instead() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 2).unwrap(), History::new(2));
    node.fill(&mut history, 1, 100);
    let syncs = disk.counts().segment_syncs;
    node.append(&mut history, 0, 100_000).unwrap();
    node.append(&mut history, 1, 50).unwrap();
    node.persist().unwrap();
    history.promised = vec![2, 2];
    assert_eq!(disk.counts().segment_syncs, syncs + 1);
    let again = Node::start(&disk.after_power_loss(|| false), 2).unwrap();
    again.check(&history);
}

#[test]
fn a_round_larger_than_a_file_is_split() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 4).unwrap(), History::new(4));
    let mut submissions = Vec::new();
    for _ in 0..10 {
        for shard in 0..4 {
            node.append(&mut history, shard, 3000).unwrap();
        }
        submissions.push(submission(&mut node.logs));
    }
    node.writer.round(&submissions).unwrap();
    history.promised = vec![10; 4];
    Node::start(&disk.after_power_loss(|| false), 4).unwrap().check(&history);
}

/// Which file a node writes to, and the bytes of it that hold rounds.
fn frames_in_use(disk: &MemoryDisk) -> (u32, usize) {
    let mut in_use = Vec::new();
    for number in disk.list_journal_files().unwrap() {
        let file = disk.open_journal_file(number).unwrap();
        let mut bytes = vec![0; file.bytes() as usize];
        file.read_at(0, &mut bytes).unwrap();
        in_use.extend(bytes.iter().rposition(|byte| *byte != 0).map(|last| (number, last + 1)));
    }
    assert_eq!(in_use.len(), 1, "the node uses one file so far");
    in_use[0]
}

#[test]
fn damage_before_the_newest_round_is_seen_and_damage_to_it_is_a_torn_tail() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
    node.fill(&mut history, 3, 100);
    let (file, end) = frames_in_use(&disk);
    let newest = (end - 1) / 4096 * 4096;
    let before_newest = (1..=2).map(|_| 140).sum::<u32>();
    // The first frame of all is replaced by what follows only if `needed_from` says so, so it is needed here as well.
    for byte in (0..end).step_by(7) {
        let (header_or_body, damaged) = (byte % 4096 < 48, disk.after_power_loss(|| false));
        damaged.edit_journal(file, |bytes| bytes[byte] ^= 0x10);
        match replay(&*damaged) {
            Ok(replayed) if byte >= newest => {
                assert!(replayed.durable[&ShardId(0)].offset <= 64 + before_newest + 8, "byte {byte}");
            }
            Ok(replayed) => {
                // Padding between frames carries nothing.
                assert!(!header_or_body, "byte {byte}");
                assert_eq!(replayed.durable[&ShardId(0)], node.logs[0].end(), "byte {byte}");
            }
            Err(JournalError::RoundMissing { .. }) => assert!(byte < newest, "byte {byte}"),
            Err(error) => panic!("byte {byte}: {error}"),
        }
    }
}

/// The medium has put the newest round, or the one before it, over a place that nobody needs. It may have been promised.
#[test]
fn a_round_that_lies_elsewhere_than_it_was_written_to_is_found() {
    for back in [0, 1] {
        let disk = MemoryDisk::new();
        let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
        node.fill(&mut history, 3, 100);
        let (file, end) = frames_in_use(&disk);
        let at = (end - 1) / 4096 * 4096 - back * 4096;
        let misdirected = disk.after_power_loss(|| false);
        let mut round = Vec::new();
        misdirected.edit_journal(file, |bytes| {
            round = bytes[at..at + 4096].to_vec();
            bytes[at..at + 4096].fill(0);
        });
        let elsewhere = disk.list_journal_files().unwrap().into_iter().find(|number| *number != file).unwrap();
        misdirected.edit_journal(elsewhere, |bytes| bytes[8192..8192 + 4096].copy_from_slice(&round));
        let replayed = replay(&*misdirected).unwrap();
        assert_eq!(replayed.durable[&ShardId(0)], node.logs[0].end(), "{back} rounds back");
        assert!(replayed.live_files.contains(&elsewhere), "nothing is written over it before it is done with");
        // It may be cut short, and is repeated then.
        let again = misdirected.after_power_loss(|| false);
        let mut next = Node::start(&again, 1).unwrap();
        next.check(&history);
        next.fill(&mut history, 20, 400);
        Node::start(&again.after_power_loss(|| false), 1).unwrap().check(&history);
    }
}

#[test]
fn a_damaged_identity_is_mended_from_its_copy_and_an_error_without_one() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
    node.fill(&mut history, 1, 100);
    for content in [&b""[..], b"short", b"123456789012"] {
        let disk = disk.after_kill();
        disk.write_metadata("journal", content).unwrap();
        replay(&*disk).unwrap();
        assert_ne!(disk.read_metadata("journal").unwrap().unwrap(), content, "it has been mended");
        for name in ["journal".to_owned(), copy_of("journal")] {
            disk.write_metadata(&name, content).unwrap();
        }
        assert!(matches!(replay(&*disk), Err(JournalError::Identity)));
    }
}

#[test]
fn a_closed_journal_leaves_nothing_to_replay_and_loses_nothing() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 2).unwrap(), History::new(2));
    node.fill(&mut history, 20, 500);
    node.writer.close().unwrap();
    let disk = disk.after_power_loss(|| false);
    let replayed = replay(&*disk).unwrap();
    assert_eq!((replayed.rounds, replayed.chunks), (1, 0));
    assert_eq!(replayed.durable[&ShardId(1)], node.logs[1].end());
    Node::start(&disk, 2).unwrap().check(&history);
}

#[test]
fn what_another_version_has_written_is_neither_skipped_nor_given_up() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
    node.fill(&mut history, 2, 300);
    let refused = |disk: &MemoryDisk| match replay_or_give_up(disk, false) {
        Err(JournalError::Unsupported(version)) => version.to_string(),
        other => panic!("expected another version, got {other:?}"),
    };
    // A segment: what the journal holds of it would be lost with the rounds.
    let lost = disk.after_power_loss(|| false);
    lost.edit_segment(ShardId(0), 1, |bytes| {
        bytes[7] = 4;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert_eq!(refused(&lost), "the segment has version 4, and this program reads version 3: start a newer program");
    // A round: the checksum of its header covers its version.
    let lost = disk.after_power_loss(|| false);
    let identity = lost.read_metadata(IDENTITY_FILE).unwrap().unwrap();
    let number = lost.list_journal_files().unwrap()[0];
    lost.edit_journal(number, |bytes| {
        bytes[3] = 2;
        let crc = crc32fast::hash(&[&identity[..8], &bytes[..4], &bytes[8..48]].concat());
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    });
    assert_eq!(refused(&lost), "the journal has version 2, and this program reads version 1: start a newer program");
    // A flip in the number makes no version of it.
    let lost = disk.after_power_loss(|| false);
    lost.edit_journal(number, |bytes| bytes[3] = 2);
    assert!(!matches!(replay(&*lost), Err(JournalError::Unsupported(_))));
}

#[test]
fn an_erased_shard_starts_over_although_the_journal_remembers_it() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
    node.fill(&mut history, 8, 700);
    node.logs.clear();
    erase(&*disk, &InlineSource::new(as_disk(&disk)), ShardId(0)).unwrap();

    // A crash right after: the journal knows of a log that is gone, which is damage unless one knows that it was erased.
    let crashed = disk.after_power_loss(|| false);
    let durable = replay(&*crashed).unwrap().durable[&ShardId(0)];
    let missing = open_log(&crashed, ShardId(0), Some(durable)).map(drop);
    assert!(matches!(missing, Err(LogError::Damaged { damage: Damage::SegmentMissing, .. })));

    node.logs.push(open_log(&disk, ShardId(0), None).unwrap());
    node.persist().unwrap();
    let mut history = History::new(1);
    node.fill(&mut history, 1, 50);
    let disk = disk.after_power_loss(|| false);
    let again = Node::start(&disk, 1).unwrap();
    again.check(&history);
    assert_eq!(again.logs[0].last_index(), LogIndex(1));
}

#[test]
fn a_changed_ring_is_brought_into_shape() {
    let disk = MemoryDisk::new();
    let (mut node, mut history) = (Node::start(&disk, 1).unwrap(), History::new(1));
    node.fill(&mut history, 20, 900);
    let disk = disk.after_power_loss(|| false);
    let options = JournalOptions { files: 2, file_bytes: 64 * 1024, ..OPTIONS };
    let replayed = replay(&*disk).unwrap();
    let durable = replayed.durable.clone();
    JournalWriter::open(&*disk, options, replayed, Box::new(InlineSync::default())).unwrap();
    let sizes: Vec<_> =
        disk.list_journal_files().unwrap().into_iter().map(|file| disk.open_journal_file(file)).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|file| file.as_ref().unwrap().bytes() == 64 * 1024));
    assert_eq!(replay(&*disk.after_power_loss(|| false)).unwrap().durable, durable);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for options in [
        JournalOptions { files: 1, ..OPTIONS },
        JournalOptions { file_bytes: 32 * 1024 + 1, ..OPTIONS },
        JournalOptions { file_bytes: 8 * 1024, ..OPTIONS },
        JournalOptions { bypass_bytes: 16 * 1024, ..OPTIONS },
        JournalOptions { shards_max: 4097, ..OPTIONS },
    ] {
        let disk = MemoryDisk::new();
        let writer = JournalWriter::open(&*disk, options, Replayed::default(), Box::new(InlineSync::default()));
        assert!(matches!(writer.map(drop), Err(JournalError::Options(_))), "{options:?}");
    }
    let disk = MemoryDisk::new();
    let small = JournalOptions { files: 2, ..JournalOptions::default() };
    JournalWriter::open(&*disk, small, Replayed::default(), Box::new(InlineSync::default())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A node is crashed again and again, at any operation, by power loss that keeps any subset of unsynced sectors or by
    /// kill -9. It always starts again, has everything it promised, and shows nothing that was not appended.
    #[test]
    fn no_crash_loses_a_promise(
        lives in proptest::collection::vec(
            (0u64..60, proptest::collection::vec((0usize..3, 1usize..9000, 0u8..3), 0..40), any::<u64>()),
            1..8,
        ),
    ) {
        let mut history = History::new(3);
        let mut disk = MemoryDisk::new();
        for (operations, steps, seed) in lives {
            disk.set_faults(Faults { operations_left: Some(operations), ..Faults::default() });
            // Until it ends by crashing or by running out of steps.
            let _ = live(&disk, &mut history, &steps);
            let mut state = seed | 1;
            let mut survives = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % 3 == 0
            };
            disk = if seed % 4 == 0 { disk.after_kill() } else { disk.after_power_loss(&mut survives) };
        }
        let node = Node::start(&disk, 3).unwrap();
        node.check(&history);
    }
}

fn live(disk: &Arc<MemoryDisk>, history: &mut History, steps: &[(usize, usize, u8)]) -> Result<(), Crashed> {
    let mut node = Node::start(disk, 3)?;
    node.check(history);
    // What recovery shows may be promised at once: it is durable.
    node.promise(history);
    for &(shard, bytes, persist) in steps {
        node.append(history, shard, bytes)?;
        if persist == 0 {
            node.persist()?;
            node.promise(history);
        }
    }
    Ok(())
}

/// Sectors that survive a power loss, by the order in which they would be written.
const SURVIVORS: [fn(u32) -> bool; 4] = [|_| false, |_| true, |at| at % 2 == 0, |at| at % 2 == 1];

/// Crashes a node at each of its operations in turn: while it goes round the ring, and while it starts after that.
#[test]
fn no_crash_at_any_operation_loses_a_promise() {
    let steps: Vec<_> = (0..60).map(|step| (step % 3, 1500 + step * 70, 0)).collect();
    let mut operations = 0;
    loop {
        let mut ended = false;
        for survivors in SURVIVORS {
            let (disk, mut history) = (MemoryDisk::new(), History::new(3));
            disk.set_faults(Faults { operations_left: Some(operations), ..Faults::default() });
            ended = live(&disk, &mut history, &steps).is_ok();
            let disk = power_loss(&disk, survivors);
            crash_while_starting(&disk, &history, survivors, operations);
        }
        if ended {
            break;
        }
        operations += 1;
    }
    assert!(operations > 150, "the ring went round: {operations} operations");
}

fn power_loss(disk: &MemoryDisk, survivors: fn(u32) -> bool) -> Arc<MemoryDisk> {
    let mut at = 0;
    disk.after_power_loss(|| {
        at += 1;
        survivors(at)
    })
}

/// Starts after a crash, with another crash at one of the operations that starting takes, then starts for good.
fn crash_while_starting(disk: &Arc<MemoryDisk>, history: &History, survivors: fn(u32) -> bool, operations: u64) {
    let disk = power_loss(disk, |_| false);
    disk.set_faults(Faults { operations_left: Some(operations % 16), ..Faults::default() });
    if let Ok(node) = Node::start(&disk, 3) {
        node.check(history);
    }
    let disk = power_loss(&disk, survivors);
    Node::start(&disk, 3).unwrap().check(history);
}
