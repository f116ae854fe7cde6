//! What the doors have answered.

use super::striped::Striped;
use kvorum_core::measure::meter::{Door, Ending, Finished, Meter, OperationKind, ReadPath};
use kvorum_core::measure::{Count, Durations, DurationsSum};
use kvorum_protocol::ErrorCode;

const DOORS: usize = Door::ALL.len();
const OPERATIONS: usize = OperationKind::ALL.len();
const PATHS: usize = ReadPath::ALL.len();
/// Codes of errors that are told apart; the last counter is for all others.
const CODES: usize = ErrorCode::ALL.len() + 1;

/// The counts of all doors of a node.
#[derive(Debug, Default)]
pub struct DoorCounts(Striped<Counted>);

/// Requests of one kind through one door.
#[derive(Debug, Default)]
struct Requests {
    durations: Durations,
    /// By [`Ending`]. Those that were answered are what is left.
    failed: [Count; Ending::ALL.len()],
}

/// What one thread has counted.
#[derive(Debug)]
struct Counted {
    requests: [[Requests; OPERATIONS]; DOORS],
    /// Out of memory, and by another thread.
    reads: [[Count; 2]; PATHS],
    errors: [Count; CODES],
    /// Requests that had to wait, and those of them that were answered or given up.
    waited: [[Count; 2]; DOORS],
    received_bytes: [Count; DOORS],
    sent_bytes: [Count; DOORS],
}

impl Default for Counted {
    fn default() -> Self {
        fn each<T: Default, const N: usize>() -> [T; N] {
            std::array::from_fn(|_| T::default())
        }
        Self {
            requests: std::array::from_fn(|_| each()),
            reads: std::array::from_fn(|_| each()),
            errors: each(),
            waited: std::array::from_fn(|_| each()),
            received_bytes: each(),
            sent_bytes: each(),
        }
    }
}

impl DoorCounts {
    /// Bytes have come in.
    pub fn note_received(&self, door: Door, bytes: usize) {
        let mine = self.0.mine();
        mine.add(&mine.stripe.received_bytes[door as usize], bytes as u64);
    }

    /// Bytes have left.
    pub fn note_sent(&self, door: Door, bytes: usize) {
        let mine = self.0.mine();
        mine.add(&mine.stripe.sent_bytes[door as usize], bytes as u64);
    }

    /// How long requests of a kind took through a door.
    pub fn durations(&self, door: Door, operation: OperationKind) -> DurationsSum {
        DurationsSum::of(self.0.all().map(|stripe| &stripe.requests[door as usize][operation as usize].durations))
    }

    /// Requests of a kind through a door that ended so. `all` is how many there were in all.
    pub fn ended(&self, door: Door, operation: OperationKind, ending: Ending, all: u64) -> u64 {
        let failed = |ending: Ending| {
            self.0.sum(|stripe| &stripe.requests[door as usize][operation as usize].failed[ending as usize])
        };
        match ending {
            Ending::Answered => all.saturating_sub(failed(Ending::NotApplied) + failed(Ending::Unknown)),
            failure => failed(failure),
        }
    }

    /// GETs that were answered on this path: out of memory, and by another thread since the value was large.
    pub fn reads(&self, path: ReadPath) -> [u64; 2] {
        [0, 1].map(|apart| self.0.sum(|stripe| &stripe.reads[path as usize][apart]))
    }

    /// GETs that were answered out of this node's memory with nobody else asked, and all others.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let hits = self.reads(ReadPath::Lease)[0] + self.reads(ReadPath::Stale)[0];
        let all: u64 = ReadPath::ALL.into_iter().flat_map(|path| self.reads(path)).sum();
        (hits, all.saturating_sub(hits))
    }

    /// Requests that failed, by code; `None` stands for codes that this version does not know.
    pub fn errors(&self) -> impl Iterator<Item = (Option<ErrorCode>, u64)> {
        let codes = ErrorCode::ALL.iter().copied().map(Some).chain([None]);
        codes.enumerate().map(|(at, code)| (code, self.0.sum(|stripe| &stripe.errors[at])))
    }

    /// Requests through a door that wait for an answer now.
    pub fn waiting(&self, door: Door) -> u64 {
        let [begun, ended] = [0, 1].map(|at| self.0.sum(|stripe| &stripe.waited[door as usize][at]));
        begun.saturating_sub(ended)
    }

    /// Bytes that came in and left through a door.
    pub fn bytes(&self, door: Door) -> (u64, u64) {
        let received = self.0.sum(|stripe| &stripe.received_bytes[door as usize]);
        (received, self.0.sum(|stripe| &stripe.sent_bytes[door as usize]))
    }
}

