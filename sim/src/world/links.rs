//! The networks: between nodes, and between clients and nodes.

use super::client::Late;
use super::queue::Moment;
use super::{Event, Packet, World};
use crate::plan::Network;
use bytes::{Bytes, BytesMut};
use kvorum_core::clock::Clock as _;
use kvorum_core::routing::peer_desk::AdmitError;
use kvorum_protocol::peer::{Levels, PeerHello, PeerMessage, RaftMessageKind, RespAddresses};
use kvorum_protocol::snapshot::{SnapshotBody, SnapshotId, SnapshotMessage};
use kvorum_protocol::{ClusterId, NodeId, Request, Response, ShardId, frame, limits::FRAME_BYTES_MAX};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The first byte of a consensus message between nodes, and of one about a snapshot.
const RAFT: u8 = 2;
const SNAPSHOT: u8 = 6;
const FORWARD: u8 = 3;
/// How long a write that is held up by itself takes, in milliseconds: longer than its client waits before it sends another copy.
const LATE_COPY_MS: std::ops::Range<u64> = 500..20_000;
/// No client has a connection of this number: it ends as soon as the write is taken.
const LATE_CONNECTION: u64 = u64::MAX;
/// How long the longest delay is stretched for a message that is held up.
const HELD_UP_FACTOR: u64 = 100;

/// The connections between nodes, and what is wrong with them.
pub(super) struct PeerLinks {
    nodes: usize,
    /// The number of the connection that two nodes have; the smaller position first.
    sessions: BTreeMap<(usize, usize), u64>,
    next_session: u64,
    /// How many faults cut the way from one node to another at the moment.
    cuts: BTreeMap<(usize, usize), u32>,
    clogged_until: BTreeMap<usize, Moment>,
    /// When the last request that was passed on from one node to another arrives.
    last_forward_at: BTreeMap<(usize, usize), Moment>,
}

