//! Who holds how much of a shard's queue, and what each client may hold of it.
//!
//! A queue that takes whatever comes first belongs to whoever sends most at once: two clients with one BATCH each could
//! keep everybody else out. So a client may hold as much as is left free (Choudhury and Hahne, *Dynamic queue length thresholds for
//! shared-memory packet switches*, 1998): alone, half of the queue; beside another one, a third; and a part always stays free
//! for the next one to come. What is reserved besides is for clients that hold next to nothing, so that they get in
//! however many others there are that want all they can get.
//!
//! A client is who sends and who is passed on by another node, so it is counted once, whichever way its requests come.
//!
//! It is heavy once it holds more than a part of an entry, and a little longer; others are light. While there are both, entries
//! are kept short: see [`super::backlog`]. Clients that are all alike have whole entries.

use super::inbox::QueueLimits;
use crate::clock::Nanos;
use crate::seeded::{Bug, planted};
use hashbrown::HashMap;
use kvorum_protocol::ClientId;

/// Memory for so many clients is kept while none waits.
const KEPT_CLIENTS_MAX: usize = 1024;

/// A client is heavy until so long after it held more than a part of an entry, and light clients are there until so long after
/// one of them asked.
const SHARED_LINGER_MS: u64 = 100;
/// So many heavy clients are remembered. One that is forgotten counts as light until its next request: entries are short then.
const HEAVY_CLIENTS_MAX: usize = 16;

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
    /// Clients that are heavy, and until when.
    heavy: Vec<(ClientId, Nanos)>,
    /// The light client that asked last, and when it is forgotten.
    light: Option<(ClientId, Nanos)>,
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

    /// A client's request is in the queue. Returns what the client holds with it.
    pub(super) fn take(&mut self, client: ClientId, bytes: usize) -> Held {
        self.total.requests += 1;
        self.total.bytes += bytes;
        let held = self.clients.entry(client).or_default();
        held.requests += 1;
        held.bytes += bytes;
        *held
    }

    /// A client whose request was taken at `now`, and that holds so much with it, is heavy or light.
    pub(super) fn weigh(&mut self, part: Held, client: ClientId, held: Held, now: Nanos) {
        let until = now.after_ms(SHARED_LINGER_MS);
        let is_heavy = held.requests > part.requests || held.bytes > part.bytes;
        match self.heavy.iter_mut().find(|(heavy, until)| *heavy == client && *until > now) {
            Some((_, known_until)) if is_heavy => *known_until = until,
            Some(_) => {}
            None if is_heavy => {
                self.heavy.retain(|(_, until)| *until > now);
                if self.heavy.len() == HEAVY_CLIENTS_MAX {
                    self.heavy.remove(0);
                }
                self.heavy.push((client, until));
                // What it sent first did not show yet what it is.
                self.light = self.light.filter(|(light, _)| *light != client);
            }
            None => self.light = Some((client, until)),
        }
    }

    /// Until when a heavy client shares the shard with a light one, as far as is known.
    pub(super) fn shared_until(&self) -> Nanos {
        let heavy = self.heavy.iter().map(|(_, until)| *until).max();
        heavy.zip(self.light).map_or(Nanos(0), |(heavy, (_, light))| heavy.min(light))
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

    /// A client sends so many requests at some millisecond, which are answered at once.
    fn bursts(shares: &mut Shares, number: u128, count: usize, at_ms: u64) {
        let part = Held { requests: 10, bytes: 10_000 };
        for _ in 0..count {
            let held = shares.take(client(number), 10);
            shares.weigh(part, client(number), held, Nanos(0).after_ms(at_ms));
        }
        (0..count).for_each(|_| shares.release(client(number), 10));
    }

    #[test]
    fn clients_share_a_shard_while_one_is_heavy_and_another_light() {
        let mut shares = Shares::default();
        let shared_until = |shares: &Shares| shares.shared_until().ms();
        bursts(&mut shares, 1, 5, 1_000);
        bursts(&mut shares, 2, 5, 1_000);
        assert_eq!(shared_until(&shares), 0, "both are light");
        bursts(&mut shares, 3, 20, 1_010);
        assert_eq!(shared_until(&shares), 0, "nobody else has asked since it was taken for a light one");
        bursts(&mut shares, 1, 1, 1_020);
        assert_eq!(shared_until(&shares), 1_110, "the heavy one is forgotten then");
        bursts(&mut shares, 3, 20, 1_050);
        assert_eq!(shared_until(&shares), 1_120, "and the light one then");
        bursts(&mut shares, 3, 20, 1_300);
        assert!(shared_until(&shares) <= 1_300, "a heavy client alone: what it sends first does not count");
        bursts(&mut shares, 4, 20, 1_310);
        bursts(&mut shares, 3, 20, 1_320);
        assert!(shared_until(&shares) <= 1_320, "two heavy ones");
        bursts(&mut shares, 3, 1, 1_350);
        assert!(shared_until(&shares) <= 1_350, "a heavy client stays one for a while, whatever it sends");
        let large = Held { requests: 10, bytes: 9 };
        let held = shares.take(client(5), 10);
        shares.weigh(large, client(5), held, Nanos(0).after_ms(1_360));
        bursts(&mut shares, 6, 1, 1_360);
        assert_eq!(shared_until(&shares), 1_460, "heavy by bytes");
        (0..100).for_each(|number| bursts(&mut shares, 100 + number, 20, 1_370));
        assert_eq!(shares.heavy.len(), HEAVY_CLIENTS_MAX);
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
