//! Scenarios as transcripts: what the roster is told, and what it asks for.

use super::*;
use crate::consensus::{ConsensusConfig, ConsensusError};
use crate::disk::DiskError;
use crate::formats;
use crate::log::{Damage, Position};
use crate::sealing::KeyEpoch;
use crate::shard::ORDER_BITS;
use crate::store::SessionLimits;
use kvorum_protocol::Durability;
use std::io;

const NOW: Nanos = Nanos(1_000_000_000);

fn config(shard: u16, replica: u64) -> ShardConfig {
    ShardConfig {
        shard: ShardId(shard),
        consensus: ConsensusConfig {
            replica: ReplicaId(replica),
            tick_ms: 50,
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed: 1,
        },
        initial_voters: vec![ReplicaId(1)],
        target: Target { voters: vec![ReplicaId(replica)], since: 1, asks: false },
        joins: false,
        durability: Durability::Fsync,
        sessions: SessionLimits::default(),
        order_bits: ORDER_BITS,
    }
}

fn orders(epoch: u64, place: FolderStanding, held: &[(u16, u64)]) -> Orders {
    let configs = held.iter().map(|(shard, replica)| config(*shard, *replica)).collect();
    Orders { epoch, place, configs, survivors: BTreeSet::new() }
}

fn named(epoch: u64, held: &[(u16, u64)]) -> Orders {
    orders(epoch, FolderStanding::Named, held)
}

/// Actions as lines.
fn told(actions: &[Action]) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Stop { shard, replica } => format!("stop {shard}/{replica}"),
        Action::Close { shard } => format!("close {shard}"),
        Action::SetTarget { shard, target } => format!("target {shard} {:?}", target.voters),
        Action::Open(opening) => {
            let WantedReplica { shard, replica, epoch, may_begin } = opening.wanted;
            let begins = if may_begin { "" } else { ", if it was here" };
            format!("open {shard}/{replica} of epoch {epoch}{begins}, for the {}. time", opening.incarnation)
        }
        Action::SetUsable { shard } => format!("usable {shard}"),
        Action::SetUnusable { shard, role, .. } => format!("unusable {shard}: {role:?}"),
        Action::Retire { shard, replica } => format!("retire {shard}/{replica}"),
        Action::EraseSurplus { kept, epoch } => {
            format!("erase all but {:?} as of epoch {epoch}", kept.iter().map(|shard| shard.0).collect::<Vec<u16>>())
        }
        Action::RestartAfter { shard, delay, .. } => format!("restart {shard} after {} ms", delay.as_millis()),
        Action::EndProcess(end) => format!("end the process: {end}"),
    };
    actions.iter().map(line).collect()
}

fn wanted(shard: u16, replica: u64, epoch: u64) -> WantedReplica {
    WantedReplica { shard: ShardId(shard), replica: ReplicaId(replica), epoch, may_begin: true }
}

/// A failure of shard 0 that asks for this.
fn failure(remedy: Remedy) -> Failure {
    let shard = ShardId(0);
    let disk = |kind: io::ErrorKind| LogError::from(DiskError::new("write", "a file", kind.into())).into();
    let failure: Failure = match remedy {
        Remedy::Reopen => Failure::Reopens(LogIndex(5)),
        Remedy::Restart => Failure::OfNoFile("a test".to_owned()),
        Remedy::LeaveOut => {
            let position = Position { segment: 1, offset: 64 };
            LogError::Damaged { shard, position, damage: Damage::EndsEarly }.into()
        }
        Remedy::EndLife => {
            ShardError::from(ConsensusError::Forgotten { acknowledged: LogIndex(5), last: LogIndex(4) }).into()
        }
        Remedy::EndProcess => disk(io::ErrorKind::PermissionDenied),
        Remedy::AwaitProgram => {
            let what = formats::SEGMENT.check(9).unwrap_err().into();
            LogError::Unsupported { shard, what }.into()
        }
        Remedy::AwaitSpace => disk(io::ErrorKind::StorageFull),
        Remedy::AwaitKey => LogError::NoKey { shard, epoch: KeyEpoch(3) }.into(),
    };
    assert_eq!(failure.remedy(), remedy);
    failure
}

/// A roster with replicas that run, of epoch 1.
fn running(held: &[(u16, u64)]) -> Roster {
    let mut roster = Roster::default();
    drop(roster.follow(named(1, held)));
    for (shard, replica) in held {
        drop(roster.opening_over(&wanted(*shard, *replica, 1), Opened::Runs, NOW));
    }
    roster
}

