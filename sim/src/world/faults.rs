//! What goes wrong: how each fault of a plan begins and ends.

use super::node::{Crash, LosesPower, Medium};
use super::replicas::Hold;
use super::{Event, World, node_of};
use crate::disk::FileKind;
use crate::plan::{FaultKind, HeldUp};
use kvorum_core::consensus::Role;
use kvorum_core::ring::RingMap;
use kvorum_core::ring::verbs::Verb;
use kvorum_core::routing::network::PeerNetwork as _;
use kvorum_core::shard::host::TurnStep;
use kvorum_core::shard::inbox::ShardCommand;
use kvorum_protocol::peer::PeerMessage;
use kvorum_protocol::{FolderId, ShardId};
use rand::Rng as _;
use uuid::Uuid;

/// A connection whose other end is silent for this long is given up.
const IDLE_TIMEOUT_MS: u64 = 3_000;

/// The end of a fault that lasts.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// These ways work again.
    Cut(Vec<(usize, usize)>),
    /// Clients reach the node again.
    Isolated(usize),
    /// There is room on the disk again.
    Full(usize),
}

impl World<'_> {
    pub(super) fn begin_fault(&mut self, number: usize) {
        if self.healed {
            return;
        }
        let kind = self.plan.faults[number].kind;
        let took_effect = self.apply(kind);
        self.trace.note(
            self.time.now(),
            "fault",
            &[number as u64, took_effect.into()],
            format_args!("{kind:?}{}", if took_effect { "" } else { " has nothing to act on" }),
        );
        if took_effect {
            *self.faults.entry(name(&kind)).or_default() += 1;
        }
    }

    fn apply(&mut self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Kill { node, down_ms } => self.crash(node, Crash { power: false, down_ms }),
            FaultKind::PowerLoss { node, down_ms } => self.crash(node, Crash { power: true, down_ms }),
            FaultKind::PowerLossEverywhere { down_ms } => {
                let nodes = 0..self.nodes.len() as u16;
                nodes.fold(false, |any, node| self.crash(node, Crash { power: true, down_ms }) | any)
            }
            FaultKind::CrashAtOperation { node, operation, power, down_ms } => self.on_running(node, |world, at| {
                world.nodes[at].files.crash_after(operation);
                world.nodes[at].crash = Some(Crash { power, down_ms });
            }),
            FaultKind::CrashAtJournalFile { node, power, down_ms } => self.on_running(node, |world, at| {
                world.nodes[at].files.crash_at_journal_file_start();
                world.nodes[at].crash = Some(Crash { power, down_ms });
            }),
            FaultKind::Restart { node, down_ms } => self.restart(node, down_ms),
            FaultKind::Pause { node, ms } => self.on_running(node, |world, at| {
                // What an earlier one holds up comes when that is over.
                let until = world.now().after_ms(ms);
                world.nodes[at].paused_until = world.nodes[at].paused_until.max(Some(until));
                if ms > IDLE_TIMEOUT_MS {
                    world.plan_partings(at);
                }
            }),
            FaultKind::HoldTurn { node, shard, before, ms, deaf_ms } => self.on_running(node, |world, at| {
                let Some(process) = &mut world.nodes[at].process else { return };
                let after = match before {
                    HeldUp::Drain => TurnStep::Begun,
                    HeldUp::Clock => TurnStep::Drained,
                    HeldUp::Work => TurnStep::Timed,
                    HeldUp::Effects => TurnStep::Worked,
                };
                process.holds.push(Hold { shard: ShardId(shard), after, ms, deaf_ms });
            }),
            FaultKind::PanicShard { node, shard } => self.panic_shard(node, ShardId(shard)),
            FaultKind::Isolate { node, ms } => self.isolate(node, ms, true),
            FaultKind::CutFromPeers { node, ms } => self.isolate(node, ms, false),
            FaultKind::CutOneWay { from, to, ms } => {
                let (from, to) = (usize::from(from), usize::from(to));
                if from == to || from >= self.nodes.len() || to >= self.nodes.len() {
                    return false;
                }
                self.cut(vec![(from, to)], ms);
                true
            }
            FaultKind::Clog { node, ms } => self.on_running(node, |world, at| {
                world.peer_links.clog(at, world.now().after_ms(ms));
            }),
            FaultKind::Transfer { shard, to } => self.transfer(ShardId(shard), usize::from(to)),
            FaultKind::SyncFails { node, journal } => self.on_running(node, |world, at| {
                let kind = if journal { FileKind::Journal } else { FileKind::Segment };
                world.nodes[at].files.fail_next_sync(Some(kind));
            }),
            FaultKind::WriteFails { node } => {
                self.on_running(node, |world, at| world.nodes[at].files.fail_next_write(Some(FileKind::Journal)))
            }
            FaultKind::ReadsFail { node, count } => {
                self.on_running(node, |world, at| world.nodes[at].files.fail_next_reads(count))
            }
            FaultKind::DiskFull { node, ms } => self.on_running(node, |world, at| {
                world.nodes[at].files.set_full(true);
                world.queue.push(world.now().after_ms(ms), Event::Ends(Ending::Full(at)));
            }),
            FaultKind::DiskFills { node, room_bytes, ms } => self.on_running(node, |world, at| {
                let files = &world.nodes[at].files;
                files.set_capacity(Some(files.used_bytes() + u64::from(room_bytes)));
                world.queue.push(world.now().after_ms(ms), Event::Ends(Ending::Full(at)));
            }),
            FaultKind::DiskStalls { node, ms } => self.on_running(node, |world, at| {
                world.nodes[at].stalled_until = world.now().after_ms(ms);
            }),
            FaultKind::FlipBit { node, journal } => {
                let kind = if journal { FileKind::Journal } else { FileKind::Segment };
                let at = usize::from(node);
                if at >= self.nodes.len() || self.nodes[at].files.flip_bit(kind, &mut self.rng).is_none() {
                    return false;
                }
                // Without syncs no journal says how far a log must reach: what is damaged at its end looks like a torn tail.
                let medium = if self.plan.options.fsync { Medium::Damaged } else { Medium::MayForget };
                self.nodes[at].medium = self.nodes[at].medium.max(medium);
                if journal {
                    let round = self.nodes[at].process.as_ref().map_or(0, |process| process.journal.round());
                    self.nodes[at].newest_round_rots = Some(round);
                }
                true
            }
            FaultKind::MisdirectWrite { node, down_ms } => self.on_running(node, |world, at| {
                let node = &mut world.nodes[at];
                node.files.misdirect_next_write();
                node.medium = node.medium.max(Medium::Damaged);
                let misdirected = node.files.counts().faults.misdirected_writes;
                node.loses_power = (down_ms > 0).then_some(LosesPower { down_ms, misdirected, round: None });
            }),
            FaultKind::Wipe { node, down_ms } => {
                let wiped = self.crash(node, Crash { power: false, down_ms });
                if wiped {
                    let at = usize::from(node);
                    self.nodes[at].files.wipe();
                    self.nodes[at].medium = Medium::Sound;
                    self.nodes[at].newest_round_rots = None;
                    self.nodes[at].folder_id = FolderId(Uuid::from_u128(self.rng.random()));
                }
                wiped
            }
            FaultKind::GoneForGood { node } => self.lose_for_good(usize::from(node)),
            FaultKind::MadeUpMap { node } => self.make_up_map(usize::from(node)),
            FaultKind::Join { node } => {
                let verb = self.join_of(usize::from(node));
                let begins = verb.is_some();
                verb.into_iter().for_each(|verb| self.begin_to_ask(verb));
                begins
            }
            FaultKind::Remove { node } => self.on_machine(node, |world, at| {
                world.begin_to_ask(Verb::Remove { node: world.nodes[at].id, accept_fewer_zones: false });
            }),
            FaultKind::Replace { old, new } => self.on_machine(old, |world, at| {
                if let Some(new) = world.nodes.get(usize::from(new)) {
                    world.begin_to_ask(Verb::Replace { old: world.nodes[at].id, new: new.id });
                }
            }),
            FaultKind::Drain { node, ms } => self.on_machine(node, |world, at| {
                world.begin_to_ask(Verb::Drain { node: world.nodes[at].id, for_ms: ms });
            }),
            FaultKind::Keep { node } => self.on_machine(node, |world, at| {
                world.begin_to_ask(Verb::Keep(world.nodes[at].id));
            }),
            FaultKind::LoseHints { node } => {
                let at = usize::from(node);
                at < self.nodes.len() && self.nodes[at].files.lose_hints()
            }
            FaultKind::LoseManifests { node } => {
                let at = usize::from(node);
                if at >= self.nodes.len() || !self.nodes[at].files.lose_manifests() {
                    return false;
                }
                self.nodes[at].medium = Medium::MayForget;
                true
            }
            FaultKind::WallJump { node, ms } => self.on_machine(node, |world, at| world.nodes[at].clock.jump_wall(ms)),
            FaultKind::ClockRate { node, ppm } => {
                let ppm = ppm.clamp(-50_000, 50_000);
                self.on_machine(node, |world, at| world.nodes[at].clock.set_rate(ppm))
            }
            FaultKind::DropClients => {
                let connections: Vec<u64> =
                    (0..self.nodes.len()).flat_map(|node| self.client_links.of_node(node)).collect();
                connections.iter().for_each(|connection| self.break_client_link(*connection));
                !connections.is_empty()
            }
        }
    }

    /// One broken node is believed by nobody, whatever it sends as the ring map.
    fn make_up_map(&mut self, at: usize) -> bool {
        let Some(process) = self.nodes.get(at).and_then(|node| node.process.as_ref()) else { return false };
        let Some(agreed) = process.router.agreed_ring() else { return false };
        // No two of them make up the same.
        let made_up = RingMap { epoch: agreed.epoch + (1 << 40) + at as u64, ..(*agreed).clone() };
        let message = PeerMessage::Ring(made_up.to_bytes().into());
        let peers = process.outbox.up();
        for peer in &peers {
            // It may get lost like any other.
            let _ = process.outbox.send(*peer, &message);
        }
        self.flush(at);
        !peers.is_empty()
    }

    fn on_machine(&mut self, node: u16, act: impl FnOnce(&mut Self, usize)) -> bool {
        let at = usize::from(node);
        let there = at < self.nodes.len();
        if there {
            act(self, at);
        }
        there
    }

    fn on_running(&mut self, node: u16, act: impl FnOnce(&mut Self, usize)) -> bool {
        let at = usize::from(node);
        let runs = self.nodes.get(at).is_some_and(|node| node.process.is_some());
        if runs {
            act(self, at);
        }
        runs
    }

    fn crash(&mut self, node: u16, crash: Crash) -> bool {
        self.on_running(node, |world, at| world.kill(at, crash, "fault"))
    }

    fn restart(&mut self, node: u16, down_ms: u64) -> bool {
        self.on_running(node, |world, at| world.begin_stop(at, down_ms))
    }

    fn panic_shard(&mut self, node: u16, shard: ShardId) -> bool {
        let Some(process) = self.nodes.get(usize::from(node)).and_then(|node| node.process.as_ref()) else {
            return false;
        };
        let told = process.router.local(shard).is_some_and(|handle| handle.inbox.command(ShardCommand::Panic));
        self.flush(usize::from(node));
        told
    }

    pub(super) fn transfer(&mut self, shard: ShardId, to: usize) -> bool {
        let leads = |at: &usize| {
            let process = self.nodes[*at].process.as_ref();
            let host = process.and_then(|process| process.shards.get(&shard)?.host.as_ref());
            host.is_some_and(|host| host.shard().status().role == Role::Leader)
        };
        let Some(target) = self.nodes.get(to).map(|node| node.id) else { return false };
        let Some(leader) = (0..self.nodes.len()).find(leads) else { return false };
        let asked = leader != to
            && self.nodes[leader]
                .process
                .as_ref()
                .is_some_and(|process| process.router.transfer(shard, target).is_ok());
        if asked {
            self.count("hand-overs asked for");
            self.invariants.handle_transfer(leader, shard, to);
            self.flush(leader);
        }
        asked
    }

    fn isolate(&mut self, node: u16, ms: u64, from_clients: bool) -> bool {
        self.on_machine(node, |world, at| {
            let ways = world.peer_links.around(at);
            world.cut(ways, ms);
            if ms > IDLE_TIMEOUT_MS {
                world.plan_partings(at);
            }
            if from_clients {
                world.client_links.isolate(at, true);
                world.queue.push(world.now().after_ms(ms), Event::Ends(Ending::Isolated(at)));
            }
        })
    }

    pub(super) fn cut(&mut self, ways: Vec<(usize, usize)>, ms: u64) {
        ways.iter().for_each(|(from, to)| self.peer_links.cut(*from, *to, true));
        self.queue.push(self.now().after_ms(ms), Event::Ends(Ending::Cut(ways)));
    }

    /// The others give their connections with a silent node up.
    fn plan_partings(&mut self, at: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            if let Some(session) = self.peer_links.session(at, other) {
                let noticed = self.now().after_ms(IDLE_TIMEOUT_MS + self.rng.random_range(0..100));
                self.queue.push(noticed, Event::PeersPart(at, other, session));
            }
        }
    }

    pub(super) fn end_fault(&mut self, ending: Ending) {
        match ending {
            Ending::Cut(ways) => ways.iter().for_each(|(from, to)| self.peer_links.cut(*from, *to, false)),
            Ending::Isolated(at) => {
                self.client_links.isolate(at, false);
                let connections = self.client_links.of_node(at);
                connections.into_iter().for_each(|connection| self.break_client_link(connection));
            }
            Ending::Full(at) => {
                self.nodes[at].files.set_full(false);
                self.nodes[at].files.set_capacity(None);
            }
        }
    }

    /// Ends whatever goes on, and starts every node that is down.
    pub(super) fn end_all_faults(&mut self) {
        self.peer_links.mend_all();
        self.client_links.mend_all();
        let now = self.now();
        for at in 0..self.nodes.len() {
            let connections = self.client_links.of_node(at);
            connections.into_iter().for_each(|connection| self.break_client_link(connection));
            let node = &mut self.nodes[at];
            node.files.clear_faults();
            (node.crash, node.loses_power) = (None, None);
            node.stalled_until = now;
            // A round that was to take long ends now.
            if let Some(process) = &node.process {
                let (number, round) = (process.number, process.journal.round());
                self.queue.push(now, Event::RoundEnds(at, number, round));
            }
            if let Some(process) = &mut node.process {
                let number = process.number;
                for shard in process.end_holds() {
                    self.queue.push(now, Event::Turn(at, number, shard));
                }
            }
            // What a pause has held up is due when the pause would have ended.
            if let Some(until) = node.paused_until.take().filter(|until| *until > now) {
                let links = &self.client_links;
                self.queue.bring_forward(until, now, |event| node_of(event, links) == Some(at));
            }
            if node.process.is_none() && node.is_member() {
                self.queue.push(now, Event::Start(at));
            }
        }
    }
}

