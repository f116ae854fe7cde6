//! The keeper of the ring map on this node, as a value that its owner drives: it starts no task and reads no clock. The
//! node's actor (`kvorum_node::runtime::meta`) and the simulator own one alike.
//!
//! The map is the value of one key of the `meta` group, a shard like the others but for its number. Its leader writes
//! the first map, computed from the configuration, and changes it when a node's data folder becomes known, is another one
//! than before, or a replica can't be used any more ([`crate::ring::decide`] decides, this module proposes). Every node
//! puts newer maps in force, from its own replica of the group or from its peers, which pass them on; and keeps a copy in
//! its data folder so that a restart needn't wait for the group.

mod asked;
mod keys;
mod spread;

use self::asked::LastAsked;
use self::spread::{MapSpread, spread_ms};
use crate::auth::keeper::AUTH_LEVEL;
use crate::clock::Nanos;
use crate::disk::{Disk, DiskError};
use crate::folder::mirrored::{self, KeptError};
use crate::meta_key::{MetaKey, speaks_for_group};
use crate::ring::decide::{self, Change, DiskOfNode, MapDecision, Seen};
use crate::ring::detect::{Heard, NodeWatch};
use crate::ring::outlook;
use crate::ring::sealing::{KeysOfNode, SEALING_LEVEL};
use crate::ring::verbs::{self, Verb, VerbRefusal};
use crate::ring::{PlacementError, RING_KEY, RingError, RingMap};
use crate::routing::map_news::Newest;
use crate::routing::network::SendError;
use crate::routing::router::{NEWS_LEVEL, Router};
use crate::sealing::{KeyFailure, NodeKeys};
use crate::shard::ShardHandle;
use bytes::Bytes;
use kvorum_protocol::peer::{Levels, PeerMessage};
use kvorum_protocol::report::NodeReport;
use kvorum_protocol::{ClientId, ClusterPlan, FolderId, NodeId, ShardId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The name of the map's copy in the data folder.
pub const RING_COPY: &str = "ring.json";

/// The ring map that this node saw last; `None` if it never saw one.
///
/// # Errors
/// If the disk fails, or all that was written down is damaged.
pub fn read_copy(disk: &dyn Disk) -> Result<Option<RingMap>, KeptError<RingError>> {
    mirrored::read(disk, RING_COPY, RingMap::from_copy)
}

/// Writes a ring map down for the next start.
///
/// # Errors
/// If the disk fails.
pub fn write_copy(disk: &dyn Disk, ring: &RingMap) -> Result<(), DiskError> {
    mirrored::write(disk, RING_COPY, &ring.to_copy())
}
/// How often the owner should let the keeper look. Local and cheap.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After a proposal the keeper waits this long for the key to change before it proposes again; twice as long after each
/// further one.
const PROPOSE_AGAIN_MIN_MS: u64 = 500;
/// The longest such wait.
const PROPOSE_AGAIN_MAX_MS: u64 = 8_000;
/// How often the peers that hold the map's group are sent this node's report,
const REPORT_EVERY_MS: u64 = 1_000;
/// and how often all are, to know that they need not send it the map. One that has no map tells all each second.
const REPORT_TO_ALL_EVERY_MS: u64 = 5_000;
/// How often it is looked at where everything should be, which takes up to 50 ms with 100 nodes and 512 shards.
const PLACE_EVERY_MS: u64 = 1_000;

/// What a look at the map asks the owner to do.
#[derive(Debug, Default)]
pub struct Looked {
    /// A newer map is in force: run what it asks for.
    pub in_force: Option<RingMap>,
    /// What this node, which speaks for the group, wants to change, and the epoch of the map that it has proposed.
    pub proposed: Option<(Option<Change>, u64)>,
    /// What is to be replaced, and waits.
    pub waits: bool,
    /// Open this node's replica of `meta`, to found the group.
    pub bootstraps: bool,
    /// The node was removed from the cluster, as the map says, or a majority of those who should know.
    pub removed: bool,
    /// An operator has recovered the cluster from a loss, and has given the node up.
    pub given_up: bool,
    /// The cluster seals what it stores, and this node can't open it.
    pub closed: Option<KeyFailure>,
}

/// What became of what an operator asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Another node speaks for the group.
    Elsewhere,
    /// It is on its way, or something else is.
    Soon {
        /// The epoch of the map that was proposed just now, if one was.
        proposed: Option<u64>,
    },
    /// The map of this epoch, or an earlier one, says so.
    Done {
        /// The map's epoch.
        epoch: u64,
    },
    /// It can't be done.
    Refused(VerbRefusal),
}

