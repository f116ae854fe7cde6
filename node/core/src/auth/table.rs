//! The table of users, roles and tokens, and its stored form.

use crate::folder::checked_json;
use crate::folder::mirrored::DecodeFailure;
use kvorum_protocol::limits::{
    AUTH_NAME_BYTES_MAX, AUTH_TABLE_BYTES_MAX, DENIED_SERIALS_MAX, GRANTS_MAX, KEY_BYTES_MAX, ROLES_MAX,
    ROLES_OF_USER_MAX, USER_TOKENS_MAX, USERS_MAX,
};
use kvorum_protocol::{
    AuthView, ClusterClasses, Grant, KeyClasses, RoleView, TokenView, UserLimits, UserTokenId, UserView, hexadecimal,
};
use kvorum_scram::Verifier;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The key of the table in the `meta` group.
pub const AUTH_KEY: &[u8] = b"auth";
/// The role that may do everything.
pub const ROOT: &str = "root";
/// The user of the certificate that comes with a new cluster.
pub const ADMIN: &str = "admin";

/// A field that this version does not know.
type Unknown = serde_json::Map<String, serde_json::Value>;

/// The table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AuthTable {
    /// Grows with each change.
    pub epoch: u64,
    /// The users, by name.
    pub users: BTreeMap<String, User>,
    /// The roles, by name, without those that are built in.
    pub roles: BTreeMap<String, UserRole>,
    /// The tokens of users, by number.
    pub tokens: BTreeMap<String, UserToken>,
    /// Serial numbers of certificates that are not taken, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<String>,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// What checks its password, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<String>,
    /// Its roles. One that is not there any more gives nothing.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Whether it may not log in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How many requests it may send per second, to each node; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_per_s: u32,
    /// How many bytes of requests and answers per second; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_per_s: u64,
    /// How many connections it may have to each node; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connections: u32,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl User {
    /// How much it may ask.
    pub fn limits(&self) -> UserLimits {
        UserLimits { requests_per_s: self.requests_per_s, bytes_per_s: self.bytes_per_s, connections: self.connections }
    }

    /// What checks its password.
    pub fn verifier(&self) -> Option<Verifier> {
        self.verifier.as_ref().and_then(|text| text.parse().ok())
    }
}

