//! Words become commands. Pure.

use crate::cli::commands::{self, CommandSpec, Verb};
use crate::cli::text::{parse_duration, printable};
use crate::{Bytes, Condition, Version, WriteOp};
use std::time::Duration;

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
    Explain(Bytes),
    Ping(Option<String>),
    Cluster(ClusterView),
    Status(Option<String>),
    Transfer {
        shard: u16,
        node: String,
    },
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
    Check,
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
        matches!(self, Action::Help(_) | Action::Clear | Action::Quit)
    }
}

/// Understands a command.
///
/// # Errors
/// What is wrong with it, with the command's usage.
pub(crate) fn parse(words: &[Vec<u8>]) -> Result<Action, UsageError> {
    let (name, rest) = words.split_first().ok_or_else(|| UsageError("there is no command".to_owned()))?;
    let name = String::from_utf8_lossy(name);
    let Some(spec) = commands::find(&name) else {
        let shown = printable(name.as_bytes());
        return Err(UsageError(match commands::nearest(&name) {
            _ if name.starts_with('-') => format!("there is no option {shown}; kvorum-cli --help lists all of them"),
            Some(nearest) => format!("there is no command {shown}; did you mean {nearest}?"),
            None => format!("there is no command {shown}; HELP lists all of them"),
        }));
    };
    let mut arguments = Arguments { spec, rest };
    let action = arguments.parse()?;
    match arguments.rest.first() {
        None => Ok(action),
        Some(word) => Err(arguments.wrong(format!("{} is too much", printable(word)))),
    }
}

