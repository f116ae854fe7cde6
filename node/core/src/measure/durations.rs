//! Histograms of durations.

use super::Count;

/// Buckets: powers of two of nanoseconds from 8 µs to 17 s, and one for what takes longer.
pub const BUCKETS: usize = (LAST_BITS - FIRST_BITS + 2) as usize;

const FIRST_BITS: u32 = 13;
const LAST_BITS: u32 = 34;

/// The longest duration that a bucket holds, in nanoseconds; `None` for the last one, which has no end.
pub fn bucket_end_ns(bucket: usize) -> Option<u64> {
    (bucket + 1 < BUCKETS).then(|| 1 << (FIRST_BITS + bucket as u32))
}

fn bucket_of(ns: u64) -> usize {
    // Bits of one less: a power of two is the end of its bucket.
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    (bits.clamp(FIRST_BITS, LAST_BITS + 1) - FIRST_BITS) as usize
}

/// How long things took. One writer at a time, see [`Count`]. 192 bytes.
#[derive(Debug)]
pub struct Durations {
    buckets: [Count; BUCKETS],
    sum_ns: Count,
}

impl Default for Durations {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Count::default()), sum_ns: Count::default() }
    }
}

impl Durations {
    /// Something took so many nanoseconds. As the only writer.
    pub fn note(&self, ns: u64) {
        self.buckets[bucket_of(ns)].add(1);
        self.sum_ns.add(ns);
    }

    /// So many things took so many nanoseconds each. As the only writer.
    pub fn note_many(&self, ns: u64, things: u64) {
        self.buckets[bucket_of(ns)].add(things);
        self.sum_ns.add(ns.saturating_mul(things));
    }

    /// Something took so many nanoseconds. As one of several writers, all of which must use this.
    pub fn note_shared(&self, ns: u64) {
        self.buckets[bucket_of(ns)].add_shared(1);
        self.sum_ns.add_shared(ns);
    }

    /// How often something was noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum()
    }

    /// All of them together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }

    /// Adds what was noted here.
    pub fn add_to(&self, sum: &mut DurationsSum) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        sum.sum_ns += self.sum_ns.get();
    }
}

/// What several [`Durations`] have noted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurationsSum {
    /// How often, per bucket.
    pub buckets: [u64; BUCKETS],
    /// All durations together, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for DurationsSum {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl DurationsSum {
    /// The sum over these.
    pub fn of<'d>(all: impl IntoIterator<Item = &'d Durations>) -> Self {
        let mut sum = Self::default();
        all.into_iter().for_each(|durations| durations.add_to(&mut sum));
        sum
    }

    /// How often something was noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_does_not_end_before_it() {
        for (at, expected) in
            [(0, 0), (1, 0), (8_192, 0), (8_193, 1), (16_384, 1), (16_385, 2), (u64::MAX, BUCKETS - 1)]
        {
            assert_eq!(bucket_of(at), expected, "{at} ns");
        }
        for bucket in 0..BUCKETS - 1 {
            let end = bucket_end_ns(bucket).expect("only the last has no end");
            assert_eq!((bucket_of(end), bucket_of(end + 1)), (bucket, bucket + 1));
        }
        assert_eq!(bucket_end_ns(BUCKETS - 1), None);
        assert_eq!(bucket_end_ns(BUCKETS - 2), Some(1 << 34));
    }

    #[test]
    fn writers_add_up() {
        let (one, other) = (Durations::default(), Durations::default());
        one.note(8_192);
        one.note_shared(10_000);
        other.note(20_000_000_000);
        let sum = DurationsSum::of([&one, &other]);
        assert_eq!((sum.count(), one.count()), (3, 2));
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[BUCKETS - 1]), (1, 1, 1));
        assert_eq!(sum.sum_ns, 8_192 + 10_000 + 20_000_000_000);
    }
}
