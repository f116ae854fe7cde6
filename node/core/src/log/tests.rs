//! The log as a whole, over a disk in memory.

mod compaction;
mod versions;

use super::*;
use crate::disk::memory::{Faults, MemoryDisk};
use crate::disk::{Disk, RealDisk};
use bytes::Bytes;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, Term};
use proptest::prelude::*;
use std::sync::Arc;

const SHARD: ShardId = ShardId(3);

fn options(disk: &Arc<MemoryDisk>) -> LogOptions {
    let source = Arc::new(InlineSource::new(Arc::clone(disk) as Arc<dyn Disk>));
    LogOptions { segment_bytes_first: 4096, segment_bytes_max: 16384, recent_bytes_max: 64, ..LogOptions::new(source) }
}

fn try_open(disk: &Arc<MemoryDisk>, durable: Option<Position>) -> Result<(ShardLog, Recovered), LogError> {
    ShardLog::open(&(Arc::clone(disk) as Arc<dyn Disk>), SHARD, durable, options(disk))
}

fn open(disk: &Arc<MemoryDisk>, durable: Option<Position>) -> (ShardLog, Recovered) {
    try_open(disk, durable).unwrap()
}

fn entry(term: u64, index: u64, payload: impl Into<Vec<u8>>) -> RaftEntry {
    let kind = if index % 5 == 4 { RaftEntryKind::Membership } else { RaftEntryKind::Operations };
    RaftEntry { term: Term(term), index: LogIndex(index), kind, payload: Bytes::from(payload.into()) }
}

fn append(log: &mut ShardLog, entries: &[RaftEntry]) {
    for entry in entries {
        log.append_entry(entry).unwrap();
    }
}

fn entries(log: &ShardLog) -> Vec<RaftEntry> {
    (log.first_index().0..=log.last_index().0).map(|index| log.entry(LogIndex(index)).unwrap()).collect()
}

fn numbered(count: u64) -> Vec<RaftEntry> {
    (1..=count).map(|index| entry(1, index, format!("entry number {index}"))).collect()
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: Some(ReplicaId(vote)), commit: LogIndex(commit) }
}

fn damage_of(result: Result<(ShardLog, Recovered), LogError>) -> Damage {
    match result.map(|(log, recovered)| (entries(&log), recovered)) {
        Err(LogError::Damaged { damage, .. }) => damage,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let disk = MemoryDisk::new();
    let (mut log, recovered) = open(&disk, None);
    assert!(recovered.created);
    assert_eq!(
        (log.first_index(), log.last_index(), log.hard_state()),
        (LogIndex(1), LogIndex(0), HardState::default())
    );
    let membership = Membership { voters: vec![ReplicaId(1), ReplicaId(2)], ..Membership::default() };
    log.append_membership(&membership).unwrap();
    append(&mut log, &numbered(7));
    log.append_hard_state(hard_state(1, 2, 0)).unwrap();
    log.append_hard_state(hard_state(4, 1, 6)).unwrap();
    let end = log.end();

    let disk = disk.after_kill();
    let (log, recovered) = open(&disk, Some(end));
    assert_eq!(recovered, Recovered { records: 10, ..Recovered::default() });
    assert_eq!(entries(&log), numbered(7));
    assert_eq!((log.hard_state(), log.membership()), (hard_state(4, 1, 6), Some(&membership)));
    assert_eq!((log.term_of(LogIndex(7)), log.term_of(LogIndex(8))), (Some(Term(1)), None));
    assert!(matches!(log.entry(LogIndex(8)), Err(LogError::NoEntry(8))));
    assert_eq!(log.end(), end);
}

#[test]
fn positions_lead_readers_to_payloads() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let view = log.view();
    let position = log.append_entry(&entry(1, 1, "payload")).unwrap();
    assert_eq!(position.offset % 8, 0);
    assert_eq!(log.payload_position(LogIndex(1)), Some((position, 7)));
    let segment = view.segment(position.segment).unwrap();
    assert_eq!(segment.read(position.offset, 7), Some(&b"payload"[..]));
    assert_eq!(segment.read(position.offset, 16), None, "past the watermark");
    assert!(view.segment(2).is_none());
}

