//! Entries that stay in a leader's log for replicas that are on their way with a snapshot.
//!
//! A snapshot is of use only if the entries behind it are still there once it is installed. On a shard that is written to much, a
//! leader that keeps its newest entries only would have dropped them by then, and the snapshot would begin anew, for ever. So from
//! the moment when a state is captured, the entries behind it are pinned. Once it is installed, the pin follows the replica until
//! that has caught up. A pin of a replica that does not get on is released, and no pin outweighs the disk: see [`Pins::from`].

use super::{LAG_MAX, Shard};
use crate::clock::Nanos;
use crate::consensus::Consensus;
use crate::limits::{PINNED_LOG_BYTES_MAX, PINNED_LOG_REST_MS};
use crate::seeded::{Bug, planted};
use kvorum_protocol::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// The pins of one replica, which leads its shard.
#[derive(Debug, Default)]
pub(super) struct Pins {
    of: BTreeMap<ReplicaId, Pin>,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    /// The first entry that must stay.
    from: LogIndex,
    /// When the replica got on last; `None` while its snapshot is offered, which ends by itself if nobody pulls.
    moved_at: Option<Nanos>,
}

impl Pins {
    /// The state as of entry `base` is captured for a replica.
    fn offer(&mut self, to: ReplicaId, base: LogIndex) {
        self.of.insert(to, Pin { from: LogIndex(base.0 + 1), moved_at: None });
    }

    /// The offer to a replica is over.
    fn offer_ended(&mut self, to: ReplicaId, installed: bool, now: Nanos) {
        match self.of.get_mut(&to) {
            Some(pin) if installed => pin.moved_at = Some(now),
            _ => drop(self.of.remove(&to)),
        }
    }

    /// Follows the replicas that have installed their snapshots. `matched` says up to where a replica's log is known to go, if it is
    /// a member and has not caught up.
    fn follow(&mut self, now: Nanos, matched: impl Fn(ReplicaId) -> Option<LogIndex>) {
        self.of.retain(|replica, pin| {
            let Some(moved_at) = pin.moved_at else { return true };
            let Some(matched) = matched(*replica) else { return false };
            if matched >= pin.from {
                *pin = Pin { from: LogIndex(matched.0 + 1), moved_at: Some(now) };
                return true;
            }
            now.ms_since(moved_at) < PINNED_LOG_REST_MS
        });
    }

    /// The first entry that must stay.
    fn first(&self) -> Option<LogIndex> {
        self.of.values().map(|pin| pin.from).min()
    }
}

impl Shard {
    /// The state as of entry `base` is captured for a replica: the entries behind it stay until the replica has them.
    pub(super) fn pin_log(&mut self, to: ReplicaId, base: LogIndex) {
        self.pins.offer(to, base);
    }

    /// An offer is over.
    pub(super) fn unpin_log(&mut self, to: ReplicaId, installed: bool) {
        self.pins.offer_ended(to, installed, self.ticked_at);
    }

    /// Time has passed.
    pub(super) fn follow_pins(&mut self, now: Nanos) {
        self.ticked_at = now;
        if self.pins.of.is_empty() {
            return;
        }
        if self.consensus.role() != crate::consensus::Role::Leader {
            self.pins.of.clear();
            return;
        }
        let Self { pins, consensus, .. } = self;
        let consensus: &Consensus = consensus;
        pins.follow(now, |replica| consensus.matched(replica).filter(|_| !consensus.is_caught_up(replica, LAG_MAX)));
    }

    /// The replicas that are on their way with a snapshot, and the first entry that each will need.
    pub fn pins(&self) -> impl Iterator<Item = (ReplicaId, LogIndex)> {
        self.pins.of.iter().map(|(replica, pin)| (*replica, pin.from))
    }

    /// The first entry that must stay in the log for replicas with a snapshot, if there is one. While the disk is full there is none.
    /// Pinned entries take at most as much as the shard's state, [`PINNED_LOG_BYTES_MAX`], and half of what is free above the
    /// headroom; a replica that would need more has to take another snapshot.
    pub(super) fn pinned_from(&self) -> Option<LogIndex> {
        let first = self.pins.first().filter(|_| !self.pressure.disk_is_full() && !planted(Bug::LogNotPinned))?;
        let free = self.pressure.disk_free_bytes().saturating_sub(self.pressure.disk_headroom_bytes());
        let bytes = self.reader().live_bytes_total().min(PINNED_LOG_BYTES_MAX).min(free / 2);
        Some(first.max(self.log().retained_from(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: ReplicaId = ReplicaId(2);

    fn at(ms: u64) -> Nanos {
        Nanos(0).after_ms(ms)
    }

    #[test]
    fn a_pin_holds_while_its_snapshot_is_offered_and_follows_the_replica_then() {
        let mut pins = Pins::default();
        pins.offer(TWO, LogIndex(10));
        pins.follow(at(1_000_000), |_| None);
        assert_eq!(pins.first(), Some(LogIndex(11)), "an offer ends by itself");

        pins.offer_ended(TWO, true, at(1_000_000));
        pins.follow(at(1_000_100), |_| Some(LogIndex(0)));
        assert_eq!(pins.first(), Some(LogIndex(11)), "it has not answered yet");
        pins.follow(at(1_000_200), |_| Some(LogIndex(25)));
        assert_eq!(pins.first(), Some(LogIndex(26)));
        pins.follow(at(1_000_300), |_| None);
        assert_eq!(pins.first(), None, "it has caught up, or is gone");
    }

    #[test]
    fn a_replica_that_does_not_get_on_loses_its_pin() {
        let mut pins = Pins::default();
        pins.offer(TWO, LogIndex(10));
        pins.offer(ReplicaId(3), LogIndex(4));
        pins.offer_ended(ReplicaId(3), false, at(0));
        assert_eq!(pins.first(), Some(LogIndex(11)), "an offer that failed pins nothing");
        pins.offer_ended(TWO, true, at(0));
        pins.follow(at(PINNED_LOG_REST_MS - 1), |_| Some(LogIndex(3)));
        assert_eq!(pins.first(), Some(LogIndex(11)));
        pins.follow(at(PINNED_LOG_REST_MS), |_| Some(LogIndex(3)));
        assert_eq!(pins.first(), None);
    }
}
