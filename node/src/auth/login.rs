//! Who is who at the doors of clients: passwords and tokens against the table in force.
//!
//! A password that comes as it is (RESP, HTTP) has to be hashed a hundred thousand times. [`PasswordThreads`] do that. What was found right is remembered for a while, under a key that only this process has. A client
//! of the binary door hashes its password itself.

use super::password_threads::PasswordThreads;
use super::user_cert::UserCertificate;
use crate::runtime::system_clock;
use kvorum_core::auth::{LoginError, Principal, UserPlace};
use kvorum_core::clock::Nanos;
use kvorum_core::routing::router::Router;
use kvorum_protocol::{ErrorCode, ServerError, UserTokenId};
use kvorum_scram::{ChannelBinding, ClientFirst, Exchange, NONCE_BYTES, ScramError, Verifier};
use parking_lot::Mutex;
use ring::{digest, hmac};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The longest password, in bytes: a longer one is nobody's.
const PASSWORD_BYTES_MAX: usize = 1024;
/// For so long a password that was right need not be checked again, in milliseconds. One that was changed meanwhile is not right.
const REMEMBERED_MS: u64 = 5 * 60_000;
/// Most passwords that are remembered.
const REMEMBERED_MAX: usize = 4096;
/// What the text of a token begins with.
pub const TOKEN_PREFIX: &str = "kvt_";

/// Why somebody is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoginFailure {
    /// As the table in force says, or this node can't know.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Too many passwords wait to be checked.
    #[error("too many passwords wait to be checked: try again")]
    Overloaded,
    /// The login is not bound to the connection that it came by.
    #[error("the login is not bound to this connection: somebody may stand between")]
    Channel,
    /// The messages of the login are none.
    #[error("a message of the login is malformed, or comes at the wrong time")]
    Malformed,
}

impl LoginFailure {
    /// The error as clients are told.
    pub fn error(self) -> ServerError {
        let code = match self {
            Self::Login(error) => return error.error(),
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Channel => ErrorCode::Unauthenticated,
            Self::Malformed => ErrorCode::InvalidArgument,
        };
        ServerError::new(code, self.to_string())
    }
}

/// What lets clients in.
pub struct Logins {
    router: Arc<Router>,
    passwords: PasswordThreads,
    remembered: Mutex<HashMap<[u8; 32], Nanos>>,
    /// Of this process alone.
    key: hmac::Key,
    changed: watch::Sender<u64>,
}

/// A login by SCRAM that waits for the client's proof.
#[derive(Debug)]
pub struct Challenged {
    user: String,
    mark: [u8; 8],
    exchange: Exchange,
}

impl Challenged {
    /// Whom the client says that it is.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl Logins {
    /// A new process lets clients in.
    ///
    /// # Errors
    /// The system gives no thread that hashes passwords.
    pub fn new(router: Arc<Router>) -> io::Result<Arc<Self>> {
        let key: [u8; 32] = rand::random();
        Ok(Arc::new(Self {
            changed: watch::Sender::new(router.auth().generation()),
            router,
            passwords: PasswordThreads::start()?,
            remembered: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }))
    }

    /// Another table is in force: who had logged in may be nobody any more.
    pub fn note_change(&self) {
        self.changed.send_replace(self.router.auth().generation());
    }

    /// Hears whenever another table is in force.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Who has this token.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub fn by_token(&self, text: &[u8]) -> Result<Principal, LoginFailure> {
        let id = token_id(text).ok_or(LoginError::Refused)?;
        let digest = digest::digest(&digest::SHA256, text);
        let digest: &[u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let principal = self.router.auth().log_in_by_token(id, digest, system_clock::monotonic())?;
        self.check(principal)
    }

