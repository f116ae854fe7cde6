//! A shard's state on its way from one replica to another: what a leader gives out of its files, and where a follower
//! puts what it gets.

use crate::health::pressure::Pressure;
use crate::log::{Base, BaseError, DataSegment, DataWriter, Membership, Segment};
use crate::sealing::ShardKeys;
use crate::seeded::{Bug, planted};
use crate::snapshot::{Finish, Run, SnapshotError, SnapshotSink, SnapshotSinks, SnapshotSource, StoredRecords};
use crate::store::{IndexDump, ReadError, StoreReader, stored_record};
use bytes::{Bytes, BytesMut};
use kvorum_protocol::codec::Reader;
use kvorum_protocol::snapshot::SnapshotId;
use kvorum_protocol::{LogIndex, ShardId, Term};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

/// The state of a shard at one entry. Holds where its records lie, 16 bytes per key, and the segments that they lie in:
/// those stay readable whatever compaction does to their files.
pub(super) struct StateSnapshot {
    base: (Term, LogIndex),
    /// What it is bound to and sealed from.
    whole: Base,
    keys: Arc<ShardKeys>,
    /// The header: the base, up to its part of the state, and that. Made when it is first asked for, since sealing a large
    /// state takes long.
    header: OnceLock<[Bytes; 2]>,
    index: IndexDump,
    segments: BTreeMap<u32, Arc<Segment>>,
    /// Is told of damage. The replica may be gone before its snapshot is.
    reader: Weak<StoreReader>,
}

impl StateSnapshot {
    /// The state at `base`, whose index is `index`. `segments` are those that the replica's log had then. Copies nothing that may be large.
    pub(super) fn new(base: &Base, index: IndexDump, segments: Vec<Arc<Segment>>, reader: &Arc<StoreReader>) -> Self {
        let whole = match planted(Bug::SnapshotWithoutMembership) {
            true => Base { membership: Membership::default(), ..base.clone() },
            false => base.clone(),
        };
        Self {
            base: (base.term, base.index),
            whole,
            keys: Arc::clone(reader.keys_of_log()),
            header: OnceLock::new(),
            index,
            segments: segments.into_iter().map(|segment| (segment.number(), segment)).collect(),
            reader: Arc::downgrade(reader),
        }
    }

    fn header(&self) -> &[Bytes; 2] {
        self.header.get_or_init(|| {
            let base = self.whole.seal(&self.keys);
            let mut front = BytesMut::new();
            base.encode_front(&mut front);
            [front.freeze(), base.state]
        })
    }

    /// The bytes of a slot's record, their checksums verified.
    fn record(&self, slot: usize) -> Result<&[u8], SnapshotError> {
        let position = self.index.position(slot).ok_or(SnapshotError::Count)?;
        let missing = ReadError::Missing(position.segment, position.offset);
        let segment = self.segments.get(&position.segment).ok_or(missing)?;
        let bytes = stored_record(segment, position)?.bytes();
        Ok(segment.read(position.offset, bytes as u32).ok_or(missing)?)
    }

    /// A record of this replica can't be given to another one, nor to anybody.
    fn report_damage(&self, error: &SnapshotError) {
        if let (Some(reader), SnapshotError::Read(damage)) = (self.reader.upgrade(), error) {
            reader.report_damage(*damage);
        }
    }
}

impl SnapshotSource for StateSnapshot {
    fn last(&self) -> (Term, LogIndex) {
        self.base
    }

    fn header_bytes(&self) -> u32 {
        self.header().iter().map(Bytes::len).sum::<usize>() as u32
    }

    fn read_header(&self, at: u32, bytes_max: u32) -> Bytes {
        let (at, [first, state]) = (at as usize, self.header());
        let (part, at) = if at < first.len() { (first, at) } else { (state, at - first.len()) };
        part.slice(at..(at + bytes_max as usize).min(part.len()))
    }

    fn records(&self) -> u64 {
        self.index.len() as u64
    }

    fn read(&self, at: u64, count_max: u32, bytes_max: u32) -> Result<Run, SnapshotError> {
        let mut bytes = BytesMut::new();
        let mut count = 0;
        for slot in (at as usize..self.index.len()).take(count_max as usize) {
            let record = self.record(slot).inspect_err(|error| self.report_damage(error))?;
            if count > 0 && bytes.len() + record.len() > bytes_max as usize {
                break;
            }
            bytes.extend_from_slice(record);
            count += 1;
        }
        Ok(Run { bytes: bytes.freeze(), count })
    }
}

/// A state that has come from elsewhere, durable in data segments that belong to nothing yet.
#[derive(Debug)]
pub(super) struct Received {
    /// What it is.
    pub(super) base: Base,
    /// All of its records.
    pub(super) data: Vec<DataSegment>,
}

/// Where one replica puts the snapshots that it receives; its host takes them from here once they are whole.
pub(super) struct Reception {
    writer: Box<dyn Fn() -> DataWriter + Send + Sync>,
    pressure: Arc<Pressure>,
    received: Mutex<Option<Received>>,
}

impl Reception {
    /// Snapshots go into data segments that `writer` writes, as long as the disk does not count as full.
    pub(super) fn new(writer: impl Fn() -> DataWriter + Send + Sync + 'static, pressure: Arc<Pressure>) -> Arc<Self> {
        Arc::new(Self { writer: Box::new(writer), pressure, received: Mutex::default() })
    }

    /// What has come, if all of it has.
    pub(super) fn take(&self) -> Option<Received> {
        self.received.lock().take()
    }
}

/// The sinks of one replica.
pub(super) struct ReceptionSinks(pub(super) Arc<Reception>);

impl SnapshotSinks for ReceptionSinks {
    fn has_room(&self) -> bool {
        !self.0.pressure.disk_is_full()
    }

    fn open(&self, _shard: ShardId, id: SnapshotId) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        let writer = Some((self.0.writer)());
        Ok(Box::new(ReceptionSink { reception: Arc::clone(&self.0), id, base: None, writer }))
    }
}

struct ReceptionSink {
    reception: Arc<Reception>,
    id: SnapshotId,
    base: Option<Base>,
    writer: Option<DataWriter>,
}

impl SnapshotSink for ReceptionSink {
    fn header(&mut self, whole: Bytes) -> Result<(), SnapshotError> {
        let mut reader = Reader::new(whole);
        let base = Base::decode(&mut reader)?;
        reader.finish().map_err(BaseError::from)?;
        if (base.term, base.index) != (self.id.term, self.id.index) {
            return Err(SnapshotError::Count);
        }
        self.base = Some(base);
        Ok(())
    }

    fn records(&mut self, bytes: Bytes, count: u32) -> Result<(), SnapshotError> {
        let writer = self.writer.as_mut().ok_or(SnapshotError::Count)?;
        // What is left free is for those who make room.
        if self.reception.pressure.disk_is_full() {
            return Err(SnapshotError::NoRoom);
        }
        for stored in StoredRecords::new(&bytes, count) {
            let (record, stored) = stored?;
            writer.append(stored, record.version, None)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Finish, SnapshotError> {
        let (Some(base), Some(writer)) = (self.base.take(), self.writer.take()) else {
            return Err(SnapshotError::Count);
        };
        *self.reception.received.lock() = Some(Received { base, data: writer.finish()? });
        Ok(Finish::Done)
    }
}

impl Drop for ReceptionSink {
    /// It came to nothing: what was written is removed now, or else when the replica is opened next.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.abandon()
        {
            tracing::warn!(%error, "leftovers of a snapshot were not removed");
        }
    }
}
