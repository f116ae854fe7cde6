//! A store over a real log in small segments: what is written, compacted, put away and rebuilt stays the same.

mod captures;
mod sealed;

use super::*;
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::log::operations::{IndexSecret, OperationsBuilder, RECORD_HEADER_BYTES};
use crate::log::session_section::SessionRecord;
use crate::log::{InlineSource, LogOptions, Segment, ShardLog};
use bytes::Bytes;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::limits::SCAN_PAGE_BYTES;
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind};
use kvorum_protocol::{ClientId, ScanCursor, ShardId, Term};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uuid::Uuid;

/// A few records fill a segment.
const SEGMENT_BYTES: u32 = 4096;

/// A record as it was written.
#[derive(Clone, Debug)]
struct Written {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    version: Version,
    expires_at_ms: Option<u64>,
}

impl Written {
    fn record(&self) -> Record<'_> {
        Record {
            key: &self.key,
            value: self.value.as_deref().unwrap_or_default(),
            sealed: None,
            version: self.version,
            expires_at_ms: self.expires_at_ms,
            tombstone: self.value.is_none(),
        }
    }
}

struct Fixture {
    disk: Arc<MemoryDisk>,
    log: ShardLog,
    store: Store,
    order_bits: u32,
    /// All records in segments that were not compacted away, by place.
    records: BTreeMap<Position, Written>,
}

impl Fixture {
    fn new(order_bits: u32) -> Self {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::clone(&memory) as _;
        let source = Arc::new(InlineSource::new(Arc::clone(&disk)));
        let small = LogOptions::new(source);
        let options = LogOptions { segment_bytes_first: SEGMENT_BYTES, segment_bytes_max: SEGMENT_BYTES, ..small };
        let (log, _) = ShardLog::open(&disk, ShardId(3), None, options).unwrap();
        let store = Store::with_order_bits(log.view(), order_bits);
        Self { disk: memory, log, store, order_bits, records: BTreeMap::new() }
    }

    /// Puts a payload into the log, whatever its version, and notes its records.
    fn append(&mut self, payload: &Bytes) -> Position {
        let index = LogIndex(self.log.last_index().0 + 1);
        let entry = RaftEntry { term: Term(1), index, kind: RaftEntryKind::Operations, payload: payload.clone() };
        let at = self.log.append_entry(&entry).unwrap();
        let operations = Operations::parse(payload.clone()).unwrap();
        let view = self.log.view();
        let keys = view.keys();
        for record in operations.records() {
            let (offset, record) = record.unwrap();
            let written = Written {
                key: record.open(keys).unwrap().0.into_owned(),
                value: (!record.tombstone).then(|| record.open(keys).unwrap().1.into_owned()),
                version: record.version,
                expires_at_ms: record.expires_at_ms,
            };
            self.records.insert(Position { offset: at.offset + offset, ..at }, written);
        }
        at
    }

    fn commit(&mut self, builder: OperationsBuilder) {
        let payload = Bytes::from(builder.finish());
        let at = self.append(&payload);
        let index = LogIndex(self.store.applied().0 + 1);
        let entry = Committed { index, term: Term(1), kind: RaftEntryKind::Operations, payload };
        self.store.apply(&entry, at).unwrap();
    }

    /// An entry of this log time. The first one brings the secret.
    fn entry(&self, time_ms: u64) -> OperationsBuilder {
        let mut builder = match self.store.lacks_secret() {
            true => OperationsBuilder::with_secret(time_ms, self.store.version(), IndexSecret([7; 16])),
            false => OperationsBuilder::new(time_ms, self.store.version()),
        };
        builder.seal_at(self.log.view().keys(), Term(1), LogIndex(self.log.last_index().0 + 1));
        builder
    }

    fn write(&mut self, time_ms: u64, key: &str, value: Option<&str>, expires_at_ms: Option<u64>) {
        let mut builder = self.entry(time_ms);
        let version = builder.push_record(key.as_bytes(), value.map(str::as_bytes), expires_at_ms);
        let sequence = version.0;
        let client = ClientId(Uuid::from_u128(u128::from(sequence % 3)));
        let reply = Remembered::Applied(version);
        builder.push_session(&SessionRecord { client, sequence, first_unanswered: sequence - 1, reply, once: None });
        self.commit(builder);
    }

