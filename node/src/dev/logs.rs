//! The logs of the nodes: files that stay small, and their last lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A log longer than this is put aside, as `node.log.1`, when its node starts; so a node's logs take about twice this,
/// and what it writes in one run.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The last lines are looked for in this many bytes.
const TAIL_BYTES: u64 = 16 * 1024;

/// Opens a log to append to it.
///
/// # Errors
/// What the system says.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
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
    fn a_long_log_is_put_aside() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.log");
        open(&path).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(open(&path).unwrap().metadata().unwrap().len(), 0);
        assert_eq!(fs::metadata(folder.path().join("node.log.1")).unwrap().len(), LOG_BYTES_MAX + 1);
    }
}
