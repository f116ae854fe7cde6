//! What a shard tells whoever counts. Nothing is decided by it.

use super::evaluate::Recalled;
use super::{Operation, Shard, ShardError, ShardReply};
use crate::clock::{Clock, Nanos};
use crate::consensus::Committed;
use crate::measure::{EntryStamps, RetryAnswer};
use kvorum_protocol::{AtomicResult, ErrorCode, Outcome, TransactionResult, WriteStatus};
use std::ops::Range;
use std::sync::Arc;

/// What happened since the poll before.
#[derive(Debug, Default)]
pub struct Tally {
    /// Entries of this leader that were applied.
    pub applied: Vec<AppliedEntry>,
    /// How long this replica applied entries, whoever proposed them. `None`: it had none to apply, or has no stopwatch.
    pub applying: Option<Nanos>,
    /// What writes that were sent again were answered.
    pub retries: Vec<RetryAnswer>,
}

/// An entry that its leader has applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppliedEntry {
    /// When it was proposed.
    pub proposed_at: Nanos,
    /// Requests that waited for it.
    pub requests: usize,
    /// Which of the replies that leave with this are to them.
    pub answers: Range<usize>,
    /// When it came how far.
    pub stamps: EntryStamps,
}

impl Tally {
    /// A request that something was known of has its answer, now or later.
    pub(super) fn note_recalled(&mut self, operation: &Operation, recalled: &Recalled) {
        match recalled {
            Recalled::Now(reply) if is_replayed(reply) || is_retry(operation) => {
                self.retries.push(answer(reply, true));
            }
            Recalled::Now(_) => {}
            Recalled::With(..) => self.retries.push(RetryAnswer::OnItsWay),
        }
    }

    /// A request of which nothing was known has been decided.
    pub(super) fn note_decided(&mut self, operation: &Operation, reply: &ShardReply) {
        if is_retry(operation) {
            self.retries.push(answer(reply, is_replayed(reply)));
        }
    }
}

/// The client says that it has sent this write before.
fn is_retry(operation: &Operation) -> bool {
    match operation {
        Operation::Write { id, .. } => id.retry,
        Operation::Atomic { request, .. } => request.id.retry,
        Operation::Transaction { request, .. } => request.id.retry,
        Operation::Get(_) | Operation::Confirm | Operation::Await { .. } => false,
    }
}

/// Another request was done under the same one-shot name.
fn is_replayed(reply: &ShardReply) -> bool {
    match reply {
        ShardReply::Written(result) => result.replayed,
        ShardReply::Atomic(result) => result.is_replayed(),
        _ => false,
    }
}

/// What the answer to a write is counted as. `is_known`: it is about an earlier copy of the write, whatever it says.
fn answer(reply: &ShardReply, is_known: bool) -> RetryAnswer {
    let takes_effect = match reply {
        ShardReply::Error(error) if error.code == ErrorCode::SessionExpired => return RetryAnswer::Forgotten,
        ShardReply::Error(error) if error.outcome == Outcome::Unknown => return RetryAnswer::OnItsWay,
        ShardReply::Error(_) => return RetryAnswer::Refused,
        ShardReply::Written(result) => result.status == WriteStatus::Applied,
        ShardReply::Atomic(result) => matches!(result, AtomicResult::Applied(_)),
        ShardReply::Transaction(result) => matches!(result, TransactionResult::Done(_)),
        _ => false,
    };
    match takes_effect {
        _ if is_known => RetryAnswer::Remembered,
        true => RetryAnswer::Done,
        false => RetryAnswer::Refused,
    }
}

impl Shard {
    /// Has it tell how long it applied entries, by this clock. Nothing is decided by what it shows.
    pub fn set_stopwatch(&mut self, stopwatch: Arc<dyn Clock>) {
        self.stopwatch = Some(stopwatch);
    }

    /// Applies what is committed, and takes down how long that takes: two looks at the clock, however many entries there are.
    pub(super) fn apply_timed(&mut self, committed: Vec<Committed>) -> Result<(), ShardError> {
        if committed.is_empty() {
            return Ok(());
        }
        let Some(stopwatch) = self.stopwatch.clone() else { return self.apply(committed) };
        let (began, first) = (stopwatch.monotonic(), self.tally.applied.len());
        self.apply(committed)?;
        let ended = stopwatch.monotonic();
        let took = ended.0.saturating_sub(began.0);
        let before = self.tally.applying.unwrap_or_default();
        self.tally.applying = Some(Nanos(before.0 + took));
        self.applied_at = ended;
        for entry in &mut self.tally.applied[first..] {
            (entry.stamps.committed, entry.stamps.applied) = (began, ended);
        }
        Ok(())
    }
}
