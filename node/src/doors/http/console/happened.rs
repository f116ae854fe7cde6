//! What happened, as this node saw it: the differences of two looks at what it knows anyhow. Nobody is asked for it. Pure.

use kvorum_core::ring::{NodeState, RingMap};
use kvorum_protocol::{NodeId, Topology};
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Most events that are kept.
const EVENTS_MAX: usize = 200;
/// More shards than these that change their leader at once are told of as a number.
const SHARDS_NAMED_MAX: usize = 4;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Happening {
    /// Counts all events of this process, from 1.
    pub(super) n: u64,
    /// Unix time in milliseconds.
    pub(super) at_ms: u64,
    /// For programs.
    pub(super) kind: &'static str,
    pub(super) text: String,
    /// As the topology of that time counted it.
    pub(super) node: Option<u16>,
    pub(super) shard: Option<u16>,
}

/// What was seen last.
struct Seen {
    topology: Arc<Topology>,
    ring: Arc<RingMap>,
    up: BTreeSet<NodeId>,
    disk_full: bool,
    clock_off: bool,
}

/// What is looked at.
pub(super) struct Looked<'a> {
    pub(super) topology: &'a Arc<Topology>,
    pub(super) ring: &'a Arc<RingMap>,
    pub(super) up: BTreeSet<NodeId>,
    pub(super) disk_full: bool,
    pub(super) clock_off: bool,
}

/// The newest events, and what they are differences to.
#[derive(Default)]
pub(super) struct Happened {
    events: VecDeque<Happening>,
    last: u64,
    seen: Option<Seen>,
    verdict: Option<String>,
}

