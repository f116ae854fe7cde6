//! Requests that this node answers of itself, without a shard: EXPLAIN, and what an operator tells it.

use super::{Session, error, read};
use crate::shard::inbox::ShardCommand;
use kvorum_protocol::hash::ring_position;
use kvorum_protocol::{AdminCommand, ErrorCode, Explanation, ResponseBody};

impl<Origin: Copy> Session<Origin> {
    pub(super) fn explain(&self, key: &[u8]) -> ResponseBody {
        let router = &self.context.router;
        let shard = self.shard_of(key);
        let ring = router.ring();
        let replicas = ring.replicas(shard).iter();
        let stored = match router.local(shard).map(|handle| handle.reader.explain(key)) {
            Some(Ok(stored)) => stored,
            Some(Err(failure)) => return read::damaged(shard, failure),
            None => None,
        };
        let now = router.clock().monotonic();
        let (reads_per_second, writes_per_second) = router.counts().of(shard).heat.of(key, now);
        ResponseBody::Explanation(Explanation {
            shard,
            ring_position: ring_position(key),
            leader: router.leader(shard),
            replicas: replicas
                .filter_map(|replica| ring.node_of(shard, kvorum_protocol::ReplicaId(replica.replica)))
                .collect(),
            stored,
            reads_per_second,
            writes_per_second,
        })
    }

    pub(super) fn admin(&self, command: AdminCommand) -> ResponseBody {
        let router = &self.context.router;
        let is_hook =
            matches!(command, AdminCommand::PanicShard(_) | AdminCommand::CutPeers(_) | AdminCommand::SkewClock(_));
        if is_hook && !self.context.fault_hooks {
            return error(ErrorCode::NotPermitted, "fault hooks are off on this node");
        }
        match command {
            AdminCommand::TransferLeadership { .. } => unreachable!("it is answered later, by whoever leads"),
            AdminCommand::Shutdown => {
                self.context.admin.stop_node();
                ResponseBody::Done
            }
            AdminCommand::PanicShard(shard) => match router.local(shard) {
                Some(handle) if handle.inbox.command(ShardCommand::Panic) => ResponseBody::Done,
                _ => error(ErrorCode::Unavailable, "the shard is not open on this node"),
            },
            AdminCommand::SkewClock(ms) => {
                router.skew_clock(ms);
                ResponseBody::Done
            }
            AdminCommand::CutPeers(cut) => match router.peers() {
                Some(peers) => {
                    peers.cut(cut);
                    ResponseBody::Done
                }
                None => error(ErrorCode::Unavailable, "the peers are not started yet"),
            },
        }
    }
}
