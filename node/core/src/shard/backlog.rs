//! Requests that a leader has taken and not yet put into an entry.
//!
//! While all of them fit the next entry they stay in the order in which they came. Past that, clients take turns, so that nobody
//! waits behind all that somebody else has sent: start-time fair queueing (Goyal, Vin and Cheng, 1996), by bytes, each request
//! having a fixed cost besides ([`super::Operation::bytes`]). Requests of one client keep their order in any case.
//!
//! Turns are not enough: who asks for little waits for the entry that is on its way, and then for its own. An entry of
//! thousands of writes of one client takes as long as all of them. So while a heavy client shares the shard with a light one,
//! see [`super::shares`], each client has a part of an entry at most.

use super::shares::Held;
use super::{ShardRequest, Ticket};
use crate::seeded::{Bug, planted};
use hashbrown::HashMap;
use kvorum_protocol::ClientId;
use std::collections::{BTreeMap, VecDeque};

/// An entry is closed once it holds this many bytes.
pub(super) const ENTRY_BYTES: usize = 1024 * 1024;
/// An entry is closed once it holds this many records.
const ENTRY_RECORDS: usize = 2048;
/// While a heavy client shares a shard with a light one, no client has more requests than this in an entry. Measured with
/// three nodes on two cores: 64 instead of 256 cuts the light client's p99 to a half, and the heavy one's writes by a third.
const ENTRY_PART_REQUESTS: usize = 64;
/// Nor has it more bytes than this and one request.
const ENTRY_PART_BYTES: usize = 128 * 1024;

/// An entry is closed once it holds as much. The defaults are production's; a simulation, whose clients are few, has smaller ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryLimits {
    /// Bytes.
    pub bytes: usize,
    /// Records.
    pub records: usize,
    /// What one client may have in it while clients share the shard.
    pub part: Held,
}