    fn value(&self, key: &str) -> Option<Bytes> {
        self.store.reader().get(key.as_bytes()).unwrap().map(|found| found.entry.value)
    }

    fn position(&self, key: &str) -> Position {
        self.store.reader().get(key.as_bytes()).unwrap().unwrap().position
    }

    /// Copies a record to the end of the log, perhaps as a tombstone.
    fn copy(&mut self, written: &Written, as_tombstone: bool) -> Position {
        let mut builder = OperationsBuilder::new(0, Version(written.version.0 - 1));
        let value = written.value.as_deref().filter(|_| !as_tombstone);
        builder.push_record(&written.key, value, written.expires_at_ms.filter(|_| !as_tombstone));
        let before = self.records.last_key_value().map(|(at, _)| *at);
        self.append(&Bytes::from(builder.finish()));
        let (at, _) = self.records.last_key_value().unwrap();
        assert!(before.is_none_or(|before| before < *at));
        *at
    }

    /// The medium changes a record's key or value, and the segment is read anew.
    fn rot(&self, at: Position) {
        let (view, shard) = (self.log.view(), self.log.shard());
        let written = view.segment(at.segment).unwrap().written();
        self.disk.edit_segment(shard, at.segment, |bytes| bytes[at.offset as usize + RECORD_HEADER_BYTES + 1] ^= 1);
        let opened = self.disk.open_segment(shard, at.segment).unwrap().unwrap();
        let (segment, mut writer) = Segment::from_opened(shard, at.segment, opened).unwrap();
        writer.advance(written);
        view.remove(at.segment);
        view.insert(Arc::new(segment));
    }

    /// Fills the active segment up, so that all that was written is in sealed ones.
    fn seal(&mut self) {
        let active = self.log.end().segment;
        while self.log.end().segment == active {
            let filler = OperationsBuilder::new(0, self.store.version()).finish();
            self.append(&Bytes::from(filler));
        }
    }

    /// Compacts segments as the node does: copies, points the index at the copies, and removes the files.
    fn compact(&mut self, victims: &[u32]) {
        let (doomed, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.records).into_iter().partition(|(at, _)| victims.contains(&at.segment));
        let lowest = kept.values().map(|written| written.version).min();
        self.records = kept;
        let mut moved = Vec::new();
        for (at, written) in &doomed {
            match self.store.reader().fate(&written.record(), *at, lowest) {
                Fate::Keep { order } => moved.push((order, *at, self.copy(written, false))),
                Fate::KeepTombstone => {
                    self.copy(written, true);
                }
                Fate::Drop => {}
            }
        }
        for (order, old, new) in moved {
            assert!(self.store.relocate(order, old, new).unwrap());
        }
        for victim in victims {
            assert_eq!(self.store.reader().live_bytes(*victim), 0, "nothing is left in segment {victim}");
            self.log.view().remove(*victim);
        }
    }

    fn sealed_segments(&self) -> Vec<u32> {
        let active = self.log.end().segment;
        self.log.view().segments().iter().map(|segment| segment.number()).filter(|number| *number != active).collect()
    }

    fn restored(&self) -> Store {
        let mut base = Vec::new();
        self.store.encode_base(&mut base);
        Store::restore_with_order_bits(self.log.view(), &base, self.order_bits).unwrap()
    }

    /// Rebuilt from all records, in an order that follows from `seed`.
    fn rebuilt(&self, seed: u64) -> Store {
        let mut store = self.restored();
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|(at, _)| hash64(&(at.pack() ^ seed).to_le_bytes()));
        for (at, written) in records {
            store.insert_scanned(&written.record(), *at).unwrap();
        }
        store.finish_scan();
        store
    }

    fn loaded(&self) -> Store {
        let mut store = self.restored();
        store.load_index(self.store.dump_index().bytes()).unwrap();
        store
    }
}

/// What the index points at in each segment, counted afresh.
fn counted(store: &Store, records: &BTreeMap<Position, Written>) -> BTreeMap<u32, u64> {
    let dump = store.dump_index();
    let mut counts = BTreeMap::new();
    for position in (0..dump.len()).map(|slot| dump.position(slot).unwrap()) {
        *counts.entry(position.segment).or_default() += records[&position].record().bytes() as u64;
    }
    counts
}

