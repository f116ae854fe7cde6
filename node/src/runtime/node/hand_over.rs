//! Handing leadership over before a node stops.

use kvorum_core::consensus::Role;
use kvorum_core::limits::{HAND_OVER_AGAIN, STOP_ALONE_TIMEOUT, STOP_TIMEOUT};
use kvorum_core::routing::router::Router;
use kvorum_core::shard::ShardHandle;
use kvorum_core::shard::host::ShardOutlet as _;
use kvorum_core::shard::inbox::ShardCommand;
use kvorum_protocol::{NodeId, ReplicaId, ShardId};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How often it is looked at what is still led here.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Hands over every shard that is led here, all at once, and waits until their new leaders are known, but not for long: a
/// cluster that stops as a whole has nobody to hand over to.
pub(super) async fn hand_over(router: &Router) {
    let began = tokio::time::Instant::now();
    let mut asked_at = None;
    loop {
        let left = to_hand_over(router);
        if left.is_empty() {
            return info!(took = ?began.elapsed(), "leadership is handed over");
        }
        let somebody_can = left.iter().any(|handle| has_fit_peer(router, handle.shard));
        let until = began + if somebody_can { STOP_TIMEOUT } else { STOP_ALONE_TIMEOUT };
        let now = tokio::time::Instant::now();
        if now >= until {
            let shards: Vec<ShardId> = left.iter().map(|handle| handle.shard).collect();
            let why = if somebody_can { "nobody took over in time" } else { "nobody fit is there to take over" };
            return warn!(?shards, why, "leadership of some shards is not handed over");
        }
        if asked_at.is_none_or(|at| now - at >= HAND_OVER_AGAIN) {
            asked_at = Some(now);
            for handle in &left {
                handle.inbox.command(ShardCommand::HandOver);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The replicas that lead a shard which others hold, too, and those whose next leader this node does not know yet although
/// there may be one.
fn to_hand_over(router: &Router) -> Vec<Arc<ShardHandle>> {
    let ring = router.ring();
    let mut all = router.all_local();
    all.retain(|handle| {
        let leads = handle.status.lock().role == Role::Leader;
        let awaits = || router.leader(handle.shard).is_none() && has_fit_peer(router, handle.shard);
        ring.replicas(handle.shard).len() > 1 && (leads || awaits())
    });
    all
}

/// Whether another node that holds a replica of the shard is connected, and fit to lead.
fn has_fit_peer(router: &Router, shard: ShardId) -> bool {
    let (ring, me) = (router.ring(), router.me());
    let is_up = |node: NodeId| router.peers().is_some_and(|peers| peers.is_up(node));
    ring.replicas(shard).iter().map(|held| ReplicaId(held.replica)).any(|replica| {
        let node = ring.node_of(shard, replica).filter(|node| *node != me);
        node.is_some_and(is_up) && router.is_fit(shard, replica)
    })
}
