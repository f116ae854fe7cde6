//! How many replicas of a node hold a dump of their index.

use super::*;
use crate::shard::upkeep::{Done, DumpPermits, Keeper, UpkeepOptions};

#[test]
fn a_checkpoint_waits_while_two_others_hold_their_dumps() {
    let mut group = Group::led();
    group.written(0, "key", put(&"x".repeat(4_000)));
    // A follower learns from the next heartbeat what it may apply.
    group.advance(3 * TICK_MS);
    let permits: Arc<DumpPermits> = Arc::default();
    let options = UpkeepOptions { checkpoint_bytes: 1, ..UpkeepOptions::default() };
    let mut keepers: Vec<Keeper> = (0..3).map(|_| Keeper::new(options, Arc::clone(&permits))).collect();

    let mut now = group.now.monotonic;
    let mut jobs: Vec<_> =
        keepers.iter_mut().enumerate().map(|(at, keeper)| keeper.handle_tick(group.shard(at), now).unwrap()).collect();
    assert_eq!(jobs.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);

    // Its dump is held until what the checkpoint replaced is gone, too.
    for expected in ["Write", "Remove"] {
        now = now.after_ms(1_000);
        assert!(keepers[2].handle_tick(group.shard(2), now).unwrap().is_none(), "before {expected}");
        let job = jobs[0].take().unwrap();
        assert_eq!(format!("{job:?}"), expected);
        let done = job.run(&*group.disks[0], &mut |_| true).unwrap();
        jobs[0] = keepers[0].handle_done(group.shard(0), now, Ok(done)).unwrap();
    }
    assert!(keepers[2].handle_tick(group.shard(2), now.after_ms(1_000)).unwrap().is_some());

    // So it is after a job that was cut short.
    assert!(keepers[1].handle_done(group.shard(1), now, Ok(Done::Cancelled)).unwrap().is_none());
    assert!(keepers[1].handle_tick(group.shard(1), now.after_ms(1_000)).unwrap().is_some());
}
