//! The end of a run: everything heals, progress is required, and what clients saw is judged.

use super::lives::SeenOfLogTime;
use super::queue::Moment;
use super::{Event, PROGRESS_MS, Phase, SETTLE_MS, SETTLES_MAX, World};
use crate::checker::{self, Limits, Verdict};
use crate::plan::{Act, Step};
use crate::run::Run;
use kvorum_protocol::ShardId;
use kvorum_protocol::hash::shard_of;

impl World<'_> {
    /// Everything heals: from now on progress is required.
    pub(super) fn heal(&mut self) {
        let leaderless = self.clients.iter().map(|client| client.leaderless).sum();
        self.add("requests that found no leader", leaderless);
        self.healed = true;
        self.end_all_faults();
        self.phase = Phase::Probing;
        let keys = self.probe_keys();
        let steps = keys.into_iter().map(|key| Step { after_ms: 0, act: Act::Incr(key) }).collect();
        self.trace.note(self.time.now(), "heal", &[], format_args!("everything heals"));
        let wait = Moment(0).after_ms(self.now().ms() + PROGRESS_MS);
        self.with_client(self.prober, |client, context| client.extend(steps, context));
        self.queue.push(wait, Event::Judge);
    }

    /// Counters, one in each shard.
    pub(super) fn probe_keys(&self) -> Vec<u32> {
        let mut wanted: Vec<ShardId> = (0..self.ring.shards.len() as u16).map(ShardId).collect();
        let topology = self.ring.topology(|_| None);
        let mut keys = Vec::new();
        for key in 1_000_000.. {
            let shard = topology.shard_of(format!("n{key}").as_bytes());
            if let Some(at) = wanted.iter().position(|other| *other == shard) {
                wanted.swap_remove(at);
                keys.push(key);
            }
            if wanted.is_empty() {
                break;
            }
        }
        keys
    }

    /// Looks whether what must have happened by now has. Returns whether the run is over.
    pub(super) fn judge(&mut self) -> bool {
        let waits = self.clients.iter().position(|client| !client.is_done());
        match self.phase {
            Phase::Faults => false,
            Phase::Probing => {
                if self.operations_of_prober_failed() {
                    let detail = format!("a shard took no write within {PROGRESS_MS} ms of healing\n{}", self.states());
                    self.violate("progress", detail);
                    return true;
                }
                self.phase = Phase::Reading;
                self.read_everything();
                false
            }
            Phase::Reading | Phase::Rereading => {
                if let Some(client) = waits.filter(|client| *client == self.prober) {
                    self.violate("progress", format!("client {client} still waits\n{}", self.states()));
                    return true;
                }
                if let Some((property, what)) = self.unsettled() {
                    if self.settles < SETTLES_MAX {
                        self.settles += 1;
                        self.allow_repair_if_braked();
                        self.queue.push(self.now().after_ms(SETTLE_MS), Event::Judge);
                        return false;
                    }
                    self.violate(property, format!("{what}\n{}", self.states()));
                    return true;
                }
                if let Some((property, detail)) = self.invariants.compare(&self.nodes) {
                    self.violate(property, detail);
                    return true;
                }
                if self.phase == Phase::Rereading {
                    return true;
                }
                (self.phase, self.settles) = (Phase::Rereading, 0);
                self.start_all_again();
                self.read_everything();
                false
            }
        }
    }

    /// The prober reads every key that was ever touched.
    fn read_everything(&mut self) {
        self.settled.get_or_insert(self.time.now());
        let keys = self.recorder.keys();
        self.with_client(self.prober, |client, context| client.read_all(keys, context));
        self.queue.push(self.now().after_ms(SETTLE_MS), Event::Judge);
    }

    /// What is not as it should be by now, and the property that it breaks if it stays so.
    fn unsettled(&self) -> Option<(&'static str, String)> {
        let unfinished = self.unfinished().map(|what| ("progress", what));
        unfinished.or_else(|| self.untidy()).or_else(|| self.unanswered().map(|what| ("replies", what)))
    }

    /// An answer to a forwarded request that found a full lane, and has not left by now, although somebody may wait for it.
    fn unanswered(&self) -> Option<String> {
        self.nodes.iter().enumerate().find_map(|(at, node)| {
            let process = node.process.as_ref()?;
            let held = process.outbox.owed().into_iter().find(|(to, id)| process.desk.holds(*to, *id));
            held.map(|(to, id)| format!("node {at} owes {to} an answer to what it passed on as {id}"))
        })
    }

    pub(super) fn operations_of_prober_failed(&self) -> bool {
        let prober = &self.clients[self.prober];
        !prober.is_done() || prober.failures > prober.verdicts
    }

    /// How every replica is, for the report of a run that got stuck.
    pub(super) fn states(&self) -> String {
        let mut lines = String::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(process) = &node.process else {
                lines.push_str(&format!("node {at} is down\n"));
                continue;
            };
            for (shard, replica) in &process.shards {
                let state = match &replica.host {
                    Some(host) => format!("{:?}", host.shard().status()),
                    None if replica.faulty => "faulty".to_owned(),
                    None => "closed".to_owned(),
                };
                lines.push_str(&format!("node {at} shard {shard}: {state}\n"));
            }
        }
        lines
    }

    pub(super) fn finish(mut self) -> Run {
        let ring = self.plan.options.disk.journal_files;
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let again = running.map(|process| process.journal.files_used_again(ring)).sum();
        self.add("journal files used again", again);
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let refused = running.map(|process| process.outbox.refused()).sum();
        self.add("answers that found a full lane", refused);
        let (mut retries, mut renumbered, mut redirects, mut disk_full, mut overloaded) = (0, 0, 0, 0, 0);
        let (mut applied, mut lost, mut replayed) = (0, 0, 0);
        for client in &self.clients {
            retries += client.retries;
            renumbered += client.renumbered;
            redirects += client.redirects;
            disk_full += client.disk_full;
            overloaded += client.overloaded;
            applied += client.awaited_applied;
            lost += client.awaited_lost;
            replayed += client.replayed;
        }
        self.add("writes sent again", retries);
        self.add("awaited writes that were applied", applied);
        self.add("awaited writes that were lost", lost);
        self.add("writes answered under a name that was used", replayed);
        self.add("writes given another number", renumbered);
        self.add("operations redirected", redirects);
        let joint_ends = self.invariants.joint_ends;
        self.add("joint states interrupted", joint_ends);
        self.add("writes refused for want of room", disk_full);
        self.add("requests turned away by a full queue", overloaded);
        let unknown = self.operations["unknown"];
        self.add("operations of unknown outcome", unknown);
        self.clients.iter_mut().for_each(|client| client.leave_open(&mut self.recorder));
        if let Some(nonsense) = self.recorder.nonsense.take() {
            self.violate("protocol", nonsense);
        }
        if let Some(overtaken) = self.recorder.overtaken() {
            self.violate("session-order", overtaken);
        }
        let settled = self.settled.unwrap_or(Moment(u64::MAX));
        let (log_times, shards) = (&self.log_times, self.plan.options.shards);
        let made_up_ms = |key: &[u8], from, to| log_times.made_up_ms(shard_of(key, shards), from, to);
        let apart = |key: &[u8]| log_times.apart(shard_of(key, shards));
        let log_times = SeenOfLogTime { made_up_ms: &made_up_ms, apart: &apart };
        if self.violation.is_none()
            && let Some(detail) = self.recorder.lives().broken(self.plan, settled, &log_times)
        {
            self.violate("ttl", detail);
        }
        if self.violation.is_none() {
            let history = std::mem::take(&mut self.recorder).into_history();
            match checker::check(&history, Limits::default()) {
                Verdict::Linearizable => {}
                Verdict::NotLinearizable(report) => self.violate("linearizability", report.to_string()),
                Verdict::Undecided { .. } => self.count("histories left undecided"),
            }
        }
        let simulated_ms = self.now().ms();
        let (trace_hash, trace) = self.trace.finish();
        Run {
            violation: self.violation,
            trace_hash,
            trace,
            simulated_ms,
            operations: self.operations,
            faults: self.faults,
            coverage: self.coverage,
        }
    }
}
