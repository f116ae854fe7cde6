//! The header `Authorization` of HTTP: a token, or a user and a password. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Longest header, in bytes.
const AUTHORIZATION_BYTES_MAX: usize = 4096;

/// What a header says of whoever sends it.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderCredentials {
    /// `Bearer`: a token.
    Token(Vec<u8>),
    /// `Basic`: a user's name and password.
    Password {
        /// The name, which holds no colon.
        user: String,
        /// The password.
        password: Vec<u8>,
    },
}

impl fmt::Debug for HeaderCredentials {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Password { .. } => "Password(…)",
        })
    }
}

impl HeaderCredentials {
    /// Reads a header's value; `None` if it is longer than any, or says neither.
    pub fn read(value: &[u8]) -> Option<Self> {
        let at = value.iter().position(|byte| *byte == b' ').filter(|_| value.len() <= AUTHORIZATION_BYTES_MAX)?;
        let (scheme, credentials) = (&value[..at], value[at..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return Some(Self::Token(credentials.to_vec()));
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let mut user = STANDARD.decode(credentials).ok()?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon + 1);
        user.truncate(colon);
        Some(Self::Password { user: String::from_utf8(user).ok()?, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_a_token_or_a_user_and_a_password() {
        let basic = |text: &str| HeaderCredentials::read(format!("Basic {}", STANDARD.encode(text)).as_bytes());
        let password = |user: &str, password: &str| {
            Some(HeaderCredentials::Password { user: user.to_owned(), password: password.into() })
        };
        assert_eq!(basic("ada:love:lace"), password("ada", "love:lace"), "the first colon parts them");
        assert_eq!(basic(":"), password("", ""));
        assert_eq!(basic("ada"), None);
        let token = HeaderCredentials::read(b"bEaReR  kvt_1 ");
        assert_eq!(token, Some(HeaderCredentials::Token(b"kvt_1".to_vec())));
        assert_eq!(format!("{:?} {:?}", basic("ada:x").unwrap(), token.unwrap()), "Password(…) Token(…)");
        for other in [&b""[..], b"Bearer", b"Digest x", b"Basic ?", b"Basic /zo6", b" Bearer x"] {
            assert_eq!(HeaderCredentials::read(other), None, "{}", other.escape_ascii());
        }
        let long = [&b"Bearer "[..], &[b'x'; AUTHORIZATION_BYTES_MAX]].concat();
        assert_eq!(HeaderCredentials::read(&long), None);
        assert!(HeaderCredentials::read(&long[..AUTHORIZATION_BYTES_MAX]).is_some());
    }
}
