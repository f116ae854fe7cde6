//! To whom a node passes its ring map on, and when. Pure.
//!
//! A map of 100 nodes with 4,096 shards has half a megabyte and more. A node sends it to nobody who is known to have it: nodes say in
//! their reports which map they have.
//!
//! A node takes a map from peers on the word of a majority ([`crate::ring::decide::Words::of_majority`]). In nearly all cases that is
//! one of the nodes that hold the map's group, so these send a map at once. A majority of all nodes counts where those are gone or
//! wiped. So the other nodes send the map as well, to a peer that has had time enough to take it and still lags.

use crate::clock::Nanos;
use crate::routing::peer_table::MapOfPeer;
use kvorum_protocol::NodeId;
use std::collections::BTreeMap;

/// A peer that was sent the map in force, and still lags, is sent it again after so long: each word may be lost.
const SEND_EVERY_MS: u64 = 10_000;
/// A peer that has said nothing yet is waited for so long before it is sent a map that it may have.
const FIRST_REPORT_MS: u64 = 1_000;
/// A peer that has no map at all, as it says each second, is sent it after so long also by nodes that do not hold the map's group.
const WITHOUT_MAP_MS: u64 = 2_000;
/// So many bytes of ring maps per second, to all nodes together, may be spent on changes that nobody has asked for.
const SPREAD_BYTES_PER_SECOND: u64 = 32 << 20;
/// The least distance between two such changes is never longer,
const SPREAD_MS_MAX: u64 = 2_000;
/// and is none at all if it is shorter than this.
const SPREAD_MS_MIN: u64 = 100;

/// For how long the leader of `meta` makes no further map by itself after one of so many bytes.
pub(super) fn spread_ms(map_bytes: usize, nodes: usize) -> u64 {
    let bytes = (map_bytes as u64).saturating_mul(nodes as u64);
    let ms = (bytes.saturating_mul(1_000) / SPREAD_BYTES_PER_SECOND).min(SPREAD_MS_MAX);
    if ms < SPREAD_MS_MIN { 0 } else { ms }
}

/// What a peer was sent last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SentMap {
    /// Since when it has been connected: on another connection it may be another process.
    connected_at: Nanos,
    epoch: u64,
    at: Nanos,
}

/// Who was sent the ring map, and when.
#[derive(Debug, Default)]
pub(super) struct MapSpread {
    sent: BTreeMap<NodeId, SentMap>,
    /// When there first was a map to send; `None` before that.
    since: Option<Nanos>,
    /// The epoch that was in force here at the last mark, and at the one before, which is [`SEND_EVERY_MS`] or longer ago.
    marked: u64,
    marked_before: u64,
    marked_at: Nanos,
}

impl MapSpread {
    /// The peers that the map in force, of this epoch, should be sent to now. `holds_group` says that this node holds the map's group.
    pub(super) fn due(
        &mut self,
        epoch: u64,
        holds_group: bool,
        peers: &BTreeMap<NodeId, MapOfPeer>,
        now: Nanos,
    ) -> Vec<NodeId> {
        let since = *self.since.get_or_insert_with(|| {
            (self.marked, self.marked_at) = (epoch, now);
            now
        });
        if now.ms_since(self.marked_at) >= SEND_EVERY_MS {
            (self.marked_before, self.marked, self.marked_at) = (self.marked, epoch, now);
        }
        self.sent.retain(|peer, sent| peers.get(peer).is_some_and(|known| known.connected_at == sent.connected_at));
        let is_due = |(peer, known): &(&NodeId, &MapOfPeer)| {
            if known.epoch.is_some_and(|said| said >= epoch) {
                return false;
            }
            let was_told = self.sent.get(peer).is_some_and(|sent| {
                let is_news = holds_group && sent.epoch < epoch;
                !is_news && now.ms_since(sent.at) < SEND_EVERY_MS
            });
            let connected_ms = now.ms_since(known.connected_at);
            let should_know = match known.epoch {
                Some(_) if holds_group => true,
                None if holds_group => connected_ms >= FIRST_REPORT_MS,
                Some(0) => connected_ms.min(now.ms_since(since)) >= WITHOUT_MAP_MS,
                said => connected_ms >= SEND_EVERY_MS && said.unwrap_or(0) < self.marked_before,
            };
            should_know && !was_told
        };
        peers.iter().filter(is_due).map(|(peer, _)| *peer).collect()
    }

