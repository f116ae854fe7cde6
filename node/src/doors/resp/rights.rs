//! Who a client is, and which commands it may give that are no requests to the cluster. Those that are, are looked at by the session.

use super::acl::DEFAULT_USER;
use super::connection::Connection;
use super::introspect::{self, WRONG_PASSWORD};
use crate::auth::login::{LoginFailure, TOKEN_PREFIX};
use kvorum_core::auth::Principal;
use kvorum_protocol::{ClusterClasses, ErrorCode, ServerError};
use kvorum_resp::command::{Credentials, Hello};
use kvorum_resp::table::{CommandSpec, Flags};
use kvorum_resp::{Command, Output, ReplyWriter, Request};

const NOAUTH: &[u8] = b"NOAUTH Authentication required.";
const NOAUTH_HELLO: &[u8] = b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
    AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
const NO_PASSWORD: &[u8] =
    b"ERR AUTH <password> called without any password configured for the default user. Are you sure your \
    configuration is correct?";

impl Connection<'_> {
    /// Why a command is not even looked at; `None` if it may be.
    pub(super) fn forbidden(&mut self, spec: &CommandSpec) -> Option<Vec<u8>> {
        if self.session.is_nobody() && !spec.flags.has(Flags::NO_AUTH) {
            return Some(NOAUTH.to_vec());
        }
        self.session.may_cluster(needed(spec)?).err().map(|error| refusal(&error))
    }

    /// Writes down a command that changes something of the node, before it does. Why it must not; `None` if it may.
    pub(super) fn not_noted(&mut self, spec: &CommandSpec) -> Option<Vec<u8>> {
        if !changes(spec) {
            return None;
        }
        let noted = self.session.note_change(&spec.full_name.replace('|', " ").to_uppercase());
        noted.err().map(|error| refusal(&error))
    }

    /// Whether the client may still be told what others ask.
    pub(super) fn may_monitor(&mut self) -> bool {
        self.session.may_cluster(ClusterClasses::ADMIN).is_ok()
    }

    /// AUTH, or HELLO: the client says who it is. What it has asked before is answered as if it had not.
    pub(super) async fn log_in(&mut self, request: &Request) {
        let spec = kvorum_resp::table::resolve(request);
        let parsed = spec.and_then(|spec| Command::parse(spec, request));
        let (credentials, hello) = match &parsed {
            Ok(Command::Auth(credentials)) => (Some(credentials), None),
            Ok(Command::Hello(hello)) => (hello.credentials.as_ref(), Some(hello)),
            Ok(_) => return,
            Err(error) => return self.refuse(error),
        };
        let refused = match credentials {
            Some(credentials) => self.check(credentials).await.err(),
            None => None,
        };
        let refused = refused.or_else(|| {
            let is_hello_of_nobody = hello.is_some() && self.session.is_nobody();
            is_hello_of_nobody.then(|| NOAUTH_HELLO.to_vec())
        });
        let is_silent = !self.manners.wants_reply();
        let mut output = Output::new();
        match (refused, hello) {
            (Some(error), _) => ReplyWriter::new(&mut output, self.manners.version).error(&error),
            (None, Some(hello)) => self.greet(hello, &mut output),
            (None, None) => ReplyWriter::new(&mut output, self.manners.version).ok(),
        }
        let failed = output_failed(&output);
        self.push(is_silent, output);
        if let Ok(spec) = kvorum_resp::table::resolve(request) {
            self.manners.last_command = spec.full_name;
            self.note_quick(spec, request, failed);
        }
    }

    fn greet(&mut self, hello: &Hello<'_>, output: &mut Output) {
        introspect::answer_hello(self.door, self.manners, hello, output);
    }

    /// Looks at what a client says that it is.
    ///
    /// # Errors
    /// What it is told.
    async fn check(&mut self, credentials: &Credentials<'_>) -> Result<(), Vec<u8>> {
        let gate = self.door.node.context.router.auth();
        let is_default = credentials.user.is_none_or(|user| user == DEFAULT_USER.as_bytes());
        if is_default && !gate.is_required() && !gate.table().users.contains_key(DEFAULT_USER) {
            // Who needs no password may say any; a client that says one alone has been told to.
            return if credentials.user.is_some() { Ok(()) } else { Err(NO_PASSWORD.to_vec()) };
        }
        let wrong = || WRONG_PASSWORD.to_vec();
        let user = std::str::from_utf8(credentials.user.unwrap_or(DEFAULT_USER.as_bytes())).map_err(|_| wrong())?;
        let (logins, password) = (&self.door.node.logins, credentials.password.0);
        let found = if password.starts_with(TOKEN_PREFIX.as_bytes()) {
            logins.by_token(password)
        } else {
            logins.by_password(self.manners.client.from.ip(), user, password).await
        };
        let principal = found.map_err(|failure| {
            self.session.note_refused(user, &failure.to_string());
            text_of(failure)
        })?;
        let placed = self.manners.client.take_place(|held| logins.place(&principal, held));
        if let Err(failure) = placed {
            self.session.note_refused(user, &failure.to_string());
            self.session.log_out();
            self.note_who();
            return Err(text_of(failure));
        }
        self.session.log_in(principal.clone()).map_err(|_| wrong())?;
        let access = self.session.access();
        if matches!(principal, Principal::Token(_)) && !is_default && access.user() != user {
            self.session.log_out();
            self.note_who();
            return Err(wrong());
        }
        self.note_who();
        Ok(())
    }

    /// The client is who it was when its connection was new.
    pub(super) fn log_in_anew(&mut self) {
        self.session.log_out();
        if let Some(principal) = self.manners.client.shown() {
            let logins = &self.door.node.logins;
            // Whose certificate is not taken any more is nobody, and its connection is about to be ended.
            if self.manners.client.take_place(|held| logins.place(&principal, held)).is_ok() {
                let _ = self.session.log_in_again(principal);
            }
        }
        self.note_who();
    }

    /// Notes for others, and for the parser, who the client is.
    pub(super) fn note_who(&mut self) {
        let access = self.session.access();
        self.parser.set_authenticated(!access.is_nobody());
        let (principal, user) = (self.session.principal().clone(), access.user().to_owned());
        if principal == Principal::Nobody {
            self.manners.client.leave_place();
        }
        self.manners.client.about(|about| {
            about.has_logged_in |= principal != Principal::Nobody;
            (about.principal, about.user) = (principal, user);
        });
    }
}