/// What this node says of the cluster's plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Planned {
    /// Another node speaks for the group, or nobody does.
    Elsewhere,
    /// What was asked for in the question would be refused.
    Refused(VerbRefusal),
    /// The plan.
    Is(Box<ClusterPlan>),
}

/// What a keeper says of its own node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// The node's data folder.
    pub folder: FolderId,
    /// `host:port` where clients reach the node.
    pub address: String,
    /// `host:port` where its peers reach it.
    pub peer_address: String,
    /// Under whose name the keeper writes. Nobody else may write under it.
    pub client: ClientId,
}

/// The keeper.
pub struct MapKeeper {
    router: Arc<Router>,
    /// Where the copy is kept.
    disk: Arc<dyn Disk>,
    own: Own,
    /// What this node's program speaks.
    levels: Levels,
    /// By its configuration, clients must say who they are.
    auth_required: bool,
    /// The map of a new cluster.
    initial: RingMap,
    /// This node may have to help to found the group; not any more once a map is known.
    may_bootstrap: bool,
    key: MetaKey<RingMap>,
    /// What is to be replaced and waits; logged once.
    waits: Option<Change>,
    /// Why replicas can't move; logged once.
    blocked: Option<PlacementError>,
    /// It is looked at where everything should be from then on.
    place_at: Nanos,
    /// What it has seen of the other nodes since it speaks for the group.
    watch: NodeWatch,
    spread: MapSpread,
    /// The map of this epoch as it is sent, while somebody is to be sent it.
    outgoing: Option<(u64, Bytes)>,
    /// The group's leader changes the map by itself from then on: what it has changed last is still on its way to all.
    changes_at: Nanos,
    reported_at: Nanos,
    /// When all peers were sent a report.
    reported_to_all_at: Nanos,
    /// The peers that were sent one since they are connected, and since when they are.
    reported_to: BTreeMap<NodeId, Nanos>,
    /// There was a map when a report was sent last.
    reported_map: bool,
    /// The map of this epoch is in the folder; 0 for none.
    copied: u64,
    /// What an operator asked for last.
    last_asked: LastAsked,
    keys: Arc<NodeKeys>,
    /// The data keys of the map of this epoch are here; 0 for none.
    followed: u64,
    /// Why data keys of a map can't be had, or made; logged once.
    closed: Option<KeyFailure>,
    /// That failed with the map of this epoch,
    keys_failed: u64,
    /// and is tried again with it from then on: it may be a program that is asked.
    keys_again_at: Nanos,
    looked: Looked,
}

impl MapKeeper {
    /// A keeper that has looked at nothing yet. `initial` is the map of a new cluster; `may_bootstrap` says that this node knows no
    /// map and has never opened the replica of `meta` that the first map gives it.
    pub fn new(router: Arc<Router>, disk: Arc<dyn Disk>, own: Own, initial: RingMap, may_bootstrap: bool) -> Self {
        let again_ms = PROPOSE_AGAIN_MIN_MS..=PROPOSE_AGAIN_MAX_MS;
        // What a router has agreed on before anybody has told it anything is what the folder holds.
        let copied = router.agreed_ring().map_or(0, |ring| ring.epoch);
        Self {
            router,
            disk,
            key: MetaKey::new(RING_KEY, "ring map", own.client, again_ms),
            own,
            levels: Levels::OWN,
            auth_required: initial.auth_required,
            initial,
            may_bootstrap,
            waits: None,
            blocked: None,
            place_at: Nanos(0),
            watch: NodeWatch::default(),
            spread: MapSpread::default(),
            outgoing: None,
            changes_at: Nanos(0),
            reported_at: Nanos(0),
            reported_to_all_at: Nanos(0),
            reported_to: BTreeMap::new(),
            reported_map: false,
            copied,
            last_asked: LastAsked::default(),
            keys: Arc::default(),
            followed: 0,
            closed: None,
            keys_failed: 0,
            keys_again_at: Nanos(0),
            looked: Looked::default(),
        }
    }

