//! Checkpoints and compaction against a model that knows which record of each key is the newest.

use super::*;
use crate::disk::memory::Faults;
use crate::disk::{DATA_SEGMENT, HINT_FILE, MANIFEST_FILE};
use crate::log::operations::{Operations, OperationsBuilder};
use kvorum_protocol::Version;
use std::collections::BTreeMap;

/// A key's newest record: where it lies, its version, and whether it says that the key is gone.
type Newest = BTreeMap<Vec<u8>, (Position, Version, bool)>;

struct Model {
    disk: Arc<MemoryDisk>,
    log: ShardLog,
    newest: Newest,
    version: Version,
}

impl Model {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let mut log = open(&disk, None).0;
        log.append_membership(&Membership { voters: vec![ReplicaId(1)], ..Membership::default() }).unwrap();
        Self { disk, log, newest: BTreeMap::new(), version: Version(0) }
    }

    /// Appends an entry, applied and durable at once. A value of `None` removes the key.
    fn write(&mut self, term: u64, records: &[(u8, Option<Vec<u8>>)]) {
        let mut operations = OperationsBuilder::new(0, self.version);
        for (key, value) in records {
            self.version = operations.push_record(&[*key], value.as_deref(), None);
        }
        let index = LogIndex(self.log.last_index().0 + 1);
        let payload = Bytes::from(operations.finish());
        let kind = RaftEntryKind::Operations;
        let at = self.log.append_entry(&RaftEntry { term: Term(term), index, kind, payload: payload.clone() }).unwrap();
        apply(&mut self.newest, payload, at);
    }

    /// An entry that a later one of the same index supersedes.
    fn write_in_vain(&mut self, term: u64, key: u8) {
        let mut operations = OperationsBuilder::new(0, self.version);
        operations.push_record(&[key], Some(b"never happened"), None);
        let index = LogIndex(self.log.last_index().0 + 1);
        let payload = Bytes::from(operations.finish());
        self.log
            .append_entry(&RaftEntry { term: Term(term), index, kind: RaftEntryKind::Operations, payload })
            .unwrap();
        let empty = RaftEntry { term: Term(term + 1), index, kind: RaftEntryKind::Operations, payload: Bytes::new() };
        self.log.append_entry(&empty).unwrap();
    }

    fn base(&self) -> Base {
        let index = self.log.last_index();
        let membership = Membership { voters: vec![ReplicaId(1), ReplicaId(2)], ..Membership::default() };
        let state = Bytes::from(self.version.0.to_le_bytes().to_vec());
        Base { index, term: self.log.term_of(index).unwrap(), membership, state, sealed: false }
    }

    fn compact(&mut self, victims: &[u32], keep_from: LogIndex) -> Compacted {
        let newest = self.newest.clone();
        let plan = self.log.plan_compaction(victims, keep_from, 4096);
        let mut decide = |record: &operations::Record<'_>, at, lowest_elsewhere: Option<Version>| {
            let (position, _, removed) = newest[record.key];
            if position == at && !removed {
                Verdict::Keep { order: 0 }
            } else if removed && record.tombstone && lowest_elsewhere.is_some_and(|lowest| lowest < record.version) {
                Verdict::KeepTombstone
            } else {
                Verdict::Drop
            }
        };
        let compacted = plan.run(&mut decide, &mut |_| true).unwrap().unwrap();
        self.log.show_data(&compacted.data);
        for moved in &compacted.moved {
            let place = self.newest.values_mut().find(|(at, ..)| *at == moved.from).unwrap();
            place.0 = moved.to;
        }
        compacted
    }

    fn all_compactable(&self, keep_from: LogIndex) -> Vec<u32> {
        self.log.compactable(keep_from).iter().map(|of| of.number).collect()
    }

    /// What the log's files amount to, read the slow way.
    fn scanned(log: &ShardLog) -> Newest {
        let mut newest = Newest::new();
        log.visit_base_records(&mut |record, at| {
            let entry = (at, record.version, record.tombstone);
            let known = newest.entry(record.key.to_vec()).or_insert(entry);
            *known = if known.1 < entry.1 { entry } else { *known };
            Ok(())
        })
        .unwrap();
        let base = log.base().map_or(0, |base| base.index.0);
        for index in base + 1..=log.last_index().0 {
            let entry = log.entry(LogIndex(index)).unwrap();
            let (at, _) = log.payload_position(LogIndex(index)).unwrap();
            if !entry.payload.is_empty() {
                apply(&mut newest, entry.payload, at);
            }
        }
        newest.retain(|_, (_, _, removed)| !*removed);
        newest
    }

    fn expected(&self) -> Newest {
        let mut newest = self.newest.clone();
        newest.retain(|_, (_, _, removed)| !*removed);
        newest
    }

    fn reopen(&mut self, disk: Arc<MemoryDisk>) {
        let end = self.log.end();
        self.disk = disk;
        self.log = open(&self.disk, Some(end)).0;
    }
}

