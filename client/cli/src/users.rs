//! Users, roles and tokens: what administrators ask, carried out. Passwords are asked for at the terminal, or read from files.

use crate::exit::Exit;
use crate::output::{Cell, Output};
use crate::parse::{NewPassword, UserAction};
use crate::run::{Emit, Failure};
use crate::text::printable;
use kvorum_client::verdict::about;
use kvorum_client::{AuthVerb, AuthView, Client, ErrorCode, UserTokenId, draw_token, verifier_of};
use std::io::{IsTerminal, stdin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Does what is asked, and tells what becomes of it.
///
/// # Errors
/// Why it failed, or was refused.
pub(crate) async fn run(client: &Client, action: &UserAction, emit: Emit<'_>) -> Result<Exit, Failure> {
    let admin = client.admin();
    let put = |name: &str| AuthVerb::PutUser {
        name: name.to_owned(),
        exists: Some(true),
        verifier: None,
        roles: None,
        disabled: None,
    };
    let (verb, done) = match action {
        UserAction::List => {
            list_users(&admin.auth().await?, emit);
            return Ok(Exit::Ok);
        }
        UserAction::ListRoles => {
            emit(roles_of(&admin.auth().await?));
            return Ok(Exit::Ok);
        }
        UserAction::WhoAmI => {
            let user = admin.who_am_i().await?;
            let note = if user.is_empty() { "nobody has asked: everybody may do everything here" } else { "" };
            emit(Output::Scalar { name: "user", cell: Cell::plain(user), note: note.to_owned() });
            return Ok(Exit::Ok);
        }
        UserAction::Check { user, classes, key } => {
            return match admin.check_access(user, *classes, key.clone()).await {
                Ok(()) => {
                    emit(Output::Scalar { name: "allowed", cell: Cell::plain(true), note: String::new() });
                    Ok(Exit::Ok)
                }
                Err(error) if error.code() == ErrorCode::PermissionDenied => {
                    emit(Output::Scalar { name: "allowed", cell: Cell::plain(false), note: error.to_string() });
                    Ok(Exit::Failed)
                }
                Err(error) => Err(error.into()),
            };
        }
        UserAction::Token { name, roles, life } => {
            let expires_at_ms =
                life.map(|life| now_ms().saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX)));
            let (text, verb) = draw_token(name, roles.clone(), expires_at_ms);
            admin.change_auth(verb).await?;
            let until = life.map_or_else(|| "until it is revoked".to_owned(), |life| format!("for {}", about(life)));
            let note = format!("whoever has it is {name}, {until}; it is shown this once");
            emit(Output::Scalar { name: "token", cell: Cell::plain(text), note });
            return Ok(Exit::Ok);
        }
        UserAction::Add { name, roles, password } => {
            let verifier = match password {
                NewPassword::None => None,
                password => Some(hashed(read(name, password).map_err(Failure::Usage)?).await),
            };
            let (exists, roles) = (Some(false), Some(roles.clone()));
            let verb = AuthVerb::PutUser { name: name.clone(), exists, verifier, roles, disabled: None };
            (verb, format!("{name} is a user"))
        }
        UserAction::Password { name, password } => {
            let verifier = match password {
                NewPassword::None => String::new(),
                password => hashed(read(name, password).map_err(Failure::Usage)?).await,
            };
            let AuthVerb::PutUser { name: user, exists, roles, disabled, .. } = put(name) else {
                unreachable!("see above")
            };
            let verb = AuthVerb::PutUser { name: user, exists, verifier: Some(verifier), roles, disabled };
            (verb, format!("{name} has another password; connections by the old one have ended"))
        }
        UserAction::Roles { name, roles } => {
            let verb = AuthVerb::PutUser {
                name: name.clone(),
                exists: Some(true),
                verifier: None,
                roles: Some(roles.clone()),
                disabled: None,
            };
            (verb, format!("{name} has these roles from now on"))
        }
        UserAction::Disable { name, disabled } => {
            let verb = AuthVerb::PutUser {
                name: name.clone(),
                exists: Some(true),
                verifier: None,
                roles: None,
                disabled: Some(*disabled),
            };
            let done = if *disabled { "may not log in, and its connections have ended" } else { "may log in again" };
            (verb, format!("{name} {done}"))
        }
        UserAction::Remove(name) => {
            (AuthVerb::RemoveUser(name.clone()), format!("{name} is no user, and has no token"))
        }
        UserAction::Revoke(id) => (
            AuthVerb::RemoveToken(UserTokenId(*id)),
            "the token is good no more, and its connections have ended".to_owned(),
        ),
        UserAction::Limit { name, limits } => {
            let done = if limits.is_none() { "may ask as much as it likes" } else { "may ask so much of each node" };
            (AuthVerb::Limit { name: name.clone(), limits: *limits }, format!("{name} {done}"))
        }
        UserAction::Deny { serial, denied } => {
            let done = if *denied { "is not taken any more, at any door" } else { "is taken again" };
            (AuthVerb::Deny { serial: serial.clone(), denied: *denied }, format!("the certificate {done}"))
        }
        UserAction::Role { name, grants, cluster } => {
            let verb = AuthVerb::PutRole { name: name.clone(), grants: grants.clone(), cluster: *cluster };
            (verb, format!("the role {name} is as you say"))
        }
        UserAction::RemoveRole(name) => {
            (AuthVerb::RemoveRole(name.clone()), format!("there is no role {name} any more"))
        }
    };
    admin.change_auth(verb).await?;
    emit(Output::Note(done));
    Ok(Exit::Ok)
}

