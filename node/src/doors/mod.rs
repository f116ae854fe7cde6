//! The doors through which requests come in. Each turns its protocol into a [`crate::session::Session`]'s requests.

pub mod binary;
mod inflow;
mod outgoing;
pub mod peer;
