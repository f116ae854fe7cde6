//! Which keys of a shard are asked for most.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005): a fixed
//! number of counters, and a key without one takes over the smallest, whose count is from then on what it may be over by. Counts halve
//! every few seconds, so that they tell of now.
//!
//! A busy shard is sampled: of its operations one in 2^n is looked at, and stands for all of them. So the cost is bounded by time,
//! whatever the rate is, and a shard with little to do is counted exactly.

use super::Count;
use crate::clock::Nanos;
use bytes::Bytes;
use kvorum_protocol::hash::{SLOTS, hash64, slot};
use kvorum_protocol::limits::HOT_KEY_BYTES_MAX;
use kvorum_protocol::{HotKey, ShardId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Keys that are counted at a time, per shard and kind of operation.
const COUNTERS: usize = 48;
/// Counts are halved this often.
const HALVE_EVERY_MS: u64 = 5_000;
/// Past so many halvings nothing is left.
const HALVINGS_MAX: u64 = 40;
/// The part that is looked at is chosen anew this often.
const ADAPT_EVERY_MS: u64 = 250;
/// With more samples than this in that time, half of them will do.
const SAMPLES_MAX: u32 = 500;
/// Fewer than so many are too few.
const SAMPLES_MIN: u32 = 100;
/// At most one in 2^this is looked at.
const SHIFT_MAX: u32 = 12;
/// A key is not told of if it certainly has less than this part of the operations, in thousandths,
const SHARE_PERMILLE_MIN: u64 = 10;
/// or was seen fewer times than this.
const SAMPLES_TOLD_MIN: u64 = 3;

/// Equal parts of the ring by which operations are counted.
pub const RING_PARTS: usize = 256;

const _: () = assert!((SLOTS as usize).is_multiple_of(RING_PARTS), "a slot lies in one part");

/// How many operations fell on each part of the ring, of all shards of a node together: as far as samples tell, and exact for shards with
/// little to do. Any thread may note. 2 KiB.
#[derive(Debug)]
pub struct RingHeat([Count; RING_PARTS]);

impl Default for RingHeat {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl RingHeat {
    /// A key was read or written, which stands for so many operations. Only what is looked at anyhow is noted, so the cost is bounded as
    /// that of [`Heat`] is: its slot is computed, some tens of nanoseconds.
    fn note(&self, key: &[u8], stands_for: u64) {
        self.0[usize::from(slot(key)) * RING_PARTS / usize::from(SLOTS)].add_shared(stands_for);
    }

    /// Operations so far, by part. Part 0 begins at position 0.
    pub fn counts(&self) -> [u64; RING_PARTS] {
        std::array::from_fn(|part| self.0[part].get())
    }
}

/// The keys of a shard that are asked for most. Any thread may note.
#[derive(Debug, Default)]
pub struct Heat {
    reads: Sampled,
    writes: Sampled,
    ring: Arc<RingHeat>,
}

impl Heat {
    /// Of a shard whose operations are also counted by where they fall on the ring.
    pub fn on(ring: Arc<RingHeat>) -> Self {
        Self { ring, ..Self::default() }
    }

    /// A key is read at `now`. `draw` is a number that tells this read from others. If it is one of those that are looked at:
    /// the number of reads that it stands for.
    pub fn note_read(&self, key: &[u8], now: Nanos, draw: u64) -> Option<u64> {
        let stands_for = self.reads.note(key, now, draw)?;
        self.ring.note(key, stands_for);
        Some(stands_for)
    }

    /// A key was written at `now`, likewise.
    pub fn note_write(&self, key: &[u8], now: Nanos, draw: u64) {
        if let Some(stands_for) = self.writes.note(key, now, draw) {
            self.ring.note(key, stands_for);
        }
    }

    /// The keys that are read most, or written most, the hottest first.
    pub fn hot(&self, shard: ShardId, writes: bool, now: Nanos) -> Vec<HotKey> {
        let sampled = if writes { &self.writes } else { &self.reads };
        sampled.hot(shard, writes, now)
    }

    /// How often a key is read and written per second, as far as samples tell.
    pub fn of(&self, key: &[u8], now: Nanos) -> (u64, u64) {
        (self.reads.per_second(key, now), self.writes.per_second(key, now))
    }
}

/// A sketch of which most operations need only look at one number.
#[derive(Debug, Default)]
struct Sampled {
    /// One operation in 2^this is noted.
    shift: AtomicU32,
    sketch: Mutex<Sketch>,
}

impl Sampled {
    fn note(&self, key: &[u8], now: Nanos, draw: u64) -> Option<u64> {
        let shift = self.shift.load(Ordering::Relaxed);
        if !is_drawn(now, draw, shift) {
            return None;
        }
        let mut sketch = self.sketch.lock();
        sketch.pass(now);
        sketch.note(key, 1 << shift);
        if let Some(next) = sketch.adapt(now, shift) {
            self.shift.store(next, Ordering::Relaxed);
        }
        Some(1 << shift)
    }

    fn hot(&self, shard: ShardId, writes: bool, now: Nanos) -> Vec<HotKey> {
        let mut sketch = self.sketch.lock();
        sketch.pass(now);
        let counters = sketch.hottest(1 << self.shift.load(Ordering::Relaxed));
        let tell = |counter: &Counter| HotKey {
            shard,
            writes,
            key: counter.key.clone(),
            key_bytes: counter.key_bytes,
            per_second: sketch.per_second(counter.certain(), now),
            share_permille: (counter.certain() * 1_000 / sketch.total.max(1)).min(1_000) as u16,
        };
        counters.into_iter().map(tell).collect()
    }

    fn per_second(&self, key: &[u8], now: Nanos) -> u64 {
        let mut sketch = self.sketch.lock();
        sketch.pass(now);
        let count = sketch.find(hash64(key), key).map_or(0, |at| sketch.counters[at].certain());
        sketch.per_second(count, now)
    }
}

/// Whether an operation is one of those that are looked at: by chance, so that no rhythm of a client's hides a key. The time and the
/// number are stirred as in SplitMix64 (Steele, Lea, Flood, 2014).
fn is_drawn(now: Nanos, draw: u64, shift: u32) -> bool {
    if shift == 0 {
        return true;
    }
    let mut mixed = now.0.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed >> (u64::BITS - shift) == 0
}

/// One key's counter.
#[derive(Debug)]
struct Counter {
    hash: u64,
    key: Bytes,
    key_bytes: u32,
    count: u64,
    /// What the count may be over by: it was another key's.
    over: u64,
}

impl Counter {
    fn certain(&self) -> u64 {
        self.count - self.over
    }

    fn is_of(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key_bytes as usize == key.len() && key.starts_with(&self.key)
    }
}

#[derive(Debug, Default)]
struct Sketch {
    counters: Vec<Counter>,
    /// All that was noted.
    total: u64,
    /// When counts were halved last, and how much time they stood for then.
    halved_at: Nanos,
    stood_for_ms: u64,
    adapted_at: Nanos,
    samples: u32,
}

impl Sketch {
    /// Halves the counts as often as time asks for.
    fn pass(&mut self, now: Nanos) {
        if self.halved_at == Nanos(0) {
            (self.halved_at, self.adapted_at) = (now, now);
        }
        let halvings = now.ms_since(self.halved_at) / HALVE_EVERY_MS;
        if halvings == 0 {
            return;
        }
        if halvings > HALVINGS_MAX {
            *self = Self { halved_at: now, adapted_at: now, ..Self::default() };
            return;
        }
        self.halved_at = self.halved_at.after_ms(halvings * HALVE_EVERY_MS);
        for _ in 0..halvings {
            self.stood_for_ms = (self.stood_for_ms + HALVE_EVERY_MS) / 2;
        }
        self.total >>= halvings;
        for counter in &mut self.counters {
            counter.count >>= halvings;
            counter.over >>= halvings;
        }
        self.counters.retain(|counter| counter.count > 0);
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.counters.iter().position(|counter| counter.is_of(hash, key))
    }

    fn note(&mut self, key: &[u8], weight: u64) {
        self.total += weight;
        self.samples += 1;
        let hash = hash64(key);
        if let Some(at) = self.find(hash, key) {
            self.counters[at].count += weight;
            return;
        }
        let over = if self.counters.len() < COUNTERS { 0 } else { self.take_smallest() };
        let kept = Bytes::copy_from_slice(&key[..key.len().min(HOT_KEY_BYTES_MAX)]);
        self.counters.push(Counter { hash, key: kept, key_bytes: key.len() as u32, count: over + weight, over });
    }

    fn take_smallest(&mut self) -> u64 {
        let smallest = (0..self.counters.len()).min_by_key(|at| self.counters[*at].count);
        smallest.map_or(0, |at| self.counters.swap_remove(at).count)
    }

    /// The part that is to be looked at from now on, if it is another one.
    fn adapt(&mut self, now: Nanos, shift: u32) -> Option<u32> {
        let enough = self.samples > SAMPLES_MAX;
        if !enough && now.ms_since(self.adapted_at) < ADAPT_EVERY_MS {
            return None;
        }
        let few = !enough && self.samples < SAMPLES_MIN;
        (self.samples, self.adapted_at) = (0, now);
        match (enough, few) {
            (true, _) if shift < SHIFT_MAX => Some(shift + 1),
            (_, true) if shift > 0 => Some(shift - 1),
            _ => None,
        }
    }

    fn per_second(&self, count: u64, now: Nanos) -> u64 {
        // What came in a moment is no rate.
        let ms = (self.stood_for_ms + now.ms_since(self.halved_at)).max(1_000);
        (count * 1_000).div_ceil(ms)
    }

    /// The counters of keys that stand out, the hottest first. Of so many operations one was noted.
    fn hottest(&self, weight: u64) -> Vec<&Counter> {
        let least = (self.total * SHARE_PERMILLE_MIN / 1_000).max(SAMPLES_TOLD_MIN * weight);
        let mut hot: Vec<&Counter> = self.counters.iter().filter(|counter| counter.certain() >= least).collect();
        hot.sort_by(|a, b| b.certain().cmp(&a.certain()).then_with(|| a.key.cmp(&b.key)));
        hot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Operations at an even pace over so many seconds: `pick` says which key the nth one is of.
    fn feed(heat: &Heat, per_second: u64, seconds: u64, pick: impl Fn(u64) -> String) -> Nanos {
        let mut now = Nanos(SECOND);
        for nth in 0..per_second * seconds {
            now = Nanos(SECOND + nth * SECOND / per_second);
            heat.note_read(pick(nth).as_bytes(), now, nth);
        }
        now
    }

    #[test]
    fn a_few_operations_are_counted_exactly() {
        let heat = Heat::default();
        let now = feed(&heat, 10, 2, |nth| if nth % 2 == 0 { "often".into() } else { format!("once{nth}") });
        let hot = heat.hot(ShardId(7), false, now);
        assert_eq!(hot.len(), 1, "{hot:?}");
        let HotKey { key, key_bytes, per_second, share_permille, .. } = &hot[0];
        assert_eq!((&key[..], *key_bytes, *share_permille), (&b"often"[..], 5, 500));
        assert!((5..=6).contains(per_second), "{per_second}");
        assert!(heat.hot(ShardId(7), true, now).is_empty());
        assert_eq!(heat.of(b"often", now), (*per_second, 0));
        assert_eq!(heat.of(b"never", now), (0, 0));
    }

    #[test]
    fn the_hottest_of_many_come_first_with_their_rates() {
        let heat = Heat::default();
        // A fifth and a tenth of 200,000 per second, in a rhythm; the rest is spread over a million keys.
        let pick = |nth: u64| match nth % 10 {
            0 | 1 => "first".to_owned(),
            5 => "second".to_owned(),
            _ => format!("key{}", nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44),
        };
        let now = feed(&heat, 200_000, 12, pick);
        let hot = heat.hot(ShardId(7), false, now);
        let near = |value: u64, expected: u64| value.abs_diff(expected) * 4 < expected;
        assert_eq!((&hot[0].key[..], &hot[1].key[..]), (&b"first"[..], &b"second"[..]), "{hot:?}");
        assert!(near(hot[0].per_second, 40_000) && near(hot[1].per_second, 20_000), "{hot:?}");
        assert!(near(hot[0].share_permille.into(), 200) && near(hot[1].share_permille.into(), 100), "{hot:?}");
        let samples = heat.reads.sketch.lock().samples;
        assert!(heat.reads.shift.load(Ordering::Relaxed) >= 4 && samples <= SAMPLES_MAX, "{samples}");
    }

    #[test]
    fn operations_are_counted_by_where_they_fall_on_the_ring() {
        let ring = Arc::<RingHeat>::default();
        let (one, other) = (Heat::on(Arc::clone(&ring)), Heat::on(Arc::clone(&ring)));
        let part = |key: &[u8]| (kvorum_protocol::hash::ring_position(key) >> 56) as usize;
        one.note_write(b"{tag}:a", Nanos(SECOND), 0);
        other.note_read(b"{tag}:b", Nanos(SECOND), 0);
        other.note_read(b"else", Nanos(SECOND), 1);
        let counts = ring.counts();
        assert_ne!(part(b"{tag}"), part(b"else"));
        assert_eq!((counts[part(b"{tag}")], counts[part(b"else")], counts.iter().sum::<u64>()), (2, 1, 3));
        // Samples stand for all: within a tenth.
        let now = feed(&one, 200_000, 4, |nth| format!("key{}", nth % 1_000));
        assert!(now > Nanos(SECOND));
        let all = ring.counts().iter().sum::<u64>();
        assert!(all.abs_diff(800_003) < 80_000, "{all}");
    }

    #[test]
    fn keys_that_are_equally_warm_are_not_hot() {
        let heat = Heat::default();
        let now = feed(&heat, 50_000, 5, |nth| format!("key{}", nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48));
        assert!(heat.hot(ShardId(7), false, now).is_empty(), "{:?}", heat.hot(ShardId(7), false, now));
    }

    #[test]
    fn heat_passes() {
        let heat = Heat::default();
        let now = feed(&heat, 1_000, 5, |_| "was".into());
        assert_eq!(heat.hot(ShardId(7), false, now).len(), 1);
        assert!(heat.hot(ShardId(7), false, now.after_ms(20_000))[0].per_second < 200);
        assert!(heat.hot(ShardId(7), false, now.after_ms(300_000)).is_empty());
    }

    #[test]
    fn long_keys_with_one_beginning_are_told_apart_and_told_in_short() {
        let heat = Heat::default();
        let long = |last: char| format!("{}{last}", "k".repeat(HOT_KEY_BYTES_MAX));
        let now = feed(&heat, 20, 1, |nth| long(if nth % 4 == 0 { 'a' } else { 'b' }));
        let hot = heat.hot(ShardId(7), false, now);
        assert_eq!(hot.iter().map(|hot| hot.share_permille).collect::<Vec<_>>(), [750, 250]);
        assert!(hot.iter().all(|hot| hot.key.len() == HOT_KEY_BYTES_MAX && hot.key_bytes == 129));
    }
}