fn apply(newest: &mut Newest, payload: Bytes, at: Position) {
    for record in Operations::parse(payload).unwrap().records() {
        let (offset, record) = record.unwrap();
        let position = Position { offset: at.offset + offset, ..at };
        newest.insert(record.key.to_vec(), (position, record.version, record.tombstone));
    }
}

fn value(length: usize) -> Option<Vec<u8>> {
    Some(vec![b'v'; length])
}

#[test]
fn a_checkpoint_frees_the_log_of_its_front_and_keeps_every_record() {
    let mut model = Model::new();
    for number in 0..40 {
        model.write(1, &[(number, value(600))]);
    }
    assert!(model.log.segment_count() > 3);
    let base = model.base();
    let checkpoint = model.log.prepare_checkpoint(base.clone(), LogIndex(38), None, Bytes::from_static(b"the index"));
    checkpoint.write(&*model.disk).unwrap();
    model.log.finish_checkpoint(&checkpoint);
    assert!(model.log.first_index() > LogIndex(1) && model.log.first_index() <= LogIndex(38));
    let (before, term) = model.log.before_first();
    assert_eq!((before.0 + 1, model.log.term_of(before)), (model.log.first_index().0, Some(term)));
    assert!(matches!(model.log.entry(LogIndex(1)), Err(LogError::NoEntry(1))));
    model.write(2, &[(3, None), (50, value(10))]);

    let first = model.log.first_index();
    let disk = model.disk.after_kill();
    model.reopen(disk);
    assert_eq!((model.log.first_index(), model.log.last_index()), (first, LogIndex(41)));
    assert_eq!(model.log.base(), Some(&base));
    assert_eq!(model.log.membership(), Some(&base.membership));
    assert_eq!(model.log.hard_state().commit, base.index);
    assert_eq!(model.log.read_hint().unwrap(), Some(Bytes::from_static(b"the index")));
    assert_eq!(Model::scanned(&model.log), model.expected());
}

#[test]
fn compaction_keeps_what_lives_and_gives_back_the_rest() {
    let mut model = Model::new();
    for round in 0..20 {
        for key in 0..8 {
            model.write(1, &[(key, value(300 + round))]);
        }
    }
    model.write(1, &[(7, None)]);
    let before = model.log.bytes();
    let keep_from = LogIndex(model.log.last_index().0 + 1);
    let compacted = model.compact(&model.all_compactable(keep_from), keep_from);
    let checkpoint = model.log.prepare_checkpoint(model.base(), keep_from, Some(&compacted), Bytes::from_static(b""));
    checkpoint.write(&*model.disk).unwrap();
    model.log.finish_checkpoint(&checkpoint);
    checkpoint.remove_dropped(&*model.disk).unwrap();
    assert!(model.log.bytes() < before / 2, "{} of {before} bytes are left", model.log.bytes());
    let disk = model.disk.after_kill();
    model.reopen(disk);
    assert_eq!(Model::scanned(&model.log), model.expected());
    assert_eq!(model.expected().len(), 7);
}

