//! The clock of an open loop. The executor's own timers are rounded up to milliseconds; those of the kernel are not.

use crate::engine::Schedule;
use crate::limits::{PACE_SLEEP_MAX, PACE_TICK_MIN};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Wakes the connections of one thread when something is due on them. It runs on that thread: another one would want a processor of its
/// own, and make a system call for each operation.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// When the first operation of each is due, from the beginning on; in that order.
    pub(crate) connections: Vec<(Duration, Arc<Notify>)>,
    /// Between two operations of a connection.
    pub(crate) every: Duration,
}

impl Pacer {
    /// Runs until the schedule ends, or until soon after `is_halted` says so.
    ///
    /// # Errors
    /// The system refuses the timer.
    pub(crate) async fn run(self, timer: Timer, schedule: Schedule, is_halted: impl Fn() -> bool) -> io::Result<()> {
        let timer = timer.register()?;
        let mut woken = 0;
        loop {
            let now = Instant::now();
            if now >= schedule.stop_at || is_halted() {
                return Ok(());
            }
            woken = self.wake(woken, now.saturating_duration_since(schedule.begin));
            let next = schedule.begin + self.due_after(woken);
            let wait = next.saturating_duration_since(Instant::now());
            timer.wait(wait.clamp(PACE_TICK_MIN, PACE_SLEEP_MAX)).await?;
        }
    }

    /// When operation `number` of this thread is due, from the beginning on.
    fn due_after(&self, number: u64) -> Duration {
        let connections = self.connections.len() as u64;
        let rounds = u128::from(number / connections) * self.every.as_nanos();
        // 584 years; a schedule ends long before.
        Duration::from_nanos(rounds as u64) + self.connections[(number % connections) as usize].0
    }

    /// Wakes those on which something became due after operation `woken` of the thread; returns the first operation that is not due.
    fn wake(&self, woken: u64, elapsed: Duration) -> u64 {
        let connections = self.connections.len() as u64;
        let (rounds, every) = ((elapsed.as_nanos() / self.every.as_nanos()) as u64, self.every.as_nanos() as u64);
        let rest = elapsed.saturating_sub(Duration::from_nanos(rounds * every));
        let due = rounds * connections + self.connections.partition_point(|(offset, _)| *offset <= rest) as u64;
        // One wake-up is enough for all that is due on a connection.
        for number in woken..due.min(woken + connections) {
            self.connections[(number % connections) as usize].1.notify_one();
        }
        due.max(woken)
    }
}

/// A timer of the kernel, which is as exact as its clock.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// # Errors
    /// The system has none to give.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?))
    }

    /// To be called on a thread that runs an executor.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for types that may close their descriptor; an OwnedFd doesn't"
    )]
    fn register(self) -> io::Result<RegisteredTimer> {
        Ok(RegisteredTimer(AsyncFd::with_interest(self.0, Interest::READABLE)?))
    }
}

struct RegisteredTimer(AsyncFd<OwnedFd>);

impl RegisteredTimer {
    /// Waits for at least `wait`, which is not zero.
    async fn wait(&self, wait: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        // Setting it also forgets that it has fired before, so that nothing needs to be read.
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value })?;
        self.0.readable().await?.clear_ready();
        Ok(())
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
        (0..pacer.connections.len()).filter(|&number| is_woken(&pacer.connections[number].1)).collect()
    }

    #[test]
    fn connections_are_woken_in_turn_when_something_is_due() {
        let ms = Duration::from_millis;
        let connections = (0..4).map(|number| (ms(number), Arc::new(Notify::new()))).collect();
        let pacer = Pacer { connections, every: ms(4) };
        assert_eq!((pacer.wake(0, ms(0)), woken(&pacer)), (1, vec![0]), "the first is due at once");
        assert_eq!((pacer.wake(1, ms(0)), woken(&pacer)), (1, vec![]));
        assert_eq!((pacer.wake(1, ms(2)), woken(&pacer)), (3, vec![1, 2]));
        assert_eq!((pacer.wake(3, ms(4)), woken(&pacer)), (5, vec![0, 3]));
        assert_eq!((pacer.wake(5, ms(900)), woken(&pacer)), (901, vec![0, 1, 2, 3]), "all that is late at once");
    }

    #[test]
    fn an_operation_is_due_when_its_turn_on_its_connection_comes() {
        let ms = Duration::from_millis;
        let connections = [1, 5].map(|offset| (ms(offset), Arc::new(Notify::new()))).into();
        let pacer = Pacer { connections, every: ms(10) };
        assert_eq!([0, 1, 2, 3, 20].map(|number| pacer.due_after(number)), [1, 5, 11, 15, 101].map(ms));
        assert_eq!((pacer.wake(0, ms(0)), woken(&pacer)), (0, vec![]));
        for number in 0..50 {
            let due = pacer.due_after(number);
            assert_eq!(pacer.wake(number, due - Duration::from_nanos(1)), number);
            assert_eq!((pacer.wake(number, due), woken(&pacer)), (number + 1, vec![(number % 2) as usize]));
        }
    }

    #[tokio::test]
    async fn the_timer_fires_each_time_it_is_set_and_not_before() {
        let timer = Timer::new().and_then(Timer::register).expect("a timer");
        for wait in [Duration::from_micros(300), Duration::from_nanos(1), Duration::from_micros(2500)] {
            let begin = Instant::now();
            timer.wait(wait).await.expect("it can be set");
            assert!(begin.elapsed() >= wait);
        }
    }
}
