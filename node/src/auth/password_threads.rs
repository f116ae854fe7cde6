//! The threads that hash passwords.
//!
//! A password that comes as it is takes tens of milliseconds of a processor. Threads of their own do that, and the system gives them what
//! requests leave: whoever tries passwords must not slow down those who are logged in.

use kvorum_core::auth::gate::network_of;
use kvorum_scram::Verifier;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Passwords that are checked at the same time.
const THREADS: usize = 2;
/// Passwords that wait to be checked. Further ones are refused: at 30 ms each these take a second.
const WAITING_MAX: usize = 64;
/// An address takes so many places for each one that it leaves free: 50 of them if it is alone, and others find some of the rest
/// (dynamic thresholds: Choudhury and Hahne, 1998).
const PLACES_PER_FREE: usize = 3;
/// How nice the threads are to others: beside a thread that does not rest one gets a tenth of a processor, so that an operator still gets in.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

struct Check {
    verifier: Verifier,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
    /// Given back once it is done.
    _place: CheckPlace,
}

/// Passwords that wait or are being checked, by the address that they came from.
#[derive(Debug, Default)]
struct PasswordsWaiting {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one of them.
#[derive(Debug)]
struct CheckPlace {
    waiting: Arc<Mutex<PasswordsWaiting>>,
    address: IpAddr,
}

impl CheckPlace {
    /// A place, unless that address has its share of what is free.
    fn take(waiting: &Arc<Mutex<PasswordsWaiting>>, from: IpAddr) -> Option<Self> {
        let address = network_of(from);
        let mut taken = waiting.lock();
        let free = (WAITING_MAX + THREADS).saturating_sub(taken.all);
        if taken.by_address.get(&address).copied().unwrap_or(0) >= PLACES_PER_FREE * free {
            return None;
        }
        taken.all += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(Self { waiting: Arc::clone(waiting), address })
    }
}

impl Drop for CheckPlace {
    fn drop(&mut self) {
        let mut taken = self.waiting.lock();
        taken.all -= 1;
        if let Entry::Occupied(mut entry) = taken.by_address.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// They end when this is dropped, after the passwords that they check just then.
#[derive(Debug)]
pub(super) struct PasswordThreads {
    checks: SyncSender<Check>,
    waiting: Arc<Mutex<PasswordsWaiting>>,
}

impl PasswordThreads {
    /// Starts them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (checks, wait) = sync_channel(WAITING_MAX);
        let wait = Arc::new(Mutex::new(wait));
        for _ in 0..THREADS {
            let wait = Arc::clone(&wait);
            std::thread::Builder::new().name("passwords".into()).spawn(move || run(&wait))?;
        }
        Ok(Self { checks, waiting: Arc::default() })
    }

    /// Whether it is the password. `None` if too many wait, or too many of that address. Whoever stops waiting for the answer takes
    /// the password out of the queue.
    pub(super) async fn check(&self, from: IpAddr, verifier: Verifier, password: &[u8]) -> Option<bool> {
        let place = CheckPlace::take(&self.waiting, from)?;
        let (answer, answered) = oneshot::channel();
        self.checks.try_send(Check { verifier, password: password.to_vec(), answer, _place: place }).ok()?;
        Some(answered.await.unwrap_or(false))
    }
}

fn run(wait: &Mutex<Receiver<Check>>) {
    be_nice();
    loop {
        let next = wait.lock().recv();
        let Ok(Check { verifier, password, answer, _place }) = next else { return };
        if !answer.is_closed() {
            // Nobody may wait any more by now.
            let _ = answer.send(verifier.matches(&password));
        }
    }
}

#[cfg(target_os = "linux")]
fn be_nice() {
    // On Linux a thread has a priority of its own.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "the threads that hash passwords have the priority of all others");
    }
}

#[cfg(not(target_os = "linux"))]
fn be_nice() {}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_scram::{ITERATIONS_MIN, SALT_BYTES};
    use std::task::{Context, Poll, Waker};

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn passwords_are_told_apart() {
        let threads = PasswordThreads::start().unwrap();
        let verifier = Verifier::new(b"secret", [3; SALT_BYTES], ITERATIONS_MIN);
        assert_eq!(threads.check(address(1), verifier.clone(), b"secret").await, Some(true));
        assert_eq!(threads.check(address(1), verifier, b"Secret").await, Some(false));
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_and_those_who_left_make_room() {
        let threads = PasswordThreads::start().unwrap();
        let costly = Verifier::of_nobody([1; 32]);
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        // Of many addresses, until none finds a place.
        let answer = loop {
            let from = waiting.len() as u8;
            let mut check = Box::pin(threads.check(address(from), costly.clone(), b"secret"));
            match check.as_mut().poll(&mut context) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => waiting.push(check),
            }
        };
        assert_eq!(answer, None);
        assert!(waiting.len() >= WAITING_MAX, "{} wait", waiting.len());
        drop(waiting);
        let verifier = Verifier::new(b"secret", [3; SALT_BYTES], ITERATIONS_MIN);
        let answer = loop {
            match threads.check(address(1), verifier.clone(), b"secret").await {
                None => tokio::task::yield_now().await,
                Some(answer) => break answer,
            }
        };
        assert!(answer);
    }

    #[test]
    fn one_address_leaves_places_to_others_and_has_all_again_later() {
        let waiting = Arc::default();
        let fill = |last| std::iter::from_fn(|| CheckPlace::take(&waiting, address(last))).collect::<Vec<_>>();
        let first = fill(1);
        assert_eq!(first.len(), 50);
        let second = fill(2);
        assert_eq!(second.len(), 12);
        assert!(CheckPlace::take(&waiting, address(3)).is_some(), "there is room for more of them");
        drop(second);
        assert!(CheckPlace::take(&waiting, address(1)).is_none(), "it has its share still");
        drop(first);
        assert_eq!(fill(1).len(), 50);
        let taken = waiting.lock();
        assert!(taken.all == 0 && taken.by_address.is_empty(), "who has none takes no room");
    }
}
