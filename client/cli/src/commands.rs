//! The table of all commands: the one source of what is parsed, completed, hinted and explained. Pure.

use crate::nodes::HOST_COMMANDS;
use crate::words::Word;
use std::fmt::Write as _;

/// One command.
#[derive(Debug)]
pub(crate) struct CommandSpec {
    pub(crate) verb: Verb,
    /// In capitals, as help shows it.
    pub(crate) name: &'static str,
    /// Other spellings.
    pub(crate) aliases: &'static [&'static str],
    /// The arguments before the options; `[…]` may be left out, `…` may be repeated.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) options: &'static [OptionSpec],
    pub(crate) group: Group,
    /// One sentence.
    pub(crate) help: &'static str,
    pub(crate) example: &'static str,
}

/// A word that a command takes after its arguments.
#[derive(Debug)]
pub(crate) struct OptionSpec {
    /// In capitals.
    pub(crate) name: &'static str,
    /// What follows it; empty if nothing does.
    pub(crate) argument: &'static str,
    pub(crate) help: &'static str,
    /// Known from Redis; understood, but not offered.
    pub(crate) is_alias: bool,
}

/// What a command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    Get,
    Put,
    Delete,
    Increment,
    Decrement,
    Append,
    SetRange,
    Expire,
    Persist,
    Ttl,
    Exists,
    MultiGet,
    MultiPut,
    CompareAndSet,
    Scan,
    Await,
    Explain,
    Ping,
    Cluster,
    Status,
    SlowLog,
    Monitor,
    LogLevel,
    Transfer,
    Node,
    Repair,
    Encryption,
    User,
    Role,
    Acl,
    AddNode,
    Scale,
    Shutdown,
    Help,
    Clear,
    Quit,
}

/// Where help lists a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    Values,
    ManyKeys,
    Cluster,
    Shell,
}

pub(crate) const GROUPS: [(Group, &str); 4] =
    [(Group::Values, "Values"), (Group::ManyKeys, "Many keys"), (Group::Cluster, "Cluster"), (Group::Shell, "Shell")];

const fn option(name: &'static str, argument: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, argument, help, is_alias: false }
}

const fn redis(name: &'static str, argument: &'static str) -> OptionSpec {
    OptionSpec { name, argument, help: "", is_alias: true }
}

const PUT_OPTIONS: &[OptionSpec] = &[
    option("TTL", "duration", "forget it after 10s, 500ms, 2h, ..."),
    option("KEEPTTL", "", "keep the time to live that the key has"),
    option("IFABSENT", "", "only if there is no such key"),
    option("IFPRESENT", "", "only if there is such a key"),
    option("IFVERSION", "version", "only if the key has this version"),
    option("IFABSENTOR", "version", "only if there is no such key, or it has this version"),
    option("IFEQUALS", "value", "only if the key has this very value"),
    option("RETURN", "", "show the value that was there before"),
    option("EXISTED", "", "say whether the key was there before"),
    redis("EX", "seconds"),
    redis("PX", "milliseconds"),
    redis("NX", ""),
    redis("XX", ""),
    redis("GET", ""),
    redis("IFEQ", "value"),
];

const DELETE_OPTIONS: &[OptionSpec] = &[
    option("IFVERSION", "version", "only if the key has this version"),
    option("IFEQUALS", "value", "only if the key has this very value"),
    redis("IFEQ", "value"),
];

/// The views of CLUSTER.
pub(crate) const CLUSTER_VIEWS: [(&str, &str); 9] = [
    ("STATUS", "how the cluster is, what it does and what to do; the default"),
    ("NODES", "every node"),
    ("SHARDS", "every shard, its leader and replicas"),
    ("HOTKEYS", "the keys that are asked for most"),
    ("CHECK", "what is wrong, if anything"),
    ("PLAN", "what moves, and what is to move"),
    (
        "REBALANCE",
        "PAUSE: no replica begins to move, repair aside; RESUME; RATE n: MiB per second a node sends, or DEFAULT",
    ),
    ("TOKEN", "makes a token, by which one machine may `kvorum join`; NAME n, ZONE z, FOR 10m say which, and how long"),
    ("VERSION", "the cluster's level and each node's program; FINALIZE goes to the level that all speak, for good"),
];

