//! The audit log: JSON lines, each with the SHA-256 of the one before.

pub mod chain;
pub mod file;
