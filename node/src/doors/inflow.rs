//! The memory for long messages that come in, shared by all connections.
//!
//! A connection may hold [`LARGE_FRAME_BYTES`] of what is not whole yet. For more it takes its share in steps, as the bytes come:
//! to announce much costs the sender as little as the node. If there is nothing left, or the client's address has its part
//! already, the connection stops reading, and goes on with all its other work.
//!
//! Shares that only grow could all wait for each other. So one connection at a time, whose turn it is, may take what it needs
//! to make its message whole, beyond all bounds but its own, and must be quick about it.

use kvorum_core::auth::gate::network_of;
use kvorum_core::limits::{
    FINISH_TIMEOUT, INFLOW_STEP_BYTES, LARGE_FRAME_BYTES, LARGE_FRAMES_ADDRESS_BYTES_MAX, LARGE_FRAMES_BYTES_MAX,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What the connections of a door share.
#[derive(Debug)]
pub struct Inflow {
    /// A permit is a step.
    steps: Arc<Semaphore>,
    /// Has one permit: the turn to finish.
    turn: Arc<Semaphore>,
    /// Steps that the clients of each address hold; none of those that hold nothing.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Inflow {
    /// All of it, free.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            steps: Arc::new(Semaphore::new(LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES)),
            turn: Arc::new(Semaphore::new(1)),
            by_address: Mutex::default(),
        })
    }

    /// Nothing, to begin with, of a connection from `address`.
    pub fn share(self: &Arc<Self>, address: IpAddr) -> Share {
        // Whoever has a network of IPv6 has all of its addresses.
        let address = network_of(address);
        Share { inflow: Arc::clone(self), address, steps: None, turn: None, waiting: None }
    }

    fn is_within_part(&self, address: IpAddr) -> bool {
        let held = self.by_address.lock().get(&address).copied().unwrap_or(0);
        held < LARGE_FRAMES_ADDRESS_BYTES_MAX / INFLOW_STEP_BYTES
    }

    fn note(&self, address: IpAddr, steps: usize) {
        *self.by_address.lock().entry(address).or_default() += steps;
    }

    fn forget(&self, address: IpAddr, steps: usize) {
        let mut by_address = self.by_address.lock();
        let held = by_address.get_mut(&address).expect("what is given back was noted");
        *held -= steps;
        if *held == 0 {
            by_address.remove(&address);
        }
    }
}

/// What a connection that waited gets.
enum Granted {
    Step(OwnedSemaphorePermit),
    Turn(OwnedSemaphorePermit),
}

/// The part that one connection has. Given back when it is dropped.
pub struct Share {
    inflow: Arc<Inflow>,
    address: IpAddr,
    steps: Option<OwnedSemaphorePermit>,
    /// It is this connection's turn to finish, since then.
    turn: Option<(OwnedSemaphorePermit, Instant)>,
    /// Kept from one look to the next: it has a place in a queue.
    waiting: Option<Pin<Box<dyn Future<Output = Granted> + Send>>>,
}

impl Share {
    /// Whether a connection that holds so many bytes may take more in. Takes another step if need be; if there is none,
    /// [`Share::granted`] tells when it is worth asking again.
    pub fn covers(&mut self, held: usize) -> bool {
        if held < LARGE_FRAME_BYTES {
            // Between two messages: what the last one took goes back.
            self.give_back();
            return true;
        }
        if held < LARGE_FRAME_BYTES + self.held_steps() * INFLOW_STEP_BYTES || self.turn.is_some() {
            return true;
        }
        if self.waiting.is_some() {
            return false;
        }
        let is_within_part = self.inflow.is_within_part(self.address);
        if is_within_part && let Ok(step) = Arc::clone(&self.inflow.steps).try_acquire_owned() {
            self.add(step);
            return true;
        }
        let (steps, turn) = (Arc::clone(&self.inflow.steps), Arc::clone(&self.inflow.turn));
        self.waiting = Some(Box::pin(async move {
            // The semaphores are never closed.
            tokio::select! {
                biased;
                Ok(step) = steps.acquire_owned(), if is_within_part => Granted::Step(step),
                Ok(turn) = turn.acquire_owned() => Granted::Turn(turn),
                else => pending().await,
            }
        }));
        false
    }