impl Happened {
    /// The newest events, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Happening> {
        self.events.iter().rev()
    }

    /// The number of the newest event; 0 before the first one.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Something happened that no difference tells.
    pub(super) fn note(&mut self, at_ms: u64, kind: &'static str, text: String) {
        self.add(at_ms, kind, text, None, None);
    }

    fn add(&mut self, at_ms: u64, kind: &'static str, text: String, node: Option<u16>, shard: Option<u16>) {
        self.last += 1;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Happening { n: self.last, at_ms, kind, text, node, shard });
    }

    /// The cluster stands so, after a look at all nodes.
    pub(super) fn handle_verdict(&mut self, word: &str, summary: &str, at_ms: u64) {
        let was = self.verdict.replace(word.to_owned());
        if was.is_some_and(|was| was != word) {
            self.add(at_ms, "verdict", format!("{word}: {summary}"), None, None);
        }
    }

    /// Takes what is known now.
    pub(super) fn handle_look(&mut self, looked: Looked<'_>, at_ms: u64) {
        let Looked { topology, ring, up, disk_full, clock_off } = looked;
        let seen = Seen { topology: Arc::clone(topology), ring: Arc::clone(ring), up, disk_full, clock_off };
        let Some(was) = self.seen.replace(seen) else { return };
        if !Arc::ptr_eq(&was.topology, topology) {
            self.compare_leaders(&was.topology, topology, at_ms);
        }
        if was.ring.epoch != ring.epoch {
            self.compare_maps(&was.ring, ring, topology, at_ms);
        }
        let now_up = self.seen.as_ref().map(|seen| seen.up.clone()).unwrap_or_default();
        let place = |node: NodeId| topology.nodes.iter().position(|known| known.id == node);
        for (nodes, kind, what) in [
            (was.up.difference(&now_up), "node_down", "is no longer connected"),
            (now_up.difference(&was.up), "node_up", "is connected"),
        ] {
            for node in nodes {
                let at = place(*node);
                let name = at.map_or_else(|| node.to_string(), |at| topology.nodes[at].name.clone());
                self.add(at_ms, kind, format!("{name} {what}"), at.map(|at| at as u16), None);
            }
        }
        if was.disk_full != disk_full {
            let text = if disk_full { "the disk of this node is full" } else { "the disk of this node has room again" };
            self.add(at_ms, "disk", text.to_owned(), None, None);
        }
        if was.clock_off != clock_off {
            let text = if clock_off { "this node's clock is off" } else { "this node's clock is right again" };
            self.add(at_ms, "clock", text.to_owned(), None, None);
        }
    }

    fn compare_leaders(&mut self, was: &Topology, is: &Topology, at_ms: u64) {
        let id = |topology: &Topology, at: Option<u16>| Some(topology.nodes.get(usize::from(at?))?.id);
        let name = |topology: &Topology, at: Option<u16>| {
            at.and_then(|at| topology.nodes.get(usize::from(at))).map_or("none", |node| node.name.as_str()).to_owned()
        };
        let pairs = (0_u16..).zip(was.shards.iter().zip(&is.shards));
        let moved: Vec<_> = pairs.filter(|(_, (a, b))| id(was, a.leader) != id(is, b.leader)).collect();
        if moved.len() > SHARDS_NAMED_MAX {
            let lost = moved.iter().filter(|(_, (_, b))| b.leader.is_none()).count();
            let found = moved.len() - lost;
            for (count, what) in [(found, "have another leader"), (lost, "have no known leader")] {
                if count > 0 {
                    let shards = if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") };
                    let what = if count == 1 { what.replacen("have", "has", 1) } else { what.to_owned() };
                    self.add(at_ms, "leader", format!("{shards} {what}"), None, None);
                }
            }
            return;
        }
        for (shard, (a, b)) in moved {
            let text = format!("shard {shard}: leadership {} to {}", name(was, a.leader), name(is, b.leader));
            self.add(at_ms, "leader", text, b.leader, Some(shard));
        }
    }

    fn compare_maps(&mut self, was: &RingMap, is: &RingMap, topology: &Topology, at_ms: u64) {
        let before = self.last;
        let place = |id: uuid::Uuid| topology.nodes.iter().position(|known| known.id.0 == id).map(|at| at as u16);
        for node in &is.nodes {
            let (name, at) = (&node.name, place(node.id));
            let Some(old) = was.nodes.iter().find(|old| old.id == node.id) else {
                self.add(at_ms, "joined", format!("{name} has joined"), at, None);
                continue;
            };
            if old.state != node.state {
                let what = match node.state {
                    NodeState::Up => "is as any other again",
                    NodeState::Draining => "is drained",
                    NodeState::Removing => "is being removed",
                };
                self.add(at_ms, "drain", format!("{name} {what}"), at, None);
            }
            if old.down != node.down {
                let (kind, what) = if node.down { ("node_down", "is down") } else { ("node_up", "is up again") };
                self.add(at_ms, kind, format!("{name} {what}, as the ring map says"), at, None);
            }
        }
        for gone in was.nodes.iter().filter(|old| !is.nodes.iter().any(|node| node.id == old.id)) {
            self.add(at_ms, "left", format!("{} has left", gone.name), None, None);
        }
        let moving = |map: &RingMap| map.groups().filter(|group| group.is_moving()).count();
        let (old, new) = (moving(was), moving(is));
        if old != new {
            self.add(at_ms, "move", format!("{new} groups are on their way to other nodes ({old} before)"), None, None);
        }
        if self.last == before {
            self.add(at_ms, "map", format!("ring map {} is in force", is.epoch), None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::heard::tests::node;
    use super::super::model::tests::Scene;
    use super::*;

    struct World {
        happened: Happened,
        topology: Arc<Topology>,
        ring: Arc<RingMap>,
    }

    impl World {
        fn new(shards: u16) -> Self {
            let scene = Scene::new(3, shards);
            let mut world =
                Self { happened: Happened::default(), topology: Arc::new(scene.topology), ring: Arc::new(scene.ring) };
            world.look(&[2, 3]);
            world
        }

        fn look(&mut self, up: &[u128]) -> Vec<String> {
            let before = self.happened.last();
            let up = up.iter().map(|number| node(*number)).collect();
            let (topology, ring) = (&self.topology, &self.ring);
            let looked = Looked { topology, ring, up, disk_full: false, clock_off: false };
            self.happened.handle_look(looked, 7);
            let newest = self.happened.newest().filter(|event| event.n > before);
            newest.map(|event| format!("{}: {}", event.kind, event.text)).collect()
        }
    }

    #[test]
    fn leaders_nodes_and_maps_are_told() {
        let mut world = World::new(2);
        assert!(world.look(&[2, 3]).is_empty(), "nothing has changed");
        assert_eq!(world.look(&[2]), ["node_down: node-3 is no longer connected"]);
        let mut topology = Topology::clone(&world.topology);
        topology.shards[1].leader = Some(2);
        topology.shards[0].leader = None;
        world.topology = Arc::new(topology);
        assert_eq!(
            world.look(&[2]),
            ["leader: shard 1: leadership node-2 to node-3", "leader: shard 0: leadership node-1 to none"]
        );
        let mut ring = RingMap::clone(&world.ring);
        ring.epoch += 1;
        ring.nodes[2].down = true;
        world.ring = Arc::new(ring.clone());
        assert_eq!(world.look(&[2]), ["node_down: node-3 is down, as the ring map says"]);
        ring.epoch += 1;
        world.ring = Arc::new(ring);
        assert_eq!(world.look(&[2, 3]), ["node_up: node-3 is connected", "map: ring map 3 is in force"]);
    }

    #[test]
    fn many_at_once_are_a_number_and_the_oldest_are_forgotten() {
        let mut world = World::new(64);
        let mut topology = Topology::clone(&world.topology);
        topology.shards.iter_mut().for_each(|shard| shard.leader = None);
        world.topology = Arc::new(topology);
        assert_eq!(world.look(&[2, 3]), ["leader: 64 shards have no known leader"]);
        for nth in 0..1_000 {
            world.happened.note(nth, "login", format!("{nth}"));
        }
        assert_eq!(world.happened.newest().count(), EVENTS_MAX);
        assert_eq!(world.happened.newest().next().map(|event| event.n), Some(1_001));
    }

    #[test]
    fn a_verdict_is_told_when_it_changes() {
        let mut happened = Happened::default();
        for (word, told) in [("OK", 0), ("OK", 0), ("HEALING", 1), ("HEALING", 1), ("OK", 2)] {
            happened.handle_verdict(word, "so", 1);
            assert_eq!(happened.last(), told);
        }
    }
}