/// What NODE does.
const NODE_VERBS: [(&str, &str); 6] = [
    ("DRAIN node", "it will be away for a while: it leads nothing, and keeps what it holds"),
    ("UNDRAIN node", "it is as any other again"),
    ("REMOVE node", "it gives what it holds to others, and leaves for good; it may be dead"),
    ("KEEP node", "it is not removed after all"),
    ("REPLACE old new", "old gives what it holds to new, and leaves for good"),
    ("SET node", "changes its zone or weight"),
];

/// What ENCRYPTION does.
const ENCRYPTION_VERBS: [(&str, &str); 4] = [
    ("STATUS", "whether what is stored is sealed, and which keys are in use; the default"),
    ("ON", "what is stored from now on is sealed; there is no way back"),
    ("ROTATE", "another data key seals from now on"),
    ("REWRAP", "the data keys are wrapped with the new encryption.key"),
];

/// What USER does.
const USER_VERBS: [(&str, &str); 10] = [
    ("LIST", "every user, its roles and tokens; the default"),
    ("ADD user", "asks for a password, which never stands on the command line"),
    ("PASSWD user", "gives it another password; its connections by the old one end"),
    ("ROLES user a,b", "gives it these roles and no others"),
    ("DISABLE user", "it may not log in, and its connections end; ENABLE ends that"),
    ("LIMIT user", "it may ask so much of each node per second, and no more"),
    ("REMOVE user", "with all its tokens"),
    ("TOKEN user", "makes a token for a program, and shows it this once"),
    ("REVOKE number", "a token is good no more"),
    ("DENY serial", "a certificate is not taken any more, at any door; ALLOW ends that"),
];

