//! What the keeper of the ring map does about data keys.

use super::MapKeeper;
use crate::clock::Nanos;
use crate::ring::RingMap;
use crate::ring::decide::Seen;
use crate::ring::sealing::KeysOfNode;
use crate::ring::sealing::{DATA_KEY_MS, DATA_KEYS_MAX, SEALING_LEVEL, WrappedKey};
use crate::ring::verbs::VerbRefusal;
use crate::sealing::{DataKey, KeyEpoch, KeyFailure, KeyWrap};
use kvorum_protocol::{EncryptVerb, NodeId};
use tracing::error;

/// A key-encryption key that has failed is used again after this long.
const KEYS_AGAIN_MS: u64 = 1_000;

impl MapKeeper {
    /// Has the data keys of the map in force here. Without them, shards wait.
    pub(super) fn follow_keys(&mut self, now: Nanos) {
        let Some(ring) = self.router.agreed_ring().filter(|ring| !ring.sealing.is_plain()) else { return };
        if self.followed == ring.epoch || !self.may_ask_for_keys(ring.epoch, now) {
            return;
        }
        match self.keys.follow(&ring.sealing) {
            Ok(()) => (self.closed, self.followed) = (None, ring.epoch),
            Err(failure) => {
                // Nothing is sealed with a key that this node has not got, but if it has just joined.
                if ring.sealing.active > self.keys.newest().0 {
                    self.looked.closed = Some(failure.clone());
                }
                self.keys_failed(ring.epoch, failure, now);
            }
        }
    }

    /// Whether the key-encryption key may be used for a map: not again at once where that has just failed.
    fn may_ask_for_keys(&self, epoch: u64, now: Nanos) -> bool {
        self.keys_failed != epoch || now >= self.keys_again_at
    }

    fn keys_failed(&mut self, epoch: u64, failure: KeyFailure, now: Nanos) {
        if self.closed.as_ref() != Some(&failure) {
            error!(error = %failure, "data keys can't be unwrapped, or made: what is sealed with them can't be read here");
        }
        self.closed = Some(failure);
        (self.keys_failed, self.keys_again_at) = (epoch, now.after_ms(KEYS_AGAIN_MS));
    }

    /// How far this node is with data keys; `None` if it has no key-encryption key.
    pub(super) fn own_keys(&self) -> Option<KeysOfNode> {
        Some(KeysOfNode { kek: self.keys.wrap()?.kek(), epoch: self.copied.min(self.followed) })
    }

    /// The map with what an operator asks about keys; `None` if it is so already.
    pub(super) fn keys_as_asked(
        &self,
        ring: &RingMap,
        seen: &Seen,
        what: EncryptVerb,
    ) -> Result<Option<RingMap>, VerbRefusal> {
        let refused = |why: &str| Err(VerbRefusal::Keys(why.to_owned()));
        if ring.level < SEALING_LEVEL {
            return refused("not all nodes run a version that can read what is sealed: CLUSTER VERSION FINALIZE first");
        }
        let Some(wrap) = self.keys.wrap() else {
            return refused("the node that leads the ring map's group has no encryption.key");
        };
        let sealing = &ring.sealing;
        match what {
            EncryptVerb::On if sealing.active != 0 => return Ok(None),
            EncryptVerb::Rotate if sealing.is_plain() => return refused("nothing is sealed yet: ENCRYPTION ON first"),
            EncryptVerb::Rewrap if sealing.is_plain() => return refused("nothing is sealed yet: ENCRYPTION ON first"),
            // Whether a program has another key by now, nobody sees: all are wrapped anew whenever that is asked for.
            EncryptVerb::Rewrap if !wrap.hides_its_key() && sealing.keys.iter().all(|key| key.kek == wrap.kek()) => {
                return Ok(None);
            }
            EncryptVerb::On | EncryptVerb::Rotate | EncryptVerb::Rewrap => {}
        }
        let has_same = |node: NodeId| seen.data_keys.get(&node).is_some_and(|told| told.kek == wrap.kek());
        let others = ring.nodes.iter().filter(|node| !has_same(NodeId(node.id)));
        let others: Vec<String> = others.map(|node| node.name.clone()).collect();
        if !others.is_empty() {
            return Err(VerbRefusal::KeysDiffer(others));
        }
        let failed = |failure: KeyFailure| VerbRefusal::Keys(failure.to_string());
        match what {
            // It is on its way.
            EncryptVerb::On | EncryptVerb::Rotate if sealing.is_staged() => Ok(None),
            EncryptVerb::On | EncryptVerb::Rotate => match self.with_fresh_key(ring, wrap).map_err(failed)? {
                None => refused("the cluster has as many data keys as it may have"),
                next => Ok(next),
            },
            EncryptVerb::Rewrap => {
                let rewrapped = |key: &WrappedKey| wrapped(wrap, &wrap.unwrap(key)?, key.epoch, key.made_ms);
                let keys: Result<Vec<_>, KeyFailure> = sealing.keys.iter().map(rewrapped).collect();
                Ok(Some(ring.with_keys(keys.map_err(failed)?)))
            }
        }
    }

    fn with_fresh_key(&self, ring: &RingMap, wrap: &dyn KeyWrap) -> Result<Option<RingMap>, KeyFailure> {
        let epoch = ring.sealing.newest().0 + 1;
        if ring.sealing.keys.len() >= DATA_KEYS_MAX {
            return Ok(None);
        }
        let made_ms = self.router.clock().now().wall_ms;
        let key = wrapped(wrap, &DataKey::new(wrap.draw()?), epoch, made_ms)?;
        Ok(Some(ring.with_key(key)))
    }

    /// The stored map with another data key, if the active one has served its time.
    pub(super) fn next_data_key(&mut self, now: Nanos) -> Option<RingMap> {
        let ring = self.key.stored()?;
        let newest = ring.sealing.keys.last().filter(|key| key.epoch == ring.sealing.active)?;
        let age_ms = self.router.clock().now().wall_ms.saturating_sub(newest.made_ms);
        if age_ms < DATA_KEY_MS || !self.may_ask_for_keys(ring.epoch, now) {
            return None;
        }
        match self.with_fresh_key(ring, self.keys.wrap()?) {
            Ok(next) => next,
            Err(failure) => {
                self.keys_failed(ring.epoch, failure, now);
                None
            }
        }
    }
}

/// A data key, wrapped. A program that wraps may be wrong: what it gave is unwrapped again before anything depends on it.
fn wrapped(wrap: &dyn KeyWrap, key: &DataKey, epoch: u16, made_ms: u64) -> Result<WrappedKey, KeyFailure> {
    let wrapped = WrappedKey { epoch, kek: wrap.kek(), wrapped: wrap.wrap(KeyEpoch(epoch), key)?, made_ms };
    match wrap.unwrap(&wrapped)? == *key {
        true => Ok(wrapped),
        false => Err(KeyFailure("what was wrapped unwraps to another key".to_owned())),
    }
}