/// When the records that the index points at expire, and where their keys stand in the order.
fn expiring(store: &Store, records: &BTreeMap<Position, Written>) -> Vec<(u64, u64)> {
    let dump = store.dump_index();
    let pointed_at = (0..dump.len()).map(|slot| &records[&dump.position(slot).unwrap()]);
    let mut expiring: Vec<_> =
        pointed_at.filter_map(|written| Some((written.expires_at_ms?, store.reader().order(&written.key)))).collect();
    expiring.sort_unstable();
    expiring
}

fn assert_same(one: &Store, other: &Store, records: &BTreeMap<Position, Written>) {
    assert_eq!(one.digest().unwrap(), other.digest().unwrap());
    assert_eq!(one.reader().keys(), other.reader().keys());
    assert_eq!((one.applied(), one.version()), (other.applied(), other.version()));
    assert_eq!(one.reader().log_time_ms(), other.reader().log_time_ms());
    for store in [one, other] {
        assert_eq!(store.contradiction(), Ok(None));
        let (expiring, order) = (expiring(store, records), store.expiry.iter().collect::<Vec<_>>());
        assert_eq!((order, store.expiry.len()), (expiring.clone(), expiring.len()), "one for each key that expires");
        assert_eq!(store.reader().live.all(), counted(store, records));
        assert_eq!(store.reader().live_bytes_total(), counted(store, records).values().sum::<u64>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Whatever is written and compacted, a store that comes back from its base and its dump, or from its base and its
    /// records in any order, is the same, and goes on the same.
    #[test]
    fn comes_back_from_a_dump_and_from_its_records(
        order_bits in prop_oneof![Just(2_u32), Just(64)],
        steps in proptest::collection::vec((0..12_u8, 0..9_u8, 1..600_usize), 1..120),
        seed: u64,
    ) {
        let mut fixture = Fixture::new(order_bits);
        let mut time_ms = 1_000;
        for (kind, key, size) in steps {
            time_ms += 7;
            let key = format!("key {key}");
            let value = "v".repeat(size);
            match kind {
                0..5 => fixture.write(time_ms, &key, Some(&value), None),
                5..7 => fixture.write(time_ms, &key, Some(&value), Some(time_ms + size as u64 / 4)),
                7..9 => fixture.write(time_ms, &key, None, None),
                _ => {
                    let chosen = |number: &u32| kind == 9 || hash64(&[*number as u8, size as u8]).is_multiple_of(2);
                    let victims: Vec<u32> = fixture.sealed_segments().into_iter().filter(chosen).collect();
                    fixture.compact(&victims);
                }
            }
        }
        let (mut loaded, mut rebuilt) = (fixture.loaded(), fixture.rebuilt(seed));
        assert_same(&fixture.store, &loaded, &fixture.records);
        assert_same(&fixture.store, &rebuilt, &fixture.records);
        let dumps = [&fixture.store, &loaded].map(|store| store.dump_index().bytes().to_vec());
        prop_assert_eq!(&dumps[0], &dumps[1]);

        for (key, value) in [("key 1", Some("again")), ("key 2", None), ("new", Some("value"))] {
            time_ms += 40;
            let mut builder = OperationsBuilder::new(time_ms, fixture.store.version());
            builder.push_record(key.as_bytes(), value.map(str::as_bytes), None);
            let payload = Bytes::from(builder.finish());
            let at = fixture.append(&payload);
            let index = LogIndex(fixture.store.applied().0 + 1);
            let entry = Committed { index, term: Term(1), kind: RaftEntryKind::Operations, payload };
            for store in [&mut fixture.store, &mut loaded, &mut rebuilt] {
                store.apply(&entry, at).unwrap();
            }
        }
        assert_same(&fixture.store, &loaded, &fixture.records);
        assert_same(&fixture.store, &rebuilt, &fixture.records);
    }
}

/// Records of one entry are looked up together, but take effect one after the other.
#[test]
fn an_entry_of_many_records_does_what_each_would_alone() {
    for order_bits in [2, 64] {
        let writes = |number: u64| {
            let value = format!("value {number}");
            (format!("key {}", number * number % 23), (number % 5 != 4).then_some(value))
        };
        let count = 3 * PREFETCH_KEYS as u64 + 1;
        let (mut together, mut alone) = (Fixture::new(order_bits), Fixture::new(order_bits));
        let mut builder = OperationsBuilder::new(1_000, Version(0));
        for (key, value) in (0..count).map(writes) {
            builder.push_record(key.as_bytes(), value.as_deref().map(str::as_bytes), None);
            let mut single = OperationsBuilder::new(1_000, alone.store.version());
            single.push_record(key.as_bytes(), value.as_deref().map(str::as_bytes), None);
            alone.commit(single);
        }
        together.commit(builder);
        assert_eq!(together.store.version(), Version(count));
        assert_eq!(together.store.digest(), alone.store.digest());
        assert_eq!(together.store.reader().live_bytes_total(), alone.store.reader().live_bytes_total());
    }
}

#[test]
fn a_base_holds_what_the_next_entry_depends_on() {
    let mut fixture = Fixture::new(64);
    for number in 0..10 {
        fixture.write(1_000 + number, "k", Some("v"), None);
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    fixture.store.encode_base(&mut first);
    fixture.restored().encode_base(&mut second);
    assert_eq!(first, second);
    let known = fixture.restored().sessions().look_up(ClientId(Uuid::from_u128(1)), 10);
    assert_eq!(known, KnownWrite::Answered(Remembered::Applied(Version(10))));
    for end in 0..first.len() {
        assert!(Store::restore(fixture.log.view(), &first[..end]).is_err(), "cut at {end}");
    }
    first.push(0);
    assert!(Store::restore(fixture.log.view(), &first).is_err(), "something is left");
    second[0] = 9;
    assert!(Store::restore(fixture.log.view(), &second).is_err(), "a session was used by an entry after the last");
}

/// docs/LOG_FORMAT.md describes these bytes; hints on disks hold them.
#[test]
fn bytes_of_a_dump_are_frozen() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "a", Some("v"), None);
    fixture.write(1_000, "b", Some("value"), Some(2_000));
    let hex: String = fixture.store.dump_index().bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let frozen = concat!(
        "020000000000000001000000000000000100000000000000",
        "4cca18b54221aba70001000001000000",
        "f9c5a6ada80684f99000000001000000",
        "d0070000000000004cca18b54221aba7",
        "01000000000000003000000000000000",
    );
    assert_eq!(hex, frozen);
}

#[test]
fn what_is_no_dump_is_refused_and_changes_nothing() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "a", Some("v"), None);
    fixture.write(1_000, "b", Some("value"), Some(2_000));
    let dump = fixture.store.dump_index();
    let mut store = fixture.restored();
    for end in 0..dump.bytes().len() {
        assert!(store.load_index(&dump.bytes()[..end]).is_err(), "cut at {end}");
    }
    let swapped = [&dump.bytes()[..24], &dump.bytes()[40..56], &dump.bytes()[24..40], &dump.bytes()[56..]].concat();
    assert!(store.load_index(&swapped).is_err(), "slots out of order");
    for count in [0, 8, 16] {
        let mut absurd = dump.bytes().to_vec();
        absurd[count..count + 8].fill(0xff);
        assert!(store.load_index(&absurd).is_err(), "more than there are bytes");
    }
    assert_eq!((store.reader().keys(), store.reader().live_bytes_total(), store.next_expiry_ms()), (0, 0, None));
    store.load_index(dump.bytes()).unwrap();
    assert_eq!((store.reader().keys(), store.next_expiry_ms()), (2, Some(2_000)));
}

