//! What a server keeps of a password.

use crate::message::{count_of, decoded, encoded};
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use subtle::ConstantTimeEq as _;

/// How often a password is hashed, unless somebody says otherwise: about 30 ms of one processor.
pub const ITERATIONS_DEFAULT: u32 = 100_000;
/// Fewer are refused (RFC 7677).
pub const ITERATIONS_MIN: u32 = 4096;
/// More are refused: whoever checks a password may not be kept busy for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;

const MECHANISM: &str = "SCRAM-SHA-256";

/// What a server keeps of a password. It shows the password to nobody, and nobody can log in with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) stored_key: [u8; 32],
    pub(crate) server_key: [u8; 32],
}

/// A text is no verifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a verifier of a password, such as SCRAM-SHA-256$100000:<salt>$<stored key>:<server key>")]
pub struct VerifierError;

impl Verifier {
    /// The verifier of a password. It takes tens of milliseconds.
    ///
    /// # Panics
    /// If the iterations are out of their range.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES], iterations: u32) -> Self {
        assert!((ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations), "a caller takes a number in the range");
        let iterations = NonZeroU32::new(iterations).expect("the range begins above 0");
        let keys = Keys::derive(password, &salt, iterations);
        Self { iterations, salt, stored_key: keys.stored_key(), server_key: keys.server_key() }
    }

    /// One that no password matches, and that looks like any other: for users who are not there. `seed` must be the same for the
    /// same name, and nobody else may know it.
    pub fn of_nobody(seed: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&hmac::sign(&key, b"salt").as_ref()[..SALT_BYTES]);
        let iterations = NonZeroU32::new(ITERATIONS_DEFAULT).expect("it is not 0");
        let derived = |name: &[u8]| array(hmac::sign(&key, name).as_ref());
        Self { iterations, salt, stored_key: derived(b"stored"), server_key: derived(b"server") }
    }

    /// Whether it is that of this password. It takes as long as [`Verifier::new`], whatever the answer is.
    pub fn matches(&self, password: &[u8]) -> bool {
        let stored = Keys::derive(password, &self.salt, self.iterations).stored_key();
        same(&stored, &self.stored_key)
    }

    /// What tells two passwords of one user apart, and says nothing about either.
    pub fn mark(&self) -> [u8; 8] {
        let mut mark = [0; 8];
        mark.copy_from_slice(&digest::digest(&digest::SHA256, self.to_string().as_bytes()).as_ref()[..8]);
        mark
    }
}

impl fmt::Display for Verifier {
    /// In the form in which PostgreSQL writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key].map(encoded);
        write!(f, "{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MECHANISM}${}:…", self.iterations)
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let mut parts = text.split('$');
        let (Some(MECHANISM), Some(first), Some(second), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VerifierError);
        };
        let (iterations, salt) = first.split_once(':').ok_or(VerifierError)?;
        let (stored, server) = second.split_once(':').ok_or(VerifierError)?;
        let iterations = count_of(iterations).ok_or(VerifierError)?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError);
        }
        Ok(Self {
            iterations: NonZeroU32::new(iterations).ok_or(VerifierError)?,
            salt: exactly(salt)?,
            stored_key: exactly(stored)?,
            server_key: exactly(server)?,
        })
    }
}

fn exactly<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], VerifierError> {
    decoded(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(VerifierError)
}

/// What both ends derive from a password.
pub(crate) struct Keys {
    salted: hmac::Key,
}

impl Keys {
    /// Hashes the password.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        Self { salted: hmac::Key::new(hmac::HMAC_SHA256, &salted) }
    }

    /// What the client proves that it has.
    pub(crate) fn client_key(&self) -> [u8; 32] {
        array(hmac::sign(&self.salted, b"Client Key").as_ref())
    }

    /// What the server keeps of that.
    pub(crate) fn stored_key(&self) -> [u8; 32] {
        hash(&self.client_key())
    }

    /// What the server proves that it has.
    pub(crate) fn server_key(&self) -> [u8; 32] {
        array(hmac::sign(&self.salted, b"Server Key").as_ref())
    }
}

/// A signature of the exchange.
pub(crate) fn signature(key: &[u8; 32], exchange: &str) -> [u8; 32] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), exchange.as_bytes()).as_ref())
}

pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

pub(crate) fn xor(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}
