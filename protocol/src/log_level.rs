//! How much a node logs: how it is asked to log more or less for a while, and what it says of that.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::LOG_FILTER_BYTES_MAX;
use bytes::{BufMut, BytesMut};
use std::fmt::{self, Display};
use std::str::FromStr;

/// How urgent a line of a log is, at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something may break, or is done in another way than was wished.
    Warn,
    /// What an operator cares about. This is what a node logs unless it is told otherwise.
    Info,
    /// What helps to find out why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    fn encode(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
            Self::Trace => 5,
        }
    }
}

impl Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// What was read is the name of no level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a level is error, warn, info, debug or trace")]
pub struct UnknownLevel;

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    /// Small and large letters are the same.
    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(name)).ok_or(UnknownLevel)
    }
}

/// What is asked of a node about its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevelAsk {
    /// Only to say how much it logs.
    Show,
    /// To log so much of itself for so many milliseconds, from 1 to [`LOG_LEVEL_MS_MAX`](crate::limits::LOG_LEVEL_MS_MAX). What it logs of
    /// the libraries that it uses stays as it is.
    Set {
        /// So much.
        level: LogLevel,
        /// For so long.
        for_ms: u64,
    },
    /// To log as much as when it was started.
    Reset,
}

impl LogLevelAsk {
    pub(crate) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Show => out.put_u8(0),
            Self::Set { level, for_ms } => {
                out.put_u8(1);
                out.put_u8(level.encode());
                out.put_u64_le(for_ms);
            }
            Self::Reset => out.put_u8(2),
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Show,
            1 => {
                let code = reader.u8()?;
                let known = LogLevel::ALL.into_iter().find(|level| level.encode() == code);
                let level = known.ok_or(DecodeError::UnknownValue { field: "log level", value: code.into() })?;
                Self::Set { level, for_ms: reader.u64()? }
            }
            2 => Self::Reset,
            value => return Err(DecodeError::UnknownValue { field: "question about the log", value: value.into() }),
        })
    }
}

/// How much a node logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLevelView {
    /// The filter of its log, such as `warn,kvorum=debug`; at most [`LOG_FILTER_BYTES_MAX`] bytes of it.
    pub filter: String,
    /// In how many milliseconds it logs again as when it was started; `None` if it does already.
    pub left_ms: Option<u64>,
}

impl LogLevelView {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.text(&self.filter, LOG_FILTER_BYTES_MAX);
        out.option(self.left_ms, |out, ms| out.put_u64_le(ms));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            filter: reader.text("filter of the log", LOG_FILTER_BYTES_MAX)?,
            left_ms: reader.option("milliseconds", Reader::u64)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written_in_any_letters() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.to_string().to_uppercase().parse(), Ok(level));
        }
        assert_eq!("loud".parse::<LogLevel>(), Err(UnknownLevel));
    }
}
