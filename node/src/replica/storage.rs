//! The shard log as the consensus library reads it.

use super::convert;
use crate::log::{LogError, ShardLog};
use kvorum_protocol::LogIndex;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// Owns the shard log for as long as the library runs.
pub(super) struct LogStorage {
    pub(super) log: ShardLog,
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let membership = self.log.membership().expect("a log without a membership is never given to consensus");
        Ok(RaftState::new(
            convert::hard_state_to_library(&self.log.hard_state()),
            convert::membership_to_library(membership),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let budget = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for index in low..high {
            let entry = self.log.entry(LogIndex(index)).map_err(store_error)?;
            bytes += entry.payload.len() as u64;
            // The library's contract: at least one entry, however large.
            if bytes > budget && !entries.is_empty() {
                break;
            }
            entries.push(convert::entry_from_wire(entry));
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == 0 {
            return Ok(0);
        }
        let term = self.log.term_of(LogIndex(index));
        term.map(|term| term.0).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first_index().0)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index().0)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // The log still holds every entry, so no follower ever needs one.
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

fn store_error(error: LogError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}
