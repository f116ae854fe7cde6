//! The places of nodes that join: few, and of those each source has a part. Anybody who reaches the port can take one, and hold it
//! until its time is over.

use crate::peers::limits::{JOINS_MAX, JOINS_OF_SOURCE_MAX};
use kvorum_core::auth::gate::network_of;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The places, and who has which.
#[derive(Debug, Default)]
pub(in crate::peers) struct JoinPlaces {
    /// How many each source has. No more entries than places.
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoJoinPlace {
    /// All are taken.
    #[error("{JOINS_MAX} nodes join at the moment: ask again")]
    AllTaken,
    /// The source has its part.
    #[error("{JOINS_OF_SOURCE_MAX} nodes join from this address at the moment: ask again")]
    OfSource,
}

impl JoinPlaces {
    /// A place for who has dialled from an address, which has proved that it receives what is sent to it.
    pub(super) fn take(&self, from: IpAddr) -> Result<JoinPlace<'_>, NoJoinPlace> {
        let mut taken = self.taken.lock();
        if taken.values().sum::<usize>() >= JOINS_MAX {
            return Err(NoJoinPlace::AllTaken);
        }
        let source = network_of(from.to_canonical());
        let of_source = taken.entry(source).or_default();
        if *of_source >= JOINS_OF_SOURCE_MAX {
            return Err(NoJoinPlace::OfSource);
        }
        *of_source += 1;
        Ok(JoinPlace { places: self, source })
    }
}

/// The place of one node. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct JoinPlace<'a> {
    places: &'a JoinPlaces,
    source: IpAddr,
}

impl Drop for JoinPlace<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(of_source) = taken.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_leaves_places_to_others() {
        let places = JoinPlaces::default();
        let take = |last: u8| places.take(IpAddr::from([10, 0, 0, last]));
        let mut of_one: Vec<_> = (0..JOINS_OF_SOURCE_MAX).map(|_| take(1).unwrap()).collect();
        assert_eq!(take(1).err(), Some(NoJoinPlace::OfSource));
        let others: Vec<_> = (JOINS_OF_SOURCE_MAX..JOINS_MAX).map(|other| take(2 + other as u8).unwrap()).collect();
        assert_eq!(take(2).err(), Some(NoJoinPlace::AllTaken));
        of_one.pop();
        of_one.push(take(1).unwrap());
        drop((of_one, others));
        assert!(places.taken.lock().is_empty(), "those that have none take no room");
    }
}
