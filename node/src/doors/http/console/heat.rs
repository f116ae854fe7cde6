//! What is hot: operations by part of the ring over the last ten minutes, and the keys that are asked for most.

use super::super::Api;
use super::super::entry::Text;
use super::super::problem::Problem;
use super::super::request::Asked;
use super::no_store;
use axum::extract::{Request, State};
use axum::response::Response;
use kvorum_core::clock::Nanos;
use kvorum_core::measure::heat::RING_PARTS;
use kvorum_protocol::{HotKey, KeyClasses, NodeId, Topology};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Steps that are kept.
const STEPS: usize = 60;
const STEP_MS: u64 = 10_000;
/// Most hot keys that are told.
const TOP_MAX: usize = 64;

/// Operations per second by part of the ring; `None` where nobody told.
type Row = Box<[Option<u32>; RING_PARTS]>;

/// Steps of ten seconds.
pub(super) struct HeatMap {
    rows: VecDeque<Row>,
    /// This node's part of the newest step.
    own: Vec<Option<u32>>,
    began: Option<(Nanos, [u64; RING_PARTS])>,
    to_ms: u64,
}

impl Default for HeatMap {
    fn default() -> Self {
        Self { rows: VecDeque::with_capacity(STEPS), own: Vec::new(), began: None, to_ms: 0 }
    }
}

impl HeatMap {
    /// Takes what was counted up to now, about once a second. `leads`: parts of the ring in which this node leads a shard. `others`: what
    /// other nodes told of their last step.
    pub(super) fn take<'a>(
        &mut self,
        now: Nanos,
        wall_ms: u64,
        counts: &[u64; RING_PARTS],
        leads: impl FnOnce() -> [bool; RING_PARTS],
        others: impl Iterator<Item = &'a [Option<u32>]>,
    ) {
        let Some((began, was)) = &self.began else {
            self.began = Some((now, *counts));
            return;
        };
        let past_ms = now.ms_since(*began);
        // A tick that comes a moment early is a tick.
        if past_ms + 500 < STEP_MS {
            return;
        }
        let leads = leads();
        let own = |part: usize| {
            let rate = counts[part].saturating_sub(was[part]) as f64 * 1_000.0 / past_ms as f64;
            (leads[part] || rate > 0.0).then_some(rate.round() as u32)
        };
        let mut row: Row = Box::new(std::array::from_fn(own));
        self.own = row.to_vec();
        for other in others {
            for (cell, rate) in row.iter_mut().zip(other) {
                *cell = match (*cell, *rate) {
                    (Some(own), Some(rate)) => Some(own.saturating_add(rate)),
                    (own, rate) => own.or(rate),
                };
            }
        }
        if self.rows.len() == STEPS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
        self.to_ms = wall_ms;
        self.began = Some((now, *counts));
    }

    /// This node's part of the newest step; empty before it has ended.
    pub(super) fn own(&self) -> &[Option<u32>] {
        &self.own
    }

    /// As the page gets it.
    pub(super) fn view(&self) -> HeatView {
        let cells = (0..RING_PARTS).map(|part| self.rows.iter().map(|row| row[part]).collect()).collect();
        HeatView { step_ms: STEP_MS, to_ms: self.to_ms, buckets: RING_PARTS, steps: STEPS, cells, top: None }
    }
}

/// The parts of the ring in which a node leads a shard.
pub(super) fn parts_led(topology: &Topology, node: NodeId) -> [bool; RING_PARTS] {
    let mut parts = [false; RING_PARTS];
    let shards = topology.shards.len().max(1);
    let me = topology.nodes.iter().position(|known| known.id == node);
    let led =
        topology.shards.iter().enumerate().filter(|(_, shard)| shard.leader.map(usize::from) == me && me.is_some());
    for (shard, _) in led {
        let (from, to) = (shard * RING_PARTS / shards, ((shard + 1) * RING_PARTS).div_ceil(shards));
        parts[from..to].fill(true);
    }
    parts
}

/// What `GET /console/heat` answers.
#[derive(Debug, Serialize)]
pub(super) struct HeatView {
    step_ms: u64,
    to_ms: u64,
    buckets: usize,
    steps: usize,
    /// By part, the oldest step first.
    cells: Vec<Vec<Option<u32>>>,
    top: Option<Vec<TopKey>>,
}

/// A key that is asked for much.
#[derive(Debug, Serialize)]
struct TopKey {
    shard: u16,
    key: Option<String>,
    key_base64: Option<String>,
    key_bytes: u32,
    writes: bool,
    per_second: u64,
    share: f64,
    node: Option<u16>,
}

/// `GET /console/heat`.
pub(super) async fn heat(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    api.console.look_if_due().await;
    let mut view = api.console.heat();
    // Keys are data: who may not read them all sees none.
    if asked.whose.access.may(KeyClasses::READ, b"") {
        view.top = Some(top(&api));
    }
    Ok(no_store(&view))
}

fn top(api: &Api) -> Vec<TopKey> {
    let topology = api.topology();
    let as_json = |(node, hot): (NodeId, HotKey)| {
        let Text { plain, base64 } = Text::of(&hot.key);
        TopKey {
            shard: hot.shard.0,
            key: plain,
            key_base64: base64,
            key_bytes: hot.key_bytes,
            writes: hot.writes,
            per_second: hot.per_second,
            share: f64::from(hot.share_permille) / 1_000.0,
            node: topology.nodes.iter().position(|known| known.id == node).map(|at| at as u16),
        }
    };
    let mut hot = api.console.hot_keys();
    hot.sort_by(|(_, a), (_, b)| b.per_second.cmp(&a.per_second).then_with(|| a.key.cmp(&b.key)));
    hot.truncate(TOP_MAX);
    hot.into_iter().map(as_json).collect()
}

#[cfg(test)]
mod tests {
    use super::super::heard::tests::{node, topology};
    use super::*;

    #[test]
    fn steps_are_rates_and_what_nobody_tells_is_none() {
        let mut map = HeatMap::default();
        let mut counts = [0; RING_PARTS];
        let leads = || std::array::from_fn(|part| part < 2);
        let other: Vec<Option<u32>> = (0..RING_PARTS).map(|part| (part == 1 || part == 5).then_some(9)).collect();
        for second in 0..=10 {
            map.take(Nanos(1).after_ms(second * 1_000), second, &counts, leads, [&other[..]].into_iter());
            counts[1] += 50;
        }
        let cells = map.view().cells;
        assert_eq!(
            [0, 1, 2, 5].map(|part| cells[part].clone()),
            [vec![Some(0)], vec![Some(59)], vec![None], vec![Some(9)]]
        );
        assert_eq!((map.own()[1], map.own()[5]), (Some(50), None));
        for step in 2..200 {
            map.take(Nanos(1).after_ms(step * 10_000), step, &counts, leads, std::iter::empty());
        }
        assert_eq!((map.rows.len(), map.rows.capacity()), (STEPS, STEPS));
    }

    #[test]
    fn parts_follow_the_shards() {
        let led = |shards| parts_led(&topology(3, shards), node(1)).iter().filter(|led| **led).count();
        // Of four shards it leads 0 and 3; of 4,096 every third, so some in each part.
        assert_eq!((led(4), led(4_096), led(1)), (128, 256, 256));
        assert!(!parts_led(&topology(3, 4), node(9)).contains(&true));
    }
}
