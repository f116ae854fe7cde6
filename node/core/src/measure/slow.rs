//! The operations that took longest lately: a ring of bounded size, in which each keeps where its time went.

use super::meter::{Door, Ending, Finished, OperationKind};
use super::stages::EntryStamps;
use crate::clock::Nanos;
use kvorum_protocol::limits::SLOW_OPERATIONS_MAX;
use kvorum_protocol::{ErrorCode, NodeId, ShardId, SlowLogView, SlowOperation, SlowStages, TraceId};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes that the ring takes.
const SLOW_BYTES_MAX: usize = 256 * 1024;

const _: () =
    assert!(size_of::<SlowEntry>() * SLOW_OPERATIONS_MAX <= SLOW_BYTES_MAX, "the ring is bounded by bytes, too");

/// The key that an operation is about, without the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Its shard.
    pub shard: ShardId,
    /// The key's hash, if it is one key's.
    pub key_hash: Option<u64>,
}

/// An operation that took long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowEntry {
    /// Grows by one with each, from 0.
    pub number: u64,
    /// When it was answered, in Unix milliseconds by this node's clock.
    pub at_ms: u64,
    /// Which way it came in.
    pub door: Door,
    /// What was asked.
    pub operation: OperationKind,
    /// How it ended.
    pub ending: Ending,
    /// What went wrong.
    pub error: Option<ErrorCode>,
    /// What it is about, if that is one shard.
    pub about: Option<About>,
    /// From when this node took it up until it was answered.
    pub took: Nanos,
    /// Where that time went.
    pub stages: SlowStages,
    /// The trace that it is part of.
    pub trace: Option<TraceId>,
}

impl SlowEntry {
    /// What is kept of a request. Its number comes when it is kept.
    pub fn new(finished: &Finished, at_ms: u64, stages: SlowStages) -> Self {
        let Finished { door, operation, ending, error, took, .. } = *finished;
        Self { number: 0, at_ms, door, operation, ending, error, about: None, took, stages, trace: None }
    }

    /// As it is told, by this node.
    pub fn told_by(&self, node: NodeId) -> SlowOperation {
        SlowOperation {
            number: self.number,
            node,
            at_ms: self.at_ms,
            door: self.door.name().to_owned(),
            operation: self.operation.name().to_owned(),
            outcome: self.ending.name().to_owned(),
            error: self.error,
            shard: self.about.map(|about| about.shard),
            key_hash: self.about.and_then(|about| about.key_hash),
            took_us: self.took.0 / 1_000,
            stages: self.stages,
            trace: self.trace,
        }
    }
}

/// Where the time of a request went that was taken up at `began` and answered at `ended`: by this leader's stamps, by another node, or
/// nobody knows where.
pub fn stages_of(began: Nanos, ended: Nanos, stamps: Option<&EntryStamps>, is_forwarded: bool) -> SlowStages {
    let us = |ns: u64| u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
    match stamps {
        Some(stamps) => {
            let [queue, propose, sync, quorum, apply] = stamps.stages_ns(began).map(us);
            let answer = us(ended.0.saturating_sub(stamps.applied.0.max(began.0)));
            SlowStages::of([queue, propose, sync, quorum, apply, answer, 0])
        }
        None if is_forwarded => SlowStages { remote_us: us(ended.0.saturating_sub(began.0)), ..SlowStages::default() },
        None => SlowStages::default(),
    }
}

/// The slow operations of a node.
#[derive(Debug)]
pub struct SlowLog {
    /// From so many nanoseconds on an operation is kept; `u64::MAX` for none.
    slower_than_ns: AtomicU64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    /// The oldest first.
    entries: VecDeque<SlowEntry>,
}

impl Default for SlowLog {
    /// One that keeps nothing until it is told what is slow.
    fn default() -> Self {
        Self { slower_than_ns: AtomicU64::new(u64::MAX), ring: Mutex::default() }
    }
}

impl SlowLog {
    /// Operations that take so many milliseconds are kept from here on; with 0 none is.
    pub fn set_slow_ms(&self, ms: u64) {
        let ns = if ms == 0 { u64::MAX } else { ms.saturating_mul(1_000_000) };
        self.slower_than_ns.store(ns, Ordering::Relaxed);
    }

