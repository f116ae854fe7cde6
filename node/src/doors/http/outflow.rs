//! The memory for large answers, shared by all connections. A value leaves its mapping when it is copied into an answer, and stays in
//! memory until the client has taken it, which may be slow.

use super::limits::{ANSWERS_BYTES_MAX, LARGE_ANSWER_BYTES};
use super::problem::{OVERLOADED, Problem};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What a permit stands for.
const STEP_BYTES: usize = 1024;

/// The memory of a door's large answers.
#[derive(Debug)]
pub(super) struct Outflow(Arc<Semaphore>);

/// The part of one answer. Given back when the last copy is dropped.
#[derive(Clone, Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "it is held, and looked at by nobody")] Arc<OwnedSemaphorePermit>);

impl Held {
    /// The same bytes, which hold on to their memory until the last part of them has left. The HTTP library takes all bytes of a body at
    /// once, drops the body, and keeps them for as long as the client lets them lie.
    pub(super) fn attach(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(HeldBytes { bytes, _held: self.clone() })
    }
}

/// Bytes of an answer, with their memory.
struct HeldBytes {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Outflow {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ANSWERS_BYTES_MAX / STEP_BYTES)))
    }
}

impl Outflow {
    /// Takes the memory for an answer with so many bytes of values; none for one that is small.
    ///
    /// # Errors
    /// `Overloaded`, if there is not enough `within` the time.
    pub(super) async fn reserve(&self, bytes: usize, within: Duration) -> Result<Option<Held>, Problem> {
        if bytes <= LARGE_ANSWER_BYTES {
            return Ok(None);
        }
        // What is alone may be of any size.
        let steps = bytes.div_ceil(STEP_BYTES).min(ANSWERS_BYTES_MAX / STEP_BYTES) as u32;
        let taken = timeout(within, Arc::clone(&self.0).acquire_many_owned(steps)).await;
        match taken {
            Ok(Ok(permit)) => Ok(Some(Held(Arc::new(permit)))),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                Err(Problem::new(&OVERLOADED, "clients that are slow to take large answers hold all memory for them"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_answers_wait_for_each_other_and_small_ones_for_nobody() {
        let (outflow, soon) = (Outflow::default(), Duration::from_millis(10));
        let first = outflow.reserve(ANSWERS_BYTES_MAX, soon).await.expect("all of it is free");
        assert!(first.is_some());
        assert!(outflow.reserve(LARGE_ANSWER_BYTES, soon).await.expect("small").is_none());
        assert_eq!(outflow.reserve(LARGE_ANSWER_BYTES + 1, soon).await.expect_err("none is left").status(), 429);
        drop(first);
        assert!(outflow.reserve(usize::MAX, soon).await.expect("alone it may be of any size").is_some());
    }

    #[tokio::test]
    async fn bytes_hold_on_to_their_memory_until_the_last_part_has_left() {
        let (outflow, soon) = (Outflow::default(), Duration::from_millis(10));
        let held = outflow.reserve(ANSWERS_BYTES_MAX, soon).await.expect("all of it is free").expect("it is large");
        let mut bytes = held.attach(Bytes::from_static(b"value"));
        drop(held);
        let last = bytes.split_off(4);
        assert_eq!((&bytes[..], &last[..]), (&b"valu"[..], &b"e"[..]));
        drop(bytes);
        assert!(outflow.reserve(ANSWERS_BYTES_MAX, soon).await.is_err(), "a part has not left");
        drop(last);
        assert!(outflow.reserve(ANSWERS_BYTES_MAX, soon).await.is_ok());
    }
}
