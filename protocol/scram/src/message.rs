//! Attributes of messages, and what can be wrong with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of randomness of each end's nonce, before it is written as text.
pub const NONCE_BYTES: usize = 18;
/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 255;

/// The header of a client that does not bind the channel. One that could and believes that the server can't would send `y,,`: it is
/// refused, since this server can wherever there is a channel.
pub(crate) const HEADER_UNBOUND: &str = "n,,";
/// The header of a client that does.
pub(crate) const HEADER_BOUND: &str = "p=tls-exporter,,";

/// Why an exchange ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScramError {
    /// The bytes are no message of this mechanism.
    #[error("a message of the login is malformed")]
    Malformed,
    /// The server wants more iterations than a client does, or so few that the password could be guessed from them.
    #[error("the server asks for {0} iterations")]
    Iterations(u32),
    /// The channel is not the one that the other end sees, or is not bound where it must be.
    #[error("the login is not bound to this connection")]
    Channel,
    /// The password, or the user, is wrong.
    #[error("the user or the password is wrong")]
    Wrong,
    /// The server does not know the verifier: somebody else answers in its name.
    #[error("the server could not prove that it knows the user")]
    ServerUnproven,
}

/// Takes the value of the next attribute, which must have this name, and the rest behind the comma.
pub(crate) fn attribute(text: &str, name: char) -> Result<(&str, &str), ScramError> {
    let value = text.strip_prefix(name).and_then(|text| text.strip_prefix('=')).ok_or(ScramError::Malformed)?;
    match value.split_once(',') {
        // A comma parts attributes: behind it comes one.
        Some((_, "")) => Err(ScramError::Malformed),
        Some(parts) => Ok(parts),
        None => Ok((value, "")),
    }
}

/// A number of iterations, in the one way to write it.
pub(crate) fn count_of(text: &str) -> Option<u32> {
    text.parse().ok().filter(|count: &u32| count.to_string() == text)
}

/// The bytes of a text in base64.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| ScramError::Malformed)
}

/// The text of bytes.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A message as text, if it is not too long.
pub(crate) fn text_of(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    if text.len() > MESSAGE_BYTES_MAX { Err(ScramError::Malformed) } else { Ok(text) }
}

/// A user's name as it stands in a message.
pub(crate) fn escaped(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

/// The name that was written so.
pub(crate) fn unescaped(text: &str) -> Result<String, ScramError> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        name.push_str(&rest[..at]);
        name.push(match rest.get(at..at + 3) {
            Some("=2C") => ',',
            Some("=3D") => '=',
            _ => return Err(ScramError::Malformed),
        });
        rest = &rest[at + 3..];
    }
    name.push_str(rest);
    if name.is_empty() || name.len() > USER_BYTES_MAX { Err(ScramError::Malformed) } else { Ok(name) }
}

/// Whether a nonce has only characters that may stand in one.
pub(crate) fn is_nonce(nonce: &str) -> bool {
    nonce.len() >= NONCE_BYTES && nonce.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b',')
}
