//! What a step costs, in a model: the bytes it hashes and copies, and the records and pairs that it looks at. Counted in tests and
//! with the feature `cost` only. A clock would say what the machine was doing besides; counts are the same everywhere, so a test
//! can hold every step to a bound.
//!
//! What is counted is whatever grows with the size of a request or of a shard. The rest of a step, some microseconds, is not.

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cost {
    /// Bytes that a checksum was taken of.
    pub hashed: u64,
    /// Bytes that were copied.
    pub copied: u64,
    /// Records that were looked up.
    pub records: u64,
    /// Parts of requests that a session sent off or took the answer to, or a shard decided.
    pub parts: u64,
    /// Pairs of numbers in order that were looked at: slots of the index, expiries, changes of either.
    pub pairs: u64,
}

impl Cost {
    /// About what it takes, in nanoseconds, where nothing is in the processor's caches and all is in memory. The prices are those of
    /// docs/BENCHMARKING.md, section *A worker is never held for long*.
    pub fn ns(&self) -> u64 {
        // Rounded up: the checksum runs at more than 4 GB/s, and copies at 3 to 10.
        const HASHED_PER_NS: u64 = 4;
        const COPIED_PER_NS: u64 = 3;
        const RECORD_NS: u64 = 250;
        const PART_NS: u64 = 250;
        const PAIR_NS: u64 = 35;
        let bytes = self.hashed / HASHED_PER_NS + self.copied / COPIED_PER_NS;
        bytes + self.records * RECORD_NS + self.parts * PART_NS + self.pairs * PAIR_NS
    }
}

#[cfg(any(test, feature = "cost"))]
pub use counting::{copied, hashed, keyed, of, pairs, parts, records};

#[cfg(not(any(test, feature = "cost")))]
pub(crate) use free::{copied, hashed, keyed, pairs, parts, records};

#[cfg(any(test, feature = "cost"))]
mod counting {
    use super::Cost;
    use std::cell::Cell;

    thread_local! {
        static COST: Cell<Cost> = const { Cell::new(Cost { hashed: 0, copied: 0, records: 0, parts: 0, pairs: 0 }) };
    }

    fn count(change: impl FnOnce(&mut Cost)) {
        let mut cost = COST.get();
        change(&mut cost);
        COST.set(cost);
    }

    /// So many bytes are hashed.
    pub fn hashed(bytes: usize) {
        count(|cost| cost.hashed += bytes as u64);
    }

    /// A key of so many bytes is hashed with a secret, at half a nanosecond per byte.
    pub fn keyed(bytes: usize) {
        hashed(2 * bytes);
    }

    /// So many bytes are copied.
    pub fn copied(bytes: usize) {
        count(|cost| cost.copied += bytes as u64);
    }

    /// So many records are looked up.
    pub fn records(records: usize) {
        count(|cost| cost.records += records as u64);
    }

    /// So many parts of requests are sent, decided or answered.
    pub fn parts(parts: usize) {
        count(|cost| cost.parts += parts as u64);
    }

    /// So many pairs are looked at.
    pub fn pairs(pairs: usize) {
        count(|cost| cost.pairs += pairs as u64);
    }

    /// What a step costs on this thread.
    pub fn of<T>(step: impl FnOnce() -> T) -> (T, Cost) {
        let outer = COST.replace(Cost::default());
        let result = step();
        let cost = COST.get();
        COST.set(Cost {
            hashed: outer.hashed + cost.hashed,
            copied: outer.copied + cost.copied,
            records: outer.records + cost.records,
            parts: outer.parts + cost.parts,
            pairs: outer.pairs + cost.pairs,
        });
        (result, cost)
    }
}

#[cfg(not(any(test, feature = "cost")))]
mod free {
    #[inline(always)]
    pub(crate) fn hashed(_bytes: usize) {}
    #[inline(always)]
    pub(crate) fn keyed(_bytes: usize) {}
    #[inline(always)]
    pub(crate) fn parts(_parts: usize) {}
    #[inline(always)]
    pub(crate) fn copied(_bytes: usize) {}
    #[inline(always)]
    pub(crate) fn records(_records: usize) {}
    #[inline(always)]
    pub(crate) fn pairs(_pairs: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_within_a_step_counts_for_both() {
        let ((inner, ()), outer) = of(|| {
            copied(8);
            let ((), inner) = of(|| records(2));
            (inner, hashed(4_000))
        });
        assert_eq!(inner, Cost { records: 2, ..Cost::default() });
        assert_eq!(outer, Cost { records: 2, copied: 8, hashed: 4_000, ..Cost::default() });
        assert_eq!(outer.ns(), 1_000 + 2 + 500);
    }
}