#[test]
fn a_map_opens_what_it_gives_and_a_newer_one_tells_who_should_vote() {
    let mut roster = Roster::default();
    let first = roster.follow(named(1, &[(0, 1), (3, 2)]));
    let lines = [
        "erase all but [0, 3] as of epoch 1",
        "open 0/1 of epoch 1, for the 1. time",
        "open 3/2 of epoch 1, for the 1. time",
    ];
    assert_eq!(told(&first), lines);
    assert_eq!(
        told(&roster.opening_over(&wanted(0, 1, 1), Opened::Runs, NOW)),
        ["target 0 [ReplicaId(1)]", "usable 0"]
    );
    let second = roster.follow(named(2, &[(0, 1), (3, 2)]));
    assert_eq!(
        told(&second),
        ["erase all but [0, 3] as of epoch 2"],
        "nothing has changed for 0, and 3 is being opened"
    );
    let mut third = named(3, &[(0, 1), (3, 2)]);
    for config in &mut third.configs {
        config.target = Target { voters: vec![ReplicaId(1), ReplicaId(20)], since: 3, asks: true };
    }
    let lines = ["target 0 [ReplicaId(1), ReplicaId(20)]", "erase all but [0, 3] as of epoch 3"];
    assert_eq!(told(&roster.follow(third.clone())), lines);
    third.epoch = 4;
    assert_eq!(told(&roster.follow(third)), ["erase all but [0, 3] as of epoch 4"]);
    assert_eq!(
        told(&roster.opening_over(&wanted(3, 2, 1), Opened::Runs, NOW)),
        ["target 3 [ReplicaId(1), ReplicaId(20)]", "usable 3"],
        "it is told what has changed while it was opened"
    );
}

#[test]
fn a_replica_that_another_one_replaces_has_ended_before_that_one_is_opened() {
    let mut roster = running(&[(0, 1), (1, 1)]);
    let lines = ["stop 0/1", "usable 0", "erase all but [0, 1] as of epoch 2", "open 0/17 of epoch 2, for the 2. time"];
    let actions = roster.follow(named(2, &[(0, 17), (1, 1)]));
    assert_eq!(told(&actions), lines);
}

#[test]
fn what_a_map_does_not_give_is_stopped_and_erased_only_if_the_map_names_this_folder() {
    let mut roster = running(&[(0, 1), (1, 1)]);
    let actions = roster.follow(named(2, &[(1, 1)]));
    assert_eq!(told(&actions), ["stop 0/1", "usable 0", "erase all but [1] as of epoch 2"]);
    let mut roster = running(&[(0, 1)]);
    let actions = roster.follow(orders(2, FolderStanding::Stranger, &[]));
    assert_eq!(told(&actions), ["stop 0/1", "usable 0"], "nothing in a stranger's folder is erased");
    let mut roster = Roster::default();
    let actions = roster.follow(orders(1, FolderStanding::Unnamed, &[(0, 1)]));
    assert_eq!(told(&actions), ["open 0/1 of epoch 1, if it was here, for the 1. time"]);
}

#[test]
fn of_a_shard_one_replica_is_opened_at_a_time() {
    let mut roster = Roster::default();
    drop(roster.follow(named(1, &[(0, 1)])));
    let second = roster.follow(named(2, &[(0, 17)]));
    assert_eq!(told(&second), ["stop 0/1", "usable 0", "erase all but [0] as of epoch 2"]);
    assert!(roster.is_opening());
    let late = roster.opening_over(&wanted(0, 1, 1), Opened::Runs, NOW);
    let lines = ["stop 0/1", "erase all but [0] as of epoch 2", "open 0/17 of epoch 2, for the 2. time"];
    assert_eq!(told(&late), lines);
}

#[test]
fn files_of_a_shard_that_is_being_opened_are_erased_when_that_is_over() {
    let mut roster = Roster::default();
    drop(roster.follow(named(1, &[(0, 1)])));
    let second = roster.follow(named(2, &[]));
    assert_eq!(told(&second), ["stop 0/1", "usable 0", "erase all but [0] as of epoch 2"]);
    let late = roster.opening_over(&wanted(0, 1, 1), Opened::Failed(failure(Remedy::Restart)), NOW);
    assert_eq!(told(&late), ["close 0", "erase all but [] as of epoch 2"], "it may have run for a moment");
}

#[test]
fn a_replica_that_may_not_begin_waits_for_a_newer_map() {
    let mut roster = Roster::default();
    drop(roster.follow(named(1, &[(0, 17)])));
    let not_yet = || Opened::NotReady(Readiness::NotYet);
    assert_eq!(told(&roster.opening_over(&wanted(0, 17, 1), not_yet(), NOW)), [] as [&str; 0]);
    assert_eq!(told(&roster.restart(ShardId(0))), [] as [&str; 0]);
    let lines = ["erase all but [0] as of epoch 2", "open 0/17 of epoch 2, for the 2. time"];
    assert_eq!(told(&roster.follow(named(2, &[(0, 17)]))), lines);
    drop(roster.follow(named(3, &[(0, 17)])));
    let outdated = roster.opening_over(&wanted(0, 17, 2), not_yet(), NOW);
    assert_eq!(told(&outdated), ["open 0/17 of epoch 3, for the 3. time"], "a newer map came meanwhile");
}