    /// From how many nanoseconds on an operation is kept; `u64::MAX` if none is. Costs a load.
    pub fn slower_than_ns(&self) -> u64 {
        self.slower_than_ns.load(Ordering::Relaxed)
    }

    /// Keeps an operation, in place of the oldest one if there are [`SLOW_OPERATIONS_MAX`].
    pub fn keep(&self, entry: SlowEntry) {
        let mut ring = self.ring.lock();
        if ring.entries.len() == SLOW_OPERATIONS_MAX {
            ring.entries.pop_front();
        }
        let number = ring.next;
        ring.next += 1;
        ring.entries.push_back(SlowEntry { number, ..entry });
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.ring.lock().entries.len()
    }

    /// None is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those with a number of `from` or more, the oldest first, and the number that comes next: for whoever follows. Copies at most
    /// `SLOW_BYTES_MAX` bytes.
    pub fn since(&self, from: u64) -> (Vec<SlowEntry>, u64) {
        let ring = self.ring.lock();
        (ring.entries.iter().filter(|entry| entry.number >= from).copied().collect(), ring.next)
    }

    /// Forgets all. Numbers go on.
    pub fn forget(&self) {
        self.ring.lock().entries.clear();
    }

    /// The newest `count`, as this node tells them.
    pub fn view(&self, node: NodeId, count: usize) -> SlowLogView {
        let slower_than_ns = self.slower_than_ns();
        let ring = self.ring.lock();
        let newest = ring.entries.iter().rev().take(count);
        SlowLogView {
            length: ring.entries.len() as u32,
            slower_than_us: (slower_than_ns != u64::MAX).then_some(slower_than_ns / 1_000),
            operations: newest.map(|entry| entry.told_by(node)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::ResponseBody;
    use uuid::Uuid;

    fn entry(took_ms: u64) -> SlowEntry {
        let took = Nanos(took_ms * 1_000_000);
        let finished = Finished::new(Door::Resp, OperationKind::Put, &ResponseBody::Done, took);
        SlowEntry::new(&finished, 5, SlowStages::default())
    }

    #[test]
    fn the_newest_are_kept_and_numbers_go_on() {
        let log = SlowLog::default();
        assert_eq!(log.slower_than_ns(), u64::MAX);
        log.set_slow_ms(100);
        assert_eq!(log.slower_than_ns(), 100_000_000);
        (0..SLOW_OPERATIONS_MAX as u64 + 2).for_each(|ms| log.keep(entry(ms)));
        assert_eq!(log.len(), SLOW_OPERATIONS_MAX);
        let node = NodeId(Uuid::from_u128(1));
        let view = log.view(node, 2);
        let last = SLOW_OPERATIONS_MAX as u64 + 1;
        assert_eq!((view.length, view.slower_than_us), (SLOW_OPERATIONS_MAX as u32, Some(100_000)));
        let numbers: Vec<u64> = view.operations.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [last, last - 1], "the newest first");
        assert_eq!((view.operations[0].took_us, view.operations[0].door.as_str()), (last * 1_000, "resp"));
        let (new, next) = log.since(last);
        assert_eq!((new.len(), next), (1, last + 1));
        log.forget();
        assert!(log.is_empty());
        log.keep(entry(1));
        assert_eq!(log.view(node, 9).operations[0].number, last + 1);
        log.set_slow_ms(0);
        assert_eq!((log.slower_than_ns(), log.view(node, 0).slower_than_us), (u64::MAX, None));
    }

    #[test]
    fn stages_are_the_leaders_or_another_nodes() {
        let stamps = EntryStamps {
            begun: Nanos(2_000),
            appended: Nanos(3_000),
            synced: Some(Nanos(9_000)),
            committed: Nanos(9_000),
            applied: Nanos(10_000),
            ..EntryStamps::default()
        };
        let of = |stamps, forwarded| stages_of(Nanos(1_000), Nanos(15_000), stamps, forwarded).all_us();
        assert_eq!(of(Some(&stamps), false), [1, 1, 6, 0, 1, 5, 0]);
        assert_eq!(of(None, true), [0, 0, 0, 0, 0, 0, 14]);
        assert_eq!(of(None, false), [0; 7], "nobody knows");
    }
}
