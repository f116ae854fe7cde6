//! A shard's state: reading a key's record through the index, and applying entries that point the index at new records.

use crate::folder::Folder;
use crate::sample::{entry, key, shuffled, value};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use kvorum_core::consensus::Committed;
use kvorum_core::log::limits::SEGMENT_BYTES_FIRST;
use kvorum_core::log::{Position, ShardLog};
use kvorum_core::store::Store;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ShardId, Term, Version};
use std::hint::black_box;

/// About 20 MB of records: more than a core's own caches hold.
const KEYS: usize = 1 << 17;
/// Records of an entry.
const RECORDS: usize = 64;
/// Keys that are inserted into an empty state in one iteration.
const INSERTED: usize = 1 << 14;
const OLD: u8 = b'o';
const NEW: u8 = b'n';

/// An entry's payload, and where it lies in the log.
struct Logged {
    payload: Bytes,
    position: Position,
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = Folder::new();
    let mut log = folder.log(ShardId(0), SEGMENT_BYTES_FIRST);
    let old = append_all(&mut log, OLD);
    let new = append_all(&mut log, NEW);
    let mut store = Store::new(log.view());
    old.iter().for_each(|logged| apply(&mut store, logged));
    assert_eq!(store.reader().keys(), KEYS as u64);

    bench_lookup(criterion, &store);
    bench_overwrite(criterion, &mut store, [&new, &old]);
    bench_insert(criterion, &log, &old[..INSERTED / RECORDS]);
}

fn bench_lookup(criterion: &mut Criterion, store: &Store) {
    let keys: Vec<Bytes> = shuffled(KEYS).map(key).collect();
    let found = |key: &Bytes| store.reader().get(key).unwrap();
    assert!(keys.iter().all(|key| found(key).is_some_and(|found| found.entry.value == value(OLD))));
    assert_eq!(found(&key(KEYS)), None);
    let mut keys = keys.iter().cycle();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(1));
    group.bench_function("read a key that is there", |bencher| {
        bencher.iter(|| black_box(found(black_box(keys.next().expect("it goes round")))));
    });
    group.finish();
}

/// Puts every key again and again, so that its record moves each time.
fn bench_overwrite(criterion: &mut Criterion, store: &mut Store, turns: [&[Logged]; 2]) {
    let mut entries = turns.into_iter().flatten().cycle();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function(format!("apply an entry with {RECORDS} overwrites"), |bencher| {
        bencher.iter(|| apply(store, entries.next().expect("it goes round")));
    });
    group.finish();
    assert_eq!(store.reader().keys(), KEYS as u64, "nothing but overwrites");
}

fn bench_insert(criterion: &mut Criterion, log: &ShardLog, entries: &[Logged]) {
    let fill = |mut store: Store| {
        entries.iter().for_each(|logged| apply(&mut store, logged));
        store
    };
    assert_eq!(fill(Store::new(log.view())).reader().keys(), INSERTED as u64);
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(INSERTED as u64));
    group.bench_function(format!("apply entries with {INSERTED} inserts"), |bencher| {
        bencher.iter_batched(|| Store::new(log.view()), fill, BatchSize::LargeInput);
    });
    group.finish();
}

/// Appends entries that put all keys.
fn append_all(log: &mut ShardLog, filling: u8) -> Vec<Logged> {
    let keys: Vec<usize> = shuffled(KEYS).collect();
    let append = |keys: &[usize]| {
        let index = LogIndex(log.last_index().0 + 1);
        let last_version = Version((index.0 - 1) * RECORDS as u64);
        let payload = entry(keys.iter().copied(), filling, last_version);
        let kind = RaftEntryKind::Operations;
        let position = log.append_entry(&RaftEntry { term: Term(1), index, kind, payload: payload.clone() }).unwrap();
        Logged { payload, position }
    };
    keys.chunks(RECORDS).map(append).collect()
}

fn apply(store: &mut Store, logged: &Logged) {
    let index = LogIndex(store.applied().0 + 1);
    let kind = RaftEntryKind::Operations;
    let committed = Committed { index, term: Term(1), kind, payload: logged.payload.clone() };
    store.apply(&committed, logged.position).unwrap();
}