fn list_users(view: &AuthView, emit: Emit<'_>) {
    let rows = view.users.iter().map(|user| {
        let tokens = view.tokens.iter().filter(|token| token.user == user.name);
        let tokens: Vec<String> = tokens.map(|token| token.id.to_string()).collect();
        vec![
            Cell::plain(user.name.clone()),
            Cell::plain(user.roles.join(",")),
            Cell::plain(user.has_password),
            Cell::plain(!user.disabled),
            Cell::plain(tokens.join(",")),
            Cell::plain(user.limits.requests_per_s),
            Cell::plain(user.limits.bytes_per_s),
            Cell::plain(user.limits.connections),
        ]
    });
    let columns = &["user", "roles", "password", "enabled", "tokens", "requests_per_s", "bytes_per_s", "connections"];
    emit(Output::Table { columns, rows: rows.collect() });
    if !view.required {
        emit(Output::Note("clients need not say who they are here: auth.mode is open".to_owned()));
    }
}

fn roles_of(view: &AuthView) -> Output {
    let rows = view.roles.iter().map(|role| {
        let grants = role.grants.iter().map(|grant| match grant.prefix.is_empty() {
            true => format!("all keys: {}", grant.classes),
            false => format!("{}: {}", printable(&grant.prefix), grant.classes),
        });
        let grants: Vec<String> = grants.collect();
        vec![
            Cell::plain(role.name.clone()),
            Cell::plain(grants.join("; ")),
            Cell::plain(role.cluster.to_string()),
            Cell::plain(role.built_in),
        ]
    });
    Output::Table { columns: &["role", "keys", "cluster", "built_in"], rows: rows.collect() }
}

/// A password takes a while to hash, which nobody else should wait for.
async fn hashed(password: String) -> String {
    let hashing = tokio::task::spawn_blocking(move || verifier_of(&password)).await;
    hashing.expect("hashing does not panic")
}

/// The same with the password that it needs, read from where it comes from; `None` if it needs none. Waits for whoever types it.
///
/// # Errors
/// There is no password, or none that can be used.
pub(crate) fn with_password(action: &UserAction) -> Result<Option<UserAction>, String> {
    let mut action = action.clone();
    let (UserAction::Add { name, password, .. } | UserAction::Password { name, password }) = &mut action else {
        return Ok(None);
    };
    if *password != NewPassword::None {
        *password = NewPassword::Read(read(name, password)?);
    }
    Ok(Some(action))
}

fn read(name: &str, password: &NewPassword) -> Result<String, String> {
    let password = match password {
        NewPassword::Read(password) => password.clone(),
        NewPassword::File(path) => read_file(path)?,
        NewPassword::None => String::new(),
        NewPassword::Asked => {
            let first = ask(&format!("new password of {name}: "))?;
            if ask("once more: ")? != first {
                return Err("the two are not the same; nothing was changed".to_owned());
            }
            first
        }
    };
    match password.len() {
        0 => Err("the password is empty; NOPASSWORD is for users without one".to_owned()),
        length if length > PASSWORD_BYTES_MAX => Err("a password has 1024 bytes at most".to_owned()),
        _ => Ok(password),
    }
}

/// The first line of a file.
///
/// # Errors
/// It can't be read.
pub(crate) fn read_file(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for a password, which is not shown.
///
/// # Errors
/// There is nobody to ask.
pub(crate) fn ask(prompt: &str) -> Result<String, String> {
    if !stdin().is_terminal() {
        return Err("there is no terminal to ask for a password: name a file that holds it".to_owned());
    }
    rpassword::prompt_password(prompt).map_err(|error| format!("the password can't be read: {error}"))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_once_and_before_the_command_begins() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "lovelace\n").unwrap();
        let path = file.to_str().unwrap().to_owned();
        let wanted = |password| UserAction::Password { name: "ada".to_owned(), password };
        let read = with_password(&wanted(NewPassword::File(path.clone()))).unwrap().unwrap();
        assert_eq!(read, wanted(NewPassword::Read("lovelace".to_owned())));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(with_password(&read), Ok(Some(read)));
        assert!(with_password(&wanted(NewPassword::File(path))).is_err());
        assert_eq!(with_password(&wanted(NewPassword::None)), Ok(Some(wanted(NewPassword::None))));
        assert_eq!(with_password(&UserAction::List), Ok(None));
    }
}
