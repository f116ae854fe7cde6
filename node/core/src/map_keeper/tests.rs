//! What a keeper tells its peers, on a node whose replica of the map's group is not open.

use super::*;
use crate::clock::{Clock, Now};
use crate::disk::memory::MemoryDisk;
use crate::ring::elastic_tests::cluster;
use crate::routing::network::PeerNetwork;
use kvorum_protocol::ClusterId;
use kvorum_protocol::peer::{PeerHello, RespAddresses};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Now {
        Now::default()
    }

    fn monotonic(&self) -> Nanos {
        Nanos(0)
    }
}

/// Keeps what is sent to the nodes 2 to 7.
#[derive(Default)]
struct KeptMessages {
    all: Mutex<Vec<(NodeId, PeerMessage)>>,
    is_full: AtomicBool,
}

impl PeerNetwork for KeptMessages {
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(SendError::Full);
        }
        self.all.lock().push((to, message.clone()));
        Ok(())
    }

    fn up(&self) -> Vec<NodeId> {
        (2..=7).map(node).collect()
    }

    fn is_up(&self, _node: NodeId) -> bool {
        true
    }

    fn cut(&self, _cut: bool) {}
}

fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

/// A node of seven, of which the first five hold the map's group.
struct OneOfSeven {
    router: Arc<Router>,
    sent: Arc<KeptMessages>,
    keeper: MapKeeper,
    ring: RingMap,
}

/// What was sent, by peer.
#[derive(Default, PartialEq, Eq, Debug)]
struct Told {
    /// Who was sent a map, and of which epoch.
    maps: Vec<(u128, u64)>,
    /// Who was sent a report.
    reports: Vec<u128>,
}

impl OneOfSeven {
    fn new(me: u128) -> Self {
        let ring = cluster(7, 4);
        let sent = Arc::<KeptMessages>::default();
        let router = Router::new(node(me), ring.clone(), Arc::new(NoClock), 1);
        router.set_peers(Arc::clone(&sent) as _);
        let own = Own {
            folder: FolderId(Uuid::from_u128(1_000 + me)),
            address: String::new(),
            peer_address: String::new(),
            client: ClientId(Uuid::nil()),
        };
        let keeper = MapKeeper::new(Arc::clone(&router), MemoryDisk::new(), own, ring.clone(), false);
        let mut this = Self { router, sent, keeper, ring };
        (2..=7).for_each(|peer| this.meets(peer, 0));
        this
    }

    fn meets(&mut self, peer: u128, ms: u64) {
        let hello = PeerHello {
            levels: Levels::OWN,
            cluster: ClusterId(self.ring.cluster),
            node: node(peer),
            disk: FolderId(Uuid::from_u128(1_000 + peer)),
            starts: 1,
            process: 1,
            knows: None,
            replaced: false,
            client: String::new(),
            resp: RespAddresses::default(),
            program: String::new(),
            more: Bytes::new(),
        };
        self.router.peer_table().met(&hello, None);
        self.router.peer_table().connected(node(peer), at(ms));
    }

    /// A peer reports that it has the map of this epoch.
    fn has(&self, peer: u128, epoch: u64) {
        let report = NodeReport { epoch, ..NodeReport::default() };
        self.router.peer_table().note_report(node(peer), report, at(0));
    }

    fn follow(&mut self, epoch: u64) {
        assert!(self.router.set_ring(RingMap { epoch, ..self.ring.clone() }));
    }

    fn look(&mut self, ms: u64) -> Told {
        self.keeper.look(at(ms));
        let mut told = Told::default();
        for (peer, message) in self.sent.all.lock().drain(..) {
            match message {
                PeerMessage::Ring(map) => {
                    told.maps.push((peer.0.as_u128(), RingMap::from_bytes(&map).unwrap().epoch));
                }
                PeerMessage::Report(_) => told.reports.push(peer.0.as_u128()),
                _ => {}
            }
        }
        told
    }
}

fn at(ms: u64) -> Nanos {
    Nanos(60_000_000_000).after_ms(ms)
}

#[test]
fn a_holder_of_the_group_sends_a_new_map_at_once_to_those_that_do_not_have_it() {
    let mut this = OneOfSeven::new(1);
    assert!(this.ring.replica_on(ShardId::META, node(1)).is_some());
    this.follow(9);
    (2..=7).for_each(|peer| this.has(peer, 8));
    this.has(3, 9);
    this.has(4, 10);
    this.sent.is_full.store(true, Ordering::Relaxed);
    assert_eq!(this.look(0).maps, []);
    this.sent.is_full.store(false, Ordering::Relaxed);
    assert_eq!(this.look(100).maps, [(2, 9), (5, 9), (6, 9), (7, 9)], "there was no room before");
    [2, 5, 6].into_iter().for_each(|peer| this.has(peer, 9));
    assert_eq!(this.look(10_000).maps, []);
    assert_eq!(this.look(10_100).maps, [(7, 9)], "it still lags");
    this.follow(10);
    assert_eq!(this.look(10_200).maps, [2, 3, 5, 6, 7].map(|peer| (peer, 10)));
}

#[test]
fn who_does_not_hold_the_group_sends_a_map_only_to_those_that_lag_for_long() {
    let mut this = OneOfSeven::new(1);
    // The same nodes under other names: this one is not among those that hold the group.
    let own_slot = this.ring.slot_of(node(1));
    this.ring.meta.replicas.retain(|held| Some(held.node) != own_slot);
    assert!(this.ring.replica_on(ShardId::META, node(1)).is_none());
    this.follow(9);
    (2..=7).for_each(|peer| this.has(peer, 8));
    assert_eq!(this.look(0).maps, []);
    (2..=6).for_each(|peer| this.has(peer, 9));
    assert_eq!(this.look(9_900).maps, []);
    assert_eq!(this.look(10_000).maps, [(7, 9)]);
    assert_eq!(this.look(19_900).maps, []);
    assert_eq!(this.look(20_000).maps, [(7, 9)]);
}

#[test]
fn all_peers_hear_now_and_then_which_map_a_node_has() {
    let mut this = OneOfSeven::new(1);
    let (all, holders): (Vec<u128>, Vec<u128>) = (
        (2..=7).collect(),
        (2..=7).filter(|peer| this.ring.replica_on(ShardId::META, node(*peer)).is_some()).collect(),
    );
    assert!(holders.len() < all.len());
    assert_eq!(this.look(0).reports, all);
    assert_eq!(this.look(500).reports, []);
    assert_eq!(this.look(1_000).reports, all, "it has no map, and waits for one");
    this.follow(9);
    assert_eq!(this.look(1_100).reports, all, "there it is");
    assert_eq!(this.look(1_900).reports, []);
    assert_eq!(this.look(2_000).reports, holders);
    this.meets(7, 2_050);
    assert_eq!(this.look(2_100).reports, [7]);
    assert_eq!(this.look(3_000).reports, holders);
    assert_eq!(this.look(6_100).reports, all);
}
