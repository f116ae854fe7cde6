//! Requests that wait until it is known who leads their shard.
//!
//! Nobody is told that leadership moves. A request that was not proposed comes back ([`crate::shard::Returned`]), or finds
//! that nobody is known to lead; either way it is held here, and sent on to the next leader. A write that was proposed
//! never is: its client hears that its outcome is unknown.
//!
//! **Order.** Of the writes to one key, those on their way are all for the leader of one term, which takes them in order or
//! returns them ([`crate::shard`]'s `hand_over`). A write that would have to go to the leader of another term is held until
//! none is on its way; so is whatever comes behind one that is held. What is held is kept in the order in which it came.
//!
//! **Bounds.** A request is held for [`HELD_MS_MAX`] and no longer than its deadline, among the unanswered requests that its
//! connection may have, and within the bytes that the node has for it ([`HELD_BYTES_MAX`]). Each time it is sent, it is for the
//! leader of a later term, so it does not go round in circles.

use super::pending::WrittenKey;
use super::{Job, Part, Session, What};
use crate::clock::Nanos;
use crate::limits::{HELD_BYTES_MAX, HELD_MS_MAX};
use crate::routing::router::Router;
use crate::seeded::{Bug, planted};
use crate::shard::{Operation, Returned};
use hashbrown::{HashMap, HashSet};
use kvorum_protocol::hash::hash64;
use kvorum_protocol::{ErrorCode, Outcome, ReadMode, RequestBody, ServerError, ShardId, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The unanswered writes to one key.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Unanswered {
    count: u32,
    /// Of these, so many are held. The others are on their way,
    held: u32,
    /// to the leader of this term.
    term: Term,
}

impl Unanswered {
    /// Whether something for the leader of `term` may be sent behind them.
    fn may_follow(self, term: Term) -> bool {
        self.count == self.held || self.term == term
    }
}

/// By key's hash.
#[derive(Default)]
pub(super) struct UnansweredWrites(HashMap<u64, Unanswered>);

impl UnansweredWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.0.contains_key(&key)
    }

    /// Counts writes to these keys, which come together. Returns whether they may be sent; if not, they count as held.
    pub(super) fn add(&mut self, keys: &[WrittenKey], term: Option<Term>) -> bool {
        let mut may_go = term.is_some();
        for key in keys {
            let writes = self.0.entry(key.hash).or_default();
            let follows = writes.held == 0 && term.is_some_and(|term| writes.may_follow(term));
            may_go &= follows || planted(Bug::HeldOutOfOrder);
            writes.count += 1;
            if let Some(term) = term.filter(|_| follows) {
                writes.term = term;
            }
        }
        if !may_go {
            self.hold(keys);
        }
        may_go
    }

    /// Writes to these keys, which were on their way, are held.
    fn hold(&mut self, keys: &[WrittenKey]) {
        keys.iter().for_each(|key| self.of(key).held += 1);
    }

    /// Writes to these keys are held no longer; with a term, they are sent to its leader.
    fn let_go(&mut self, keys: &[WrittenKey], term: Option<Term>) {
        for key in keys {
            let writes = self.of(key);
            writes.held -= 1;
            writes.term = term.unwrap_or(writes.term);
        }
    }

    /// Writes to these keys are answered.
    pub(super) fn remove(&mut self, keys: &[WrittenKey]) {
        for key in keys {
            let writes = self.of(key);
            writes.count -= 1;
            if writes.count == 0 {
                self.0.remove(&key.hash);
            }
        }
    }

    /// Whether a read of a key may be sent to the leader of `term`, behind the writes before it.
    pub(super) fn may_be_read(&self, key: u64, term: Term) -> bool {
        let free = |writes: &Unanswered| writes.held == 0 && writes.may_follow(term);
        self.0.get(&key).is_none_or(free) || planted(Bug::HeldOutOfOrder)
    }

    /// Whether what was held may be sent to the leader of `term`, if nothing that is held comes before it.
    fn may_go_on(&self, key: u64, term: Term) -> bool {
        self.0.get(&key).is_none_or(|writes| writes.may_follow(term))
    }

    fn of(&mut self, key: &WrittenKey) -> &mut Unanswered {
        self.0.get_mut(&key.hash).expect("every unanswered write is counted")
    }
}

/// One part of a request, held.
pub(super) struct HeldPart<Origin> {
    job: Job<Origin>,
    slot: usize,
    what: Part,
    /// The term whose leader has returned it.
    after: Term,
    until: Nanos,
    /// What it counts for among all that the node holds.
    _bytes: HeldBytes,
}

