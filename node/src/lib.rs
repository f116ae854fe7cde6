//! Kvorum's node: the server behind the binary `kvorum`, and what starts it.

pub mod cert;
pub mod cli;
pub mod config;
pub mod control;
pub mod dev;
pub mod exit;
pub mod identity;
pub mod init;
pub mod node;
pub mod peers;
pub mod start;
pub mod stop;
pub mod supervisor;
pub mod telemetry;
