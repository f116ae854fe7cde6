//! Exit codes: what a process of this program says by ending. Service managers act on them, so they never change meaning.
//!
//! The numbers from 64 on follow BSD's `sysexits.h` where it has a fitting one.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to, a graceful stop included.
    Ok = 0,
    /// A failure at run time that no other code names; the last line on stderr says which.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Actors failed and were restarted more often than the restart policy allows: a fault inside the program, which a
    /// new process may or may not get past.
    RestartIntensity = 70,
    /// A write or sync failed, or a file of the data folder is damaged. Writes are never retried in place: start again,
    /// and recovery verifies what is on the disk.
    Disk = 71,
    /// The data folder can't be created or opened.
    CannotCreate = 73,
    /// Another process uses the data folder.
    InUse = 75,
    /// The configuration is wrong or does not belong to the data folder, or another program has written what lies there.
    /// Starting again will not help.
    Config = 78,
}

impl Exit {
    /// The code's number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether a new start of the same process with the same files is sure to end the same way.
    pub fn is_permanent(code: i32) -> bool {
        [Self::Usage, Self::CannotCreate, Self::InUse, Self::Config].iter().any(|exit| i32::from(exit.code()) == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_restart_can_not_mend_is_permanent() {
        for exit in [Exit::Usage, Exit::CannotCreate, Exit::InUse, Exit::Config] {
            assert!(Exit::is_permanent(exit.code().into()), "{exit:?}");
        }
        for exit in [Exit::Ok, Exit::Failure, Exit::RestartIntensity, Exit::Disk] {
            assert!(!Exit::is_permanent(exit.code().into()), "{exit:?}");
        }
    }
}