/// The words behind a command's name.
struct Arguments<'a> {
    spec: &'static CommandSpec,
    rest: &'a [Vec<u8>],
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
                Action::Write(WriteOp::incr(key, by.ok_or_else(|| self.wrong("the number is too small"))?))
            }
            Verb::Append => Action::Write(WriteOp::append(self.key()?, self.bytes("value")?)),
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
            Verb::Explain => Action::Explain(self.key()?),
            Verb::Ping => Action::Ping(self.optional_text()),
            Verb::Cluster => Action::Cluster(self.view()?),
            Verb::Status => Action::Status(self.optional_text()),
            Verb::Transfer => Action::Transfer { shard: self.number("shard")?, node: self.text("node")? },
            Verb::Shutdown => Action::Shutdown(self.text("node")?),
            Verb::Help => Action::Help(self.help()?),
            Verb::Clear => Action::Clear,
            Verb::Quit => Action::Quit,
        })
    }

    fn put(&mut self) -> Result<WriteOp, UsageError> {
        let key = self.key()?;
        let op = WriteOp::put(key, self.bytes("value")?);
        self.write_options(op)
    }

    /// The options of a write, in any order.
    fn write_options(&mut self, mut op: WriteOp) -> Result<WriteOp, UsageError> {
        let mut condition = None;
        while let Some(option) = self.option()? {
            let wanted = match option {
                "TTL" => {
                    op = op.ttl(self.duration()?);
                    continue;
                }
                "EX" => {
                    op = op.ttl(Duration::from_secs(self.number("seconds")?));
                    continue;
                }
                "PX" => {
                    op = op.ttl(Duration::from_millis(self.number("milliseconds")?));
                    continue;
                }
                "RETURN" | "GET" => {
                    op = op.return_previous();
                    continue;
                }
                "IFABSENT" | "NX" => Condition::IfAbsent,
                "IFPRESENT" | "XX" => Condition::IfPresent,
                _ => Condition::IfVersion(self.version()?),
            };
            if condition.replace(wanted).is_some() {
                return Err(self.wrong("only one condition can hold"));
            }
            op = op.condition(wanted);
        }
        Ok(op)
    }

    fn scan(&mut self) -> Result<Action, UsageError> {
        let is_prefix = self.rest.first().is_some_and(|word| self.spec.option(word).is_none());
        let prefix = if is_prefix { self.bytes("prefix")? } else { Bytes::new() };
        let (mut limit, mut values) = (None, false);
        while let Some(option) = self.option()? {
            match option {
                "LIMIT" => limit = Some(self.number("count")?),
                _ => values = true,
            }
        }
        Ok(Action::Scan { prefix, limit, values })
    }

    fn view(&mut self) -> Result<ClusterView, UsageError> {
        let Some(word) = self.optional_text() else { return Ok(ClusterView::Status) };
        match word.to_ascii_uppercase().as_str() {
            "STATUS" => Ok(ClusterView::Status),
            "NODES" => Ok(ClusterView::Nodes),
            "SHARDS" => Ok(ClusterView::Shards),
            "CHECK" => Ok(ClusterView::Check),
            _ => Err(self.wrong(format!("{} is not a view of the cluster", printable(word.as_bytes())))),
        }
    }

    fn help(&mut self) -> Result<Option<&'static CommandSpec>, UsageError> {
        let Some(name) = self.optional_text() else { return Ok(None) };
        let found = commands::find(&name).map(Some);
        found.ok_or_else(|| UsageError(format!("there is no command {}", printable(name.as_bytes()))))
    }

    /// The next option, if the words go on.
    fn option(&mut self) -> Result<Option<&'static str>, UsageError> {
        let Some((word, rest)) = self.rest.split_first() else { return Ok(None) };
        let Some(option) = self.spec.option(word) else {
            return Err(self.wrong(format!("{} is not an option", printable(word))));
        };
        self.rest = rest;
        Ok(Some(option.name))
    }

    fn bytes(&mut self, what: &str) -> Result<Bytes, UsageError> {
        let Some((word, rest)) = self.rest.split_first() else {
            return Err(self.wrong(format!("the {what} is missing")));
        };
        self.rest = rest;
        Ok(Bytes::copy_from_slice(word))
    }

    fn key(&mut self) -> Result<Bytes, UsageError> {
        self.bytes("key")
    }

    fn keys(&mut self) -> Result<Vec<Bytes>, UsageError> {
        let first = self.key()?;
        let rest = std::mem::take(&mut self.rest).iter().map(|word| Bytes::copy_from_slice(word));
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
        Some(String::from_utf8_lossy(word).into_owned())
    }

    fn number<N: std::str::FromStr>(&mut self, what: &str) -> Result<N, UsageError> {
        let word = self.text(what)?;
        word.parse().map_err(|_| self.wrong(format!("the {what} must be a number, not {}", printable(word.as_bytes()))))
    }

    fn version(&mut self) -> Result<Version, UsageError> {
        self.number("version").map(Version)
    }

    fn step(&mut self) -> Result<i64, UsageError> {
        if self.rest.is_empty() { Ok(1) } else { self.number("step") }
    }

    fn duration(&mut self) -> Result<Duration, UsageError> {
        let word = self.text("duration")?;
        let problem =
            || format!("the duration must look like 10s, 500ms, 5m, 2h or 1d, not {}", printable(word.as_bytes()));
        parse_duration(&word).ok_or_else(|| self.wrong(problem()))
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> UsageError {
        UsageError(format!("{problem}\nusage: {}", self.spec.usage()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action, String> {
        let words: Vec<_> = crate::cli::words::split(line).unwrap().into_iter().map(|word| word.bytes).collect();
        parse(&words).map_err(|error| error.0)
    }

    #[test]
    fn commands_are_understood() {
        let key = || Bytes::from_static(b"k");
        let put = || WriteOp::put("k", "v");
        let ten_seconds = Duration::from_secs(10);
        for (line, action) in [
            ("get k", Action::Get(key())),
            ("PUT k v", Action::Write(put())),
            ("put k v ttl 10s", Action::Write(put().ttl(ten_seconds))),
            ("set k v EX 10 NX", Action::Write(put().ttl(ten_seconds).if_absent())),
            ("SET k v px 10000 xx get", Action::Write(put().ttl(ten_seconds).if_present().return_previous())),
            ("PUT k v IFVERSION 7 RETURN", Action::Write(put().if_version(Version(7)).return_previous())),
            ("PUT k TTL", Action::Write(WriteOp::put("k", "TTL"))),
            ("DEL k IFVERSION 3", Action::Write(WriteOp::delete("k").if_version(Version(3)))),
            ("CAS k 7 v", Action::Write(put().if_version(Version(7)))),
            ("CAS k 0 v", Action::Write(put().if_absent())),
            ("INCR k", Action::Write(WriteOp::incr("k", 1))),
            ("INCR k -5", Action::Write(WriteOp::incr("k", -5))),
            ("DECR k 5", Action::Write(WriteOp::incr("k", -5))),
            ("APPEND k v", Action::Write(WriteOp::append("k", "v"))),
            ("EXPIRE k 10", Action::Write(WriteOp::expire("k", ten_seconds))),
            ("PERSIST k", Action::Write(WriteOp::persist("k"))),
            ("MGET k k", Action::MultiGet(vec![key(), key()])),
            ("MPUT k k k k", Action::MultiPut(vec![(key(), key()), (key(), key())])),
            ("SCAN", Action::Scan { prefix: Bytes::new(), limit: None, values: false }),
            ("SCAN k VALUES LIMIT 3", Action::Scan { prefix: key(), limit: Some(3), values: true }),
            ("SCAN limit 3", Action::Scan { prefix: Bytes::new(), limit: Some(3), values: false }),
            ("cluster", Action::Cluster(ClusterView::Status)),
            ("cluster Shards", Action::Cluster(ClusterView::Shards)),
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
            ("INCR k x", "the step must be a number, not x\nusage: INCR key [by]"),
            (
                "EXPIRE k soon",
                "the duration must look like 10s, 500ms, 5m, 2h or 1d, not soon\nusage: EXPIRE key duration",
            ),
            ("DEL k IFVERSION", "the version is missing\nusage: DEL key [IFVERSION version]"),
            ("SCAN p LIMIT -1", "the count must be a number, not -1\nusage: SCAN [prefix] [LIMIT count] [VALUES]"),
            ("MPUT a 1 b", "the value of the last key is missing\nusage: MPUT key value ..."),
            ("CLUSTER frob", "frob is not a view of the cluster\nusage: CLUSTER [STATUS|NODES|SHARDS|CHECK]"),
            ("HELP frob", "there is no command frob"),
        ] {
            assert_eq!(parsed(line), Err(explanation.to_owned()), "{line}");
        }
        assert!(parsed("PUT k v NX XX").unwrap_err().starts_with("only one condition can hold"));
        assert!(parsed("PUT k v SOON").unwrap_err().starts_with("SOON is not an option"));
    }
}