fn refusal(error: &ServerError) -> Vec<u8> {
    match error.code {
        ErrorCode::Unauthenticated => NOAUTH.to_vec(),
        ErrorCode::PermissionDenied => format!("NOPERM {}", error.detail).into_bytes(),
        _ => format!("ERR {}", error.detail).into_bytes(),
    }
}

fn output_failed(output: &Output) -> bool {
    use bytes::Buf as _;
    output.chunk().first() == Some(&b'-')
}

fn text_of(failure: LoginFailure) -> Vec<u8> {
    match failure.error().code {
        ErrorCode::Unauthenticated => WRONG_PASSWORD.to_vec(),
        ErrorCode::Overloaded | ErrorCode::Unavailable => format!("TRYAGAIN {failure}").into_bytes(),
        _ => format!("ERR {failure}").into_bytes(),
    }
}

/// Whether a request says who the client is.
pub(super) fn is_login(spec: &CommandSpec) -> bool {
    matches!(spec.full_name, "auth" | "hello")
}

/// Whether a command changes something of the node, or shows what others do.
fn changes(spec: &CommandSpec) -> bool {
    // Commands of keys, which are nearly all, are not compared with each of these.
    spec.key_specs.is_empty()
        && matches!(
            spec.full_name,
            "config|set"
                | "config|resetstat"
                | "config|rewrite"
                | "client|kill"
                | "monitor"
                | "shutdown"
                | "slowlog|reset"
        )
}

/// What a command does with the node or the cluster that it is no request for.
pub(super) fn needed(spec: &CommandSpec) -> Option<ClusterClasses> {
    if !spec.key_specs.is_empty() {
        // The session looks at its keys.
        return None;
    }
    match spec.full_name {
        "info" | "dbsize" | "wait" => Some(ClusterClasses::STATUS),
        "acl|dryrun" | "acl|getuser" | "acl|list" | "acl|users" => Some(ClusterClasses::USERS),
        // A topic of the topology, which every client may ask for.
        "cluster|replicas" | "module|list" => None,
        _ if spec.flags.has(Flags::ADMIN) => Some(ClusterClasses::ADMIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_resp::table;

    /// Every command, and what it needs besides what the session looks at: a new one has to be decided here.
    #[test]
    fn every_command_is_decided() {
        let all = table::commands().iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
        let line = |spec: &CommandSpec| {
            let needed = match needed(spec) {
                _ if spec.flags.has(Flags::NO_AUTH) => "nothing".to_owned(),
                Some(classes) => classes.to_string(),
                None if spec.key_specs.is_empty() => "a login".to_owned(),
                None => "the session: keys".to_owned(),
            };
            format!("{}: {needed}\n", spec.full_name)
        };
        let mut lines: Vec<String> = all.filter(|spec| spec.subcommands.is_empty()).map(line).collect();
        lines.sort();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doors/resp/rights_need_what.txt");
        let text = lines.concat();
        if std::env::var_os("KVORUM_BLESS").is_some() {
            std::fs::write(&path, &text).expect("the file can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "decide on it in `needed`, look at the list, and bless it with KVORUM_BLESS=1");
    }
}
