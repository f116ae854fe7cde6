//! A small node's folder, made by the code that a node runs, then damaged in ways that are known.

use super::*;
use crate::folder::{DataFolder, Owner};
use crate::runtime::journal_threads::Journal;
use bytes::Bytes;
use kvorum_core::consensus::Committed;
use kvorum_core::disk::{Disk, MANIFEST_FILE, RealDisk};
use kvorum_core::folder::known_folders::KnownFolders;
use kvorum_core::folder::replica_files::{ReplicaFiles, WantedReplica};
use kvorum_core::journal::testing::{TokenListener, listener};
use kvorum_core::journal::{self, JournalOptions, ShardJournal, Submission};
use kvorum_core::log::operations::{OperationsBuilder, Record};
use kvorum_core::log::{Base, HardState, InlineSource, LogOptions, Membership, ShardLog, Verdict as Kept};
use kvorum_core::map_keeper;
use kvorum_core::ring::{RingMap, RingNode};
use kvorum_core::store::{Fate, Store};
use kvorum_protocol::peer::{Levels, PeerHello, RaftEntry, RaftEntryKind, RespAddresses};
use kvorum_protocol::{ClusterId, Durability, FolderId, LogIndex, NodeId, ReplicaId, ShardId, Term, Version};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

const OPTIONS: JournalOptions = JournalOptions {
    files: 2,
    file_bytes: 64 * 1024,
    frame_bytes_max: 12 * 1024,
    bypass_bytes: 6 * 1024,
    shards_max: 4,
    memory_sync_interval: Duration::from_secs(1),
};

/// A replica without consensus: what is appended is durable and applied at once.
struct Replica {
    log: ShardLog,
    store: Store,
    journal: Arc<dyn ShardJournal>,
    listener: Arc<TokenListener>,
    told: Receiver<u64>,
}

impl Replica {
    fn open(disk: &Arc<dyn Disk>, shard: ShardId, journal: &Arc<dyn ShardJournal>) -> Self {
        let source = Arc::new(InlineSource::new(Arc::clone(disk)));
        let files = ReplicaFiles::new(Arc::clone(disk), Arc::clone(&source) as _);
        files.prepare(&WantedReplica { shard, replica: ReplicaId(2), epoch: 1, may_begin: true }).unwrap();
        let options = LogOptions { segment_bytes_first: 4096, segment_bytes_max: 4096, ..LogOptions::new(source) };
        let (mut log, _) = ShardLog::open(disk, shard, journal.durable(shard), options).unwrap();
        log.append_membership(&Membership { voters: vec![ReplicaId(2)], ..Membership::default() }).unwrap();
        let store = Store::new(log.view());
        let (listener, told) = listener();
        Self { log, store, journal: Arc::clone(journal), listener, told }
    }

    fn persist(&mut self) {
        let chunks = self.log.take_appended();
        self.journal.submit(Submission { chunks, token: 1, listener: Arc::clone(&self.listener) as _ });
        self.told.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    fn write(&mut self, key: &str, value: &[u8]) {
        let index = LogIndex(self.log.last_index().0 + 1);
        let mut operations = OperationsBuilder::new(0, Version(self.store.version().0));
        operations.push_record(key.as_bytes(), Some(value), None);
        let (payload, kind, term) = (Bytes::from(operations.finish()), RaftEntryKind::Operations, Term(1));
        let at = self.log.append_entry(&RaftEntry { term, index, kind, payload: payload.clone() }).unwrap();
        self.store.apply(&Committed { index, term, kind, payload }, at).unwrap();
    }

    fn commit(&mut self) {
        let commit = self.log.last_index();
        self.log.append_hard_state(HardState { term: Term(1), vote: Some(ReplicaId(2)), commit }).unwrap();
        self.persist();
    }

    fn base(&self) -> Base {
        let mut state = Vec::new();
        self.store.encode_base(&mut state);
        let membership = self.log.membership().unwrap().clone();
        Base { index: self.store.applied(), term: Term(1), membership, state: Bytes::from(state), sealed: false }
    }

    /// Empties the first segment into a data segment, and writes a checkpoint.
    fn compact(&mut self, disk: &dyn Disk) {
        let keep_from = self.log.retained_from(1);
        let reader = Arc::clone(self.store.reader());
        let mut decide = |record: &Record<'_>, at, lowest| match reader.fate(record, at, lowest) {
            Fate::Keep { order } => Kept::Keep { order },
            Fate::KeepTombstone => Kept::KeepTombstone,
            Fate::Drop => Kept::Drop,
        };
        let plan = self.log.plan_compaction(&[1], keep_from, 0);
        let compacted = plan.run(&mut decide, &mut |_| true).unwrap().unwrap();
        self.log.show_data(compacted.data());
        for moved in &compacted.moved {
            assert!(self.store.relocate(moved.order, moved.from, moved.to).unwrap());
        }
        let index = self.store.dump_index();
        let checkpoint = self.log.prepare_checkpoint(self.base(), keep_from, Some(&compacted), index.bytes().clone());
        checkpoint.write(disk).unwrap();
        self.log.finish_checkpoint(&checkpoint);
        checkpoint.remove_dropped(disk).unwrap();
    }
}