#[test]
fn a_later_record_supersedes() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(6));
    append(&mut log, &[entry(2, 4, "four again"), entry(2, 5, "five again")]);
    let mut expected = numbered(3);
    expected.extend([entry(2, 4, "four again"), entry(2, 5, "five again")]);
    assert_eq!(entries(&log), expected);
    let (log, _) = open(&disk.after_kill(), Some(log.end()));
    assert_eq!(entries(&log), expected);
}

#[test]
#[should_panic(expected = "is committed and can't be superseded")]
fn what_is_committed_is_not_superseded() {
    let (mut log, _) = open(&MemoryDisk::new(), None);
    append(&mut log, &numbered(3));
    log.append_hard_state(hard_state(1, 1, 3)).unwrap();
    let _ = log.append_entry(&entry(2, 3, "other"));
}

#[test]
fn segments_roll_grow_and_hold_entries_larger_than_themselves() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let mut expected: Vec<_> = (1..=40).map(|index| entry(1, index, vec![index as u8; 1000])).collect();
    expected.push(entry(1, 41, vec![0xab; 100_000]));
    expected.extend((42..=60).map(|index| entry(1, index, vec![index as u8; 1000])));
    append(&mut log, &expected);
    let sizes: Vec<_> = log.view().segments().iter().map(|segment| segment.bytes()).collect();
    assert_eq!(sizes[..3], [4096, 8192, 16384]);
    assert!(sizes.iter().any(|size| *size > 100_000) && sizes.last() == Some(&16384), "{sizes:?}");
    assert_eq!((log.segment_count(), log.bytes()), (sizes.len(), sizes.iter().map(|size| u64::from(*size)).sum()));
    assert_eq!(entries(&log), expected);

    let (log, recovered) = open(&disk.after_kill(), Some(log.end()));
    assert_eq!(entries(&log), expected);
    assert_eq!(recovered.cut_bytes, 0);
}

#[test]
fn chunks_are_contiguous_and_begin_with_a_mark() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let ranges = |chunks: Vec<Chunk>| -> Vec<_> {
        chunks.iter().map(|chunk| (chunk.segment().number(), chunk.offset(), chunk.length())).collect()
    };
    assert_eq!(ranges(log.take_appended()), [(1, 64, 0)], "the mark");
    assert!(log.take_appended().is_empty());
    append(&mut log, &[entry(1, 1, vec![1; 24]), entry(1, 2, vec![2; 24])]);
    assert_eq!(ranges(log.take_appended()), [(1, 64, 128)]);
    append(&mut log, &[entry(1, 3, vec![3; 5000])]);
    // The seal ends the old segment, the entry begins the next.
    assert_eq!(ranges(log.take_appended()), [(1, 192, 40), (2, 64, 5040)]);
    assert_eq!(log.end(), Position { segment: 2, offset: 5104 });
}

#[test]
fn old_entries_are_read_from_the_segment_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).unwrap());
    let mut options = LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))));
    options.recent_bytes_max = 0;
    let (mut log, _) = ShardLog::open(&disk, SHARD, None, options).unwrap();
    append(&mut log, &numbered(3));
    assert_eq!(entries(&log), numbered(3));
    // A byte changes under the mapping, as when a page comes back damaged from the disk.
    let (position, _) = log.payload_position(LogIndex(2)).unwrap();
    let path = folder.path().join("shards/00003/0000000001.segment");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", position.offset.into()).unwrap();
    assert!(matches!(log.entry(LogIndex(2)), Err(LogError::Damaged { damage: Damage::Record, .. })));
    assert_eq!(log.entry(LogIndex(3)).unwrap(), numbered(3)[2]);
}

#[test]
fn a_full_disk_refuses_the_entry_and_nothing_else() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(3));
    disk.set_faults(Faults { full: true, ..Faults::default() });
    let (end, large) = (log.end(), entry(1, 4, vec![4; 6000]));
    assert!(matches!(log.append_entry(&large), Err(LogError::DiskFull(_))));
    assert_eq!((entries(&log), log.end()), (numbered(3), end));
    disk.set_faults(Faults::default());
    log.append_entry(&large).unwrap();
    assert_eq!(log.entry(LogIndex(4)).unwrap(), large);
}

