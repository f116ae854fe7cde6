//! Reads that are answered from the shared state of a shard, without its actor.

use crate::clock::Nanos;
use crate::limits::LARGE_WORK_BYTES;
use crate::router::Router;
use crate::shard::inbox::ShardHandle;
use crate::store::{Found, LargeRecord, Located, ReadError, StoreReader};
use bytes::Bytes;
use kvorum_protocol::limits::SCAN_ENTRIES_MAX;
use kvorum_protocol::{ErrorCode, Outcome, ReadMode, ResponseBody, ScanRequest, ServerError, ShardId};
use std::sync::Arc;

/// A page ends between two hashes, so it holds all keys that share its last one; this many are left room for.
const SCAN_TIES: u32 = 64;

/// What is read.
#[derive(Debug)]
pub(super) enum What {
    Get(Bytes),
    Scan(ScanRequest),
}

/// A read that waits until a quorum has confirmed that its shard's replica leads.
#[derive(Debug)]
pub(super) struct ReadPlan {
    /// The very incarnation that was asked: another one may know less.
    pub(super) handle: Arc<ShardHandle>,
    pub(super) what: What,
}

impl ReadPlan {
    /// The answer, once confirmed.
    pub(super) fn read(&self) -> ReadNow {
        read(&self.handle, &self.what)
    }
}

/// What a read has come to.
#[derive(Debug)]
pub(super) enum ReadNow {
    /// The answer.
    Done(ResponseBody),
    /// A large record is the answer: it only has to be read.
    Large(LargeRead),
}

impl ReadNow {
    /// The answer, however long it takes.
    pub(super) fn wait(self) -> ResponseBody {
        match self {
            ReadNow::Done(body) => body,
            ReadNow::Large(read) => read.read(),
        }
    }
}

/// A record that answers a GET and takes milliseconds to read. Which record that is, is settled.
#[derive(Debug)]
pub(super) struct LargeRead {
    shard: ShardId,
    record: LargeRecord,
    /// Is told of damage.
    reader: Arc<StoreReader>,
}

impl LargeRead {
    /// The answer.
    pub(super) fn read(&self) -> ResponseBody {
        let found = self.record.read().inspect_err(|failure| self.reader.report_damage(*failure));
        found.map_or_else(|failure| damaged(self.shard, failure), value)
    }
}

/// The answer to a request that was taken up at `began`, if this node may give it now: it leads and its lease holds both
/// then and after the read, or the read may be stale.
pub(super) fn at_once(router: &Router, shard: ShardId, what: &What, mode: ReadMode, began: Nanos) -> Option<ReadNow> {
    let handle = router.local(shard)?;
    if mode == ReadMode::Stale {
        return Some(read(&handle, what));
    }
    let pass = handle.gate.pass(began)?;
    let read = read(&handle, what);
    handle.gate.still_open(pass, router.clock().monotonic()).then_some(read)
}

fn read(handle: &ShardHandle, what: &What) -> ReadNow {
    let result = match what {
        What::Get(key) => match handle.reader.locate(key, LARGE_WORK_BYTES) {
            Ok(Located::Large(record)) => {
                let reader = Arc::clone(&handle.reader);
                return ReadNow::Large(LargeRead { shard: handle.shard, record, reader });
            }
            Ok(Located::Small(found)) => Ok(value(found)),
            Err(failure) => Err(failure),
        },
        What::Scan(scan) => {
            let limit = scan.limit.clamp(1, SCAN_ENTRIES_MAX - SCAN_TIES) as usize;
            handle.reader.scan(scan.cursor, &scan.prefix, limit, scan.values).map(ResponseBody::Page)
        }
    };
    ReadNow::Done(result.unwrap_or_else(|failure| damaged(handle.shard, failure)))
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
