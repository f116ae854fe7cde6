//! What each fuzz target does with its bytes. The crate itself has it as a module, since only that can parse; its tests run the same
//! function over mutations of commands.

use crate::parse::{Action, UserAction, parse};
use crate::text::word;
use crate::words::split;
use kvorum_client::{ClusterClasses, Grant, KeyClasses};

/// Lines that the target accepts.
pub fn genuine() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 14] = [
        b"ROLE SET app ON app/ read,write ON \"b \\xff\" all ALLKEYS scan CLUSTER status,metrics",
        b"ROLE LIST",
        b"ROLE REMOVE app",
        b"USER ADD ada PASSWORDFILE /run/ada ROLES app,readonly",
        b"user add 'ada' nopassword",
        b"USER ROLES ada app",
        b"USER TOKEN ada ROLES app FOR 90d",
        b"USER REVOKE 00000000000000a7",
        b"USER LIMIT ada REQUESTS 1000 MB 8",
        b"USER LIMIT ada OFF",
        b"USER DENY 01:ab:ff",
        b"USER PASSWD ada",
        b"ACL CHECK ada read,write app/1",
        b"ACL WHOAMI",
    ];
    lines.map(<[u8]>::to_vec).into()
}

/// A line of an operator about users. What it grants is what it says, word for word.
pub fn user_line(data: &[u8]) -> bool {
    let Some(words) = std::str::from_utf8(data).ok().and_then(|line| split(line).ok()) else { return false };
    let Ok(Action::Users(action)) = parse(&words) else { return false };
    let line = match &action {
        UserAction::Role { name, grants, cluster } => role(name, grants, *cluster),
        UserAction::Check { user, classes, key } => {
            format!("ACL CHECK {} {} {}", word(user.as_bytes()), rights(*classes), word(key))
        }
        UserAction::Revoke(id) => format!("USER REVOKE {id:016x}"),
        _ => return true,
    };
    let again = split(&line).ok().and_then(|words| parse(&words).ok());
    assert_eq!(again, Some(Action::Users(action)), "{line}");
    true
}

fn rights(classes: KeyClasses) -> String {
    word(classes.to_string().as_bytes())
}

fn role(name: &str, grants: &[Grant], cluster: ClusterClasses) -> String {
    let mut line = format!("ROLE SET {}", word(name.as_bytes()));
    for Grant { prefix, classes } in grants {
        line += &format!(" ON {} {}", word(prefix), rights(*classes));
    }
    line + &format!(" CLUSTER {}", word(cluster.to_string().as_bytes()))
}
