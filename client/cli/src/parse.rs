//! Words become commands. Pure.

mod operate;
mod users;

pub(crate) use operate::{Asked, Manner};
pub(crate) use users::{NewPassword, UserAction};

use crate::commands::{self, CommandSpec, Verb};
use crate::log_level;
use crate::slow_log::{self, SlowLogAction};
use crate::text::{parse_duration, printable, word};
use crate::words::Word;
use kvorum_client::{Bytes, Condition, LogLevelAsk, Receipt, UnknownLevel, Version, WriteOp};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// How long an accepted write is awaited, unless said otherwise.
const AWAIT_DEFAULT: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Get(Bytes),
    Ttl(Bytes),
    /// One write to one key.
    Write(WriteOp),
    Exists(Vec<Bytes>),
    MultiGet(Vec<Bytes>),
    MultiPut(Vec<(Bytes, Bytes)>),
    Scan {
        prefix: Bytes,
        limit: Option<u64>,
        values: bool,
    },
    Await {
        write: Receipt,
        wait: Duration,
    },
    Explain(Bytes),
    Ping(Option<String>),
    Cluster(ClusterView),
    Status(Option<String>),
    SlowLog(SlowLogAction),
    /// Watch the requests of all nodes, or of this one.
    Monitor(Option<String>),
    /// How much all nodes log, or this one.
    LogLevel(LogLevelAsk, Option<String>),
    Transfer {
        shard: u16,
        node: String,
    },
    /// Something is asked of the cluster.
    Ask(Asked, Manner),
    /// A token, by which a node may join that has this name and zone, if they are said.
    Token {
        name: Option<String>,
        zone: Option<String>,
        life: Duration,
    },
    /// Something about who may do what.
    Users(UserAction),
    /// One more node, in this zone; empty for none.
    AddNode(String),
    /// So many nodes.
    Scale(u16),
    Shutdown(String),
    Help(Option<&'static CommandSpec>),
    Clear,
    Quit,
}

/// A view of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClusterView {
    Status,
    Nodes,
    Shards,
    HotKeys,
    Check,
    Plan,
    Version,
    Encryption,
}

/// Why words are no command, in a sentence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

impl PartialEq for CommandSpec {
    fn eq(&self, other: &Self) -> bool {
        self.verb == other.verb
    }
}

impl Eq for CommandSpec {}

impl Action {
    /// Whether the command needs no cluster.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Help(_) | Self::Clear | Self::Quit)
    }
}

/// Understands a command.
///
/// # Errors
/// What is wrong with it, with the command's usage.
pub(crate) fn parse(words: &[Word]) -> Result<Action, UsageError> {
    let (name, rest) = words.split_first().ok_or_else(|| UsageError("there is no command".to_owned()))?;
    let name = name.text();
    let spec = commands::find(&name).ok_or_else(|| unknown(&name))?;
    let mut arguments = Arguments { spec, rest };
    let action = arguments.parse()?;
    match arguments.rest.first() {
        None => Ok(action),
        Some(word) => Err(arguments.too_much(word)),
    }
}

/// What is said of a command that there is not.
fn unknown(name: &str) -> UsageError {
    let shown = printable(name.as_bytes());
    if name.starts_with('-') {
        return UsageError(format!("there is no option {shown}; kvorum-cli --help lists all of them"));
    }
    UsageError(match (commands::known_elsewhere(name), commands::nearest(name)) {
        (Some(hint), _) => format!("there is no command {shown}; {hint}"),
        (None, Some(nearest)) => format!("there is no command {shown}; did you mean {nearest}?"),
        (None, None) => format!("there is no command {shown}; HELP lists all of them"),
    })
}

/// The words behind a command's name.
struct Arguments<'a> {
    spec: &'static CommandSpec,
    rest: &'a [Word],
}

