//! The doors through which requests come in. Each turns its protocol into a [`kvorum_core::session::Session`]'s requests.

mod accepting;
pub mod binary;
pub mod blocking_reads;
pub mod commons;
pub mod http;
pub mod inflow;
mod outgoing;
mod parking;
pub mod peer;
pub mod places;
pub mod resp;
mod stream;
pub mod tls;
mod writers;
