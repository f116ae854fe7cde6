//! What the kernel says about a process and its files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// Memory of a process that no file backs, in bytes; 0 if it is gone.
pub(super) fn anonymous_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    field(&status, "RssAnon:") * 1024
}

/// Bytes that a process caused to be written to a disk: pages that it made dirty, less those that were dropped before they
/// were written. Sync before reading it, and read it before the process ends.
pub(super) fn written_bytes(process: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    field(&io, "write_bytes:").saturating_sub(field(&io, "cancelled_write_bytes:"))
}

/// Bytes that the files of a folder take on the disk. Files that vanish while it looks are not counted.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Removes every file with this name below `folder`; returns how many there were.
pub(super) fn remove_named(folder: &Path, name: &str) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_named(&entry.path(), name)?;
        } else if entry.file_name() == name {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Drops what the page cache holds of the files of a folder, so that the next reader meets the disk.
pub(super) fn forget_cached(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_cached(&entry.path())?;
        } else {
            let file = fs::File::open(entry.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_others_are_zero() {
        let text = "write_bytes: 4096\ncancelled_write_bytes: 12\nRssAnon:\t  77 kB\n";
        assert_eq!((field(text, "write_bytes:"), field(text, "RssAnon:"), field(text, "nothing:")), (4096, 77, 0));
    }

    #[test]
    fn files_are_counted_and_removed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/hint"), [1; 10_000]).unwrap();
        fs::write(folder.path().join("other"), [1; 10_000]).unwrap();
        forget_cached(folder.path()).unwrap();
        assert!(disk_bytes(folder.path()) >= 20_000);
        assert_eq!(remove_named(folder.path(), "hint").unwrap(), 1);
        assert!(folder.path().join("other").exists());
        assert!(anonymous_bytes(std::process::id()) > 0);
    }
}