#[test]
fn a_key_expires_after_its_record_has_moved() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "k", Some("v"), Some(2_000));
    fixture.seal();
    fixture.compact(&[1]);
    assert_eq!(fixture.value("k").as_deref(), Some(&b"v"[..]));
    fixture.write(1_999, "other", Some("v"), None);
    assert_eq!(fixture.store.reader().keys(), 2);
    fixture.write(2_000, "other", Some("v"), None);
    assert_eq!((fixture.value("k"), fixture.store.reader().keys()), (None, 1));
}

#[test]
fn a_longer_life_is_not_cut_short_by_the_one_before() {
    let mut fixture = Fixture::new(2);
    fixture.write(1_000, "k", Some("v"), Some(2_000));
    fixture.write(1_001, "k", Some("w"), Some(3_000));
    fixture.write(1_002, "l", Some("v"), None);
    fixture.write(2_500, "other", Some("v"), None);
    assert_eq!(fixture.value("k").as_deref(), Some(&b"w"[..]));
    fixture.write(3_000, "other", Some("v"), None);
    assert_eq!((fixture.value("k"), fixture.store.reader().keys()), (None, 2));
}

/// What is kept of when keys expire follows the keys that are there, and not what was written.
#[test]
fn memory_of_expiry_follows_the_keys() {
    let mut fixture = Fixture::new(64);
    let empty = fixture.store.reader().index_bytes();
    for number in 0..10_000 {
        fixture.write(1_000 + number, "k", Some("v"), Some(86_400_000 + number));
    }
    assert_eq!((fixture.store.expiry.len(), fixture.store.next_expiry_ms()), (1, Some(86_409_999)));
    assert!(fixture.store.dump_index().bytes().len() < 200, "neither does the hint hold more");
    let index = fixture.store.reader().index.bytes();
    assert!(fixture.store.reader().index_bytes() > index && index >= empty, "the bound on the index sees it");
    fixture.write(20_000, "k", Some("v"), None);
    assert_eq!((fixture.store.expiry.len(), fixture.store.next_expiry_ms()), (0, None), "a write without an end");
    fixture.write(20_000, "k", Some("v"), Some(86_400_000));
    fixture.write(20_000, "k", None, None);
    assert_eq!((fixture.store.expiry.len(), fixture.store.reader().keys()), (0, 0), "a removal");
}

