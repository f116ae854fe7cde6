//! A capture is the state at its begin, however slow it is and whatever is applied meanwhile.

use super::*;
use crate::log::once::{OnceAnswer, OnceRecord};
use crate::store::{CaptureId, CaptureSlice, Captured};
use kvorum_protocol::{Ack, Durability, Entry, OnceId, WriteResult, WriteStatus};

/// A key, how long its value is (`None`: it is removed), and for how long it is to live.
type Written = (u16, Option<usize>, Option<u64>);

/// What the captured state must be: as the store would have written it at once.
struct Expected {
    state: Vec<u8>,
    index: Bytes,
    digest: u64,
    /// How many entries of [`Recorder::entries`] it covers.
    entries: usize,
}

/// A store that is captured while it is written.
struct Recorder {
    fixture: Fixture,
    limits: SessionLimits,
    entries: Vec<(Committed, Position)>,
    captures: Vec<(CaptureId, Expected)>,
    time_ms: u64,
    sequence: u64,
}

impl Recorder {
    fn new(order_bits: u32, limits: SessionLimits) -> Self {
        let mut fixture = Fixture::new(order_bits);
        fixture.store.limit_sessions(limits);
        Self { fixture, limits, entries: Vec::new(), captures: Vec::new(), time_ms: 1_000, sequence: 0 }
    }

    fn apply(&mut self, builder: OperationsBuilder) {
        let payload = Bytes::from(builder.finish());
        let at = self.fixture.append(&payload);
        let index = LogIndex(self.fixture.store.applied().0 + 1);
        let entry = Committed { index, term: Term(1), kind: RaftEntryKind::Operations, payload };
        self.fixture.store.apply(&entry, at).unwrap();
        self.entries.push((entry, at));
    }

    /// One entry that writes some keys, for few clients, whose answers hold so many bytes each.
    fn write(&mut self, keys: &[Written], client: u8, answer_bytes: usize) {
        self.time_ms += 7;
        let mut builder = self.fixture.entry(self.time_ms);
        for (at, (key, size, ttl_ms)) in keys.iter().enumerate() {
            let value = size.map(|size| vec![b'v'; size]);
            let expires_at_ms = ttl_ms.filter(|_| value.is_some()).map(|ttl_ms| self.time_ms + ttl_ms);
            let version = builder.push_record(format!("key {key}").as_bytes(), value.as_deref(), expires_at_ms);
            self.sequence += 1;
            let sequence = self.sequence;
            let client = ClientId(Uuid::from_u128(u128::from(client) + at as u128 % 3));
            let previous = Entry { value: vec![1; answer_bytes].into(), version: Version(1), expires_at_ms: None };
            let result = WriteResult {
                status: WriteStatus::Applied,
                version,
                ack: Ack::Committed,
                durability: Durability::Fsync,
                number: None,
                decimal: None,
                previous: (answer_bytes > 0).then_some(previous),
                receipt: None,
                existed: None,
                replayed: false,
            };
            let reply = Remembered::of_write(&result);
            let first_unanswered = sequence.saturating_sub(u64::from(*key) * 3);
            // Under a one-shot name the entry before is never returned.
            let once = (answer_bytes == 0 && at % 2 == 0).then(|| OnceRecord {
                id: OnceId(Uuid::from_u128(sequence.into())),
                digest: sequence,
                answer: OnceAnswer::Write(Box::new(result)),
            });
            builder.push_session(&SessionRecord { client, sequence, first_unanswered, reply, once });
        }
        self.apply(builder);
    }

    fn begin(&mut self) {
        let mut state = Vec::new();
        self.fixture.store.encode_base(&mut state);
        let index = self.fixture.store.dump_index().bytes().clone();
        let digest = self.fixture.store.digest().unwrap();
        let expected = Expected { state, index, digest, entries: self.entries.len() };
        self.captures.push((self.fixture.store.begin_capture(), expected));
    }

    /// Does a slice of one of the captures, and looks at it if it is whole.
    fn go_on(&mut self, which: usize, slice: CaptureSlice) {
        let at = which % self.captures.len();
        let Some(captured) = self.fixture.store.go_on_capture(self.captures[at].0, slice) else { return };
        let (_, expected) = self.captures.remove(at);
        assert_eq!(captured.state, expected.state);
        assert_eq!(*captured.index.bytes(), expected.index);
        self.assert_comes_back(&captured, &expected);
    }

