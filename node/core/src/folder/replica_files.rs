//! Which replica the files of each shard belong to.
//!
//! A replica id stands for one life of a log ([`crate::ring::Holder`]). So before a replica is opened for the first time its
//! id is written down, durably, and from then on the shard's files are that replica's. A map that gives this node another
//! replica of the shard has the old files erased first. The order makes a crash at any moment harmless:
//!
//! ```text
//! note "erasing, for replica 17" ─► remove the segments, newest first ─► note "live, replica 17" ─► open
//! ```
//!
//! **The journal** may still hold rounds of the erased log. Replay brings none of them back: a chunk whose segment is gone, or
//! is there with another generation, is skipped. What stays is the journal's *mark*, up to where the log was durable: a mark
//! in a segment that is there with another generation is dropped by replay, and a mark in a segment that is gone would
//! make the fresh log look cut off. The note holds the highest segment number that was erased; a mark up to there whose
//! segment is gone speaks of the erased log, and is not shown to the fresh one ([`ReplicaFiles::journal_of`]). Nothing is
//! lost by that: a mark of the fresh log stands in a segment that is there.

use crate::disk::{DATA_SEGMENT, Disk, DiskError};
use crate::folder::checked_json;
use crate::journal::{ShardJournal, Submission};
use crate::log::{LogError, Position, SegmentSource, erase};
use crate::ring::FIRST_REPLICAS_MAX;
use kvorum_protocol::{ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{error, info};

/// What the files of a shard are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Life {
    /// They are the replica's.
    Live,
    /// They are being erased; after that they are the replica's.
    Erasing,
    /// The replica has lost its files, or has given them up. It is never opened again.
    Ended,
}

/// The note about a shard's files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    replica: u64,
    /// The epoch of the ring map that gave the replica to this node.
    epoch: u64,
    life: Life,
    /// The highest number of a segment that was erased here.
    erased_to: u32,
}

/// A replica that is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedReplica {
    /// The shard.
    pub shard: ShardId,
    /// Its replica on this node.
    pub replica: ReplicaId,
    /// The epoch of the map that says so.
    pub epoch: u64,
    /// Whether a replica may be opened here that never was before; see [`crate::ring::decide`].
    pub may_begin: bool,
}

/// What can be done about a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// The files are its own, or there are none yet: open it.
    Open,
    /// It was never here, and may not begin yet: a newer map will tell.
    NotYet,
    /// The map is older than the files, which belong to a later replica. They are left alone.
    OutdatedMap,
    /// The replica was here and its files are lost. It is never opened again, and waits to be replaced.
    Ended,
}

/// What is noted about a shard's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    /// Nothing: the shard was never here, or its files are from before there were notes.
    Nothing,
    /// The note is damaged.
    Damaged,
    /// They are this replica's.
    Live(ReplicaId),
    /// They are being erased for this replica, or it has given them up.
    Over(ReplicaId),
}

/// Why a replica is retired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetireReason {
    /// The ring map with this epoch gives this node no replica of the shard. The files are erased.
    NotGiven {
        /// The map's epoch.
        epoch: u64,
    },
    /// The files can be read and are not to be trusted. They stay until another replica takes their place: should nothing else be
    /// left of the group, an operator may want them.
    Distrusted {
        /// Whose they are if there is no note.
        replica: ReplicaId,
    },
    /// The replica has lost what it acknowledged. The files stay, as above. Nothing is done if they are another one's.
    Amnesiac {
        /// The replica.
        replica: ReplicaId,
    },
}

/// The notes and files of a node's shards. Every call blocks on the disk.
#[derive(Clone)]
pub struct ReplicaFiles {
    disk: Arc<dyn Disk>,
    source: Arc<dyn SegmentSource>,
}

impl ReplicaFiles {
    /// The files on a disk; `source` is what makes its segments.
    pub fn new(disk: Arc<dyn Disk>, source: Arc<dyn SegmentSource>) -> Self {
        Self { disk, source }
    }

