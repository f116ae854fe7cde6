//! The threads that hash passwords.
//!
//! A password that comes as it is takes tens of milliseconds of a processor. Threads of their own do that, and the system gives them what
//! requests leave: whoever tries passwords must not slow down those who are logged in.

use kvorum_scram::Verifier;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Passwords that are checked at the same time.
const THREADS: usize = 2;
/// Passwords that wait to be checked. Further ones are refused: at 30 ms each these take a second.
const WAITING_MAX: usize = 64;
/// How nice the threads are to others: beside a thread that does not rest one gets a tenth of a processor, so that an operator still gets in.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

struct Check {
    verifier: Verifier,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// They end when this is dropped, after the passwords that they check just then.
#[derive(Debug)]
pub(super) struct PasswordThreads {
    checks: SyncSender<Check>,
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
        Ok(Self { checks })
    }

    /// Whether it is the password. `None` if too many wait. Whoever stops waiting for the answer takes the password out of the queue.
    pub(super) async fn check(&self, verifier: Verifier, password: &[u8]) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.checks.try_send(Check { verifier, password: password.to_vec(), answer }).ok()?;
        Some(answered.await.unwrap_or(false))
    }
}

fn run(wait: &Mutex<Receiver<Check>>) {
    be_nice();
    loop {
        let next = wait.lock().recv();
        let Ok(Check { verifier, password, answer }) = next else { return };
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

    #[tokio::test]
    async fn passwords_are_told_apart() {
        let threads = PasswordThreads::start().unwrap();
        let verifier = Verifier::new(b"secret", [3; SALT_BYTES], ITERATIONS_MIN);
        assert_eq!(threads.check(verifier.clone(), b"secret").await, Some(true));
        assert_eq!(threads.check(verifier, b"Secret").await, Some(false));
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_and_those_who_left_make_room() {
        let threads = PasswordThreads::start().unwrap();
        let costly = Verifier::of_nobody([1; 32]);
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        let answer = loop {
            let mut check = Box::pin(threads.check(costly.clone(), b"secret"));
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
            match threads.check(verifier.clone(), b"secret").await {
                None => tokio::task::yield_now().await,
                Some(answer) => break answer,
            }
        };
        assert!(answer);
    }
}