/// A role.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserRole {
    /// Names of what may be done with keys, by the hexadecimal digits of the prefix. A name that this version does not know gives
    /// nothing.
    #[serde(default)]
    pub grants: BTreeMap<String, BTreeSet<String>>,
    /// Names of what may be done with the cluster.
    #[serde(default)]
    pub cluster: BTreeSet<String>,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A token of a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserToken {
    /// Whose it is.
    pub user: String,
    /// Of the user's roles only these, if any are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<String>>,
    /// SHA-256 of the token's text, in hexadecimal digits.
    pub digest: String,
    /// When it is over: Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// What a newer version has added: kept as it is.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Why a stored table can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthTableError {
    /// It is not the JSON it should be.
    #[error("the stored table of users can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It does not match its checksum.
    #[error("auth.json.metadata and its copy are damaged")]
    Damaged,
    /// It is larger than a table can be.
    #[error("the stored table of users has too many {0}")]
    TooLarge(&'static str),
}

impl DecodeFailure for AuthTableError {}

impl AuthTable {
    /// The table of a new cluster: its administrator, who logs in by the certificate that comes with it, and by a password if there is
    /// one.
    pub fn initial(admin_password: Option<&Verifier>) -> Self {
        let admin = User {
            verifier: admin_password.map(Verifier::to_string),
            roles: BTreeSet::from([ROOT.to_owned()]),
            ..User::default()
        };
        Self { epoch: 1, users: BTreeMap::from([(ADMIN.to_owned(), admin)]), ..Self::default() }
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a table has nothing that JSON can't say")
    }

    /// The form in which a node keeps a copy beside its data.
    pub fn to_copy(&self) -> Vec<u8> {
        checked_json::encode(self)
    }

    /// Reads a node's copy.
    ///
    /// # Errors
    /// If it is damaged, or as [`AuthTable::from_bytes`].
    pub fn from_copy(bytes: &[u8]) -> Result<Self, AuthTableError> {
        Self::from_bytes(checked_json::unseal(bytes).ok_or(AuthTableError::Damaged)?.as_bytes())
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Malformed`, `TooLarge`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AuthTableError> {
        if bytes.len() > AUTH_TABLE_BYTES_MAX {
            return Err(AuthTableError::TooLarge("bytes"));
        }
        let table: Self = serde_json::from_slice(bytes)?;
        table.too_large().map_or(Ok(table), |what| Err(AuthTableError::TooLarge(what)))
    }

    /// What there is too much of.
    pub(super) fn too_large(&self) -> Option<&'static str> {
        let names = self.users.keys().chain(self.roles.keys());
        let is_long = |name: &String| name.is_empty() || name.len() > AUTH_NAME_BYTES_MAX;
        let has_many = |user: &User| user.roles.len() > ROLES_OF_USER_MAX;
        if self.users.len() > USERS_MAX {
            Some("users")
        } else if self.roles.len() > ROLES_MAX {
            Some("roles")
        } else if self.tokens.len() > USER_TOKENS_MAX {
            Some("tokens")
        } else if self.denied.len() > DENIED_SERIALS_MAX {
            Some("denied certificates")
        } else if names.into_iter().any(is_long) {
            Some("bytes in a name")
        } else if self.users.values().any(has_many) {
            Some("roles of a user")
        } else if self.roles.values().any(UserRole::is_too_large) {
            Some("prefixes of a role")
        } else {
            None
        }
    }

    /// The role of a name, which may be built in.
    pub fn role(&self, name: &str) -> Option<UserRole> {
        built_in(name).or_else(|| self.roles.get(name).cloned())
    }

    /// The user of a name, if it may log in.
    pub fn enabled(&self, user: &str) -> Option<&User> {
        self.users.get(user).filter(|user| !user.disabled)
    }

    /// Whether certificates of that serial number, which is without leading zeros, are not taken.
    pub fn denies(&self, serial: &[u8]) -> bool {
        !self.denied.is_empty() && self.denied.contains(&hexadecimal::encode(serial))
    }

    /// Whether somebody can change the table, and everything else.
    pub fn has_root(&self) -> bool {
        self.users.values().any(|user| !user.disabled && user.roles.contains(ROOT))
    }

    /// What may be known of it by whoever keeps users.
    pub fn view(&self, required: bool) -> AuthView {
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        let users = self.users.iter().map(|(name, user)| UserView {
            name: name.clone(),
            has_password: user.verifier.is_some(),
            disabled: user.disabled,
            roles: names(&user.roles),
            limits: user.limits(),
        });
        let role = |name: &str, role: &UserRole, built_in| RoleView {
            name: name.to_owned(),
            built_in,
            grants: role.known_grants(),
            cluster: role.known_cluster(),
        };
        let built_in = BUILT_IN.iter().filter_map(|name| Some(role(name, &built_in(name)?, true)));
        let own = self.roles.iter().map(|(name, own)| role(name, own, false));
        let tokens = self.tokens.iter().filter_map(|(id, token)| {
            Some(TokenView {
                id: UserTokenId(u64::from_str_radix(id, 16).ok()?),
                user: token.user.clone(),
                roles: token.roles.as_ref().map(names),
                expires_at_ms: token.expires_at_ms,
            })
        });
        AuthView {
            epoch: self.epoch,
            required,
            users: users.collect(),
            roles: built_in.chain(own).collect(),
            tokens: tokens.collect(),
            denied: self.denied.iter().filter_map(|text| hexadecimal::decode(text)).map(Into::into).collect(),
        }
    }
}

impl UserRole {
    /// A role that may do this.
    pub fn of(grants: &[Grant], cluster: ClusterClasses) -> Self {
        let mut role = Self::default();
        for Grant { prefix, classes } in grants {
            let names = role.grants.entry(hexadecimal::encode(prefix)).or_default();
            names.extend(classes.names().map(str::to_owned));
        }
        role.cluster = cluster.names().map(str::to_owned).collect();
        role
    }

    /// What it says of keys, as far as this version knows.
    pub fn known_grants(&self) -> Vec<Grant> {
        let known = |names: &BTreeSet<String>| {
            names.iter().filter_map(|name| KeyClasses::named(name)).fold(KeyClasses::NONE, KeyClasses::with)
        };
        let grants = self.grants.iter();
        grants
            .filter_map(|(prefix, names)| {
                Some(Grant { prefix: hexadecimal::decode(prefix)?.into(), classes: known(names) })
            })
            .collect()
    }

    /// What it says of the cluster, as far as this version knows.
    pub fn known_cluster(&self) -> ClusterClasses {
        self.cluster
            .iter()
            .filter_map(|name| ClusterClasses::named(name))
            .fold(ClusterClasses::NONE, ClusterClasses::with)
    }

    fn is_too_large(&self) -> bool {
        self.grants.len() > GRANTS_MAX || self.grants.keys().any(|prefix| prefix.len() > 2 * KEY_BYTES_MAX)
    }
}

/// The roles that every cluster has.
pub const BUILT_IN: &[&str] = &[ROOT, "readwrite", "readonly", "monitor"];

/// A role that every cluster has.
pub fn built_in(name: &str) -> Option<UserRole> {
    let all_keys = |classes| Grant { prefix: bytes::Bytes::new(), classes };
    let reads = KeyClasses::READ.with(KeyClasses::SCAN).with(KeyClasses::WATCH);
    let sees = ClusterClasses::STATUS.with(ClusterClasses::METRICS);
    Some(match name {
        ROOT => UserRole::of(&[all_keys(KeyClasses::ALL)], ClusterClasses::ALL),
        "readwrite" => UserRole::of(&[all_keys(KeyClasses::ALL)], ClusterClasses::STATUS),
        "readonly" => UserRole::of(&[all_keys(reads)], ClusterClasses::STATUS),
        "monitor" => UserRole::of(&[], sees),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_stored_and_read_and_keeps_what_a_newer_version_says() {
        let mut table = AuthTable::initial(None);
        let grant = Grant { prefix: "app/".into(), classes: KeyClasses::READ.with(KeyClasses::WRITE) };
        table.roles.insert("app".to_owned(), UserRole::of(std::slice::from_ref(&grant), ClusterClasses::NONE));
        assert_eq!(table.role("app").unwrap().known_grants(), [grant]);
        assert_eq!(AuthTable::from_bytes(&table.to_bytes()).unwrap(), table);
        assert_eq!(AuthTable::from_copy(&table.to_copy()).unwrap(), table);
        let text = String::from_utf8(table.to_bytes()).unwrap();
        assert_eq!(
            text,
            "{\"epoch\":1,\"users\":{\"admin\":{\"roles\":[\"root\"]}},\
             \"roles\":{\"app\":{\"grants\":{\"6170702f\":[\"read\",\"write\"]},\"cluster\":[]}},\"tokens\":{}}"
        );
        let newer = text.replace("\"epoch\":1", "\"epoch\":1,\"motto\":\"festina lente\"").replace("read", "conjure");
        let read = AuthTable::from_bytes(newer.as_bytes()).unwrap();
        assert_eq!(read.role("app").unwrap().known_grants()[0].classes, KeyClasses::WRITE);
        assert!(String::from_utf8(read.to_bytes()).unwrap().contains("festina lente"));
    }

    #[test]
    fn a_damaged_copy_and_a_table_of_too_much_are_refused() {
        let mut copy = AuthTable::initial(None).to_copy();
        copy[3] ^= 1;
        assert!(matches!(AuthTable::from_copy(&copy), Err(AuthTableError::Damaged)));
        let mut table = AuthTable::default();
        table.users.insert("x".repeat(AUTH_NAME_BYTES_MAX + 1), User::default());
        assert!(matches!(AuthTable::from_bytes(&table.to_bytes()), Err(AuthTableError::TooLarge("bytes in a name"))));
    }
}
