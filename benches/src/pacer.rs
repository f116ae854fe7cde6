//! The clock of an open loop. The executor's own timers are rounded up to milliseconds; a thread that sleeps is not.

use crate::engine::Schedule;
use crate::limits::{PACE_SLEEP_MAX, PACE_TICK_MIN};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Wakes connections when something is due on them: operation k of the fleet is that of connection k modulo their number,
/// and due k / rate after the beginning.
#[derive(Debug)]
pub(crate) struct Pacer {
    pub(crate) connections: Vec<Arc<Notify>>,
    pub(crate) rate: f64,
}

impl Pacer {
    /// Starts the thread. It ends when the schedule does, or soon after `is_halted` says so.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(
        self,
        schedule: Schedule,
        is_halted: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("pace".to_owned()).spawn(move || {
            let mut woken = 0;
            loop {
                let now = Instant::now();
                if now >= schedule.stop_at || is_halted() {
                    return;
                }
                woken = self.wake(woken, now.saturating_duration_since(schedule.begin));
                let next = schedule.begin + Duration::from_secs_f64(woken as f64 / self.rate);
                let wait = next.saturating_duration_since(Instant::now());
                std::thread::sleep(wait.clamp(PACE_TICK_MIN, PACE_SLEEP_MAX));
            }
        })
    }

    /// Wakes those on which something became due after operation `woken`; returns the first operation that is not due.
    fn wake(&self, woken: u64, elapsed: Duration) -> u64 {
        let due = (elapsed.as_secs_f64() * self.rate) as u64 + 1;
        let connections = self.connections.len() as u64;
        // One wake-up is enough for all that is due on a connection.
        for number in woken..due.min(woken + connections) {
            self.connections[(number % connections) as usize].notify_one();
        }
        due.max(woken)
    }
}

/// Something became due; never, without a pacer. Cancel safe.
pub(crate) async fn due(wakes: Option<&Notify>) {
    match wakes {
        Some(wakes) => wakes.notified().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    /// The connections that were woken since they were last looked at.
    fn woken(pacer: &Pacer) -> Vec<usize> {
        let is_woken = |notify: &Notify| {
            let notified = std::pin::pin!(notify.notified());
            notified.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        (0..pacer.connections.len()).filter(|&number| is_woken(&pacer.connections[number])).collect()
    }

    #[test]
    fn connections_are_woken_in_turn_when_something_is_due() {
        let connections = (0..4).map(|_| Arc::new(Notify::new())).collect();
        let pacer = Pacer { connections, rate: 1000.0 };
        let ms = Duration::from_millis;
        assert_eq!((pacer.wake(0, ms(0)), woken(&pacer)), (1, vec![0]), "the first is due at once");
        assert_eq!((pacer.wake(1, ms(0)), woken(&pacer)), (1, vec![]));
        assert_eq!((pacer.wake(1, ms(2)), woken(&pacer)), (3, vec![1, 2]));
        assert_eq!((pacer.wake(3, ms(4)), woken(&pacer)), (5, vec![0, 3]));
        assert_eq!((pacer.wake(5, ms(900)), woken(&pacer)), (901, vec![0, 1, 2, 3]), "all that is late at once");
    }
}
