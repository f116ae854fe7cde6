//! The places for clients' connections. All doors share them, since what a connection costs is the node's, not the door's.

use kvorum_core::auth::gate::network_of;
use kvorum_core::limits::REFUSED_LINGERING_MAX;
use kvorum_core::measure::meter::Door;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, Semaphore};

/// What became of connections through one door.
#[derive(Debug, Default)]
struct OfDoor {
    open: AtomicU64,
    let_in: AtomicU64,
    turned_away: AtomicU64,
}

/// The places of a node.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    /// Most of one address; 0 for no limit.
    address_max: usize,
    /// How many each address has, if there is a limit.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    by_door: [OfDoor; Door::ALL.len()],
    /// Of the connections that are refused and read from until the client knows.
    to_linger: Semaphore,
    /// Told when the last connection has ended.
    empty: Notify,
}

impl Places {
    /// So many places, all of them free, and so many of them at most for one address (0 for no limit).
    pub fn new(max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            taken: AtomicUsize::new(0),
            address_max,
            by_address: Mutex::default(),
            by_door: Default::default(),
            to_linger: Semaphore::new(REFUSED_LINGERING_MAX),
            empty: Notify::new(),
        })
    }

    /// Whether an address may have one more connection, which is counted then.
    fn take_of(&self, address: IpAddr) -> bool {
        if self.address_max == 0 {
            return true;
        }
        let mut by_address = self.by_address.lock();
        let taken = by_address.entry(network_of(address)).or_default();
        let has_room = *taken < self.address_max;
        *taken += usize::from(has_room);
        has_room
    }

    fn give_back(&self, address: IpAddr) {
        if self.address_max > 0
            && let Entry::Occupied(mut entry) = self.by_address.lock().entry(network_of(address))
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// A place for a connection from an address through a door, unless all are taken, or all that the address may have.
    pub fn take(self: &Arc<Self>, door: Door, from: IpAddr) -> Option<Place> {
        let of_door = &self.by_door[door as usize];
        let is_free = self.taken.fetch_add(1, Ordering::Relaxed) < self.max;
        if !is_free || !self.take_of(from) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            of_door.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        of_door.let_in.fetch_add(1, Ordering::Relaxed);
        of_door.open.fetch_add(1, Ordering::Relaxed);
        Some(Place { places: Arc::clone(self), door, from })
    }

    /// Connections through a door that are open.
    pub fn open(&self, door: Door) -> u64 {
        self.by_door[door as usize].open.load(Ordering::Relaxed)
    }

    /// Connections through a door so far: those that found a place, and those that did not.
    pub fn let_in_and_turned_away(&self, door: Door) -> (u64, u64) {
        let of_door = &self.by_door[door as usize];
        (of_door.let_in.load(Ordering::Relaxed), of_door.turned_away.load(Ordering::Relaxed))
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
pub struct Place {
    places: Arc<Places>,
    door: Door,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.from);
        self.places.by_door[self.door as usize].open.fetch_sub(1, Ordering::Relaxed);
        if self.places.taken.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.places.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_and_leaves_the_others_to_others() {
        let places = Places::new(10, 2);
        let take = |last: u8| places.take(Door::Http, IpAddr::from([10, 0, 0, last]));
        let (first, second) = (take(1), take(1));
        assert!(first.is_some() && second.is_some() && take(1).is_none() && take(2).is_some());
        drop(first);
        assert!(take(1).is_some());
        drop(second);
        assert!(places.by_address.lock().is_empty(), "those that have none take no room");
    }

    #[tokio::test]
    async fn places_come_back_and_the_last_one_is_told() {
        let places = Places::new(2, 0);
        let take = |door| places.take(door, IpAddr::from([10, 0, 0, 1]));
        let (first, second) = (take(Door::Binary).expect("free"), take(Door::Http).expect("free"));
        assert!(take(Door::Binary).is_none());
        drop(first);
        assert_eq!((places.taken(), places.open(Door::Binary), places.open(Door::Http)), (1, 0, 1));
        assert_eq!(places.let_in_and_turned_away(Door::Binary), (1, 1));
        let third = take(Door::Binary);
        assert!(third.is_some());
        let emptied = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.emptied().await }
        });
        drop((second, third));
        emptied.await.expect("it ends");
    }
}