fn owner() -> Owner {
    let (cluster, node) = (ClusterId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)));
    Owner { cluster, node, shards: 2, durability: Durability::Fsync }
}

fn open(path: &Path) -> DataFolder {
    DataFolder::open(path, owner(), "some boot").unwrap()
}

/// Two shards: one with nothing but a log, one with a checkpoint, a retired segment and a data segment.
fn small_folder() -> TempDir {
    let temporary = TempDir::new().unwrap();
    let path = temporary.path();
    let folder = open(path);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(path).unwrap());
    let replayed = journal::replay(&*disk).unwrap();
    let fatal = Box::new(|error| panic!("{error}"));
    let (journal, handle) = Journal::start(&*disk, OPTIONS, Durability::Fsync, replayed, fatal).unwrap();
    let handle: Arc<dyn ShardJournal> = Arc::new(handle);
    let mut first = Replica::open(&disk, ShardId(0), &handle);
    first.write("one", b"of one shard");
    first.write("two", b"of one shard");
    first.commit();
    let mut second = Replica::open(&disk, ShardId(1), &handle);
    second.write("kept", b"of the first segment");
    for round in 0..13 {
        second.write("again", &[round; 700]);
    }
    second.commit();
    second.compact(&*disk);
    second.write("after", b"the checkpoint");
    second.commit();
    let known = KnownFolders::open(Arc::clone(&disk)).unwrap();
    let hello = PeerHello {
        levels: Levels::OWN,
        cluster: ClusterId(Uuid::from_u128(1)),
        node: NodeId(Uuid::from_u128(3)),
        disk: FolderId(Uuid::from_u128(4)),
        starts: 1,
        process: 1,
        knows: None,
        replaced: false,
        client: String::new(),
        resp: RespAddresses::default(),
        program: String::new(),
        more: Bytes::new(),
    };
    known.meet(&hello).unwrap();
    let node = RingNode { client: "a:1".into(), peer: "a:2".into(), ..RingNode::new(owner().node.0, "a") };
    let ring = RingMap::initial(owner().cluster, Durability::Fsync, vec![node], 2, 1).unwrap();
    map_keeper::write_copy(&*disk, &ring).unwrap();
    drop((first, second));
    journal.stop();
    folder.stop_clean().unwrap();
    temporary
}

/// Every file's bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                contents.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    contents
}

/// The report without what differs from run to run. The folder is as it was.
fn told(path: &Path) -> String {
    let before = contents(path);
    let report = verify(path).unwrap();
    assert!(before == contents(path), "looking changes nothing");
    let disk = report.owner.as_ref().map(|owner| owner.disk.clone()).unwrap_or_default();
    let text = report.to_string().replace(&report.folder, "DIR");
    if disk.is_empty() { text } else { text.replace(&disk, "DISK") }
}

fn edit(path: &Path, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path.join(name)).unwrap();
    edit(&mut bytes);
    fs::write(path.join(name), bytes).unwrap();
}

const DATA: &str = "shards/00001/0000000001.data";

#[test]
fn a_sound_folder() {
    let folder = small_folder();
    assert_eq!(told(folder.path()), SOUND);
    let json = serde_json::to_value(verify(folder.path()).unwrap()).unwrap();
    assert_eq!((&json["verdict"], &json["shards"][1]["base"]), (&"sound".into(), &14.into()));
}