/// What a log of 4096-byte segments on a full disk takes, in the three ways to ask.
fn takes(log: &ShardLog, bytes: u32) -> (bool, bool, bool) {
    (log.can_append(bytes), log.can_append_urgent(bytes), log.can_append_vote())
}

#[test]
fn on_a_full_disk_a_reserve_is_kept_for_removals_and_then_for_votes() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    disk.set_faults(Faults { full: true, ..Faults::default() });
    assert!(!log.can_append(4096) && !log.can_append(u32::MAX));
    let mut index = 0;
    let mut fill_while = |log: &mut ShardLog, more: fn(&ShardLog) -> bool| {
        while more(log) {
            index += 1;
            log.append_entry(&entry(1, index, vec![1; 100])).unwrap();
        }
    };
    fill_while(&mut log, |log| log.can_append(100 + ENTRY_OVERHEAD_BYTES));
    assert_eq!(takes(&log, 100 + ENTRY_OVERHEAD_BYTES), (false, true, true));
    fill_while(&mut log, |log| log.can_append_urgent(100 + ENTRY_OVERHEAD_BYTES));
    assert_eq!(takes(&log, 100 + ENTRY_OVERHEAD_BYTES), (false, false, true));
    for vote in 1..=4 {
        log.append_hard_state(hard_state(vote, 1, 0)).unwrap();
    }
    disk.set_faults(Faults::default());
    assert_eq!(takes(&log, 4096), (true, true, true), "there is room again");
}

#[test]
fn what_was_promised_room_has_it_although_the_disk_fills_up() {
    let disk = MemoryDisk::new();
    let with_source = options(&disk);
    let as_disk = Arc::clone(&disk) as Arc<dyn Disk>;
    let (mut log, _) = ShardLog::open(&as_disk, SHARD, None, with_source.clone()).unwrap();
    assert!(log.can_append(5000) && log.can_append(20_000), "the second needs a larger segment");
    disk.set_faults(Faults { full: true, ..Faults::default() });
    assert!(log.can_append(20_000) && !log.can_append(40_000));
    let large = entry(1, 1, vec![7; 20_000 - ENTRY_OVERHEAD_BYTES as usize]);
    assert!(log.can_append(20_000), "asking for more has cost nothing");
    log.append_entry(&large).unwrap();
    assert_eq!(log.entry(LogIndex(1)).unwrap(), large);
    disk.set_faults(Faults::default());
    drop(log);
    erase(&*disk, &*with_source.source, SHARD).unwrap();
}

#[test]
fn free_space_that_does_not_suffice_is_not_tried() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, None);
    disk.set_faults(Faults { free_bytes: Some(8191), operations_left: Some(0), ..Faults::default() });
    assert!(!log.can_append(5000), "the next segment has 8192 bytes");
    disk.set_faults(Faults { free_bytes: Some(8192), ..Faults::default() });
    assert!(log.can_append(5000));
}

#[test]
fn an_entry_over_the_limit_is_refused() {
    let (mut log, _) = open(&MemoryDisk::new(), None);
    let bytes = kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX + 1;
    assert!(matches!(log.append_entry(&entry(1, 1, vec![0; bytes])), Err(LogError::TooLarge { .. })));
}

#[test]
fn the_largest_entry_fits_and_comes_back() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let largest = entry(1, 1, vec![0x77; kvorum_protocol::limits::RAFT_ENTRY_BYTES_MAX]);
    log.append_entry(&largest).unwrap();
    let (log, _) = open(&disk.after_kill(), Some(log.end()));
    assert!(log.entry(LogIndex(1)).unwrap() == largest);
}

/// A small log whose every byte can be tried: three entries and a hard state. Returns where each record ends.
fn small_log() -> (Arc<MemoryDisk>, Vec<u32>) {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let mut ends = vec![log.end().offset];
    for entry in numbered(3) {
        log.append_entry(&entry).unwrap();
        ends.push(log.end().offset);
    }
    log.append_hard_state(hard_state(1, 1, 2)).unwrap();
    ends.push(log.end().offset);
    (disk, ends)
}

