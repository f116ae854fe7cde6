//! Several ways to the same end: they are tried one after the other without waiting long for any, and the first one wins.

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;

/// Opens the first of these that can be opened. The next one joins in when those before it have failed, or have taken `stagger`
/// since the last one joined.
///
/// # Errors
/// What each of them met, in the order in which they failed.
pub(crate) async fn first_of<I, T, E, F: Future<Output = Result<T, E>>>(
    ways: Vec<I>,
    stagger: Duration,
    open: impl Fn(I) -> F,
) -> Result<T, Vec<E>> {
    let mut waiting = ways.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(way) = waiting.next() {
            trying.push(open(way));
        } else if trying.is_empty() {
            return Err(failures);
        }
        let opened = match waiting.len() {
            0 => trying.next().await,
            // One that takes long does not hold up the next one.
            _ => tokio::time::timeout(stagger, trying.next()).await.unwrap_or_default(),
        };
        match opened {
            Some(Ok(opened)) => return Ok(opened),
            Some(Err(error)) => failures.push(error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn one_that_never_answers_does_not_hide_the_others() {
        let open = |way: u8| async move {
            match way {
                0 => pending().await,
                1 => Err("refused"),
                way => Ok(way),
            }
        };
        assert_eq!(first_of(vec![0, 1, 2], Duration::from_millis(1), open).await, Ok(2));
        assert_eq!(first_of(vec![1, 1], Duration::MAX, open).await, Err(vec!["refused"; 2]));
        assert_eq!(first_of(vec![1, 3, 0], Duration::MAX, open).await, Ok(3), "a failure lets the next one in at once");
        assert_eq!(first_of(vec![], Duration::MAX, open).await, Err(vec![]));
    }
}
