//! Requests as they come in, for whoever watches them: a ring of bounded size, which is filled only while somebody asks for it.

use crate::clock::Nanos;
use bytes::Bytes;
use kvorum_protocol::limits::{AUTH_NAME_BYTES_MAX, MONITORED_KEY_BYTES_MAX, MONITORED_REQUESTS_MAX};
use kvorum_protocol::{MonitorView, Mutation, RequestBody, SeenRequest, TransactionOperation};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// For so long requests are taken down after somebody has asked for them.
pub(crate) const WATCHED_MS: u64 = 3_000;
/// About so many requests per second are taken down: of more, every second one, or every third, and so on.
const TAKEN_PER_SECOND: u64 = 5_000;
/// The shortest time out of which it is told how many requests come in.
const PACED_MS: u64 = 50;
/// Most requests that the ring keeps, and that are taken down between two questions.
const SEEN_MAX: usize = 2 * MONITORED_REQUESTS_MAX;
/// Most bytes that the ring takes, the names of doors and operations included.
const SEEN_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(
    SEEN_MAX * (size_of::<SeenRequest>() + AUTH_NAME_BYTES_MAX + MONITORED_KEY_BYTES_MAX + 64) <= SEEN_BYTES_MAX,
    "the ring is bounded by bytes, too"
);

/// The requests of a node that is watched.
#[derive(Debug)]
pub struct Monitor {
    /// Requests are taken down until then.
    until: AtomicU64,
    /// The number of the request that comes next. One that is taken down gets it under the ring's lock.
    next: AtomicU64,
    /// Requests so far, of which a share is taken down.
    come: AtomicU64,
    /// Of so many requests one is taken down,
    every: AtomicU64,
    /// as long as not so many were since the last question that the ring has turned over: whoever watches is too slow then.
    taken: AtomicU64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// In the order of their numbers. All that were taken down are in it, up to the newest.
    seen: VecDeque<(u64, Arc<SeenRequest>)>,
    /// When it was last told how many come in, and the number of that time.
    paced: (Nanos, u64),
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(0),
            next: AtomicU64::new(0),
            come: AtomicU64::new(0),
            every: AtomicU64::new(1),
            taken: AtomicU64::new(0),
            ring: Mutex::default(),
        }
    }
}

impl Monitor {
    /// Whether somebody watches. Costs a load.
    pub fn is_on(&self, now: Nanos) -> bool {
        now.0 < self.until.load(Ordering::Relaxed)
    }

    /// A request has come in while somebody watches. Returns whether it is to be taken down; else it is counted.
    pub fn takes(&self) -> bool {
        let come = self.come.fetch_add(1, Ordering::Relaxed);
        let takes = come.is_multiple_of(self.every.load(Ordering::Relaxed))
            && self.taken.load(Ordering::Relaxed) < SEEN_MAX as u64;
        if takes {
            self.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.next.fetch_add(1, Ordering::Relaxed);
        }
        takes
    }

    /// Takes a request down, in place of the oldest one if the ring is full. It gets its number here.
    pub fn keep(&self, request: SeenRequest) {
        let request = Arc::new(request);
        let mut ring = self.ring.lock();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let oldest = if ring.seen.len() == SEEN_MAX { ring.seen.pop_front() } else { None };
        ring.seen.push_back((number, request));
        drop(ring);
        drop(oldest);
    }

    /// What has come in from this number on; without one, or with one that is still to come, nothing so far. Requests are taken down
    /// for 3 s from now on. Copies at most [`MONITORED_REQUESTS_MAX`] requests.
    pub fn view(&self, from: Option<u64>, now: Nanos) -> MonitorView {
        let mut ring = self.ring.lock();
        let next = self.next.load(Ordering::Relaxed);
        if self.is_on(now) {
            self.pace(&mut ring, now, next);
        } else {
            *ring = Ring { paced: (now, next), ..Ring::default() };
            self.every.store(1, Ordering::Relaxed);
        }
        self.taken.store(0, Ordering::Relaxed);
        self.until.fetch_max(now.after_ms(WATCHED_MS).0, Ordering::Relaxed);
        let from = from.unwrap_or(next).min(next);
        let first = ring.seen.partition_point(|(number, _)| *number < from);
        let told: Vec<_> = ring.seen.iter().skip(first).take(MONITORED_REQUESTS_MAX).cloned().collect();
        drop(ring);
        // What takes time is done while requests come in again.
        let numbered =
            |(number, request): (u64, Arc<SeenRequest>)| SeenRequest { number, ..Arc::unwrap_or_clone(request) };
        let requests: Vec<_> = told.into_iter().map(numbered).collect();
        let next = match requests.last() {
            Some(last) if requests.len() == MONITORED_REQUESTS_MAX => last.number + 1,
            _ => next,
        };
        MonitorView { next, untold: next - from - requests.len() as u64, requests }
    }

    /// Decides how many requests are taken down from now on.
    fn pace(&self, ring: &mut Ring, now: Nanos, next: u64) {
        let (at, number) = ring.paced;
        let ms = now.0.saturating_sub(at.0) / 1_000_000;
        if ms >= PACED_MS {
            let per_second = (next - number).saturating_mul(1_000) / ms;
            self.every.store(per_second.div_ceil(TAKEN_PER_SECOND).max(1), Ordering::Relaxed);
            ring.paced = (now, next);
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy, Default, Debug)]
pub struct Named<'a> {
    /// The first key, or the prefix of a scan.
    pub key: Option<&'a Bytes>,
    /// How many keys there are.
    pub keys: usize,
    /// Bytes of keys, and of what is to be written.
    pub bytes: usize,
}

