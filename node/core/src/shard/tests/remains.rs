//! A replica whose group never meets again, and how it goes on alone.

use super::*;
use crate::disk::memory::Faults;
use crate::folder::replica_files::{ReplicaFiles, WantedReplica};
use crate::ring::{RingMap, RingNode};
use crate::sealing::testing::keyring;
use crate::shard::remains::{Reach, RemainsOptions, TERMS_SKIPPED, VERSIONS_SKIPPED};
use kvorum_protocol::ClusterId;

const SHARD: ShardId = ShardId(3);
const FRESH: ReplicaId = ReplicaId(1_000);
const WANTED: WantedReplica = WantedReplica { shard: SHARD, replica: FRESH, epoch: 7, may_begin: true };

fn ring() -> RingMap {
    let nodes = (1..=3).map(|number| RingNode::new(Uuid::from_u128(number), format!("node-{number}"))).collect();
    RingMap::initial(ClusterId(Uuid::from_u128(9)), Durability::Fsync, nodes, 4, 3).unwrap()
}

/// The second disk of a group of which the others are lost. Its last write was acknowledged, and it does not know so.
fn left() -> Arc<MemoryDisk> {
    let mut group = Group::led();
    group.written(0, "first", put("one"));
    group.advance(3 * TICK_MS);
    group.cut = BTreeSet::from([2]);
    group.written(0, "second", put("two"));
    (0..3).for_each(|position| group.kill(position));
    let disk: Arc<dyn Disk> = Arc::clone(&group.disks[1]) as _;
    // In place of a journal: what an opened log holds is durable.
    ShardLog::open(&disk, SHARD, None, LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))))).unwrap();
    Arc::clone(&group.disks[1])
}