    /// A keeper that has data keys follow the map.
    #[must_use]
    pub fn with_keys(self, keys: Arc<NodeKeys>) -> Self {
        Self { keys, ..self }
    }

    /// A keeper that says other levels than [`Levels::OWN`] of its node: in tests, for a program to come.
    #[must_use]
    pub fn with_levels(self, levels: Levels) -> Self {
        Self { levels, ..self }
    }

    /// Looks at the key and at the cluster, and does what is due. Cheap unless there is a newer map, of which a copy is written.
    pub fn look(&mut self, now: Nanos) -> Looked {
        self.key.hear_answers();
        if let Some(ring) = self.router.take_offered_ring() {
            self.take_map(&ring);
        }
        self.bootstrap_if_due();
        if let Some(handle) = self.router.local(ShardId::META) {
            // Before the map is read: that is then the newest of this moment, or a later one.
            let status = *handle.status.lock();
            let is_stored = self.read_key(&handle, now);
            self.last_asked.handle_map(self.key.stored(), now);
            if let Some(ring) = self.key.take_news().cloned() {
                self.take_map(&ring);
            }
            if is_stored && status.serving && status.applied >= status.committed {
                self.tell_newest(status.proved_at);
            }
            if speaks_for_group(&handle, now) {
                self.watch_nodes(now);
                self.lead(&handle, now);
            } else {
                self.watch.forget();
            }
        }
        self.follow_keys(now);
        self.pass_on(now);
        self.report(now);
        let (router, ring) = (&self.router, self.router.ring());
        self.looked.given_up = router.peer_table().is_given_up();
        self.looked.removed = ring.was_removed(router.me()) || router.peer_table().is_removed(&ring);
        std::mem::take(&mut self.looked)
    }

    /// This node led the map's group at that moment: the map in its log was the newest then. Answers who has asked before.
    fn tell_newest(&self, proved_at: Nanos) {
        let news = self.router.map_news();
        let Some(epoch) = self.key.stored().map(|ring| ring.epoch).filter(|_| proved_at > Nanos(0)) else { return };
        news.note(Newest { from: proved_at, epoch });
        let Some(peers) = self.router.peers() else { return };
        for (peer, number) in news.take_questions(proved_at) {
            // It asks again in a second.
            let _ = peers.send(peer, &PeerMessage::MapIs { number, epoch });
        }
    }

    /// Looks who is heard.
    fn watch_nodes(&mut self, now: Nanos) {
        let Some(ring) = self.key.stored() else { return };
        let table = self.router.peer_table();
        let connected = table.presences(now).into_keys().collect();
        let (by, reports) = table.heard(now);
        let me = self.router.me();
        let mut coming = table.coming(now);
        coming.extend(self.router.coming().into_iter().map(|(shard, number)| ((shard, me), number)));
        self.watch.look(now, ring, me, &Heard { connected, by: &by, reports, coming: &coming });
    }

    fn take_map(&mut self, ring: &RingMap) {
        if self.router.agreed_ring().is_some_and(|agreed| agreed.epoch >= ring.epoch) {
            return;
        }
        // First the copy: a node that has acted on a map should begin with it next time. It can do without: what it has
        // done is noted with each shard's files.
        match write_copy(&*self.disk, ring) {
            Ok(()) => self.copied = ring.epoch,
            Err(failure) => {
                warn!(error = %failure, "the ring map's copy was not written; the next start waits for the meta group");
            }
        }
        if !self.router.set_ring(ring.clone()) {
            return;
        }
        info!(epoch = ring.epoch, nodes = ring.nodes.len(), shards = ring.shards.len(), "the ring map is in force");
        self.may_bootstrap = false;
        self.looked.in_force = Some(ring.clone());
    }