impl Meter for DoorCounts {
    fn finished(&self, finished: &Finished) {
        let mine = self.0.mine();
        let requests = &mine.stripe.requests[finished.door as usize][finished.operation as usize];
        mine.note(&requests.durations, finished.took.0);
        if let Some(source) = finished.source {
            mine.add(&mine.stripe.reads[source.path as usize][usize::from(source.apart)], 1);
        }
        if finished.waited {
            mine.add(&mine.stripe.waited[finished.door as usize][1], 1);
        }
        let Some(code) = finished.error else { return };
        mine.add(&requests.failed[finished.ending as usize], 1);
        let at = ErrorCode::ALL.iter().position(|known| *known == code).unwrap_or(CODES - 1);
        mine.add(&mine.stripe.errors[at], 1);
    }

    fn waits(&self, door: Door) {
        let mine = self.0.mine();
        mine.add(&mine.stripe.waited[door as usize][0], 1);
    }

    fn abandoned(&self, door: Door, requests: usize) {
        let mine = self.0.mine();
        mine.add(&mine.stripe.waited[door as usize][1], requests as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::clock::Nanos;
    use kvorum_core::measure::meter::ReadSource;
    use kvorum_protocol::{Outcome, ResponseBody, ServerError};

    fn read(path: ReadPath, apart: bool) -> Finished {
        let finished = Finished::new(Door::Binary, OperationKind::Get, &ResponseBody::Value(None), Nanos(10_000));
        Finished { source: Some(ReadSource { path, apart }), ..finished }
    }

    #[test]
    fn who_waits_is_counted_until_it_is_answered_or_gone() {
        let counts = DoorCounts::default();
        (0..3).for_each(|_| counts.waits(Door::Http));
        counts.finished(&Finished { waited: true, door: Door::Http, ..read(ReadPath::Confirmed, false) });
        assert_eq!((counts.waiting(Door::Http), counts.waiting(Door::Binary)), (2, 0));
        counts.abandoned(Door::Http, 2);
        assert_eq!(counts.waiting(Door::Http), 0);
        let durations = counts.durations(Door::Http, OperationKind::Get);
        assert_eq!((durations.count(), durations.sum_ns), (1, 10_000));
    }

    #[test]
    fn requests_are_told_apart_by_how_they_ended() {
        let counts = DoorCounts::default();
        let failed = |code, outcome| {
            let error = ServerError::new(code, "").with_outcome(outcome);
            let finished = Finished::new(Door::Http, OperationKind::Put, &ResponseBody::Error(error), Nanos(1));
            counts.finished(&finished);
        };
        failed(ErrorCode::Overloaded, Outcome::NotApplied);
        failed(ErrorCode::DeadlineExceeded, Outcome::Unknown);
        failed(ErrorCode::Unknown(9_999), Outcome::Unknown);
        counts.finished(&Finished::new(Door::Http, OperationKind::Put, &ResponseBody::Done, Nanos(1)));
        let all = counts.durations(Door::Http, OperationKind::Put).count();
        let ended = Ending::ALL.map(|ending| counts.ended(Door::Http, OperationKind::Put, ending, all));
        assert_eq!((all, ended), (4, [1, 1, 2]));
        let errors: Vec<_> = counts.errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [(Some(ErrorCode::Overloaded), 1), (Some(ErrorCode::DeadlineExceeded), 1), (None, 1)]);
    }

    #[test]
    fn a_hit_is_what_this_nodes_memory_answered_alone() {
        let counts = DoorCounts::default();
        for (path, apart) in [
            (ReadPath::Lease, false),
            (ReadPath::Stale, false),
            (ReadPath::Lease, true),
            (ReadPath::Confirmed, false),
            (ReadPath::Forwarded, false),
        ] {
            counts.finished(&read(path, apart));
        }
        assert_eq!(counts.hits_and_misses(), (2, 3));
    }
}