    /// A peer was sent the map of this epoch.
    pub(super) fn sent(&mut self, peer: NodeId, known: &MapOfPeer, epoch: u64, now: Nanos) {
        self.sent.insert(peer, SentMap { connected_at: known.connected_at, epoch, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn at(ms: u64) -> Nanos {
        Nanos(1_000_000_000).after_ms(ms)
    }

    /// Peers 1, 2, … that were connected at 0 ms, and what each has said.
    fn peers(said: &[Option<u64>]) -> BTreeMap<NodeId, MapOfPeer> {
        (1..)
            .zip(said)
            .map(|(number, epoch)| (node(number), MapOfPeer { connected_at: at(0), epoch: *epoch }))
            .collect()
    }

    /// To whom the map of epoch `epoch` is sent at a moment.
    fn sends(
        spread: &mut MapSpread,
        epoch: u64,
        holds: bool,
        peers: &BTreeMap<NodeId, MapOfPeer>,
        ms: u64,
    ) -> Vec<u128> {
        let due = spread.due(epoch, holds, peers, at(ms));
        due.iter().for_each(|peer| spread.sent(*peer, &peers[peer], epoch, at(ms)));
        due.into_iter().map(|peer| peer.0.as_u128()).collect()
    }

    #[test]
    fn who_has_the_map_is_sent_nothing_and_who_lags_is_sent_it_again_after_ten_seconds() {
        let (mut spread, said) = (MapSpread::default(), peers(&[Some(4), Some(5), Some(6), Some(0)]));
        assert_eq!(sends(&mut spread, 5, true, &said, 0), [1, 4]);
        assert_eq!(sends(&mut spread, 5, true, &said, 9_999), [0; 0]);
        assert_eq!(sends(&mut spread, 5, true, &said, 10_000), [1, 4]);
        // A newer one goes at once to whoever does not have it.
        assert_eq!(sends(&mut spread, 6, true, &said, 10_100), [1, 2, 4]);
        assert_eq!(sends(&mut spread, 6, true, &peers(&[Some(6); 4]), 20_100), [0; 0]);
    }

    #[test]
    fn a_peer_that_was_just_met_is_waited_for_until_it_has_reported() {
        let (mut spread, silent) = (MapSpread::default(), peers(&[None]));
        assert_eq!(sends(&mut spread, 5, true, &silent, 999), [0; 0]);
        assert_eq!(sends(&mut spread, 5, true, &peers(&[Some(5)]), 999), [0; 0]);
        assert_eq!(sends(&mut spread, 5, true, &silent, 1_000), [1]);
        assert_eq!(sends(&mut spread, 5, true, &silent, 5_000), [0; 0]);
        // It comes again, and lags.
        let again = BTreeMap::from([(node(1), MapOfPeer { connected_at: at(5_000), epoch: Some(4) })]);
        assert_eq!(sends(&mut spread, 5, true, &again, 5_100), [1], "what it was sent before may not have come");
    }

    #[test]
    fn who_does_not_hold_the_group_sends_to_those_that_still_lag_later() {
        let mut spread = MapSpread::default();
        let mut sent = Vec::new();
        // A map in each second. Peer 1 follows, and says so every five seconds; peer 2 does not.
        for second in 0..40 {
            let said = peers(&[Some(100 + second / 5 * 5), Some(99)]);
            let to = sends(&mut spread, 101 + second, false, &said, second * 1_000);
            sent.extend(to.into_iter().map(|peer| (second, peer)));
        }
        assert_eq!(sent, [(10, 2), (20, 2), (30, 2)]);
        // No map comes any more.
        let mut spread = MapSpread::default();
        let said = peers(&[Some(7), Some(6), None]);
        let seconds: Vec<u64> =
            (0..40).filter(|second| sends(&mut spread, 7, false, &said, second * 1_000) == [2, 3]).collect();
        assert_eq!(seconds, [10, 20, 30]);
    }

    #[test]
    fn a_peer_without_a_map_is_soon_sent_one_by_everybody() {
        let (mut spread, said) = (MapSpread::default(), peers(&[Some(0)]));
        assert_eq!(sends(&mut spread, 7, false, &said, 1_000), [0; 0]);
        assert_eq!(sends(&mut spread, 7, false, &said, 2_999), [0; 0], "the map has just come here");
        assert_eq!(sends(&mut spread, 7, false, &said, 3_000), [1]);
        assert_eq!(sends(&mut spread, 8, false, &said, 12_999), [0; 0]);
        assert_eq!(sends(&mut spread, 8, false, &said, 13_000), [1]);
    }

    #[test]
    fn maps_of_large_clusters_keep_a_distance() {
        assert_eq!(spread_ms(10_000, 5), 0);
        assert_eq!(spread_ms(512 << 10, 3), 0, "a twentieth of a second is none");
        assert_eq!(spread_ms(512 << 10, 40), 625);
        assert_eq!(spread_ms(4 << 20, 100), 2_000);
        assert_eq!(spread_ms(usize::MAX, usize::MAX), 2_000);
    }
}
