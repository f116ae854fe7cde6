//! The server's end.

use crate::ChannelBinding;
use crate::client::channel;
use crate::message::{
    HEADER_BOUND, HEADER_UNBOUND, NONCE_BYTES, ScramError, attribute, decoded, encoded, is_nonce, text_of, unescaped,
};
use crate::verifier::{Verifier, hash, same, signature, xor};

/// A client's first message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientFirst {
    user: String,
    nonce: String,
    bare: String,
    is_bound: bool,
}

/// An exchange in which the server has sent its challenge.
#[derive(Debug)]
pub struct Exchange {
    verifier: Verifier,
    nonce: String,
    /// Both first messages.
    so_far: String,
    is_bound: bool,
}

impl ClientFirst {
    /// Reads a client's first message.
    ///
    /// # Errors
    /// `Malformed`; `Channel` if the client believes that the server can't bind channels.
    pub fn read(message: &[u8]) -> Result<Self, ScramError> {
        let text = text_of(message)?;
        let (bare, is_bound) = if let Some(bare) = text.strip_prefix(HEADER_UNBOUND) {
            (bare, false)
        } else if let Some(bare) = text.strip_prefix(HEADER_BOUND) {
            (bare, true)
        } else if text.starts_with("y,") {
            return Err(ScramError::Channel);
        } else {
            return Err(ScramError::Malformed);
        };
        let (user, rest) = attribute(bare, 'n')?;
        let (nonce, rest) = attribute(rest, 'r')?;
        if !is_nonce(nonce) || !rest.is_empty() {
            return Err(ScramError::Malformed);
        }
        Ok(Self { user: unescaped(user)?, nonce: nonce.to_owned(), bare: bare.to_owned(), is_bound })
    }

    /// Who wants to log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the client binds the channel.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Challenges the client: what comes out is to be sent. The nonce is drawn for this login.
    pub fn challenge(self, verifier: Verifier, nonce: [u8; NONCE_BYTES]) -> (Exchange, String) {
        let nonce = format!("{}{}", self.nonce, encoded(&nonce));
        let challenge = format!("r={nonce},s={},i={}", encoded(&verifier.salt), verifier.iterations);
        let so_far = format!("{},{challenge}", self.bare);
        (Exchange { verifier, nonce, so_far, is_bound: self.is_bound }, challenge)
    }
}

impl Exchange {
    /// Looks at the client's proof: what comes out is to be sent, and the client is who it says. `binding` is the channel's, if it
    /// can be bound.
    ///
    /// # Errors
    /// `Wrong`; `Channel` if the client sees another one; `Malformed`.
    pub fn finish(self, client_final: &[u8], binding: Option<ChannelBinding>) -> Result<String, ScramError> {
        let text = text_of(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let (seen, rest) = attribute(without_proof, 'c')?;
        let (nonce, rest) = attribute(rest, 'r')?;
        if !rest.is_empty() {
            return Err(ScramError::Malformed);
        }
        let expected = match (self.is_bound, binding) {
            (false, None) => channel(None),
            // Somebody in between could have left the binding out, to pass the login on over a channel of his own.
            (false, Some(_)) => return Err(ScramError::Channel),
            (true, Some(binding)) => channel(Some(&binding)),
            (true, None) => return Err(ScramError::Channel),
        };
        if !same(seen.as_bytes(), expected.as_bytes()) {
            return Err(ScramError::Channel);
        }
        if !same(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::Wrong);
        }
        let exchange = format!("{},{without_proof}", self.so_far);
        let proof: [u8; 32] = decoded(proof)?.try_into().map_err(|_| ScramError::Malformed)?;
        let client_key = xor(proof, signature(&self.verifier.stored_key, &exchange));
        if !same(&hash(&client_key), &self.verifier.stored_key) {
            return Err(ScramError::Wrong);
        }
        Ok(format!("v={}", encoded(&signature(&self.verifier.server_key, &exchange))))
    }
}