    /// The user of the certificate that a connection has shown.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub fn by_certificate(&self, user: &str, serial: &[u8]) -> Result<Principal, LoginFailure> {
        self.check(self.router.auth().log_in_by_certificate(user, serial, system_clock::monotonic())?)
    }

    /// Whether the connection of a certificate may go on. A node that has not heard lately lets it.
    pub fn takes(&self, shown: &UserCertificate) -> bool {
        let principal = Principal::Certificate { user: shown.user.clone(), serial: shown.serial.clone() };
        self.check(principal).is_ok()
    }

    /// Whether somebody who has logged in before may go on. A node that has not heard lately lets him, as it does a connection.
    pub fn takes_login(&self, principal: &Principal) -> bool {
        self.router.auth().access(principal, self.router.clock().now().wall_ms).is_ok()
    }

    /// Who has this name and password. It takes tens of milliseconds, as long for a user that is not there, and 5 s at most. `from`:
    /// the client's address, of which only so many passwords wait at a time.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub async fn by_password(&self, from: IpAddr, user: &str, password: &[u8]) -> Result<Principal, LoginFailure> {
        let checking = tokio::time::timeout(CHECK_TIMEOUT, self.check_password(from, user, password));
        checking.await.unwrap_or(Err(LoginFailure::Overloaded))
    }

    async fn check_password(&self, from: IpAddr, user: &str, password: &[u8]) -> Result<Principal, LoginFailure> {
        let now = system_clock::monotonic();
        let known = self.router.auth().verifier_of(user, now)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(LoginError::Refused.into());
        }
        let verifier = known.unwrap_or_else(|| self.verifier_of_nobody(user));
        let mark = verifier.mark();
        let name = self.remembered_as(user, mark, password);
        if !self.is_remembered(&name, now) {
            if !self.passwords.check(from, verifier, password).await.ok_or(LoginFailure::Overloaded)? {
                return Err(LoginError::Refused.into());
            }
            self.remember(name, now);
        }
        self.check(Principal::Password { user: user.to_owned(), mark })
    }

    /// Begins a login by SCRAM: what is to be sent as a challenge. A user that is not there is challenged like any other.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub fn challenge(&self, first: &[u8]) -> Result<(Challenged, String), LoginFailure> {
        let first = ClientFirst::read(first).map_err(of_scram)?;
        let user = first.user().to_owned();
        let known = self.router.auth().verifier_of(&user, system_clock::monotonic())?;
        let verifier = known.unwrap_or_else(|| self.verifier_of_nobody(&user));
        let mark = verifier.mark();
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let (exchange, challenge) = first.challenge(verifier, nonce);
        Ok((Challenged { user, mark, exchange }, challenge))
    }

    /// Looks at the client's proof. Gives what proves to the client that this is the cluster.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub fn prove(
        &self,
        challenged: Challenged,
        proof: &[u8],
        binding: Option<ChannelBinding>,
    ) -> Result<(Principal, String), LoginFailure> {
        let Challenged { user, mark, exchange } = challenged;
        let server_final = exchange.finish(proof, binding).map_err(of_scram)?;
        Ok((self.check(Principal::Password { user, mark })?, server_final))
    }

    /// A place among the connections that a user may have here. `held`: what the connection has from an earlier login.
    ///
    /// # Errors
    /// As the table in force says; `TooMany` if the user has as many as it may. Nothing is held then.
    pub fn place(&self, principal: &Principal, held: Option<UserPlace>) -> Result<UserPlace, LoginFailure> {
        let gate = self.router.auth();
        let access = gate.access(principal, self.router.clock().now().wall_ms)?;
        Ok(gate.place_of(&access, held)?)
    }

    /// Looks whether the table in force lets it be here.
    fn check(&self, principal: Principal) -> Result<Principal, LoginFailure> {
        self.router.auth().access(&principal, self.router.clock().now().wall_ms)?;
        Ok(principal)
    }

    fn verifier_of_nobody(&self, user: &str) -> Verifier {
        let seed = hmac::sign(&self.key, &[b"nobody", user.as_bytes()].concat());
        Verifier::of_nobody(seed.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn remembered_as(&self, user: &str, mark: [u8; 8], password: &[u8]) -> [u8; 32] {
        let length = (user.len() as u64).to_le_bytes();
        let name = hmac::sign(&self.key, &[&length[..], user.as_bytes(), &mark, password].concat());
        name.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn is_remembered(&self, name: &[u8; 32], now: Nanos) -> bool {
        self.remembered.lock().get(name).is_some_and(|at| now.ms_since(*at) < REMEMBERED_MS)
    }

    fn remember(&self, name: [u8; 32], now: Nanos) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, at| now.ms_since(*at) < REMEMBERED_MS);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(name, now);
        }
    }
}

/// How long a door waits for a password to be checked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

fn of_scram(error: ScramError) -> LoginFailure {
    match error {
        ScramError::Wrong | ScramError::ServerUnproven | ScramError::Iterations(_) => LoginError::Refused.into(),
        ScramError::Channel => LoginFailure::Channel,
        ScramError::Malformed => LoginFailure::Malformed,
    }
}

/// The number in the text of a token, `kvt_<16 hexadecimal digits>_<secret>`.
pub fn token_id(text: &[u8]) -> Option<UserTokenId> {
    let rest = std::str::from_utf8(text).ok()?.strip_prefix(TOKEN_PREFIX)?;
    let (digits, _) = rest.split_once('_').filter(|(_, secret)| secret.len() == 64)?;
    let id = UserTokenId(u64::from_str_radix(digits, 16).ok()?);
    // One spelling only: with a sign or large letters it would be another text.
    (id.to_string() == digits).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_form() {
        let secret = "5".repeat(64);
        let text = format!("kvt_00000000000000a7_{secret}");
        assert_eq!(token_id(text.as_bytes()), Some(UserTokenId(0xa7)));
        for other in [&text[1..], &text[..text.len() - 1], "kvt_", "kvt__", "", &text.replace("a7", "g7")] {
            assert_eq!(token_id(other.as_bytes()), None, "{other}");
        }
        for other in [&text.replace("a7", "A7"), &text.replace("_00", "_+0")] {
            assert_eq!(token_id(other.as_bytes()), None, "{other}");
        }
        assert_eq!(token_id(b"\xff"), None);
    }
}
