//! Reads that are answered from the shared state of a shard, without its actor.

use crate::clock::{Clock, Nanos};
use crate::limits::LARGE_WORK_BYTES;
use crate::measure::ShardCounts;
use crate::measure::slow::About;
use crate::routing::router::Router;
use crate::shard::ShardHandle;
use crate::store::{Found, Located, ReadError, StoreReader, StoredRecord};
use bytes::Bytes;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::limits::SCAN_ENTRIES_MAX;
use kvorum_protocol::{ErrorCode, LogIndex, Outcome, ReadMode, ResponseBody, ScanRequest, ServerError, ShardId};
use std::sync::Arc;

/// What expires so soon counts as due, in milliseconds: log time and the clocks of nodes differ a little.
const DUE_MARGIN_MS: u64 = 50;

/// What is read.
#[derive(Debug)]
pub(super) enum What {
    Get {
        key: Bytes,
        /// Where it is likely to stand in the index's order.
        order: Option<u64>,
    },
    /// One of many with long keys: it is looked up elsewhere.
    GetElsewhere(Bytes),
    Scan(ScanRequest),
}

impl What {
    /// What it is about: for what is told of it, not for reading it.
    pub(super) fn about(&self, shard: ShardId) -> Option<About> {
        let key_hash = match self {
            Self::Get { key, .. } | Self::GetElsewhere(key) => Some(hash64(key)),
            Self::Scan(_) => None,
        };
        Some(About { shard, key_hash })
    }
}

/// A read that waits until a quorum has confirmed that its shard's replica leads.
#[derive(Debug)]
pub(super) struct ReadPlan {
    /// The very incarnation that was asked: another one may know less.
    pub(super) handle: Arc<ShardHandle>,
    pub(super) what: What,
    pub(super) at: ReadAt,
}

/// Which read it is, among all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadAt {
    /// When it was taken up.
    pub(super) began: Nanos,
    /// Which one of its session.
    pub(super) nth: u64,
}

impl ReadPlan {
    /// The answer, once confirmed.
    pub(super) fn read(&self, clock: &dyn Clock) -> ReadNow {
        read(&self.handle, &self.what, self.at, LARGE_WORK_BYTES, clock)
    }
}

/// What a read has come to.
#[derive(Debug)]
pub(super) enum ReadNow {
    /// The answer.
    Done(ResponseBody),
    /// What is left to do takes milliseconds.
    Large(LargeRead),
}

/// A read that takes milliseconds.
#[derive(Debug)]
pub(super) struct LargeRead {
    shard: ShardId,
    /// Is told of damage.
    reader: Arc<StoreReader>,
    counts: Arc<ShardCounts>,
    what: LargeWhat,
}

#[derive(Debug)]
enum LargeWhat {
    /// Which record answers the GET is settled.
    Record(StoredRecord),
    /// It is not.
    Key(Bytes),
    /// Looks at many records, any of which may have to come from the disk.
    Scan(ScanRequest),
}

impl LargeRead {
    /// Bytes of the value that it reads, if it is settled which one that is.
    pub(super) fn value_bytes(&self) -> usize {
        match &self.what {
            LargeWhat::Record(record) => record.value_bytes(),
            LargeWhat::Key(_) | LargeWhat::Scan(_) => 0,
        }
    }

    /// The answer. How long it takes is part of the shard's load.
    pub(super) fn read(&self, clock: &dyn Clock) -> ResponseBody {
        let began = clock.monotonic();
        let answer = match &self.what {
            LargeWhat::Record(record) => {
                let found = record.read().inspect_err(|failure| self.reader.report_damage(*failure));
                found.map(|found| value(Some(found)))
            }
            LargeWhat::Key(key) => self.reader.get(key).map(value),
            LargeWhat::Scan(scan) => {
                let limit = scan.limit.clamp(1, SCAN_ENTRIES_MAX) as usize;
                self.reader.scan(scan.cursor, &scan.prefix, limit, scan.values).map(ResponseBody::Page)
            }
        };
        self.counts.load.note_reads(clock.monotonic().0.saturating_sub(began.0));
        answer.unwrap_or_else(|failure| damaged(self.shard, failure))
    }
}

