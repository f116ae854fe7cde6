//! Who may do what: users, roles and tokens. Passwords and tokens are drawn and hashed here; the cluster never learns them.

use crate::admin::Admin;
use crate::core::unexpected;
use kvorum_client_core::error::Error;
use kvorum_client_core::retry::Kind;
use kvorum_client_core::routing::Need;
use kvorum_protocol::{AdminCommand, AuthVerb, AuthView, KeyClasses, RequestBody, ResponseBody};
#[cfg(feature = "passwords")]
use kvorum_protocol::{UserTokenId, hexadecimal};

impl Admin {
    /// Changes who may do what. Answered once that is recorded; every node knows it within a second. May be repeated.
    ///
    /// # Errors
    /// `Refused`, with the reason; `PermissionDenied` for whoever may not keep users; else as every operation, see [`Error`].
    pub async fn change_auth(&self, verb: AuthVerb) -> Result<(), Error> {
        self.done(Need::Any, Kind::Wish, AdminCommand::Auth(Box::new(verb))).await
    }

    /// Who may do what, without anything secret, as the asked node knows it.
    ///
    /// # Errors
    /// `PermissionDenied` for whoever may not keep users; else as every operation, see [`Error`].
    pub async fn auth(&self) -> Result<AuthView, Error> {
        match self.ask_any(AdminCommand::ShowAuth).await? {
            ResponseBody::AuthView(view) => Ok(*view),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// The name of the user that the client is; empty if nobody has asked.
    ///
    /// # Errors
    /// As every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// println!("I am {:?}", client.admin().who_am_i().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn who_am_i(&self) -> Result<String, Error> {
        match self.ask_any(AdminCommand::WhoAmI).await? {
            ResponseBody::Authenticated { user, .. } => Ok(user),
            other => Err(unexpected(&other, Kind::Read)),
        }
    }

    /// Looks whether a user may do all of this with a key, or with all keys that begin with it.
    ///
    /// # Errors
    /// `PermissionDenied` if it may not, or if the client may not ask about others; else as every operation, see [`Error`].
    pub async fn check_access(
        &self,
        user: &str,
        classes: KeyClasses,
        key: impl Into<bytes::Bytes>,
    ) -> Result<(), Error> {
        let command = AdminCommand::CheckAccess { user: user.to_owned(), classes, key: key.into() };
        self.done(Need::Any, Kind::Read, command).await
    }

    async fn ask_any(&self, command: AdminCommand) -> Result<ResponseBody, Error> {
        self.call(Need::Any, Kind::Read, RequestBody::Admin(command)).await
    }
}

/// The verifier of a password, for [`AuthVerb::PutUser`]. It takes about 30 ms of one processor.
#[cfg(feature = "passwords")]
pub fn verifier_of(password: &str) -> String {
    let salt = rand::random();
    kvorum_scram::Verifier::new(password.as_bytes(), salt, kvorum_scram::ITERATIONS_DEFAULT).to_string()
}

/// Draws a token of a user: its text, which is the secret, and what the cluster is to know of it.
#[cfg(feature = "passwords")]
pub fn draw_token(user: &str, roles: Option<Vec<String>>, expires_at_ms: Option<u64>) -> (String, AuthVerb) {
    use sha2::Digest as _;
    let (id, secret) = (UserTokenId(rand::random()), rand::random::<[u8; 32]>());
    let text = format!("kvt_{id}_{}", hexadecimal::encode(&secret));
    let digest = sha2::Sha256::digest(text.as_bytes()).into();
    (text, AuthVerb::AddToken { id, user: user.to_owned(), roles, digest, expires_at_ms })
}