impl Arguments<'_> {
    fn parse(&mut self) -> Result<Action, UsageError> {
        Ok(match self.spec.verb {
            Verb::Get => Action::Get(self.key()?),
            Verb::Ttl => Action::Ttl(self.key()?),
            Verb::Put => Action::Write(self.put()?),
            Verb::Delete => {
                let op = WriteOp::delete(self.key()?);
                Action::Write(self.write_options(op)?)
            }
            Verb::Increment => Action::Write(WriteOp::incr(self.key()?, self.step()?)),
            Verb::Decrement => {
                let key = self.key()?;
                let by = self.step()?.checked_neg();
                let least = i64::MIN + 1;
                let problem = || format!("the step must be a number from {least} to {}", i64::MAX);
                Action::Write(WriteOp::incr(key, by.ok_or_else(|| self.wrong(problem()))?))
            }
            Verb::Append => Action::Write(WriteOp::append(self.key()?, self.bytes("value")?)),
            Verb::SetRange => {
                let (key, offset) = (self.key()?, self.number("offset")?);
                Action::Write(WriteOp::set_range(key, offset, self.bytes("value")?))
            }
            Verb::Expire => Action::Write(WriteOp::expire(self.key()?, self.duration()?)),
            Verb::Persist => Action::Write(WriteOp::persist(self.key()?)),
            Verb::CompareAndSet => {
                let (key, version) = (self.key()?, self.version()?);
                let op = WriteOp::put(key, self.bytes("value")?);
                Action::Write(if version == Version(0) { op.if_absent() } else { op.if_version(version) })
            }
            Verb::Exists => Action::Exists(self.keys()?),
            Verb::MultiGet => Action::MultiGet(self.keys()?),
            Verb::MultiPut => Action::MultiPut(self.pairs()?),
            Verb::Scan => self.scan()?,
            Verb::Await => Action::Await { write: self.receipt()?, wait: self.wait()? },
            Verb::Explain => Action::Explain(self.key()?),
            Verb::Ping => Action::Ping(self.optional_text()),
            Verb::Cluster => self.cluster()?,
            Verb::Status => Action::Status(self.optional_text()),
            Verb::SlowLog => Action::SlowLog(self.slow_log()?),
            Verb::Monitor => Action::Monitor(self.optional_text()),
            Verb::LogLevel => self.log_level()?,
            Verb::Transfer => Action::Transfer { shard: self.number("shard")?, node: self.text("node")? },
            Verb::Node => self.node()?,
            Verb::Repair => self.repair()?,
            Verb::Encryption => self.encryption()?,
            Verb::User => self.user()?,
            Verb::Role => self.role()?,
            Verb::Acl => self.acl()?,
            Verb::AddNode => Action::AddNode(self.optional_text().unwrap_or_default()),
            Verb::Scale => Action::Scale(self.number("number of nodes")?),
            Verb::Shutdown => Action::Shutdown(self.text("node")?),
            Verb::Help => Action::Help(self.help()?),
            Verb::Clear => Action::Clear,
            Verb::Quit => Action::Quit,
        })
    }

    fn slow_log(&mut self) -> Result<SlowLogAction, UsageError> {
        let is = |word: &Word, name: &str| word.text().eq_ignore_ascii_case(name);
        match self.rest.first() {
            None => Ok(SlowLogAction::Newest(slow_log::COUNT_DEFAULT)),
            Some(word) if is(word, "LEN") => {
                self.rest = &self.rest[1..];
                Ok(SlowLogAction::Length)
            }
            Some(word) if is(word, "RESET") => {
                self.rest = &self.rest[1..];
                Ok(SlowLogAction::Reset)
            }
            Some(_) => self.number("number of operations").map(SlowLogAction::Newest),
        }
    }

    fn log_level(&mut self) -> Result<Action, UsageError> {
        let level = match self.rest.first() {
            Some(word) if self.spec.option(word).is_none() => Some(self.text("level")?),
            _ => None,
        };
        let (mut node, mut life) = (None, None);
        while let Some(option) = self.option()? {
            match option {
                "NODE" => node = Some(self.text("node")?),
                _ => life = Some(self.duration()?),
            }
        }
        let ask = match (level, life) {
            (None, None) => LogLevelAsk::Show,
            (Some(level), None) if level.eq_ignore_ascii_case("DEFAULT") => LogLevelAsk::Reset,
            (Some(level), life) => LogLevelAsk::Set {
                level: level.parse().map_err(|error: UnknownLevel| {
                    self.wrong(format!("{error}, or DEFAULT without a time; not {}", printable(level.as_bytes())))
                })?,
                for_ms: life.unwrap_or(log_level::FOR_DEFAULT).as_millis() as u64,
            },
            (None, Some(_)) => return Err(self.wrong("FOR wants a level before it".to_owned())),
        };
        Ok(Action::LogLevel(ask, node))
    }

    fn put(&mut self) -> Result<WriteOp, UsageError> {
        let key = self.key()?;
        let op = WriteOp::put(key, self.bytes("value")?);
        self.write_options(op)
    }

    /// The options of a write, in any order.
    fn write_options(&mut self, mut op: WriteOp) -> Result<WriteOp, UsageError> {
        let (mut condition, mut life, mut before) = (None, None, None);
        while let Some(option) = self.option()? {
            let wanted = match option {
                "TTL" | "EX" | "PX" => {
                    let span = match option {
                        "TTL" => self.duration()?,
                        "EX" => Duration::from_secs(self.number("seconds")?),
                        _ => Duration::from_millis(self.number("milliseconds")?),
                    };
                    if let Some(first) = life.replace(option) {
                        return Err(self.wrong(format!("{first} and {option} can't both hold: name one duration")));
                    }
                    op = op.ttl(span);
                    continue;
                }
                "KEEPTTL" => {
                    if let Some(first) = life.replace(option) {
                        return Err(self.wrong(format!("{first} and {option} can't both hold: name one duration")));
                    }
                    op = op.keep_ttl();
                    continue;
                }
                "RETURN" | "GET" | "EXISTED" => {
                    if let Some(first) = before.replace(option) {
                        return Err(self.wrong(format!("{first} and {option} can't both hold: name one of them")));
                    }
                    op = if option == "EXISTED" { op.return_existed() } else { op.return_previous() };
                    continue;
                }
                "IFABSENT" | "NX" => Condition::IfAbsent,
                "IFPRESENT" | "XX" => Condition::IfPresent,
                "IFABSENTOR" => Condition::IfAbsentOrVersion(self.version()?),
                "IFEQUALS" | "IFEQ" => Condition::IfEquals(self.bytes("value")?),
                _ => Condition::IfVersion(self.version()?),
            };
            if condition.replace(wanted.clone()).is_some() {
                return Err(self.wrong("only one condition can hold"));
            }
            op = op.condition(wanted);
        }
        Ok(op)
    }

    /// A quoted word is a prefix even if it reads like an option.
    fn scan(&mut self) -> Result<Action, UsageError> {
        let is_prefix = self.rest.first().is_some_and(|word| self.spec.option(word).is_none());
        let prefix = if is_prefix { self.bytes("prefix")? } else { Bytes::new() };
        let (mut limit, mut values) = (None, false);
        while let Some(option) = self.option()? {
            match option {
                "LIMIT" if limit.is_some() => return Err(self.wrong("LIMIT is given twice")),
                "LIMIT" => limit = Some(self.number("count")?),
                _ => values = true,
            }
        }
        Ok(Action::Scan { prefix, limit, values })
    }

    fn help(&mut self) -> Result<Option<&'static CommandSpec>, UsageError> {
        let Some(name) = self.optional_text() else { return Ok(None) };
        let found = commands::find(&name).map(Some);
        found.ok_or_else(|| UsageError(format!("there is no command {}", printable(name.as_bytes()))))
    }

    /// The next option, if the words go on.
    fn option(&mut self) -> Result<Option<&'static str>, UsageError> {
        let Some((word, rest)) = self.rest.split_first() else { return Ok(None) };
        let Some(option) = self.spec.option(word) else { return Err(self.too_much(word)) };
        self.rest = rest;
        Ok(Some(option.name))
    }

    fn bytes(&mut self, what: &str) -> Result<Bytes, UsageError> {
        let Some((word, rest)) = self.rest.split_first() else {
            return Err(self.wrong(format!("the {what} is missing")));
        };
        self.rest = rest;
        Ok(Bytes::copy_from_slice(&word.bytes))
    }

    fn key(&mut self) -> Result<Bytes, UsageError> {
        self.bytes("key")
    }

    fn keys(&mut self) -> Result<Vec<Bytes>, UsageError> {
        let first = self.key()?;
        let rest = std::mem::take(&mut self.rest).iter().map(|word| Bytes::copy_from_slice(&word.bytes));
        Ok([first].into_iter().chain(rest).collect())
    }

    fn pairs(&mut self) -> Result<Vec<(Bytes, Bytes)>, UsageError> {
        let mut pairs = vec![(self.key()?, self.bytes("value")?)];
        while !self.rest.is_empty() {
            pairs.push((self.key()?, self.bytes("value of the last key")?));
        }
        Ok(pairs)
    }

    fn text(&mut self, what: &str) -> Result<String, UsageError> {
        let bytes = self.bytes(what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.wrong(format!("the {what} is not text")))
    }

    fn optional_text(&mut self) -> Option<String> {
        let (word, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(word.text().into_owned())
    }

    fn number<N: FromStr + Bounded>(&mut self, what: &str) -> Result<N, UsageError> {
        let word = self.text(what)?;
        let problem = || match is_number(&word) {
            true => format!("the {what} must be from {} to {}, not {word}", N::LEAST, N::MOST),
            false => format!("the {what} must be a whole number, not {}", printable(word.as_bytes())),
        };
        word.parse().map_err(|_| self.wrong(problem()))
    }

    fn version(&mut self) -> Result<Version, UsageError> {
        self.number("version").map(Version)
    }

    fn step(&mut self) -> Result<i64, UsageError> {
        if self.rest.is_empty() { Ok(1) } else { self.number("step") }
    }

    fn receipt(&mut self) -> Result<Receipt, UsageError> {
        let word = self.text("write")?;
        let problem = || format!("the write must look like 3.7.1204, not {}", printable(word.as_bytes()));
        word.parse().map_err(|_| self.wrong(problem()))
    }

    fn wait(&mut self) -> Result<Duration, UsageError> {
        if self.rest.is_empty() { Ok(AWAIT_DEFAULT) } else { self.duration() }
    }

    fn duration(&mut self) -> Result<Duration, UsageError> {
        let word = self.text("duration")?;
        let problem = || match word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()) {
            digits if is_number(digits) && parse_duration(&word.replace(digits, "1")).is_some() => {
                format!("the duration {word} is out of range: at least 1ms, at most 36500d")
            }
            _ => format!("the duration must look like 10s, 500ms, 5m, 2h or 1d, not {}", printable(word.as_bytes())),
        };
        parse_duration(&word).ok_or_else(|| self.wrong(problem()))
    }

    /// A word that the command has no use for, and what may have been meant by it.
    fn too_much(&self, unwanted: &Word) -> UsageError {
        let shown = word(&unwanted.bytes);
        let is_value = matches!(self.spec.verb, Verb::Put | Verb::Append | Verb::CompareAndSet);
        let hint = match self.spec.verb {
            _ if unwanted.bytes.starts_with(b"-") && !unwanted.is_quoted => {
                "; options of kvorum-cli itself are not known inside of its shell, nor amid a command's arguments"
            }
            Verb::Scan => "; SCAN takes a prefix, such as SCAN user: LIMIT 20",
            Verb::Delete => "; DEL removes one key at a time",
            _ if is_value && !unwanted.is_quoted => "; a value with blanks needs quotes",
            _ => "",
        };
        let what = if self.spec.options.is_empty() { "too much" } else { "not an option" };
        self.wrong(format!("{shown} is {what}{hint}"))
    }

    fn wrong(&self, problem: impl Display) -> UsageError {
        UsageError(format!("{problem}\nusage: {}", self.spec.usage()))
    }
}

