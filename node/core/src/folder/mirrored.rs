//! Small files that a node can't do without, and that nobody else has: kept twice, so that damage to one of them is mended
//! from the other.
//!
//! What a file holds says itself whether it is damaged (a checksum). The second copy is written before the first, so it is
//! never the older one: who reads the second because the first is damaged learns nothing that is out of date.

use crate::disk::{Disk, DiskError};
use tracing::{error, warn};

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError<E> {
    /// The medium failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Both copies are damaged; this is said of the first.
    #[error("{0}")]
    Damaged(E),
    /// A copy is sound, and another program has written it: that one goes on with the file. Nothing was changed.
    #[error("{0}")]
    Unsupported(E),
}

/// What can be wrong with the bytes of a file.
pub trait DecodeFailure {
    /// Whether the bytes are sound, and another program's. A format without a version never is.
    fn is_unsupported(&self) -> bool {
        false
    }
}

/// The name of a file's second copy.
pub fn copy_of(name: &str) -> String {
    format!("{name}.copy")
}

/// Reads a file; `None` if there is none. A copy that is damaged or not there is made anew from the other one. `decode` says
/// what bytes mean, or what is wrong with them.
///
/// # Errors
/// If neither copy can be used, or the disk fails.
pub fn read<T, E: DecodeFailure>(
    disk: &dyn Disk,
    name: &str,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, KeptError<E>> {
    let copy = copy_of(name);
    let (first, second) = (disk.read_metadata(name)?, disk.read_metadata(&copy)?);
    match [&first, &second].map(|bytes| bytes.as_deref().map(&decode)) {
        // The second is written before the first, so it is another program's if only one of them is.
        [_, Some(Err(error))] | [Some(Err(error)), _] if error.is_unsupported() => Err(KeptError::Unsupported(error)),
        [None, None] => Ok(None),
        [Some(Ok(value)), of_second] => {
            if !matches!(of_second, Some(Ok(_))) {
                first.iter().try_for_each(|bytes| mend(disk, &copy, bytes))?;
            }
            Ok(Some(value))
        }
        [damage, Some(Ok(value))] => {
            if damage.is_some() {
                error!(file = %format!("{name}.metadata"), "a file was damaged, and is mended from its copy");
            }
            second.iter().try_for_each(|bytes| mend(disk, name, bytes))?;
            Ok(Some(value))
        }
        [Some(Err(damage)), _] | [None, Some(Err(damage))] => Err(KeptError::Damaged(damage)),
    }
}

/// Replaces a file. After a crash it has the old content or the new one. Costs twice what a small file costs.
///
/// # Errors
/// If the disk fails: the file may have either content then.
pub fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    disk.write_metadata(&copy_of(name), bytes)?;
    disk.write_metadata(name, bytes)
}

/// A full disk is no reason to do without what the other copy says.
fn mend(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    match disk.write_metadata(name, bytes) {
        Err(full) if full.is_full() => {
            warn!(error = %full, "there is one sound copy of a file only, until there is room again");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::MemoryDisk;
    use crate::folder::checked_json;

    impl DecodeFailure for &'static str {
        fn is_unsupported(&self) -> bool {
            *self == "of another program"
        }
    }

    fn decode(bytes: &[u8]) -> Result<String, &'static str> {
        let text: String = checked_json::decode(bytes).ok_or("damaged")?;
        if text == "later" { Err("of another program") } else { Ok(text) }
    }

    #[test]
    fn what_another_program_has_written_is_not_mended_and_is_no_damage() {
        let [sound, later] = ["something", "later"].map(|text| checked_json::encode(&text));
        // It was killed before it wrote the first copy; or that has rotted since.
        for first in [Some(&sound[..]), Some(&b"rot"[..]), None] {
            let disk = MemoryDisk::new();
            first.into_iter().for_each(|first| disk.write_metadata("file", first).unwrap());
            disk.write_metadata("file.copy", &later).unwrap();
            assert!(matches!(read_it(&disk), Err(KeptError::Unsupported("of another program"))));
            assert_eq!(disk.read_metadata("file").unwrap().as_deref(), first);
            assert_eq!(disk.read_metadata("file.copy").unwrap().as_deref(), Some(&later[..]));
        }
    }

    fn read_it(disk: &MemoryDisk) -> Result<Option<String>, KeptError<&'static str>> {
        read(disk, "file", decode)
    }

    #[test]
    fn each_copy_is_mended_from_the_other() {
        let sound = checked_json::encode(&"something");
        for damaged in ["file", "file.copy"] {
            for at in 0..sound.len() {
                let disk = MemoryDisk::new();
                write(&*disk, "file", &sound).unwrap();
                let mut bytes = sound.clone();
                bytes[at] ^= 0xff;
                disk.write_metadata(damaged, &bytes).unwrap();
                assert_eq!(read_it(&disk).unwrap().as_deref(), Some("something"), "{damaged}, byte {at}");
                for name in ["file", "file.copy"] {
                    assert_eq!(disk.read_metadata(name).unwrap().as_ref(), Some(&sound), "{name} is mended");
                }
            }
        }
    }

    #[test]
    fn a_file_from_before_there_were_copies_gets_one() {
        let (disk, sound) = (MemoryDisk::new(), checked_json::encode(&"something"));
        disk.write_metadata("file", &sound).unwrap();
        assert_eq!(read_it(&disk).unwrap().as_deref(), Some("something"));
        assert_eq!(disk.read_metadata("file.copy").unwrap(), Some(sound));
    }

    #[test]
    fn nothing_is_made_up() {
        let disk = MemoryDisk::new();
        assert!(read_it(&disk).unwrap().is_none());
        disk.write_metadata("file", b"?").unwrap();
        assert!(matches!(read_it(&disk), Err(KeptError::Damaged("damaged"))), "there is no copy");
        disk.write_metadata("file.copy", b"??").unwrap();
        assert!(matches!(read_it(&disk), Err(KeptError::Damaged("damaged"))), "both are damaged");
    }

    #[test]
    fn the_copy_is_never_the_older_one() {
        let disk = MemoryDisk::new();
        let (old, new) = (checked_json::encode(&"old"), checked_json::encode(&"new"));
        write(&*disk, "file", &old).unwrap();
        // A crash between the two writes.
        disk.write_metadata("file.copy", &new).unwrap();
        assert_eq!(read_it(&disk).unwrap().as_deref(), Some("old"), "the write had not been acknowledged");
        disk.write_metadata("file", b"?").unwrap();
        assert_eq!(read_it(&disk).unwrap().as_deref(), Some("new"));
    }
}
