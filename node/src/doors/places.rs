//! The places for clients' connections. All doors share them, since what a connection costs is the node's, not the door's.

use kvorum_core::limits::REFUSED_LINGERING_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, Semaphore};

/// The places of a node.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    /// Of the connections that are refused and read from until the client knows.
    to_linger: Semaphore,
    /// Told when the last connection has ended.
    empty: Notify,
}

impl Places {
    /// So many places, all of them free.
    pub fn new(max: usize) -> Arc<Self> {
        let to_linger = Semaphore::new(REFUSED_LINGERING_MAX);
        Arc::new(Self { max, taken: AtomicUsize::new(0), to_linger, empty: Notify::new() })
    }

    /// A place, unless all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(Arc::clone(self)))
    }

    /// How many there are.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The places of connections that are turned away, until the client knows: few, since the rest of the node's descriptors is taken.
    pub fn to_linger(&self) -> &Semaphore {
        &self.to_linger
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until none is taken. One task at a time may wait.
    pub async fn emptied(&self) {
        while self.taken() > 0 {
            self.empty.notified().await;
        }
    }
}

/// The place of one connection. Dropping it gives it back.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_come_back_and_the_last_one_is_told() {
        let places = Places::new(2);
        let (first, second) = (places.take().expect("free"), places.take().expect("free"));
        assert!(places.take().is_none());
        drop(first);
        assert_eq!(places.taken(), 1);
        let third = places.take();
        assert!(third.is_some());
        let emptied = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.emptied().await }
        });
        drop((second, third));
        emptied.await.expect("it ends");
    }
}
