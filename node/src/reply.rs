//! How answers find their way back to whoever asked, across threads and past panics.

use crate::shard::ShardReply;
use kvorum_protocol::{ErrorCode, Outcome, ResponseBody, ServerError};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// An answer to one part of a session's request.
#[derive(Debug)]
pub struct Reply {
    /// The session's request.
    pub slot: usize,
    /// Which part of it.
    pub part: u32,
    /// The answer.
    pub answer: Answer,
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
}

/// Collects a session's answers. Whoever answers pushes and goes on; the session wakes once for all that have come.
/// Bounded by the session's own limit of requests under way.
#[derive(Debug, Default)]
pub struct ReplySink {
    replies: Mutex<Vec<Reply>>,
    ready: Notify,
}

impl ReplySink {
    /// A place to send the answer of one part of one request.
    pub fn reply_to(self: &Arc<Self>, slot: usize, part: u32) -> ReplyTo {
        ReplyTo { sink: Some(Arc::clone(self)), slot, part }
    }

    /// Waits until there may be answers.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Takes all that have come, into an empty buffer that is reused.
    pub fn take(&self, into: &mut Vec<Reply>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.replies.lock(), into);
    }

    fn push(&self, reply: Reply) {
        self.replies.lock().push(reply);
        self.ready.notify_one();
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
    pub fn answer(mut self, answer: Answer) {
        self.push(answer);
    }

    /// Answers with an error.
    pub fn fail(self, error: ServerError) {
        self.answer(Answer::Shard(ShardReply::Error(error)));
    }

    fn push(&mut self, answer: Answer) {
        if let Some(sink) = self.sink.take() {
            sink.push(Reply { slot: self.slot, part: self.part, answer });
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if self.sink.is_some() {
            let error = ServerError::new(ErrorCode::Unavailable, "the shard was restarted while it worked on this")
                .with_outcome(Outcome::Unknown);
            self.push(Answer::Shard(ShardReply::Error(error)));
        }
    }
}
