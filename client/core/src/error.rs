//! What can go wrong with an operation, and what became of it.

use kvorum_protocol::{DecodeError, ErrorCode, NodeId, Outcome, Retry, ServerError};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

/// Why an operation failed. [`Error::outcome`] says what became of it.
///
/// The text of an error does not repeat the text of its [source](std::error::Error::source): print the whole chain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node answered with an error that retrying did not mend. Its outcome covers all attempts, not only the last.
    #[error(transparent)]
    Server(#[from] ServerError),
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
    #[error("can't reach the cluster ({outcome})")]
    Unreachable {
        /// What became of the operation.
        outcome: Outcome,
        /// Who was tried last, and what that met.
        source: ConnectionError,
    },
    /// The connection ended before the answer came, and the operation is not one that may be sent again.
    #[error("the connection ended before the answer ({outcome})")]
    ConnectionLost {
        /// What became of the operation.
        outcome: Outcome,
        /// How the connection ended.
        source: ConnectionError,
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
            Self::Server(error) => error.outcome,
            Self::DeadlineExceeded { outcome, .. }
            | Self::Unreachable { outcome, .. }
            | Self::ConnectionLost { outcome, .. }
            | Self::Protocol { outcome, .. } => *outcome,
            Self::TooLarge { .. } | Self::InvalidArgument(_) | Self::TooManyInFlight { .. } | Self::Closed => {
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
            Self::Server(error) => error.retry != Retry::No || error.code == ErrorCode::DeadlineExceeded,
            Self::DeadlineExceeded { .. }
            | Self::Unreachable { .. }
            | Self::ConnectionLost { .. }
            | Self::TooManyInFlight { .. } => true,
            Self::Protocol { .. } | Self::TooLarge { .. } | Self::InvalidArgument(_) | Self::Closed => false,
        }
    }

    /// The error and its sources in one line, as a person reads it.
    pub fn report(&self) -> String {
        chain(self)
    }

    /// What went wrong, as the code that a node would have used for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Server(error) => error.code,
            Self::DeadlineExceeded { .. } => ErrorCode::DeadlineExceeded,
            Self::Unreachable { .. } | Self::ConnectionLost { .. } => ErrorCode::Unavailable,
            Self::Protocol { .. } => ErrorCode::Malformed,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::InvalidArgument(_) => ErrorCode::InvalidArgument,
            Self::TooManyInFlight { .. } => ErrorCode::Overloaded,
            Self::Closed => ErrorCode::ShuttingDown,
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

/// An error and its sources, in one line. What the system says comes in its words, without its number.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let text = match error.downcast_ref::<io::Error>() {
        Some(error) => plain(error),
        None => error.to_string(),
    };
    match error.source() {
        Some(source) => format!("{text}: {}", chain(source)),
        None => text,
    }
}

/// An I/O error in the words of the system, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
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
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The system could not resolve the name, connect, read or write.
    Io {
        /// Where the node was looked for, `host:port`.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Opening took longer than the connect timeout: resolving the name, TCP, and the node's greeting.
    TimedOut {
        /// Where the node was looked for, `host:port`.
        address: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The node refused the client's greeting.
    Refused {
        /// Where the node was reached, `host:port`.
        address: String,
        /// Why, as the node says.
        source: ServerError,
    },
    /// It was open, and ended.
    Closed {
        /// Where the node was reached, `host:port`.
        address: String,
        /// Who ended it, and why.
        reason: CloseReason,
    },
    /// The node sent bytes that are not this protocol.
    Malformed {
        /// Where the node was reached, `host:port`.
        address: String,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// Another node answers at this address.
    OtherNode {
        /// Where the node was looked for, `host:port`.
        address: String,
    },
    /// None of the seeds answers. The text has what each of them met.
    Seeds(Vec<Self>),
    /// The node that was asked for is not in the topology.
    UnknownNode(NodeId),
    /// The node takes in what it is sent too slowly, so nothing more is sent to it for now.
    Crowded {
        /// Where the node was reached, `host:port`.
        address: String,
    },
}

/// Why a connection that was open has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The node closed it.
    ByNode,
    /// The node closed it before it answered the greeting.
    BeforeGreeting,
    /// The node is about to stop, and takes no more requests.
    NodeStopping,
    /// The node has not answered anything for a while, although it was probed.
    Silence,
    /// The client closed it.
    ByClient,
    /// The runtime ended the task that served it.
    TaskEnded,
}

impl ConnectionError {
    /// A refusal that this node will not take back, such as that of another cluster.
    pub fn refusal(&self) -> Option<&ServerError> {
        match self {
            Self::Refused { source, .. } if source.retry == Retry::No => Some(source),
            _ => None,
        }
    }

    /// How long the node asks to be left alone: one that refused the greeting for now, such as a node with too many
    /// connections. Of several seeds, the shortest such time.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Refused { source: ServerError { retry: Retry::AfterMs(ms), .. }, .. } => {
                Some(Duration::from_millis((*ms).into()))
            }
            Self::Seeds(failures) => failures.iter().filter_map(Self::pause).min(),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The source tells the rest.
            Self::Io { address, .. } => f.write_str(address),
            Self::TimedOut { address, timeout } => write!(f, "{address}: no answer within {}", span(*timeout)),
            Self::Refused { address, .. } => write!(f, "{address} refused the connection"),
            Self::Closed { address, reason } => write!(f, "{address}: {reason}"),
            Self::Malformed { address, .. } => write!(f, "{address} sent what is not a reply"),
            Self::OtherNode { address } => write!(f, "{address} belongs to another node now"),
            Self::Seeds(failures) if failures.len() == 1 => failures[0].fmt(f),
            Self::Seeds(failures) => {
                f.write_str(&failures.iter().map(|failure| chain(failure)).collect::<Vec<_>>().join("; "))
            }
            Self::UnknownNode(node) => write!(f, "node {node} is not part of the cluster"),
            Self::Crowded { address } => write!(f, "{address} has not taken in what it was sent before"),
        }
    }
}

