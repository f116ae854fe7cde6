//! Tests of plain groups again, with all records sealed.

use super::*;
use crate::sealing::KeyEpoch;
use crate::sealing::testing::{key, keyring, sealed};
use crate::shard::upkeep::{Job, Keeper, UpkeepOptions};

#[test]
fn what_holds_of_plain_groups_holds_of_sealed_ones() {
    let tests = [
        requests_of_one_batch_see_each_other_in_order,
        a_retry_after_the_leaders_death_takes_effect_once,
        a_write_that_another_leader_overwrites_is_reported_as_not_applied,
        a_key_expires_by_log_time_on_every_replica,
        an_atomic_takes_effect_as_a_whole_or_not_at_all,
        an_atomic_that_would_write_or_return_too_much_is_refused,
        a_batch_of_writes_that_return_large_values_is_split_into_entries,
        all_replicas_killed_and_restarted_hold_what_was_acknowledged,
        names::the_next_leader_knows_the_names_and_so_does_who_starts_again,
        slices::a_compaction_is_taken_over_in_slices_between_which_keys_are_written_and_read,
        slices::a_replica_that_ends_between_two_slices_comes_back_as_it_was,
        slices::a_checkpoint_is_captured_in_slices_between_which_keys_are_written_and_removed,
        transaction::the_longest_transactions_are_done_and_remembered,
        transaction::operations_are_done_in_turn_and_one_that_fails_does_not_stop_the_others,
        transaction::a_key_is_renamed_and_copied_with_its_time_to_live,
        remains::all_of_its_log_counts_what_it_did_not_know_to_be_committed_too,
    ];
    tests.into_iter().for_each(sealed);
}

/// Whether these bytes are anywhere in the files of a replica.
fn is_on_disk(group: &mut Group, position: usize, text: &[u8]) -> bool {
    let segments = group.shard(position).log().view().segments();
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    segments.iter().any(|segment| holds(segment.read(0, segment.written()).unwrap()))
}

/// What was written before the switch stays as it was; what is written after it is in no file in the clear.
#[test]
fn keys_are_switched_on_and_rotated_while_a_group_works() {
    sealed(|| {
        let ring = keyring();
        let mut group = Group::led();
        let long = "long value ".repeat(100);
        for epoch in 1..=3 {
            ring.insert(KeyEpoch(epoch), key(epoch));
            ring.activate(KeyEpoch(epoch));
            group.written(0, &format!("a key of epoch {epoch}"), put(&format!("a value of epoch {epoch}")));
            group.written(0, &format!("a long one of epoch {epoch}"), put(&format!("{long}{epoch}")));
        }
        group.advance(10 * TICK_MS);
        for position in 0..3 {
            for text in ["a key of", "a value of", "a long one", "long value"] {
                assert!(!is_on_disk(&mut group, position, text.as_bytes()), "{text} at {position}");
            }
            for epoch in 1..=3 {
                let reader = Arc::clone(group.shard(position).reader());
                let value = |key: String| reader.get(key.as_bytes()).unwrap().unwrap().entry.value;
                assert_eq!(value(format!("a key of epoch {epoch}")), format!("a value of epoch {epoch}"));
                assert_eq!(value(format!("a long one of epoch {epoch}")), format!("{long}{epoch}"));
            }
        }
    });
}

/// The next step of upkeep at the first replica: the job that is due is done, and noted.
fn step(group: &mut Group, keeper: &mut Keeper, job: Option<Job>, jobs: &mut Vec<String>) -> Option<Job> {
    let now = group.now.monotonic;
    match job {
        None if keeper.is_at_work() => keeper.go_on(group.shard(0), now).unwrap(),
        None => keeper.handle_tick(group.shard(0), now).unwrap(),
        Some(job) => {
            jobs.push(format!("{job:?}"));
            slices::run(group, keeper, job)
        }
    }
}

/// Nothing of what was written before stays as it was, be it that nobody writes any more.
#[test]
fn what_is_plain_or_has_an_old_key_is_sealed_with_the_key_in_use() {
    sealed(|| {
        let ring = keyring();
        ring.activate(KeyEpoch(1));
        let mut group = Group::led();
        group.written(0, "gone", put("a value of epoch 1"));
        for number in 0..20 {
            group.written(0, &format!("key {number}"), put(&format!("a value of epoch 1 {}", "x".repeat(number * 50))));
        }
        group.written(0, "gone", Action::Delete);
        group.advance(3 * TICK_MS);
        ring.insert(KeyEpoch(2), key(2));
        ring.activate(KeyEpoch(2));
        let mut keeper = Keeper::new(UpkeepOptions::default(), Arc::default());
        let (mut job, mut jobs) = (None, Vec::new());
        for _ in 0..20 {
            job = step(&mut group, &mut keeper, job, &mut jobs);
            group.advance(1_000);
        }
        assert_eq!(jobs, ["LookForKeys", "Sync", "LookForKeys", "Compact", "Write", "Remove"]);
        assert_eq!(keeper.counts().old_key_bytes, 0);
        let oldest: Vec<_> = group.shard(0).log().view().segments().iter().filter_map(|one| one.oldest_key()).collect();
        assert!(!oldest.is_empty() && oldest.iter().all(|oldest| *oldest >= KeyEpoch(2)), "{oldest:?}");
        group.kill(0);
        group.restart(0);
        group.await_leader(&[0, 1, 2]);
        group.advance(10 * TICK_MS);
        for number in 0..20 {
            let expected = format!("a value of epoch 1 {}", "x".repeat(number * 50));
            assert_eq!(group.value(0, &format!("key {number}")), Some(expected));
        }
        assert_eq!(group.value(0, "gone"), None);
    });
}

/// The leader may seal with the key before for a while. A replica that has the newer one must not go on in another segment each time.
#[test]
fn a_leader_with_an_older_key_does_not_keep_files_from_being_tidied_up() {
    sealed(|| {
        let ring = keyring();
        ring.insert(KeyEpoch(2), key(2));
        let mut group = Group::led();
        let mut keeper = Keeper::new(UpkeepOptions::default(), Arc::default());
        let (mut job, mut jobs) = (None, Vec::new());
        for number in 0..60 {
            ring.activate(KeyEpoch(1));
            group.written(0, &format!("key {}", number % 10), put(&format!("a value {number}")));
            ring.activate(KeyEpoch(2));
            job = step(&mut group, &mut keeper, job, &mut jobs);
            group.advance(500);
        }
        let count = |name: &str| jobs.iter().filter(|job| *job == name).count();
        assert!((1..=4).contains(&count("Sync")), "in 30 s: {jobs:?}");
        assert!(count("Compact") > 0, "{jobs:?}");
    });
}