impl Default for EntryLimits {
    fn default() -> Self {
        Self {
            bytes: ENTRY_BYTES,
            records: ENTRY_RECORDS,
            part: Held { requests: ENTRY_PART_REQUESTS, bytes: ENTRY_PART_BYTES },
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    limits: EntryLimits,
    /// It was taken, and comes next.
    put_back: Option<ShardRequest>,
    /// In the order in which they came; empty while there are lanes.
    queue: VecDeque<ShardRequest>,
    lanes: Lanes,
    requests: usize,
    bytes: usize,
    /// A heavy client shares the shard with a light one.
    is_shared: bool,
}

impl Backlog {
    /// Entries have these bounds from now on.
    pub(super) fn set_limits(&mut self, limits: EntryLimits) {
        self.limits = limits;
    }

    /// The bounds of an entry.
    pub(super) fn limits(&self) -> EntryLimits {
        self.limits
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    /// About how many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// None waits.
    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Takes a request.
    pub(super) fn push(&mut self, request: ShardRequest) {
        self.requests += 1;
        self.bytes += request.operation.bytes();
        if !self.lanes.is_empty() {
            return self.lanes.push(request);
        }
        self.queue.push_back(request);
        let EntryLimits { bytes, records, part } = self.limits;
        let (bytes, requests) = if self.is_shared { (part.bytes, part.requests) } else { (bytes, records) };
        if self.requests > requests || self.bytes > bytes {
            self.queue.drain(..).for_each(|request| self.lanes.push(request));
        }
    }

    /// Whether a heavy client shares the shard with a light one, until this is called again.
    pub(super) fn set_shared(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
    }

    /// An entry is begun; what is taken from here on is for it.
    pub(super) fn begin_entry(&mut self) {
        let all = Held { requests: usize::MAX, bytes: usize::MAX };
        self.lanes.begin_entry(if self.is_shared { self.limits.part } else { all });
    }

    /// The entry is closed. Clients that had their part of it ask for the next one.
    pub(super) fn end_entry(&mut self) {
        self.lanes.end_entry();
    }

    /// The request that was taken last comes next.
    pub(super) fn put_back(&mut self, request: ShardRequest) {
        self.requests += 1;
        self.bytes += request.operation.bytes();
        let before = self.put_back.replace(request);
        assert!(before.is_none(), "it would have been taken first");
    }

    /// A request was put back.
    pub(super) fn has_put_back(&self) -> bool {
        self.put_back.is_some()
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<ShardRequest> {
        let put_back = self.put_back.take().or_else(|| self.queue.pop_front());
        let request = put_back.or_else(|| self.lanes.pop())?;
        self.requests -= 1;
        self.bytes -= request.operation.bytes();
        Some(request)
    }

    /// What was taken last turned out to cost so many bytes, of which those of the request were counted already: the next ones of its
    /// client wait for as long.
    pub(super) fn charge(&mut self, client: ClientId, bytes: usize) {
        self.lanes.charge(client, bytes as u64);
    }

    /// Of each client that waits the oldest request; the oldest of all is among them. Nothing is allocated.
    pub(super) fn oldest(&self) -> impl Iterator<Item = Ticket> {
        let fronts = self.lanes.lanes.values().filter_map(|lane| lane.requests.front());
        self.put_back.iter().chain(self.queue.front()).chain(fronts).map(|request| request.ticket)
    }

    /// Keeps those requests only.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&ShardRequest) -> bool) {
        let (requests, bytes) = (&mut self.requests, &mut self.bytes);
        let mut keep = |request: &ShardRequest| {
            let keeps = keep(request);
            if !keeps {
                *requests -= 1;
                *bytes -= request.operation.bytes();
            }
            keeps
        };
        self.put_back = self.put_back.take().filter(&mut keep);
        self.queue.retain(&mut keep);
        self.lanes.retain(keep);
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = ShardRequest> {
        (self.requests, self.bytes) = (0, 0);
        let lanes = std::mem::take(&mut self.lanes).lanes.into_values();
        let put_back = self.put_back.take().into_iter();
        put_back.chain(std::mem::take(&mut self.queue)).chain(lanes.flat_map(|lane| lane.requests))
    }

    /// How far the clients that wait are apart in what they were given since they began to, and how far they may be: twice the
    /// largest request that one of them was given.
    pub(super) fn unfairness(&self) -> (u64, u64) {
        let starts = || self.lanes.lanes.keys().map(|(start, _)| *start);
        let apart = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
        (apart, 2 * self.lanes.largest)
    }

    /// The most requests that a client took turns for in the newest entry, and the most that it might.
    pub(super) fn largest_part(&self) -> (usize, usize) {
        (self.lanes.largest_part, self.lanes.part.requests)
    }
}

/// The requests of one client.
#[derive(Debug, Default)]
struct Lane {
    requests: VecDeque<ShardRequest>,
    /// The entry that it has something in,
    entry: u64,
    /// and what.
    taken: Held,
}

impl Lane {
    fn take(&mut self, entry: u64, requests: usize, bytes: u64) {
        if self.entry != entry {
            (self.entry, self.taken) = (entry, Held::default());
        }
        self.taken.requests += requests;
        self.taken.bytes += bytes as usize;
    }
}

/// The clients that wait, the one whose turn is next first.
#[derive(Debug, Default)]
struct Lanes {
    /// By what each has been given, in bytes of virtual time, and when it was given the last.
    lanes: BTreeMap<(u64, u64), Lane>,
    places: HashMap<ClientId, (u64, u64)>,
    /// The start of the request that was taken last: who comes now begins there, and has missed nothing.
    now: u64,
    /// Tells apart those that are level: the one that waits longer goes first.
    next: u64,
    /// Of the requests that were taken.
    largest: u64,
    /// What the last of them counted for when it was taken.
    counted: u64,
    /// The number of the entry that is made, or was last.
    entry: u64,
    /// What a client may have in it.
    part: Held,
    /// The most requests that one of them has in it.
    largest_part: usize,
    /// Clients that have it; empty between entries.
    resting: Vec<((u64, u64), Lane)>,
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    fn push(&mut self, request: ShardRequest) {
        let (now, next) = (self.now, &mut self.next);
        let place = *self.places.entry(request.client).or_insert_with(|| {
            *next += 1;
            (now, *next)
        });
        self.lanes.entry(place).or_default().requests.push_back(request);
    }

    fn pop(&mut self) -> Option<ShardRequest> {
        let starves = planted(Bug::LaneStarves);
        let (place, mut lane) = if starves { self.lanes.pop_last()? } else { self.lanes.pop_first()? };
        let request = lane.requests.pop_front().expect("a client without requests has no lane");
        let cost = request.operation.bytes() as u64;
        self.now = self.now.max(place.0);
        self.largest = self.largest.max(cost);
        self.counted = cost;
        lane.take(self.entry, 1, cost);
        self.largest_part = self.largest_part.max(lane.taken.requests);
        if lane.requests.is_empty() {
            self.places.remove(&request.client);
        } else {
            self.next += 1;
            self.keep(request.client, (place.0 + cost, self.next), lane);
        }
        Some(request)
    }

    /// A client's lane belongs there from now on, unless the client has its part of the entry.
    fn keep(&mut self, client: ClientId, place: (u64, u64), lane: Lane) {
        self.places.insert(client, place);
        let has_its_part = lane.taken.requests >= self.part.requests || lane.taken.bytes >= self.part.bytes;
        if has_its_part && !planted(Bug::EntryPartIgnored) {
            self.resting.push((place, lane));
        } else {
            self.lanes.insert(place, lane);
        }
    }

    fn charge(&mut self, client: ClientId, bytes: u64) {
        let more = bytes.saturating_sub(std::mem::replace(&mut self.counted, bytes));
        let Some(place) = self.places.get(&client).copied().filter(|_| more > 0) else { return };
        self.largest = self.largest.max(bytes);
        let after = (place.0 + more, place.1);
        if let Some((place, _)) = self.resting.iter_mut().find(|(resting, _)| *resting == place) {
            *place = after;
            self.places.insert(client, after);
            return;
        }
        let mut lane = self.lanes.remove(&place).expect("both know the same places");
        lane.take(self.entry, 0, more);
        self.keep(client, after, lane);
    }

    fn begin_entry(&mut self, part: Held) {
        self.entry += 1;
        self.part = part;
        self.largest_part = 0;
    }

    /// What an entry had no part for is not owed later, or who comes next would wait for it: a lane goes on where the others are.
    fn end_entry(&mut self) {
        for (place, lane) in self.resting.drain(..) {
            let client = lane.requests.front().expect("a lane that rests has requests").client;
            let place = (place.0.max(self.now), place.1);
            self.places.insert(client, place);
            self.lanes.insert(place, lane);
        }
        if self.lanes.is_empty() {
            // The memory that a burst has left goes, too.
            let Self { entry, part, largest_part, .. } = *self;
            *self = Self { entry, part, largest_part, ..Self::default() };
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&ShardRequest) -> bool) {
        let places = &mut self.places;
        self.lanes.retain(|_, lane| {
            let Some(client) = lane.requests.front().map(|request| request.client) else { return false };
            lane.requests.retain(&mut keep);
            let keeps = !lane.requests.is_empty();
            if !keeps {
                places.remove(&client);
            }
            keeps
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;
    use crate::shard::Operation;
    use bytes::Bytes;
    use uuid::Uuid;

    fn request(client: u128, number: u64, bytes: usize) -> ShardRequest {
        ShardRequest {
            ticket: Ticket(number),
            client: ClientId(Uuid::from_u128(client)),
            deadline: Nanos(u64::MAX),
            term: kvorum_protocol::Term(0),
            operation: Operation::Get(Bytes::from(vec![0; bytes])),
        }
    }

    fn backlog(requests: impl IntoIterator<Item = ShardRequest>) -> Backlog {
        let mut backlog = Backlog::default();
        backlog.set_limits(EntryLimits { bytes: 100_000, records: 100, part: Held { requests: 10, bytes: 20_000 } });
        requests.into_iter().for_each(|request| backlog.push(request));
        backlog.begin_entry();
        backlog
    }

    fn popped(backlog: &mut Backlog) -> Vec<(u128, u64)> {
        std::iter::from_fn(|| backlog.pop()).map(|request| (request.client.0.as_u128(), request.ticket.0)).collect()
    }

    #[test]
    fn what_fits_an_entry_keeps_the_order_in_which_it_came() {
        let mut backlog = backlog((0..100).map(|number| request(u128::from(number % 3), number, 10)));
        assert!(popped(&mut backlog).iter().map(|(_, number)| *number).eq(0..100));
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }

    #[test]
    fn past_an_entry_clients_take_turns_and_each_keeps_its_order() {
        let many = (0..1_000).map(|number| request(1, number, 10));
        let large = (1_000..1_010).map(|number| request(2, number, 50_000));
        let mut backlog = backlog(many.chain(large).chain([request(3, 2_000, 10)]));
        let order = popped(&mut backlog);
        let of = |client| order.iter().filter(move |(of, _)| *of == client).map(|(_, number)| *number);
        assert!(of(1).eq(0..1_000) && of(2).eq(1_000..1_010));
        let at = |number| order.iter().position(|(_, of)| *of == number).unwrap();
        assert!(at(2_000) < 3, "one request waits for no more than one of each other client");
        let small_before = order[..at(1_002)].iter().filter(|(client, _)| *client == 1).count();
        assert!((300..=420).contains(&small_before), "as many bytes of the one as of the other: {small_before}");
    }

    #[test]
    fn who_comes_later_is_neither_ahead_nor_behind_for_it() {
        let mut backlog = backlog((0..1_000).map(|number| request(1, number, 10)));
        (0..500).for_each(|_| assert_eq!(backlog.pop().unwrap().client.0.as_u128(), 1));
        (1_000..1_100).for_each(|number| backlog.push(request(2, number, 10)));
        let next: Vec<_> = popped(&mut backlog).into_iter().take(100).collect();
        assert_eq!(next.iter().filter(|(client, _)| *client == 2).count(), 50);
    }

    #[test]
    fn a_client_pays_for_what_its_requests_turn_out_to_cost() {
        let small = (0..1_000).flat_map(|number| [request(1, number, 10), request(2, 1_000 + number, 10)]);
        let mut backlog = backlog(small);
        let mut order = Vec::new();
        while let Some(request) = backlog.pop() {
            let client = request.client.0.as_u128();
            order.push(client);
            // Those of the one have large values read.
            backlog.charge(request.client, if client == 1 { 10_000 } else { 0 });
        }
        let first_done = order.iter().rposition(|client| *client == 2).unwrap();
        let expensive = order[..first_done].iter().filter(|client| **client == 1).count();
        assert!(expensive < 60, "{expensive} expensive requests went before those of the other client");
    }

    /// The requests of the next entry, and whose they are.
    fn next_entry(backlog: &mut Backlog) -> Vec<(u128, u64)> {
        backlog.begin_entry();
        let entry = popped(backlog);
        backlog.end_entry();
        entry
    }

    #[test]
    fn while_clients_share_the_shard_each_has_a_part_of_an_entry() {
        let mut backlog = backlog([]);
        backlog.set_shared(true);
        (0..50).for_each(|number| backlog.push(request(1, number, 10)));
        (100..103).for_each(|number| backlog.push(request(2, number, 10)));
        (200..205).for_each(|number| backlog.push(request(3, number, 9_000)));
        let of = |entry: &[(u128, u64)], client| entry.iter().filter(|(of, _)| *of == client).count();
        let first = next_entry(&mut backlog);
        assert_eq!([1, 2, 3].map(|client| of(&first, client)), [10, 3, 3], "by requests, and by bytes");
        // Who comes now waits for nothing that others had no part for.
        backlog.push(request(4, 300, 10));
        let second = next_entry(&mut backlog);
        assert_eq!([1, 3, 4].map(|client| of(&second, client)), [10, 2, 1]);
        assert!(second.iter().position(|(client, _)| *client == 4).unwrap() < 3);
        assert!(backlog.unfairness().0 <= backlog.unfairness().1);
        backlog.set_shared(false);
        assert!(next_entry(&mut backlog).iter().map(|(_, number)| *number).eq(20..50), "alone it has all, in order");
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_a_request_turns_out_to_cost_counts_for_its_clients_part() {
        let mut backlog = backlog([]);
        backlog.set_shared(true);
        (0..40).for_each(|number| backlog.push(request(u128::from(number % 2), number, 10)));
        backlog.begin_entry();
        let mut taken = Vec::new();
        while let Some(request) = backlog.pop() {
            let client = request.client.0.as_u128();
            backlog.charge(request.client, if client == 1 { 15_000 } else { 0 });
            taken.push(client);
        }
        backlog.end_entry();
        assert_eq!([0, 1].map(|client| taken.iter().filter(|of| **of == client).count()), [10, 2]);
        assert_eq!(backlog.len(), 28);
    }

    #[test]
    fn what_is_dropped_counts_no_longer() {
        for records in [0..50, 0..500] {
            let mut backlog = backlog(records.map(|number| request(u128::from(number % 5), number, 10)));
            let before = backlog.len();
            backlog.retain(|request| request.client.0.as_u128() == 4);
            assert_eq!(backlog.len(), before / 5);
            assert_eq!(backlog.oldest().collect::<Vec<_>>(), [Ticket(4)]);
            backlog.push(request(0, 900, 10));
            assert_eq!(backlog.drain().count(), before / 5 + 1);
            assert!((backlog.len(), backlog.bytes(), backlog.pop().is_none()) == (0, 0, true));
        }
    }
}
