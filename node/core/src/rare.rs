//! What may happen at any rate, and is told once in a while. Pure.

use crate::clock::Nanos;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// When something was told last, and how often it has happened since: strangers, or a cause that lasts, must not fill the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rare {
    told_at: Option<Nanos>,
    untold: u64,
}

impl Rare {
    /// Notes that it has happened. If it is time to tell, how often since it was told last.
    pub fn note(&mut self, now: Nanos, interval: Duration) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| u128::from(now.ms_since(at)) < interval.as_millis()) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// A [`Rare`] for each of many; whoever notes bounds how many there are. Shared.
#[derive(Debug)]
pub struct RareEach<K>(Mutex<BTreeMap<K, Rare>>);

impl<K> Default for RareEach<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> RareEach<K> {
    /// [`Rare::note`] for this one.
    pub fn note(&self, key: K, now: Nanos, interval: Duration) -> Option<u64> {
        self.0.lock().entry(key).or_default().note(now, interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_in_a_while_and_counted() {
        let (mut rare, begin, interval) = (Rare::default(), Nanos(0).after_ms(7), Duration::from_secs(10));
        assert_eq!(rare.note(begin, interval), Some(1));
        let told = (1..100).filter_map(|number| rare.note(begin.after_ms(200 * number), interval));
        assert_eq!(told.collect::<Vec<_>>(), [50]);
    }

    #[test]
    fn each_is_told_for_itself() {
        let (each, second) = (RareEach::default(), Duration::from_secs(1));
        assert_eq!(each.note("a", Nanos(0), second), Some(1));
        assert_eq!((1..1000).filter_map(|ms| each.note("a", Nanos(0).after_ms(ms), second)).count(), 0);
        assert_eq!(each.note("b", Nanos(0).after_ms(999), second), Some(1));
        assert_eq!(each.note("a", Nanos(0).after_ms(1000), second), Some(1000));
    }
}
