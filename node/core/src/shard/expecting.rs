//! What wakes a replica's host: of all that comes in, only what gets the replica on.

use super::Operation;
use kvorum_protocol::LogIndex;
use kvorum_protocol::peer::{RaftMessage, RaftMessageKind};

/// Whether the host must take a turn because of what has come in.
pub(super) type Wakes = bool;

/// What gets a replica on, besides ticks. Whatever else comes in may wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expecting {
    /// Anything.
    #[default]
    Anything,
    /// It follows: messages and requests, but no syncs. What rests on those leaves by itself.
    Messages,
    /// It leads and has an entry on its way: `missing` more confirmations that a replica holds it. New requests wait for
    /// the next entry.
    Quorum {
        /// The entry.
        index: LogIndex,
        /// The entry is durable here when this token is.
        token: u64,
        /// How many are missing, this replica's own included.
        missing: usize,
    },
    /// It leads and has nothing on its way: requests. Further confirmations of its last entry, at `index`, say nothing
    /// new.
    Requests {
        /// The last entry.
        index: LogIndex,
    },
}

impl Expecting {
    /// Whether a message gets the host on.
    pub(super) fn note_message(&mut self, message: &RaftMessage) -> Wakes {
        let accepts = message.kind == RaftMessageKind::AppendResponse && !message.reject;
        let is_sign_of_life = message.kind == RaftMessageKind::HeartbeatResponse && message.context.is_empty();
        match *self {
            Self::Anything | Self::Messages => true,
            Self::Quorum { .. } | Self::Requests { .. } if is_sign_of_life => false,
            Self::Quorum { index, .. } if accepts && message.index >= index => self.note_confirmation(),
            Self::Requests { index } if accepts && message.index >= index => false,
            // A follower that lags is sent more.
            Self::Quorum { .. } | Self::Requests { .. } => true,
        }
    }

    /// Whether a sync gets the host on.
    pub(super) fn note_persisted(&mut self, persisted: u64) -> Wakes {
        match *self {
            Self::Anything => true,
            Self::Quorum { token, .. } if persisted >= token => self.note_confirmation(),
            Self::Messages | Self::Quorum { .. } | Self::Requests { .. } => false,
        }
    }

    /// A replica holds the entry that is on its way. The same may say so twice: the host's turn counts anew.
    fn note_confirmation(&mut self) -> Wakes {
        let Self::Quorum { missing, .. } = self else { return true };
        *missing = missing.saturating_sub(1);
        *missing == 0
    }

    /// Whether a request gets the host on: not if it has to wait for the next entry anyway.
    pub(super) fn note_request(&self, operation: &Operation) -> Wakes {
        !matches!(self, Self::Quorum { .. }) || matches!(operation, Operation::Confirm)
    }
}
