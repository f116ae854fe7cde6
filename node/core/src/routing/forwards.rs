//! Requests that this node has passed on to others, and that are not answered.

use crate::clock::Nanos;
use crate::session::reply::ReplyTo;
use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use kvorum_protocol::{NodeId, ShardId, Term};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request that another node is working on.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) reply_to: ReplyTo,
    pub(super) node: NodeId,
    pub(super) shard: ShardId,
    pub(super) term: Term,
    pub(super) deadline: Nanos,
    pub(super) writes: bool,
}

/// These requests, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    table: DashMap<u64, Forward, DefaultHashBuilder>,
    /// How many these are. The table itself would have to look at each of its parts.
    open: AtomicUsize,
}

impl Forwards {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Adds a request, under a number that no other one has.
    pub(super) fn insert(&self, id: u64, forward: Forward) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.table.insert(id, forward);
    }

    /// Takes a request out, if it is such a one.
    pub(super) fn take(&self, id: u64, which: impl FnOnce(&Forward) -> bool) -> Option<Forward> {
        let (_, forward) = self.table.remove_if(&id, |_, forward| which(forward))?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Some(forward)
    }

    /// The numbers of such requests, in the order in which they were sent, not in that of a hash map.
    pub(super) fn ids(&self, which: impl Fn(&Forward) -> bool) -> Vec<u64> {
        let mut ids: Vec<u64> = self.table.iter().filter(|entry| which(entry)).map(|entry| *entry.key()).collect();
        ids.sort_unstable();
        ids
    }

    /// Such requests are to be answered by `until`.
    pub(super) fn hurry(&self, until: Nanos, which: impl Fn(&Forward) -> bool) {
        for mut forward in self.table.iter_mut().filter(|forward| which(forward)) {
            forward.deadline = forward.deadline.min(until);
        }
    }
}
