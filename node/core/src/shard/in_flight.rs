//! Entries that a leader has proposed and not yet applied, who waits for them, and when they came how far.

use super::evaluate::OverlayMarks;
use super::{AppliedEntry, Shard, ShardReply, Ticket, superseded};
use crate::clock::Nanos;
use crate::measure::EntryStamps;
use crate::seeded::{Bug, planted};
use kvorum_protocol::{LogIndex, Receipt, Term};

/// A proposed entry and who waits for it.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    marks: OverlayMarks,
    pub(super) waiting: Vec<Waiting>,
    pub(super) proposed_at: Nanos,
    /// It is durable here once this is; 0 before it is in the log.
    token: u64,
    /// Nothing is decided by them.
    stamps: EntryStamps,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) deadline: Nanos,
    pub(super) reply: ShardReply,
}

impl InFlight {
    pub(super) fn new(at: Receipt, marks: OverlayMarks, waiting: Vec<Waiting>, proposed_at: Nanos) -> Self {
        let Receipt { term, index, .. } = at;
        let stamps = EntryStamps { term, index, begun: proposed_at, appended: proposed_at, ..EntryStamps::default() };
        Self { index, term, marks, waiting, proposed_at, token: 0, stamps }
    }
}

impl Shard {
    /// An entry is on its way.
    pub(super) fn push_in_flight(&mut self, mut entry: InFlight) {
        // What the same poll has applied before it is no part of making it.
        entry.stamps.begun = entry.proposed_at.max(self.applied_at);
        self.in_flight.push_back(entry);
    }

    /// The newest entry is in the log, and durable with this token. One look at the clock for all of its requests.
    pub(super) fn stamp_appended(&mut self, token: u64) {
        if let (Some(entry), Some(stopwatch)) = (self.in_flight.back_mut(), &self.stopwatch) {
            (entry.token, entry.stamps.appended) = (token, stopwatch.monotonic());
        }
    }

    /// Everything up to the effects with this token was durable at `at`.
    pub(super) fn stamp_synced(&mut self, token: u64, at: Nanos) {
        let covered = |entry: &&mut InFlight| entry.token != 0 && entry.token <= token;
        for entry in self.in_flight.iter_mut().take_while(covered) {
            entry.stamps.synced.get_or_insert(at);
        }
    }

    /// Answers whoever waits for the entry at `index`, which turned out to have `term`.
    pub(super) fn answer(&mut self, index: LogIndex, term: Term) {
        while self.in_flight.front().is_some_and(|front| front.index <= index) {
            let front = self.in_flight.pop_front().expect("the front was just looked at");
            let took_effect = front.index == index && (front.term == term || planted(Bug::SupersededToldApplied));
            if took_effect || !planted(Bug::OverlayOutlivesLeadership) {
                self.overlay.forget(front.index, front.marks);
            }
            let (first, requests) = (self.replies.len(), front.waiting.len());
            for waiting in front.waiting {
                let reply = if took_effect { waiting.reply } else { ShardReply::Error(superseded()) };
                self.replies.push((waiting.ticket, reply));
            }
            if took_effect {
                let stamps = EntryStamps { requests: requests as u32, ..front.stamps };
                let (proposed_at, answers) = (front.proposed_at, first..first + requests);
                self.tally.applied.push(AppliedEntry { proposed_at, requests, answers, stamps });
            }
        }
    }
}