/// Every command, in the order of help.
pub(crate) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        verb: Verb::Get,
        name: "GET",
        aliases: &[],
        arguments: &["key"],
        options: &[],
        group: Group::Values,
        help: "Show the value of a key.",
        example: "GET greeting",
    },
    CommandSpec {
        verb: Verb::Put,
        name: "PUT",
        aliases: &["SET"],
        arguments: &["key", "value"],
        options: PUT_OPTIONS,
        group: Group::Values,
        help: "Store a value under a key.",
        example: "PUT greeting \"hello world\" TTL 10m",
    },
    CommandSpec {
        verb: Verb::Delete,
        name: "DEL",
        aliases: &["DELETE"],
        arguments: &["key"],
        options: DELETE_OPTIONS,
        group: Group::Values,
        help: "Remove a key.",
        example: "DEL greeting",
    },
    CommandSpec {
        verb: Verb::CompareAndSet,
        name: "CAS",
        aliases: &[],
        arguments: &["key", "version", "value"],
        options: &[],
        group: Group::Values,
        help: "Store a value if the key still has this version.",
        example: "CAS greeting 17 bye",
    },
    CommandSpec {
        verb: Verb::Increment,
        name: "INCR",
        aliases: &["INCRBY"],
        arguments: &["key", "[step]"],
        options: &[],
        group: Group::Values,
        help: "Add to a number, 1 unless said otherwise.",
        example: "INCR visits 5",
    },
    CommandSpec {
        verb: Verb::Decrement,
        name: "DECR",
        aliases: &["DECRBY"],
        arguments: &["key", "[step]"],
        options: &[],
        group: Group::Values,
        help: "Subtract from a number, 1 unless said otherwise.",
        example: "DECR stock",
    },
    CommandSpec {
        verb: Verb::Append,
        name: "APPEND",
        aliases: &[],
        arguments: &["key", "value"],
        options: &[],
        group: Group::Values,
        help: "Append to a value.",
        example: "APPEND log \"one more line\\n\"",
    },
    CommandSpec {
        verb: Verb::SetRange,
        name: "SETRANGE",
        aliases: &[],
        arguments: &["key", "at", "value"],
        options: &[],
        group: Group::Values,
        help: "Overwrite a value from a byte on, counted from 0.",
        example: "SETRANGE greeting 6 there",
    },
    CommandSpec {
        verb: Verb::Expire,
        name: "EXPIRE",
        aliases: &[],
        arguments: &["key", "duration"],
        options: &[],
        group: Group::Values,
        help: "Forget a key after a while: 10s, 500ms, 2h, ...",
        example: "EXPIRE session 30m",
    },
    CommandSpec {
        verb: Verb::Persist,
        name: "PERSIST",
        aliases: &[],
        arguments: &["key"],
        options: &[],
        group: Group::Values,
        help: "Keep a key that would expire.",
        example: "PERSIST session",
    },
    CommandSpec {
        verb: Verb::Ttl,
        name: "TTL",
        aliases: &[],
        arguments: &["key"],
        options: &[],
        group: Group::Values,
        help: "Show when a key expires.",
        example: "TTL session",
    },
    CommandSpec {
        verb: Verb::Await,
        name: "AWAIT",
        aliases: &[],
        arguments: &["write", "[time]"],
        options: &[],
        group: Group::Values,
        help: "Wait until an accepted write is applied.",
        example: "AWAIT 3.7.1204 10s",
    },
    CommandSpec {
        verb: Verb::Exists,
        name: "EXISTS",
        aliases: &[],
        arguments: &["key", "..."],
        options: &[],
        group: Group::ManyKeys,
        help: "Count how many of these keys exist.",
        example: "EXISTS a b c",
    },
    CommandSpec {
        verb: Verb::MultiGet,
        name: "MGET",
        aliases: &[],
        arguments: &["key", "..."],
        options: &[],
        group: Group::ManyKeys,
        help: "Show the values of many keys.",
        example: "MGET a b c",
    },
    CommandSpec {
        verb: Verb::MultiPut,
        name: "MPUT",
        aliases: &["MSET"],
        arguments: &["key", "value", "..."],
        options: &[],
        group: Group::ManyKeys,
        help: "Store many values; each by itself, not all or nothing.",
        example: "MPUT a 1 b 2",
    },
    CommandSpec {
        verb: Verb::Scan,
        name: "SCAN",
        aliases: &[],
        arguments: &["[prefix]"],
        options: &[option("LIMIT", "count", "show at most so many keys"), option("VALUES", "", "show the values too")],
        group: Group::ManyKeys,
        help: "List the keys that begin with a prefix.",
        example: "SCAN user: LIMIT 20 VALUES",
    },
    CommandSpec {
        verb: Verb::Explain,
        name: "EXPLAIN",
        aliases: &[],
        arguments: &["key"],
        options: &[],
        group: Group::Cluster,
        help: "Show where a key lives and how it is stored.",
        example: "EXPLAIN greeting",
    },
    CommandSpec {
        verb: Verb::Cluster,
        name: "CLUSTER",
        aliases: &[],
        arguments: &["[view]"],
        options: &[],
        group: Group::Cluster,
        help: "Show how the cluster is; HELP CLUSTER has more views.",
        example: "CLUSTER PLAN",
    },
    CommandSpec {
        verb: Verb::Status,
        name: "STATUS",
        aliases: &["INFO"],
        arguments: &["[node]"],
        options: &[],
        group: Group::Cluster,
        help: "Show how a node is doing, by default the connected one.",
        example: "STATUS node-2",
    },
    CommandSpec {
        verb: Verb::SlowLog,
        name: "SLOWLOG",
        aliases: &[],
        arguments: &["[what]"],
        options: &[],
        group: Group::Cluster,
        help: "List slow operations; LEN counts, RESET forgets them.",
        example: "SLOWLOG 20",
    },
    CommandSpec {
        verb: Verb::Monitor,
        name: "MONITOR",
        aliases: &[],
        arguments: &["[node]"],
        options: &[],
        group: Group::Cluster,
        help: "Watch requests as they come in; of too many, a share.",
        example: "MONITOR node-2",
    },
    CommandSpec {
        verb: Verb::LogLevel,
        name: "LOGLEVEL",
        aliases: &[],
        arguments: &["[what]"],
        options: &[
            option("NODE", "node", "of this node; else of all of them"),
            option("FOR", "duration", "for so long; 10m by default, 24h at most"),
        ],
        group: Group::Cluster,
        help: "Show how much nodes log, or change it for a while.",
        example: "LOGLEVEL debug NODE node-2 FOR 5m",
    },
    CommandSpec {
        verb: Verb::Ping,
        name: "PING",
        aliases: &[],
        arguments: &["[node]"],
        options: &[],
        group: Group::Cluster,
        help: "Measure a round trip.",
        example: "PING",
    },
    CommandSpec {
        verb: Verb::Transfer,
        name: "TRANSFER",
        aliases: &[],
        arguments: &["shard", "node"],
        options: &[],
        group: Group::Cluster,
        help: "Hand the leadership of a shard to another node.",
        example: "TRANSFER 3 node-2",
    },
    CommandSpec {
        verb: Verb::Node,
        name: "NODE",
        aliases: &[],
        arguments: &["what", "node"],
        options: &[
            option("WAIT", "", "REMOVE and REPLACE return once the node holds nothing and is gone"),
            option("DRYRUN", "", "REMOVE and REPLACE only say what would move"),
            option("ACCEPTFEWERZONES", "", "REMOVE even if replicas stand in fewer zones then"),
            option("FOR", "duration", "how long it is to be drained; 10m by default"),
            option("ZONE", "zone", "SET its failure zone"),
            option("WEIGHT", "number", "SET how much it takes, relative to the others"),
        ],
        group: Group::Cluster,
        help: "DRAIN, REMOVE, REPLACE or SET a node.",
        example: "NODE REMOVE node-4 WAIT",
    },
    CommandSpec {
        verb: Verb::Repair,
        name: "REPAIR",
        aliases: &[],
        arguments: &["ALLOW"],
        options: &[],
        group: Group::Cluster,
        help: "Make anew at once what nodes that are down hold.",
        example: "REPAIR ALLOW",
    },
    CommandSpec {
        verb: Verb::Encryption,
        name: "ENCRYPTION",
        aliases: &[],
        arguments: &["[what]"],
        options: &[],
        group: Group::Cluster,
        help: "Seal what the cluster stores on its disks.",
        example: "ENCRYPTION STATUS",
    },
    CommandSpec {
        verb: Verb::User,
        name: "USER",
        aliases: &[],
        arguments: &["[what]"],
        options: &[
            option("ROLES", "a,b", "ADD and TOKEN: with these roles"),
            option("PASSWORDFILE", "file", "ADD and PASSWD: the new password stands in a file; else it is asked for"),
            option("NOPASSWORD", "", "ADD and PASSWD: it logs in by token only"),
            option("REQUESTS", "n", "LIMIT: so many per second"),
            option("MB", "n", "LIMIT: so many MiB of requests and answers per second"),
            option("CONNECTIONS", "n", "LIMIT: so many to each node at a time"),
            option("OFF", "", "LIMIT: as much as it likes"),
            option("FOR", "duration", "TOKEN: how long it is good; for ever by default"),
        ],
        group: Group::Cluster,
        help: "Keep users and their tokens.",
        example: "USER ADD ada ROLES app",
    },
    CommandSpec {
        verb: Verb::Role,
        name: "ROLE",
        aliases: &[],
        arguments: &["[what]"],
        options: &[
            option(
                "ON",
                "prefix rights",
                "SET: what may be done with keys that begin so: read,write,delete,scan,watch or all",
            ),
            option("ALLKEYS", "rights", "SET: what may be done with all keys"),
            option("CLUSTER", "rights", "SET: status,metrics,admin,users,backup,faults"),
        ],
        group: Group::Cluster,
        help: "Keep roles: what users may do.",
        example: "ROLE SET app ON app/ read,write,scan",
    },
    CommandSpec {
        verb: Verb::Acl,
        name: "ACL",
        aliases: &[],
        arguments: &["[what]"],
        options: &[],
        group: Group::Cluster,
        help: "See who you are, and CHECK who may do what.",
        example: "ACL CHECK ada write app/1",
    },
    CommandSpec {
        verb: Verb::Shutdown,
        name: "SHUTDOWN",
        aliases: &[],
        arguments: &["node"],
        options: &[],
        group: Group::Cluster,
        help: "Stop a node gracefully. Asks first; --yes answers.",
        example: "SHUTDOWN node-2",
    },
    CommandSpec {
        verb: Verb::Help,
        name: "HELP",
        aliases: &["?"],
        arguments: &["[command]"],
        options: &[],
        group: Group::Shell,
        help: "Explain all commands, or one.",
        example: "HELP PUT",
    },
    CommandSpec {
        verb: Verb::Clear,
        name: "CLEAR",
        aliases: &[],
        arguments: &[],
        options: &[],
        group: Group::Shell,
        help: "Clear the screen.",
        example: "CLEAR",
    },
    CommandSpec {
        verb: Verb::Quit,
        name: "QUIT",
        aliases: &["EXIT"],
        arguments: &[],
        options: &[],
        group: Group::Shell,
        help: "Leave; so does ctrl-d.",
        example: "QUIT",
    },
];