    /// Reads the key. A map that is news is on its way to all nodes for a while. Returns whether the map that is held here is the stored one.
    fn read_key(&mut self, handle: &ShardHandle, now: Nanos) -> bool {
        let mut bytes_read = None;
        let is_stored = self.key.read(handle, |bytes| {
            bytes_read = Some(bytes.len());
            RingMap::from_bytes(bytes)
        });
        if let (Some(bytes), Some(ring)) = (bytes_read, self.key.stored()) {
            self.changes_at = now.after_ms(spread_ms(bytes, ring.nodes.len()));
        }
        is_stored
    }

    /// Passes the map in force on to the peers that lag: see [`MapSpread`].
    fn pass_on(&mut self, now: Nanos) {
        let (Some(peers), Some(ring)) = (self.router.peers(), self.router.agreed_ring()) else { return };
        let known = self.router.peer_table().maps();
        let holds_group = ring.replica_on(ShardId::META, self.router.me()).is_some();
        let due = self.spread.due(ring.epoch, holds_group, &known, now);
        if due.is_empty() {
            self.outgoing = None;
            return;
        }
        let bytes = match self.outgoing.take() {
            Some((epoch, bytes)) if epoch == ring.epoch => bytes,
            _ => ring.to_bytes().into(),
        };
        self.outgoing = Some((ring.epoch, bytes.clone()));
        let message = PeerMessage::Ring(bytes);
        for peer in due {
            // One for which too much waits is tried again with the next look.
            if peers.send(peer, &message) != Err(SendError::Full)
                && let Some(known) = known.get(&peer)
            {
                self.spread.sent(peer, known, ring.epoch, now);
            }
        }
    }

    /// Helps to found the `meta` group, if this node may.
    fn bootstrap_if_due(&mut self) {
        if !self.may_bootstrap {
            return;
        }
        let answers = self.router.peer_table().answers();
        if decide::may_bootstrap(&self.initial, self.router.me(), self.own.folder, &answers) {
            info!("no peer has met this node before: founding the meta group");
            self.may_bootstrap = false;
            self.looked.bootstraps = true;
        }
    }

    /// What the group's leader does: writes the first map, and changes it when that is due.
    fn lead(&mut self, handle: &ShardHandle, now: Nanos) {
        if !self.key.may_propose(now) {
            return;
        }
        if let Some(recovered) = self.recovered() {
            info!(epoch = recovered.epoch, "the group takes over the ring map of a recovery");
            self.looked.proposed = Some((None, recovered.epoch));
            return self.key.propose(handle, now, recovered.to_bytes());
        }
        // Changes that nobody has asked for come one after another, and each costs all nodes the whole map.
        if now < self.changes_at {
            return;
        }
        let another_key = self.next_data_key(now);
        let Some(ring) = self.key.stored() else {
            let initial = &self.initial;
            let seen = self.seen(initial, now);
            let first = match decide::decide(initial, &seen) {
                MapDecision::Change(named, Change::Named(_)) => RingMap { epoch: initial.epoch, ..*named },
                _ => initial.clone(),
            };
            self.looked.proposed = Some((None, first.epoch));
            self.key.propose(handle, now, first.to_bytes());
            return;
        };
        if self.auth_required && !ring.auth_required && ring.level >= AUTH_LEVEL {
            // A node that joins later must not let everybody in.
            let next = RingMap { auth_required: true, epoch: ring.epoch + 1, ..ring.clone() };
            info!(epoch = next.epoch, "clients must say who they are, in the whole cluster");
            self.looked.proposed = Some((None, next.epoch));
            return self.key.propose(handle, now, next.to_bytes());
        }
        let seen = self.seen(ring, now);
        if seen.places {
            self.place_at = now.after_ms(PLACE_EVERY_MS);
        }
        if let Some(next) = another_key {
            info!(epoch = next.epoch, key = %next.sealing.newest(), "the data key has served its time: another one is made");
            self.looked.proposed = Some((None, next.epoch));
            return self.key.propose(handle, now, next.to_bytes());
        }
        match decide::decide(ring, &seen) {
            MapDecision::Rest => self.waits = None,
            MapDecision::Change(next, change) => {
                info!(epoch = next.epoch, ?change, "changing the ring map");
                self.waits = None;
                self.looked.proposed = Some((Some(change), next.epoch));
                self.key.propose(handle, now, next.to_bytes());
            }
            MapDecision::Blocked(why) => {
                if self.blocked.as_ref() != Some(&why) {
                    warn!(%why, "replicas that should move have nowhere to go");
                    self.blocked = Some(why);
                }
            }
            MapDecision::Wait(change, shard) => {
                self.looked.waits = true;
                if self.waits.as_ref() != Some(&change) {
                    warn!(?change, %shard, "not replaced: the rest of the shard's group is not a quorum that is connected and well");
                    self.waits = Some(change);
                }
            }
        }
    }

