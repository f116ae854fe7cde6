//! What operators change in the table. Each verb makes the next table of one, or says why there is none.

use super::keeper::AUTH_LEVEL;
use super::table::{AuthTable, User, UserRole, UserToken, built_in};
use kvorum_protocol::limits::{AUTH_NAME_BYTES_MAX, SERIAL_BYTES_MAX};
use kvorum_protocol::{AuthVerb, Grant, UserLimits, hexadecimal};
use kvorum_scram::Verifier;
use std::collections::BTreeSet;

/// Why a table is not changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthRefusal {
    /// There is no user, role or token of that name.
    #[error("there is no {0} {1:?}")]
    Absent(&'static str, String),
    /// There is one.
    #[error("there is a {0} {1:?} already")]
    Present(&'static str, String),
    /// It can't be so.
    #[error("{0}")]
    Invalid(&'static str),
    /// A built-in role can't be changed.
    #[error("the role {0:?} is built in and stays as it is")]
    BuiltIn(String),
    /// Nobody could change anything any more.
    #[error("no user with the role root would be left who may log in")]
    LastRoot,
    /// Somebody has the role.
    #[error("the user {1:?} has the role {0:?}")]
    RoleInUse(String, String),
    /// There are as many as there can be.
    #[error("the table has too many {0}")]
    TooMany(&'static str),
    /// Another node of the cluster would let everybody in.
    #[error("the cluster is at level {0}, and users need level {AUTH_LEVEL}: upgrade all nodes, then CLUSTER FINALIZE")]
    Level(u16),
}

/// The table after a verb; `None` if it says so already.
///
/// # Errors
/// See [`AuthRefusal`].
pub fn admit(table: &AuthTable, verb: &AuthVerb) -> Result<Option<AuthTable>, AuthRefusal> {
    let mut next = table.clone();
    match verb {
        AuthVerb::PutUser { name, exists, verifier, roles, disabled } => {
            check_name(name)?;
            match (exists, table.users.contains_key(name)) {
                (Some(true), false) => return Err(AuthRefusal::Absent("user", name.clone())),
                (Some(false), true) if !is_same(&table.users[name], verifier, roles, disabled) => {
                    return Err(AuthRefusal::Present("user", name.clone()));
                }
                _ => {}
            }
            let user = next.users.entry(name.clone()).or_default();
            if let Some(text) = verifier {
                user.verifier = match &text[..] {
                    "" => None,
                    _ => Some(text.parse::<Verifier>().map_err(|_| NOT_A_VERIFIER)?.to_string()),
                };
            }
            if let Some(roles) = roles {
                user.roles = checked_roles(table, roles)?;
            }
            user.disabled = disabled.unwrap_or(user.disabled);
        }
        AuthVerb::RemoveUser(name) => {
            // Whoever asks again hears that it is done.
            next.users.remove(name);
            next.tokens.retain(|_, token| token.user != *name);
        }
        AuthVerb::PutRole { name, grants, cluster } => {
            check_name(name)?;
            if built_in(name).is_some() {
                return Err(AuthRefusal::BuiltIn(name.clone()));
            }
            check_grants(grants)?;
            next.roles.insert(name.clone(), UserRole::of(grants, *cluster));
        }
        AuthVerb::RemoveRole(name) => {
            if built_in(name).is_some() {
                return Err(AuthRefusal::BuiltIn(name.clone()));
            }
            if let Some((user, _)) = table.users.iter().find(|(_, user)| user.roles.contains(name)) {
                return Err(AuthRefusal::RoleInUse(name.clone(), user.clone()));
            }
            next.roles.remove(name);
        }
        AuthVerb::AddToken { id, user, roles, digest, expires_at_ms } => {
            if !table.users.contains_key(user) {
                return Err(AuthRefusal::Absent("user", user.clone()));
            }
            let roles = roles.as_ref().map(|roles| checked_roles(table, roles)).transpose()?;
            let token = UserToken {
                user: user.clone(),
                roles,
                digest: hexadecimal::encode(digest),
                expires_at_ms: *expires_at_ms,
                unknown: serde_json::Map::new(),
            };
            if table.tokens.get(&id.to_string()).is_some_and(|known| *known != token) {
                return Err(AuthRefusal::Present("token", id.to_string()));
            }
            next.tokens.insert(id.to_string(), token);
        }
        AuthVerb::RemoveToken(id) => {
            next.tokens.remove(&id.to_string());
        }
        AuthVerb::Deny { serial, denied } => {
            let zeros = serial.iter().take_while(|byte| **byte == 0).count();
            let serial = &serial[zeros..];
            if serial.is_empty() || serial.len() > SERIAL_BYTES_MAX {
                return Err(AuthRefusal::Invalid("a serial number has 1 to 20 bytes"));
            }
            if *denied {
                next.denied.insert(hexadecimal::encode(serial));
            } else {
                next.denied.remove(&hexadecimal::encode(serial));
            }
        }
        AuthVerb::Limit { name, limits } => {
            let user = next.users.get_mut(name).ok_or_else(|| AuthRefusal::Absent("user", name.clone()))?;
            let UserLimits { requests_per_s, bytes_per_s, connections } = *limits;
            (user.requests_per_s, user.bytes_per_s, user.connections) = (requests_per_s, bytes_per_s, connections);
        }
    }
    if next == *table {
        return Ok(None);
    }
    if let Some(what) = next.too_large() {
        return Err(AuthRefusal::TooMany(what));
    }
    if table.has_root() && !next.has_root() {
        return Err(AuthRefusal::LastRoot);
    }
    next.epoch += 1;
    Ok(Some(next))
}

const NOT_A_VERIFIER: AuthRefusal = AuthRefusal::Invalid("the verifier of a password has not the form of one");

/// Whether a user is as a verb wants it, so that this is the verb a second time. A verifier is made anew each time.
fn is_same(user: &User, verifier: &Option<String>, roles: &Option<Vec<String>>, disabled: &Option<bool>) -> bool {
    verifier.as_ref().is_none_or(|text| user.verifier.as_deref().unwrap_or_default() == text)
        && roles.as_ref().is_none_or(|roles| roles.iter().collect::<BTreeSet<_>>() == user.roles.iter().collect())
        && disabled.is_none_or(|disabled| user.disabled == disabled)
}

/// Whether a user or a role may have this name.
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    !name.is_empty() && name.len() <= AUTH_NAME_BYTES_MAX && name.bytes().all(is_plain)
}

fn check_name(name: &str) -> Result<(), AuthRefusal> {
    if !is_name(name) {
        return Err(AuthRefusal::Invalid("a name has 1 to 128 letters, digits and characters of - _ . @"));
    }
    Ok(())
}

fn check_grants(grants: &[Grant]) -> Result<(), AuthRefusal> {
    let repeats = |(at, grant): (usize, &Grant)| grants[..at].iter().any(|other| other.prefix == grant.prefix);
    if grants.iter().enumerate().any(repeats) {
        return Err(AuthRefusal::Invalid("a prefix stands twice in the role"));
    }
    if grants.iter().any(|grant| grant.classes.0 == 0) {
        return Err(AuthRefusal::Invalid("a prefix of the role says nothing that may be done"));
    }
    Ok(())
}

fn checked_roles(table: &AuthTable, roles: &[String]) -> Result<BTreeSet<String>, AuthRefusal> {
    for role in roles {
        if table.role(role).is_none() {
            return Err(AuthRefusal::Absent("role", role.clone()));
        }
    }
    Ok(roles.iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{ClusterClasses, KeyClasses, UserTokenId};

    fn put(name: &str, roles: &[&str]) -> AuthVerb {
        let roles = Some(roles.iter().map(|role| (*role).to_owned()).collect());
        AuthVerb::PutUser { name: name.to_owned(), exists: None, verifier: None, roles, disabled: None }
    }

    fn after(table: &AuthTable, verb: &AuthVerb) -> AuthTable {
        admit(table, verb).unwrap().unwrap()
    }

    #[test]
    fn users_come_change_and_go() {
        let table = AuthTable::initial(None);
        let with = after(&table, &put("ada", &["readonly"]));
        assert_eq!((with.epoch, with.users.len()), (2, 2));
        assert_eq!(admit(&with, &put("ada", &["readonly"])), Ok(None), "whoever asks again hears that it is so");
        let only_new = |exists| AuthVerb::PutUser {
            name: "ada".to_owned(),
            exists: Some(exists),
            verifier: None,
            roles: Some(vec!["root".to_owned()]),
            disabled: None,
        };
        assert_eq!(admit(&with, &only_new(false)), Err(AuthRefusal::Present("user", "ada".to_owned())));
        assert_eq!(admit(&table, &only_new(true)), Err(AuthRefusal::Absent("user", "ada".to_owned())));
        assert_eq!(admit(&table, &put("ada", &["poet"])), Err(AuthRefusal::Absent("role", "poet".to_owned())));
        for name in ["", "a b", "ä", "a/b"] {
            assert!(matches!(admit(&table, &put(name, &[])), Err(AuthRefusal::Invalid(_))), "{name}");
        }
        assert_eq!(admit(&with, &AuthVerb::RemoveUser("ada".to_owned())).unwrap().unwrap().users.len(), 1);
        assert_eq!(admit(&table, &AuthVerb::RemoveUser("ada".to_owned())), Ok(None));
    }

    #[test]
    fn somebody_is_left_who_may_do_everything() {
        let table = AuthTable::initial(None);
        let disable = AuthVerb::PutUser {
            name: "admin".to_owned(),
            exists: None,
            verifier: None,
            roles: None,
            disabled: Some(true),
        };
        for verb in [AuthVerb::RemoveUser("admin".to_owned()), put("admin", &["readwrite"]), disable.clone()] {
            assert_eq!(admit(&table, &verb), Err(AuthRefusal::LastRoot), "{verb:?}");
        }
        assert!(admit(&after(&table, &put("ada", &["root"])), &disable).is_ok());
    }

    #[test]
    fn roles_are_there_while_somebody_has_them() {
        let grant = |prefix: &str, classes| Grant { prefix: prefix.to_owned().into(), classes };
        let role = |grants| AuthVerb::PutRole { name: "app".to_owned(), grants, cluster: ClusterClasses::NONE };
        let table = AuthTable::initial(None);
        let table = after(&table, &role(vec![grant("app/", KeyClasses::READ)]));
        let table = after(&table, &put("ada", &["app"]));
        let remove = AuthVerb::RemoveRole("app".to_owned());
        assert_eq!(admit(&table, &remove), Err(AuthRefusal::RoleInUse("app".to_owned(), "ada".to_owned())));
        assert!(admit(&after(&table, &put("ada", &[])), &remove).unwrap().unwrap().roles.is_empty());
        let twice = role(vec![grant("a", KeyClasses::READ), grant("a", KeyClasses::WRITE)]);
        assert!(matches!(admit(&table, &twice), Err(AuthRefusal::Invalid(_))));
        assert!(matches!(admit(&table, &role(vec![grant("a", KeyClasses::NONE)])), Err(AuthRefusal::Invalid(_))));
        let root = AuthVerb::PutRole { name: "root".to_owned(), grants: Vec::new(), cluster: ClusterClasses::NONE };
        assert_eq!(admit(&table, &root), Err(AuthRefusal::BuiltIn("root".to_owned())));
    }

    #[test]
    fn tokens_go_with_their_user() {
        let token = |digest| AuthVerb::AddToken {
            id: UserTokenId(7),
            user: "admin".to_owned(),
            roles: Some(vec!["readonly".to_owned()]),
            digest: [digest; 32],
            expires_at_ms: None,
        };
        let table = after(&after(&AuthTable::initial(None), &put("ada", &["root"])), &token(1));
        assert_eq!(admit(&table, &token(1)), Ok(None));
        assert!(matches!(admit(&table, &token(2)), Err(AuthRefusal::Present("token", _))));
        assert!(after(&table, &AuthVerb::RemoveToken(UserTokenId(7))).tokens.is_empty());
        assert!(after(&table, &AuthVerb::RemoveUser("admin".to_owned())).tokens.is_empty());
    }
}