/// The command of this name, however it is capitalised.
pub(crate) fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().chain(HOST_COMMANDS).find(|command| command.is_called(name))
}

/// Commands of Redis that there are not here, and what does the same.
const KNOWN_ELSEWHERE: [(&str, &str); 17] = [
    ("KEYS", "SCAN lists the keys that begin with a prefix"),
    ("SETEX", "PUT key value TTL 10s does that"),
    ("PSETEX", "PUT key value TTL 500ms does that"),
    ("SETNX", "PUT key value IFABSENT does that"),
    ("MSETNX", "no command writes keys of several shards together"),
    ("MULTI", "no command writes keys of several shards together"),
    ("GETSET", "PUT key value RETURN does that"),
    ("GETDEL", "GET and DEL key IFVERSION version do that"),
    ("UNLINK", "DEL does that, one key at a time"),
    ("PTTL", "TTL does that; its raw output is in milliseconds"),
    ("PEXPIRE", "EXPIRE key 500ms does that"),
    ("STRLEN", "EXPLAIN shows how long a value is"),
    ("DBSIZE", "CLUSTER shows how many keys there are"),
    ("FLUSHALL", "nothing removes all keys at once"),
    ("FLUSHDB", "nothing removes all keys at once"),
    ("SELECT", "a cluster has one keyspace"),
    ("AUTH", "kvorum-cli --user NAME asks for a password, and reads KVORUM_PASSWORD"),
];