impl PeerLinks {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            sessions: BTreeMap::new(),
            next_session: 0,
            cuts: BTreeMap::new(),
            clogged_until: BTreeMap::new(),
            last_forward_at: BTreeMap::new(),
        }
    }

    pub(super) fn session(&self, one: usize, other: usize) -> Option<u64> {
        self.sessions.get(&pair(one, other)).copied()
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|faults| *faults > 0)
    }

    /// Messages between these nodes are held back until then.
    pub(super) fn clogged(&self, from: usize, to: usize, now: Moment) -> Option<Moment> {
        let until = [from, to].iter().filter_map(|node| self.clogged_until.get(node)).max();
        until.copied().filter(|until| *until > now)
    }

    pub(super) fn clog(&mut self, node: usize, until: Moment) {
        self.clogged_until.insert(node, until);
    }

    /// Cuts or mends the way in one direction.
    pub(super) fn cut(&mut self, from: usize, to: usize, cut: bool) {
        let faults = self.cuts.entry((from, to)).or_default();
        *faults = if cut { *faults + 1 } else { faults.saturating_sub(1) };
    }

    /// All directions between a node and the others.
    pub(super) fn around(&self, node: usize) -> Vec<(usize, usize)> {
        let others = (0..self.nodes).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }

    pub(super) fn mend_all(&mut self) {
        self.cuts.clear();
        self.clogged_until.clear();
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// The connections of clients.
#[derive(Default)]
pub(super) struct ClientLinks {
    open: BTreeMap<u64, ClientLink>,
    isolated: BTreeSet<usize>,
}

struct ClientLink {
    client: usize,
    node: usize,
    process: u64,
    /// Bytes keep their order in each direction.
    to_node_at: Moment,
    to_client_at: Moment,
}

impl ClientLinks {
    pub(super) fn node_of(&self, connection: u64) -> Option<usize> {
        self.open.get(&connection).map(|link| link.node)
    }

    pub(super) fn client_of(&self, connection: u64) -> Option<usize> {
        self.open.get(&connection).map(|link| link.client)
    }

    pub(super) fn isolate(&mut self, node: usize, isolated: bool) {
        if isolated {
            self.isolated.insert(node)
        } else {
            self.isolated.remove(&node)
        };
    }

    pub(super) fn mend_all(&mut self) {
        self.isolated.clear();
    }

    /// The connections to a node.
    pub(super) fn of_node(&self, node: usize) -> Vec<u64> {
        self.open.iter().filter(|(_, link)| link.node == node).map(|(connection, _)| *connection).collect()
    }
}

fn delay_us(network: &Network, rng: &mut ChaCha8Rng) -> u64 {
    let usual = rng.random_range(network.delay_min_us..=network.delay_max_us.max(network.delay_min_us));
    if happens(network.held_up_permille, rng) {
        usual + rng.random_range(0..=network.delay_max_us * HELD_UP_FACTOR)
    } else {
        usual
    }
}

fn happens(permille: u32, rng: &mut ChaCha8Rng) -> bool {
    permille > 0 && rng.random_range(0..1000) < permille
}

impl World<'_> {
    /// The network as it is now: it loses nothing once everything has healed.
    fn healing(&self, network: Network) -> Network {
        if self.healed {
            Network { lost_permille: 0, duplicated_permille: 0, held_up_permille: 0, ..network }
        } else {
            network
        }
    }

    // --- between nodes -----------------------------------------------------------------------------------------------

    pub(super) fn send_to_peer(&mut self, from: usize, to: NodeId, bytes: Bytes) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else { return };
        let Some(session) = self.peer_links.session(from, to) else { return };
        let network = self.healing(self.plan.options.peers);
        if self.peer_links.is_cut(from, to) || happens(network.lost_permille, &mut self.rng) {
            return;
        }
        let lost_permille = if self.healed { 0 } else { self.plan.options.snapshots_lost_permille };
        if bytes.first() == Some(&SNAPSHOT) && happens(lost_permille, &mut self.rng) {
            return;
        }
        // Requests that are passed on travel on a stream that delivers each once; consensus and snapshots don't rely on
        // that.
        let twice = happens(network.duplicated_permille, &mut self.rng) && may_come_twice(&bytes);
        let copies = if twice { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = self.now().after_us(delay_us(&network, &mut self.rng));
            let late_ms = if self.healed { 0 } else { self.plan.options.snapshots_late_ms };
            if bytes.first() == Some(&SNAPSHOT) && late_ms > 0 {
                at = at.after_us(self.rng.random_range(0..u64::from(late_ms) * 1_000));
            }
            if bytes.first() == Some(&FORWARD) {
                // A stream keeps their order.
                let last = self.peer_links.last_forward_at.entry((from, to)).or_default();
                at = at.max(last.after_ns(1));
                *last = at;
            }
            let packet = Packet { from, to, session, bytes: bytes.clone() };
            self.queue.push(at, Event::Deliver(packet));
        }
    }

    pub(super) fn message_arrives(&mut self, packet: Packet) {
        let Packet { from, to, session, .. } = packet;
        if let Some(clogged) = self.peer_links.clogged(from, to, self.now()) {
            self.queue.push(clogged, Event::Deliver(packet));
            return;
        }
        if self.peer_links.session(from, to) != Some(session) || self.peer_links.is_cut(from, to) {
            return;
        }
        let from_id = self.nodes[from].id;
        let node = &mut self.nodes[to];
        let now = node.clock.monotonic();
        let Some(running) = &mut node.process else { return };
        self.trace.note(
            self.time.now(),
            "deliver",
            &[from as u64, to as u64],
            format_args!("{from} -> {to}: {}", describe(&packet.bytes)),
        );
        self.trace.bytes(&packet.bytes);
        match PeerMessage::decode(packet.bytes) {
            Ok(message) => {
                let heartbeat_of = match &message {
                    PeerMessage::Raft(shard, raft) if raft.kind == RaftMessageKind::Heartbeat => Some(*shard),
                    _ => None,
                };
                running.desk.message(from_id, message, now);
                if let Some(shard) = heartbeat_of {
                    self.heartbeat_arrives(shard, (from, to));
                }
                self.flush(to);
            }
            Err(error) => self.violate("protocol", format!("node {to} can't read a message of node {from}: {error}")),
        }
    }

    /// Two nodes will find each other, if both are up.
    pub(super) fn plan_meeting(&mut self, one: usize, other: usize) {
        if one != other && self.peer_links.session(one, other).is_none() {
            let at = self.now().after_us(self.rng.random_range(500..50_000));
            self.queue.push(at, Event::PeersMeet(one, other));
        }
    }

    pub(super) fn peers_meet(&mut self, one: usize, other: usize) {
        let both_up = self.nodes[one].process.is_some() && self.nodes[other].process.is_some();
        if !both_up || self.peer_links.session(one, other).is_some() {
            return;
        }
        let now = self.now();
        let stands_still = |node: usize| self.nodes[node].paused_until.is_some_and(|until| until > now);
        if self.peer_links.is_cut(one, other)
            || self.peer_links.is_cut(other, one)
            || stands_still(one)
            || stands_still(other)
        {
            // Dialled again and again.
            let at = now.after_ms(self.rng.random_range(100..1_000));
            self.queue.push(at, Event::PeersMeet(one, other));
            return;
        }
        for (host, guest) in [(one, other), (other, one)] {
            let (guest_id, guest_disk) = (self.nodes[guest].id, self.nodes[guest].folder_id);
            let process = self.nodes[guest].process.as_ref();
            let known = process.map(|process| process.desk.knows(self.nodes[host].id)).unwrap_or_default();
            let Some(process) = &self.nodes[host].process else { return };
            let hello = PeerHello {
                levels: Levels::OWN,
                cluster: ClusterId(self.initial.cluster),
                node: guest_id,
                disk: guest_disk,
                starts: self.nodes[guest].starts,
                process: self.nodes[guest].number().unwrap_or(0),
                knows: known.folder,
                replaced: known.replaced,
                client: format!("node-{}:7400", guest + 1),
                resp: RespAddresses::default(),
                program: String::new(),
                more: Bytes::new(),
            };
            let admitted = process.desk.admit(&hello);
            let is_stranger = process.router.is_stranger(guest_id);
            if self.crash_if_reached(host) {
                return;
            }
            if matches!(admitted, Err(AdmitError::Removed))
                && let Some(guest) = &self.nodes[guest].process
            {
                guest.desk.said_removed(self.nodes[host].id);
            }
            if let Err(why) = admitted {
                // Its folder could not be written down, or was replaced. Dialled again, as ever.
                self.trace.note(
                    self.time.now(),
                    "turned away",
                    &[host as u64, guest as u64],
                    format_args!("node {guest} by node {host}: {why}"),
                );
                let at = now.after_ms(self.rng.random_range(1_000..5_000));
                self.queue.push(at, Event::PeersMeet(one, other));
                return;
            }
            if is_stranger {
                self.trace.note(
                    self.time.now(),
                    "stranger",
                    &[host as u64, guest as u64],
                    format_args!("node {guest} to node {host}"),
                );
                self.count("wiped nodes met as strangers");
            }
        }
        self.peer_links.next_session += 1;
        let session = self.peer_links.next_session;
        self.peer_links.sessions.insert(pair(one, other), session);
        self.trace.note(
            self.time.now(),
            "meet",
            &[one as u64, other as u64],
            format_args!("nodes {one} and {other}, connection {session}"),
        );
        let ids = [self.nodes[one].id, self.nodes[other].id];
        for (node, peer) in [(one, ids[1]), (other, ids[0])] {
            if let Some(process) = &self.nodes[node].process {
                process.outbox.set_up(peer, true);
                process.desk.connected(peer);
            }
        }
        self.flush(one);
        self.flush(other);
    }

    /// One or both of two nodes notice that their connection is dead.
    pub(super) fn peers_part(&mut self, one: usize, other: usize, session: u64) {
        if self.peer_links.session(one, other) == Some(session) {
            self.part(one, other);
        }
    }

    fn part(&mut self, one: usize, other: usize) {
        self.peer_links.sessions.remove(&pair(one, other));
        self.trace.note(self.time.now(), "part", &[one as u64, other as u64], format_args!("nodes {one} and {other}"));
        let ids = [self.nodes[one].id, self.nodes[other].id];
        for (node, peer) in [(one, ids[1]), (other, ids[0])] {
            if let Some(process) = &self.nodes[node].process {
                process.outbox.set_up(peer, false);
                process.desk.disconnected(peer);
            }
            self.flush(node);
        }
        self.plan_meeting(one, other);
    }

    /// A process has ended: its connections end, which the others notice sooner or later.
    pub(super) fn break_links(&mut self, at: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            if self.peer_links.session(at, other).is_some() {
                self.part(at, other);
            }
        }
        for connection in self.client_links.of_node(at) {
            self.break_client_link(connection);
        }
    }

    // --- clients and nodes -------------------------------------------------------------------------------------------

    pub(super) fn begin_connect(&mut self, client: usize, connection: u64, node: usize, timeout_ms: u64) {
        let network = self.healing(self.plan.options.client_links);
        let round_trip = 2 * delay_us(&network, &mut self.rng);
        let reaches = !self.client_links.isolated.contains(&node)
            && !happens(network.lost_permille, &mut self.rng)
            && round_trip < timeout_ms * 1_000;
        let at = if reaches { self.now().after_us(round_trip) } else { self.now().after_ms(timeout_ms) };
        self.queue.push(at, Event::Connects { client, connection, node, given_up: !reaches });
    }

    pub(super) fn connects(&mut self, client: usize, connection: u64, node: usize, given_up: bool) {
        let now = self.now();
        let hello = match &mut self.nodes[node].process {
            Some(process) if !given_up => process.connect(connection, self.clients[client].id),
            _ => {
                self.with_client(client, |client, context| client.handle_closed(connection, context));
                return;
            }
        };
        let process = self.nodes[node].number().expect("it has just been connected to");
        let link = ClientLink { client, node, process, to_node_at: now, to_client_at: now };
        self.client_links.open.insert(connection, link);
        self.trace.note(
            self.time.now(),
            "connect",
            &[client as u64, node as u64],
            format_args!("client {client} to node {node}, connection {connection}"),
        );
        self.send_to_client(connection, hello);
        self.with_client(client, |client, context| client.handle_connected(connection, context));
    }

    pub(super) fn send_to_node(&mut self, connection: u64, bytes: BytesMut, late: Late) {
        let late_permille = if self.healed { 0 } else { self.plan.options.late_copies_permille };
        let late_ms = match late {
            Late::Maybe if happens(late_permille, &mut self.rng) => Some(self.rng.random_range(LATE_COPY_MS)),
            Late::By(ms) if !self.healed => Some(u64::from(ms)),
            Late::Never | Late::Maybe | Late::By(_) => None,
        };
        if let Some(late_ms) = late_ms
            && let Some(link) = self.client_links.open.get(&connection)
        {
            let at = self.now().after_ms(late_ms);
            return self.queue.push(at, Event::LateCopy { client: link.client, node: link.node, bytes });
        }
        if let Some(at) = self.arrival(connection, |link| &mut link.to_node_at) {
            self.queue.push(at, Event::ToNode { connection, bytes });
        }
    }

    /// When bytes that are sent now in one direction of a connection arrive; `None` if they never do. `last` is when those
    /// before them arrive.
    fn arrival(&mut self, connection: u64, last: impl FnOnce(&mut ClientLink) -> &mut Moment) -> Option<Moment> {
        let network = self.healing(self.plan.options.client_links);
        let now = self.now();
        let link = self.client_links.open.get_mut(&connection)?;
        if self.client_links.isolated.contains(&link.node) {
            // Neither end hears anything until the connection ends.
            return None;
        }
        if happens(network.lost_permille, &mut self.rng) {
            self.break_client_link(connection);
            return None;
        }
        let last = last(link);
        *last = now.after_us(delay_us(&network, &mut self.rng)).max(last.after_ns(1));
        Some(*last)
    }

    /// A write that was held up arrives. Its client has sent others meanwhile, and may have closed the connection; what the node
    /// answers reaches nobody.
    pub(super) fn late_copy(&mut self, client: usize, at: usize, bytes: BytesMut) {
        let number = self.clients[client].id;
        self.trace.note(
            self.time.now(),
            "late",
            &[client as u64, at as u64],
            format_args!("client {client} to node {at}: {} bytes that were held up", bytes.len()),
        );
        self.trace.bytes(&bytes);
        let Some(running) = &mut self.nodes[at].process else { return };
        running.connect(LATE_CONNECTION, number);
        let handled = running.handle_frames(LATE_CONNECTION, bytes);
        running.disconnect(LATE_CONNECTION);
        self.count("copies of writes that were late");
        match handled {
            Ok(_) => self.flush(at),
            Err(error) => self.violate("protocol", format!("node {at} can't read a late request: {error}")),
        }
    }

    pub(super) fn reaches_node(&mut self, connection: u64, bytes: BytesMut) {
        let Some(link) = self.client_links.open.get(&connection) else { return };
        let (at, process, client) = (link.node, link.process, link.client);
        if !self.is_current(at, process) {
            return;
        }
        self.trace.note(
            self.time.now(),
            "to node",
            &[client as u64, at as u64],
            format_args!("client {client} to node {at}: {} bytes", bytes.len()),
        );
        self.trace.bytes(&bytes);
        let Some(running) = &mut self.nodes[at].process else { return };
        match running.handle_frames(connection, bytes) {
            Ok(answers) => {
                self.send_to_client(connection, answers);
                self.flush(at);
            }
            Err(error) => self.violate("protocol", format!("node {at} can't read a request: {error}")),
        }
    }

    pub(super) fn send_to_client(&mut self, connection: u64, bytes: BytesMut) {
        if bytes.is_empty() {
            return;
        }
        if let Some(at) = self.arrival(connection, |link| &mut link.to_client_at) {
            self.queue.push(at, Event::ToClient { connection, bytes });
        }
    }

    /// A whole frame's response, or several.
    pub(super) fn reaches_client(&mut self, connection: u64, mut bytes: BytesMut) {
        let Some(at) = self.client_links.client_of(connection) else { return };
        self.trace.note(self.time.now(), "to client", &[at as u64], format_args!("client {at}: {} bytes", bytes.len()));
        self.trace.bytes(&bytes);
        loop {
            match frame::decode(&mut bytes, FRAME_BYTES_MAX).map(|body| body.map(Response::decode)) {
                Ok(None) => return,
                Ok(Some(Ok(response))) => {
                    self.with_client(at, |client, context| client.handle_response(connection, response, context));
                }
                Ok(Some(Err(error))) | Err(error) => {
                    self.violate("protocol", format!("client {at} can't read an answer: {error}"));
                    return;
                }
            }
        }
    }

    /// A connection of a client ends. What was on its way is lost; the client learns of it a little later.
    pub(super) fn break_client_link(&mut self, connection: u64) {
        let Some(link) = self.client_links.open.get(&connection) else { return };
        if let Some(process) = &mut self.nodes[link.node].process {
            process.disconnect(connection);
        }
        let at = self.now().after_us(self.rng.random_range(10..1_000));
        self.queue.push(at, Event::ClientLoses { connection });
    }

    pub(super) fn client_loses(&mut self, connection: u64) {
        let Some(link) = self.client_links.open.remove(&connection) else { return };
        self.trace.note(
            self.time.now(),
            "lose",
            &[link.client as u64],
            format_args!("client {} loses connection {connection}", link.client),
        );
        self.with_client(link.client, |client, context| client.handle_closed(connection, context));
    }
}

