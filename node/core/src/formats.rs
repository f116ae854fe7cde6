//! The versions of what a node stores: one constant for each format, with the range that this program reads.
//!
//! A cluster is upgraded node by node. So a reader takes a range of versions, and names both when it is asked to read
//! another one. A writer writes what the cluster's feature level allows ([`Levels`]): until the last node speaks the next
//! level, every node can still go back to the older program.
//!
//! Files of a data folder that have no version of their own (`starts`, `run-state`, `known-disks.json`, the notes about
//! replicas, `journal.metadata`) are of the folder's version. The copy of the ring map says its level.
//!
//! Bytes: `docs/LOG_FORMAT.md`.

use kvorum_protocol::peer::Levels;
use std::fmt;

/// The data folder, and all in it that has no version of its own.
pub const DATA_FOLDER: Format = Format::new("the data folder", 1, 1, &[(1, 1)]);
/// A segment of a shard's log, and a data segment.
pub const SEGMENT: Format = Format::new("the segment", 3, 3, &[(1, 3)]);
/// A shard's manifest, but for the base in it.
pub const MANIFEST: Format = Format::new("the manifest", 3, 3, &[(1, 3)]);
/// A shard's state at one entry apart from its records, in manifests and in snapshots.
pub const BASE: Format = Format::new("the base", 1, BASE_SEALED, &[(1, 1)]);
/// The version of a base whose state is sealed: written where keys are in use, whatever the level is.
pub const BASE_SEALED: u32 = 2;
/// The index beside a manifest.
pub const HINT: Format = Format::new("the hint", 2, HINT_SEALED, &[(1, 2)]);
/// The version of a hint that is sealed.
pub const HINT_SEALED: u32 = 3;
/// A round of the journal.
pub const JOURNAL: Format = Format::new("the journal", 1, 1, &[(1, 1)]);

/// Which versions of a format this program reads, and which it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    name: &'static str,
    oldest: u32,
    newest: u32,
    /// From which feature level on which version is written: both grow.
    since: &'static [(u16, u32)],
}

/// A newer or a much older program has written it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsupportedVersion {
    /// What it is.
    pub format: &'static str,
    /// The version that it says.
    pub found: u32,
    /// The lowest version that this program reads.
    pub oldest: u32,
    /// The highest version that this program reads.
    pub newest: u32,
}

/// Why bytes can't be read as a format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// They are damaged, or are no such thing.
    #[error("it is damaged")]
    Damaged,
    /// They are sound, and of a version that this program does not read.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedVersion),
}

impl Format {
    const fn new(name: &'static str, oldest: u32, newest: u32, since: &'static [(u16, u32)]) -> Self {
        let format = Self { name, oldest, newest, since };
        let mut level = Levels::OWN.min;
        while level <= Levels::OWN.max {
            let version = format.at_level(level);
            assert!(oldest <= version && version <= newest, "a program reads what it writes");
            level += 1;
        }
        format
    }

    /// The version that is written in a cluster of this feature level.
    ///
    /// # Panics
    /// If the level is below the first one.
    pub const fn at_level(&self, level: u16) -> u32 {
        let mut version = None;
        let mut at = 0;
        while at < self.since.len() && self.since[at].0 <= level {
            version = Some(self.since[at].1);
            at += 1;
        }
        version.expect("every format is there from the first level on")
    }

    /// The version that is written whatever the cluster's level is. Once a format differs from level to level, this does
    /// not compile: whoever writes it must be told the level.
    pub const fn written(&self) -> u32 {
        let version = self.at_level(Levels::OWN.min);
        assert!(version == self.at_level(Levels::OWN.max), "the writer must be told the cluster's level");
        version
    }

    /// `magic` with the version that is written in its last byte.
    pub const fn magic<const N: usize>(&self, mut magic: [u8; N]) -> [u8; N] {
        let version = self.written();
        assert!(version <= u8::MAX as u32, "it has one byte in a magic");
        magic[N - 1] = version as u8;
        magic
    }

    /// Whether a version that was found can be read.
    ///
    /// # Errors
    /// If it is out of the range.
    pub fn check(&self, found: u32) -> Result<(), UnsupportedVersion> {
        let Self { name: format, oldest, newest, .. } = *self;
        if (oldest..=newest).contains(&found) {
            return Ok(());
        }
        Err(UnsupportedVersion { format, found, oldest, newest })
    }
}

/// The version in the last byte of a magic, if the bytes before it are those of `magic`.
pub fn version_in<const N: usize>(magic: &[u8; N], found: &[u8; N]) -> Option<u32> {
    let (version, name) = found.split_last()?;
    magic.starts_with(name).then_some(u32::from(*version))
}

impl fmt::Display for UnsupportedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, found, oldest, newest } = self;
        write!(f, "{format} has version {found}, and this program reads ")?;
        match oldest == newest {
            true => write!(f, "version {newest}")?,
            false => write!(f, "versions {oldest} to {newest}")?,
        }
        let other = if found > newest { "a newer" } else { "an older" };
        write!(f, ": start {other} program")
    }
}

impl std::error::Error for UnsupportedVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_UP: Format = Format { name: "the ledger", oldest: 2, newest: 4, since: &[(1, 2), (3, 4)] };

    #[test]
    fn a_range_is_read_and_others_are_refused_by_name() {
        for version in 2..=4 {
            assert_eq!(MADE_UP.check(version), Ok(()));
        }
        let text = |found| MADE_UP.check(found).unwrap_err().to_string();
        assert_eq!(text(5), "the ledger has version 5, and this program reads versions 2 to 4: start a newer program");
        assert_eq!(text(1), "the ledger has version 1, and this program reads versions 2 to 4: start an older program");
        let text = SEGMENT.check(4).unwrap_err().to_string();
        assert_eq!(text, "the segment has version 4, and this program reads version 3: start a newer program");
    }

    #[test]
    fn what_is_written_follows_the_clusters_level() {
        assert_eq!([1, 2, 3, 9].map(|level| MADE_UP.at_level(level)), [2, 2, 4, 4]);
    }

    #[test]
    fn what_is_written_is_read() {
        for format in [DATA_FOLDER, SEGMENT, MANIFEST, BASE, HINT, JOURNAL] {
            assert_eq!(format.check(format.written()), Ok(()));
            assert!(format.check(format.oldest - 1).is_err() && format.check(format.newest + 1).is_err());
        }
    }

    #[test]
    fn a_magic_ends_in_its_version() {
        let magic = JOURNAL.magic(*b"KVJ\0");
        assert_eq!(&magic, b"KVJ\x01");
        assert_eq!(version_in(&magic, b"KVJ\x09"), Some(9));
        assert_eq!(version_in(&magic, b"KVK\x01"), None);
    }
}