#[test]
fn a_segment_with_superseded_entries_is_never_left_behind_as_it_is() {
    let mut model = Model::new();
    model.write(1, &[(1, value(500))]);
    model.write_in_vain(1, 1);
    while model.log.segment_count() < 4 {
        model.write(3, &[(2, value(500)), (3, value(500))]);
    }
    let keep_from = LogIndex(model.log.last_index().0 + 1);
    assert!(model.log.compactable(keep_from)[0].stale);
    let checkpoint = model.log.prepare_checkpoint(model.base(), keep_from, None, Bytes::from_static(b""));
    checkpoint.write(&*model.disk).unwrap();
    model.log.finish_checkpoint(&checkpoint);
    assert_eq!(model.log.first_index(), LogIndex(1), "its first segment stays part of the log");
    let compacted = model.compact(&[], keep_from);
    assert_eq!(compacted.victims, [1], "it is a victim without being asked for");
    let checkpoint = model.log.prepare_checkpoint(model.base(), keep_from, Some(&compacted), Bytes::from_static(b""));
    checkpoint.write(&*model.disk).unwrap();
    model.log.finish_checkpoint(&checkpoint);
    assert!(model.log.first_index() > LogIndex(1));
    let disk = model.disk.after_kill();
    model.reopen(disk);
    assert_eq!(Model::scanned(&model.log), model.expected());
}

#[test]
fn a_state_from_elsewhere_replaces_everything_and_keeps_term_and_vote() {
    let mut model = Model::new();
    for key in 0..30 {
        model.write(1, &[(key, value(500))]);
    }
    model.log.append_hard_state(hard_state(6, 2, 10)).unwrap();
    let mut writer = model.log.data_writer();
    let mut elsewhere = OperationsBuilder::new(0, Version(999));
    elsewhere.push_record(b"k", Some(b"from elsewhere"), None);
    let payload = Bytes::from(elsewhere.finish());
    let operations = Operations::parse(payload.clone()).unwrap();
    let (offset, record) = operations.records().next().unwrap().unwrap();
    let bytes = &payload[offset as usize..offset as usize + record.bytes()];
    let at = writer.append(bytes, record.version, None).unwrap();
    let data = writer.finish().unwrap();
    // A checkpoint was written, and its replica did not hear of it before the state came.
    let unheard = model.log.prepare_checkpoint(
        model.base(),
        LogIndex(1),
        None,
        Bytes::from_static(b"the index of the state before"),
    );
    unheard.write(&*model.disk).unwrap();
    let base = Base { index: LogIndex(1000), term: Term(5), ..model.base() };
    model.log.install(base.clone(), &data).unwrap();

    let disk = model.disk.after_power_loss(|| false);
    model.reopen(disk);
    assert_eq!((model.log.before_first(), model.log.last_index()), ((LogIndex(1000), Term(5)), LogIndex(1000)));
    assert_eq!(model.log.hard_state(), hard_state(6, 2, 1000));
    assert_eq!(model.log.read_hint().unwrap(), None);
    assert_eq!(Model::scanned(&model.log), BTreeMap::from([(b"k".to_vec(), (at, Version(1000), false))]));
    model.log.append_entry(&entry(6, 1001, "x")).unwrap();
    let numbers = model.disk.list_segments(SHARD).unwrap();
    assert_eq!(numbers.len(), 2, "the old segments are gone: {numbers:?}");
}

