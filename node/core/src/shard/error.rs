//! Why a replica ends, and what is done about it.

use crate::consensus::ConsensusError;
use crate::log::LogError;
use crate::log::operations::OperationsError;
use crate::sealing::SealError;
use kvorum_protocol::LogIndex;

/// Why a shard replica can't go on. It is rebuilt from its log.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Consensus can't go on.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A committed entry is not what a leader writes.
    #[error("entry {index} can't be applied: {reason}")]
    Entry {
        /// The entry.
        index: LogIndex,
        /// Why.
        reason: OperationsError,
    },
}

/// What is to be done about a replica that can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Nothing is wrong: a snapshot has taken the place of its files, and it is opened from them at once. No error asks for
    /// it, but the end of a turn ([`crate::shard::host::TurnEnd::Reopen`]).
    Reopen,
    /// Open it again from its log, as the restart policy allows.
    Restart,
    /// Its log is damaged, and opening it again would find the same damage. It takes no part in its group: it must not
    /// vote.
    LeaveOut,
    /// Its log has lost what it acknowledged, and nothing in the log shows it. It takes no part in its group, and must never be
    /// opened again, not by the next process either.
    EndLife,
    /// A file operation failed. The process ends: the system may have taken what it could not write for written, and only
    /// the next start looks at the medium itself.
    EndProcess,
    /// Another program has written what this one does not read. The process ends, however often it is started, until that
    /// program goes on.
    AwaitProgram,
    /// The disk is full. Open it again after a while, however often it takes: that is not its failure.
    AwaitSpace,
    /// A data key is not here yet. As with a full disk: the key comes from a peer.
    AwaitKey,
}

impl ShardError {
    /// What is to be done.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Log(error) | Self::Consensus(ConsensusError::Log(error)) => match error {
                LogError::Damaged { .. } => Remedy::LeaveOut,
                LogError::Disk(_) => Remedy::EndProcess,
                LogError::Unsupported { .. } => Remedy::AwaitProgram,
                LogError::DiskFull(_) => Remedy::AwaitSpace,
                LogError::NoKey { .. } => Remedy::AwaitKey,
                _ => Remedy::Restart,
            },
            Self::Consensus(ConsensusError::Forgotten { .. }) => Remedy::EndLife,
            Self::Entry { reason: OperationsError::Reserved(_), .. } => Remedy::AwaitProgram,
            Self::Entry { reason: OperationsError::Sealed(SealError::NoKey(_)), .. } => Remedy::AwaitKey,
            Self::Consensus(_) | Self::Entry { .. } => Remedy::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;
    use crate::log::operations::Reserved;
    use kvorum_protocol::ShardId;

    /// Started again by itself, the replica would meet the same. Left out, it would be replaced, and its files erased.
    #[test]
    fn what_another_program_has_written_ends_the_process() {
        let what = formats::SEGMENT.check(9).unwrap_err().into();
        let log = ShardError::Log(LogError::Unsupported { shard: ShardId(3), what });
        let entry = ShardError::Entry { index: LogIndex(5), reason: Reserved::TypedRecord.into() };
        assert_eq!([log.remedy(), entry.remedy()], [Remedy::AwaitProgram; 2]);
        let text = "the segment has version 9, and this program reads version 3: start a newer program";
        assert_eq!(log.to_string(), text);
        let text =
            "entry 5 can't be applied: a record has a type, which this program does not read: start a newer program";
        assert_eq!(entry.to_string(), text);
    }
}