    /// Brings the files of a shard into the state in which the wanted replica can be opened: erases what another one has
    /// left, and writes down whose they are.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn prepare(&self, wanted: &WantedReplica) -> Result<Readiness, LogError> {
        let segments = self.disk.list_segments(wanted.shard)?;
        let note = match self.read(wanted.shard)? {
            Read::Note(note) => note,
            // Folders from before there were notes: ids were never changed then.
            Read::Nothing if !segments.is_empty() && wanted.replica.0 <= FIRST_REPLICAS_MAX => {
                self.write(wanted.shard, &wanted.note(Life::Live, 0))?;
                return Ok(Readiness::Open);
            }
            Read::Nothing => return self.begin(wanted, 0, &segments),
            Read::Damaged => {
                error!(shard = %wanted.shard, "the note about whose the shard's files are is damaged");
                self.write(wanted.shard, &wanted.note(Life::Ended, u32::MAX))?;
                return Ok(Readiness::Ended);
            }
        };
        if note.replica != wanted.replica.0 {
            // Ids only grow, and so do epochs.
            let outdated = note.replica > wanted.replica.0 || note.epoch > wanted.epoch;
            return if outdated { Ok(Readiness::OutdatedMap) } else { self.begin(wanted, note.erased_to, &segments) };
        }
        match note.life {
            Life::Live => Ok(Readiness::Open),
            Life::Erasing => self.finish_erasing(wanted.shard, note),
            Life::Ended => Ok(Readiness::Ended),
        }
    }

    fn begin(&self, wanted: &WantedReplica, erased_to: u32, segments: &[u32]) -> Result<Readiness, LogError> {
        if !wanted.may_begin {
            return Ok(Readiness::NotYet);
        }
        let erased_to = erased_to.max(last_of_log(segments));
        let note = wanted.note(Life::Erasing, erased_to);
        self.write(wanted.shard, &note)?;
        self.finish_erasing(wanted.shard, note)
    }

    fn finish_erasing(&self, shard: ShardId, note: Note) -> Result<Readiness, LogError> {
        erase(&*self.disk, &*self.source, shard)?;
        self.write(shard, &Note { life: Life::Live, ..note })?;
        Ok(Readiness::Open)
    }

    /// The replica that the files of a shard are of is never opened again. Returns whether it might have been before.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn retire(&self, shard: ShardId, reason: RetireReason) -> Result<bool, LogError> {
        let noted = self.read(shard)?;
        match (reason, noted) {
            // The files came with a later map.
            (RetireReason::NotGiven { epoch }, Read::Note(note)) if note.epoch > epoch => Ok(false),
            (RetireReason::NotGiven { .. }, Read::Note(note)) => self.erase_retired(shard, &note),
            // Whose they are is not known, so nothing says that they may go.
            (RetireReason::NotGiven { .. }, Read::Nothing | Read::Damaged) => Ok(false),
            (RetireReason::Distrusted { .. }, Read::Note(note)) => self.note_retired(shard, note),
            (RetireReason::Distrusted { replica }, noted) => {
                let is_empty = matches!(noted, Read::Nothing) && self.disk.list_segments(shard)?.is_empty();
                let note = Note { replica: replica.0, epoch: 0, life: Life::Live, erased_to: 0 };
                if is_empty { Ok(false) } else { self.note_retired(shard, note) }
            }
            (RetireReason::Amnesiac { replica }, Read::Note(note)) if note.replica == replica.0 => {
                self.note_retired(shard, note)
            }
            (RetireReason::Amnesiac { .. }, _) => Ok(false),
        }
    }

    /// Erases the files of all shards but those `kept`: the ring map with this epoch gives this node no replica of them. Files that
    /// came with a later map stay.
    ///
    /// # Errors
    /// If the disk fails, with the shard; with `meta` if the shards can't be listed.
    pub fn erase_surplus(&self, kept: &BTreeSet<ShardId>, epoch: u64) -> Result<(), (ShardId, LogError)> {
        let listed = self.disk.list_shards().map_err(|error| (ShardId::META, LogError::from(error)))?;
        for shard in listed.into_iter().filter(|shard| !kept.contains(shard)) {
            if self.retire(shard, RetireReason::NotGiven { epoch }).map_err(|error| (shard, error))? {
                info!(%shard, "erased the shard's files: the ring map gives this node no replica of it");
            }
        }
        Ok(())
    }

    /// Retires each of these replicas, whose files are not to be trusted. May be repeated.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn distrust_all(&self, held: impl IntoIterator<Item = (ShardId, ReplicaId)>) -> Result<(), LogError> {
        held.into_iter()
            .try_for_each(|(shard, replica)| self.retire(shard, RetireReason::Distrusted { replica }).map(drop))
    }

    /// Writes down that a replica is over; its files stay.
    fn note_retired(&self, shard: ShardId, note: Note) -> Result<bool, LogError> {
        let was_used = note.life != Life::Ended;
        if was_used {
            self.write(shard, &Note { life: Life::Ended, ..note })?;
        }
        Ok(was_used)
    }

    /// Writes down that a replica is over, and erases its files.
    fn erase_retired(&self, shard: ShardId, note: &Note) -> Result<bool, LogError> {
        let segments = self.disk.list_segments(shard)?;
        if note.life == Life::Ended && segments.is_empty() {
            return Ok(false);
        }
        let erased_to = note.erased_to.max(last_of_log(&segments));
        self.write(shard, &Note { life: Life::Ended, erased_to, ..note.clone() })?;
        erase(&*self.disk, &*self.source, shard)?;
        Ok(true)
    }

    /// The files of a shard go on as those of another replica, which a map of this epoch gives to this node: the group went on from
    /// them alone. From here on a node that follows an older map leaves them alone. May be repeated. Returns whether they are the
    /// replica's now: they are not if they came with a later map, or are being erased.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn go_on_as(&self, wanted: &WantedReplica) -> Result<bool, LogError> {
        let erased_to = match self.read(wanted.shard)? {
            Read::Note(note) if note.life == Life::Erasing || note.replica > wanted.replica.0 => return Ok(false),
            Read::Note(note) => note.erased_to,
            Read::Nothing | Read::Damaged => 0,
        };
        self.write(wanted.shard, &wanted.note(Life::Live, erased_to))?;
        Ok(true)
    }

    /// The journal as the shard's replica may see it: without a mark that speaks of a log that was erased.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn journal_of(
        &self,
        shard: ShardId,
        journal: &Arc<dyn ShardJournal>,
    ) -> Result<Arc<dyn ShardJournal>, LogError> {
        let Some(mark) = journal.durable(shard) else { return Ok(Arc::clone(journal)) };
        let Read::Note(note) = self.read(shard)? else { return Ok(Arc::clone(journal)) };
        if mark.segment <= note.erased_to && !self.disk.list_segments(shard)?.contains(&mark.segment) {
            return Ok(Arc::new(WithoutMark { journal: Arc::clone(journal), mark }));
        }
        Ok(Arc::clone(journal))
    }

    /// What is noted about a shard's files, for somebody who only looks.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn noted(&self, shard: ShardId) -> Result<Noted, DiskError> {
        Ok(match self.read(shard)? {
            Read::Nothing => Noted::Nothing,
            Read::Damaged => Noted::Damaged,
            Read::Note(Note { replica, life: Life::Live, .. }) => Noted::Live(ReplicaId(replica)),
            Read::Note(Note { replica, .. }) => Noted::Over(ReplicaId(replica)),
        })
    }

    fn read(&self, shard: ShardId) -> Result<Read, DiskError> {
        let Some(bytes) = self.disk.read_metadata(&note_name(shard))? else { return Ok(Read::Nothing) };
        Ok(checked_json::decode(&bytes).map_or(Read::Damaged, Read::Note))
    }

    fn write(&self, shard: ShardId, note: &Note) -> Result<(), DiskError> {
        self.disk.write_metadata(&note_name(shard), &checked_json::encode(note))
    }
}