/// Whether a message is one of consensus, by its first byte.
fn may_come_twice(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&RAFT | &SNAPSHOT))
}

/// Whether others count on what a message says, by its first bytes: the kind of message, the shard, the kind of consensus message.
/// Votes and answers to a leader are meant, and that a replica is to campaign at once.
pub(super) fn is_promise(bytes: &[u8]) -> bool {
    let kinds = [
        RaftMessageKind::AppendResponse as u8,
        RaftMessageKind::HeartbeatResponse as u8,
        RaftMessageKind::RequestVoteResponse as u8,
        RaftMessageKind::TimeoutNow as u8,
    ];
    bytes.first() == Some(&RAFT) && bytes.get(3).is_some_and(|kind| kinds.contains(kind))
}

fn write_snapshot(f: &mut fmt::Formatter<'_>, shard: ShardId, message: &SnapshotMessage) -> fmt::Result {
    let SnapshotId { term, index, nonce } = message.id;
    write!(f, "shard {shard} snapshot {term}/{index}/{nonce} ")?;
    match &message.body {
        SnapshotBody::Offer { header_bytes, records } => write!(f, "offer, {header_bytes} bytes, {records} records"),
        SnapshotBody::Pull { part, at, count_max, .. } => write!(f, "pull {part:?} {at}, at most {count_max}"),
        SnapshotBody::Chunk { part, at, count, bytes } => {
            write!(f, "chunk {part:?} {at}, {count} in {} bytes", bytes.len())
        }
        SnapshotBody::End { installed, reason } => write!(f, "end, installed {installed} {reason}"),
    }
}

