//! What sealing adds to a record: 64 small ones of an entry written, and opened as a read opens them, plain beside sealed.

use crate::sample::{key, value};
use criterion::{Criterion, Throughput};
use kvorum_core::log::operations::{Operations, OperationsBuilder};
use kvorum_core::sealing::{DATA_KEY_BYTES, DataKey, KeyEpoch, Keyring, ShardKeys};
use kvorum_protocol::{LogIndex, ShardId, Term, Version};
use std::hint::black_box;
use std::sync::Arc;

const RECORDS: usize = 64;

pub(crate) fn bench(criterion: &mut Criterion) {
    let ring = Keyring::with_key(KeyEpoch(1), DataKey::new([7; DATA_KEY_BYTES]));
    let (plain, sealed) = (ShardKeys::default(), ShardKeys::new(ShardId(3), Arc::new(ring)));
    let mut group = criterion.benchmark_group("sealing");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, keys) in [("plain", Arc::new(plain)), ("sealed", Arc::new(sealed))] {
        let entry = || {
            let mut builder = OperationsBuilder::new(1, Version(1));
            builder.seal_at(&keys, Term(1), LogIndex(1));
            for number in 0..RECORDS {
                builder.push_record(&key(number), Some(&value(number as u8)), None);
            }
            builder.finish()
        };
        let payload = entry();
        group.bench_function(format!("write {RECORDS} records, {name}"), |bencher| bencher.iter(|| black_box(entry())));
        let operations = Operations::parse(payload.into()).unwrap();
        group.bench_function(format!("open {RECORDS} records, {name}"), |bencher| {
            bencher.iter(|| {
                for record in operations.records() {
                    black_box(record.unwrap().1.open(&keys).unwrap());
                }
            });
        });
    }
    group.finish();
}
