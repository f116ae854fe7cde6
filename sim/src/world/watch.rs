//! Looking at replicas after each of their turns.

use super::node::{Node, TICK_MS, queue_limits};
use super::queue::Moment;
use super::{World, clock, links};
use bytes::Bytes;
use kvorum_core::clock::{Clock as _, Nanos};
use kvorum_core::consensus::Role;
use kvorum_core::consensus::lease::LeaseLength;
use kvorum_core::limits::ELECTION_TICKS;
use kvorum_core::log::ShardLog;
use kvorum_core::log::operations::Operations;
use kvorum_core::shard::{ReplicaStatus, Restored};
use kvorum_protocol::peer::{PeerMessage, RaftMessage, RaftMessageKind};
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, Version};

impl World<'_> {
    /// A replica has been opened: what it promised before must be in its log.
    pub(super) fn check_recovered(&mut self, at: usize, shard: ShardId) {
        let node = &self.nodes[at];
        let host = node.process.as_ref().and_then(|process| process.shards.get(&shard)?.host.as_ref());
        match host.map(|host| host.shard().restored()) {
            Some(Restored::Hint) => *self.coverage.entry("hints used").or_default() += 1,
            Some(Restored::Scan) => *self.coverage.entry("indexes rebuilt").or_default() += 1,
            Some(Restored::Nothing) | None => {}
        }
        let Some(opened) = host.map(|host| host.shard()) else { return };
        let (replica, log) = (opened.replica(), opened.log());
        let Some((property, detail)) = self.invariants.check_promises(at, shard, replica, log) else { return };
        if node.may_have_forgotten() {
            self.invariants.forget_promises(shard, replica, log);
            self.count("promises that rot has taken");
        } else {
            self.violate(property, detail);
        }
    }

    /// A vote or an answer to a leader leaves a node: what it says must be there for ever, and what a leader's lease rests on holds.
    pub(super) fn note_promise(&mut self, at: usize, bytes: &Bytes) {
        if !links::is_promise(bytes) {
            return;
        }
        let Ok(PeerMessage::Raft(shard, message)) = PeerMessage::decode(bytes.clone()) else { return };
        let process = self.nodes[at].process.as_ref();
        let host = process.and_then(|process| process.shards.get(&shard)?.host.as_ref());
        if let Some(host) = host.filter(|_| message.kind != RaftMessageKind::TimeoutNow)
            && self.invariants.handle_promise(shard, host.shard().log(), &message)
        {
            self.loses_power_if_due(at);
        }
        let lease_until = self.lease_until(shard, &message);
        if let Some(broken) = self.refusals.look(self.time.now(), shard, &message, lease_until) {
            self.violate("lease-safety", format!("node {at} {broken}"));
        }
    }

    /// Until when a lease lasts at the most that rests on this answer to a leader, if that still runs.
    fn lease_until(&self, shard: ShardId, answer: &RaftMessage) -> Option<Moment> {
        let leads = |node: &&Node| {
            let host = node.process.as_ref().and_then(|process| process.shards.get(&shard)?.host.as_ref());
            let led = |status: ReplicaStatus| status.role == Role::Leader && status.term == answer.term;
            host.is_some_and(|host| host.shard().replica() == answer.to && led(host.shard().status()))
        };
        let leader = self.nodes.iter().find(leads).filter(|_| answer.lease_stamp != 0)?;
        let age_ms = leader.clock.monotonic().ms_since(Nanos(answer.lease_stamp));
        let left_ms = LeaseLength::new(ELECTION_TICKS, TICK_MS).ms().checked_sub(age_ms)?;
        Some(self.now().after_ns(leader.clock.true_ns(left_ms)))
    }

    /// What may be seen of a replica after its turn.
    pub(super) fn look_at(&mut self, at: usize, shard: ShardId) {
        let node = &self.nodes[at];
        let Some(host) = node.process.as_ref().and_then(|process| process.shards.get(&shard)?.host.as_ref()) else {
            return;
        };
        let snapshot = host.shard().status();
        let numbers = [
            at as u64,
            shard.0.into(),
            snapshot.term.0,
            snapshot.role as u64,
            snapshot.last_index.0,
            snapshot.committed.0,
            snapshot.applied.0,
        ];
        self.trace.note(
            self.time.now(),
            "turn",
            &numbers,
            format_args!(
                "node {at} shard {shard}: {:?} term {} last {} committed {} applied {}{}",
                snapshot.role,
                snapshot.term,
                snapshot.last_index,
                snapshot.committed,
                snapshot.applied,
                if snapshot.serving { " serving" } else { "" }
            ),
        );
        if self.trace.keeps_lines() {
            let from = self.invariants.applied(at, shard).max(host.shard().log().before_first().0);
            for index in from.0 + 1..=snapshot.applied.0 {
                let text =
                    format!("node {at} shard {shard} applied {}", describe_entry(host.shard().log(), LogIndex(index)));
                self.trace.tell(self.time.now(), &text);
            }
        }
        let log_time = self.log_time_of(at, shard);
        let node = &self.nodes[at];
        let Some(host) = node.process.as_ref().and_then(|process| process.shards.get(&shard)?.host.as_ref()) else {
            return;
        };
        let seen = self.invariants.handle_turn(at, shard, host.shard(), &snapshot, !node.medium.is_sound());
        for name in seen.counted {
            self.count(name);
        }
        if seen.beyond_help {
            self.count("runs ended by rot of a newest round");
            self.beyond_help = true;
            return;
        }
        let moves = self
            .look_at_moves(at, shard, &seen.promoted, seen.begins_hand_over)
            .or_else(|| self.is_settled_elsewhere(at, shard, seen.settled_elsewhere));
        if let Some((property, detail)) = seen
            .broken
            .or(moves)
            .or_else(|| self.lease_is_shared(at, shard))
            .or_else(|| self.is_ahead_of_leader(at, shard))
            .or(log_time)
        {
            self.violate(property, detail);
        }
    }

    /// Whether log time runs as it should, if this replica leads.
    fn log_time_of(&mut self, at: usize, shard: ShardId) -> Option<(&'static str, String)> {
        let node = &self.nodes[at];
        let process = node.process.as_ref()?;
        let replica = process.shards.get(&shard)?.host.as_ref()?.shard();
        let snapshot = replica.status();
        if snapshot.version == Version(0) {
            // Nothing was ever written that could live by it, so it may begin anywhere.
            return None;
        }
        let time_ms = replica.log_time_ms(node.clock.monotonic()).filter(|_| snapshot.serving)?;
        let leader = (at, process.number, snapshot.term.0);
        let true_ms = clock::WALL_ORIGIN_MS as u64 + self.time.now().ms();
        self.log_times.note(shard, time_ms, true_ms);
        let right_ms = self.most_clocks_are_right.then_some(true_ms);
        let wrong = self.log_times.look(shard, leader, self.time.now(), time_ms, right_ms)?;
        Some(("log-time", format!("node {at} shard {shard}: {wrong}")))
    }

    /// A shard is about to have its turn: its queues are as full as they get.
    pub(super) fn check_queues(&mut self, at: usize, shard: ShardId) {
        let limits = queue_limits(&self.plan.options);
        let Some(process) = &self.nodes[at].process else { return };
        let Some(host) = process.shards.get(&shard).and_then(|replica| replica.host.as_ref()) else { return };
        if process.shards.values().any(|replica| replica.held_up) {
            // What was taken in a turn that is not over is on neither list.
            return;
        }
        let (queued, taken, taken_bytes) = host.queued();
        let (requests, bytes) = (queued.requests + taken, queued.requests_bytes + taken_bytes);
        let of_node = || -> usize {
            let hosts = process.shards.values().filter_map(|replica| replica.host.as_ref());
            hosts.map(|host| host.queued()).map(|(queued, taken, _)| queued.requests + taken).sum()
        };
        // What is alone in its queue may be of any size.
        let over = requests > limits.requests
            || (bytes > limits.requests_bytes && requests > 1)
            || (queued.messages_bytes > limits.messages_bytes && queued.messages > 1)
            || (process.queue_budget.bytes() > limits.node_bytes && of_node() > 1);
        let miscounted = (queued.counted, queued.counted_bytes) != (requests, bytes);
        // Whoever holds more than another one must have left as much free as it held itself.
        let share = limits.light_requests.max((limits.requests - limits.reserved_requests).div_ceil(2));
        let kept_out = queued.largest.requests > share;
        let (apart, apart_max) = host.shard().unfairness();
        let (part, part_max) = host.shard().largest_part();
        if over || miscounted || kept_out || apart > apart_max || part > part_max {
            let detail = format!(
                "node {at} shard {shard}: {queued:?}, {taken} taken with {taken_bytes}, turns {apart} of {apart_max} apart, \
                 a part of {part} requests of {part_max}; {limits:?}"
            );
            self.violate("queues", detail);
        }
    }

    /// No follower has applied what the leader that it follows has not, once that one serves: a read of the one would see
    /// what a later read of the other does not.
    fn is_ahead_of_leader(&self, at: usize, shard: ShardId) -> Option<(&'static str, String)> {
        let shard_on = |node: &Node| {
            let host = node.process.as_ref()?.shards.get(&shard)?.host.as_ref()?;
            Some((host.shard().replica(), host.shard().status()))
        };
        let (_, own) = shard_on(&self.nodes[at])?;
        let leader = own.leader.filter(|_| own.role != Role::Leader)?;
        let leads = |(replica, status): &(ReplicaId, ReplicaStatus)| {
            *replica == leader && status.serving && status.term == own.term
        };
        let (_, leading) = self.nodes.iter().filter_map(shard_on).find(leads)?;
        (own.applied > leading.applied).then(|| {
            let (own, its) = (own.applied, leading.applied);
            ("commit-rule", format!("node {at} shard {shard}: it has applied entry {own}, its leader only {its}"))
        })
    }

    /// Nobody is elected while another one holds a lease: not even before it serves.
    pub(super) fn lease_is_shared(&self, at: usize, shard: ShardId) -> Option<(&'static str, String)> {
        let host = |node: &Node| -> Option<(bool, u64, bool)> {
            let host = node.process.as_ref()?.shards.get(&shard)?.host.as_ref()?;
            let snapshot = host.shard().status();
            let open = host.shard().gate().pass(node.clock.monotonic()).is_some();
            Some((open, snapshot.term.0, snapshot.role == Role::Leader))
        };
        let (_, term, leads) = host(&self.nodes[at])?;
        if !leads {
            return None;
        }
        let others = (0..self.nodes.len()).filter(|other| *other != at);
        for other in others {
            // A process that stands still answers nobody until it goes on, and looks at its lease then.
            if self.nodes[other].paused_until.is_some_and(|until| until > self.now()) {
                continue;
            }
            let Some((open, of_other, _)) = host(&self.nodes[other]) else { continue };
            if open && of_other < term {
                let detail = format!(
                    "shard {shard}: node {at} leads in term {term} while node {other} holds a lease of term {of_other}"
                );
                return Some(("lease-safety", detail));
            }
        }
        None
    }
}

