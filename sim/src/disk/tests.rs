//! Each lie, and what the node's own log, journal and replay make of it.

use super::*;
use bytes::Bytes;
use kvorum_core::disk::{FileHandle, FileSystem, FolderHandle};
use kvorum_core::journal::{
    InlineSync, JournalError, JournalOptions, JournalWriter, PersistListener, Submission, replay,
};
use kvorum_core::log::{InlineSource, LogError, LogOptions, ShardLog};
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ShardId, Term};
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::time::Duration;

const OPTIONS: JournalOptions = JournalOptions {
    files: 3,
    file_bytes: 32 * 1024,
    frame_bytes_max: 12 * 1024,
    bypass_bytes: 6 * 1024,
    shards_max: 8,
    memory_sync_interval: Duration::from_millis(1),
};

struct Nobody;

impl PersistListener for Nobody {
    fn persisted(&self, _token: u64) {}
}

/// Why a node ended or did not start.
#[derive(Debug)]
enum Failure {
    /// The disk failed.
    Disk(String),
    /// What it holds is not what was promised.
    Damaged(String),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Disk(_) | JournalError::Failed => Self::Disk(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Disk(_) | LogError::DiskFull(_) => Self::Disk(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Journal and two shards' logs, without threads.
struct Node {
    writer: JournalWriter,
    logs: Vec<ShardLog>,
}

const SHARDS: u16 = 2;

impl Node {
    fn start(disk: &Arc<dyn Disk>) -> Result<Self, Failure> {
        let replayed = replay(&**disk)?;
        let durable = replayed.durable.clone();
        let writer = JournalWriter::open(&**disk, OPTIONS, replayed, Box::new(InlineSync::default()))?;
        let mut logs = Vec::new();
        for shard in (0..SHARDS).map(ShardId) {
            let source = Arc::new(InlineSource::new(Arc::clone(disk)));
            let options = LogOptions { segment_bytes_first: 4096, segment_bytes_max: 16384, ..LogOptions::new(source) };
            logs.push(ShardLog::open(disk, shard, durable.get(&shard).copied(), options)?.0);
        }
        let mut node = Self { writer, logs };
        node.persist()?;
        Ok(node)
    }

    fn append(&mut self, shard: usize, bytes: usize) -> Result<(), Failure> {
        let index = LogIndex(self.logs[shard].last_index().0 + 1);
        self.logs[shard].append_entry(&entry(shard, index, bytes))?;
        Ok(())
    }

    fn persist(&mut self) -> Result<(), Failure> {
        let chunks = self.logs.iter_mut().flat_map(ShardLog::take_appended).collect();
        Ok(self.writer.round(&[Submission { chunks, token: 0, listener: Arc::new(Nobody) }])?)
    }

    fn lengths(&self) -> [u64; SHARDS as usize] {
        [self.logs[0].last_index().0, self.logs[1].last_index().0]
    }

    /// Appends and promises `rounds` times, in both shards.
    fn fill(&mut self, rounds: usize, bytes: usize) -> Result<(), Failure> {
        for round in 0..rounds {
            self.append(0, bytes)?;
            self.append(1, bytes / 3 + round)?;
            self.persist()?;
        }
        Ok(())
    }
}

fn entry(shard: usize, index: LogIndex, bytes: usize) -> RaftEntry {
    let payload = Bytes::from(vec![(shard as u64 * 31 + index.0) as u8 | 1; bytes]);
    RaftEntry { term: Term(1), index, kind: RaftEntryKind::Operations, payload }
}

/// What a process does at its start.
fn start(system: &SimFileSystem) -> Result<Node, Failure> {
    Node::start(&system.open_disk()?)
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn read(system: &SimFileSystem, path: &str) -> Option<Vec<u8>> {
    let file = system.mount().open(path).ok()?;
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    Some(bytes)
}

/// A file of so many bytes whose name and content are durable.
fn make(system: &SimFileSystem, path: &str, bytes: &[u8]) -> MountedFile {
    let mount = system.mount();
    let file = mount.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    mount.open_folder(names::folder_of(path)).unwrap().sync().unwrap();
    file
}

#[test]
fn a_power_loss_leaves_any_mixture_of_unsynced_sectors_and_nothing_else() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let system = SimFileSystem::new(seed);
        let file = make(&system, "a", &[1; 4096]);
        file.write_at(512, &[2; 3 * 512]).unwrap();
        system.power_loss(&mut rng(seed));
        let bytes = read(&system, "a").unwrap();
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "sectors are whole");
        assert_eq!((sectors[0], &sectors[4..]), (1, &[1; 4][..]));
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8, "all combinations of three sectors: {seen:?}");
}

#[test]
fn a_kill_keeps_the_cache_and_cuts_the_process_off() {
    let system = SimFileSystem::new(1);
    let mount = system.mount();
    let file = mount.create("a").unwrap();
    file.write_at(0, b"unsynced").unwrap();
    system.kill();
    assert_eq!(read(&system, "a").unwrap(), b"unsynced");
    assert!(file.write_at(0, b"x").is_err() && file.sync().is_err() && mount.list("").is_err());
    assert_eq!(system.counts().faults.kills, 1);
}

#[test]
fn names_are_durable_with_their_folder_only() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let system = SimFileSystem::new(seed);
        make(&system, "old", b"1");
        let mount = system.mount();
        mount.create("new").unwrap().write_at(0, b"2").unwrap();
        mount.rename("new", "old").unwrap();
        mount.create_folder("folder").unwrap();
        mount.create("folder/inner").unwrap();
        mount.open_folder("folder").unwrap().sync().unwrap();
        system.power_loss(&mut rng(seed));
        let names: Vec<String> = system.files().into_iter().map(|(path, _)| path).collect();
        seen.insert(names.join(" "));
    }
    let expected = ["folder/inner old", "folder/inner new old", "new old", "old"];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn what_a_mapping_holds_is_durable_once_synced_and_reaches_nobody_from_a_dead_process() {
    let system = SimFileSystem::new(1);
    let file = make(&system, "a", &[0; 4096]);
    let mapping = file.map(4096).unwrap();
    let mut writer = mapping.writer().unwrap();
    let mut store = |byte: u8| {
        writer.tail()[..1000].fill(byte);
        writer.advance(1000);
    };
    store(1);
    file.sync().unwrap();
    store(2);
    system.kill();
    store(3);
    let bytes = read(&system, "a").unwrap();
    assert_eq!((bytes[999], bytes[1000], bytes[1999], bytes[2000]), (1, 2, 2, 0));
    // Until a power loss that takes all that was not synced.
    let losses = (0..100).any(|seed| {
        let (system, mut rng) = (SimFileSystem::new(1), rng(seed));
        let file = make(&system, "a", &[0; 4096]);
        let mut writer = file.map(4096).unwrap().writer().unwrap();
        writer.tail()[..1000].fill(1);
        writer.advance(1000);
        system.power_loss(&mut rng);
        read(&system, "a").unwrap() == [0; 4096]
    });
    assert!(losses);
}

