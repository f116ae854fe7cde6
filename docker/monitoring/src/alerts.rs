//! The table of alerts. docs/TROUBLESHOOTING.md has a section for each.
//!
//! Long because it is one table, and each alert stands beside the cases that it is tested with.

use crate::alert::Severity::{Critical, Warning};
use crate::alert::{Alert, Case, Recorded, Silence};

/// The part of requests that failed through no fault of their client, over spans that alerts on the error budget compare.
pub const RECORDED: &[Recorded] = &[
    Recorded {
        name: "cluster:kvorum_errors:ratio5m",
        expr: r#"(sum by (cluster) (rate(kvorum_errors_total{code=~"Unavailable|Overloaded|DeadlineExceeded|DiskFull|Internal"}[5m])) or 0 * sum by (cluster) (rate(kvorum_requests_total[5m]))) / sum by (cluster) (rate(kvorum_requests_total[5m]))"#,
    },
    Recorded {
        name: "cluster:kvorum_errors:ratio30m",
        expr: r#"(sum by (cluster) (rate(kvorum_errors_total{code=~"Unavailable|Overloaded|DeadlineExceeded|DiskFull|Internal"}[30m])) or 0 * sum by (cluster) (rate(kvorum_requests_total[30m]))) / sum by (cluster) (rate(kvorum_requests_total[30m]))"#,
    },
    Recorded {
        name: "cluster:kvorum_errors:ratio1h",
        expr: r#"(sum by (cluster) (rate(kvorum_errors_total{code=~"Unavailable|Overloaded|DeadlineExceeded|DiskFull|Internal"}[1h])) or 0 * sum by (cluster) (rate(kvorum_requests_total[1h]))) / sum by (cluster) (rate(kvorum_requests_total[1h]))"#,
    },
    Recorded {
        name: "cluster:kvorum_errors:ratio6h",
        expr: r#"(sum by (cluster) (rate(kvorum_errors_total{code=~"Unavailable|Overloaded|DeadlineExceeded|DiskFull|Internal"}[6h])) or 0 * sum by (cluster) (rate(kvorum_requests_total[6h]))) / sum by (cluster) (rate(kvorum_requests_total[6h]))"#,
    },
];

