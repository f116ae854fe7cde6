//! Where the time of a write goes at its leader: stamps of its entry, and the stages between them.

use super::Durations;
use crate::clock::Nanos;
use kvorum_protocol::{LogIndex, Term};

/// A stage of a write, at the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From when a session took the request up until its entry was begun.
    Queue,
    /// Until the entry was in the log's memory.
    Propose,
    /// Until the leader's own journal had synced it, or a quorum had it without that.
    Sync,
    /// Until the leader began to apply it, which a quorum held by then.
    Quorum,
    /// Until it was applied.
    Apply,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Queue, Self::Propose, Self::Sync, Self::Quorum, Self::Apply];

    /// What it is called where it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Propose => "propose",
            Self::Sync => "sync",
            Self::Quorum => "quorum",
            Self::Apply => "apply",
        }
    }
}

/// When an entry of this leader came how far, by its node's monotonic clock. Taken once for all requests of the entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryStamps {
    /// The leader's term.
    pub term: Term,
    /// Where the entry stands.
    pub index: LogIndex,
    /// Requests that waited for it.
    pub requests: u32,
    /// It was begun: what is in it was taken from the queue.
    pub begun: Nanos,
    /// It was in the log's memory, to be synced and sent.
    pub appended: Nanos,
    /// This leader's own journal had synced it; `None` if a quorum had it before that.
    pub synced: Option<Nanos>,
    /// This leader began to apply it: it knew that a quorum held it.
    pub committed: Nanos,
    /// It was applied.
    pub applied: Nanos,
}

impl EntryStamps {
    /// How long a request spent in each of [`Stage::ALL`], in nanoseconds, that was taken up at `began`.
    pub fn stages_ns(&self, began: Nanos) -> [u64; Stage::ALL.len()] {
        let synced = self.synced.unwrap_or(self.committed).min(self.committed);
        let marks = [began, self.begun, self.appended, synced, self.committed, self.applied];
        let mut stages = [0; Stage::ALL.len()];
        for (stage, pair) in stages.iter_mut().zip(marks.windows(2)) {
            *stage = pair[1].0.saturating_sub(pair[0].0);
        }
        stages
    }
}

/// How long requests spent in each stage. A request counts once in each; its leader's host is the only writer.
#[derive(Debug, Default)]
pub struct StageDurations([Durations; Stage::ALL.len()]);

impl StageDurations {
    /// Of one stage.
    pub fn of(&self, stage: Stage) -> &Durations {
        &self.0[stage as usize]
    }

    /// A request waited for so long until its entry was begun.
    pub fn note_queue(&self, ns: u64) {
        self.of(Stage::Queue).note(ns);
    }

    /// An entry was applied: what follows its beginning is the same for all of its requests.
    pub fn note_entry(&self, stamps: &EntryStamps) {
        let stages = stamps.stages_ns(stamps.begun);
        for (durations, ns) in self.0.iter().zip(stages).skip(1) {
            durations.note_many(ns, stamps.requests.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(synced: Option<u64>) -> EntryStamps {
        EntryStamps {
            requests: 3,
            begun: Nanos(100),
            appended: Nanos(110),
            synced: synced.map(Nanos),
            committed: Nanos(200),
            applied: Nanos(205),
            ..EntryStamps::default()
        }
    }

    #[test]
    fn the_stages_add_up_to_the_whole_whoever_was_first() {
        assert_eq!(stamps(Some(150)).stages_ns(Nanos(60)), [40, 10, 40, 50, 5]);
        assert_eq!(stamps(None).stages_ns(Nanos(60)), [40, 10, 90, 0, 5], "a quorum had it without this disk");
        assert_eq!(stamps(Some(220)).stages_ns(Nanos(60)), [40, 10, 90, 0, 5]);
        // A copy of a write joins the entry that its first copy is in.
        assert_eq!(stamps(Some(150)).stages_ns(Nanos(130)), [0, 10, 40, 50, 5]);
    }

    #[test]
    fn an_entry_counts_for_each_of_its_requests() {
        let durations = StageDurations::default();
        durations.note_entry(&stamps(Some(150)));
        let of = |stage| (durations.of(stage).count(), durations.of(stage).sum_ns());
        assert_eq!(Stage::ALL.map(of), [(0, 0), (3, 30), (3, 120), (3, 150), (3, 15)]);
    }
}
