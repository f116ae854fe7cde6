//! Who holds how much of a shard's queue, and what each client may hold of it.
//!
//! A queue that takes whatever comes first belongs to whoever sends most at once: two clients with one BATCH each could
//! keep everybody else out. So a client may hold as much as is left free (Choudhury and Hahne, *Dynamic queue length thresholds for
//! shared-memory packet switches*, 1998): alone, half of the queue; beside another one, a third; and a part always stays free
//! for the next one to come. What is reserved besides is for clients that hold next to nothing, so that they get in
//! however many others there are that want all they can get.
//!
//! A client is who sends and who is passed on by another node, so it is counted once, whichever way its requests come.

use super::inbox::QueueLimits;
use crate::seeded::{Bug, planted};
use hashbrown::HashMap;
use kvorum_protocol::ClientId;

/// Memory for so many clients is kept while none waits.
const KEPT_CLIENTS_MAX: usize = 1024;

/// Requests, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// How many.
    pub requests: usize,
    /// Their bytes, as [`super::Operation::bytes`] counts them.
    pub bytes: usize,
}

/// What is held of one shard's queue: all unanswered requests, those included that a turn has taken.
#[derive(Debug, Default)]
pub(super) struct Shares {
    total: Held,
    clients: HashMap<ClientId, Held>,
}

impl Shares {
    /// What all clients hold.
    pub(super) fn total(&self) -> Held {
        self.total
    }

    /// The most that any client holds, of requests and of bytes.
    pub(super) fn largest(&self) -> Held {
        let most = |of: fn(&Held) -> usize| self.clients.values().map(of).max().unwrap_or(0);
        Held { requests: most(|held| held.requests), bytes: most(|held| held.bytes) }
    }

    /// Whether a client that sends a request of so many bytes holds next to nothing, that request included.
    pub(super) fn is_light(&self, limits: &QueueLimits, client: ClientId, bytes: usize) -> bool {
        let held = self.clients.get(&client).copied().unwrap_or_default();
        held.requests < limits.light_requests && held.bytes + bytes <= limits.light_bytes
    }

    /// Whether there is room for another request of a client. An empty queue takes one of any size.
    pub(super) fn has_room(&self, limits: &QueueLimits, client: ClientId, bytes: usize) -> bool {
        let total = self.total;
        if total.requests >= limits.requests || (total.bytes > 0 && total.bytes + bytes > limits.requests_bytes) {
            return false;
        }
        if self.is_light(limits, client, bytes) || planted(Bug::QueueSharesIgnored) {
            return true;
        }
        let held = self.clients.get(&client).copied().unwrap_or_default();
        let free = limits.requests.saturating_sub(limits.reserved_requests + total.requests);
        let free_bytes = limits.requests_bytes.saturating_sub(limits.reserved_bytes + total.bytes);
        // A few large requests are to fit: of bytes one may hold twice what is left.
        held.requests < free && (total.bytes == 0 || held.bytes + bytes <= 2 * free_bytes)
    }

    /// A client's request is in the queue.
    pub(super) fn take(&mut self, client: ClientId, bytes: usize) {
        self.total.requests += 1;
        self.total.bytes += bytes;
        let held = self.clients.entry(client).or_default();
        held.requests += 1;
        held.bytes += bytes;
    }

    /// A client's request is answered.
    pub(super) fn release(&mut self, client: ClientId, bytes: usize) {
        self.total.requests -= 1;
        self.total.bytes -= bytes;
        let held = self.clients.get_mut(&client).expect("what is answered was counted");
        held.requests -= 1;
        held.bytes -= bytes;
        if held.requests == 0 {
            self.clients.remove(&client);
            if self.clients.is_empty() && self.clients.capacity() > 2 * KEPT_CLIENTS_MAX {
                self.clients = HashMap::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn client(number: u128) -> ClientId {
        ClientId(Uuid::from_u128(number))
    }

    /// How many requests of so many bytes a client gets in, of so many.
    fn sends(shares: &mut Shares, number: u128, count: usize, bytes: usize) -> usize {
        let limits = QueueLimits::default();
        (0..count)
            .filter(|_| {
                let fits = shares.has_room(&limits, client(number), bytes);
                if fits {
                    shares.take(client(number), bytes);
                }
                fits
            })
            .count()
    }

    #[test]
    fn a_lone_batch_fits_and_several_leave_room_for_the_next_client() {
        const BATCH: usize = kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
        let mut shares = Shares::default();
        assert_eq!(sends(&mut shares, 0, BATCH, 300), BATCH, "a BATCH alone");
        assert_eq!(sends(&mut shares, 1, BATCH, 300), BATCH / 2, "half of what is left");
        for number in 2..40 {
            sends(&mut shares, number, BATCH, 300);
        }
        for number in 40..80 {
            assert_eq!(sends(&mut shares, number, 5, 300), 5, "client {number} sends a few requests");
        }
        let limits = QueueLimits::default();
        assert!(shares.total().requests <= limits.requests);
        assert_eq!(sends(&mut shares, 0, 1, 300), 0, "who holds most waits");
        assert_eq!(shares.largest(), Held { requests: BATCH, bytes: BATCH * 300 });
    }

    #[test]
    fn large_values_leave_room_for_small_ones() {
        const VALUE: usize = 16 << 20;
        let mut shares = Shares::default();
        assert_eq!(sends(&mut shares, 0, 10, VALUE + 300), 3);
        assert_eq!(sends(&mut shares, 1, 10, VALUE + 300), 0);
        assert_eq!(sends(&mut shares, 1, 10, 1 << 20), 8, "twice what is left");
        assert_eq!(sends(&mut shares, 2, 10, 300), 10);
        (0..3).for_each(|_| shares.release(client(0), VALUE + 300));
        assert_eq!(sends(&mut shares, 1, 1, VALUE + 300), 1);
    }

    #[test]
    fn an_empty_queue_takes_any_size_and_forgets_who_left() {
        let mut shares = Shares::default();
        assert_eq!(sends(&mut shares, 0, 2, 1 << 40), 1);
        shares.release(client(0), 1 << 40);
        assert_eq!((shares.total(), shares.clients.len()), (Held::default(), 0));
        assert_eq!(sends(&mut shares, 0, 1, 300), 1);
    }
}
