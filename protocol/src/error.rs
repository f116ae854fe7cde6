//! Errors as a node answers them: what went wrong, what became of the operation, and whether to try again.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::types::NodeId;
use bytes::{BufMut, BytesMut};
use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What went wrong: one code per decision that a caller may make.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a newer version, by its number. What became of the operation, and whether to try again, is said all the
            /// same.
            Unknown(u16),
        }
        impl ErrorCode {
            /// Every code that this version knows.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];
            /// The code's number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(ErrorCode::$name => $number,)*
                    ErrorCode::Unknown(number) => number,
                }
            }
            /// The code of a number.
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => ErrorCode::$name,)*
                    number => ErrorCode::Unknown(number),
                }
            }
        }
        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(ErrorCode::$name => f.write_str(stringify!($name)),)*
                    ErrorCode::Unknown(number) => write!(f, "Unknown({number})"),
                }
            }
        }
    };
}

error_codes! {
    /// The bytes are not a message of this protocol. The node closes the connection after it.
    Malformed = 1,
    /// No common protocol version.
    UnsupportedVersion = 2,
    /// The client asked for another cluster.
    WrongCluster = 3,
    /// The first request of a connection must be HELLO, and only the first.
    HelloExpected = 4,
    /// The operation code is not known to this node.
    UnknownOperation = 5,
    /// A key, value, batch or reply is over its published limit.
    TooLarge = 6,
    /// A field is well formed and makes no sense, such as an empty key.
    InvalidArgument = 7,
    /// A queue or budget is full; nothing was done. Try again after a pause.
    Overloaded = 8,
    /// The shard has no leader that can answer now, or has lost its quorum.
    Unavailable = 9,
    /// This node does not lead the shard; `leader` names the one that may.
    NotLeader = 10,
    /// The deadline passed. `outcome` says whether it passed before the write was proposed.
    DeadlineExceeded = 11,
    /// The session that would tell whether an earlier copy of this retried write took effect has expired.
    SessionExpired = 12,
    /// The shard has forgotten clients that had used numbers this low, so it can't tell whether a copy of this write took
    /// effect before. `sequence_min` says from which number on it can.
    SequenceTooLow = 13,
    /// INCR on a value that is not a decimal 64-bit integer.
    NotAnInteger = 14,
    /// INCR past the range of a 64-bit integer.
    IntegerOverflow = 15,
    /// The keys of an ATOMIC are in different shards.
    CrossShard = 16,
    /// No space for another write.
    DiskFull = 17,
    /// The node is stopping.
    ShuttingDown = 18,
    /// The node has as many connections as it accepts.
    TooManyConnections = 19,
    /// The operation is switched off here.
    NotPermitted = 20,
    /// A fault of the node's own; its log says more.
    Internal = 21,
    /// The one-shot name of the write was used for another one.
    OnceIdReused = 22,
    /// The cluster, as it is now, can't do what an operator asks for.
    Refused = 23,
    /// Something is to be added to a value that is not a decimal number, or what is to be added is none.
    NotADecimal = 24,
    /// The client has not said who it is, or nobody of that name and with that proof may log in.
    Unauthenticated = 25,
    /// Whoever the client is may not do this.
    PermissionDenied = 26,
}

impl ErrorCode {
    /// Whether an error of this code is about what was asked, and about what is stored. Answered to a write that was sent
    /// before, it is final: no earlier copy will take effect. Errors of other codes say what kept this copy from being looked
    /// at, and nothing of others.
    pub fn is_verdict(self) -> bool {
        matches!(
            self,
            Self::TooLarge
                | Self::NotAnInteger
                | Self::NotADecimal
                | Self::IntegerOverflow
                | Self::CrossShard
                | Self::OnceIdReused
        )
    }
}

/// What became of the operation that an error answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// It had no effect and will have none.
    NotApplied,
    /// It took effect.
    Applied,
    /// It may have taken effect, may yet, or never.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApplied => "not applied",
            Self::Applied => "applied",
            Self::Unknown => "outcome unknown",
        })
    }
}

