//! Counts that each thread keeps for itself.
//!
//! A thread is the only writer of its stripe, so counting is a load and a store of memory in its own processor's cache. Whoever looks
//! sums over stripes. The first [`STRIPES`] threads of the process that count anything have a stripe each; those that come later
//! share one, with atomic additions.

use kvorum_core::measure::{Count, Durations};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that have a stripe of their own. A runtime has as many as there are processors.
pub const STRIPES: usize = 128;

/// A number per thread, given out in the order in which they first count something.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    let mine = MINE.get();
    if mine != usize::MAX {
        return mine;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    MINE.set(number);
    number
}

/// A `T` per thread that counts. `T` holds [`Count`]s and [`Durations`].
#[derive(Debug)]
pub struct Striped<T> {
    stripes: Box<[OnceLock<Box<Apart<T>>>]>,
    shared: Apart<T>,
}

/// Its cache lines hold nothing that others write.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| OnceLock::new()).collect(), shared: Apart::default() }
    }
}

/// A stripe to count in, and whether others do so, too.
#[derive(Clone, Copy, Debug)]
pub struct Mine<'a, T> {
    /// The stripe.
    pub stripe: &'a T,
    shared: bool,
}

impl<T> Mine<'_, T> {
    /// Adds to one of the stripe's counts.
    pub fn add(&self, count: &Count, more: u64) {
        if self.shared { count.add_shared(more) } else { count.add(more) }
    }

    /// Notes a duration, in nanoseconds.
    pub fn note(&self, durations: &Durations, ns: u64) {
        if self.shared { durations.note_shared(ns) } else { durations.note(ns) }
    }
}

impl<T: Default> Striped<T> {
    /// The stripe of this thread.
    pub fn mine(&self) -> Mine<'_, T> {
        match self.stripes.get(thread_number()) {
            Some(stripe) => Mine { stripe: &stripe.get_or_init(Box::default).0, shared: false },
            None => Mine { stripe: &self.shared.0, shared: true },
        }
    }

    /// All stripes.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.stripes.iter().filter_map(OnceLock::get).map(|stripe| &stripe.0).chain([&self.shared.0])
    }

    /// What all threads have counted.
    pub fn sum(&self, of: impl Fn(&T) -> &Count) -> u64 {
        self.all().map(|stripe| of(stripe).get()).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn more_threads_than_stripes_add_up() {
        let counts = Arc::<Striped<Count>>::default();
        let count = |counts: &Striped<Count>| {
            for _ in 0..10 {
                let mine = counts.mine();
                mine.add(mine.stripe, 1);
            }
        };
        let begin = |_| {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || count(&counts))
        };
        let threads: Vec<_> = (0..STRIPES + 20).map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("it only counts"));
        assert_eq!(counts.sum(|count| count), (STRIPES as u64 + 20) * 10);
    }
}