enum Read {
    Nothing,
    Note(Note),
    Damaged,
}

impl WantedReplica {
    fn note(&self, life: Life, erased_to: u32) -> Note {
        Note { replica: self.replica.0, epoch: self.epoch, life, erased_to }
    }
}

/// The last log segment among a shard's segments, 0 if there is none: the journal's marks speak of no others.
fn last_of_log(segments: &[u32]) -> u32 {
    segments.iter().copied().filter(|number| number & DATA_SEGMENT == 0).max().unwrap_or(0)
}

/// The name of a shard's note. It lies beside the shards' folders, so that a folder that is lost as a whole does not take the
/// knowledge along that there was one.
pub fn note_name(shard: ShardId) -> String {
    format!("replica-{:05}", shard.0)
}

/// The shard of a note's name.
pub fn noted_shard(name: &str) -> Option<ShardId> {
    name.strip_prefix("replica-")?.parse().ok().map(ShardId)
}

/// A journal whose mark of a shard is of a log that was erased.
struct WithoutMark {
    journal: Arc<dyn ShardJournal>,
    mark: Position,
}

impl ShardJournal for WithoutMark {
    fn submit(&self, submission: Submission) {
        self.journal.submit(submission);
    }

    fn durable(&self, shard: ShardId) -> Option<Position> {
        self.journal.durable(shard).filter(|mark| *mark != self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::{Faults, MemoryDisk};
    use crate::log::InlineSource;

    const SHARD: ShardId = ShardId(3);

    fn files(disk: &Arc<MemoryDisk>) -> ReplicaFiles {
        let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
        ReplicaFiles::new(Arc::clone(&disk), Arc::new(InlineSource::new(disk)))
    }

    fn wanted(replica: u64, epoch: u64) -> WantedReplica {
        WantedReplica { shard: SHARD, replica: ReplicaId(replica), epoch, may_begin: true }
    }

    const DISTRUSTED: RetireReason = RetireReason::Distrusted { replica: ReplicaId(2) };

    fn amnesiac(replica: u64) -> RetireReason {
        RetireReason::Amnesiac { replica: ReplicaId(replica) }
    }

    fn add_segments(disk: &MemoryDisk, count: u32) {
        (1..=count).for_each(|number| drop(disk.create_segment(SHARD, number, 4096, b"a segment").unwrap()));
    }

    struct Marked(Position);

    impl ShardJournal for Marked {
        fn submit(&self, _: Submission) {}
        fn durable(&self, _: ShardId) -> Option<Position> {
            Some(self.0)
        }
    }

    #[test]
    fn a_replica_begins_where_it_may_and_goes_on_where_it_was() {
        let disk = MemoryDisk::new();
        let waits = WantedReplica { may_begin: false, ..wanted(2, 1) };
        assert_eq!(files(&disk).prepare(&waits).unwrap(), Readiness::NotYet);
        assert_eq!(files(&disk).prepare(&wanted(2, 1)).unwrap(), Readiness::Open);
        add_segments(&disk, 2);
        assert_eq!(files(&disk).prepare(&waits).unwrap(), Readiness::Open, "it was here before");
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1, 2]);
    }