/// Held parts, of each shard in the order in which they came: by number of the request, and part.
pub(super) type HeldParts<Origin> = BTreeMap<(ShardId, u64, u32), HeldPart<Origin>>;

/// Bytes of held requests; given back when this is dropped.
pub(super) struct HeldBytes {
    router: Arc<Router>,
    bytes: usize,
}

impl HeldBytes {
    /// Takes them, if so many are left.
    fn take(router: &Arc<Router>, bytes: usize) -> Option<Self> {
        let held = Some(Self { router: Arc::clone(router), bytes });
        held.filter(|_| {
            router.held_bytes().fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes <= HELD_BYTES_MAX
        })
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.router.held_bytes().fetch_sub(self.bytes, std::sync::atomic::Ordering::Relaxed);
    }
}

impl<Origin: Copy> Session<Origin> {
    /// Holds a part that can't be sent now. `counted`: its writes count as held already.
    pub(super) fn hold(&mut self, slot: usize, part: u32, shard: ShardId, what: Part, after: Term, counted: bool) {
        let router = &self.context.router;
        let pending = &self.pending[slot];
        let (job, number, keys) = (pending.job, pending.number, pending.keys_of(part));
        let held_until = router.clock().monotonic().after_ms(HELD_MS_MAX);
        let Some(bytes) = HeldBytes::take(router, what.bytes()) else {
            if counted {
                self.writes.let_go(keys, None);
            }
            let error = ServerError::new(ErrorCode::Overloaded, "too many requests wait for leaders to be known");
            return self.sink.reply_to(slot, part).fail(error);
        };
        if !counted {
            self.writes.hold(keys);
        }
        let held = HeldPart { job, slot, what, after, until: job.deadline.min(held_until), _bytes: bytes };
        let before = self.held.insert((shard, number, part), held);
        assert!(before.is_none(), "a part is in one place at a time");
    }

    /// A part has come back.
    pub(super) fn take_back(&mut self, slot: usize, part: u32, what: Part, after: Term) {
        let shard = match &what {
            Part::Read { what: What::Scan(scan), .. } => scan.shard,
            Part::Read { what: What::Get { key, .. } | What::GetElsewhere(key), .. } => self.shard_of(key),
            Part::Write { mutation, .. } => self.shard_of(&mutation.key),
            Part::Atomic(request) => {
                let first = request.checks.first().map(|check| &check.key);
                let first = first.or_else(|| request.mutations.first().map(|mutation| &mutation.key));
                first.map_or(ShardId(0), |key| self.shard_of(key))
            }
            Part::Transaction(request) => request.keys().next().map_or(ShardId(0), |key| self.shard_of(key)),
            Part::Await { receipt, .. } => receipt.shard,
        };
        if self.forwards() {
            self.hold(slot, part, shard, what, after, false);
        } else {
            // Whoever has passed it on puts it in order.
            let done = self.pending.remove(slot);
            self.context.meter.abandoned(self.door, 1);
            self.writes.remove(done.writes.keys.as_slice());
            self.returned.push((done.job.origin, what.into_request()));
        }
    }

    /// Sends on what is held and may go, and sees to it that [`Session::collect`] is called when more may.
    pub(super) fn settle_held(&mut self) {
        let mut shards: Vec<ShardId> = self.held.keys().map(|(shard, ..)| *shard).collect();
        shards.dedup();
        for shard in shards {
            self.send_held(shard);
            let last = (shard, u64::MAX, u32::MAX);
            let Some(until) = self.held.range((shard, 0, 0)..=last).map(|(_, held)| held.until).min() else { continue };
            self.context.router.await_leader(shard, &self.sink, until);
            // Who leads may have become known between the two.
            self.send_held(shard);
        }
    }

