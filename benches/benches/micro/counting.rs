//! What it costs to count a request. The goal is less than 20 ns per request.
//!
//! By the processor time of the thread: a few nanoseconds can't be told from what others of the machine take.

use criterion::{Bencher, Criterion};
use kvorum_core::clock::Nanos;
use kvorum_core::measure::heat::Heat;
use kvorum_core::measure::meter::{Door, Finished, Meter, OperationKind, ReadSource};
use kvorum_node::runtime::door_counts::DoorCounts;
use kvorum_protocol::ResponseBody;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// A busy shard's operations come this often, in nanoseconds.
const EVERY_NS: u64 = 1_000;

/// How long this thread has had a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures `counting` by processor time.
fn iterate(bencher: &mut Bencher<'_>, mut counting: impl FnMut()) {
    bencher.iter_custom(|iterations| {
        let before = processor_time();
        (0..iterations).for_each(|_| counting());
        // The clock may be coarser than one short sample.
        (processor_time() - before).max(Duration::from_nanos(1))
    });
}

pub(super) fn bench(criterion: &mut Criterion) {
    // As a session has it: by reference to the trait.
    let doors: Arc<dyn Meter> = Arc::new(DoorCounts::default());
    let answer = ResponseBody::Value(None);
    criterion.bench_function("counting/a GET that is answered at once", |bencher| {
        let mut took = 0;
        iterate(bencher, || {
            took = (took + 977) & 0xff_ffff;
            let finished = Finished::new(Door::Binary, OperationKind::Get, black_box(&answer), Nanos(took));
            doors.finished(&Finished { source: Some(ReadSource::default()), ..finished });
        });
    });
    criterion.bench_function("counting/a PUT that waits", |bencher| {
        let mut took = 0;
        iterate(bencher, || {
            took = (took + 977) & 0xff_ffff;
            doors.waits(Door::Binary);
            let finished = Finished::new(Door::Binary, OperationKind::Put, black_box(&answer), Nanos(took));
            doors.finished(&Finished { waited: true, ..finished });
        });
    });
    // Past the beginning, after which a busy shard is sampled.
    let heat = Heat::default();
    let (mut now, mut nth) = (Nanos(1), 0);
    let mut note = || {
        (now, nth) = (Nanos(now.0 + EVERY_NS), nth + 1);
        heat.note_read(black_box(b"user:1234567"), now, nth);
    };
    (0..3_000_000).for_each(|_| note());
    criterion.bench_function("counting/which keys are read, of a million GETs per second", |bencher| {
        iterate(bencher, &mut note);
    });
}