#[test]
fn a_lost_or_damaged_part_is_damage_and_never_an_older_state() {
    let mut model = Model::new();
    for key in 100..108 {
        model.write(1, &[(key, value(300))]);
    }
    for round in 0..10 {
        for key in 0..8 {
            model.write(1, &[(key, value(400 + round))]);
        }
    }
    let keep_from = LogIndex(model.log.last_index().0 + 1);
    let compacted = model.compact(&model.all_compactable(keep_from), keep_from);
    let checkpoint =
        model.log.prepare_checkpoint(model.base(), keep_from, Some(&compacted), Bytes::from_static(b"index"));
    checkpoint.write(&*model.disk).unwrap();
    model.log.finish_checkpoint(&checkpoint);
    checkpoint.remove_dropped(&*model.disk).unwrap();
    let end = Some(model.log.end());
    let data = *model.disk.list_segments(SHARD).unwrap().last().unwrap();
    assert_ne!(data & DATA_SEGMENT, 0);

    let disk = model.disk.after_kill();
    disk.remove_segment(SHARD, data).unwrap();
    assert_eq!(damage_of(try_open(&disk, end)), Damage::SegmentMissing);

    let disk = model.disk.after_kill();
    let manifest = disk.read_shard_file(SHARD, MANIFEST_FILE).unwrap().unwrap();
    disk.remove_shard_file(SHARD, MANIFEST_FILE).unwrap();
    for _ in 0..2 {
        let files = disk.list_segments(SHARD).unwrap();
        assert_eq!(damage_of(try_open(&disk, end)), Damage::Manifest, "the log no longer begins at its first entry");
        assert_eq!(disk.list_segments(SHARD).unwrap(), files, "the last copy of what it listed stays where it is");
    }
    disk.write_shard_file(SHARD, MANIFEST_FILE, &[&manifest]).unwrap();
    assert_eq!(Model::scanned(&open(&disk, end).0), model.expected(), "it was put back, and nothing is lost");

    // Data without a log or a manifest was not left by anything that works.
    let disk = model.disk.after_kill();
    disk.remove_shard_file(SHARD, MANIFEST_FILE).unwrap();
    for number in disk.list_segments(SHARD).unwrap().into_iter().filter(|number| number & DATA_SEGMENT == 0) {
        disk.remove_segment(SHARD, number).unwrap();
    }
    assert_eq!(damage_of(try_open(&disk, None)), Damage::Manifest);
    assert_eq!(disk.list_segments(SHARD).unwrap(), [data]);

    let disk = model.disk.after_kill();
    let mut bytes = disk.read_shard_file(SHARD, MANIFEST_FILE).unwrap().unwrap();
    bytes[20] ^= 1;
    disk.write_shard_file(SHARD, MANIFEST_FILE, &[&bytes]).unwrap();
    assert_eq!(damage_of(try_open(&disk, end)), Damage::Manifest);

    let disk = model.disk.after_kill();
    disk.remove_shard_file(SHARD, HINT_FILE).unwrap();
    let (log, _) = open(&disk, end);
    assert_eq!(log.read_hint().unwrap(), None);
    assert_eq!(Model::scanned(&log), model.expected());

    let written = compacted.data[0].segment.written();
    every_flip_is_found_on_the_medium(&model.disk, SegmentPlace::of(&compacted.data[0].segment));
    for at in (64..written).step_by(97) {
        let disk = model.disk.after_kill();
        disk.edit_segment(SHARD, data, |bytes| bytes[at as usize] ^= 4);
        let log = open(&disk, end).0;
        let visited = log.visit_base_records(&mut |_, _| Ok(()));
        assert!(matches!(visited, Err(LogError::Damaged { .. })), "byte {at}");
    }
}

fn every_flip_is_found_on_the_medium(disk: &MemoryDisk, place: SegmentPlace) {
    let check =
        |disk: &MemoryDisk| scrub(&*disk.open_cold(SHARD, place.number).unwrap().unwrap(), &place, &mut |_| true);
    assert!(check(disk).unwrap().unwrap() > 0);
    let disk = disk.after_kill();
    for at in 0..place.written as usize {
        disk.edit_segment(SHARD, place.number, |bytes| bytes[at] ^= 0x20);
        let Err(LogError::Damaged { position, .. }) = check(&disk) else { panic!("byte {at} of {place:?}") };
        assert!(position.offset as usize <= at);
        disk.edit_segment(SHARD, place.number, |bytes| bytes[at] ^= 0x20);
    }
    check(&disk).unwrap();
}

#[test]
fn every_flip_in_a_sealed_segment_is_found_on_the_medium() {
    let mut model = Model::new();
    for key in 0..20 {
        model.write(1, &[(key, value(401)), (key + 1, None)]);
    }
    assert!(model.log.segment_count() > 1);
    let sealed = model.log.view().segment(1).unwrap();
    every_flip_is_found_on_the_medium(&model.disk, SegmentPlace::of(&sealed));
}

