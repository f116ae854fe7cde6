//! Exit codes, as scripts know them. Pure.

use kvorum_client::{Error, ErrorCode};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// A node answered with an error, or what was to be said can't be written.
    Failed = 1,
    /// The command makes no sense.
    Usage = 2,
    /// No node could be reached, or none answered.
    Unreachable = 3,
    /// There is no such key, or its version is another.
    NotFound = 4,
}

/// How the reading of commands ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// There was no more input, and nobody had said QUIT.
    pub(crate) input_ended: bool,
}

impl Ended {
    pub(crate) fn by_quit(exit: Exit) -> Self {
        Self { exit, input_ended: false }
    }

    pub(crate) fn by_input(exit: Exit) -> Self {
        Self { exit, input_ended: true }
    }
}

impl Exit {
    /// How a command ends that failed with this error.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Unreachable { .. } | Error::ConnectionLost { .. } | Error::DeadlineExceeded { .. } => {
                Self::Unreachable
            }
            error if matches!(error.code(), ErrorCode::InvalidArgument | ErrorCode::TooLarge) => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// The exit of a script: that of its first command that was not Ok.
    pub(crate) fn and_then(self, next: Self) -> Self {
        if self == Self::Ok { next } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
