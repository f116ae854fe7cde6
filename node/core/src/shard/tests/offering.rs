//! A snapshot is written down in slices, and is the state at which that began.

use super::*;
use crate::health::pressure::Pressure;
use crate::shard::host::ShardOutlet;
use crate::shard::offering::Offering;
use crate::shard::transfer::{Reception, ReceptionSinks};
use crate::snapshot::{OffersFull, SnapshotError, SnapshotSinks, SnapshotSource, StoredRecords};
use crate::store::CaptureSlice;
use kvorum_protocol::snapshot::SnapshotId;
use parking_lot::Mutex;

pub(super) type Offered = (ReplicaId, Arc<dyn SnapshotSource>);

/// Keeps what is offered, if there is room.
#[derive(Default)]
pub(super) struct Offers {
    pub(super) is_full: bool,
    pub(super) offered: Mutex<Vec<Offered>>,
}

impl ShardOutlet for Offers {
    fn send(&self, _shard: ShardId, _messages: Vec<RaftMessage>) {}

    fn has_room_for_snapshot(&self, _shard: ShardId, _to: ReplicaId) -> bool {
        !self.is_full
    }

    fn offer_snapshot(
        &self,
        _shard: ShardId,
        _from: ReplicaId,
        to: ReplicaId,
        source: Arc<dyn SnapshotSource>,
    ) -> Result<(), OffersFull> {
        self.offered.lock().push((to, source));
        Ok(())
    }
}

/// What a follower makes of a snapshot's header.
fn accepts(group: &mut Group, (term, index): (Term, LogIndex), header: Vec<u8>) -> Result<(), SnapshotError> {
    let sinks = ReceptionSinks(Reception::new(group.shard(1).log().data_writers(), Arc::default()));
    sinks.open(ShardId(3), SnapshotId { term, index, nonce: 1 })?.header(header.into())
}

fn records(source: &dyn SnapshotSource) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut at = 0;
    while at < source.records() {
        let run = source.read(at, 7, 1_000).unwrap();
        for stored in StoredRecords::new(&run.bytes, run.count) {
            let (record, _) = stored.unwrap();
            all.insert(record.key.to_vec(), record.value.to_vec());
        }
        at += u64::from(run.count);
    }
    all
}

#[test]
fn a_snapshot_is_the_state_at_which_its_slices_began() {
    let mut group = Group::led();
    let mut expected = BTreeMap::new();
    for key in 0..50 {
        group.written(0, &format!("k{key}"), put(&format!("{key}")));
        expected.insert(format!("k{key}").into_bytes(), format!("{key}").into_bytes());
    }
    let mut offering = Offering::new(CaptureSlice { pairs: 3, session_bytes: 256 });
    let offers = Offers::default();
    offering.want(vec![id(1), id(2)]);
    offering.want(vec![id(2)]);
    let (base, mut state) = (group.shard(0).store().applied(), Vec::new());
    group.shard(0).store().encode_base(&mut state);
    let mut turns = 0;
    while offers.offered.lock().is_empty() {
        assert!(offering.is_at_work());
        offering.go_on(group.shard(0), &offers);
        group.written(0, &format!("k{}", turns * 11 % 60), put("later"));
        turns += 1;
    }
    assert!(turns >= 10, "{turns} turns");
    let (to, source) = offers.offered.lock().pop().unwrap();
    assert_eq!((to, source.last().1), (id(1), base));
    assert_eq!(records(&*source), expected);
    let mut header = Vec::new();
    while header.len() < source.header_bytes() as usize {
        header.extend_from_slice(&source.read_header(header.len() as u32, 1_000));
    }
    assert!(header.ends_with(&state), "the base's own part is of that entry, too");
    accepts(&mut group, source.last(), header.clone()).expect("a follower of the same version takes it");
    assert_eq!(header[..2], [1, 0], "the version of the base");
    header[0] = 3;
    let refused = accepts(&mut group, source.last(), header).unwrap_err().to_string();
    let expected = "the base has version 3, and this program reads versions 1 to 2: start a newer program";
    assert!(refused.contains(expected), "{refused}");

    while offering.is_at_work() {
        offering.go_on(group.shard(0), &offers);
    }
    let (to, source) = offers.offered.lock().pop().unwrap();
    assert!(to == id(2) && source.last().1 > base && offers.offered.lock().is_empty());
}

#[test]
fn a_follower_whose_disk_counts_as_full_takes_nothing_in() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let mut offering = Offering::new(CaptureSlice { pairs: 10, session_bytes: 1_000 });
    let offers = Offers::default();
    offering.want(vec![id(1)]);
    while offering.is_at_work() {
        offering.go_on(group.shard(0), &offers);
    }
    let (_, source) = offers.offered.lock().pop().unwrap();
    let run = source.read(0, 7, 1_000).unwrap();
    let pressure = Arc::new(Pressure::default());
    let sinks = ReceptionSinks(Reception::new(group.shard(1).log().data_writers(), Arc::clone(&pressure)));
    let (term, index) = source.last();
    let mut sink = sinks.open(ShardId(3), SnapshotId { term, index, nonce: 1 }).unwrap();
    assert!(sinks.has_room());
    sink.records(run.bytes.clone(), run.count).expect("there is room");
    pressure.set_disk(1, true);
    assert!(!sinks.has_room(), "offers are left unanswered");
    let refused = sink.records(run.bytes, run.count).unwrap_err();
    assert!(matches!(refused, SnapshotError::NoRoom), "{refused}");
}

#[test]
fn nothing_is_written_down_for_a_snapshot_that_finds_no_room() {
    let mut group = Group::led();
    group.written(0, "k", put("v"));
    let mut offering = Offering::new(CaptureSlice { pairs: 1, session_bytes: 1 });
    offering.want(vec![id(1)]);
    offering.go_on(group.shard(0), &Offers { is_full: true, ..Offers::default() });
    assert!(!offering.is_at_work(), "consensus asks again");
}