#[test]
fn records_longer_than_a_window_are_checked() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let long = limits::SCRUB_WINDOW_BYTES as usize * 2 + 77;
    append(&mut log, &[entry(1, 1, vec![1; 100]), entry(1, 2, vec![2; long]), entry(1, 3, vec![3; long])]);
    let sealed = log.view().segment(2).unwrap();
    let place = SegmentPlace::of(&sealed);
    let check = || scrub(&*disk.open_cold(SHARD, 2).unwrap().unwrap(), &place, &mut |_| true);
    assert_eq!(check().unwrap(), Some(2), "the record and the seal");
    disk.edit_segment(SHARD, 2, |bytes| bytes[long - 3] ^= 1);
    assert!(matches!(check(), Err(LogError::Damaged { damage: Damage::Record, .. })));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u16>)>),
    InVain(u8),
    Checkpoint { keep: u64 },
    Compact { keep: u64, choice: u64, until: Until },
    Restart,
}

/// How far a compaction comes before the process is killed or the power fails.
#[derive(Clone, Copy, Debug)]
enum Until {
    DataWritten,
    ManifestWritten,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..12_u8, proptest::option::weighted(0.8, 1..700_u16));
    let until = prop_oneof![Just(Until::DataWritten), Just(Until::ManifestWritten), Just(Until::End), Just(Until::End)];
    prop_oneof![
        12 => proptest::collection::vec(record, 1..4).prop_map(Step::Write),
        1 => (0..12_u8).prop_map(Step::InVain),
        1 => (0..20_u64).prop_map(|keep| Step::Checkpoint { keep }),
        2 => (0..20_u64, any::<u64>(), until).prop_map(|(keep, choice, until)| Step::Compact { keep, choice, until }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_compacted_and_wherever_it_stops_the_newest_records_are_found(
        steps in proptest::collection::vec(step(), 1..120),
        power_loss in any::<bool>(),
    ) {
        let mut model = Model::new();
        let mut term = 1;
        for step in steps {
            let last = model.log.last_index().0;
            match step {
                Step::Write(records) => {
                    let records: Vec<_> = records
                        .into_iter()
                        .map(|(key, length)| (key, length.map(|length| vec![key; length.into()])))
                        .collect();
                    model.write(term, &records);
                }
                Step::InVain(key) => {
                    model.write_in_vain(term, key);
                    term += 1;
                }
                Step::Checkpoint { keep } => {
                    let keep_from = LogIndex((last + 1).saturating_sub(keep).max(1));
                    let before = model.log.first_index();
                    let checkpoint = model.log.prepare_checkpoint(model.base(), keep_from, None, Bytes::from_static(b""));
                    checkpoint.write(&*model.disk).unwrap();
                    model.log.finish_checkpoint(&checkpoint);
                    prop_assert!(model.log.first_index() <= keep_from.max(before));
                }
                Step::Compact { keep, choice, until } => {
                    let keep_from = LogIndex((last + 1).saturating_sub(keep).max(1));
                    let mut victims = model.all_compactable(keep_from);
                    let mut bit = 0;
                    victims.retain(|_| { bit += 1; choice >> (bit % 64) & 1 == 1 });
                    let compacted = model.compact(&victims, keep_from);
                    let checkpoint = model.log.prepare_checkpoint(model.base(), keep_from, Some(&compacted), Bytes::from_static(b""));
                    if !matches!(until, Until::DataWritten) {
                        checkpoint.write(&*model.disk).unwrap();
                        model.log.finish_checkpoint(&checkpoint);
                    }
                    if matches!(until, Until::End) {
                        checkpoint.remove_dropped(&*model.disk).unwrap();
                    } else {
                        restart(&mut model, power_loss);
                    }
                }
                Step::Restart => restart(&mut model, power_loss),
            }
            prop_assert_eq!(Model::scanned(&model.log), model.expected());
        }
    }
}

/// Everything that was written is durable; what a compaction moved and no manifest names is where it was.
fn restart(model: &mut Model, power_loss: bool) {
    model.log.view().segments().iter().for_each(|segment| segment.sync().unwrap());
    let disk = if power_loss { model.disk.after_power_loss(|| false) } else { model.disk.after_kill() };
    disk.set_faults(Faults::default());
    model.reopen(disk);
    let found = Model::scanned(&model.log);
    for (key, (at, version, removed)) in &mut model.newest {
        if !*removed {
            let (found_at, found_version, _) = found[key];
            assert_eq!(found_version, *version, "key {key:?}");
            *at = found_at;
        }
    }
}
