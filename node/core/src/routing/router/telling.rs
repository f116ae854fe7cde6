//! What a node tells the others of itself, for whoever leads `meta`.

use super::Router;
use crate::clock::Nanos;
use crate::shard::ShardHandle;
use kvorum_protocol::ShardId;
use kvorum_protocol::report::{DiskRoom, NodeReport, ShardLoad};

impl Router {
    /// This is what there is of this node's disk.
    pub fn note_disk(&self, room: DiskRoom) {
        *self.disk.lock() = Some(room);
    }

    /// What there is of this node's disk, once somebody has looked.
    pub fn disk_room(&self) -> Option<DiskRoom> {
        *self.disk.lock()
    }

    /// What this node tells the others of itself.
    pub fn report(&self, now: Nanos) -> NodeReport {
        let local = self.all_local();
        let load = |handle: &ShardHandle| {
            let status = *handle.status.lock();
            let load = status.serving.then(|| handle.counts.led_load(status.term, now)).flatten()?;
            let led_ms = load.led_ms.try_into().unwrap_or(u32::MAX);
            Some(ShardLoad { shard: handle.shard, micros_per_second: load.micros_per_second, led_ms })
        };
        let settled = local.iter().filter_map(|handle| Some((handle.shard, handle.status.lock().settled?)));
        NodeReport {
            epoch: self.agreed_ring().map_or(0, |ring| ring.epoch),
            faulty: self.faulty(),
            settled: settled.collect(),
            hears: self.peers().map(|peers| peers.up()).unwrap_or_default(),
            disk: *self.disk.lock(),
            held_bytes: local.iter().map(|handle| handle.reader.live_bytes_total()).sum(),
            peer_address: String::new(),
            loads: local.iter().filter_map(|handle| load(handle)).collect(),
            coming: Some(self.coming()),
            more: Default::default(),
        }
    }

    /// The replicas that come to this node by moves, with a number that changes while they take something in: 0 before they are open.
    pub fn coming(&self) -> Vec<(ShardId, u64)> {
        let coming = |shard| (shard, self.local(shard).map_or(0, |handle| handle.taken_in()));
        self.ring().coming_to(self.me).map(coming).collect()
    }
}