/// Many large values that expire together are taken out a few at a time, and none of them is read.
#[test]
fn expiry_reads_no_values_and_is_bounded() {
    const KEYS: usize = 3 * EXPIRED_PER_ENTRY;
    let mut fixture = Fixture::new(64);
    let value = "v".repeat(2_000);
    for number in 0..KEYS {
        fixture.write(1_000, &format!("key {number}"), Some(&value), Some(2_000));
    }
    let mut entries = 0;
    while fixture.store.reader().keys() > 0 {
        let before = (fixture.store.reader().keys(), bytes_read());
        let tick = OperationsBuilder::new(3_000, fixture.store.version());
        fixture.commit(tick);
        let taken = (before.0 - fixture.store.reader().keys()) as usize;
        assert!(taken <= EXPIRED_PER_ENTRY, "{taken} keys in one entry");
        assert!(bytes_read() - before.1 <= taken * 64, "{} bytes for {taken} keys", bytes_read() - before.1);
        entries += 1;
    }
    assert_eq!((entries, fixture.store.expiry.len(), fixture.store.next_expiry_ms()), (3, 0, None));

    // However many are written, they don't pile up.
    for round in 0..4 {
        let mut builder = OperationsBuilder::new(4_000 + 10 * round, fixture.store.version());
        (0..2_000).for_each(|key| {
            builder.push_record(format!("{round} {key}").as_bytes(), Some(b"v"), Some(4_005 + 10 * round));
        });
        fixture.commit(builder);
        assert!(fixture.store.reader().keys() <= 2_000, "{} keys in round {round}", fixture.store.reader().keys());
    }
}

/// The secret of the first entry that has one counts, and comes back with the base.
#[test]
fn the_secret_of_the_order_is_settled_once_and_stays() {
    let mut fixture = Fixture::new(64);
    assert!(fixture.store.lacks_secret());
    fixture.write(1_000, "k", Some("v"), None);
    let (secret, order) = (fixture.store.reader().secret(), fixture.store.reader().order(b"k"));
    assert_eq!((secret, fixture.store.lacks_secret()), (Some(IndexSecret([7; 16])), false));
    let mut another = OperationsBuilder::with_secret(1_000, fixture.store.version(), IndexSecret([8; 16]));
    another.push_record(b"l", Some(b"v"), None);
    fixture.commit(another);
    for store in [&fixture.store, &fixture.loaded(), &fixture.rebuilt(1)] {
        assert_eq!((store.reader().secret(), store.reader().order(b"k"), store.lacks_secret()), (secret, order, false));
        assert!(store.reader().get(b"k").unwrap().is_some() && store.reader().get(b"l").unwrap().is_some());
    }
    // A shard whose records came first keeps what it has.
    let mut fixture = Fixture::new(64);
    let mut first = OperationsBuilder::new(1_000, Version(0));
    first.push_record(b"k", Some(b"v"), None);
    fixture.commit(first);
    assert!(!fixture.store.lacks_secret());
    fixture.commit(OperationsBuilder::with_secret(1_000, fixture.store.version(), IndexSecret([8; 16])));
    assert_eq!((fixture.store.reader().secret(), fixture.value("k").is_some()), (None, true));
}