/// What the report says beyond that of the sound folder, and in place of it.
fn difference(folder: &TempDir) -> String {
    let told = told(folder.path());
    let lines = told.lines().filter(|line| !SOUND.lines().any(|sound| sound == *line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_damaged_data_segment() {
    let folder = small_folder();
    edit(folder.path(), DATA, |bytes| bytes[80] ^= 1);
    assert_eq!(difference(&folder), GOLDEN_DATA);
}

#[test]
fn a_damaged_manifest_and_a_damaged_hint() {
    let folder = small_folder();
    edit(folder.path(), "shards/00001/hint", |bytes| bytes[40] ^= 1);
    assert_eq!(difference(&folder), GOLDEN_HINT);
    edit(folder.path(), &format!("shards/00001/{MANIFEST_FILE}"), |bytes| bytes[40] ^= 1);
    assert_eq!(difference(&folder), GOLDEN_MANIFEST);
}

#[test]
fn a_damaged_log_and_a_missing_one() {
    let folder = small_folder();
    edit(folder.path(), "shards/00000/0000000001.segment", |bytes| bytes[200] ^= 1);
    fs::remove_file(folder.path().join("shards/00001/0000000003.segment")).unwrap();
    assert_eq!(difference(&folder), GOLDEN_LOGS);
}

#[test]
fn a_torn_tail_and_leftovers_are_no_damage() {
    let folder = small_folder();
    edit(folder.path(), "shards/00000/0000000001.segment", |bytes| bytes[2000] = 1);
    fs::write(folder.path().join("shards/00001/0000000009.data.new"), b"half").unwrap();
    fs::copy(folder.path().join(DATA), folder.path().join("shards/00001/0000000009.data")).unwrap();
    fs::write(folder.path().join("readme.txt"), b"?").unwrap();
    assert_eq!(difference(&folder), GOLDEN_HARMLESS);
}

#[test]
fn damage_that_keeps_a_node_from_starting() {
    let folder = small_folder();
    for file in ["identity", "identity.copy", "ring.json.metadata", "ring.json.copy.metadata"] {
        edit(folder.path(), file, |bytes| bytes[30] ^= 1);
    }
    assert_eq!(difference(&folder), GOLDEN_NODE);
}

#[test]
fn damage_that_a_copy_mends() {
    let folder = small_folder();
    for file in ["identity", "journal.metadata", "ring.json.metadata", "known-disks.json.copy.metadata"] {
        edit(folder.path(), file, |bytes| bytes[5] ^= 1);
    }
    assert_eq!(difference(&folder), GOLDEN_COPIES);
}

#[test]
fn a_damaged_journal_costs_nothing_after_a_clean_stop_and_the_replicas_after_another() {
    let folder = small_folder();
    for file in ["journal.metadata", "journal.copy.metadata"] {
        edit(folder.path(), file, |bytes| bytes[0] ^= 1);
    }
    assert_eq!(difference(&folder), GOLDEN_JOURNAL);
    drop(open(folder.path()));
    let report = verify(folder.path()).unwrap();
    let effects: Vec<_> = report.all_findings().map(|finding| finding.effect).collect();
    assert_eq!(effects, [Effect::ReplacesReplica], "{report}");
}

#[test]
fn a_folder_in_use_is_not_looked_at() {
    let folder = small_folder();
    let running = open(folder.path());
    assert!(matches!(verify(folder.path()), Err(VerifyError::InUse { .. })));
    drop(running);
    let disk = RealDisk::open(folder.path()).unwrap();
    assert!(matches!(verify(folder.path()), Err(VerifyError::InUse { .. })));
    drop(disk);
    assert!(told(folder.path()).contains("last process: ended without a word"));
    let empty = TempDir::new().unwrap();
    assert!(matches!(verify(empty.path()), Err(VerifyError::NotAFolder { .. })));
    // A folder that can't be looked into says nothing of what it is.
    let endless = empty.path().join("endless");
    std::os::unix::fs::symlink(&endless, &endless).unwrap();
    let error = verify(&endless).unwrap_err();
    assert!(matches!(&error, VerifyError::Io { .. }), "{error}");
    let file = empty.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(verify(&file), Err(VerifyError::NotAFolder { .. })));
}

/// Which blocks of the journal a start needs, and how many bytes of each are not padding.
fn needed_frames(contents: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<(PathBuf, usize), usize> {
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut frames = Vec::new();
    for (file, bytes) in contents.iter().filter(|(file, _)| file.extension().is_some_and(|end| end == "journal")) {
        for (block, bytes) in bytes.chunks(4096).enumerate().filter(|(_, bytes)| bytes.starts_with(b"KVJ")) {
            let body = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
            frames.push((number(bytes, 8), number(bytes, 16), (file.clone(), block), 48 + body));
        }
    }
    let (_, needed_from, ..) = *frames.iter().max().unwrap();
    let needed = frames.into_iter().filter(|(round, ..)| *round >= needed_from);
    needed.map(|(_, _, place, bytes)| (place, bytes)).collect()
}

/// All but the locks, journal rounds that are not needed, and the padding of those that are.
fn is_read(frames: &BTreeMap<(PathBuf, usize), usize>, file: &Path, at: usize) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    let in_frame = || {
        // A frame may take several blocks.
        let blocks = (0..=at / 4096).rev();
        let mut begun = blocks.filter_map(|block| Some((block, frames.get(&(file.to_owned(), block))?)));
        begun.next().is_some_and(|(block, bytes)| at - block * 4096 < *bytes)
    };
    !name.eq_ignore_ascii_case("lock") && (!name.ends_with(".journal") || in_frame())
}

#[test]
fn every_flip_is_noticed_or_in_bytes_that_nothing_reads() {
    let folder = small_folder();
    let path = folder.path();
    let sound = verify(path).unwrap();
    let mut flips = 0;
    let frames = needed_frames(&contents(path));
    for (file, bytes) in contents(path) {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // Where records end, the last of their bytes may be zeros. Behind that a few places stand for all.
        let behind = used + 64..bytes.len();
        for at in (0..used).chain(behind.clone().step_by(1021)) {
            // Of long runs of one value, every 16th.
            if at > 0 && at % 16 != 0 && bytes[at] == bytes[at - 1] && bytes.len() >= 4096 {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&file, &damaged).unwrap();
            let report = verify(path).unwrap();
            if behind.contains(&at) {
                assert_eq!(report.verdict, Verdict::Sound, "byte {at} of {}", file.display());
            } else {
                assert_eq!(report != sound, is_read(&frames, &file, at), "byte {at} of {}", file.display());
            }
            flips += 1;
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(flips > 1000, "{flips} flips");
}

const SOUND: &str = "\
data folder DIR
identity: node 00000000-0000-0000-0000-000000000002 of cluster 00000000-0000-0000-0000-000000000001, folder DISK
identity: 2 shards, durability fsync
last process: stopped cleanly
journal: sound; files: 2, newest round: 5, rounds to write back: 1
shard 0: sound; replica 2, entries to 2, checkpoint at 0, log segments 1, data segments 0, bytes 4096, records 4
shard 1: sound; replica 2, entries to 15, checkpoint at 14, log segments 3, data segments 1, bytes 16384, records 15, keys 2 in 765 bytes at the checkpoint
verdict: sound
";

const GOLDEN_DATA: &str = "\
shard 1: DAMAGED; replica 2, entries to 15, checkpoint at 14, log segments 3, data segments 1, bytes 16384, records 14, keys 2 in 765 bytes at the checkpoint
  shards/00001/0000000001.data, offset 64: a durable record is invalid
verdict: damage in 1 place. Keep this folder and the other nodes as they are. If the other replicas of these shards are well, start the node: its damaged replicas are replaced from them";

const GOLDEN_HINT: &str = "\
shard 1: DAMAGED; replica 2, entries to 15, checkpoint at 14, log segments 3, data segments 1, bytes 16384, records 15
  shards/00001/hint: the index is damaged: a start makes it anew
verdict: damage in 1 place, and nothing is lost: start the node";

const GOLDEN_MANIFEST: &str = "\
shard 1: DAMAGED; replica 2, log segments 3, data segments 1, bytes 0, records 0
  shards/00001/manifest: the manifest is invalid
verdict: damage in 1 place. Keep this folder and the other nodes as they are. If the other replicas of these shards are well, start the node: its damaged replicas are replaced from them";

const GOLDEN_LOGS: &str = "\
shard 0: DAMAGED; replica 2, log segments 1, data segments 0, bytes 4096, records 0
  shards/00000/0000000001.segment, offset 136: a durable record is invalid
shard 1: DAMAGED; replica 2, log segments 2, data segments 1, bytes 12288, records 6, keys 2 in 765 bytes at the checkpoint
  shards/00001/0000000003.segment: a segment is missing
verdict: damage in 2 places. Keep this folder and the other nodes as they are. If the other replicas of these shards are well, start the node: its damaged replicas are replaced from them";

const GOLDEN_HARMLESS: &str = "  note: shards/00000/0000000001.segment has a torn tail of 3704 bytes from offset 392: nothing of it was promised, a start cuts it
shard 1: sound; replica 2, entries to 15, checkpoint at 14, log segments 3, data segments 2, bytes 20480, records 15, keys 2 in 765 bytes at the checkpoint
note: shards/00001/0000000009.data is left over: a start removes it
note: shards/00001/0000000009.data.new is left over: a start removes it
note: readme.txt is no file of a node";

const GOLDEN_NODE: &str = "\
DAMAGED identity: it is damaged
DAMAGED identity.copy: it is damaged
DAMAGED ring.json.metadata: it is damaged
DAMAGED ring.json.copy.metadata: it is damaged
verdict: damage in 4 places; the node does not start with this folder. Keep it. If the other replicas of its shards are well, start the node with an empty folder: it gets everything from them";

const GOLDEN_COPIES: &str = "\
DAMAGED identity: it is damaged
DAMAGED ring.json.metadata: it is damaged
DAMAGED known-disks.json.copy.metadata: it is damaged
DAMAGED journal.metadata: it is damaged
verdict: damage in 4 places, and nothing is lost: start the node";

const GOLDEN_JOURNAL: &str = "\
DAMAGED journal.metadata: the journal's identity is missing or damaged
verdict: damage in 1 place, and nothing is lost: start the node";
