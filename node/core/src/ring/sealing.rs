//! The data keys of a cluster, in the ring map: wrapped, so that the map tells none of them.
//!
//! A new key is *staged*: it is in the map, and nothing is sealed with it. Once every node has said that it has the key, the leader of
//! `meta` makes it the *active* one. So no node is ever given a record that it can't open, unless it joins later: it has the map before
//! it has a replica. A node that has the map of an epoch in its folder says so ([`KeysOfNode`]). So it is known when the last one seals
//! with the active key, and when none needs the old key-encryption key any more.

use super::RingMap;
use super::decide::Seen;
use crate::sealing::KeyEpoch;
use kvorum_protocol::{NodeId, SealingOutlook};
use serde::{Deserialize, Serialize};

/// Most data keys that a cluster keeps: with one a week, for nineteen years.
pub const DATA_KEYS_MAX: usize = 1_000;
/// A data key is used for so long, in milliseconds, before the next one is made: a week.
pub const DATA_KEY_MS: u64 = 7 * 86_400_000;
/// The cluster's level from which on records may be sealed: nodes of an earlier one can't read them.
pub const SEALING_LEVEL: u16 = 2;

/// With which keys nodes seal what they store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RingSealing {
    /// The key that new records are sealed with; 0 for none.
    pub active: u16,
    /// All keys, by epoch.
    pub keys: Vec<WrappedKey>,
    /// Epoch of the ring map that has changed any of this last.
    pub since: u64,
}

/// How far a node is with data keys, as it has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeysOfNode {
    /// Tells its key-encryption key from others.
    pub kek: u64,
    /// The ring map of this epoch is in its folder. The node has all data keys of that, and seals as that says.
    pub epoch: u64,
}

/// A data key, wrapped by a key-encryption key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Its number, from 1.
    pub epoch: u16,
    /// Tells the key-encryption key from others.
    pub kek: u64,
    /// The wrapped key, in hexadecimal digits.
    pub wrapped: String,
    /// When it was made, by the wall clock of the node that made it, in milliseconds since 1970.
    pub made_ms: u64,
}

impl RingSealing {
    /// There are no keys.
    pub fn is_plain(&self) -> bool {
        self.keys.is_empty()
    }

    /// The newest key.
    pub fn newest(&self) -> KeyEpoch {
        KeyEpoch(self.keys.last().map_or(0, |key| key.epoch))
    }

    /// Looks whether the keys are counted from 1, and the one in use is among them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.keys.len() > DATA_KEYS_MAX {
            return Err("its number of data keys");
        }
        if !self.keys.iter().map(|key| key.epoch).eq(1..=self.keys.len() as u16) {
            return Err("the numbers of its data keys");
        }
        if self.active > self.newest().0 {
            return Err("a data key that is in use, and not there");
        }
        Ok(())
    }

    /// Whether the newest key is yet to be used.
    pub fn is_staged(&self) -> bool {
        self.newest().0 != self.active
    }
}

impl RingMap {
    /// The map of the next epoch, with another key that is not used yet.
    pub fn with_key(&self, key: WrappedKey) -> Self {
        let mut next = self.next_epoch();
        next.sealing.keys.push(key);
        next.sealing.since = next.epoch;
        next
    }

    /// The map of the next epoch, in which the newest key is used.
    pub fn with_newest_key_active(&self) -> Self {
        let mut next = self.next_epoch();
        next.sealing.active = next.sealing.newest().0;
        next.sealing.since = next.epoch;
        next
    }

    /// The map of the next epoch, with the same keys, wrapped anew.
    pub fn with_keys(&self, keys: Vec<WrappedKey>) -> Self {
        let mut next = self.next_epoch();
        next.sealing.keys = keys;
        next.sealing.since = next.epoch;
        next
    }
}

/// The nodes of the map that have not said that they have taken over the newest change of [`RingSealing`].
pub fn behind(ring: &RingMap, seen: &Seen) -> Vec<NodeId> {
    let follows = |node: NodeId| seen.data_keys.get(&node).is_some_and(|told| told.epoch >= ring.sealing.since);
    ring.nodes.iter().map(|node| NodeId(node.id)).filter(|node| !follows(*node)).collect()
}

/// How far the cluster is; `None` if it is plain.
pub(super) fn outlook(ring: &RingMap, seen: &Seen) -> Option<SealingOutlook> {
    let own = seen.data_keys.get(&seen.me).map(|told| told.kek);
    (!ring.sealing.is_plain()).then(|| SealingOutlook {
        active: ring.sealing.active,
        newest: ring.sealing.newest().0,
        keys: ring.sealing.keys.len() as u16,
        wrapped: ring.sealing.keys.iter().all(|key| Some(key.kek) == own),
        waits_for: behind(ring, seen),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_from_1_and_the_one_in_use_is_there() {
        let key = |epoch| WrappedKey { epoch, kek: 1, wrapped: String::new(), made_ms: 0 };
        let check = |active, epochs: &[u16]| {
            RingSealing { active, keys: epochs.iter().copied().map(key).collect(), since: 0 }.check()
        };
        for (active, epochs) in [(0, &[][..]), (0, &[1]), (1, &[1]), (1, &[1, 2]), (2, &[1, 2])] {
            assert_eq!(check(active, epochs), Ok(()), "{active} of {epochs:?}");
        }
        // A node that took these over would panic.
        for (active, epochs) in [(1, &[][..]), (0, &[0]), (2, &[1]), (1, &[1, 1]), (1, &[2]), (1, &[1, 3])] {
            assert!(check(active, epochs).is_err(), "{active} of {epochs:?}");
        }
        let many: Vec<u16> = (1..=DATA_KEYS_MAX as u16 + 1).collect();
        assert!(check(1, &many).is_err() && check(1, &many[1..]).is_err() && check(1, &many[..DATA_KEYS_MAX]).is_ok());
    }
}
