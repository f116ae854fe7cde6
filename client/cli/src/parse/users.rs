//! What administrators type about users: USER, ROLE and ACL.

use super::{Action, Arguments, UsageError};
use crate::text::printable;
use kvorum_client::{Bytes, ClusterClasses, Grant, KeyClasses, UserLimits};
use kvorum_protocol::hexadecimal;
use std::time::Duration;

/// What is asked about users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum UserAction {
    List,
    Add { name: String, roles: Vec<String>, password: NewPassword },
    Password { name: String, password: NewPassword },
    Roles { name: String, roles: Vec<String> },
    Disable { name: String, disabled: bool },
    Remove(String),
    Token { name: String, roles: Option<Vec<String>>, life: Option<Duration> },
    Revoke(u64),
    Limit { name: String, limits: UserLimits },
    Deny { serial: Bytes, denied: bool },
    Role { name: String, grants: Vec<Grant>, cluster: ClusterClasses },
    RemoveRole(String),
    ListRoles,
    WhoAmI,
    Check { user: String, classes: KeyClasses, key: Bytes },
}

/// Where a new password comes from. Never from the command line, which others can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NewPassword {
    /// It is asked for, twice.
    Asked,
    /// A file holds it.
    File(String),
    /// It is this one, which was read already.
    Read(String),
    /// There is none.
    None,
}

