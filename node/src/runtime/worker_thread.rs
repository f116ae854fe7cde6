//! A thread that works for the node as long as it runs, and does not end unnoticed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Starts a thread. If `body` panics, `panicked` is called on it.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    panicked: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        // What it leaves is not used any more, but for what `panicked` looks after.
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            panicked();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn only_a_panic_is_told() {
        for panics in [false, true] {
            let (told, hears) = channel();
            let body = move || assert!(!panics, "a test of what a panic does");
            start("test", body, move || told.send(()).expect("it is heard")).unwrap().join().unwrap();
            assert_eq!(hears.recv().is_ok(), panics);
        }
    }
}