/// A message between nodes, for the trace.
pub(super) fn describe(bytes: &Bytes) -> impl fmt::Display {
    struct Described(Bytes);
    impl fmt::Display for Described {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match PeerMessage::decode(self.0.clone()) {
                Ok(PeerMessage::Raft(shard, message)) => write!(
                    f,
                    "shard {shard} {:?} term {} index {} log term {} commit {}{}, {} entries",
                    message.kind,
                    message.term,
                    message.index,
                    message.log_term,
                    message.commit,
                    if message.reject { " rejected" } else { "" },
                    message.entries.len()
                ),
                Ok(PeerMessage::Forward { id, request, .. }) => match Request::decode(request) {
                    Ok(request) => write!(f, "forwards request {id}: {:?}", request.body),
                    Err(error) => write!(f, "forwards request {id}, unreadable: {error}"),
                },
                Ok(PeerMessage::ForwardReply { id, response }) => match Response::decode(response) {
                    Ok(response) => write!(f, "answers forwarded request {id}: {:?}", response.body),
                    Err(error) => write!(f, "answers forwarded request {id}, unreadable: {error}"),
                },
                Ok(PeerMessage::Trace { id, context }) => write!(f, "request {id} is part of trace {}", context.trace),
                Ok(PeerMessage::Returned { id, .. }) => write!(f, "returns forwarded request {id}"),
                Ok(PeerMessage::Leading(shards)) => write!(f, "leads {shards:?}"),
                Ok(PeerMessage::Ring(_)) => write!(f, "a ring map"),
                Ok(PeerMessage::AuthNews { epoch, .. }) => write!(f, "a table of users of epoch {epoch} is known"),
                Ok(PeerMessage::AuthWanted) => write!(f, "a table of users is wanted"),
                Ok(PeerMessage::AuthTable(_)) => write!(f, "a table of users"),
                Ok(PeerMessage::DataKeys { kek, epoch }) => write!(f, "data keys of epoch {epoch}, by {kek:x}"),
                Ok(PeerMessage::MapAsked { number }) => write!(f, "which ring map is the newest? {number}"),
                Ok(PeerMessage::MapIs { number, epoch }) => {
                    write!(f, "the newest ring map is epoch {epoch}, to {number}")
                }
                Ok(PeerMessage::Report(report)) => write!(f, "report: {report:?}"),
                Ok(PeerMessage::Unfit(reasons)) => write!(f, "unfit: {reasons:#x}"),
                Ok(PeerMessage::Clock(wall_ms)) => write!(f, "its wall clock shows {wall_ms} ms"),
                Ok(PeerMessage::Snapshot(shard, message)) => write_snapshot(f, shard, &message),
                Ok(PeerMessage::Hello(_)) => write!(f, "hello"),
                Ok(PeerMessage::Unknown { kind, .. }) => write!(f, "a message of kind {kind}"),
                Err(error) => write!(f, "unreadable: {error}"),
            }
        }
    }
    Described(bytes.clone())
}