    /// A replica that ends now and is opened from this checkpoint is where this one is.
    fn assert_comes_back(&self, captured: &Captured, expected: &Expected) {
        let (view, order_bits) = (self.fixture.log.view(), self.fixture.order_bits);
        let mut store = Store::restore_with_order_bits(view, &captured.state, order_bits).unwrap();
        store.limit_sessions(self.limits);
        store.load_index(captured.index.bytes()).unwrap();
        assert_eq!((store.reader().log_time_ms(), store.applied().0), (store.log_time_ms(), expected.entries as u64));
        assert_eq!(store.digest().unwrap(), expected.digest);
        for (entry, at) in &self.entries[expected.entries..] {
            store.apply(entry, *at).unwrap();
        }
        assert_same(&self.fixture.store, &store, &self.fixture.records);
    }
}

fn written() -> impl Strategy<Value = Written> {
    let ttl_ms = proptest::option::weighted(0.3, 1..400_u64);
    (0..40_u16, proptest::option::weighted(0.7, 1..90_usize), ttl_ms)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Captures that overlap, in slices of any size, with entries of all kinds between them. Whenever one is whole, a replica
    /// that ends there comes back from it.
    #[test]
    fn a_capture_is_the_state_at_its_begin(
        order_bits in prop_oneof![Just(3_u32), Just(64)],
        sessions in 2..6_usize,
        before in proptest::collection::vec(written(), 0..60),
        steps in proptest::collection::vec(
            (0..10_u8, proptest::collection::vec(written(), 1..6), 0..7_u8, 1..40_usize),
            1..80,
        ),
    ) {
        let limits = SessionLimits { sessions, ..SessionLimits::default() };
        let mut recorder = Recorder::new(order_bits, limits);
        for (number, key) in before.iter().enumerate() {
            recorder.write(&[*key], number as u8 % 5, 0);
        }
        for (kind, keys, client, size) in &steps {
            match kind {
                0 if recorder.captures.len() < 3 => recorder.begin(),
                1..5 => recorder.write(keys, *client, size * 10 * usize::from(*kind == 1)),
                _ if !recorder.captures.is_empty() => {
                    recorder.go_on(*client as usize, CaptureSlice { pairs: *size, session_bytes: size * 7 });
                }
                _ => {}
            }
        }
        while !recorder.captures.is_empty() {
            recorder.go_on(0, CaptureSlice { pairs: 1, session_bytes: 1 });
        }
        prop_assert!(recorder.fixture.store.captures.is_idle());
    }
}

/// Compaction moves records while a snapshot is captured.
#[test]
fn records_that_move_meanwhile_are_where_they_were() {
    let mut recorder = Recorder::new(64, SessionLimits::default());
    for key in 0..60 {
        recorder.write(&[(key, Some(300), None)], 1, 0);
    }
    recorder.fixture.seal();
    recorder.begin();
    let slice = CaptureSlice { pairs: 7, session_bytes: 70 };
    let id = recorder.captures[0].0;
    for _ in 0..4 {
        assert!(recorder.fixture.store.go_on_capture(id, slice).is_none());
    }
    let victims = recorder.fixture.sealed_segments();
    recorder.fixture.compact(&victims);
    let captured = std::iter::repeat_with(|| recorder.fixture.store.go_on_capture(id, slice)).find_map(|whole| whole);
    assert_eq!(*captured.unwrap().index.bytes(), recorder.captures[0].1.index);
}

#[test]
fn a_slice_is_bounded_whatever_has_changed() {
    const KEYS: u16 = 3_000;
    const PAIRS: usize = 100;
    const SESSION_BYTES: usize = 1_000;
    let slice = CaptureSlice { pairs: PAIRS, session_bytes: SESSION_BYTES };
    let mut recorder = Recorder::new(64, SessionLimits::default());
    let keys: Vec<_> = (0..KEYS).map(|key| (key, Some(10), Some(1_000_000))).collect();
    recorder.write(&keys, 0, 0);
    recorder.begin();
    let id = recorder.captures[0].0;
    let (mut slices, mut captured) = (0, None);
    while captured.is_none() {
        let (result, cost) = crate::cost::of(|| recorder.fixture.store.go_on_capture(id, slice));
        assert!(cost.pairs <= 3 * PAIRS as u64 + 8, "slice {slices} looked at {} pairs", cost.pairs);
        assert!(cost.copied <= (2 * SESSION_BYTES + 32 * PAIRS) as u64, "slice {slices} copied {} bytes", cost.copied);
        captured = result;
        slices += 1;
        if slices == 80 {
            // Nearly all keys go while the walk is on its way: what was there lies between few that still are.
            let keys: Vec<_> = (10..KEYS).map(|key| (key, None, None)).collect();
            recorder.write(&keys, 0, 0);
        }
    }
    // What is remembered of some thousand writes, the slots, and when their records expire.
    assert!(slices >= usize::from(KEYS) * (17 + 2) / (SESSION_BYTES.max(PAIRS)), "{slices} slices");
    let (expected, captured) = (&recorder.captures[0].1, captured.unwrap());
    assert_eq!((captured.state.to_vec(), captured.index.bytes()), (expected.state.clone(), &expected.index));
}
