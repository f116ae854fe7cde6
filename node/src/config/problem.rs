//! What can be wrong with a configuration, said so that an operator knows what to change and where.

use std::fmt;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The configuration file; its path as it was given.
    File(String),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody set it.
    Default,
}

impl Origin {
    /// What kind of source that is: `file`, `environment`, `flag` or `default`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Environment(_) => "environment",
            Self::Flag(_) => "flag",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// The file can't be read.
    #[error("{path}: cannot be read: {detail}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        detail: String,
    },
    /// The file is not TOML.
    #[error("{path}: is not TOML: {detail}")]
    Syntax {
        /// The file.
        path: String,
        /// Why, with line and column.
        detail: String,
    },
    /// A field that must be set is not.
    #[error("{field}: is not set; expected {allowed}")]
    Missing {
        /// The field.
        field: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A field has a value that is not allowed.
    #[error("{field}: {value} is not allowed; expected {allowed} ({origin})")]
    Invalid {
        /// The field.
        field: String,
        /// What it holds.
        value: String,
        /// What is allowed.
        allowed: &'static str,
        /// Where the value comes from.
        origin: Origin,
    },
    /// There is no such field.
    #[error("{field}: there is no such field ({origin})")]
    Unknown {
        /// What was taken for a field.
        field: String,
        /// Where it stands.
        origin: Origin,
    },
    /// Fields contradict each other.
    #[error("{field}: {detail}")]
    Contradiction {
        /// The field to look at first.
        field: String,
        /// What does not fit.
        detail: String,
    },
}

/// Everything that is wrong with a configuration, found in one go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [problem] => write!(f, "configuration: {problem}"),
            problems => {
                write!(f, "configuration: {} things are wrong", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}
