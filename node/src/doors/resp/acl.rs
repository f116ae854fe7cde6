//! ACL: what users may do, in the words of Redis. The rights are Kvorum's own ([`kvorum_core::auth`]); they are changed by USER and ROLE of
//! `kvorum-cli`.

use super::connection::Connection;
use super::execute::plan;
use super::rights;
use kvorum_core::auth::{Access, AuthTable, authorise, may_cluster};
use kvorum_protocol::{ClusterClasses, Grant, KeyClasses};
use kvorum_resp::command::{AclCommand, CommandFilter};
use kvorum_resp::table::{self, Categories, CommandSpec, Flags};
use kvorum_resp::{Command, CommandError, ReplyWriter, Request};

/// The user of who has not said a name.
pub(super) const DEFAULT_USER: &str = "default";
/// Bytes of a name that an error repeats.
const TOLD_BYTES_MAX: usize = 128;

/// Why a command would be refused.
enum Refused {
    /// It makes no sense.
    Command(CommandError),
    /// The user has no right to it.
    Rights(String),
}

impl Connection<'_> {
    /// Answers ACL. Costs at most a look at each user and role.
    pub(super) fn answer_acl(&mut self, command: &AclCommand<'_>, reply: &mut ReplyWriter<'_>) {
        let gate = self.door.node.context.router.auth();
        let is_open = !gate.is_required();
        match *command {
            AclCommand::WhoAmI => match self.session.access().user() {
                "" => reply.bulk(DEFAULT_USER.as_bytes()),
                user => reply.bulk(user.as_bytes()),
            },
            AclCommand::Categories(None) => {
                let names: Vec<&str> = Categories::ALL.names().collect();
                reply.array(names.len());
                names.iter().for_each(|name| reply.bulk(name.as_bytes()));
            }
            AclCommand::Categories(Some(name)) if Categories::named(name).is_none() => {
                reply.error(format!("ERR Unknown category '{}'", told(name)).as_bytes());
            }
            AclCommand::Categories(Some(name)) => table::write_list(reply, CommandFilter::Category(name), 0),
            AclCommand::Users => {
                let table = gate.table();
                let names = default_user(is_open).into_iter().chain(table.users.keys().map(String::as_str));
                let names: Vec<&str> = names.collect();
                reply.array(names.len());
                names.iter().for_each(|name| reply.bulk(name.as_bytes()));
            }
            AclCommand::List => {
                let table = gate.table();
                let default = default_user(is_open).map(|name| (name, Described::of_everybody()));
                let others = table.users.keys().map(|name| (name.as_str(), Described::of_user(&table, name)));
                let lines: Vec<String> = default.into_iter().chain(others).map(|(name, of)| of.line(name)).collect();
                reply.array(lines.len());
                lines.iter().for_each(|line| reply.bulk(line.as_bytes()));
            }
            AclCommand::GetUser(name) => {
                let (table, name) = (gate.table(), String::from_utf8_lossy(name));
                match () {
                    () if is_open && name == DEFAULT_USER => Described::of_everybody().write(reply),
                    () if table.users.contains_key(&*name) => Described::of_user(&table, &name).write(reply),
                    () => reply.null(),
                }
            }
            AclCommand::DryRun { user, command } => {
                let (table, name) = (gate.table(), String::from_utf8_lossy(user));
                let access = match () {
                    () if is_open && name == DEFAULT_USER => Some(Access::everything(0)),
                    () if table.users.contains_key(&*name) => gate.access_of(&name),
                    () => return reply.error(format!("ERR User '{}' not found", told(user)).as_bytes()),
                };
                let request = Request::of(&command.collect::<Vec<&[u8]>>());
                match self.may_run(access.as_ref(), &name, &request) {
                    Ok(()) => reply.ok(),
                    Err(Refused::Command(error)) => reply.command_error(&error),
                    Err(Refused::Rights(text)) => reply.bulk(text.as_bytes()),
                }
            }
        }
    }

    /// Whether a user may give a command; nobody may without rights.
    fn may_run(&self, access: Option<&Access>, user: &str, request: &Request) -> Result<(), Refused> {
        let spec = table::resolve(request).map_err(Refused::Command)?;
        let command = Command::parse(spec, request).map_err(Refused::Command)?;
        let lacks = |what: &str| Refused::Rights(format!("User {user} has no permissions to {what}"));
        let run = || lacks(&format!("run the '{}' command", spec.full_name));
        if spec.flags.has(Flags::NO_AUTH) {
            return Ok(());
        }
        let access = access.ok_or_else(run)?;
        if rights::needed(spec).is_some_and(|classes| may_cluster(access, classes).is_err()) {
            return Err(run());
        }
        if !is_of_keys(spec, &command) {
            return Ok(());
        }
        let planned = self.with_circumstances(|place| plan(&command, spec, request, place));
        // What can't be planned is refused whoever asks, and says why then.
        let Ok(planned) = planned else { return Ok(()) };
        let first = planned.walk.as_ref().and_then(super::walk::Walk::begin);
        let asked = planned.asked.iter().chain(first.as_ref());
        for body in asked {
            if authorise(access, body).is_err() {
                return Err(lacks("access one of the keys used as arguments"));
            }
        }
        Ok(())
    }
}