fn at(offset: u32) -> Position {
    Position { segment: 1, offset }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_records() {
    let (disk, ends) = small_log();
    for cut in ends[0]..ends[4] {
        let disk = disk.after_kill();
        disk.edit_segment(SHARD, 1, |bytes| bytes[cut as usize..].fill(0));
        // A record whose last bytes are zeros anyway (its padding) is whole once they are all that is missing.
        let whole = disk.segment_bytes(SHARD, 1);
        let (log, _) = open(&disk, Some(at(ends[0])));
        let records = ends.iter().filter(|end| **end <= log.end().offset).count() - 1;
        assert!(log.end().offset <= cut + 7, "cut at {cut}");
        assert_eq!(entries(&log), numbered(3)[..records.min(3)], "cut at {cut}");
        assert_eq!(whole[..log.end().offset as usize], disk.segment_bytes(SHARD, 1)[..log.end().offset as usize]);
        assert!(disk.segment_bytes(SHARD, 1)[log.end().offset as usize..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn every_flipped_byte_is_damage_below_the_durable_position_and_cut_above() {
    let (disk, ends) = small_log();
    for byte in 0..ends[4] {
        for (known, durable) in ends.iter().enumerate().map(|(known, end)| (known, Some(at(*end)))) {
            let disk = disk.after_kill();
            disk.edit_segment(SHARD, 1, |bytes| bytes[byte as usize] ^= 0x40);
            let result = try_open(&disk, durable);
            if byte < ends[known] {
                let expected = if byte < ends[0] { Damage::SegmentHeader } else { Damage::Record };
                assert_eq!(damage_of(result), expected, "byte {byte}, {known} durable");
            } else {
                let (log, recovered) = result.unwrap();
                let sound = ends.iter().filter(|end| **end <= byte).count() - 1;
                assert!(recovered.cut_bytes > 0);
                assert_eq!(entries(&log), numbered(3)[..sound.min(3)], "byte {byte}, {known} durable");
            }
        }
    }
}

#[test]
fn without_a_durable_position_only_the_last_record_may_be_torn() {
    let (disk, ends) = small_log();
    for byte in ends[0]..ends[4] {
        let disk = disk.after_kill();
        disk.edit_segment(SHARD, 1, |bytes| bytes[byte as usize] ^= 1);
        let result = try_open(&disk, None);
        if byte < ends[3] {
            assert_eq!(damage_of(result), Damage::RecordBeforeOthers, "byte {byte}");
        } else {
            let (log, _) = result.unwrap();
            assert_eq!((entries(&log), log.hard_state()), (numbered(3), HardState::default()));
        }
    }
}

#[test]
fn a_log_that_ends_early_is_damaged() {
    let (disk, ends) = small_log();
    disk.edit_segment(SHARD, 1, |bytes| bytes[ends[2] as usize..].fill(0));
    assert_eq!(damage_of(try_open(&disk, Some(at(ends[3])))), Damage::EndsEarly);
    assert_eq!(damage_of(try_open(&disk, Some(Position { segment: 2, offset: 64 }))), Damage::SegmentMissing);
    assert_eq!(damage_of(try_open(&MemoryDisk::new(), Some(at(64)))), Damage::SegmentMissing);
}

#[test]
fn damage_leaves_the_files_as_they_were() {
    let (disk, ends) = small_log();
    disk.edit_segment(SHARD, 1, |bytes| bytes[ends[1] as usize] ^= 1);
    let before = disk.segment_bytes(SHARD, 1);
    damage_of(try_open(&disk, Some(at(ends[4]))));
    damage_of(try_open(&disk, None));
    assert!(disk.segment_bytes(SHARD, 1) == before);
}

#[test]
fn what_was_cut_never_comes_back() {
    let (disk, ends) = small_log();
    // The second of three entries is torn; the third and the hard state are valid behind it, and are cut with it.
    disk.edit_segment(SHARD, 1, |bytes| bytes[ends[1] as usize] ^= 1);
    let (mut log, recovered) = open(&disk, Some(at(ends[1])));
    assert!(recovered.cut_bytes > 0);
    // The very same entry is appended again, so that what followed it would chain on.
    append(&mut log, &numbered(2)[1..]);
    assert_eq!(log.end().offset, ends[2]);
    let (log, recovered) = open(&disk.after_kill(), Some(log.end()));
    assert_eq!((entries(&log), log.hard_state(), recovered.cut_bytes), (numbered(2), HardState::default(), 0));
}

#[test]
fn what_was_cut_is_zero_in_the_file() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).unwrap());
    let options = LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))));
    let (mut log, _) = ShardLog::open(&disk, SHARD, None, options.clone()).unwrap();
    append(&mut log, &numbered(1));
    let durable = log.end();
    append(&mut log, &numbered(3)[1..]);
    drop(log);
    let file =
        std::fs::File::options().read(true).write(true).open(folder.path().join("shards/00003/0000000001.segment"));
    let file = file.unwrap();
    file.write_all_at(b"X", u64::from(durable.offset) + 42).unwrap();

    let (mut log, recovered) = ShardLog::open(&disk, SHARD, Some(durable), options.clone()).unwrap();
    assert!(recovered.cut_bytes > 0);
    append(&mut log, &numbered(2)[1..]);
    let end = log.end();
    drop(log);
    let mut rest = vec![1; 4096];
    file.read_exact_at(&mut rest, end.offset.into()).unwrap();
    assert!(rest.iter().all(|byte| *byte == 0));
    let (log, _) = ShardLog::open(&disk, SHARD, Some(end), options).unwrap();
    assert_eq!(entries(&log), numbered(2));
}

