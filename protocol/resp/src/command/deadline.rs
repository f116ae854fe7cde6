//! When a key expires.

/// A time of expiry: from now on, or of the clock. In milliseconds, those of the clock since 1970. The time may have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// So many milliseconds after the command is carried out.
    After(i64),
    /// At this time.
    At(i64),
}

impl Deadline {
    /// The time, if the command is carried out at `now_ms`; nothing if it can't be counted, for which the client is told
    /// [`super::CommandError::InvalidExpireTime`]. A time that is not after `now_ms` removes the key.
    pub fn at_ms(self, now_ms: i64) -> Option<i64> {
        match self {
            Self::After(milliseconds) => milliseconds.checked_add(now_ms),
            Self::At(time_ms) => Some(time_ms),
        }
    }
}

/// A time as a client gives it, in milliseconds; nothing if there are too many.
pub(super) fn milliseconds(time: i64, in_seconds: bool) -> Option<i64> {
    if in_seconds { time.checked_mul(1000) } else { Some(time) }
}