/// Runs a node into a crash at any operation or a failed sync, several times in a row, by kill or power loss, and looks for
/// what was promised. `spoil` may break the file system beforehand.
fn fail_everywhere(seeds: u64, spoil: impl Fn(&mut faults::Faults)) -> Option<String> {
    for seed in 0..seeds {
        let mut rng = rng(seed);
        let system = SimFileSystem::new(seed);
        spoil(&mut system.state.lock().faults);
        let mut promised = [0; SHARDS as usize];
        for life in 0..6 {
            match rng.random_range(0..4) {
                0 => system.fail_next_sync(Some(FileKind::Journal)),
                1 => system.fail_next_sync(Some(FileKind::Segment)),
                _ => system.crash_after(rng.random_range(0..100)),
            }
            let lived = start(&system).and_then(|mut node| {
                let found = node.lengths();
                if found.iter().zip(promised).any(|(found, promised)| *found < promised) {
                    return Err(Failure::Damaged(format!("{found:?} of {promised:?}")));
                }
                loop {
                    promised = node.lengths();
                    let bytes = if rng.random_bool(0.1) { 7000 } else { rng.random_range(0..1500) };
                    node.append(rng.random_range(0..SHARDS.into()), bytes)?;
                    node.persist()?;
                }
            });
            let ended: Result<std::convert::Infallible, Failure> = lived;
            if let Err(Failure::Damaged(what)) = ended {
                return Some(format!("seed {seed}, life {life}: {what}"));
            }
            if rng.random_bool(0.5) { system.kill() } else { system.power_loss(&mut rng) }
        }
    }
    None
}