    /// An operator asks for something. Ask again until it is done or refused: that it was recorded shows in the map only.
    pub fn ask(&mut self, verb: &Verb, now: Nanos) -> Asked {
        let Some(handle) = self.router.local(ShardId::META).filter(|handle| speaks_for_group(handle, now)) else {
            return Asked::Elsewhere;
        };
        // Whoever asks may have seen a map, at another node, that has come since the last look.
        self.read_key(&handle, now);
        self.last_asked.handle_map(self.key.stored(), now);
        if self.recovered().is_some() {
            return Asked::Soon { proposed: None };
        }
        let Some(ring) = self.key.stored() else { return Asked::Soon { proposed: None } };
        let seen = self.seen(ring, now);
        let admitted = match verb {
            // Whoever asks again for what was done a moment ago does not want it done twice.
            verb if self.last_asked.has_done(verb, now) => Ok(None),
            Verb::Encrypt(what) => self.keys_as_asked(ring, &seen, *what),
            verb => verbs::admit(ring, &seen, verb),
        };
        match admitted {
            Err(refusal) => Asked::Refused(refusal),
            // It is in force here with the next look. A node that joins is given the map that is in force.
            Ok(None) if self.router.agreed_ring().is_none_or(|agreed| agreed.epoch < ring.epoch) => {
                Asked::Soon { proposed: None }
            }
            Ok(None) => Asked::Done { epoch: ring.epoch },
            Ok(Some(_)) if !self.key.may_propose(now) => Asked::Soon { proposed: None },
            Ok(Some(next)) => {
                info!(epoch = next.epoch, ?verb, "changing the ring map, as asked for");
                self.last_asked.handle_proposal(verb, &next);
                self.key.propose(&handle, now, next.to_bytes());
                Asked::Soon { proposed: Some(next.epoch) }
            }
        }
    }

    /// What the cluster does and what is to come; or what would come if `verb` were asked of it. It costs what a placement does.
    pub fn plan(&mut self, verb: Option<&Verb>, now: Nanos) -> Planned {
        let Some(handle) = self.router.local(ShardId::META).filter(|handle| speaks_for_group(handle, now)) else {
            return Planned::Elsewhere;
        };
        self.read_key(&handle, now);
        let Some(ring) = self.key.stored() else { return Planned::Elsewhere };
        let seen = self.seen(ring, now);
        let next = verb.map(|verb| verbs::admit(ring, &seen, verb)).transpose();
        match next {
            Ok(next) => Planned::Is(Box::new(outlook::plan(next.flatten().as_ref().unwrap_or(ring), &seen))),
            Err(refusal) => Planned::Refused(refusal),
        }
    }

    /// The map in force, if an operator's recovery has made it and the group does not have it yet: `kvorum recover` writes maps
    /// into data folders, and none into the group's log.
    fn recovered(&self) -> Option<RingMap> {
        let stored = self.key.stored().map_or(0, RingMap::recoveries);
        self.router.agreed_ring().filter(|agreed| agreed.recoveries() > stored).map(|agreed| RingMap::clone(&agreed))
    }