/// Whether to send the same request (with the same sequence number) again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Retry {
    /// It would fail again.
    No,
    /// Yes, after at least this many milliseconds.
    AfterMs(u32),
}

/// An error as a node answers it. New fields may come; [`ServerError::new`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServerError {
    /// What went wrong.
    pub code: ErrorCode,
    /// What became of the operation.
    pub outcome: Outcome,
    /// Whether to try again.
    pub retry: Retry,
    /// The node that leads the shard, where the answering node knows better than the client.
    pub leader: Option<NodeId>,
    /// With `SequenceTooLow`: the lowest number that the shard takes from this client.
    pub sequence_min: Option<u64>,
    /// A sentence for a person; at most [`ERROR_TEXT_BYTES_MAX`] bytes.
    pub detail: String,
}

impl ServerError {
    /// An error with the outcome and retry advice that its code usually has; see [`ServerError::with_outcome`].
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        use ErrorCode::{DeadlineExceeded, DiskFull, Internal, NotLeader, Overloaded, SessionExpired, ShuttingDown};
        use ErrorCode::{TooManyConnections, Unavailable};
        let outcome = match code {
            DeadlineExceeded | SessionExpired | Internal => Outcome::Unknown,
            _ => Outcome::NotApplied,
        };
        let retry = match code {
            NotLeader => Retry::AfterMs(0),
            Unavailable | ShuttingDown => Retry::AfterMs(20),
            Overloaded => Retry::AfterMs(50),
            TooManyConnections | DiskFull => Retry::AfterMs(1000),
            _ => Retry::No,
        };
        Self { code, outcome, retry, leader: None, sequence_min: None, detail: detail.into() }
    }

    /// The same error with another outcome.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same error with other advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same error with a leader to turn to.
    #[must_use]
    pub fn with_leader(mut self, leader: Option<NodeId>) -> Self {
        self.leader = leader;
        self
    }

    /// The refusal of a write whose number is too low for a shard that takes numbers from `sequence_min` on.
    pub fn sequence_too_low(sequence_min: u64) -> Self {
        let detail =
            format!("the shard takes numbers from {sequence_min} on from this client; send the write under one");
        Self { sequence_min: Some(sequence_min), ..Self::new(ErrorCode::SequenceTooLow, detail) }
    }

    /// Appends the error. Public for what is remembered of refused writes.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.code.number());
        out.put_u8(match self.outcome {
            Outcome::NotApplied => 0,
            Outcome::Applied => 1,
            Outcome::Unknown => 2,
        });
        out.put_u32_le(match self.retry {
            Retry::No => u32::MAX,
            Retry::AfterMs(ms) => ms.min(u32::MAX - 1),
        });
        out.option(self.leader, |out, leader| out.uuid(leader.0));
        out.option(self.sequence_min, |out, sequence_min| out.put_u64_le(sequence_min));
        out.text(&self.detail, ERROR_TEXT_BYTES_MAX);
    }

    /// Reads what [`ServerError::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let code = ErrorCode::from_number(reader.u16()?);
        let outcome = match reader.u8()? {
            0 => Outcome::NotApplied,
            1 => Outcome::Applied,
            2 => Outcome::Unknown,
            value => return Err(DecodeError::UnknownValue { field: "outcome", value: value.into() }),
        };
        let retry = match reader.u32()? {
            u32::MAX => Retry::No,
            ms => Retry::AfterMs(ms),
        };
        let leader = reader.option("leader", Reader::node_id)?;
        let sequence_min = reader.option("lowest sequence", Reader::u64)?;
        let detail = reader.text("error text", ERROR_TEXT_BYTES_MAX)?;
        Ok(Self { code, outcome, retry, leader, sequence_min, detail })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.outcome, self.detail)
    }
}

impl std::error::Error for ServerError {}