    /// Waits until the connection may take more in; for ever if it does not wait for that. Can be dropped and called again.
    pub async fn granted(&mut self) {
        let Some(waiting) = &mut self.waiting else { return pending().await };
        let granted = waiting.as_mut().await;
        self.waiting = None;
        match granted {
            Granted::Step(step) => self.add(step),
            Granted::Turn(turn) => self.turn = Some((turn, Instant::now())),
        }
    }

    /// Until when the message must be whole that has the turn to finish.
    pub fn finish_by(&self) -> Option<Instant> {
        self.turn.as_ref().map(|(_, since)| *since + FINISH_TIMEOUT)
    }

    fn held_steps(&self) -> usize {
        self.steps.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn add(&mut self, step: OwnedSemaphorePermit) {
        self.inflow.note(self.address, step.num_permits());
        match &mut self.steps {
            Some(steps) => steps.merge(step),
            None => self.steps = Some(step),
        }
    }

    fn give_back(&mut self) {
        if let Some(steps) = self.steps.take() {
            self.inflow.forget(self.address, steps.num_permits());
        }
        self.turn = None;
        self.waiting = None;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::limits::FRAME_BYTES_MAX;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// Takes in as much as it may, up to the longest message; returns how much that is.
    fn fill(share: &mut Share) -> usize {
        let mut held = 0;
        while held < FRAME_BYTES_MAX && share.covers(held) {
            held += INFLOW_STEP_BYTES / 2;
        }
        held
    }

    #[tokio::test]
    async fn what_is_announced_costs_nothing_and_what_has_come_is_counted() {
        let inflow = Inflow::new();
        let mut shares: Vec<Share> = (0..1000).map(|_| inflow.share(address(1))).collect();
        assert!(shares.iter_mut().all(|share| share.covers(9)));
        assert_eq!(inflow.steps.available_permits(), LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES);
        assert!(fill(&mut shares[0]) >= FRAME_BYTES_MAX);
        let taken = LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES - inflow.steps.available_permits();
        assert!(taken * INFLOW_STEP_BYTES + LARGE_FRAME_BYTES >= FRAME_BYTES_MAX, "{taken} steps");
        assert!(shares[0].covers(0), "the message is whole");
        assert_eq!(inflow.steps.available_permits(), LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES);
        assert!(inflow.by_address.lock().is_empty());
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others() {
        let inflow = Inflow::new();
        let mut greedy: Vec<Share> = (0..100).map(|_| inflow.share(address(1))).collect();
        let taken: usize = greedy.iter_mut().map(fill).sum();
        assert!(taken <= LARGE_FRAMES_ADDRESS_BYTES_MAX + 100 * (LARGE_FRAME_BYTES + INFLOW_STEP_BYTES));
        assert!(fill(&mut inflow.share(address(2))) >= FRAME_BYTES_MAX);
    }

    #[tokio::test]
    async fn shares_that_wait_for_each_other_become_whole_one_after_the_other() {
        let inflow = Inflow::new();
        let mut shares: Vec<Share> = (0..100_u8).map(|number| inflow.share(address(number))).collect();
        // Each gets a step in turn, until none is left.
        let mut held = 0;
        while shares.iter_mut().all(|share| share.covers(held)) {
            held += INFLOW_STEP_BYTES;
            assert!(held < FRAME_BYTES_MAX, "they can't all be whole");
        }
        for mut share in shares.into_iter().rev() {
            let mut held = held;
            while held < FRAME_BYTES_MAX {
                if !share.covers(held) {
                    tokio::time::timeout(FINISH_TIMEOUT, share.granted()).await.expect("somebody goes on");
                }
                held += INFLOW_STEP_BYTES;
            }
            assert!(inflow.steps.available_permits() <= LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES);
        }
        assert!(inflow.by_address.lock().is_empty());
        assert_eq!(inflow.steps.available_permits(), LARGE_FRAMES_BYTES_MAX / INFLOW_STEP_BYTES);
        assert_eq!(inflow.turn.available_permits(), 1);
    }
}