    /// Sends on what is held of one shard and may go, in order; answers what was held for too long.
    fn send_held(&mut self, shard: ShardId) {
        let router = Arc::clone(&self.context.router);
        let now = router.clock().monotonic();
        let route = router.route(shard);
        let leading = route.term();
        // Keys with something before them that stays here.
        let mut blocked: HashSet<u64> = HashSet::new();
        let all: Vec<_> =
            self.held.range((shard, 0, 0)..=(shard, u64::MAX, u32::MAX)).map(|(place, _)| *place).collect();
        for place in all {
            let held = &self.held[&place];
            let (slot, part, after, until) = (held.slot, place.2, held.after, held.until);
            let read = match &held.what {
                Part::Read { what: What::Get { key, .. } | What::GetElsewhere(key), .. } => Some(hash64(key)),
                _ => None,
            };
            let keys = self.pending[slot].keys_of(part);
            let hashes = || keys.iter().map(|key| key.hash).chain(read);
            let may_go = |term: Term| {
                term > after && hashes().all(|key| !blocked.contains(&key) && self.writes.may_go_on(key, term))
            };
            if let Some(term) = leading.filter(|term| may_go(*term)) {
                // The writes before a read are all on their way to the same leader, or answered.
                let in_order = read.is_some_and(|key| self.writes.contains(key));
                self.writes.let_go(keys, Some(term));
                let Some(HeldPart { job, mut what, .. }) = self.held.remove(&place) else { continue };
                if let Part::Read { in_order: keeps_place, .. } = &mut what {
                    *keeps_place |= in_order;
                }
                self.send_by(&job, slot, part, shard, route.clone(), what);
            } else if until <= now {
                self.writes.let_go(keys, None);
                self.held.remove(&place);
                let detail = format!("no leader of shard {shard} has taken this in time");
                let error = ServerError::new(ErrorCode::Unavailable, detail).with_outcome(Outcome::NotApplied);
                self.sink.reply_to(slot, part).fail(error);
            } else {
                blocked.extend(keys.iter().map(|key| key.hash));
            }
        }
    }
}

impl Part {
    /// As it is passed on.
    pub(super) fn into_request(self) -> RequestBody {
        match self {
            Self::Read { what: What::Get { key, .. } | What::GetElsewhere(key), mode, .. } => {
                RequestBody::Get { key, mode }
            }
            Self::Read { what: What::Scan(scan), .. } => RequestBody::Scan(scan),
            Self::Write { id, ack, mutation } => RequestBody::Write { id, ack, mutation },
            Self::Atomic(request) => RequestBody::Atomic(request),
            Self::Transaction(request) => RequestBody::Transaction(request),
            Self::Await { receipt, wait_ms } => RequestBody::Await { receipt, wait_ms },
        }
    }

    /// What came back, as it was sent.
    pub(super) fn of_returned(returned: Returned, waited: impl FnOnce() -> What) -> (Self, Term) {
        let Returned { operation, term } = returned;
        let read = |what, in_order| Self::Read { what, mode: ReadMode::Linearizable, in_order };
        let part = match operation {
            Operation::Write { id, ack, mutation, .. } => Self::Write { id, ack, mutation },
            Operation::Atomic { request, .. } => Self::Atomic(request),
            Operation::Transaction { request, .. } => Self::Transaction(request),
            Operation::Get(key) => read(What::Get { key, order: None }, true),
            Operation::Confirm => read(waited(), false),
            Operation::Await { receipt, wait_ms } => Self::Await { receipt, wait_ms },
        };
        (part, term)
    }

    /// The same of what another node has returned; `None` if it is nothing that is passed on.
    pub(super) fn of_request(body: RequestBody) -> Option<Self> {
        Some(match body {
            RequestBody::Get { key, mode } => {
                Self::Read { what: What::Get { key, order: None }, mode, in_order: false }
            }
            RequestBody::Scan(scan) => {
                let mode = scan.mode;
                Self::Read { what: What::Scan(scan), mode, in_order: false }
            }
            RequestBody::Write { id, ack, mutation } => Self::Write { id, ack, mutation },
            RequestBody::Atomic(request) => Self::Atomic(request),
            RequestBody::Transaction(request) => Self::Transaction(request),
            RequestBody::Await { receipt, wait_ms } => Self::Await { receipt, wait_ms },
            _ => return None,
        })
    }

    /// About how many bytes it keeps in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Read { what: What::Get { key, .. } | What::GetElsewhere(key), .. } => {
                Operation::OVERHEAD_BYTES + key.len()
            }
            Self::Read { what: What::Scan(scan), .. } => Operation::OVERHEAD_BYTES + scan.prefix.len(),
            Self::Write { mutation, .. } => Operation::mutation_bytes(mutation),
            Self::Atomic(request) => Operation::atomic_bytes(request),
            Self::Transaction(request) => Operation::transaction_bytes(request),
            Self::Await { .. } => Operation::OVERHEAD_BYTES,
        }
    }
}

#[cfg(test)]
mod tests;
