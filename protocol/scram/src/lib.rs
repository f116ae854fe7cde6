#![doc = include_str!("../README.md")]
//!
//! A password never leaves the client. The node stores a [`Verifier`], from which the password can't be read, and with which nobody
//! can log in. Both ends prove to each other that they know what belongs to the password.
//!
//! Everything here is pure: nonces and salts are given. Passwords are taken as the bytes that they are. SASLprep would change
//! other writings of the same letters into one; a client that wants that does it before.

mod client;
mod message;
mod server;
mod verifier;

pub use client::{Client, ClientFinal};
pub use message::{MESSAGE_BYTES_MAX, NONCE_BYTES, ScramError, USER_BYTES_MAX};
pub use server::{ClientFirst, Exchange};
pub use verifier::{ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, Verifier, VerifierError};

/// What a channel is bound by: 32 bytes that TLS exports, and that both ends of one connection alone have in common.
pub type ChannelBinding = [u8; 32];

#[cfg(test)]
mod tests;
