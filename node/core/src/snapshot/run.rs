//! Takes a run of records apart.

use super::SnapshotError;
use crate::log::operations::{RECORD_HEADER_BYTES, Record, RecordHeader};

/// The records of a run, one after the other, each checked. Ends at the first error.
#[derive(Debug)]
pub struct StoredRecords<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> StoredRecords<'a> {
    /// A run that should hold `count` records and nothing else.
    pub fn new(run: &'a [u8], count: u32) -> Self {
        StoredRecords { rest: run, left: count }
    }

    fn take(&mut self) -> Result<(Record<'a>, &'a [u8]), SnapshotError> {
        let header: &[u8; RECORD_HEADER_BYTES] = self.rest.first_chunk().ok_or(SnapshotError::Count)?;
        let header = RecordHeader::parse(header)?;
        let (stored, rest) = self.rest.split_at_checked(header.record_bytes()).ok_or(SnapshotError::Count)?;
        let record = header.record(stored)?;
        self.rest = rest;
        Ok((record, stored))
    }
}

impl<'a> Iterator for StoredRecords<'a> {
    /// The record, and its bytes as they are stored.
    type Item = Result<(Record<'a>, &'a [u8]), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match (self.left, self.rest.is_empty()) {
            (0, true) => return None,
            (0, false) => Err(SnapshotError::Count),
            _ => self.take(),
        };
        match &next {
            Ok(_) => self.left -= 1,
            Err(_) => (self.left, self.rest) = (0, &[]),
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::stored_record;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_is_taken_apart_and_no_other_count_of_it() {
        let stored: Vec<Vec<u8>> = (1..=3).map(|version| stored_record(version, version as usize * 3)).collect();
        let run = stored.concat();
        let taken: Vec<_> = StoredRecords::new(&run, 3).map(|record| record.unwrap()).collect();
        assert_eq!(taken.iter().map(|(record, _)| record.version.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(taken.iter().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>(), stored);
        for count in [0, 1, 2, 4, u32::MAX] {
            let last = StoredRecords::new(&run, count).last().unwrap();
            assert!(matches!(last, Err(SnapshotError::Count)), "{count}");
        }
    }

    #[test]
    fn every_damaged_byte_is_seen() {
        let run = [stored_record(1, 5), stored_record(2, 0)].concat();
        for at in 0..run.len() {
            let mut damaged = run.clone();
            damaged[at] ^= 1;
            assert!(StoredRecords::new(&damaged, 2).any(|record| record.is_err()), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u32..10) {
            prop_assert!(StoredRecords::new(&bytes, count).count() <= 10);
        }
    }
}
