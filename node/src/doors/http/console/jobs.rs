//! What moves, and what a node does beside answering.

use super::super::Api;
use super::super::problem::Problem;
use super::super::request::Asked;
use super::memory::Memory;
use super::no_store;
use axum::extract::{Request, State};
use axum::response::Response;
use kvorum_core::measure::ShardCounts;
use kvorum_protocol::{MovePurpose, NodeId, PlannedMove, Receiving, ShardId, Topology};
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Serialize)]
struct JobsView {
    /// `None` while nobody speaks for the ring map.
    moves: Option<Vec<MoveView>>,
    leadership_moves: Option<u16>,
    paused: bool,
    rate_mb: Option<u32>,
    reasons: Vec<String>,
    plan_known: bool,
    snapshots: SnapshotsView,
    compaction: CompactionView,
    scrub: ScrubView,
}

#[derive(Debug, Serialize)]
struct MoveView {
    shard: String,
    from: Option<u16>,
    to: Option<u16>,
    purpose: &'static str,
    under_way: bool,
    part: Option<f64>,
    bytes: Option<u64>,
    bytes_s: Option<u64>,
    left_s: Option<u64>,
}

#[derive(Debug, Serialize)]
struct SnapshotsView {
    sent: u64,
    failed: u64,
    received: u64,
    sent_bytes: u64,
    incoming: Vec<IncomingView>,
}

#[derive(Debug, Serialize)]
struct IncomingView {
    shard: u16,
    part: f64,
    bytes: u64,
    elapsed_ms: u64,
}

#[derive(Debug, Serialize)]
struct CompactionView {
    runs: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// 0: it is off.
    rate_bytes_s: u64,
}

#[derive(Debug, Serialize)]
struct ScrubView {
    bytes: u64,
    rate_bytes_s: u64,
    damage: u64,
}

/// `GET /console/jobs`.
pub(super) async fn jobs(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    Asked::read(&request, &[])?;
    api.console.look_if_due().await;
    let (console, topology) = (&api.console, api.topology());
    let router = api.inspector.router();
    let all = router.counts().all();
    let sum = |of: fn(&ShardCounts) -> u64| all.iter().map(|(_, counts)| of(counts)).sum();
    let incoming = router.all_local().into_iter().filter_map(|handle| {
        let receiving = (*handle.receiving.lock())?;
        let Receiving { elapsed_ms, bytes, .. } = receiving;
        Some(IncomingView { shard: handle.shard.0, part: part_of(receiving), bytes, elapsed_ms })
    });
    let snapshots = SnapshotsView {
        sent: sum(|counts| counts.snapshots_sent.get()),
        failed: sum(|counts| counts.snapshots_failed.get()),
        received: sum(|counts| counts.snapshots_received.get()),
        sent_bytes: router.snapshots().lock().sent_bytes(),
        incoming: incoming.collect(),
    };
    let memory = console.memory.lock();
    let plan = memory.heard.plan();
    let moves = plan.map(|plan| plan.moves.iter().map(|one| move_view(&memory, &topology, one)).collect());
    let view = JobsView {
        moves,
        leadership_moves: plan.map(|plan| plan.leads),
        paused: router.ring().paused,
        rate_mb: router.ring().rate_mb,
        reasons: plan.iter().flat_map(|plan| &plan.reasons).map(|reason| reason.text.clone()).collect(),
        plan_known: plan.is_some(),
        snapshots,
        compaction: CompactionView {
            runs: sum(|counts| counts.compactions.get()),
            read_bytes: sum(|counts| counts.compaction_read_bytes.get()),
            written_bytes: sum(|counts| counts.compacted_bytes.get()),
            rate_bytes_s: console.config.compaction_bytes_s,
        },
        scrub: ScrubView {
            bytes: router.counts().scrubbed_bytes.get(),
            rate_bytes_s: console.config.scrub_bytes_s,
            damage: sum(|counts| counts.damage.get()),
        },
    };
    Ok(no_store(&view))
}

fn part_of(receiving: Receiving) -> f64 {
    receiving.records as f64 / receiving.records_total.max(1) as f64
}

fn move_view(memory: &Memory, topology: &Topology, planned: &PlannedMove) -> MoveView {
    let place = |node: NodeId| topology.nodes.iter().position(|known| known.id == node).map(|at| at as u16);
    let replicas = memory.heard.nodes().filter_map(|heard| heard.replica(planned.shard));
    // What the fullest replica holds is about what a copy takes.
    let bytes = replicas.map(|replica| replica.live_bytes).max();
    let receiving = planned
        .to
        .filter(|_| planned.under_way)
        .and_then(|to| memory.heard.node(to)?.replica(planned.shard)?.receiving);
    let rate = receiving.map(|got| got.bytes.saturating_mul(1_000) / got.elapsed_ms.max(1));
    let left = receiving.zip(bytes).map(|(got, bytes)| bytes as f64 * (1.0 - part_of(got)));
    MoveView {
        shard: if planned.shard == ShardId::META { "meta".to_owned() } else { planned.shard.to_string() },
        from: planned.from.and_then(place),
        to: planned.to.and_then(place),
        purpose: match planned.purpose {
            MovePurpose::Repair => "repair",
            MovePurpose::Removal => "removal",
            MovePurpose::Balance => "balance",
        },
        under_way: planned.under_way,
        part: receiving.map(part_of),
        bytes: bytes.filter(|_| planned.to.is_some()),
        bytes_s: rate,
        left_s: left.zip(rate.filter(|rate| *rate > 0)).map(|(left, rate)| (left / rate as f64).ceil() as u64),
    }
}
