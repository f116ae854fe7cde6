//! Making appends durable. A round is one write and one sync, however many shards take part.

use crate::folder::Folder;
use crate::sample::entry;
use criterion::{Criterion, Throughput};
use kvorum_core::journal::{
    InlineSync, JournalOptions, JournalWriter, PersistListener, ShardJournal, Submission, replay,
};
use kvorum_core::log::ShardLog;
use kvorum_core::log::limits::SEGMENT_BYTES_FIRST;
use kvorum_node::runtime::journal_threads::Journal;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{Durability, LogIndex, ShardId, Term, Version};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_round(criterion, 1);
    bench_round(criterion, 64);
    bench_threads(criterion);
}

/// One round of so many shards, an append of one record each.
fn bench_round(criterion: &mut Criterion, shards: u16) {
    let folder = Folder::new();
    let replayed = replay(folder.disk()).unwrap();
    let options = JournalOptions::default();
    let mut writer = JournalWriter::open(folder.disk(), options, replayed, Box::<InlineSync>::default()).unwrap();
    let (told, _) = Told::new();
    let (submissions, _logs): (Vec<_>, Vec<_>) = (0..shards).map(|shard| submission(&folder, shard, &told)).unzip();

    let before = writer.rounds();
    writer.round(&submissions).unwrap();
    assert_eq!(writer.rounds(), before + 1);

    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(shards.into()));
    group.bench_function(format!("round of {shards} submission(s)"), |bencher| {
        bencher.iter(|| writer.round(&submissions).unwrap());
    });
    group.finish();
    writer.close().unwrap();
}

/// As a shard sees it: to the journal's thread, and back when it is durable.
fn bench_threads(criterion: &mut Criterion) {
    let folder = Folder::new();
    let replayed = replay(folder.disk()).unwrap();
    let on_fatal = Box::new(|error| panic!("{error}"));
    let options = JournalOptions::default();
    let (journal, handle) = Journal::start(folder.disk(), options, Durability::Fsync, replayed, on_fatal).unwrap();
    let (told, tokens) = Told::new();
    let (submission, log) = submission(&folder, 0, &told);
    let submit = || {
        handle.submit(submission.clone());
        assert_eq!(tokens.recv(), Ok(submission.token));
    };
    submit();
    assert_eq!(handle.durable(ShardId(0)), Some(log.end()));

    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    group.bench_function("from a submission until its shard is told", |bencher| bencher.iter(submit));
    group.finish();
    journal.stop();
}

/// An append of one record, which may be handed in again and again, and the log that it is in.
fn submission(folder: &Folder, shard: u16, told: &Arc<Told>) -> (Submission, ShardLog) {
    let mut log = folder.log(ShardId(shard), SEGMENT_BYTES_FIRST);
    let payload = entry([shard.into()], b'v', Version(0));
    let kind = RaftEntryKind::Operations;
    log.append_entry(&RaftEntry { term: Term(1), index: LogIndex(1), kind, payload }).unwrap();
    let listener = Arc::clone(told) as Arc<dyn PersistListener>;
    (Submission { chunks: log.take_appended(), token: shard.into(), listener }, log)
}

/// Passes on what is durable.
struct Told(Sender<u64>);

impl Told {
    fn new() -> (Arc<Self>, Receiver<u64>) {
        let (sender, receiver) = channel();
        (Arc::new(Self(sender)), receiver)
    }
}

impl PersistListener for Told {
    fn persisted(&self, token: u64) {
        // Whoever has measured enough does not listen any more.
        let _ = self.0.send(token);
    }
}
