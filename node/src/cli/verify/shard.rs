//! One shard's files, judged by what a start would make of them.

use super::folder::{metadata_file, unreadable};
use super::report::{Effect, Finding, ShardReport};
use kvorum_core::disk::{DATA_SEGMENT, Disk, DiskError, HINT_FILE, MANIFEST_FILE};
use kvorum_core::folder::replica_files::{Noted, ReplicaFiles, note_name};
use kvorum_core::journal::{ShardJournal, Submission};
use kvorum_core::log::inspect::{Hint, Layout, LogSummary, file_of};
use kvorum_core::log::{
    Base, Damage, InlineSource, LogError, LogOptions, LogView, Position, SegmentPlace, ShardLog, scrub,
};
use kvorum_core::sealing::{Keyring, SealError, ShardKeys};
use kvorum_core::store::Store;
use kvorum_protocol::ShardId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// What the journal knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Journaled {
    /// Up to where each shard's log is durable.
    pub(super) durable: BTreeMap<ShardId, Position>,
    /// The node stopped cleanly: the journal knows all of every log.
    pub(super) is_complete: bool,
}

impl ShardJournal for Journaled {
    fn submit(&self, _submission: Submission) {
        unreachable!("nothing is appended to files that are only looked at");
    }

    fn durable(&self, shard: ShardId) -> Option<Position> {
        self.durable.get(&shard).copied()
    }
}

/// Looks at a shard.
pub(super) fn look(disk: &Arc<dyn Disk>, shard: ShardId, journaled: &Journaled, keys: &Arc<Keyring>) -> ShardReport {
    let keys = &ShardKeys::new(shard, Arc::clone(keys));
    let mut looking = Looking { disk, shard, keys, report: empty(shard) };
    if let Err(error) = looking.run(journaled) {
        looking.unreadable(&error);
    }
    looking.report
}

fn empty(shard: ShardId) -> ShardReport {
    ShardReport {
        shard: shard.to_string(),
        replica: None,
        over: false,
        log_segments: 0,
        data_segments: 0,
        bytes: 0,
        records: 0,
        base: 0,
        last_entry: None,
        keys: None,
        live_bytes: None,
        torn_bytes: 0,
        findings: Vec::new(),
        notes: Vec::new(),
    }
}

struct Looking<'a> {
    disk: &'a Arc<dyn Disk>,
    shard: ShardId,
    /// What opens its records; without any key nothing is opened.
    keys: &'a ShardKeys,
    report: ShardReport,
}

