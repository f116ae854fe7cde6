//! What a bulk load does with a command: it becomes the writes that it asks for. Pure.

use crate::commands::find;
use crate::parse::{self, Action};
use crate::text::printable;
use crate::words::Word;
use kvorum_client::{Bytes, WriteOp};
use std::time::Duration;

/// The writes of a command. None for SELECT 0, which files made for Redis begin with.
///
/// What `parse` understands is understood here, and beside that how Redis writes the same: SETEX, PSETEX, SETNX, PEXPIRE,
/// UNLINK, and DEL of several keys.
///
/// # Errors
/// Why it can't be loaded, in a sentence.
pub(crate) fn writes(words: &[Word]) -> Result<Vec<WriteOp>, String> {
    let (name, rest) = words.split_first().ok_or_else(|| "there is no command".to_owned())?;
    let name = name.text().to_ascii_uppercase();
    let bytes = |word: &Word| Bytes::copy_from_slice(&word.bytes);
    match (name.as_str(), rest) {
        ("SELECT", [database]) if database.bytes == b"0" => Ok(Vec::new()),
        ("SETNX", [key, value]) => Ok(vec![WriteOp::put(bytes(key), bytes(value)).if_absent()]),
        ("SETEX", [key, life, value]) => {
            Ok(vec![WriteOp::put(bytes(key), bytes(value)).ttl(Duration::from_secs(number(life, "seconds")?))])
        }
        ("PSETEX", [key, life, value]) => {
            Ok(vec![WriteOp::put(bytes(key), bytes(value)).ttl(Duration::from_millis(number(life, "milliseconds")?))])
        }
        ("PEXPIRE", [key, life]) => {
            Ok(vec![WriteOp::expire(bytes(key), Duration::from_millis(number(life, "milliseconds")?))])
        }
        ("UNLINK", [_, ..]) => Ok(rest.iter().map(|key| WriteOp::delete(bytes(key))).collect()),
        // As Redis has it: several keys, unless the second word is an option such as IFVERSION.
        ("DEL", [_, second, ..]) if find("DEL").is_some_and(|spec| spec.option(second).is_none()) => {
            Ok(rest.iter().map(|key| WriteOp::delete(bytes(key))).collect())
        }
        _ => parsed(words, &name),
    }
}

fn parsed(words: &[Word], name: &str) -> Result<Vec<WriteOp>, String> {
    match parse::parse(words).map_err(|error| error.0.replace('\n', "; "))? {
        Action::Write(op) if op.returns_previous() => {
            Err(format!("{name} with RETURN is not loaded: nobody sees what it returns"))
        }
        Action::Write(op) => Ok(vec![op]),
        Action::MultiPut(pairs) => Ok(pairs.into_iter().map(|(key, value)| WriteOp::put(key, value)).collect()),
        _ => Err(format!("{} writes no keys, and --pipe takes writes only", printable(name.as_bytes()))),
    }
}

fn number(word: &Word, what: &str) -> Result<u64, String> {
    let text = word.text();
    text.parse().map_err(|_| format!("the {what} must be a whole number, not {}", printable(&word.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Vec<WriteOp>, String> {
        writes(&crate::words::split(line).unwrap())
    }

    #[test]
    fn commands_of_scripts_and_of_redis_become_writes() {
        let put = || WriteOp::put("k", "v");
        let ten_seconds = Duration::from_secs(10);
        for (line, wanted) in [
            ("PUT k v TTL 10s", vec![put().ttl(ten_seconds)]),
            ("set k v ex 10 nx", vec![put().ttl(ten_seconds).if_absent()]),
            ("SETEX k 10 v", vec![put().ttl(ten_seconds)]),
            ("psetex k 10000 v", vec![put().ttl(ten_seconds)]),
            ("SETNX k v", vec![put().if_absent()]),
            ("MSET k v l w", vec![put(), WriteOp::put("l", "w")]),
            ("DEL k", vec![WriteOp::delete("k")]),
            ("DEL k IFVERSION 3", vec![WriteOp::delete("k").if_version(kvorum_client::Version(3))]),
            ("DEL k l", vec![WriteOp::delete("k"), WriteOp::delete("l")]),
            ("UNLINK k l", vec![WriteOp::delete("k"), WriteOp::delete("l")]),
            ("PEXPIRE k 10000", vec![WriteOp::expire("k", ten_seconds)]),
            ("EXPIRE k 10", vec![WriteOp::expire("k", ten_seconds)]),
            ("INCRBY k 5", vec![WriteOp::incr("k", 5)]),
            ("SELECT 0", vec![]),
        ] {
            assert_eq!(of(line), Ok(wanted), "{line}");
        }
    }

    #[test]
    fn what_is_no_write_is_refused() {
        for (line, told) in [
            ("GET k", "GET writes no keys, and --pipe takes writes only"),
            ("shutdown node-1", "SHUTDOWN writes no keys, and --pipe takes writes only"),
            ("SET k v GET", "SET with RETURN is not loaded: nobody sees what it returns"),
            ("SELECT 1", "there is no command SELECT; a cluster has one keyspace"),
            ("MULTI", "there is no command MULTI; no command writes keys of several shards together"),
            ("DEL k IFVERSION x", "the version must be a whole number, not x"),
            ("SETEX k ten v", "the seconds must be a whole number, not ten"),
            ("PUT k", "the value is missing; usage: PUT key value"),
        ] {
            let problem = of(line).unwrap_err();
            assert!(problem.starts_with(told), "{line}: {problem}");
        }
    }
}
