//! Exit codes, as scripts know them. Pure.

use crate::{Error, ErrorCode};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// A node answered with an error.
    ServerError = 1,
    /// The command makes no sense.
    Usage = 2,
    /// No node could be reached, or none answered.
    Unreachable = 3,
    /// There is no such key, or its version is another.
    NotFound = 4,
}

impl Exit {
    /// How a command ends that failed with this error.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Unreachable { .. } | Error::ConnectionLost { .. } | Error::DeadlineExceeded { .. } => {
                Exit::Unreachable
            }
            error if matches!(error.code(), ErrorCode::InvalidArgument | ErrorCode::TooLarge) => Exit::Usage,
            _ => Exit::ServerError,
        }
    }

    /// The exit of a script: that of its first command that was not Ok.
    pub(crate) fn and_then(self, next: Exit) -> Exit {
        if self == Exit::Ok { next } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