impl Arguments<'_> {
    pub(super) fn user(&mut self) -> Result<Action, UsageError> {
        let what = self.optional_text().unwrap_or_else(|| "LIST".to_owned()).to_ascii_uppercase();
        let action = match &*what {
            "LIST" => UserAction::List,
            "ADD" | "PASSWD" => {
                let name = self.text("user")?;
                let (mut roles, mut password) = (Vec::new(), NewPassword::Asked);
                while let Some(option) = self.option()? {
                    match option {
                        "PASSWORDFILE" => password = NewPassword::File(self.text("file")?),
                        "NOPASSWORD" => password = NewPassword::None,
                        "ROLES" if what == "ADD" => roles = self.names()?,
                        option => return Err(self.wrong(format!("{option} is of no use to USER {what}"))),
                    }
                }
                match &*what {
                    "ADD" => UserAction::Add { name, roles, password },
                    _ => UserAction::Password { name, password },
                }
            }
            "ROLES" => UserAction::Roles { name: self.text("user")?, roles: self.names()? },
            "DISABLE" => UserAction::Disable { name: self.text("user")?, disabled: true },
            "ENABLE" => UserAction::Disable { name: self.text("user")?, disabled: false },
            "REMOVE" => UserAction::Remove(self.text("user")?),
            "TOKEN" => {
                let name = self.text("user")?;
                let (mut roles, mut life) = (None, None);
                while let Some(option) = self.option()? {
                    match option {
                        "ROLES" => roles = Some(self.names()?),
                        "FOR" => life = Some(self.duration()?),
                        option => return Err(self.wrong(format!("{option} is of no use to USER TOKEN"))),
                    }
                }
                UserAction::Token { name, roles, life }
            }
            "REVOKE" => {
                let id = self.text("token's number")?;
                let wrong = || self.wrong("a token's number has 16 hexadecimal digits: USER LIST shows it");
                UserAction::Revoke(
                    Some(&id)
                        .filter(|id| id.len() == 16)
                        .and_then(|id| u64::from_str_radix(id, 16).ok())
                        .ok_or_else(wrong)?,
                )
            }
            "LIMIT" => {
                let name = self.text("user")?;
                let mut limits = UserLimits::default();
                while let Some(option) = self.option()? {
                    match option {
                        "REQUESTS" => limits.requests_per_s = self.number("requests per second")?,
                        "MB" => {
                            let mb: u32 = self.number("MiB per second")?;
                            limits.bytes_per_s = u64::from(mb) << 20;
                        }
                        "CONNECTIONS" => limits.connections = self.number("connections")?,
                        "OFF" => limits = UserLimits::default(),
                        option => return Err(self.wrong(format!("{option} is of no use to USER LIMIT"))),
                    }
                }
                UserAction::Limit { name, limits }
            }
            "DENY" | "ALLOW" => UserAction::Deny { serial: self.serial()?, denied: what == "DENY" },
            _ => return Err(self.wrong(format!("{} is nothing to do with a user", printable(what.as_bytes())))),
        };
        Ok(Action::Users(action))
    }

    pub(super) fn role(&mut self) -> Result<Action, UsageError> {
        let what = self.optional_text().unwrap_or_else(|| "LIST".to_owned()).to_ascii_uppercase();
        let action = match &*what {
            "LIST" => UserAction::ListRoles,
            "SET" => {
                let name = self.text("role")?;
                let (mut grants, mut cluster) = (Vec::new(), ClusterClasses::NONE);
                while let Some(option) = self.option()? {
                    match option {
                        "ON" => {
                            let prefix = self.bytes("prefix")?;
                            grants.push(Grant { prefix, classes: self.key_classes()? });
                        }
                        "ALLKEYS" => grants.push(Grant { prefix: Bytes::new(), classes: self.key_classes()? }),
                        _ => {
                            for name in self.names()? {
                                let class = ClusterClasses::named(&name).ok_or_else(|| {
                                    self.wrong(format!("the cluster's rights are {}, not {name}", ClusterClasses::ALL))
                                })?;
                                cluster = cluster.with(class);
                            }
                        }
                    }
                }
                UserAction::Role { name, grants, cluster }
            }
            "REMOVE" => UserAction::RemoveRole(self.text("role")?),
            _ => return Err(self.wrong(format!("{} is nothing to do with a role", printable(what.as_bytes())))),
        };
        Ok(Action::Users(action))
    }

    pub(super) fn acl(&mut self) -> Result<Action, UsageError> {
        let what = self.optional_text().unwrap_or_else(|| "WHOAMI".to_owned()).to_ascii_uppercase();
        let action = match &*what {
            "WHOAMI" => UserAction::WhoAmI,
            "CHECK" => {
                UserAction::Check { user: self.text("user")?, classes: self.key_classes()?, key: self.bytes("key")? }
            }
            _ => return Err(self.wrong(format!("ACL WHOAMI or CHECK, not {}", printable(what.as_bytes())))),
        };
        Ok(Action::Users(action))
    }

    /// Names with commas between them.
    fn names(&mut self) -> Result<Vec<String>, UsageError> {
        let text = self.text("names")?;
        Ok(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    fn key_classes(&mut self) -> Result<KeyClasses, UsageError> {
        let mut classes = KeyClasses::NONE;
        for name in self.names()? {
            let class = match &*name.to_ascii_lowercase() {
                "all" => Some(KeyClasses::ALL),
                name => KeyClasses::named(name),
            };
            let wrong = || self.wrong(format!("rights on keys are {} or all, not {name}", KeyClasses::ALL));
            classes = classes.with(class.ok_or_else(wrong)?);
        }
        Ok(classes)
    }

    fn serial(&mut self) -> Result<Bytes, UsageError> {
        let text = self.text("serial number")?;
        let digits = text.replace(':', "");
        let wrong = || self.wrong("a serial number has hexadecimal digits, as `kvorum cert show` and openssl print it");
        hexadecimal::decode(&digits).filter(|serial| !serial.is_empty()).map(Bytes::from).ok_or_else(wrong)
    }
}

#[cfg(test)]
#[path = "../../../../protocol/fuzz/src/smoke.rs"]
#[allow(unreachable_pub, reason = "tests of several crates share it")]
mod smoke;

#[cfg(test)]
mod tests {
    use super::smoke::smoke;
    use crate::fuzz_bodies::{genuine, user_line};

    #[test]
    fn what_a_line_grants_is_what_it_says() {
        smoke("user_line", &genuine(), 20_000, user_line);
    }
}
