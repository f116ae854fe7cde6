//! The client's end.

use crate::ChannelBinding;
use crate::message::{
    HEADER_BOUND, HEADER_UNBOUND, NONCE_BYTES, ScramError, attribute, count_of, decoded, encoded, escaped, is_nonce,
    text_of,
};
use crate::verifier::{ITERATIONS_MAX, ITERATIONS_MIN, Keys, same, signature, xor};
use std::num::NonZeroU32;

/// A client that has sent its first message.
#[derive(Debug)]
pub struct Client {
    nonce: String,
    first_bare: String,
    binding: Option<ChannelBinding>,
}

/// A client that has sent its proof.
#[derive(Clone, Debug)]
pub struct ClientFinal {
    expected: [u8; 32],
}

impl Client {
    /// Begins: what comes out is to be sent. `binding` is the channel's, if it is bound. The nonce is drawn for this login.
    pub fn begin(user: &str, nonce: [u8; NONCE_BYTES], binding: Option<ChannelBinding>) -> (Self, String) {
        let nonce = encoded(&nonce);
        let first_bare = format!("n={},r={nonce}", escaped(user));
        let first = format!("{}{first_bare}", header(binding.as_ref()));
        (Self { nonce, first_bare, binding }, first)
    }

    /// Answers the server's challenge: what comes out is to be sent. It takes tens of milliseconds.
    ///
    /// # Errors
    /// `Malformed`; `Iterations` if the server asks for too little or too much.
    pub fn prove(self, challenge: &[u8], password: &[u8]) -> Result<(ClientFinal, String), ScramError> {
        let server_first = text_of(challenge)?;
        let (nonce, rest) = attribute(server_first, 'r')?;
        let (salt, rest) = attribute(rest, 's')?;
        let (iterations, rest) = attribute(rest, 'i')?;
        // The server has added to the nonce: else an old exchange could be played again.
        let added = nonce.strip_prefix(&self.nonce).ok_or(ScramError::Malformed)?;
        if !is_nonce(added) || !rest.is_empty() {
            return Err(ScramError::Malformed);
        }
        let iterations = count_of(iterations).ok_or(ScramError::Malformed)?;
        let counted = NonZeroU32::new(iterations)
            .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&count.get()))
            .ok_or(ScramError::Iterations(iterations))?;
        let keys = Keys::derive(password, &decoded(salt)?, counted);
        let without_proof = format!("c={},r={nonce}", channel(self.binding.as_ref()));
        let exchange = format!("{},{server_first},{without_proof}", self.first_bare);
        let proof = xor(keys.client_key(), signature(&keys.stored_key(), &exchange));
        let last = format!("{without_proof},p={}", encoded(&proof));
        Ok((ClientFinal { expected: signature(&keys.server_key(), &exchange) }, last))
    }
}

impl ClientFinal {
    /// Looks at the server's proof.
    ///
    /// # Errors
    /// `ServerUnproven`, `Malformed`.
    pub fn check(self, server_final: &[u8]) -> Result<(), ScramError> {
        let (proof, rest) = attribute(text_of(server_final)?, 'v')?;
        if !rest.is_empty() {
            return Err(ScramError::Malformed);
        }
        if same(&decoded(proof)?, &self.expected) { Ok(()) } else { Err(ScramError::ServerUnproven) }
    }
}

fn header(binding: Option<&ChannelBinding>) -> &'static str {
    if binding.is_some() { HEADER_BOUND } else { HEADER_UNBOUND }
}

/// What the last message says of the channel.
pub(crate) fn channel(binding: Option<&ChannelBinding>) -> String {
    let mut bytes = header(binding).as_bytes().to_vec();
    bytes.extend(binding.into_iter().flatten());
    encoded(&bytes)
}
