//! Requests that a leader has taken and not yet put into an entry.
//!
//! While all of them fit the next entry they stay in the order in which they came. Past that, clients take turns, so that nobody
//! waits behind all that somebody else has sent: start-time fair queueing (Goyal, Vin and Cheng, 1996), by bytes, each request
//! having a fixed cost besides ([`super::Operation::bytes`]). Requests of one client keep their order in any case.

use super::{ENTRY_BYTES, ENTRY_RECORDS, ShardRequest, Ticket};
use crate::seeded::{Bug, planted};
use hashbrown::HashMap;
use kvorum_protocol::ClientId;
use std::collections::{BTreeMap, VecDeque};

/// An entry is closed once it holds as much. The defaults are production's; a simulation, whose clients are few, has smaller ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryLimits {
    /// Bytes.
    pub bytes: usize,
    /// Records.
    pub records: usize,
}

impl Default for EntryLimits {
    fn default() -> Self {
        EntryLimits { bytes: ENTRY_BYTES, records: ENTRY_RECORDS }
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
        if self.requests > self.limits.records || self.bytes > self.limits.bytes {
            self.queue.drain(..).for_each(|request| self.lanes.push(request));
        }
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
}

/// The requests of one client.
#[derive(Debug, Default)]
struct Lane {
    requests: VecDeque<ShardRequest>,
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
        if lane.requests.is_empty() {
            self.places.remove(&request.client);
        } else {
            self.next += 1;
            let place = (place.0 + cost, self.next);
            self.places.insert(request.client, place);
            self.lanes.insert(place, lane);
        }
        if self.lanes.is_empty() {
            *self = Lanes::default();
        }
        Some(request)
    }

    fn charge(&mut self, client: ClientId, bytes: u64) {
        let more = bytes.saturating_sub(std::mem::replace(&mut self.counted, bytes));
        let Some(place) = self.places.get_mut(&client).filter(|_| more > 0) else { return };
        let lane = self.lanes.remove(place).expect("both know the same places");
        place.0 += more;
        self.lanes.insert(*place, lane);
        self.largest = self.largest.max(bytes);
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
        backlog.set_limits(EntryLimits { bytes: 100_000, records: 100 });
        requests.into_iter().for_each(|request| backlog.push(request));
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