fn on<T>(disk: &Arc<MemoryDisk>, with: impl FnOnce(&RemainsOptions<'_>) -> T) -> T {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    with(&RemainsOptions { disk: &disk, ring: &ring(), shard: SHARD, keys: &keyring() })
}

fn reach(disk: &Arc<MemoryDisk>) -> Reach {
    on(disk, |options| options.open(id(1), None).unwrap().expect("it has a log").reach().clone())
}

/// What `kvorum recover apply` does about a group.
fn go_on(disk: &Arc<MemoryDisk>, term: Term) -> Result<(), ShardError> {
    if on(disk, |options| options.is_alone(FRESH))? {
        return Ok(());
    }
    let as_disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let files = ReplicaFiles::new(Arc::clone(&as_disk), Arc::new(InlineSource::new(Arc::clone(&as_disk))));
    assert!(files.go_on_as(&WANTED)?);
    let remains = on(disk, |options| options.open(FRESH, None))?.expect("it has a log");
    remains.go_on_alone(&*as_disk, FRESH, term)
}

/// The group goes on with one replica, which leads it.
fn led_alone(disk: &Arc<MemoryDisk>) -> (Shard, Now) {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let options = LogOptions::new(Arc::new(InlineSource::new(Arc::clone(&disk))));
    let (log, _) = ShardLog::open(&disk, SHARD, None, options).unwrap();
    let of_fresh = ConsensusConfig { replica: FRESH, ..config(3, &[]).consensus };
    let target = Target { voters: vec![FRESH], since: 1, asks: false };
    let config = ShardConfig { consensus: of_fresh, target, ..config(3, &[]) };
    let mut now = Group::new().now;
    let mut shard = Shard::new(config, log, now.monotonic).unwrap();
    for _ in 0..100 {
        now.monotonic = now.monotonic.after_ms(TICK_MS);
        shard.handle_tick(now);
        polled(&mut shard, now);
        if shard.status().serving {
            return (shard, now);
        }
    }
    panic!("it does not lead within 5 s");
}

fn polled(shard: &mut Shard, now: Now) -> Vec<(Ticket, ShardReply)> {
    let mut replies = Vec::new();
    loop {
        let effects = shard.poll(now).unwrap();
        replies.extend(effects.replies);
        match effects.append {
            Some((token, _)) => shard.handle_persisted(token),
            None => return replies,
        }
    }
}

fn asked(shard: &mut Shard, now: Now, operation: Operation) -> ShardReply {
    let deadline = now.monotonic.after_ms(DEADLINE_MS);
    shard.handle_requests([ShardRequest { ticket: Ticket(1), client: client(), deadline, term: Term(0), operation }]);
    polled(shard, now).pop().expect("it is answered").1
}

fn value(shard: &Shard, key: &str) -> Option<String> {
    let found = shard.reader().get(key.as_bytes()).unwrap();
    found.map(|found| String::from_utf8(found.entry.value.to_vec()).unwrap())
}

#[test]
pub(super) fn all_of_its_log_counts_what_it_did_not_know_to_be_committed_too() {
    let disk = left();
    let reach = reach(&disk);
    assert!(reach.last_index > reach.committed, "it has not heard of the last commit");
    assert_eq!((reach.keys, &reach.membership.voters), (2, &(0..3).map(id).collect()));
    assert_eq!(reach.membership_committed, None);

    let term = Term(reach.term.0 + TERMS_SKIPPED);
    go_on(&disk, term).unwrap();
    let (mut shard, now) = led_alone(&disk);
    assert!(shard.membership().is_exactly(&[FRESH]));
    assert!(shard.status().term > term, "no term of the lost ones comes again");
    assert_eq!([value(&shard, "first"), value(&shard, "second")], [Some("one".into()), Some("two".into())]);

    // The second write comes again, and a new one after it.
    let again = WriteId { sequence: 2, first_unanswered: 1, retry: true, once: None };
    let ShardReply::Written(before) = asked(&mut shard, now, write(again, Ack::Committed, "second", put("two"))) else {
        panic!("it is remembered");
    };
    assert!(before.version.0 < VERSIONS_SKIPPED, "it is answered as before, and not done again");
    let next = WriteId { sequence: 3, first_unanswered: 1, retry: false, once: None };
    let ShardReply::Written(written) = asked(&mut shard, now, write(next, Ack::Committed, "first", put("three")))
    else {
        panic!("it is written");
    };
    assert!(written.version.0 > VERSIONS_SKIPPED, "no version of a lost write comes again");
    assert_eq!(value(&shard, "first"), Some("three".into()));
}

#[test]
fn a_membership_that_is_not_known_to_be_committed_is_told_besides_the_one_before() {
    let mut group = Group::led();
    group.written(0, "first", put("one"));
    group.advance(3 * TICK_MS);
    let voters: Vec<ReplicaId> = (0..4).map(id).collect();
    group.shard(0).set_target(Target { voters, since: 2, asks: true });
    group.cut = BTreeSet::from([2]);
    group.disks.push(MemoryDisk::new());
    group.replicas.push(None);
    group.tick();
    group.settle();
    (0..3).for_each(|position| group.kill(position));
    let reach = reach(&group.disks[1]);
    assert_eq!(reach.membership.learners, [id(3)]);
    let before = reach.membership_committed.expect("it is another one");
    assert!(before.is_exactly(&(0..3).map(id).collect::<Vec<_>>()));
}

#[test]
fn whatever_interrupts_it_the_next_try_comes_to_the_same() {
    let (mut interrupted, term) = (0, Term(reach(&left()).term.0 + TERMS_SKIPPED));
    for operations in 0.. {
        let disk = left();
        disk.set_faults(Faults { operations_left: Some(operations), ..Faults::default() });
        if go_on(&disk, term).is_ok() {
            break;
        }
        interrupted += 1;
        for after in [disk.after_kill(), disk.after_power_loss(|| false), disk.after_power_loss(|| true)] {
            go_on(&after, term).unwrap();
            go_on(&after, term).expect("and again");
            let (shard, _) = led_alone(&after);
            assert_eq!(value(&shard, "first"), Some("one".into()), "after {operations} operations");
        }
    }
    assert!(interrupted > 2, "it takes some operations");
}

#[test]
fn a_node_that_follows_an_older_map_leaves_the_files_alone() {
    let disk = left();
    let as_disk: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let files = ReplicaFiles::new(Arc::clone(&as_disk), Arc::new(InlineSource::new(Arc::clone(&as_disk))));
    files.prepare(&WantedReplica { replica: id(1), epoch: 1, ..WANTED }).unwrap();
    assert!(files.go_on_as(&WANTED).unwrap());
    use crate::folder::replica_files::Readiness;
    let outdated = files.prepare(&WantedReplica { replica: id(1), epoch: 6, ..WANTED }).unwrap();
    assert_eq!(outdated, Readiness::OutdatedMap);
    assert_eq!(files.prepare(&WantedReplica { may_begin: false, ..WANTED }).unwrap(), Readiness::Open);
    assert!(!files.go_on_as(&WantedReplica { replica: ReplicaId(999), ..WANTED }).unwrap(), "they are a later one's");
}

#[test]
fn a_group_of_which_nothing_is_left_begins_empty() {
    let disk = MemoryDisk::new();
    assert!(on(&disk, |options| options.open(FRESH, None)).unwrap().is_none());
    on(&disk, |options| options.begin_empty(FRESH, Term(TERMS_SKIPPED))).unwrap();
    assert!(on(&disk, |options| options.is_alone(FRESH)).unwrap());
    let (mut shard, now) = led_alone(&disk);
    assert_eq!(shard.status().keys, 0);
    let id = WriteId { sequence: 1, first_unanswered: 1, retry: false, once: None };
    let ShardReply::Written(written) = asked(&mut shard, now, write(id, Ack::Committed, "first", put("one"))) else {
        panic!("it is written");
    };
    assert!(written.version.0 > VERSIONS_SKIPPED);
    assert_eq!(value(&shard, "first"), Some("one".into()));
}
