//! Kvorum's server.

pub mod journal;
pub mod log;
