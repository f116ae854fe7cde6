//! The small text files of a data folder: a title, lines of `name value`, and a checksum over all that. A person can
//! read them with `cat`; a damaged one is noticed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Largest such file, in bytes; a longer one is damaged.
const RECORD_BYTES_MAX: u64 = 4096;

/// The named values of one file, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// What the file is; its first line.
    pub(super) title: &'static str,
    /// Its lines. Neither names nor values hold a line break, names no space.
    pub(super) lines: Vec<(&'static str, String)>,
}

impl Record {
    /// The file's text.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (name, value) in &self.lines {
            text.push_str(&format!("{name} {value}\n"));
        }
        let checksum = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("crc32 {checksum:08x}\n"));
        text
    }

    /// The values of a file's text, one for each of `names`; `None` if it is not such a file or was damaged.
    pub(super) fn decode<const N: usize>(text: &str, title: &str, names: [&str; N]) -> Option<[String; N]> {
        let mut lines = Self::lines(text, title)?;
        let mut values = [const { String::new() }; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.to_owned();
        }
        lines.next().is_none().then_some(values)
    }

    /// The value of a file's first line, which must have this name, whatever comes behind it; `None` as with [`Record::decode`].
    pub(super) fn first_value<'a>(text: &'a str, title: &str, name: &str) -> Option<&'a str> {
        Self::lines(text, title)?.next()?.strip_prefix(name)?.strip_prefix(' ')
    }

    /// The lines between the title and the checksum of a sound file.
    fn lines<'a>(text: &'a str, title: &str) -> Option<std::str::Lines<'a>> {
        let (body, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let checksum = crc32fast::hash(&text.as_bytes()[..body.len() + 1]);
        if last != format!("crc32 {checksum:08x}") {
            return None;
        }
        let mut lines = body.lines();
        (lines.next()? == title).then_some(lines)
    }
}

/// A file's text; `None` if there is none. One that is too long or no text was damaged, and gives an empty text, which is
/// no record's.
///
/// # Errors
/// What the system says.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    let read = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > RECORD_BYTES_MAX => return Ok(Some(String::new())),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    match read {
        Ok(bytes) => Ok(Some(String::from_utf8(bytes).unwrap_or_default())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file's contents at once and for good: after a power loss the file holds the old text or the new one, and
/// the new one once this has returned.
///
/// # Errors
/// What the system says. The caller must not go on as if the file had been written.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { title: "some file", lines: vec![("one", "1".to_owned()), ("two", "the second".to_owned())] }
    }

    #[test]
    fn a_record_reads_back() {
        let text = record().encode();
        assert_eq!(text, "some file\none 1\ntwo the second\ncrc32 3d14aea0\n");
        assert_eq!(Record::decode(&text, "some file", ["one", "two"]).unwrap(), ["1", "the second"]);
        assert_eq!(Record::decode(&text, "some file", ["one"]), None, "a line too many");
        assert_eq!(Record::decode(&text, "some file", ["one", "two", "three"]), None, "a line too few");
        assert_eq!(Record::decode(&text, "other file", ["one", "two"]), None);
        assert_eq!(Record::first_value(&text, "some file", "one"), Some("1"));
        assert_eq!(Record::first_value(&text, "some file", "two"), None, "it is not the first");
        assert_eq!(Record::first_value(&text.replace('1', "3"), "some file", "one"), None, "damaged");
    }

    #[test]
    fn every_damage_and_every_cut_is_noticed() {
        let text = record().encode();
        for end in 0..text.len() {
            assert_eq!(Record::decode(&text[..end], "some file", ["one", "two"]), None, "cut at {end}");
        }
        for position in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[position] ^= 1;
            let damaged = String::from_utf8(bytes).unwrap();
            assert_eq!(Record::decode(&damaged, "some file", ["one", "two"]), None, "damage at {position}");
        }
    }
}
