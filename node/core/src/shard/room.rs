//! Whether there is room for a write, decided by a shard's leader before it proposes anything: on the disk, and for a key
//! that is new in the memory of the index.

use super::Shard;
use crate::health::pressure::Pressure;
use crate::log::limits::VOTE_BYTES;
use crate::log::{ENTRY_OVERHEAD_BYTES, ShardLog};
use kvorum_protocol::peer::{RaftMessage, RaftMessageKind};
use kvorum_protocol::{ErrorCode, Retry, ServerError};

/// What an entry takes besides the requests in it: the front of its payload, and now and then a hard state behind it.
pub(super) const ENTRY_FRAME_BYTES: u32 = 256;
/// What is small enough to be written out of a log's reserve, in bytes of one entry in the log. Leaders propose nothing larger
/// out of theirs, and followers take each entry up to it out of theirs: otherwise what a leader has room for would never commit.
const URGENT_ENTRY_BYTES_MAX: u32 = 4 * 1024;
/// Space doesn't come back within milliseconds.
const RETRY_AFTER: Retry = Retry::AfterMs(1_000);

/// What a write needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Room in the log. `new_key`: and in the index, for a key that it does not hold.
    Room {
        /// Bytes of the entry that it takes at most.
        bytes: usize,
        /// Whether the index grows.
        new_key: bool,
    },
    /// A little room in the log, for what frees space, or keeps its place among writes.
    Urgent {
        /// Bytes of the entry that it takes at most.
        bytes: usize,
    },
}

impl Need {
    /// What a write needs that stores a value, or else only removes.
    pub(super) fn of(stores: bool, new_key: bool, bytes: usize) -> Self {
        if stores { Self::Room { bytes, new_key } } else { Self::Urgent { bytes } }
    }
}

impl Shard {
    /// Whether there is room for all that this replica may write because of a message. If so, it is set aside until the
    /// next poll.
    pub(super) fn finds_room(&mut self, message: &RaftMessage) -> bool {
        let log = self.consensus.log();
        let leads_to_a_term = message.term > self.consensus.term() || message.kind == RaftMessageKind::TimeoutNow;
        if leads_to_a_term && !log.can_append_vote() {
            return false;
        }
        if message.entries.is_empty() {
            return true;
        }
        let sizes = || message.entries.iter().map(|entry| u64::from(ENTRY_OVERHEAD_BYTES) + entry.payload.len() as u64);
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let largest = bytes(sizes().max().unwrap_or(0));
        let admitted = bytes(u64::from(self.admitted_bytes) + u64::from(VOTE_BYTES) + sizes().sum::<u64>());
        // What a leader writes out of its reserve must find room at its followers, too: reads that keep their place, removals,
        // and the entry that it begins its term with, without which nothing can be read at all.
        let fits = if message.entries.iter().all(|entry| entry.payload.is_empty()) {
            log.can_append_first_of_term(admitted)
        } else {
            can_append(log, largest, admitted)
        };
        if fits {
            self.admitted_bytes = admitted;
        }
        fits
    }
}

/// The room that one entry is made in. What the node says is looked at once, so that it can't change within an entry.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    log: &'a ShardLog,
    disk_is_full: bool,
    index_is_full: bool,
}

impl<'a> Room<'a> {
    /// The room that there is now.
    pub(super) fn new(log: &'a ShardLog, pressure: &Pressure) -> Self {
        Room { log, disk_is_full: pressure.disk_is_full(), index_is_full: pressure.index_is_full() }
    }

    /// Whether it matters if a key is new.
    pub(super) fn refuses_new_keys(&self) -> bool {
        self.index_is_full
    }

    /// Whether an entry that has `entry_bytes` so far may grow by what is needed.
    ///
    /// # Errors
    /// A refusal for the client: nothing was done.
    pub(super) fn admit(&self, entry_bytes: usize, need: Need) -> Result<(), ServerError> {
        let total = |bytes: usize| {
            let total = entry_bytes + bytes + (ENTRY_OVERHEAD_BYTES + ENTRY_FRAME_BYTES) as usize;
            u32::try_from(total).unwrap_or(u32::MAX)
        };
        let fits = match need {
            Need::Room { new_key: true, .. } if self.index_is_full => return Err(index_full()),
            Need::Room { bytes, .. } => !self.disk_is_full && self.log.can_append(total(bytes)),
            Need::Urgent { bytes } => can_append(self.log, total(bytes), total(bytes)),
        };
        if fits { Ok(()) } else { Err(disk_full()) }
    }
}

/// Whether there is room for a message's entries, `largest` bytes at most each and `total` with all that was admitted before.
pub(super) fn can_append(log: &ShardLog, largest: u32, total: u32) -> bool {
    if largest <= URGENT_ENTRY_BYTES_MAX { log.can_append_urgent(total) } else { log.can_append(total) }
}

fn disk_full() -> ServerError {
    let detail = "the disk of the shard's leader is full; reads and removals go on";
    ServerError::new(ErrorCode::DiskFull, detail).with_retry(RETRY_AFTER)
}

/// Not with a code of its own: a client that does not know a code can't read the answer at all, and must drop the
/// connection. `Overloaded` says what a client needs: nothing was done, a budget is used up, try again after a pause.
fn index_full() -> ServerError {
    let detail = "the index of the shard's leader may take no more memory (memory.index_max_mb): new keys are refused, \
                  others are written, read and removed";
    ServerError::new(ErrorCode::Overloaded, detail).with_retry(RETRY_AFTER)
}
