//! The table of dashboards. docs/METRICS.md says what each metric is.
//!
//! Long because it is one table: whoever looks for a panel looks here.

use crate::panel::Level::{Critical, Warning};
use crate::panel::Unit::{Bytes, BytesPerSecond, Count, PerSecond, Seconds, Share, YesNo};
use crate::panel::{Dashboard, Row, figure, lines, q, stacked};

/// All dashboards, in the order in which a person on call opens them.
pub const DASHBOARDS: &[Dashboard] = &[OVERVIEW, WRITE_PATH, CONSENSUS, STORAGE, NODE, SECURITY];

const OVERVIEW: Dashboard = Dashboard {
    uid: "kvorum-overview",
    title: "Kvorum: Overview",
    about: "Is the cluster well, what is asked of it, and what runs short?",
    rows: &[
        Row {
            title: "Now",
            panels: &[
                figure(
                    "Alerts that fire",
                    Count,
                    &[q("alerts", r#"count(ALERTS{alertstate="firing",alertname=~"Kvorum.+"}) or vector(0)"#)],
                    &[(1.0, Critical)],
                    "Begin with them: each links to what to do.",
                ),
                figure(
                    "Nodes that answer",
                    Count,
                    &[
                        q("answer", r#"sum(up{job="kvorum",$on})"#),
                        q("are known", r#"count(up{job="kvorum",$on})"#),
                    ],
                    &[],
                    "Nodes that Prometheus reaches, of all that it was told of. One less is survived; see Consensus for what it leaves.",
                ),
                figure(
                    "Shards without a leader",
                    Count,
                    &[q("shards", "max(kvorum_shards_without_leader{$on})")],
                    &[(1.0, Critical)],
                    "Their keys can be neither read nor written. For a moment it is an election; for longer it is an outage.",
                ),
                figure(
                    "Shards short of replicas",
                    Count,
                    &[q("shards", "max(kvorum_shards_under_replicated{$on})")],
                    &[(1.0, Warning)],
                    "They serve, and the next loss may stop them. CLUSTER STATUS says what mends them.",
                ),
                figure(
                    "Requests",
                    PerSecond,
                    &[q("per second", r#"sum(rate(kvorum_requests_total{$on,door!="peer"}[$span]))"#)],
                    &[],
                    "What clients ask of all nodes together.",
                ),
                figure(
                    "Failing, of the last hour",
                    Share,
                    &[q("of requests", r#"max(cluster:kvorum_errors:ratio1h{cluster=~"$cluster"})"#)],
                    &[(0.001, Warning), (0.0144, Critical)],
                    "Requests that failed through no fault of their client. 0.1 % is the budget of a month.",
                ),
            ],
        },
        Row {
            title: "Traffic",
            panels: &[
                stacked(
                    "Requests by operation",
                    PerSecond,
                    &[q(
                        "{{operation}}",
                        r#"sum by (operation) (rate(kvorum_requests_total{$on,door!="peer"}[$span]))"#,
                    )],
                    "What clients do. A new shape here explains most of what changes elsewhere.",
                ),
                stacked(
                    "Requests by door",
                    PerSecond,
                    &[q("{{door}}", "sum by (door) (rate(kvorum_requests_total{$on}[$span]))")],
                    "Through which protocol they come. peer is what one node has passed on to another: much of it means that clients do not go to the leaders.",
                ),
                stacked(
                    "Requests by node",
                    PerSecond,
                    &[q("{{instance}}", r#"sum by (instance) (rate(kvorum_requests_total{$on,door!="peer"}[$span]))"#)],
                    "Whether clients spread over the nodes. One that gets nothing is out of the load balancer, or drained.",
                ),
                lines(
                    "Bytes through the doors",
                    BytesPerSecond,
                    &[q(
                        "{{direction}}",
                        "sum by (direction) (rate(kvorum_request_bytes_total{$on}[$span]))",
                    )],
                    "Beside the number of requests it tells whether values have grown.",
                ),
            ],
        },
        Row {
            title: "Latency",
            panels: &[
                lines(
                    "GET",
                    Seconds,
                    &[
                        q("half are within", r#"histogram_quantile(0.5, sum by (le) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer",operation="get"}[$span])))"#),
                        q("99 % are within", r#"histogram_quantile(0.99, sum by (le) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer",operation="get"}[$span])))"#),
                    ],
                    "Reads under the leader's lease take microseconds. Milliseconds are reads that were forwarded, confirmed by a quorum, or came from the disk.",
                )
                .bad_from(&[(0.05, Warning)]),
                lines(
                    "PUT",
                    Seconds,
                    &[
                        q("half are within", r#"histogram_quantile(0.5, sum by (le) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer",operation="put"}[$span])))"#),
                        q("99 % are within", r#"histogram_quantile(0.99, sum by (le) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer",operation="put"}[$span])))"#),
                    ],
                    "A write takes a quorum's sync. If it is slow, Write path says where the time goes.",
                )
                .bad_from(&[(0.25, Warning)]),
                lines(
                    "99 % are within, by operation",
                    Seconds,
                    &[q("{{operation}}", r#"histogram_quantile(0.99, sum by (le, operation) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer"}[$span])))"#)],
                    "Which operation is slow. A scan is slower than a GET by design.",
                ),
                lines(
                    "HTTP: 99 % are within, by endpoint",
                    Seconds,
                    &[q("{{method}} {{endpoint}}", "histogram_quantile(0.99, sum by (le, method, endpoint) (rate(kvorum_http_request_duration_seconds_bucket{$on}[$span])))")],
                    "As the HTTP door sees it, what it repeats by itself included.",
                ),
            ],
        },
        Row {
            title: "Errors",
            panels: &[
                lines(
                    "Failing, by code",
                    PerSecond,
                    &[q("{{code}}", "sum by (code) (rate(kvorum_errors_total{$on}[$span])) or label_replace(vector(0), \"code\", \"none\", \"\", \"\")")],
                    "Unavailable: no leader or no quorum. Overloaded: a queue is full. DiskFull: make room. The client's own mistakes are here, too.",
                ),
                lines(
                    "Failing, of all requests",
                    Share,
                    &[
                        q("in 5 minutes", r#"cluster:kvorum_errors:ratio5m{cluster=~"$cluster"}"#),
                        q("in an hour", r#"cluster:kvorum_errors:ratio1h{cluster=~"$cluster"}"#),
                        q("in 6 hours", r#"cluster:kvorum_errors:ratio6h{cluster=~"$cluster"}"#),
                    ],
                    "Without mistakes of clients. The alerts on the error budget look at these figures.",
                )
                .bad_from(&[(0.006, Warning), (0.0144, Critical)]),
                lines(
                    "Outcome of what failed",
                    PerSecond,
                    &[q("{{outcome}}", r#"sum by (outcome) (rate(kvorum_requests_total{$on,door!="peer",outcome!="ok"}[$span]))"#)],
                    "not_applied: safe to send again. unknown: the answer was lost, and only a retry under the same number tells.",
                ),
                lines(
                    "Writes that were sent again",
                    PerSecond,
                    &[q("{{answer}}", "sum by (answer) (rate(kvorum_retries_total{$on}[$span]))")],
                    "What the leader answered to them. Many that are remembered: clients or the load balancer give up too early.",
                ),
            ],
        },
        Row {
            title: "Saturation",
            panels: &[
                lines(
                    "Fullest queue of a shard",
                    Share,
                    &[q("{{instance}}", "kvorum_queue_requests_max{$on} / 4096")],
                    "A shard takes 4096 requests. Near 1 it begins to refuse: see Overloaded.",
                )
                .bad_from(&[(0.8, Warning)]),
                lines(
                    "Processors in use",
                    Count,
                    &[q("{{instance}}", "rate(process_cpu_seconds_total{$on}[$span])")],
                    "Processor seconds per second. Compare it with what the machine has.",
                ),
                lines(
                    "Disk that is left",
                    Bytes,
                    &[q("{{instance}}", "kvorum_disk_free_bytes{$on} - kvorum_disk_headroom_bytes{$on}")],
                    "Above the headroom. At 0 writes that take room are refused.",
                ),
                lines(
                    "Memory of the indexes",
                    Share,
                    &[q("{{instance}}", "kvorum_index_bytes{$on} / kvorum_index_limit_bytes{$on}")],
                    "Of what they may take. At 1 new keys are refused.",
                )
                .bad_from(&[(0.9, Warning)]),
                lines(
                    "Connections",
                    Count,
                    &[q("{{instance}} {{door}}", "kvorum_connections{$on}")],
                    "Open ones. Past connections_max further ones are turned away.",
                ),
                lines(
                    "Refused as overloaded",
                    PerSecond,
                    &[q("{{reason}}", "sum by (reason) (rate(kvorum_overloaded_total{$on}[$span]))")],
                    "shard_full and node_full: more is sent than done. slow: a shard has not moved for two seconds.",
                ),
            ],
        },
    ],
};

const WRITE_PATH: Dashboard = Dashboard {
    uid: "kvorum-write-path",
    title: "Kvorum: Write path",
    about: "Where does a write spend its time: in the queue, in the journal, with the quorum, or while it is applied?",
    rows: &[
        Row {
            title: "From the door to the answer",
            panels: &[
                lines(
                    "The steps: 99 % are within",
                    Seconds,
                    &[
                        q("waits in the queue", "histogram_quantile(0.99, sum by (le) (rate(kvorum_queue_wait_seconds_bucket{$on}[$span])))"),
                        q("syncs", "histogram_quantile(0.99, sum by (le) (rate(kvorum_journal_sync_duration_seconds_bucket{$on}[$span])))"),
                        q("proposed until applied", "histogram_quantile(0.99, sum by (le) (rate(kvorum_commit_duration_seconds_bucket{$on}[$span])))"),
                        q("is applied", "histogram_quantile(0.99, sum by (le) (rate(kvorum_apply_duration_seconds_bucket{$on}[$span])))"),
                    ],
                    "The largest is the cause. Proposed until applied has the sync of a quorum and the network in it.",
                ),
                lines(
                    "The steps: half are within",
                    Seconds,
                    &[
                        q("waits in the queue", "histogram_quantile(0.5, sum by (le) (rate(kvorum_queue_wait_seconds_bucket{$on}[$span])))"),
                        q("syncs", "histogram_quantile(0.5, sum by (le) (rate(kvorum_journal_sync_duration_seconds_bucket{$on}[$span])))"),
                        q("proposed until applied", "histogram_quantile(0.5, sum by (le) (rate(kvorum_commit_duration_seconds_bucket{$on}[$span])))"),
                        q("is applied", "histogram_quantile(0.5, sum by (le) (rate(kvorum_apply_duration_seconds_bucket{$on}[$span])))"),
                    ],
                    "If these are low and the 99 % are high, something stalls now and then: a disk, or a neighbour on the machine.",
                ),
                lines(
                    "Writes: 99 % are within, by operation",
                    Seconds,
                    &[q("{{operation}}", r#"histogram_quantile(0.99, sum by (le, operation) (rate(kvorum_request_duration_seconds_bucket{$on,door!="peer",operation!~"get|multi_get|scan|other"}[$span])))"#)],
                    "What clients feel. Above the line somebody is told: the pictures above say which step takes the time.",
                )
                .bad_from(&[(0.25, Warning)]),
                stacked(
                    "Writes by operation",
                    PerSecond,
                    &[q("{{operation}}", r#"sum by (operation) (rate(kvorum_requests_total{$on,door!="peer",operation!~"get|multi_get|scan|other"}[$span]))"#)],
                    "How many there are, and of which kind. It explains most changes in the pictures beside it.",
                ),
            ],
        },
        Row {
            title: "Queues",
            panels: &[
                lines(
                    "Requests that wait",
                    Count,
                    &[
                        q("{{instance}}", "kvorum_queue_requests{$on}"),
                        q("{{instance}}, fullest shard", "kvorum_queue_requests_max{$on}"),
                    ],
                    "If one shard has nearly all of them, one key is hot: kvorum-cli --hotkeys.",
                ),
                lines(
                    "Bytes that wait",
                    Bytes,
                    &[
                        q("{{instance}} shards", "kvorum_queue_bytes{$on}"),
                        q("{{instance}} journal", "kvorum_journal_queued_bytes{$on}"),
                    ],
                    "Bytes before the shards, and before the journal. The journal's grow when the disk does not keep up.",
                ),
                lines(
                    "Refused as overloaded",
                    PerSecond,
                    &[q("{{instance}} {{reason}}", "sum by (instance, reason) (rate(kvorum_overloaded_total{$on}[$span]))")],
                    "Nothing was done with these. Clients come again after the pause that they are told.",
                ),
            ],
        },
        Row {
            title: "Entries and journal",
            panels: &[
                lines(
                    "Requests per entry",
                    Count,
                    &[q("{{instance}}", "rate(kvorum_entry_requests_total{$on}[$span]) / rate(kvorum_entries_total{$on}[$span])")],
                    "More under load: then one sync serves many. Near 1 under load, each write pays for its own.",
                ),
                lines(
                    "Entries",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_entries_total{$on}[$span])")],
                    "Entries that leaders on this node proposed and applied.",
                ),
                lines(
                    "Syncs",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_journal_rounds_total{$on}[$span])")],
                    "Rounds of the journal, one write and one sync each. One journal serves all shards of a node.",
                ),
                lines(
                    "A sync: 99 % are within",
                    Seconds,
                    &[q("{{instance}}", "histogram_quantile(0.99, sum by (le, instance) (rate(kvorum_journal_sync_duration_seconds_bucket{$on}[$span])))")],
                    "The disk's own figure. Over 500 ms the node hands over what it leads; over 10 s its process ends.",
                )
                .bad_from(&[(0.1, Warning), (0.5, Critical)]),
                lines(
                    "Bytes made durable",
                    BytesPerSecond,
                    &[q("{{instance}}", "rate(kvorum_journal_bytes_total{$on}[$span])")],
                    "What the journal writes. Every byte is written again when the logs are written.",
                ),
                lines(
                    "Writes done once, answered again",
                    PerSecond,
                    &[
                        q("HTTP", "sum(rate(kvorum_http_replayed_total{$on}[$span]))"),
                        q("leaders: {{answer}}", "sum by (answer) (rate(kvorum_retries_total{$on}[$span]))"),
                    ],
                    "Copies of writes. forgotten is the one to look at: whether an earlier copy took effect is not known.",
                ),
            ],
        },
    ],
};

const CONSENSUS: Dashboard = Dashboard {
    uid: "kvorum-consensus",
    title: "Kvorum: Consensus",
    about: "Who leads, who lags, who hears whom, and what moves?",
    rows: &[
        Row {
            title: "Now",
            panels: &[
                figure(
                    "Shards without a leader",
                    Count,
                    &[q("{{instance}}", "kvorum_shards_without_leader{$on}")],
                    &[(1.0, Critical)],
                    "By what each node knows. If one node alone says so, that node is cut off.",
                ),
                figure(
                    "Replicas that do not vote",
                    Count,
                    &[q("{{role}}", r#"sum by (role) (kvorum_shards{$on,role=~"missing|learner|amnesiac|faulty"})"#)],
                    &[(1.0, Warning)],
                    "missing and learner end by themselves when a replica is made. faulty and amnesiac are replaced from their peers.",
                ),
                figure(
                    "Nodes, as the ring map has them",
                    Count,
                    &[q("{{state}}", "max by (state) (kvorum_cluster_nodes{$on})")],
                    &[],
                    "down: the cluster goes on without them. draining and removing are what operators asked for.",
                ),
                figure(
                    "Moves under way",
                    Count,
                    &[q("groups", "max(kvorum_cluster_moving_shards{$on})")],
                    &[],
                    "CLUSTER PLAN says which, and what waits for what.",
                ),
                figure(
                    "Moves are paused",
                    YesNo,
                    &[q("paused", "max(kvorum_cluster_rebalance_paused{$on})")],
                    &[(1.0, Warning)],
                    "An operator has said so. CLUSTER REBALANCE RESUME ends it.",
                ),
            ],
        },
        Row {
            title: "Leadership",
            panels: &[
                stacked(
                    "Shards that a node leads",
                    Count,
                    &[q("{{instance}}", r#"kvorum_shards{$on,role="leader"}"#)],
                    "As even as load allows. Zero on one node: it is drained, its disk is slow or full, or its clock is off.",
                ),
                lines(
                    "Leaders that changed",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_leader_changes_total{$on}[$span])")],
                    "How often replicas came to know another leader. A burst is a stop or a failure; a steady rate is trouble.",
                ),
                lines(
                    "Elections",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_elections_total{$on}[$span])")],
                    "Who stands for election. One node again and again: it does not hear the others.",
                ),
                stacked(
                    "Replicas by role",
                    Count,
                    &[q("{{role}}", "sum by (role) (kvorum_shards{$on})")],
                    "All replicas of the nodes that were chosen.",
                ),
                lines(
                    "Entries known committed and not applied",
                    Count,
                    &[q("{{instance}}", "kvorum_replica_lag_entries_max{$on}")],
                    "Of the replica that lags most. It grows where a node is too slow, or was away.",
                )
                .bad_from(&[(10_000.0, Warning)]),
                lines(
                    "Replicas opened again",
                    Count,
                    &[q("{{instance}}", "kvorum_replica_restarts_total{$on}")],
                    "A replica whose actor failed is opened again from its log. The node's log says why.",
                ),
            ],
        },
        Row {
            title: "Between nodes",
            panels: &[
                lines(
                    "Connected",
                    YesNo,
                    &[q("{{instance}} to {{peer}}", "kvorum_peer_up{$on}")],
                    "Each node's view of each other one. No in one direction only is a firewall or an address.",
                ),
                lines(
                    "Round trip",
                    Seconds,
                    &[q("{{instance}} to {{peer}}", "kvorum_peer_rtt_seconds{$on}")],
                    "A write needs one to the nearer half. The election timeout must stay well above.",
                )
                .bad_from(&[(0.15, Warning)]),
                lines(
                    "Bytes",
                    BytesPerSecond,
                    &[q(
                        "{{instance}} {{direction}}",
                        "sum by (instance, direction) (rate(kvorum_peer_bytes_total{$on}[$span]))",
                    )],
                    "Entries, snapshots and forwarded requests, packets' heads included.",
                ),
                lines(
                    "Bytes that wait to be sent",
                    Bytes,
                    &[q("{{instance}} to {{peer}}, {{lane}}", "kvorum_peer_queue_bytes{$on}")],
                    "To a node that takes them too slowly, or is away.",
                ),
                lines(
                    "Requests passed on",
                    PerSecond,
                    &[q("{{result}}", "sum by (result) (rate(kvorum_forwards_total{$on}[$span]))")],
                    "returned: the other did not lead any more. unreachable and lost: look at the connections.",
                ),
                lines(
                    "A quorum's word for a read: 99 % are within",
                    Seconds,
                    &[q(
                        "{{instance}}",
                        "histogram_quantile(0.99, sum by (le, instance) (rate(kvorum_read_confirm_duration_seconds_bucket{$on}[$span])))",
                    )],
                    "Reads without a lease, and pages of scans, wait for it.",
                ),
            ],
        },
        Row {
            title: "Moves and repair",
            panels: &[
                lines(
                    "Snapshots",
                    Count,
                    &[q(
                        "{{direction}}, {{result}}",
                        "sum by (direction, result) (increase(kvorum_snapshots_total{$on}[$span]))",
                    )],
                    "Replicas that are made anew, or lagged too far. failed ones are tried again.",
                ),
                lines(
                    "Bytes of snapshots",
                    BytesPerSecond,
                    &[q("{{instance}}", "rate(kvorum_snapshot_sent_bytes_total{$on}[$span])")],
                    "CLUSTER REBALANCE RATE bounds it.",
                ),
                lines(
                    "Epoch of the ring map",
                    Count,
                    &[q("{{instance}}", "kvorum_ring_epoch{$on}")],
                    "A node whose line stays behind the others' does not hear the ring map's group.",
                ),
            ],
        },
    ],
};

const STORAGE: Dashboard = Dashboard {
    uid: "kvorum-storage",
    title: "Kvorum: Storage",
    about: "What takes room on disks and in memory, does compaction keep up, and is the data sound?",
    rows: &[
        Row {
            title: "Now",
            panels: &[
                figure(
                    "Disk is full",
                    YesNo,
                    &[q("{{instance}}", "kvorum_disk_full{$on}")],
                    &[(1.0, Critical)],
                    "Writes that take room are refused there. Reads and removals go on.",
                ),
                figure(
                    "Damage found",
                    Count,
                    &[q("{{instance}}", "kvorum_damage_total{$on}")],
                    &[(1.0, Critical)],
                    "Since the process started. The replica is replaced from its peers; the disk should be looked at.",
                ),
                figure(
                    "Keys",
                    Count,
                    &[q("{{instance}}", "kvorum_keys{$on}")],
                    &[],
                    "Of the replicas of each node. A key counts on each node that has a replica of it.",
                ),
                figure(
                    "Full at this pace in",
                    Seconds,
                    &[q(
                        "{{instance}}",
                        "clamp_max(clamp_min((kvorum_disk_free_bytes{$on} - kvorum_disk_headroom_bytes{$on}) / clamp_min(-deriv(kvorum_disk_free_bytes{$on}[1h]), 1), 0), 31536000)",
                    )],
                    &[],
                    "By the pace of the last hour, at most a year. Under a day: add disk or a node today.",
                ),
            ],
        },
        Row {
            title: "Disk",
            panels: &[
                lines(
                    "Free",
                    Bytes,
                    &[
                        q("{{instance}}", "kvorum_disk_free_bytes{$on}"),
                        q("{{instance}} headroom", "kvorum_disk_headroom_bytes{$on}"),
                    ],
                    "Where the two lines of a node meet, its disk counts as full.",
                ),
                lines(
                    "Logs",
                    Bytes,
                    &[q("{{instance}}", "kvorum_log_bytes{$on}"), q("{{instance}} lives", "kvorum_live_bytes{$on}")],
                    "What lies between the lines can be given back. Plan for three times what lives.",
                ),
                lines(
                    "Of the logs, garbage",
                    Share,
                    &[q("{{instance}}", "1 - kvorum_live_bytes{$on} / clamp_min(kvorum_log_bytes{$on}, 1)")],
                    "Small logs are mostly preallocated, so it begins near 1. If it stays high as they grow, compaction does not keep up: raise compaction.rate_mb.",
                ),
                lines(
                    "Compaction",
                    BytesPerSecond,
                    &[q("{{instance}} {{direction}}", "rate(kvorum_compaction_bytes_total{$on}[$span])")],
                    "What it reads and writes, up to compaction.rate_mb.",
                ),
                lines(
                    "Compactions",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_compactions_total{$on}[$span])")],
                    "How often one ends. None for hours under writes: look at compaction.rate_mb.",
                ),
                lines(
                    "Scrubbed",
                    BytesPerSecond,
                    &[q("{{instance}}", "rate(kvorum_scrub_bytes_total{$on}[$span])")],
                    "Cold data that is read again and verified. It begins an hour after a start.",
                ),
            ],
        },
        Row {
            title: "Memory",
            panels: &[
                lines(
                    "Indexes",
                    Bytes,
                    &[
                        q("{{instance}}", "kvorum_index_bytes{$on}"),
                        q("{{instance}} limit", "kvorum_index_limit_bytes{$on}"),
                    ],
                    "At the limit new keys are refused. Every key takes memory, whatever the length of its value.",
                ),
                lines(
                    "Memory per key",
                    Bytes,
                    &[q("{{instance}}", "kvorum_index_bytes{$on} / clamp_min(kvorum_keys{$on}, 1)")],
                    "With few keys it says little.",
                ),
                lines(
                    "Mapped pages in memory",
                    Bytes,
                    &[q("{{instance}}", "kvorum_mapped_resident_bytes{$on}")],
                    "They go when others need the room, and reads come from the disk then.",
                ),
            ],
        },
        Row {
            title: "Reads and keys",
            panels: &[
                lines(
                    "GETs answered out of memory with nobody asked",
                    Share,
                    &[q(
                        "{{instance}}",
                        r#"rate(kvorum_cache_requests_total{$on,result="hit"}[$span]) / ignoring (result) sum without (result) (rate(kvorum_cache_requests_total{$on}[$span]))"#,
                    )],
                    "Two thirds of three nodes are low if clients do not go to the leaders: the rest is forwarded.",
                ),
                stacked(
                    "GETs by way",
                    PerSecond,
                    &[q("{{path}}, {{tier}}", "sum by (path, tier) (rate(kvorum_reads_total{$on}[$span]))")],
                    "lease is the fast one. disk is a large value.",
                ),
                lines(
                    "Expired keys",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_expired_keys_total{$on}[$span])")],
                    "Each replica of a key counts it.",
                ),
            ],
        },
    ],
};

const NODE: Dashboard = Dashboard {
    uid: "kvorum-node",
    title: "Kvorum: Node",
    about: "How does one process do: its processor time, memory, descriptors, threads and clock?",
    rows: &[
        Row {
            title: "Now",
            panels: &[
                figure(
                    "Up for",
                    Seconds,
                    &[q("{{instance}}", "kvorum_uptime_seconds{$on}")],
                    &[],
                    "Since the process started.",
                ),
                figure(
                    "Starts in the last hour",
                    Count,
                    &[q("{{instance}}", r#"changes(process_start_time_seconds{job="kvorum",$on}[1h])"#)],
                    &[(1.0, Warning), (3.0, Critical)],
                    "A node that keeps starting ends for a reason: the last line on its stderr names it.",
                ),
                figure(
                    "Versions",
                    Count,
                    &[q("{{version}}, {{durability}}", "count by (version, durability) (kvorum_build_info{$on})")],
                    &[],
                    "Nodes of each program. Two versions are an upgrade under way.",
                ),
                figure(
                    "Parts that are not well",
                    Count,
                    &[q(
                        "{{component}}",
                        "count by (component) (kvorum_component_healthy{$on} == 0) or label_replace(vector(0), \"component\", \"none\", \"\", \"\")",
                    )],
                    &[(1.0, Warning)],
                    "/health of the node says more of each.",
                ),
                figure(
                    "Clock ahead of most",
                    Seconds,
                    &[q("{{instance}}", "kvorum_clock_ahead_seconds{$on}")],
                    &[(1.0, Warning), (2.0, Critical)],
                    "Past two seconds the node leads nothing. Below 0 it is behind.",
                ),
            ],
        },
        Row {
            title: "Process",
            panels: &[
                lines(
                    "Processors in use",
                    Count,
                    &[q("{{instance}}", "rate(process_cpu_seconds_total{$on}[$span])")],
                    "Processor seconds per second.",
                ),
                lines(
                    "Memory",
                    Bytes,
                    &[
                        q("{{instance}}", "process_resident_memory_bytes{$on}"),
                        q(
                            "{{instance}} without mapped pages",
                            "process_resident_memory_bytes{$on} - kvorum_mapped_resident_bytes{$on}",
                        ),
                    ],
                    "The second line is what can't be given back. If it grows without keys, report it.",
                ),
                lines(
                    "Descriptors in use",
                    Share,
                    &[q("{{instance}}", "process_open_fds{$on} / process_max_fds{$on}")],
                    "Near 1 no further connection is taken. Raise the limit (LimitNOFILE).",
                )
                .bad_from(&[(0.8, Warning)]),
                lines(
                    "Threads",
                    Count,
                    &[q("{{instance}}", "process_threads{$on}")],
                    "They are made at the start. A number that grows is a fault.",
                ),
                lines(
                    "A shard's turn: 99 % are within",
                    Seconds,
                    &[q(
                        "{{instance}}",
                        "histogram_quantile(0.99, sum by (le, instance) (rate(kvorum_turn_duration_seconds_bucket{$on}[$span])))",
                    )],
                    "How long a shard keeps its thread. Long turns make other shards wait: a machine without processor time to spare.",
                ),
                lines(
                    "A scrape takes",
                    Seconds,
                    &[q("{{instance}}", r#"scrape_duration_seconds{job="kvorum",$on}"#)],
                    "How fast the node answers Prometheus. It is a probe of the HTTP door as well.",
                ),
            ],
        },
        Row {
            title: "Doors",
            panels: &[
                lines(
                    "Connections",
                    Count,
                    &[q("{{instance}} {{door}}", "kvorum_connections{$on}")],
                    "Open ones, by protocol.",
                ),
                lines(
                    "Requests that wait for an answer",
                    Count,
                    &[q("{{instance}} {{door}}", "kvorum_requests_in_flight{$on}")],
                    "They wait for a quorum or another node. It grows before latency does.",
                ),
                lines(
                    "New connections",
                    PerSecond,
                    &[q(
                        "{{instance}} {{result}}",
                        "sum by (instance, result) (rate(kvorum_connections_total{$on}[$span]))",
                    )],
                    "Many new ones with few open: clients connect for each request. refused: connections_max, or a limit.",
                ),
                lines(
                    "HTTP by status",
                    PerSecond,
                    &[q("{{status}}", "sum by (status) (rate(kvorum_http_requests_total{$on}[$span]))")],
                    "5xx is the node's, 4xx the client's. 404 is a key that is not there.",
                ),
            ],
        },
    ],
};

const SECURITY: Dashboard = Dashboard {
    uid: "kvorum-security",
    title: "Kvorum: Security",
    about: "Who is turned away, how long certificates last, is the audit log written, and is everything sealed?",
    rows: &[
        Row {
            title: "Now",
            panels: &[
                figure(
                    "Certificate ends in",
                    Seconds,
                    &[q("{{instance}}", "kvorum_tls_not_after_seconds{$on} - time()")],
                    &[],
                    "The node's own. docs/SECURITY.md says how it is exchanged without a restart.",
                ),
                figure(
                    "Files of certificates refused",
                    YesNo,
                    &[q("{{instance}}", "kvorum_tls_files_refused{$on}")],
                    &[(1.0, Critical)],
                    "New files do not fit together, so those from before are in force. The node's log says why.",
                ),
                figure(
                    "Audit log fails",
                    YesNo,
                    &[q("{{instance}}", "kvorum_audit_failing{$on}")],
                    &[(1.0, Critical)],
                    "Changes by operators are refused until it can be written again.",
                ),
                figure(
                    "Data key in use",
                    Count,
                    &[q("{{instance}}", "kvorum_data_key{$on}")],
                    &[],
                    "0: what is stored is not sealed. The number rises with each rotation.",
                ),
            ],
        },
        Row {
            title: "Turned away",
            panels: &[
                lines(
                    "Logins that failed",
                    PerSecond,
                    &[q(
                        "{{instance}} {{door}}",
                        "sum by (instance, door) (rate(kvorum_login_failures_total{$on}[$span]))",
                    )],
                    "A wrong password in a program, or somebody who guesses. The audit log has the addresses.",
                )
                .bad_from(&[(5.0, Warning)]),
                lines(
                    "Requests without the right",
                    PerSecond,
                    &[q("{{instance}} {{door}}", "sum by (instance, door) (rate(kvorum_denials_total{$on}[$span]))")],
                    "Somebody asks for what his roles do not grant. ACL CHECK says what is missing.",
                ),
                lines(
                    "Connections refused",
                    PerSecond,
                    &[q("{{instance}} {{door}}", r#"rate(kvorum_connections_total{$on,result="refused"}[$span])"#)],
                    "connections_max, or the limit of an address.",
                ),
                lines(
                    "TLS handshakes that failed",
                    PerSecond,
                    &[q(
                        "{{door}} {{result}}",
                        r#"sum by (door, result) (rate(kvorum_tls_handshakes_total{$on,result!="done"}[$span]))"#,
                    )],
                    "certificate: of another authority, or denied. plain: a client that does not speak TLS. alert: a client that does not trust the node.",
                ),
            ],
        },
        Row {
            title: "Certificates, audit and sealing",
            panels: &[
                lines(
                    "TLS handshakes",
                    PerSecond,
                    &[q("{{door}}", r#"sum by (door) (rate(kvorum_tls_handshakes_total{$on,result="done"}[$span]))"#)],
                    "Each costs processor time. Clients should keep their connections.",
                ),
                lines(
                    "Files of certificates that changed",
                    Count,
                    &[q("{{instance}} {{result}}", "increase(kvorum_tls_reloads_total{$on}[$span])")],
                    "exchanged: they are in force.",
                ),
                lines(
                    "Events without a line in the audit log",
                    PerSecond,
                    &[q("{{instance}}", "rate(kvorum_audit_dropped_total{$on}[$span])")],
                    "They came too fast, or the disk took none. The log says how many.",
                ),
                lines(
                    "Plain, or sealed with an older key",
                    Bytes,
                    &[q("{{instance}}", "kvorum_old_key_bytes{$on}")],
                    "Falls to 0 after a rotation, as compaction seals anew.",
                ),
                lines(
                    "Data keys that are kept",
                    Count,
                    &[q("{{instance}}", "kvorum_data_keys{$on}")],
                    "Records may be sealed with each of them.",
                ),
            ],
        },
    ],
};