/// Whatever keys share their place, a page keeps its bounds, and the pages together have every key once.
#[test]
fn a_page_of_a_scan_ends_within_keys_that_share_a_place() {
    const KEYS: usize = 30;
    for order_bits in [0, 1, 64] {
        let mut fixture = Fixture::new(order_bits);
        let value = "v".repeat(SCAN_PAGE_BYTES / 5);
        for number in 0..KEYS {
            // Large segments are made for large entries.
            fixture.write(1_000, &format!("key {number}"), Some(&value), None);
        }
        for (limit, values, at_most) in [(1, true, 1), (7, true, 4), (7, false, 7), (100, true, 4), (100, false, KEYS)]
        {
            let (mut cursor, mut met) = (ScanCursor::default(), Vec::new());
            loop {
                let page = fixture.store.reader().scan(cursor, b"key", limit, values).unwrap();
                assert!(page.entries.len() <= at_most, "{} of {limit}, {order_bits} bits", page.entries.len());
                assert!(
                    page.entries.iter().all(|(_, entry)| entry.value.len() == if values { value.len() } else { 0 })
                );
                met.extend(page.entries.into_iter().map(|(key, _)| key));
                let Some(next) = page.next else { break };
                assert!(next > cursor, "each page gets on");
                cursor = next;
            }
            met.sort_unstable();
            met.dedup();
            assert_eq!(met.len(), KEYS, "{limit} with values: {values}, {order_bits} bits");
        }
    }
}

/// A page looks at so many bytes, whether its keys match or not, and reads values only if they were asked for.
#[test]
fn a_page_of_a_scan_looks_at_a_bounded_number_of_bytes() {
    let mut fixture = Fixture::new(64);
    let value = "v".repeat(1_000);
    for number in 0..6_000 {
        fixture.write(1_000, &format!("key {number}"), Some(&value), None);
    }
    let (mut cursor, mut pages, mut met) = (Some(ScanCursor::default()), 0, 0);
    while let Some(from) = cursor {
        let before = bytes_read();
        let page = fixture.store.reader().scan(from, b"nobody has this", 4_096, true).unwrap();
        assert!(bytes_read() - before <= 300 * 1_000, "a page read {} bytes", bytes_read() - before);
        (cursor, pages, met) = (page.next, pages + 1, met + page.entries.len());
    }
    assert!(met == 0 && pages >= 2, "{met} entries on {pages} pages");
}

#[test]
fn entries_up_to_the_base_add_their_records_only() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "k", Some("old"), None);
    fixture.write(1_001, "gone", Some("v"), None);
    let mut store = fixture.store.dump_index();
    assert_eq!(store.len(), 2);
    fixture.write(1_002, "k", Some("new"), None);
    fixture.write(1_003, "gone", None, None);
    let mut rebuilt = fixture.restored();
    for index in [4, 2, 3, 1] {
        let (at, _) = fixture.log.payload_position(LogIndex(index)).unwrap();
        rebuilt.apply_records_only(fixture.log.entry(LogIndex(index)).unwrap().payload, at).unwrap();
    }
    rebuilt.apply_records_only(Bytes::new(), Position { segment: 1, offset: 0 }).unwrap();
    rebuilt.finish_scan();
    assert_same(&fixture.store, &rebuilt, &fixture.records);
    store = rebuilt.dump_index();
    assert_eq!((store.len(), store.position(1), store.is_empty()), (1, None, false));
    assert_eq!(store.position(0), Some(fixture.position("k")));
}