    fn seen(&self, ring: &RingMap, now: Nanos) -> Seen {
        let router = &self.router;
        let mut faulty = router.peer_table().faulty(now);
        let own = router.report(now);
        faulty.extend(own.faulty.into_iter().map(|(shard, replica)| (router.me(), shard, replica)));
        let mut settled = router.peer_table().settled(ring, now);
        settled.extend(own.settled);
        let mut disks = router.peer_table().disks(now);
        disks.extend(own.disk.map(|room| (router.me(), DiskOfNode { room, held_bytes: own.held_bytes })));
        let mut loads = router.peer_table().loads(ring, now);
        loads.extend(own.loads.iter().map(|load| (load.shard, *load)));
        let mut peer_addresses = router.peer_table().peer_addresses(ring, now);
        peer_addresses.insert(router.me(), self.own.peer_address.clone());
        let mut clients = router.peer_table().clients(ring);
        clients.insert(router.me(), self.own.address.clone());
        let mut data_keys = router.peer_table().data_keys();
        data_keys.extend(self.own_keys().map(|keys| (router.me(), keys)));
        Seen {
            me: router.me(),
            folder: self.own.folder,
            levels: self.levels,
            peers: router.peer_table().presences(now),
            faulty,
            settled,
            silent: self.watch.silent(now),
            steady: self.watch.steady(now),
            drained: self.watch.drained(now),
            tokens: self.watch.tokens(now),
            moving: self.watch.moving(now),
            idle: self.watch.idle(now),
            declined: self.watch.declined(now),
            planned: router.peer_table().stopping(),
            disks,
            loads,
            places: now >= self.place_at,
            clients,
            peer_addresses,
            data_keys,
        }
    }

    /// Tells those who may lead `meta` which replicas of this node wait to be replaced, which groups that it leads are settled, and
    /// whom it hears. All peers hear now and then which map it has.
    fn report(&mut self, now: Nanos) {
        let has_map = self.router.agreed_ring().is_some();
        let is_due = now.ms_since(self.reported_at) >= REPORT_EVERY_MS;
        // A node without a map waits for one, and who has sent it one waits to hear that it has come.
        let to_all = (is_due && !has_map)
            || has_map != self.reported_map
            || now.ms_since(self.reported_to_all_at) >= REPORT_TO_ALL_EVERY_MS;
        let known = self.router.peer_table().maps();
        self.reported_to.retain(|peer, at| known.get(peer).is_some_and(|known| known.connected_at == *at));
        let is_new = |peer: &NodeId| known.contains_key(peer) && !self.reported_to.contains_key(peer);
        if !is_due && !to_all && !known.keys().any(is_new) {
            return;
        }
        // One that holds the group may be on its way into it, or out of it.
        let ring = self.router.ring();
        let of_group = |peer: &NodeId| ring.replica_on(ShardId::META, *peer).is_some();
        let Some(peers) = self.router.peers() else { return };
        let report = NodeReport { peer_address: self.own.peer_address.clone(), ..self.router.report(now) };
        let message = PeerMessage::Report(report);
        for peer in peers.up().into_iter().filter(|peer| to_all || is_new(peer) || (is_due && of_group(peer))) {
            // Sent again in a second, or in a few.
            let _ = peers.send(peer, &message);
        }
        self.reported_to = known.into_iter().map(|(peer, known)| (peer, known.connected_at)).collect();
        if to_all {
            (self.reported_to_all_at, self.reported_map) = (now, has_map);
        }
        if !is_due {
            return;
        }
        self.reported_at = now;
        if let Some(KeysOfNode { kek, epoch }) = self.own_keys().filter(|_| ring.level >= SEALING_LEVEL) {
            for peer in peers.up() {
                let _ = peers.send(peer, &PeerMessage::DataKeys { kek, epoch });
            }
        }
        let asks = PeerMessage::MapAsked { number: self.router.map_news().ask(now) };
        for peer in peers.up().into_iter().filter(of_group).filter(|_| ring.level >= NEWS_LEVEL) {
            let _ = peers.send(peer, &asks);
        }
    }
}

#[cfg(test)]
mod tests;
