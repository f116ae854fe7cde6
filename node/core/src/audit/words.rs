//! What is asked of a cluster or node, as the audit log says it: in the words of `kvorum-cli`, without anything secret.

use kvorum_protocol::{AdminCommand, AuthVerb, ClusterVerb, EncryptVerb, LogLevelAsk, SlowLogAsk, UserLimits};

/// What changes by a command, or is begun to be watched; `None` if nothing is. A new command does not compile until it is decided.
pub fn change(command: &AdminCommand) -> Option<String> {
    Some(match command {
        AdminCommand::TransferLeadership { shard, to } => format!("SHARD TRANSFER {shard} {to}"),
        AdminCommand::Shutdown => "NODE SHUTDOWN".to_owned(),
        AdminCommand::Ask(verb) => of_cluster(verb),
        AdminCommand::Auth(verb) => of_auth(verb),
        AdminCommand::SlowLog(SlowLogAsk::Forget) => "SLOWLOG RESET".to_owned(),
        AdminCommand::Monitor(_) => "MONITOR".to_owned(),
        AdminCommand::LogLevel(LogLevelAsk::Set { level, for_ms }) => format!("LOGLEVEL {level} FOR {for_ms}ms"),
        AdminCommand::LogLevel(LogLevelAsk::Reset) => "LOGLEVEL DEFAULT".to_owned(),
        AdminCommand::PanicShard(shard) => format!("fault hook: panic of shard {shard}"),
        AdminCommand::CutPeers(cut) => format!("fault hook: cut from peers {cut}"),
        AdminCommand::SkewClock(ms) => format!("fault hook: clock {ms} ms ahead"),
        AdminCommand::Plan(_)
        | AdminCommand::Authority
        | AdminCommand::ShowAuth
        | AdminCommand::WhoAmI
        | AdminCommand::CheckAccess { .. }
        | AdminCommand::LogLevel(LogLevelAsk::Show)
        | AdminCommand::SlowLog(SlowLogAsk::Newest(_) | SlowLogAsk::Length) => return None,
    })
}

fn of_cluster(verb: &ClusterVerb) -> String {
    match verb {
        ClusterVerb::Join(node) => format!("NODE JOIN {} {}", node.id, node.name),
        ClusterVerb::Remove { node, .. } => format!("NODE REMOVE {node}"),
        ClusterVerb::Keep(node) => format!("NODE KEEP {node}"),
        ClusterVerb::Drain { node, for_ms } => format!("NODE DRAIN {node} FOR {for_ms}ms"),
        ClusterVerb::Undrain(node) => format!("NODE UNDRAIN {node}"),
        ClusterVerb::Replace { old, new } => format!("NODE REPLACE {old} {new}"),
        ClusterVerb::Set { node, zone, weight } => format!("NODE SET {node} zone {zone:?} weight {weight:?}"),
        ClusterVerb::Pause(true) => "CLUSTER REBALANCE PAUSE".to_owned(),
        ClusterVerb::Pause(false) => "CLUSTER REBALANCE RESUME".to_owned(),
        ClusterVerb::Rate(rate) => format!("CLUSTER REBALANCE RATE {rate:?}"),
        ClusterVerb::AllowRepair => "REPAIR ALLOW".to_owned(),
        ClusterVerb::Encrypt(EncryptVerb::On) => "ENCRYPTION ON".to_owned(),
        ClusterVerb::Encrypt(EncryptVerb::Rotate) => "ENCRYPTION ROTATE".to_owned(),
        ClusterVerb::Encrypt(EncryptVerb::Rewrap) => "ENCRYPTION REWRAP".to_owned(),
        ClusterVerb::Finalize => "CLUSTER VERSION FINALIZE".to_owned(),
        ClusterVerb::Token(token) => format!("CLUSTER TOKEN {}", token.id),
        ClusterVerb::JoinByToken { token, node, .. } => format!("NODE JOIN {} by token {token}", node.id),
    }
}

fn of_auth(verb: &AuthVerb) -> String {
    match verb {
        AuthVerb::PutUser { name, exists, verifier, roles, disabled } => {
            let mut words = vec![if *exists == Some(false) { "USER ADD" } else { "USER SET" }.to_owned(), name.clone()];
            words.extend(verifier.as_ref().map(|_| "PASSWORD".to_owned()));
            words.extend(roles.as_ref().map(|roles| format!("ROLES {}", roles.join(","))));
            words.extend(disabled.map(|disabled| if disabled { "DISABLED" } else { "ENABLED" }.to_owned()));
            words.join(" ")
        }
        AuthVerb::RemoveUser(name) => format!("USER REMOVE {name}"),
        AuthVerb::PutRole { name, grants, cluster } => {
            let grants: Vec<String> = grants
                .iter()
                .map(|grant| format!("{} {}", String::from_utf8_lossy(&grant.prefix), grant.classes))
                .collect();
            format!("ROLE SET {name} ON {} CLUSTER {cluster}", grants.join("; "))
        }
        AuthVerb::RemoveRole(name) => format!("ROLE REMOVE {name}"),
        AuthVerb::AddToken { id, user, roles, .. } => {
            let roles = roles.as_ref().map_or(String::new(), |roles| format!(" ROLES {}", roles.join(",")));
            format!("USER TOKEN {user}{roles}: {id}")
        }
        AuthVerb::RemoveToken(id) => format!("USER REVOKE {id}"),
        AuthVerb::Limit { name, limits } => {
            let UserLimits { requests_per_s, bytes_per_s, connections } = limits;
            format!("USER LIMIT {name} REQUESTS {requests_per_s} BYTES {bytes_per_s} CONNECTIONS {connections}")
        }
        AuthVerb::Deny { serial, denied } => {
            let serial = kvorum_protocol::hexadecimal::encode(serial);
            format!("USER {} {serial}", if *denied { "DENY" } else { "ALLOW" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::UserTokenId;

    #[test]
    fn what_is_secret_stands_in_no_line() {
        let user = AuthVerb::PutUser {
            name: "ada".to_owned(),
            exists: Some(false),
            verifier: Some("SCRAM-SHA-256$100000:c2FsdA$c3RvcmVk:a2V5".to_owned()),
            roles: Some(vec!["app".to_owned(), "monitor".to_owned()]),
            disabled: None,
        };
        assert_eq!(of_auth(&user), "USER ADD ada PASSWORD ROLES app,monitor");
        let (id, digest) = (UserTokenId(0xa7), [0x5a; 32]);
        let token = AuthVerb::AddToken { id, user: "ada".to_owned(), roles: None, digest, expires_at_ms: None };
        assert_eq!(of_auth(&token), "USER TOKEN ada: 00000000000000a7");
    }
}