#[test]
fn each_remedy_is_carried_out_and_a_replica_past_use_stays_closed() {
    let failed = |remedy| {
        let mut roster = running(&[(0, 1)]);
        let actions = told(&roster.failed(ShardId(0), failure(remedy), NOW));
        (actions, told(&roster.restart(ShardId(0))).len())
    };
    let of = |lines: &[&str], reopened| (lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), reopened);
    assert_eq!(failed(Remedy::Reopen), of(&["close 0", "restart 0 after 0 ms"], 1));
    assert_eq!(failed(Remedy::Restart), of(&["close 0", "restart 0 after 10 ms"], 1));
    assert_eq!(failed(Remedy::AwaitSpace), of(&["close 0", "restart 0 after 2000 ms"], 1));
    assert_eq!(failed(Remedy::AwaitKey), of(&["close 0", "restart 0 after 500 ms"], 1));
    assert_eq!(failed(Remedy::LeaveOut), of(&["close 0", "unusable 0: Faulty"], 0));
    assert_eq!(failed(Remedy::EndLife), of(&["close 0", "unusable 0: Amnesiac", "retire 0/1"], 0));
    let line = "end the process: shard 0: could not write a file: permission denied";
    assert_eq!(failed(Remedy::EndProcess).0, ["close 0", line]);
    let line =
        "end the process: shard 0: the segment has version 9, and this program reads version 3: start a newer program";
    assert_eq!(failed(Remedy::AwaitProgram).0, ["close 0", line]);
    let mut roster = Roster::default();
    drop(roster.follow(named(1, &[(0, 1)])));
    let ended = roster.opening_over(&wanted(0, 1, 1), Opened::NotReady(Readiness::Ended), NOW);
    assert_eq!(told(&ended), ["close 0", "unusable 0: Amnesiac"]);
    let replaced = roster.follow(named(2, &[(0, 17)]));
    let lines = ["stop 0/1", "usable 0", "erase all but [0] as of epoch 2", "open 0/17 of epoch 2, for the 2. time"];
    assert_eq!(told(&replaced), lines);
}

#[test]
fn replicas_that_fail_too_often_end_the_process() {
    let mut roster = running(&[(0, 1)]);
    let mut last = Vec::new();
    for _ in 0..=crate::health::restart_policy::RESTARTS_MAX {
        last = told(&roster.failed(ShardId(0), failure(Remedy::Restart), NOW));
        drop(roster.restart(ShardId(0)));
        drop(roster.opening_over(&wanted(0, 1, 1), Opened::Runs, NOW));
    }
    let line = "end the process: shards gave up: its children failed more than 10 times within 60 s, the last was shard 0: a test";
    assert_eq!(last, ["close 0", line]);
}

#[test]
fn a_roster_that_stops_opens_nothing_and_stops_what_was_being_opened() {
    let mut roster = Roster::default();
    drop(roster.follow(named(1, &[(0, 1)])));
    roster.stop();
    assert!(roster.is_stopping() && roster.is_opening());
    assert_eq!(told(&roster.follow(named(2, &[(0, 1), (1, 1)]))), [] as [&str; 0]);
    assert_eq!(told(&roster.bootstrap(config(5, 1))), [] as [&str; 0]);
    assert_eq!(told(&roster.opening_over(&wanted(0, 1, 1), Opened::Runs, NOW)), ["stop 0/1"]);
    assert!(!roster.is_opening());
}

#[test]
fn the_first_replica_of_meta_is_opened_once() {
    let mut roster = Roster::default();
    let first = roster.bootstrap(config(ShardId::META.0, 1));
    assert_eq!(told(&first).len(), 1);
    assert_eq!(told(&roster.bootstrap(config(ShardId::META.0, 2))), [] as [&str; 0]);
}

#[test]
fn what_a_recovered_group_went_on_from_is_opened_if_it_is_there_and_never_begun() {
    let mut roster = Roster::default();
    let recovered = Orders { survivors: [ShardId(1)].into(), ..named(9, &[(0, 7), (1, 8)]) };
    let actions = told(&roster.follow(recovered));
    assert!(actions.contains(&"open 0/7 of epoch 9, for the 1. time".to_owned()), "{actions:?}");
    assert!(actions.contains(&"open 1/8 of epoch 9, if it was here, for the 1. time".to_owned()), "{actions:?}");
}
