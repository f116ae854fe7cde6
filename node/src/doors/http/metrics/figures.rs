//! Every figure of the node, looked up when it is asked for, where STATUS looks it up, too. docs/METRICS.md lists them.

use super::super::Api;
use super::super::entry::durability_name;
use super::super::health;
use super::encode::{Labels, Metrics, by};
use crate::doors::tls::HandshakeEnd;
use crate::runtime::door_counts::DoorCounts;
use crate::runtime::process;
use crate::runtime::status::Inspector;
use kvorum_core::measure::meter::{Door, Ending, OperationKind, ReadPath};
use kvorum_core::measure::tracing::TraceEnd;
use kvorum_core::measure::{Durations, DurationsSum, ForwardEnd, RefusedFor, RetryAnswer, ShardCounts, Stage};
use kvorum_core::ring::{NodeState, RingMap, RingNode};
use kvorum_core::shard::ShardHandle;
use kvorum_protocol::{NodeStatus, ShardId, ShardRole, ShardStatus, Topology};
use std::borrow::Cow;
use std::sync::Arc;

/// What one look at the node has found.
struct Seen<'a> {
    inspector: &'a Inspector,
    status: NodeStatus,
    topology: Arc<Topology>,
    replicas: Vec<Arc<ShardHandle>>,
    counts: Vec<(ShardId, Arc<ShardCounts>)>,
}

