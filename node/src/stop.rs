//! When to stop: signals, and the end of stdin.

use crate::exit::Exit;
use crate::telemetry;
use std::io::{self, Read};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at once, with exit code 1, at the second. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// What the system says if the handlers can't be installed.
pub fn on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let first = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
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