/// All alerts, the gravest first within what they are about.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "KvorumNodeDown",
        severity: Critical,
        expr: r#"up{job="kvorum"} == 0"#,
        lasts: "2m",
        summary: "{instance} does not answer",
        description: "Prometheus has not reached the node for two minutes. The cluster serves on without it, and can lose less. See whether its process runs, and why it ended.",
        written: "",
        fires: Case {
            series: &[(r#"up{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1x2 0x10")],
            at: "5m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        // A node that its manager starts again is back sooner.
        silent: Silence {
            series: &[(r#"up{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1x2 0x1 1x10")],
            at: "4m",
        },
    },
    Alert {
        name: "KvorumQuorumAtRisk",
        severity: Critical,
        expr: r#"sum by (cluster) (up{job="kvorum"}) < floor(count by (cluster) (up{job="kvorum"}) / 2) + 1"#,
        lasts: "1m",
        summary: "Fewer than a majority of the nodes of {cluster} answer",
        description: "Only {value} of its nodes answer Prometheus. Shards without a majority of their replicas serve nothing. Bring nodes back before anything else.",
        written: "humanize",
        fires: Case {
            series: &[
                (r#"up{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1x10"),
                (r#"up{cluster="prod",instance="node-2:7420",job="kvorum"}"#, "1x2 0x10"),
                (r#"up{cluster="prod",instance="node-3:7420",job="kvorum"}"#, "1x2 0x10"),
            ],
            at: "5m",
            labels: &[("cluster", "prod")],
            value: "1",
        },
        silent: Silence {
            series: &[
                (r#"up{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1x10"),
                (r#"up{cluster="prod",instance="node-2:7420",job="kvorum"}"#, "1x10"),
                (r#"up{cluster="prod",instance="node-3:7420",job="kvorum"}"#, "0x10"),
            ],
            at: "5m",
        },
    },
    Alert {
        name: "KvorumShardWithoutLeader",
        severity: Critical,
        expr: "max by (cluster) (kvorum_shards_without_leader) > 0",
        lasts: "30s",
        summary: "{value} shards of {cluster} have no leader",
        description: "Their keys can be neither read nor written. If one node alone says so, that node is cut off from the others.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"kvorum_shards_without_leader{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 4x10",
            )],
            at: "4m",
            labels: &[("cluster", "prod")],
            value: "4",
        },
        // An election takes a second.
        silent: Silence {
            series: &[(
                r#"kvorum_shards_without_leader{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0 0 4 0x10",
            )],
            at: "2m",
        },
    },
    Alert {
        name: "KvorumUnderReplicated",
        severity: Warning,
        expr: "max by (cluster) (kvorum_shards_under_replicated) > 0",
        lasts: "10m",
        summary: "{value} shards of {cluster} lack a replica",
        description: "A node has been away for ten minutes, and what it holds is not made anew elsewhere. The next loss may stop these shards.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"kvorum_shards_under_replicated{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 16x20",
            )],
            at: "15m",
            labels: &[("cluster", "prod")],
            value: "16",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_shards_under_replicated{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 16x6 0x20",
            )],
            at: "8m",
        },
    },
    Alert {
        name: "KvorumReplicaFaulty",
        severity: Critical,
        expr: r#"sum by (cluster, instance) (kvorum_shards{role=~"faulty|amnesiac"}) > 0"#,
        lasts: "1m",
        summary: "{value} replicas on {instance} do not count any more",
        description: "They found damage in their files, or may have forgotten what they promised. They are replaced from their peers if the rest of their groups is a majority.",
        written: "humanize",
        fires: Case {
            series: &[
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="faulty"}"#, "0x2 1x10"),
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="leader"}"#, "5x12"),
            ],
            at: "5m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "1",
        },
        // A learner is a replica that is being made.
        silent: Silence {
            series: &[
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="faulty"}"#, "0x12"),
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="learner"}"#, "3x12"),
            ],
            at: "5m",
        },
    },
    Alert {
        name: "KvorumLeaderFlapping",
        severity: Warning,
        expr: "sum by (cluster) (increase(kvorum_leader_changes_total[15m])) / sum by (cluster) (kvorum_shards) > 4",
        lasts: "5m",
        summary: "Shards of {cluster} change their leaders again and again",
        description: "Each replica has come to know another leader more than four times in 15 minutes. Look for a node that hears others badly, or a machine without processor time.",
        written: "",
        fires: Case {
            series: &[
                (r#"kvorum_leader_changes_total{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0+20x40"),
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="leader"}"#, "5x40"),
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="follower"}"#, "11x40"),
            ],
            at: "30m",
            labels: &[("cluster", "prod")],
            value: "",
        },
        // A rolling restart of three nodes: three changes per replica.
        silent: Silence {
            series: &[
                (
                    r#"kvorum_leader_changes_total{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                    "0x5 16x5 32x5 48x30",
                ),
                (r#"kvorum_shards{cluster="prod",instance="node-1:7420",job="kvorum",role="follower"}"#, "16x45"),
            ],
            at: "16m",
        },
    },
    Alert {
        name: "KvorumErrorBudgetBurn",
        severity: Critical,
        expr: "cluster:kvorum_errors:ratio5m > 14.4 * 0.001 and cluster:kvorum_errors:ratio1h > 14.4 * 0.001",
        lasts: "2m",
        summary: "{value} of the requests to {cluster} fail",
        description: "At this pace a month's budget of 0.1 % is gone in two days. The Overview shows which errors they are.",
        written: "humanizePercentage",
        fires: Case {
            series: &[
                (
                    r#"kvorum_requests_total{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="get",outcome="ok"}"#,
                    "0+600x40",
                ),
                (
                    r#"kvorum_errors_total{cluster="prod",instance="node-1:7420",job="kvorum",code="Unavailable"}"#,
                    "0+60x40",
                ),
            ],
            at: "20m",
            labels: &[("cluster", "prod")],
            value: "10%",
        },
        // Ten bad minutes that are over.
        silent: Silence {
            series: &[
                (
                    r#"kvorum_requests_total{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="get",outcome="ok"}"#,
                    "0+600x60",
                ),
                (
                    r#"kvorum_errors_total{cluster="prod",instance="node-1:7420",job="kvorum",code="Unavailable"}"#,
                    "0+60x10 600x50",
                ),
            ],
            at: "30m",
        },
    },
    Alert {
        name: "KvorumErrorBudgetBurnSlow",
        severity: Warning,
        expr: "cluster:kvorum_errors:ratio30m > 6 * 0.001 and cluster:kvorum_errors:ratio6h > 6 * 0.001",
        lasts: "15m",
        summary: "{value} of the requests to {cluster} fail, for hours",
        description: "At this pace a month's budget of 0.1 % is gone in five days. The Overview shows which errors they are.",
        written: "humanizePercentage",
        fires: Case {
            series: &[
                (
                    r#"kvorum_requests_total{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="get",outcome="ok"}"#,
                    "0+600x90",
                ),
                (
                    r#"kvorum_errors_total{cluster="prod",instance="node-1:7420",job="kvorum",code="Unavailable"}"#,
                    "0+6x90",
                ),
            ],
            at: "80m",
            labels: &[("cluster", "prod")],
            value: "1%",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_requests_total{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="get",outcome="ok"}"#,
                    "0+600x90",
                ),
                (
                    r#"kvorum_errors_total{cluster="prod",instance="node-1:7420",job="kvorum",code="Unavailable"}"#,
                    "0+3x90",
                ),
            ],
            at: "80m",
        },
    },
    Alert {
        name: "KvorumReadLatency",
        severity: Warning,
        expr: r#"histogram_quantile(0.99, sum by (le, cluster, instance) (rate(kvorum_request_duration_seconds_bucket{operation="get",door!="peer"}[5m]))) > 0.05"#,
        lasts: "10m",
        summary: "One of a hundred GETs through {instance} takes {value} or more",
        description: "Reads under a lease take microseconds. Look at what the node waits for: forwarded reads, reads from the disk, or a machine without processor time.",
        written: "humanizeDuration",
        fires: Case {
            series: &[
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="0.065536"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="0.131072"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "130.4ms",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="0.016384"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="0.032768"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="http",operation="get",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
        },
    },
    Alert {
        name: "KvorumWriteLatency",
        severity: Warning,
        expr: r#"histogram_quantile(0.99, sum by (le, cluster, instance) (rate(kvorum_request_duration_seconds_bucket{operation="put",door!="peer"}[5m]))) > 0.25"#,
        lasts: "10m",
        summary: "One of a hundred PUTs through {instance} takes {value} or more",
        description: "The dashboard Write path says where the time goes: the queue, the sync, the quorum, or the applying.",
        written: "humanizeDuration",
        fires: Case {
            series: &[
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="0.262144"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="0.524288"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "521.7ms",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="0.065536"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="0.131072"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_request_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",door="binary",operation="put",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
        },
    },
    Alert {
        name: "KvorumSlowDisk",
        severity: Warning,
        expr: "histogram_quantile(0.99, sum by (le, cluster, instance) (rate(kvorum_journal_sync_duration_seconds_bucket[5m]))) > 0.1",
        lasts: "10m",
        summary: "One of a hundred syncs of {instance} takes {value} or more",
        description: "Every write that this node leads or follows waits for its disk. Look for other users of the disk, and at its health.",
        written: "humanizeDuration",
        fires: Case {
            series: &[
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.131072"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.262144"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "260.8ms",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.032768"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.065536"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
        },
    },
    Alert {
        name: "KvorumStallingDisk",
        severity: Critical,
        expr: "histogram_quantile(0.99, sum by (le, cluster, instance) (rate(kvorum_journal_sync_duration_seconds_bucket[5m]))) > 0.5",
        lasts: "5m",
        summary: "One of a hundred syncs of {instance} takes {value} or more",
        description: "A node whose sync takes over 500 ms hands over what it leads; over 10 s its process ends. Replace the disk, or move the node.",
        written: "humanizeDuration",
        fires: Case {
            series: &[
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.524288"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="1.048576"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "1.043s",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.131072"}"#,
                    "0x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="0.262144"}"#,
                    "0+60x30",
                ),
                (
                    r#"kvorum_journal_sync_duration_seconds_bucket{cluster="prod",instance="node-1:7420",job="kvorum",le="+Inf"}"#,
                    "0+60x30",
                ),
            ],
            at: "20m",
        },
    },
    Alert {
        name: "KvorumOverloaded",
        severity: Warning,
        expr: "sum by (cluster, instance) (rate(kvorum_overloaded_total[5m])) > 1",
        lasts: "5m",
        summary: "{instance} refuses {value} requests per second, as its queues are full",
        description: "More is sent than it can do. Slow the clients down, look for a hot key, or add a node.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"kvorum_overloaded_total{cluster="prod",instance="node-1:7420",job="kvorum",reason="shard_full"}"#,
                "0+120x30",
            )],
            at: "15m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "2",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_overloaded_total{cluster="prod",instance="node-1:7420",job="kvorum",reason="shard_full"}"#,
                "0+30x30",
            )],
            at: "15m",
        },
    },
    Alert {
        name: "KvorumQueueSaturated",
        severity: Warning,
        expr: "kvorum_queue_requests_max / 4096 > 0.8",
        lasts: "5m",
        summary: "A shard on {instance} has {value} of the requests that it takes",
        description: "It will refuse what comes next. If it is one shard only, one key is hot: kvorum-cli --hotkeys.",
        written: "humanizePercentage",
        fires: Case {
            series: &[(
                r#"kvorum_queue_requests_max{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 4000x20",
            )],
            at: "10m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "97.66%",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_queue_requests_max{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 4000x3 0x20",
            )],
            at: "6m",
        },
    },
    Alert {
        name: "KvorumDiskFillsSoon",
        severity: Warning,
        expr: "predict_linear(kvorum_disk_free_bytes[1h], 4 * 3600) < kvorum_disk_headroom_bytes and kvorum_disk_full == 0",
        lasts: "15m",
        summary: "The disk of {instance} is full within four hours",
        description: "At the pace of the last hour. Add a disk or a node, or find out what writes.",
        written: "",
        fires: Case {
            series: &[
                (
                    r#"kvorum_disk_free_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                    "100000000000-1000000000x90",
                ),
                (r#"kvorum_disk_headroom_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1000000000x90"),
                (r#"kvorum_disk_full{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x90"),
            ],
            at: "40m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_disk_free_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                    "100000000000-100000000x90",
                ),
                (r#"kvorum_disk_headroom_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1000000000x90"),
                (r#"kvorum_disk_full{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x90"),
            ],
            at: "40m",
        },
    },
    Alert {
        name: "KvorumDiskFull",
        severity: Critical,
        expr: "kvorum_disk_full == 1",
        lasts: "",
        summary: "The disk of {instance} is full",
        description: "The node refuses writes that take room, and hands over what it leads. Make room; it goes on by itself.",
        written: "",
        fires: Case {
            series: &[(r#"kvorum_disk_full{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x2 1x10")],
            at: "4m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        silent: Silence {
            series: &[
                (r#"kvorum_disk_full{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x10"),
                (r#"kvorum_disk_free_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "2000000000x10"),
                (r#"kvorum_disk_headroom_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1000000000x10"),
            ],
            at: "4m",
        },
    },
    Alert {
        name: "KvorumIndexMemory",
        severity: Warning,
        expr: "kvorum_index_bytes / kvorum_index_limit_bytes > 0.9",
        lasts: "10m",
        summary: "The indexes of {instance} take {value} of the memory that they may",
        description: "At the limit new keys are refused. Remove keys, raise memory.index_max_mb, or add a node.",
        written: "humanizePercentage",
        fires: Case {
            series: &[
                (r#"kvorum_index_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "950x30"),
                (r#"kvorum_index_limit_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1000x30"),
            ],
            at: "15m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "95%",
        },
        silent: Silence {
            series: &[
                (r#"kvorum_index_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "850x30"),
                (r#"kvorum_index_limit_bytes{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1000x30"),
            ],
            at: "15m",
        },
    },
    Alert {
        name: "KvorumReplicaLag",
        severity: Warning,
        expr: "kvorum_replica_lag_entries_max > 10000",
        lasts: "5m",
        summary: "A replica on {instance} is {value} entries behind",
        description: "It knows them committed and has not applied them. The node is slower than the others, or was away.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"kvorum_replica_lag_entries_max{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 20000x20",
            )],
            at: "10m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "20k",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_replica_lag_entries_max{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 20000x3 0x20",
            )],
            at: "6m",
        },
    },
    Alert {
        name: "KvorumPeerUnreachable",
        severity: Warning,
        expr: "kvorum_peer_up == 0",
        lasts: "2m",
        summary: "{instance} does not reach {peer}",
        description: "If {peer} runs, the peers' door (UDP) is blocked between the two, or an address is wrong.",
        written: "",
        fires: Case {
            series: &[(
                r#"kvorum_peer_up{cluster="prod",instance="node-1:7420",job="kvorum",peer="node-2"}"#,
                "1x2 0x10",
            )],
            at: "6m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum"), ("peer", "node-2")],
            value: "",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_peer_up{cluster="prod",instance="node-1:7420",job="kvorum",peer="node-2"}"#,
                "1x2 0x1 1x10",
            )],
            at: "4m",
        },
    },
    Alert {
        name: "KvorumPeerFar",
        severity: Warning,
        expr: "kvorum_peer_rtt_seconds > 0.15",
        lasts: "10m",
        summary: "A round trip from {instance} to {peer} takes {value}",
        description: "Writes get slower by it, and elections come closer. Look at the network between the two.",
        written: "humanizeDuration",
        fires: Case {
            series: &[(
                r#"kvorum_peer_rtt_seconds{cluster="prod",instance="node-1:7420",job="kvorum",peer="node-2"}"#,
                "0.2x20",
            )],
            at: "15m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum"), ("peer", "node-2")],
            value: "200ms",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_peer_rtt_seconds{cluster="prod",instance="node-1:7420",job="kvorum",peer="node-2"}"#,
                "0.02x20",
            )],
            at: "15m",
        },
    },
    Alert {
        name: "KvorumDamage",
        severity: Critical,
        expr: "increase(kvorum_damage_total[1h]) > 0",
        lasts: "",
        summary: "Damage was found in files of {instance}",
        description: "The replica is replaced from its peers, and no read returned damaged bytes. The disk should be looked at before it happens again.",
        written: "",
        fires: Case {
            series: &[(r#"kvorum_damage_total{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x5 1x10")],
            at: "10m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        // It was found before this hour.
        silent: Silence {
            series: &[(r#"kvorum_damage_total{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "1x15")],
            at: "10m",
        },
    },
    Alert {
        name: "KvorumRestarts",
        severity: Warning,
        expr: r#"changes(process_start_time_seconds{job="kvorum"}[1h]) > 2"#,
        lasts: "",
        summary: "The process of {instance} was started {value} times in an hour",
        description: "It ends, and something starts it again. The last line on its stderr and the exit code name the reason.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"process_start_time_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "1x5 2x5 3x5 4x5",
            )],
            at: "22m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "3",
        },
        silent: Silence {
            series: &[(
                r#"process_start_time_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "1x5 2x5 3x10",
            )],
            at: "20m",
        },
    },
    Alert {
        name: "KvorumCertificateExpires",
        severity: Warning,
        expr: "kvorum_tls_not_after_seconds - time() < 30 * 86400",
        lasts: "1h",
        summary: "The certificate of {instance} ends in {value}",
        description: "Without a valid one no peer and no client connects. It is exchanged without a restart.",
        written: "humanizeDuration",
        fires: Case {
            series: &[(
                r#"kvorum_tls_not_after_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "871200x180",
            )],
            at: "2h",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "10d 0h 0m 0s",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_tls_not_after_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "8640000x180",
            )],
            at: "2h",
        },
    },
    Alert {
        name: "KvorumCertificateRefused",
        severity: Warning,
        expr: "kvorum_tls_files_refused == 1",
        lasts: "5m",
        summary: "{instance} can't use its new files of certificates",
        description: "Those from before are in force. The node's log says what does not fit together.",
        written: "",
        fires: Case {
            series: &[(r#"kvorum_tls_files_refused{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x2 1x20")],
            at: "10m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_tls_files_refused{cluster="prod",instance="node-1:7420",job="kvorum"}"#,
                "0x2 1x3 0x20",
            )],
            at: "6m",
        },
    },
    Alert {
        name: "KvorumVersionSkew",
        severity: Warning,
        expr: "count by (cluster) (count by (cluster, version) (kvorum_build_info)) > 1",
        lasts: "4h",
        summary: "The nodes of {cluster} have run {value} versions for four hours",
        description: "An upgrade has stopped half-way. Go on with it, or take it back; then CLUSTER VERSION FINALIZE.",
        written: "humanize",
        fires: Case {
            series: &[
                (
                    r#"kvorum_build_info{cluster="prod",instance="node-1:7420",job="kvorum",version="0.1.0",durability="fsync"}"#,
                    "1x400",
                ),
                (
                    r#"kvorum_build_info{cluster="prod",instance="node-2:7420",job="kvorum",version="0.2.0",durability="fsync"}"#,
                    "1x400",
                ),
            ],
            at: "5h",
            labels: &[("cluster", "prod")],
            value: "2",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_build_info{cluster="prod",instance="node-1:7420",job="kvorum",version="0.1.0",durability="fsync"}"#,
                    "1x400",
                ),
                (
                    r#"kvorum_build_info{cluster="prod",instance="node-2:7420",job="kvorum",version="0.1.0",durability="fsync"}"#,
                    "1x400",
                ),
            ],
            at: "5h",
        },
    },
    Alert {
        name: "KvorumAuthFailures",
        severity: Warning,
        expr: "sum by (cluster, instance) (rate(kvorum_login_failures_total[5m])) > 5",
        lasts: "5m",
        summary: "{value} logins per second fail at {instance}",
        description: "A program has an old password, or somebody guesses. The audit log has the addresses and users.",
        written: "humanize",
        fires: Case {
            series: &[(
                r#"kvorum_login_failures_total{cluster="prod",instance="node-1:7420",job="kvorum",door="resp"}"#,
                "0+600x30",
            )],
            at: "15m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "10",
        },
        silent: Silence {
            series: &[(
                r#"kvorum_login_failures_total{cluster="prod",instance="node-1:7420",job="kvorum",door="resp"}"#,
                "0+60x30",
            )],
            at: "15m",
        },
    },
    Alert {
        name: "KvorumAuditFailing",
        severity: Critical,
        expr: "kvorum_audit_failing == 1",
        lasts: "1m",
        summary: "The audit log of {instance} can't be written",
        description: "Changes by operators are refused there; data goes on. Look at the disk and the permissions of audit.file.",
        written: "",
        fires: Case {
            series: &[(r#"kvorum_audit_failing{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x2 1x10")],
            at: "5m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "",
        },
        silent: Silence {
            series: &[(r#"kvorum_audit_failing{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0x12")],
            at: "5m",
        },
    },
    Alert {
        name: "KvorumClockOff",
        severity: Warning,
        expr: "abs(kvorum_clock_ahead_seconds) > 1",
        lasts: "2m",
        summary: "The clock of {instance} is off by {value}",
        description: "Past two seconds the node leads nothing. Set its clock right: NTP keeps clocks within milliseconds.",
        written: "humanizeDuration",
        fires: Case {
            series: &[(r#"kvorum_clock_ahead_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "-1.5x10")],
            at: "5m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420"), ("job", "kvorum")],
            value: "1.5s",
        },
        silent: Silence {
            series: &[(r#"kvorum_clock_ahead_seconds{cluster="prod",instance="node-1:7420",job="kvorum"}"#, "0.4x10")],
            at: "5m",
        },
    },
    Alert {
        name: "KvorumConnectionsRefused",
        severity: Warning,
        expr: r#"sum by (cluster, instance) (rate(kvorum_connections_total{result="refused"}[5m])) > 0"#,
        lasts: "5m",
        summary: "{instance} turns connections away",
        description: "It has as many as connections_max allows, or an address or user has as many as it may.",
        written: "",
        fires: Case {
            series: &[(
                r#"kvorum_connections_total{cluster="prod",instance="node-1:7420",job="kvorum",door="http",result="refused"}"#,
                "0+10x30",
            )],
            at: "15m",
            labels: &[("cluster", "prod"), ("instance", "node-1:7420")],
            value: "",
        },
        silent: Silence {
            series: &[
                (
                    r#"kvorum_connections_total{cluster="prod",instance="node-1:7420",job="kvorum",door="http",result="refused"}"#,
                    "7x30",
                ),
                (
                    r#"kvorum_connections_total{cluster="prod",instance="node-1:7420",job="kvorum",door="http",result="accepted"}"#,
                    "0+10x30",
                ),
            ],
            at: "15m",
        },
    },
];
