//! Upkeep that a replica does in its own turns is done in slices, between which everything else goes on.

use super::*;
use crate::shard::upkeep::{Done, Job, Keeper, Slice, UpkeepOptions};
use crate::store::{CaptureSlice, KnownWrite};

const KEYS: usize = 60;

fn name(key: usize) -> String {
    format!("k{key}")
}

fn value(key: usize, round: usize) -> String {
    format!("{key}/{round} {}", "x".repeat(30_000))
}

/// A group whose log has sealed segments, half of which are garbage, and what each key holds.
fn half_garbage() -> (Group, BTreeMap<usize, String>) {
    let mut group = Group::led();
    let mut expected = BTreeMap::new();
    for (key, round) in (0..KEYS).map(|key| (key, 0)).chain((0..KEYS).step_by(2).map(|key| (key, 1))) {
        group.written(0, &name(key), put(&value(key, round)));
        expected.insert(key, value(key, round));
    }
    group.advance(3 * TICK_MS);
    (group, expected)
}

fn keeper() -> Keeper {
    let slice = Slice { relocations: 2, ..Slice::default() };
    let eager =
        UpkeepOptions { garbage_bytes_min: 1, garbage_percent: 1, retain_bytes: 0, slice, ..Default::default() };
    Keeper::new(eager, Arc::default())
}

/// What is due. If the segments are sealed, they are looked at before.
fn due(group: &mut Group, keeper: &mut Keeper) -> Option<Job> {
    let now = group.now.monotonic;
    loop {
        let job = keeper.handle_tick(group.shard(0), now).unwrap()?;
        if format!("{job:?}") != "LookForKeys" {
            return Some(job);
        }
        assert!(run(group, keeper, job).is_none());
    }
}

/// Has a job run, and gives out what follows from it.
pub(super) fn run(group: &mut Group, keeper: &mut Keeper, job: Job) -> Option<Job> {
    let done: Done = job.run(&*group.disks[0], &mut |_| true).unwrap();
    let now = group.now.monotonic;
    keeper.handle_done(group.shard(0), now, Ok(done)).unwrap()
}

fn assert_reads(group: &mut Group, expected: &BTreeMap<usize, String>) {
    for (key, value) in expected {
        assert_eq!(group.value(0, &name(*key)).as_ref(), Some(value), "k{key}");
    }
}

#[test]
pub(super) fn a_compaction_is_taken_over_in_slices_between_which_keys_are_written_and_read() {
    let (mut group, mut expected) = half_garbage();
    let (mut keeper, now) = (keeper(), group.now.monotonic);
    let compact = due(&mut group, &mut keeper).expect("there is garbage");
    assert_eq!(format!("{compact:?}"), "Compact");
    let segments = group.shard(0).log().view().segments().len();
    let mut job = run(&mut group, &mut keeper, compact);
    let mut slices = 0;
    while job.is_none() {
        assert!(keeper.is_at_work());
        assert!(group.shard(0).log().view().segments().len() >= segments, "nothing is dropped before the end");
        assert!(keeper.handle_tick(group.shard(0), now).unwrap().is_none(), "one thing at a time");
        // One that was moved already, or comes later.
        let key = slices * 7 % KEYS;
        group.written(0, &name(key), put(&value(key, 2)));
        expected.insert(key, value(key, 2));
        assert_reads(&mut group, &expected);
        job = keeper.go_on(group.shard(0), now).unwrap();
        slices += 1;
    }
    assert!(slices >= 10, "{slices} slices of two records each");
    for kind in ["Write", "Remove"] {
        let due = job.take().unwrap();
        assert_eq!(format!("{due:?}"), kind);
        job = run(&mut group, &mut keeper, due);
        assert_reads(&mut group, &expected);
    }
    assert!(job.is_none() && keeper.is_resting());
    group.kill(0);
    group.restart(0);
    group.await_leader(&[0, 1, 2]);
    group.advance(10 * TICK_MS);
    assert_reads(&mut group, &expected);
}

#[test]
pub(super) fn a_replica_that_ends_between_two_slices_comes_back_as_it_was() {
    let (mut group, expected) = half_garbage();
    let (mut keeper, now) = (keeper(), group.now.monotonic);
    let compact = due(&mut group, &mut keeper).expect("there is garbage");
    assert!(run(&mut group, &mut keeper, compact).is_none());
    assert!(keeper.go_on(group.shard(0), now).unwrap().is_none() && keeper.is_at_work());
    keeper.let_go();
    group.kill(0);
    group.restart(0);
    group.await_leader(&[0, 1, 2]);
    group.advance(10 * TICK_MS);
    assert_reads(&mut group, &expected);
}

#[test]
pub(super) fn a_checkpoint_is_captured_in_slices_between_which_keys_are_written_and_removed() {
    let mut group = Group::led();
    let mut expected = BTreeMap::new();
    for key in 0..KEYS {
        let value = format!("{key} {}", "x".repeat(500));
        group.written(0, &name(key), put(&value));
        expected.insert(key, Some(value));
    }
    group.advance(3 * TICK_MS);
    let capture = CaptureSlice { pairs: 4, session_bytes: 256 };
    let slice = Slice { capture, ..Slice::default() };
    let options = UpkeepOptions { checkpoint_bytes: 1, garbage_bytes_min: u64::MAX, slice, ..Default::default() };
    let (mut keeper, now) = (Keeper::new(options, Arc::default()), group.now.monotonic);
    let base = group.shard(0).store().applied();
    let mut job = due(&mut group, &mut keeper);
    let mut slices = 1;
    while job.is_none() {
        assert!(keeper.is_at_work());
        assert!(keeper.handle_tick(group.shard(0), now).unwrap().is_none(), "one thing at a time");
        let key = slices * 7 % (KEYS + 10);
        let value = (slices % 3 > 0).then(|| format!("{key} again"));
        match &value {
            Some(value) => group.written(0, &name(key), put(value)),
            None => group.written(0, &name(key), Action::Delete),
        };
        expected.insert(key, value);
        job = keeper.go_on(group.shard(0), now).unwrap();
        slices += 1;
    }
    assert!(slices >= KEYS / 4, "{slices} slices of four keys each");
    for kind in ["Write", "Remove"] {
        let due = job.take().unwrap();
        assert_eq!(format!("{due:?}"), kind);
        job = run(&mut group, &mut keeper, due);
    }
    assert!(job.is_none() && keeper.is_resting());
    assert_eq!(group.shard(0).log().base().map(|base| base.index), Some(base), "what was applied when it began");
    assert!(group.shard(0).log().grown() > 0, "what came since is for the next one");

    group.kill(0);
    group.restart(0);
    assert_eq!(group.shard(0).restored(), Restored::Hint);
    group.await_leader(&[0, 1, 2]);
    group.advance(10 * TICK_MS);
    for (key, value) in &expected {
        assert_eq!(&group.value(0, &name(*key)), value, "k{key}");
    }
    let digests: Vec<u64> = (0..3).map(|position| group.shard(position).store().digest().unwrap()).collect();
    assert!(digests[0] == digests[1] && digests[0] == digests[2], "sessions included");
    assert!(matches!(group.shard(0).store().sessions().look_up(client(), 1), KnownWrite::Answered(_)));
}