/// The name under which a fault is counted.
pub(super) fn name(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Kill { .. } => "kill",
        FaultKind::PowerLoss { .. } => "power loss",
        FaultKind::PowerLossEverywhere { .. } => "power loss everywhere",
        FaultKind::CrashAtOperation { .. } => "crash at an I/O operation",
        FaultKind::CrashAtJournalFile { .. } => "crash at a new journal file",
        FaultKind::Restart { .. } => "graceful restart",
        FaultKind::Pause { .. } => "pause",
        FaultKind::HoldTurn { .. } => "turn held up",
        FaultKind::PanicShard { .. } => "panic of one actor",
        FaultKind::Isolate { .. } => "isolation",
        FaultKind::CutFromPeers { .. } => "cut from peers",
        FaultKind::CutOneWay { .. } => "one-way cut",
        FaultKind::Clog { .. } => "clog",
        FaultKind::Transfer { .. } => "transfer",
        FaultKind::SyncFails { .. } => "sync fails",
        FaultKind::WriteFails { .. } => "write fails",
        FaultKind::ReadsFail { .. } => "reads fail",
        FaultKind::DiskFull { .. } => "disk full",
        FaultKind::DiskFills { .. } => "disk fills up",
        FaultKind::DiskStalls { .. } => "disk stalls",
        FaultKind::FlipBit { .. } => "bit flip",
        FaultKind::MisdirectWrite { .. } => "misdirected write",
        FaultKind::Wipe { .. } => "disk swapped",
        FaultKind::GoneForGood { .. } => "machine lost for good",
        FaultKind::MadeUpMap { .. } => "map made up",
        FaultKind::Join { .. } => "join",
        FaultKind::Remove { .. } => "remove",
        FaultKind::Replace { .. } => "replace",
        FaultKind::Drain { .. } => "drain",
        FaultKind::Keep { .. } => "keep",
        FaultKind::LoseHints { .. } => "hints lost",
        FaultKind::LoseManifests { .. } => "manifests lost",
        FaultKind::WallJump { .. } => "wall clock jump",
        FaultKind::ClockRate { .. } => "clock rate",
        FaultKind::DropClients => "clients dropped",
    }
}
