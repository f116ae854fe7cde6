//! Offers the state to replicas that can't be helped with entries. Writing it down takes as many turns as a checkpoint does.

use super::Shard;
use super::checkpoint::CheckpointCapture;
use super::host::ShardOutlet;
use super::transfer::StateSnapshot;
use crate::log::Segment;
use crate::store::CaptureSlice;
use kvorum_protocol::ReplicaId;
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::info;

/// What one replica has to offer to others. One state is written down at a time.
pub(super) struct Offering {
    slice: CaptureSlice,
    /// Who waits for a snapshot. The state is being written down for the first.
    wanted: VecDeque<ReplicaId>,
    /// The state, and the segments that its records lie in: those stay readable whatever compaction does meanwhile.
    under_way: Option<(CheckpointCapture, Vec<Arc<Segment>>)>,
}

impl Offering {
    /// A turn writes down so much.
    pub(super) fn new(slice: CaptureSlice) -> Self {
        Self { slice, wanted: VecDeque::new(), under_way: None }
    }

    /// These replicas need a snapshot. One that leads anew may ask for a replica again that waits already.
    pub(super) fn want(&mut self, replicas: Vec<ReplicaId>) {
        self.wanted.extend(replicas.into_iter().filter(|replica| !self.wanted.contains(replica)).collect::<Vec<_>>());
    }

    /// Whether this replica's own turns have something to do: [`Offering::go_on`].
    pub(super) fn is_at_work(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Writes the next slice down, and offers what is whole.
    pub(super) fn go_on(&mut self, shard: &mut Shard, outlet: &dyn ShardOutlet) {
        let Some(&to) = self.wanted.front() else { return };
        if self.under_way.is_none() {
            let has_room = outlet.has_room_for_snapshot(shard.log().shard(), to);
            let capture = if has_room { shard.begin_capture() } else { None };
            if let Some(capture) = &capture {
                shard.pin_log(to, capture.base());
            }
            self.under_way = capture.map(|capture| (capture, shard.log().view().segments()));
        }
        let offered = match self.under_way.take() {
            None => false,
            Some((capture, segments)) => match shard.go_on_capture(&capture, self.slice) {
                None => {
                    self.under_way = Some((capture, segments));
                    return;
                }
                Some((base, index)) => {
                    let id = shard.log().shard();
                    info!(shard = %id, %to, index = %base.index, keys = index.len(), "offers a snapshot");
                    let source = Arc::new(StateSnapshot::new(&base, index, segments, shard.reader()));
                    outlet.offer_snapshot(id, shard.replica(), to, source).is_ok()
                }
            },
        };
        self.wanted.pop_front();
        if !offered {
            // Consensus asks again after a heartbeat.
            shard.report_snapshot(to, false);
        }
    }
}
