//! The shard log as the consensus library reads it.

use super::convert;
use crate::consensus::machine::SnapshotBase;
use crate::log::{HardState, LogError, ShardLog};
use crate::seeded::{Bug, planted};
use kvorum_protocol::LogIndex;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// Owns the shard log for as long as the library runs.
pub(super) struct LogStorage {
    pub(super) log: ShardLog,
    /// The last entry that has been applied; the log's membership is as of it.
    pub(super) applied: LogIndex,
}

impl LogStorage {
    /// What a snapshot of the applied state stands for; `None` before the first entry.
    pub(super) fn snapshot_base(&self) -> Option<SnapshotBase> {
        let mut index = self.applied;
        if index < self.log.last_index() && planted(Bug::SnapshotIndexOffByOne) {
            index.0 += 1;
        }
        let term = self.log.term_of(index)?;
        let membership = self.log.membership()?.clone();
        (index.0 > 0).then_some(SnapshotBase { index, term, membership })
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        // A replica that joins knows nobody: the library then neither campaigns nor counts.
        let membership = self.log.membership().cloned().unwrap_or_default();
        let state = self.log.hard_state();
        // What was applied was committed, whether or not that was written down as such.
        let state = HardState { commit: state.commit.max(self.applied), ..state };
        Ok(RaftState::new(convert::hard_state_to_library(&state), convert::membership_to_library(&membership)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.log.first_index().0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
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
        if index < self.log.before_first().0.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
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

    /// Only says what it would stand for: the state itself goes another way.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let base = self.snapshot_base().filter(|base| base.index.0 >= request_index);
        let base = base.ok_or(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))?;
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = base.index.0;
        metadata.term = base.term.0;
        metadata.set_conf_state(convert::membership_to_library(&base.membership));
        Ok(snapshot)
    }
}

fn store_error(error: LogError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}
