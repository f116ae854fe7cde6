//! All that a console remembers, and what it tells out of that: whole to who comes, and once a second what has changed.

use super::alarms::{Alarm, OwnState, Since};
use super::counted::Counted;
use super::events::frame_of;
use super::happened::{Happened, Happening, Looked};
use super::heard::{Found, Heard};
use super::heat::{HeatMap, parts_led};
use super::history::{History, Line, Others, Point, Steps};
use super::model::{
    ClusterView, IllShard, Known, Model, NodeView, ReadPaths, RoundTrips, ShardRow, SlowView, VerdictView, WritePath,
};
use crate::runtime::node_figures::NodeFigures;
use crate::runtime::status::Inspector;
use bytes::Bytes;
use kvorum_core::clock::{Nanos, Now};
use kvorum_core::limits::SHARD_QUEUE_REQUESTS_MAX;
use kvorum_core::ring::RingMap;
use kvorum_core::routing::router::Router;
use kvorum_protocol::{ShardId, Topology};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Shards whose figures are told anew in one frame; the others follow in turn.
const SHARDS_TOLD_MAX: usize = 256;
/// Slow operations that are told at a time.
const SLOW_TOLD_MAX: usize = 100;
/// What other nodes told counts as of now for so long, in milliseconds.
const OTHERS_COUNT_FOR_MS: u64 = 6_000;

/// The memory of a console.
pub(super) struct Memory {
    /// Seconds since the process began.
    seq: u64,
    /// Changes when nodes come or go: what counts nodes by their place must be asked for again then.
    shape: u32,
    /// The nodes that this is the shape of, and where the shards are: of this second. One that is newer may have another shape.
    layout: Option<Layout>,
    pub(super) history: History,
    pub(super) heard: Heard,
    pub(super) happened: Happened,
    pub(super) heat: HeatMap,
    since: Since,
    others: Option<(Nanos, Others)>,
    /// When the nodes may be asked again.
    pub(super) looks_again_at: Option<Nanos>,
    /// What those who listen know, or whoever has asked for the state before anybody listened.
    told: Option<Told>,
    told_event: u64,
    /// The number of the slow operation that is told next.
    told_slow: u64,
    /// The shard whose figures are told next.
    turn: usize,
    /// The state, as everybody gets it, with the second and the look that it is of.
    encoded: Option<((u64, Option<Nanos>), Bytes)>,
    /// The last hours, as everybody gets them, with when they end.
    encoded_hours: Option<(u64, Bytes)>,
}

/// The cluster's nodes, and where its shards are.
#[derive(Clone)]
struct Layout {
    topology: Arc<Topology>,
    ring: Arc<RingMap>,
}

/// What was told.
struct Told {
    /// In which second.
    seq: u64,
    shape: u32,
    model: Model,
}

/// What everybody gets who asks for the state, after who he is.
#[derive(Serialize)]
struct State<'a> {
    shape: u32,
    seq: u64,
    now_ms: u64,
    #[serde(rename = "self")]
    me: Option<u16>,
    cluster: &'a ClusterView,
    verdict: Option<Verdict<'a>>,
    nodes: &'a [NodeView],
    heard_ms: &'a [Option<u64>],
    rtt_us: &'a RoundTrips,
    shards: &'a [ShardRow],
    ill: &'a [IllShard],
    series: &'a Steps,
    paths: Option<&'a WritePath>,
    reads: Option<&'a ReadPaths>,
    alarms: &'a [Alarm],
    events: Vec<&'a Happening>,
    /// The newest first.
    slow: Vec<SlowView>,
    /// Operations are kept from this duration on; `None`: none are.
    slow_ms: Option<u64>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    #[serde(flatten)]
    view: &'a VerdictView,
    age_ms: Option<u64>,
}