#[test]
fn a_record_that_the_base_does_not_cover_is_not_scanned() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "k", Some("v"), None);
    let at = fixture.position("k");
    let superseded = Written { version: Version(2), ..fixture.records[&at].clone() };
    let mut rebuilt = fixture.restored();
    rebuilt.insert_scanned(&superseded.record(), at).unwrap();
    rebuilt.finish_scan();
    assert_eq!(rebuilt.reader().keys(), 0);
}

#[test]
fn compaction_keeps_what_counts_and_nothing_else() {
    let mut fixture = Fixture::new(2);
    fixture.write(1_000, "live", Some("v"), Some(9_000));
    fixture.write(1_000, "overwritten", Some("v"), Some(9_000));
    fixture.write(1_000, "overwritten", Some("w"), None);
    fixture.write(1_000, "removed", Some("v"), None);
    fixture.write(1_000, "removed", None, None);
    fixture.write(1_000, "expired", Some("v"), Some(1_500));
    fixture.write(2_000, "back", None, None);
    fixture.write(2_000, "back", Some("v"), None);
    let fates = |elsewhere: Option<u64>| {
        let reader = fixture.store.reader();
        let fate =
            |(at, written): (&Position, &Written)| match reader.fate(&written.record(), *at, elsewhere.map(Version)) {
                Fate::Keep { order } => {
                    assert_eq!(order, reader.order(&written.key));
                    "keep"
                }
                Fate::KeepTombstone => "tombstone",
                Fate::Drop => "drop",
            };
        fixture.records.iter().map(fate).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fates(None), "keep drop keep drop drop drop drop keep");
    assert_eq!(fates(Some(5)), "keep drop keep drop drop tombstone drop keep");
    assert_eq!(fates(Some(1)), "keep drop keep drop tombstone tombstone drop keep");
    let (at, tombstone) = fixture.records.iter().find(|(_, written)| written.value.is_none()).unwrap();
    let superseded = Written { version: Version(99), ..tombstone.clone() };
    assert_eq!(
        fixture.store.reader().fate(&superseded.record(), *at, Some(Version(1))),
        Fate::Drop,
        "it never counted"
    );
}

#[test]
fn a_slot_moves_with_its_bytes_and_only_if_it_is_still_there() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "k", Some("v"), None);
    fixture.seal();
    let old = fixture.position("k");
    let written = fixture.records[&old].clone();
    let new = fixture.copy(&written, false);
    let order = fixture.store.reader().order(b"k");
    let nowhere = Position { segment: 77, offset: 64 };
    assert_eq!(fixture.store.relocate(order, old, nowhere), Err(ReadError::Missing(77, 64)));
    assert_eq!(fixture.store.relocate(order, old, new), Ok(true));
    assert_eq!(fixture.store.relocate(order, old, new), Ok(false));
    assert_eq!(fixture.position("k"), new);
    let reader = fixture.store.reader();
    assert_eq!(
        (reader.live_bytes(old.segment), reader.live_bytes(new.segment), reader.live_bytes_total()),
        (0, 18, 18)
    );
}

#[test]
fn a_record_that_is_nowhere_is_missing() {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "k", Some("v"), None);
    fixture.seal();
    fixture.log.view().remove(1);
    assert!(matches!(fixture.store.reader().get(b"k"), Err(ReadError::Missing(1, _))));
    assert!(matches!(fixture.store.reader().scan(ScanCursor::default(), &[], 10, true), Err(ReadError::Missing(1, _))));
}

/// A store over a log in which the record of the key "k" has rotted.
fn rotten() -> Fixture {
    let mut fixture = Fixture::new(64);
    fixture.write(1_000, "sound", Some("v"), None);
    fixture.write(1_000, "k", Some("old"), None);
    fixture.seal();
    let at = fixture.position("k");
    fixture.rot(at);
    fixture
}

#[test]
fn damage_is_never_read_and_is_noted() {
    let fixture = rotten();
    let reader = fixture.store.reader();
    assert!(reader.get(b"sound").unwrap().is_some());
    assert_eq!(reader.damage(), None);
    let failure = reader.get(b"k").unwrap_err();
    assert!(matches!(failure, ReadError::Damaged { .. }), "{failure}");
    assert_eq!(reader.damage(), Some(failure));
    assert!(reader.scan(ScanCursor::default(), &[], 10, true).is_err());
}