/// The range of a type of numbers.
trait Bounded {
    const LEAST: i128;
    const MOST: i128;
}

impl Bounded for u16 {
    const LEAST: i128 = Self::MIN as i128;
    const MOST: i128 = Self::MAX as i128;
}

impl Bounded for u32 {
    const LEAST: i128 = Self::MIN as i128;
    const MOST: i128 = Self::MAX as i128;
}

impl Bounded for u64 {
    const LEAST: i128 = Self::MIN as i128;
    const MOST: i128 = Self::MAX as i128;
}

impl Bounded for i64 {
    const LEAST: i128 = Self::MIN as i128;
    const MOST: i128 = Self::MAX as i128;
}

/// Whether a text is a whole number, however large.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action, String> {
        parse(&crate::words::split(line).unwrap()).map_err(|error| error.0)
    }

    #[test]
    fn commands_are_understood() {
        let key = || Bytes::from_static(b"k");
        let put = || WriteOp::put("k", "v");
        let ten_seconds = Duration::from_secs(10);
        let write = "3.7.1204".parse().unwrap();
        let node = || "node-4".to_owned();
        let asks = |asked| Action::Ask(asked, Manner::default());
        for (line, action) in [
            ("get k", Action::Get(key())),
            ("PUT k v", Action::Write(put())),
            ("put k v ttl 10s", Action::Write(put().ttl(ten_seconds))),
            ("set k v EX 10 NX", Action::Write(put().ttl(ten_seconds).if_absent())),
            ("SET k v px 10000 xx get", Action::Write(put().ttl(ten_seconds).if_present().return_previous())),
            ("PUT k v IFVERSION 7 RETURN", Action::Write(put().if_version(Version(7)).return_previous())),
            ("SET k v KEEPTTL", Action::Write(put().keep_ttl())),
            ("PUT k v EXISTED", Action::Write(put().return_existed())),
            ("PUT k TTL", Action::Write(WriteOp::put("k", "TTL"))),
            ("PUT k v IFABSENTOR 7", Action::Write(put().if_absent_or_version(Version(7)))),
            ("PUT k v IFEQUALS old", Action::Write(put().if_equals("old"))),
            ("DEL k IFVERSION 3", Action::Write(WriteOp::delete("k").if_version(Version(3)))),
            ("DEL k IFEQ \"\"", Action::Write(WriteOp::delete("k").if_equals(""))),
            ("AWAIT 3.7.1204", Action::Await { write, wait: Duration::from_secs(5) }),
            ("await 3.7.1204 1m", Action::Await { write, wait: Duration::from_secs(60) }),
            ("CAS k 7 v", Action::Write(put().if_version(Version(7)))),
            ("CAS k 0 v", Action::Write(put().if_absent())),
            ("INCR k", Action::Write(WriteOp::incr("k", 1))),
            ("INCR k -5", Action::Write(WriteOp::incr("k", -5))),
            ("DECR k 5", Action::Write(WriteOp::incr("k", -5))),
            ("APPEND k v", Action::Write(WriteOp::append("k", "v"))),
            ("SETRANGE k 5 v", Action::Write(WriteOp::set_range("k", 5, "v"))),
            ("EXPIRE k 10", Action::Write(WriteOp::expire("k", ten_seconds))),
            ("PERSIST k", Action::Write(WriteOp::persist("k"))),
            ("MGET k k", Action::MultiGet(vec![key(), key()])),
            ("MPUT k k k k", Action::MultiPut(vec![(key(), key()), (key(), key())])),
            ("SCAN", Action::Scan { prefix: Bytes::new(), limit: None, values: false }),
            ("SCAN k VALUES LIMIT 3", Action::Scan { prefix: key(), limit: Some(3), values: true }),
            ("SCAN \"LIMIT\" LIMIT 3", Action::Scan { prefix: "LIMIT".into(), limit: Some(3), values: false }),
            ("SCAN 'values'", Action::Scan { prefix: "values".into(), limit: None, values: false }),
            ("SCAN limit 3", Action::Scan { prefix: Bytes::new(), limit: Some(3), values: false }),
            ("cluster", Action::Cluster(ClusterView::Status)),
            ("cluster Shards", Action::Cluster(ClusterView::Shards)),
            ("cluster plan", Action::Cluster(ClusterView::Plan)),
            ("cluster version", Action::Cluster(ClusterView::Version)),
            ("CLUSTER VERSION FINALIZE", asks(Asked::Finalize)),
            ("cluster token", Action::Token { name: None, zone: None, life: Duration::from_secs(3_600) }),
            (
                "CLUSTER TOKEN name db-7 ZONE b FOR 10m",
                Action::Token { name: Some("db-7".into()), zone: Some("b".into()), life: Duration::from_secs(600) },
            ),
            ("cluster rebalance pause", asks(Asked::Pause(true))),
            ("cluster rebalance RESUME", asks(Asked::Pause(false))),
            ("cluster rebalance rate 16", asks(Asked::Rate(Some(16)))),
            ("cluster rebalance rate default", asks(Asked::Rate(None))),
            ("repair allow", asks(Asked::AllowRepair)),
            (
                "node remove node-4 wait",
                Action::Ask(
                    Asked::Remove { node: node(), accept_fewer_zones: false },
                    Manner { waits: true, is_dry_run: false },
                ),
            ),
            ("NODE REMOVE node-4 ACCEPTFEWERZONES", asks(Asked::Remove { node: node(), accept_fewer_zones: true })),
            (
                "NODE REPLACE node-4 node-5 DRYRUN",
                Action::Ask(
                    Asked::Replace { old: node(), new: "node-5".into() },
                    Manner { waits: false, is_dry_run: true },
                ),
            ),
            ("NODE KEEP node-4", asks(Asked::Keep(node()))),
            ("NODE DRAIN node-4", asks(Asked::Drain { node: node(), absence: Duration::from_secs(600) })),
            ("NODE DRAIN node-4 FOR 1h", asks(Asked::Drain { node: node(), absence: Duration::from_secs(3_600) })),
            ("NODE UNDRAIN node-4", asks(Asked::Undrain(node()))),
            (
                "NODE SET node-4 ZONE b WEIGHT 2",
                asks(Asked::Set { node: node(), zone: Some("b".into()), weight: Some(2) }),
            ),
            ("NODE ADD", Action::AddNode(String::new())),
            ("node add b", Action::AddNode("b".into())),
            ("scale 5", Action::Scale(5)),
            ("TRANSFER 3 node-2", Action::Transfer { shard: 3, node: "node-2".into() }),
            ("HELP", Action::Help(None)),
            ("HELP set", Action::Help(commands::find("PUT"))),
            ("exit", Action::Quit),
        ] {
            assert_eq!(parsed(line), Ok(action), "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, explanation) in [
            ("FROB k", "there is no command FROB; HELP lists all of them"),
            ("GTE k", "there is no command GTE; did you mean GET?"),
            ("--jsno GET k", "there is no option --jsno; kvorum-cli --help lists all of them"),
            ("GET", "the key is missing\nusage: GET key"),
            ("GET a b", "b is too much\nusage: GET key"),
            (
                "NODE KEEP n WAIT",
                "WAIT is of use to REMOVE and REPLACE only\nusage: NODE what node [WAIT] [DRYRUN] [ACCEPTFEWERZONES] [FOR \
                 duration] [ZONE zone] [WEIGHT number]",
            ),
            ("CLUSTER REBALANCE NOW", "REBALANCE PAUSE, RESUME or RATE, not NOW\nusage: CLUSTER [view]"),
            ("REPAIR", "the ALLOW is missing\nusage: REPAIR ALLOW"),
            ("AWAIT 3.7", "the write must look like 3.7.1204, not 3.7\nusage: AWAIT write [time]"),
            ("INCR k x", "the step must be a whole number, not x\nusage: INCR key [step]"),
            (
                "INCR k 9223372036854775808",
                "the step must be from -9223372036854775808 to 9223372036854775807, not 9223372036854775808\n\
                 usage: INCR key [step]",
            ),
            ("TRANSFER 65536 n", "the shard must be from 0 to 65535, not 65536\nusage: TRANSFER shard node"),
            (
                "EXPIRE k 99999999999999999999s",
                "the duration 99999999999999999999s is out of range: at least 1ms, at most 36500d\nusage: EXPIRE key duration",
            ),
            ("KEYS *", "there is no command KEYS; SCAN lists the keys that begin with a prefix"),
            ("setex k 10 v", "there is no command setex; PUT key value TTL 10s does that"),
            (
                "GET k --json",
                "--json is too much; options of kvorum-cli itself are not known inside of its shell, nor amid \
              a command's arguments\nusage: GET key",
            ),
            (
                "EXPIRE k soon",
                "the duration must look like 10s, 500ms, 5m, 2h or 1d, not soon\nusage: EXPIRE key duration",
            ),
            ("DEL k IFVERSION", "the version is missing\nusage: DEL key [IFVERSION version] [IFEQUALS value]"),
            (
                "SCAN p LIMIT -1",
                "the count must be from 0 to 18446744073709551615, not -1\nusage: SCAN [prefix] [LIMIT count] [VALUES]",
            ),
            (
                "SCAN 0 MATCH user:*",
                "MATCH is not an option; SCAN takes a prefix, such as SCAN user: LIMIT 20\n\
                 usage: SCAN [prefix] [LIMIT count] [VALUES]",
            ),
            (
                "DEL a b",
                "b is not an option; DEL removes one key at a time\nusage: DEL key [IFVERSION version] [IFEQUALS value]",
            ),
            ("MPUT a 1 b", "the value of the last key is missing\nusage: MPUT key value ..."),
            ("CLUSTER frob", "frob is not a view of the cluster\nusage: CLUSTER [view]"),
            ("HELP frob", "there is no command frob"),
            ("NODE ADD a b", "b is too much\nusage: NODE ADD [zone]"),
            ("SCALE", "the number of nodes is missing\nusage: SCALE nodes"),
            ("SCALE many", "the number of nodes must be a whole number, not many\nusage: SCALE nodes"),
        ] {
            assert_eq!(parsed(line), Err(explanation.to_owned()), "{line}");
        }
        assert!(parsed("PUT k v NX XX").unwrap_err().starts_with("only one condition can hold"));
        let mistake = |line: &str| parsed(line).unwrap_err().lines().next().unwrap().to_owned();
        assert_eq!(mistake("PUT k hello world"), "world is not an option; a value with blanks needs quotes");
        assert_eq!(mistake("APPEND k hello world"), "world is too much; a value with blanks needs quotes");
        assert_eq!(mistake("PUT k v \"TTL\" 1s"), "TTL is not an option", "it is quoted");
        assert_eq!(mistake("PUT k v EX 10 PX 500"), "EX and PX can't both hold: name one duration");
        assert_eq!(mistake("PUT k v TTL 1s KEEPTTL"), "TTL and KEEPTTL can't both hold: name one duration");
        assert_eq!(mistake("PUT k v RETURN EXISTED"), "RETURN and EXISTED can't both hold: name one of them");
        assert_eq!(mistake("PUT k v TTL 1s TTL 2s"), "TTL and TTL can't both hold: name one duration");
        assert_eq!(mistake("SCAN LIMIT 1 LIMIT 2"), "LIMIT is given twice");
        assert!(mistake("PUT k v EX 18446744073709551616").starts_with("the seconds must be from 0 to"));
        assert!(
            mistake("DECR k -9223372036854775808").starts_with("the step must be a number from -9223372036854775807")
        );
    }
}
