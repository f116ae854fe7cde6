//! Ending early: after a signal every wait of a measurement fails, so that what it has started is dropped on the way out, and
//! with that gone: servers, their folders.
//!
//! A signal is sent to the process, so whether one has come belongs to the process, too, and to no value that could be handed
//! on.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A sleeping thread notices a signal within this time.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

static STOP: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// SIGINT or SIGTERM has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Stopped;

/// From now on SIGINT and SIGTERM make all measurements of this process end with [`Stopped`], soon and cleanly. A second signal
/// hastens nothing: servers that don't end by themselves would be left.
///
/// # Errors
/// What the system says if it has no handler or thread to give.
pub fn on_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        STOP.cancel();
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// # Errors
/// A signal has come.
pub(crate) fn check() -> Result<(), Stopped> {
    if STOP.is_cancelled() { Err(Stopped) } else { Ok(()) }
}

/// Blocks for this time.
///
/// # Errors
/// A signal has come, before or meanwhile.
pub(crate) fn sleep(time: Duration) -> Result<(), Stopped> {
    let until = Instant::now() + time;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_PAUSE));
    }
}

/// Does `work`, and drops it when a signal comes.
///
/// # Errors
/// That of `work`, or a signal has come, before or meanwhile.
pub(crate) async fn unless_stopped<T, E: From<Stopped>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::select! {
        biased;
        () = STOP.cancelled() => Err(Stopped.into()),
        done = work => done,
    }
}