/// All figures. With `by_shard` also those of each replica.
pub(super) fn look_up(api: &Api, by_shard: bool) -> Metrics {
    let inspector = &*api.inspector;
    let router = inspector.router();
    let seen = Seen {
        inspector,
        status: inspector.status(),
        topology: router.topology_now(),
        replicas: router.all_local(),
        counts: router.counts().all(),
    };
    let mut metrics = Metrics::default();
    api.http_requests.add_to(&mut metrics);
    let components = health::components(api, &seen.status, &seen.topology);
    let components = components.into_iter().map(|(name, healthy)| (name, flag(healthy)));
    metrics.gauges(
        "kvorum_component_healthy",
        "Whether a part of the node is as it should be",
        by("component", components),
    );
    add_node(&seen, &mut metrics);
    add_requests(inspector.doors(), &mut metrics);
    add_ways(&seen, &mut metrics);
    add_connections(inspector, &mut metrics);
    let help = "Pages of the console that listen to what each second brings";
    metrics.gauge("kvorum_console_listeners", help, api.console.listeners() as f64);
    add_tls(inspector, &mut metrics);
    add_refused(inspector, &mut metrics);
    add_queues(&seen, &mut metrics);
    add_storage(&seen, &mut metrics);
    add_consensus(&seen, &mut metrics);
    add_ring(&inspector.router().ring(), &mut metrics);
    add_peers(&seen, &mut metrics);
    add_process(inspector, &mut metrics);
    if by_shard {
        add_shards(&seen, &mut metrics);
    }
    metrics
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn labels<const N: usize>(pairs: [(&'static str, &'static str); N]) -> Labels {
    Labels(pairs.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect())
}

fn add_node(seen: &Seen<'_>, metrics: &mut Metrics) {
    let status = &seen.status;
    let build = vec![
        ("version", status.program_version.clone().into()),
        ("durability", durability_name(status.durability).into()),
    ];
    metrics.gauges("kvorum_build_info", "The program", vec![(Labels(build), 1.0)]);
    metrics.gauge("kvorum_uptime_seconds", "Time since the node started", status.uptime_ms as f64 / 1000.0);
    metrics.gauge(
        "kvorum_clock_ahead_seconds",
        "What this node's wall clock is ahead of most",
        status.clock_ahead_ms as f64 / 1000.0,
    );
}

fn add_requests(doors: &DoorCounts, metrics: &mut Metrics) {
    let (mut requests, mut durations) = (Vec::new(), Vec::new());
    for door in Door::ALL {
        for &operation in OperationKind::ALL {
            let sum = doors.durations(door, operation);
            let all = sum.count();
            if all == 0 {
                continue;
            }
            durations.push((labels([("door", door.name()), ("operation", operation.name())]), sum));
            for ending in Ending::ALL {
                let count = doors.ended(door, operation, ending, all);
                let labels =
                    labels([("door", door.name()), ("operation", operation.name()), ("outcome", ending.name())]);
                requests.push((labels, count as f64));
            }
        }
    }
    metrics.counters("kvorum_requests", "Requests that sessions have answered, by how they ended", requests);
    let help = "From when a session took a request up until it was answered";
    metrics.durations("kvorum_request_duration_seconds", help, durations);
    let waiting = Door::ALL.map(|door| (door.name(), doors.waiting(door) as f64));
    metrics.gauges("kvorum_requests_in_flight", "Requests that wait for an answer", by("door", waiting));

    let bytes = Door::OF_CLIENTS.into_iter().flat_map(|door| {
        let (received, sent) = doors.bytes(door);
        let of = |direction, bytes: u64| (labels([("door", door.name()), ("direction", direction)]), bytes as f64);
        [of("received", received), of("sent", sent)]
    });
    metrics.counters("kvorum_request_bytes", "Bytes that passed through a door", bytes.collect());
    let errors = doors.errors().filter(|(_, count)| *count > 0);
    let errors =
        errors.map(|(code, count)| (code.map_or_else(|| "other".to_owned(), |code| code.to_string()), count as f64));
    metrics.counters("kvorum_errors", "Requests that were answered with an error, by its code", by("code", errors));

    let (hits, misses) = doors.hits_and_misses();
    let help = "GETs that were answered out of this node's memory with nobody else asked, or not";
    metrics.counters("kvorum_cache_requests", help, by("result", [("hit", hits as f64), ("miss", misses as f64)]));
    let reads = ReadPath::ALL.into_iter().flat_map(|path| {
        let [memory, disk] = doors.reads(path);
        let of = |tier, count: u64| (labels([("path", path.name()), ("tier", tier)]), count as f64);
        [of("memory", memory), of("disk", disk)]
    });
    metrics.counters("kvorum_reads", "GETs that were answered, by how", reads.collect());
}

/// What becomes of requests behind the doors.
fn add_ways(seen: &Seen<'_>, metrics: &mut Metrics) {
    let retries = RetryAnswer::ALL.map(|answer| (answer.name(), sum(seen, |counts| counts.retries(answer)) as f64));
    metrics.counters("kvorum_retries", "Writes that were sent again, by their answer", by("answer", retries));
    let help = "From when a session took up a read that needs a quorum's word until the quorum had given it";
    metrics.durations("kvorum_read_confirm_duration_seconds", help, durations(seen, |counts| &counts.read_confirm));
    let all = seen.inspector.router().counts();
    let forwards = ForwardEnd::ALL.map(|end| (end.name(), all.forwards(end) as f64));
    let traced = TraceEnd::ALL.map(|end| (end.name(), seen.inspector.router().tracing().ended(end) as f64));
    metrics.counters("kvorum_traces", "Traced requests, by what became of their spans", by("result", traced));
    metrics.counters("kvorum_forwards", "Requests that were passed on to another node", by("result", forwards));
}

fn add_connections(inspector: &Inspector, metrics: &mut Metrics) {
    let places = inspector.places();
    let doors = Door::OF_CLIENTS;
    let open = doors.map(|door| (door.name(), places.open(door) as f64));
    metrics.gauges("kvorum_connections", "Open connections of clients", by("door", open));
    let so_far = doors.into_iter().flat_map(|door| {
        let (let_in, turned_away) = places.let_in_and_turned_away(door);
        let of = |result, count: u64| (labels([("door", door.name()), ("result", result)]), count as f64);
        [of("accepted", let_in), of("refused", turned_away)]
    });
    metrics.counters("kvorum_connections", "Connections of clients so far", so_far.collect());
}

fn add_tls(inspector: &Inspector, metrics: &mut Metrics) {
    let handshakes = Door::OF_CLIENTS.into_iter().flat_map(|door| {
        HandshakeEnd::ALL.into_iter().map(move |end| {
            let count = inspector.handshakes().ended(door, end);
            (labels([("door", door.name()), ("result", end.name())]), count as f64)
        })
    });
    metrics.counters("kvorum_tls_handshakes", "TLS handshakes of clients, by how they ended", handshakes.collect());
    let certificates = inspector.certificates();
    let (exchanged, refused) = certificates.exchanged_and_refused();
    let reloads = by("result", [("exchanged", exchanged as f64), ("refused", refused as f64)]);
    metrics.counters("kvorum_tls_reloads", "How often the files of certificates had changed", reloads);
    let help = "Whether the files of certificates can't be used, so that those from before are in force";
    metrics.gauge("kvorum_tls_files_refused", help, flag(certificates.is_refused()));
    let help = "Until when the node's certificate is valid, in Unix time";
    metrics.gauge("kvorum_tls_not_after_seconds", help, certificates.in_force().own().not_after_s as f64);
}

/// Who was turned away.
fn add_refused(inspector: &Inspector, metrics: &mut Metrics) {
    let audit = inspector.router().audit();
    let failures = Door::OF_CLIENTS.map(|door| (door.name(), audit.login_failures(door) as f64));
    metrics.counters("kvorum_login_failures", "Logins that failed", by("door", failures));
    let denials = Door::OF_CLIENTS.map(|door| (door.name(), audit.denials(door) as f64));
    metrics.counters("kvorum_denials", "Requests that were refused for want of a right", by("door", denials));
}

/// The durations of all replicas together.
fn durations(seen: &Seen<'_>, of: impl Fn(&ShardCounts) -> &Durations) -> Vec<(Labels, DurationsSum)> {
    vec![(Labels::default(), DurationsSum::of(seen.counts.iter().map(|(_, counts)| of(counts))))]
}

/// Where the time of requests went, of all replicas together.
fn stages(seen: &Seen<'_>) -> Vec<(Labels, DurationsSum)> {
    let of = |stage: Stage| DurationsSum::of(seen.counts.iter().map(|(_, counts)| counts.stages.of(stage)));
    Stage::ALL.map(|stage| (labels([("stage", stage.name())]), of(stage))).to_vec()
}

fn add_queues(seen: &Seen<'_>, metrics: &mut Metrics) {
    let queued: Vec<_> = seen.replicas.iter().map(|handle| handle.queued()).collect();
    let requests: usize = queued.iter().map(|queue| queue.counted).sum();
    metrics.gauge("kvorum_queue_requests", "Requests that the shards have not answered", requests as f64);
    let longest = queued.iter().map(|queue| queue.counted).max().unwrap_or(0);
    metrics.gauge("kvorum_queue_requests_max", "The same of the shard with the most", longest as f64);
    let bytes: usize = queued.iter().map(|queue| queue.counted_bytes).sum();
    metrics.gauge("kvorum_queue_bytes", "Bytes of the requests that the shards have not answered", bytes as f64);
    let help = "From when a request came in until its shard took it up";
    metrics.durations("kvorum_queue_wait_seconds", help, durations(seen, |counts| &counts.queue_wait));
    let help = "From when a leader proposed an entry until it had applied it";
    metrics.durations("kvorum_commit_duration_seconds", help, durations(seen, |counts| &counts.commit));
    let help = "How long a replica applied entries, per turn that applied any";
    metrics.durations("kvorum_apply_duration_seconds", help, durations(seen, |counts| &counts.apply));
    let help = "Where the time of requests went that waited for an entry of a leader here";
    metrics.durations("kvorum_write_stage_seconds", help, stages(seen));
    let help = "How long a shard's turn kept its thread";
    metrics.durations("kvorum_turn_duration_seconds", help, durations(seen, |counts| &counts.turn));
    metrics.counter(
        "kvorum_entries",
        "Entries that leaders proposed and applied",
        sum(seen, |counts| counts.entries.get()),
    );
    let help = "Requests that were answered with these entries";
    metrics.counter("kvorum_entry_requests", help, sum(seen, |counts| counts.entry_requests.get()));
    let router = seen.inspector.router();
    let refused = RefusedFor::ALL.map(|why| (why.name(), router.counts().refused(why) as f64));
    let refused = refused.into_iter().chain([("forward_full", router.forwards_refused() as f64)]);
    metrics.counters("kvorum_overloaded", "Requests that were refused because a queue was full", by("reason", refused));
}

fn sum(seen: &Seen<'_>, of: impl Fn(&ShardCounts) -> u64) -> u64 {
    seen.counts.iter().map(|(_, counts)| of(counts)).sum()
}

fn sum_of_shards(status: &NodeStatus, of: impl Fn(&ShardStatus) -> u64) -> f64 {
    status.shards.iter().map(of).sum::<u64>() as f64
}

fn add_storage(seen: &Seen<'_>, metrics: &mut Metrics) {
    let (status, journal, pressure) = (&seen.status, seen.inspector.journal(), seen.inspector.pressure());
    let rounds = vec![(Labels::default(), journal.round_durations())];
    metrics.durations("kvorum_journal_sync_duration_seconds", "How long a round of the journal took", rounds);
    metrics.counter(
        "kvorum_journal_rounds",
        "Rounds of the journal: one write and one sync each",
        status.journal_rounds,
    );
    metrics.counter("kvorum_journal_bytes", "Bytes that the journal made durable", journal.bytes());
    metrics.gauge("kvorum_journal_queued_bytes", "Bytes that wait for the journal", journal.queued_bytes() as f64);
    if status.disk_free_bytes != u64::MAX {
        metrics.gauge("kvorum_disk_free_bytes", "Free bytes of the disk", status.disk_free_bytes as f64);
        let help = "With fewer free bytes than this the disk counts as full";
        metrics.gauge("kvorum_disk_headroom_bytes", help, pressure.disk_headroom_bytes() as f64);
    }
    metrics.gauge("kvorum_disk_full", "Whether writes are refused for want of room", flag(status.disk_full));
    let router = seen.inspector.router();
    let ring = router.ring();
    let help = "The data key that new records are sealed with; 0 for none";
    metrics.gauge("kvorum_data_key", help, f64::from(ring.sealing.active));
    let help = "Data keys that are kept, since records may be sealed with them";
    metrics.gauge("kvorum_data_keys", help, ring.sealing.keys.len() as f64);
    let old: u64 = router.all_local().iter().map(|handle| handle.upkeep.lock().old_key_bytes).sum();
    let help = "Bytes of segments with something that is plain, or sealed with an older data key than the one in use";
    metrics.gauge("kvorum_old_key_bytes", help, old as f64);
    metrics.gauge("kvorum_log_bytes", "Bytes of the logs", sum_of_shards(status, |shard| shard.log_bytes));
    let help = "Of these, bytes that compaction can't give back";
    metrics.gauge("kvorum_live_bytes", help, sum_of_shards(status, |shard| shard.live_bytes));
    metrics.counter("kvorum_compactions", "Compactions", sum(seen, |counts| counts.compactions.get()));
    let compacted = [
        ("read", sum(seen, |counts| counts.compaction_read_bytes.get()) as f64),
        ("written", sum(seen, |counts| counts.compacted_bytes.get()) as f64),
    ];
    metrics.counters("kvorum_compaction_bytes", "Bytes that compactions moved", by("direction", compacted));
    let scrubbed = seen.inspector.router().counts().scrubbed_bytes.get();
    metrics.counter("kvorum_scrub_bytes", "Bytes of cold data that were checked again", scrubbed);
    let (audit, help) = (seen.inspector.router().audit(), "Events of which the audit log has no line");
    metrics.counter("kvorum_audit_dropped", help, audit.dropped());
    metrics.gauge("kvorum_audit_failing", "Whether the audit log can't be written", flag(audit.fails()));
    let help = "How often damage was found in a replica's files";
    metrics.counter("kvorum_damage", help, sum(seen, |counts| counts.damage.get()));
    let help = "Keys that replicas on this node took out since their time had come";
    metrics.counter("kvorum_expired_keys", help, sum(seen, |counts| counts.expired_keys.get()));
    metrics.gauge("kvorum_keys", "Keys of the replicas on this node", sum_of_shards(status, |shard| shard.keys));
    metrics.gauge("kvorum_index_bytes", "Memory of the indexes", status.index_bytes as f64);
    if pressure.index_bytes_max() != u64::MAX {
        let help = "Memory that the indexes may take";
        metrics.gauge("kvorum_index_limit_bytes", help, pressure.index_bytes_max() as f64);
    }
}

fn add_consensus(seen: &Seen<'_>, metrics: &mut Metrics) {
    let (status, topology) = (&seen.status, &seen.topology);
    let roles = ShardRole::ALL.map(|role| {
        let count = status.shards.iter().filter(|shard| shard.role == role).count();
        (role.to_string(), count as f64)
    });
    metrics.gauges("kvorum_shards", "Replicas on this node, by role", by("role", roles));
    metrics.gauge("kvorum_cluster_shards", "Shards of the cluster", topology.shards.len() as f64);
    let without = topology.shards.iter().filter(|shard| shard.leader.is_none()).count();
    metrics.gauge("kvorum_shards_without_leader", "Shards of which this node knows no leader", without as f64);
    let is_up = |at: &u16| {
        let node = topology.nodes.get(usize::from(*at)).map(|node| node.id);
        node.is_some_and(|node| node == status.node || status.peers_up.contains(&node))
    };
    let under = topology.shards.iter().filter(|shard| !shard.replicas.iter().all(is_up)).count();
    let help = "Shards with a replica on a node that this one has no connection with";
    metrics.gauge("kvorum_shards_under_replicated", help, under as f64);
    let help = "How often a replica came to know another leader";
    metrics.counter("kvorum_leader_changes", help, sum(seen, |counts| counts.leader_changes.get()));
    let help = "How often a replica stood for election";
    metrics.counter("kvorum_elections", help, sum(seen, |counts| counts.elections.get()));
    let lag = status.shards.iter().map(|shard| shard.committed.0.saturating_sub(shard.applied.0)).max().unwrap_or(0);
    let help = "Most entries that a replica knows committed and has not applied";
    metrics.gauge("kvorum_replica_lag_entries_max", help, lag as f64);
    let count = |of: fn(&ShardCounts) -> u64| sum(seen, of) as f64;
    let snapshots = vec![
        (labels([("direction", "sent"), ("result", "installed")]), count(|counts| counts.snapshots_sent.get())),
        (labels([("direction", "sent"), ("result", "failed")]), count(|counts| counts.snapshots_failed.get())),
        (labels([("direction", "received"), ("result", "installed")]), count(|counts| counts.snapshots_received.get())),
    ];
    metrics.counters("kvorum_snapshots", "Snapshots between replicas", snapshots);
    let sent = seen.inspector.router().snapshots().lock().sent_bytes();
    metrics.counter("kvorum_snapshot_sent_bytes", "Bytes of snapshots that this node has sent", sent);
    let restarts = status.shards.iter().map(|shard| u64::from(shard.incarnation.saturating_sub(1))).sum();
    metrics.counter("kvorum_replica_restarts", "Replicas that were opened again", restarts);
}

/// What the ring map in force on this node says of the cluster: the same on all nodes, as soon as they have it.
fn add_ring(ring: &RingMap, metrics: &mut Metrics) {
    let standing = |node: &RingNode| match node.state {
        _ if node.down => "down",
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Removing => "removing",
    };
    let nodes = ["up", "down", "draining", "removing"].map(|state| {
        let count = ring.nodes.iter().filter(|node| standing(node) == state).count();
        (state, count as f64)
    });
    metrics.gauges("kvorum_cluster_nodes", "Nodes of the cluster, by what becomes of them", by("state", nodes));
    let help = "Groups on their way from some replicas to others";
    metrics.gauge("kvorum_cluster_moving_shards", help, ring.groups().filter(|group| group.is_moving()).count() as f64);
    let help = "Whether an operator has paused moves for balance and removal";
    metrics.gauge("kvorum_cluster_rebalance_paused", help, flag(ring.paused));
    metrics.gauge("kvorum_cluster_level", "The feature level of the cluster", f64::from(ring.level));
    metrics.gauge("kvorum_ring_epoch", "The epoch of the ring map in force on this node", ring.epoch as f64);
}

fn add_peers(seen: &Seen<'_>, metrics: &mut Metrics) {
    let links = seen.inspector.router().peers().map(|peers| peers.links()).unwrap_or_default();
    let name_of = |node| {
        let info = seen.topology.nodes.iter().find(|info| info.id == node);
        info.map_or_else(|| node.to_string(), |info| info.name.clone())
    };
    let (mut up, mut rtt, mut bytes, mut queued) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for link in links {
        let name = name_of(link.node);
        let with = |more: Option<(&'static str, &'static str)>| {
            let more = more.map(|(label, value)| (label, Cow::Borrowed(value)));
            Labels([("peer", Cow::Owned(name.clone()))].into_iter().chain(more).collect())
        };
        up.push((with(None), flag(link.up)));
        rtt.extend(link.rtt.map(|rtt| (with(None), rtt.as_secs_f64())));
        bytes.push((with(Some(("direction", "sent"))), link.sent_bytes as f64));
        bytes.push((with(Some(("direction", "received"))), link.received_bytes as f64));
        queued.extend(link.queued_bytes.into_iter().map(|(lane, bytes)| (with(Some(("lane", lane))), bytes as f64)));
    }
    metrics.gauges("kvorum_peer_up", "Whether another node is connected", up);
    metrics.gauges("kvorum_peer_rtt_seconds", "The round trip to another node, as QUIC estimates it", rtt);
    metrics.counters("kvorum_peer_bytes", "Bytes to and from another node", bytes);
    metrics.gauges("kvorum_peer_queue_bytes", "Bytes that wait to be sent to another node", queued);
}

fn add_process(inspector: &Inspector, metrics: &mut Metrics) {
    let seen = process::ProcessUse::look();
    let (open, limit) = process::descriptors();
    let help = "Pages of files in memory: they go when others need the room";
    metrics.gauge("kvorum_mapped_resident_bytes", help, seen.resident_file_bytes as f64);
    metrics.counters(
        "process_cpu_seconds",
        "Processor time of the process",
        vec![(Labels::default(), seen.cpu_us as f64 / 1e6)],
    );
    let help = "Resident memory of the process, mapped pages of the log included";
    metrics.gauge("process_resident_memory_bytes", help, seen.resident_bytes as f64);
    let help = "When the process started, in seconds since 1970";
    metrics.gauge("process_start_time_seconds", help, inspector.started_unix_ms() as f64 / 1000.0);
    metrics.gauge("process_open_fds", "Open descriptors", open as f64);
    if limit != u64::MAX {
        metrics.gauge("process_max_fds", "Most descriptors that may be open", limit as f64);
    }
    metrics.gauge("process_threads", "Threads", seen.threads as f64);
}

fn add_shards(seen: &Seen<'_>, metrics: &mut Metrics) {
    let shards = &seen.status.shards;
    let each =
        |of: &dyn Fn(&ShardStatus) -> f64| by("shard", shards.iter().map(|shard| (shard.shard.to_string(), of(shard))));
    metrics.gauges(
        "kvorum_shard_leads",
        "Whether this node's replica leads",
        each(&|shard| flag(shard.role == ShardRole::Leader)),
    );
    metrics.gauges("kvorum_shard_term", "The replica's term", each(&|shard| shard.term.0 as f64));
    metrics.gauges("kvorum_shard_keys", "Keys of the replica", each(&|shard| shard.keys as f64));
    metrics.gauges("kvorum_shard_log_bytes", "Bytes of the replica's log", each(&|shard| shard.log_bytes as f64));
    metrics.gauges(
        "kvorum_shard_last_index",
        "The last entry of the replica's log",
        each(&|shard| shard.last_index.0 as f64),
    );
    metrics.gauges(
        "kvorum_shard_applied_index",
        "The last entry that the replica has applied",
        each(&|shard| shard.applied.0 as f64),
    );
    let queued = seen.replicas.iter().map(|handle| (handle.shard.to_string(), handle.queued().counted as f64));
    metrics.gauges("kvorum_shard_queue_requests", "Requests that the replica has not answered", by("shard", queued));
    let now = seen.inspector.router().clock().monotonic();
    let heat = seen.counts.iter().flat_map(|(shard, counts)| {
        let share = |writes| {
            let hot = counts.heat.hot(*shard, writes, now);
            hot.first().map_or(0.0, |hot| f64::from(hot.share_permille) / 1000.0)
        };
        let of = |operation: &'static str, share| {
            (Labels(vec![("shard", shard.to_string().into()), ("operation", operation.into())]), share)
        };
        [of("read", share(false)), of("write", share(true))]
    });
    let help = "The hottest key's part of what the replica is asked, 0 to 1; 0 if no key stands out";
    metrics.gauges("kvorum_hot_key_share", help, heat.collect());
}
