//! When to stop: signals, and the end of stdin.

use crate::cli::exit::Exit;
use crate::cli::telemetry;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at once, with exit code 1, at the second. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// What the system says if the handlers can't be installed.
pub fn on_signals(stop: CancellationToken) -> io::Result<()> {
    on_signals_but(stop, Arc::default())
}

/// The same, but a first SIGINT counts only while `interrupts_are_taken` says that nobody else takes them: at a terminal, ctrl-c
/// is meant for whoever runs a command there.
///
/// # Errors
/// As [`on_signals`].
pub fn on_signals_but(stop: CancellationToken, interrupts_are_taken: Arc<AtomicBool>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // It is for the certificates, once the node runs. Until then it would end the process.
    drop(signal(SignalKind::hangup())?);
    tokio::spawn(async move {
        let first = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => {
                    if !interrupts_are_taken.load(Ordering::Acquire) {
                        break "SIGINT";
                    }
                }
            }
        };
        // Before anything is said: nothing may keep a node from being stopped.
        stop.cancel();
        tracing::info!(signal = first, "stops gracefully; a second signal ends it at once");
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        telemetry::last_line("kvorum: second signal: ends without a graceful stop");
        std::process::exit(Exit::Failure.code().into());
    });
    Ok(())
}

/// Cancels `stop` when stdin reaches its end. If stdin is a pipe whose other end a parent holds, that is when the
/// parent ends, however it ends.
///
/// # Errors
/// What the system says if the thread can't be started.
pub fn with_stdin(stop: CancellationToken) -> io::Result<()> {
    // A thread of its own, because a blocked read can't be cancelled, and would hold up the end of a runtime.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut ignored = [0; 256];
        let mut stdin = io::stdin().lock();
        while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
        let is_news = !stop.is_cancelled();
        stop.cancel();
        if is_news {
            tracing::info!("stdin is closed: stops gracefully");
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};
    use std::time::Duration;
    use tokio::signal::unix::{SignalKind, signal};

    /// Sends this process a signal, and waits until its handlers have run.
    async fn raise(kind: SignalKind, signal_itself: Signal) {
        let mut seen = signal(kind).unwrap();
        kill_process(getpid(), signal_itself).unwrap();
        tokio::time::timeout(Duration::from_secs(10), seen.recv()).await.expect("the signal arrives");
    }

    #[tokio::test]
    async fn ctrl_c_is_left_to_whoever_takes_it() {
        let (stop, taken) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        on_signals_but(stop.clone(), Arc::clone(&taken)).unwrap();
        raise(SignalKind::interrupt(), Signal::INT).await;
        // The task that listens is woken by then; it runs before this one goes on twice.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        assert!(!stop.is_cancelled(), "a command at the terminal takes it");
        taken.store(false, Ordering::Release);
        raise(SignalKind::interrupt(), Signal::INT).await;
        tokio::time::timeout(Duration::from_secs(10), stop.cancelled()).await.expect("nobody else takes it now");
    }
}
