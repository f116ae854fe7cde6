//! Appending to a shard's log: an entry is copied into the mapped segment, with its checksums, and made readable. Nothing is
//! synced; that is the journal's.

use crate::folder::Folder;
use crate::sample::entry;
use crate::timed;
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use kvorum_core::log::{ENTRY_OVERHEAD_BYTES, ShardLog};
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{LogIndex, ShardId, Term, Version};
use std::hint::black_box;

const SEGMENT_BYTES: u32 = 32 * 1024 * 1024;
/// A log takes so much before another one is begun. With less than half of its segment used, the next one is not made yet,
/// which would measure the disk.
const LOG_BYTES: u32 = SEGMENT_BYTES / 2 - 4096;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_append(criterion, 1);
    bench_append(criterion, 64);
}

fn bench_append(criterion: &mut Criterion, records: usize) {
    let payload = entry(0..records, b'v', Version(0));
    let entries_max = u64::from(LOG_BYTES / (ENTRY_OVERHEAD_BYTES + payload.len() as u32));
    let new = || {
        let folder = Folder::new();
        (folder.log(ShardId(0), SEGMENT_BYTES), folder)
    };
    let (mut log, _folder) = new();
    (0..entries_max).for_each(|_| append(&mut log, &payload));
    assert_eq!(log.entry(LogIndex(entries_max)).unwrap().payload, payload);
    assert_eq!(log.segment_count(), 1);
    drop(log);

    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(records as u64));
    group.bench_function(format!("append an entry of {records} record(s)"), |bencher| {
        bencher.iter_custom(|iterations| timed(iterations, entries_max, new, |(log, _)| append(log, &payload)));
    });
    group.finish();
}

/// As a shard's turn does it: the entry, and what the journal is handed of it.
fn append(log: &mut ShardLog, payload: &Bytes) {
    let index = LogIndex(log.last_index().0 + 1);
    let kind = RaftEntryKind::Operations;
    log.append_entry(&RaftEntry { term: Term(1), index, kind, payload: payload.clone() }).unwrap();
    let chunks = black_box(log.take_appended());
    assert_eq!(chunks.len(), 1);
}
