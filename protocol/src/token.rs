//! Tokens: what lets a node join that has no certificate yet. Who makes one draws a secret, and gives the cluster its public half
//! only. The secret stands in the token's text, which the operator carries to the new machine.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{NAME_BYTES_MAX, TOKEN_MS_MAX};
use crate::types::ClusterId;
use bytes::{BufMut, BytesMut};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What the text of a token begins with; the number is the version of all that comes behind it.
const PREFIX: &str = "kvj1";

macro_rules! hexadecimal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl FromStr for $name {
            type Err = ParseTokenError;

            fn from_str(text: &str) -> Result<Self, ParseTokenError> {
                from_hexadecimal(text).map(Self)
            }
        }
    };
}

hexadecimal! {
    /// The public half of a token: an Ed25519 public key.
    TokenKey
}
hexadecimal! {
    /// The key of a node: the SHA-256 of its SubjectPublicKeyInfo.
    NodeKey
}
hexadecimal! {
    /// A cluster's certificate authority: the SHA-256 of its SubjectPublicKeyInfo.
    AuthorityHash
}

/// The secret half of a token: the seed of an Ed25519 key. It is printed as a part of a [`JoinToken`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(pub [u8; 32]);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

/// A token, drawn at random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub Uuid);

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({})", self.0)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the operator carries to the new machine. As text it is `kvj1.<cluster>.<authority>.<id>.<secret>`, where the ids are UUIDs
/// without hyphens and the rest is hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// Its authority: the new node says nothing to a node whose certificate another one has signed.
    pub authority: AuthorityHash,
    /// Which token it is.
    pub id: TokenId,
    /// What proves that the new node has it.
    pub secret: TokenSecret,
}

/// A text that is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseTokenError;

impl fmt::Display for ParseTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token is kvj1.<cluster>.<authority>.<id>.<secret>, as CLUSTER TOKEN prints it")
    }
}

impl std::error::Error for ParseTokenError {}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, id) = (self.cluster.0.simple(), self.id.0.simple());
        write!(f, "{PREFIX}.{cluster}.{}.{id}.", self.authority)?;
        self.secret.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(ParseTokenError);
        if next()? != PREFIX {
            return Err(ParseTokenError);
        }
        let token = Self {
            cluster: ClusterId(from_simple(next()?)?),
            authority: next()?.parse()?,
            id: TokenId(from_simple(next()?)?),
            secret: TokenSecret(from_hexadecimal(next()?)?),
        };
        if parts.next().is_none() { Ok(token) } else { Err(ParseTokenError) }
    }
}

/// A UUID in its one spelling without hyphens.
fn from_simple(text: &str) -> Result<Uuid, ParseTokenError> {
    let id: Uuid = text.parse().map_err(|_| ParseTokenError)?;
    if id.simple().to_string() == text { Ok(id) } else { Err(ParseTokenError) }
}

fn from_hexadecimal(text: &str) -> Result<[u8; 32], ParseTokenError> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return Err(ParseTokenError);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(ParseTokenError),
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// A token as the cluster learns of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewToken {
    /// Which it is; no other one has it.
    pub id: TokenId,
    /// Its public half.
    pub key: TokenKey,
    /// The name of the node that may join by it; `None` for any.
    pub name: Option<String>,
    /// The zone of that node; `None` for any.
    pub zone: Option<String>,
    /// For how long it is good, in milliseconds; at most [`TOKEN_MS_MAX`].
    pub for_ms: u64,
}

impl NewToken {
    /// Appends the token: id, key, name, zone, life.
    pub fn encode(&self, out: &mut BytesMut) {
        out.uuid(self.id.0);
        out.put_slice(&self.key.0);
        for text in [&self.name, &self.zone] {
            out.option(text.as_ref(), |out, text| out.text(text, NAME_BYTES_MAX));
        }
        out.put_u64_le(self.for_ms);
    }

    /// Reads what [`NewToken::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.token_id()?,
            key: TokenKey(reader.array()?),
            name: reader.option("name", |reader| reader.text("name", NAME_BYTES_MAX))?,
            zone: reader.option("zone", |reader| reader.text("zone", NAME_BYTES_MAX))?,
            for_ms: crate::verb::within("life of a token in milliseconds", reader.u64()?, 1, TOKEN_MS_MAX)?,
        })
    }
}

/// What a node says of the cluster's authority, so that tokens can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its authority, which has signed the certificate of the node that answers.
    pub hash: AuthorityHash,
}

impl Authority {
    /// Appends the cluster, then the hash.
    pub fn encode(&self, out: &mut BytesMut) {
        out.uuid(self.cluster.0);
        out.put_slice(&self.hash.0);
    }

    /// Reads what [`Authority::encode`] wrote.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { cluster: reader.cluster_id()?, hash: AuthorityHash(reader.array()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: ClusterId(Uuid::from_u128(0x0123)),
            authority: AuthorityHash([0xab; 32]),
            id: TokenId(Uuid::from_u128(0x4567)),
            secret: TokenSecret([0x0f; 32]),
        }
    }

    #[test]
    fn a_token_has_one_spelling() {
        let text = token().to_string();
        let parts =
            ["kvj1", &format!("{:032x}", 0x0123), &"ab".repeat(32), &format!("{:032x}", 0x4567), &"0f".repeat(32)];
        assert_eq!(text, parts.join("."));
        assert_eq!(text.parse(), Ok(token()));
        for other in [
            text.to_uppercase(),
            text.replace("kvj1", "kvj2"),
            format!("{text}."),
            format!("{text}.x"),
            text[..text.len() - 1].to_owned(),
            text.replace("ab", "é"),
            text.replace(&token().id.0.simple().to_string(), &token().id.to_string()),
            String::new(),
        ] {
            assert_eq!(other.parse::<JoinToken>(), Err(ParseTokenError), "{other}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", token()).contains("0f0f"), "{:?}", token());
    }
}
