//! The logs of the nodes: files that stay small, and their last lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// A log longer than this is put aside, as `node.log.1`; so a node's logs take about twice this, and what it writes between two
/// looks at their length.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How often someone looks at the length of a log while its node runs.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The last lines are looked for in this many bytes.
const TAIL_BYTES: u64 = 16 * 1024;

/// Last words are looked for in this many lines: more than the backtrace of a panic has.
const LAST_WORDS_LINES: usize = 200;

/// What the line begins with by which `kvorum` ends.
const LAST_WORD: &str = "kvorum: ";

/// Puts a long log aside whose node goes on writing: by a copy, since the node holds the file and not its name, and appends to
/// whatever its length is. Lines that come in between are lost. Blocks.
///
/// # Errors
/// What the system says; the log then grows on.
pub(super) fn put_aside_while_written(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.len() > LOG_BYTES_MAX {
        fs::copy(path, path.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(())
}

/// Opens a log to append to it. A long one that can't be put aside grows on.
///
/// # Errors
/// What the system says.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        // A full disk may have no room for the new name.
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where a node's output goes: its log, or nowhere if that can't be opened. Whoever asks says so.
pub(super) fn output(path: &Path) -> (Stdio, Stdio, Option<io::Error>) {
    match open(path).and_then(|log| Ok((log.try_clone()?, log))) {
        Ok((out, err)) => (out.into(), err.into(), None),
        Err(error) => (Stdio::null(), Stdio::null(), Some(error)),
    }
}

/// The last lines of a log, at most `count`.
///
/// # Errors
/// What the system says.
pub(super) fn tail(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().rev().take(count).map(str::to_owned).collect();
    lines.reverse();
    Ok(lines)
}

/// Why the process that wrote a log ended, as far as the end of the log tells: the line by which `kvorum` ends, without the exit
/// code, which is another process's than the one that tells of it; or what a panic said, which the notes on backtraces
/// follow. Else the last line.
pub(super) fn last_words(path: &Path) -> Option<String> {
    let lines = tail(path, LAST_WORDS_LINES).ok()?;
    let is_last_word = |line: &String| line.starts_with(LAST_WORD) || is_panic(line);
    let Some(at) = lines.iter().rposition(is_last_word) else { return lines.into_iter().next_back() };
    // A panic says its message in the next line; what this program ends with may take several.
    let count = if is_panic(&lines[at]) { 2 } else { lines.len() - at };
    let words: Vec<&str> = lines[at..].iter().take(count).map(|line| line.trim()).collect();
    let words = words.join(" ");
    let reason = words.strip_prefix(LAST_WORD).unwrap_or(&words);
    Some(reason.rsplit_once(" (exit code ").map_or(reason, |(reason, _)| reason).to_owned())
}

fn is_panic(line: &str) -> bool {
    line.starts_with("thread '") && line.contains("panicked at ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::TempDir;

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.log");
        let mut log = open(&path).unwrap();
        for line in 0..10_000 {
            writeln!(log, "line {line}").unwrap();
        }
        assert_eq!(tail(&path, 2).unwrap(), ["line 9998", "line 9999"]);
    }

    #[test]
    fn the_last_words_are_the_reason_and_not_what_follows_it() {
        let folder = TempDir::new().unwrap();
        let said = |text: &str| {
            let path = folder.path().join("node.log");
            fs::write(&path, text).unwrap();
            last_words(&path)
        };
        let panic = "INFO listening\n\nthread 'main' (7) panicked at node/src/x.rs:3:5:\nboom\nstack backtrace:\n   0: a\n\
                     note: run with `RUST_BACKTRACE=full` for a verbose backtrace.\n";
        assert_eq!(said(panic).unwrap(), "thread 'main' (7) panicked at node/src/x.rs:3:5: boom");
        let gave_up = format!("{panic}kvorum: shards failed too often (exit code 70)\n");
        assert_eq!(said(&gave_up).unwrap(), "shards failed too often");
        let several = "kvorum: configuration: 2 things are wrong\n  shards: 7\n  data_dir: is not set (exit code 78)\n";
        assert_eq!(said(several).unwrap(), "configuration: 2 things are wrong shards: 7 data_dir: is not set");
        assert_eq!(said("INFO a\nmemory allocation failed\n").unwrap(), "memory allocation failed");
        assert_eq!(said(""), None);
    }

    #[test]
    fn a_log_that_can_not_be_opened_costs_the_lines_only() {
        let folder = TempDir::new().unwrap();
        let (_, _, error) = output(&folder.path().join("gone/node.log"));
        assert_eq!(error.unwrap().kind(), io::ErrorKind::NotFound);
        let (_, _, error) = output(&folder.path().join("node.log"));
        assert!(error.is_none());
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.log");
        open(&path).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(open(&path).unwrap().metadata().unwrap().len(), 0);
        assert_eq!(fs::metadata(folder.path().join("node.log.1")).unwrap().len(), LOG_BYTES_MAX + 1);
    }

    #[test]
    fn a_log_that_grows_long_while_it_is_written_is_put_aside() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.log");
        let mut log = open(&path).unwrap();
        writeln!(log, "short").unwrap();
        put_aside_while_written(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
        log.set_len(LOG_BYTES_MAX).unwrap();
        write!(log, "\nthe last line of the long one\n").unwrap();
        put_aside_while_written(&path).unwrap();
        writeln!(log, "the first line of the next").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "the first line of the next\n");
        let aside = tail(&folder.path().join("node.log.1"), 1).unwrap();
        assert_eq!(aside, ["the last line of the long one"]);
    }
}