#[test]
fn a_record_of_another_history_of_the_same_place_does_not_chain_on() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(1));
    let fork = disk.after_kill();
    append(&mut log, &numbered(3)[1..]);
    let (second, end) = (log.payload_position(LogIndex(3)).unwrap().0.offset as usize - 40, log.end());
    let stale = disk.segment_bytes(SHARD, 1)[second..end.offset as usize].to_vec();

    let (mut log, _) = open(&fork, None);
    append(&mut log, &[entry(1, 2, "entry number X")]);
    let forked_end = log.end();
    assert_eq!(forked_end.offset as usize, second);
    fork.edit_segment(SHARD, 1, |bytes| bytes[second..end.offset as usize].copy_from_slice(&stale));
    let (log, recovered) = open(&fork, Some(forked_end));
    assert!(recovered.cut_bytes > 0);
    assert_eq!(log.last_index(), LogIndex(2));
}

fn log_of_many_segments() -> (Arc<MemoryDisk>, Vec<RaftEntry>, ShardLog) {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    let expected: Vec<_> = (1..=30).map(|index| entry(1, index, vec![index as u8; 1000])).collect();
    append(&mut log, &expected);
    assert!(log.segment_count() >= 3);
    (disk, expected, log)
}

#[test]
fn a_torn_seal_takes_the_segments_after_it_along_unless_they_were_durable() {
    let (disk, expected, log) = log_of_many_segments();
    let seal = log.view().segment(1).unwrap().written() - 40;
    let tear = |disk: &Arc<MemoryDisk>| disk.edit_segment(SHARD, 1, |bytes| bytes[seal as usize..].fill(0));

    let torn = disk.after_kill();
    tear(&torn);
    let (mut reopened, recovered) = open(&torn, Some(at(seal)));
    assert_eq!(recovered.removed_segments as usize, log.segment_count() - 1);
    let kept = reopened.last_index().0 as usize;
    assert_eq!(entries(&reopened), expected[..kept]);
    append(&mut reopened, &expected[kept..]);
    assert_eq!(entries(&open(&torn.after_kill(), Some(reopened.end())).0), expected);

    for durable in [Some(log.end()), Some(Position { segment: 2, offset: 64 })] {
        let torn = disk.after_kill();
        tear(&torn);
        assert_eq!(damage_of(try_open(&torn, durable)), Damage::EndsEarly);
    }
    let torn = disk.after_kill();
    tear(&torn);
    assert_eq!(damage_of(try_open(&torn, None)), Damage::RecordBeforeOthers);
}

#[test]
fn a_missing_segment_is_damage() {
    let (disk, _, log) = log_of_many_segments();
    let count = log.segment_count() as u32;
    for number in 1..=count {
        let disk = disk.after_kill();
        disk.remove_segment(SHARD, number).unwrap();
        assert_eq!(damage_of(try_open(&disk, Some(log.end()))), Damage::SegmentMissing, "segment {number}");
    }
}

