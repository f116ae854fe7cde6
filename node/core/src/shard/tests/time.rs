//! How long keys live, whatever wall clocks show.

use super::*;

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const YEARS_MS: u64 = 10 * 365 * 24 * HOUR_MS;

fn lives_for(ttl_ms: u64) -> Action {
    Action::Put { value: "v".into(), ttl: TimeToLive::Ms(ttl_ms) }
}

impl Group {
    /// The leader's wall clock shows so much more than it did, or less; what a majority shows stays.
    fn jump(&mut self, ms: i64) {
        self.now.wall_ms = self.now.wall_ms.saturating_add_signed(ms);
    }

    fn kill_all(&mut self) {
        (0..3).for_each(|position| self.kill(position));
        self.network.clear();
    }

    fn restart_all(&mut self) {
        (0..3).for_each(|position| self.restart(position));
    }

    /// Time passes, and nobody is there to see it.
    fn pass(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after_ms(ms);
        self.now.wall_ms += ms;
        self.now.agreed_ms = self.now.agreed_ms.map(|agreed| agreed + ms);
    }

    /// A key that is stored now lives for a second, and not longer.
    fn assert_a_second_is_one(&mut self, leader: usize) {
        self.written(leader, "a second", lives_for(SECOND_MS));
        self.advance(SECOND_MS - 2 * TICK_MS);
        assert!(self.value(leader, "a second").is_some(), "gone too early");
        self.advance(4 * TICK_MS);
        assert_eq!(self.value(leader, "a second"), None, "there too long");
    }
}

#[test]
fn a_put_may_keep_the_time_to_live_even_of_a_write_in_its_own_entry() {
    let keeping = || Action::Put { value: "kept".into(), ttl: TimeToLive::Keep };
    let mut group = Group::led();
    group.written(0, "never", put("v"));
    for key in ["never", "absent"] {
        group.written(0, key, keeping());
    }
    group.written(0, "one entry", put("v"));
    group.written(0, "{one entry} in one ATOMIC", put("v"));
    group.written(0, "other entry", lives_for(SECOND_MS));
    group.written(0, "other entry", keeping());
    let expire = Action::Expire { ttl_ms: SECOND_MS };
    let both = [expire.clone(), keeping()];
    let writes = both.clone().map(|action| write(group.fresh_id(), Ack::Committed, "one entry", action));
    let mutations = both.map(|action| mutation("{one entry} in one ATOMIC", action)).into();
    let request = AtomicRequest { id: group.fresh_id(), ack: Ack::Committed, checks: Vec::new(), mutations };
    let atomic = Operation::Atomic { client: client(), request };
    group.requests(0, writes.into_iter().chain([atomic]));
    group.settle();
    let expiring = ["one entry", "{one entry} in one ATOMIC", "other entry"];
    group.advance(SECOND_MS - 3 * TICK_MS);
    for key in expiring {
        assert_eq!(group.value(0, key).as_deref(), Some("kept"), "{key}");
    }
    group.advance(5 * TICK_MS);
    for key in expiring {
        assert_eq!(group.value(0, key), None, "{key} lives too long");
        group.written(0, key, keeping());
    }
    group.advance(10 * SECOND_MS);
    for key in expiring.into_iter().chain(["never", "absent"]) {
        assert_eq!(group.value(0, key).as_deref(), Some("kept"), "{key} had no time to live to keep");
    }
}

#[test]
fn one_wrong_wall_clock_neither_ends_lives_nor_keeps_keys_alive() {
    for jumps in [
        &[YEARS_MS as i64][..],
        &[-(HOUR_MS as i64)],
        &[-(YEARS_MS as i64)],
        &[HOUR_MS as i64, -2 * HOUR_MS as i64, 2 * HOUR_MS as i64, -(HOUR_MS as i64)],
    ] {
        let mut group = Group::led();
        group.written(0, "a day", lives_for(24 * HOUR_MS));
        for jump in jumps {
            group.jump(*jump);
            group.written(0, "other", put("v"));
            group.assert_a_second_is_one(0);
        }
        let back: i64 = jumps.iter().sum();
        group.jump(-back);
        group.assert_a_second_is_one(0);
        assert!(group.value(0, "a day").is_some(), "{jumps:?}");
    }
}

/// Not even if most clocks go wrong while the group runs.
#[test]
fn a_running_group_follows_wall_clocks_by_little() {
    for agreed_ms in [0, 1_700_000_000_000 + YEARS_MS] {
        let mut group = Group::led();
        group.written(0, "an hour", lives_for(HOUR_MS));
        group.now.agreed_ms = Some(agreed_ms);
        group.assert_a_second_is_one(0);
        group.advance(600 * SECOND_MS);
        group.assert_a_second_is_one(0);
        assert!(group.value(0, "an hour").is_some());
    }
}

