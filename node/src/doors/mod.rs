//! The doors through which requests come in. Each turns its protocol into a [`kvorum_core::session::Session`]'s requests.

mod accepting;
pub mod binary;
pub mod blocking_reads;
pub mod http;
pub mod inflow;
mod outgoing;
pub mod peer;
pub mod places;
pub mod resp;
mod stream;
mod writers;