impl Looking<'_> {
    fn run(&mut self, journaled: &Journaled) -> Result<(), DiskError> {
        let source = Arc::new(InlineSource::new(Arc::clone(self.disk)));
        let files = ReplicaFiles::new(Arc::clone(self.disk), source);
        match files.noted(self.shard)? {
            Noted::Nothing => {}
            Noted::Damaged => {
                self.found(metadata_file(&note_name(self.shard)), None, "it is damaged", Effect::ReplacesReplica);
            }
            Noted::Live(replica) => self.report.replica = Some(replica.0),
            Noted::Over(replica) => (self.report.replica, self.report.over) = (Some(replica.0), true),
        }
        let numbers = self.disk.list_segments(self.shard)?;
        self.report.data_segments = numbers.iter().filter(|number| **number & DATA_SEGMENT != 0).count();
        self.report.log_segments = numbers.len() - self.report.data_segments;
        if self.report.over {
            return Ok(());
        }
        let layout = match Layout::read(&**self.disk, self.shard) {
            Ok(layout) => layout,
            Err(error) => {
                self.failed(error);
                return Ok(());
            }
        };
        for place in layout.listed() {
            self.look_at_listed(&place)?;
        }
        let mut is_readable = true;
        for number in numbers {
            is_readable &= self.measure(number, layout.is_of_log(number))?;
        }
        let journal: Arc<dyn ShardJournal> = Arc::new(journaled.clone());
        let durable = match files.journal_of(self.shard, &journal) {
            Ok(journal) => journal.durable(self.shard),
            Err(error) => {
                self.failed(error);
                return Ok(());
            }
        };
        // A mapping of what can't be read would end this process.
        if is_readable {
            match layout.recover(&**self.disk, durable) {
                Ok(log) => {
                    self.look_at_log(log, durable, journaled.is_complete);
                    self.open_records(durable);
                }
                Err(error) => self.failed(error),
            }
        }
        if let Some(base) = layout.base() {
            self.look_at_base(base, layout.hint(&**self.disk, self.keys)?);
        }
        Ok(())
    }

    fn found(&mut self, file: String, offset: Option<u32>, what: impl Into<String>, effect: Effect) {
        self.report.findings.push(Finding { file, offset, what: what.into(), effect });
    }

    fn unreadable(&mut self, error: &DiskError) {
        self.found(format!("shard {}", self.shard), None, unreadable(error), Effect::DoesNotStart);
    }

    /// What a start would say. One word about each file is enough.
    fn failed(&mut self, error: LogError) {
        let LogError::Damaged { position, damage, .. } = error else {
            return self.found(format!("shard {}", self.shard), None, error.to_string(), Effect::DoesNotStart);
        };
        let file = file_of(self.shard, position.segment);
        if self.report.findings.iter().any(|finding| finding.file == file) {
            return;
        }
        let whole = matches!(damage, Damage::Manifest | Damage::SegmentMissing | Damage::SegmentHeader);
        self.found(file, (!whole).then_some(position.offset), damage.to_string(), Effect::ReplacesReplica);
    }

    fn look_at_listed(&mut self, place: &SegmentPlace) -> Result<(), DiskError> {
        let Some(file) = self.disk.open_cold(self.shard, place.number)? else {
            let position = Position { segment: place.number, offset: 0 };
            self.failed(LogError::Damaged { shard: self.shard, position, damage: Damage::SegmentMissing });
            return Ok(());
        };
        match scrub(&*file, place, &mut |_| true) {
            Ok(records) => self.report.records += records.unwrap_or(0),
            Err(error) => self.failed(error),
        }
        Ok(())
    }

    /// Counts a file's bytes, and reads it through if it is of the log. Returns whether that was possible.
    fn measure(&mut self, number: u32, is_of_log: bool) -> Result<bool, DiskError> {
        let Some(file) = self.disk.open_cold(self.shard, number)? else { return Ok(true) };
        self.report.bytes += u64::from(file.bytes());
        if !is_of_log {
            return Ok(true);
        }
        let mut buffer = vec![0; READ_BYTES.min(file.bytes() as usize)];
        for offset in (0..file.bytes()).step_by(READ_BYTES) {
            let bytes = buffer.len().min((file.bytes() - offset) as usize);
            if let Err(error) = file.read_at(offset, &mut buffer[..bytes]) {
                self.found(file_of(self.shard, number), Some(offset), unreadable(&error), Effect::DoesNotStart);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens all records, if there is a key: those of the base, and of the entries behind it.
    fn open_records(&mut self, durable: Option<Position>) {
        let ring = self.keys.ring();
        if ring.epochs().is_empty() || !self.report.findings.is_empty() {
            return;
        }
        let source = Arc::new(InlineSource::new(Arc::clone(self.disk)));
        let options = LogOptions { keys: Arc::clone(ring), ..LogOptions::new(source) };
        let opened = ShardLog::open(self.disk, self.shard, durable, options).and_then(|(log, _)| log.open_records());
        match opened {
            Ok((sealed, plain)) => {
                self.report.notes.push(format!("{sealed} records are sealed and open, {plain} are plain"));
            }
            Err(error) => self.failed(error),
        }
    }

    fn look_at_log(&mut self, log: Option<LogSummary>, durable: Option<Position>, journal_is_complete: bool) {
        let Some(log) = log else {
            if let Some(durable) = durable {
                let damage = Damage::SegmentMissing;
                self.failed(LogError::Damaged { shard: self.shard, position: durable, damage });
            }
            return;
        };
        self.report.records += log.recovered.records;
        self.report.last_entry = Some(log.last_index.0);
        self.report.torn_bytes = log.recovered.cut_bytes;
        if log.recovered.cut_bytes > 0 {
            let (file, bytes) = (file_of(self.shard, log.end.segment), log.recovered.cut_bytes);
            self.report.notes.push(format!(
                "{file} has a torn tail of {bytes} bytes from offset {}: nothing of it was promised, a start cuts it",
                log.end.offset
            ));
        }
        if journal_is_complete && durable.is_none_or(|durable| durable < log.end) {
            let known =
                durable.map_or("nothing of this log".to_owned(), |durable| format!("this log to {durable} only"));
            let what =
                format!("its newest rounds are damaged: it knows {known}, and the node stopped cleanly at {}", log.end);
            self.found("journal".into(), None, what, Effect::GetsBy);
        }
    }

    fn look_at_base(&mut self, base: &Base, hint: Hint) {
        self.report.base = base.index.0;
        let view: Arc<LogView> = Arc::default();
        let state = match base.open_state(self.keys) {
            Ok(state) => state,
            Err(error @ SealError::NoKey(_)) => {
                return self.report.notes.push(format!("{error}: say --key, and the state is looked at, too"));
            }
            Err(error) => {
                return self.found(file_of(self.shard, 0), None, error.to_string(), Effect::ReplacesReplica);
            }
        };
        let mut store = match Store::restore(view, &state) {
            Ok(store) => store,
            Err(error) => {
                return self.found(file_of(self.shard, 0), None, error.to_string(), Effect::ReplacesReplica);
            }
        };
        let file = file_of(self.shard, 0).replace(MANIFEST_FILE, HINT_FILE);
        match hint {
            Hint::Fresh(index) => match store.load_index(&index) {
                Ok(()) => {
                    self.report.keys = Some(store.reader().keys());
                    self.report.live_bytes = Some(store.reader().live_bytes_total());
                }
                Err(error) => self.found(file, None, format!("the index has no meaning: {error}"), Effect::GetsBy),
            },
            Hint::Closed(SealError::NoKey(epoch)) => {
                self.report.notes.push(format!("the index is sealed with data key {epoch}, which is not here"));
            }
            Hint::Closed(error) => self.found(file, None, error.to_string(), Effect::GetsBy),
            Hint::Unsupported(version) => {
                self.report.notes.push(format!("{version}; until then a start makes the index anew"));
            }
            Hint::Damaged => self.found(file, None, "the index is damaged: a start makes it anew", Effect::GetsBy),
            Hint::Missing | Hint::Stale => {
                self.report.notes.push("there is no index of the checkpoint: a start makes it anew".to_owned());
            }
        }
    }
}
