//! Why a connection ends, said so that an operator can act on it: to the other end as a code, to this one's log as a line.

use super::Removal;
use super::lane::LaneError;
use super::limits::IDLE_TIMEOUT;
use super::peer::DialError;
use quinn::{Connection, ConnectionError, VarInt, WriteError};
use std::fmt;

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a node says when it closes a connection. The numbers are part of the protocol.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum CloseCode {
            $($(#[$doc])* $name = $number,)*
        }
        impl CloseCode {
            fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(CloseCode::$name),)*
                    _ => None,
                }
            }
        }
        impl fmt::Display for CloseCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(CloseCode::$name => $text,)*
                })
            }
        }
    };
}

close_codes! {
    /// The node stops.
    Shutdown = 0, "the node shuts down";
    /// The certificate or the hello names another cluster.
    WrongCluster = 1, "wrong cluster";
    /// The certificate names no node, or one that is not an expected peer.
    UnknownNode = 2, "unknown node";
    /// The hello names a version of the protocol that this node does not speak.
    Version = 3, "no common version of the protocol";
    /// The bytes or their order are not what the protocol says.
    Protocol = 4, "broken protocol";
    /// A newer connection of the same two nodes takes over.
    Replaced = 5, "replaced by a newer connection";
    /// The part of the node that serves this peer failed and starts again.
    Restart = 6, "the peer's actor restarts";
    /// The node comes with a data folder that was replaced, or the other end can't write down with which one it comes.
    WrongDisk = 7, "the data folder";
    /// The node was removed from the cluster, and does not return.
    Removed = 8, "the node was removed";
    /// An operator has recovered the cluster from a loss, and has given the node up.
    GivenUp = 9, "the cluster was recovered without the node";
    /// A node that joins is to come again.
    Busy = 10, "not now";
}

impl CloseCode {
    /// Closes the connection with this code; the other end's log shows the code's text and `detail`.
    pub(super) fn close(self, connection: &Connection, detail: &str) {
        connection.close(VarInt::from_u32(self as u32), detail.as_bytes());
    }
}

/// Why a connection was not made, or why it is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The address could not be dialled.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// This node refused the other end.
    #[error("refused the peer: {code}: {detail}")]
    Refused {
        /// What the other end was told.
        code: CloseCode,
        /// What was wrong, with names.
        detail: String,
    },
    /// QUIC or TLS failed, or the other end closed.
    #[error("{}", describe(.0))]
    Connection(#[from] ConnectionError),
    /// A stream can't be read any more.
    #[error("{}", describe_lane(.0))]
    Lane(#[from] LaneError),
    /// A stream can't be written any more.
    #[error("{}", describe_write(.0))]
    Write(#[from] WriteError),
    /// The other end did not finish its hello in time.
    #[error("no hello in time")]
    HelloTimeout,
    /// The actor of the peer ended the connection, for a newer one or with its own end.
    #[error("ended by this node")]
    Cancelled,
    /// A page of a mapped file was lost, and with it the certainty of what was about to be sent.
    #[error("the medium lost bytes that may be among what was to be sent")]
    LostPages,
    /// A task of the connection panicked: a fault of this program.
    #[error("a task of the connection panicked: {0}")]
    Panicked(String),
}

impl LinkError {
    /// Whether the other end has said that this node was removed, and how.
    pub(super) fn says_removed(&self) -> Option<Removal> {
        let closed = match self {
            Self::Connection(closed)
            | Self::Write(WriteError::ConnectionLost(closed))
            | Self::Lane(LaneError::Ended(quinn::ReadError::ConnectionLost(closed))) => closed,
            _ => return None,
        };
        let ConnectionError::ApplicationClosed(close) = closed else { return None };
        match CloseCode::from_number(close.error_code.into_inner()) {
            Some(CloseCode::Removed) => Some(Removal::Asked),
            Some(CloseCode::GivenUp) => Some(Removal::GivenUp),
            _ => None,
        }
    }

    /// What the other end is told, if the connection still stands.
    pub(super) fn close_code(&self) -> CloseCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Cancelled => CloseCode::Replaced,
            Self::Panicked(_) | Self::LostPages => CloseCode::Restart,
            Self::HelloTimeout | Self::Lane(_) => CloseCode::Protocol,
            Self::Dial(_) | Self::Connection(_) | Self::Write(_) => CloseCode::Shutdown,
        }
    }
}

/// One clear clause for each way a connection can fail.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let detail = String::from_utf8_lossy(&close.reason);
            match CloseCode::from_number(close.error_code.into_inner()) {
                Some(code) if detail.is_empty() => format!("closed by the peer: {code}"),
                Some(code) => format!("closed by the peer: {code}: {detail}"),
                None => format!("closed by the peer with code {}: {detail}", close.error_code),
            }
        }
        // TLS alerts travel as transport errors from 0x100 to 0x1ff (RFC 9001, section 4.8).
        ConnectionError::TransportError(error) if is_tls_alert(error.code) => {
            format!("wrong certificate: {}", error.reason)
        }
        ConnectionError::ConnectionClosed(close) if is_tls_alert(close.error_code) => {
            format!("the peer refused this node's certificate: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => format!("no sign of life for {} s", IDLE_TIMEOUT.as_secs()),
        ConnectionError::Reset => "the peer was restarted and knows nothing of the connection".to_owned(),
        other => other.to_string(),
    }
}

fn is_tls_alert(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn describe_lane(error: &LaneError) -> String {
    match error {
        LaneError::Ended(quinn::ReadError::ConnectionLost(error)) => describe(error),
        other => other.to_string(),
    }
}

fn describe_write(error: &WriteError) -> String {
    match error {
        WriteError::ConnectionLost(error) => describe(error),
        other => other.to_string(),
    }
}
