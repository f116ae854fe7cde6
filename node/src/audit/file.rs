//! The file of the audit log: opened where it ended, turned over when it is large, opened anew when somebody else has moved it.

use super::chain::{ChainEnd, LINE_BYTES_MAX};
use kvorum_core::audit::AuditEvent;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuditTarget {
    /// The standard error output.
    Stderr,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Larger it does not become, in bytes, but by one write.
        bytes_max: u64,
        /// So many older ones are kept, as `path.1` (the newest) and so on.
        kept: u32,
    },
}

/// The log of a process.
#[derive(Debug)]
pub struct AuditFile {
    target: AuditTarget,
    /// The node's name.
    node: String,
    /// Where the log goes on. It is known from the file, or from what was written last.
    end: ChainEnd,
    /// None before the first write, and after one that has failed.
    open: Option<File>,
}

impl AuditFile {
    /// A log that is opened by the first write.
    pub fn new(target: AuditTarget, node: String) -> Self {
        Self { target, node, end: ChainEnd::BEGIN, open: None }
    }

    /// Looks whether lines can be written.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn check(&mut self) -> io::Result<()> {
        self.append(&[])
    }

    /// Writes events, and syncs. After an error none, some or all of them are in the file, and it is opened anew.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn append(&mut self, events: &[AuditEvent]) -> io::Result<()> {
        let AuditTarget::File { path, bytes_max, kept } = self.target.clone() else {
            let (text, end) = self.lines(events);
            io::stderr().lock().write_all(text.as_bytes())?;
            self.end = end;
            return Ok(());
        };
        let mut file = match self.open.take().filter(|file| is_at(file, &path)) {
            Some(file) => file,
            None => self.open_at(&path)?,
        };
        if file.metadata()?.len() >= bytes_max && !events.is_empty() {
            turn_over(&path, kept)?;
            file = self.open_at(&path)?;
        }
        let (text, end) = self.lines(events);
        if !text.is_empty() {
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
        }
        (self.end, self.open) = (end, Some(file));
        Ok(())
    }

    /// The lines of events, and where the log goes on once they are written.
    fn lines(&self, events: &[AuditEvent]) -> (String, ChainEnd) {
        let mut end = self.end;
        let text = events.iter().map(|event| end.line(&self.node, event)).collect();
        (text, end)
    }

    /// Opens a file, and goes on where it ends; one that is empty goes on where the one before has ended.
    fn open_at(&mut self, path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        if length > 0 {
            let (line, is_whole) = last_line(&file, length)?;
            if !is_whole {
                file.write_all(b"\n")?;
            }
            self.end = ChainEnd::after(&line);
        }
        Ok(file)
    }
}

/// Whether a file is the one at a path: somebody may have moved it.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(id), path.metadata().map(id)), (Ok(open), Ok(there)) if open == there)
}

/// The last line of a file, without its end, and whether it has one.
fn last_line(file: &File, length: u64) -> io::Result<(Vec<u8>, bool)> {
    let from = length.saturating_sub(LINE_BYTES_MAX as u64);
    let mut tail = vec![0; (length - from) as usize];
    file.read_exact_at(&mut tail, from)?;
    let is_whole = tail.last() == Some(&b'\n');
    if is_whole {
        tail.pop();
    }
    let begin = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((tail.split_off(begin), is_whole))
}

/// Makes room for a new file: `path` becomes `path.1`, that becomes `path.2`, and the oldest goes.
fn turn_over(path: &Path, kept: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if kept == 0 {
        return std::fs::remove_file(path);
    }
    for number in (1..kept).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}

/// Reads a whole log for [`super::chain::Checker`].
///
/// # Errors
/// Whatever the system says.
pub fn reader(path: &Path) -> io::Result<io::BufReader<Box<dyn io::Read>>> {
    Ok(io::BufReader::new(if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) }))
}

#[cfg(test)]
mod tests {
    use super::super::chain::Checker;
    use super::*;
    use kvorum_core::audit::AuditKind;
    use kvorum_core::measure::meter::Door;

    fn log(path: &Path, bytes_max: u64) -> AuditFile {
        let target = AuditTarget::File { path: path.to_owned(), bytes_max, kept: 2 };
        AuditFile::new(target, "node-1".to_owned())
    }

    fn events(count: u64) -> Vec<AuditEvent> {
        let event = AuditEvent::at_door(AuditKind::Denied, Door::Resp, None, "ada", "GET");
        (0..count).map(|at_ms| AuditEvent { at_ms, ..event.clone() }).collect()
    }

    fn lines_of(paths: &[&Path]) -> u64 {
        let mut checker = Checker::default();
        paths.iter().for_each(|path| checker.check(reader(path).unwrap()).unwrap());
        checker.finish().unwrap().0.lines
    }

    #[test]
    fn it_goes_on_after_a_restart_and_after_a_crash_in_the_middle_of_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        log(&path, u64::MAX).append(&events(3)).unwrap();
        log(&path, u64::MAX).append(&events(2)).unwrap();
        assert_eq!(lines_of(&[&path]), 5);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let length = path.metadata().unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 20).unwrap();
        log(&path, u64::MAX).append(&events(2)).unwrap();
        assert_eq!(lines_of(&[&path]), 6, "four that are whole, and two");
    }

    #[test]
    fn a_large_file_is_turned_over_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = log(&path, 500);
        (0..20).for_each(|_| log.append(&events(1)).unwrap());
        let numbered = |number: u32| folder.path().join(format!("audit.jsonl.{number}"));
        assert!(lines_of(&[&numbered(2), &numbered(1), &path]) > 4);
        assert!(!numbered(3).exists());
    }

    #[test]
    fn a_file_that_was_moved_is_made_anew_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("moved"));
        let mut log = log(&path, u64::MAX);
        log.append(&events(2)).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.append(&events(2)).unwrap();
        assert_eq!(lines_of(&[&moved, &path]), 4);
    }

    #[test]
    fn what_can_t_be_written_is_an_error_and_later_writes_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/audit.jsonl");
        let mut log = log(&path, u64::MAX);
        log.check().unwrap_err();
        std::fs::create_dir(folder.path().join("none")).unwrap();
        log.append(&events(1)).unwrap();
        assert_eq!(lines_of(&[&path]), 1);
    }
}
