//! Nodes that stop in good order, and leaders that should leave.

use super::node::Node;
use super::queue::Moment;
use super::{Event, World};
use kvorum_core::consensus::Role;
use kvorum_core::health::fitness::Unfit;
use kvorum_core::limits::{DRAIN_TIMEOUT, HAND_OVER_AGAIN, STOP_TIMEOUT};
use kvorum_core::routing::network::PeerNetwork as _;
use kvorum_core::shard::inbox::ShardCommand;
use kvorum_protocol::ShardId;

/// A node that stops looks this often whether it may go on.
const LOOK_EVERY_MS: u64 = 10;
/// Entries that a replica may lack and still passes for caught up, as its leader sees it; half, since that sees it later.
const LAG_MAX: u64 = 32;
/// A leader whose disk is full leaves within this time: a few attempts that are lost, two seconds apart.
const LEAVES_WITHIN_MS: u64 = 12_000;

impl World<'_> {
    /// The node hands leadership over, waits until what clients have asked is answered, and stops, as `kvorum start` does at
    /// SIGTERM.
    pub(super) fn begin_stop(&mut self, at: usize, down_ms: u64) {
        let Some(process) = &mut self.nodes[at].process else { return };
        process.router.fitness().set(Unfit::Stopping, true);
        let now = process.router.clock().monotonic();
        process.desk.tick(now);
        process.handed_over_at = None;
        let (process, until) = (process.number, self.now().after_ms((STOP_TIMEOUT + DRAIN_TIMEOUT).as_millis() as u64));
        self.flush(at);
        self.queue.push(self.now(), Event::Stops { node: at, process, until, down_ms });
    }

    pub(super) fn go_on_stopping(&mut self, at: usize, process: u64, until: Moment, down_ms: u64) {
        if !self.is_current(at, process) {
            return;
        }
        let now = self.now();
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.process else { return };
        if self.healed {
            // Whoever stops nodes has changed their mind.
            running.router.fitness().set(Unfit::Stopping, false);
            return;
        }
        let clock_now = running.router.clock().monotonic();
        let ring = running.router.ring();
        let mut leading = running.router.all_local();
        leading.retain(|handle| handle.status.lock().role == Role::Leader && ring.replicas(handle.shard).len() > 1);
        let again_ms = HAND_OVER_AGAIN.as_millis() as u64;
        if !leading.is_empty() && running.handed_over_at.is_none_or(|asked| clock_now.ms_since(asked) >= again_ms) {
            running.handed_over_at = Some(clock_now);
            leading.iter().for_each(|handle| _ = handle.inbox.command(ShardCommand::HandOver));
        }
        let is_done = leading.is_empty() && running.unanswered() == 0;
        if !is_done && now < until {
            let again = now.after_ms(LOOK_EVERY_MS);
            self.queue.push(again, Event::Stops { node: at, process, until, down_ms });
            return self.flush(at);
        }
        if is_done {
            self.count("stops that left nothing behind");
        }
        self.stop(at, down_ms);
    }

    fn stop(&mut self, at: usize, down_ms: u64) {
        let Some(process) = self.nodes[at].process.take() else { return };
        self.nodes[at].paused_until = None;
        let stopped = process.stop();
        let crashed = self.nodes[at].files.crashed();
        self.nodes[at].files.kill();
        self.nodes[at].stopped_cleanly = stopped.is_ok() && !crashed;
        (self.nodes[at].crash, self.nodes[at].loses_power) = (None, None);
        self.trace.note(
            self.time.now(),
            "stop",
            &[at as u64],
            format_args!("node {at}: {stopped:?}{}", if crashed { ", crashed meanwhile" } else { "" }),
        );
        self.invariants.handle_process_end(at);
        self.break_links(at);
        self.queue.push(self.now().after_ms(down_ms), Event::Start(at));
    }

    /// At a node's tick: a shard whose leader's disk is full has another leader soon, if one could take over all that time.
    pub(super) fn look_at_full_leader(&mut self, at: usize) {
        let now = self.now();
        let Some(process) = &self.nodes[at].process else { return };
        let is_full = process.router.fitness().reasons().contains(Unfit::DiskFull);
        let leading: Vec<ShardId> = match is_full && !self.healed {
            true => process.router.leading().into_iter().map(|(shard, _)| shard).collect(),
            false => Vec::new(),
        };
        let could: Vec<ShardId> = leading
            .into_iter()
            .filter(|shard| (0..self.nodes.len()).any(|to| self.could_take_over(*shard, at, to)))
            .collect();
        self.full_leaders.retain(|(node, shard), _| *node != at || could.contains(shard));
        for shard in could {
            let since = *self.full_leaders.entry((at, shard)).or_insert(now);
            if now >= since.after_ms(LEAVES_WITHIN_MS) {
                let detail = format!("node {at} leads shard {shard} on a full disk since {} ms", since.ms());
                return self.violate("full-disk", detail);
            }
        }
    }

    /// Whether node `to` is fit to lead a shard, could be handed it by `from`, and could tell it apart from others.
    fn could_take_over(&self, shard: ShardId, from: usize, to: usize) -> bool {
        let is_well =
            |node: &Node| node.paused_until.is_none() && node.stalled_until <= self.now() && node.crash.is_none();
        let (Some(leader), Some(other)) = (&self.nodes[from].process, &self.nodes[to].process) else { return false };
        let host = |process: &super::node::Process| {
            process.shards.get(&shard)?.host.as_ref().map(|host| host.shard().status())
        };
        let (Some(led), Some(held)) = (host(leader), host(other)) else { return false };
        let is_connected = !self.peer_links.is_cut(from, to)
            && !self.peer_links.is_cut(to, from)
            && self.peer_links.clogged(from, to, self.now()).is_none()
            && leader.outbox.is_up(self.nodes[to].id)
            && other.outbox.is_up(self.nodes[from].id);
        from != to
            && is_connected
            && is_well(&self.nodes[from])
            && is_well(&self.nodes[to])
            && led.serving
            && held.role == Role::Follower
            && (held.term, held.last_index.0 + LAG_MAX >= led.last_index.0) == (led.term, true)
            && other.router.fitness().reasons().is_empty()
            && !leader.router.is_stranger(self.nodes[to].id)
    }
}