/// What does here what a command of Redis does there.
pub(crate) fn known_elsewhere(name: &str) -> Option<&'static str> {
    KNOWN_ELSEWHERE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, hint)| *hint)
}

/// The command whose name is nearest to a misspelt one, if any is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let names = COMMANDS.iter().flat_map(|command| [command.name].into_iter().chain(command.aliases.iter().copied()));
    let (distance, nearest) = names.map(|known| (edit_distance(&name, known), known)).min()?;
    (distance <= 2 && distance < nearest.len()).then_some(nearest)
}

/// Levenshtein's distance between two short names.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

impl CommandSpec {
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// The option that a word names, however it is capitalised. A quoted word names none.
    pub(crate) fn option(&self, word: &Word) -> Option<&'static OptionSpec> {
        let is_meant = |option: &&OptionSpec| option.name.as_bytes().eq_ignore_ascii_case(&word.bytes);
        self.options.iter().filter(|_| !word.is_quoted).find(is_meant)
    }

    /// How many arguments must be there.
    pub(crate) fn arguments_min(&self) -> usize {
        self.arguments.iter().filter(|argument| !argument.starts_with('[') && **argument != "...").count()
    }

    /// The options that are offered.
    pub(crate) fn offered_options(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.options.iter().filter(|option| !option.is_alias)
    }

    /// The pieces of the usage line behind the name: arguments, then options in brackets.
    pub(crate) fn usage_parts(&self) -> Vec<String> {
        let arguments = self.arguments.iter().map(|argument| (*argument).to_owned());
        arguments.chain(self.offered_options().map(|option| format!("[{}]", option.usage()))).collect()
    }

    /// How it is typed.
    pub(crate) fn usage(&self) -> String {
        [vec![self.name.to_owned()], self.usage_parts()].concat().join(" ")
    }

    /// Everything there is to say about it.
    pub(crate) fn full_help(&self) -> String {
        let mut out = format!("{}\n  {}\n", self.usage(), self.help);
        let rows: Vec<(String, &str)> = match self.verb {
            Verb::Cluster => CLUSTER_VIEWS.iter().map(|(name, help)| ((*name).to_owned(), *help)).collect(),
            Verb::CompareAndSet => vec![("version 0".to_owned(), "only if there is no such key")],
            Verb::Ttl => vec![("raw output".to_owned(), "milliseconds, never, or nothing if there is no such key")],
            Verb::Await => vec![
                ("write".to_owned(), "what a write with --ack accepted has shown"),
                ("time".to_owned(), "how long to wait; 5s by default"),
                ("raw output".to_owned(), "applied, lost or forgotten"),
            ],
            Verb::Ping => vec![("raw output".to_owned(), "microseconds")],
            Verb::MultiGet => vec![("raw output".to_owned(), "a line per key, empty for one that there is not")],
            Verb::Node => {
                let options = self.offered_options().map(|option| (option.usage(), option.help));
                NODE_VERBS.iter().map(|(name, help)| ((*name).to_owned(), *help)).chain(options).collect()
            }
            Verb::User => {
                let options = self.offered_options().map(|option| (option.usage(), option.help));
                USER_VERBS.iter().map(|(name, help)| ((*name).to_owned(), *help)).chain(options).collect()
            }
            Verb::Encryption => ENCRYPTION_VERBS.iter().map(|(name, help)| ((*name).to_owned(), *help)).collect(),
            _ => self.offered_options().map(|option| (option.usage(), option.help)).collect(),
        };
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, help) in rows {
            writeln!(out, "  {name:width$}  {help}").expect("writing to a string can't fail");
        }
        if self.verb == Verb::Scan {
            out.push_str("  A * in the prefix means itself. In quotes it is never an option: SCAN \"LIMIT\"\n");
        }
        if !self.aliases.is_empty() {
            writeln!(out, "  Also: {}", self.aliases.join(", ")).expect("writing to a string can't fail");
        }
        writeln!(out, "  Example: {}", self.example).expect("writing to a string can't fail");
        out
    }
}