/// Whether the session looks at what it asks for.
fn is_of_keys(spec: &CommandSpec, command: &Command<'_>) -> bool {
    let walks = matches!(command, Command::Scan(_) | Command::Keys(_) | Command::RandomKey | Command::Flush { .. });
    walks || !spec.key_specs.is_empty()
}

/// Where nobody has to log in, there is one user more.
fn default_user(is_open: bool) -> Option<&'static str> {
    is_open.then_some(DEFAULT_USER)
}

/// What an error repeats of what a client has said.
pub(super) fn told(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(TOLD_BYTES_MAX)]).into_owned()
}

/// What a user may do, in the words of Redis: as near as they come.
struct Described {
    is_on: bool,
    needs_no_password: bool,
    commands: String,
    keys: String,
}

impl Described {
    /// Of who need not log in.
    fn of_everybody() -> Self {
        Self { is_on: true, needs_no_password: true, commands: "+@all".to_owned(), keys: "~*".to_owned() }
    }

    fn of_user(table: &AuthTable, name: &str) -> Self {
        let user = table.users.get(name);
        let is_on = user.is_some_and(|user| !user.disabled);
        let roles = user.into_iter().flat_map(|user| user.roles.iter().filter_map(|role| table.role(role)));
        let (mut grants, mut cluster) = (Vec::new(), ClusterClasses::NONE);
        for role in roles {
            grants.extend(role.known_grants());
            cluster = cluster.with(role.known_cluster());
        }
        let all = grants.iter().fold(KeyClasses::NONE, |all, grant| all.with(grant.classes));
        Self { is_on, needs_no_password: false, commands: commands_of(all, cluster), keys: keys_of(&grants) }
    }

    /// A line of ACL LIST.
    fn line(&self, name: &str) -> String {
        let password = if self.needs_no_password { " nopass" } else { "" };
        let keys = if self.keys.is_empty() { String::new() } else { format!(" {}", self.keys) };
        format!("user {name} {}{password}{keys} resetchannels {}", on_off(self.is_on), self.commands)
    }

    /// ACL GETUSER. Verifiers are nobody's business.
    fn write(&self, reply: &mut ReplyWriter<'_>) {
        reply.map(6);
        reply.bulk(b"flags");
        reply.array(1 + usize::from(self.needs_no_password));
        reply.bulk(on_off(self.is_on).as_bytes());
        if self.needs_no_password {
            reply.bulk(b"nopass");
        }
        reply.bulk(b"passwords");
        reply.array(0);
        for (name, text) in [("commands", self.commands.as_str()), ("keys", &self.keys), ("channels", "")] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
        reply.bulk(b"selectors");
        reply.array(0);
    }
}

fn on_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Categories of commands for what may be done with keys and with the cluster.
fn commands_of(keys: KeyClasses, cluster: ClusterClasses) -> String {
    if keys == KeyClasses::ALL && cluster == ClusterClasses::ALL {
        return "+@all".to_owned();
    }
    let mut text = String::from("-@all +@connection +@transaction");
    let reads = keys.0 & (KeyClasses::READ.0 | KeyClasses::SCAN.0 | KeyClasses::WATCH.0) != 0;
    let writes = keys.0 & (KeyClasses::WRITE.0 | KeyClasses::DELETE.0) != 0;
    let admin = cluster.contains(ClusterClasses::ADMIN);
    for (may, category) in [(reads, "+@read"), (writes, "+@write"), (admin, "+@admin")] {
        if may {
            text.push(' ');
            text.push_str(category);
        }
    }
    text
}

/// Patterns of keys.
fn keys_of(grants: &[Grant]) -> String {
    let pattern = |grant: &Grant| {
        let reads = grant.classes.contains(KeyClasses::READ);
        let writes = grant.classes.contains(KeyClasses::WRITE);
        let kind = match (reads, writes) {
            (true, true) => "~",
            (true, false) => "%R~",
            (false, true) => "%W~",
            (false, false) => return None,
        };
        Some(format!("{kind}{}*", escaped(&grant.prefix)))
    };
    grants.iter().filter_map(pattern).collect::<Vec<_>>().join(" ")
}

/// As a pattern that matches this text only.
fn escaped(prefix: &[u8]) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(prefix).chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_core::auth::UserRole;

    fn grant(prefix: &'static str, classes: KeyClasses) -> Grant {
        Grant { prefix: prefix.into(), classes }
    }

    #[test]
    fn rights_are_told_in_the_words_of_redis() {
        let mut table = AuthTable::initial(None);
        let both = KeyClasses::READ.with(KeyClasses::WRITE);
        let own = [grant("app/[1]*", both), grant("log/", KeyClasses::READ.with(KeyClasses::SCAN))];
        table.roles.insert("app".to_owned(), UserRole::of(&own, ClusterClasses::STATUS));
        let mut user = table.users["admin"].clone();
        user.roles = ["app".to_owned()].into();
        user.disabled = true;
        table.users.insert("ada".to_owned(), user);
        let line = Described::of_user(&table, "ada").line("ada");
        assert_eq!(
            line,
            r"user ada off ~app/\[1\]\** %R~log/* resetchannels -@all +@connection +@transaction +@read +@write"
        );
        assert_eq!(Described::of_user(&table, "admin").line("admin"), "user admin on ~* resetchannels +@all");
        assert_eq!(Described::of_everybody().line("default"), "user default on nopass ~* resetchannels +@all");
    }
}
