//! What happens on the nodes: processes start, work and end.

use super::node::{Crash, Medium, StartError, TICK_MS};
use super::replicas::{Ended, Hold, Listening, Turned};
use super::{Event, World};
use kvorum_core::clock::Clock as _;
use kvorum_protocol::{FolderId, ShardId};
use rand::Rng as _;
use uuid::Uuid;

/// A turn that waits for a heartbeat waits no longer than so many milliseconds.
const HEARTBEAT_AWAITED_MS: u64 = 150;

impl World<'_> {
    pub(super) fn start(&mut self, at: usize) {
        if self.nodes[at].process.is_some() || !self.nodes[at].is_member() {
            return;
        }
        self.lose_hints_at_start(at);
        self.processes += 1;
        let (number, seed) = (self.processes, self.rng.random());
        self.trace.note(self.time.now(), "start", &[at as u64], format_args!("node {at}, process {number}"));
        let started = self.nodes[at].start(&self.plan.options, &self.initial, number, seed);
        if self.crash_if_reached(at) {
            return;
        }
        match started {
            Ok(ended) => {
                let process = self.nodes[at].process.as_ref().expect("it has just started");
                let recovered = process.recovered();
                let replayed = process.replayed_chunks;
                let lost_memory = process.lost_memory.as_ref().map(ToString::to_string);
                if let Some(why) = lost_memory {
                    self.trace.note(
                        self.time.now(),
                        "lost",
                        &[at as u64],
                        format_args!("node {at} has amnesia: {why}"),
                    );
                    if self.nodes[at].medium.is_sound() {
                        self.violate(
                            "durability",
                            format!("node {at}'s journal is damaged, and nothing damaged it: {why}"),
                        );
                    }
                    self.count("nodes that gave everything up");
                }
                self.add("starts with rounds to replay", u64::from(replayed > 0));
                for found in &recovered {
                    self.add("torn tails cut", u64::from(found.cut_bytes > 0));
                    self.add("segments of cut tails removed", u64::from(found.removed_segments));
                }
                let tick = self.nodes[at].clock.true_ns(TICK_MS);
                let first = self.now().after_ns(self.rng.random_range(1..tick));
                self.queue.push(first, Event::Tick(at, number));
                let scrub = self.now().after_ms(self.rng.random_range(100..5_000));
                self.queue.push(scrub, Event::Scrub(at, number));
                for other in 0..self.nodes.len() {
                    self.plan_meeting(at, other);
                }
                self.replicas_became(at, ended);
            }
            Err(error) => self.start_failed(at, &error),
        }
    }

    pub(super) fn start_failed(&mut self, at: usize, error: &StartError) {
        self.trace.note(self.time.now(), "no start", &[at as u64], format_args!("node {at}: {error}"));
        self.nodes[at].files.kill();
        if error.is_damage() {
            if self.nodes[at].medium.is_sound() {
                self.violate("durability", format!("node {at}'s files are damaged, and nothing damaged them: {error}"));
            }
            // An operator empties the folder, and the node is taken in again as one that has forgotten everything.
            self.nodes[at].files.wipe();
            self.nodes[at].medium = Medium::Sound;
            self.nodes[at].newest_round_rots = None;
            self.nodes[at].folder_id = FolderId(Uuid::from_u128(self.rng.random()));
            self.count("folders emptied by an operator");
        }
        let at_time = self.now().after_ms(self.rng.random_range(500..2_000));
        self.queue.push(at_time, Event::Start(at));
    }

    /// The process ends on the spot.
    pub(super) fn kill(&mut self, at: usize, crash: Crash, why: &str) {
        if self.nodes[at].process.is_none() {
            return;
        }
        let Crash { power, down_ms } = crash;
        self.trace.note(
            self.time.now(),
            if power { "power loss" } else { "kill" },
            &[at as u64],
            format_args!("node {at}, down for {down_ms} ms: {why}"),
        );
        let node = &mut self.nodes[at];
        node.paused_until = None;
        (node.crash, node.loses_power) = (None, None);
        let ring = self.plan.options.disk.journal_files;
        let again = node.process.as_ref().map_or(0, |process| process.journal.files_used_again(ring));
        *self.coverage.entry("journal files used again").or_default() += again;
        node.end_files(power, &mut self.rng);
        // After the files have forgotten it: whatever it does while it is dropped reaches nobody.
        node.process = None;
        if power {
            let uptime_ms = self.rng.random_range(1_000..20_000);
            self.nodes[at].clock.reboot(uptime_ms);
        }
        self.invariants.handle_process_end(at);
        self.break_links(at);
        self.queue.push(self.now().after_ms(down_ms), Event::Start(at));
    }

    /// A node has promised more than before. If it rests on a write that landed elsewhere, the machine may have to lose power now.
    pub(super) fn loses_power_if_due(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (Some(process), Some(loses)) = (&node.process, &node.loses_power) else { return };
        if loses.round.is_some() {
            let (process, down_ms) = (process.number, loses.down_ms);
            node.loses_power = None;
            self.queue.push(self.time.now(), Event::LosesPower { node: at, process, down_ms });
        }
    }

    pub(super) fn lose_power(&mut self, at: usize, process: u64, down_ms: u64) {
        if self.is_current(at, process) && !self.healed {
            self.count("power lost behind a misdirected round");
            self.kill(at, Crash { power: true, down_ms }, "its newest round lies elsewhere");
        }
    }

    /// The disk has come to its crash point: the process, or the machine, ends there.
    pub(super) fn crash_if_reached(&mut self, at: usize) -> bool {
        if !self.nodes[at].files.crashed() {
            return false;
        }
        self.count("crash points reached");
        let crash = self.nodes[at].crash.take().unwrap_or(Crash { power: false, down_ms: 1_000 });
        if self.nodes[at].process.is_some() {
            self.kill(at, crash, "crash point");
        } else {
            // It crashed while it started.
            self.nodes[at].end_files(crash.power, &mut self.rng);
            self.queue.push(self.now().after_ms(crash.down_ms), Event::Start(at));
        }
        true
    }

    pub(super) fn tick(&mut self, at: usize, process: u64) {
        if !self.is_current(at, process) {
            return;
        }
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.process else { return };
        let actions = running.tick();
        let off = running.router.judged_clocks().off;
        let found_off = off && !std::mem::replace(&mut running.clock_off, off);
        running.clock_off = off;
        self.look_at_map(at);
        self.look_at_full_leader(at);
        if !self.is_current(at, process) {
            return;
        }
        if found_off {
            self.count("wall clocks found to be off");
        }
        if actions.full_changed {
            self.count(if actions.full { "disks that filled up" } else { "disks with room again" });
        }
        if actions.slow_changed && actions.slow {
            self.count("disks that stalled");
        }
        if actions.end_process {
            self.count("processes ended by a stalled disk");
            let down_ms = self.rng.random_range(100..2_000);
            return self.kill(at, Crash { power: false, down_ms }, "the disk stalls");
        }
        let next = self.now().after_ns(self.nodes[at].clock.true_ns(TICK_MS));
        self.queue.push(next, Event::Tick(at, process));
        self.flush(at);
    }

    pub(super) fn turn(&mut self, at: usize, process: u64, shard: ShardId) {
        if !self.is_current(at, process) {
            return;
        }
        self.check_queues(at, shard);
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.process else { return };
        let turned = running.turn(shard, &node.clock);
        if self.crash_if_reached(at) {
            return;
        }
        match turned {
            Turned::Over(became) => {
                if became.is_empty() {
                    self.look_at(at, shard);
                }
                self.replicas_became(at, became);
            }
            Turned::HeldUp(Hold { ms, deaf_ms, .. }) => {
                self.count("turns held up");
                self.trace.note(
                    self.time.now(),
                    "held up",
                    &[at as u64, shard.0.into(), ms],
                    format_args!("node {at} shard {shard} for {ms} ms, in the middle of its turn"),
                );
                let until = self.now().after_ms(ms);
                if let Some(running) = self.nodes[at].process.as_mut().filter(|_| deaf_ms > 0) {
                    running.listening = Some(Listening { shard, since: until, deaf_ms });
                }
                let longest = if deaf_ms > 0 { until.after_ms(HEARTBEAT_AWAITED_MS) } else { until };
                self.queue.push(longest, Event::Turn(at, process, shard));
                self.flush(at);
            }
        }
    }

    /// A heartbeat has come in on the way from one node to another. A turn that has waited for it goes on, and nothing more comes that way
    /// for a while.
    pub(super) fn heartbeat_arrives(&mut self, shard: ShardId, (from, to): (usize, usize)) {
        let now = self.now();
        let Some(running) = &mut self.nodes[to].process else { return };
        let heard = running.listening.take_if(|listening| listening.shard == shard && listening.since <= now);
        let (Some(Listening { deaf_ms, .. }), process) = (heard, running.number) else { return };
        if running.shards.get(&shard).is_some_and(|replica| replica.held_up) {
            self.count("turns held up until a heartbeat");
            self.queue.push(now, Event::Turn(to, process, shard));
            self.cut(vec![(from, to)], deaf_ms);
        }
    }

    pub(super) fn reopen(&mut self, at: usize, process: u64, shard: ShardId) {
        if !self.is_current(at, process) {
            return;
        }
        self.count("shards restarted by their supervisor");
        self.lose_hints_at_start(at);
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.process else { return };
        let became = running.restart(shard, &node.clock);
        self.trace.note(
            self.time.now(),
            "reopen",
            &[at as u64, shard.0.into()],
            format_args!("node {at} shard {shard}"),
        );
        if self.crash_if_reached(at) {
            return;
        }
        self.replicas_became(at, became);
    }

    /// Looks at what became of a node's replicas.
    pub(super) fn replicas_became(&mut self, at: usize, became: Vec<(ShardId, Ended)>) {
        for (shard, how) in became {
            if matches!(how, Ended::Fine) {
                self.check_recovered(at, shard);
            }
            self.shard_ended(at, shard, how);
        }
        self.flush(at);
    }

    /// Deals with a replica whose turn or opening did not go well.
    fn shard_ended(&mut self, at: usize, shard: ShardId, how: Ended) {
        let Some(process) = self.nodes[at].number() else { return };
        let (word, why) = match &how {
            Ended::Fine => return,
            Ended::Reopens(why) => ("is opened anew", why.clone()),
            Ended::RestartsAfter { why, .. } => ("fails", why.clone()),
            Ended::Faulty(why) => ("faulty", why.clone()),
            Ended::DiskFailed(why) => ("disk fails", why.clone()),
            Ended::Replaced(why) => ("replaced", why.clone()),
            Ended::GaveUp(why) => ("gives up", why.clone()),
            Ended::Unsupported(why) => ("does not read", why.clone()),
        };
        self.trace.note(
            self.time.now(),
            word,
            &[at as u64, shard.0.into()],
            format_args!("node {at} shard {shard}: {why}"),
        );
        self.invariants.handle_replica_end(at, shard);
        if why.starts_with("panicked") && !why.contains("fault hook") {
            self.violate("panic", format!("node {at} shard {shard} {why}"));
        }
        match how {
            Ended::Fine => {}
            Ended::Replaced(_) => self.count("replicas stopped to be replaced"),
            Ended::Reopens(_) => {
                self.count("snapshots installed");
                self.queue.push(self.now(), Event::Reopen(at, process, shard));
            }
            Ended::RestartsAfter { ms, .. } => {
                let at_time = self.now().after_ns(self.nodes[at].clock.true_ns(ms));
                self.queue.push(at_time, Event::Reopen(at, process, shard));
            }
            Ended::Faulty(_) => {
                self.count("faulty replicas");
                let removed = self.nodes[at].process.as_mut().and_then(|process| process.lost_by_opening.take());
                if let Some(name) = removed {
                    let detail = format!("node {at} shard {shard}: a start that found damage removed {name}: {why}");
                    self.violate("damage", detail);
                }
                if self.nodes[at].medium.is_sound() {
                    self.violate(
                        "durability",
                        format!("node {at} shard {shard} is damaged, and nothing damaged it: {why}"),
                    );
                }
            }
            Ended::DiskFailed(_) => {
                self.count("processes ended by a failed sync or write");
                let down_ms = self.rng.random_range(100..2_000);
                self.kill(at, Crash { power: false, down_ms }, "disk failed");
            }
            // One program writes all, and a flip makes no other version.
            Ended::Unsupported(_) => {
                self.violate("durability", format!("node {at} shard {shard} holds what no program has written: {why}"));
            }
            Ended::GaveUp(_) => {
                self.count("processes that gave up");
                let down_ms = self.rng.random_range(500..3_000);
                self.kill(at, Crash { power: false, down_ms }, "gave up");
            }
        }
    }

    pub(super) fn round_ends(&mut self, at: usize, process: u64, round: u64) {
        if !self.is_current(at, process) {
            return;
        }
        let Some(running) = &mut self.nodes[at].process else { return };
        if running.journal.round() != round {
            return;
        }
        let ended = running.journal.end();
        if ended.is_ok() {
            // Another round is the newest, and whatever is wrong with those before shows at the next start.
            self.nodes[at].newest_round_rots.take_if(|during| *during < round);
            self.nodes[at].note_misdirected(round);
        }
        self.journal_did(at, ended.map(drop).map_err(|error| error.to_string()));
    }

    pub(super) fn begin_round(&mut self, at: usize) {
        let write_first = self.rng.random_bool(0.5);
        let disk = &self.plan.options.disk;
        let sync_us = self.rng.random_range(disk.sync_min_us..=disk.sync_max_us.max(disk.sync_min_us));
        let (now, stalled_until) = (self.now(), self.nodes[at].stalled_until);
        let monotonic = self.nodes[at].clock.monotonic();
        let Some(running) = &mut self.nodes[at].process else { return };
        let process = running.number;
        let began = running.journal.begin(write_first, monotonic).map_err(|error| error.to_string());
        let ends = now.after_us(sync_us).max(stalled_until);
        let round = running.journal.round();
        self.queue.push(ends, Event::RoundEnds(at, process, round));
        if began.is_err() || self.nodes[at].files.crashed() {
            self.journal_did(at, began);
        }
    }

    /// A failed write or sync ends the process.
    pub(super) fn journal_did(&mut self, at: usize, done: Result<(), String>) {
        if self.crash_if_reached(at) {
            return;
        }
        match done {
            Ok(()) => self.flush(at),
            Err(why) => {
                self.count("processes ended by a failed sync or write");
                let down_ms = self.rng.random_range(100..2_000);
                self.kill(at, Crash { power: false, down_ms }, &why);
            }
        }
    }

    pub(super) fn collect(&mut self, at: usize, process: u64) {
        if !self.is_current(at, process) {
            return;
        }
        let Some(running) = &mut self.nodes[at].process else { return };
        running.collects = false;
        for (connection, bytes) in running.collect() {
            self.send_to_client(connection, bytes);
        }
        self.flush(at);
    }

    /// How long a step of the upkeep takes: mostly some milliseconds, at times seconds.
    fn upkeep_us(&mut self) -> u64 {
        let most = [2_000, 20_000, 20_000, 200_000, 3_000_000][self.rng.random_range(0..5)];
        self.rng.random_range(100..most)
    }

    /// The node's upkeep takes its next step.
    pub(super) fn upkeep(&mut self, at: usize, process: u64) {
        if !self.is_current(at, process) {
            return;
        }
        let Some(running) = &mut self.nodes[at].process else { return };
        let ran = running.upkeep();
        if let Some((shard, how)) = &ran {
            self.trace.note(
                self.time.now(),
                "upkeep",
                &[at as u64, shard.0.into()],
                format_args!("node {at} shard {shard}: {how}"),
            );
        }
        if self.crash_if_reached(at) {
            return self.count("upkeep cut short by a crash");
        }
        if let Some((shard, how)) = ran {
            match how.as_str() {
                "Write: written" => self.count("checkpoints"),
                "Compact: compacted" => self.count("compactions"),
                "Compact: cancelled" | "Write: cancelled" | "Remove: cancelled" => self.count("upkeep cancelled"),
                panic if panic.starts_with("panicked") => {
                    self.violate("panic", format!("node {at} shard {shard}: {how}"));
                }
                _ => {}
            }
        }
        self.flush(at);
    }

    /// Plans what follows from what a node has just done.
    pub(super) fn flush(&mut self, at: usize) {
        let Some(running) = &mut self.nodes[at].process else { return };
        let process = running.number;
        let newly_owed = running.outbox.take_newly_owed();
        let dropped =
            newly_owed.into_iter().find(|(to, id)| !running.desk.holds(*to, *id) && running.outbox.owes(*to, *id));
        let packets = running.outbox.take();
        let ready = running.take_ready();
        let collects = !running.collects && running.has_answers();
        running.collects |= collects;
        let round = running.journal.is_waiting();
        let upkeep = running.plans_upkeep();
        if let Some((to, id)) = dropped {
            self.violate("replies", format!("node {at} dropped the answer to what {to} passed on as {id}"));
        }
        for (to, bytes) in packets {
            self.note_promise(at, &bytes);
            self.send_to_peer(at, to, bytes);
        }
        for shard in ready {
            let soon = self.now().after_ns(self.rng.random_range(1_000..100_000));
            self.queue.push(soon, Event::Turn(at, process, shard));
        }
        if collects {
            let soon = self.now().after_ns(self.rng.random_range(1_000..100_000));
            self.queue.push(soon, Event::Collect(at, process));
        }
        if upkeep {
            let soon = self.now().after_us(self.upkeep_us());
            self.queue.push(soon, Event::Upkeep(at, process));
        }
        if round {
            self.begin_round(at);
        }
    }
}
