//! Kvorum's node: the server behind the binary `kvorum`, and what starts it. What it decides is in `kvorum-core`.

// They panic if what they print can't be written, and a log that can't be written is no reason to end.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod doors;
pub mod folder;
pub mod kek;
pub mod peers;
pub mod runtime;
pub mod traces;
