//! Tokens, by which nodes join. The secret is drawn here, and the cluster learns its public half only.

use crate::admin::Admin;
use kvorum_client_core::error::Error;
use kvorum_protocol::{Authority, ClusterVerb, JoinToken, NewToken, TokenId, TokenKey, TokenSecret};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::time::Duration;
use uuid::Uuid;

/// Which node may join by a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenWish {
    /// The node's name; `None` for any.
    pub name: Option<String>,
    /// Its zone; `None` for any.
    pub zone: Option<String>,
    /// For how long the token is good; a day at most.
    pub life: Duration,
}

impl Default for TokenWish {
    /// Any node, within an hour.
    fn default() -> Self {
        Self { name: None, zone: None, life: Duration::from_secs(3_600) }
    }
}

impl Admin {
    /// Makes a token, by which one node may join the cluster: `kvorum join --token`. Whoever has its text can join, so it is a
    /// secret. The cluster keeps the public half only. Each call makes another token, and the cluster knows 64 at most.
    ///
    /// # Errors
    /// `Refused`, with the reason, if the cluster can't know it; else as every operation, see [`Error`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: &kvorum_client::Client) -> Result<(), kvorum_client::Error> {
    /// use kvorum_client::TokenWish;
    ///
    /// let token = client.admin().token(TokenWish::default()).await?;
    /// println!("kvorum join --to db1.example:7410 --data-dir /var/lib/kvorum --token {token}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn token(&self, wish: TokenWish) -> Result<JoinToken, Error> {
        let (token, new) = wish.draw(self.authority().await?);
        self.ask(ClusterVerb::Token(Box::new(new))).await?;
        Ok(token)
    }
}

impl TokenWish {
    /// A token for a cluster, with its secret, and what the cluster is to know of it.
    pub fn draw(self, of: Authority) -> (JoinToken, NewToken) {
        let secret = TokenSecret(rand::random());
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret.0).expect("a seed is any 32 bytes");
        let key = TokenKey(pair.public_key().as_ref().try_into().expect("a public key has 32 bytes"));
        let id = TokenId(Uuid::from_u128(rand::random()));
        let for_ms = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let new = NewToken { id, key, name: self.name, zone: self.zone, for_ms };
        (JoinToken { cluster: of.cluster, authority: of.hash, id, secret }, new)
    }
}