    #[test]
    fn a_replica_whose_life_has_ended_is_not_opened_again_and_its_successor_is() {
        let disk = MemoryDisk::new();
        files(&disk).prepare(&wanted(2, 1)).unwrap();
        add_segments(&disk, 2);
        files(&disk).retire(SHARD, amnesiac(17)).unwrap();
        assert_eq!(files(&disk).prepare(&wanted(2, 1)).unwrap(), Readiness::Open, "that was said of another replica");
        files(&disk).retire(SHARD, amnesiac(2)).unwrap();
        assert_eq!(files(&disk).prepare(&wanted(2, 1)).unwrap(), Readiness::Ended);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1, 2], "an operator may want them");
        assert_eq!(files(&disk).prepare(&wanted(17, 2)).unwrap(), Readiness::Open);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [] as [u32; 0]);
    }

    #[test]
    fn another_replica_finds_nothing_of_the_one_before() {
        let disk = MemoryDisk::new();
        files(&disk).prepare(&wanted(2, 1)).unwrap();
        add_segments(&disk, 3);
        let later = WantedReplica { may_begin: false, ..wanted(17, 5) };
        assert_eq!(files(&disk).prepare(&later).unwrap(), Readiness::NotYet);
        assert_eq!(disk.list_segments(SHARD).unwrap().len(), 3, "nothing is erased before it may begin");
        assert_eq!(files(&disk).prepare(&wanted(17, 5)).unwrap(), Readiness::Open);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [] as [u32; 0]);
        add_segments(&disk, 1);
        for outdated in [wanted(2, 1), wanted(2, 9), wanted(18, 4)] {
            assert_eq!(files(&disk).prepare(&outdated).unwrap(), Readiness::OutdatedMap);
        }
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1], "an older map erases nothing");
    }

    #[test]
    fn an_interrupted_erasing_is_finished_by_the_next_start() {
        // The note, three segments, the note.
        for operations in 0..5 {
            let disk = MemoryDisk::new();
            files(&disk).prepare(&wanted(2, 1)).unwrap();
            add_segments(&disk, 3);
            disk.set_faults(Faults { operations_left: Some(operations), ..Faults::default() });
            files(&disk).prepare(&wanted(17, 5)).expect_err("the disk fails half-way");
            let restarted = disk.after_kill();
            let before = files(&restarted).prepare(&wanted(2, 1)).unwrap();
            assert_eq!(before == Readiness::Open, operations == 0, "past the first note the old replica is over");
            assert_eq!(files(&restarted).prepare(&wanted(17, 5)).unwrap(), Readiness::Open);
            assert_eq!(restarted.list_segments(SHARD).unwrap(), [] as [u32; 0]);
        }
    }

    #[test]
    fn files_from_before_there_were_notes_are_the_first_replicas() {
        let disk = MemoryDisk::new();
        add_segments(&disk, 2);
        assert_eq!(files(&disk).prepare(&wanted(3, 1)).unwrap(), Readiness::Open);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1, 2]);
        let disk = MemoryDisk::new();
        add_segments(&disk, 2);
        assert_eq!(files(&disk).prepare(&wanted(17, 4)).unwrap(), Readiness::Open);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [] as [u32; 0], "they can't be of an id that was made later");
    }

    #[test]
    fn a_retired_replica_never_comes_back() {
        let disk = MemoryDisk::new();
        assert!(!files(&disk).retire(SHARD, DISTRUSTED).unwrap(), "there is nothing to retire");
        files(&disk).prepare(&wanted(2, 1)).unwrap();
        add_segments(&disk, 2);
        assert!(files(&disk).retire(SHARD, DISTRUSTED).unwrap());
        assert!(!files(&disk).retire(SHARD, DISTRUSTED).unwrap(), "it is retired once");
        assert_eq!(files(&disk).prepare(&wanted(2, 9)).unwrap(), Readiness::Ended);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1, 2], "an operator may want them");
        assert_eq!(files(&disk).prepare(&wanted(17, 9)).unwrap(), Readiness::Open);
        assert_eq!(disk.list_segments(SHARD).unwrap(), [] as [u32; 0]);
        add_segments(&disk, 1);
        assert!(
            !files(&disk).retire(SHARD, RetireReason::NotGiven { epoch: 8 }).unwrap(),
            "the map is older than the replica"
        );
        assert_eq!(disk.list_segments(SHARD).unwrap(), [1]);
        assert!(files(&disk).retire(SHARD, RetireReason::NotGiven { epoch: 10 }).unwrap());
        assert_eq!(files(&disk).prepare(&wanted(17, 11)).unwrap(), Readiness::Ended);
    }

    #[test]
    fn a_damaged_note_ends_the_replica() {
        let disk = MemoryDisk::new();
        files(&disk).prepare(&wanted(2, 1)).unwrap();
        let good = disk.read_metadata(&note_name(SHARD)).unwrap().unwrap();
        for position in 0..good.len() {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            assert_eq!(checked_json::decode::<Note>(&bytes), None, "damage at {position}");
        }
        disk.write_metadata(&note_name(SHARD), &good[1..]).unwrap();
        assert_eq!(files(&disk).prepare(&wanted(2, 1)).unwrap(), Readiness::Ended);
        assert_eq!(files(&disk).prepare(&wanted(17, 2)).unwrap(), Readiness::Open);
    }

    #[test]
    fn a_mark_of_the_erased_log_is_not_shown_to_the_fresh_one() {
        let disk = MemoryDisk::new();
        let mark = |segment| Position { segment, offset: 64 };
        let shown = |disk: &Arc<MemoryDisk>, segment| {
            let journal: Arc<dyn ShardJournal> = Arc::new(Marked(mark(segment)));
            files(disk).journal_of(SHARD, &journal).unwrap().durable(SHARD)
        };
        files(&disk).prepare(&wanted(2, 1)).unwrap();
        add_segments(&disk, 3);
        assert_eq!(shown(&disk, 3), Some(mark(3)));
        assert_eq!(shown(&disk, 4), Some(mark(4)), "a segment that is lost and was not erased is missed");
        files(&disk).prepare(&wanted(17, 2)).unwrap();
        assert_eq!(shown(&disk, 3), None);
        assert_eq!(shown(&disk, 4), Some(mark(4)));
        add_segments(&disk, 1);
        assert_eq!(shown(&disk, 1), Some(mark(1)), "the fresh log's own");
    }
}