#[test]
fn a_write_over_a_damaged_record_is_not_applied() {
    for value in [Some("new"), None] {
        let mut fixture = rotten();
        let mut builder = OperationsBuilder::new(2_000, fixture.store.version());
        builder.push_record(b"k", value.map(str::as_bytes), None);
        let payload = Bytes::from(builder.finish());
        let at = fixture.append(&payload);
        let index = LogIndex(fixture.store.applied().0 + 1);
        let entry = Committed { index, term: Term(1), kind: RaftEntryKind::Operations, payload };
        let failure = fixture.store.apply(&entry, at).unwrap_err();
        assert!(matches!(failure, ApplyError::Record(ReadError::Damaged { .. })), "{failure}");
        assert!(fixture.store.reader().get(b"k").is_err(), "neither the old value nor none");
        assert!(fixture.store.reader().damage().is_some());
    }
}

/// Readers on another thread find every key at all times, while its record moves from segment to segment and the segments
/// go as soon as nothing points at them.
#[test]
fn readers_find_what_compaction_moves() {
    const KEYS: usize = 8;
    const ROUNDS: u64 = 400;
    let mut fixture = Fixture::new(64);
    for number in 0..KEYS {
        fixture.write(1_000, &format!("key {number}"), Some("value"), None);
    }
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = Arc::clone(fixture.store.reader());
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                for number in 0..KEYS {
                    let found = reader.get(format!("key {number}").as_bytes());
                    assert_eq!(found.unwrap().unwrap().entry.value, "value");
                }
                let page = reader.scan(ScanCursor::default(), b"key", 100, true).unwrap();
                assert_eq!(page.entries.len(), KEYS);
                reads.fetch_add(1, Ordering::Release);
            }
        });
        let mut rounds = 0;
        while !checks.is_finished() && (rounds < ROUNDS || reads.load(Ordering::Acquire) < ROUNDS) {
            rounds += 1;
            fixture.seal();
            let victims = fixture.sealed_segments();
            fixture.compact(&victims);
        }
        stop.store(true, Ordering::Release);
        checks.join().unwrap();
    });
    assert!(reads.load(Ordering::Acquire) >= ROUNDS);
}

#[cfg(feature = "seeded-bugs")]
mod seeded {
    use super::*;
    use crate::seeded::plant;

    #[test]
    fn a_removed_key_is_back_when_its_tombstone_was_dropped_early() {
        for bug in [None, Some(Bug::TombstoneDroppedEarly)] {
            let _planted = plant(bug);
            let mut fixture = Fixture::new(64);
            fixture.write(1_000, "k", Some("v"), None);
            fixture.seal();
            let newer = fixture.log.end().segment;
            fixture.write(1_000, "k", None, None);
            fixture.seal();
            fixture.compact(&[newer]);
            let rebuilt = fixture.rebuilt(1);
            assert_eq!(rebuilt.reader().keys(), u64::from(bug.is_some()));
        }
    }

    #[test]
    fn a_checkpoint_without_sessions_forgets_what_was_applied() {
        let mut fixture = Fixture::new(64);
        fixture.write(1_000, "k", Some("v"), None);
        let before = fixture.store.digest().unwrap();
        assert_eq!(captured(&mut fixture).digest().unwrap(), before);
        let _planted = plant(Some(Bug::SessionsMissingFromCheckpoint));
        assert_ne!(captured(&mut fixture).digest().unwrap(), before);
        assert!(captured(&mut fixture).sessions().is_empty());
    }

    /// What comes back from a checkpoint as a node writes it: the state as it is captured.
    fn captured(fixture: &mut Fixture) -> Store {
        let id = fixture.store.begin_capture();
        let captured =
            std::iter::repeat_with(|| fixture.store.go_on_capture(id, CaptureSlice::WHOLE)).find_map(|whole| whole);
        let captured = captured.expect("it ends");
        let mut store =
            Store::restore_with_order_bits(fixture.log.view(), &captured.state, fixture.order_bits).unwrap();
        store.load_index(captured.index.bytes()).unwrap();
        store
    }
}