impl std::error::Error for ConnectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            Self::Refused { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(source),
            Self::Seeds(failures) if failures.len() == 1 => failures[0].source(),
            Self::Seeds(_)
            | Self::TimedOut { .. }
            | Self::Closed { .. }
            | Self::OtherNode { .. }
            | Self::UnknownNode(_)
            | Self::Crowded { .. } => None,
        }
    }
}

impl PartialEq for ConnectionError {
    /// Errors of the system are equal if their kinds are.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Io { address, source }, Self::Io { address: others, source: other }) => {
                address == others && source.kind() == other.kind()
            }
            (Self::TimedOut { address, timeout }, Self::TimedOut { address: others, timeout: other }) => {
                address == others && timeout == other
            }
            (Self::Refused { address, source }, Self::Refused { address: others, source: other }) => {
                address == others && source == other
            }
            (Self::Closed { address, reason }, Self::Closed { address: others, reason: other }) => {
                address == others && reason == other
            }
            (Self::Malformed { address, source }, Self::Malformed { address: others, source: other }) => {
                address == others && source == other
            }
            (Self::OtherNode { address }, Self::OtherNode { address: others }) => address == others,
            (Self::Seeds(failures), Self::Seeds(others)) => failures == others,
            (Self::UnknownNode(node), Self::UnknownNode(other)) => node == other,
            (Self::Crowded { address }, Self::Crowded { address: others }) => address == others,
            _ => false,
        }
    }
}

impl Eq for ConnectionError {}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByNode => "the node closed the connection",
            Self::BeforeGreeting => "the node closed the connection before it answered HELLO",
            Self::NodeStopping => "the node is about to stop",
            Self::Silence => "the node has not answered anything for a while",
            Self::ByClient => "closed by this client",
            Self::TaskEnded => "the connection's task ended",
        })
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
    #[test]
    fn an_error_leads_to_what_the_system_said_and_says_it_once() {
        let at = |address: &str, kind: io::ErrorKind| ConnectionError::Io {
            address: address.into(),
            source: Arc::new(io::Error::from(kind)),
        };
        let seeds = |seeds| Error::Unreachable { outcome: Outcome::NotApplied, source: ConnectionError::Seeds(seeds) };
        let one = seeds(vec![at("a:1", io::ErrorKind::ConnectionRefused)]);
        let sources = std::iter::successors(Some(&one as &dyn std::error::Error), |error| error.source());
        let last = sources.last().and_then(|error| error.downcast_ref::<io::Error>());
        assert_eq!(last.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(one.report(), "can't reach the cluster (not applied): a:1: connection refused");
        let two = seeds(vec![at("a:1", io::ErrorKind::ConnectionRefused), at("b:1", io::ErrorKind::HostUnreachable)]);
        assert_eq!(
            two.report(),
            "can't reach the cluster (not applied): a:1: connection refused; b:1: host unreachable"
        );
    }
}