#[test]
fn no_crash_and_no_failed_sync_loses_a_promise() {
    assert_eq!(fail_everywhere(300, |_| {}), None);
}

#[test]
fn a_disk_that_does_not_sync_folders_is_found_out() {
    assert!(fail_everywhere(50, |faults| faults.folder_syncs_ignored = true).is_some());
}

#[test]
fn a_node_that_believes_the_cache_after_a_failed_sync_is_found_out() {
    assert!(fail_everywhere(300, |faults| faults.forgetting_ignored = true).is_some());
}

/// The medium of a node that promised ten entries in each shard, and died.
fn filled(seed: u64) -> SimFileSystem {
    let system = SimFileSystem::new(seed);
    let mut node = start(&system).unwrap();
    node.fill(10, 300).unwrap();
    system.kill();
    system
}

#[test]
fn the_journal_alone_brings_promises_back() {
    for seed in 0..50 {
        let system = filled(seed);
        system.power_loss(&mut rng(seed));
        assert_eq!(start(&system).unwrap().lengths(), [10, 10], "seed {seed}");
    }
}

#[test]
fn a_failed_sync_ends_the_process_and_leaves_a_cache_that_lies() {
    let system = SimFileSystem::new(1);
    let file = make(&system, "a", &[1; 1024]);
    file.write_at(0, &[2; 1024]).unwrap();
    system.fail_next_sync(Some(FileKind::Journal));
    system.fail_next_sync(None);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    file.write_at(512, &[3; 512]).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&system, "a").unwrap()[511..513], [2, 3], "the cache shows it");
    system.power_loss(&mut rng(1));
    assert_eq!(read(&system, "a").unwrap()[511..513], [1, 3], "but it never got further");
    assert_eq!(system.counts().faults.failed_syncs, 1);

    for kind in [FileKind::Journal, FileKind::Segment] {
        let system = filled(1);
        system.fail_next_sync(Some(kind));
        let ended = start(&system).and_then(|mut node| node.fill(100, 1000));
        assert!(matches!(ended, Err(Failure::Disk(_))), "{ended:?}");
        assert_eq!(system.counts().faults.failed_syncs, 1);
    }
}

#[test]
fn reads_and_writes_fail_on_demand() {
    let system = filled(1);
    system.fail_next_reads(2);
    assert!(matches!(start(&system).map(drop), Err(Failure::Disk(_))));
    assert!(matches!(start(&system).map(drop), Err(Failure::Disk(_))));
    let mut node = start(&system).unwrap();
    system.fail_next_write(Some(FileKind::Journal));
    assert!(matches!(node.fill(1, 100), Err(Failure::Disk(_))));
    let faults = system.counts().faults;
    assert_eq!((faults.failed_reads, faults.failed_writes), (2, 1));
    system.kill();
    assert!(start(&system).unwrap().lengths()[0] >= 10);
}

#[test]
fn a_full_disk_refuses_what_needs_room_until_there_is_some() {
    let system = filled(1);
    let mut node = start(&system).unwrap();
    system.set_capacity(Some(system.used_bytes() + 20_000));
    let full = node.fill(200, 300);
    assert!(matches!(&full, Err(Failure::Disk(what)) if what.contains("no space")), "{full:?}");
    assert!(system.counts().faults.full > 0);
    system.clear_faults();
    node.fill(20, 300).unwrap();
    system.set_full(true);
    let full = node.fill(200, 300);
    assert!(matches!(&full, Err(Failure::Disk(what)) if what.contains("no space")), "{full:?}");
    system.kill();
    system.set_full(false);
    assert!(start(&system).unwrap().lengths()[0] > 30);
}

