//! The checkpoint with which a group that has lost its quorum for good goes on from one replica; and all records opened, for
//! somebody who only looks.

use super::*;

impl Checkpoint {
    /// The replica has another id from here on, and is in this term: it has voted for nobody.
    #[must_use]
    pub fn of_term(mut self, term: Term) -> Self {
        let hard_state = &mut self.manifest.hard_state;
        assert!(term > hard_state.term, "a group that goes on alone begins another term");
        *hard_state = HardState { term, vote: None, ..*hard_state };
        self
    }
}

impl ShardLog {
    /// Opens every record of the base and of the log: how many are sealed, and how many plain. Reads all of it; blocks.
    ///
    /// # Errors
    /// `Damaged` at the first that does not open or does not match its checksums, `NoKey` if a key is not here.
    pub fn open_records(&self) -> Result<(u64, u64), LogError> {
        let (mut sealed, mut plain) = (0, 0);
        let keys = self.view.keys();
        let mut open = |record: &operations::Record<'_>, at: Position| {
            let opened = record.open(keys).map(drop);
            opened.map_err(|error| LogError::of_operations(self.shard, at, Damage::StoredRecord, error))?;
            if record.sealed.is_some() {
                sealed += 1;
            } else {
                plain += 1;
            }
            Ok(())
        };
        let listed = self.manifest.iter().flat_map(|manifest| &manifest.listed).map(|listed| listed.number);
        for number in listed {
            let segment = self.view.segment(number).expect("listed segments are open");
            compaction::visit_records(&segment, None, &mut open)?;
        }
        for index in self.first_index().0..=self.last_index().0 {
            let place = self.state.entries.get(LogIndex(index)).expect("the log has it");
            if place.kind == RaftEntryKind::Operations && place.length > 0 {
                let segment =
                    self.view.segment(place.payload.segment).expect("entries are in segments that the log has");
                compaction::visit_entry(&segment, place.payload.offset, place.length, &mut open)?;
            }
        }
        Ok((sealed, plain))
    }
}