impl<'a> Named<'a> {
    /// What a request names.
    pub fn of(body: &'a RequestBody) -> Self {
        let one = |key: &'a Bytes| Self { key: Some(key), keys: 1, bytes: key.len() };
        let many = |all: &mut dyn Iterator<Item = Self>| {
            all.fold(Self::default(), |sum, next| Self {
                key: sum.key.or(next.key),
                keys: sum.keys + next.keys,
                bytes: sum.bytes + next.bytes,
            })
        };
        let written = |mutation: &'a Mutation| Self {
            bytes: mutation.key.len() + mutation.action.operand().len(),
            ..one(&mutation.key)
        };
        match body {
            RequestBody::Get { key, .. } => one(key),
            RequestBody::MultiGet { keys, .. } => many(&mut keys.iter().map(one)),
            RequestBody::Scan(scan) => Self { keys: 0, ..one(&scan.prefix) },
            RequestBody::Write { mutation, .. } => written(mutation),
            RequestBody::Batch { mutations, .. } => many(&mut mutations.iter().map(written)),
            RequestBody::Atomic(atomic) => {
                let checked = atomic.checks.iter().map(|check| one(&check.key));
                many(&mut atomic.mutations.iter().map(written).chain(checked))
            }
            RequestBody::Transaction(transaction) => {
                let named = transaction.operations.iter().flat_map(|operation| -> Box<dyn Iterator<Item = Self>> {
                    match operation {
                        TransactionOperation::Write(mutation) => Box::new(std::iter::once(written(mutation))),
                        operation => Box::new(operation.keys().map(one)),
                    }
                });
                many(&mut named.chain(transaction.checks.iter().map(|check| one(&check.key))))
            }
            RequestBody::Hello(_)
            | RequestBody::Ping(_)
            | RequestBody::Topology
            | RequestBody::Status(_)
            | RequestBody::Explain(_)
            | RequestBody::Await { .. }
            | RequestBody::Auth(_)
            | RequestBody::Admin(_) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(number: u64) -> SeenRequest {
        SeenRequest {
            number,
            at_ms: 0,
            door: "binary".to_owned(),
            user: String::new(),
            operation: "get".to_owned(),
            key: None,
            key_bytes: 0,
            keys: 0,
            bytes: 0,
        }
    }

    fn come_in(monitor: &Monitor, requests: u64) {
        (0..requests).filter(|_| monitor.takes()).for_each(|_| monitor.keep(seen(0)));
    }

    #[test]
    fn requests_are_told_while_somebody_asks() {
        let monitor = Monitor::default();
        assert!(!monitor.is_on(Nanos(1)));
        let first = monitor.view(None, Nanos(1));
        assert_eq!((first.next, first.untold, first.requests.len()), (0, 0, 0));
        assert!(monitor.is_on(Nanos(2_999 * MS)));
        come_in(&monitor, 3);
        let then = monitor.view(Some(first.next), Nanos(50 * MS));
        assert_eq!((then.next, then.untold), (3, 0));
        assert_eq!(then.requests, [seen(0), seen(1), seen(2)]);
        assert!(!monitor.is_on(Nanos(3_051 * MS)), "nobody has asked for 3 s");
        let again = monitor.view(Some(99), Nanos(9_000 * MS));
        assert_eq!((again.next, again.untold, again.requests.len()), (3, 0, 0), "a number that is still to come");
    }

    #[test]
    fn whoever_asks_once_has_only_as_many_taken_down_as_the_ring_holds() {
        let monitor = Monitor::default();
        monitor.view(None, Nanos(0));
        let taken = |requests: u64| (0..requests).filter(|_| monitor.takes()).count();
        assert_eq!((taken(1_000_000), taken(1_000)), (SEEN_MAX, 0));
        monitor.view(None, Nanos(MS));
        assert_eq!(taken(10), 10, "he asks again");
    }

    #[test]
    fn of_too_many_a_share_is_told_and_the_rest_counted() {
        let monitor = Monitor::default();
        monitor.view(None, Nanos(0));
        // 50,000 requests in a second: the ring is full soon, and an answer holds half of it.
        come_in(&monitor, 50_000);
        let first = monitor.view(Some(0), Nanos(1_000 * MS));
        assert_eq!((first.requests.len(), first.untold, first.next), (MONITORED_REQUESTS_MAX, 0, 1_024));
        let second = monitor.view(Some(first.next), Nanos(1_000 * MS));
        assert_eq!((second.requests.len(), second.untold, second.next), (MONITORED_REQUESTS_MAX, 0, 2_048));
        let rest = monitor.view(Some(second.next), Nanos(1_000 * MS));
        assert_eq!((rest.requests.len(), rest.untold, rest.next), (0, 47_952, 50_000));
        // From here on every tenth is taken down.
        come_in(&monitor, 5_000);
        let share = monitor.view(Some(rest.next), Nanos(1_100 * MS));
        assert_eq!((share.requests.len(), share.untold, share.next), (500, 4_500, 55_000));
        assert!(share.requests.windows(2).all(|pair| pair[1].number == pair[0].number + 10));
        // It is quiet again.
        monitor.view(Some(55_000), Nanos(2_500 * MS));
        come_in(&monitor, 2);
        let quiet = monitor.view(Some(55_000), Nanos(2_550 * MS));
        assert_eq!((quiet.requests.len(), quiet.untold), (2, 0));
    }
}