/// What a second has brought. What has not changed is left out.
#[derive(Serialize)]
struct Second<'a> {
    shape: u32,
    seq: u64,
    now_ms: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reload: bool,
    point: Point,
    heard_ms: &'a [Option<u64>],
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a ClusterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<(usize, &'a NodeView)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<&'a RoundTrips>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<(usize, &'a ShardRow)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ill: Option<&'a [IllShard]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Option<&'a WritePath>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<Option<&'a ReadPaths>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarms: Option<&'a [Alarm]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<&'a Happening>,
    /// Those that were kept since the last frame, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slow: Vec<SlowView>,
}

impl Memory {
    /// Of a process that begins.
    pub(super) fn new() -> Self {
        Self {
            seq: 0,
            shape: 0,
            layout: None,
            history: History::new(),
            heard: Heard::default(),
            happened: Happened::default(),
            heat: HeatMap::default(),
            since: Since::default(),
            others: None,
            looks_again_at: None,
            told: None,
            told_event: 0,
            told_slow: 0,
            turn: 0,
            encoded: None,
            encoded_hours: None,
        }
    }

    /// The same, after a failure: whoever listens finds that what he has does not go on, and asks for all anew.
    pub(super) fn anew(&self) -> Self {
        Self { seq: self.seq + 1, shape: self.shape + 1, ..Self::new() }
    }

    /// A second has passed.
    pub(super) fn handle_tick(&mut self, inspector: &Inspector, now: Now, counted: &Counted) {
        let router = inspector.router();
        self.seq += 1;
        let Layout { topology, ring } = self.lay_out(router);
        let others = self.others.filter(|(at, _)| now.monotonic.ms_since(*at) < OTHERS_COUNT_FOR_MS);
        self.history.take(now.monotonic, now.wall_ms, counted, others.as_ref().map(|(_, others)| others));
        let of_others = self
            .heard
            .nodes()
            .filter(|heard| heard.status.node != router.me() && now.monotonic.ms_since(heard.at) < OTHERS_COUNT_FOR_MS);
        let of_others = of_others.filter_map(|heard| heard.figures.as_ref()).map(|figures| &figures.ring[..]);
        let leads = || parts_led(&topology, router.me());
        self.heat.take(now.monotonic, now.wall_ms, &router.counts().ring().counts(), leads, of_others);
        let looked = Looked {
            topology: &topology,
            ring: &ring,
            up: router.peers().map(|peers| peers.up()).unwrap_or_default().into_iter().collect(),
            disk_full: inspector.pressure().disk_is_full(),
            clock_off: router.judged_clocks().off,
        };
        self.happened.handle_look(looked, now.wall_ms);
    }

    /// Takes the layout of this moment, with the shape that it has.
    fn lay_out(&mut self, router: &Router) -> Layout {
        let layout = Layout { topology: router.topology_now(), ring: router.ring() };
        let nodes = |layout: &Layout| layout.topology.nodes.iter().map(|node| node.id).collect::<Vec<_>>();
        if self.layout.as_ref().is_none_or(|before| nodes(before) != nodes(&layout)) {
            self.shape += 1;
        }
        self.layout = Some(layout.clone());
        layout
    }

    /// All nodes were asked.
    pub(super) fn handle_look(&mut self, found: Found, topology: &Topology, now: Now) {
        let mut others = Others::default();
        for (_, figures) in &found.figures {
            others.operations_s += u64::from(figures.operations_s);
            others.failed_s += u64::from(figures.failed_s);
            others.read_p99_us = others.read_p99_us.max(figures.read_p99_us);
            others.write_p99_us = others.write_p99_us.max(figures.write_p99_us);
        }
        // A sum without those that don't tell would be less than what there is, and say nothing of it.
        let has_all = found.figures.len() + 1 >= found.statuses.len();
        self.others = has_all.then_some((now.monotonic, others));
        self.heard.handle_look(found, topology, now.monotonic);
        if let Some(health) = self.heard.health() {
            self.happened.handle_verdict(&health.verdict.to_string(), &health.summary, now.wall_ms);
        }
    }

    /// This node's figures, as other consoles and this one show them.
    pub(super) fn own_figures(&self, inspector: &Inspector) -> NodeFigures {
        let (router, newest) = (inspector.router(), self.history.newest());
        let fullest = router.all_local().iter().map(|handle| handle.queued().counted).max().unwrap_or(0);
        let whole = |value: Option<f64>| value.map(|value| value.round() as u32);
        let micros = |rtt: Duration| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        let links = router.peers().map(|peers| peers.links()).unwrap_or_default();
        let limit = inspector.pressure().index_bytes_max();
        NodeFigures {
            operations_s: whole(newest.operations_s()).unwrap_or(0),
            failed_s: whole(newest.get(Line::Failed)).unwrap_or(0),
            read_p99_us: whole(newest.get(Line::ReadP99)),
            write_p99_us: whole(newest.get(Line::WriteP99)),
            sync_p99_us: whole(newest.get(Line::SyncP99)),
            queue_permille: (fullest * 1_000 / SHARD_QUEUE_REQUESTS_MAX).min(1_000) as u16,
            disk_total_bytes: router.disk_room().map(|room| room.total_bytes).filter(|total| *total != u64::MAX),
            index_limit_bytes: Some(limit).filter(|limit| *limit != u64::MAX),
            links: links.iter().map(|link| (link.node, link.rtt.filter(|_| link.up).map(micros))).collect(),
            ring: self.heat.own().to_vec(),
        }
    }

    fn model(&mut self, inspector: &Inspector, now: Now) -> Model {
        let router = inspector.router();
        let Layout { topology, ring } = self.layout.clone().unwrap_or_else(|| self.lay_out(router));
        let up = router.peers().map(|peers| peers.up()).unwrap_or_default();
        let own = self.own_figures(inspector);
        let known = Known {
            me: router.me(),
            now: now.monotonic,
            topology: &topology,
            ring: &ring,
            heard: &self.heard,
            own: &own,
            newest: self.history.newest(),
            up: &up,
            meta_leader: router.leader(ShardId::META),
        };
        let certificates = inspector.certificates();
        let own_state = OwnState {
            certificate_to_ms: u64::try_from(certificates.in_force().own().not_after_s).unwrap_or(0) * 1_000,
            certificates_refused: certificates.is_refused(),
            audit_fails: router.audit().fails(),
            damage: router.counts().all().iter().map(|(_, counts)| counts.damage.get()).sum(),
        };
        let mut model = Model::of(&known, self.history.minute(), own_state, now.wall_ms);
        self.since.stamp(&mut model.alarms, now.wall_ms);
        model
    }

    /// This node's place in the topology.
    fn own_place(&self, inspector: &Inspector) -> Option<u16> {
        let me = inspector.router().me();
        self.layout.as_ref()?.topology.nodes.iter().position(|node| node.id == me).map(|at| at as u16)
    }

    fn look_age_ms(&self, now: Now) -> Option<u64> {
        self.heard.looked_at().map(|at| now.monotonic.ms_since(at))
    }

    /// The state, as everybody gets it: an object. `listened`: somebody listens, and is told what changes.
    pub(super) fn state(&mut self, inspector: &Inspector, now: Now, listened: bool) -> Bytes {
        // A look that has come in the meantime is news.
        let stamp = (self.seq, self.heard.looked_at());
        if let Some((_, bytes)) = self.encoded.as_ref().filter(|(of, _)| *of == stamp) {
            return bytes.clone();
        }
        let model = self.model(inspector, now);
        let me = self.own_place(inspector);
        let state = State {
            shape: self.shape,
            seq: self.seq,
            now_ms: now.wall_ms,
            me,
            cluster: &model.cluster,
            verdict: model.verdict.as_ref().map(|view| Verdict { view, age_ms: self.look_age_ms(now) }),
            nodes: &model.nodes,
            heard_ms: &model.heard_ms,
            rtt_us: &model.rtt_us,
            shards: &model.shards,
            ill: &model.ill,
            series: self.history.seconds(),
            paths: model.paths.as_ref(),
            reads: model.reads.as_ref(),
            alarms: &model.alarms,
            events: self.happened.newest().collect(),
            slow: slow_operations(inspector, 0, me),
            slow_ms: Some(inspector.router().slow().slower_than_ns())
                .filter(|ns| *ns != u64::MAX)
                .map(|ns| ns / 1_000_000),
        };
        let bytes = Bytes::from(serde_json::to_vec(&state).unwrap_or_default());
        self.encoded = Some((stamp, bytes.clone()));
        if !listened {
            // The next frame says what has changed since.
            self.told = Some(Told { seq: self.seq, shape: self.shape, model });
            self.told_event = self.happened.last();
            self.told_slow = next_slow(inspector);
        }
        bytes
    }

    /// The last six hours, encoded anew when ten seconds have passed.
    pub(super) fn history_of_hours(&mut self) -> Bytes {
        let tens = self.history.tens();
        if let Some((_, bytes)) = self.encoded_hours.as_ref().filter(|(to_ms, _)| *to_ms == tens.to_ms()) {
            return bytes.clone();
        }
        let bytes = Bytes::from(serde_json::to_vec(tens).unwrap_or_default());
        self.encoded_hours = Some((tens.to_ms(), bytes.clone()));
        bytes
    }

    /// The frame of this second.
    pub(super) fn frame(&mut self, inspector: &Inspector, now: Now) -> Bytes {
        let model = self.model(inspector, now);
        let told = self.told.take().filter(|told| told.seq + 1 == self.seq);
        let reload = told.as_ref().is_some_and(|told| told.shape != self.shape);
        // Nobody who listens has a state of a second ago: a gap in the numbers tells them to ask for it.
        let was = told.filter(|_| !reload).map_or_else(|| model.clone(), |told| told.model);
        let (shards, rows) = changed_shards(&was.shards, &model.shards, &mut self.turn);
        let news = |differs: bool| differs.then_some(());
        let second = Second {
            shape: self.shape,
            seq: self.seq,
            now_ms: now.wall_ms,
            reload,
            point: self.history.newest(),
            heard_ms: &model.heard_ms,
            cluster: news(was.cluster != model.cluster).map(|()| &model.cluster),
            verdict: news(was.verdict != model.verdict)
                .and(model.verdict.as_ref())
                .map(|view| Verdict { view, age_ms: self.look_age_ms(now) }),
            nodes: model.nodes.iter().enumerate().filter(|(at, node)| was.nodes.get(*at) != Some(*node)).collect(),
            rtt_us: news(was.rtt_us != model.rtt_us).map(|()| &model.rtt_us),
            shards: shards.iter().map(|at| (*at, &model.shards[*at])).collect(),
            ill: news(was.ill != model.ill).map(|()| &model.ill[..]),
            paths: news(was.paths != model.paths).map(|()| model.paths.as_ref()),
            reads: news(was.reads != model.reads).map(|()| model.reads.as_ref()),
            alarms: news(was.alarms != model.alarms).map(|()| &model.alarms[..]),
            events: self.happened.newest().take_while(|event| event.n > self.told_event).collect(),
            slow: slow_operations(inspector, self.told_slow, self.own_place(inspector)),
        };
        let frame = frame_of(self.seq, &second);
        drop(second);
        self.told_event = self.happened.last();
        self.told_slow = next_slow(inspector);
        self.told = Some(Told { seq: self.seq, shape: self.shape, model: Model { shards: rows, ..model } });
        frame
    }
}

/// The slow operations of this node from a number on, the newest first.
fn slow_operations(inspector: &Inspector, from: u64, me: Option<u16>) -> Vec<SlowView> {
    let (kept, _) = inspector.router().slow().since(from);
    kept.iter().rev().take(SLOW_TOLD_MAX).map(|entry| SlowView::new(entry, me)).collect()
}

/// The number that the next slow operation will have.
fn next_slow(inspector: &Inspector) -> u64 {
    inspector.router().slow().since(u64::MAX).1
}

/// The shards that are told anew, and what listeners know of all shards then: first those with another leader, term or replicas, then
/// in turn those with other figures.
fn changed_shards(was: &[ShardRow], is: &[ShardRow], turn: &mut usize) -> (Vec<usize>, Vec<ShardRow>) {
    let mut told: Vec<usize> = (0..is.len()).filter(|at| !was[*at].stands_as(&is[*at])).collect();
    told.truncate(SHARDS_TOLD_MAX);
    let stand: std::collections::BTreeSet<usize> = told.iter().copied().collect();
    let begin = if is.is_empty() { 0 } else { *turn % is.len() };
    for at in (begin..is.len()).chain(0..begin) {
        if told.len() >= SHARDS_TOLD_MAX {
            *turn = at;
            break;
        }
        if was[at] != is[at] && !stand.contains(&at) {
            told.push(at);
        }
    }
    let mut rows = was.to_vec();
    told.iter().for_each(|at| rows[*at] = is[*at].clone());
    (told, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: u64) -> Vec<ShardRow> {
        let row = |_| ShardRow {
            leader: Some(0),
            term: 1,
            replicas: vec![0, 1, 2],
            keys: Some(keys),
            bytes: None,
            lag: None,
            writes_s: None,
        };
        (0..4_096).map(row).collect()
    }

    #[test]
    fn leaders_are_told_first_and_figures_in_turn() {
        let (mut known, mut turn) = (rows(1), 0);
        let mut now = rows(2);
        now[4_000].leader = None;
        let (told, after) = changed_shards(&known, &now, &mut turn);
        assert_eq!((told.len(), told[0], told[1]), (SHARDS_TOLD_MAX, 4_000, 0));
        known = after;
        let mut frames = 1;
        while known != now {
            let (told, after) = changed_shards(&known, &now, &mut turn);
            assert!(!told.is_empty() && told.len() <= SHARDS_TOLD_MAX);
            known = after;
            frames += 1;
        }
        assert_eq!(frames, 16, "each is told once");
        assert!(changed_shards(&known, &now, &mut turn).0.is_empty());
    }
}
