//! How answers find their way back to whoever asked, across threads and past panics.

use crate::limits::SESSION_VALUES_BYTES_MAX;
use crate::measure::EntryStamps;
use crate::shard::ShardReply;
use kvorum_protocol::{Entry, ErrorCode, Outcome, RequestBody, ResponseBody, ServerError, Term};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// An answer to one part of a session's request.
#[derive(Debug)]
pub struct Reply {
    /// The session's request.
    pub slot: usize,
    /// Which part of it.
    pub part: u32,
    /// The answer.
    pub answer: Answer,
    /// Where the time went, of a request that took long or is traced: the stamps of the entry that it waited for.
    pub stamps: Option<Box<EntryStamps>>,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// Of a shard of this node.
    Shard(ShardReply),
    /// A whole response's body, of this node.
    Body(Box<ResponseBody>),
    /// A whole response's body, of another node to which the request was forwarded.
    Forwarded(Box<ResponseBody>),
    /// The request itself: the node to which it was forwarded, as the leader of this term, has not proposed it and will not.
    Returned(Box<RequestBody>, Term),
}

impl Answer {
    /// Bytes of stored values that the answer to a read holds.
    fn value_bytes(&self) -> usize {
        let of_entry = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
        match self {
            Self::Shard(ShardReply::Value(entry)) => of_entry(entry),
            Self::Body(body) | Self::Forwarded(body) => match &**body {
                ResponseBody::Value(entry) => of_entry(entry),
                ResponseBody::Page(page) => page.entries.iter().map(|(_, entry)| entry.value.len()).sum(),
                _ => 0,
            },
            Self::Shard(_) | Self::Returned(..) => 0,
        }
    }
}

/// Collects a session's answers. Whoever answers pushes and goes on; the session wakes once for all that have come.
/// Bounded by the session's own limit of requests under way, and by [`SESSION_VALUES_BYTES_MAX`]: requests are short and
/// the values that they read may not be.
#[derive(Debug, Default)]
pub struct ReplySink {
    waiting: Mutex<Waiting>,
    /// Nobody will take answers any more.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    replies: Vec<Reply>,
    value_bytes: usize,
    nudged: bool,
    /// The session's task, while it waits.
    waker: Option<Waker>,
}

impl Waiting {
    fn is_ready(&self) -> bool {
        !self.replies.is_empty() || self.nudged
    }
}

impl ReplySink {
    /// A place to send the answer of one part of one request.
    pub fn reply_to(self: &Arc<Self>, slot: usize, part: u32) -> ReplyTo {
        ReplyTo { sink: Some(Arc::clone(self)), slot, part }
    }

    /// Nobody will take answers from here on: what was not begun for one need not be.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Waits until there are answers that nobody has taken, or until its session is nudged. One task at a time may wait.
    pub async fn ready(&self) {
        std::future::poll_fn(|context| self.poll_ready(context)).await;
    }

    fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        if waiting.is_ready() {
            return Poll::Ready(());
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            waiting.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whether answers have come that nobody has taken, or its session was nudged.
    pub fn has_replies(&self) -> bool {
        self.waiting.lock().is_ready()
    }

    /// Has its session look at what it holds.
    pub fn nudge(&self) {
        let mut waiting = self.waiting.lock();
        waiting.nudged = true;
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes all that have come, into an empty buffer that is reused.
    pub fn take(&self, into: &mut Vec<Reply>) {
        debug_assert!(into.is_empty());
        let mut waiting = self.waiting.lock();
        (waiting.value_bytes, waiting.nudged) = (0, false);
        std::mem::swap(&mut waiting.replies, into);
    }

    fn push(&self, mut reply: Reply) {
        let bytes = reply.answer.value_bytes();
        let mut waiting = self.waiting.lock();
        if bytes > 0 && waiting.value_bytes + bytes > SESSION_VALUES_BYTES_MAX {
            let error = ServerError::new(ErrorCode::Overloaded, "too many large values wait for this connection");
            reply.answer = Answer::Shard(ShardReply::Error(error));
        } else {
            waiting.value_bytes += bytes;
        }
        waiting.replies.push(reply);
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A promise of exactly one answer. Dropped without one (its shard has died), it answers that the outcome is unknown.
#[derive(Debug)]
pub struct ReplyTo {
    sink: Option<Arc<ReplySink>>,
    slot: usize,
    part: u32,
}

impl ReplyTo {
    /// Answers.
    pub fn answer(self, answer: Answer) {
        self.answer_stamped(answer, None);
    }

    /// Answers, and says where the time went.
    pub fn answer_stamped(mut self, answer: Answer, stamps: Option<Box<EntryStamps>>) {
        self.push(answer, stamps);
    }

    /// Whether somebody may take the answer.
    pub fn is_heard(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| !sink.closed.load(Ordering::Relaxed))
    }

    /// Answers with an error.
    pub fn fail(self, error: ServerError) {
        self.answer(Answer::Shard(ShardReply::Error(error)));
    }

    fn push(&mut self, answer: Answer, stamps: Option<Box<EntryStamps>>) {
        if let Some(sink) = self.sink.take() {
            sink.push(Reply { slot: self.slot, part: self.part, answer, stamps });
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if self.sink.is_some() {
            let error = ServerError::new(ErrorCode::Unavailable, "the shard was restarted while it worked on this")
                .with_outcome(Outcome::Unknown);
            self.push(Answer::Shard(ShardReply::Error(error)), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kvorum_protocol::Version;

    #[test]
    fn values_that_nobody_takes_are_bounded() {
        const VALUE_BYTES: usize = 16 * 1024 * 1024;
        let sink: Arc<ReplySink> = Arc::default();
        let value = Bytes::from(vec![0; VALUE_BYTES]);
        let read = |slot| {
            let entry = Entry { value: value.clone(), version: Version(1), expires_at_ms: None };
            sink.reply_to(slot, 0).answer(Answer::Shard(ShardReply::Value(Some(entry))));
        };
        let fit = SESSION_VALUES_BYTES_MAX / VALUE_BYTES;
        (0..=fit).for_each(read);
        let mut replies = Vec::new();
        sink.take(&mut replies);
        assert_eq!(replies.len(), fit + 1, "each is answered");
        let overloaded = |reply: &Reply| matches!(&reply.answer, Answer::Shard(ShardReply::Error(error)) if error.code == ErrorCode::Overloaded);
        assert!(!replies[..fit].iter().any(overloaded) && overloaded(&replies[fit]));
        read(0);
        replies.clear();
        sink.take(&mut replies);
        assert!(!overloaded(&replies[0]), "there is room again");
    }
}