#[test]
fn an_empty_segment_after_the_end_is_removed_and_made_again() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, None);
    append(&mut log, &numbered(3));
    options(&disk).source.take(SHARD, 2, 8192).unwrap();
    let (mut log, recovered) = open(&disk.after_kill(), Some(log.end()));
    assert_eq!(recovered.removed_segments, 1);
    append(&mut log, &[entry(1, 4, vec![4; 6000])]);
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_sealed_segment_without_a_successor_gets_one() {
    let (disk, expected, log) = log_of_many_segments();
    let sealed = log.view().segment(1).unwrap().written();
    let disk = disk.after_kill();
    for number in (2..=log.segment_count() as u32).rev() {
        disk.remove_segment(SHARD, number).unwrap();
    }
    let (mut log, _) = open(&disk, Some(at(sealed)));
    let kept = log.last_index().0 as usize;
    append(&mut log, &expected[kept..]);
    assert_eq!(entries(&open(&disk.after_kill(), Some(log.end())).0), expected);
}

#[test]
fn a_swapped_segment_is_damage() {
    let (disk, _, log) = log_of_many_segments();
    let third = disk.segment_bytes(SHARD, 3);
    disk.edit_segment(SHARD, 2, |bytes| *bytes = third);
    assert_eq!(damage_of(try_open(&disk, Some(log.end()))), Damage::SegmentHeader);
}

#[test]
fn what_recovery_shows_survives_a_power_loss_right_after() {
    let (disk, _) = small_log();
    let killed = disk.after_kill();
    let (log, _) = open(&killed, None);
    let (again, _) = open(&killed.after_power_loss(|| false), Some(log.end()));
    assert_eq!((entries(&again), again.hard_state()), (numbered(3), hard_state(1, 1, 2)));
}

#[test]
fn an_erased_log_starts_over() {
    let (disk, _, log) = log_of_many_segments();
    drop(log);
    erase(&*disk, &*options(&disk).source, SHARD).unwrap();
    let (log, recovered) = open(&disk, None);
    assert!(recovered.created && log.last_index() == LogIndex(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any history of appends, followed by a power loss that keeps any subset of the unsynced sectors, yields a prefix
    /// of that history that contains everything that was synced.
    #[test]
    fn a_power_loss_leaves_a_prefix(
        steps in proptest::collection::vec((1usize..900, any::<bool>(), 0u8..10), 1..40),
        keep in proptest::collection::vec(any::<bool>(), 1..64),
    ) {
        let disk = MemoryDisk::new();
        let (mut log, _) = open(&disk, None);
        let mut durable = log.end();
        let mut term = 1;
        let mut histories = vec![Vec::new()];
        for (size, back, sync) in steps {
            let mut history = histories.last().unwrap().clone();
            if back && !history.is_empty() {
                term += 1;
                history.pop();
            }
            history.push(entry(term, history.len() as u64 + 1, vec![size as u8; size]));
            log.append_entry(history.last().unwrap()).unwrap();
            histories.push(history);
            if sync == 0 {
                for segment in log.view().segments() {
                    segment.sync().unwrap();
                }
                durable = log.end();
                histories.drain(..histories.len() - 1);
            }
        }
        let mut at = 0;
        let disk = disk.after_power_loss(|| { at += 1; keep[at % keep.len()] });
        let (log, _) = open(&disk, Some(durable));
        let found = entries(&log);
        prop_assert!(histories.contains(&found), "{} entries", found.len());
        prop_assert!(log.end() >= durable);
    }

    /// Arbitrary bytes in place of a segment are damage or an empty log; they never panic.
    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 1..300), offset in 0usize..400) {
        let (disk, _) = small_log();
        disk.edit_segment(SHARD, 1, |bytes| bytes[offset..offset + garbage.len()].copy_from_slice(&garbage));
        if let Ok((log, _)) = try_open(&disk, None) {
            let found = entries(&log);
            prop_assert_eq!(&found[..], &numbered(3)[..found.len()]);
        }
    }
}