#[test]
fn the_next_leader_goes_on_from_the_time_of_the_one_before() {
    let mut group = Group::led();
    group.written(0, "a minute", lives_for(60 * SECOND_MS));
    group.advance(30 * SECOND_MS);
    group.kill(0);
    // Its own clock is years ahead, and it does not look at it.
    group.jump(YEARS_MS as i64);
    group.now.agreed_ms = None;
    let began = group.now.monotonic;
    let leader = group.await_leader(&[1, 2]);
    group.written(leader, "other", put("v"));
    group.assert_a_second_is_one(leader);
    let passed_ms = 30 * SECOND_MS + group.now.monotonic.ms_since(began);
    assert!(group.value(leader, "a minute").is_some());
    group.advance(60 * SECOND_MS - passed_ms + 4 * TICK_MS);
    assert_eq!(group.value(leader, "a minute"), None, "the election counts, too");
}

/// One that was restarted alone knows nothing, until another tells it.
#[test]
fn a_replica_that_was_restarted_is_told_the_time() {
    let mut group = Group::led();
    group.written(0, "a minute", lives_for(60 * SECOND_MS));
    group.kill(0);
    group.pass(100);
    group.restart(0);
    group.cut.insert(1);
    // Most clocks would say otherwise.
    group.now.agreed_ms = group.now.agreed_ms.map(|agreed| agreed + HOUR_MS);
    let leader = group.await_leader(&[0, 2]);
    group.shard(leader).transfer_to(id(0));
    group.advance(20 * TICK_MS);
    let leader = group.await_leader(&[0, 2]);
    group.written(leader, "other", put("v"));
    assert!(group.value(leader, "a minute").is_some());
    group.assert_a_second_is_one(leader);
}

#[test]
fn after_all_were_down_the_clocks_of_a_majority_say_for_how_long() {
    let mut group = Group::led();
    group.written(0, "half an hour", lives_for(HOUR_MS / 2));
    group.written(0, "two hours", lives_for(2 * HOUR_MS));
    group.kill_all();
    group.pass(HOUR_MS);
    group.jump(YEARS_MS as i64);
    group.restart_all();
    let leader = group.await_leader(&[0, 1, 2]);
    group.advance(4 * TICK_MS);
    assert_eq!(group.value(leader, "half an hour"), None, "its time is over");
    assert!(group.value(leader, "two hours").is_some());
    group.assert_a_second_is_one(leader);
}

#[test]
fn writes_wait_for_the_clocks_of_a_majority_and_go_on_without() {
    for heard in [true, false] {
        let mut group = Group::led();
        group.written(0, "half an hour", lives_for(HOUR_MS / 2));
        let agreed = group.now.agreed_ms.take();
        group.kill_all();
        group.pass(HOUR_MS);
        group.restart_all();
        let leader = group.await_leader(&[0, 1, 2]);
        let ticket = group.write(leader, "k", lives_for(SECOND_MS));
        group.advance(SECOND_MS);
        assert_eq!(group.replies.get(&ticket), None, "it does not know what a second from now is");
        if heard {
            group.now.agreed_ms = agreed.map(|agreed| agreed + HOUR_MS);
            group.advance(2 * TICK_MS);
        } else {
            group.advance(2 * SECOND_MS);
        }
        assert!(matches!(group.replies.get(&ticket), Some(ShardReply::Written(_))), "heard: {heard}");
        assert_eq!(group.value(leader, "half an hour").is_none(), heard);
        group.assert_a_second_is_one(leader);
    }
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn log_time_that_looks_at_the_wall_ends_lives_or_keeps_keys_alive() {
    use crate::seeded::plant;
    {
        let _planted = plant(Some(Bug::LogTimeFollowsWall));
        let mut group = Group::led();
        group.written(0, "a day", lives_for(24 * HOUR_MS));
        group.jump(YEARS_MS as i64);
        group.written(0, "other", put("v"));
        assert_eq!(group.value(0, "a day"), None);
    }
    let _planted = plant(Some(Bug::LogTimeAwaitsWall));
    let mut group = Group::led();
    group.jump(-(HOUR_MS as i64));
    group.written(0, "a second", lives_for(SECOND_MS));
    group.advance(60 * SECOND_MS);
    assert!(group.value(0, "a second").is_some());
}