impl OptionSpec {
    fn usage(&self) -> String {
        if self.argument.is_empty() { self.name.to_owned() } else { format!("{} {}", self.name, self.argument) }
    }
}

/// The list of all commands, with those that need a host if there is one.
pub(crate) fn overview(has_host: bool) -> String {
    let commands = || COMMANDS.iter().chain(HOST_COMMANDS.iter().filter(|_| has_host));
    let usage = |command: &CommandSpec| match command.options.is_empty() {
        // The names of all views would leave no room for the help of the others.
        true if command.verb == Verb::Cluster => format!("{} [view]", command.name),
        true => command.usage(),
        false => [&[command.name], command.arguments, &["[...]"]].concat().join(" "),
    };
    let width = commands().map(|command| usage(command).len()).max().unwrap_or_default();
    let mut out = String::new();
    for (group, title) in GROUPS {
        writeln!(out, "{title}").expect("writing to a string can't fail");
        for command in commands().filter(|command| command.group == group) {
            writeln!(out, "  {:width$}  {}", usage(command), command.help).expect("writing to a string can't fail");
        }
    }
    out.push_str("HELP command says more about one of them.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_examples_parse() {
        let mut names: Vec<_> = COMMANDS
            .iter()
            .flat_map(|command| [command.name].into_iter().chain(command.aliases.iter().copied()))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for command in COMMANDS {
            let words = crate::words::split(command.example).unwrap();
            crate::parse::parse(&words).unwrap_or_else(|error| panic!("{}: {error}", command.example));
        }
    }

    #[test]
    fn help_of_one_command() {
        assert_eq!(
            find("set").unwrap().full_help(),
            "PUT key value [TTL duration] [KEEPTTL] [IFABSENT] [IFPRESENT] [IFVERSION version] [IFABSENTOR version] [IFEQUALS value] [RETURN] [EXISTED]
  Store a value under a key.
  TTL duration        forget it after 10s, 500ms, 2h, ...
  KEEPTTL             keep the time to live that the key has
  IFABSENT            only if there is no such key
  IFPRESENT           only if there is such a key
  IFVERSION version   only if the key has this version
  IFABSENTOR version  only if there is no such key, or it has this version
  IFEQUALS value      only if the key has this very value
  RETURN              show the value that was there before
  EXISTED             say whether the key was there before
  Also: SET
  Example: PUT greeting \"hello world\" TTL 10m
"
        );
    }

    #[test]
    fn the_overview_fits_a_terminal() {
        for has_host in [false, true] {
            let overview = overview(has_host);
            let longest = overview.lines().map(str::len).max().unwrap();
            assert!(longest <= 80, "{longest} columns:\n{overview}");
            assert!(COMMANDS.iter().all(|command| overview.contains(command.help)));
            assert_eq!(overview.contains("SCALE nodes"), has_host);
        }
    }

    #[test]
    fn misspelt_commands_are_recognised() {
        assert_eq!(nearest("gte"), Some("GET"));
        assert_eq!(nearest("clustr"), Some("CLUSTER"));
        assert_eq!(nearest("frobnicate"), None);
    }
}