/// An entry, for the trace.
fn describe_entry(log: &ShardLog, index: LogIndex) -> String {
    let view = log.view();
    let keys = view.keys();
    let entry = match log.entry(index) {
        Ok(entry) => entry,
        Err(error) => return format!("entry {index}: {error}"),
    };
    let term = entry.term;
    if entry.payload.is_empty() {
        return format!("entry {index} of term {term}: empty");
    }
    let Ok(operations) = Operations::parse(entry.payload) else { return format!("entry {index}: unreadable") };
    let records: Vec<String> = operations
        .records()
        .filter_map(Result::ok)
        .map(|(_, record)| {
            let Ok((key, value)) = record.open(keys) else {
                return format!("a record that does not open, v{}", record.version);
            };
            let key = key.escape_ascii();
            let what = if record.tombstone { "removed".to_owned() } else { value.escape_ascii().to_string() };
            format!("{key}={what} v{}", record.version)
        })
        .collect();
    let sessions: Vec<String> = operations
        .sessions(keys)
        .unwrap_or_default()
        .iter()
        .map(|session| format!("{}/{} from {}", session.client, session.sequence, session.first_unanswered))
        .collect();
    let at = operations.log_time_ms();
    format!("entry {index} of term {term} at {at}: {}; remembers {}", records.join(", "), sessions.join(", "))
}