#[test]
fn a_flipped_bit_is_found_or_was_in_nothing_that_counts() {
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..200 {
        let system = filled(1);
        let mut rng = rng(seed);
        let kind = [FileKind::Journal, FileKind::Segment, FileKind::Metadata][rng.random_range(0..3)];
        let before: Vec<_> = system.files().iter().map(|(path, _)| read(&system, path).unwrap()).collect();
        let flipped = system.flip_bit(kind, &mut rng).unwrap();
        assert_eq!(FileKind::of(&flipped.path), kind);
        let after: Vec<_> = system.files().iter().map(|(path, _)| read(&system, path).unwrap()).collect();
        let differing = before.iter().flatten().zip(after.iter().flatten()).filter(|(before, after)| before != after);
        assert_eq!(differing.count(), 1);
        match start(&system) {
            // The newest round may be taken for torn: nobody can tell. The segments still hold what it held.
            Ok(node) => {
                harmless += 1;
                assert_eq!(node.lengths(), [10, 10], "seed {seed}: {flipped:?}");
            }
            Err(Failure::Damaged(_)) => found += 1,
            Err(Failure::Disk(what)) => panic!("{what}"),
        }
        assert_eq!(system.counts().faults.flipped_bits, 1);
    }
    assert!(found > 10 && harmless > 20, "{found} found, {harmless} harmless");
    assert_eq!(SimFileSystem::new(1).flip_bit(FileKind::Segment, &mut rng(1)), None, "nothing is stored");
}

#[test]
fn a_misdirected_write_is_on_the_medium_in_the_wrong_place_only() {
    let system = SimFileSystem::new(1);
    system.mount().create_folder("journal").unwrap();
    let file = make(&system, "journal/a", &[1; 16384]);
    system.misdirect_next_write();
    file.write_at(4096, &[2; 4096]).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&system, "journal/a").unwrap()[4096..8192], [2; 4096], "the cache shows what was meant");
    system.mount().open_folder("").unwrap().sync().unwrap();
    system.power_loss(&mut rng(1));
    let bytes = read(&system, "journal/a").unwrap();
    assert_eq!(bytes[4096..8192], [1; 4096]);
    assert_eq!(bytes.iter().filter(|byte| **byte == 2).count(), 4096);
    assert_eq!(system.counts().faults.misdirected_writes, 1);
}

#[test]
fn a_crash_during_a_write_leaves_its_first_sectors() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let system = SimFileSystem::new(seed);
        let file = make(&system, "a", &[1; 2048]);
        system.crash_after(1);
        file.write_at(0, &[1; 1]).unwrap();
        assert!(!system.crashed() && file.write_at(0, &[2; 2048]).is_err() && system.crashed());
        assert!(file.read_at(0, &mut [0]).is_err() && file.sync().is_err());
        system.kill();
        let bytes = read(&system, "a").unwrap();
        let written = bytes.iter().take_while(|byte| **byte == 2).count();
        assert!(bytes[written..].iter().all(|byte| *byte == 1));
        seen.insert(written);
        assert_eq!(system.counts().faults.crash_points, 1);
    }
    assert_eq!(seen, [0, 512, 1024, 1536, 2048].into());
}

#[test]
fn after_a_wipe_a_node_starts_over_with_numbers_it_never_had() {
    let system = filled(1);
    let before = system.mount().fresh_number();
    system.wipe();
    assert!(system.files().is_empty());
    assert_eq!(start(&system).unwrap().lengths(), [0, 0]);
    let numbers: BTreeSet<u64> = (0..10_000).map(|_| system.mount().fresh_number()).chain([before]).collect();
    assert_eq!(numbers.len(), 10_001);
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed| {
        let (system, mut rng) = (SimFileSystem::new(seed), rng(seed));
        for _ in 0..5 {
            system.crash_after(rng.random_range(0..80));
            let _ = start(&system).and_then(|mut node| node.fill(100, rng.random_range(100..1500)));
            system.power_loss(&mut rng);
        }
        let files: Vec<_> = system.files();
        let contents: Vec<_> = files.iter().map(|(path, _)| read(&system, path)).collect();
        (system.counts(), files, contents)
    };
    assert!(run(7) == run(7));
    assert!(run(7) != run(8));
}
