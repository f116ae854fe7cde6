//! Kvorum's server: the process around one node, and the node itself.

pub mod config;
pub mod exit;
pub mod identity;
pub mod telemetry;