/// The answer to a request that was taken up at `at`, if this node may give it now: it leads and its lease holds both
/// then and after the read, or the read may be stale. Not for what is read elsewhere and may not be stale: that is later than this looks
/// at the lease.
/// A record of more than `bytes_max` bytes is found and not read. With the answer comes what the clock showed then, if it was read.
pub(super) fn at_once(
    router: &Router,
    shard: ShardId,
    what: &What,
    mode: ReadMode,
    at: ReadAt,
    bytes_max: usize,
) -> Option<(ReadNow, Option<Nanos>)> {
    let handle = router.local(shard)?;
    if mode == ReadMode::Stale {
        // One that has just joined holds nothing yet: that is no state, however old.
        let holds_a_state = handle.status.lock().applied > LogIndex(0);
        return holds_a_state.then(|| (read(&handle, what, at, bytes_max, router.clock()), None));
    }
    let pass = handle.gate.pass(at.began)?;
    let read = read(&handle, what, at, bytes_max, router.clock());
    let now = router.clock().monotonic();
    handle.gate.still_open(pass, now).then_some((read, Some(now)))
}

/// Whether an answer tells of a record that expires about now, if not a moment ago: log time, by which it does, moves on with entries,
/// and may be a tick behind. The same read in the shard's queue is answered as of its entry.
pub(super) fn is_due(router: &Router, answer: &ReadNow) -> bool {
    let expires_at_ms = match answer {
        ReadNow::Done(ResponseBody::Value(Some(entry))) => entry.expires_at_ms,
        ReadNow::Large(LargeRead { what: LargeWhat::Record(record), .. }) => record.expires_at_ms(),
        _ => None,
    };
    expires_at_ms.is_some_and(|at_ms| {
        let now = router.clock().now();
        at_ms <= now.agreed_ms.unwrap_or(now.wall_ms).saturating_add(DUE_MARGIN_MS)
    })
}

fn read(handle: &ShardHandle, what: &What, at: ReadAt, bytes_max: usize, clock: &dyn Clock) -> ReadNow {
    let (What::Get { key, .. } | What::GetElsewhere(key)) = what else { return read_now(handle, what, bytes_max) };
    // One of many is looked at, and its time stands for all of theirs: the others cost no look at a clock.
    let Some(stands_for) = handle.counts.heat.note_read(key, at.began, at.nth) else {
        return read_now(handle, what, bytes_max);
    };
    let began = clock.monotonic();
    let read = read_now(handle, what, bytes_max);
    handle.counts.load.note_reads(clock.monotonic().0.saturating_sub(began.0) * stands_for);
    read
}

fn read_now(handle: &ShardHandle, what: &What, bytes_max: usize) -> ReadNow {
    let large = |what| {
        let reader = Arc::clone(&handle.reader);
        let counts = Arc::clone(&handle.counts);
        ReadNow::Large(LargeRead { shard: handle.shard, reader, counts, what })
    };
    match what {
        What::Get { key, order } => match handle.reader.locate(key, *order, bytes_max) {
            Ok(Located::Large(record)) => large(LargeWhat::Record(record)),
            Ok(Located::Small(found)) => ReadNow::Done(value(found)),
            Err(failure) => ReadNow::Done(damaged(handle.shard, failure)),
        },
        What::GetElsewhere(key) => large(LargeWhat::Key(key.clone())),
        What::Scan(scan) => large(LargeWhat::Scan(scan.clone())),
    }
}

fn value(found: Option<Found>) -> ResponseBody {
    ResponseBody::Value(found.map(|found| found.entry))
}

/// The reader has noted it: this replica ends with its next turn, and another one will lead. So it is worth asking again.
pub(super) fn damaged(shard: ShardId, failure: ReadError) -> ResponseBody {
    tracing::error!(%shard, error = %failure, "a stored record can't be read");
    let detail = format!("shard {shard}: damage was found: {failure}");
    ResponseBody::Error(ServerError::new(ErrorCode::Unavailable, detail).with_outcome(Outcome::NotApplied))
}
