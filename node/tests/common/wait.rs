//! The only place of the tests that sleeps.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The pause between two attempts of [`eventually`].
const INTERVAL: Duration = Duration::from_millis(10);

/// Tries again until an attempt succeeds, and returns what it gave.
///
/// # Panics
/// If none has succeeded by the deadline; says what was waited for, and how the last attempt failed.
pub(crate) async fn eventually<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let began = Instant::now();
    let mut last = String::from("not one attempt ended");
    loop {
        let left = deadline.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => panic!("{what}: not within {deadline:?}; the last attempt hung or failed with: {last}"),
        }
        assert!(began.elapsed() < deadline, "{what}: not within {deadline:?}: {last}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets load run against the cluster for a while. What the test asserts afterwards must hold however far that got.
pub(crate) async fn let_run(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Waits as a server's retry advice says.
pub(crate) async fn pause_as_advised(advice: Duration) {
    tokio::time::sleep(advice).await;
}
