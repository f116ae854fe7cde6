//! What can go wrong with an operation, and what became of it.

use kvorum_protocol::{DecodeError, ErrorCode, Outcome, Retry, ServerError};
use std::time::Duration;

/// Why an operation failed. [`Error::outcome`] says what became of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node answered with an error that retrying did not mend. Its outcome covers all attempts, not only the last.
    #[error("{} ({}): {}", .0.code, .0.outcome, .0.detail)]
    Server(ServerError),
    /// The deadline passed while an answer was awaited.
    #[error("no answer within {} and {attempts} attempts ({outcome})", span(*waited))]
    DeadlineExceeded {
        /// What became of the operation.
        outcome: Outcome,
        /// How often it was sent.
        attempts: u32,
        /// How long it was tried.
        waited: Duration,
    },
    /// No node could be reached of those that might have answered.
    #[error("can't reach {detail} ({outcome})")]
    Unreachable {
        /// What became of the operation.
        outcome: Outcome,
        /// Who was tried, and what each attempt met.
        detail: String,
    },
    /// The connection ended before the answer came, and the operation is not one that may be sent again.
    #[error("the connection ended before the answer: {detail} ({outcome})")]
    ConnectionLost {
        /// What became of the operation.
        outcome: Outcome,
        /// How the connection ended.
        detail: String,
    },
    /// The node answered something that is not an answer to what was asked.
    #[error("a node does not speak this protocol as expected: {detail} ({outcome})")]
    Protocol {
        /// What became of the operation.
        outcome: Outcome,
        /// What is wrong.
        detail: String,
    },
    /// A key, value or list is over its limit. Nothing was sent.
    #[error("{what} is {size}, the limit is {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// Its size, in bytes or elements.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The request makes no sense. Nothing was sent.
    #[error("{0}")]
    InvalidArgument(String),
    /// The client has more operations in flight than it was allowed, and none ended within the deadline. Nothing was
    /// sent.
    #[error("{limit} operations were in flight for {}, the limit of this client", span(*waited))]
    TooManyInFlight {
        /// The limit.
        limit: usize,
        /// How long the operation waited for its turn.
        waited: Duration,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// What became of the operation. Reads have no effect, so theirs is always `NotApplied`.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Server(error) => error.outcome,
            Error::DeadlineExceeded { outcome, .. }
            | Error::Unreachable { outcome, .. }
            | Error::ConnectionLost { outcome, .. }
            | Error::Protocol { outcome, .. } => *outcome,
            Error::TooLarge { .. } | Error::InvalidArgument(_) | Error::TooManyInFlight { .. } | Error::Closed => {
                Outcome::NotApplied
            }
        }
    }

    /// Whether the same call may succeed later, and can be made again without taking effect twice. False for a write
    /// whose outcome is unknown: a new call is a new write.
    pub fn is_retryable(&self) -> bool {
        if self.outcome() != Outcome::NotApplied {
            return false;
        }
        match self {
            Error::Server(error) => error.retry != Retry::No || error.code == ErrorCode::DeadlineExceeded,
            Error::DeadlineExceeded { .. }
            | Error::Unreachable { .. }
            | Error::ConnectionLost { .. }
            | Error::TooManyInFlight { .. } => true,
            Error::Protocol { .. } | Error::TooLarge { .. } | Error::InvalidArgument(_) | Error::Closed => false,
        }
    }

    /// What went wrong, as the code that a node would have used for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Server(error) => error.code,
            Error::DeadlineExceeded { .. } => ErrorCode::DeadlineExceeded,
            Error::Unreachable { .. } | Error::ConnectionLost { .. } => ErrorCode::Unavailable,
            Error::Protocol { .. } => ErrorCode::Malformed,
            Error::TooLarge { .. } => ErrorCode::TooLarge,
            Error::InvalidArgument(_) => ErrorCode::InvalidArgument,
            Error::TooManyInFlight { .. } => ErrorCode::Overloaded,
            Error::Closed => ErrorCode::ShuttingDown,
        }
    }
}

/// The same error with an outcome that covers all attempts. What was not sent has none but its own.
#[must_use]
pub fn with_outcome(mut error: Error, new: Outcome) -> Error {
    match &mut error {
        Error::Server(error) => error.outcome = new,
        Error::DeadlineExceeded { outcome, .. }
        | Error::Unreachable { outcome, .. }
        | Error::ConnectionLost { outcome, .. }
        | Error::Protocol { outcome, .. } => *outcome = new,
        Error::TooLarge { .. } | Error::InvalidArgument(_) | Error::TooManyInFlight { .. } | Error::Closed => {}
    }
    error
}

/// A span of time as messages have it: to the millisecond.
pub fn span(span: Duration) -> String {
    let ms = (span.as_micros() + 500) / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        _ => format!("{}.{:03} s", ms / 1000, ms % 1000),
    }
}

/// Why there is no connection to a node, or no longer.
#[allow(missing_docs)]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectionError {
    /// It could not be opened.
    #[error("{address}: {detail}")]
    Dial { address: String, detail: String },
    /// The node refused HELLO.
    #[error("{address} refused the connection: {error}")]
    Refused { address: String, error: ServerError },
    /// It was open and ended.
    #[error("{address}: {detail}")]
    Lost { address: String, detail: String },
    /// The node sent bytes that are not this protocol.
    #[error("{address} sent what is not a reply: {error}")]
    Malformed { address: String, error: DecodeError },
    /// Another node answers at this address.
    #[error("{address} belongs to another node now")]
    OtherNode { address: String },
    /// None of the seeds answers.
    #[error("{}", .0.join("; "))]
    Seeds(Vec<String>),
    /// The node that was asked for is not in the topology.
    #[error("node {0} is not part of the cluster")]
    UnknownNode(kvorum_protocol::NodeId),
}

impl ConnectionError {
    /// A refusal that no other attempt will change, such as the wrong cluster.
    pub fn refusal(&self) -> Option<&ServerError> {
        match self {
            ConnectionError::Refused { error, .. } if error.retry == Retry::No => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_to_the_millisecond() {
        let spans = [80_000_000, 5_000_000_000, 5_001_774_679, 60_000_400_000, 999_600_000, 1];
        let told = spans.map(|nanos| span(Duration::from_nanos(nanos)));
        assert_eq!(told, ["80 ms", "5 s", "5.002 s", "60 s", "1 s", "0 ms"]);
    }
}
